//! Writing the memory of a machine to a file of its own (`backends` §2.3), and reading it back.
//!
//! | method | shows the instant of | the guest stands still |
//! | --- | --- | --- |
//! | background | the start | until the disks are done |
//! | pre-copy | the end | for the last pass and the disks |
//! | stop | the stop | for all of it |

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::copy;
use super::super::{BackendError, Cause, Progress, StepControl};
use super::commands::MigrationInfo;
use super::files::rename_durably;
use super::launch::MemoryLayout;
use super::monitor::{Monitor, MonitorError};
use super::settings::{MemoryMethod, QemuSettings};

/// Between two looks at the progress.
const LOOK: Duration = Duration::from_millis(20);
/// Between two looks while the guest stands still.
const CLOSE_LOOK: Duration = Duration::from_millis(1);
/// Between two times what QEMU wrote is forced out.
const FLUSH: Duration = Duration::from_millis(50);
/// Bytes a second: as fast as it goes, for a file needs no share of a network.
const BANDWIDTH: u64 = 8 << 30;
/// Passes over the memory of a guest that writes faster than they end.
const MOST_PASSES: u64 = 30;
/// How long a cancelled transfer may take to end.
const CANCEL: Duration = Duration::from_secs(10);
/// Bytes of devices and of the layout besides the memory itself.
const DEVICES: u64 = 64 << 20;

/// How the memory of one machine is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemoryPlan {
    /// Never [`MemoryMethod::Auto`].
    pub(super) method: MemoryMethod,
    pub(super) layout: MemoryLayout,
    pub(super) file: PathBuf,
    pub(super) partial: PathBuf,
}

impl MemoryPlan {
    /// A plan for a file in `directory`.
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            method: MemoryMethod::Auto,
            layout: MemoryLayout::Stream,
            file: directory.join("memory"),
            partial: directory.join("memory.partial"),
        }
    }

    /// Chooses the method and sets QEMU up for it.
    ///
    /// # Errors
    /// A [`BackendError`] when the wanted method cannot be had.
    pub(super) async fn prepare(
        &mut self,
        monitor: &Monitor,
        settings: &QemuSettings,
        runs: bool,
    ) -> Result<(), BackendError> {
        let failed = |error: MonitorError| BackendError::new("prepare to write the memory", error.into());
        let known = monitor.migration_capabilities().await.map_err(failed)?;
        // One that stands still already needs no passes, but the background way leaves its disks in place.
        let wanted = match settings.memory {
            MemoryMethod::Precopy if !runs => MemoryMethod::Stop,
            wanted => wanted,
        };
        let has = |name: &str| known.iter().any(|capability| capability == name);
        let mapped = has("mapped-ram");
        if matches!(wanted, MemoryMethod::Auto | MemoryMethod::Background) {
            match set(monitor, &known, true, false, false).await {
                Ok(()) if has("background-snapshot") => {
                    (self.method, self.layout) = (MemoryMethod::Background, MemoryLayout::Stream);
                }
                Err(error) if wanted == MemoryMethod::Background => return Err(failed(error)),
                _ => self.method = if runs { MemoryMethod::Precopy } else { MemoryMethod::Stop },
            }
        } else {
            self.method = wanted;
        }
        if self.method != MemoryMethod::Background {
            let pauses = self.method == MemoryMethod::Precopy;
            set(monitor, &known, false, mapped, pauses).await.map_err(failed)?;
            self.layout = if mapped { MemoryLayout::Mapped } else { MemoryLayout::Stream };
        }
        let downtime = u64::try_from(settings.pause_limit.as_millis()).unwrap_or(u64::MAX);
        monitor.set_migration_parameters(BANDWIDTH, downtime).await.map_err(failed)
    }

    /// Sets QEMU up to write the memory of a machine that stands still.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) async fn prepare_stopped(
        &mut self,
        monitor: &Monitor,
        settings: &QemuSettings,
    ) -> Result<(), BackendError> {
        let settings = QemuSettings { memory: MemoryMethod::Stop, ..settings.clone() };
        self.prepare(monitor, &settings, false).await
    }

    /// Begins to write.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) async fn start(&self, monitor: &Monitor) -> Result<(), BackendError> {
        let uri = format!("file:{}", self.partial.display());
        monitor.migrate(uri).await.map_err(|error| BackendError::new("write the memory", error.into()))
    }

    /// Waits until the transfer has one of `statuses`, and reports how far it is.
    ///
    /// # Errors
    /// A [`BackendError`] with QEMU's words when the transfer fails.
    pub(super) async fn wait_for(
        &self,
        monitor: &Monitor,
        statuses: &[&str],
        control: &StepControl,
    ) -> Result<(), BackendError> {
        const STEP: &str = "write the memory";
        let look = if statuses.contains(&"active") { CLOSE_LOOK } else { LOOK };
        let mut stopped = false;
        let mut furthest = 0;
        loop {
            let info = monitor.migration().await.map_err(|error| BackendError::new(STEP, error.into()))?;
            if statuses.contains(&info.status.as_str()) {
                return Ok(());
            }
            if matches!(info.status.as_str(), "failed" | "cancelled" | "completed") {
                return Err(BackendError::new(STEP, self.why(&info)));
            }
            if let Some(ram) = info.ram {
                furthest = furthest.max(ram.total.saturating_sub(ram.remaining));
                control.report(Progress { done: furthest.min(ram.total), total: ram.total });
                if ram.dirty_sync_count > MOST_PASSES && !stopped && self.method == MemoryMethod::Precopy {
                    // It will never end by itself: the guest writes faster than the disk.
                    monitor.stop().await.map_err(|error| BackendError::new(STEP, error.into()))?;
                    stopped = true;
                }
            }
            tokio::time::sleep(look).await;
        }
    }

    fn why(&self, info: &MigrationInfo) -> Cause {
        let text = info.error_desc.clone().unwrap_or_else(|| format!("the transfer was {}", info.status));
        let directory = self.partial.parent().unwrap_or(Path::new("/"));
        let needed = info.ram.map_or(0, |ram| ram.remaining);
        match copy::check_space("write the memory", directory, needed) {
            Err(BackendError { cause: cause @ Cause::NoSpace { .. }, .. }) => cause,
            _ => Cause::Failed(text),
        }
    }

    /// Makes the written file durable under its final name, and returns its length on disk.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) async fn finish(&self) -> Result<u64, BackendError> {
        const STEP: &str = "keep the memory";
        let (partial, file) = (self.partial.clone(), self.file.clone());
        copy::on_thread(STEP, &CancellationToken::new(), move |_| {
            let failed = |error| BackendError::io(STEP, &partial, error);
            let written = File::open(&partial).map_err(failed)?;
            written.sync_all().map_err(failed)?;
            let bytes = copy::allocated(&written.metadata().map_err(failed)?);
            rename_durably(STEP, &partial, &file)?;
            Ok(bytes)
        })
        .await
    }

    /// Forces out what QEMU writes until the token is cancelled, so that nobody's sync waits long behind it.
    pub(super) fn flush_along(&self) -> tokio_util::sync::DropGuard {
        let token = CancellationToken::new();
        let (ended, path) = (token.clone(), self.partial.clone());
        tokio::spawn(async move {
            let flush = async {
                loop {
                    let path = path.clone();
                    // The file may not be there yet; an error of the disk reaches QEMU and `finish` as well.
                    let _ = tokio::task::spawn_blocking(move || File::open(path)?.sync_data()).await;
                    tokio::time::sleep(FLUSH).await;
                }
            };
            tokio::select! {
                () = ended.cancelled() => {}
                () = flush => {}
            }
        });
        token.drop_guard()
    }
}

/// Sets the capabilities of migration that this QEMU knows.
async fn set(
    monitor: &Monitor,
    known: &[String],
    background: bool,
    mapped: bool,
    pauses: bool,
) -> Result<(), MonitorError> {
    let off = [("background-snapshot", false), ("mapped-ram", false), ("pause-before-switchover", false)];
    let on = [
        ("events", true),
        ("background-snapshot", background),
        ("mapped-ram", mapped),
        ("pause-before-switchover", pauses),
    ];
    // Some exclude each other, so all are off before one is on.
    for states in [off.as_slice(), on.as_slice()] {
        let states: Vec<_> =
            states.iter().copied().filter(|(name, _)| known.iter().any(|known| known == name)).collect();
        monitor.set_migration_capabilities(&states).await?;
    }
    Ok(())
}

/// Ends a transfer that is still going on.
///
/// # Errors
/// A [`BackendError`] when it cannot be ended.
pub(super) async fn cancel(monitor: &Monitor) -> Result<(), BackendError> {
    const STEP: &str = "stop writing the memory";
    let failed = |error: MonitorError| BackendError::new(STEP, error.into());
    let ended = async {
        loop {
            let info = monitor.migration().await?;
            match info.status.as_str() {
                "" | "none" | "completed" | "failed" | "cancelled" => return Ok(()),
                "cancelling" => {}
                _ => monitor.migrate_cancel().await?,
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(CANCEL, ended).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(BackendError::new(STEP, Cause::Timeout)),
    }
}

/// Reads memory into a machine that was started for it.
///
/// # Errors
/// A [`BackendError`] with QEMU's words.
pub(super) async fn load(monitor: &Monitor, file: &Path, layout: MemoryLayout) -> Result<(), BackendError> {
    const STEP: &str = "read the memory";
    let failed = |error: MonitorError| BackendError::new(STEP, error.into());
    let known = monitor.migration_capabilities().await.map_err(failed)?;
    set(monitor, &known, false, layout == MemoryLayout::Mapped, false).await.map_err(failed)?;
    monitor.migrate_incoming(format!("file:{}", file.display())).await.map_err(failed)?;
    loop {
        let info = monitor.migration().await.map_err(failed)?;
        match info.status.as_str() {
            "completed" => return Ok(()),
            "failed" | "cancelled" => {
                let text = info.error_desc.unwrap_or_else(|| "QEMU could not read it".to_owned());
                return Err(BackendError::new(STEP, Cause::Failed(text)));
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Bytes the memory of a machine may take, that of its devices included.
pub(super) const fn bytes_needed(memory_mb: u64) -> u64 {
    memory_mb.saturating_mul(1 << 20).saturating_add(DEVICES)
}
