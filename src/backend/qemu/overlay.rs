//! Snapshots of raw disks, by overlays, for machines that we start.
//!
//! `layers.json` says which file a machine must be started with (the *pointer*) and which file each snapshot is; see
//! [`MachineLayers`]. One store replaces all of it at once. What each instant of a crash leaves:
//!
//! *Taking a snapshot of a running machine* ([`Overlays::add`], then the caller's transaction):
//!
//! 1. The overlay is written down, made, forced to disk and opened by QEMU.
//!    Until here the machine writes to the old file and the pointer names it; the overlay belongs to nobody and is
//!    removed by [`Overlays::tidy`].
//! 2. The pointer is moved to the overlay. The machine still writes to the old file.
//!    If QEMU dies now, the next start takes the overlay. It is empty, so it shows all that was written to the old file.
//!    If we die and QEMU lives, [`Overlays::reconcile`] asks QEMU and moves the pointer back.
//! 3. The transaction: QEMU writes to the overlay, as the pointer says.
//!    The old file stands still from the same instant on at which the other disks of the transaction were taken.
//!
//! *Of a machine that is off* ([`Overlays::add_stopped`]): step 1 without QEMU and step 2. The store is the instant.
//!
//! *Applying* ([`Overlays::apply`]): an empty overlay above the file of the snapshot, then the pointer. The store is the
//! instant, for all disks together. The file before is kept until [`Overlays::keep_applied`], so that
//! [`Overlays::take_back_applied`] can return to it.
//!
//! *Destroying*: see `merge`.
//!
//! A caller runs one of these at a time for a machine. Before it lets a paused machine run after a restart of this
//! server, it calls [`Overlays::reconcile`].

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use qapi::qmp;

use super::super::copy;
use super::super::{BackendError, Cause, DiskDefinition};
use super::block::{file_of, node_of};
use super::image::ImageTool;
use super::layers::{DiskLayer, DiskLayers, MachineLayers};
use super::machine::canonical;
use super::monitor::{Monitor, MonitorError};
use crate::time::Guid;

/// Name of the directory with the overlays in the directory of a machine.
const OVERLAYS: &str = "layers";

/// The overlays of one machine.
#[derive(Debug, Clone)]
pub struct Overlays {
    pub(super) machine: Guid,
    /// Where `layers.json` lies, and the directory with the overlays.
    pub(super) directory: PathBuf,
    pub(super) images: ImageTool,
}

/// An overlay that QEMU has opened and the pointer names; the transaction with [`NewOverlay::action`] puts it in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOverlay {
    /// The node that is written to now.
    pub node: String,
    /// The node of the overlay.
    pub overlay: String,
    /// What the snapshot will be: the file that is written to now.
    pub image: DiskLayer,
}

impl NewOverlay {
    /// The action of the transaction.
    #[must_use]
    pub fn action(&self) -> qmp::TransactionAction {
        let data = qmp::BlockdevSnapshot { node: self.node.clone(), overlay: self.overlay.clone() };
        qmp::TransactionAction::blockdev_snapshot(data.into())
    }
}

impl Overlays {
    /// The overlays of a machine whose directory this is; `image_tool` is `qemu-img`.
    #[must_use]
    pub fn new(machine: Guid, directory: &Path, image_tool: &Path) -> Self {
        Self { machine, directory: directory.to_path_buf(), images: ImageTool::new(image_tool.to_path_buf()) }
    }

    /// The file a disk must be started with.
    ///
    /// # Errors
    /// A [`BackendError`] when it is not known; the machine must not be started then.
    pub fn active(&self, disk: &DiskDefinition) -> Result<DiskLayer, BackendError> {
        let mut state = MachineLayers::load(&self.directory)?;
        let layers = state.of(disk)?;
        Ok(layers.layer(&layers.active))
    }

    /// The file that a snapshot of a disk is now. Merges move it.
    ///
    /// # Errors
    /// A [`BackendError`] when it is not known.
    pub fn image(&self, disk: &str, snapshot: Guid) -> Result<Option<DiskLayer>, BackendError> {
        let state = MachineLayers::load(&self.directory)?;
        let layers = state.disks.get(disk);
        Ok(layers.and_then(|layers| layers.frozen.get(&snapshot).map(|file| layers.layer(file))))
    }

    /// True when the file that a snapshot of a disk is, and everything below it, is there.
    ///
    /// # Errors
    /// A [`BackendError`] when it cannot be found out.
    pub async fn is_whole(&self, disk: &str, snapshot: Guid) -> Result<bool, BackendError> {
        let state = MachineLayers::load(&self.directory)?;
        let Some(layers) = state.disks.get(disk) else { return Ok(false) };
        let mut next = layers.frozen.get(&snapshot).cloned();
        let known = next.is_some();
        // As many steps as there are files: a chain that is longer goes round in a circle.
        for _ in 0..=layers.overlays.len() {
            let Some(file) = next else { return Ok(known) };
            if !file.is_file() {
                return Ok(false);
            }
            next = self.images.info_of(&layers.layer(&file)).await?.full_backing_filename;
        }
        Ok(next.is_none())
    }

    /// The files that are overlays of ours.
    ///
    /// # Errors
    /// A [`BackendError`] when they are not known.
    pub fn files(&self) -> Result<BTreeSet<PathBuf>, BackendError> {
        let state = MachineLayers::load(&self.directory)?;
        Ok(state.disks.into_values().flat_map(|disk| disk.overlays).collect())
    }

    /// Makes the overlay that a snapshot of a running machine needs, lets QEMU open it and moves the pointer to it.
    /// When the transaction fails or never comes, [`Overlays::destroy`] takes it back.
    ///
    /// # Errors
    /// A [`BackendError`]; what was made is removed by the next [`Overlays::tidy`] then.
    pub async fn add(
        &self,
        monitor: &Monitor,
        disk: &DiskDefinition,
        snapshot: Guid,
    ) -> Result<NewOverlay, BackendError> {
        const STEP: &str = "add an overlay to the disk";
        let failed = |error: MonitorError| BackendError::new(STEP, error.into()).on_disk(&disk.name);
        let image = self.active(disk)?;
        let media = monitor.media().await.map_err(failed)?;
        if !media.iter().any(|medium| canonical(&file_of(&medium.file)) == canonical(&image.file)) {
            let text = format!("the machine does not write to {}", image.file.display());
            return Err(BackendError::new(STEP, Cause::Failed(text)).on_disk(&disk.name));
        }
        let nodes = monitor.nodes().await.map_err(failed)?;
        let Some(node) = node_of(&nodes, &image.file, image.driver()) else {
            let text = format!("QEMU has no node for {}", image.file.display());
            return Err(BackendError::new(STEP, Cause::Failed(text)).on_disk(&disk.name));
        };
        let (file, number) = self.make(disk, &image, snapshot).await?;
        // A name has room for 31 bytes. The number tells the disks of a snapshot apart.
        let digits: String = snapshot.as_uuid().simple().to_string().chars().take(24).collect();
        let overlay = format!("w{number:x}-{digits}");
        monitor.add_overlay(&overlay, &file).await.map_err(failed)?;
        self.freeze(disk, snapshot, &file)?;
        Ok(NewOverlay { node: node.to_owned(), overlay, image })
    }

    /// Takes a snapshot of a disk of a machine that is off and returns the file that is the snapshot.
    ///
    /// # Errors
    /// A [`BackendError`]; the disk is as before then.
    pub async fn add_stopped(&self, disk: &DiskDefinition, snapshot: Guid) -> Result<DiskLayer, BackendError> {
        let image = self.active(disk)?;
        let (file, _) = self.make(disk, &image, snapshot).await?;
        self.freeze(disk, snapshot, &file)?;
        Ok(image)
    }

    /// Makes a snapshot the content of disks of a machine that is off; the overlays get their name from `id`.
    /// A disk that is not in the snapshot stays as it is.
    ///
    /// # Errors
    /// A [`BackendError`]; the content of every disk is as before then.
    pub async fn apply(&self, disks: &[DiskDefinition], snapshot: Guid, id: Guid) -> Result<(), BackendError> {
        let mut made = Vec::new();
        for disk in disks {
            let file = self.path(disk, id);
            let image = self.image(&disk.name, snapshot)?;
            let is_applied = self.active(disk)?.file == file;
            if let Some(image) = image.filter(|_| !is_applied) {
                made.push((disk, self.make(disk, &image, id).await?.0));
            }
        }
        let mut state = MachineLayers::load(&self.directory)?;
        for (disk, file) in made {
            let layers = state.of(disk)?;
            let before = layers.active.clone();
            layers.before.get_or_insert(before);
            layers.set_active(&file);
        }
        state.store(&self.directory)
    }

    /// Gives up the content from before the application, for good.
    ///
    /// # Errors
    /// A [`BackendError`]; it is still there, or some file that nobody needs is.
    pub async fn keep_applied(&self) -> Result<(), BackendError> {
        let mut state = MachineLayers::load(&self.directory)?;
        state.disks.values_mut().for_each(|disk| disk.before = None);
        state.store(&self.directory)?;
        self.sweep(None).await
    }

    /// Returns to the content from before the application.
    ///
    /// # Errors
    /// A [`BackendError`]; the application is still in place, or some file that nobody needs is.
    pub async fn take_back_applied(&self) -> Result<(), BackendError> {
        let mut state = MachineLayers::load(&self.directory)?;
        for disk in state.disks.values_mut() {
            if let Some(before) = disk.before.take() {
                disk.set_active(&before);
            }
        }
        state.store(&self.directory)?;
        self.sweep(None).await
    }

    /// A new and empty overlay above `below`, written down and durable, and how many overlays the machine has with it.
    async fn make(&self, disk: &DiskDefinition, below: &DiskLayer, id: Guid) -> Result<(PathBuf, usize), BackendError> {
        const STEP: &str = "make the overlay";
        let named = |error: BackendError| error.on_disk(&disk.name);
        if !below.file.is_absolute() {
            let text = format!("{} is not an absolute path", below.file.display());
            return Err(named(BackendError::new(STEP, Cause::NotSupported(text))));
        }
        let file = self.path(disk, id);
        let mut state = MachineLayers::load(&self.directory)?;
        let layers = state.of(disk)?;
        if layers.is_used(&file) {
            let text = format!("{} is there already", file.display());
            return Err(named(BackendError::new(STEP, Cause::InUse(text))));
        }
        if !layers.overlays.contains(&file) {
            layers.overlays.push(file.clone());
        }
        let number = state.disks.values().map(|disk| disk.overlays.len()).sum();
        state.store(&self.directory)?;
        let directory = self.directory.join(OVERLAYS);
        let made = async {
            std::fs::create_dir_all(&directory).map_err(|error| BackendError::io(STEP, &directory, error))?;
            copy::sync_directory(STEP, &self.directory)?;
            let size = self.images.info_of(below).await?.virtual_size;
            self.images.create_overlay(&file, below, size).await?;
            sync_file(STEP, &file)?;
            copy::sync_directory(STEP, &directory)
        };
        made.await.map_err(named)?;
        Ok((file, number))
    }

    /// The instant: writes go to `overlay`, and what was written to until now is the snapshot.
    fn freeze(&self, disk: &DiskDefinition, snapshot: Guid, overlay: &Path) -> Result<(), BackendError> {
        let mut state = MachineLayers::load(&self.directory)?;
        let layers = state.of(disk)?;
        let before = std::mem::replace(&mut layers.active, overlay.to_path_buf());
        layers.frozen.insert(snapshot, before);
        state.store(&self.directory)
    }

    /// Where the overlay of a disk lies. Every character that could mean something in a path is written as a number.
    fn path(&self, disk: &DiskDefinition, id: Guid) -> PathBuf {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let spell = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        let name: String = disk.name.bytes().map(spell).collect();
        self.directory.join(OVERLAYS).join(format!("{name}-{id}.qcow2"))
    }

    /// Reads which file lies on which. A file that is not there, and that nobody needs, lies on nothing.
    ///
    /// # Errors
    /// A [`BackendError`] when one cannot be read.
    pub(super) async fn parents(&self, disk: &DiskLayers) -> Result<super::layers::Parents, BackendError> {
        let mut parents = super::layers::Parents::default();
        for file in &disk.overlays {
            match self.images.info_of(&disk.layer(file)).await {
                Ok(info) => {
                    if let Some(below) = info.full_backing_filename {
                        // The same file may be written in another way there.
                        let wanted = canonical(&below);
                        let known = disk.files().find(|known| canonical(known) == wanted).cloned();
                        parents.0.insert(file.clone(), known.unwrap_or(below));
                    }
                }
                Err(BackendError { cause: Cause::FileNotFound(_), .. }) if !file.exists() && !disk.is_used(file) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(parents)
    }
}

/// Forces to disk what anybody wrote to a file.
pub(super) fn sync_file(step: &'static str, path: &Path) -> Result<(), BackendError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| BackendError::io(step, path, error))
}
