//! What the engine knows about: machines, snapshots, collections, pools and volumes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::backend::{DiskFormat, DiskImage, MachineState, NetworkDefinition, SerialPort, TrackedDisk};
use crate::time::{Guid, Timestamp};

/// The state of a virtual system: one of the four lasting ones, or on the way to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemState {
    /// The guest runs.
    Running,
    /// Turned off.
    Off,
    /// Its memory lies in a file.
    Saved,
    /// The guest stands still in memory.
    Paused,
    /// The guest cannot go on: its disk or itself failed.
    Failed,
    /// On the way to running.
    Starting,
    /// On the way to off.
    Stopping,
    /// On the way to saved.
    Saving,
    /// On the way to paused.
    Pausing,
}

impl SystemState {
    /// True while the state is not a lasting one; commands are refused then.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Starting | Self::Stopping | Self::Saving | Self::Pausing)
    }
}

impl From<MachineState> for SystemState {
    fn from(state: MachineState) -> Self {
        match state {
            MachineState::Running => Self::Running,
            MachineState::Off => Self::Off,
            MachineState::Saved => Self::Saved,
            MachineState::Paused => Self::Paused,
            MachineState::Failed => Self::Failed,
        }
    }
}

impl std::fmt::Display for SystemState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Off => "off",
            Self::Saved => "saved",
            Self::Paused => "paused",
            Self::Failed => "stopped by an error",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Saving => "being saved",
            Self::Pausing => "being paused",
        })
    }
}

/// What a job is doing to a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activity {
    /// A snapshot is being created.
    CreatingSnapshot,
    /// A snapshot is being applied.
    ApplyingSnapshot,
    /// A snapshot is being destroyed.
    DeletingSnapshot,
    /// Disks are being merged.
    MergingDisks,
    /// A snapshot is being exported.
    Exporting,
}

/// Which snapshots users may take of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserSnapshotType {
    /// 2: none.
    Disabled,
    /// 3: production, else standard.
    ProductionFallback,
    /// 4: production.
    ProductionOnly,
    /// 5: standard, with memory.
    Standard,
}

impl UserSnapshotType {
    /// The number Hyper-V gives it.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Disabled => 2,
            Self::ProductionFallback => 3,
            Self::ProductionOnly => 4,
            Self::Standard => 5,
        }
    }

    /// The value with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            2 => Some(Self::Disabled),
            3 => Some(Self::ProductionFallback),
            4 => Some(Self::ProductionOnly),
            5 => Some(Self::Standard),
            _ => None,
        }
    }
}

/// What happens to a system when the host starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartupAction {
    /// 2: nothing.
    None,
    /// 3: started when it ran before.
    RestartIfPreviouslyActive,
    /// 4: started.
    AlwaysStart,
}

impl StartupAction {
    /// The number Hyper-V gives it.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::None => 2,
            Self::RestartIfPreviouslyActive => 3,
            Self::AlwaysStart => 4,
        }
    }

    /// The value with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            2 => Some(Self::None),
            3 => Some(Self::RestartIfPreviouslyActive),
            4 => Some(Self::AlwaysStart),
            _ => None,
        }
    }
}

/// What happens to a system when the host stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownAction {
    /// 2: turned off.
    TurnOff,
    /// 3: saved.
    SaveState,
    /// 4: shut down by the guest.
    ShutDown,
}

impl ShutdownAction {
    /// The number Hyper-V gives it.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::TurnOff => 2,
            Self::SaveState => 3,
            Self::ShutDown => 4,
        }
    }

    /// The value with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            2 => Some(Self::TurnOff),
            3 => Some(Self::SaveState),
            4 => Some(Self::ShutDown),
            _ => None,
        }
    }
}

/// A disk of a system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Unique within the system.
    pub name: SmolStr,
    /// The file or device with its content.
    pub path: PathBuf,
    /// The layout of the file.
    pub format: DiskFormat,
    /// What the guest sees, in bytes; 0 if the disk cannot be read.
    pub virtual_size: u64,
    /// The guest cannot write to it.
    pub read_only: bool,
    /// A device of the host handed through.
    pub pass_through: bool,
}

/// The ports of a system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Network cards, in the order of their attachment.
    pub networks: Vec<NetworkDefinition>,
    /// Serial ports.
    pub serial: Vec<SerialPort>,
}

/// A virtual machine with its active settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualSystem {
    /// Its identity for ever.
    pub id: Guid,
    /// Its display name.
    pub name: SmolStr,
    /// Free text, lines inside.
    pub notes: String,
    /// The name its definition had when it was last read: a new one there replaces `name`.
    pub defined_name: SmolStr,
    /// The same for the notes.
    pub defined_notes: String,
    /// Its state.
    pub state: SystemState,
    /// When it was first seen.
    pub created: Timestamp,
    /// When its state last changed.
    pub state_changed: Timestamp,
    /// When its settings last changed.
    pub config_changed: Timestamp,
    /// Which snapshots users may take.
    pub user_snapshot_type: UserSnapshotType,
    /// Backup clients want change tracking.
    pub incremental_backup: bool,
    /// What happens when the host starts.
    pub startup_action: StartupAction,
    /// What happens when the host stops.
    pub shutdown_action: ShutdownAction,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Virtual processors.
    pub processors: u32,
    /// Its ports.
    #[serde(default)]
    pub ports: Ports,
    /// The process that runs it, if the host tells.
    #[serde(skip)]
    pub process: Option<u32>,
    /// The snapshot the live state descends from.
    pub current_snapshot: Option<Guid>,
    /// The snapshot applied last, as long as it exists.
    pub last_applied: Option<Guid>,
    /// What a job is doing to it now.
    #[serde(skip)]
    pub activity: Option<Activity>,
}

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// Taken for the user.
    Standard,
    /// Taken for a backup; cannot be applied and does not move the current snapshot.
    Recovery,
}

/// How consistent a snapshot is wanted, or is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsistencyLevel {
    /// 0: application consistent if the guest can, else crash consistent.
    #[default]
    Unknown,
    /// 1: the applications were quiesced.
    Application,
    /// 2: as after a power failure.
    Crash,
}

impl ConsistencyLevel {
    /// The number Hyper-V gives it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Application => 1,
            Self::Crash => 2,
        }
    }

    /// The value with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Unknown),
            1 => Some(Self::Application),
            2 => Some(Self::Crash),
            _ => None,
        }
    }
}

/// What the guest's applications are told about a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestBackupType {
    /// 0: nothing.
    #[default]
    Undefined,
    /// 1: a full backup, logs may be truncated.
    Full,
    /// 2: a copy, logs stay.
    Copy,
}

impl GuestBackupType {
    /// The value with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            0 => Some(Self::Undefined),
            1 => Some(Self::Full),
            2 => Some(Self::Copy),
            _ => None,
        }
    }
}

/// A snapshot of a system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub struct Snapshot {
    /// Its identity; never that of the system.
    pub id: Guid,
    /// Position in the order of creation over all systems.
    pub sequence: u64,
    /// The system.
    pub system: Guid,
    /// The snapshot it descends from.
    pub parent: Option<Guid>,
    /// Display name.
    pub name: SmolStr,
    /// Free text; taken over from the system.
    pub notes: String,
    /// When it was taken.
    pub created: Timestamp,
    /// What it is for.
    pub kind: SnapshotKind,
    /// Taken by the host by itself.
    pub automatic: bool,
    /// Holds saved memory.
    pub has_memory: bool,
    /// The memory file, if it is a file of its own.
    pub memory_file: Option<PathBuf>,
    /// What was asked for.
    pub wanted_consistency: ConsistencyLevel,
    /// What was reached.
    pub consistency: ConsistencyLevel,
    /// The disks in it.
    pub disks: Vec<DiskImage>,
    /// Names of disks left out.
    pub skipped_disks: Vec<String>,
    /// Its files are not found.
    pub missing: bool,
    /// Found on the host, not made by us: read-only.
    pub foreign: bool,
    /// The snapshot collection it belongs to.
    pub snapshot_collection: Option<Guid>,
    /// How long the guest stood still, in milliseconds.
    pub paused_ms: u64,
    /// How long its file systems were frozen, in milliseconds.
    pub frozen_ms: u64,
    /// Length of all its files in bytes.
    pub bytes: u64,
    /// How the system was launched then, in the words of the back-end.
    #[serde(default)]
    pub launch: Option<String>,
    /// Settings of the system at that time: memory in MiB.
    pub memory_mb: u64,
    /// Settings of the system at that time: virtual processors.
    pub processors: u32,
    /// Settings of the system at that time: its ports.
    #[serde(default)]
    pub ports: Ports,
    /// The disks whose changes are tracked since.
    #[serde(default)]
    pub tracking: Vec<TrackedDisk>,
    /// Not all changes since are known any more.
    #[serde(default)]
    pub tracking_lost: bool,
}

/// What a collection collects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectionKind {
    /// 0: machines.
    Machines,
    /// 1: collections.
    Collections,
}

/// A named set of machines or of collections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Its identity.
    pub id: Guid,
    /// Display name.
    pub name: SmolStr,
    /// What it collects.
    pub kind: CollectionKind,
    /// Its members, in the order they were added.
    pub members: Vec<Guid>,
    /// Comes from the configuration.
    pub configured: bool,
    /// When it was made.
    pub created: Timestamp,
    /// The consistency of the snapshot collection applied last (3, group crash consistent), if one was.
    pub last_applied: Option<Guid>,
}

/// Snapshots of all machines of a collection, of one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCollection {
    /// Its identity.
    pub id: Guid,
    /// Position in the order of creation.
    pub sequence: u64,
    /// The collection.
    pub collection: Guid,
    /// Display name.
    pub name: SmolStr,
    /// When it was taken.
    pub created: Timestamp,
    /// What it is for.
    pub kind: SnapshotKind,
    /// The snapshots in it that still exist.
    pub snapshots: Vec<Guid>,
}

/// A pool of volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its identity.
    pub id: Guid,
    /// Unique on the host.
    pub name: SmolStr,
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
    /// Bytes not yet used when last looked at.
    pub free_bytes: u64,
}

/// What a volume is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeUsage {
    /// Unrestricted.
    Ordinary,
    /// A point-in-time copy of another volume.
    LocalReplica,
}

/// A storage volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its identity.
    pub id: Guid,
    /// The pool it lies in.
    pub pool: Guid,
    /// Unique within the pool: the name of the file.
    pub file_name: SmolStr,
    /// Display name.
    pub name: SmolStr,
    /// The file.
    pub path: PathBuf,
    /// The volume it is a snapshot of; that may be gone.
    pub snapshot_of: Option<Guid>,
    /// What it is used for.
    pub usage: VolumeUsage,
    /// Its length in bytes.
    pub bytes: u64,
    /// What it takes on disk.
    pub allocated_bytes: u64,
    /// When it was made or first seen.
    pub created: Timestamp,
}
