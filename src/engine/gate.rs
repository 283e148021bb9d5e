//! The engine as it is reached on behalf of a user: the one place where roles and scopes are enforced and changes
//! are recorded.
//!
//! The gate has the commands of the [`Engine`] with a [`Principal`] in place of a name. Whoever acts for somebody
//! else is given a gate and not the engine. A command is judged in one order: the role, then whether its object
//! exists for the user, then whether the record can be written. A user without a scope pays one comparison.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smol_str::SmolStr;
use tokio::sync::watch;

use super::reach::Part;
use super::report::Chain;
use super::{
    CancelMode, CollectionChange, CreateGroupSnapshot, CreateSnapshot, CreateVolumeSnapshot, DefineCollection,
    ElementRef, Engine, EngineError, Event, EventWindow, JobKind, Outcome, Reach, RequestedState, Subscription,
    SystemChange, View, VolumeOutcome,
};
use crate::access::{Account, AuditOutcome, AuditRecord, AuditTrail, Principal, Role, Scope};
use crate::backend::Capabilities;
use crate::time::Guid;

/// Scopes whose part of the newest view is kept.
const KEPT: usize = 16;

/// The engine, for users.
pub struct Gate {
    engine: Arc<Engine>,
    parts: Mutex<Vec<Arc<Part>>>,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Action {
    /// The word for it in the record.
    name: &'static str,
    /// Who may do it.
    role: Role,
}

impl Action {
    const fn operator(name: &'static str) -> Self {
        Self { name, role: Role::Operator }
    }

    const fn administrator(name: &'static str) -> Self {
        Self { name, role: Role::Administrator }
    }
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    Element(ElementRef),
    Job(Guid),
    /// Something that is to be made.
    Host,
}

/// What the result of a command says of a job.
trait Told {
    fn job(&self) -> Option<Guid> {
        None
    }
}

impl Told for () {}
impl Told for Guid {}

impl<T> Told for Outcome<T> {
    fn job(&self) -> Option<Guid> {
        match self {
            Self::Done(_) => None,
            Self::Started { job } => Some(*job),
        }
    }
}

impl Told for VolumeOutcome {
    fn job(&self) -> Option<Guid> {
        match self {
            Self::Done { .. } => None,
            Self::Started { job, .. } => Some(*job),
        }
    }
}

/// A change that was begun. It is recorded when it ends, also when nobody waits for that.
struct Entry<'a> {
    trail: &'a dyn AuditTrail,
    record: Option<AuditRecord<'a>>,
}

impl Entry<'_> {
    fn end<T: Told>(mut self, result: &Result<T, EngineError>) {
        let Some(mut record) = self.record.take() else { return };
        match result {
            Ok(told) => {
                record.job = told.job().map(|job| job.to_string());
                record.outcome = if record.job.is_some() { AuditOutcome::Started } else { AuditOutcome::Done };
            }
            Err(error) => {
                record.outcome = match error {
                    EngineError::AccessDenied(_) => AuditOutcome::Refused,
                    _ => AuditOutcome::Failed,
                };
                record.reason = Some(Chain(error).to_string());
            }
        }
        self.trail.write(&record);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            self.trail.write(&record);
        }
    }
}

impl Gate {
    /// A gate to an engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, parts: Mutex::default() }
    }

    /// What exists for an account, at this instant.
    #[must_use]
    pub fn reach(&self, account: &Account) -> Reach {
        let full = self.engine.view();
        match &account.scope {
            None => Reach::everything(full),
            Some(scope) => Reach::part(self.part(scope, full)),
        }
    }

    /// Everything that exists for a user, at this instant. Never waits; a user with a scope pays for it once after
    /// each change of the records.
    #[must_use]
    pub fn view(&self, user: &Principal) -> Arc<View> {
        match user.account().scope {
            None => self.engine.view(),
            Some(_) => self.reach(user.account()).view(),
        }
    }

    fn part(&self, scope: &Arc<Scope>, full: Arc<View>) -> Arc<Part> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.iter().find(|part| part.is_of(scope, &full)) {
            return Arc::clone(part);
        }
        parts.retain(|part| !part.is_for(scope));
        if parts.len() >= KEPT {
            parts.remove(0);
        }
        let part = Arc::new(Part::new(Arc::clone(scope), full));
        parts.push(Arc::clone(&part));
        part
    }

    /// What the hypervisor can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.engine.capabilities()
    }

    /// How long an ended job stays readable.
    #[must_use]
    pub fn job_retention(&self) -> Duration {
        self.engine.job_retention()
    }

    /// The position of the newest event, and each time there are more.
    #[must_use]
    pub fn watch_events(&self) -> watch::Receiver<u64> {
        self.engine.watch_events()
    }

    /// Which events can be read.
    #[must_use]
    pub fn event_window(&self) -> EventWindow {
        self.engine.event_window()
    }

    /// Up to `limit` events behind a position, in order. Which of them somebody may see, [`Reach::has_event`] says.
    #[must_use]
    pub fn events_after(&self, position: u64, limit: usize) -> Vec<Arc<Event>> {
        self.engine.events_after(position, limit)
    }

    /// Begins to record events, or ends it and forgets them.
    ///
    /// # Errors
    /// Those of [`Engine::record_events`].
    pub async fn record_events(&self, on: bool) -> Result<(), EngineError> {
        self.engine.record_events(on).await
    }

    /// All subscriptions, which the layers above give to their owners only.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        self.engine.view().subscriptions().cloned().collect()
    }

    /// Adds or replaces a subscription.
    ///
    /// # Errors
    /// Those of [`Engine::put_subscription`].
    pub async fn put_subscription(&self, subscription: Subscription) -> Result<(), EngineError> {
        self.engine.put_subscription(subscription).await
    }

    /// Removes a subscription.
    ///
    /// # Errors
    /// Those of [`Engine::delete_subscription`].
    pub async fn delete_subscription(&self, id: Guid) -> Result<(), EngineError> {
        self.engine.delete_subscription(id).await
    }

    /// Judges a change, carries it out and records it.
    async fn run<T: Told>(
        &self,
        user: &Principal,
        action: Action,
        object: Object,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        self.run_if(user, action, object, |_| Ok(()), work).await
    }

    /// The same with a condition that a scope adds.
    async fn run_if<T: Told>(
        &self,
        user: &Principal,
        action: Action,
        object: Object,
        condition: impl FnOnce(&Part) -> Result<(), EngineError>,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let trail = &**self.engine.audit();
        let mut record = AuditRecord::change(user, action.name, AuditOutcome::Unknown);
        record.object = self.describe(object);
        let entry = Entry { trail, record: Some(record) };
        let result = match self.judge(user, action, object, condition) {
            Ok(()) if trail.is_ready() => work.await,
            Ok(()) => Err(EngineError::AuditUnavailable),
            Err(refusal) => Err(refusal),
        };
        entry.end(&result);
        result
    }

    fn judge(
        &self,
        user: &Principal,
        action: Action,
        object: Object,
        condition: impl FnOnce(&Part) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let account = user.account();
        if account.role < action.role {
            return Err(EngineError::AccessDenied(match action.role {
                Role::Reader | Role::Operator => "this needs the role operator",
                Role::Administrator => "this needs the role administrator",
            }));
        }
        let Some(scope) = &account.scope else { return Ok(()) };
        let part = self.part(scope, self.engine.view());
        let reach = Reach::part(Arc::clone(&part)).view();
        exists(&reach, object)?;
        condition(&part)
    }

    /// What the record calls an object.
    fn describe(&self, object: Object) -> Option<(&'static str, String, String)> {
        let view = self.engine.view();
        let name = |name: Option<&SmolStr>| name.map(ToString::to_string).unwrap_or_default();
        let (kind, id, name) = match object {
            Object::Host => return None,
            Object::Job(id) => ("job", id, name(view.job(id).map(|job| &job.caption))),
            Object::Element(element) => match element {
                ElementRef::System(id) => ("machine", id, name(view.system(id).map(|one| &one.name))),
                ElementRef::Snapshot(id) => ("snapshot", id, name(view.snapshot(id).map(|one| &one.name))),
                ElementRef::Collection(id) => ("collection", id, name(view.collection(id).map(|one| &one.name))),
                ElementRef::SnapshotCollection(id) => {
                    ("snapshot-collection", id, name(view.snapshot_collection(id).map(|one| &one.name)))
                }
                ElementRef::Volume(id) => ("volume", id, name(view.volume(id).map(|one| &one.name))),
            },
        };
        Some((kind, id.to_string(), name))
    }
}

/// Whether the object of a change is in a view. What is out of reach is answered as what is not there.
fn exists(view: &View, object: Object) -> Result<(), EngineError> {
    let (found, missing) = match object {
        Object::Host => return Ok(()),
        Object::Job(id) => (view.job(id).is_some(), EngineError::NoSuchJob(id)),
        Object::Element(element) => match element {
            ElementRef::System(id) => (view.system(id).is_some(), EngineError::NoSuchSystem(id)),
            ElementRef::Snapshot(id) => (view.snapshot(id).is_some(), EngineError::NoSuchSnapshot(id)),
            ElementRef::Collection(id) => (view.collection(id).is_some(), EngineError::NoSuchCollection(id)),
            ElementRef::SnapshotCollection(id) => {
                (view.snapshot_collection(id).is_some(), EngineError::NoSuchSnapshotCollection(id))
            }
            ElementRef::Volume(id) => (view.volume(id).is_some(), EngineError::NoSuchVolume(id)),
        },
    };
    if found { Ok(()) } else { Err(missing) }
}

fn outside(keeps: bool) -> Result<(), EngineError> {
    if keeps { Ok(()) } else { Err(EngineError::AccessDenied("that would lie outside of the scope of the user")) }
}

/// The commands. Errors are those of the engine's, and `AccessDenied` and `AuditUnavailable`.
impl Gate {
    /// As [`Engine::create_snapshot`], for operators.
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

    /// As [`Engine::apply_snapshot`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn apply_snapshot(&self, snapshot: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let work = self.engine.apply_snapshot(snapshot, user.name());
        self.run(user, Action::administrator("apply-snapshot"), of_snapshot(snapshot), work).await
    }

    /// As [`Engine::destroy_snapshot`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn destroy_snapshot(&self, snapshot: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let work = self.engine.destroy_snapshot(snapshot, user.name());
        self.run(user, Action::administrator("destroy-snapshot"), of_snapshot(snapshot), work).await
    }

    /// As [`Engine::destroy_snapshot_tree`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn destroy_snapshot_tree(&self, root: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let work = self.engine.destroy_snapshot_tree(root, user.name());
        self.run(user, Action::administrator("destroy-snapshot-tree"), of_snapshot(root), work).await
    }

    /// As [`Engine::clear_snapshot_state`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn clear_snapshot_state(&self, snapshot: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let work = self.engine.clear_snapshot_state(snapshot, user.name());
        self.run(user, Action::administrator("clear-snapshot-state"), of_snapshot(snapshot), work).await
    }

    /// As [`Engine::convert_to_reference_point`], for operators: it is a step of a backup.
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

    /// As [`Engine::modify_system`], for administrators. A name that would take the machine out of the user's
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

    /// As [`Engine::modify_snapshot`], for operators: whoever makes snapshots names them.
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

    /// As [`Engine::request_state_change`], for administrators.
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

    /// As [`Engine::define_collection`], for administrators. A user with a scope makes collections within it and
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

    /// As [`Engine::destroy_collection`], for administrators. A collection in another one that is out of reach
    /// cannot be destroyed.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn destroy_collection(&self, collection: Guid, user: &Principal) -> Result<(), EngineError> {
        let free = |part: &Part| outside(part.may_destroy_collection(collection));
        let work = self.engine.destroy_collection(collection);
        self.run_if(user, Action::administrator("destroy-collection"), of_collection(collection), free, work).await
    }

    /// As [`Engine::rename_collection`], for administrators. A name that would take it out of the user's scope is
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

    /// As [`Engine::change_collection`], for administrators. A member to be added has to be in reach.
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

    /// As [`Engine::create_group_snapshot`], for operators.
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

    /// As [`Engine::apply_group_snapshot`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn apply_group_snapshot(&self, set: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let object = Object::Element(ElementRef::SnapshotCollection(set));
        let work = self.engine.apply_group_snapshot(set, user.name());
        self.run(user, Action::administrator("apply-group-snapshot"), object, work).await
    }

    /// As [`Engine::destroy_group_snapshot`], for administrators.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn destroy_group_snapshot(&self, set: Guid, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let object = Object::Element(ElementRef::SnapshotCollection(set));
        let work = self.engine.destroy_group_snapshot(set, user.name());
        self.run(user, Action::administrator("destroy-group-snapshot"), object, work).await
    }

    /// As [`Engine::create_volume_snapshot`], for operators. A target pool has to be in reach.
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

    /// As [`Engine::cancel_job`], for whoever may order such a job.
    ///
    /// # Errors
    /// Those of the engine, `AccessDenied`, `AuditUnavailable`.
    pub async fn cancel_job(&self, job: Guid, mode: CancelMode, user: &Principal) -> Result<Outcome<()>, EngineError> {
        let action = match self.view(user).job(job).map(|job| job.kind) {
            Some(JobKind::CreateSnapshot | JobKind::CopyVolume) => Action::operator("cancel-job"),
            _ => Action::administrator("cancel-job"),
        };
        let work = self.engine.cancel_job(job, mode);
        self.run(user, action, Object::Job(job), work).await
    }
}

const fn of_snapshot(id: Guid) -> Object {
    Object::Element(ElementRef::Snapshot(id))
}

const fn of_collection(id: Guid) -> Object {
    Object::Element(ElementRef::Collection(id))
}
