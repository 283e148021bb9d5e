//! Why a command was refused.

use super::{StoreError, SystemState};
use crate::backend::BackendError;
use crate::time::Guid;

/// Why the engine refused a command at once. What goes wrong later is in the [`JobFailure`](super::JobFailure).
///
/// Each variant names the return value of the machine and group methods, and of the volume methods where
/// they differ (`snapshot-semantics` §5 and §7).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// 32773.
    #[error("virtual system {0} does not exist")]
    NoSuchSystem(Guid),
    /// 32773.
    #[error("snapshot {0} does not exist")]
    NoSuchSnapshot(Guid),
    /// 32773.
    #[error("collection {0} does not exist")]
    NoSuchCollection(Guid),
    /// 32773.
    #[error("snapshot collection {0} does not exist")]
    NoSuchSnapshotCollection(Guid),
    /// 32773.
    #[error("reference point {0} does not exist")]
    NoSuchReferencePoint(Guid),
    /// 32773.
    #[error("reference point collection {0} does not exist")]
    NoSuchReferencePointCollection(Guid),
    /// The target of the call: `CIM_ERR_NOT_FOUND`.
    #[error("volume {0} does not exist")]
    NoSuchVolume(Guid),
    /// 5.
    #[error("pool {0} does not exist")]
    NoSuchPool(Guid),
    /// `CIM_ERR_NOT_FOUND`.
    #[error("job {0} does not exist")]
    NoSuchJob(Guid),
    /// 32773; volumes 5.
    #[error("invalid {parameter}: {reason}")]
    InvalidParameter {
        /// Which argument.
        parameter: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// 32768: an identity wanted for something new is taken.
    #[error("{0} exists already")]
    AlreadyExists(Guid),
    /// 32775: try again later.
    #[error("the virtual system is {state}, {needed} is needed")]
    InvalidState {
        /// The state it is in.
        state: SystemState,
        /// The states that are permitted.
        needed: &'static str,
    },
    /// 32775: a job still works with it.
    #[error("a job is still working with it")]
    Busy,
    /// 32774: the queue of the machine is full; volumes 43027 (limits exceeded).
    #[error("{limit} jobs are already waiting")]
    QueueFull {
        /// The configured limit.
        limit: usize,
    },
    /// 32770; volumes 1: the back-end can never do this, whatever the machine.
    #[error("{0} is not supported by this back-end")]
    NotSupported(&'static str),
    /// 40308: the pool of this volume can make no snapshot.
    #[error("the pool can make no snapshot: {0}")]
    PoolCannotSnapshot(String),
    /// 40304: the volume is a snapshot itself, is busy, or cannot be read.
    #[error("the volume cannot be snapshotted: {0}")]
    VolumeNotUsable(&'static str),
    /// The volume cannot be deleted now.
    #[error("the volume is in use: {0}")]
    VolumeInUse(&'static str),
    /// 4097: the job has ended, is ending, or cannot be cancelled.
    #[error("the job cannot be cancelled now")]
    NotCancellable,
    /// 32768; volumes 4.
    #[error("the back-end failed")]
    Backend(#[from] BackendError),
    /// 32768; volumes 43001.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// 32775; volumes 43028: the server is stopping.
    #[error("the server is stopping")]
    ShuttingDown,
    /// `CIM_ERR_ACCESS_DENIED`: the role or the scope of the user does not permit it.
    #[error("access denied: {0}")]
    AccessDenied(&'static str),
    /// 32768; volumes 4: changes are recorded, and the record cannot be written.
    #[error("the audit trail cannot be written, so nothing is changed")]
    AuditUnavailable,
    /// The options given at start contradict each other.
    #[error("{0}")]
    Configuration(String),
}

impl EngineError {
    /// Whether what a command is about does not exist.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::NoSuchSystem(_)
                | Self::NoSuchSnapshot(_)
                | Self::NoSuchCollection(_)
                | Self::NoSuchSnapshotCollection(_)
                | Self::NoSuchReferencePoint(_)
                | Self::NoSuchReferencePointCollection(_)
                | Self::NoSuchVolume(_)
                | Self::NoSuchPool(_)
                | Self::NoSuchJob(_)
        )
    }
}
