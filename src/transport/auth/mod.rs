//! Who is asking (`authentication.md`).
//!
//! A scheme is one file in this directory and one arm in `ConnectionAuth::authenticate`. State
//! that belongs to the connection (a handshake, a security context that seals messages) lives in
//! `ConnectionAuth`, of which every connection has its own; what all connections share is in
//! [`AuthPolicy`].

mod basic;
mod certificate;
mod certificate_logon;
mod connection;
mod credssp;
mod credssp_logon;
pub mod decoders;
mod defence;
mod host;
mod keeper;
mod kerberos;
mod negotiate;
mod ntlm;
mod policy;
#[cfg(test)]
mod recorded_tests;
mod scheme;
mod security;
mod spnego;
mod users;

pub use certificate::{CertificateRule, CertificateRuleError};
pub use defence::LogonLimits;
#[cfg(feature = "pam")]
pub use host::PamService;
pub use host::{HostPasswords, HostVerdict};
pub use keeper::{KeeperError, PasswordKeeper};
#[cfg(feature = "kerberos")]
pub use kerberos::{GssapiError, KeytabAcceptor};
pub use kerberos::{Keytab, KeytabEntry, KeytabError, Ticket, TicketAcceptor, TicketError, TicketFault};
pub use ntlm::NtHash;
pub use policy::{AuthPolicy, ChannelBindingPolicy, CredSspPolicy, KerberosPolicy, NegotiatePolicy};
pub use security::{MessageSecurity, SealError};
pub use users::{User, UserNameError, UsersError, UsersFile, hash_password};

pub(super) use certificate::{ClientCertificate, record_handshake};
pub(super) use connection::{Admitted, ConnectionAuth, Outcome};
pub(super) use credssp::Record;
