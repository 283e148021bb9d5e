//! What is wrong with a MOF source, told so that a person finds the place.

use std::fmt;

/// Diagnostics beyond this number are counted but not kept: nobody reads further, and a hostile
/// source must not fill the memory.
const MAX_KEPT: usize = 200;
/// The longest piece of a source line that is shown.
const MAX_SHOWN: usize = 160;

/// A stretch of bytes in one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }
}

/// A finding that does not know its file yet.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) expected: String,
}

impl Problem {
    pub(super) fn new(span: Span, message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { span, message: message.into(), expected: expected.into() }
    }
}

/// Adds a problem, unless there are so many that the text is hostile.
pub(super) fn note(problems: &mut Vec<Problem>, problem: Problem) {
    const MOST: usize = 1000;
    if problems.len() < MOST {
        problems.push(problem);
    }
}

/// One finding: where it is, what is wrong and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Name of the source.
    pub file: String,
    /// Line, counted from one.
    pub line: usize,
    /// Column in characters, counted from one.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What was expected, shown behind the caret; may be empty.
    pub expected: String,
    source_line: String,
    caret_offset: usize,
    caret_length: usize,
}

impl Diagnostic {
    pub(super) fn locate(file: &str, text: &str, problem: &Problem) -> Self {
        let start = floor_boundary(text, problem.span.start);
        let end = floor_boundary(text, problem.span.end).max(start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = text.get(line_start..).unwrap_or_default();
        let source = rest.lines().next().unwrap_or_default();
        let column = text.get(line_start..start).unwrap_or_default().chars().count();
        let length = text.get(start..end).unwrap_or_default().lines().next().unwrap_or_default().chars().count().max(1);
        // A line of a machine-made file may be endless: show the part around the caret.
        let is_long = source.chars().nth(MAX_SHOWN).is_some();
        let skipped = if is_long { column.saturating_sub(MAX_SHOWN / 2) } else { 0 };
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: column + 1,
            message: problem.message.clone(),
            expected: problem.expected.clone(),
            source_line: source.chars().skip(skipped).take(MAX_SHOWN).collect(),
            caret_offset: column - skipped,
            caret_length: length.min(MAX_SHOWN.saturating_sub(column - skipped)).max(1),
        }
    }
}

/// The nearest character boundary at or before `index`.
fn floor_boundary(text: &str, index: usize) -> usize {
    (0..=index.min(text.len())).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0)
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // The padding repeats tabs, so the caret stands below its character in any tab width.
        let padding: String =
            self.source_line.chars().take(self.caret_offset).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let missing = self.caret_offset.saturating_sub(padding.chars().count());
        writeln!(f, "error: {}", self.message)?;
        writeln!(f, "{gutter}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", self.source_line)?;
        let caret = format!("{padding}{}{}", " ".repeat(missing), "^".repeat(self.caret_length));
        let separator = if self.expected.is_empty() { "" } else { " " };
        writeln!(f, "{gutter} | {caret}{separator}{}", self.expected)
    }
}

/// Everything that is wrong with a set of sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render())]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    dropped: usize,
}

impl Diagnostics {
    pub(super) fn push(&mut self, file: &str, text: &str, problem: &Problem) {
        if self.list.len() < MAX_KEPT {
            self.list.push(Diagnostic::locate(file, text, problem));
        } else {
            self.dropped += 1;
        }
    }

    /// Puts the findings into the order of their places; files in the order given.
    pub(super) fn sort(&mut self, files: &[&str]) {
        let position = |file: &str| files.iter().position(|known| *known == file);
        self.list.sort_by_cached_key(|found| (position(&found.file), found.line, found.column));
    }

    /// The findings, by file and place.
    #[must_use]
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many findings there are, those beyond the kept ones included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len() + self.dropped
    }

    /// All findings as text, each with its source line, and the count at the end; empty when there are none.
    #[must_use]
    pub fn render(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let plural = if self.count() == 1 { "" } else { "s" };
        let mut parts: Vec<String> = self.list.iter().map(ToString::to_string).collect();
        parts.push(format!("{} error{plural}\n", self.count()));
        parts.join("\n")
    }
}
