//! What backup programs do: recovery snapshots, exports, reference points (`snapshot-semantics` §4, §6, §10 W2 and W6).

use wsnapd::cim::{CimInstance, CimValue, ClassName, ObjectPath};

use crate::providers_support::{
    CLUSTER, DB, Host, NOBODY, SHOP, V2, WEB, collection_reference_point_service, collection_snapshot_service, guid,
    identity, management_service, number, numbers, reference_point_service, snapshot_service, system, system_in, text,
};

const POINTS: &str = "Msvm_ReferencePointOfVirtualSystem";
const POINT: &str = "Msvm_VirtualSystemReferencePoint";

fn texts(instance: &CimInstance, name: &str) -> Vec<String> {
    instance.get(name).as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn property(name: &str, ty: &str, value: &str) -> String {
    let value = value.replace('&', "&amp;").replace('"', "&quot;");
    format!(r#"<PROPERTY NAME="{name}" TYPE="{ty}"><VALUE>{value}</VALUE></PROPERTY>"#)
}

fn instance(class: &str, properties: &str) -> CimValue {
    format!(r#"<INSTANCE CLASSNAME="{class}">{properties}</INSTANCE>"#).into()
}

/// Lets the changes of a machine be tracked, as backup programs do first.
async fn track(host: &Host, machine: &str) {
    let settings = property("InstanceID", "string", &format!("Microsoft:{machine}"))
        + &property("IncrementalBackupEnabled", "boolean", "TRUE");
    let change = [("SystemSettings", instance("Msvm_VirtualSystemSettingData", &settings))];
    assert_eq!(host.invoke(&management_service(V2), "ModifySystemSettings", &change).await.code, 0);
    let record = host.associators(&system(machine), "Msvm_SettingsDefineState", None, None);
    assert_eq!(record[0].get("IncrementalBackupEnabled"), &CimValue::Boolean(true));
}

async fn recovery(host: &Host, machine: &str) -> ObjectPath {
    let arguments = [("AffectedSystem", system(machine).into()), ("SnapshotType", CimValue::Uint16(32768))];
    let job = host.run_well(&snapshot_service(V2), "CreateSnapshot", &arguments).await;
    let made = host.associators(&job.path(V2), "", Some("CIM_VirtualSystemSettingData"), None);
    assert_eq!(made.len(), 1);
    made[0].path(V2)
}

async fn convert(host: &Host, snapshot: &ObjectPath) -> CimInstance {
    let arguments = [("AffectedSnapshot", snapshot.clone().into())];
    let job = host.run_well(&snapshot_service(V2), "ConvertToReferencePoint", &arguments).await;
    assert_eq!(number(&job, "JobType"), 200);
    let mut made = host.associators(&job.path(V2), "", Some(POINT), None);
    assert_eq!(made.len(), 1, "a backup client wants exactly one");
    made.remove(0)
}

#[tokio::test]
async fn a_snapshot_becomes_a_point_with_parallel_lists() {
    let host = Host::start().await;
    track(&host, DB).await;
    let snapshot = recovery(&host, DB).await;
    let point = convert(&host, &snapshot).await;
    assert!(host.try_get(V2, &snapshot).is_err());
    assert_eq!(text(&point, "VirtualSystemIdentifier"), DB);
    assert!(text(&point, "InstanceID").starts_with("Microsoft:"));
    assert_eq!((number(&point, "ReferencePointType"), number(&point, "ConsistencyLevel")), (2, 1));
    assert_eq!(point.get("HasAssociatedData"), &CimValue::Boolean(false));
    let (disks, changes) =
        (texts(&point, "VirtualDiskIdentifiers"), texts(&point, "ResilientChangeTrackingIdentifiers"));
    assert_eq!(disks, ["/disks/db01-root.qcow2", "/disks/db01-data.qcow2"]);
    assert!(changes.len() == 2 && changes.iter().all(|change| !change.is_empty()) && changes[0] != changes[1]);
    assert_eq!(host.linked(&system(DB), POINTS), [identity(&point)]);
    assert!(host.linked(&system(WEB), POINTS).is_empty());
    let by_base = host.associators(&system(DB), "CIM_Dependency", Some(POINT), None);
    assert_eq!(by_base.len(), 1, "the abstract association leads there as well");
    let of = host.associators(&point.path(V2), POINTS, Some("CIM_ComputerSystem"), None);
    assert_eq!(text(&of[0], "ElementName"), "db01");
    // The other key may be left out, but not be wrong.
    let id = text(&point, "InstanceID").to_owned();
    let named = ObjectPath::new(V2, ClassName::new(POINT)).with_key("InstanceID", id.as_str());
    let destroy = |path: ObjectPath| [("AffectedReferencePoint", CimValue::from(path))];
    let service = reference_point_service(V2);
    for bad in [
        named.clone().with_key("VirtualSystemIdentifier", WEB),
        ObjectPath::new(V2, ClassName::new(POINT)).with_key("InstanceID", format!("Microsoft:{NOBODY}")),
        snapshot.clone(),
    ] {
        assert_eq!(host.invoke(&service, "DestroyReferencePoint", &destroy(bad)).await.code, 32773);
    }
    let job = host.run_well(&service, "DestroyReferencePoint", &destroy(named)).await;
    assert_eq!(number(&job, "JobType"), 202);
    assert!(host.enumerate(POINT).is_empty() && host.machines.held_tracking().is_empty());
}

#[tokio::test]
async fn what_cannot_be_converted_is_refused_as_documented() {
    let host = Host::start().await;
    let convert = |path: ObjectPath| [("AffectedSnapshot", CimValue::from(path))];
    let standard = host.snapshot(WEB).await;
    let service = snapshot_service(V2);
    assert_eq!(host.invoke(&service, "ConvertToReferencePoint", &convert(standard)).await.code, 32773);
    let untracked = recovery(&host, WEB).await;
    let job = host.run(&service, "ConvertToReferencePoint", &convert(untracked)).await;
    assert_eq!((number(&job, "JobState"), number(&job, "ErrorCode")), (10, 32770));
    assert!(text(&job, "ErrorDescription").contains("IncrementalBackupEnabled"));
    track(&host, WEB).await;
    let tracked = recovery(&host, WEB).await;
    let some = instance("Msvm_VirtualSystemReferencePointSettingData", &property("ConsistencyLevel", "uint8", "1"));
    let mut arguments = convert(tracked.clone()).to_vec();
    arguments.push(("ReferencePointSettings", some));
    assert_eq!(host.invoke(&service, "ConvertToReferencePoint", &arguments).await.code, 32773);
    arguments[1].1 = CimValue::from("");
    host.run_well(&service, "ConvertToReferencePoint", &arguments).await;
    // Another snapshot that is applied ends all knowledge of changes, and the point says so.
    let standard = host.snapshot(WEB).await;
    host.run_well(&service, "ApplySnapshot", &[("Snapshot", standard.into())]).await;
    let points = host.enumerate(POINT);
    assert!(text(&points[0], "Description").contains("not known any more"));
    assert!(!texts(&points[0], "ResilientChangeTrackingIdentifiers").is_empty());
}

#[tokio::test]
async fn points_are_made_without_snapshots() {
    let host = Host::start().await;
    for machine in [WEB, DB] {
        track(&host, machine).await;
    }
    let create = |kind: u16| [("AffectedSystem", system(WEB).into()), ("ReferencePointType", CimValue::Uint16(kind))];
    let service = reference_point_service(V2);
    assert_eq!(host.invoke(&service, "CreateReferencePoint", &create(0)).await.code, 32770);
    assert_eq!(host.invoke(&service, "CreateReferencePoint", &create(2)).await.code, 6);
    assert_eq!(host.invoke(&service, "CreateReferencePoint", &create(1)[1..]).await.code, 32773);
    let job = host.run_well(&service, "CreateReferencePoint", &create(1)).await;
    assert_eq!(number(&job, "JobType"), 201);
    assert_eq!(host.associators(&job.path(V2), "Msvm_AffectedJobElement", Some(POINT), None).len(), 1);
    let owner = host.associators(&job.path(V2), "Msvm_OwningJobElement", None, None);
    assert_eq!(text(&owner[0], "Name"), "vmrefpointsvc");
    assert!(host.enumerate("Msvm_SnapshotOfVirtualSystem").is_empty());
    let shop = ObjectPath::new(V2, ClassName::new("Msvm_VirtualSystemCollection")).with_key("CollectionID", SHOP);
    let level = instance("Msvm_CollectionReferencePointSettingData", &property("ConsistencyLevel", "uint8", "2"));
    let group = |kind: u16| {
        [
            ("Collection", CimValue::from(shop.clone())),
            ("ReferencePointSettings", level.clone()),
            ("ReferencePointType", CimValue::Uint16(kind)),
        ]
    };
    let service = collection_reference_point_service(V2);
    assert_eq!(host.invoke(&service, "CreateReferencePoint", &group(1)).await.code, 32770);
    let job = host.run_well(&service, "CreateReferencePoint", &group(2)).await;
    assert_eq!(number(&job, "JobType"), 205);
    for method in ["ExportReferencePoint", "RemoveAssociatedData"] {
        assert_eq!(host.invoke(&service, method, &[]).await.code, 32770, "{method}");
    }
    assert_eq!(host.invoke(&service, "StartService", &[]).await.code, 1);
}

#[tokio::test]
async fn a_group_becomes_a_collection_of_points_in_both_namespaces() {
    for namespace in [V2, CLUSTER] {
        let host = Host::start().await;
        for machine in [WEB, DB] {
            track(&host, machine).await;
        }
        let shop = ObjectPath::new(namespace, ClassName::new("Msvm_VirtualSystemCollection"));
        let shop = shop.with_key("CollectionID", SHOP);
        let create = [("Collection", shop.clone().into()), ("SnapshotType", CimValue::Uint16(2))];
        let service = collection_snapshot_service(namespace);
        let job = host.run_well(&service, "CreateSnapshot", &create).await;
        let made = host.associators(&job.path(namespace), "", Some("Msvm_SnapshotCollection"), None);
        let convert = [("AffectedSnapshotCollection", CimValue::from(made[0].path(namespace)))];
        let job = host.run_well(&service, "ConvertToReferencePoint", &convert).await;
        let made = host.associators(&job.path(namespace), "", Some("Msvm_ReferencePointCollection"), None);
        assert_eq!(made.len(), 1);
        assert_eq!(text(&made[0], "VirtualSystemCollectionId"), SHOP);
        // Application consistent is 2 here.
        assert_eq!((number(&made[0], "ConsistencyLevel"), number(&made[0], "ReferencePointType")), (2, 2));
        let set = made[0].path(namespace);
        let members = host.associators(&set, "Msvm_CollectedReferencePoints", Some(POINT), None);
        let mut machines: Vec<&str> = members.iter().map(|point| text(point, "VirtualSystemIdentifier")).collect();
        machines.sort_unstable();
        assert_eq!(machines, [WEB, DB]);
        let linked = host.associators(&shop, "Msvm_ReferencePointOfVirtualSystemCollection", None, None);
        assert_eq!(linked, made);
        assert!(host.manager.class(CLUSTER, POINTS).is_err(), "a cluster reaches points through the job only");
        if namespace == V2 {
            let destroy = [("AffectedReferencePointCollection", CimValue::from(set))];
            let service = collection_reference_point_service(V2);
            let job = host.run_well(&service, "DestroyReferencePoint", &destroy).await;
            assert_eq!(number(&job, "JobType"), 208);
            assert!(host.enumerate(POINT).is_empty());
        }
    }
}

#[tokio::test]
async fn the_per_machine_service_converts_in_the_cluster_namespace() {
    let host = Host::start().await;
    track(&host, WEB).await;
    let create = [("AffectedSystem", system_in(CLUSTER, WEB).into()), ("SnapshotType", CimValue::Uint16(32768))];
    let job = host.run_well(&snapshot_service(CLUSTER), "CreateSnapshot", &create).await;
    let made = host.associators(&job.path(CLUSTER), "", Some("CIM_VirtualSystemSettingData"), None);
    let convert = [("AffectedSnapshot", CimValue::from(made[0].path(CLUSTER)))];
    let job = host.run_well(&snapshot_service(CLUSTER), "ConvertToReferencePoint", &convert).await;
    assert_eq!(host.associators(&job.path(CLUSTER), "", Some(POINT), None).len(), 1);
}

/// The export settings of a machine as a client sends them back, for one snapshot.
fn export_settings(host: &Host, machine: &str, snapshot: &ObjectPath, more: &str) -> CimValue {
    let class = "Msvm_VirtualSystemExportSettingData";
    let records = host.associators(&system(machine), "Msvm_SystemExportSettingData", Some(class), None);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].get("CopyVmStorage"), &CimValue::Boolean(true));
    let changed = property("InstanceID", "string", text(&records[0], "InstanceID"))
        + &property("CopySnapshotConfiguration", "uint8", "3")
        + &property("BackupIntent", "uint8", "1")
        + &property("SnapshotVirtualSystem", "string", &snapshot.to_wmi_text("HOST1"))
        + more;
    instance(class, &changed)
}

fn export(directory: &std::path::Path, machine: &str, settings: CimValue) -> Vec<(&'static str, CimValue)> {
    vec![
        ("ComputerSystem", system(machine).into()),
        ("ExportDirectory", CimValue::from(directory.to_str().unwrap())),
        ("ExportSettingData", settings),
    ]
}

#[tokio::test]
async fn a_backup_program_exports_converts_and_exports_what_changed() {
    let host = Host::start().await;
    let exports = host.directory.path().join("exports");
    track(&host, WEB).await;
    host.machines.write_disk(guid(WEB), "root", &vec![1; 200_000]);
    let first = recovery(&host, WEB).await;
    let service = management_service(V2);
    let settings = export_settings(&host, WEB, &first, "");
    let job = host.run_well(&service, "ExportSystemDefinition", &export(&exports.join("full"), WEB, settings)).await;
    assert_eq!(number(&job, "JobType"), 62);
    assert_eq!(numbers(&job, "OperationalStatus"), [17, 2]);
    assert_eq!(std::fs::read(exports.join("full/web01/root.qcow2")).unwrap(), vec![1; 200_000]);
    let about: serde_json::Value =
        serde_json::from_slice(&std::fs::read(exports.join("full/web01/machine.json")).unwrap()).unwrap();
    assert_eq!((&about["intent"], &about["machine"]["id"]), (&"merge".into(), &WEB.into()));
    let size = [("Vssd", CimValue::from(first.clone()))];
    assert_eq!(
        host.invoke(&service, "GetSizeOfSystemFiles", &size).await.get("Size"),
        Some(&CimValue::Uint64(200_000))
    );
    let point = convert(&host, &first).await;
    let mut content = vec![1; 200_000];
    content[100_000] = 2;
    host.machines.write_disk(guid(WEB), "root", &content);
    let second = recovery(&host, WEB).await;
    let base = property("DifferentialBackupBase", "string", &point.path(V2).to_wmi_text("HOST1"))
        + &property("CreateVmExportSubdirectory", "boolean", "FALSE");
    let settings = export_settings(&host, WEB, &second, &base);
    host.run_well(&service, "ExportSystemDefinition", &export(&exports.join("delta"), WEB, settings.clone())).await;
    let changed = std::fs::read_to_string(exports.join("delta/root.changed.json")).unwrap();
    assert!(changed.contains("65536"), "{changed}");
    // What is there stays as it is.
    let again = host.run(&service, "ExportSystemDefinition", &export(&exports.join("delta"), WEB, settings)).await;
    assert_eq!((number(&again, "JobState"), number(&again, "ErrorCode")), (10, 32773));
    assert!(text(&again, "ErrorDescription").contains("not empty"));
}

#[tokio::test]
async fn exports_that_cannot_be_are_refused() {
    let host = Host::start().await;
    let exports = host.directory.path().join("exports");
    let (snapshot, other) = (host.snapshot(WEB).await, host.snapshot(DB).await);
    let service = management_service(V2);
    let fine = export_settings(&host, WEB, &snapshot, "");
    let all = instance("Msvm_VirtualSystemExportSettingData", "");
    let wrong_base = property("DifferentialBackupBase", "string", &snapshot.to_wmi_text("HOST1"));
    let no_path = instance(
        "Msvm_VirtualSystemExportSettingData",
        &(property("CopySnapshotConfiguration", "uint8", "3") + &property("SnapshotVirtualSystem", "string", "web01")),
    );
    let bag = instance("Msvm_VirtualSystemSnapshotSettingData", "");
    for (settings, code) in [
        (CimValue::Null, 32770),
        (all, 32770),
        (export_settings(&host, WEB, &other, ""), 32773),
        (export_settings(&host, WEB, &snapshot, &wrong_base), 32773),
        (no_path, 32773),
        (bag, 32773),
    ] {
        let arguments = export(&exports.join("x"), WEB, settings.clone());
        let answer = host.invoke(&service, "ExportSystemDefinition", &arguments).await;
        assert_eq!((answer.code, answer.output.len()), (code, 0), "{settings:?}");
    }
    assert_eq!(host.invoke(&service, "ExportSystemDefinition", &[]).await.code, 32773);
    for outside in ["/etc/wsnapd-export", "exports", "/"] {
        let arguments = export(std::path::Path::new(outside), WEB, fine.clone());
        let job = host.run(&service, "ExportSystemDefinition", &arguments).await;
        assert_eq!((number(&job, "JobState"), number(&job, "ErrorCode")), (10, 32773), "{outside}");
    }
    assert_eq!(std::fs::read_dir(&exports).unwrap().count(), 0);
    let shop = ObjectPath::new(V2, ClassName::new("Msvm_VirtualSystemCollection")).with_key("CollectionID", SHOP);
    let create = [("Collection", shop.into()), ("SnapshotType", CimValue::Uint16(1))];
    let job = host.run_well(&collection_snapshot_service(V2), "CreateSnapshot", &create).await;
    let set = host.associators(&job.path(V2), "", Some("Msvm_SnapshotCollection"), None)[0].path(V2);
    let arguments = [
        ("SnapshotCollection", CimValue::from(set)),
        ("ExportDirectory", CimValue::from(exports.join("shop").to_str().unwrap())),
        ("ExportSettingData", instance("Msvm_CollectionSnapshotExportSettingData", "")),
    ];
    host.run_well(&collection_snapshot_service(V2), "ExportSnapshot", &arguments).await;
    assert!(exports.join("shop/db01/data.qcow2").is_file() && exports.join("shop/web01/machine.json").is_file());
}
