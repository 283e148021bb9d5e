//! The associations of the namespace: which object hangs together with which.

use std::sync::Arc;

use crate::cim::{
    CimDateTime, CimError, CimInstance, ClassDeclaration, InstanceBuilder, KeyValue, ObjectPath, PropertyName,
};
use crate::cimom::{AssociationProvider, CallContext, InstanceProvider, InstanceStream};
use crate::engine::{ElementEffect, ElementRef, View, Work};

use super::instance::{Storage, exists};
use super::object::{Object, ObjectClass};

/// An association class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Association {
    JobToPool,
    JobToStorageVolume,
    PoolToVolume,
    ProviderToSystem,
    StorageSynchronized,
    SystemToCapabilities,
    SystemToPool,
    SystemToReplicationCapabilities,
}

/// One of the two reference properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The property and the class on the side of the parent, job or source.
    Left,
    /// The property and the class on the side of the child, affected object or target.
    Right,
}

impl Association {
    /// All of them.
    pub(super) const ALL: [Self; 8] = [
        Self::JobToPool,
        Self::JobToStorageVolume,
        Self::PoolToVolume,
        Self::ProviderToSystem,
        Self::StorageSynchronized,
        Self::SystemToCapabilities,
        Self::SystemToPool,
        Self::SystemToReplicationCapabilities,
    ];

    /// The CIM class.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::JobToPool => "MSFT_SMJobToPool",
            Self::JobToStorageVolume => "MSFT_SMJobToStorageVolume",
            Self::PoolToVolume => "MSFT_SMPoolToVolume",
            Self::ProviderToSystem => "MSFT_SMProviderToSystem",
            Self::StorageSynchronized => "MSFT_SMStorageSynchronized",
            Self::SystemToCapabilities => "MSFT_SMSystemToCapabilities",
            Self::SystemToPool => "MSFT_SMSystemToPool",
            Self::SystemToReplicationCapabilities => "MSFT_SMSystemToReplicationCapabilities",
        }
    }

    /// The property at one end and the class it refers to.
    const fn end(self, end: End) -> (&'static str, ObjectClass) {
        use ObjectClass::{Capabilities, Job, Pool, Provider, ReplicationCapabilities, System, Volume};
        match (self, end) {
            (Self::JobToPool | Self::JobToStorageVolume, End::Left) => ("Job", Job),
            (Self::JobToPool, End::Right) => ("AffectedPool", Pool),
            (Self::JobToStorageVolume, End::Right) => ("AffectedStorageVolume", Volume),
            (Self::PoolToVolume, End::Left) => ("Parent", Pool),
            (Self::PoolToVolume, End::Right) => ("Child", Volume),
            (Self::ProviderToSystem, End::Left) => ("Parent", Provider),
            (Self::ProviderToSystem, End::Right) => ("Child", System),
            (Self::StorageSynchronized, End::Left) => ("SourceStorageVolume", Volume),
            (Self::StorageSynchronized, End::Right) => ("TargetStorageVolume", Volume),
            (Self::SystemToCapabilities | Self::SystemToPool | Self::SystemToReplicationCapabilities, End::Left) => {
                ("Parent", System)
            }
            (Self::SystemToCapabilities, End::Right) => ("Child", Capabilities),
            (Self::SystemToPool, End::Right) => ("Child", Pool),
            (Self::SystemToReplicationCapabilities, End::Right) => ("Child", ReplicationCapabilities),
        }
    }

    /// What is at the left end when `right` is at the right end. Both are there.
    fn left_of(self, view: &View, right: Object) -> Vec<Object> {
        let found: Vec<Object> = match (self, right) {
            (Self::JobToPool, Object::Pool(pool)) => view
                .jobs()
                .filter(|job| matches!(&job.work, Work::CopyVolume { pool: used, .. } if *used == pool))
                .map(|job| Object::Job(job.id))
                .collect(),
            (Self::JobToStorageVolume, Object::Volume(id)) => view
                .jobs_of(id)
                .filter(|job| job.affected.iter().any(|affected| is_made(affected.element, affected.effect, id)))
                .map(|job| Object::Job(job.id))
                .collect(),
            (Self::PoolToVolume, Object::Volume(id)) => {
                view.volume(id).map(|volume| Object::Pool(volume.pool)).into_iter().collect()
            }
            (Self::StorageSynchronized, Object::Volume(id)) => {
                view.volume(id).and_then(|volume| volume.snapshot_of).map(Object::Volume).into_iter().collect()
            }
            (Self::ProviderToSystem, Object::System) => vec![Object::Provider],
            (Self::SystemToCapabilities, Object::Capabilities)
            | (Self::SystemToPool, Object::Pool(_))
            | (Self::SystemToReplicationCapabilities, Object::ReplicationCapabilities) => vec![Object::System],
            _ => Vec::new(),
        };
        found.into_iter().filter(|object| exists(view, *object)).collect()
    }

    /// What is at the right end when `left` is at the left end. Both are there.
    fn right_of(self, view: &View, left: Object) -> Vec<Object> {
        let found: Vec<Object> = match (self, left) {
            (Self::JobToPool, Object::Job(id)) => view
                .job(id)
                .and_then(|job| match &job.work {
                    Work::CopyVolume { pool, .. } => Some(Object::Pool(*pool)),
                    _ => None,
                })
                .into_iter()
                .collect(),
            // The volume a job has made, not the one it read: a client that finds the job again has
            // no other way to its result.
            (Self::JobToStorageVolume, Object::Job(id)) => view
                .job(id)
                .into_iter()
                .flat_map(|job| &job.affected)
                .filter(|affected| is_made(affected.element, affected.effect, affected.element.id()))
                .map(|affected| Object::Volume(affected.element.id()))
                .collect(),
            (Self::PoolToVolume, Object::Pool(id)) => {
                view.volumes_of(id).map(|volume| Object::Volume(volume.id)).collect()
            }
            (Self::StorageSynchronized, Object::Volume(id)) => view
                .volumes()
                .filter(|volume| volume.snapshot_of == Some(id))
                .map(|volume| Object::Volume(volume.id))
                .collect(),
            (Self::ProviderToSystem, Object::Provider) => vec![Object::System],
            (Self::SystemToCapabilities, Object::System) => vec![Object::Capabilities],
            (Self::SystemToPool, Object::System) => ObjectClass::Pool.all(view),
            (Self::SystemToReplicationCapabilities, Object::System) => vec![Object::ReplicationCapabilities],
            _ => Vec::new(),
        };
        found.into_iter().filter(|object| exists(view, *object)).collect()
    }
}

/// Whether an affected element is the volume `id` and the job made it.
fn is_made(element: ElementRef, effect: ElementEffect, id: crate::time::Guid) -> bool {
    element == ElementRef::Volume(id) && effect == ElementEffect::Creates
}

/// Serves one association class.
pub(super) struct Links {
    storage: Arc<Storage>,
    association: Association,
    template: Arc<CimInstance>,
}

impl Links {
    /// A provider of `association`, whose declaration is `declaration`.
    ///
    /// # Errors
    /// A [`CimError`] when the declaration lacks a property that is filled in for all instances.
    pub(super) fn new(
        storage: &Arc<Storage>,
        association: Association,
        declaration: &Arc<ClassDeclaration>,
    ) -> Result<Self, CimError> {
        let builder = InstanceBuilder::new(declaration);
        let template = match association {
            Association::StorageSynchronized => synchronized(builder),
            _ => builder,
        }
        .build()?;
        Ok(Self { storage: Arc::clone(storage), association, template: Arc::new(template) })
    }

    /// Makes the instances of pairs one by one.
    fn stream(
        &self,
        view: Arc<View>,
        pairs: impl Iterator<Item = (Object, Object)> + Send + 'static,
    ) -> InstanceStream {
        let (storage, template, association) =
            (Arc::clone(&self.storage), Arc::clone(&self.template), self.association);
        Box::new(pairs.map(move |pair| link(&template, association, &view, pair, &storage.host)))
    }

    /// The object a key of an association names.
    fn object_at(&self, path: &ObjectPath, end: End) -> Option<Object> {
        let (property, class) = self.association.end(end);
        match path.key(property)? {
            KeyValue::Reference(reference) => Object::named(class, reference, &self.storage.host),
            KeyValue::Text(text) => Object::named(class, &ObjectPath::parse(text).ok()?, &self.storage.host),
        }
    }
}

impl InstanceProvider for Links {
    fn enumerate(&self, cx: &CallContext, _class: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        let association = self.association;
        let view = self.storage.engine.view(&cx.principal);
        // Every right end has few left ends, but not the other way round.
        let (_, class) = association.end(End::Right);
        let rights = class.all(&view);
        let look = Arc::clone(&view);
        let pairs = rights
            .into_iter()
            .flat_map(move |right| association.left_of(&look, right).into_iter().map(move |left| (left, right)));
        Ok(self.stream(view, pairs))
    }

    fn get(
        &self,
        cx: &CallContext,
        _class: &Arc<ClassDeclaration>,
        path: &ObjectPath,
    ) -> Result<Option<CimInstance>, CimError> {
        let (Some(left), Some(right)) = (self.object_at(path, End::Left), self.object_at(path, End::Right)) else {
            return Ok(None);
        };
        let view = self.storage.engine.view(&cx.principal);
        if !exists(&view, right) || !self.association.left_of(&view, right).contains(&left) {
            return Ok(None);
        }
        link(&self.template, self.association, &view, (left, right), &self.storage.host).map(Some)
    }
}

impl AssociationProvider for Links {
    fn references(
        &self,
        cx: &CallContext,
        _class: &Arc<ClassDeclaration>,
        source: &ObjectPath,
        role: Option<&PropertyName>,
    ) -> Result<InstanceStream, CimError> {
        let view = self.storage.engine.view(&cx.principal);
        let mut pairs: Vec<(Object, Object)> = Vec::new();
        for end in [End::Left, End::Right] {
            let (property, class) = self.association.end(end);
            if role.is_some_and(|role| *role != property) {
                continue;
            }
            let Some(object) = Object::named(class, source, &self.storage.host) else { continue };
            match end {
                End::Left => {
                    pairs.extend(self.association.right_of(&view, object).into_iter().map(|right| (object, right)));
                }
                End::Right => {
                    pairs.extend(self.association.left_of(&view, object).into_iter().map(|left| (left, object)));
                }
            }
        }
        Ok(self.stream(view, pairs.into_iter()))
    }
}

/// The instance that ties two objects together.
fn link(
    template: &CimInstance,
    association: Association,
    view: &View,
    (left, right): (Object, Object),
    host: &str,
) -> Result<CimInstance, CimError> {
    let builder = InstanceBuilder::from_template(template.clone())
        .set(association.end(End::Left).0, left.path(host))
        .set(association.end(End::Right).0, right.path(host));
    match (association, right) {
        (Association::StorageSynchronized, Object::Volume(id)) => {
            let taken = view.volume(id).map(|volume| CimDateTime::utc(volume.created));
            builder
                .set("WhenSynced", taken.clone())
                .set("WhenEstablished", taken.clone())
                .set("WhenSynchronized", taken)
                .build()
        }
        _ => builder.build(),
    }
}

/// What is true of every snapshot and its source: one point in time, reached once and not followed.
fn synchronized(builder: InstanceBuilder) -> InstanceBuilder {
    builder
        .set("SyncType", 7_u16)
        .set("SyncTypeDescription", "Snapshot")
        .set("CopyType", 4_u16)
        .set("CopyTypeDescription", "UnSyncAssoc")
        .set("SyncMaintained", false)
        .set("CopyState", 4_u16)
        .set("CopyStateDescription", "Synchronized")
        .set("RequestedCopyState", 15_u16)
        .set("ProgressStatus", 2_u16)
        .set("ProgressStatusDescription", "Completed")
        .set("PercentSynced", 100_u16)
        // A snapshot that is not followed rests in Idle, and holds all its data by itself.
        .set("SyncState", 11_u16)
        .set("SyncStateDescription", "Idle")
        .set("ReplicaType", 2_u16)
        .set("ReplicaTypeDescription", "Full Copy")
        .set("CopyMethodology", 2_u16)
        .set("CopyMethodologyDescription", "Implementation decides")
}
