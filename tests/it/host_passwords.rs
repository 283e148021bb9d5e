//! Users whose password the host checks, with a host of the test: it is asked on threads of its own, its word counts
//! for a while, and wrong passwords cost what all wrong passwords cost. (`tests/real/test_pam.py` has PAM.)

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use wsnapd::access::Role;
use wsnapd::transport::auth::{HostPasswords, HostVerdict, User, UsersFile, hash_password};

use super::transport::{TestServer, basic, request};

/// Takes the text of a password for what becomes of it.
#[derive(Default)]
struct Fake {
    asked: AtomicUsize,
}

impl HostPasswords for Fake {
    fn check(&self, user: &str, password: &[u8], source: IpAddr) -> HostVerdict {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert_eq!((user, source.is_loopback()), ("Alice", true), "the name as it was added");
        match password {
            b"right" => HostVerdict::Right,
            b"slow" => {
                std::thread::sleep(Duration::from_millis(1500));
                HostVerdict::Right
            }
            b"expired" => HostVerdict::Denied("the account has ended".to_owned()),
            b"away" => HostVerdict::Unavailable("the directory does not answer".to_owned()),
            _ => HostVerdict::Wrong,
        }
    }
}

fn server() -> (TestServer, Arc<Fake>) {
    let host = Arc::new(Fake::default());
    let server = TestServer::hosted(Arc::<Fake>::clone(&host));
    users(&server, true);
    (server, host)
}

fn users(server: &TestServer, with_alice: bool) {
    let mut users = UsersFile::default();
    if with_alice {
        users.set(User::by_host("Alice").unwrap().with_role(Role::Reader, None));
    }
    users.set(User::new("bob", hash_password(b"secret").unwrap()).unwrap());
    users.save(&server.users_file).unwrap();
}

fn of(credentials: &str) -> Vec<u8> {
    request(&basic(credentials), "<a/>")
}

#[tokio::test]
async fn the_host_is_asked_once_for_a_right_password() {
    let (server, host) = server();
    let mut wire = server.connect().await;
    for _ in 0..3 {
        let answer = wire.ask(&of("alice:right")).await;
        assert_eq!((answer.status, answer.text()), (200, "Alice Utf8 <a/>"));
    }
    assert_eq!(server.audit.take(), ["alice 127.0.0.1 basic logon done"]);
    assert_eq!(wire.ask(&of("HOST\\ALICE:right")).await.status, 200, "another spelling");
    assert_eq!(host.asked.load(Ordering::SeqCst), 2);
    assert_eq!(wire.ask(&of("bob:secret")).await.status, 200);
    assert_eq!(wire.ask(&of("bob:right")).await.status, 401);
    assert_eq!(host.asked.load(Ordering::SeqCst), 2, "others are not the host's");
    // Whoever is taken out of the file is logged off, whatever the host says.
    users(&server, false);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(wire.ask(&of("alice:right")).await.status, 401);
    assert_eq!(host.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_the_host_refuses_counts_and_locks_out() {
    let (server, host) = server();
    let mut wire = server.connect_from([127, 0, 0, 9]).await;
    for (password, status, line) in [
        ("wrong", 401, Some("wrong password or unknown user")),
        ("expired", 401, Some("the account has ended")),
        ("away", 503, None),
        ("", 401, Some("wrong password or unknown user")),
        ("pam", 401, Some("wrong password or unknown user; locked out from now on")),
    ] {
        assert_eq!(wire.ask(&of(&format!("alice:{password}"))).await.status, status, "{password}");
        let expected = line.map(|reason| format!("Alice 127.0.0.9 basic logon refused: {reason}").to_lowercase());
        let lines: Vec<String> = server.audit.take().iter().map(|line| line.to_lowercase()).collect();
        assert_eq!(lines, expected.into_iter().collect::<Vec<_>>(), "{password}");
    }
    let asked = host.asked.load(Ordering::SeqCst);
    assert_eq!(wire.ask(&of("alice:right")).await.status, 401);
    assert_eq!(host.asked.load(Ordering::SeqCst), asked, "nothing is compared");
}

#[tokio::test]
async fn the_time_of_a_refusal_does_not_tell_whose_password_it_was() {
    let (server, _) = server();
    let mut pending = Vec::new();
    for credentials in ["alice:wrong", "alice:expired", "bob:wrong", "nobody:wrong"] {
        let mut wire = server.connect().await;
        pending.push(async move {
            let begun = Instant::now();
            assert_eq!(wire.ask(&of(credentials)).await.status, 401, "{credentials}");
            begun.elapsed()
        });
    }
    let times = futures_util::future::join_all(pending).await;
    assert!(times.iter().all(|time| *time >= Duration::from_secs(1)), "{times:?}");
}

#[tokio::test]
async fn a_slow_host_holds_nobody_else_up() {
    let (server, host) = server();
    let begun = Instant::now();
    let mut waiting = Vec::new();
    // More than there are threads, with the same password: it is asked about once.
    for _ in 0..8 {
        let mut wire = server.connect().await;
        wire.send(&of("alice:slow")).await;
        waiting.push(wire);
    }
    let mut other = server.connect().await;
    assert_eq!(other.ask(&of("bob:secret")).await.status, 200);
    assert_eq!(other.ask(&of("alice:right")).await.status, 200);
    assert!(begun.elapsed() < Duration::from_millis(1400), "{:?}", begun.elapsed());
    for mut wire in waiting {
        assert_eq!(wire.answer().await.status, 200);
    }
    assert_eq!(host.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn without_a_host_nobody_of_it_logs_on() {
    let server = TestServer::start();
    users(&server, true);
    let mut wire = server.connect().await;
    for password in ["right", "pam", ""] {
        assert_eq!(wire.ask(&of(&format!("alice:{password}"))).await.status, 401, "{password}");
    }
    assert!(server.audit.take().iter().all(|line| line.contains("pam_service is not set")));
}
