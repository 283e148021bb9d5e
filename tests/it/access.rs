//! Roles and scopes: what each role may do, and that for a user with a scope the rest of the host does not exist,
//! whatever operation is tried.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use wsnapd::access::{Account, Principal, Role, Scheme, Scope};
use wsnapd::backend::{
    CollectionDefinition, DirectoryPools, DiskDefinition, DiskFormat, MachineDefinition, NetworkDefinition,
    PoolDefinition, PoolSnapshots, QemuMachine, SimulatedHypervisor,
};
use wsnapd::cim::{CimInstance, CimValue, ObjectPath};
use wsnapd::cimom::{AssociationFilter, CallContext, ObjectManager, Polymorphism, ProviderRegistry};
use wsnapd::engine::{
    CancelMode, CollectionChange, CollectionKind, ConsistencyLevel, CreateGroupSnapshot, CreateSnapshot,
    CreateVolumeSnapshot, DefineCollection, Engine, EngineError, EngineOptions, ExportSettings, Gate,
    GroupSnapshotType, Outcome, RequestedState, SnapshotSettings, SnapshotType, SqliteStore, SystemChange,
    VolumeOutcome,
};
use wsnapd::providers::{self, ProviderOptions, storage};
use wsnapd::time::{Clock, Guid, ManualClock, SequentialIds};
use wsnapd::wsman::{Encoding, Service, ServiceOptions};

use crate::audit::AuditMemory;
use crate::eventing_support::{V2, WQL, envelope};
use crate::support::schema;
use crate::tree::Node;
use crate::wsman::{between, fault_of};

const ENUMERATE: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Enumerate";
const GET: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get";
/// What the user with a scope sees: `web01` by its name, `web02` because it is in `front`.
const SCOPE: &str = "machine=web01;collection=front;pool=pool1";

fn guid(number: u64) -> Guid {
    format!("5C1C2F40-0000-4000-8000-{number:012X}").parse().unwrap()
}

pub(crate) const WEB: u64 = 0xA1;
const WEB2: u64 = 0xA2;
pub(crate) const HIDDEN: u64 = 0xA3;
const FRONT: u64 = 0xC1;
const HIDDEN_ALL: u64 = 0xC2;
const HIDDEN_NEST: u64 = 0xC3;

pub(crate) fn user(role: Role, scope: Option<&str>) -> Principal {
    let scope = scope.map(|text| Arc::new(text.parse::<Scope>().unwrap()));
    Principal::new(Arc::new(Account { name: "bob".into(), role, scope }), Scheme::Basic, [192, 0, 2, 7].into())
}

fn machine(id: u64, name: &str) -> MachineDefinition {
    let disk = DiskDefinition {
        name: "root".to_owned(),
        path: format!("/simulated/{name}.qcow2").into(),
        format: DiskFormat::Qcow2,
        read_only: false,
        pass_through: false,
    };
    let (notes, qemu) = (String::new(), QemuMachine::default());
    let bridge = if name.starts_with("hidden") { "hidden-bridge" } else { "front-bridge" };
    let (mac, bridge) = ("52:54:00:00:00:01".parse().unwrap(), Some(bridge.to_owned()));
    let networks = vec![NetworkDefinition { name: format!("lan of {name}"), mac, bridge }];
    MachineDefinition {
        id: guid(id),
        name: name.to_owned(),
        notes,
        memory_mb: 64,
        processors: 1,
        networks,
        qemu,
        disks: vec![disk],
    }
}

fn pool(directory: &Path, name: &str, volume: &str) -> PoolDefinition {
    let path = directory.join(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join(volume), [7; 4096]).unwrap();
    PoolDefinition { name: name.to_owned(), path, snapshots: PoolSnapshots::Copy }
}

/// A host of which a part is hidden from some: everything hidden has a name with `hidden` in it.
pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) gate: Gate,
    pub(crate) audit: Arc<AuditMemory>,
    manager: Arc<ObjectManager>,
    service: Service,
    clock: Arc<ManualClock>,
    _directory: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let pools = vec![pool(directory.path(), "pool1", "vol1"), pool(directory.path(), "hidden-pool", "far-vol")];
        let machines = vec![machine(WEB, "web01"), machine(WEB2, "web02"), machine(HIDDEN, "hidden-db")];
        let collection = |id, name: &str, members: &[u64]| CollectionDefinition {
            id: guid(id),
            name: name.to_owned(),
            members: members.iter().map(|id| guid(*id)).collect(),
        };
        let clock = Arc::new(ManualClock::new("2026-11-21T14:05:09Z".parse().unwrap()));
        let ids = Arc::new(SequentialIds::default());
        let audit = Arc::new(AuditMemory::default());
        let options = EngineOptions {
            audit: Arc::<AuditMemory>::clone(&audit),
            host_name: "HOST".to_owned(),
            collections: vec![
                collection(FRONT, "front", &[WEB, WEB2]),
                collection(HIDDEN_ALL, "hidden-all", &[WEB, HIDDEN]),
                collection(HIDDEN_NEST, "hidden-nest", &[FRONT]),
            ],
            export_directories: vec!["/nonexistent".into()],
            ..EngineOptions::new(
                Arc::new(SqliteStore::open(&directory.path().join("store.db")).unwrap()),
                Arc::new(SimulatedHypervisor::new(machines)),
                Arc::new(DirectoryPools::open(pools).unwrap()),
                Arc::<ManualClock>::clone(&clock),
                Arc::<SequentialIds>::clone(&ids),
            )
        };
        let engine = Engine::open(options).await.unwrap();
        let mut registry = ProviderRegistry::new();
        let about = ProviderOptions::new("HOST", guid(0xFF));
        providers::register(&mut registry, &schema(), &engine, &about).unwrap();
        storage::register(&mut registry, &schema(), Arc::clone(&engine), "HOST").unwrap();
        let manager = Arc::new(ObjectManager::new(schema(), registry));
        let options = ServiceOptions { machine: "HOST".into(), ..ServiceOptions::default() };
        let service = Service::new(Arc::clone(&manager), Arc::<ManualClock>::clone(&clock), ids, options)
            .with_audit(Arc::<AuditMemory>::clone(&audit));
        let world = Self {
            gate: Gate::new(Arc::clone(&engine)),
            audit,
            engine,
            manager,
            service,
            clock,
            _directory: directory,
        };
        world.fill().await;
        world
    }

    /// A snapshot of each machine, one of two collections, and volumes that were made from the hidden one.
    async fn fill(&self) {
        for id in [WEB, WEB2, HIDDEN] {
            self.wait(self.engine.create_snapshot(creation(id), "setup").await).await;
        }
        for id in [FRONT, HIDDEN_ALL] {
            // The name goes to the snapshots too, and one of them is of a machine in reach.
            let name = if id == FRONT { "together" } else { "second" };
            let settings = SnapshotSettings { name: Some(name.into()), ..SnapshotSettings::default() };
            let request =
                CreateGroupSnapshot { collection: guid(id), snapshot_type: GroupSnapshotType::Standard, settings };
            self.wait(self.engine.create_group_snapshot(request, "setup").await).await;
        }
        for id in [WEB, WEB2, HIDDEN] {
            let tracked = SystemChange { incremental_backup: Some(true), ..SystemChange::default() };
            self.engine.modify_system(guid(id), tracked).await.unwrap();
            self.wait(self.engine.create_reference_point(guid(id), ConsistencyLevel::Crash, "setup").await).await;
        }
        for id in [FRONT, HIDDEN_ALL] {
            let made = self.engine.create_group_reference_point(guid(id), ConsistencyLevel::Crash, "setup").await;
            self.wait(made).await;
        }
        for id in [WEB, HIDDEN] {
            let started = self.engine.request_state_change(guid(id), RequestedState::Enabled, "setup").await;
            self.wait(started).await;
        }
        let (pool1, source) = (self.pool("pool1"), self.volume("far-vol"));
        for target_pool in [Some(pool1), None] {
            let name = if target_pool.is_some() { "brought" } else { "hidden-copy" };
            let request = CreateVolumeSnapshot { source, name: Some(name.into()), target_pool };
            let outcome = match self.engine.create_volume_snapshot(request, "setup").await {
                Ok(VolumeOutcome::Started { job, .. }) => Ok(Outcome::<()>::Started { job }),
                Ok(VolumeOutcome::Done { .. }) => continue,
                Err(error) => Err(error),
            };
            self.wait(outcome).await;
        }
    }

    pub(crate) async fn wait<T: std::fmt::Debug>(&self, outcome: Result<Outcome<T>, EngineError>) {
        let Ok(Outcome::Started { job }) = outcome else { panic!("{outcome:?}") };
        for _ in 0..2000 {
            if self.engine.view().job(job).is_some_and(|job| job.state.is_final()) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        panic!("job {job} does not end");
    }

    fn pool(&self, name: &str) -> Guid {
        self.engine.view().pools().find(|pool| pool.name == name).unwrap().id
    }

    fn volume(&self, file: &str) -> Guid {
        self.engine.view().volumes().find(|volume| volume.file_name == file).unwrap().id
    }

    /// Names and identities of everything that is out of reach, in lower case.
    fn hidden(&self, principal: &Principal) -> BTreeSet<String> {
        let (full, seen) = (self.engine.view(), self.gate.view(principal));
        let mut hidden = BTreeSet::from(["hidden".to_owned()]);
        let mut add = |id: Guid, seen: bool| {
            if !seen {
                hidden.insert(id.to_string().to_lowercase());
            }
        };
        full.systems().for_each(|one| add(one.id, seen.system(one.id).is_some()));
        full.snapshots().for_each(|one| add(one.id, seen.snapshot(one.id).is_some()));
        full.collections().for_each(|one| add(one.id, seen.collection(one.id).is_some()));
        full.snapshot_collections().for_each(|one| add(one.id, seen.snapshot_collection(one.id).is_some()));
        full.reference_points().for_each(|one| add(one.id, seen.reference_point(one.id).is_some()));
        full.reference_point_collections()
            .for_each(|one| add(one.id, seen.reference_point_collection(one.id).is_some()));
        full.pools().for_each(|one| add(one.id, seen.pool(one.id).is_some()));
        full.volumes().for_each(|one| add(one.id, seen.volume(one.id).is_some()));
        full.jobs().for_each(|one| add(one.id, seen.job(one.id).is_some()));
        hidden
    }

    fn context(&self, principal: &Principal, namespace: &str) -> CallContext {
        CallContext {
            principal: principal.clone(),
            namespace: namespace.into(),
            now: self.clock.now(),
            options: Arc::new([]),
        }
    }

    /// Every instance of every class.
    fn everything(&self, principal: &Principal) -> Vec<(CallContext, CimInstance)> {
        let mut found = Vec::new();
        for namespace in schema().namespaces() {
            let cx = self.context(principal, namespace.name());
            for class in namespace.classes() {
                let stream = self.manager.enumerate(&cx, class, Polymorphism::None).unwrap();
                found.extend(stream.map(|instance| (cx.clone(), instance.unwrap())));
            }
        }
        found
    }

    async fn send(&self, principal: &Principal, text: &str) -> String {
        self.service.handle(principal, text, Encoding::Utf8).await.body
    }
}

pub(crate) fn creation(id: u64) -> CreateSnapshot {
    let name = if id == HIDDEN { "hidden-snapshot" } else { "first" };
    let settings = SnapshotSettings { name: Some(name.into()), ..SnapshotSettings::default() };
    CreateSnapshot { system: guid(id), snapshot_type: SnapshotType::Disk, settings }
}

/// All values of an instance, references and embedded instances too.
fn text_of(instance: &CimInstance) -> String {
    let mut text = String::new();
    for (property, value) in instance.properties() {
        match value {
            CimValue::Instance(inner) => text += &text_of(inner),
            other => writeln!(text, "{}={other:?}", property.name).unwrap(),
        }
    }
    text.to_lowercase()
}

#[track_caller]
fn tells_nothing(what: &str, text: &str, hidden: &BTreeSet<String>) {
    let text = text.to_lowercase();
    for word in hidden {
        assert!(!text.contains(word), "{what} tells of {word}:\n{text}");
    }
}

#[tokio::test]
async fn what_is_out_of_scope_is_in_no_instance_and_behind_no_path() {
    let world = World::start().await;
    let (bob, all) = (user(Role::Administrator, Some(SCOPE)), user(Role::Administrator, None));
    let hidden = world.hidden(&bob);
    assert!(hidden.len() > 12, "{hidden:?}");
    let seen = world.everything(&bob);
    let paths: BTreeSet<String> = seen.iter().map(|(cx, one)| one.path(&cx.namespace).to_wmi_text("HOST")).collect();
    for (cx, instance) in &seen {
        tells_nothing(instance.class().name().as_str(), &text_of(instance), &hidden);
        let (source, filter) = (instance.path(&cx.namespace), AssociationFilter::default());
        for link in world.manager.references(cx, instance, &filter).unwrap() {
            tells_nothing(&format!("a reference of {source:?}"), &text_of(&link), &hidden);
        }
        for end in world.manager.associators(cx, instance, &filter).unwrap() {
            tells_nothing(&format!("an associator of {source:?}"), &text_of(&end), &hidden);
        }
    }
    let everything = world.everything(&all);
    assert!(everything.len() > seen.len() + 20, "{} of {}", seen.len(), everything.len());
    for name in ["web01", "web02", "front", "together", "vol1", "brought", "front-bridge", "msvm_shutdowncomponent"] {
        assert!(seen.iter().any(|(_, one)| text_of(one).contains(name)), "{name} is not seen");
    }
    // What the user does not see is not found by its path either, so it is no source of associations.
    for (cx, instance) in &everything {
        let path = instance.path(&cx.namespace);
        if paths.contains(&path.to_wmi_text("HOST")) {
            continue;
        }
        let cx = world.context(&bob, &cx.namespace);
        assert!(world.manager.find(&cx, instance.class(), &path).is_err(), "{path:?} is found");
    }
}

#[tokio::test]
async fn enumerations_queries_and_counts_end_at_the_scope() {
    let world = World::start().await;
    let (bob, all) = (user(Role::Reader, Some(SCOPE)), user(Role::Reader, None));
    let hidden = world.hidden(&bob);
    let optimised = "<w:OptimizeEnumeration/><w:MaxElements>1000</w:MaxElements>";
    let count = "<w:RequestTotalItemsCountEstimate/>";
    let query = |text: &str| format!("<w:Filter Dialect=\"{WQL}\">{}</w:Filter>", text.replace('<', "&lt;"));
    for (class, filter) in [
        ("Msvm_ComputerSystem", String::new()),
        ("Msvm_VirtualSystemSettingData", String::new()),
        ("Msvm_ConcreteJob", String::new()),
        ("CIM_ManagedElement", String::new()),
        ("*", query("SELECT * FROM Msvm_ComputerSystem WHERE ElementName LIKE '%d%'")),
        ("*", query("SELECT ElementName FROM Msvm_ComputerSystem WHERE ElementName <> 'web01'")),
        (
            "*",
            query(&format!(
                "ASSOCIATORS OF {{Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{}'}}",
                guid(WEB)
            )),
        ),
        (
            "*",
            query(&format!(
                "REFERENCES OF {{Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{}'}}",
                guid(WEB)
            )),
        ),
    ] {
        let body = format!("<n:Enumerate>{filter}{optimised}</n:Enumerate>");
        let text = envelope(ENUMERATE, &format!("{V2}/{class}"), count, &body);
        let (part, whole) = (world.send(&bob, &text).await, world.send(&all, &text).await);
        assert!(!part.contains("s:Fault"), "{class} {filter}: {part}");
        tells_nothing(&format!("{class} {filter}"), &part, &hidden);
        let told = whole.to_lowercase();
        assert!(hidden.iter().any(|word| told.contains(word)), "{class} {filter} shows all to others: {whole}");
        let items = |body: &str| Node::parse(body).find("Items").map_or(0, |items| items.children.len());
        for body in [&part, &whole] {
            let estimate = between(body, "<w:TotalItemsCountEstimate>", "</w:TotalItemsCountEstimate>");
            assert!(estimate.is_empty() || estimate == items(body).to_string(), "{class} {filter}: {estimate}");
        }
        assert!(items(&part) < items(&whole), "{class} {filter}");
    }
    // A Get of something hidden is answered as that of something that never was.
    let get = |id: Guid| {
        let selectors = format!(
            "<w:SelectorSet><w:Selector Name=\"CreationClassName\">Msvm_ComputerSystem</w:Selector>\
             <w:Selector Name=\"Name\">{id}</w:Selector></w:SelectorSet>"
        );
        envelope(GET, &format!("{V2}/Msvm_ComputerSystem"), &selectors, "")
    };
    let strip =
        |body: String, id: Guid| body.replace(&id.to_string(), "ID").split_once("<s:Body>").unwrap().1.to_owned();
    let (there, never) = (guid(HIDDEN), guid(0xDEAD));
    assert_eq!(strip(world.send(&bob, &get(there)).await, there), strip(world.send(&bob, &get(never)).await, never));
    for verb in ["ASSOCIATORS", "REFERENCES"] {
        let of = |id: Guid| {
            let path = format!("Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{id}'");
            let body = format!("<n:Enumerate>{}{optimised}</n:Enumerate>", query(&format!("{verb} OF {{{path}}}")));
            envelope(ENUMERATE, &format!("{V2}/*"), "", &body)
        };
        assert_eq!(strip(world.send(&bob, &of(there)).await, there), strip(world.send(&bob, &of(never)).await, never));
    }
    assert!(world.send(&bob, &get(guid(WEB))).await.contains("web01"));
}

/// Every command with an object in reach and one out of reach, if it takes an object; the role it needs.
async fn commands(world: &World, bob: &Principal, hidden: bool) -> Vec<(&'static str, Role, Result<(), EngineError>)> {
    let gate = &world.gate;
    let full = world.engine.view();
    let system = guid(if hidden { HIDDEN } else { WEB2 });
    let collection = guid(if hidden { HIDDEN_ALL } else { FRONT });
    let snapshot = full.snapshots_of(system).next().unwrap().id;
    let set = full.snapshot_collections_of(collection).next().unwrap().id;
    let job = full.jobs_of(system).next().unwrap().id;
    let source = world.volume(if hidden { "far-vol" } else { "vol1" });
    let settings = SnapshotSettings::default;
    let group = CreateGroupSnapshot { collection, snapshot_type: GroupSnapshotType::Standard, settings: settings() };
    let volume = CreateVolumeSnapshot { source, name: None, target_pool: hidden.then(|| world.pool("hidden-pool")) };
    let create = CreateSnapshot { system, snapshot_type: SnapshotType::Disk, settings: settings() };
    let (operator, administrator) = (Role::Operator, Role::Administrator);
    let point = full.reference_points_of(system).next().map_or(guid(0xBAD), |point| point.id);
    let points = full.reference_point_collections_of(collection).next().map_or(guid(0xBAD), |set| set.id);
    let crash = ConsistencyLevel::Crash;
    let export = |base| ExportSettings {
        directory: "/nonexistent/bob/export".into(),
        subdirectories: false,
        disks: true,
        memory: false,
        excluded_disks: Vec::new(),
        base,
        intent: wsnapd::engine::BackupIntent::PreserveChain,
    };
    let other = if hidden { guid(HIDDEN) } else { guid(WEB) };
    vec![
        ("create-snapshot", operator, gate.create_snapshot(create, bob).await.map(drop)),
        ("modify-snapshot", operator, gate.modify_snapshot(snapshot, Some("x".into()), None, bob).await),
        ("convert", operator, gate.convert_to_reference_point(snapshot, bob).await.map(drop)),
        ("create-group", operator, gate.create_group_snapshot(group, bob).await.map(drop)),
        ("create-volume", operator, gate.create_volume_snapshot(volume, bob).await.map(drop)),
        ("cancel", operator, gate.cancel_job(job, CancelMode::Terminate, bob).await.map(drop)),
        ("create-point", operator, gate.create_reference_point(system, crash, bob).await.map(drop)),
        ("create-points", operator, gate.create_group_reference_point(collection, crash, bob).await.map(drop)),
        ("convert-group", operator, gate.convert_group_to_reference_point(set, bob).await.map(drop)),
        ("export", administrator, gate.export_snapshot(snapshot, export(None), bob).await.map(drop)),
        ("export-group", administrator, gate.export_group_snapshot(set, export(None), bob).await.map(drop)),
        ("destroy-point", administrator, gate.destroy_reference_point(point, bob).await.map(drop)),
        ("destroy-points", administrator, gate.destroy_group_reference_point(points, bob).await.map(drop)),
        ("modify-machine", administrator, gate.modify_system(system, SystemChange::default(), bob).await),
        ("apply-snapshot", administrator, gate.apply_snapshot(snapshot, bob).await.map(drop)),
        ("clear-state", administrator, gate.clear_snapshot_state(snapshot, bob).await.map(drop)),
        ("apply-group", administrator, gate.apply_group_snapshot(set, bob).await.map(drop)),
        (
            "change-state",
            administrator,
            gate.request_state_change(system, RequestedState::Disabled, bob).await.map(drop),
        ),
        ("add", administrator, gate.change_collection(collection, CollectionChange::Add(other), bob).await),
        ("destroy-tree", administrator, gate.destroy_snapshot_tree(snapshot, bob).await.map(drop)),
        ("destroy-snapshot", administrator, gate.destroy_snapshot(snapshot, bob).await.map(drop)),
        ("destroy-group", administrator, gate.destroy_group_snapshot(set, bob).await.map(drop)),
        ("remove", administrator, gate.change_collection(collection, CollectionChange::Remove(other), bob).await),
    ]
}

#[tokio::test]
async fn each_role_may_do_what_the_table_says() {
    for role in Role::ALL {
        let world = World::start().await;
        for (name, needed, result) in commands(&world, &user(role, None), false).await {
            let denied = matches!(result, Err(EngineError::AccessDenied(_)));
            assert_eq!(denied, role < needed, "{role} {name}: {result:?}");
        }
        let define = DefineCollection { name: "mine".into(), id: None, kind: CollectionKind::Machines };
        let defined = world.gate.define_collection(define, &user(role, None)).await;
        assert_eq!(defined.is_ok(), role == Role::Administrator, "{defined:?}");
    }
}

#[tokio::test]
async fn a_command_on_something_out_of_scope_finds_nothing_and_changes_nothing() {
    let world = World::start().await;
    let bob = user(Role::Administrator, Some(SCOPE));
    let before = world.engine.view();
    for (name, _, result) in commands(&world, &bob, true).await {
        let text = format!("{result:?}");
        assert!(text.starts_with("Err(NoSuch"), "{name}: {text}");
    }
    let after = world.engine.view();
    assert!(Arc::ptr_eq(&before, &after), "nothing was changed");
    // A target pool and a member that are out of reach, with an object that is in reach.
    let hidden_pool = Some(world.pool("hidden-pool"));
    let volume = CreateVolumeSnapshot { source: world.volume("vol1"), name: None, target_pool: hidden_pool };
    assert!(matches!(world.gate.create_volume_snapshot(volume, &bob).await, Err(EngineError::NoSuchPool(_))));
    let add = CollectionChange::Add(guid(HIDDEN));
    let added = world.gate.change_collection(guid(FRONT), add, &bob).await;
    assert!(matches!(added, Err(EngineError::NoSuchSystem(_))), "{added:?}");
    let base = Some(before.reference_points_of(guid(HIDDEN)).next().map_or(guid(0xBAD), |point| point.id));
    let snapshot = before.snapshots_of(guid(WEB)).next().unwrap().id;
    let settings = ExportSettings {
        directory: "/nonexistent/bob/export".into(),
        subdirectories: false,
        disks: true,
        memory: false,
        excluded_disks: Vec::new(),
        base,
        intent: wsnapd::engine::BackupIntent::PreserveChain,
    };
    let exported = world.gate.export_snapshot(snapshot, settings.clone(), &bob).await;
    assert!(matches!(exported, Err(EngineError::NoSuchReferencePoint(_))), "{exported:?}");
    // A place for exports is that of the own name.
    for directory in [
        "/nonexistent/export",
        "/nonexistent/bobby/export",
        "/nonexistent/BOB/export",
        "/nonexistent/bob/../export",
        "/elsewhere/bob/export",
        "bob/export",
        "/nonexistent",
    ] {
        let settings = ExportSettings { directory: directory.into(), base: None, ..settings.clone() };
        let exported = world.gate.export_snapshot(snapshot, settings, &bob).await;
        assert!(matches!(exported, Err(EngineError::AccessDenied(_))), "{directory}: {exported:?}");
    }
    // What would change something outside, or leave the scope.
    let destroyed = world.gate.destroy_collection(guid(FRONT), &bob).await;
    assert!(matches!(destroyed, Err(EngineError::AccessDenied(_))), "it lies in a hidden one: {destroyed:?}");
    let renamed = world.gate.rename_collection(guid(FRONT), "back".into(), &bob).await;
    assert!(matches!(renamed, Err(EngineError::AccessDenied(_))), "{renamed:?}");
    for (id, name) in [(None, "other"), (Some(guid(0xC9)), "front")] {
        let define = DefineCollection { name: name.into(), id, kind: CollectionKind::Machines };
        let defined = world.gate.define_collection(define, &bob).await;
        assert!(matches!(defined, Err(EngineError::AccessDenied(_))), "{name}: {defined:?}");
    }
    assert!(Arc::ptr_eq(&before, &world.engine.view()), "nothing was changed");
    // Inside of the scope all goes on.
    let rename = SystemChange { name: Some("web9".into()), ..SystemChange::default() };
    let only_name = user(Role::Administrator, Some("machine=web0*"));
    let renamed = world.gate.modify_system(guid(WEB), rename.clone(), &only_name).await;
    assert!(matches!(renamed, Err(EngineError::AccessDenied(_))), "{renamed:?}");
    world.gate.modify_system(guid(WEB), rename, &bob).await.unwrap();
    world.wait(world.gate.create_snapshot(creation(WEB2), &bob).await).await;
}

#[tokio::test]
async fn a_part_of_the_view_follows_every_change() {
    let world = World::start().await;
    let bob = user(Role::Reader, Some(SCOPE));
    assert!(Arc::ptr_eq(&world.gate.view(&bob), &world.gate.view(&bob)), "made once for each change");
    assert!(Arc::ptr_eq(&world.gate.view(&user(Role::Reader, None)), &world.engine.view()), "no copy without a scope");
    assert!(world.gate.view(&bob).system(guid(HIDDEN)).is_none());
    world.engine.change_collection(guid(FRONT), CollectionChange::Add(guid(HIDDEN))).await.unwrap();
    let view = world.gate.view(&bob);
    assert!(view.system(guid(HIDDEN)).is_some(), "what is put into a collection in scope is in scope");
    assert!(view.snapshots_of(guid(HIDDEN)).next().is_some());
    world.engine.change_collection(guid(FRONT), CollectionChange::Remove(guid(HIDDEN))).await.unwrap();
    assert!(world.gate.view(&bob).system(guid(HIDDEN)).is_none());
    let nothing = user(Role::Reader, Some("machine=none"));
    let view = world.gate.view(&nothing);
    assert_eq!((view.systems().count(), view.jobs().count(), view.pools().count()), (0, 0, 0));
}

#[tokio::test]
async fn a_right_that_is_missing_is_the_fault_access_denied() {
    let world = World::start().await;
    let (reader, bob) = (user(Role::Reader, None), user(Role::Administrator, Some(SCOPE)));
    let service = "Msvm_VirtualSystemSnapshotService";
    let create = |system: Guid| {
        let reference = format!(
            "<a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address><a:ReferenceParameters>\
             <w:ResourceURI>{V2}/Msvm_ComputerSystem</w:ResourceURI><w:SelectorSet>\
             <w:Selector Name=\"CreationClassName\">Msvm_ComputerSystem</w:Selector>\
             <w:Selector Name=\"Name\">{system}</w:Selector></w:SelectorSet></a:ReferenceParameters>"
        );
        let body = format!(
            "<r:CreateSnapshot_INPUT xmlns:r=\"{V2}/{service}\"><r:AffectedSystem>{reference}</r:AffectedSystem>\
             <r:SnapshotType>3</r:SnapshotType></r:CreateSnapshot_INPUT>"
        );
        let selectors =
            format!("<w:SelectorSet><w:Selector Name=\"CreationClassName\">{service}</w:Selector></w:SelectorSet>");
        envelope(&format!("{V2}/{service}/CreateSnapshot"), &format!("{V2}/{service}"), &selectors, &body)
    };
    let refused = world.send(&reader, &create(guid(WEB))).await;
    assert_eq!(fault_of(&refused), "w:AccessDenied//5", "{refused}");
    // Something out of scope is a parameter that names nothing.
    let hidden = world.send(&bob, &create(guid(HIDDEN))).await;
    let code = |body: &str| Node::parse(body).find("ReturnValue").map(|value| value.text.clone());
    assert_eq!(code(&hidden).as_deref(), Some("32773"), "{hidden}");
    tells_nothing("the answer", &hidden.replace(&guid(HIDDEN).to_string(), ""), &world.hidden(&bob));
    let started = world.send(&bob, &create(guid(WEB))).await;
    assert_eq!(code(&started).as_deref(), Some("4096"), "{started}");
    for action in ["Put", "Create", "Delete"] {
        let text = envelope(
            &format!("http://schemas.xmlsoap.org/ws/2004/09/transfer/{action}"),
            &format!("{V2}/Msvm_ComputerSystem"),
            "",
            "",
        );
        world.audit.take();
        let reader = world.send(&reader, &text).await;
        let action = format!("http://schemas.xmlsoap.org/ws/2004/09/transfer/{action}");
        let line = format!("refused: The role of the user does not permit the action {action}.");
        let recorded = world.audit.take();
        assert!(recorded.len() == 1 && recorded[0].ends_with(&format!("{action} {line}")), "{recorded:?}");
        let bob = world.send(&bob, &text).await;
        assert_eq!(fault_of(&reader), "w:AccessDenied//5", "{reader}");
        assert!(!fault_of(&bob).contains("AccessDenied"), "{bob}");
    }
    let path = ObjectPath::parse(&format!(
        "Msvm_ComputerSystem.CreationClassName=\"Msvm_ComputerSystem\",Name=\"{}\"",
        guid(WEB)
    ));
    let (cx, class) = (world.context(&reader, "root/virtualization/v2"), "Msvm_ComputerSystem");
    let class = world.manager.class("root/virtualization/v2", class).unwrap();
    assert!(world.manager.find(&cx, class, &path.unwrap()).is_ok(), "readers read");
}

#[tokio::test]
async fn an_enumeration_of_somebody_else_is_refused_and_recorded() {
    let world = World::start().await;
    let (alice, bob) = (user(Role::Administrator, None), user(Role::Reader, Some(SCOPE)));
    let uri = format!("{V2}/Msvm_ComputerSystem");
    let ask = |verb: &str, body: &str| {
        let body = format!("<n:{verb} xmlns:n=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\">{body}</n:{verb}>");
        envelope(&format!("http://schemas.xmlsoap.org/ws/2004/09/enumeration/{verb}"), &uri, "", &body)
    };
    let begun = world.send(&alice, &ask("Enumerate", "")).await;
    let context = Node::parse(&begun).find("EnumerationContext").unwrap().text.clone();
    let context = format!("<n:EnumerationContext>{context}</n:EnumerationContext>");
    for verb in ["Pull", "Release"] {
        world.audit.take();
        let refused = world.send(&bob, &ask(verb, &context)).await;
        assert!(fault_of(&refused).starts_with("w:AccessDenied"), "{refused}");
        let recorded = world.audit.take();
        assert_eq!(recorded.len(), 1, "{recorded:?}");
        assert!(recorded[0].ends_with("refused: The enumeration was opened by another user."), "{recorded:?}");
    }
    let pulled = world.send(&alice, &ask("Pull", &context)).await;
    assert!(pulled.contains("PullResponse"), "{pulled}");
}
