//! Reference points, their machines and collections, and the export settings of machines.

use super::common::{each_collection, each_system, one};
use crate::cim::InstanceBuilder;
use crate::engine::CollectionKind;
use crate::providers::association::{Association, end, ends_only};
use crate::providers::element::{Element, collection_element, point_element, points_element};

/// Machine to its reference points.
pub(in crate::providers) static POINT_OF_SYSTEM: Association = Association {
    class: "Msvm_ReferencePointOfVirtualSystem",
    ends: [end("Antecedent"), end("Dependent")],
    starts: each_system,
    forward: |scope, element| match element {
        Element::System(id) => scope.view.reference_points_of(id).map(|point| point_element(point)).collect(),
        _ => Vec::new(),
    },
    backward: |_, element| match element {
        Element::ReferencePoint { system, .. } => vec![Element::System(system)],
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Reference point collection to its reference points.
pub(in crate::providers) static COLLECTED_POINTS: Association = Association {
    class: "Msvm_CollectedReferencePoints",
    ends: [end("Collection"), end("Member")],
    starts: |scope| Box::new(scope.view.reference_point_collections().map(|set| points_element(set))),
    forward: |scope, element| match element {
        Element::ReferencePointCollection { set, .. } => {
            let members = scope.view.reference_point_collection(set).map(|set| set.points.clone()).unwrap_or_default();
            let known = members.iter().filter_map(|point| scope.view.reference_point(*point));
            known.map(|point| point_element(point)).collect()
        }
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::ReferencePoint { point, .. } => {
            let set = scope.view.reference_point(point).and_then(|point| point.collection);
            one(set.and_then(|set| scope.view.reference_point_collection(set)).map(|set| points_element(set)))
        }
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Collection to its reference point collections.
pub(in crate::providers) static POINTS_OF_COLLECTION: Association = Association {
    class: "Msvm_ReferencePointOfVirtualSystemCollection",
    ends: [end("Antecedent"), end("Dependent")],
    starts: |scope| {
        let machines = each_collection(scope, CollectionKind::Machines);
        Box::new(machines.chain(each_collection(scope, CollectionKind::Collections)))
    },
    forward: |scope, element| match element {
        Element::SystemCollection(id) | Element::ManagementCollection(id) => {
            scope.view.reference_point_collections_of(id).map(|set| points_element(set)).collect()
        }
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::ReferencePointCollection { collection, .. } => {
            let found = scope.view.collection(collection);
            one(found.map(|collection| collection_element(collection.id, collection.kind)))
        }
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Machine to the settings of its export.
pub(in crate::providers) static EXPORT_SETTINGS: Association = Association {
    class: "Msvm_SystemExportSettingData",
    ends: [end("ManagedElement"), end("SettingData")],
    starts: each_system,
    forward: |_, element| match element {
        Element::System(id) => vec![Element::ExportSettings(id)],
        _ => Vec::new(),
    },
    backward: |_, element| match element {
        Element::ExportSettings(id) => vec![Element::System(id)],
        _ => Vec::new(),
    },
    fill: |_, builder: InstanceBuilder, _| builder.set("IsDefault", 1_u16).set("IsCurrent", 1_u16).set("IsNext", 0_u16),
};
