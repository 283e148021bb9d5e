//! The headers judged in the order of `ws-management.md` §4, steps 6 to 8.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use crate::cim::CimError;
use crate::cimom::Principal;
use crate::soap::{ANONYMOUS, Endpoint, Envelope, Fault, Headers, LanguageHeader, Subcode, code, detail};
use crate::time::{DurationError, Timestamp, parse_xs_duration};
use crate::xml::Fragment;

use super::service::{Encoding, Service};

/// Largest MessageID and ActivityId that is taken (C172, C176).
const MAX_ID: usize = 2048;
/// Smallest MaxEnvelopeSize (R6.2-4).
const MIN_ENVELOPE: u64 = 8192;

/// A request whose headers are in order.
pub(super) struct Request<'e, 'a> {
    pub(super) principal: &'e Principal,
    pub(super) headers: &'e Headers<'a>,
    /// The first child of the body.
    pub(super) body: Option<&'e Fragment<'a>>,
    pub(super) action: &'e str,
    pub(super) message_id: &'e str,
    pub(super) encoding: Encoding,
    /// Largest answer in octets of `encoding`.
    pub(super) budget: usize,
    /// Whether the budget is the client's, not ours.
    pub(super) budget_is_clients: bool,
    pub(super) timeout: Duration,
    pub(super) now: Timestamp,
    /// `msftwinrm:UsePreciseArrays`
    pub(super) precise_arrays: bool,
}

impl<'e, 'a> Request<'e, 'a> {
    pub(super) fn check(
        service: &Service,
        principal: &'e Principal,
        envelope: &'e Envelope<'a>,
        encoding: Encoding,
        now: Timestamp,
    ) -> Result<Self, Fault> {
        let headers = &envelope.headers;
        if let Some(problem) = &headers.problem {
            return Err(Fault::new(Subcode::InvalidMessageInformationHeader).reason(format!("{problem}.")));
        }
        if !headers.not_understood.is_empty() {
            return Err(Fault::must_understand(headers.not_understood.clone()));
        }
        let (action, message_id) = required(headers)?;
        let (budget, budget_is_clients) = budget(headers, service.options.limits.max_envelope_size)?;
        let timeout = timeout(headers, service.options.limits.max_timeout)?;
        languages(headers)?;
        let precise_arrays = check_options(headers)?;
        Ok(Self {
            principal,
            headers,
            body: envelope.body.as_ref(),
            action,
            message_id,
            encoding,
            budget,
            budget_is_clients,
            timeout,
            now,
            precise_arrays,
        })
    }

    /// Reference parameters of ReplyTo, which come back as headers.
    pub(super) fn reply_parameters(&self) -> &[Fragment<'a>] {
        self.headers.reply_to.as_ref().map_or(&[], |to| &to.reference_parameters)
    }

    /// Waits for `work`, which is called `what`, for the time that the client gives.
    pub(super) async fn within<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, CimError>>,
    ) -> Result<Result<T, CimError>, Fault> {
        tokio::time::timeout(self.timeout, work).await.map_err(|_| {
            Fault::new(Subcode::TimedOut).reason(format!(
                "{what} did not answer within {} ms; work that was recorded goes on.",
                self.timeout.as_millis()
            ))
        })
    }

    /// The fault for an answer that does not fit (R6.2-2).
    pub(super) fn too_large(&self) -> Fault {
        let (name, number) = if self.budget_is_clients {
            (detail::MAX_ENVELOPE_SIZE_EXCEEDED, code::MAX_ENVELOPE_SIZE_EXCEEDED)
        } else {
            (detail::SERVICE_ENVELOPE_LIMIT, code::SERVER_ENVELOPE_LIMIT)
        };
        Fault::new(Subcode::EncodingLimit)
            .detail(name, number)
            .reason(format!("The answer does not fit into {} octets; allow a larger MaxEnvelopeSize.", self.budget))
    }

    /// When the operation has to be answered.
    pub(super) fn deadline(&self) -> Timestamp {
        self.now + chrono::Duration::from_std(self.timeout).unwrap_or(chrono::Duration::MAX)
    }
}

/// To, Action, MessageID and ReplyTo, then the addressing mode.
fn required<'e>(headers: &'e Headers<'_>) -> Result<(&'e str, &'e str), Fault> {
    let missing = |name: &str| {
        Fault::new(Subcode::MessageInformationHeaderRequired).reason(format!("The header {name} is missing."))
    };
    if headers.to.as_deref().is_none_or(str::is_empty) {
        return Err(missing("wsa:To"));
    }
    let action = headers.action.as_deref().filter(|action| !action.is_empty()).ok_or_else(|| missing("wsa:Action"))?;
    let message_id = headers.message_id.as_deref().unwrap_or_default();
    if message_id.trim().is_empty() || message_id.len() > MAX_ID {
        return Err(Fault::new(Subcode::InvalidMessageInformationHeader)
            .reason(format!("The header wsa:MessageID is missing, empty or longer than {MAX_ID} octets.")));
    }
    let reply_to = headers.reply_to.as_ref().ok_or_else(|| missing("wsa:ReplyTo"))?;
    for endpoint in [Some(reply_to), headers.fault_to.as_ref()].into_iter().flatten() {
        anonymous(endpoint)?;
    }
    Ok((action, message_id))
}

fn anonymous(endpoint: &Endpoint<'_>) -> Result<(), Fault> {
    if endpoint.address == ANONYMOUS {
        return Ok(());
    }
    Err(Fault::new(Subcode::UnsupportedFeature)
        .detail(detail::ADDRESSING_MODE, code::UNSUPPORTED_ADDRESSING_MODE)
        .reason(format!("Answers go back on the same connection only; ReplyTo and FaultTo must be {ANONYMOUS}.")))
}

fn budget(headers: &Headers<'_>, own: usize) -> Result<(usize, bool), Fault> {
    let Some(header) = &headers.max_envelope_size else { return Ok((own, false)) };
    let digits = header.octets.strip_prefix('+').unwrap_or(&header.octets);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::new(Subcode::InvalidMessageInformationHeader)
            .reason("The header wsman:MaxEnvelopeSize is not a positive integer."));
    }
    // More digits than a u64 holds is simply very much.
    let octets: u64 = digits.parse().unwrap_or(u64::MAX);
    if octets == 0 {
        return Err(Fault::new(Subcode::InvalidMessageInformationHeader)
            .reason("The header wsman:MaxEnvelopeSize is not a positive integer."));
    }
    if octets < MIN_ENVELOPE {
        return Err(Fault::new(Subcode::EncodingLimit)
            .detail(detail::MINIMUM_ENVELOPE_LIMIT, code::MIN_ENVELOPE_SIZE)
            .reason(format!("MaxEnvelopeSize must be at least {MIN_ENVELOPE} octets.")));
    }
    let octets = usize::try_from(octets).unwrap_or(usize::MAX);
    Ok(if octets < own { (octets, true) } else { (own, false) })
}

fn timeout(headers: &Headers<'_>, upper: Duration) -> Result<Duration, Fault> {
    let Some(text) = &headers.operation_timeout else { return Ok(upper) };
    let invalid = |reason: &str| {
        Fault::new(Subcode::InvalidMessageInformationHeader)
            .detail(detail::INVALID_TIMEOUT, code::INVALID_TIMEOUT_HEADER)
            .reason(reason)
    };
    match parse_xs_duration(text) {
        Ok(Duration::ZERO) | Err(DurationError::Negative) => {
            Err(invalid("OperationTimeout must be greater than zero."))
        }
        Ok(timeout) => Ok(timeout.min(upper)),
        Err(DurationError::OutOfRange) => Ok(upper),
        Err(DurationError::Malformed) => Err(invalid("OperationTimeout is not an xs:duration such as PT60S.")),
    }
}

fn languages(headers: &Headers<'_>) -> Result<(), Fault> {
    if let Some(locale) = &headers.locale {
        language(locale, "Locale", detail::LOCALE)?;
    }
    if let Some(locale) = &headers.data_locale {
        language(locale, "DataLocale", detail::DATA_LOCALE)?;
    }
    if headers.activity_id.as_ref().is_some_and(|id| id.chars().count() > MAX_ID) {
        return Err(Fault::new(Subcode::InvalidMessageInformationHeader)
            .reason(format!("The header ActivityId is longer than {MAX_ID} characters.")));
    }
    Ok(())
}

fn language(header: &LanguageHeader<'_>, name: &str, fault_detail: &'static str) -> Result<(), Fault> {
    if header.must_understand {
        return Err(Fault::new(Subcode::UnsupportedFeature)
            .detail(fault_detail, code::MUSTUNDERSTAND_ON_LOCALE_UNSUPPORTED)
            .reason(format!("The header {name} cannot be honoured; send it without mustUnderstand.")));
    }
    let tag = header.language.as_deref().map_or(Cow::Borrowed(""), |tag| Cow::Borrowed(tag.trim()));
    let is_tag = tag.is_empty()
        || tag.split('-').enumerate().all(|(index, part)| {
            (1..=8).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit()))
        });
    if is_tag {
        Ok(())
    } else {
        Err(Fault::new(Subcode::InvalidMessageInformationHeader)
            .reason(format!("The header {name} names no language: \"{tag}\".")))
    }
}

/// Judges the options (`ws-management.md` §3.4); the answer is `UsePreciseArrays`.
///
/// CIM resources let unknown options pass, with `MustComply` too, as Windows does.
fn check_options(headers: &Headers<'_>) -> Result<bool, Fault> {
    let Some(set) = &headers.options else { return Ok(false) };
    if set.too_many {
        return Err(Fault::new(Subcode::EncodingLimit)
            .detail(detail::OPTION_LIMIT, code::OPTION_LIMIT)
            .reason("The OptionSet has more than 256 options."));
    }
    if set.options.iter().any(|option| option.name.trim().is_empty()) {
        return Err(Fault::new(Subcode::InvalidOptions)
            .detail(detail::INVALID_NAME, code::OPTIONS_INVALID_NAME)
            .reason("An option has no Name attribute."));
    }
    match set.value("msftwinrm:UsePreciseArrays").map(str::trim) {
        None | Some("") => Ok(false),
        Some(value) if value.eq_ignore_ascii_case("true") || value == "1" => Ok(true),
        Some(value) if value.eq_ignore_ascii_case("false") || value == "0" => Ok(false),
        Some(_) => Err(Fault::new(Subcode::InvalidOptions)
            .detail(detail::INVALID_VALUE, code::OPTIONS_INVALID_VALUE)
            .reason("The option msftwinrm:UsePreciseArrays is neither true nor false.")),
    }
}
