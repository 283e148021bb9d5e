//! Machines run by QEMU, ours and those of others (`backends` §2).

mod agent;
mod lines;
mod monitor;
mod settings;

pub use agent::{Agent, AgentError, FreezeStatus};
pub use monitor::{Monitor, MonitorError, MonitorEvent};
pub use settings::{MemoryMethod, QemuSettings};
