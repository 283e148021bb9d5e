//! A scripted monitor and guest agent: they do what the real ones will not do on demand.

mod agent;
mod monitor;
pub(crate) mod real;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// What the peer does next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Greets as a monitor and goes through the negotiation.
    Greet,
    /// Reads a command; it must be this one.
    Expect(&'static str),
    /// Answers the command read last.
    Answer(Value),
    /// Answers the command that was read as number `.0`, from 0; the negotiation does not count.
    AnswerTo(usize, Value),
    /// Refuses the command read last with this class and text.
    Refuse(&'static str, &'static str),
    /// Sends an event.
    Event(&'static str, Value),
    /// Sends these bytes.
    Say(Vec<u8>),
    /// Reads the sync of an agent, which must come after the delimiter.
    ExpectSync,
    /// Answers the sync that was read as command number `.0`, as qemu-ga does: complaint first, then the delimiter.
    AnswerSync(usize),
    /// Does nothing for a while.
    Wait(Duration),
    /// Reads until the client closes, and keeps silent.
    Hold,
}

/// The peer; it closes the connection after the last step.
pub(crate) struct Peer {
    _directory: tempfile::TempDir,
    path: PathBuf,
    task: tokio::task::JoinHandle<Vec<Value>>,
}

impl Peer {
    /// Listens; the first connection gets the script.
    pub(crate) fn start(steps: Vec<Step>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            play(stream, steps).await
        });
        Self { _directory: directory, path, task }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the end of the script and returns the commands it read, the negotiation left out.
    pub(crate) async fn finish(self) -> Vec<Value> {
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("the script does not end").unwrap()
    }
}

async fn play(stream: UnixStream, steps: Vec<Step>) -> Vec<Value> {
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input);
    let mut read: Vec<Value> = Vec::new();
    for step in steps {
        let text = match step {
            Step::Greet => {
                let version = json!({"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": "script"});
                let greeting = json!({"QMP": {"version": version, "capabilities": ["oob"]}});
                output.write_all(format!("{greeting}\r\n").as_bytes()).await.unwrap();
                let command = command(&mut input, false).await;
                assert_eq!(command["execute"], "qmp_capabilities");
                answer(&command, "return", &json!({}))
            }
            Step::Expect(name) => {
                let command = command(&mut input, false).await;
                assert_eq!(command["execute"], name);
                read.push(command);
                continue;
            }
            Step::ExpectSync => {
                let command = command(&mut input, true).await;
                assert_eq!(command["execute"], "guest-sync-delimited");
                read.push(command);
                continue;
            }
            Step::Answer(value) => answer(read.last().unwrap(), "return", &value),
            Step::AnswerTo(number, value) => answer(&read[number], "return", &value),
            Step::Refuse(class, text) => answer(read.last().unwrap(), "error", &json!({"class": class, "desc": text})),
            Step::Event(name, data) => {
                let stamp = json!({"seconds": 1_785_000_000, "microseconds": 250});
                json!({"event": name, "data": data, "timestamp": stamp}).to_string() + "\r\n"
            }
            Step::Say(bytes) => {
                output.write_all(&bytes).await.unwrap();
                continue;
            }
            Step::AnswerSync(number) => {
                let complaint =
                    json!({"error": {"class": "GenericError", "desc": "JSON parse error, stray '\u{fffd}'"}});
                output.write_all(format!("{complaint}\n").as_bytes()).await.unwrap();
                output.write_all(&[0xFF]).await.unwrap();
                json!({"return": read[number]["arguments"]["id"]}).to_string() + "\n"
            }
            Step::Wait(time) => {
                tokio::time::sleep(time).await;
                continue;
            }
            Step::Hold => {
                let mut rest = Vec::new();
                // A client that closes with unread bytes resets the connection, which is an end as well.
                let _ = input.read_to_end(&mut rest).await;
                continue;
            }
        };
        output.write_all(text.as_bytes()).await.unwrap();
    }
    read
}

async fn command(input: &mut (impl AsyncBufReadExt + Unpin), delimited: bool) -> Value {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line).await.unwrap();
    let text = if delimited { line.strip_prefix(b"\xff").expect("no delimiter before the sync") } else { &line[..] };
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&line)))
}

/// A monitor repeats the id it was given; an agent gets none from us.
fn answer(command: &Value, key: &str, value: &Value) -> String {
    let mut answer = json!({ key: value });
    if let Some(id) = command.get("id") {
        answer["id"] = id.clone();
    }
    answer.to_string() + "\r\n"
}

/// Milliseconds.
pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}
