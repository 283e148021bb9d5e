//! Each call to the back-end fails, hangs or dies once: the job says why, nothing half-made stays, and the next try works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use wsnapd::backend::{BoxFuture, Fault, MachineState, SimulatedCall, SimulatedHypervisor};
use wsnapd::engine::{
    CancelMode, Change, CreateGroupSnapshot, Engine, EngineError, GroupSnapshotType, JobState, Lease, Outcome, Records,
    RequestedState, SnapshotSettings, SnapshotType, Store, StoreError, SystemChange, UserSnapshotType,
};
use wsnapd::time::{Guid, Timestamp};

use crate::engine_support::{DB, ForgetfulStore, SHOP, Site, USER, WEB, creation, guid, job_of, take, wait};

/// A simulated host with a machine that has a snapshot with memory, and is off.
async fn prepared(site: &Site) -> (Arc<SimulatedHypervisor>, Arc<Engine>, Guid) {
    let host = site.simulated();
    let engine = site.open_forgetful(Arc::<SimulatedHypervisor>::clone(&host)).await;
    let change = SystemChange { user_snapshot_type: Some(UserSnapshotType::Standard), ..SystemChange::default() };
    engine.modify_system(guid(WEB), change).await.unwrap();
    host.set_state(guid(WEB), MachineState::Running);
    host.write_disk(guid(WEB), "web-root", b"one");
    let snapshot = take(&engine, WEB).await;
    host.set_state(guid(WEB), MachineState::Off);
    host.write_disk(guid(WEB), "web-root", b"two");
    engine.refresh().await.unwrap();
    (host, engine, snapshot)
}

async fn start(engine: &Engine, call: SimulatedCall, snapshot: Guid) -> Guid {
    match call {
        SimulatedCall::Create | SimulatedCall::Freeze => {
            job_of(engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await)
        }
        SimulatedCall::Apply => job_of(engine.apply_snapshot(snapshot, USER).await),
        SimulatedCall::Destroy => job_of(engine.destroy_snapshot(snapshot, USER).await),
        SimulatedCall::ClearMemory => job_of(engine.clear_snapshot_state(snapshot, USER).await),
        SimulatedCall::ChangeState => {
            job_of(engine.request_state_change(guid(WEB), RequestedState::Enabled, USER).await)
        }
        SimulatedCall::Convert | SimulatedCall::DestroyReferencePoints | SimulatedCall::Export => {
            unreachable!("tested with reference points")
        }
    }
}

const CALLS: [SimulatedCall; 5] = [
    SimulatedCall::Create,
    SimulatedCall::Apply,
    SimulatedCall::Destroy,
    SimulatedCall::ClearMemory,
    SimulatedCall::ChangeState,
];

#[tokio::test(start_paused = true)]
async fn a_failure_ends_the_job_and_changes_nothing() {
    for call in CALLS {
        for (fault, number, text) in [
            (Fault::Fail("the disk is on fire".to_owned()), 32768, "the disk is on fire"),
            (Fault::NoSpace, 32768, "2147483648 bytes are needed, 1073741824 bytes are available"),
            (Fault::AccessDenied, 32769, "access denied"),
            (Fault::Unreachable, 32777, "does not answer"),
            (Fault::Hang, 32772, "no answer in time"),
            (Fault::Die, 32772, "no answer in time"),
        ] {
            let case = format!("{call:?} {fault:?}");
            let site = Site::new();
            let (host, engine, snapshot) = prepared(&site).await;
            let before = engine.view();
            // Dropping the memory can always be repeated, so that a call without an answer is simply made again.
            let repeated = call == SimulatedCall::ClearMemory && matches!(fault, Fault::Hang | Fault::Die);
            host.script(call, fault);
            let job = start(&engine, call, snapshot).await;
            let job = wait(&engine, job).await;
            if repeated {
                assert_eq!(job.state, JobState::Completed, "{case}");
                assert!(!engine.view().snapshot(snapshot).unwrap().has_memory, "{case}");
                continue;
            }
            assert_eq!(job.state, JobState::Exception, "{case}");
            let failure = job.failure.as_ref().expect("a failure");
            assert_eq!(failure.failure.number(), number, "{case}: {}", failure.description);
            assert!(failure.description.contains(text), "{case}: {}", failure.description);
            assert!(job.percent < 100 && !job.cancellable && job.ended.is_some(), "{case}");
            let after = engine.view();
            assert!(after.snapshots().eq(before.snapshots()), "{case}");
            assert_eq!(after.system(guid(WEB)), before.system(guid(WEB)), "{case}");
            assert_eq!(host.read_disk(guid(WEB), "web-root").unwrap(), b"two", "{case}");
            assert_eq!(host.held_snapshots(), [snapshot].into(), "{case}");
            let again = start(&engine, call, snapshot).await;
            assert_eq!(wait(&engine, again).await.state, JobState::Completed, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_can_be_cancelled_and_a_deletion_cannot() {
    for call in [SimulatedCall::Create, SimulatedCall::Apply] {
        let site = Site::new();
        let (host, engine, snapshot) = prepared(&site).await;
        host.script(call, Fault::Hang);
        let job = start(&engine, call, snapshot).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(engine.view().job(job).unwrap().cancellable);
        assert!(matches!(engine.cancel_job(job, CancelMode::Terminate).await, Ok(Outcome::Started { .. })));
        assert_eq!(wait(&engine, job).await.state, JobState::Terminated);
        assert_eq!(host.held_snapshots(), [snapshot].into());
        assert_eq!(host.read_disk(guid(WEB), "web-root").unwrap(), b"two");
    }
    let site = Site::new();
    let (host, engine, snapshot) = prepared(&site).await;
    host.set_duration(SimulatedCall::Destroy, Duration::from_secs(5));
    let job = start(&engine, SimulatedCall::Destroy, snapshot).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(engine.cancel_job(job, CancelMode::Kill).await, Err(EngineError::NotCancellable)));
    assert_eq!(wait(&engine, job).await.state, JobState::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_group_of_which_one_member_fails_leaves_nothing() {
    let site = Site::new();
    let host = site.simulated();
    let engine = site.open_forgetful(Arc::<SimulatedHypervisor>::clone(&host)).await;
    host.set_state(guid(DB), MachineState::Running);
    host.set_agent(guid(DB), false);
    let settings =
        SnapshotSettings { consistency: wsnapd::engine::ConsistencyLevel::Application, ..SnapshotSettings::default() };
    let snapshot_type = GroupSnapshotType::Recovery;
    let request = CreateGroupSnapshot { collection: guid(SHOP), snapshot_type, settings };
    let job = wait(&engine, job_of(engine.create_group_snapshot(request, USER).await)).await;
    let failure = job.failure.as_ref().expect("a failure");
    assert_eq!(failure.failure.number(), 32768);
    assert!(failure.description.contains("guest agent not connected"), "{}", failure.description);
    assert_eq!((engine.view().snapshots().count(), engine.view().snapshot_collections().count()), (0, 0));
    assert!(host.held_snapshots().is_empty());
}

#[tokio::test(start_paused = true)]
async fn shutdown_undoes_what_does_not_end_in_time() {
    let site = Site::new();
    let (host, engine, snapshot) = prepared(&site).await;
    host.script(SimulatedCall::Create, Fault::Hang);
    let job = start(&engine, SimulatedCall::Create, snapshot).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.shutdown().await;
    let view = engine.view();
    let failure = view.job(job).unwrap().failure.as_ref().expect("a failure");
    assert!(failure.description.contains("the server was stopped"), "{}", failure.description);
    assert_eq!(host.held_snapshots(), [snapshot].into());
}

/// A store that keeps nothing, and fails the commits whose turn it is.
struct StumblingStore {
    /// How many commits pass before one fails; below zero none does.
    passes: AtomicI64,
}

impl Store for StumblingStore {
    fn acquire<'a>(
        &'a self,
        owner: &'a str,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<Lease, StoreError>> {
        ForgetfulStore.acquire(owner, now, until)
    }

    fn renew<'a>(&'a self, lease: &'a Lease, until: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        ForgetfulStore.renew(lease, until)
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), StoreError>> {
        ForgetfulStore.release(lease)
    }

    fn load<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Records, StoreError>> {
        ForgetfulStore.load(lease)
    }

    fn commit<'a>(&'a self, _: &'a Lease, _: Vec<Change>) -> BoxFuture<'a, Result<(), StoreError>> {
        let fails = self.passes.fetch_sub(1, Ordering::SeqCst) == 0;
        Box::pin(std::future::ready(if fails { Err(StoreError::Closed) } else { Ok(()) }))
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_once_costs_one_command_or_one_job() {
    let mut ends = Vec::new();
    for passes in 0..20 {
        let site = Site::new();
        let host = site.simulated();
        let store = Arc::new(StumblingStore { passes: AtomicI64::new(-1) });
        let kept: Arc<dyn Store> = Arc::<StumblingStore>::clone(&store);
        let hypervisor: Arc<dyn wsnapd::backend::Hypervisor> = Arc::<SimulatedHypervisor>::clone(&host);
        let engine = Engine::open(site.options(hypervisor, kept)).await.unwrap();
        store.passes.store(passes, Ordering::SeqCst);
        match engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await {
            Ok(outcome) => {
                let job = wait(&engine, job_of(Ok(outcome))).await;
                let snapshots = usize::from(job.state == JobState::Completed);
                assert_eq!((engine.view().snapshots().count(), host.held_snapshots().len()), (snapshots, snapshots));
                ends.push(Some(job.state));
            }
            Err(error) => {
                assert!(matches!(error, EngineError::Store(_)), "{error}");
                assert_eq!((engine.view().jobs().count(), engine.view().snapshots().count()), (0, 0));
                ends.push(None);
            }
        }
        let passed = store.passes.swap(-1, Ordering::SeqCst) >= 0;
        take(&engine, WEB).await;
        if passed {
            break;
        }
    }
    let (done, failed) = (Some(JobState::Completed), Some(JobState::Exception));
    assert!(ends.first() == Some(&None) && ends.contains(&failed) && ends.last() == Some(&done), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_simulated_host_does_what_the_configuration_says() {
    let site = Site::new();
    let path = site.directory.path();
    let definitions = path.join("machines.d");
    std::fs::create_dir(&definitions).unwrap();
    for (id, name) in [(WEB, "web01"), (DB, "db01")] {
        let text = format!("id = \"{}\"\nname = \"{name}\"\n[[disk]]\nname = \"root\"\npath = \"x\"\n", guid(id));
        std::fs::write(definitions.join(format!("{name}.toml")), text).unwrap();
    }
    let text = format!(
        "[backend]\nkind = \"simulated\"\n[backend.simulated]\ncreate_ms = 20000\nrunning = [\"web01\"]\n\
         saved = [\"{}\"]\n[[backend.simulated.failure]]\ncall = \"create\"\nnth = 2\nmachine = \"web01\"\n\
         fault = \"no-space\"\n[[backend.simulated.failure]]\ncall = \"change-state\"\nnth = 0\ntext = \"no power\"\n",
        guid(DB),
    );
    let config = wsnapd::config::Config::parse(&path.join("wsnapd.toml"), &text).unwrap();
    let backend = wsnapd::backend::open(&config.backend, path, config.machines, config.pools).unwrap();
    let engine = site.open_forgetful(backend.hypervisor).await;
    let state = |id| engine.view().system(guid(id)).unwrap().state.to_string();
    assert_eq!((state(WEB), state(DB)), ("running".to_owned(), "saved".to_owned()));
    // A snapshot of the other machine is not one of the calls that count.
    for (machine, number) in [(WEB, 0), (DB, 0), (WEB, 32768), (WEB, 0)] {
        let begun = tokio::time::Instant::now();
        let request = creation(machine, SnapshotType::Full);
        let job = wait(&engine, job_of(engine.create_snapshot(request, USER).await)).await;
        assert_eq!(job.failure.as_ref().map_or(0, |failure| failure.failure.number()), number, "{:?}", job.failure);
        let took = begun.elapsed().as_secs();
        assert!((20..30).contains(&took), "{took} seconds");
    }
    for _ in 0..2 {
        let stop = engine.request_state_change(guid(WEB), RequestedState::Disabled, USER).await;
        let job = wait(&engine, job_of(stop)).await;
        let failure = job.failure.as_ref().expect("each of them fails");
        assert!(failure.description.contains("no power"), "{}", failure.description);
    }
}

/// A store that keeps nothing and takes its time.
struct SlowStore;

impl Store for SlowStore {
    fn acquire<'a>(
        &'a self,
        owner: &'a str,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<Lease, StoreError>> {
        ForgetfulStore.acquire(owner, now, until)
    }

    fn renew<'a>(&'a self, lease: &'a Lease, until: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        ForgetfulStore.renew(lease, until)
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), StoreError>> {
        ForgetfulStore.release(lease)
    }

    fn load<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Records, StoreError>> {
        ForgetfulStore.load(lease)
    }

    fn commit<'a>(&'a self, _: &'a Lease, _: Vec<Change>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_leaves_no_job_that_never_starts() {
    let site = Site::new();
    let engine = Engine::open(site.options(site.simulated(), Arc::new(SlowStore))).await.unwrap();
    let patience = Duration::from_millis(100);
    let creation = engine.create_snapshot(creation(WEB, SnapshotType::Full), USER);
    tokio::time::timeout(patience, creation).await.expect_err("the store is slower");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let job = engine.view().jobs().next().expect("the record was on its way").id;
    assert_eq!(wait(&engine, job).await.state, JobState::Completed);
    // The same with a cancellation: the next job gets its turn.
    let host = site.simulated();
    let hypervisor: Arc<dyn wsnapd::backend::Hypervisor> = Arc::<SimulatedHypervisor>::clone(&host);
    let engine = Engine::open(site.options(hypervisor, Arc::new(SlowStore))).await.unwrap();
    host.script(SimulatedCall::Create, Fault::Hang);
    let hanging = job_of(engine.create_snapshot(self::creation(WEB, SnapshotType::Full), USER).await);
    let next = job_of(engine.create_snapshot(self::creation(WEB, SnapshotType::Full), USER).await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let cancel = engine.cancel_job(hanging, CancelMode::Terminate);
    tokio::time::timeout(patience, cancel).await.expect_err("the store is slower");
    assert_eq!(wait(&engine, hanging).await.state, JobState::Terminated);
    assert_eq!(wait(&engine, next).await.state, JobState::Completed);
}

#[tokio::test]
async fn a_server_whose_records_were_taken_over_stops() {
    let site = Site::new();
    let store = site.store().await;
    let kept: Arc<dyn Store> = Arc::<wsnapd::engine::SqliteStore>::clone(&store);
    let engine = Engine::open(site.options(site.files(), kept)).await.unwrap();
    take(&engine, WEB).await;
    let now = "2026-11-21T14:05:09Z".parse().unwrap();
    store.acquire("another server", now, now).await.unwrap();
    let refused = engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await;
    assert!(matches!(refused, Err(EngineError::Store(StoreError::LeaseLost))), "{refused:?}");
    tokio::time::timeout(Duration::from_secs(5), engine.lease_lost()).await.expect("it is told at once");
    let refused = engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await;
    assert!(matches!(refused, Err(EngineError::ShuttingDown | EngineError::Store(_))), "{refused:?}");
    assert_eq!(engine.view().snapshots().count(), 1);
    engine.shutdown().await;
}

/// A store that keeps nothing, and fails as long as its filesystem is full.
#[derive(Default)]
struct FullStore {
    full: AtomicBool,
}

impl Store for FullStore {
    fn acquire<'a>(
        &'a self,
        owner: &'a str,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<Lease, StoreError>> {
        ForgetfulStore.acquire(owner, now, until)
    }

    fn renew<'a>(&'a self, lease: &'a Lease, until: Timestamp) -> BoxFuture<'a, Result<(), StoreError>> {
        ForgetfulStore.renew(lease, until)
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), StoreError>> {
        ForgetfulStore.release(lease)
    }

    fn load<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Records, StoreError>> {
        ForgetfulStore.load(lease)
    }

    fn commit<'a>(&'a self, _: &'a Lease, _: Vec<Change>) -> BoxFuture<'a, Result<(), StoreError>> {
        let full = self.full.load(Ordering::SeqCst);
        let error = || StoreError::Io(std::io::Error::from(std::io::ErrorKind::StorageFull));
        Box::pin(std::future::ready(if full { Err(error()) } else { Ok(()) }))
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_ends_with_the_truth_once_there_is_space_for_its_record() {
    let site = Site::new();
    let host = site.simulated();
    let store = Arc::new(FullStore::default());
    let kept: Arc<dyn Store> = Arc::<FullStore>::clone(&store);
    let hypervisor: Arc<dyn wsnapd::backend::Hypervisor> = Arc::<SimulatedHypervisor>::clone(&host);
    let engine = Engine::open(site.options(hypervisor, kept)).await.unwrap();
    host.set_duration(SimulatedCall::Create, Duration::from_secs(10));
    let job = job_of(engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await);
    let waiting = job_of(engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    store.full.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(engine.view().job(job).unwrap().state, JobState::Running, "no end is shown that is not durable");
    let refused = engine.create_snapshot(creation(DB, SnapshotType::Full), USER).await;
    assert!(matches!(refused, Err(EngineError::Store(_))), "{refused:?}");
    store.full.store(false, Ordering::SeqCst);
    let ended = wait(&engine, job).await;
    let failure = ended.failure.as_ref().expect("the journal had no space");
    assert!(failure.description.contains("the journal could not be written; everything was undone"), "{failure:?}");
    assert_eq!(wait(&engine, waiting).await.state, JobState::Completed);
    assert_eq!((engine.view().snapshots().count(), host.held_snapshots().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_no_job_end_before_it_began_or_stay_for_ever() {
    let site = Site::new();
    let host = site.simulated();
    host.set_duration(SimulatedCall::Create, Duration::from_secs(10));
    let engine = site.open_forgetful(host).await;
    let id = job_of(engine.create_snapshot(creation(WEB, SnapshotType::Full), USER).await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    site.clock.advance(chrono::Duration::days(-365));
    let job = wait(&engine, id).await;
    assert!(job.submitted <= job.started.unwrap() && job.started <= job.ended, "{job:?}");
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert!(engine.view().job(id).is_some());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(engine.view().job(id).is_none());
}

#[cfg(target_os = "linux")]
mod disks {
    //! Disks that cannot be snapshotted, over real files.

    use std::process::{Command, Stdio};

    use super::*;
    use crate::engine_support::{disk, machine};
    use wsnapd::backend::{FilesHypervisor, Hypervisor};

    async fn failing(site: &Site, hypervisor: Arc<dyn Hypervisor>, ignore: bool) -> (u16, String) {
        let engine = site.open(hypervisor).await;
        let settings = SnapshotSettings { ignore_non_snapshottable_disks: ignore, ..SnapshotSettings::default() };
        let snapshot_type = SnapshotType::Full;
        let request = wsnapd::engine::CreateSnapshot { system: guid(DB), snapshot_type, settings };
        let job = wait(&engine, job_of(engine.create_snapshot(request, USER).await)).await;
        assert_eq!(site.snapshot_directories().len(), engine.view().snapshots().count());
        engine.shutdown().await;
        match &job.failure {
            Some(failure) => (failure.failure.number(), failure.description.clone()),
            None => (0, engine.view().snapshots().next().unwrap().skipped_disks.join(",")),
        }
    }

    #[tokio::test]
    async fn the_error_names_disk_step_and_cause() {
        let site = Site::new();
        let path = site.directory.path();
        let with = |change: fn(&mut wsnapd::backend::DiskDefinition)| -> Arc<dyn Hypervisor> {
            let mut second = disk("db-data", path);
            change(&mut second);
            let disks = vec![disk("db-root", path), second];
            Arc::new(FilesHypervisor::open(path, vec![machine(DB, "db01", disks)]).unwrap())
        };
        let pass_through = || with(|disk| disk.pass_through = true);
        let read_only = || with(|disk| disk.read_only = true);
        for (hypervisor, ignore, number, text) in [
            (
                pass_through(),
                false,
                32770,
                "disk db-data: plan the snapshot: a pass-through disk cannot be snapshotted",
            ),
            (read_only(), false, 32770, "disk db-data: plan the snapshot: a read-only disk cannot be snapshotted"),
            (pass_through(), true, 0, "db-data"),
            (
                with(|disk| disk.path = "/nowhere/disk".into()),
                false,
                32777,
                "disk db-data: open the disk: file /nowhere/disk",
            ),
            (
                with(|disk| disk.path = "/dev/null".into()),
                false,
                32770,
                "disk db-data: open the disk: /dev/null is not a regular file",
            ),
        ] {
            let (found, description) = failing(&site, hypervisor, ignore).await;
            assert_eq!(found, number, "{description}");
            assert!(description.contains(text), "{description}");
        }
    }

    /// Not a test of its own: holds the lock of a disk for the test below, in another process, until its input ends.
    /// Nothing happens when it is started without the path.
    #[test]
    #[ignore = "helper of another test"]
    #[expect(clippy::print_stderr, reason = "tells the other process that the lock is held")]
    fn hold_a_lock() {
        #[expect(clippy::disallowed_methods, reason = "the only way to hand a path to this process")]
        let Ok(path) = std::env::var("WSNAPD_TEST_LOCK") else { return };
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockShared).unwrap();
        eprintln!("LOCKED");
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    }

    #[tokio::test]
    async fn a_disk_that_another_process_uses_is_left_alone() {
        use std::io::BufRead;
        let site = Site::new();
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "engine_failures::disks::hold_a_lock"])
            .env("WSNAPD_TEST_LOCK", site.disk_path("db-data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(holder.stderr.take().unwrap()).lines();
        assert!(lines.map(Result::unwrap).any(|line| line.contains("LOCKED")));
        let (number, description) = failing(&site, site.files(), false).await;
        drop(holder.stdin.take());
        assert!(holder.wait().unwrap().success());
        assert_eq!(number, 32775, "{description}");
        assert!(description.contains("disk db-data: open the disk"), "{description}");
        assert!(description.contains("locked by another process"), "{description}");
        assert_eq!(failing(&site, site.files(), false).await.0, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn lost_files_are_noticed_while_the_server_runs_and_so_is_their_return() {
    let site = Site::new();
    let engine = site.open_forgetful(site.files()).await;
    let snapshot = take(&engine, WEB).await;
    let file = engine.view().snapshot(snapshot).unwrap().disks.first().unwrap().file.clone();
    let aside = file.with_extension("aside");
    for (lost, from, to) in [(true, &file, &aside), (false, &aside, &file)] {
        std::fs::rename(from, to).unwrap();
        for _ in 0..200 {
            if engine.view().snapshot(snapshot).unwrap().missing == lost {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(engine.view().snapshot(snapshot).unwrap().missing, lost);
    }
}
