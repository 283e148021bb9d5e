//! Negotiate (RFC 4559): the handshake of a connection, raw or inside SPNEGO, as a pure state machine.
//!
//! [`begin`] takes the first token of a client and [`Handshake::step`] each further one. Both say what
//! comes next ([`Step`]): another token, or a logon whose proof is compared once the account is known.
//! A client is answered in kind: raw for raw, SPNEGO for SPNEGO. Another mechanism is one more kind of
//! token here.

use super::ntlm::{self, BindingCheck, Challenge, NtHash, NtlmError, Proof, SecurityContext, ServerNames};
use super::spnego::{self, NegState, NegTokenInit, NegTokenResp, oid};

/// Tokens of one handshake. NTLM needs two, and one more when the client hoped for something else.
const MAX_LEGS: u8 = 8;
/// The longest token.
pub(super) const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// Why a handshake ends. The client learns only that it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
}

/// What a handshake takes from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
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
    /// The proof has to be compared.
    Prove(Logon),
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
}

/// What SPNEGO keeps until the end.
struct Wrapping {
    list: Vec<u8>,
    /// NTLM was not what the client hoped for, so the list must be signed.
    second_choice: bool,
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
    let init = NegTokenInit::parse(token).ok_or(Refusal::Token)?;
    let place = init.mechanisms.iter().position(|name| *name == oid::NTLM).ok_or(Refusal::NoMechanism)?;
    let wrapping = Wrapping { list: init.list.to_owned(), second_choice: place > 0 };
    let first = init.token.filter(|_| place == 0);
    let Some(first) = first else {
        let state = if wrapping.second_choice { NegState::RequestMic } else { NegState::AcceptIncomplete };
        let answer = spnego::response(state, Some(oid::NTLM), None, None);
        return Ok(proceed(1, answer, Stage::Chosen(wrapping)));
    };
    let challenge = facts.challenge(first)?;
    let answer = spnego::response(NegState::AcceptIncomplete, Some(oid::NTLM), Some(challenge.message()), None);
    Ok(proceed(1, answer, Stage::Wrapped(wrapping, challenge)))
}

fn proceed(legs: u8, answer: Vec<u8>, stage: Stage) -> Step {
    Step::Continue(answer, Handshake { legs, stage })
}

impl Facts<'_> {
    fn challenge(&self, negotiate: &[u8]) -> Result<Challenge, NtlmError> {
        Challenge::answer(negotiate, self.server_challenge, self.filetime, self.names)
    }
}

impl Handshake {
    /// Takes the next token.
    pub(super) fn step(self, token: &[u8], facts: &Facts<'_>) -> Result<Step, Refusal> {
        let legs = self.legs.saturating_add(1);
        if legs > MAX_LEGS {
            return Err(Refusal::TooLong);
        }
        match self.stage {
            Stage::Raw(challenge) => Ok(Step::Prove(Logon { proof: challenge.authenticate(token)?, wrapping: None })),
            Stage::Chosen(wrapping) => {
                let token = NegTokenResp::parse(token).and_then(|response| response.token).ok_or(Refusal::Token)?;
                let challenge = facts.challenge(token)?;
                let answer = spnego::response(NegState::AcceptIncomplete, None, Some(challenge.message()), None);
                Ok(proceed(legs, answer, Stage::Wrapped(wrapping, challenge)))
            }
            Stage::Wrapped(wrapping, challenge) => {
                let response = NegTokenResp::parse(token).ok_or(Refusal::Token)?;
                let proof = challenge.authenticate(response.token.ok_or(Refusal::Token)?)?;
                let mic = response.mic.map(<[u8]>::to_owned);
                Ok(Step::Prove(Logon { proof, wrapping: Some((wrapping, mic)) }))
            }
        }
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
    pub(super) security: Option<SecurityContext>,
}

impl Logon {
    /// The account that is meant.
    pub(super) fn account(&self) -> &str {
        self.proof.account()
    }

    /// Compares the proof with the hash of the account, which is `None` when there is no such account.
    pub(super) fn conclude(self, hash: Option<&NtHash>, binding: BindingCheck) -> Result<Accepted, Refusal> {
        let mut session = self.proof.verify(hash, binding)?;
        let Some((wrapping, mic)) = self.wrapping else {
            return Ok(Accepted { token: None, security: session.security });
        };
        let ours = match mic {
            Some(mic) => {
                let context = session.security.as_mut().ok_or(Refusal::MechListMic)?;
                if !context.verify_mech_list(&wrapping.list, &mic) {
                    return Err(Refusal::MechListMic);
                }
                Some(context.sign_mech_list(&wrapping.list))
            }
            None if session.had_mic || wrapping.second_choice => return Err(Refusal::MechListMic),
            None => None,
        };
        let token = spnego::response(NegState::AcceptCompleted, None, None, ours.as_ref().map(<[u8; 16]>::as_slice));
        Ok(Accepted { token: Some(token), security: session.security })
    }
}

/// A handshake in which type 2 went out already, to go through a recorded logon.
#[cfg(test)]
pub(super) fn resumed(list: Option<Vec<u8>>, challenge: Challenge) -> Handshake {
    let stage = match list {
        Some(list) => Stage::Wrapped(Wrapping { list, second_choice: false }, challenge),
        None => Stage::Raw(challenge),
    };
    Handshake { legs: 1, stage }
}
