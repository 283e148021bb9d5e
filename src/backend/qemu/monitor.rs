//! One connection to the monitor of a QEMU process (QMP).
//!
//! The commands and their answers are the types of the crate `qapi`, as QEMU's own schema generates them.
//! The connection itself is ours, because it has rules that a plain stream has not:
//! every wait has a deadline, a command whose caller gave up leaves the connection usable, and a line has a limit.
//!
//! What each irregularity leads to:
//!
//! | the peer | outcome |
//! | --- | --- |
//! | does not greet | [`MonitorError::NoGreeting`]: a monitor serves one client, and a second one waits for ever |
//! | does not answer in time | [`MonitorError::Timeout`]; the late answer is known by its id and thrown away |
//! | answers out of order | each answer goes to its command by its id |
//! | refuses | [`MonitorError::Refused`] with QEMU's class and text |
//! | answers in a shape that does not fit | [`MonitorError::Malformed`] for this command; the connection stays |
//! | sends junk, a line over the limit, or an answer without id | [`MonitorError::Malformed`] for all; the connection ends |
//! | closes, be it in the middle of a line | [`MonitorError::Closed`] for all |
//!
//! A command that timed out may still be executed later. Only one that was not yet sent is never sent.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qapi::qmp::QmpCommand;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::lines::{LineError, LineReader};
use crate::backend::Cause;

/// Longest line QEMU may send, in bytes. `query-named-block-nodes` of a large machine is some hundred kilobytes.
const LINE_LIMIT: usize = 16 << 20;
/// Commands that may wait for their turn to be written.
const QUEUE: usize = 64;
/// Events kept for a slow reader.
const EVENTS: usize = 1024;

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The socket is not there, or nobody listens on it.
    #[error("the monitor socket cannot be reached: {0}")]
    Connect(#[source] io::Error),
    /// Nothing was said in time: most likely the monitor serves another client.
    #[error("the monitor does not greet, it may be in use by another client")]
    NoGreeting,
    /// QEMU refused the command.
    #[error("{text}")]
    Refused {
        /// The error class (`GenericError`, `CommandNotFound`, `DeviceNotFound`, …).
        class: String,
        /// QEMU's own sentence.
        text: String,
    },
    /// No answer before the deadline. The command may still be executed.
    #[error("no answer to {command} in time")]
    Timeout {
        /// Name of the command.
        command: &'static str,
    },
    /// The connection is gone.
    #[error("the monitor connection is closed")]
    Closed,
    /// What came is not what the protocol allows.
    #[error("the monitor sent something unexpected: {0}")]
    Malformed(String),
}

impl From<MonitorError> for Cause {
    fn from(error: MonitorError) -> Self {
        match error {
            MonitorError::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => Self::AccessDenied,
            MonitorError::Connect(_) | MonitorError::NoGreeting | MonitorError::Closed => {
                Self::Unreachable(error.to_string())
            }
            MonitorError::Timeout { .. } => Self::Timeout,
            MonitorError::Refused { text, .. } => Self::Failed(text),
            MonitorError::Malformed(_) => Self::Failed(error.to_string()),
        }
    }
}

/// Something QEMU told unasked.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitorEvent {
    /// Name, as in `BLOCK_JOB_READY`.
    pub name: String,
    /// Its data; `Null` when it has none.
    pub data: Value,
    /// Seconds since 1970 by the host's clock; −1 when QEMU could not read it.
    pub seconds: i64,
    /// Microseconds of that second; −1 when QEMU could not read the clock.
    pub microseconds: i64,
}

type Answer = Result<Value, MonitorError>;

/// What the handles and the two tasks share.
#[derive(Debug)]
struct State {
    /// Who waits for which id; `None` once the connection is gone.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
    /// `None` once the connection is gone, so that readers of events see the end.
    events: Mutex<Option<broadcast::Sender<MonitorEvent>>>,
    closed: watch::Sender<bool>,
}

/// The end of the last handle ends the tasks, and with them the connection.
#[derive(Debug)]
struct Connection {
    state: Arc<State>,
    outgoing: mpsc::Sender<(u64, Vec<u8>)>,
    next_id: AtomicU64,
    reader: tokio::task::AbortHandle,
    writer: tokio::task::AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
        self.state.close(None);
    }
}

/// A handle of a connection to a monitor; the connection ends with its last handle.
#[derive(Debug, Clone)]
pub struct Monitor(Arc<Connection>);

impl Monitor {
    /// Connects, waits for the greeting and negotiates, all within `greeting`.
    ///
    /// # Errors
    /// A [`MonitorError`]; [`MonitorError::NoGreeting`] when the socket accepts and nothing is said.
    pub async fn connect(path: &Path, greeting: Duration) -> Result<Self, MonitorError> {
        let deadline = Instant::now() + greeting;
        let stream = match timeout_at(deadline, UnixStream::connect(path)).await {
            Ok(stream) => stream.map_err(MonitorError::Connect)?,
            Err(_) => return Err(MonitorError::NoGreeting),
        };
        let (input, output) = stream.into_split();
        let mut input = LineReader::new(input, LINE_LIMIT);
        loop {
            let line = timeout_at(deadline, input.next()).await.map_err(|_| MonitorError::NoGreeting)?;
            let line = parse(&line.map_err(broken)?.ok_or(MonitorError::Closed)?)?;
            if line.contains_key("QMP") {
                break;
            }
            // Until QEMU has greeted, a new connection is to it what the last one was: an event of that moment comes
            // first. Whoever connects asks for the state anyway.
            if !line.contains_key("event") {
                return Err(MonitorError::Malformed("no greeting of a monitor".to_owned()));
            }
        }
        let monitor = Self::start(input, output);
        let negotiate = qapi::qmp::qmp_capabilities { enable: None };
        let left = deadline.saturating_duration_since(Instant::now());
        match monitor.execute(negotiate, left).await {
            Ok(_) => Ok(monitor),
            Err(MonitorError::Timeout { .. }) => Err(MonitorError::NoGreeting),
            Err(error) => Err(error),
        }
    }

    fn start(input: LineReader<OwnedReadHalf>, output: OwnedWriteHalf) -> Self {
        let state = Arc::new(State {
            waiting: Mutex::new(Some(HashMap::new())),
            events: Mutex::new(Some(broadcast::Sender::new(EVENTS))),
            closed: watch::Sender::new(false),
        });
        let (outgoing, commands) = mpsc::channel(QUEUE);
        let reader = tokio::spawn(read(input, Arc::clone(&state))).abort_handle();
        let writer = tokio::spawn(write(output, commands, Arc::clone(&state))).abort_handle();
        Self(Arc::new(Connection { state, outgoing, next_id: AtomicU64::new(1), reader, writer }))
    }

    /// Executes a command and reads its answer as the schema describes it.
    ///
    /// # Errors
    /// A [`MonitorError`]. After [`MonitorError::Timeout`] the command may still be executed: ask for the state.
    pub async fn execute<C: QmpCommand>(&self, command: C, limit: Duration) -> Result<C::Ok, MonitorError> {
        self.query::<C, C::Ok>(command, limit).await
    }

    /// As [`Monitor::execute`], but the answer is read as `R`: a type of our own that names only what is needed, so
    /// that fields and values which a version of QEMU adds or drops do not matter.
    ///
    /// # Errors
    /// As [`Monitor::execute`].
    pub async fn query<C, R>(&self, command: C, limit: Duration) -> Result<R, MonitorError>
    where
        C: QmpCommand,
        R: DeserializeOwned,
    {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let mut line = serde_json::to_vec(&qapi::Execute::with_id(&command, id))
            .map_err(|error| MonitorError::Malformed(format!("{} cannot be written: {error}", C::NAME)))?;
        line.push(b'\n');
        let answer = self.answer(C::NAME, id, line, limit).await?;
        serde_json::from_value(answer)
            .map_err(|error| MonitorError::Malformed(format!("the answer to {} does not fit: {error}", C::NAME)))
    }

    async fn answer(&self, command: &'static str, id: u64, line: Vec<u8>, limit: Duration) -> Answer {
        let (sender, receiver) = oneshot::channel();
        match self.0.state.waiting().as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(MonitorError::Closed),
        };
        // Whoever leaves early, be it because the caller's future was dropped, takes the entry along.
        let _leave = Leave { state: &self.0.state, id };
        let started = Instant::now();
        let result = tokio::time::timeout(limit, async {
            self.0.outgoing.send((id, line)).await.map_err(|_| MonitorError::Closed)?;
            receiver.await.unwrap_or(Err(MonitorError::Closed))
        });
        let result = result.await.unwrap_or(Err(MonitorError::Timeout { command }));
        match &result {
            Ok(_) => tracing::trace!(command, elapsed = ?started.elapsed(), "Monitor answered"),
            Err(error) => tracing::debug!(command, %error, elapsed = ?started.elapsed(), "Monitor command failed"),
        }
        result
    }

    /// The events from now on. A reader that falls behind gets `Lagged` and must look at the state itself.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<MonitorEvent> {
        let events = self.0.state.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
    }

    /// True when the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.0.state.closed.borrow()
    }

    /// Returns when the connection is gone.
    pub async fn closed(&self) {
        // The sender lives in the state, which this handle keeps, so this cannot fail.
        let _ = self.0.state.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

/// Takes a waiter off the list.
struct Leave<'a> {
    state: &'a State,
    id: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.state.waiting().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

impl State {
    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends everything that waits: with the fault, if there is one, else with [`MonitorError::Closed`].
    fn close(&self, fault: Option<&str>) {
        let waiting = self.waiting().take();
        if let (Some(waiting), Some(fault)) = (waiting, fault) {
            for sender in waiting.into_values() {
                // A waiter that left meanwhile needs no answer.
                let _ = sender.send(Err(MonitorError::Malformed(fault.to_owned())));
            }
        }
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.closed.send_replace(true);
    }

    /// Sorts one message.
    fn dispatch(&self, mut message: Map<String, Value>) -> Result<(), MonitorError> {
        if let Some(name) = message.remove("event") {
            return self.event(&name, message);
        }
        let result = if let Some(value) = message.remove("return") {
            Ok(value)
        } else if let Some(error) = message.remove("error") {
            Err(refusal(&error))
        } else {
            return Err(MonitorError::Malformed("neither answer nor event".to_owned()));
        };
        let Some(id) = message.get("id").and_then(Value::as_u64) else {
            // Nobody knows whose answer it is, so no answer after it can be trusted.
            return Err(MonitorError::Malformed("an answer without id".to_owned()));
        };
        let waiter = self.waiting().as_mut().and_then(|waiting| waiting.remove(&id));
        if waiter.is_none_or(|waiter| waiter.send(result).is_err()) {
            tracing::debug!(id, "Late answer of the monitor dropped");
        }
        Ok(())
    }

    fn event(&self, name: &Value, mut message: Map<String, Value>) -> Result<(), MonitorError> {
        let Some(name) = name.as_str() else {
            return Err(MonitorError::Malformed("an event without name".to_owned()));
        };
        let stamp = |field| message.get("timestamp").and_then(|stamp| stamp.get(field)).and_then(Value::as_i64);
        let (seconds, microseconds) = (stamp("seconds").unwrap_or(-1), stamp("microseconds").unwrap_or(-1));
        let data = message.remove("data").unwrap_or_default();
        tracing::trace!(event = name, "Monitor event");
        if let Some(events) = self.events.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // Without readers the event is of no interest.
            let _ = events.send(MonitorEvent { name: name.to_owned(), data, seconds, microseconds });
        }
        Ok(())
    }
}

async fn read(mut input: LineReader<OwnedReadHalf>, state: Arc<State>) {
    let fault = loop {
        let line = match input.next().await {
            Ok(Some(line)) if line.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(Some(line)) => line,
            Ok(None) => break None,
            Err(error) => break Some(broken(error)),
        };
        if let Err(error) = parse(&line).and_then(|message| state.dispatch(message)) {
            break Some(error);
        }
    };
    match fault {
        Some(MonitorError::Malformed(text)) => {
            tracing::warn!(fault = %text, "Monitor connection given up");
            state.close(Some(&text));
        }
        Some(error) => {
            tracing::debug!(%error, "Monitor connection ended");
            state.close(None);
        }
        None => state.close(None),
    }
}

async fn write(mut output: OwnedWriteHalf, mut commands: mpsc::Receiver<(u64, Vec<u8>)>, state: Arc<State>) {
    let mut closed = state.closed.subscribe();
    let commands = async {
        while let Some((id, line)) = commands.recv().await {
            let wanted = state.waiting().as_ref().is_some_and(|waiting| waiting.contains_key(&id));
            if wanted {
                output.write_all(&line).await?;
            }
        }
        Ok::<(), io::Error>(())
    };
    tokio::select! {
        // The reader gave up: the socket is released at once, so that the monitor can serve somebody else.
        _ = closed.wait_for(|closed| *closed) => {}
        result = commands => {
            if let Err(error) = result {
                tracing::debug!(%error, "Monitor connection ended");
            }
            state.close(None);
        }
    }
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, MonitorError> {
    serde_json::from_slice(line).map_err(|error| MonitorError::Malformed(format!("not a message: {error}")))
}

fn broken(error: LineError) -> MonitorError {
    match error {
        LineError::TooLong => MonitorError::Malformed(format!("a line of more than {LINE_LIMIT} bytes")),
        LineError::Io(error) => {
            tracing::debug!(%error, "Monitor cannot be read");
            MonitorError::Closed
        }
    }
}

/// Reads an error object. The class stays a text, as newer versions may have other classes than the crate knows.
fn refusal(error: &Value) -> MonitorError {
    let field = |name| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    MonitorError::Refused { class: field("class"), text: field("desc") }
}
