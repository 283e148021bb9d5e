//! The contract of a hypervisor back-end: one suite, run over each of them.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wsnapd::backend::{
    ApplyRequest, BoxFuture, Cause, DestroyRequest, Hypervisor, Interrupted, Journal, JournalStep, MachineState,
    Operation, PowerAction, Progress, Quiesce, Recovery, SimulatedHypervisor, SnapshotOutcome, SnapshotRequest,
    StepControl,
};
use wsnapd::time::Guid;

use crate::engine_support::{DB, Site, WEB, guid};

/// A back-end with the means to look at and to change disks from outside.
struct Subject {
    site: Site,
    hypervisor: Arc<dyn Hypervisor>,
    simulated: Option<Arc<SimulatedHypervisor>>,
}

const DISKS: [(u64, &str); 3] = [(WEB, "web-root"), (DB, "db-root"), (DB, "db-data")];

impl Subject {
    fn files() -> Self {
        let site = Site::new();
        let hypervisor = site.files();
        Self { site, hypervisor, simulated: None }
    }

    fn simulated() -> Self {
        let site = Site::new();
        let simulated = site.simulated();
        let hypervisor: Arc<dyn Hypervisor> = Arc::<SimulatedHypervisor>::clone(&simulated);
        Self { site, hypervisor, simulated: Some(simulated) }
    }

    fn write(&self, text: &str) {
        for (machine, disk) in DISKS {
            match &self.simulated {
                Some(host) => host.write_disk(guid(machine), disk, format!("{disk} {text}").as_bytes()),
                None => self.site.write(disk, &format!("{disk} {text}")),
            }
        }
    }

    fn read(&self) -> Vec<String> {
        let read = |(machine, disk): (u64, &str)| match &self.simulated {
            Some(host) => String::from_utf8(host.read_disk(guid(machine), disk).unwrap()).unwrap(),
            None => self.site.read(disk),
        };
        DISKS.into_iter().map(read).collect()
    }

    fn holds(text: &str) -> Vec<String> {
        DISKS.into_iter().map(|(_, disk)| format!("{disk} {text}")).collect()
    }

    async fn create(&self, snapshots: &[(u64, u64)]) -> Vec<SnapshotOutcome> {
        self.hypervisor.create_snapshots(&requests(snapshots), &StepControl::detached()).await.unwrap()
    }

    async fn nothing_is_left(&self) {
        let removed = self.hypervisor.remove_orphans(&BTreeSet::new(), &HashSet::new()).await.unwrap();
        assert_eq!(removed, Vec::<PathBuf>::new());
        assert_eq!(self.site.snapshot_directories(), Vec::<PathBuf>::new());
    }
}

fn requests(snapshots: &[(u64, u64)]) -> Vec<SnapshotRequest> {
    let request = |&(machine, snapshot): &(u64, u64)| SnapshotRequest {
        machine: guid(machine),
        snapshot: guid(snapshot),
        memory: false,
        quiesce: Quiesce::Never,
        copy_backup: false,
        ignore_non_snapshottable: false,
    };
    snapshots.iter().map(request).collect()
}

fn applications(outcomes: &[SnapshotOutcome]) -> Vec<ApplyRequest> {
    let request = |outcome: &SnapshotOutcome| ApplyRequest {
        machine: outcome.machine,
        snapshot: outcome.snapshot,
        operation: guid(0xF00D),
        disks: outcome.disks.clone(),
        memory: outcome.memory.clone(),
        launch: outcome.launch.clone(),
    };
    outcomes.iter().map(request).collect()
}

fn destructions(outcomes: &[SnapshotOutcome]) -> Vec<DestroyRequest> {
    let request = |outcome: &SnapshotOutcome| DestroyRequest {
        machine: outcome.machine,
        snapshot: outcome.snapshot,
        files: outcome.disks.iter().map(|disk| disk.file.clone()).collect(),
        disks: outcome.disks.clone(),
        referenced: Arc::default(),
    };
    outcomes.iter().map(request).collect()
}

/// Keeps the steps; refuses the one with this number, as if the caller had cancelled before it.
struct Recorder {
    steps: Mutex<Vec<JournalStep>>,
    refuse: Option<usize>,
}

impl Journal for Recorder {
    fn record(&self, step: JournalStep) -> BoxFuture<'_, Result<(), Interrupted>> {
        let mut steps = self.steps.lock().unwrap();
        let refused = self.refuse == Some(steps.len());
        steps.push(step);
        Box::pin(std::future::ready(if refused { Err(Interrupted::Cancelled) } else { Ok(()) }))
    }
}

fn recorded(refuse: Option<usize>) -> (Arc<Recorder>, StepControl) {
    let recorder = Arc::new(Recorder { steps: Mutex::default(), refuse });
    let journal: Arc<dyn Journal> = Arc::<Recorder>::clone(&recorder);
    let control = StepControl::new(journal, watch::Sender::new(Progress::default()), CancellationToken::new());
    (recorder, control)
}

async fn snapshots_come_back_and_go(subject: Subject) {
    subject.write("one");
    let first = subject.create(&[(WEB, 1), (DB, 2)]).await;
    assert_eq!(first.iter().map(|outcome| outcome.disks.len()).collect::<Vec<_>>(), [1, 2]);
    assert!(first.iter().all(|outcome| outcome.application_consistent && outcome.skipped.is_empty()));
    subject.write("two");
    let second = subject.create(&[(WEB, 3), (DB, 4)]).await;
    let control = StepControl::detached();
    for (outcomes, text) in [(&first, "one"), (&second, "two"), (&first, "one")] {
        subject.hypervisor.apply_snapshots(&applications(outcomes), &control).await.unwrap();
        assert_eq!(subject.read(), Subject::holds(text));
        assert_eq!(subject.hypervisor.state(guid(DB)).await.unwrap(), MachineState::Off);
        subject.write("lost");
    }
    let files: Vec<PathBuf> = first.iter().flat_map(|outcome| &outcome.disks).map(|disk| disk.file.clone()).collect();
    assert!(subject.hypervisor.missing_files(&files).await.is_empty());
    // Destroying what is gone already is no error.
    for _ in 0..2 {
        subject.hypervisor.destroy_snapshots(&destructions(&first), &control).await.unwrap();
    }
    assert_eq!(subject.hypervisor.missing_files(&files).await.len(), files.len());
    subject.hypervisor.destroy_snapshots(&destructions(&second), &control).await.unwrap();
    subject.nothing_is_left().await;
    assert_eq!(subject.read(), Subject::holds("lost"));
}

async fn a_refused_step_leaves_nothing(make: fn() -> Subject) {
    let mut refused = 0;
    loop {
        let subject = make();
        subject.write("one");
        let (recorder, control) = recorded(Some(refused));
        let result = subject.hypervisor.create_snapshots(&requests(&[(WEB, 1), (DB, 2)]), &control).await;
        if recorder.steps.lock().unwrap().len() <= refused {
            result.unwrap();
            break;
        }
        assert!(result.unwrap_err().is_cancelled());
        subject.nothing_is_left().await;
        refused += 1;
    }
    assert!(refused >= 2, "only {refused} steps");
    let subject = make();
    subject.write("one");
    let outcomes = subject.create(&[(WEB, 1), (DB, 2)]).await;
    subject.write("two");
    for refused in 0..2 {
        let (_, control) = recorded(Some(refused));
        assert!(
            subject.hypervisor.apply_snapshots(&applications(&outcomes), &control).await.unwrap_err().is_cancelled()
        );
        assert_eq!(subject.read(), Subject::holds("two"));
    }
    let owned: BTreeSet<Guid> = [guid(1), guid(2)].into();
    assert!(subject.hypervisor.remove_orphans(&owned, &HashSet::new()).await.unwrap().is_empty());
}

async fn recovery_finishes_or_undoes(make: fn() -> Subject) {
    let subject = make();
    subject.write("one");
    let (recorder, control) = recorded(None);
    let create = requests(&[(WEB, 1), (DB, 2)]);
    let outcomes = subject.hypervisor.create_snapshots(&create, &control).await.unwrap();
    let steps = recorder.steps.lock().unwrap().clone();
    subject.write("two");
    let apply = Operation::Apply(applications(&outcomes));
    assert_eq!(subject.hypervisor.recover(&apply, &steps[..1]).await.unwrap(), Recovery::RolledBack);
    assert_eq!(subject.read(), Subject::holds("two"));
    let operation = Operation::Create(create);
    for _ in 0..2 {
        let recovered = subject.hypervisor.recover(&operation, &steps).await.unwrap();
        assert_eq!(recovered, Recovery::Finished(outcomes.clone()));
    }
    for _ in 0..2 {
        let recovered = subject.hypervisor.recover(&operation, &steps[..1]).await.unwrap();
        assert_eq!(recovered, Recovery::RolledBack);
    }
    subject.nothing_is_left().await;
}

async fn orphans_go_and_owned_data_stays(subject: Subject) {
    subject.write("one");
    let outcomes = subject.create(&[(WEB, 1), (DB, 2)]).await;
    let owned: BTreeSet<Guid> = [guid(1)].into();
    let removed = subject.hypervisor.remove_orphans(&owned, &HashSet::new()).await.unwrap();
    assert!(!removed.is_empty());
    let gone = |outcome: &SnapshotOutcome| outcome.disks.iter().map(|disk| disk.file.clone()).collect::<Vec<_>>();
    assert!(subject.hypervisor.missing_files(&gone(&outcomes[0])).await.is_empty());
    assert_eq!(subject.hypervisor.missing_files(&gone(&outcomes[1])).await.len(), 2);
}

async fn promises_are_kept(subject: Subject) {
    let can = subject.hypervisor.capabilities();
    let control = StepControl::detached();
    match subject.hypervisor.change_state(guid(WEB), PowerAction::Start, &control).await {
        Ok(state) => assert!(can.power && state == MachineState::Running),
        Err(error) => assert!(!can.power && matches!(error.cause, Cause::NotSupported(_)), "{error}"),
    }
    let request = DestroyRequest {
        machine: guid(WEB),
        snapshot: guid(1),
        files: Vec::new(),
        disks: Vec::new(),
        referenced: Arc::default(),
    };
    let converted = subject.hypervisor.convert_to_reference_point(&request).await;
    assert_eq!(converted.is_ok(), can.reference_points);
    let unknown = subject.hypervisor.create_snapshots(&requests(&[(0xDEAD, 1)]), &control).await.unwrap_err();
    assert!(matches!(unknown.cause, Cause::Unreachable(_)), "{unknown}");
    subject.nothing_is_left().await;
}

#[tokio::test]
async fn files_keep_the_contract() {
    snapshots_come_back_and_go(Subject::files()).await;
    a_refused_step_leaves_nothing(Subject::files).await;
    recovery_finishes_or_undoes(Subject::files).await;
    orphans_go_and_owned_data_stays(Subject::files()).await;
    promises_are_kept(Subject::files()).await;
}

#[tokio::test]
async fn the_simulated_host_keeps_the_contract() {
    snapshots_come_back_and_go(Subject::simulated()).await;
    a_refused_step_leaves_nothing(Subject::simulated).await;
    recovery_finishes_or_undoes(Subject::simulated).await;
    orphans_go_and_owned_data_stays(Subject::simulated()).await;
    promises_are_kept(Subject::simulated()).await;
}
