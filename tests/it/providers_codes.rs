//! Every return value and every error code of the tables (`snapshot-semantics` §3 to §5).

use std::sync::Arc;
use std::time::Duration;

use wsnapd::backend::{Fault, MachineState, SimulatedCall};
use wsnapd::cim::{CimDateTime, PropertyName};
use wsnapd::cim::{CimInstance, CimValue, ClassName, ObjectPath, RawInstance, RawProperty, RawValue, cimxml, embedded};

use crate::providers_support::{
    CLUSTER, DB, Host, NOBODY, SHOP, V2, WEB, collection_service, collection_snapshot_service, guid,
    management_service, number, numbers, path_identity, settings, snapshot_service, system, system_in, text,
};

fn create<'a>(path: &ObjectPath, snapshot_type: u16) -> Vec<(&'a str, CimValue)> {
    vec![("AffectedSystem", path.clone().into()), ("SnapshotType", CimValue::Uint16(snapshot_type))]
}

/// Target, method and arguments.
type Call<'a> = (ObjectPath, &'a str, &'a [(&'static str, CimValue)]);

fn collection(id: &str) -> ObjectPath {
    ObjectPath::new(V2, ClassName::new("Msvm_VirtualSystemCollection")).with_key("CollectionID", id)
}

#[tokio::test]
async fn a_machine_is_found_by_every_spelling_of_its_reference_and_by_no_other() {
    let host = Host::start().await;
    let relative = |class: &str| ObjectPath::relative(ClassName::new(class));
    let name_only = relative("Msvm_ComputerSystem").with_key("Name", WEB);
    let text = format!(r#"\\host1\root\virtualization\v2:Msvm_ComputerSystem.Name="{}""#, WEB.to_lowercase());
    for good in [
        system(WEB),
        system(&WEB.to_lowercase()),
        name_only.clone(),
        name_only.clone().with_host("HOST1.example.com"),
        relative("CIM_ComputerSystem").with_key("Name", WEB),
        ObjectPath::parse(&text).unwrap(),
    ] {
        let job = host.run(&snapshot_service(V2), "CreateSnapshot", &create(&good, 2)).await;
        assert_eq!(number(&job, "JobState"), 7, "{good:?}");
    }
    for bad in [
        system(NOBODY),
        system("HOST1"),
        system(&format!("{{{WEB}}}")),
        system_in(CLUSTER, WEB),
        name_only.clone().with_host("elsewhere"),
        name_only.with_key("CreationClassName", "Msvm_PlannedComputerSystem"),
        relative("Msvm_PlannedComputerSystem").with_key("Name", WEB),
        relative("Msvm_ComputerSystem"),
        settings(WEB),
    ] {
        let answer = host.invoke(&snapshot_service(V2), "CreateSnapshot", &create(&bad, 2)).await;
        assert_eq!((answer.code, answer.output.len()), (32773, 0), "{bad:?}");
    }
}

#[tokio::test]
async fn types_and_missing_parameters() {
    let host = Host::start().await;
    for (snapshot_type, code) in [(0, 6), (1, 6), (4, 6), (32769, 6), (65535, 6), (2, 4096), (3, 4096), (32768, 4096)] {
        let answer = host.invoke(&snapshot_service(V2), "CreateSnapshot", &create(&system(WEB), snapshot_type)).await;
        assert_eq!(answer.code, code, "{snapshot_type}");
        if code == 4096 {
            host.wait(&answer.reference("Job")).await;
        }
    }
    let job = host.run_well(&snapshot_service(V2), "CreateSnapshot", &create(&system(WEB), 34818)).await;
    let made = host.associators(&job.path(V2), "", Some("CIM_VirtualSystemSettingData"), None);
    assert_eq!(made[0].get("IsAutomaticSnapshot"), &CimValue::Boolean(true));

    let missing: [Call<'_>; 7] = [
        (snapshot_service(V2), "CreateSnapshot", &[("SnapshotType", CimValue::Uint16(2))]),
        (snapshot_service(V2), "CreateSnapshot", &[("AffectedSystem", system(WEB).into())]),
        (snapshot_service(V2), "ApplySnapshot", &[("Snapshot", CimValue::Null)]),
        (snapshot_service(V2), "ApplySnapshot", &[("Snapshot", settings(WEB).into())]),
        (management_service(V2), "ModifySystemSettings", &[]),
        (system(WEB), "RequestStateChange", &[]),
        (collection_service(V2), "DefineCollection", &[("Name", CimValue::from("x"))]),
    ];
    for (target, method, arguments) in missing {
        assert_eq!(host.invoke(&target, method, arguments).await.code, 32773, "{method}");
    }
    for method in ["ApplySnapshot", "DestroySnapshot", "DestroySnapshotTree", "ClearSnapshotState"] {
        let parameter = match method {
            "ApplySnapshot" => "Snapshot",
            "DestroySnapshot" => "AffectedSnapshot",
            _ => "SnapshotSettingData",
        };
        let gone = [(parameter, CimValue::from(settings(NOBODY)))];
        assert_eq!(host.invoke(&snapshot_service(V2), method, &gone).await.code, 32773, "{method}");
    }
}

fn embedded_text(class: &str, properties: &str) -> CimValue {
    format!(r#"<INSTANCE CLASSNAME="{class}">{properties}</INSTANCE>"#).into()
}

fn property(name: &str, ty: &str, value: &str) -> String {
    format!(r#"<PROPERTY NAME="{name}" TYPE="{ty}"><VALUE>{value}</VALUE></PROPERTY>"#)
}

#[tokio::test]
async fn settings_are_taken_in_every_form_or_refused_at_once() {
    let host = Host::start().await;
    let bag = "Msvm_VirtualSystemSnapshotSettingData";
    let named = property("ElementName", "string", "by hand");
    let elements = RawInstance {
        class_name: ClassName::new(bag),
        properties: vec![RawProperty {
            name: PropertyName::new("elementname"),
            value: RawValue::Text("by hand".to_owned()),
        }],
    };
    let good: [(CimValue, Option<&str>); 10] = [
        (CimValue::Null, None),
        (CimValue::from(""), None),
        (CimValue::from(" \r\n"), None),
        (embedded_text(bag, &property("ConsistencyLevel", "uint8", "2")), None),
        (embedded_text(bag, &named), Some("by hand")),
        (embedded_text("Msvm_VirtualSystemSettingData", &named), Some("by hand")),
        (embedded_text("CIM_SettingData", &named), Some("by hand")),
        (embedded_text(bag, &property("ElementName", "string", "")), None),
        (format!("instance of {bag} {{ ElementName = \"by hand\"; }};").into(), Some("by hand")),
        (CimValue::RawInstance(Arc::new(elements)), Some("by hand")),
    ];
    for (given, name) in good {
        let mut arguments = create(&system(WEB), 32768);
        arguments.push(("SnapshotSettings", given.clone()));
        let job = host.run_well(&snapshot_service(V2), "CreateSnapshot", &arguments).await;
        let made = host.associators(&job.path(V2), "", Some("Msvm_VirtualSystemSettingData"), None);
        assert_eq!(text(&made[0], "ElementName"), name.unwrap_or("web01 - (2026-11-21 - 14:05:09)"), "{given:?}");
        assert_eq!(text(&made[0], "VirtualSystemType"), "Microsoft:Hyper-V:Snapshot:Recovery");
        host.run_well(&snapshot_service(V2), "DestroySnapshot", &[("AffectedSnapshot", made[0].path(V2).into())]).await;
    }
    let long = "x".repeat(101);
    for bad in [
        CimValue::from("take it"),
        CimValue::from("<INSTANCE"),
        embedded_text("Msvm_Unknown", ""),
        embedded_text("Msvm_ComputerSystem", ""),
        embedded_text("Msvm_VirtualSystemExportSettingData", ""),
        embedded_text(bag, &property("NoSuchProperty", "string", "x")),
        embedded_text(bag, &property("ConsistencyLevel", "uint8", "3")),
        embedded_text(bag, &property("ConsistencyLevel", "uint8", "high")),
        embedded_text(bag, &property("GuestBackupType", "uint8", "9")),
        embedded_text(bag, &property("ElementName", "string", &long)),
        embedded_text("Msvm_VirtualSystemSettingData", &property("UserSnapshotType", "uint16", "9")),
    ] {
        let mut arguments = create(&system(WEB), 2);
        arguments.push(("SnapshotSettings", bad.clone()));
        assert_eq!(host.invoke(&snapshot_service(V2), "CreateSnapshot", &arguments).await.code, 32773, "{bad:?}");
    }
    assert!(host.enumerate("Msvm_SnapshotOfVirtualSystem").is_empty());
}

#[tokio::test]
async fn states_and_kinds_that_forbid_a_call() {
    let host = Host::start().await;
    let snapshot = host.snapshot(WEB).await;
    let recovery = host.run_well(&snapshot_service(V2), "CreateSnapshot", &create(&system(WEB), 32768)).await;
    let recovery = host.associators(&recovery.path(V2), "", Some("CIM_SettingData"), None)[0].path(V2);
    let call = async |method: &str, parameter: &'static str, path: &ObjectPath| {
        host.invoke(&snapshot_service(V2), method, &[(parameter, path.clone().into())]).await.code
    };
    assert_eq!(call("ApplySnapshot", "Snapshot", &recovery).await, 32773);
    assert_eq!(call("DestroySnapshotTree", "SnapshotSettingData", &recovery).await, 32773);
    assert_eq!(call("ClearSnapshotState", "SnapshotSettingData", &snapshot).await, 0);
    assert_eq!(call("ConvertToReferencePoint", "AffectedSnapshot", &snapshot).await, 32773);

    host.machines.set_duration(SimulatedCall::ChangeState, Duration::from_millis(200));
    let start = host.invoke(&system(WEB), "RequestStateChange", &[("RequestedState", CimValue::Uint16(2))]).await;
    assert_eq!(start.code, 4096);
    while number(&host.get(&system(WEB)), "EnabledState") != 10 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answer = host.invoke(&snapshot_service(V2), "CreateSnapshot", &create(&system(WEB), 2)).await;
    assert_eq!(answer.code, 32775, "a machine on its way is tried again later");
    host.wait(&start.reference("Job")).await;
    assert_eq!(call("ApplySnapshot", "Snapshot", &snapshot).await, 32775);
}

#[tokio::test]
async fn requested_states_of_a_machine() {
    let host = Host::start().await;
    for (requested, code) in [(7, 32770), (8, 32770), (32773, 32770), (5, 32773), (54321, 32773), (3, 0)] {
        let arguments = [("RequestedState", CimValue::Uint16(requested))];
        assert_eq!(host.invoke(&system(WEB), "RequestStateChange", &arguments).await.code, code, "{requested}");
    }
    for (requested, state) in [(2, 2), (9, 9), (2, 2), (32769, 6), (2, 2), (32768, 9), (3, 3), (2, 2), (11, 2), (4, 3)]
    {
        let arguments = [("RequestedState", CimValue::Uint16(requested))];
        host.run_well(&system(WEB), "RequestStateChange", &arguments).await;
        assert_eq!(number(&host.get(&system(WEB)), "EnabledState"), state, "{requested}");
    }
    let stop_host = [("RequestedState", CimValue::Uint16(3))];
    assert_eq!(host.invoke(&system("HOST1"), "RequestStateChange", &stop_host).await.code, 32770);
}

#[tokio::test]
async fn what_services_never_do() {
    let host = Host::start().await;
    let none: &[(&str, CimValue)] = &[];
    for service in [snapshot_service, management_service, collection_service] {
        for namespace in [V2, CLUSTER] {
            for method in ["StartService", "StopService"] {
                assert_eq!(host.invoke(&service(namespace), method, none).await.code, 1, "{method}");
            }
        }
    }
    assert_eq!(host.invoke(&snapshot_service(V2), "RequestStateChange", none).await.code, 1);
    for method in ["DefineSystem", "AddResourceSettings", "GetVirtualSystemThumbnailImage"] {
        assert_eq!(host.invoke(&management_service(V2), method, none).await.code, 32770, "{method}");
    }
    assert_eq!(host.invoke(&collection_snapshot_service(V2), "ExportSnapshot", none).await.code, 32773);
}

#[tokio::test]
async fn a_failed_job_tells_code_and_words() {
    let host = Host::start().await;
    let cases = [
        (Fault::Fail("the disk is on fire".to_owned()), 32768, "the disk is on fire"),
        (Fault::NoSpace, 32768, "space"),
        (Fault::AccessDenied, 32769, ""),
        (Fault::Unreachable, 32777, ""),
    ];
    for (fault, code, words) in cases {
        host.machines.script(SimulatedCall::Create, fault.clone());
        let job = host.run(&snapshot_service(V2), "CreateSnapshot", &create(&system(WEB), 2)).await;
        assert_eq!((number(&job, "JobState"), number(&job, "ErrorCode")), (10, code), "{fault:?}");
        assert_eq!(numbers(&job, "OperationalStatus"), [6]);
        let description = text(&job, "ErrorDescription").to_owned();
        assert!(!description.is_empty() && description.contains(words), "{description}");
        assert_eq!(text(&job, "ErrorSummaryDescription"), "Creating a snapshot of web01 failed.");

        let errors = host.invoke(&job.path(V2), "GetErrorEx", &[]).await;
        let list = errors.get("Errors").unwrap().as_array().unwrap();
        assert_eq!((errors.code, list.len()), (0, 1));
        let raw = embedded::parse(list[0].as_str().unwrap()).unwrap().unwrap();
        let error = host.manager.namespace(V2).unwrap().instantiate(&raw).unwrap();
        assert_eq!(*error.class().name(), "Msvm_Error");
        assert!(text(&error, "Message").contains(&description));
        assert_eq!(text(&error, "ErrorSource"), job.path(V2).to_wmi_text("HOST1"));
        let error = host.invoke(&job.path(V2), "GetError", &[]).await;
        assert_eq!(error.get("Error"), Some(&list[0]));

        let made = host.associators(&job.path(V2), "", Some("Msvm_VirtualSystemSettingData"), None);
        assert!(made.is_empty(), "a failed job has made nothing");
    }
    assert!(host.enumerate("Msvm_SnapshotOfVirtualSystem").is_empty());
    let job = host.run_well(&snapshot_service(V2), "CreateSnapshot", &create(&system(WEB), 2)).await;
    let none = host.invoke(&job.path(V2), "GetErrorEx", &[]).await;
    assert_eq!((none.code, none.output.len()), (0, 0));
}

#[tokio::test]
async fn snapshots_can_be_disabled_and_disks_can_be_unfit() {
    let host = Host::with_pass_through().await;
    let disable = embedded_text(
        "Msvm_VirtualSystemSettingData",
        &(property("InstanceID", "string", &format!("Microsoft:{WEB}")) + &property("UserSnapshotType", "uint16", "2")),
    );
    assert_eq!(
        host.invoke(&management_service(V2), "ModifySystemSettings", &[("SystemSettings", disable)]).await.code,
        0
    );
    let job = host.run(&snapshot_service(V2), "CreateSnapshot", &create(&system(WEB), 2)).await;
    assert_eq!((number(&job, "JobState"), number(&job, "ErrorCode")), (10, 32770));
    assert!(text(&job, "ErrorDescription").contains("disabled"), "{}", text(&job, "ErrorDescription"));

    let job = host.run(&snapshot_service(V2), "CreateSnapshot", &create(&system(DB), 3)).await;
    assert_eq!((number(&job, "JobState"), number(&job, "ErrorCode")), (10, 32770));
    assert!(text(&job, "ErrorDescription").contains("tape"), "{}", text(&job, "ErrorDescription"));
    let mut arguments = create(&system(DB), 3);
    let ignore = property("IgnoreNonSnapshottableDisks", "boolean", "TRUE");
    arguments.push(("SnapshotSettings", embedded_text("Msvm_VirtualSystemSnapshotSettingData", &ignore)));
    host.run_well(&snapshot_service(V2), "CreateSnapshot", &arguments).await;
}

#[tokio::test]
async fn a_job_is_cancelled_by_its_own_rules() {
    let host = Host::start().await;
    host.machines.script(SimulatedCall::Create, Fault::Hang);
    let answer = host.invoke(&snapshot_service(V2), "CreateSnapshot", &create(&system(WEB), 2)).await;
    let job = answer.reference("Job");
    let seen = host.get(&job);
    assert_eq!((number(&seen, "JobState"), number(&seen, "ErrorCode")), (4, 0));
    assert_eq!(host.invoke(&job, "GetError", &[]).await.output.len(), 0);

    // A second one waits behind it and shows the same state, a third as well; then the queue is full.
    let second = host.invoke(&snapshot_service(V2), "CreateSnapshot", &create(&system(WEB), 2)).await;
    assert_eq!(number(&host.get(&second.reference("Job")), "JobState"), 4);
    let third = host.invoke(&snapshot_service(V2), "CreateSnapshot", &create(&system(WEB), 2)).await;
    assert_eq!(third.code, 4096);
    let fourth = host.invoke(&snapshot_service(V2), "CreateSnapshot", &create(&system(WEB), 2)).await;
    assert_eq!(fourth.code, 32774);

    let ask = async |number: u16, limit: Option<Duration>| {
        let mut arguments = vec![("RequestedState", CimValue::Uint16(number))];
        if let Some(limit) = limit {
            arguments.push(("TimeoutPeriod", CimDateTime::Interval(limit).into()));
        }
        host.invoke(&job, "RequestStateChange", &arguments).await.code
    };
    for (state, code) in [(2, 1), (3, 1), (6, 1), (0, 5), (7, 5), (54321, 5)] {
        assert_eq!(ask(state, None).await, code, "{state}");
    }
    assert_eq!(host.invoke(&job, "RequestStateChange", &[]).await.code, 5);
    assert_eq!(ask(4, Some(Duration::from_secs(60))).await, 4098);
    assert!([0, 4096].contains(&ask(5, None).await));
    let ended = host.wait(&job).await;
    assert_eq!(number(&ended, "JobState"), 9);
    assert_eq!(ask(4, None).await, 4097, "a job that has ended stays as it is");
    host.wait(&second.reference("Job")).await;
    host.wait(&third.reference("Job")).await;

    // A job that has been forgotten is not found.
    host.clock.advance(chrono::Duration::minutes(6));
    host.engine.sweep_jobs().await.unwrap();
    assert!(host.try_get(V2, &job).is_err());
}

#[tokio::test]
async fn collections_are_managed() {
    let host = Host::start().await;
    let service = collection_service(V2);
    let define = |name: &str, id: CimValue, kind: u16| {
        [("Name", CimValue::from(name)), ("Id", id), ("Type", CimValue::Uint16(kind))]
    };
    let answer = host.invoke(&service, "DefineCollection", &define("all", CimValue::Null, 1)).await;
    assert_eq!(answer.code, 0);
    let all = answer.reference("DefinedCollection");
    assert_eq!(*all.class_name(), "Msvm_ManagementCollection");
    for (arguments, code) in [
        (define("again", CimValue::from(SHOP), 0), 32768),
        (define("odd", CimValue::from("not a GUID"), 0), 32773),
        (define("odd", CimValue::Null, 2), 32773),
    ] {
        assert_eq!(host.invoke(&service, "DefineCollection", &arguments).await.code, code, "{arguments:?}");
    }
    let into = |member: &ObjectPath, collection: &ObjectPath| {
        [("Member", CimValue::from(member.clone())), ("Collection", CimValue::from(collection.clone()))]
    };
    assert_eq!(host.invoke(&service, "AddMember", &into(&collection(SHOP), &all)).await.code, 0);
    assert_eq!(host.linked(&all, "Msvm_CollectedCollections"), [guid(SHOP)]);
    assert_eq!(host.linked(&collection(SHOP), "Msvm_CollectedCollections"), [path_identity(&all)]);
    assert_eq!(host.invoke(&service, "AddMember", &into(&system(NOBODY), &all)).await.code, 32773);
    assert_eq!(host.invoke(&service, "RemoveMember", &into(&system(DB), &collection(SHOP))).await.code, 0);
    assert_eq!(host.linked(&collection(SHOP), "Msvm_CollectedVirtualSystems"), [guid(WEB)]);
    let by_id = [("Member", CimValue::from(system(DB))), ("CollectionId", CimValue::from(SHOP))];
    assert_eq!(host.invoke(&service, "RemoveMemberById", &by_id).await.code, 0, "it is no member any more");
    let rename = [("Collection", CimValue::from(collection(SHOP))), ("NewName", CimValue::from("store"))];
    assert_eq!(host.invoke(&service, "RenameCollection", &rename).await.code, 0);
    assert_eq!(text(&host.get(&collection(SHOP)), "ElementName"), "store");
    let destroy = [("Collection", CimValue::from(all.clone()))];
    assert_eq!(host.invoke(&service, "DestroyCollection", &destroy).await.code, 0);
    assert_eq!(host.invoke(&service, "DestroyCollection", &destroy).await.code, 32773);
}

#[tokio::test]
async fn settings_of_a_machine_are_changed_and_the_rest_is_ignored() {
    let host = Host::start().await;
    let modify = async |record: &CimInstance| {
        let arguments = [("SystemSettings", cimxml::encode_instance(record).into())];
        host.invoke(&management_service(V2), "ModifySystemSettings", &arguments).await.code
    };
    let mut record = host.get(&settings(WEB));
    record.set("ElementName", "renamed").unwrap();
    record.set("Notes", ["first", "second"]).unwrap();
    record.set("AutomaticStartupAction", 4_u16).unwrap();
    record.set("AutomaticShutdownAction", 2_u16).unwrap();
    record.set("IncrementalBackupEnabled", true).unwrap();
    record.set("VirtualSystemType", "Microsoft:Hyper-V:System:Planned").unwrap();
    assert_eq!(modify(&record).await, 0);
    let changed = host.get(&settings(WEB));
    assert_eq!(text(&changed, "ElementName"), "renamed");
    assert_eq!(changed.get("Notes"), &CimValue::from(["first"]));
    assert_eq!((number(&changed, "AutomaticStartupAction"), number(&changed, "AutomaticShutdownAction")), (4, 2));
    assert_eq!(changed.get("IncrementalBackupEnabled"), &CimValue::Boolean(true));
    assert_eq!(text(&changed, "VirtualSystemType"), "Microsoft:Hyper-V:System:Realized");
    assert_eq!(text(&host.get(&system(WEB)), "ElementName"), "renamed");

    for (property, value) in [
        ("UserSnapshotType", CimValue::Uint16(1)),
        ("AutomaticStartupAction", CimValue::Uint16(1)),
        ("AutomaticStartupAction", CimValue::Uint16(7)),
        ("ElementName", CimValue::from("x".repeat(101))),
        ("InstanceID", CimValue::from(format!("Microsoft:{NOBODY}"))),
        ("InstanceID", CimValue::Null),
    ] {
        let mut bad = host.get(&settings(WEB));
        bad.set(property, value).unwrap();
        assert_eq!(modify(&bad).await, 32773, "{property}");
    }
    host.machines.set_state(guid(WEB), MachineState::Running);
}
