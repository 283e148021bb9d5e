//! What a subscription is about, in the form that is kept across restarts.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::time::{Guid, Timestamp};

/// How events get to the subscriber (`ws-management.md` §9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum DeliveryMode {
    /// One event a message, without an answer.
    Push,
    /// One event a message; the next one only after it was acknowledged.
    PushWithAck,
    /// Several events a message, which is acknowledged.
    Events,
    /// The subscriber fetches them.
    Pull,
}

impl DeliveryMode {
    /// All of them, as the fault for another one lists them.
    pub(super) const URIS: &'static [&'static str] = &[
        "http://schemas.xmlsoap.org/ws/2004/08/eventing/DeliveryModes/Push",
        "http://schemas.dmtf.org/wbem/wsman/1/wsman/PushWithAck",
        "http://schemas.dmtf.org/wbem/wsman/1/wsman/Events",
        "http://schemas.dmtf.org/wbem/wsman/1/wsman/Pull",
    ];

    /// The mode of a URI.
    pub(super) fn from_uri(uri: &str) -> Option<Self> {
        let modes = [Self::Push, Self::PushWithAck, Self::Events, Self::Pull];
        modes.into_iter().zip(Self::URIS).find(|(_, known)| **known == uri).map(|(mode, _)| mode)
    }

    /// Whether the sink has to acknowledge what it got.
    pub(super) const fn is_acknowledged(self) -> bool {
        matches!(self, Self::PushWithAck | Self::Events)
    }
}

/// What happens to an event that is too large or one too many (`w:MaxEnvelopeSize/@Policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Policy {
    /// The subscription ends.
    CancelSubscription,
    /// It is left out without a word.
    Skip,
    /// It is left out, and how many were is told.
    #[default]
    Notify,
}

/// A sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Address {
    /// `a:Address`
    pub(super) url: String,
    /// Its reference parameters, which become headers of each delivery, as XML.
    pub(super) parameters: String,
}

/// `w:ConnectionRetry`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Retry {
    /// `@Total`: how often a delivery is tried again.
    pub(super) total: u32,
    /// How long is waited in front of each try.
    pub(super) pause: Duration,
}

/// What was agreed on at Subscribe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    /// `w:ResourceURI` as it came
    pub(super) resource_uri: String,
    /// The selector `__cimnamespace`
    pub(super) namespace: Option<SmolStr>,
    /// The WQL query
    pub(super) query: Option<String>,
    /// The namespace of the query, when the resource is a filter that the server has by itself
    #[serde(default)]
    pub(super) source: Option<SmolStr>,
    /// How events are delivered
    pub(super) mode: DeliveryMode,
    /// Where the subscription is managed: `a:To` as it came
    pub(super) manager: String,
    /// `e:NotifyTo`
    pub(super) notify_to: Option<Address>,
    /// `e:EndTo`
    pub(super) end_to: Option<Address>,
    /// `w:Heartbeats`
    pub(super) heartbeats: Option<Duration>,
    /// `w:ConnectionRetry`
    pub(super) retry: Option<Retry>,
    /// `w:MaxElements`
    pub(super) max_elements: Option<u32>,
    /// `w:MaxTime`
    pub(super) max_time: Option<Duration>,
    /// `w:MaxEnvelopeSize`, in octets
    pub(super) max_envelope: Option<usize>,
    /// `w:MaxEnvelopeSize/@Policy`
    pub(super) policy: Policy,
    /// `w:ContentEncoding` is UTF-16
    pub(super) utf16: bool,
    /// `w:SendBookmarks`
    pub(super) send_bookmarks: bool,
    /// `msftwinrm:UsePreciseArrays` of the request
    pub(super) precise_arrays: bool,
}

/// How far a subscription has got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The subscriber has everything up to here.
    pub(super) delivered: u64,
    /// Pull: the contexts that can be pulled with and what a Pull with each confirms. The first one is that of the
    /// last Pull, whose answer may have been lost; the last one was in that answer.
    pub(super) contexts: Vec<(Guid, u64)>,
    /// When the subscription ends unless it is renewed.
    pub(super) expires: Timestamp,
    /// Events that were dropped and not told of yet.
    pub(super) dropped: u64,
}

/// Everything about a subscription but identity and owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) terms: Terms,
    pub(super) progress: Progress,
}
