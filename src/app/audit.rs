//! The audit trail as a file: one line of JSON for each logon, refusal and change.
//!
//! Lines are only ever appended. A line that cannot be written goes to the log in its place, loudly, and while the
//! trail is required nothing is changed until a line can be written again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::SecondsFormat;
use serde::Serialize;
use tracing::{error, info};

use crate::access::{AuditEvent, AuditRecord, AuditTrail};
use crate::time::Clock;

/// An audit trail in a file.
pub(super) struct AuditFile {
    path: PathBuf,
    required: bool,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    file: File,
    /// The last line could not be written, or not whole.
    broken: bool,
}

/// A line, with its fields in the order of `docs/audit.md`.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event: &'static str,
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    scheme: &'static str,
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Object<'a>>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
}

#[derive(Serialize)]
struct Object<'a> {
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
}

impl AuditFile {
    /// Opens the file, readable by its owner only if it is new, and goes on at its end.
    ///
    /// # Errors
    /// When it cannot be opened for writing.
    pub(super) fn open(path: &Path, required: bool, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let state = Mutex::new(State { file: open(path)?, broken: false });
        Ok(Self { path: path.to_owned(), required, clock, state })
    }

    /// Goes on in a new file of the same name, after the old one was moved away.
    ///
    /// # Errors
    /// When it cannot be opened; the old one stays in use.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let file = open(&self.path)?;
        self.state().file = file;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at most half a line, which the next one begins behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file anew and ends the line that may have been cut off.
    fn repair(&self, state: &mut State) -> io::Result<()> {
        state.file = open(&self.path)?;
        state.file.write_all(b"\n")?;
        state.broken = false;
        Ok(())
    }

    fn text(&self, record: &AuditRecord<'_>) -> String {
        let line = Line {
            time: self.clock.now().to_rfc3339_opts(SecondsFormat::Millis, true),
            event: match record.event {
                AuditEvent::Logon => "logon",
                AuditEvent::Change => "change",
                AuditEvent::Request => "request",
            },
            user: record.user,
            source: record.source,
            scheme: record.scheme.name(),
            action: record.action,
            object: record.object.as_ref().map(|(kind, id, name)| Object { kind, id, name }),
            outcome: record.outcome.name(),
            reason: record.reason.as_deref(),
            job: record.job.as_deref(),
        };
        // A struct of texts can always be written.
        serde_json::to_string(&line).unwrap_or_default() + "\n"
    }
}

impl AuditTrail for AuditFile {
    fn is_ready(&self) -> bool {
        if !self.required {
            return true;
        }
        let mut state = self.state();
        if !state.broken {
            return true;
        }
        match self.repair(&mut state) {
            Ok(()) => {
                info!(file = %self.path.display(), "The audit trail can be written again");
                true
            }
            Err(problem) => {
                error!(file = %self.path.display(), error = %problem, "The audit trail still cannot be written: a change is refused");
                false
            }
        }
    }

    fn write(&self, record: &AuditRecord<'_>) {
        let text = self.text(record);
        let mut state = self.state();
        let written = if state.broken { self.repair(&mut state) } else { Ok(()) };
        let written = written.and_then(|()| state.file.write_all(text.as_bytes()));
        if let Err(problem) = written {
            state.broken = true;
            error!(file = %self.path.display(), error = %problem, line = text.trim_end(), "The audit trail cannot be written");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::access::{AuditOutcome, Principal, Scheme};
    use crate::time::ManualClock;

    fn trail(path: &Path, required: bool) -> AuditFile {
        let clock = Arc::new(ManualClock::new("2026-11-21T14:05:09.25Z".parse().unwrap()));
        AuditFile::open(path, required, clock).unwrap()
    }

    #[test]
    fn lines_have_the_documented_fields_and_go_to_the_end() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("audit.log");
        let wrong = AuditRecord {
            reason: Some("wrong password".to_owned()),
            ..AuditRecord::logon("a\"b\n", [192, 0, 2, 1].into(), Scheme::Ntlm, AuditOutcome::Refused)
        };
        trail(&path, true).write(&wrong);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let local = Principal::local("setup");
        let change = AuditRecord {
            object: Some(("machine", "ID".to_owned(), "web01".to_owned())),
            job: Some("JOB".to_owned()),
            ..AuditRecord::change(&local, "create-snapshot", AuditOutcome::Started)
        };
        trail(&path, true).write(&change);
        let expected = [
            r#"{"time":"2026-11-21T14:05:09.250Z","event":"logon","user":"a\"b\n","source":"192.0.2.1","scheme":"ntlm","action":"logon","outcome":"refused","reason":"wrong password"}"#,
            r#"{"time":"2026-11-21T14:05:09.250Z","event":"change","user":"setup","scheme":"local","action":"create-snapshot","object":{"kind":"machine","id":"ID","name":"web01"},"outcome":"started","job":"JOB"}"#,
        ];
        assert_eq!(fs::read_to_string(&path).unwrap().lines().collect::<Vec<_>>(), expected);
        let page = include_str!("../../docs/audit.md");
        for field in ["time", "event", "user", "source", "scheme", "action", "object", "outcome", "reason", "job"] {
            assert!(page.contains(&format!("| `{field}` |")), "docs/audit.md lacks {field}");
        }
        for line in expected {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_new_file_is_begun_after_the_old_one_was_moved() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("audit.log");
        let trail = trail(&path, true);
        let record = AuditRecord::logon("a", [192, 0, 2, 1].into(), Scheme::Basic, AuditOutcome::Done);
        trail.write(&record);
        let moved = directory.path().join("audit.log.1");
        fs::rename(&path, &moved).unwrap();
        trail.write(&record);
        trail.reopen().unwrap();
        trail.write(&record);
        let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&moved), lines(&path)), (2, 1));
    }

    #[test]
    fn while_a_required_trail_cannot_be_written_it_is_not_ready() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("audit.log");
        let record = AuditRecord::logon("a", [192, 0, 2, 1].into(), Scheme::Basic, AuditOutcome::Done);
        for required in [true, false] {
            let trail = trail(&path, required);
            assert!(trail.is_ready());
            // Whoever writes to this device is told that it is full.
            trail.state().file = OpenOptions::new().append(true).open("/dev/full").unwrap();
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            trail.write(&record);
            assert_eq!(trail.is_ready(), !required);
            fs::remove_dir(&path).unwrap();
            assert!(trail.is_ready());
            trail.write(&record);
            assert!(fs::read_to_string(&path).unwrap().trim_start().starts_with("{\"time\""));
        }
    }
}
