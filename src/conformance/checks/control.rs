//! Part B: control headers (DSP0226 clause 6).

use std::time::Instant;

use bytes::Bytes;

use super::super::case::{Case, Checked, Stop, has_header};
use super::super::message::{Message, option};
use super::super::row::{Row, rows};
use super::super::subject::{EPR_TOO, MARK, soap_request, wmi_uri};
use super::common::endpoint;
use super::eventing::pull_in_vain;
use crate::client::RawRequest;
use crate::conformance::subject::Found;
use crate::soap::ANONYMOUS;
use crate::xml::Ns;

pub(super) static ROWS: &[Row] = rows! {
    "C031", "R6.1-1", "OperationTimeout counts from the start of the work" => timeout_counts;
    "C032", "R6.1-2", "a timeout that is none is refused with InvalidTimeout" => invalid_timeout;
    "C033", "R6.1-3", "timeouts are honoured, or refused as a feature" => timeouts_supported;
    "C034", "R6.1-4", "without a timeout the default of the service holds" => default_timeout;
    "C035", "DSP0226 6.1", "a timeout beyond the maximum is reduced, not refused" => long_timeout;
    "C036", "R6.2-2", "an answer larger than MaxEnvelopeSize is a fault; finished work is told" => envelope_limit;
    "C037", "R6.2-3", "MaxEnvelopeSize without mustUnderstand is obeyed or ignored" => optional_envelope_limit;
    "C038", "R6.2-4", "MaxEnvelopeSize below 8192 is refused" => smallest_envelope;
    "C039", "DSP0226 6.2", "MaxEnvelopeSize counts octets as they are transmitted" => transmitted_octets;
    "C040", "R6.3-1", "Locale is a hint" => locale_hint;
    "C041", "R6.3-2", "Locale marked mustUnderstand is honoured or refused" => locale_must;
    "C042", "R6.3-3", "a Locale names a language" => locale_valid;
    "C043", "R6.3-4", "answers say their language" => answer_language;
    "C044", "R6.3-5", "another Locale in a Pull does no harm" => locale_of_pull;
    "C045", "R6.4-3", "options on a resource without any are ignored, or refused where they must be understood" => no_options;
    "C046", "DSP0226 6.4", "an option that must be complied with and is unknown is refused" => must_comply;
    "C047", "DSP0226 6.4", "a wrong value of an option is refused" => option_value;
    "C048", "DSP0226 6.4", "too many options are refused" => option_limit;
    "C049", "R6.5-1", "RequestEPR is ignored or answered" => request_epr;
};

async fn timeout_counts(case: &mut Case) -> Checked {
    let taken = if let Some(slow) = case.subject.profile.slow.clone() {
        let target = first_of(case, &slow.namespace, &slow.class).await?;
        let begun = Instant::now();
        case.fault(&target.invoke(&slow.method, &slow.input).timeout("PT1S"), "w:TimedOut", None).await?;
        begun.elapsed().as_secs_f64()
    } else {
        let (answer, taken) = pull_in_vain(case, "", "PT1S").await.map_err(|stop| without(stop, "slow method"))?;
        case.is_fault(&answer, "w:TimedOut", None)?;
        taken
    };
    case.that((0.9..4.0).contains(&taken), format!("the fault after about a second; it came after {taken:.1} s"))
}

/// Why a check that would do with events cannot be made without them: the profile does not name the better thing.
pub(super) fn without(stop: Stop, wanted: &str) -> Stop {
    match stop {
        Stop::NotOffered(fault) => {
            Stop::NotApplicable(format!("the profile names no {wanted}, and events are not offered: {fault}"))
        }
        other => other,
    }
}

async fn invalid_timeout(case: &mut Case) -> Checked {
    for timeout in ["PT0S", "-PT1S", "abc"] {
        let message = case.get()?.timeout(timeout);
        case.fault(&message, "a:InvalidMessageInformationHeader", Some("InvalidTimeout")).await?;
    }
    Ok(())
}

async fn timeouts_supported(case: &mut Case) -> Checked {
    let answer = case.send(&case.get()?.timeout("PT60.000S")).await?;
    let refused = answer.has_fault("w:UnsupportedFeature", Some("OperationTimeout"));
    let answered = answer.status == 200 && !answer.is_fault();
    case.that(answered || refused, "an ordinary answer, or the fault w:UnsupportedFeature with OperationTimeout")
}

async fn default_timeout(case: &mut Case) -> Checked {
    let message = case.get()?;
    case.ok(&message).await?;
    if let Some(maximum) = case.subject.setting("MaxTimeoutms") {
        case.that(maximum >= 500, "a MaxTimeoutms of 500 or more")?;
    }
    Ok(())
}

async fn long_timeout(case: &mut Case) -> Checked {
    for timeout in ["PT1H", "P30DT0H0M0S"] {
        let message = case.get()?.timeout(timeout);
        case.ok(&message).await?;
    }
    Ok(())
}

/// A long answer, and how long it is in UTF-8.
async fn long_answer(case: &mut Case) -> Result<(Message, u64), Stop> {
    let message = case.class_definition();
    let long = case.subject.quiet(&message).await.map_or(0, |answer| answer.raw.body.len());
    let long = u64::try_from(long).unwrap_or(u64::MAX);
    if long <= 12_000 {
        return Err(Stop::NotApplicable("no answer of the server is known to be longer than 12,000 octets".to_owned()));
    }
    Ok((message, long))
}

async fn envelope_limit(case: &mut Case) -> Checked {
    let (message, _) = long_answer(case).await?;
    let either = [("w:EncodingLimit", Some("MaxEnvelopeSizeExceeded")), ("w:EncodingLimit", Some("MaxEnvelopeSize"))];
    case.fault_of(&message.max_envelope_size(8192), &either).await?;
    let Some(change) = case.subject.profile.change.clone() else { return Ok(()) };
    // A reference parameter that has to come back makes the answer to a method too long.
    let filling = format!("<c:Filling xmlns:c=\"urn:wsnapd:conformance\">{}</c:Filling>", "x".repeat(8000));
    let name = format!("{MARK} unreportable");
    let input = change.input.replace("{instance}", &case.first()?.reference()).replace("{name}", &name);
    let message = case.service()?.invoke(&change.method, &input).max_envelope_size(8192);
    let message = message.with(|message| message.reply_to = endpoint("a:ReplyTo", ANONYMOUS, &filling));
    case.fault(&message, "w:EncodingLimit", Some("UnreportableSuccess")).await?;
    for _ in 0..40 {
        if !case.subject.found(&case.subject.query(&change.find.replace("{name}", &name))).await.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    case.that(false, "that the work was done all the same")
}

async fn optional_envelope_limit(case: &mut Case) -> Checked {
    let (message, _) = long_answer(case).await?;
    let message = message.header("<w:MaxEnvelopeSize s:mustUnderstand=\"false\">8192</w:MaxEnvelopeSize>");
    let answer = case.send(&message).await?;
    let ignored = answer.status == 200 && !answer.is_fault();
    case.that(ignored || answer.has_fault("w:EncodingLimit", None), "an ordinary answer, or the fault w:EncodingLimit")
}

async fn smallest_envelope(case: &mut Case) -> Checked {
    let message = case.get()?.max_envelope_size(4096);
    case.fault(&message, "w:EncodingLimit", Some("MinimumEnvelopeLimit")).await?;
    Ok(())
}

/// A request in UTF-16 with a byte-order mark.
pub(super) fn utf16_request(text: &str) -> RawRequest {
    let mut bytes = vec![0xff, 0xfe];
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    let headers = vec![("Content-Type".to_owned(), "application/soap+xml;charset=UTF-16".to_owned())];
    RawRequest { headers, body: Bytes::from(bytes), ..soap_request("") }
}

async fn transmitted_octets(case: &mut Case) -> Checked {
    let (message, long) = long_answer(case).await?;
    let limit = long + 3000;
    let message = message.max_envelope_size(limit);
    case.ok(&message).await?;
    let text = message.text(&case.subject.new_id());
    let answer = case.raw(&utf16_request(&text)).await?;
    case.is_fault(&answer, "w:EncodingLimit", None)?;
    let list = case.numerous(1000, "").max_envelope_size(16_384).text(&case.subject.new_id());
    let answer = case.raw(&utf16_request(&list)).await?;
    let octets = answer.raw.body.len();
    case.tidy(&answer.context()).await;
    case.that(octets <= 16_384 && !answer.is_fault(), format!("at most 16,384 octets; {octets} came"))
}

async fn locale_hint(case: &mut Case) -> Checked {
    let message = case.get()?.header("<w:Locale xml:lang=\"fr-FR\" s:mustUnderstand=\"false\"/>");
    case.ok(&message).await?;
    Ok(())
}

async fn locale_must(case: &mut Case) -> Checked {
    let message = case.get()?.header("<w:Locale xml:lang=\"fr-FR\" s:mustUnderstand=\"true\"/>");
    let answer = case.send(&message).await?;
    let localised =
        answer.tree.as_ref().and_then(|tree| tree.attribute(Ns::Xml, "lang")).is_some_and(|tag| tag.starts_with("fr"));
    let refused = answer.has_fault("w:UnsupportedFeature", Some("Locale"));
    case.that(localised || refused, "an answer in French, or the fault w:UnsupportedFeature with Locale")
}

async fn locale_valid(case: &mut Case) -> Checked {
    let message = case.get()?.header("<w:Locale xml:lang=\"!!\"/>");
    case.fault(&message, "a:InvalidMessageInformationHeader", None).await?;
    Ok(())
}

async fn answer_language(case: &mut Case) -> Checked {
    let answer = case.send(&case.get()?).await?;
    let tag = answer.tree.as_ref().and_then(|tree| tree.attribute(Ns::Xml, "lang"));
    case.that(tag.is_some_and(|tag| !tag.is_empty()), "xml:lang on the envelope")
}

async fn locale_of_pull(case: &mut Case) -> Checked {
    let open = case.numerous_plain().header("<w:Locale xml:lang=\"en-US\"/>");
    let context = case.open(&open).await?;
    let pull = case.pull(&context, "").header("<w:Locale xml:lang=\"fr-FR\"/>");
    let answer = case.ok(&pull).await?;
    case.tidy(&answer.context()).await;
    case.that(answer.items().len() == 1, "one item")
}

async fn no_options(case: &mut Case) -> Checked {
    let get = case.configuration()?;
    case.ok(&get.clone().options(&option("Unknown", "1"))).await?;
    let must = format!("<w:OptionSet s:mustUnderstand=\"true\">{}</w:OptionSet>", option("Unknown", "1"));
    case.fault(&get.header(&must), "s:MustUnderstand", None).await?;
    Ok(())
}

async fn must_comply(case: &mut Case) -> Checked {
    let get = case.configuration()?.options("<w:Option Name=\"Unknown\" MustComply=\"true\">1</w:Option>");
    case.fault(&get, "w:InvalidOptions", Some("NotSupported")).await?;
    Ok(())
}

async fn option_value(case: &mut Case) -> Checked {
    let cim = &case.subject.profile.cim;
    let message = Message::get(super::super::message::CLASS_SCHEMA)
        .also("__cimnamespace", &cim.namespace)
        .also("ClassName", &cim.class)
        .options(&option("IncludeQualifiers", "maybe"));
    case.fault(&message, "w:InvalidOptions", Some("InvalidValue")).await?;
    Ok(())
}

async fn option_limit(case: &mut Case) -> Checked {
    let many: String = (0..2000).map(|number| option(&format!("o{number}"), "1")).collect();
    let message = case.get()?.options(&many);
    case.fault(&message, "w:EncodingLimit", Some("OptionLimit")).await?;
    Ok(())
}

async fn request_epr(case: &mut Case) -> Checked {
    let get = case.get()?;
    case.ok(&get.clone().header("<w:RequestEPR/>")).await?;
    let answer = case.send(&get.header("<w:RequestEPR s:mustUnderstand=\"true\"/>")).await?;
    let told = has_header(&answer, Ns::Wsman, "RequestedEPR");
    case.that(
        told || answer.has_fault("s:MustUnderstand", None),
        "the header w:RequestedEPR, or the fault s:MustUnderstand",
    )
}

/// The first instance of a class of any namespace.
pub(super) async fn first_of(case: &Case, namespace: &str, class: &str) -> Result<Found, Stop> {
    let found = case.subject.found(&Message::list(wmi_uri(namespace, class), 1, EPR_TOO)).await;
    found.into_iter().next().ok_or_else(|| Stop::NotApplicable(format!("there is no instance of {class}")))
}
