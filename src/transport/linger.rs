//! Closing a connection on which the client may still be sending.
//!
//! A socket that is closed with unread bytes in it is reset, and the reset can overtake the answer:
//! the client then sees a broken connection where it should see a 413. So after an early answer the
//! sending side is closed first and what still arrives is read and dropped, within limits.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::limits::{LINGER_BYTES, LINGER_TIME};

/// Set once an answer was given before the request was read to its end.
#[derive(Clone, Debug, Default)]
pub(super) struct LingerFlag(Arc<AtomicBool>);

impl LingerFlag {
    /// Asks for a lingering close.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A stream that lingers in `shutdown` when its flag is set.
#[derive(Debug)]
pub(super) struct LingeringIo<T> {
    io: TokioIo<T>,
    flag: LingerFlag,
    deadline: Option<Pin<Box<Sleep>>>,
    left: usize,
}

impl<T> LingeringIo<T> {
    pub(super) fn new(io: T, flag: LingerFlag) -> Self {
        Self { io: TokioIo::new(io), flag, deadline: None, left: LINGER_BYTES }
    }
}

impl<T: AsyncRead + Unpin> Read for LingeringIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Write for LingeringIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.deadline.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.flag.0.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_TIME)));
        let mut scratch = [0_u8; 4096];
        loop {
            if deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(this.io.inner_mut()).poll_read(cx, &mut buffer));
            let count = buffer.filled().len();
            if read.is_err() || count == 0 || count >= this.left {
                return Poll::Ready(Ok(()));
            }
            this.left -= count;
        }
    }
}
