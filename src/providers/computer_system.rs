//! `Msvm_ComputerSystem`: the host and its virtual machines (`hyperv-host.md` §9).

use std::sync::Arc;

use super::answers::{INVALID_PARAMETER, NOT_SUPPORTED, Refusal, accepted, answer};
use super::arguments::required;
use super::element::{COMPUTER_SYSTEM, Element, guid_text};
use super::family::{Elements, Family};
use super::generated::ComputerSystemRequestStateChangeInput;
use super::scope::{Scope, Shared};
use crate::cim::{
    CimDateTime, CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder, MethodDeclaration, ObjectPath,
};
use crate::cimom::{BoxFuture, CallContext, MethodArguments, MethodProvider, MethodResult};
use crate::engine::{Activity, RequestedState, SystemState, VirtualSystem};

/// Serves the host and the machines.
pub(super) struct ComputerSystems {
    host: CimInstance,
    machine: CimInstance,
}

impl ComputerSystems {
    pub(super) fn new(class: &Arc<ClassDeclaration>, host_name: &str) -> Result<Self, CimError> {
        let common = || {
            InstanceBuilder::new(class)
                .set("CreationClassName", COMPUTER_SYSTEM)
                .set("HealthState", 5_u16)
                .set("NumberOfNumaNodes", 1_u16)
                .set("ResetCapability", 1_u16)
                .set("Status", "OK")
        };
        let host = common()
            .set("Caption", "Hosting Computer System")
            .set("Description", "Microsoft Hosting Computer System")
            .set("ElementName", host_name)
            .set("EnabledDefault", 2_u16)
            .set("EnabledState", 2_u16)
            .set("Name", host_name)
            .set("OperationalStatus", [2_u16])
            .set("RequestedState", 12_u16)
            .set("StatusDescriptions", ["OK"])
            .build()?;
        let machine = common()
            .set("Caption", "Virtual Machine")
            .set("Description", "Microsoft Virtual Machine")
            .set("FailedOverReplicationType", 0_u16)
            .set("LastApplicationConsistentReplicationTime", CimDateTime::NEVER)
            .set("LastReplicationTime", CimDateTime::NEVER)
            .set("LastReplicationType", 0_u16)
            .set("ReplicationHealth", 0_u16)
            .set("ReplicationMode", 0_u16)
            .set("ReplicationState", 0_u16)
            .set("RequestedState", 5_u16)
            .build()?;
        Ok(Self { host, machine })
    }
}

impl Family for ComputerSystems {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        // The host comes first, as on a Hyper-V host.
        Box::new(std::iter::once(Element::Host).chain(systems(scope)))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let id = match element {
            Element::Host => return Ok(Some(self.host.clone())),
            Element::System(id) => id,
            _ => return Ok(None),
        };
        match scope.view.system(id) {
            Some(system) => machine(InstanceBuilder::from_template(self.machine.clone()), scope, system).map(Some),
            None => Ok(None),
        }
    }
}

/// All machines.
pub(super) fn systems(scope: &Scope) -> impl Iterator<Item = Element> {
    scope.view.systems().map(|system| Element::System(system.id))
}

fn machine(builder: InstanceBuilder, scope: &Scope, system: &VirtualSystem) -> Result<CimInstance, CimError> {
    let running = system.state == SystemState::Running;
    let uptime = if running { (scope.now - system.state_changed).num_milliseconds() } else { 0 };
    // A machine that was never started has never changed its state.
    let never_changed = system.state == SystemState::Off && system.state_changed <= system.created;
    let (status, descriptions) = status(system);
    builder
        .set("ElementName", system.name.clone())
        .set("EnabledDefault", enabled_default(system.state))
        .set("EnabledState", enabled_state(system.state))
        .set("HealthState", if system.state == SystemState::Failed { 25_u16 } else { 5 })
        .set("EnhancedSessionModeState", if running { 6_u16 } else { 3_u16 })
        .set("InstallDate", CimDateTime::utc(system.created))
        .set("Name", guid_text(system.id))
        .set("OnTimeInMilliseconds", u64::try_from(uptime).unwrap_or(0))
        .set("OperationalStatus", status)
        .set("ProcessID", system.process)
        .set("StatusDescriptions", descriptions)
        .set("TimeOfLastConfigurationChange", CimDateTime::utc(system.config_changed))
        .set(
            "TimeOfLastStateChange",
            if never_changed { CimDateTime::NEVER } else { CimDateTime::utc(system.state_changed) },
        )
        .build()
}

/// The number of a state; those on the way have vendor values where the standard has none.
pub(super) const fn enabled_state(state: SystemState) -> u16 {
    match state {
        // The process is there; what is wrong is told by the health.
        SystemState::Running | SystemState::Failed => 2,
        SystemState::Off => 3,
        SystemState::Stopping => 4,
        SystemState::Saved => 6,
        SystemState::Paused => 9,
        SystemState::Starting => 10,
        SystemState::Saving => 32773,
        SystemState::Pausing => 32776,
    }
}

const fn enabled_default(state: SystemState) -> u16 {
    match state {
        SystemState::Off | SystemState::Stopping => 3,
        SystemState::Saved | SystemState::Saving => 6,
        _ => 2,
    }
}

/// `OperationalStatus` and its words: in service with what a job does, else OK (`snapshot-semantics` §3).
pub(super) fn status(system: &VirtualSystem) -> (CimValue, CimValue) {
    let Some(activity) = system.activity else {
        if system.state == SystemState::Failed {
            return ([6_u16].into(), ["The guest was stopped by an error"].into());
        }
        return ([2_u16].into(), ["Operating normally"].into());
    };
    let (number, words) = match activity {
        Activity::CreatingSnapshot => (32768_u16, "Creating snapshot"),
        Activity::ApplyingSnapshot => (32769, "Applying snapshot"),
        Activity::DeletingSnapshot => (32770, "Deleting snapshot"),
        Activity::Exporting => (32773, "Exporting virtual machine"),
        Activity::MergingDisks => (32772, "Merging disks"),
    };
    ([11, number].into(), ["In service", words].into())
}

/// Carries out the methods of machines.
pub(super) struct ComputerSystemMethods {
    pub(super) shared: Arc<Shared>,
}

impl MethodProvider for ComputerSystemMethods {
    fn invoke<'a>(
        &'a self,
        cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        target: &'a ObjectPath,
        method: &'a MethodDeclaration,
        arguments: MethodArguments,
    ) -> BoxFuture<'a, Result<MethodResult, CimError>> {
        Box::pin(async move {
            let scope = Scope::new(&self.shared, cx);
            let element = Element::find(class.name().as_str(), target, &scope)
                .ok_or_else(|| CimError::not_found(target.to_relative_text()))?;
            if method.name != "RequestStateChange" {
                return Ok(MethodResult::returning(NOT_SUPPORTED));
            }
            answer(request_state_change(&scope, cx, method, element, arguments).await)
        })
    }
}

async fn request_state_change(
    scope: &Scope,
    cx: &CallContext,
    method: &MethodDeclaration,
    element: Element,
    arguments: MethodArguments,
) -> Result<MethodResult, Refusal> {
    let input = ComputerSystemRequestStateChangeInput::from_arguments(arguments);
    let number = required(input.requested_state)?;
    let requested = match number {
        2 => RequestedState::Enabled,
        3 => RequestedState::Disabled,
        4 => RequestedState::ShutDown,
        6 | 32769 => RequestedState::Saved,
        9 | 32768 => RequestedState::Paused,
        10 | 11 => RequestedState::Reset,
        _ => {
            // A state that exists but that nobody can ask this host for, or one that does not exist.
            let known = method
                .parameter("RequestedState")
                .and_then(|parameter| parameter.value_map.as_ref())
                .is_some_and(|map| map.contains(number.into()));
            return Err(Refusal::Code(if known { NOT_SUPPORTED } else { INVALID_PARAMETER }));
        }
    };
    let Element::System(id) = element else { return Err(Refusal::Code(NOT_SUPPORTED)) };
    let outcome = scope.shared.engine.request_state_change(id, requested, &cx.principal).await?;
    Ok(accepted(scope, &outcome))
}
