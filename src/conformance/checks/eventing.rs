//! Part F: eventing (DSP0226 clause 10), and the rows of the CIM binding about it.

use std::time::{Duration, Instant};

use super::super::case::{Case, Checked, Stop};
use super::super::message::{EVENTING, Message, WQL, escaped, filter};
use super::super::node::Node;
use super::super::row::{Row, rows};
use super::super::sink::{Manner, Sink};
use super::super::subject::{Found, MARK, wmi_uri};
use super::control::utf16_request;
use crate::conformance::answer::Answer;

pub(super) static ROWS: &[Row] = rows! {
    "C095", "DSP0226 10.1", "Subscribe and Unsubscribe go together" => both;
    "C096", "DSP0226 10.2.1", "an unknown delivery mode is refused" => unknown_mode;
    "C097", "DSP0226 10.2.2", "a filter that is not offered is refused" => unknown_dialect;
    "C098", "MS-WSMV", "retries have a number and a pause, or neither" => retries;
    "C099", "DSP0226 10.2.4", "the answer names the subscription and its end" => manager;
    "C100", "DSP0226 10.2.5", "heartbeats come when nothing else does" => heartbeats;
    "C101", "MS-WSMV", "a bookmark goes on where the last delivery ended" => bookmarks;
    "C102", "DSP0226 10.2.6", "a wrong bookmark is refused" => wrong_bookmark;
    "C103", "MS-WSMV", "every delivery mode is offered or refused as such" => modes;
    "C104", "DSP0226 10.2.9", "with PushWithAck the next event waits for the acknowledgement" => waits_for_ack;
    "C105", "DSP0226 10.2.9", "a batch of events keeps to its limits" => batches;
    "C106", "DSP0226 10.3", "Renew is answered, or refused as such" => renew;
    "C107", "DSP0226 10.4", "after Unsubscribe nothing is delivered" => unsubscribed;
    "C108", "DSP0226 10.6", "an end that nobody asked for is told to EndTo" => subscription_end;
    "C109", "DSP0226 10.7", "a delivery can be acknowledged by its MessageID" => acknowledged;
    "C110", "R10.8-1", "a sink that refuses ends the subscription without a word" => refused;
    "C111", "DSP0226 10.9", "what cannot be delivered is reported as the policy says" => dropped;
};

const DMTF_MODE: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/";
const PUSH: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing/DeliveryModes/Push";

/// A Subscribe: the resource, the mode, what stands in `e:Delivery`, and what stands behind it.
fn subscribe_to(uri: &str, mode: &str, delivery: &str, behind: &str) -> Message {
    Message::new(format!("{EVENTING}/Subscribe"), uri).body(format!(
        "<e:Subscribe><e:Delivery Mode=\"{mode}\">{delivery}</e:Delivery><e:Expires>PT10M</e:Expires>{behind}</e:Subscribe>"
    ))
}

/// The filter of the profile.
fn event_filter(case: &Case) -> String {
    filter(WQL, &escaped(&case.subject.profile.events.query))
}

/// A Subscribe by Pull with the filter of the profile.
fn subscribe(case: &Case, delivery: &str, behind: &str) -> Message {
    let filter = event_filter(case);
    subscribe_to(&case.subject.class_uri("*"), &format!("{DMTF_MODE}Pull"), delivery, &format!("{filter}{behind}"))
}

/// An open subscription.
struct Subscription {
    /// The reference parameters of its manager, as headers.
    headers: String,
    resource: String,
    context: String,
}

impl Subscription {
    fn read(answer: &Answer) -> Option<Self> {
        let body = answer.body().filter(|body| body.local == "SubscribeResponse")?;
        let parameters = body.at("SubscriptionManager/ReferenceParameters");
        let parameters = parameters.or_else(|| body.at("SubscriptionManager/ReferenceProperties"))?;
        let identifier = parameters.text_at("Identifier");
        (!identifier.is_empty()).then(|| Self {
            headers: format!("<e:Identifier>{}</e:Identifier>", escaped(identifier)),
            resource: parameters.text_at("ResourceURI").to_owned(),
            context: body.text_at("EnumerationContext").to_owned(),
        })
    }

    fn request(&self, operation: &str, inner: &str) -> Message {
        let message = Message::new(format!("{EVENTING}/{operation}"), self.resource.clone())
            .header(&self.headers)
            .body(format!("<e:{operation}>{inner}</e:{operation}>"));
        // A manager without a resource is addressed by its identifier alone.
        message.with(|message| message.resource = message.resource.take().filter(|uri| !uri.is_empty()))
    }

    fn pull(&self, inner: &str) -> Message {
        Message::pull(self.resource.clone(), &self.context, inner).header(&self.headers)
    }
}

/// Subscribes; not offered when the server says so.
async fn open(case: &mut Case, message: &Message) -> Result<Subscription, Stop> {
    let answer = case.send(message).await?;
    case.offered_or(&answer)?;
    for (subcode, detail) in [
        ("e:DeliveryModeRequestedUnavailable", None),
        ("w:EventDeliverToUnusable", None),
        ("w:UnsupportedFeature", None),
        ("e:EventSourceUnableToProcess", Some("UnusableAddress")),
    ] {
        if answer.has_fault(subcode, detail) {
            return Err(Stop::NotOffered(answer.fault_text()));
        }
    }
    let subscription = Subscription::read(&answer);
    case.that(subscription.is_some(), "e:SubscribeResponse with a manager that has an e:Identifier")?;
    subscription.ok_or_else(|| Stop::Fail("no subscription".to_owned()))
}

/// Whether eventing is offered at all; opens a subscription and ends it.
async fn offered(case: &mut Case) -> Checked {
    let message = subscribe(case, "", "");
    let subscription = open(case, &message).await?;
    close(case, &subscription).await;
    Ok(())
}

/// Pulls from a subscription on which nothing happens, an operation that lasts as long as it is let: gives the answer
/// and how long it took, in seconds.
pub(super) async fn pull_in_vain(case: &mut Case, inner: &str, timeout: &str) -> Result<(Answer, f64), Stop> {
    let message = subscribe(case, "", "");
    let mut subscription = open(case, &message).await?;
    // What others do may be told once or twice.
    for _ in 0..VAIN_ROUNDS {
        let begun = Instant::now();
        let mut pull = subscription.pull(inner);
        if !timeout.is_empty() {
            pull = pull.timeout(timeout);
        }
        let answer = case.send(&pull).await?;
        let taken = begun.elapsed().as_secs_f64();
        if answer.items().is_empty() {
            close(case, &subscription).await;
            return Ok((answer, taken));
        }
        subscription.context = answer.context();
    }
    close(case, &subscription).await;
    Err(Stop::NotApplicable("events come all the time, so no Pull has to wait for them".to_owned()))
}

/// How often a Pull that is to bring nothing may bring something.
const VAIN_ROUNDS: usize = 5;

/// Ends a subscription that the check is done with.
async fn close(case: &Case, subscription: &Subscription) {
    case.subject.quiet(&subscription.request("Unsubscribe", "")).await;
}

/// Brings about an event.
async fn happen(case: &mut Case) -> Checked {
    let Some(change) = case.subject.profile.change.clone() else {
        return Err(Stop::NotApplicable("the profile names no change that brings about an event".to_owned()));
    };
    let name = format!("{MARK} event");
    let input = change.input.replace("{instance}", &case.first()?.reference()).replace("{name}", &name);
    let call = case.service()?.invoke(&change.method, &input);
    case.ok(&call).await?;
    Ok(())
}

/// Pulls until events came, at most `wait_seconds`; gives them with the last answer.
async fn events(case: &mut Case, subscription: &mut Subscription, inner: &str) -> Result<(Vec<Node>, Answer), Stop> {
    let rounds = case.subject.profile.limits.wait_seconds.max(1);
    for _ in 0..rounds {
        let answer = case.send(&subscription.pull(&format!("<n:MaxTime>PT1S</n:MaxTime>{inner}"))).await?;
        if answer.has_fault("w:TimedOut", None) {
            continue;
        }
        case.that(answer.status == 200 && !answer.is_fault(), "n:PullResponse, or the fault w:TimedOut")?;
        let context = answer.context();
        if !context.is_empty() {
            subscription.context = context;
        }
        let items: Vec<Node> = answer.items().into_iter().filter(|item| item.local != "Event").collect();
        if !items.is_empty() {
            return Ok((items, answer));
        }
    }
    Err(Stop::Fail(format!("no event within {rounds} s")))
}

/// A sink, where the profile has an address for one.
async fn sink(case: &Case, manner: Manner) -> Result<Sink, Stop> {
    let host = case.subject.profile.events.sink.clone();
    if host.is_empty() {
        return Err(Stop::NotApplicable("the profile has no address that events can be pushed to".to_owned()));
    }
    Sink::open(&host, manner)
        .await
        .map_err(|error| Stop::NotApplicable(format!("{host} cannot be listened on: {error}")))
}

/// Subscribes for deliveries to a sink.
async fn push(case: &mut Case, sink: &Sink, mode: &str, delivery: &str, first: &str) -> Result<Subscription, Stop> {
    let notify = format!("{delivery}<e:NotifyTo><a:Address>{}</a:Address></e:NotifyTo>", sink.url());
    let filter = event_filter(case);
    let mut message = subscribe_to(&case.subject.class_uri("*"), mode, &notify, &filter);
    message.body = message.body.replacen("<e:Subscribe>", &format!("<e:Subscribe>{first}"), 1);
    open(case, &message).await
}

fn patience(case: &Case) -> Duration {
    Duration::from_secs(case.subject.profile.limits.wait_seconds)
}

async fn both(case: &mut Case) -> Checked {
    let message = subscribe(case, "", "");
    let subscription = open(case, &message).await?;
    case.ok(&subscription.request("Unsubscribe", "")).await?;
    Ok(())
}

async fn unknown_mode(case: &mut Case) -> Checked {
    offered(case).await?;
    let message = subscribe_to(&case.subject.class_uri("*"), "urn:x", "", &event_filter(case));
    case.fault(&message, "e:DeliveryModeRequestedUnavailable", None).await?;
    Ok(())
}

async fn unknown_dialect(case: &mut Case) -> Checked {
    offered(case).await?;
    let pull = format!("{DMTF_MODE}Pull");
    let message = subscribe_to(&case.subject.class_uri("*"), &pull, "", &filter("urn:x", "x"));
    let either = [("e:FilteringRequestedUnavailable", None), ("e:FilteringNotSupported", None)];
    case.fault_of(&message, &either).await?;
    Ok(())
}

async fn retries(case: &mut Case) -> Checked {
    offered(case).await?;
    for retry in [
        "<w:ConnectionRetry Total=\"0\">PT5S</w:ConnectionRetry>",
        "<w:ConnectionRetry Total=\"3\">PT0S</w:ConnectionRetry>",
    ] {
        let answer = case.send(&subscribe(case, retry, "")).await?;
        case.that(answer.is_fault(), "a fault")?;
    }
    Ok(())
}

async fn manager(case: &mut Case) -> Checked {
    let message = subscribe(case, "", "");
    let answer = case.offered(&message).await?;
    let expires = answer.body().map_or("", |body| body.text_at("Expires")).to_owned();
    case.that(!expires.is_empty(), "e:Expires")?;
    let subscription = Subscription::read(&answer);
    case.that(subscription.is_some(), "e:SubscriptionManager with an e:Identifier")?;
    if let Some(subscription) = subscription {
        case.ok(&subscription.request("Unsubscribe", "")).await?;
    }
    Ok(())
}

async fn heartbeats(case: &mut Case) -> Checked {
    let message = subscribe(case, "<w:Heartbeats>PT1S</w:Heartbeats>", "");
    let mut subscription = open(case, &message).await?;
    let mut beats = 0;
    for _ in 0..4 {
        let answer = case.send(&subscription.pull("<n:MaxTime>PT3S</n:MaxTime>")).await?;
        let context = answer.context();
        if !context.is_empty() {
            subscription.context = context;
        }
        let beat = answer.items().iter().any(|item| item.source.contains("/Heartbeat"));
        beats += u32::from(answer.status == 200 && (beat || answer.items().is_empty()));
        if beats > 1 {
            break;
        }
    }
    close(case, &subscription).await;
    case.that(beats > 1, format!("two heartbeats; {beats} came"))
}

async fn bookmarks(case: &mut Case) -> Checked {
    let message = subscribe(case, "", "<w:SendBookmarks/>");
    let mut subscription = open(case, &message).await?;
    happen(case).await?;
    let (first, answer) = events(case, &mut subscription, "").await?;
    let bookmark = answer.header_nodes().iter().find(|node| node.local == "Bookmark").cloned();
    let bookmark = bookmark.or_else(|| answer.body().and_then(|body| body.find("Bookmark")).cloned());
    close(case, &subscription).await;
    case.that(bookmark.is_some(), "w:Bookmark with the events")?;
    happen(case).await?;
    let inner = bookmark.map(|node| inner_xml(&node)).unwrap_or_default();
    let message = subscribe(case, "", &format!("<w:Bookmark>{inner}</w:Bookmark><w:SendBookmarks/>"));
    let mut subscription = open(case, &message).await?;
    let (second, _) = events(case, &mut subscription, "<n:MaxElements>100</n:MaxElements>").await?;
    close(case, &subscription).await;
    let again = second.iter().any(|event| first.iter().any(|known| known.source == event.source));
    case.that(!again, "the events behind the bookmark, none a second time")
}

/// What stands between the tags of an element, as it was written.
fn inner_xml(node: &Node) -> String {
    let start = node.source.find('>').map_or(0, |at| at + 1);
    let end = node.source.rfind("</").unwrap_or(start);
    node.source.get(start..end).unwrap_or_default().to_owned()
}

async fn wrong_bookmark(case: &mut Case) -> Checked {
    offered(case).await?;
    let message = subscribe(case, "", "<w:Bookmark>no bookmark of this server</w:Bookmark>");
    let answer = case.send(&message).await?;
    if answer.has_fault("w:UnsupportedFeature", Some("Bookmarks")) {
        return Err(Stop::NotOffered(answer.fault_text()));
    }
    case.is_fault(&answer, "w:InvalidBookmark", None)
}

async fn modes(case: &mut Case) -> Checked {
    offered(case).await?;
    let notify = "<e:NotifyTo><a:Address>http://127.0.0.1:9/events</a:Address></e:NotifyTo>";
    for (mode, delivery) in [
        (PUSH.to_owned(), notify),
        (format!("{DMTF_MODE}PushWithAck"), notify),
        (format!("{DMTF_MODE}Events"), notify),
        (format!("{DMTF_MODE}Pull"), ""),
    ] {
        let message = subscribe_to(&case.subject.class_uri("*"), &mode, delivery, &event_filter(case));
        let answer = case.send(&message).await?;
        let subscription = Subscription::read(&answer);
        let refused =
            ["e:DeliveryModeRequestedUnavailable", "w:EventDeliverToUnusable", "e:EventSourceUnableToProcess"];
        let refused = refused.iter().any(|subcode| answer.has_fault(subcode, None));
        case.that(subscription.is_some() || refused, format!("a subscription, or a fault about the mode {mode}"))?;
        if let Some(subscription) = subscription {
            close(case, &subscription).await;
        }
    }
    Ok(())
}

async fn waits_for_ack(case: &mut Case) -> Checked {
    let sink = sink(case, Manner::Hold).await?;
    let subscription = push(case, &sink, &format!("{DMTF_MODE}PushWithAck"), "", "").await?;
    happen(case).await?;
    happen(case).await?;
    sink.wait_for(1, patience(case)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = sink.deliveries().len();
    sink.set(Manner::Acknowledge);
    let after = sink.wait_for(2, patience(case)).await.len();
    close(case, &subscription).await;
    case.that(before == 1, format!("one delivery before the acknowledgement; {before} came"))?;
    case.that(after >= 2, format!("the next one after it; {after} came in all"))
}

async fn batches(case: &mut Case) -> Checked {
    let sink = sink(case, Manner::Acknowledge).await?;
    let limits = "<w:MaxElements>2</w:MaxElements><w:MaxTime>PT0.500S</w:MaxTime>";
    let subscription = push(case, &sink, &format!("{DMTF_MODE}Events"), limits, "").await?;
    for _ in 0..3 {
        happen(case).await?;
    }
    let mut count = 0;
    let mut most = 0;
    // Two batches, of which the second waits for MaxTime.
    for _ in 0..case.subject.profile.limits.wait_seconds.saturating_add(2).saturating_mul(5) {
        let sizes: Vec<usize> = sink
            .deliveries()
            .iter()
            .map(|one| one.at("Body/Events").map_or(0, |events| events.children.len()))
            .collect();
        count = sizes.iter().sum();
        most = sizes.into_iter().max().unwrap_or(0);
        if count >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    close(case, &subscription).await;
    case.that(count >= 3, format!("three events in all; {count} came"))?;
    case.that(most <= 2, format!("two events in a batch; {most} came"))
}

async fn renew(case: &mut Case) -> Checked {
    let message = subscribe(case, "", "");
    let subscription = open(case, &message).await?;
    let answer = case.send(&subscription.request("Renew", "<e:Expires>PT5M</e:Expires>")).await?;
    let renewed = answer.body().is_some_and(|body| body.local == "RenewResponse" && body.child("Expires").is_some());
    let refused = answer.has_fault("e:UnableToRenew", None) || answer.has_fault("a:ActionNotSupported", None);
    close(case, &subscription).await;
    case.that(renewed || refused, "e:RenewResponse with e:Expires, or the fault e:UnableToRenew")?;
    let answer = case.send(&subscription.request("Renew", "<e:Expires>PT5M</e:Expires>")).await?;
    case.that(answer.is_fault(), "a fault after Unsubscribe")
}

async fn unsubscribed(case: &mut Case) -> Checked {
    let message = subscribe(case, "", "");
    let subscription = open(case, &message).await?;
    case.ok(&subscription.request("Unsubscribe", "")).await?;
    let answer = case.send(&subscription.pull("<n:MaxTime>PT1S</n:MaxTime>")).await?;
    case.that(answer.is_fault(), "a fault for a Pull afterwards")?;
    let answer = case.send(&subscription.request("Unsubscribe", "")).await?;
    case.that(answer.is_fault(), "a fault for a second Unsubscribe")
}

async fn subscription_end(case: &mut Case) -> Checked {
    let events = sink(case, Manner::Fail).await?;
    let ends = sink(case, Manner::Acknowledge).await?;
    let end_to = format!("<e:EndTo><a:Address>{}</a:Address></e:EndTo>", ends.url());
    // What has no number of retries may be tried for as long as the subscription lives.
    let retries = "<w:ConnectionRetry Total=\"1\">PT0.5S</w:ConnectionRetry>";
    let subscription = push(case, &events, PUSH, retries, &end_to).await?;
    happen(case).await?;
    let told = ends.wait_for(1, patience(case)).await;
    close(case, &subscription).await;
    if told.is_empty() {
        return Err(Stop::NotApplicable(format!(
            "deliveries that fail do not end a subscription within {} s (limits.wait_seconds)",
            patience(case).as_secs()
        )));
    }
    let right = told.iter().all(|one| one.at("Body/SubscriptionEnd/Status").is_some());
    case.that(right, "e:SubscriptionEnd with e:Status")
}

async fn acknowledged(case: &mut Case) -> Checked {
    let sink = sink(case, Manner::Acknowledge).await?;
    let subscription = push(case, &sink, &format!("{DMTF_MODE}PushWithAck"), "", "").await?;
    happen(case).await?;
    let delivered = sink.wait_for(1, patience(case)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let ids: Vec<String> = sink.deliveries().iter().map(|one| one.text_at("Header/MessageID").to_owned()).collect();
    close(case, &subscription).await;
    let asked = delivered
        .iter()
        .all(|one| one.at("Header/AckRequested").is_some() && !one.text_at("Header/MessageID").is_empty());
    case.that(asked && !delivered.is_empty(), "deliveries with w:AckRequested and a MessageID")?;
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    case.that(once.len() == ids.len(), "no acknowledged delivery a second time")
}

async fn refused(case: &mut Case) -> Checked {
    let events = sink(case, Manner::Refuse).await?;
    let ends = sink(case, Manner::Acknowledge).await?;
    let end_to = format!("<e:EndTo><a:Address>{}</a:Address></e:EndTo>", ends.url());
    let subscription = push(case, &events, &format!("{DMTF_MODE}PushWithAck"), "", &end_to).await?;
    happen(case).await?;
    events.wait_for(1, patience(case)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let first = events.deliveries().len();
    happen(case).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (second, told) = (events.deliveries().len(), ends.deliveries().len());
    close(case, &subscription).await;
    case.that(first == 1 && second == 1, format!("one delivery; {second} came"))?;
    case.that(told == 0, "no e:SubscriptionEnd")
}

async fn dropped(case: &mut Case) -> Checked {
    let query = case.subject.profile.events.large_query.clone();
    if query.is_empty() {
        return Err(Stop::NotApplicable(
            "the profile names no query for events of which one fills an envelope".to_owned(),
        ));
    }
    // In UTF-16 an event of 4,000 characters is longer than the smallest envelope.
    let limits = "<w:MaxEnvelopeSize Policy=\"Notify\">8192</w:MaxEnvelopeSize>";
    let mode = format!("{DMTF_MODE}Pull");
    let message = subscribe_to(&case.subject.class_uri("*"), &mode, limits, &filter(WQL, &escaped(&query)));
    let mut subscription = open(case, &message).await?;
    happen(case).await?;
    let told = dropped_report(case, &mut subscription).await;
    close(case, &subscription).await;
    let (fitted, count) = told?;
    if fitted {
        return Err(Stop::NotApplicable(format!("the events of \"{query}\" fit into 8192 octets in UTF-16")));
    }
    case.that(count > 0, "w:DroppedEvents with a number in the next answer")
}

/// Pulls in UTF-16 until an event came or was reported as dropped: whether one came, and how many are reported.
async fn dropped_report(case: &mut Case, subscription: &mut Subscription) -> Result<(bool, u64), Stop> {
    for _ in 0..case.subject.profile.limits.wait_seconds.max(1) {
        let pull = subscription.pull("<n:MaxTime>PT1S</n:MaxTime>").text(&case.subject.new_id());
        let answer = case.raw(&utf16_request(&pull)).await?;
        if answer.has_fault("w:TimedOut", None) {
            continue;
        }
        case.that(answer.status == 200 && !answer.is_fault(), "n:PullResponse, or the fault w:TimedOut")?;
        subscription.context = answer.context();
        let report = answer.tree.as_ref().and_then(|tree| tree.find("DroppedEvents"));
        let count = report.map_or(0, |report| report.text.trim().parse().unwrap_or(0));
        if count > 0 {
            return Ok((false, count));
        }
        // An event has properties, whatever else is told has text.
        if answer.items().iter().any(|item| !item.children.is_empty()) {
            return Ok((true, 0));
        }
    }
    Ok((false, 0))
}

/// C149.
pub(super) async fn other_class(case: &mut Case) -> Checked {
    offered(case).await?;
    let pull = format!("{DMTF_MODE}Pull");
    let uri = case.subject.class_uri(&case.subject.profile.cim.class);
    case.fault(&subscribe_to(&uri, &pull, "", &event_filter(case)), "e:EventSourceUnableToProcess", None).await?;
    Ok(())
}

/// C156.
pub(super) async fn filter_needed(case: &mut Case) -> Checked {
    offered(case).await?;
    let pull = format!("{DMTF_MODE}Pull");
    let message = subscribe_to(&case.subject.class_uri("*"), &pull, "", "");
    let either = [("e:InvalidMessage", None), ("e:FilteringRequestedUnavailable", None)];
    case.fault_of(&message, &either).await?;
    Ok(())
}

/// C157.
pub(super) async fn indication_class(case: &mut Case) -> Checked {
    let uri = case.subject.class_uri(&case.subject.profile.events.class);
    let pull = format!("{DMTF_MODE}Pull");
    for filter in [String::new(), event_filter(case)] {
        let subscription = open(case, &subscribe_to(&uri, &pull, "", &filter)).await?;
        close(case, &subscription).await;
    }
    Ok(())
}

/// C158.
pub(super) async fn existing_filter(case: &mut Case) -> Checked {
    offered(case).await?;
    let uri = wmi_uri(&case.subject.profile.cim.other_namespace, "CIM_IndicationFilter");
    let references = "<w:EnumerationMode>EnumerateEPR</w:EnumerationMode>";
    let answer = case.send(&Message::list(uri, 1, references)).await?;
    if answer.has_fault("a:DestinationUnreachable", None) {
        return Err(Stop::NotOffered(answer.fault_text()));
    }
    let items = answer.items();
    let Some(filter) = items.first().and_then(Found::read) else {
        return Err(Stop::NotApplicable("there is no instance of CIM_IndicationFilter to subscribe to".to_owned()));
    };
    let pull = format!("{DMTF_MODE}Pull");
    let subscribe = |behind: &str| subscribe_to(&filter.resource, &pull, "", behind).select(filter.selector_xml());
    let subscription = open(case, &subscribe("")).await?;
    close(case, &subscription).await;
    let own = event_filter(case);
    case.fault(&subscribe(&own), "w:InvalidParameter", None).await.map(|_| ())
}

/// C159.
pub(super) async fn implicit_instances(case: &mut Case) -> Checked {
    offered(case).await?;
    let uri = wmi_uri(&case.subject.profile.cim.other_namespace, "CIM_IndicationSubscription");
    let answer = case.send(&Message::list(uri, 1000, "")).await?;
    let none = answer.has_fault("a:DestinationUnreachable", None) || answer.has_fault("a:ActionNotSupported", None);
    case.that(none || answer.items().is_empty(), "no instance of CIM_IndicationSubscription, or no such class")
}
