//! `ModifySystemSettings`: new names, notes and settings of machines and snapshots (`snapshot-semantics` §1, §2), and
//! `ModifyResourceSettings`.

use super::answers::{DONE, INVALID_PARAMETER, NOT_SUPPORTED, Refusal};
use super::arguments::required;
use super::device_settings::DeviceSettings;
use super::devices::Device;
use super::element::{Element, SETTING_DATA};
use super::family::Family;
use super::generated::{ModifyResourceSettingsInput, ModifySystemSettingsInput};
use super::scope::Scope;
use super::snapshot_settings::Given;
use crate::cim::{CimError, CimValue, ClassName, ObjectPath};
use crate::cimom::{MethodArguments, MethodResult, Principal};
use crate::engine::{ShutdownAction, StartupAction, SystemChange, UserSnapshotType};

/// Changes what can be changed and leaves the rest of the record alone: clients send the whole of it back.
pub(super) async fn modify_system_settings(
    scope: &Scope,
    arguments: MethodArguments,
    user: &Principal,
) -> Result<MethodResult, Refusal> {
    let input = ModifySystemSettingsInput::from_arguments(arguments);
    let given = Given::read(&scope.shared.schema, &input.system_settings)?
        .filter(|given| given.is_a("CIM_VirtualSystemSettingData"))
        .ok_or(Refusal::Code(INVALID_PARAMETER))?;
    let id = given.text("InstanceID").ok_or(Refusal::Code(INVALID_PARAMETER))?;
    let path = ObjectPath::relative(ClassName::from_static(SETTING_DATA)).with_key("InstanceID", id);
    let engine = &scope.shared.engine;
    match Element::find(SETTING_DATA, &path, scope) {
        Some(Element::Settings(system)) => {
            let change = system_change(&given).map_err(|error| {
                tracing::info!(%error, "settings were refused");
                Refusal::Code(INVALID_PARAMETER)
            })?;
            engine.modify_system(system, change, user).await?;
        }
        Some(Element::Snapshot(snapshot)) => {
            engine.modify_snapshot(snapshot, given.name(), given.notes(), user).await?;
        }
        _ => return Err(Refusal::Code(INVALID_PARAMETER)),
    }
    Ok(MethodResult::returning(DONE))
}

/// Takes device records that are sent back as they were. Hardware comes from the definition of the machine, so a record
/// that says something else is refused with 32770.
pub(super) fn modify_resource_settings(scope: &Scope, arguments: MethodArguments) -> Result<MethodResult, Refusal> {
    let input = ModifyResourceSettingsInput::from_arguments(arguments);
    let mut resulting: Vec<CimValue> = Vec::new();
    for settings in required(input.resource_settings.as_array())? {
        let given = Given::read(&scope.shared.schema, settings)?.ok_or(Refusal::Code(INVALID_PARAMETER))?;
        let device = given.text("InstanceID").and_then(|id| Device::find(id, &scope.view));
        let device = required(device.filter(|device| given.is_a(device.class_name())))?;
        let class = scope.shared.class(device.class_name()).map_err(Refusal::Fault)?;
        let family = DeviceSettings::new(device.class_name(), class).map_err(Refusal::Fault)?;
        let current = family.instance(scope, Element::Device(device)).map_err(Refusal::Fault)?;
        if given.changes(&required(current)?) {
            return Err(Refusal::Code(NOT_SUPPORTED));
        }
        resulting.push(Element::Device(device).path(scope).into());
    }
    Ok(MethodResult::returning(DONE).with("ResultingResourceSettings", CimValue::Array(resulting.into())))
}

/// What the given settings change of a machine.
pub(super) fn system_change(given: &Given) -> Result<SystemChange, CimError> {
    Ok(SystemChange {
        name: given.name(),
        notes: given.notes(),
        user_snapshot_type: choice(given, "UserSnapshotType", UserSnapshotType::from_number)?,
        incremental_backup: given.boolean("IncrementalBackupEnabled"),
        startup_action: choice(given, "AutomaticStartupAction", StartupAction::from_number)?,
        shutdown_action: choice(given, "AutomaticShutdownAction", ShutdownAction::from_number)?,
    })
}

/// A given number as what it stands for; one that the value map only reserves is refused.
fn choice<T>(given: &Given, name: &str, from_number: fn(u16) -> Option<T>) -> Result<Option<T>, CimError> {
    let Some(number) = given.number(name) else { return Ok(None) };
    let refused = || CimError::invalid_parameter(format!("{name} cannot be {number}"));
    from_number(number).map(Some).ok_or_else(refused)
}
