//! One subscription: what waits for its subscriber, and how far it has got.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cimom::{JournalWindow, Occurrence, SubscriptionRecord};
use crate::time::{Guid, Timestamp};

use super::filter::EventFilter;
use super::terms::{Progress, Stored, Terms};

/// A subscription.
pub(super) struct Subscription {
    pub(super) id: Guid,
    pub(super) owner: SmolStr,
    pub(super) terms: Terms,
    pub(super) filter: EventFilter,
    live: Mutex<Live>,
    /// Something has changed that a delivery may wait for.
    pub(super) news: Notify,
    /// It has ended, for whatever reason.
    pub(super) ended: CancellationToken,
}

/// What changes.
pub(super) struct Live {
    pub(super) progress: Progress,
    /// Up to where the journal was searched for its events.
    read_to: u64,
    /// The positions of the events that wait, in order.
    waiting: VecDeque<u64>,
    /// Most positions that wait.
    limit: usize,
    /// A Pull is at work.
    pub(super) pulling: bool,
}

impl Live {
    /// Notes the events among `found`, which is all there is up to `read_to`.
    ///
    /// More than the limit do not wait: the oldest ones are dropped and counted.
    fn add(&mut self, found: impl Iterator<Item = u64>, read_to: u64) {
        for position in found {
            self.waiting.push_back(position);
            if self.waiting.len() > self.limit
                && let Some(dropped) = self.waiting.pop_front()
            {
                self.progress.dropped += 1;
                self.progress.delivered = self.progress.delivered.max(dropped);
            }
        }
        self.read_to = self.read_to.max(read_to);
    }

    /// The subscriber has everything up to a position.
    pub(super) fn confirm(&mut self, position: u64) {
        while self.waiting.front().is_some_and(|waiting| *waiting <= position) {
            self.waiting.pop_front();
        }
        self.progress.delivered = self.progress.delivered.max(position);
    }

    /// An event cannot be read any more, or is too large.
    pub(super) fn drop_one(&mut self, position: u64) {
        if let Some(index) = self.waiting.iter().position(|waiting| *waiting == position) {
            self.waiting.remove(index);
        }
        self.progress.dropped += 1;
    }

    /// The first positions that wait.
    pub(super) fn first(&self, count: usize) -> Vec<u64> {
        self.waiting.iter().copied().take(count).collect()
    }

    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Subscription {
    pub(super) fn new(record: (Guid, SmolStr), stored: Stored, filter: EventFilter, limit: usize) -> Self {
        let read_to = stored.progress.delivered;
        let live = Live { progress: stored.progress, read_to, waiting: VecDeque::new(), limit, pulling: false };
        Self {
            id: record.0,
            owner: record.1,
            terms: stored.terms,
            filter,
            live: Mutex::new(live),
            news: Notify::new(),
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        // The critical sections do not panic; a poisoned lock would still guard sound values.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to where the journal was searched. What is no longer kept cannot be searched: that something may have
    /// been lost is counted as one event.
    pub(super) fn read_to(&self, window: JournalWindow) -> u64 {
        let mut live = self.live();
        if live.read_to < window.readable_after {
            tracing::warn!(subscription = %self.id, "Events were dropped from the journal before they were looked at");
            live.progress.dropped += 1;
            live.read_to = window.readable_after;
        }
        live.read_to
    }

    /// Looks through a part of the journal that reaches up to `read_to`.
    pub(super) fn look_through(&self, items: &[Occurrence], read_to: u64) {
        let mut live = self.live();
        let from = live.read_to;
        if read_to <= from {
            return;
        }
        let before = (live.waiting.len(), live.progress.dropped);
        let found = items.iter().filter(|item| item.position > from && self.filter.matches(&item.indication));
        live.add(found.map(|item| item.position), read_to);
        let changed = before != (live.waiting.len(), live.progress.dropped);
        drop(live);
        if changed {
            self.news.notify_waiters();
        }
    }

    /// Whether its time is over.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.live().progress.expires <= now
    }

    /// The form that is kept across restarts; none when it cannot be written, which text always can.
    pub(super) fn record(&self) -> SubscriptionRecord {
        let stored = Stored { terms: self.terms.clone(), progress: self.live().progress.clone() };
        let terms = serde_json::to_string(&stored).unwrap_or_default();
        SubscriptionRecord { id: self.id, owner: self.owner.clone(), terms }
    }
}
