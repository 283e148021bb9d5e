//! The trait of a hypervisor and the values that cross it.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    BackendError, BoxFuture, Cause, DiskDefinition, DiskFormat, ExportRequest, JournalStep, MachineDefinition,
    SerialPort, StepControl,
};
use crate::time::Guid;

/// What a hypervisor can do. Each flag is a promise the contract suite checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent promises, not a state")]
pub struct Capabilities {
    /// Snapshots of running machines (of machines that are off everybody can).
    pub running: bool,
    /// Snapshots that hold the memory of a running machine.
    pub memory: bool,
    /// Freezing the file systems of a guest.
    pub quiesce: bool,
    /// One common instant for several machines.
    pub group_instant: bool,
    /// Progress while a call runs.
    pub progress: bool,
    /// Creation and application can be cancelled.
    pub cancel: bool,
    /// Change tracking, so that a recovery snapshot can become a reference point.
    pub reference_points: bool,
    /// Exporting only what changed since a reference point.
    pub differential_export: bool,
    /// Starting, stopping, pausing and saving machines.
    pub power: bool,
}

/// A snapshot found in the disks of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignSnapshot {
    /// Its tag.
    pub tag: String,
    /// The disks that have it.
    pub disks: Vec<DiskImage>,
    /// When it was taken, in seconds since 1970.
    pub created: i64,
    /// It holds memory.
    pub has_memory: bool,
}

/// The run state of a machine as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// The guest runs.
    Running,
    /// No process, no memory.
    Off,
    /// No process; the memory lies in a file and the next start continues from it.
    Saved,
    /// The process holds the memory and the guest stands still.
    Paused,
    /// The process is there, but the guest cannot go on: its disk or itself failed.
    Failed,
}

/// What is asked of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerAction {
    /// To running, from off (boot), saved (continue) or paused (resume).
    Start,
    /// To off, at once.
    TurnOff,
    /// To off, by asking the guest.
    ShutDown,
    /// To running, through off.
    Reset,
    /// To saved.
    Save,
    /// To paused.
    Pause,
}

/// A machine as the hypervisor knows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineReport {
    /// What it is.
    pub definition: MachineDefinition,
    /// How it is.
    pub state: MachineState,
    /// Snapshots in its disks that no request of ours made, as far as they can be told from ours; `None` when the disks
    /// cannot be read now.
    pub foreign: Option<Vec<ForeignSnapshot>>,
    /// Virtual size of each disk in bytes, in the order of the definition; `None` if the disk cannot be read.
    pub virtual_sizes: Vec<Option<u64>>,
    /// Its serial ports, as far as the back-end knows them.
    pub serial_ports: Vec<SerialPort>,
    /// The process that runs it, as [`Hypervisor::process_id`] gives it.
    pub process: Option<u32>,
}

/// Whether to freeze the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quiesce {
    /// Do not.
    Never,
    /// Try, and take the disks anyway when the guest cannot.
    Try,
    /// Try, and take the memory as well when the guest cannot.
    TryElseMemory,
    /// Fail when the guest cannot.
    Require,
}

/// A snapshot to be taken of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent wishes, not a state")]
pub struct SnapshotRequest {
    /// The machine.
    pub machine: Guid,
    /// The identity of the snapshot to be; files and tags carry it.
    pub snapshot: Guid,
    /// Take the memory of a running or paused machine; a saved machine's memory is copied if this is set.
    pub memory: bool,
    /// Whether to freeze.
    pub quiesce: Quiesce,
    /// Ask the guest's applications for a copy backup, which leaves their logs alone.
    pub copy_backup: bool,
    /// Leave out what cannot be snapshotted instead of failing.
    pub ignore_non_snapshottable: bool,
    /// Begin to track the changes of each disk that can be tracked, at the instant of the snapshot.
    #[serde(default)]
    pub change_tracking: bool,
    /// Only begin to track: nothing of the machine is kept, and the outcome has no disks and no memory. It fails for
    /// a machine without a disk that can be tracked.
    #[serde(default)]
    pub without_data: bool,
}

/// The tracked changes of one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedDisk {
    /// Name of the disk.
    pub disk: String,
    /// Where the disk lies.
    pub path: PathBuf,
    /// What tells these changes from others of the same disk, such as the name of a dirty bitmap; never empty.
    pub identifier: String,
}

/// The content of one disk inside a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskImage {
    /// Name of the disk.
    pub disk: String,
    /// Where the disk lay.
    pub source: PathBuf,
    /// The file with the content.
    pub file: PathBuf,
    /// Layout of the file.
    pub format: DiskFormat,
    /// The content lies inside `file`, which is the disk itself, under a tag that is the GUID of the snapshot; or, where
    /// `file` is raw and has no inside, in layers of the back-end under that GUID.
    #[serde(default)]
    pub internal: bool,
    /// Length of the file.
    pub bytes: u64,
}

/// What a snapshot turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotOutcome {
    /// The machine.
    pub machine: Guid,
    /// The snapshot.
    pub snapshot: Guid,
    /// The disks in it.
    pub disks: Vec<DiskImage>,
    /// Names of disks left out.
    pub skipped: Vec<String>,
    /// The file with the memory, when it is in the snapshot.
    pub memory: Option<PathBuf>,
    /// True when the applications of the guest were consistent: it was frozen, off, or its memory is in the snapshot.
    pub application_consistent: bool,
    /// How the machine was launched, in the back-end's own words: its memory fits only a machine launched the same way.
    #[serde(default)]
    pub launch: Option<String>,
    /// How long the guest stood still, in milliseconds.
    pub paused_ms: u64,
    /// How long the file systems were frozen, in milliseconds.
    pub frozen_ms: u64,
    /// The disks whose changes are tracked from this instant on.
    #[serde(default)]
    pub tracking: Vec<TrackedDisk>,
}

/// A snapshot that becomes the content of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyRequest {
    /// The machine.
    pub machine: Guid,
    /// The snapshot.
    pub snapshot: Guid,
    /// The job; names of temporary files carry it.
    pub operation: Guid,
    /// The disks of the snapshot.
    pub disks: Vec<DiskImage>,
    /// The memory of the snapshot.
    pub memory: Option<PathBuf>,
    /// How the machine was launched then.
    #[serde(default)]
    pub launch: Option<String>,
}

/// A snapshot whose data is to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyRequest {
    /// The machine.
    pub machine: Guid,
    /// The snapshot.
    pub snapshot: Guid,
    /// Its files.
    pub files: Vec<PathBuf>,
    /// The tracking that began with it: a destruction ends it, a conversion keeps it.
    #[serde(default)]
    pub tracking: Vec<TrackedDisk>,
    /// Its disks, those inside other files too.
    #[serde(default)]
    pub disks: Vec<DiskImage>,
    /// Files some other record or a disk refers to: never removed.
    #[serde(skip)]
    pub referenced: Arc<HashSet<PathBuf>>,
}

/// The tracked changes of a machine since one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackingRequest {
    /// The machine.
    pub machine: Guid,
    /// The snapshot the tracking began with.
    pub snapshot: Guid,
    /// The disks, where they lie now.
    pub disks: Vec<TrackedDisk>,
}

/// An operation as it is stored before it begins, for recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// [`Hypervisor::create_snapshots`].
    Create(Vec<SnapshotRequest>),
    /// [`Hypervisor::apply_snapshots`].
    Apply(Vec<ApplyRequest>),
    /// [`Hypervisor::destroy_snapshots`].
    Destroy(Vec<DestroyRequest>),
    /// [`Hypervisor::convert_to_reference_points`].
    Convert(Vec<DestroyRequest>),
    /// [`Hypervisor::destroy_reference_points`].
    DestroyReferencePoints(Vec<TrackingRequest>),
    /// [`Hypervisor::export_snapshots`].
    Export(ExportRequest),
    /// [`Hypervisor::change_state`].
    ChangeState {
        /// The machine.
        machine: Guid,
        /// What was asked of it.
        action: PowerAction,
    },
    /// [`Hypervisor::merge_disks`].
    Merge {
        /// The machine.
        machine: Guid,
    },
}

/// How an interrupted operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// It is finished; outcomes are there when it was a creation.
    Finished(Vec<SnapshotOutcome>),
    /// Everything it did is undone.
    RolledBack,
}

/// A host of virtual machines.
///
/// The engine calls at most one operation on a machine at a time and has checked that machine and snapshot
/// exist and are in a permitted state. Every operation is all-or-nothing over all machines it names, except
/// [`destroy_snapshots`](Self::destroy_snapshots), which may be called again until it succeeds.
pub trait Hypervisor: Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// All machines.
    ///
    /// # Errors
    /// A [`BackendError`] when they cannot be listed.
    fn machines(&self) -> BoxFuture<'_, Result<Vec<MachineReport>, BackendError>>;

    /// The present run state of one machine.
    ///
    /// # Errors
    /// A [`BackendError`] when it cannot be found out.
    fn state(&self, machine: Guid) -> BoxFuture<'_, Result<MachineState, BackendError>>;

    /// The disks of a machine that no snapshot can hold.
    fn non_snapshottable<'a>(&self, disks: &'a [DiskDefinition]) -> Vec<&'a DiskDefinition> {
        disks.iter().filter(|disk| disk.pass_through || disk.read_only).collect()
    }

    /// Takes one snapshot of each machine, all of one instant where [`Capabilities::group_instant`] says so.
    ///
    /// # Errors
    /// A [`BackendError`]; nothing of any snapshot is left then, and every machine runs as before.
    fn create_snapshots<'a>(
        &'a self,
        requests: &'a [SnapshotRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<Vec<SnapshotOutcome>, BackendError>>;

    /// Makes each snapshot the content of its machine, which is left off, or saved if the snapshot has memory.
    ///
    /// # Errors
    /// A [`BackendError`]; the content of every machine is as before then.
    fn apply_snapshots<'a>(
        &'a self,
        requests: &'a [ApplyRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>>;

    /// Removes the data of snapshots. What is already gone is no error.
    ///
    /// # Errors
    /// A [`BackendError`]; some data may be gone, and the call may be repeated.
    fn destroy_snapshots<'a>(
        &'a self,
        requests: &'a [DestroyRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>>;

    /// True when snapshots of a machine that are gone have left layers which [`merge_disks`](Self::merge_disks) merges.
    fn needs_merge(&self, _machine: Guid) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Merges what snapshots that are gone have left in the disks of a machine, whatever the state of the machine is.
    /// A guest that runs may stand still for some milliseconds.
    ///
    /// # Errors
    /// A [`BackendError`]; the content of the machine and of its snapshots is as before, the machine runs as before, and
    /// the call may be repeated. So it is with [`Cause::Cancelled`].
    fn merge_disks<'a>(&'a self, _machine: Guid, _control: &'a StepControl) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Removes the memory of a snapshot and keeps its disks. A memory that is already gone is no error.
    ///
    /// # Errors
    /// A [`BackendError`] when the memory is still there.
    fn clear_memory<'a>(&'a self, request: &'a DestroyRequest) -> BoxFuture<'a, Result<(), BackendError>>;

    /// Turns snapshots into reference points: their data goes, the tracking that began with them stays.
    ///
    /// All tracking is looked at before anything is removed.
    ///
    /// # Errors
    /// A [`BackendError`]: nothing has changed if no [`JournalStep::Removing`] was stored, else some data may be gone
    /// and the call may be repeated. [`Cause::NotSupported`] where [`Capabilities::reference_points`] is false.
    fn convert_to_reference_points<'a>(
        &'a self,
        _requests: &'a [DestroyRequest],
        _control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        untracked("convert to a reference point")
    }

    /// Ends the tracking of reference points. What is already gone is no error.
    ///
    /// # Errors
    /// A [`BackendError`]; some tracking may have ended, and the call may be repeated.
    fn destroy_reference_points<'a>(
        &'a self,
        _requests: &'a [TrackingRequest],
        _control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        untracked("destroy the reference point")
    }

    /// Of these, the snapshots whose tracking is not complete any more. A machine that cannot be looked at now is
    /// not named.
    fn verify_reference_points<'a>(&'a self, requests: &'a [TrackingRequest]) -> BoxFuture<'a, BTreeSet<Guid>> {
        let all = requests.iter().map(|request| request.snapshot).collect();
        Box::pin(std::future::ready(all))
    }

    /// Ends tracking of our making that began with no snapshot in `tracked`, and says how many there were.
    ///
    /// # Errors
    /// A [`BackendError`] when that cannot be found out.
    fn remove_stale_tracking<'a>(&'a self, _tracked: &'a BTreeSet<Guid>) -> BoxFuture<'a, Result<usize, BackendError>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    /// Writes snapshots with their configuration to a new directory, which appears when it is complete.
    ///
    /// # Errors
    /// A [`BackendError`]; nothing of our making is left in the file system then.
    fn export_snapshots<'a>(
        &'a self,
        _request: &'a ExportRequest,
        _control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        let cause = Cause::NotSupported("this back-end cannot export".to_owned());
        Box::pin(std::future::ready(Err(BackendError::new("export the snapshot", cause))))
    }

    /// The process that runs a machine now, if the back-end knows it. Never waits.
    fn process_id(&self, _machine: Guid) -> Option<u32> {
        None
    }

    /// Starts, stops, pauses or saves a machine and returns its new state.
    ///
    /// # Errors
    /// A [`BackendError`]; with [`Cause::NotSupported`] where [`Capabilities::power`] is false.
    fn change_state<'a>(
        &'a self,
        machine: Guid,
        action: PowerAction,
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<MachineState, BackendError>>;

    /// Finishes or undoes an operation that a stop of the server interrupted after it wrote `journal`.
    ///
    /// Frozen guests are thawed and paused machines resumed in either case.
    ///
    /// # Errors
    /// A [`BackendError`] when it could do neither; it is called again at the next start.
    fn recover<'a>(
        &'a self,
        operation: &'a Operation,
        journal: &'a [JournalStep],
    ) -> BoxFuture<'a, Result<Recovery, BackendError>>;

    /// Which of these files are gone.
    fn missing_files<'a>(&'a self, files: &'a [PathBuf]) -> BoxFuture<'a, BTreeSet<PathBuf>>;

    /// Which of these snapshots have lost a part of their data.
    fn missing_snapshots<'a>(&'a self, snapshots: &'a [DestroyRequest]) -> BoxFuture<'a, BTreeSet<Guid>> {
        Box::pin(async move {
            let files: Vec<PathBuf> = snapshots.iter().flat_map(|snapshot| snapshot.files.clone()).collect();
            let missing = self.missing_files(&files).await;
            let lost = |snapshot: &&DestroyRequest| snapshot.files.iter().any(|file| missing.contains(file));
            snapshots.iter().filter(lost).map(|snapshot| snapshot.snapshot).collect()
        })
    }

    /// Removes data of our making that belongs to no snapshot in `owned` and that nothing in `referenced` names.
    ///
    /// # Errors
    /// A [`BackendError`] when our own directories cannot be read.
    fn remove_orphans<'a>(
        &'a self,
        owned: &'a BTreeSet<Guid>,
        referenced: &'a HashSet<PathBuf>,
    ) -> BoxFuture<'a, Result<Vec<PathBuf>, BackendError>>;
}

fn untracked<'a>(step: &'static str) -> BoxFuture<'a, Result<(), BackendError>> {
    let cause = Cause::NotSupported("this back-end has no change tracking".to_owned());
    Box::pin(std::future::ready(Err(BackendError::new(step, cause))))
}
