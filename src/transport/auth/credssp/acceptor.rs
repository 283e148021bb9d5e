//! The handshake, as a state machine.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::transport::auth::kerberos::Ticket;
use crate::transport::auth::negotiate::{self, Facts, Handshake, Logon, Refusal, TicketLogon};
use crate::transport::auth::ntlm::{BindingCheck, NtHash, NtlmError};
use crate::transport::auth::security::{MessageSecurity, SealError};

use super::channel::{Channel, ChannelError};
use super::message::{TsRequest, VERSION, user_of_credentials};

/// Tokens of one handshake: TLS takes two or three, Negotiate two or three, key and credentials one each.
const MAX_LEGS: u8 = 12;
/// The first version with a proof that cannot be relayed (CVE-2018-0886).
pub(in crate::transport::auth) const FIRST_SAFE_VERSION: u32 = 5;
const NONCE_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 16;
const TO_SERVER: &[u8] = b"CredSSP Client-To-Server Binding Hash\0";
const TO_CLIENT: &[u8] = b"CredSSP Server-To-Client Binding Hash\0";
/// `STATUS_LOGON_FAILURE`
const LOGON_FAILURE: u32 = 0xc000_006d;
/// `STATUS_ACCESS_DENIED`
const ACCESS_DENIED: u32 = 0xc000_0022;

/// Why a handshake ends. The client learns only that it did.
#[derive(Debug, thiserror::Error)]
pub(in crate::transport::auth) enum CredSspRefusal {
    /// The inner TLS connection.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A message that cannot be read, or another one than is due.
    #[error("malformed or unexpected message")]
    Message,
    /// Too many tokens, or too late.
    #[error("the handshake takes too long")]
    TooLong,
    /// A version that is not taken.
    #[error("version {0} of CredSSP is not taken")]
    Version(u32),
    /// The inner logon.
    #[error(transparent)]
    Negotiate(#[from] Refusal),
    /// The client cannot seal.
    #[error("the client cannot seal")]
    NoSealing,
    /// A sealed field.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Somebody stands between the client and this server, or the client computes it in another way.
    #[error("the client sees another public key")]
    KeyProof,
    /// Credentials of somebody else, or none.
    #[error("the credentials are not of the user who logged on")]
    Credentials,
}

/// What comes next.
pub(in crate::transport::auth) enum Step {
    /// The client has to send another token.
    Continue(Vec<u8>, Acceptor),
    /// The proof of the inner logon has to be compared.
    Prove(Box<Proving>),
    /// The ticket of the inner logon has to be accepted.
    Accept(Box<Accepting>),
    /// The ticket of the inner logon was good, and whose it is has to be found out.
    Admit(Box<Admitting>),
    /// The handshake is over.
    Done(Box<Done>),
}

/// What a handshake leaves behind.
pub(in crate::transport::auth) struct Done {
    /// Seals messages from now on.
    pub(in crate::transport::auth) channel: Channel,
}

/// A handshake that waits for the client.
pub(in crate::transport::auth) struct Acceptor {
    channel: Channel,
    /// The `SubjectPublicKey` of the certificate of the inner connection.
    key: Arc<[u8]>,
    oldest: u32,
    legs: u8,
    stage: Stage,
}

enum Stage {
    /// The inner TLS connection, and then the first token of Negotiate.
    Opening,
    /// A token of Negotiate is out.
    Negotiating(Handshake),
    /// The logon was right.
    LoggedOn(Box<LoggedOn>),
}

/// What is known after the inner logon.
struct LoggedOn {
    security: Box<dyn MessageSecurity>,
    account: String,
    /// The public key was proved, so the credentials are due.
    proved: bool,
}

impl Acceptor {
    /// A handshake with a certificate, of which clients of version `oldest` and above are taken.
    pub(in crate::transport::auth) fn new(
        config: Arc<ServerConfig>,
        key: Arc<[u8]>,
        oldest: u32,
    ) -> Result<Self, CredSspRefusal> {
        Ok(Self { channel: Channel::new(config)?, key, oldest, legs: 0, stage: Stage::Opening })
    }

    /// Takes the next token.
    pub(in crate::transport::auth) fn step(mut self, token: &[u8], facts: &Facts<'_>) -> Result<Step, CredSspRefusal> {
        self.legs = self.legs.saturating_add(1);
        if self.legs > MAX_LEGS {
            return Err(CredSspRefusal::TooLong);
        }
        let clear = self.channel.receive(token)?;
        if clear.is_empty() {
            // Only TLS itself has anything to send without clear text, and only at the beginning.
            return match self.stage {
                Stage::Opening => {
                    let answer = self.channel.send(&[])?;
                    Ok(Step::Continue(answer, self))
                }
                Stage::Negotiating(_) | Stage::LoggedOn(_) => Err(CredSspRefusal::Message),
            };
        }
        if !self.channel.is_open() {
            return Err(CredSspRefusal::Message);
        }
        let request = TsRequest::parse(&clear).ok_or(CredSspRefusal::Message)?;
        if request.version < self.oldest.max(2) {
            return Err(CredSspRefusal::Version(request.version));
        }
        match std::mem::replace(&mut self.stage, Stage::Opening) {
            Stage::Opening => self.negotiate(None, &request, facts),
            Stage::Negotiating(handshake) => self.negotiate(Some(handshake), &request, facts),
            Stage::LoggedOn(logged_on) => self.conclude(*logged_on, &request),
        }
    }

    fn negotiate(
        self,
        handshake: Option<Handshake>,
        request: &TsRequest<'_>,
        facts: &Facts<'_>,
    ) -> Result<Step, CredSspRefusal> {
        let token = request.token.ok_or(CredSspRefusal::Message)?;
        let step = match handshake {
            Some(handshake) => handshake.step(token, facts)?,
            None => negotiate::begin(token, facts)?,
        };
        let beside = Beside {
            version: request.version,
            key_proof: request.key_proof.map(<[u8]>::to_owned),
            nonce: request.nonce.map(<[u8]>::to_owned),
        };
        self.proceed(step, beside)
    }

    /// Goes on with what became of a token of Negotiate.
    fn proceed(mut self, step: negotiate::Step, beside: Beside) -> Result<Step, CredSspRefusal> {
        match step {
            negotiate::Step::Continue(answer, handshake) if beside.key_proof.is_none() => {
                self.stage = Stage::Negotiating(handshake);
                self.answer(&TsRequest { token: Some(&answer), ..TsRequest::default() })
            }
            // The key is proved by whoever has logged on.
            negotiate::Step::Continue(..) => Err(CredSspRefusal::Message),
            negotiate::Step::Prove(logon) => Ok(Step::Prove(Box::new(Proving { acceptor: self, logon, beside }))),
            negotiate::Step::Accept(logon) => Ok(Step::Accept(Box::new(Accepting { acceptor: self, logon, beside }))),
            negotiate::Step::Done(ticket) => Ok(Step::Admit(Box::new(Admitting { acceptor: self, ticket, beside }))),
        }
    }

    /// The inner logon was right: proves the key if that came with it, and gives the answer.
    fn logged_on(
        &mut self,
        security: Option<Box<dyn MessageSecurity>>,
        account: String,
        token: Option<&[u8]>,
        beside: &Beside,
    ) -> Result<Vec<u8>, CredSspRefusal> {
        let security = security.filter(|security| security.can_seal()).ok_or(CredSspRefusal::NoSealing)?;
        let mut logged_on = LoggedOn { security, account, proved: beside.key_proof.is_some() };
        let answer = match &beside.key_proof {
            Some(proof) => {
                let (version, nonce) = (beside.version, beside.nonce.as_deref());
                Some(self.prove_key(logged_on.security.as_mut(), proof, version, nonce)?)
            }
            None => None,
        };
        self.stage = Stage::LoggedOn(Box::new(logged_on));
        Ok(self.write(&TsRequest { token, key_proof: answer.as_deref(), ..TsRequest::default() })?)
    }

    /// What becomes of an inner logon: a client of a version with error codes is told why it was refused.
    fn concluded(mut self, answer: Result<Vec<u8>, CredSspRefusal>, version: u32) -> Concluded {
        match answer {
            Ok(answer) => Concluded::Continue(answer, self),
            Err(reason) => {
                let told = matches!(version, 3 | 4 | 6..).then(|| self.tell(&reason)).flatten();
                Concluded::Refused(reason, told)
            }
        }
    }

    /// What comes after the inner logon: first the public key, then the credentials.
    fn conclude(mut self, mut logged_on: LoggedOn, request: &TsRequest<'_>) -> Result<Step, CredSspRefusal> {
        if request.token.is_some() {
            return Err(CredSspRefusal::Message);
        }
        if !logged_on.proved {
            let proof = request.key_proof.ok_or(CredSspRefusal::Message)?;
            let answer = self.prove_key(logged_on.security.as_mut(), proof, request.version, request.nonce)?;
            logged_on.proved = true;
            self.stage = Stage::LoggedOn(Box::new(logged_on));
            return self.answer(&TsRequest { key_proof: Some(&answer), ..TsRequest::default() });
        }
        let sealed = request.credentials.ok_or(CredSspRefusal::Message)?;
        let clear = unseal(logged_on.security.as_mut(), sealed)?;
        let user = user_of_credentials(&clear).ok_or(CredSspRefusal::Credentials)?;
        if account_of(&user).to_lowercase() != account_of(&logged_on.account).to_lowercase() {
            return Err(CredSspRefusal::Credentials);
        }
        Ok(Step::Done(Box::new(Done { channel: self.channel })))
    }

    /// Compares what the client says of the public key; gives the sealed answer.
    fn prove_key(
        &self,
        security: &mut dyn MessageSecurity,
        sealed: &[u8],
        version: u32,
        nonce: Option<&[u8]>,
    ) -> Result<Vec<u8>, CredSspRefusal> {
        let claimed = unseal(security, sealed)?;
        let (expected, answer) = if version >= FIRST_SAFE_VERSION {
            let nonce = nonce.filter(|nonce| nonce.len() == NONCE_BYTES).ok_or(CredSspRefusal::Message)?;
            (self.key_hash(TO_SERVER, nonce), self.key_hash(TO_CLIENT, nonce))
        } else {
            let mut next = self.key.to_vec();
            if let Some(first) = next.first_mut() {
                *first = first.wrapping_add(1);
            }
            (self.key.to_vec(), next)
        };
        if !bool::from(claimed.as_slice().ct_eq(&expected)) {
            return Err(CredSspRefusal::KeyProof);
        }
        Ok(seal(security, answer)?)
    }

    fn key_hash(&self, magic: &[u8], nonce: &[u8]) -> Vec<u8> {
        digest(&SHA256, &[magic, nonce, &self.key].concat()).as_ref().to_vec()
    }

    fn answer(mut self, answer: &TsRequest<'_>) -> Result<Step, CredSspRefusal> {
        let bytes = self.write(answer)?;
        Ok(Step::Continue(bytes, self))
    }

    fn write(&mut self, answer: &TsRequest<'_>) -> Result<Vec<u8>, ChannelError> {
        let answer = TsRequest {
            version: VERSION,
            token: answer.token,
            key_proof: answer.key_proof,
            error: answer.error,
            ..TsRequest::default()
        };
        self.channel.send(&answer.write())
    }
}

/// What came with the token of an inner logon.
struct Beside {
    version: u32,
    key_proof: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
}

/// An inner logon whose proof has to be compared.
pub(in crate::transport::auth) struct Proving {
    acceptor: Acceptor,
    logon: Logon,
    beside: Beside,
}

/// What became of an inner logon.
pub(in crate::transport::auth) enum Concluded {
    /// It was right; the client has to send another token.
    Continue(Vec<u8>, Acceptor),
    /// It was not; the client may be told by this token.
    Refused(CredSspRefusal, Option<Vec<u8>>),
}

impl Proving {
    /// The account that is meant.
    pub(in crate::transport::auth) fn account(&self) -> &str {
        self.logon.account()
    }

    /// Compares the proof with the hash of the account, which is `None` when there is no such account.
    pub(in crate::transport::auth) fn conclude(self, hash: Option<&NtHash>) -> Concluded {
        let Self { mut acceptor, logon, beside } = self;
        let account = logon.account().to_owned();
        // The proof of the public key binds the logon to the inner connection.
        let accepted = logon.conclude(hash, BindingCheck::Ignored).map_err(CredSspRefusal::from);
        let answer = accepted
            .and_then(|accepted| acceptor.logged_on(accepted.security, account, accepted.token.as_deref(), &beside));
        acceptor.concluded(answer, beside.version)
    }
}

/// An inner logon whose ticket has to be accepted.
pub(in crate::transport::auth) struct Accepting {
    acceptor: Acceptor,
    logon: TicketLogon,
    beside: Beside,
}

impl Accepting {
    /// The ticket and what is around it.
    pub(in crate::transport::auth) const fn logon(&self) -> &TicketLogon {
        &self.logon
    }

    /// Goes on with a ticket that was accepted.
    pub(in crate::transport::auth) fn accepted(self, ticket: Ticket) -> Result<Step, CredSspRefusal> {
        let step = self.logon.conclude(ticket)?;
        self.acceptor.proceed(step, self.beside)
    }

    /// The ticket was refused; what the client is told, if anything.
    pub(in crate::transport::auth) fn refused(self) -> Option<Vec<u8>> {
        let mut acceptor = self.acceptor;
        let reason = CredSspRefusal::Negotiate(Refusal::Token);
        matches!(self.beside.version, 3 | 4 | 6..).then(|| acceptor.tell(&reason)).flatten()
    }
}

/// An inner logon by a ticket that was good.
pub(in crate::transport::auth) struct Admitting {
    acceptor: Acceptor,
    ticket: Ticket,
    beside: Beside,
}

impl Admitting {
    /// Whose the ticket is, and how long it lasts.
    pub(in crate::transport::auth) const fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Goes on; there is an account of the principal.
    pub(in crate::transport::auth) fn conclude(self) -> Concluded {
        let Self { mut acceptor, ticket, beside } = self;
        let Ticket { principal, answer, security, .. } = ticket;
        let answer = acceptor.logged_on(Some(security), principal, answer.as_deref(), &beside);
        acceptor.concluded(answer, beside.version)
    }
}

impl Acceptor {
    /// The token that tells a client of a version with error codes why it was refused.
    fn tell(&mut self, reason: &CredSspRefusal) -> Option<Vec<u8>> {
        let code = match reason {
            CredSspRefusal::Negotiate(Refusal::Ntlm(NtlmError::WrongProof)) => LOGON_FAILURE,
            _ => ACCESS_DENIED,
        };
        // A client that cannot be told is refused all the same.
        self.write(&TsRequest { error: Some(code), ..TsRequest::default() }).ok()
    }
}

/// A user name without what stands around it: this host knows local accounts only.
fn account_of(user: &str) -> &str {
    let user = user.rsplit_once('\\').map_or(user, |(_, user)| user);
    user.split_once('@').map_or(user, |(user, _)| user)
}

/// Signature and then data, as `GSS_Wrap` puts them together. That of Kerberos has a longer header, which it finds by
/// itself.
fn unseal(security: &mut dyn MessageSecurity, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CredSspRefusal> {
    let (signature, data) = sealed.split_at_checked(SIGNATURE_BYTES).ok_or(CredSspRefusal::Message)?;
    Ok(Zeroizing::new(security.unseal(signature, data.to_vec())?))
}

fn seal(security: &mut dyn MessageSecurity, mut data: Vec<u8>) -> Result<Vec<u8>, SealError> {
    let signature = security.seal(&mut data)?;
    Ok([&signature[..], &data].concat())
}
