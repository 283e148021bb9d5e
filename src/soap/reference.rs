//! Endpoint references and selector sets, as they come on the wire.

use std::borrow::Cow;

use crate::xml::{Element, Event, Ns, Reader, XmlError};

/// Deepest nesting of references inside selectors (`ws-management.md` §3.3 rule 6).
const MAX_NESTING: usize = 8;
/// Most selectors at one level (`ws-management.md` §3.3 rule 9).
const MAX_SELECTORS: usize = 64;

/// Why a selector set or a reference cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The text is not well-formed.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// A selector without Name.
    #[error("a selector has no Name attribute")]
    SelectorWithoutName,
    /// A selector that holds text and elements, or an element that is no reference.
    #[error("selector \"{0}\" holds neither text nor one endpoint reference")]
    MixedSelector(String),
    /// More selectors than the limit.
    #[error("a selector set has more than {MAX_SELECTORS} selectors")]
    TooManySelectors,
    /// References nested deeper than the limit.
    #[error("endpoint references are nested deeper than {MAX_NESTING} levels")]
    NestedTooDeep,
}

/// The selectors of a message or of a reference, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectorSet<'a> {
    /// The selectors; names may repeat, which the reader of the message judges.
    pub selectors: Vec<Selector<'a>>,
}

/// A selector: name and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector<'a> {
    /// `@Name`
    pub name: Cow<'a, str>,
    /// The content.
    pub value: SelectorValue<'a>,
}

/// The content of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorValue<'a> {
    /// Simple text, white space kept.
    Text(Cow<'a, str>),
    /// A reference, for keys that are references.
    Reference(Box<EndpointReference<'a>>),
}

/// An endpoint reference: where, which resource, which instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointReference<'a> {
    /// `a:Address`, trimmed; not compared with anything.
    pub address: Option<Cow<'a, str>>,
    /// `w:ResourceURI`, trimmed.
    pub resource_uri: Option<Cow<'a, str>>,
    /// `w:SelectorSet`.
    pub selectors: SelectorSet<'a>,
}

impl<'a> SelectorSet<'a> {
    /// Reads the content of a `w:SelectorSet` whose start was just read, its end included.
    ///
    /// # Errors
    /// [`ReferenceError`]; after an error that is not about XML the rest of the element has been skipped
    /// only as far as it was read.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, ReferenceError> {
        Self::read_nested(reader, 0)
    }

    fn read_nested(reader: &mut Reader<'a>, depth: usize) -> Result<Self, ReferenceError> {
        let mut set = Self::default();
        while let Some(child) = reader.next_child()? {
            if !child.is(Ns::Wsman, "Selector") {
                reader.skip()?;
                continue;
            }
            if set.selectors.len() >= MAX_SELECTORS {
                return Err(ReferenceError::TooManySelectors);
            }
            let name = child
                .attribute(Ns::None, "Name")
                .or_else(|| child.attribute(Ns::Wsman, "Name"))
                .ok_or(ReferenceError::SelectorWithoutName)?;
            let name = Cow::Owned(name.to_owned());
            let value = read_value(reader, &name, depth)?;
            set.selectors.push(Selector { name, value });
        }
        Ok(set)
    }

    /// The value of the first selector of that name, in any case, when it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.selectors.iter().find_map(|selector| match &selector.value {
            SelectorValue::Text(text) if selector.name.eq_ignore_ascii_case(name) => Some(text.as_ref()),
            _ => None,
        })
    }
}

fn read_value<'a>(reader: &mut Reader<'a>, name: &str, depth: usize) -> Result<SelectorValue<'a>, ReferenceError> {
    let mixed = || ReferenceError::MixedSelector(name.to_owned());
    let mut text: Cow<'a, str> = Cow::Borrowed("");
    loop {
        match reader.next()? {
            Event::Text(piece) if text.is_empty() => text = piece,
            Event::Text(piece) => text.to_mut().push_str(&piece),
            Event::End => return Ok(SelectorValue::Text(text)),
            Event::Start(element) => {
                if !text.trim().is_empty() || !element.is(Ns::Addressing, "EndpointReference") {
                    return Err(mixed());
                }
                let reference = EndpointReference::read_nested(reader, depth + 1)?;
                return match reader.next_child() {
                    Ok(None) => Ok(SelectorValue::Reference(Box::new(reference))),
                    _ => Err(mixed()),
                };
            }
            Event::Eof => return Err(mixed()),
        }
    }
}

impl<'a> EndpointReference<'a> {
    /// Reads the children of an element that holds a reference, its end included: form 1 (directly),
    /// form 2 (wrapped in `a:EndpointReference`) and form 4 (`a:ReferenceProperties`) of
    /// `ws-management.md` §7.3.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, ReferenceError> {
        Self::read_nested(reader, 0)
    }

    /// Whether an element is one a reference begins with.
    #[must_use]
    pub fn begins_with(element: &Element<'_>) -> bool {
        element.name().ns == Ns::Addressing
            && matches!(
                element.local(),
                "Address" | "EndpointReference" | "ReferenceParameters" | "ReferenceProperties"
            )
    }

    fn read_nested(reader: &mut Reader<'a>, depth: usize) -> Result<Self, ReferenceError> {
        if depth > MAX_NESTING {
            return Err(ReferenceError::NestedTooDeep);
        }
        let mut reference = Self::default();
        while let Some(child) = reader.next_child()? {
            reference.read_child(reader, &child, depth)?;
        }
        Ok(reference)
    }

    /// Reads one child of the element that holds the reference.
    pub(super) fn read_child(
        &mut self,
        reader: &mut Reader<'a>,
        child: &Element<'a>,
        depth: usize,
    ) -> Result<(), ReferenceError> {
        match (child.name().ns, child.local()) {
            (Ns::Addressing, "EndpointReference") => *self = Self::read_nested(reader, depth + 1)?,
            (Ns::Addressing, "Address") => self.address = Some(trimmed(reader.text_content()?)),
            (Ns::Addressing, "ReferenceParameters" | "ReferenceProperties") => {
                while let Some(parameter) = reader.next_child()? {
                    match (parameter.name().ns, parameter.local()) {
                        (Ns::Wsman, "ResourceURI") => self.resource_uri = Some(trimmed(reader.text_content()?)),
                        (Ns::Wsman, "SelectorSet") => {
                            self.selectors = SelectorSet::read_nested(reader, depth)?;
                        }
                        _ => reader.skip()?,
                    }
                }
            }
            _ => reader.skip()?,
        }
        Ok(())
    }
}

/// Trims XML white space without copying what is borrowed.
pub(super) fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}
