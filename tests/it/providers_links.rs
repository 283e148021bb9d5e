//! The associations that must be true after every step (`snapshot-semantics` §2, §5 and §6).

use std::time::Duration;

use wsnapd::backend::SimulatedCall;
use wsnapd::cim::{CimInstance, CimValue, ClassName, ObjectPath};

use crate::providers_support::{
    CLUSTER, DB, HOST, Host, SHOP, V2, WEB, collection_snapshot_service, guid, identity, number, numbers,
    path_identity, settings, snapshot_service, system, system_in, text,
};

const SNAPSHOTS: &str = "Msvm_SnapshotOfVirtualSystem";
const CURRENT: &str = "Msvm_MostCurrentSnapshotInBranch";
const APPLIED: &str = "Msvm_LastAppliedSnapshot";
const FAMILY: &str = "Msvm_ParentChildSettingData";

/// Snapshots, current, last applied and parent-child pairs of a machine, as positions in `known`.
fn picture(host: &Host, known: &[ObjectPath]) -> String {
    let position = |path: &ObjectPath| known.iter().position(|snapshot| snapshot == path).unwrap().to_string();
    let all = |instances: Vec<CimInstance>, property: &str| -> String {
        instances.iter().map(|instance| position(instance.get(property).as_reference().unwrap())).collect()
    };
    let snapshots = all(host.references(&system(WEB), SNAPSHOTS), "Dependent");
    let current = all(host.references(&system(WEB), CURRENT), "Dependent");
    let applied = all(host.references(&system(WEB), APPLIED), "Antecedent");
    let mut pairs: Vec<String> = host
        .enumerate(FAMILY)
        .iter()
        .map(|pair| {
            let end = |name| position(pair.get(name).as_reference().unwrap());
            format!("{}>{}", end("Antecedent"), end("Dependent"))
        })
        .collect();
    pairs.sort();
    let parent = match host.get(&settings(WEB)).get("Parent") {
        CimValue::Null => String::new(),
        parent => position(&ObjectPath::parse(parent.as_str().unwrap()).unwrap()),
    };
    assert_eq!(parent, current, "Parent of the active record is the current snapshot");
    format!("{snapshots} current {current} applied {applied} {}", pairs.join(" "))
}

#[tokio::test]
async fn the_tree_is_true_after_every_step() {
    let host = Host::start().await;
    let call = async |method: &str, parameter: &'static str, path: &ObjectPath| {
        host.run_well(&snapshot_service(V2), method, &[(parameter, path.clone().into())]).await;
    };
    let mut known = Vec::new();
    assert_eq!(picture(&host, &known), " current  applied  ");
    for _ in 0..3 {
        known.push(host.snapshot(WEB).await);
    }
    assert_eq!(picture(&host, &known), "012 current 2 applied  0>1 1>2");
    call("ApplySnapshot", "Snapshot", &known[1]).await;
    assert_eq!(picture(&host, &known), "012 current 1 applied 1 0>1 1>2");
    known.push(host.snapshot(WEB).await);
    assert_eq!(picture(&host, &known), "0123 current 3 applied 1 0>1 1>2 1>3");
    // A recovery snapshot is listed and moves nothing.
    let recovery = [("AffectedSystem", system(WEB).into()), ("SnapshotType", CimValue::Uint16(32768))];
    host.run_well(&snapshot_service(V2), "CreateSnapshot", &recovery).await;
    known.push(host.references(&system(WEB), SNAPSHOTS)[4].get("Dependent").as_reference().unwrap().as_ref().clone());
    assert!(picture(&host, &known).starts_with("01234 current 3 applied 1 "), "{}", picture(&host, &known));
    call("DestroySnapshot", "AffectedSnapshot", &known[4]).await;
    // One in the middle: its children go to its parent, and it is not the last applied any more.
    call("DestroySnapshot", "AffectedSnapshot", &known[1]).await;
    assert_eq!(picture(&host, &known), "023 current 3 applied  0>2 0>3");
    // The current one: its parent becomes current.
    call("DestroySnapshot", "AffectedSnapshot", &known[3]).await;
    assert_eq!(picture(&host, &known), "02 current 0 applied  0>2");
    call("ApplySnapshot", "Snapshot", &known[2]).await;
    call("DestroySnapshotTree", "SnapshotSettingData", &known[2]).await;
    assert_eq!(picture(&host, &known), "0 current 0 applied  ");
    call("DestroySnapshotTree", "SnapshotSettingData", &known[0]).await;
    assert_eq!(picture(&host, &known), " current  applied  ");
}

#[tokio::test]
async fn every_association_can_be_walked_from_both_ends_and_got_by_its_keys() {
    let host = Host::start().await;
    let first = host.snapshot(WEB).await;
    host.snapshot(WEB).await;
    host.run_well(&snapshot_service(V2), "ApplySnapshot", &[("Snapshot", first.into())]).await;
    host.machines.set_duration(SimulatedCall::Create, Duration::ZERO);
    let group = [
        (
            "Collection",
            ObjectPath::new(V2, ClassName::new("CIM_CollectionOfMSEs")).with_key("CollectionID", SHOP).into(),
        ),
        ("SnapshotType", CimValue::Uint16(1)),
    ];
    host.run_well(&collection_snapshot_service(V2), "CreateSnapshot", &group).await;
    let mut seen = 0;
    for namespace in [V2, CLUSTER, "root/interop"] {
        let mut classes: Vec<_> = host.manager.namespace(namespace).unwrap().classes().collect();
        classes.retain(|class| class.is_association() && class.name().as_str().starts_with("Msvm_"));
        for class in classes {
            for association in host.enumerate_in(namespace, class.name().as_str()) {
                seen += 1;
                let own = association.path(namespace);
                assert_eq!(host.try_get(namespace, &own).unwrap(), association, "{own:?}");
                for (property, value) in association.properties() {
                    let Some(end) = value.as_reference() else { continue };
                    if end.namespace() != Some(namespace) {
                        assert!(host.manager.resolve(&host.context(namespace), end).unwrap().is_some(), "{end:?}");
                        continue;
                    }
                    let found = host.references(end, class.name().as_str());
                    let times = found.iter().filter(|found| **found == association).count();
                    assert_eq!(times, 1, "{} from {}", class.name(), property.name());
                }
            }
        }
    }
    assert!(seen > 80, "{seen}");
}

#[tokio::test]
async fn a_job_shows_what_it_works_on_and_only_at_its_end_what_it_made() {
    let host = Host::start().await;
    host.machines.set_duration(SimulatedCall::Create, Duration::from_millis(300));
    let arguments = [("AffectedSystem", system(WEB).into()), ("SnapshotType", CimValue::Uint16(2))];
    let answer = host.invoke(&snapshot_service(V2), "CreateSnapshot", &arguments).await;
    let job = answer.reference("Job");
    let rows = |host: &Host| -> Vec<(u64, String)> {
        let rows = host.references(&job, "Msvm_AffectedJobElement");
        let row = |row: &CimInstance| {
            let class = row.get("AffectedElement").as_reference().unwrap().class_name().to_string();
            (numbers(row, "ElementEffects")[0], class)
        };
        rows.iter().map(row).collect()
    };
    assert_eq!(rows(&host), [(0, "Msvm_ComputerSystem".to_owned())]);
    while numbers(&host.get(&system(WEB)), "OperationalStatus") != [11, 32768] {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let pending = host.associators(&system(WEB), "Msvm_AffectedJobElement", Some("CIM_ConcreteJob"), None);
    assert_eq!(pending.iter().map(|job| number(job, "JobState")).collect::<Vec<_>>(), [4]);
    let owners = host.associators(&job, "Msvm_OwningJobElement", None, None);
    assert_eq!(owners.iter().map(|owner| text(owner, "Name")).collect::<Vec<_>>(), ["vssnapsvc"]);
    host.wait(&job).await;
    let expected = [(0, "Msvm_ComputerSystem".to_owned()), (5, "Msvm_VirtualSystemSettingData".to_owned())];
    assert_eq!(rows(&host), expected);
    assert_eq!(numbers(&host.get(&system(WEB)), "OperationalStatus"), [2]);
}

#[tokio::test]
async fn a_group_snapshot_is_one_collection() {
    let host = Host::start().await;
    let shop = ObjectPath::new(V2, ClassName::new("Msvm_VirtualSystemCollection")).with_key("CollectionID", SHOP);
    let create = |kind: u16| [("Collection", CimValue::from(shop.clone())), ("SnapshotType", CimValue::Uint16(kind))];
    for (kind, code) in [(0, 6), (3, 6), (32768, 6)] {
        let answer = host.invoke(&collection_snapshot_service(V2), "CreateSnapshot", &create(kind)).await;
        assert_eq!(answer.code, code, "{kind}");
    }
    let job = host.run_well(&collection_snapshot_service(V2), "CreateSnapshot", &create(1)).await;
    let made = host.associators(&job.path(V2), "Msvm_AffectedJobElement", Some("Msvm_SnapshotCollection"), None);
    assert_eq!(made.len(), 1);
    let set = made[0].path(V2);
    assert_eq!(host.linked(&shop, "Msvm_SnapshotOfVirtualSystemCollection"), [identity(&made[0])]);
    let members = host.associators(&set, "Msvm_CollectedSnapshots", Some("CIM_VirtualSystemSettingData"), None);
    let mut systems: Vec<&str> = members.iter().map(|member| text(member, "VirtualSystemIdentifier")).collect();
    systems.sort_unstable();
    assert_eq!(systems, [WEB, DB]);
    assert!(members.iter().all(|member| text(member, "VirtualSystemType") == "Microsoft:Hyper-V:Snapshot:Realized"));

    let apply = [("SnapshotCollection", CimValue::from(set.clone()))];
    host.run_well(&collection_snapshot_service(V2), "ApplySnapshot", &apply).await;
    assert_eq!(number(&host.get(&shop), "LastApplyConsistencyLevel"), 3);
    let convert = [("AffectedSnapshotCollection", CimValue::from(set.clone()))];
    assert_eq!(host.invoke(&collection_snapshot_service(V2), "ConvertToReferencePoint", &convert).await.code, 32773);

    // One member through the other service shrinks the collection; the rest goes with it.
    let one = [("AffectedSnapshot", CimValue::from(members[0].path(V2)))];
    host.run_well(&snapshot_service(V2), "DestroySnapshot", &one).await;
    assert_eq!(host.linked(&set, "Msvm_CollectedSnapshots").len(), 1);
    host.run_well(&collection_snapshot_service(V2), "DestroySnapshot", &convert).await;
    assert!(host.try_get(V2, &set).is_err());
    assert!(host.enumerate(SNAPSHOTS).is_empty());
    assert_eq!(host.invoke(&collection_snapshot_service(V2), "ApplySnapshot", &apply).await.code, 32773);
}

#[tokio::test]
async fn the_host_its_services_and_what_they_support() {
    let host = Host::start().await;
    let names = |found: Vec<CimInstance>, property: &str| -> Vec<String> {
        found.iter().map(|instance| text(instance, property).to_owned()).collect()
    };
    let services = host.associators(&system(HOST), "CIM_HostedService", None, None);
    assert_eq!(services.len(), 6);
    assert!(services.iter().all(|service| text(service, "SystemName") == HOST));
    let machines = host.associators(&system(HOST), "Msvm_HostedDependency", Some("CIM_ComputerSystem"), None);
    assert_eq!(names(machines, "ElementName"), ["web01", "db01"]);
    let active = host.associators(&system(WEB), "Msvm_SettingsDefineState", None, None);
    assert_eq!(names(active, "InstanceID"), [format!("Microsoft:{WEB}")]);
    let able = host.associators(&snapshot_service(V2), "CIM_ElementCapabilities", None, None);
    assert_eq!(numbers(&able[0], "AynchronousMethodsSupported"), [2, 3, 4]);
    let profiles = host.associators(&system(HOST), "Msvm_ElementConformsToProfile", None, None);
    assert_eq!(names(profiles, "RegisteredName"), ["System Virtualization"]);
    let collections = host.associators(&system(WEB), "CIM_MemberOfCollection", None, None);
    assert_eq!(collections.iter().map(identity).collect::<Vec<_>>(), [guid(SHOP)]);
}

#[tokio::test]
async fn the_cluster_namespace_is_a_cluster_of_one() {
    let host = Host::start().await;
    let arguments = [("AffectedSystem", system_in(CLUSTER, WEB).into()), ("SnapshotType", CimValue::Uint16(2))];
    let job = host.run(&snapshot_service(CLUSTER), "CreateSnapshot", &arguments).await;
    assert_eq!(job.path(CLUSTER).namespace(), Some(CLUSTER));
    let made =
        host.associators(&job.path(CLUSTER), "Msvm_AffectedJobElement", Some("CIM_VirtualSystemSettingData"), None);
    assert_eq!(made.len(), 1);
    let current = host.references(&system_in(CLUSTER, WEB), CURRENT);
    assert_eq!(current[0].get("Dependent").as_reference().unwrap().namespace(), Some(CLUSTER));
    assert_eq!(host.snapshot(WEB).await.namespace(), Some(V2));
    assert_eq!(host.references(&system_in(CLUSTER, WEB), SNAPSHOTS).len(), 2);
    assert!(host.manager.class(CLUSTER, APPLIED).is_err());
    let identity = host.references(&system_in(CLUSTER, WEB), "Msvm_ConcreteIdentity");
    let node = identity[0].get("SameElement").as_reference().unwrap();
    assert_eq!((node.namespace(), path_identity(node)), (Some(V2), guid(WEB)));
    assert_eq!(host.enumerate_in(CLUSTER, "Msvm_RedundancySet").len(), 1);
    assert_eq!(host.enumerate_in(CLUSTER, "Msvm_ComponentCS").len(), 1);
}
