//! Commands over the simulated host and over files: what they do to the records, and each answer they can give.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use wsnapd::backend::{
    BackendError, BoxFuture, DirectoryPools, JournalStep, MachineState, PoolDefinition, PoolSnapshots, SimulatedCall,
    StepControl, VolumeManager, VolumePoolReport, VolumeReport, VolumeSnapshotRequest,
};
use wsnapd::engine::{
    CancelMode, CollectionChange, CollectionKind, ConsistencyLevel, CreateGroupSnapshot, CreateSnapshot,
    CreateVolumeSnapshot, DefineCollection, Engine, EngineError, EventChange, Failure, GroupSnapshotType, JobState,
    Outcome, RequestedState, SnapshotKind, SnapshotSettings, SnapshotType, SystemChange, SystemState, Transition,
    UserSnapshotType, VolumeOutcome,
};
use wsnapd::time::Guid;

use crate::engine_support::{DB, SHOP, Site, USER, WEB, creation, guid, job_of, made, take, wait};

/// Snapshots with their parents, the current one, and the one applied last.
type Forest = (Vec<(Guid, Option<Guid>)>, Option<Guid>, Option<Guid>);

/// Parent, current and last applied of a machine, as the clients walk them.
fn tree(engine: &Engine, system: u64) -> Forest {
    let view = engine.view();
    let snapshots = view.snapshots_of(guid(system)).map(|snapshot| (snapshot.id, snapshot.parent)).collect();
    let system = view.system(guid(system)).unwrap();
    (snapshots, system.current_snapshot, system.last_applied)
}

async fn finish(engine: &Engine, outcome: Result<Outcome<()>, EngineError>) {
    let job = wait(engine, job_of(outcome)).await;
    assert_eq!((job.state, job.percent), (JobState::Completed, 100), "{:?}", job.failure);
    assert_eq!(job.owner, USER);
}

#[tokio::test]
async fn the_forest_follows_create_apply_and_destroy() {
    let site = Site::new();
    let engine = site.open(site.files()).await;
    let first = take(&engine, WEB).await;
    assert_eq!(engine.view().snapshot(first).unwrap().name, "web01 - (2026-11-21 - 14:05:09)");
    site.write("web-root", "second");
    let second = take(&engine, WEB).await;
    assert_eq!(tree(&engine, WEB), (vec![(first, None), (second, Some(first))], Some(second), None));
    site.write("web-root", "third");
    finish(&engine, engine.apply_snapshot(first, USER).await).await;
    assert_eq!(site.read("web-root"), "web-root at first");
    let third = take(&engine, WEB).await;
    let (snapshots, current, applied) = tree(&engine, WEB);
    assert_eq!(snapshots, [(first, None), (second, Some(first)), (third, Some(first))]);
    assert_eq!((current, applied), (Some(third), Some(first)));
    finish(&engine, engine.destroy_snapshot(first, USER).await).await;
    assert_eq!(tree(&engine, WEB), (vec![(second, None), (third, None)], Some(third), None));
    let fourth = take(&engine, WEB).await;
    finish(&engine, engine.destroy_snapshot_tree(third, USER).await).await;
    assert_eq!(tree(&engine, WEB), (vec![(second, None)], None, None));
    assert!(engine.view().snapshot(fourth).is_none());
    assert_eq!(site.snapshot_directories().len(), 1);
    let recovery =
        wait(&engine, job_of(engine.create_snapshot(creation(WEB, SnapshotType::Recovery), USER).await)).await;
    let recovery = made(&recovery);
    assert_eq!(tree(&engine, WEB).1, None, "a recovery snapshot does not become the current one");
    assert_eq!(engine.view().snapshot(recovery).unwrap().kind, SnapshotKind::Recovery);
    for refused in [engine.apply_snapshot(recovery, USER).await, engine.destroy_snapshot_tree(recovery, USER).await] {
        assert!(matches!(refused, Err(EngineError::InvalidParameter { .. })), "{refused:?}");
    }
    finish(&engine, engine.destroy_snapshot(recovery, USER).await).await;
}

#[tokio::test]
async fn records_survive_a_restart() {
    let site = Site::new();
    let engine = site.open(site.files()).await;
    let snapshot = take(&engine, DB).await;
    engine.modify_snapshot(snapshot, Some("before the update".into()), Some("notes".to_owned())).await.unwrap();
    let change = SystemChange { name: Some("database".into()), ..SystemChange::default() };
    engine.modify_system(guid(DB), change).await.unwrap();
    let defined = DefineCollection { name: "mine".into(), id: None, kind: CollectionKind::Machines };
    let mine = engine.define_collection(defined).await.unwrap();
    engine.change_collection(mine, CollectionChange::Add(guid(DB))).await.unwrap();
    let before = engine.view();
    engine.shutdown().await;
    assert!(matches!(engine.apply_snapshot(snapshot, USER).await, Err(EngineError::ShuttingDown)));
    drop(engine);
    let engine = site.open(site.files()).await;
    let after = engine.view();
    assert_eq!(after.snapshot(snapshot), before.snapshot(snapshot));
    assert_eq!(after.snapshot(snapshot).unwrap().name, "before the update");
    assert_eq!(after.system(guid(DB)), before.system(guid(DB)));
    assert_eq!(after.system(guid(DB)).unwrap().name, "database");
    assert_eq!(after.collection(mine), before.collection(mine));
    assert_eq!(after.jobs().collect::<Vec<_>>(), before.jobs().collect::<Vec<_>>());
    let file = after.snapshot(snapshot).unwrap().disks[0].file.clone();
    engine.shutdown().await;
    drop(engine);
    std::fs::remove_file(&file).unwrap();
    let engine = site.open(site.files()).await;
    assert!(engine.view().snapshot(snapshot).unwrap().missing);
    let refused = engine.apply_snapshot(snapshot, USER).await;
    assert!(matches!(refused, Err(EngineError::InvalidParameter { .. })), "{refused:?}");
    finish(&engine, engine.destroy_snapshot(snapshot, USER).await).await;
}

#[tokio::test]
async fn every_refusal_has_its_error() {
    let site = Site::new();
    let host = site.simulated();
    let engine = site.open(Arc::<wsnapd::backend::SimulatedHypervisor>::clone(&host)).await;
    let snapshot = take(&engine, WEB).await;
    let gone = guid(0xDEAD);
    let refused = |result: Result<(), EngineError>| format!("{:?}", result.unwrap_err());
    let long = "x".repeat(101);
    let name = |name: &str| SnapshotSettings { name: Some(name.into()), ..SnapshotSettings::default() };
    let with = |settings| CreateSnapshot { system: guid(WEB), snapshot_type: SnapshotType::Full, settings };
    let group = |collection| CreateGroupSnapshot {
        collection,
        snapshot_type: GroupSnapshotType::Standard,
        settings: SnapshotSettings::default(),
    };
    let empty = DefineCollection { name: "empty".into(), id: Some(guid(0xE)), kind: CollectionKind::Collections };
    engine.define_collection(empty.clone()).await.unwrap();
    let into = |collection, change| engine.change_collection(collection, change);
    let rename = SystemChange { name: Some("".into()), ..SystemChange::default() };
    let volume = CreateVolumeSnapshot { source: gone, name: None, target_pool: None };
    for (got, expected) in [
        (refused(engine.create_snapshot(creation(0xDEAD, SnapshotType::Full), USER).await.map(drop)), "NoSuchSystem"),
        (refused(engine.create_snapshot(with(name(&long)), USER).await.map(drop)), "InvalidParameter"),
        (refused(engine.create_snapshot(with(name("")), USER).await.map(drop)), "InvalidParameter"),
        (refused(engine.apply_snapshot(gone, USER).await.map(drop)), "NoSuchSnapshot"),
        (refused(engine.destroy_snapshot(gone, USER).await.map(drop)), "NoSuchSnapshot"),
        (refused(engine.destroy_snapshot_tree(gone, USER).await.map(drop)), "NoSuchSnapshot"),
        (refused(engine.clear_snapshot_state(gone, USER).await.map(drop)), "NoSuchSnapshot"),
        (refused(engine.convert_to_reference_point(gone, USER).await.map(drop)), "NoSuchSnapshot"),
        (refused(engine.convert_to_reference_point(snapshot, USER).await.map(drop)), "InvalidParameter"),
        (refused(engine.modify_system(gone, SystemChange::default()).await), "NoSuchSystem"),
        (refused(engine.modify_system(guid(WEB), rename).await), "InvalidParameter"),
        (refused(engine.modify_snapshot(gone, None, None).await), "NoSuchSnapshot"),
        (refused(engine.request_state_change(gone, RequestedState::Enabled, USER).await.map(drop)), "NoSuchSystem"),
        (refused(engine.request_state_change(guid(WEB), RequestedState::Paused, USER).await.map(drop)), "InvalidState"),
        (refused(engine.create_group_snapshot(group(gone), USER).await.map(drop)), "NoSuchCollection"),
        (refused(engine.create_group_snapshot(group(guid(0xE)), USER).await.map(drop)), "InvalidParameter"),
        (refused(engine.apply_group_snapshot(gone, USER).await.map(drop)), "NoSuchSnapshotCollection"),
        (refused(engine.destroy_group_snapshot(gone, USER).await.map(drop)), "NoSuchSnapshotCollection"),
        (refused(engine.define_collection(empty).await.map(drop)), "AlreadyExists"),
        (refused(engine.destroy_collection(gone).await), "NoSuchCollection"),
        (refused(engine.rename_collection(gone, "x".into()).await), "NoSuchCollection"),
        (refused(into(guid(SHOP), CollectionChange::Add(gone)).await), "NoSuchSystem"),
        (refused(into(guid(0xE), CollectionChange::Add(guid(0xE))).await), "InvalidParameter"),
        (refused(into(gone, CollectionChange::Remove(gone)).await), "NoSuchCollection"),
        (refused(engine.create_volume_snapshot(volume, USER).await.map(drop)), "NoSuchVolume"),
        (refused(engine.cancel_job(gone, CancelMode::Kill).await.map(drop)), "NoSuchJob"),
    ] {
        assert!(got.starts_with(expected), "{got} instead of {expected}");
    }
    into(guid(SHOP), CollectionChange::Remove(gone)).await.unwrap();
    host.set_state(guid(WEB), MachineState::Running);
    let running = engine.apply_snapshot(snapshot, USER).await;
    let running_needs = matches!(running, Err(EngineError::InvalidState { state: SystemState::Running, .. }));
    assert!(running_needs, "{running:?}");
    assert!(matches!(engine.clear_snapshot_state(snapshot, USER).await, Ok(Outcome::Done(()))));
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_a_machine_has_a_limit_and_other_machines_go_on() {
    let site = Site::new();
    let host = site.simulated();
    host.set_duration(SimulatedCall::Create, Duration::from_secs(10));
    let engine = site.open_forgetful(host).await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(job_of(engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await));
    }
    let full = engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await;
    assert!(matches!(full, Err(EngineError::QueueFull { limit: 3 })), "{full:?}");
    let other = job_of(engine.create_snapshot(creation(DB, SnapshotType::Full), USER).await);
    assert!(jobs.iter().all(|job| engine.view().job(*job).unwrap().state.number() == 4));
    assert!(matches!(engine.cancel_job(jobs[3], CancelMode::Terminate).await, Ok(Outcome::Done(()))));
    assert!(matches!(engine.cancel_job(jobs[3], CancelMode::Kill).await, Err(EngineError::NotCancellable)));
    assert_eq!(wait(&engine, other).await.state, JobState::Completed);
    assert!(!engine.view().job(jobs[1]).unwrap().state.is_final());
    assert_eq!(wait(&engine, jobs[2]).await.state, JobState::Completed);
    assert_eq!(engine.view().job(jobs[3]).unwrap().state.number(), 8);
    let affected = engine.view().job(jobs[0]).unwrap().affected.clone();
    assert_eq!(affected.iter().map(|affected| affected.effect.number()).collect::<Vec<_>>(), [0, 5]);
}

#[tokio::test(start_paused = true)]
async fn progress_only_grows_and_a_cancel_undoes() {
    let site = Site::new();
    let host = site.simulated();
    host.set_duration(SimulatedCall::Create, Duration::from_secs(10));
    let engine = site.open_forgetful(Arc::<wsnapd::backend::SimulatedHypervisor>::clone(&host)).await;
    engine.record_events(true).await.unwrap();
    let job = job_of(engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await);
    wait(&engine, job).await;
    let mut seen = Vec::new();
    for event in engine.events_after(0, usize::MAX) {
        if let EventChange::Job(Transition { after: Some(job), .. }) = &event.change {
            seen.push(job.percent);
        }
    }
    assert!(seen.is_sorted() && seen.len() > 10 && seen.last() == Some(&100), "{seen:?}");
    for (mode, number) in [(CancelMode::Terminate, 8), (CancelMode::Kill, 9)] {
        let held = host.held_snapshots();
        let job = job_of(engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(matches!(engine.cancel_job(job, mode).await, Ok(Outcome::Started { .. })));
        let job = wait(&engine, job).await;
        assert_eq!((job.state.number(), job.affected.len(), &job.failure), (number, 1, &None));
        assert_eq!(host.held_snapshots(), held);
        assert_eq!(engine.view().system(guid(WEB)).unwrap().activity, None);
    }
}

#[tokio::test]
async fn the_state_is_checked_again_when_the_job_begins() {
    let site = Site::new();
    let host = site.simulated();
    let engine = site.open(Arc::<wsnapd::backend::SimulatedHypervisor>::clone(&host)).await;
    let snapshot = take(&engine, WEB).await;
    host.set_duration(SimulatedCall::Create, Duration::from_millis(100));
    let first = job_of(engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await);
    let apply = job_of(engine.apply_snapshot(snapshot, USER).await);
    host.set_state(guid(WEB), MachineState::Running);
    wait(&engine, first).await;
    let apply = wait(&engine, apply).await;
    assert_eq!(apply.state, JobState::Exception);
    assert_eq!(apply.failure.as_ref().unwrap().failure, Failure::InvalidState);
    let off = SystemChange { user_snapshot_type: Some(UserSnapshotType::Disabled), ..SystemChange::default() };
    engine.modify_system(guid(WEB), off).await.unwrap();
    let job = wait(&engine, job_of(engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await)).await;
    let failure = job.failure.as_ref().unwrap();
    assert_eq!((job.state.number(), failure.failure.number()), (10, 32770));
    assert!(failure.description.contains("checkpoints have been disabled"), "{}", failure.description);
}

#[tokio::test]
async fn running_machines_are_frozen_or_their_memory_is_taken() {
    use ConsistencyLevel::{Application, Crash, Unknown};
    use UserSnapshotType::{ProductionFallback, ProductionOnly, Standard};
    let site = Site::new();
    let host = site.simulated();
    let engine = site.open(Arc::<wsnapd::backend::SimulatedHypervisor>::clone(&host)).await;
    host.set_state(guid(WEB), MachineState::Running);
    for (snapshot_type, user_type, wanted, agent, expected) in [
        (SnapshotType::Full, Standard, Unknown, false, Some((true, Application))),
        (SnapshotType::Full, ProductionFallback, Unknown, true, Some((false, Application))),
        (SnapshotType::Full, ProductionFallback, Unknown, false, Some((true, Application))),
        (SnapshotType::Full, ProductionOnly, Unknown, false, None),
        (SnapshotType::Disk, Standard, Unknown, true, Some((false, Application))),
        (SnapshotType::Disk, Standard, Unknown, false, Some((false, Crash))),
        (SnapshotType::Disk, Standard, Application, false, None),
        (SnapshotType::Recovery, Standard, Crash, true, Some((false, Crash))),
    ] {
        host.set_agent(guid(WEB), agent);
        let change = SystemChange { user_snapshot_type: Some(user_type), ..SystemChange::default() };
        engine.modify_system(guid(WEB), change).await.unwrap();
        let settings = SnapshotSettings { consistency: wanted, ..SnapshotSettings::default() };
        let request = CreateSnapshot { system: guid(WEB), snapshot_type, settings };
        let job = wait(&engine, job_of(engine.create_snapshot(request, USER).await)).await;
        let case = format!("{snapshot_type:?} {user_type:?} {wanted:?} {agent}");
        if let Some(expected) = expected {
            let view = engine.view();
            let snapshot = view.snapshot(made(&job)).unwrap();
            assert_eq!((snapshot.has_memory, snapshot.consistency), expected, "{case}");
        } else {
            let failure = job.failure.as_ref().expect("a failure");
            assert_eq!(failure.failure.number(), 32768, "{case}");
            assert!(failure.description.contains("guest agent not connected"), "{}", failure.description);
        }
        assert!(!host.is_frozen(guid(WEB)), "{case}");
    }
}

#[tokio::test]
async fn memory_comes_back_as_a_saved_machine_and_can_be_dropped() {
    let site = Site::new();
    let host = site.simulated();
    let engine = site.open(Arc::<wsnapd::backend::SimulatedHypervisor>::clone(&host)).await;
    let change = SystemChange { user_snapshot_type: Some(UserSnapshotType::Standard), ..SystemChange::default() };
    engine.modify_system(guid(WEB), change).await.unwrap();
    finish(&engine, engine.request_state_change(guid(WEB), RequestedState::Enabled, USER).await).await;
    let snapshot = take(&engine, WEB).await;
    finish(&engine, engine.request_state_change(guid(WEB), RequestedState::Disabled, USER).await).await;
    finish(&engine, engine.apply_snapshot(snapshot, USER).await).await;
    assert_eq!(engine.view().system(guid(WEB)).unwrap().state, SystemState::Saved);
    finish(&engine, engine.clear_snapshot_state(snapshot, USER).await).await;
    assert!(!engine.view().snapshot(snapshot).unwrap().has_memory);
    finish(&engine, engine.apply_snapshot(snapshot, USER).await).await;
    assert_eq!(engine.view().system(guid(WEB)).unwrap().state, SystemState::Off);
    let again = engine.request_state_change(guid(WEB), RequestedState::Disabled, USER).await;
    assert!(matches!(again, Ok(Outcome::Done(()))), "{again:?}");
}

#[tokio::test]
async fn a_group_is_taken_applied_shrunk_and_destroyed() {
    let site = Site::new();
    let engine = site.open(site.files()).await;
    let request = CreateGroupSnapshot {
        collection: guid(SHOP),
        snapshot_type: GroupSnapshotType::Standard,
        settings: SnapshotSettings::default(),
    };
    let set = made(&*wait(&engine, job_of(engine.create_group_snapshot(request.clone(), USER).await)).await);
    for disk in ["web-root", "db-root", "db-data"] {
        site.write(disk, "changed");
    }
    finish(&engine, engine.apply_group_snapshot(set, USER).await).await;
    assert_eq!(site.read("web-root") + &site.read("db-data"), "web-root at firstdb-data at first");
    assert_eq!(engine.view().collection(guid(SHOP)).unwrap().last_applied, Some(set));
    let members = engine.view().snapshot_collection(set).unwrap().snapshots.clone();
    assert_eq!(members.len(), 2);
    finish(&engine, engine.destroy_snapshot(members[0], USER).await).await;
    assert_eq!(engine.view().snapshot_collection(set).unwrap().snapshots, members[1..]);
    finish(&engine, engine.destroy_snapshot(members[1], USER).await).await;
    assert!(engine.view().snapshot_collection(set).is_none());
    let set = made(&*wait(&engine, job_of(engine.create_group_snapshot(request, USER).await)).await);
    finish(&engine, engine.destroy_group_snapshot(set, USER).await).await;
    assert_eq!((engine.view().snapshots().count(), engine.view().snapshot_collections().count()), (0, 0));
    assert_eq!(site.snapshot_directories(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn volumes_are_copied_or_refused_as_their_pool_says() {
    let mut site = Site::new();
    for (name, snapshots) in
        [("copy", PoolSnapshots::Copy), ("none", PoolSnapshots::None), ("auto", PoolSnapshots::Auto)]
    {
        let path = site.directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("vol1"), format!("{name} volume")).unwrap();
        site.pools.push(PoolDefinition { name: name.to_owned(), path, snapshots });
    }
    let engine = site.open(site.files()).await;
    let pool = |name: &str| engine.view().pools().find(|pool| pool.name == name).unwrap().id;
    let volume = |name: &str| engine.view().volumes_of(pool(name)).next().unwrap().id;
    let request = |from: &str, to: Option<&str>| CreateVolumeSnapshot {
        source: volume(from),
        name: Some("nightly".into()),
        target_pool: to.map(pool),
    };
    let refused = engine.create_volume_snapshot(request("none", None), USER).await;
    assert!(matches!(refused, Err(EngineError::PoolCannotSnapshot(_))), "{refused:?}");
    let unknown = CreateVolumeSnapshot { target_pool: Some(guid(0xDEAD)), ..request("copy", None) };
    let unknown = engine.create_volume_snapshot(unknown, USER).await;
    assert!(matches!(unknown, Err(EngineError::NoSuchPool(_))), "{unknown:?}");
    for (from, to) in [("copy", None), ("auto", Some("copy")), ("auto", None)] {
        let id = match engine.create_volume_snapshot(request(from, to), USER).await.unwrap() {
            VolumeOutcome::Done { volume } => volume,
            VolumeOutcome::Started { job, volume } => {
                assert_eq!(made(&*wait(&engine, job).await), volume);
                volume
            }
        };
        let view = engine.view();
        let snapshot = view.volume(id).unwrap();
        assert_eq!(
            (snapshot.snapshot_of, snapshot.pool),
            (Some(volume_named(&engine, pool(from))), pool(to.unwrap_or(from)))
        );
        assert_eq!(std::fs::read_to_string(&snapshot.path).unwrap(), format!("{from} volume"));
        let again = CreateVolumeSnapshot { source: id, name: None, target_pool: None };
        let again = engine.create_volume_snapshot(again, USER).await;
        assert!(matches!(again, Err(EngineError::VolumeNotUsable(_))), "{again:?}");
    }
    engine.shutdown().await;
}

/// Directory pools whose list of volumes is held back once it is made.
struct HeldList {
    pools: DirectoryPools,
    hold: AtomicBool,
    made: Notify,
    go_on: Notify,
}

impl VolumeManager for HeldList {
    fn pools(&self) -> BoxFuture<'_, Result<Vec<VolumePoolReport>, BackendError>> {
        self.pools.pools()
    }

    fn volumes<'a>(&'a self, pool: &'a str) -> BoxFuture<'a, Result<Vec<VolumeReport>, BackendError>> {
        Box::pin(async move {
            let list = self.pools.volumes(pool).await;
            if self.hold.swap(false, Ordering::SeqCst) {
                self.made.notify_one();
                self.go_on.notified().await;
            }
            list
        })
    }

    fn instant_snapshot<'a>(
        &'a self,
        request: &'a VolumeSnapshotRequest,
    ) -> BoxFuture<'a, Result<Option<VolumeReport>, BackendError>> {
        self.pools.instant_snapshot(request)
    }

    fn copy_snapshot<'a>(
        &'a self,
        request: &'a VolumeSnapshotRequest,
        control: &'a StepControl,
    ) -> BoxFuture<'a, Result<VolumeReport, BackendError>> {
        self.pools.copy_snapshot(request, control)
    }

    fn delete_volume<'a>(&'a self, pool: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        self.pools.delete_volume(pool, name)
    }

    fn recover<'a>(
        &'a self,
        request: &'a VolumeSnapshotRequest,
        journal: &'a [JournalStep],
    ) -> BoxFuture<'a, Result<Option<VolumeReport>, BackendError>> {
        self.pools.recover(request, journal)
    }

    fn remove_orphans(&self) -> BoxFuture<'_, Result<Vec<PathBuf>, BackendError>> {
        self.pools.remove_orphans()
    }
}

#[tokio::test]
async fn volumes_come_and_go_while_the_server_runs() {
    let mut site = Site::new();
    let path = site.directory.path().join("pool");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("vol1"), "volume").unwrap();
    site.pools.push(PoolDefinition { name: "pool".to_owned(), path: path.clone(), snapshots: PoolSnapshots::Copy });
    let volumes = Arc::new(HeldList {
        pools: DirectoryPools::open(site.pools.clone()).unwrap(),
        hold: AtomicBool::new(false),
        made: Notify::new(),
        go_on: Notify::new(),
    });
    let mut options = site.options(site.files(), site.store().await);
    options.volumes = Arc::<HeldList>::clone(&volumes);
    let engine = Engine::open(options).await.unwrap();
    let names = || engine.view().volumes().map(|volume| volume.file_name.to_string()).collect::<BTreeSet<_>>();
    let source = engine.view().volumes().next().unwrap().id;

    std::fs::write(path.join("vol2"), "another").unwrap();
    std::fs::write(path.join("vol1"), "a longer volume").unwrap();
    engine.refresh().await.unwrap();
    assert_eq!(names(), ["vol1".to_owned(), "vol2".to_owned()].into());
    assert_eq!(engine.view().volume(source).map(|volume| volume.bytes), Some(15), "the identity stays");
    std::fs::remove_file(path.join("vol2")).unwrap();
    engine.refresh().await.unwrap();
    assert_eq!(names(), ["vol1".to_owned()].into());

    // A snapshot that is acknowledged while an older list is on its way is not taken for gone.
    volumes.hold.store(true, Ordering::SeqCst);
    let (refreshed, snapshot) = tokio::join!(engine.refresh(), async {
        volumes.made.notified().await;
        let request = CreateVolumeSnapshot { source, name: Some("nightly".into()), target_pool: None };
        let Ok(VolumeOutcome::Started { job, volume }) = engine.create_volume_snapshot(request, USER).await else {
            panic!("the pool copies")
        };
        assert_eq!(wait(&engine, job).await.state, JobState::Completed);
        volumes.go_on.notify_one();
        volume
    });
    refreshed.unwrap();
    assert_eq!(engine.view().volume(snapshot).map(|volume| volume.name.clone()), Some("nightly".into()));

    // What is gone when its snapshot is asked for is named as such, whether the list is new or old.
    std::fs::remove_file(path.join("vol1")).unwrap();
    let request = CreateVolumeSnapshot { source, name: None, target_pool: None };
    let gone = engine.create_volume_snapshot(request, USER).await;
    assert!(matches!(gone, Err(EngineError::NoSuchVolume(id)) if id == source), "{gone:?}");
    engine.shutdown().await;
}

fn volume_named(engine: &Engine, pool: Guid) -> Guid {
    engine.view().volumes_of(pool).find(|volume| volume.file_name == "vol1").unwrap().id
}

#[tokio::test]
async fn ended_jobs_are_forgotten_after_their_time() {
    let site = Site::new();
    let engine = site.open(site.files()).await;
    take(&engine, WEB).await;
    site.clock.advance(chrono::Duration::seconds(299));
    assert_eq!(engine.sweep_jobs().await.unwrap(), 0);
    site.clock.advance(chrono::Duration::seconds(1));
    assert_eq!(engine.sweep_jobs().await.unwrap(), 1);
    assert_eq!((engine.view().jobs().count(), engine.view().snapshots().count()), (0, 1));
}
