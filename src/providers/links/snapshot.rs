//! Machines, their settings and their snapshots (`snapshot-semantics` §2).

use super::common::{each_system, one};
use crate::providers::association::{Association, end, ends_only};
use crate::providers::devices::devices_of;
use crate::providers::element::Element;
use crate::providers::family::Elements;
use crate::providers::scope::Scope;
use crate::providers::setting_data::records;
use crate::time::Guid;

fn each_snapshot(scope: &Scope) -> Elements<'_> {
    Box::new(scope.view.snapshots().map(|snapshot| Element::Snapshot(snapshot.id)))
}

/// Machine to each of its snapshots, recovery snapshots too.
pub(in crate::providers) static SNAPSHOT_OF_SYSTEM: Association = Association {
    class: "Msvm_SnapshotOfVirtualSystem",
    ends: [end("Antecedent"), end("Dependent")],
    starts: each_system,
    forward: |scope, element| match element {
        Element::System(id) => scope.view.snapshots_of(id).map(|snapshot| Element::Snapshot(snapshot.id)).collect(),
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::Snapshot(id) => one(scope.view.snapshot(id).map(|snapshot| Element::System(snapshot.system))),
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Machine to the snapshot its live state descends from.
pub(in crate::providers) static MOST_CURRENT: Association = Association {
    class: "Msvm_MostCurrentSnapshotInBranch",
    ends: [end("Antecedent"), end("Dependent")],
    starts: each_system,
    forward: |scope, element| match element {
        Element::System(id) => {
            one(scope.view.system(id).and_then(|system| system.current_snapshot).map(Element::Snapshot))
        }
        _ => Vec::new(),
    },
    backward: |scope, element| {
        systems_where(scope, element, |scope, system| scope.view.system(system)?.current_snapshot)
    },
    fill: ends_only,
};

/// The snapshot applied last to its machine. The ends are the other way round.
pub(in crate::providers) static LAST_APPLIED: Association = Association {
    class: "Msvm_LastAppliedSnapshot",
    ends: [end("Antecedent"), end("Dependent")],
    starts: each_snapshot,
    forward: |scope, element| systems_where(scope, element, |scope, system| scope.view.system(system)?.last_applied),
    backward: |scope, element| match element {
        Element::System(id) => one(scope.view.system(id).and_then(|system| system.last_applied).map(Element::Snapshot)),
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// The machine of a snapshot, if the machine points to this snapshot.
fn systems_where(scope: &Scope, element: Element, pointer: fn(&Scope, Guid) -> Option<Guid>) -> Vec<Element> {
    let Element::Snapshot(id) = element else { return Vec::new() };
    let system = scope.view.snapshot(id).map(|snapshot| snapshot.system);
    one(system.filter(|system| pointer(scope, *system) == Some(id)).map(Element::System))
}

/// Parent snapshot to child snapshot.
pub(in crate::providers) static PARENT_CHILD: Association = Association {
    class: "Msvm_ParentChildSettingData",
    ends: [end("Antecedent"), end("Dependent")],
    starts: each_snapshot,
    forward: |scope, element| match element {
        Element::Snapshot(id) => scope.view.children_of(id).map(|child| Element::Snapshot(child.id)).collect(),
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::Snapshot(id) => {
            one(scope.view.snapshot(id).and_then(|snapshot| snapshot.parent).map(Element::Snapshot))
        }
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Machine to its active settings; not to snapshots.
pub(in crate::providers) static SETTINGS_DEFINE_STATE: Association = Association {
    class: "Msvm_SettingsDefineState",
    ends: [end("ManagedElement"), end("SettingData")],
    starts: each_system,
    forward: settings_of_system,
    backward: system_of_settings,
    fill: ends_only,
};

fn settings_of_system(_: &Scope, element: Element) -> Vec<Element> {
    match element {
        Element::System(id) => vec![Element::Settings(id)],
        _ => Vec::new(),
    }
}

fn system_of_settings(_: &Scope, element: Element) -> Vec<Element> {
    match element {
        Element::Settings(id) => vec![Element::System(id)],
        _ => Vec::new(),
    }
}

/// Settings record of a machine or snapshot to its device records.
pub(in crate::providers) static SETTING_COMPONENT: Association = Association {
    class: "Msvm_VirtualSystemSettingDataComponent",
    ends: [end("GroupComponent"), end("PartComponent")],
    starts: |scope| Box::new(records(scope)),
    forward: |scope, element| match element {
        Element::Settings(id) | Element::Snapshot(id) => {
            devices_of(&scope.view, id).into_iter().map(Element::Device).collect()
        }
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::Device(device) => one(device.settings(&scope.view)),
        _ => Vec::new(),
    },
    fill: ends_only,
};
