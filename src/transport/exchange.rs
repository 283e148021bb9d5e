//! One request and its answer.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, EXPECT, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use tracing::{debug, info};

use crate::cimom::Principal;
use crate::wsman::{Encoding, Outbound};

use super::auth::{Admitted, ConnectionAuth, Outcome};
use super::body::{self, BodyError};
use super::charset::{self, TextError};
use super::handler::EnvelopeHandler;
use super::linger::LingerFlag;
use super::media_type::{self, DeclaredCharset, Form};
use super::reply::{self, Reply};
use super::sealing::Label;
use super::server::Shared;
use super::{sealing, sealing_tls};

/// What the requests of one connection have in common.
pub(super) struct Connection<H> {
    pub(super) shared: Arc<Shared<H>>,
    pub(super) auth: ConnectionAuth,
    pub(super) linger: LingerFlag,
    /// The connection is one too many: everything is answered 503.
    pub(super) surplus: bool,
}

/// The two addresses of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// `/wsman`: with credentials.
    Wsman,
    /// `/wsman-anon/identify`: Identify only, credentials are never asked for.
    AnonymousIdentify,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.eq_ignore_ascii_case("/wsman") {
            Some(Self::Wsman)
        } else if path.eq_ignore_ascii_case("/wsman-anon/identify") {
            Some(Self::AnonymousIdentify)
        } else {
            None
        }
    }
}

/// A refusal for which the body of the request need not be understood.
enum Refusal {
    /// The rest of the request is read and dropped; the connection stays open.
    Skip(Reply),
    /// The rest is not read; the connection is closed.
    Close(StatusCode),
}

/// Who may have what done.
enum Admission {
    /// Identify without credentials, and the answer to anything else.
    Identify(Reply),
    /// Everything, in the name of this user.
    As(Admitted),
}

impl<H: EnvelopeHandler> Connection<H> {
    /// Answers a request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        match self.admit(&head, &body).await {
            Ok((admission, form)) => match self.read(body, form).await {
                Ok(bytes) => self.exchange(admission, form, bytes).await,
                Err(status) => self.close(status),
            },
            Err(Refusal::Skip(reply)) => self.skip(&head, body, reply).await,
            Err(Refusal::Close(status)) => self.close(status),
        }
    }

    /// Everything that is decided by the head, in the order of `ws-management.md` §4.
    async fn admit(&self, head: &Parts, body: &Incoming) -> Result<(Admission, Form), Refusal> {
        if self.surplus {
            return Err(Refusal::Close(StatusCode::SERVICE_UNAVAILABLE));
        }
        let skip = |status| Refusal::Skip(reply::status(status));
        let route = Route::of(head.uri.path()).ok_or_else(|| skip(StatusCode::NOT_FOUND))?;
        if head.method != Method::POST {
            return Err(skip(StatusCode::METHOD_NOT_ALLOWED));
        }
        let form = if body::is_empty(body) {
            Form::Clear(DeclaredCharset::Absent)
        } else {
            media_type::check(&head.headers).map_err(skip)?
        };
        let limit = u64::try_from(self.limit(form)).unwrap_or(u64::MAX);
        if body::announced_length(body).is_some_and(|length| length > limit) {
            info!(limit, "Request longer than MaxEnvelopeSizekb");
            return Err(Refusal::Close(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let admission = self.authenticate(route, form, &head.headers).await?;
        if let (Admission::As(admitted), Form::Clear(_)) = (&admission, form)
            && !self.auth.clear_text_allowed()
            && !(admitted.handshake_ended && body::is_empty(body))
        {
            let fault = reply::envelope(self.shared.handler.encryption_required_fault(), Encoding::Utf8);
            return Err(Refusal::Skip(reply::with_token(fault, admitted.token.clone())));
        }
        Ok((admission, form))
    }

    /// The most bytes a body may have.
    fn limit(&self, form: Form) -> usize {
        let limit = self.shared.limits.max_envelope_bytes;
        match form {
            Form::Clear(_) => limit,
            Form::Sealed(_) | Form::SealedByTls => limit.saturating_add(sealing::overhead(limit)),
        }
    }

    async fn authenticate(&self, route: Route, form: Form, headers: &HeaderMap) -> Result<Admission, Refusal> {
        if route == Route::AnonymousIdentify {
            return Ok(Admission::Identify(reply::status(StatusCode::FORBIDDEN)));
        }
        let policy = &self.shared.auth;
        if matches!(form, Form::Clear(_)) && says_unauthenticated(headers) && !headers.contains_key(AUTHORIZATION) {
            return Ok(Admission::Identify(refusal(self.auth.challenge(policy).await)));
        }
        match self.auth.authenticate(policy, headers).await {
            Outcome::Authenticated(admitted) => Ok(Admission::As(admitted)),
            outcome => Err(Refusal::Skip(refusal(outcome))),
        }
    }

    async fn read(&self, body: Incoming, form: Form) -> Result<Bytes, StatusCode> {
        body::read(body, self.limit(form), self.shared.limits.packet_retrieval).await.map_err(|error| {
            info!(%error, "Request not read to its end");
            match error {
                BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                BodyError::TimedOut => StatusCode::INTERNAL_SERVER_ERROR,
                BodyError::Broken => StatusCode::BAD_REQUEST,
            }
        })
    }

    async fn exchange(&self, admission: Admission, form: Form, bytes: Bytes) -> Reply {
        match (admission, form) {
            (Admission::As(admitted), _) => {
                let reply = if admitted.handshake_ended && bytes.is_empty() {
                    // How pypsrp, pywinrm and Ruby set up sealing before their first envelope.
                    reply::status(StatusCode::OK)
                } else {
                    match form {
                        Form::Clear(charset) => {
                            let (outbound, encoding) = self.converse(&admitted.principal, charset, &bytes).await;
                            reply::envelope(outbound, encoding)
                        }
                        Form::Sealed(label) => self.converse_sealed(&admitted.principal, label, &bytes).await,
                        Form::SealedByTls => self.converse_sealed_by_tls(&admitted.principal, &bytes).await,
                    }
                };
                reply::with_token(reply, admitted.token)
            }
            (Admission::Identify(otherwise), Form::Clear(charset)) => match charset::decode(&bytes, charset) {
                Ok((text, encoding)) => {
                    let identified = self.shared.handler.identify_anonymous(&text);
                    identified.map_or(otherwise, |outbound| reply::envelope(outbound, encoding))
                }
                Err(_) => otherwise,
            },
            (Admission::Identify(otherwise), Form::Sealed(_) | Form::SealedByTls) => otherwise,
        }
    }

    /// One envelope and its answer, with the encoding of both.
    async fn converse(&self, principal: &Principal, charset: DeclaredCharset, bytes: &[u8]) -> (Outbound, Encoding) {
        let handler = &self.shared.handler;
        match charset::decode(bytes, charset) {
            Ok((text, encoding)) => (handler.handle(principal, &text, encoding).await, encoding),
            Err(TextError::Coding) => (handler.content_encoding_fault(), Encoding::Utf8),
            Err(TextError::Charset) => (handler.charset_fault(), Encoding::Utf8),
            Err(TextError::Malformed(encoding, detail)) => (handler.malformed_text_fault(detail), encoding),
        }
    }

    /// The same with both sealed, faults too: clients unseal before they look at the status.
    async fn converse_sealed(&self, principal: &Principal, label: Label, bytes: &[u8]) -> Reply {
        let Some(message) = sealing::parse(bytes, label, self.shared.limits.max_envelope_bytes) else {
            info!("Sealed message cannot be taken apart");
            return self.close(StatusCode::BAD_REQUEST);
        };
        let mut data = Vec::new();
        for piece in &message.pieces {
            match self.auth.unseal(&self.shared.auth, principal, piece.header, piece.data.to_vec()) {
                // Mostly it is the only one.
                Ok(clear) if data.is_empty() => data = clear,
                Ok(clear) => data.extend_from_slice(&clear),
                Err(error) => {
                    info!(%error, "Message not unsealed");
                    return self.close(StatusCode::BAD_REQUEST);
                }
            }
        }
        charset::drop_filler(&mut data);
        let (outbound, encoding) = self.converse(principal, message.charset, &data).await;
        let status = reply::envelope_status(&outbound);
        let mut data = charset::encode(outbound.body, encoding);
        match self.auth.seal(&mut data) {
            Ok(header) => reply::sealed(status, label, sealing::write(label, encoding, &header, &data)),
            Err(error) => {
                info!(%error, "Answer not sealed");
                self.close(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// The same with CredSSP.
    async fn converse_sealed_by_tls(&self, principal: &Principal, bytes: &[u8]) -> Reply {
        let Some(message) = sealing_tls::parse(bytes, self.shared.limits.max_envelope_bytes) else {
            info!("Sealed message cannot be taken apart");
            return self.close(StatusCode::BAD_REQUEST);
        };
        let data = match self.auth.unseal_tls(&message.parts) {
            Some(Ok(data)) => data,
            Some(Err(error)) => {
                info!(%error, "Message not unsealed");
                return self.close(StatusCode::BAD_REQUEST);
            }
            None => {
                info!("Message not unsealed: no logon with CredSSP");
                return self.close(StatusCode::BAD_REQUEST);
            }
        };
        let (outbound, encoding) = self.converse(principal, message.charset, &data).await;
        let status = reply::envelope_status(&outbound);
        if let Some(Ok((parts, trailer))) = self.auth.seal_tls(&charset::encode(outbound.body, encoding)) {
            reply::sealed_by_tls(status, sealing_tls::write(encoding, &parts, trailer), parts.len())
        } else {
            info!("Answer not sealed");
            self.close(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }

    /// Gives an early answer and reads the rest of the request, so that the connection goes on.
    async fn skip(&self, head: &Parts, body: Incoming, reply: Reply) -> Reply {
        debug!(status = %reply.status(), "Request refused");
        if body::is_empty(&body) {
            return reply;
        }
        let limits = &self.shared.limits;
        // A client that waits for a 100 must not be told to send what nobody wants; whether it still
        // sends is its choice, so the connection cannot go on.
        if head.headers.contains_key(EXPECT)
            || body::discard(body, self.limit(Form::SealedByTls), limits.packet_retrieval).await.is_err()
        {
            self.linger.set();
            return reply::closing(reply);
        }
        reply
    }

    /// Gives an early answer and closes the connection.
    fn close(&self, status: StatusCode) -> Reply {
        debug!(%status, "Request refused, connection closed");
        self.linger.set();
        reply::closing(reply::status(status))
    }
}

/// `WSMANIDENTIFY: unauthenticated`, which asks for Identify without credentials and for nothing else.
fn says_unauthenticated(headers: &HeaderMap) -> bool {
    headers.get("wsmanidentify").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"unauthenticated"))
}

/// The answer to a request that was not authenticated.
fn refusal(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Challenge(offer) => reply::unauthorized(offer),
        Outcome::Busy => reply::status(StatusCode::SERVICE_UNAVAILABLE),
        Outcome::Forbidden | Outcome::Authenticated(_) => reply::status(StatusCode::FORBIDDEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_known_in_any_case_and_with_a_slash() {
        for (path, route) in [
            ("/wsman", Some(Route::Wsman)),
            ("/WSMan/", Some(Route::Wsman)),
            ("/wsman-anon/identify", Some(Route::AnonymousIdentify)),
            ("/wsman-anon/Identify/", Some(Route::AnonymousIdentify)),
            ("/", None),
            ("", None),
            ("/wsman//", None),
            ("/wsman-anon", None),
            ("/wsmanx", None),
            ("/wsman/subscriptions", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
