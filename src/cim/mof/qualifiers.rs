//! Qualifier declarations of a namespace and the rules by which qualifiers are inherited (DSP0004 §5.6.3).

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{FlavorItem, QualifierItem, QualifierUse, Scope};
use super::diagnostic::Problem;
use super::intern::Interner;
use super::lexer::shorten;
use super::typed::{Aliases, Typing};
use crate::cim::{CimType, CimValue, ClassName, Qualifier, QualifierFlavor, ValueMap};

/// A qualifier that may be used in the namespace.
#[derive(Debug)]
pub(super) struct QualifierDeclaration {
    name: ClassName,
    ty: CimType,
    is_array: bool,
    scopes: Vec<Scope>,
    flavor: QualifierFlavor,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct QualifierTable(HashMap<ClassName, QualifierDeclaration>);

impl QualifierTable {
    /// Takes a declaration in and checks its default.
    pub(super) fn declare(&mut self, item: &QualifierItem<'_>, interner: &mut Interner, problems: &mut Vec<Problem>) {
        if let Some(default) = &item.default {
            Typing { interner, aliases: &Aliases::new(), problems }.value(default, item.ty, item.is_array);
        }
        let declaration = QualifierDeclaration {
            name: ClassName::from(item.name.node),
            ty: item.ty,
            is_array: item.is_array,
            scopes: item.scopes.to_vec(),
            flavor: apply(item.flavor, QualifierFlavor::default()),
        };
        self.0.insert(declaration.name.clone(), declaration);
    }

    /// The qualifiers of an element: what it inherits, changed and extended by what it says itself.
    pub(super) fn merge(
        &self,
        inherited: &[Qualifier],
        uses: &[QualifierUse<'_>],
        place: &[Scope],
        interner: &mut Interner,
        problems: &mut Vec<Problem>,
    ) -> Arc<[Qualifier]> {
        let mut merged = inheritable(inherited);
        for (position, used) in uses.iter().enumerate() {
            if let Some(qualifier) =
                self.check(used, uses.get(..position).unwrap_or_default(), place, interner, problems)
            {
                match merged.iter_mut().find(|known| known.name == qualifier.name) {
                    Some(known) if !known.flavor.overridable && known.value != qualifier.value => {
                        problems.push(Problem::new(
                            used.name.span,
                            format!("qualifier `{}` has another value in the superclass", qualifier.name),
                            "its flavor is DisableOverride",
                        ));
                    }
                    Some(known) => {
                        let flavor = apply(used.flavor, known.flavor);
                        *known = Qualifier { flavor, ..qualifier };
                    }
                    None => merged.push(qualifier),
                }
            }
        }
        interner.qualifiers(merged)
    }

    fn check(
        &self,
        used: &QualifierUse<'_>,
        before: &[QualifierUse<'_>],
        place: &[Scope],
        interner: &mut Interner,
        problems: &mut Vec<Problem>,
    ) -> Option<Qualifier> {
        let name = used.name.node;
        let Some(declaration) = self.0.get(&ClassName::new(name)) else {
            let message = format!("qualifier `{}` is not declared", shorten(name));
            problems.push(Problem::new(used.name.span, message, ""));
            return None;
        };
        if before.iter().any(|other| other.name.node.eq_ignore_ascii_case(name)) {
            problems.push(Problem::new(used.name.span, format!("qualifier `{name}` stands here twice"), ""));
            return None;
        }
        if !declaration.scopes.iter().any(|scope| *scope == Scope::Any || place.contains(scope)) {
            let scopes: Vec<&str> = declaration.scopes.iter().map(|scope| scope.name()).collect();
            let here = place.last().map_or("", |scope| scope.name());
            let message = format!("qualifier `{name}` may not stand on a {here}");
            problems.push(Problem::new(used.name.span, message, format!("its scope is {}", scopes.join(", "))));
            return None;
        }
        let value = match &used.value {
            Some(value) => Typing { interner, aliases: &Aliases::new(), problems }.value(
                value,
                declaration.ty,
                declaration.is_array,
            ),
            None if declaration.ty == CimType::Boolean => CimValue::Boolean(true),
            None => CimValue::Null,
        };
        Some(Qualifier {
            name: declaration.name.clone(),
            ty: declaration.ty,
            value,
            flavor: apply(used.flavor, declaration.flavor),
            propagated: false,
        })
    }
}

/// What an element of a subclass has before it says anything itself.
pub(super) fn inheritable(qualifiers: &[Qualifier]) -> Vec<Qualifier> {
    let to_subclass = qualifiers.iter().filter(|qualifier| qualifier.flavor.to_subclass);
    to_subclass.map(|qualifier| Qualifier { propagated: true, ..qualifier.clone() }).collect()
}

fn apply(item: FlavorItem, base: QualifierFlavor) -> QualifierFlavor {
    QualifierFlavor {
        overridable: item.overridable.unwrap_or(base.overridable),
        to_subclass: item.to_subclass.unwrap_or(base.to_subclass),
        translatable: item.translatable.unwrap_or(base.translatable),
    }
}

/// A qualifier of a list by name.
pub(super) fn find<'q>(qualifiers: &'q [Qualifier], name: &str) -> Option<&'q CimValue> {
    qualifiers.iter().find(|qualifier| qualifier.name == name).map(|qualifier| &qualifier.value)
}

/// Whether a boolean qualifier is there and true.
pub(super) fn is_true(qualifiers: &[Qualifier], name: &str) -> bool {
    find(qualifiers, name) == Some(&CimValue::Boolean(true))
}

/// `ValueMap` and `Values` side by side (DSP0004 §5.6.3). `Values` alone counts from zero.
pub(super) fn value_map(
    qualifiers: &[Qualifier],
    uses: &[QualifierUse<'_>],
    interner: &mut Interner,
    problems: &mut Vec<Problem>,
) -> Option<ValueMap> {
    let list = |name: &str| {
        let items = find(qualifiers, name)?.as_array()?;
        Some(items.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Vec<_>>())
    };
    let (map, values) = (list("ValueMap"), list("Values"));
    let entries: Vec<(String, &str)> = match (map, values) {
        (None, None) => return None,
        (Some(map), None) => map.iter().map(|&entry| (entry.to_owned(), entry)).collect(),
        (None, Some(values)) => values.iter().enumerate().map(|(index, text)| (index.to_string(), *text)).collect(),
        (Some(map), Some(values)) => {
            if map.len() != values.len()
                && let Some(used) = uses.iter().find(|used| used.name.node.eq_ignore_ascii_case("Values"))
            {
                problems.push(Problem::new(
                    used.name.span,
                    format!("`Values` has {} members", values.len()),
                    format!("expected {}, one for each member of `ValueMap`", map.len()),
                ));
            }
            map.iter().map(|&entry| entry.to_owned()).zip(values).collect()
        }
    };
    let entries: Vec<_> = entries.iter().map(|(entry, text)| (interner.text(entry), interner.text(text))).collect();
    Some(interner.value_map(&entries))
}
