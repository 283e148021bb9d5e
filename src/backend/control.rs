//! What a long back-end call gets from its caller: a journal, a progress meter and a way to stop.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{BoxFuture, SnapshotOutcome};
use crate::time::Guid;

/// A step about to be executed, with what is needed to undo or to finish it.
///
/// The order of a full snapshot is `Planned → FreezeSent → Paused → MemoryStarted → DisksDone → Resumed → Thawed`;
/// the engine's final record is the commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalStep {
    /// The files named here, and nothing else, are about to be made.
    Planned {
        /// Every file, in its final and in its temporary spelling.
        files: Vec<PathBuf>,
    },
    /// The guests are about to be frozen: recovery must thaw.
    FreezeSent,
    /// The machines are about to be paused: recovery must resume those that ran.
    Paused {
        /// The machines that ran before.
        #[serde(default)]
        running: Vec<Guid>,
    },
    /// Memory is about to be written.
    MemoryStarted,
    /// All disks are safe: recovery may finish the snapshot from these values.
    DisksDone {
        /// What was made, one entry a machine.
        outcomes: Vec<SnapshotOutcome>,
    },
    /// The machines run again.
    Resumed,
    /// The guests are thawed.
    Thawed,
    /// Complete copies lie beside the disks: from here recovery goes forward, and back only when it cannot.
    Staged {
        /// Copy and target, in the order in which they replace each other.
        files: Vec<StagedFile>,
    },
    /// Tags inside the disks are about to be applied: recovery goes forward.
    Reverting,
    /// Data is about to be removed: recovery goes forward only.
    Removing,
}

impl JournalStep {
    /// True when the operation cannot be cancelled any more once this step is stored.
    #[must_use]
    pub const fn is_point_of_no_return(&self) -> bool {
        matches!(self, Self::Staged { .. } | Self::Reverting | Self::Removing)
    }
}

/// A complete copy that is about to replace a disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StagedFile {
    /// The copy, in the directory of the disk.
    pub staged: PathBuf,
    /// The disk.
    pub target: PathBuf,
    /// The inode of the copy: it tells which of the two files has which name after they changed places.
    #[serde(default)]
    pub inode: Option<u64>,
    /// There was no file in the place of the disk.
    #[serde(default)]
    pub new: bool,
}

/// Why a step must not be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// The caller cancelled before the step.
    #[error("cancelled")]
    Cancelled,
    /// The journal cannot be written.
    #[error("the journal cannot be written")]
    JournalFailed,
}

/// Stores a step durably.
pub trait Journal: Send + Sync {
    /// Returns when the step is durable; only then may it be executed.
    ///
    /// # Errors
    /// [`Interrupted`]: the step must not be executed, and what was done so far is to be undone.
    fn record(&self, step: JournalStep) -> BoxFuture<'_, Result<(), Interrupted>>;
}

/// A journal for operations that nobody recovers; for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoJournal;

impl Journal for NoJournal {
    fn record(&self, _: JournalStep) -> BoxFuture<'_, Result<(), Interrupted>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Work done and work to do, in the same unit (bytes, where bytes are moved).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Done so far. INVARIANT: `done <= total`.
    pub done: u64,
    /// All of it; 0 while unknown.
    pub total: u64,
}

impl Progress {
    /// Whole percent, rounded down.
    #[must_use]
    pub fn percent(&self) -> u8 {
        let percent = u128::from(self.done) * 100 / u128::from(self.total.max(1));
        u8::try_from(percent.min(100)).unwrap_or(100)
    }
}

/// The caller's end of a long operation.
#[derive(Clone)]
pub struct StepControl {
    journal: Arc<dyn Journal>,
    progress: watch::Sender<Progress>,
    cancel: CancellationToken,
    part: Option<Part>,
}

/// Where the progress of a part lies in that of the whole, all in one unit.
#[derive(Debug, Clone, Copy)]
struct Part {
    begin: u64,
    weight: u64,
    total: u64,
}

impl Part {
    fn of_whole(self, progress: Progress) -> Progress {
        let done = u128::from(progress.done) * u128::from(self.weight) / u128::from(progress.total.max(1));
        let done = u64::try_from(done).unwrap_or(u64::MAX).min(self.weight);
        Progress { done: self.begin.saturating_add(done).min(self.total), total: self.total }
    }
}

impl StepControl {
    /// Joins the three.
    #[must_use]
    pub const fn new(journal: Arc<dyn Journal>, progress: watch::Sender<Progress>, cancel: CancellationToken) -> Self {
        Self { journal, progress, cancel, part: None }
    }

    /// The same control for a part of the work: what it reports from none to all counts as `begin` to `begin + weight`
    /// of `total`.
    #[must_use]
    pub fn part(&self, begin: u64, weight: u64, total: u64) -> Self {
        Self { part: Some(Part { begin, weight, total }), ..self.clone() }
    }

    /// A control without journal, that nobody watches or cancels; for tests and immediate operations.
    #[must_use]
    pub fn detached() -> Self {
        Self::new(Arc::new(NoJournal), watch::Sender::new(Progress::default()), CancellationToken::new())
    }

    /// Stores `step`; execute it only after this returned `Ok`.
    ///
    /// # Errors
    /// [`Interrupted`], see [`Journal::record`].
    pub async fn record(&self, step: JournalStep) -> Result<(), Interrupted> {
        self.journal.record(step).await
    }

    /// Tells how far the work is.
    pub fn report(&self, progress: Progress) {
        self.progress.send_replace(self.part.map_or(progress, |part| part.of_whole(progress)));
    }

    /// Wakes when the caller wants the work undone.
    #[must_use]
    pub const fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// True when the caller wants the work undone; for blocking loops.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
