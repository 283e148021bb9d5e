//! The states of machines: looking at them and changing them.

use std::sync::Arc;
use std::time::Duration;

use smol_str::format_smolstr;
use tracing::warn;

use super::report::Chain;
use super::runner::{Inner, NewJob};
use super::settings::check_lasting;
use super::work::needs_power_action;
use super::{ElementRef, EngineError, JobKind, Outcome, RequestedState, SystemState, VirtualSystem, Work};
use crate::time::Guid;

/// How long a look at a machine may take.
const LOOK: Duration = Duration::from_secs(5);

impl Inner {
    /// Brings the recorded state of the systems of a job up to date. A host that does not answer is found out later,
    /// by the call itself.
    pub(super) async fn look_at_systems(&self, job: Guid) {
        let view = self.view();
        let Some(job) = view.job(job) else { return };
        for system in job.work.systems(&view) {
            self.look_at(system).await;
        }
    }

    /// Brings the recorded state of one system up to date.
    pub(super) async fn look_at(&self, id: Guid) {
        let state = match tokio::time::timeout(LOOK, self.hypervisor.state(id)).await {
            Ok(Ok(state)) => SystemState::from(state),
            Ok(Err(error)) => {
                warn!(system = %id, error = %Chain(&error), "The state is not known");
                return;
            }
            Err(_) => {
                warn!(system = %id, "The host does not answer");
                return;
            }
        };
        let process = self.hypervisor.process_id(id);
        if self.view().system(id).is_some_and(|system| system.state == state && system.process == process) {
            return;
        }
        let stored = self.ledger.transact(|draft| {
            let system = draft.system(id)?;
            if system.state != state {
                let state_changed = self.now();
                draft.put_system(VirtualSystem { state, state_changed, process, ..VirtualSystem::clone(system) });
            } else if system.process != process {
                draft.show_system(VirtualSystem { process, ..VirtualSystem::clone(system) });
            }
            Ok::<_, EngineError>(())
        });
        if let Err(error) = stored.await {
            warn!(system = %id, error = %Chain(&error), "The state could not be stored");
        }
    }

    pub(super) async fn request_state_change(
        self: &Arc<Self>,
        id: Guid,
        requested: RequestedState,
        user: &str,
    ) -> Result<Outcome<()>, EngineError> {
        let view = self.view();
        let system = view.system(id).ok_or(EngineError::NoSuchSystem(id))?;
        check_lasting(system.state)?;
        if requested != RequestedState::Reset && system.state == requested.leads_to() && view_is_idle(&view, id) {
            return Ok(Outcome::Done(()));
        }
        if !self.hypervisor.capabilities().power {
            return Err(EngineError::NotSupported("changing the state of a machine"));
        }
        let submitted = self.submit(user, |draft| {
            let system = draft.system(id)?;
            check_lasting(system.state)?;
            if view_is_idle(draft.view(), id) {
                needs_power_action(system.state, requested)?;
            }
            Ok(NewJob {
                kind: JobKind::ChangeState,
                target: ElementRef::System(id),
                caption: format_smolstr!("Changing the state of {}", system.name),
                affected: vec![ElementRef::System(id)],
                lanes: vec![id],
                work: Work::ChangeState { system: id, requested },
            })
        });
        Ok(Outcome::Started { job: submitted.await? })
    }
}

/// True if no job on the machine is unfinished, so that its state is the one a new job will find.
/// True when no job works on a system or waits for it.
pub(super) fn view_is_idle(view: &super::View, system: Guid) -> bool {
    view.jobs_of(system).all(|job| job.state.is_final())
}
