//! The layers a raw disk lies in, and the file that says so.
//!
//! A raw disk cannot hold snapshots. Its snapshots are made by overlays: the file that was written to until then stands
//! still from the instant of the snapshot on, and a new qcow2 file above it takes the writes. The files of a disk form a
//! tree; the file of the definition is its root.
//!
//! `layers.json` of a machine says for each such disk which file is written to (the machine must be started with it),
//! which file each snapshot is, and which files are ours. It is replaced as a whole and forced to disk each time, so
//! that after a crash it is the old one or the new one. Which file lies above which is read from the files themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::{BackendError, Cause, DiskDefinition, DiskFormat};
use super::files::write_durably;
use crate::time::Guid;

/// Name of the file in the directory of a machine.
const FILE: &str = "layers.json";

/// A file with the content of a disk, alone or together with the files below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLayer {
    /// The file.
    pub file: PathBuf,
    /// Its layout.
    pub format: DiskFormat,
}

impl DiskLayer {
    /// The name QEMU has for the format.
    pub(super) const fn driver(&self) -> &'static str {
        match self.format {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        }
    }
}

/// A merge that was begun: what `top` holds goes down into `base`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Merge {
    pub(super) top: PathBuf,
    pub(super) base: PathBuf,
    /// Identity of the job in QEMU.
    pub(super) job: Guid,
}

/// The layers of one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DiskLayers {
    /// The file of the definition.
    pub(super) root: DiskLayer,
    /// The files above it, in the order in which they were made. All are ours, and qcow2.
    pub(super) overlays: Vec<PathBuf>,
    /// The file that is written to.
    pub(super) active: PathBuf,
    /// The file each snapshot is.
    pub(super) frozen: BTreeMap<Guid, PathBuf>,
    pub(super) merge: Option<Merge>,
    /// The file that was written to before a snapshot was applied, as long as that can be taken back.
    #[serde(default)]
    pub(super) before: Option<PathBuf>,
}

impl DiskLayers {
    /// A disk without snapshots.
    pub(super) fn new(disk: &DiskDefinition) -> Self {
        Self {
            root: DiskLayer { file: disk.path.clone(), format: disk.format },
            overlays: Vec::new(),
            active: disk.path.clone(),
            frozen: BTreeMap::new(),
            merge: None,
            before: None,
        }
    }

    /// A file with its layout.
    pub(super) fn layer(&self, file: &Path) -> DiskLayer {
        if file == self.root.file {
            return self.root.clone();
        }
        DiskLayer { file: file.to_path_buf(), format: DiskFormat::Qcow2 }
    }

    /// All files, the root first.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.root.file).chain(&self.overlays)
    }

    /// True when the machine or a snapshot is this file, or the machine was and may be again.
    pub(super) fn is_used(&self, file: &Path) -> bool {
        self.frozen.values().chain([&self.active]).chain(&self.before).any(|used| used == file)
    }

    /// Writes go to `file` from now on. It stands still for no snapshot then, and no merge is open around it.
    pub(super) fn set_active(&mut self, file: &Path) {
        self.active = file.to_path_buf();
        self.frozen.retain(|_, frozen| frozen != file);
        if self.merge.as_ref().is_some_and(|merge| merge.base == file) {
            self.merge = None;
        }
    }

    /// Everything `top` was is `base` from now on.
    pub(super) fn replace(&mut self, top: &Path, base: &Path) {
        for file in self.frozen.values_mut().chain([&mut self.active]).chain(&mut self.before) {
            if file == top {
                *file = base.to_path_buf();
            }
        }
        self.merge = None;
    }

    /// Nothing but the root is left.
    fn is_plain(&self) -> bool {
        self.overlays.is_empty() && self.frozen.is_empty() && self.merge.is_none()
    }
}

/// The layers of all disks of a machine that have any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct MachineLayers {
    pub(super) disks: BTreeMap<String, DiskLayers>,
}

impl MachineLayers {
    /// Reads the file; without one no disk has layers.
    ///
    /// # Errors
    /// A [`BackendError`] when it cannot be read. It is never taken for empty then.
    pub(super) fn load(directory: &Path) -> Result<Self, BackendError> {
        const STEP: &str = "read the layers of the disks";
        let path = directory.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| BackendError::new(STEP, Cause::Failed(format!("{}: {error}", path.display())))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(BackendError::io(STEP, &path, error)),
        }
    }

    /// Makes this the truth, durably. Blocks until it is on the disk, which takes milliseconds.
    ///
    /// # Errors
    /// A [`BackendError`]; the file is as before then, or already as it should be.
    pub(super) fn store(&mut self, directory: &Path) -> Result<(), BackendError> {
        const STEP: &str = "write down the layers of the disks";
        self.disks.retain(|_, disk| !disk.is_plain());
        let text =
            serde_json::to_vec(self).map_err(|error| BackendError::new(STEP, Cause::Failed(error.to_string())))?;
        write_durably(STEP, &directory.join(FILE), &text)
    }

    /// The layers of a disk, new ones if it has none.
    ///
    /// # Errors
    /// [`Cause::NotSupported`] when the disk was defined with another file when its first layer was made.
    pub(super) fn of(&mut self, disk: &DiskDefinition) -> Result<&mut DiskLayers, BackendError> {
        let layers = self.disks.entry(disk.name.clone()).or_insert_with(|| DiskLayers::new(disk));
        if layers.root.file == disk.path {
            return Ok(layers);
        }
        let text = format!("its snapshots lie above {}, not above {}", layers.root.file.display(), disk.path.display());
        Err(BackendError::new("find the layers of the disk", Cause::NotSupported(text)).on_disk(&disk.name))
    }
}

/// Which file lies directly on which.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Parents(pub(super) BTreeMap<PathBuf, PathBuf>);

impl Parents {
    /// The files directly above this one.
    pub(super) fn children<'a>(&'a self, file: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        self.0.iter().filter(move |(_, parent)| *parent == file).map(|(child, _)| child)
    }

    /// A file and everything below it.
    pub(super) fn chain(&self, file: &Path) -> BTreeSet<PathBuf> {
        let mut chain = BTreeSet::new();
        let mut next = Some(&file.to_path_buf()).cloned();
        while let Some(file) = next {
            next = self.0.get(&file).filter(|parent| !chain.contains(*parent)).cloned();
            chain.insert(file);
        }
        chain
    }

    /// An overlay nobody needs: no snapshot, not written to, nothing above it.
    pub(super) fn superfluous<'a>(&self, disk: &'a DiskLayers) -> Option<&'a PathBuf> {
        disk.overlays.iter().find(|file| !disk.is_used(file) && self.children(file).next().is_none())
    }

    /// A file that is needed only for what lies directly above it, and that one file: `(top, base)`.
    pub(super) fn mergeable(&self, disk: &DiskLayers) -> Option<(PathBuf, PathBuf)> {
        disk.files().find_map(|base| {
            let mut children = self.children(base);
            let only = children.next().filter(|_| children.next().is_none() && !disk.is_used(base))?;
            Some((only.clone(), base.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (DiskLayers, Parents) {
        let disk = DiskDefinition {
            name: "data".to_owned(),
            path: "/d/raw".into(),
            format: DiskFormat::Raw,
            read_only: false,
            pass_through: false,
        };
        let mut layers = DiskLayers::new(&disk);
        layers.overlays = ["/o/1", "/o/2", "/o/3"].map(PathBuf::from).to_vec();
        let parents = [("/o/1", "/d/raw"), ("/o/2", "/o/1"), ("/o/3", "/d/raw")];
        (layers, Parents(parents.map(|(child, parent)| (child.into(), parent.into())).into()))
    }

    fn id(number: u128) -> Guid {
        Guid::from_uuid(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn what_nobody_needs_is_found_and_what_somebody_needs_is_not() {
        let (mut disk, parents) = tree();
        disk.set_active(Path::new("/o/3"));
        disk.frozen.insert(id(2), "/o/1".into());
        assert_eq!(parents.superfluous(&disk), Some(&PathBuf::from("/o/2")));
        // The root has two files above it, and the other one is a snapshot.
        assert_eq!(parents.mergeable(&disk), None);
        disk.frozen.clear();
        disk.frozen.insert(id(3), "/o/2".into());
        assert_eq!(parents.superfluous(&disk), None);
        assert_eq!(parents.mergeable(&disk), Some(("/o/2".into(), "/o/1".into())));
        assert_eq!(parents.chain(Path::new("/o/2")).len(), 3);
    }

    #[test]
    fn a_file_that_is_written_to_is_no_snapshot() {
        let (mut disk, _) = tree();
        disk.frozen.insert(id(1), "/d/raw".into());
        disk.set_active(Path::new("/o/1"));
        disk.merge = Some(Merge { top: "/o/1".into(), base: "/d/raw".into(), job: id(9) });
        disk.set_active(Path::new("/d/raw"));
        assert_eq!((disk.frozen.len(), disk.merge), (0, None));
    }

    #[test]
    fn the_file_is_read_as_it_was_written_and_a_broken_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(MachineLayers::load(directory.path()).unwrap(), MachineLayers::default());
        let (disk, _) = tree();
        let mut layers = MachineLayers { disks: BTreeMap::from([("data".to_owned(), disk)]) };
        layers.store(directory.path()).unwrap();
        assert_eq!(MachineLayers::load(directory.path()).unwrap(), layers);
        fs::write(directory.path().join(FILE), "{").unwrap();
        assert!(MachineLayers::load(directory.path()).is_err());
    }
}
