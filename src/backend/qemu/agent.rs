//! One connection to the agent inside a guest (qemu-ga), for freezing and thawing its file systems.
//!
//! The guest is not trusted: lines have a limit, and every call has a deadline.
//! There are no message ids to rely on, so an answer belongs to a command only while both sides are *in step*.
//! A new connection is out of step, as what an earlier client asked may still be answered; so is one after a timeout or
//! after an answer that makes no sense.
//! Out of step every command but [`Agent::sync`] is refused without being sent.
//!
//! What qemu-ga does, and what follows from it:
//!
//! * It serves one request after the other. Once a sync is answered, every earlier request has been executed, however
//!   late, so a status asked then is the truth. A freeze sent to a paused machine is executed when the machine
//!   goes on: after any timeout of a freeze, [`Agent::recover`] must run, and again once the machine runs.
//! * It never thaws by itself. Write down that the freeze is sent before it is sent.
//! * While frozen it refuses nearly everything, a second freeze too, with class `CommandNotFound`. A second thaw is
//!   harmless.
//! * It knows one kind of freeze. A copy backup (`GuestBackupType` 2), which leaves the logs of applications alone, has
//!   no counterpart, and neither has a full backup, which truncates them: a freeze runs the hooks of the guest, and
//!   what these tell applications is up to the guest.

use std::io;
use std::path::Path;
use std::time::Duration;

use qapi::qga::{self, QgaCommand};
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout_at};

use super::lines::{LineError, LineReader};
use crate::backend::Cause;

/// Longest line an agent may send, in bytes. What it answers to our commands is far below 1 KiB.
const LINE_LIMIT: usize = 64 << 10;
/// The byte no JSON text holds. It makes the agent forget a half-read command, and marks the answer to a sync.
const DELIMITER: u8 = 0xFF;
/// How often [`Agent::recover`] tries to get in step within its limit: bytes sent while a guest boots are lost.
const SYNC_ATTEMPTS: u32 = 4;

/// Why the agent did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The socket is not there, or nobody listens on it.
    #[error("the guest agent's socket cannot be reached: {0}")]
    Connect(#[source] io::Error),
    /// The agent refused the command.
    #[error("{text}")]
    Refused {
        /// The error class; `CommandNotFound` also when the guest is frozen and the command is not allowed then.
        class: String,
        /// The agent's own sentence.
        text: String,
    },
    /// No answer before the deadline; the command may still be executed, and the connection is out of step.
    #[error("the guest agent does not answer to {command} in time")]
    Timeout {
        /// Name of the command.
        command: &'static str,
    },
    /// QEMU closed the socket.
    #[error("the guest agent's connection is closed")]
    Closed,
    /// What came is not an answer; the connection is out of step.
    #[error("the guest agent sent something unexpected: {0}")]
    Malformed(String),
    /// The command was not sent, as its answer could not be told from an older one. [`Agent::sync`] first.
    #[error("the guest agent is out of step")]
    OutOfStep,
}

impl From<AgentError> for Cause {
    fn from(error: AgentError) -> Self {
        Self::GuestNotQuiesced(error.to_string())
    }
}

/// Whether the file systems of the guest stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezeStatus {
    /// At least one is frozen.
    Frozen,
    /// All take writes.
    Thawed,
}

/// A connection to one guest agent. The socket serves one client at a time, and says nothing to others.
#[derive(Debug)]
pub struct Agent {
    input: LineReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    in_step: bool,
}

impl Agent {
    /// Connects to the socket of the agent's channel. This says nothing about the agent: [`Agent::sync`] does.
    ///
    /// # Errors
    /// [`AgentError::Connect`].
    pub async fn connect(path: &Path) -> Result<Self, AgentError> {
        // Does not wait: a UNIX socket accepts or refuses at once.
        let stream = UnixStream::connect(path).await.map_err(AgentError::Connect)?;
        let (input, output) = stream.into_split();
        Ok(Self { input: LineReader::new(input, LINE_LIMIT), output, in_step: false })
    }

    /// True when an answer can be told from a late one.
    #[must_use]
    pub const fn is_in_step(&self) -> bool {
        self.in_step
    }

    /// Gets in step (`guest-sync-delimited`): throws away everything up to the answer that carries `id`.
    ///
    /// `id` must be random, so that no late answer to an earlier sync, ours or somebody else's, looks the same.
    ///
    /// # Errors
    /// An [`AgentError`]; the connection stays out of step then.
    pub async fn sync(&mut self, id: u32, limit: Duration) -> Result<(), AgentError> {
        let command = qga::guest_sync_delimited { id: i64::from(id) };
        self.in_step = false;
        self.within(&command, limit, true, async |input| {
            loop {
                let line = match input.next().await {
                    Ok(line) => line.ok_or(AgentError::Closed)?,
                    // A guest that floods us is cut off by the deadline.
                    Err(LineError::TooLong) => continue,
                    Err(LineError::Io(error)) => return Err(closed(&error)),
                };
                let answer = line.iter().rposition(|byte| *byte == DELIMITER).and_then(|at| line.get(at + 1..));
                let returned = answer.and_then(|answer| parse(answer).ok()).and_then(|mut map| map.remove("return"));
                if returned == Some(Value::from(id)) {
                    return Ok(());
                }
            }
        })
        .await?;
        self.in_step = true;
        Ok(())
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// An [`AgentError`].
    pub async fn ping(&mut self, limit: Duration) -> Result<(), AgentError> {
        self.execute(qga::guest_ping {}, limit).await.map(|_| ())
    }

    /// Freezes all file systems and returns how many. Not for a paused machine: it needs no freeze and cannot answer.
    ///
    /// # Errors
    /// An [`AgentError`]; after any of them but [`AgentError::Connect`] and [`AgentError::OutOfStep`] the guest may be
    /// or become frozen: call [`Agent::recover`].
    pub async fn freeze(&mut self, limit: Duration) -> Result<u32, AgentError> {
        let count = self.execute(qga::guest_fsfreeze_freeze {}, limit).await?;
        self.count(count)
    }

    /// Freezes the file systems mounted at these places and returns how many.
    ///
    /// # Errors
    /// As [`Agent::freeze`].
    pub async fn freeze_list(&mut self, mountpoints: &[String], limit: Duration) -> Result<u32, AgentError> {
        let command = qga::guest_fsfreeze_freeze_list { mountpoints: Some(mountpoints.to_vec()) };
        let count = self.execute(command, limit).await?;
        self.count(count)
    }

    /// Thaws all file systems and returns how many were frozen; on a thawed guest 0, which is no error.
    ///
    /// # Errors
    /// An [`AgentError`]; the guest may still be frozen.
    pub async fn thaw(&mut self, limit: Duration) -> Result<u32, AgentError> {
        let count = self.execute(qga::guest_fsfreeze_thaw {}, limit).await?;
        self.count(count)
    }

    /// Whether the guest is frozen.
    ///
    /// # Errors
    /// An [`AgentError`]; [`AgentError::Refused`] when this guest cannot be frozen at all.
    pub async fn status(&mut self, limit: Duration) -> Result<FreezeStatus, AgentError> {
        let status = self.execute(qga::guest_fsfreeze_status {}, limit).await?;
        Ok(match status {
            qga::GuestFsfreezeStatus::frozen => FreezeStatus::Frozen,
            qga::GuestFsfreezeStatus::thawed => FreezeStatus::Thawed,
        })
    }

    /// Gets in step and thaws until the guest says that it is thawed; returns whether it was frozen.
    ///
    /// `id` and the ids after it are used for the syncs, see [`Agent::sync`].
    ///
    /// # Errors
    /// An [`AgentError`] when that was not reached within `limit`; [`AgentError::Refused`] when the guest cannot be
    /// frozen at all, or refuses to thaw.
    pub async fn recover(&mut self, id: u32, limit: Duration) -> Result<bool, AgentError> {
        let deadline = Instant::now() + limit;
        let slice = limit / SYNC_ATTEMPTS;
        let mut id = id;
        let mut was_frozen = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let result = if self.in_step {
                match self.status(left).await {
                    Ok(FreezeStatus::Thawed) => return Ok(was_frozen),
                    Ok(FreezeStatus::Frozen) => {
                        was_frozen = true;
                        self.thaw(deadline.saturating_duration_since(Instant::now())).await.map(|_| ())
                    }
                    Err(error) => Err(error),
                }
            } else {
                let result = self.sync(id, slice.min(left)).await;
                id = id.wrapping_add(1);
                result
            };
            match result {
                Err(AgentError::Timeout { .. } | AgentError::Malformed(_)) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
                Ok(()) if Instant::now() >= deadline => {
                    return Err(AgentError::Timeout { command: "guest-fsfreeze-thaw" });
                }
                Ok(()) => {}
            }
        }
    }

    async fn execute<C: QgaCommand>(&mut self, command: C, limit: Duration) -> Result<C::Ok, AgentError> {
        if !self.in_step {
            return Err(AgentError::OutOfStep);
        }
        // Until the answer is read; also for a caller that drops this future.
        self.in_step = false;
        let mut answer = self
            .within(&command, limit, false, async |input| {
                let line = match input.next().await {
                    Ok(line) => line.ok_or(AgentError::Closed)?,
                    Err(LineError::TooLong) => {
                        return Err(AgentError::Malformed(format!("a line of more than {LINE_LIMIT} bytes")));
                    }
                    Err(LineError::Io(error)) => return Err(closed(&error)),
                };
                parse(&line)
            })
            .await?;
        if let Some(error) = answer.remove("error") {
            self.in_step = true;
            return Err(refusal(&error));
        }
        let returned = answer.remove("return").ok_or_else(|| AgentError::Malformed("no answer".to_owned()))?;
        let value = serde_json::from_value(returned)
            .map_err(|error| AgentError::Malformed(format!("the answer to {} does not fit: {error}", C::NAME)))?;
        self.in_step = true;
        Ok(value)
    }

    /// Sends a command and reads what answers it, both before the deadline.
    async fn within<C: QgaCommand, T>(
        &mut self,
        command: &C,
        limit: Duration,
        delimited: bool,
        read: impl AsyncFnOnce(&mut LineReader<OwnedReadHalf>) -> Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        let mut line = if delimited { vec![DELIMITER] } else { Vec::new() };
        serde_json::to_writer(&mut line, &qapi::Execute::<&C>::with_command(command))
            .map_err(|error| AgentError::Malformed(format!("{} cannot be written: {error}", C::NAME)))?;
        line.push(b'\n');
        let (input, output) = (&mut self.input, &mut self.output);
        let both = async {
            output.write_all(&line).await.map_err(|error| closed(&error))?;
            read(input).await
        };
        let result = timeout_at(Instant::now() + limit, both).await;
        let result = result.unwrap_or(Err(AgentError::Timeout { command: C::NAME }));
        if let Err(error) = &result {
            tracing::debug!(command = C::NAME, %error, "Guest agent failed");
        }
        result
    }

    /// A number of file systems.
    fn count(&mut self, count: i64) -> Result<u32, AgentError> {
        u32::try_from(count).map_err(|_| {
            self.in_step = false;
            AgentError::Malformed(format!("{count} file systems"))
        })
    }
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, AgentError> {
    serde_json::from_slice(line).map_err(|error| AgentError::Malformed(format!("not a message: {error}")))
}

fn closed(error: &io::Error) -> AgentError {
    tracing::debug!(%error, "Guest agent's connection failed");
    AgentError::Closed
}

fn refusal(error: &Value) -> AgentError {
    let field = |name| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    AgentError::Refused { class: field("class"), text: field("desc") }
}
