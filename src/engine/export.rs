//! Exporting snapshots: the commands, what is asked of the back-end, and the description that goes with the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use smol_str::format_smolstr;

use super::reference_point::here;
use super::runner::{Inner, NewJob};
use super::work::{Prepared, gone};
use super::{
    BackupIntent, ConsistencyLevel, ElementRef, EngineError, ExportSettings, Failure, JobFailure, JobKind, Outcome,
    ReferencePoint, Snapshot, View, VirtualSystem, Work,
};
use crate::backend::{DiskFormat, DiskImage, ExportMember, ExportRequest, TrackedDisk};
use crate::time::{Guid, Timestamp};

/// What a file [`ExportMember::CONFIGURATION`] says.
#[derive(Serialize)]
struct Description<'a> {
    /// Grows when the form of this file changes.
    version: u32,
    machine: Machine<'a>,
    snapshot: About<'a>,
    /// The reference point since which the changes are in the files, or nothing when the disks are whole.
    base: Option<Guid>,
    intent: BackupIntent,
    /// How the machine was launched, in the words of the back-end: its memory fits only a machine launched the same way.
    launch: Option<&'a str>,
    memory: Option<&'static str>,
    disks: Vec<ExportedDisk<'a>>,
    /// Disks that are not in the export.
    left_out: Vec<&'a str>,
}

#[derive(Serialize)]
struct Machine<'a> {
    id: Guid,
    name: &'a str,
    notes: &'a str,
    memory_mb: u64,
    processors: u32,
}

#[derive(Serialize)]
struct About<'a> {
    id: Guid,
    name: &'a str,
    created: Timestamp,
    consistency: ConsistencyLevel,
}

#[derive(Serialize)]
struct ExportedDisk<'a> {
    name: &'a str,
    format: DiskFormat,
    /// Where the disk lies on the host.
    source: &'a Path,
    /// The file in this directory.
    file: String,
    /// The file that says which parts are in it; without one it is whole.
    changes: Option<String>,
    /// What tells the changes tracked since the snapshot from others.
    tracking: Option<&'a str>,
}

impl Inner {
    pub(super) async fn export_snapshot(
        self: &Arc<Self>,
        id: Guid,
        settings: ExportSettings,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        self.check_base(settings.base)?;
        let job = self.submit(user, |draft| {
            let snapshot = Arc::clone(draft.snapshot(id)?);
            if let Some(base) = settings.base
                && draft.reference_point(base)?.system != snapshot.system
            {
                let reason = "the reference point belongs to another machine";
                return Err(EngineError::InvalidParameter { parameter: "DifferentialBackupBase", reason });
            }
            Ok(NewJob {
                kind: JobKind::Export,
                target: ElementRef::Snapshot(id),
                caption: format_smolstr!("Exporting snapshot {}", snapshot.name),
                affected: vec![ElementRef::System(snapshot.system)],
                lanes: vec![snapshot.system],
                work: Work::Export { group: None, snapshots: vec![id], settings, request: None },
            })
        });
        Ok(Outcome::Started { job: job.await? })
    }

    pub(super) async fn export_group_snapshot(
        self: &Arc<Self>,
        id: Guid,
        settings: ExportSettings,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        self.check_base(settings.base)?;
        let job = self.submit(user, |draft| {
            let set = draft.view().snapshot_collection(id).cloned().ok_or(EngineError::NoSuchSnapshotCollection(id))?;
            if let Some(base) = settings.base
                && draft.reference_point_collection(base)?.collection != set.collection
            {
                let reason = "the reference points belong to another collection";
                return Err(EngineError::InvalidParameter { parameter: "DifferentialBackupBase", reason });
            }
            let snapshots = set.snapshots.clone();
            let work = Work::Export { group: Some(id), snapshots, settings, request: None };
            let mut lanes = work.systems(draft.view());
            let mut affected = vec![ElementRef::Collection(set.collection)];
            affected.extend(lanes.iter().copied().map(ElementRef::System));
            lanes.push(set.collection);
            let caption = format_smolstr!("Exporting snapshots {}", set.name);
            Ok(NewJob {
                kind: JobKind::Export,
                target: ElementRef::SnapshotCollection(id),
                caption,
                affected,
                lanes,
                work,
            })
        });
        Ok(Outcome::Started { job: job.await? })
    }

    /// A base needs a back-end that can write only what changed.
    fn check_base(&self, base: Option<Guid>) -> Result<(), EngineError> {
        if base.is_some() && !self.hypervisor.capabilities().differential_export {
            return Err(EngineError::NotSupported("exporting only what changed"));
        }
        Ok(())
    }
}

fn refuse<T>(failure: Failure, description: impl Into<String>) -> Prepared<T> {
    Err(JobFailure { failure, description: description.into() })
}

/// What is asked of the back-end for an export.
pub(super) fn prepare(
    view: &View,
    job: Guid,
    snapshots: &[Guid],
    settings: &ExportSettings,
    allowed: &[PathBuf],
) -> Prepared<ExportRequest> {
    if allowed.is_empty() {
        let text = "choose the export directory: no directory is allowed; the key `directories` of the section \
                    `[export]` in the configuration names those below which exports may lie";
        return refuse(Failure::NotSupported, text);
    }
    let found: Vec<(&Arc<Snapshot>, &Arc<VirtualSystem>)> = snapshots
        .iter()
        .filter_map(|id| view.snapshot(*id))
        .filter_map(|snapshot| view.system(snapshot.system).map(|system| (snapshot, system)))
        .collect();
    if found.is_empty() || found.len() < snapshots.len() {
        return Err(gone("snapshot"));
    }
    let mut members: Vec<ExportMember> = Vec::with_capacity(found.len());
    for (snapshot, system) in found {
        let subdirectory = settings.subdirectories.then(|| {
            let name = directory_name(system);
            let taken = members.iter().any(|member| member.subdirectory.as_ref() == Some(&name));
            if taken { system.id.to_string() } else { name }
        });
        members.push(member(view, snapshot, system, settings, subdirectory)?);
    }
    let (allowed, directory) = (allowed.to_vec(), settings.directory.clone());
    Ok(ExportRequest { operation: job, allowed, directory, members })
}

/// The directory of a machine: named after it, if that can be a name of a file.
fn directory_name(system: &VirtualSystem) -> String {
    let name = system.name.as_str();
    let usable = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0', '\\']) && name.len() <= 100;
    if usable { name.to_owned() } else { system.id.to_string() }
}

fn member(
    view: &View,
    snapshot: &Snapshot,
    system: &VirtualSystem,
    settings: &ExportSettings,
    subdirectory: Option<String>,
) -> Prepared<ExportMember> {
    if snapshot.missing {
        return refuse(Failure::FileNotFound, format!("{}: the files of the snapshot are missing", snapshot.name));
    }
    if snapshot.foreign {
        return refuse(Failure::NotSupported, format!("{}: it was not made by this server", snapshot.name));
    }
    let excluded = |disk: &DiskImage| {
        settings.excluded_disks.iter().any(|text| *text == disk.disk || Path::new(text) == disk.source)
    };
    let (left_out, disks): (Vec<DiskImage>, Vec<DiskImage>) =
        snapshot.disks.iter().cloned().partition(|disk| !settings.disks || excluded(disk));
    let point = base_of(view, snapshot, settings)?;
    let base = point.map(|point| point.tracking(Some(system)));
    let memory = snapshot.memory_file.clone().filter(|_| settings.memory);
    let tracking = here(Some(system), snapshot.tracking.clone());
    let is_partial =
        |disk: &DiskImage| base.as_ref().is_some_and(|base| base.disks.iter().any(|tracked| tracked.disk == disk.disk));
    let description = Description {
        version: 1,
        machine: Machine {
            id: system.id,
            name: &system.name,
            notes: &system.notes,
            memory_mb: snapshot.memory_mb,
            processors: snapshot.processors,
        },
        snapshot: About {
            id: snapshot.id,
            name: &snapshot.name,
            created: snapshot.created,
            consistency: snapshot.consistency,
        },
        base: point.map(|point| point.id),
        intent: settings.intent,
        launch: snapshot.launch.as_deref(),
        memory: memory.as_ref().map(|_| ExportMember::MEMORY),
        disks: disks.iter().map(|disk| described(disk, &tracking, is_partial(disk))).collect(),
        left_out: left_out.iter().map(|disk| disk.disk.as_str()).collect(),
    };
    let configuration = match serde_json::to_string_pretty(&description) {
        Ok(text) => text,
        Err(error) => return refuse(Failure::Failed, format!("describe the export: {error}")),
    };
    let (machine, snapshot) = (system.id, snapshot.id);
    Ok(ExportMember { machine, snapshot, subdirectory, disks, memory, tracking, base, configuration })
}

fn described<'a>(disk: &'a DiskImage, tracking: &'a [TrackedDisk], partial: bool) -> ExportedDisk<'a> {
    let tracked = tracking.iter().find(|tracked| tracked.disk == disk.disk);
    ExportedDisk {
        name: &disk.disk,
        format: disk.format,
        source: &disk.source,
        file: ExportMember::disk_file(disk),
        changes: partial.then(|| ExportMember::changes_file(disk)),
        tracking: tracked.map(|tracked| tracked.identifier.as_str()),
    }
}

/// The reference point from which the changes of a snapshot are wanted. A member of a collection that has none in
/// the collection of the base, because it came later, is written whole.
fn base_of<'v>(
    view: &'v View,
    snapshot: &Snapshot,
    settings: &ExportSettings,
) -> Prepared<Option<&'v Arc<ReferencePoint>>> {
    let Some(base) = settings.base else { return Ok(None) };
    let point = match view.reference_point_collection(base) {
        Some(set) => {
            let mut points = set.points.iter().filter_map(|point| view.reference_point(*point));
            let Some(point) = points.find(|point| point.system == snapshot.system) else { return Ok(None) };
            point
        }
        None => view.reference_point(base).ok_or_else(|| gone("reference point"))?,
    };
    let reason = if !point.valid {
        "the changes since the reference point are not known any more, a full export is needed"
    } else if snapshot.tracking_lost {
        "the changes up to the snapshot are not known any more, a full export is needed"
    } else if point.created > snapshot.created {
        "the reference point is younger than the snapshot"
    } else {
        return Ok(Some(point));
    };
    refuse(Failure::Failed, format!("{}: {reason}", snapshot.name))
}
