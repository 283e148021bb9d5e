//! Showing a report: as a table, as JSON, in the XML of `JUnit`.

use std::fmt::Write as _;

use serde::Serialize;

use crate::xml::Writer;

use super::row::{Finding, Verdict};
use super::run::Report;

/// The forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line a row, and what was exchanged for those that failed.
    Table,
    /// Everything, for programs.
    Json,
    /// The XML of `JUnit`, for build servers.
    Junit,
}

/// The longest message a table shows, in characters.
const SHOWN: usize = 1200;

/// Writes a report.
#[must_use]
pub fn write_report(report: &Report, format: Format) -> String {
    match format {
        Format::Table => table(report),
        Format::Json => json(report),
        Format::Junit => junit(report),
    }
}

fn table(report: &Report) -> String {
    // Writing to a String cannot fail.
    let mut out = String::new();
    for finding in &report.findings {
        let mut line =
            format!("{}  {:<14}  {:<14}  {}", finding.id, finding.result.words(), finding.rule, finding.requirement);
        if let Some(reason) = &finding.reason {
            line.push_str("\n                                      ");
            line.push_str(reason);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    for finding in report.findings.iter().filter(|finding| finding.result == Verdict::Fail) {
        let _ = writeln!(out, "\n{} {}", finding.id, finding.requirement);
        if let Some(last) = finding.exchanges.last() {
            for (title, text) in [("sent", &last.sent), ("expected", &last.expected), ("came", &last.came)] {
                let _ = writeln!(out, "-- {title}\n{}", start(text));
            }
        }
    }
    for left in &report.left_behind {
        let _ = writeln!(out, "\nleft behind: {left}");
    }
    out.push('\n');
    out.push_str(&summary(report));
    out.push('\n');
    out
}

/// The last line: how many rows ended how.
fn summary(report: &Report) -> String {
    let milliseconds: u64 = report.findings.iter().map(|finding| finding.milliseconds).sum();
    format!(
        "{} rows: {} pass, {} fail, {} not offered, {} not applicable; {}.{:03} s; {}",
        report.findings.len(),
        report.count(Verdict::Pass),
        report.count(Verdict::Fail),
        report.count(Verdict::NotOffered),
        report.count(Verdict::NotApplicable),
        milliseconds / 1000,
        milliseconds % 1000,
        report.url
    )
}

fn start(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[derive(Serialize)]
struct JsonReport<'r> {
    url: &'r str,
    pass: usize,
    fail: usize,
    not_offered: usize,
    not_applicable: usize,
    left_behind: &'r [String],
    rows: &'r [Finding],
}

fn json(report: &Report) -> String {
    let whole = JsonReport {
        url: &report.url,
        pass: report.count(Verdict::Pass),
        fail: report.count(Verdict::Fail),
        not_offered: report.count(Verdict::NotOffered),
        not_applicable: report.count(Verdict::NotApplicable),
        left_behind: &report.left_behind,
        rows: &report.findings,
    };
    // Texts and numbers only: there is nothing that cannot be written.
    serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"
}

fn junit(report: &Report) -> String {
    let mut w = Writer::from_string("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned());
    let (fails, skips) = (
        report.count(Verdict::Fail).to_string(),
        (report.count(Verdict::NotOffered) + report.count(Verdict::NotApplicable)).to_string(),
    );
    let count = report.findings.len().to_string();
    let attributes = [("name", report.url.as_str()), ("tests", &count), ("failures", &fails), ("skipped", &skips)];
    w.element_with("testsuite", &attributes, |w| {
        for finding in &report.findings {
            let time = format!("{}.{:03}", finding.milliseconds / 1000, finding.milliseconds % 1000);
            let name = format!("{} {}", finding.id, finding.requirement);
            let attributes = [("classname", finding.rule), ("name", name.as_str()), ("time", &time)];
            w.element_with("testcase", &attributes, |w| outcome(w, finding));
        }
    });
    let mut text = w.finish();
    text.push('\n');
    text
}

fn outcome(w: &mut Writer, finding: &Finding) {
    let reason = finding.reason.as_deref().unwrap_or_default();
    match finding.result {
        Verdict::Pass => {}
        Verdict::Fail => w.element_with("failure", &[("message", reason)], |w| {
            if let Some(last) = finding.exchanges.last() {
                w.text(&format!("sent\n{}\n\nexpected\n{}\n\ncame\n{}\n", last.sent, last.expected, last.came));
            }
        }),
        Verdict::NotOffered | Verdict::NotApplicable => {
            let message = format!("{}: {reason}", finding.result.words());
            w.empty_with("skipped", &[("message", message.as_str())]);
        }
    }
}
