//! Time and identifiers as values (rank 0).
//!
//! Nothing below the transport reads a clock or makes an identifier by itself: both come in as
//! values or through [`Clock`] and [`IdSource`], which `app` implements once. That keeps every
//! layer deterministic under test.

mod duration;
mod guid;
mod source;

pub use duration::{DurationError, format_xs_duration, parse_xs_duration};
pub use guid::{Guid, GuidError};
pub use source::{Clock, IdSource, ManualClock, SequentialIds};

/// A point in time, always UTC.
pub type Timestamp = chrono::DateTime<chrono::Utc>;
