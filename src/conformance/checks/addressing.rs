//! Part A: addressing (DSP0226 clause 5).

use std::fmt::Write as _;

use super::super::case::{Case, Checked, has_header};
use super::super::message::{ENUMERATION, EVENTING, IDENTIFY, Message, MessageId, TRANSFER, selector};
use super::super::row::{Row, rows};
use super::super::subject::{anonymous, soap_request};
use super::common::{COOKIE, endpoint, fail, unknown_header};
use crate::conformance::answer::{Answer, FAULT_DETAIL};
use crate::soap::ANONYMOUS;
use crate::xml::Ns;

pub(super) static ROWS: &[Row] = rows! {
    "C001", "DSP0226 5.1", "messages of another WS-Addressing version are refused" => other_addressing;
    "C002", "R5.1-4", "EndTo of an Enumerate need not be taken" => end_to;
    "C003", "R5.2.1-1", "EndTo is refused with the detail AddressingMode" => end_to_detail;
    "C004", "R5.1.2.1-1", "a ResourceURI is any URI of RFC 3986" => uri_forms;
    "C005", "R5.1.2.1-3", "a missing or unknown ResourceURI is an unreachable destination" => unknown_resource;
    "C006", "DSP0226 5.1.2.1", "every operation on a resource names it" => resource_required;
    "C007", "R5.1.2.2-1", "selectors compare without regard to case" => selector_case;
    "C008", "R5.1.2.2-2", "only singletons do without selectors" => no_selectors;
    "C009", "DSP0226 5.1.2.2", "an unexpected selector is refused" => unexpected_selector;
    "C010", "R5.1.2.2-4", "a selector is there once" => duplicate_selector;
    "C011", "DSP0226 5.1.2.2", "a selector value is of the type of its key" => selector_type;
    "C012", "DSP0226 5.1.2.2", "selectors that fit several instances are ambiguous" => ambiguous_selectors;
    "C013", "DSP0226 5.1.2.2", "a selector holds text or one reference, never both" => mixed_selector;
    "C014", "R5.2-2", "unknown headers marked mustUnderstand are named in a fault" => must_understand;
    "C015", "DSP0226 5.2", "unknown headers without the mark are ignored" => unknown_ignored;
    "C016", "R5.3-1", "To is there always, and /wsman asks for credentials" => to_required;
    "C017", "R5.3-2", "/wsman-anon asks for no credentials" => anonymous_identify;
    "C018", "DSP0226 5.3", "To is not compared with the address that is listened on" => foreign_to;
    "C019", "R5.4.2-1", "ReplyTo is there where a reply is expected" => reply_to_required;
    "C020", "R5.4.2-2", "replies go back on the same connection" => reply_elsewhere;
    "C021", "R5.4.2-5", "reference parameters of ReplyTo come back as headers" => reply_parameters;
    "C022", "R5.4.3-2", "without FaultTo a fault goes to ReplyTo" => fault_destination;
    "C023", "R5.4.3-3", "faults go back on the same connection" => fault_elsewhere;
    "C024", "R5.4.3-4", "reference parameters of FaultTo come back in faults" => fault_parameters;
    "C025", "R5.4.4-1", "RelatesTo is the MessageID byte for byte" => relates_to;
    "C026", "R5.4.4-2", "no MessageID of the server repeats" => message_ids;
    "C027", "DSP0226 5.4.4", "a request without MessageID is refused" => message_id_required;
    "C028", "DSP0226 5.4.5", "the Action of an answer is that of the request with Response" => response_actions;
    "C029", "DSP0226 5.4.5", "the Action of a fault is that of its specification" => fault_actions;
    "C030", "DSP0226 5.4.6", "From is ignored" => from_ignored;
};

async fn other_addressing(case: &mut Case) -> Checked {
    let text = case.get()?.text(&case.subject.new_id());
    let other =
        text.replace("http://schemas.xmlsoap.org/ws/2004/08/addressing\"", "http://www.w3.org/2005/08/addressing\"");
    let answer = case.raw(&soap_request(&other)).await?;
    let refused =
        answer.has_fault("a:MessageInformationHeaderRequired", None) || answer.has_fault("s:MustUnderstand", None);
    case.that(refused, "the fault a:MessageInformationHeaderRequired or s:MustUnderstand")
}

fn with_end_to(case: &Case) -> Message {
    let uri = case.subject.class_uri(&case.subject.profile.cim.numerous_class);
    Message::enumerate(uri, &endpoint("n:EndTo", "http://conformance.invalid/end", ""))
}

async fn end_to(case: &mut Case) -> Checked {
    case.fault(&with_end_to(case), "w:UnsupportedFeature", None).await?;
    Ok(())
}

async fn end_to_detail(case: &mut Case) -> Checked {
    let answer = case.send(&with_end_to(case)).await?;
    let detail = answer.text_at("Body/Fault/Detail/FaultDetail");
    case.that(detail == format!("{FAULT_DETAIL}AddressingMode"), "the fault detail …/AddressingMode")
}

async fn uri_forms(case: &mut Case) -> Checked {
    let get = case.get()?;
    let uri = get.resource.clone().unwrap_or_default();
    case.ok(&get.clone().with(|get| get.resource = Some(uri.replacen("http:", "HTTP:", 1)))).await?;
    let mut encoded = uri;
    if let Some(last) = encoded.pop() {
        for octet in last.to_string().bytes() {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{octet:02X}");
        }
    }
    case.ok(&get.with(|get| get.resource = Some(encoded))).await?;
    Ok(())
}

async fn unknown_resource(case: &mut Case) -> Checked {
    let get = case.get()?;
    for resource in [None, Some("urn:wsnapd:unknown".to_owned())] {
        let message = get.clone().with(|get| get.resource = resource);
        case.fault(&message, "a:DestinationUnreachable", Some("InvalidResourceURI")).await?;
    }
    Ok(())
}

async fn resource_required(case: &mut Case) -> Checked {
    let get = case.get()?;
    for action in
        [format!("{TRANSFER}/Get"), format!("{ENUMERATION}/Enumerate"), case.harmless()?.action.unwrap_or_default()]
    {
        let body = if action.ends_with("/Enumerate") { "<n:Enumerate/>" } else { "" };
        let message = Message { action: Some(action), resource: None, body: body.to_owned(), ..get.clone() };
        case.fault(&message, "a:DestinationUnreachable", None).await?;
    }
    // What is not offered at all may say so first.
    let either = [("a:DestinationUnreachable", None), ("a:ActionNotSupported", None)];
    for action in [
        format!("{TRANSFER}/Put"),
        format!("{TRANSFER}/Create"),
        format!("{TRANSFER}/Delete"),
        format!("{EVENTING}/Subscribe"),
    ] {
        let body = "<e:Subscribe><e:Delivery Mode=\"http://schemas.dmtf.org/wbem/wsman/1/wsman/Pull\"/></e:Subscribe>";
        let message = Message { action: Some(action), resource: None, body: body.to_owned(), ..get.clone() };
        case.fault_of(&message, &either).await?;
    }
    Ok(())
}

async fn selector_case(case: &mut Case) -> Checked {
    let first = case.first()?;
    let turned = first.selectors.iter().map(|(name, value)| {
        let value = if value.chars().any(char::is_lowercase) { value.to_uppercase() } else { value.to_lowercase() };
        selector(&name.to_uppercase(), &value)
    });
    let turned: String = turned.collect();
    case.ok(&first.get().select(turned)).await?;
    Ok(())
}

async fn no_selectors(case: &mut Case) -> Checked {
    let message = Message::get(case.first()?.resource);
    case.fault(&message, "w:InvalidSelectors", Some("InsufficientSelectors")).await?;
    Ok(())
}

async fn unexpected_selector(case: &mut Case) -> Checked {
    let message = case.get()?.also("Foo", "1");
    case.fault(&message, "w:InvalidSelectors", Some("UnexpectedSelectors")).await?;
    Ok(())
}

async fn duplicate_selector(case: &mut Case) -> Checked {
    let first = case.first()?;
    let mut message = first.get();
    if let Some((name, value)) = first.selectors.last() {
        message = message.also(name, value);
    }
    case.fault(&message, "w:InvalidSelectors", Some("DuplicateSelectors")).await?;
    Ok(())
}

async fn selector_type(case: &mut Case) -> Checked {
    let either = [("w:InvalidSelectors", Some("TypeMismatch")), ("w:InvalidSelectors", Some("InvalidValue"))];
    if let Some((class, key)) = case.subject.profile.cim.numeric_key.clone() {
        let message = Message::get(case.subject.class_uri(&class)).also(&key, "many");
        case.fault_of(&message, &either).await?;
    }
    // A reference is no text either.
    let first = case.first()?;
    let mut selectors = String::new();
    for (index, (name, value)) in first.selectors.iter().enumerate() {
        if index + 1 == first.selectors.len() {
            let reference = format!("<a:EndpointReference>{}</a:EndpointReference>", first.reference());
            let _ = write!(selectors, "<w:Selector Name=\"{name}\">{reference}</w:Selector>");
        } else {
            selectors.push_str(&selector(name, value));
        }
    }
    case.fault_of(&first.get().select(selectors), &either).await?;
    Ok(())
}

async fn ambiguous_selectors(case: &mut Case) -> Checked {
    let first = case.first()?;
    let shared = &case.subject.profile.cim.shared_key;
    let kept = first.selectors.iter().filter(|(name, _)| name == shared || name.starts_with("__"));
    let selectors: String = kept.map(|(name, value)| selector(name, value)).collect();
    case.fault(&first.get().select(selectors), "w:InvalidSelectors", Some("AmbiguousSelectors")).await?;
    Ok(())
}

async fn mixed_selector(case: &mut Case) -> Checked {
    let first = case.first()?;
    let reference = format!("<a:EndpointReference>{}</a:EndpointReference>", first.reference());
    let name = first.selectors.last().map_or("Name", |(name, _)| name.as_str());
    let mixed = format!("<w:Selector Name=\"{name}\">text{reference}</w:Selector>");
    case.fault(&first.get().select(mixed), "w:InvalidSelectors", None).await?;
    Ok(())
}

async fn must_understand(case: &mut Case) -> Checked {
    for mark in ["true", "1"] {
        let message = case.get()?.header(&unknown_header(&format!(" s:mustUnderstand=\"{mark}\"")));
        let answer = case.fault(&message, "s:MustUnderstand", None).await?;
        let named = answer.header_nodes().iter().any(|node| {
            node.is(Ns::Soap, "NotUnderstood")
                && node.attribute(Ns::None, "qname").is_some_and(|qname| qname.ends_with(":Unknown"))
                && node.source.contains("urn:wsnapd:conformance")
        });
        case.that(named, "a header s:NotUnderstood that names c:Unknown")?;
    }
    Ok(())
}

async fn unknown_ignored(case: &mut Case) -> Checked {
    let message = case.get()?.header(&unknown_header(""));
    case.ok(&message).await?;
    Ok(())
}

async fn to_required(case: &mut Case) -> Checked {
    let message = case.get()?;
    let without = message.clone().with(|get| get.to = None);
    case.fault(&without, "a:MessageInformationHeaderRequired", None).await?;
    let text = message.text(&case.subject.new_id());
    let answer = case.raw(&anonymous(&text, None)).await?;
    case.that(answer.status == 401, "HTTP 401")
}

async fn anonymous_identify(case: &mut Case) -> Checked {
    let answer = case.raw(&anonymous(IDENTIFY, Some("/wsman-anon/identify"))).await?;
    case.that(answer.status == 200, "HTTP 200")
}

async fn foreign_to(case: &mut Case) -> Checked {
    let message = case.get()?.with(|get| get.to = Some("https://another.invalid:4711/wsman".to_owned()));
    case.ok(&message).await?;
    Ok(())
}

async fn reply_to_required(case: &mut Case) -> Checked {
    let message = case.get()?.with(|get| get.reply_to.clear());
    case.fault(&message, "a:MessageInformationHeaderRequired", None).await?;
    Ok(())
}

async fn reply_elsewhere(case: &mut Case) -> Checked {
    let elsewhere = endpoint("a:ReplyTo", "http://conformance.invalid/reply", "");
    let message = case.get()?.with(|get| get.reply_to = elsewhere);
    case.fault(&message, "w:UnsupportedFeature", Some("AddressingMode")).await?;
    Ok(())
}

fn cookie_came_back(answer: &Answer) -> bool {
    let cookies = answer.header_nodes().iter().filter(|node| node.is(Ns::Other("urn:wsnapd:conformance"), "Cookie"));
    cookies.map(|node| node.text.as_str()).eq(["of the client"])
}

async fn reply_parameters(case: &mut Case) -> Checked {
    let message = case.get()?.with(|get| get.reply_to = endpoint("a:ReplyTo", ANONYMOUS, COOKIE));
    let answer = case.ok(&message).await?;
    case.that(cookie_came_back(&answer), "the header c:Cookie")
}

async fn fault_destination(case: &mut Case) -> Checked {
    let answer = case.send(&case.get_missing()?).await?;
    case.that(
        answer.is_fault() && answer.text_at("Header/To") == ANONYMOUS,
        "a fault whose To is the anonymous address",
    )
}

async fn fault_elsewhere(case: &mut Case) -> Checked {
    let message = case.get()?.header(&endpoint("a:FaultTo", "http://conformance.invalid/fault", ""));
    case.fault(&message, "w:UnsupportedFeature", Some("AddressingMode")).await?;
    Ok(())
}

async fn fault_parameters(case: &mut Case) -> Checked {
    let message = case.get_missing()?.header(&endpoint("a:FaultTo", ANONYMOUS, COOKIE));
    let answer = case.send(&message).await?;
    case.that(answer.is_fault() && cookie_came_back(&answer), "a fault with the header c:Cookie")
}

async fn relates_to(case: &mut Case) -> Checked {
    for id in [
        "uuid:A-MiXeD-CaSe-id-0001",
        "urn:uuid:0f0f0f0f-ABCD-abcd-0000-00000000000a",
        "http://conformance.invalid/id?a=1&b=<2>",
    ] {
        for message in [case.get()?, case.get_missing()?] {
            let message = message.with(|get| get.id = MessageId::Is(id.to_owned()));
            let answer = case.send(&message).await?;
            let related = answer.at("Header/RelatesTo").map(|node| node.text.as_str());
            case.that(related == Some(id), format!("RelatesTo {id}"))?;
        }
    }
    Ok(())
}

async fn message_ids(case: &mut Case) -> Checked {
    let wanted = case.subject.profile.limits.message_ids;
    let (good, bad) = (case.get()?, case.get_missing()?);
    while case.subject.message_ids().0 < wanted {
        let before = case.subject.message_ids();
        for message in [&bad, &bad, &bad, &good] {
            case.send_quietly(message).await?;
        }
        let after = case.subject.message_ids();
        if after.1.is_some() || after.0 == before.0 {
            break;
        }
    }
    case.send(&bad).await?;
    match case.subject.message_ids() {
        (_, Some(id)) => case.that(false, format!("identifiers that never repeat, but {id} came twice")),
        (count, None) => case.that(count >= wanted, format!("{wanted} different identifiers, of which {count} came")),
    }
}

async fn message_id_required(case: &mut Case) -> Checked {
    let either = [("a:InvalidMessageInformationHeader", None), ("a:MessageInformationHeaderRequired", None)];
    for id in [MessageId::Missing, MessageId::Is(String::new())] {
        let message = case.get()?.with(|get| get.id = id);
        case.fault_of(&message, &either).await?;
    }
    Ok(())
}

async fn response_actions(case: &mut Case) -> Checked {
    let open = case.numerous_plain();
    let answer = case.send(&open).await?;
    let mut messages = vec![case.get()?, open];
    let context = answer.context();
    messages.push(case.pull(&context, ""));
    if case.subject.service.is_some() {
        messages.push(case.harmless()?);
    }
    for message in messages {
        let expected = format!("{}Response", message.action.clone().unwrap_or_default());
        let answer = case.send(&message).await?;
        case.that(answer.text_at("Header/Action") == expected, format!("Action {expected}"))?;
        let context = answer.context();
        if !context.is_empty() {
            let answer = case.send(&case.release(&context)).await?;
            let expected = format!("{ENUMERATION}/ReleaseResponse");
            case.that(answer.text_at("Header/Action") == expected, format!("Action {expected}"))?;
        }
    }
    Ok(())
}

async fn fault_actions(case: &mut Case) -> Checked {
    let messages = [
        case.get_missing()?,
        case.get()?.header(&unknown_header(" s:mustUnderstand=\"true\"")),
        case.get()?.also("Foo", "1"),
        case.pull("uuid:00000000-0000-0000-0000-000000000000", ""),
        Message::list(case.subject.class_uri("*"), 10, "<b:PolymorphismMode>None</b:PolymorphismMode>"),
    ];
    for message in messages {
        let answer = case.send(&message).await?;
        let expected = match answer.fault_space() {
            Some("http://www.w3.org/2003/05/soap-envelope") => {
                "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault".to_owned()
            }
            Some(space) => format!("{}/fault", space.trim_end_matches(".xsd")),
            None => return fail("a fault was expected"),
        };
        case.that(answer.text_at("Header/Action") == expected, format!("Action {expected}"))?;
    }
    Ok(())
}

async fn from_ignored(case: &mut Case) -> Checked {
    let message = case.get()?.header(&endpoint("a:From", "http://conformance.invalid/me", ""));
    let answer = case.ok(&message).await?;
    case.that(has_header(&answer, Ns::Addressing, "RelatesTo"), "an ordinary answer")
}
