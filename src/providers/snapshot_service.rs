//! The methods of `Msvm_VirtualSystemSnapshotService`, through which those of its abstract base are reached as
//! well (`snapshot-semantics` §3 and §4).

use std::sync::Arc;

use super::answers::{INVALID_TYPE, NOT_SUPPORTED, NOT_SUPPORTED_AT_ALL, Refusal, accepted, answer};
use super::arguments::{self, required};
use super::element::Element;
use super::generated::{
    ClearSnapshotStateInput, DestroySnapshotTreeInput, VirtualSystemSnapshotServiceApplySnapshotInput,
    VirtualSystemSnapshotServiceConvertToReferencePointInput, VirtualSystemSnapshotServiceCreateSnapshotInput,
    VirtualSystemSnapshotServiceDestroySnapshotInput,
};
use super::reference_point_service::no_settings;
use super::scope::{Scope, Shared};
use super::snapshot_settings::snapshot_settings;
use crate::cim::{CimError, ClassDeclaration, MethodDeclaration, ObjectPath};
use crate::cimom::{BoxFuture, CallContext, MethodArguments, MethodProvider, MethodResult, Principal};
use crate::engine::{CreateSnapshot, Outcome, SnapshotType};

/// Carries out the methods of the snapshot service.
pub(super) struct SnapshotService {
    pub(super) shared: Arc<Shared>,
}

impl MethodProvider for SnapshotService {
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
                "DestroySnapshot" => destroy(&scope, arguments, user).await,
                "DestroySnapshotTree" => destroy_tree(&scope, arguments, user).await,
                "ClearSnapshotState" => clear_state(&scope, arguments, user).await,
                "ConvertToReferencePoint" => convert(&scope, arguments, user).await,
                "RequestStateChange" | "StartService" | "StopService" => Err(Refusal::Code(NOT_SUPPORTED_AT_ALL)),
                _ => Err(Refusal::Code(NOT_SUPPORTED)),
            })
        })
    }
}

async fn create(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = VirtualSystemSnapshotServiceCreateSnapshotInput::from_arguments(arguments);
    let system = arguments::system(scope, input.affected_system.as_deref())?;
    let snapshot_type = snapshot_type(required(input.snapshot_type)?)?;
    let settings = snapshot_settings(&scope.shared.schema, &input.snapshot_settings)?;
    let request = CreateSnapshot { system, snapshot_type, settings };
    let outcome = scope.shared.engine.create_snapshot(request, user).await?;
    let answer = accepted(scope, &outcome);
    // With a job the result stays null until it is there (`hyperv-host.md` §7).
    Ok(match outcome {
        Outcome::Done(snapshot) => answer.with("ResultingSnapshot", Element::Snapshot(snapshot).path(scope)),
        Outcome::Started { .. } => answer,
    })
}

/// The types of the per-machine service. Those of the collection service have other numbers.
const fn snapshot_type(number: u16) -> Result<SnapshotType, Refusal> {
    match number {
        2 => Ok(SnapshotType::Full),
        3 => Ok(SnapshotType::Disk),
        32768 => Ok(SnapshotType::Recovery),
        34818 => Ok(SnapshotType::Automatic),
        _ => Err(Refusal::Code(INVALID_TYPE)),
    }
}

async fn apply(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = VirtualSystemSnapshotServiceApplySnapshotInput::from_arguments(arguments);
    let snapshot = arguments::snapshot(scope, input.snapshot.as_deref())?;
    Ok(accepted(scope, &scope.shared.engine.apply_snapshot(snapshot, user).await?))
}

async fn destroy(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = VirtualSystemSnapshotServiceDestroySnapshotInput::from_arguments(arguments);
    let snapshot = arguments::snapshot(scope, input.affected_snapshot.as_deref())?;
    Ok(accepted(scope, &scope.shared.engine.destroy_snapshot(snapshot, user).await?))
}

async fn destroy_tree(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = DestroySnapshotTreeInput::from_arguments(arguments);
    let snapshot = arguments::snapshot(scope, input.snapshot_setting_data.as_deref())?;
    Ok(accepted(scope, &scope.shared.engine.destroy_snapshot_tree(snapshot, user).await?))
}

async fn clear_state(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = ClearSnapshotStateInput::from_arguments(arguments);
    let snapshot = arguments::snapshot(scope, input.snapshot_setting_data.as_deref())?;
    Ok(accepted(scope, &scope.shared.engine.clear_snapshot_state(snapshot, user).await?))
}

/// A back-end without change tracking refuses with 32770; the reason is logged where refusals become numbers. Settings
/// that say something are refused.
async fn convert(scope: &Scope, arguments: MethodArguments, user: &Principal) -> Result<MethodResult, Refusal> {
    let input = VirtualSystemSnapshotServiceConvertToReferencePointInput::from_arguments(arguments);
    let snapshot = arguments::snapshot(scope, input.affected_snapshot.as_deref())?;
    no_settings(scope, &input.reference_point_settings)?;
    Ok(accepted(scope, &scope.shared.engine.convert_to_reference_point(snapshot, user).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_types_of_the_table_are_taken() {
        for number in 0..=u16::MAX {
            let known = matches!(number, 2 | 3 | 32768 | 34818);
            assert_eq!(snapshot_type(number).is_ok(), known, "{number}");
        }
        assert!(matches!(snapshot_type(32769), Err(Refusal::Code(6))));
    }
}
