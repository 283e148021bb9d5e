//! SOAP 1.2 with WS-Addressing (rank 1): envelopes with their headers, endpoint references, faults.
//!
//! Pure: text in, values or a fault out. Headers are only read here; `wsman` judges them in the
//! order of `ws-management.md` §4.

mod codes;
mod envelope;
mod fault;
mod headers;
mod reference;
mod response;

pub use codes::code;
pub use envelope::Envelope;
pub use fault::{CimErrorDetail, Fault, FaultCode, Subcode, detail};
pub use headers::{
    Endpoint, FragmentTransfer, HeaderProblem, Headers, LanguageHeader, MaxEnvelopeSizeHeader, OptionHeader, OptionSet,
};
pub use reference::{EndpointReference, ReferenceError, Selector, SelectorSet, SelectorValue};
pub(crate) use response::copy_reference_parameters;
pub use response::{ResponseHeader, write_response};

/// The WS-Addressing role that stands for "the connection the request came on".
pub const ANONYMOUS: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous";

/// Action URIs of the standard operations (`ws-management.md` §1.1).
pub mod action {
    /// WS-Transfer Get
    pub const GET: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get";
    /// WS-Transfer Put
    pub const PUT: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Put";
    /// WS-Transfer Create
    pub const CREATE: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Create";
    /// WS-Transfer Delete
    pub const DELETE: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete";
    /// WS-Enumeration Enumerate
    pub const ENUMERATE: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Enumerate";
    /// WS-Enumeration Pull
    pub const PULL: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Pull";
    /// WS-Enumeration Release
    pub const RELEASE: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Release";
    /// WS-Eventing Subscribe
    pub const SUBSCRIBE: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing/Subscribe";
    /// WS-Eventing Renew
    pub const RENEW: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing/Renew";
    /// WS-Eventing Unsubscribe
    pub const UNSUBSCRIBE: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing/Unsubscribe";
    /// WS-Eventing `SubscriptionEnd`, from the service to a sink
    pub const SUBSCRIPTION_END: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing/SubscriptionEnd";
    /// One event, from the service to a sink
    pub const EVENT: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Event";
    /// Several events, from the service to a sink
    pub const EVENTS: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Events";
    /// A sign of life, from the service to a sink
    pub const HEARTBEAT: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Heartbeat";
    /// How many events were dropped, from the service to a sink
    pub const DROPPED_EVENTS: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/DroppedEvents";
    /// What a sink answers to a delivery that it has
    pub const ACK: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Ack";
    /// Everything of WS-Enumeration starts with this.
    pub const ENUMERATION_PREFIX: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration/";
    /// Everything of WS-Transfer starts with this.
    pub const TRANSFER_PREFIX: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/";
    /// Everything of WS-Eventing starts with this.
    pub const EVENTING_PREFIX: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing/";
}
