//! What has changed, for those who want to be told: a bounded journal that survives a restart.
//!
//! Nobody is called: a change becomes a record in the same transaction as the change itself, and who wants to know
//! reads the records after a position. While nobody subscribes nothing is recorded, so changes cost what they cost
//! without events.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use tokio::sync::watch;

use super::{Job, Snapshot, View, VirtualSystem};
use crate::time::{Guid, Timestamp};

/// A change that is durable and visible in the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the order of all events. Positions grow, with gaps.
    pub position: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub change: EventChange,
}

/// What happened. The records are complete, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventChange {
    /// Recording began: what happened between an event in front of this one and this one is not known.
    Began,
    /// Recording ended.
    Ended,
    /// A job was accepted, made progress, changed its state, or was forgotten after its time.
    Job(Transition<Job>),
    /// A snapshot was made, renamed, re-linked, lost its memory, or was destroyed.
    Snapshot {
        /// The snapshot.
        snapshot: Transition<Snapshot>,
        /// Its machine at that time.
        system: Option<Arc<VirtualSystem>>,
    },
    /// The state or the settings of a virtual system changed.
    System(Transition<VirtualSystem>),
}

/// A record before and after a change: without a first one it was made, without a second one it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition<T> {
    /// As it was.
    pub before: Option<Arc<T>>,
    /// As it is.
    pub after: Option<Arc<T>>,
}

impl<T> Transition<T> {
    pub(super) const fn new(before: Option<Arc<T>>, after: Option<Arc<T>>) -> Self {
        Self { before, after }
    }
}

impl EventChange {
    /// The records of the event as two views, before and after it; nothing else is in them.
    #[must_use]
    pub fn views(&self) -> (View, View) {
        let (mut before, mut after) = (View::default(), View::default());
        match self {
            Self::Began | Self::Ended => {}
            Self::Job(job) => {
                job.before.iter().for_each(|job| before.put_job(Arc::clone(job)));
                job.after.iter().for_each(|job| after.put_job(Arc::clone(job)));
            }
            Self::Snapshot { snapshot, system } => {
                if let Some(system) = system {
                    before.put_system(Arc::clone(system));
                    after.put_system(Arc::clone(system));
                }
                snapshot.before.iter().for_each(|snapshot| before.put_snapshot(Arc::clone(snapshot)));
                snapshot.after.iter().for_each(|snapshot| after.put_snapshot(Arc::clone(snapshot)));
            }
            Self::System(system) => {
                system.before.iter().for_each(|system| before.put_system(Arc::clone(system)));
                system.after.iter().for_each(|system| after.put_system(Arc::clone(system)));
            }
        }
        (before, after)
    }

    /// Whether something changed at all.
    pub(super) fn is_change(&self) -> bool {
        match self {
            Self::Began | Self::Ended => true,
            Self::Job(job) => job.before != job.after,
            Self::Snapshot { snapshot, .. } => snapshot.before != snapshot.after,
            Self::System(system) => system.before != system.after,
        }
    }
}

/// Who wants to be told of events, as its owner in the layers above wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its identity.
    pub id: Guid,
    /// The user who subscribed.
    pub owner: SmolStr,
    /// What it is; the engine keeps it and does not read it.
    pub terms: String,
}

/// How much the journal of events keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalLimits {
    /// Most events.
    pub events: usize,
    /// How long an event is kept.
    pub age: Duration,
}

impl Default for JournalLimits {
    /// Four thousand events, for an hour.
    fn default() -> Self {
        Self { events: 4096, age: Duration::from_secs(3600) }
    }
}

/// Which positions can be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventWindow {
    /// The oldest event that is there; 0 when there is none.
    pub oldest: u64,
    /// The newest event; 0 when there is none.
    pub newest: u64,
}

/// The events that are kept, in memory; the store has the same ones.
pub(super) struct EventLog {
    kept: Mutex<Kept>,
    newest: watch::Sender<u64>,
    limits: JournalLimits,
}

struct Kept {
    events: VecDeque<Arc<Event>>,
    recording: bool,
    /// Events up to here have left memory and are still in the store.
    forget: Option<u64>,
}

impl EventLog {
    pub(super) fn new(events: Vec<Event>, limits: JournalLimits) -> Self {
        let recording = events.last().is_some_and(|event| event.change != EventChange::Ended);
        let newest = events.last().map_or(0, |event| event.position);
        let events = events.into_iter().map(Arc::new).collect();
        let kept = Mutex::new(Kept { events, recording, forget: None });
        Self { kept, newest: watch::Sender::new(newest), limits }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_recording(&self) -> bool {
        self.kept().recording
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    pub(super) fn window(&self) -> EventWindow {
        let kept = self.kept();
        EventWindow {
            oldest: kept.events.front().map_or(0, |event| event.position),
            newest: kept.events.back().map_or(0, |event| event.position),
        }
    }

    /// Up to `limit` events behind a position, in order.
    pub(super) fn after(&self, position: u64, limit: usize) -> Vec<Arc<Event>> {
        let kept = self.kept();
        let first = kept.events.partition_point(|event| event.position <= position);
        kept.events.iter().skip(first).take(limit).cloned().collect()
    }

    /// Adds events that have become durable and tells those who wait.
    pub(super) fn append(&self, events: Vec<Arc<Event>>) {
        let Some(newest) = events.last().map(|event| (event.position, event.at)) else { return };
        let mut kept = self.kept();
        for event in events {
            match event.change {
                EventChange::Began => {
                    kept.events.clear();
                    kept.recording = true;
                }
                EventChange::Ended => {
                    kept.events.clear();
                    kept.recording = false;
                }
                _ => {}
            }
            kept.events.push_back(event);
        }
        let oldest = chrono::Duration::from_std(self.limits.age).ok().and_then(|age| newest.1.checked_sub_signed(age));
        // The newest one stays: it knows where the positions have got to.
        while kept.events.len() > 1
            && kept.events.front().is_some_and(|event| {
                kept.events.len() > self.limits.events || oldest.is_some_and(|oldest| event.at < oldest)
            })
        {
            kept.forget = kept.events.pop_front().map(|event| event.position);
        }
        drop(kept);
        self.newest.send_replace(newest.0);
    }

    /// What the store is to forget with its next commit.
    pub(super) fn take_forgotten(&self) -> Option<u64> {
        self.kept().forget.take()
    }

    /// The store could not forget: it is asked again.
    pub(super) fn restore_forgotten(&self, up_to: u64) {
        let mut kept = self.kept();
        kept.forget = kept.forget.max(Some(up_to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(position: u64, seconds: i64, change: EventChange) -> Event {
        let at = Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        Event { position, at, change }
    }

    fn nothing() -> EventChange {
        EventChange::System(Transition::new(None, None))
    }

    fn log(events: Vec<Event>) -> EventLog {
        EventLog::new(events, JournalLimits { events: 3, age: Duration::from_secs(60) })
    }

    #[test]
    fn the_journal_is_bounded_in_size_and_age_and_keeps_the_newest() {
        let log = log(vec![event(1, 0, EventChange::Began)]);
        assert!(log.is_recording());
        for position in 2..6 {
            log.append(vec![Arc::new(event(position, 1, nothing()))]);
        }
        assert_eq!(log.window(), EventWindow { oldest: 3, newest: 5 });
        assert_eq!((log.take_forgotten(), log.take_forgotten()), (Some(2), None));
        log.append(vec![Arc::new(event(9, 1000, nothing()))]);
        assert_eq!(log.window(), EventWindow { oldest: 9, newest: 9 });
        assert_eq!(log.take_forgotten(), Some(5));
        log.restore_forgotten(5);
        assert_eq!(log.take_forgotten(), Some(5));
        assert_eq!(*log.watch().borrow(), 9);
    }

    #[test]
    fn events_are_read_behind_a_position() {
        let log = log(vec![event(1, 0, EventChange::Began), event(4, 0, nothing()), event(7, 0, nothing())]);
        let read = |after, limit| log.after(after, limit).iter().map(|event| event.position).collect::<Vec<_>>();
        assert_eq!(read(0, 9), [1, 4, 7]);
        assert_eq!(read(1, 1), [4]);
        assert_eq!(read(5, 9), [7]);
        assert_eq!(read(7, 9), [0_u64; 0]);
    }

    #[test]
    fn an_end_stops_the_recording_and_a_beginning_forgets_what_was() {
        let log = log(vec![event(1, 0, EventChange::Began)]);
        log.append(vec![Arc::new(event(2, 1, EventChange::Ended))]);
        assert!(!log.is_recording());
        assert_eq!(log.window(), EventWindow { oldest: 2, newest: 2 });
        log.append(vec![Arc::new(event(4, 2, EventChange::Began))]);
        assert!(log.is_recording());
        assert_eq!(log.window(), EventWindow { oldest: 4, newest: 4 });
        let again = EventLog::new(vec![event(2, 1, EventChange::Ended)], JournalLimits::default());
        assert!(!again.is_recording());
    }
}
