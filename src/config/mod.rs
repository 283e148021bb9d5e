//! The configuration (rank 7): `wsnapd.toml`, the directory of machine definitions, and where files
//! lie when nothing is said.
//!
//! Every key is described once, in [`KEYS`]; reading takes type, range and default from there, and
//! a test compares `docs/configuration.md` with it. Reading goes on after a mistake, so that
//! `wsnapd config check` reports all of them, each with file and line.

mod definitions;
mod diagnostics;
mod keys;
mod load;
mod places;
mod qemu;
mod reader;
mod simulated;

pub use diagnostics::{ConfigError, Diagnostic};
pub use keys::{KEYS, Key, Kind};
pub use load::{
    AuditConfig, ChannelBinding, Config, EventsConfig, JobsConfig, KerberosConfig, ListenerConfig, LogonConfig,
    Protocol, ServiceConfig, TlsConfig,
};
pub use places::{DEFAULT_CONFIG_FILE, client_setting, state_dir};
