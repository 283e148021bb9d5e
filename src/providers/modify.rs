//! `ModifySystemSettings`: new names, notes and settings of machines and snapshots (`snapshot-semantics` §1, §2).

use super::answers::{DONE, INVALID_PARAMETER, Refusal};
use super::element::{Element, SETTING_DATA};
use super::generated::ModifySystemSettingsInput;
use super::scope::Scope;
use super::snapshot_settings::Given;
use crate::cim::{CimError, ClassName, ObjectPath};
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
