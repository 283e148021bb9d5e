//! Hypervisors and volume managers (rank 2).
//!
//! [`Hypervisor`] and [`VolumeManager`] are all the engine knows about the host.
//! An implementation says in [`Capabilities`] what it can do; the engine decides, and nobody above
//! asks which back-end it is. Long calls get a [`StepControl`]: they write each step through it
//! *before* they execute it, report true progress, and give up soon after they are cancelled.
//!
//! A back-end holds no record of its own: what it made is described by the values it returns, and
//! [`Hypervisor::recover`] judges an interrupted operation from its request and its journal alone.

mod control;
mod copy;
mod definition;
mod directory;
mod error;
mod export;
mod files;
mod files_apply;
mod files_export;
mod hardware;
mod host;
mod hypervisor;
mod open;
mod qemu;
mod replace;
mod script;
mod simulated;
mod simulated_tracking;
mod volume;

pub use control::{Interrupted, Journal, JournalStep, NoJournal, Progress, StagedFile, StepControl};
pub use definition::{
    AttachedMachine, CollectionDefinition, DEFAULT_MEMORY_MB, DEFAULT_PROCESSORS, DiskDefinition, DiskFormat,
    LaunchedMachine, MAX_MEMORY_MB, MAX_PROCESSORS, MachineDefinition, PoolDefinition, PoolSnapshots, QemuMachine,
};
pub use directory::DirectoryPools;
pub use error::{BackendError, Cause};
pub use export::{ChangedParts, ExportMember, ExportRequest};
pub use files::FilesHypervisor;
pub use hardware::{InvalidMacAddress, MacAddress, NetworkDefinition, SerialPort};
pub use host::{HostInspector, HostUsage, ProcessorPackage};
pub use hypervisor::{
    ApplyRequest, Capabilities, DestroyRequest, DiskImage, ForeignSnapshot, Hypervisor, MachineReport, MachineState,
    Operation, PowerAction, Quiesce, Recovery, SnapshotOutcome, SnapshotRequest, TrackedDisk, TrackingRequest,
};
pub use open::{Backend, BackendConfig, open};
pub use qemu::{
    Accelerator, Agent, AgentError, DiskLayer, FreezeStatus, MemoryMethod, Monitor, MonitorError, MonitorEvent,
    NewOverlay, Overlays, QemuHypervisor, QemuSettings,
};
pub use script::{ScriptedFailure, SimulatedScript};
pub use simulated::{Fault, SimulatedCall, SimulatedHypervisor};
pub use volume::{VolumeManager, VolumePoolReport, VolumeReport, VolumeSnapshotRequest};

/// A future that can be sent between threads.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
