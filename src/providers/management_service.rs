//! The methods of `Msvm_VirtualSystemManagementService`.

use std::sync::Arc;

use super::answers::{DONE, NOT_SUPPORTED, NOT_SUPPORTED_AT_ALL, Refusal, answer};
use super::arguments::element;
use super::element::{Element, SETTING_DATA};
use super::export::export_system_definition;
use super::generated::GetSizeOfSystemFilesInput;
use super::modify::{modify_resource_settings, modify_system_settings};
use super::scope::{Scope, Shared};
use super::summary::summary_information;
use crate::cim::{CimError, ClassDeclaration, MethodDeclaration, ObjectPath};
use crate::cimom::{BoxFuture, CallContext, MethodArguments, MethodProvider, MethodResult};

/// Carries out the methods of the management service; machines and their hardware are defined by files, not by
/// clients, so the methods that define, change or remove them are refused with 32770.
pub(super) struct ManagementService {
    pub(super) shared: Arc<Shared>,
}

impl MethodProvider for ManagementService {
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
            answer(match method.name.as_str() {
                "ModifySystemSettings" => modify_system_settings(&scope, arguments, &cx.principal).await,
                "ModifyResourceSettings" => modify_resource_settings(&scope, arguments),
                "ExportSystemDefinition" => export_system_definition(&scope, arguments, &cx.principal).await,
                "GetSummaryInformation" => summary_information(&scope, arguments),
                "GetSizeOfSystemFiles" => size_of_system_files(&scope, arguments),
                "RequestStateChange" | "StartService" | "StopService" => Err(Refusal::Code(NOT_SUPPORTED_AT_ALL)),
                _ => Err(Refusal::Code(NOT_SUPPORTED)),
            })
        })
    }
}

/// The length of all files of a snapshot. That of a machine is not kept.
fn size_of_system_files(scope: &Scope, arguments: MethodArguments) -> Result<MethodResult, Refusal> {
    let input = GetSizeOfSystemFilesInput::from_arguments(arguments);
    match element(scope, input.vssd.as_deref(), &[SETTING_DATA])? {
        Element::Snapshot(id) => {
            let bytes = scope.view.snapshot(id).map_or(0, |snapshot| snapshot.bytes);
            Ok(MethodResult::returning(DONE).with("Size", bytes))
        }
        _ => Err(Refusal::Code(NOT_SUPPORTED)),
    }
}
