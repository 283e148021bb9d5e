//! Which parts of a disk a bitmap marks.
//!
//! A process keeps its bitmaps in memory and tells no more than how much they mark. So it is given an empty image to
//! open, merges the bitmap into one of that image and closes it, which writes the bitmap out; the guest notices nothing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qapi::qmp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::super::copy::{self, on_thread};
use super::super::{BackendError, Cause, TrackedDisk};
use super::bitmaps::Tracking;
use super::commands::WITH_DISKS;
use super::machine::Machine;
use super::monitor::{Monitor, MonitorError};
use super::qcow2::{Parts, marked_parts};

const STEP: &str = "read which parts have changed";
/// Name of the image in the directory of a machine, and with it of the process.
const SCRATCH: &str = "wsnapd-changes";

/// `blockdev-add` of an image in a file.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
struct AddImage {
    driver: &'static str,
    node_name: &'static str,
    file: ImageFile,
}

#[derive(Debug, Clone, Serialize)]
struct ImageFile {
    driver: &'static str,
    filename: PathBuf,
}

impl qapi::Command for AddImage {
    const NAME: &'static str = "blockdev-add";
    const ALLOW_OOB: bool = false;
    type Ok = serde_json::Value;
}

impl qmp::QmpCommand for AddImage {}

impl Monitor {
    async fn add_scratch(&self, file: &Path) -> Result<(), MonitorError> {
        let file = ImageFile { driver: "file", filename: file.to_path_buf() };
        self.execute(AddImage { driver: "qcow2", node_name: SCRATCH, file }, WITH_DISKS).await.map(drop)
    }

    /// Closes the scratch image; one that is not open is no error.
    async fn remove_scratch(&self) -> Result<(), MonitorError> {
        let command = qmp::blockdev_del { node_name: SCRATCH.to_owned() };
        match self.query::<_, serde_json::Value>(command, WITH_DISKS).await {
            Ok(_) => Ok(()),
            Err(MonitorError::Refused { text, .. }) if text.contains("Failed to find") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a bitmap of the scratch image that marks what the one of the disk marks now.
    async fn copy_bitmap(&self, node: &str, name: &str) -> Result<(), MonitorError> {
        let add = qmp::BlockDirtyBitmapAdd {
            disabled: Some(true),
            granularity: None,
            persistent: Some(true),
            name: name.to_owned(),
            node: SCRATCH.to_owned(),
        };
        self.query::<_, serde_json::Value>(qmp::block_dirty_bitmap_add(add), WITH_DISKS).await?;
        let source = qmp::BlockDirtyBitmap { name: name.to_owned(), node: node.to_owned() };
        let merge = qmp::BlockDirtyBitmapMerge {
            bitmaps: vec![qmp::BlockDirtyBitmapOrStr::external(source)],
            node: SCRATCH.to_owned(),
            target: name.to_owned(),
        };
        self.query::<_, serde_json::Value>(qmp::block_dirty_bitmap_merge(merge), WITH_DISKS).await.map(drop)
    }
}

fn scratch(machine: &Machine) -> PathBuf {
    machine.directory.join(format!("{SCRATCH}.qcow2"))
}

/// Removes what an interrupted reading left.
///
/// # Errors
/// A [`BackendError`].
pub(super) async fn forget(machine: &Arc<Machine>) -> Result<(), BackendError> {
    if !scratch(machine).exists() {
        return Ok(());
    }
    if let Some(monitor) = machine.monitor().await? {
        monitor.remove_scratch().await.map_err(|error| BackendError::new(STEP, error.into()))?;
    }
    copy::remove_file(STEP, &scratch(machine))
}

/// The parts of a disk that have changed since its tracking began.
///
/// # Errors
/// A [`BackendError`] that names the disk, also when not all changes are known.
pub(super) async fn since(machine: &Arc<Machine>, disk: &TrackedDisk) -> Result<Parts, BackendError> {
    let named = |error: BackendError| error.on_disk(&disk.disk);
    let tracking = Tracking::of(machine).await?;
    tracking.require(std::slice::from_ref(disk)).await?;
    let Some((monitor, node, size)) = tracking.node(&disk.path).map_err(named)? else {
        return read(disk.path.clone(), &disk.identifier).await.map_err(named);
    };
    forget(machine).await?;
    let copied = copy_out(machine, monitor, node, size, &disk.identifier).await;
    let parts = match copied {
        Ok(()) => read(scratch(machine), &disk.identifier).await,
        Err(error) => Err(error),
    };
    forget(machine).await?;
    parts.map_err(named)
}

async fn copy_out(machine: &Machine, monitor: &Monitor, node: &str, size: u64, name: &str) -> Result<(), BackendError> {
    let failed = |error: MonitorError| BackendError::new(STEP, error.into());
    let file = scratch(machine);
    copy::create_private(STEP, &file)?;
    let length = format!("size={size}");
    machine.images.run(STEP, &file, &["create", "-q", "-f", "qcow2", "-o", &length]).await?;
    monitor.add_scratch(&file).await.map_err(failed)?;
    let copied = monitor.copy_bitmap(node, name).await;
    monitor.remove_scratch().await.map_err(failed)?;
    copied.map_err(failed)
}

async fn read(file: PathBuf, name: &str) -> Result<Parts, BackendError> {
    let name = name.to_owned();
    on_thread(STEP, &CancellationToken::new(), move |_| {
        let failed = |error| BackendError::io(STEP, &file, error);
        let image = File::open(&file).map_err(failed)?;
        marked_parts(&image, &name).map_err(failed)?.ok_or_else(|| {
            let text = format!("{} has no bitmap {name} that knows all changes", file.display());
            BackendError::new(STEP, Cause::Failed(text))
        })
    })
    .await
}
