//! `wsnapd conformance`.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use crate::app::{RandomIds, init_logging, runtime};
use crate::conformance::{Format, Profile, Report, Verdict, rows, run, write_report};

use super::args::{ConformanceArgs, ReportFormat};
use super::failure::Failure;
use super::output::say;
use super::remote::connection_options;

pub(super) fn conformance(args: ConformanceArgs) -> Result<(), Failure> {
    init_logging("warn");
    let known = rows();
    if let Some(unknown) = args.rules.iter().find(|id| !known.iter().any(|row| row.id.eq_ignore_ascii_case(id))) {
        return Err(Failure::not_found(format!("there is no row {unknown}; they are C001 to C{:03}", known.len())));
    }
    let profile = match &args.profile {
        Some(file) => Profile::load(file).map_err(|error| Failure::from_error(&error))?,
        None => Profile::demo(),
    };
    let options = connection_options(args.connection)?;
    let bar = bar(if args.rules.is_empty() { known.len() } else { args.rules.len() });
    let report = runtime()?.block_on(Box::pin(run(options, profile, Arc::new(RandomIds), &args.rules, |row| {
        bar.set_message(format!("{} {}", row.id, row.requirement));
        bar.inc(1);
    })));
    bar.finish_and_clear();
    finish(&report?, args.format)
}

/// A bar on a terminal, nothing elsewhere.
fn bar(length: usize) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(length).unwrap_or(u64::MAX));
    // A template that cannot be read leaves the bar as it is.
    if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos:>3}/{len} {wide_msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn finish(report: &Report, format: ReportFormat) -> Result<(), Failure> {
    let format = match format {
        ReportFormat::Table => Format::Table,
        ReportFormat::Json => Format::Json,
        ReportFormat::Junit => Format::Junit,
    };
    say(write_report(report, format).trim_end());
    match report.count(Verdict::Fail) {
        0 => Ok(()),
        1 => Err(Failure::failed("1 row fails")),
        count => Err(Failure::failed(format!("{count} rows fail"))),
    }
}
