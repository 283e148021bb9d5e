//! `GetSummaryInformation`: machines and snapshots in flat records (`clients.md` part 5).

use std::sync::Arc;

use super::answers::{DONE, Refusal};
use super::arguments::{element, required};
use super::computer_system::{enabled_state, status};
use super::element::{Element, SETTING_DATA, guid_text, settings_id};
use super::generated::GetSummaryInformationInput;
use super::scope::Scope;
use crate::cim::{CimDateTime, CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder};
use crate::cimom::{MethodArguments, MethodResult};
use crate::engine::{Snapshot, SystemState, VirtualSystem};

/// Answers one record for each settings record, or for every machine when none is named.
pub(super) fn summary_information(scope: &Scope, arguments: MethodArguments) -> Result<MethodResult, Refusal> {
    let input = GetSummaryInformationInput::from_arguments(arguments);
    let wanted = required(input.requested_information)?;
    let elements: Vec<Element> = match input.setting_data {
        Some(paths) => {
            paths.iter().map(|path| element(scope, Some(path), &[SETTING_DATA])).collect::<Result<_, _>>()?
        }
        None => scope.view.systems().map(|system| Element::Settings(system.id)).collect(),
    };
    let class = scope.shared.class("Msvm_SummaryInformation").map_err(Refusal::Fault)?;
    let mut records = Vec::with_capacity(elements.len());
    for element in elements {
        // A record that has just gone is left out.
        if let Some(record) = summary(scope, class, element, &wanted).map_err(Refusal::Fault)? {
            records.push(CimValue::Instance(Arc::new(record)));
        }
    }
    Ok(MethodResult::returning(DONE).with("SummaryInformation", CimValue::Array(records.into())))
}

fn summary(
    scope: &Scope,
    class: &Arc<ClassDeclaration>,
    element: Element,
    wanted: &[u32],
) -> Result<Option<CimInstance>, CimError> {
    let record = match element {
        Element::Settings(id) => scope.view.system(id).map(|system| (system, None)),
        Element::Snapshot(id) => scope
            .view
            .snapshot(id)
            .and_then(|snapshot| scope.view.system(snapshot.system).map(|system| (system, Some(snapshot.as_ref())))),
        _ => None,
    };
    let Some((system, snapshot)) = record else { return Ok(None) };
    let id = snapshot.map_or(system.id, |snapshot| snapshot.id);
    let mut builder = InstanceBuilder::new(class).set("InstanceID", settings_id(id));
    for &item in wanted {
        builder = set(builder, scope, item, system, snapshot);
    }
    builder.build().map(Some)
}

/// Sets what one number of `RequestedInformation` stands for. What is not known of a machine stays null, which is
/// what a host answers for machines that are off.
fn set(
    builder: InstanceBuilder,
    scope: &Scope,
    item: u32,
    system: &VirtualSystem,
    snapshot: Option<&Snapshot>,
) -> InstanceBuilder {
    let (state_words, descriptions) = status(system);
    match item {
        0 => builder.set("Name", guid_text(snapshot.map_or(system.id, |snapshot| snapshot.id))),
        1 => builder.set("ElementName", snapshot.map_or(&system.name, |snapshot| &snapshot.name).clone()),
        2 => {
            let created = snapshot.map_or(system.created, |snapshot| snapshot.created);
            builder.set("CreationTime", CimDateTime::utc(created))
        }
        3 => builder.set("Notes", snapshot.map_or(&system.notes, |snapshot| &snapshot.notes).as_str()),
        4 => {
            let processors = snapshot.map_or(system.processors, |snapshot| snapshot.processors);
            builder.set("NumberOfProcessors", u16::try_from(processors).unwrap_or(u16::MAX))
        }
        100 => builder.set("EnabledState", enabled_state(system.state)),
        103 if system.state == SystemState::Running => builder.set("MemoryUsage", system.memory_mb),
        105 => builder.set("UpTime", uptime(scope, system)),
        107 => builder.set("Snapshots", snapshots(scope, system)),
        108 => builder.set("AsynchronousTasks", tasks(scope, system)),
        109 => builder.set("HealthState", 5_u16),
        110 => builder.set("OperationalStatus", state_words),
        111 => builder.set("StatusDescriptions", descriptions),
        _ => builder,
    }
}

fn uptime(scope: &Scope, system: &VirtualSystem) -> u64 {
    match system.state {
        SystemState::Running => u64::try_from((scope.now - system.state_changed).num_milliseconds()).unwrap_or(0),
        _ => 0,
    }
}

fn snapshots(scope: &Scope, system: &VirtualSystem) -> CimValue {
    let paths: Vec<_> =
        scope.view.snapshots_of(system.id).map(|snapshot| Element::Snapshot(snapshot.id).path(scope)).collect();
    paths.into()
}

/// The jobs of the machine that have not ended.
fn tasks(scope: &Scope, system: &VirtualSystem) -> CimValue {
    let running = scope.view.jobs_of(system.id).filter(|job| !job.state.is_final());
    let paths: Vec<_> = running.map(|job| Element::Job(job.id).path(scope)).collect();
    paths.into()
}
