//! The logon of a connection by the certificate of its client.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::access::{Account, Scheme};

use super::certificate::{CertificateNames, CertificateRefusal, ClientCertificate};
use super::policy::AuthPolicy;

/// How long a logon counts before certificate and account are looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known of the certificate of a connection.
pub(super) struct CertificateLogon {
    certificate: Option<ClientCertificate>,
    source: IpAddr,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
enum State {
    /// Nobody asked yet.
    #[default]
    Silent,
    /// A request did not ask for it, and that was recorded.
    Ignored,
    /// It logged on, and was last looked at then.
    LoggedOn(Arc<Account>, Instant),
}

impl CertificateLogon {
    pub(super) const fn new(certificate: Option<ClientCertificate>, source: IpAddr) -> Self {
        Self { certificate, source, state: Mutex::new(State::Silent) }
    }

    /// The account of a request that asks to be taken for the owner of the certificate; `None` when it is refused,
    /// which is then recorded. The answer to a wrong certificate may come late.
    pub(super) async fn account(&self, policy: &AuthPolicy) -> Option<Arc<Account>> {
        let users = &policy.users;
        let state = self.set(State::Silent);
        let Some(certificate) = &self.certificate else {
            users.refused("", self.source, Scheme::Certificate, "the client has shown no certificate");
            return None;
        };
        let before = match state {
            State::LoggedOn(account, looked) if looked.elapsed() < LOOK_EVERY => {
                self.set(State::LoggedOn(Arc::clone(&account), looked));
                return Some(account);
            }
            State::LoggedOn(account, _) => Some(account),
            State::Silent | State::Ignored => None,
        };
        let names = certificate.names().unwrap_or_default();
        let claimed = names.claimed();
        if users.is_locked_out(&claimed, self.source, Scheme::Certificate) {
            return None;
        }
        match find(policy, certificate, names).await {
            Ok(account) => {
                if before.is_none_or(|before| before.name != account.name) {
                    users.right_proof(&account.name, self.source, Scheme::Certificate);
                }
                self.set(State::LoggedOn(Arc::clone(&account), Instant::now()));
                Some(account)
            }
            Err(reason) => {
                users.failed(&claimed, self.source, Scheme::Certificate, &reason.to_string()).await;
                None
            }
        }
    }

    /// Records, once, that a request came without credentials although there is a certificate.
    pub(super) fn ignored(&self, policy: &AuthPolicy) {
        let Some(certificate) = self.certificate.as_ref().filter(|_| policy.certificate) else { return };
        if matches!(self.state(), State::Silent) {
            self.set(State::Ignored);
            let claimed = certificate.names().unwrap_or_default().claimed();
            let reason = "a certificate, and no Authorization header that asks for it";
            policy.users.refused(&claimed, self.source, Scheme::Certificate, reason);
        }
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) -> State {
        std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), state)
    }
}

async fn find(
    policy: &AuthPolicy,
    certificate: &ClientCertificate,
    names: CertificateNames,
) -> Result<Arc<Account>, CertificateRefusal> {
    certificate.judge()?;
    if names == CertificateNames::default() {
        return Err(CertificateRefusal::Malformed);
    }
    policy.users.account_of_certificate(names.issued_by(certificate.issuers())).await
}
