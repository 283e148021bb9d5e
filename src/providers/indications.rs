//! Events of the engine as indications: in the classes of WMI (`__InstanceModificationEvent` …) and in those of the
//! standard (`CIM_InstModification` …), for the namespaces whose instances they are about.

use std::sync::Arc;

use smol_str::SmolStr;
use tokio::sync::watch;

use super::computer_system::ComputerSystems;
use super::element::{COMPUTER_SYSTEM, Element, JOB, SETTING_DATA};
use super::family::Family;
use super::job::{Jobs, is_virtualization_job};
use super::scope::{CLUSTER_NAMESPACE, HOST_NAMESPACE, Scope, Shared};
use super::setting_data::SettingData;
use super::{ProviderOptions, storage};
use crate::access::Account;
use crate::cim::{
    CimDateTime, CimError, CimInstance, CimStatus, CimValue, ClassDeclaration, InstanceBuilder, Schema, namespace_eq,
};
use crate::cimom::{
    BoxFuture, IndicationProvider, JournalWindow, Occurrence, Occurrences, SubscriptionRecord, SubscriptionStore,
};
use crate::engine::{Engine, Event, EventChange, Gate, Subscription};
use crate::time::{Guid, Timestamp};

/// Events that are read at once.
const PORTION: usize = 64;
/// Indications that one event can become; the positions of indications count in it.
const FACETS: u64 = 4;

/// The indications of this host, and the subscriptions to them.
pub struct Indications {
    engine: Arc<Gate>,
    namespaces: Vec<Namespace>,
}

/// What indications of one namespace are made from.
struct Namespace {
    shared: Arc<Shared>,
    subjects: Subjects,
    /// The classes of WMI and those of the standard: made, changed, gone.
    wmi: [Arc<ClassDeclaration>; 3],
    standard: [Arc<ClassDeclaration>; 3],
}

/// The classes indications are about.
enum Subjects {
    /// Jobs, machines and settings records.
    Virtualization { jobs: Jobs, systems: ComputerSystems, settings: SettingData, classes: [Arc<ClassDeclaration>; 3] },
    /// Jobs that copy volumes.
    Storage { template: CimInstance },
}

/// An instance before and after an event.
struct Facet {
    before: Option<CimInstance>,
    after: Option<CimInstance>,
}

impl Facet {
    /// Whether a client could see the change at all.
    fn is_seen(&self) -> bool {
        self.before != self.after
    }
}

impl Indications {
    /// The indications of an engine.
    ///
    /// # Errors
    /// A [`CimError`] when the schema does not have a class that is needed.
    pub fn new(engine: &Arc<Engine>, schema: &Schema, options: &ProviderOptions) -> Result<Self, CimError> {
        let engine = Arc::new(Gate::new(Arc::clone(engine)));
        let mut namespaces = Vec::new();
        for name in [HOST_NAMESPACE, CLUSTER_NAMESPACE, storage::NAMESPACE] {
            let namespace = schema.namespace(name).ok_or_else(|| {
                CimError::new(CimStatus::InvalidNamespace, format!("the schema has no namespace {name}"))
            })?;
            let shared = Arc::new(Shared {
                engine: Arc::clone(&engine),
                options: options.clone(),
                schema: Arc::clone(namespace),
            });
            namespaces.push(Namespace::new(shared)?);
        }
        Ok(Self { engine, namespaces })
    }

    fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace_eq(namespace.name(), name))
    }
}

impl Namespace {
    fn new(shared: Arc<Shared>) -> Result<Self, CimError> {
        let class = |name| shared.class(name).cloned();
        let retention = shared.engine.job_retention();
        let subjects = if shared.schema.name() == storage::NAMESPACE {
            Subjects::Storage { template: storage::job_template(shared.class(storage::JOB)?)? }
        } else {
            Subjects::Virtualization {
                jobs: Jobs::new(shared.class(JOB)?, retention)?,
                systems: ComputerSystems::new(shared.class(COMPUTER_SYSTEM)?, &shared.options.host_name)?,
                settings: SettingData::new(shared.class(SETTING_DATA)?)?,
                classes: [class(JOB)?, class(COMPUTER_SYSTEM)?, class(SETTING_DATA)?],
            }
        };
        Ok(Self {
            subjects,
            wmi: [
                class("__InstanceCreationEvent")?,
                class("__InstanceModificationEvent")?,
                class("__InstanceDeletionEvent")?,
            ],
            standard: [class("CIM_InstCreation")?, class("CIM_InstModification")?, class("CIM_InstDeletion")?],
            shared,
        })
    }

    fn name(&self) -> &SmolStr {
        self.shared.schema.name()
    }

    /// The instances an event is about, always in the same order.
    fn facets(&self, event: &Event) -> Result<Vec<Facet>, CimError> {
        let (before, after) = event.change.views();
        let scope = |view| Scope {
            shared: Arc::clone(&self.shared),
            view: Arc::new(view),
            namespace: self.name().clone(),
            now: event.at,
        };
        let (before, after) = (scope(before), scope(after));
        match &self.subjects {
            Subjects::Virtualization { jobs, systems, settings, .. } => {
                let facet = |family: &dyn Family, element| {
                    let (before, after) = (family.instance(&before, element)?, family.instance(&after, element)?);
                    Ok::<_, CimError>(Facet { before, after })
                };
                Ok(match &event.change {
                    EventChange::Began | EventChange::Ended => Vec::new(),
                    EventChange::Job(job) => {
                        let job = job.after.as_ref().or(job.before.as_ref());
                        let job = job.filter(|job| is_virtualization_job(job));
                        job.map(|job| facet(jobs, Element::Job(job.id))).transpose()?.into_iter().collect()
                    }
                    EventChange::Snapshot { snapshot, .. } => {
                        let snapshot = snapshot.after.as_ref().or(snapshot.before.as_ref());
                        let facet = snapshot.map(|snapshot| facet(settings, Element::Snapshot(snapshot.id)));
                        facet.transpose()?.into_iter().collect()
                    }
                    EventChange::System(system) => match system.after.as_ref().or(system.before.as_ref()) {
                        Some(system) => {
                            let (machine, record) = (Element::System(system.id), Element::Settings(system.id));
                            vec![facet(systems, machine)?, facet(settings, record)?]
                        }
                        None => Vec::new(),
                    },
                })
            }
            Subjects::Storage { template } => {
                let EventChange::Job(job) = &event.change else { return Ok(Vec::new()) };
                let instance = |job: &Option<Arc<crate::engine::Job>>| {
                    let job = job.as_ref().filter(|job| !is_virtualization_job(job));
                    let (engine, host) = (&self.shared.engine, &self.shared.options.host_name);
                    job.map(|job| storage::job_instance(template, job, engine.job_retention(), event.at, host))
                        .transpose()
                };
                Ok(vec![Facet { before: instance(&job.before)?, after: instance(&job.after)? }])
            }
        }
    }

    /// The indications of one instance of an event, in both families of classes.
    fn indications(&self, facet: Facet, number: u64, at: Timestamp) -> Result<Vec<CimInstance>, CimError> {
        let (kind, target, previous) = match (facet.before, facet.after) {
            (None, None) => return Ok(Vec::new()),
            (None, Some(after)) => (0, after, None),
            (Some(before), Some(after)) => (1, after, Some(before)),
            (Some(before), None) => (2, before, None),
        };
        let path = target.path(self.name()).to_wmi_text(&self.shared.options.host_name);
        let target = CimValue::Instance(Arc::new(target));
        let previous = previous.map_or(CimValue::Null, |previous| CimValue::Instance(Arc::new(previous)));
        let mut made = Vec::with_capacity(2);
        if let Some(class) = self.wmi.get(kind) {
            let builder = InstanceBuilder::new(class)
                .set("TIME_CREATED", windows_time(at))
                .set("TargetInstance", target.clone())
                .set_if_declared("PreviousInstance", previous.clone());
            made.push(builder.build()?);
        }
        if let Some(class) = self.standard.get(kind) {
            let builder = InstanceBuilder::new(class)
                .set("IndicationIdentifier", format!("{}:{number}", self.shared.options.installation))
                .set("IndicationTime", CimDateTime::utc(at))
                .set("PerceivedSeverity", 2_u16)
                .set("SourceInstance", target)
                .set("SourceInstanceHost", self.shared.options.host_name.clone())
                .set("SourceInstanceModelPath", path)
                .set_if_declared("PreviousInstance", previous);
            made.push(builder.build()?);
        }
        Ok(made)
    }
}

/// Units of 100 nanoseconds since 1601, as Windows counts.
pub(super) fn windows_time(at: Timestamp) -> u64 {
    /// Seconds between the beginning of 1601 and that of 1970.
    const EPOCH: i64 = 11_644_473_600;
    let seconds = u64::try_from(at.timestamp().saturating_add(EPOCH)).unwrap_or(0);
    seconds.saturating_mul(10_000_000).saturating_add(u64::from(at.timestamp_subsec_nanos() / 100))
}

impl IndicationProvider for Indications {
    fn makes(&self, indication: &ClassDeclaration) -> bool {
        self.namespace(indication.namespace()).is_some_and(|namespace| {
            let mut made = namespace.wmi.iter().chain(&namespace.standard);
            made.any(|class| class.name() == indication.name())
        })
    }

    fn subjects(&self, namespace: &str) -> Vec<Arc<ClassDeclaration>> {
        match self.namespace(namespace).map(|namespace| &namespace.subjects) {
            Some(Subjects::Virtualization { classes, .. }) => classes.to_vec(),
            Some(Subjects::Storage { template }) => vec![Arc::clone(template.class())],
            None => Vec::new(),
        }
    }

    fn window(&self) -> JournalWindow {
        let window = self.engine.event_window();
        JournalWindow {
            readable_after: window.oldest.saturating_sub(1).saturating_mul(FACETS) + (FACETS - 1),
            newest: window.newest.saturating_mul(FACETS) + (FACETS - 1),
        }
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.engine.watch_events()
    }

    fn after(&self, namespace: &str, position: u64, account: &Account) -> Result<Occurrences, CimError> {
        let Some(namespace) = self.namespace(namespace) else { return Ok(Occurrences::default()) };
        let mut read = Occurrences { items: Vec::new(), read_to: position };
        let reach = self.engine.reach(account);
        // An event that was read in part is read again.
        let whole = (position + 1) / FACETS;
        for event in self.engine.events_after(whole.saturating_sub(1), PORTION) {
            let first = event.position.saturating_mul(FACETS);
            read.read_to = first + (FACETS - 1);
            if !reach.has_event(&event) {
                continue;
            }
            let mut facets = namespace.facets(&event)?;
            facets.retain(Facet::is_seen);
            // The last one has the last number, so that who has it has the whole event.
            let last = facets.len().saturating_sub(1);
            for (place, (index, facet)) in (0..FACETS).zip(facets).enumerate() {
                let number = first + if place == last { FACETS - 1 } else { index };
                if number <= position {
                    continue;
                }
                for indication in namespace.indications(facet, number, event.at)? {
                    let indication = Arc::new(indication);
                    read.items.push(Occurrence { position: number, at: event.at, indication });
                }
            }
        }
        Ok(read)
    }

    fn record(&self, on: bool) -> BoxFuture<'_, Result<(), CimError>> {
        Box::pin(async move { self.engine.record_events(on).await.map_err(|error| failed(&error)) })
    }
}

impl SubscriptionStore for Indications {
    fn subscriptions(&self) -> Vec<SubscriptionRecord> {
        let record = |subscription: &Arc<Subscription>| SubscriptionRecord {
            id: subscription.id,
            owner: subscription.owner.clone(),
            terms: subscription.terms.clone(),
        };
        self.engine.subscriptions().iter().map(record).collect()
    }

    fn put(&self, record: SubscriptionRecord) -> BoxFuture<'_, Result<(), CimError>> {
        let subscription = Subscription { id: record.id, owner: record.owner, terms: record.terms };
        Box::pin(async move { self.engine.put_subscription(subscription).await.map_err(|error| failed(&error)) })
    }

    fn remove(&self, id: Guid) -> BoxFuture<'_, Result<(), CimError>> {
        Box::pin(async move { self.engine.delete_subscription(id).await.map_err(|error| failed(&error)) })
    }
}

fn failed(error: &crate::engine::EngineError) -> CimError {
    CimError::failed(format!("the subscription cannot be kept: {error}"))
}
