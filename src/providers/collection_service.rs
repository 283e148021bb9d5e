//! The methods of `Msvm_CollectionSnapshotService` and `Msvm_CollectionManagementService`
//! (`snapshot-semantics` §6).

use std::sync::Arc;

use super::answers::{
    DONE, INVALID_PARAMETER, INVALID_TYPE, NOT_SUPPORTED, NOT_SUPPORTED_AT_ALL, Refusal, accepted, answer,
};
use super::arguments::Arguments;
use super::element::{Element, collection_element, guid};
use super::scope::{Scope, Shared};
use super::snapshot_settings::snapshot_settings;
use crate::cim::{CimError, CimValue, ClassDeclaration, MethodDeclaration, ObjectPath};
use crate::cimom::{BoxFuture, CallContext, MethodArguments, MethodProvider, MethodResult};
use crate::engine::{
    CollectionChange, CollectionKind, CreateGroupSnapshot, DefineCollection, GroupSnapshotType, Outcome,
};
use crate::time::Guid;

/// Carries out the methods of the collection snapshot service.
pub(super) struct CollectionSnapshotService {
    pub(super) shared: Arc<Shared>,
}

impl MethodProvider for CollectionSnapshotService {
    fn invoke<'a>(
        &'a self,
        cx: &'a CallContext,
        _: &'a Arc<ClassDeclaration>,
        _: &'a ObjectPath,
        method: &'a MethodDeclaration,
        arguments: MethodArguments,
    ) -> BoxFuture<'a, Result<MethodResult, CimError>> {
        Box::pin(async move {
            let scope = Scope::new(&self.shared, cx);
            let mut arguments = Arguments::new(&scope, arguments);
            let (engine, user) = (&self.shared.engine, cx.principal.name());
            answer(match method.name.as_str() {
                "CreateSnapshot" => create(&scope, arguments, user).await,
                "ApplySnapshot" => match arguments.snapshot_collection("SnapshotCollection") {
                    Ok(set) => started(&scope, engine.apply_group_snapshot(set, user).await),
                    Err(refusal) => Err(refusal),
                },
                "DestroySnapshot" => match arguments.snapshot_collection("AffectedSnapshotCollection") {
                    Ok(set) => started(&scope, engine.destroy_group_snapshot(set, user).await),
                    Err(refusal) => Err(refusal),
                },
                "ConvertToReferencePoint" => {
                    arguments.snapshot_collection("AffectedSnapshotCollection").and_then(|set| {
                        tracing::warn!(%set, "refused: the back-end tracks no changes, so there are no reference points");
                        Err(Refusal::Code(NOT_SUPPORTED))
                    })
                }
                "RequestStateChange" | "StartService" | "StopService" => Err(Refusal::Code(NOT_SUPPORTED_AT_ALL)),
                _ => Err(Refusal::Code(NOT_SUPPORTED)),
            })
        })
    }
}

fn started(scope: &Scope, outcome: Result<Outcome<()>, crate::engine::EngineError>) -> Result<MethodResult, Refusal> {
    Ok(accepted(scope, &outcome?))
}

async fn create(scope: &Scope, mut arguments: Arguments<'_>, user: &str) -> Result<MethodResult, Refusal> {
    let collection = arguments.collection("Collection")?;
    let snapshot_type = group_snapshot_type(arguments.number("SnapshotType")?)?;
    let settings = snapshot_settings(&scope.shared.schema, &arguments.optional("SnapshotSettings"))?;
    let request = CreateGroupSnapshot { collection, snapshot_type, settings };
    let outcome = scope.shared.engine.create_group_snapshot(request, user).await?;
    let answer = accepted(scope, &outcome);
    Ok(match outcome {
        Outcome::Done(set) => answer.with("ResultingSnapshotCollection", Element::SnapshotCollection(set).path(scope)),
        Outcome::Started { .. } => answer,
    })
}

/// The types of the collection service: 2 means recovery here and full there.
const fn group_snapshot_type(number: u64) -> Result<GroupSnapshotType, Refusal> {
    match number {
        1 => Ok(GroupSnapshotType::Standard),
        2 => Ok(GroupSnapshotType::Recovery),
        _ => Err(Refusal::Code(INVALID_TYPE)),
    }
}

/// Carries out the methods of the collection management service.
pub(super) struct CollectionManagement {
    pub(super) shared: Arc<Shared>,
}

impl MethodProvider for CollectionManagement {
    fn invoke<'a>(
        &'a self,
        cx: &'a CallContext,
        _: &'a Arc<ClassDeclaration>,
        _: &'a ObjectPath,
        method: &'a MethodDeclaration,
        arguments: MethodArguments,
    ) -> BoxFuture<'a, Result<MethodResult, CimError>> {
        Box::pin(async move {
            let scope = Scope::new(&self.shared, cx);
            let arguments = Arguments::new(&scope, arguments);
            answer(match method.name.as_str() {
                "DefineCollection" => define(&scope, arguments).await,
                "DestroyCollection" => destroy(&scope, arguments).await,
                "RenameCollection" => rename(&scope, arguments).await,
                "AddMember" => change(&scope, arguments, CollectionChange::Add).await,
                "RemoveMember" => change(&scope, arguments, CollectionChange::Remove).await,
                "RemoveMemberById" => remove_by_id(&scope, arguments).await,
                "RequestStateChange" | "StartService" | "StopService" => Err(Refusal::Code(NOT_SUPPORTED_AT_ALL)),
                _ => Err(Refusal::Code(NOT_SUPPORTED)),
            })
        })
    }
}

async fn define(scope: &Scope, mut arguments: Arguments<'_>) -> Result<MethodResult, Refusal> {
    let name = arguments.text("Name")?;
    let id = match arguments.optional("Id") {
        CimValue::Null => None,
        CimValue::String(text) if text.is_empty() => None,
        CimValue::String(text) => Some(guid(&text).ok_or(Refusal::Code(INVALID_PARAMETER))?),
        _ => return Err(Refusal::Code(INVALID_PARAMETER)),
    };
    let kind = match arguments.number("Type")? {
        0 => CollectionKind::Machines,
        1 => CollectionKind::Collections,
        _ => return Err(Refusal::Code(INVALID_PARAMETER)),
    };
    let id = scope.shared.engine.define_collection(DefineCollection { name, id, kind }).await?;
    Ok(MethodResult::returning(DONE).with("DefinedCollection", collection_element(id, kind).path(scope)))
}

async fn destroy(scope: &Scope, mut arguments: Arguments<'_>) -> Result<MethodResult, Refusal> {
    let collection = arguments.collection("Collection")?;
    scope.shared.engine.destroy_collection(collection).await?;
    Ok(MethodResult::returning(DONE))
}

async fn rename(scope: &Scope, mut arguments: Arguments<'_>) -> Result<MethodResult, Refusal> {
    let collection = arguments.collection("Collection")?;
    let name = arguments.text("NewName")?;
    scope.shared.engine.rename_collection(collection, name).await?;
    Ok(MethodResult::returning(DONE))
}

async fn change(
    scope: &Scope,
    mut arguments: Arguments<'_>,
    how: impl Fn(Guid) -> CollectionChange + Send,
) -> Result<MethodResult, Refusal> {
    let member = arguments.member("Member")?;
    let collection = arguments.collection("Collection")?;
    scope.shared.engine.change_collection(collection, how(member)).await?;
    Ok(MethodResult::returning(DONE))
}

async fn remove_by_id(scope: &Scope, mut arguments: Arguments<'_>) -> Result<MethodResult, Refusal> {
    let member = arguments.member("Member")?;
    let collection = guid(&arguments.text("CollectionId")?).ok_or(Refusal::Code(INVALID_PARAMETER))?;
    scope.shared.engine.change_collection(collection, CollectionChange::Remove(member)).await?;
    Ok(MethodResult::returning(DONE))
}
