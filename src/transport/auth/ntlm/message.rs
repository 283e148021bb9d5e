//! The three messages ([MS-NLMP] §2.2.1). Integers are little-endian; a *field* is a length, a length
//! that is not looked at, and an offset from the start of the message. Fields may lie anywhere.

use std::borrow::Cow;

use super::crypto::{Block, utf16};

pub(super) const SIGNATURE: &[u8] = b"NTLMSSP\0";
pub(super) const NEGOTIATE: u32 = 1;
const CHALLENGE: u32 = 2;
const AUTHENTICATE: u32 = 3;

/// Negotiate flags ([MS-NLMP] §2.2.2.5).
pub(super) mod flag {
    pub(in super::super) const UNICODE: u32 = 0x0000_0001;
    pub(in super::super) const REQUEST_TARGET: u32 = 0x0000_0004;
    pub(in super::super) const SIGN: u32 = 0x0000_0010;
    pub(in super::super) const SEAL: u32 = 0x0000_0020;
    pub(in super::super) const NTLM: u32 = 0x0000_0200;
    pub(in super::super) const ALWAYS_SIGN: u32 = 0x0000_8000;
    pub(in super::super) const TARGET_TYPE_SERVER: u32 = 0x0002_0000;
    pub(in super::super) const EXTENDED_SESSION_SECURITY: u32 = 0x0008_0000;
    pub(in super::super) const TARGET_INFO: u32 = 0x0080_0000;
    pub(in super::super) const VERSION: u32 = 0x0200_0000;
    pub(in super::super) const KEY_128: u32 = 0x2000_0000;
    pub(in super::super) const KEY_EXCHANGE: u32 = 0x4000_0000;
    pub(in super::super) const KEY_56: u32 = 0x8000_0000;
}

/// Ids of attribute-value pairs ([MS-NLMP] §2.2.2.1).
mod av {
    pub(super) const EOL: u16 = 0;
    pub(super) const NB_COMPUTER_NAME: u16 = 1;
    pub(super) const NB_DOMAIN_NAME: u16 = 2;
    pub(super) const DNS_COMPUTER_NAME: u16 = 3;
    pub(super) const DNS_DOMAIN_NAME: u16 = 4;
    pub(super) const FLAGS: u16 = 6;
    pub(super) const TIMESTAMP: u16 = 7;
    pub(super) const CHANNEL_BINDINGS: u16 = 10;
}

/// Where the MIC stands in a type 3 message that has one.
const MIC_AT: usize = 72;
/// The bit of `MsvAvFlags` that says so.
const MIC_PROVIDED: u32 = 2;
/// Where the payload of our type 2 begins.
const CHALLENGE_PAYLOAD: u32 = 56;
/// Windows Server 2022, revision 15 of NTLM.
const VERSION: [u8; 8] = [10, 0, 0x7c, 0x4f, 0, 0, 0, 15];

/// The kind of an NTLM message.
pub(super) fn message_type(bytes: &[u8]) -> Option<u32> {
    bytes.starts_with(SIGNATURE).then(|| u32_at(bytes, 8)).flatten()
}

/// The flags of a type 1 message. Nothing else in it matters, and the least flags are not insisted on:
/// Go's client sets neither `REQUEST_TARGET` nor `NTLM`.
pub(super) fn negotiate_flags(bytes: &[u8]) -> Option<u32> {
    (message_type(bytes)? == NEGOTIATE).then(|| u32_at(bytes, 12)).flatten()
}

/// How a server calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ServerNames {
    netbios: String,
    dns: String,
}

impl ServerNames {
    /// The names of a host, of which the `NetBIOS` form is the first label cut to 15 characters.
    pub(in super::super) fn of(host: &str) -> Self {
        let label = host.split('.').next().unwrap_or(host);
        let netbios = label.chars().take(15).collect::<String>().to_uppercase();
        // A name of the DNS has at most 255 bytes; with that, every length below fits its field.
        Self { netbios, dns: host.chars().take(255).collect() }
    }
}

/// Writes a type 2 message.
pub(super) fn challenge(flags: u32, server_challenge: [u8; 8], filetime: u64, names: &ServerNames) -> Vec<u8> {
    let target = utf16(&names.netbios);
    let mut info = Vec::with_capacity(256);
    for (id, name) in [
        (av::NB_DOMAIN_NAME, &names.netbios),
        (av::NB_COMPUTER_NAME, &names.netbios),
        (av::DNS_DOMAIN_NAME, &names.dns),
        (av::DNS_COMPUTER_NAME, &names.dns),
    ] {
        put_pair(&mut info, id, &utf16(name));
    }
    // The time is what makes clients send a MIC.
    put_pair(&mut info, av::TIMESTAMP, &filetime.to_le_bytes());
    put_pair(&mut info, av::EOL, &[]);
    let mut message = Vec::with_capacity(320);
    message.extend_from_slice(SIGNATURE);
    message.extend_from_slice(&CHALLENGE.to_le_bytes());
    put_field(&mut message, &target, CHALLENGE_PAYLOAD);
    message.extend_from_slice(&flags.to_le_bytes());
    message.extend_from_slice(&server_challenge);
    message.extend_from_slice(&[0; 8]);
    put_field(&mut message, &info, CHALLENGE_PAYLOAD + u32::from(length(&target)));
    message.extend_from_slice(&VERSION);
    message.extend_from_slice(&target);
    message.extend_from_slice(&info);
    message
}

/// INVARIANT: what is measured here comes from `ServerNames`, which bounds it far below 64 KiB.
fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

fn put_field(message: &mut Vec<u8>, value: &[u8], offset: u32) {
    message.extend_from_slice(&length(value).to_le_bytes());
    message.extend_from_slice(&length(value).to_le_bytes());
    message.extend_from_slice(&offset.to_le_bytes());
}

fn put_pair(info: &mut Vec<u8>, id: u16, value: &[u8]) {
    info.extend_from_slice(&id.to_le_bytes());
    info.extend_from_slice(&length(value).to_le_bytes());
    info.extend_from_slice(value);
}

/// A type 3 message.
pub(super) struct Authenticate<'a> {
    pub(super) nt_response: &'a [u8],
    /// As it goes into a hash: UTF-16, in the case in which it was sent.
    pub(super) domain: Cow<'a, [u8]>,
    pub(super) user: String,
    pub(super) session_key: &'a [u8],
    pub(super) flags: u32,
}

impl<'a> Authenticate<'a> {
    /// Reads a message. Our type 2 asks for names in UTF-16; Node's winrm-client 0.0.11 sends bytes
    /// nevertheless, which are read as UTF-8.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if message_type(bytes)? != AUTHENTICATE {
            return None;
        }
        let flags = u32_at(bytes, 60)?;
        let (user, domain) = (field(bytes, 36)?, field(bytes, 28)?);
        let (user, domain) = if flags & flag::UNICODE == 0 {
            let domain = utf16(std::str::from_utf8(domain).ok()?);
            (std::str::from_utf8(user).ok()?.to_owned(), Cow::Owned(domain))
        } else {
            let (pairs, odd) = user.as_chunks::<2>();
            let user = char::decode_utf16(pairs.iter().map(|pair| u16::from_le_bytes(*pair)));
            (user.collect::<Result<_, _>>().ok().filter(|_| odd.is_empty())?, Cow::Borrowed(domain))
        };
        Some(Self { nt_response: field(bytes, 20)?, domain, user, session_key: field(bytes, 52)?, flags })
    }
}

/// The MIC of a type 3 message, and the message with zeros in its place.
pub(super) fn take_mic(bytes: &[u8]) -> Option<(Block, Vec<u8>)> {
    let mut without = bytes.to_owned();
    let place = without.get_mut(MIC_AT..)?.first_chunk_mut::<16>()?;
    let mic = *place;
    *place = Block::default();
    Some((mic, without))
}

/// What a client says in the pairs of its response, which the proof covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientPairs {
    pub(super) mic_provided: bool,
    /// All zeros when the client had no channel to bind to.
    pub(super) channel_binding: Block,
}

/// Reads what follows the proof in a response of `NTLMv2`.
pub(super) fn client_pairs(temp: &[u8]) -> Option<ClientPairs> {
    if !temp.starts_with(&[1, 1]) {
        return None;
    }
    let mut rest = temp.get(28..)?;
    let mut pairs = ClientPairs::default();
    while !rest.is_empty() {
        let (id, length) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        let value = rest.get(4..4 + length)?;
        match id {
            av::EOL => break,
            av::FLAGS => pairs.mic_provided = u32_at(value, 0)? & MIC_PROVIDED != 0,
            av::CHANNEL_BINDINGS => pairs.channel_binding = value.try_into().ok()?,
            _ => {}
        }
        rest = rest.get(4 + length..)?;
    }
    Some(pairs)
}

fn field(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16_at(bytes, at)?);
    if length == 0 {
        return Some(&[]);
    }
    let offset = usize::try_from(u32_at(bytes, at + 4)?).ok()?;
    bytes.get(offset..offset.checked_add(length)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}
