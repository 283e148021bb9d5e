//! The accepting side of NTLM (`[MS-NLMP]`, `authentication.md` §5): `NTLMv2` with session security.
//!
//! Pure: the challenge, the time and the account come in as values. A logon is three values, each
//! made from the one before, so that no step can be left out:
//! [`Challenge`] (we sent type 2) → [`Proof`] (type 3 was read) → [`Session`] (the proof was right).
//!
//! Invariants:
//! - the proof string is compared in every logon, whatever else the message carries;
//! - a challenge is used up by the first type 3;
//! - nothing here prints a key, a hash or a proof.

mod acceptor;
mod crypto;
mod message;
mod seal;
mod stitched;
#[cfg(test)]
mod tests;

pub(super) use acceptor::{BindingCheck, Challenge, NtlmError, Proof, ServerNames};
pub use crypto::NtHash;

/// Whether a token is an NTLM message of its own, without SPNEGO around it.
pub(super) fn is_message(token: &[u8]) -> bool {
    token.starts_with(message::SIGNATURE)
}

/// Whether a token is a type 1 message, which begins a logon.
pub(super) fn is_negotiate(token: &[u8]) -> bool {
    message::message_type(token) == Some(message::NEGOTIATE)
}
