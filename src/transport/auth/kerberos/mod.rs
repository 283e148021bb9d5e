//! Kerberos (RFC 4120, RFC 4121, `authentication.md` §6): who a ticket is of, and the keys that come with it.
//!
//! The state machines of the transport know only [`TicketAcceptor`]. The one that serves is `KeytabAcceptor`, on MIT
//! Kerberos and with the feature `kerberos`; tests bring their own.

mod error_token;
#[cfg(feature = "kerberos")]
mod gssapi;
mod keytab;

use std::time::Duration;

use super::security::MessageSecurity;

#[cfg(feature = "kerberos")]
pub use gssapi::{GssapiError, KeytabAcceptor};
pub use keytab::{Keytab, KeytabEntry, KeytabError};

pub(super) use error_token::error_token;

/// Accepts tickets.
pub trait TicketAcceptor: Send + Sync {
    /// Accepts a first token of Kerberos, with its GSS-API frame. `binding` is the application data of the
    /// connection's channel binding: a client that sent another one is refused, one that sent none is not.
    ///
    /// May block: it reads the keytab and writes to the replay cache.
    ///
    /// # Errors
    /// A [`TicketError`] for a ticket that is not good.
    fn accept(&self, token: &[u8], binding: Option<&[u8]>) -> Result<Ticket, TicketError>;
}

/// A ticket that was good.
pub struct Ticket {
    /// Whose it is: `name@REALM`.
    pub principal: String,
    /// How long it lasts from now on.
    pub lifetime: Duration,
    /// The client sent the right channel binding.
    pub bound: bool,
    /// The proof that the server is the right one, if the client asked for it.
    pub answer: Option<Vec<u8>>,
    /// Protects the messages.
    pub security: Box<dyn MessageSecurity>,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("principal", &self.principal).field("bound", &self.bound).finish_non_exhaustive()
    }
}

/// Why a ticket is not good. The client learns only what [`TicketFault`] lets it learn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct TicketError {
    /// What kind of reason it is.
    pub fault: TicketFault,
    /// For the log and the audit trail.
    pub reason: String,
}

/// What kind of reason there is to refuse a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketFault {
    /// It cannot be read.
    Malformed,
    /// It is for another key or another service, or was changed or repeated.
    Wrong,
    /// It is good, but the client spoke to somebody else's TLS.
    Unbound,
    /// It is good, but not at this time, or the clocks differ too much. The client is told by this error code of
    /// Kerberos, so that it can correct its clock or fetch another ticket.
    Untimely(u8),
}
