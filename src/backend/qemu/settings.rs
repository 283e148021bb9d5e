//! How QEMU is used.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the memory of a running machine is written (`backends` §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemoryMethod {
    /// The first of the following that the host can do.
    #[default]
    Auto,
    /// While the guest runs, as it was at the start; needs write protection from userfaultfd.
    Background,
    /// While the guest runs, as it is at the end.
    Precopy,
    /// While the guest stands still.
    Stop,
}

/// What executes the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// KVM where it works, else TCG.
    #[default]
    Auto,
    /// The processor's own virtualisation.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// The section `[backend.qemu]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuSettings {
    /// The program that runs a machine.
    pub program: PathBuf,
    /// The program that works on disks.
    pub image_tool: PathBuf,
    /// What executes guests.
    pub accelerator: Accelerator,
    /// How memory is written.
    pub memory: MemoryMethod,
    /// How long a guest may stand still at the end of [`MemoryMethod::Precopy`].
    pub pause_limit: Duration,
    /// How long one answer of a guest agent may take.
    pub agent_timeout: Duration,
    /// After how long a guest is thawed whatever else goes on.
    pub freeze_limit: Duration,
    /// How long a guest may take to shut down.
    pub shutdown_timeout: Duration,
    /// Snapshots of raw disks are taken by overlays, for machines that we start; else they are refused.
    pub overlay_raw_disks: bool,
}

impl Default for QemuSettings {
    fn default() -> Self {
        Self {
            program: "qemu-system-x86_64".into(),
            image_tool: "qemu-img".into(),
            accelerator: Accelerator::Auto,
            memory: MemoryMethod::Auto,
            pause_limit: Duration::from_millis(250),
            agent_timeout: Duration::from_secs(10),
            freeze_limit: Duration::from_secs(20),
            shutdown_timeout: Duration::from_secs(100),
            overlay_raw_disks: false,
        }
    }
}
