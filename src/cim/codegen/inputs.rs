//! Typed inputs of methods.

use std::collections::{BTreeMap, HashSet};

use super::generate::line;
use super::names::{camel_case, snake_case, type_name_of_class};
use crate::cim::{CimType, ParameterDeclaration, Schema};

/// The input parameters of a method: Rust field, Rust type and CIM name of each.
type Signature = Vec<(String, String, String)>;

/// Adds a struct for each different input. Methods of one name that take the same share one.
pub(super) fn inputs(out: &mut String, schema: &Schema) {
    // Method → signature → the names of the classes that declare it so.
    let mut methods: BTreeMap<&str, BTreeMap<Signature, Vec<&str>>> = BTreeMap::new();
    for class in schema.namespaces().flat_map(|namespace| namespace.classes()) {
        for method in class.methods().iter().filter(|method| !method.propagated) {
            let signature: Signature =
                method.parameters.iter().filter(|parameter| parameter.is_in).map(field).collect();
            if !signature.is_empty() {
                let classes = methods.entry(method.name.as_str()).or_default().entry(signature).or_default();
                if !classes.contains(&class.name().as_str()) {
                    classes.push(class.name().as_str());
                }
            }
        }
    }
    let mut used: HashSet<String> = HashSet::new();
    for (method, signatures) in methods {
        let is_single = signatures.len() == 1;
        for (signature, mut classes) in signatures {
            classes.sort_unstable();
            let first = classes.first().copied().unwrap_or_default();
            // The shortest prefix that is free: none, the class without its schema, the whole class.
            let short = if is_single { String::new() } else { type_name_of_class(first) };
            let name = [short, camel_case(first), format!("Other{}", camel_case(first))]
                .iter()
                .map(|prefix| format!("{prefix}{}Input", camel_case(method)))
                .find(|name| !used.contains(name))
                .unwrap_or_default();
            input(out, &name, method, &signature, &classes);
            used.insert(name);
        }
    }
}

fn field(parameter: &ParameterDeclaration) -> (String, String, String) {
    let name = parameter.name.as_str();
    let scalar = match parameter.ty {
        _ if parameter.embedded_class.is_some() => None,
        CimType::Boolean => Some("bool".to_owned()),
        CimType::Real32 => Some("f32".to_owned()),
        CimType::Real64 => Some("f64".to_owned()),
        CimType::Char16 => Some("u16".to_owned()),
        CimType::String => Some("SmolStr".to_owned()),
        CimType::DateTime => Some("CimDateTime".to_owned()),
        CimType::Reference => Some("Arc<ObjectPath>".to_owned()),
        integer => Some(integer.name().replace("uint", "u").replace("sint", "i")),
    };
    let ty = match scalar {
        None => "CimValue".to_owned(),
        Some(scalar) if parameter.is_array => format!("Option<Vec<{scalar}>>"),
        Some(scalar) => format!("Option<{scalar}>"),
    };
    (snake_case(name), ty, name.to_owned())
}

fn input(out: &mut String, name: &str, method: &str, signature: &Signature, classes: &[&str]) {
    let classes: Vec<String> = classes.iter().map(|class| format!("`{class}`")).collect();
    line(out, format_args!("\n/// The input of `{method}` of {}.", classes.join(", ")));
    out.push_str("#[derive(Clone, Debug, Default, PartialEq)]\n");
    line(out, format_args!("pub struct {name} {{"));
    for (field, ty, cim_name) in signature {
        let embedded = if ty == "CimValue" { ", an embedded instance as it came" } else { "" };
        line(out, format_args!("    /// `{cim_name}`{embedded}\n    pub {field}: {ty},"));
    }
    line(out, format_args!("}}\n\nimpl {name} {{\n    /// Takes the input out of the checked arguments."));
    line(
        out,
        format_args!(
            "    #[must_use]\n    pub fn from_arguments(mut arguments: MethodArguments) -> Self {{\n        Self {{"
        ),
    );
    for (field, ty, cim_name) in signature {
        let value = format!("arguments.take({cim_name:?})");
        let value = if ty == "CimValue" { value } else { format!("argument({value})") };
        line(out, format_args!("            {field}: {value},"));
    }
    out.push_str("        }\n    }\n}\n");
}
