//! The contract of a hypervisor back-end: one suite, run over each of them.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wsnapd::backend::{
    ApplyRequest, BoxFuture, Cause, DestroyRequest, ExportMember, ExportRequest, Hypervisor, Interrupted, Journal,
    JournalStep, MachineState, Operation, PowerAction, Progress, Quiesce, Recovery, SimulatedHypervisor,
    SnapshotOutcome, SnapshotRequest, StepControl, TrackingRequest,
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
        change_tracking: false,
        without_data: false,
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
        tracking: outcome.tracking.clone(),
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
    tracking_is_as_promised(&subject).await;
    let unknown = subject.hypervisor.create_snapshots(&requests(&[(0xDEAD, 1)]), &control).await.unwrap_err();
    assert!(matches!(unknown.cause, Cause::Unreachable(_)), "{unknown}");
    subject.nothing_is_left().await;
}

/// Where changes are tracked a snapshot becomes a reference point and leaves nothing but its tracking; elsewhere each
/// call says that it cannot.
async fn tracking_is_as_promised(subject: &Subject) {
    let (can, control) = (subject.hypervisor.capabilities(), StepControl::detached());
    let wanted: Vec<SnapshotRequest> = requests(&[(WEB, 1), (DB, 2)])
        .into_iter()
        .map(|request| SnapshotRequest { change_tracking: true, ..request })
        .collect();
    let created = subject.hypervisor.create_snapshots(&wanted, &control).await;
    if !can.reference_points {
        let mut errors = vec![created.unwrap_err()];
        errors.push(subject.hypervisor.convert_to_reference_points(&[], &control).await.unwrap_err());
        errors.push(subject.hypervisor.destroy_reference_points(&[], &control).await.unwrap_err());
        assert!(errors.iter().all(|error| matches!(error.cause, Cause::NotSupported(_))), "{errors:?}");
        return;
    }
    let outcomes = created.unwrap();
    let tracking = |outcome: &SnapshotOutcome| TrackingRequest {
        machine: outcome.machine,
        snapshot: outcome.snapshot,
        disks: outcome.tracking.clone(),
    };
    let points: Vec<TrackingRequest> = outcomes.iter().map(tracking).collect();
    assert_eq!(points.iter().map(|point| point.disks.len()).collect::<Vec<_>>(), [1, 2]);
    assert!(points.iter().flat_map(|point| &point.disks).all(|disk| !disk.identifier.is_empty()));
    let lost = |points: Vec<TrackingRequest>| async move { subject.hypervisor.verify_reference_points(&points).await };
    assert_eq!(lost(points.clone()).await, BTreeSet::new());
    // A step that is refused leaves the snapshots whole.
    let (_, refusing) = recorded(Some(0));
    let refused = subject.hypervisor.convert_to_reference_points(&destructions(&outcomes), &refusing).await;
    assert!(refused.unwrap_err().is_cancelled());
    let files: Vec<PathBuf> =
        outcomes.iter().flat_map(|outcome| &outcome.disks).map(|disk| disk.file.clone()).collect();
    assert!(subject.hypervisor.missing_files(&files).await.is_empty());
    let convert = Operation::Convert(destructions(&outcomes));
    assert_eq!(subject.hypervisor.recover(&convert, &[]).await.unwrap(), Recovery::RolledBack);
    for _ in 0..2 {
        subject.hypervisor.convert_to_reference_points(&destructions(&outcomes), &control).await.unwrap();
        let recovered = subject.hypervisor.recover(&convert, &[JournalStep::Removing]).await.unwrap();
        assert_eq!(recovered, Recovery::Finished(Vec::new()));
    }
    assert_eq!(subject.hypervisor.missing_files(&files).await.len(), files.len());
    assert_eq!(lost(points.clone()).await, BTreeSet::new());
    let (first, second) = points.split_at(1);
    let end = Operation::DestroyReferencePoints(first.to_vec());
    for _ in 0..2 {
        subject.hypervisor.destroy_reference_points(first, &control).await.unwrap();
        let recovered = subject.hypervisor.recover(&end, &[JournalStep::Removing]).await.unwrap();
        assert_eq!(recovered, Recovery::Finished(Vec::new()));
    }
    assert_eq!(lost(points.clone()).await, [guid(1)].into());
    let refused = subject.hypervisor.convert_to_reference_points(&destructions(&outcomes), &control).await;
    assert!(refused.is_err(), "one of two has no tracking");
    assert_eq!(subject.hypervisor.remove_stale_tracking(&[guid(2)].into()).await.unwrap(), 0);
    assert_eq!(subject.hypervisor.remove_stale_tracking(&BTreeSet::new()).await.unwrap(), 1);
    assert_eq!(lost(second.to_vec()).await, [guid(2)].into());
}

/// An export is whole or not there, whatever becomes of it on the way.
async fn exports_are_whole_or_not_there(subject: Subject) {
    subject.write("one");
    let outcomes = subject.create(&[(WEB, 1), (DB, 2)]).await;
    subject.write("two");
    let allowed = subject.site.directory.path().join("exports");
    std::fs::create_dir(&allowed).unwrap();
    let member = |outcome: &SnapshotOutcome| ExportMember {
        machine: outcome.machine,
        snapshot: outcome.snapshot,
        subdirectory: Some(format!("machine {}", outcome.disks.len())),
        disks: outcome.disks.clone(),
        memory: None,
        tracking: outcome.tracking.clone(),
        base: None,
        configuration: "about it".to_owned(),
    };
    let request = ExportRequest {
        operation: guid(0xF00D),
        allowed: vec![allowed.clone()],
        directory: allowed.join("backup"),
        members: outcomes.iter().map(member).collect(),
    };
    for refuse in 0..2 {
        let (recorder, refusing) = recorded(Some(refuse));
        assert!(subject.hypervisor.export_snapshots(&request, &refusing).await.unwrap_err().is_cancelled());
        assert_eq!(std::fs::read_dir(&allowed).unwrap().count(), 0);
        let steps = recorder.steps.lock().unwrap().clone();
        let operation = Operation::Export(request.clone());
        let recovered = subject.hypervisor.recover(&operation, &steps[..refuse]).await.unwrap();
        assert_eq!(recovered, Recovery::RolledBack);
    }
    let (recorder, control) = recorded(None);
    subject.hypervisor.export_snapshots(&request, &control).await.unwrap();
    let steps = recorder.steps.lock().unwrap().clone();
    let recovered = subject.hypervisor.recover(&Operation::Export(request.clone()), &steps).await.unwrap();
    assert_eq!(recovered, Recovery::Finished(Vec::new()));
    let read = |path: &str| std::fs::read_to_string(request.directory.join(path)).unwrap();
    assert_eq!(read("machine 1/web-root.raw"), "web-root one");
    assert_eq!(read("machine 2/db-data.raw"), "db-data one");
    assert_eq!(read("machine 2/machine.json"), "about it");
    assert_eq!(std::fs::read_dir(&allowed).unwrap().count(), 1);
    let again = subject.hypervisor.export_snapshots(&request, &StepControl::detached()).await.unwrap_err();
    assert!(matches!(again.cause, Cause::NotAllowed(_)), "{again}");
    assert_eq!(read("machine 1/web-root.raw"), "web-root one");
}

#[tokio::test]
async fn files_keep_the_contract() {
    snapshots_come_back_and_go(Subject::files()).await;
    a_refused_step_leaves_nothing(Subject::files).await;
    recovery_finishes_or_undoes(Subject::files).await;
    orphans_go_and_owned_data_stays(Subject::files()).await;
    promises_are_kept(Subject::files()).await;
    exports_are_whole_or_not_there(Subject::files()).await;
}

#[tokio::test]
async fn the_simulated_host_keeps_the_contract() {
    snapshots_come_back_and_go(Subject::simulated()).await;
    a_refused_step_leaves_nothing(Subject::simulated).await;
    recovery_finishes_or_undoes(Subject::simulated).await;
    orphans_go_and_owned_data_stays(Subject::simulated()).await;
    promises_are_kept(Subject::simulated()).await;
    exports_are_whole_or_not_there(Subject::simulated()).await;
}
