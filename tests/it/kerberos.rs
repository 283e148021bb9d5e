//! Tickets on the wire, with an acceptor that needs no KDC: what the server does with a good ticket, and with all
//! others. (`tests/real/test_kerberos.py` has a KDC.)

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wsnapd::access::Role;
use wsnapd::transport::Limits;
use wsnapd::transport::auth::{
    ChannelBindingPolicy, KerberosPolicy, LogonLimits, MessageSecurity, SealError, Ticket, TicketAcceptor, TicketError,
    TicketFault, User, UsersFile,
};

use super::ntlm::{admit, header, offers, type_1};
use super::transport::{Answer, TestServer, basic, clock, request, tls_connect};

const KRB5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2];
const MS_KRB5: &[u8] = &[0x2a, 0x86, 0x48, 0x82, 0xf7, 0x12, 1, 2, 2];
const NTLM: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 10];
const SPNEGO: &[u8] = &[0x2b, 6, 1, 5, 5, 2];

/// Takes the text of a token for what became of it.
struct Fake;

impl TicketAcceptor for Fake {
    fn accept(&self, token: &[u8], binding: Option<&[u8]>) -> Result<Ticket, TicketError> {
        // Behind the frame of 13 bytes.
        let text = String::from_utf8(token[13..].to_vec()).unwrap();
        let error = |fault| Err(TicketError { fault, reason: text.clone() });
        let mut lifetime = Duration::from_secs(60);
        match text.as_str() {
            "malformed" => return error(TicketFault::Malformed),
            "wrong" => return error(TicketFault::Wrong),
            "unbound" => return error(TicketFault::Unbound),
            "late" => return error(TicketFault::Untimely(37)),
            "slow@EXAMPLE.TEST" => std::thread::sleep(Duration::from_secs(2)),
            "short@EXAMPLE.TEST" => lifetime = Duration::from_millis(300),
            _ => {}
        }
        let bound = binding.is_some() && text.starts_with("bound");
        let security = Box::new(Toy(0));
        Ok(Ticket { principal: text, lifetime, bound, answer: Some(b"AP-REP".to_vec()), security })
    }
}

/// Seals by turning bits over, with a header that counts.
struct Toy(u8);

impl MessageSecurity for Toy {
    fn can_seal(&self) -> bool {
        true
    }

    fn seal(&mut self, message: &mut [u8]) -> Result<Vec<u8>, SealError> {
        for byte in message.iter_mut() {
            *byte = !*byte;
        }
        Ok(vec![self.0; 60])
    }

    fn unseal(&mut self, header: &[u8], data: Vec<u8>) -> Result<Vec<u8>, SealError> {
        self.0 += 1;
        if header != [self.0; 60] {
            return Err(SealError::Signature);
        }
        Ok(data.into_iter().map(|byte| !byte).collect())
    }

    fn verify_mech_list(&mut self, list: &[u8], mic: &[u8]) -> bool {
        mic == [b"client", list].concat()
    }

    fn sign_mech_list(&mut self, list: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok([b"server", list].concat())
    }
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    let head = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
    [head.as_slice(), content].concat()
}

fn ticket(name: &[u8], text: &str) -> Vec<u8> {
    element(0x60, &[element(6, name), text.as_bytes().to_vec()].concat())
}

fn list(mechanisms: &[&[u8]]) -> Vec<u8> {
    element(0x30, &mechanisms.iter().flat_map(|name| element(6, name)).collect::<Vec<u8>>())
}

fn init(mechanisms: &[&[u8]], token: &[u8]) -> Vec<u8> {
    let body = [element(0xa0, &list(mechanisms)), element(0xa2, &element(4, token))].concat();
    element(0x60, &[element(6, SPNEGO), element(0xa0, &element(0x30, &body))].concat())
}

/// State, mechanism, token and signature of a `NegTokenResp`, each if it is there.
fn resp(parts: [Option<Vec<u8>>; 4]) -> Vec<u8> {
    let numbered = (0xa0..).zip(parts).filter_map(|(tag, part)| Some(element(tag, &part?)));
    element(0xa1, &element(0x30, &numbered.flatten().collect::<Vec<u8>>()))
}

fn state(code: u8) -> Vec<u8> {
    vec![10, 1, code]
}

fn server(binding: ChannelBindingPolicy) -> TestServer {
    let kerberos = KerberosPolicy { acceptor: Arc::new(Fake), channel_binding: binding, clock: clock() };
    let patient = LogonLimits { delay_after: 0, lockout_after: 5, ..LogonLimits::default() };
    let server = TestServer::assembled(false, Limits::default(), binding, patient, Some(kerberos));
    users(&server, &["alice", "bound", "slow", "short"]);
    server
}

fn users(server: &TestServer, names: &[&str]) {
    let mut users = UsersFile::default();
    for name in names {
        let user = User::principal(&format!("{name}@EXAMPLE.TEST")).unwrap();
        users.set(user.with_role(Role::Reader, None));
    }
    users.save(&server.users_file).unwrap();
}

fn token(answer: &Answer, word: &str) -> Vec<u8> {
    let [offer] = offers(answer)[..] else { panic!("one line, not {}", answer.head) };
    STANDARD.decode(offer.strip_prefix(word).unwrap().trim()).unwrap()
}

const ALICE: &str = "alice@EXAMPLE.TEST";

#[tokio::test]
async fn a_good_ticket_is_a_logon_in_one_leg() {
    let server = server(ChannelBindingPolicy::Relaxed);
    let mut wire = server.connect().await;
    let offer = ["Negotiate", "Kerberos"];
    assert_eq!(offers(&wire.ask(&request("", "")).await), offer, "NTLM is for nobody, Basic not for plain HTTP");
    let first = |mechanisms: &[&[u8]]| init(mechanisms, &ticket(KRB5, ALICE));
    let done = |name: &[u8]| resp([Some(state(0)), Some(element(6, name)), Some(element(4, b"AP-REP")), None]);
    for (word, sent, expected) in [
        ("Kerberos", ticket(KRB5, ALICE), b"AP-REP".to_vec()),
        ("Negotiate", ticket(KRB5, ALICE), b"AP-REP".to_vec()),
        ("Negotiate", ticket(MS_KRB5, ALICE), b"AP-REP".to_vec()),
        ("Negotiate", first(&[KRB5, NTLM]), done(KRB5)),
        ("Negotiate", first(&[MS_KRB5, KRB5, NTLM]), done(MS_KRB5)),
        ("Kerberos", first(&[KRB5]), done(KRB5)),
    ] {
        let answer = wire.ask(&request(&header(word, &sent), "")).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
        assert_eq!(token(&answer, word), expected);
        assert_eq!(server.audit.take(), [format!("{ALICE} 127.0.0.1 kerberos logon done")]);
        assert_eq!(wire.ask(&request("", "<a/>")).await.status, 500, "clear text is refused");
    }
}

fn sealed(label: &str, counter: u8, text: &str) -> Vec<u8> {
    let label = format!("application/HTTP-{label}-session-encrypted");
    let mut body = format!(
        "--Encrypted Boundary\r\n\tContent-Type: {label}\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;\
         Length={}\r\n--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n<\0\0\0",
        text.len()
    )
    .into_bytes();
    body.extend([counter; 60]);
    body.extend(text.bytes().map(|byte| !byte));
    body.extend(b"--Encrypted Boundary--\r\n");
    let kind = format!("Content-Type: multipart/encrypted;protocol=\"{label}\";boundary=\"Encrypted Boundary\"\r\n");
    request(&kind, body)
}

#[tokio::test]
async fn messages_are_sealed_under_the_label_of_the_client_and_damage_ends_the_logon() {
    let server = server(ChannelBindingPolicy::Relaxed);
    let mut wire = server.connect().await;
    assert_eq!(wire.ask(&request(&header("Kerberos", &ticket(KRB5, ALICE)), "")).await.status, 200);
    for (counter, label) in (1..).zip(["Kerberos", "SPNEGO"]) {
        let answer = wire.ask(&sealed(label, counter, "<a/>")).await;
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains(&format!("HTTP-{label}-session-encrypted")), "{answer:?}");
        let clear: Vec<u8> = format!("{ALICE} Utf8 <a/>").bytes().map(|byte| !byte).collect();
        assert!(answer.body.windows(clear.len()).any(|window| window == clear));
    }
    server.audit.take();
    let answer = wire.ask(&sealed("Kerberos", 9, "<a/>")).await;
    assert!(answer.status == 400 && answer.closes(), "{answer:?}");
    let line = server.audit.take().join("\n");
    assert!(
        line.starts_with(&format!("{ALICE} 127.0.0.1 kerberos logon refused: a message cannot be unsealed")),
        "{line}"
    );
}

#[tokio::test]
async fn a_ticket_that_is_not_good_is_refused_and_recorded() {
    let server = server(ChannelBindingPolicy::Relaxed);
    let mut wire = server.connect().await;
    for (text, line) in [
        ("malformed", Some(" 127.0.0.1 kerberos logon refused: malformed")),
        ("unbound", Some(" 127.0.0.1 kerberos logon refused: unbound")),
        ("late", Some(" 127.0.0.1 kerberos logon refused: late")),
        ("wrong", Some(" 127.0.0.1 kerberos logon refused: wrong")),
        (
            "eve@EXAMPLE.TEST",
            Some("eve@EXAMPLE.TEST 127.0.0.1 kerberos logon refused: the ticket is good, but no user has this name"),
        ),
    ] {
        for (word, sent) in [("Kerberos", ticket(KRB5, text)), ("Negotiate", init(&[KRB5], &ticket(KRB5, text)))] {
            let answer = wire.ask(&request(&header(word, &sent), "<a/>")).await;
            assert_eq!((answer.status, offers(&answer)), (401, vec![word]), "{text}");
            assert_eq!(server.audit.take(), line.iter().copied().collect::<Vec<_>>(), "{text}");
            assert_eq!(wire.ask(&request("", "<a/>")).await.status, 401, "{text}");
        }
    }
    // What is no ticket at all, or not under this word.
    for sent in [type_1(), ticket(NTLM, ALICE), init(&[NTLM], &type_1()), init(&[KRB5], &type_1()), b"x".to_vec()] {
        let answer = wire.ask(&request(&header("Kerberos", &sent), "<a/>")).await;
        assert_eq!((answer.status, offers(&answer)), (401, vec!["Kerberos"]));
    }
    // Two wrong tickets were sent; the fifth locks the address out, for good tickets too.
    for _ in 0..3 {
        wire.ask(&request(&header("Kerberos", &ticket(KRB5, "wrong")), "")).await;
    }
    assert!(server.audit.take().last().unwrap().ends_with("wrong; locked out from now on"));
    assert_eq!(wire.ask(&request(&header("Kerberos", &ticket(KRB5, ALICE)), "")).await.status, 401);
    let mut elsewhere = server.connect_from([127, 0, 0, 2]).await;
    assert_eq!(elsewhere.ask(&request(&header("Kerberos", &ticket(KRB5, ALICE)), "")).await.status, 200);
}

#[tokio::test]
async fn the_second_choice_needs_a_signed_list() {
    let server = server(ChannelBindingPolicy::Relaxed);
    let names = [NTLM, KRB5];
    for right in [true, false] {
        let mut wire = server.connect().await;
        let answer = wire.ask(&request(&header("Negotiate", &init(&names, &type_1())), "")).await;
        assert_eq!(answer.status, 401);
        assert_eq!(token(&answer, "Negotiate"), resp([Some(state(3)), Some(element(6, KRB5)), None, None]));
        let sent = resp([None, None, Some(element(4, &ticket(KRB5, ALICE))), None]);
        let answer = wire.ask(&request(&header("Negotiate", &sent), "")).await;
        assert_eq!(answer.status, 401);
        let ours = element(4, &[b"server", list(&names).as_slice()].concat());
        let expected = resp([Some(state(1)), None, Some(element(4, b"AP-REP")), Some(ours)]);
        assert_eq!(token(&answer, "Negotiate"), expected);
        assert_eq!(server.audit.take(), Vec::<String>::new(), "not logged on yet");
        let mic = [if right { b"client" } else { b"eve..." }, list(&names).as_slice()].concat();
        let sent = resp([None, None, None, Some(element(4, &mic))]);
        let answer = wire.ask(&request(&header("Negotiate", &sent), "")).await;
        assert_eq!((answer.status, offers(&answer).len()), if right { (200, 0) } else { (401, 1) });
        assert_eq!(wire.ask(&sealed("SPNEGO", 1, "<a/>")).await.status, if right { 200 } else { 401 });
        server.audit.take();
    }
    // While somebody may use NTLM, it is the first choice.
    admit(&server, true);
    let mut wire = server.connect().await;
    let answer = wire.ask(&request(&header("Negotiate", &init(&names, &type_1())), "")).await;
    assert!(token(&answer, "Negotiate").windows(8).any(|window| window == b"NTLMSSP\0"));
}

#[tokio::test]
async fn a_logon_lasts_as_long_as_its_ticket_and_its_account() {
    let server = server(ChannelBindingPolicy::Relaxed);
    let (mut short, mut removed) = (server.connect().await, server.connect().await);
    for (wire, text) in [(&mut short, "short@EXAMPLE.TEST"), (&mut removed, ALICE)] {
        assert_eq!(wire.ask(&request(&header("Kerberos", &ticket(KRB5, text)), "")).await.status, 200);
        assert_eq!(wire.ask(&sealed("Kerberos", 1, "<a/>")).await.status, 200);
    }
    server.audit.take();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(short.ask(&sealed("Kerberos", 2, "<a/>")).await.status, 401);
    assert_eq!(server.audit.take(), ["short@EXAMPLE.TEST 127.0.0.1 kerberos logon refused: the ticket has ended"]);
    users(&server, &["short"]);
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(removed.ask(&sealed("Kerberos", 2, "<a/>")).await.status, 401);
    assert_eq!(server.audit.take(), [format!("{ALICE} 127.0.0.1 kerberos logon refused: the account was removed")]);
}

#[tokio::test]
async fn bindings_are_asked_for_by_the_policy_and_over_tls_only() {
    for (policy, status) in
        [(ChannelBindingPolicy::None, 200), (ChannelBindingPolicy::Relaxed, 200), (ChannelBindingPolicy::Strict, 401)]
    {
        let server = server(policy);
        let mut tls = tls_connect(server.https, rustls::DEFAULT_VERSIONS).await;
        let alice = request(&header("Kerberos", &ticket(KRB5, ALICE)), "");
        assert_eq!(tls.ask(&alice).await.status, status, "{policy:?}");
        if status == 401 {
            let reason = "kerberos logon refused: wrong or missing channel binding";
            assert_eq!(server.audit.take(), [format!("{ALICE} 127.0.0.1 {reason}")]);
        }
        let bound = request(&header("Kerberos", &ticket(KRB5, "bound@EXAMPLE.TEST")), "");
        assert_eq!(tls.ask(&bound).await.status, 200, "{policy:?}");
        assert_eq!(server.connect().await.ask(&alice).await.status, 200, "{policy:?}, without TLS");
    }
}

#[tokio::test]
async fn a_ticket_that_takes_long_holds_nobody_else_up() {
    let server = server(ChannelBindingPolicy::Relaxed);
    let (mut slow, mut other) = (server.connect().await, server.connect().await);
    let begun = Instant::now();
    slow.send(&request(&header("Kerberos", &ticket(KRB5, "slow@EXAMPLE.TEST")), "")).await;
    assert_eq!(other.ask(&request(&header("Kerberos", &ticket(KRB5, ALICE)), "")).await.status, 200);
    assert_eq!(other.ask(&sealed("Kerberos", 1, "<a/>")).await.status, 200);
    assert_eq!(server.connect().await.ask(&request(&basic("admin:x"), "")).await.status, 401);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(slow.answer().await.status, 200);
}
