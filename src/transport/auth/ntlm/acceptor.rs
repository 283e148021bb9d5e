//! From a type 1 message to a session.

use super::crypto::{Block, Key, NtHash, equal, hmac_md5, rc4_block};
use super::message::{self, Authenticate, ClientPairs, flag};
use super::seal::SecurityContext;

pub(in super::super) use super::message::ServerNames;

/// Why a logon is refused. The client learns none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum NtlmError {
    /// A message that cannot be read, or another one than is due.
    #[error("malformed NTLM message")]
    Malformed,
    /// A response of LM or `NTLMv1`.
    #[error("the client does not use NTLMv2")]
    OldResponse,
    /// Neither user nor response.
    #[error("anonymous logon")]
    Anonymous,
    /// Wrong password, unknown user, or a user who may not use NTLM.
    #[error("wrong proof")]
    WrongProof,
    /// The messages were changed on their way.
    #[error("wrong message integrity code")]
    WrongMic,
    /// The client spoke to somebody else's TLS, or did not say to whose.
    #[error("wrong or missing channel binding")]
    WrongBinding,
}

/// What is asked of the channel binding of a client (`authentication.md` §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum BindingCheck {
    /// Nothing.
    Ignored,
    /// If the client sent one, it must be this.
    IfPresent(Block),
    /// The client must have sent this.
    Required(Block),
}

impl BindingCheck {
    fn allows(self, sent: &Block) -> bool {
        match self {
            Self::Ignored => true,
            Self::IfPresent(ours) => *sent == Block::default() || equal(sent, &ours),
            Self::Required(ours) => equal(sent, &ours),
        }
    }
}

/// A logon that waits for its type 3 message.
pub(in super::super) struct Challenge {
    negotiate: Vec<u8>,
    message: Vec<u8>,
    nonce: [u8; 8],
    flags: u32,
}

impl Challenge {
    /// Answers a type 1 message. The challenge must be random and used once.
    pub(in super::super) fn answer(
        negotiate: &[u8],
        server_challenge: [u8; 8],
        filetime: u64,
        names: &ServerNames,
    ) -> Result<Self, NtlmError> {
        let wanted = message::negotiate_flags(negotiate).ok_or(NtlmError::Malformed)?;
        let always = flag::UNICODE
            | flag::REQUEST_TARGET
            | flag::NTLM
            | flag::ALWAYS_SIGN
            | flag::TARGET_TYPE_SERVER
            | flag::EXTENDED_SESSION_SECURITY
            | flag::TARGET_INFO
            | flag::VERSION;
        let on_demand = flag::SIGN | flag::SEAL | flag::KEY_128 | flag::KEY_EXCHANGE | flag::KEY_56;
        let flags = always | (wanted & on_demand);
        let message = message::challenge(flags, server_challenge, filetime, names);
        Ok(Self { negotiate: negotiate.to_owned(), message, nonce: server_challenge, flags })
    }

    /// A challenge that another server sent, to go through a recorded logon.
    #[cfg(test)]
    pub(in super::super) fn recorded(negotiate: &[u8], message: &[u8]) -> Self {
        Self {
            negotiate: negotiate.to_owned(),
            message: message.to_owned(),
            nonce: message[24..32].try_into().unwrap(),
            flags: u32::from_le_bytes(message[20..24].try_into().unwrap()),
        }
    }

    /// The type 2 message.
    pub(in super::super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// Reads a type 3 message.
    pub(in super::super) fn authenticate(self, bytes: &[u8]) -> Result<Proof, NtlmError> {
        let sent = Authenticate::parse(bytes).ok_or(NtlmError::Malformed)?;
        if sent.user.is_empty() && sent.nt_response.is_empty() {
            return Err(NtlmError::Anonymous);
        }
        if sent.nt_response.len() < 44 {
            return Err(NtlmError::OldResponse);
        }
        let (proof, temp) = sent.nt_response.split_first_chunk().ok_or(NtlmError::Malformed)?;
        let pairs = message::client_pairs(temp).ok_or(NtlmError::Malformed)?;
        let flags = self.flags & sent.flags;
        let encrypted_key = match flags & flag::KEY_EXCHANGE {
            0 => None,
            _ => Some(sent.session_key.try_into().map_err(|_| NtlmError::Malformed)?),
        };
        let mic = if pairs.mic_provided { Some(message::take_mic(bytes).ok_or(NtlmError::Malformed)?) } else { None };
        Ok(Proof {
            claimed: *proof,
            temp: temp.to_owned(),
            domain: sent.domain.into_owned(),
            user: sent.user,
            encrypted_key,
            mic,
            pairs,
            flags,
            challenge: self,
        })
    }
}

/// A type 3 message whose proof has to be compared.
pub(in super::super) struct Proof {
    challenge: Challenge,
    claimed: Block,
    temp: Vec<u8>,
    domain: Vec<u8>,
    user: String,
    encrypted_key: Option<Block>,
    mic: Option<(Block, Vec<u8>)>,
    pairs: ClientPairs,
    flags: u32,
}

impl Proof {
    /// The account that is meant. This host knows local accounts only, so the domain is not looked at:
    /// clients send nothing, a dot, the host name, a workgroup or our own target name there.
    pub(in super::super) fn account(&self) -> &str {
        let user = self.user.rsplit_once('\\').map_or(self.user.as_str(), |(_, user)| user);
        user.split_once('@').map_or(user, |(user, _)| user)
    }

    /// Compares the proof with the one the account's hash gives, and everything that hangs on it.
    /// An account that is not there costs as much as one that is.
    pub(in super::super) fn verify(&self, hash: Option<&NtHash>, binding: BindingCheck) -> Result<Session, NtlmError> {
        let nobody = NtHash::of_nobody();
        let response_key = hash.unwrap_or(&nobody).response_key(&self.user, &self.domain);
        let expected = hmac_md5(&response_key, &[&self.challenge.nonce, &self.temp]);
        let base_key = hmac_md5(&response_key, &[&self.claimed]);
        if !equal(expected.as_slice(), &self.claimed) || hash.is_none() {
            return Err(NtlmError::WrongProof);
        }
        let session_key: Key = match &self.encrypted_key {
            Some(encrypted) => rc4_block(&base_key, encrypted),
            None => base_key,
        };
        if let Some((mic, without)) = &self.mic {
            let expected = hmac_md5(&session_key, &[&self.challenge.negotiate, &self.challenge.message, without]);
            if !equal(expected.as_slice(), mic) {
                return Err(NtlmError::WrongMic);
            }
        }
        if !binding.allows(&self.pairs.channel_binding) {
            return Err(NtlmError::WrongBinding);
        }
        let security =
            (self.flags & flag::EXTENDED_SESSION_SECURITY != 0).then(|| SecurityContext::new(&session_key, self.flags));
        Ok(Session { security, had_mic: self.mic.is_some() })
    }
}

/// A logon that was right.
pub(in super::super) struct Session {
    /// Signs and seals; not there when the client knows only the oldest session security.
    pub(in super::super) security: Option<SecurityContext>,
    /// The type 3 message had a MIC.
    pub(in super::super) had_mic: bool,
}
