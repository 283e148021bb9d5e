//! Pools that are directories and volumes that are files.
//!
//! A snapshot is a volume of its own, made by reflink where the filesystem can and the pool allows it, else by copy.
//! It is written under a temporary name, forced to disk and renamed: a file under its final name is complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::copy::{self, on_thread};
use super::{
    BackendError, BoxFuture, Cause, JournalStep, PoolDefinition, PoolSnapshots, Progress, StepControl, VolumeManager,
    VolumePoolReport, VolumeReport, VolumeSnapshotRequest,
};
use crate::time::{Guid, Timestamp};

const PREFIX: &str = ".wsnapd-";
const SUFFIX: &str = ".partial";

/// Pools that are directories, with volumes that are files.
pub struct DirectoryPools {
    pools: BTreeMap<String, Pool>,
}

struct Pool {
    definition: PoolDefinition,
    reflink: bool,
}

/// Where a snapshot comes from and goes to.
struct Plan {
    source: PathBuf,
    partial: PathBuf,
    target: PathBuf,
    directory: PathBuf,
    clone: bool,
    copy: bool,
}

impl DirectoryPools {
    /// Opens the pools and finds out which of their filesystems can clone.
    ///
    /// # Errors
    /// A [`BackendError`] when a directory cannot be used or a name is repeated.
    pub fn open(definitions: Vec<PoolDefinition>) -> Result<Self, BackendError> {
        let mut pools = BTreeMap::new();
        for definition in definitions {
            let reflink = probe(&definition.path).map_err(|error| error.on_disk(&definition.name))?;
            let name = definition.name.clone();
            if pools.insert(name.clone(), Pool { definition, reflink }).is_some() {
                let cause = Cause::NotSupported("two pools have this name".to_owned());
                return Err(BackendError::new("read the pool definitions", cause).on_disk(name));
            }
        }
        Ok(Self { pools })
    }

    fn pool(&self, name: &str) -> Result<&Pool, BackendError> {
        let gone = || Cause::Unreachable("the pool is not defined".to_owned());
        self.pools.get(name).ok_or_else(|| BackendError::new("find the pool", gone()).on_disk(name))
    }

    fn plan(&self, request: &VolumeSnapshotRequest) -> Result<Plan, BackendError> {
        let (source, target) = (self.pool(&request.source_pool)?, self.pool(&request.target_pool)?);
        let modes = [source.definition.snapshots, target.definition.snapshots];
        if modes.contains(&PoolSnapshots::None) {
            let cause = Cause::NotSupported("snapshots are switched off for the pool".to_owned());
            return Err(BackendError::new("plan the snapshot", cause).on_disk(&request.source));
        }
        let directory = target.definition.path.clone();
        Ok(Plan {
            source: source.definition.path.join(&request.source),
            partial: directory.join(format!("{PREFIX}{}{SUFFIX}", request.id)),
            target: directory.join(&request.target),
            directory,
            clone: !modes.contains(&PoolSnapshots::Copy),
            copy: !modes.contains(&PoolSnapshots::Reflink),
        })
    }
}

/// Tries to clone one small file into another.
fn probe(directory: &Path) -> Result<bool, BackendError> {
    const STEP: &str = "find out whether the pool can clone";
    let names = [directory.join(".wsnapd-probe-1"), directory.join(".wsnapd-probe-2")];
    let result = (|| {
        let (source, target) = (copy::create_private(STEP, &names[0])?, copy::create_private(STEP, &names[1])?);
        source.set_len(4096).map_err(|error| BackendError::io(STEP, &names[0], error))?;
        copy::try_clone(&source, &target).map_err(|error| BackendError::io(STEP, &names[1], error))
    })();
    for name in &names {
        copy::remove_file(STEP, name)?;
    }
    result
}

/// Clones, or finds out that a copy is needed and fits.
fn clone(plan: &Plan) -> Result<Option<VolumeReport>, BackendError> {
    const STEP: &str = "clone the volume";
    let source = copy::open_locked("open the volume", &plan.source)?;
    if plan.clone {
        let target = copy::create_private(STEP, &plan.partial)?;
        let cloned = copy::try_clone(&source, &target)
            .and_then(|cloned| if cloned { target.sync_all().map(|()| true) } else { Ok(false) })
            .map_err(|error| BackendError::io(STEP, &plan.partial, error));
        match cloned {
            Ok(true) => return publish(plan).map(Some),
            Ok(false) => copy::remove_file(STEP, &plan.partial)?,
            Err(error) => {
                copy::remove_file(STEP, &plan.partial)?;
                return Err(error);
            }
        }
    }
    if !plan.copy {
        let cause = Cause::NotSupported("the pool wants reflinks and its filesystem has none".to_owned());
        return Err(BackendError::new(STEP, cause));
    }
    copy::check_space("check the space for the copy", &plan.directory, data_bytes(&source, &plan.source)?)?;
    Ok(None)
}

fn data_bytes(file: &File, path: &Path) -> Result<u64, BackendError> {
    let extents = copy::data_extents(file).map_err(|error| BackendError::io("measure the volume", path, error))?;
    Ok(extents.iter().map(|(start, end)| end - start).sum())
}

fn copy_volume(plan: &Plan, meter: &StepControl, cancel: &CancellationToken) -> Result<VolumeReport, BackendError> {
    const STEP: &str = "copy the volume";
    let source = copy::open_locked("open the volume", &plan.source)?;
    let total = data_bytes(&source, &plan.source)?;
    copy::check_space("check the space for the copy", &plan.directory, total)?;
    let target = copy::create_private(STEP, &plan.partial)?;
    let mut done = 0;
    copy::copy_sparse(&source, &target, cancel, &mut |bytes| {
        done += bytes;
        meter.report(Progress { done: done.min(total), total });
    })
    .map_err(|error| error.at(STEP, &plan.source))?;
    publish(plan)
}

/// Gives the complete file its name.
fn publish(plan: &Plan) -> Result<VolumeReport, BackendError> {
    const STEP: &str = "name the new volume";
    let named = fs::rename(&plan.partial, &plan.target)
        .map_err(|error| BackendError::io(STEP, &plan.target, error))
        .and_then(|()| copy::sync_directory(STEP, &plan.directory))
        .and_then(|()| report(&plan.target).map_err(|error| BackendError::io(STEP, &plan.target, error)));
    if named.is_err() {
        copy::remove_file("remove the unfinished copy", &plan.partial)?;
        copy::remove_file("remove the unfinished copy", &plan.target)?;
    }
    named
}

fn report(path: &Path) -> std::io::Result<VolumeReport> {
    let metadata = fs::metadata(path)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(VolumeReport {
        name,
        path: path.to_path_buf(),
        bytes: metadata.len(),
        allocated_bytes: copy::allocated(&metadata),
        created: metadata.created().or_else(|_| metadata.modified()).ok().map(Timestamp::from),
    })
}

fn measure(definition: &PoolDefinition, reflink: bool) -> Result<VolumePoolReport, BackendError> {
    let PoolDefinition { name, path, snapshots } = definition;
    let status = rustix::fs::statvfs(path).map_err(|error| BackendError::io("measure the pool", path, error.into()))?;
    Ok(VolumePoolReport {
        name: name.clone(),
        path: path.clone(),
        instant_clone: reflink && matches!(snapshots, PoolSnapshots::Auto | PoolSnapshots::Reflink),
        copy: matches!(snapshots, PoolSnapshots::Auto | PoolSnapshots::Copy),
        read_only: status.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        total_bytes: status.f_blocks.saturating_mul(status.f_frsize),
        free_bytes: status.f_bavail.saturating_mul(status.f_frsize),
    })
}

fn list(path: &Path) -> Result<Vec<VolumeReport>, BackendError> {
    const STEP: &str = "list the volumes";
    let mut volumes = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| BackendError::io(STEP, path, error))? {
        let entry = entry.map_err(|error| BackendError::io(STEP, path, error))?;
        let hidden = entry.file_name().to_str().is_none_or(|name| name.starts_with('.'));
        if hidden || !entry.path().is_file() {
            continue;
        }
        match report(&entry.path()) {
            Ok(volume) => volumes.push(volume),
            // It went while the list was made.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(BackendError::io(STEP, &entry.path(), error)),
        }
    }
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(volumes)
}

fn is_temporary(name: &str) -> bool {
    let id = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
    id.is_some_and(|id| id.parse::<Guid>().is_ok())
}

impl VolumeManager for DirectoryPools {
    /// A pool that cannot be measured now is left out: what is known of it stays.
    fn pools(&self) -> BoxFuture<'_, Result<Vec<VolumePoolReport>, BackendError>> {
        Box::pin(async {
            let pools: Vec<_> = self.pools.values().map(|pool| (pool.definition.clone(), pool.reflink)).collect();
            on_thread("measure the pools", &CancellationToken::new(), move |_| {
                let measured = pools.iter().filter_map(|(definition, reflink)| {
                    let unknown = |error| warn!(%error, pool = definition.name, "A pool cannot be measured");
                    measure(definition, *reflink).map_err(unknown).ok()
                });
                Ok(measured.collect())
            })
            .await
        })
    }

    fn volumes<'a>(&'a self, pool: &'a str) -> BoxFuture<'a, Result<Vec<VolumeReport>, BackendError>> {
        Box::pin(async move {
            let path = self.pool(pool)?.definition.path.clone();
            on_thread("list the volumes", &CancellationToken::new(), move |_| list(&path)).await
        })
    }

    fn instant_snapshot<'a>(
        &'a self,
        request: &'a VolumeSnapshotRequest,
    ) -> BoxFuture<'a, Result<Option<VolumeReport>, BackendError>> {
        Box::pin(async move {
            let plan = self.plan(request)?;
            on_thread("clone the volume", &CancellationToken::new(), move |_| clone(&plan))
                .await
                .map_err(|error| error.on_disk(&request.source))
        })
    }

    fn copy_snapshot<'a>(
        &'a self,
        request: &'a VolumeSnapshotRequest,
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<VolumeReport, BackendError>> {
        Box::pin(async move {
            const STEP: &str = "copy the volume";
            let plan = self.plan(request)?;
            let meter = control.clone();
            let files = vec![plan.partial.clone(), plan.target.clone()];
            let cancelled = |_| BackendError::new(STEP, Cause::Cancelled).on_disk(&request.source);
            control.record(JournalStep::Planned { files }).await.map_err(cancelled)?;
            let work = on_thread(STEP, control.cancelled(), move |cancel| {
                let copied = copy_volume(&plan, &meter, cancel);
                if copied.is_err() {
                    copy::remove_file("remove the unfinished copy", &plan.partial)?;
                }
                copied
            });
            work.await.map_err(|error| error.on_disk(&request.source))
        })
    }

    fn delete_volume<'a>(&'a self, pool: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            const STEP: &str = "delete the volume";
            let directory = self.pool(pool)?.definition.path.clone();
            let file = directory.join(name);
            on_thread(STEP, &CancellationToken::new(), move |_| {
                // Held until the name is gone, so that no hypervisor begins to use it meanwhile.
                let _lock = copy::open_locked(STEP, &file)?;
                copy::remove_file(STEP, &file)?;
                copy::sync_directory(STEP, &directory)
            })
            .await
            .map_err(|error| error.on_disk(name))
        })
    }

    fn recover<'a>(
        &'a self,
        request: &'a VolumeSnapshotRequest,
        _: &'a [JournalStep],
    ) -> BoxFuture<'a, Result<Option<VolumeReport>, BackendError>> {
        Box::pin(async move {
            let Ok(pool) = self.pool(&request.target_pool) else {
                // Nobody knows any more where the copy was to go, so it can never be finished.
                warn!(pool = request.target_pool, "The pool of an interrupted copy is no longer defined");
                return Ok(None);
            };
            let directory = &pool.definition.path;
            copy::remove_file(
                "remove the unfinished copy",
                &directory.join(format!("{PREFIX}{}{SUFFIX}", request.id)),
            )?;
            let target = directory.join(&request.target);
            match report(&target) {
                Ok(report) => Ok(Some(report)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(BackendError::io("look for the copy", &target, error)),
            }
        })
    }

    fn remove_orphans(&self) -> BoxFuture<'_, Result<Vec<PathBuf>, BackendError>> {
        Box::pin(async {
            const STEP: &str = "look for files nobody owns";
            let mut removed = Vec::new();
            for pool in self.pools.values() {
                let path = &pool.definition.path;
                for entry in fs::read_dir(path).map_err(|error| BackendError::io(STEP, path, error))? {
                    let entry = entry.map_err(|error| BackendError::io(STEP, path, error))?;
                    if entry.file_name().to_str().is_some_and(is_temporary) {
                        copy::remove_file(STEP, &entry.path())?;
                        removed.push(entry.path());
                    }
                }
            }
            Ok(removed)
        })
    }
}
