//! WS-Management (rank 5): the operations, in the dispatch order of `ws-management.md` §4.
//!
//! A request passes once: text → [`Envelope`](crate::soap::Envelope) → checked headers → operation →
//! object manager → text. This module knows no provider and no engine.

mod class_query;
mod class_schema;
mod configuration;
mod configuration_documents;
mod contexts;
mod enumeration;
mod enumeration_body;
mod eventing;
mod fault;
mod filter;
mod fragment;
mod identify;
mod invoke;
mod modify;
mod options;
mod request;
mod service;
mod target;
mod transfer;
mod xpath;

pub use contexts::EnumerationContexts;
pub use eventing::{Delivery, DeliveryError, EventSink, Eventing, EventingOptions, EventingParts, SinkReply, SinkUrl};
pub use options::{
    CertificateMapping, ConfigurationView, Identity, Limits, ListenerView, Logons, ServiceOptions, Thumbprint,
};
pub use service::{Encoding, Outbound, Service};
