//! The pull reader: quick-xml's events with namespaces resolved, text merged and limits enforced.

use std::borrow::Cow;
use std::sync::Arc;

use quick_xml::XmlVersion;
use quick_xml::events::attributes::Attributes;
use quick_xml::events::{BytesRef, Event as RawEvent};
use quick_xml::name::QName;

use super::{Fragment, Name, Ns, XmlError, XmlErrorKind};

/// Limits and leniencies of a [`Reader`].
#[derive(Clone, Copy, Debug)]
pub struct ReaderOptions {
    /// Most levels of elements.
    pub max_depth: usize,
    /// Most attributes of one element.
    pub max_attributes: usize,
    /// Skip a document type declaration without an internal subset instead of refusing it; for
    /// CIM-XML files that WMI tools wrote (`ws-management.md` §11.3), never for SOAP.
    pub skip_document_type: bool,
    /// Replace characters that XML forbids by `?` instead of refusing them; for embedded CIM-XML of
    /// OMI, which writes `&#1;` (`ws-management.md` §11.7), never for SOAP.
    pub replace_invalid_characters: bool,
}

impl Default for ReaderOptions {
    /// The limits of `ws-management.md` §4 step 3.
    fn default() -> Self {
        Self { max_depth: 64, max_attributes: 100, skip_document_type: false, replace_invalid_characters: false }
    }
}

/// What comes next in the text. Comments are skipped.
#[derive(Debug)]
pub enum Event<'a> {
    /// The start of an element.
    Start(Element<'a>),
    /// The end of the element that was started last.
    End,
    /// Text and CDATA sections up to the next tag, entities resolved.
    Text(Cow<'a, str>),
    /// The end of the document.
    Eof,
}

/// A start tag.
#[derive(Clone, Debug)]
pub struct Element<'a> {
    name: Name<'a>,
    attributes: Vec<(Name<'a>, Cow<'a, str>)>,
    /// Where the `<` of the start tag stands.
    start: usize,
    empty: bool,
}

impl<'a> Element<'a> {
    /// The resolved name.
    #[must_use]
    pub const fn name(&self) -> Name<'a> {
        self.name
    }

    /// The local name.
    #[must_use]
    pub const fn local(&self) -> &'a str {
        self.name.local
    }

    /// Whether it is this name.
    #[must_use]
    pub fn is(&self, ns: Ns<'_>, local: &str) -> bool {
        self.name.is(ns, local)
    }

    /// The value of an attribute; `Ns::None` is an attribute without prefix.
    #[must_use]
    pub fn attribute(&self, ns: Ns<'_>, local: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name.is(ns, local)).map(|(_, value)| value.as_ref())
    }

    /// All attributes except namespace declarations.
    pub fn attributes(&self) -> impl Iterator<Item = (Name<'a>, &str)> {
        self.attributes.iter().map(|(name, value)| (*name, value.as_ref()))
    }

    /// Whether an attribute is present and means true (`true`, `1`).
    #[must_use]
    pub fn flag(&self, ns: Ns<'_>, local: &str) -> bool {
        self.attribute(ns, local).is_some_and(|value| matches!(value.trim(), "true" | "1"))
    }

    /// Whether the element is `xsi:nil`. omicli binds `xsi` to the XML Schema namespace
    /// (`clients.md` part 2), so both count.
    #[must_use]
    pub fn is_nil(&self) -> bool {
        self.flag(Ns::Xsi, "nil") || self.flag(Ns::XmlSchema, "nil")
    }

    /// The value of `xsi:type`, under either namespace (see [`is_nil`](Self::is_nil)).
    #[must_use]
    pub fn xsi_type(&self) -> Option<&str> {
        self.attribute(Ns::Xsi, "type").or_else(|| self.attribute(Ns::XmlSchema, "type"))
    }
}

/// Namespace declarations in scope, innermost last.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope<'a> {
    pub(super) bindings: Vec<(&'a str, Ns<'a>)>,
}

impl<'a> Scope<'a> {
    fn resolve(&self, prefix: &str) -> Option<Ns<'a>> {
        match self.bindings.iter().rev().find(|(bound, _)| *bound == prefix) {
            // `xmlns:p=""` is not allowed in XML 1.0 namespaces.
            Some((_, Ns::None)) if !prefix.is_empty() => None,
            Some((_, ns)) => Some(*ns),
            None if prefix.is_empty() => Some(Ns::None),
            None if prefix == "xml" => Some(Ns::Xml),
            None => None,
        }
    }
}

/// A pull reader over a text.
#[derive(Debug)]
pub struct Reader<'a> {
    inner: quick_xml::Reader<&'a [u8]>,
    text: &'a str,
    options: ReaderOptions,
    scope: Scope<'a>,
    /// For each open element, how many bindings were in scope before it.
    open: Vec<usize>,
    /// A tag that was met while text was merged.
    pending: Option<Pending<'a>>,
    /// The start tag read last was empty (`<a/>`): its end comes next.
    end_of_empty: bool,
    /// The text is a fragment: another reader has read all of it and found it well-formed.
    checked: bool,
}

#[derive(Debug)]
enum Pending<'a> {
    Start(Element<'a>),
    End,
    Eof,
}

impl<'a> Reader<'a> {
    /// A reader with the limits for SOAP.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self::with_options(text, ReaderOptions::default())
    }

    /// A reader with limits of its own.
    #[must_use]
    pub fn with_options(text: &'a str, options: ReaderOptions) -> Self {
        // quick-xml skips a byte-order mark without counting it, which would shift every slice taken by position.
        let text = text.trim_start_matches('\u{feff}');
        Self {
            inner: quick_xml::Reader::from_str(text),
            text,
            options,
            scope: Scope::default(),
            open: Vec::with_capacity(8),
            pending: None,
            end_of_empty: false,
            checked: false,
        }
    }

    pub(super) fn in_scope(text: &'a str, options: ReaderOptions, bindings: &[(&'a str, Ns<'a>)]) -> Self {
        let mut reader = Self::with_options(text, options);
        reader.scope.bindings.extend_from_slice(bindings);
        reader.checked = true;
        reader
    }

    /// The next event.
    ///
    /// # Errors
    /// [`XmlError`] for what is not well-formed, forbidden or beyond a limit.
    #[expect(clippy::should_implement_trait, reason = "a pull parser is no iterator: its errors are final")]
    pub fn next(&mut self) -> Result<Event<'a>, XmlError> {
        if std::mem::take(&mut self.end_of_empty) {
            self.close();
            return Ok(Event::End);
        }
        let mut merged: Option<Cow<'a, str>> = None;
        loop {
            let tag = match self.pending.take() {
                Some(pending) => pending,
                None => match self.raw()? {
                    Ok(tag) => tag,
                    Err(text) => {
                        match &mut merged {
                            None => merged = Some(text),
                            Some(start) => start.to_mut().push_str(&text),
                        }
                        continue;
                    }
                },
            };
            if let Some(text) = merged.take().filter(|text| !text.is_empty()) {
                // A start tag that ended the text has been opened already.
                let outside = self.open.len() == usize::from(matches!(tag, Pending::Start(_)));
                if !outside {
                    self.pending = Some(tag);
                    return Ok(Event::Text(text));
                }
                if !text.trim_start_matches('\u{feff}').trim().is_empty() {
                    return Err(self.error(XmlErrorKind::Malformed("text outside the root element".to_owned())));
                }
            }
            return Ok(match tag {
                Pending::Start(element) => {
                    self.end_of_empty = element.empty;
                    Event::Start(element)
                }
                Pending::End => {
                    self.close();
                    Event::End
                }
                Pending::Eof => Event::Eof,
            });
        }
    }

    /// The text of the element that was started last, up to and including its end.
    ///
    /// # Errors
    /// [`XmlErrorKind::UnexpectedElement`] when there is an element inside.
    pub fn text_content(&mut self) -> Result<Cow<'a, str>, XmlError> {
        let mut content = Cow::Borrowed("");
        loop {
            match self.next()? {
                Event::Text(text) if content.is_empty() => content = text,
                Event::Text(text) => content.to_mut().push_str(&text),
                Event::End => return Ok(content),
                Event::Start(_) => return Err(self.error(XmlErrorKind::UnexpectedElement)),
                Event::Eof => return Err(self.error(XmlErrorKind::UnexpectedEnd)),
            }
        }
    }

    /// Skips to the next child element of the element that was started last, or past its end.
    ///
    /// White space between elements is skipped.
    ///
    /// # Errors
    /// [`XmlErrorKind::Malformed`] when other text stands between the children.
    pub fn next_child(&mut self) -> Result<Option<Element<'a>>, XmlError> {
        loop {
            match self.next()? {
                Event::Start(element) => return Ok(Some(element)),
                Event::End => return Ok(None),
                Event::Text(text) if text.trim().is_empty() => {}
                Event::Text(_) => {
                    return Err(self.error(XmlErrorKind::Malformed("text between elements".to_owned())));
                }
                Event::Eof => return Err(self.error(XmlErrorKind::UnexpectedEnd)),
            }
        }
    }

    /// Skips the rest of the element that was started last, its end included.
    ///
    /// # Errors
    /// [`XmlError`] for whatever is wrong inside.
    pub fn skip(&mut self) -> Result<(), XmlError> {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next()? {
                Event::Start(_) => depth += 1,
                Event::End => depth -= 1,
                Event::Text(_) => {}
                Event::Eof => return Err(self.error(XmlErrorKind::UnexpectedEnd)),
            }
        }
        Ok(())
    }

    /// Skips the rest of `element`, which was started last, and gives it as a slice of the text that
    /// can be read again with the declarations around it in scope.
    ///
    /// # Errors
    /// [`XmlError`] for whatever is wrong inside.
    pub fn fragment(&mut self, element: &Element<'a>) -> Result<Fragment<'a>, XmlError> {
        let outer = self.open.last().copied().unwrap_or_default();
        let bindings: Arc<[_]> = self.scope.bindings.get(..outer).unwrap_or_default().into();
        if self.checked {
            self.skip_checked(element)?;
        } else {
            self.skip()?;
        }
        let text = self.text.get(element.start..self.position()).unwrap_or_default();
        Ok(Fragment::new(text, bindings, self.options))
    }

    /// Skips the rest of an element of which everything was read and judged before.
    fn skip_checked(&mut self, element: &Element<'a>) -> Result<(), XmlError> {
        if !std::mem::take(&mut self.end_of_empty) {
            let tag = self.text.get(element.start..).and_then(|text| text.strip_prefix('<')).unwrap_or_default();
            let end = tag.find(|c: char| c.is_ascii_whitespace() || matches!(c, '>' | '/')).unwrap_or(tag.len());
            let name = QName(tag.get(..end).unwrap_or_default());
            self.inner.read_to_end(name).map_err(|error| self.error(XmlErrorKind::Malformed(error.to_string())))?;
        }
        self.close();
        Ok(())
    }

    /// An error at the current place.
    #[must_use]
    pub fn error(&self, kind: XmlErrorKind) -> XmlError {
        XmlError { kind, position: self.position() }
    }

    fn position(&self) -> usize {
        usize::try_from(self.inner.buffer_position()).unwrap_or(self.text.len())
    }

    fn close(&mut self) {
        if let Some(outer) = self.open.pop() {
            self.scope.bindings.truncate(outer);
        }
    }

    /// One event of quick-xml: a tag, or a piece of text.
    fn raw(&mut self) -> Result<Result<Pending<'a>, Cow<'a, str>>, XmlError> {
        let before = self.position();
        let event = match self.inner.read_event() {
            Ok(event) => event,
            Err(error) => {
                let position = usize::try_from(self.inner.error_position()).unwrap_or(before);
                return Err(XmlError { kind: XmlErrorKind::Malformed(error.to_string()), position });
            }
        };
        Ok(match event {
            RawEvent::Start(_) => Ok(Pending::Start(self.start(before, false)?)),
            RawEvent::Empty(_) => Ok(Pending::Start(self.start(before, true)?)),
            RawEvent::End(_) => Ok(Pending::End),
            RawEvent::Text(text) => Err(self.check_text(text.into_inner())?),
            RawEvent::CData(text) => Err(self.check_text(text.into_inner())?),
            RawEvent::GeneralRef(reference) => Err(self.reference(&reference)?),
            RawEvent::Comment(_) => Err(Cow::Borrowed("")),
            RawEvent::Decl(_) if before == 0 => Err(Cow::Borrowed("")),
            RawEvent::Decl(_) => return Err(self.error(XmlErrorKind::Malformed("misplaced declaration".to_owned()))),
            RawEvent::PI(_) => return Err(self.error(XmlErrorKind::ProcessingInstruction)),
            RawEvent::DocType(doctype) => {
                if !self.options.skip_document_type || doctype.contains('[') {
                    return Err(self.error(XmlErrorKind::DocumentType));
                }
                Err(Cow::Borrowed(""))
            }
            RawEvent::Eof if self.open.is_empty() => Ok(Pending::Eof),
            RawEvent::Eof => return Err(self.error(XmlErrorKind::UnexpectedEnd)),
        })
    }

    /// Reads the start tag that begins at `start` and ends at the current position.
    fn start(&mut self, start: usize, empty: bool) -> Result<Element<'a>, XmlError> {
        if self.open.len() >= self.options.max_depth {
            return Err(self.error(XmlErrorKind::TooDeep(self.options.max_depth)));
        }
        let tag = self.text.get(start..self.position()).unwrap_or_default();
        let content = tag.strip_prefix('<').unwrap_or(tag);
        let content = content.strip_suffix(if empty { "/>" } else { ">" }).unwrap_or(content);
        let name_end = content.find(|c: char| c.is_ascii_whitespace()).unwrap_or(content.len());
        let name = content.get(..name_end).unwrap_or_default();
        self.open.push(self.scope.bindings.len());
        let attributes = if name_end == content.len() { Vec::new() } else { self.attributes(content, name_end)? };
        let name = self.resolve(name, true)?;
        Ok(Element { name, attributes, start, empty })
    }

    /// Takes the namespace declarations into scope and resolves the other attributes.
    fn attributes(&mut self, content: &'a str, name_end: usize) -> Result<Vec<(Name<'a>, Cow<'a, str>)>, XmlError> {
        let mut plain: Vec<(&'a str, Cow<'a, str>)> = Vec::new();
        let mut count = 0_usize;
        for attribute in Attributes::new(content, name_end) {
            let attribute = attribute.map_err(|error| self.error(XmlErrorKind::Malformed(error.to_string())))?;
            count += 1;
            if count > self.options.max_attributes {
                return Err(self.error(XmlErrorKind::TooManyAttributes(self.options.max_attributes)));
            }
            let key: &'a str = attribute.key.0;
            if attribute.value.contains('<') {
                return Err(self.error(XmlErrorKind::Malformed(format!("attribute {key} holds a \"<\""))));
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| self.error(XmlErrorKind::Malformed(error.to_string())))?;
            let prefix = if key == "xmlns" { Some("") } else { key.strip_prefix("xmlns:") };
            match prefix {
                Some(prefix) => {
                    if !prefix.is_empty() && !is_name(prefix) {
                        return Err(self.error(XmlErrorKind::Malformed(format!("\"{prefix}\" is not a prefix"))));
                    }
                    // A URI that needed unescaping is none of ours; its raw spelling stands for it.
                    let ns = match value {
                        Cow::Borrowed(uri) => Ns::from_uri(uri),
                        Cow::Owned(_) => Ns::Other(raw_value(&attribute.value)),
                    };
                    self.scope.bindings.push((prefix, ns));
                }
                // Its line ends are normalised already, and a reference to CR stands for a CR.
                None => plain.push((key, self.check_characters(value)?)),
            }
        }
        let mut attributes: Vec<(Name<'a>, Cow<'a, str>)> = Vec::with_capacity(plain.len());
        for (key, value) in plain {
            let name = self.resolve(key, false)?;
            if attributes.iter().any(|(existing, _)| *existing == name) {
                return Err(self.error(XmlErrorKind::Malformed(format!("attribute {key} is there twice"))));
            }
            attributes.push((name, value));
        }
        Ok(attributes)
    }

    /// Resolves a name; the default namespace applies to elements only.
    fn resolve(&self, name: &'a str, element: bool) -> Result<Name<'a>, XmlError> {
        let (prefix, local) = name.split_once(':').unwrap_or(("", name));
        if !is_name(local) || !(is_name(prefix) || prefix.is_empty() && !name.starts_with(':')) {
            return Err(self.error(XmlErrorKind::Malformed(format!("\"{name}\" is not a name"))));
        }
        if prefix.is_empty() && !element {
            return Ok(Name { ns: Ns::None, local });
        }
        match self.scope.resolve(prefix) {
            Some(ns) => Ok(Name { ns, local }),
            None => Err(self.error(XmlErrorKind::UndeclaredPrefix(prefix.to_owned()))),
        }
    }

    fn reference(&self, reference: &BytesRef<'a>) -> Result<Cow<'a, str>, XmlError> {
        if let Some(character) =
            reference.resolve_char_ref().map_err(|error| self.error(XmlErrorKind::Malformed(error.to_string())))?
        {
            if is_xml_character(character) {
                return Ok(Cow::Owned(character.to_string()));
            }
            if self.options.replace_invalid_characters {
                return Ok(Cow::Borrowed("?"));
            }
            return Err(self.error(XmlErrorKind::InvalidCharacter(character.into())));
        }
        Ok(Cow::Borrowed(match reference.as_ref() {
            "lt" => "<",
            "gt" => ">",
            "amp" => "&",
            "quot" => "\"",
            "apos" => "'",
            other => return Err(self.error(XmlErrorKind::UnknownEntity(other.to_owned()))),
        }))
    }

    /// Normalises line ends and deals with characters that XML does not allow.
    fn check_text(&self, text: Cow<'a, str>) -> Result<Cow<'a, str>, XmlError> {
        let text = if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { text };
        self.check_characters(text)
    }

    /// Deals with characters that XML does not allow.
    fn check_characters(&self, text: Cow<'a, str>) -> Result<Cow<'a, str>, XmlError> {
        let suspicious = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
        if !text.bytes().any(|byte| suspicious(byte) || byte == 0xef) {
            return Ok(text);
        }
        match text.chars().find(|&c| !is_xml_character(c)) {
            None => Ok(text),
            Some(_) if self.options.replace_invalid_characters => {
                Ok(Cow::Owned(text.chars().map(|c| if is_xml_character(c) { c } else { '?' }).collect()))
            }
            Some(character) => Err(self.error(XmlErrorKind::InvalidCharacter(character.into()))),
        }
    }
}

/// Namespaces in XML §3, `NCName`; beyond ASCII every character is taken.
fn is_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| !matches!(first, b'0'..=b'9' | b'-' | b'.'))
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') || byte >= 0x80)
}

/// XML 1.0 §2.2, `Char`.
const fn is_xml_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

/// The borrowed text of a raw attribute value; an owned one does not occur with a slice reader.
const fn raw_value<'a>(value: &Cow<'a, str>) -> &'a str {
    match value {
        Cow::Borrowed(text) => text,
        Cow::Owned(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// The events of a text in a short notation, or the error.
    fn events(text: &str) -> Result<String, XmlErrorKind> {
        let mut reader = Reader::new(text);
        let mut shown = String::new();
        loop {
            match reader.next().map_err(|error| error.kind)? {
                Event::Start(element) => {
                    write!(shown, "<{}|{}", element.name().ns.uri(), element.local()).unwrap();
                    for (name, value) in element.attributes() {
                        write!(shown, " {}|{}={value}", name.ns.uri(), name.local).unwrap();
                    }
                    shown.push('>');
                }
                Event::End => shown.push_str("</>"),
                Event::Text(text) => write!(shown, "[{text}]").unwrap(),
                Event::Eof => return Ok(shown),
            }
        }
    }

    #[test]
    fn names_are_resolved_and_text_is_merged() {
        for (text, expected) in [
            ("<a/>", "<|a></>"),
            ("<?xml version=\"1.0\"?><a>x</a>\n", "<|a>[x]</>"),
            ("<p:a xmlns:p='u'><b p:c='1' d='2'/></p:a>", "<u|a><|b u|c=1 |d=2></></>"),
            ("<a xmlns='u'><b xmlns=''/><c/></a>", "<u|a><|b></><u|c></></>"),
            ("<a>x&amp;y<![CDATA[<z>]]>&#65;<!-- c -->!</a>", "<|a>[x&y<z>A!]</>"),
            ("<a> <b> </b> </a>", "<|a>[ ]<|b>[ ]</>[ ]</>"),
            ("<a b='&lt;&#x41;'/>", "<|a |b=<A></>"),
            ("<a>1\r\n2</a>", "<|a>[1\n2]</>"),
        ] {
            assert_eq!(events(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_forbidden_is_an_error() {
        let malformed = |text: &str| matches!(events(text), Err(XmlErrorKind::Malformed(_)));
        for text in [
            "<a></b>",
            "<a b=1/>",
            "<a b='1' b='2'/>",
            "<a>&</a>",
            "x<a/>",
            "<a/><?xml version='1.0'?>",
            "<:a/>",
            "<<a/>",
            "<a//>",
            "<1/>",
            "<a!b/>",
            "<a b='<'/>",
            "<a xmlns:b!='c'/>",
            "<a:b:c xmlns:a='d'/>",
        ] {
            assert!(malformed(text), "{text}: {:?}", events(text));
        }
        for text in ["<a>", "<a><b/>", ""] {
            let result = events(text);
            assert!(text.is_empty() || result == Err(XmlErrorKind::UnexpectedEnd), "{text}: {result:?}");
        }
        assert_eq!(events("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>"), Err(XmlErrorKind::DocumentType));
        assert_eq!(events("<a><?pi x?></a>"), Err(XmlErrorKind::ProcessingInstruction));
        assert_eq!(events("<p:a/>"), Err(XmlErrorKind::UndeclaredPrefix("p".to_owned())));
        assert_eq!(events("<a p:b='1'/>"), Err(XmlErrorKind::UndeclaredPrefix("p".to_owned())));
        assert_eq!(events("<a>&x;</a>"), Err(XmlErrorKind::UnknownEntity("x".to_owned())));
        assert_eq!(events("<a>\u{1}</a>"), Err(XmlErrorKind::InvalidCharacter(1)));
        assert_eq!(events("<a>&#1;</a>"), Err(XmlErrorKind::InvalidCharacter(1)));
        assert_eq!(events(&"<a>".repeat(65)), Err(XmlErrorKind::TooDeep(64)));
        let attributes: Vec<String> = (0..101).map(|n| format!(" a{n}=''")).collect();
        let attributes = attributes.concat();
        assert_eq!(events(&format!("<a{attributes}/>")), Err(XmlErrorKind::TooManyAttributes(100)));
    }

    #[test]
    fn a_byte_order_mark_shifts_nothing() {
        let mut reader = Reader::new("\u{feff}<?xml version='1.0'?><a b='c'><d>e</d></a>");
        let Ok(Event::Start(root)) = reader.next() else { panic!("no element") };
        assert_eq!((root.local(), root.attribute(Ns::None, "b")), ("a", Some("c")));
        assert_eq!(reader.fragment(&root).unwrap().as_str(), "<a b='c'><d>e</d></a>");
    }

    #[test]
    fn a_reference_to_a_line_end_stays_one_in_an_attribute() {
        assert_eq!(events("<a b='1&#13;&#10;2\r\n3'/>").as_deref(), Ok("<|a |b=1\r\n2 3></>"));
    }

    #[test]
    fn a_fragment_is_read_again_in_its_scope() {
        let text = "<a xmlns='u' xmlns:p='v'> <p:b c='1'><d/>t</p:b><e/></a>";
        let mut reader = Reader::new(text);
        assert!(matches!(reader.next(), Ok(Event::Start(_))));
        let element = reader.next_child().unwrap().unwrap();
        let fragment = reader.fragment(&element).unwrap();
        assert_eq!(fragment.as_str(), "<p:b c='1'><d/>t</p:b>");
        let (mut inner, element) = fragment.open().unwrap();
        assert!(element.is(Ns::Other("v"), "b"));
        assert_eq!(inner.next_child().unwrap().unwrap().name(), Name { ns: Ns::Other("u"), local: "d" });
        assert_eq!(reader.next_child().unwrap().unwrap().local(), "e");
    }

    #[test]
    fn fragments_of_a_fragment_skip_what_was_judged_before() {
        let text = "<r xmlns:p='v'><p:a><p:a k='>'>1<p:a/></p:a><b/><!-- </p:a> --></p:a></r>";
        let mut reader = Reader::new(text);
        assert!(matches!(reader.next(), Ok(Event::Start(_))));
        let outer = reader.next_child().unwrap().unwrap();
        let (mut inner, _) = reader.fragment(&outer).unwrap().open().unwrap();
        let mut parts = Vec::new();
        while let Some(child) = inner.next_child().unwrap() {
            let part = inner.fragment(&child).unwrap();
            assert_eq!(part.open().unwrap().1.name(), child.name());
            parts.push(part.as_str());
        }
        assert_eq!(parts, ["<p:a k='>'>1<p:a/></p:a>", "<b/>"]);
    }
}
