//! Reference points: instants from which the changes of a system's disks are known.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{ConsistencyLevel, Snapshot, VirtualSystem};
use crate::backend::{TrackedDisk, TrackingRequest};
use crate::time::{Guid, Timestamp};

/// One disk of a reference point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceDisk {
    /// Name of the disk.
    pub disk: SmolStr,
    /// Where it lay when the tracking began.
    pub path: PathBuf,
    /// What tells its tracked changes from others; never empty.
    pub identifier: SmolStr,
    /// What the guest saw then, in bytes; 0 if the disk could not be read.
    pub virtual_size: u64,
}

/// An instant from which the changes of a system's disks are tracked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferencePoint {
    /// Its identity.
    pub id: Guid,
    /// Position in the order of creation.
    pub sequence: u64,
    /// The system.
    pub system: Guid,
    /// The snapshot the tracking began with, which is gone; the same as `id` for a point made without one.
    pub snapshot: Guid,
    /// The instant.
    pub created: Timestamp,
    /// How consistent the disks were then.
    pub consistency: ConsistencyLevel,
    /// The tracked disks.
    pub disks: Vec<ReferenceDisk>,
    /// The reference point collection it belongs to.
    pub collection: Option<Guid>,
    /// All changes since are known. What was lost once never comes back.
    pub valid: bool,
}

impl ReferencePoint {
    /// The tracking of the point, with the disks of `system` where they lie now.
    pub(super) fn tracking(&self, system: Option<&VirtualSystem>) -> TrackingRequest {
        let disk = |disk: &ReferenceDisk| TrackedDisk {
            disk: disk.disk.to_string(),
            path: disk.path.clone(),
            identifier: disk.identifier.to_string(),
        };
        let disks = here(system, self.disks.iter().map(disk).collect());
        TrackingRequest { machine: self.system, snapshot: self.snapshot, disks }
    }
}

/// Tracked disks where they lie now.
pub(super) fn here(system: Option<&VirtualSystem>, mut tracked: Vec<TrackedDisk>) -> Vec<TrackedDisk> {
    for tracked in &mut tracked {
        if let Some(disk) = system.and_then(|system| system.disks.iter().find(|disk| disk.name == tracked.disk)) {
            tracked.path.clone_from(&disk.path);
        }
    }
    tracked
}

/// The disks of a point whose tracking began with these.
pub(super) fn reference_disks(system: Option<&VirtualSystem>, tracked: &[TrackedDisk]) -> Vec<ReferenceDisk> {
    let disk = |tracked: &TrackedDisk| ReferenceDisk {
        disk: tracked.disk.as_str().into(),
        path: tracked.path.clone(),
        identifier: tracked.identifier.as_str().into(),
        virtual_size: system
            .and_then(|system| system.disks.iter().find(|disk| disk.name == tracked.disk))
            .map_or(0, |disk| disk.virtual_size),
    };
    tracked.iter().map(disk).collect()
}

/// Reference points of all machines of a collection, of one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferencePointCollection {
    /// Its identity.
    pub id: Guid,
    /// Position in the order of creation.
    pub sequence: u64,
    /// The collection.
    pub collection: Guid,
    /// Display name.
    pub name: SmolStr,
    /// The instant.
    pub created: Timestamp,
    /// How consistent the disks of the least consistent member were then.
    pub consistency: ConsistencyLevel,
    /// The reference points in it that still exist.
    pub points: Vec<Guid>,
}

/// The level all of them reached.
pub(super) fn common_level(levels: impl IntoIterator<Item = ConsistencyLevel>) -> ConsistencyLevel {
    let mut levels = levels.into_iter().peekable();
    if levels.peek().is_some() && levels.all(|level| level == ConsistencyLevel::Application) {
        ConsistencyLevel::Application
    } else {
        ConsistencyLevel::Crash
    }
}

/// Why a snapshot cannot become a reference point, if it cannot.
pub(super) fn why_untracked(snapshot: &Snapshot) -> Option<&'static str> {
    if snapshot.tracking.is_empty() {
        Some("no changes are tracked since this snapshot: IncrementalBackupEnabled was false when it was taken")
    } else if snapshot.tracking_lost {
        Some("the changes since this snapshot are not known: another snapshot was applied, or the tracking was lost")
    } else {
        None
    }
}
