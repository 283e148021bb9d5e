//! What the transport hands envelopes to.

use std::future::Future;
use std::sync::Arc;

use crate::cimom::Principal;
use crate::wsman::{Encoding, Outbound, Service};

/// The protocol layer as the transport sees it. [`Service`] is the one that serves; tests of the
/// transport bring their own.
pub trait EnvelopeHandler: Send + Sync + 'static {
    /// Identify without credentials; `None` when the body is anything else.
    fn identify_anonymous(&self, body: &str) -> Option<Outbound>;

    /// One exchange of an authenticated user; a size limit in the envelope counts in `encoding`.
    fn handle(&self, principal: &Principal, body: &str, encoding: Encoding) -> impl Future<Output = Outbound> + Send;

    /// The fault for a body in a charset nobody here reads.
    fn charset_fault(&self) -> Outbound;

    /// The fault for a body that is compressed.
    fn content_encoding_fault(&self) -> Outbound;

    /// The fault for an envelope in clear text where it has to be sealed.
    fn encryption_required_fault(&self) -> Outbound;

    /// The fault for bytes that are no text of their charset.
    fn malformed_text_fault(&self, detail: &str) -> Outbound;
}

impl EnvelopeHandler for Arc<Service> {
    fn identify_anonymous(&self, body: &str) -> Option<Outbound> {
        self.as_ref().identify_anonymous(body)
    }

    fn handle(&self, principal: &Principal, body: &str, encoding: Encoding) -> impl Future<Output = Outbound> + Send {
        self.as_ref().handle(principal, body, encoding)
    }

    fn charset_fault(&self) -> Outbound {
        self.as_ref().charset_fault()
    }

    fn content_encoding_fault(&self) -> Outbound {
        self.as_ref().content_encoding_fault()
    }

    fn encryption_required_fault(&self) -> Outbound {
        self.as_ref().encryption_required_fault()
    }

    fn malformed_text_fault(&self, detail: &str) -> Outbound {
        self.as_ref().malformed_text_fault(detail)
    }
}
