//! Raw disks in the operations on machines: which of them take part, and the calls that make them.
//!
//! The record of a snapshot names a raw disk and nothing more, for merges move the file that the snapshot is; where that
//! is now is known by `layers.json` only.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::copy;
use super::super::{
    ApplyRequest, BackendError, Cause, DiskDefinition, DiskFormat, DiskImage, JournalStep, MachineState, Recovery,
    StepControl,
};
use super::QemuHypervisor;
use super::machine::Machine;
use super::member::{Member, release};
use crate::time::Guid;

/// Bytes an overlay takes before anything is written to it, with room to spare.
const EMPTY_OVERLAY: u64 = 1 << 20;
/// How often a merge is begun again because the machine was turned off or on meanwhile.
const MERGE_ATTEMPTS: u32 = 3;
/// How often it is tried to let a guest go on that a failed merge has stopped.
const RESUME_ATTEMPTS: u32 = 60;
/// Between two of these attempts.
const RESUME_PAUSE: Duration = Duration::from_secs(1);

/// True for a disk whose snapshots are layers.
pub(super) fn has_layers(disk: &DiskDefinition) -> bool {
    disk.format == DiskFormat::Raw && !disk.pass_through && !disk.read_only
}

/// True for a disk of a snapshot that lies in layers.
pub(super) fn is_layered(disk: &DiskImage) -> bool {
    disk.internal && disk.format == DiskFormat::Raw
}

/// True for a disk of a snapshot that lies inside the disk under a tag.
pub(super) fn is_tagged(disk: &DiskImage) -> bool {
    disk.internal && disk.format == DiskFormat::Qcow2
}

/// A raw disk as the record of a snapshot names it.
pub(super) fn layered_image(disk: &DiskDefinition) -> DiskImage {
    DiskImage {
        disk: disk.name.clone(),
        source: disk.path.clone(),
        file: disk.path.clone(),
        format: disk.format,
        internal: true,
        bytes: 0,
    }
}

/// The disks of a machine that go into a snapshot and the names of those left out.
///
/// # Errors
/// [`Cause::NotSupported`] with the disk that can be in no snapshot, unless such disks are to be left out.
pub(super) fn choose_disks(
    machine: &Machine,
    ignore: bool,
) -> Result<(Vec<&DiskDefinition>, Vec<String>), BackendError> {
    let (mut chosen, mut skipped) = (Vec::new(), Vec::new());
    for disk in &machine.definition.disks {
        let reason = if disk.pass_through {
            "a pass-through disk cannot be snapshotted"
        } else if disk.read_only {
            "a read-only disk cannot be snapshotted"
        } else if disk.format == DiskFormat::Raw && !machine.settings.overlay_raw_disks {
            "a raw disk cannot hold snapshots"
        } else if disk.format == DiskFormat::Raw && machine.launched().is_none() {
            "a raw disk cannot hold snapshots, and overlays are only for machines that this server starts: \
             somebody else would start it without them"
        } else {
            chosen.push(disk);
            continue;
        };
        if !ignore {
            let cause = Cause::NotSupported(reason.to_owned());
            return Err(BackendError::new("plan the snapshot", cause).on_disk(&disk.name));
        }
        skipped.push(disk.name.clone());
    }
    Ok((chosen, skipped))
}

/// The raw disks of a machine that are in a snapshot.
pub(super) fn layered_disks(machine: &Machine, images: &[DiskImage]) -> Vec<DiskDefinition> {
    let names: HashSet<&str> = images.iter().filter(|disk| is_layered(disk)).map(|disk| disk.disk.as_str()).collect();
    let disks = machine.definition.disks.iter();
    disks.filter(|disk| has_layers(disk) && names.contains(disk.name.as_str())).cloned().collect()
}

/// Everything that the raw disks of a snapshot need to be applied is there.
///
/// # Errors
/// A [`BackendError`] with the disk that cannot be applied.
pub(super) async fn check_layers(machine: &Machine, request: &ApplyRequest) -> Result<(), BackendError> {
    const STEP: &str = "check the snapshot";
    let overlays = machine.overlays();
    let disks = layered_disks(machine, &request.disks);
    for image in request.disks.iter().filter(|disk| is_layered(disk)) {
        let refused = |text: &str| {
            let cause = Cause::NotSupported(text.to_owned());
            Err(BackendError::new(STEP, cause).on_disk(&image.disk))
        };
        let Some(disk) = disks.iter().find(|disk| disk.name == image.disk) else {
            return refused("the machine no longer has this disk; define it again, or use another snapshot");
        };
        if machine.launched().is_none() {
            return refused("somebody else starts the machine now, and would start it without the layers of its disk");
        }
        overlays.active(disk)?;
        if !overlays.is_whole(&disk.name, request.snapshot).await? {
            let file =
                overlays.image(&disk.name, request.snapshot)?.map_or_else(|| disk.path.clone(), |layer| layer.file);
            let text = format!("{} with the snapshot {}, or a file below it,", file.display(), request.snapshot);
            return Err(BackendError::new(STEP, Cause::FileNotFound(text.into())).on_disk(&disk.name));
        }
    }
    if !disks.is_empty() {
        copy::check_space("check the space for the overlays", &machine.directory, EMPTY_OVERLAY)?;
    }
    Ok(())
}

/// Gives up the layers of a snapshot. What is left to merge waits for [`QemuHypervisor::merge_layers`].
///
/// # Errors
/// A [`BackendError`]; the call may be repeated.
pub(super) async fn forget_layers(machine: &Arc<Machine>, snapshot: Guid) -> Result<(), BackendError> {
    let monitor = machine.monitor().await?.filter(|_| machine.launched().is_some());
    machine.overlays().forget(monitor.as_ref(), snapshot).await
}

/// Tidies the overlays of a machine whose process was killed.
///
/// # Errors
/// A [`BackendError`].
pub(super) async fn reclaim_layers(machine: &Arc<Machine>) -> Result<(), BackendError> {
    for file in machine.overlays().files()?.iter().filter(|file| file.exists()) {
        machine.images.reclaim(file).await?;
    }
    Ok(())
}

impl Member {
    /// Room for the overlays.
    ///
    /// # Errors
    /// [`Cause::NoSpace`].
    pub(super) fn check_overlay_space(&self) -> Result<(), BackendError> {
        let count = u64::try_from(self.raw.len()).unwrap_or(u64::MAX);
        if count == 0 {
            return Ok(());
        }
        let needed = EMPTY_OVERLAY.saturating_mul(count);
        copy::check_space("check the space for the overlays", &self.machine.directory, needed)
    }

    /// Makes the overlays that the transaction puts in place. The guest runs on.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) async fn add_overlays(&mut self) -> Result<(), BackendError> {
        let Some(monitor) = &self.monitor else { return Ok(()) };
        let overlays = self.machine.overlays();
        if !self.raw.is_empty() {
            overlays.settle(monitor).await?;
        }
        for disk in &self.raw {
            self.overlays.push(overlays.add(monitor, disk, self.request.snapshot).await?);
        }
        Ok(())
    }

    /// Takes the raw disks of a machine without a process.
    ///
    /// # Errors
    /// A [`BackendError`]; some of the disks may be taken.
    pub(super) async fn take_raw_stopped(&self) -> Result<(), BackendError> {
        let overlays = self.machine.overlays();
        for disk in &self.raw {
            overlays.add_stopped(disk, self.request.snapshot).await?;
        }
        Ok(())
    }
}

impl QemuHypervisor {
    /// Finds out what QEMU writes to, before anything is done with the disks of a machine or it is let run.
    ///
    /// # Errors
    /// A [`BackendError`]; the machine must be left as it is.
    pub(super) async fn reconcile(&self, machine: Guid) -> Result<(), BackendError> {
        let machine = self.machine(machine)?;
        if machine.launched().is_none() {
            return Ok(());
        }
        match machine.monitor().await? {
            Some(monitor) => machine.overlays().reconcile(&monitor).await,
            None => Ok(()),
        }
    }

    /// True when layers wait to be merged. A machine that somebody else starts now has none that are used.
    pub(super) async fn is_untidy(&self, machine: Guid) -> bool {
        let Ok(machine) = self.machine(machine) else { return false };
        if machine.launched().is_none() {
            return false;
        }
        machine.overlays().is_untidy().await.unwrap_or_else(|error| {
            tracing::warn!(machine = %machine.definition.id, %error, "Whether layers wait to be merged is not known");
            false
        })
    }

    /// Merges the layers that nobody needs apart. The jobs in QEMU have the name of the machine, which has one at a time.
    ///
    /// # Errors
    /// A [`BackendError`]; the machine runs as before, and all layers are usable.
    pub(super) async fn merge_layers(&self, machine: Guid, control: &StepControl) -> Result<(), BackendError> {
        let machine = self.machine(machine)?;
        let overlays = machine.overlays();
        let mut attempt = 1;
        loop {
            let ran = machine.state().await? == MachineState::Running;
            let monitor = machine.monitor().await?;
            let merged = overlays.tidy(monitor.as_ref(), machine.definition.id, control).await;
            let Err(error) = merged else { return Ok(()) };
            self.go_on_after_merge(&machine, ran).await?;
            // The guest may have turned itself off in the middle. Its disks are merged all the same.
            let ended = monitor.is_some() && !control.is_cancelled() && machine.monitor().await?.is_none();
            if !ended || attempt == MERGE_ATTEMPTS {
                return Err(error);
            }
            tracing::info!(machine = %machine.definition.id, %error, "The machine is off now, the merge begins again");
            attempt += 1;
        }
    }

    /// Lets a guest go on that a merge has stopped, once it is known what it writes to.
    async fn go_on_after_merge(&self, machine: &Arc<Machine>, ran: bool) -> Result<(), BackendError> {
        let mut attempt = 1;
        loop {
            let gone_on = async {
                let Some(monitor) = machine.monitor().await? else { return Ok(()) };
                machine.overlays().reconcile(&monitor).await?;
                release(machine, ran).await
            };
            match gone_on.await {
                Err(error) if attempt < RESUME_ATTEMPTS => {
                    tracing::warn!(machine = %machine.definition.id, %error, "The machine cannot go on yet");
                }
                result => return result,
            }
            attempt += 1;
            tokio::time::sleep(RESUME_PAUSE).await;
        }
    }

    /// Lets a guest go on that an interrupted merge has stopped. Another merge goes on with what is left.
    pub(super) async fn recover_merge(&self, machine: Guid, journal: &[JournalStep]) -> Result<Recovery, BackendError> {
        let paused = |step: &JournalStep| matches!(step, JournalStep::Paused { running } if running.contains(&machine));
        let ran = journal.iter().any(paused);
        let known = self.machine(machine)?;
        release(&known, ran).await?;
        if known.overlays().is_untidy().await? { Ok(Recovery::RolledBack) } else { Ok(Recovery::Finished(Vec::new())) }
    }
}
