//! What is done after a stop of the server about operations that it interrupted, and about data nobody owns.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::{
    BackendError, DestroyRequest, DiskImage, ForeignSnapshot, JournalStep, MachineState, Operation, Quiesce, Recovery,
    SnapshotOutcome, SnapshotRequest, copy,
};
use super::QemuHypervisor;
use super::apply::UNDO;
use super::bitmaps;
use super::commands::InsertedMedium;
use super::files::remove_directory;
use super::image::Tag;
use super::machine::{Machine, canonical};
use super::member::{reclaim, release, remove_tags, thaw};
use super::raw::{forget_layers, is_layered, is_tagged};
use crate::time::Guid;

/// How often removing a snapshot is tried before its job has to say that it was not possible.
const REMOVE_ATTEMPTS: u32 = 6;
/// Between two of these attempts.
const REMOVE_PAUSE: Duration = Duration::from_millis(500);

impl QemuHypervisor {
    pub(super) async fn recover_operation(
        &self,
        operation: &Operation,
        journal: &[JournalStep],
    ) -> Result<Recovery, BackendError> {
        for machine in machines_of(operation) {
            self.reconcile(machine).await?;
        }
        match operation {
            Operation::Create(requests) => self.recover_create(requests, journal).await,
            Operation::Apply(requests) => self.recover_apply(requests, journal).await,
            Operation::Destroy(requests) if journal.contains(&JournalStep::Removing) => {
                self.remove_wholly(requests).await?;
                self.end_of_snapshots(requests).await?;
                Ok(Recovery::Finished(Vec::new()))
            }
            Operation::Convert(requests) if journal.contains(&JournalStep::Removing) => {
                self.remove_wholly(requests).await?;
                Ok(Recovery::Finished(Vec::new()))
            }
            Operation::DestroyReferencePoints(requests) if journal.contains(&JournalStep::Removing) => {
                self.end_of_points(requests).await?;
                Ok(Recovery::Finished(Vec::new()))
            }
            Operation::Destroy(_) | Operation::Convert(_) | Operation::DestroyReferencePoints(_) => {
                Ok(Recovery::RolledBack)
            }
            Operation::Export(_) => super::super::export::recover(journal).await,
            Operation::ChangeState { machine, action } => {
                let machine = self.machine(*machine)?;
                self.recover_power(&machine, *action, journal).await
            }
            Operation::Merge { machine } => self.recover_merge(*machine, journal).await,
        }
    }

    async fn recover_create(
        &self,
        requests: &[SnapshotRequest],
        journal: &[JournalStep],
    ) -> Result<Recovery, BackendError> {
        let mut ran: HashSet<Guid> = HashSet::new();
        let mut done: Option<&[SnapshotOutcome]> = None;
        let mut frozen = false;
        for step in journal {
            match step {
                JournalStep::FreezeSent => frozen = true,
                JournalStep::Paused { running } => ran.extend(running),
                JournalStep::DisksDone { outcomes } => done = Some(outcomes),
                _ => {}
            }
        }
        if let Some(outcomes) = done
            && self.all_there(outcomes).await?
        {
            return Ok(Recovery::Finished(outcomes.to_vec()));
        }
        // The guests go on first, whatever becomes of the data.
        let mut machines = Vec::new();
        for request in requests {
            let machine = self.machine(request.machine)?;
            release(&machine, ran.contains(&request.machine)).await?;
            if frozen && request.quiesce != Quiesce::Never && machine.state().await? == MachineState::Running {
                let (id, ..) = request.snapshot.as_uuid().as_fields();
                thaw(&machine, id >> 1).await?;
            }
            machines.push((request, machine));
        }
        for (request, machine) in &machines {
            let disks: Vec<(&str, &Path)> = machine
                .definition
                .disks
                .iter()
                .filter(|disk| is_own(disk))
                .map(|disk| (disk.name.as_str(), disk.path.as_path()))
                .collect();
            remove_tags(machine, &disks, &request.snapshot.to_string()).await?;
            if request.change_tracking {
                bitmaps::end(machine, &disks, request.snapshot).await?;
            }
            forget_layers(machine, request.snapshot).await?;
            if ran.contains(&request.machine) {
                reclaim(machine, &disks).await?;
            }
            remove_directory("remove the unfinished snapshot", &self.snapshot_directory(request.snapshot))?;
        }
        Ok(Recovery::RolledBack)
    }

    async fn all_there(&self, outcomes: &[SnapshotOutcome]) -> Result<bool, BackendError> {
        for outcome in outcomes {
            let machine = self.machine(outcome.machine)?;
            if outcome.memory.as_ref().is_some_and(|memory| !memory.is_file())
                || !Inside::of(&machine).await?.holds(&outcome.disks, outcome.snapshot).await?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the data of snapshots. There is no way back once the first tag is gone, so that a failure is tried again
    /// for a while: QEMU may have died in the middle, and the rest is done without it.
    ///
    /// # Errors
    /// The last [`BackendError`]; data of the snapshots may be gone.
    pub(super) async fn remove_wholly(&self, requests: &[DestroyRequest]) -> Result<(), BackendError> {
        let mut attempt = 1;
        loop {
            match self.remove(requests).await {
                Err(error) if attempt < REMOVE_ATTEMPTS => {
                    tracing::warn!(%error, "A snapshot is not removed yet");
                }
                result => return result,
            }
            attempt += 1;
            tokio::time::sleep(REMOVE_PAUSE).await;
        }
    }

    /// Removes the data of snapshots; what is gone already is no error.
    pub(super) async fn remove(&self, requests: &[DestroyRequest]) -> Result<(), BackendError> {
        const STEP: &str = "remove the snapshot file";
        for request in requests {
            let machine = self.machine(request.machine)?;
            let disks: Vec<(&str, &Path)> = request
                .disks
                .iter()
                .filter(|disk| is_tagged(disk))
                .map(|disk| (disk.disk.as_str(), disk.file.as_path()))
                .collect();
            remove_tags(&machine, &disks, &request.snapshot.to_string()).await?;
            forget_layers(&machine, request.snapshot).await?;
            for file in request.files.iter().filter(|file| !request.referenced.contains(*file)) {
                copy::remove_file(STEP, file)?;
            }
            remove_if_empty(&self.snapshot_directory(request.snapshot))?;
        }
        copy::sync_directory(STEP, self.root())
    }

    /// Which of these snapshots have lost a tag on one of the disks, a layer, or a file.
    pub(super) async fn lost(&self, snapshots: &[DestroyRequest]) -> BTreeSet<Guid> {
        let mut lost = BTreeSet::new();
        let mut by_machine: BTreeMap<Guid, Vec<&DestroyRequest>> = BTreeMap::new();
        for snapshot in snapshots {
            by_machine.entry(snapshot.machine).or_default().push(snapshot);
        }
        for (id, of_one) in by_machine {
            let Ok(machine) = self.machine(id) else { continue };
            let mut inside = match Inside::of(&machine).await {
                Ok(inside) => inside,
                Err(error) => {
                    tracing::warn!(machine = %machine.definition.id, %error, "Snapshots could not be looked at");
                    continue;
                }
            };
            for snapshot in of_one {
                let there = match inside.holds(&snapshot.disks, snapshot.snapshot).await {
                    Ok(there) => there,
                    // A disk that cannot be read now may hold it all the same.
                    Err(BackendError { cause: super::super::Cause::FileNotFound(_), .. }) => false,
                    Err(error) => {
                        tracing::warn!(snapshot = %snapshot.snapshot, %error, "A snapshot could not be looked at");
                        true
                    }
                };
                if !there || snapshot.files.iter().any(|file| !file.is_file()) {
                    lost.insert(snapshot.snapshot);
                }
            }
        }
        lost
    }

    /// Removes directories of snapshots that no record owns.
    pub(super) fn remove_unowned(
        &self,
        owned: &BTreeSet<Guid>,
        referenced: &HashSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, BackendError> {
        const STEP: &str = "look for files nobody owns";
        let failed = |error| BackendError::io(STEP, self.root(), error);
        let mut removed = Vec::new();
        for entry in fs::read_dir(self.root()).map_err(failed)? {
            let directory = entry.map_err(failed)?.path();
            let id = directory.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Guid>().ok());
            if !directory.is_dir() || id.is_none_or(|id| owned.contains(&id)) {
                continue;
            }
            for file in fs::read_dir(&directory).map_err(failed)? {
                let file = file.map_err(failed)?.path();
                if file.is_file() && !referenced.contains(&file) {
                    copy::remove_file(STEP, &file)?;
                    removed.push(file);
                }
            }
            remove_if_empty(&directory)?;
        }
        Ok(removed)
    }

    /// The snapshots inside the disks of a machine, ours and others, each with all disks that have it.
    pub(super) async fn found_inside(&self, machine: &Arc<Machine>) -> Result<Vec<ForeignSnapshot>, BackendError> {
        let mut found: Vec<ForeignSnapshot> = Vec::new();
        for (disk, tags) in all_tags(machine).await? {
            for tag in tags.into_iter().filter(|tag| !tag.name.starts_with(UNDO)) {
                let image = DiskImage { internal: true, ..disk.clone() };
                match found.iter_mut().find(|known| known.tag == tag.name) {
                    Some(known) => {
                        known.has_memory |= tag.vm_state_size > 0;
                        known.disks.push(image);
                    }
                    None => found.push(ForeignSnapshot {
                        tag: tag.name,
                        disks: vec![image],
                        created: tag.date_sec,
                        has_memory: tag.vm_state_size > 0,
                    }),
                }
            }
        }
        Ok(found)
    }
}

fn machines_of(operation: &Operation) -> Vec<Guid> {
    match operation {
        Operation::Create(requests) => requests.iter().map(|request| request.machine).collect(),
        Operation::Apply(requests) => requests.iter().map(|request| request.machine).collect(),
        Operation::Destroy(requests) | Operation::Convert(requests) => {
            requests.iter().map(|request| request.machine).collect()
        }
        Operation::DestroyReferencePoints(requests) => requests.iter().map(|request| request.machine).collect(),
        Operation::Export(request) => request.members.iter().map(|member| member.machine).collect(),
        Operation::ChangeState { machine, .. } | Operation::Merge { machine } => vec![*machine],
    }
}

/// True for a disk that can hold tags.
pub(super) fn is_own(disk: &super::super::DiskDefinition) -> bool {
    disk.format == super::super::DiskFormat::Qcow2 && !disk.pass_through && !disk.read_only
}

/// The tags of each disk of a machine, asked of its process if it has one.
async fn all_tags(machine: &Arc<Machine>) -> Result<Vec<(DiskImage, Vec<Tag>)>, BackendError> {
    let disks: Vec<_> = machine.definition.disks.iter().filter(|disk| is_own(disk)).collect();
    let nodes = match machine.monitor().await? {
        Some(monitor) => machine.nodes(&monitor, &disks).await?,
        None => disks.iter().map(|_| None).collect(),
    };
    let mut all = Vec::new();
    for (disk, node) in disks.into_iter().zip(nodes) {
        let tags = match node {
            Some(node) => node.medium.image.snapshots,
            None if disk.path.exists() => {
                machine.images.info(&disk.path).await.map_err(|error| error.on_disk(&disk.name))?.snapshots
            }
            None => continue,
        };
        let image = DiskImage {
            disk: disk.name.clone(),
            source: disk.path.clone(),
            file: disk.path.clone(),
            format: disk.format,
            internal: true,
            bytes: 0,
        };
        all.push((image, tags));
    }
    Ok(all)
}

/// What lies inside the disks of a machine, each read once.
struct Inside<'a> {
    machine: &'a Arc<Machine>,
    media: Vec<InsertedMedium>,
    read: HashMap<PathBuf, Vec<Tag>>,
}

impl<'a> Inside<'a> {
    async fn of(machine: &'a Arc<Machine>) -> Result<Self, BackendError> {
        let media = match machine.monitor().await? {
            Some(monitor) => {
                monitor.media().await.map_err(|error| BackendError::new("ask for the disks", error.into()))?
            }
            None => Vec::new(),
        };
        Ok(Self { machine, media, read: HashMap::new() })
    }

    /// True when every disk of a snapshot has its tag, or its layers.
    async fn holds(&mut self, disks: &[DiskImage], snapshot: Guid) -> Result<bool, BackendError> {
        for disk in disks.iter().filter(|disk| is_layered(disk)) {
            if !self.machine.overlays().is_whole(&disk.disk, snapshot).await? {
                return Ok(false);
            }
        }
        let tag = snapshot.to_string();
        for disk in disks.iter().filter(|disk| is_tagged(disk)) {
            if !self.tags(disk).await?.iter().any(|known| known.name == tag) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn tags(&mut self, disk: &DiskImage) -> Result<&[Tag], BackendError> {
        let wanted = canonical(&disk.file);
        if !self.read.contains_key(&wanted) {
            let live = self.media.iter().find(|medium| canonical(Path::new(&medium.file)) == wanted);
            let tags = match live {
                Some(medium) => medium.image.snapshots.clone(),
                None => {
                    self.machine.images.info(&disk.file).await.map_err(|error| error.on_disk(&disk.disk))?.snapshots
                }
            };
            self.read.insert(wanted.clone(), tags);
        }
        Ok(self.read.get(&wanted).map_or(&[], Vec::as_slice))
    }
}

fn remove_if_empty(directory: &Path) -> Result<(), BackendError> {
    match fs::remove_dir(directory) {
        Err(error) if !matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty) => {
            Err(BackendError::io("remove the snapshot directory", directory, error))
        }
        _ => Ok(()),
    }
}
