//! Which schemes are offered, and what they need.

use std::fmt;
use std::sync::Arc;

use crate::time::{Clock, Timestamp};
use crate::transport::tls::TlsIdentity;

use super::keeper::PasswordKeeper;
use super::ntlm::ServerNames;

/// Which schemes are offered, and what they need.
#[derive(Clone, Debug)]
pub struct AuthPolicy {
    /// The accounts.
    pub users: PasswordKeeper,
    /// `Auth/Basic`.
    pub basic: bool,
    /// `AllowUnencrypted`: envelopes and Basic credentials may cross plain HTTP.
    pub allow_unencrypted: bool,
    /// `Auth/Negotiate`; `None` switches it off. It is offered only while a user may use NTLM.
    pub negotiate: Option<NegotiatePolicy>,
    /// `Auth/Certificate`: certificates of clients may log on over HTTPS.
    pub certificate: bool,
    /// `Auth/CredSSP`; `None` switches it off. It is offered only while a user may use NTLM.
    pub credssp: Option<CredSspPolicy>,
}

/// `Auth/CbtHardeningLevel`: what is asked of logons over TLS (`authentication.md` §8). On plain HTTP
/// there is nothing to bind to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBindingPolicy {
    /// Bindings are not looked at; for servers behind a proxy that ends TLS.
    None,
    /// A client that sends a binding must have sent the right one.
    #[default]
    Relaxed,
    /// Every client must send the right one.
    Strict,
}

/// What Negotiate needs.
#[derive(Clone)]
pub struct NegotiatePolicy {
    pub(super) names: ServerNames,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) channel_binding: ChannelBindingPolicy,
}

/// What CredSSP needs.
#[derive(Clone, Debug)]
pub struct CredSspPolicy {
    /// For the logon inside.
    pub negotiate: NegotiatePolicy,
    /// The certificate of the inner TLS connection, which need not be trusted by anybody.
    pub identity: Arc<TlsIdentity>,
    /// The oldest version of clients that are taken, from 2; below 5 a logon can be relayed (CVE-2018-0886).
    pub oldest_version: u32,
}

impl NegotiatePolicy {
    /// Negotiate for a host of this name.
    #[must_use]
    pub fn new(host: &str, clock: Arc<dyn Clock>, channel_binding: ChannelBindingPolicy) -> Self {
        Self { names: ServerNames::of(host), clock, channel_binding }
    }

    pub(super) fn filetime(&self) -> u64 {
        filetime(self.clock.now())
    }
}

impl fmt::Debug for NegotiatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NegotiatePolicy").field("channel_binding", &self.channel_binding).finish_non_exhaustive()
    }
}

/// Ticks of 100 ns since 1601; 0 for a clock that stands before that.
fn filetime(time: Timestamp) -> u64 {
    const SECONDS_TO_1970: i64 = 11_644_473_600;
    let seconds = u64::try_from(time.timestamp().saturating_add(SECONDS_TO_1970)).unwrap_or(0);
    seconds.saturating_mul(10_000_000).saturating_add(u64::from(time.timestamp_subsec_nanos() / 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_times_count_from_1601() {
        for (text, ticks) in [
            ("1601-01-01T00:00:00Z", 0),
            ("1500-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.0000001Z", 116_444_736_000_000_001),
            ("2026-11-20T23:43:45Z", 134_396_918_250_000_000),
        ] {
            assert_eq!(filetime(text.parse().unwrap()), ticks, "{text}");
        }
    }
}
