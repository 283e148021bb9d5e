//! What the simulated host is told to do: durations, failures and first states, as the configuration states them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Fault, MachineState, SimulatedCall};
use crate::time::Guid;

/// How a simulated host behaves. By default calls take no time and succeed, and all machines are off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimulatedScript {
    /// How long each kind of call takes.
    pub durations: BTreeMap<SimulatedCall, Duration>,
    /// What goes wrong.
    pub failures: Vec<ScriptedFailure>,
    /// The states of machines at the start, where they are not off.
    pub states: BTreeMap<Guid, MachineState>,
    /// Machines whose guest has no agent and cannot be frozen.
    pub without_agent: BTreeSet<Guid>,
}

/// A call that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptedFailure {
    /// Which kind of call.
    pub call: SimulatedCall,
    /// Which of these calls since the start, counted from 1; 0 is each of them.
    pub nth: u64,
    /// Only calls that work on this machine count.
    pub machine: Option<Guid>,
    /// What goes wrong.
    pub fault: Fault,
}

/// Scripted failures with the number of calls each has seen.
#[derive(Debug, Default)]
pub(super) struct Counters(Vec<(ScriptedFailure, u64)>);

impl Counters {
    pub(super) fn new(failures: Vec<ScriptedFailure>) -> Self {
        Self(failures.into_iter().map(|failure| (failure, 0)).collect())
    }

    /// Counts a call, and says what goes wrong with it: what the first failure that fits says.
    pub(super) fn count(&mut self, call: SimulatedCall, machines: &[Guid]) -> Option<Fault> {
        let mut found = None;
        for (failure, seen) in &mut self.0 {
            if failure.call != call || failure.machine.is_some_and(|machine| !machines.contains(&machine)) {
                continue;
            }
            *seen += 1;
            if found.is_none() && (failure.nth == 0 || failure.nth == *seen) {
                found = Some(failure.fault.clone());
            }
        }
        found
    }
}
