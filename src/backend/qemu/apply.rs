//! Applying snapshots to machines that are off or saved (`backends` §2.4).
//!
//! Before a disk is reverted, its present content gets a tag of its own. When a disk cannot be reverted, all go back to
//! that tag, so that either every disk has the content of the snapshot or every disk has what it had.

use std::path::Path;
use std::sync::Arc;

use super::super::{ApplyRequest, BackendError, Cause, DiskImage, JournalStep, MachineState, Recovery, StepControl};
use super::QemuHypervisor;
use super::bitmaps;
use super::machine::Machine;
use super::raw::{check_layers, is_tagged, layered_disks};
use crate::time::Guid;

/// Begin of the name of a tag with the content before.
pub(super) const UNDO: &str = "wsnapd-undo-";

fn undo_tag(operation: Guid) -> String {
    format!("{UNDO}{operation}")
}

fn images(request: &ApplyRequest) -> impl Iterator<Item = (&DiskImage, &Path)> {
    request.disks.iter().filter(|disk| is_tagged(disk)).map(|disk| (disk, disk.source.as_path()))
}

impl QemuHypervisor {
    pub(super) async fn apply(&self, requests: &[ApplyRequest], control: &StepControl) -> Result<(), BackendError> {
        const STEP: &str = "apply the snapshot";
        let cancelled = |_| BackendError::new(STEP, Cause::Cancelled);
        for request in requests {
            self.check_applicable(request).await?;
        }
        control.record(JournalStep::Planned { files: Vec::new() }).await.map_err(cancelled)?;
        let prepared = async {
            for request in requests {
                self.prepare_apply(request).await?;
            }
            control.record(JournalStep::Reverting).await.map_err(cancelled)
        };
        let (reverting, result) = match prepared.await {
            Ok(()) => (true, self.revert(requests).await),
            Err(error) => (false, Err(error)),
        };
        if let Err(error) = result {
            return match self.take_back(requests, reverting).await {
                Ok(()) => Err(error),
                Err(left) => {
                    let text = format!("{}; and it could not be taken back: {left}", error.cause);
                    Err(BackendError { cause: Cause::Failed(text), ..error })
                }
            };
        }
        Ok(())
    }

    /// Everything that is needed is there, and nobody uses the machine.
    async fn check_applicable(&self, request: &ApplyRequest) -> Result<(), BackendError> {
        const STEP: &str = "check the snapshot";
        let machine = self.machine(request.machine)?;
        if !matches!(machine.state().await?, MachineState::Off | MachineState::Saved) {
            let text = "the machine is neither off nor saved".to_owned();
            return Err(BackendError::new(STEP, Cause::InUse(text)));
        }
        if request.memory.is_some() && machine.launched().is_none() {
            let text = "the memory of a machine that somebody else starts cannot be applied; drop it with \
                        ClearSnapshotState and apply the disks"
                .to_owned();
            return Err(BackendError::new(STEP, Cause::NotSupported(text)));
        }
        if let Some(memory) = request.memory.as_ref().filter(|memory| !memory.is_file()) {
            return Err(BackendError::new(STEP, Cause::FileNotFound(memory.clone())));
        }
        check_layers(&machine, request).await?;
        let tag = request.snapshot.to_string();
        for (disk, path) in images(request) {
            if !machine.definition.disks.iter().any(|defined| defined.path == path) {
                let text = "the machine no longer has this disk; define it again, or use another snapshot".to_owned();
                return Err(BackendError::new(STEP, Cause::NotSupported(text)).on_disk(&disk.disk));
            }
            let info = machine.images.info(path).await.map_err(|error| error.on_disk(&disk.disk))?;
            if !info.snapshots.iter().any(|known| known.name == tag) {
                let text = format!("{} with the snapshot {tag} inside", path.display());
                return Err(BackendError::new(STEP, Cause::FileNotFound(text.into())).on_disk(&disk.disk));
            }
            bitmaps::require_none_of_others(&machine, path).await.map_err(|error| error.on_disk(&disk.disk))?;
        }
        Ok(())
    }

    async fn prepare_apply(&self, request: &ApplyRequest) -> Result<(), BackendError> {
        let machine = self.machine(request.machine)?;
        let undo = undo_tag(request.operation);
        for (disk, path) in images(request) {
            machine.images.create(path, &undo).await.map_err(|error| error.on_disk(&disk.disk))?;
        }
        match &request.memory {
            Some(memory) => machine.prepare_saved(memory, request.launch.as_deref().unwrap_or_default()),
            None => machine.forget_prepared(),
        }
    }

    /// Reverts all disks and makes what was prepared the state of the machines. Repeatable.
    async fn revert(&self, requests: &[ApplyRequest]) -> Result<(), BackendError> {
        for request in requests {
            let machine = self.machine(request.machine)?;
            let tag = request.snapshot.to_string();
            for (disk, path) in images(request) {
                let named = |error: BackendError| error.on_disk(&disk.disk);
                bitmaps::forget_changes(&machine, path).await.map_err(named)?;
                machine.images.apply(path, &tag).await.map_err(named)?;
            }
            let layered = layered_disks(&machine, &request.disks);
            machine.overlays().apply(&layered, request.snapshot, request.operation).await?;
        }
        for request in requests {
            self.machine(request.machine)?.replace_saved()?;
        }
        self.forget_undo(requests).await
    }

    /// Gives the disks what they had, as far as that was kept, if they may have lost it.
    async fn take_back(&self, requests: &[ApplyRequest], reverting: bool) -> Result<(), BackendError> {
        for request in requests {
            let machine = self.machine(request.machine)?;
            let undo = undo_tag(request.operation);
            for (disk, path) in images(request) {
                let named = |error: BackendError| error.on_disk(&disk.disk);
                let info = machine.images.info(path).await.map_err(named)?;
                if reverting && info.snapshots.iter().any(|known| known.name == undo) {
                    bitmaps::forget_changes(&machine, path).await.map_err(named)?;
                    machine.images.apply(path, &undo).await.map_err(named)?;
                }
            }
            machine.overlays().take_back_applied().await?;
            machine.forget_prepared()?;
        }
        self.forget_undo(requests).await
    }

    async fn forget_undo(&self, requests: &[ApplyRequest]) -> Result<(), BackendError> {
        for request in requests {
            let machine = self.machine(request.machine)?;
            let undo = undo_tag(request.operation);
            for (disk, path) in images(request) {
                machine.images.remove(path, &undo).await.map_err(|error| error.on_disk(&disk.disk))?;
            }
            machine.overlays().keep_applied().await?;
        }
        Ok(())
    }

    /// Goes forward where disks may have been reverted, and back when that is not possible.
    pub(super) async fn recover_apply(
        &self,
        requests: &[ApplyRequest],
        journal: &[JournalStep],
    ) -> Result<Recovery, BackendError> {
        if !journal.contains(&JournalStep::Reverting) {
            self.take_back(requests, false).await?;
            return Ok(Recovery::RolledBack);
        }
        for request in requests {
            let machine: Arc<Machine> = self.machine(request.machine)?;
            if machine.monitor().await?.is_some() {
                let text = "the machine was started before the snapshot was applied".to_owned();
                return Err(BackendError::new("apply the snapshot", Cause::InUse(text)));
            }
            // What was prepared may have found its place already; then it is put there once more.
            if let Some(memory) = &request.memory {
                machine.prepare_saved(memory, request.launch.as_deref().unwrap_or_default())?;
            }
        }
        match self.revert(requests).await {
            Ok(()) => Ok(Recovery::Finished(Vec::new())),
            Err(error) => {
                tracing::warn!(%error, "An interrupted application cannot be finished, it is taken back");
                self.take_back(requests, true).await?;
                Ok(Recovery::RolledBack)
            }
        }
    }
}
