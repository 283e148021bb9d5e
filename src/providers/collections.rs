//! Collections of machines, collections of collections and snapshot collections (`snapshot-semantics` §6).

use std::sync::Arc;

use super::element::{Element, collection_element, guid_text};
use super::family::{Elements, Family};
use super::scope::Scope;
use crate::cim::{CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder};
use crate::engine::{Collection, CollectionKind};

/// Serves the collections of one kind.
pub(super) struct Collections {
    kind: CollectionKind,
    template: CimInstance,
}

impl Collections {
    pub(super) fn new(class: &Arc<ClassDeclaration>, kind: CollectionKind) -> Result<Self, CimError> {
        let template = match kind {
            CollectionKind::Machines => InstanceBuilder::new(class)
                .set("Caption", "Virtual System Collection")
                .set("Description", "A collection of virtual systems")
                .set("FailedOverReplicationType", 0_u16)
                .set("ReplicationMode", 0_u16)
                .set("ReplicationState", 0_u16),
            CollectionKind::Collections => InstanceBuilder::new(class)
                .set("Caption", "Management Collection")
                .set("Description", "A collection of collections"),
        };
        Ok(Self { kind, template: template.build()? })
    }
}

impl Family for Collections {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        Box::new(collections(scope, self.kind).map(|collection| collection_element(collection.id, self.kind)))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let (Element::SystemCollection(id) | Element::ManagementCollection(id)) = element else { return Ok(None) };
        let Some(collection) = scope.view.collection(id).filter(|collection| collection.kind == self.kind) else {
            return Ok(None);
        };
        let builder = InstanceBuilder::from_template(self.template.clone())
            .set("CollectionID", guid_text(id))
            .set("ElementName", collection.name.clone());
        let builder = match self.kind {
            CollectionKind::Machines => last_applied(builder, collection),
            CollectionKind::Collections => builder,
        };
        builder.build().map(Some)
    }
}

/// All collections of one kind.
pub(super) fn collections(scope: &Scope, kind: CollectionKind) -> impl Iterator<Item = &Arc<Collection>> {
    scope.view.collections().filter(move |collection| collection.kind == kind)
}

/// What the last application of a group snapshot left: one point in time for all members.
fn last_applied(builder: InstanceBuilder, collection: &Collection) -> InstanceBuilder {
    if collection.last_applied.is_none() {
        return builder.set("LastApplyConsistencyLevel", 0_u16);
    }
    let members: Vec<_> = collection.members.iter().map(|member| guid_text(*member)).collect();
    builder.set("LastApplyConsistencyLevel", 3_u16).set("LastApplyVirtualMachineIds", CimValue::from(members))
}

/// Serves the snapshot collections.
pub(super) struct SnapshotCollections {
    template: CimInstance,
}

impl SnapshotCollections {
    pub(super) fn new(class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let template = InstanceBuilder::new(class)
            .set("Caption", "Snapshot Collection")
            .set("Description", "Snapshots of all virtual systems of a collection")
            .build()?;
        Ok(Self { template })
    }
}

impl Family for SnapshotCollections {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        Box::new(scope.view.snapshot_collections().map(|set| Element::SnapshotCollection(set.id)))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let Element::SnapshotCollection(id) = element else { return Ok(None) };
        let Some(set) = scope.view.snapshot_collection(id) else { return Ok(None) };
        InstanceBuilder::from_template(self.template.clone())
            .set("CollectionID", guid_text(id))
            .set("ElementName", set.name.clone())
            .build()
            .map(Some)
    }
}
