//! `ExportSystemDefinition` and `ExportSnapshot`: snapshots written to a directory (`snapshot-semantics` §6 and §10).

use std::path::PathBuf;

use super::answers::{INVALID_PARAMETER, NOT_SUPPORTED, Refusal, accepted};
use super::arguments::{self, required};
use super::generated::{ExportSnapshotInput, VirtualSystemManagementServiceExportSystemDefinitionInput};
use super::scope::Scope;
use super::snapshot_settings::Given;
use crate::cim::{CimValue, ObjectPath};
use crate::cimom::{MethodArguments, MethodResult, Principal};
use crate::engine::{BackupIntent, ExportSettings};

/// Writes one snapshot of a machine. The machine itself, with all snapshots or without any, is not exported: a
/// machine is defined by a file of its host.
pub(super) async fn export_system_definition(
    scope: &Scope,
    arguments: MethodArguments,
    user: &Principal,
) -> Result<MethodResult, Refusal> {
    let input = VirtualSystemManagementServiceExportSystemDefinitionInput::from_arguments(arguments);
    let system = arguments::system(scope, input.computer_system.as_deref())?;
    let directory = directory(input.export_directory.as_deref())?;
    let given = given(scope, &input.export_setting_data, "Msvm_VirtualSystemExportSettingData")?;
    let number = |name, default| given.as_ref().and_then(|given| given.number(name)).unwrap_or(default);
    let flag = |name, default| given.as_ref().and_then(|given| given.boolean(name)).unwrap_or(default);
    // One snapshot (2), or one for a backup (3).
    if !matches!(number("CopySnapshotConfiguration", 0), 2 | 3) || flag("ExportForLiveMigration", false) {
        return Err(Refusal::Code(NOT_SUPPORTED));
    }
    let snapshot = path(given.as_ref(), "SnapshotVirtualSystem")?;
    let snapshot = arguments::snapshot(scope, snapshot.as_ref())?;
    if scope.view.snapshot(snapshot).is_none_or(|snapshot| snapshot.system != system) {
        return Err(Refusal::Code(INVALID_PARAMETER));
    }
    let base = path(given.as_ref(), "DifferentialBackupBase")?;
    let settings = ExportSettings {
        directory,
        subdirectories: flag("CreateVmExportSubdirectory", true),
        disks: flag("CopyVmStorage", true),
        memory: flag("CopyVmRuntimeInformation", true),
        excluded_disks: given.as_ref().map(|given| given.texts("ExcludedVirtualHardDisks")).unwrap_or_default(),
        base: base.map(|base| arguments::reference_point(scope, Some(&base))).transpose()?,
        intent: if number("BackupIntent", 0) == 1 { BackupIntent::Merge } else { BackupIntent::PreserveChain },
    };
    Ok(accepted(scope, &scope.shared.engine.export_snapshot(snapshot, settings, user).await?))
}

/// Writes all snapshots of a snapshot collection, each machine in a directory of its own.
pub(super) async fn export_snapshot(
    scope: &Scope,
    arguments: MethodArguments,
    user: &Principal,
) -> Result<MethodResult, Refusal> {
    let input = ExportSnapshotInput::from_arguments(arguments);
    let set = arguments::snapshot_collection(scope, input.snapshot_collection.as_deref())?;
    let directory = directory(input.export_directory.as_deref())?;
    let given = given(scope, &input.export_setting_data, "Msvm_CollectionSnapshotExportSettingData")?;
    let base = path(given.as_ref(), "DifferentialBackupBase")?;
    let merge = given.as_ref().and_then(|given| given.number("BackupIntent")) == Some(2);
    let settings = ExportSettings {
        directory,
        subdirectories: true,
        disks: given.as_ref().and_then(|given| given.boolean("CopyVmStorage")).unwrap_or(true),
        memory: true,
        excluded_disks: Vec::new(),
        base: base.map(|base| arguments::reference_points(scope, Some(&base))).transpose()?,
        intent: if merge { BackupIntent::Merge } else { BackupIntent::PreserveChain },
    };
    Ok(accepted(scope, &scope.shared.engine.export_group_snapshot(set, settings, user).await?))
}

/// Which directory is allowed is for the job to say, in words.
fn directory(given: Option<&str>) -> Result<PathBuf, Refusal> {
    required(given.filter(|text| !text.is_empty())).map(PathBuf::from)
}

fn given(scope: &Scope, argument: &CimValue, class: &str) -> Result<Option<Given>, Refusal> {
    match Given::read(&scope.shared.schema, argument)? {
        Some(given) if !given.is_a(class) => Err(Refusal::Code(INVALID_PARAMETER)),
        given => Ok(given),
    }
}

/// An object path in a text property; an empty text names nothing.
fn path(given: Option<&Given>, name: &str) -> Result<Option<ObjectPath>, Refusal> {
    let text = given.and_then(|given| given.text(name)).filter(|text| !text.is_empty());
    text.map(|text| required(ObjectPath::parse(text).ok())).transpose()
}
