//! The guest agent against a script.

use std::time::{Duration, Instant};

use serde_json::json;
use wsnapd::backend::{Agent, AgentError, Cause, FreezeStatus};

use super::{Peer, Step, ms};

const LONG: Duration = ms(5000);

/// An agent that is in step; the script starts behind the sync.
async fn in_step(mut steps: Vec<Step>) -> (Peer, Agent) {
    steps.splice(0..0, [Step::ExpectSync, Step::AnswerSync(0)]);
    let peer = Peer::start(steps);
    let mut agent = Agent::connect(peer.path()).await.unwrap();
    agent.sync(4242, LONG).await.unwrap();
    (peer, agent)
}

#[tokio::test]
async fn freeze_status_and_thaw() {
    let (peer, mut agent) = in_step(vec![
        Step::Expect("guest-ping"),
        Step::Answer(json!({})),
        Step::Expect("guest-fsfreeze-freeze"),
        Step::Answer(json!(2)),
        Step::Expect("guest-fsfreeze-status"),
        Step::Answer(json!("frozen")),
        Step::Expect("guest-fsfreeze-freeze"),
        Step::Refuse("CommandNotFound", "Command guest-fsfreeze-freeze has been disabled: the command is not allowed"),
        Step::Expect("guest-fsfreeze-thaw"),
        Step::Answer(json!(2)),
        Step::Expect("guest-fsfreeze-thaw"),
        Step::Answer(json!(0)),
        Step::Expect("guest-fsfreeze-status"),
        Step::Answer(json!("thawed")),
        Step::Expect("guest-fsfreeze-freeze-list"),
        Step::Answer(json!(1)),
        Step::Hold,
    ])
    .await;
    agent.ping(LONG).await.unwrap();
    assert_eq!(agent.freeze(LONG).await.unwrap(), 2);
    assert_eq!(agent.status(LONG).await.unwrap(), FreezeStatus::Frozen);
    let error = agent.freeze(LONG).await.unwrap_err();
    assert!(matches!(&error, AgentError::Refused { class, .. } if class == "CommandNotFound"), "{error}");
    assert!(matches!(Cause::from(error), Cause::GuestNotQuiesced(text) if text.contains("disabled")));
    assert_eq!(agent.thaw(LONG).await.unwrap(), 2);
    assert_eq!(agent.thaw(LONG).await.unwrap(), 0);
    assert_eq!(agent.status(LONG).await.unwrap(), FreezeStatus::Thawed);
    assert_eq!(agent.freeze_list(&["/mnt/a".to_owned()], LONG).await.unwrap(), 1);
    drop(agent);
    let commands = peer.finish().await;
    assert_eq!(commands[8]["arguments"], json!({"mountpoints": ["/mnt/a"]}));
}

#[tokio::test]
async fn nothing_is_sent_out_of_step() {
    let peer = Peer::start(vec![Step::Hold]);
    let mut agent = Agent::connect(peer.path()).await.unwrap();
    assert!(!agent.is_in_step());
    assert!(matches!(agent.freeze(LONG).await, Err(AgentError::OutOfStep)));
    assert!(matches!(agent.status(LONG).await, Err(AgentError::OutOfStep)));
    drop(agent);
    assert_eq!(peer.finish().await.len(), 0);

    let directory = tempfile::tempdir().unwrap();
    let error = Agent::connect(&directory.path().join("none")).await.unwrap_err();
    assert!(matches!(error, AgentError::Connect(_)), "{error}");
}

#[tokio::test]
async fn a_silent_agent_costs_the_limit_and_no_more() {
    let peer = Peer::start(vec![Step::Hold]);
    let mut agent = Agent::connect(peer.path()).await.unwrap();
    let started = Instant::now();
    let error = agent.sync(7, ms(80)).await.unwrap_err();
    assert!(matches!(error, AgentError::Timeout { command: "guest-sync-delimited" }), "{error}");
    let error = agent.recover(7, ms(200)).await.unwrap_err();
    assert!(matches!(error, AgentError::Timeout { .. }), "{error}");
    assert!(started.elapsed() < ms(2000), "{:?}", started.elapsed());
    assert!(matches!(Cause::from(error), Cause::GuestNotQuiesced(_)));
}

#[tokio::test]
async fn an_answer_after_the_deadline_is_thrown_away_by_the_next_sync() {
    let (peer, mut agent) = in_step(vec![
        Step::Expect("guest-fsfreeze-status"),
        Step::Wait(ms(120)),
        Step::Answer(json!("frozen")),
        Step::ExpectSync,
        Step::AnswerSync(2),
        Step::Expect("guest-fsfreeze-status"),
        Step::Answer(json!("thawed")),
        Step::Hold,
    ])
    .await;
    let error = agent.status(ms(40)).await.unwrap_err();
    assert!(matches!(error, AgentError::Timeout { command: "guest-fsfreeze-status" }), "{error}");
    assert!(matches!(agent.status(LONG).await, Err(AgentError::OutOfStep)));
    agent.sync(4243, LONG).await.unwrap();
    assert_eq!(agent.status(LONG).await.unwrap(), FreezeStatus::Thawed);
    drop(agent);
    peer.finish().await;
}

#[tokio::test]
async fn a_late_sync_is_not_taken_for_the_present_one() {
    let peer = Peer::start(vec![
        Step::ExpectSync,
        Step::ExpectSync,
        Step::AnswerSync(0),
        Step::Wait(ms(60)),
        Step::AnswerSync(1),
        Step::Expect("guest-ping"),
        Step::Answer(json!({})),
        Step::Hold,
    ]);
    let mut agent = Agent::connect(peer.path()).await.unwrap();
    assert!(agent.sync(1, ms(40)).await.is_err());
    agent.sync(2, LONG).await.unwrap();
    agent.ping(LONG).await.unwrap();
    drop(agent);
    peer.finish().await;
}

#[tokio::test]
async fn a_sync_passes_over_everything_that_is_not_its_answer() {
    let flood = vec![b'x'; 300_000];
    let peer = Peer::start(vec![
        Step::ExpectSync,
        Step::Say(flood),
        Step::Say(b"\n{\"return\": 2}\n{\"return\": 77}\n\xff\n\xff{\"return\": \"77\"}\nhalf an answ".to_vec()),
        Step::AnswerSync(0),
        Step::Hold,
    ]);
    let mut agent = Agent::connect(peer.path()).await.unwrap();
    agent.sync(77, LONG).await.unwrap();
    assert!(agent.is_in_step());
    drop(agent);
    peer.finish().await;
}

#[tokio::test]
async fn what_is_no_answer_puts_the_connection_out_of_step() {
    let long = [&[b'"'][..], &vec![b'a'; 70_000], b"\"\n"].concat();
    for junk in [
        b"what?\n".to_vec(),
        b"{}\n".to_vec(),
        b"{\"return\": \"two\"}\n".to_vec(),
        b"{\"return\": -1}\n".to_vec(),
        b"\xff{\"return\": 2}\n".to_vec(),
        long,
    ] {
        let (peer, mut agent) = in_step(vec![
            Step::Expect("guest-fsfreeze-freeze"),
            Step::Say(junk),
            Step::ExpectSync,
            Step::AnswerSync(2),
            Step::Hold,
        ])
        .await;
        let error = agent.freeze(LONG).await.unwrap_err();
        assert!(matches!(error, AgentError::Malformed(_)), "{error}");
        assert!(!agent.is_in_step());
        agent.sync(9, LONG).await.unwrap();
        drop(agent);
        peer.finish().await;
    }
}

#[tokio::test]
async fn a_freeze_that_was_executed_late_is_undone() {
    // As on a machine that was paused: nothing for a while, and then everything that was asked is done in its order.
    let (peer, mut agent) = in_step(vec![
        Step::Expect("guest-fsfreeze-freeze"),
        Step::ExpectSync,
        Step::ExpectSync,
        Step::AnswerTo(1, json!(2)),
        Step::AnswerSync(2),
        Step::AnswerSync(3),
        Step::Expect("guest-fsfreeze-status"),
        Step::Answer(json!("frozen")),
        Step::Expect("guest-fsfreeze-thaw"),
        Step::Answer(json!(2)),
        Step::Expect("guest-fsfreeze-status"),
        Step::Answer(json!("thawed")),
        Step::Hold,
    ])
    .await;
    assert!(matches!(agent.freeze(ms(40)).await, Err(AgentError::Timeout { .. })));
    assert!(agent.recover(50, ms(1000)).await.unwrap());
    drop(agent);
    peer.finish().await;
}

#[tokio::test]
async fn recovery_of_a_thawed_guest_thaws_nothing() {
    let peer = Peer::start(vec![
        Step::ExpectSync,
        Step::AnswerSync(0),
        Step::Expect("guest-fsfreeze-status"),
        Step::Answer(json!("thawed")),
        Step::Hold,
    ]);
    let mut agent = Agent::connect(peer.path()).await.unwrap();
    assert!(!agent.recover(1, LONG).await.unwrap());
    drop(agent);
    peer.finish().await;
}

#[tokio::test]
async fn a_guest_that_says_frozen_for_ever_ends_at_the_limit() {
    let mut steps = vec![Step::ExpectSync, Step::AnswerSync(0)];
    for _ in 0..20 {
        steps.extend([
            Step::Expect("guest-fsfreeze-status"),
            Step::Answer(json!("frozen")),
            Step::Expect("guest-fsfreeze-thaw"),
            Step::Wait(ms(30)),
            Step::Answer(json!(0)),
        ]);
    }
    let peer = Peer::start(steps);
    let mut agent = Agent::connect(peer.path()).await.unwrap();
    let started = Instant::now();
    let error = agent.recover(1, ms(150)).await.unwrap_err();
    assert!(matches!(error, AgentError::Timeout { .. }), "{error}");
    assert!(started.elapsed() < ms(500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_closed_connection_ends_the_wait() {
    for rest in [&b""[..], b"{\"return\": "] {
        let (peer, mut agent) = in_step(vec![Step::Expect("guest-ping"), Step::Say(rest.to_vec())]).await;
        let error = agent.ping(LONG).await.unwrap_err();
        assert!(matches!(error, AgentError::Closed), "{error}");
        let error = agent.recover(3, LONG).await.unwrap_err();
        assert!(matches!(error, AgentError::Closed), "{error}");
        peer.finish().await;
    }
}

#[tokio::test]
async fn a_caller_that_drops_its_future_leaves_the_connection_out_of_step() {
    let (peer, mut agent) = in_step(vec![Step::Expect("guest-fsfreeze-thaw"), Step::Hold]).await;
    tokio::select! {
        _ = agent.thaw(LONG) => panic!("there is no answer"),
        () = tokio::time::sleep(ms(30)) => {}
    }
    assert!(!agent.is_in_step());
    drop(agent);
    peer.finish().await;
}
