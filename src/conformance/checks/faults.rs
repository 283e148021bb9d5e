//! Part I: faults (DSP0226 clause 14).

use super::super::case::{Case, Checked, Stop};
use super::super::message::{ENUMERATION, Message, MessageId, WQL, filter};
use super::super::row::{Row, rows};
use super::common::{endpoint, unknown_header};
use crate::conformance::answer::FAULT_DETAIL;
use crate::xml::Ns;

pub(super) static ROWS: &[Row] = rows! {
    "C129", "DSP0226 14.1", "a fault has a code, a subcode and a reason" => shape;
    "C130", "DSP0226 14.2", "the reason of a fault says its language" => language;
    "C131", "DSP0226 14.2", "a fault has at most 8192 octets" => size;
    "C132", "DSP0226 14.6", "every mistake has its subcode" => subcodes;
    "C133", "MS-WSMV", "fault details are absolute URIs" => absolute_details;
    "C134", "MS-WSMV", "f:WSManFault has the number of the mistake" => numbers;
    "C135", "DSP0226 14", "faults show nothing of the inside of the server" => discreet;
};

/// A mistake, and the fault it has to be answered with.
struct Mistake {
    message: Message,
    subcode: &'static str,
    detail: Option<&'static str>,
    number: u64,
}

fn mistake(message: Message, subcode: &'static str, detail: Option<&'static str>, number: u64) -> Mistake {
    Mistake { message, subcode, detail, number }
}

/// One mistake for each subcode that an ordinary request can be answered with (`ws-management.md` §13.2).
fn mistakes(case: &Case) -> Result<Vec<Mistake>, Stop> {
    let get = case.get()?;
    let uri = case.subject.class_uri("*");
    let elsewhere = endpoint("a:ReplyTo", "http://conformance.invalid/reply", "");
    let context = "uuid:00000000-0000-0000-0000-000000000000";
    let query = |text: &str| Message::list(uri.clone(), 10, &filter(WQL, text));
    let mut all = vec![
        mistake(
            get.clone().header(&unknown_header(" s:mustUnderstand=\"true\"")),
            "s:MustUnderstand",
            None,
            2_150_858_768,
        ),
        mistake(
            get.clone().with(|get| get.action = Some("urn:wsnapd:unknown/NoSuchMethod".to_owned())),
            "a:ActionNotSupported",
            None,
            2_150_858_771,
        ),
        mistake(
            get.clone().with(|get| get.resource = Some("urn:wsnapd:unknown".to_owned())),
            "a:DestinationUnreachable",
            Some("InvalidResourceURI"),
            2_150_858_811,
        ),
        mistake(case.get_missing()?, "a:DestinationUnreachable", None, 2_150_858_752),
        mistake(
            get.clone().header("<w:Locale xml:lang=\"!!\"/>"),
            "a:InvalidMessageInformationHeader",
            None,
            2_150_858_767,
        ),
        mistake(
            get.clone().timeout("PT0S"),
            "a:InvalidMessageInformationHeader",
            Some("InvalidTimeout"),
            2_150_858_881,
        ),
        mistake(get.clone().with(|get| get.to = None), "a:MessageInformationHeaderRequired", None, 2_150_858_769),
        mistake(query("SELECT FROM"), "n:CannotProcessFilter", None, 2_150_858_778),
        mistake(case.numerous(10, &filter("urn:x", "x")), "n:FilterDialectRequestedUnavailable", None, 2_150_858_777),
        mistake(case.pull(context, ""), "n:InvalidEnumerationContext", None, 2_150_858_779),
        mistake(case.numerous(10, "<n:Expires>PT0S</n:Expires>"), "n:InvalidExpirationTime", None, 2_150_858_774),
        mistake(case.numerous(10, "<n:Expires>soon</n:Expires>"), "n:UnsupportedExpirationType", None, 2_150_859_036),
        mistake(get.clone().max_envelope_size(4096), "w:EncodingLimit", Some("MinimumEnvelopeLimit"), 2_150_858_878),
        mistake(get.clone().also("Foo", "1"), "w:InvalidSelectors", Some("UnexpectedSelectors"), 2_150_858_843),
        mistake(
            Message::new(format!("{ENUMERATION}/Enumerate"), uri.clone()).body("<n:Wrong/>"),
            "w:SchemaValidationError",
            None,
            2_150_858_791,
        ),
        mistake(
            get.with(|get| get.reply_to = elsewhere),
            "w:UnsupportedFeature",
            Some("AddressingMode"),
            2_150_858_870,
        ),
        mistake(
            Message::list(uri.clone(), 10, "<b:PolymorphismMode>None</b:PolymorphismMode>"),
            "b:PolymorphismModeNotSupported",
            None,
            2_150_859_063,
        ),
    ];
    if let Ok(service) = case.service() {
        let number = &case.subject.profile.method.number;
        let method = &case.subject.profile.method.name;
        let wrong = service.invoke(method, &format!("<r:{number}>two</r:{number}>"));
        all.push(mistake(wrong, "w:InvalidParameter", Some("TypeMismatch"), 2_150_858_836));
        let unknown = service.invoke(method, "<r:NoSuchParameter>1</r:NoSuchParameter>");
        all.push(mistake(unknown, "w:InvalidParameter", Some("InvalidName"), 2_150_858_837));
    }
    Ok(all)
}

async fn shape(case: &mut Case) -> Checked {
    for mistake in mistakes(case)? {
        let answer = case.send(&mistake.message).await?;
        let Some(fault) = answer.body().filter(|body| body.is(Ns::Soap, "Fault")) else {
            return case.that(false, "a fault");
        };
        case.that(answer.status == 500, "HTTP 500")?;
        let code = fault.text_at("Code/Value");
        let local = code.rsplit(':').next().unwrap_or_default();
        let plain = matches!(local, "MustUnderstand" | "VersionMismatch");
        case.that(plain || matches!(local, "Sender" | "Receiver"), "a code s:Sender or s:Receiver")?;
        let subcode = fault.at("Code/Subcode/Value").is_some_and(|value| value.qname().is_some());
        case.that(plain || subcode, "a subcode whose prefix is declared")?;
        case.that(!fault.text_at("Reason/Text").is_empty(), "a reason")?;
    }
    Ok(())
}

async fn language(case: &mut Case) -> Checked {
    for message in [case.get_missing()?, case.get()?.also("Foo", "1"), case.get()?.timeout("abc")] {
        let answer = case.send(&message).await?;
        let tag = answer.at("Body/Fault/Reason/Text").and_then(|text| text.attribute(Ns::Xml, "lang"));
        case.that(tag.is_some_and(|tag| !tag.is_empty()), "xml:lang on s:Text")?;
    }
    Ok(())
}

async fn size(case: &mut Case) -> Checked {
    let long = "<&\u{e4}".repeat(10_000);
    let cookie = format!("<c:Cookie xmlns:c=\"urn:wsnapd:conformance\">{}</c:Cookie>", "x".repeat(7000));
    let first = case.first()?;
    let mut messages = vec![
        first.get().also("Foo", &long),
        case.get_missing()?.header(&endpoint("a:FaultTo", crate::soap::ANONYMOUS, &cookie)),
        first.get().with(|get| get.action = Some(format!("urn:wsnapd:{}", "x".repeat(9000)))),
    ];
    messages.push(first.get().also("Foo", "1").with(|get| get.id = MessageId::Is("i".repeat(2048))));
    for message in messages {
        let answer = case.send(&message).await?;
        let octets = answer.raw.body.len();
        case.that(answer.is_fault() && octets <= 8192, format!("a fault of at most 8192 octets; {octets} came"))?;
    }
    Ok(())
}

async fn subcodes(case: &mut Case) -> Checked {
    for mistake in mistakes(case)? {
        let answer = case.send(&mistake.message).await?;
        case.is_fault(&answer, mistake.subcode, None)?;
    }
    Ok(())
}

async fn absolute_details(case: &mut Case) -> Checked {
    for mistake in mistakes(case)?.into_iter().filter(|mistake| mistake.detail.is_some()) {
        let answer = case.send(&mistake.message).await?;
        let detail = answer.text_at("Body/Fault/Detail/FaultDetail");
        let name = mistake.detail.unwrap_or_default();
        case.that(
            detail.starts_with(FAULT_DETAIL) && detail.len() > FAULT_DETAIL.len(),
            format!("the detail {FAULT_DETAIL}{name}"),
        )?;
    }
    Ok(())
}

async fn numbers(case: &mut Case) -> Checked {
    for mistake in mistakes(case)? {
        let answer = case.send(&mistake.message).await?;
        if answer.at("Body/Fault/Detail/WSManFault").is_none() {
            return Err(Stop::NotApplicable("the faults of the server have no f:WSManFault".to_owned()));
        }
        let number = answer.wsman_code();
        case.that(number == Some(mistake.number), format!("f:WSManFault/@Code {}", mistake.number))?;
    }
    Ok(())
}

async fn discreet(case: &mut Case) -> Checked {
    let password = case.subject.options.password.clone();
    for mistake in mistakes(case)? {
        let answer = case.send(&mistake.message).await?;
        let texts = ["panicked", "stack backtrace", ".rs:", "0x7f", "/home/", "/var/lib", "/etc/", "\\src\\"];
        let found = texts.iter().find(|text| answer.text.contains(**text));
        let secret = password.len() >= 4 && answer.text.contains(password.as_str());
        case.that(found.is_none() && !secret, "no path, no stack trace, no secret")?;
    }
    Ok(())
}
