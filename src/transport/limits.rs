//! The limits of the transport, with the defaults of WinRM.

use std::time::Duration;

/// What a connection and a request may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `MaxEnvelopeSizekb` in bytes: a longer request is answered 413 without reading it.
    pub max_envelope_bytes: usize,
    /// `MaxConnections`: one more connection is answered 503.
    pub max_connections: usize,
    /// `MaxPacketRetrievalTimeSeconds`: a body that takes longer is answered 500 and the connection closed.
    pub packet_retrieval: Duration,
    /// How long a connection may wait for the head of its next request.
    pub idle: Duration,
    /// How long a TLS handshake may take, and how long one of a connection-bound scheme.
    pub handshake: Duration,
    /// How long requests under way may go on after the server was told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_envelope_bytes: 500 * 1024,
            max_connections: 300,
            packet_retrieval: Duration::from_secs(120),
            idle: Duration::from_secs(120),
            handshake: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

/// The largest head of a request. Kerberos tickets with many groups make `Authorization` long: a
/// token of 64 KiB is 88 KiB in base64.
pub(super) const MAX_HEAD_BYTES: usize = 96 * 1024;

/// Connections beyond `MaxConnections` that are still told so with a 503; more are closed unheard.
pub(super) const REFUSAL_SLOTS: usize = 16;

/// How much of what a client still sends is read after an early answer, so that the answer is not
/// lost in a connection reset.
pub(super) const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// How long that may take.
pub(super) const LINGER_TIME: Duration = Duration::from_secs(2);
