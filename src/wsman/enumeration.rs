//! Enumerate, Pull and Release (`ws-management.md` §6.6, DSP0226 clause 8).

use std::iter::Peekable;
use std::time::Duration;

use crate::binding::{InstanceWriter, UriStyle, write_reference};
use crate::cim::{CimInstance, PropertyName};
use crate::cimom::{InstanceStream, Polymorphism};
use crate::soap::{Fault, Subcode, code, detail};
use crate::time::{Guid, Timestamp, parse_xs_duration};
use crate::xml::{Element, Fragment, Ns, Reader, Writer, XmlError};

use super::contexts::invalid;
use super::fault::from_cim;
use super::filter::{cannot_process, check_content, is_wql, projected};
use super::request::Request;
use super::service::{Answer, Encoding, Service};
use super::target::Target;
use super::transfer::overhead;

/// After so many instances a long enumeration lets others run and looks at the clock.
const BREATH: usize = 64;

/// How an instance is shown (`ws-management.md` §8.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Object,
    Reference,
    ObjectAndReference,
}

/// An open enumeration.
pub(super) struct Enumeration {
    stream: Peekable<InstanceStream>,
    shape: Shape,
}

/// How the instances of an enumeration are written.
struct Shape {
    projection: Option<Vec<PropertyName>>,
    mode: Mode,
    style: UriStyle,
    precise_arrays: bool,
}

/// What the body of Enumerate asks for.
#[derive(Default)]
struct EnumerateBody<'a> {
    filter: Option<Fragment<'a>>,
    optimize: bool,
    max_elements: Option<u32>,
    mode: Mode,
    polymorphism: Option<Polymorphism>,
    expires: Option<String>,
}

/// What the body of Pull or Release asks for.
struct PullBody {
    context: Guid,
    max_elements: u32,
    max_time: Option<Duration>,
    max_characters: Option<usize>,
}

/// How much an answer may hold.
#[derive(Clone, Copy)]
struct Room {
    octets: usize,
    characters: usize,
    elements: u32,
    deadline: Timestamp,
    encoding: Encoding,
    skip_too_large: bool,
}

/// Why a batch ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Everything was sent.
    Finished,
    /// There is more.
    More,
    /// The next item does not even fit alone.
    TooLarge,
}

impl Service {
    /// Enumerate.
    pub(super) async fn enumerate(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let body = read_enumerate(request)?;
        let target = self.cim_target(request).map_err(|fault| quiet_virt_who(fault, &body))?;
        if let Some((name, _)) = target.keys.first() {
            return Err(Fault::new(Subcode::InvalidSelectors)
                .detail(detail::UNEXPECTED_SELECTORS, code::ENUMERATE_WMI_INVALID_KEY)
                .reason(format!("Enumerate takes no selector but __cimnamespace; {name} is one too many.")));
        }
        let polymorphism = polymorphism(&target, &body)?;
        let expires = expires(&body, request.now)?;
        self.contexts.check_quota(request.principal, request.now)?;
        let selection = self.select(&target, body.filter.as_ref(), polymorphism)?;
        let estimate = estimate(request, &selection.stream);
        let mut enumeration = Enumeration {
            stream: selection.stream.peekable(),
            shape: Shape {
                projection: selection.projection,
                mode: body.mode,
                style: target.style.clone(),
                precise_arrays: request.precise_arrays,
            },
        };
        let mut w = Writer::with_capacity(4096);
        w.start("n:EnumerateResponse");
        if body.optimize {
            let room = self.room(request, body.max_elements.unwrap_or(1), None, request.deadline(), &estimate);
            let (items, end) = self.batch(&mut enumeration, room).await?;
            if end == End::TooLarge && items.is_empty() {
                return Err(request.too_large());
            }
            if end == End::Finished {
                w.empty("n:EnumerationContext");
            } else {
                write_context(&mut w, self.keep(request, enumeration, expires));
            }
            w.element("w:Items", |w| w.raw(&items));
            if end == End::Finished {
                w.empty("w:EndOfSequence");
            }
        } else {
            write_context(&mut w, self.keep(request, enumeration, expires));
            if body.expires.is_some() {
                let left = expires.and_then(|at| (at - request.now).to_std().ok()).unwrap_or_default();
                w.text_element("n:Expires", &crate::time::format_xs_duration(left));
            }
        }
        w.end("n:EnumerateResponse");
        Ok(Answer { body: w.finish(), headers: estimate })
    }

    /// Pull. The enumeration is found by its context alone (§6.6 rule 7).
    pub(super) async fn pull(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let body = read_pull(request, "Pull")?;
        let mut enumeration = self.contexts.take(body.context, request.principal, request.now)?;
        let estimate = estimate(request, &enumeration.stream);
        let deadline = match body.max_time {
            Some(time) => request.now + chrono::Duration::from_std(time).unwrap_or(chrono::Duration::MAX),
            None => Timestamp::MAX_UTC,
        };
        let room = self.room(request, body.max_elements, body.max_characters, deadline, &estimate);
        let (items, end) = match self.batch(&mut enumeration, room).await {
            Ok(batch) => batch,
            Err(fault) => {
                self.contexts.remove(body.context);
                return Err(fault);
            }
        };
        let now = self.clock.now();
        if items.is_empty() && end != End::Finished {
            // The context stays as it was; an item that can never fit has been left out by the batch.
            self.contexts.put_back(body.context, body.context, enumeration, now);
            return Err(if end == End::TooLarge { request.too_large() } else { timed_out() });
        }
        let mut w = Writer::with_capacity(items.len() + 256);
        w.start("n:PullResponse");
        if end == End::Finished {
            self.contexts.remove(body.context);
        } else {
            let context = self.ids.new_guid();
            self.contexts.put_back(body.context, context, enumeration, now);
            write_context(&mut w, context);
        }
        w.element("n:Items", |w| w.raw(&items));
        if end == End::Finished {
            w.empty("n:EndOfSequence");
        }
        w.end("n:PullResponse");
        Ok(Answer { body: w.finish(), headers: estimate })
    }

    /// Release.
    pub(super) fn release(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let body = read_pull(request, "Release")?;
        self.contexts.release(body.context, request.principal, request.now)?;
        Ok(Answer::body(String::new()))
    }

    fn keep(&self, request: &Request<'_, '_>, enumeration: Enumeration, expires: Option<Timestamp>) -> Guid {
        let context = self.ids.new_guid();
        self.contexts.insert(context, request.principal.clone(), enumeration, expires, self.clock.now());
        context
    }

    fn room(
        &self,
        request: &Request<'_, '_>,
        max_elements: u32,
        max_characters: Option<usize>,
        deadline: Timestamp,
        headers: &str,
    ) -> Room {
        let taken = overhead(request) + request.encoding.octets(headers);
        Room {
            octets: request.budget.saturating_sub(taken),
            characters: max_characters.unwrap_or(usize::MAX),
            elements: max_elements.min(self.options.limits.max_batch_items),
            deadline,
            encoding: request.encoding,
            skip_too_large: request.headers.max_envelope_size.as_ref().is_some_and(|header| header.skip),
        }
    }

    /// Writes as many items as there is room for.
    async fn batch(&self, enumeration: &mut Enumeration, room: Room) -> Result<(String, End), Fault> {
        let mut items = Writer::with_capacity(4096);
        let (mut octets, mut characters, mut written, mut seen) = (0, 0, 0, 0_usize);
        loop {
            if enumeration.stream.peek().is_none() {
                return Ok((items.finish(), End::Finished));
            }
            if written >= room.elements {
                return Ok((items.finish(), End::More));
            }
            seen += 1;
            if seen.is_multiple_of(BREATH) {
                tokio::task::yield_now().await;
                if self.clock.now() >= room.deadline {
                    return Ok((items.finish(), End::More));
                }
            }
            let before = items.len();
            match enumeration.stream.peek() {
                Some(Ok(instance)) => enumeration.shape.write(&mut items, instance),
                Some(Err(error)) => return Err(from_cim(error)),
                None => continue,
            }
            let item = items.as_str().get(before..).unwrap_or_default();
            octets += room.encoding.octets(item);
            if room.characters != usize::MAX {
                characters += item.chars().count();
            }
            if octets <= room.octets && characters <= room.characters {
                enumeration.stream.next();
                written += 1;
                continue;
            }
            octets -= room.encoding.octets(item);
            items.truncate(before);
            if written > 0 {
                return Ok((items.finish(), End::More));
            }
            // It does not fit alone: it is left out, with or without a word (MaxEnvelopeSize/@Policy).
            enumeration.stream.next();
            if !room.skip_too_large {
                return Ok((String::new(), End::TooLarge));
            }
            characters = 0;
        }
    }
}

impl Shape {
    /// One entry of Items.
    fn write(&self, w: &mut Writer, instance: &CimInstance) {
        let writer = InstanceWriter { style: &self.style, precise_arrays: self.precise_arrays };
        let object = |w: &mut Writer| match &self.projection {
            None => writer.instance(w, instance),
            Some(names) => write_projection(w, writer, instance, names),
        };
        let reference = |w: &mut Writer| {
            w.element("a:EndpointReference", |w| {
                write_reference(w, &instance.path(self.style.namespace()), &self.style);
            });
        };
        match self.mode {
            Mode::Object => object(w),
            Mode::Reference => reference(w),
            Mode::ObjectAndReference => w.element("w:Item", |w| {
                object(w);
                reference(w);
            }),
        }
    }
}

/// The result of a projection: properties in no namespace (`ws-management.md` §8.2).
fn write_projection(w: &mut Writer, writer: InstanceWriter<'_>, instance: &CimInstance, names: &[PropertyName]) {
    let attributes = [
        ("xmlns:w", "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"),
        ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
    ];
    w.element_with("w:XmlFragment", &attributes, |w| {
        for (name, value, is_array) in projected(instance, names) {
            if !(is_array && value.is_null()) {
                writer.value(w, "", name.as_str(), value);
            }
        }
    });
}

fn write_context(w: &mut Writer, context: Guid) {
    w.raw("<n:EnumerationContext>uuid:");
    w.raw(context.encode(&mut [0; 36]));
    w.raw("</n:EnumerationContext>");
}

/// The header `w:TotalItemsCountEstimate` when it was asked for; nil when nobody knows.
fn estimate<I: Iterator>(request: &Request<'_, '_>, stream: &I) -> String {
    if !request.headers.request_total_items_count_estimate {
        return String::new();
    }
    let mut w = Writer::default();
    match stream.size_hint() {
        (low, Some(high)) if low == high => w.text_element("w:TotalItemsCountEstimate", &low.to_string()),
        _ => w.empty_with(
            "w:TotalItemsCountEstimate",
            &[("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"), ("xsi:nil", "true")],
        ),
    }
    w.finish()
}

fn timed_out() -> Fault {
    Fault::new(Subcode::TimedOut).reason("MaxTime elapsed before an item was found; pull again.")
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

fn read_enumerate<'a>(request: &Request<'_, 'a>) -> Result<EnumerateBody<'a>, Fault> {
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

fn read_pull(request: &Request<'_, '_>, local: &str) -> Result<PullBody, Fault> {
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

/// With all classes only the default mode makes sense (R8.1-6).
fn polymorphism(target: &Target, body: &EnumerateBody<'_>) -> Result<Polymorphism, Fault> {
    match body.polymorphism {
        Some(mode) if target.class.is_none() && mode != Polymorphism::IncludeSubClassProperties => {
            Err(Fault::new(Subcode::PolymorphismModeNotSupported)
                .reason("A resource URI of all classes allows IncludeSubClassProperties only."))
        }
        mode => Ok(mode.unwrap_or_default()),
    }
}

/// `n:Expires` as a point in time: a duration or a date, not in the past.
fn expires(body: &EnumerateBody<'_>, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
    let Some(text) = &body.expires else { return Ok(None) };
    let past = || Fault::new(Subcode::InvalidExpirationTime).reason("Expires is zero, negative or in the past.");
    if text.starts_with(['P', '-']) {
        return match parse_xs_duration(text) {
            Ok(Duration::ZERO) | Err(crate::time::DurationError::Negative) => Err(past()),
            Ok(time) => Ok(chrono::Duration::from_std(time).ok().and_then(|time| now.checked_add_signed(time))),
            Err(_) => Err(unsupported_expires()),
        };
    }
    let at = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| unsupported_expires())?.to_utc();
    if at <= now { Err(past()) } else { Ok(Some(at)) }
}

fn unsupported_expires() -> Fault {
    Fault::new(Subcode::UnsupportedExpirationType).reason("Expires is neither an xs:duration nor an xs:dateTime.")
}

/// virt-who asks the version 1 namespace first and logs an error unless this code comes back
/// (`clients.md` part 5 item 13).
fn quiet_virt_who(mut fault: Fault, body: &EnumerateBody<'_>) -> Fault {
    if let Some(error) = fault.cim_error.as_mut()
        && error.status == crate::cim::CimStatus::InvalidNamespace.code()
        && body.filter.as_ref().is_some_and(is_wql)
    {
        error.error_code = code::ENUMERATE_CANNOT_PROCESS_FILTER;
    }
    fault
}
