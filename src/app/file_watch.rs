//! Notices that files were written or replaced.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What changes when a file is written or replaced. `None` stands for a file that is not there.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

/// Files that belong together, such as a certificate and its key.
#[derive(Debug)]
pub(super) struct FileWatch {
    files: Vec<PathBuf>,
    known: Vec<Stamp>,
    /// What was seen at the last look, if it was something new.
    unsettled: Option<Vec<Stamp>>,
}

impl FileWatch {
    /// Watches files from now on.
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        let known = stamps(&files);
        Self { files, known, unsettled: None }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Looks at them. True once after a change, as soon as two looks see the same: whoever replaces several files
    /// is given the time between two looks for it.
    pub(super) fn has_changed(&mut self) -> bool {
        let now = stamps(&self.files);
        if now == self.known {
            self.unsettled = None;
            return false;
        }
        if self.unsettled.as_ref() == Some(&now) {
            self.known = now;
            self.unsettled = None;
            return true;
        }
        self.unsettled = Some(now);
        false
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &Path| {
        let data = fs::metadata(path).ok()?;
        Some((data.dev(), data.ino(), data.mtime(), data.mtime_nsec(), data.size()))
    };
    files.iter().map(|path| stamp(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_when_it_is_over() {
        let directory = tempfile::TempDir::new().unwrap();
        let files: Vec<_> = ["a", "b"].iter().map(|name| directory.path().join(name)).collect();
        fs::write(&files[0], "1").unwrap();
        let mut watch = FileWatch::new(files.clone());
        assert!(!watch.is_empty() && !watch.has_changed());
        fs::write(&files[0], "22").unwrap();
        assert!(!watch.has_changed(), "the other one may follow");
        fs::write(&files[1], "2").unwrap();
        assert!(!watch.has_changed());
        assert!(watch.has_changed());
        assert!(!watch.has_changed());
        fs::remove_file(&files[0]).unwrap();
        assert!(!watch.has_changed());
        assert!(watch.has_changed());
    }
}
