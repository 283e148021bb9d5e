//! Exchanges below SOAP: any headers, any bytes, any status. For tests of servers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection::{ClientOptions, Connection};
use super::error::ClientError;

/// The longest head and body that are read from a connection that is written by hand.
const MAX_DRIBBLE: usize = 64 << 10;

/// An HTTP request that is sent as it is.
#[derive(Clone, Debug)]
pub struct RawRequest {
    /// The method.
    pub method: &'static str,
    /// The path; that of the URL when left out.
    pub path: Option<String>,
    /// Headers besides `Host`, `Content-Length` and `Authorization`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// Whether the credentials go with it.
    pub credentials: bool,
}

/// The answer to a [`RawRequest`], whatever it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawAnswer {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl RawAnswer {
    /// The value of the first header of that name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A client that judges nothing.
pub struct RawClient(Connection);

impl std::fmt::Debug for RawClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RawClient").field(&self.0.url).finish()
    }
}

impl RawClient {
    /// A client that is not connected yet.
    ///
    /// # Errors
    /// When the URL, the credentials or the certificates cannot be used.
    pub fn new(options: &ClientOptions) -> Result<Self, ClientError> {
        Ok(Self(Connection::new(options)?))
    }

    /// The URL it was made for.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Sends a request and gives the answer.
    ///
    /// # Errors
    /// A [`ClientError`] when there is no answer; every status is one.
    pub async fn send(&self, request: &RawRequest) -> Result<RawAnswer, ClientError> {
        let slow = ClientError::TimedOut(self.0.timeout.as_secs());
        tokio::time::timeout(self.0.timeout, self.exchange(request)).await.unwrap_or(Err(slow))
    }

    async fn exchange(&self, request: &RawRequest) -> Result<RawAnswer, ClientError> {
        // A connection that the server has just closed takes nothing; the request was not sent then.
        match self.0.send(self.http(request)?).await {
            Err(ClientError::Http(error)) if error.is_canceled() || error.is_closed() => {
                self.0.send(self.http(request)?).await
            }
            other => other,
        }
        .map(|(status, headers, body)| RawAnswer {
            status: status.as_u16(),
            headers: headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            body,
        })
    }

    fn http(&self, raw: &RawRequest) -> Result<Request<Full<Bytes>>, ClientError> {
        let wrong = || ClientError::Url(self.0.url.clone());
        let path = raw.path.as_deref().unwrap_or(&self.0.path);
        let mut request = Request::builder()
            .method(raw.method)
            .uri(path)
            .header(HOST, self.0.authority.clone())
            .body(Full::new(raw.body.clone()))
            .map_err(|_| wrong())?;
        for (name, value) in &raw.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            let value = HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?;
            request.headers_mut().append(name, value);
        }
        if let Some(authorization) = self.0.authorization.as_ref().filter(|_| raw.credentials) {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    /// Opens a connection of its own, announces a body and sends of it only `start`; gives what came until the
    /// server closed the connection or `patience` was over, with whether it closed it.
    ///
    /// # Errors
    /// A [`ClientError`] when there is no connection.
    pub async fn dribble(
        &self,
        start: &[u8],
        announced: usize,
        patience: Duration,
    ) -> Result<(String, bool), ClientError> {
        let mut stream = self.0.stream().await?;
        let authority = String::from_utf8_lossy(self.0.authority.as_bytes()).into_owned();
        let authorization = self.0.authorization.as_ref().map_or_else(String::new, |value| {
            format!("Authorization: {}\r\n", String::from_utf8_lossy(value.as_bytes()))
        });
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/soap+xml;charset=UTF-8\r\n\
             {authorization}Content-Length: {announced}\r\n\r\n",
            self.0.path
        );
        let broken = |error| ClientError::Connect(authority.clone(), error);
        stream.write_all(head.as_bytes()).await.map_err(broken)?;
        stream.write_all(start).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let mut came = Vec::new();
        let reading = async {
            let mut buffer = [0; 4096];
            while came.len() < MAX_DRIBBLE {
                match stream.read(&mut buffer).await {
                    // A reset is an end too.
                    Ok(0) | Err(_) => return true,
                    Ok(length) => came.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                }
            }
            false
        };
        let closed = tokio::time::timeout(patience, reading).await.unwrap_or(false);
        Ok((String::from_utf8_lossy(&came).into_owned(), closed))
    }
}
