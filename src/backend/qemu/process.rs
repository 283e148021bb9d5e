//! The processes of machines that we start.
//!
//! QEMU makes itself independent of us (`-daemonize`), so a machine outlives a restart of the server. It keeps a lock
//! on its PID file for as long as it lives, and that lock is what tells a living process from a number in a file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Flock, FlockType, Pid, Signal};
use tokio::process::Command;

use super::super::{BackendError, Cause};

/// Name of the PID file in the directory of a machine.
pub(super) const PID_FILE: &str = "qemu.pid";
/// How long QEMU may take until it has opened everything.
const START: Duration = Duration::from_secs(60);
/// Between two looks whether a process has ended.
const LOOK: Duration = Duration::from_millis(10);

/// True while the process of the machine in `directory` lives.
pub(super) fn is_alive(directory: &Path) -> bool {
    let Ok(file) = File::open(directory.join(PID_FILE)) else { return false };
    rustix::process::fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).is_ok_and(|holder| holder.is_some())
}

/// The process of the machine in `directory`, while it lives.
pub(super) fn holder(directory: &Path) -> Option<u32> {
    let number = fs::read_to_string(directory.join(PID_FILE)).ok()?.trim().parse().ok()?;
    is_alive(directory).then_some(number)
}

/// True when the last process of the machine in `directory` was killed: one that ends by itself takes its PID file along.
pub(super) fn was_killed(directory: &Path) -> bool {
    directory.join(PID_FILE).exists() && !is_alive(directory)
}

/// Runs `program` until it has become a machine of its own.
///
/// # Errors
/// A [`BackendError`] with the words of QEMU when it cannot start; no process is left then.
pub(super) async fn start(program: &Path, arguments: &[OsString], directory: &Path) -> Result<(), BackendError> {
    const STEP: &str = "start the machine";
    let child = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| BackendError::io(STEP, program, error))?;
    match tokio::time::timeout(START, child.wait_with_output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let text = text.trim();
            let text = if text.is_empty() { "QEMU ended without a word" } else { text };
            Err(BackendError::new(STEP, Cause::Failed(text.to_owned())))
        }
        Ok(Err(error)) => Err(BackendError::new(STEP, Cause::Io(error))),
        Err(_) => {
            end(directory, Duration::ZERO).await?;
            Err(BackendError::new(STEP, Cause::Timeout))
        }
    }
}

/// Waits until the process has ended, and after `patience` ends it.
///
/// # Errors
/// A [`BackendError`] when it cannot be ended.
pub(super) async fn end(directory: &Path, patience: Duration) -> Result<(), BackendError> {
    const STEP: &str = "end the process of the machine";
    if wait(directory, patience).await {
        return Ok(());
    }
    let path = directory.join(PID_FILE);
    let number = fs::read_to_string(&path).map_err(|error| BackendError::io(STEP, &path, error))?;
    if let Some(pid) = number.trim().parse().ok().and_then(Pid::from_raw)
        && is_alive(directory)
    {
        match rustix::process::kill_process(pid, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(BackendError::io(STEP, &path, error.into())),
        }
    }
    if wait(directory, Duration::from_secs(10)).await {
        Ok(())
    } else {
        Err(BackendError::new(STEP, Cause::InUse("the process does not end".to_owned())))
    }
}

/// Waits until the process has ended; false when it lives on after `limit`.
pub(super) async fn wait(directory: &Path, limit: Duration) -> bool {
    let ended = async {
        while is_alive(directory) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(limit, ended).await.is_ok() || !is_alive(directory)
}
