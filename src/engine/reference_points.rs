//! The commands on reference points, and what their jobs do to the records (`snapshot-semantics` §4 and §6).

use std::collections::BTreeSet;
use std::sync::Arc;

use smol_str::format_smolstr;
use tracing::warn;

use super::group::machines_of;
use super::ledger::Draft;
use super::reference_point::{common_level, reference_disks, why_untracked};
use super::runner::{Inner, NewJob};
use super::settings::{self, check_creation};
use super::work::{Prepared, destroy_requests, gone, unlink};
use super::{
    AffectedElement, ConsistencyLevel, ElementEffect, ElementRef, EngineError, Failure, JobFailure, JobKind, Outcome,
    ReferencePoint, ReferencePointCollection, Snapshot, SnapshotKind, View, VirtualSystem, Work,
};
use crate::backend::{Capabilities, DestroyRequest, SnapshotOutcome, SnapshotRequest, TrackedDisk, TrackingRequest};
use crate::time::{Guid, Timestamp};

/// Fails where changes are not tracked at all.
const fn check_able(can: Capabilities) -> Result<(), EngineError> {
    if can.reference_points { Ok(()) } else { Err(EngineError::NotSupported("change tracking")) }
}

/// Fails for a snapshot that can never become a reference point.
fn check_convertible(snapshot: &Snapshot) -> Result<(), EngineError> {
    let reason = if snapshot.kind != SnapshotKind::Recovery {
        "only a recovery snapshot can become a reference point"
    } else if snapshot.foreign {
        "the snapshot was not made by this server"
    } else {
        return Ok(());
    };
    Err(EngineError::InvalidParameter { parameter: "AffectedSnapshot", reason })
}

impl Inner {
    pub(super) async fn convert_to_reference_point(
        self: &Arc<Self>,
        id: Guid,
        user: &str,
    ) -> Result<Outcome<Guid>, EngineError> {
        self.view().snapshot(id).ok_or(EngineError::NoSuchSnapshot(id))?;
        check_able(self.hypervisor.capabilities())?;
        let point = self.ids.new_guid();
        let job = self.submit(user, |draft| {
            let snapshot = draft.snapshot(id)?;
            check_convertible(snapshot)?;
            Ok(NewJob {
                kind: JobKind::ConvertToReferencePoint,
                target: ElementRef::Snapshot(id),
                caption: format_smolstr!("Converting snapshot {}", snapshot.name),
                affected: vec![ElementRef::System(snapshot.system)],
                lanes: vec![snapshot.system],
                work: Work::Convert { group: None, points: vec![(id, point)], requests: Vec::new() },
            })
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn convert_group_to_reference_point(
        self: &Arc<Self>,
        id: Guid,
        user: &str,
    ) -> Result<Outcome<Guid>, EngineError> {
        self.view().snapshot_collection(id).ok_or(EngineError::NoSuchSnapshotCollection(id))?;
        check_able(self.hypervisor.capabilities())?;
        let made = self.ids.new_guid();
        let job = self.submit(user, |draft| {
            let set = draft.view().snapshot_collection(id).cloned().ok_or(EngineError::NoSuchSnapshotCollection(id))?;
            for snapshot in &set.snapshots {
                check_convertible(draft.snapshot(*snapshot)?)?;
            }
            let points = set.snapshots.iter().map(|snapshot| (*snapshot, self.ids.new_guid())).collect();
            let work = Work::Convert { group: Some((id, made)), points, requests: Vec::new() };
            let caption = format_smolstr!("Converting snapshots {}", set.name);
            let target = ElementRef::SnapshotCollection(id);
            Ok(group_job(draft.view(), set.collection, JobKind::ConvertToReferencePoint, target, caption, work))
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn create_reference_point(
        self: &Arc<Self>,
        id: Guid,
        consistency: ConsistencyLevel,
        user: &str,
    ) -> Result<Outcome<Guid>, EngineError> {
        self.view().system(id).ok_or(EngineError::NoSuchSystem(id))?;
        let can = self.hypervisor.capabilities();
        check_able(can)?;
        let point = self.ids.new_guid();
        let job = self.submit(user, |draft| {
            let system = draft.system(id)?;
            check_creation(system.state, can)?;
            let members = vec![(id, point)];
            let work = Work::CreateReferencePoints { group: None, members, consistency, requests: Vec::new() };
            Ok(NewJob {
                kind: JobKind::CreateReferencePoint,
                target: ElementRef::System(id),
                caption: format_smolstr!("Creating a reference point of {}", system.name),
                affected: vec![ElementRef::System(id)],
                lanes: vec![id],
                work,
            })
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn create_group_reference_point(
        self: &Arc<Self>,
        id: Guid,
        consistency: ConsistencyLevel,
        user: &str,
    ) -> Result<Outcome<Guid>, EngineError> {
        self.view().collection(id).ok_or(EngineError::NoSuchCollection(id))?;
        let can = self.hypervisor.capabilities();
        check_able(can)?;
        let made = self.ids.new_guid();
        let job = self.submit(user, |draft| {
            let name = draft.collection(id)?.name.clone();
            let machines = machines_of(draft.view(), id);
            if machines.is_empty() {
                let reason = "there is no machine in it";
                return Err(EngineError::InvalidParameter { parameter: "Collection", reason });
            }
            for machine in &machines {
                check_creation(draft.system(*machine)?.state, can)?;
            }
            let members = machines.into_iter().map(|machine| (machine, self.ids.new_guid())).collect();
            let group = Some((made, id));
            let work = Work::CreateReferencePoints { group, members, consistency, requests: Vec::new() };
            let caption = format_smolstr!("Creating a reference point of {name}");
            let target = ElementRef::Collection(id);
            Ok(group_job(draft.view(), id, JobKind::CreateGroupReferencePoint, target, caption, work))
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn destroy_reference_point(
        self: &Arc<Self>,
        id: Guid,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        let job = self.submit(user, |draft| {
            let point = draft.reference_point(id)?;
            let of = draft.view().system(point.system).map(|system| system.name.clone()).unwrap_or_default();
            Ok(NewJob {
                kind: JobKind::DestroyReferencePoint,
                target: ElementRef::ReferencePoint(id),
                caption: format_smolstr!("Destroying a reference point of {of}"),
                affected: vec![ElementRef::System(point.system)],
                lanes: vec![point.system],
                work: Work::DestroyReferencePoints { group: None, points: vec![id], requests: Vec::new() },
            })
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn destroy_group_reference_point(
        self: &Arc<Self>,
        id: Guid,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        let job = self.submit(user, |draft| {
            let set = Arc::clone(draft.reference_point_collection(id)?);
            let points = set.points.clone();
            let work = Work::DestroyReferencePoints { group: Some(id), points, requests: Vec::new() };
            let caption = format_smolstr!("Destroying reference points {}", set.name);
            let target = ElementRef::ReferencePointCollection(id);
            let kind = JobKind::DestroyGroupReferencePoint;
            Ok(group_job(draft.view(), set.collection, kind, target, caption, work))
        });
        Ok(Outcome::Started { job: job.await? })
    }

    /// Before an export that needs a reference point, finds out whether its tracking is still whole.
    pub(super) async fn look_at_tracking(&self, job: Guid) {
        let view = self.view();
        let Some(Work::Export { settings, .. }) = view.job(job).map(|job| &job.work) else { return };
        let Some(base) = settings.base else { return };
        let of_set = view.reference_point_collection(base).map(|set| set.points.clone());
        if let Err(error) = self.verify_reference_points(Some(&of_set.unwrap_or_else(|| vec![base]))).await {
            warn!(%error, "The state of a reference point could not be stored");
        }
    }

    /// Marks the reference points whose tracking is lost: all that are thought to be valid, or these of them.
    pub(super) async fn verify_reference_points(&self, only: Option<&[Guid]>) -> Result<(), EngineError> {
        let view = self.view();
        let Some(only) = only else { return self.verify(trusted(&view, |_| true)).await };
        let asked = only.iter().filter_map(|id| view.reference_point(*id)).filter(|point| point.valid);
        self.verify(asked.map(|point| point.tracking(view.system(point.system).map(AsRef::as_ref))).collect()).await
    }

    /// After a job that may have cost a machine its tracking, finds out: the process that had it in memory may have
    /// been killed, and a snapshot that could not be applied may have begun to replace the content.
    pub(super) async fn look_again_at_tracking(&self, job: Guid, failed: bool) {
        let view = self.view();
        let systems = match view.job(job).map(|job| &job.work) {
            Some(work @ Work::ChangeState { .. }) => work.systems(&view),
            Some(work @ Work::Apply { .. }) if failed => work.systems(&view),
            _ => return,
        };
        if let Err(error) = self.verify(trusted(&view, |system| systems.contains(&system))).await {
            warn!(%error, "The state of a reference point could not be stored");
        }
    }

    async fn verify(&self, requests: Vec<TrackingRequest>) -> Result<(), EngineError> {
        if requests.is_empty() {
            return Ok(());
        }
        let lost = self.hypervisor.verify_reference_points(&requests).await;
        if lost.is_empty() {
            return Ok(());
        }
        self.ledger
            .transact(|draft| {
                mark_lost(draft, |snapshot| lost.contains(&snapshot));
                Ok(())
            })
            .await
    }
}

/// A job on all machines of a collection.
fn group_job(
    view: &View,
    collection: Guid,
    kind: JobKind,
    target: ElementRef,
    caption: smol_str::SmolStr,
    work: Work,
) -> NewJob {
    let mut lanes = work.systems(view);
    let mut affected = vec![ElementRef::Collection(collection)];
    affected.extend(lanes.iter().copied().map(ElementRef::System));
    lanes.push(collection);
    NewJob { kind, target, caption, affected, lanes, work }
}

/// All tracking of these systems that is thought to be whole.
fn trusted(view: &View, of: impl Fn(Guid) -> bool) -> Vec<TrackingRequest> {
    let points = view.reference_points().filter(|point| point.valid && of(point.system));
    let points = points.map(|point| point.tracking(view.system(point.system).map(AsRef::as_ref)));
    let snapshots = view.snapshots().filter(|snapshot| of(snapshot.system));
    let snapshots = snapshots.filter(|snapshot| !snapshot.tracking.is_empty() && !snapshot.tracking_lost);
    points.chain(snapshots.map(|snapshot| tracking_of(view, snapshot))).collect()
}

/// The tracking that began with a snapshot that still exists.
fn tracking_of(view: &View, snapshot: &Snapshot) -> TrackingRequest {
    let system = view.system(snapshot.system).map(AsRef::as_ref);
    let disks = super::reference_point::here(system, snapshot.tracking.clone());
    TrackingRequest { machine: snapshot.system, snapshot: snapshot.id, disks }
}

/// Marks the tracking that began with these snapshots as lost.
fn mark_lost(draft: &mut Draft, lost: impl Fn(Guid) -> bool) {
    let view = draft.view().clone();
    for point in view.reference_points().filter(|point| point.valid && lost(point.snapshot)) {
        warn!(point = %point.id, system = %point.system, "The changes since a reference point are not known any more");
        draft.put_reference_point(ReferencePoint { valid: false, ..ReferencePoint::clone(point) });
    }
    let tracked = view.snapshots().filter(|snapshot| !snapshot.tracking.is_empty() && !snapshot.tracking_lost);
    for snapshot in tracked.filter(|snapshot| lost(snapshot.id)) {
        draft.put_snapshot(Snapshot { tracking_lost: true, ..Snapshot::clone(snapshot) });
    }
}

/// After the content of a system was replaced, no change since any instant before is known.
pub(super) fn forget_changes(draft: &mut Draft, system: Guid) {
    let view = draft.view();
    let points = view.reference_points_of(system).map(|point| point.snapshot);
    let before: BTreeSet<Guid> = points.chain(view.snapshots_of(system).map(|snapshot| snapshot.id)).collect();
    mark_lost(draft, |snapshot| before.contains(&snapshot));
}

/// What is asked of the back-end for a conversion.
pub(super) fn prepare_convert(view: &View, points: &[(Guid, Guid)]) -> Prepared<Vec<DestroyRequest>> {
    for (id, _) in points {
        let snapshot = view.snapshot(*id).ok_or_else(|| gone("snapshot"))?;
        if let Some(reason) = why_untracked(snapshot) {
            let description = format!("{}: {reason}", snapshot.name);
            return Err(JobFailure { failure: Failure::NotSupported, description });
        }
    }
    let snapshots: Vec<Guid> = points.iter().map(|(snapshot, _)| *snapshot).collect();
    Ok(destroy_requests(view, &snapshots))
}

/// What is asked of the back-end to begin tracking.
pub(super) fn prepare_create(
    view: &View,
    members: &[(Guid, Guid)],
    consistency: ConsistencyLevel,
    can: Capabilities,
) -> Prepared<Vec<SnapshotRequest>> {
    let request = |(system, point): &(Guid, Guid)| {
        let system = view.system(*system).ok_or_else(|| gone("virtual machine"))?;
        let of = |failure: JobFailure| JobFailure {
            description: format!("{}: {}", system.name, failure.description),
            ..failure
        };
        if !system.incremental_backup {
            let description = "IncrementalBackupEnabled is false, so no changes are tracked".to_owned();
            return Err(of(JobFailure { failure: Failure::NotSupported, description }));
        }
        let capture = settings::capture(false, system.user_snapshot_type, system.state, consistency);
        if let Some(failure) = settings::refuse_creation(system.user_snapshot_type, system.state, capture, can) {
            return Err(of(failure));
        }
        Ok(SnapshotRequest {
            machine: system.id,
            snapshot: *point,
            memory: false,
            quiesce: capture.quiesce,
            copy_backup: false,
            ignore_non_snapshottable: true,
            change_tracking: true,
            without_data: true,
        })
    };
    members.iter().map(request).collect()
}

/// What is asked of the back-end to end tracking.
pub(super) fn prepare_destroy(view: &View, points: &mut Vec<Guid>) -> Prepared<Vec<TrackingRequest>> {
    points.retain(|point| view.reference_point(*point).is_some());
    if points.is_empty() {
        return Err(gone("reference point"));
    }
    let points = points.iter().filter_map(|point| view.reference_point(*point));
    Ok(points.map(|point| point.tracking(view.system(point.system).map(AsRef::as_ref))).collect())
}

/// An instant that becomes a reference point.
struct Instant<'a> {
    point: Guid,
    system: Guid,
    snapshot: Guid,
    created: Timestamp,
    consistency: ConsistencyLevel,
    tracking: &'a [TrackedDisk],
    collection: Option<Guid>,
}

fn put_point(draft: &mut Draft, instant: &Instant<'_>) {
    let system: Option<Arc<VirtualSystem>> = draft.view().system(instant.system).cloned();
    let sequence = draft.next_sequence();
    draft.put_reference_point(ReferencePoint {
        id: instant.point,
        sequence,
        system: instant.system,
        snapshot: instant.snapshot,
        created: instant.created,
        consistency: instant.consistency,
        disks: reference_disks(system.as_deref(), instant.tracking),
        collection: instant.collection,
        valid: true,
    });
}

fn made(group: Option<Guid>, points: impl IntoIterator<Item = Guid>) -> Vec<AffectedElement> {
    let creates = |element| AffectedElement { element, effect: ElementEffect::Creates };
    match group {
        Some(set) => vec![creates(ElementRef::ReferencePointCollection(set))],
        None => points.into_iter().map(|point| creates(ElementRef::ReferencePoint(point))).collect(),
    }
}

/// Puts reference points in the place of their snapshots.
pub(super) fn complete_convert(
    draft: &mut Draft,
    group: Option<(Guid, Guid)>,
    points: &[(Guid, Guid)],
) -> Vec<AffectedElement> {
    let view = draft.view();
    let pairs = points.iter().filter_map(|(id, point)| view.snapshot(*id).map(|found| (Arc::clone(found), *point)));
    let pairs: Vec<(Arc<Snapshot>, Guid)> = pairs.collect();
    if let Some((set, id)) = group
        && let Some(set) = draft.view().snapshot_collection(set).cloned()
    {
        let sequence = draft.next_sequence();
        draft.put_reference_point_collection(ReferencePointCollection {
            id,
            sequence,
            collection: set.collection,
            name: set.name.clone(),
            created: set.created,
            consistency: common_level(pairs.iter().map(|(snapshot, _)| snapshot.consistency)),
            points: pairs.iter().map(|(_, point)| *point).collect(),
        });
    }
    for (snapshot, point) in &pairs {
        let instant = Instant {
            point: *point,
            system: snapshot.system,
            snapshot: snapshot.id,
            created: snapshot.created,
            consistency: snapshot.consistency,
            tracking: &snapshot.tracking,
            collection: group.map(|(_, id)| id),
        };
        put_point(draft, &instant);
        unlink(draft, snapshot.id);
    }
    if let Some((set, _)) = group {
        draft.delete_snapshot_collection(set);
    }
    made(group.map(|(_, id)| id), pairs.iter().map(|(_, point)| *point))
}

/// Records reference points that were made without snapshots.
pub(super) fn complete_create(
    draft: &mut Draft,
    group: Option<(Guid, Guid)>,
    outcomes: &[SnapshotOutcome],
    taken: Timestamp,
    offset: i32,
) -> Vec<AffectedElement> {
    let level = |outcome: &SnapshotOutcome| {
        if outcome.application_consistent { ConsistencyLevel::Application } else { ConsistencyLevel::Crash }
    };
    let points: Vec<Guid> = outcomes.iter().map(|outcome| outcome.snapshot).collect();
    if let Some((id, collection)) = group {
        let of = draft.view().collection(collection).map(|collection| collection.name.clone()).unwrap_or_default();
        let sequence = draft.next_sequence();
        draft.put_reference_point_collection(ReferencePointCollection {
            id,
            sequence,
            collection,
            name: settings::default_name(&of, taken, offset),
            created: taken,
            consistency: common_level(outcomes.iter().map(level)),
            points: points.clone(),
        });
    }
    for outcome in outcomes {
        let instant = Instant {
            point: outcome.snapshot,
            system: outcome.machine,
            snapshot: outcome.snapshot,
            created: taken,
            consistency: level(outcome),
            tracking: &outcome.tracking,
            collection: group.map(|(id, _)| id),
        };
        put_point(draft, &instant);
    }
    made(group.map(|(id, _)| id), points)
}

/// Removes reference points from all records.
pub(super) fn complete_destroy(draft: &mut Draft, group: Option<Guid>, points: &[Guid]) {
    for id in points {
        let set = draft.view().reference_point(*id).and_then(|point| point.collection);
        if let Some(set) = set.and_then(|set| draft.view().reference_point_collection(set)) {
            let mut set = ReferencePointCollection::clone(set);
            set.points.retain(|member| member != id);
            if set.points.is_empty() {
                draft.delete_reference_point_collection(set.id);
            } else {
                draft.put_reference_point_collection(set);
            }
        }
        draft.delete_reference_point(*id);
    }
    if let Some(set) = group {
        draft.delete_reference_point_collection(set);
    }
}
