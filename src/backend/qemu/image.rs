//! Disks of machines that are off, through `qemu-img`.
//!
//! QEMU locks an image it has open, so that a step on a disk in use is refused by the tool itself.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout, Command};

use super::super::{BackendError, Cause, Progress, StepControl};
use super::layers::DiskLayer;

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
    /// Bytes the guest sees.
    #[serde(default)]
    pub(super) virtual_size: u64,
    /// Bytes it takes.
    #[serde(default)]
    pub(super) actual_size: u64,
    /// The file below.
    pub(super) full_backing_filename: Option<PathBuf>,
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
        let child =
            self.command(image, arguments).spawn().map_err(|error| BackendError::io(step, &self.program, error))?;
        let output = tokio::time::timeout(LIMIT, child.wait_with_output())
            .await
            .map_err(|_| BackendError::new(step, Cause::Timeout))?
            .map_err(|error| BackendError::new(step, Cause::Io(error)))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(BackendError::new(step, sort(&String::from_utf8_lossy(&output.stderr), image)))
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

    /// What lies in a layer, whether it is in use or not. Its layout is told and not guessed: the guest decides what a
    /// raw disk begins with.
    ///
    /// # Errors
    /// A [`BackendError`] when it cannot be read.
    pub(super) async fn info_of(&self, layer: &DiskLayer) -> Result<ImageInfo, BackendError> {
        const STEP: &str = "read the disk";
        let text = self.run(STEP, &layer.file, &["info", "-U", "--output=json", "-f", layer.driver()]).await?;
        serde_json::from_slice(&text)
            .map_err(|error| BackendError::new(STEP, Cause::Failed(format!("{}: {error}", layer.file.display()))))
    }

    /// Makes an empty image of `size` bytes above another one, which may be in use.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) async fn create_overlay(&self, image: &Path, below: &DiskLayer, size: u64) -> Result<(), BackendError> {
        let size = format!("size={size}");
        let arguments = [
            OsStr::new("create"),
            "-q".as_ref(),
            "-f".as_ref(),
            "qcow2".as_ref(),
            // Without opening what is below: QEMU may have it locked.
            "-u".as_ref(),
            "-F".as_ref(),
            below.driver().as_ref(),
            "-o".as_ref(),
            size.as_ref(),
            "-b".as_ref(),
            below.file.as_ref(),
        ];
        self.run("make the overlay", image, &arguments).await.map(drop)
    }

    /// Tells an image that it lies on another one. Both must show the same content below it.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) async fn rebase(&self, image: &Path, below: &DiskLayer) -> Result<(), BackendError> {
        let arguments = [
            OsStr::new("rebase"),
            "-q".as_ref(),
            "-u".as_ref(),
            "-f".as_ref(),
            "qcow2".as_ref(),
            "-F".as_ref(),
            below.driver().as_ref(),
            "-b".as_ref(),
            below.file.as_ref(),
        ];
        self.run("lay the overlay on another file", image, &arguments).await.map(drop)
    }

    /// Copies what an overlay holds into the image below it, and leaves the overlay as it is.
    ///
    /// # Errors
    /// A [`BackendError`]; the overlay shows the same content as before in any case.
    pub(super) async fn commit(&self, image: &Path, control: &StepControl) -> Result<(), BackendError> {
        const STEP: &str = "merge the layers";
        let total = self.info(image).await?.actual_size;
        let mut child = self
            .command(image, &["commit", "-p", "-d", "-f", "qcow2"])
            .spawn()
            .map_err(|error| BackendError::io(STEP, &self.program, error))?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let ended = async {
            let (printed, text, status) = tokio::join!(follow(output, total, control), read(errors), child.wait());
            printed.and(status).map(|status| (status, text)).map_err(|error| BackendError::new(STEP, Cause::Io(error)))
        };
        // It may take as long as there is data; who waits can cancel. The process dies with this future.
        let (status, text) = tokio::select! {
            biased;
            () = control.cancelled().cancelled() => return Err(BackendError::new(STEP, Cause::Cancelled)),
            ended = ended => ended?,
        };
        if status.success() { Ok(()) } else { Err(BackendError::new(STEP, sort(&text, image))) }
    }

    fn command<A: AsRef<OsStr>>(&self, image: &Path, arguments: &[A]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg(image).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
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

/// Reads the percentages the tool prints, as in `    (12.50/100%)` with a carriage return after it.
async fn follow(output: Option<ChildStdout>, total: u64, control: &StepControl) -> io::Result<()> {
    let Some(output) = output else { return Ok(()) };
    let mut output = BufReader::new(output);
    let mut text = Vec::new();
    while output.read_until(b'\r', &mut text).await? > 0 {
        let percent = String::from_utf8_lossy(&text);
        let percent = percent.trim().trim_start_matches('(').split(['.', '/']).next();
        if let Some(percent) = percent.and_then(|percent| percent.parse::<u64>().ok()) {
            control.report(Progress { done: total / 100 * percent.min(100), total });
        }
        text.clear();
    }
    Ok(())
}

async fn read(errors: Option<ChildStderr>) -> String {
    let mut text = Vec::new();
    if let Some(mut errors) = errors {
        // What could be read is all there is to say.
        let _ = errors.read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The cause behind a sentence of the tool.
fn sort(text: &str, image: &Path) -> Cause {
    let text = text.trim().replace('\n', "; ");
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
