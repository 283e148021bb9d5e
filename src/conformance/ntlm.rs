//! The client's side of one NTLM logon with session security ([MS-NLMP]), for the row about sealed messages.
//!
//! It is written for the suite alone: were it shared with a server, a mistake of both would not be seen.

use hmac::{Hmac, KeyInit, Mac};
use md4::Md4;
use md5::{Digest, Md5};
use rc4::{Rc4, StreamCipher};
use zeroize::Zeroizing;

type Block = [u8; 16];

/// `UNICODE`, `REQUEST_TARGET`, `SIGN`, `SEAL`, `NTLM`, `ALWAYS_SIGN`, extended session security, target information,
/// 128 bits, key exchange, 56 bits.
const FLAGS: u32 = 0xe088_8235;
/// The bit of [`FLAGS`] by which keys are exchanged.
const KEY_EXCHANGE: u32 = 0x4000_0000;
/// The ids of the attribute-value pairs that matter here.
const AV_END: u16 = 0;
const AV_FLAGS: u16 = 6;
const AV_TIME: u16 = 7;
/// Where the payload of the last message begins, behind its integrity code.
const PAYLOAD: u32 = 88;
/// Where that code stands.
const MIC_AT: usize = 72;

const PROTOCOL: &str = "application/HTTP-SPNEGO-session-encrypted";
/// The media type of sealed messages.
pub(super) const SEALED: &str =
    "multipart/encrypted;protocol=\"application/HTTP-SPNEGO-session-encrypted\";boundary=\"Encrypted Boundary\"";
const END: &[u8] = b"--Encrypted Boundary--\r\n";
const DATA: &[u8] = b"application/octet-stream\r\n";

/// The first message of a logon.
pub(super) fn negotiate() -> Vec<u8> {
    let mut message = b"NTLMSSP\0\x01\0\0\0".to_vec();
    message.extend_from_slice(&FLAGS.to_le_bytes());
    // Neither a domain nor a host is named.
    message.extend_from_slice(&[0; 16]);
    message
}

/// A logon that was answered, with the keys that come of it.
pub(super) struct Logon {
    /// The last message of the logon.
    pub(super) token: Vec<u8>,
    to_server: Direction,
    to_client: Direction,
}

/// Answers a challenge. The seed makes the client's nonce and the session key: it must be random.
///
/// `None` when the challenge cannot be read or offers no sealing.
pub(super) fn authenticate(challenge: &[u8], user: &str, password: &str, seed: &str) -> Option<Logon> {
    let flags = u32_at(challenge, 20)? & FLAGS;
    if !challenge.starts_with(b"NTLMSSP\0\x02\0\0\0") || flags & KEY_EXCHANGE == 0 {
        return None;
    }
    let server_nonce = challenge.get(24..32)?;
    let (length, at) = (usize::from(u16_at(challenge, 40)?), usize::try_from(u32_at(challenge, 44)?).ok()?);
    let (pairs, time) = target_pairs(challenge.get(at..at.checked_add(length)?)?)?;
    let (domain, user) = user.split_once('\\').unwrap_or(("", user));
    let response_key = {
        let hash: Zeroizing<Block> = Zeroizing::new(Md4::digest(Zeroizing::new(utf16(password)).as_slice()).into());
        hmac(&hash, &[&utf16(&user.to_uppercase()), &utf16(domain)])
    };
    let nonce = md5(&[b"nonce", seed.as_bytes()]);
    let temp = [&[1, 1, 0, 0, 0, 0, 0, 0][..], &time, nonce.get(..8)?, &[0; 4], &pairs, &[0; 4]].concat();
    let proof = hmac(&response_key, &[server_nonce, &temp]);
    let session_key = md5(&[b"key", seed.as_bytes()]);
    let mut exchanged = session_key;
    rc4(&hmac(&response_key, &[&proof])).apply_keystream(&mut exchanged);
    let response = [&proof[..], &temp].concat();
    let mut token = last_message(&[&[0; 24], &response, &utf16(domain), &utf16(user), &[], &exchanged], flags)?;
    let mic = hmac(&session_key, &[&negotiate(), challenge, &token]);
    token.get_mut(MIC_AT..)?.first_chunk_mut::<16>()?.copy_from_slice(&mic);
    Some(Logon {
        token,
        to_server: Direction::new(&session_key, "client-to-server"),
        to_client: Direction::new(&session_key, "server-to-client"),
    })
}

/// The pairs of the server with the flag that an integrity code follows, and the server's time.
fn target_pairs(pairs: &[u8]) -> Option<(Vec<u8>, [u8; 8])> {
    let (mut kept, mut time) = (Vec::new(), [0; 8]);
    let mut rest = pairs;
    loop {
        let (id, length) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        let (pair, after) = rest.split_at_checked(length.checked_add(4)?)?;
        if id == AV_END {
            break;
        }
        if id == AV_TIME {
            time = *pair.get(4..)?.first_chunk()?;
        }
        if id != AV_FLAGS {
            kept.extend_from_slice(pair);
        }
        rest = after;
    }
    kept.extend_from_slice(&[6, 0, 4, 0, 2, 0, 0, 0]);
    kept.extend_from_slice(&[0; 4]);
    Some((kept, time))
}

/// Puts the last message together; zeros stand where the integrity code will.
fn last_message(parts: &[&[u8]; 6], flags: u32) -> Option<Vec<u8>> {
    let mut message = b"NTLMSSP\0\x03\0\0\0".to_vec();
    let mut offset = PAYLOAD;
    for part in parts {
        let length = u16::try_from(part.len()).ok()?;
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&offset.to_le_bytes());
        offset = offset.checked_add(u32::from(length))?;
    }
    message.extend_from_slice(&flags.to_le_bytes());
    // The version of the client, which is none, and the integrity code.
    message.extend_from_slice(&[0; 24]);
    for part in parts {
        message.extend_from_slice(part);
    }
    Some(message)
}

impl Logon {
    /// The body of a sealed request.
    pub(super) fn seal(&mut self, text: &str) -> Vec<u8> {
        let mac = self.to_server.mac(text.as_bytes());
        let mut data = text.as_bytes().to_vec();
        self.to_server.cipher.apply_keystream(&mut data);
        let signature = self.to_server.signature(&mac);
        let head = format!(
            "--Encrypted Boundary\r\n\tContent-Type: {PROTOCOL}\r\n\tOriginalContent: \
             type=application/soap+xml;charset=UTF-8;Length={}\r\n--Encrypted Boundary\r\n\tContent-Type: ",
            data.len()
        );
        [head.as_bytes(), DATA, &[16, 0, 0, 0], &signature, &data, END].concat()
    }

    /// The text of a sealed answer; else what is wrong with it.
    pub(super) fn unseal(&mut self, body: &[u8]) -> Result<Vec<u8>, &'static str> {
        let at = body.windows(DATA.len()).position(|window| window == DATA).ok_or("no part of sealed octets")?;
        let rest = body.get(at + DATA.len()..).unwrap_or_default();
        let rest = rest.strip_prefix(&[16, 0, 0, 0]).ok_or("no signature of 16 octets")?;
        let (signature, rest) = rest.split_first_chunk::<16>().ok_or("no signature of 16 octets")?;
        let mut data = rest.strip_suffix(END).ok_or("no boundary at the end")?.to_vec();
        self.to_client.cipher.apply_keystream(&mut data);
        let mac = self.to_client.mac(&data);
        if self.to_client.signature(&mac) == *signature { Ok(data) } else { Err("a wrong signature") }
    }
}

/// One direction of the traffic.
struct Direction {
    sign: Block,
    cipher: Rc4,
    sequence: u32,
}

impl Direction {
    fn new(session_key: &Block, way: &str) -> Self {
        let derive =
            |kind: &str| md5(&[session_key, format!("session key to {way} {kind} key magic constant\0").as_bytes()]);
        Self { sign: derive("signing"), cipher: rc4(&derive("sealing")), sequence: 0 }
    }

    fn mac(&self, clear: &[u8]) -> Block {
        hmac(&self.sign, &[&self.sequence.to_le_bytes(), clear])
    }

    /// The signature of the message that the cipher has just gone over.
    fn signature(&mut self, mac: &Block) -> Block {
        let mut half = mac.first_chunk::<8>().copied().unwrap_or_default();
        self.cipher.apply_keystream(&mut half);
        let mut signature = Block::default();
        let parts = [1, 0, 0, 0].into_iter().chain(half).chain(self.sequence.to_le_bytes());
        for (to, from) in signature.iter_mut().zip(parts) {
            *to = from;
        }
        self.sequence = self.sequence.wrapping_add(1);
        signature
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn hmac(key: &Block, parts: &[&[u8]]) -> Block {
    // A short key is filled with zeros up to the block of the digest; done here, nothing can fail.
    let mut padded = Zeroizing::new([0_u8; 64]);
    for (to, from) in padded.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = Hmac::<Md5>::new((&*padded).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn md5(parts: &[&[u8]]) -> Block {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// RC4 with a key of 16 octets, which is the same as with the key written twice.
fn rc4(key: &Block) -> Rc4 {
    let mut twice = Zeroizing::new([0_u8; 32]);
    for (to, from) in twice.iter_mut().zip(key.iter().cycle()) {
        *to = *from;
    }
    Rc4::new((&*twice).into())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}
