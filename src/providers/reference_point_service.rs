//! The methods of `Msvm_VirtualSystemReferencePointService` and `Msvm_CollectionReferencePointService`.

use std::sync::Arc;

use super::answers::{INVALID_PARAMETER, INVALID_TYPE, NOT_SUPPORTED, NOT_SUPPORTED_AT_ALL, Refusal, accepted, answer};
use super::arguments::{self, required};
use super::generated::{
    CollectionReferencePointServiceCreateReferencePointInput,
    CollectionReferencePointServiceDestroyReferencePointInput,
    VirtualSystemReferencePointServiceCreateReferencePointInput,
    VirtualSystemReferencePointServiceDestroyReferencePointInput,
};
use super::scope::{Scope, Shared};
use super::snapshot_settings::Given;
use crate::cim::{CimError, CimValue, ClassDeclaration, MethodDeclaration, ObjectPath};
use crate::cimom::{BoxFuture, CallContext, MethodArguments, MethodProvider, MethodResult, Principal};
use crate::engine::ConsistencyLevel;

/// Carries out the methods of the service for reference points of one machine.
pub(super) struct ReferencePointService {
    pub(super) shared: Arc<Shared>,
}

/// Carries out the methods of the service for reference points of collections.
pub(super) struct CollectionReferencePointService {
    pub(super) shared: Arc<Shared>,
}

impl MethodProvider for ReferencePointService {
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
                "CreateReferencePoint" => create(&scope, arguments, user).await,
                "DestroyReferencePoint" => destroy(&scope, arguments, user).await,
                other => Err(refused(other)),
            })
        })
    }
}

impl MethodProvider for CollectionReferencePointService {
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
                "CreateReferencePoint" => create_of_collection(&scope, arguments, user).await,
                "DestroyReferencePoint" => destroy_collection(&scope, arguments, user).await,
                other => Err(refused(other)),
            })
        })
    }
}

/// What neither service does: no data is kept beside the tracking, so there is none to export, import or discard.
fn refused(method: &str) -> Refusal {
    let never = ["RequestStateChange", "StartService", "StopService"].contains(&method);
    Refusal::Code(if never { NOT_SUPPORTED_AT_ALL } else { NOT_SUPPORTED })
}

async fn create(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = VirtualSystemReferencePointServiceCreateReferencePointInput::from_arguments(arguments);
    let system = arguments::system(scope, input.affected_system.as_deref())?;
    match required(input.reference_point_type)? {
        0 => return Err(Refusal::Code(NOT_SUPPORTED)),
        1 => {}
        _ => return Err(Refusal::Code(INVALID_TYPE)),
    }
    let level = level(scope, &input.reference_point_settings)?;
    Ok(accepted(scope, &scope.shared.engine.create_reference_point(system, level, user).await?))
}

async fn destroy(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = VirtualSystemReferencePointServiceDestroyReferencePointInput::from_arguments(arguments);
    let point = arguments::reference_point(scope, input.affected_reference_point.as_deref())?;
    Ok(accepted(scope, &scope.shared.engine.destroy_reference_point(point, user).await?))
}

/// The types are other numbers than those of the service for one machine.
async fn create_of_collection(
    scope: &Scope,
    arguments: MethodArguments,
    user: &Principal,
) -> Result<MethodResult, Refusal> {
    let input = CollectionReferencePointServiceCreateReferencePointInput::from_arguments(arguments);
    let collection = arguments::collection(scope, input.collection.as_deref())?;
    match required(input.reference_point_type)? {
        1 => return Err(Refusal::Code(NOT_SUPPORTED)),
        2 => {}
        _ => return Err(Refusal::Code(INVALID_TYPE)),
    }
    let level = level(scope, &input.reference_point_settings)?;
    Ok(accepted(scope, &scope.shared.engine.create_group_reference_point(collection, level, user).await?))
}

async fn destroy_collection(
    scope: &Scope,
    arguments: MethodArguments,
    user: &Principal,
) -> Result<MethodResult, Refusal> {
    let input = CollectionReferencePointServiceDestroyReferencePointInput::from_arguments(arguments);
    let set = arguments::reference_points(scope, input.affected_reference_point_collection.as_deref())?;
    Ok(accepted(scope, &scope.shared.engine.destroy_group_reference_point(set, user).await?))
}

/// The level in the settings; without settings whatever can be reached.
fn level(scope: &Scope, settings: &CimValue) -> Result<ConsistencyLevel, Refusal> {
    let Some(given) = Given::read(&scope.shared.schema, settings)? else { return Ok(ConsistencyLevel::Unknown) };
    let known =
        ["Msvm_VirtualSystemReferencePointSettingData", "Msvm_CollectionReferencePointSettingData", "CIM_SettingData"];
    if !known.iter().any(|class| given.is_exactly(class)) {
        return Err(Refusal::Code(INVALID_PARAMETER));
    }
    let number = u8::try_from(given.number("ConsistencyLevel").unwrap_or(0)).ok();
    required(number.and_then(ConsistencyLevel::from_number))
}

/// The settings of a conversion: none are known, and any that are given are refused as a Windows host refuses them.
pub(super) fn no_settings(scope: &Scope, settings: &CimValue) -> Result<(), Refusal> {
    match Given::read(&scope.shared.schema, settings)? {
        None => Ok(()),
        Some(_) => Err(Refusal::Code(INVALID_PARAMETER)),
    }
}
