//! Composes the program (rank 7): reads the clock, owns the runtime, puts the layers together.
//!
//! ```text
//! Config → back-end → engine → providers ┐
//!          schema ───────────────────────┴→ object manager → wsman::Service → transport::Server
//! ```

mod audit;
mod certificate;
mod compose;
mod demo;
mod demo_guest;
mod demo_power;
mod error;
mod file_watch;
mod host;
mod kerberos;
mod logons;
mod run;
mod sources;
mod warnings;

pub use certificate::{CertificateError, CertificateFiles, CertificateInfo};
pub use compose::Running;
pub use demo::{Demo, DemoOptions, read_password_file};
pub use demo_power::StartedMachine;
pub use error::AppError;
pub use host::{host_name, reachable_names};
pub use kerberos::enter_environment;
pub use run::{Signals, init_logging, keep_memory_private, runtime};
pub use sources::{RandomIds, SystemClock};
