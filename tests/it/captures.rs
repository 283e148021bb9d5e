//! What real clients sent, replayed: every captured request gets its right answer (`fixtures/wire/cases.toml`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wsnapd::client::{ClientOptions, RawClient, RawRequest};
use wsnapd::transport::auth::{LogonLimits, PasswordKeeper};
use wsnapd::transport::{AuthPolicy, Limits, Listener, Server};
use wsnapd::wsman::{Encoding, Outbound};

use crate::audit::AuditMemory;
use crate::support::TestServer;
use crate::transport::write_user;
use crate::tree::{ADDRESSING, ENUMERATION, Node, SOAP, WSMAN, WSMAN_FAULT};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    request: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    file: String,
    #[serde(default)]
    seen_in: Vec<String>,
    #[serde(default)]
    replace: Vec<(String, String)>,
    fault: Option<ExpectedFault>,
    return_value: Option<u32>,
    items: Option<usize>,
    #[serde(default)]
    some: bool,
    then: Option<String>,
    #[serde(default)]
    contains: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct ExpectedFault {
    subcode: String,
    detail: String,
    code: u32,
}

/// A request as the transport hands it on.
struct Received {
    text: String,
    encoding: Encoding,
    /// Its character set is one that is not read.
    foreign: bool,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(fixtures().join("cases.toml")).unwrap();
    toml::from_str::<Cases>(&text).unwrap().request
}

/// Reads a fixture and does what the transport does with its character set (`ws-management.md` §2.2).
fn receive(file: &str) -> Received {
    let bytes = std::fs::read(fixtures().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap_or_else(|error| panic!("{file}: {error}"));
    if file.strip_suffix(".http").is_none() {
        return Received { text: utf8(&bytes), encoding: Encoding::Utf8, foreign: false };
    }
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an HTTP head");
    let (head, body) = (utf8(&bytes[..end]).to_ascii_lowercase(), &bytes[end + 4..]);
    if head.contains("charset=utf-16") {
        let body = body.strip_prefix(b"\xff\xfe").expect("little-endian with a mark");
        let units: Vec<u16> = body.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        return Received { text: String::from_utf16(&units).unwrap(), encoding: Encoding::Utf16, foreign: false };
    }
    assert!(head.contains("charset=iso-8859-1"), "{file}: {head}");
    Received { text: utf8(body), encoding: Encoding::Utf8, foreign: true }
}

/// The text of a header of a request; real clients write it in many ways.
fn header(request: &Node, namespace: &str, local: &str) -> Option<String> {
    request.at(&[(SOAP, "Header"), (namespace, local)]).map(|node| node.text.trim().to_owned())
}

/// How the bytes of a message are made of its text.
#[derive(Clone, Copy, Debug)]
enum Form {
    Utf8,
    Utf16Le,
    Utf16Be,
}

impl Form {
    fn bytes(self, text: &str) -> Bytes {
        let marked = format!("\u{feff}{text}");
        match self {
            Self::Utf8 => Bytes::from(text.to_owned()),
            Self::Utf16Le => marked.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Self::Utf16Be => marked.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }
}

/// A server that can be reached over a socket.
struct Wire {
    client: RawClient,
    form: Form,
    stop: CancellationToken,
    running: JoinHandle<()>,
    _directory: TempDir,
}

impl Wire {
    fn to(server: &TestServer, form: Form) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("users");
        write_user(&file, "Admin", "secret");
        let users = PasswordKeeper::start(file, LogonLimits::default(), Arc::new(AuditMemory::default())).unwrap();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let url = format!("http://{}/wsman", listener.address());
        let auth = AuthPolicy {
            users,
            basic: true,
            allow_unencrypted: true,
            negotiate: None,
            certificate: false,
            credssp: None,
        };
        let transport = Server::new(Arc::clone(&server.service), auth, Limits::default());
        let stop = CancellationToken::new();
        let token = stop.clone();
        let running = tokio::spawn(async move { transport.serve(vec![listener], token).await });
        let client = RawClient::new(&ClientOptions::new(&url, "Admin", "secret")).unwrap();
        Self { client, form, stop, running, _directory: directory }
    }

    async fn send(&self, text: &str) -> Outbound {
        let charset = if matches!(self.form, Form::Utf8) { "UTF-8" } else { "UTF-16" };
        let content_type = format!("application/soap+xml;charset={charset}");
        let request = RawRequest {
            method: "POST",
            path: None,
            headers: vec![("Content-Type".to_owned(), content_type.clone())],
            body: self.form.bytes(text),
            credentials: true,
        };
        let answer = self.client.send(&request).await.expect("an answer");
        assert_eq!(answer.header("content-type").map(str::to_lowercase), Some(content_type.to_lowercase()));
        let body = match self.form {
            Form::Utf8 => String::from_utf8(answer.body.to_vec()).unwrap(),
            Form::Utf16Le | Form::Utf16Be => {
                let body = answer.body.strip_prefix(b"\xff\xfe").expect("little-endian with a mark");
                let units: Vec<u16> = body.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
                String::from_utf16(&units).unwrap()
            }
        };
        Outbound { is_fault: answer.status == 500, body }
    }

    async fn close(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

/// The server under test, and the way requests go to it: none, when they are handed to it as text.
struct Subject {
    server: TestServer,
    wire: Option<Wire>,
}

impl Subject {
    async fn start(form: Option<Form>) -> Self {
        let server = TestServer::start().await;
        let wire = form.map(|form| Wire::to(&server, form));
        Self { server, wire }
    }

    async fn send(&self, received: &Received, text: &str) -> Outbound {
        match &self.wire {
            Some(wire) => wire.send(text).await,
            None if received.foreign => self.server.service.charset_fault(),
            None => self.server.service.handle(&self.server.principal, text, received.encoding).await,
        }
    }

    async fn close(self) {
        if let Some(wire) = self.wire {
            wire.close().await;
        }
        self.server.engine.shutdown().await;
    }
}

/// Sends every captured request, as it came or in another form over a socket.
async fn replay_all(form: Option<Form>) {
    let mut wrong = Vec::new();
    let mut subject = Subject::start(form).await;
    for case in cases() {
        // In another form, a request in a character set that is not read is another request.
        if form.is_some() && receive(&case.file).foreign {
            continue;
        }
        if let Err(problem) = replay(&subject, &case).await {
            let variant = if case.replace.is_empty() { "" } else { " (replaced)" };
            wrong.push(format!("{}{variant}: {problem}", case.file));
        }
        // Only methods change anything: everybody else sees the server as it was.
        if case.return_value.is_some() {
            subject.close().await;
            subject = Subject::start(form).await;
        }
    }
    subject.close().await;
    assert!(wrong.is_empty(), "{} requests:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_captured_request_gets_its_answer() {
    replay_all(None).await;
}

#[tokio::test]
async fn every_captured_request_gets_its_answer_over_a_socket_in_utf_8_and_utf_16() {
    for form in [Form::Utf8, Form::Utf16Le, Form::Utf16Be] {
        replay_all(Some(form)).await;
    }
}

#[test]
fn every_fixture_has_its_expectation() {
    let mut expected = BTreeSet::new();
    let mut captures = BTreeSet::new();
    for case in cases() {
        assert!(case.fault.is_none() || case.return_value.is_none(), "{}", case.file);
        for capture in case.seen_in {
            captures.insert(capture);
        }
        if case.replace.is_empty() {
            assert!(expected.insert(case.file.clone()), "{} is there twice", case.file);
        }
    }
    let mut present = BTreeSet::new();
    for client in std::fs::read_dir(fixtures()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        for request in std::fs::read_dir(client.path()).unwrap().map(Result::unwrap) {
            let name = format!("{}/{}", client.file_name().display(), request.file_name().display());
            present.insert(name);
        }
    }
    assert_eq!(present, expected);
    assert!(captures.len() > 200, "only {} captures are covered", captures.len());
}

async fn replay(subject: &Subject, case: &Case) -> Result<(), String> {
    let received = receive(&case.file);
    let mut text = received.text.clone();
    for (name, ours) in &case.replace {
        if !text.contains(name.as_str()) {
            return Err(format!("{name} is not in the request"));
        }
        text = text.replace(name.as_str(), ours);
    }
    let request = Node::parse(&text);
    let outbound = subject.send(&received, &text).await;
    let answer = Node::parse(&outbound.body);
    if !received.foreign {
        relates(&request, &answer)?;
    }
    match &case.fault {
        Some(expected) => is_fault(&outbound, &answer, expected),
        None => is_response(subject, case, &request, &outbound, &answer).await,
    }
}

/// The answer names the request; only Identify has no addressing.
fn relates(request: &Node, answer: &Node) -> Result<(), String> {
    let asked = header(request, ADDRESSING, "MessageID");
    let named = header(answer, ADDRESSING, "RelatesTo");
    if asked == named { Ok(()) } else { Err(format!("RelatesTo is {named:?}, MessageID was {asked:?}")) }
}

fn is_fault(outbound: &Outbound, answer: &Node, expected: &ExpectedFault) -> Result<(), String> {
    let fault = answer
        .at(&[(SOAP, "Body"), (SOAP, "Fault")])
        .ok_or_else(|| format!("no fault: {}", excerpt(&outbound.body)))?;
    let text = |path: &[(&str, &str)]| fault.at(path).map(|node| node.text.trim().to_owned()).unwrap_or_default();
    let detail = text(&[(SOAP, "Detail"), (WSMAN, "FaultDetail")]);
    let windows = fault.at(&[(SOAP, "Detail"), (WSMAN_FAULT, "WSManFault")]);
    let code = windows.and_then(|node| node.attributes.get("Code")?.parse().ok()).unwrap_or_default();
    let own_code = text(&[(SOAP, "Code"), (SOAP, "Value")]);
    let subcode = text(&[(SOAP, "Code"), (SOAP, "Subcode"), (SOAP, "Value")]);
    let actual = ExpectedFault {
        // MustUnderstand has no subcode.
        subcode: if subcode.is_empty() { own_code.clone() } else { subcode },
        detail: detail.rsplit('/').next().unwrap_or_default().to_owned(),
        code,
    };
    if actual != *expected {
        return Err(format!("{actual:?} instead of {expected:?}"));
    }
    let (prefix, _) = expected.subcode.split_once(':').expect("a qualified name");
    let action = match prefix {
        "a" | "s" => "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault",
        "n" => "http://schemas.xmlsoap.org/ws/2004/09/enumeration/fault",
        "w" => "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault",
        other => return Err(format!("no action is known for faults of {other}")),
    };
    let side = match expected.subcode.as_str() {
        "n:InvalidEnumerationContext" => "s:Receiver",
        "s:MustUnderstand" => "s:MustUnderstand",
        _ => "s:Sender",
    };
    for (what, actual, expected) in
        [("action", header(answer, ADDRESSING, "Action").unwrap_or_default(), action), ("code", own_code, side)]
    {
        if actual != expected {
            return Err(format!("{what} is {actual}, not {expected}"));
        }
    }
    let reason = text(&[(SOAP, "Reason"), (SOAP, "Text")]);
    if reason.is_empty() || !outbound.is_fault { Err("a fault without a reason".to_owned()) } else { Ok(()) }
}

async fn is_response(
    subject: &Subject,
    case: &Case,
    request: &Node,
    outbound: &Outbound,
    answer: &Node,
) -> Result<(), String> {
    if outbound.is_fault {
        return Err(format!("a fault: {}", excerpt(&outbound.body)));
    }
    let action = header(request, ADDRESSING, "Action").filter(|action| !action.is_empty());
    let wanted = action.map(|action| format!("{action}Response"));
    let answered = header(answer, ADDRESSING, "Action");
    if answered != wanted {
        return Err(format!("the action is {answered:?}, not {wanted:?}"));
    }
    if let Some(expected) = case.return_value {
        let actual = answer.find("ReturnValue").map(|node| node.text.clone());
        if actual != Some(expected.to_string()) {
            return Err(format!("the return value is {actual:?}, not {expected}: {}", excerpt(&outbound.body)));
        }
    }
    let mut everything = outbound.body.clone();
    if case.items.is_some() || case.some {
        let found = pull_all(subject, case, answer, &mut everything).await?;
        if case.items.is_some_and(|expected| expected != found) || (case.some && found == 0) {
            return Err(format!("{found} items instead of {:?}: {}", case.items, excerpt(&everything)));
        }
    }
    match case.contains.iter().find(|text| !everything.contains(text.as_str())) {
        Some(missing) => Err(format!("{missing} is not in {}", excerpt(&everything))),
        None => Ok(()),
    }
}

/// Sends the client's own Pull until the end of the sequence; gives the number of items.
async fn pull_all(subject: &Subject, case: &Case, first: &Node, everything: &mut String) -> Result<usize, String> {
    let mut count = batch(first, "EnumerateResponse", WSMAN)?;
    let mut context = context_of(first);
    while let Some(ours) = context {
        let file = case.then.as_ref().ok_or("there is more, but the client sent no Pull")?;
        if count > 100 {
            return Err("the enumeration does not end".to_owned());
        }
        let received = receive(file);
        let theirs = context_of(&Node::parse(&received.text)).ok_or("the Pull has no context")?;
        let text = received.text.replace(&format!(">{theirs}<"), &format!(">{ours}<"));
        let outbound = subject.send(&received, &text).await;
        let answer = Node::parse(&outbound.body);
        relates(&Node::parse(&text), &answer)?;
        count += batch(&answer, "PullResponse", ENUMERATION)
            .map_err(|problem| format!("{problem}: {}", excerpt(&outbound.body)))?;
        everything.push_str(&outbound.body);
        context = context_of(&answer);
    }
    Ok(count)
}

/// The items of one answer. A batch without a context must say that it is the last one.
fn batch(answer: &Node, element: &str, namespace: &str) -> Result<usize, String> {
    let body =
        answer.at(&[(SOAP, "Body"), (ENUMERATION, element)]).ok_or_else(|| format!("the body holds no {element}"))?;
    if context_of(answer).is_none() && body.child(namespace, "EndOfSequence").is_none() {
        return Err(format!("{element} has neither a context nor an end"));
    }
    Ok(body.child(namespace, "Items").map_or(0, |items| items.children.len()))
}

fn context_of(envelope: &Node) -> Option<String> {
    let body = envelope.child(SOAP, "Body")?;
    body.find("EnumerationContext").map(|node| node.text.trim().to_owned()).filter(|context| !context.is_empty())
}

fn excerpt(body: &str) -> String {
    let (_, content) = body.split_once("Body>").unwrap_or(("", body));
    content.chars().take(700).collect()
}
