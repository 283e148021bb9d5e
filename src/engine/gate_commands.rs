//! The commands of the gate: those of the engine, each with the role it needs and what a scope adds.

use std::path::{Component, Path};

use smol_str::SmolStr;

use super::gate::{Action, Object, outside};
use super::reach::Part;
use super::{
    CancelMode, CollectionChange, ConsistencyLevel, CreateGroupSnapshot, CreateSnapshot, CreateVolumeSnapshot,
    DefineCollection, ElementRef, EngineError, ExportSettings, Gate, JobKind, Outcome, RequestedState, SystemChange,
    VolumeOutcome,
};
use crate::access::Principal;
use crate::time::Guid;

/// The commands. Errors are those of the engine's, and `AccessDenied` and `AuditUnavailable`.
impl Gate {
    /// As [`super::Engine::create_snapshot`], for operators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn create_snapshot(
        &self,
        request: CreateSnapshot,
        user: &Principal,
    ) -> Result<Outcome<Guid>, EngineError> {
        let object = Object::Element(ElementRef::System(request.system));
        let work = self.engine.create_snapshot(request, user.name());
        self.run(user, Action::operator("create-snapshot"), object, work).await
    }

    /// As [`super::Engine::apply_snapshot`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn apply_snapshot(&self, snapshot: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let work = self.engine.apply_snapshot(snapshot, user.name());
        self.run(user, Action::administrator("apply-snapshot"), of_snapshot(snapshot), work).await
    }

    /// As [`super::Engine::destroy_snapshot`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn destroy_snapshot(&self, snapshot: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let work = self.engine.destroy_snapshot(snapshot, user.name());
        self.run(user, Action::administrator("destroy-snapshot"), of_snapshot(snapshot), work).await
    }

    /// As [`super::Engine::destroy_snapshot_tree`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn destroy_snapshot_tree(&self, root: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let work = self.engine.destroy_snapshot_tree(root, user.name());
        self.run(user, Action::administrator("destroy-snapshot-tree"), of_snapshot(root), work).await
    }

    /// As [`super::Engine::clear_snapshot_state`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn clear_snapshot_state(&self, snapshot: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let work = self.engine.clear_snapshot_state(snapshot, user.name());
        self.run(user, Action::administrator("clear-snapshot-state"), of_snapshot(snapshot), work).await
    }

    /// As [`super::Engine::convert_to_reference_point`], for operators: it is a step of a backup.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn convert_to_reference_point(
        &self,
        snapshot: Guid,
        user: &Principal,
    ) -> Result<Outcome<Guid>, EngineError> {
        let work = self.engine.convert_to_reference_point(snapshot, user.name());
        self.run(user, Action::operator("convert-to-reference-point"), of_snapshot(snapshot), work).await
    }

    /// As [`super::Engine::convert_group_to_reference_point`], for operators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn convert_group_to_reference_point(
        &self,
        set: Guid,
        user: &Principal,
    ) -> Result<Outcome<Guid>, EngineError> {
        let work = self.engine.convert_group_to_reference_point(set, user.name());
        self.run(user, Action::operator("convert-group-to-reference-point"), of_set(set), work).await
    }

    /// As [`super::Engine::create_reference_point`], for operators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn create_reference_point(
        &self,
        system: Guid,
        consistency: ConsistencyLevel,
        user: &Principal,
    ) -> Result<Outcome<Guid>, EngineError> {
        let object = Object::Element(ElementRef::System(system));
        let work = self.engine.create_reference_point(system, consistency, user.name());
        self.run(user, Action::operator("create-reference-point"), object, work).await
    }

    /// As [`super::Engine::create_group_reference_point`], for operators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn create_group_reference_point(
        &self,
        collection: Guid,
        consistency: ConsistencyLevel,
        user: &Principal,
    ) -> Result<Outcome<Guid>, EngineError> {
        let work = self.engine.create_group_reference_point(collection, consistency, user.name());
        self.run(user, Action::operator("create-group-reference-point"), of_collection(collection), work).await
    }

    /// As [`super::Engine::destroy_reference_point`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn destroy_reference_point(&self, point: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let object = Object::Element(ElementRef::ReferencePoint(point));
        let work = self.engine.destroy_reference_point(point, user.name());
        self.run(user, Action::administrator("destroy-reference-point"), object, work).await
    }

    /// As [`super::Engine::destroy_group_reference_point`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn destroy_group_reference_point(&self, set: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let object = Object::Element(ElementRef::ReferencePointCollection(set));
        let work = self.engine.destroy_group_reference_point(set, user.name());
        self.run(user, Action::administrator("destroy-group-reference-point"), object, work).await
    }

    /// As [`super::Engine::export_snapshot`], for administrators: it writes to a directory of the host. A base has to be
    /// in reach, and a user with a scope has a place of his own.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn export_snapshot(
        &self,
        snapshot: Guid,
        settings: ExportSettings,
        user: &Principal,
    ) -> Result<Outcome<()>, EngineError> {
        let hidden = settings.base.filter(|base| self.view(user).reference_point(*base).is_none());
        let place = self.has_place(&settings.directory, user);
        let in_reach = |_: &Part| hidden.map_or(place, |base| Err(EngineError::NoSuchReferencePoint(base)));
        let work = self.engine.export_snapshot(snapshot, settings, user.name());
        self.run_if(user, Action::administrator("export-snapshot"), of_snapshot(snapshot), in_reach, work).await
    }

    /// As [`super::Engine::export_group_snapshot`], for administrators. A base has to be in reach.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn export_group_snapshot(
        &self,
        set: Guid,
        settings: ExportSettings,
        user: &Principal,
    ) -> Result<Outcome<()>, EngineError> {
        let hidden = settings.base.filter(|base| self.view(user).reference_point_collection(*base).is_none());
        let place = self.has_place(&settings.directory, user);
        let in_reach = |_: &Part| hidden.map_or(place, |base| Err(EngineError::NoSuchReferencePointCollection(base)));
        let work = self.engine.export_group_snapshot(set, settings, user.name());
        self.run_if(user, Action::administrator("export-group-snapshot"), of_set(set), in_reach, work).await
    }

    /// Whether a directory is in the place of a user with a scope: the directory of the user's name in one of those
    /// that are allowed. Anywhere else the answer would tell which exports of others there are.
    fn has_place(&self, directory: &Path, user: &Principal) -> Result<(), EngineError> {
        // The names of principals of Kerberos may have a slash in them.
        let name = user.name().replace('/', "%2F");
        let is_name = !matches!(name.as_str(), "." | "..");
        let stays = directory.components().all(|part| part != Component::ParentDir);
        let mut places = self.engine.export_directories().iter().map(|allowed| allowed.join(&name));
        if is_name && stays && places.any(|place| directory.starts_with(place)) {
            return Ok(());
        }
        Err(EngineError::AccessDenied("a user with a scope exports into the directory of the own name only"))
    }

    /// As [`super::Engine::modify_system`], for administrators. A name that would take the machine out of the user's
    /// scope is refused.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn modify_system(&self, system: Guid, change: SystemChange, user: &Principal) -> Result<(), EngineError> {
        let object = Object::Element(ElementRef::System(system));
        let name = change.name.clone();
        let keeps = |part: &Part| outside(name.is_none_or(|name| part.keeps_system(system, &name)));
        let work = self.engine.modify_system(system, change);
        self.run_if(user, Action::administrator("modify-machine"), object, keeps, work).await
    }

    /// As [`super::Engine::modify_snapshot`], for operators: whoever makes snapshots names them.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn modify_snapshot(
        &self,
        snapshot: Guid,
        name: Option<SmolStr>,
        notes: Option<String>,
        user: &Principal,
    ) -> Result<(), EngineError> {
        let work = self.engine.modify_snapshot(snapshot, name, notes);
        self.run(user, Action::operator("modify-snapshot"), of_snapshot(snapshot), work).await
    }

    /// As [`super::Engine::request_state_change`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn request_state_change(
        &self,
        system: Guid,
        requested: RequestedState,
        user: &Principal,
    ) -> Result<Outcome<()>, EngineError> {
        let object = Object::Element(ElementRef::System(system));
        let work = self.engine.request_state_change(system, requested, user.name());
        self.run(user, Action::administrator("change-machine-state"), object, work).await
    }

    /// As [`super::Engine::define_collection`], for administrators. A user with a scope makes collections within it and
    /// cannot choose their identity.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn define_collection(&self, request: DefineCollection, user: &Principal) -> Result<Guid, EngineError> {
        let (name, chosen) = (request.name.clone(), request.id.is_some());
        let keeps = |part: &Part| outside(!chosen && part.keeps_collection(None, &name));
        let work = self.engine.define_collection(request);
        self.run_if(user, Action::administrator("define-collection"), Object::Host, keeps, work).await
    }

    /// As [`super::Engine::destroy_collection`], for administrators. A collection in another one that is out of reach
    /// cannot be destroyed.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn destroy_collection(&self, collection: Guid, user: &Principal) -> Result<(), EngineError> {
        let free = |part: &Part| outside(part.may_destroy_collection(collection));
        let work = self.engine.destroy_collection(collection);
        self.run_if(user, Action::administrator("destroy-collection"), of_collection(collection), free, work).await
    }

    /// As [`super::Engine::rename_collection`], for administrators. A name that would take it out of the user's scope is
    /// refused.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn rename_collection(
        &self,
        collection: Guid,
        name: SmolStr,
        user: &Principal,
    ) -> Result<(), EngineError> {
        let new = name.clone();
        let keeps = |part: &Part| outside(part.keeps_collection(Some(collection), &new));
        let work = self.engine.rename_collection(collection, name);
        self.run_if(user, Action::administrator("rename-collection"), of_collection(collection), keeps, work).await
    }

    /// As [`super::Engine::change_collection`], for administrators. A member to be added has to be in reach.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn change_collection(
        &self,
        collection: Guid,
        change: CollectionChange,
        user: &Principal,
    ) -> Result<(), EngineError> {
        let action = Action::administrator(match change {
            CollectionChange::Add(_) => "add-to-collection",
            CollectionChange::Remove(_) => "remove-from-collection",
        });
        let (CollectionChange::Add(member) | CollectionChange::Remove(member)) = change;
        let view = self.view(user);
        let known = view.system(member).is_some() || view.collection(member).is_some();
        let in_reach = |_: &Part| if known { Ok(()) } else { Err(EngineError::NoSuchSystem(member)) };
        let work = self.engine.change_collection(collection, change);
        self.run_if(user, action, of_collection(collection), in_reach, work).await
    }

    /// As [`super::Engine::create_group_snapshot`], for operators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn create_group_snapshot(
        &self,
        request: CreateGroupSnapshot,
        user: &Principal,
    ) -> Result<Outcome<Guid>, EngineError> {
        let object = of_collection(request.collection);
        let work = self.engine.create_group_snapshot(request, user.name());
        self.run(user, Action::operator("create-group-snapshot"), object, work).await
    }

    /// As [`super::Engine::apply_group_snapshot`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn apply_group_snapshot(&self, set: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let work = self.engine.apply_group_snapshot(set, user.name());
        self.run(user, Action::administrator("apply-group-snapshot"), of_set(set), work).await
    }

    /// As [`super::Engine::destroy_group_snapshot`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn destroy_group_snapshot(&self, set: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let work = self.engine.destroy_group_snapshot(set, user.name());
        self.run(user, Action::administrator("destroy-group-snapshot"), of_set(set), work).await
    }

    /// As [`super::Engine::create_volume_snapshot`], for operators. A target pool has to be in reach.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn create_volume_snapshot(
        &self,
        request: CreateVolumeSnapshot,
        user: &Principal,
    ) -> Result<VolumeOutcome, EngineError> {
        let object = Object::Element(ElementRef::Volume(request.source));
        let hidden = request.target_pool.filter(|pool| self.view(user).pool(*pool).is_none());
        let in_reach = |_: &Part| hidden.map_or(Ok(()), |pool| Err(EngineError::NoSuchPool(pool)));
        let work = self.engine.create_volume_snapshot(request, user.name());
        self.run_if(user, Action::operator("create-volume-snapshot"), object, in_reach, work).await
    }

    /// As [`super::Engine::delete_volume`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn delete_volume(&self, volume: Guid, user: &Principal) -> Result<(), EngineError> {
        let object = Object::Element(ElementRef::Volume(volume));
        self.run(user, Action::administrator("delete-volume"), object, self.engine.delete_volume(volume)).await
    }

    /// As [`super::Engine::cancel_job`], for whoever may order such a job.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn cancel_job(&self, job: Guid, mode: CancelMode, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let action = match self.view(user).job(job).map(|job| job.kind) {
            Some(
                JobKind::CreateSnapshot
                | JobKind::CopyVolume
                | JobKind::ConvertToReferencePoint
                | JobKind::CreateReferencePoint
                | JobKind::CreateGroupReferencePoint,
            ) => Action::operator("cancel-job"),
            _ => Action::administrator("cancel-job"),
        };
        let work = self.engine.cancel_job(job, mode);
        self.run(user, action, Object::Job(job), work).await
    }
}

const fn of_snapshot(id: Guid) -> Object {
    Object::Element(ElementRef::Snapshot(id))
}

const fn of_set(id: Guid) -> Object {
    Object::Element(ElementRef::SnapshotCollection(id))
}

const fn of_collection(id: Guid) -> Object {
    Object::Element(ElementRef::Collection(id))
}
