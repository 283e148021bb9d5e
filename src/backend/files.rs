//! Machines that are off, with their disks in raw or qcow2 files; needs no tool installed.
//!
//! A snapshot is one file a disk in `<data>/snapshots/<snapshot>/<disk>.<format>`. It is written under a temporary name,
//! forced to disk and renamed, so that a file under its final name is complete. Machines are run by somebody else:
//! every operation takes the lock of each disk, and fails for a disk that somebody else has locked.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::copy::{self, on_thread};
use super::{
    ApplyRequest, BackendError, BoxFuture, Capabilities, Cause, DestroyRequest, DiskDefinition, DiskFormat, DiskImage,
    ExportRequest, Hypervisor, JournalStep, MachineDefinition, MachineReport, MachineState, Operation, PowerAction,
    Progress, Recovery, SnapshotOutcome, SnapshotRequest, StepControl,
};
use super::{export, files_apply, files_export};
use crate::time::Guid;

/// Machines that are off, with disks in files.
pub struct FilesHypervisor {
    root: PathBuf,
    machines: BTreeMap<Guid, MachineDefinition>,
}

/// One disk on its way into a snapshot.
struct DiskPlan {
    image: DiskImage,
    partial: PathBuf,
}

/// A machine on its way into a snapshot.
struct MachinePlan {
    request: SnapshotRequest,
    directory: PathBuf,
    disks: Vec<DiskPlan>,
    skipped: Vec<String>,
}

impl FilesHypervisor {
    /// Opens the machines; snapshots go to `snapshots` below `data_dir`.
    ///
    /// # Errors
    /// A [`BackendError`] when the directory cannot be made or a definition is wrong.
    pub fn open(data_dir: &Path, machines: Vec<MachineDefinition>) -> Result<Self, BackendError> {
        const STEP: &str = "open the snapshot directory";
        let root = data_dir.join("snapshots");
        fs::create_dir_all(&root).map_err(|error| BackendError::io(STEP, &root, error))?;
        copy::sync_directory(STEP, data_dir)?;
        let mut known = BTreeMap::new();
        for machine in machines {
            check_definition(&machine)?;
            if let Some(twice) = known.insert(machine.id, machine) {
                let text = format!("two machines have the id {}", twice.id);
                return Err(BackendError::new("read the machine definitions", Cause::NotSupported(text)));
            }
        }
        Ok(Self { root, machines: known })
    }

    fn machine(&self, id: Guid) -> Result<&MachineDefinition, BackendError> {
        let missing =
            || BackendError::new("find the machine", Cause::Unreachable(format!("machine {id} is not defined")));
        self.machines.get(&id).ok_or_else(missing)
    }

    fn plan(&self, request: &SnapshotRequest) -> Result<MachinePlan, BackendError> {
        let machine = self.machine(request.machine)?;
        if request.change_tracking || request.without_data {
            let cause = Cause::NotSupported("this back-end has no change tracking".to_owned());
            return Err(BackendError::new("plan the snapshot", cause));
        }
        let excluded: HashSet<&str> =
            self.non_snapshottable(&machine.disks).into_iter().map(|disk| disk.name.as_str()).collect();
        let directory = self.root.join(request.snapshot.to_string());
        let (mut disks, mut skipped) = (Vec::new(), Vec::new());
        for disk in &machine.disks {
            if excluded.contains(disk.name.as_str()) {
                if !request.ignore_non_snapshottable {
                    let text = if disk.pass_through { "a pass-through disk" } else { "a read-only disk" };
                    let cause = Cause::NotSupported(format!("{text} cannot be snapshotted"));
                    return Err(BackendError::new("plan the snapshot", cause).on_disk(&disk.name));
                }
                skipped.push(disk.name.clone());
                continue;
            }
            let extension = match disk.format {
                DiskFormat::Raw => "raw",
                DiskFormat::Qcow2 => "qcow2",
            };
            let file = directory.join(format!("{}.{extension}", disk.name));
            let partial = directory.join(format!("{}.{extension}.partial", disk.name));
            let (disk, source, format) = (disk.name.clone(), disk.path.clone(), disk.format);
            disks
                .push(DiskPlan { image: DiskImage { disk, source, file, format, internal: false, bytes: 0 }, partial });
        }
        Ok(MachinePlan { request: request.clone(), directory, disks, skipped })
    }

    async fn create(
        &self,
        requests: &[SnapshotRequest],
        control: &StepControl,
    ) -> Result<Vec<SnapshotOutcome>, BackendError> {
        let plans = requests.iter().map(|request| self.plan(request)).collect::<Result<Vec<_>, _>>()?;
        let disks = || plans.iter().flat_map(|plan| &plan.disks);
        let files: Vec<PathBuf> = disks().flat_map(|disk| [disk.image.file.clone(), disk.partial.clone()]).collect();
        let directories: Vec<PathBuf> = plans.iter().map(|plan| plan.directory.clone()).collect();
        let cancelled = |_| BackendError::new("take the snapshot", Cause::Cancelled);
        control.record(JournalStep::Planned { files: files.clone() }).await.map_err(cancelled)?;
        let (root, meter) = (self.root.clone(), control.clone());
        let made =
            on_thread("take the snapshot", control.cancelled(), move |cancel| make_all(&root, &plans, &meter, cancel));
        let result = match made.await {
            Ok(outcomes) => {
                let step = JournalStep::DisksDone { outcomes: outcomes.clone() };
                control.record(step).await.map(|()| outcomes).map_err(cancelled)
            }
            Err(error) => Err(error),
        };
        if result.is_err() {
            let unstoppable = CancellationToken::new();
            on_thread("remove the unfinished snapshot", &unstoppable, move |_| discard(&files, &directories)).await?;
        }
        result
    }
}

fn check_definition(machine: &MachineDefinition) -> Result<(), BackendError> {
    let mut names = HashSet::new();
    for disk in &machine.disks {
        let usable = !disk.name.is_empty() && !disk.name.starts_with('.') && !disk.name.contains(['/', '\0']);
        if !usable || !names.insert(disk.name.as_str()) {
            let text = format!("a disk of machine {} has an unusable or repeated name", machine.name);
            return Err(
                BackendError::new("read the machine definitions", Cause::NotSupported(text)).on_disk(&disk.name)
            );
        }
    }
    Ok(())
}

/// Makes every file of every machine; the caller removes them all when one fails.
fn make_all(
    root: &Path,
    plans: &[MachinePlan],
    meter: &StepControl,
    cancel: &CancellationToken,
) -> Result<Vec<SnapshotOutcome>, BackendError> {
    const OPEN: &str = "open the disk";
    const MAKE: &str = "make the snapshot file";
    let mut copies = Vec::new();
    let mut locks: Vec<File> = Vec::new();
    for plan in plans {
        fs::create_dir_all(&plan.directory).map_err(|error| BackendError::io(MAKE, &plan.directory, error))?;
        for disk in &plan.disks {
            let named = |error: BackendError| error.on_disk(&disk.image.disk);
            let source = copy::open_locked(OPEN, &disk.image.source).map_err(named)?;
            let target = copy::create_private(MAKE, &disk.partial).map_err(named)?;
            if copy::try_clone(&source, &target).map_err(|error| named(BackendError::io(MAKE, &disk.partial, error)))? {
                target.sync_all().map_err(|error| named(BackendError::io(MAKE, &disk.partial, error)))?;
                locks.push(source);
            } else {
                copies.push((disk, source, target));
            }
        }
    }
    copy_all(root, &copies, meter, cancel)?;
    if cancel.is_cancelled() {
        // Whoever waited may be gone and have removed the files already; nothing gets its name after that.
        return Err(BackendError::new(MAKE, Cause::Cancelled));
    }
    let mut outcomes = Vec::new();
    for plan in plans {
        let mut images = Vec::new();
        for disk in &plan.disks {
            let finish = |error| BackendError::io(MAKE, &disk.partial, error).on_disk(&disk.image.disk);
            fs::rename(&disk.partial, &disk.image.file).map_err(finish)?;
            let bytes = fs::metadata(&disk.image.file).map_err(finish)?.len();
            images.push(DiskImage { bytes, ..disk.image.clone() });
        }
        copy::sync_directory(MAKE, &plan.directory)?;
        outcomes.push(SnapshotOutcome {
            machine: plan.request.machine,
            snapshot: plan.request.snapshot,
            disks: images,
            skipped: plan.skipped.clone(),
            memory: None,
            application_consistent: true,
            launch: None,
            paused_ms: 0,
            frozen_ms: 0,
            tracking: Vec::new(),
        });
    }
    copy::sync_directory(MAKE, root)?;
    Ok(outcomes)
}

fn copy_all(
    root: &Path,
    copies: &[(&DiskPlan, File, File)],
    meter: &StepControl,
    cancel: &CancellationToken,
) -> Result<(), BackendError> {
    const COPY: &str = "copy to the snapshot file";
    let mut total = 0;
    for (disk, source, _) in copies {
        let extents = copy::data_extents(source)
            .map_err(|error| BackendError::io(COPY, &disk.image.source, error).on_disk(&disk.image.disk))?;
        total += extents.iter().map(|(start, end)| end - start).sum::<u64>();
    }
    let names = || copies.iter().map(|(disk, ..)| disk.image.disk.as_str()).collect::<Vec<_>>().join(", ");
    copy::check_space("check the space for the snapshot", root, total).map_err(|error| error.on_disk(names()))?;
    let mut done = 0;
    for (disk, source, target) in copies {
        copy::copy_sparse(source, target, cancel, &mut |bytes| {
            done += bytes;
            meter.report(Progress { done: done.min(total), total });
        })
        .map_err(|error| error.at(COPY, &disk.image.source).on_disk(&disk.image.disk))?;
    }
    Ok(())
}

/// Removes the files of snapshots, but none that something else refers to.
fn destroy(root: &Path, requests: &[DestroyRequest]) -> Result<(), BackendError> {
    for request in requests {
        for file in request.files.iter().filter(|file| !request.referenced.contains(*file)) {
            copy::remove_file("remove the snapshot file", file)?;
        }
    }
    let directories: Vec<_> = requests.iter().map(|request| root.join(request.snapshot.to_string())).collect();
    remove_empty(&directories)?;
    copy::sync_directory("remove the snapshot file", root)
}

/// Removes files and then their directories, as far as those are empty.
fn discard(files: &[PathBuf], directories: &[PathBuf]) -> Result<(), BackendError> {
    for file in files {
        copy::remove_file("remove the unfinished snapshot", file)?;
    }
    remove_empty(directories)
}

fn remove_empty(directories: &[PathBuf]) -> Result<(), BackendError> {
    for directory in directories {
        match fs::remove_dir(directory) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty) => {}
            Err(error) => return Err(BackendError::io("remove the snapshot directory", directory, error)),
        }
    }
    Ok(())
}

/// What the guest sees of a disk, in bytes.
pub(super) fn virtual_size(disk: &DiskDefinition) -> Option<u64> {
    match disk.format {
        DiskFormat::Raw => fs::metadata(&disk.path).ok().map(|metadata| metadata.len()),
        DiskFormat::Qcow2 => {
            let mut header = [0; 32];
            File::open(&disk.path).ok()?.read_exact_at(&mut header, 0).ok()?;
            let (magic, size) = (header.first_chunk::<4>()?, header.last_chunk::<8>()?);
            (magic == b"QFI\xfb").then(|| u64::from_be_bytes(*size))
        }
    }
}

impl Hypervisor for FilesHypervisor {
    fn capabilities(&self) -> Capabilities {
        Capabilities { progress: true, cancel: true, group_instant: true, ..Capabilities::default() }
    }

    fn machines(&self) -> BoxFuture<'_, Result<Vec<MachineReport>, BackendError>> {
        Box::pin(async {
            let report = |machine: &MachineDefinition| MachineReport {
                definition: machine.clone(),
                state: MachineState::Off,
                foreign: Some(Vec::new()),
                virtual_sizes: machine.disks.iter().map(virtual_size).collect(),
                serial_ports: Vec::new(),
                process: None,
            };
            Ok(self.machines.values().map(report).collect())
        })
    }

    fn state(&self, machine: Guid) -> BoxFuture<'_, Result<MachineState, BackendError>> {
        Box::pin(async move { self.machine(machine).map(|_| MachineState::Off) })
    }

    fn create_snapshots<'a>(
        &'a self,
        requests: &'a [SnapshotRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<Vec<SnapshotOutcome>, BackendError>> {
        Box::pin(self.create(requests, control))
    }

    fn apply_snapshots<'a>(
        &'a self,
        requests: &'a [ApplyRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            for request in requests {
                self.machine(request.machine)?;
            }
            files_apply::apply(requests, control).await
        })
    }

    fn destroy_snapshots<'a>(
        &'a self,
        requests: &'a [DestroyRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let cancelled = |_| BackendError::new("destroy the snapshot", Cause::Cancelled);
            control.record(JournalStep::Removing).await.map_err(cancelled)?;
            let (root, requests) = (self.root.clone(), requests.to_vec());
            on_thread("destroy the snapshot", control.cancelled(), move |_| destroy(&root, &requests)).await
        })
    }

    fn clear_memory<'a>(&'a self, _: &'a DestroyRequest) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn export_snapshots<'a>(
        &'a self,
        request: &'a ExportRequest,
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(files_export::export(request, control))
    }

    fn change_state<'a>(
        &'a self,
        _: Guid,
        _: PowerAction,
        _: &'a StepControl,
    ) -> BoxFuture<'a, Result<MachineState, BackendError>> {
        let cause = Cause::NotSupported("this back-end runs no machines".to_owned());
        Box::pin(std::future::ready(Err(BackendError::new("change the state", cause))))
    }

    fn recover<'a>(
        &'a self,
        operation: &'a Operation,
        journal: &'a [JournalStep],
    ) -> BoxFuture<'a, Result<Recovery, BackendError>> {
        Box::pin(async move {
            match operation {
                Operation::Create(requests) => {
                    let (root, requests, journal) = (self.root.clone(), requests.clone(), journal.to_vec());
                    let recover = move |_: &CancellationToken| recover_create(&root, &requests, &journal);
                    on_thread("recover", &CancellationToken::new(), recover).await
                }
                Operation::Apply(_) => {
                    let journal = journal.to_vec();
                    on_thread("recover", &CancellationToken::new(), move |_| files_apply::recover(&journal)).await
                }
                Operation::Destroy(requests) if journal.contains(&JournalStep::Removing) => {
                    let (root, requests) = (self.root.clone(), requests.clone());
                    on_thread("recover", &CancellationToken::new(), move |_| destroy(&root, &requests)).await?;
                    Ok(Recovery::Finished(Vec::new()))
                }
                Operation::Export(_) => export::recover(journal).await,
                Operation::Destroy(_)
                | Operation::ChangeState { .. }
                | Operation::Merge { .. }
                | Operation::Convert(_)
                | Operation::DestroyReferencePoints(_) => Ok(Recovery::RolledBack),
            }
        })
    }

    fn missing_files<'a>(&'a self, files: &'a [PathBuf]) -> BoxFuture<'a, BTreeSet<PathBuf>> {
        Box::pin(async move { files.iter().filter(|file| !file.is_file()).cloned().collect() })
    }

    fn remove_orphans<'a>(
        &'a self,
        owned: &'a BTreeSet<Guid>,
        referenced: &'a HashSet<PathBuf>,
    ) -> BoxFuture<'a, Result<Vec<PathBuf>, BackendError>> {
        Box::pin(async move {
            let mut removed = self.remove_unowned_snapshots(owned, referenced)?;
            let disks = self.machines.values().flat_map(|machine| &machine.disks);
            let paths: Vec<&Path> = disks.map(|disk| disk.path.as_path()).collect();
            removed.extend(files_apply::remove_staged(&paths, referenced)?);
            Ok(removed)
        })
    }
}

impl FilesHypervisor {
    fn remove_unowned_snapshots(
        &self,
        owned: &BTreeSet<Guid>,
        referenced: &HashSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, BackendError> {
        const STEP: &str = "look for files nobody owns";
        let mut removed = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(|error| BackendError::io(STEP, &self.root, error))? {
            let directory = entry.map_err(|error| BackendError::io(STEP, &self.root, error))?.path();
            let id = directory.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Guid>().ok());
            if !directory.is_dir() || id.is_none_or(|id| owned.contains(&id)) {
                continue;
            }
            for file in fs::read_dir(&directory).map_err(|error| BackendError::io(STEP, &directory, error))? {
                let file = file.map_err(|error| BackendError::io(STEP, &directory, error))?.path();
                if file.is_file() && !referenced.contains(&file) {
                    copy::remove_file(STEP, &file)?;
                    removed.push(file);
                }
            }
            remove_empty(&[directory])?;
        }
        Ok(removed)
    }
}

fn recover_create(
    root: &Path,
    requests: &[SnapshotRequest],
    journal: &[JournalStep],
) -> Result<Recovery, BackendError> {
    for step in journal {
        if let JournalStep::DisksDone { outcomes } = step
            && outcomes.iter().flat_map(|outcome| &outcome.disks).all(|disk| disk.file.is_file())
        {
            return Ok(Recovery::Finished(outcomes.clone()));
        }
    }
    let planned = journal.iter().filter_map(|step| match step {
        JournalStep::Planned { files } => Some(files.as_slice()),
        _ => None,
    });
    let files: Vec<PathBuf> = planned.flatten().cloned().collect();
    let directories: Vec<_> = requests.iter().map(|request| root.join(request.snapshot.to_string())).collect();
    discard(&files, &directories)?;
    Ok(Recovery::RolledBack)
}
