//! The record of logons, refusals and changes.

use std::net::IpAddr;

use super::{Principal, Scheme};

/// What kind of thing was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditEvent {
    /// Somebody tried to log on.
    Logon,
    /// Somebody who had logged on tried to change something.
    Change,
    /// A request of somebody who had logged on was refused before it came to anything.
    Request,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditOutcome {
    /// It is done.
    Done,
    /// A job does it.
    Started,
    /// It was not permitted.
    Refused,
    /// It was permitted and did not succeed.
    Failed,
    /// Nobody waited for the end of it; it may have been done.
    Unknown,
}

impl AuditOutcome {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Started => "started",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// One line of the record. It never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord<'a> {
    /// What kind of thing it was.
    pub event: AuditEvent,
    /// The account; for a logon that failed, the name that was claimed.
    pub user: &'a str,
    /// Where the user is; `None` for the server itself.
    pub source: Option<IpAddr>,
    /// How the user logged on, or tried to.
    pub scheme: Scheme,
    /// The word for what was to be done.
    pub action: &'a str,
    /// Kind, identity and name of what it was to be done to.
    pub object: Option<(&'static str, String, String)>,
    /// What became of it.
    pub outcome: AuditOutcome,
    /// Why it was refused or failed.
    pub reason: Option<String>,
    /// The identity of the job that does it.
    pub job: Option<String>,
}

impl<'a> AuditRecord<'a> {
    /// A logon, or an attempt.
    #[must_use]
    pub const fn logon(user: &'a str, source: IpAddr, scheme: Scheme, outcome: AuditOutcome) -> Self {
        let (event, action) = (AuditEvent::Logon, "logon");
        Self { event, user, source: Some(source), scheme, action, object: None, outcome, reason: None, job: None }
    }

    /// A request that was refused for want of a right, or because it meant what is somebody else's.
    #[must_use]
    pub fn refused_request(user: &'a Principal, action: &'a str, reason: &str) -> Self {
        let record = Self::change(user, action, AuditOutcome::Refused);
        Self { event: AuditEvent::Request, reason: Some(reason.to_owned()), ..record }
    }

    /// A change, or an attempt.
    #[must_use]
    pub fn change(user: &'a Principal, action: &'a str, outcome: AuditOutcome) -> Self {
        let (event, source, scheme) = (AuditEvent::Change, user.source(), user.scheme());
        Self { event, user: user.name(), source, scheme, action, object: None, outcome, reason: None, job: None }
    }
}

/// Keeps the record.
pub trait AuditTrail: Send + Sync {
    /// Whether changes may go on: false when the last line could not be written, still cannot, and changes need one.
    fn is_ready(&self) -> bool;

    /// Writes one line. What cannot be written is reported by the trail itself.
    fn write(&self, record: &AuditRecord<'_>);
}

/// No record is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAudit;

impl AuditTrail for NoAudit {
    fn is_ready(&self) -> bool {
        true
    }

    fn write(&self, _: &AuditRecord<'_>) {}
}
