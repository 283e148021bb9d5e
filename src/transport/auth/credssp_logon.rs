//! The logon of a connection by CredSSP.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use ring::rand::{SecureRandom, SystemRandom};
use tracing::info;

use crate::access::{self, Account, Principal};

use super::connection::{Admitted, Outcome, decode};
use super::credssp::{Acceptor, Channel, ChannelError, Concluded, CredSspRefusal, Proving, Record, Step};
use super::negotiate::{Facts, Refusal};
use super::ntlm::{NtHash, NtlmError};
use super::policy::{AuthPolicy, CredSspPolicy};
use super::scheme::Scheme;

/// How long a logon counts before the account is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

enum State {
    Anonymous,
    Handshaking(Acceptor, Instant),
    /// The inner logon was right, and the rest of the handshake is due.
    LoggingOn(Acceptor, Instant, Arc<Account>, NtHash),
    Established(Box<Established>),
}

struct Established {
    /// The account as it was last looked at: another hash, or none, ends the logon.
    account: Arc<Account>,
    hash: NtHash,
    looked: Instant,
    channel: Channel,
}

/// What is known of CredSSP on one connection.
pub(super) struct CredSspLogon {
    source: IpAddr,
    limit: Duration,
    state: Mutex<State>,
}

impl CredSspLogon {
    pub(super) const fn new(source: IpAddr, limit: Duration) -> Self {
        Self { source, limit, state: Mutex::new(State::Anonymous) }
    }

    /// Another scheme begins: nothing of this one stays.
    pub(super) fn forget(&self) {
        *self.lock() = State::Anonymous;
    }

    /// Takes a token.
    pub(super) async fn step(&self, policy: &AuthPolicy, credentials: &[u8]) -> Outcome {
        let before = std::mem::replace(&mut *self.lock(), State::Anonymous);
        let (Some(credssp), Some(token)) = (&policy.credssp, decode(credentials)) else { return refused(None) };
        let (step, begun, known) = match advance(before, credssp, &token, self.limit) {
            Ok(step) => step,
            Err((reason, known)) => {
                if let Some(name) = known {
                    policy.users.refused(&name, self.source, access::Scheme::CredSsp, &reason.to_string());
                } else {
                    info!(%reason, "Logon refused");
                }
                return refused(None);
            }
        };
        match (step, known) {
            (Step::Continue(answer, acceptor), None) => {
                *self.lock() = State::Handshaking(acceptor, begun);
                refused(Some(&answer))
            }
            (Step::Continue(answer, acceptor), Some((account, hash))) => {
                *self.lock() = State::LoggingOn(acceptor, begun, account, hash);
                refused(Some(&answer))
            }
            (Step::Prove(proving), _) => self.prove(policy, *proving, begun).await,
            (Step::Done(done), Some((account, hash))) => {
                policy.users.right_proof(&account.name, self.source, access::Scheme::CredSsp);
                let principal = self.principal(&account);
                let logon = Established { account, hash, looked: Instant::now(), channel: done.channel };
                *self.lock() = State::Established(Box::new(logon));
                Outcome::Authenticated(Admitted { principal, handshake_ended: true, token: None })
            }
            // Nothing is over before somebody has logged on.
            (Step::Done(_), None) => refused(None),
        }
    }

    async fn prove(&self, policy: &AuthPolicy, proving: Proving, begun: Instant) -> Outcome {
        let users = &policy.users;
        let name = proving.account().to_owned();
        if users.is_locked_out(&name, self.source) {
            return refused(None);
        }
        let account = users.ntlm_account(&name).await;
        match (proving.conclude(account.as_ref().map(|(_, hash)| hash)), account) {
            (Concluded::Continue(answer, acceptor), Some((account, hash))) => {
                *self.lock() = State::LoggingOn(acceptor, begun, account, hash);
                refused(Some(&answer))
            }
            // Without an account no proof is right.
            (Concluded::Continue(..), None) => refused(None),
            (Concluded::Refused(reason, told), _) => {
                if matches!(reason, CredSspRefusal::Negotiate(Refusal::Ntlm(NtlmError::WrongProof))) {
                    users.wrong_proof(&name, self.source, access::Scheme::CredSsp).await;
                } else {
                    users.refused(&name, self.source, access::Scheme::CredSsp, &reason.to_string());
                }
                refused(told.as_deref())
            }
        }
    }

    /// A request without `Authorization`: whoever logged on before on this connection. `None` when nobody did.
    pub(super) async fn resume(&self, policy: &AuthPolicy) -> Option<Principal> {
        let before = std::mem::replace(&mut *self.lock(), State::Anonymous);
        let State::Established(mut logon) = before else { return None };
        if logon.looked.elapsed() >= LOOK_EVERY {
            match policy.users.ntlm_account(&logon.account.name).await {
                // Role and scope are those of now.
                Some((account, hash)) if hash == logon.hash => logon.account = account,
                _ => {
                    let (name, reason) = (&logon.account.name, "the account was removed or its password changed");
                    policy.users.refused(name, self.source, access::Scheme::CredSsp, reason);
                    return None;
                }
            }
            logon.looked = Instant::now();
        }
        let principal = self.principal(&logon.account);
        *self.lock() = State::Established(logon);
        Some(principal)
    }

    /// Unseals the parts of a message and puts them together. `None` when nobody logged on.
    pub(super) fn unseal(&self, parts: &[Record]) -> Option<Result<Vec<u8>, ChannelError>> {
        self.with_channel(|channel| {
            let mut message = Vec::new();
            for part in parts {
                message.extend_from_slice(&channel.unseal(part)?);
            }
            Ok(message)
        })
    }

    /// Seals an answer; gives its parts and what they have behind their clear text.
    pub(super) fn seal(&self, message: &[u8]) -> Option<Result<(Vec<Record>, u32), ChannelError>> {
        self.with_channel(|channel| Ok((channel.seal(message)?, channel.trailer())))
    }

    /// A channel that failed once is out of step for ever, so the logon ends with it.
    fn with_channel<T>(
        &self,
        work: impl FnOnce(&mut Channel) -> Result<T, ChannelError>,
    ) -> Option<Result<T, ChannelError>> {
        let mut state = self.lock();
        let State::Established(logon) = &mut *state else { return None };
        let done = work(&mut logon.channel);
        if done.is_err() {
            *state = State::Anonymous;
        }
        Some(done)
    }

    fn principal(&self, account: &Arc<Account>) -> Principal {
        Principal::new(Arc::clone(account), access::Scheme::CredSsp, self.source)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 401, with a token for the client or without.
fn refused(token: Option<&[u8]>) -> Outcome {
    let challenge: HeaderValue = match token {
        // An empty token would be no token to most clients.
        Some(token) if !token.is_empty() => Scheme::CredSsp.token(token),
        _ => Scheme::CredSsp.challenge(),
    };
    Outcome::Challenge(vec![challenge])
}

type Advanced = (Step, Instant, Option<(Arc<Account>, NtHash)>);

/// One step of the handshake; on an error the name of whoever had logged on inside. A record of TLS that begins a
/// handshake begins a new one in any state.
fn advance(
    before: State,
    policy: &CredSspPolicy,
    token: &[u8],
    limit: Duration,
) -> Result<Advanced, (CredSspRefusal, Option<String>)> {
    let mut server_challenge = [0; 8];
    let random = SystemRandom::new().fill(&mut server_challenge);
    random.map_err(|ring::error::Unspecified| (CredSspRefusal::Negotiate(Refusal::NoRandom), None))?;
    let negotiate = &policy.negotiate;
    let facts = Facts { server_challenge, filetime: negotiate.filetime(), names: &negotiate.names };
    let (acceptor, begun, known) = match before {
        _ if is_client_hello(token) => {
            let (config, key) = policy.identity.inner();
            let acceptor = Acceptor::new(config, key, policy.oldest_version).map_err(|reason| (reason, None))?;
            (acceptor, Instant::now(), None)
        }
        State::Handshaking(acceptor, begun) => (acceptor, begun, None),
        State::LoggingOn(acceptor, begun, account, hash) => (acceptor, begun, Some((account, hash))),
        State::Anonymous | State::Established(_) => return Err((CredSspRefusal::Message, None)),
    };
    let name = known.as_ref().map(|(account, _)| account.name.to_string());
    if begun.elapsed() > limit {
        return Err((CredSspRefusal::TooLong, name));
    }
    match acceptor.step(token, &facts) {
        Ok(step) => Ok((step, begun, known)),
        Err(reason) => Err((reason, name)),
    }
}

/// A handshake record with a `ClientHello`.
fn is_client_hello(token: &[u8]) -> bool {
    matches!(token, [22, 3, _, _, _, 1, ..])
}
