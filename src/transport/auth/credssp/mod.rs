//! The accepting side of CredSSP (`[MS-CSSP]`, `authentication.md` §9): a TLS connection inside of HTTP headers, in
//! it a logon of Negotiate, the proof that both ends see the same public key, and then the password of the client.
//!
//! The password is what CredSSP was made to hand over. Nothing here needs it, so it is wiped as soon as the name
//! beside it was compared with that of the logon.
//!
//! [`Acceptor`] is one handshake; what it leaves behind is a [`Channel`] that seals messages.

mod acceptor;
mod channel;
mod message;

pub(super) use acceptor::{Accepting, Acceptor, Admitting, Concluded, CredSspRefusal, Proving, Step};
pub(in crate::transport) use channel::{Channel, ChannelError, Record};
pub(super) use message::{TsRequest, user_of_credentials};
