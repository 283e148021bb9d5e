//! Part D: enumeration (DSP0226 clause 8).

use std::time::Duration;

use super::super::case::{Case, Checked, MAX_PULLS, Stop};
use super::super::message::{CONFIG, ENUMERATION, Message, SELECTOR_FILTER, WQL, escaped, filter};
use super::super::row::{Row, rows};
use super::super::subject::{EPR_TOO, Found, wmi_uri};
use super::control::without;
use super::eventing::pull_in_vain;
use crate::conformance::node::Node;
use crate::xml::Ns;

pub(super) static ROWS: &[Row] = rows! {
    "C065", "DSP0226 8.1", "Enumerate, Pull and Release go together" => all_three;
    "C066", "DSP0226 8.1", "Renew and GetStatus of an enumeration are optional" => renew;
    "C067", "R8.1-6", "an enumeration belongs to the user who opened it" => foreign_context;
    "C068", "DSP0226 8.2.1", "filters that are not offered are refused" => filters_not_offered;
    "C069", "DSP0226 8.2.1", "a wrong filter is refused in words" => wrong_filter;
    "C070", "R8.2.1-3", "a filter holds text or one element" => mixed_filter;
    "C071", "DSP0226 8.2.1", "two filters are refused" => two_filters;
    "C072", "DSP0226 8.2.1", "an expiration that has passed is refused" => expired;
    "C073", "DSP0226 8.2.2", "a count estimate is a number or nil, never a fault" => estimate;
    "C074", "DSP0226 8.2.3", "an optimised answer has its items in w:Items" => optimised_items;
    "C075", "DSP0226 8.2.3", "without MaxElements an optimised answer has one item" => one_item;
    "C076", "R8.2.3-5", "a context as long as there is more, an end when there is none" => context_or_end;
    "C077", "DSP0226 8.3", "w:Filter and n:Filter are the same" => filter_names;
    "C078", "DSP0226 8.4", "MaxElements is kept" => max_elements;
    "C079", "DSP0226 8.4", "without MaxElements a Pull brings one item" => pull_one;
    "C080", "DSP0226 8.4", "when MaxTime is over a Pull answers what is there" => max_time;
    "C081", "DSP0226 8.4", "a small envelope brings fewer items, not a fault" => small_envelopes;
    "C082", "DSP0226 8.4", "every item comes once, however it is split" => every_split;
    "C083", "R8.4-8", "behind the end there is no context" => after_the_end;
    "C084", "MS-WSMV", "the context of the last answer counts" => old_context;
    "C085", "MS-WSMV", "a context that idles is removed" => idle_context;
    "C086", "DSP0226 8.5", "Release frees the context" => released;
    "C087", "DSP0226 8.6", "a projection is wrapped in w:XmlFragment" => projection;
    "C088", "DSP0226 8.7", "references alone or beside the objects, as asked for" => modes;
    "C089", "DSP0226 8.7", "an unknown EnumerationMode is refused" => unknown_mode;
    "C090", "MS-WSMV", "open enumerations of a user have a limit" => quota;
};

async fn all_three(case: &mut Case) -> Checked {
    let context = case.open(&case.numerous_plain()).await?;
    let answer = case.ok(&case.pull(&context, "")).await?;
    let context = answer.context();
    let release = case.release(&context);
    case.ok(&release).await?;
    Ok(())
}

async fn renew(case: &mut Case) -> Checked {
    let context = case.open(&case.numerous_plain()).await?;
    let uri = case.subject.class_uri(&case.subject.profile.cim.numerous_class);
    for operation in ["Renew", "GetStatus"] {
        let body = format!("<n:{operation}><n:EnumerationContext>{context}</n:EnumerationContext></n:{operation}>");
        let answer = case.send(&Message::new(format!("{ENUMERATION}/{operation}"), &uri).body(body)).await?;
        let offered = answer.status == 200 && !answer.is_fault();
        let refused = answer.has_fault("a:ActionNotSupported", None) || answer.has_fault("n:UnableToRenew", None);
        case.that(offered || refused, "an answer, or the fault a:ActionNotSupported")?;
    }
    case.tidy(&context).await;
    Ok(())
}

async fn foreign_context(case: &mut Case) -> Checked {
    let Some(account) = case.subject.profile.second_account.clone() else {
        return Err(Stop::NotApplicable("the profile names no second account".to_owned()));
    };
    let other = case.subject.client_of(&account).map_err(Stop::Fail)?;
    let context = case.open(&case.numerous_plain()).await?;
    for message in [case.pull(&context, ""), case.release(&context)] {
        let answer = case.send_as(&other, &message).await?;
        case.is_fault(&answer, "w:AccessDenied", None)?;
    }
    let answer = case.ok(&case.pull(&context, "")).await?;
    case.tidy(&answer.context()).await;
    Ok(())
}

async fn filters_not_offered(case: &mut Case) -> Checked {
    let query = filter(WQL, "SELECT * FROM Listener");
    if case.subject.setting_text("MaxEnvelopeSizekb").is_some() {
        let listeners = Message::enumerate(format!("{CONFIG}/listener"), &query);
        case.fault(&listeners, "n:FilteringNotSupported", None).await?;
    }
    let unknown = case.numerous(10, &filter("urn:x", "x"));
    case.fault(&unknown, "n:FilterDialectRequestedUnavailable", None).await?;
    Ok(())
}

async fn wrong_filter(case: &mut Case) -> Checked {
    for query in ["SELECT FROM", "SELECT * FROM NoSuchClass", "SELECT * FROM"] {
        let message = Message::list(case.subject.class_uri("*"), 10, &filter(WQL, query));
        let answer = case.fault(&message, "n:CannotProcessFilter", None).await?;
        case.that(!answer.text_at("Body/Fault/Reason/Text").is_empty(), "a reason")?;
    }
    Ok(())
}

async fn mixed_filter(case: &mut Case) -> Checked {
    let class = case.subject.profile.cim.class.clone();
    let content = format!("SELECT * FROM {class}<c:Element xmlns:c=\"urn:wsnapd:conformance\"/>");
    let message = Message::list(case.subject.class_uri("*"), 10, &filter(WQL, &content));
    let either = [("n:CannotProcessFilter", None), ("w:SchemaValidationError", None)];
    case.fault_of(&message, &either).await?;
    Ok(())
}

async fn two_filters(case: &mut Case) -> Checked {
    let query = format!("SELECT * FROM {}", case.subject.profile.cim.class);
    let both = format!("{}<n:Filter Dialect=\"{WQL}\">{query}</n:Filter>", filter(WQL, &query));
    let message = Message::list(case.subject.class_uri("*"), 10, &both);
    let either = [
        ("n:CannotProcessFilter", None),
        ("a:InvalidMessageInformationHeader", None),
        ("w:SchemaValidationError", None),
    ];
    case.fault_of(&message, &either).await?;
    Ok(())
}

async fn expired(case: &mut Case) -> Checked {
    let uri = case.subject.class_uri(&case.subject.profile.cim.numerous_class);
    for expires in ["PT0S", "2000-01-01T00:00:00Z"] {
        let message = Message::enumerate(&uri, &format!("<n:Expires>{expires}</n:Expires>"));
        case.fault(&message, "n:InvalidExpirationTime", None).await?;
    }
    Ok(())
}

async fn estimate(case: &mut Case) -> Checked {
    let ask = "<w:RequestTotalItemsCountEstimate/>";
    for message in [case.numerous(1, "").header(ask), case.numerous_plain().header(ask)] {
        let answer = case.ok(&message).await?;
        case.tidy(&answer.context()).await;
        let header = answer.header_nodes().iter().find(|node| node.is(Ns::Wsman, "TotalItemsCountEstimate"));
        let right = header.is_none_or(|header| header.is_nil() || header.text.trim().parse::<u64>().is_ok());
        case.that(right, "w:TotalItemsCountEstimate with a number or nil, or none")?;
    }
    Ok(())
}

async fn optimised_items(case: &mut Case) -> Checked {
    let answer = case.ok(&case.numerous(1000, "")).await?;
    case.tidy(&answer.context()).await;
    let body = answer.body().filter(|body| body.is(Ns::Enumeration, "EnumerateResponse"));
    let inside = body.is_some_and(|body| body.children.iter().any(|child| child.is(Ns::Wsman, "Items")));
    case.that(inside, "n:EnumerateResponse with w:Items inside")?;
    let end = body.and_then(|body| body.child("EndOfSequence"));
    case.that(end.is_none_or(|end| end.is(Ns::Wsman, "EndOfSequence")), "w:EndOfSequence, not n:EndOfSequence")?;
    // The answer to a Pull has the other namespace.
    let context = case.open(&case.numerous_plain()).await?;
    let answer = case.ok(&case.pull(&context, "<n:MaxElements>1000</n:MaxElements>")).await?;
    case.tidy(&answer.context()).await;
    let body = answer.body().filter(|body| body.is(Ns::Enumeration, "PullResponse"));
    let inside = body.is_some_and(|body| body.children.iter().any(|child| child.is(Ns::Enumeration, "Items")));
    case.that(inside, "n:PullResponse with n:Items inside")
}

async fn one_item(case: &mut Case) -> Checked {
    let uri = case.subject.class_uri(&case.subject.profile.cim.numerous_class);
    let answer = case.ok(&Message::enumerate(uri, "<w:OptimizeEnumeration/>")).await?;
    let (count, context) = (answer.items().len(), answer.context());
    case.tidy(&context).await;
    case.that(count == 1 && !context.is_empty(), format!("one item and a context; {count} items came"))
}

async fn context_or_end(case: &mut Case) -> Checked {
    let answer = case.ok(&case.numerous(2, "")).await?;
    case.that(!answer.context().is_empty() && !answer.ended(), "a context and no end")?;
    let context = answer.context();
    let next = case.ok(&case.pull(&context, "")).await?;
    case.tidy(&next.context()).await;
    let small = format!("SELECT * FROM {}", case.subject.profile.cim.class);
    let message = Message::list(case.subject.class_uri("*"), 1000, &filter(WQL, &small));
    let answer = case.ok(&message).await?;
    let empty =
        answer.body().and_then(|body| body.child("EnumerationContext")).is_some_and(|node| node.text.trim().is_empty());
    case.that(empty && answer.ended(), "an empty context and the end")
}

async fn filter_names(case: &mut Case) -> Checked {
    let uri = case.subject.class_uri("*");
    let query = escaped(&case.subject.profile.cim.query);
    let one = case.items(&Message::list(&uri, 1000, &filter(WQL, &query))).await?;
    let other = format!("<n:Filter Dialect=\"{WQL}\">{query}</n:Filter>");
    let other = case.items(&Message::list(&uri, 1000, &other)).await?;
    let names = |items: &[Node]| -> Vec<String> {
        let key = &case.subject.profile.cim.text_property;
        items.iter().map(|item| item.text_at(key).to_owned()).collect()
    };
    let same = !one.is_empty() && names(&one) == names(&other);
    case.that(same, "the same items either way")
}

async fn max_elements(case: &mut Case) -> Checked {
    let answer = case.ok(&case.numerous(2, "")).await?;
    case.that(answer.items().len() == 2, format!("two items; {} came", answer.items().len()))?;
    let context = answer.context();
    let answer = case.ok(&case.pull(&context, "<n:MaxElements>2</n:MaxElements>")).await?;
    case.tidy(&answer.context()).await;
    case.that(answer.items().len() == 2, format!("two items; {} came", answer.items().len()))
}

async fn pull_one(case: &mut Case) -> Checked {
    let context = case.open(&case.numerous_plain()).await?;
    let answer = case.ok(&case.pull(&context, "")).await?;
    case.tidy(&answer.context()).await;
    case.that(answer.items().len() == 1, format!("one item; {} came", answer.items().len()))
}

async fn max_time(case: &mut Case) -> Checked {
    let probe = case.subject.profile.probe.clone().and_then(|probe| Some((probe.namespace, probe.slow_class?)));
    let Some((namespace, class)) = probe else {
        let pulled = pull_in_vain(case, "<n:MaxTime>PT1S</n:MaxTime>", "").await;
        let (answer, taken) = pulled.map_err(|stop| without(stop, "class whose instances come slowly"))?;
        case.is_fault(&answer, "w:TimedOut", None)?;
        return case.that((0.9..4.0).contains(&taken), format!("the fault after a second; it came after {taken:.1} s"));
    };
    let uri = wmi_uri(&namespace, &class);
    let context = case.open(&Message::enumerate(&uri, "")).await?;
    let begun = std::time::Instant::now();
    let pull = Message::pull(&uri, &context, "<n:MaxTime>PT2S</n:MaxTime><n:MaxElements>1000</n:MaxElements>");
    let answer = case.send(&pull).await?;
    let taken = begun.elapsed();
    let some = answer.status == 200 && !answer.ended();
    case.that(some || answer.has_fault("w:TimedOut", None), "the items so far, or the fault w:TimedOut")?;
    case.that(taken < Duration::from_secs(5), "an answer when MaxTime is over")?;
    let rest = if answer.context().is_empty() { context } else { answer.context() };
    case.subject.quiet(&Message::release(&uri, &rest)).await;
    Ok(())
}

/// What an item is recognised by: the text of its reference.
fn identities(items: &[Node]) -> Vec<String> {
    items.iter().filter_map(Found::read).map(|found| found.resource.clone() + &found.selector_xml()).collect()
}

/// The numerous class, listed at once.
async fn listed(case: &mut Case) -> Result<Vec<String>, Stop> {
    let items = case.items(&case.numerous(1000, EPR_TOO)).await?;
    case.that(items.len() >= 5, "five items or more")?;
    Ok(identities(&items))
}

/// What came has to be everything that was there before and after, once: instances may come and go meanwhile.
fn complete(case: &mut Case, mut seen: Vec<String>, before: &[String], after: &[String], how: &str) -> Checked {
    let missing = before.iter().filter(|item| after.contains(item) && !seen.contains(item)).count();
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    case.that(seen.len() == count, format!("no item twice {how}"))?;
    case.that(missing == 0, format!("every item {how}; {missing} are missing"))
}

async fn small_envelopes(case: &mut Case) -> Checked {
    let before = listed(case).await?;
    let mut pulls = 0;
    let mut seen = Vec::new();
    let mut answer = case.ok(&case.numerous(1000, EPR_TOO).max_envelope_size(8192)).await?;
    loop {
        let octets = answer.raw.body.len();
        case.that(octets <= 8192, format!("at most 8192 octets; {octets} came"))?;
        seen.extend(identities(&answer.items()));
        let context = answer.context();
        if context.is_empty() {
            break;
        }
        let pull = case.pull(&context, "<n:MaxElements>1000</n:MaxElements>").max_envelope_size(8192);
        answer = case.ok(&pull).await?;
        pulls += 1;
        if pulls > MAX_PULLS {
            return case.that(false, format!("the end after {MAX_PULLS} Pulls"));
        }
    }
    let after = listed(case).await?;
    complete(case, seen, &before, &after, "in envelopes of 8192 octets")
}

async fn every_split(case: &mut Case) -> Checked {
    for size in [1_u32, 2, 3, 7] {
        let before = listed(case).await?;
        let mut pulls = 0;
        let mut seen = Vec::new();
        let mut answer = case.ok(&case.numerous(size, EPR_TOO)).await?;
        loop {
            seen.extend(identities(&answer.items()));
            let context = answer.context();
            if context.is_empty() {
                break;
            }
            let pull = case.pull(&context, &format!("<n:MaxElements>{size}</n:MaxElements>"));
            answer = case.send_quietly(&pull).await?;
            pulls += 1;
            if pulls > MAX_PULLS {
                return case.that(false, format!("the end after {MAX_PULLS} Pulls"));
            }
        }
        let after = listed(case).await?;
        complete(case, seen, &before, &after, &format!("with MaxElements {size}"))?;
    }
    Ok(())
}

async fn after_the_end(case: &mut Case) -> Checked {
    let context = case.open(&case.numerous_plain()).await?;
    let mut answer = case.ok(&case.pull(&context, "<n:MaxElements>5</n:MaxElements>")).await?;
    let mut last = context;
    for _ in 0..MAX_PULLS {
        if answer.ended() {
            break;
        }
        last = answer.context();
        if last.is_empty() {
            return case.that(false, "a context or the end");
        }
        answer = case.ok(&case.pull(&last, "<n:MaxElements>1000</n:MaxElements>")).await?;
    }
    let none = answer.body().is_some_and(|body| body.child("EnumerationContext").is_none());
    case.that(none, "no n:EnumerationContext beside n:EndOfSequence")?;
    case.fault(&case.release(&last), "n:InvalidEnumerationContext", None).await?;
    Ok(())
}

async fn old_context(case: &mut Case) -> Checked {
    let first = case.open(&case.numerous_plain()).await?;
    let answer = case.ok(&case.pull(&first, "")).await?;
    let second = answer.context();
    if first == second {
        case.tidy(&second).await;
        return Err(Stop::NotApplicable("the server keeps one context for the whole enumeration".to_owned()));
    }
    let refused = case.fault(&case.pull(&first, ""), "n:InvalidEnumerationContext", None).await;
    let goes_on = case.ok(&case.pull(&second, "")).await?;
    case.tidy(&goes_on.context()).await;
    refused.map(|_| ())
}

/// Waits until an idle context must have gone; not applicable when that takes too long.
pub(super) async fn idle(case: &Case) -> Checked {
    let patience = case.subject.profile.limits.wait_seconds.saturating_mul(1000);
    let Some(timeout) = case.subject.setting("Service/EnumerationTimeoutms") else {
        return Err(Stop::NotApplicable("the server does not tell EnumerationTimeoutms".to_owned()));
    };
    if timeout > patience {
        return Err(Stop::NotApplicable(format!(
            "EnumerationTimeoutms is {timeout}, longer than the {patience} ms that limits.wait_seconds allows"
        )));
    }
    tokio::time::sleep(Duration::from_millis(timeout + 500)).await;
    Ok(())
}

async fn idle_context(case: &mut Case) -> Checked {
    let context = case.open(&case.numerous_plain()).await?;
    let waited = idle(case).await;
    if waited.is_err() {
        case.tidy(&context).await;
    }
    waited?;
    case.fault(&case.pull(&context, ""), "n:InvalidEnumerationContext", None).await?;
    Ok(())
}

async fn released(case: &mut Case) -> Checked {
    let context = case.open(&case.numerous_plain()).await?;
    let answer = case.ok(&case.release(&context)).await?;
    case.that(answer.at("Body").is_some_and(|body| body.children.is_empty()), "an empty body")?;
    case.fault(&case.pull(&context, ""), "n:InvalidEnumerationContext", None).await?;
    Ok(())
}

async fn projection(case: &mut Case) -> Checked {
    let cim = case.subject.profile.cim.clone();
    let query = format!("SELECT {} FROM {}", cim.text_property, cim.class);
    let items = case.items(&Message::list(case.subject.class_uri("*"), 1000, &filter(WQL, &query))).await?;
    let wrapped = items.iter().all(|item| item.is(Ns::Wsman, "XmlFragment"));
    case.that(wrapped && !items.is_empty(), "items that are w:XmlFragment")?;
    let only = items.iter().all(|item| item.children.iter().all(|child| child.local == cim.text_property));
    case.that(only, format!("{} alone inside", cim.text_property))
}

async fn modes(case: &mut Case) -> Checked {
    let mode = |name: &str| format!("<w:EnumerationMode>{name}</w:EnumerationMode>");
    let uri = case.subject.class_uri(&case.subject.profile.cim.class);
    let items = case.items(&Message::list(&uri, 1000, &mode("EnumerateEPR"))).await?;
    let references =
        items.iter().all(|item| item.is(Ns::Addressing, "EndpointReference") && Found::read(item).is_some());
    case.that(references && !items.is_empty(), "items that are a:EndpointReference")?;
    let items = case.items(&Message::list(&uri, 1000, &mode("EnumerateObjectAndEPR"))).await?;
    let both = items.iter().all(|item| {
        item.is(Ns::Wsman, "Item")
            && item.children.len() == 2
            && item.children.last().is_some_and(|last| last.is(Ns::Addressing, "EndpointReference"))
    });
    case.that(both && !items.is_empty(), "items that are w:Item with an object and its a:EndpointReference")
}

async fn unknown_mode(case: &mut Case) -> Checked {
    let message = case.numerous(10, "<w:EnumerationMode>Foo</w:EnumerationMode>");
    case.fault(&message, "w:UnsupportedFeature", Some("EnumerationMode")).await?;
    Ok(())
}

async fn quota(case: &mut Case) -> Checked {
    let limit = case.subject.setting("Service/MaxConcurrentOperationsPerUser");
    let Some(limit) = limit.filter(|limit| *limit <= case.subject.profile.limits.open_enumerations) else {
        return Err(Stop::NotApplicable(
            "MaxConcurrentOperationsPerUser is unknown, or more than limits.open_enumerations allows".to_owned(),
        ));
    };
    let message = case.numerous_plain();
    let mut contexts = Vec::new();
    let mut reached = false;
    for _ in 0..=limit {
        let answer = case.send(&message).await?;
        let context = answer.context();
        reached = context.is_empty();
        if reached {
            break;
        }
        case.exchanges.pop();
        contexts.push(context);
    }
    for context in &contexts {
        case.tidy(context).await;
    }
    if !reached {
        case.send(&message).await?;
        return case.that(false, format!("the fault w:QuotaLimit for one more than {limit}"));
    }
    let refused = case.exchanges.last().is_some_and(|last| last.came.contains(":QuotaLimit<"));
    case.that(refused, format!("the fault w:QuotaLimit for one more than {limit}"))?;
    let answer = case.ok(&message).await?;
    case.tidy(&answer.context()).await;
    Ok(())
}

/// A selector filter.
pub(super) fn selector_filter(selectors: &str) -> String {
    filter(SELECTOR_FILTER, &format!("<w:SelectorSet>{selectors}</w:SelectorSet>"))
}
