//! The text of an embedded instance, whatever form it has (`ws-management.md` §11.6).

use std::borrow::Cow;

use super::RawInstance;
use super::cimxml::{self, CimXmlError};
use super::mof::{self, Diagnostics};
use crate::xml::{Event, Reader, Writer, XmlError};

/// Why the text of an embedded instance was refused; a method answers it with its own return value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// Neither XML nor MOF.
    #[error("\"{0}\" is neither CIM-XML nor MOF")]
    UnknownForm(String),
    /// XML, but not an instance.
    #[error("not a CIM-XML instance: {0}")]
    CimXml(#[from] CimXmlError),
    /// It seemed to be escaped twice, but does not unescape.
    #[error("escaped twice, but not well: {0}")]
    Escaping(#[from] XmlError),
    /// MOF, but not an instance.
    #[error("not a MOF instance: {0}")]
    Mof(#[from] Diagnostics),
}

/// Reads the text of an embedded instance: CIM-XML or MOF. `None` stands for an empty text, which means the
/// defaults of the class.
///
/// A text that starts with `&lt;` was escaped once too often, as scripts around the `wsman` command line do;
/// it is unescaped once more.
///
/// # Errors
/// [`EmbeddedError`] says what is wrong.
pub fn parse(text: &str) -> Result<Option<RawInstance>, EmbeddedError> {
    let text = trim(text);
    let text = if text.starts_with("&lt;") { Cow::Owned(unescape(text)?) } else { Cow::Borrowed(text) };
    let text = trim(&text);
    if text.is_empty() {
        Ok(None)
    } else if text.starts_with('<') {
        Ok(Some(cimxml::decode_instance(text)?))
    } else if is_mof(text) {
        Ok(Some(mof::parse_instance(text)?))
    } else {
        Err(EmbeddedError::UnknownForm(text.chars().take(32).collect()))
    }
}

/// Takes white space, NULs and byte order marks off both ends: clients in C count the final NUL in, and those
/// in .NET hand over a whole file.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\0' | '\u{feff}'))
}

/// Whether the text starts as MOF does: a comment, a pragma, a qualifier list or `instance`.
fn is_mof(text: &str) -> bool {
    const KEYWORD: &str = "instance";
    let keyword = text.get(..KEYWORD.len()).is_some_and(|start| start.eq_ignore_ascii_case(KEYWORD))
        && !text.chars().nth(KEYWORD.len()).is_some_and(|c| c.is_alphanumeric() || c == '_');
    keyword || ["/*", "//", "#", "["].iter().any(|start| text.starts_with(start))
}

/// Resolves the entities of a text; a tag in it is an error.
fn unescape(text: &str) -> Result<String, XmlError> {
    let mut w = Writer::with_capacity(text.len() + 8);
    w.element("t", |w| w.raw(text));
    let xml = w.finish();
    let mut reader = Reader::new(&xml);
    match reader.next()? {
        Event::Start(_) => Ok(reader.text_content()?.into_owned()),
        _ => Ok(String::new()),
    }
}
