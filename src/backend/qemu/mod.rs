//! Machines run by QEMU, ours and those of others (`backends` §2).
//!
//! A snapshot of a qcow2 disk lies inside of it, under a tag that is the GUID of the snapshot; memory lies in
//! `<data>/snapshots/<snapshot>/memory`. A snapshot of a raw disk is made by an overlay, see `overlay`. A machine that we start has a directory `<data>/machines/<machine>` with its
//! sockets, its PID file and, while it is saved, its memory. What QEMU says is asked of the process if there is one and
//! of `qemu-img` if there is none; QEMU's locks on the images keep the two apart.

mod agent;
mod apply;
mod bitmaps;
mod block;
mod changes;
mod commands;
mod create;
mod export;
mod files;
mod image;
mod launch;
mod layers;
mod lines;
mod machine;
mod member;
mod memory;
mod merge;
mod monitor;
mod nbd;
mod overlay;
mod power;
mod process;
mod qcow2;
mod raw;
mod recover;
mod settings;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    ApplyRequest, BackendError, BoxFuture, Capabilities, Cause, DestroyRequest, ExportRequest, Hypervisor, JournalStep,
    MachineDefinition, MachineReport, MachineState, Operation, PowerAction, Recovery, SerialPort, SnapshotOutcome,
    SnapshotRequest, StepControl, TrackingRequest, copy, files::virtual_size,
};
use crate::time::Guid;
use image::ImageTool;
use machine::Machine;

pub use agent::{Agent, AgentError, FreezeStatus};
pub use layers::DiskLayer;
pub use monitor::{Monitor, MonitorError, MonitorEvent};
pub use overlay::{NewOverlay, Overlays};
pub use settings::{Accelerator, MemoryMethod, QemuSettings};

/// Machines run by QEMU.
pub struct QemuHypervisor {
    root: PathBuf,
    settings: Arc<QemuSettings>,
    machines: BTreeMap<Guid, Arc<Machine>>,
}

impl QemuHypervisor {
    /// Opens the machines; snapshots go to `snapshots` and what belongs to a machine to `machines` below `data_dir`.
    /// Nothing is started.
    ///
    /// # Errors
    /// A [`BackendError`] when a directory cannot be made or a definition is wrong.
    pub fn open(
        data_dir: &Path,
        machines: Vec<MachineDefinition>,
        settings: QemuSettings,
    ) -> Result<Self, BackendError> {
        const STEP: &str = "open the directories of the machines";
        let data_dir = std::path::absolute(data_dir).map_err(|error| BackendError::io(STEP, data_dir, error))?;
        let root = data_dir.join("snapshots");
        let directories = data_dir.join("machines");
        for directory in [&root, &directories] {
            fs::create_dir_all(directory).map_err(|error| BackendError::io(STEP, directory, error))?;
        }
        copy::sync_directory(STEP, &data_dir)?;
        let settings = Arc::new(settings);
        let mut known = BTreeMap::new();
        for definition in machines {
            let (id, directory) = (definition.id, directories.join(definition.id.to_string()));
            fs::create_dir_all(&directory).map_err(|error| BackendError::io(STEP, &directory, error))?;
            let images = ImageTool::new(settings.image_tool.clone());
            let machine = Machine::new(definition, Arc::clone(&settings), images, directory);
            if known.insert(id, Arc::new(machine)).is_some() {
                let text = format!("two machines have the id {id}");
                return Err(BackendError::new("read the machine definitions", Cause::NotSupported(text)));
            }
        }
        Ok(Self { root, settings, machines: known })
    }

    fn machine(&self, id: Guid) -> Result<Arc<Machine>, BackendError> {
        let missing =
            || BackendError::new("find the machine", Cause::Unreachable(format!("machine {id} is not defined")));
        self.machines.get(&id).cloned().ok_or_else(missing)
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn settings(&self) -> &QemuSettings {
        &self.settings
    }

    fn snapshot_directory(&self, snapshot: Guid) -> PathBuf {
        self.root.join(snapshot.to_string())
    }

    async fn report(&self, machine: &Arc<Machine>) -> MachineReport {
        // A machine that cannot be reached now is there all the same, and is not off: somebody runs it, so nothing may
        // be done to its disks. Its state is looked at again.
        let state = machine.state().await.unwrap_or_else(|error| {
            tracing::warn!(machine = %machine.definition.id, %error, "The state is not known");
            MachineState::Failed
        });
        let foreign = self
            .found_inside(machine)
            .await
            .inspect_err(|error| {
                let machine = machine.definition.id;
                tracing::warn!(%machine, %error, "The snapshots inside the disks are not known");
            })
            .ok();
        MachineReport {
            definition: machine.definition.clone(),
            state,
            foreign,
            virtual_sizes: machine.definition.disks.iter().map(virtual_size).collect(),
            // A machine that we start has one; of another its owner knows.
            serial_ports: machine
                .launched()
                .map(|launched| SerialPort { file: launched.serial.clone() })
                .into_iter()
                .collect(),
            process: machine.process_id(),
        }
    }
}

impl Hypervisor for QemuHypervisor {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            running: true,
            memory: true,
            quiesce: true,
            group_instant: true,
            progress: true,
            cancel: true,
            reference_points: true,
            differential_export: true,
            power: true,
        }
    }

    fn machines(&self) -> BoxFuture<'_, Result<Vec<MachineReport>, BackendError>> {
        Box::pin(async {
            let mut reports = Vec::new();
            for machine in self.machines.values() {
                reports.push(self.report(machine).await);
            }
            Ok(reports)
        })
    }

    fn state(&self, machine: Guid) -> BoxFuture<'_, Result<MachineState, BackendError>> {
        Box::pin(async move { self.machine(machine)?.state().await })
    }

    fn process_id(&self, machine: Guid) -> Option<u32> {
        self.machines.get(&machine)?.process_id()
    }

    fn create_snapshots<'a>(
        &'a self,
        requests: &'a [SnapshotRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<Vec<SnapshotOutcome>, BackendError>> {
        Box::pin(self.create(requests, control))
    }

    fn apply_snapshots<'a>(
        &'a self,
        requests: &'a [ApplyRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(self.apply(requests, control))
    }

    fn destroy_snapshots<'a>(
        &'a self,
        requests: &'a [DestroyRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let cancelled = |_| BackendError::new("destroy the snapshot", Cause::Cancelled);
            control.record(JournalStep::Removing).await.map_err(cancelled)?;
            self.remove_wholly(requests).await?;
            self.end_of_snapshots(requests).await
        })
    }

    fn convert_to_reference_points<'a>(
        &'a self,
        requests: &'a [DestroyRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(self.convert(requests, control))
    }

    fn destroy_reference_points<'a>(
        &'a self,
        requests: &'a [TrackingRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let cancelled = |_| BackendError::new("destroy the reference point", Cause::Cancelled);
            control.record(JournalStep::Removing).await.map_err(cancelled)?;
            self.end_of_points(requests).await
        })
    }

    fn verify_reference_points<'a>(&'a self, requests: &'a [TrackingRequest]) -> BoxFuture<'a, BTreeSet<Guid>> {
        Box::pin(self.lost_tracking(requests))
    }

    fn remove_stale_tracking<'a>(&'a self, tracked: &'a BTreeSet<Guid>) -> BoxFuture<'a, Result<usize, BackendError>> {
        Box::pin(async move { Ok(self.end_unowned(tracked).await) })
    }

    fn export_snapshots<'a>(
        &'a self,
        request: &'a ExportRequest,
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(self.export(request, control))
    }

    fn needs_merge(&self, machine: Guid) -> BoxFuture<'_, bool> {
        Box::pin(self.is_untidy(machine))
    }

    fn merge_disks<'a>(&'a self, machine: Guid, control: &'a StepControl) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(self.merge_layers(machine, control))
    }

    fn clear_memory<'a>(&'a self, request: &'a DestroyRequest) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            for file in request.files.iter().filter(|file| !request.referenced.contains(*file)) {
                copy::remove_file("drop the memory", file)?;
            }
            Ok(())
        })
    }

    fn change_state<'a>(
        &'a self,
        machine: Guid,
        action: PowerAction,
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<MachineState, BackendError>> {
        Box::pin(async move {
            let machine = self.machine(machine)?;
            self.power(&machine, action, control).await
        })
    }

    fn recover<'a>(
        &'a self,
        operation: &'a Operation,
        journal: &'a [JournalStep],
    ) -> BoxFuture<'a, Result<Recovery, BackendError>> {
        Box::pin(self.recover_operation(operation, journal))
    }

    fn missing_files<'a>(&'a self, files: &'a [PathBuf]) -> BoxFuture<'a, BTreeSet<PathBuf>> {
        Box::pin(async move { files.iter().filter(|file| !file.is_file()).cloned().collect() })
    }

    fn missing_snapshots<'a>(&'a self, snapshots: &'a [DestroyRequest]) -> BoxFuture<'a, BTreeSet<Guid>> {
        Box::pin(self.lost(snapshots))
    }

    fn remove_orphans<'a>(
        &'a self,
        owned: &'a BTreeSet<Guid>,
        referenced: &'a HashSet<PathBuf>,
    ) -> BoxFuture<'a, Result<Vec<PathBuf>, BackendError>> {
        Box::pin(async move { self.remove_unowned(owned, referenced) })
    }
}
