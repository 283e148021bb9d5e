//! Runs jobs: one task a job, each when its turn has come in all its lanes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smol_str::SmolStr;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::journal::JobJournal;
use super::ledger::{Draft, Ledger, Then};
use super::queue::Lanes;
use super::report::Chain;
use super::work::{Call, CallResult};
use super::{
    AffectedElement, CancelMode, ElementEffect, ElementRef, EngineError, Job, JobEvent, JobFailure, JobKind, JobState,
    Outcome, View, Work, step,
};
use crate::backend::{BackendError, Cause, Hypervisor, Progress, StepControl, VolumeManager};
use crate::time::{Clock, Guid, IdSource, Timestamp};

/// How long a call that was cancelled for being late gets to undo its work.
const CLEANUP: Duration = Duration::from_secs(5);
/// How long to wait before a record that could not be stored is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The engine behind its public face; shared by its tasks.
pub(super) struct Inner {
    pub(super) ledger: Ledger,
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    pub(super) volumes: Arc<dyn VolumeManager>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn IdSource>,
    pub(super) audit: Arc<dyn crate::access::AuditTrail>,
    pub(super) settings: Settings,
    pub(super) lanes: Mutex<Lanes>,
    pub(super) cancels: Mutex<HashMap<Guid, CancellationToken>>,
    /// When the sweeper first saw a job that ended in the future: the clock was set back since.
    pub(super) ahead: Mutex<HashMap<Guid, tokio::time::Instant>>,
    /// The tasks of jobs.
    pub(super) tasks: TaskTracker,
    /// The writer and the sweeper.
    pub(super) background: TaskTracker,
    pub(super) closing: AtomicBool,
    pub(super) kill: CancellationToken,
    /// Another server has taken over the records.
    pub(super) lost: CancellationToken,
    pub(super) lease: super::Lease,
    pub(super) store: Arc<dyn super::Store>,
}

/// The options that are only values.
pub(super) struct Settings {
    pub(super) host_name: String,
    pub(super) utc_offset_seconds: i32,
    pub(super) job_retention: Duration,
    pub(super) queue_limit: usize,
    pub(super) backend_timeout: Duration,
    pub(super) shutdown_grace: Duration,
    pub(super) export_directories: Vec<PathBuf>,
}

/// A job to be submitted.
pub(super) struct NewJob {
    pub(super) kind: JobKind,
    pub(super) target: ElementRef,
    pub(super) caption: SmolStr,
    /// What it works on from the start.
    pub(super) affected: Vec<ElementRef>,
    pub(super) lanes: Vec<Guid>,
    pub(super) work: Work,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(super) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.ledger.view()
    }

    pub(super) fn hypervisor(&self) -> &dyn Hypervisor {
        &*self.hypervisor
    }

    pub(super) fn host_name(&self) -> &str {
        &self.settings.host_name
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) const fn job_retention(&self) -> Duration {
        self.settings.job_retention
    }

    /// Fails once the server is stopping.
    pub(super) fn check_open(&self) -> Result<(), EngineError> {
        if self.closing.load(Ordering::Acquire) { Err(EngineError::ShuttingDown) } else { Ok(()) }
    }

    /// Makes a job durable and gives it its place; `decide` checks the newest state in the same transaction.
    ///
    /// A request may be given up while its record is being written; the job starts all the same.
    pub(super) async fn submit(
        self: &Arc<Self>,
        user: &str,
        decide: impl FnOnce(&mut Draft) -> Result<NewJob, EngineError>,
    ) -> Result<Guid, EngineError> {
        self.check_open()?;
        let (id, now) = (self.ids.new_guid(), self.now());
        let starter = Arc::clone(self);
        let then: Then = Box::new(move |durable| if durable { starter.resume(id) } else { starter.give_place(id) });
        let decide = |draft: &mut Draft| {
            let new = decide(draft)?;
            lock(&self.lanes)
                .enter(id, new.lanes)
                .map_err(|_| EngineError::QueueFull { limit: self.settings.queue_limit })?;
            let affected = |element| AffectedElement { element, effect: ElementEffect::Unknown };
            let sequence = draft.next_sequence();
            draft.put_job(Job {
                id,
                sequence,
                kind: new.kind,
                target: new.target,
                caption: new.caption,
                state: JobState::New,
                percent: 0,
                failure: None,
                submitted: now,
                started: None,
                ended: None,
                changed: now,
                cancellable: true,
                owner: user.into(),
                affected: new.affected.into_iter().map(affected).collect(),
                work: new.work,
            });
            Ok(())
        };
        self.ledger.transact_then(decide, Some(then)).await.map(|()| id)
    }

    /// Starts the task of a job whose turn has come.
    pub(super) fn spawn(self: &Arc<Self>, job: Guid) {
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let kill = inner.kill.clone();
            tokio::select! {
                biased;
                () = kill.cancelled() => {}
                () = inner.run(job) => {}
            }
        });
    }

    /// Takes a job out of its lanes and starts those whose turn has come by that.
    pub(super) fn give_place(self: &Arc<Self>, job: Guid) {
        let next = lock(&self.lanes).leave(job);
        for job in next {
            self.spawn(job);
        }
    }

    async fn run(self: &Arc<Self>, id: Guid) {
        if self.check_open().is_err() {
            return;
        }
        let cancel = CancellationToken::new();
        lock(&self.cancels).insert(id, cancel.clone());
        if let Some(call) = self.begin(id).await {
            let result = self.drive(id, &call, &cancel).await;
            self.end(id, result).await;
            self.merge_after(id).await;
        }
        lock(&self.cancels).remove(&id);
        self.give_place(id);
    }

    /// Checks what the job needs and stores that it runs, with its calls to the back-end; `None` if it has ended.
    async fn begin(self: &Arc<Self>, id: Guid) -> Option<Call> {
        self.look_at_systems(id).await;
        self.look_at_tracking(id).await;
        let can = self.hypervisor.capabilities();
        self.persist(|draft| {
            let now = self.now();
            let job = draft.view().job(id)?;
            let Ok((starting, _)) = step(job.state, JobEvent::Scheduled) else { return None };
            let now = now.max(job.changed);
            let mut job = Job { state: starting, started: Some(now), changed: now, ..Job::clone(job) };
            let prepared = job.work.prepare(draft.view(), id, can, &self.settings.export_directories);
            let event = if prepared.is_ok() { JobEvent::Validated } else { JobEvent::Refused };
            job.take(event, now);
            if let Err(failure) = &prepared {
                info!(job = %id, reason = failure.description, "Job refused");
                job.failure = Some(failure.clone());
            } else {
                job.cancellable = can.cancel && job.kind.can_be_undone();
                job.work.show_activity(draft);
            }
            draft.put_job(job);
            prepared.ok()
        })
        .await
        .flatten()
    }

    /// Calls the back-end, shows its progress, and gives up on it when it makes none for too long.
    async fn drive(
        self: &Arc<Self>,
        id: Guid,
        call: &Call,
        cancel: &CancellationToken,
    ) -> Result<CallResult, BackendError> {
        let (progress, mut reports) = watch::channel(Progress::default());
        let journal = Arc::new(JobJournal::new(Arc::clone(self), id));
        let steps: Arc<dyn crate::backend::Journal> = Arc::<JobJournal>::clone(&journal);
        let control = StepControl::new(steps, progress, cancel.clone());
        {
            let mut work = pin!(self.perform(call, &control));
            loop {
                tokio::select! {
                    biased;
                    result = &mut work => return result,
                    Ok(()) = reports.changed() => {
                        let percent = reports.borrow_and_update().percent();
                        self.show_progress(id, percent).await;
                    }
                    () = tokio::time::sleep(self.settings.backend_timeout) => break,
                }
            }
            warn!(job = %id, "The back-end does not answer");
            cancel.cancel();
            if let Ok(result) = tokio::time::timeout(CLEANUP, &mut work).await {
                return result.map_err(|error| BackendError { cause: Cause::Timeout, ..error });
            }
        }
        let recovered = tokio::time::timeout(CLEANUP, self.recover_call(call, &journal.steps())).await;
        match recovered {
            Ok(Ok(Some(result))) => Ok(result),
            Ok(Ok(None)) => Err(BackendError::new("wait for the back-end", Cause::Timeout)),
            Ok(Err(error)) => {
                error!(job = %id, error = %Chain(&error), "A late operation could not be undone");
                Err(BackendError::new("undo after no answer came", Cause::Timeout))
            }
            Err(_) => Err(BackendError::new("undo after no answer came", Cause::Timeout)),
        }
    }

    async fn show_progress(&self, id: Guid, percent: u8) {
        let percent = percent.min(99);
        let shown = self.ledger.transact(|draft| {
            if let Some(job) = draft.view().job(id)
                && job.percent < percent
            {
                let changed = self.now().max(job.changed);
                let job = Job { percent, changed, ..Job::clone(job) };
                draft.show_job(job);
            }
            Ok::<_, EngineError>(())
        });
        if let Err(error) = shown.await {
            warn!(job = %id, error = %Chain(&error), "Progress could not be shown");
        }
    }

    /// Stores how the job ended together with what it changed.
    pub(super) async fn end(self: &Arc<Self>, id: Guid, result: Result<CallResult, BackendError>) {
        self.look_at_systems(id).await;
        self.look_again_at_tracking(id, result.is_err()).await;
        let stopping = self.check_open().is_err();
        self.persist(|draft| {
            let now = self.now();
            let Some(job) = draft.view().job(id).map(|job| Job::clone(job)) else { return };
            if job.state.is_final() {
                return;
            }
            let mut job = job;
            match &result {
                Ok(result) => {
                    job.take(JobEvent::Succeeded, now);
                    job.percent = 100;
                    let made = job.work.complete(draft, &job, result, now, self);
                    job.affected.extend(made);
                }
                Err(error) => {
                    job.take(JobEvent::Failed, now);
                    if job.state == JobState::Exception {
                        job.failure = Some(failure(&job, error, stopping));
                    }
                }
            }
            job.work.clear_activity(draft);
            info!(job = %id, state = ?job.state, reason = job.failure.as_ref().map(|f| f.description.as_str()), "Job ended");
            draft.put_job(job);
        })
        .await;
    }

    /// Stores a transaction of a job, again and again until it is stored; `None` when the server stops.
    pub(super) async fn persist<T>(&self, decide: impl Fn(&mut Draft) -> T) -> Option<T> {
        loop {
            match self.ledger.transact(|draft| Ok::<T, EngineError>(decide(draft))).await {
                Ok(value) => return Some(value),
                Err(error) => error!(error = %Chain(&error), "A job could not be stored"),
            }
            if self.check_open().is_err() {
                return None;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    pub(super) async fn cancel_job(self: &Arc<Self>, id: Guid, mode: CancelMode) -> Result<Outcome<()>, EngineError> {
        let event = match mode {
            CancelMode::Terminate => JobEvent::TerminateRequested,
            CancelMode::Kill => JobEvent::KillRequested,
        };
        let follower = Arc::clone(self);
        let then: Then = Box::new(move |durable| {
            if durable {
                follower.follow_cancel(id);
            }
        });
        let decide = |draft: &mut Draft| {
            let job = draft.view().job(id).ok_or(EngineError::NoSuchJob(id))?;
            if !job.cancellable {
                return Err(EngineError::NotCancellable);
            }
            let mut job = Job::clone(job);
            if step(job.state, event).is_err() {
                return Err(EngineError::NotCancellable);
            }
            job.take(event, self.now());
            let ended = job.state.is_final();
            draft.put_job(job);
            Ok(ended)
        };
        let ended = self.ledger.transact_then(decide, Some(then)).await?;
        Ok(if ended { Outcome::Done(()) } else { Outcome::Started { job: id } })
    }

    /// Once the end of a job, or the wish for it, is durable: the next job begins, or the call is told.
    fn follow_cancel(self: &Arc<Self>, id: Guid) {
        if self.view().job(id).is_none_or(|job| job.state.is_final()) {
            self.give_place(id);
        } else if let Some(cancel) = lock(&self.cancels).get(&id) {
            cancel.cancel();
        }
    }

    pub(super) async fn sweep_jobs(&self) -> Result<usize, EngineError> {
        let keep = chrono::Duration::from_std(self.settings.job_retention).unwrap_or(chrono::Duration::MAX);
        let now = self.now();
        let view = self.view();
        let over: Vec<Guid> = {
            let mut ahead = lock(&self.ahead);
            ahead.retain(|job, _| view.job(*job).is_some());
            let mut is_over = |job: &Job| {
                let Some(age) = job.ended.map(|ended| now.signed_duration_since(ended)) else { return false };
                if age >= chrono::Duration::zero() {
                    return age >= keep;
                }
                // After the clock was set back a job would stay until it has caught up.
                ahead.entry(job.id).or_insert_with(tokio::time::Instant::now).elapsed() >= self.settings.job_retention
            };
            view.jobs().filter(|job| is_over(job)).map(|job| job.id).collect()
        };
        if over.is_empty() {
            return Ok(0);
        }
        // A job that has ended stays ended, so what was seen still holds.
        self.ledger
            .transact(|draft| {
                for job in &over {
                    draft.delete_job(*job);
                }
                Ok(over.len())
            })
            .await
    }

    pub(super) async fn shutdown(&self) {
        self.closing.store(true, Ordering::Release);
        self.tasks.close();
        if tokio::time::timeout(self.settings.shutdown_grace, self.tasks.wait()).await.is_err() {
            let running: Vec<CancellationToken> = lock(&self.cancels).values().cloned().collect();
            for cancel in running {
                cancel.cancel();
            }
            if tokio::time::timeout(self.settings.shutdown_grace, self.tasks.wait()).await.is_err() {
                warn!("Some jobs did not stop; the next start recovers them");
            }
        }
        if let Err(error) = self.store.release(&self.lease).await {
            warn!(error = %Chain(&error), "The lease could not be given back");
        }
        self.kill.cancel();
        self.background.close();
        self.tasks.wait().await;
        self.background.wait().await;
    }

    /// Another server has taken over the records and recovers the jobs: nothing more is done here.
    pub(super) fn give_up(&self) {
        error!("Another server has taken over the records; this one does no more work");
        self.closing.store(true, Ordering::Release);
        self.lost.cancel();
        self.kill.cancel();
    }

    pub(super) fn abort(&self) {
        self.kill.cancel();
    }
}

impl Job {
    /// Goes to the next state. A job is the only one to tell itself what happens, so an impossible event is a defect
    /// that is logged, and the state stays.
    pub(super) fn take(&mut self, event: JobEvent, now: Timestamp) {
        match step(self.state, event) {
            Ok((state, _)) => {
                // The times of a job never run backwards, even if the clock does.
                let now = now.max(self.changed);
                self.state = state;
                self.changed = now;
                if state.is_final() {
                    self.ended = Some(now);
                    self.cancellable = false;
                }
            }
            Err(error) => error!(job = %self.id, %error, "Impossible transition"),
        }
    }
}

/// The failure of a job whose call failed.
fn failure(job: &Job, error: &BackendError, stopping: bool) -> JobFailure {
    use super::Failure;
    let failure = match &error.cause {
        Cause::AccessDenied => Failure::AccessDenied,
        Cause::InUse(_) => Failure::InvalidState,
        Cause::NotSupported(_) => Failure::NotSupported,
        Cause::NotAllowed(_) => Failure::InvalidParameter,
        Cause::FileNotFound(_) if job.kind == JobKind::CreateSnapshot => Failure::Unreachable,
        Cause::FileNotFound(_) => Failure::FileNotFound,
        Cause::Unreachable(_) => Failure::Unreachable,
        Cause::Timeout => Failure::Timeout,
        Cause::OutOfMemory => Failure::OutOfMemory,
        _ => Failure::Failed,
    };
    let description = match (&error.cause, stopping) {
        (Cause::Cancelled, true) => format!("{}: the server was stopped; everything was undone", error.step),
        (Cause::Cancelled, false) => format!("{}: the journal could not be written; everything was undone", error.step),
        _ => error.to_string(),
    };
    JobFailure { failure, description }
}
