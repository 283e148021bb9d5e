//! The methods of `Msvm_ConcreteJob` (`snapshot-semantics` §5).

use std::sync::Arc;

use super::answers::{DONE, INVALID_JOB_PARAMETER, NO_TIMEOUT_SUPPORT, NOT_SUPPORTED_AT_ALL, Refusal, STARTED, answer};
use super::element::Element;
use super::generated::ConcreteJobRequestStateChangeInput;
use super::job::summary;
use super::scope::{Scope, Shared};
use crate::cim::{CimError, CimStatus, ClassDeclaration, InstanceBuilder, MethodDeclaration, ObjectPath, cimxml};
use crate::cimom::{BoxFuture, CallContext, MethodArguments, MethodProvider, MethodResult, Principal};
use crate::engine::{CancelMode, Failure, Job, JobFailure, JobState, Outcome};

/// Carries out the methods of jobs.
pub(super) struct JobMethods {
    pub(super) shared: Arc<Shared>,
}

impl MethodProvider for JobMethods {
    fn invoke<'a>(
        &'a self,
        cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        target: &'a ObjectPath,
        method: &'a MethodDeclaration,
        arguments: MethodArguments,
    ) -> BoxFuture<'a, Result<MethodResult, CimError>> {
        Box::pin(async move {
            let scope = Scope::new(&self.shared, cx);
            let job = match Element::find(class.name().as_str(), target, &scope) {
                Some(Element::Job(id)) => scope.view.job(id).cloned(),
                _ => None,
            };
            let job = job.ok_or_else(|| CimError::not_found(target.to_relative_text()))?;
            match method.name.as_str() {
                "GetError" => get_error(&scope, &job),
                "GetErrorEx" => get_error_ex(&scope, &job),
                "RequestStateChange" => answer(request_state_change(&scope, &job, arguments, &cx.principal).await),
                _ => Ok(MethodResult::returning(NOT_SUPPORTED_AT_ALL)),
            }
        })
    }
}

fn get_error(scope: &Scope, job: &Job) -> Result<MethodResult, CimError> {
    let answer = MethodResult::returning(DONE);
    Ok(match error_text(scope, job)? {
        Some(text) => answer.with("Error", text),
        None => answer,
    })
}

fn get_error_ex(scope: &Scope, job: &Job) -> Result<MethodResult, CimError> {
    let answer = MethodResult::returning(DONE);
    Ok(match error_text(scope, job)? {
        Some(text) => answer.with("Errors", [text]),
        None => answer,
    })
}

/// The `Msvm_Error` of a failed job as CIM-XML; nothing for one that runs or has succeeded.
fn error_text(scope: &Scope, job: &Job) -> Result<Option<String>, CimError> {
    let Some(failure) = job.failure.as_ref().filter(|_| job.state == JobState::Exception) else {
        return Ok(None);
    };
    let status = cim_status(failure.failure);
    let error = InstanceBuilder::new(scope.shared.class("Msvm_Error")?)
        .set("CIMStatusCode", status.code())
        .set("ErrorSource", Element::Job(job.id).path_text(scope))
        .set("ErrorSourceFormat", 2_u16)
        .set("ErrorType", error_type(failure.failure))
        .set("Message", message(job, failure))
        .set("MessageID", failure.failure.number().to_string())
        .set("OwningEntity", "wsnapd")
        .set("PerceivedSeverity", 4_u16)
        .set("ProbableCause", 0_u16)
        .build()?;
    Ok(Some(cimxml::encode_instance(&error)))
}

fn message(job: &Job, failure: &JobFailure) -> String {
    format!("{} {}", summary(job), failure.description)
}

/// The CIM status nearest to a failure.
const fn cim_status(failure: Failure) -> CimStatus {
    match failure {
        Failure::AccessDenied => CimStatus::AccessDenied,
        Failure::NotSupported => CimStatus::NotSupported,
        Failure::InvalidParameter => CimStatus::InvalidParameter,
        Failure::FileNotFound => CimStatus::NotFound,
        Failure::Failed | Failure::Timeout | Failure::InvalidState | Failure::Unreachable | Failure::OutOfMemory => {
            CimStatus::Failed
        }
    }
}

/// The `ErrorType` nearest to a failure.
const fn error_type(failure: Failure) -> u16 {
    match failure {
        Failure::Timeout | Failure::Unreachable => 2,
        Failure::AccessDenied => 7,
        Failure::OutOfMemory | Failure::FileNotFound => 9,
        Failure::NotSupported => 10,
        Failure::Failed | Failure::InvalidParameter | Failure::InvalidState => 4,
    }
}

async fn request_state_change(
    scope: &Scope,
    job: &Job,
    arguments: MethodArguments,
    user: &Principal,
) -> Result<MethodResult, Refusal> {
    let input = ConcreteJobRequestStateChangeInput::from_arguments(arguments);
    let mode = match input.requested_state {
        Some(4) => CancelMode::Terminate,
        Some(5) => CancelMode::Kill,
        Some(2 | 3 | 6) => return Err(Refusal::Code(NOT_SUPPORTED_AT_ALL)),
        _ => return Err(Refusal::Code(INVALID_JOB_PARAMETER)),
    };
    if input.timeout_period.is_some() {
        return Err(Refusal::Code(NO_TIMEOUT_SUPPORT));
    }
    Ok(MethodResult::returning(match scope.shared.engine.cancel_job(job.id, mode, user).await? {
        Outcome::Done(()) => DONE,
        Outcome::Started { .. } => STARTED,
    }))
}
