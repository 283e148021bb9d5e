//! Instances property by property, as clients insist on them.

use wsnapd::cim::{CimDateTime, CimInstance, CimValue, ClassName, ObjectPath};

use crate::providers_support::{
    CLUSTER, DB, HOST, Host, NOBODY, V2, WEB, management_service, number, numbers, settings, snapshot_service, system,
    text,
};

/// What a Windows client reads without asking whether it is null (`snapshot-semantics` §1).
const NEVER_NULL: [&str; 24] = [
    "AutomaticCriticalErrorAction",
    "AutomaticCriticalErrorActionTimeout",
    "AutomaticShutdownAction",
    "AutomaticStartupAction",
    "AutomaticStartupActionDelay",
    "BIOSNumLock",
    "Caption",
    "ConfigurationID",
    "CreationTime",
    "Description",
    "ElementName",
    "GuestControlledCacheTypes",
    "InstanceID",
    "IsAutomaticSnapshot",
    "IsSaved",
    "LockOnDisconnect",
    "NetworkBootPreferredProtocol",
    "Notes",
    "PauseAfterBootFailure",
    "SecureBootEnabled",
    "UserSnapshotType",
    "VirtualNumaEnabled",
    "VirtualSystemIdentifier",
    "VirtualSystemType",
];

#[tokio::test]
async fn every_settings_record_has_what_clients_read_without_asking() {
    let host = Host::start().await;
    host.run_well(&system(WEB), "RequestStateChange", &[("RequestedState", CimValue::Uint16(2))]).await;
    let snapshot = host.snapshot(WEB).await;
    for namespace in [V2, CLUSTER] {
        let records = host.enumerate_in(namespace, "Msvm_VirtualSystemSettingData");
        assert_eq!(records.len(), 3);
        for record in &records {
            for name in NEVER_NULL {
                assert_ne!(record.get(name), &CimValue::Null, "{name}");
            }
            for action in ["AutomaticStartupAction", "AutomaticShutdownAction"] {
                assert!((2..=4).contains(&number(record, action)), "{action}");
            }
            for (property, value) in record.properties() {
                let Some(map) = property.value_map.as_ref() else { continue };
                if let Some(number) = value.as_i128() {
                    assert!(map.contains(number), "{} = {number}", property.name());
                }
            }
        }
    }
    let active = host.get(&settings(WEB));
    let record = host.get(&snapshot);
    let id = snapshot.key_text("InstanceID").unwrap().strip_prefix("Microsoft:").unwrap();
    assert_ne!(id, WEB);
    assert_eq!((text(&record, "ConfigurationID"), text(&active, "ConfigurationID")), (id, WEB));
    assert_eq!(text(&record, "VirtualSystemIdentifier"), WEB);
    assert_eq!(text(&record, "VirtualSystemType"), "Microsoft:Hyper-V:Snapshot:Realized");
    assert_eq!(text(&active, "VirtualSystemType"), "Microsoft:Hyper-V:System:Realized");
    assert_eq!(record.get("Notes"), &CimValue::from(["about web01"]));
    assert_eq!(text(&record, "Description"), "Snapshot settings for the virtual machine");
    assert_eq!(text(&active, "Description"), "Active settings for the virtual machine");
    let parent = format!(r#"\\HOST1\root\virtualization\v2:Msvm_VirtualSystemSettingData.InstanceID="Microsoft:{id}""#);
    assert_eq!(text(&active, "Parent"), parent);
}

#[tokio::test]
async fn the_host_and_its_machines() {
    let host = Host::start().await;
    host.clock.advance(chrono::Duration::seconds(10));
    host.run_well(&system(WEB), "RequestStateChange", &[("RequestedState", CimValue::Uint16(2))]).await;
    host.clock.advance(chrono::Duration::seconds(5));
    let systems = host.enumerate("CIM_ComputerSystem");
    let names: Vec<&str> = systems.iter().map(|system| text(system, "ElementName")).collect();
    assert_eq!(names, [HOST, "web01", "db01"], "the host comes first");
    let (itself, running, off) = (&systems[0], &systems[1], &systems[2]);
    let row = |name: &str| [itself, running, off].map(|system| system.get(name).as_u64());
    assert_eq!(row("EnabledState"), [Some(2), Some(2), Some(3)]);
    assert_eq!(row("EnabledDefault"), [Some(2), Some(2), Some(3)]);
    assert_eq!(row("RequestedState"), [Some(12), Some(5), Some(5)]);
    assert_eq!(row("EnhancedSessionModeState"), [None, Some(6), Some(3)]);
    assert_eq!(row("OnTimeInMilliseconds"), [None, Some(5000), Some(0)]);
    assert_eq!(row("ReplicationState"), [None, Some(0), Some(0)]);
    assert_eq!(row("ResetCapability"), [Some(1); 3]);
    assert_eq!(row("NumberOfNumaNodes"), [Some(1); 3]);
    let captions: Vec<&str> = systems.iter().map(|system| text(system, "Caption")).collect();
    assert_eq!(captions, ["Hosting Computer System", "Virtual Machine", "Virtual Machine"]);
    assert_eq!(itself.get("InstallDate"), &CimValue::Null);
    assert_eq!(off.get("TimeOfLastStateChange"), &CimValue::DateTime(CimDateTime::NEVER));
    assert_eq!(running.get("LastReplicationTime"), &CimValue::DateTime(CimDateTime::NEVER));
    for instance in &systems {
        assert_eq!(instance.get("InstanceID"), &CimValue::Null);
        assert_eq!(numbers(instance, "OperationalStatus"), [2]);
        assert_eq!((text(instance, "Status"), number(instance, "HealthState")), ("OK", 5));
        // Arrays without a value are null, so that nothing is written for them.
        assert_eq!(instance.get("OtherIdentifyingInfo"), &CimValue::Null);
    }
    assert_eq!(text(&host.get(&system(&WEB.to_lowercase())), "Name"), WEB);
    assert!(host.try_get(V2, &system(NOBODY)).is_err());
}

#[tokio::test]
async fn a_finished_job_looks_as_a_host_shows_it() {
    let host = Host::start().await;
    let arguments = [("AffectedSystem", system(WEB).into()), ("SnapshotType", CimValue::Uint16(2))];
    let job = host.run_well(&snapshot_service(V2), "CreateSnapshot", &arguments).await;
    for name in ["Caption", "ElementName", "Name"] {
        assert_eq!(text(&job, name), "Creating a snapshot of web01");
    }
    for name in ["ErrorDescription", "ErrorSummaryDescription", "Notify", "OtherRecoveryAction"] {
        assert_eq!(text(&job, name), "", "{name} is empty, not null");
    }
    for name in ["UntilTime", "RunDay", "RunDayOfWeek", "RunMonth", "RunStartInterval", "PrimaryStatus"] {
        assert_eq!(job.get(name), &CimValue::Null, "{name}");
    }
    for (name, value) in
        [("JobType", 70), ("PercentComplete", 100), ("JobRunTimes", 1), ("LocalOrUtcTime", 2), ("RecoveryAction", 2)]
    {
        assert_eq!(number(&job, name), value, "{name}");
    }
    let five_minutes = std::time::Duration::from_secs(300);
    assert_eq!(job.get("TimeBeforeRemoval"), &CimValue::DateTime(CimDateTime::Interval(five_minutes)));
    assert_eq!(job.get("Cancellable"), &CimValue::Boolean(true), "although done");
    assert_eq!(job.get("DeleteOnCompletion"), &CimValue::Boolean(false));
    assert_eq!(job.get("InstallDate"), &CimValue::DateTime(CimDateTime::NEVER));
    assert_eq!(job.get("TimeSubmitted"), job.get("StartTime"));
    assert_eq!(text(&job, "Owner"), r"HOST1\admin");
    assert_eq!(job.get("StatusDescriptions").as_array().unwrap().len(), 2);
    let abstract_path = job.path(V2).with_class(ClassName::new("CIM_ConcreteJob"));
    assert_eq!(host.get(&abstract_path), job, "the abstract class leads to it as well");
    assert_eq!(host.enumerate("CIM_ConcreteJob").len(), 1);
}

fn parent_of(host: &Host, record: &CimInstance) -> CimInstance {
    let parent = text(record, "Parent");
    let key = parent.split_once("InstanceID=").unwrap().1;
    assert!(key.ends_with('"') && key.contains(r"\\"), "{key}");
    host.get(&ObjectPath::parse(parent).unwrap())
}

#[tokio::test]
async fn device_records_lead_from_the_image_to_its_file_and_its_controller() {
    let host = Host::with_pass_through().await;
    let snapshot = host.snapshot(WEB).await;
    let component = "Msvm_VirtualSystemSettingDataComponent";
    let images =
        |owner: &ObjectPath| host.associators(owner, component, Some("Msvm_StorageAllocationSettingData"), None);
    let web = images(&settings(WEB));
    assert_eq!(web[0].get("HostResource"), &CimValue::from(["/disks/web01-root.qcow2"]));
    let drive = parent_of(&host, &web[0]);
    assert_eq!((number(&drive, "ResourceType"), text(&drive, "AddressOnParent")), (17, "0"));
    assert_eq!(drive.get("HostResource"), &CimValue::Null, "an array with nothing in it crashes virsh");
    let controller = parent_of(&host, &drive);
    assert_eq!(number(&controller, "ResourceType"), 6);
    let id = format!(r"Microsoft:{WEB}\BA6163D9-04A1-4D29-B605-72E2FFB1DC7F\0\0");
    assert_eq!((text(&web[0], "InstanceID"), text(&drive, "InstanceID")), (&*format!(r"{id}\L"), &*format!(r"{id}\D")));

    // The snapshot has records of its own, told apart by the front of their keys.
    let copy = images(&snapshot);
    assert_eq!(copy.len(), 1);
    assert!(text(&copy[0], "InstanceID").starts_with(snapshot.key_text("InstanceID").unwrap()));
    // A device of the host is a drive with a resource and has no image.
    assert_eq!(images(&settings(DB)).len(), 1);
    let drives = host.associators(&settings(DB), component, Some("Msvm_ResourceAllocationSettingData"), None);
    let physical: Vec<_> = drives
        .iter()
        .filter(|drive| text(drive, "ResourceSubType") == "Microsoft:Hyper-V:Physical Disk Drive")
        .collect();
    let [physical] = &*physical else { panic!("{physical:?}") };
    let Some([CimValue::String(path)]) = physical.get("HostResource").as_array() else { panic!("{physical:?}") };
    let disks = host.enumerate("CIM_DiskDrive");
    let [disk] = &*disks else { panic!("{disks:?}") };
    let path = ObjectPath::parse(path).unwrap();
    assert_eq!((host.get(&path), disk.path(V2)), (disk.clone(), path.clone()));
    assert!(text(disk, "Name").starts_with("/disks/"), "{disk:?}");
    for (key, _) in path.keys() {
        let mut wrong = ObjectPath::new(V2, path.class_name().clone());
        for (name, value) in path.keys() {
            wrong = wrong.with_key(name.as_str(), if name == key { "Microsoft:x" } else { value.as_text().unwrap() });
        }
        assert!(host.try_get(V2, &wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(host.enumerate("Msvm_StorageAllocationSettingData").len(), 3);
    for bad in [r"\0\00\L", r"\0\7\L", r"\1", r"\0\0\L\x", ""] {
        let path = ObjectPath::new(V2, ClassName::new("Msvm_StorageAllocationSettingData"))
            .with_key("InstanceID", format!(r"Microsoft:{WEB}\BA6163D9-04A1-4D29-B605-72E2FFB1DC7F{bad}"));
        assert!(host.try_get(V2, &path).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn services_are_singletons_that_their_base_leads_to() {
    let host = Host::start().await;
    for namespace in [V2, CLUSTER] {
        let found = host.enumerate_in(namespace, "CIM_VirtualSystemSnapshotService");
        assert_eq!(found.len(), 1);
        let service = &found[0];
        assert_eq!(*service.class().name(), "Msvm_VirtualSystemSnapshotService");
        assert_eq!((text(service, "Name"), text(service, "SystemName")), ("vssnapsvc", HOST));
        assert_eq!(text(service, "SystemCreationClassName"), "Msvm_ComputerSystem");
        for (name, value) in
            [("EnabledState", 2), ("EnabledDefault", 2), ("RequestedState", 12), ("TransitioningToState", 12)]
        {
            assert_eq!(number(service, name), value, "{name}");
        }
        assert_eq!(service.get("Started"), &CimValue::Boolean(true));
        let management = host.enumerate_in(namespace, "Msvm_VirtualSystemManagementService");
        assert_eq!(text(&management[0], "Name"), "vmms");
    }
}

#[tokio::test]
async fn summaries_name_machines_as_virt_who_wants_them() {
    let host = Host::start().await;
    let snapshot = host.snapshot(WEB).await;
    let ask = async |arguments: &[(&'static str, CimValue)]| {
        let answer = host.invoke(&management_service(V2), "GetSummaryInformation", arguments).await;
        let records: Vec<CimInstance> = match answer.get("SummaryInformation") {
            Some(CimValue::Array(items)) => items
                .iter()
                .map(|item| match item {
                    CimValue::Instance(instance) => CimInstance::clone(instance),
                    other => panic!("{other:?}"),
                })
                .collect(),
            _ => Vec::new(),
        };
        (answer.code, records)
    };
    let wanted = ("RequestedInformation", CimValue::from([0_u32, 1, 4, 100, 107]));
    let (code, all) = ask(std::slice::from_ref(&wanted)).await;
    assert_eq!((code, all.len()), (0, 2));
    assert_eq!((text(&all[0], "Name"), number(&all[0], "EnabledState")), (WEB, 3));
    assert_eq!((text(&all[0], "ElementName"), number(&all[0], "NumberOfProcessors")), ("web01", 2));
    assert_eq!(all[0].get("Snapshots"), &CimValue::from(vec![snapshot.clone()]));
    assert_eq!(all[0].get("Notes"), &CimValue::Null, "what was not asked for is not answered");
    let (code, one) = ask(&[("SettingData", CimValue::from([settings(DB)])), wanted.clone()]).await;
    assert_eq!((code, one.len(), text(&one[0], "ElementName")), (0, 1, "db01"));
    assert_eq!(ask(&[("SettingData", CimValue::from([settings(NOBODY)])), wanted]).await.0, 32773);
    assert_eq!(ask(&[]).await.0, 32773);
    let size = [("Vssd", CimValue::from(snapshot))];
    assert_eq!(host.invoke(&management_service(V2), "GetSizeOfSystemFiles", &size).await.code, 0);
}

#[tokio::test]
async fn the_server_says_who_it_is() {
    let host = Host::start().await;
    let found = host.enumerate_in("root/omi", "OMI_Identify");
    assert_eq!(found.len(), 1);
    assert_eq!((text(&found[0], "InstanceID"), text(&found[0], "SystemName")), (NOBODY, HOST));
    assert_eq!(text(&found[0], "ProductVersionString"), env!("CARGO_PKG_VERSION"));
    let profiles = host.enumerate_in("root/interop", "CIM_RegisteredProfile");
    assert_eq!(profiles.len(), 2);
    assert!(profiles.iter().all(|profile| number(profile, "RegisteredOrganization") == 2));
}

#[tokio::test]
async fn a_long_list_is_complete_and_has_nothing_twice() {
    let host = Host::with_many_machines().await;
    for (class, expected) in [
        ("Msvm_ComputerSystem", 301),
        ("Msvm_VirtualSystemSettingData", 300),
        ("Msvm_ResourceAllocationSettingData", 600),
        ("Msvm_SettingsDefineState", 300),
        ("Msvm_HostedDependency", 300),
        ("Msvm_CollectedVirtualSystems", 300),
    ] {
        let mut keys: Vec<String> =
            host.enumerate(class).iter().map(|instance| instance.path(V2).to_relative_text()).collect();
        assert_eq!(keys.len(), expected, "{class}");
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), expected, "{class}");
    }
}
