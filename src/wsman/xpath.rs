//! XPath level 1 (`ws-management.md` §6.8, §8.6): the expressions of fragments and of XPath filters.
//!
//! A path goes down by element names, each perhaps with a position, and ends in an element, in `text()` or in an
//! attribute. It is evaluated on the element that goes on the wire, so that it finds what a client sees. Prefixes
//! are not looked at, and names compare without regard to case, as names of CIM do.

use crate::xml::{Element, Event, Fragment, Reader, XmlError};

/// XPath 1.0, the default dialect.
pub(super) const XPATH: &str = "http://www.w3.org/TR/1999/REC-xpath-19991116";
const XPATH_LEVEL_1: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/xpath_level_1.xsd";
/// The namespace of the elements inside datetimes.
const WS_CIM_COMMON: &str = "http://schemas.dmtf.org/wbem/wscim/1/common";
/// Most steps of a path; no resource is deeper.
const MAX_STEPS: usize = 32;

/// Whether a dialect is this one; it is, when none is named.
pub(super) fn is_xpath(dialect: &str) -> bool {
    dialect.is_empty() || dialect.eq_ignore_ascii_case(XPATH) || dialect.eq_ignore_ascii_case(XPATH_LEVEL_1)
}

/// A location path of level 1.
#[derive(Debug)]
pub(super) struct Path {
    /// It begins at the document, not at the element of the resource.
    pub(super) is_absolute: bool,
    pub(super) steps: Vec<Step>,
    pub(super) tail: Tail,
}

/// A step to child elements.
#[derive(Debug)]
pub(super) struct Step {
    /// The local name.
    pub(super) name: String,
    /// Which of the children of that name; one-based.
    pub(super) position: Option<usize>,
}

/// What a path gives of the elements it leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Element,
    Text,
    Attribute(String),
}

/// What a path leads to.
pub(super) enum Found<'a> {
    Element(Fragment<'a>),
    Text(String),
}

/// Why an expression is none of this subset.
#[derive(Debug, thiserror::Error)]
#[error("the expression cannot be used from character {position} on: {what}")]
pub(super) struct PathError {
    /// One-based.
    position: usize,
    what: &'static str,
}

impl Path {
    /// Reads an expression.
    pub(super) fn parse(text: &str) -> Result<Self, PathError> {
        let mut cursor = Cursor { text, at: 0 };
        let is_absolute = cursor.take('/');
        let mut path = Self { is_absolute, steps: Vec::new(), tail: Tail::Element };
        loop {
            path.read_step(&mut cursor)?;
            if cursor.is_at_end() {
                break;
            }
            if path.tail != Tail::Element {
                return Err(cursor.error("text() and attributes stand at the end"));
            }
            if !cursor.take('/') {
                return Err(cursor.error("a slash or the end is expected"));
            }
        }
        if path.steps.is_empty() && (is_absolute || path.tail == Tail::Text) {
            return Err(PathError { position: 1, what: "the path names no element" });
        }
        Ok(path)
    }

    fn read_step(&mut self, cursor: &mut Cursor<'_>) -> Result<(), PathError> {
        if cursor.take('@') {
            self.tail = Tail::Attribute(cursor.name()?.to_owned());
            return Ok(());
        }
        let start = *cursor;
        let name = cursor.name()?;
        if cursor.take('(') {
            if name != "text" || !cursor.take(')') {
                return Err(start.error("text() is the only function"));
            }
            self.tail = Tail::Text;
            return Ok(());
        }
        let mut position = None;
        if cursor.take('[') {
            position = Some(cursor.position()?);
        }
        if self.steps.len() >= MAX_STEPS {
            return Err(start.error("there are too many steps"));
        }
        self.steps.push(Step { name: name.to_owned(), position });
        Ok(())
    }

    /// What the path finds in a document whose root element is the resource.
    pub(super) fn select<'a>(&self, document: &'a str) -> Result<Vec<Found<'a>>, XmlError> {
        let mut reader = Reader::new(document);
        let mut found = Vec::new();
        let Event::Start(root) = reader.next()? else { return Ok(found) };
        let mut steps = self.steps.as_slice();
        if self.is_absolute {
            match steps.split_first() {
                Some((first, rest)) if first.is(&root, 1) => steps = rest,
                _ => return Ok(found),
            }
        }
        self.walk(&mut reader, &root, steps, &mut found)?;
        Ok(found)
    }

    /// Reads the rest of `element` and follows `steps` into it.
    fn walk<'a>(
        &self,
        reader: &mut Reader<'a>,
        element: &Element<'a>,
        steps: &[Step],
        found: &mut Vec<Found<'a>>,
    ) -> Result<(), XmlError> {
        let Some((step, rest)) = steps.split_first() else { return self.finish(reader, element, found) };
        let mut number = 0;
        loop {
            match reader.next()? {
                Event::Start(child) => {
                    number += usize::from(child.local().eq_ignore_ascii_case(&step.name));
                    if step.is(&child, number) {
                        self.walk(reader, &child, rest, found)?;
                    } else {
                        reader.skip()?;
                    }
                }
                Event::Text(_) => {}
                Event::End | Event::Eof => return Ok(()),
            }
        }
    }

    /// Takes from an element at the end of the path what the tail names.
    fn finish<'a>(
        &self,
        reader: &mut Reader<'a>,
        element: &Element<'a>,
        found: &mut Vec<Found<'a>>,
    ) -> Result<(), XmlError> {
        match &self.tail {
            Tail::Element => found.push(Found::Element(reader.fragment(element)?)),
            Tail::Text => {
                let text = text_of(reader)?;
                if !text.is_empty() {
                    found.push(Found::Text(text));
                }
            }
            Tail::Attribute(wanted) => {
                let attributes = element.attributes().filter(|(name, _)| name.local.eq_ignore_ascii_case(wanted));
                found.extend(attributes.map(|(_, value)| Found::Text(value.to_owned())));
                reader.skip()?;
            }
        }
        Ok(())
    }
}

impl Step {
    /// Whether it leads to the child, which is that one of the children of its name.
    fn is(&self, child: &Element<'_>, number: usize) -> bool {
        child.local().eq_ignore_ascii_case(&self.name) && self.position.is_none_or(|position| position == number)
    }
}

/// The text directly in an element. A datetime has its text in an element of its own, which is looked through:
/// the property is what a client means.
fn text_of(reader: &mut Reader<'_>) -> Result<String, XmlError> {
    let mut text = String::new();
    loop {
        match reader.next()? {
            Event::Text(piece) => text.push_str(&piece),
            Event::Start(child) if child.name().ns.uri() == WS_CIM_COMMON => text.push_str(&reader.text_content()?),
            Event::Start(_) => reader.skip()?,
            Event::End | Event::Eof => return Ok(text),
        }
    }
}

/// A place in an expression.
#[derive(Clone, Copy)]
struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    fn rest(&mut self) -> &'t str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn is_at_end(&mut self) -> bool {
        self.rest().is_empty()
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.rest().starts_with(wanted);
        if is_there {
            self.at += wanted.len_utf8();
        }
        is_there
    }

    /// What stands here as long as its characters are wanted.
    fn run(&mut self, is_wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.find(|c| !is_wanted(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// A name; its local part.
    fn name(&mut self) -> Result<&'t str, PathError> {
        let start = *self;
        let name = self.run(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'));
        let (prefix, local) = name.split_once(':').unwrap_or(("x", name));
        let is_name = |name: &str| name.starts_with(|c: char| c.is_alphabetic() || c == '_') && !name.contains(':');
        if is_name(prefix) && is_name(local) {
            return Ok(local);
        }
        Err(start.error(match name {
            "" if self.is_at_end() => "a step is expected",
            "" => "only element names, text() and attributes can be steps",
            name if name.contains("::") => "axes are not supported",
            _ => "this is not the name of an element",
        }))
    }

    /// The number of a predicate, and its end.
    fn position(&mut self) -> Result<usize, PathError> {
        let start = *self;
        let number = self.run(|c| c.is_ascii_digit()).parse().unwrap_or_default();
        if number == 0 || !self.take(']') {
            return Err(start.error("a predicate holds a position, counted from 1"));
        }
        Ok(number)
    }

    fn error(mut self, what: &'static str) -> PathError {
        self.rest();
        let before = self.text.get(..self.at).unwrap_or_default();
        PathError { position: before.chars().count() + 1, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "<p:C xmlns:p=\"urn:p\" xmlns:cim=\"http://schemas.dmtf.org/wbem/wscim/1/common\" \
        xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><p:A>1</p:A><p:A>2</p:A><p:A>3</p:A>\
        <p:N xsi:nil=\"true\"/><p:T><cim:Datetime>2026-01-15T10:20:30Z</cim:Datetime></p:T>\
        <p:E><p:A>x</p:A><p:B>y &amp; z</p:B></p:E></p:C>";

    fn shown(expression: &str) -> String {
        let path = Path::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let found = path.select(DOCUMENT).unwrap();
        let texts = found.iter().map(|found| match found {
            Found::Element(element) => element.as_str().to_owned(),
            Found::Text(text) => format!("'{text}'"),
        });
        texts.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn paths_find_elements_texts_and_attributes() {
        for (expression, expected) in [
            ("A", "<p:A>1</p:A>|<p:A>2</p:A>|<p:A>3</p:A>"),
            ("A[2]", "<p:A>2</p:A>"),
            (" q:a [ 3 ] / text( ) ", "'3'"),
            ("A/text()", "'1'|'2'|'3'"),
            ("A[4]", ""),
            ("Nothing", ""),
            ("N", "<p:N xsi:nil=\"true\"/>"),
            ("N/text()", ""),
            ("N/@xsi:nil", "'true'"),
            ("A/@nil", ""),
            ("@nil", ""),
            ("T/text()", "'2026-01-15T10:20:30Z'"),
            ("T/cim:Datetime", "<cim:Datetime>2026-01-15T10:20:30Z</cim:Datetime>"),
            ("E/A", "<p:A>x</p:A>"),
            ("E/B/text()", "'y & z'"),
            ("E[1]/B[1]", "<p:B>y &amp; z</p:B>"),
            ("E[2]/B[1]", ""),
            ("/C/A[1]", "<p:A>1</p:A>"),
            ("/p:C[1]/E/A/text()", "'x'"),
            ("/C[2]/A", ""),
            ("/A", ""),
            ("C/A", ""),
        ] {
            assert_eq!(shown(expression), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_beyond_the_subset_is_refused_where_it_begins() {
        let deep = format!("{}a", "a/".repeat(32));
        for (expression, position, what) in [
            ("", 1, "a step is expected"),
            ("  ", 3, "a step is expected"),
            ("/", 2, "a step is expected"),
            ("A/", 3, "a step is expected"),
            ("//A", 2, "only element names"),
            ("A//B", 3, "only element names"),
            ("../A", 1, "this is not the name"),
            ("A/.", 3, "this is not the name"),
            ("*", 1, "only element names"),
            ("child::A", 1, "axes"),
            ("a:b:c", 1, "this is not the name"),
            (":a", 1, "this is not the name"),
            ("count(A)", 1, "text() is the only function"),
            ("A/text(1)", 3, "text() is the only function"),
            ("A/text()/B", 9, "text() and attributes stand at the end"),
            ("A/@x/B", 5, "text() and attributes stand at the end"),
            ("/text()", 1, "the path names no element"),
            ("text()", 1, "the path names no element"),
            ("A[0]", 3, "a predicate holds a position"),
            ("A[B='1']", 3, "a predicate holds a position"),
            ("A[1", 3, "a predicate holds a position"),
            ("A[99999999999999999999999]", 3, "a predicate holds a position"),
            ("A[1][2]", 5, "a slash or the end"),
            ("ä = 1", 3, "a slash or the end"),
            ("A | B", 3, "a slash or the end"),
            ("1A", 1, "this is not the name"),
            (deep.as_str(), 65, "there are too many steps"),
        ] {
            let error = Path::parse(expression).expect_err(expression);
            assert_eq!(error.position, position, "{expression}: {error}");
            assert!(error.what.starts_with(what), "{expression}: {error}");
        }
    }
}
