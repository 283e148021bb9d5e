//! The HTTP side: one connection, kept and made again when it is gone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::error::ClientError;

/// What a client sends to log on with its certificate.
const MUTUAL: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual";
/// The largest answer that is read.
const MAX_ANSWER: usize = 4 << 20;

/// Which certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// None: only `http://` can be used.
    Nothing,
    /// Those of a PEM file.
    File(PathBuf),
}

/// Where to connect to and as whom.
#[derive(Clone)]
pub struct ClientOptions {
    /// `https://host:5986/wsman`
    pub url: String,
    /// The user; empty to send no credentials.
    pub user: String,
    /// The password.
    pub password: Zeroizing<String>,
    /// Which certificates are trusted.
    pub trust: Trust,
    /// PEM files with a certificate and its key to log on with, in place of user and password.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// How long one call may take.
    pub timeout: Duration,
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientOptions").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

impl ClientOptions {
    /// Options without trusted certificates and with a minute for a call.
    #[must_use]
    pub fn new(url: &str, user: &str, password: &str) -> Self {
        Self {
            url: url.to_owned(),
            user: user.to_owned(),
            password: Zeroizing::new(password.to_owned()),
            trust: Trust::Nothing,
            certificate: None,
            timeout: Duration::from_secs(60),
        }
    }
}

/// The connection to a server.
pub(super) struct Connection {
    pub(super) url: String,
    pub(super) timeout: Duration,
    host: String,
    port: u16,
    pub(super) path: String,
    pub(super) authority: HeaderValue,
    pub(super) authorization: Option<HeaderValue>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    open: Mutex<Option<Open>>,
}

/// An open connection; the task that drives it ends with it.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A connection, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connection {
    pub(super) fn new(options: &ClientOptions) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url(options.url.clone());
        let uri: Uri = options.url.parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let tls = if secure {
            Some(
                tls(&options.trust, options.certificate.as_ref(), &host)
                    .map_err(|error| error.unwrap_or_else(wrong))?,
            )
        } else {
            None
        };
        let path = match uri.path() {
            "" | "/" => "/wsman".to_owned(),
            path => path.to_owned(),
        };
        Ok(Self {
            url: options.url.clone(),
            timeout: options.timeout,
            port: authority.port_u16().unwrap_or(if secure { 5986 } else { 5985 }),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?,
            authorization: match options.certificate {
                Some(_) => Some(HeaderValue::from_static(MUTUAL)),
                None => authorization(&options.user, &options.password)?,
            },
            host,
            path,
            tls,
            open: Mutex::default(),
        })
    }

    /// Sends an envelope and gives the answer, whatever SOAP says in it.
    pub(super) async fn exchange(&self, envelope: String, anonymous: bool) -> Result<String, ClientError> {
        let slow = ClientError::TimedOut(self.timeout.as_secs());
        // Ten seconds more than the server has, so that its own time-out fault arrives.
        let limit = self.timeout + Duration::from_secs(10);
        tokio::time::timeout(limit, self.exchange_in_time(envelope, anonymous)).await.unwrap_or(Err(slow))
    }

    async fn exchange_in_time(&self, envelope: String, anonymous: bool) -> Result<String, ClientError> {
        let mut request = Request::post(&self.path)
            .header(HOST, self.authority.clone())
            .header(CONTENT_TYPE, "application/soap+xml;charset=UTF-8")
            .body(Full::new(Bytes::from(envelope)))
            .map_err(|_| ClientError::Url(self.url.clone()))?;
        if anonymous {
            request.headers_mut().insert("wsmanidentify", HeaderValue::from_static("unauthenticated"));
        } else if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let (status, _, body) = self.send(request).await?;
        match status {
            StatusCode::OK | StatusCode::INTERNAL_SERVER_ERROR if !body.is_empty() => {
                String::from_utf8(body.into()).map_err(|_| ClientError::Incomplete("valid text"))
            }
            StatusCode::UNAUTHORIZED => Err(ClientError::Unauthorized),
            StatusCode::FORBIDDEN => Err(ClientError::Forbidden),
            other => Err(ClientError::Status(other.as_u16())),
        }
    }

    /// Sends a request as it is.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), ClientError> {
        // Calls wait for each other: there is one connection, and HTTP/1.1 carries one call at a time.
        let mut open = self.open.lock().await;
        let mut connection = match open.take().filter(|open| !open.sender.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.sender.ready().await?;
        let response = connection.sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|_| ClientError::TooLarge(MAX_ANSWER))?.to_bytes();
        *open = Some(connection);
        Ok((head.status, head.headers, body))
    }

    async fn connect(&self) -> Result<Open, ClientError> {
        let (sender, connection) = handshake(TokioIo::new(self.stream().await?)).await?;
        let driver = tokio::spawn(async move {
            // What breaks the connection is seen by the call that waits for its answer.
            connection.await.ok();
        });
        Ok(Open { sender, driver: driver.abort_handle() })
    }

    /// A new connection without HTTP on it.
    pub(super) async fn stream(&self) -> Result<Box<dyn Stream>, ClientError> {
        let address = format!("{}:{}", self.host, self.port);
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|error| ClientError::Connect(address.clone(), error))?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((connector, name)) => {
                let secured = connector.connect(name.clone(), stream).await;
                Ok(Box::new(secured.map_err(|error| ClientError::Tls(address, error))?))
            }
        }
    }
}

fn authorization(user: &str, password: &str) -> Result<Option<HeaderValue>, ClientError> {
    if user.is_empty() {
        return Ok(None);
    }
    if user.contains(':') {
        return Err(ClientError::Credentials);
    }
    let pair = Zeroizing::new(format!("{user}:{password}"));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&value).map_err(|_| ClientError::Credentials)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// A certificate and its key.
fn identity(
    (certificate, key): &(PathBuf, PathBuf),
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ClientError> {
    let unreadable = |file: &PathBuf| ClientError::Certificate(file.clone());
    let chain = CertificateDer::pem_file_iter(certificate).map_err(|_| unreadable(certificate))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|_| unreadable(certificate))?;
    Ok((chain, PrivateKeyDer::from_pem_file(key).map_err(|_| ClientError::Key(key.clone()))?))
}

/// The TLS side of a client; `None` as the error when the host cannot be a server name.
pub(super) fn tls(
    trust: &Trust,
    certificate: Option<&(PathBuf, PathBuf)>,
    host: &str,
) -> Result<(TlsConnector, ServerName<'static>), Option<ClientError>> {
    let mut roots = RootCertStore::empty();
    if let Trust::File(file) = trust {
        let unreadable = || Some(ClientError::Certificate(file.clone()));
        let certificates = CertificateDer::pem_file_iter(file).map_err(|_| unreadable())?;
        for certificate in certificates {
            roots.add(certificate.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
        }
        if roots.is_empty() {
            return Err(unreadable());
        }
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| None)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = certificate.map(identity).transpose().map_err(Some)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .map_err(|_| None)?
        .with_root_certificates(roots);
    let config = match (client, certificate) {
        (Some((chain, key)), Some((file, _))) => {
            config.with_client_auth_cert(chain, key).map_err(|_| Some(ClientError::Certificate(file.clone())))?
        }
        _ => config.with_no_client_auth(),
    };
    Ok((TlsConnector::from(Arc::new(config)), name))
}
