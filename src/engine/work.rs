//! What a job does: from its order to the calls of the back-end, and from their results to the records.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::ledger::Draft;
use super::reference_point::here;
use super::runner::Inner;
use super::settings::{self, wrong_state};
use super::{
    Activity, AffectedElement, ConsistencyLevel, ElementEffect, ElementRef, Failure, GuestBackupType, Job, JobFailure,
    RequestedState, Snapshot, SnapshotCollection, SnapshotKind, SnapshotSettings, SystemState, View, VirtualSystem,
    Volume, VolumeUsage, Work,
};
use super::{export, reference_points};
use crate::backend::{
    ApplyRequest, BackendError, Capabilities, DestroyRequest, JournalStep, Operation, PowerAction, Recovery,
    SnapshotOutcome, SnapshotRequest, StepControl, VolumeReport, VolumeSnapshotRequest,
};
use crate::time::{Guid, Timestamp};

/// A call to a back-end.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Operation(Operation),
    ClearMemory(DestroyRequest),
    ChangeState { machine: Guid, action: Option<PowerAction>, leads_to: SystemState },
    CopyVolume(VolumeSnapshotRequest),
}

/// What a call gave.
#[derive(Debug, Clone)]
pub(super) enum CallResult {
    Snapshots(Vec<SnapshotOutcome>),
    Done,
    Volume(VolumeReport),
}

pub(super) type Prepared<T> = Result<T, JobFailure>;

pub(super) fn gone(what: &str) -> JobFailure {
    JobFailure { failure: Failure::InvalidParameter, description: format!("the {what} no longer exists") }
}

/// Every file that some snapshot but those in `except`, or some disk, refers to.
pub(super) fn referenced_files(view: &View, except: &[Guid]) -> HashSet<PathBuf> {
    let snapshots = view.snapshots().filter(|snapshot| !except.contains(&snapshot.id));
    let disks = view.systems().flat_map(|system| &system.disks).map(|disk| disk.path.clone());
    snapshots.flat_map(|snapshot| files_of(snapshot)).chain(disks).collect()
}

/// The files of a snapshot.
pub(super) fn files_of(snapshot: &Snapshot) -> Vec<PathBuf> {
    let own = snapshot.disks.iter().filter(|disk| !disk.internal).map(|disk| disk.file.clone());
    own.chain(snapshot.memory_file.clone()).collect()
}

pub(super) fn destroy_requests(view: &View, snapshots: &[Guid]) -> Vec<DestroyRequest> {
    let referenced = Arc::new(referenced_files(view, snapshots));
    let request = |snapshot: &Arc<Snapshot>| DestroyRequest {
        machine: snapshot.system,
        snapshot: snapshot.id,
        files: files_of(snapshot),
        tracking: here(view.system(snapshot.system).map(AsRef::as_ref), snapshot.tracking.clone()),
        disks: snapshot.disks.clone(),
        referenced: Arc::clone(&referenced),
    };
    snapshots.iter().filter_map(|id| view.snapshot(*id)).map(request).collect()
}

impl Work {
    /// The systems it works on.
    pub(super) fn systems(&self, view: &View) -> Vec<Guid> {
        let of = |ids: &[Guid]| ids.iter().filter_map(|id| view.snapshot(*id)).map(|s| s.system).collect::<Vec<_>>();
        let mut systems = match self {
            Self::Create { members, .. } => members.iter().map(|(system, _)| *system).collect(),
            Self::Apply { snapshots, .. } => of(snapshots),
            Self::Destroy { snapshots, requests, .. } => {
                of(snapshots).into_iter().chain(requests.iter().map(|request| request.machine)).collect()
            }
            Self::ClearState { snapshot } => of(&[*snapshot]),
            Self::ChangeState { system, .. } | Self::MergeDisks { system } => vec![*system],
            Self::CopyVolume { .. } => Vec::new(),
            Self::Convert { points, requests, .. } => {
                let snapshots: Vec<Guid> = points.iter().map(|(snapshot, _)| *snapshot).collect();
                of(&snapshots).into_iter().chain(requests.iter().map(|request| request.machine)).collect()
            }
            Self::CreateReferencePoints { members, .. } => members.iter().map(|(system, _)| *system).collect(),
            Self::DestroyReferencePoints { points, requests, .. } => {
                let points = points.iter().filter_map(|point| view.reference_point(*point));
                points.map(|point| point.system).chain(requests.iter().map(|request| request.machine)).collect()
            }
            Self::Export { snapshots, request, .. } => {
                let members = request.iter().flat_map(|request| &request.members);
                of(snapshots).into_iter().chain(members.map(|member| member.machine)).collect()
            }
        };
        systems.sort_unstable();
        systems.dedup();
        systems
    }

    /// Looks at the newest state, fills in the calls, or says why the job fails at once.
    pub(super) fn prepare(
        &mut self,
        view: &View,
        job: Guid,
        can: Capabilities,
        export_directories: &[PathBuf],
    ) -> Prepared<Call> {
        match self {
            Self::Create { members, settings, full, kind, requests, .. } => {
                for member in members {
                    requests.push(prepare_create(view, *member, settings, *full, *kind, can)?);
                }
            }
            Self::Convert { points, requests, .. } => *requests = reference_points::prepare_convert(view, points)?,
            Self::CreateReferencePoints { members, consistency, requests, .. } => {
                *requests = reference_points::prepare_create(view, members, *consistency, can)?;
            }
            Self::DestroyReferencePoints { points, requests, .. } => {
                *requests = reference_points::prepare_destroy(view, points)?;
            }
            Self::Export { snapshots, settings, request, .. } => {
                *request = Some(export::prepare(view, job, snapshots, settings, export_directories)?);
            }
            Self::Apply { snapshots, requests, .. } => {
                for id in snapshots {
                    requests.push(prepare_apply(view, *id, job)?);
                }
            }
            Self::Destroy { tree, snapshots, requests, .. } => {
                if let Some(root) = tree {
                    *snapshots = view.tree(*root).iter().rev().map(|snapshot| snapshot.id).collect();
                }
                if snapshots.is_empty() || snapshots.iter().all(|id| view.snapshot(*id).is_none()) {
                    return Err(gone("snapshot"));
                }
                snapshots.retain(|id| view.snapshot(*id).is_some());
                *requests = destroy_requests(view, snapshots);
            }
            Self::ClearState { snapshot } => {
                view.snapshot(*snapshot).ok_or_else(|| gone("snapshot"))?;
            }
            Self::ChangeState { system, requested } => {
                let system = view.system(*system).ok_or_else(|| gone("virtual machine"))?;
                power_action(system.state, *requested)?;
            }
            Self::CopyVolume { source, .. } => {
                view.volume(*source).ok_or_else(|| gone("volume"))?;
            }
            Self::MergeDisks { system } => {
                view.system(*system).ok_or_else(|| gone("virtual machine"))?;
            }
        }
        self.call(view).ok_or_else(|| gone("snapshot"))
    }

    /// The call to the back-end, for a job that was prepared.
    pub(super) fn call(&self, view: &View) -> Option<Call> {
        Some(match self {
            Self::Create { requests, .. } | Self::CreateReferencePoints { requests, .. } => {
                Call::Operation(Operation::Create(requests.clone()))
            }
            Self::Convert { points, requests, .. } => {
                let snapshots: Vec<Guid> = points.iter().map(|(snapshot, _)| *snapshot).collect();
                Call::Operation(Operation::Convert(with_references(view, &snapshots, requests)))
            }
            Self::DestroyReferencePoints { requests, .. } => {
                Call::Operation(Operation::DestroyReferencePoints(requests.clone()))
            }
            Self::Export { request, .. } => Call::Operation(Operation::Export(request.clone()?)),
            Self::Apply { requests, .. } => Call::Operation(Operation::Apply(requests.clone())),
            Self::Destroy { snapshots, requests, .. } => {
                Call::Operation(Operation::Destroy(with_references(view, snapshots, requests)))
            }
            Self::ClearState { snapshot } => {
                let memory = view.snapshot(*snapshot)?.memory_file.clone();
                let request = destroy_requests(view, &[*snapshot]).pop()?;
                Call::ClearMemory(DestroyRequest { files: memory.into_iter().collect(), disks: Vec::new(), ..request })
            }
            Self::ChangeState { system, requested } => Call::ChangeState {
                machine: *system,
                action: power_action(view.system(*system)?.state, *requested).ok().flatten(),
                leads_to: requested.leads_to(),
            },
            Self::CopyVolume { request, .. } => Call::CopyVolume(request.clone()),
            Self::MergeDisks { system } => Call::Operation(Operation::Merge { machine: *system }),
        })
    }

    /// Shows on the systems what is going on.
    pub(super) fn show_activity(&self, draft: &mut Draft) {
        let activity = match self {
            Self::Create { .. } => Some(Activity::CreatingSnapshot),
            Self::Apply { .. } => Some(Activity::ApplyingSnapshot),
            Self::Destroy { .. } | Self::Convert { .. } => Some(Activity::DeletingSnapshot),
            Self::Export { .. } => Some(Activity::Exporting),
            Self::MergeDisks { .. } => Some(Activity::MergingDisks),
            _ => None,
        };
        for id in self.systems(draft.view()) {
            let Some(system) = draft.view().system(id) else { continue };
            let mut system = VirtualSystem::clone(system);
            system.activity = activity;
            if let Self::ChangeState { requested, .. } = self {
                system.state = match requested {
                    RequestedState::Enabled | RequestedState::Reset => SystemState::Starting,
                    RequestedState::Disabled | RequestedState::ShutDown => SystemState::Stopping,
                    RequestedState::Saved => SystemState::Saving,
                    RequestedState::Paused => SystemState::Pausing,
                };
            }
            draft.show_system(system);
        }
    }

    /// Takes that back.
    pub(super) fn clear_activity(&self, draft: &mut Draft) {
        for id in self.systems(draft.view()) {
            if let Some(system) = draft.view().system(id)
                && system.activity.is_some()
            {
                draft.show_system(VirtualSystem { activity: None, ..VirtualSystem::clone(system) });
            }
        }
    }

    /// Changes the records after the call has succeeded, and says what was made.
    pub(super) fn complete(
        &self,
        draft: &mut Draft,
        job: &Job,
        result: &CallResult,
        now: Timestamp,
        inner: &Inner,
    ) -> Vec<AffectedElement> {
        let creates = |element| AffectedElement { element, effect: ElementEffect::Creates };
        match (self, result) {
            (Self::Create { group, .. }, CallResult::Snapshots(outcomes)) => {
                let offset = inner.settings.utc_offset_seconds;
                let taken = job.started.unwrap_or(now);
                self.complete_create(draft, outcomes, taken, offset);
                match group {
                    Some((set, _)) => vec![creates(ElementRef::SnapshotCollection(*set))],
                    None => outcomes.iter().map(|outcome| creates(ElementRef::Snapshot(outcome.snapshot))).collect(),
                }
            }
            (Self::Apply { snapshots, group, .. }, _) => {
                for id in snapshots {
                    mark_applied(draft, *id);
                }
                let collection = group.and_then(|set| draft.view().snapshot_collection(set)).map(|set| set.collection);
                if let Some(collection) = collection.and_then(|id| draft.view().collection(id)) {
                    let collection = super::Collection { last_applied: *group, ..super::Collection::clone(collection) };
                    draft.put_collection(collection);
                }
                Vec::new()
            }
            (Self::Destroy { snapshots, group, .. }, _) => {
                for id in snapshots {
                    unlink(draft, *id);
                }
                if let Some(set) = group {
                    draft.delete_snapshot_collection(*set);
                }
                Vec::new()
            }
            (Self::ClearState { snapshot }, _) => {
                if let Some(snapshot) = draft.view().snapshot(*snapshot) {
                    let snapshot = Snapshot { has_memory: false, memory_file: None, ..Snapshot::clone(snapshot) };
                    draft.put_snapshot(snapshot);
                }
                Vec::new()
            }
            (Self::Convert { group, points, .. }, _) => reference_points::complete_convert(draft, *group, points),
            (Self::CreateReferencePoints { group, .. }, CallResult::Snapshots(outcomes)) => {
                let (taken, offset) = (job.started.unwrap_or(now), inner.settings.utc_offset_seconds);
                reference_points::complete_create(draft, *group, outcomes, taken, offset)
            }
            (Self::DestroyReferencePoints { group, points, .. }, _) => {
                reference_points::complete_destroy(draft, *group, points);
                Vec::new()
            }
            (Self::CopyVolume { .. }, CallResult::Volume(report)) => {
                self.complete_copy(draft, report, now).map(creates).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn complete_create(&self, draft: &mut Draft, outcomes: &[SnapshotOutcome], taken: Timestamp, offset: i32) {
        let Self::Create { group, settings, kind, automatic, .. } = self else { return };
        if let Some((set, collection)) = group {
            let of = draft.view().collection(*collection).map(|collection| collection.name.clone()).unwrap_or_default();
            let name = settings.name.clone().unwrap_or_else(|| settings::default_name(&of, taken, offset));
            let snapshots = outcomes.iter().map(|outcome| outcome.snapshot).collect();
            let sequence = draft.next_sequence();
            let (id, collection, kind) = (*set, *collection, *kind);
            draft.put_snapshot_collection(SnapshotCollection {
                id,
                sequence,
                collection,
                name,
                created: taken,
                kind,
                snapshots,
            });
        }
        for outcome in outcomes {
            let Some(system) = draft.view().system(outcome.machine).map(Arc::clone) else { continue };
            let reached =
                if outcome.application_consistent { ConsistencyLevel::Application } else { ConsistencyLevel::Crash };
            let default = || settings::default_name(&system.name, taken, offset);
            let sequence = draft.next_sequence();
            draft.put_snapshot(Snapshot {
                id: outcome.snapshot,
                sequence,
                system: system.id,
                parent: system.current_snapshot,
                name: settings.name.clone().unwrap_or_else(default),
                notes: settings.notes.clone().unwrap_or_else(|| system.notes.clone()),
                created: taken,
                kind: *kind,
                automatic: *automatic,
                has_memory: outcome.memory.is_some(),
                memory_file: outcome.memory.clone(),
                wanted_consistency: settings.consistency,
                consistency: reached,
                disks: outcome.disks.clone(),
                skipped_disks: outcome.skipped.clone(),
                missing: false,
                foreign: false,
                snapshot_collection: group.map(|(set, _)| set),
                paused_ms: outcome.paused_ms,
                frozen_ms: outcome.frozen_ms,
                bytes: outcome.disks.iter().map(|disk| disk.bytes).sum(),
                launch: outcome.launch.clone(),
                memory_mb: system.memory_mb,
                processors: system.processors,
                ports: system.ports.clone(),
                tracking: outcome.tracking.clone(),
                tracking_lost: false,
            });
            if *kind == SnapshotKind::Standard {
                let current_snapshot = Some(outcome.snapshot);
                draft.put_system(VirtualSystem { current_snapshot, ..VirtualSystem::clone(&system) });
            }
        }
    }

    fn complete_copy(&self, draft: &mut Draft, report: &VolumeReport, now: Timestamp) -> Option<ElementRef> {
        let Self::CopyVolume { source, pool, name, request } = self else { return None };
        draft.put_volume(Volume {
            id: request.id,
            pool: *pool,
            file_name: report.name.as_str().into(),
            name: name.clone(),
            path: report.path.clone(),
            snapshot_of: Some(*source),
            usage: VolumeUsage::LocalReplica,
            bytes: report.bytes,
            allocated_bytes: report.allocated_bytes,
            created: now,
        });
        Some(ElementRef::Volume(request.id))
    }
}

/// The requests with what is referenced now, which is not stored with them.
fn with_references(view: &View, snapshots: &[Guid], requests: &[DestroyRequest]) -> Vec<DestroyRequest> {
    let referenced = Arc::new(referenced_files(view, snapshots));
    let renew = |request: &DestroyRequest| DestroyRequest { referenced: Arc::clone(&referenced), ..request.clone() };
    requests.iter().map(renew).collect()
}

fn prepare_create(
    view: &View,
    (system, snapshot): (Guid, Guid),
    wanted: &SnapshotSettings,
    full: bool,
    kind: SnapshotKind,
    can: Capabilities,
) -> Prepared<SnapshotRequest> {
    let system = view.system(system).ok_or_else(|| gone("virtual machine"))?;
    let capture = settings::capture(full, system.user_snapshot_type, system.state, wanted.consistency);
    if let Some(failure) = settings::refuse_creation(system.user_snapshot_type, system.state, capture, can) {
        let description = format!("{}: {}", system.name, failure.description);
        return Err(JobFailure { description, ..failure });
    }
    Ok(SnapshotRequest {
        machine: system.id,
        snapshot,
        memory: capture.memory,
        quiesce: capture.quiesce,
        copy_backup: wanted.guest_backup_type == GuestBackupType::Copy,
        ignore_non_snapshottable: wanted.ignore_non_snapshottable_disks,
        change_tracking: kind == SnapshotKind::Recovery && system.incremental_backup && can.reference_points,
        without_data: false,
    })
}

fn prepare_apply(view: &View, id: Guid, job: Guid) -> Prepared<ApplyRequest> {
    let snapshot = view.snapshot(id).ok_or_else(|| gone("snapshot"))?;
    let system = view.system(snapshot.system).ok_or_else(|| gone("virtual machine"))?;
    if settings::check_apply(system.state).is_err() {
        return Err(wrong_state(system.state, "off or saved"));
    }
    let mut disks = snapshot.disks.clone();
    for image in &mut disks {
        // The disk goes where it lies today.
        if let Some(disk) = system.disks.iter().find(|disk| disk.name == image.disk) {
            image.source.clone_from(&disk.path);
        }
    }
    let (machine, memory, launch) = (system.id, snapshot.memory_file.clone(), snapshot.launch.clone());
    Ok(ApplyRequest { machine, snapshot: id, operation: job, disks, memory, launch })
}

fn mark_applied(draft: &mut Draft, id: Guid) {
    let Some(system) = draft.view().snapshot(id).and_then(|snapshot| draft.view().system(snapshot.system)) else {
        return;
    };
    let (current_snapshot, last_applied) = (Some(id), Some(id));
    let system = system.id;
    if let Some(record) = draft.view().system(system) {
        draft.put_system(VirtualSystem { current_snapshot, last_applied, ..VirtualSystem::clone(record) });
    }
    reference_points::forget_changes(draft, system);
}

/// Removes a snapshot from all records: children go to its parent, and so does the machine that descends from it.
pub(super) fn unlink(draft: &mut Draft, id: Guid) {
    let Some(snapshot) = draft.view().snapshot(id).map(Arc::clone) else { return };
    let children: Vec<_> = draft.view().children_of(id).cloned().collect();
    for child in children {
        draft.put_snapshot(Snapshot { parent: snapshot.parent, ..Snapshot::clone(&child) });
    }
    if let Some(system) = draft.view().system(snapshot.system) {
        let mut changed = VirtualSystem::clone(system);
        if changed.current_snapshot == Some(id) {
            changed.current_snapshot = snapshot.parent;
        }
        changed.last_applied = changed.last_applied.filter(|applied| *applied != id);
        if changed != **system {
            draft.put_system(changed);
        }
    }
    if let Some(set) = snapshot.snapshot_collection.and_then(|set| draft.view().snapshot_collection(set)) {
        let mut set = SnapshotCollection::clone(set);
        set.snapshots.retain(|member| *member != id);
        if set.snapshots.is_empty() {
            draft.delete_snapshot_collection(set.id);
        } else {
            draft.put_snapshot_collection(set);
        }
    }
    draft.delete_snapshot(id);
}

/// What to ask of a machine in `state`; `None` if it is where it should be.
fn power_action(state: SystemState, requested: RequestedState) -> Prepared<Option<PowerAction>> {
    use RequestedState as R;
    use SystemState as S;
    let action = match (requested, state) {
        (R::Enabled, S::Running)
        | (R::Disabled | R::ShutDown, S::Off)
        | (R::Saved, S::Saved)
        | (R::Paused, S::Paused) => {
            return Ok(None);
        }
        (R::Enabled, S::Off | S::Saved | S::Paused) => PowerAction::Start,
        (R::Disabled, S::Running | S::Saved | S::Paused | S::Failed) => PowerAction::TurnOff,
        (R::ShutDown, S::Running) => PowerAction::ShutDown,
        (R::Saved, S::Running | S::Paused) => PowerAction::Save,
        (R::Paused, S::Running) => PowerAction::Pause,
        (R::Reset, S::Running | S::Paused | S::Failed) => PowerAction::Reset,
        (R::Paused | R::ShutDown, _) => return Err(wrong_state(state, "running")),
        _ => return Err(wrong_state(state, "running or paused")),
    };
    Ok(Some(action))
}

/// The same question at the time of the command: true if something is to be done.
pub(super) fn needs_power_action(state: SystemState, requested: RequestedState) -> Result<bool, super::EngineError> {
    let refused = |_| super::EngineError::InvalidState { state, needed: "another state" };
    Ok(power_action(state, requested).map_err(refused)?.is_some())
}

impl Inner {
    /// Performs a call.
    pub(super) async fn perform(&self, call: &Call, control: &StepControl) -> Result<CallResult, BackendError> {
        match call {
            Call::Operation(Operation::Create(requests)) => {
                self.hypervisor.create_snapshots(requests, control).await.map(CallResult::Snapshots)
            }
            Call::Operation(Operation::Apply(requests)) => {
                self.hypervisor.apply_snapshots(requests, control).await.map(|()| CallResult::Done)
            }
            Call::Operation(Operation::Destroy(requests)) => {
                self.hypervisor.destroy_snapshots(requests, control).await.map(|()| CallResult::Done)
            }
            Call::Operation(Operation::Convert(requests)) => {
                self.hypervisor.convert_to_reference_points(requests, control).await.map(|()| CallResult::Done)
            }
            Call::Operation(Operation::DestroyReferencePoints(requests)) => {
                self.hypervisor.destroy_reference_points(requests, control).await.map(|()| CallResult::Done)
            }
            Call::Operation(Operation::Export(request)) => {
                self.hypervisor.export_snapshots(request, control).await.map(|()| CallResult::Done)
            }
            Call::Operation(Operation::Merge { machine }) => {
                self.hypervisor.merge_disks(*machine, control).await.map(|()| CallResult::Done)
            }
            Call::ClearMemory(request) => self.hypervisor.clear_memory(request).await.map(|()| CallResult::Done),
            Call::Operation(Operation::ChangeState { machine, action })
            | Call::ChangeState { machine, action: Some(action), .. } => {
                self.hypervisor.change_state(*machine, *action, control).await.map(|_| CallResult::Done)
            }
            Call::ChangeState { machine, action: None, .. } => {
                self.hypervisor.state(*machine).await.map(|_| CallResult::Done)
            }
            Call::CopyVolume(request) => self.volumes.copy_snapshot(request, control).await.map(CallResult::Volume),
        }
    }

    /// Finishes or undoes an interrupted call; `None` when it is undone.
    pub(super) async fn recover_call(
        &self,
        call: &Call,
        journal: &[JournalStep],
    ) -> Result<Option<CallResult>, BackendError> {
        match call {
            Call::Operation(operation) => {
                let creates = matches!(operation, Operation::Create(_));
                Ok(match self.hypervisor.recover(operation, journal).await? {
                    Recovery::Finished(outcomes) if creates => Some(CallResult::Snapshots(outcomes)),
                    Recovery::Finished(_) => Some(CallResult::Done),
                    Recovery::RolledBack => None,
                })
            }
            Call::ClearMemory(request) => self.hypervisor.clear_memory(request).await.map(|()| Some(CallResult::Done)),
            Call::ChangeState { machine, action, leads_to } => {
                if let Some(action) = action {
                    let operation = Operation::ChangeState { machine: *machine, action: *action };
                    self.hypervisor.recover(&operation, journal).await?;
                }
                let state = self.hypervisor.state(*machine).await?;
                Ok((SystemState::from(state) == *leads_to).then_some(CallResult::Done))
            }
            Call::CopyVolume(request) => Ok(self.volumes.recover(request, journal).await?.map(CallResult::Volume)),
        }
    }
}
