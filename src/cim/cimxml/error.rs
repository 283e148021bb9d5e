//! Why a text is not a CIM-XML instance.

use crate::cim::ObjectPathError;
use crate::xml::XmlError;

/// Why a text is not a CIM-XML instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CimXmlError {
    /// Not XML, or beyond a limit of the reader.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The root is no element that can hold an instance.
    #[error("element {0} cannot hold a CIM-XML instance")]
    UnexpectedRoot(String),
    /// An element stands where the grammar has no place for it, or a second time.
    #[error("element {child} is not allowed here in {parent}")]
    UnexpectedElement {
        /// The element.
        child: String,
        /// The element around it.
        parent: String,
    },
    /// An element is not there.
    #[error("{parent} has no {child}")]
    MissingElement {
        /// The element that is missing.
        child: &'static str,
        /// The element around it.
        parent: String,
    },
    /// An attribute is not there.
    #[error("{element} has no attribute {attribute}")]
    MissingAttribute {
        /// The element.
        element: String,
        /// The attribute that is missing.
        attribute: &'static str,
    },
    /// A name is no CIM name (DSP0004 §5.1).
    #[error("\"{name}\" in {element} is not a CIM name")]
    InvalidName {
        /// The element.
        element: String,
        /// The name, cut to a readable length.
        name: String,
    },
    /// A property is given twice.
    #[error("property {0} is there twice")]
    DuplicateProperty(String),
    /// All wrappers are there but none holds an instance.
    #[error("there is no INSTANCE")]
    NoInstance,
    /// A scalar parameter takes one instance.
    #[error("there is more than one INSTANCE")]
    SeveralInstances,
    /// Instances are embedded in instances beyond the limit.
    #[error("instances are embedded more than {0} levels deep")]
    EmbeddedTooDeep(usize),
    /// The text of a reference is no object path.
    #[error("property {property}: {error}")]
    ObjectPath {
        /// The property.
        property: String,
        /// What is wrong.
        error: ObjectPathError,
    },
}

impl CimXmlError {
    pub(super) fn unexpected(child: &str, parent: &str) -> Self {
        Self::UnexpectedElement { child: child.to_owned(), parent: parent.to_owned() }
    }
}
