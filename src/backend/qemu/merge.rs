//! Destroying snapshots of raw disks: the layers they leave are merged.
//!
//! A file that is neither written to nor a snapshot is removed when nothing lies above it, and takes in what the only
//! file above it holds when there is one. With several files above it, it stays. Nothing else is remembered:
//! what is to do follows from `layers.json` and from the headers of the files, so that [`Overlays::tidy`] may be called
//! after any crash and at any time.
//!
//! A merge copies the clusters of `top` into `base`. What each instant of a crash leaves:
//!
//! 1. The merge is written down. Nothing refers to `base` but `top`.
//! 2. Clusters are copied. `top` has every cluster that `base` is given, so `top` shows the same content at each moment.
//!    A merge that is cancelled or breaks off leaves `base` without a meaning of its own and `top` as it was.
//! 3. All is copied: `top` and `base` show the same content, and stay so as long as neither is written to.
//!    - *In the middle of the chain of a running machine*, QEMU lays the file above `top` on `base` by itself.
//!    - *Off the chain, or with the machine off*, we do so by changing the header of each file above `top`.
//!    - *At the top of a running machine* `top` is written to. So the guest is stopped before QEMU may let `base` take
//!      its place. If QEMU dies while the guest stands still, the next start takes `top`, which shows the same content.
//!      If we die, the guest stands still until [`Overlays::reconcile`] has moved the pointer.
//! 4. The pointer and the snapshots that were `top` are moved to `base` by one store; only then a stopped guest goes on.
//!    `base` is forced to disk before that.
//! 5. `top` belongs to nobody now, and it is closed and removed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::super::copy;
use super::super::{BackendError, Cause, JournalStep, Progress, StepControl};
use super::block::{Job, file_of, node_of};
use super::layers::{DiskLayers, MachineLayers, Merge};
use super::machine::canonical;
use super::monitor::{Monitor, MonitorError};
use super::overlay::{Overlays, sync_file};
use crate::time::Guid;

const STEP: &str = "merge the layers";
/// Between two looks at a job.
const POLL: Duration = Duration::from_millis(50);
/// The same while the guest stands still.
const POLL_STOPPED: Duration = Duration::from_millis(3);
/// How long a job may take to catch up with a guest that has been stopped.
const CATCH_UP: Duration = Duration::from_secs(10);
/// How long a job may take to end after it was told to.
const END: Duration = Duration::from_secs(60);

fn failed(error: MonitorError) -> BackendError {
    BackendError::new(STEP, error.into())
}

fn wrong(text: impl Into<String>) -> BackendError {
    BackendError::new(STEP, Cause::Failed(text.into()))
}

/// One thing to do.
enum Task {
    /// An overlay that nobody needs is to go.
    Drop(PathBuf),
    /// What `top` holds is to go into `base`.
    Merge(Merge),
}

/// How the attempt to end the topmost merge left the guest's disk.
enum Pivot {
    /// The guest writes to `base`, and the pointer says so.
    Done,
    /// The guest writes to `top`, and the pointer says so.
    Kept(BackendError),
    /// It may be either. The guest must stand still until [`Overlays::reconcile`] has found out.
    Unknown(BackendError),
}

impl Overlays {
    /// Gives up a snapshot of all disks and merges what it leaves. One that is gone is no error. `monitor` is that of the
    /// machine, if it has a process; `job` is the name of merges in QEMU.
    ///
    /// # Errors
    /// A [`BackendError`]. The snapshot is given up unless the first store failed; [`Cause::Cancelled`] means that
    /// layers are left which the next [`Overlays::tidy`] merges.
    pub async fn destroy(
        &self,
        monitor: Option<&Monitor>,
        snapshot: Guid,
        job: Guid,
        control: &StepControl,
    ) -> Result<(), BackendError> {
        self.give_up_snapshot(snapshot)?;
        self.tidy(monitor, job, control).await
    }

    /// Gives up a snapshot of all disks and removes what nobody needs any more, but merges nothing: see
    /// [`Overlays::is_untidy`]. One that is gone is no error.
    ///
    /// # Errors
    /// A [`BackendError`]. The snapshot is given up unless the first store failed.
    /// An overlay that cannot be removed now is no error.
    pub async fn forget(&self, monitor: Option<&Monitor>, snapshot: Guid) -> Result<(), BackendError> {
        self.give_up_snapshot(snapshot)?;
        if let Some(monitor) = monitor {
            self.reconcile(monitor).await?;
        }
        if let Err(error) = self.sweep(monitor).await {
            // The snapshot is gone all the same; what lies there is found by the next `tidy`.
            tracing::warn!(machine = %self.machine, %snapshot, %error, "An overlay that nobody needs is left");
        }
        Ok(())
    }

    fn give_up_snapshot(&self, snapshot: Guid) -> Result<(), BackendError> {
        let mut state = MachineLayers::load(&self.directory)?;
        let count = |state: &MachineLayers| -> usize { state.disks.values().map(|disk| disk.frozen.len()).sum() };
        let before = count(&state);
        state.disks.values_mut().for_each(|disk| drop(disk.frozen.remove(&snapshot)));
        if count(&state) == before { Ok(()) } else { state.store(&self.directory) }
    }

    /// True when [`Overlays::tidy`] has something to do.
    ///
    /// # Errors
    /// A [`BackendError`] when that is not known.
    pub async fn is_untidy(&self) -> Result<bool, BackendError> {
        self.next_task(Some(self.machine)).await.map(|task| task.is_some())
    }

    /// How much each merge that is to be done will copy, in bytes and in their order, as far as that is known now.
    async fn weights(&self) -> Result<Vec<u64>, BackendError> {
        let mut weights = Vec::new();
        for mut disk in MachineLayers::load(&self.directory)?.disks.into_values() {
            let mut parents = self.parents(&disk).await?;
            loop {
                let gone = if let Some(file) = parents.superfluous(&disk).cloned() {
                    file
                } else if let Some((top, base)) = parents.mergeable(&disk) {
                    weights.push(self.images.info_of(&disk.layer(&top)).await?.actual_size);
                    disk.replace(&top, &base);
                    parents.0.values_mut().filter(|below| **below == top).for_each(|below| base.clone_into(below));
                    top
                } else {
                    break;
                };
                parents.0.remove(&gone);
                disk.overlays.retain(|overlay| *overlay != gone);
            }
        }
        Ok(weights)
    }

    /// Removes every overlay that nobody needs and merges every file that is needed for one other only. A merge that an
    /// earlier call began in QEMU is gone on with.
    ///
    /// A guest that runs stands still for some milliseconds when the topmost layer is merged; the step
    /// [`JournalStep::Paused`] is recorded before that and [`JournalStep::Resumed`] after it.
    ///
    /// # Errors
    /// A [`BackendError`]; the content of the machine and of every snapshot is the same as before.
    pub async fn tidy(&self, monitor: Option<&Monitor>, job: Guid, control: &StepControl) -> Result<(), BackendError> {
        if let Some(monitor) = monitor {
            self.reconcile(monitor).await?;
        }
        let weights = self.weights().await?;
        let total = weights.iter().sum();
        let (mut begin, mut weights) = (0, weights.into_iter());
        while let Some((disk, task)) = self.next_task(Some(job)).await? {
            let result = match task {
                Task::Drop(file) => self.drop_layer(monitor, &disk, &file).await,
                Task::Merge(merge) => {
                    let weight = weights.next().unwrap_or(0);
                    let part = control.part(begin, weight, total);
                    begin = begin.saturating_add(weight);
                    self.merge(monitor, &disk, &merge, &part).await
                }
            };
            result.map_err(|error| error.on_disk(disk))?;
        }
        Ok(())
    }

    /// Removes every overlay that nobody needs, and merges nothing. A disk with an open merge is left alone: QEMU may
    /// still be at work on its layers.
    pub(super) async fn sweep(&self, monitor: Option<&Monitor>) -> Result<(), BackendError> {
        while let Some((disk, Task::Drop(file))) = self.next_task(None).await? {
            self.drop_layer(monitor, &disk, &file).await.map_err(|error| error.on_disk(disk))?;
        }
        Ok(())
    }

    /// Moves the pointer to the files that QEMU writes to. To be called after a restart of this server or a lost
    /// connection, before a guest that stands still goes on: until then QEMU may be about to change a disk.
    ///
    /// # Errors
    /// A [`BackendError`]; the guest must not go on then.
    pub async fn reconcile(&self, monitor: &Monitor) -> Result<(), BackendError> {
        let mut state = MachineLayers::load(&self.directory)?;
        if state.disks.is_empty() {
            return Ok(());
        }
        let running = monitor.status().await.map_err(failed)?.running;
        for merge in state.disks.values().filter_map(|disk| disk.merge.as_ref()).filter(|_| !running) {
            // We may have told it to change the disk. Whether it did is seen when it has ended.
            give_up(monitor, merge.job).await?;
        }
        let mut changed = false;
        for (name, disk) in &mut state.disks {
            let Some(file) = written(monitor, disk).await? else {
                tracing::warn!(machine = %self.machine, disk = name, "The machine has none of the layers of the disk");
                continue;
            };
            if file != disk.active {
                tracing::info!(machine = %self.machine, disk = name, file = %file.display(), "Pointer moved");
                disk.set_active(&file);
                changed = true;
            }
        }
        if changed { state.store(&self.directory) } else { Ok(()) }
    }

    /// Ends a merge that was begun, also by an earlier run of this server. The layers stay usable.
    ///
    /// # Errors
    /// A [`BackendError`]; it may go on.
    pub async fn cancel_merge(&self, monitor: &Monitor) -> Result<(), BackendError> {
        let state = MachineLayers::load(&self.directory)?;
        for merge in state.disks.values().filter_map(|disk| disk.merge.as_ref()) {
            give_up(monitor, merge.job).await?;
        }
        self.reconcile(monitor).await
    }

    /// Ends what QEMU still does for merges that an earlier run of this server has begun, so that the layers can change.
    /// What it has finished is written down; the rest begins again with the next [`Overlays::tidy`].
    ///
    /// # Errors
    /// A [`BackendError`]; a merge may go on.
    pub(super) async fn settle(&self, monitor: &Monitor) -> Result<(), BackendError> {
        for (name, disk) in MachineLayers::load(&self.directory)?.disks {
            let Some(merge) = disk.merge else { continue };
            give_up(monitor, merge.job).await?;
            self.reconcile(monitor).await?;
            let layers = self.layers(&name)?;
            if self.is_open(monitor, &layers, &merge.top).await? {
                self.update(&name, |layers| layers.merge = None)?;
            } else if self.is_open(monitor, &layers, &merge.base).await? {
                self.relink(&name, &merge).await.map_err(|error| error.on_disk(&name))?;
            }
        }
        Ok(())
    }

    /// The first thing to do, with the disk it is about; a merge only when there is a name for its job.
    async fn next_task(&self, job: Option<Guid>) -> Result<Option<(String, Task)>, BackendError> {
        let state = MachineLayers::load(&self.directory)?;
        for (name, disk) in &state.disks {
            let task = async {
                if let Some(merge) = &disk.merge {
                    return Ok(job.map(|_| Task::Merge(merge.clone())));
                }
                let parents = self.parents(disk).await?;
                if let Some(file) = parents.superfluous(disk) {
                    return Ok(Some(Task::Drop(file.clone())));
                }
                let pair = parents.mergeable(disk).zip(job);
                Ok(pair.map(|((top, base), job)| Task::Merge(Merge { top, base, job })))
            };
            if let Some(task) = task.await.map_err(|error: BackendError| error.on_disk(name))? {
                return Ok(Some((name.clone(), task)));
            }
        }
        Ok(None)
    }

    /// Closes, removes and forgets an overlay.
    async fn drop_layer(&self, monitor: Option<&Monitor>, disk: &str, file: &Path) -> Result<(), BackendError> {
        const STEP: &str = "remove the overlay";
        if let Some(monitor) = monitor {
            let nodes = monitor.nodes().await.map_err(failed)?;
            if let Some(node) = node_of(&nodes, file, "qcow2") {
                // QEMU refuses when it still needs it.
                monitor.remove_node(node).await.map_err(|error| BackendError::new(STEP, error.into()))?;
            }
        }
        copy::remove_file(STEP, file)?;
        if let Some(directory) = file.parent().filter(|directory| directory.is_dir()) {
            copy::sync_directory(STEP, directory)?;
        }
        self.update(disk, |layers| layers.overlays.retain(|overlay| overlay != file))
    }

    async fn merge(
        &self,
        monitor: Option<&Monitor>,
        disk: &str,
        merge: &Merge,
        control: &StepControl,
    ) -> Result<(), BackendError> {
        if self.layers(disk)?.merge.is_none() {
            self.check_space(disk, merge).await?;
        }
        self.update(disk, |layers| layers.merge = Some(merge.clone()))?;
        let layers = self.layers(disk)?;
        let merged = match monitor {
            Some(monitor) if self.is_open(monitor, &layers, &merge.top).await? => {
                self.merge_open(monitor, disk, &layers, merge, control).await
            }
            // QEMU has finished without us: the files above lie on `base` already.
            Some(monitor) if self.is_open(monitor, &layers, &merge.base).await? => Ok(()),
            _ => self.images.commit(&merge.top, control).await,
        };
        if let Err(error) = merged {
            // As long as QEMU may have the job, the next call must know of it.
            let over = match monitor {
                Some(monitor) => matches!(monitor.job(merge.job).await, Ok(None)),
                None => true,
            };
            if over {
                self.update(disk, |layers| layers.merge = None)?;
            }
            return Err(error);
        }
        if let Some(monitor) = monitor {
            monitor.dismiss(merge.job).await.map_err(failed)?;
        }
        self.relink(disk, merge).await
    }

    /// What `base` may take in must fit. A file that has all its room already takes no more.
    async fn check_space(&self, disk: &str, merge: &Merge) -> Result<(), BackendError> {
        let layers = self.layers(disk)?;
        let top = self.images.info_of(&layers.layer(&merge.top)).await?;
        let base = self.images.info_of(&layers.layer(&merge.base)).await?;
        let needed = top.actual_size.min(base.virtual_size.saturating_sub(base.actual_size));
        if needed == 0 { Ok(()) } else { copy::check_space("check the space for the merge", &merge.base, needed) }
    }

    /// Lays what still lies on `top` on `base`, and makes `base` what `top` was.
    async fn relink(&self, disk: &str, merge: &Merge) -> Result<(), BackendError> {
        let layers = self.layers(disk)?;
        sync_file(STEP, &merge.base)?;
        let base = layers.layer(&merge.base);
        let parents = self.parents(&layers).await?;
        for file in parents.children(&merge.top) {
            self.images.rebase(file, &base).await?;
        }
        // Also those that QEMU has laid on it: its change of the header may not have reached the disk.
        for file in parents.children(&merge.top).chain(parents.children(&merge.base)) {
            sync_file(STEP, file)?;
        }
        self.update(disk, |layers| layers.replace(&merge.top, &merge.base))
    }

    /// Merges two files that QEMU has open for the machine.
    async fn merge_open(
        &self,
        monitor: &Monitor,
        disk: &str,
        layers: &DiskLayers,
        merge: &Merge,
        control: &StepControl,
    ) -> Result<(), BackendError> {
        let topmost = layers.active == merge.top;
        let job = monitor.job(merge.job).await.map_err(failed)?;
        if job.as_ref().is_some_and(Job::is_concluded) {
            // How it ended is seen in the chain, and the chain still has `top` in it.
            monitor.dismiss(merge.job).await.map_err(failed)?;
        }
        if job.is_none_or(|job| job.is_concluded()) {
            let nodes = monitor.nodes().await.map_err(failed)?;
            let node = |file: &Path| {
                let missing = || wrong(format!("QEMU has no node for {}", file.display()));
                node_of(&nodes, file, layers.layer(file).driver()).ok_or_else(missing)
            };
            let (root, top, base) = (node(&layers.active)?, node(&merge.top)?, node(&merge.base)?);
            let file = Some(merge.base.as_path()).filter(|_| !topmost);
            monitor.commit(merge.job, root, (top, base), file).await.map_err(failed)?;
        }
        let job = self.follow(monitor, merge, topmost, control).await?;
        if topmost && !job.is_concluded() {
            return self.end_topmost(monitor, disk, merge, control).await;
        }
        if !topmost && !self.is_open(monitor, layers, &merge.top).await? {
            return Ok(());
        }
        monitor.dismiss(merge.job).await.map_err(failed)?;
        if control.is_cancelled() {
            return Err(BackendError::new(STEP, Cause::Cancelled));
        }
        Err(wrong(job.error.unwrap_or_else(|| "the job ended early".to_owned())))
    }

    /// Waits until a job has ended or, if that is wanted, is ready to end. Tells it to give up when the caller does.
    async fn follow(
        &self,
        monitor: &Monitor,
        merge: &Merge,
        topmost: bool,
        control: &StepControl,
    ) -> Result<Job, BackendError> {
        loop {
            let gone = || wrong("the job is gone");
            let job = monitor.job(merge.job).await.map_err(failed)?.ok_or_else(gone)?;
            control.report(Progress { done: job.current_progress.min(job.total_progress), total: job.total_progress });
            if job.is_concluded() || (topmost && job.status == "ready") {
                return Ok(job);
            }
            tokio::select! {
                biased;
                () = control.cancelled().cancelled() => {
                    monitor.cancel(merge.job).await.map_err(failed)?;
                    return ended(monitor, merge.job).await;
                }
                () = monitor.closed() => return Err(failed(MonitorError::Closed)),
                () = sleep(POLL) => {}
            }
        }
    }

    /// Lets `base` take the place of `top` while the guest stands still.
    async fn end_topmost(
        &self,
        monitor: &Monitor,
        disk: &str,
        merge: &Merge,
        control: &StepControl,
    ) -> Result<(), BackendError> {
        let running = monitor.status().await.map_err(failed)?.running;
        let step = JournalStep::Paused { running: vec![self.machine] };
        if control.is_cancelled() || (running && control.record(step).await.is_err()) {
            give_up(monitor, merge.job).await?;
            return Err(BackendError::new(STEP, Cause::Cancelled));
        }
        let stopped = if running { monitor.stop().await } else { Ok(()) };
        let pivot = match stopped {
            Ok(()) => self.pivot(monitor, disk, merge).await,
            Err(error) => Pivot::Kept(failed(error)),
        };
        if let Pivot::Unknown(error) = pivot {
            tracing::error!(machine = %self.machine, disk, %error, "The guest stands still until its disk is known");
            return Err(error);
        }
        if running {
            monitor.cont().await.map_err(failed)?;
        }
        match pivot {
            Pivot::Kept(error) => {
                give_up(monitor, merge.job).await?;
                Err(error)
            }
            _ if running => control.record(JournalStep::Resumed).await.or(Ok(())),
            _ => Ok(()),
        }
    }

    /// The part of [`Overlays::end_topmost`] in which the guest stands still.
    async fn pivot(&self, monitor: &Monitor, disk: &str, merge: &Merge) -> Pivot {
        match timeout(CATCH_UP, caught_up(monitor, merge.job)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Pivot::Kept(error),
            Err(_) => return Pivot::Kept(BackendError::new(STEP, Cause::Timeout)),
        }
        match monitor.complete(merge.job).await {
            Ok(()) => {}
            Err(error @ MonitorError::Refused { .. }) => return Pivot::Kept(failed(error)),
            Err(error) => return Pivot::Unknown(failed(error)),
        }
        let known = async {
            let job = ended(monitor, merge.job).await?;
            let layers = self.layers(disk)?;
            let missing = || wrong("QEMU has none of the layers of the disk");
            let file = written(monitor, &layers).await?.ok_or_else(missing)?;
            if file == merge.base {
                sync_file(STEP, &file)?;
                self.update(disk, |layers| layers.set_active(&file))?;
                return Ok(None);
            }
            Ok(Some(wrong(job.error.unwrap_or_else(|| "the job ended early".to_owned()))))
        };
        match known.await {
            Ok(None) => Pivot::Done,
            Ok(Some(error)) => Pivot::Kept(error),
            Err(error) => Pivot::Unknown(error),
        }
    }

    /// True when the machine reads a file, be it the one it writes to or one below that.
    async fn is_open(&self, monitor: &Monitor, layers: &DiskLayers, file: &Path) -> Result<bool, BackendError> {
        let Some(active) = written(monitor, layers).await? else { return Ok(false) };
        Ok(self.parents(layers).await?.chain(&active).contains(file))
    }

    fn layers(&self, disk: &str) -> Result<DiskLayers, BackendError> {
        let missing = || wrong("the disk has no layers");
        MachineLayers::load(&self.directory)?.disks.remove(disk).ok_or_else(missing)
    }

    fn update(&self, disk: &str, change: impl FnOnce(&mut DiskLayers)) -> Result<(), BackendError> {
        let mut state = MachineLayers::load(&self.directory)?;
        if let Some(layers) = state.disks.get_mut(disk) {
            let before = layers.clone();
            change(layers);
            if *layers != before {
                return state.store(&self.directory);
            }
        }
        Ok(())
    }
}

/// The layer that QEMU writes to.
async fn written(monitor: &Monitor, layers: &DiskLayers) -> Result<Option<PathBuf>, BackendError> {
    let media = monitor.media().await.map_err(failed)?;
    let media: Vec<PathBuf> = media.iter().map(|medium| canonical(&file_of(&medium.file))).collect();
    Ok(layers.files().find(|file| media.contains(&canonical(file))).cloned())
}

/// Ends a job, if there is one, and forgets it. What it has done already stays done.
async fn give_up(monitor: &Monitor, job: Guid) -> Result<(), BackendError> {
    if monitor.job(job).await.map_err(failed)?.is_some() {
        monitor.cancel(job).await.map_err(failed)?;
        ended(monitor, job).await?;
    }
    Ok(())
}

/// Waits until a job that was told to end has done so, and forgets it: what it did is seen in the chain.
async fn ended(monitor: &Monitor, job: Guid) -> Result<Job, BackendError> {
    let deadline = Instant::now() + END;
    loop {
        let gone = || wrong("the job is gone");
        let state = monitor.job(job).await.map_err(failed)?.ok_or_else(gone)?;
        if state.is_concluded() {
            monitor.dismiss(job).await.map_err(failed)?;
            return Ok(state);
        }
        if Instant::now() >= deadline {
            return Err(BackendError::new(STEP, Cause::Timeout));
        }
        sleep(POLL_STOPPED).await;
    }
}

/// Waits until a job has nothing left to copy.
async fn caught_up(monitor: &Monitor, job: Guid) -> Result<(), BackendError> {
    loop {
        let gone = || wrong("the job is gone");
        let state = monitor.job(job).await.map_err(failed)?.ok_or_else(gone)?;
        if state.is_concluded() {
            return Err(wrong(state.error.unwrap_or_else(|| "the job ended early".to_owned())));
        }
        if state.status == "ready" && state.current_progress >= state.total_progress {
            return Ok(());
        }
        sleep(POLL_STOPPED).await;
    }
}
