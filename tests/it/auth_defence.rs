//! What wrong passwords lead to, over real sockets; and the limits of a handshake.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use wsnapd::transport::Limits;
use wsnapd::transport::auth::{ChannelBindingPolicy, LogonLimits};

use super::ntlm::{PASSWORD, admit, challenge, header, offers, type_3};
use super::transport::{TestServer, Wire, basic, request};

const HERE: [u8; 4] = [127, 0, 0, 1];
const THERE: [u8; 4] = [127, 0, 0, 2];
const ELSEWHERE: [u8; 4] = [127, 0, 0, 3];

/// Locks out after four wrong passwords, for two seconds, without delays.
fn server(logon: LogonLimits) -> TestServer {
    let server = TestServer::defended(true, Limits::default(), ChannelBindingPolicy::Relaxed, logon);
    admit(&server, true);
    server
}

fn quick() -> LogonLimits {
    LogonLimits { delay_after: 0, lockout_after: 4, lockout: Duration::from_secs(2), ..LogonLimits::default() }
}

async fn log_on<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, user: &str, password: &str) -> u16 {
    let type_2 = challenge(wire, "Negotiate", "").await;
    wire.ask(&request(&header("Negotiate", &type_3(&type_2, user, password, None).0), "")).await.status
}

#[tokio::test]
async fn a_locked_out_source_is_refused_and_others_go_on_without_delay() {
    let server = server(quick());
    let mut wire = server.connect_from(HERE).await;
    for number in 0..4 {
        assert_eq!(log_on(&mut wire, &format!("nobody{number}"), "wrong").await, 401);
    }
    for credentials in ["admin", "ADMIN", ".\\admin"] {
        let answer = wire.ask(&request(&basic(&format!("{credentials}:{PASSWORD}")), "<a/>")).await;
        assert_eq!((answer.status, offers(&answer).len()), (401, 2), "the right password is not looked at");
    }
    assert_eq!(log_on(&mut wire, "admin", PASSWORD).await, 401);
    assert_eq!(log_on(&mut server.connect_from(HERE).await, "admin", PASSWORD).await, 401, "on other connections too");
    let start = Instant::now();
    assert_eq!(log_on(&mut server.connect_from(THERE).await, "admin", PASSWORD).await, 200);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(log_on(&mut wire, "admin", PASSWORD).await, 200, "a lock-out ends");
}

#[tokio::test]
async fn a_locked_out_account_stays_open_to_where_its_owner_was() {
    let server = server(quick());
    let mut owner = server.connect_from(THERE).await;
    let right = request(&basic(&format!("admin:{PASSWORD}")), "<a/>");
    assert_eq!(owner.ask(&right).await.status, 200);
    for number in 4..8 {
        assert_eq!(log_on(&mut server.connect_from([127, 0, 0, number]).await, "admin", "wrong").await, 401);
    }
    assert_eq!(log_on(&mut server.connect_from(ELSEWHERE).await, "admin", PASSWORD).await, 401, "locked out");
    let answer = server.connect_from(ELSEWHERE).await.ask(&right).await;
    assert_eq!(answer.status, 401, "also with a password that is remembered as right");
    assert_eq!(owner.ask(&right).await.status, 200);
    assert_eq!(log_on(&mut server.connect_from(THERE).await, "admin", PASSWORD).await, 200);
}

#[tokio::test]
async fn only_wrong_proofs_count() {
    let server = server(quick());
    let mut wire = server.connect_from(HERE).await;
    for _ in 0..6 {
        assert_eq!(wire.ask(&request("", "")).await.status, 401);
        assert_eq!(wire.ask(&request("Authorization: Basic !!!\r\n", "")).await.status, 401);
        assert_eq!(wire.ask(&request("Authorization: Negotiate AAAA\r\n", "")).await.status, 401);
        // A proof for another challenge is a wrong one; type 3 without type 2 is none.
        let token = type_3(&[0; 56], "admin", PASSWORD, None).0;
        assert_eq!(wire.ask(&request(&header("Negotiate", &token), "")).await.status, 401);
    }
    assert_eq!(log_on(&mut wire, "admin", PASSWORD).await, 200);
    for _ in 0..3 {
        assert_eq!(log_on(&mut wire, "admin", "wrong").await, 401);
    }
    assert_eq!(log_on(&mut wire, "admin", PASSWORD).await, 200, "three are not four");
}

#[tokio::test]
async fn late_answers_hold_up_nobody_else() {
    let slow = LogonLimits {
        delay_after: 1,
        delay: Duration::from_millis(400),
        delay_limit: Duration::from_millis(800),
        ..LogonLimits::default()
    };
    let server = server(slow);
    let start = Instant::now();
    let mut wire = server.connect_from(HERE).await;
    assert_eq!(log_on(&mut wire, "admin", "wrong").await, 401);
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    let type_2 = challenge(&mut wire, "Negotiate", "").await;
    wire.send(&request(&header("Negotiate", &type_3(&type_2, "admin", "wrong", None).0), "")).await;
    let start = Instant::now();
    for source in [HERE, THERE] {
        assert_eq!(log_on(&mut server.connect_from(source).await, "admin", PASSWORD).await, 200);
    }
    assert!(start.elapsed() < Duration::from_millis(700), "{:?}", start.elapsed());
    assert_eq!(wire.answer().await.status, 401);
}

#[tokio::test]
async fn a_handshake_is_bounded_in_size() {
    let server = server(quick());
    let mut wire = server.connect_from(HERE).await;
    // 64 KiB is the most; a head beyond 96 KiB is not read at all.
    for (length, status) in [(65_536, 401), (65_537, 401), (100_000, 431)] {
        let token = header("Negotiate", &vec![b'x'; length]);
        assert_eq!(wire.ask(&request(&token, "")).await.status, status, "{length}");
    }
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 0);
}
