//! Why a back-end refused or failed.

use std::io;
use std::path::PathBuf;

/// What lies behind a [`BackendError`]: the engine turns each into one error code of a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The caller cancelled; everything was undone.
    #[error("the operation was cancelled")]
    Cancelled,
    /// The guest did not quiesce its file systems.
    #[error("the guest did not quiesce: {0}")]
    GuestNotQuiesced(String),
    /// The host refuses our own account.
    #[error("access denied")]
    AccessDenied,
    /// The machine, disk or volume is used by somebody else or in a state that forbids the step.
    #[error("{0}")]
    InUse(String),
    /// The step needs more room than there is.
    #[error("not enough space: {needed} bytes are needed, {available} bytes are available")]
    NoSpace {
        /// Bytes the step would write.
        needed: u64,
        /// Bytes left on the filesystem.
        available: u64,
    },
    /// The back-end can never do this to this object.
    #[error("{0}")]
    NotSupported(String),
    /// What was asked for names something that must not be touched.
    #[error("{0}")]
    NotAllowed(String),
    /// A file that must exist is gone.
    #[error("file {} is not found", .0.display())]
    FileNotFound(PathBuf),
    /// The machine or the storage cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// Memory ran out.
    #[error("out of memory")]
    OutOfMemory,
    /// The operating system reported an error.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// The hypervisor reported an error.
    #[error("{0}")]
    Failed(String),
}

/// A failure with the machine and the disk (if one is to blame) and the step it happened in.
#[derive(Debug, thiserror::Error)]
#[error("{}{}{step}: {cause}", blamed("machine", machine.as_deref()), blamed("disk", disk.as_deref()))]
pub struct BackendError {
    /// The machine by name, when the operation is on several.
    pub machine: Option<String>,
    /// The disk, volume or pool by name.
    pub disk: Option<String>,
    /// What was being done, as in "copy to the snapshot file".
    pub step: &'static str,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

impl BackendError {
    /// A failure no single disk is to blame for.
    #[must_use]
    pub const fn new(step: &'static str, cause: Cause) -> Self {
        Self { machine: None, disk: None, step, cause }
    }

    /// Names the disk to blame.
    #[must_use]
    pub fn on_disk(mut self, disk: impl Into<String>) -> Self {
        self.disk = Some(disk.into());
        self
    }

    /// Names the machine to blame.
    #[must_use]
    pub fn on_machine(mut self, machine: impl Into<String>) -> Self {
        self.machine = Some(machine.into());
        self
    }

    /// An error of the operating system on `path`.
    #[must_use]
    pub fn io(step: &'static str, path: &std::path::Path, error: io::Error) -> Self {
        Self::new(step, Cause::from_io(path, error))
    }

    /// True when the operation ended because it was cancelled.
    #[must_use]
    pub const fn is_cancelled(&self) -> bool {
        matches!(self.cause, Cause::Cancelled)
    }
}

fn blamed(what: &str, name: Option<&str>) -> String {
    name.map(|name| format!("{what} {name}: ")).unwrap_or_default()
}

impl Cause {
    /// Sorts an error of the operating system on `path`.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "fits into `map_err`")]
    pub fn from_io(path: &std::path::Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::FileNotFound(path.to_path_buf()),
            io::ErrorKind::PermissionDenied => Self::AccessDenied,
            io::ErrorKind::OutOfMemory => Self::OutOfMemory,
            _ => Self::Io(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
}
