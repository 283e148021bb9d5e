//! Subscriptions with Pull: what they are told of, the answers and faults of each operation, bookmarks, restarts.

use std::time::Duration;

use wsnapd::engine::JournalLimits;

use crate::eventing_support::{
    EVENTING, OF_JOBS, Stage, Tuning, V2, WSMAN, delivery, envelope, filter, manage, notify_to, property, pull, steps,
    subscribe_to,
};
use crate::tree::Node;
use crate::wsman::fault_of;

#[tokio::test]
async fn a_job_is_followed_from_its_start_to_its_end() {
    let stage = Stage::start().await;
    stage.slow_snapshots(Duration::from_millis(200));
    let query = "SELECT * FROM __InstanceOperationEvent WHERE TargetInstance ISA 'CIM_Job'";
    let (mut context, _) = stage.pull_subscription(query, "").await;
    let job = stage.snapshot("one").await;
    stage.finished(job).await;
    let events = stage.drain(&mut context).await;
    assert_eq!(events[0].local, "__InstanceCreationEvent");
    assert!(events[1..].iter().all(|event| event.local == "__InstanceModificationEvent"));
    let steps = steps(&events);
    assert!(steps.len() > 5, "{steps:?}");
    assert_eq!((steps[0].clone(), steps.last().cloned()), (("4".to_owned(), 0), Some(("7".to_owned(), 100))));
    assert!(steps.is_sorted_by_key(|(_, percent)| *percent), "{steps:?}");
    for pair in events.windows(2).skip(1) {
        let before = property(&pair[1], "PreviousInstance", "PercentComplete");
        assert_eq!(before, property(&pair[0], "TargetInstance", "PercentComplete"));
    }
}

/// How many events each query gets of one snapshot with the name `one`.
#[tokio::test]
async fn queries_choose_among_the_events_of_all_classes() {
    let stage = Stage::start().await;
    let record = "TargetInstance ISA 'Msvm_VirtualSystemSettingData'";
    let queries = [
        (format!("SELECT * FROM __InstanceCreationEvent WITHIN 0.5 WHERE {record}"), 1),
        (
            format!(
                "SELECT * FROM __InstanceCreationEvent WHERE {record} AND TargetInstance.VirtualSystemType = 'Microsoft:Hyper-V:Snapshot:Realized'"
            ),
            1,
        ),
        (
            format!(
                "SELECT * FROM __InstanceCreationEvent WHERE {record} AND TargetInstance.VirtualSystemType LIKE '%Recovery'"
            ),
            0,
        ),
        ("SELECT * FROM __InstanceDeletionEvent WHERE TargetInstance ISA 'Msvm_VirtualSystemSettingData'".to_owned(), 0),
        ("SELECT * FROM __InstanceCreationEvent WHERE TargetInstance.ElementName = 'one'".to_owned(), 1),
        ("SELECT * FROM __InstanceCreationEvent WHERE TargetInstance.__CLASS = 'Msvm_ConcreteJob'".to_owned(), 1),
        ("SELECT * FROM CIM_InstCreation WHERE SourceInstance ISA Msvm_ConcreteJob".to_owned(), 1),
        (
            "SELECT * FROM __InstanceModificationEvent WHERE TargetInstance ISA 'Msvm_ConcreteJob' AND TargetInstance.JobState = 7 AND PreviousInstance.JobState <> TargetInstance.JobState".to_owned(),
            1,
        ),
    ];
    let mut contexts = Vec::new();
    for (query, _) in &queries {
        contexts.push(stage.pull_subscription(query, "").await.0);
    }
    let job = stage.snapshot("one").await;
    stage.finished(job).await;
    for ((query, wanted), mut context) in queries.iter().zip(contexts) {
        let events = stage.drain(&mut context).await;
        assert_eq!(events.len(), *wanted, "{query}: {events:?}");
    }
}

#[tokio::test]
async fn a_class_uri_needs_no_filter_and_a_projection_has_no_namespace() {
    let stage = Stage::start().await;
    let body = stage.send(&subscribe_to("__InstanceCreationEvent", &delivery("Pull", ""))).await;
    let mut context = Node::parse(&body).find("EnumerationContext").unwrap().text.clone();
    let query = "SELECT TIME_CREATED FROM __InstanceCreationEvent WHERE TargetInstance ISA 'Msvm_ConcreteJob'";
    let (mut projected, _) = stage.pull_subscription(query, "").await;
    stage.finished(stage.snapshot("one").await).await;
    let events = stage.drain(&mut context).await;
    assert_eq!(events.len(), 2, "a job and a settings record: {events:?}");
    let events = stage.drain(&mut projected).await;
    assert_eq!((events[0].local.as_str(), events[0].children.len()), ("XmlFragment", 1));
    assert_eq!((events[0].children[0].local.as_str(), events[0].children[0].namespace.as_str()), ("TIME_CREATED", ""));
}

/// Each wrong Subscribe and the subcode, detail and code of its fault.
#[tokio::test]
async fn wrong_subscriptions_get_their_faults() {
    let stage = Stage::start().await;
    let ok = filter(OF_JOBS);
    let push = |inner: &str| format!("{}{ok}", delivery("Push", &format!("{}{inner}", notify_to("http://[::1]:1/x"))));
    let pull = |inner: &str| format!("{}{ok}", delivery("Pull", inner));
    let query = |query: &str| format!("{}{}", delivery("Pull", ""), filter(query));
    let bookmark = |text: &str| format!("{}<w:Bookmark>{text}</w:Bookmark>", pull(""));
    let expires = |text: &str| format!("{}<e:Expires>{text}</e:Expires>", pull(""));
    let cases: Vec<(&str, String, &str)> = vec![
        ("*", format!("<e:Delivery Mode=\"urn:x\"/>{ok}"), "e:DeliveryModeRequestedUnavailable//2150858782"),
        ("*", ok.clone(), "e:InvalidMessage//2150858912"),
        ("*", format!("{}{ok}", delivery("Push", "<e:NotifyTo/>")), "e:InvalidMessage//2150858913"),
        ("*", format!("{}{ok}", delivery("Push", &notify_to("ftp://x/"))), "e:InvalidMessage//2150858914"),
        ("*", format!("{}{ok}", delivery("Push", &notify_to("http://evil/"))), "w:EventDeliverToUnusable//2150859101"),
        (
            "*",
            format!("{}{ok}", delivery("Push", &notify_to("https://[::1]/"))),
            "w:EventDeliverToUnusable//2150859101",
        ),
        ("*", format!("<e:EndTo/>{}", pull("")), "w:UnsupportedFeature/AddressingMode/2150858902"),
        ("*", pull("<w:Heartbeats>PT0S</w:Heartbeats>"), "e:InvalidMessage//2150858916"),
        ("*", pull("<w:Heartbeats>soon</w:Heartbeats>"), "e:InvalidMessage//2150858916"),
        ("*", push("<w:ConnectionRetry Total=\"0\">PT5S</w:ConnectionRetry>"), "w:InternalError//2150859103"),
        ("*", push("<w:ConnectionRetry Total=\"5\">PT0S</w:ConnectionRetry>"), "w:InternalError//2150859103"),
        ("*", push("<w:ConnectionRetry>PT5S</w:ConnectionRetry>"), "w:InternalError//2150859103"),
        ("*", pull("<w:MaxElements>0</w:MaxElements>"), "e:InvalidMessage//2150858789"),
        ("*", pull("<w:MaxTime>x</w:MaxTime>"), "e:InvalidMessage//2150858789"),
        ("*", pull("<w:MaxEnvelopeSize>100</w:MaxEnvelopeSize>"), "w:EncodingLimit/MinimumEnvelopeLimit/2150858878"),
        ("*", pull("<w:MaxEnvelopeSize Policy=\"X\">9000</w:MaxEnvelopeSize>"), "e:InvalidMessage//2150858789"),
        ("*", pull("<w:ContentEncoding>EBCDIC</w:ContentEncoding>"), "w:EncodingLimit/CharacterSet/2150858828"),
        ("*", push("<w:Auth Profile=\"x\"/>"), "w:UnsupportedFeature/AuthorizationMode/2150858852"),
        ("*", delivery("Pull", ""), "e:InvalidMessage//2150858789"),
        ("*", format!("{}{ok}{ok}", delivery("Pull", "")), "e:InvalidMessage//2150858789"),
        ("*", "<w:Filter Dialect=\"urn:x\">x</w:Filter>".to_owned(), "e:FilteringRequestedUnavailable//2150858786"),
        ("*", query("SELECT * FROM"), "w:CannotProcessFilter//2150859042"),
        ("*", query("SELECT * FROM NoSuchClass"), "w:CannotProcessFilter//2150859042"),
        (
            "*",
            query("SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'Nothing'"),
            "w:CannotProcessFilter//2150859042",
        ),
        (
            "*",
            query(
                "SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'Msvm_ConcreteJob' AND TargetInstance.Nothing = 1",
            ),
            "w:CannotProcessFilter//2150859042",
        ),
        (
            "*",
            query(
                "SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'Msvm_ConcreteJob' AND TargetInstance.JobState = 'x'",
            ),
            "w:CannotProcessFilter//2150859042",
        ),
        (
            "*",
            query("SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'Msvm_HostedService'"),
            "e:EventSourceUnableToProcess//2150858787",
        ),
        ("*", query("SELECT * FROM Msvm_ConcreteJob"), "e:EventSourceUnableToProcess//2150858787"),
        ("Msvm_ConcreteJob", delivery("Pull", ""), "e:EventSourceUnableToProcess//2150858787"),
        ("CIM_Error", delivery("Pull", ""), "e:EventSourceUnableToProcess//2150858787"),
        ("CIM_InstCreation", pull(""), "e:EventSourceUnableToProcess//2150858787"),
        ("NoSuchClass", pull(""), "a:DestinationUnreachable/InvalidResourceURI/2150858811"),
        ("*", expires("PT0S"), "e:InvalidExpirationTime//2150858783"),
        ("*", expires("-PT5S"), "e:InvalidExpirationTime//2150858783"),
        ("*", expires("2020-01-01T00:00:00Z"), "e:InvalidExpirationTime//2150858783"),
        ("*", expires("tomorrow"), "e:UnsupportedExpirationType//2150858784"),
        ("*", bookmark("garbage"), "w:InvalidBookmark/InvalidFormat/2150858808"),
        ("*", bookmark("<x/>"), "w:InvalidBookmark/InvalidFormat/2150858808"),
        ("*", bookmark("7C6E1D53-40A5-4B19-8D35-6B5B0F0C2A12:1"), "w:InvalidBookmark/Invalid/2150858808"),
        ("*", bookmark("7C6E1D53-40A5-4B19-8D35-6B5B0F0C2A11:0"), "w:InvalidBookmark/Expired/2150858832"),
    ];
    for (class, inner, expected) in cases {
        let body = stage.send(&subscribe_to(class, &inner)).await;
        assert_eq!(fault_of(&body), expected, "{class} {inner}: {body}");
    }
    // A resource that is missing or unknown is told first, whatever else is wrong.
    let selected = "<w:SelectorSet><w:Selector Name=\"Name\">x</w:Selector></w:SelectorSet></s:Header>";
    let wrong = subscribe_to("NoSuchClass", "").replace("</s:Header>", selected);
    let (before, rest) = wrong.split_once("<w:ResourceURI").unwrap();
    let missing = format!("{before}{}", rest.split_once("</w:ResourceURI>").unwrap().1);
    for request in [wrong.clone(), missing] {
        let body = stage.send(&request).await;
        assert_eq!(fault_of(&body), "a:DestinationUnreachable/InvalidResourceURI/2150858811", "{request}: {body}");
    }
    let body = stage.subscribe(&format!("<e:Delivery Mode=\"urn:x\"/>{ok}")).await;
    assert_eq!(body.matches("<e:SupportedDeliveryMode>").count(), 4, "{body}");
    let body = stage.subscribe(&format!("{}{ok}", delivery("Push", &notify_to("http://evil/")))).await;
    assert!(body.contains("push_hosts"), "{body}");
}

#[tokio::test]
async fn a_subscription_is_renewed_expires_and_is_ended_by_its_owner_only() {
    let stage = Stage::start().await;
    let status = envelope(&format!("{EVENTING}/GetStatus"), &format!("{V2}/*"), "", "<e:GetStatus/>");
    assert_eq!(fault_of(&stage.send(&status).await), "a:ActionNotSupported//2150858771");
    let (context, id) = stage.pull_subscription(OF_JOBS, "<e:Expires>PT60S</e:Expires>").await;
    let renew = manage("Renew", &id, "<e:Expires>PT2M</e:Expires>");
    assert!(stage.send(&renew).await.contains("<e:Expires>PT120S</e:Expires>"));
    assert_eq!(fault_of(&stage.send_as("other", &renew).await), "w:AccessDenied//2150859177");
    assert_eq!(fault_of(&stage.send_as("other", &pull(&context, "")).await), "w:AccessDenied//2150859177");
    let unsubscribe = manage("Unsubscribe", &id, "");
    assert_eq!(fault_of(&stage.send_as("other", &unsubscribe).await), "w:AccessDenied//2150859177");
    stage.advance(100);
    assert!(stage.send(&unsubscribe).await.contains("UnsubscribeResponse"));
    assert_eq!(fault_of(&stage.send(&unsubscribe).await), "a:DestinationUnreachable//2150858752");
    assert_eq!(fault_of(&stage.send(&renew).await), "e:UnableToRenew//2150858788");
    assert_eq!(fault_of(&stage.send(&pull(&context, "")).await), "n:InvalidEnumerationContext//2150858779");
    let (context, id) = stage.pull_subscription(OF_JOBS, "<e:Expires>PT60S</e:Expires>").await;
    stage.advance(61);
    assert_eq!(fault_of(&stage.send(&pull(&context, "")).await), "n:InvalidEnumerationContext//2150858779");
    assert_eq!(fault_of(&stage.send(&manage("Renew", &id, "")).await), "e:UnableToRenew//2150858788");
    // Without a word it lives ten minutes, and never longer than a day.
    for (asked, granted) in [("", "PT600S"), ("<e:Expires>P30D</e:Expires>", "PT86400S")] {
        let body = stage.subscribe(&format!("{}{}{asked}", delivery("Pull", ""), filter(OF_JOBS))).await;
        assert!(body.contains(&format!("<e:Expires>{granted}</e:Expires>")), "{body}");
    }
}

#[tokio::test]
async fn a_user_has_so_many_subscriptions_and_no_more() {
    let stage = Stage::with(Tuning { per_user: 2, ..Tuning::default() }).await;
    let text = subscribe_to("*", &format!("{}{}", delivery("Pull", ""), filter(OF_JOBS)));
    for _ in 0..2 {
        assert!(stage.send(&text).await.contains("SubscribeResponse"));
    }
    assert_eq!(fault_of(&stage.send(&text).await), "w:QuotaLimit//2150859174");
    assert!(stage.send_as("other", &text).await.contains("SubscribeResponse"));
}

#[tokio::test]
async fn a_pull_without_events_times_out_and_a_heartbeat_ends_it_earlier() {
    let stage = Stage::start().await;
    let (context, _) = stage.pull_subscription(OF_JOBS, "").await;
    for _ in 0..2 {
        let body = stage.send(&pull(&context, "<n:MaxTime>PT0.05S</n:MaxTime>")).await;
        assert_eq!(fault_of(&body), "w:TimedOut//2150858793");
    }
    let inner = format!("{}{}", delivery("Pull", "<w:Heartbeats>PT0.05S</w:Heartbeats>"), filter(OF_JOBS));
    let body = stage.subscribe(&inner).await;
    let context = Node::parse(&body).find("EnumerationContext").unwrap().text.clone();
    let pulled = stage.pull(&context, "").await;
    assert_eq!(pulled.items.len(), 1);
    assert_eq!(pulled.items[0].attributes.get("Action"), Some(&format!("{WSMAN}/Heartbeat")));
}

/// The answer of a Pull may be lost: until the new context is used, the old one brings the same again.
#[tokio::test]
async fn an_answer_that_was_lost_comes_again_and_a_confirmed_one_does_not() {
    let stage = Stage::start().await;
    stage.slow_snapshots(Duration::from_millis(60));
    let (first, _) = stage.pull_subscription(OF_JOBS, "").await;
    stage.finished(stage.snapshot("one").await).await;
    let one = stage.pull(&first, "<n:MaxElements>1</n:MaxElements>").await;
    let again = stage.pull(&first, "<n:MaxElements>1</n:MaxElements>").await;
    assert_eq!(steps(&one.items), steps(&again.items));
    assert_eq!(fault_of(&stage.send(&pull(&one.context, "")).await), "n:InvalidEnumerationContext//2150858779");
    let next = stage.pull(&again.context, "<n:MaxElements>1</n:MaxElements>").await;
    assert_ne!(steps(&next.items), steps(&one.items));
    assert_eq!(fault_of(&stage.send(&pull(&first, "")).await), "n:InvalidEnumerationContext//2150858779");
}

/// All events of a reference subscription, for a comparison.
async fn everything(stage: &Stage, bookmark: &str) -> Vec<Node> {
    let further = format!("<w:Bookmark>{bookmark}</w:Bookmark>");
    let (mut context, _) = stage.pull_subscription(OF_JOBS, &further).await;
    stage.drain(&mut context).await
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_restarts() {
    for crash in [false, true] {
        let mut stage = Stage::start().await;
        stage.slow_snapshots(Duration::from_millis(100));
        let (mut context, _) = stage.pull_subscription(OF_JOBS, "<w:SendBookmarks/>").await;
        let mut seen = Vec::new();
        let mut bookmark = String::new();
        for round in 0..3 {
            let job = stage.snapshot(&format!("s{round}")).await;
            let pulled = stage.pull(&context, "<n:MaxElements>2</n:MaxElements>").await;
            seen.extend(pulled.items);
            (context, bookmark) = (pulled.context, pulled.bookmark.unwrap());
            stage.finished(job).await;
            stage = if crash { stage.crash().await } else { stage.restart().await };
        }
        // A second subscription goes on where the bookmark stands.
        let behind = everything(&stage, &bookmark).await;
        let rest = stage.drain(&mut context).await;
        assert_eq!(steps(&rest), steps(&behind));
        seen.extend(rest);
        let all = everything(&stage, &format!("{WSMAN}/bookmark/earliest")).await;
        let states: Vec<_> = seen.iter().map(|event| property(event, "TargetInstance", "JobState")).collect();
        assert_eq!(states.iter().filter(|state| *state == "7").count(), 3, "{states:?}");
        assert_eq!(steps(&seen), steps(&all));
        assert!(seen.len() > 9, "{}", seen.len());
    }
}

#[tokio::test]
async fn a_bookmark_is_refused_when_its_events_are_gone() {
    let journal = JournalLimits { events: 60, age: Duration::from_secs(3600) };
    let stage = Stage::with(Tuning { journal, ..Tuning::default() }).await;
    stage.slow_snapshots(Duration::from_millis(60));
    let (context, id) = stage.pull_subscription(OF_JOBS, "<w:SendBookmarks/>").await;
    stage.finished(stage.snapshot("one").await).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let bookmark = stage.pull(&context, "<n:MaxElements>1</n:MaxElements>").await.bookmark.unwrap();
    assert!(!everything(&stage, &bookmark).await.is_empty());
    stage.send(&manage("Unsubscribe", &id, "")).await;
    for name in ["two", "three", "four", "five", "six"] {
        stage.finished(stage.snapshot(name).await).await;
    }
    let inner = format!("{}{}<w:Bookmark>{bookmark}</w:Bookmark>", delivery("Pull", ""), filter(OF_JOBS));
    assert_eq!(fault_of(&stage.subscribe(&inner).await), "w:InvalidBookmark/Expired/2150858832");
}

#[tokio::test]
async fn too_many_waiting_events_are_dropped_and_reported() {
    let stage = Stage::with(Tuning { queue_limit: 3, ..Tuning::default() }).await;
    stage.slow_snapshots(Duration::from_millis(100));
    let subscribe = |policy: &str| {
        let size = format!("<w:MaxEnvelopeSize Policy=\"{policy}\">100000</w:MaxEnvelopeSize>");
        format!("{}{}", delivery("Pull", &size), filter(OF_JOBS))
    };
    let mut contexts = Vec::new();
    for policy in ["Notify", "Skip", "CancelSubscription"] {
        let body = stage.subscribe(&subscribe(policy)).await;
        contexts.push(Node::parse(&body).find("EnumerationContext").unwrap().text.clone());
    }
    stage.finished(stage.snapshot("one").await).await;
    // The end of the job has been looked at as well.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let many = "<n:MaxElements>50</n:MaxElements>";
    let told = stage.pull(&contexts[0], many).await;
    assert_eq!((told.items.len(), told.items[0].local.as_str()), (4, "DroppedEvents"));
    assert!(told.items[0].text.parse::<u32>().unwrap() > 3);
    let skipped = stage.pull(&contexts[1], many).await;
    assert_eq!(skipped.items.len(), 3);
    assert!(stage.pull(&contexts[2], many).await.ended);
    assert_eq!(fault_of(&stage.send(&pull(&contexts[2], "")).await), "n:InvalidEnumerationContext//2150858779");
}

#[tokio::test]
async fn without_subscriptions_nothing_is_recorded_and_the_journal_ends_in_time() {
    let stage = Stage::start().await;
    stage.finished(stage.snapshot("one").await).await;
    assert_eq!(stage.engine.event_window().newest, 0);
    let (_, id) = stage.pull_subscription(OF_JOBS, "").await;
    stage.finished(stage.snapshot("two").await).await;
    assert!(stage.engine.event_window().newest > 5);
    stage.send(&manage("Unsubscribe", &id, "")).await;
    stage.advance(3700);
    stage.service.sweep();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ended = stage.engine.event_window();
    stage.finished(stage.snapshot("three").await).await;
    assert_eq!((ended.oldest, stage.engine.event_window()), (ended.newest, ended));
}
