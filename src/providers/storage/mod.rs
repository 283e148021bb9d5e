//! `root/Microsoft/Windows/Storage/SM`: pools, volumes, their snapshots and the jobs that copy them.
//!
//! The one place where the classes of the storage management namespace meet the volumes of the
//! engine. What the host cannot do is a return value with an `MSFT_SMExtendedStatus`; credentials in
//! arguments are meant for remote arrays, of which there are none here, and are dropped unread.

mod association;
mod extended_status;
mod host;
mod instance;
mod job;
mod method;
mod object;
mod pool;
mod registration;
mod volume;

pub(super) use job::{instance as job_instance, template as job_template};
pub(super) use object::NAMESPACE;
pub use registration::register;

/// Class of the jobs that copy volumes.
pub(super) const JOB: &str = "MSFT_SMJob";
