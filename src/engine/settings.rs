//! Pure decisions about a snapshot: what is captured, how it is named, which states permit what.

use chrono::FixedOffset;
use smol_str::{SmolStr, format_smolstr};

use super::{ConsistencyLevel, EngineError, Failure, JobFailure, SystemState, UserSnapshotType};
use crate::backend::{Capabilities, Quiesce};
use crate::time::Timestamp;

/// The longest display name, in characters.
const MAX_NAME: usize = 100;

/// What is captured of a machine besides its disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capture {
    pub(super) memory: bool,
    pub(super) quiesce: Quiesce,
}

/// Decides what a snapshot captures (`snapshot-semantics` §3: types, states and consistency levels).
///
/// `full` stands for the types that may hold memory. A machine that is off, saved or paused is quiescent by itself.
/// A production snapshot (`UserSnapshotType` 3 and 4) of a running machine freezes the guest; when that fails, 3 takes
/// the memory as well and 4 fails.
pub(super) const fn capture(
    full: bool,
    user_type: UserSnapshotType,
    state: SystemState,
    wanted: ConsistencyLevel,
) -> Capture {
    let production_only = matches!(user_type, UserSnapshotType::ProductionOnly);
    match state {
        SystemState::Saved => Capture { memory: full, quiesce: Quiesce::Never },
        SystemState::Paused => Capture { memory: full && !production_only, quiesce: Quiesce::Never },
        SystemState::Running if full && matches!(user_type, UserSnapshotType::Standard) => {
            Capture { memory: true, quiesce: Quiesce::Never }
        }
        SystemState::Running => {
            let quiesce = match wanted {
                ConsistencyLevel::Crash => Quiesce::Never,
                _ if full && production_only => Quiesce::Require,
                _ if full => Quiesce::TryElseMemory,
                ConsistencyLevel::Application => Quiesce::Require,
                ConsistencyLevel::Unknown => Quiesce::Try,
            };
            Capture { memory: false, quiesce }
        }
        _ => Capture { memory: false, quiesce: Quiesce::Never },
    }
}

/// Why a snapshot cannot be taken in this state, found when the job begins.
pub(super) fn refuse_creation(
    user_type: UserSnapshotType,
    state: SystemState,
    capture: Capture,
    can: Capabilities,
) -> Option<JobFailure> {
    let refuse = |failure, text: &str| Some(JobFailure { failure, description: text.to_owned() });
    if user_type == UserSnapshotType::Disabled {
        return refuse(Failure::NotSupported, "checkpoints have been disabled for this virtual machine");
    }
    if state.is_transient() || (!can.running && !matches!(state, SystemState::Off | SystemState::Saved)) {
        return Some(wrong_state(state, "off"));
    }
    if state == SystemState::Failed {
        return Some(wrong_state(state, "running, paused, saved or off"));
    }
    if capture.memory && !can.memory && state != SystemState::Saved {
        return refuse(Failure::NotSupported, "this back-end cannot capture the memory of a running virtual machine");
    }
    None
}

/// The failure of a job that came too late.
pub(super) fn wrong_state(state: SystemState, needed: &str) -> JobFailure {
    let description = format!("check the state: the virtual machine is {state}, {needed} is needed");
    JobFailure { failure: Failure::InvalidState, description }
}

/// Fails unless a snapshot may be applied in this state: off or saved.
pub(super) const fn check_apply(state: SystemState) -> Result<(), EngineError> {
    match state {
        SystemState::Off | SystemState::Saved => Ok(()),
        _ => Err(EngineError::InvalidState { state, needed: "off or saved" }),
    }
}

/// Fails while the machine is on its way from one state to another.
pub(super) const fn check_lasting(state: SystemState) -> Result<(), EngineError> {
    if state.is_transient() {
        return Err(EngineError::InvalidState { state, needed: "a lasting state" });
    }
    Ok(())
}

/// Fails unless a snapshot may be taken in this state.
pub(super) fn check_creation(state: SystemState, can: Capabilities) -> Result<(), EngineError> {
    check_lasting(state)?;
    if state == SystemState::Failed {
        return Err(EngineError::InvalidState { state, needed: "running, paused, saved or off" });
    }
    if !can.running && !matches!(state, SystemState::Off | SystemState::Saved) {
        return Err(EngineError::InvalidState { state, needed: "off" });
    }
    Ok(())
}

/// Fails for a display name that is empty, too long or has control characters.
pub(super) fn check_name(name: &str) -> Result<(), EngineError> {
    let reason = if name.trim().is_empty() {
        "it is empty"
    } else if name.chars().count() > MAX_NAME {
        "it is longer than 100 characters"
    } else if name.chars().any(char::is_control) {
        "it has control characters"
    } else {
        return Ok(());
    };
    Err(EngineError::InvalidParameter { parameter: "name", reason })
}

/// `web01 - (2026-11-21 - 14:05:09)`, in local time, cut to the longest name.
pub(super) fn default_name(of: &str, at: Timestamp, utc_offset_seconds: i32) -> SmolStr {
    let suffix = match FixedOffset::east_opt(utc_offset_seconds) {
        Some(offset) => at.with_timezone(&offset).format(" - (%Y-%m-%d - %H:%M:%S)").to_string(),
        None => at.format(" - (%Y-%m-%d - %H:%M:%S)").to_string(),
    };
    let room = MAX_NAME.saturating_sub(suffix.chars().count());
    let of: String = of.chars().take(room).collect();
    format_smolstr!("{of}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capture_follows_type_state_and_level() {
        use ConsistencyLevel::{Application, Crash, Unknown};
        use Quiesce::{Never, Require, Try, TryElseMemory};
        use SystemState::{Off, Paused, Running, Saved};
        use UserSnapshotType::{ProductionFallback, ProductionOnly, Standard};
        for (full, user_type, state, wanted, memory, quiesce) in [
            (true, Standard, Running, Unknown, true, Never),
            (true, Standard, Running, Application, true, Never),
            (true, Standard, Off, Application, false, Never),
            (true, Standard, Saved, Unknown, true, Never),
            (true, Standard, Paused, Unknown, true, Never),
            (true, ProductionFallback, Running, Unknown, false, TryElseMemory),
            (true, ProductionFallback, Running, Crash, false, Never),
            (true, ProductionFallback, Paused, Unknown, true, Never),
            (true, ProductionOnly, Running, Unknown, false, Require),
            (true, ProductionOnly, Running, Crash, false, Never),
            (true, ProductionOnly, Paused, Application, false, Never),
            (false, Standard, Running, Unknown, false, Try),
            (false, Standard, Running, Application, false, Require),
            (false, ProductionOnly, Running, Crash, false, Never),
            (false, Standard, Saved, Unknown, false, Never),
            (false, Standard, Paused, Application, false, Never),
        ] {
            let found = capture(full, user_type, state, wanted);
            assert_eq!(found, Capture { memory, quiesce }, "{full} {user_type:?} {state:?} {wanted:?}");
        }
    }

    #[test]
    fn names_are_checked_and_made() {
        for (name, valid) in [("web01", true), ("", false), ("  ", false), ("a\nb", false), ("ü", true)] {
            assert_eq!(check_name(name).is_ok(), valid, "{name:?}");
        }
        assert!(check_name(&"ä".repeat(100)).is_ok());
        assert!(check_name(&"ä".repeat(101)).is_err());
        let at = "2026-11-21T13:05:09Z".parse().unwrap();
        assert_eq!(default_name("web01", at, 3600), "web01 - (2026-11-21 - 14:05:09)");
        assert_eq!(default_name(&"x".repeat(200), at, 0).chars().count(), MAX_NAME);
    }
}
