//! Waiting for a job.

use std::time::Duration;

use crate::cim::ObjectPath;

use super::error::ClientError;
use super::object::Object;
use super::operations::Client;

/// The first pause between two looks; each is longer, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Where a job stands.
#[derive(Clone, Debug, PartialEq)]
pub struct JobProgress {
    /// `JobState`: 4 running, 7 completed, 8 terminated, 9 killed, 10 exception.
    pub state: u64,
    /// `PercentComplete`.
    pub percent: u64,
    /// `JobStatus`, a word or a sentence.
    pub status: String,
    /// `ErrorDescription`, when it failed.
    pub error: Option<String>,
    /// Everything else.
    pub job: Object,
}

impl JobProgress {
    fn of(job: Object) -> Result<Self, ClientError> {
        Ok(Self {
            state: job.number("JobState").ok_or(ClientError::Incomplete("JobState"))?,
            percent: job.number("PercentComplete").unwrap_or(0).min(100),
            status: job.text("JobStatus").unwrap_or_default().to_owned(),
            error: job.text("ErrorDescription").filter(|text| !text.is_empty()).map(str::to_owned),
            job,
        })
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.state, 7..=10 | 32768..)
    }
}

/// Whether an ended job did what it was to do. 32768 is "completed with warnings".
#[must_use]
pub fn job_succeeded(progress: &JobProgress) -> bool {
    matches!(progress.state, 7 | 32768)
}

impl Client {
    /// Polls a job until it has ended and tells `observe` each time where it stands.
    ///
    /// # Errors
    /// A [`ClientError`] when the job cannot be read; a job that failed is not one.
    pub async fn wait_for_job(
        &self,
        job: &ObjectPath,
        mut observe: impl FnMut(&JobProgress),
    ) -> Result<JobProgress, ClientError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let progress = JobProgress::of(self.get(job).await?)?;
            observe(&progress);
            if progress.ended() {
                return Ok(progress);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}
