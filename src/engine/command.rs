//! What the commands of the engine take and give.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{
    CollectionKind, ConsistencyLevel, GuestBackupType, ShutdownAction, StartupAction, SystemState, UserSnapshotType,
};
use crate::time::Guid;

/// What became of an accepted command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Everything is done (return value 0).
    Done(T),
    /// A job does it (return value 4096).
    Started {
        /// The job.
        job: Guid,
    },
}

/// What became of a volume snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeOutcome {
    /// The volume is there (return value 0).
    Done {
        /// The new volume.
        volume: Guid,
    },
    /// A job makes it (return value 4096); the volume appears when the job is completed.
    Started {
        /// The job.
        job: Guid,
        /// The volume to be.
        volume: Guid,
    },
}

/// Which kind of snapshot a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotType {
    /// 2: disks, configuration, and memory if the machine runs; the machine's [`UserSnapshotType`] decides.
    Full,
    /// 3: disks only.
    Disk,
    /// 32768: for a backup.
    Recovery,
    /// 34818: as `Full`, taken by the host by itself.
    Automatic,
}

/// Which kind of group snapshot a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupSnapshotType {
    /// 1: for the user.
    Standard,
    /// 2: for a backup.
    Recovery,
}

/// The settings that come with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SnapshotSettings {
    /// Display name; without one the snapshot is named after the machine and the time.
    pub name: Option<SmolStr>,
    /// Free text; without one that of the machine.
    pub notes: Option<String>,
    /// How consistent it must be.
    pub consistency: ConsistencyLevel,
    /// What the guest's applications are told.
    pub guest_backup_type: GuestBackupType,
    /// Leave out disks that cannot be snapshotted instead of failing.
    pub ignore_non_snapshottable_disks: bool,
}

/// Arguments of [`create_snapshot`](super::Engine::create_snapshot).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSnapshot {
    /// The machine.
    pub system: Guid,
    /// Which kind.
    pub snapshot_type: SnapshotType,
    /// The settings.
    pub settings: SnapshotSettings,
}

/// Arguments of [`create_group_snapshot`](super::Engine::create_group_snapshot).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateGroupSnapshot {
    /// The collection.
    pub collection: Guid,
    /// Which kind.
    pub snapshot_type: GroupSnapshotType,
    /// The settings.
    pub settings: SnapshotSettings,
}

/// What a backup program means to do with an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupIntent {
    /// 0: keep it as one link of a chain.
    #[default]
    PreserveChain,
    /// 1: merge it into an earlier one.
    Merge,
}

/// How a snapshot is exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportSettings {
    /// The directory to be made.
    pub directory: PathBuf,
    /// Put the files of each machine into a directory named after it.
    pub subdirectories: bool,
    /// Write the disks.
    pub disks: bool,
    /// Write the memory, if the snapshot has any.
    pub memory: bool,
    /// Disks left out, each by its name or by the path of its file.
    pub excluded_disks: Vec<String>,
    /// Only what changed since: a reference point, or a reference point collection for a snapshot collection.
    pub base: Option<Guid>,
    /// What it is for; told in the description that goes with it.
    pub intent: BackupIntent,
}

/// Arguments of [`create_volume_snapshot`](super::Engine::create_volume_snapshot).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVolumeSnapshot {
    /// The source volume.
    pub source: Guid,
    /// Display name; without one the snapshot is named after the source and the time.
    pub name: Option<SmolStr>,
    /// The pool of the snapshot; without one that of the source.
    pub target_pool: Option<Guid>,
}

/// New values for the settings of a machine; `None` leaves a value as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SystemChange {
    /// Display name.
    pub name: Option<SmolStr>,
    /// Free text.
    pub notes: Option<String>,
    /// Which snapshots users may take.
    pub user_snapshot_type: Option<UserSnapshotType>,
    /// Backup clients want change tracking.
    pub incremental_backup: Option<bool>,
    /// What happens when the host starts.
    pub startup_action: Option<StartupAction>,
    /// What happens when the host stops.
    pub shutdown_action: Option<ShutdownAction>,
}

/// The state a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestedState {
    /// 2: running.
    Enabled,
    /// 3: off, at once.
    Disabled,
    /// 4: off, by the guest.
    ShutDown,
    /// 6 (and 32769): saved.
    Saved,
    /// 9 (and 32768): paused.
    Paused,
    /// 10 and 11: off and on again.
    Reset,
}

impl RequestedState {
    /// The lasting state this leads to.
    #[must_use]
    pub const fn leads_to(self) -> SystemState {
        match self {
            Self::Enabled | Self::Reset => SystemState::Running,
            Self::Disabled | Self::ShutDown => SystemState::Off,
            Self::Saved => SystemState::Saved,
            Self::Paused => SystemState::Paused,
        }
    }
}

/// Arguments of [`define_collection`](super::Engine::define_collection).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineCollection {
    /// Display name.
    pub name: SmolStr,
    /// The identity wanted; without one a new one is made.
    pub id: Option<Guid>,
    /// What it collects.
    pub kind: CollectionKind,
}

/// A change of the members of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectionChange {
    /// Adds a machine or a collection; one that is already in it stays in it.
    Add(Guid),
    /// Removes a member; an identity that is no member is no error.
    Remove(Guid),
}

/// How a job is to be cancelled. Both undo what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CancelMode {
    /// Ends in `Terminated`.
    Terminate,
    /// Ends in `Killed`.
    Kill,
}
