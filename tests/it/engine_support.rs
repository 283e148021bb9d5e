//! Engines for tests: over the simulated host, or over files in a directory of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wsnapd::backend::{
    BoxFuture, CollectionDefinition, DirectoryPools, DiskDefinition, DiskFormat, FilesHypervisor, Hypervisor,
    MachineDefinition, PoolDefinition, SimulatedHypervisor,
};
use wsnapd::engine::{
    Change, CreateSnapshot, Engine, EngineError, EngineOptions, Job, Lease, Outcome, Records, SnapshotSettings,
    SnapshotType, SqliteStore, Store, StoreError,
};
use wsnapd::time::{Guid, IdSource, ManualClock, Timestamp};

pub(crate) const USER: &str = "tester";

/// The machines of all tests; `guid(1)` is the first.
pub(crate) const WEB: u64 = 0xA001;
pub(crate) const DB: u64 = 0xA002;
pub(crate) const SHOP: u64 = 0xC001;

pub(crate) fn guid(number: u64) -> Guid {
    Guid::from_uuid(uuid::Uuid::from_u64_pair(0, number))
}

/// Identifiers that no other run of the same directory has made.
#[derive(Default)]
pub(crate) struct RandomIds;

impl IdSource for RandomIds {
    #[expect(clippy::disallowed_methods, reason = "tests reopen one directory with a new source")]
    fn new_guid(&self) -> Guid {
        Guid::from_uuid(uuid::Uuid::new_v4())
    }
}

pub(crate) fn disk(name: &str, directory: &Path) -> DiskDefinition {
    let path = directory.join(format!("{name}.img"));
    DiskDefinition { name: name.to_owned(), path, format: DiskFormat::Raw, read_only: false, pass_through: false }
}

pub(crate) fn machine(id: u64, name: &str, disks: Vec<DiskDefinition>) -> MachineDefinition {
    let (notes, memory_mb, processors) = (String::new(), 512, 1);
    MachineDefinition {
        id: guid(id),
        name: name.to_owned(),
        notes,
        memory_mb,
        processors,
        networks: Vec::new(),
        disks,
        qemu: wsnapd::backend::QemuMachine::default(),
    }
}

/// `web01` with one disk and `db01` with two.
pub(crate) fn machines(directory: &Path) -> Vec<MachineDefinition> {
    vec![
        machine(WEB, "web01", vec![disk("web-root", directory)]),
        machine(DB, "db01", vec![disk("db-root", directory), disk("db-data", directory)]),
    ]
}

/// A directory that goes with the test, or one that belongs to another process.
pub(crate) enum Directory {
    Own(tempfile::TempDir),
    Borrowed(PathBuf),
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Own(directory) => directory.path(),
            Self::Borrowed(path) => path,
        }
    }
}

/// A directory with disks, pools and the data of an engine.
pub(crate) struct Site {
    pub(crate) directory: Directory,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) pools: Vec<PoolDefinition>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["web-root", "db-root", "db-data"] {
            std::fs::write(directory.path().join(format!("{name}.img")), format!("{name} at first")).unwrap();
        }
        Self::at(Directory::Own(directory))
    }

    /// The site in a directory that holds its disks already.
    pub(crate) fn at(directory: Directory) -> Self {
        let clock = Arc::new(ManualClock::new("2026-11-21T14:05:09Z".parse().unwrap()));
        Self { directory, clock, pools: Vec::new() }
    }

    pub(crate) fn disk_path(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.img"))
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.disk_path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.disk_path(name), content).unwrap();
    }

    pub(crate) fn snapshot_directories(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> = std::fs::read_dir(self.directory.path().join("snapshots"))
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default();
        found.sort();
        found
    }

    pub(crate) fn files(&self) -> Arc<dyn Hypervisor> {
        Arc::new(FilesHypervisor::open(self.directory.path(), machines(self.directory.path())).unwrap())
    }

    pub(crate) fn simulated(&self) -> Arc<SimulatedHypervisor> {
        Arc::new(SimulatedHypervisor::new(machines(self.directory.path())))
    }

    pub(crate) async fn store(&self) -> Arc<SqliteStore> {
        // A store that was just dropped lets go of its file as soon as its last call is done; it is waited for.
        let path = self.directory.path().join("wsnapd.db");
        Arc::new(tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await.unwrap().unwrap())
    }

    pub(crate) fn options(&self, hypervisor: Arc<dyn Hypervisor>, store: Arc<dyn Store>) -> EngineOptions {
        let volumes = Arc::new(DirectoryPools::open(self.pools.clone()).unwrap());
        let clock = Arc::<ManualClock>::clone(&self.clock);
        let mut options = EngineOptions::new(store, hypervisor, volumes, clock, Arc::new(RandomIds));
        let shop = CollectionDefinition { name: "shop".to_owned(), id: guid(SHOP), members: vec![guid(WEB), guid(DB)] };
        options.collections = vec![shop];
        options.queue_limit = 3;
        options
    }

    /// An engine whose records live in memory only.
    pub(crate) async fn open_forgetful(&self, hypervisor: Arc<dyn Hypervisor>) -> Arc<Engine> {
        Engine::open(self.options(hypervisor, Arc::new(ForgetfulStore))).await.unwrap()
    }

    pub(crate) async fn open(&self, hypervisor: Arc<dyn Hypervisor>) -> Arc<Engine> {
        Engine::open(self.options(hypervisor, self.store().await)).await.unwrap()
    }
}

/// A store that keeps nothing and answers at once, for tests with paused time and for fast ones.
pub(crate) struct ForgetfulStore;

impl Store for ForgetfulStore {
    fn acquire<'a>(&'a self, owner: &'a str, _: Timestamp, _: Timestamp) -> BoxFuture<'a, Result<Lease, StoreError>> {
        Box::pin(std::future::ready(Ok(Lease { owner: owner.to_owned(), epoch: 1 })))
    }

    fn renew<'a>(&'a self, _: &'a Lease, _: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn release<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn load<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, Result<Records, StoreError>> {
        Box::pin(std::future::ready(Ok(Records::default())))
    }

    fn commit<'a>(&'a self, _: &'a Lease, _: Vec<Change>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The job of an outcome.
#[track_caller]
pub(crate) fn job_of<T: std::fmt::Debug>(outcome: Result<Outcome<T>, EngineError>) -> Guid {
    match outcome {
        Ok(Outcome::Started { job }) => job,
        other => panic!("no job: {other:?}"),
    }
}

/// Waits until a job has ended.
pub(crate) async fn wait(engine: &Engine, job: Guid) -> Arc<Job> {
    for turn in 0..5_000 {
        let view = engine.view();
        let found = view.job(job).expect("the job exists");
        if found.state.is_final() {
            return Arc::clone(found);
        }
        tokio::time::sleep(Duration::from_millis(if turn < 1_000 { 1 } else { 50 })).await;
    }
    panic!("the job did not end: {:?}", engine.view().job(job));
}

pub(crate) fn creation(system: u64, snapshot_type: SnapshotType) -> CreateSnapshot {
    CreateSnapshot { system: guid(system), snapshot_type, settings: SnapshotSettings::default() }
}

/// Takes a snapshot and returns its identity.
pub(crate) async fn take(engine: &Engine, system: u64) -> Guid {
    let job = job_of(engine.create_snapshot(creation(system, SnapshotType::Full), USER).await);
    let job = wait(engine, job).await;
    assert_eq!(job.state.number(), 7, "{:?}", job.failure);
    made(&job)
}

/// What a completed job made.
#[track_caller]
pub(crate) fn made(job: &Job) -> Guid {
    let made = job.affected.iter().filter(|affected| affected.effect.number() == 5);
    let made: Vec<_> = made.map(|affected| affected.element.id()).collect();
    assert_eq!(made.len(), 1, "{job:?}");
    made[0]
}
