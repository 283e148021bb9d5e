//! What exists for an account: the part of a view that its scope admits.
//!
//! A machine is in reach when its name or identity fits, or when it is in a collection that is; a collection when it
//! fits or lies in one that does; a pool when it fits. Everything else follows what it belongs to: snapshots their
//! machine, volumes their pool, a snapshot collection its collection and all the machines in it, a job everything it
//! works on. A part of a view starts empty, so that a new kind of record is out of reach until it is thought of here.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use super::{
    Collection, CollectionKind, ElementRef, Event, EventChange, Job, Pool, ReferencePoint, ReferencePointCollection,
    Snapshot, SnapshotCollection, View, VirtualSystem, Volume,
};
use crate::access::{Scope, ScopeKind};
use crate::time::Guid;

/// What exists for one account at one instant.
#[derive(Clone)]
pub struct Reach(Extent);

#[derive(Clone)]
enum Extent {
    Everything(Arc<View>),
    Part(Arc<Part>),
}

/// What one scope admits of one view.
pub(super) struct Part {
    scope: Arc<Scope>,
    full: Arc<View>,
    systems: BTreeSet<Guid>,
    collections: BTreeSet<Guid>,
    pools: BTreeSet<Guid>,
    /// Made when it is first asked for.
    seen: OnceLock<Arc<View>>,
}

impl Reach {
    pub(super) const fn everything(full: Arc<View>) -> Self {
        Self(Extent::Everything(full))
    }

    pub(super) const fn part(part: Arc<Part>) -> Self {
        Self(Extent::Part(part))
    }

    /// The records in reach.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        match &self.0 {
            Extent::Everything(full) => Arc::clone(full),
            Extent::Part(part) => Arc::clone(part.seen()),
        }
    }

    /// Whether an event is about something in reach.
    #[must_use]
    pub fn has_event(&self, event: &Event) -> bool {
        match &self.0 {
            Extent::Everything(_) => true,
            Extent::Part(part) => part.has_event(&event.change),
        }
    }
}

impl Part {
    pub(super) fn new(scope: Arc<Scope>, full: Arc<View>) -> Self {
        let fits = |kind, name: &str, id: Guid| scope.has(kind, name, &id.to_string());
        let mut systems: BTreeSet<Guid> = full
            .systems()
            .filter(|system| fits(ScopeKind::Machine, &system.name, system.id))
            .map(|system| system.id)
            .collect();
        let named = full.collections().filter(|one| fits(ScopeKind::Collection, &one.name, one.id));
        let mut open: Vec<Guid> = named.map(|collection| collection.id).collect();
        let mut collections = BTreeSet::new();
        while let Some(id) = open.pop() {
            let Some(collection) = full.collection(id).filter(|_| collections.insert(id)) else { continue };
            match collection.kind {
                CollectionKind::Machines => systems.extend(&collection.members),
                CollectionKind::Collections => open.extend(&collection.members),
            }
        }
        let pools =
            full.pools().filter(|pool| fits(ScopeKind::Pool, &pool.name, pool.id)).map(|pool| pool.id).collect();
        Self { scope, full, systems, collections, pools, seen: OnceLock::new() }
    }

    /// Whether it was made for this scope and this view.
    pub(super) fn is_of(&self, scope: &Arc<Scope>, full: &Arc<View>) -> bool {
        Arc::ptr_eq(&self.full, full) && (Arc::ptr_eq(&self.scope, scope) || self.scope == *scope)
    }

    pub(super) fn is_for(&self, scope: &Scope) -> bool {
        *self.scope == *scope
    }

    /// Whether a machine would be in reach under another name.
    pub(super) fn keeps_system(&self, id: Guid, name: &str) -> bool {
        let collected = |collection: &Arc<Collection>| {
            self.collections.contains(&collection.id) && collection.kind == CollectionKind::Machines
        };
        self.scope.has(ScopeKind::Machine, name, &id.to_string()) || self.full.collections_with(id).any(collected)
    }

    /// Whether a collection would be in reach under another name. `None` stands for one that is to be made.
    pub(super) fn keeps_collection(&self, id: Option<Guid>, name: &str) -> bool {
        let text = id.map(|id| id.to_string()).unwrap_or_default();
        let inside = |id| self.full.collections_with(id).any(|one| self.collections.contains(&one.id));
        self.scope.has(ScopeKind::Collection, name, &text) || id.is_some_and(inside)
    }

    /// Whether a collection can be destroyed without changing anything out of reach.
    pub(super) fn may_destroy_collection(&self, id: Guid) -> bool {
        self.full.collections_with(id).all(|one| self.collections.contains(&one.id))
            && self.full.snapshot_collections_of(id).all(|set| self.has_set(set))
            && self.full.reference_point_collections_of(id).all(|set| self.has_points(set))
    }

    fn has_system(&self, id: Guid) -> bool {
        self.systems.contains(&id)
    }

    fn has_snapshot(&self, snapshot: &Snapshot) -> bool {
        self.has_system(snapshot.system)
    }

    fn has_set(&self, set: &SnapshotCollection) -> bool {
        let mut snapshots = set.snapshots.iter().filter_map(|id| self.full.snapshot(*id));
        self.collections.contains(&set.collection) && snapshots.all(|snapshot| self.has_snapshot(snapshot))
    }

    fn has_point(&self, point: &ReferencePoint) -> bool {
        self.has_system(point.system)
    }

    fn has_points(&self, set: &ReferencePointCollection) -> bool {
        let mut points = set.points.iter().filter_map(|id| self.full.reference_point(*id));
        self.collections.contains(&set.collection) && points.all(|point| self.has_point(point))
    }

    fn has_volume(&self, volume: &Volume) -> bool {
        self.pools.contains(&volume.pool)
    }

    /// Whether an element is in reach; `None` for one that is not there, or not yet.
    fn has_element(&self, element: ElementRef) -> Option<bool> {
        match element {
            ElementRef::System(id) => Some(self.has_system(id)),
            ElementRef::Collection(id) => Some(self.collections.contains(&id)),
            ElementRef::Snapshot(id) => self.full.snapshot(id).map(|snapshot| self.has_snapshot(snapshot)),
            ElementRef::SnapshotCollection(id) => self.full.snapshot_collection(id).map(|set| self.has_set(set)),
            ElementRef::ReferencePoint(id) => self.full.reference_point(id).map(|point| self.has_point(point)),
            ElementRef::ReferencePointCollection(id) => {
                self.full.reference_point_collection(id).map(|set| self.has_points(set))
            }
            ElementRef::Volume(id) => self.full.volume(id).map(|volume| self.has_volume(volume)),
        }
    }

    /// Everything a job works on, and at least something that is there, has to be in reach.
    fn has_job(&self, job: &Job) -> bool {
        let elements = job.affected.iter().map(|affected| affected.element).chain([job.target]);
        let mut known = false;
        for found in elements.filter_map(|element| self.has_element(element)) {
            if !found {
                return false;
            }
            known = true;
        }
        known
    }

    /// A machine that is there no more is known by its name.
    fn had_system(&self, system: &VirtualSystem) -> bool {
        let gone = self.full.system(system.id).is_none();
        self.has_system(system.id) || (gone && self.scope.has(ScopeKind::Machine, &system.name, &system.id.to_string()))
    }

    fn has_event(&self, change: &EventChange) -> bool {
        match change {
            EventChange::Began | EventChange::Ended => true,
            EventChange::Job(job) => job.before.iter().chain(&job.after).all(|job| self.has_job(job)),
            EventChange::Snapshot { snapshot, system } => {
                snapshot.before.iter().chain(&snapshot.after).all(|snapshot| self.has_snapshot(snapshot))
                    && system.iter().all(|system| self.had_system(system))
            }
            EventChange::System(system) => {
                system.before.iter().chain(&system.after).all(|system| self.had_system(system))
            }
        }
    }

    fn seen(&self) -> &Arc<View> {
        self.seen.get_or_init(|| Arc::new(self.cut()))
    }

    /// The records in reach, without what they say about those that are not.
    fn cut(&self) -> View {
        let mut seen = View::default();
        for system in self.full.systems().filter(|system| self.has_system(system.id)) {
            seen.put_system(Arc::clone(system));
        }
        for set in self.full.snapshot_collections().filter(|set| self.has_set(set)) {
            seen.put_snapshot_collection(Arc::clone(set));
        }
        for snapshot in self.full.snapshots().filter(|snapshot| self.has_snapshot(snapshot)) {
            let set = snapshot.snapshot_collection;
            if set.is_none_or(|set| seen.snapshot_collection(set).is_some()) {
                seen.put_snapshot(Arc::clone(snapshot));
            } else {
                seen.put_snapshot(Arc::new(Snapshot { snapshot_collection: None, ..Snapshot::clone(snapshot) }));
            }
        }
        for set in self.full.reference_point_collections().filter(|set| self.has_points(set)) {
            seen.put_reference_point_collection(Arc::clone(set));
        }
        for point in self.full.reference_points().filter(|point| self.has_point(point)) {
            let set = point.collection;
            if set.is_none_or(|set| seen.reference_point_collection(set).is_some()) {
                seen.put_reference_point(Arc::clone(point));
            } else {
                seen.put_reference_point(Arc::new(ReferencePoint { collection: None, ..ReferencePoint::clone(point) }));
            }
        }
        for collection in self.full.collections().filter(|collection| self.collections.contains(&collection.id)) {
            // All its members are in reach because it is.
            let last_applied = collection.last_applied.filter(|set| seen.snapshot_collection(*set).is_some());
            seen.put_collection(Arc::new(Collection { last_applied, ..Collection::clone(collection) }));
        }
        for pool in self.full.pools().filter(|pool| self.pools.contains(&pool.id)) {
            seen.put_pool(Arc::<Pool>::clone(pool));
        }
        for volume in self.full.volumes().filter(|volume| self.has_volume(volume)) {
            let source = volume.snapshot_of.and_then(|source| self.full.volume(source));
            if source.is_none_or(|source| self.has_volume(source)) {
                seen.put_volume(Arc::clone(volume));
            } else {
                seen.put_volume(Arc::new(Volume { snapshot_of: None, ..Volume::clone(volume) }));
            }
        }
        for job in self.full.jobs().filter(|job| self.has_job(job)) {
            seen.put_job(Arc::clone(job));
        }
        seen
    }
}
