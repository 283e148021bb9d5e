//! What has changed, for those who want to be told.

use std::sync::Arc;

use super::{Job, Snapshot, VirtualSystem, Volume};

/// A change that is durable and visible in the view. Earlier and later values are complete records.
#[derive(Debug, Clone)]
pub enum Event {
    /// A job was accepted.
    JobCreated(Arc<Job>),
    /// A job made progress or changed its state.
    JobChanged(Arc<Job>),
    /// A job was forgotten after its time.
    JobDeleted(Arc<Job>),
    /// A snapshot was made.
    SnapshotCreated(Arc<Snapshot>),
    /// A snapshot was renamed, re-linked or lost its memory.
    SnapshotChanged(Arc<Snapshot>),
    /// A snapshot is gone.
    SnapshotDeleted(Arc<Snapshot>),
    /// The state or the settings of a virtual system changed.
    SystemChanged(Arc<VirtualSystem>),
    /// A volume was made.
    VolumeCreated(Arc<Volume>),
}
