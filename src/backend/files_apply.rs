//! Applying snapshots over disk files: copies beside the disks first, then one rename a disk.
//!
//! Until all copies are complete nothing has changed and they are removed; from then on the renames are repeated
//! until all are done, also after a crash.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::copy::{self, on_thread};
use super::{ApplyRequest, BackendError, Cause, JournalStep, Progress, Recovery, StagedFile, StepControl};

const PREFIX: &str = ".wsnapd-";
const SUFFIX: &str = ".staged";

/// A disk to be replaced.
struct DiskPlan {
    disk: String,
    source: PathBuf,
    file: StagedFile,
}

pub(super) async fn apply(requests: &[ApplyRequest], control: &StepControl) -> Result<(), BackendError> {
    let mut plans = Vec::new();
    for request in requests {
        for image in &request.disks {
            plans.push(plan(request, image, plans.len())?);
        }
    }
    let files: Vec<StagedFile> = plans.iter().map(|plan| plan.file.clone()).collect();
    let staged: Vec<PathBuf> = files.iter().map(|file| file.staged.clone()).collect();
    let cancelled = |_| BackendError::new("apply the snapshot", Cause::Cancelled);
    control.record(JournalStep::Planned { files: staged.clone() }).await.map_err(cancelled)?;
    let meter = control.clone();
    let work = on_thread("apply the snapshot", control.cancelled(), move |cancel| stage_all(&plans, &meter, cancel));
    let result = match work.await {
        Ok(locks) => {
            control.record(JournalStep::Staged { files: files.clone() }).await.map(|()| locks).map_err(cancelled)
        }
        Err(error) => Err(error),
    };
    match result {
        Ok(locks) => {
            on_thread("replace the disk", control.cancelled(), move |_| {
                let replaced = finish(&files);
                drop(locks);
                replaced
            })
            .await
        }
        Err(error) => {
            for file in &staged {
                copy::remove_file("remove the unfinished copy", file)?;
            }
            Err(error)
        }
    }
}

fn plan(request: &ApplyRequest, image: &super::DiskImage, number: usize) -> Result<DiskPlan, BackendError> {
    // A link is followed, so that the file it names is replaced and not the link.
    let target = fs::canonicalize(&image.source).unwrap_or_else(|_| image.source.clone());
    let directory = target.parent().ok_or_else(|| {
        let text = format!("{} has no directory", target.display());
        BackendError::new("plan the application", Cause::NotSupported(text)).on_disk(&image.disk)
    })?;
    let staged = directory.join(format!("{PREFIX}{}-{number}{SUFFIX}", request.operation));
    Ok(DiskPlan { disk: image.disk.clone(), source: image.file.clone(), file: StagedFile { staged, target } })
}

/// Makes all copies; the disks stay locked as long as the returned files are open.
fn stage_all(plans: &[DiskPlan], meter: &StepControl, cancel: &CancellationToken) -> Result<Vec<File>, BackendError> {
    const STAGE: &str = "copy beside the disk";
    let mut locks = Vec::new();
    let mut copies = Vec::new();
    let (mut total, mut needed) = (0, std::collections::BTreeMap::<PathBuf, u64>::new());
    for plan in plans {
        let named = |error: BackendError| error.on_disk(&plan.disk);
        let source = File::open(&plan.source)
            .map_err(|error| named(BackendError::io("open the snapshot file", &plan.source, error)))?;
        let lock = match copy::open_locked("open the disk", &plan.file.target) {
            Ok(lock) => Some(lock),
            Err(BackendError { cause: Cause::FileNotFound(_), .. }) => None,
            Err(error) => return Err(named(error)),
        };
        let staged = copy::create_private(STAGE, &plan.file.staged).map_err(named)?;
        let io = |error| named(BackendError::io(STAGE, &plan.file.staged, error));
        if let Some(lock) = lock {
            take_over_owner(&lock, &staged).map_err(io)?;
            locks.push(lock);
        }
        if copy::try_clone(&source, &staged).map_err(io)? {
            staged.sync_all().map_err(io)?;
            continue;
        }
        let bytes: u64 = copy::data_extents(&source).map_err(io)?.iter().map(|(start, end)| end - start).sum();
        let directory = plan.file.target.parent().unwrap_or(Path::new("/")).to_path_buf();
        *needed.entry(directory).or_default() += bytes;
        total += bytes;
        copies.push((plan, source, staged));
    }
    for (directory, bytes) in &needed {
        let disks: Vec<&str> = copies
            .iter()
            .filter(|(plan, ..)| plan.file.target.starts_with(directory))
            .map(|(plan, ..)| plan.disk.as_str())
            .collect();
        copy::check_space("check the space beside the disk", directory, *bytes)
            .map_err(|error| error.on_disk(disks.join(", ")))?;
    }
    let mut done = 0;
    for (plan, source, staged) in &copies {
        copy::copy_sparse(source, staged, cancel, &mut |bytes| {
            done += bytes;
            meter.report(Progress { done: done.min(total), total });
        })
        .map_err(|error| error.at(STAGE, &plan.file.staged).on_disk(&plan.disk))?;
    }
    for directory in plans.iter().filter_map(|plan| plan.file.target.parent()).collect::<BTreeSet<_>>() {
        copy::sync_directory(STAGE, directory)?;
    }
    Ok(locks)
}

/// The copy gets mode and, where we may, owner of the disk it replaces.
fn take_over_owner(disk: &File, staged: &File) -> std::io::Result<()> {
    let metadata = disk.metadata()?;
    let own = staged.metadata()?;
    if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
        match fchown(staged, Some(metadata.uid()), Some(metadata.gid())) {
            Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => return Err(error),
            _ => {}
        }
    }
    staged.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))
}

/// Renames every copy over its disk. A copy that is gone was renamed before.
fn finish(files: &[StagedFile]) -> Result<(), BackendError> {
    const STEP: &str = "replace the disk";
    for file in files {
        match fs::rename(&file.staged, &file.target) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.target.exists() => {}
            Err(error) => return Err(BackendError::io(STEP, &file.target, error)),
            Ok(()) => {}
        }
    }
    for directory in files.iter().filter_map(|file| file.target.parent()).collect::<BTreeSet<_>>() {
        copy::sync_directory(STEP, directory)?;
    }
    Ok(())
}

pub(super) fn recover(journal: &[JournalStep]) -> Result<Recovery, BackendError> {
    for step in journal {
        if let JournalStep::Staged { files } = step {
            finish(files)?;
            return Ok(Recovery::Finished(Vec::new()));
        }
    }
    for step in journal {
        if let JournalStep::Planned { files } = step {
            for file in files.iter().filter(|file| is_ours(file)) {
                copy::remove_file("remove the unfinished copy", file)?;
            }
        }
    }
    Ok(Recovery::RolledBack)
}

/// Removes copies that no journal knows from the directories of the disks.
pub(super) fn remove_staged(disks: &[&Path], referenced: &HashSet<PathBuf>) -> Result<Vec<PathBuf>, BackendError> {
    const STEP: &str = "look for copies nobody owns";
    let resolve = |disk: &Path| fs::canonicalize(disk).unwrap_or_else(|_| disk.to_path_buf());
    let directories: BTreeSet<PathBuf> =
        disks.iter().filter_map(|disk| resolve(disk).parent().map(Path::to_path_buf)).collect();
    let mut removed = Vec::new();
    for directory in directories {
        // A directory that is not there holds no copies.
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.map_err(|error| BackendError::io(STEP, &directory, error))?.path();
            if is_ours(&path) && !referenced.contains(&path) {
                copy::remove_file(STEP, &path)?;
                removed.push(path);
            }
        }
    }
    Ok(removed)
}

/// True for `.wsnapd-<GUID>-<number>.staged`.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let middle = name.and_then(|name| name.strip_prefix(PREFIX)).and_then(|name| name.strip_suffix(SUFFIX));
    middle
        .and_then(|middle| middle.rsplit_once('-'))
        .is_some_and(|(id, number)| id.parse::<crate::time::Guid>().is_ok() && number.parse::<usize>().is_ok())
}
