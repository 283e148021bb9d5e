//! Messages to the sinks of subscriptions: one connection a message, everything within one time limit.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::cimom::BoxFuture;
use crate::wsman::{Delivery, DeliveryError, Encoding, EventSink, SinkReply};

use super::connection::{Stream, Trust, tls};

/// The largest answer of a sink that is read.
const MAX_REPLY: usize = 64 << 10;

/// Sends messages over HTTP/1.1, with TLS where the address says so.
///
/// It follows no redirection and sends no credentials: what the configuration allows is the host of the address.
#[derive(Clone, Debug)]
pub struct HttpSink {
    trust: Trust,
}

impl HttpSink {
    /// A sender that trusts these certificates.
    #[must_use]
    pub const fn new(trust: Trust) -> Self {
        Self { trust }
    }

    async fn exchange(&self, delivery: &Delivery) -> Result<SinkReply, DeliveryError> {
        let uri: Uri = delivery.url.parse().map_err(failed)?;
        let address = Delivery::parse_url(&delivery.url).ok_or_else(|| failed("the address is no URL"))?;
        let authority = uri.authority().ok_or_else(|| failed("the address has no host"))?;
        let port = authority.port_u16().unwrap_or(if address.secure { 443 } else { 80 });
        let stream = TcpStream::connect((address.host, port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let stream: Box<dyn Stream> = if address.secure {
            let (connector, name) = tls(&self.trust, None, address.host)
                .map_err(|error| failed(error.map_or_else(|| "no TLS".to_owned(), |error| error.to_string())))?;
            Box::new(connector.connect(name, stream).await.map_err(failed)?)
        } else {
            Box::new(stream)
        };
        let (body, charset) = encode(&delivery.envelope, delivery.encoding);
        let path = uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str);
        let request = Request::post(path)
            .header(HOST, HeaderValue::from_str(authority.as_str()).map_err(failed)?)
            .header(CONTENT_TYPE, charset)
            .header(CONNECTION, "close")
            .body(Full::new(body))
            .map_err(failed)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let conversation = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_REPLY).collect().await;
            // An answer that is too long or breaks off says no more than its status.
            let body = body.map_or_else(|_| String::new(), |body| decode(&body.to_bytes()));
            Ok(SinkReply { status, body })
        };
        tokio::pin!(connection, conversation);
        tokio::select! {
            biased;
            reply = &mut conversation => reply,
            // A sink that closes the connection may have answered before: the answer waits for its reader. What
            // broke the connection is an error of the conversation too.
            _ = &mut connection => conversation.await,
        }
    }
}

impl EventSink for HttpSink {
    fn post(&self, delivery: Delivery) -> BoxFuture<'_, Result<SinkReply, DeliveryError>> {
        Box::pin(async move {
            let limit: Duration = delivery.timeout;
            let slow = || Err(failed(format!("no answer within {} ms", limit.as_millis())));
            tokio::time::timeout(limit, self.exchange(&delivery)).await.unwrap_or_else(|_| slow())
        })
    }
}

fn failed(reason: impl std::fmt::Display) -> DeliveryError {
    DeliveryError(format!("{reason}"))
}

/// The octets of an envelope and the media type that says what they are.
fn encode(envelope: &str, encoding: Encoding) -> (Bytes, &'static str) {
    match encoding {
        Encoding::Utf8 => (Bytes::copy_from_slice(envelope.as_bytes()), "application/soap+xml;charset=UTF-8"),
        Encoding::Utf16 => {
            let units = std::iter::once(0xFEFF).chain(envelope.encode_utf16());
            let octets: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
            (Bytes::from(octets), "application/soap+xml;charset=UTF-16")
        }
    }
}

/// The text of an answer: UTF-16 by its byte-order mark, else UTF-8; empty when it is neither.
fn decode(octets: &[u8]) -> String {
    let units = |octets: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, _) = octets.as_chunks::<2>();
        String::from_utf16(&pairs.iter().copied().map(unit).collect::<Vec<_>>()).unwrap_or_default()
    };
    match octets {
        [0xFF, 0xFE, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => units(rest, u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => std::str::from_utf8(rest).unwrap_or_default().to_owned(),
        octets => std::str::from_utf8(octets).unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_the_encodings_a_sink_may_use() {
        let (utf16, charset) = encode("<a>\u{20ac}</a>", Encoding::Utf16);
        assert_eq!((decode(&utf16).as_str(), charset), ("<a>\u{20ac}</a>", "application/soap+xml;charset=UTF-16"));
        let big: Vec<u8> = [0xFE, 0xFF, 0, b'<'].to_vec();
        assert_eq!(decode(&big), "<");
        assert_eq!(decode(b"\xEF\xBB\xBF<a/>"), "<a/>");
        assert_eq!((decode(b"<a/>").as_str(), decode(b"\xC3\x28").as_str(), decode(b"").as_str()), ("<a/>", "", ""));
    }
}
