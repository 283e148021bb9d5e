//! The one place where records change: decide on the newest state, make durable, publish.
//!
//! A transaction decides on a working copy that already holds what earlier transactions changed but is not durable
//! yet. One writer takes all transactions that wait, hands them to the store as one commit, and publishes the view of
//! the last one. When a commit fails, the working copy goes back to what is published, and transactions that were
//! decided on the failed state fail with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::events::{EventLog, Transition};
use super::report::Chain;
use super::{
    Change, Collection, EngineError, Event, EventChange, Job, Lease, Pool, ReferencePoint, ReferencePointCollection,
    Snapshot, SnapshotCollection, Store, StoreError, Subscription, View, VirtualSystem, Volume,
};
use crate::backend::JournalStep;
use crate::time::{Clock, Guid};

/// Transactions that may wait for the writer.
const QUEUE: usize = 256;
/// Transactions in one commit.
const BATCH: usize = 64;

pub(super) struct Ledger {
    working: Mutex<Working>,
    published: ArcSwap<View>,
    entries: mpsc::Sender<Entry>,
    events: EventLog,
    clock: Arc<dyn Clock>,
}

struct Working {
    view: View,
    /// Grows when a commit fails.
    generation: u64,
    next_sequence: u64,
    /// Whether transactions that are decided now tell their events.
    recording: bool,
    next_event: u64,
}

/// Learns whether a transaction became durable, also when its caller has gone away meanwhile.
pub(super) type Then = Box<dyn FnOnce(bool) + Send>;

/// A decided transaction on its way to the store.
struct Entry {
    generation: u64,
    changes: Vec<Change>,
    view: View,
    events: Vec<Arc<Event>>,
    then: Option<Then>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl Entry {
    /// Ends it: what has to follow is done first, then the caller is told.
    fn end(self, result: Result<(), StoreError>) {
        if let Some(then) = self.then {
            then(result.is_ok());
        }
        // A caller that went away does not need the answer.
        let _ = self.done.send(result);
    }
}

/// The receiving end of a ledger, for [`Writer::run`].
pub(super) struct Writer {
    entries: mpsc::Receiver<Entry>,
    store: Arc<dyn Store>,
    lease: Lease,
}

impl Ledger {
    pub(super) fn new(
        view: View,
        next_sequence: u64,
        events: EventLog,
        clock: Arc<dyn Clock>,
        store: Arc<dyn Store>,
        lease: Lease,
    ) -> (Self, Writer) {
        let (sender, entries) = mpsc::channel(QUEUE);
        let (recording, next_event) = (events.is_recording(), events.window().newest + 1);
        let ledger = Self {
            published: ArcSwap::from_pointee(view.clone()),
            working: Mutex::new(Working { view, generation: 0, next_sequence, recording, next_event }),
            entries: sender,
            events,
            clock,
        };
        (ledger, Writer { entries, store, lease })
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.published.load_full()
    }

    pub(super) const fn events(&self) -> &EventLog {
        &self.events
    }

    fn working(&self) -> MutexGuard<'_, Working> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides, and returns when the decision is durable and published. An error of `decide` changes nothing.
    pub(super) async fn transact<T, E>(&self, decide: impl FnOnce(&mut Draft) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        self.transact_then(decide, None).await
    }

    /// As [`transact`](Self::transact); `then` follows even if the caller stops waiting once the decision is made.
    pub(super) async fn transact_then<T, E>(
        &self,
        decide: impl FnOnce(&mut Draft) -> Result<T, E>,
        then: Option<Then>,
    ) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        let place = self.entries.reserve().await.map_err(|_| StoreError::Closed)?;
        let (outcome, answer) = {
            let mut working = self.working();
            let mut draft = Draft {
                view: working.view.clone(),
                next_sequence: working.next_sequence,
                changes: Vec::new(),
                recording: working.recording,
                events: Vec::new(),
                touched: false,
            };
            let outcome = decide(&mut draft)?;
            working.next_sequence = draft.next_sequence;
            if !draft.touched {
                return Ok(outcome);
            }
            working.view = draft.view.clone();
            let (done, answer) = oneshot::channel();
            let Draft { view, mut changes, events, recording, .. } = draft;
            working.recording = recording;
            let events = self.number(events, &mut working.next_event, &mut changes);
            place.send(Entry { generation: working.generation, changes, view, events, then, done });
            (outcome, answer)
        };
        answer.await.map_err(|_| StoreError::Closed)??;
        Ok(outcome)
    }

    /// Gives events their positions; they become durable together with what they tell of.
    fn number(&self, events: Vec<EventChange>, next: &mut u64, changes: &mut Vec<Change>) -> Vec<Arc<Event>> {
        let mut numbered = Vec::new();
        for change in events.into_iter().filter(EventChange::is_change) {
            match change {
                // A place is left out: a bookmark of the time before is never taken for one of the time after.
                EventChange::Began => {
                    changes.push(Change::DeleteEvents { up_to: *next });
                    *next += 1;
                }
                EventChange::Ended => changes.push(Change::DeleteEvents { up_to: *next }),
                _ => {}
            }
            let event = Arc::new(Event { position: *next, at: self.clock.now(), change });
            *next += 1;
            changes.push(Change::AppendEvent(Arc::clone(&event)));
            numbered.push(event);
        }
        numbered
    }
}

impl Writer {
    /// Works until the ledger is dropped, or until another server has taken over the records.
    pub(super) async fn run(mut self, ledger: &Ledger, lost: &CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        while !lost.is_cancelled() && self.entries.recv_many(&mut batch, BATCH).await > 0 {
            let generation = ledger.working().generation;
            let (valid, stale): (Vec<_>, Vec<_>) = batch.drain(..).partition(|entry| entry.generation == generation);
            for entry in stale {
                entry.end(Err(StoreError::EarlierChangeFailed));
            }
            self.commit(ledger, valid, lost).await;
        }
    }

    async fn commit(&self, ledger: &Ledger, mut entries: Vec<Entry>, lost: &CancellationToken) {
        let mut changes: Vec<Change> =
            entries.iter_mut().flat_map(|entry| std::mem::take(&mut entry.changes)).collect();
        // It goes with a commit that is made anyway.
        let forgotten = if changes.is_empty() { None } else { ledger.events.take_forgotten() };
        if let Some(up_to) = forgotten {
            changes.insert(0, Change::DeleteEvents { up_to });
        }
        let result = if changes.is_empty() { Ok(()) } else { self.store.commit(&self.lease, changes).await };
        match result {
            Ok(()) => {
                if let Some(last) = entries.last() {
                    ledger.published.store(Arc::new(last.view.clone()));
                }
                for mut entry in entries {
                    ledger.events.append(std::mem::take(&mut entry.events));
                    entry.end(Ok(()));
                }
            }
            Err(failure) => {
                error!(error = %Chain(&failure), "Changes could not be stored");
                if matches!(failure, StoreError::LeaseLost) {
                    lost.cancel();
                }
                if let Some(up_to) = forgotten {
                    ledger.events.restore_forgotten(up_to);
                }
                {
                    let mut working = ledger.working();
                    working.view = View::clone(&ledger.published.load());
                    working.generation += 1;
                    working.recording = ledger.events.is_recording();
                }
                let mut failure = Some(failure);
                for entry in entries {
                    let failure = failure.take().unwrap_or(StoreError::EarlierChangeFailed);
                    entry.end(Err(failure));
                }
            }
        }
    }
}

/// A transaction being decided.
pub(super) struct Draft {
    view: View,
    next_sequence: u64,
    changes: Vec<Change>,
    recording: bool,
    events: Vec<EventChange>,
    touched: bool,
}

impl Draft {
    /// The newest state, with what this transaction changed.
    pub(super) const fn view(&self) -> &View {
        &self.view
    }

    /// The next position in the order of creation.
    pub(super) const fn next_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    fn change(&mut self, change: Change) {
        self.touched = true;
        self.changes.push(change);
    }

    /// Notes an event, if anybody is to be told; what it says is made only then.
    fn tell(&mut self, change: impl FnOnce(&View) -> EventChange) {
        if self.recording {
            self.events.push(change(&self.view));
        }
    }

    /// Begins or ends the recording of events.
    pub(super) fn record(&mut self, on: bool) {
        if self.recording != on {
            self.recording = on;
            self.events.push(if on { EventChange::Began } else { EventChange::Ended });
            self.touched = true;
        }
    }

    pub(super) fn put_subscription(&mut self, subscription: Subscription) {
        let subscription = Arc::new(subscription);
        self.view.put_subscription(Arc::clone(&subscription));
        self.change(Change::PutSubscription(subscription));
    }

    pub(super) fn delete_subscription(&mut self, id: Guid) {
        if self.view.remove_subscription(id).is_some() {
            self.change(Change::DeleteSubscription(id));
        }
    }

    pub(super) fn put_system(&mut self, system: VirtualSystem) {
        let system = self.publish_system(system);
        self.change(Change::PutSystem(system));
    }

    /// Shows what a job does to a system; that is not stored.
    pub(super) fn show_system(&mut self, system: VirtualSystem) {
        self.publish_system(system);
        self.touched = true;
    }

    fn publish_system(&mut self, system: VirtualSystem) -> Arc<VirtualSystem> {
        let system = Arc::new(system);
        let after = Arc::clone(&system);
        self.tell(|view| EventChange::System(Transition::new(view.system(after.id).cloned(), Some(after))));
        self.view.put_system(Arc::clone(&system));
        system
    }

    pub(super) fn put_snapshot(&mut self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let after = Arc::clone(&snapshot);
        self.tell(|view| {
            let system = view.system(after.system).cloned();
            let snapshot = Transition::new(view.snapshot(after.id).cloned(), Some(after));
            EventChange::Snapshot { snapshot, system }
        });
        self.view.put_snapshot(Arc::clone(&snapshot));
        self.change(Change::PutSnapshot(snapshot));
    }

    pub(super) fn delete_snapshot(&mut self, id: Guid) {
        if let Some(snapshot) = self.view.remove_snapshot(id) {
            self.tell(|view| {
                let system = view.system(snapshot.system).cloned();
                EventChange::Snapshot { snapshot: Transition::new(Some(snapshot), None), system }
            });
            self.change(Change::DeleteSnapshot(id));
        }
    }

    pub(super) fn put_collection(&mut self, collection: Collection) {
        let collection = Arc::new(collection);
        self.view.put_collection(Arc::clone(&collection));
        self.change(Change::PutCollection(collection));
    }

    pub(super) fn delete_collection(&mut self, id: Guid) {
        if self.view.remove_collection(id).is_some() {
            self.change(Change::DeleteCollection(id));
        }
    }

    pub(super) fn put_snapshot_collection(&mut self, set: SnapshotCollection) {
        let set = Arc::new(set);
        self.view.put_snapshot_collection(Arc::clone(&set));
        self.change(Change::PutSnapshotCollection(set));
    }

    pub(super) fn delete_snapshot_collection(&mut self, id: Guid) {
        if self.view.remove_snapshot_collection(id).is_some() {
            self.change(Change::DeleteSnapshotCollection(id));
        }
    }

    pub(super) fn put_reference_point(&mut self, point: ReferencePoint) {
        let point = Arc::new(point);
        self.view.put_reference_point(Arc::clone(&point));
        self.change(Change::PutReferencePoint(point));
    }

    pub(super) fn delete_reference_point(&mut self, id: Guid) {
        if self.view.remove_reference_point(id).is_some() {
            self.change(Change::DeleteReferencePoint(id));
        }
    }

    pub(super) fn put_reference_point_collection(&mut self, set: ReferencePointCollection) {
        let set = Arc::new(set);
        self.view.put_reference_point_collection(Arc::clone(&set));
        self.change(Change::PutReferencePointCollection(set));
    }

    pub(super) fn delete_reference_point_collection(&mut self, id: Guid) {
        if self.view.remove_reference_point_collection(id).is_some() {
            self.change(Change::DeleteReferencePointCollection(id));
        }
    }

    pub(super) fn put_pool(&mut self, pool: Pool) {
        let pool = Arc::new(pool);
        self.view.put_pool(Arc::clone(&pool));
        self.change(Change::PutPool(pool));
    }

    /// Shows how full a pool is; that is not stored.
    pub(super) fn show_pool(&mut self, pool: Pool) {
        self.view.put_pool(Arc::new(pool));
        self.touched = true;
    }

    /// Shows how big a volume is; that is not stored.
    pub(super) fn show_volume(&mut self, volume: Volume) {
        self.view.put_volume(Arc::new(volume));
        self.touched = true;
    }

    pub(super) fn put_volume(&mut self, volume: Volume) {
        let volume = Arc::new(volume);
        self.view.put_volume(Arc::clone(&volume));
        self.change(Change::PutVolume(volume));
    }

    pub(super) fn delete_volume(&mut self, id: Guid) {
        if self.view.remove_volume(id).is_some() {
            self.change(Change::DeleteVolume(id));
        }
    }

    pub(super) fn put_job(&mut self, job: Job) {
        let job = self.publish_job(job);
        self.change(Change::PutJob(job));
    }

    /// Shows the progress of a job; that is not stored.
    pub(super) fn show_job(&mut self, job: Job) {
        self.publish_job(job);
        self.touched = true;
    }

    fn publish_job(&mut self, job: Job) -> Arc<Job> {
        let job = Arc::new(job);
        let after = Arc::clone(&job);
        self.tell(|view| EventChange::Job(Transition::new(view.job(after.id).cloned(), Some(after))));
        self.view.put_job(Arc::clone(&job));
        job
    }

    pub(super) fn delete_job(&mut self, id: Guid) {
        if let Some(job) = self.view.remove_job(id) {
            self.tell(|_| EventChange::Job(Transition::new(Some(job), None)));
            self.change(Change::DeleteJob(id));
        }
    }

    pub(super) fn append_step(&mut self, job: Guid, step: JournalStep) {
        self.change(Change::AppendStep { job, step });
    }

    /// The system, or the error of a command that names none.
    pub(super) fn system(&self, id: Guid) -> Result<&Arc<VirtualSystem>, EngineError> {
        self.view.system(id).ok_or(EngineError::NoSuchSystem(id))
    }

    /// The snapshot, or the error of a command that names none.
    pub(super) fn snapshot(&self, id: Guid) -> Result<&Arc<Snapshot>, EngineError> {
        self.view.snapshot(id).ok_or(EngineError::NoSuchSnapshot(id))
    }

    /// The collection, or the error of a command that names none.
    pub(super) fn collection(&self, id: Guid) -> Result<&Arc<Collection>, EngineError> {
        self.view.collection(id).ok_or(EngineError::NoSuchCollection(id))
    }

    /// The reference point, or the error of a command that names none.
    pub(super) fn reference_point(&self, id: Guid) -> Result<&Arc<ReferencePoint>, EngineError> {
        self.view.reference_point(id).ok_or(EngineError::NoSuchReferencePoint(id))
    }

    /// The reference point collection, or the error of a command that names none.
    pub(super) fn reference_point_collection(&self, id: Guid) -> Result<&Arc<ReferencePointCollection>, EngineError> {
        self.view.reference_point_collection(id).ok_or(EngineError::NoSuchReferencePointCollection(id))
    }
}
