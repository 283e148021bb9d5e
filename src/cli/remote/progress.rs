//! Shows how far a job is, and judges the end of a method.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cim::ObjectPath;
use crate::client::{Client, JobProgress, Output, job_succeeded};

use super::super::failure::Failure;
use super::super::output::tell;

/// "Parameters checked, job started".
pub(super) const JOB_STARTED: u32 = 4096;

/// Waits for what a method began; gives the job if there was one.
///
/// `what` names the work for messages: `snapshot of web01`.
pub(in super::super) async fn finish(
    client: &Client,
    output: &Output,
    what: &str,
) -> Result<Option<JobProgress>, Failure> {
    match output.return_value() {
        Some(0) => Ok(None),
        Some(JOB_STARTED) => {
            let job = output
                .reference("Job")
                .ok_or_else(|| Failure::failed(format!("{what}: the server started a job but does not name it")))?;
            wait(client, &job, what).await.map(Some)
        }
        Some(code) => Err(Failure::failed(format!("{what}: {} (return value {code})", meaning(code)))),
        None => Err(Failure::failed(format!("{what}: the server sent no return value"))),
    }
}

/// Waits for a job and shows its progress on standard error.
pub(super) async fn wait(client: &Client, job: &ObjectPath, what: &str) -> Result<JobProgress, Failure> {
    let mut display = Display::new(what);
    let progress = client.wait_for_job(job, |progress| display.show(progress)).await;
    display.close();
    let progress = progress?;
    if job_succeeded(&progress) {
        return Ok(progress);
    }
    let reason = progress.error.clone().unwrap_or_else(|| state_name(progress.state).to_owned());
    Err(Failure::failed(format!("{what}: {reason}")))
}

/// The name of a job state.
pub(super) const fn state_name(state: u64) -> &'static str {
    match state {
        2 => "new",
        3 => "starting",
        4 => "running",
        5 => "suspended",
        6 => "shutting down",
        7 => "completed",
        8 => "terminated",
        9 => "killed",
        10 => "failed",
        11 => "in service",
        12 => "query pending",
        32768 => "completed with warnings",
        _ => "unknown",
    }
}

/// What a return value means; the two families of codes do not overlap where it matters.
const fn meaning(code: u32) -> &'static str {
    match code {
        1 | 32770 => "not supported",
        2 | 32768 => "failed",
        3 | 32772 => "timed out",
        4 => "failed or invalid parameter",
        5 | 32773 => "invalid parameter",
        6 => "in use or invalid type",
        8 => "object not found",
        4097 => "not possible in its state",
        32769 | 40001 => "access denied",
        32771 => "status unknown",
        32774 => "the machine is in use",
        32775 => "the machine is in a state that does not allow it",
        32776 => "wrong data type",
        32777 => "the machine is not available",
        32778 => "out of memory",
        40002 => "not enough resources",
        _ => "refused",
    }
}

/// A bar on a terminal, a line for every tenth elsewhere.
enum Display {
    Bar(ProgressBar),
    Lines { what: String, next: u64 },
}

impl Display {
    fn new(what: &str) -> Self {
        if !stderr().is_terminal() {
            return Self::Lines { what: what.to_owned(), next: 0 };
        }
        let bar = ProgressBar::new(100);
        // A template that cannot be read leaves the bar as it is.
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {pos:>3} % {elapsed}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        Self::Bar(bar)
    }

    fn show(&mut self, progress: &JobProgress) {
        match self {
            Self::Bar(bar) => bar.set_position(progress.percent),
            Self::Lines { what, next } => {
                if progress.percent >= *next || progress.ended() {
                    tell(format_args!("{what}: {} %, {}", progress.percent, state_name(progress.state)));
                    *next = progress.percent - progress.percent % 10 + 10;
                }
            }
        }
    }

    fn close(self) {
        if let Self::Bar(bar) = self {
            bar.finish();
        }
    }
}
