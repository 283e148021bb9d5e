//! The entry of the protocol layer: one envelope in, one envelope out.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::access::{AuditRecord, AuditTrail, NoAudit, Right};
use crate::binding::ResourceUri;
use crate::cimom::{ObjectManager, Principal};
use crate::soap::{Envelope, Fault, Headers, ResponseHeader, Subcode, action, code, detail, write_response};
use crate::time::{Clock, IdSource, Timestamp};
use crate::xml::Writer;

use super::contexts::EnumerationContexts;
use super::eventing::Eventing;
use super::fault::add_cim_error;
use super::identify;
use super::options::ServiceOptions;
use super::request::Request;

/// How the text of a message is transmitted; an answer goes out as the request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8
    Utf8,
    /// UTF-16 with a byte-order mark
    Utf16,
}

impl Encoding {
    /// How many octets a text takes on the wire.
    #[must_use]
    pub fn octets(self, text: &str) -> usize {
        match self {
            Self::Utf8 => text.len(),
            Self::Utf16 => text.chars().map(char::len_utf16).sum::<usize>() * 2,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// A fault goes out as HTTP 500 (`ws-management.md` §2.4).
    pub is_fault: bool,
    /// The envelope.
    pub body: String,
}

/// The WS-Management service.
pub struct Service {
    pub(super) manager: Arc<ObjectManager>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn IdSource>,
    pub(super) options: ServiceOptions,
    pub(super) contexts: EnumerationContexts,
    pub(super) eventing: Option<Arc<Eventing>>,
    pub(super) audit: Arc<dyn AuditTrail>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The content of a successful answer.
pub(super) struct Answer {
    /// Writes the body element.
    pub(super) body: String,
    /// Extra headers, already XML.
    pub(super) headers: String,
}

impl Answer {
    pub(super) const fn body(body: String) -> Self {
        Self { body, headers: String::new() }
    }
}

impl Service {
    /// A service over an object manager.
    #[must_use]
    pub fn new(
        manager: Arc<ObjectManager>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        options: ServiceOptions,
    ) -> Self {
        let contexts = EnumerationContexts::new(
            options.limits.enumeration_timeout,
            options.limits.max_concurrent_operations_per_user,
        );
        Self { manager, clock, ids, options, contexts, eventing: None, audit: Arc::new(NoAudit) }
    }

    /// The same service, which records what it refuses.
    #[must_use]
    pub fn with_audit(self, audit: Arc<dyn AuditTrail>) -> Self {
        Self { audit, ..self }
    }

    /// Identify without credentials; `None` when the body is anything else.
    #[must_use]
    pub fn identify_anonymous(&self, body: &str) -> Option<Outbound> {
        let envelope = Envelope::parse(body).ok()?;
        identify::is_identify(&envelope)
            .then(|| Outbound { is_fault: false, body: identify::response(&self.options.identity, false) })
    }

    /// One exchange of an authenticated user.
    ///
    /// `encoding` is that of the request; sizes count in it.
    pub async fn handle(&self, principal: &Principal, body: &str, encoding: Encoding) -> Outbound {
        let now = self.clock.now();
        let envelope = match Envelope::parse(body) {
            Ok(envelope) => envelope,
            Err(fault) => return self.fault(&fault, &Headers::default()),
        };
        if identify::is_identify(&envelope) {
            return Outbound { is_fault: false, body: identify::response(&self.options.identity, true) };
        }
        match self.exchange(principal, &envelope, encoding, now).await {
            Ok(outbound) => outbound,
            Err(fault) => {
                // What else is not permitted is refused, and recorded, by the engine.
                if let (code::DIFFERENT_AUTHZ_TOKEN, Some(action)) = (fault.wsman_code, &envelope.headers.action) {
                    self.audit.write(&AuditRecord::refused_request(principal, action, &fault.reason));
                }
                tracing::debug!(
                    user = principal.name(),
                    action = envelope.headers.action.as_deref(),
                    resource = envelope.headers.resource_uri.as_deref(),
                    fault = fault.subcode.map(Subcode::qname),
                    reason = fault.reason,
                    "Answering a fault"
                );
                self.fault(&fault, &envelope.headers)
            }
        }
    }

    /// The fault for a body in a character set that is not read (HTTP 500, UTF-8).
    #[must_use]
    pub fn charset_fault(&self) -> Outbound {
        let fault = Fault::new(Subcode::EncodingLimit)
            .detail(detail::CHARACTER_SET, code::CHARACTER_SET)
            .reason("The character set is not supported; send UTF-8 or UTF-16.");
        self.fault(&fault, &Headers::default())
    }

    /// The fault for a content coding that is not read.
    #[must_use]
    pub fn content_encoding_fault(&self) -> Outbound {
        let fault = Fault::new(Subcode::EncodingLimit)
            .detail(detail::ENCODING_TYPE, code::ENCODING_TYPE)
            .reason("The content coding is not supported; send the envelope uncompressed.");
        self.fault(&fault, &Headers::default())
    }

    /// The fault for an envelope that crossed plain HTTP in clear text.
    #[must_use]
    pub fn encryption_required_fault(&self) -> Outbound {
        let fault = Fault::new(Subcode::AccessDenied)
            .reason("This connection takes sealed messages only: encrypt them, use HTTPS, or set AllowUnencrypted.");
        self.fault(&fault, &Headers::default())
    }

    /// The fault for bytes that are no text of their character set.
    #[must_use]
    pub fn malformed_text_fault(&self, what: &str) -> Outbound {
        let fault = Fault::new(Subcode::SchemaValidationError)
            .code(code::INVALID_XML)
            .reason(format!("The message cannot be read: {what}."));
        self.fault(&fault, &Headers::default())
    }

    /// Forgets enumerations that idled too long and subscriptions that expired; to be called now and then, inside
    /// of a tokio runtime when there is eventing.
    pub fn sweep(&self) {
        self.contexts.sweep(self.clock.now());
        if let Some(eventing) = &self.eventing {
            eventing.sweep(self.clock.now());
        }
    }

    async fn exchange(
        &self,
        principal: &Principal,
        envelope: &Envelope<'_>,
        encoding: Encoding,
        now: Timestamp,
    ) -> Result<Outbound, Fault> {
        let request = Request::check(self, principal, envelope, encoding, now)?;
        let answer = match self.dispatch(&request).await {
            Ok(answer) => answer,
            // Only faults about CIM and schema resources carry a CIM error (`ws-management.md` §14.2).
            Err(fault) if names_configuration(envelope) => return Err(Fault { cim_error: None, ..fault }),
            Err(fault) => return Err(add_cim_error(fault)),
        };
        let response_action = format!("{}Response", request.action);
        let mut message_id = String::with_capacity(41);
        // Writing to a String cannot fail.
        let _ = write!(message_id, "uuid:{}", self.ids.new_guid());
        let mut extra = crate::soap::copy_reference_parameters(request.reply_parameters());
        extra.push_str(&answer.headers);
        let header = ResponseHeader {
            action: &response_action,
            message_id: &message_id,
            relates_to: request.message_id,
            extra: &extra,
            enumeration: request.action.starts_with(action::ENUMERATION_PREFIX),
        };
        let mut w = Writer::with_capacity(answer.body.len() + 1024);
        write_response(&header, &mut w, |w| w.raw(&answer.body));
        Ok(Outbound { is_fault: false, body: w.finish() })
    }

    async fn dispatch(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let right = right(request.action);
        if !request.principal.account().role.has(right) {
            let reason = format!("The role of the user does not permit the action {}.", request.action);
            self.audit.write(&AuditRecord::refused_request(request.principal, request.action, &reason));
            return Err(Fault::new(Subcode::AccessDenied).reason(reason));
        }
        match request.action {
            action::PULL => self.pull(request).await,
            action::RELEASE => self.release(request).await,
            action::GET => self.get(request),
            action::ENUMERATE => self.enumerate(request).await,
            action::PUT => self.put(request).await,
            action::CREATE => self.create(request).await,
            action::DELETE => self.delete(request).await,
            action::SUBSCRIBE => self.subscribe(request).await,
            action::RENEW => self.renew(request).await,
            action::UNSUBSCRIBE => self.unsubscribe(request).await,
            other
                if other.starts_with(action::ENUMERATION_PREFIX)
                    || other.starts_with(action::TRANSFER_PREFIX)
                    || other.starts_with(action::EVENTING_PREFIX) =>
            {
                Err(Fault::new(Subcode::ActionNotSupported)
                    .reason(format!("The action {other} is not supported by the service.")))
            }
            _ => self.invoke(request).await,
        }
    }

    fn fault(&self, fault: &Fault, headers: &Headers<'_>) -> Outbound {
        let message_id = format!("uuid:{}", self.ids.new_guid());
        let relates_to = headers.message_id.as_deref().filter(|id| !id.trim().is_empty());
        let target = headers.fault_to.as_ref().or(headers.reply_to.as_ref());
        let extra =
            target.map_or_else(String::new, |to| crate::soap::copy_reference_parameters(&to.reference_parameters));
        let body = fault.write(&message_id, relates_to, &self.options.machine, &extra);
        Outbound { is_fault: true, body }
    }
}

/// The right that an action needs (`ws-management.md` §16).
fn right(action: &str) -> Right {
    match action {
        action::PUT | action::CREATE | action::DELETE => Right::Write,
        _ if action.starts_with(action::ENUMERATION_PREFIX)
            || action.starts_with(action::TRANSFER_PREFIX)
            || action.starts_with(action::EVENTING_PREFIX) =>
        {
            Right::Read
        }
        _ => Right::Execute,
    }
}

fn names_configuration(envelope: &Envelope<'_>) -> bool {
    let uri = envelope.headers.resource_uri.as_deref();
    uri.is_some_and(|uri| matches!(ResourceUri::parse(uri), ResourceUri::Configuration(_)))
}
