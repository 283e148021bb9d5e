//! A host without sockets: schema, providers and engine over simulated machines, driven as a client drives it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tempfile::TempDir;
use wsnapd::backend::{
    CollectionDefinition, DirectoryPools, DiskDefinition, DiskFormat, MachineDefinition, NetworkDefinition,
    SimulatedHypervisor,
};
use wsnapd::cim::{CimError, CimInstance, CimValue, ClassName, ObjectPath, PropertyName, Schema};
use wsnapd::cimom::{
    AssociationFilter, CallContext, LookupError, MethodArguments, MethodResult, ObjectManager, Polymorphism, Principal,
    ProviderRegistry,
};
use wsnapd::engine::{Engine, EngineOptions, SqliteStore};
use wsnapd::providers::{ProviderOptions, generated, register};
use wsnapd::time::{Clock, Guid, ManualClock, SequentialIds};

pub(crate) const HOST: &str = "HOST1";
pub(crate) const V2: &str = "root/virtualization/v2";
pub(crate) const CLUSTER: &str = "root/HyperVCluster/v2";
pub(crate) const WEB: &str = "7B5D1C2E-0001-4A59-9F30-9F2B7F1B6A01";
pub(crate) const DB: &str = "7B5D1C2E-0002-4A59-9F30-9F2B7F1B6A01";
pub(crate) const SHOP: &str = "7B5D1C2E-00C1-4A59-9F30-9F2B7F1B6A01";
pub(crate) const NOBODY: &str = "7B5D1C2E-FFFF-4A59-9F30-9F2B7F1B6A01";

/// The host under test. Its files go with it.
pub(crate) struct Host {
    pub(crate) manager: ObjectManager,
    pub(crate) engine: Arc<Engine>,
    pub(crate) machines: Arc<SimulatedHypervisor>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) directory: TempDir,
}

pub(crate) fn schema() -> Arc<Schema> {
    static SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    Arc::clone(SCHEMA.get_or_init(|| Arc::new(generated::load().unwrap())))
}

pub(crate) fn guid(text: &str) -> Guid {
    text.parse().unwrap()
}

fn machine(id: &str, name: &str, disks: &[(&str, bool)]) -> MachineDefinition {
    let disk = |&(disk, pass_through): &(&str, bool)| DiskDefinition {
        name: disk.to_owned(),
        path: format!("/disks/{name}-{disk}.qcow2").into(),
        format: DiskFormat::Qcow2,
        read_only: false,
        pass_through,
    };
    MachineDefinition {
        id: guid(id),
        name: name.to_owned(),
        notes: format!("about {name}"),
        memory_mb: 2048,
        processors: 2,
        networks: Vec::new(),
        disks: disks.iter().map(disk).collect(),
        qemu: wsnapd::backend::QemuMachine::default(),
    }
}

impl Host {
    /// `web01` with one disk and `db01` with two, both off, in the collection `shop`.
    pub(crate) async fn start() -> Self {
        Self::with(vec![
            machine(WEB, "web01", &[("root", false)]),
            machine(DB, "db01", &[("root", false), ("data", false)]),
        ])
        .await
    }

    /// As [`start`](Self::start), but the second disk of `db01` is a device of the host.
    pub(crate) async fn with_pass_through() -> Self {
        Self::with(vec![
            machine(WEB, "web01", &[("root", false)]),
            machine(DB, "db01", &[("root", false), ("tape", true)]),
        ])
        .await
    }

    /// As [`start`](Self::start), but `web01` has two network cards, the second on no bridge.
    pub(crate) async fn with_networks() -> Self {
        let card = |name: &str, mac: &str, bridge: Option<&str>| NetworkDefinition {
            name: name.to_owned(),
            mac: mac.parse().unwrap(),
            bridge: bridge.map(str::to_owned),
        };
        let networks = vec![card("lan", "52:54:00:0a:0b:0c", Some("br0")), card("spare", "52:54:00:0a:0b:0d", None)];
        let web = MachineDefinition { networks, ..machine(WEB, "web01", &[("root", false)]) };
        Self::with(vec![web, machine(DB, "db01", &[("root", false)])]).await
    }

    /// Three hundred machines, so that a list has several portions.
    pub(crate) async fn with_many_machines() -> Self {
        let one =
            |number: u32| machine(&format!("7B5D1C2E-1000-4A59-9F30-9F2B7F1B{number:04X}"), "one", &[("root", false)]);
        Self::with((0..300).map(one).collect()).await
    }

    async fn with(definitions: Vec<MachineDefinition>) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join("exports")).unwrap();
        let members = definitions.iter().map(|definition| definition.id).collect();
        let machines = Arc::new(SimulatedHypervisor::new(definitions));
        let clock = Arc::new(ManualClock::new("2026-11-21T14:05:09Z".parse().unwrap()));
        let store = Arc::new(SqliteStore::open(&directory.path().join("store.db")).unwrap());
        let options = EngineOptions {
            host_name: HOST.to_owned(),
            collections: vec![CollectionDefinition { name: "shop".to_owned(), id: guid(SHOP), members }],
            queue_limit: 2,
            export_directories: vec![directory.path().join("exports")],
            ..EngineOptions::new(
                store,
                Arc::<SimulatedHypervisor>::clone(&machines),
                Arc::new(DirectoryPools::open(Vec::new()).unwrap()),
                Arc::<ManualClock>::clone(&clock),
                Arc::new(SequentialIds::default()),
            )
        };
        let engine = Engine::open(options).await.unwrap();
        let mut registry = ProviderRegistry::new();
        let names =
            ProviderOptions { aliases: vec!["host1.example.com".into()], ..ProviderOptions::new(HOST, guid(NOBODY)) };
        register(&mut registry, &schema(), &engine, &names).unwrap();
        assert_eq!(registry.unknown_classes(&schema()), Vec::<String>::new());
        let manager = ObjectManager::new(schema(), registry);
        Self { manager, engine, machines, clock, directory }
    }

    pub(crate) fn context(&self, namespace: &str) -> CallContext {
        CallContext {
            principal: Principal::local("admin"),
            namespace: namespace.into(),
            now: self.clock.now(),
            options: Arc::new([]),
        }
    }

    /// All instances of a class and of its subclasses.
    pub(crate) fn enumerate_in(&self, namespace: &str, class: &str) -> Vec<CimInstance> {
        let class = self.manager.class(namespace, class).unwrap();
        let stream = self.manager.enumerate(&self.context(namespace), class, Polymorphism::default()).unwrap();
        stream.collect::<Result<_, _>>().unwrap()
    }

    pub(crate) fn enumerate(&self, class: &str) -> Vec<CimInstance> {
        self.enumerate_in(V2, class)
    }

    pub(crate) fn try_get(&self, namespace: &str, path: &ObjectPath) -> Result<CimInstance, LookupError> {
        let class = self.manager.class(namespace, path.class_name().as_str()).unwrap();
        self.manager.find(&self.context(namespace), class, path)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &ObjectPath) -> CimInstance {
        self.try_get(path.namespace().unwrap(), path).unwrap()
    }

    /// Calls a method as the dispatcher does.
    pub(crate) async fn try_invoke(
        &self,
        target: &ObjectPath,
        method: &str,
        arguments: &[(&'static str, CimValue)],
    ) -> Result<MethodResult, CimError> {
        let instance = self.get(target);
        let cx = self.context(target.namespace().unwrap());
        let method = Arc::clone(instance.class().method(method).unwrap());
        let mut given = MethodArguments::new();
        for (name, value) in arguments {
            assert!(method.parameter(name).unwrap().is_in, "{name}");
            given.insert(PropertyName::from_static(name), value.clone());
        }
        let path = instance.path(&cx.namespace);
        self.manager.invoke(&cx, instance.class(), &path, &method, given).await
    }

    pub(crate) async fn invoke(
        &self,
        target: &ObjectPath,
        method: &str,
        arguments: &[(&'static str, CimValue)],
    ) -> Answer {
        let result = self.try_invoke(target, method, arguments).await.unwrap();
        let code = u32::try_from(result.return_value.as_u64().unwrap()).unwrap();
        Answer { code, output: result.output }
    }

    /// Calls a method, expects a job and waits for its end; answers the job.
    pub(crate) async fn run(
        &self,
        target: &ObjectPath,
        method: &str,
        arguments: &[(&'static str, CimValue)],
    ) -> CimInstance {
        let answer = self.invoke(target, method, arguments).await;
        assert_eq!(answer.code, 4096, "{method}");
        self.wait(&answer.reference("Job")).await
    }

    /// As [`run`](Self::run); the job must succeed as os-win wants it.
    pub(crate) async fn run_well(
        &self,
        target: &ObjectPath,
        method: &str,
        arguments: &[(&'static str, CimValue)],
    ) -> CimInstance {
        let job = self.run(target, method, arguments).await;
        assert_eq!(job.get("ErrorDescription"), &CimValue::from(""));
        assert_eq!((number(&job, "JobState"), number(&job, "ErrorCode")), (7, 0));
        job
    }

    /// Polls a job until it has ended, and a little longer until what it did is seen.
    pub(crate) async fn wait(&self, job: &ObjectPath) -> CimInstance {
        for _ in 0..2000 {
            let instance = self.get(job);
            let state = number(&instance, "JobState");
            assert!(!(2..=3).contains(&state), "clients take a job first seen in {state} for a failure");
            if state > 6 {
                return instance;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("the job does not end: {job:?}");
    }

    pub(crate) fn associators(
        &self,
        source: &ObjectPath,
        association: &str,
        result: Option<&str>,
        roles: Option<(&str, &str)>,
    ) -> Vec<CimInstance> {
        let filter = AssociationFilter {
            association_class: (!association.is_empty()).then(|| ClassName::new(association)),
            result_class: result.map(ClassName::new),
            role: roles.map(|(role, _)| PropertyName::new(role)),
            result_role: roles.map(|(_, role)| PropertyName::new(role)),
            ..AssociationFilter::default()
        };
        self.manager.associators(&self.context(source.namespace().unwrap()), &self.get(source), &filter).unwrap()
    }

    pub(crate) fn references(&self, source: &ObjectPath, association: &str) -> Vec<CimInstance> {
        let filter = AssociationFilter { result_class: Some(ClassName::new(association)), ..Default::default() };
        self.manager.references(&self.context(source.namespace().unwrap()), &self.get(source), &filter).unwrap()
    }

    /// The GUIDs of what an association leads to, in its order.
    pub(crate) fn linked(&self, source: &ObjectPath, association: &str) -> Vec<Guid> {
        self.associators(source, association, None, None).iter().map(identity).collect()
    }

    /// Takes a snapshot of type 2 and answers its record, found through the job.
    pub(crate) async fn snapshot(&self, machine: &str) -> ObjectPath {
        let arguments = [("AffectedSystem", system(machine).into()), ("SnapshotType", CimValue::Uint16(2))];
        let job = self.run_well(&snapshot_service(V2), "CreateSnapshot", &arguments).await;
        let made =
            self.associators(&job.path(V2), "Msvm_AffectedJobElement", Some("Msvm_VirtualSystemSettingData"), None);
        assert_eq!(made.len(), 1, "a backup client wants exactly one");
        made[0].path(V2)
    }
}

/// What a method answered.
pub(crate) struct Answer {
    pub(crate) code: u32,
    pub(crate) output: Vec<(PropertyName, CimValue)>,
}

impl Answer {
    pub(crate) fn get(&self, name: &str) -> Option<&CimValue> {
        self.output.iter().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    #[track_caller]
    pub(crate) fn reference(&self, name: &str) -> ObjectPath {
        ObjectPath::clone(self.get(name).unwrap().as_reference().unwrap())
    }
}

pub(crate) fn system(id: &str) -> ObjectPath {
    system_in(V2, id)
}

pub(crate) fn system_in(namespace: &str, id: &str) -> ObjectPath {
    ObjectPath::new(namespace, ClassName::new("Msvm_ComputerSystem"))
        .with_key("CreationClassName", "Msvm_ComputerSystem")
        .with_key("Name", id)
}

pub(crate) fn settings(id: &str) -> ObjectPath {
    ObjectPath::new(V2, ClassName::new("Msvm_VirtualSystemSettingData"))
        .with_key("InstanceID", format!("Microsoft:{id}"))
}

fn service(namespace: &str, class: &str) -> ObjectPath {
    ObjectPath::new(namespace, ClassName::new(class)).with_key("CreationClassName", class)
}

pub(crate) fn snapshot_service(namespace: &str) -> ObjectPath {
    service(namespace, "Msvm_VirtualSystemSnapshotService")
}

pub(crate) fn management_service(namespace: &str) -> ObjectPath {
    service(namespace, "Msvm_VirtualSystemManagementService")
}

pub(crate) fn collection_snapshot_service(namespace: &str) -> ObjectPath {
    service(namespace, "Msvm_CollectionSnapshotService")
}

pub(crate) fn reference_point_service(namespace: &str) -> ObjectPath {
    service(namespace, "Msvm_VirtualSystemReferencePointService")
}

pub(crate) fn collection_reference_point_service(namespace: &str) -> ObjectPath {
    service(namespace, "Msvm_CollectionReferencePointService")
}

pub(crate) fn collection_service(namespace: &str) -> ObjectPath {
    service(namespace, "Msvm_CollectionManagementService")
}

#[track_caller]
pub(crate) fn number(instance: &CimInstance, name: &str) -> u64 {
    instance.get(name).as_u64().unwrap_or_else(|| panic!("{name} is {:?}", instance.get(name)))
}

#[track_caller]
pub(crate) fn text<'i>(instance: &'i CimInstance, name: &str) -> &'i str {
    instance.get(name).as_str().unwrap_or_else(|| panic!("{name} is {:?}", instance.get(name)))
}

#[track_caller]
pub(crate) fn numbers(instance: &CimInstance, name: &str) -> Vec<u64> {
    instance.get(name).as_array().unwrap().iter().map(|item| item.as_u64().unwrap()).collect()
}

/// The GUID in the key of a machine, settings record, snapshot collection or job.
#[track_caller]
pub(crate) fn identity(instance: &CimInstance) -> Guid {
    path_identity(&instance.path(V2))
}

#[track_caller]
pub(crate) fn path_identity(path: &ObjectPath) -> Guid {
    let key = ["Name", "InstanceID", "CollectionID"].into_iter().find_map(|key| path.key_text(key)).unwrap();
    guid(key.strip_prefix("Microsoft:").unwrap_or(key))
}
