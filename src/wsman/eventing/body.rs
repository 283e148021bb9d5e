//! The bodies of Subscribe and Renew (`ws-management.md` §9.1).

use std::time::Duration;

use crate::soap::{Fault, Subcode, code, copy_reference_parameters, detail};
use crate::time::{DurationError, Timestamp, parse_xs_duration};
use crate::xml::{Element, Fragment, Ns, Reader, XmlError};

use super::super::request::Request;
use super::terms::{Address, DeliveryMode, Policy, Retry};

/// The dialect of event queries.
const WQL: &str = "http://schemas.microsoft.com/wbem/wsman/1/WQL";
const WQL_ALIAS: &str = "http://schemas.dmtf.org/wbem/wsman/1/WQL";
/// The dialects a client is told of when it asks for another one.
const SUPPORTED: &[&str] = &[WQL];
/// Smallest MaxEnvelopeSize (R6.2-4).
const MIN_ENVELOPE: usize = 8192;
/// Longest query that is kept.
const MAX_QUERY: usize = 32 * 1024;
/// Most octets of the reference parameters of a sink.
const MAX_PARAMETERS: usize = 4096;

/// What a Subscribe asks for.
pub(super) struct SubscribeBody {
    pub(super) delivery: Delivery,
    pub(super) end_to: Option<Address>,
    pub(super) expires: Option<Expires>,
    pub(super) query: Option<String>,
    pub(super) bookmark: Option<String>,
    pub(super) send_bookmarks: bool,
}

/// `e:Delivery`
pub(super) struct Delivery {
    pub(super) mode: DeliveryMode,
    pub(super) notify_to: Option<Address>,
    pub(super) heartbeats: Option<Duration>,
    pub(super) retry: Option<Retry>,
    pub(super) max_elements: Option<u32>,
    pub(super) max_time: Option<Duration>,
    pub(super) max_envelope: Option<usize>,
    pub(super) policy: Policy,
    pub(super) utf16: bool,
}

impl Delivery {
    /// What holds when there is no `e:Delivery` or nothing in it.
    const fn new(mode: DeliveryMode) -> Self {
        Self {
            mode,
            notify_to: None,
            heartbeats: None,
            retry: None,
            max_elements: None,
            max_time: None,
            max_envelope: None,
            policy: Policy::Notify,
            utf16: false,
        }
    }
}

/// `e:Expires`, and whether it is to be answered as a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expires {
    pub(super) at: Timestamp,
    pub(super) is_date: bool,
}

/// `e:InvalidMessage`
pub(super) fn invalid(reason: impl Into<String>) -> Fault {
    Fault::new(Subcode::EventingInvalidMessage).reason(reason)
}

fn malformed(error: &XmlError) -> Fault {
    invalid(format!("The body cannot be read: {error}."))
}

fn text(reader: &mut Reader<'_>) -> Result<String, Fault> {
    reader.text_content().map(|text| text.trim().to_owned()).map_err(|error| malformed(&error))
}

/// The body element of a request, which must be of WS-Eventing.
fn open<'a>(request: &Request<'_, 'a>, local: &str) -> Result<Reader<'a>, Fault> {
    if let Some(body) = request.body {
        let (reader, element) = body.open().map_err(|error| malformed(&error))?;
        if element.is(Ns::Eventing, local) {
            return Ok(reader);
        }
    }
    Err(invalid(format!("The body does not hold a wse:{local} element.")).code(code::INVALID_SOAP_BODY))
}

/// Reads the body of Subscribe.
pub(super) fn read_subscribe(request: &Request<'_, '_>) -> Result<SubscribeBody, Fault> {
    let mut reader = open(request, "Subscribe")?;
    let mut body = SubscribeBody {
        delivery: Delivery::new(DeliveryMode::Push),
        end_to: None,
        expires: None,
        query: None,
        bookmark: None,
        send_bookmarks: false,
    };
    let mut filters = 0;
    while let Some(child) = reader.next_child().map_err(|error| malformed(&error))? {
        match (child.name().ns, child.local()) {
            (Ns::Eventing, "Delivery") => body.delivery = delivery(&mut reader, &child)?,
            (Ns::Eventing, "EndTo") => body.end_to = Some(end_to(&mut reader, &child)?),
            (Ns::Eventing, "Expires") => body.expires = Some(expires(&text(&mut reader)?, request.now)?),
            (Ns::Eventing | Ns::Wsman, "Filter") => {
                filters += 1;
                if filters > 1 {
                    return Err(invalid("Only one filter may be given."));
                }
                body.query = Some(query(&mut reader, &child)?);
            }
            (Ns::Wsman, "Bookmark") => body.bookmark = Some(bookmark(&mut reader, &child)?),
            (Ns::Wsman, "SendBookmarks") => {
                body.send_bookmarks = true;
                reader.skip().map_err(|error| malformed(&error))?;
            }
            _ => reader.skip().map_err(|error| malformed(&error))?,
        }
    }
    if body.delivery.mode != DeliveryMode::Pull && body.delivery.notify_to.is_none() {
        return Err(invalid("This delivery mode needs wse:NotifyTo.").code(code::EVENTING_MISSING_NOTIFYTO));
    }
    Ok(body)
}

/// Reads the body of Renew.
pub(super) fn read_renew(request: &Request<'_, '_>) -> Result<Option<Expires>, Fault> {
    let mut reader = open(request, "Renew")?;
    let mut found = None;
    while let Some(child) = reader.next_child().map_err(|error| malformed(&error))? {
        if child.is(Ns::Eventing, "Expires") {
            found = Some(expires(&text(&mut reader)?, request.now)?);
        } else {
            reader.skip().map_err(|error| malformed(&error))?;
        }
    }
    Ok(found)
}

fn delivery<'a>(reader: &mut Reader<'a>, element: &Element<'a>) -> Result<Delivery, Fault> {
    let uri = element.attribute(Ns::None, "Mode").map(str::trim);
    let mode = match uri.map(|uri| (uri, DeliveryMode::from_uri(uri))) {
        None => DeliveryMode::Push,
        Some((_, Some(mode))) => mode,
        Some((uri, None)) => {
            let mut fault = Fault::new(Subcode::DeliveryModeRequestedUnavailable)
                .reason(format!("The delivery mode {uri} is not supported."));
            fault.supported_dialects = DeliveryMode::URIS;
            return Err(fault);
        }
    };
    let mut delivery = Delivery::new(mode);
    while let Some(child) = reader.next_child().map_err(|error| malformed(&error))? {
        delivery_child(reader, &child, &mut delivery)?;
    }
    Ok(delivery)
}

fn delivery_child<'a>(reader: &mut Reader<'a>, child: &Element<'a>, delivery: &mut Delivery) -> Result<(), Fault> {
    match (child.name().ns, child.local()) {
        (Ns::Eventing, "NotifyTo") => {
            let address = address(&reader.fragment(child).map_err(|error| malformed(&error))?)?;
            // Some clients name a sink with Pull too; nothing is sent there.
            if delivery.mode != DeliveryMode::Pull {
                let Some(found) = address else {
                    return Err(invalid("wse:NotifyTo has no address.").code(code::EVENTING_MISSING_NOTIFYTO_ADDRESS));
                };
                delivery.notify_to = Some(found);
            }
        }
        (Ns::Wsman, "Heartbeats") => {
            let time = positive_duration(&text(reader)?).ok_or_else(|| {
                invalid("Heartbeats is not a duration above zero.").code(code::EVENTING_INVALID_HEARTBEAT)
            })?;
            delivery.heartbeats = Some(time);
        }
        (Ns::Wsman, "ConnectionRetry") => {
            let total = child.attribute(Ns::None, "Total").map(|total| total.trim().to_owned());
            delivery.retry = retry(total.as_deref(), &text(reader)?)?;
        }
        (Ns::Wsman, "MaxElements") => delivery.max_elements = Some(positive(&text(reader)?, "MaxElements")?),
        (Ns::Wsman, "MaxTime") => {
            let time = positive_duration(&text(reader)?);
            delivery.max_time = Some(time.ok_or_else(|| invalid("MaxTime is not a duration above zero."))?);
        }
        (Ns::Wsman, "MaxEnvelopeSize") => {
            delivery.policy = policy(child.attribute(Ns::None, "Policy"))?;
            delivery.max_envelope = Some(envelope_size(&text(reader)?)?);
        }
        (Ns::Wsman, "ContentEncoding") => delivery.utf16 = is_utf16(&text(reader)?)?,
        (Ns::Wsman, "Auth") => {
            return Err(Fault::new(Subcode::UnsupportedFeature)
                .detail(detail::AUTHORIZATION_MODE, code::AUTHORIZATION_MODE_NOT_SUPPORTED)
                .reason("Events are delivered without credentials; leave wsman:Auth out."));
        }
        // Texts are in one language; wsman:Locale is a wish.
        _ => reader.skip().map_err(|error| malformed(&error))?,
    }
    Ok(())
}

/// The address and the reference parameters of a sink; none when there is no address.
fn address(fragment: &Fragment<'_>) -> Result<Option<Address>, Fault> {
    let (mut reader, _) = fragment.open().map_err(|error| malformed(&error))?;
    let (mut url, mut parameters) = (None, Vec::new());
    while let Some(child) = reader.next_child().map_err(|error| malformed(&error))? {
        match (child.name().ns, child.local()) {
            (Ns::Addressing, "Address") => url = Some(text(&mut reader)?),
            (Ns::Addressing, "ReferenceParameters" | "ReferenceProperties") => {
                while let Some(parameter) = reader.next_child().map_err(|error| malformed(&error))? {
                    parameters.push(reader.fragment(&parameter).map_err(|error| malformed(&error))?);
                }
            }
            _ => reader.skip().map_err(|error| malformed(&error))?,
        }
    }
    let parameters = copy_reference_parameters(&parameters);
    if parameters.len() > MAX_PARAMETERS {
        return Err(invalid(format!("The reference parameters of a sink are longer than {MAX_PARAMETERS} octets.")));
    }
    Ok(url.filter(|url| !url.is_empty()).map(|url| Address { url, parameters }))
}

fn end_to<'a>(reader: &mut Reader<'a>, element: &Element<'a>) -> Result<Address, Fault> {
    let address = address(&reader.fragment(element).map_err(|error| malformed(&error))?)?;
    address.ok_or_else(|| {
        Fault::new(Subcode::UnsupportedFeature)
            .detail(detail::ADDRESSING_MODE, code::EVENTING_INVALID_ENDTO_ADDRESS)
            .reason("wse:EndTo has no address.")
    })
}

fn positive_duration(text: &str) -> Option<Duration> {
    parse_xs_duration(text).ok().filter(|time| !time.is_zero())
}

fn positive(text: &str, name: &str) -> Result<u32, Fault> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // What is larger than fits is as large as fits.
    let number = if is_number { digits.parse().unwrap_or(u32::MAX) } else { 0 };
    if number == 0 { Err(invalid(format!("{name} is not a positive integer."))) } else { Ok(number) }
}

fn envelope_size(text: &str) -> Result<usize, Fault> {
    let octets = usize::try_from(positive(text, "MaxEnvelopeSize")?).unwrap_or(usize::MAX);
    if octets < MIN_ENVELOPE {
        return Err(Fault::new(Subcode::EncodingLimit)
            .detail(detail::MINIMUM_ENVELOPE_LIMIT, code::MIN_ENVELOPE_SIZE)
            .reason(format!("MaxEnvelopeSize must be at least {MIN_ENVELOPE} octets.")));
    }
    Ok(octets)
}

fn policy(text: Option<&str>) -> Result<Policy, Fault> {
    match text.map(str::trim) {
        None | Some("Notify") => Ok(Policy::Notify),
        Some("Skip") => Ok(Policy::Skip),
        Some("CancelSubscription") => Ok(Policy::CancelSubscription),
        Some(other) => Err(invalid(format!("The policy \"{other}\" of MaxEnvelopeSize is not known."))),
    }
}

/// Both values zero is no retry; one of them zero is a mistake (C098).
fn retry(total: Option<&str>, pause: &str) -> Result<Option<Retry>, Fault> {
    let wrong = || {
        Fault::new(Subcode::InternalError)
            .code(code::INVALID_CONNECTIONRETRY)
            .reason("ConnectionRetry needs a duration and Total, both zero or both above zero.")
    };
    let total: u32 = total.and_then(|total| total.parse().ok()).ok_or_else(wrong)?;
    let pause = parse_xs_duration(pause).map_err(|_| wrong())?;
    if (total == 0) != pause.is_zero() {
        return Err(wrong());
    }
    Ok(Some(Retry { total, pause }))
}

fn is_utf16(text: &str) -> Result<bool, Fault> {
    if text.eq_ignore_ascii_case("UTF-16") {
        return Ok(true);
    }
    if text.eq_ignore_ascii_case("UTF-8") {
        return Ok(false);
    }
    Err(Fault::new(Subcode::EncodingLimit)
        .detail(detail::CHARACTER_SET, code::CHARACTER_SET)
        .reason("Events are delivered in UTF-8 or UTF-16."))
}

/// A duration or a point in time, not in the past. What lies beyond all time is as far as time goes.
fn expires(text: &str, now: Timestamp) -> Result<Expires, Fault> {
    let past =
        || Fault::new(Subcode::EventingInvalidExpirationTime).reason("Expires is zero, negative or in the past.");
    let unsupported = || {
        Fault::new(Subcode::EventingUnsupportedExpirationType)
            .reason("Expires is neither an xs:duration nor an xs:dateTime.")
    };
    if text.starts_with(['P', '-']) {
        let at = match parse_xs_duration(text) {
            Ok(Duration::ZERO) | Err(DurationError::Negative) => return Err(past()),
            Ok(time) => chrono::Duration::from_std(time).ok().and_then(|time| now.checked_add_signed(time)),
            Err(DurationError::OutOfRange) => None,
            Err(DurationError::Malformed) => return Err(unsupported()),
        };
        return Ok(Expires { at: at.unwrap_or(Timestamp::MAX_UTC), is_date: false });
    }
    let at = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| unsupported())?.to_utc();
    if at <= now { Err(past()) } else { Ok(Expires { at, is_date: true }) }
}

/// The text of a filter, which must be of the one dialect there is.
fn query<'a>(reader: &mut Reader<'a>, element: &Element<'a>) -> Result<String, Fault> {
    let dialect = element.attribute(Ns::None, "Dialect").unwrap_or_default().trim();
    if ![WQL, WQL_ALIAS].iter().any(|known| dialect.eq_ignore_ascii_case(known)) {
        let mut fault = Fault::new(Subcode::FilteringRequestedUnavailable)
            .reason(format!("The filter dialect \"{dialect}\" is not supported for events."));
        fault.supported_dialects = SUPPORTED;
        return Err(fault);
    }
    let text = reader.text_content().map_err(|_| invalid("The filter of this dialect is text without elements."))?;
    if text.len() > MAX_QUERY {
        return Err(invalid(format!("The filter is longer than {MAX_QUERY} octets.")));
    }
    Ok(text.into_owned())
}

/// The text of a bookmark. Those of this server are plain text.
fn bookmark<'a>(reader: &mut Reader<'a>, element: &Element<'a>) -> Result<String, Fault> {
    let fragment = reader.fragment(element).map_err(|error| malformed(&error))?;
    let (mut inner, _) = fragment.open().map_err(|error| malformed(&error))?;
    let text = inner.text_content().map_err(|_| {
        Fault::new(Subcode::InvalidBookmark)
            .detail(detail::INVALID_FORMAT, code::INVALID_BOOKMARK)
            .reason("The bookmark holds elements; those of this server are text.")
    })?;
    Ok(text.trim().to_owned())
}
