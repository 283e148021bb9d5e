//! `Msvm_ConcreteJob` as instances (`hyperv-host.md` §8, `snapshot-semantics` §5).

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::element::{Element, guid_text};
use super::family::{Elements, Family};
use super::scope::Scope;
use crate::cim::{CimDateTime, CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder};
use crate::engine::{Job, JobKind, JobState};

/// Serves the jobs of machines and snapshots.
pub(super) struct Jobs {
    template: CimInstance,
}

impl Jobs {
    pub(super) fn new(class: &Arc<ClassDeclaration>, retention: std::time::Duration) -> Result<Self, CimError> {
        let template = InstanceBuilder::new(class)
            .set("DeleteOnCompletion", false)
            .set("HealthState", 5_u16)
            .set("InstallDate", CimDateTime::NEVER)
            .set("JobRunTimes", 1_u32)
            .set("LocalOrUtcTime", 2_u16)
            .set("Notify", "")
            .set("OtherRecoveryAction", "")
            .set("Priority", 0_u32)
            .set("RecoveryAction", 2_u16)
            .set("Status", "OK")
            .set("TimeBeforeRemoval", CimDateTime::Interval(retention))
            .build()?;
        Ok(Self { template })
    }
}

/// Whether a job is one of this namespace; copies of volumes belong to the storage classes.
pub(super) const fn is_virtualization_job(job: &Job) -> bool {
    !matches!(job.kind, JobKind::CopyVolume)
}

/// All jobs of machines and snapshots.
pub(super) fn jobs(scope: &Scope) -> impl Iterator<Item = &Arc<Job>> {
    scope.view.jobs().filter(|job| is_virtualization_job(job))
}

impl Family for Jobs {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        Box::new(jobs(scope).map(|job| Element::Job(job.id)))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let Element::Job(id) = element else { return Ok(None) };
        match scope.view.job(id) {
            Some(job) => instance(InstanceBuilder::from_template(self.template.clone()), scope, job).map(Some),
            None => Ok(None),
        }
    }
}

/// A job that has succeeded stays `Cancellable` where jobs can be cancelled at all, as on a Hyper-V host; a request
/// to cancel it is refused nevertheless.
fn instance(builder: InstanceBuilder, scope: &Scope, job: &Job) -> Result<CimInstance, CimError> {
    let able = scope.shared.engine.capabilities().cancel;
    let words = Words::of(job.state);
    let submitted = CimDateTime::utc(job.submitted);
    // A job that waits for its turn shows itself as started: clients know no waiting.
    let end = job.ended.unwrap_or(scope.now);
    let elapsed = (end - job.started.unwrap_or(job.submitted)).to_std().unwrap_or_default();
    let last_change = job.ended.or(job.started).unwrap_or(job.submitted);
    let failure = job.failure.as_ref().filter(|_| job.state == JobState::Exception);
    let mut builder = builder
        .set("Cancellable", job.cancellable || (able && job.state == JobState::Completed))
        .set("Caption", job.caption.clone())
        .set("Description", job.caption.clone())
        .set("ElapsedTime", CimDateTime::Interval(elapsed))
        .set("ElementName", job.caption.clone())
        .set("ErrorCode", failure.map_or(0, |failure| failure.failure.number()))
        .set("ErrorDescription", failure.map_or("", |failure| failure.description.as_str()))
        .set("ErrorSummaryDescription", failure.map_or_else(SmolStr::default, |_| summary(job)))
        .set("InstanceID", guid_text(job.id))
        .set("JobState", job.state.number())
        .set("JobStatus", words.status)
        .set("JobType", job.kind.number())
        .set("Name", job.caption.clone())
        .set("OperationalStatus", words.operational.clone())
        .set("Owner", owner(scope, &job.owner))
        .set("PercentComplete", u16::from(job.percent))
        .set("ScheduledStartTime", submitted.clone())
        .set("StartTime", submitted.clone())
        .set("StatusDescriptions", words.descriptions.clone())
        .set("TimeOfLastStateChange", CimDateTime::utc(last_change))
        .set("TimeSubmitted", submitted);
    if failure.is_some() {
        builder = builder.set("HealthState", 20_u16).set("Status", "Error");
    }
    builder.build()
}

/// What went wrong, in one short sentence.
pub(super) fn summary(job: &Job) -> SmolStr {
    format_smolstr!("{} failed.", job.caption)
}

/// `HOST\user`, as Windows names the account that asked.
fn owner(scope: &Scope, user: &SmolStr) -> SmolStr {
    if user.contains(['\\', '@']) { user.clone() } else { format_smolstr!("{}\\{user}", scope.host()) }
}

/// How a state is shown.
struct Words {
    status: &'static str,
    operational: CimValue,
    descriptions: CimValue,
}

impl Words {
    fn of(state: JobState) -> Self {
        let (status, operational, descriptions): (_, CimValue, CimValue) = match state {
            JobState::Completed => (
                "The job has completed.",
                [17_u16, 2].into(),
                ["The job has completed.", "The job completed successfully."].into(),
            ),
            JobState::Exception => ("The job has failed.", [6_u16].into(), ["The job has failed."].into()),
            JobState::Terminated => ("The job was terminated.", [14_u16].into(), ["The job was terminated."].into()),
            JobState::Killed => ("The job was killed.", [14_u16].into(), ["The job was killed."].into()),
            JobState::Terminating | JobState::Killing => {
                ("The job is being cancelled.", [2_u16].into(), ["The job is being cancelled."].into())
            }
            JobState::New | JobState::Starting | JobState::Running | JobState::Recovering => {
                ("The job is running.", [2_u16].into(), ["The job is running."].into())
            }
        };
        Self { status, operational, descriptions }
    }
}
