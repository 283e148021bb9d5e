//! Accounts, and those that have logged on.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use smol_str::SmolStr;

use super::Scope;

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Look at everything in its scope.
    Reader,
    /// Take snapshots as well.
    Operator,
    /// Everything: apply, destroy, configure.
    Administrator,
}

impl Role {
    /// All of them, the one that may least first.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Operator, Self::Administrator];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }

    /// Whether it has a right. Execute opens methods to everybody, because many of them only tell something; what
    /// a method changes is decided by the engine.
    #[must_use]
    pub fn has(self, right: Right) -> bool {
        match right {
            Right::Read | Right::Execute => true,
            Right::Write => self == Self::Administrator,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or(UnknownRole)
    }
}

/// A word that is no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is reader, operator or administrator")]
pub struct UnknownRole;

/// The rights of WinRM (`ws-management.md` §16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// GR: Get, Enumerate, Pull, Release, Subscribe, Unsubscribe.
    Read,
    /// GW: Put, Create, Delete.
    Write,
    /// GX: every other action, which is a method.
    Execute,
}

/// Somebody who may log on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name, as it was given when it was made.
    pub name: SmolStr,
    /// What it may do.
    pub role: Role,
    /// To what; `None` for everything.
    pub scope: Option<Arc<Scope>>,
}

/// Knows accounts by name.
pub trait Accounts: Send + Sync {
    /// The account as it is now; `None` when it is there no more. Returns at once.
    fn account(&self, name: &str) -> Option<Arc<Account>>;
}

/// How somebody logged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Basic.
    Basic,
    /// NTLM, under Negotiate or by itself.
    Ntlm,
    /// Kerberos, under Negotiate or by itself.
    Kerberos,
    /// Negotiate, as long as it is not known which of both.
    Negotiate,
    /// CredSSP.
    CredSsp,
    /// A client certificate.
    Certificate,
    /// None that is known.
    Unknown,
    /// Not at all: the server itself.
    Local,
}

impl Scheme {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Ntlm => "ntlm",
            Self::Kerberos => "kerberos",
            Self::Negotiate => "negotiate",
            Self::CredSsp => "credssp",
            Self::Certificate => "certificate",
            Self::Unknown => "unknown",
            Self::Local => "local",
        }
    }
}

/// Who asks: made by the transport once the connection is authenticated, and in no other way.
///
/// Principals are equal when their accounts are, wherever they logged on.
#[derive(Clone, Debug)]
pub struct Principal {
    account: Arc<Account>,
    scheme: Scheme,
    source: Option<IpAddr>,
}

impl Principal {
    /// An account whose credentials were proved by `scheme` from `source`.
    #[must_use]
    pub const fn new(account: Arc<Account>, scheme: Scheme, source: IpAddr) -> Self {
        Self { account, scheme, source: Some(source) }
    }

    /// Somebody on this host who may do everything: the server itself, and tests.
    #[must_use]
    pub fn local(name: &str) -> Self {
        let account = Account { name: SmolStr::new(name), role: Role::Administrator, scope: None };
        Self { account: Arc::new(account), scheme: Scheme::Local, source: None }
    }

    /// The account name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.account.name
    }

    /// The account.
    #[must_use]
    pub const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// How it logged on.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Where it logged on from.
    #[must_use]
    pub const fn source(&self) -> Option<IpAddr> {
        self.source
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.account, &other.account) || self.account == other.account
    }
}

impl Eq for Principal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_the_rights_of_winrm() {
        use Right::{Execute, Read, Write};
        for (role, right, has) in [
            (Role::Reader, Read, true),
            (Role::Reader, Write, false),
            (Role::Reader, Execute, true),
            (Role::Operator, Read, true),
            (Role::Operator, Write, false),
            (Role::Operator, Execute, true),
            (Role::Administrator, Read, true),
            (Role::Administrator, Write, true),
            (Role::Administrator, Execute, true),
        ] {
            assert_eq!(role.has(right), has, "{role} {right:?}");
        }
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert_eq!("Reader".parse::<Role>(), Err(UnknownRole));
        assert!(Role::Reader < Role::Operator && Role::Operator < Role::Administrator);
    }

    #[test]
    fn principals_are_equal_wherever_they_come_from() {
        let account = Account { name: "alice".into(), role: Role::Reader, scope: None };
        let at = |last| Principal::new(Arc::new(account.clone()), Scheme::Basic, [192, 0, 2, last].into());
        assert_eq!(at(1), at(2));
        assert_ne!(at(1), Principal::local("alice"), "another role is another account");
    }
}
