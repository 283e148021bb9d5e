//! Basic (RFC 7617, `authentication.md` §3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use std::sync::Arc;

use crate::access::Account;

/// What came of a user name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They belong together.
    Accepted(Arc<Account>),
    /// They do not, or they cannot be read.
    Refused,
    /// Too many passwords wait to be checked.
    Busy,
}

/// A decoded user name and password. The password is wiped when it is dropped.
pub(super) struct Credentials {
    text: Zeroizing<String>,
    colon: usize,
}

impl Credentials {
    /// Decodes `base64(user ":" password)`. The password may hold further colons.
    pub(super) fn decode(encoded: &[u8]) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(encoded).ok()?);
        let text = Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned());
        let colon = text.find(':')?;
        Some(Self { text, colon })
    }

    /// The account that is meant by `user`, `DOMAIN\user`, `.\user` and `user@realm`: this host knows
    /// local accounts only, so what stands around the name is not looked at.
    pub(super) fn account(&self) -> &str {
        let user = self.text.split_at(self.colon).0;
        let user = user.rsplit_once('\\').map_or(user, |(_, user)| user);
        user.split_once('@').map_or(user, |(user, _)| user)
    }

    pub(super) fn password(&self) -> &[u8] {
        self.text.as_bytes().split_at(self.colon).1.get(1..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_and_password_are_taken_apart() {
        for (text, account, password) in [
            ("admin:secret", "admin", "secret"),
            ("admin:se:cr:et", "admin", "se:cr:et"),
            ("admin:", "admin", ""),
            ("WORKGROUP\\admin:x", "admin", "x"),
            (".\\admin:x", "admin", "x"),
            ("admin@example.test:x@y", "admin", "x@y"),
            ("jörg:pässwörd", "jörg", "pässwörd"),
        ] {
            let credentials = Credentials::decode(STANDARD.encode(text).as_bytes()).unwrap();
            assert_eq!((credentials.account(), credentials.password()), (account, password.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        for encoded in [&b"YWRtaW4="[..], b"%%%", b"", b"/////w=="] {
            assert!(Credentials::decode(encoded).is_none());
        }
    }
}
