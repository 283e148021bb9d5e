//! What clients change with Put, Create and Delete: names and settings of machines and snapshots, and collections.
//! Everything else of these classes changes by methods.

use std::sync::Arc;

use super::answers::operation_error;
use super::element::{Element, collection_element, guid};
use super::modify::system_change;
use super::scope::{Scope, Shared};
use super::snapshot_settings::Given;
use crate::cim::{CimError, ClassDeclaration, ObjectPath};
use crate::cimom::{BoxFuture, CallContext, Representation, WriteProvider};
use crate::engine::{CollectionKind, DefineCollection};
use crate::time::Guid;

/// What can be changed of a machine.
const OF_MACHINE: [&str; 6] = [
    "AutomaticShutdownAction",
    "AutomaticStartupAction",
    "ElementName",
    "IncrementalBackupEnabled",
    "Notes",
    "UserSnapshotType",
];
/// What can be changed of a snapshot.
const OF_SNAPSHOT: [&str; 2] = ["ElementName", "Notes"];

/// Put of settings records: as `ModifySystemSettings`.
pub(super) struct SettingsWrites {
    pub(super) shared: Arc<Shared>,
}

impl WriteProvider for SettingsWrites {
    fn modify<'a>(
        &'a self,
        cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        target: &'a ObjectPath,
        changes: Representation,
    ) -> BoxFuture<'a, Result<(), CimError>> {
        Box::pin(async move {
            let (engine, user) = (&self.shared.engine, &cx.principal);
            let done = match Element::find(class.name().as_str(), target, &Scope::new(&self.shared, cx)) {
                Some(Element::Settings(system)) => {
                    let change = system_change(&Given::of(changes, &OF_MACHINE)?)?;
                    engine.modify_system(system, change, user).await
                }
                Some(Element::Snapshot(snapshot)) => {
                    let given = Given::of(changes, &OF_SNAPSHOT)?;
                    engine.modify_snapshot(snapshot, given.name(), given.notes(), user).await
                }
                _ => return Err(CimError::not_found("the instance")),
            };
            done.map_err(|error| operation_error(&error))
        })
    }
}

/// Collections of one kind: Put renames, Create and Delete are `DefineCollection` and `DestroyCollection`.
pub(super) struct CollectionWrites {
    pub(super) shared: Arc<Shared>,
    pub(super) kind: CollectionKind,
}

impl CollectionWrites {
    fn collection(&self, cx: &CallContext, class: &ClassDeclaration, target: &ObjectPath) -> Result<Guid, CimError> {
        match Element::find(class.name().as_str(), target, &Scope::new(&self.shared, cx)) {
            Some(Element::SystemCollection(id) | Element::ManagementCollection(id)) => Ok(id),
            _ => Err(CimError::not_found("the instance")),
        }
    }
}

impl WriteProvider for CollectionWrites {
    fn modify<'a>(
        &'a self,
        cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        target: &'a ObjectPath,
        changes: Representation,
    ) -> BoxFuture<'a, Result<(), CimError>> {
        Box::pin(async move {
            let collection = self.collection(cx, class, target)?;
            // A representation without a difference is no change.
            let Some(name) = Given::of(changes, &["ElementName"])?.name() else { return Ok(()) };
            let renamed = self.shared.engine.rename_collection(collection, name, &cx.principal).await;
            renamed.map_err(|error| operation_error(&error))
        })
    }

    fn create<'a>(
        &'a self,
        cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        given: Representation,
    ) -> BoxFuture<'a, Result<ObjectPath, CimError>> {
        Box::pin(async move {
            let given = Given::of(given, &["CollectionID", "ElementName"])?;
            let lacking = || CimError::invalid_parameter(format!("class {} needs an ElementName", class.name()));
            let name = given.name().ok_or_else(lacking)?;
            let unusable = |text| CimError::invalid_parameter(format!("the CollectionID {text} is no GUID"));
            let id = given.text("CollectionID").map(|text| guid(text).ok_or_else(|| unusable(text))).transpose()?;
            let request = DefineCollection { name, id, kind: self.kind };
            let made = self.shared.engine.define_collection(request, &cx.principal).await;
            let id = made.map_err(|error| operation_error(&error))?;
            Ok(collection_element(id, self.kind).path(&Scope::new(&self.shared, cx)))
        })
    }

    fn delete<'a>(
        &'a self,
        cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        target: &'a ObjectPath,
    ) -> BoxFuture<'a, Result<(), CimError>> {
        Box::pin(async move {
            let collection = self.collection(cx, class, target)?;
            let deleted = self.shared.engine.destroy_collection(collection, &cx.principal).await;
            deleted.map_err(|error| operation_error(&error))
        })
    }
}
