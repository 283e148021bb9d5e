//! Device records, switches, shutdown components and the records of the host.

use std::sync::Arc;

use wsnapd::cim::{CimInstance, CimValue, ClassName, ObjectPath, Schema};
use wsnapd::cimom::{AssociationFilter, ObjectManager, Polymorphism, ProviderRegistry};
use wsnapd::providers::{ProviderOptions, register};

use crate::providers_support::{CLUSTER, DB, HOST, Host, NOBODY, V2, WEB, guid, schema};

const CIMV2: &str = "root/cimv2";
const RECORDS: [&str; 7] = [
    "Msvm_ResourceAllocationSettingData",
    "Msvm_StorageAllocationSettingData",
    "Msvm_ProcessorSettingData",
    "Msvm_MemorySettingData",
    "Msvm_SyntheticEthernetPortSettingData",
    "Msvm_EthernetPortAllocationSettingData",
    "Msvm_SerialPortSettingData",
];

#[track_caller]
fn text<'i>(instance: &'i CimInstance, name: &str) -> &'i str {
    match instance.get(name) {
        CimValue::String(text) => text,
        other => panic!("{name} is {other:?}"),
    }
}

#[tokio::test]
async fn every_device_is_found_by_its_path_and_belongs_to_one_record() {
    let host = Host::with_networks().await;
    host.snapshot(WEB).await;
    let mut counts = Vec::new();
    for name in RECORDS {
        let mut found = host.enumerate(name);
        found.retain(|one| !text(one, "InstanceID").starts_with("Microsoft:Definition"));
        counts.push(found.len());
        for device in &found {
            let path = device.path(V2);
            assert_eq!(host.get(&path), *device);
            let filter = AssociationFilter {
                result_class: Some(ClassName::new("CIM_VirtualSystemSettingData")),
                ..Default::default()
            };
            let owners = host.manager.associators(&host.context(V2), device, &filter).unwrap();
            let [owner] = &*owners else { panic!("{path:?}: {owners:?}") };
            assert!(text(device, "InstanceID").starts_with(&format!("{}\\", text(owner, "InstanceID"))), "{path:?}");
            // The parent of a device is another device of the same owner.
            if let CimValue::String(parent) = device.get("Parent") {
                let parent = host.get(&ObjectPath::parse(parent).unwrap());
                assert!(text(&parent, "InstanceID").starts_with(text(owner, "InstanceID")), "{path:?}");
            }
        }
    }
    // web01, db01 and the snapshot: a controller, a drive and an image each; the cards are those of web01 and its snapshot.
    assert_eq!(counts, [6, 3, 3, 3, 4, 4, 0]);
    for wrong in [
        format!("Microsoft:{WEB}\\F8615163-DF3E-46C5-913F-F2D2F965ED0E\\2"),
        format!("Microsoft:{NOBODY}\\4764334D-E001-4176-82EE-5594EC9B530E"),
        format!("Microsoft:{WEB}"),
    ] {
        let path = ObjectPath::new(V2, ClassName::new(RECORDS[3])).with_key("InstanceID", wrong);
        assert!(host.try_get(V2, &path).is_err(), "{path:?}");
    }
}

#[tokio::test]
async fn definitions_state_defaults_limits_and_steps() {
    let host = Host::start().await;
    let capability =
        |id: &str| ObjectPath::new(V2, ClassName::new("Msvm_AllocationCapabilities")).with_key("InstanceID", id);
    let found = host.enumerate("CIM_AllocationCapabilities");
    assert_eq!(found.iter().map(|one| text(one, "ElementName")).collect::<Vec<_>>(), ["Processor", "Memory"]);
    for (capabilities, (class, least, most, usual)) in
        found.iter().zip([("Msvm_ProcessorSettingData", 1, 4096, 1), ("Msvm_MemorySettingData", 1, 16_777_216, 1024)])
    {
        let id = text(capabilities, "InstanceID");
        assert_eq!(host.get(&capability(&id.to_uppercase())), *capabilities);
        let of =
            |class: &str| AssociationFilter { association_class: Some(ClassName::new(class)), ..Default::default() };
        let links = host.manager.references(
            &host.context(V2),
            capabilities,
            &AssociationFilter {
                result_class: Some(ClassName::new("CIM_SettingsDefineCapabilities")),
                ..Default::default()
            },
        );
        let mut stated = Vec::new();
        for link in links.unwrap() {
            let CimValue::Reference(path) = link.get("PartComponent") else { panic!("{link:?}") };
            let record = host.get(path);
            assert_eq!(record.class().name(), class);
            assert_eq!(record.path(V2), **path);
            let settings = host.manager.associators(&host.context(V2), &record, &of("CIM_SettingsDefineCapabilities"));
            assert_eq!(settings.unwrap().as_slice(), std::slice::from_ref(capabilities));
            // It is no part of a machine.
            let owners = of("CIM_VirtualSystemSettingDataComponent");
            assert!(host.manager.associators(&host.context(V2), &record, &owners).unwrap().is_empty());
            let (role, range) = (link.get("ValueRole").as_u64().unwrap(), link.get("ValueRange").as_u64().unwrap());
            let name = text(&record, "InstanceID").strip_prefix(&format!("{id}\\")).unwrap().to_owned();
            stated.push((role, range, name, record.get("VirtualQuantity").as_u64().unwrap()));
        }
        stated.sort_unstable();
        let wanted =
            [(0, 0, "Default", usual), (3, 1, "Minimum", least), (3, 2, "Maximum", most), (3, 3, "Increment", 1)];
        assert_eq!(stated, wanted.map(|(role, range, name, quantity)| (role, range, name.to_owned(), quantity)));
        let hosts = host.manager.associators(&host.context(V2), capabilities, &of("Msvm_ElementCapabilities")).unwrap();
        assert_eq!(hosts.iter().map(|one| text(one, "Name")).collect::<Vec<_>>(), [HOST]);
    }
    for (class, id) in [
        ("Msvm_MemorySettingData", "Microsoft:Definition\\B637F346-6A0E-4DEC-AF52-BD70CB80A21D\\Maximum"),
        ("Msvm_ProcessorSettingData", "Microsoft:Definition\\B637F346-6A0E-4DEC-AF52-BD70CB80A21D\\Most"),
        ("Msvm_ProcessorSettingData", "Microsoft:Definition"),
        ("Msvm_AllocationCapabilities", "Microsoft:Definition"),
    ] {
        let path = ObjectPath::new(V2, ClassName::new(class)).with_key("InstanceID", id);
        assert!(host.try_get(V2, &path).is_err(), "{path:?}");
    }
    // No machine of this host is a process of its own.
    assert_eq!(host.enumerate_in(CIMV2, "Win32_PerfRawData"), []);
}

#[tokio::test]
async fn cards_are_connected_to_switches() {
    let host = Host::with_networks().await;
    let switches = host.enumerate("Msvm_VirtualEthernetSwitch");
    assert_eq!(switches.iter().map(|one| text(one, "ElementName")).collect::<Vec<_>>(), ["br0"]);
    let connections = host.enumerate("Msvm_EthernetPortAllocationSettingData");
    let [connected, spare] = &*connections else { panic!("{connections:?}") };
    let Some([CimValue::String(switch)]) = connected.get("HostResource").as_array() else { panic!("{connected:?}") };
    assert_eq!(host.get(&ObjectPath::parse(switch).unwrap()), switches[0]);
    assert_eq!((spare.get("HostResource"), spare.get("EnabledState")), (&CimValue::Null, &CimValue::Uint16(3)));
    let cards = host.enumerate("Msvm_SyntheticEthernetPortSettingData");
    assert_eq!(text(&cards[0], "Address"), "5254000A0B0C");
    // A switch is a computer system, but no machine and not the host.
    let named = |name: &str| ObjectPath::new(V2, ClassName::new("CIM_ComputerSystem")).with_key("Name", name);
    assert_eq!(text(&host.get(&named(text(&switches[0], "Name"))), "ElementName"), "br0");
    assert!(host.try_get(V2, &named(NOBODY)).is_err());
}

#[tokio::test]
async fn a_guest_that_runs_can_be_asked_to_shut_down() {
    let host = Host::start().await;
    assert_eq!(host.enumerate("Msvm_ShutdownComponent"), []);
    let system = ObjectPath::new(V2, ClassName::new("Msvm_ComputerSystem"))
        .with_key("CreationClassName", "Msvm_ComputerSystem")
        .with_key("Name", WEB);
    host.run_well(&system, "RequestStateChange", &[("RequestedState", CimValue::Uint16(2))]).await;
    let found = host.enumerate("Msvm_ShutdownComponent");
    let [component] = &*found else { panic!("{found:?}") };
    let path = component.path(V2);
    assert_eq!(host.get(&path), *component);
    let filter =
        AssociationFilter { association_class: Some(ClassName::new("Msvm_SystemDevice")), ..Default::default() };
    let systems = host.manager.associators(&host.context(V2), component, &filter).unwrap();
    assert_eq!(systems.iter().map(|one| text(one, "Name")).collect::<Vec<_>>(), [WEB]);
    let other = path.keys().iter().fold(ObjectPath::new(V2, path.class_name().clone()), |other, (name, value)| {
        let value = if *name == "DeviceID" { "x" } else { value.as_text().unwrap() };
        other.with_key(name.as_str(), value)
    });
    assert!(host.try_get(V2, &other).is_err());
    let asked = [("Force", CimValue::Boolean(false)), ("Reason", CimValue::from("test"))];
    assert_eq!(host.invoke(&path, "InitiateShutdown", &asked).await.code, 0);
    for _ in 0..2000 {
        if host.get(&system).get("EnabledState") == &CimValue::Uint16(3) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert!(host.try_get(V2, &path).is_err());
    assert_eq!(host.get(&system).get("EnabledState"), &CimValue::Uint16(3));
}

#[tokio::test]
async fn hardware_is_taken_as_it_is_and_not_changed() {
    let host = Host::start().await;
    let service = management_service();
    let settings = |text: String| [("ResourceSettings", CimValue::from([text.as_str()]))];
    let memory = |id: &str, quantity: u32| {
        settings(format!(
            "<INSTANCE CLASSNAME=\"Msvm_MemorySettingData\"><PROPERTY NAME=\"InstanceID\" TYPE=\"string\"><VALUE>{id}</VALUE>\
             </PROPERTY><PROPERTY NAME=\"VirtualQuantity\" TYPE=\"uint64\"><VALUE>{quantity}</VALUE></PROPERTY></INSTANCE>"
        ))
    };
    let id = format!("Microsoft:{DB}\\4764334d-e001-4176-82ee-5594ec9b530e");
    // Keys compare without regard to case.
    let same = host.invoke(&service, "ModifyResourceSettings", &memory(&id, 2048)).await;
    assert_eq!(same.code, 0);
    assert!(same.get("ResultingResourceSettings").is_some());
    for (arguments, wanted) in [
        (memory(&id, 4096), 32770),
        (memory(&format!("Microsoft:{NOBODY}\\4764334D-E001-4176-82EE-5594EC9B530E"), 2048), 32773),
        (settings("nothing".to_owned()), 32773),
        (settings("<INSTANCE CLASSNAME=\"Msvm_ComputerSystem\"/>".to_owned()), 32773),
    ] {
        assert_eq!(host.invoke(&service, "ModifyResourceSettings", &arguments).await.code, wanted, "{arguments:?}");
    }
    assert_eq!(host.invoke(&service, "ModifyResourceSettings", &[]).await.code, 32773);
}

fn management_service() -> ObjectPath {
    ObjectPath::new(V2, ClassName::new("Msvm_VirtualSystemManagementService"))
        .with_key("CreationClassName", "Msvm_VirtualSystemManagementService")
        .with_key("Name", "vmms")
        .with_key("SystemCreationClassName", "Msvm_ComputerSystem")
        .with_key("SystemName", HOST)
}

/// A host that tells nothing about itself: every record is there and has its keys.
#[tokio::test]
async fn a_host_that_tells_nothing_has_its_records() {
    let host = Host::start().await;
    let empty = tempfile::TempDir::new().unwrap();
    let mut registry = ProviderRegistry::new();
    let inspector = wsnapd::backend::HostInspector::open(empty.path());
    let options = ProviderOptions { host: Arc::new(inspector), ..ProviderOptions::new(HOST, guid(NOBODY)) };
    register(&mut registry, &schema(), &host.engine, &options).unwrap();
    let manager = ObjectManager::new(schema(), registry);
    let cx = host.context(CIMV2);
    for name in ["Win32_ComputerSystem", "Win32_ComputerSystemProduct", "Win32_OperatingSystem", "Win32_Processor"] {
        let class = manager.class(CIMV2, name).unwrap();
        let found: Vec<_> = manager.enumerate(&cx, class, Polymorphism::default()).unwrap().collect();
        let [Ok(instance)] = &*found else { panic!("{name}: {found:?}") };
        assert_eq!(manager.find(&cx, class, &instance.path(CIMV2)).unwrap(), *instance);
    }
    let product = manager.class(CIMV2, "CIM_Product").unwrap();
    let product = manager.enumerate(&cx, product, Polymorphism::default()).unwrap().next().unwrap().unwrap();
    assert_eq!(text(&product, "UUID"), NOBODY, "the identity of the installation stands in");
    let files = manager.class(CIMV2, "CIM_DataFile").unwrap();
    assert_eq!(manager.enumerate(&cx, files, Polymorphism::default()).unwrap().count(), 0);
}

#[tokio::test]
async fn namespaces_are_below_their_parents() {
    let host = Host::start().await;
    let below = |namespace: &str| -> Vec<String> {
        host.enumerate_in(namespace, "__NAMESPACE").iter().map(|one| text(one, "Name").to_owned()).collect()
    };
    assert_eq!(below("root"), ["cimv2", "HyperVCluster", "interop", "Microsoft", "omi", "virtualization"]);
    assert_eq!((below("root/virtualization"), below(V2)), (vec!["v2".to_owned()], Vec::new()));
    let schema: &Schema = &schema();
    let reached: usize = schema.namespaces().map(|namespace| below(namespace.name()).len()).sum();
    assert_eq!(reached + 1, schema.namespaces().count(), "all but root itself are below one");
    // Where a cluster of one is served, the devices are those of the node.
    assert!(host.manager.class(CLUSTER, RECORDS[2]).is_err());
}
