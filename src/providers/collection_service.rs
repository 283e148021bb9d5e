//! The methods of `Msvm_CollectionSnapshotService` and `Msvm_CollectionManagementService`
//! (`snapshot-semantics` §6).

use std::sync::Arc;

use super::answers::{
    DONE, INVALID_PARAMETER, INVALID_TYPE, NOT_SUPPORTED, NOT_SUPPORTED_AT_ALL, Refusal, accepted, answer,
};
use super::arguments::{self, required};
use super::element::{Element, collection_element, guid};
use super::export::export_snapshot;
use super::generated::{
    AddMemberInput, CollectionSnapshotServiceApplySnapshotInput, CollectionSnapshotServiceConvertToReferencePointInput,
    CollectionSnapshotServiceCreateSnapshotInput, CollectionSnapshotServiceDestroySnapshotInput, DefineCollectionInput,
    DestroyCollectionInput, RemoveMemberByIdInput, RemoveMemberInput, RenameCollectionInput,
};
use super::scope::{Scope, Shared};
use super::snapshot_settings::snapshot_settings;
use crate::cim::{CimError, ClassDeclaration, MethodDeclaration, ObjectPath};
use crate::cimom::{BoxFuture, CallContext, MethodArguments, MethodProvider, MethodResult, Principal};
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
            let user = &cx.principal;
            answer(match method.name.as_str() {
                "CreateSnapshot" => create(&scope, arguments, user).await,
                "ApplySnapshot" => apply(&scope, arguments, user).await,
                "DestroySnapshot" => destroy_snapshots(&scope, arguments, user).await,
                "ConvertToReferencePoint" => convert(&scope, arguments, user).await,
                "ExportSnapshot" => export_snapshot(&scope, arguments, user).await,
                "RequestStateChange" | "StartService" | "StopService" => Err(Refusal::Code(NOT_SUPPORTED_AT_ALL)),
                _ => Err(Refusal::Code(NOT_SUPPORTED)),
            })
        })
    }
}

async fn create(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = CollectionSnapshotServiceCreateSnapshotInput::from_arguments(arguments);
    let collection = arguments::collection(scope, input.collection.as_deref())?;
    let snapshot_type = group_snapshot_type(required(input.snapshot_type)?)?;
    let settings = snapshot_settings(&scope.shared.schema, &input.snapshot_settings)?;
    let request = CreateGroupSnapshot { collection, snapshot_type, settings };
    let outcome = scope.shared.engine.create_group_snapshot(request, user).await?;
    let answer = accepted(scope, &outcome);
    Ok(match outcome {
        Outcome::Done(set) => answer.with("ResultingSnapshotCollection", Element::SnapshotCollection(set).path(scope)),
        Outcome::Started { .. } => answer,
    })
}

async fn apply(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = CollectionSnapshotServiceApplySnapshotInput::from_arguments(arguments);
    let set = arguments::snapshot_collection(scope, input.snapshot_collection.as_deref())?;
    Ok(accepted(scope, &scope.shared.engine.apply_group_snapshot(set, user).await?))
}

async fn destroy_snapshots(
    scope: &Scope,
    arguments: MethodArguments,
    user: &Principal,
) -> Result<MethodResult, Refusal> {
    let input = CollectionSnapshotServiceDestroySnapshotInput::from_arguments(arguments);
    let set = arguments::snapshot_collection(scope, input.affected_snapshot_collection.as_deref())?;
    Ok(accepted(scope, &scope.shared.engine.destroy_group_snapshot(set, user).await?))
}

async fn convert(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = CollectionSnapshotServiceConvertToReferencePointInput::from_arguments(arguments);
    let set = arguments::snapshot_collection(scope, input.affected_snapshot_collection.as_deref())?;
    Ok(accepted(scope, &scope.shared.engine.convert_group_to_reference_point(set, user).await?))
}

/// The types of the collection service: 2 means recovery here and full there.
const fn group_snapshot_type(number: u16) -> Result<GroupSnapshotType, Refusal> {
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
            let user = &cx.principal;
            answer(match method.name.as_str() {
                "DefineCollection" => define(&scope, arguments, user).await,
                "DestroyCollection" => destroy(&scope, arguments, user).await,
                "RenameCollection" => rename(&scope, arguments, user).await,
                "AddMember" => add(&scope, arguments, user).await,
                "RemoveMember" => remove(&scope, arguments, user).await,
                "RemoveMemberById" => remove_by_id(&scope, arguments, user).await,
                "RequestStateChange" | "StartService" | "StopService" => Err(Refusal::Code(NOT_SUPPORTED_AT_ALL)),
                _ => Err(Refusal::Code(NOT_SUPPORTED)),
            })
        })
    }
}

async fn define(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = DefineCollectionInput::from_arguments(arguments);
    let name = required(input.name)?;
    let id = input.id.filter(|id| !id.is_empty()).map(|id| required(guid(&id))).transpose()?;
    let kind = match required(input.r#type)? {
        0 => CollectionKind::Machines,
        1 => CollectionKind::Collections,
        _ => return Err(Refusal::Code(INVALID_PARAMETER)),
    };
    let id = scope.shared.engine.define_collection(DefineCollection { name, id, kind }, user).await?;
    Ok(MethodResult::returning(DONE).with("DefinedCollection", collection_element(id, kind).path(scope)))
}

async fn destroy(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = DestroyCollectionInput::from_arguments(arguments);
    let collection = arguments::collection(scope, input.collection.as_deref())?;
    scope.shared.engine.destroy_collection(collection, user).await?;
    Ok(MethodResult::returning(DONE))
}

async fn rename(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = RenameCollectionInput::from_arguments(arguments);
    let collection = arguments::collection(scope, input.collection.as_deref())?;
    scope.shared.engine.rename_collection(collection, required(input.new_name)?, user).await?;
    Ok(MethodResult::returning(DONE))
}

async fn add(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = AddMemberInput::from_arguments(arguments);
    let member = arguments::member(scope, input.member.as_deref())?;
    let collection = arguments::collection(scope, input.collection.as_deref())?;
    change(scope, collection, CollectionChange::Add(member), user).await
}

async fn remove(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = RemoveMemberInput::from_arguments(arguments);
    let member = arguments::member(scope, input.member.as_deref())?;
    let collection = arguments::collection(scope, input.collection.as_deref())?;
    change(scope, collection, CollectionChange::Remove(member), user).await
}

/// Removing something that is no member succeeds.
async fn remove_by_id(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = RemoveMemberByIdInput::from_arguments(arguments);
    let member = arguments::member(scope, input.member.as_deref())?;
    let collection = required(guid(&required(input.collection_id)?))?;
    change(scope, collection, CollectionChange::Remove(member), user).await
}

async fn change(
    scope: &Scope,
    collection: Guid,
    change: CollectionChange,
    user: &Principal,
) -> Result<MethodResult, Refusal> {
    scope.shared.engine.change_collection(collection, change, user).await?;
    Ok(MethodResult::returning(DONE))
}
