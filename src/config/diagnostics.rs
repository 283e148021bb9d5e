//! What is wrong with a configuration.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One mistake and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file.
    pub file: PathBuf,
    /// Line and column, counted from 1; `None` when the file as a whole is meant.
    pub position: Option<(usize, usize)>,
    /// What is wrong and, where it is not plain, what would be right.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.lines())]
pub struct ConfigError(pub Vec<Diagnostic>);

impl ConfigError {
    fn lines(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

/// Collects the mistakes of one file.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    file: &'a Path,
    text: &'a str,
    found: &'a mut Vec<Diagnostic>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str, found: &'a mut Vec<Diagnostic>) -> Self {
        Self { file, text, found }
    }

    pub(super) fn report(&mut self, span: Option<Range<usize>>, message: impl Into<String>) {
        let position = span.map(|span| {
            let before = self.text.get(..span.start).unwrap_or(self.text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
            (before.matches('\n').count() + 1, column)
        });
        self.found.push(Diagnostic { file: self.file.to_owned(), position, message: message.into() });
    }

    /// The directory that relative paths of the file start from.
    pub(super) fn directory(&self) -> &'a Path {
        self.file.parent().unwrap_or_else(|| Path::new("."))
    }
}
