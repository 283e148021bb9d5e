//! What real programs do step by step (`snapshot-semantics` §10), against the simulated host.

use wsnapd::cim::wql::{Query, SystemProperties};
use wsnapd::cim::{CimInstance, CimValue, ObjectPath, cimxml};

use crate::providers_support::{
    DB, Host, V2, WEB, management_service, number, numbers, settings, snapshot_service, system, text,
};

const SETTINGS: &str = "Msvm_VirtualSystemSettingData";

/// The machine of that name, as `SELECT * FROM Msvm_ComputerSystem WHERE ElementName = …` finds it.
fn machine_named(host: &Host, name: &str) -> CimInstance {
    let mut found = host.enumerate("Msvm_ComputerSystem");
    found.retain(|machine| text(machine, "ElementName") == name);
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// The text of a record with a new name, as clients send it back.
fn renamed(record: &CimInstance, name: &str) -> CimValue {
    let mut record = record.clone();
    record.set("ElementName", name).unwrap();
    cimxml::encode_instance(&record).into()
}

#[tokio::test]
async fn w1_os_win_takes_names_lists_and_deletes() {
    let host = Host::start().await;
    let machine = machine_named(&host, "web01").path(V2);
    let service = host.enumerate("Msvm_VirtualSystemSnapshotService")[0].path(V2);

    let arguments = [("AffectedSystem", machine.clone().into()), ("SnapshotType", CimValue::Uint16(2))];
    let job = host.run_well(&service, "CreateSnapshot", &arguments).await;
    let made = host.associators(&job.path(V2), "Msvm_AffectedJobElement", Some(SETTINGS), None);

    let named = [("SystemSettings", renamed(&made[0], "before the update"))];
    assert_eq!(host.invoke(&management_service(V2), "ModifySystemSettings", &named).await.code, 0);
    let listed = host.associators(&machine, "Msvm_SnapshotOfVirtualSystem", Some(SETTINGS), None);
    let seen: Vec<&str> = listed.iter().map(|snapshot| text(snapshot, "ElementName")).collect();
    assert_eq!(seen, ["before the update"]);
    assert_eq!(listed[0].path(V2), made[0].path(V2));

    let arguments = [("AffectedSnapshot", listed[0].path(V2).into())];
    host.run_well(&service, "DestroySnapshot", &arguments).await;
    assert!(host.associators(&machine, "Msvm_SnapshotOfVirtualSystem", Some(SETTINGS), None).is_empty());

    // Before it destroys a machine it stops the jobs that have not ended; there are none.
    let jobs = host.associators(&machine, "Msvm_AffectedJobElement", Some("Msvm_ConcreteJob"), None);
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| number(job, "JobState") == 7));
}

#[tokio::test]
async fn w3_the_documentation_sample() {
    let host = Host::start().await;
    let class = host.manager.class(V2, "Msvm_VirtualSystemSnapshotService").unwrap();
    let inputs: Vec<&str> =
        class.method("CreateSnapshot").unwrap().parameters.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(inputs, ["AffectedSystem", "SnapshotSettings", "SnapshotType", "ResultingSnapshot", "Job"]);

    let arguments = [
        ("AffectedSystem", machine_named(&host, "web01").path(V2).into()),
        ("SnapshotSettings", CimValue::from("")),
        ("SnapshotType", CimValue::Uint16(2)),
    ];
    let answer = host.invoke(&snapshot_service(V2), "CreateSnapshot", &arguments).await;
    assert_eq!(answer.code, 4096);
    assert!(answer.get("ResultingSnapshot").is_none(), "the reference is null while a job works");
    let job = host.wait(&answer.reference("Job")).await;
    assert_eq!((number(&job, "JobState"), number(&job, "PercentComplete")), (7, 100));
    let made = host.associators(&job.path(V2), "Msvm_AffectedJobElement", Some(SETTINGS), None);
    assert_eq!(text(&made[0], "ElementName"), "web01 - (2026-11-21 - 14:05:09)");
}

/// What a statement selects.
fn select(host: &Host, statement: &str) -> Vec<CimInstance> {
    let Query::Select(select) = statement.parse().unwrap() else { panic!("no SELECT: {statement}") };
    let class = host.manager.class(V2, select.class.as_str()).unwrap();
    let bound = select.bind(class).unwrap();
    let mut found = host.enumerate(class.name().as_str());
    found.retain(|instance| bound.matches(instance, &SystemProperties { namespace: V2, server: "HOST1" }));
    found
}

#[tokio::test]
async fn w4_a_snapshot_manager_draws_a_tree() {
    let host = Host::start().await;
    let first = host.snapshot(WEB).await;
    host.clock.advance(chrono::Duration::seconds(1));
    let second = host.snapshot(WEB).await;
    host.snapshot(DB).await;

    let all = select(
        &host,
        "SELECT * FROM Msvm_VirtualSystemSettingData WHERE VirtualSystemType LIKE 'Microsoft:Hyper-V:Snapshot%'",
    );
    assert_eq!(all.len(), 3);
    let statement = format!(
        "SELECT * FROM Msvm_VirtualSystemSettingData WHERE VirtualSystemIdentifier = '{}' \
         AND VirtualSystemType = 'Microsoft:Hyper-V:Snapshot:Realized'",
        WEB.to_lowercase()
    );
    let mut tree = select(&host, &statement);
    tree.sort_by_key(|record| match record.get("CreationTime") {
        CimValue::DateTime(time) => time.to_cim_text(),
        other => panic!("CreationTime is {other:?}"),
    });
    assert_eq!(tree.iter().map(|record| record.path(V2)).collect::<Vec<_>>(), [first.clone(), second.clone()]);
    assert_eq!(tree[0].get("Parent"), &CimValue::Null);
    assert_eq!(text(&tree[1], "Parent"), first.to_wmi_text("HOST1"));
    let current = host.enumerate("Msvm_MostCurrentSnapshotInBranch");
    assert_eq!(current.len(), 2);

    // Take with a name; the list afterwards has one more.
    let mut wanted = CimInstance::new(std::sync::Arc::clone(host.manager.class(V2, SETTINGS).unwrap()));
    wanted.set("ElementName", "by the manager").unwrap();
    let arguments = [
        ("AffectedSystem", system(WEB).into()),
        ("SnapshotSettings", cimxml::encode_instance(&wanted).into()),
        ("SnapshotType", CimValue::Uint16(2)),
    ];
    host.run_well(&snapshot_service(V2), "CreateSnapshot", &arguments).await;
    assert!(select(&host, &statement).iter().any(|record| text(record, "ElementName") == "by the manager"));

    // Apply: to saved first, then wait until the machine is off or saved again.
    let saved = [("RequestedState", CimValue::Uint16(6))];
    host.run_well(&system(WEB), "RequestStateChange", &[("RequestedState", CimValue::Uint16(2))]).await;
    host.run_well(&system(WEB), "RequestStateChange", &saved).await;
    assert_eq!(number(&host.get(&system(WEB)), "EnabledState"), 6);
    host.run_well(&snapshot_service(V2), "ApplySnapshot", &[("Snapshot", first.clone().into())]).await;
    assert_eq!(number(&host.get(&system(WEB)), "EnabledState"), 3);
    assert_eq!(text(&host.get(&settings(WEB)), "Parent"), first.to_wmi_text("HOST1"));
    host.run_well(&system(WEB), "RequestStateChange", &[("RequestedState", CimValue::Uint16(2))]).await;

    // Delete the subtree of the second, then the root.
    host.run_well(&snapshot_service(V2), "DestroySnapshotTree", &[("SnapshotSettingData", second.into())]).await;
    assert_eq!(select(&host, &statement).len(), 1);
    host.run_well(&snapshot_service(V2), "DestroySnapshot", &[("AffectedSnapshot", first.into())]).await;
    assert!(select(&host, &statement).is_empty());
}

#[tokio::test]
async fn w5_revert_to_the_latest() {
    let host = Host::start().await;
    let snapshot = host.snapshot(WEB).await;
    host.run_well(&system(WEB), "RequestStateChange", &[("RequestedState", CimValue::Uint16(2))]).await;
    host.machines.write_disk(crate::providers_support::guid(WEB), "root", b"spoilt");

    let roles = Some(("Antecedent", "Dependent"));
    let latest = host.associators(&system(WEB), "Msvm_MostCurrentSnapshotInBranch", Some(SETTINGS), roles);
    assert_eq!((latest.len(), latest[0].path(V2)), (1, snapshot.clone()));
    let wrong_way = Some(("Dependent", "Antecedent"));
    assert!(host.associators(&system(WEB), "Msvm_MostCurrentSnapshotInBranch", None, wrong_way).is_empty());

    // A running machine is refused; clients turn it off first.
    let apply = [("Snapshot", CimValue::from(snapshot))];
    assert_eq!(host.invoke(&snapshot_service(V2), "ApplySnapshot", &apply).await.code, 32775);
    host.run_well(&system(WEB), "RequestStateChange", &[("RequestedState", CimValue::Uint16(3))]).await;
    host.run_well(&snapshot_service(V2), "ApplySnapshot", &apply).await;
    assert_eq!(host.machines.read_disk(crate::providers_support::guid(WEB), "root").unwrap(), b"");
    host.run_well(&system(WEB), "RequestStateChange", &[("RequestedState", CimValue::Uint16(2))]).await;
    assert_eq!(number(&host.get(&system(WEB)), "EnabledState"), 2);
}

#[tokio::test]
async fn w9_a_script_takes_a_machine_apart() {
    let host = Host::start().await;
    host.snapshot(WEB).await;
    host.snapshot(WEB).await;
    host.run_well(&system(WEB), "RequestStateChange", &[("RequestedState", CimValue::Uint16(2))]).await;
    host.run_well(&system(WEB), "RequestStateChange", &[("RequestedState", CimValue::Uint16(3))]).await;
    let roots = select(
        &host,
        "SELECT * FROM Msvm_VirtualSystemSettingData \
         WHERE VirtualSystemType = 'Microsoft:Hyper-V:Snapshot:Realized' AND Parent IS NULL",
    );
    let root: ObjectPath = roots[0].path(V2);
    assert_eq!(roots.len(), 1);
    host.run_well(&snapshot_service(V2), "ApplySnapshot", &[("Snapshot", root.clone().into())]).await;
    let job =
        host.run_well(&snapshot_service(V2), "DestroySnapshotTree", &[("SnapshotSettingData", root.into())]).await;
    assert_eq!(numbers(&job, "OperationalStatus"), [17, 2]);
    assert!(host.enumerate("Msvm_SnapshotOfVirtualSystem").is_empty());
    assert_eq!(host.get(&settings(WEB)).get("Parent"), &CimValue::Null);
    // Machines are defined by files: the last step is refused.
    let destroy = [("AffectedSystem", system(WEB).into())];
    assert_eq!(host.invoke(&management_service(V2), "DestroySystem", &destroy).await.code, 32770);
}
