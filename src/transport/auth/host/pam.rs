//! Linux-PAM.
//!
//! What PAM is handed is a copy of the password that it wipes by its own rules; our own copy is wiped here.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;

use nonstick::conv::Exchange;
use nonstick::items::ItemsMut;
use nonstick::{AuthnFlags, Conversation, ErrorCode, PamShared, Transaction, TransactionBuilder};
use zeroize::Zeroizing;

use super::{HostPasswords, HostVerdict};

/// A service of PAM, as its file is named in `/etc/pam.d`.
#[derive(Debug)]
pub struct PamService {
    name: String,
}

impl PamService {
    /// The service of a name, which has no NUL.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    fn transact(&self, user: &str, password: &[u8], source: IpAddr) -> Result<(), (Stage, ErrorCode)> {
        let flags = AuthnFlags::SILENT | AuthnFlags::DISALLOW_NULL_AUTHTOK;
        let builder = TransactionBuilder::new_with_service(&self.name).username(user);
        let mut transaction =
            builder.build(Answers(Zeroizing::new(password.to_vec()))).map_err(|error| (Stage::Start, error))?;
        let source = source.to_string();
        let told = transaction.items_mut().set_remote_host(Some(OsStr::new(&source)));
        told.map_err(|error| (Stage::Start, error))?;
        transaction.authenticate(flags).map_err(|error| (Stage::Authenticate, error))?;
        transaction.account_management(flags).map_err(|error| (Stage::Account, error))
    }
}

/// What was asked of PAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Start,
    Authenticate,
    Account,
}

impl HostPasswords for PamService {
    fn check(&self, user: &str, password: &[u8], source: IpAddr) -> HostVerdict {
        // A NUL would end what PAM reads, and no password at all is none.
        if password.is_empty() || password.contains(&0) || user.contains('\0') {
            return HostVerdict::Wrong;
        }
        if self.name.contains('\0') {
            return HostVerdict::Unavailable("no service of PAM has such a name".to_owned());
        }
        match self.transact(user, password, source) {
            Ok(()) => HostVerdict::Right,
            Err((stage, error)) => verdict(stage, error),
        }
    }
}

fn verdict(stage: Stage, error: ErrorCode) -> HostVerdict {
    match (stage, error) {
        (
            Stage::Authenticate,
            ErrorCode::AuthenticationError
            | ErrorCode::UserUnknown
            | ErrorCode::PermissionDenied
            | ErrorCode::MaxTries
            | ErrorCode::CredentialsInsufficient,
        ) => HostVerdict::Wrong,
        (
            Stage::Authenticate | Stage::Account,
            ErrorCode::AccountExpired
            | ErrorCode::NewAuthTokRequired
            | ErrorCode::AuthTokExpired
            | ErrorCode::CredentialsExpired
            | ErrorCode::PermissionDenied
            | ErrorCode::AuthenticationError
            | ErrorCode::UserUnknown,
        ) => HostVerdict::Denied(format!("the host does not let the account log on: {error:?}")),
        _ => HostVerdict::Unavailable(format!("PAM ({stage:?}): {error:?}")),
    }
}

/// Answers each question for a secret with the password.
struct Answers(Zeroizing<Vec<u8>>);

impl Conversation for Answers {
    fn communicate(&self, messages: &[Exchange<'_>]) {
        for message in messages {
            match message {
                Exchange::MaskedPrompt(question) => question.set_answer(Ok(OsString::from_vec(self.0.to_vec()))),
                Exchange::Info(text) => text.set_answer(Ok(())),
                Exchange::Error(text) => text.set_answer(Ok(())),
                // The name was given, and nobody is there to answer anything else.
                other => other.set_error(ErrorCode::ConversationError),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_says_is_told_apart() {
        for (stage, error, right) in [
            (Stage::Authenticate, ErrorCode::AuthenticationError, "wrong"),
            (Stage::Authenticate, ErrorCode::UserUnknown, "wrong"),
            (Stage::Authenticate, ErrorCode::AccountExpired, "denied"),
            (Stage::Account, ErrorCode::AccountExpired, "denied"),
            (Stage::Account, ErrorCode::PermissionDenied, "denied"),
            (Stage::Authenticate, ErrorCode::AuthInfoUnavailable, "unavailable"),
            (Stage::Account, ErrorCode::SystemError, "unavailable"),
            (Stage::Start, ErrorCode::PermissionDenied, "unavailable"),
        ] {
            let word = match verdict(stage, error) {
                HostVerdict::Right => "right",
                HostVerdict::Wrong => "wrong",
                HostVerdict::Denied(_) => "denied",
                HostVerdict::Unavailable(_) => "unavailable",
            };
            assert_eq!(word, right, "{stage:?} {error:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_password_is_asked_of_nobody() {
        let service = PamService::new("wsnapd-test-without-a-file");
        let source = IpAddr::from([127, 0, 0, 1]);
        for (user, password) in [("alice", &b""[..]), ("alice", b"a\0b"), ("a\0b", b"x")] {
            assert_eq!(service.check(user, password, source), HostVerdict::Wrong);
        }
    }
}
