//! Applying snapshots over disk files: copies beside the disks first, then copies and disks change places.
//!
//! Until all copies are complete nothing has changed and they are removed; what follows is in [`replace`].

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::copy::{self, on_thread};
use super::replace;
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
    const STEP: &str = "apply the snapshot";
    let requests = requests.to_vec();
    let plans = on_thread(STEP, control.cancelled(), move |_| plan_all(&requests)).await?;
    let staged: Vec<PathBuf> = plans.iter().map(|plan| plan.file.staged.clone()).collect();
    let cancelled = |_| BackendError::new(STEP, Cause::Cancelled);
    control.record(JournalStep::Planned { files: staged.clone() }).await.map_err(cancelled)?;
    let meter = control.clone();
    let work = on_thread(STEP, control.cancelled(), move |cancel| stage_all(&plans, &meter, cancel));
    let result = match work.await {
        Ok((files, locks)) => {
            let step = JournalStep::Staged { files: files.clone() };
            control.record(step).await.map(|()| (files, locks)).map_err(cancelled)
        }
        Err(error) => Err(error),
    };
    // What follows is not to be given up half way.
    let unstoppable = CancellationToken::new();
    match result {
        Ok((files, locks)) => {
            on_thread(STEP, &unstoppable, move |_| {
                let replaced = replace::replace(&files, &replace::rename);
                drop(locks);
                replaced
            })
            .await
        }
        Err(error) => {
            on_thread(STEP, &unstoppable, move |_| replace::remove("remove the unfinished copy", &staged)).await?;
            Err(error)
        }
    }
}

fn plan_all(requests: &[ApplyRequest]) -> Result<Vec<DiskPlan>, BackendError> {
    let images = requests.iter().flat_map(|request| request.disks.iter().map(move |image| (request, image)));
    images.enumerate().map(|(number, (request, image))| plan(request, image, number)).collect()
}

fn plan(request: &ApplyRequest, image: &super::DiskImage, number: usize) -> Result<DiskPlan, BackendError> {
    // A link is followed, so that the file it names is replaced and not the link.
    let target = fs::canonicalize(&image.source).unwrap_or_else(|_| image.source.clone());
    let directory = target.parent().ok_or_else(|| {
        let text = format!("{} has no directory", target.display());
        BackendError::new("plan the application", Cause::NotSupported(text)).on_disk(&image.disk)
    })?;
    let staged = directory.join(format!("{PREFIX}{}-{number}{SUFFIX}", request.operation));
    let file = StagedFile { staged, target, ..StagedFile::default() };
    Ok(DiskPlan { disk: image.disk.clone(), source: image.file.clone(), file })
}

/// Makes all copies; the disks stay locked as long as the returned files are open.
fn stage_all(
    plans: &[DiskPlan],
    meter: &StepControl,
    cancel: &CancellationToken,
) -> Result<(Vec<StagedFile>, Vec<File>), BackendError> {
    const STAGE: &str = "copy beside the disk";
    let (mut files, mut locks) = (Vec::new(), Vec::new());
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
        let inode = Some(staged.metadata().map_err(io)?.ino());
        files.push(StagedFile { inode, new: lock.is_none(), ..plan.file.clone() });
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
    copy_all(&copies, total, meter, cancel)?;
    for directory in plans.iter().filter_map(|plan| plan.file.target.parent()).collect::<BTreeSet<_>>() {
        copy::sync_directory(STAGE, directory)?;
    }
    Ok((files, locks))
}

fn copy_all(
    copies: &[(&DiskPlan, File, File)],
    total: u64,
    meter: &StepControl,
    cancel: &CancellationToken,
) -> Result<(), BackendError> {
    let mut done = 0;
    for (plan, source, staged) in copies {
        copy::copy_sparse(source, staged, cancel, &mut |bytes| {
            done += bytes;
            meter.report(Progress { done: done.min(total), total });
        })
        .map_err(|error| error.at("copy beside the disk", &plan.file.staged).on_disk(&plan.disk))?;
    }
    Ok(())
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

pub(super) fn recover(journal: &[JournalStep]) -> Result<Recovery, BackendError> {
    for step in journal {
        if let JournalStep::Staged { files } = step {
            return replace::recover(files, &replace::rename);
        }
    }
    for step in journal {
        if let JournalStep::Planned { files } = step {
            let ours: Vec<PathBuf> = files.iter().filter(|file| is_ours(file)).cloned().collect();
            replace::remove("remove the unfinished copy", &ours)?;
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
