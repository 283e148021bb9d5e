//! The bodies of Enumerate, Pull and Release (`ws-management.md` §6.6).

use std::time::Duration;

use crate::cimom::Polymorphism;
use crate::soap::{Fault, Subcode, code, detail};
use crate::time::{Guid, Timestamp, parse_xs_duration};
use crate::xml::{Element, Fragment, Ns, Reader, XmlError};

use super::contexts::invalid;
use super::filter::{cannot_process, check_content};
use super::request::Request;

/// How an item is shown (`ws-management.md` §8.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Object,
    Reference,
    ObjectAndReference,
}

/// What the body of Enumerate asks for.
#[derive(Default)]
pub(super) struct EnumerateBody<'a> {
    pub(super) filter: Option<Fragment<'a>>,
    pub(super) optimize: bool,
    pub(super) max_elements: Option<u32>,
    pub(super) mode: Mode,
    pub(super) polymorphism: Option<Polymorphism>,
    expires: Option<String>,
}

/// What the body of Pull or Release asks for.
pub(super) struct PullBody {
    pub(super) context: Guid,
    pub(super) max_elements: u32,
    pub(super) max_time: Option<Duration>,
    pub(super) max_characters: Option<usize>,
}

impl EnumerateBody<'_> {
    /// `n:Expires` as a point in time: a duration or a date, not in the past. What lies beyond all time is never.
    pub(super) fn expires(&self, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
        let Some(text) = &self.expires else { return Ok(None) };
        let past = || Fault::new(Subcode::InvalidExpirationTime).reason("Expires is zero, negative or in the past.");
        if text.starts_with(['P', '-']) {
            return match parse_xs_duration(text) {
                Ok(Duration::ZERO) | Err(crate::time::DurationError::Negative) => Err(past()),
                Ok(time) => Ok(chrono::Duration::from_std(time).ok().and_then(|time| now.checked_add_signed(time))),
                Err(crate::time::DurationError::OutOfRange) => Ok(None),
                Err(crate::time::DurationError::Malformed) => Err(unsupported_expires()),
            };
        }
        let at = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| unsupported_expires())?.to_utc();
        if at <= now { Err(past()) } else { Ok(Some(at)) }
    }

    /// Refuses what only instances of CIM classes have: filters, and modes that look at subclasses.
    pub(super) fn is_plain(&self) -> Result<(), Fault> {
        if self.filter.is_some() {
            return Err(Fault::new(Subcode::FilteringNotSupported).reason("This resource cannot be filtered."));
        }
        self.is_not_polymorphic()
    }

    /// Refuses the modes that look at subclasses.
    pub(super) fn is_not_polymorphic(&self) -> Result<(), Fault> {
        match self.polymorphism {
            None | Some(Polymorphism::IncludeSubClassProperties) => Ok(()),
            Some(_) => Err(Fault::new(Subcode::PolymorphismModeNotSupported)
                .reason("This resource has no instances of subclasses; leave the polymorphism mode out.")),
        }
    }
}

fn malformed(error: &XmlError) -> Fault {
    Fault::new(Subcode::SchemaValidationError)
        .code(code::INVALID_SOAP_BODY)
        .reason(format!("The body cannot be read: {error}."))
}

/// The body element of a request, which must be of WS-Enumeration.
fn open<'a>(request: &Request<'_, 'a>, local: &str) -> Result<Reader<'a>, Fault> {
    if let Some(body) = request.body {
        let (reader, element) = body.open().map_err(|error| malformed(&error))?;
        if element.is(Ns::Enumeration, local) {
            return Ok(reader);
        }
    }
    Err(Fault::new(Subcode::SchemaValidationError)
        .code(code::INVALID_SOAP_BODY)
        .reason(format!("The body does not hold a wsen:{local} element.")))
}

/// Reads the body of Enumerate.
pub(super) fn read_enumerate<'a>(request: &Request<'_, 'a>) -> Result<EnumerateBody<'a>, Fault> {
    let mut reader = open(request, "Enumerate")?;
    let mut body = EnumerateBody::default();
    while let Some(child) = reader.next_child().map_err(|error| malformed(&error))? {
        read_enumerate_child(&mut reader, &child, &mut body)?;
    }
    Ok(body)
}

fn read_enumerate_child<'a>(
    reader: &mut Reader<'a>,
    child: &Element<'a>,
    body: &mut EnumerateBody<'a>,
) -> Result<(), Fault> {
    match (child.name().ns, child.local()) {
        (Ns::Enumeration | Ns::Wsman, "Filter") => {
            let filter = reader.fragment(child).map_err(|error| malformed(&error))?;
            check_content(&filter)?;
            if body.filter.replace(filter).is_some() {
                return Err(cannot_process("Only one filter may be given."));
            }
        }
        (Ns::Wsman, "OptimizeEnumeration") => {
            body.optimize = true;
            reader.skip().map_err(|error| malformed(&error))?;
        }
        (Ns::Wsman | Ns::Enumeration, "MaxElements") => body.max_elements = Some(positive(reader, "MaxElements")?),
        (Ns::Wsman, "EnumerationMode") => body.mode = mode(&text(reader)?)?,
        (Ns::CimBinding, "PolymorphismMode") => body.polymorphism = Some(polymorphism_mode(&text(reader)?)?),
        (Ns::Enumeration, "Expires") => body.expires = Some(text(reader)?),
        (Ns::Enumeration, "EndTo") => {
            return Err(Fault::new(Subcode::UnsupportedFeature)
                .detail(detail::ADDRESSING_MODE, code::EVENTING_INVALID_ENDTO_ADDRESS)
                .reason("EndTo is not supported; an enumeration ends without a message."));
        }
        // Ruby puts a SessionId here (`clients.md` part 3 item 4).
        _ => reader.skip().map_err(|error| malformed(&error))?,
    }
    Ok(())
}

/// Reads the body of Pull or Release.
pub(super) fn read_pull(request: &Request<'_, '_>, local: &str) -> Result<PullBody, Fault> {
    let mut reader = open(request, local)?;
    let mut context = None;
    let mut body =
        PullBody { context: Guid::from_uuid(uuid::Uuid::nil()), max_elements: 1, max_time: None, max_characters: None };
    while let Some(child) = reader.next_child().map_err(|error| malformed(&error))? {
        match (child.name().ns, child.local()) {
            (Ns::Enumeration, "EnumerationContext") => context = Some(text(&mut reader)?),
            (Ns::Enumeration | Ns::Wsman, "MaxElements") => body.max_elements = positive(&mut reader, "MaxElements")?,
            (Ns::Enumeration, "MaxCharacters") => {
                let characters = positive(&mut reader, "MaxCharacters")?;
                body.max_characters = Some(usize::try_from(characters).unwrap_or(usize::MAX));
            }
            (Ns::Enumeration, "MaxTime") => {
                let time = text(&mut reader)?;
                body.max_time = Some(parse_xs_duration(&time).map_err(|error| {
                    Fault::new(Subcode::SchemaValidationError)
                        .code(code::INVALID_SOAP_BODY)
                        .reason(format!("MaxTime is {error}."))
                })?);
            }
            _ => reader.skip().map_err(|error| malformed(&error))?,
        }
    }
    let context = context.ok_or_else(invalid)?;
    let context = context.strip_prefix("uuid:").unwrap_or(&context);
    body.context = context.parse().map_err(|_| invalid())?;
    Ok(body)
}

fn text(reader: &mut Reader<'_>) -> Result<String, Fault> {
    reader.text_content().map(|text| text.trim().to_owned()).map_err(|error| malformed(&error))
}

/// An `xs:positiveInteger`; what is larger than fits is as large as fits.
fn positive(reader: &mut Reader<'_>, name: &str) -> Result<u32, Fault> {
    let text = text(reader)?;
    let digits = text.strip_prefix('+').unwrap_or(&text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_number { digits.parse().unwrap_or(u32::MAX) } else { 0 };
    if number == 0 {
        return Err(Fault::new(Subcode::SchemaValidationError)
            .code(code::INVALID_SOAP_BODY)
            .reason(format!("{name} is not a positive integer.")));
    }
    Ok(number)
}

fn mode(text: &str) -> Result<Mode, Fault> {
    match text {
        "EnumerateEPR" => Ok(Mode::Reference),
        "EnumerateObjectAndEPR" => Ok(Mode::ObjectAndReference),
        other => Err(Fault::new(Subcode::UnsupportedFeature)
            .detail(detail::ENUMERATION_MODE, code::ENUMERATION_MODE_UNSUPPORTED)
            .reason(format!("The enumeration mode \"{other}\" is not supported."))),
    }
}

fn polymorphism_mode(text: &str) -> Result<Polymorphism, Fault> {
    match text {
        "IncludeSubClassProperties" => Ok(Polymorphism::IncludeSubClassProperties),
        "ExcludeSubClassProperties" => Ok(Polymorphism::ExcludeSubClassProperties),
        "None" => Ok(Polymorphism::None),
        other => Err(Fault::new(Subcode::PolymorphismModeNotSupported)
            .reason(format!("The polymorphism mode \"{other}\" is not supported."))),
    }
}

fn unsupported_expires() -> Fault {
    Fault::new(Subcode::UnsupportedExpirationType).reason("Expires is neither an xs:duration nor an xs:dateTime.")
}
