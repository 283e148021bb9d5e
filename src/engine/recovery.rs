//! What is done at start about work that a stop of the server interrupted (`backends` §5).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::power::view_is_idle;
use super::report::Chain;
use super::runner::Inner;
use super::work::{destroy_requests, files_of, referenced_files};
use super::{EngineError, Job, JobEvent, ReferencePoint, Snapshot, Work, step};
use crate::backend::{BackendError, Cause, JournalStep};
use crate::time::Guid;

/// How long to wait before an operation that could be neither finished nor undone is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// What was found at start besides the records that are shown.
#[derive(Debug, Default)]
pub(super) struct Dormant {
    /// The store was empty: a file without a record may belong to one that was lost.
    pub(super) new_store: bool,
    /// Records of machines the host does not know: kept, but not shown.
    pub(super) snapshots: Vec<Snapshot>,
    /// The same for reference points.
    pub(super) reference_points: Vec<ReferencePoint>,
}

/// The files a journal speaks of.
fn journal_files(steps: &[JournalStep]) -> Vec<PathBuf> {
    let of = |step: &JournalStep| match step {
        JournalStep::Planned { files } => files.clone(),
        JournalStep::Staged { files } => files.iter().map(|file| file.staged.clone()).collect(),
        _ => Vec::new(),
    };
    steps.iter().flat_map(of).collect()
}

impl Inner {
    /// Ends every unfinished job that had begun, and returns those that wait for their turn, in their order.
    pub(super) async fn recover_jobs(
        self: &Arc<Self>,
        journals: &HashMap<Guid, Vec<JournalStep>>,
    ) -> Result<Vec<Guid>, EngineError> {
        let mut unfinished: Vec<Arc<Job>> = self.view().jobs().filter(|job| !job.state.is_final()).cloned().collect();
        unfinished.sort_by_key(|job| job.sequence);
        let mut waiting = Vec::new();
        for job in unfinished {
            self.enter_lanes(&job);
            if step(job.state, JobEvent::Requeue).is_ok() {
                waiting.push(job.id);
                continue;
            }
            self.ledger
                .transact(|draft| {
                    let mut job = Job::clone(&job);
                    job.take(JobEvent::Recover, self.now());
                    job.cancellable = false;
                    draft.put_job(job);
                    Ok::<_, EngineError>(())
                })
                .await?;
            let steps = journals.get(&job.id).cloned().unwrap_or_default();
            self.lanes.lock().unwrap_or_else(PoisonError::into_inner).ready(job.id);
            if !self.recover_job(&job, &steps).await {
                self.recover_later(job, steps);
            }
        }
        Ok(waiting)
    }

    /// An acknowledged job keeps its place, however long the line is.
    fn enter_lanes(&self, job: &Job) {
        let mut lanes = job.work.systems(&self.view());
        match &job.work {
            Work::Create { group: Some((_, collection)), .. }
            | Work::CreateReferencePoints { group: Some((_, collection)), .. } => lanes.push(*collection),
            Work::CopyVolume { pool, .. } => lanes.push(*pool),
            _ => {}
        }
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).enter_again(job.id, lanes);
    }

    /// Lets a job that waited go on waiting, or begin.
    pub(super) fn resume(self: &Arc<Self>, job: Guid) {
        if self.lanes.lock().unwrap_or_else(PoisonError::into_inner).ready(job) {
            self.spawn(job);
        }
    }

    /// Finishes or undoes one job; false if neither was possible.
    async fn recover_job(self: &Arc<Self>, job: &Job, steps: &[JournalStep]) -> bool {
        let call = job.work.call(&self.view());
        let recovered = match &call {
            Some(call) => self.recover_call(call, steps).await,
            None => Ok(None),
        };
        let result = match recovered {
            Ok(Some(result)) => Ok(result),
            Ok(None) => {
                let text = if matches!(job.work, Work::MergeDisks { .. }) {
                    "the server was stopped meanwhile; all data is whole, and another job merges what is left"
                        .to_owned()
                } else {
                    "the server was stopped meanwhile; everything was undone".to_owned()
                };
                Err(BackendError::new("recover after a restart", Cause::Failed(text)))
            }
            Err(error) => {
                warn!(job = %job.id, error = %Chain(&error), "A job could not be recovered yet");
                return false;
            }
        };
        info!(job = %job.id, finished = result.is_ok(), "Job recovered");
        self.end(job.id, result).await;
        self.merge_after(job.id).await;
        self.give_place(job.id);
        true
    }

    /// Goes on trying; the job keeps its machines until then.
    fn recover_later(self: &Arc<Self>, job: Arc<Job>, steps: Vec<JournalStep>) {
        let inner = Arc::clone(self);
        self.background.spawn(async move {
            let kill = inner.kill.clone();
            let trying = async {
                loop {
                    tokio::time::sleep(RETRY).await;
                    if inner.recover_job(&job, &steps).await {
                        break;
                    }
                }
            };
            tokio::select! {
                () = kill.cancelled() => {}
                () = trying => {}
            }
        });
    }

    /// Removes files of our making that no record and no unfinished job knows.
    pub(super) async fn remove_orphans(
        &self,
        journals: &HashMap<Guid, Vec<JournalStep>>,
        dormant: &Dormant,
    ) -> Result<(), EngineError> {
        if dormant.new_store {
            info!("The store is new, files without an owner are left alone until the next start");
            return Ok(());
        }
        let view = self.view();
        let mut owned: BTreeSet<Guid> = view.snapshots().map(|snapshot| snapshot.id).collect();
        owned.extend(dormant.snapshots.iter().map(|snapshot| snapshot.id));
        let mut referenced: HashSet<PathBuf> = referenced_files(&view, &[]);
        referenced.extend(dormant.snapshots.iter().flat_map(files_of));
        let mut tracked = owned.clone();
        tracked.extend(view.reference_points().map(|point| point.snapshot));
        tracked.extend(dormant.reference_points.iter().map(|point| point.snapshot));
        for job in view.jobs().filter(|job| !job.state.is_final()) {
            if let Work::Create { members, .. } | Work::CreateReferencePoints { members, .. } = &job.work {
                owned.extend(members.iter().map(|(_, snapshot)| *snapshot));
                tracked.extend(members.iter().map(|(_, snapshot)| *snapshot));
            }
            referenced.extend(journals.get(&job.id).map(|steps| journal_files(steps)).unwrap_or_default());
        }
        let mut removed = self.hypervisor.remove_orphans(&owned, &referenced).await?;
        removed.extend(self.volumes.remove_orphans().await?);
        let ended = self.hypervisor.remove_stale_tracking(&tracked).await?;
        if ended > 0 {
            info!(ended, "Change tracking without an owner ended");
        }
        for file in removed {
            info!(file = %file.display(), "File without an owner removed");
        }
        Ok(())
    }

    /// Marks the snapshots whose files are gone, and those whose files are back. A machine that a job works on is left
    /// out, for what is there of its snapshots changes meanwhile.
    pub(super) async fn find_missing(&self) -> Result<(), EngineError> {
        let view = self.view();
        let own = view.snapshots().filter(|snapshot| !snapshot.foreign && view_is_idle(&view, snapshot.system));
        let snapshots: Vec<Guid> = own.map(|snapshot| snapshot.id).collect();
        let missing = self.hypervisor.missing_snapshots(&destroy_requests(&view, &snapshots)).await;
        self.ledger
            .transact(|draft| {
                for id in &snapshots {
                    let Some(snapshot) = draft.view().snapshot(*id).cloned() else { continue };
                    let lost = missing.contains(id);
                    if lost != snapshot.missing && view_is_idle(draft.view(), snapshot.system) {
                        warn!(snapshot = %id, lost, "The files of a snapshot were lost or came back");
                        draft.put_snapshot(Snapshot { missing: lost, ..Snapshot::clone(&snapshot) });
                    }
                }
                Ok(())
            })
            .await
    }
}
