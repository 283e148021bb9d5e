//! The sums NTLM is made of ([MS-NLMP] §3.3.2, §3.4.4, §3.4.5). They are weak by today's measure, and
//! they are what the protocol says.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md4::Md4;
use md5::{Digest, Md5};
use rc4::{Rc4, StreamCipher};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Every key, hash and tag of NTLM has this length.
pub(super) type Block = [u8; 16];

/// A block that is wiped when it is dropped.
pub(super) type Key = Zeroizing<Block>;

/// MD4 over the UTF-16 of a password. Whoever has it can log on, as with the password itself.
#[derive(Clone)]
pub struct NtHash(Key);

impl NtHash {
    /// The hash of a password.
    #[must_use]
    pub fn of_password(password: &str) -> Self {
        let text = Zeroizing::new(utf16(password));
        Self(Zeroizing::new(Md4::digest(text.as_slice()).into()))
    }

    /// Reads 32 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let (pairs, odd) = text.as_bytes().as_chunks::<2>();
        let mut key = Key::default();
        if !odd.is_empty() || pairs.len() != key.len() {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(pairs) {
            let digits =
                std::str::from_utf8(pair).ok().filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(key))
    }

    /// Writes 32 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        // With its full capacity from the start, so that no copy is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(2 * self.0.len()));
        for nibble in self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
            text.extend(DIGITS.get(usize::from(nibble)));
        }
        text
    }

    /// What stands in for the hash of a user who is not there, so that a refusal takes as long.
    pub(super) fn of_nobody() -> Self {
        Self(Key::default())
    }

    /// `NTOWFv2`. The user is upper-cased, the domain is taken as the client sent it.
    pub(super) fn response_key(&self, user: &str, domain: &[u8]) -> Key {
        let upper: String = user.chars().map(simple_upper).collect();
        hmac_md5(&self.0, &[&utf16(&upper), domain])
    }
}

impl fmt::Debug for NtHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NtHash(..)")
    }
}

impl PartialEq for NtHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for NtHash {}

/// Windows upper-cases one character into one, so `ß` stays what it is.
fn simple_upper(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

pub(super) fn utf16(text: &str) -> Vec<u8> {
    // Room for the worst case, so that a password is never copied by growing.
    let mut bytes = Vec::with_capacity(2 * text.len());
    for unit in text.encode_utf16() {
        bytes.extend_from_slice(&unit.to_le_bytes());
    }
    bytes
}

pub(super) fn hmac_md5(key: &Block, parts: &[&[u8]]) -> Key {
    // HMAC fills a short key with zeros up to the block of its digest; done here, nothing can fail.
    let mut padded = Zeroizing::new([0_u8; 64]);
    for (to, from) in padded.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = Hmac::<Md5>::new((&*padded).into());
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

pub(super) fn md5(parts: &[&[u8]]) -> Block {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// RC4 with a key of 16 bytes. Its schedule repeats the key up to 256 bytes, so a key written twice
/// is the same key.
pub(super) fn rc4(key: &Block) -> Rc4 {
    let mut twice = Zeroizing::new([0_u8; 32]);
    for (to, from) in twice.iter_mut().zip(key.iter().cycle()) {
        *to = *from;
    }
    Rc4::new((&*twice).into())
}

/// Deciphers one block with a key of its own.
pub(super) fn rc4_block(key: &Block, block: &Block) -> Key {
    let mut plain = Zeroizing::new(*block);
    rc4(key).apply_keystream(plain.as_mut_slice());
    plain
}

pub(super) fn equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}
