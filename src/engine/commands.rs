//! The engine as its users see it: reading, and one method a command.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    CancelMode, CollectionChange, ConsistencyLevel, CreateGroupSnapshot, CreateSnapshot, CreateVolumeSnapshot,
    DefineCollection, EngineError, EngineOptions, Event, EventWindow, ExportSettings, Outcome, RequestedState,
    Subscription, SystemChange, View, VolumeOutcome,
};
use crate::backend::Capabilities;
use crate::time::{Guid, Timestamp};

/// Machines, snapshots, collections, volumes and jobs of one host.
///
/// `user` is the name of the caller; a job remembers it as its owner.
pub struct Engine {
    inner: Arc<super::runner::Inner>,
}

impl Engine {
    /// Opens the store, ends or re-queues the jobs that were unfinished, removes what no record owns, and begins to work.
    ///
    /// # Errors
    /// An [`EngineError`] when the store or the back-end cannot be used.
    pub async fn open(options: EngineOptions) -> Result<Arc<Self>, EngineError> {
        let inner = super::start::open(options).await?;
        Ok(Arc::new(Self { inner }))
    }

    /// Everything, at this instant. Never waits.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.inner.view()
    }

    /// The record of what users change.
    pub(super) fn audit(&self) -> &Arc<dyn crate::access::AuditTrail> {
        &self.inner.audit
    }

    /// The directories below which exports may lie.
    pub(super) fn export_directories(&self) -> &[std::path::PathBuf] {
        &self.inner.settings.export_directories
    }

    /// What the hypervisor can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.inner.hypervisor().capabilities()
    }

    /// The name of this host.
    #[must_use]
    pub fn host_name(&self) -> &str {
        self.inner.host_name()
    }

    /// The time now, by the engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.now()
    }

    /// How long an ended job stays readable.
    #[must_use]
    pub fn job_retention(&self) -> std::time::Duration {
        self.inner.job_retention()
    }

    /// The position of the newest event, and each time there are more.
    #[must_use]
    pub fn watch_events(&self) -> watch::Receiver<u64> {
        self.inner.ledger().events().watch()
    }

    /// Which events can be read.
    #[must_use]
    pub fn event_window(&self) -> EventWindow {
        self.inner.ledger().events().window()
    }

    /// Up to `limit` events behind a position, in order; none while nothing is recorded.
    #[must_use]
    pub fn events_after(&self, position: u64, limit: usize) -> Vec<Arc<Event>> {
        self.inner.ledger().events().after(position, limit)
    }

    /// Begins to record events, or ends it and forgets them. Survives a restart.
    ///
    /// # Errors
    /// `Store`.
    pub async fn record_events(&self, on: bool) -> Result<(), EngineError> {
        self.inner
            .ledger()
            .transact(|draft| {
                draft.record(on);
                Ok(())
            })
            .await
    }

    /// Adds or replaces a subscription; while there is one, events are recorded.
    ///
    /// # Errors
    /// `Store`.
    pub async fn put_subscription(&self, subscription: Subscription) -> Result<(), EngineError> {
        self.inner
            .ledger()
            .transact(|draft| {
                draft.record(true);
                draft.put_subscription(subscription);
                Ok(())
            })
            .await
    }

    /// Removes a subscription, if it is there.
    ///
    /// # Errors
    /// `Store`.
    pub async fn delete_subscription(&self, id: Guid) -> Result<(), EngineError> {
        self.inner
            .ledger()
            .transact(|draft| {
                draft.delete_subscription(id);
                Ok(())
            })
            .await
    }

    /// Takes a snapshot of a machine. Always a job.
    ///
    /// # Errors
    /// `NoSuchSystem`, `InvalidParameter` (name longer than 100 characters), `InvalidState` (transient), `NotSupported`, `QueueFull`.
    pub async fn create_snapshot(&self, request: CreateSnapshot, user: &str) -> Result<Outcome<Guid>, EngineError> {
        self.inner.create_snapshot(request, user).await
    }

    /// Makes a snapshot the content of its machine, which must be off or saved. Always a job.
    ///
    /// # Errors
    /// `NoSuchSnapshot`, `InvalidParameter` (recovery, missing or foreign snapshot), `InvalidState`, `QueueFull`.
    pub async fn apply_snapshot(&self, snapshot: Guid, user: &str) -> Result<Outcome<()>, EngineError> {
        self.inner.apply_snapshot(snapshot, user).await
    }

    /// Destroys one snapshot; its children go to its parent. Always a job.
    ///
    /// # Errors
    /// `NoSuchSnapshot`, `InvalidParameter` (foreign snapshot), `QueueFull`.
    pub async fn destroy_snapshot(&self, snapshot: Guid, user: &str) -> Result<Outcome<()>, EngineError> {
        self.inner.destroy_snapshot(snapshot, user).await
    }

    /// Destroys a snapshot and all its descendants. Always a job.
    ///
    /// # Errors
    /// `NoSuchSnapshot`, `InvalidParameter` (recovery or foreign snapshot), `QueueFull`.
    pub async fn destroy_snapshot_tree(&self, root: Guid, user: &str) -> Result<Outcome<()>, EngineError> {
        self.inner.destroy_snapshot_tree(root, user).await
    }

    /// Drops the memory of a snapshot and keeps its disks. Done at once if there is none.
    ///
    /// # Errors
    /// `NoSuchSnapshot`, `QueueFull`.
    pub async fn clear_snapshot_state(&self, snapshot: Guid, user: &str) -> Result<Outcome<()>, EngineError> {
        self.inner.clear_snapshot_state(snapshot, user).await
    }

    /// Turns a recovery snapshot into a reference point; needs change tracking. Always a job.
    ///
    /// # Errors
    /// `NoSuchSnapshot`, `InvalidParameter` (not a recovery snapshot, foreign), `NotSupported`, `QueueFull`.
    pub async fn convert_to_reference_point(&self, snapshot: Guid, user: &str) -> Result<Outcome<Guid>, EngineError> {
        self.inner.convert_to_reference_point(snapshot, user).await
    }

    /// Turns a collection of recovery snapshots into a collection of reference points, all or none. Always a job.
    ///
    /// # Errors
    /// `NoSuchSnapshotCollection`, `InvalidParameter` (not recovery snapshots), `NotSupported`, `QueueFull`.
    pub async fn convert_group_to_reference_point(&self, set: Guid, user: &str) -> Result<Outcome<Guid>, EngineError> {
        self.inner.convert_group_to_reference_point(set, user).await
    }

    /// Makes a reference point of a machine as it is now, without a snapshot. Always a job.
    ///
    /// # Errors
    /// `NoSuchSystem`, `InvalidState` (transient), `NotSupported`, `QueueFull`.
    pub async fn create_reference_point(
        &self,
        system: Guid,
        consistency: ConsistencyLevel,
        user: &str,
    ) -> Result<Outcome<Guid>, EngineError> {
        self.inner.create_reference_point(system, consistency, user).await
    }

    /// Makes a reference point of every machine of a collection, all or none. Always a job.
    ///
    /// # Errors
    /// `NoSuchCollection`, `InvalidParameter` (no machine in it), `InvalidState` (a member), `NotSupported`,
    /// `QueueFull`.
    pub async fn create_group_reference_point(
        &self,
        collection: Guid,
        consistency: ConsistencyLevel,
        user: &str,
    ) -> Result<Outcome<Guid>, EngineError> {
        self.inner.create_group_reference_point(collection, consistency, user).await
    }

    /// Destroys a reference point: changes since are not tracked any more. Always a job.
    ///
    /// # Errors
    /// `NoSuchReferencePoint`, `QueueFull`.
    pub async fn destroy_reference_point(&self, point: Guid, user: &str) -> Result<Outcome<()>, EngineError> {
        self.inner.destroy_reference_point(point, user).await
    }

    /// Destroys a reference point collection with its reference points. Always a job.
    ///
    /// # Errors
    /// `NoSuchReferencePointCollection`, `QueueFull`.
    pub async fn destroy_group_reference_point(&self, set: Guid, user: &str) -> Result<Outcome<()>, EngineError> {
        self.inner.destroy_group_reference_point(set, user).await
    }

    /// Writes a snapshot to a new directory. Always a job; a directory that may not be used is told by the job.
    ///
    /// # Errors
    /// `NoSuchSnapshot`, `NoSuchReferencePoint`, `InvalidParameter` (base of another machine), `NotSupported` (base),
    /// `QueueFull`.
    pub async fn export_snapshot(
        &self,
        snapshot: Guid,
        settings: ExportSettings,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        self.inner.export_snapshot(snapshot, settings, user).await
    }

    /// Writes all snapshots of a snapshot collection to a new directory, all or none. Always a job.
    ///
    /// # Errors
    /// `NoSuchSnapshotCollection`, `NoSuchReferencePointCollection`, `InvalidParameter` (base of another collection),
    /// `NotSupported` (base), `QueueFull`.
    pub async fn export_group_snapshot(
        &self,
        set: Guid,
        settings: ExportSettings,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        self.inner.export_group_snapshot(set, settings, user).await
    }

    /// Changes settings of a machine. Done at once.
    ///
    /// # Errors
    /// `NoSuchSystem`, `InvalidParameter` (name empty or longer than 100 characters).
    pub async fn modify_system(&self, system: Guid, change: SystemChange) -> Result<(), EngineError> {
        self.inner.modify_system(system, change).await
    }

    /// Renames a snapshot or changes its notes. Done at once.
    ///
    /// # Errors
    /// `NoSuchSnapshot`, `InvalidParameter` (name empty or longer than 100 characters, foreign snapshot).
    pub async fn modify_snapshot(
        &self,
        snapshot: Guid,
        name: Option<smol_str::SmolStr>,
        notes: Option<String>,
    ) -> Result<(), EngineError> {
        self.inner.modify_snapshot(snapshot, name, notes).await
    }

    /// Starts, stops, saves, pauses or resets a machine. Done at once if it is in that state.
    ///
    /// # Errors
    /// `NoSuchSystem`, `InvalidState`, `NotSupported` (the back-end does not run machines), `QueueFull`.
    pub async fn request_state_change(
        &self,
        system: Guid,
        requested: RequestedState,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        self.inner.request_state_change(system, requested, user).await
    }

    /// Makes a collection without members.
    ///
    /// # Errors
    /// `InvalidParameter` (name), `AlreadyExists` (identity).
    pub async fn define_collection(&self, request: DefineCollection) -> Result<Guid, EngineError> {
        self.inner.define_collection(request).await
    }

    /// Removes a collection and keeps its members. Its snapshot collections go, their snapshots stay.
    ///
    /// # Errors
    /// `NoSuchCollection`, `Busy` (a job works with it).
    pub async fn destroy_collection(&self, collection: Guid) -> Result<(), EngineError> {
        self.inner.destroy_collection(collection).await
    }

    /// Renames a collection.
    ///
    /// # Errors
    /// `NoSuchCollection`, `InvalidParameter` (name).
    pub async fn rename_collection(&self, collection: Guid, name: smol_str::SmolStr) -> Result<(), EngineError> {
        self.inner.rename_collection(collection, name).await
    }

    /// Adds or removes a member of a collection.
    ///
    /// # Errors
    /// `NoSuchCollection`; for an addition `NoSuchSystem`, or `InvalidParameter` when it would contain itself.
    pub async fn change_collection(&self, collection: Guid, change: CollectionChange) -> Result<(), EngineError> {
        self.inner.change_collection(collection, change).await
    }

    /// Takes a snapshot of every machine of a collection, all or none. Always a job.
    ///
    /// # Errors
    /// `NoSuchCollection`, `InvalidParameter` (no machine in it), `InvalidState` (a member), `QueueFull`.
    pub async fn create_group_snapshot(
        &self,
        request: CreateGroupSnapshot,
        user: &str,
    ) -> Result<Outcome<Guid>, EngineError> {
        self.inner.create_group_snapshot(request, user).await
    }

    /// Applies all snapshots of a snapshot collection, all or none. Always a job.
    ///
    /// # Errors
    /// `NoSuchSnapshotCollection`, `InvalidParameter` (recovery or missing snapshots), `InvalidState`, `QueueFull`.
    pub async fn apply_group_snapshot(&self, set: Guid, user: &str) -> Result<Outcome<()>, EngineError> {
        self.inner.apply_group_snapshot(set, user).await
    }

    /// Destroys a snapshot collection with its snapshots. Always a job.
    ///
    /// # Errors
    /// `NoSuchSnapshotCollection`, `QueueFull`.
    pub async fn destroy_group_snapshot(&self, set: Guid, user: &str) -> Result<Outcome<()>, EngineError> {
        self.inner.destroy_group_snapshot(set, user).await
    }

    /// Takes a snapshot of a volume: at once where the pool can, else as a job.
    ///
    /// # Errors
    /// `NoSuchVolume`, `NoSuchPool`, `InvalidParameter` (name), `VolumeNotUsable`, `PoolCannotSnapshot`, `QueueFull`, `Backend`.
    pub async fn create_volume_snapshot(
        &self,
        request: CreateVolumeSnapshot,
        user: &str,
    ) -> Result<VolumeOutcome, EngineError> {
        self.inner.create_volume_snapshot(request, user).await
    }

    /// Deletes a volume that is a snapshot. The volume it was made of is no matter.
    ///
    /// # Errors
    /// `NoSuchVolume`, `NotSupported` (it is no snapshot), `VolumeInUse`, `Busy`, `Backend`.
    pub async fn delete_volume(&self, volume: Guid) -> Result<(), EngineError> {
        self.inner.delete_volume(volume).await
    }

    /// Ends a job and undoes what it did. `Done` when it has ended on return, else it is on the way.
    ///
    /// # Errors
    /// `NoSuchJob`, `NotCancellable`.
    pub async fn cancel_job(&self, job: Guid, mode: CancelMode) -> Result<Outcome<()>, EngineError> {
        self.inner.cancel_job(job, mode).await
    }

    /// Forgets the jobs whose time is over; the engine does this by itself every few seconds.
    ///
    /// # Errors
    /// `Store`.
    pub async fn sweep_jobs(&self) -> Result<usize, EngineError> {
        self.inner.sweep_jobs().await
    }

    /// Looks at pools and volumes again, and at the state of every machine.
    ///
    /// # Errors
    /// `Backend`, `Store`.
    pub async fn refresh(&self) -> Result<(), EngineError> {
        self.inner.refresh().await
    }

    /// Returns once another server has taken over the records. Every command fails then, and the process must end.
    pub async fn lease_lost(&self) {
        self.inner.lost.cancelled().await;
    }

    /// Takes no more commands, gives running jobs their grace, interrupts the rest, and returns when all is safe.
    ///
    /// Jobs that wait are kept and run after the next start.
    pub async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}

impl Drop for Engine {
    /// Without [`shutdown`](Self::shutdown) the tasks are cut off, as by a crash; the next start recovers.
    fn drop(&mut self) {
        self.inner.abort();
    }
}
