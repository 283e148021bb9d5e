//! Where time and identifiers come from.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use super::{Guid, Timestamp};

/// Tells the time. Implemented once in `app` over the system clock.
pub trait Clock: Send + Sync + 'static {
    /// The current time in UTC.
    fn now(&self) -> Timestamp;
}

/// Makes identifiers. Implemented once in `app` over a random generator.
pub trait IdSource: Send + Sync + 'static {
    /// A GUID that was never handed out before and that nobody can guess.
    fn new_guid(&self) -> Guid;
}

/// A clock that stands still until it is moved; for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub const fn new(start: Timestamp) -> Self {
        Self(Mutex::new(start))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: chrono::Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Identifiers that count up from 1; for tests.
#[derive(Debug, Default)]
pub struct SequentialIds(AtomicU64);

impl IdSource for SequentialIds {
    fn new_guid(&self) -> Guid {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Guid::from_uuid(Uuid::from_u64_pair(0, number))
    }
}
