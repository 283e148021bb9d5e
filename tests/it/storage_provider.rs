//! Pools, volumes, their snapshots and jobs as the storage management namespace shows them.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use wsnapd::backend::{
    BackendError, BoxFuture, Cause, JournalStep, StepControl, VolumeManager, VolumePoolReport, VolumeReport,
    VolumeSnapshotRequest,
};
use wsnapd::cim::{CimInstance, CimStatus, CimValue, ObjectPath, PropertyName};
use wsnapd::cimom::{AssociationFilter, MethodResult};

use crate::support::{STORAGE, TestServer, object_id};
use crate::tree::{Node, SOAP};

const CLASSES: [&str; 7] = [
    "MSFT_SMJob",
    "MSFT_SMPool",
    "MSFT_SMProvider",
    "MSFT_SMReplicationCapabilities",
    "MSFT_SMStorageVolume",
    "MSFT_SMSystem",
    "MSFT_SMSystemCapabilities",
];

const ASSOCIATIONS: [(&str, &str, &str, usize); 8] = [
    ("MSFT_SMJobToPool", "Job", "AffectedPool", 1),
    ("MSFT_SMJobToStorageVolume", "Job", "AffectedStorageVolume", 1),
    ("MSFT_SMPoolToVolume", "Parent", "Child", 4),
    ("MSFT_SMProviderToSystem", "Parent", "Child", 1),
    ("MSFT_SMStorageSynchronized", "SourceStorageVolume", "TargetStorageVolume", 1),
    ("MSFT_SMSystemToCapabilities", "Parent", "Child", 1),
    ("MSFT_SMSystemToPool", "Parent", "Child", 2),
    ("MSFT_SMSystemToReplicationCapabilities", "Parent", "Child", 1),
];

/// A pool whose snapshots are there at once, unless something else was scripted.
#[derive(Default)]
struct Scripted {
    instant: Mutex<VecDeque<Cause>>,
    copies: bool,
    made: Mutex<Vec<String>>,
}

impl Scripted {
    fn report(name: &str) -> VolumeReport {
        VolumeReport {
            name: name.to_owned(),
            path: PathBuf::from("/scripted").join(name),
            bytes: 4096,
            allocated_bytes: 4096,
            created: None,
        }
    }
}

impl VolumeManager for Scripted {
    fn pools(&self) -> BoxFuture<'_, Result<Vec<VolumePoolReport>, BackendError>> {
        let pool = VolumePoolReport {
            name: "fast".to_owned(),
            path: "/scripted".into(),
            instant_clone: !self.copies,
            copy: self.copies,
            read_only: false,
            total_bytes: 1 << 30,
            free_bytes: 1 << 20,
        };
        Box::pin(async { Ok(vec![pool]) })
    }

    fn volumes<'a>(&'a self, _pool: &'a str) -> BoxFuture<'a, Result<Vec<VolumeReport>, BackendError>> {
        let mut volumes = vec![Self::report("vol1")];
        volumes.extend(self.made.lock().unwrap().iter().map(|name| Self::report(name)));
        Box::pin(async { Ok(volumes) })
    }

    fn instant_snapshot<'a>(
        &'a self,
        request: &'a VolumeSnapshotRequest,
    ) -> BoxFuture<'a, Result<Option<VolumeReport>, BackendError>> {
        let scripted = self.instant.lock().unwrap().pop_front();
        Box::pin(async move {
            match scripted {
                Some(cause) => Err(BackendError::new("clone the volume", cause).on_disk("vol1")),
                None if self.copies => Ok(None),
                None => {
                    self.made.lock().unwrap().push(request.target.clone());
                    Ok(Some(Self::report(&request.target)))
                }
            }
        })
    }

    fn copy_snapshot<'a>(
        &'a self,
        _request: &'a VolumeSnapshotRequest,
        _control: &'a StepControl,
    ) -> BoxFuture<'a, Result<VolumeReport, BackendError>> {
        let cause = Cause::NoSpace { needed: 4096, available: 512 };
        Box::pin(async { Err(BackendError::new("copy the volume", cause).on_disk("vol1")) })
    }

    fn delete_volume<'a>(&'a self, _pool: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        let cause = Cause::InUse(format!("{name} is locked by another process"));
        Box::pin(async { Err(BackendError::new("delete the volume", cause)) })
    }

    fn recover<'a>(
        &'a self,
        _request: &'a VolumeSnapshotRequest,
        _journal: &'a [JournalStep],
    ) -> BoxFuture<'a, Result<Option<VolumeReport>, BackendError>> {
        Box::pin(async { Ok(None) })
    }

    fn remove_orphans(&self) -> BoxFuture<'_, Result<Vec<PathBuf>, BackendError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

async fn scripted(copies: bool, instant: impl IntoIterator<Item = Cause>) -> TestServer {
    let volumes = Scripted { instant: Mutex::new(instant.into_iter().collect()), copies, ..Scripted::default() };
    TestServer::with_volumes(TempDir::new().unwrap(), Arc::new(volumes)).await
}

#[track_caller]
fn code(result: &MethodResult) -> u64 {
    result.return_value.as_u64().expect("a return value")
}

fn output<'r>(result: &'r MethodResult, name: &str) -> Option<&'r CimValue> {
    result.output.iter().find(|(given, _)| *given == *name).map(|(_, value)| value)
}

#[track_caller]
fn reference(result: &MethodResult, name: &str) -> ObjectPath {
    let value = output(result, name).unwrap_or_else(|| panic!("{name} is missing"));
    ObjectPath::clone(value.as_reference().expect("a reference"))
}

#[track_caller]
fn status(result: &MethodResult) -> CimInstance {
    match output(result, "ExtendedStatus") {
        Some(CimValue::Instance(status)) => CimInstance::clone(status),
        other => panic!("no extended status: {other:?}"),
    }
}

fn associated(server: &TestServer, source: &CimInstance, association: &str, role: Option<&str>) -> Vec<CimInstance> {
    let filter = AssociationFilter {
        association_class: Some(association.into()),
        role: role.map(PropertyName::new),
        ..AssociationFilter::default()
    };
    server.manager.associators(&server.context(STORAGE), source, &filter).expect("associations can be followed")
}

#[tokio::test]
async fn a_clone_is_there_on_return() {
    let server = scripted(false, []).await;
    let source = server.instance("MSFT_SMStorageVolume", "DisplayName", "vol1");
    let arguments = vec![
        ("ElementName", CimValue::from("before the upgrade")),
        ("username", CimValue::from("array-admin")),
        ("password", CimValue::from("array-secret")),
    ];
    let result = server.invoke(&source, "CreateSnapshot", arguments).await.unwrap();
    assert_eq!(code(&result), 0);
    assert_eq!(output(&result, "Job"), None);
    assert_eq!(output(&result, "ExtendedStatus"), None);

    let snapshot = server.resolve(&reference(&result, "TargetStorageVolume")).expect("the snapshot is there");
    assert_eq!(snapshot.get("DisplayName").as_str(), Some("before the upgrade"));
    assert_eq!(snapshot.get("IsSnapshot").as_bool(), Some(true));
    assert_eq!(snapshot.get("Usage").as_u64(), Some(8));
    assert_eq!(source.get("IsSnapshot").as_bool(), Some(false));
    let links = server.instances("MSFT_SMStorageSynchronized");
    assert_eq!(links.len(), 1);
    assert_eq!(links[0].get("SyncType").as_u64(), Some(7));
    assert_eq!(
        associated(&server, &source, "MSFT_SMStorageSynchronized", Some("SourceStorageVolume")),
        std::slice::from_ref(&snapshot)
    );
    assert_eq!(associated(&server, &source, "MSFT_SMStorageSynchronized", Some("TargetStorageVolume")), []);
    assert_eq!(associated(&server, &snapshot, "MSFT_SMStorageSynchronized", None), [source]);
}

#[tokio::test]
async fn a_copy_is_a_job_that_leads_to_its_volume() {
    let server = TestServer::start().await;
    let source = server.instance("MSFT_SMStorageVolume", "DisplayName", "vol1");
    let pool = server.instance("MSFT_SMPool", "Name", "pool1");
    let arguments = vec![("TargetPool", CimValue::from(pool.path(STORAGE)))];
    let result = server.invoke(&source, "CreateSnapshot", arguments).await.unwrap();
    assert_eq!(code(&result), 4096);
    let (target, job) = (reference(&result, "TargetStorageVolume"), reference(&result, "Job"));
    let first = server.resolve(&job).expect("the job is there at once");
    assert!(matches!(first.get("JobState").as_u64(), Some(4 | 7)), "{first:?}");

    server.finished(object_id(&job)).await;
    let job = server.resolve(&job).expect("the job is still there");
    assert_eq!(job.get("JobState").as_u64(), Some(7));
    assert_eq!(job.get("PercentComplete").as_u64(), Some(100));
    assert_eq!(job.get("ErrorCode").as_u64(), Some(0));
    assert_eq!(*job.get("OperationalStatus"), CimValue::from([17_u16, 2]));
    let snapshot = server.resolve(&target).expect("the snapshot is there");
    assert_eq!(associated(&server, &job, "MSFT_SMJobToStorageVolume", None), std::slice::from_ref(&snapshot));
    assert_eq!(associated(&server, &job, "MSFT_SMJobToPool", None), std::slice::from_ref(&pool));
    assert!(associated(&server, &pool, "MSFT_SMPoolToVolume", None).contains(&snapshot));
    let path = snapshot.get("OtherIdentifyingInfo").as_array().unwrap()[0].as_str().unwrap().to_owned();
    let original = std::fs::read(server.directory().join("pool1/vol1")).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), original);
}

#[tokio::test]
async fn a_copy_that_fails_says_why_in_its_job() {
    let server = scripted(true, []).await;
    let source = server.instance("MSFT_SMStorageVolume", "DisplayName", "vol1");
    let result = server.invoke(&source, "CreateSnapshot", Vec::new()).await.unwrap();
    assert_eq!(code(&result), 4096);
    let job = reference(&result, "Job");
    server.finished(object_id(&job)).await;
    let job = server.resolve(&job).unwrap();
    assert_eq!(job.get("JobState").as_u64(), Some(10));
    assert_eq!(job.get("ErrorCode").as_u64(), Some(4));
    assert_eq!(*job.get("OperationalStatus"), CimValue::from([6_u16]));
    let text = job.get("ErrorDescription").as_str().unwrap();
    for part in ["vol1", "4096", "512"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(server.resolve(&reference(&result, "TargetStorageVolume")), None);
    assert_eq!(associated(&server, &job, "MSFT_SMJobToStorageVolume", None), []);
}

#[tokio::test]
async fn every_failure_of_the_back_end_has_its_code() {
    for (cause, expected) in [
        (Cause::Timeout, 3),
        (Cause::NoSpace { needed: 4096, available: 512 }, 4),
        (Cause::Failed("the array is on fire".to_owned()), 4),
        (Cause::Unreachable("no route".to_owned()), 40300),
        (Cause::InUse("busy".to_owned()), 40304),
        (Cause::NotSupported("ext4 cannot clone".to_owned()), 40308),
        (Cause::AccessDenied, 43002),
    ] {
        let server = scripted(false, [cause]).await;
        let source = server.instance("MSFT_SMStorageVolume", "DisplayName", "vol1");
        let arguments = vec![("username", CimValue::from("array-admin")), ("password", CimValue::from("array-secret"))];
        let result = server.invoke(&source, "CreateSnapshot", arguments).await.unwrap();
        assert_eq!(code(&result), expected);
        let status = status(&result);
        assert_eq!(status.get("SMErrorCode").as_u64(), Some(expected));
        assert_eq!(status.get("Operation").as_str(), Some("CreateSnapshot"));
        assert!(!format!("{status:?}").contains("array-"), "credentials come back");
        assert_eq!(server.instances("MSFT_SMStorageVolume").len(), 1, "something half-made stays");
    }
}

#[tokio::test]
async fn arguments_and_sources_that_cannot_be_used_are_refused() {
    let server = TestServer::start().await;
    let vol1 = server.instance("MSFT_SMStorageVolume", "DisplayName", "vol1");
    let vol3 = server.instance("MSFT_SMStorageVolume", "DisplayName", "vol3");
    let no_pool = r#"MSFT_SMPool.ObjectId="5C1C2F40-0000-4000-8000-0000000000FF""#;
    let elsewhere = r#"root/virtualization/v2:MSFT_SMPool.ObjectId="5C1C2F40-0000-4000-8000-0000000000FF""#;
    let pool = |text: &str| CimValue::from(ObjectPath::parse(text).unwrap());
    for (source, name, value, expected) in [
        (&vol1, "TargetPool", pool(no_pool), 5),
        (&vol1, "TargetPool", pool(elsewhere), 5),
        (&vol1, "TargetPool", vol1.path(STORAGE).into(), 5),
        (&vol1, "ElementName", "x".repeat(200).into(), 5),
        (&vol3, "ElementName", CimValue::Null, 40308),
    ] {
        let result = server.invoke(source, "CreateSnapshot", vec![(name, value)]).await.unwrap();
        assert_eq!(code(&result), expected, "{name}");
        let status = status(&result);
        assert_eq!(status.get("SMErrorCode").as_u64(), Some(expected));
        if expected == 5 {
            assert_eq!(status.get("ParameterInfo").as_str(), Some(name));
        }
    }

    let result = server.invoke(&vol1, "CreateSnapshot", Vec::new()).await.unwrap();
    server.finished(object_id(&reference(&result, "Job"))).await;
    let snapshot = server.resolve(&reference(&result, "TargetStorageVolume")).unwrap();
    let again = server.invoke(&snapshot, "CreateSnapshot", Vec::new()).await.unwrap();
    assert_eq!(code(&again), 40304);
    assert_eq!(status(&again).get("SMErrorSource").as_u64(), Some(1));
}

#[tokio::test]
async fn a_volume_that_has_gone_is_a_fault() {
    let server = TestServer::start().await;
    let gone = server.instance("MSFT_SMStorageVolume", "DisplayName", "vol2");
    std::fs::remove_file(server.directory().join("pool1/vol2")).unwrap();
    server.engine.refresh().await.unwrap();
    let error = server.invoke(&gone, "CreateSnapshot", Vec::new()).await.unwrap_err();
    assert_eq!(error.status(), CimStatus::NotFound);
}

#[tokio::test]
async fn what_the_host_does_not_offer_is_return_value_1() {
    let server = TestServer::start().await;
    for class in CLASSES {
        let Some(target) = server.instances(class).pop() else { continue };
        for method in target.class().methods().to_vec() {
            if method.name == "CreateSnapshot" && target.class().is_a("MSFT_SMStorageVolume") {
                continue;
            }
            let result = server.invoke(&target, method.name.as_str(), Vec::new()).await.unwrap();
            assert_eq!(code(&result), 1, "{class}.{}", method.name);
            let details = method.parameter("ExtendedStatus").is_some();
            assert_eq!(output(&result, "ExtendedStatus").is_some(), details, "{class}.{}", method.name);
        }
    }
}

#[tokio::test]
async fn the_capabilities_are_those_of_the_pools() {
    for (copies, synchronous, asynchronous) in [(false, vec![2_u16], vec![]), (true, vec![], vec![2_u16])] {
        let server = scripted(copies, []).await;
        let capabilities = &server.instances("MSFT_SMReplicationCapabilities")[0];
        assert_eq!(*capabilities.get("SupportedReplicationTypes"), CimValue::from([6_u16]));
        assert_eq!(*capabilities.get("SupportedSynchronousActions"), CimValue::from(synchronous));
        assert_eq!(*capabilities.get("SupportedAsynchronousActions"), CimValue::from(asynchronous));
        let system = &server.instances("MSFT_SMSystemCapabilities")[0];
        assert_eq!(system.get("ReplicationSupportedTypeSnapshotLocal").as_bool(), Some(true));
        assert_eq!(system.get("ReplicationSupportedTypeCloneLocal").as_bool(), Some(false));
    }
}

#[tokio::test]
async fn instances_and_associations_agree_from_every_side() {
    let server = TestServer::start().await;
    let source = server.instance("MSFT_SMStorageVolume", "DisplayName", "vol1");
    let result = server.invoke(&source, "CreateSnapshot", Vec::new()).await.unwrap();
    server.finished(object_id(&reference(&result, "Job"))).await;

    let cx = server.context(STORAGE);
    for class in CLASSES {
        let instances = server.instances(class);
        assert!(!instances.is_empty(), "{class} has no instance");
        for instance in instances {
            assert_eq!(server.resolve(&instance.path(STORAGE)), Some(instance.clone()), "Get of {class}");
        }
    }
    for (class, left, right, count) in ASSOCIATIONS {
        let links = server.instances(class);
        assert_eq!(links.len(), count, "{class}");
        for link in links {
            assert_eq!(server.resolve(&link.path(STORAGE)), Some(link.clone()), "Get of {class}");
            for role in [left, right] {
                let end = link.get(role).as_reference().expect("both ends are references");
                let end = server.resolve(end).expect("an end of an association is there");
                let filter = AssociationFilter {
                    result_class: Some(class.into()),
                    role: Some(PropertyName::new(role)),
                    ..AssociationFilter::default()
                };
                let found = server.manager.references(&cx, &end, &filter).expect("references can be listed");
                assert!(found.contains(&link), "{class} is not found from {role}");
            }
        }
    }
}

/// `CreateSnapshot` of a volume as an envelope.
fn create_snapshot(volume: &CimInstance, parameters: &str) -> String {
    let uri = format!("http://schemas.microsoft.com/wbem/wsman/1/wmi/{STORAGE}/MSFT_SMStorageVolume");
    let id = volume.get("ObjectId").as_str().unwrap();
    format!(
        "<s:Envelope xmlns:s=\"{SOAP}\" xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\"><s:Header><a:To>http://host/wsman</a:To>\
         <w:ResourceURI>{uri}</w:ResourceURI><a:Action>{uri}/CreateSnapshot</a:Action>\
         <a:MessageID>uuid:1</a:MessageID><a:ReplyTo><a:Address>\
         http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>\
         <w:SelectorSet><w:Selector Name=\"ObjectId\">{id}</w:Selector></w:SelectorSet></s:Header><s:Body>\
         <p:CreateSnapshot_INPUT xmlns:p=\"{uri}\">{parameters}</p:CreateSnapshot_INPUT></s:Body></s:Envelope>"
    )
}

#[tokio::test]
async fn a_refusal_carries_its_details_as_elements() {
    let server = TestServer::start().await;
    let volume = server.instance("MSFT_SMStorageVolume", "DisplayName", "vol3");
    let parameters = "<p:ElementName>x</p:ElementName><p:username>array-admin</p:username>\
                      <p:password>array-secret</p:password>";
    let text = create_snapshot(&volume, parameters);
    let outbound = server.service.handle(&server.principal, &text, wsnapd::wsman::Encoding::Utf8).await;
    assert!(!outbound.is_fault && !outbound.body.contains("array-"), "{}", outbound.body);
    let answer = Node::parse(&outbound.body);
    let output = answer.find("CreateSnapshot_OUTPUT").expect("the output of the method");
    assert_eq!(output.find("ReturnValue").unwrap().text, "40308");
    let status = output.find("ExtendedStatus").expect("the details");
    assert_eq!(status.find("SMErrorCode").unwrap().text, "40308");
    assert_eq!(status.find("SMErrorSource").unwrap().text, "2");
    assert!(status.find("SMMessage").unwrap().text.contains("pool"), "{}", outbound.body);
    for nothing in ["Job", "TargetStorageVolume"] {
        assert_eq!(output.find(nothing).unwrap().attributes["xsi:nil"], "true", "{}", outbound.body);
    }
}
