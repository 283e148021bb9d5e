//! Why a query was refused.

use crate::cim::ObjectPathError;

/// Why a query was refused; on the wire `n:CannotProcessFilter` (`ws-management.md` §8).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WqlError {
    /// The text does not follow the grammar.
    #[error("invalid query: expected {expected} but found {found} at character {position}")]
    Syntax {
        /// Where, counted in characters from one.
        position: usize,
        /// What could have stood there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// The text follows the grammar, but this server does not answer such queries.
    #[error("invalid query: {what} at character {position} is not supported")]
    NotSupported {
        /// Where, counted in characters from one.
        position: usize,
        /// What it is.
        what: &'static str,
    },
    /// Parentheses and `NOT` are nested beyond the limit.
    #[error("invalid query: conditions are nested more than {0} levels deep")]
    TooDeep(usize),
    /// More conditions than the limit.
    #[error("invalid query: there are more than {0} conditions")]
    TooManyConditions(usize),
    /// What stands in braces is no object path.
    #[error("invalid query: {error} at character {position}")]
    ObjectPath {
        /// Where the path starts, counted in characters from one.
        position: usize,
        /// What is wrong.
        error: ObjectPathError,
    },
    /// The class has no such property.
    #[error("invalid query: class {class} has no property {property}")]
    UnknownProperty {
        /// The class.
        class: String,
        /// The property.
        property: String,
    },
    /// A class that an embedded instance is to have does not exist.
    #[error("invalid query: there is no class {0}")]
    UnknownClass(String),
    /// A property is named with a class that the queried class is not derived from.
    #[error("invalid query: class {class} is not derived from {other}")]
    UnrelatedClass {
        /// The class of the query.
        class: String,
        /// The class in front of the property.
        other: String,
    },
    /// The sides of a comparison are of types that do not compare.
    #[error("invalid query: {left} does not compare with {right}")]
    TypeMismatch {
        /// What stands on one side.
        left: String,
        /// What stands on the other side.
        right: String,
    },
    /// An operator that the type does not have, such as `<` for booleans.
    #[error("invalid query: {operator} cannot be applied to {operand}")]
    OperatorMismatch {
        /// The operator.
        operator: &'static str,
        /// What it was applied to.
        operand: String,
    },
    /// A bracket in a LIKE pattern is not closed or has nothing in it.
    #[error("invalid query: the brackets in LIKE pattern \"{0}\" are malformed")]
    Pattern(String),
}
