//! `Msvm_VirtualSystemSettingData`: the settings record of each machine and of each snapshot
//! (`snapshot-semantics` §1).

use std::sync::Arc;
use std::time::Duration;

use smol_str::{SmolStr, format_smolstr};

use super::element::{Element, guid_text, settings_id};
use super::family::{Elements, Family};
use super::scope::Scope;
use crate::cim::{CimDateTime, CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder};
use crate::engine::{Snapshot, SnapshotKind, SystemState, VirtualSystem};
use crate::time::Timestamp;

/// Serves the settings records.
pub(super) struct SettingData {
    active: CimInstance,
    snapshot: CimInstance,
}

impl SettingData {
    pub(super) fn new(class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let active = fixed(class)
            .set("Description", "Active settings for the virtual machine")
            .set("VirtualSystemType", "Microsoft:Hyper-V:System:Realized")
            .set("IsAutomaticSnapshot", false)
            .build()?;
        // What a snapshot has from its machine, for the case that the machine is gone from the host.
        let snapshot = fixed(class)
            .set("AutomaticShutdownAction", 2_u16)
            .set("AutomaticStartupAction", 2_u16)
            .set("Description", "Snapshot settings for the virtual machine")
            .set("IncrementalBackupEnabled", false)
            .set("UserSnapshotType", 3_u16)
            .build()?;
        Ok(Self { active, snapshot })
    }
}

/// The settings records of all machines and snapshots.
pub(super) fn records(scope: &Scope) -> impl Iterator<Item = Element> {
    let machines = scope.view.systems().map(|system| Element::Settings(system.id));
    machines.chain(scope.view.snapshots().map(|snapshot| Element::Snapshot(snapshot.id)))
}

/// What is the same in every record. A Windows client fails when one of these is null, so each has the value that
/// says the least.
fn fixed(class: &Arc<ClassDeclaration>) -> InstanceBuilder {
    InstanceBuilder::new(class)
        .set("Caption", "Virtual Machine Settings")
        .set("Architecture", if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" })
        .set("Version", "10.0")
        .set("VirtualSystemSubType", "Microsoft:Hyper-V:SubType:2")
        .set("AutomaticRecoveryAction", 2_u16)
        .set("AutomaticStartupActionDelay", CimDateTime::Interval(Duration::ZERO))
        .set("AutomaticStartupActionSequenceNumber", 0_u16)
        .set("AutomaticCriticalErrorAction", 0_u16)
        .set("AutomaticCriticalErrorActionTimeout", CimDateTime::Interval(Duration::ZERO))
        .set("AutomaticSnapshotsEnabled", false)
        .set("AllowFullSCSICommandSet", false)
        .set("AllowReducedFcRedundancy", false)
        .set("BIOSNumLock", false)
        .set("ConsoleMode", 0_u16)
        .set("DebugPort", 0_u32)
        .set("DebugPortEnabled", 0_u16)
        .set("EnableHibernation", false)
        .set("EnhancedSessionTransportType", 0_u16)
        .set("GuestControlledCacheTypes", false)
        .set("GuestStateIsolationEnabled", false)
        .set("HighMmioGapSize", 512_u64)
        .set("LowMmioGapSize", 128_u64)
        .set("LockOnDisconnect", false)
        .set("NetworkBootPreferredProtocol", 4096_u16)
        .set("PauseAfterBootFailure", false)
        .set("SecureBootEnabled", false)
        .set("TurnOffOnGuestRestart", false)
        .set("VirtualNumaEnabled", false)
}

impl Family for SettingData {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        Box::new(records(scope))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let builder = match element {
            Element::Settings(id) => {
                let Some(system) = scope.view.system(id) else { return Ok(None) };
                active(InstanceBuilder::from_template(self.active.clone()), scope, system)
            }
            Element::Snapshot(id) => {
                let Some(snapshot) = scope.view.snapshot(id) else { return Ok(None) };
                of_snapshot(InstanceBuilder::from_template(self.snapshot.clone()), scope, snapshot)
            }
            _ => return Ok(None),
        };
        builder.build().map(Some)
    }
}

fn active(builder: InstanceBuilder, scope: &Scope, system: &VirtualSystem) -> InstanceBuilder {
    let parent = system.current_snapshot.map(|id| Element::Snapshot(id).path_text(scope));
    let id = guid_text(system.id);
    let builder = builder
        .set("ConfigurationID", id.clone())
        .set("CreationTime", moment(system.created))
        .set("ElementName", system.name.clone())
        .set("InstanceID", settings_id(system.id))
        .set("IsSaved", system.state == SystemState::Saved)
        .set("Notes", notes(&system.notes))
        .set("Parent", parent);
    of_machine(builder, system, id)
}

fn of_snapshot(builder: InstanceBuilder, scope: &Scope, snapshot: &Snapshot) -> InstanceBuilder {
    let parent = snapshot.parent.map(|id| Element::Snapshot(id).path_text(scope));
    let builder = builder
        .set("ConfigurationID", guid_text(snapshot.id))
        .set("CreationTime", moment(snapshot.created))
        .set("ElementName", snapshot.name.clone())
        .set("InstanceID", settings_id(snapshot.id))
        .set("IsAutomaticSnapshot", snapshot.automatic)
        .set("IsSaved", snapshot.has_memory)
        .set("Notes", notes(&snapshot.notes))
        .set("Parent", parent)
        .set("VirtualSystemType", snapshot_type(snapshot));
    match scope.view.system(snapshot.system) {
        Some(system) => of_machine(builder, system, guid_text(system.id)),
        None => builder.set("VirtualSystemIdentifier", guid_text(snapshot.system)),
    }
}

/// What a snapshot record has from its machine.
fn of_machine(builder: InstanceBuilder, system: &VirtualSystem, id: SmolStr) -> InstanceBuilder {
    builder
        .set("AutomaticShutdownAction", system.shutdown_action.number())
        .set("AutomaticStartupAction", system.startup_action.number())
        .set("BIOSGUID", format_smolstr!("{{{id}}}"))
        .set("BIOSSerialNumber", id.clone())
        .set("IncrementalBackupEnabled", system.incremental_backup)
        .set("UserSnapshotType", system.user_snapshot_type.number())
        .set("VirtualSystemIdentifier", id)
}

/// The string by which clients tell snapshots apart (`snapshot-semantics` §1).
pub(super) const fn snapshot_type(snapshot: &Snapshot) -> &'static str {
    match snapshot.kind {
        _ if snapshot.missing => "Microsoft:Hyper-V:Snapshot:Missing",
        SnapshotKind::Standard => "Microsoft:Hyper-V:Snapshot:Realized",
        SnapshotKind::Recovery => "Microsoft:Hyper-V:Snapshot:Recovery",
    }
}

/// Notes are an array of one text, never null; lines live inside it.
fn notes(text: &str) -> CimValue {
    CimValue::from([SmolStr::new(text)])
}

fn moment(at: Timestamp) -> CimDateTime {
    CimDateTime::utc(at)
}
