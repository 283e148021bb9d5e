//! Small files that must survive a crash whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::super::BackendError;
use super::super::copy;

/// Replaces the content of a file: after a crash it is the old one or the new one.
///
/// # Errors
/// A [`BackendError`]; the file is as before then.
pub(super) fn write_durably(step: &'static str, path: &Path, content: &[u8]) -> Result<(), BackendError> {
    let failed = |error| BackendError::io(step, path, error);
    let next = path.with_extension("next");
    let mut file: File = copy::create_private(step, &next)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&next, path).map_err(failed)?;
    copy::sync_directory(step, path.parent().unwrap_or(Path::new("/")))
}

/// Gives a file or directory another name, durably.
///
/// # Errors
/// A [`BackendError`]; it has its old name then.
pub(super) fn rename_durably(step: &'static str, from: &Path, to: &Path) -> Result<(), BackendError> {
    fs::rename(from, to).map_err(|error| BackendError::io(step, from, error))?;
    copy::sync_directory(step, to.parent().unwrap_or(Path::new("/")))
}

/// Removes a directory of ours with all that is in it; one that is gone is no error.
///
/// # Errors
/// A [`BackendError`] when something is still there.
pub(super) fn remove_directory(step: &'static str, path: &Path) -> Result<(), BackendError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(BackendError::io(step, path, error)),
        _ => Ok(()),
    }
}
