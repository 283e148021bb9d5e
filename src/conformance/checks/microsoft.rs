//! Part L: the extensions of Microsoft (MS-WSMV).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::super::case::{Case, Checked, Stop, has_header};
use super::super::message::{
    CONFIG, DMTF_ALL, DMTF_CLASS, Message, MessageId, TRANSFER, WQL, escaped, filter, option, selector,
};
use super::super::row::{Row, rows};
use super::super::subject::{EPR_TOO, MARK, soap_request, wmi_uri};
use super::common::endpoint;
use super::enumeration::{idle, selector_filter};
use crate::client::{RawAnswer, RawClient, RawRequest};
use crate::conformance::answer::Answer;
use crate::conformance::ntlm::{self, Logon};
use crate::xml::Ns;

pub(super) static ROWS: &[Row] = rows! {
    "C171", "3.1.4.1.3", "a missing ReplyTo and a wrong one are different mistakes" => reply_to;
    "C172", "3.1.4.1.5", "a MessageID has up to 2 KiB of any form" => long_message_id;
    "C173", "3.1.4.1.6", "without MaxEnvelopeSize and OperationTimeout the settings hold" => default_limits;
    "C174", "3.1.4.1.8", "Locale and DataLocale cannot be made a must" => locales;
    "C175", "3.1.4.1.10", "wmi: options reach the provider in order" => provider_options;
    "C176", "3.1.4.1.12", "an ActivityId has up to 2048 characters" => activity_id;
    "C177", "3.1.4.1.13", "a selector filter takes what can be compared, once" => selector_filters;
    "C178", "3.1.4.1.14", "MaxElements is capped by MaxBatchItems" => batch_items;
    "C179", "3.1.4.1.17", "every EnumerationMode works on listeners and on CIM classes" => modes;
    "C180", "3.1.4.1.20", "a request that is too long is answered 413" => too_long;
    "C181", "3.1.4.1.25", "control characters come as question marks" => control_characters;
    "C182", "3.1.4.1.28", "reading, writing and calling are different rights" => rights;
    "C183", "3.1.4.1.34.1", "an exact URI goes before a prefix" => routing;
    "C184", "3.1.4.1.36", "what idles is collected" => collected;
    "C185", "3.1.4.1.39", "OperationID and SequenceId stay out of answers without robust connections" => no_operation_id;
    "C186", "3.1.5.2", "a request that comes too slowly is given up" => slow_request;
    "C187", "2.2.9.1", "sealed messages are taken and sent after Negotiate" => sealing;
};

async fn reply_to(case: &mut Case) -> Checked {
    let missing = case.get()?.with(|get| get.reply_to.clear());
    case.fault(&missing, "a:MessageInformationHeaderRequired", None).await?;
    let wrong = case.get()?.with(|get| get.reply_to = endpoint("a:ReplyTo", "http://conformance.invalid/reply", ""));
    case.fault(&wrong, "w:UnsupportedFeature", None).await?;
    Ok(())
}

async fn long_message_id(case: &mut Case) -> Checked {
    for id in ["x".repeat(2048), "no URI at all, with spaces".to_owned()] {
        let message = case.get()?.with(|get| get.id = MessageId::Is(id));
        case.ok(&message).await?;
    }
    Ok(())
}

async fn default_limits(case: &mut Case) -> Checked {
    let answer = case.ok(&case.numerous(32_000, "")).await?;
    case.tidy(&answer.context()).await;
    let limit = case.subject.setting("MaxEnvelopeSizekb").unwrap_or(500).saturating_mul(1024);
    let octets = u64::try_from(answer.raw.body.len()).unwrap_or(u64::MAX);
    case.that(octets <= limit, format!("at most {limit} octets; {octets} came"))
}

async fn locales(case: &mut Case) -> Checked {
    for (name, detail) in [("w:Locale", "Locale"), ("p:DataLocale", "DataLocale")] {
        let message = case.get()?.header(&format!("<{name} xml:lang=\"en-US\" s:mustUnderstand=\"true\"/>"));
        case.fault(&message, "w:UnsupportedFeature", Some(detail)).await?;
        let message = case.get()?.header(&format!("<{name} xml:lang=\"en-US\" s:mustUnderstand=\"false\"/>"));
        case.ok(&message).await?;
    }
    Ok(())
}

async fn provider_options(case: &mut Case) -> Checked {
    let probe = case.subject.profile.probe.clone();
    let probe = probe.and_then(|probe| Some((probe.namespace, probe.options_class?, probe.options_property?)));
    let Some((namespace, class, property)) = probe else {
        return Err(Stop::NotApplicable("the profile names no class that shows its options".to_owned()));
    };
    let options = [("wmi:First", "1"), ("wmiarray:List", "b"), ("wmiarray:List", "a"), ("plain", "no")];
    let xml: String = options.iter().map(|(name, value)| option(name, value)).collect();
    let items = case.items(&Message::list(wmi_uri(&namespace, &class), 1, "").options(&xml)).await?;
    let shown: Vec<&str> =
        items.first().map_or_else(Vec::new, |item| item.all(&property).map(|value| value.text.trim()).collect());
    case.that(shown == ["First=1", "List=b", "List=a"], "First=1, List=b, List=a")
}

async fn activity_id(case: &mut Case) -> Checked {
    for (length, good) in [(2048, true), (2049, false)] {
        let header = format!("<p:ActivityId s:mustUnderstand=\"false\">{}</p:ActivityId>", "x".repeat(length));
        let message = case.get()?.header(&header);
        if good {
            case.ok(&message).await?;
        } else {
            case.fault(&message, "a:InvalidMessageInformationHeader", None).await?;
        }
    }
    Ok(())
}

async fn selector_filters(case: &mut Case) -> Checked {
    let cim = case.subject.profile.cim.clone();
    let first = case.first()?;
    let uri = case.subject.class_uri(&cim.class);
    let list = |selectors: &str| Message::list(uri.clone(), 1000, &selector_filter(selectors));
    let value = first.property(&cim.text_property);
    let items = case.items(&list(&selector(&cim.text_property, value))).await?;
    let right = items.iter().all(|item| item.text_at(&cim.text_property).eq_ignore_ascii_case(value));
    case.that(right && !items.is_empty(), format!("the instances whose {} is {value}", cim.text_property))?;
    for wrong in [
        selector(&cim.array_property, "2"),
        selector(&cim.datetime_property, "2026-01-15T10:20:30Z"),
        selector(&cim.text_property, "a\"b"),
        selector(&cim.text_property, "a'b"),
        selector(&cim.text_property, "a") + &selector(&cim.text_property, "b"),
        selector("NoSuchProperty", "a"),
    ] {
        case.fault(&list(&wrong), "n:CannotProcessFilter", None).await?;
    }
    Ok(())
}

async fn batch_items(case: &mut Case) -> Checked {
    let answer = case.ok(&case.numerous(100_000, "")).await?;
    case.tidy(&answer.context()).await;
    let most = case.subject.setting("MaxBatchItems").unwrap_or(32_000);
    let count = u64::try_from(answer.items().len()).unwrap_or(u64::MAX);
    case.that(count > 0 && count <= most, format!("at most {most} items; {count} came"))
}

async fn modes(case: &mut Case) -> Checked {
    let listener = format!("{CONFIG}/listener");
    let class = case.subject.class_uri(&case.subject.profile.cim.class);
    let mut resources = vec![class];
    if case.subject.setting_text("MaxEnvelopeSizekb").is_some() {
        resources.push(listener);
    }
    for uri in resources {
        let plain = case.items(&Message::list(&uri, 1000, "")).await?;
        case.that(!plain.is_empty(), "items")?;
        let both = case.items(&Message::list(&uri, 1000, EPR_TOO)).await?;
        case.that(both.len() == plain.len() && both.iter().all(|item| item.local == "Item"), "w:Item for each")?;
        let mode = "<w:EnumerationMode>EnumerateEPR</w:EnumerationMode>";
        let references = case.items(&Message::list(&uri, 1000, mode)).await?;
        let all = references.len() == plain.len() && references.iter().all(|item| item.local == "EndpointReference");
        case.that(all, "a:EndpointReference for each")?;
    }
    Ok(())
}

async fn too_long(case: &mut Case) -> Checked {
    let limit = case.subject.setting("MaxEnvelopeSizekb").unwrap_or(500);
    let octets = usize::try_from(limit.saturating_mul(1024).saturating_add(1)).unwrap_or(usize::MAX);
    if octets > 64 << 20 {
        return Err(Stop::NotApplicable(format!("MaxEnvelopeSizekb is {limit}; so long a request is not sent")));
    }
    let request = RawRequest { body: Bytes::from(vec![b' '; octets]), ..soap_request("") };
    let answer = case.raw(&request).await?;
    case.that(answer.status == 413, "HTTP 413")
}

async fn control_characters(case: &mut Case) -> Checked {
    let change = case.subject.profile.change.clone();
    let Some((change, character)) =
        change.and_then(|change| change.control_character.clone().map(|text| (change, text)))
    else {
        return Err(Stop::NotApplicable(
            "the profile has no way to put a control character into a property".to_owned(),
        ));
    };
    let name = format!("{MARK} bell {character}!");
    let input = change.input.replace("{instance}", &case.first()?.reference()).replace("{name}", &name);
    let call = case.service()?.invoke(&change.method, &input);
    case.ok(&call).await?;
    let query = case.subject.query(&change.find.replace("{name}", &format!("{MARK} bell")));
    for _ in 0..40 {
        let answer = case.ok(&query).await?;
        if answer.items().is_empty() {
            case.exchanges.pop();
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let shown = answer.text.contains("bell ?!") && !answer.text.chars().any(|c| c < ' ' && !"\t\n\r".contains(c));
        return case.that(shown, "a question mark in place of U+0007");
    }
    case.that(false, "what was made, by its name")
}

async fn rights(case: &mut Case) -> Checked {
    let Some(account) = case.subject.profile.reader_account.clone() else {
        return Err(Stop::NotApplicable("the profile names no user who may only read (reader_account)".to_owned()));
    };
    let reader = case.subject.client_of(&account).map_err(Stop::Fail)?;
    let get = case.get()?;
    let answer = case.send_as(&reader, &get).await?;
    case.that(answer.status == 200 && !answer.is_fault(), "the instance")?;
    if let Some(change) = case.subject.profile.change.clone() {
        // A call that changes something; one that a method refuses by itself may be answered by the method.
        let input = change.input.replace("{instance}", &case.first()?.reference()).replace("{name}", MARK);
        let call = case.service()?.invoke(&change.method, &input);
        let answer = case.send_as(&reader, &call).await?;
        case.is_fault(&answer, "w:AccessDenied", None)?;
    }
    // What is not offered at all may say so first.
    let put = get.with(|get| get.action = Some(format!("{TRANSFER}/Put")));
    let answer = case.send_as(&reader, &put).await?;
    let refused = answer.has_fault("w:AccessDenied", None) || answer.has_fault("a:ActionNotSupported", None);
    case.that(refused, "the fault w:AccessDenied")
}

async fn routing(case: &mut Case) -> Checked {
    let namespace = selector("__cimnamespace", &case.subject.profile.cim.namespace);
    let class = format!("{DMTF_CLASS}{}", case.subject.profile.cim.class);
    let one = case.items(&Message::list(class, 1000, "").select(namespace.clone())).await?;
    case.that(!one.is_empty(), "the instances of the class")?;
    let query = filter(WQL, &escaped(&case.subject.profile.cim.query));
    let all = case.items(&Message::list(DMTF_ALL, 1000, &query).select(namespace)).await?;
    case.that(!all.is_empty(), "what the query finds")?;
    let unknown = Message::get(format!("{DMTF_CLASS}NoSuchClass")).also("Name", "x");
    case.fault(&unknown, "a:DestinationUnreachable", None).await?;
    Ok(())
}

async fn collected(case: &mut Case) -> Checked {
    let context = case.open(&case.numerous_plain()).await?;
    let waited = idle(case).await;
    if waited.is_err() {
        case.tidy(&context).await;
    }
    waited?;
    case.fault(&case.release(&context), "n:InvalidEnumerationContext", None).await?;
    Ok(())
}

async fn no_operation_id(case: &mut Case) -> Checked {
    let headers = "<p:SessionId s:mustUnderstand=\"false\">uuid:4CEACFD4-CFED-4458-B73F-151723F69274</p:SessionId>\
                   <p:OperationID s:mustUnderstand=\"false\">uuid:AC72A7F8-9424-496C-B9E3-2F4A71389961</p:OperationID>\
                   <p:SequenceId s:mustUnderstand=\"false\">1</p:SequenceId>";
    let answer = case.ok(&case.get()?.header(headers)).await?;
    let silent = !has_header(&answer, Ns::MsWsman, "OperationID") && !has_header(&answer, Ns::MsWsman, "SequenceId");
    case.that(silent, "no OperationID and no SequenceId")
}

async fn slow_request(case: &mut Case) -> Checked {
    let patience = case.subject.profile.limits.wait_seconds;
    let Some(seconds) = case.subject.setting("Service/MaxPacketRetrievalTimeSeconds") else {
        return Err(Stop::NotApplicable("the server does not tell MaxPacketRetrievalTimeSeconds".to_owned()));
    };
    if seconds > patience {
        return Err(Stop::NotApplicable(format!(
            "MaxPacketRetrievalTimeSeconds is {seconds}, longer than the {patience} s that limits.wait_seconds allows"
        )));
    }
    let text = case.get()?.text(&case.subject.new_id());
    let start = text.get(..64).unwrap_or_default().to_owned();
    let wait = Duration::from_secs(seconds) + Duration::from_secs(3);
    let request = soap_request(&start);
    let subject = std::sync::Arc::clone(&case.subject);
    let (answered, closed) = subject
        .client()
        .dribble(start.as_bytes(), text.len(), wait)
        .await
        .map_err(|error| Stop::Fail(error.to_string()))?;
    case.shown(&request, &format!("{answered}\n(connection {})", if closed { "closed" } else { "open" }));
    let right =
        closed && (answered.is_empty() || answered.starts_with("HTTP/1.1 500") || answered.starts_with("HTTP/1.1 408"));
    case.that(right, format!("HTTP 500 or nothing, and the end of the connection, after {seconds} s"))
}

/// A request of a handshake: a token and no body.
fn handshake(token: &[u8]) -> RawRequest {
    let authorization = ("Authorization".to_owned(), format!("Negotiate {}", STANDARD.encode(token)));
    let request = soap_request("");
    RawRequest {
        headers: vec![authorization, ("Content-Length".to_owned(), "0".to_owned())],
        credentials: false,
        ..request
    }
}

/// Logs on; gives the keys, with the connection that they belong to.
async fn log_on(case: &mut Case) -> Result<(RawClient, Logon), Stop> {
    let mut options = case.subject.options.clone();
    if let Some(url) = case.subject.profile.clear_text_url.clone() {
        options.url = url;
    }
    let client = RawClient::new(&options).map_err(|error| Stop::Fail(error.to_string()))?;
    let answer = case.raw_as(&client, &handshake(&ntlm::negotiate())).await?;
    let challenge = answer.raw.header("www-authenticate").and_then(|value| value.strip_prefix("Negotiate "));
    let challenge = challenge.and_then(|token| STANDARD.decode(token.trim()).ok());
    let Some(challenge) = challenge.filter(|_| answer.status == 401) else {
        return Err(Stop::NotApplicable("the server does not log on with NTLM under Negotiate".to_owned()));
    };
    let logon = ntlm::authenticate(&challenge, &options.user, &options.password, &case.subject.new_id());
    case.that(logon.is_some(), "a challenge that offers sealing with keys of 128 bits")?;
    let logon = logon.ok_or_else(|| Stop::Fail("no challenge".to_owned()))?;
    let answer = case.raw_as(&client, &handshake(&logon.token)).await?;
    if answer.status == 401 {
        return Err(Stop::NotApplicable(format!("{} may not log on with NTLM", options.user)));
    }
    case.that(answer.status == 200, "HTTP 200 at the end of the logon")?;
    Ok((client, logon))
}

/// A sealed request of an envelope.
fn sealed(logon: &mut Logon, text: &str) -> RawRequest {
    let headers = vec![("Content-Type".to_owned(), ntlm::SEALED.to_owned())];
    RawRequest { headers, credentials: false, body: Bytes::from(logon.seal(text)), ..soap_request("") }
}

async fn sealing(case: &mut Case) -> Checked {
    let (client, mut logon) = log_on(case).await?;
    for (message, status) in [(case.get()?, 200), (case.get_missing()?, 500), (case.get()?, 200)] {
        let text = message.text(&case.subject.new_id());
        let answer = case.raw_as(&client, &sealed(&mut logon, &text)).await?;
        case.that(answer.status == status, format!("HTTP {status}"))?;
        let media_type = answer.raw.header("content-type").unwrap_or_default().to_lowercase();
        case.that(media_type.starts_with("multipart/encrypted"), "an answer of the media type multipart/encrypted")?;
        let plain = logon.unseal(&answer.raw.body);
        case.that(plain.is_ok(), format!("a sealed answer; it has {}", plain.as_ref().err().unwrap_or(&"no mistake")))?;
        let plain = Answer::new(RawAnswer { body: Bytes::from(plain.unwrap_or_default()), ..answer.raw });
        case.unsealed(&text, &plain);
        let right = plain.tree.is_some() && plain.is_fault() == (status == 500);
        case.that(right, if status == 500 { "a fault inside" } else { "an envelope that is no fault inside" })?;
    }
    // A message that was changed on its way is not taken.
    let text = case.get()?.text(&case.subject.new_id());
    let mut request = sealed(&mut logon, &text);
    let mut body = request.body.to_vec();
    if let Some(octet) = body.iter_mut().rev().nth(CHANGED_FROM_END) {
        *octet ^= 1;
    }
    request.body = Bytes::from(body);
    let answer = case.raw_as(&client, &request).await?;
    case.that(answer.status != 200, "that a message which was changed is not taken")
}

/// The octet that is changed, counted from the end: one of the sealed ones, before the last boundary.
const CHANGED_FROM_END: usize = 200;
