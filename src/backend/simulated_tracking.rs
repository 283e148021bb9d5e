//! Change tracking and exports of the simulated host.
//!
//! Tracking keeps what the disks held when it began; what changed since is found by comparing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::copy::on_thread;
use super::export::{self, Staging, write_file};
use super::simulated::file_of;
use super::{
    BackendError, Cause, ChangedParts, DestroyRequest, DiskImage, ExportMember, ExportRequest, JournalStep, Operation,
    Progress, Recovery, SimulatedCall, SimulatedHypervisor, SnapshotRequest, StepControl, TrackedDisk, TrackingRequest,
};
use crate::time::Guid;

/// The unit in which changes are tracked.
const BLOCK: usize = 64 << 10;
const CONVERT: &str = "convert to a reference point";
const DESTROY: &str = "destroy the reference point";
const EXPORT: &str = "export the snapshot";

/// What the tracked disks of a machine held when the tracking began.
pub(super) struct Tracked(BTreeMap<String, Vec<u8>>);

impl Tracked {
    pub(super) fn begin(tracking: &[TrackedDisk], disks: &BTreeMap<String, Vec<u8>>) -> Self {
        let mut held = disks.clone();
        held.retain(|name, _| tracking.iter().any(|tracked| tracked.disk == *name));
        Self(held)
    }
}

/// The tracking that begins with a snapshot of these disks.
pub(super) fn track(request: &SnapshotRequest, disks: &[DiskImage]) -> Vec<TrackedDisk> {
    let tracked = |(number, disk): (usize, &DiskImage)| TrackedDisk {
        disk: disk.disk.clone(),
        path: disk.source.clone(),
        identifier: format!("simulated:{}:{number}", request.snapshot),
    };
    disks.iter().enumerate().map(tracked).collect()
}

/// One disk on its way into an export.
struct DiskPlan {
    name: String,
    content: Vec<u8>,
    /// Only these parts, and where to say so.
    changed: Option<(String, ChangedParts)>,
}

impl SimulatedHypervisor {
    /// The snapshots whose tracking the host holds.
    #[must_use]
    pub fn held_tracking(&self) -> BTreeSet<Guid> {
        self.world().tracking.keys().copied().collect()
    }

    /// The tracking that began with a snapshot is lost, as by somebody else's hand.
    pub fn lose_tracking(&self, snapshot: Guid) {
        self.world().tracking.remove(&snapshot);
    }

    pub(super) async fn convert(&self, requests: &[DestroyRequest], control: &StepControl) -> Result<(), BackendError> {
        let held = self.held_tracking();
        if let Some(lost) = requests.iter().find(|request| !held.contains(&request.snapshot)) {
            let text = format!("the changes since snapshot {} are not tracked", lost.snapshot);
            return Err(BackendError::new(CONVERT, Cause::Failed(text)));
        }
        let machines: Vec<Guid> = requests.iter().map(|request| request.machine).collect();
        self.spend(SimulatedCall::Convert, &machines, CONVERT, control).await?;
        let cancelled = |_| BackendError::new(CONVERT, Cause::Cancelled);
        control.record(JournalStep::Removing).await.map_err(cancelled)?;
        self.drop_data(requests);
        Ok(())
    }

    /// Removes the data of snapshots and keeps their tracking.
    fn drop_data(&self, requests: &[DestroyRequest]) {
        let mut world = self.world();
        for request in requests {
            world.snapshots.remove(&request.snapshot);
        }
    }

    pub(super) async fn end_tracking(
        &self,
        requests: &[TrackingRequest],
        control: &StepControl,
    ) -> Result<(), BackendError> {
        let machines: Vec<Guid> = requests.iter().map(|request| request.machine).collect();
        self.spend(SimulatedCall::DestroyReferencePoints, &machines, DESTROY, control).await?;
        let cancelled = |_| BackendError::new(DESTROY, Cause::Cancelled);
        control.record(JournalStep::Removing).await.map_err(cancelled)?;
        self.drop_tracking(requests);
        Ok(())
    }

    fn drop_tracking(&self, requests: &[TrackingRequest]) {
        let mut world = self.world();
        for request in requests {
            world.tracking.remove(&request.snapshot);
        }
    }

    /// Finishes what had begun to remove something, and undoes the rest.
    pub(super) async fn recover_tracking(
        &self,
        operation: &Operation,
        journal: &[JournalStep],
    ) -> Result<Recovery, BackendError> {
        let decided = journal.iter().any(JournalStep::is_point_of_no_return);
        match operation {
            Operation::Convert(requests) if decided => self.drop_data(requests),
            Operation::DestroyReferencePoints(requests) if decided => self.drop_tracking(requests),
            Operation::Export(_) => return export::recover(journal).await,
            _ => return Ok(Recovery::RolledBack),
        }
        Ok(Recovery::Finished(Vec::new()))
    }

    pub(super) async fn export(&self, request: &ExportRequest, control: &StepControl) -> Result<(), BackendError> {
        let staging = Staging::begin(request, control).await?;
        let filled = self.fill(request, &staging, control).await;
        staging.finish(filled, control).await
    }

    async fn fill(
        &self,
        request: &ExportRequest,
        staging: &Staging,
        control: &StepControl,
    ) -> Result<(), BackendError> {
        let machines: Vec<Guid> = request.members.iter().map(|member| member.machine).collect();
        self.spend(SimulatedCall::Export, &machines, EXPORT, control).await?;
        let total = request.members.iter().map(|member| member.disks.len()).sum::<usize>();
        let mut done = 0_u64;
        for member in &request.members {
            let directory = staging.directory_of(member);
            if member.memory.is_some() {
                let memory = directory.join(ExportMember::MEMORY);
                on_thread(EXPORT, control.cancelled(), move |_| write_file(&memory, b"")).await?;
            }
            for disk in &member.disks {
                let (plan, directory) = (self.plan_disk(member, disk)?, directory.clone());
                on_thread(EXPORT, control.cancelled(), move |cancel| write_disk(&directory, &plan, cancel)).await?;
                done += 1;
                control.report(Progress { done, total: u64::try_from(total).unwrap_or(u64::MAX).max(done) });
            }
        }
        Ok(())
    }

    fn plan_disk(&self, member: &ExportMember, disk: &DiskImage) -> Result<DiskPlan, BackendError> {
        let world = self.world();
        let lost = || BackendError::new(EXPORT, Cause::FileNotFound(file_of(member.snapshot, &disk.disk)));
        let content = world.snapshots.get(&member.snapshot).and_then(|snapshot| snapshot.disks.get(&disk.disk));
        let content = content.cloned().ok_or_else(lost)?;
        let base = match &member.base {
            Some(base) if base.disks.iter().any(|tracked| tracked.disk == disk.disk) => {
                let tracked = world.tracking.get(&base.snapshot).and_then(|tracked| tracked.0.get(&disk.disk));
                Some(tracked.ok_or_else(|| {
                    let text = "the changes since the base are not tracked any more".to_owned();
                    BackendError::new(EXPORT, Cause::Failed(text)).on_disk(&disk.disk)
                })?)
            }
            _ => None,
        };
        let changed = base.map(|base| (ExportMember::changes_file(disk), changes(base, &content)));
        Ok(DiskPlan { name: ExportMember::disk_file(disk), content, changed })
    }
}

/// The blocks in which two contents differ, joined where they touch.
fn changes(before: &[u8], after: &[u8]) -> ChangedParts {
    let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let mut extents: Vec<(u64, u64)> = Vec::new();
    for (number, block) in after.chunks(BLOCK).enumerate() {
        let start = number * BLOCK;
        if before.get(start..start + block.len()) == Some(block) && before.len() >= after.len() {
            continue;
        }
        let (start, length) = (wide(start), wide(block.len()));
        match extents.last_mut() {
            Some(last) if last.0 + last.1 == start => last.1 += length,
            _ => extents.push((start, length)),
        }
    }
    ChangedParts { length: wide(after.len()), extents }
}

fn write_disk(directory: &Path, plan: &DiskPlan, cancel: &CancellationToken) -> Result<(), BackendError> {
    if cancel.is_cancelled() {
        return Err(BackendError::new(EXPORT, Cause::Cancelled));
    }
    let path = directory.join(&plan.name);
    let Some((name, parts)) = &plan.changed else { return write_file(&path, &plan.content) };
    let mut sparse = vec![0; plan.content.len()];
    for (start, length) in &parts.extents {
        let range = usize::try_from(*start).ok().zip(usize::try_from(start + length).ok());
        if let Some((from, to)) = range
            && let (Some(target), Some(source)) = (sparse.get_mut(from..to), plan.content.get(from..to))
        {
            target.copy_from_slice(source);
        }
    }
    write_file(&path, &sparse)?;
    let text = serde_json::to_vec_pretty(parts)
        .map_err(|error| BackendError::new(EXPORT, Cause::Failed(error.to_string())))?;
    write_file(&directory.join(name), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_blocks_are_found_and_joined() {
        let block = |byte: u8| vec![byte; BLOCK];
        let before = [block(1), block(2), block(3), block(4)].concat();
        let after = [block(1), block(9), block(9), block(4), vec![5; 10]].concat();
        let long = u64::try_from(BLOCK).unwrap();
        assert_eq!(changes(&before, &before).extents, []);
        let same_length = [block(1), block(9), block(9), block(4)].concat();
        assert_eq!(changes(&before, &same_length).extents, [(long, 2 * long)]);
        // A disk that grew is written whole: nothing was tracked behind its old end.
        assert_eq!(changes(&before, &after), ChangedParts { length: 4 * long + 10, extents: vec![(0, 4 * long + 10)] });
    }
}
