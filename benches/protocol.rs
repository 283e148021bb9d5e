//! CPU time of the protocol layer without sockets: reading envelopes, dispatch, encoding.
//!
//! `cargo bench --bench protocol`. The load script beside this file measures the whole server.
#![expect(clippy::expect_used, reason = "a bench stops at the first mistake")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wsnapd::binding::{InstanceWriter, UriFamily, UriStyle};
use wsnapd::cim::{
    CimError, CimInstance, ClassDeclaration, InstanceBuilder, MethodDeclaration, ObjectPath, Schema, embedded,
};
use wsnapd::cimom::{
    BoxFuture, CallContext, InstanceProvider, InstanceStream, MethodArguments, MethodProvider, MethodResult,
    ObjectManager, Principal, ProviderRegistry,
};
use wsnapd::providers::generated;
use wsnapd::soap::Envelope;
use wsnapd::time::{ManualClock, SequentialIds, Timestamp};
use wsnapd::wsman::{Encoding, Service, ServiceOptions};
use wsnapd::xml::Writer;

const V2: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2";
const INSTANCES: u32 = 10_000;

/// Ten thousand machines, each made from a template, and a service that refuses.
struct Stand(CimInstance);

impl Stand {
    fn machine(&self, number: u32) -> Result<CimInstance, CimError> {
        InstanceBuilder::from_template(self.0.clone())
            .set("Name", format!("3AB4F1C0-1D2E-4A59-9F30-{number:012X}"))
            .set("ElementName", format!("machine {number}"))
            .set("InstallDate", wsnapd::cim::CimDateTime::utc(Timestamp::UNIX_EPOCH))
            .set("OnTimeInMilliseconds", u64::from(number))
            .build()
    }
}

impl InstanceProvider for Stand {
    fn enumerate(&self, _cx: &CallContext, _class: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        let stand = Self(self.0.clone());
        Ok(Box::new((0..INSTANCES).map(move |number| stand.machine(number))))
    }

    fn get(
        &self,
        _cx: &CallContext,
        _class: &Arc<ClassDeclaration>,
        _path: &ObjectPath,
    ) -> Result<Option<CimInstance>, CimError> {
        self.machine(7).map(Some)
    }
}

impl MethodProvider for Stand {
    fn invoke<'a>(
        &'a self,
        _cx: &'a CallContext,
        _class: &'a Arc<ClassDeclaration>,
        _target: &'a ObjectPath,
        _method: &'a MethodDeclaration,
        _arguments: MethodArguments,
    ) -> BoxFuture<'a, Result<MethodResult, CimError>> {
        Box::pin(std::future::ready(Ok(MethodResult::returning(32_775))))
    }
}

fn template(schema: &Schema) -> CimInstance {
    let class = schema
        .namespace("root/virtualization/v2")
        .and_then(|namespace| namespace.class("Msvm_ComputerSystem"))
        .expect("the class is in the schema");
    InstanceBuilder::new(class)
        .set("Caption", "Virtual Machine")
        .set("CreationClassName", "Msvm_ComputerSystem")
        .set("Description", "Microsoft Virtual Machine")
        .set("EnabledState", 3_u16)
        .set("HealthState", 5_u16)
        .set("OperationalStatus", [2_u16])
        .build()
        .expect("the properties exist")
}

fn service() -> Service {
    let schema = Arc::new(generated::load().expect("the schema compiles"));
    let stand = Arc::new(Stand(template(&schema)));
    let mut registry = ProviderRegistry::new();
    registry.instance("root/virtualization/v2", "Msvm_ComputerSystem", Arc::<Stand>::clone(&stand));
    registry.method("root/virtualization/v2", "Msvm_ComputerSystem", stand);
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let manager = Arc::new(ObjectManager::new(schema, registry));
    Service::new(manager, clock, Arc::new(SequentialIds::default()), ServiceOptions::default())
}

fn request(action: &str, class: &str, selectors: &str, body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" xmlns:n=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\" xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" xmlns:p=\"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd\"><s:Header><a:To>http://host1:5985/wsman</a:To><w:ResourceURI s:mustUnderstand=\"true\">{V2}/{class}</w:ResourceURI><a:ReplyTo><a:Address s:mustUnderstand=\"true\">http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo><a:Action s:mustUnderstand=\"true\">{action}</a:Action><w:MaxEnvelopeSize s:mustUnderstand=\"true\">512000</w:MaxEnvelopeSize><a:MessageID>uuid:9A989269-283B-4624-BAC5-BC291F72E854</a:MessageID><w:Locale xml:lang=\"en-US\" s:mustUnderstand=\"false\"/><p:DataLocale xml:lang=\"en-US\" s:mustUnderstand=\"false\"/>{selectors}<w:OperationTimeout>PT60.000S</w:OperationTimeout></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
}

const KEYS: &str = "<w:SelectorSet><w:Selector Name=\"CreationClassName\">Msvm_ComputerSystem</w:Selector><w:Selector Name=\"Name\">3AB4F1C0-1D2E-4A59-9F30-000000000007</w:Selector></w:SelectorSet>";
const SETTINGS: &str = "<INSTANCE CLASSNAME=\"Msvm_VirtualSystemSnapshotSettingData\"><PROPERTY NAME=\"Caption\" PROPAGATED=\"true\" TYPE=\"string\"></PROPERTY><PROPERTY NAME=\"ConsistencyLevel\" TYPE=\"uint8\"><VALUE>1</VALUE></PROPERTY><PROPERTY NAME=\"IgnoreNonSnapshottableDisks\" TYPE=\"boolean\"><VALUE>TRUE</VALUE></PROPERTY></INSTANCE>";

fn exchanges(c: &mut Criterion) {
    let service = service();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let principal = Principal::local("admin");
    let ask = |text: &str| runtime.block_on(service.handle(&principal, text, Encoding::Utf8));

    let identify = "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:wsmid=\"http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd\"><s:Header/><s:Body><wsmid:Identify/></s:Body></s:Envelope>";
    let get = request("http://schemas.xmlsoap.org/ws/2004/09/transfer/Get", "Msvm_ComputerSystem", KEYS, "");
    let invoke = request(
        &format!("{V2}/Msvm_ComputerSystem/RequestStateChange"),
        "Msvm_ComputerSystem",
        KEYS,
        &format!(
            "<r:RequestStateChange_INPUT xmlns:r=\"{V2}/Msvm_ComputerSystem\"><r:RequestedState>2</r:RequestedState></r:RequestStateChange_INPUT>"
        ),
    );
    assert!(ask(&get).body.contains("machine 7") && ask(&invoke).body.contains("32775"));
    c.bench_function("parse an envelope", |b| b.iter(|| Envelope::parse(black_box(&get)).is_ok()));
    c.bench_function("Identify", |b| b.iter(|| ask(black_box(identify))));
    c.bench_function("Get", |b| b.iter(|| ask(black_box(&get))));
    c.bench_function("Invoke", |b| b.iter(|| ask(black_box(&invoke))));
}

fn enumeration(c: &mut Criterion) {
    let service = service();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let principal = Principal::local("admin");
    let ask = |text: &str| runtime.block_on(service.handle(&principal, text, Encoding::Utf8)).body;
    let context = |body: &str| {
        body.split_once("<n:EnumerationContext>")
            .and_then(|(_, rest)| rest.split_once('<'))
            .map(|(id, _)| id.to_owned())
    };
    let enumeration = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
    let mut group = c.benchmark_group("enumerate");
    group.throughput(Throughput::Elements(INSTANCES.into())).sample_size(10);
    group.bench_function("10,000 instances by Pull", |b| {
        b.iter(|| {
            let start = request(&format!("{enumeration}/Enumerate"), "Msvm_ComputerSystem", "", "<n:Enumerate/>");
            let mut body = ask(&start);
            let mut instances = 0;
            while let Some(id) = context(&body) {
                let pull = format!("<n:Pull><n:EnumerationContext>{id}</n:EnumerationContext><n:MaxElements>32000</n:MaxElements></n:Pull>");
                body = ask(&request(&format!("{enumeration}/Pull"), "Msvm_ComputerSystem", "", &pull));
                instances += body.matches("</p:Msvm_ComputerSystem>").count();
            }
            assert_eq!(u32::try_from(instances), Ok(INSTANCES));
        });
    });
    group.finish();
}

fn codecs(c: &mut Criterion) {
    let schema = generated::load().expect("the schema compiles");
    let instance = template(&schema);
    let style = UriStyle::new(&UriFamily::Wmi, "root/virtualization/v2");
    let writer = InstanceWriter { style: &style, precise_arrays: false };
    c.bench_function("encode an instance", |b| {
        b.iter(|| {
            let mut w = Writer::with_capacity(8192);
            writer.instance(&mut w, black_box(&instance));
            w.finish()
        });
    });
    let namespace = schema.namespace("root/virtualization/v2").expect("the namespace is in the schema");
    c.bench_function("decode embedded settings", |b| {
        b.iter(|| {
            let raw = embedded::parse(black_box(SETTINGS)).expect("it parses").expect("it is not empty");
            namespace.instantiate(&raw).expect("it fits its class")
        });
    });
    c.bench_function("compile the schema", |b| b.iter(|| generated::load().is_ok()));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(std::time::Duration::from_millis(500)).measurement_time(std::time::Duration::from_secs(2));
    targets = exchanges, enumeration, codecs
}
criterion_main!(benches);
