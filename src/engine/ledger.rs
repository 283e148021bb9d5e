//! The one place where records change: decide on the newest state, make durable, publish.
//!
//! A transaction decides on a working copy that already holds what earlier transactions changed but is not durable
//! yet. One writer takes all transactions that wait, hands them to the store as one commit, and publishes the view of
//! the last one. When a commit fails, the working copy goes back to what is published, and transactions that were
//! decided on the failed state fail with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::report::Chain;
use super::{
    Change, Collection, EngineError, Event, Job, Lease, Pool, ReferencePoint, ReferencePointCollection, Snapshot,
    SnapshotCollection, Store, StoreError, View, VirtualSystem, Volume,
};
use crate::backend::JournalStep;
use crate::time::Guid;

/// Transactions that may wait for the writer.
const QUEUE: usize = 256;
/// Transactions in one commit.
const BATCH: usize = 64;
/// Events a receiver may fall behind.
const EVENTS: usize = 1024;

pub(super) struct Ledger {
    working: Mutex<Working>,
    published: ArcSwap<View>,
    entries: mpsc::Sender<Entry>,
    events: broadcast::Sender<Event>,
}

struct Working {
    view: View,
    /// Grows when a commit fails.
    generation: u64,
    next_sequence: u64,
}

/// Learns whether a transaction became durable, also when its caller has gone away meanwhile.
pub(super) type Then = Box<dyn FnOnce(bool) + Send>;

/// A decided transaction on its way to the store.
struct Entry {
    generation: u64,
    changes: Vec<Change>,
    view: View,
    events: Vec<Event>,
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
    pub(super) fn new(view: View, next_sequence: u64, store: Arc<dyn Store>, lease: Lease) -> (Self, Writer) {
        let (sender, entries) = mpsc::channel(QUEUE);
        let ledger = Self {
            published: ArcSwap::from_pointee(view.clone()),
            working: Mutex::new(Working { view, generation: 0, next_sequence }),
            entries: sender,
            events: broadcast::Sender::new(EVENTS),
        };
        (ledger, Writer { entries, store, lease })
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.published.load_full()
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
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
            let Draft { view, changes, events, .. } = draft;
            place.send(Entry { generation: working.generation, changes, view, events, then, done });
            (outcome, answer)
        };
        answer.await.map_err(|_| StoreError::Closed)??;
        Ok(outcome)
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
        let changes: Vec<Change> = entries.iter_mut().flat_map(|entry| std::mem::take(&mut entry.changes)).collect();
        let result = if changes.is_empty() { Ok(()) } else { self.store.commit(&self.lease, changes).await };
        match result {
            Ok(()) => {
                if let Some(last) = entries.last() {
                    ledger.published.store(Arc::new(last.view.clone()));
                }
                for mut entry in entries {
                    for event in entry.events.drain(..) {
                        // Without receivers nobody is to be told.
                        let _ = ledger.events.send(event);
                    }
                    entry.end(Ok(()));
                }
            }
            Err(failure) => {
                error!(error = %Chain(&failure), "Changes could not be stored");
                if matches!(failure, StoreError::LeaseLost) {
                    lost.cancel();
                }
                {
                    let mut working = ledger.working();
                    working.view = View::clone(&ledger.published.load());
                    working.generation += 1;
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
    events: Vec<Event>,
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

    pub(super) fn put_system(&mut self, system: VirtualSystem) {
        let system = Arc::new(system);
        self.view.put_system(Arc::clone(&system));
        self.events.push(Event::SystemChanged(Arc::clone(&system)));
        self.change(Change::PutSystem(system));
    }

    /// Shows what a job does to a system; that is not stored.
    pub(super) fn show_system(&mut self, system: VirtualSystem) {
        let system = Arc::new(system);
        self.view.put_system(Arc::clone(&system));
        self.events.push(Event::SystemChanged(system));
        self.touched = true;
    }

    pub(super) fn put_snapshot(&mut self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let known = self.view.snapshot(snapshot.id).is_some();
        self.view.put_snapshot(Arc::clone(&snapshot));
        let event = if known { Event::SnapshotChanged } else { Event::SnapshotCreated };
        self.events.push(event(Arc::clone(&snapshot)));
        self.change(Change::PutSnapshot(snapshot));
    }

    pub(super) fn delete_snapshot(&mut self, id: Guid) {
        if let Some(snapshot) = self.view.remove_snapshot(id) {
            self.events.push(Event::SnapshotDeleted(snapshot));
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
        if self.view.volume(volume.id).is_none() {
            self.events.push(Event::VolumeCreated(Arc::clone(&volume)));
        }
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
        let event = if self.view.job(job.id).is_some() { Event::JobChanged } else { Event::JobCreated };
        self.view.put_job(Arc::clone(&job));
        self.events.push(event(Arc::clone(&job)));
        job
    }

    pub(super) fn delete_job(&mut self, id: Guid) {
        if let Some(job) = self.view.remove_job(id) {
            self.events.push(Event::JobDeleted(job));
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
