//! [`ClassDeclaration`] to a `CLASS` element (`ws-management.md` §12).
//!
//! Unlike instance text, a class spells booleans `true` and `false`, and the qualifiers that Windows keeps
//! as flags go out under lower-case names, which is how its client looks for them.

use super::encode::{property_tag, write_value};
use super::reference::{numeric_text, write_namespace};
use crate::cim::{
    CimType, CimValue, ClassDeclaration, MethodDeclaration, ParameterDeclaration, PropertyDeclaration, Qualifier,
};
use crate::xml::Writer;

/// Boolean qualifiers that are flags for a Windows client.
const FLAGS: &[&str] = &[
    "abstract",
    "association",
    "expensive",
    "in",
    "indication",
    "key",
    "out",
    "read",
    "required",
    "static",
    "terminal",
];

/// What of a class is written; the options of a class retrieval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the request")]
pub struct ClassContent {
    /// Properties and methods that a superclass declared first; those the class overrides are among them.
    pub inherited_elements: bool,
    /// `QUALIFIER` elements.
    pub qualifiers: bool,
    /// The attribute `CLASSORIGIN`.
    pub class_origin: bool,
    /// The attribute `DERIVATION`: all superclasses, nearest first.
    pub derivation: bool,
}

/// The `CLASS` element of a class, in no namespace.
#[must_use]
pub fn encode_class(class: &ClassDeclaration, content: ClassContent) -> String {
    encode_class_into(String::with_capacity(4096), class, content)
}

/// Appends the `CLASS` element of a class.
#[must_use]
pub fn encode_class_into(out: String, class: &ClassDeclaration, content: ClassContent) -> String {
    let mut w = Writer::from_string(out);
    let derivation = class.ancestors().map(|class| class.name().as_str()).collect::<Vec<_>>().join(",");
    let mut attributes = vec![("NAME", class.name().as_str())];
    attributes.extend(class.superclass().map(|superclass| ("SUPERCLASS", superclass.name().as_str())));
    if content.derivation {
        attributes.push(("DERIVATION", &derivation));
    }
    w.element_with("CLASS", &attributes, |w| {
        write_qualifiers(w, class.qualifiers(), content);
        for property in class.properties() {
            if content.inherited_elements || property.class_origin == *class.name() {
                write_property(w, property, content);
            }
        }
        for method in class.methods() {
            if content.inherited_elements || method.class_origin == *class.name() {
                write_method(w, method, content);
            }
        }
    });
    w.finish()
}

fn write_qualifiers(w: &mut Writer, qualifiers: &[Qualifier], content: ClassContent) {
    if !content.qualifiers {
        return;
    }
    for qualifier in qualifiers {
        write_qualifier(w, qualifier);
    }
}

fn write_qualifier(w: &mut Writer, qualifier: &Qualifier) {
    let name = flag_name(qualifier).unwrap_or_else(|| qualifier.name.as_str());
    let mut attributes = vec![("NAME", name), ("TYPE", qualifier.ty.name())];
    if qualifier.propagated {
        attributes.push(("PROPAGATED", "true"));
    }
    if !qualifier.flavor.overridable {
        attributes.push(("OVERRIDABLE", "false"));
    }
    if !qualifier.flavor.to_subclass {
        attributes.push(("TOSUBCLASS", "false"));
    }
    if qualifier.flavor.translatable {
        attributes.push(("TRANSLATABLE", "true"));
    }
    w.element_with("QUALIFIER", &attributes, |w| write_class_value(w, qualifier.ty, &qualifier.value));
}

/// The lower-case name of a qualifier that is a flag.
fn flag_name(qualifier: &Qualifier) -> Option<&'static str> {
    let is_flag = matches!(qualifier.value, CimValue::Boolean(_));
    FLAGS.iter().copied().find(|flag| is_flag && qualifier.name == *flag)
}

/// The value of a qualifier or the default of a property.
fn write_class_value(w: &mut Writer, ty: CimType, value: &CimValue) {
    match value {
        CimValue::Boolean(flag) => w.text_element("VALUE", if *flag { "true" } else { "false" }),
        CimValue::Array(items) if ty == CimType::Boolean => {
            w.element("VALUE.ARRAY", |w| items.iter().for_each(|item| write_class_value(w, ty, item)));
        }
        other => write_value(w, ty, other),
    }
}

fn write_property(w: &mut Writer, property: &PropertyDeclaration, content: ClassContent) {
    let mut attributes = vec![("NAME", property.name.as_str())];
    if property.ty == CimType::Reference {
        attributes.extend(property.reference_class.as_ref().map(|class| ("REFERENCECLASS", class.as_str())));
    } else {
        attributes.push(("TYPE", property.ty.name()));
    }
    push_origin(&mut attributes, property.class_origin.as_str(), property.propagated, content);
    w.element_with(property_tag(property.ty, property.is_array), &attributes, |w| {
        write_qualifiers(w, &property.qualifiers, content);
        write_class_value(w, property.ty, &property.default);
    });
}

fn write_method(w: &mut Writer, method: &MethodDeclaration, content: ClassContent) {
    let mut attributes = vec![("NAME", method.name.as_str()), ("TYPE", method.return_type.name())];
    push_origin(&mut attributes, method.class_origin.as_str(), method.propagated, content);
    w.element_with("METHOD", &attributes, |w| {
        write_qualifiers(w, &method.qualifiers, content);
        for parameter in &method.parameters {
            write_parameter(w, parameter, content);
        }
    });
}

fn push_origin<'a>(attributes: &mut Vec<(&'a str, &'a str)>, origin: &'a str, propagated: bool, content: ClassContent) {
    if content.class_origin {
        attributes.push(("CLASSORIGIN", origin));
    }
    if propagated {
        attributes.push(("PROPAGATED", "true"));
    }
}

fn write_parameter(w: &mut Writer, parameter: &ParameterDeclaration, content: ClassContent) {
    let mut attributes = vec![("NAME", parameter.name.as_str())];
    let tag = match (parameter.ty, parameter.is_array) {
        (CimType::Reference, false) => "PARAMETER.REFERENCE",
        (CimType::Reference, true) => "PARAMETER.REFARRAY",
        (_, false) => "PARAMETER",
        (_, true) => "PARAMETER.ARRAY",
    };
    if parameter.ty == CimType::Reference {
        attributes.extend(parameter.reference_class.as_ref().map(|class| ("REFERENCECLASS", class.as_str())));
    } else {
        attributes.push(("TYPE", parameter.ty.name()));
    }
    w.element_with(tag, &attributes, |w| {
        if !content.qualifiers {
            return;
        }
        // A declaration may leave the direction to its default, the client wants it said.
        for (flag, name) in [(parameter.is_in, "in"), (parameter.is_out, "out")] {
            if flag {
                w.element_with("QUALIFIER", &[("NAME", name), ("TYPE", "boolean")], |w| {
                    w.text_element("VALUE", "true");
                });
            }
        }
        let others = parameter.qualifiers.iter().filter(|qualifier| qualifier.name != "In" && qualifier.name != "Out");
        others.for_each(|qualifier| write_qualifier(w, qualifier));
    });
}

/// The `CLASSPATH` element of a class: host, namespace and name.
pub fn write_class_path(w: &mut Writer, host: &str, class: &ClassDeclaration) {
    w.element("CLASSPATH", |w| {
        w.element("NAMESPACEPATH", |w| {
            w.element("HOST", |w| numeric_text(w, host));
            write_namespace(w, class.namespace());
        });
        w.empty_with("CLASSNAME", &[("NAME", class.name().as_str())]);
    });
}
