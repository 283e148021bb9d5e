//! A host in memory with scripted durations and failures, for tests and for people who test their own clients.
//!
//! Time is that of the runtime, so a test with paused time runs at once and always the same.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::script::{Counters, SimulatedScript};
use super::simulated_tracking::Tracked;
use super::{
    ApplyRequest, BackendError, BoxFuture, Capabilities, Cause, DestroyRequest, DiskImage, ExportRequest, Hypervisor,
    JournalStep, MachineDefinition, MachineReport, MachineState, Operation, PowerAction, Progress, Quiesce, Recovery,
    SnapshotOutcome, SnapshotRequest, StepControl, TrackingRequest,
};
use crate::time::Guid;

/// How many times a call reports its progress.
const TICKS: u32 = 20;

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
    /// `convert_to_reference_points`.
    Convert,
    /// `destroy_reference_points`.
    DestroyReferencePoints,
    /// `export_snapshots`.
    Export,
}

/// What goes wrong with the next call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this text.
    Fail(String),
    /// It does not end until it is cancelled.
    Hang,
    /// It never ends, cancelled or not.
    Die,
    /// It fails because there is no space.
    NoSpace,
    /// It fails because the host refuses.
    AccessDenied,
    /// It fails because the host cannot be reached.
    Unreachable,
}

/// A host in memory.
pub struct SimulatedHypervisor {
    world: Mutex<World>,
}

#[derive(Default)]
pub(super) struct World {
    machines: BTreeMap<Guid, Machine>,
    pub(super) snapshots: BTreeMap<Guid, Content>,
    /// What each tracking began with, by its snapshot.
    pub(super) tracking: BTreeMap<Guid, Tracked>,
    durations: BTreeMap<SimulatedCall, Duration>,
    faults: BTreeMap<SimulatedCall, VecDeque<Fault>>,
    counters: Counters,
}

struct Machine {
    definition: MachineDefinition,
    state: MachineState,
    disks: BTreeMap<String, Vec<u8>>,
    agent: bool,
    frozen: bool,
}

/// What a snapshot holds.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) disks: BTreeMap<String, Vec<u8>>,
    memory: bool,
}

impl SimulatedHypervisor {
    /// A host with these machines, all off, with empty disks; calls take no time.
    #[must_use]
    pub fn new(machines: Vec<MachineDefinition>) -> Self {
        let machine = |definition: MachineDefinition| {
            let disks = definition.disks.iter().map(|disk| (disk.name.clone(), Vec::new())).collect();
            let id = definition.id;
            (id, Machine { definition, state: MachineState::Off, disks, agent: true, frozen: false })
        };
        let machines = machines.into_iter().map(machine).collect();
        Self { world: Mutex::new(World { machines, ..World::default() }) }
    }

    /// A host with these machines that behaves as `script` says.
    #[must_use]
    pub fn scripted(machines: Vec<MachineDefinition>, script: &SimulatedScript) -> Self {
        let host = Self::new(machines);
        {
            let mut world = host.world();
            world.durations.clone_from(&script.durations);
            world.counters = Counters::new(script.failures.clone());
            for (id, machine) in &mut world.machines {
                machine.state = script.states.get(id).copied().unwrap_or(MachineState::Off);
                machine.agent = !script.without_agent.contains(id);
            }
        }
        host
    }

    /// How long each further `call` takes.
    pub fn set_duration(&self, call: SimulatedCall, duration: Duration) {
        self.world().durations.insert(call, duration);
    }

    /// What goes wrong with the next `call`; faults queue up.
    pub fn script(&self, call: SimulatedCall, fault: Fault) {
        self.world().faults.entry(call).or_default().push_back(fault);
    }

    /// Puts a machine into a state, as if its owner had.
    pub fn set_state(&self, machine: Guid, state: MachineState) {
        if let Some(machine) = self.world().machines.get_mut(&machine) {
            machine.state = state;
        }
    }

    /// Says whether the guest of a machine has an agent; it has until this is called.
    pub fn set_agent(&self, machine: Guid, connected: bool) {
        if let Some(machine) = self.world().machines.get_mut(&machine) {
            machine.agent = connected;
        }
    }

    /// The guest writes: the content of a disk is this from now on.
    pub fn write_disk(&self, machine: Guid, disk: &str, content: &[u8]) {
        if let Some(disk) = self.world().machines.get_mut(&machine).and_then(|machine| machine.disks.get_mut(disk)) {
            content.clone_into(disk);
        }
    }

    /// The content of a disk.
    #[must_use]
    pub fn read_disk(&self, machine: Guid, disk: &str) -> Option<Vec<u8>> {
        self.world().machines.get(&machine).and_then(|machine| machine.disks.get(disk)).cloned()
    }

    /// True while the file systems of a guest are frozen.
    #[must_use]
    pub fn is_frozen(&self, machine: Guid) -> bool {
        self.world().machines.get(&machine).is_some_and(|machine| machine.frozen)
    }

    /// The snapshots the host holds.
    #[must_use]
    pub fn held_snapshots(&self) -> BTreeSet<Guid> {
        self.world().snapshots.keys().copied().collect()
    }

    /// The data of a snapshot is lost, as by somebody else's hand.
    pub fn lose_snapshot(&self, snapshot: Guid) {
        self.world().snapshots.remove(&snapshot);
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the time of a call pass, and what is scripted happen.
    pub(super) async fn spend(
        &self,
        call: SimulatedCall,
        machines: &[Guid],
        step: &'static str,
        control: &StepControl,
    ) -> Result<(), BackendError> {
        let (fault, duration) = {
            let mut world = self.world();
            let counted = world.counters.count(call, machines);
            let fault = world.faults.get_mut(&call).and_then(VecDeque::pop_front).or(counted);
            (fault, world.durations.get(&call).copied().unwrap_or_default())
        };
        if fault == Some(Fault::Die) {
            std::future::pending::<()>().await;
        }
        if fault == Some(Fault::Hang) {
            control.cancelled().cancelled().await;
        }
        if !duration.is_zero() {
            for tick in 1..=TICKS {
                tokio::select! {
                    () = tokio::time::sleep(duration / TICKS) => {}
                    () = control.cancelled().cancelled() => break,
                }
                control.report(Progress { done: tick.into(), total: TICKS.into() });
            }
        }
        let cause = match fault {
            Some(Fault::Fail(text)) => Cause::Failed(text),
            Some(Fault::NoSpace) => Cause::NoSpace { needed: 2 << 30, available: 1 << 30 },
            Some(Fault::AccessDenied) => Cause::AccessDenied,
            Some(Fault::Unreachable) => Cause::Unreachable("the host does not answer".to_owned()),
            _ if control.is_cancelled() => Cause::Cancelled,
            _ => return Ok(()),
        };
        Err(BackendError::new(step, cause))
    }

    /// The disks of a machine that go into a snapshot, and the names of those left out.
    fn choose_disks(&self, request: &SnapshotRequest) -> Result<(Vec<DiskImage>, Vec<String>), BackendError> {
        let world = self.world();
        let machine = world.machines.get(&request.machine).ok_or_else(|| gone(request.machine))?;
        let disks = &machine.definition.disks;
        let excluded = self.non_snapshottable(disks);
        if let (Some(disk), false) = (excluded.first(), request.ignore_non_snapshottable) {
            let cause = Cause::NotSupported("the disk cannot be snapshotted".to_owned());
            return Err(BackendError::new("plan the snapshot", cause).on_disk(&disk.name));
        }
        let image = |disk: &super::DiskDefinition| DiskImage {
            disk: disk.name.clone(),
            source: disk.path.clone(),
            file: file_of(request.snapshot, &disk.name),
            format: disk.format,
            internal: false,
            bytes: machine.disks.get(&disk.name).and_then(|disk| u64::try_from(disk.len()).ok()).unwrap_or(0),
        };
        if request.without_data && excluded.len() == disks.len() {
            let cause = Cause::NotSupported("the machine has no disk whose changes can be tracked".to_owned());
            return Err(BackendError::new("plan the reference point", cause));
        }
        let images: Vec<DiskImage> = disks.iter().filter(|disk| !excluded.contains(disk)).map(image).collect();
        Ok((images, excluded.iter().map(|disk| disk.name.clone()).collect()))
    }

    async fn create(
        &self,
        requests: &[SnapshotRequest],
        control: &StepControl,
    ) -> Result<Vec<SnapshotOutcome>, BackendError> {
        let chosen = requests.iter().map(|request| self.choose_disks(request)).collect::<Result<Vec<_>, _>>()?;
        let files = chosen.iter().flat_map(|(disks, _)| disks).map(|disk| disk.file.clone()).collect();
        let ran: Vec<Guid> =
            requests.iter().map(|request| request.machine).filter(|id| self.is(*id, MachineState::Running)).collect();
        let result = self.create_steps(requests, chosen, JournalStep::Planned { files }, &ran, control).await;
        self.release(requests, &ran);
        if result.is_err() {
            self.forget(requests);
        }
        result
    }

    async fn create_steps(
        &self,
        requests: &[SnapshotRequest],
        chosen: Vec<(Vec<DiskImage>, Vec<String>)>,
        planned: JournalStep,
        ran: &[Guid],
        control: &StepControl,
    ) -> Result<Vec<SnapshotOutcome>, BackendError> {
        let cancelled = |_| BackendError::new("take the snapshot", Cause::Cancelled);
        control.record(planned).await.map_err(cancelled)?;
        let mut frozen = BTreeSet::new();
        let mut memory: BTreeSet<Guid> =
            requests.iter().filter(|request| request.memory).map(|request| request.machine).collect();
        for request in requests {
            if request.quiesce == Quiesce::Never || !self.is(request.machine, MachineState::Running) {
                continue;
            }
            control.record(JournalStep::FreezeSent).await.map_err(cancelled)?;
            match self.freeze(request.machine, control).await {
                Ok(()) => {
                    frozen.insert(request.machine);
                }
                Err(error) if error.is_cancelled() || request.quiesce == Quiesce::Require => return Err(error),
                Err(_) if request.quiesce == Quiesce::TryElseMemory => {
                    memory.insert(request.machine);
                }
                Err(_) => {}
            }
        }
        control.record(JournalStep::Paused { running: ran.to_vec() }).await.map_err(cancelled)?;
        let mut outcomes = Vec::new();
        for (request, (disks, skipped)) in requests.iter().zip(chosen) {
            let kept = memory.contains(&request.machine) && !self.is(request.machine, MachineState::Off);
            let still = self.is(request.machine, MachineState::Off);
            let tracking =
                if request.change_tracking { super::simulated_tracking::track(request, &disks) } else { Vec::new() };
            let disks = if request.without_data { Vec::new() } else { disks };
            outcomes.push(SnapshotOutcome {
                machine: request.machine,
                snapshot: request.snapshot,
                disks,
                skipped,
                memory: kept.then(|| file_of(request.snapshot, "memory")),
                application_consistent: kept || still || frozen.contains(&request.machine),
                launch: None,
                paused_ms: 0,
                frozen_ms: 0,
                tracking,
            });
        }
        self.take(requests, &outcomes);
        if !memory.is_empty() {
            control.record(JournalStep::MemoryStarted).await.map_err(cancelled)?;
        }
        let machines: Vec<Guid> = requests.iter().map(|request| request.machine).collect();
        self.spend(SimulatedCall::Create, &machines, "take the snapshot", control).await?;
        control.record(JournalStep::DisksDone { outcomes: outcomes.clone() }).await.map_err(cancelled)?;
        Ok(outcomes)
    }

    async fn freeze(&self, machine: Guid, control: &StepControl) -> Result<(), BackendError> {
        self.spend(SimulatedCall::Freeze, &[machine], "freeze the guest", control).await?;
        let mut world = self.world();
        let machine = world.machines.get_mut(&machine).ok_or_else(|| gone(machine))?;
        if !machine.agent {
            let cause = Cause::GuestNotQuiesced("guest agent not connected".to_owned());
            return Err(BackendError::new("freeze the guest", cause));
        }
        machine.frozen = true;
        Ok(())
    }

    fn is(&self, machine: Guid, state: MachineState) -> bool {
        self.world().machines.get(&machine).is_some_and(|machine| machine.state == state)
    }

    fn take(&self, requests: &[SnapshotRequest], outcomes: &[SnapshotOutcome]) {
        let mut world = self.world();
        for (request, outcome) in requests.iter().zip(outcomes) {
            let Some(machine) = world.machines.get(&outcome.machine) else { continue };
            if !outcome.tracking.is_empty() {
                let tracked = Tracked::begin(&outcome.tracking, &machine.disks);
                world.tracking.insert(outcome.snapshot, tracked);
            }
            if request.without_data {
                continue;
            }
            let Some(machine) = world.machines.get(&outcome.machine) else { continue };
            let chosen: HashSet<&str> = outcome.disks.iter().map(|disk| disk.disk.as_str()).collect();
            let mut disks = machine.disks.clone();
            disks.retain(|name, _| chosen.contains(name.as_str()));
            world.snapshots.insert(outcome.snapshot, Content { disks, memory: outcome.memory.is_some() });
        }
    }

    /// Thaws the machines and lets those run again that ran before.
    fn release(&self, requests: &[SnapshotRequest], ran: &[Guid]) {
        let mut world = self.world();
        for request in requests {
            if let Some(machine) = world.machines.get_mut(&request.machine) {
                machine.frozen = false;
                if ran.contains(&request.machine) && machine.state == MachineState::Paused {
                    machine.state = MachineState::Running;
                }
            }
        }
    }

    fn forget(&self, requests: &[SnapshotRequest]) {
        let mut world = self.world();
        for request in requests {
            world.snapshots.remove(&request.snapshot);
            world.tracking.remove(&request.snapshot);
        }
    }

    /// Fails before anything is changed when a snapshot is lost.
    fn check_held(&self, requests: &[ApplyRequest]) -> Result<(), BackendError> {
        let world = self.world();
        for request in requests {
            if !world.snapshots.contains_key(&request.snapshot) {
                let cause = Cause::FileNotFound(file_of(request.snapshot, "disks"));
                return Err(BackendError::new("open the snapshot", cause));
            }
        }
        Ok(())
    }

    fn apply(&self, requests: &[ApplyRequest]) {
        let mut world = self.world();
        for request in requests {
            let Some(content) = world.snapshots.get(&request.snapshot).cloned() else { continue };
            if let Some(machine) = world.machines.get_mut(&request.machine) {
                machine.disks.extend(content.disks);
                machine.state = if content.memory { MachineState::Saved } else { MachineState::Off };
            }
        }
    }

    fn destroy(&self, requests: &[DestroyRequest]) {
        let mut world = self.world();
        for request in requests {
            world.snapshots.remove(&request.snapshot);
            world.tracking.remove(&request.snapshot);
        }
    }
}

fn gone(machine: Guid) -> BackendError {
    BackendError::new("find the machine", Cause::Unreachable(format!("machine {machine} is not defined")))
}

pub(super) fn file_of(snapshot: Guid, part: &str) -> PathBuf {
    PathBuf::from(format!("/simulated/{snapshot}/{part}"))
}

fn snapshot_of(file: &std::path::Path) -> Option<Guid> {
    file.parent()?.file_name()?.to_str()?.parse().ok()
}

impl Hypervisor for SimulatedHypervisor {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            running: true,
            memory: true,
            quiesce: true,
            group_instant: true,
            progress: true,
            cancel: true,
            reference_points: true,
            differential_export: true,
            power: true,
        }
    }

    fn machines(&self) -> BoxFuture<'_, Result<Vec<MachineReport>, BackendError>> {
        Box::pin(async {
            let report = |machine: &Machine| MachineReport {
                definition: machine.definition.clone(),
                state: machine.state,
                foreign: Some(Vec::new()),
                virtual_sizes: machine.definition.disks.iter().map(|_| Some(1 << 30)).collect(),
                serial_ports: Vec::new(),
                process: None,
            };
            Ok(self.world().machines.values().map(report).collect())
        })
    }

    fn state(&self, machine: Guid) -> BoxFuture<'_, Result<MachineState, BackendError>> {
        let state = self.world().machines.get(&machine).map(|machine| machine.state).ok_or_else(|| gone(machine));
        Box::pin(std::future::ready(state))
    }

    fn create_snapshots<'a>(
        &'a self,
        requests: &'a [SnapshotRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<Vec<SnapshotOutcome>, BackendError>> {
        Box::pin(self.create(requests, control))
    }

    fn apply_snapshots<'a>(
        &'a self,
        requests: &'a [ApplyRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let cancelled = |_| BackendError::new("apply the snapshot", Cause::Cancelled);
            self.check_held(requests)?;
            control.record(JournalStep::Planned { files: Vec::new() }).await.map_err(cancelled)?;
            let machines: Vec<Guid> = requests.iter().map(|request| request.machine).collect();
            self.spend(SimulatedCall::Apply, &machines, "apply the snapshot", control).await?;
            control.record(JournalStep::Staged { files: Vec::new() }).await.map_err(cancelled)?;
            self.apply(requests);
            Ok(())
        })
    }

    fn destroy_snapshots<'a>(
        &'a self,
        requests: &'a [DestroyRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let cancelled = |_| BackendError::new("destroy the snapshot", Cause::Cancelled);
            let machines: Vec<Guid> = requests.iter().map(|request| request.machine).collect();
            self.spend(SimulatedCall::Destroy, &machines, "destroy the snapshot", control).await?;
            control.record(JournalStep::Removing).await.map_err(cancelled)?;
            self.destroy(requests);
            Ok(())
        })
    }

    fn clear_memory<'a>(&'a self, request: &'a DestroyRequest) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            self.spend(SimulatedCall::ClearMemory, &[request.machine], "drop the memory", &StepControl::detached())
                .await?;
            if let Some(content) = self.world().snapshots.get_mut(&request.snapshot) {
                content.memory = false;
            }
            Ok(())
        })
    }

    fn convert_to_reference_points<'a>(
        &'a self,
        requests: &'a [DestroyRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(self.convert(requests, control))
    }

    fn destroy_reference_points<'a>(
        &'a self,
        requests: &'a [TrackingRequest],
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(self.end_tracking(requests, control))
    }

    fn verify_reference_points<'a>(&'a self, requests: &'a [TrackingRequest]) -> BoxFuture<'a, BTreeSet<Guid>> {
        let held = self.held_tracking();
        let lost = requests.iter().map(|request| request.snapshot).filter(|snapshot| !held.contains(snapshot));
        Box::pin(std::future::ready(lost.collect()))
    }

    fn remove_stale_tracking<'a>(&'a self, tracked: &'a BTreeSet<Guid>) -> BoxFuture<'a, Result<usize, BackendError>> {
        let mut world = self.world();
        let before = world.tracking.len();
        world.tracking.retain(|snapshot, _| tracked.contains(snapshot));
        Box::pin(std::future::ready(Ok(before - world.tracking.len())))
    }

    fn export_snapshots<'a>(
        &'a self,
        request: &'a ExportRequest,
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(self.export(request, control))
    }

    fn change_state<'a>(
        &'a self,
        machine: Guid,
        action: PowerAction,
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<MachineState, BackendError>> {
        Box::pin(async move {
            self.spend(SimulatedCall::ChangeState, &[machine], "change the state", control).await?;
            let mut world = self.world();
            let found = world.machines.get_mut(&machine).ok_or_else(|| gone(machine))?;
            found.state = match action {
                PowerAction::Start | PowerAction::Reset => MachineState::Running,
                PowerAction::TurnOff | PowerAction::ShutDown => MachineState::Off,
                PowerAction::Save => MachineState::Saved,
                PowerAction::Pause => MachineState::Paused,
            };
            Ok(found.state)
        })
    }

    fn recover<'a>(
        &'a self,
        operation: &'a Operation,
        journal: &'a [JournalStep],
    ) -> BoxFuture<'a, Result<Recovery, BackendError>> {
        Box::pin(async move {
            match operation {
                Operation::Create(requests) => {
                    self.release(requests, &[]);
                    let mut held = self.held_snapshots();
                    held.extend(self.held_tracking());
                    for step in journal {
                        if let JournalStep::DisksDone { outcomes } = step
                            && outcomes.iter().all(|outcome| held.contains(&outcome.snapshot))
                        {
                            return Ok(Recovery::Finished(outcomes.clone()));
                        }
                    }
                    self.forget(requests);
                    Ok(Recovery::RolledBack)
                }
                Operation::Apply(requests) if journal.iter().any(JournalStep::is_point_of_no_return) => {
                    self.apply(requests);
                    Ok(Recovery::Finished(Vec::new()))
                }
                Operation::Destroy(requests) if journal.iter().any(JournalStep::is_point_of_no_return) => {
                    self.destroy(requests);
                    Ok(Recovery::Finished(Vec::new()))
                }
                Operation::Convert(_) | Operation::DestroyReferencePoints(_) | Operation::Export(_) => {
                    self.recover_tracking(operation, journal).await
                }
                Operation::Apply(_)
                | Operation::Destroy(_)
                | Operation::ChangeState { .. }
                | Operation::Merge { .. } => Ok(Recovery::RolledBack),
            }
        })
    }

    fn missing_files<'a>(&'a self, files: &'a [PathBuf]) -> BoxFuture<'a, BTreeSet<PathBuf>> {
        let held = self.held_snapshots();
        let lost = |file: &&PathBuf| snapshot_of(file).is_none_or(|snapshot| !held.contains(&snapshot));
        Box::pin(std::future::ready(files.iter().filter(lost).cloned().collect()))
    }

    fn remove_orphans<'a>(
        &'a self,
        owned: &'a BTreeSet<Guid>,
        _: &'a HashSet<PathBuf>,
    ) -> BoxFuture<'a, Result<Vec<PathBuf>, BackendError>> {
        let mut world = self.world();
        let orphans: Vec<Guid> = world.snapshots.keys().filter(|id| !owned.contains(id)).copied().collect();
        for id in &orphans {
            world.snapshots.remove(id);
        }
        Box::pin(std::future::ready(Ok(orphans.into_iter().map(|id| file_of(id, "disks")).collect())))
    }
}
