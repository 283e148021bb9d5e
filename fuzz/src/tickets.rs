//! Tickets, authenticators and sealed messages against MIT Kerberos, with keys that everybody knows.
//!
//! Made by `tests/real/fuzz_tickets.py`. The library takes `fixtures/kerberos/krb5.conf` and the keytab beside it from
//! the environment.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use rc4::{Rc4, StreamCipher};
use wsnapd::transport::auth::{KeytabAcceptor, Ticket, TicketAcceptor, decoders};

use super::BytesOracle;

/// The oracles that ask MIT Kerberos, with their names.
pub const ALL: [(&str, BytesOracle); 2] = [
    ("authenticator", |bytes| {
        authenticator(bytes);
    }),
    ("sealed", |bytes| {
        sealed(bytes);
    }),
];

/// Whoever has a ticket of ours; a token that is accepted is of no one else.
const OWNERS: [&str; 2] = ["admin@TEST.LOCAL", "omitest@OMI.TEST"];
/// The channel binding of which the saved authenticator `bound` has the digest.
const BINDING: &[u8] = b"tls-server-end-point:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// The key of the session in the ticket, of the kind RC4 with HMAC.
const SESSION: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// What this key is used for when it encrypts an authenticator.
const AUTHENTICATOR: [u8; 4] = [11, 0, 0, 0];
const TICKET: &[u8] = include_bytes!("../../fixtures/kerberos/ticket");
/// A token of which every key is known; the messages below were sealed by whoever sent it.
const TOKEN: &[u8] = include_bytes!("../../fixtures/kerberos/token");
/// The length of the header of a sealed message.
const HEADER_BYTES: usize = 60;

/// The clear texts of the saved messages, in the order in which they were sealed.
fn messages() -> [String; 3] {
    ["<a/>".to_owned(), String::new(), format!("<b>{}</b>", "x".repeat(300))]
}

/// The acceptor with the keytab of the environment.
static KEYTAB: LazyLock<Option<KeytabAcceptor>> =
    LazyLock::new(|| KeytabAcceptor::open(&["HTTP", "WSMAN", "host"].map(str::to_owned)).ok());

/// See [`reached`].
static REACHED: AtomicU64 = AtomicU64::new(0);

/// How many tickets were accepted and messages unsealed so far: none means that what is behind was not tried.
#[must_use]
pub fn reached() -> u64 {
    REACHED.load(Ordering::Relaxed)
}

/// Whether tickets are put to MIT Kerberos.
#[must_use]
pub fn has_keytab() -> bool {
    KEYTAB.is_some()
}

/// Tokens with tickets, also such as our own reading of the frame would have kept out: whoever is let in has a ticket
/// of ours, and nothing that was not sealed in this session is unsealed. Says whether anybody was let in.
pub fn token(bytes: &[u8]) -> bool {
    let Some(acceptor) = &*KEYTAB else { return false };
    let bare = acceptor.accept(bytes, None).ok();
    let bound = acceptor.accept(bytes, Some(BINDING)).ok();
    assert!(bound.as_ref().is_none_or(|ticket| !ticket.bound), "no saved token is bound: {bytes:02x?}");
    let wrapped = decoders::tickets(bytes, acceptor);
    let accepted = [bare, bound, wrapped].into_iter().flatten().map(|ticket| admitted(ticket, bytes)).count();
    accepted > 0
}

/// What holds for every ticket that was accepted with these bytes.
fn admitted(mut ticket: Ticket, bytes: &[u8]) {
    REACHED.fetch_add(1, Ordering::Relaxed);
    assert!(OWNERS.contains(&ticket.principal.as_str()), "{}: {bytes:02x?}", ticket.principal);
    let mut answer = b"<answer/>".to_vec();
    if let Ok(header) = ticket.security.seal(&mut answer) {
        assert_eq!((header.len(), answer.len()), (HEADER_BYTES, 9), "{bytes:02x?}");
        // What this side has sealed is not taken for a message of the client.
        assert!(ticket.security.unseal(&header, answer).is_err(), "{bytes:02x?}");
    }
    let (header, data) = bytes.split_at(bytes.len().min(HEADER_BYTES));
    assert!(ticket.security.unseal(header, data.to_vec()).is_err(), "{bytes:02x?}");
    assert!(!ticket.security.verify_mech_list(b"list", bytes), "{bytes:02x?}");
    if let Ok(mic) = ticket.security.sign_mech_list(b"list") {
        assert!(!ticket.security.verify_mech_list(b"list", &mic), "{bytes:02x?}");
    }
}

/// What the owner of a ticket says in clear, behind a byte with the options of the request: it changes neither whose
/// the ticket is nor what it is bound to. Gives whether it is bound, when it is accepted.
pub fn authenticator(bytes: &[u8]) -> Option<bool> {
    let (acceptor, (options, clear)) = (KEYTAB.as_ref()?, bytes.split_first()?);
    let token = request(*options, &encrypted(clear));
    if let Ok(ticket) = acceptor.accept(&token, None) {
        assert!(!ticket.bound, "{bytes:02x?}");
        admitted(ticket, bytes);
    }
    let ticket = acceptor.accept(&token, Some(BINDING)).ok()?;
    let digest = Md5::digest([&[0; 16], &u32::try_from(BINDING.len()).ok()?.to_le_bytes()[..], BINDING].concat());
    let says_so = clear.windows(digest.len()).any(|window| window == &digest[..]);
    assert!(says_so || !ticket.bound, "{bytes:02x?}");
    let bound = ticket.bound;
    admitted(ticket, bytes);
    Some(bound)
}

/// RC4 with HMAC (RFC 4757 §5).
fn encrypted(clear: &[u8]) -> Vec<u8> {
    let key = hmac(&SESSION, &AUTHENTICATOR);
    let mut sealed = [&[7; 8], clear].concat();
    let checksum = hmac(&key, &sealed);
    if let Ok(mut cipher) = Rc4::new_from_slice(&hmac(&key, &checksum)) {
        cipher.apply_keystream(&mut sealed);
    }
    [&checksum[..], &sealed].concat()
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 16] {
    // A key may be of any length.
    Hmac::<Md5>::new_from_slice(key)
        .map(|mac| mac.chain_update(data).finalize().into_bytes().into())
        .unwrap_or_default()
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[tag, 0x84], &length[..], content].concat()
}

/// A request with our ticket (RFC 4120 §5.5.1) in the frame of GSS-API.
fn request(options: u8, authenticator: &[u8]) -> Vec<u8> {
    let data = [element(0xa0, &[2, 1, 23]), element(0xa2, &element(4, authenticator))].concat();
    let fields = [
        element(0xa0, &[2, 1, 5]),
        element(0xa1, &[2, 1, 14]),
        element(0xa2, &[3, 5, 0, options, 0, 0, 0]),
        element(0xa3, TICKET),
        element(0xa4, &element(0x30, &data)),
    ];
    let request = element(0x6e, &element(0x30, &fields.concat()));
    let name = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2, 1, 0];
    // Only of lengths as short as they can be is the frame read.
    let length = name.len() + request.len();
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let head = if length < 0x100 { vec![0x60, 0x81, low] } else { vec![0x60, 0x82, high, low] };
    [&head[..], &name, &request].concat()
}

/// Sealed messages one after the other, each behind its length in two bytes: as many as can be unsealed are those that
/// were sealed, in their order. Gives how many.
pub fn sealed(bytes: &[u8]) -> usize {
    let Some(acceptor) = &*KEYTAB else { return 0 };
    let Ok(mut ticket) = acceptor.accept(TOKEN, None) else { return 0 };
    let mut count = 0;
    let mut rest = bytes;
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (message, behind) = behind.split_at(behind.len().min(usize::from(u16::from_be_bytes(*length))));
        let (header, data) = message.split_at(message.len().min(HEADER_BYTES));
        // A context that failed once is not asked again.
        let Ok(clear) = ticket.security.unseal(header, data.to_vec()) else { break };
        assert_eq!(messages().get(count).map(String::as_bytes), Some(&clear[..]), "{bytes:02x?}");
        REACHED.fetch_add(1, Ordering::Relaxed);
        count += 1;
        rest = behind;
    }
    count
}
