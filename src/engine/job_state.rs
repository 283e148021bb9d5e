//! The states of a job, as a pure machine (`snapshot-semantics` §5, `backends` §5).

use serde::{Deserialize, Serialize};

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Accepted, waits for its turn.
    New,
    /// Its turn has come; what it needs is being checked.
    Starting,
    /// The back-end works.
    Running,
    /// A terminate request came; what was done is being undone.
    Terminating,
    /// A kill request came; what was done is being undone.
    Killing,
    /// The server was stopped meanwhile; the job is being finished or undone.
    Recovering,
    /// Done.
    Completed,
    /// Cancelled by terminate, everything undone.
    Terminated,
    /// Cancelled by kill, everything undone.
    Killed,
    /// Failed, everything undone.
    Exception,
}

impl JobState {
    /// True when nothing more will happen.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Terminated | Self::Killed | Self::Exception)
    }

    /// The number a client sees. One that waits or recovers is running (4) for a client, because scripts
    /// take a job first seen in 2 or 3 for a failure.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::New | Self::Starting | Self::Running | Self::Recovering => 4,
            Self::Terminating | Self::Killing => 6,
            Self::Completed => 7,
            Self::Terminated => 8,
            Self::Killed => 9,
            Self::Exception => 10,
        }
    }
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobEvent {
    /// Its turn has come.
    Scheduled,
    /// Everything it needs is there.
    Validated,
    /// Something it needs is not there.
    Refused,
    /// The back-end has done it.
    Succeeded,
    /// The back-end has failed and undone it.
    Failed,
    /// A client wants it ended.
    TerminateRequested,
    /// A client wants it ended at once.
    KillRequested,
    /// It was found unfinished at start.
    Recover,
    /// It was found unfinished at start before its turn had come.
    Requeue,
}

/// What the runner does after it has stored the new state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Checks what the job needs.
    Validate,
    /// Calls the back-end.
    RunBackend,
    /// Cancels the call.
    CancelBackend,
    /// Finishes or undoes it.
    RecoverBackend,
    /// Waits for its turn.
    Enqueue,
    /// Gives its place to the next one.
    Finish,
}

/// The event cannot happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {state:?} cannot take {event:?}")]
pub struct InvalidTransition {
    /// The state.
    pub state: JobState,
    /// The event.
    pub event: JobEvent,
}

/// Pure: the runner stores the new state before it performs the effect.
///
/// A cancelled call that succeeds nevertheless, because the request came too late, completes: the job tells the truth.
///
/// # Errors
/// [`InvalidTransition`] when the event cannot happen in this state.
#[expect(clippy::match_same_arms, reason = "one line a transition, in the order of a job's life")]
pub const fn step(state: JobState, event: JobEvent) -> Result<(JobState, Effect), InvalidTransition> {
    use JobEvent as E;
    use JobState as S;
    Ok(match (state, event) {
        (S::New, E::Scheduled) => (S::Starting, Effect::Validate),
        (S::New, E::TerminateRequested) => (S::Terminated, Effect::Finish),
        (S::New, E::KillRequested) => (S::Killed, Effect::Finish),
        (S::New, E::Requeue) => (S::New, Effect::Enqueue),
        (S::Starting, E::Validated) => (S::Running, Effect::RunBackend),
        (S::Running, E::TerminateRequested) => (S::Terminating, Effect::CancelBackend),
        (S::Running, E::KillRequested) => (S::Killing, Effect::CancelBackend),
        (S::Starting, E::Refused) | (S::Running | S::Recovering, E::Failed) => (S::Exception, Effect::Finish),
        (S::Running | S::Terminating | S::Killing | S::Recovering, E::Succeeded) => (S::Completed, Effect::Finish),
        (S::Terminating, E::Failed) => (S::Terminated, Effect::Finish),
        (S::Killing, E::Failed) => (S::Killed, Effect::Finish),
        (S::Terminating, E::KillRequested) => (S::Killing, Effect::CancelBackend),
        (S::Starting | S::Running | S::Recovering, E::Recover) => (S::Recovering, Effect::RecoverBackend),
        (S::Terminating, E::Recover) => (S::Terminating, Effect::RecoverBackend),
        (S::Killing, E::Recover) => (S::Killing, Effect::RecoverBackend),
        (state, event) => return Err(InvalidTransition { state, event }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [JobState; 10] = [
        JobState::New,
        JobState::Starting,
        JobState::Running,
        JobState::Terminating,
        JobState::Killing,
        JobState::Recovering,
        JobState::Completed,
        JobState::Terminated,
        JobState::Killed,
        JobState::Exception,
    ];

    /// One letter a state in the order of `STATES`; `-` where the event cannot happen.
    const TABLE: [(JobEvent, &str); 9] = [
        (JobEvent::Scheduled, "S---------"),
        (JobEvent::Validated, "-R--------"),
        (JobEvent::Refused, "-X--------"),
        (JobEvent::Succeeded, "--CCCC----"),
        (JobEvent::Failed, "--XtkX----"),
        (JobEvent::TerminateRequested, "t-T-------"),
        (JobEvent::KillRequested, "k-KK------"),
        (JobEvent::Recover, "-VVTKV----"),
        (JobEvent::Requeue, "N---------"),
    ];

    #[test]
    fn the_machine_is_the_table() {
        for (event, row) in TABLE {
            for (state, letter) in STATES.into_iter().zip(row.chars()) {
                let expected = match letter {
                    'N' => Some(JobState::New),
                    'S' => Some(JobState::Starting),
                    'R' => Some(JobState::Running),
                    'T' => Some(JobState::Terminating),
                    'K' => Some(JobState::Killing),
                    'V' => Some(JobState::Recovering),
                    'C' => Some(JobState::Completed),
                    't' => Some(JobState::Terminated),
                    'k' => Some(JobState::Killed),
                    'X' => Some(JobState::Exception),
                    _ => None,
                };
                assert_eq!(step(state, event).ok().map(|(state, _)| state), expected, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_final_state_finishes_and_takes_nothing_more() {
        for state in STATES {
            for (event, _) in TABLE {
                match step(state, event) {
                    Ok((next, effect)) => assert_eq!(next.is_final(), effect == Effect::Finish, "{state:?} {event:?}"),
                    Err(error) => assert_eq!(error, InvalidTransition { state, event }),
                }
                assert!(!state.is_final() || step(state, event).is_err());
            }
        }
    }
}
