//! SPNEGO (RFC 4178, `[MS-SPNG]`): the wrapping in which a client lists mechanisms and sends the
//! tokens of the one that was chosen.
//!
//! Reads only what a client sends and writes only what a server sends. Strict: elements stand in the
//! order of the grammar, once each, and fill what they stand in to the last byte; lengths may be
//! longer than they need to be, because some Java stacks write them so.

/// Object identifiers of mechanisms, as their content bytes.
pub(super) mod oid {
    /// 1.3.6.1.4.1.311.2.2.10
    pub(in super::super) const NTLM: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 10];
    /// 1.3.6.1.5.5.2
    pub(super) const SPNEGO: &[u8] = &[0x2b, 6, 1, 5, 5, 2];
}

/// Mechanisms a client may list.
const MAX_MECHANISMS: usize = 16;

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const UTF8_STRING: u8 = 0x0c;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const BIT_STRING: u8 = 0x03;
const APPLICATION: u8 = 0x60;
const RESPONSE: u8 = 0xa1;

/// `[n]`, constructed.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// The first token of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NegTokenInit<'a> {
    /// What the client can do, best first.
    pub(super) mechanisms: Vec<&'a [u8]>,
    /// The DER of that list, which the `mechListMIC` signs.
    pub(super) list: &'a [u8],
    /// The first token of the first mechanism.
    pub(super) token: Option<&'a [u8]>,
}

/// A further token of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NegTokenResp<'a> {
    /// The next token of the chosen mechanism.
    pub(super) token: Option<&'a [u8]>,
    /// The signature of the list.
    pub(super) mic: Option<&'a [u8]>,
}

/// How far the negotiation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NegState {
    AcceptCompleted,
    AcceptIncomplete,
    RequestMic,
}

impl NegState {
    const fn code(self) -> u8 {
        match self {
            Self::AcceptCompleted => 0,
            Self::AcceptIncomplete => 1,
            Self::RequestMic => 3,
        }
    }
}

/// Whether a token begins as the first one of GSS-API does.
pub(super) fn is_initial(token: &[u8]) -> bool {
    token.first() == Some(&APPLICATION)
}

impl<'a> NegTokenInit<'a> {
    /// Reads a token; `None` also for one of a mechanism that is not SPNEGO.
    pub(super) fn parse(token: &'a [u8]) -> Option<Self> {
        let mut outer = Der(whole(token, APPLICATION)?);
        if outer.take(OBJECT_IDENTIFIER)? != oid::SPNEGO {
            return None;
        }
        let mut body = Der(whole(whole(outer.0, context(0))?, SEQUENCE)?);
        let list = body.take(context(0))?;
        let mut names = Der(whole(list, SEQUENCE)?);
        let mut mechanisms = Vec::new();
        while !names.0.is_empty() {
            if mechanisms.len() >= MAX_MECHANISMS {
                return None;
            }
            mechanisms.push(names.take(OBJECT_IDENTIFIER)?);
        }
        // Context flags: RFC 4178 §4.2.1 has them ignored.
        if let Some(flags) = body.take_if(context(1))? {
            whole(flags, BIT_STRING)?;
        }
        let token = body.octets_if(context(2))?;
        // A signature so early is of no use: there are no keys yet.
        body.octets_if(context(3))?;
        body.0.is_empty().then_some(Self { mechanisms, list, token })
    }
}

impl<'a> NegTokenResp<'a> {
    /// Reads a token.
    pub(super) fn parse(token: &'a [u8]) -> Option<Self> {
        let mut body = Der(whole(whole(token, RESPONSE)?, SEQUENCE)?);
        if let Some(state) = body.take_if(context(0))? {
            // A client that says `reject` (2) will not be talked to further.
            matches!(whole(state, ENUMERATED)?, [0 | 1 | 3]).then_some(())?;
        }
        if let Some(mechanism) = body.take_if(context(1))? {
            whole(mechanism, OBJECT_IDENTIFIER)?;
        }
        let token = body.octets_if(context(2))?;
        let mic = body.octets_if(context(3))?;
        // Some old clients send their token a second time in the place of the signature.
        let mic = mic.filter(|mic| token != Some(*mic));
        body.0.is_empty().then_some(Self { token, mic })
    }
}

/// Writes an answer.
pub(super) fn response(state: NegState, mechanism: Option<&[u8]>, token: Option<&[u8]>, mic: Option<&[u8]>) -> Vec<u8> {
    let mut body = element(context(0), &element(ENUMERATED, &[state.code()]));
    if let Some(mechanism) = mechanism {
        body.extend(element(context(1), &element(OBJECT_IDENTIFIER, mechanism)));
    }
    if let Some(token) = token {
        body.extend(element(context(2), &element(OCTET_STRING, token)));
    }
    if let Some(mic) = mic {
        body.extend(element(context(3), &element(OCTET_STRING, mic)));
    }
    element(RESPONSE, &element(SEQUENCE, &body))
}

/// What is left to read.
pub(super) struct Der<'a>(pub(super) &'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_first()?;
        if *found != tag {
            return None;
        }
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            // At most four bytes of length; 0x80 would be a length without an end, which DER has not.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes.iter().fold(0_u32, |length, byte| (length << 8) | u32::from(*byte));
                (usize::try_from(length).ok()?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    /// The next element if it has this tag; the outer `None` is for one that is broken.
    #[expect(clippy::option_option, reason = "absent and broken are different things")]
    pub(super) fn take_if(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.0.first() == Some(&tag) { self.take(tag).map(Some) } else { Some(None) }
    }

    #[expect(clippy::option_option, reason = "absent and broken are different things")]
    pub(super) fn octets_if(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        match self.take_if(tag)? {
            Some(content) => whole(content, OCTET_STRING).map(Some),
            None => Some(None),
        }
    }
}

/// The content of the one element that fills `bytes`.
pub(super) fn whole(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let mut der = Der(bytes);
    let content = der.take(tag)?;
    der.0.is_empty().then_some(content)
}

pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = content.len().to_be_bytes();
    if content.len() < 0x80 {
        bytes.extend(length.last());
    } else {
        let significant = length.iter().skip_while(|byte| **byte == 0);
        // The length of a length has eight bytes at most.
        bytes.push(0x80 | u8::try_from(significant.clone().count()).unwrap_or(8));
        bytes.extend(significant);
    }
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KERBEROS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2];

    fn init(mechanisms: &[&[u8]], token: Option<&[u8]>) -> Vec<u8> {
        let names: Vec<u8> = mechanisms.iter().flat_map(|name| element(OBJECT_IDENTIFIER, name)).collect();
        let mut body = element(context(0), &element(SEQUENCE, &names));
        if let Some(token) = token {
            body.extend(element(context(2), &element(OCTET_STRING, token)));
        }
        let inner = element(context(0), &element(SEQUENCE, &body));
        element(APPLICATION, &[element(OBJECT_IDENTIFIER, oid::SPNEGO), inner].concat())
    }

    #[test]
    fn a_first_token_is_taken_apart() {
        let token = init(&[KERBEROS, oid::NTLM], Some(&[7; 300]));
        let parsed = NegTokenInit::parse(&token).unwrap();
        assert_eq!(parsed.mechanisms, [KERBEROS, oid::NTLM]);
        assert_eq!(parsed.token, Some(&[7; 300][..]));
        assert_eq!(parsed.list.first(), Some(&SEQUENCE));
        assert_eq!(NegTokenInit::parse(&init(&[oid::NTLM], None)).unwrap().token, None);
        assert_eq!(NegTokenInit::parse(&init(&[oid::NTLM; 17], None)), None, "too many mechanisms");
    }

    #[test]
    fn lengths_may_be_longer_than_needed() {
        let short = element(SEQUENCE, &element(context(2), &element(OCTET_STRING, b"abc")));
        let long = [&[RESPONSE, 0x82, 0, u8::try_from(short.len()).unwrap()], short.as_slice()].concat();
        assert_eq!(NegTokenResp::parse(&long).unwrap().token, Some(&b"abc"[..]));
        let endless = [&[RESPONSE, 0x80], short.as_slice()].concat();
        assert_eq!(NegTokenResp::parse(&endless), None);
    }

    #[test]
    fn a_signature_that_repeats_the_token_is_none() {
        let token = response(NegState::AcceptIncomplete, None, Some(b"abc"), Some(b"abc"));
        assert_eq!(NegTokenResp::parse(&token), Some(NegTokenResp { token: Some(b"abc"), mic: None }));
    }

    #[test]
    fn a_cut_or_lengthened_token_is_refused() {
        let token = init(&[KERBEROS, oid::NTLM], Some(&[7; 200]));
        for end in 0..token.len() {
            assert_eq!(NegTokenInit::parse(&token[..end]), None, "{end}");
        }
        assert_eq!(NegTokenInit::parse(&[token, vec![0]].concat()), None);
        let token = response(NegState::AcceptIncomplete, Some(oid::NTLM), Some(&[7; 200]), Some(&[1; 16]));
        for end in 0..token.len() {
            assert_eq!(NegTokenResp::parse(&token[..end]), None, "{end}");
        }
        assert_eq!(NegTokenResp::parse(&[token, vec![0]].concat()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            NegTokenInit::parse(&bytes);
            NegTokenResp::parse(&bytes);
            for tag in [APPLICATION, RESPONSE] {
                bytes.insert(0, tag);
                NegTokenInit::parse(&bytes);
                NegTokenResp::parse(&bytes);
            }
        }

        #[test]
        fn a_damaged_token_is_read_or_refused(at in 0_usize..100, byte in any::<u8>()) {
            let mut token = init(&[KERBEROS, oid::NTLM], Some(b"NTLMSSP"));
            let length = token.len();
            token[at % length] = byte;
            NegTokenInit::parse(&token);
        }

        #[test]
        fn what_is_written_is_read(token in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let written = response(NegState::AcceptIncomplete, Some(oid::NTLM), Some(&token), None);
            prop_assert_eq!(NegTokenResp::parse(&written).unwrap().token, Some(&token[..]));
        }
    }
}
