//! Events that go into one message.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cim::CimInstance;
use crate::soap::action;
use crate::xml::Writer;

use super::super::service::Encoding;
use super::hub::Eventing;
use super::subscription::Subscription;
use super::terms::Policy;

/// How many events are looked up at a time.
const PORTION: usize = 64;

/// How much a message may hold.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) elements: usize,
    pub(super) octets: usize,
    pub(super) encoding: Encoding,
    /// Each event is wrapped in a `w:Event` that names its action.
    pub(super) wrapped: bool,
}

/// The content of a message.
#[derive(Default)]
pub(super) struct Batch {
    /// The items as XML.
    pub(super) items: String,
    /// How many events are in it.
    pub(super) events: usize,
    /// The position of the last event, also of one that was dropped.
    pub(super) last: Option<u64>,
    /// Events that were dropped in front of these and that this message tells of.
    pub(super) dropped: u64,
    /// An event was dropped, and the subscription is to end for it.
    pub(super) cancel: bool,
}

impl Eventing {
    /// The next events of a subscription, as many as there is room for. They keep waiting until they are confirmed.
    pub(super) fn batch(&self, subscription: &Subscription, room: Room) -> Batch {
        let mut batch = Batch::default();
        let mut w = Writer::with_capacity(4096);
        let mut octets = 0;
        let waiting = subscription.live().first(room.elements.min(PORTION));
        let found = self.look_up(subscription, &waiting);
        for position in waiting {
            let before = w.len();
            let readable = found.get(&position).is_some_and(|indication| {
                write_event(&mut w, subscription, indication, room.wrapped);
                octets += room.encoding.octets(w.as_str().get(before..).unwrap_or_default());
                true
            });
            if readable && octets <= room.octets {
                batch.events += 1;
                batch.last = Some(position);
                continue;
            }
            if readable && batch.events > 0 {
                w.truncate(before);
                break;
            }
            // The journal does not have it any more, or it does not fit even alone.
            w.truncate(before);
            if readable {
                octets = 0;
            }
            subscription.live().drop_one(position);
            batch.last = Some(position);
        }
        let dropped = subscription.live().progress.dropped;
        match subscription.terms.policy {
            Policy::CancelSubscription => batch.cancel = dropped > 0,
            Policy::Skip => subscription.live().progress.dropped = 0,
            Policy::Notify => batch.dropped = dropped,
        }
        batch.items = w.finish();
        batch
    }

    /// The indications at some positions, which are in order.
    fn look_up(&self, subscription: &Subscription, wanted: &[u64]) -> HashMap<u64, Arc<CimInstance>> {
        let mut found = HashMap::with_capacity(wanted.len());
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return found };
        let Some(account) = self.owner(subscription) else { return found };
        let mut from = first.saturating_sub(1);
        while from < *last {
            let part = match self.parts.provider.after(subscription.filter.namespace(), from, &account) {
                Ok(part) if part.read_to > from => part,
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(subscription = %subscription.id, %error, "Events cannot be told");
                    break;
                }
            };
            for item in part.items {
                if wanted.binary_search(&item.position).is_ok() && subscription.filter.matches(&item.indication) {
                    found.insert(item.position, item.indication);
                }
            }
            from = part.read_to;
        }
        found
    }
}

fn write_event(w: &mut Writer, subscription: &Subscription, indication: &CimInstance, wrapped: bool) {
    if wrapped {
        w.element_with("w:Event", &[("Action", action::EVENT)], |w| subscription.filter.write(w, indication));
    } else {
        subscription.filter.write(w, indication);
    }
}

/// The report of dropped events.
pub(super) fn write_dropped(w: &mut Writer, count: u64) {
    w.element_with("w:DroppedEvents", &[("Action", action::DROPPED_EVENTS)], |w| w.text(&count.to_string()));
}
