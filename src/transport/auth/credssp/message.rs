//! `TSRequest` and `TSCredentials` (`[MS-CSSP]` 2.2.1), read and written.

use zeroize::Zeroizing;

use crate::transport::auth::spnego::{Der, OCTET_STRING, SEQUENCE, context, element, whole};

const INTEGER: u8 = 0x02;
/// The kind of credentials that are a password.
const PASSWORD: u32 = 1;
/// The version that is spoken here.
pub(super) const VERSION: u32 = 6;

/// What both sides send each other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::transport::auth) struct TsRequest<'a> {
    /// The version of the sender.
    pub(in crate::transport::auth) version: u32,
    /// A token of Negotiate.
    pub(super) token: Option<&'a [u8]>,
    /// The sealed credentials.
    pub(super) credentials: Option<&'a [u8]>,
    /// The sealed proof that the public key of the inner TLS connection is the right one.
    pub(super) key_proof: Option<&'a [u8]>,
    /// An NTSTATUS.
    pub(super) error: Option<u32>,
    /// What the proof is salted with.
    pub(super) nonce: Option<&'a [u8]>,
}

impl<'a> TsRequest<'a> {
    /// Reads a whole message; `None` for one that is cut off, that has anything behind it, or that is not in the
    /// order of the grammar.
    pub(in crate::transport::auth) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut body = Der(whole(bytes, SEQUENCE)?);
        let version = integer(body.take(context(0))?)?;
        let token = match body.take_if(context(1))? {
            // One token at a time is all that is ever sent.
            Some(tokens) => Some(whole(whole(whole(whole(tokens, SEQUENCE)?, SEQUENCE)?, context(0))?, OCTET_STRING)?),
            None => None,
        };
        let credentials = body.octets_if(context(2))?;
        let key_proof = body.octets_if(context(3))?;
        let error = match body.take_if(context(4))? {
            Some(code) => Some(integer(code)?),
            None => None,
        };
        let nonce = body.octets_if(context(5))?;
        body.0.is_empty().then_some(Self { version, token, credentials, key_proof, error, nonce })
    }

    /// Writes it.
    pub(in crate::transport::auth) fn write(&self) -> Vec<u8> {
        let octets = |number, content: Option<&[u8]>| {
            content.map(|content| element(context(number), &element(OCTET_STRING, content))).unwrap_or_default()
        };
        let mut body = element(context(0), &write_integer(self.version));
        if let Some(token) = self.token {
            let token = element(SEQUENCE, &element(context(0), &element(OCTET_STRING, token)));
            body.extend(element(context(1), &element(SEQUENCE, &token)));
        }
        body.extend(octets(2, self.credentials));
        body.extend(octets(3, self.key_proof));
        if let Some(code) = self.error {
            // As Windows writes it, with its highest bit as a sign: pyspnego knows the codes only so.
            body.extend(element(context(4), &element(INTEGER, &code.to_be_bytes())));
        }
        body.extend(octets(5, self.nonce));
        element(SEQUENCE, &body)
    }
}

/// An INTEGER that fits 32 bits; an NTSTATUS may come as a negative one.
fn integer(bytes: &[u8]) -> Option<u32> {
    let content = whole(bytes, INTEGER)?;
    let content = match content {
        [0, rest @ ..] if rest.len() == 4 => rest,
        content => content,
    };
    (1..=4).contains(&content.len()).then(|| content.iter().fold(0, |number, byte| (number << 8) | u32::from(*byte)))
}

fn write_integer(number: u32) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let mut content: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    // Positive: the highest bit is no sign.
    if content.first().is_none_or(|byte| *byte >= 0x80) {
        content.insert(0, 0);
    }
    element(INTEGER, &content)
}

/// The account that credentials are of, as it stands in them. The password is not looked at.
pub(in crate::transport::auth) fn user_of_credentials(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let mut body = Der(whole(bytes, SEQUENCE)?);
    let kind = integer(body.take(context(0))?)?;
    let inner = body.octets_if(context(1))??;
    if kind != PASSWORD || !body.0.is_empty() {
        return None;
    }
    let mut password = Der(whole(inner, SEQUENCE)?);
    let [_domain, user, _password] = [0, 1, 2].map(|number| password.octets_if(context(number)).flatten());
    if !password.0.is_empty() {
        return None;
    }
    let (pairs, odd) = user?.as_chunks::<2>();
    let units = Zeroizing::new(pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect::<Vec<u16>>());
    odd.is_empty().then(|| String::from_utf16(&units).ok()).flatten().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Credentials as a client writes them.
    fn password_credentials(domain: &str, user: &str, password: &str) -> Vec<u8> {
        let text = |number, text: &str| {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            element(context(number), &element(OCTET_STRING, &bytes))
        };
        let inner = element(SEQUENCE, &[text(0, domain), text(1, user), text(2, password)].concat());
        let kind = element(context(0), &write_integer(PASSWORD));
        element(SEQUENCE, &[kind, element(context(1), &element(OCTET_STRING, &inner))].concat())
    }

    #[test]
    fn what_is_written_is_read() {
        let full = TsRequest {
            version: 6,
            token: Some(&[7; 300]),
            credentials: Some(b"c"),
            key_proof: Some(b""),
            error: Some(0xc000_006d),
            nonce: Some(&[9; 32]),
        };
        for request in [full, TsRequest { version: 0, ..TsRequest::default() }] {
            let bytes = request.write();
            assert_eq!(TsRequest::parse(&bytes), Some(request));
            for end in 0..bytes.len() {
                assert_eq!(TsRequest::parse(&bytes[..end]), None, "cut to {end}");
            }
            assert_eq!(TsRequest::parse(&[&bytes[..], b"x"].concat()), None);
        }
        // 30 0d a0 03 02 01 06 a4 06 02 04 c0 00 00 6d: an NTSTATUS as Windows writes it.
        let bytes = [0x30, 13, 0xa0, 3, 2, 1, 6, 0xa4, 6, 2, 4, 0xc0, 0, 0, 0x6d];
        assert_eq!(TsRequest::parse(&bytes).unwrap().error, Some(0xc000_006d));
    }

    #[test]
    fn the_user_of_credentials_is_read_and_nothing_else() {
        let bytes = password_credentials("DOMAIN", "Jörg", "secret");
        assert_eq!(*user_of_credentials(&bytes).unwrap(), "Jörg");
        for end in 0..bytes.len() {
            assert_eq!(user_of_credentials(&bytes[..end]), None, "cut to {end}");
        }
        let mut card = bytes.clone();
        card[6] = 2;
        assert_eq!(user_of_credentials(&card), None, "a smart card");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..60) {
            TsRequest::parse(&bytes);
            user_of_credentials(&bytes);
            let mut damaged = TsRequest { version: 6, token: Some(&[1; 20]), ..TsRequest::default() }.write();
            let length = damaged.len();
            damaged[at % length] = bytes.first().copied().unwrap_or_default();
            if let Some(request) = TsRequest::parse(&damaged) {
                let again = request.write();
                prop_assert_eq!(TsRequest::parse(&again), Some(request));
            }
        }
    }
}
