//! Return values: the one place where refusals of the engine become numbers (`snapshot-semantics` §5).

use super::element::Element;
use super::scope::Scope;
use crate::cim::{CimError, CimStatus};
use crate::cimom::MethodResult;
use crate::engine::{Chain, EngineError, Outcome};

/// Done.
pub(super) const DONE: u32 = 0;
/// The one answer of methods that never do anything, such as `StartService`.
pub(super) const NOT_SUPPORTED_AT_ALL: u32 = 1;
/// A parameter of a job's `RequestStateChange` is not usable.
pub(super) const INVALID_JOB_PARAMETER: u32 = 5;
/// A snapshot type that does not exist.
pub(super) const INVALID_TYPE: u32 = 6;
/// A job does it.
pub(super) const STARTED: u32 = 4096;
/// A job cannot change to that state now.
pub(super) const INVALID_TRANSITION: u32 = 4097;
/// A time limit was given where none can be kept.
pub(super) const NO_TIMEOUT_SUPPORT: u32 = 4098;
/// It failed at once.
pub(super) const FAILED: u32 = 32768;
/// This host cannot do it.
pub(super) const NOT_SUPPORTED: u32 = 32770;
/// A parameter is not usable.
pub(super) const INVALID_PARAMETER: u32 = 32773;
/// The queue of the machine is full.
pub(super) const IN_USE: u32 = 32774;
/// Try again later.
pub(super) const INVALID_STATE: u32 = 32775;

/// Why a method does not do what it was asked for.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A return value says it.
    Code(u32),
    /// The request itself is wrong, or the target has just gone.
    Fault(CimError),
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        use EngineError as E;
        Self::Code(match &error {
            E::NoSuchJob(job) => return Self::Fault(CimError::not_found(format_args!("job {job}"))),
            E::InvalidParameter { .. } => INVALID_PARAMETER,
            missing if missing.is_not_found() => INVALID_PARAMETER,
            E::AccessDenied(_) => return Self::Fault(CimError::new(CimStatus::AccessDenied, error.to_string())),
            E::InvalidState { .. } | E::Busy | E::ShuttingDown => INVALID_STATE,
            E::QueueFull { .. } => IN_USE,
            E::NotSupported(_) => {
                // A return value carries no words, so the reason is for the log.
                tracing::warn!(%error, "refused: not supported");
                NOT_SUPPORTED
            }
            E::NotCancellable => INVALID_TRANSITION,
            _ => {
                let source: &dyn std::error::Error = &error;
                tracing::error!(error = source, "a command failed");
                FAILED
            }
        })
    }
}

/// The CIM error of an operation without return value: Put, Create and Delete.
pub(super) fn operation_error(error: &EngineError) -> CimError {
    use EngineError as E;
    let status = match error {
        missing if missing.is_not_found() => CimStatus::NotFound,
        E::InvalidParameter { .. } => CimStatus::InvalidParameter,
        E::AlreadyExists(_) => CimStatus::AlreadyExists,
        E::AccessDenied(_) => CimStatus::AccessDenied,
        E::NotSupported(_) => CimStatus::NotSupported,
        E::QueueFull { .. } => CimStatus::ServerLimitsExceeded,
        E::ShuttingDown => CimStatus::ServerIsShuttingDown,
        _ => CimStatus::Failed,
    };
    CimError::new(status, Chain(error).to_string())
}

/// The answer to a refusal: a return value, or the fault.
pub(super) fn answer(result: Result<MethodResult, Refusal>) -> Result<MethodResult, CimError> {
    match result {
        Ok(answer) => Ok(answer),
        Err(Refusal::Code(code)) => Ok(MethodResult::returning(code)),
        Err(Refusal::Fault(error)) => Err(error),
    }
}

/// The answer to an accepted command: 0, or 4096 with the job.
pub(super) fn accepted<T>(scope: &Scope, outcome: &Outcome<T>) -> MethodResult {
    match outcome {
        Outcome::Done(_) => MethodResult::returning(DONE),
        Outcome::Started { job } => MethodResult::returning(STARTED).with("Job", Element::Job(*job).path(scope)),
    }
}
