//! The runtime, the log and the signals.

use std::io;
use std::num::NonZero;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::compose::Running;
use super::error::AppError;
use super::file_watch::FileWatch;

/// How often it is looked whether the files of HTTPS are others.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A runtime with a worker for each processor.
///
/// # Errors
/// When the system refuses threads.
pub fn runtime() -> Result<Runtime, AppError> {
    let workers = std::thread::available_parallelism().map_or(2, NonZero::get);
    Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("worker")
        .enable_all()
        .build()
        .map_err(AppError::System)
}

/// Keeps hashes, keys and passwords out of core dumps, and other users' programs out of this memory. Programs that are
/// started from here are not concerned.
///
/// # Errors
/// When the system refuses.
pub fn keep_memory_private() -> Result<(), AppError> {
    let nowhere = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(nowhere).map_err(|error| AppError::System(error.into()))
}

/// Starts logging to standard error. A filter that cannot be read is taken as `info`; the
/// configuration has checked its own.
pub fn init_logging(filter: &str) {
    let filter: Targets = filter.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let ansi = io::IsTerminal::is_terminal(&io::stderr());
    // A second call, as tests make it, changes nothing.
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(ansi);
    tracing_subscriber::registry().with(filter).with(lines).try_init().ok();
}

/// What the process is told by signals. From when it listens they do not end it any more, so it has to listen before
/// anybody is told that it is ready.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    stopped: bool,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn listen() -> Result<Self, AppError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(AppError::System)?,
            interrupt: signal(SignalKind::interrupt()).map_err(AppError::System)?,
            hangup: signal(SignalKind::hangup()).map_err(AppError::System)?,
            stopped: false,
        })
    }

    /// Returns once the process was told to stop (SIGTERM, SIGINT), and at once from then on.
    pub async fn told_to_stop(&mut self) {
        if !self.stopped {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            self.stopped = true;
        }
    }

    /// Returns when the process was told to stop (true), or to look at its files again (false).
    async fn next(&mut self) -> bool {
        if self.stopped {
            return true;
        }
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
            _ = self.hangup.recv() => false,
        }
    }
}

impl Running {
    /// Serves until the process is told to stop (SIGTERM, SIGINT), then stops in good order. SIGHUP
    /// reads the certificate again. Under systemd it says when it is ready.
    ///
    /// # Errors
    /// When another server has taken over the data directory.
    pub async fn run_until_signal(self, signals: Signals) -> Result<(), AppError> {
        let result = self.wait_for_signal(signals).await;
        self.stop().await;
        result
    }

    /// Reads what HTTPS is served with. What cannot be used leaves everything as it is.
    fn renew(&self) {
        match self.reload() {
            Ok(()) => info!(thumbprint = %self.thumbprint(), "Certificate read again"),
            Err(problem) => {
                let error = chain(&problem);
                error!(error, "The new certificate cannot be used; the old one stays in use");
            }
        }
    }

    /// What SIGHUP asks for. What cannot be renewed stays as it is.
    fn hang_up(&self) {
        self.renew();
        if let Err(problem) = self.reopen_audit() {
            error!(error = %problem, "The audit trail cannot be opened again; the old file stays in use");
        }
    }

    /// Serves until the process is told to stop, and still serves then.
    ///
    /// # Errors
    /// Those of [`run_until_signal`](Self::run_until_signal).
    pub(super) async fn wait_for_signal(&self, mut signals: Signals) -> Result<(), AppError> {
        let mut files = FileWatch::new(self.tls_files());
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        notify_systemd(sd_notify::NotifyState::Ready);
        let result = loop {
            tokio::select! {
                stop = signals.next() => {
                    if stop {
                        break Ok(());
                    }
                    self.hang_up();
                }
                () = self.lease_lost() => break Err(AppError::LeaseLost),
                _ = looks.tick(), if !files.is_empty() => {
                    if files.has_changed() {
                        self.renew();
                    }
                }
            }
        };
        if let Err(problem) = &result {
            error!(error = %problem, "The server cannot go on");
        }
        info!("Stopping");
        notify_systemd(sd_notify::NotifyState::Stopping);
        result
    }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Tells systemd, if it started us.
fn notify_systemd(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "systemd cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_program_is_dumped_nowhere() {
        keep_memory_private().unwrap();
        let now = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(now, rustix::process::DumpableBehavior::NotDumpable);
    }
}
