//! A host with events whose server can be stopped and started again, and a sink in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use wsnapd::access::{Account, Accounts, Scheme};
use wsnapd::backend::{
    DirectoryPools, DiskDefinition, DiskFormat, MachineDefinition, SimulatedCall, SimulatedHypervisor,
};
use wsnapd::cimom::{BoxFuture, ObjectManager, Principal, ProviderRegistry};
use wsnapd::engine::{
    CreateSnapshot, Engine, EngineOptions, JournalLimits, Outcome, SnapshotSettings, SnapshotType, SqliteStore,
};
use wsnapd::providers::{self, Indications, ProviderOptions};
use wsnapd::time::{Guid, ManualClock, SequentialIds, Timestamp};
use wsnapd::wsman::{
    Delivery, DeliveryError, Encoding, EventSink, Eventing, EventingOptions, EventingParts, Service, ServiceOptions,
    SinkReply,
};

use crate::support::schema;
use crate::tree::Node;

pub(crate) const WEB: &str = "5C1C2F40-0000-4000-8000-000000000001";
pub(crate) const INSTALLATION: &str = "7C6E1D53-40A5-4B19-8D35-6B5B0F0C2A11";
pub(crate) const V2: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2";
pub(crate) const WSMAN: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman";
pub(crate) const EVENTING: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing";
pub(crate) const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
pub(crate) const WQL: &str = "http://schemas.microsoft.com/wbem/wsman/1/WQL";
pub(crate) const PUSH: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing/DeliveryModes/Push";
pub(crate) const SINK: &str = "http://sink.example.com:8080/events";
pub(crate) const OF_JOBS: &str =
    "SELECT * FROM __InstanceModificationEvent WITHIN 1 WHERE TargetInstance ISA 'Msvm_ConcreteJob'";

/// What the sink answers to the next message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Say {
    /// What was asked for: an acknowledgement, or nothing.
    Well,
    /// 200 without an acknowledgement.
    Silence,
    /// No connection.
    Down,
    /// `w:DeliveryRefused`
    Refuse,
    /// Nothing, for ever.
    Hang,
}

/// A sink that keeps what it gets.
#[derive(Default)]
pub(crate) struct MemorySink {
    pub(crate) got: Mutex<Vec<Delivery>>,
    script: Mutex<VecDeque<Say>>,
    /// What it says when the script is over.
    otherwise: Mutex<Option<Say>>,
}

impl MemorySink {
    pub(crate) fn script(&self, says: &[Say]) {
        self.script.lock().unwrap().extend(says);
    }

    pub(crate) fn always(&self, say: Say) {
        *self.otherwise.lock().unwrap() = Some(say);
    }

    pub(crate) fn messages(&self) -> Vec<Delivery> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until there are so many messages.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Delivery> {
        for _ in 0..2000 {
            let got = self.messages();
            if got.len() >= count {
                return got;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} of {count} messages: {:#?}", self.messages().len(), self.messages());
    }
}

impl EventSink for MemorySink {
    fn post(&self, delivery: Delivery) -> BoxFuture<'_, Result<SinkReply, DeliveryError>> {
        Box::pin(async move {
            let otherwise = self.otherwise.lock().unwrap().unwrap_or(Say::Well);
            let say = self.script.lock().unwrap().pop_front().unwrap_or(otherwise);
            let envelope = Node::parse(&delivery.envelope);
            let id = envelope.find("MessageID").unwrap().text.clone();
            let acknowledge = envelope.find("AckRequested").is_some();
            if !matches!(say, Say::Down) {
                self.got.lock().unwrap().push(delivery);
            }
            let answer = |header: String, body: &str| {
                format!(
                    "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" xmlns:w=\"{WSMAN}.xsd\"><s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
                )
            };
            match say {
                Say::Well if acknowledge => {
                    let header = format!("<a:Action>{WSMAN}/Ack</a:Action><a:RelatesTo>{id}</a:RelatesTo>");
                    Ok(SinkReply { status: 200, body: answer(header, "") })
                }
                Say::Well | Say::Silence => Ok(SinkReply { status: 200, body: String::new() }),
                Say::Down => Err(DeliveryError("connection refused".to_owned())),
                Say::Refuse => {
                    let fault = "<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:DeliveryRefused</s:Value></s:Subcode></s:Code></s:Fault>";
                    Ok(SinkReply { status: 500, body: answer(String::new(), fault) })
                }
                Say::Hang => std::future::pending().await,
            }
        })
    }
}

/// Everybody is an administrator without a scope, unless something else was said.
#[derive(Default)]
pub(crate) struct TestAccounts(Mutex<BTreeMap<String, Option<Arc<Account>>>>);

impl TestAccounts {
    /// What an account is from now on; `None` for one that is removed.
    pub(crate) fn set(&self, name: &str, account: Option<Account>) {
        self.0.lock().unwrap().insert(name.to_owned(), account.map(Arc::new));
    }
}

impl Accounts for TestAccounts {
    fn account(&self, name: &str) -> Option<Arc<Account>> {
        let unlimited = || Some(Arc::clone(Principal::local(name).account()));
        self.0.lock().unwrap().get(name).cloned().unwrap_or_else(unlimited)
    }
}

/// A host with one machine, `web01`, which is off.
pub(crate) struct Stage {
    pub(crate) engine: Arc<Engine>,
    pub(crate) service: Service,
    pub(crate) machines: Arc<SimulatedHypervisor>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) sink: Arc<MemorySink>,
    pub(crate) accounts: Arc<TestAccounts>,
    ids: Arc<SequentialIds>,
    tuning: Tuning,
    directory: Arc<TempDir>,
}

/// What a test wants to have otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) queue_limit: usize,
    pub(crate) per_user: usize,
    pub(crate) journal: JournalLimits,
    pub(crate) push: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { queue_limit: 1000, per_user: 100, journal: JournalLimits::default(), push: true }
    }
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::with(Tuning::default()).await
    }

    pub(crate) async fn with(tuning: Tuning) -> Self {
        let machine = MachineDefinition {
            id: WEB.parse().unwrap(),
            name: "web01".to_owned(),
            notes: "the web".to_owned(),
            memory_mb: 1024,
            processors: 1,
            networks: Vec::new(),
            qemu: wsnapd::backend::QemuMachine::default(),
            disks: vec![DiskDefinition {
                name: "disk0".to_owned(),
                path: "/simulated/web01/disk0.qcow2".into(),
                format: DiskFormat::Qcow2,
                read_only: false,
                pass_through: false,
            }],
        };
        let machines = Arc::new(SimulatedHypervisor::new(vec![machine]));
        let start = "2026-01-15T10:20:30.125Z".parse::<Timestamp>().unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let (ids, sink) = (Arc::new(SequentialIds::default()), Arc::new(MemorySink::default()));
        let directory = Arc::new(TempDir::new().unwrap());
        Self::open(machines, clock, ids, sink, tuning, directory).await
    }

    async fn open(
        machines: Arc<SimulatedHypervisor>,
        clock: Arc<ManualClock>,
        ids: Arc<SequentialIds>,
        sink: Arc<MemorySink>,
        tuning: Tuning,
        directory: Arc<TempDir>,
    ) -> Self {
        let store = SqliteStore::open(&directory.path().join("store.db")).unwrap();
        let options = EngineOptions {
            host_name: "HOST".to_owned(),
            journal: tuning.journal,
            shutdown_grace: Duration::from_millis(10),
            ..EngineOptions::new(
                Arc::new(store),
                Arc::<SimulatedHypervisor>::clone(&machines),
                Arc::new(DirectoryPools::open(Vec::new()).unwrap()),
                Arc::<ManualClock>::clone(&clock),
                Arc::<SequentialIds>::clone(&ids),
            )
        };
        let engine = Engine::open(options).await.unwrap();
        let about = ProviderOptions::new("HOST", INSTALLATION.parse().unwrap());
        let mut registry = ProviderRegistry::new();
        providers::register(&mut registry, &schema(), &engine, &about).unwrap();
        let manager = Arc::new(ObjectManager::new(schema(), registry));
        let indications = Arc::new(Indications::new(&engine, &schema(), &about).unwrap());
        let accounts = Arc::new(TestAccounts::default());
        let parts = EventingParts {
            accounts: Arc::<TestAccounts>::clone(&accounts),
            store: Arc::<Indications>::clone(&indications),
            provider: indications,
            sink: Arc::<MemorySink>::clone(&sink),
            clock: Arc::<ManualClock>::clone(&clock),
            ids: Arc::<SequentialIds>::clone(&ids),
        };
        let options = EventingOptions {
            push_hosts: if tuning.push { vec!["sink.example.com".into(), "::1".into()] } else { Vec::new() },
            queue_limit: tuning.queue_limit,
            subscriptions_per_user: tuning.per_user,
            journal_age: tuning.journal.age,
            ..EventingOptions::new(about.installation)
        };
        let service_options = ServiceOptions { machine: "HOST".into(), ..ServiceOptions::default() };
        let service = Service::new(
            manager,
            Arc::<ManualClock>::clone(&clock),
            Arc::<SequentialIds>::clone(&ids),
            service_options,
        )
        .with_eventing(Arc::new(Eventing::new(parts, options)));
        service.start_eventing();
        Self { engine, service, machines, clock, sink, accounts, ids, tuning, directory }
    }

    /// Stops the server in good order and starts it again over the same records.
    pub(crate) async fn restart(self) -> Self {
        self.service.close_eventing().await;
        self.engine.shutdown().await;
        self.reopen().await
    }

    /// Starts it again over the same records; the engine is cut off as if it had been killed.
    pub(crate) async fn crash(self) -> Self {
        // The tasks of the deliveries hold the records and have to go.
        self.service.close_eventing().await;
        self.reopen().await
    }

    async fn reopen(self) -> Self {
        let Self { engine, service, machines, clock, sink, ids, tuning, directory, .. } = self;
        drop(service);
        drop(engine);
        for _ in 0..500 {
            // The tasks that still hold the store go away one after the other.
            if SqliteStore::open(&directory.path().join("store.db")).is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self::open(machines, clock, ids, sink, tuning, directory).await
    }

    pub(crate) async fn send_as(&self, user: &str, text: &str) -> String {
        let account = self.accounts.account(user).unwrap();
        let principal = Principal::new(account, Scheme::Basic, [192, 0, 2, 1].into());
        let outbound = self.service.handle(&principal, text, Encoding::Utf8).await;
        assert_eq!(outbound.is_fault, outbound.body.contains("<s:Fault>"), "{}", outbound.body);
        outbound.body
    }

    pub(crate) async fn send(&self, text: &str) -> String {
        self.send_as("admin", text).await
    }

    /// Subscribes and answers what came.
    pub(crate) async fn subscribe(&self, inner: &str) -> String {
        self.send(&subscribe_to("*", inner)).await
    }

    /// Subscribes with Pull; answers the context.
    pub(crate) async fn pull_subscription(&self, query: &str, further: &str) -> (String, String) {
        let body = self.subscribe(&format!("{}{}{further}", delivery("Pull", ""), filter(query))).await;
        let answer = Node::parse(&body);
        let text = |local: &str| answer.find(local).unwrap_or_else(|| panic!("{local}: {body}")).text.clone();
        (text("EnumerationContext"), text("Identifier"))
    }

    /// Pulls; answers the items, the new context and the bookmark.
    pub(crate) async fn pull(&self, context: &str, inner: &str) -> Pulled {
        let body = self.send(&pull(context, inner)).await;
        Pulled::read(&body)
    }

    /// Pulls until nothing comes any more.
    pub(crate) async fn drain(&self, context: &mut String) -> Vec<Node> {
        let mut all = Vec::new();
        loop {
            let body = self.send(&pull(context, "<n:MaxTime>PT0.3S</n:MaxTime><n:MaxElements>3</n:MaxElements>")).await;
            if body.contains("w:TimedOut") {
                return all;
            }
            let pulled = Pulled::read(&body);
            *context = pulled.context;
            all.extend(pulled.items);
        }
    }

    /// Takes a snapshot of `web01`; answers its job.
    pub(crate) async fn snapshot(&self, name: &str) -> Guid {
        let settings = SnapshotSettings { name: Some(name.into()), ..SnapshotSettings::default() };
        let request = CreateSnapshot { system: WEB.parse().unwrap(), snapshot_type: SnapshotType::Disk, settings };
        let Ok(Outcome::Started { job }) = self.engine.create_snapshot(request, "admin").await else {
            panic!("no job")
        };
        job
    }

    pub(crate) async fn finished(&self, job: Guid) {
        for _ in 0..2000 {
            if self.engine.view().job(job).is_some_and(|job| job.state.is_final()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("job {job} does not end");
    }

    /// From the next start on nothing may be pushed.
    pub(crate) const fn forbid_push(&mut self) {
        self.tuning.push = false;
    }

    pub(crate) fn slow_snapshots(&self, time: Duration) {
        self.machines.set_duration(SimulatedCall::Create, time);
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.clock.advance(chrono::Duration::seconds(seconds));
    }
}

/// What a Pull brought.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) items: Vec<Node>,
    pub(crate) context: String,
    pub(crate) bookmark: Option<String>,
    pub(crate) ended: bool,
}

impl Pulled {
    fn read(body: &str) -> Self {
        let mut envelope = Node::parse(body);
        assert!(!body.contains("<s:Fault>"), "{body}");
        let bookmark = envelope.find("Bookmark").map(|bookmark| bookmark.text.clone());
        let mut answer = envelope.children.pop().unwrap().children.remove(0);
        let context = answer.find("EnumerationContext").map_or_else(String::new, |context| context.text.clone());
        let ended = answer.find("EndOfSequence").is_some();
        let index = answer.children.iter().position(|child| child.local == "Items").unwrap();
        Self { items: answer.children.remove(index).children, context, bookmark, ended }
    }
}

pub(crate) fn envelope(action: &str, resource: &str, headers: &str, body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" xmlns:n=\"{ENUMERATION}\" \
         xmlns:e=\"{EVENTING}\" xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\"><s:Header>\
         <a:To>http://host:5985/wsman</a:To><w:ResourceURI>{resource}</w:ResourceURI>\
         <a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>\
         <a:Action>{action}</a:Action><a:MessageID>uuid:1</a:MessageID>{headers}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
}

pub(crate) fn subscribe_to(class: &str, inner: &str) -> String {
    envelope(
        &format!("{EVENTING}/Subscribe"),
        &format!("{V2}/{class}"),
        "",
        &format!("<e:Subscribe>{inner}</e:Subscribe>"),
    )
}

pub(crate) fn delivery(mode: &str, inner: &str) -> String {
    let mode = if mode == "Push" { PUSH.to_owned() } else { format!("{WSMAN}/{mode}") };
    format!("<e:Delivery Mode=\"{mode}\">{inner}</e:Delivery>")
}

pub(crate) fn notify_to(address: &str) -> String {
    format!("<e:NotifyTo><a:Address>{address}</a:Address></e:NotifyTo>")
}

pub(crate) fn filter(query: &str) -> String {
    format!("<w:Filter Dialect=\"{WQL}\">{}</w:Filter>", query.replace('<', "&lt;"))
}

pub(crate) fn pull(context: &str, inner: &str) -> String {
    let body = format!("<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext>{inner}</n:Pull>");
    envelope(&format!("{ENUMERATION}/Pull"), &format!("{V2}/*"), "", &body)
}

pub(crate) fn manage(operation: &str, identifier: &str, inner: &str) -> String {
    envelope(
        &format!("{EVENTING}/{operation}"),
        &format!("{V2}/*"),
        &format!("<e:Identifier>{identifier}</e:Identifier>"),
        &format!("<e:{operation}>{inner}</e:{operation}>"),
    )
}

/// A property of the embedded instance of an event.
pub(crate) fn property(event: &Node, instance: &str, name: &str) -> String {
    let found = event.find(instance).and_then(|instance| instance.find(name));
    found.unwrap_or_else(|| panic!("{instance}.{name}: {event:?}")).text.clone()
}

/// State and percentage of the job of each event.
pub(crate) fn steps(events: &[Node]) -> Vec<(String, u32)> {
    let step = |event: &Node| {
        let percent = property(event, "TargetInstance", "PercentComplete").parse().unwrap();
        (property(event, "TargetInstance", "JobState"), percent)
    };
    events.iter().map(step).collect()
}
