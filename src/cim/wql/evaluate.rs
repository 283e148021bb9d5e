//! Whether an instance meets a bound query.

use std::borrow::Cow;
use std::sync::Arc;

use super::bind::{BoundQuery, Source, Test};
use super::scalar::Scalar;
use super::{Comparison, SystemProperty};
use crate::cim::{CimInstance, CimValue, ClassName, embedded, normalize_namespace};

/// What an instance does not know of itself.
#[derive(Clone, Copy, Debug)]
pub struct SystemProperties<'a> {
    /// `__SERVER`: the name of the host.
    pub server: &'a str,
    /// `__NAMESPACE`: the namespace the query runs in.
    pub namespace: &'a str,
}

impl BoundQuery {
    /// Whether an instance meets the condition.
    ///
    /// The instance is of the bound class or of one derived from it. The logic has three values: a comparison with
    /// a property that has no value is neither true nor false, NOT leaves it so, and only what is true is met. So
    /// `NOT (Level = 1)` does not find instances without a level; `IS NULL` does.
    #[must_use]
    pub fn matches(&self, instance: &CimInstance, system: &SystemProperties<'_>) -> bool {
        let evaluation = Evaluation { instance, system, exact: Arc::ptr_eq(&self.class, instance.class()) };
        self.test.as_ref().is_none_or(|test| evaluation.test(test) == Some(true))
    }
}

#[derive(Clone, Copy)]
struct Evaluation<'a> {
    instance: &'a CimInstance,
    system: &'a SystemProperties<'a>,
    /// Whether the instance is of the bound class itself, so that positions hold.
    exact: bool,
}

impl<'a> Evaluation<'a> {
    fn test(self, test: &'a Test) -> Option<bool> {
        match test {
            Test::Or(items) => any(items.iter().map(|item| self.test(item))),
            Test::And(items) => any(items.iter().map(|item| self.test(item).map(|met| !met))).map(|met| !met),
            Test::Not(inner) => self.test(inner).map(|met| !met),
            Test::Compare { left, comparison, right } => self.compare(left, *comparison, right),
            Test::Like { source, pattern, negated } => match source {
                Source::System(SystemProperty::Derivation) => {
                    any(self.instance.class().ancestors().map(|class| Some(pattern.matches(class.name().as_str()))))
                }
                _ => self.text(source).map(|text| pattern.matches(&text)),
            }
            .map(|met| met != *negated),
            Test::IsNull { source, negated } => Some(self.is_null(source) != *negated),
            Test::Isa { source, class } => self.is_a(source, class),
        }
    }

    fn compare(self, left: &'a Source, comparison: Comparison, right: &'a Source) -> Option<bool> {
        match (left, right) {
            (Source::System(SystemProperty::Derivation), other) => self.compare_derivation(comparison, other, false),
            (other, Source::System(SystemProperty::Derivation)) => self.compare_derivation(comparison, other, true),
            _ => self.scalar(left)?.compare(comparison, &self.scalar(right)?),
        }
    }

    /// Compares each superclass; the comparison holds when it holds for one of them.
    fn compare_derivation(self, comparison: Comparison, other: &'a Source, swapped: bool) -> Option<bool> {
        let other = self.scalar(other)?;
        any(self.instance.class().ancestors().map(|class| {
            let name = Scalar::Text(Cow::Borrowed(class.name().as_str()));
            if swapped { other.compare(comparison, &name) } else { name.compare(comparison, &other) }
        }))
    }

    fn value(self, index: usize, name: &str) -> &'a CimValue {
        if self.exact { self.instance.value(index) } else { self.instance.get(name) }
    }

    /// The evaluation of what is inside an embedded instance; none when there is no instance.
    fn inside(self, index: usize, name: &str) -> Option<Self> {
        match self.value(index, name) {
            CimValue::Instance(instance) => Some(Self { instance, exact: false, ..self }),
            _ => None,
        }
    }

    fn scalar(self, source: &'a Source) -> Option<Scalar<'a>> {
        match source {
            Source::Embedded { index, name, inner } => self.inside(*index, name.as_str())?.scalar(inner),
            Source::Property { index, name } => Scalar::of(self.value(*index, name.as_str())),
            Source::Constant(constant) => Some(constant.borrow()),
            Source::System(SystemProperty::Path | SystemProperty::RelativePath) => {
                Some(Scalar::Path(Cow::Owned(self.instance.path(self.system.namespace))))
            }
            Source::System(system) => self.system_text(*system).map(Scalar::Text),
        }
    }

    fn system_text(self, system: SystemProperty) -> Option<Cow<'a, str>> {
        let class = self.instance.class();
        Some(match system {
            SystemProperty::Class => Cow::Borrowed(class.name().as_str()),
            SystemProperty::Dynasty => Cow::Borrowed(class.ancestors().last().unwrap_or(class).name().as_str()),
            SystemProperty::Superclass => Cow::Borrowed(class.superclass()?.name().as_str()),
            SystemProperty::Namespace => normalize_namespace(self.system.namespace),
            SystemProperty::Server => Cow::Borrowed(self.system.server),
            SystemProperty::Path => {
                Cow::Owned(self.instance.path(self.system.namespace).to_wmi_text(self.system.server))
            }
            SystemProperty::RelativePath => Cow::Owned(self.instance.path(self.system.namespace).to_relative_text()),
            SystemProperty::Derivation | SystemProperty::This => return None,
        })
    }

    /// The text that LIKE looks at.
    fn text(self, source: &'a Source) -> Option<Cow<'a, str>> {
        if let Source::Embedded { index, name, inner } = source {
            return self.inside(*index, name.as_str())?.text(inner);
        }
        if let Source::System(system) = source {
            return self.system_text(*system);
        }
        match self.scalar(source)? {
            Scalar::Text(text) => Some(text),
            Scalar::Path(path) => Some(Cow::Owned(path.to_wmi_text(path.host().unwrap_or(self.system.server)))),
            Scalar::DateTime(value) => Some(Cow::Owned(value.to_cim_text())),
            Scalar::Integer(_) | Scalar::Real(_) | Scalar::Boolean(_) => None,
        }
    }

    fn is_null(self, source: &'a Source) -> bool {
        match source {
            Source::Embedded { index, name, inner } => {
                self.inside(*index, name.as_str()).is_none_or(|inside| inside.is_null(inner))
            }
            Source::Property { index, name } => self.value(*index, name.as_str()).is_null(),
            Source::System(SystemProperty::Derivation | SystemProperty::Superclass) => {
                self.instance.class().superclass().is_none()
            }
            Source::System(_) | Source::Constant(_) => false,
        }
    }

    /// Whether an object is of a class. An embedded object that is kept as text shows its own class only.
    fn is_a(self, source: &'a Source, class: &ClassName) -> Option<bool> {
        match source {
            Source::System(_) => Some(self.instance.class().is_a(class.as_str())),
            Source::Embedded { .. } | Source::Constant(_) => None,
            Source::Property { index, name } => match self.value(*index, name.as_str()) {
                CimValue::Instance(instance) => Some(instance.class().is_a(class.as_str())),
                CimValue::RawInstance(instance) => Some(instance.class_name == *class),
                CimValue::String(text) => Some(embedded::parse(text).ok()??.class_name == *class),
                _ => None,
            },
        }
    }
}

/// Three-valued OR: true wins, then unknown.
fn any(items: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut result = Some(false);
    for item in items {
        match item {
            Some(true) => return Some(true),
            Some(false) => {}
            None => result = None,
        }
    }
    result
}
