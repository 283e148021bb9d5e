//! Starting, stopping, pausing and saving machines.
//!
//! | directory | means |
//! | --- | --- |
//! | `saved.next` | memory is being written; nobody needs it |
//! | `saved` | the next start continues from this |
//! | `saved.used` | the machine has gone on from this, and it must never be used again |

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::copy;
use super::super::{BackendError, Cause, JournalStep, MachineState, PowerAction, Recovery, StepControl};
use super::QemuHypervisor;
use super::files::{remove_directory, rename_durably, write_durably};
use super::launch::Launch;
use super::machine::{MEMORY, Machine};
use super::member::{reclaim, release};
use super::memory::{self, MemoryPlan};
use super::monitor::{Monitor, MonitorError};
use super::process;
use super::recover::is_own;
use super::settings::Accelerator;

/// Name of the file that says how a machine is, or was, launched.
const LAUNCH: &str = "launch.json";
/// How long a process may take to end after it was told to.
const QUIT: Duration = Duration::from_secs(10);

fn failed(step: &'static str) -> impl Fn(MonitorError) -> BackendError {
    move |error| BackendError::new(step, error.into())
}

fn stored_launch(directory: &Path) -> Result<Launch, BackendError> {
    let path = directory.join(LAUNCH);
    let text =
        fs::read_to_string(&path).map_err(|error| BackendError::io("read the launch description", &path, error))?;
    Launch::from_text(&text)
}

impl Machine {
    fn saved_next(&self) -> PathBuf {
        self.directory.join("saved.next")
    }

    fn saved_used(&self) -> PathBuf {
        self.directory.join("saved.used")
    }

    /// Puts memory where the next start finds it: `memory` gets another name, and its launch goes with it. Whatever was
    /// saved before is there until [`Machine::replace_saved`].
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) fn prepare_saved(&self, memory: &Path, launch: &str) -> Result<(), BackendError> {
        const STEP: &str = "keep the memory for the next start";
        let next = self.saved_next();
        remove_directory(STEP, &next)?;
        fs::create_dir_all(&next).map_err(|error| BackendError::io(STEP, &next, error))?;
        fs::hard_link(memory, next.join(MEMORY)).map_err(|error| BackendError::io(STEP, memory, error))?;
        write_durably(STEP, &next.join(LAUNCH), launch.as_bytes())
    }

    /// What was prepared takes the place of what was saved; without anything prepared the machine is off.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) fn replace_saved(&self) -> Result<(), BackendError> {
        const STEP: &str = "keep the memory for the next start";
        let (next, saved) = (self.saved_next(), self.saved());
        remove_directory(STEP, &self.saved_used())?;
        if saved.exists() {
            rename_durably(STEP, &saved, &self.saved_used())?;
        }
        if next.exists() {
            rename_durably(STEP, &next, &saved)?;
        }
        remove_directory(STEP, &self.saved_used())
    }

    /// Forgets what was prepared.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) fn forget_prepared(&self) -> Result<(), BackendError> {
        remove_directory("forget the memory for the next start", &self.saved_next())
    }
}

impl QemuHypervisor {
    /// How the machine is launched: the living process, the saved one, or the next one. `None` for one that somebody
    /// else launches.
    pub(super) async fn current_launch(&self, machine: &Arc<Machine>) -> Result<Option<Launch>, BackendError> {
        let Some(launched) = machine.launched() else { return Ok(None) };
        if machine.is_alive() {
            return stored_launch(&machine.directory).map(Some);
        }
        if machine.saved().is_dir() {
            return stored_launch(&machine.saved()).map(Some);
        }
        Launch::today(&machine.definition, launched, self.settings(), &machine.directory).await.map(Some)
    }

    pub(super) async fn power(
        &self,
        machine: &Arc<Machine>,
        action: PowerAction,
        control: &StepControl,
    ) -> Result<MachineState, BackendError> {
        match (action, machine.state().await?) {
            (PowerAction::Start, MachineState::Running)
            | (PowerAction::TurnOff | PowerAction::ShutDown, MachineState::Off)
            | (PowerAction::Save, MachineState::Saved)
            | (PowerAction::Pause, MachineState::Paused) => {}
            (PowerAction::Start, MachineState::Off | MachineState::Saved) => self.launch(machine).await?,
            (PowerAction::TurnOff, MachineState::Saved) => {
                machine.forget_prepared()?;
                machine.replace_saved()?;
            }
            (PowerAction::Save, _) => self.save(machine, control).await?,
            (PowerAction::ShutDown, _) => shut_down(machine, control).await?,
            (PowerAction::TurnOff, _) => turn_off(machine).await?,
            (action, _) => {
                let monitor = machine.live_monitor().await?;
                direct(&monitor, action).await?;
            }
        }
        machine.state().await
    }

    async fn launch(&self, machine: &Arc<Machine>) -> Result<(), BackendError> {
        const STEP: &str = "start the machine";
        let Some(launched) = machine.launched() else {
            let text = "the machine is started by somebody else, not by this server".to_owned();
            return Err(BackendError::new(STEP, Cause::NotSupported(text)));
        };
        let today = Launch::today(&machine.definition, launched, self.settings(), &machine.directory).await?;
        let saved = machine.saved();
        let from_saved = saved.is_dir();
        let mut launch = if from_saved {
            let mut launch = stored_launch(&saved)?;
            launch.move_disks(&today);
            launch
        } else {
            remove_directory(STEP, &machine.saved_used())?;
            today
        };
        if process::was_killed(&machine.directory) {
            tidy(machine).await;
        }
        let started = self.start_process(machine, &launch, from_saved).await;
        match started {
            Err(error) if self.may_translate(&launch) && !from_saved => {
                tracing::warn!(machine = %machine.definition.id, %error, "KVM does not work, the guest is translated");
                launch.accelerator = Accelerator::Tcg;
                self.start_process(machine, &launch, from_saved).await?;
            }
            started => started?,
        }
        if !from_saved {
            return machine.live_monitor().await.map(drop);
        }
        let continued = self.go_on(machine, &launch).await;
        if continued.is_err() && saved.is_dir() {
            // The machine is as it was: saved.
            process::end(&machine.directory, Duration::ZERO).await?;
        }
        continued
    }

    async fn start_process(&self, machine: &Arc<Machine>, launch: &Launch, incoming: bool) -> Result<(), BackendError> {
        let serial = machine.launched().and_then(|launched| launched.serial.as_deref());
        write_durably("start the machine", &machine.directory.join(LAUNCH), launch.to_text()?.as_bytes())?;
        let arguments = launch.to_arguments(&machine.definition, serial, incoming);
        process::start(&self.settings().program, &arguments, &machine.directory).await
    }

    fn may_translate(&self, launch: &Launch) -> bool {
        self.settings().accelerator == Accelerator::Auto && launch.accelerator == Accelerator::Kvm
    }

    /// Reads the saved memory into a process that waits for it, and lets the guest run.
    async fn go_on(&self, machine: &Arc<Machine>, launch: &Launch) -> Result<(), BackendError> {
        const STEP: &str = "go on from the saved memory";
        let monitor = machine.live_monitor().await?;
        memory::load(&monitor, &machine.saved().join(MEMORY), launch.memory).await?;
        // From here the disks change: this memory must not meet them again.
        rename_durably(STEP, &machine.saved(), &machine.saved_used())?;
        monitor.cont().await.map_err(failed(STEP))?;
        remove_directory(STEP, &machine.saved_used())
    }

    async fn save(&self, machine: &Arc<Machine>, control: &StepControl) -> Result<(), BackendError> {
        const STEP: &str = "save the machine";
        let Some(mut launch) = self.current_launch(machine).await? else {
            let text = "a machine that somebody else starts cannot be saved, for nobody would go on from it".to_owned();
            return Err(BackendError::new(STEP, Cause::NotSupported(text)));
        };
        let needed = memory::bytes_needed(machine.definition.memory_mb);
        copy::check_space("check the space for the memory", &machine.directory, needed)?;
        let monitor = machine.live_monitor().await?;
        let ran = machine.state().await? == MachineState::Running;
        let running = if ran { vec![machine.definition.id] } else { Vec::new() };
        let cancelled = |_| BackendError::new(STEP, Cause::Cancelled);
        control.record(JournalStep::Paused { running }).await.map_err(cancelled)?;
        let saved = tokio::select! {
            biased;
            () = control.cancelled().cancelled() => Err(BackendError::new(STEP, Cause::Cancelled)),
            saved = write_saved(machine, &monitor, &mut launch, control) => saved,
        };
        if let Err(error) = saved {
            release(machine, ran).await?;
            machine.forget_prepared()?;
            return Err(error);
        }
        machine.replace_saved()?;
        end(machine, &monitor).await
    }

    /// Finishes or undoes a change of state that a stop of the server interrupted.
    pub(super) async fn recover_power(
        &self,
        machine: &Arc<Machine>,
        action: PowerAction,
        journal: &[JournalStep],
    ) -> Result<Recovery, BackendError> {
        let Some(monitor) = machine.monitor().await? else {
            machine.forget_prepared()?;
            return Ok(Recovery::RolledBack);
        };
        match action {
            PowerAction::Save if machine.saved().is_dir() => {
                end(machine, &monitor).await?;
                Ok(Recovery::Finished(Vec::new()))
            }
            PowerAction::Save => {
                let ran = journal.iter().any(|step| match step {
                    JournalStep::Paused { running } => running.contains(&machine.definition.id),
                    _ => false,
                });
                release(machine, ran).await?;
                machine.forget_prepared()?;
                Ok(Recovery::RolledBack)
            }
            PowerAction::Start if machine.saved().is_dir() => {
                end(machine, &monitor).await?;
                Ok(Recovery::RolledBack)
            }
            PowerAction::Start => {
                release(machine, true).await?;
                remove_directory("go on from the saved memory", &machine.saved_used())?;
                Ok(Recovery::Finished(Vec::new()))
            }
            _ => Ok(Recovery::RolledBack),
        }
    }
}

/// Writes the memory of a stopped machine to where the next start looks for it.
async fn write_saved(
    machine: &Arc<Machine>,
    monitor: &Monitor,
    launch: &mut Launch,
    control: &StepControl,
) -> Result<(), BackendError> {
    const STEP: &str = "save the machine";
    let next = machine.saved_next();
    remove_directory(STEP, &next)?;
    fs::create_dir_all(&next).map_err(|error| BackendError::io(STEP, &next, error))?;
    monitor.stop().await.map_err(failed(STEP))?;
    let mut plan = MemoryPlan::new(&next);
    plan.prepare_stopped(monitor, &machine.settings).await?;
    {
        let _flushing = plan.flush_along();
        plan.start(monitor).await?;
        plan.wait_for(monitor, &["completed"], control).await?;
    }
    plan.finish().await?;
    launch.memory = plan.layout;
    write_durably(STEP, &next.join(LAUNCH), launch.to_text()?.as_bytes())
}

/// Gives back what the killed process of a machine had taken of its disks. Without it the space is lost, nothing else.
async fn tidy(machine: &Arc<Machine>) {
    let own = machine.definition.disks.iter().filter(|disk| is_own(disk));
    let disks: Vec<(&str, &Path)> = own.map(|disk| (disk.name.as_str(), disk.path.as_path())).collect();
    if let Err(error) = reclaim(machine, &disks).await {
        tracing::warn!(machine = %machine.definition.id, %error, "Space on the disks stays taken");
    }
}

/// What needs no more than a command.
async fn direct(monitor: &Monitor, action: PowerAction) -> Result<(), BackendError> {
    match action {
        PowerAction::Start => monitor.cont().await.map_err(failed("resume the machine")),
        PowerAction::Pause => monitor.stop().await.map_err(failed("pause the machine")),
        PowerAction::Reset => {
            monitor.reset().await.map_err(failed("reset the machine"))?;
            monitor.cont().await.map_err(failed("resume the machine"))
        }
        _ => Ok(()),
    }
}

async fn turn_off(machine: &Arc<Machine>) -> Result<(), BackendError> {
    let monitor = machine.live_monitor().await?;
    end(machine, &monitor).await
}

/// Ends the process, and waits until it has.
async fn end(machine: &Arc<Machine>, monitor: &Monitor) -> Result<(), BackendError> {
    const STEP: &str = "turn the machine off";
    let told = monitor.quit().await;
    if machine.launched().is_some() {
        return process::end(&machine.directory, QUIT).await;
    }
    told.map_err(failed(STEP))?;
    tokio::time::timeout(QUIT, monitor.closed()).await.map_err(|_| BackendError::new(STEP, Cause::Timeout))
}

async fn shut_down(machine: &Arc<Machine>, control: &StepControl) -> Result<(), BackendError> {
    const STEP: &str = "shut the guest down";
    let monitor = machine.live_monitor().await?;
    monitor.power_down().await.map_err(failed(STEP))?;
    let limit = machine.settings.shutdown_timeout;
    let ended = async {
        monitor.closed().await;
        // The socket closes a moment before the process ends.
        machine.launched().is_none() || process::wait(&machine.directory, QUIT).await
    };
    tokio::select! {
        () = control.cancelled().cancelled() => Err(BackendError::new(STEP, Cause::Cancelled)),
        ended = tokio::time::timeout(limit, ended) => {
            if ended == Ok(true) {
                return Ok(());
            }
            let text = format!("the guest did not shut down within {} seconds", limit.as_secs());
            Err(BackendError::new(STEP, Cause::Failed(text)))
        }
    }
}
