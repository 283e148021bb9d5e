//! The commands on snapshots of a collection: all members or none.

use std::collections::BTreeSet;
use std::sync::Arc;

use smol_str::format_smolstr;

use super::ledger::Draft;
use super::runner::{Inner, NewJob};
use super::settings::{check_apply, check_creation, check_name};
use super::snapshots::check_applicable;
use super::{
    CollectionKind, CreateGroupSnapshot, ElementRef, EngineError, GroupSnapshotType, JobKind, Outcome,
    SnapshotCollection, SnapshotKind, View, Work,
};
use crate::time::Guid;

/// The machines of a collection, those of collections in it too, each once.
pub(super) fn machines_of(view: &View, collection: Guid) -> BTreeSet<Guid> {
    let (mut machines, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![collection]);
    while let Some(id) = open.pop() {
        let Some(collection) = view.collection(id).filter(|_| seen.insert(id)) else { continue };
        match collection.kind {
            CollectionKind::Machines => {
                machines.extend(collection.members.iter().filter(|id| view.system(**id).is_some()));
            }
            CollectionKind::Collections => open.extend(&collection.members),
        }
    }
    machines
}

/// True if `container` is `member` or lies somewhere in it.
pub(super) fn contains(view: &View, member: Guid, container: Guid) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![member]);
    while let Some(id) = open.pop() {
        if id == container {
            return true;
        }
        if let Some(collection) = view.collection(id).filter(|_| seen.insert(id)) {
            open.extend(&collection.members);
        }
    }
    false
}

fn find_set(draft: &Draft, id: Guid) -> Result<Arc<SnapshotCollection>, EngineError> {
    draft.view().snapshot_collection(id).cloned().ok_or(EngineError::NoSuchSnapshotCollection(id))
}

/// A job on all machines of a snapshot collection.
fn set_job(draft: &Draft, set: &SnapshotCollection, kind: JobKind, verb: &str, work: Work) -> NewJob {
    let mut systems = work.systems(draft.view());
    let mut affected = vec![ElementRef::Collection(set.collection)];
    affected.extend(systems.iter().copied().map(ElementRef::System));
    systems.push(set.collection);
    let caption = format_smolstr!("{verb} {}", set.name);
    NewJob { kind, target: ElementRef::SnapshotCollection(set.id), caption, affected, lanes: systems, work }
}

impl Inner {
    pub(super) async fn create_group_snapshot(
        self: &Arc<Self>,
        request: CreateGroupSnapshot,
        user: &str,
    ) -> Result<Outcome<Guid>, EngineError> {
        let CreateGroupSnapshot { collection: id, snapshot_type, settings } = request;
        if let Some(name) = &settings.name {
            check_name(name)?;
        }
        let can = self.hypervisor.capabilities();
        let set = self.ids.new_guid();
        let job = self.submit(user, |draft| {
            let collection = Arc::clone(draft.collection(id)?);
            let machines = machines_of(draft.view(), id);
            if machines.is_empty() {
                let reason = "there is no machine in it";
                return Err(EngineError::InvalidParameter { parameter: "Collection", reason });
            }
            for machine in &machines {
                let state = draft.system(*machine)?.state;
                check_creation(state, can)?;
            }
            let mut affected = vec![ElementRef::Collection(id)];
            affected.extend(machines.iter().copied().map(ElementRef::System));
            Ok(NewJob {
                kind: JobKind::CreateSnapshot,
                target: ElementRef::Collection(id),
                caption: format_smolstr!("Creating a snapshot of {}", collection.name),
                affected,
                lanes: machines.iter().copied().chain([id]).collect(),
                work: Work::Create {
                    group: Some((set, id)),
                    members: machines.into_iter().map(|machine| (machine, self.ids.new_guid())).collect(),
                    settings,
                    kind: match snapshot_type {
                        GroupSnapshotType::Standard => SnapshotKind::Standard,
                        GroupSnapshotType::Recovery => SnapshotKind::Recovery,
                    },
                    // A standard snapshot is what a user takes of each machine, memory included if its type says so.
                    full: snapshot_type == GroupSnapshotType::Standard,
                    automatic: false,
                    requests: Vec::new(),
                },
            })
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn apply_group_snapshot(
        self: &Arc<Self>,
        id: Guid,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        let view = self.view();
        let set = view.snapshot_collection(id).ok_or(EngineError::NoSuchSnapshotCollection(id))?;
        for snapshot in set.snapshots.iter().filter_map(|snapshot| view.snapshot(*snapshot)) {
            self.look_at(snapshot.system).await;
        }
        let job = self.submit(user, |draft| {
            let set = find_set(draft, id)?;
            for snapshot in &set.snapshots {
                let snapshot = draft.snapshot(*snapshot)?;
                check_applicable(snapshot)?;
                check_apply(draft.system(snapshot.system)?.state)?;
            }
            let work = Work::Apply { group: Some(id), snapshots: set.snapshots.clone(), requests: Vec::new() };
            Ok(set_job(draft, &set, JobKind::ApplySnapshot, "Applying snapshots", work))
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn destroy_group_snapshot(
        self: &Arc<Self>,
        id: Guid,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        let job = self.submit(user, |draft| {
            let set = find_set(draft, id)?;
            let snapshots = set.snapshots.clone();
            let work = Work::Destroy { group: Some(id), tree: None, snapshots, requests: Vec::new() };
            Ok(set_job(draft, &set, JobKind::DestroySnapshot, "Destroying snapshots", work))
        });
        Ok(Outcome::Started { job: job.await? })
    }
}
