//! Complete copies take the places of disks: of all, or of none.
//!
//! A copy and its disk change places by one exchanging rename, so that the old disks stay until all copies are in
//! place, and go back when one cannot be. After a crash the inode of each copy tells how far it came. On a filesystem
//! that cannot exchange, a copy is renamed over its disk, and from then on there is no way back.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use tracing::warn;

use super::copy;
use super::{BackendError, Cause, Recovery, StagedFile};

const STEP: &str = "replace the disk";

/// One rename, by the system or by a test that lets it fail.
pub(super) type Rename<'r> = &'r dyn Fn(RenameFlags, &Path, &Path) -> rustix::io::Result<()>;

/// A call that came too late to be waited for may still be at it when its recovery begins.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// As the system renames.
pub(super) fn rename(flags: RenameFlags, from: &Path, to: &Path) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, flags)
}

/// Puts every copy into the place of its disk, or fails and leaves every disk as it was.
pub(super) fn replace(files: &[StagedFile], rename: Rename<'_>) -> Result<(), BackendError> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    match forward(files, rename) {
        Ok(()) => remove_rest(files),
        Err(error) => {
            undo(files, &error, rename)?;
            return Err(error);
        }
    }
    Ok(())
}

/// Finishes an interrupted replacement; undoes it when it cannot be finished.
pub(super) fn recover(files: &[StagedFile], rename: Rename<'_>) -> Result<Recovery, BackendError> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    match forward(files, rename) {
        Ok(()) => {
            remove_rest(files);
            Ok(Recovery::Finished(Vec::new()))
        }
        Err(error) => {
            warn!(%error, "A replacement cannot be finished");
            undo(files, &error, rename)?;
            Ok(Recovery::RolledBack)
        }
    }
}

/// Removes files; those that are gone are no error.
pub(super) fn remove(step: &'static str, files: &[PathBuf]) -> Result<(), BackendError> {
    files.iter().try_for_each(|file| copy::remove_file(step, file))
}

/// The old disks go. Where that fails the replacement is done all the same, and the next start removes them.
fn remove_rest(files: &[StagedFile]) {
    for file in files {
        if let Err(error) = copy::remove_file("remove the old disk", &file.staged) {
            warn!(%error, file = %file.staged.display(), "A replaced disk cannot be removed yet");
        }
    }
}

fn forward(files: &[StagedFile], rename: Rename<'_>) -> Result<(), BackendError> {
    for file in files.iter().filter(|file| !is_in_place(file)) {
        put(file, rename).map_err(|error| BackendError::io(STEP, &file.target, error.into()))?;
    }
    sync(files)
}

/// Puts the disks back, and removes the copies.
fn undo(files: &[StagedFile], because: &BackendError, rename: Rename<'_>) -> Result<(), BackendError> {
    if let Some(file) = files.iter().find(|file| is_in_place(file) && !file.new && !file.staged.exists()) {
        let text =
            format!("{because}; {} is replaced already, and its filesystem keeps no way back", file.target.display());
        return Err(BackendError::new(STEP, Cause::Failed(text)));
    }
    for file in files.iter().rev().filter(|file| is_in_place(file)) {
        let back = if file.new {
            rename(RenameFlags::NOREPLACE, &file.target, &file.staged)
        } else {
            rename(RenameFlags::EXCHANGE, &file.staged, &file.target)
        };
        back.map_err(|error| {
            let text = format!("{because}; {} could not be put back: {error}", file.target.display());
            BackendError::new("put the disk back", Cause::Failed(text))
        })?;
    }
    sync(files)?;
    let copies: Vec<PathBuf> = files.iter().map(|file| file.staged.clone()).collect();
    remove("remove the unused copy", &copies)
}

fn sync(files: &[StagedFile]) -> Result<(), BackendError> {
    let directories: BTreeSet<&Path> = files.iter().filter_map(|file| file.target.parent()).collect();
    directories.into_iter().try_for_each(|directory| copy::sync_directory(STEP, directory))
}

/// True when the copy has the name of the disk. A journal of an earlier version names no inode and knows no exchange.
fn is_in_place(file: &StagedFile) -> bool {
    match file.inode {
        Some(inode) => fs::metadata(&file.target).is_ok_and(|metadata| metadata.ino() == inode),
        None => !file.staged.exists() && file.target.exists(),
    }
}

fn put(file: &StagedFile, rename: Rename<'_>) -> rustix::io::Result<()> {
    if file.inode.is_some() && !file.new {
        match rename(RenameFlags::EXCHANGE, &file.staged, &file.target) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(Errno::NOENT) if !file.target.exists() => {}
            done => return done,
        }
    }
    rename(RenameFlags::empty(), &file.staged, &file.target)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Three disks, the last of which is not there yet, and their copies.
    fn stage(directory: &Path) -> Vec<StagedFile> {
        let file = |number: usize| {
            let (staged, target) =
                (directory.join(format!("{number}.staged")), directory.join(format!("{number}.img")));
            fs::write(&staged, "new").unwrap();
            let new = number == 2;
            if !new {
                fs::write(&target, "old").unwrap();
            }
            let inode = Some(fs::metadata(&staged).unwrap().ino());
            StagedFile { staged, target, inode, new }
        };
        (0..3).map(file).collect()
    }

    /// What each disk holds, and how many files there are.
    fn look(directory: &Path) -> (Vec<String>, usize) {
        let read = |number| fs::read_to_string(directory.join(format!("{number}.img"))).unwrap_or_default();
        ((0..3).map(read).collect(), fs::read_dir(directory).unwrap().count())
    }

    fn all_new() -> (Vec<String>, usize) {
        (vec!["new".to_owned(), "new".to_owned(), "new".to_owned()], 3)
    }

    fn all_old() -> (Vec<String>, usize) {
        (vec!["old".to_owned(), "old".to_owned(), String::new()], 2)
    }

    #[test]
    fn a_rename_that_fails_leaves_every_disk_as_it_was() {
        for failing in 0..4 {
            let directory = tempfile::tempdir().unwrap();
            let files = stage(directory.path());
            let calls = Cell::new(0);
            let result = replace(&files, &|flags, from, to| {
                let call = calls.replace(calls.get() + 1);
                if call == failing { Err(Errno::IO) } else { rename(flags, from, to) }
            });
            let expected = if failing < 3 { all_old() } else { all_new() };
            assert_eq!(look(directory.path()), expected, "rename {failing} fails");
            assert_eq!(result.is_ok(), failing == 3, "rename {failing} fails: {result:?}");
        }
    }

    #[test]
    fn death_at_any_instant_leaves_all_or_none() {
        // So many renames forward, then so many back, then so many copies removed; then the process is gone.
        for (forth, back, removed) in [
            (0, 0, 0),
            (1, 0, 0),
            (2, 0, 0),
            (3, 0, 0),
            (3, 0, 1),
            (3, 0, 2),
            (2, 1, 0),
            (2, 2, 0),
            (2, 2, 1),
            (2, 2, 3),
        ] {
            for broken in [false, true] {
                let directory = tempfile::tempdir().unwrap();
                let files = stage(directory.path());
                for file in files.iter().take(forth) {
                    put(file, &rename).unwrap();
                }
                for file in files.iter().take(forth).rev().take(back) {
                    rename(RenameFlags::EXCHANGE, &file.staged, &file.target).unwrap();
                }
                for file in files.iter().take(removed) {
                    fs::remove_file(&file.staged).unwrap();
                }
                // The system refuses the first rename after the start, or none.
                let refused = Cell::new(broken);
                let found = recover(&files, &|flags, from, to| {
                    if refused.replace(false) { Err(Errno::IO) } else { rename(flags, from, to) }
                });
                let case = format!("{forth} {back} {removed} {broken}");
                let expected = match found.expect(&case) {
                    Recovery::Finished(_) => all_new(),
                    Recovery::RolledBack => all_old(),
                };
                assert_eq!(look(directory.path()), expected, "{case}");
                if !broken && back == 0 {
                    assert_eq!(expected, all_new(), "{case}");
                }
                // Once more changes nothing.
                let again = recover(&files, &rename).expect(&case);
                assert_eq!(matches!(again, Recovery::Finished(_)), expected == all_new(), "{case}");
                assert_eq!(look(directory.path()), expected, "{case}");
            }
        }
    }

    #[test]
    fn without_exchange_the_renames_go_forward_and_the_error_says_how_far() {
        let no_exchange = |flags: RenameFlags, from: &Path, to: &Path| {
            if flags == RenameFlags::EXCHANGE { Err(Errno::INVAL) } else { rename(flags, from, to) }
        };
        let directory = tempfile::tempdir().unwrap();
        replace(&stage(directory.path()), &no_exchange).unwrap();
        assert_eq!(look(directory.path()), all_new());

        let directory = tempfile::tempdir().unwrap();
        let files = stage(directory.path());
        let second = files[1].staged.clone();
        let failing = |flags, from: &Path, to: &Path| {
            if from == second { Err(Errno::INVAL) } else { no_exchange(flags, from, to) }
        };
        let error = replace(&files, &failing).unwrap_err().to_string();
        assert!(error.contains("0.img is replaced already"), "{error}");
        // The journal is still there after a crash, and the rest follows.
        assert_eq!(recover(&files, &no_exchange).unwrap(), Recovery::Finished(Vec::new()));
        assert_eq!(look(directory.path()), all_new());
    }
}
