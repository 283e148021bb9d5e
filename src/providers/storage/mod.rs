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

pub use registration::register;
