//! Why a call failed.

use std::path::PathBuf;

use crate::xml::XmlError;

/// A SOAP fault as the client understood it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultAnswer {
    /// The local part of the most specific code: `DestinationUnreachable`, `AccessDenied` …
    pub code: String,
    /// The sentence of the fault.
    pub reason: String,
    /// The last part of the fault detail URI.
    pub detail: Option<String>,
    /// `f:WSManFault/@Code`.
    pub wsman_code: Option<u32>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL is none, or not one of HTTP.
    #[error("{0} is not a URL such as https://host:5986/wsman")]
    Url(String),
    /// A file with certificates cannot be read.
    #[error("{0} cannot be read as a certificate in PEM form")]
    Certificate(PathBuf),
    /// A file with a private key cannot be read.
    #[error("{0} cannot be read as a private key in PEM form")]
    Key(PathBuf),
    /// User name or password cannot be sent.
    #[error("the user name or the password holds characters that cannot be sent")]
    Credentials,
    /// No connection.
    #[error("cannot connect to {0}")]
    Connect(String, #[source] std::io::Error),
    /// The TLS handshake failed; usually the certificate is not trusted.
    #[error("no trusted TLS connection to {0}")]
    Tls(String, #[source] std::io::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Http(#[from] hyper::Error),
    /// No answer in time.
    #[error("no answer within {0} seconds")]
    TimedOut(u64),
    /// The answer is larger than what was asked for.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// HTTP 401.
    #[error("user name or password not accepted")]
    Unauthorized,
    /// HTTP 403.
    #[error("refused: this address takes no credentials in clear text")]
    Forbidden,
    /// Another HTTP status without a SOAP answer.
    #[error("HTTP status {0}")]
    Status(u16),
    /// A SOAP fault.
    #[error("{} ({})", .0.reason, .0.code)]
    Fault(FaultAnswer),
    /// The answer is no XML.
    #[error("the answer cannot be read")]
    Xml(#[from] XmlError),
    /// The answer is not the one to the request.
    #[error("the answer has no {0}")]
    Incomplete(&'static str),
}
