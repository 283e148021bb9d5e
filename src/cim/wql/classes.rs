//! Queries for classes: `SELECT * FROM META_CLASS WHERE …` (`ws-management.md` §8.1).

use std::sync::Arc;

use super::{BoundQuery, Expression, Projection, Select, SystemProperties, WqlError};
use crate::cim::{CimInstance, ClassDeclaration, ClassName, NamespaceSchema, Qualifier};

/// The class whose instances are the classes of a namespace.
const META_CLASS: ClassName = ClassName::from_static("META_CLASS");

/// A query for classes.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassQuery {
    /// The condition. What it can ask of a class are the system properties: `__CLASS`, `__SUPERCLASS`, `__DYNASTY`,
    /// `__DERIVATION`, and `__THIS` with `ISA`.
    pub filter: Option<Expression>,
}

impl ClassQuery {
    /// Checks the query against the namespace whose classes are asked for.
    ///
    /// # Errors
    /// [`WqlError`] when it asks for a property that classes do not have, when types or patterns do not fit, or when
    /// `ISA` names a class that the namespace does not have.
    pub fn bind(&self, namespace: &NamespaceSchema) -> Result<BoundClassQuery, WqlError> {
        if let Some(unknown) = self.filter.as_ref().and_then(|filter| unknown_class(filter, namespace)) {
            return Err(WqlError::UnknownClass(unknown.to_string()));
        }
        let meta = ClassDeclaration::new(
            META_CLASS,
            namespace.name().clone(),
            None,
            Vec::<Qualifier>::new(),
            Vec::new(),
            Vec::new(),
        );
        let select = Select { projection: Projection::All, class: META_CLASS, filter: self.filter.clone() };
        Ok(BoundClassQuery(select.bind(&Arc::new(meta))?))
    }
}

/// A query for classes that can be tried on them.
#[derive(Clone, Debug)]
pub struct BoundClassQuery(BoundQuery);

impl BoundClassQuery {
    /// Whether a class meets the condition. What an instance of it would answer to the system properties, the class
    /// answers itself.
    #[must_use]
    pub fn matches(&self, class: &Arc<ClassDeclaration>, system: &SystemProperties<'_>) -> bool {
        self.0.matches(&CimInstance::new(Arc::clone(class)), system)
    }
}

/// The first class behind `ISA` that a namespace does not have.
fn unknown_class<'e>(expression: &'e Expression, namespace: &NamespaceSchema) -> Option<&'e ClassName> {
    match expression {
        Expression::Or(items) | Expression::And(items) => items.iter().find_map(|item| unknown_class(item, namespace)),
        Expression::Not(inner) => unknown_class(inner, namespace),
        Expression::Isa { class, .. } => namespace.class(class.as_str()).is_none().then_some(class),
        Expression::Compare { .. } | Expression::Like { .. } | Expression::IsNull { .. } => None,
    }
}
