//! Signing and sealing with extended session security ([MS-NLMP] §3.4).

use std::fmt;

use zeroize::Zeroizing;

use super::crypto::{Block, Key, equal, hmac_md5, md5};
use super::message::flag;
use super::stitched::{Clear, KeyStream};
use crate::transport::auth::security::{MessageSecurity, SealError};

/// The keys of both directions. Messages must be unsealed in the order in which they arrive and sealed
/// in the order in which they leave.
pub(in super::super) struct SecurityContext {
    client: Direction,
    server: Direction,
    key_exchange: bool,
    can_seal: bool,
}

impl fmt::Debug for SecurityContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecurityContext").field("can_seal", &self.can_seal).finish_non_exhaustive()
    }
}

struct Direction {
    sign_key: Key,
    seal_key: Key,
    key_stream: KeyStream,
    sequence: u32,
}

impl SecurityContext {
    pub(super) fn new(session_key: &Block, flags: u32) -> Self {
        let direction = |sign: &[u8], seal: &[u8]| {
            let seal_key = Zeroizing::new(md5(&[session_key, seal]));
            Direction {
                sign_key: Zeroizing::new(md5(&[session_key, sign])),
                key_stream: KeyStream::new(&seal_key),
                seal_key,
                sequence: 0,
            }
        };
        Self {
            client: direction(
                b"session key to client-to-server signing key magic constant\0",
                b"session key to client-to-server sealing key magic constant\0",
            ),
            server: direction(
                b"session key to server-to-client signing key magic constant\0",
                b"session key to server-to-client sealing key magic constant\0",
            ),
            key_exchange: flags & flag::KEY_EXCHANGE != 0,
            // The weak variants cut the key to 56 or 40 bits first; they are not carried.
            can_seal: flags & flag::SEAL != 0 && flags & flag::KEY_128 != 0,
        }
    }
}

/// The header of a message is its signature.
impl MessageSecurity for SecurityContext {
    fn can_seal(&self) -> bool {
        self.can_seal
    }

    fn seal(&mut self, message: &mut [u8]) -> Result<Vec<u8>, SealError> {
        Ok(self.server.seal(message, self.key_exchange)?.to_vec())
    }

    fn unseal(&mut self, header: &[u8], mut message: Vec<u8>) -> Result<Vec<u8>, SealError> {
        let signature = header.try_into().map_err(|_| SealError::Signature)?;
        self.client.unseal(signature, &mut message, self.key_exchange)?;
        Ok(message)
    }

    fn verify_mech_list(&mut self, list: &[u8], mic: &[u8]) -> bool {
        equal(&self.client.sign_once(list, self.key_exchange), mic)
    }

    fn sign_mech_list(&mut self, list: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(self.server.sign_once(list, self.key_exchange).to_vec())
    }
}

impl Direction {
    fn seal(&mut self, message: &mut [u8], key_exchange: bool) -> Result<Block, SealError> {
        let mac = self.key_stream.apply_and_sum(&self.sign_key, self.sequence, message, Clear::Before);
        let signature = self.signature(&mac, key_exchange);
        self.advance()?;
        Ok(signature)
    }

    fn unseal(&mut self, signature: &Block, message: &mut [u8], key_exchange: bool) -> Result<(), SealError> {
        let mac = self.key_stream.apply_and_sum(&self.sign_key, self.sequence, message, Clear::After);
        let expected = self.signature(&mac, key_exchange);
        if !equal(&expected, signature) {
            return Err(SealError::Signature);
        }
        self.advance()
    }

    /// A signature by itself. It takes a sequence number, but the key stream starts anew after it.
    fn sign_once(&mut self, message: &[u8], key_exchange: bool) -> Block {
        let mac = hmac_md5(&self.sign_key, &[&self.sequence.to_le_bytes(), message]);
        let signature = self.signature(&mac, key_exchange);
        self.key_stream = KeyStream::new(&self.seal_key);
        // It is made once, in the handshake, so the sequence is at its beginning.
        self.sequence = self.sequence.saturating_add(1);
        signature
    }

    /// Version 1, half of the MAC (enciphered when keys were exchanged), sequence number.
    fn signature(&mut self, mac: &Block, key_exchange: bool) -> Block {
        let mut half = [0; 8];
        for (to, from) in half.iter_mut().zip(mac) {
            *to = *from;
        }
        if key_exchange {
            self.key_stream.apply(&mut half);
        }
        let bytes = [1, 0, 0, 0].into_iter().chain(half).chain(self.sequence.to_le_bytes());
        let mut signature = Block::default();
        for (to, from) in signature.iter_mut().zip(bytes) {
            *to = from;
        }
        signature
    }

    fn advance(&mut self) -> Result<(), SealError> {
        self.sequence = self.sequence.checked_add(1).ok_or(SealError::Exhausted)?;
        Ok(())
    }
}
