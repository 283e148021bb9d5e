//! A part of a document that can be read on its own.

use std::sync::Arc;

use super::{Element, Event, Ns, Reader, ReaderOptions, XmlError, XmlErrorKind};

/// An element as a slice of its document, with the namespace declarations that were in scope.
#[derive(Clone, Debug)]
pub struct Fragment<'a> {
    text: &'a str,
    bindings: Arc<[(&'a str, Ns<'a>)]>,
    options: ReaderOptions,
}

impl<'a> Fragment<'a> {
    pub(super) const fn new(text: &'a str, bindings: Arc<[(&'a str, Ns<'a>)]>, options: ReaderOptions) -> Self {
        Self { text, bindings, options }
    }

    /// The text of the element, tags included.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// A reader that has just read the start tag of the element, and the element.
    ///
    /// # Errors
    /// [`XmlError`]; a fragment made by [`Reader::fragment`] was read once and is well-formed.
    pub fn open(&self) -> Result<(Reader<'a>, Element<'a>), XmlError> {
        let mut reader = Reader::in_scope(self.text, self.options, &self.bindings);
        match reader.next()? {
            Event::Start(element) => Ok((reader, element)),
            _ => Err(reader.error(XmlErrorKind::Malformed("no element".to_owned()))),
        }
    }

    /// The declarations in scope, for copying the element somewhere else. Outer ones come first; a
    /// prefix may be there twice, then the last one counts.
    #[must_use]
    pub fn bindings(&self) -> &[(&'a str, Ns<'a>)] {
        &self.bindings
    }
}
