//! The changes of disks since an instant, kept by QEMU in persistent dirty bitmaps (`backends` §2, Reference point).
//!
//! A bitmap begins in the transaction of the snapshot whose GUID it carries in its name, and records for itself until it
//! is removed; no bitmap depends on another. It belongs to the snapshot first, and after a conversion to the reference
//! point. What QEMU holds in memory is written into the image when the process ends in good order. After one that was
//! killed the image says that its bitmaps have missed something, and such a bitmap is never relied on again.
//!
//! Snapshots inside an image do not hold bitmaps, and QEMU reverts no image that has any: before a snapshot is applied
//! they are removed, as what they say would not be true afterwards.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qapi::qmp;
use serde::Deserialize;

use super::super::{
    BackendError, Cause, DestroyRequest, DiskDefinition, JournalStep, SnapshotRequest, StepControl, TrackedDisk,
    TrackingRequest,
};
use super::QemuHypervisor;
use super::commands::WITH_DISKS;
use super::image::ImageTool;
use super::machine::{Machine, canonical};
use super::member::DiskPlan;
use super::monitor::{Monitor, MonitorError};
use super::recover::is_own;
use crate::time::Guid;

/// Begin of the name of a bitmap of ours; the GUID of the snapshot it began with follows.
const PREFIX: &str = "wsnapd-";
const LOOK: &str = "look for the changes";
const REMOVE: &str = "end the change tracking";

/// The name of the bitmap that began with a snapshot.
pub(super) fn name_of(snapshot: Guid) -> String {
    format!("{PREFIX}{snapshot}")
}

/// The snapshot a bitmap of ours began with; `None` for a bitmap of somebody else.
fn owner_of(name: &str) -> Option<Guid> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// A bitmap of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bitmap {
    pub(super) name: String,
    /// It has seen every change since it began, and goes on recording.
    pub(super) sound: bool,
}

/// An entry of `query-block`, as far as it is about bitmaps.
#[derive(Debug, Deserialize)]
struct Drive {
    inserted: Option<Medium>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Medium {
    file: String,
    node_name: Option<String>,
    /// QEMU has it from version 10 on.
    active: Option<bool>,
    image: Image,
    #[serde(default)]
    dirty_bitmaps: Vec<LiveBitmap>,
}

/// An image, as QEMU and `qemu-img` describe it alike.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    virtual_size: u64,
    format_specific: Option<Specific>,
}

#[derive(Debug, Deserialize)]
struct Specific {
    data: Qcow2,
}

#[derive(Debug, Default, Deserialize)]
struct Qcow2 {
    compat: Option<String>,
    #[serde(default)]
    bitmaps: Vec<StoredBitmap>,
}

#[derive(Debug, Deserialize)]
struct LiveBitmap {
    name: Option<String>,
    #[serde(default)]
    recording: bool,
    #[serde(default)]
    persistent: bool,
    #[serde(default)]
    inconsistent: bool,
}

#[derive(Debug, Deserialize)]
struct StoredBitmap {
    name: String,
    flags: Vec<String>,
}

impl Image {
    /// The first version of the format has no place for bitmaps.
    fn can_track(&self) -> bool {
        self.format_specific.as_ref().is_some_and(|specific| specific.data.compat.as_deref() == Some("1.1"))
    }

    fn stored(&self) -> Vec<Bitmap> {
        let stored = self.format_specific.iter().flat_map(|specific| &specific.data.bitmaps);
        let bitmap = |bitmap: &StoredBitmap| Bitmap {
            name: bitmap.name.clone(),
            sound: bitmap.flags.iter().any(|flag| flag == "auto") && bitmap.flags.iter().all(|flag| flag != "in-use"),
        };
        stored.map(bitmap).collect()
    }
}

/// The disks of a machine with their bitmaps, asked of its process if it has one.
pub(super) struct Tracking {
    machine: Arc<Machine>,
    monitor: Option<Monitor>,
    media: Vec<(PathBuf, Medium)>,
    /// The process has let go of its disks for the moment, and of the bitmaps with them.
    elsewhere: bool,
}

impl Tracking {
    /// Asks the process of a machine, if it has one.
    ///
    /// # Errors
    /// A [`BackendError`] when it is there and does not answer.
    pub(super) async fn of(machine: &Arc<Machine>) -> Result<Self, BackendError> {
        let monitor = machine.monitor().await?;
        match Self::through(machine, monitor.clone()).await {
            // The process has ended meanwhile, and that was not noticed before it was asked.
            Err(_) if monitor.is_some_and(|monitor| monitor.is_closed()) => {
                Self::through(machine, machine.monitor().await?).await
            }
            looked => looked,
        }
    }

    async fn through(machine: &Arc<Machine>, monitor: Option<Monitor>) -> Result<Self, BackendError> {
        let failed = |error: MonitorError| BackendError::new(LOOK, error.into());
        let (mut media, mut elsewhere) = (Vec::new(), false);
        if let Some(monitor) = &monitor {
            let status = monitor.status().await.map_err(failed)?.status;
            elsewhere = matches!(status.as_str(), "inmigrate" | "postmigrate" | "finish-migrate");
            let drives: Vec<Drive> = monitor.query(qmp::query_block {}, WITH_DISKS).await.map_err(failed)?;
            let inserted = drives.into_iter().filter_map(|drive| drive.inserted);
            media = inserted.map(|medium| (canonical(Path::new(&medium.file)), medium)).collect();
        }
        Ok(Self { machine: Arc::clone(machine), monitor, media, elsewhere })
    }

    fn live(&self, path: &Path) -> Result<Option<&Medium>, BackendError> {
        let wanted = canonical(path);
        let Some((_, medium)) = self.media.iter().find(|(file, _)| *file == wanted) else { return Ok(None) };
        if self.elsewhere || medium.active == Some(false) {
            let text = "the machine has let go of its disks for the moment".to_owned();
            return Err(BackendError::new(LOOK, Cause::InUse(text)));
        }
        Ok(Some(medium))
    }

    async fn image(&self, path: &Path) -> Result<Image, BackendError> {
        // Without sharing: in an image that somebody has open every bitmap looks as if it had missed something.
        let arguments = ["info", "--output=json", "-f", "qcow2"];
        let text = self.machine.images.run(LOOK, path, &arguments).await?;
        serde_json::from_slice(&text)
            .map_err(|error| BackendError::new(LOOK, Cause::Failed(format!("{}: {error}", path.display()))))
    }

    /// The bitmaps of a disk.
    ///
    /// # Errors
    /// A [`BackendError`] when they cannot be told now.
    pub(super) async fn bitmaps(&self, path: &Path) -> Result<Vec<Bitmap>, BackendError> {
        let Some(medium) = self.live(path)? else { return Ok(self.image(path).await?.stored()) };
        let bitmap = |bitmap: &LiveBitmap| {
            let sound = bitmap.recording && bitmap.persistent && !bitmap.inconsistent;
            Some(Bitmap { name: bitmap.name.clone()?, sound })
        };
        Ok(medium.dirty_bitmaps.iter().filter_map(bitmap).collect())
    }

    /// The process, the name it has for the disk, and the length of the disk in bytes; `None` for a disk that no
    /// process has.
    ///
    /// # Errors
    /// A [`BackendError`] when the process has let go of the disk.
    pub(super) fn node(&self, path: &Path) -> Result<Option<(&Monitor, &str, u64)>, BackendError> {
        let medium = self.live(path)?;
        let node = |medium: &Medium| medium.image.virtual_size;
        Ok(medium.and_then(|medium| Some((self.monitor.as_ref()?, medium.node_name.as_deref()?, node(medium)))))
    }

    async fn can_track(&self, path: &Path) -> Result<bool, BackendError> {
        match self.live(path)? {
            Some(medium) => Ok(medium.image.can_track()),
            None => Ok(self.image(path).await?.can_track()),
        }
    }

    async fn remove(&self, path: &Path, name: &str) -> Result<(), BackendError> {
        if let Some((monitor, node, _)) = self.node(path)? {
            return monitor.remove_bitmap(node, name).await.map_err(|error| BackendError::new(REMOVE, error.into()));
        }
        if path.exists() && self.image(path).await?.stored().iter().any(|bitmap| bitmap.name == name) {
            edit(&self.machine.images, REMOVE, path, "--remove", name).await?;
        }
        Ok(())
    }

    /// Fails with the first disk whose changes are not all known.
    ///
    /// # Errors
    /// A [`BackendError`] that names the disk.
    pub(super) async fn require(&self, tracked: &[TrackedDisk]) -> Result<(), BackendError> {
        for disk in tracked {
            let bitmaps = self.bitmaps(&disk.path).await.map_err(|error| error.on_disk(&disk.disk))?;
            if !is_sound(&bitmaps, disk) {
                let text = "its changes are not known any more, a full export is needed".to_owned();
                return Err(BackendError::new(LOOK, Cause::Failed(text)).on_disk(&disk.disk));
            }
        }
        Ok(())
    }
}

fn is_sound(bitmaps: &[Bitmap], disk: &TrackedDisk) -> bool {
    bitmaps.iter().any(|bitmap| bitmap.name == disk.identifier && bitmap.sound)
}

/// `qemu-img bitmap`, which takes the name of the bitmap after that of the image.
async fn edit(
    images: &ImageTool,
    step: &'static str,
    disk: &Path,
    action: &str,
    name: &str,
) -> Result<(), BackendError> {
    let arguments = [OsStr::new("bitmap"), action.as_ref(), "-f".as_ref(), "qcow2".as_ref(), disk.as_os_str()];
    let edited = images.run(step, Path::new(name), &arguments).await;
    edited.map(drop).map_err(|error| match error.cause {
        Cause::InUse(_) => {
            let text = format!("{} is used by another process", disk.display());
            BackendError { cause: Cause::InUse(text), ..error }
        }
        Cause::FileNotFound(_) => BackendError { cause: Cause::FileNotFound(disk.to_path_buf()), ..error },
        _ => error,
    })
}

impl Monitor {
    /// Removes a bitmap; one that is not there is no error.
    async fn remove_bitmap(&self, node: &str, name: &str) -> Result<(), MonitorError> {
        let bitmap = qmp::BlockDirtyBitmap { name: name.to_owned(), node: node.to_owned() };
        let command = qmp::block_dirty_bitmap_remove(bitmap);
        match self.query::<_, serde_json::Value>(command, WITH_DISKS).await {
            Ok(_) => Ok(()),
            Err(MonitorError::Refused { text, .. }) if text.contains("not found") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

// -- a snapshot ---------------------------------------------------------------------------------------

/// The disks whose changes are to be tracked from a snapshot on. One without data keeps no other disk.
///
/// # Errors
/// A [`BackendError`]; [`Cause::NotSupported`] when nothing would be left of the request.
pub(super) async fn choose(
    machine: &Arc<Machine>,
    request: &SnapshotRequest,
    disks: &mut Vec<DiskPlan>,
) -> Result<Vec<DiskPlan>, BackendError> {
    if !request.change_tracking {
        return Ok(Vec::new());
    }
    let tracking = Tracking::of(machine).await?;
    let mut tracked = Vec::new();
    for plan in disks.iter() {
        if tracking.can_track(&plan.disk.path).await.map_err(|error| error.on_disk(&plan.disk.name))? {
            tracked.push(plan.clone());
        }
    }
    if request.without_data {
        disks.clear();
        if tracked.is_empty() {
            let text = "the machine has no disk whose changes can be tracked, which are qcow2 disks of version 1.1 \
                        that are not read-only"
                .to_owned();
            return Err(BackendError::new("begin the change tracking", Cause::NotSupported(text)));
        }
    }
    Ok(tracked)
}

/// The actions that begin the tracking, as parts of a transaction.
pub(super) fn actions(tracked: &[DiskPlan], snapshot: Guid) -> impl Iterator<Item = qmp::TransactionAction> {
    tracked.iter().filter_map(|plan| plan.node.as_deref()).map(move |node| {
        let bitmap = qmp::BlockDirtyBitmapAdd {
            disabled: None,
            granularity: None,
            persistent: Some(true),
            name: name_of(snapshot),
            node: node.to_owned(),
        };
        qmp::TransactionAction::block_dirty_bitmap_add(bitmap.into())
    })
}

/// Begins the tracking of disks that no process has open.
///
/// # Errors
/// A [`BackendError`]; it may have begun on some.
pub(super) async fn begin_stopped(machine: &Machine, tracked: &[DiskPlan], snapshot: Guid) -> Result<(), BackendError> {
    for plan in tracked {
        let begun =
            edit(&machine.images, "begin the change tracking", &plan.disk.path, "--add", &name_of(snapshot)).await;
        begun.map_err(|error| error.on_disk(&plan.disk.name))?;
    }
    Ok(())
}

/// The tracking as it is recorded.
pub(super) fn tracked_disks(tracked: &[DiskPlan], snapshot: Guid) -> Vec<TrackedDisk> {
    let disk = |plan: &DiskPlan| TrackedDisk {
        disk: plan.disk.name.clone(),
        path: plan.disk.path.clone(),
        identifier: name_of(snapshot),
    };
    tracked.iter().map(disk).collect()
}

/// Ends the tracking that began with a snapshot. What is gone already is no error.
///
/// # Errors
/// A [`BackendError`] when a disk may still have its bitmap.
pub(super) async fn end(machine: &Arc<Machine>, disks: &[(&str, &Path)], snapshot: Guid) -> Result<(), BackendError> {
    let tracking = Tracking::of(machine).await?;
    match end_with(&tracking, disks, snapshot).await {
        // The process has died meanwhile: what is left is done without it.
        Err(_) if tracking.monitor.as_ref().is_some_and(Monitor::is_closed) => {
            end_with(&Tracking::of(machine).await?, disks, snapshot).await
        }
        ended => ended,
    }
}

async fn end_with(tracking: &Tracking, disks: &[(&str, &Path)], snapshot: Guid) -> Result<(), BackendError> {
    let name = name_of(snapshot);
    for (disk, path) in disks {
        tracking.remove(path, &name).await.map_err(|error| error.on_disk(*disk))?;
    }
    Ok(())
}

/// The disks of a machine that may have begun to be tracked.
pub(super) fn candidates(machine: &Machine) -> Vec<(&str, &Path)> {
    let own = machine.definition.disks.iter().filter(|disk| is_own(disk));
    own.map(|disk: &DiskDefinition| (disk.name.as_str(), disk.path.as_path())).collect()
}

// -- applying -----------------------------------------------------------------------------------------

/// Fails for an image with a bitmap of somebody else, which would have to go before a snapshot in it is applied.
///
/// # Errors
/// [`Cause::NotAllowed`] with the name of the bitmap.
pub(super) async fn require_none_of_others(machine: &Arc<Machine>, path: &Path) -> Result<(), BackendError> {
    let bitmaps = Tracking::of(machine).await?.bitmaps(path).await?;
    let Some(bitmap) = bitmaps.iter().find(|bitmap| owner_of(&bitmap.name).is_none()) else { return Ok(()) };
    let text = format!(
        "the disk has the dirty bitmap {:?} of somebody else, and QEMU applies no snapshot to such a disk; \
         `qemu-img bitmap --remove` removes it",
        bitmap.name
    );
    Err(BackendError::new("check the snapshot", Cause::NotAllowed(text)))
}

/// Ends all tracking of ours on a disk whose content is about to be replaced.
///
/// # Errors
/// A [`BackendError`]; some may have ended.
pub(super) async fn forget_changes(machine: &Arc<Machine>, path: &Path) -> Result<(), BackendError> {
    let tracking = Tracking::of(machine).await?;
    for bitmap in tracking.bitmaps(path).await?.iter().filter(|bitmap| owner_of(&bitmap.name).is_some()) {
        tracking.remove(path, &bitmap.name).await?;
    }
    Ok(())
}

// -- reference points ---------------------------------------------------------------------------------

fn places(tracked: &[TrackedDisk]) -> Vec<(&str, &Path)> {
    tracked.iter().map(|disk| (disk.disk.as_str(), disk.path.as_path())).collect()
}

impl QemuHypervisor {
    /// Removes the data of snapshots and keeps their bitmaps, when all of these know all changes.
    pub(super) async fn convert(&self, requests: &[DestroyRequest], control: &StepControl) -> Result<(), BackendError> {
        const STEP: &str = "convert to a reference point";
        for request in requests {
            let machine = self.machine(request.machine)?;
            if request.tracking.is_empty() {
                let text = format!("the changes since snapshot {} are not tracked", request.snapshot);
                return Err(BackendError::new(STEP, Cause::Failed(text)));
            }
            Tracking::of(&machine).await?.require(&request.tracking).await?;
        }
        control.record(JournalStep::Removing).await.map_err(|_| BackendError::new(STEP, Cause::Cancelled))?;
        self.remove_wholly(requests).await
    }

    /// Removes the bitmaps of destroyed snapshots.
    pub(super) async fn end_of_snapshots(&self, requests: &[DestroyRequest]) -> Result<(), BackendError> {
        for request in requests {
            end(&self.machine(request.machine)?, &places(&request.tracking), request.snapshot).await?;
        }
        Ok(())
    }

    /// Removes the bitmaps of reference points.
    pub(super) async fn end_of_points(&self, requests: &[TrackingRequest]) -> Result<(), BackendError> {
        for request in requests {
            end(&self.machine(request.machine)?, &places(&request.disks), request.snapshot).await?;
        }
        Ok(())
    }

    /// Which of these have a disk without its bitmap, or one that has missed something.
    pub(super) async fn lost_tracking(&self, requests: &[TrackingRequest]) -> BTreeSet<Guid> {
        let mut seen: BTreeMap<Guid, Option<Tracking>> = BTreeMap::new();
        let mut lost = BTreeSet::new();
        for request in requests {
            let Ok(machine) = self.machine(request.machine) else { continue };
            if let Entry::Vacant(place) = seen.entry(request.machine) {
                let looked = Tracking::of(&machine).await.inspect_err(|error| {
                    tracing::warn!(machine = %request.machine, %error, "The change tracking cannot be looked at");
                });
                place.insert(looked.ok());
            }
            let Some(Some(tracking)) = seen.get(&request.machine) else { continue };
            for disk in &request.disks {
                match tracking.bitmaps(&disk.path).await {
                    Ok(bitmaps) if is_sound(&bitmaps, disk) => {}
                    Ok(_) => {
                        lost.insert(request.snapshot);
                    }
                    Err(error) => tracing::warn!(disk = disk.disk, %error, "The change tracking cannot be looked at"),
                }
            }
        }
        lost
    }

    /// Removes bitmaps of ours that nobody owns; gives their number.
    pub(super) async fn end_unowned(&self, tracked: &BTreeSet<Guid>) -> usize {
        let mut ended = 0;
        for machine in self.machines.values() {
            match end_unowned_of(machine, tracked).await {
                Ok(count) => ended += count,
                Err(error) => {
                    tracing::warn!(machine = %machine.definition.id, %error, "Change tracking nobody owns may be left");
                }
            }
        }
        ended
    }
}

async fn end_unowned_of(machine: &Arc<Machine>, tracked: &BTreeSet<Guid>) -> Result<usize, BackendError> {
    super::changes::forget(machine).await?;
    super::nbd::forget(&machine.directory)?;
    let (tracking, mut ended) = (Tracking::of(machine).await?, 0);
    for (disk, path) in candidates(machine).into_iter().filter(|(_, path)| path.exists()) {
        let named = |error: BackendError| error.on_disk(disk);
        for bitmap in tracking.bitmaps(path).await.map_err(named)? {
            if owner_of(&bitmap.name).is_some_and(|owner| !tracked.contains(&owner)) {
                tracking.remove(path, &bitmap.name).await.map_err(named)?;
                ended += 1;
            }
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_making_are_ours() {
        let id: Guid = "5F2B6A0E-3C1D-4E8F-9A7B-0C1D2E3F4A5B".parse().unwrap();
        assert_eq!(owner_of(&name_of(id)), Some(id));
        for name in ["wsnapd-", "wsnapd-undo", "backup", "5F2B6A0E-3C1D-4E8F-9A7B-0C1D2E3F4A5B"] {
            assert_eq!(owner_of(name), None, "{name}");
        }
    }
}
