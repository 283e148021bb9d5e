//! `instance of` declarations, and the text form of one embedded instance.

use std::collections::HashSet;
use std::sync::Arc;

use bumpalo::Bump;

use super::ast::{InstanceItem, Spanned, Value};
use super::diagnostic::{Diagnostics, Problem};
use super::intern::Interner;
use super::lexer::shorten;
use super::parser::parse_instance_item;
use super::resolve::{Classes, report};
use super::sources::{NamespaceDraft, ParsedFile};
use super::typed::{Aliases, Typing};
use crate::cim::{CimInstance, CimType, CimValue, ClassName, PropertyName, RawInstance, RawProperty, RawValue};

/// Reads an embedded instance from MOF text, as `GetObjectText_` writes it (`ws-management.md` §11.5).
///
/// No class is needed: numbers come out as decimal text, strings without their escapes, and
/// [`NamespaceSchema::instantiate`](crate::cim::NamespaceSchema::instantiate) gives them their types.
/// System properties (`__PATH` …) are left out; the `;` at the end may be missing.
///
/// # Errors
/// [`Diagnostics`] with everything that is wrong, located in a source named `instance`.
pub fn parse_instance(text: &str) -> Result<RawInstance, Diagnostics> {
    let fail = |problems: &[Problem]| {
        let mut diagnostics = Diagnostics::default();
        for problem in problems {
            diagnostics.push("instance", text, problem);
        }
        diagnostics
    };
    let room = Bump::new();
    let item = parse_instance_item(text, &room).map_err(|problems| fail(&problems))?;
    raw_instance(&item).map_err(|problem| fail(&[problem]))
}

fn raw_instance(item: &InstanceItem<'_>) -> Result<RawInstance, Problem> {
    let mut properties = Vec::with_capacity(item.properties.len());
    // The text may come from a client, so a long list must not cost its square.
    let mut seen = HashSet::new();
    for (name, value) in item.properties.iter().filter(|(name, _)| !name.node.starts_with("__")) {
        if !seen.insert(PropertyName::new(name.node)) {
            return Err(Problem::new(name.span, format!("property `{}` is set twice", shorten(name.node)), ""));
        }
        properties.push(RawProperty { name: PropertyName::new(name.node), value: raw_value(value)? });
    }
    Ok(RawInstance { class_name: ClassName::new(item.class.node), properties })
}

fn raw_value(value: &Spanned<Value<'_>>) -> Result<RawValue, Problem> {
    Ok(match &value.node {
        Value::Null => RawValue::Null,
        Value::Boolean(value) => RawValue::Text(if *value { "TRUE" } else { "FALSE" }.to_owned()),
        Value::Integer(number) => RawValue::Text(number.to_string()),
        Value::Real(text) => RawValue::Text((*text).to_owned()),
        Value::Char(unit) => RawValue::Text(unit.to_string()),
        Value::Text(text) => RawValue::Text(text.clone().into_owned()),
        Value::Array(items) => RawValue::Array(items.iter().map(raw_value).collect::<Result<_, _>>()?),
        Value::Instance(item) => RawValue::Instance(Box::new(raw_instance(item)?)),
        Value::Alias(name) => {
            let message = format!("alias ${} has no meaning in the text of one instance", shorten(name));
            return Err(Problem::new(value.span, message, "expected an object path in quotes"));
        }
    })
}

/// An instance a MOF source declares.
#[derive(Clone, Debug)]
pub struct DeclaredInstance {
    /// The namespace it belongs to.
    pub namespace: String,
    /// The instance.
    pub instance: CimInstance,
}

/// Types the instances of a namespace.
pub(super) fn instances<'m>(
    draft: &NamespaceDraft<'m>,
    classes: &Classes,
    files: &[ParsedFile<'m>],
    interner: &mut Interner,
    diagnostics: &mut Diagnostics,
) -> Vec<DeclaredInstance> {
    let mut aliases = Aliases::new();
    // An alias may be used before its declaration: the first round only learns the paths.
    for (_, item) in &draft.instances {
        if let Some(alias) = &item.alias {
            let mut ignored = Vec::new();
            if let Some(instance) = instance(item, classes, interner, &aliases, &mut ignored) {
                aliases.insert(alias.node, instance.path(&draft.name));
            }
        }
    }
    let mut declared = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (file, item) in &draft.instances {
        let mut problems = Vec::new();
        if let Some(alias) = &item.alias {
            if seen.contains(&alias.node) {
                let message = format!("alias ${} is declared twice", shorten(alias.node));
                problems.push(Problem::new(alias.span, message, ""));
            }
            seen.push(alias.node);
        }
        let instance = instance(item, classes, interner, &aliases, &mut problems);
        report(&problems, *file, files, diagnostics);
        declared.extend(instance.map(|instance| DeclaredInstance { namespace: draft.name.clone(), instance }));
    }
    declared
}

fn instance(
    item: &InstanceItem<'_>,
    classes: &Classes,
    interner: &mut Interner,
    aliases: &Aliases<'_>,
    problems: &mut Vec<Problem>,
) -> Option<CimInstance> {
    let Some(class) = classes.get(&ClassName::new(item.class.node)) else {
        let message = format!("class `{}` is not declared", shorten(item.class.node));
        problems.push(Problem::new(item.class.span, message, ""));
        return None;
    };
    if class.is_abstract() {
        problems.push(Problem::new(
            item.class.span,
            format!("class `{}` is abstract", class.name()),
            "it has no instances",
        ));
        return None;
    }
    let mut instance = CimInstance::new(Arc::clone(class));
    for (position, (name, value)) in item.properties.iter().enumerate() {
        let Some(property) = class.property(name.node) else {
            let message = format!("class `{}` has no property `{}`", class.name(), shorten(name.node));
            problems.push(Problem::new(name.span, message, ""));
            continue;
        };
        if item.properties.iter().take(position).any(|(other, _)| other.node.eq_ignore_ascii_case(name.node)) {
            problems.push(Problem::new(name.span, format!("property `{}` is set twice", property.name), ""));
            continue;
        }
        let typed = match &value.node {
            Value::Instance(embedded) if property.ty == CimType::String && !property.is_array => {
                self::instance(embedded, classes, interner, aliases, problems)
                    .map_or(CimValue::Null, |embedded| CimValue::Instance(Arc::new(embedded)))
            }
            _ => Typing { interner, aliases, problems }.value(value, property.ty, property.is_array),
        };
        if let Err(error) = instance.set(name.node, typed) {
            problems.push(Problem::new(value.span, error.message(), ""));
        }
    }
    Some(instance)
}
