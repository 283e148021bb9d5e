//! Why a text is not XML that this server reads.

/// An error with its place in the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {position}")]
pub struct XmlError {
    /// What is wrong.
    pub kind: XmlErrorKind,
    /// Offset in bytes from the start of the text.
    pub position: usize,
}

/// What is wrong with the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlErrorKind {
    /// Not well-formed.
    #[error("malformed XML: {0}")]
    Malformed(String),
    /// The text ends inside an element.
    #[error("malformed XML: the text ends too early")]
    UnexpectedEnd,
    /// SOAP 1.2 forbids document types; nothing is ever expanded.
    #[error("a document type declaration is not allowed")]
    DocumentType,
    /// SOAP 1.2 forbids processing instructions.
    #[error("a processing instruction is not allowed")]
    ProcessingInstruction,
    /// More levels than the limit.
    #[error("elements are nested deeper than {0} levels")]
    TooDeep(usize),
    /// More attributes on one element than the limit.
    #[error("an element has more than {0} attributes")]
    TooManyAttributes(usize),
    /// A prefix that nothing declares.
    #[error("namespace prefix \"{0}\" is not declared")]
    UndeclaredPrefix(String),
    /// An entity other than the five of XML.
    #[error("entity \"{0}\" is not defined")]
    UnknownEntity(String),
    /// A character that XML 1.0 does not allow.
    #[error("character U+{0:04X} is not allowed in XML")]
    InvalidCharacter(u32),
    /// Text and elements stand side by side where one of them is expected.
    #[error("element content where text is expected")]
    UnexpectedElement,
}
