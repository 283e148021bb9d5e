//! The methods of the namespace: `CreateSnapshot` of a volume, and the rest, which this host does not offer. Delete of
//! volumes.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::cim::{CimError, CimStatus, CimValue, ClassDeclaration, MethodDeclaration, ObjectPath};
use crate::cimom::{BoxFuture, CallContext, MethodArguments, MethodProvider, MethodResult, WriteProvider};
use crate::engine::{CreateVolumeSnapshot, VolumeOutcome};
use crate::time::Guid;

use super::super::answers::operation_error;
use super::extended_status::{Refusal, code};
use super::instance::Storage;
use super::object::{Object, ObjectClass};

/// Carries out the methods of all classes of the namespace.
pub(super) struct Methods {
    storage: Arc<Storage>,
    extended_status: Arc<ClassDeclaration>,
}

impl Methods {
    /// A provider that answers with `extended_status` as the class of its error details.
    pub(super) const fn new(storage: Arc<Storage>, extended_status: Arc<ClassDeclaration>) -> Self {
        Self { storage, extended_status }
    }

    /// `MSFT_SMStorageVolume.CreateSnapshot`: 0 with the volume, or 4096 with the volume to be and its job.
    async fn create_snapshot(
        &self,
        cx: &CallContext,
        target: &ObjectPath,
        method: &MethodDeclaration,
        mut arguments: MethodArguments,
    ) -> Result<MethodResult, CimError> {
        let source = target_volume(target, &self.storage.host)?;
        let (name, target_pool) = match (element_name(&mut arguments), self.target_pool(&mut arguments)) {
            (Ok(name), Ok(pool)) => (name, pool),
            (Err(refusal), _) | (_, Err(refusal)) => return self.refused(method, &refusal),
        };
        let request = CreateVolumeSnapshot { source, name, target_pool };
        let host = &self.storage.host;
        match self.storage.engine.create_volume_snapshot(request, &cx.principal).await {
            Ok(VolumeOutcome::Done { volume }) => {
                Ok(MethodResult::returning(0).with("TargetStorageVolume", Object::Volume(volume).path(host)))
            }
            Ok(VolumeOutcome::Started { job, volume }) => Ok(MethodResult::returning(code::JOB_STARTED.into())
                .with("TargetStorageVolume", Object::Volume(volume).path(host))
                .with("Job", Object::Job(job).path(host))),
            Err(error) => {
                let refusal = Refusal::of_snapshot(&error)?;
                tracing::warn!(volume = %source, code = refusal.code, %error, cause = refusal.details(), "Volume snapshot refused");
                self.refused(method, &refusal)
            }
        }
    }

    /// `TargetPool`: a pool of this host, or none. Whether it is there, the engine tells.
    fn target_pool(&self, arguments: &mut MethodArguments) -> Result<Option<Guid>, Refusal> {
        let path = match arguments.take("TargetPool") {
            CimValue::Null => return Ok(None),
            CimValue::Reference(path) => path,
            _ => return Err(Refusal::invalid_parameter("TargetPool", "TargetPool is not a reference")),
        };
        match Object::named(ObjectClass::Pool, &path, &self.storage.host) {
            Some(Object::Pool(id)) => Ok(Some(id)),
            _ => Err(Refusal::invalid_parameter("TargetPool", "TargetPool names no MSFT_SMPool of this host")),
        }
    }

    /// The answer to a call that was refused: code and error details, where the method has a place for them.
    fn refused(&self, method: &MethodDeclaration, refusal: &Refusal) -> Result<MethodResult, CimError> {
        let result = MethodResult::returning(refusal.code.into());
        if method.parameter("ExtendedStatus").is_none() {
            return Ok(result);
        }
        let status = refusal.extended_status(&self.extended_status, method.name.as_str())?;
        Ok(result.with("ExtendedStatus", status))
    }
}

impl MethodProvider for Methods {
    fn invoke<'a>(
        &'a self,
        cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        target: &'a ObjectPath,
        method: &'a MethodDeclaration,
        arguments: MethodArguments,
    ) -> BoxFuture<'a, Result<MethodResult, CimError>> {
        Box::pin(async move {
            if class.is_a(ObjectClass::Volume.name()) && method.name == "CreateSnapshot" {
                self.create_snapshot(cx, target, method, arguments).await
            } else {
                self.refused(method, &Refusal::not_supported(method.name.as_str()))
            }
        })
    }
}

/// The volume of an operation, which the object manager has found a moment ago.
fn target_volume(target: &ObjectPath, host: &str) -> Result<Guid, CimError> {
    match Object::named(ObjectClass::Volume, target, host) {
        Some(Object::Volume(id)) => Ok(id),
        _ => Err(CimError::new(CimStatus::NotFound, "the path names no storage volume")),
    }
}

/// Delete of a volume that is a snapshot.
pub(super) struct VolumeWrites {
    pub(super) storage: Arc<Storage>,
}

impl WriteProvider for VolumeWrites {
    fn delete<'a>(
        &'a self,
        cx: &'a CallContext,
        _: &'a Arc<ClassDeclaration>,
        target: &'a ObjectPath,
    ) -> BoxFuture<'a, Result<(), CimError>> {
        Box::pin(async move {
            let volume = target_volume(target, &self.storage.host)?;
            let deleted = self.storage.engine.delete_volume(volume, &cx.principal).await;
            deleted.map_err(|error| operation_error(&error))
        })
    }
}

/// `ElementName`, or none: the engine then makes a name.
fn element_name(arguments: &mut MethodArguments) -> Result<Option<SmolStr>, Refusal> {
    match arguments.take("ElementName") {
        CimValue::Null => Ok(None),
        CimValue::String(name) => Ok(Some(name)),
        _ => Err(Refusal::invalid_parameter("ElementName", "ElementName is not a string")),
    }
}
