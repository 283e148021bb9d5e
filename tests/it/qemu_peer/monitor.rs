//! The monitor against a script.

use std::time::Instant;

use qapi::qmp;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use wsnapd::backend::{Cause, Monitor, MonitorError};

use super::{Peer, Step, ms};

const LONG: std::time::Duration = ms(5000);

async fn greeted(mut steps: Vec<Step>) -> (Peer, Monitor) {
    steps.insert(0, Step::Greet);
    let peer = Peer::start(steps);
    let monitor = Monitor::connect(peer.path(), LONG).await.unwrap();
    (peer, monitor)
}

fn status() -> serde_json::Value {
    json!({"status": "running", "running": true})
}

#[derive(serde::Deserialize, Debug)]
struct Status {
    status: String,
}

#[tokio::test]
async fn a_command_gets_its_answer_and_the_connection_ends_with_the_last_handle() {
    let (peer, monitor) = greeted(vec![Step::Expect("query-status"), Step::Answer(status()), Step::Hold]).await;
    let second = monitor.clone();
    let answer = monitor.execute(qmp::query_status {}, LONG).await.unwrap();
    assert!(answer.running);
    drop(monitor);
    assert!(!second.is_closed());
    drop(second);
    let commands = peer.finish().await;
    assert_eq!(commands[0]["arguments"], json!({}));
}

#[tokio::test]
async fn a_socket_that_does_not_exist_or_does_not_greet_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let error = Monitor::connect(&directory.path().join("none"), LONG).await.unwrap_err();
    assert!(matches!(error, MonitorError::Connect(_)), "{error}");
    assert!(matches!(Cause::from(error), Cause::Unreachable(_)));

    let peer = Peer::start(vec![Step::Hold]);
    let started = Instant::now();
    let error = Monitor::connect(peer.path(), ms(60)).await.unwrap_err();
    assert!(matches!(error, MonitorError::NoGreeting), "{error}");
    assert!(started.elapsed() < ms(2000));
    assert!(matches!(Cause::from(error), Cause::Unreachable(_)));

    // The greeting comes, and then the negotiation is not answered.
    let peer = Peer::start(vec![Step::Say(b"{\"QMP\": {}}\r\n".to_vec()), Step::Hold]);
    let error = Monitor::connect(peer.path(), ms(60)).await.unwrap_err();
    assert!(matches!(error, MonitorError::NoGreeting), "{error}");

    for (said, closed) in [(&b"RFB 003.008\n"[..], false), (b"{\"return\": {}}\n", false), (b"{\"QMP\": ", true)] {
        let peer = Peer::start(vec![Step::Say(said.to_vec())]);
        let error = Monitor::connect(peer.path(), LONG).await.unwrap_err();
        assert_eq!(matches!(error, MonitorError::Closed), closed, "{error}");
        assert_eq!(matches!(error, MonitorError::Malformed(_)), !closed, "{error}");
    }
}

#[tokio::test]
async fn an_event_for_the_connection_before_may_come_ahead_of_the_greeting() {
    let event = |name| Step::Event(name, json!({}));
    let steps = vec![event("JOB_STATUS_CHANGE"), event("RESUME"), Step::Greet, Step::Hold];
    let peer = Peer::start(steps);
    drop(Monitor::connect(peer.path(), LONG).await.unwrap());
    peer.finish().await;

    let peer = Peer::start(vec![event("RESUME"), Step::Hold]);
    let error = Monitor::connect(peer.path(), ms(60)).await.unwrap_err();
    assert!(matches!(error, MonitorError::NoGreeting), "{error}");
}

#[tokio::test]
async fn a_late_answer_is_dropped_and_the_connection_goes_on() {
    let (peer, monitor) = greeted(vec![
        Step::Expect("stop"),
        Step::Expect("query-status"),
        Step::AnswerTo(0, json!({})),
        Step::AnswerTo(1, status()),
        Step::Hold,
    ])
    .await;
    let error = monitor.execute(qmp::stop {}, ms(30)).await.unwrap_err();
    assert!(matches!(error, MonitorError::Timeout { command: "stop" }), "{error}");
    assert!(matches!(Cause::from(error), Cause::Timeout));
    let answer: Status = monitor.query(qmp::query_status {}, LONG).await.unwrap();
    assert_eq!(answer.status, "running");
    drop(monitor);
    peer.finish().await;
}

#[tokio::test]
async fn a_caller_that_drops_its_future_disturbs_nobody() {
    let (peer, monitor) = greeted(vec![
        Step::Expect("stop"),
        Step::Expect("query-status"),
        Step::AnswerTo(0, json!({})),
        Step::AnswerTo(1, status()),
        Step::Hold,
    ])
    .await;
    tokio::select! {
        _ = monitor.execute(qmp::stop {}, LONG) => panic!("there is no answer yet"),
        () = tokio::time::sleep(ms(30)) => {}
    }
    monitor.execute(qmp::query_status {}, LONG).await.unwrap();
    drop(monitor);
    peer.finish().await;
}

#[tokio::test]
async fn answers_out_of_order_and_in_pieces_find_their_commands() {
    let (peer, monitor) = greeted(vec![
        Step::Expect("query-status"),
        Step::Expect("query-name"),
        Step::Say(b"{\"ret".to_vec()),
        Step::Wait(ms(20)),
        Step::Say(b"urn\": {\"name\": \"web01\"}, \"id\":".to_vec()),
        Step::Wait(ms(20)),
        Step::Say(b" 3}\r".to_vec()),
        Step::Wait(ms(20)),
        Step::Say(b"\n\r\n".to_vec()),
        Step::AnswerTo(0, status()),
        Step::Hold,
    ])
    .await;
    let (first, second) = tokio::join!(monitor.execute(qmp::query_status {}, LONG), async {
        tokio::time::sleep(ms(20)).await;
        monitor.execute(qmp::query_name {}, LONG).await
    });
    assert!(first.unwrap().running);
    assert_eq!(second.unwrap().name.as_deref(), Some("web01"));
    drop(monitor);
    peer.finish().await;
}

#[tokio::test]
async fn events_come_while_a_command_waits() {
    let (peer, monitor) = greeted(vec![
        Step::Expect("snapshot-save"),
        Step::Event("STOP", json!({})),
        Step::Event("JOB_STATUS_CHANGE", json!({"id": "snap0", "status": "running"})),
        Step::Say(b"{\"event\": \"RESUME\", \"timestamp\": {\"seconds\": -1, \"microseconds\": -1}}\n".to_vec()),
        Step::Wait(ms(50)),
        Step::Answer(json!({})),
    ])
    .await;
    let mut events = monitor.events();
    let save = qmp::snapshot_save {
        job_id: "snap0".into(),
        tag: "S1".into(),
        vmstate: "disk-a".into(),
        devices: vec!["disk-a".into()],
    };
    let (saved, names) = tokio::join!(monitor.execute(save, LONG), async {
        let mut names = Vec::new();
        while names.len() < 3 {
            names.push(events.recv().await.unwrap());
        }
        names
    });
    saved.unwrap();
    assert_eq!(
        names.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(),
        ["STOP", "JOB_STATUS_CHANGE", "RESUME"]
    );
    assert_eq!((names[0].seconds, names[0].microseconds), (1_785_000_000, 250));
    assert_eq!(names[1].data["status"], "running");
    assert_eq!((names[2].seconds, names[2].data.is_null()), (-1, true));
    // The script is over: readers of events and of the state see the end.
    monitor.closed().await;
    assert_eq!(events.recv().await, Err(RecvError::Closed));
    assert_eq!(monitor.events().recv().await, Err(RecvError::Closed));
    peer.finish().await;
}

#[tokio::test]
async fn a_slow_reader_learns_that_events_were_lost() {
    let mut steps = vec![Step::Expect("query-status")];
    steps.extend((0..1500).map(|number| Step::Event("RTC_CHANGE", json!({"offset": number}))));
    steps.extend([Step::Answer(status()), Step::Hold]);
    let (peer, monitor) = greeted(steps).await;
    let mut events = monitor.events();
    monitor.execute(qmp::query_status {}, LONG).await.unwrap();
    assert!(matches!(events.recv().await, Err(RecvError::Lagged(lost)) if lost >= 400));
    assert!(events.recv().await.is_ok());
    drop(monitor);
    peer.finish().await;
}

#[tokio::test]
async fn a_blocked_monitor_costs_each_command_its_limit_and_no_more() {
    let (peer, monitor) = greeted(vec![
        Step::Expect("migrate"),
        Step::Wait(ms(400)),
        Step::Answer(json!({})),
        Step::Expect("query-migrate"),
        Step::Answer(json!({})),
        Step::Expect("query-status"),
        Step::Answer(status()),
        Step::Hold,
    ])
    .await;
    let started = Instant::now();
    let migrate = qmp::migrate { uri: Some("file:/var/memory".into()), channels: None, detach: None, resume: None };
    let (first, second) = tokio::join!(
        monitor.execute(migrate, ms(100)),
        monitor.query::<_, serde_json::Value>(qmp::query_migrate {}, ms(100))
    );
    assert!(matches!(first.unwrap_err(), MonitorError::Timeout { command: "migrate" }));
    assert!(matches!(second.unwrap_err(), MonitorError::Timeout { command: "query-migrate" }));
    assert!(started.elapsed() < ms(350), "{:?}", started.elapsed());
    monitor.execute(qmp::query_status {}, LONG).await.unwrap();
    drop(monitor);
    peer.finish().await;
}

#[tokio::test]
async fn what_does_not_fit_into_the_socket_of_a_blocked_monitor_still_ends_in_time() {
    let (peer, monitor) = greeted(vec![Step::Wait(ms(300)), Step::Hold]).await;
    // Nobody reads: the socket takes some hundred kilobytes, the rest stays here.
    let command = || qmp::human_monitor_command { command_line: "x".repeat(16 << 10), cpu_index: None };
    let started = Instant::now();
    let waits = (0..100).map(|_| monitor.execute(command(), ms(150)));
    for result in futures_join(waits).await {
        assert!(matches!(result, Err(MonitorError::Timeout { .. })), "{result:?}");
    }
    assert!(started.elapsed() < ms(3000), "{:?}", started.elapsed());
    drop(monitor);
    peer.finish().await;
}

/// Polls them all at once.
async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut done = true;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => done = false,
                }
            }
        }
        if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn a_refusal_keeps_class_and_text_also_of_classes_nobody_knows() {
    let (peer, monitor) = greeted(vec![
        Step::Expect("job-dismiss"),
        Step::Refuse("DeviceNotFound", "Job not found"),
        Step::Expect("job-dismiss"),
        Step::Refuse("SomethingNew", "no"),
        Step::Hold,
    ])
    .await;
    for (expected, sentence) in [("DeviceNotFound", "Job not found"), ("SomethingNew", "no")] {
        match monitor.execute(qmp::job_dismiss { id: "j".into() }, LONG).await {
            Err(MonitorError::Refused { class, text }) => {
                assert_eq!((class.as_str(), text.as_str()), (expected, sentence));
            }
            other => panic!("{other:?}"),
        }
    }
    let cause = Cause::from(MonitorError::Refused { class: "GenericError".into(), text: "no".into() });
    assert!(matches!(cause, Cause::Failed(text) if text == "no"));
    drop(monitor);
    peer.finish().await;
}

#[tokio::test]
async fn an_answer_in_another_shape_fails_one_command_only() {
    let (peer, monitor) = greeted(vec![
        Step::Expect("query-status"),
        Step::Answer(json!({"status": "a state of the next version", "running": true})),
        Step::Expect("query-status"),
        Step::Answer(json!({"status": "a state of the next version", "more": [1]})),
        Step::Hold,
    ])
    .await;
    let error = monitor.execute(qmp::query_status {}, LONG).await.unwrap_err();
    assert!(matches!(error, MonitorError::Malformed(_)), "{error}");
    let tolerant: Status = monitor.query(qmp::query_status {}, LONG).await.unwrap();
    assert_eq!(tolerant.status, "a state of the next version");
    drop(monitor);
    peer.finish().await;
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_for_all_who_wait() {
    let mut oversized = vec![b' '; (16 << 20) + 1];
    oversized[0] = b'{';
    let deep = "[".repeat(10_000) + "\n";
    for junk in [
        b"Segmentation fault\n".to_vec(),
        b"\xff\xfe\n".to_vec(),
        b"[1, 2]\n".to_vec(),
        b"{}\n".to_vec(),
        b"{\"return\": {}}\n".to_vec(),
        b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n".to_vec(),
        b"{\"return\": {}, \"id\": \"2\"}\n".to_vec(),
        b"{\"event\": 1}\n".to_vec(),
        deep.into_bytes(),
        oversized,
    ] {
        let (peer, monitor) =
            greeted(vec![Step::Expect("stop"), Step::Expect("cont"), Step::Say(junk), Step::Hold]).await;
        let (first, second) = tokio::join!(monitor.execute(qmp::stop {}, LONG), monitor.execute(qmp::cont {}, LONG),);
        assert!(matches!(first, Err(MonitorError::Malformed(_))), "{first:?}");
        assert!(matches!(second, Err(MonitorError::Malformed(_))), "{second:?}");
        assert!(monitor.is_closed());
        let later = monitor.execute(qmp::stop {}, LONG).await;
        assert!(matches!(later, Err(MonitorError::Closed)), "{later:?}");
        // The socket is released while the handle lives on, so that somebody else can be served.
        peer.finish().await;
    }
}

#[tokio::test]
async fn the_end_of_the_connection_ends_every_wait() {
    for rest in [&b""[..], b"{\"return\": {}, \"id\""] {
        let (peer, monitor) = greeted(vec![Step::Expect("stop"), Step::Say(rest.to_vec())]).await;
        let error = monitor.execute(qmp::stop {}, LONG).await.unwrap_err();
        assert!(matches!(error, MonitorError::Closed), "{error}");
        assert!(matches!(Cause::from(error), Cause::Unreachable(_)));
        monitor.closed().await;
        peer.finish().await;
    }
}
