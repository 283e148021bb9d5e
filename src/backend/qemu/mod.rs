//! Machines run by QEMU, reached over their own monitor and guest-agent sockets.

mod agent;
mod lines;
mod monitor;

pub use agent::{Agent, AgentError, FreezeStatus};
pub use monitor::{Monitor, MonitorError, MonitorEvent};
