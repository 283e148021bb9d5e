//! Who is asking (`authentication.md`).
//!
//! A scheme is one file in this directory and one arm in `ConnectionAuth::authenticate`. State
//! that belongs to the connection (a handshake, a security context that seals messages) lives in
//! `ConnectionAuth`, of which every connection has its own; what all connections share is in
//! [`AuthPolicy`].

mod basic;
mod keeper;
mod users;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};

use crate::cimom::Principal;

pub use keeper::{KeeperError, PasswordKeeper};
pub use users::{User, UserNameError, UsersError, UsersFile, hash_password};

/// Which schemes are offered, and what they need.
#[derive(Clone, Debug)]
pub struct AuthPolicy {
    /// The accounts.
    pub users: PasswordKeeper,
    /// `Auth/Basic`.
    pub basic: bool,
    /// `AllowUnencrypted`: envelopes and Basic credentials may cross plain HTTP.
    pub allow_unencrypted: bool,
}

/// What protects the envelopes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confidentiality {
    /// TLS protects the connection; envelopes travel as they are.
    Tls,
    /// Plain HTTP, and `AllowUnencrypted` says that this is wanted.
    ClearAllowed,
    /// Plain HTTP: only Identify is answered until a scheme seals the messages.
    None,
}

/// An authentication scheme, in the order in which a 401 lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Basic,
}

impl Scheme {
    const ALL: [Self; 1] = [Self::Basic];

    const fn word(self) -> &'static str {
        match self {
            Self::Basic => "Basic",
        }
    }

    /// The scheme of an `Authorization` value and the credentials after it.
    fn split(value: &[u8]) -> Option<(Self, &[u8])> {
        let end = value.iter().position(|byte| *byte == b' ')?;
        let (word, credentials) = value.split_at(end);
        let scheme = Self::ALL.into_iter().find(|scheme| word.eq_ignore_ascii_case(scheme.word().as_bytes()))?;
        Some((scheme, credentials.trim_ascii()))
    }

    const fn challenge(self) -> HeaderValue {
        match self {
            Self::Basic => HeaderValue::from_static("Basic realm=\"WSMAN\""),
        }
    }
}

/// What authentication makes of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The request comes from this user.
    Authenticated(Principal),
    /// 401 with these `WWW-Authenticate` values; the connection stays open.
    Challenge(Vec<HeaderValue>),
    /// 403: no credentials could ever be accepted on this connection.
    Forbidden,
    /// 503: too many passwords wait to be checked.
    Busy,
}

/// The authentication state of one connection.
#[derive(Debug)]
pub(super) struct ConnectionAuth {
    confidentiality: Confidentiality,
}

impl ConnectionAuth {
    pub(super) const fn new(tls: bool, policy: &AuthPolicy) -> Self {
        let confidentiality = match (tls, policy.allow_unencrypted) {
            (true, _) => Confidentiality::Tls,
            (false, true) => Confidentiality::ClearAllowed,
            (false, false) => Confidentiality::None,
        };
        Self { confidentiality }
    }

    /// Authenticates one request by its head.
    pub(super) async fn authenticate(&self, policy: &AuthPolicy, headers: &HeaderMap) -> Outcome {
        let credentials = headers.get(AUTHORIZATION).and_then(|value| Scheme::split(value.as_bytes()));
        match credentials {
            Some((scheme, credentials)) if self.offers(policy, scheme) => match scheme {
                Scheme::Basic => match basic::verify(&policy.users, credentials).await {
                    basic::Verdict::Accepted(principal) => Outcome::Authenticated(principal),
                    basic::Verdict::Refused => self.challenge(policy),
                    basic::Verdict::Busy => Outcome::Busy,
                },
            },
            _ => self.challenge(policy),
        }
    }

    /// The offer to a request without accepted credentials.
    pub(super) fn challenge(&self, policy: &AuthPolicy) -> Outcome {
        let offer: Vec<HeaderValue> =
            Scheme::ALL.into_iter().filter(|scheme| self.offers(policy, *scheme)).map(Scheme::challenge).collect();
        if offer.is_empty() { Outcome::Forbidden } else { Outcome::Challenge(offer) }
    }

    /// Whether a scheme may be used on this connection. Basic shows the password, so it needs
    /// something around it.
    const fn offers(&self, policy: &AuthPolicy, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Basic => policy.basic && !matches!(self.confidentiality, Confidentiality::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_word_is_split_off() {
        assert_eq!(Scheme::split(b"Basic YQ=="), Some((Scheme::Basic, &b"YQ=="[..])));
        assert_eq!(Scheme::split(b"bASIC  YQ== "), Some((Scheme::Basic, &b"YQ=="[..])));
        assert_eq!(Scheme::split(b"Basic"), None);
        assert_eq!(Scheme::split(b"Bearer YQ=="), None);
        assert_eq!(Scheme::split(b""), None);
    }
}
