//! Negotiate (RFC 4559): the handshake of a connection, raw or inside SPNEGO, as a pure state machine.
//!
//! [`begin`] takes the first token of a client and [`Handshake::step`] each further one. Both say what
//! comes next ([`Step`]): another token, a logon whose proof is compared once the account is known, or a
//! ticket that has to be accepted. A client is answered in kind: raw for raw, SPNEGO for SPNEGO. Another
//! mechanism is one more kind of token here.

use super::kerberos::Ticket;
use super::ntlm::{self, BindingCheck, Challenge, NtHash, NtlmError, Proof, ServerNames};
use super::security::{MessageSecurity, SealError};
use super::spnego::{self, NegState, NegTokenInit, NegTokenResp, oid};

/// Tokens of one handshake. NTLM needs two, and one more when the client hoped for something else.
const MAX_LEGS: u8 = 8;
/// The longest token.
pub(super) const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// Why a handshake ends. The client learns only that it did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// SPNEGO that cannot be read, or another token than is due.
    #[error("malformed or unexpected token")]
    Token,
    /// Nothing the client can do is set up here.
    #[error("no mechanism in common")]
    NoMechanism,
    /// The list of mechanisms was changed on its way, or the client did not sign it.
    #[error("wrong or missing signature of the mechanism list")]
    MechListMic,
    /// Too many tokens, or too late.
    #[error("the handshake takes too long")]
    TooLong,
    /// The system has no random numbers for a challenge.
    #[error("no random numbers for a challenge")]
    NoRandom,
    /// NTLM refused.
    #[error(transparent)]
    Ntlm(#[from] NtlmError),
    /// The list of mechanisms cannot be signed.
    #[error("the mechanism list cannot be signed: {0}")]
    Seal(#[source] SealError),
}

/// What a handshake takes from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// For NTLM, if it may be used.
    pub(super) ntlm: Option<NtlmFacts<'a>>,
    /// Whether Kerberos may be used.
    pub(super) kerberos: bool,
}

/// What NTLM takes from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct NtlmFacts<'a> {
    /// New and random for every call.
    pub(super) server_challenge: [u8; 8],
    /// The time in ticks of 100 ns since 1601.
    pub(super) filetime: u64,
    pub(super) names: &'a ServerNames,
}

/// What comes next.
pub(super) enum Step {
    /// The client has to send another token.
    Continue(Vec<u8>, Handshake),
    /// The proof of NTLM has to be compared.
    Prove(Logon),
    /// The ticket of Kerberos has to be accepted.
    Accept(TicketLogon),
    /// A ticket that was accepted before is good, and nothing is left to be said.
    Done(Ticket),
}

/// A handshake that waits for the client.
pub(super) struct Handshake {
    legs: u8,
    stage: Stage,
}

enum Stage {
    /// Raw type 2 is out.
    Raw(Challenge),
    /// SPNEGO without a token of a mechanism yet.
    Chosen(Wrapping),
    /// Type 2 is out inside SPNEGO.
    Wrapped(Wrapping, Challenge),
    /// The ticket was accepted, and the client has to sign the list.
    Unsigned(Wrapping, Ticket),
}

/// What SPNEGO keeps until the end.
struct Wrapping {
    list: Vec<u8>,
    mechanism: Mechanism,
    /// The mechanism was not what the client hoped for, so the list must be signed.
    second_choice: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    Ntlm,
    Kerberos,
}

/// Whether a token begins a handshake, whatever state the connection is in.
pub(super) fn is_first(token: &[u8]) -> bool {
    ntlm::is_negotiate(token) || spnego::is_initial(token)
}

/// Begins a handshake.
pub(super) fn begin(token: &[u8], facts: &Facts<'_>) -> Result<Step, Refusal> {
    if ntlm::is_message(token) {
        let challenge = facts.challenge(token)?;
        return Ok(proceed(1, challenge.message().to_owned(), Stage::Raw(challenge)));
    }
    if facts.kerberos && is_ticket(token) {
        return Ok(Step::Accept(TicketLogon { token: token.to_owned(), legs: 1, wrapping: None }));
    }
    let init = NegTokenInit::parse(token).ok_or(Refusal::Token)?;
    let known = |name: &&[u8]| facts.mechanism(name);
    let (place, mechanism) = init
        .mechanisms
        .iter()
        .enumerate()
        .find_map(|(place, name)| Some((place, known(name)?)))
        .ok_or(Refusal::NoMechanism)?;
    let name = init.mechanisms.get(place).copied();
    let wrapping = Wrapping { list: init.list.to_owned(), mechanism, second_choice: place > 0 };
    let Some(first) = init.token.filter(|_| place == 0) else {
        let state = if wrapping.second_choice { NegState::RequestMic } else { NegState::AcceptIncomplete };
        return Ok(proceed(1, spnego::response(state, name, None, None), Stage::Chosen(wrapping)));
    };
    match mechanism {
        Mechanism::Ntlm => {
            let challenge = facts.challenge(first)?;
            let answer = spnego::response(NegState::AcceptIncomplete, name, Some(challenge.message()), None);
            Ok(proceed(1, answer, Stage::Wrapped(wrapping, challenge)))
        }
        Mechanism::Kerberos => TicketLogon::wrapped(1, first, wrapping, name, None),
    }
}

fn proceed(legs: u8, answer: Vec<u8>, stage: Stage) -> Step {
    Step::Continue(answer, Handshake { legs, stage })
}

/// Whether a token is one of Kerberos with nothing around it.
fn is_ticket(token: &[u8]) -> bool {
    spnego::mechanism(token).is_some_and(|name| oid::KERBEROS.contains(&name))
}

impl Facts<'_> {
    fn challenge(&self, negotiate: &[u8]) -> Result<Challenge, Refusal> {
        let NtlmFacts { server_challenge, filetime, names } = self.ntlm.ok_or(Refusal::NoMechanism)?;
        Ok(Challenge::answer(negotiate, server_challenge, filetime, names)?)
    }

    /// The mechanism of a name, if it may be used.
    fn mechanism(&self, name: &[u8]) -> Option<Mechanism> {
        if name == oid::NTLM {
            self.ntlm.map(|_| Mechanism::Ntlm)
        } else {
            (self.kerberos && oid::KERBEROS.contains(&name)).then_some(Mechanism::Kerberos)
        }
    }
}

impl Handshake {
    /// Takes the next token.
    pub(super) fn step(self, token: &[u8], facts: &Facts<'_>) -> Result<Step, Refusal> {
        let legs = self.legs.saturating_add(1);
        if legs > MAX_LEGS {
            return Err(Refusal::TooLong);
        }
        if let Stage::Raw(challenge) = self.stage {
            return Ok(Step::Prove(Logon { proof: challenge.authenticate(token)?, wrapping: None }));
        }
        let response = NegTokenResp::parse(token).ok_or(Refusal::Token)?;
        let mic = response.mic.map(<[u8]>::to_owned);
        let token = response.token.ok_or(Refusal::Token);
        match self.stage {
            Stage::Raw(_) => Err(Refusal::Token),
            Stage::Chosen(wrapping) if wrapping.mechanism == Mechanism::Kerberos => {
                TicketLogon::wrapped(legs, token?, wrapping, None, mic)
            }
            Stage::Chosen(wrapping) => {
                let challenge = facts.challenge(token?)?;
                let answer = spnego::response(NegState::AcceptIncomplete, None, Some(challenge.message()), None);
                Ok(proceed(legs, answer, Stage::Wrapped(wrapping, challenge)))
            }
            Stage::Wrapped(wrapping, challenge) => {
                let proof = challenge.authenticate(token?)?;
                Ok(Step::Prove(Logon { proof, wrapping: Some((wrapping, mic)) }))
            }
            Stage::Unsigned(wrapping, mut ticket) => {
                let mic = mic.ok_or(Refusal::MechListMic)?;
                if !ticket.security.verify_mech_list(&wrapping.list, &mic) {
                    return Err(Refusal::MechListMic);
                }
                // Our own signature went out with the answer to the ticket.
                Ok(Step::Done(Ticket { answer: None, ..ticket }))
            }
        }
    }
}

/// A ticket that has to be accepted.
pub(super) struct TicketLogon {
    token: Vec<u8>,
    legs: u8,
    wrapping: Option<TicketWrapping>,
}

struct TicketWrapping {
    inner: Wrapping,
    /// The name of the mechanism, as the client wrote it, when the answer is the first one.
    name: Option<Vec<u8>>,
    mic: Option<Vec<u8>>,
}

impl TicketLogon {
    fn wrapped(
        legs: u8,
        token: &[u8],
        inner: Wrapping,
        name: Option<&[u8]>,
        mic: Option<Vec<u8>>,
    ) -> Result<Step, Refusal> {
        if !is_ticket(token) {
            return Err(Refusal::Token);
        }
        let wrapping = Some(TicketWrapping { inner, name: name.map(<[u8]>::to_owned), mic });
        Ok(Step::Accept(Self { token: token.to_owned(), legs, wrapping }))
    }

    /// The token of Kerberos.
    pub(super) fn token(&self) -> &[u8] {
        &self.token
    }

    /// What the client gets when the ticket is refused: an error of Kerberos by which it may help itself.
    pub(super) fn refusal(&self, error: Vec<u8>) -> Vec<u8> {
        match &self.wrapping {
            Some(wrapping) => spnego::response(NegState::Reject, wrapping.name.as_deref(), Some(&error), None),
            None => error,
        }
    }

    /// Goes on with a ticket that was accepted.
    pub(super) fn conclude(self, mut ticket: Ticket) -> Result<Step, Refusal> {
        let Some(TicketWrapping { inner, name, mic }) = self.wrapping else { return Ok(Step::Done(ticket)) };
        if let Some(mic) = &mic
            && !ticket.security.verify_mech_list(&inner.list, mic)
        {
            return Err(Refusal::MechListMic);
        }
        let sign = mic.is_some() || inner.second_choice;
        let ours = if sign { Some(ticket.security.sign_mech_list(&inner.list).map_err(Refusal::Seal)?) } else { None };
        let waits = inner.second_choice && mic.is_none();
        let state = if waits { NegState::AcceptIncomplete } else { NegState::AcceptCompleted };
        let answer = spnego::response(state, name.as_deref(), ticket.answer.as_deref(), ours.as_deref());
        if waits {
            return Ok(proceed(self.legs, answer, Stage::Unsigned(inner, ticket)));
        }
        Ok(Step::Done(Ticket { answer: Some(answer), ..ticket }))
    }
}

/// A logon whose proof has to be compared.
pub(super) struct Logon {
    proof: Proof,
    wrapping: Option<(Wrapping, Option<Vec<u8>>)>,
}

/// A logon that was right.
pub(super) struct Accepted {
    /// The last token for the client.
    pub(super) token: Option<Vec<u8>>,
    /// Seals messages, if the client can.
    pub(super) security: Option<Box<dyn MessageSecurity>>,
}

impl Logon {
    /// The account that is meant.
    pub(super) fn account(&self) -> &str {
        self.proof.account()
    }

    /// Compares the proof with the hash of the account, which is `None` when there is no such account.
    pub(super) fn conclude(self, hash: Option<&NtHash>, binding: BindingCheck) -> Result<Accepted, Refusal> {
        let session = self.proof.verify(hash, binding)?;
        let mut security: Option<Box<dyn MessageSecurity>> = None;
        if let Some(context) = session.security {
            security = Some(Box::new(context));
        }
        let Some((wrapping, mic)) = self.wrapping else { return Ok(Accepted { token: None, security }) };
        let ours = match mic {
            Some(mic) => {
                let context = security.as_mut().ok_or(Refusal::MechListMic)?;
                if !context.verify_mech_list(&wrapping.list, &mic) {
                    return Err(Refusal::MechListMic);
                }
                Some(context.sign_mech_list(&wrapping.list).map_err(Refusal::Seal)?)
            }
            None if session.had_mic || wrapping.second_choice => return Err(Refusal::MechListMic),
            None => None,
        };
        let token = spnego::response(NegState::AcceptCompleted, None, None, ours.as_deref());
        Ok(Accepted { token: Some(token), security })
    }
}

/// A handshake in which type 2 went out already, to go through a recorded logon.
#[cfg(test)]
pub(super) fn resumed(list: Option<Vec<u8>>, challenge: Challenge) -> Handshake {
    let stage = match list {
        Some(list) => Stage::Wrapped(Wrapping { list, mechanism: Mechanism::Ntlm, second_choice: false }, challenge),
        None => Stage::Raw(challenge),
    };
    Handshake { legs: 1, stage }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No mechanism has so many tokens yet, so a client cannot come here over the wire.
    #[test]
    fn a_handshake_has_at_most_eight_tokens() {
        let names = ServerNames::of("vm");
        let facts =
            Facts { ntlm: Some(NtlmFacts { server_challenge: [1; 8], filetime: 0, names: &names }), kerberos: false };
        let type_1 = b"NTLMSSP\0\x01\0\0\0\x31\x02\x08\xe0";
        let token = spnego::response(NegState::AcceptIncomplete, None, Some(type_1), None);
        for (legs, ends) in [(1, false), (7, false), (8, true), (u8::MAX, true)] {
            let wrapping = Wrapping { list: Vec::new(), mechanism: Mechanism::Ntlm, second_choice: false };
            let handshake = Handshake { legs, stage: Stage::Chosen(wrapping) };
            let result = handshake.step(&token, &facts);
            assert_eq!(matches!(result, Err(Refusal::TooLong)), ends, "{legs}");
            assert_eq!(matches!(result, Ok(Step::Continue(..))), !ends, "{legs}");
        }
    }
}
