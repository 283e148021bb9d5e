//! Passwords that the host checks: PAM, for Basic.
//!
//! The keeper of passwords knows only [`HostPasswords`]. The one that serves is `PamService`, on Linux-PAM and with
//! the feature `pam`; tests bring their own.

#[cfg(feature = "pam")]
mod pam;
mod pool;

use std::net::IpAddr;

#[cfg(feature = "pam")]
pub use pam::PamService;

pub(super) use pool::{HostJob, HostPool};

/// Checks the passwords of accounts of the host.
pub trait HostPasswords: Send + Sync {
    /// Asks whether `user` may log on with `password` from `source`. May block for seconds.
    fn check(&self, user: &str, password: &[u8], source: IpAddr) -> HostVerdict;
}

/// What the host says of a user and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostVerdict {
    /// They belong together, and the user may log on.
    Right,
    /// They do not belong together.
    Wrong,
    /// They may belong together, but the user may not log on now; why.
    Denied(String),
    /// Nobody can tell now; why.
    Unavailable(String),
}
