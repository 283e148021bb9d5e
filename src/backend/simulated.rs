//! A host in memory with scripted durations and failures.

use std::time::Duration;

use super::{MachineDefinition, MachineState};
use crate::time::Guid;

/// A call that can be scripted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SimulatedCall {
    /// `create_snapshots`.
    Create,
    /// `apply_snapshots`.
    Apply,
    /// `destroy_snapshots`.
    Destroy,
    /// `clear_memory`.
    ClearMemory,
    /// `change_state`.
    ChangeState,
    /// Freezing, inside `create_snapshots`.
    Freeze,
}

/// What goes wrong with the next call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this text.
    Fail(String),
    /// It never ends until it is cancelled.
    Hang,
    /// It fails as if there were no space.
    NoSpace,
}

/// A host in memory.
pub struct SimulatedHypervisor(());

impl SimulatedHypervisor {
    /// A host with these machines, all off, with empty disks; calls take no time.
    #[must_use]
    pub fn new(_machines: Vec<MachineDefinition>) -> Self {
        todo!()
    }

    /// How long each further `call` takes.
    pub fn set_duration(&self, _call: SimulatedCall, _duration: Duration) {
        todo!()
    }

    /// What goes wrong with the next `call`; faults queue up.
    pub fn script(&self, _call: SimulatedCall, _fault: Fault) {
        todo!()
    }

    /// Puts a machine into a state, as if its owner had.
    pub fn set_state(&self, _machine: Guid, _state: MachineState) {
        todo!()
    }

    /// Says whether the guest of a machine has an agent (it has until this is called).
    pub fn set_agent(&self, _machine: Guid, _connected: bool) {
        todo!()
    }

    /// The guest writes: the content of a disk is this from now on.
    pub fn write_disk(&self, _machine: Guid, _disk: &str, _content: &[u8]) {
        todo!()
    }

    /// The content of a disk.
    #[must_use]
    pub fn read_disk(&self, _machine: Guid, _disk: &str) -> Option<Vec<u8>> {
        todo!()
    }
}
