//! How a command fails: exit code, message, and what to do about it.

use std::error::Error;
use std::fmt;

use crate::app::AppError;
use crate::client::ClientError;

/// The end of a command that did not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// The kinds of failures. Code 2 is clap's, for a command line that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 1: refused by the server, or failed.
    Failed,
    /// 3: the server cannot be reached or is not trusted.
    Unreachable,
    /// 4: user name or password is wrong.
    Unauthorized,
    /// 5: what was named does not exist, or the name fits several.
    NotFound,
}

impl Failure {
    /// Refused or failed.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into(), hint: None }
    }

    /// What was named does not exist, or the name fits several.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { kind: Kind::NotFound, message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error with its causes.
    #[must_use]
    pub fn from_error(error: &dyn Error) -> Self {
        Self::failed(chain(error))
    }

    /// The exit code of the process.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Unreachable => 3,
            Kind::Unauthorized => 4,
            Kind::NotFound => 5,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        Self::from_error(&error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (kind, hint) = match &error {
            ClientError::Connect(..) => {
                (Kind::Unreachable, "Is the server running, and is --url its address? `wsnapd serve` starts it.")
            }
            ClientError::Tls(..) => (
                Kind::Unreachable,
                "Give the server's certificate with --ca (on the server, `wsnapd cert export --pem FILE` writes it), \
                 and a host name in --url for which it was made (`wsnapd cert show`).",
            ),
            ClientError::Unauthorized => (Kind::Unauthorized, "Check --user and --password-file."),
            ClientError::Forbidden => {
                (Kind::Unauthorized, "Use the https:// address, or set AllowUnencrypted in the server's configuration.")
            }
            ClientError::Status(503) => (Kind::Unreachable, "The server has too many connections, or is stopping."),
            _ => (Kind::Failed, ""),
        };
        let hint = Some(hint.to_owned()).filter(|hint| !hint.is_empty());
        Self { kind, message: chain(&error), hint }
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
