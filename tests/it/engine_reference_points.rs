//! Reference points and exports, over the simulated host.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wsnapd::backend::{Fault, MachineState, SimulatedCall, SimulatedHypervisor};
use wsnapd::engine::{
    BackupIntent, CancelMode, ConsistencyLevel, CreateGroupSnapshot, Engine, EngineError, ExportSettings, Failure,
    GroupSnapshotType, Job, JobState, Outcome, SnapshotSettings, SnapshotType, SystemChange,
};
use wsnapd::time::Guid;

use crate::engine_support::{DB, SHOP, Site, USER, WEB, creation, guid, job_of, made, take, wait};

/// Lets backup programs have the changes of all machines tracked.
pub(crate) async fn track_all(engine: &Engine) {
    for machine in [WEB, DB] {
        let change = SystemChange { incremental_backup: Some(true), ..SystemChange::default() };
        engine.modify_system(guid(machine), change).await.unwrap();
    }
}

pub(crate) fn recovery_of_shop() -> CreateGroupSnapshot {
    let (collection, snapshot_type) = (guid(SHOP), GroupSnapshotType::Recovery);
    CreateGroupSnapshot { collection, snapshot_type, settings: SnapshotSettings::default() }
}

pub(crate) fn to(directory: PathBuf) -> ExportSettings {
    ExportSettings {
        directory,
        subdirectories: false,
        disks: true,
        memory: true,
        excluded_disks: Vec::new(),
        base: None,
        intent: BackupIntent::PreserveChain,
    }
}

/// A site whose `exports` may be exported to.
pub(crate) async fn exporting(site: &Site, host: &Arc<SimulatedHypervisor>) -> Arc<Engine> {
    std::fs::create_dir_all(site.directory.path().join("exports")).unwrap();
    let mut options = site.options(Arc::<SimulatedHypervisor>::clone(host), site.store().await);
    options.export_directories = vec![site.directory.path().join("exports")];
    let engine = Engine::open(options).await.unwrap();
    track_all(&engine).await;
    engine
}

async fn finish<T: std::fmt::Debug>(engine: &Engine, outcome: Result<Outcome<T>, EngineError>) -> Arc<Job> {
    let job = wait(engine, job_of(outcome)).await;
    assert_eq!(job.state, JobState::Completed, "{:?}", job.failure);
    job
}

#[track_caller]
fn failure(job: &Job) -> (Failure, &str) {
    assert_eq!(job.state, JobState::Exception, "{job:?}");
    let failure = job.failure.as_ref().unwrap();
    (failure.failure, failure.description.as_str())
}

pub(crate) async fn recovery(engine: &Engine, machine: u64) -> Guid {
    made(&*finish(engine, engine.create_snapshot(creation(machine, SnapshotType::Recovery), USER).await).await)
}

pub(crate) async fn convert(engine: &Engine, snapshot: Guid) -> Guid {
    let job = finish(engine, engine.convert_to_reference_point(snapshot, USER).await).await;
    assert_eq!(job.kind.number(), 200);
    made(&job)
}

#[tokio::test]
async fn a_recovery_snapshot_becomes_a_reference_point() {
    let site = Site::new();
    let host = site.simulated();
    let engine = exporting(&site, &host).await;
    let standard = take(&engine, DB).await;
    let refused = engine.convert_to_reference_point(standard, USER).await;
    assert!(matches!(refused, Err(EngineError::InvalidParameter { .. })), "{refused:?}");
    let snapshot = recovery(&engine, DB).await;
    let taken = Arc::clone(engine.view().snapshot(snapshot).unwrap());
    assert_eq!(taken.tracking.len(), 2);
    site.clock.advance(chrono::Duration::seconds(60));
    let id = convert(&engine, snapshot).await;
    let view = engine.view();
    assert!(view.snapshot(snapshot).is_none());
    let point = view.reference_point(id).unwrap();
    assert_eq!((point.system, point.snapshot, point.created), (guid(DB), snapshot, taken.created));
    assert!(point.valid && point.collection.is_none() && point.consistency == ConsistencyLevel::Application);
    let names: Vec<&str> = point.disks.iter().map(|disk| disk.disk.as_str()).collect();
    assert_eq!(names, ["db-root", "db-data"]);
    assert!(point.disks.iter().all(|disk| !disk.identifier.is_empty() && disk.virtual_size == 1 << 30));
    assert_eq!(host.held_snapshots(), [standard].into());
    assert_eq!(host.held_tracking(), [snapshot].into());
    // A standard snapshot tracks nothing, and its end leaves the reference point alone.
    assert!(view.snapshot(standard).unwrap().tracking.is_empty());
    finish(&engine, engine.destroy_snapshot(standard, USER).await).await;
    // A recovery snapshot that is destroyed takes its tracking with it.
    let unused = recovery(&engine, DB).await;
    assert_eq!(host.held_tracking().len(), 2);
    finish(&engine, engine.destroy_snapshot(unused, USER).await).await;
    assert_eq!(host.held_tracking(), [snapshot].into());
    let later = convert(&engine, recovery(&engine, DB).await).await;
    engine.shutdown().await;
    drop(engine);
    let engine = site.open(Arc::<SimulatedHypervisor>::clone(&host)).await;
    let view = engine.view();
    let points: Vec<Guid> = view.reference_points_of(guid(DB)).map(|point| point.id).collect();
    assert_eq!(points, [id, later]);
    assert!(view.reference_points().all(|point| point.valid));
    let job = finish(&engine, engine.destroy_reference_point(id, USER).await).await;
    assert_eq!(job.kind.number(), 202);
    assert!(engine.view().reference_point(id).is_none() && !host.held_tracking().contains(&snapshot));
    let gone = engine.destroy_reference_point(id, USER).await;
    assert!(matches!(gone, Err(EngineError::NoSuchReferencePoint(_))), "{gone:?}");
}

#[tokio::test]
async fn what_was_not_tracked_is_refused_with_words() {
    let site = Site::new();
    let host = site.simulated();
    let engine = site.open(Arc::<SimulatedHypervisor>::clone(&host)).await;
    let snapshot = recovery(&engine, WEB).await;
    let job = wait(&engine, job_of(engine.convert_to_reference_point(snapshot, USER).await)).await;
    let (code, text) = failure(&job);
    assert!(code == Failure::NotSupported && text.contains("IncrementalBackupEnabled was false"), "{text}");
    let job = engine.create_reference_point(guid(WEB), ConsistencyLevel::Unknown, USER).await;
    let job = wait(&engine, job_of(job)).await;
    let (code, text) = failure(&job);
    assert!(code == Failure::NotSupported && text.contains("IncrementalBackupEnabled is false"), "{text}");
    assert!(engine.view().snapshot(snapshot).is_some() && host.held_tracking().is_empty());
    let untracked = site.open_forgetful(site.files()).await;
    let snapshot = recovery(&untracked, WEB).await;
    for refused in [
        untracked.convert_to_reference_point(snapshot, USER).await.map(drop),
        untracked.create_reference_point(guid(WEB), ConsistencyLevel::Unknown, USER).await.map(drop),
    ] {
        assert!(matches!(refused, Err(EngineError::NotSupported(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_point_can_be_made_without_a_snapshot() {
    let site = Site::new();
    let host = site.simulated();
    let engine = exporting(&site, &host).await;
    let job = finish(&engine, engine.create_reference_point(guid(WEB), ConsistencyLevel::Crash, USER).await).await;
    assert_eq!(job.kind.number(), 201);
    let point = made(&job);
    assert_eq!(engine.view().reference_point(point).unwrap().disks.len(), 1);
    assert!(engine.view().snapshots().next().is_none() && host.held_snapshots().is_empty());
    let outcome = engine.create_group_reference_point(guid(SHOP), ConsistencyLevel::Unknown, USER).await;
    let set = made(&*finish(&engine, outcome).await);
    assert_eq!(engine.view().reference_point_collection(set).unwrap().points.len(), 2);
    host.set_state(guid(WEB), MachineState::Running);
    host.set_agent(guid(WEB), false);
    let outcome = engine.create_reference_point(guid(WEB), ConsistencyLevel::Application, USER).await;
    let job = wait(&engine, job_of(outcome)).await;
    assert!(failure(&job).1.contains("guest agent not connected"), "{job:?}");
    let outcome = engine.create_reference_point(guid(WEB), ConsistencyLevel::Unknown, USER).await;
    let point = made(&*finish(&engine, outcome).await);
    assert_eq!(engine.view().reference_point(point).unwrap().consistency, ConsistencyLevel::Crash);
    assert_eq!(host.held_tracking().len(), engine.view().reference_points().count());
}

#[tokio::test]
async fn a_group_becomes_a_collection_of_points_that_shrinks_and_goes() {
    let site = Site::new();
    let host = site.simulated();
    let engine = exporting(&site, &host).await;
    let of_shop = || engine.create_group_snapshot(recovery_of_shop(), USER);
    let set = made(&*finish(&engine, of_shop().await).await);
    let outcome = engine.convert_group_to_reference_point(set, USER).await;
    let points = made(&*finish(&engine, outcome).await);
    let view = engine.view();
    assert!(view.snapshot_collection(set).is_none() && view.snapshots().next().is_none());
    let collection = Arc::clone(view.reference_point_collection(points).unwrap());
    assert_eq!((collection.collection, collection.points.len()), (guid(SHOP), 2));
    assert!(view.reference_point_collections_of(guid(SHOP)).map(|set| set.id).eq([points]));
    assert!(view.reference_points().all(|point| point.collection == Some(points)));
    finish(&engine, engine.destroy_reference_point(collection.points[0], USER).await).await;
    assert_eq!(engine.view().reference_point_collection(points).unwrap().points, [collection.points[1]]);
    let job = finish(&engine, engine.destroy_group_reference_point(points, USER).await).await;
    assert_eq!(job.kind.number(), 208);
    assert!(engine.view().reference_points().next().is_none() && host.held_tracking().is_empty());
    // All or nothing: the tracking of one member is lost.
    let set = made(&*finish(&engine, of_shop().await).await);
    let members = engine.view().snapshot_collection(set).unwrap().snapshots.clone();
    host.lose_tracking(members[1]);
    let job = wait(&engine, job_of(engine.convert_group_to_reference_point(set, USER).await)).await;
    assert!(failure(&job).1.contains("are not tracked"), "{job:?}");
    assert_eq!(engine.view().snapshot_collection(set).unwrap().snapshots, members);
    assert_eq!(host.held_snapshots().len(), 2);
    // Points outlive the collection of their machines.
    let set = made(&*finish(&engine, of_shop().await).await);
    finish(&engine, engine.convert_group_to_reference_point(set, USER).await).await;
    engine.destroy_collection(guid(SHOP)).await.unwrap();
    let view = engine.view();
    assert!(view.reference_point_collections().next().is_none());
    assert!(view.reference_points().count() == 2 && view.reference_points().all(|point| point.collection.is_none()));
}

#[tokio::test]
async fn lost_tracking_is_found_and_never_comes_back() {
    let site = Site::new();
    let host = site.simulated();
    let engine = exporting(&site, &host).await;
    let first = convert(&engine, recovery(&engine, WEB).await).await;
    let standard = take(&engine, WEB).await;
    let waiting = recovery(&engine, WEB).await;
    let other = convert(&engine, recovery(&engine, DB).await).await;
    finish(&engine, engine.apply_snapshot(standard, USER).await).await;
    let view = engine.view();
    assert!(!view.reference_point(first).unwrap().valid && view.reference_point(other).unwrap().valid);
    let job = wait(&engine, job_of(engine.convert_to_reference_point(waiting, USER).await)).await;
    assert!(failure(&job).1.contains("another snapshot was applied"), "{job:?}");
    let later = recovery(&engine, WEB).await;
    let mut settings = to(site.directory.path().join("exports/first"));
    settings.base = Some(first);
    let job = wait(&engine, job_of(engine.export_snapshot(later, settings.clone(), USER).await)).await;
    assert!(failure(&job).1.contains("a full export is needed"), "{job:?}");
    // Lost behind our back, found before it is used.
    let base = convert(&engine, later).await;
    let last = recovery(&engine, WEB).await;
    host.lose_tracking(later);
    settings.base = Some(base);
    let job = wait(&engine, job_of(engine.export_snapshot(last, settings, USER).await)).await;
    assert!(failure(&job).1.contains("a full export is needed"), "{job:?}");
    assert!(!engine.view().reference_point(base).unwrap().valid);
    engine.shutdown().await;
    drop(engine);
    // Lost while the server was down, found at start.
    host.lose_tracking(engine_snapshot_of(&site, &host, other).await);
    let engine = site.open(Arc::<SimulatedHypervisor>::clone(&host)).await;
    assert!(engine.view().reference_points().all(|point| !point.valid));
    finish(&engine, engine.destroy_reference_point(first, USER).await).await;
}

/// The snapshot the tracking of a point began with.
async fn engine_snapshot_of(site: &Site, host: &Arc<SimulatedHypervisor>, point: Guid) -> Guid {
    let engine = site.open(Arc::<SimulatedHypervisor>::clone(host)).await;
    let snapshot = engine.view().reference_point(point).unwrap().snapshot;
    engine.shutdown().await;
    snapshot
}

#[tokio::test]
async fn exports_go_where_they_may_and_nowhere_else() {
    let site = Site::new();
    let host = site.simulated();
    host.write_disk(guid(DB), "db-root", b"root");
    host.write_disk(guid(DB), "db-data", b"data");
    let closed = site.open(Arc::<SimulatedHypervisor>::clone(&host)).await;
    let snapshot = take(&closed, DB).await;
    let exports = site.directory.path().join("exports");
    let job = wait(&closed, job_of(closed.export_snapshot(snapshot, to(exports.join("a")), USER).await)).await;
    let (code, text) = failure(&job);
    assert!(code == Failure::NotSupported && text.contains("[export]") && text.contains("directories"), "{text}");
    closed.shutdown().await;
    drop(closed);
    let engine = exporting(&site, &host).await;
    let full = engine.export_snapshot(snapshot, ExportSettings { subdirectories: true, ..to(exports.join("a")) }, USER);
    let job = finish(&engine, full.await).await;
    assert_eq!((job.kind.number(), job.percent), (62, 100));
    let read = |path: &str| std::fs::read(exports.join(path)).unwrap();
    assert_eq!(read("a/db01/db-root.raw"), b"root");
    assert_eq!(read("a/db01/db-data.raw"), b"data");
    let about: serde_json::Value = serde_json::from_slice(&read("a/db01/machine.json")).unwrap();
    assert_eq!(about["machine"]["name"], "db01");
    assert_eq!(about["snapshot"]["id"], snapshot.to_string());
    assert_eq!(about["disks"][1]["file"], "db-data.raw");
    let mut partly = to(exports.join("b"));
    partly.excluded_disks = vec!["db-root".to_owned()];
    finish(&engine, engine.export_snapshot(snapshot, partly, USER).await).await;
    assert!(!exports.join("b/db-root.raw").exists() && exports.join("b/db-data.raw").exists());
    let outside = site.directory.path().join("elsewhere");
    for directory in [exports.join("a"), outside.clone(), exports.join("../elsewhere"), "relative".into()] {
        let job = wait(&engine, job_of(engine.export_snapshot(snapshot, to(directory.clone()), USER).await)).await;
        assert_eq!(failure(&job).0, Failure::InvalidParameter, "{}", directory.display());
    }
    assert!(!outside.exists());
    let job = engine.export_snapshot(snapshot, to(exports.join("no/parent")), USER).await;
    assert_eq!(failure(&*wait(&engine, job_of(job)).await).0, Failure::FileNotFound);
}

#[tokio::test]
async fn a_differential_export_holds_what_changed() {
    const BLOCK: usize = 64 << 10;
    let site = Site::new();
    let host = site.simulated();
    let engine = exporting(&site, &host).await;
    let exports = site.directory.path().join("exports");
    host.write_disk(guid(WEB), "web-root", &vec![1; 4 * BLOCK]);
    let base = convert(&engine, recovery(&engine, WEB).await).await;
    let mut content = vec![1; 4 * BLOCK];
    content[2 * BLOCK] = 9;
    host.write_disk(guid(WEB), "web-root", &content);
    let snapshot = recovery(&engine, WEB).await;
    let settings = ExportSettings { base: Some(base), ..to(exports.join("web")) };
    finish(&engine, engine.export_snapshot(snapshot, settings.clone(), USER).await).await;
    let changed: wsnapd::backend::ChangedParts =
        serde_json::from_slice(&std::fs::read(exports.join("web/web-root.changed.json")).unwrap()).unwrap();
    let wide = |number: usize| u64::try_from(number).unwrap();
    assert_eq!(changed.extents, [(wide(2 * BLOCK), wide(BLOCK))]);
    let written = std::fs::read(exports.join("web/web-root.raw")).unwrap();
    assert!(written.len() == 4 * BLOCK && written[2 * BLOCK] == 9 && written[2 * BLOCK + 1] == 1 && written[0] == 0);
    // The base must be of the machine, and older.
    let of_db = recovery(&engine, DB).await;
    let refused = engine.export_snapshot(of_db, settings.clone(), USER).await;
    assert!(matches!(refused, Err(EngineError::InvalidParameter { .. })), "{refused:?}");
    site.clock.advance(chrono::Duration::seconds(60));
    let younger = convert(&engine, recovery(&engine, WEB).await).await;
    let settings = ExportSettings { base: Some(younger), ..to(exports.join("never")) };
    let job = wait(&engine, job_of(engine.export_snapshot(snapshot, settings, USER).await)).await;
    assert!(failure(&job).1.contains("younger"), "{job:?}");
    let gone = ExportSettings { base: Some(guid(0xDEAD)), ..to(exports.join("never")) };
    let refused = engine.export_snapshot(snapshot, gone, USER).await;
    assert!(matches!(refused, Err(EngineError::NoSuchReferencePoint(_))), "{refused:?}");
    let set = made(&*finish(&engine, engine.create_group_snapshot(recovery_of_shop(), USER).await).await);
    let settings = ExportSettings { subdirectories: true, ..to(exports.join("shop")) };
    finish(&engine, engine.export_group_snapshot(set, settings, USER).await).await;
    assert!(exports.join("shop/web01/web-root.raw").is_file() && exports.join("shop/db01/db-data.raw").is_file());
    let points = made(&*finish(&engine, engine.convert_group_to_reference_point(set, USER).await).await);
    let set = made(&*finish(&engine, engine.create_group_snapshot(recovery_of_shop(), USER).await).await);
    let settings = ExportSettings { subdirectories: true, base: Some(points), ..to(exports.join("shop2")) };
    finish(&engine, engine.export_group_snapshot(set, settings, USER).await).await;
    assert!(exports.join("shop2/db01/db-data.changed.json").is_file());
}

#[tokio::test]
async fn files_are_exported_and_never_changed() {
    let site = Site::new();
    let exports = site.directory.path().join("exports");
    std::fs::create_dir(&exports).unwrap();
    let mut options = site.options(site.files(), site.store().await);
    options.export_directories = vec![exports.clone()];
    let engine = Engine::open(options).await.unwrap();
    let snapshot = take(&engine, DB).await;
    site.write("db-root", "later");
    finish(&engine, engine.export_snapshot(snapshot, to(exports.join("db")), USER).await).await;
    assert_eq!(std::fs::read_to_string(exports.join("db/db-root.raw")).unwrap(), "db-root at first");
    std::fs::write(exports.join("db/db-root.raw"), "theirs now").unwrap();
    assert_eq!(
        std::fs::read_to_string(&engine.view().snapshot(snapshot).unwrap().disks[0].file).unwrap(),
        "db-root at first"
    );
    let settings = ExportSettings { base: Some(guid(1)), ..to(exports.join("diff")) };
    let refused = engine.export_snapshot(snapshot, settings, USER).await;
    assert!(matches!(refused, Err(EngineError::NotSupported(_))), "{refused:?}");
}

#[tokio::test]
async fn failing_calls_leave_everything_as_it_was() {
    const CALLS: [SimulatedCall; 3] =
        [SimulatedCall::Convert, SimulatedCall::DestroyReferencePoints, SimulatedCall::Export];
    for call in CALLS {
        for (fault, number, text) in [
            (Fault::Fail("the disk is on fire".to_owned()), 32768, "the disk is on fire"),
            (Fault::NoSpace, 32768, "2147483648 bytes are needed"),
            (Fault::AccessDenied, 32769, "access denied"),
            (Fault::Unreachable, 32777, "does not answer"),
            (Fault::Die, 32772, "no answer in time"),
        ] {
            let case = format!("{call:?} {fault:?}");
            let site = Site::new();
            let host = site.simulated();
            let engine = quick(&site, &host).await;
            let point = convert(&engine, recovery(&engine, WEB).await).await;
            let snapshot = recovery(&engine, WEB).await;
            let (snapshots, tracking) = (host.held_snapshots(), host.held_tracking());
            host.script(call, fault);
            let job = wait(&engine, start(&engine, &site, call, snapshot, point).await).await;
            let failed = job.failure.as_ref().unwrap_or_else(|| panic!("{case}: {job:?}"));
            assert_eq!((failed.failure.number(), job.state), (number, JobState::Exception), "{case}");
            assert!(failed.description.contains(text), "{case}: {}", failed.description);
            assert_eq!((host.held_snapshots(), host.held_tracking()), (snapshots, tracking), "{case}");
            assert!(engine.view().reference_point(point).unwrap().valid, "{case}");
            assert_eq!(std::fs::read_dir(site.directory.path().join("exports")).unwrap().count(), 0, "{case}");
            let again = start(&engine, &site, call, snapshot, point).await;
            assert_eq!(wait(&engine, again).await.state, JobState::Completed, "{case}");
        }
    }
    for call in [SimulatedCall::Convert, SimulatedCall::Export] {
        let site = Site::new();
        let host = site.simulated();
        let engine = quick(&site, &host).await;
        let snapshot = recovery(&engine, WEB).await;
        host.script(call, Fault::Hang);
        let job = start(&engine, &site, call, snapshot, snapshot).await;
        while !engine.view().job(job).unwrap().started.is_some_and(|_| engine.view().job(job).unwrap().cancellable) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        engine.cancel_job(job, CancelMode::Terminate).await.unwrap();
        assert_eq!(wait(&engine, job).await.state, JobState::Terminated, "{call:?}");
        assert_eq!(host.held_snapshots(), [snapshot].into());
        assert_eq!(std::fs::read_dir(site.directory.path().join("exports")).unwrap().count(), 0);
    }
}

/// An engine that gives up on a silent host soon.
async fn quick(site: &Site, host: &Arc<SimulatedHypervisor>) -> Arc<Engine> {
    std::fs::create_dir(site.directory.path().join("exports")).unwrap();
    let mut options = site.options(Arc::<SimulatedHypervisor>::clone(host), site.store().await);
    options.export_directories = vec![site.directory.path().join("exports")];
    options.backend_timeout = Duration::from_millis(300);
    let engine = Engine::open(options).await.unwrap();
    track_all(&engine).await;
    engine
}

async fn start(engine: &Engine, site: &Site, call: SimulatedCall, snapshot: Guid, point: Guid) -> Guid {
    match call {
        SimulatedCall::Convert => job_of(engine.convert_to_reference_point(snapshot, USER).await),
        SimulatedCall::Export => {
            job_of(engine.export_snapshot(snapshot, to(site.directory.path().join("exports/it")), USER).await)
        }
        _ => job_of(engine.destroy_reference_point(point, USER).await),
    }
}
