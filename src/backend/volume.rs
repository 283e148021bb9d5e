//! The trait of a volume manager and the values that cross it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{BackendError, BoxFuture, JournalStep, StepControl};
use crate::time::{Guid, Timestamp};

/// A pool as its manager knows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumePoolReport {
    /// Unique on the host.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// Snapshots can be made at once.
    pub instant_clone: bool,
    /// Snapshots can be made by copying.
    pub copy: bool,
    /// Volumes cannot be written.
    pub read_only: bool,
    /// Bytes of the filesystem.
    pub total_bytes: u64,
    /// Bytes not yet used.
    pub free_bytes: u64,
}

/// A volume as its manager knows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeReport {
    /// Unique within the pool: the name of the file.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What it takes on disk.
    pub allocated_bytes: u64,
    /// When it was made, as far as the filesystem tells.
    pub created: Option<Timestamp>,
}

/// A snapshot to be taken of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSnapshotRequest {
    /// Pool of the source.
    pub source_pool: String,
    /// The source.
    pub source: String,
    /// Pool the snapshot goes to.
    pub target_pool: String,
    /// Name of the new volume within its pool.
    pub target: String,
    /// The identity of the new volume; names of temporary files carry it.
    pub id: Guid,
}

/// A manager of volumes in pools.
pub trait VolumeManager: Send + Sync + 'static {
    /// All pools.
    ///
    /// # Errors
    /// A [`BackendError`] when they cannot be listed.
    fn pools(&self) -> BoxFuture<'_, Result<Vec<VolumePoolReport>, BackendError>>;

    /// The volumes of a pool.
    ///
    /// # Errors
    /// A [`BackendError`] when they cannot be listed.
    fn volumes<'a>(&'a self, pool: &'a str) -> BoxFuture<'a, Result<Vec<VolumeReport>, BackendError>>;

    /// Makes the snapshot if that needs no copying, so that it is complete on return; `None` if it must be copied.
    ///
    /// # Errors
    /// A [`BackendError`]; [`Cause::NotSupported`](super::Cause::NotSupported) when the pools can make no snapshot,
    /// and [`Cause::NoSpace`](super::Cause::NoSpace) when a copy would not fit. Nothing is left then.
    fn instant_snapshot<'a>(
        &'a self,
        request: &'a VolumeSnapshotRequest,
    ) -> BoxFuture<'a, Result<Option<VolumeReport>, BackendError>>;

    /// Makes the snapshot by copying.
    ///
    /// # Errors
    /// A [`BackendError`]; nothing is left then.
    fn copy_snapshot<'a>(
        &'a self,
        request: &'a VolumeSnapshotRequest,
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<VolumeReport, BackendError>>;

    /// Deletes a volume, whose name is that of its report.
    ///
    /// # Errors
    /// A [`BackendError`]; [`Cause::InUse`](super::Cause::InUse) when another process has the volume open, and
    /// [`Cause::FileNotFound`](super::Cause::FileNotFound) when there is none.
    fn delete_volume<'a>(&'a self, pool: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), BackendError>>;

    /// Finishes (`Some`) or undoes (`None`) a copy that a stop of the server interrupted after it wrote `journal`.
    ///
    /// # Errors
    /// A [`BackendError`] when it could do neither.
    fn recover<'a>(
        &'a self,
        request: &'a VolumeSnapshotRequest,
        journal: &'a [JournalStep],
    ) -> BoxFuture<'a, Result<Option<VolumeReport>, BackendError>>;

    /// Removes temporary files of our making from every pool.
    ///
    /// # Errors
    /// A [`BackendError`] when a pool cannot be read.
    fn remove_orphans(&self) -> BoxFuture<'_, Result<Vec<PathBuf>, BackendError>>;
}
