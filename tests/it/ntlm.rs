//! NTLM under Negotiate over real sockets, with a small client of our own.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use rc4::{Rc4, StreamCipher};
use tokio::io::{AsyncRead, AsyncWrite};
use wsnapd::transport::Limits;
use wsnapd::transport::auth::{ChannelBindingPolicy, NtHash, User, UsersFile, hash_password};

use super::transport::{Answer, TestServer, Wire, basic, certs, request, tls_connect};

pub(super) const PASSWORD: &str = "Passw0rd!";
/// MD4 of the UTF-16 of that password.
const NT_HASH: &str = "fc525c9683e8fe067095ba2ddc971889";
/// `UNICODE`, `SIGN`, `SEAL`, `NTLM`, extended session security, `128`, `KEY_EXCHANGE`, `56`.
const FLAGS: u32 = 0xe008_0231;
pub(super) const SEALED: &str = "Content-Type: multipart/encrypted;protocol=\"application/HTTP-SPNEGO-session-encrypted\";boundary=\"Encrypted Boundary\"\r\n";

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

struct Direction {
    sign: [u8; 16],
    seal: [u8; 16],
    cipher: Rc4,
    sequence: u32,
}

impl Direction {
    fn new(key: &[u8; 16], way: &str) -> Self {
        let derive = |kind: &str| -> [u8; 16] {
            let text = format!("session key to {way} {kind} key magic constant\0");
            Md5::digest([&key[..], text.as_bytes()].concat()).into()
        };
        let seal = derive("sealing");
        let cipher = Rc4::new_from_slice(&seal).unwrap();
        Self { sign: derive("signing"), seal, cipher, sequence: 0 }
    }

    /// The `mechListMIC`, after which the cipher begins anew.
    fn mic(&mut self, list: &[u8]) -> Vec<u8> {
        let mic = self.signature(list, |_| ());
        self.cipher = Rc4::new_from_slice(&self.seal).unwrap();
        mic
    }

    fn signature(&mut self, clear: &[u8], run: impl FnOnce(&mut Rc4)) -> Vec<u8> {
        let sequence = self.sequence.to_le_bytes();
        let mac = hmac(&self.sign, &[&sequence, clear]);
        run(&mut self.cipher);
        let mut half = mac[..8].to_vec();
        self.cipher.apply_keystream(&mut half);
        self.sequence += 1;
        [&[1, 0, 0, 0][..], &half, &sequence].concat()
    }
}

/// The client's side of a logon.
pub(super) struct Client {
    to_server: Direction,
    to_client: Direction,
}

/// A type 3 message with exchanged keys for a type 2 message, and the client that results.
pub(super) fn type_3(type_2: &[u8], user: &str, password: &str, binding: Option<[u8; 16]>) -> (Vec<u8>, Client) {
    let nt = if password == PASSWORD { NT_HASH.to_owned() } else { "0".repeat(32) };
    let nt: Vec<u8> = nt
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let domain = utf16("WORKGROUP");
    let owf = hmac(&nt, &[&utf16(&user.to_uppercase()), &domain]);
    let pairs = binding.map_or(vec![], |value| [&[10, 0, 16, 0][..], &value].concat());
    let temp = [&[1, 1, 0, 0, 0, 0, 0, 0][..], &[9; 8], &[3; 8], &[0; 4], &pairs, &[0; 8]].concat();
    let proof = hmac(&owf, &[&type_2[24..32], &temp]);
    let exported = [0x5a; 16];
    let mut encrypted = exported;
    Rc4::new_from_slice(&hmac(&owf, &[&proof])).unwrap().apply_keystream(&mut encrypted);
    let user = utf16(user);
    let mut message = b"NTLMSSP\0\x03\0\0\0".to_vec();
    let response = [&proof[..], &temp].concat();
    let parts = [&[][..], &response, &domain, &user, &[], &encrypted];
    let mut offset = 64_u32;
    for part in parts {
        let length = u16::try_from(part.len()).unwrap();
        message.extend_from_slice(&[length.to_le_bytes(), length.to_le_bytes()].concat());
        message.extend_from_slice(&offset.to_le_bytes());
        offset += u32::from(length);
    }
    message.extend_from_slice(&FLAGS.to_le_bytes());
    for part in parts {
        message.extend_from_slice(part);
    }
    let client = Client {
        to_server: Direction::new(&exported, "client-to-server"),
        to_client: Direction::new(&exported, "server-to-client"),
    };
    (message, client)
}

impl Client {
    /// Signature and sealed bytes, as `GSS_Wrap` puts them together.
    pub(super) fn wrap(&mut self, clear: &[u8]) -> Vec<u8> {
        let mut data = clear.to_vec();
        let signature = self.to_server.signature(clear, |cipher| cipher.apply_keystream(&mut data));
        [signature, data].concat()
    }

    /// What the server has put together so.
    pub(super) fn unwrap(&mut self, sealed: &[u8]) -> Vec<u8> {
        let mut data = sealed[16..].to_vec();
        self.to_client.cipher.apply_keystream(&mut data);
        assert_eq!(self.to_client.signature(&data, |_| ()), sealed[..16]);
        data
    }

    /// The signature of the list of mechanisms, and that of the server.
    pub(super) fn mics(&mut self, list: &[u8]) -> [Vec<u8>; 2] {
        [self.to_server.mic(list), self.to_client.mic(list)]
    }

    /// A request with a sealed body.
    fn seal(&mut self, text: &str) -> Vec<u8> {
        request(SEALED, [&self.piece(text)[..], b"--Encrypted Boundary--\r\n"].concat())
    }

    /// A message in pieces, each sealed by itself.
    fn seal_in_pieces(&mut self, pieces: &[&str]) -> Vec<u8> {
        let mut body: Vec<u8> = pieces.iter().flat_map(|text| self.piece(text)).collect();
        body.extend_from_slice(b"--Encrypted Boundary--\r\n");
        request(&SEALED.replace("multipart/encrypted", "multipart/x-multi-encrypted"), body)
    }

    fn piece(&mut self, text: &str) -> Vec<u8> {
        let mut data = text.as_bytes().to_vec();
        let signature = self.to_server.signature(text.as_bytes(), |cipher| cipher.apply_keystream(&mut data));
        let head = format!(
            "--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n\
             \tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={}\r\n--Encrypted Boundary\r\n\
             \tContent-Type: application/octet-stream\r\n\x10\0\0\0",
            data.len()
        );
        [head.as_bytes(), &signature, &data].concat()
    }

    /// The text of a sealed answer.
    fn unseal(&mut self, answer: &Answer) -> String {
        assert!(answer.head.contains(SEALED.split_once(' ').unwrap().1), "{}", answer.head);
        let marker = b"octet-stream\r\n\x10\0\0\0";
        let start = answer.body.windows(marker.len()).position(|window| window == marker).unwrap() + marker.len();
        let end = answer.body.len() - b"--Encrypted Boundary--\r\n".len();
        let mut data = answer.body[start + 16..end].to_vec();
        self.to_client.cipher.apply_keystream(&mut data);
        let expected = self.to_client.signature(&data, |_| ());
        assert_eq!(answer.body[start..start + 16], expected);
        String::from_utf8(data).unwrap()
    }
}

pub(super) fn type_1() -> Vec<u8> {
    [b"NTLMSSP\0\x01\0\0\0", &FLAGS.to_le_bytes()[..]].concat()
}

pub(super) fn header(word: &str, token: &[u8]) -> String {
    format!("Authorization: {word} {}\r\n", STANDARD.encode(token))
}

/// The `WWW-Authenticate` values of an answer.
pub(super) fn offers(answer: &Answer) -> Vec<&str> {
    answer.head.lines().filter_map(|line| line.strip_prefix("www-authenticate: ")).collect()
}

pub(super) async fn challenge<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    word: &str,
    body: &str,
) -> Vec<u8> {
    let answer = wire.ask(&request(&header(word, &type_1()), body)).await;
    assert_eq!((answer.status, answer.body.len()), (401, 0), "{answer:?}");
    let [offer] = offers(&answer)[..] else { panic!("one line, not {}", answer.head) };
    STANDARD.decode(offer.strip_prefix(word).unwrap().trim()).unwrap()
}

/// Logs on with requests without a body.
async fn log_on<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, binding: Option<[u8; 16]>) -> (Answer, Client) {
    let type_2 = challenge(wire, "Negotiate", "").await;
    let (token, client) = type_3(&type_2, "admin", PASSWORD, binding);
    (wire.ask(&request(&header("Negotiate", &token), "")).await, client)
}

pub(super) fn admit(server: &TestServer, ntlm: bool) {
    let mut users = UsersFile::default();
    let user = User::new("Admin", hash_password(PASSWORD.as_bytes()).unwrap()).unwrap();
    users.set(if ntlm { user.with_ntlm(NtHash::of_password(PASSWORD)) } else { user });
    users.save(&server.users_file).unwrap();
}

fn strict() -> TestServer {
    let server = TestServer::with(false, Limits::default());
    admit(&server, true);
    server
}

#[tokio::test]
async fn negotiate_is_offered_while_somebody_may_use_ntlm() {
    let server = TestServer::start();
    admit(&server, true);
    let mut wire = server.connect().await;
    assert_eq!(offers(&wire.ask(&request("", "")).await), ["Negotiate", "Basic realm=\"WSMAN\""]);
    admit(&server, false);
    assert_eq!(offers(&wire.ask(&request("", "")).await), ["Basic realm=\"WSMAN\""]);
    let answer = wire.ask(&request(&header("Negotiate", &type_1()), "")).await;
    assert_eq!(offers(&answer), ["Basic realm=\"WSMAN\""]);
    assert_eq!(server.connect().await.ask(&request(&basic(&format!("admin:{PASSWORD}")), "<a/>")).await.status, 200);
    let strict = strict();
    assert_eq!(offers(&strict.connect().await.ask(&request("", "")).await), ["Negotiate"]);
}

#[tokio::test]
async fn sealed_messages_go_over_plain_http() {
    let server = strict();
    let mut wire = server.connect().await;
    let (answer, mut client) = log_on(&mut wire, None).await;
    assert_eq!((answer.status, answer.body.len(), offers(&answer).len()), (200, 0, 0), "{answer:?}");
    for text in ["<a/>", "<b>ä</b>", &"x".repeat(100_000)] {
        let answer = wire.ask(&client.seal(text)).await;
        assert_eq!((answer.status, client.unseal(&answer)), (200, format!("Admin Utf8 {text}")));
    }
    let answer = wire.ask(&client.seal("<fault/>")).await;
    assert_eq!((answer.status, client.unseal(&answer)), (500, "Admin Utf8 <fault/>".to_owned()));
    // Two at once, answered in their order.
    let both = [client.seal("<one/>"), client.seal("<two/>")].concat();
    wire.send(&both).await;
    for text in ["<one/>", "<two/>"] {
        let answer = wire.answer().await;
        assert_eq!(client.unseal(&answer), format!("Admin Utf8 {text}"));
    }
    let calls = server.handler.calls.load(Ordering::SeqCst);
    let answer = wire.ask(&request("", "<clear/>")).await;
    assert_eq!((answer.status, answer.text()), (500, "encryption fault"));
    let answer = wire.ask(&client.seal("<again/>")).await;
    assert_eq!(client.unseal(&answer), "Admin Utf8 <again/>");
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), calls + 1, "clear text reached nobody");
}

#[tokio::test]
async fn a_message_may_come_in_pieces_that_are_sealed_one_by_one() {
    let server = strict();
    let mut wire = server.connect().await;
    let (_, mut client) = log_on(&mut wire, None).await;
    let long = "x".repeat(16_384);
    let pieces = [&*long; 18];
    for pieces in [&["<a/>"][..], &["<", "a", "/>"], &["", "<a/>"], &pieces] {
        let answer = wire.ask(&client.seal_in_pieces(pieces)).await;
        assert_eq!((answer.status, client.unseal(&answer)), (200, format!("Admin Utf8 {}", pieces.concat())));
    }
    // With filler, as omicli writes it.
    let answer = wire.ask(&client.seal("<a/>\0\0\0")).await;
    assert_eq!((answer.status, client.unseal(&answer)), (200, "Admin Utf8 <a/>".to_owned()));
    // Out of their order.
    let message = client.seal_in_pieces(&["<a/>", "<b/>"]);
    let text: Vec<usize> =
        message.windows(20).enumerate().filter(|(_, it)| *it == b"--Encrypted Boundary").map(|(at, _)| at).collect();
    let (first, second, end) = (text[0], text[2], text[4]);
    let turned = [&message[..first], &message[second..end], &message[first..second], &message[end..]].concat();
    let answer = wire.ask(&turned).await;
    assert_eq!((answer.status, answer.closes()), (400, true));
}

#[tokio::test]
async fn a_sealed_message_counts_once_on_its_own_connection() {
    let server = strict();
    let mut wire = server.connect().await;
    let (_, mut client) = log_on(&mut wire, None).await;
    let message = client.seal("<a/>");
    // On a connection where nobody logged on.
    let answer = server.connect().await.ask(&message).await;
    assert_eq!((answer.status, offers(&answer)), (401, vec!["Negotiate"]));
    assert_eq!(wire.ask(&message).await.status, 200);
    let answer = wire.ask(&message).await;
    assert_eq!((answer.status, answer.closes()), (400, true), "repeated");
    assert!(wire.is_closed().await);
    // Changed on its way; lengths that lie.
    for (from, to) in [("</a>", "</b>"), ("Length=4", "Length=3"), ("\x10\0\0\0", "\x11\0\0\0")] {
        let mut wire = server.connect().await;
        let (_, mut client) = log_on(&mut wire, None).await;
        let mut message = client.seal("<a/>");
        if let Some(at) = message.windows(from.len()).position(|window| window == from.as_bytes()) {
            message[at..at + from.len()].copy_from_slice(to.as_bytes());
        } else {
            let end = message.len() - 30;
            message[end] ^= 1;
        }
        let answer = wire.ask(&message).await;
        assert_eq!((answer.status, answer.closes()), (400, true), "{from}");
    }
    // Sealed, and at the same time in the name of somebody by password.
    let mut wire = tls_connect(server.https, rustls::DEFAULT_VERSIONS).await;
    let (_, mut client) = log_on(&mut wire, None).await;
    let message = String::from_utf8_lossy(&request(SEALED, "")).len();
    let sealed = client.seal("<a/>");
    let head = basic(&format!("admin:{PASSWORD}"));
    let at = message - 2;
    assert_eq!(sealed[..5], *b"POST ");
    let line_end = sealed.windows(2).position(|window| window == b"\r\n").unwrap() + 2;
    assert!(line_end < at);
    let mixed = [&sealed[..line_end], head.as_bytes(), &sealed[line_end..]].concat();
    assert_eq!(wire.ask(&mixed).await.status, 400);
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn wrong_tokens_are_refused_and_the_connection_goes_on() {
    let server = strict();
    let mut wire = server.connect().await;
    let type_2 = challenge(&mut wire, "Negotiate", "").await;
    let other = challenge(&mut server.connect().await, "Negotiate", "").await;
    assert_ne!(type_2[24..32], other[24..32], "a challenge is used once");
    let mut wrong: Vec<(&str, Vec<u8>)> = vec![
        ("wrong password", type_3(&type_2, "admin", "wrong", None).0),
        ("type 3 without type 2", type_3(&type_2, "admin", PASSWORD, None).0),
        ("too long", vec![b'x'; 65_537]),
        ("nonsense", b"nonsense".to_vec()),
        ("empty", vec![]),
        ("Kerberos", b"\x60\x0d\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00".to_vec()),
    ];
    for (what, token) in wrong.drain(..) {
        let answer = wire.ask(&request(&header("Negotiate", &token), "<a/>")).await;
        assert_eq!(answer.status, 401, "{what}");
        assert!(answer.head.contains("www-authenticate: Negotiate\r\n"), "{what}: {answer:?}");
    }
    for (user, password, of) in
        [("nobody", PASSWORD, None), ("admin", "wrong", None), ("admin", PASSWORD, Some(&other))]
    {
        let type_2 = challenge(&mut wire, "Negotiate", "").await;
        let token = type_3(of.unwrap_or(&type_2), user, password, None).0;
        let answer = wire.ask(&request(&header("Negotiate", &token), "")).await;
        assert_eq!((answer.status, offers(&answer)), (401, vec!["Negotiate"]), "{user} {password}");
    }
    let answer = wire.ask(&request("Authorization: Negotiate !!!\r\n", "")).await;
    assert_eq!((answer.status, offers(&answer)), (401, vec!["Negotiate"]));
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 0);
    let (answer, mut client) = log_on(&mut wire, None).await;
    assert_eq!(answer.status, 200);
    // A new handshake drops the old context; the old keys are of no use then.
    let (_, mut second) = log_on(&mut wire, None).await;
    let answer = wire.ask(&second.seal("<a/>")).await;
    assert_eq!(second.unseal(&answer), "Admin Utf8 <a/>");
    assert_eq!(wire.ask(&client.seal("<a/>")).await.status, 400);
}

#[tokio::test]
async fn a_client_that_never_finishes_gets_nowhere_and_keeps_nothing() {
    let server = strict();
    let mut wire = server.connect().await;
    let mut challenges = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let type_2 = challenge(&mut wire, "Negotiate", "").await;
        assert!(challenges.insert(type_2[24..32].to_vec()), "a challenge is used once");
    }
    // Only the last challenge counts.
    let type_2 = challenge(&mut wire, "Negotiate", "").await;
    let old = challenge(&mut wire, "Negotiate", "").await;
    challenge(&mut wire, "Negotiate", "").await;
    for stale in [type_2, old] {
        let answer = wire.ask(&request(&header("Negotiate", &type_3(&stale, "admin", PASSWORD, None).0), "")).await;
        assert_eq!(answer.status, 401);
    }
    assert_eq!(wire.ask(&request("", "<a/>")).await.status, 401);
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 0);
    assert_eq!(log_on(&mut wire, None).await.0.status, 200);
}

#[tokio::test]
async fn a_handshake_has_a_time_limit() {
    let server = TestServer::with(false, Limits { handshake: Duration::from_millis(50), ..Limits::default() });
    admit(&server, true);
    let mut wire = server.connect().await;
    let type_2 = challenge(&mut wire, "Negotiate", "").await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    let answer = wire.ask(&request(&header("Negotiate", &type_3(&type_2, "admin", PASSWORD, None).0), "")).await;
    assert_eq!((answer.status, offers(&answer)), (401, vec!["Negotiate"]));
}

#[tokio::test]
async fn bodies_on_every_leg_are_read_and_the_word_is_kept() {
    let server = TestServer::start();
    admit(&server, true);
    let mut wire = server.connect().await;
    let body = "x".repeat(150 * 1024);
    for word in ["Negotiate", "NTLM"] {
        let type_2 = challenge(&mut wire, word, &body).await;
        let token = type_3(&type_2, "ADMIN", PASSWORD, None).0;
        let answer = wire.ask(&request(&header(word, &token), &body)).await;
        assert_eq!((answer.status, answer.text()), (200, &*format!("Admin Utf8 {body}")));
        for _ in 0..3 {
            assert_eq!(wire.ask(&request("", "<a/>")).await.text(), "Admin Utf8 <a/>", "no header needed again");
        }
    }
    assert_eq!(server.connect().await.ask(&request("", "<a/>")).await.status, 401, "another connection");
    let identify = wire.ask(&request("WSMANIDENTIFY: unauthenticated\r\n", "<identify/>")).await;
    assert_eq!(identify.text(), "<identified/>");
    assert_eq!(wire.ask(&request("", "<a/>")).await.status, 200);
    // Other credentials end the logon.
    assert_eq!(wire.ask(&request(&basic("admin:wrong"), "<a/>")).await.status, 401);
    assert_eq!(wire.ask(&request("", "<a/>")).await.status, 401);
}

#[tokio::test]
async fn a_removed_account_is_logged_off() {
    let server = TestServer::start();
    admit(&server, true);
    let mut wire = server.connect().await;
    assert_eq!(log_on(&mut wire, None).await.0.status, 200);
    assert_eq!(wire.ask(&request("", "<a/>")).await.status, 200);
    admit(&server, false);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(wire.ask(&request("", "<a/>")).await.status, 401);
}

#[tokio::test]
async fn logons_over_tls_are_bound_to_the_certificate() {
    use rustls::pki_types::pem::PemObject;
    let leaf = rustls::pki_types::CertificateDer::from_pem_file(certs("server.pem")).unwrap();
    let hash = ring::digest::digest(&ring::digest::SHA256, &leaf);
    let data = [b"tls-server-end-point:", hash.as_ref()].concat();
    let length = u32::try_from(data.len()).unwrap().to_le_bytes();
    let right: [u8; 16] = Md5::digest([&[0; 16], &length[..], &data].concat()).into();
    let mut wrong = right;
    wrong[7] ^= 4;
    let sent = [Some(right), None, Some([0; 16]), Some(wrong)];
    for (policy, expected) in [
        (ChannelBindingPolicy::None, [200, 200, 200, 200]),
        (ChannelBindingPolicy::Relaxed, [200, 200, 200, 401]),
        (ChannelBindingPolicy::Strict, [200, 401, 401, 401]),
    ] {
        let server = TestServer::bound(false, Limits::default(), policy);
        admit(&server, true);
        for (binding, expected) in sent.into_iter().zip(expected) {
            let mut wire = tls_connect(server.https, rustls::DEFAULT_VERSIONS).await;
            assert_eq!(log_on(&mut wire, binding).await.0.status, expected, "{policy:?} {binding:x?}");
            if expected == 200 {
                assert_eq!(wire.ask(&request("", "<a/>")).await.text(), "Admin Utf8 <a/>");
            }
            // There is nothing to bind to without TLS.
            assert_eq!(log_on(&mut server.connect().await, binding).await.0.status, 200);
        }
    }
}
