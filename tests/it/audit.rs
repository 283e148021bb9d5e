//! What the audit trail is told: logons over real sockets, and every change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use wsnapd::access::{AuditRecord, AuditTrail, Role};
use wsnapd::engine::{EngineError, SystemChange};
use wsnapd::transport::Limits;
use wsnapd::transport::auth::{ChannelBindingPolicy, LogonLimits};

use super::access::{World, creation, user};
use super::engine_support::creation as other_creation;
use super::ntlm::{PASSWORD, admit, challenge, header, type_3};
use super::transport::{TestServer, basic, request};

/// Keeps each record as a line: user, source, scheme, action, object, outcome, reason.
#[derive(Default)]
pub(crate) struct AuditMemory {
    lines: Mutex<Vec<String>>,
    jobs: Mutex<Vec<String>>,
    pub(crate) broken: AtomicBool,
}

impl AuditMemory {
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

impl AuditTrail for AuditMemory {
    fn is_ready(&self) -> bool {
        !self.broken.load(Ordering::SeqCst)
    }

    fn write(&self, record: &AuditRecord<'_>) {
        let source = record.source.map_or_else(|| "-".to_owned(), |source| source.to_string());
        let object = record.object.as_ref().map_or_else(String::new, |(kind, _, name)| format!(" {kind}:{name}"));
        let reason = record.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let line = format!(
            "{} {source} {} {}{object} {}{reason}",
            record.user,
            record.scheme.name(),
            record.action,
            record.outcome.name()
        );
        self.lines.lock().unwrap().push(line);
        self.jobs.lock().unwrap().extend(record.job.clone());
    }
}

#[tokio::test]
async fn each_logon_is_recorded_once_and_no_secret_is() {
    let logon = LogonLimits { delay_after: 0, lockout_after: 4, ..LogonLimits::default() };
    let server = TestServer::defended(true, Limits::default(), ChannelBindingPolicy::Relaxed, logon);
    admit(&server, true);
    let mut wire = server.connect().await;
    let right = request(&basic(&format!(".\\ADMIN:{PASSWORD}")), "<a/>");
    for _ in 0..3 {
        assert_eq!(wire.ask(&right).await.status, 200);
    }
    assert_eq!(server.audit.take(), ["ADMIN 127.0.0.1 basic logon done"]);
    assert_eq!(wire.ask(&request("", "<a/>")).await.status, 401);
    assert_eq!(server.audit.take(), [""; 0], "most clients begin like this");
    for (header, scheme, reason) in [
        ("Basic !!!", "basic", "user and password cannot be read"),
        ("Bearer abc", "unknown", "this scheme is not offered here"),
        ("", "unknown", "this scheme is not offered here"),
        ("CredSSP YQ==", "credssp", "this scheme is not offered here"),
    ] {
        let header = format!("Authorization: {header}\r\n");
        assert_eq!(wire.ask(&request(&header, "<a/>")).await.status, 401);
        assert_eq!(server.audit.take(), [format!(" 127.0.0.1 {scheme} logon refused: {reason}")]);
    }
    assert_eq!(wire.ask(&request(&basic("Nobody:guess-1"), "<a/>")).await.status, 401);
    for password in ["guess-2", PASSWORD] {
        let type_2 = challenge(&mut wire, "Negotiate", "").await;
        wire.ask(&request(&header("Negotiate", &type_3(&type_2, "admin", password, None).0), "")).await;
    }
    let wrong = "refused: wrong password or unknown user";
    assert_eq!(
        server.audit.take(),
        [
            format!("Nobody 127.0.0.1 basic logon {wrong}"),
            format!("admin 127.0.0.1 ntlm logon {wrong}"),
            "Admin 127.0.0.1 ntlm logon done".to_owned()
        ]
    );
    for number in 0..8 {
        let wrong = request(&basic(&format!("user{number}:guess-3")), "<a/>");
        assert_eq!(wire.ask(&wrong).await.status, 401);
    }
    let lines = server.audit.take();
    assert_eq!(lines.len(), 3, "of those after the lock-out one is a line: {lines:?}");
    assert!(lines[1].ends_with("locked out from now on"), "{lines:?}");
    let first =
        "user2 127.0.0.1 basic logon refused: locked out; 0 further attempts like this were not recorded before";
    assert_eq!(lines[2], first);
    assert!(!format!("{lines:?}").contains("guess"), "{lines:?}");
}

#[tokio::test]
async fn tokens_that_name_nobody_are_ten_lines_a_minute() {
    let server = TestServer::start();
    admit(&server, true);
    let mut wire = server.connect().await;
    let type_2 = challenge(&mut wire, "Negotiate", "").await;
    let whole = type_3(&type_2, "admin", PASSWORD, None).0;
    for (token, word, reason) in [
        (&b"nonsense"[..], "negotiate", "malformed NTLM message"),
        (&whole, "negotiate", "malformed or unexpected token"),
        (&vec![b'x'; 65_537], "ntlm", "the token is no Base64, or too long"),
        (b"\x60\x0d\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00", "ntlm", "malformed or unexpected token"),
    ] {
        assert_eq!(wire.ask(&request(&header(word, token), "")).await.status, 401);
        assert_eq!(server.audit.take(), [format!(" 127.0.0.1 {word} logon refused: {reason}")]);
    }
    for _ in 0..20 {
        assert_eq!(wire.ask(&request(&header("Negotiate", b"nonsense"), "")).await.status, 401);
    }
    assert_eq!(server.audit.take().len(), 6);
    // Who is named is a line all the same.
    let type_2 = challenge(&mut wire, "Negotiate", "").await;
    wire.ask(&request(&header("Negotiate", &type_3(&type_2, "admin", PASSWORD, None).0), "")).await;
    assert_eq!(server.audit.take(), ["Admin 127.0.0.1 ntlm logon done"]);
}

#[tokio::test]
async fn a_logon_that_ends_is_recorded() {
    let server = TestServer::start();
    admit(&server, true);
    let mut wire = server.connect().await;
    let type_2 = challenge(&mut wire, "Negotiate", "").await;
    wire.ask(&request(&header("Negotiate", &type_3(&type_2, "admin", PASSWORD, None).0), "")).await;
    server.audit.take();
    std::fs::write(&server.users_file, "").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    for _ in 0..2 {
        assert_eq!(wire.ask(&request("", "<a/>")).await.status, 401);
    }
    let ended = "Admin 127.0.0.1 ntlm logon refused: the account was removed or its password changed";
    assert_eq!(server.audit.take(), [ended]);
}

#[tokio::test]
async fn each_change_is_recorded_with_its_outcome() {
    let world = World::start().await;
    let trail = &world.audit;
    assert_eq!(trail.take(), [""; 0], "the server itself came without a user");
    let (operator, scoped) = (user(Role::Operator, None), user(Role::Administrator, Some("machine=web01")));
    let web = creation(super::access::WEB);
    world.wait(world.gate.create_snapshot(web.clone(), &operator).await).await;
    let snapshot = world.engine.view().snapshots_of(web.system).next().unwrap().id;
    world.gate.destroy_snapshot(snapshot, &operator).await.unwrap_err();
    world.gate.modify_system(web.system, SystemChange::default(), &scoped).await.unwrap();
    world.gate.create_snapshot(creation(super::access::HIDDEN), &scoped).await.unwrap_err();
    let gone = other_creation(0xDEAD, wsnapd::engine::SnapshotType::Disk);
    world.gate.create_snapshot(gone, &operator).await.unwrap_err();
    assert_eq!(trail.jobs.lock().unwrap().len(), 1);
    let lines = trail.take();
    let expected = [
        "bob 192.0.2.7 basic create-snapshot machine:web01 started",
        "bob 192.0.2.7 basic destroy-snapshot snapshot:first refused: access denied: this needs the role administrator",
        "bob 192.0.2.7 basic modify-machine machine:web01 done",
        "bob 192.0.2.7 basic create-snapshot machine:hidden-db failed: virtual system ",
        "bob 192.0.2.7 basic create-snapshot machine: failed: virtual system ",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line} is not {expected}");
    }
}

#[tokio::test]
async fn without_a_record_nothing_is_changed() {
    let world = World::start().await;
    let operator = user(Role::Operator, None);
    world.audit.broken.store(true, Ordering::SeqCst);
    let before = world.engine.view();
    let refused = world.gate.create_snapshot(creation(super::access::WEB), &operator).await;
    assert!(matches!(refused, Err(EngineError::AuditUnavailable)), "{refused:?}");
    assert!(Arc::ptr_eq(&before, &world.engine.view()));
    assert!(world.gate.view(&operator).systems().count() == 3, "reading goes on");
    world.audit.broken.store(false, Ordering::SeqCst);
    world.wait(world.gate.create_snapshot(creation(super::access::WEB), &operator).await).await;
}

#[tokio::test]
async fn a_change_nobody_waits_for_is_recorded() {
    let world = World::start().await;
    let operator = user(Role::Operator, None);
    let polled = {
        let mut work = Box::pin(world.gate.create_snapshot(creation(super::access::WEB), &operator));
        futures_poll(work.as_mut()).await
    };
    let lines = world.audit.take();
    assert_eq!(lines.len(), 1, "{polled} {lines:?}");
    assert!(lines[0].ends_with("unknown") || lines[0].ends_with("started"), "{lines:?}");
}

/// Polls a future once; tells whether it is ready.
async fn futures_poll<F: Future>(mut work: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(work.as_mut().poll(cx).is_ready())).await
}
