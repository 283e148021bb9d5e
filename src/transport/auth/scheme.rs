//! The words of `Authorization` and `WWW-Authenticate`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;

use crate::access;

/// The profile in which the certificate of a TLS connection logs on (DSP0226 §C.3.6); it stands alone, without
/// credentials.
const CERTIFICATE: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual";

/// An authentication scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Negotiate,
    Kerberos,
    /// Raw NTLM under its own name, as `curl --ntlm` sends it. Taken but never offered: some clients
    /// would prefer it and lose the sealing of messages (`authentication.md` §1).
    Ntlm,
    Basic,
    /// A logon inside of TLS inside of headers, with which the client hands over its password.
    CredSsp,
    /// The certificate of the client's TLS connection. Not offered: clients that have one know what to send.
    Certificate,
}

impl Scheme {
    /// Those that credentials stand behind.
    const ALL: [Self; 5] = [Self::Negotiate, Self::Kerberos, Self::Ntlm, Self::CredSsp, Self::Basic];

    /// What a 401 lists, in its order.
    pub(super) const OFFERED: [Self; 4] = [Self::Negotiate, Self::Kerberos, Self::CredSsp, Self::Basic];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Negotiate => "Negotiate",
            Self::Kerberos => "Kerberos",
            Self::Ntlm => "NTLM",
            Self::Basic => "Basic",
            Self::CredSsp => "CredSSP",
            Self::Certificate => CERTIFICATE,
        }
    }

    /// What a logon that did not come to its end is recorded as.
    pub(super) const fn recorded(self) -> access::Scheme {
        match self {
            Self::Negotiate => access::Scheme::Negotiate,
            Self::Kerberos => access::Scheme::Kerberos,
            Self::Ntlm => access::Scheme::Ntlm,
            Self::Basic => access::Scheme::Basic,
            Self::CredSsp => access::Scheme::CredSsp,
            Self::Certificate => access::Scheme::Certificate,
        }
    }

    /// The scheme of an `Authorization` value and the credentials after it.
    pub(super) fn split(value: &[u8]) -> Option<(Self, &[u8])> {
        if value.trim_ascii().eq_ignore_ascii_case(CERTIFICATE.as_bytes()) {
            return Some((Self::Certificate, &[]));
        }
        let end = value.iter().position(|byte| *byte == b' ')?;
        let (word, credentials) = value.split_at(end);
        let scheme = Self::ALL.into_iter().find(|scheme| word.eq_ignore_ascii_case(scheme.word().as_bytes()))?;
        Some((scheme, credentials.trim_ascii()))
    }

    pub(super) const fn challenge(self) -> HeaderValue {
        match self {
            Self::Negotiate => HeaderValue::from_static("Negotiate"),
            Self::Kerberos => HeaderValue::from_static("Kerberos"),
            Self::Ntlm => HeaderValue::from_static("NTLM"),
            Self::Basic => HeaderValue::from_static("Basic realm=\"WSMAN\""),
            Self::CredSsp => HeaderValue::from_static("CredSSP"),
            Self::Certificate => HeaderValue::from_static(CERTIFICATE),
        }
    }

    /// A token for the client, in base64, under the word the client used.
    pub(super) fn token(self, token: &[u8]) -> HeaderValue {
        let value = format!("{} {}", self.word(), STANDARD.encode(token));
        // Base64 is made of letters, digits, `+`, `/` and `=`, all of which a header may hold.
        HeaderValue::from_str(&value).unwrap_or_else(|_| self.challenge())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_word_is_split_off() {
        assert_eq!(Scheme::split(b"Basic YQ=="), Some((Scheme::Basic, &b"YQ=="[..])));
        assert_eq!(Scheme::split(b"bASIC  YQ== "), Some((Scheme::Basic, &b"YQ=="[..])));
        assert_eq!(Scheme::split(b"negotiate YQ=="), Some((Scheme::Negotiate, &b"YQ=="[..])));
        assert_eq!(Scheme::split(b"Kerberos YQ=="), Some((Scheme::Kerberos, &b"YQ=="[..])));
        assert_eq!(Scheme::split(b"NTLM YQ=="), Some((Scheme::Ntlm, &b"YQ=="[..])));
        assert_eq!(Scheme::split(CERTIFICATE.as_bytes()), Some((Scheme::Certificate, &b""[..])));
        assert_eq!(Scheme::split(format!("{CERTIFICATE} YQ==").as_bytes()), None);
        assert_eq!(Scheme::split(b"Basic"), None);
        assert_eq!(Scheme::split(b"Bearer YQ=="), None);
        assert_eq!(Scheme::split(b""), None);
    }

    #[test]
    fn a_token_goes_out_under_its_word() {
        assert_eq!(Scheme::Ntlm.token(b"abc"), "NTLM YWJj");
        assert_eq!(Scheme::Negotiate.token(&[0xff; 300]).len(), 10 + 400);
    }
}
