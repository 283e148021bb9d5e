//! The instance provider of all classes that are no association.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::cim::{CimError, CimInstance, ClassDeclaration, ObjectPath};
use crate::cimom::{CallContext, InstanceProvider, InstanceStream};
use crate::engine::{Gate, View};
use crate::time::Timestamp;

use super::object::{Object, ObjectClass};
use super::{host, job, pool, volume};

/// What every provider of the namespace works with.
pub(super) struct Storage {
    pub(super) engine: Gate,
    pub(super) host: SmolStr,
}

/// Serves one class; what its instances have in common is filled in once.
pub(super) struct Objects {
    storage: Arc<Storage>,
    class: ObjectClass,
    template: Arc<CimInstance>,
}

impl Objects {
    /// A provider of `class`, whose declaration is `declaration`.
    ///
    /// # Errors
    /// A [`CimError`] when the declaration lacks a property that is filled in for all instances.
    pub(super) fn new(
        storage: &Arc<Storage>,
        class: ObjectClass,
        declaration: &Arc<ClassDeclaration>,
    ) -> Result<Self, CimError> {
        let name = &storage.host;
        let template = match class {
            ObjectClass::Capabilities => host::capabilities(declaration, name),
            ObjectClass::Job => job::template(declaration),
            ObjectClass::Pool => pool::template(declaration),
            ObjectClass::Provider => host::provider(declaration, name),
            ObjectClass::ReplicationCapabilities => host::replication_capabilities(declaration, name),
            ObjectClass::System => host::system(declaration, name),
            ObjectClass::Volume => volume::template(declaration),
        }?;
        Ok(Self { storage: Arc::clone(storage), class, template: Arc::new(template) })
    }
}

impl InstanceProvider for Objects {
    fn enumerate(&self, cx: &CallContext, _class: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        let (storage, template, now) = (Arc::clone(&self.storage), Arc::clone(&self.template), cx.now);
        let view = storage.engine.view(&cx.principal);
        let objects = self.class.all(&view);
        Ok(Box::new(
            objects.into_iter().filter_map(move |object| storage.instance(&view, &template, object, now).transpose()),
        ))
    }

    fn get(
        &self,
        cx: &CallContext,
        _class: &Arc<ClassDeclaration>,
        path: &ObjectPath,
    ) -> Result<Option<CimInstance>, CimError> {
        // The class in the path is the one that was asked for and may be a superclass.
        let path = path.clone().with_class(crate::cim::ClassName::from_static(self.class.name()));
        match Object::named(self.class, &path, &self.storage.host) {
            Some(object) => {
                self.storage.instance(&self.storage.engine.view(&cx.principal), &self.template, object, cx.now)
            }
            None => Ok(None),
        }
    }
}

impl Storage {
    /// The instance of an object, or `None` when it is not there.
    fn instance(
        &self,
        view: &View,
        template: &CimInstance,
        object: Object,
        now: Timestamp,
    ) -> Result<Option<CimInstance>, CimError> {
        match object {
            Object::Capabilities => Some(host::capabilities_now(template, view)),
            Object::ReplicationCapabilities => Some(host::replication_capabilities_now(template, view)),
            Object::Provider | Object::System => Some(Ok(template.clone())),
            Object::Job(id) => view
                .job(id)
                .filter(|_| exists(view, object))
                .map(|found| job::instance(template, found, self.engine.job_retention(), now, &self.host)),
            Object::Pool(id) => view.pool(id).map(|found| pool::instance(template, found, &self.host)),
            Object::Volume(id) => view
                .volume(id)
                .map(|found| volume::instance(template, found, view.pool(found.pool).map(AsRef::as_ref), &self.host)),
        }
        .transpose()
    }
}

/// Whether an object is there. Jobs that do not work on volumes are none of this namespace.
pub(super) fn exists(view: &View, object: Object) -> bool {
    match object {
        Object::Capabilities | Object::ReplicationCapabilities | Object::Provider | Object::System => true,
        Object::Job(id) => view.job(id).is_some_and(|job| job.kind == crate::engine::JobKind::CopyVolume),
        Object::Pool(id) => view.pool(id).is_some(),
        Object::Volume(id) => view.volume(id).is_some(),
    }
}
