//! The rows of the checklist and their results.

use serde::Serialize;

use super::case::{Case, CheckFuture, Exchange};

/// A row of the checklist.
pub struct Row {
    /// `C001` …
    pub id: &'static str,
    /// The clause or rule it comes from.
    pub rule: &'static str,
    /// What a server has to do.
    pub requirement: &'static str,
    pub(super) check: for<'c> fn(&'c mut Case) -> CheckFuture<'c>,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The rule holds.
    Pass,
    /// The rule is broken.
    Fail,
    /// The server answers the documented fault for what it does not offer.
    NotOffered,
    /// The rule cannot be tried on this server.
    NotApplicable,
}

impl Verdict {
    /// The words for it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotOffered => "not offered",
            Self::NotApplicable => "not applicable",
        }
    }
}

/// The result of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `C001` …
    pub id: &'static str,
    /// The clause or rule it comes from.
    pub rule: &'static str,
    /// What a server has to do.
    pub requirement: &'static str,
    /// How the check ended.
    pub result: Verdict,
    /// Why it did not pass.
    pub reason: Option<String>,
    /// What was sent, expected and received.
    pub exchanges: Vec<Exchange>,
    /// How long it took.
    pub milliseconds: u64,
}

/// Makes the rows of a part of the checklist.
macro_rules! rows {
    ($($id:literal, $rule:literal, $requirement:literal => $check:path;)+) => {
        &[$($crate::conformance::row::Row {
            id: $id,
            rule: $rule,
            requirement: $requirement,
            check: |case| Box::pin($check(case)),
        }),+]
    };
}
pub(super) use rows;
