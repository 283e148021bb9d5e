//! The envelope: headers read, body kept as a slice.

use crate::xml::{Element, Event, Fragment, Ns, Reader, XmlError, XmlErrorKind};

use super::codes::code;
use super::{Fault, Headers, Subcode};

/// A SOAP 1.2 message.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// The header block; empty when there is none.
    pub headers: Headers<'a>,
    /// The first child of the body, if any.
    pub body: Option<Fragment<'a>>,
}

impl<'a> Envelope<'a> {
    /// Reads a message and checks that all of it is well-formed.
    ///
    /// # Errors
    /// `w:SchemaValidationError` when the text is not XML or not an envelope, `s:VersionMismatch` for
    /// another version of SOAP (`ws-management.md` §4 steps 3 and 4).
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
        let mut reader = Reader::new(text);
        let root = match reader.next().map_err(|error| malformed(&error))? {
            Event::Start(root) => root,
            Event::Text(_) | Event::End | Event::Eof => return Err(invalid("The message has no root element.")),
        };
        if root.local() == "Envelope" && root.name().ns != Ns::Soap {
            return Err(Fault::version_mismatch());
        }
        if !root.is(Ns::Soap, "Envelope") {
            return Err(invalid("The root element is not a SOAP envelope."));
        }
        Self::read_parts(&mut reader)
    }

    fn read_parts(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let mut headers = None;
        let mut body = None;
        while let Some(part) = reader.next_child().map_err(|error| malformed(&error))? {
            if part.is(Ns::Soap, "Header") && headers.is_none() && body.is_none() {
                headers = Some(Headers::read(reader).map_err(|error| malformed(&error))?);
            } else if part.is(Ns::Soap, "Body") && body.is_none() {
                body = Some(read_body(reader).map_err(|error| malformed(&error))?);
            } else if let Some(headers) = headers.as_mut().filter(|_| body.is_none() && is_stray_option_set(&part)) {
                headers.read_one(reader, &part).map_err(|error| malformed(&error))?;
            } else {
                return Err(invalid("The envelope holds something other than one Header followed by one Body."));
            }
        }
        match reader.next().map_err(|error| malformed(&error))? {
            Event::Eof | Event::Text(_) => {}
            Event::Start(_) | Event::End => return Err(invalid("There is something after the envelope.")),
        }
        let body = body.ok_or_else(|| invalid("The envelope has no Body."))?;
        Ok(Self { headers: headers.unwrap_or_default(), body })
    }
}

/// winrm-rs 1.1 writes the `OptionSet` of a new shell between Header and Body; it is read as a header.
fn is_stray_option_set(part: &Element<'_>) -> bool {
    part.is(Ns::Wsman, "OptionSet")
}

/// The first child of the body; further ones are read for their form and ignored.
fn read_body<'a>(reader: &mut Reader<'a>) -> Result<Option<Fragment<'a>>, XmlError> {
    let mut first = None;
    while let Some(child) = reader.next_child()? {
        let fragment = reader.fragment(&child)?;
        first.get_or_insert(fragment);
    }
    Ok(first)
}

fn malformed(error: &XmlError) -> Fault {
    let number = match error.kind {
        XmlErrorKind::Malformed(_) | XmlErrorKind::UnexpectedEnd => code::INVALID_XML,
        _ => code::SCHEMA_VALIDATION_ERROR,
    };
    Fault::new(Subcode::SchemaValidationError).code(number).reason(format!("The message cannot be read: {error}."))
}

fn invalid(reason: &str) -> Fault {
    Fault::new(Subcode::SchemaValidationError).code(code::INVALID_SOAP_BODY).reason(reason)
}
