//! Starting the machines of the demo, and turning them off at its end.

use std::time::Duration;

use smol_str::SmolStr;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::engine::{Engine, Outcome, RequestedState, SystemState};
use crate::time::Guid;

/// Who asks for it.
const USER: &str = "demo";
/// How long a machine may take to start or to end.
const LONGEST: Duration = Duration::from_secs(30);
/// How often its job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A machine that the demo has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedMachine {
    /// Its identity.
    pub id: Guid,
    /// Its name.
    pub name: SmolStr,
}

/// Starts every machine that stands. Gives those that run, and a sentence for each that does not.
pub(super) async fn start(engine: &Engine) -> (Vec<StartedMachine>, Vec<String>) {
    let (mut started, mut failed) = (Vec::new(), Vec::new());
    let systems: Vec<_> = engine.view().systems().cloned().collect();
    for system in systems {
        if system.state != SystemState::Running
            && let Err(problem) = change(engine, system.id, RequestedState::Enabled).await
        {
            failed.push(format!("{} could not be started: {problem}", system.name));
            continue;
        }
        started.push(StartedMachine { id: system.id, name: system.name.clone() });
    }
    (started, failed)
}

/// Turns machines off.
pub(super) async fn stop(engine: &Engine, machines: &[StartedMachine]) {
    for machine in machines {
        if let Err(problem) = change(engine, machine.id, RequestedState::Disabled).await {
            warn!(machine = %machine.name, problem, "A machine of the demo goes on running");
        }
    }
}

async fn change(engine: &Engine, machine: Guid, state: RequestedState) -> Result<(), String> {
    let outcome = engine.request_state_change(machine, state, USER).await.map_err(|error| error.to_string())?;
    let Outcome::Started { job } = outcome else { return Ok(()) };
    let deadline = Instant::now() + LONGEST;
    while Instant::now() < deadline {
        let view = engine.view();
        let Some(job) = view.job(job).filter(|job| job.state.is_final()) else {
            sleep(LOOK_EVERY).await;
            continue;
        };
        return job.failure.as_ref().map_or(Ok(()), |failure| Err(failure.description.clone()));
    }
    Err(format!("it took longer than {} seconds", LONGEST.as_secs()))
}
