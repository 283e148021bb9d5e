//! Where records are kept.

use std::sync::Arc;

use super::{
    Collection, Event, Job, Pool, ReferencePoint, ReferencePointCollection, Snapshot, SnapshotCollection, Subscription,
    VirtualSystem, Volume,
};
use crate::backend::{BoxFuture, JournalStep};
use crate::time::{Guid, Timestamp};

/// The right to write, held by one server at a time.
///
/// Every write carries the epoch; a server whose lease was taken over by another one has an old epoch, its writes
/// change nothing, and it must stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub owner: String,
    /// Grows with each change of hands.
    pub epoch: u64,
}

/// One change of the records.
#[derive(Debug, Clone)]
pub enum Change {
    /// Adds or replaces a machine.
    PutSystem(Arc<VirtualSystem>),
    /// Adds or replaces a snapshot.
    PutSnapshot(Arc<Snapshot>),
    /// Removes a snapshot.
    DeleteSnapshot(Guid),
    /// Adds or replaces a collection.
    PutCollection(Arc<Collection>),
    /// Removes a collection.
    DeleteCollection(Guid),
    /// Adds or replaces a snapshot collection.
    PutSnapshotCollection(Arc<SnapshotCollection>),
    /// Removes a snapshot collection.
    DeleteSnapshotCollection(Guid),
    /// Adds or replaces a reference point.
    PutReferencePoint(Arc<ReferencePoint>),
    /// Removes a reference point.
    DeleteReferencePoint(Guid),
    /// Adds or replaces a reference point collection.
    PutReferencePointCollection(Arc<ReferencePointCollection>),
    /// Removes a reference point collection.
    DeleteReferencePointCollection(Guid),
    /// Adds or replaces a pool.
    PutPool(Arc<Pool>),
    /// Adds or replaces a volume.
    PutVolume(Arc<Volume>),
    /// Removes a volume.
    DeleteVolume(Guid),
    /// Adds or replaces a job; the journal of a job that has ended is removed.
    PutJob(Arc<Job>),
    /// Removes a job.
    DeleteJob(Guid),
    /// Appends a step to the journal of a job.
    AppendStep {
        /// The job.
        job: Guid,
        /// The step.
        step: JournalStep,
    },
    /// Adds or replaces a subscription.
    PutSubscription(Arc<Subscription>),
    /// Removes a subscription.
    DeleteSubscription(Guid),
    /// Appends an event to the journal of events.
    AppendEvent(Arc<Event>),
    /// Removes the events up to a position.
    DeleteEvents {
        /// The last position that goes.
        up_to: u64,
    },
}

/// All records, as read at start.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// Machines.
    pub systems: Vec<VirtualSystem>,
    /// Snapshots.
    pub snapshots: Vec<Snapshot>,
    /// Collections.
    pub collections: Vec<Collection>,
    /// Snapshot collections.
    pub snapshot_collections: Vec<SnapshotCollection>,
    /// Reference points.
    pub reference_points: Vec<ReferencePoint>,
    /// Reference point collections.
    pub reference_point_collections: Vec<ReferencePointCollection>,
    /// Pools.
    pub pools: Vec<Pool>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Jobs.
    pub jobs: Vec<Job>,
    /// The journals of unfinished jobs, in the order of their steps.
    pub journal: Vec<(Guid, JournalStep)>,
    /// Subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// The events that are kept, in the order of their positions.
    pub events: Vec<Event>,
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another server holds the lease.
    #[error("the records are held by {0}")]
    Held(String),
    /// Another server took the lease over.
    #[error("the lease was lost")]
    LeaseLost,
    /// The records were written by a newer version.
    #[error("schema version {found} is newer than {known}")]
    NewerSchema {
        /// The version found.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// A record cannot be read or written as JSON.
    #[error("a record of {table} is damaged")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    /// The data directory cannot be used.
    #[error("the data directory cannot be used")]
    Io(#[from] std::io::Error),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A change that was built on one that failed.
    #[error("an earlier change failed")]
    EarlierChangeFailed,
}

/// A durable store of records. Calls carry the lease, so that several servers can share one store.
pub trait Store: Send + Sync + 'static {
    /// Takes the lease for `owner` until `until`; one that has run out at `now`, or that `owner` holds, is taken over.
    ///
    /// # Errors
    /// [`StoreError::Held`] when another owner holds it.
    fn acquire<'a>(
        &'a self,
        owner: &'a str,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<Lease, StoreError>>;

    /// Extends the lease.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another owner has it.
    fn renew<'a>(&'a self, lease: &'a Lease, until: Timestamp) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Gives the lease back.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another owner has it.
    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Reads everything.
    ///
    /// # Errors
    /// A [`StoreError`] when a record cannot be read.
    fn load<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Records, StoreError>>;

    /// Makes all changes durable, or none.
    ///
    /// # Errors
    /// A [`StoreError`]; nothing was changed then.
    fn commit<'a>(&'a self, lease: &'a Lease, changes: Vec<Change>) -> BoxFuture<'a, Result<(), StoreError>>;
}
