//! Collections and snapshot collections (`snapshot-semantics` §6).

use super::common::{each_collection, one};
use crate::engine::CollectionKind;
use crate::providers::association::{Association, end, ends_only};
use crate::providers::element::{Element, collection_element};
use crate::providers::scope::Scope;
use crate::time::Guid;

/// Collection to its machines.
pub(in crate::providers) static COLLECTED_SYSTEMS: Association = Association {
    class: "Msvm_CollectedVirtualSystems",
    ends: [end("Collection"), end("Member")],
    starts: |scope| each_collection(scope, CollectionKind::Machines),
    forward: |scope, element| match element {
        Element::SystemCollection(id) => {
            let known = members(scope, id).into_iter().filter(|member| scope.view.system(*member).is_some());
            known.map(Element::System).collect()
        }
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::System(id) => collections_with(scope, id, CollectionKind::Machines),
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Collection to its collections.
pub(in crate::providers) static COLLECTED_COLLECTIONS: Association = Association {
    class: "Msvm_CollectedCollections",
    ends: [end("Collection"), end("Member")],
    starts: |scope| each_collection(scope, CollectionKind::Collections),
    forward: |scope, element| match element {
        Element::ManagementCollection(id) => members(scope, id)
            .into_iter()
            .filter_map(|member| scope.view.collection(member))
            .map(|member| collection_element(member.id, member.kind))
            .collect(),
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::SystemCollection(id) | Element::ManagementCollection(id) => {
            collections_with(scope, id, CollectionKind::Collections)
        }
        _ => Vec::new(),
    },
    fill: ends_only,
};

fn members(scope: &Scope, collection: Guid) -> Vec<Guid> {
    scope.view.collection(collection).map_or_else(Vec::new, |collection| collection.members.clone())
}

fn collections_with(scope: &Scope, member: Guid, kind: CollectionKind) -> Vec<Element> {
    let found = scope.view.collections_with(member).filter(|collection| collection.kind == kind);
    found.map(|collection| collection_element(collection.id, kind)).collect()
}

/// Snapshot collection to its snapshots.
pub(in crate::providers) static COLLECTED_SNAPSHOTS: Association = Association {
    class: "Msvm_CollectedSnapshots",
    ends: [end("Collection"), end("Member")],
    starts: |scope| Box::new(scope.view.snapshot_collections().map(|set| Element::SnapshotCollection(set.id))),
    forward: |scope, element| match element {
        Element::SnapshotCollection(id) => scope.view.snapshot_collection(id).map_or_else(Vec::new, |set| {
            let known = set.snapshots.iter().filter(|snapshot| scope.view.snapshot(**snapshot).is_some());
            known.copied().map(Element::Snapshot).collect()
        }),
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::Snapshot(id) => {
            let set = scope.view.snapshot(id).and_then(|snapshot| snapshot.snapshot_collection);
            one(set.filter(|set| scope.view.snapshot_collection(*set).is_some()).map(Element::SnapshotCollection))
        }
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Collection to its snapshot collections.
pub(in crate::providers) static SNAPSHOT_OF_COLLECTION: Association = Association {
    class: "Msvm_SnapshotOfVirtualSystemCollection",
    ends: [end("Antecedent"), end("Dependent")],
    starts: |scope| each_collection(scope, CollectionKind::Machines),
    forward: |scope, element| match element {
        Element::SystemCollection(id) | Element::ManagementCollection(id) => {
            scope.view.snapshot_collections_of(id).map(|set| Element::SnapshotCollection(set.id)).collect()
        }
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::SnapshotCollection(id) => {
            let collection = scope.view.snapshot_collection(id).and_then(|set| scope.view.collection(set.collection));
            one(collection.map(|collection| collection_element(collection.id, collection.kind)))
        }
        _ => Vec::new(),
    },
    fill: ends_only,
};
