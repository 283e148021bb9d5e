//! CredSSP with a client that hopes for another mechanism than NTLM, and begins with a token of it (RFC 4178 §5): it is
//! told of NTLM, begins anew, and has to sign its list.

use super::credssp::{BOTH, Logon, credentials, element, field, nego, octets, server, token};
use super::ntlm::{Client, PASSWORD, type_1, type_3};
use super::transport::{Answer, TestServer, request};

const KRB5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2];
const MS_KRB5: &[u8] = &[0x2a, 0x86, 0x48, 0x82, 0xf7, 0x12, 1, 2, 2];
/// NEGOEX, which Windows lists at times.
const NEGOEX: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 30];
const NTLM: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 10];
const SPNEGO: &[u8] = &[0x2b, 6, 1, 5, 5, 2];
const NONCE: [u8; 32] = [0x42; 32];

/// What a client lists, and what it begins with.
type Hope<'a> = (&'a [&'a [u8]], Option<&'a [u8]>);

fn list(mechanisms: &[&[u8]]) -> Vec<u8> {
    element(0x30, &mechanisms.iter().flat_map(|name| element(6, name)).collect::<Vec<u8>>())
}

/// A first token with what the client hopes for already in it.
fn init(mechanisms: &[&[u8]], hoped: Option<&[u8]>) -> Vec<u8> {
    let body = [element(0xa0, &list(mechanisms)), hoped.map(|token| octets(2, token)).unwrap_or_default()].concat();
    element(0x60, &[element(6, SPNEGO), element(0xa0, &element(0x30, &body))].concat())
}

/// A further token: that of the mechanism, and the signature of the list.
fn resp(token: &[u8], mic: Option<&[u8]>) -> Vec<u8> {
    let mic = mic.map(|mic| octets(3, mic)).unwrap_or_default();
    element(0xa1, &element(0x30, &[octets(2, token), mic].concat()))
}

/// Tag and content of the first element.
fn first(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let count = usize::from(if bytes[1] > 0x80 { bytes[1] & 0x7f } else { 0 });
    let digits = if count == 0 { &bytes[1..2] } else { &bytes[2..2 + count] };
    let length = digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let start = 2 + count;
    (bytes[0], &bytes[start..start + length], &bytes[start + length..])
}

/// State, mechanism, token and signature of a `NegTokenResp` in an answer of CredSSP.
fn told(request: &[u8]) -> [Option<Vec<u8>>; 4] {
    let tokens = field(request, 0xa1);
    let mut token = &tokens[..];
    for tag in [0x30, 0xa0, 4, 0xa1, 0x30] {
        let (found, content, _) = first(token);
        assert_eq!(found, tag, "{tokens:02x?}");
        token = content;
    }
    let mut parts = [const { None }; 4];
    while !token.is_empty() {
        let (tag, content, rest) = first(token);
        parts[usize::from(tag - 0xa0)] = Some(first(content).1.to_vec());
        token = rest;
    }
    parts
}

/// A logon in which the type 2 of NTLM came as the second choice.
async fn challenged(server: &TestServer, version: u8, names: &[&[u8]], hoped: Option<&[u8]>) -> Logon {
    let mut logon = Logon::open(server, version, BOTH).await;
    let answer = logon.send(&[nego(&init(names, hoped))]).await;
    // `request-mic`, and the mechanism in place of a token.
    assert_eq!(told(&logon.read(&answer)), [Some(vec![3]), Some(NTLM.to_vec()), None, None]);
    let answer = logon.send(&[nego(&resp(&type_1(), None))]).await;
    let [state, mechanism, type_2, mic] = told(&logon.read(&answer));
    assert_eq!((state, mechanism, mic), (Some(vec![1]), None, None), "`accept-incomplete`");
    logon.type_2 = type_2.unwrap();
    assert!(logon.type_2.starts_with(b"NTLMSSP\0\x02"));
    logon
}

/// The fields with the proof of the key.
fn key(logon: &Logon, version: u8, client: &mut Client) -> Vec<Vec<u8>> {
    let proof = logon.inner.proof(version, &NONCE, false);
    logon.proof(client, &proof)
}

/// Hands the credentials over, and sends a message.
async fn ends_well(server: &TestServer, mut logon: Logon, mut client: Client) {
    let sealed = client.wrap(&credentials("admin", PASSWORD));
    let answer = logon.send(&[octets(2, &sealed)]).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
    assert_eq!(server.audit.take(), ["Admin 127.0.0.1 credssp logon done"]);
    let text = logon.sealed(&[b"<a/>"]);
    let answer = logon.wire.ask(&text).await;
    assert_eq!((answer.status, logon.unsealed(&answer)), (200, ("Admin Utf8 <a/>".to_owned(), 1)));
}

#[tokio::test]
async fn ntlm_as_the_second_choice_logs_on_with_a_signed_list() {
    let server = server(2);
    let ticket = element(0x60, &[element(6, KRB5), b"\x01\0a ticket".to_vec()].concat());
    let hopes: [Hope<'_>; 5] = [
        (&[KRB5, NTLM], Some(&ticket)),
        (&[MS_KRB5, KRB5, NTLM], Some(&ticket)),
        (&[NEGOEX, NTLM], Some(b"NEGOEXTS")),
        // What is hoped for has no token, or one that looks like one of NTLM.
        (&[KRB5, NTLM], None),
        (&[NEGOEX, NTLM], Some(b"NTLMSSP\0\x01\0\0\0")),
    ];
    for (names, hoped) in hopes {
        for version in [2, 5, 6] {
            for key_comes_later in [false, true] {
                let mut logon = challenged(&server, version, names, hoped).await;
                let (type_3, mut client) = type_3(&logon.type_2, "admin", PASSWORD, None);
                let [mic, theirs] = client.mics(&list(names));
                let mut fields = vec![nego(&resp(&type_3, Some(&mic)))];
                if !key_comes_later {
                    fields.extend(key(&logon, version, &mut client));
                }
                let answer = logon.send(&fields).await;
                let mut answer = logon.read(&answer);
                assert_eq!(told(&answer), [Some(vec![0]), None, None, Some(theirs)], "{names:?} {version}");
                if key_comes_later {
                    let fields = key(&logon, version, &mut client);
                    let next = logon.send(&fields).await;
                    answer = logon.read(&next);
                }
                let sealed = field(&answer, 0xa3);
                assert_eq!(client.unwrap(&sealed), logon.inner.proof(version, &NONCE, true));
                ends_well(&server, logon, client).await;
            }
        }
    }
}

fn refused(answer: &Answer, logon: &mut Logon) {
    assert_eq!(answer.status, 401, "{answer:?}");
    let told = token(answer);
    if !told.is_empty() {
        let told = logon.inner.take(&told);
        assert_eq!(field(&told, 0xa4), [0xc0, 0, 0, 0x22], "STATUS_ACCESS_DENIED");
    }
}

#[tokio::test]
async fn a_list_that_is_not_signed_or_was_changed_ends_the_logon() {
    let server = server(2);
    let names = [KRB5, NTLM];
    let (whole, cut) = (list(&names), list(&[NTLM]));
    let reason = "Admin 127.0.0.1 credssp logon refused: wrong or missing signature of the mechanism list";
    for (signed, flipped) in
        [(None, None), (Some(&cut), None)].into_iter().chain((0..128).map(|bit| (Some(&whole), Some(bit))))
    {
        let mut logon = challenged(&server, 6, &names, Some(b"anything")).await;
        let (type_3, mut client) = type_3(&logon.type_2, "admin", PASSWORD, None);
        let mut mic = signed.map(|list| client.mics(list)[0].clone());
        if let (Some(mic), Some(bit)) = (&mut mic, flipped) {
            mic[bit / 8] ^= 1 << (bit % 8);
        }
        // The proof of the key is right.
        let mut fields = vec![nego(&resp(&type_3, mic.as_deref()))];
        fields.extend(key(&logon, 6, &mut client));
        let answer = logon.send(&fields).await;
        assert!(!token(&answer).is_empty(), "version 6 is told");
        refused(&answer, &mut logon);
        assert_eq!(server.audit.take().join("\n").to_lowercase(), reason.to_lowercase(), "{flipped:?}");
        assert_eq!(logon.wire.ask(&request("", "<a/>")).await.status, 401);
    }
}

#[tokio::test]
async fn what_comes_out_of_order_ends_the_logon() {
    let names = [KRB5, NTLM];
    let ticket = element(0x60, &[element(6, KRB5), b"\x01\0a ticket".to_vec()].concat());
    let wrong: Vec<Vec<Vec<u8>>> = vec![
        // It goes on with what it hoped for, or begins NTLM without what is around it, or in the middle.
        vec![nego(&resp(&ticket, None))],
        vec![nego(&type_1())],
        vec![nego(&resp(&type_3(&[0; 56], "admin", PASSWORD, None).0, None))],
        vec![nego(&resp(b"", None))],
        vec![nego(&element(0xa1, &element(0x30, &[])))],
        vec![nego(&init(&names, Some(&ticket)))],
        vec![octets(3, &[7; 48]), octets(5, &NONCE)],
        vec![nego(&resp(&type_1(), None)), octets(3, &[7; 48]), octets(5, &NONCE)],
    ];
    for fields in wrong {
        let server = server(2);
        let mut logon = Logon::open(&server, 6, BOTH).await;
        let answer = logon.send(&[nego(&init(&names, Some(&ticket)))]).await;
        logon.read(&answer);
        let answer = logon.send(&fields).await;
        refused(&answer, &mut logon);
        let lines = server.audit.take();
        assert!(lines.len() == 1 && lines[0].starts_with(" 127.0.0.1 credssp logon refused: "), "{lines:?}");
        // The handshake is over; another one goes on from nowhere.
        let answer = logon.send(&[nego(&resp(&type_1(), None))]).await;
        assert!(answer.status == 401 && token(&answer).is_empty(), "{answer:?}");
    }
    // A list without NTLM.
    let server = server(2);
    let mut logon = Logon::open(&server, 6, BOTH).await;
    let answer = logon.send(&[nego(&init(&[KRB5, NEGOEX], Some(&ticket)))]).await;
    refused(&answer, &mut logon);
}
