//! Everything the engine knows, at one instant.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use smol_str::SmolStr;

use super::{
    Collection, Job, Pool, ReferencePoint, ReferencePointCollection, Snapshot, SnapshotCollection, Subscription,
    VirtualSystem, Volume,
};
use crate::time::Guid;

type ById<T> = OrdMap<Guid, Arc<T>>;

/// An immutable picture of all records with the indexes that reads need.
///
/// Copies share their structure, so that publishing a changed one is cheap and a reader keeps its own for as long
/// as it likes. INVARIANT: the indexes name exactly the records in the maps.
#[derive(Debug, Clone, Default)]
pub struct View {
    systems: ById<VirtualSystem>,
    snapshots: ById<Snapshot>,
    collections: ById<Collection>,
    snapshot_collections: ById<SnapshotCollection>,
    reference_points: ById<ReferencePoint>,
    reference_point_collections: ById<ReferencePointCollection>,
    pools: ById<Pool>,
    volumes: ById<Volume>,
    jobs: ById<Job>,
    subscriptions: ById<Subscription>,
    snapshots_of: OrdSet<(Guid, u64, Guid)>,
    children_of: OrdSet<(Guid, u64, Guid)>,
    collected_by: OrdSet<(Guid, u64, Guid)>,
    points_of: OrdSet<(Guid, u64, Guid)>,
    points_collected_by: OrdSet<(Guid, u64, Guid)>,
    jobs_of: OrdSet<(Guid, u64, Guid)>,
    volumes_in: OrdSet<(Guid, SmolStr, Guid)>,
}

/// The entries of one key of an index, in order.
fn entries(index: &OrdSet<(Guid, u64, Guid)>, key: Guid) -> impl DoubleEndedIterator<Item = Guid> {
    let (lowest, highest) = (Guid::from_uuid(uuid::Uuid::nil()), Guid::from_uuid(uuid::Uuid::max()));
    index.range((key, 0, lowest)..=(key, u64::MAX, highest)).map(|&(_, _, id)| id)
}

impl View {
    /// All systems, by identity.
    pub fn systems(&self) -> impl Iterator<Item = &Arc<VirtualSystem>> {
        self.systems.values()
    }

    /// One system.
    #[must_use]
    pub fn system(&self, id: Guid) -> Option<&Arc<VirtualSystem>> {
        self.systems.get(&id)
    }

    /// All snapshots, by identity.
    pub fn snapshots(&self) -> impl Iterator<Item = &Arc<Snapshot>> {
        self.snapshots.values()
    }

    /// One snapshot.
    #[must_use]
    pub fn snapshot(&self, id: Guid) -> Option<&Arc<Snapshot>> {
        self.snapshots.get(&id)
    }

    /// The snapshots of a system, recovery snapshots too, in the order of their creation.
    #[must_use]
    pub fn snapshots_of(&self, system: Guid) -> impl DoubleEndedIterator<Item = &Arc<Snapshot>> {
        entries(&self.snapshots_of, system).filter_map(|id| self.snapshots.get(&id))
    }

    /// The snapshots whose parent is `snapshot`, in the order of their creation.
    #[must_use]
    pub fn children_of(&self, snapshot: Guid) -> impl DoubleEndedIterator<Item = &Arc<Snapshot>> {
        entries(&self.children_of, snapshot).filter_map(|id| self.snapshots.get(&id))
    }

    /// A snapshot and all its descendants, parents before children.
    #[must_use]
    pub fn tree(&self, root: Guid) -> Vec<Arc<Snapshot>> {
        let mut tree: Vec<_> = self.snapshot(root).cloned().into_iter().collect();
        let mut next = 0;
        while let Some(id) = tree.get(next).map(|snapshot| snapshot.id) {
            tree.extend(self.children_of(id).cloned());
            next += 1;
        }
        tree
    }

    /// All collections, by identity.
    pub fn collections(&self) -> impl Iterator<Item = &Arc<Collection>> {
        self.collections.values()
    }

    /// One collection.
    #[must_use]
    pub fn collection(&self, id: Guid) -> Option<&Arc<Collection>> {
        self.collections.get(&id)
    }

    /// The collections that have `member` (a machine or a collection) as a direct member.
    pub fn collections_with(&self, member: Guid) -> impl Iterator<Item = &Arc<Collection>> {
        self.collections.values().filter(move |collection| collection.members.contains(&member))
    }

    /// All snapshot collections, by identity.
    pub fn snapshot_collections(&self) -> impl Iterator<Item = &Arc<SnapshotCollection>> {
        self.snapshot_collections.values()
    }

    /// One snapshot collection.
    #[must_use]
    pub fn snapshot_collection(&self, id: Guid) -> Option<&Arc<SnapshotCollection>> {
        self.snapshot_collections.get(&id)
    }

    /// The snapshot collections of a collection, in the order of their creation.
    #[must_use]
    pub fn snapshot_collections_of(
        &self,
        collection: Guid,
    ) -> impl DoubleEndedIterator<Item = &Arc<SnapshotCollection>> {
        entries(&self.collected_by, collection).filter_map(|id| self.snapshot_collections.get(&id))
    }

    /// All reference points, by identity.
    pub fn reference_points(&self) -> impl Iterator<Item = &Arc<ReferencePoint>> {
        self.reference_points.values()
    }

    /// One reference point.
    #[must_use]
    pub fn reference_point(&self, id: Guid) -> Option<&Arc<ReferencePoint>> {
        self.reference_points.get(&id)
    }

    /// The reference points of a system, in the order of their creation.
    #[must_use]
    pub fn reference_points_of(&self, system: Guid) -> impl DoubleEndedIterator<Item = &Arc<ReferencePoint>> {
        entries(&self.points_of, system).filter_map(|id| self.reference_points.get(&id))
    }

    /// All reference point collections, by identity.
    pub fn reference_point_collections(&self) -> impl Iterator<Item = &Arc<ReferencePointCollection>> {
        self.reference_point_collections.values()
    }

    /// One reference point collection.
    #[must_use]
    pub fn reference_point_collection(&self, id: Guid) -> Option<&Arc<ReferencePointCollection>> {
        self.reference_point_collections.get(&id)
    }

    /// The reference point collections of a collection, in the order of their creation.
    #[must_use]
    pub fn reference_point_collections_of(
        &self,
        collection: Guid,
    ) -> impl DoubleEndedIterator<Item = &Arc<ReferencePointCollection>> {
        entries(&self.points_collected_by, collection).filter_map(|id| self.reference_point_collections.get(&id))
    }

    /// All pools, by identity.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.values()
    }

    /// One pool.
    #[must_use]
    pub fn pool(&self, id: Guid) -> Option<&Arc<Pool>> {
        self.pools.get(&id)
    }

    /// All volumes, by identity.
    pub fn volumes(&self) -> impl Iterator<Item = &Arc<Volume>> {
        self.volumes.values()
    }

    /// One volume.
    #[must_use]
    pub fn volume(&self, id: Guid) -> Option<&Arc<Volume>> {
        self.volumes.get(&id)
    }

    /// The volumes of a pool, by file name.
    pub fn volumes_of(&self, pool: Guid) -> impl Iterator<Item = &Arc<Volume>> {
        let lowest = (pool, SmolStr::default(), Guid::from_uuid(uuid::Uuid::nil()));
        self.volumes_in
            .range(lowest..)
            .take_while(move |(in_pool, _, _)| *in_pool == pool)
            .filter_map(|(_, _, id)| self.volumes.get(id))
    }

    /// All jobs, by identity.
    pub fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values()
    }

    /// One job.
    #[must_use]
    pub fn job(&self, id: Guid) -> Option<&Arc<Job>> {
        self.jobs.get(&id)
    }

    /// The jobs that work on or made an element, in the order of their submission.
    #[must_use]
    pub fn jobs_of(&self, element: Guid) -> impl DoubleEndedIterator<Item = &Arc<Job>> {
        entries(&self.jobs_of, element).filter_map(|id| self.jobs.get(&id))
    }

    /// All subscriptions, by identity.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.subscriptions.values()
    }

    pub(super) fn put_subscription(&mut self, subscription: Arc<Subscription>) {
        self.subscriptions.insert(subscription.id, subscription);
    }

    pub(super) fn remove_subscription(&mut self, id: Guid) -> Option<Arc<Subscription>> {
        self.subscriptions.remove(&id)
    }

    pub(super) fn put_system(&mut self, system: Arc<VirtualSystem>) {
        self.systems.insert(system.id, system);
    }

    pub(super) fn put_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        self.remove_snapshot(snapshot.id);
        self.snapshots_of.insert((snapshot.system, snapshot.sequence, snapshot.id));
        if let Some(parent) = snapshot.parent {
            self.children_of.insert((parent, snapshot.sequence, snapshot.id));
        }
        self.snapshots.insert(snapshot.id, snapshot);
    }

    pub(super) fn remove_snapshot(&mut self, id: Guid) -> Option<Arc<Snapshot>> {
        let snapshot = self.snapshots.remove(&id)?;
        self.snapshots_of.remove(&(snapshot.system, snapshot.sequence, id));
        if let Some(parent) = snapshot.parent {
            self.children_of.remove(&(parent, snapshot.sequence, id));
        }
        Some(snapshot)
    }

    pub(super) fn put_collection(&mut self, collection: Arc<Collection>) {
        self.collections.insert(collection.id, collection);
    }

    pub(super) fn remove_collection(&mut self, id: Guid) -> Option<Arc<Collection>> {
        self.collections.remove(&id)
    }

    pub(super) fn put_snapshot_collection(&mut self, set: Arc<SnapshotCollection>) {
        self.remove_snapshot_collection(set.id);
        self.collected_by.insert((set.collection, set.sequence, set.id));
        self.snapshot_collections.insert(set.id, set);
    }

    pub(super) fn remove_snapshot_collection(&mut self, id: Guid) -> Option<Arc<SnapshotCollection>> {
        let set = self.snapshot_collections.remove(&id)?;
        self.collected_by.remove(&(set.collection, set.sequence, id));
        Some(set)
    }

    pub(super) fn put_reference_point(&mut self, point: Arc<ReferencePoint>) {
        self.remove_reference_point(point.id);
        self.points_of.insert((point.system, point.sequence, point.id));
        self.reference_points.insert(point.id, point);
    }

    pub(super) fn remove_reference_point(&mut self, id: Guid) -> Option<Arc<ReferencePoint>> {
        let point = self.reference_points.remove(&id)?;
        self.points_of.remove(&(point.system, point.sequence, id));
        Some(point)
    }

    pub(super) fn put_reference_point_collection(&mut self, set: Arc<ReferencePointCollection>) {
        self.remove_reference_point_collection(set.id);
        self.points_collected_by.insert((set.collection, set.sequence, set.id));
        self.reference_point_collections.insert(set.id, set);
    }

    pub(super) fn remove_reference_point_collection(&mut self, id: Guid) -> Option<Arc<ReferencePointCollection>> {
        let set = self.reference_point_collections.remove(&id)?;
        self.points_collected_by.remove(&(set.collection, set.sequence, id));
        Some(set)
    }

    pub(super) fn put_pool(&mut self, pool: Arc<Pool>) {
        self.pools.insert(pool.id, pool);
    }

    pub(super) fn put_volume(&mut self, volume: Arc<Volume>) {
        self.remove_volume(volume.id);
        self.volumes_in.insert((volume.pool, volume.file_name.clone(), volume.id));
        self.volumes.insert(volume.id, volume);
    }

    pub(super) fn remove_volume(&mut self, id: Guid) -> Option<Arc<Volume>> {
        let volume = self.volumes.remove(&id)?;
        self.volumes_in.remove(&(volume.pool, volume.file_name.clone(), id));
        Some(volume)
    }

    pub(super) fn put_job(&mut self, job: Arc<Job>) {
        self.remove_job(job.id);
        for affected in &job.affected {
            self.jobs_of.insert((affected.element.id(), job.sequence, job.id));
        }
        self.jobs_of.insert((job.target.id(), job.sequence, job.id));
        self.jobs.insert(job.id, job);
    }

    pub(super) fn remove_job(&mut self, id: Guid) -> Option<Arc<Job>> {
        let job = self.jobs.remove(&id)?;
        for affected in &job.affected {
            self.jobs_of.remove(&(affected.element.id(), job.sequence, id));
        }
        self.jobs_of.remove(&(job.target.id(), job.sequence, id));
        Some(job)
    }
}
