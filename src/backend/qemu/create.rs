//! Taking snapshots: of one machine or of several at one instant (`backends` §2.3, §2.5, §2.6).
//!
//! Everything slow comes before the pause or after it. Between `stop` and `cont` there are the start of the memory's
//! transfer and one transaction over all disks; records are written outside of it.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::super::copy;
use super::super::{
    BackendError, Cause, JournalStep, MachineState, Progress, Quiesce, SnapshotOutcome, SnapshotRequest, StepControl,
};
use super::QemuHypervisor;
use super::files::remove_directory;
use super::launch::Launch;
use super::machine::Machine;
use super::member::Member;
use super::memory;
use super::monitor::MonitorError;
use super::settings::MemoryMethod;

const STEP: &str = "take the snapshot";
/// How often taking back is tried before the job has to say that it was not possible.
const UNDO_ATTEMPTS: u32 = 20;
/// Between two of these attempts.
const UNDO_PAUSE: Duration = Duration::from_millis(500);

fn interrupted(_: super::super::Interrupted) -> BackendError {
    BackendError::new(STEP, Cause::Cancelled)
}

impl QemuHypervisor {
    pub(super) async fn create(
        &self,
        requests: &[SnapshotRequest],
        control: &StepControl,
    ) -> Result<Vec<SnapshotOutcome>, BackendError> {
        let mut members = Vec::new();
        for request in requests {
            let machine = self.machine(request.machine)?;
            let directory = self.snapshot_directory(request.snapshot);
            let named = blame(&machine, requests.len() > 1);
            members.push(Member::plan(machine, request.clone(), &directory).await.map_err(named)?);
        }
        self.check_space(&members)?;
        let files: Vec<PathBuf> = members.iter().flat_map(Member::memory_files).collect();
        control.record(JournalStep::Planned { files }).await.map_err(interrupted)?;
        let taken = {
            let taking = self.take(&mut members, control);
            tokio::select! {
                biased;
                () = control.cancelled().cancelled() => Err(BackendError::new(STEP, Cause::Cancelled)),
                result = taking => result,
            }
        };
        let error = match taken {
            Ok(outcomes) => return Ok(outcomes),
            Err(error) => error,
        };
        match self.undo(&mut members).await {
            Ok(()) => Err(error),
            Err(left) => {
                tracing::error!(%error, %left, "A failed snapshot could not be taken back");
                let text = format!("{}; and it could not be taken back: {left}", error.cause);
                Err(BackendError { cause: Cause::Failed(text), ..error })
            }
        }
    }

    /// Memory goes into files of its own, which must fit before anything is touched.
    fn check_space(&self, members: &[Member]) -> Result<(), BackendError> {
        let needed: u64 = members
            .iter()
            .filter(|member| member.memory.is_some() && member.monitor.is_some())
            .map(|member| memory::bytes_needed(member.machine.definition.memory_mb))
            .sum();
        if needed > 0 {
            copy::check_space("check the space for the memory", self.root(), needed)?;
        }
        members.iter().try_for_each(Member::check_overlay_space)
    }

    async fn take(&self, members: &mut [Member], control: &StepControl) -> Result<Vec<SnapshotOutcome>, BackendError> {
        let several = members.len() > 1;
        for member in members.iter_mut() {
            let named = blame(&member.machine, several);
            member.add_overlays().await.map_err(named)?;
        }
        freeze(members, control).await?;
        let limit = self.settings().freeze_limit;
        let frozen = members.iter().any(|member| member.frozen_at.is_some());
        // A guest that does not make its files wait for a limited time only would stop its users.
        if frozen {
            let stilled = tokio::time::timeout(limit, self.still(members, control)).await;
            stilled.unwrap_or_else(|_| Err(BackendError::new("take the disks of a frozen guest", Cause::Timeout)))?;
        } else {
            self.still(members, control).await?;
        }
        let thawed = join_all(members.iter_mut().map(Member::thaw)).await;
        first_failure(members, thawed)?;
        for member in members.iter_mut() {
            let named = blame(&member.machine, several);
            finish_memory(member, control).await.map_err(named)?;
        }
        let mut outcomes = Vec::new();
        for member in members.iter() {
            let launch = self.launch_of(member).await?;
            outcomes.push(member.outcome(launch.as_ref())?);
        }
        control.record(JournalStep::DisksDone { outcomes: outcomes.clone() }).await.map_err(interrupted)?;
        Ok(outcomes)
    }

    /// The pause and everything that must lie inside of it.
    async fn still(&self, members: &mut [Member], control: &StepControl) -> Result<(), BackendError> {
        let several = members.len() > 1;
        if members.iter().any(|member| member.memory.is_some()) {
            control.record(JournalStep::MemoryStarted).await.map_err(interrupted)?;
        }
        let running = members.iter().filter(|member| member.runs()).map(|member| member.request.machine).collect();
        control.record(JournalStep::Paused { running }).await.map_err(interrupted)?;
        for member in members.iter_mut() {
            if member.runs() {
                member.held = Some(member.machine.hold());
            }
            let named = blame(&member.machine, several);
            self.prepare_memory(member, control).await.map_err(named)?;
        }
        let begun = Instant::now();
        // One that pre-copy has stopped already is not harmed by another stop.
        let paused = join_all(members.iter_mut().map(Member::pause)).await;
        first_failure(members, paused)?;
        for member in members.iter() {
            catch_instant(member).await.map_err(blame(&member.machine, several))?;
        }
        let taken = join_all(members.iter().map(Member::take_disks)).await;
        first_failure(members, taken)?;
        for member in members.iter() {
            write_stopped(member, control).await.map_err(blame(&member.machine, several))?;
        }
        let resumed = join_all(members.iter_mut().map(Member::resume)).await;
        first_failure(members, resumed)?;
        let measured = begun.elapsed();
        for member in members.iter_mut() {
            member.held = None;
            if member.runs() {
                member.measure_pause(measured);
            }
        }
        Ok(())
    }

    /// Chooses how memory is written; a pre-copy is brought to the point where the guest stands still.
    async fn prepare_memory(&self, member: &mut Member, control: &StepControl) -> Result<(), BackendError> {
        let runs = member.runs();
        let (Some(plan), Some(monitor)) = (&mut member.memory, &member.monitor) else { return Ok(()) };
        let directory = self.snapshot_directory(member.request.snapshot);
        std::fs::create_dir_all(&directory)
            .map_err(|error| BackendError::io("make the snapshot directory", &directory, error))?;
        copy::sync_directory("make the snapshot directory", self.root())?;
        plan.prepare(monitor, self.settings(), runs).await?;
        if plan.method == MemoryMethod::Precopy {
            let _flushing = plan.flush_along();
            plan.start(monitor).await?;
            plan.wait_for(monitor, &["pre-switchover"], control).await?;
        }
        Ok(())
    }

    /// Takes everything back, and tries again for a while what cannot be at once.
    async fn undo(&self, members: &mut [Member]) -> Result<(), BackendError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let undone = join_all(members.iter_mut().map(Member::undo)).await;
            let result = undone.into_iter().collect::<Result<(), _>>().and_then(|()| self.remove_files(members));
            for member in members.iter_mut() {
                member.held = None;
            }
            if result.is_ok() || attempt == UNDO_ATTEMPTS {
                return result;
            }
            tokio::time::sleep(UNDO_PAUSE).await;
        }
    }

    fn remove_files(&self, members: &[Member]) -> Result<(), BackendError> {
        for member in members {
            let directory = self.snapshot_directory(member.request.snapshot);
            remove_directory("remove the unfinished snapshot", &directory)?;
        }
        Ok(())
    }

    /// How the machine of a snapshot is launched; `None` for one that somebody else launches.
    async fn launch_of(&self, member: &Member) -> Result<Option<Launch>, BackendError> {
        let Some(mut launch) = self.current_launch(&member.machine).await? else { return Ok(None) };
        if let Some(plan) = &member.memory
            && member.before != MachineState::Saved
        {
            launch.memory = plan.layout;
        }
        Ok(Some(launch))
    }
}

/// Names the machine in the error of an operation on several.
fn blame(machine: &Machine, several: bool) -> impl Fn(BackendError) -> BackendError + use<> {
    let name = several.then(|| machine.definition.name.clone());
    move |error| match &name {
        Some(name) if error.machine.is_none() => error.on_machine(name),
        _ => error,
    }
}

/// The first failure of a step that every member took.
fn first_failure(members: &[Member], results: Vec<Result<(), BackendError>>) -> Result<(), BackendError> {
    for (member, result) in members.iter().zip(results) {
        result.map_err(blame(&member.machine, members.len() > 1))?;
    }
    Ok(())
}

/// Freezes the guests that are to be frozen, all at the same time.
async fn freeze(members: &mut [Member], control: &StepControl) -> Result<(), BackendError> {
    if !members.iter().any(Member::is_to_freeze) {
        return Ok(());
    }
    control.record(JournalStep::FreezeSent).await.map_err(interrupted)?;
    let frozen = join_all(members.iter_mut().map(Member::freeze_if_wanted)).await;
    let several = members.len() > 1;
    for (member, result) in members.iter_mut().zip(frozen) {
        let Err(error) = result.map_err(blame(&member.machine, several)) else { continue };
        tracing::info!(machine = %member.request.machine, %error, "The guest was not frozen");
        if member.frozen_at.is_some() || member.request.quiesce == Quiesce::Require {
            return Err(error);
        }
        if member.request.quiesce == Quiesce::TryElseMemory {
            member.memory = Some(memory::MemoryPlan::new(&member.directory));
        }
    }
    Ok(())
}

/// Begins what is written in the background, and waits until QEMU has caught the instant.
async fn catch_instant(member: &Member) -> Result<(), BackendError> {
    let (Some(plan), Some(monitor)) = (&member.memory, &member.monitor) else { return Ok(()) };
    if plan.method != MemoryMethod::Background {
        return Ok(());
    }
    plan.start(monitor).await?;
    plan.wait_for(monitor, &["active", "completed"], &StepControl::detached()).await
}

/// Writes what must be written while the guest stands still: the last pass, or all of it.
async fn write_stopped(member: &Member, control: &StepControl) -> Result<(), BackendError> {
    let (Some(plan), Some(monitor)) = (&member.memory, &member.monitor) else { return Ok(()) };
    let failed = |error: MonitorError| BackendError::new("write the memory", error.into());
    match plan.method {
        MemoryMethod::Precopy => monitor.migrate_continue().await.map_err(failed)?,
        MemoryMethod::Stop => plan.start(monitor).await?,
        MemoryMethod::Auto | MemoryMethod::Background => return Ok(()),
    }
    let _flushing = plan.flush_along();
    plan.wait_for(monitor, &["completed"], control).await?;
    if member.runs() {
        return Ok(());
    }
    // QEMU has let go of the disks as if the machine had moved away; a paused one takes them back by this only.
    match monitor.activate_disks().await {
        Err(MonitorError::Refused { class, .. }) if class == "CommandNotFound" => Ok(()),
        other => other.map_err(failed),
    }
}

/// Waits for memory that is written while the guest runs, and keeps the file.
async fn finish_memory(member: &mut Member, control: &StepControl) -> Result<(), BackendError> {
    let Some(plan) = &member.memory else { return Ok(()) };
    if let Some(monitor) = &member.monitor {
        if plan.method == MemoryMethod::Background {
            let _flushing = plan.flush_along();
            plan.wait_for(monitor, &["completed"], control).await?;
        }
        member.memory_bytes = plan.finish().await?;
        control.report(Progress { done: 99, total: 100 });
    } else {
        member.keep_saved_memory()?;
    }
    Ok(())
}
