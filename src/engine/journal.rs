//! The journal of one job, as its back-end call sees it.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::debug;

use super::runner::Inner;
use super::{EngineError, Job, JobState};
use crate::backend::{BoxFuture, Interrupted, Journal, JournalStep};
use crate::time::Guid;

/// Stores the steps of one job, each in a transaction that also sees whether the job was cancelled meanwhile.
pub(super) struct JobJournal {
    inner: Arc<Inner>,
    job: Guid,
    steps: Mutex<Vec<JournalStep>>,
}

impl JobJournal {
    pub(super) fn new(inner: Arc<Inner>, job: Guid) -> Self {
        Self { inner, job, steps: Mutex::default() }
    }

    /// The steps stored so far.
    pub(super) fn steps(&self) -> Vec<JournalStep> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn append(&self, step: JournalStep) -> Result<(), Interrupted> {
        let stored = self.inner.ledger().transact(|draft| {
            let job = draft.view().job(self.job).ok_or(EngineError::NoSuchJob(self.job))?;
            if matches!(job.state, JobState::Terminating | JobState::Killing) {
                return Ok(false);
            }
            if step.is_point_of_no_return() && job.cancellable {
                let job = Job { cancellable: false, ..Job::clone(job) };
                draft.put_job(job);
            }
            draft.append_step(self.job, step.clone());
            Ok::<_, EngineError>(true)
        });
        match stored.await {
            Ok(true) => {
                debug!(job = %self.job, ?step, "Step stored");
                self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
                Ok(())
            }
            Ok(false) => Err(Interrupted::Cancelled),
            Err(_) => Err(Interrupted::JournalFailed),
        }
    }
}

impl Journal for JobJournal {
    fn record(&self, step: JournalStep) -> BoxFuture<'_, Result<(), Interrupted>> {
        Box::pin(self.append(step))
    }
}
