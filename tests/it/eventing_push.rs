//! Subscriptions whose events are sent: the three modes, acknowledgement, retries, batches, the end, restarts.

use std::time::Duration;

use wsnapd::wsman::{Delivery, Encoding};

use crate::eventing_support::{
    INSTALLATION, OF_JOBS, PUSH, SINK, Say, Stage, WSMAN, delivery, filter, manage, notify_to, steps,
};
use crate::tree::Node;
use crate::wsman::fault_of;

/// A subscription of that mode to the progress of jobs, with the sink of the stage.
async fn push(stage: &Stage, mode: &str, inner: &str, further: &str) -> String {
    let delivery = delivery(mode, &format!("{}{inner}", notify_to(SINK)));
    let body = stage.subscribe(&format!("{delivery}{}{further}", filter(OF_JOBS))).await;
    Node::parse(&body).find("Identifier").unwrap_or_else(|| panic!("{body}")).text.clone()
}

fn text(message: &Node, local: &str) -> String {
    message.find(local).unwrap_or_else(|| panic!("{local}: {message:?}")).text.clone()
}

/// The content of the body of a message.
fn content(message: &Delivery) -> Vec<Node> {
    let mut envelope = Node::parse(&message.envelope);
    envelope.children.pop().unwrap().children
}

/// The events of messages, those of batches without their wrapping; an event that came again is left out.
fn events(messages: &[Delivery]) -> Vec<Node> {
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for message in messages {
        let id = text(&Node::parse(&message.envelope), "MessageID");
        if seen.contains(&id) {
            continue;
        }
        seen.push(id);
        for node in content(message) {
            match node.local.as_str() {
                "Events" => {
                    for mut event in node.children {
                        assert_eq!(event.attributes.get("Action"), Some(&format!("{WSMAN}/Event")));
                        all.push(event.children.remove(0));
                    }
                }
                _ => all.push(node),
            }
        }
    }
    all
}

/// Waits until the end of `jobs` jobs has come, and a little longer.
async fn until_the_end(stage: &Stage, jobs: usize) -> Vec<Node> {
    for _ in 0..1000 {
        let events = events(&stage.sink.messages());
        if steps(&events).iter().filter(|(state, _)| state == "7").count() >= jobs {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return self::events(&stage.sink.messages());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the end does not come: {:?}", steps(&events(&stage.sink.messages())));
}

#[tokio::test]
async fn each_mode_brings_every_step_once_also_over_restarts() {
    for (mode, action) in [("Push", "Event"), ("PushWithAck", "Event"), ("Events", "Events")] {
        for crash in [false, true] {
            let mut stage = Stage::start().await;
            stage.slow_snapshots(Duration::from_millis(100));
            push(&stage, mode, "", "<w:SendBookmarks/>").await;
            for round in 0..3 {
                let job = stage.snapshot(&format!("s{round}")).await;
                stage.finished(job).await;
                stage = if crash { stage.crash().await } else { stage.restart().await };
            }
            let got = until_the_end(&stage, 3).await;
            let messages = stage.sink.messages();
            for message in &messages {
                let envelope = Node::parse(&message.envelope);
                assert_eq!(text(&envelope, "Action"), format!("{WSMAN}/{action}"));
                assert_eq!((message.url.as_str(), text(&envelope, "To").as_str()), (SINK, SINK));
                assert_eq!(envelope.find("AckRequested").is_some(), mode != "Push");
                assert!(text(&envelope, "Bookmark").starts_with(INSTALLATION));
            }
            let further = format!("<w:Bookmark>{WSMAN}/bookmark/earliest</w:Bookmark>");
            let (mut context, _) = stage.pull_subscription(OF_JOBS, &further).await;
            assert_eq!(steps(&got), steps(&stage.drain(&mut context).await), "{mode} {crash}");
            assert!(got.len() > 9, "{}", got.len());
        }
    }
}

#[tokio::test]
async fn the_next_event_waits_for_the_acknowledgement() {
    let stage = Stage::start().await;
    stage.sink.script(&[Say::Silence, Say::Down, Say::Silence]);
    push(&stage, "PushWithAck", "<w:ConnectionRetry Total=\"9\">PT0.02S</w:ConnectionRetry>", "").await;
    stage.slow_snapshots(Duration::from_millis(40));
    stage.finished(stage.snapshot("one").await).await;
    let got = until_the_end(&stage, 1).await;
    let messages = stage.sink.messages();
    // Two without an acknowledgement and the third try are the same message.
    let ids: Vec<String> = messages.iter().map(|message| text(&Node::parse(&message.envelope), "MessageID")).collect();
    assert_eq!((&ids[0], &ids[1]), (&ids[1], &ids[2]));
    assert_ne!(ids[2], ids[3]);
    assert!(steps(&got).is_sorted_by_key(|(_, percent)| *percent));
}

#[tokio::test]
async fn batches_are_bounded_and_wait_for_more() {
    let stage = Stage::start().await;
    stage.slow_snapshots(Duration::from_millis(100));
    push(&stage, "Events", "<w:MaxElements>4</w:MaxElements><w:MaxTime>PT0.4S</w:MaxTime>", "").await;
    stage.finished(stage.snapshot("one").await).await;
    until_the_end(&stage, 1).await;
    let sizes: Vec<usize> = stage.sink.messages().iter().map(|message| content(message)[0].children.len()).collect();
    assert!(sizes.iter().all(|size| (1..=4).contains(size)), "{sizes:?}");
    assert!(sizes.iter().rev().skip(1).all(|size| *size == 4), "only the last one is not full: {sizes:?}");
}

#[tokio::test]
async fn small_envelopes_drop_what_does_not_fit_as_the_policy_says() {
    let stage = Stage::start().await;
    for (policy, action) in [("Notify", Some("DroppedEvents")), ("Skip", None)] {
        // No event of a job fits into an envelope of 8192 octets of UTF-16.
        let inner = format!(
            "<w:MaxEnvelopeSize Policy=\"{policy}\">8192</w:MaxEnvelopeSize><w:ContentEncoding>UTF-16</w:ContentEncoding>"
        );
        let id = push(&stage, "Push", &inner, "").await;
        stage.finished(stage.snapshot(policy).await).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let messages = std::mem::take(&mut *stage.sink.got.lock().unwrap());
        assert_eq!(messages.is_empty(), action.is_none(), "{messages:?}");
        for message in &messages {
            assert_eq!(message.encoding, Encoding::Utf16);
            assert_eq!(text(&Node::parse(&message.envelope), "Action"), format!("{WSMAN}/DroppedEvents"));
        }
        stage.send(&manage("Unsubscribe", &id, "")).await;
    }
}

#[tokio::test]
async fn heartbeats_come_while_nothing_happens() {
    let stage = Stage::start().await;
    for mode in ["Push", "PushWithAck", "Events"] {
        stage.sink.got.lock().unwrap().clear();
        let id = push(&stage, mode, "<w:Heartbeats>PT0.05S</w:Heartbeats>", "").await;
        let messages = stage.sink.wait_for(3).await;
        let envelope = Node::parse(&messages[0].envelope);
        if mode == "Events" {
            assert_eq!(text(&envelope, "Action"), format!("{WSMAN}/Events"));
            assert_eq!(content(&messages[0])[0].children[0].attributes["Action"], format!("{WSMAN}/Heartbeat"));
        } else {
            assert_eq!(text(&envelope, "Action"), format!("{WSMAN}/Heartbeat"));
            assert!(content(&messages[0]).is_empty());
        }
        stage.send(&manage("Unsubscribe", &id, "")).await;
    }
}

#[tokio::test]
async fn unsubscribe_stops_deliveries() {
    let stage = Stage::start().await;
    let id = push(&stage, "Push", "<w:Heartbeats>PT0.02S</w:Heartbeats>", "").await;
    stage.sink.wait_for(1).await;
    assert!(stage.send(&manage("Unsubscribe", &id, "")).await.contains("UnsubscribeResponse"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let count = stage.sink.messages().len();
    stage.finished(stage.snapshot("one").await).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stage.sink.messages().len(), count);
}

#[tokio::test]
async fn a_sink_that_refuses_ends_the_subscription_and_one_that_is_down_is_told_so() {
    let stage = Stage::start().await;
    let end_to = format!(
        "<e:EndTo><a:Address>{SINK}/end</a:Address><a:ReferenceParameters><x:Ref xmlns:x=\"urn:x\">7</x:Ref></a:ReferenceParameters></e:EndTo>"
    );
    stage.sink.script(&[Say::Refuse]);
    let refused = push(&stage, "Push", "", &end_to).await;
    stage.finished(stage.snapshot("one").await).await;
    stage.sink.wait_for(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // R10.8-1: nothing more, not even the end.
    assert_eq!(stage.sink.messages().len(), 1);
    assert_eq!(fault_of(&stage.send(&manage("Renew", &refused, "")).await), "e:UnableToRenew//2150858788");
    stage.sink.got.lock().unwrap().clear();
    stage.sink.script(&[Say::Down, Say::Down, Say::Down]);
    let retry = "<w:ConnectionRetry Total=\"2\">PT0.02S</w:ConnectionRetry>";
    let failed = push(&stage, "PushWithAck", retry, &end_to).await;
    stage.finished(stage.snapshot("two").await).await;
    let messages = stage.sink.wait_for(1).await;
    assert_eq!(messages[0].url, format!("{SINK}/end"));
    let envelope = Node::parse(&messages[0].envelope);
    assert!(text(&envelope, "Status").ends_with("/eventing/DeliveryFailure"), "{envelope:?}");
    assert_eq!((text(&envelope, "Ref").as_str(), text(&envelope, "Identifier")), ("7", failed.clone()));
    assert_eq!(fault_of(&stage.send(&manage("Renew", &failed, "")).await), "e:UnableToRenew//2150858788");
}

#[tokio::test]
async fn a_sink_that_hangs_holds_up_nobody_else() {
    let stage = Stage::start().await;
    stage.sink.always(Say::Hang);
    push(&stage, "Push", "", "").await;
    let (mut context, _) = stage.pull_subscription(OF_JOBS, "").await;
    stage.slow_snapshots(Duration::from_millis(40));
    stage.finished(stage.snapshot("one").await).await;
    assert_eq!(steps(&stage.drain(&mut context).await).last().map(|(state, _)| state.clone()), Some("7".to_owned()));
}

#[tokio::test]
async fn hosts_that_are_no_longer_allowed_lose_their_subscriptions_at_the_next_start() {
    let mut stage = Stage::start().await;
    let id = push(&stage, "Push", "", "").await;
    stage.forbid_push();
    let stage = stage.restart().await;
    assert_eq!(fault_of(&stage.send(&manage("Renew", &id, "")).await), "e:UnableToRenew//2150858788");
    let inner = format!("<e:Delivery Mode=\"{PUSH}\">{}</e:Delivery>{}", notify_to(SINK), filter(OF_JOBS));
    assert_eq!(fault_of(&stage.subscribe(&inner).await), "w:EventDeliverToUnusable//2150859101");
}
