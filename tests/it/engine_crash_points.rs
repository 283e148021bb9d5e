//! The server dies at each record it writes while it converts, makes, destroys or exports; the host lives on.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wsnapd::backend::SimulatedHypervisor;
use wsnapd::engine::{ConsistencyLevel, Engine, JobState, Store, View};
use wsnapd::time::Guid;

use crate::engine_crash::DyingStore;
use crate::engine_reference_points::{convert, recovery, recovery_of_shop, to, track_all};
use crate::engine_support::{DB, SHOP, Site, USER, WEB, guid, job_of, made, wait};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    Convert,
    ConvertGroup,
    Create,
    CreateGroup,
    Destroy,
    DestroyGroup,
    Export,
    ExportGroup,
}

impl Scenario {
    /// The snapshot, set, point or collection of points that is there before.
    async fn prepare(self, engine: &Engine) -> Guid {
        match self {
            Self::Convert | Self::Export | Self::Create | Self::CreateGroup => recovery(engine, DB).await,
            Self::Destroy => convert(engine, recovery(engine, DB).await).await,
            Self::ConvertGroup | Self::ExportGroup | Self::DestroyGroup => {
                let job = job_of(engine.create_group_snapshot(recovery_of_shop(), USER).await);
                let set = made(&*wait(engine, job).await);
                if self != Self::DestroyGroup {
                    return set;
                }
                let job = job_of(engine.convert_group_to_reference_point(set, USER).await);
                made(&*wait(engine, job).await)
            }
        }
    }

    async fn act(self, engine: &Engine, exports: &Path, first: Guid) {
        let level = ConsistencyLevel::Unknown;
        let job = match self {
            Self::Convert => job_of(engine.convert_to_reference_point(first, USER).await),
            Self::ConvertGroup => job_of(engine.convert_group_to_reference_point(first, USER).await),
            Self::Create => job_of(engine.create_reference_point(guid(WEB), level, USER).await),
            Self::CreateGroup => job_of(engine.create_group_reference_point(guid(SHOP), level, USER).await),
            Self::Destroy => job_of(engine.destroy_reference_point(first, USER).await),
            Self::DestroyGroup => job_of(engine.destroy_group_reference_point(first, USER).await),
            Self::Export => job_of(engine.export_snapshot(first, to(exports.join("it")), USER).await),
            Self::ExportGroup => {
                let settings = wsnapd::engine::ExportSettings { subdirectories: true, ..to(exports.join("it")) };
                job_of(engine.export_group_snapshot(first, settings, USER).await)
            }
        };
        wait(engine, job).await;
    }

    /// How many snapshots, sets, points and collections of points there must be.
    fn expected(self, done: bool) -> [usize; 4] {
        match (self, done) {
            (Self::Convert, true) | (Self::Destroy, false) => [0, 0, 1, 0],
            (Self::Create, true) => [1, 0, 1, 0],
            (Self::CreateGroup, true) => [1, 0, 2, 1],
            (Self::Convert | Self::Create | Self::CreateGroup, false) | (Self::Export, _) => [1, 0, 0, 0],
            (Self::ConvertGroup, true) | (Self::DestroyGroup, false) => [0, 0, 2, 1],
            (Self::ConvertGroup, false) | (Self::ExportGroup, _) => [2, 1, 0, 0],
            (Self::Destroy | Self::DestroyGroup, true) => [0, 0, 0, 0],
        }
    }
}

async fn open(site: &Site, host: &Arc<SimulatedHypervisor>, store: Arc<dyn Store>) -> Arc<Engine> {
    let mut options = site.options(Arc::<SimulatedHypervisor>::clone(host), store);
    options.export_directories = vec![site.directory.path().join("exports")];
    Engine::open(options).await.unwrap()
}

fn check_records(view: &View, host: &SimulatedHypervisor, expected: [usize; 4], case: &str) {
    let found = [
        view.snapshots().count(),
        view.snapshot_collections().count(),
        view.reference_points().count(),
        view.reference_point_collections().count(),
    ];
    assert_eq!(found, expected, "{case}");
    let snapshots: BTreeSet<Guid> = view.snapshots().map(|snapshot| snapshot.id).collect();
    let points: BTreeSet<Guid> = view.reference_points().map(|point| point.snapshot).collect();
    assert_eq!(host.held_snapshots(), snapshots, "{case}");
    assert_eq!(host.held_tracking(), snapshots.union(&points).copied().collect(), "{case}");
    assert!(view.reference_points().all(|point| point.valid && !point.disks.is_empty()), "{case}");
    assert!(view.snapshots().all(|snapshot| !snapshot.missing && !snapshot.tracking_lost), "{case}");
    assert!(view.systems().all(|system| system.activity.is_none()), "{case}");
}

fn check_exports(exports: &Path, scenario: Scenario, done: bool, case: &str) {
    let found: Vec<String> =
        std::fs::read_dir(exports).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let exported = done && matches!(scenario, Scenario::Export | Scenario::ExportGroup);
    assert_eq!(found, if exported { vec!["it"] } else { Vec::new() }, "{case}");
    if exported {
        let disk = if scenario == Scenario::Export { "it/db-data.raw" } else { "it/db01/db-data.raw" };
        assert_eq!(std::fs::read(exports.join(disk)).unwrap(), b"content", "{case}");
    }
}

/// Runs a scenario on a host that outlives the server; true if it ended before the store died.
async fn one_death(scenario: Scenario, commits: usize, answer_lost: bool) -> (bool, JobState) {
    let site = Site::new();
    let host = site.simulated();
    host.write_disk(guid(DB), "db-data", b"content");
    let exports = site.directory.path().join("exports");
    std::fs::create_dir(&exports).unwrap();
    let engine = open(&site, &host, site.store().await).await;
    track_all(&engine).await;
    let first = scenario.prepare(&engine).await;
    let before = engine.view().jobs().count();
    engine.shutdown().await;
    drop(engine);
    let store = Arc::new(DyingStore::new(site.store().await, answer_lost));
    let watched: Arc<dyn Store> = Arc::<DyingStore>::clone(&store);
    let engine = open(&site, &host, watched).await;
    store.commits_left.store(commits, Ordering::SeqCst);
    let ended = tokio::select! {
        () = scenario.act(&engine, &exports, first) => true,
        () = store.died.notified() => false,
    };
    drop(engine);
    drop(store);
    let case = format!("{scenario:?}, {commits} commits, answer lost: {answer_lost}, ended: {ended}");
    let engine = open(&site, &host, site.store().await).await;
    let jobs: Vec<Guid> = engine.view().jobs().map(|job| job.id).collect();
    for job in &jobs {
        wait(&engine, *job).await;
    }
    let view = engine.view();
    let last = view.jobs().max_by_key(|job| job.sequence).unwrap();
    let state = if jobs.len() == before { JobState::New } else { last.state };
    let done = state == JobState::Completed;
    check_records(&view, &host, scenario.expected(done), &case);
    check_exports(&exports, scenario, done, &case);
    // The machine is free again.
    recovery(&engine, DB).await;
    engine.shutdown().await;
    assert!(!ended || done, "{case}: {state:?}");
    (ended, state)
}

async fn die_at_each_record(scenario: Scenario) {
    let mut ends = HashSet::new();
    for answer_lost in [false, true] {
        for commits in 0.. {
            assert!(commits < 50, "{scenario:?} does not end");
            let (ended, state) = one_death(scenario, commits, answer_lost).await;
            ends.insert(state);
            if ended {
                break;
            }
        }
    }
    assert!(ends.contains(&JobState::New) && ends.contains(&JobState::Completed), "{scenario:?} {ends:?}");
}

#[tokio::test]
async fn conversion_survives_death_at_each_record() {
    die_at_each_record(Scenario::Convert).await;
}

#[tokio::test]
async fn group_conversion_survives_death_at_each_record() {
    die_at_each_record(Scenario::ConvertGroup).await;
}

#[tokio::test]
async fn making_a_point_survives_death_at_each_record() {
    die_at_each_record(Scenario::Create).await;
}

#[tokio::test]
async fn making_points_of_a_group_survives_death_at_each_record() {
    die_at_each_record(Scenario::CreateGroup).await;
}

#[tokio::test]
async fn destroying_a_point_survives_death_at_each_record() {
    die_at_each_record(Scenario::Destroy).await;
}

#[tokio::test]
async fn destroying_points_of_a_group_survives_death_at_each_record() {
    die_at_each_record(Scenario::DestroyGroup).await;
}

#[tokio::test]
async fn an_export_survives_death_at_each_record() {
    die_at_each_record(Scenario::Export).await;
}

#[tokio::test]
async fn an_export_of_a_group_survives_death_at_each_record() {
    die_at_each_record(Scenario::ExportGroup).await;
}
