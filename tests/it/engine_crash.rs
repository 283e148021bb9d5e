//! The server dies at each record it writes, before or after it is durable; the next start must set everything right.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use wsnapd::backend::{BoxFuture, JournalStep, Operation, Recovery, StagedFile};
use wsnapd::engine::{
    Change, CreateGroupSnapshot, Engine, GroupSnapshotType, JobState, Lease, Records, SnapshotSettings, SnapshotType,
    SqliteStore, Store, StoreError,
};
use wsnapd::time::{Guid, Timestamp};

use crate::engine_support::{DB, SHOP, Site, USER, WEB, creation, guid, job_of, made, take, wait};

/// Lets some commits pass and then never answers again, as if the process were gone.
pub(crate) struct DyingStore {
    store: Arc<SqliteStore>,
    pub(crate) commits_left: AtomicUsize,
    /// The last commit still becomes durable, only its answer is lost.
    answer_lost: bool,
    pub(crate) died: Notify,
}

impl DyingStore {
    /// A store that lives until `commits_left` is set.
    pub(crate) fn new(store: Arc<SqliteStore>, answer_lost: bool) -> Self {
        Self { store, commits_left: AtomicUsize::new(usize::MAX), answer_lost, died: Notify::new() }
    }
}

impl Store for DyingStore {
    fn acquire<'a>(
        &'a self,
        owner: &'a str,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<Lease, StoreError>> {
        self.store.acquire(owner, now, until)
    }

    fn renew<'a>(&'a self, lease: &'a Lease, until: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.renew(lease, until)
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.release(lease)
    }

    fn load<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Records, StoreError>> {
        self.store.load(lease)
    }

    fn commit<'a>(&'a self, lease: &'a Lease, changes: Vec<Change>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let left = self.commits_left.load(Ordering::SeqCst);
            if left > 0 {
                self.commits_left.store(left - 1, Ordering::SeqCst);
                return self.store.commit(lease, changes).await;
            }
            if self.answer_lost {
                self.store.commit(lease, changes).await.unwrap();
            }
            self.died.notify_one();
            std::future::pending().await
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    Create,
    Apply,
    Destroy,
    CreateGroup,
    ApplyGroup,
    DestroyGroup,
}

impl Scenario {
    /// The snapshot that is there before is one of the collection.
    fn is_on_a_set(self) -> bool {
        matches!(self, Self::ApplyGroup | Self::DestroyGroup)
    }
}

fn of_shop() -> CreateGroupSnapshot {
    let (collection, snapshot_type) = (guid(SHOP), GroupSnapshotType::Standard);
    CreateGroupSnapshot { collection, snapshot_type, settings: SnapshotSettings::default() }
}

const DISKS: [(u64, &str); 3] = [(WEB, "web-root"), (DB, "db-root"), (DB, "db-data")];

async fn act(engine: &Engine, scenario: Scenario, first: Guid) {
    let job = match scenario {
        Scenario::Create => job_of(engine.create_snapshot(creation(DB, SnapshotType::Full), USER).await),
        Scenario::Apply => job_of(engine.apply_snapshot(first, USER).await),
        Scenario::Destroy => job_of(engine.destroy_snapshot(first, USER).await),
        Scenario::CreateGroup => job_of(engine.create_group_snapshot(of_shop(), USER).await),
        Scenario::ApplyGroup => job_of(engine.apply_group_snapshot(first, USER).await),
        Scenario::DestroyGroup => job_of(engine.destroy_group_snapshot(first, USER).await),
    };
    wait(engine, job).await;
}

/// Every file below `directory` whose name says that it is unfinished.
fn unfinished(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(unfinished(&path));
        } else if path.extension().is_some_and(|extension| extension == "partial" || extension == "staged") {
            found.push(path);
        }
    }
    found
}

/// Runs a scenario until the store dies; true if it ended before.
async fn run_until_death(site: &Site, scenario: Scenario, commits: usize, answer_lost: bool, first: Guid) -> bool {
    let store = Arc::new(DyingStore::new(site.store().await, answer_lost));
    let watched: Arc<dyn Store> = Arc::<DyingStore>::clone(&store);
    let engine = Engine::open(site.options(site.files(), watched)).await.unwrap();
    store.commits_left.store(commits, Ordering::SeqCst);
    tokio::select! {
        () = act(&engine, scenario, first) => true,
        () = store.died.notified() => false,
    }
}

async fn check_truth(site: &Site, scenario: Scenario, first: Guid, case: &str) -> JobState {
    let engine = site.open(site.files()).await;
    let jobs: Vec<Guid> = engine.view().jobs().map(|job| job.id).collect();
    for job in &jobs {
        wait(&engine, *job).await;
    }
    let view = engine.view();
    let job = view.jobs().max_by_key(|job| job.sequence).unwrap();
    // The creation that prepared the scenario is the last job when the command never became durable.
    let state =
        if job.sequence == view.jobs().map(|job| job.sequence).min().unwrap() { JobState::New } else { job.state };
    let done = state == JobState::Completed;
    for (machine, disk) in DISKS {
        let applied = done && (scenario == Scenario::ApplyGroup || (scenario == Scenario::Apply && machine == DB));
        let text = if applied { "one" } else { "two" };
        assert_eq!(site.read(disk), format!("{disk} {text}"), "{case}");
    }
    let expected = match (scenario, done) {
        (Scenario::CreateGroup, true) => 3,
        (Scenario::Destroy | Scenario::DestroyGroup, true) => 0,
        (Scenario::Create, true) | (Scenario::ApplyGroup | Scenario::DestroyGroup, _) => 2,
        _ => 1,
    };
    let snapshots: BTreeMap<Guid, _> = view.snapshots().map(|snapshot| (snapshot.id, snapshot)).collect();
    assert_eq!(snapshots.len(), expected, "{case}");
    let sets = match scenario {
        Scenario::CreateGroup => done,
        Scenario::ApplyGroup => true,
        Scenario::DestroyGroup => !done,
        _ => false,
    };
    assert_eq!(view.snapshot_collections().count(), usize::from(sets), "{case}");
    let last_applied = view.collection(guid(SHOP)).unwrap().last_applied;
    assert_eq!(last_applied, (scenario == Scenario::ApplyGroup && done).then_some(first), "{case}");
    for snapshot in snapshots.values() {
        assert!(!snapshot.missing, "{case}");
        for image in &snapshot.disks {
            let text = if snapshot.id == first || scenario.is_on_a_set() { "one" } else { "two" };
            assert_eq!(std::fs::read_to_string(&image.file).unwrap(), format!("{} {text}", image.disk), "{case}");
        }
    }
    let directories: BTreeSet<PathBuf> = site.snapshot_directories().into_iter().collect();
    let owned = snapshots.keys().map(|id| site.directory.path().join("snapshots").join(id.to_string())).collect();
    assert_eq!(directories, owned, "{case}");
    assert_eq!(unfinished(site.directory.path()), Vec::<PathBuf>::new(), "{case}");
    let current = view.system(guid(DB)).unwrap().current_snapshot;
    assert!(current.is_none_or(|current| snapshots.contains_key(&current)), "{case}");
    assert!(view.systems().all(|system| system.activity.is_none()), "{case}");
    // The machine is free again.
    take(&engine, DB).await;
    engine.shutdown().await;
    state
}

async fn die_at_each_record(scenario: Scenario) {
    let mut ends = HashSet::new();
    for answer_lost in [false, true] {
        for commits in 0.. {
            assert!(commits < 50, "{scenario:?} does not end");
            let site = Site::new();
            for (_, disk) in DISKS {
                site.write(disk, &format!("{disk} one"));
            }
            let engine = site.open(site.files()).await;
            let first = if scenario.is_on_a_set() {
                let job = job_of(engine.create_group_snapshot(of_shop(), USER).await);
                made(&*wait(&engine, job).await)
            } else {
                take(&engine, DB).await
            };
            engine.shutdown().await;
            drop(engine);
            for (_, disk) in DISKS {
                site.write(disk, &format!("{disk} two"));
            }
            let ended = run_until_death(&site, scenario, commits, answer_lost, first).await;
            let case = format!("{scenario:?}, {commits} commits, answer lost: {answer_lost}, ended: {ended}");
            let state = check_truth(&site, scenario, first, &case).await;
            ends.insert(state);
            if ended {
                assert_eq!(state, JobState::Completed, "{case}");
                break;
            }
        }
    }
    assert!(ends.contains(&JobState::New) && ends.contains(&JobState::Completed), "{scenario:?} {ends:?}");
}

#[tokio::test]
async fn creation_survives_death_at_each_record() {
    die_at_each_record(Scenario::Create).await;
}

#[tokio::test]
async fn application_survives_death_at_each_record() {
    die_at_each_record(Scenario::Apply).await;
}

#[tokio::test]
async fn destruction_survives_death_at_each_record() {
    die_at_each_record(Scenario::Destroy).await;
}

#[tokio::test]
async fn group_creation_survives_death_at_each_record() {
    die_at_each_record(Scenario::CreateGroup).await;
}

#[tokio::test]
async fn group_application_survives_death_at_each_record() {
    die_at_each_record(Scenario::ApplyGroup).await;
}

#[tokio::test]
async fn group_destruction_survives_death_at_each_record() {
    die_at_each_record(Scenario::DestroyGroup).await;
}

#[tokio::test]
async fn jobs_that_waited_run_after_the_restart() {
    let site = Site::new();
    let store = Arc::new(DyingStore::new(site.store().await, false));
    let watched: Arc<dyn Store> = Arc::<DyingStore>::clone(&store);
    let engine = Engine::open(site.options(site.files(), watched)).await.unwrap();
    // The record of the job passes, the one that it begins does not.
    store.commits_left.store(1, Ordering::SeqCst);
    let job = job_of(engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await);
    store.died.notified().await;
    drop(engine);
    drop(store);
    let engine = site.open(site.files()).await;
    assert_eq!(wait(&engine, job).await.state, JobState::Completed);
    assert_eq!(engine.view().snapshots().count(), 1);
}

#[tokio::test]
async fn a_half_done_replacement_is_finished() {
    let site = Site::new();
    let hypervisor = site.files();
    let files: Vec<StagedFile> = ["db-root", "db-data"]
        .into_iter()
        .enumerate()
        .map(|(number, disk)| {
            let staged = site.directory.path().join(format!(".wsnapd-{}-{number}.staged", guid(7)));
            std::fs::write(&staged, format!("{disk} one")).unwrap();
            StagedFile { staged, target: site.disk_path(disk), ..StagedFile::default() }
        })
        .collect();
    std::fs::rename(&files[0].staged, &files[0].target).unwrap();
    let journal = [JournalStep::Staged { files }];
    for _ in 0..2 {
        let recovered = hypervisor.recover(&Operation::Apply(Vec::new()), &journal).await.unwrap();
        assert_eq!(recovered, Recovery::Finished(Vec::new()));
        assert_eq!(site.read("db-root") + &site.read("db-data"), "db-root onedb-data one");
    }
}
