//! One machine on its way into a snapshot: what is planned, what has been done, and how it is undone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::time::Instant;

use super::super::copy;
use super::super::{
    BackendError, Cause, DiskDefinition, DiskImage, MachineState, Quiesce, SnapshotOutcome, SnapshotRequest,
};
use super::agent::Agent;
use super::bitmaps;
use super::commands::internal_snapshot;
use super::launch::Launch;
use super::machine::{Held, MEMORY, Machine};
use super::memory::{self, MemoryPlan};
use super::monitor::{Monitor, MonitorEvent};
use super::overlay::NewOverlay;
use super::raw::{choose_disks, forget_layers, has_layers, layered_image, reclaim_layers};

/// A disk that goes into the snapshot.
#[derive(Debug, Clone)]
pub(super) struct DiskPlan {
    pub(super) disk: DiskDefinition,
    /// Its name in QEMU, when there is a process.
    pub(super) node: Option<String>,
}

/// A machine on its way into a snapshot.
pub(super) struct Member {
    pub(super) machine: Arc<Machine>,
    /// Where the files of the snapshot go.
    pub(super) directory: PathBuf,
    pub(super) request: SnapshotRequest,
    pub(super) before: MachineState,
    pub(super) monitor: Option<Monitor>,
    pub(super) disks: Vec<DiskPlan>,
    /// The disks whose changes are tracked from this instant on.
    pub(super) tracked: Vec<DiskPlan>,
    /// Raw disks, which go into the snapshot by overlays.
    pub(super) raw: Vec<DiskDefinition>,
    /// The overlays that wait for the transaction.
    pub(super) overlays: Vec<NewOverlay>,
    pub(super) skipped: Vec<String>,
    pub(super) memory: Option<MemoryPlan>,
    pub(super) memory_bytes: u64,
    pub(super) agent: Option<Agent>,
    pub(super) frozen_at: Option<Instant>,
    pub(super) was_frozen: bool,
    pub(super) frozen_for: Duration,
    pub(super) paused_for: Duration,
    pub(super) held: Option<Held>,
    events: Option<Receiver<MonitorEvent>>,
}

impl Member {
    /// Looks at a machine and plans its part.
    ///
    /// # Errors
    /// A [`BackendError`] when a disk cannot be in the snapshot, or the machine is in no state for one.
    pub(super) async fn plan(
        machine: Arc<Machine>,
        request: SnapshotRequest,
        directory: &Path,
    ) -> Result<Self, BackendError> {
        const STEP: &str = "plan the snapshot";
        let before = machine.state().await?;
        if before == MachineState::Failed {
            let text = "the guest was stopped by an error".to_owned();
            return Err(BackendError::new(STEP, Cause::InUse(text)));
        }
        let monitor = machine.monitor().await?;
        let (chosen, skipped) = choose_disks(&machine, request.ignore_non_snapshottable)?;
        let (raw, chosen): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|disk| has_layers(disk));
        let raw: Vec<DiskDefinition> = raw.into_iter().filter(|_| !request.without_data).cloned().collect();
        for disk in &raw {
            machine.overlays().active(disk)?;
        }
        let tag = request.snapshot.to_string();
        let mut disks = Vec::new();
        let nodes = match &monitor {
            Some(monitor) => machine.nodes(monitor, &chosen).await?,
            None => chosen.iter().map(|_| None).collect(),
        };
        for (disk, node) in chosen.into_iter().zip(nodes) {
            let named = |error: BackendError| error.on_disk(&disk.name);
            let tags = match (&node, &monitor) {
                (Some(node), _) => node.medium.image.snapshots.clone(),
                (None, Some(_)) => {
                    let text = format!("QEMU has no disk {}", disk.path.display());
                    return Err(named(BackendError::new(STEP, Cause::Failed(text))));
                }
                (None, None) => machine.images.info(&disk.path).await.map_err(named)?.snapshots,
            };
            if tags.iter().any(|known| known.name == tag) {
                let text = format!("there is already a snapshot {tag} in it");
                return Err(named(BackendError::new(STEP, Cause::Failed(text))));
            }
            disks.push(DiskPlan { disk: disk.clone(), node: node.map(|node| node.node) });
        }
        let tracked = bitmaps::choose(&machine, &request, &mut disks).await?;
        let keeps = request.memory && before != MachineState::Off;
        let memory = keeps.then(|| MemoryPlan::new(directory));
        Ok(Self {
            machine,
            directory: directory.to_path_buf(),
            request,
            before,
            events: monitor.as_ref().map(Monitor::events),
            monitor,
            disks,
            tracked,
            raw,
            overlays: Vec::new(),
            skipped,
            memory,
            memory_bytes: 0,
            agent: None,
            frozen_at: None,
            was_frozen: false,
            frozen_for: Duration::ZERO,
            paused_for: Duration::ZERO,
            held: None,
        })
    }

    pub(super) fn runs(&self) -> bool {
        self.before == MachineState::Running
    }

    /// Whether the guest is to be asked to freeze: a paused one stands still already and could not answer.
    pub(super) fn is_to_freeze(&self) -> bool {
        self.runs() && self.request.quiesce != Quiesce::Never
    }

    pub(super) fn tag(&self) -> String {
        self.request.snapshot.to_string()
    }

    /// A number for the agent to repeat, different for each snapshot.
    fn sync_id(&self) -> u32 {
        let (high, ..) = self.request.snapshot.as_uuid().as_fields();
        high >> 1
    }

    /// Freezes the guest of a member that wants it.
    ///
    /// # Errors
    /// As [`freeze`](Self::freeze).
    pub(super) async fn freeze_if_wanted(&mut self) -> Result<(), BackendError> {
        if self.is_to_freeze() { self.freeze().await } else { Ok(()) }
    }

    /// Freezes the guest.
    ///
    /// # Errors
    /// [`Cause::GuestNotQuiesced`]; the guest is thawed then.
    async fn freeze(&mut self) -> Result<(), BackendError> {
        const STEP: &str = "freeze the guest";
        let limit = self.machine.settings.agent_timeout;
        let mut agent = self.connect_agent().await?;
        let failed = |error: super::agent::AgentError| BackendError::new(STEP, error.into());
        agent.sync(self.sync_id(), limit).await.map_err(failed)?;
        self.frozen_at = Some(Instant::now());
        match agent.freeze(limit).await {
            Ok(_) => {
                self.was_frozen = true;
                self.agent = Some(agent);
                Ok(())
            }
            Err(error) => {
                let recovered = agent.recover(self.sync_id().wrapping_add(1), limit).await;
                if recovered.is_ok() {
                    self.frozen_at = None;
                }
                Err(failed(error))
            }
        }
    }

    async fn connect_agent(&self) -> Result<Agent, BackendError> {
        if self.machine.launched().is_some()
            && let Some(monitor) = &self.monitor
            && !monitor.agent_is_open().await.unwrap_or(true)
        {
            let text = "guest agent not connected".to_owned();
            return Err(BackendError::new("freeze the guest", Cause::GuestNotQuiesced(text)));
        }
        self.machine.agent().await
    }

    /// Thaws a guest that was frozen, or may be.
    ///
    /// # Errors
    /// A [`BackendError`] when the guest does not say that it is thawed.
    pub(super) async fn thaw(&mut self) -> Result<(), BackendError> {
        let Some(begun) = self.frozen_at else { return Ok(()) };
        let limit = self.machine.settings.agent_timeout;
        let thawed = match &mut self.agent {
            Some(agent) => agent.thaw(limit).await.is_ok(),
            None => false,
        };
        if !thawed {
            self.agent = None;
            thaw(&self.machine, self.sync_id().wrapping_add(100)).await?;
        }
        self.frozen_for = begun.elapsed();
        self.frozen_at = None;
        self.agent = None;
        Ok(())
    }

    /// Stops the guest, if it runs.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) async fn pause(&mut self) -> Result<(), BackendError> {
        match &self.monitor {
            Some(monitor) if self.runs() => {
                monitor.stop().await.map_err(|error| BackendError::new("pause the machine", error.into()))
            }
            _ => Ok(()),
        }
    }

    /// Makes the snapshot inside all disks at once.
    ///
    /// # Errors
    /// A [`BackendError`]; a machine without a process may have it in some disks.
    pub(super) async fn take_disks(&self) -> Result<(), BackendError> {
        let tag = self.tag();
        let Some(monitor) = &self.monitor else {
            bitmaps::begin_stopped(&self.machine, &self.tracked, self.request.snapshot).await?;
            for plan in &self.disks {
                let made = self.machine.images.create(&plan.disk.path, &tag).await;
                made.map_err(|error| error.on_disk(&plan.disk.name))?;
            }
            return self.take_raw_stopped().await;
        };
        let actions: Vec<_> = self
            .disks
            .iter()
            .filter_map(|plan| plan.node.as_deref())
            .map(|node| internal_snapshot(node, &tag))
            .chain(bitmaps::actions(&self.tracked, self.request.snapshot))
            .chain(self.overlays.iter().map(NewOverlay::action))
            .collect();
        if actions.is_empty() {
            return Ok(());
        }
        monitor.transaction(actions).await.map_err(|error| {
            let text = error.to_string();
            // QEMU names the disk by the name it has for it.
            let blamed = self
                .disks
                .iter()
                .chain(&self.tracked)
                .find(|plan| plan.node.as_deref().is_some_and(|node| text.contains(&format!("'{node}'"))));
            let error = BackendError::new("make the snapshot inside the disks", error.into());
            match blamed {
                Some(plan) => error.on_disk(&plan.disk.name),
                None => error,
            }
        })
    }

    /// Lets a guest run again that ran before.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) async fn resume(&mut self) -> Result<(), BackendError> {
        if let Some(monitor) = &self.monitor
            && self.runs()
        {
            monitor.cont().await.map_err(|error| BackendError::new("resume the machine", error.into()))?;
        }
        Ok(())
    }

    /// Reads from the events how long the guest stood still, by QEMU's clock; the time measured here is the fallback.
    pub(super) fn measure_pause(&mut self, measured: Duration) {
        let Some(events) = &mut self.events else { return };
        let (mut stopped, mut resumed) = (None, None);
        loop {
            match events.try_recv() {
                Ok(event) if event.name == "STOP" => stopped = Some(instant(&event)),
                Ok(event) if event.name == "RESUME" => resumed = Some(instant(&event)),
                Ok(_) | Err(tokio::sync::broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => break,
            }
        }
        self.paused_for = match (stopped, resumed) {
            (Some(from), Some(to)) if to >= from => Duration::from_micros(to - from),
            _ => measured,
        };
    }

    /// What it turned out to be.
    ///
    /// # Errors
    /// A [`BackendError`] when the launch cannot be described.
    pub(super) fn outcome(&self, launch: Option<&Launch>) -> Result<SnapshotOutcome, BackendError> {
        let image = |plan: &DiskPlan| DiskImage {
            disk: plan.disk.name.clone(),
            source: plan.disk.path.clone(),
            file: plan.disk.path.clone(),
            format: plan.disk.format,
            internal: true,
            bytes: 0,
        };
        let own = |disk: &DiskDefinition| {
            let inside = self.disks.iter().find(|plan| plan.disk.name == disk.name).map(image);
            inside.or_else(|| self.raw.iter().find(|raw| raw.name == disk.name).map(layered_image))
        };
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Ok(SnapshotOutcome {
            machine: self.request.machine,
            snapshot: self.request.snapshot,
            disks: self.machine.definition.disks.iter().filter_map(own).collect(),
            skipped: self.skipped.clone(),
            memory: self.memory.as_ref().map(|plan| plan.file.clone()),
            application_consistent: self.memory.is_some() || self.was_frozen || self.before == MachineState::Off,
            launch: launch.map(Launch::to_text).transpose()?,
            paused_ms: millis(self.paused_for),
            frozen_ms: millis(self.frozen_for),
            tracking: bitmaps::tracked_disks(&self.tracked, self.request.snapshot),
        })
    }

    /// Gives the snapshot the memory of a saved machine: another name of the same file, which is never changed.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) fn keep_saved_memory(&self) -> Result<(), BackendError> {
        const STEP: &str = "keep the memory";
        let Some(plan) = &self.memory else { return Ok(()) };
        fs::create_dir_all(&self.directory).map_err(|error| BackendError::io(STEP, &self.directory, error))?;
        let saved = self.machine.saved().join(MEMORY);
        fs::hard_link(&saved, &plan.file).map_err(|error| BackendError::io(STEP, &saved, error))?;
        copy::sync_directory(STEP, &self.directory)
    }

    /// Takes back what was done, in the order that lets the guest go on soonest.
    ///
    /// # Errors
    /// A [`BackendError`] for the first thing that could not be taken back; everything else was tried.
    pub(super) async fn undo(&mut self) -> Result<(), BackendError> {
        let mut result = Ok(());
        let mut keep = |outcome: Result<(), BackendError>| {
            if result.is_ok() {
                result = outcome;
            }
        };
        keep(release(&self.machine, self.runs()).await);
        keep(self.thaw().await);
        let tag = self.tag();
        let disks: Vec<(&str, &Path)> =
            self.disks.iter().map(|plan| (plan.disk.name.as_str(), plan.disk.path.as_path())).collect();
        keep(remove_tags(&self.machine, &disks, &tag).await);
        if self.request.change_tracking {
            keep(bitmaps::end(&self.machine, &bitmaps::candidates(&self.machine), self.request.snapshot).await);
        }
        keep(forget_layers(&self.machine, self.request.snapshot).await);
        if self.monitor.is_some() {
            keep(reclaim(&self.machine, &disks).await);
        }
        result
    }

    /// The files of the memory, in both spellings.
    pub(super) fn memory_files(&self) -> Vec<PathBuf> {
        self.memory.iter().flat_map(|plan| [plan.file.clone(), plan.partial.clone()]).collect()
    }
}

/// Microseconds since 1970.
fn instant(event: &MonitorEvent) -> u64 {
    u64::try_from(event.seconds.saturating_mul(1_000_000).saturating_add(event.microseconds)).unwrap_or(0)
}

/// Ends what keeps a machine from running and, if it ran before, lets it run.
///
/// # Errors
/// A [`BackendError`] when it still stands still.
pub(super) async fn release(machine: &Arc<Machine>, ran: bool) -> Result<(), BackendError> {
    const STEP: &str = "resume the machine";
    let Some(monitor) = machine.monitor().await? else { return Ok(()) };
    memory::cancel(&monitor).await?;
    if !ran {
        return Ok(());
    }
    for _ in 0..100 {
        let status = monitor.status().await.map_err(|error| BackendError::new(STEP, error.into()))?;
        if super::machine::state_of(&status) != MachineState::Paused {
            return Ok(());
        }
        // Right after a cancelled transfer QEMU may still be on its way back.
        if let Err(error) = monitor.cont().await {
            tracing::debug!(machine = %machine.definition.id, %error, "Machine not resumed yet");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(BackendError::new(STEP, Cause::Failed("the machine stays paused".to_owned())))
}

/// Thaws a guest that may be frozen, by a connection of its own.
///
/// # Errors
/// A [`BackendError`] when the guest does not say that it is thawed. A machine without a process has no frozen guest.
pub(super) async fn thaw(machine: &Arc<Machine>, id: u32) -> Result<(), BackendError> {
    const STEP: &str = "thaw the guest";
    if machine.monitor().await?.is_none() {
        return Ok(());
    }
    let mut agent = machine.agent().await?;
    match agent.recover(id, machine.settings.agent_timeout).await {
        Ok(_) => Ok(()),
        Err(error) => Err(BackendError::new(STEP, error.into())),
    }
}

/// Tidies the disks of a machine whose process was killed; those of a living one are its own business.
///
/// # Errors
/// A [`BackendError`].
pub(super) async fn reclaim(machine: &Arc<Machine>, disks: &[(&str, &Path)]) -> Result<(), BackendError> {
    if machine.monitor().await?.is_some() {
        return Ok(());
    }
    for (name, path) in disks {
        machine.images.reclaim(path).await.map_err(|error| error.on_disk(*name))?;
    }
    reclaim_layers(machine).await
}

/// Removes a tag from disks, through the process if there is one. What is gone already is no error.
///
/// # Errors
/// A [`BackendError`] when one of them still has it.
pub(super) async fn remove_tags(
    machine: &Arc<Machine>,
    disks: &[(&str, &Path)],
    tag: &str,
) -> Result<(), BackendError> {
    let monitor = machine.monitor().await?;
    match remove_through(machine, monitor.as_ref(), disks, tag).await {
        // The process has died meanwhile: what is left is done without it.
        Err(_) if monitor.is_some_and(|monitor| monitor.is_closed()) => {
            let monitor = machine.monitor().await?;
            remove_through(machine, monitor.as_ref(), disks, tag).await
        }
        ended => ended,
    }
}

async fn remove_through(
    machine: &Arc<Machine>,
    monitor: Option<&Monitor>,
    disks: &[(&str, &Path)],
    tag: &str,
) -> Result<(), BackendError> {
    const STEP: &str = "remove the snapshot inside the disk";
    let Some(monitor) = monitor else {
        for (name, path) in disks {
            machine.images.remove(path, tag).await.map_err(|error| error.on_disk(*name))?;
        }
        return Ok(());
    };
    let media = monitor.media().await.map_err(|error| BackendError::new(STEP, error.into()))?;
    for (name, path) in disks {
        let wanted = super::machine::canonical(path);
        let medium = media.iter().find(|medium| super::machine::canonical(Path::new(&medium.file)) == wanted);
        match medium.and_then(|medium| medium.node_name.as_deref()) {
            Some(node) => {
                let removed = monitor.remove_tag(node, tag).await;
                removed.map_err(|error| BackendError::new(STEP, error.into()).on_disk(*name))?;
            }
            // A disk that the machine no longer has.
            None => machine.images.remove(path, tag).await.map_err(|error| error.on_disk(*name))?,
        }
    }
    Ok(())
}
