//! Machines, pools and collections as the configuration states them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::NetworkDefinition;
use crate::time::Guid;

/// How the content of a disk file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// The bytes of the disk, one after the other.
    #[default]
    Raw,
    /// QEMU copy-on-write, version 2 or 3.
    Qcow2,
}

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineDefinition {
    /// Its identity for ever.
    pub id: Guid,
    /// Its display name.
    pub name: String,
    /// Free text about it.
    #[serde(default)]
    pub notes: String,
    /// Memory in MiB.
    #[serde(default = "default_memory")]
    pub memory_mb: u64,
    /// Virtual processors.
    #[serde(default = "default_processors")]
    pub processors: u32,
    /// Its disks, in the order of their attachment.
    #[serde(default)]
    pub disks: Vec<DiskDefinition>,
    /// Its network cards, in the order of their attachment.
    #[serde(default)]
    pub networks: Vec<NetworkDefinition>,
    /// How QEMU runs it; for the back-end `qemu` only.
    #[serde(default)]
    pub qemu: QemuMachine,
}

/// How QEMU runs a machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum QemuMachine {
    /// Somebody else starts it.
    Attached(AttachedMachine),
    /// We start it.
    Launched(LaunchedMachine),
}

impl Default for QemuMachine {
    fn default() -> Self {
        Self::Launched(LaunchedMachine::default())
    }
}

/// A machine that somebody else starts, reached through its sockets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachedMachine {
    /// Its QMP socket; nobody else may use it.
    pub monitor: PathBuf,
    /// The socket of its guest agent.
    pub agent: Option<PathBuf>,
}

/// A machine that we start.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LaunchedMachine {
    /// QEMU's machine type; one without a version becomes the versioned one it stands for at the first start.
    pub machine: String,
    /// QEMU's processor model.
    pub cpu: String,
    /// A kernel to boot directly.
    pub kernel: Option<PathBuf>,
    /// Its initial file system.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub append: String,
    /// The file that the first serial line is written to.
    pub serial: Option<PathBuf>,
    /// Further arguments for QEMU.
    pub arguments: Vec<String>,
}

impl Default for LaunchedMachine {
    fn default() -> Self {
        Self {
            machine: "q35".to_owned(),
            cpu: "max".to_owned(),
            kernel: None,
            initrd: None,
            append: String::new(),
            serial: None,
            arguments: Vec::new(),
        }
    }
}

/// Memory of a machine whose definition does not state it, in MiB.
pub const DEFAULT_MEMORY_MB: u64 = 1024;
/// The most memory that a definition may state, in MiB; the least is one.
pub const MAX_MEMORY_MB: u64 = 16_777_216;
/// Virtual processors of a machine whose definition does not state them.
pub const DEFAULT_PROCESSORS: u32 = 1;
/// The most virtual processors that a definition may state; the least is one.
pub const MAX_PROCESSORS: u64 = 4096;

const fn default_memory() -> u64 {
    DEFAULT_MEMORY_MB
}

const fn default_processors() -> u32 {
    DEFAULT_PROCESSORS
}

/// A disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskDefinition {
    /// Unique within the machine.
    pub name: String,
    /// The file (or, for a pass-through disk, the device) with its content.
    pub path: PathBuf,
    /// The layout of the file.
    #[serde(default)]
    pub format: DiskFormat,
    /// The guest cannot write to it; it is left out of snapshots or makes them fail.
    #[serde(default)]
    pub read_only: bool,
    /// A device of the host handed through; it is left out of snapshots or makes them fail.
    #[serde(default)]
    pub pass_through: bool,
}

/// What a pool may do to make a snapshot of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolSnapshots {
    /// By reflink where the filesystem can, else by copy.
    #[default]
    Auto,
    /// By reflink only; where the filesystem cannot, a snapshot is refused.
    Reflink,
    /// By copy only.
    Copy,
    /// Not at all.
    None,
}

/// A directory whose files are volumes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolDefinition {
    /// Unique on the host.
    pub name: String,
    /// The directory.
    pub path: PathBuf,
    /// How snapshots are made.
    #[serde(default)]
    pub snapshots: PoolSnapshots,
}

/// A named set of machines, or of other collections.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectionDefinition {
    /// Its display name.
    pub name: String,
    /// Its identity for ever.
    pub id: Guid,
    /// Identities of its members: all machines, or all collections.
    #[serde(default)]
    pub members: Vec<Guid>,
}
