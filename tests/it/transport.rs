//! The transport over real sockets, with a handler that needs no classes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::audit::AuditMemory;
use base64::Engine;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wsnapd::cimom::Principal;
use wsnapd::time::ManualClock;
use wsnapd::transport::auth::{
    ChannelBindingPolicy, CredSspPolicy, HostPasswords, KerberosPolicy, LogonLimits, NegotiatePolicy, PasswordKeeper,
    User, UsersFile, hash_password,
};
use wsnapd::transport::{AuthPolicy, EnvelopeHandler, Limits, Listener, Server, TlsIdentity, TlsSettings};
use wsnapd::wsman::{Encoding, Outbound};

/// Answers with what it got. `<slow/>` waits for `release`, `<fault/>` is a fault.
#[derive(Clone, Default)]
pub(super) struct Echo {
    pub(super) calls: Arc<AtomicUsize>,
    entered: Arc<Notify>,
    release: Arc<Notify>,
}

impl EnvelopeHandler for Echo {
    fn identify_anonymous(&self, body: &str) -> Option<Outbound> {
        body.contains("<identify/>").then(|| Outbound { is_fault: false, body: "<identified/>".to_owned() })
    }

    async fn handle(&self, principal: &Principal, body: &str, encoding: Encoding) -> Outbound {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if body == "<slow/>" {
            self.entered.notify_one();
            self.release.notified().await;
        }
        Outbound { is_fault: body == "<fault/>", body: format!("{} {encoding:?} {body}", principal.name()) }
    }

    fn charset_fault(&self) -> Outbound {
        Outbound { is_fault: true, body: "charset fault".to_owned() }
    }

    fn content_encoding_fault(&self) -> Outbound {
        Outbound { is_fault: true, body: "coding fault".to_owned() }
    }

    fn encryption_required_fault(&self) -> Outbound {
        Outbound { is_fault: true, body: "encryption fault".to_owned() }
    }

    fn malformed_text_fault(&self, detail: &str) -> Outbound {
        Outbound { is_fault: true, body: format!("text fault: {detail}") }
    }
}

pub(super) struct TestServer {
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) users_file: std::path::PathBuf,
    pub(super) handler: Echo,
    pub(super) audit: Arc<AuditMemory>,
    pub(super) identity: Arc<TlsIdentity>,
    stop: CancellationToken,
    running: JoinHandle<()>,
    _directory: TempDir,
}

/// What a server has besides.
#[derive(Default)]
struct Further {
    /// The oldest version of CredSSP that is taken.
    credssp: Option<u32>,
    kerberos: Option<KerberosPolicy>,
    host: Option<Arc<dyn HostPasswords>>,
}

pub(super) fn certs(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("certs").join(name)
}

impl TestServer {
    pub(super) fn start() -> Self {
        Self::with(true, Limits::default())
    }

    pub(super) fn with(allow_unencrypted: bool, limits: Limits) -> Self {
        Self::bound(allow_unencrypted, limits, ChannelBindingPolicy::Relaxed)
    }

    pub(super) fn bound(allow_unencrypted: bool, limits: Limits, binding: ChannelBindingPolicy) -> Self {
        Self::defended(allow_unencrypted, limits, binding, LogonLimits::default())
    }

    pub(super) fn defended(
        allow_unencrypted: bool,
        limits: Limits,
        binding: ChannelBindingPolicy,
        logon: LogonLimits,
    ) -> Self {
        Self::assembled(allow_unencrypted, limits, binding, logon, None)
    }

    /// With an acceptor of tickets.
    pub(super) fn assembled(
        allow_unencrypted: bool,
        limits: Limits,
        binding: ChannelBindingPolicy,
        logon: LogonLimits,
        kerberos: Option<KerberosPolicy>,
    ) -> Self {
        let tls = TlsSettings::new(&certs("server.pem"), &certs("server.key"));
        Self::built(tls, allow_unencrypted, limits, binding, logon, Further { kerberos, ..Further::default() })
    }

    /// Takes CredSSP of this version and above, and no clear text over HTTP.
    pub(super) fn delegated(oldest_version: u32) -> Self {
        let tls = TlsSettings::new(&certs("server.pem"), &certs("server.key"));
        let logon = LogonLimits { delay_after: 0, lockout_after: 4, ..LogonLimits::default() };
        let further = Further { credssp: Some(oldest_version), ..Further::default() };
        Self::built(tls, false, Limits::default(), ChannelBindingPolicy::Relaxed, logon, further)
    }

    /// With somebody who checks passwords of the host; locks out at the fourth wrong one, without delays.
    pub(super) fn hosted(host: Arc<dyn HostPasswords>) -> Self {
        let tls = TlsSettings::new(&certs("server.pem"), &certs("server.key"));
        let logon = LogonLimits { delay_after: 0, lockout_after: 4, ..LogonLimits::default() };
        let further = Further { host: Some(host), ..Further::default() };
        Self::built(tls, true, Limits::default(), ChannelBindingPolicy::Relaxed, logon, further)
    }

    /// With its own way to serve HTTPS; certificates log on if anybody vouches for them.
    pub(super) fn secured(
        tls: TlsSettings,
        allow_unencrypted: bool,
        limits: Limits,
        binding: ChannelBindingPolicy,
        logon: LogonLimits,
    ) -> Self {
        Self::built(tls, allow_unencrypted, limits, binding, logon, Further::default())
    }

    fn built(
        tls: TlsSettings,
        allow_unencrypted: bool,
        limits: Limits,
        binding: ChannelBindingPolicy,
        logon: LogonLimits,
        Further { credssp, kerberos, host }: Further,
    ) -> Self {
        let certificate = tls.clients.is_some();
        let directory = TempDir::new().unwrap();
        let users_file = directory.path().join("users");
        write_user(&users_file, "Admin", "secret");
        let audit = Arc::new(AuditMemory::default());
        let trail = Arc::<AuditMemory>::clone(&audit);
        let users = PasswordKeeper::start_with_host(users_file.clone(), logon, trail, host.as_ref()).unwrap();
        let identity = TlsIdentity::open(tls).unwrap();
        let http = Listener::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let https = Listener::bind("127.0.0.1:0".parse().unwrap(), Some(Arc::clone(&identity))).unwrap();
        let handler = Echo::default();
        let negotiate = Some(NegotiatePolicy::new("vm.example.test", clock(), binding));
        let credssp = credssp.map(|oldest_version| CredSspPolicy {
            negotiate: NegotiatePolicy::new("vm.example.test", clock(), ChannelBindingPolicy::None),
            identity: Arc::clone(&identity),
            oldest_version,
        });
        let auth = AuthPolicy { users, basic: true, allow_unencrypted, negotiate, certificate, credssp, kerberos };
        let server = Server::new(handler.clone(), auth, limits);
        let stop = CancellationToken::new();
        let addresses = (http.address(), https.address());
        let token = stop.clone();
        let running = tokio::spawn(async move { server.serve(vec![http, https], token).await });
        Self {
            http: addresses.0,
            https: addresses.1,
            users_file,
            handler,
            audit,
            identity,
            stop,
            running,
            _directory: directory,
        }
    }

    pub(super) async fn connect(&self) -> Wire<TcpStream> {
        Wire { stream: TcpStream::connect(self.http).await.unwrap(), buffer: Vec::new() }
    }

    /// From another address of this host.
    pub(super) async fn connect_from(&self, source: [u8; 4]) -> Wire<TcpStream> {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        Wire { stream: socket.connect(self.http).await.unwrap(), buffer: Vec::new() }
    }
}

pub(super) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-11-20T23:43:45Z".parse().unwrap()))
}

pub(super) fn write_user(path: &Path, name: &str, password: &str) {
    let mut users = UsersFile::default();
    users.set(User::new(name, hash_password(password.as_bytes()).unwrap()).unwrap());
    users.save(path).unwrap();
}

pub(super) fn basic(credentials: &str) -> String {
    format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(credentials))
}

pub(super) fn request(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes =
        format!("POST /wsman HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{headers}", body.len()).into_bytes();
    if !body.is_empty() && !headers.contains("Content-Type") {
        bytes.extend_from_slice(b"Content-Type: application/soap+xml;charset=UTF-8\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn authorized(body: &str) -> Vec<u8> {
    request(&basic("admin:secret"), body)
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn closes(&self) -> bool {
        self.head.to_lowercase().contains("connection: close")
    }
}

pub(super) struct Wire<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn fill(&mut self) -> usize {
        let mut chunk = vec![0; 65536];
        let count = tokio::time::timeout(Duration::from_secs(10), self.stream.read(&mut chunk)).await.unwrap().unwrap();
        self.buffer.extend_from_slice(&chunk[..count]);
        count
    }

    pub(super) async fn answer(&mut self) -> Answer {
        let head_end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert_ne!(self.fill().await, 0, "connection closed before an answer");
        };
        let head = String::from_utf8(self.buffer.drain(..head_end).collect()).unwrap();
        let status = head.get(9..12).unwrap().parse().unwrap();
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(|value| value.parse().unwrap()))
            .unwrap_or(0);
        while self.buffer.len() < length {
            assert_ne!(self.fill().await, 0, "connection closed within an answer");
        }
        Answer { status, head, body: self.buffer.drain(..length).collect() }
    }

    pub(super) async fn ask(&mut self, bytes: &[u8]) -> Answer {
        self.send(bytes).await;
        self.answer().await
    }

    /// Closed, in good order or not.
    pub(super) async fn is_gone(&mut self) -> bool {
        let mut byte = [0];
        tokio::time::timeout(Duration::from_secs(10), self.stream.read(&mut byte))
            .await
            .unwrap()
            .map_or(true, |n| n == 0)
    }

    pub(super) async fn is_closed(&mut self) -> bool {
        self.fill().await == 0
    }
}

pub(super) async fn tls_connect(
    address: SocketAddr,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Wire<tokio_rustls::client::TlsStream<TcpStream>> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(certs("ca.pem")).unwrap()).unwrap();
    tls_connect_with(address, versions, roots, None).await.unwrap()
}

/// The same with other authorities, and with a certificate of the client.
pub(super) async fn tls_connect_with(
    address: SocketAddr,
    versions: &[&'static rustls::SupportedProtocolVersion],
    roots: rustls::RootCertStore,
    client: Option<(Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>)>,
) -> std::io::Result<Wire<tokio_rustls::client::TlsStream<TcpStream>>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
        None => config.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
    Ok(Wire { stream, buffer: Vec::new() })
}

#[tokio::test]
async fn each_wrong_head_has_its_status() {
    let server = TestServer::with(true, Limits { max_envelope_bytes: 1000, ..Limits::default() });
    let with = |line: &str, headers: &str, body: &str| {
        format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
    };
    let soap = format!("Content-Type: application/soap+xml\r\n{}", basic("admin:secret"));
    let big = "x".repeat(1001);
    let cases = [
        (404, with("POST /", &soap, "<a/>")),
        (404, with("GET /other", &soap, "")),
        (405, with("GET /wsman", "", "")),
        (405, with("PUT /wsman", &soap, "<a/>")),
        (415, with("POST /wsman", "Content-Type: application/json\r\n", "{}")),
        (500, with("POST /wsman", &format!("Content-Encoding: gzip\r\n{soap}"), "<a/>")),
        (400, with("POST /wsman", &basic("admin:secret"), "<a/>")),
        (400, with("POST /wsman", "Content-Type: nonsense\r\n", "<a/>")),
        (413, with("POST /wsman", &soap, &big)),
        (413, with("POST /wsman", "Content-Type: text/xml\r\n", &big)),
        (401, with("POST /wsman", "Content-Type: text/xml\r\n", "<a/>")),
        (401, with("POST /wsman", "", "")),
        (401, with("POST /wsman", "WSMANIDENTIFY: unauthenticated\r\nContent-Type: text/xml\r\n", "<get/>")),
        (403, with("POST /wsman-anon/identify", "Content-Type: text/xml\r\n", "<get/>")),
        (200, with("POST /wsman", "WSMANIDENTIFY: unauthenticated\r\nContent-Type: text/xml\r\n", "<identify/>")),
        (200, with("POST /wsman-anon/identify", "Content-Type: text/xml\r\n", "<identify/>")),
        (200, with("POST /WSMan/?PSVersion=5.1", &soap, "<a/>")),
        (500, with("POST /wsman", &soap, "<fault/>")),
    ];
    for (status, request) in cases {
        let answer = server.connect().await.ask(request.as_bytes()).await;
        assert_eq!(answer.status, status, "{request}\n{answer:?}");
        if status == 405 {
            assert!(answer.head.contains("allow: POST"), "{answer:?}");
        }
        assert_eq!(answer.closes(), status == 413, "{request}\n{answer:?}");
        assert_eq!(answer.body.is_empty(), !matches!(status, 200 | 500), "{answer:?}");
    }
}

#[tokio::test]
async fn a_401_lists_basic_and_keeps_the_connection() {
    let server = TestServer::start();
    let mut wire = server.connect().await;
    let body = "x".repeat(150 * 1024);
    for credentials in
        [String::new(), basic("admin:wrong"), basic("nobody:secret"), "Authorization: Bearer x\r\n".into()]
    {
        let answer = wire.ask(&request(&credentials, &body)).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.head.matches("www-authenticate: Basic realm=\"WSMAN\"").count(), 1, "{answer:?}");
    }
    // The same request again, with credentials: no replay, the same connection.
    let answer = wire.ask(&request(&basic("admin:secret"), &body)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with("Admin Utf8 xxx"), "the stored spelling of the name is the user");
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn account_names_may_carry_a_domain_and_any_case() {
    let server = TestServer::start();
    let mut wire = server.connect().await;
    for (name, status) in
        [("ADMIN", 200), (".\\admin", 200), ("WG\\Admin", 200), ("admin@realm", 200), ("adm", 401), ("", 401)]
    {
        assert_eq!(wire.ask(&request(&basic(&format!("{name}:secret")), "<a/>")).await.status, status, "{name}");
    }
}

#[tokio::test]
async fn plain_http_without_permission_answers_identify_only() {
    let server = TestServer::with(false, Limits::default());
    let mut wire = server.connect().await;
    assert_eq!(wire.ask(&authorized("<a/>")).await.status, 403);
    assert_eq!(wire.ask(&request("", "")).await.status, 403);
    let identify = request("WSMANIDENTIFY: unauthenticated\r\n", "<identify/>");
    assert_eq!(wire.ask(&identify).await.status, 200);
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 0);
    let mut secure = tls_connect(server.https, rustls::DEFAULT_VERSIONS).await;
    assert_eq!(secure.ask(&authorized("<a/>")).await.status, 200);
}

#[tokio::test]
async fn tls_1_2_and_1_3_serve_many_requests_each() {
    let server = TestServer::start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut wire = tls_connect(server.https, &[version]).await;
        for size in [10, 20_000, 300_000] {
            let body = "y".repeat(size);
            let answer = wire.ask(&authorized(&body)).await;
            assert_eq!(answer.text(), format!("Admin Utf8 {body}"));
        }
    }
}

#[tokio::test]
async fn utf16_is_answered_in_utf16() {
    let server = TestServer::start();
    let mut wire = server.connect().await;
    let units = |text: &str, to_bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to_bytes).collect::<Vec<u8>>();
    let expected = [&[0xff, 0xfe][..], &units("Admin Utf16 <ä/>", u16::to_le_bytes)].concat();
    let headers = format!("{}Content-Type: application/soap+xml;charset=UTF-16\r\n", basic("admin:secret"));
    for body in [
        units("<ä/>", u16::to_le_bytes),
        units("\u{feff}<ä/>", u16::to_le_bytes),
        units("<ä/>", u16::to_be_bytes),
        units("\u{feff}<ä/>", u16::to_be_bytes),
    ] {
        let answer = wire.ask(&request(&headers, body)).await;
        assert_eq!(answer.body, expected);
        assert!(answer.head.contains("content-type: application/soap+xml;charset=UTF-16\r\n"), "{}", answer.head);
    }
}

#[tokio::test]
async fn text_that_cannot_be_read_is_a_fault() {
    let server = TestServer::start();
    let mut wire = server.connect().await;
    let latin = format!("{}Content-Type: application/soap+xml;charset=iso-8859-1\r\n", basic("admin:secret"));
    let answer = wire.ask(&request(&latin, "<a/>")).await;
    assert_eq!((answer.status, answer.text()), (500, "charset fault"));
    assert!(answer.head.contains("charset=UTF-8"), "{}", answer.head);
    let answer = wire.ask(&request(&basic("admin:secret"), b"<a>\xff</a>")).await;
    assert_eq!((answer.status, answer.text()), (500, "text fault: the body is not valid UTF-8"));
}

#[tokio::test]
async fn a_chunked_body_is_read_and_limited() {
    let server = TestServer::with(true, Limits { max_envelope_bytes: 1000, ..Limits::default() });
    let head = format!(
        "POST /wsman HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: text/xml\r\n{}\r\n",
        basic("admin:secret")
    );
    let mut wire = server.connect().await;
    let answer = wire.ask(format!("{head}3\r\n<ab\r\n2\r\n/>\r\n0\r\n\r\n").as_bytes()).await;
    assert_eq!(answer.text(), "Admin Utf8 <ab/>");
    wire.send(head.as_bytes()).await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    wire.send(chunk.repeat(2).as_bytes()).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.closes()), (413, true));
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn the_answer_413_reaches_a_client_that_is_still_sending() {
    let server = TestServer::start();
    let mut wire = server.connect().await;
    let answer = wire.ask(&authorized(&"x".repeat(4 * 1024 * 1024))).await;
    assert_eq!((answer.status, answer.closes()), (413, true));
}

#[tokio::test]
async fn a_body_that_does_not_come_ends_in_500() {
    let limits = Limits { packet_retrieval: Duration::from_millis(100), ..Limits::default() };
    let server = TestServer::with(true, limits);
    let mut wire = server.connect().await;
    let whole = authorized("<abcdef/>");
    wire.send(&whole[..whole.len() - 3]).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.closes(), answer.body.len()), (500, true, 0));
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = TestServer::with(true, Limits { idle: Duration::from_millis(100), ..Limits::default() });
    let mut wire = server.connect().await;
    assert_eq!(wire.ask(&authorized("<a/>")).await.status, 200);
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn an_unfinished_tls_handshake_is_given_up() {
    let server = TestServer::with(true, Limits { handshake: Duration::from_millis(100), ..Limits::default() });
    let mut wire = Wire { stream: TcpStream::connect(server.https).await.unwrap(), buffer: Vec::new() };
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn one_connection_too_many_is_told_503() {
    let server = TestServer::with(true, Limits { max_connections: 2, ..Limits::default() });
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    assert_eq!(first.ask(&authorized("<a/>")).await.status, 200);
    assert_eq!(second.ask(&authorized("<a/>")).await.status, 200);
    let mut third = server.connect().await;
    let answer = third.ask(&authorized("<a/>")).await;
    assert_eq!((answer.status, answer.closes()), (503, true));
    assert!(third.is_closed().await);
    drop(second);
    // The place is free again once the server has seen the end of the second connection.
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.connect().await.ask(&authorized("<a/>")).await.status != 200 {
        assert!(Instant::now() < deadline, "the place of a closed connection was not given back");
    }
}

#[tokio::test]
async fn expect_100_is_answered_after_the_checks() {
    let server = TestServer::start();
    let expect = |extra: &str, length: usize| {
        format!(
            "POST /wsman HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n{extra}\r\n"
        )
    };
    let mut wire = server.connect().await;
    wire.send(expect(&basic("admin:secret"), 4).as_bytes()).await;
    assert_eq!(wire.answer().await.status, 100);
    assert_eq!(wire.ask(b"<a/>").await.text(), "Admin Utf8 <a/>");
    for (extra, length, status) in [(String::new(), 4, 401), (basic("admin:secret"), 600_000, 413)] {
        let answer = server.connect().await.ask(expect(&extra, length).as_bytes()).await;
        assert_eq!((answer.status, answer.closes()), (status, true));
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::start();
    let mut wire = server.connect().await;
    let burst: Vec<u8> = (0..20).flat_map(|number| authorized(&format!("<n{number}/>"))).collect();
    wire.send(&burst).await;
    for number in 0..20 {
        assert_eq!(wire.answer().await.text(), format!("Admin Utf8 <n{number}/>"));
    }
}

#[tokio::test]
async fn stopping_waits_for_the_request_under_way() {
    let mut server = TestServer::start();
    let mut busy = server.connect().await;
    let mut idle = server.connect().await;
    assert_eq!(idle.ask(&authorized("<a/>")).await.status, 200);
    busy.send(&authorized("<slow/>")).await;
    server.handler.entered.notified().await;
    server.stop.cancel();
    assert!(idle.is_closed().await, "a connection without a request is closed at once");
    assert!(!server.running.is_finished());
    server.handler.release.notify_one();
    assert_eq!(busy.answer().await.status, 200);
    assert!(busy.is_closed().await);
    (&mut server.running).await.unwrap();
    assert!(TcpStream::connect(server.http).await.is_err());
}

#[tokio::test]
async fn stopping_ends_at_its_deadline() {
    let mut server = TestServer::with(true, Limits { drain: Duration::from_millis(50), ..Limits::default() });
    let mut wire = server.connect().await;
    wire.send(&authorized("<slow/>")).await;
    server.handler.entered.notified().await;
    server.stop.cancel();
    (&mut server.running).await.unwrap();
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_changed_password_counts_within_a_second() {
    let server = TestServer::start();
    let mut wire = server.connect().await;
    assert_eq!(wire.ask(&authorized("<a/>")).await.status, 200);
    write_user(&server.users_file, "admin", "changed");
    assert_eq!(wire.ask(&request(&basic("admin:changed"), "<a/>")).await.status, 200, "the new one counts at once");
    assert_eq!(wire.ask(&authorized("<a/>")).await.status, 401, "the old one is forgotten with the file");
    std::fs::remove_file(&server.users_file).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while wire.ask(&request(&basic("admin:changed"), "<a/>")).await.status != 401 {
        assert!(Instant::now() < deadline, "a remembered password outlived its file");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_right_password_is_hashed_once() {
    let server = TestServer::start();
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let mut wire = server.connect().await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..20 {
                assert_eq!(wire.ask(&authorized("<a/>")).await.status, 200);
            }
        }));
    }
    let start = Instant::now();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 1000);
    // A thousand hashes take 20 s even with optimisation.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn more_wrong_passwords_than_the_queue_holds_are_refused_as_busy() {
    let server = TestServer::start();
    let mut wires = Vec::new();
    for number in 0..100 {
        let mut wire = server.connect().await;
        wire.send(&request(&basic(&format!("admin:wrong{number}")), "<a/>")).await;
        wires.push(wire);
    }
    let mut statuses = Vec::new();
    for mut wire in wires {
        statuses.push(wire.answer().await.status);
    }
    assert!(statuses.iter().all(|status| matches!(status, 401 | 503)), "{statuses:?}");
    assert!(statuses.contains(&401) && statuses.contains(&503), "{statuses:?}");
}

#[tokio::test]
async fn a_response_is_one_segment() {
    let server = TestServer::start();
    let mut wire = server.connect().await;
    wire.ask(&authorized("<a/>")).await;
    for size in [4, 1000, 20_000] {
        let body = "z".repeat(size);
        wire.send(&authorized(&body)).await;
        // With TCP_NODELAY every write becomes readable by itself: the first read has all of it.
        let mut chunk = vec![0; 65536];
        let count = wire.stream.read(&mut chunk).await.unwrap();
        let text = String::from_utf8(chunk[..count].to_vec()).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with(&body), "{size}: {count}");
    }
}
