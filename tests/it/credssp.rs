//! CredSSP over real sockets, with a small client of our own.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::net::TcpStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ntlm::{Client, PASSWORD, admit, header, offers, type_1, type_3};
use super::transport::{Answer, TestServer, Wire, request};

/// Trusts every certificate, as clients of CredSSP do: the proof of the key comes later.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82][..], &length, content].concat()
}

pub(super) fn octets(number: u8, content: &[u8]) -> Vec<u8> {
    element(0xa0 | number, &element(4, content))
}

/// A `TSRequest` of these fields behind the version.
fn ts_request(version: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &[element(0xa0, &[2, 1, version]), fields.concat()].concat())
}

pub(super) fn nego(token: &[u8]) -> Vec<u8> {
    element(0xa1, &element(0x30, &element(0x30, &octets(0, token))))
}

pub(super) fn credentials(user: &str, password: &str) -> Vec<u8> {
    let text =
        |number, text: &str| octets(number, &text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    let inner = element(0x30, &[text(0, "WORKGROUP"), text(1, user), text(2, password)].concat());
    element(0x30, &[element(0xa0, &[2, 1, 1]), octets(1, &inner)].concat())
}

/// The client's end of the inner connection.
pub(super) struct Inner {
    tls: ClientConnection,
}

const MAGIC: [&[u8]; 2] = [b"CredSSP Client-To-Server Binding Hash\0", b"CredSSP Server-To-Client Binding Hash\0"];

impl Inner {
    fn new(versions: &[&'static SupportedProtocolVersion]) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        Self { tls: ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap() }
    }

    fn out(&mut self, clear: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(clear).unwrap();
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut clear = Vec::new();
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).unwrap();
            let ready = self.tls.process_new_packets().unwrap().plaintext_bytes_to_read();
            let start = clear.len();
            clear.resize(start + ready, 0);
            self.tls.reader().read_exact(&mut clear[start..]).unwrap();
        }
        clear
    }

    fn key(&self) -> Vec<u8> {
        let leaf = &self.tls.peer_certificates().unwrap()[0];
        X509Certificate::from_der(leaf).unwrap().1.public_key().subject_public_key.data.to_vec()
    }

    pub(super) fn proof(&self, version: u8, nonce: &[u8], from_server: bool) -> Vec<u8> {
        let mut key = self.key();
        if version >= 5 {
            let magic = MAGIC[usize::from(from_server)];
            return digest(&SHA256, &[magic, nonce, &key].concat()).as_ref().to_vec();
        }
        key[0] = key[0].wrapping_add(u8::from(from_server));
        key
    }
}

/// A logon on its way.
pub(super) struct Logon {
    pub(super) wire: Wire<TcpStream>,
    pub(super) inner: Inner,
    version: u8,
    pub(super) type_2: Vec<u8>,
}

/// The token of an answer.
pub(super) fn token(answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.status, 401, "{answer:?}");
    let offers = offers(answer);
    assert_eq!(offers.len(), 1, "{answer:?}");
    STANDARD.decode(offers[0].strip_prefix("CredSSP ").unwrap_or_default()).unwrap()
}

/// What stands in a field of octets, wherever it is.
pub(super) fn field(request: &[u8], tag: u8) -> Vec<u8> {
    fn elements(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
        let mut found = Vec::new();
        while let [tag, first, rest @ ..] = bytes {
            let count = usize::from(if *first > 0x80 { first & 0x7f } else { 0 });
            let length = if count == 0 {
                usize::from(*first)
            } else {
                rest[..count].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
            };
            found.push((*tag, &rest[count..count + length]));
            bytes = &rest[count + length..];
        }
        found
    }
    let body = elements(request)[0].1;
    let found = elements(body).into_iter().find(|(known, _)| *known == tag).expect("the field is there").1;
    elements(found)[0].1.to_vec()
}

impl Logon {
    /// As far as the inner connection goes.
    pub(super) async fn open(server: &TestServer, version: u8, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let mut wire = server.connect().await;
        let mut inner = Inner::new(versions);
        while inner.tls.is_handshaking() {
            let hello = inner.out(&[]);
            let answer = wire.ask(&request(&header("CredSSP", &hello), "")).await;
            assert_eq!(inner.take(&token(&answer)), b"");
        }
        // With TLS 1.3 the client has the last word.
        let last = inner.out(&[]);
        if !last.is_empty() {
            let answer = wire.ask(&request(&header("CredSSP", &last), "")).await;
            let ticket = token(&answer);
            assert!(!ticket.is_empty(), "an empty token would be none");
            inner.take(&ticket);
        }
        Self { wire, inner, version, type_2: Vec::new() }
    }

    /// As far as the challenge of NTLM.
    async fn begin(server: &TestServer, version: u8, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let mut logon = Self::open(server, version, versions).await;
        let answer = logon.send(&[nego(&type_1())]).await;
        let challenge = logon.read(&answer);
        let tokens = field(&challenge, 0xa1);
        let at = tokens.windows(8).position(|window| window == b"NTLMSSP\0").unwrap();
        logon.type_2 = tokens[at..].to_vec();
        logon
    }

    pub(super) async fn send(&mut self, fields: &[Vec<u8>]) -> Answer {
        let bytes = self.inner.out(&ts_request(self.version, fields));
        self.wire.ask(&request(&header("CredSSP", &bytes), "")).await
    }

    pub(super) fn read(&mut self, answer: &Answer) -> Vec<u8> {
        self.inner.take(&token(answer))
    }

    /// The fields with the proof of the key.
    pub(super) fn proof(&self, client: &mut Client, key: &[u8]) -> Vec<Vec<u8>> {
        let proof = octets(3, &client.wrap(key));
        if self.version >= 5 { vec![proof, octets(5, &[0x42; 32])] } else { vec![proof] }
    }

    /// To the end; gives the last answer.
    async fn finish(&mut self, user: &str, password: &str, handed_over: &str) -> Answer {
        let (type_3, mut client) = type_3(&self.type_2, user, password, None);
        let mut fields = vec![nego(&type_3)];
        let proof = self.inner.proof(self.version, &[0x42; 32], false);
        fields.extend(self.proof(&mut client, &proof));
        let answer = self.send(&fields).await;
        let answer = self.read(&answer);
        let sealed = field(&answer, 0xa3);
        assert_eq!(client.unwrap(&sealed), self.inner.proof(self.version, &[0x42; 32], true));
        let sealed = client.wrap(&credentials(handed_over, password));
        self.send(&[octets(2, &sealed)]).await
    }

    /// A sealed request, in parts of these lengths.
    pub(super) fn sealed(&mut self, parts: &[&[u8]]) -> Vec<u8> {
        const PROTOCOL: &str = "application/HTTP-CredSSP-session-encrypted";
        let kind = if parts.len() == 1 { "encrypted" } else { "x-multi-encrypted" };
        let mut body = Vec::new();
        for part in parts {
            let head = format!(
                "--Encrypted Boundary\r\n\tContent-Type: {PROTOCOL}\r\n\
                 \tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={}\r\n--Encrypted Boundary\r\n\
                 \tContent-Type: application/octet-stream\r\n",
                part.len()
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(&[17, 0, 0, 0]);
            body.extend_from_slice(&self.inner.out(part));
        }
        body.extend_from_slice(b"--Encrypted Boundary--\r\n");
        let head =
            format!("Content-Type: multipart/{kind};protocol=\"{PROTOCOL}\";boundary=\"Encrypted Boundary\"\r\n");
        request(&head, body)
    }

    /// The clear text of a sealed answer, and in how many parts it came.
    pub(super) fn unsealed(&mut self, answer: &Answer) -> (String, usize) {
        let marker = b"application/octet-stream\r\n";
        let (mut clear, mut parts, mut rest) = (Vec::new(), 0, &answer.body[..]);
        while let Some(at) = rest.windows(marker.len()).position(|window| window == marker) {
            rest = &rest[at + marker.len() + 4..];
            let length = 5 + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
            clear.extend(self.inner.take(&rest[..length]));
            rest = &rest[length..];
            parts += 1;
        }
        assert_eq!(rest, b"--Encrypted Boundary--\r\n");
        (String::from_utf8(clear).unwrap(), parts)
    }
}

pub(super) const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

pub(super) fn server(oldest: u32) -> TestServer {
    let server = TestServer::delegated(oldest);
    admit(&server, true);
    server.audit.take();
    server
}

#[tokio::test]
async fn each_version_logs_on_and_seals() {
    let server = server(2);
    for version in 2..=6 {
        for versions in [BOTH, &[&rustls::version::TLS12]] {
            let mut logon = Logon::begin(&server, version, versions).await;
            let answer = logon.finish("admin", PASSWORD, "WORKGROUP\\Admin").await;
            assert_eq!((answer.status, answer.body.len()), (200, 0), "{version}: {answer:?}");
            assert_eq!(server.audit.take(), ["Admin 127.0.0.1 credssp logon done"]);
            let text = logon.sealed(&[b"<a/>"]);
            let answer = logon.wire.ask(&text).await;
            assert_eq!((answer.status, logon.unsealed(&answer)), (200, ("Admin Utf8 <a/>".to_owned(), 1)));
            let text = logon.sealed(&[b"<fault/>"]);
            let answer = logon.wire.ask(&text).await;
            assert_eq!((answer.status, logon.unsealed(&answer).1), (500, 1), "faults are sealed too");
        }
    }
}

#[tokio::test]
async fn a_client_that_never_finishes_is_cut_off_at_the_thirteenth_leg() {
    let server = server(5);
    for (pieces, goes_on) in [(12, true), (13, false)] {
        let mut wire = server.connect().await;
        let hello = Inner::new(BOTH).out(&[]);
        // The head of the record and of the message, and then a byte a leg.
        let (mut start, mut end) = (0, 6);
        for _ in 1..pieces {
            let answer = wire.ask(&request(&header("CredSSP", &hello[start..end]), "")).await;
            assert_eq!((answer.status, offers(&answer)), (401, vec!["CredSSP"]));
            (start, end) = (end, end + 1);
        }
        let answer = wire.ask(&request(&header("CredSSP", &hello[start..]), "")).await;
        assert_eq!(answer.status, 401);
        assert_eq!(offers(&answer)[0].len() > "CredSSP ".len(), goes_on, "{pieces}: {answer:?}");
        // What goes on is another handshake.
        let whole = wire.ask(&request(&header("CredSSP", &hello), "")).await;
        assert!(token(&whole).len() > 100);
    }
}

#[tokio::test]
async fn long_messages_come_and_go_in_parts() {
    let server = server(5);
    let mut logon = Logon::begin(&server, 6, BOTH).await;
    assert_eq!(logon.finish("admin", PASSWORD, "admin").await.status, 200);
    let long = "x".repeat(300_000);
    let parts: Vec<&[u8]> = long.as_bytes().chunks(16_384).collect();
    for _ in 0..3 {
        let text = logon.sealed(&parts);
        let answer = logon.wire.ask(&text).await;
        assert!(answer.head.contains("multipart/x-multi-encrypted;protocol="), "{}", answer.head);
        let (clear, count) = logon.unsealed(&answer);
        assert_eq!((clear, count), (format!("Admin Utf8 {long}"), 19));
    }
}

#[tokio::test]
async fn what_is_not_sealed_as_it_should_be_is_refused() {
    let server = server(5);
    let mut logon = Logon::begin(&server, 6, BOTH).await;
    assert_eq!(logon.finish("admin", PASSWORD, "admin").await.status, 200);
    let answer = logon.wire.ask(&request("", "<a/>")).await;
    assert_eq!((answer.status, answer.text()), (500, "encryption fault"), "clear text");
    let mut text = logon.sealed(&[b"<a/>"]);
    let at = text.len() - 40;
    text[at] ^= 1;
    let answer = logon.wire.ask(&text).await;
    assert!(answer.status == 400 && answer.closes(), "{answer:?}");
    // A message of one connection on another one.
    let mut first = Logon::begin(&server, 6, BOTH).await;
    assert_eq!(first.finish("admin", PASSWORD, "admin").await.status, 200);
    let text = first.sealed(&[b"<a/>"]);
    let answer = server.connect().await.ask(&text).await;
    assert_eq!(answer.status, 401);
    let mut second = Logon::begin(&server, 6, BOTH).await;
    assert_eq!(second.finish("admin", PASSWORD, "admin").await.status, 200);
    assert_eq!(second.wire.ask(&text).await.status, 400);
    assert_eq!(first.wire.ask(&text).await.status, 200, "and on its own it is right");
    assert_eq!(first.wire.ask(&text).await.status, 400, "once");
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_wrong_password_is_told_counted_and_locks_out() {
    let server = server(2);
    for (number, version) in [6, 5, 4, 2].into_iter().enumerate() {
        let mut logon = Logon::begin(&server, version, BOTH).await;
        let (type_3, mut client) = type_3(&logon.type_2, "admin", "wrong", None);
        let mut fields = vec![nego(&type_3)];
        let proof = logon.inner.proof(version, &[0x42; 32], false);
        fields.extend(logon.proof(&mut client, &proof));
        let answer = logon.send(&fields).await;
        let told = token(&answer);
        if matches!(version, 3 | 4 | 6) {
            let told = logon.inner.take(&told);
            assert_eq!(field(&told, 0xa4), [0xc0, 0, 0, 0x6d], "STATUS_LOGON_FAILURE");
        } else {
            assert!(told.is_empty(), "version {version} knows no error codes");
        }
        let lines = server.audit.take();
        assert!(lines.len() == 1 && lines[0].starts_with("admin 127.0.0.1 credssp logon refused: wrong"), "{lines:?}");
        assert_eq!(lines[0].contains("locked out"), number == 3, "{lines:?}");
        assert_eq!(logon.wire.ask(&request("", "<a/>")).await.status, 401);
    }
    let mut logon = Logon::begin(&server, 6, BOTH).await;
    let (type_3, _) = type_3(&logon.type_2, "admin", PASSWORD, None);
    assert_eq!(logon.send(&[nego(&type_3)]).await.status, 401);
}

#[tokio::test]
async fn somebody_in_between_is_noticed() {
    let server = server(2);
    for version in [2, 4, 5, 6] {
        let mut logon = Logon::begin(&server, version, BOTH).await;
        let (type_3, mut client) = type_3(&logon.type_2, "admin", PASSWORD, None);
        let mut proof = logon.inner.proof(version, &[0x42; 32], false);
        *proof.last_mut().unwrap() ^= 1;
        let mut fields = vec![nego(&type_3)];
        fields.extend(logon.proof(&mut client, &proof));
        assert_eq!(logon.send(&fields).await.status, 401);
        let lines = server.audit.take();
        assert!(lines.len() == 1 && lines[0].contains("credssp logon refused: the client sees another"), "{lines:?}");
        // Also when it comes by itself, in the next message.
        let mut logon = Logon::begin(&server, version, BOTH).await;
        let (type_3, mut client) = super::ntlm::type_3(&logon.type_2, "admin", PASSWORD, None);
        let answer = logon.send(&[nego(&type_3)]).await;
        logon.read(&answer);
        let fields = logon.proof(&mut client, &proof);
        assert_eq!(logon.send(&fields).await.status, 401);
        assert!(server.audit.take()[0].contains("another public key"));
    }
    // A salt of another length, and none.
    for nonce in [vec![], vec![octets(5, &[0x42; 31])]] {
        let mut logon = Logon::begin(&server, 6, BOTH).await;
        let (type_3, mut client) = type_3(&logon.type_2, "admin", PASSWORD, None);
        let proof = logon.inner.proof(6, &[0x42; 32], false);
        let mut fields = vec![nego(&type_3), octets(3, &client.wrap(&proof))];
        fields.extend(nonce);
        assert_eq!(logon.send(&fields).await.status, 401);
    }
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn old_versions_are_taken_only_where_they_are_asked_for() {
    let server = server(5);
    for version in 2..5 {
        let mut wire = server.connect().await;
        let mut inner = Inner::new(&[&rustls::version::TLS12]);
        while inner.tls.is_handshaking() {
            let hello = inner.out(&[]);
            let answer = wire.ask(&request(&header("CredSSP", &hello), "")).await;
            inner.take(&token(&answer));
        }
        let bytes = inner.out(&ts_request(version, &[nego(&type_1())]));
        assert!(token(&wire.ask(&request(&header("CredSSP", &bytes), "")).await).is_empty(), "{version}");
    }
}

#[tokio::test]
async fn credentials_of_somebody_else_end_the_logon() {
    let server = server(5);
    let mut logon = Logon::begin(&server, 6, BOTH).await;
    assert_eq!(logon.finish("admin", PASSWORD, "mallory").await.status, 401);
    assert_eq!(
        server.audit.take(),
        ["Admin 127.0.0.1 credssp logon refused: the credentials are not of the user who logged on"]
    );
    assert_eq!(logon.wire.ask(&request("", "<a/>")).await.status, 401);
}

#[tokio::test]
async fn messages_cut_off_or_out_of_order_are_refused() {
    let server = server(5);
    let whole = ts_request(6, &[nego(&type_1())]);
    let wrong: Vec<Vec<u8>> = vec![
        whole[..whole.len() - 1].to_vec(),
        whole[..1].to_vec(),
        [&whole[..], b"x"].concat(),
        ts_request(6, &[]),
        ts_request(6, &[octets(2, b"credentials first")]),
        ts_request(6, &[octets(3, b"key first"), octets(5, &[0; 32])]),
        ts_request(6, &[nego(&type_1()), octets(3, b"key too early"), octets(5, &[0; 32])]),
        ts_request(6, &[nego(b"")]),
        ts_request(6, &[nego(&type_3(&[0; 56], "admin", PASSWORD, None).0)]),
        b"GET / HTTP/1.1".to_vec(),
    ];
    for message in wrong {
        let mut wire = server.connect().await;
        let mut inner = Inner::new(&[&rustls::version::TLS12]);
        while inner.tls.is_handshaking() {
            let hello = inner.out(&[]);
            let answer = wire.ask(&request(&header("CredSSP", &hello), "")).await;
            inner.take(&token(&answer));
        }
        let bytes = inner.out(&message);
        assert!(token(&wire.ask(&request(&header("CredSSP", &bytes), "")).await).is_empty(), "{message:02x?}");
        assert_eq!(wire.ask(&request("", "<a/>")).await.status, 401);
    }
    // Bytes that are no TLS, tokens without a beginning, and a handshake that another scheme breaks off.
    let mut wire = server.connect().await;
    for bytes in [&b"nonsense"[..], &[22, 3, 1, 0, 1, 1], &[23, 3, 3, 0, 1, 0], &[22, 3, 1, 0xff, 0xff, 1]] {
        let answer = wire.ask(&request(&header("CredSSP", bytes), "")).await;
        assert!(answer.status == 401, "{bytes:?}");
    }
    let mut logon = Logon::begin(&server, 6, BOTH).await;
    logon.wire.ask(&request(&header("Negotiate", &type_1()), "")).await;
    let (type_3, _) = type_3(&logon.type_2, "admin", PASSWORD, None);
    assert!(token(&logon.send(&[nego(&type_3)]).await).is_empty());
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn it_is_off_unless_it_is_switched_on_and_ends_with_its_account() {
    let closed = TestServer::start();
    admit(&closed, true);
    let mut wire = closed.connect().await;
    let hello = Inner::new(BOTH).out(&[]);
    let answer = wire.ask(&request(&header("CredSSP", &hello), "")).await;
    assert!(!offers(&answer).contains(&"CredSSP"), "{answer:?}");
    let open = server(5);
    let answer = open.connect().await.ask(&request("", "")).await;
    assert_eq!(offers(&answer), ["Negotiate", "CredSSP"]);
    let mut logon = Logon::begin(&open, 6, BOTH).await;
    assert_eq!(logon.finish("admin", PASSWORD, "admin").await.status, 200);
    std::fs::write(&open.users_file, "").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let text = logon.sealed(&[b"<a/>"]);
    assert!(matches!(logon.wire.ask(&text).await.status, 401 | 403));
}
