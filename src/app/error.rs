//! Why the program does not start, or does not go on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::backend::BackendError;
use crate::cim::CimError;
use crate::config::ConfigError;
use crate::engine::{EngineError, StoreError};
use crate::transport::TlsError;
use crate::transport::auth::{KeeperError, KeytabError, UserNameError, UsersError};

use super::certificate::CertificateError;

/// Why the program does not start or go on. The message says what failed, its sources why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The configuration has mistakes.
    #[error("the configuration is wrong:\n{0}")]
    Config(#[from] ConfigError),
    /// A directory or file of the server cannot be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {0}; another program may use the port, and port 0 takes a free one")]
    Listen(SocketAddr, #[source] io::Error),
    /// There is nothing to listen on.
    #[error("no address to listen on")]
    NoListener,
    /// The own certificate.
    #[error("the server's certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// TLS.
    #[error("HTTPS cannot be offered")]
    Tls(#[from] TlsError),
    /// The password file.
    #[error("the password file cannot be used")]
    Users(#[from] UsersError),
    /// A user name.
    #[error("this cannot be a user")]
    UserName(#[from] UserNameError),
    /// The keytab.
    #[error("Kerberos cannot be offered")]
    Keytab(#[from] KeytabError),
    /// A keytab without the keys that are needed.
    #[error("the keytab {0} has no key of {1}; add one, as with `kadmin ktadd -k {0} HTTP/host.example.test`")]
    NoServiceKey(PathBuf, String),
    /// A keytab is configured, but the program cannot use it.
    #[error("this wsnapd was built without Kerberos")]
    WithoutKerberos,
    /// The library of Kerberos.
    #[cfg(feature = "kerberos")]
    #[error("Kerberos cannot be offered")]
    Gssapi(#[from] crate::transport::auth::GssapiError),
    /// Password hashing.
    #[error("the password cannot be hashed")]
    Hash(#[from] argon2::password_hash::Error),
    /// The password thread.
    #[error("passwords cannot be checked")]
    Keeper(#[from] KeeperError),
    /// The back-end.
    #[error("the back-end cannot be opened")]
    Backend(#[from] BackendError),
    /// The store.
    #[error("the store cannot be opened")]
    Store(#[from] StoreError),
    /// The engine.
    #[error("the engine cannot be started")]
    Engine(#[from] EngineError),
    /// The lease on the records is lost.
    #[error("another server has taken over the data directory")]
    LeaseLost,
    /// A built-in class does not compile, or a provider serves a class that does not exist.
    #[error("the built-in schema is wrong:\n{0}")]
    Schema(String),
    /// A provider does not find its class as it needs it.
    #[error("the providers and the built-in schema do not fit")]
    Provider(#[from] CimError),
    /// The demo listens on the loopback only, because it lets passwords cross in clear text.
    #[error("without --strict the demo listens on loopback addresses only, not on {0}")]
    NotLoopback(SocketAddr),
    /// No directory to keep data in.
    #[error("no home directory to keep the demo's data in; give --data-dir")]
    NoStateDirectory,
    /// The runtime or a signal handler.
    #[error("the system refuses threads or signals")]
    System(#[source] io::Error),
}
