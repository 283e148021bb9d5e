//! Jobs that merge what snapshots that are gone have left in the disks of machines (`snapshot-semantics` §4).
//!
//! A snapshot is gone when the job that destroys it has ended; the bytes are moved by a job of its own afterwards, which
//! shows its progress and may be cancelled. Whether there is something to merge is asked of the back-end and remembered
//! nowhere: after every job on a machine but merges, and at start. So a merge that was cancelled or has failed is begun
//! again after the next job on the machine.

use std::sync::Arc;

use smol_str::format_smolstr;
use tracing::{info, warn};

use super::report::Chain;
use super::runner::{Inner, NewJob};
use super::{ElementRef, EngineError, JobKind, Work};
use crate::time::Guid;

/// The owner of jobs that nobody asked for.
const NOBODY: &str = "wsnapd";

impl Inner {
    /// Submits the merges that a job has made necessary; they are its user's.
    pub(super) async fn merge_after(self: &Arc<Self>, job: Guid) {
        let view = self.view();
        let Some(job) = view.job(job).filter(|job| job.kind != JobKind::MergeDisks) else { return };
        for system in job.work.systems(&view) {
            self.merge_if_needed(system, &job.owner).await;
        }
    }

    /// Submits the merges that an earlier run of the server has left.
    pub(super) async fn merge_at_start(self: &Arc<Self>) {
        let view = self.view();
        for system in view.systems() {
            self.merge_if_needed(system.id, NOBODY).await;
        }
    }

    async fn merge_if_needed(self: &Arc<Self>, system: Guid, user: &str) {
        if !self.hypervisor().needs_merge(system).await {
            return;
        }
        // All jobs on a machine are in one lane, so that nobody else asks for the same meanwhile.
        let waits = |work: &Work| matches!(work, Work::MergeDisks { system: other } if *other == system);
        if self.view().jobs_of(system).any(|job| !job.state.is_final() && waits(&job.work)) {
            return;
        }
        let submitted = self.submit(user, |draft| {
            let name = draft.system(system)?.name.clone();
            Ok(NewJob {
                kind: JobKind::MergeDisks,
                target: ElementRef::System(system),
                caption: format_smolstr!("Merging disks of {name}"),
                affected: vec![ElementRef::System(system)],
                lanes: vec![system],
                work: Work::MergeDisks { system },
            })
        });
        match submitted.await {
            Ok(job) => info!(%job, %system, "Disks are to be merged"),
            // The next start asks again.
            Err(EngineError::ShuttingDown) => {}
            Err(error) => warn!(%system, error = %Chain(&error), "No job to merge disks could be made"),
        }
    }
}
