//! Return codes of the storage methods and the `MSFT_SMExtendedStatus` that goes with them.

use std::error::Error as _;
use std::sync::Arc;

use crate::backend::{BackendError, Cause};
use crate::cim::{CimError, CimInstance, CimStatus, CimValue, ClassDeclaration, InstanceBuilder};
use crate::engine::EngineError;

/// The family of codes of the storage methods (`snapshot-semantics.md` §7). They are 16 bits wide so
/// that a job can carry them in `ErrorCode`.
pub(super) mod code {
    /// Not supported.
    pub(in super::super) const NOT_SUPPORTED: u16 = 1;
    /// Timeout.
    pub(in super::super) const TIMEOUT: u16 = 3;
    /// Failed: the back-end, or no space.
    pub(in super::super) const FAILED: u16 = 4;
    /// Invalid parameter.
    pub(in super::super) const INVALID_PARAMETER: u16 = 5;
    /// Method parameters checked, job started.
    pub(in super::super) const JOB_STARTED: u16 = 4096;
    /// The back-end could not be called.
    pub(in super::super) const INVOCATION_FAILED: u16 = 40300;
    /// The source is a snapshot itself, busy or not readable.
    pub(in super::super) const CANNOT_MODIFY: u16 = 40304;
    /// The pool makes no snapshots.
    pub(in super::super) const SNAPSHOT_NOT_SUPPORTED: u16 = 40308;
    /// CIM error: failed.
    pub(in super::super) const CIM_FAILED: u16 = 43001;
    /// CIM error: access denied.
    pub(in super::super) const CIM_ACCESS_DENIED: u16 = 43002;
    /// CIM error: not found.
    pub(in super::super) const CIM_NOT_FOUND: u16 = 43006;
    /// CIM error: server limits exceeded.
    pub(in super::super) const CIM_LIMITS_EXCEEDED: u16 = 43027;
    /// CIM error: server is shutting down.
    pub(in super::super) const CIM_SHUTTING_DOWN: u16 = 43028;
}

/// Who is to blame: the value map of `SMErrorSource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// 1: the storage service, which is this server.
    Service,
    /// 2: the provider, which is the volume manager behind it.
    Provider,
}

/// Why a storage method did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The return value.
    pub(super) code: u16,
    source: Source,
    /// The argument to blame.
    parameter: Option<&'static str>,
    message: String,
    details: String,
}

impl Refusal {
    /// An argument cannot be used.
    pub(super) fn invalid_parameter(parameter: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: code::INVALID_PARAMETER,
            source: Source::Service,
            parameter: Some(parameter),
            message: message.into(),
            details: String::new(),
        }
    }

    /// The host has no such operation.
    pub(super) fn not_supported(method: &str) -> Self {
        Self {
            code: code::NOT_SUPPORTED,
            source: Source::Service,
            parameter: None,
            message: format!("{method} is not supported by this host"),
            details: String::new(),
        }
    }

    /// The refusal of a volume snapshot by the engine.
    ///
    /// # Errors
    /// `CIM_ERR_NOT_FOUND` when the volume the method was called on has just gone, `CIM_ERR_ACCESS_DENIED` for a user
    /// who may not: those are no return values.
    pub(super) fn of_snapshot(error: &EngineError) -> Result<Self, CimError> {
        let (code, source, parameter) = match error {
            EngineError::NoSuchVolume(_) => return Err(CimError::new(CimStatus::NotFound, error.to_string())),
            EngineError::AccessDenied(_) => return Err(CimError::new(CimStatus::AccessDenied, error.to_string())),
            EngineError::NoSuchPool(_) => (code::INVALID_PARAMETER, Source::Service, Some("TargetPool")),
            EngineError::InvalidParameter { .. } => (code::INVALID_PARAMETER, Source::Service, Some("ElementName")),
            EngineError::NotSupported(_) => (code::NOT_SUPPORTED, Source::Service, None),
            EngineError::PoolCannotSnapshot(_) => (code::SNAPSHOT_NOT_SUPPORTED, Source::Provider, None),
            EngineError::VolumeNotUsable(_) | EngineError::Busy => (code::CANNOT_MODIFY, Source::Service, None),
            EngineError::QueueFull { .. } => (code::CIM_LIMITS_EXCEEDED, Source::Service, None),
            EngineError::Store(_) => (code::CIM_FAILED, Source::Service, None),
            EngineError::ShuttingDown => (code::CIM_SHUTTING_DOWN, Source::Service, None),
            EngineError::Backend(error) => (backend_code(error), Source::Provider, None),
            _ => (code::FAILED, Source::Service, None),
        };
        let mut details = String::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            if !details.is_empty() {
                details.push_str(": ");
            }
            details.push_str(&error.to_string());
            cause = error.source();
        }
        Ok(Self { code, source, parameter, message: error.to_string(), details })
    }

    /// What lies behind the error, cause by cause.
    pub(super) fn details(&self) -> &str {
        &self.details
    }

    /// The embedded `MSFT_SMExtendedStatus`. Nothing of the arguments is in it, so no credential is either.
    ///
    /// # Errors
    /// A [`CimError`] when the class lacks a property.
    pub(super) fn extended_status(&self, class: &Arc<ClassDeclaration>, operation: &str) -> Result<CimValue, CimError> {
        let status: CimInstance = InstanceBuilder::new(class)
            .set("StatusCode", self.status_code())
            .set("Operation", operation)
            .set("ParameterInfo", self.parameter)
            .set("ProviderName", "wsnapd")
            .set("Description", self.message.as_str())
            .set(
                "SMErrorSource",
                match self.source {
                    Source::Service => 1_u16,
                    Source::Provider => 2,
                },
            )
            .set("SMErrorCode", u32::from(self.code))
            .set("SMMessage", self.message.as_str())
            .set("SMDetails", if self.details.is_empty() { self.message.as_str() } else { self.details.as_str() })
            .build()?;
        Ok(CimValue::Instance(Arc::new(status)))
    }

    /// The WMI status that says the same, for `StatusCode`.
    const fn status_code(&self) -> u32 {
        match self.code {
            code::INVALID_PARAMETER => 0x8004_1008,
            code::NOT_SUPPORTED | code::SNAPSHOT_NOT_SUPPORTED => 0x8004_100C,
            code::CIM_ACCESS_DENIED => 0x8004_1003,
            code::CIM_NOT_FOUND => 0x8004_1002,
            code::CIM_SHUTTING_DOWN => 0x8004_1033,
            code::TIMEOUT => 0x8004_3001,
            _ => 0x8004_1001,
        }
    }
}

/// The code for a back-end that failed before there was a job.
const fn backend_code(error: &BackendError) -> u16 {
    match error.cause {
        Cause::NotSupported(_) => code::SNAPSHOT_NOT_SUPPORTED,
        Cause::InUse(_) => code::CANNOT_MODIFY,
        Cause::Timeout => code::TIMEOUT,
        Cause::Unreachable(_) => code::INVOCATION_FAILED,
        Cause::AccessDenied => code::CIM_ACCESS_DENIED,
        _ => code::FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Guid;

    fn id() -> Guid {
        "5C1C2F40-0000-4000-8000-00000000000A".parse().unwrap()
    }

    #[test]
    fn every_refusal_has_its_documented_code() {
        let backend = |cause| EngineError::Backend(BackendError::new("clone", cause));
        for (error, code) in [
            (EngineError::NotSupported("volume snapshot"), 1),
            (backend(Cause::Timeout), 3),
            (backend(Cause::NoSpace { needed: 2, available: 1 }), 4),
            (backend(Cause::Failed("no".to_owned())), 4),
            (EngineError::NoSuchPool(id()), 5),
            (EngineError::InvalidParameter { parameter: "name", reason: "too long" }, 5),
            (backend(Cause::Unreachable("gone".to_owned())), 40300),
            (EngineError::VolumeNotUsable("it is a snapshot"), 40304),
            (backend(Cause::InUse("busy".to_owned())), 40304),
            (EngineError::PoolCannotSnapshot("ext4".to_owned()), 40308),
            (backend(Cause::NotSupported("ext4".to_owned())), 40308),
            (backend(Cause::AccessDenied), 43002),
            (EngineError::QueueFull { limit: 32 }, 43027),
            (EngineError::ShuttingDown, 43028),
        ] {
            assert_eq!(Refusal::of_snapshot(&error).unwrap().code, code, "{error}");
        }
    }

    #[test]
    fn a_volume_that_is_gone_is_a_fault() {
        let error = Refusal::of_snapshot(&EngineError::NoSuchVolume(id())).unwrap_err();
        assert_eq!(error.status(), CimStatus::NotFound);
    }
}
