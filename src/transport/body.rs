//! Reading the body of a request.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Why a body could not be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// More bytes than the limit.
    #[error("body too large")]
    TooLarge,
    /// The packet retrieval timer ran out.
    #[error("body not received in time")]
    TimedOut,
    /// The connection broke, or the chunks cannot be read.
    #[error("body cut off or not readable")]
    Broken,
}

/// Whether the client announced that no body follows.
pub(super) fn is_empty(body: &Incoming) -> bool {
    body.is_end_stream()
}

/// The length that the client announced; `None` for a chunked body.
pub(super) fn announced_length(body: &Incoming) -> Option<u64> {
    body.size_hint().exact()
}

/// Reads a body of at most `limit` bytes within `time`. The first call makes hyper answer
/// `Expect: 100-continue`, so it comes after every check of the head.
pub(super) async fn read(body: Incoming, limit: usize, time: Duration) -> Result<Bytes, BodyError> {
    if is_empty(&body) {
        return Ok(Bytes::new());
    }
    tokio::time::timeout(time, collect(body, limit)).await.unwrap_or(Err(BodyError::TimedOut))
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut whole: Option<BytesMut> = None;
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        length += data.len();
        if length > limit {
            return Err(BodyError::TooLarge);
        }
        match &mut whole {
            Some(buffer) => buffer.extend_from_slice(&data),
            // Nearly every body arrives in one piece and is used where it lies.
            None if first.is_empty() => first = data,
            None => {
                let to_come = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
                let mut buffer = BytesMut::with_capacity(length + to_come.min(limit));
                buffer.extend_from_slice(&first);
                buffer.extend_from_slice(&data);
                whole = Some(buffer);
            }
        }
    }
    Ok(whole.map_or(first, BytesMut::freeze))
}

/// Reads a body and forgets it, so that the next request on the connection is found.
pub(super) async fn discard(mut body: Incoming, limit: usize, time: Duration) -> Result<(), BodyError> {
    if is_empty(&body) {
        return Ok(());
    }
    let drain = async {
        let mut seen = 0_usize;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| BodyError::Broken)?;
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > limit {
                return Err(BodyError::TooLarge);
            }
        }
        Ok(())
    };
    tokio::time::timeout(time, drain).await.unwrap_or(Err(BodyError::TimedOut))
}
