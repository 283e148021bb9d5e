//! Printing. A reader that closed its end of the pipe is no error.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

use super::failure::Failure;

/// Prints a line on standard output.
pub(super) fn say(line: impl Display) {
    writeln!(stdout().lock(), "{line}").ok();
}

/// Prints a line on standard error.
pub(super) fn tell(line: impl Display) {
    writeln!(stderr().lock(), "{line}").ok();
}

/// Prints why a command failed.
pub(super) fn complain(failure: &Failure) {
    tell(format_args!("wsnapd: {failure}"));
}

/// Prints rows in columns as wide as they need to be, under upper case headings.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let heading = headings.get(column).map_or(0, |heading| heading.len());
        cells.chain([heading]).max().unwrap_or_default()
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        say(padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(&mut headings.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}
