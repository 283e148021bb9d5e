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
use super::{ElementRef, Engine, EngineError, Event, EventWindow, Outcome, Reach, Subscription, View, VolumeOutcome};
use crate::access::{Account, AuditOutcome, AuditRecord, AuditTrail, Principal, Role, Scope};
use crate::backend::Capabilities;
use crate::time::Guid;

/// Scopes whose part of the newest view is kept.
const KEPT: usize = 16;

/// The engine, for users.
pub struct Gate {
    pub(super) engine: Arc<Engine>,
    parts: Mutex<Vec<Arc<Part>>>,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    /// The word for it in the record.
    name: &'static str,
    /// Who may do it.
    role: Role,
}

impl Action {
    pub(super) const fn operator(name: &'static str) -> Self {
        Self { name, role: Role::Operator }
    }

    pub(super) const fn administrator(name: &'static str) -> Self {
        Self { name, role: Role::Administrator }
    }
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Element(ElementRef),
    Job(Guid),
    /// Something that is to be made.
    Host,
}

/// What the result of a command says of a job.
pub(super) trait Told {
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
    pub(super) async fn run<T: Told>(
        &self,
        user: &Principal,
        action: Action,
        object: Object,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        self.run_if(user, action, object, |_| Ok(()), work).await
    }

    /// The same with a condition that a scope adds.
    pub(super) async fn run_if<T: Told>(
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
                ElementRef::ReferencePoint(id) => ("reference-point", id, String::new()),
                ElementRef::ReferencePointCollection(id) => {
                    let known = view.reference_point_collection(id).map(|one| &one.name);
                    ("reference-point-collection", id, name(known))
                }
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
            ElementRef::ReferencePoint(id) => {
                (view.reference_point(id).is_some(), EngineError::NoSuchReferencePoint(id))
            }
            ElementRef::ReferencePointCollection(id) => {
                (view.reference_point_collection(id).is_some(), EngineError::NoSuchReferencePointCollection(id))
            }
        },
    };
    if found { Ok(()) } else { Err(missing) }
}

pub(super) fn outside(keeps: bool) -> Result<(), EngineError> {
    if keeps { Ok(()) } else { Err(EngineError::AccessDenied("that would lie outside of the scope of the user")) }
}
