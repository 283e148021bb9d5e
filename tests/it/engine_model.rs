//! Random commands against the engine over the simulated host and against a plain model of what must be true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use wsnapd::backend::{Fault, SimulatedCall, SimulatedHypervisor};
use wsnapd::engine::{
    ConsistencyLevel, CreateGroupSnapshot, Engine, GroupSnapshotType, JobState, SnapshotKind, SnapshotSettings,
    SnapshotType,
};
use wsnapd::time::Guid;

use crate::engine_reference_points::track_all;
use crate::engine_support::{DB, SHOP, Site, USER, WEB, creation, guid, job_of, made, wait};

const MACHINES: [(u64, &str); 2] = [(WEB, "web-root"), (DB, "db-root")];

#[derive(Debug, Clone)]
enum Command {
    Write(usize, u8),
    Create(usize, bool),
    CreateGroup,
    Apply(usize),
    Destroy(usize),
    DestroyTree(usize),
    Convert(usize),
    CreatePoint(usize),
    DestroyPoint(usize),
    /// The next creation fails.
    Fail,
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => (0..2_usize, any::<u8>()).prop_map(|(machine, byte)| Command::Write(machine, byte)),
        4 => (0..2_usize, any::<bool>()).prop_map(|(machine, recovery)| Command::Create(machine, recovery)),
        1 => Just(Command::CreateGroup),
        3 => (0..16_usize).prop_map(Command::Apply),
        2 => (0..16_usize).prop_map(Command::Destroy),
        1 => (0..16_usize).prop_map(Command::DestroyTree),
        3 => (0..16_usize).prop_map(Command::Convert),
        1 => (0..2_usize).prop_map(Command::CreatePoint),
        1 => (0..16_usize).prop_map(Command::DestroyPoint),
        1 => Just(Command::Fail),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    machine: usize,
    parent: Option<Guid>,
    recovery: bool,
    content: Vec<u8>,
    set: Option<Guid>,
    /// All changes since are known.
    tracked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Point {
    machine: usize,
    /// The tracking it stands for.
    snapshot: Guid,
    valid: bool,
}

/// What must be true.
#[derive(Debug, Default)]
struct Model {
    /// In the order of their creation.
    order: Vec<Guid>,
    snapshots: BTreeMap<Guid, Taken>,
    /// In the order of their creation.
    points: Vec<(Guid, Point)>,
    content: [Vec<u8>; 2],
    current: [Option<Guid>; 2],
    applied: [Option<Guid>; 2],
    fails: bool,
}

impl Model {
    fn pick(&self, index: usize) -> Option<Guid> {
        (!self.order.is_empty()).then(|| self.order[index % self.order.len()])
    }

    fn take(&mut self, id: Guid, machine: usize, recovery: bool, set: Option<Guid>) {
        let (parent, content) = (self.current[machine], self.content[machine].clone());
        self.snapshots.insert(id, Taken { machine, parent, recovery, content, set, tracked: recovery });
        self.order.push(id);
        if !recovery {
            self.current[machine] = Some(id);
        }
    }

    fn remove(&mut self, id: Guid) {
        let gone = self.snapshots.remove(&id).unwrap();
        self.order.retain(|known| *known != id);
        for taken in self.snapshots.values_mut().filter(|taken| taken.parent == Some(id)) {
            taken.parent = gone.parent;
        }
        if self.current[gone.machine] == Some(id) {
            self.current[gone.machine] = gone.parent;
        }
        self.applied[gone.machine] = self.applied[gone.machine].filter(|applied| *applied != id);
    }

    fn pick_point(&self, index: usize) -> Option<Guid> {
        (!self.points.is_empty()).then(|| self.points[index % self.points.len()].0)
    }

    /// The content of the machine was replaced.
    fn forget_changes(&mut self, machine: usize) {
        for (_, point) in self.points.iter_mut().filter(|(_, point)| point.machine == machine) {
            point.valid = false;
        }
        for taken in self.snapshots.values_mut().filter(|taken| taken.machine == machine) {
            taken.tracked = false;
        }
    }

    fn tree(&self, root: Guid) -> Vec<Guid> {
        let mut tree = vec![root];
        let mut next = 0;
        while next < tree.len() {
            let parent = Some(tree[next]);
            tree.extend(self.order.iter().filter(|id| self.snapshots[id].parent == parent));
            next += 1;
        }
        tree.reverse();
        tree
    }
}

struct Pair {
    host: Arc<SimulatedHypervisor>,
    engine: Arc<Engine>,
    model: Model,
}

impl Pair {
    async fn run(&mut self, command: &Command) {
        match *command {
            Command::Write(machine, byte) => {
                self.model.content[machine] = vec![byte];
                self.host.write_disk(guid(MACHINES[machine].0), MACHINES[machine].1, &[byte]);
            }
            Command::Fail => {
                if !self.model.fails {
                    self.model.fails = true;
                    self.host.script(SimulatedCall::Create, Fault::NoSpace);
                }
            }
            Command::Create(machine, recovery) => self.create(machine, recovery).await,
            Command::CreateGroup => self.create_group().await,
            Command::Apply(index) => {
                let Some(id) = self.model.pick(index) else { return };
                let taken = self.model.snapshots[&id].clone();
                let outcome = self.engine.apply_snapshot(id, USER).await;
                if taken.recovery {
                    assert!(outcome.is_err());
                    return;
                }
                assert_eq!(wait(&self.engine, job_of(outcome)).await.state, JobState::Completed);
                self.model.content[taken.machine] = taken.content;
                self.model.current[taken.machine] = Some(id);
                self.model.applied[taken.machine] = Some(id);
                self.model.forget_changes(taken.machine);
            }
            Command::Destroy(index) => {
                let Some(id) = self.model.pick(index) else { return };
                let job = job_of(self.engine.destroy_snapshot(id, USER).await);
                assert_eq!(wait(&self.engine, job).await.state, JobState::Completed);
                self.model.remove(id);
            }
            Command::Convert(index) => {
                if let Some(id) = self.model.pick(index) {
                    self.convert(id).await;
                }
            }
            Command::CreatePoint(machine) => self.create_point(machine).await,
            Command::DestroyPoint(index) => {
                let Some(id) = self.model.pick_point(index) else { return };
                let job = job_of(self.engine.destroy_reference_point(id, USER).await);
                assert_eq!(wait(&self.engine, job).await.state, JobState::Completed);
                self.model.points.retain(|(point, _)| *point != id);
            }
            Command::DestroyTree(index) => {
                let Some(id) = self.model.pick(index) else { return };
                let outcome = self.engine.destroy_snapshot_tree(id, USER).await;
                if self.model.snapshots[&id].recovery {
                    assert!(outcome.is_err());
                    return;
                }
                assert_eq!(wait(&self.engine, job_of(outcome)).await.state, JobState::Completed);
                for id in self.model.tree(id) {
                    self.model.remove(id);
                }
            }
        }
    }

    async fn convert(&mut self, id: Guid) {
        let taken = self.model.snapshots[&id].clone();
        let outcome = self.engine.convert_to_reference_point(id, USER).await;
        if !taken.recovery {
            assert!(outcome.is_err());
            return;
        }
        let job = wait(&self.engine, job_of(outcome)).await;
        if !taken.tracked {
            assert_eq!(job.state, JobState::Exception);
            return;
        }
        self.model.remove(id);
        self.model.points.push((made(&job), Point { machine: taken.machine, snapshot: id, valid: true }));
    }

    async fn create_point(&mut self, machine: usize) {
        let system = guid(MACHINES[machine].0);
        let outcome = self.engine.create_reference_point(system, ConsistencyLevel::Unknown, USER).await;
        let job = wait(&self.engine, job_of(outcome)).await;
        if std::mem::take(&mut self.model.fails) {
            assert_eq!(job.state, JobState::Exception);
        } else {
            let id = made(&job);
            self.model.points.push((id, Point { machine, snapshot: id, valid: true }));
        }
    }

    async fn create(&mut self, machine: usize, recovery: bool) {
        let snapshot_type = if recovery { SnapshotType::Recovery } else { SnapshotType::Full };
        let request = creation(MACHINES[machine].0, snapshot_type);
        let job = wait(&self.engine, job_of(self.engine.create_snapshot(request, USER).await)).await;
        if std::mem::take(&mut self.model.fails) {
            assert_eq!(job.state, JobState::Exception);
        } else {
            self.model.take(made(&job), machine, recovery, None);
        }
    }

    async fn create_group(&mut self) {
        let (collection, snapshot_type) = (guid(SHOP), GroupSnapshotType::Standard);
        let request = CreateGroupSnapshot { collection, snapshot_type, settings: SnapshotSettings::default() };
        let job = wait(&self.engine, job_of(self.engine.create_group_snapshot(request, USER).await)).await;
        if std::mem::take(&mut self.model.fails) {
            assert_eq!(job.state, JobState::Exception);
            return;
        }
        let set = made(&job);
        let view = self.engine.view();
        for id in &view.snapshot_collection(set).unwrap().snapshots {
            let system = view.snapshot(*id).unwrap().system;
            let machine = MACHINES.iter().position(|(machine, _)| guid(*machine) == system).unwrap();
            self.model.take(*id, machine, false, Some(set));
        }
    }

    fn compare(&self) {
        let view = self.engine.view();
        let mut found: Vec<_> = view.snapshots().cloned().collect();
        found.sort_by_key(|snapshot| snapshot.sequence);
        let order: Vec<Guid> = found.iter().map(|snapshot| snapshot.id).collect();
        assert_eq!(order, self.model.order);
        for snapshot in &found {
            let taken = &self.model.snapshots[&snapshot.id];
            assert_eq!(snapshot.system, guid(MACHINES[taken.machine].0));
            assert_eq!((snapshot.parent, snapshot.snapshot_collection), (taken.parent, taken.set));
            assert_eq!(snapshot.kind == SnapshotKind::Recovery, taken.recovery);
            let children: Vec<Guid> = view.children_of(snapshot.id).map(|child| child.id).collect();
            let expected = self.model.order.iter().filter(|id| self.model.snapshots[id].parent == Some(snapshot.id));
            assert!(children.iter().eq(expected));
        }
        let mut points: Vec<_> = view.reference_points().cloned().collect();
        points.sort_by_key(|point| point.sequence);
        assert_eq!(points.len(), self.model.points.len());
        for (point, (id, expected)) in points.iter().zip(&self.model.points) {
            let found = (point.id, point.system, point.snapshot, point.valid);
            assert_eq!(found, (*id, guid(MACHINES[expected.machine].0), expected.snapshot, expected.valid));
        }
        let tracking = self.model.points.iter().map(|(_, point)| point.snapshot);
        let recovery = self.model.snapshots.iter().filter(|(_, taken)| taken.recovery).map(|(id, _)| *id);
        assert_eq!(self.host.held_tracking(), tracking.chain(recovery).collect::<BTreeSet<_>>());
        let held: BTreeSet<Guid> = self.model.order.iter().copied().collect();
        assert_eq!(self.host.held_snapshots(), held);
        let sets: BTreeSet<Guid> = self.model.snapshots.values().filter_map(|taken| taken.set).collect();
        assert_eq!(view.snapshot_collections().map(|set| set.id).collect::<BTreeSet<_>>(), sets);
        for (machine, (id, disk)) in MACHINES.iter().enumerate() {
            let system = view.system(guid(*id)).unwrap();
            let pointers = (system.current_snapshot, system.last_applied);
            assert_eq!(pointers, (self.model.current[machine], self.model.applied[machine]));
            assert_eq!(self.host.read_disk(guid(*id), disk).unwrap(), self.model.content[machine]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_the_model(commands in proptest::collection::vec(command(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let site = Site::new();
            let host = site.simulated();
            let engine = site.open_forgetful(Arc::<SimulatedHypervisor>::clone(&host)).await;
            track_all(&engine).await;
            let mut pair = Pair { host, engine, model: Model::default() };
            for command in &commands {
                pair.run(command).await;
                pair.compare();
            }
        });
    }
}
