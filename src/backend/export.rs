//! Writing snapshots to a directory that a user chose, for every back-end alike.
//!
//! The directory must lie below one the configuration allows. It is filled under a name of our own beside its place,
//! and gets its name by one rename when it is complete and on disk, so that nobody ever sees half of it. That rename
//! replaces nothing but an empty directory.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::copy::{self, on_thread};
use super::{
    BackendError, Cause, DiskFormat, DiskImage, JournalStep, Recovery, StagedFile, StepControl, TrackedDisk,
    TrackingRequest,
};
use crate::time::Guid;

const STEP: &str = "export the snapshot";
const PREFIX: &str = ".wsnapd-";
const SUFFIX: &str = ".export";
/// The group of the directory the export goes to may read it, nobody else.
const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// Snapshots to be written to a new directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportRequest {
    /// The job; the name of the unfinished directory carries it.
    pub operation: Guid,
    /// The directories below which exports may lie.
    pub allowed: Vec<PathBuf>,
    /// The directory to be made. Its parent must exist, and it must not exist or be empty.
    pub directory: PathBuf,
    /// What goes into it.
    pub members: Vec<ExportMember>,
}

/// One snapshot of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportMember {
    /// The machine.
    pub machine: Guid,
    /// The snapshot.
    pub snapshot: Guid,
    /// The directory below that of the export; without one the files lie directly in it.
    pub subdirectory: Option<String>,
    /// The disks to be written.
    pub disks: Vec<DiskImage>,
    /// The memory to be written.
    pub memory: Option<PathBuf>,
    /// The tracking that began with the snapshot.
    pub tracking: Vec<TrackedDisk>,
    /// Only what changed from this instant to the snapshot is wanted, of the disks tracked since.
    pub base: Option<TrackingRequest>,
    /// The description of machine and snapshot: JSON for the file [`ExportMember::CONFIGURATION`].
    pub configuration: String,
}

impl ExportMember {
    /// The name of the file that describes machine and snapshot.
    pub const CONFIGURATION: &'static str = "machine.json";
    /// The name of the file with the memory.
    pub const MEMORY: &'static str = "memory.bin";

    /// The name of the file with a disk.
    #[must_use]
    pub fn disk_file(disk: &DiskImage) -> String {
        let extension = match disk.format {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        };
        format!("{}.{extension}", disk.disk)
    }

    /// The name of the file that says which parts of a disk are in a differential export ([`ChangedParts`]).
    #[must_use]
    pub fn changes_file(disk: &DiskImage) -> String {
        format!("{}.changed.json", disk.disk)
    }
}

/// Which parts of a disk changed; the file with the disk holds these at their places and nothing between them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChangedParts {
    /// Length of the disk in bytes.
    pub length: u64,
    /// Offset and length in bytes of each part, in rising order.
    pub extents: Vec<(u64, u64)>,
}

/// An export on its way: a directory of our own beside the place it is for.
#[derive(Debug)]
pub(super) struct Staging {
    staged: PathBuf,
    target: PathBuf,
}

impl Staging {
    /// Checks the place, stores what is about to be made, and makes the directories with their descriptions.
    pub(super) async fn begin(request: &ExportRequest, control: &StepControl) -> Result<Self, BackendError> {
        let cancelled = |_| BackendError::new(STEP, Cause::Cancelled);
        let wanted = request.clone();
        let staging = on_thread(STEP, control.cancelled(), move |_| Self::plan(&wanted)).await?;
        control.record(JournalStep::Planned { files: vec![staging.staged.clone()] }).await.map_err(cancelled)?;
        let (request, staged) = (request.clone(), staging.staged.clone());
        match on_thread(STEP, control.cancelled(), move |_| make_directories(&request, &staged)).await {
            Ok(()) => Ok(staging),
            Err(error) => staging.give_up(error).await,
        }
    }

    /// Where the files of a member go.
    pub(super) fn directory_of(&self, member: &ExportMember) -> PathBuf {
        place_of(&self.staged, member)
    }

    /// Gives the directory its name when it was filled, else removes it.
    pub(super) async fn finish(
        self,
        filled: Result<(), BackendError>,
        control: &StepControl,
    ) -> Result<(), BackendError> {
        if let Err(error) = filled {
            return self.give_up(error).await;
        }
        let staged = self.staged.clone();
        let file = match on_thread(STEP, control.cancelled(), move |_| settle(&staged)).await {
            Ok(inode) => {
                StagedFile { staged: self.staged.clone(), target: self.target.clone(), inode: Some(inode), new: true }
            }
            Err(error) => return self.give_up(error).await,
        };
        if control.record(JournalStep::Staged { files: vec![file] }).await.is_err() {
            return self.give_up(BackendError::new(STEP, Cause::Cancelled)).await;
        }
        let (staged, target) = (self.staged.clone(), self.target.clone());
        match on_thread(STEP, &CancellationToken::new(), move |_| publish(&staged, &target)).await {
            Ok(()) => Ok(()),
            Err(error) => self.give_up(error).await,
        }
    }

    /// Removes what was made and answers the error that made it necessary.
    async fn give_up<T>(self, error: BackendError) -> Result<T, BackendError> {
        on_thread(STEP, &CancellationToken::new(), move |_| discard(&self.staged)).await?;
        Err(error)
    }

    fn plan(request: &ExportRequest) -> Result<Self, BackendError> {
        for member in &request.members {
            let names = member.disks.iter().map(|disk| disk.disk.as_str()).chain(member.subdirectory.as_deref());
            if let Some(name) = names.into_iter().find(|name| !is_file_name(name)) {
                return Err(refused(format!("{name:?} cannot be the name of a file")));
            }
        }
        let wanted = &request.directory;
        let plain = wanted.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let (Some(parent), Some(name), true) = (wanted.parent(), wanted.file_name(), wanted.is_absolute() && plain)
        else {
            return Err(refused(format!("{} is not an absolute path without dots", wanted.display())));
        };
        let parent = fs::canonicalize(parent).map_err(|error| BackendError::io(STEP, parent, error))?;
        // A directory that is allowed but does not exist allows nothing.
        let mut allowed = request.allowed.iter().filter_map(|allowed| fs::canonicalize(allowed).ok());
        if !allowed.any(|allowed| parent.starts_with(&allowed)) {
            return Err(refused(format!("{} does not lie below a directory that is allowed", wanted.display())));
        }
        let target = parent.join(name);
        check_free(&target)?;
        let staged = parent.join(format!("{PREFIX}{}{SUFFIX}", request.operation));
        Ok(Self { staged, target })
    }
}

fn refused(text: String) -> BackendError {
    BackendError::new("choose the export directory", Cause::NotAllowed(text))
}

/// Whether a text names one thing in one directory, and nothing of ours.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && name.len() <= 200 && !name.contains(['/', '\0'])
}

fn place_of(staged: &Path, member: &ExportMember) -> PathBuf {
    match &member.subdirectory {
        Some(name) => staged.join(name),
        None => staged.to_path_buf(),
    }
}

/// Fails if something but an empty directory has the name.
fn check_free(target: &Path) -> Result<(), BackendError> {
    let metadata = match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| BackendError::io(STEP, target, error))?,
    };
    let empty = metadata.is_dir()
        && fs::read_dir(target).map_err(|error| BackendError::io(STEP, target, error))?.next().is_none();
    if empty { Ok(()) } else { Err(refused(format!("{} exists and is not empty", target.display()))) }
}

fn make_directories(request: &ExportRequest, staged: &Path) -> Result<(), BackendError> {
    let make = |path: &Path| {
        DirBuilder::new().mode(DIRECTORY_MODE).create(path).map_err(|error| BackendError::io(STEP, path, error))
    };
    make(staged)?;
    for member in &request.members {
        let directory = place_of(staged, member);
        if directory != staged {
            make(&directory)?;
        }
        write_file(&directory.join(ExportMember::CONFIGURATION), member.configuration.as_bytes())?;
    }
    Ok(())
}

/// Makes a file of an export, which must not exist.
pub(super) fn create_file(path: &Path) -> Result<File, BackendError> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(|error| BackendError::io(STEP, path, error))
}

/// Makes a file of an export with this content, and forces it to disk.
pub(super) fn write_file(path: &Path, content: &[u8]) -> Result<(), BackendError> {
    let mut file = create_file(path)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|error| BackendError::io(STEP, path, error))
}

/// Forces the names in the directory to disk and answers what tells it from any other.
fn settle(staged: &Path) -> Result<u64, BackendError> {
    for entry in fs::read_dir(staged).map_err(|error| BackendError::io(STEP, staged, error))? {
        let path = entry.map_err(|error| BackendError::io(STEP, staged, error))?.path();
        if path.is_dir() {
            copy::sync_directory(STEP, &path)?;
        }
    }
    copy::sync_directory(STEP, staged)?;
    fs::metadata(staged).map(|metadata| metadata.ino()).map_err(|error| BackendError::io(STEP, staged, error))
}

fn publish(staged: &Path, target: &Path) -> Result<(), BackendError> {
    fs::rename(staged, target).map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            refused(format!("{} has come into being meanwhile", target.display()))
        }
        _ => BackendError::io(STEP, target, error),
    })?;
    copy::sync_directory(STEP, target.parent().unwrap_or(Path::new("/")))
}

/// True for `.wsnapd-<GUID>.export`.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let middle = name.and_then(|name| name.strip_prefix(PREFIX)).and_then(|name| name.strip_suffix(SUFFIX));
    middle.is_some_and(|id| id.parse::<Guid>().is_ok())
}

/// Removes an unfinished export; one that is gone is no error.
fn discard(staged: &Path) -> Result<(), BackendError> {
    const REMOVE: &str = "remove the unfinished export";
    if !is_ours(staged) {
        return Ok(());
    }
    match fs::remove_dir_all(staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackendError::io(REMOVE, staged, error)),
        _ => Ok(()),
    }
}

/// Finishes an export that was complete, or removes what there is of it.
pub(super) async fn recover(journal: &[JournalStep]) -> Result<Recovery, BackendError> {
    let journal = journal.to_vec();
    on_thread("recover", &CancellationToken::new(), move |_| recover_blocking(&journal)).await
}

fn recover_blocking(journal: &[JournalStep]) -> Result<Recovery, BackendError> {
    for step in journal {
        let JournalStep::Staged { files } = step else { continue };
        for file in files.iter().filter(|file| is_ours(&file.staged)) {
            let published = fs::symlink_metadata(&file.target).is_ok_and(|found| Some(found.ino()) == file.inode);
            if published || publish(&file.staged, &file.target).is_ok() {
                return Ok(Recovery::Finished(Vec::new()));
            }
        }
    }
    for step in journal {
        let JournalStep::Planned { files } = step else { continue };
        for file in files {
            discard(file)?;
        }
    }
    Ok(Recovery::RolledBack)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(allowed: &Path, directory: PathBuf) -> ExportRequest {
        let operation = Guid::from_uuid(uuid::Uuid::from_u128(7));
        let member = ExportMember {
            machine: operation,
            snapshot: operation,
            subdirectory: Some("web01".to_owned()),
            disks: Vec::new(),
            memory: None,
            tracking: Vec::new(),
            base: None,
            configuration: "{}".to_owned(),
        };
        ExportRequest { operation, allowed: vec![allowed.to_path_buf()], directory, members: vec![member] }
    }

    #[test]
    fn only_free_places_below_an_allowed_directory_are_taken() {
        let site = tempfile::tempdir().unwrap();
        let (allowed, outside) = (site.path().join("allowed"), site.path().join("outside"));
        fs::create_dir_all(allowed.join("deep")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::create_dir(allowed.join("empty")).unwrap();
        fs::create_dir(allowed.join("full")).unwrap();
        fs::write(allowed.join("full/file"), "x").unwrap();
        fs::write(allowed.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, allowed.join("way-out")).unwrap();
        std::os::unix::fs::symlink(allowed.join("empty"), allowed.join("link")).unwrap();
        for (directory, fine) in [
            (allowed.join("new"), true),
            (allowed.join("deep/new"), true),
            (allowed.join("empty"), true),
            (allowed.clone(), false),
            (allowed.join("full"), false),
            (allowed.join("file"), false),
            (allowed.join("link"), false),
            (allowed.join("way-out/new"), false),
            (allowed.join("../outside/new"), false),
            (allowed.join("not-there/new"), false),
            (outside.join("new"), false),
            (PathBuf::from("allowed/new"), false),
            (PathBuf::from("/"), false),
        ] {
            let planned = Staging::plan(&request(&allowed, directory.clone()));
            assert_eq!(planned.is_ok(), fine, "{}: {planned:?}", directory.display());
        }
        let mut named = request(&allowed, allowed.join("new"));
        named.members[0].subdirectory = Some("../web01".to_owned());
        assert!(Staging::plan(&named).is_err());
    }

    #[tokio::test]
    async fn recovery_finishes_what_was_complete_and_removes_the_rest() {
        let site = tempfile::tempdir().unwrap();
        let allowed = site.path().join("allowed");
        fs::create_dir(&allowed).unwrap();
        let request = request(&allowed, allowed.join("new"));
        let planned = |staging: &Staging| JournalStep::Planned { files: vec![staging.staged.clone()] };
        let staging = Staging::begin(&request, &StepControl::detached()).await.unwrap();
        assert_eq!(recover(&[planned(&staging)]).await.unwrap(), Recovery::RolledBack);
        assert_eq!(fs::read_dir(&allowed).unwrap().count(), 0);
        let staging = Staging::begin(&request, &StepControl::detached()).await.unwrap();
        let file = StagedFile {
            staged: staging.staged.clone(),
            target: staging.target.clone(),
            inode: Some(settle(&staging.staged).unwrap()),
            new: true,
        };
        let journal = [planned(&staging), JournalStep::Staged { files: vec![file] }];
        for _ in 0..2 {
            assert_eq!(recover(&journal).await.unwrap(), Recovery::Finished(Vec::new()));
            assert!(allowed.join("new/web01/machine.json").is_file());
        }
        // What somebody else has put there in the meantime stays.
        fs::rename(allowed.join("new"), &staging.staged).unwrap();
        fs::create_dir(allowed.join("new")).unwrap();
        fs::write(allowed.join("new/theirs"), "x").unwrap();
        assert_eq!(recover(&journal).await.unwrap(), Recovery::RolledBack);
        assert!(allowed.join("new/theirs").is_file() && !staging.staged.exists());
    }
}
