//! Opens the engine: records, machines, recovery, tasks.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::events::EventLog;
use super::ledger::{Draft, Ledger};
use super::queue::Lanes;
use super::recovery::Dormant;
use super::report::Chain;
use super::runner::{Inner, Settings};
use super::{
    Collection, CollectionKind, Disk, EngineError, EngineOptions, Ports, Records, ShutdownAction, StartupAction,
    StoreError, SystemState, UserSnapshotType, View, VirtualSystem,
};
use crate::backend::{CollectionDefinition, MachineReport};
use crate::time::{Guid, Timestamp};

/// How often ended jobs are swept.
const SWEEP: Duration = Duration::from_secs(5);
/// How long a lease lasts.
const LEASE: Duration = Duration::from_secs(3600);
/// How often the host is asked what became of snapshots without us, and what others have made.
const INSPECT: Duration = Duration::from_secs(60);
/// How often it is renewed, so that an idle server soon finds out that it was taken over.
const RENEW: Duration = Duration::from_secs(60);

pub(super) async fn open(options: EngineOptions) -> Result<Arc<Inner>, EngineError> {
    let now = options.clock.now();
    let lease = options.store.acquire(&options.host_name, now, now + LEASE).await?;
    let mut records = options.store.load(&lease).await?;
    let events = EventLog::new(std::mem::take(&mut records.events), options.journal);
    let machines = options.hypervisor.machines().await?;
    let new_store = records.systems.is_empty();
    let (view, mut dormant, journals) = arrange(records, &machines);
    dormant.new_store = new_store;
    let next_sequence = next_sequence(&view, &dormant);
    let clock = Arc::clone(&options.clock);
    let (ledger, writer) = Ledger::new(view, next_sequence, events, clock, Arc::clone(&options.store), lease.clone());
    let inner = Arc::new(Inner {
        ledger,
        hypervisor: options.hypervisor,
        volumes: options.volumes,
        clock: options.clock,
        audit: options.audit,
        ids: options.ids,
        lanes: Mutex::new(Lanes::new(options.queue_limit)),
        cancels: Mutex::default(),
        ahead: Mutex::default(),
        tasks: TaskTracker::new(),
        background: TaskTracker::new(),
        closing: AtomicBool::new(false),
        kill: CancellationToken::new(),
        lost: CancellationToken::new(),
        lease,
        store: options.store,
        settings: Settings {
            host_name: options.host_name,
            utc_offset_seconds: options.utc_offset_seconds,
            job_retention: options.job_retention,
            queue_limit: options.queue_limit,
            backend_timeout: options.backend_timeout,
            shutdown_grace: options.shutdown_grace,
            export_directories: options.export_directories,
        },
    });
    let writing = Arc::clone(&inner);
    inner.background.spawn(async move {
        tokio::select! {
            () = writing.kill.cancelled() => {}
            () = writer.run(&writing.ledger, &writing.lost) => {}
        }
        if writing.lost.is_cancelled() {
            writing.give_up();
        }
    });
    let opened = inner.make_ready(&machines, &options.collections, dormant, journals).await;
    if let Err(error) = opened {
        inner.abort();
        return Err(error);
    }
    let sweeping = Arc::clone(&inner);
    inner.background.spawn(async move {
        let kill = sweeping.kill.clone();
        tokio::select! {
            () = kill.cancelled() => {}
            () = sweeping.sweep() => {}
        }
    });
    Ok(inner)
}

/// Sorts the records: those of machines the host knows go into the view, the others stay where they are.
fn arrange(
    records: Records,
    machines: &[MachineReport],
) -> (View, Dormant, HashMap<Guid, Vec<crate::backend::JournalStep>>) {
    let known: BTreeSet<Guid> = machines.iter().map(|machine| machine.definition.id).collect();
    let (mut view, mut dormant) = (View::default(), Dormant::default());
    for system in records.systems.into_iter().filter(|system| known.contains(&system.id)) {
        view.put_system(Arc::new(system));
    }
    for snapshot in records.snapshots {
        if known.contains(&snapshot.system) {
            view.put_snapshot(Arc::new(snapshot));
        } else {
            warn!(snapshot = %snapshot.id, system = %snapshot.system, "The machine of a snapshot is not defined");
            dormant.snapshots.push(snapshot);
        }
    }
    for point in records.reference_points {
        if known.contains(&point.system) {
            view.put_reference_point(Arc::new(point));
        } else {
            warn!(point = %point.id, system = %point.system, "The machine of a reference point is not defined");
            dormant.reference_points.push(point);
        }
    }
    let sets = records.reference_point_collections.into_iter();
    sets.for_each(|set| view.put_reference_point_collection(Arc::new(set)));
    records.collections.into_iter().for_each(|collection| view.put_collection(Arc::new(collection)));
    records.snapshot_collections.into_iter().for_each(|set| view.put_snapshot_collection(Arc::new(set)));
    records.pools.into_iter().for_each(|pool| view.put_pool(Arc::new(pool)));
    records.volumes.into_iter().for_each(|volume| view.put_volume(Arc::new(volume)));
    records.jobs.into_iter().for_each(|job| view.put_job(Arc::new(job)));
    records.subscriptions.into_iter().for_each(|subscription| view.put_subscription(Arc::new(subscription)));
    let mut journals: HashMap<Guid, Vec<_>> = HashMap::new();
    for (job, step) in records.journal {
        journals.entry(job).or_default().push(step);
    }
    (view, dormant, journals)
}

fn next_sequence(view: &View, dormant: &Dormant) -> u64 {
    let snapshots = view.snapshots().map(|snapshot| snapshot.sequence);
    let sets = view.snapshot_collections().map(|set| set.sequence);
    let jobs = view.jobs().map(|job| job.sequence);
    let asleep = dormant.snapshots.iter().map(|snapshot| snapshot.sequence);
    let points = view.reference_points().map(|point| point.sequence);
    let point_sets = view.reference_point_collections().map(|set| set.sequence);
    let points = points.chain(point_sets).chain(dormant.reference_points.iter().map(|point| point.sequence));
    snapshots.chain(sets).chain(jobs).chain(asleep).chain(points).max().map_or(1, |highest| highest + 1)
}

impl Inner {
    async fn make_ready(
        self: &Arc<Self>,
        machines: &[MachineReport],
        collections: &[CollectionDefinition],
        dormant: Dormant,
        journals: HashMap<Guid, Vec<crate::backend::JournalStep>>,
    ) -> Result<(), EngineError> {
        let now = self.now();
        self.ledger
            .transact(|draft| {
                for machine in machines {
                    define_system(draft, machine, now);
                }
                for collection in collections {
                    define_configured(draft, collection, now);
                }
                Ok::<_, EngineError>(())
            })
            .await?;
        let waiting = self.recover_jobs(&journals).await?;
        self.remove_orphans(&journals, &dormant).await?;
        self.find_missing().await?;
        self.show_foreign(machines).await?;
        self.verify_reference_points(None).await?;
        self.refresh_volumes().await?;
        self.sweep_jobs().await?;
        self.merge_at_start().await;
        let view = self.view();
        info!(
            systems = view.systems().count(),
            snapshots = view.snapshots().count(),
            waiting = waiting.len(),
            "Engine opened"
        );
        for job in waiting {
            self.resume(job);
        }
        Ok(())
    }

    async fn sweep(&self) {
        let mut renewed = tokio::time::Instant::now();
        let mut inspected = renewed;
        loop {
            tokio::time::sleep(SWEEP).await;
            if inspected.elapsed() > INSPECT {
                if let Err(error) = self.look_at_snapshots().await {
                    warn!(error = %Chain(&error), "The snapshots could not be looked at");
                }
                inspected = tokio::time::Instant::now();
            }
            if let Err(error) = self.sweep_jobs().await {
                warn!(error = %Chain(&error), "Old jobs could not be removed");
            }
            if renewed.elapsed() > RENEW {
                renewed = tokio::time::Instant::now();
                match self.store.renew(&self.lease, self.now() + LEASE).await {
                    Ok(()) => {}
                    Err(StoreError::LeaseLost) => self.give_up(),
                    Err(error) => warn!(error = %Chain(&error), "The lease could not be renewed"),
                }
            }
        }
    }
}

/// Brings the record of a machine up to its definition. A name or text in the definition that is not the one seen
/// before replaces what users gave since.
fn define_system(draft: &mut Draft, report: &MachineReport, now: Timestamp) {
    let definition = &report.definition;
    let disks = definition.disks.iter().zip(&report.virtual_sizes).map(|(disk, size)| Disk {
        name: disk.name.as_str().into(),
        path: disk.path.clone(),
        format: disk.format,
        virtual_size: size.unwrap_or(0),
        read_only: disk.read_only,
        pass_through: disk.pass_through,
    });
    let state = SystemState::from(report.state);
    let known = draft.view().system(definition.id).cloned();
    let mut system = known.as_deref().cloned().unwrap_or_else(|| VirtualSystem {
        id: definition.id,
        name: definition.name.as_str().into(),
        notes: definition.notes.clone(),
        defined_name: definition.name.as_str().into(),
        defined_notes: definition.notes.clone(),
        state,
        created: now,
        state_changed: now,
        config_changed: now,
        user_snapshot_type: UserSnapshotType::ProductionFallback,
        incremental_backup: false,
        startup_action: StartupAction::RestartIfPreviouslyActive,
        shutdown_action: ShutdownAction::SaveState,
        disks: Vec::new(),
        memory_mb: definition.memory_mb,
        processors: definition.processors,
        ports: Ports::default(),
        process: None,
        current_snapshot: None,
        last_applied: None,
        activity: None,
    });
    if system.defined_name != definition.name.as_str() {
        system.name = definition.name.as_str().into();
        system.defined_name = system.name.clone();
    }
    if system.defined_notes != definition.notes {
        system.notes.clone_from(&definition.notes);
        system.defined_notes.clone_from(&definition.notes);
    }
    if system.state != state {
        (system.state, system.state_changed) = (state, now);
    }
    (system.disks, system.memory_mb, system.processors) =
        (disks.collect(), definition.memory_mb, definition.processors);
    system.ports = Ports { networks: definition.networks.clone(), serial: report.serial_ports.clone() };
    system.process = report.process;
    if known.as_deref() != Some(&system) {
        draft.put_system(system);
    }
}

/// Adds a collection of the configuration; one that is known keeps what users changed.
fn define_configured(draft: &mut Draft, definition: &CollectionDefinition, now: Timestamp) {
    if draft.view().collection(definition.id).is_some() {
        return;
    }
    let of_collections = definition.members.iter().any(|member| draft.view().system(*member).is_none());
    let (known, unknown): (Vec<Guid>, Vec<Guid>) = definition.members.iter().partition(|member| {
        draft.view().system(**member).is_some() || (of_collections && draft.view().collection(**member).is_some())
    });
    for member in unknown {
        warn!(collection = definition.name, %member, "A member of a collection is not defined");
    }
    let kind = if known.iter().any(|member| draft.view().collection(*member).is_some()) {
        CollectionKind::Collections
    } else {
        CollectionKind::Machines
    };
    draft.put_collection(Collection {
        id: definition.id,
        name: definition.name.as_str().into(),
        kind,
        members: known,
        configured: true,
        created: now,
        last_applied: None,
    });
}
