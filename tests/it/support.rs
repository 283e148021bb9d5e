//! A whole server without sockets: schema, providers, engine and the simulated host.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tempfile::TempDir;
use wsnapd::backend::{
    DirectoryPools, DiskDefinition, DiskFormat, MachineDefinition, MachineState, PoolDefinition, PoolSnapshots,
    SimulatedHypervisor, VolumeManager,
};
use wsnapd::cim::{CimError, CimInstance, CimValue, ObjectPath, PropertyName, Schema};
use wsnapd::cimom::{CallContext, MethodArguments, MethodResult, ObjectManager, Principal, ProviderRegistry};
use wsnapd::engine::{CreateSnapshot, Engine, EngineOptions, Outcome, SnapshotSettings, SnapshotType, SqliteStore};
use wsnapd::providers::{self, ProviderOptions, generated, storage};
use wsnapd::time::{Clock, Guid, ManualClock, SequentialIds, Timestamp};
use wsnapd::wsman::{CertificateMapping, ConfigurationView, ListenerView, Logons, Service, ServiceOptions};

/// The machine that runs; the requests of the `wsman` command line name it.
pub(crate) const RUNNING: &str = "5C1C2F40-0000-4000-8000-000000000001";
/// The machine that is off and has a snapshot; the requests of `omicli` name it.
pub(crate) const OFF: &str = "046E0F1B-92C8-4E8C-9F1B-000000000001";
/// The identity of the installation.
const INSTALLATION: &str = "7C6E1D53-40A5-4B19-8D35-6B5B0F0C2A11";
/// The name of the host.
pub(crate) const HOST: &str = "HOST";
/// The namespace of pools and volumes.
pub(crate) const STORAGE: &str = "root/Microsoft/Windows/Storage/SM";

/// The server under test. Its files go with it.
pub(crate) struct TestServer {
    pub(crate) engine: Arc<Engine>,
    pub(crate) manager: Arc<ObjectManager>,
    pub(crate) service: Arc<Service>,
    pub(crate) principal: Principal,
    pub(crate) clock: Arc<ManualClock>,
    directory: TempDir,
}

/// Compiled once for all tests.
pub(crate) fn schema() -> Arc<Schema> {
    static SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    Arc::clone(SCHEMA.get_or_init(|| Arc::new(generated::load().expect("the schema compiles"))))
}

impl TestServer {
    /// Machines `vm1` (running) and `db01` (off, with one snapshot), and two pools: `pool1` with `vol1` and
    /// `vol2`, whose snapshots are copies, and `pool2` with `vol3`, which makes none.
    pub(crate) async fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let pools = vec![
            pool(directory.path(), "pool1", PoolSnapshots::Copy, &[("vol1", 1 << 20), ("vol2", 1000)]),
            pool(directory.path(), "pool2", PoolSnapshots::None, &[("vol3", 4096)]),
        ];
        let volumes = Arc::new(DirectoryPools::open(pools).expect("the pools open"));
        let server = Self::with_volumes(directory, volumes).await;
        let settings = SnapshotSettings { name: Some("first".into()), ..SnapshotSettings::default() };
        let request = CreateSnapshot { system: guid(OFF), snapshot_type: SnapshotType::Disk, settings };
        let Ok(Outcome::Started { job }) = server.engine.create_snapshot(request, "setup").await else {
            panic!("a snapshot is always a job");
        };
        server.finished(job).await;
        server
    }

    /// The same machines over another volume manager, without a snapshot.
    pub(crate) async fn with_volumes(directory: TempDir, volumes: Arc<dyn VolumeManager>) -> Self {
        let hypervisor = SimulatedHypervisor::new(vec![machine(RUNNING, "vm1"), machine(OFF, "db01")]);
        hypervisor.set_state(guid(RUNNING), MachineState::Running);
        let start = "2026-01-15T10:20:30.125Z".parse::<Timestamp>().expect("a time");
        let clock = Arc::new(ManualClock::new(start));
        let ids = Arc::new(SequentialIds::default());
        let store = SqliteStore::open(&directory.path().join("store.db")).expect("the store opens");
        let options = EngineOptions {
            host_name: HOST.to_owned(),
            ..EngineOptions::new(
                Arc::new(store),
                Arc::new(hypervisor),
                volumes,
                Arc::<ManualClock>::clone(&clock),
                Arc::<SequentialIds>::clone(&ids),
            )
        };
        let engine = Engine::open(options).await.expect("the engine opens");
        let schema = schema();
        let mut registry = ProviderRegistry::new();
        let about = ProviderOptions::new(HOST, guid(INSTALLATION));
        providers::register(&mut registry, &schema, &engine, &about).expect("the classes are there");
        storage::register(&mut registry, &schema, Arc::clone(&engine), HOST).expect("the storage classes are there");
        assert_eq!(registry.unknown_classes(&schema), Vec::<String>::new());
        let manager = Arc::new(ObjectManager::new(schema, registry));
        let options =
            ServiceOptions { machine: HOST.into(), configuration: configuration(), ..ServiceOptions::default() };
        let service = Arc::new(Service::new(Arc::clone(&manager), Arc::<ManualClock>::clone(&clock), ids, options));
        Self { engine, manager, service, principal: Principal::local("admin"), clock, directory }
    }

    /// Where the pools and the store are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The circumstances of an operation in `namespace`.
    pub(crate) fn context(&self, namespace: &str) -> CallContext {
        CallContext {
            principal: self.principal.clone(),
            namespace: namespace.into(),
            now: self.clock.now(),
            options: Arc::default(),
        }
    }

    /// Waits until a job has ended.
    pub(crate) async fn finished(&self, job: Guid) {
        for _ in 0..2000 {
            if self.engine.view().job(job).is_some_and(|job| job.state.is_final()) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        panic!("job {job} does not end");
    }

    /// All instances of a class of the storage namespace.
    pub(crate) fn instances(&self, class: &str) -> Vec<CimInstance> {
        let class = self.manager.class(STORAGE, class).expect("the class is there");
        self.manager
            .enumerate(&self.context(STORAGE), class, wsnapd::cimom::Polymorphism::default())
            .expect("the class can be listed")
            .collect::<Result<_, _>>()
            .expect("every instance can be made")
    }

    /// The one instance of a class whose property has that text.
    #[track_caller]
    pub(crate) fn instance(&self, class: &str, property: &str, text: &str) -> CimInstance {
        let mut found = self.instances(class);
        found.retain(|instance| instance.get(property).as_str() == Some(text));
        assert_eq!(found.len(), 1, "{class}.{property} = {text}");
        found.remove(0)
    }

    /// Calls a method of an instance of the storage namespace.
    pub(crate) async fn invoke(
        &self,
        target: &CimInstance,
        method: &str,
        arguments: Vec<(&str, CimValue)>,
    ) -> Result<MethodResult, CimError> {
        let class = target.class();
        let method = class.method(method).expect("the method is declared");
        let mut given = MethodArguments::new();
        for (name, value) in arguments {
            given.insert(PropertyName::new(name), value);
        }
        let path = target.path(STORAGE);
        self.manager.invoke(&self.context(STORAGE), class, &path, method, given).await
    }

    /// What a reference of the storage namespace leads to.
    pub(crate) fn resolve(&self, path: &ObjectPath) -> Option<CimInstance> {
        self.manager.resolve(&self.context(STORAGE), path).expect("the provider answers")
    }
}

/// Two users with certificates, one of whom two authorities vouch for.
#[derive(Debug)]
struct Users;

impl Logons for Users {
    fn has_ntlm(&self) -> bool {
        true
    }

    fn certificate_mappings(&self) -> Vec<CertificateMapping> {
        let mapping = |issuer: &str, subject: &str, user: &str| CertificateMapping {
            issuer: issuer.into(),
            subject: subject.into(),
            user: user.into(),
        };
        vec![
            mapping("AA11", "alice@example.test", "alice"),
            mapping("BB22", "alice@example.test", "alice"),
            mapping("BB22", "CN=b&b,O=ex", "bob"),
        ]
    }
}

/// The listeners the server would have: one for everybody with TLS, one for the host itself without.
fn configuration() -> ConfigurationView {
    let listener = |address: &str, tls| ListenerView {
        address: address.parse().expect("an address"),
        tls,
        host_name: HOST.into(),
        certificate_thumbprint: if tls { "0A1B2C".into() } else { "".into() },
        listening_on: vec!["127.0.0.1".parse().expect("an address"), "10.0.0.9".parse().expect("an address")],
    };
    ConfigurationView {
        max_connections: 77,
        audited: true,
        credssp: true,
        certificate: true,
        listeners: vec![listener("0.0.0.0:5986", true), listener("127.0.0.1:5985", false)],
        logons: Some(Arc::new(Users)),
        ..ConfigurationView::default()
    }
}

/// A GUID of these tests.
pub(crate) fn guid(text: &str) -> Guid {
    text.parse().expect("a GUID")
}

/// The text of a reference's only key.
pub(crate) fn object_id(path: &ObjectPath) -> Guid {
    guid(path.key_text("ObjectId").expect("the key is there"))
}

fn machine(id: &str, name: &str) -> MachineDefinition {
    MachineDefinition {
        id: guid(id),
        name: name.to_owned(),
        notes: format!("{name} for tests"),
        memory_mb: 1024,
        processors: 2,
        networks: Vec::new(),
        disks: vec![DiskDefinition {
            name: "disk0".to_owned(),
            path: format!("/simulated/{name}/disk0.qcow2").into(),
            format: DiskFormat::Qcow2,
            read_only: false,
            pass_through: false,
        }],
        qemu: wsnapd::backend::QemuMachine::default(),
    }
}

fn pool(directory: &Path, name: &str, snapshots: PoolSnapshots, volumes: &[(&str, usize)]) -> PoolDefinition {
    let path = directory.join(name);
    std::fs::create_dir(&path).expect("the pool directory is made");
    for (volume, length) in volumes {
        let content: Vec<u8> = (0..*length).map(|index| u8::try_from(index % 251).expect("below 251")).collect();
        std::fs::write(path.join(volume), content).expect("the volume is written");
    }
    PoolDefinition { name: name.to_owned(), path, snapshots }
}
