//! Eventing (`ws-management.md` §9, DSP0226 clause 10): subscriptions to indications and their delivery.
//!
//! The journal of the indication provider is the only queue of events. A subscription is a filter and a place in
//! the journal; what waits for its subscriber is a bounded list of positions. So a restart neither loses nor repeats
//! anything: the place is stored before an answer is given, or after a sink has confirmed.
//!
//! Nothing here does network IO: what goes to a sink goes through [`EventSink`].

mod batch;
mod body;
mod bookmark;
mod existing;
mod filter;
mod hub;
mod message;
mod operations;
mod pull;
mod push;
mod sink;
mod subscription;
mod terms;

pub use hub::{Eventing, EventingOptions, EventingParts};
pub use sink::{Delivery, DeliveryError, EventSink, SinkReply, SinkUrl};
