//! The logon of a connection by CredSSP.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use ring::rand::{SecureRandom, SystemRandom};

use crate::access::{self, Account, Principal};

use super::connection::{Admitted, Outcome, Proof, UNREADABLE, decode, open};
use super::credssp::{
    Accepting, Acceptor, Admitting, Channel, ChannelError, Concluded, CredSspRefusal, Proving, Record, Step,
};
use super::kerberos::TicketFault;
use super::negotiate::{Facts, NtlmFacts, Refusal};
use super::ntlm::NtlmError;
use super::policy::{AuthPolicy, CredSspPolicy};
use super::scheme::Scheme;

enum State {
    Anonymous,
    Handshaking(Acceptor, Instant),
    /// The inner logon was right, and the rest of the handshake is due.
    LoggingOn(Acceptor, Instant, Known),
    Established(Box<Established>),
}

struct Established {
    /// The account as it was last looked at.
    known: Known,
    looked: Instant,
    channel: Channel,
}

/// Whose logon it is, and what it stands on.
struct Known {
    account: Arc<Account>,
    proof: Proof,
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
        let Some(credssp) = &policy.credssp else { return refused(None) };
        let Some(token) = decode(credentials) else {
            policy.users.refused_unnamed(self.source, access::Scheme::CredSsp, UNREADABLE);
            return refused(None);
        };
        let kerberos = policy.kerberos.is_some();
        let ntlm = !kerberos || policy.users.anyone_may_use_ntlm().await;
        let (step, begun, known) = match advance(before, credssp, &token, self.limit, (ntlm, kerberos)) {
            Ok(step) => step,
            Err((reason, known)) => {
                if let Some(name) = known {
                    policy.users.refused(&name, self.source, access::Scheme::CredSsp, &reason.to_string());
                } else {
                    policy.users.refused_unnamed(self.source, access::Scheme::CredSsp, &reason.to_string());
                }
                return refused(None);
            }
        };
        self.proceed(policy, step, begun, known).await
    }

    async fn proceed(&self, policy: &AuthPolicy, step: Step, begun: Instant, known: Option<Known>) -> Outcome {
        match (step, known) {
            (Step::Continue(answer, acceptor), None) => {
                *self.lock() = State::Handshaking(acceptor, begun);
                refused(Some(&answer))
            }
            (Step::Continue(answer, acceptor), Some(known)) => {
                *self.lock() = State::LoggingOn(acceptor, begun, known);
                refused(Some(&answer))
            }
            (Step::Prove(proving), _) => self.prove(policy, *proving, begun).await,
            (Step::Accept(accepting), _) => self.accept(policy, *accepting, begun).await,
            (Step::Admit(admitting), _) => self.admit(policy, *admitting, begun).await,
            (Step::Done(done), Some(known)) => {
                policy.users.right_proof(&known.account.name, self.source, access::Scheme::CredSsp);
                let principal = self.principal(&known.account);
                let logon = Established { known, looked: Instant::now(), channel: done.channel };
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
        if users.is_locked_out(&name, self.source, access::Scheme::CredSsp) {
            return refused(None);
        }
        let account = users.ntlm_account(&name).await;
        match (proving.conclude(account.as_ref().map(|(_, hash)| hash)), account) {
            (Concluded::Continue(answer, acceptor), Some((account, hash))) => {
                *self.lock() = State::LoggingOn(acceptor, begun, Known { account, proof: Proof::Hash(hash) });
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

    /// Accepts the ticket of an inner logon. What is known of one that is refused is where it came from.
    async fn accept(&self, policy: &AuthPolicy, accepting: Accepting, begun: Instant) -> Outcome {
        let users = &policy.users;
        let Some(kerberos) = &policy.kerberos else { return refused(None) };
        if users.is_locked_out("", self.source, access::Scheme::CredSsp) {
            return refused(None);
        }
        // The proof of the public key binds the logon to the inner connection.
        let ticket = match open(kerberos, accepting.logon(), None).await {
            Ok(ticket) => ticket,
            Err(error) => {
                let reason = error.to_string();
                match error.fault {
                    TicketFault::Malformed => users.refused_unnamed(self.source, access::Scheme::CredSsp, &reason),
                    TicketFault::Wrong => users.failed("", self.source, access::Scheme::CredSsp, &reason).await,
                    TicketFault::Unbound | TicketFault::Untimely(_) => {
                        users.refused("", self.source, access::Scheme::CredSsp, &reason);
                    }
                }
                return refused(accepting.refused().as_deref());
            }
        };
        let principal = ticket.principal.clone();
        match accepting.accepted(ticket) {
            Ok(Step::Admit(admitting)) => self.admit(policy, *admitting, begun).await,
            Ok(Step::Continue(answer, acceptor)) => {
                *self.lock() = State::Handshaking(acceptor, begun);
                refused(Some(&answer))
            }
            Ok(_) => refused(None),
            Err(reason) => {
                users.refused(&principal, self.source, access::Scheme::CredSsp, &reason.to_string());
                refused(None)
            }
        }
    }

    /// Goes on with a good ticket, if there is an account of its owner.
    async fn admit(&self, policy: &AuthPolicy, admitting: Admitting, begun: Instant) -> Outcome {
        let users = &policy.users;
        let principal = admitting.ticket().principal.clone();
        let proof = Proof::of_ticket(admitting.ticket().lifetime);
        let Some(account) = users.principal_account(&principal).await else {
            let reason = "the ticket is good, but no user has this name";
            users.refused(&principal, self.source, access::Scheme::CredSsp, reason);
            return refused(None);
        };
        match admitting.conclude() {
            Concluded::Continue(answer, acceptor) => {
                *self.lock() = State::LoggingOn(acceptor, begun, Known { account, proof });
                refused(Some(&answer))
            }
            Concluded::Refused(reason, told) => {
                users.refused(&principal, self.source, access::Scheme::CredSsp, &reason.to_string());
                refused(told.as_deref())
            }
        }
    }

    /// A request without `Authorization`: whoever logged on before on this connection. `None` when nobody did.
    pub(super) async fn resume(&self, policy: &AuthPolicy) -> Option<Principal> {
        let before = std::mem::replace(&mut *self.lock(), State::Anonymous);
        let State::Established(mut logon) = before else { return None };
        let Established { known, looked, .. } = &mut *logon;
        match known.proof.look(&known.account, looked, policy).await {
            // Role and scope are those of now.
            Ok(account) => known.account = account,
            Err(reason) => {
                policy.users.refused(&known.account.name, self.source, access::Scheme::CredSsp, reason);
                return None;
            }
        }
        let principal = self.principal(&logon.known.account);
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

type Advanced = (Step, Instant, Option<Known>);

/// One step of the handshake, with the mechanisms that may be used; on an error the name of whoever had logged on inside. A record of TLS that begins a
/// handshake begins a new one in any state.
fn advance(
    before: State,
    policy: &CredSspPolicy,
    token: &[u8],
    limit: Duration,
    (ntlm, kerberos): (bool, bool),
) -> Result<Advanced, (CredSspRefusal, Option<String>)> {
    let mut server_challenge = [0; 8];
    let random = SystemRandom::new().fill(&mut server_challenge);
    random.map_err(|ring::error::Unspecified| (CredSspRefusal::Negotiate(Refusal::NoRandom), None))?;
    let negotiate = &policy.negotiate;
    let facts = NtlmFacts { server_challenge, filetime: negotiate.filetime(), names: &negotiate.names };
    let facts = Facts { ntlm: ntlm.then_some(facts), kerberos };
    let (acceptor, begun, known) = match before {
        _ if is_client_hello(token) => {
            let (config, key) = policy.identity.inner();
            let acceptor = Acceptor::new(config, key, policy.oldest_version).map_err(|reason| (reason, None))?;
            (acceptor, Instant::now(), None)
        }
        State::Handshaking(acceptor, begun) => (acceptor, begun, None),
        State::LoggingOn(acceptor, begun, known) => (acceptor, begun, Some(known)),
        State::Anonymous | State::Established(_) => return Err((CredSspRefusal::Message, None)),
    };
    let name = known.as_ref().map(|known| known.account.name.to_string());
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
