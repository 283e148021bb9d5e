//! Reading from an image at chosen places: `qemu-nbd` serves it to us over a socket of our own.
//!
//! Of the protocol only what reading needs is spoken: the fixed newstyle negotiation with `NBD_OPT_EXPORT_NAME`, and
//! `NBD_CMD_READ` with simple replies.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::super::{BackendError, Cause};
use super::export::{Source, driver};

const STEP: &str = "open the snapshot";
/// Name of the socket, in the directory of the machine.
const SOCKET: &str = "wsnapd-nbd.sock";
/// How long the server may take to listen.
const START: Duration = Duration::from_secs(20);
/// Between two tries to connect.
const LOOK: Duration = Duration::from_millis(10);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(60);

const GREETING: u64 = 0x4e42_444d_4147_4943;
const OPTION: u64 = 0x4948_4156_454f_5054;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;
const EXPORT_NAME: u32 = 1;
const READ: u16 = 0;
const DISCONNECT: u16 = 2;

fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// A connection to the content of an image.
#[derive(Debug)]
pub(super) struct Reader {
    stream: UnixStream,
    /// Length of the content in bytes.
    pub(super) size: u64,
    cookie: u64,
}

impl Reader {
    /// Negotiates on a fresh connection; waits for the server.
    ///
    /// # Errors
    /// An [`io::Error`].
    pub(super) fn new(mut stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let (greeting, option) = (number(&mut stream)?, number(&mut stream)?);
        let flags = u16::from_be_bytes(bytes(&mut stream)?);
        if greeting != GREETING || option != OPTION || flags & FIXED_NEWSTYLE == 0 {
            return Err(wrong("this is no server of a disk"));
        }
        let flags = flags & (FIXED_NEWSTYLE | NO_ZEROES);
        let mut answer = u32::from(flags).to_be_bytes().to_vec();
        answer.extend(OPTION.to_be_bytes());
        answer.extend(EXPORT_NAME.to_be_bytes());
        answer.extend(0_u32.to_be_bytes());
        stream.write_all(&answer)?;
        let size = number(&mut stream)?;
        let _: [u8; 2] = bytes(&mut stream)?;
        if flags & NO_ZEROES == 0 {
            let _: [u8; 124] = bytes(&mut stream)?;
        }
        Ok(Self { stream, size, cookie: 0 })
    }

    /// Fills `buffer` with the content from `offset` on.
    ///
    /// # Errors
    /// An [`io::Error`]; the connection is of no more use then.
    pub(super) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.cookie += 1;
        let length = u32::try_from(buffer.len()).map_err(io::Error::other)?;
        let cookie = self.cookie;
        self.request(READ, cookie, offset, length)?;
        let (magic, error) = (bytes(&mut self.stream)?, u32::from_be_bytes(bytes(&mut self.stream)?));
        if u32::from_be_bytes(magic) != REPLY || number(&mut self.stream)? != cookie {
            return Err(wrong("the answer belongs to no question"));
        }
        match i32::try_from(error) {
            Ok(0) => self.stream.read_exact(buffer),
            Ok(error) => Err(io::Error::from_raw_os_error(error)),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn request(&mut self, kind: u16, cookie: u64, offset: u64, length: u32) -> io::Result<()> {
        let mut request = REQUEST.to_be_bytes().to_vec();
        request.extend(0_u16.to_be_bytes());
        request.extend(kind.to_be_bytes());
        request.extend(cookie.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(length.to_be_bytes());
        self.stream.write_all(&request)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Err(error) = self.request(DISCONNECT, 0, 0, 0) {
            tracing::debug!(%error, "The server of a disk has gone first");
        }
    }
}

fn bytes<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number(stream: &mut UnixStream) -> io::Result<u64> {
    bytes(stream).map(u64::from_be_bytes)
}

/// A `qemu-nbd` that serves one image to one client; it ends with that client, or when this is dropped.
pub(super) struct Server {
    child: Child,
    directory: File,
}

impl Server {
    /// Serves the content of a disk of a snapshot, which may be in use; the socket lies in `directory`.
    ///
    /// # Errors
    /// A [`BackendError`].
    pub(super) fn start(program: &Path, source: &Source, directory: &Path) -> Result<Self, BackendError> {
        forget(directory)?;
        // As JSON no character of a path has a meaning of its own.
        let image = serde_json::json!({
            "driver": driver(source.format),
            "force-share": true,
            "file": {"driver": "file", "filename": source.file},
        });
        let mut command = Command::new(program);
        // It takes absolute paths only, and its working directory has a short one.
        command.current_dir(directory).args(["-r", "-k", &format!("/proc/self/cwd/{SOCKET}")]);
        if let Some(tag) = &source.tag {
            command.args(["-l", &format!("snapshot.name={tag}")]);
        }
        let child = command
            .arg(format!("json:{image}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| BackendError::io(STEP, program, error))?;
        let directory = File::open(directory).map_err(|error| BackendError::io(STEP, directory, error))?;
        Ok(Self { child, directory })
    }

    /// Connects as soon as it listens.
    ///
    /// # Errors
    /// A [`BackendError`] with the words of the server when it ends instead.
    pub(super) async fn connect(&mut self) -> Result<UnixStream, BackendError> {
        let failed = |error| BackendError::new(STEP, Cause::Io(error));
        let begun = tokio::time::Instant::now();
        loop {
            match UnixStream::connect(near(&self.directory)) {
                Ok(stream) => return Ok(stream),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
                Err(error) => return Err(failed(error)),
            }
            if self.child.try_wait().map_err(failed)?.is_some() {
                let mut text = String::new();
                if let Some(errors) = &mut self.child.stderr {
                    errors.read_to_string(&mut text).await.map_err(failed)?;
                }
                return Err(BackendError::new(STEP, Cause::Failed(text.trim().replace('\n', "; "))));
            }
            if begun.elapsed() > START {
                return Err(BackendError::new(STEP, Cause::Timeout));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The socket, named shortly: the address of a socket has room for 107 bytes.
fn near(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}

/// Ends a server that an interrupted export left: it waits for its one client, and goes with it.
///
/// # Errors
/// A [`BackendError`].
pub(super) fn forget(directory: &Path) -> Result<(), BackendError> {
    let path = directory.join(SOCKET);
    if !path.exists() {
        return Ok(());
    }
    let opened = File::open(directory).map_err(|error| BackendError::io(STEP, directory, error))?;
    drop(UnixStream::connect(near(&opened)));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackendError::io(STEP, &path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the server of a disk of 1,000,000 bytes: reads what is expected, says what is scripted.
    fn played(script: Vec<(usize, Vec<u8>)>) -> UnixStream {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            for (expected, said) in script {
                let mut read = vec![0; expected];
                theirs.read_exact(&mut read).unwrap();
                theirs.write_all(&said).unwrap();
            }
        });
        ours
    }

    fn hello(flags: u16) -> Vec<u8> {
        [&GREETING.to_be_bytes()[..], &OPTION.to_be_bytes(), &flags.to_be_bytes()].concat()
    }

    fn size(zeroes: usize) -> Vec<u8> {
        [&1_000_000_u64.to_be_bytes()[..], &[0, 3], &vec![0; zeroes]].concat()
    }

    fn reply(error: u32, cookie: u64, data: &[u8]) -> Vec<u8> {
        [&REPLY.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes(), data].concat()
    }

    #[test]
    fn a_disk_is_read() {
        for (flags, zeroes) in [(FIXED_NEWSTYLE | NO_ZEROES, 0), (FIXED_NEWSTYLE, 124)] {
            let script = vec![(0, hello(flags)), (20, size(zeroes)), (28, reply(0, 1, b"abc")), (28, reply(5, 2, b""))];
            let mut reader = Reader::new(played(script)).unwrap();
            assert_eq!(reader.size, 1_000_000);
            let mut buffer = [0; 3];
            reader.read_at(4096, &mut buffer).unwrap();
            assert_eq!(&buffer, b"abc");
            assert_eq!(reader.read_at(0, &mut buffer).unwrap_err().raw_os_error(), Some(5));
        }
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let other = [&GREETING.to_be_bytes()[..], &7_u64.to_be_bytes(), &[0, 3]].concat();
        for script in [vec![(0, other)], vec![(0, hello(0))], vec![(0, b"NBDMAGIC".to_vec())]] {
            assert!(Reader::new(played(script)).is_err());
        }
        let script = vec![(0, hello(3)), (20, size(0)), (28, reply(0, 9, b"abc"))];
        let mut reader = Reader::new(played(script)).unwrap();
        assert!(reader.read_at(0, &mut [0; 3]).is_err());
    }
}
