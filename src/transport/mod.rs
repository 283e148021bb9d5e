//! HTTP and HTTPS (rank 6): sockets, TLS, authentication, encodings and limits.
//!
//! A request is looked at in one fixed order, so that the answer to a request that is wrong in
//! several ways is always the same: path (404), method (405), media type (415, 400), size (413),
//! credentials (401, 403), coding and charset, and only then the envelope goes to the protocol
//! layer. Every SOAP fault is HTTP 500 (`ws-management.md` §2.4, §4).
//!
//! Invariants:
//! - nothing but Identify is answered without a [`Principal`](crate::cimom::Principal), and only
//!   [`auth`] makes one;
//! - a connection is HTTP/1.1: authentication may be bound to it;
//! - every wait and every buffer has a limit in [`Limits`].
//!
//! ```no_run
//! # async fn run(service: std::sync::Arc<wsnapd::wsman::Service>, users: wsnapd::transport::auth::PasswordKeeper)
//! # -> std::io::Result<()> {
//! use wsnapd::transport::{AuthPolicy, Limits, Listener, Server};
//!
//! let auth = AuthPolicy {
//!     users,
//!     basic: true,
//!     allow_unencrypted: false,
//!     negotiate: None,
//!     kerberos: None,
//!     certificate: false,
//!     credssp: None,
//! };
//! let stop = tokio_util::sync::CancellationToken::new();
//! let server = Server::new(service, auth, Limits::default());
//! let listener = Listener::bind("127.0.0.1:5985".parse().unwrap(), None)?;
//! server.serve(vec![listener], stop).await;
//! # Ok(()) }
//! ```

pub mod auth;
mod authorities;
mod body;
mod channel_binding;
mod charset;
mod connection;
mod exchange;
mod handler;
mod limits;
mod linger;
mod media_type;
pub mod private_file;
mod reply;
mod sealing;
mod sealing_tls;
mod server;
mod tls;

pub use auth::AuthPolicy;
pub use handler::EnvelopeHandler;
pub use limits::Limits;
#[doc(hidden)]
pub use sealing::reads as reads_sealed;
#[doc(hidden)]
pub use sealing_tls::reads as reads_sealed_by_tls;
pub use server::{Listener, Server};
pub use tls::{ClientAuthorities, TlsError, TlsIdentity, TlsSettings};
