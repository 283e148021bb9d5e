//! The authentication state of one connection (`authentication.md` §2).
//!
//! Requests of a connection come one after the other, so the state is taken out while a request is
//! looked at and put back when it is known what became of it; whatever goes wrong in between leaves
//! the connection anonymous.

mod tickets;

pub(super) use tickets::open;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};
use ring::rand::{SecureRandom, SystemRandom};

use crate::access::{self, Account, Principal};
use crate::transport::channel_binding::ChannelBinding;

use super::basic;
use super::certificate::ClientCertificate;
use super::certificate_logon::CertificateLogon;
use super::credssp::{ChannelError, Record};
use super::credssp_logon::CredSspLogon;
use super::negotiate::{self, Facts, Handshake, Logon, MAX_TOKEN_BYTES, NtlmFacts, Refusal, Step};
use super::ntlm::{BindingCheck, NtHash, NtlmError};
use super::policy::{AuthPolicy, ChannelBindingPolicy};
use super::scheme::Scheme;
use super::security::{MessageSecurity, SealError};

/// How long a logon counts before the account is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a token is not looked into.
pub(super) const UNREADABLE: &str = "the token is no Base64, or too long";

/// Why an `Authorization` header is not read further.
const NOT_OFFERED: &str = "this scheme is not offered here";

/// A ticket that says it lasts longer is looked at as one that lasts so long.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// What protects the envelopes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Confidentiality {
    /// TLS protects the connection; envelopes travel as they are.
    Tls(ChannelBinding),
    /// Plain HTTP, and `AllowUnencrypted` says that this is wanted.
    ClearAllowed,
    /// Plain HTTP: envelopes have to be sealed by a security context.
    SealedOnly,
}

/// What authentication makes of a request.
#[derive(Debug)]
pub(in crate::transport) enum Outcome {
    /// The request comes from this user.
    Authenticated(Admitted),
    /// 401 with these `WWW-Authenticate` values; the connection stays open.
    Challenge(Vec<HeaderValue>),
    /// 403: no credentials could ever be accepted on this connection.
    Forbidden,
    /// 503: too many passwords wait to be checked.
    Busy,
}

/// A user who was recognised.
#[derive(Debug)]
pub(in crate::transport) struct Admitted {
    /// The user.
    pub(in crate::transport) principal: Principal,
    /// This request ended a handshake; if it has no body, it asked for nothing else.
    pub(in crate::transport) handshake_ended: bool,
    /// The `WWW-Authenticate` that goes with the answer.
    pub(in crate::transport) token: Option<HeaderValue>,
}

impl Admitted {
    const fn at_once(principal: Principal) -> Self {
        Self { principal, handshake_ended: false, token: None }
    }
}

/// Why a message cannot be sealed or unsealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::transport) enum UnsealError {
    /// There is no context that could.
    #[error("no security context that seals")]
    NoContext,
    /// The context refused.
    #[error(transparent)]
    Context(#[from] SealError),
}

enum State {
    Anonymous,
    Handshaking(Handshake, Instant),
    Established(Box<Established>),
}

/// A logon that lasts as long as the connection.
struct Established {
    /// The account as it was last looked at: none ends the logon.
    account: Arc<Account>,
    proof: Proof,
    looked: Instant,
    security: Option<Box<dyn MessageSecurity>>,
}

/// What a logon stands on.
pub(super) enum Proof {
    /// The NT hash of the account; another one ends the logon.
    Hash(NtHash),
    /// A ticket, until it ends.
    Ticket { until: Option<Instant> },
}

impl Proof {
    /// That of a ticket that lasts so long from now on.
    pub(super) fn of_ticket(lifetime: Duration) -> Self {
        Self::Ticket { until: Instant::now().checked_add(lifetime.min(LONGEST)) }
    }

    const fn scheme(&self) -> access::Scheme {
        match self {
            Self::Hash(_) => access::Scheme::Ntlm,
            Self::Ticket { .. } => access::Scheme::Kerberos,
        }
    }

    /// The account with its role and scope as they are now, if the logon still counts. One that was looked at a moment
    /// ago is taken as it was.
    pub(super) async fn look(
        &self,
        account: &Arc<Account>,
        looked: &mut Instant,
        policy: &AuthPolicy,
    ) -> Result<Arc<Account>, &'static str> {
        if let Self::Ticket { until: Some(until) } = self
            && *until <= Instant::now()
        {
            return Err("the ticket has ended");
        }
        if looked.elapsed() < LOOK_EVERY {
            return Ok(Arc::clone(account));
        }
        let name = &account.name;
        let account = match self {
            Self::Hash(known) => match policy.users.ntlm_account(name).await {
                Some((account, hash)) if hash == *known => account,
                _ => return Err("the account was removed or its password changed"),
            },
            Self::Ticket { .. } => policy.users.principal_account(name).await.ok_or("the account was removed")?,
        };
        *looked = Instant::now();
        Ok(account)
    }
}

/// The authentication state of one connection.
pub(in crate::transport) struct ConnectionAuth {
    confidentiality: Confidentiality,
    handshake_limit: Duration,
    /// Where the client is.
    source: IpAddr,
    state: Mutex<State>,
    certificate: CertificateLogon,
    credssp: CredSspLogon,
}

impl ConnectionAuth {
    /// The state of a new connection.
    pub(in crate::transport) fn new(
        tls: Option<ChannelBinding>,
        policy: &AuthPolicy,
        handshake_limit: Duration,
        source: IpAddr,
    ) -> Self {
        let confidentiality = match (tls, policy.allow_unencrypted) {
            (Some(binding), _) => Confidentiality::Tls(binding),
            (None, true) => Confidentiality::ClearAllowed,
            (None, false) => Confidentiality::SealedOnly,
        };
        let certificate = CertificateLogon::new(None, source);
        let credssp = CredSspLogon::new(source, handshake_limit);
        Self { confidentiality, handshake_limit, source, state: Mutex::new(State::Anonymous), certificate, credssp }
    }

    /// The same with the certificate that the client has shown.
    pub(in crate::transport) fn with_certificate(self, certificate: Option<ClientCertificate>) -> Self {
        Self { certificate: CertificateLogon::new(certificate, self.source), ..self }
    }

    /// Whether envelopes may travel unsealed.
    pub(in crate::transport) const fn clear_text_allowed(&self) -> bool {
        !matches!(self.confidentiality, Confidentiality::SealedOnly)
    }

    /// Authenticates one request by its head.
    pub(in crate::transport) async fn authenticate(&self, policy: &AuthPolicy, headers: &HeaderMap) -> Outcome {
        let before = std::mem::replace(&mut *self.lock(), State::Anonymous);
        let Some(value) = headers.get(AUTHORIZATION) else {
            return match self.credssp.resume(policy).await {
                Some(principal) => Outcome::Authenticated(Admitted::at_once(principal)),
                None => self.resume(before, policy).await,
            };
        };
        if Scheme::split(value.as_bytes()).is_none_or(|(scheme, _)| scheme != Scheme::CredSsp) {
            self.credssp.forget();
        }
        match Scheme::split(value.as_bytes()) {
            Some((scheme, credentials)) if self.offers(policy, scheme).await => match scheme {
                Scheme::Basic => match policy.users.verify(credentials, self.source).await {
                    basic::Verdict::Accepted(account) => {
                        let principal = Principal::new(account, access::Scheme::Basic, self.source);
                        Outcome::Authenticated(Admitted::at_once(principal))
                    }
                    basic::Verdict::Refused => self.challenge(policy).await,
                    basic::Verdict::Busy => Outcome::Busy,
                },
                Scheme::Negotiate | Scheme::Kerberos | Scheme::Ntlm => {
                    self.negotiate(before, policy, scheme, credentials).await
                }
                Scheme::CredSsp => self.credssp.step(policy, credentials).await,
                Scheme::Certificate => match self.certificate.account(policy).await {
                    Some(account) => {
                        let principal = Principal::new(account, access::Scheme::Certificate, self.source);
                        Outcome::Authenticated(Admitted::at_once(principal))
                    }
                    None => self.challenge(policy).await,
                },
            },
            other => {
                let scheme = other.map_or(access::Scheme::Unknown, |(scheme, _)| scheme.recorded());
                policy.users.refused_unnamed(self.source, scheme, NOT_OFFERED);
                self.challenge(policy).await
            }
        }
    }

    /// The offer to a request without accepted credentials.
    pub(in crate::transport) async fn challenge(&self, policy: &AuthPolicy) -> Outcome {
        let mut offer = Vec::new();
        for scheme in Scheme::OFFERED {
            if self.offers(policy, scheme).await {
                offer.push(scheme.challenge());
            }
        }
        // Only when it is all there is: no client has to be told, and some cannot read it.
        if offer.is_empty() && self.offers(policy, Scheme::Certificate).await {
            offer.push(Scheme::Certificate.challenge());
        }
        if offer.is_empty() { Outcome::Forbidden } else { Outcome::Challenge(offer) }
    }

    /// Unseals a request of a user. One that fails is recorded, because somebody changed it or sent it again.
    pub(in crate::transport) fn unseal(
        &self,
        policy: &AuthPolicy,
        user: &Principal,
        header: &[u8],
        data: Vec<u8>,
    ) -> Result<Vec<u8>, UnsealError> {
        self.with_context(|context| context.unseal(header, data)).inspect_err(|error| {
            let reason = format!("a message cannot be unsealed, and the logon ends: {error}");
            policy.users.refused(user.name(), self.source, user.scheme(), &reason);
        })
    }

    /// Seals an answer in place and gives its header.
    pub(in crate::transport) fn seal(&self, data: &mut [u8]) -> Result<Vec<u8>, UnsealError> {
        self.with_context(|context| context.seal(data))
    }

    /// Unseals a request of CredSSP; `None` when nobody logged on with it.
    pub(in crate::transport) fn unseal_tls(&self, parts: &[Record]) -> Option<Result<Vec<u8>, ChannelError>> {
        self.credssp.unseal(parts)
    }

    /// Seals an answer of CredSSP; gives its parts and the length of what each record has behind its clear text.
    pub(in crate::transport) fn seal_tls(&self, message: &[u8]) -> Option<Result<(Vec<Record>, u32), ChannelError>> {
        self.credssp.seal(message)
    }

    /// A context that failed once is out of step for ever, so the logon ends with it.
    fn with_context<T>(
        &self,
        work: impl FnOnce(&mut dyn MessageSecurity) -> Result<T, SealError>,
    ) -> Result<T, UnsealError> {
        let mut state = self.lock();
        let State::Established(logon) = &mut *state else { return Err(UnsealError::NoContext) };
        let Some(context) = &mut logon.security else { return Err(UnsealError::NoContext) };
        if !context.can_seal() {
            return Err(UnsealError::NoContext);
        }
        work(context.as_mut()).map_err(|error| {
            *state = State::Anonymous;
            error.into()
        })
    }

    /// Whether a scheme may be used on this connection. Basic shows the password, so it needs
    /// something around it.
    async fn offers(&self, policy: &AuthPolicy, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Basic => policy.basic && self.clear_text_allowed(),
            Scheme::Kerberos => policy.kerberos.is_some(),
            Scheme::Negotiate if policy.kerberos.is_some() => policy.negotiate.is_some(),
            Scheme::Negotiate | Scheme::Ntlm => policy.negotiate.is_some() && policy.users.anyone_may_use_ntlm().await,
            Scheme::CredSsp => {
                policy.credssp.is_some() && (policy.kerberos.is_some() || policy.users.anyone_may_use_ntlm().await)
            }
            Scheme::Certificate => policy.certificate && matches!(self.confidentiality, Confidentiality::Tls(_)),
        }
    }

    /// A request without `Authorization`: whoever logged on before on this connection.
    async fn resume(&self, before: State, policy: &AuthPolicy) -> Outcome {
        let State::Established(mut logon) = before else {
            self.certificate.ignored(policy);
            return self.challenge(policy).await;
        };
        let scheme = logon.proof.scheme();
        if let Err(reason) = logon.look(policy).await {
            policy.users.refused(&logon.account.name, self.source, scheme, reason);
            return self.challenge(policy).await;
        }
        let principal = Principal::new(Arc::clone(&logon.account), scheme, self.source);
        *self.lock() = State::Established(logon);
        Outcome::Authenticated(Admitted::at_once(principal))
    }

    async fn negotiate(&self, before: State, policy: &AuthPolicy, scheme: Scheme, credentials: &[u8]) -> Outcome {
        let refused = || Outcome::Challenge(vec![scheme.challenge()]);
        let Some(token) = decode(credentials) else {
            policy.users.refused_unnamed(self.source, scheme.recorded(), UNREADABLE);
            return refused();
        };
        match self.step(before, policy, scheme, &token).await {
            Ok((Step::Continue(answer, handshake), begun)) => self.proceed(scheme, &answer, handshake, begun),
            Ok((Step::Prove(logon), _)) => self.prove(policy, scheme, logon).await,
            Ok((Step::Accept(logon), begun)) => self.accept(policy, scheme, logon, begun).await,
            Ok((Step::Done(ticket), _)) => self.admit(policy, scheme, ticket).await,
            Err(reason) => {
                policy.users.refused_unnamed(self.source, scheme.recorded(), &reason.to_string());
                refused()
            }
        }
    }

    fn proceed(&self, scheme: Scheme, answer: &[u8], handshake: Handshake, begun: Instant) -> Outcome {
        *self.lock() = State::Handshaking(handshake, begun);
        Outcome::Challenge(vec![scheme.token(answer)])
    }

    /// Compares the proof of NTLM.
    async fn prove(&self, policy: &AuthPolicy, scheme: Scheme, logon: Logon) -> Outcome {
        let refused = || Outcome::Challenge(vec![scheme.challenge()]);
        let name = logon.account().to_owned();
        if policy.users.is_locked_out(&name, self.source, access::Scheme::Ntlm) {
            return refused();
        }
        let account = policy.users.ntlm_account(&name).await;
        let accepted = logon.conclude(account.as_ref().map(|(_, hash)| hash), self.binding_check(policy));
        match (accepted, account) {
            (Ok(accepted), Some((account, hash))) => {
                let token = accepted.token.map(|token| scheme.token(&token));
                self.establish(policy, account, Proof::Hash(hash), accepted.security, token)
            }
            (Err(Refusal::Ntlm(NtlmError::WrongProof)), _) => {
                policy.users.wrong_proof(&name, self.source, access::Scheme::Ntlm).await;
                refused()
            }
            (Err(reason), _) => {
                policy.users.refused(&name, self.source, access::Scheme::Ntlm, &reason.to_string());
                refused()
            }
            // Without an account no proof is right.
            (Ok(_), None) => refused(),
        }
    }

    /// A handshake that came to its end.
    fn establish(
        &self,
        policy: &AuthPolicy,
        account: Arc<Account>,
        proof: Proof,
        security: Option<Box<dyn MessageSecurity>>,
        token: Option<HeaderValue>,
    ) -> Outcome {
        let scheme = proof.scheme();
        policy.users.right_proof(&account.name, self.source, scheme);
        let principal = Principal::new(Arc::clone(&account), scheme, self.source);
        let logon = Established { account, proof, looked: Instant::now(), security };
        *self.lock() = State::Established(Box::new(logon));
        Outcome::Authenticated(Admitted { principal, handshake_ended: true, token })
    }

    /// One step of the handshake. A first token begins a new one in any state.
    async fn step(
        &self,
        before: State,
        policy: &AuthPolicy,
        scheme: Scheme,
        token: &[u8],
    ) -> Result<(Step, Instant), Refusal> {
        let mut server_challenge = [0; 8];
        SystemRandom::new().fill(&mut server_challenge).map_err(|ring::error::Unspecified| Refusal::NoRandom)?;
        let kerberos = scheme != Scheme::Ntlm && policy.kerberos.is_some();
        // Without Kerberos the scheme is offered only when NTLM may be used.
        let ntlm = scheme != Scheme::Kerberos && (!kerberos || policy.users.anyone_may_use_ntlm().await);
        let negotiate = policy.negotiate.as_ref().filter(|_| ntlm);
        let ntlm = negotiate.map(|it| NtlmFacts { server_challenge, filetime: it.filetime(), names: &it.names });
        let facts = Facts { ntlm, kerberos };
        if negotiate::is_first(token) {
            return Ok((negotiate::begin(token, &facts)?, Instant::now()));
        }
        match before {
            State::Handshaking(handshake, begun) if begun.elapsed() <= self.handshake_limit => {
                Ok((handshake.step(token, &facts)?, begun))
            }
            State::Handshaking(..) => Err(Refusal::TooLong),
            State::Anonymous | State::Established(_) => Err(Refusal::Token),
        }
    }

    fn binding_check(&self, policy: &AuthPolicy) -> BindingCheck {
        let policy = policy.negotiate.as_ref().map(|negotiate| negotiate.channel_binding).unwrap_or_default();
        match (policy, &self.confidentiality) {
            (ChannelBindingPolicy::Relaxed, Confidentiality::Tls(binding)) => BindingCheck::IfPresent(binding.digest()),
            (ChannelBindingPolicy::Strict, Confidentiality::Tls(binding)) => BindingCheck::Required(binding.digest()),
            (ChannelBindingPolicy::None, _) | (_, Confidentiality::ClearAllowed | Confidentiality::SealedOnly) => {
                BindingCheck::Ignored
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Established {
    /// Looks whether the logon still counts, and takes role and scope as they are now.
    async fn look(&mut self, policy: &AuthPolicy) -> Result<(), &'static str> {
        self.account = self.proof.look(&self.account, &mut self.looked, policy).await?;
        Ok(())
    }
}

/// A token of a bearable length.
pub(super) fn decode(credentials: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(credentials).ok().filter(|token| token.len() <= MAX_TOKEN_BYTES)
}
