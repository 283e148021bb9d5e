//! One machine: its connection, its disks as QEMU names them, its state.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::super::{
    BackendError, Cause, DiskDefinition, LaunchedMachine, MachineDefinition, MachineState, QemuMachine,
};
use super::agent::Agent;
use super::commands::{InsertedMedium, Status};
use super::image::ImageTool;
use super::launch::{AGENT, MONITOR};
use super::monitor::{Monitor, MonitorError};
use super::overlay::Overlays;
use super::process;
use super::settings::QemuSettings;

/// How long a monitor may take to greet.
const GREETING: Duration = Duration::from_secs(3);
/// Name of the directory with the memory of a saved machine.
const SAVED: &str = "saved";
/// Name of the file with the memory in it.
pub(super) const MEMORY: &str = "memory";

/// A machine and the way to it.
pub(super) struct Machine {
    pub(super) definition: MachineDefinition,
    pub(super) settings: Arc<QemuSettings>,
    pub(super) images: ImageTool,
    /// Where sockets, PID file and saved memory of a machine of ours lie.
    pub(super) directory: PathBuf,
    link: Mutex<Option<Monitor>>,
    /// We keep it paused for a moment: to others it runs.
    held: AtomicBool,
}

/// A disk of a machine that has a process.
#[derive(Debug, Clone)]
pub(super) struct DiskNode {
    pub(super) node: String,
    pub(super) medium: InsertedMedium,
}

impl Machine {
    pub(super) fn new(
        definition: MachineDefinition,
        settings: Arc<QemuSettings>,
        images: ImageTool,
        directory: PathBuf,
    ) -> Self {
        Self { definition, settings, images, directory, link: Mutex::default(), held: AtomicBool::new(false) }
    }

    /// How it is started, if we start it.
    pub(super) const fn launched(&self) -> Option<&LaunchedMachine> {
        match &self.definition.qemu {
            QemuMachine::Launched(launched) => Some(launched),
            QemuMachine::Attached(_) => None,
        }
    }

    /// The directory with the memory of a saved machine, with `memory` and `launch.json` in it.
    pub(super) fn saved(&self) -> PathBuf {
        self.directory.join(SAVED)
    }

    /// The layers of its raw disks.
    pub(super) fn overlays(&self) -> Overlays {
        Overlays::new(self.definition.id, &self.directory, &self.settings.image_tool)
    }

    /// True while a process of ours lives.
    pub(super) fn is_alive(&self) -> bool {
        self.launched().is_some() && process::is_alive(&self.directory)
    }

    /// The process of ours that runs it.
    pub(super) fn process_id(&self) -> Option<u32> {
        self.launched().and_then(|_| process::holder(&self.directory))
    }

    /// The monitor of a machine that has a process; `None` when it has none.
    ///
    /// # Errors
    /// [`Cause::Unreachable`] when the process is there and its monitor does not answer us.
    pub(super) async fn monitor(&self) -> Result<Option<Monitor>, BackendError> {
        let mut link = self.link.lock().await;
        if let Some(monitor) = link.as_ref().filter(|monitor| !monitor.is_closed()) {
            return Ok(Some(monitor.clone()));
        }
        *link = None;
        if self.launched().is_some() && !process::is_alive(&self.directory) {
            return Ok(None);
        }
        let connected = match &self.definition.qemu {
            QemuMachine::Attached(attached) => Monitor::connect(&attached.monitor, GREETING).await,
            QemuMachine::Launched(_) => {
                let near = Near::open(&self.directory)?;
                Monitor::connect(&near.path(MONITOR), GREETING).await
            }
        };
        match connected {
            Ok(monitor) => {
                *link = Some(monitor.clone());
                Ok(Some(monitor))
            }
            Err(MonitorError::Connect(error)) if self.launched().is_none() && nobody_listens(&error) => Ok(None),
            Err(MonitorError::Connect(_) | MonitorError::Closed)
                if self.launched().is_some() && !process::is_alive(&self.directory) =>
            {
                Ok(None)
            }
            Err(error) => Err(BackendError::new("connect to the monitor", error.into())),
        }
    }

    /// The monitor of a machine that must have a process.
    ///
    /// # Errors
    /// [`Cause::Unreachable`] also when it has none.
    pub(super) async fn live_monitor(&self) -> Result<Monitor, BackendError> {
        self.monitor().await?.ok_or_else(|| {
            BackendError::new("connect to the monitor", Cause::Unreachable("the machine has no process".to_owned()))
        })
    }

    /// A fresh connection to the guest agent.
    ///
    /// # Errors
    /// [`Cause::GuestNotQuiesced`] when there is no socket, or nobody listens on it.
    pub(super) async fn agent(&self) -> Result<Agent, BackendError> {
        const STEP: &str = "connect to the guest agent";
        let connected = match &self.definition.qemu {
            QemuMachine::Attached(attached) => {
                let Some(path) = &attached.agent else {
                    let text = "no socket of a guest agent is configured for the machine".to_owned();
                    return Err(BackendError::new(STEP, Cause::GuestNotQuiesced(text)));
                };
                Agent::connect(path).await
            }
            QemuMachine::Launched(_) => Agent::connect(&Near::open(&self.directory)?.path(AGENT)).await,
        };
        connected.map_err(|error| BackendError::new(STEP, error.into()))
    }

    /// How it is.
    ///
    /// # Errors
    /// A [`BackendError`] when its monitor does not answer.
    pub(super) async fn state(&self) -> Result<MachineState, BackendError> {
        if self.held.load(Ordering::Acquire) {
            return Ok(MachineState::Running);
        }
        let Some(monitor) = self.monitor().await? else {
            return Ok(if self.saved().is_dir() { MachineState::Saved } else { MachineState::Off });
        };
        match monitor.status().await {
            // A pause that we began meanwhile is not shown either.
            Ok(_) if self.held.load(Ordering::Acquire) => Ok(MachineState::Running),
            Ok(status) => Ok(state_of(&status)),
            Err(MonitorError::Closed) if self.launched().is_none() || !process::is_alive(&self.directory) => {
                Ok(if self.saved().is_dir() { MachineState::Saved } else { MachineState::Off })
            }
            Err(error) => Err(BackendError::new("ask for the state", error.into())),
        }
    }

    /// Shows a running machine as running while we pause it, until the guard is dropped.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        self.held.store(true, Ordering::Release);
        Held(Arc::clone(self))
    }

    /// Its disks as QEMU names them, in the order of `disks`; `None` for one that QEMU does not have.
    ///
    /// # Errors
    /// A [`BackendError`] when the monitor does not answer.
    pub(super) async fn nodes(
        &self,
        monitor: &Monitor,
        disks: &[&DiskDefinition],
    ) -> Result<Vec<Option<DiskNode>>, BackendError> {
        let media = monitor.media().await.map_err(|error| BackendError::new("ask for the disks", error.into()))?;
        let find = |disk: &DiskDefinition| {
            let path = canonical(&disk.path);
            let medium = media.iter().find(|medium| canonical(Path::new(&medium.file)) == path)?;
            Some(DiskNode { node: medium.node_name.clone()?, medium: medium.clone() })
        };
        Ok(disks.iter().map(|disk| find(disk)).collect())
    }
}

/// The end of a moment in which a machine counts as running.
pub(super) struct Held(Arc<Machine>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::Release);
    }
}

/// The state of a machine that has a process (`backends` §2.2).
pub(super) fn state_of(status: &Status) -> MachineState {
    match status.status.as_str() {
        "io-error" | "guest-panicked" | "internal-error" => MachineState::Failed,
        "shutdown" => MachineState::Off,
        // A guest that sleeps is not stopped by anybody.
        "running" | "suspended" => MachineState::Running,
        _ if status.running => MachineState::Running,
        _ => MachineState::Paused,
    }
}

/// A directory held open, so that a socket in it can be named shortly: the address of a socket has room for 107 bytes.
struct Near(File);

impl Near {
    fn open(directory: &Path) -> Result<Self, BackendError> {
        File::open(directory)
            .map(Self)
            .map_err(|error| BackendError::io("open the directory of the machine", directory, error))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}

fn nobody_listens(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

/// The path with all links followed, as far as it exists.
pub(super) fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}
