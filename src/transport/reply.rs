//! Answers, with and without an envelope.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use crate::wsman::{Encoding, Outbound};

use super::charset;
use super::sealing::Label;
use super::sealing_tls;

/// The body is known whole, so hyper writes head and body at once with a `Content-Length`.
pub(super) type Reply = Response<Full<Bytes>>;

/// The answer that carries an envelope: 200, or 500 for a fault.
pub(super) fn envelope(outbound: Outbound, encoding: Encoding) -> Reply {
    let status = envelope_status(&outbound);
    let mut reply = Response::new(Full::from(charset::encode(outbound.body, encoding)));
    *reply.status_mut() = status;
    let content_type = match encoding {
        Encoding::Utf8 => HeaderValue::from_static("application/soap+xml;charset=UTF-8"),
        Encoding::Utf16 => HeaderValue::from_static("application/soap+xml;charset=UTF-16"),
    };
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// The status of an envelope.
pub(super) const fn envelope_status(outbound: &Outbound) -> StatusCode {
    if outbound.is_fault { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
}

/// The answer that carries a sealed envelope.
pub(super) fn sealed(status: StatusCode, label: Label, body: Vec<u8>) -> Reply {
    multipart(status, label.content_type(), body)
}

/// The answer that carries an envelope sealed by TLS, in so many parts.
pub(super) fn sealed_by_tls(status: StatusCode, body: Vec<u8>, parts: usize) -> Reply {
    let content_type = if parts == 1 { sealing_tls::ONE } else { sealing_tls::SEVERAL };
    multipart(status, content_type, body)
}

fn multipart(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// Adds the last token of a handshake.
pub(super) fn with_token(mut reply: Reply, token: Option<HeaderValue>) -> Reply {
    if let Some(token) = token {
        reply.headers_mut().insert(WWW_AUTHENTICATE, token);
    }
    reply
}

/// An answer without a body.
pub(super) fn status(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    reply
}

/// A 401 with one `WWW-Authenticate` line for each of `challenges`.
pub(super) fn unauthorized(challenges: Vec<HeaderValue>) -> Reply {
    let mut reply = status(StatusCode::UNAUTHORIZED);
    for challenge in challenges {
        reply.headers_mut().append(WWW_AUTHENTICATE, challenge);
    }
    reply
}

/// Marks an answer as the last one of its connection.
pub(super) fn closing(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}
