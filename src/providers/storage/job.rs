//! `MSFT_SMJob` of a job that copies a volume.

use std::sync::Arc;
use std::time::Duration;

use crate::cim::{CimDateTime, CimError, CimInstance, ClassDeclaration, InstanceBuilder};
use crate::engine::{Failure, Job, JobState};
use crate::time::Timestamp;

use super::extended_status::code;
use super::object::Object;

/// What all jobs have in common.
pub(in crate::providers) fn template(class: &Arc<ClassDeclaration>) -> Result<CimInstance, CimError> {
    // 2: the times are in UTC.
    InstanceBuilder::new(class).set("LocalOrUtcTime", 2_u16).build()
}

/// The instance of a job (`snapshot-semantics.md` §5 and §7): a failure is state 10 with code and
/// sentence, there is no error object.
pub(in crate::providers) fn instance(
    template: &CimInstance,
    job: &Job,
    retention: Duration,
    now: Timestamp,
    host: &str,
) -> Result<CimInstance, CimError> {
    let started = job.started.unwrap_or(job.submitted);
    // A clock that was set back makes no negative interval.
    let elapsed = (job.ended.unwrap_or(now) - started).to_std().unwrap_or_default();
    let failure = job.failure.as_ref();
    let builder = InstanceBuilder::from_template(template.clone())
        .set("ObjectId", Object::Job(job.id).id(host))
        .set("Description", job.caption.clone())
        .set("JobState", job.state.number())
        .set("PercentComplete", u16::from(job.percent))
        .set("ErrorCode", failure.map_or(0, |failure| error_code(failure.failure)))
        .set("ErrorDescription", failure.map_or("", |failure| failure.description.as_str()))
        .set("TimeSubmitted", CimDateTime::utc(job.submitted))
        .set("StartTime", CimDateTime::utc(started))
        .set("TimeOfLastStateChange", CimDateTime::utc(job.changed))
        .set("ElapsedTime", CimDateTime::from(elapsed))
        .set("TimeBeforeRemoval", CimDateTime::from(retention));
    status(builder, job.state).build()
}

/// State in words and the operational status that goes with it.
fn status(builder: InstanceBuilder, state: JobState) -> InstanceBuilder {
    let (word, operational, description): (_, &[u16], &[&str]) = match state {
        JobState::New | JobState::Starting | JobState::Running | JobState::Recovering => {
            ("Running", &[2], &["In service"])
        }
        JobState::Terminating | JobState::Killing => ("Shutting Down", &[2], &["Undoing what was done"]),
        JobState::Completed => ("Completed", &[17, 2], &["Job completed", "OK"]),
        JobState::Terminated => ("Terminated", &[14], &["Cancelled"]),
        JobState::Killed => ("Killed", &[14], &["Cancelled"]),
        JobState::Exception => ("Exception", &[6], &["Error"]),
    };
    builder
        .set("JobStatus", word)
        .set("OperationalStatus", operational.to_vec())
        .set("StatusDescriptions", description.to_vec())
}

/// The code of the storage family for what made a job fail; it names what the call would have
/// returned had it been known then.
const fn error_code(failure: Failure) -> u16 {
    match failure {
        Failure::Failed => code::FAILED,
        Failure::AccessDenied => code::CIM_ACCESS_DENIED,
        Failure::NotSupported => code::SNAPSHOT_NOT_SUPPORTED,
        Failure::Timeout => code::TIMEOUT,
        Failure::InvalidParameter | Failure::FileNotFound => code::CIM_NOT_FOUND,
        Failure::InvalidState => code::CANNOT_MODIFY,
        Failure::Unreachable => code::INVOCATION_FAILED,
        Failure::OutOfMemory => code::CIM_LIMITS_EXCEEDED,
    }
}
