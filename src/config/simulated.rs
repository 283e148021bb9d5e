//! The sections `[backend.simulated]` and `[[backend.simulated.failure]]`.

use std::time::Duration;

use toml::de::DeTable;

use crate::backend::{Fault, MachineDefinition, MachineState, ScriptedFailure, SimulatedCall, SimulatedScript};
use crate::time::Guid;

use super::diagnostics::Sink;
use super::reader::{Section, tables};

const SECTION: &str = "backend.simulated";

/// Reads how the simulated host behaves.
pub(super) fn script(
    root: &DeTable<'_>,
    kind: &str,
    machines: &[MachineDefinition],
    sink: &mut Sink<'_>,
) -> SimulatedScript {
    let backend = root.get("backend").and_then(|backend| backend.get_ref().as_table());
    let Some(value) = backend.and_then(|backend| backend.get("simulated")) else {
        return SimulatedScript::default();
    };
    if kind != "simulated" {
        sink.report(Some(value.span()), format!("[{SECTION}] is for kind = \"simulated\", not for {kind:?}"));
    }
    let Some(own) = value.get_ref().as_table() else {
        sink.report(Some(value.span()), format!("simulated is a section and is written [{SECTION}]"));
        return SimulatedScript::default();
    };
    let failures = tables(own, "failure", "backend.simulated.failure", sink, |section| failure(section, machines));
    let mut section = Section::new(SECTION, Some(own), Some(value.span()), sink);
    let mut script = SimulatedScript { failures, ..SimulatedScript::default() };
    for (call, name) in [
        (SimulatedCall::Create, "create_ms"),
        (SimulatedCall::Apply, "apply_ms"),
        (SimulatedCall::Destroy, "destroy_ms"),
        (SimulatedCall::ClearMemory, "clear_memory_ms"),
        (SimulatedCall::ChangeState, "change_state_ms"),
        (SimulatedCall::Freeze, "freeze_ms"),
        (SimulatedCall::Convert, "convert_ms"),
        (SimulatedCall::DestroyReferencePoints, "destroy_reference_point_ms"),
        (SimulatedCall::Export, "export_ms"),
    ] {
        script.durations.insert(call, Duration::from_millis(section.number(name)));
    }
    for (state, name) in
        [(MachineState::Running, "running"), (MachineState::Paused, "paused"), (MachineState::Saved, "saved")]
    {
        for machine in listed(&mut section, name, machines) {
            if script.states.insert(machine, state).is_some() {
                section.report(name, "a machine of this list stands in another one too");
            }
        }
    }
    script.without_agent = listed(&mut section, "without_agent", machines).into_iter().collect();
    script
}

/// The machine with a name or a GUID.
fn find(text: &str, machines: &[MachineDefinition]) -> Option<Guid> {
    let id = text.parse().ok();
    machines.iter().find(|machine| machine.name == text || Some(machine.id) == id).map(|machine| machine.id)
}

fn listed(section: &mut Section<'_, '_, '_>, name: &str, machines: &[MachineDefinition]) -> Vec<Guid> {
    let mut found = Vec::new();
    for text in section.list(name) {
        match find(&text, machines) {
            Some(machine) => found.push(machine),
            None => section.report(name, format!("{text} is no machine")),
        }
    }
    found
}

fn failure(section: &mut Section<'_, '_, '_>, machines: &[MachineDefinition]) -> Option<ScriptedFailure> {
    let call = match section.required_choice("call")? {
        "apply" => SimulatedCall::Apply,
        "destroy" => SimulatedCall::Destroy,
        "clear-memory" => SimulatedCall::ClearMemory,
        "change-state" => SimulatedCall::ChangeState,
        "freeze" => SimulatedCall::Freeze,
        "convert" => SimulatedCall::Convert,
        "destroy-reference-point" => SimulatedCall::DestroyReferencePoints,
        "export" => SimulatedCall::Export,
        _ => SimulatedCall::Create,
    };
    let text = section.text("text").unwrap_or_default();
    let fault = match section.choice("fault") {
        Some("hang") => Fault::Hang,
        Some("die") => Fault::Die,
        Some("no-space") => Fault::NoSpace,
        Some("access-denied") => Fault::AccessDenied,
        Some("unreachable") => Fault::Unreachable,
        _ => Fault::Fail(text),
    };
    let nth = section.number("nth");
    let named = section.text("machine");
    let machine = named.as_deref().and_then(|name| find(name, machines));
    if let (Some(name), None) = (named, machine) {
        section.report("machine", format!("{name} is no machine"));
        return None;
    }
    Some(ScriptedFailure { call, nth, machine, fault })
}
