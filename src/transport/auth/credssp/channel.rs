//! The inner TLS connection, without a socket.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use zeroize::Zeroizing;

/// The most clear text of one record.
const RECORD_BYTES: usize = 16 * 1024;

/// Why the inner connection ends. Afterwards it is of no more use.
#[derive(Debug, thiserror::Error)]
pub(in crate::transport) enum ChannelError {
    /// TLS refused.
    #[error("the inner TLS connection: {0}")]
    Tls(#[from] rustls::Error),
    /// More bytes than there may be, or a connection that was closed.
    #[error("the inner TLS connection takes no more")]
    Buffer(#[from] std::io::Error),
    /// Not the length that was announced.
    #[error("the message has not the length that it announces")]
    Length,
}

/// A piece of a sealed message.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::transport) struct Record {
    /// The bytes of clear text in it.
    pub(in crate::transport) clear: usize,
    /// The TLS records.
    pub(in crate::transport) bytes: Vec<u8>,
}

/// The server's end of the inner TLS connection.
#[derive(Debug)]
pub(in crate::transport) struct Channel(Box<ServerConnection>);

impl Channel {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, ChannelError> {
        let mut tls = ServerConnection::new(config)?;
        tls.set_buffer_limit(None);
        Ok(Self(Box::new(tls)))
    }

    /// Whether clear text may flow.
    pub(super) fn is_open(&self) -> bool {
        !self.0.is_handshaking()
    }

    /// Takes bytes of the client; gives the clear text in them.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
        let mut clear = Zeroizing::new(Vec::with_capacity(bytes.len()));
        while !bytes.is_empty() {
            let taken = self.0.read_tls(&mut bytes)?;
            let state = self.0.process_new_packets()?;
            let ready = state.plaintext_bytes_to_read();
            let start = clear.len();
            clear.resize(start + ready, 0);
            if let Some(room) = clear.get_mut(start..) {
                self.0.reader().read_exact(room)?;
            }
            if taken == 0 {
                break;
            }
        }
        Ok(clear)
    }

    /// Takes clear text of this side, if any; gives the bytes for the client.
    pub(super) fn send(&mut self, clear: &[u8]) -> Result<Vec<u8>, ChannelError> {
        self.0.writer().write_all(clear)?;
        let mut bytes = Vec::with_capacity(clear.len() + 64);
        while self.0.wants_write() {
            self.0.write_tls(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Unseals a part of a message.
    pub(in crate::transport) fn unseal(&mut self, part: &Record) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
        let clear = self.receive(&part.bytes)?;
        if clear.len() == part.clear { Ok(clear) } else { Err(ChannelError::Length) }
    }

    /// Seals an answer, in as many parts as it needs records.
    pub(in crate::transport) fn seal(&mut self, message: &[u8]) -> Result<Vec<Record>, ChannelError> {
        let part = |clear: &[u8]| Ok(Record { clear: clear.len(), bytes: self.send(clear)? });
        message.chunks(RECORD_BYTES).map(part).collect()
    }

    /// What a record has behind its clear text; clients are told so, and do not use it.
    pub(in crate::transport) fn trailer(&self) -> u32 {
        match self.0.protocol_version() {
            // The type of the content, and the tag.
            Some(ProtocolVersion::TLSv1_3) => 17,
            // The tag: rustls has no other ciphers than such.
            _ => 16,
        }
    }
}
