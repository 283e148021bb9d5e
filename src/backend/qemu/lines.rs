//! Lines of JSON from a peer that is not trusted: each has a length limit.
//!
//! The wire format of QMP and of the guest agent is one JSON value a line.
//! [`LineReader::next`] may be dropped at any await without losing a byte, so a deadline can be put around it.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes asked of the socket at once.
const CHUNK: usize = 16 * 1024;

/// Why there is no line.
#[derive(Debug)]
pub(super) enum LineError {
    /// The line is longer than the limit. Its rest is skipped, and the next call goes on behind it.
    TooLong,
    /// The socket failed.
    Io(io::Error),
}

/// Cuts a stream into lines.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    input: R,
    buffer: BytesMut,
    /// Bytes at the start of the buffer that hold no line end.
    searched: usize,
    /// The rest of a line that was too long is being thrown away.
    skipping: bool,
    limit: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Reads lines of at most `limit` bytes, the line end not counted.
    pub(super) fn new(input: R, limit: usize) -> Self {
        Self { input, buffer: BytesMut::new(), searched: 0, skipping: false, limit }
    }

    /// The next line without its end; `None` when the peer closed, be it in the middle of a line.
    ///
    /// # Errors
    /// [`LineError`]; after [`LineError::TooLong`] the next line can be read.
    pub(super) async fn next(&mut self) -> Result<Option<BytesMut>, LineError> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(position) = unsearched.iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(self.searched + position);
                self.buffer.advance(1);
                self.searched = 0;
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
                if line.len() > self.limit {
                    return Err(LineError::TooLong);
                }
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.skipping || self.buffer.len() > self.limit {
                self.buffer.clear();
                self.searched = 0;
                if !std::mem::replace(&mut self.skipping, true) {
                    return Err(LineError::TooLong);
                }
            }
            self.buffer.reserve(CHUNK);
            if self.input.read_buf(&mut self.buffer).await.map_err(LineError::Io)? == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8], limit: usize) -> Vec<Option<Vec<u8>>> {
        let mut reader = LineReader::new(input, limit);
        let mut found = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(line)) => found.push(Some(line.to_vec())),
                Ok(None) => return found,
                Err(LineError::TooLong) => found.push(None),
                Err(LineError::Io(error)) => panic!("{error}"),
            }
        }
    }

    #[tokio::test]
    async fn lines_end_with_or_without_a_carriage_return() {
        let found = lines(b"one\r\ntwo\n\nend without line end", 10).await;
        assert_eq!(found, [Some(b"one".to_vec()), Some(b"two".to_vec()), Some(Vec::new()), None]);
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_skipped_and_the_next_one_is_read() {
        let mut input = vec![b'x'; 100_000];
        input.extend_from_slice(b"\nnext\n");
        assert_eq!(lines(&input, 1000).await, [None, Some(b"next".to_vec())]);
        assert_eq!(lines(b"12345\n1234\n", 4).await, [None, Some(b"1234".to_vec())]);
    }
}
