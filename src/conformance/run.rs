//! Runs the checks one after the other.

use std::sync::Arc;
use std::time::Instant;

use crate::client::{ClientError, ClientOptions};
use crate::time::IdSource;

use super::case::{Case, Checked, Stop};
use super::checks;
use super::profile::Profile;
use super::row::{Finding, Row, Verdict};
use super::subject::Subject;

/// Every row of the checklist, in order.
#[must_use]
pub fn rows() -> Vec<&'static Row> {
    checks::PARTS.iter().flat_map(|part| part.iter()).collect()
}

/// What a run found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The server.
    pub url: String,
    /// The rows that were tried, in order.
    pub findings: Vec<Finding>,
    /// What the suite made and could not take away again.
    pub left_behind: Vec<String>,
}

impl Report {
    /// How many rows ended so.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.result == verdict).count()
    }
}

/// Puts a server to the checks of `wanted` (all when it is empty) and tells `observe` of each row before it is
/// tried.
///
/// # Errors
/// A [`ClientError`] when the server cannot be reached or does not let the user in.
pub async fn run(
    options: ClientOptions,
    profile: Profile,
    ids: Arc<dyn IdSource>,
    wanted: &[String],
    mut observe: impl FnMut(&Row),
) -> Result<Report, ClientError> {
    let url = options.url.clone();
    let subject = Arc::new(Subject::open(options, profile, ids).await?);
    // What an earlier run left behind would be taken for its own.
    subject.clean().await;
    let mut findings = Vec::new();
    for row in rows() {
        if !wanted.is_empty() && !wanted.iter().any(|id| id.eq_ignore_ascii_case(row.id)) {
            continue;
        }
        observe(row);
        findings.push(one(row, &subject).await);
    }
    let left_behind = subject.clean().await;
    Ok(Report { url, findings, left_behind })
}

async fn one(row: &Row, subject: &Arc<Subject>) -> Finding {
    let mut case = Case::new(Arc::clone(subject));
    let begun = Instant::now();
    let (result, reason) = verdict((row.check)(&mut case).await);
    Finding {
        id: row.id,
        rule: row.rule,
        requirement: row.requirement,
        result,
        reason,
        exchanges: case.exchanges,
        milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

fn verdict(checked: Checked) -> (Verdict, Option<String>) {
    match checked {
        Ok(()) => (Verdict::Pass, None),
        Err(Stop::Fail(reason)) => (Verdict::Fail, Some(reason)),
        Err(Stop::NotOffered(reason)) => (Verdict::NotOffered, Some(reason)),
        Err(Stop::NotApplicable(reason)) => (Verdict::NotApplicable, Some(reason)),
    }
}
