//! The writer: appends to one buffer, closes what it opened, escapes in one place.

use super::escape::{escape_attribute_into, escape_text_into};

/// An append-only XML writer.
///
/// Element names are given with their prefix (`"w:Selector"`); the caller declares the prefixes.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
}

impl Writer {
    /// A writer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { out: String::with_capacity(capacity) }
    }

    /// A writer that appends to a text.
    #[must_use]
    pub const fn from_string(out: String) -> Self {
        Self { out }
    }

    /// The text written so far.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.out
    }

    /// How many bytes were written so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Takes back everything after `length` bytes, a value [`len`](Self::len) gave between elements.
    pub fn truncate(&mut self, length: usize) {
        self.out.truncate(length);
    }

    /// The finished text.
    #[must_use]
    pub fn finish(self) -> String {
        self.out
    }

    /// `<tag>…</tag>`
    pub fn element(&mut self, tag: &str, content: impl FnOnce(&mut Self)) {
        self.element_with(tag, &[], content);
    }

    /// `<tag a="b">…</tag>`
    pub fn element_with(&mut self, tag: &str, attributes: &[(&str, &str)], content: impl FnOnce(&mut Self)) {
        self.start_with(tag, attributes);
        content(self);
        self.end(tag);
    }

    /// `<tag>text</tag>`
    pub fn text_element(&mut self, tag: &str, text: &str) {
        self.start(tag);
        self.text(text);
        self.end(tag);
    }

    /// `<tag/>`
    pub fn empty(&mut self, tag: &str) {
        self.empty_with(tag, &[]);
    }

    /// `<tag a="b"/>`
    pub fn empty_with(&mut self, tag: &str, attributes: &[(&str, &str)]) {
        self.open(tag, attributes);
        self.out.push_str("/>");
    }

    /// `<tag>`; the caller writes the end.
    pub fn start(&mut self, tag: &str) {
        self.start_with(tag, &[]);
    }

    /// `<tag a="b">`; the caller writes the end.
    pub fn start_with(&mut self, tag: &str, attributes: &[(&str, &str)]) {
        self.open(tag, attributes);
        self.out.push('>');
    }

    /// `</tag>`
    pub fn end(&mut self, tag: &str) {
        self.out.push_str("</");
        self.out.push_str(tag);
        self.out.push('>');
    }

    /// Escaped text.
    pub fn text(&mut self, text: &str) {
        escape_text_into(&mut self.out, text);
    }

    /// XML that another writer made.
    pub fn raw(&mut self, xml: &str) {
        self.out.push_str(xml);
    }

    fn open(&mut self, tag: &str, attributes: &[(&str, &str)]) {
        self.out.push('<');
        self.out.push_str(tag);
        for (name, value) in attributes {
            self.out.push(' ');
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape_attribute_into(&mut self.out, value);
            self.out.push('"');
        }
    }
}
