//! The clock and the source of identifiers of the running program.

use chrono::{Local, Offset, Utc};
use uuid::Uuid;

use crate::time::{Clock, Guid, IdSource, Timestamp};

/// The clock of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one implementation of Clock that reads the system clock")]
    fn now(&self) -> Timestamp {
        Utc::now()
    }
}

impl SystemClock {
    /// Seconds east of UTC, now.
    #[must_use]
    pub fn utc_offset_seconds(self) -> i32 {
        self.now().with_timezone(&Local).offset().fix().local_minus_utc()
    }
}

/// Random identifiers (version 4).
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    #[expect(clippy::disallowed_methods, reason = "the one implementation of IdSource that makes random ones")]
    fn new_guid(&self) -> Guid {
        Guid::from_uuid(Uuid::new_v4())
    }
}
