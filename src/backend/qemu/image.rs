//! Disks of machines that are off, through `qemu-img`.
//!
//! QEMU locks an image it has open, so that a step on a disk in use is refused by the tool itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::super::{BackendError, Cause};

/// How long one call may take: all of them change metadata only.
const LIMIT: Duration = Duration::from_secs(60);

/// A snapshot inside a disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Tag {
    pub(super) name: String,
    #[serde(default)]
    pub(super) vm_state_size: u64,
    #[serde(default)]
    pub(super) date_sec: i64,
}

/// What a disk is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ImageInfo {
    #[serde(default)]
    pub(super) snapshots: Vec<Tag>,
}

/// `qemu-img`.
#[derive(Debug, Clone)]
pub(super) struct ImageTool {
    program: PathBuf,
}

impl ImageTool {
    pub(super) const fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// Runs the tool and returns what it printed.
    ///
    /// # Errors
    /// A [`BackendError`] with the words of the tool.
    pub(super) async fn run<A: AsRef<OsStr>>(
        &self,
        step: &'static str,
        image: &Path,
        arguments: &[A],
    ) -> Result<Vec<u8>, BackendError> {
        let child = Command::new(&self.program)
            .args(arguments)
            .arg(image)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| BackendError::io(step, &self.program, error))?;
        let output = tokio::time::timeout(LIMIT, child.wait_with_output())
            .await
            .map_err(|_| BackendError::new(step, Cause::Timeout))?
            .map_err(|error| BackendError::new(step, Cause::Io(error)))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        Err(BackendError::new(step, sort(text, image)))
    }

    /// What lies in an image, whether it is in use or not.
    ///
    /// # Errors
    /// A [`BackendError`] when it cannot be read.
    pub(super) async fn info(&self, image: &Path) -> Result<ImageInfo, BackendError> {
        const STEP: &str = "read the disk";
        let text = self.run(STEP, image, &["info", "-U", "--output=json"]).await?;
        serde_json::from_slice(&text)
            .map_err(|error| BackendError::new(STEP, Cause::Failed(format!("{}: {error}", image.display()))))
    }

    /// Makes a snapshot inside an image.
    ///
    /// # Errors
    /// A [`BackendError`]; the image is as before.
    pub(super) async fn create(&self, image: &Path, tag: &str) -> Result<(), BackendError> {
        self.run("make the snapshot inside the disk", image, &["snapshot", "-c", tag]).await.map(drop)
    }

    /// Makes a snapshot the content of its image.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) async fn apply(&self, image: &Path, tag: &str) -> Result<(), BackendError> {
        self.run("apply the snapshot inside the disk", image, &["snapshot", "-a", tag]).await.map(drop)
    }

    /// Gives back clusters that a process which was killed had taken and not yet used.
    ///
    /// # Errors
    /// A [`BackendError`]; nothing but such clusters was touched.
    pub(super) async fn reclaim(&self, image: &Path) -> Result<(), BackendError> {
        self.run("give back what a killed process took", image, &["check", "-q", "-r", "leaks"]).await.map(drop)
    }

    /// Removes a snapshot from an image; one that is not there is no error, and neither is a disk that is gone.
    ///
    /// # Errors
    /// A [`BackendError`] when it is still there.
    pub(super) async fn remove(&self, image: &Path, tag: &str) -> Result<(), BackendError> {
        const STEP: &str = "remove the snapshot inside the disk";
        if !image.exists() {
            return Ok(());
        }
        while self.info(image).await?.snapshots.iter().any(|known| known.name == tag) {
            self.run(STEP, image, &["snapshot", "-d", tag]).await?;
        }
        Ok(())
    }
}

/// The cause behind a sentence of the tool.
fn sort(text: String, image: &Path) -> Cause {
    if text.contains("Failed to get") && text.contains("lock") {
        return Cause::InUse(format!("{} is used by another process", image.display()));
    }
    if text.contains("No such file or directory") {
        return Cause::FileNotFound(image.to_path_buf());
    }
    if text.contains("Permission denied") {
        return Cause::AccessDenied;
    }
    Cause::Failed(if text.is_empty() { "the tool ended without a word".to_owned() } else { text })
}
