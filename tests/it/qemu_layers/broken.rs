//! Raw disks that cannot be taken, layers that are gone, and stops of the server.

use wsnapd::backend::{JournalStep, Operation, Recovery};

use super::*;

#[tokio::test]
async fn a_raw_disk_is_refused_by_name_where_overlays_are_not_allowed() {
    let mut house = House::new(false).await;
    let job = house.try_take(SnapshotType::Disk, false).await;
    let failure = job.failure.clone().unwrap();
    assert_eq!(failure.failure.number(), 32770);
    assert!(failure.description.contains("disk data: ") && failure.description.contains("raw"), "{failure:?}");
    let job = house.try_take(SnapshotType::Disk, true).await;
    let view = house.engine().view();
    assert_eq!(view.snapshot(made(&job)).unwrap().skipped_disks, ["data"]);
    assert_eq!((house.layers(), house.tags()), (0, 1));
    house.close().await;

    // What was made when they were allowed stays usable.
    house.allowed = true;
    house.open().await;
    let snapshot = house.take(SnapshotType::Disk).await;
    house.close().await;
    house.allowed = false;
    house.open().await;
    house.change(RequestedState::Enabled).await;
    house.mark(1).await;
    house.change(RequestedState::Disabled).await;
    house.apply(snapshot).await;
    assert_eq!(house.now()[0], 0);
    house.destroy(snapshot).await;
    house.merged().await;
    assert_eq!(house.layers(), 0);
    house.close().await;
}

#[tokio::test]
async fn a_snapshot_without_one_of_its_layers_is_missing_until_it_is_back() {
    let mut house = House::new(true).await;
    let first = house.take(SnapshotType::Disk).await;
    let second = house.take(SnapshotType::Disk).await;
    house.close().await;
    let layer = house.overlays().image("data", second).unwrap().unwrap().file;
    let away = house.path("away");
    std::fs::rename(&layer, &away).unwrap();
    house.open().await;
    let missing = |house: &House, id: Guid| house.engine().view().snapshot(id).unwrap().missing;
    assert_eq!((missing(&house, first), missing(&house, second)), (false, true));
    house.close().await;
    std::fs::rename(&away, &layer).unwrap();
    house.open().await;
    assert_eq!((missing(&house, first), missing(&house, second)), (false, false));
    house.close().await;
}

#[tokio::test]
async fn a_guest_that_a_merge_has_stopped_goes_on_after_a_restart() {
    let mut house = House::new(true).await;
    house.change(RequestedState::Enabled).await;
    house.mark(1).await;
    let snapshot = house.take(SnapshotType::Disk).await;
    house.close().await;
    let guest = house.guest.clone().unwrap();
    guest.execute(qmp::stop {}, LONG).await.unwrap();
    let hypervisor = house.hypervisor();
    let merge = Operation::Merge { machine: guid(WEB) };
    let journal = [JournalStep::Paused { running: vec![guid(WEB)] }];
    assert_eq!(hypervisor.recover(&merge, &journal).await.unwrap(), Recovery::Finished(Vec::new()));
    assert!(guest.execute(qmp::query_status {}, LONG).await.unwrap().running);
    drop(hypervisor);
    house.open().await;
    assert_eq!((house.at(snapshot)[0], house.now()[0]), (1, 1));
    house.close().await;
}

/// A disk-only snapshot of the machine.
fn request(snapshot: u64) -> wsnapd::backend::SnapshotRequest {
    wsnapd::backend::SnapshotRequest {
        machine: guid(WEB),
        snapshot: guid(snapshot),
        memory: false,
        quiesce: wsnapd::backend::Quiesce::Never,
        copy_backup: false,
        ignore_non_snapshottable: false,
        change_tracking: false,
        without_data: false,
    }
}

#[tokio::test]
async fn a_snapshot_comes_before_a_merge_that_a_killed_server_has_left_in_qemu() {
    let mut house = House::new(true).await;
    house.merge_slowly().await;
    // Dropped without a shutdown, as by a kill.
    drop(house.engine.take());
    let hypervisor = house.hypervisor();
    let control = wsnapd::backend::StepControl::detached();
    hypervisor.create_snapshots(&[request(0x51)], &control).await.unwrap();
    house.mark(2).await;
    hypervisor.merge_disks(guid(WEB), &control).await.unwrap();
    let expected = |first: u8| -> Vec<u8> { std::iter::once(first).chain(std::iter::repeat_n(7, SIZE - 1)).collect() };
    assert_eq!((house.layers(), house.at(guid(0x51)), house.now()), (1, expected(1), expected(2)));
}

#[tokio::test]
async fn a_creation_that_was_interrupted_leaves_no_overlay() {
    let mut house = House::new(true).await;
    house.change(RequestedState::Enabled).await;
    house.mark(1).await;
    house.close().await;
    let hypervisor = house.hypervisor();
    let requests = vec![request(0x51)];
    let control = wsnapd::backend::StepControl::detached();
    hypervisor.create_snapshots(&requests, &control).await.unwrap();
    house.mark(2).await;
    assert_eq!(house.layers(), 1);
    let journal = [JournalStep::Planned { files: Vec::new() }, JournalStep::Paused { running: vec![guid(WEB)] }];
    let recovered = hypervisor.recover(&Operation::Create(requests), &journal).await.unwrap();
    assert_eq!(recovered, Recovery::RolledBack);
    assert_eq!((house.tags(), hypervisor.needs_merge(guid(WEB)).await), (0, true));
    hypervisor.merge_disks(guid(WEB), &control).await.unwrap();
    assert_eq!((house.layers(), house.now()[0]), (0, 2));
}

#[tokio::test]
async fn overlays_are_for_machines_that_this_server_starts() {
    let house = House::new(true).await;
    let mut definition = house.definition();
    let monitor = house.path("nobody");
    definition.qemu = QemuMachine::Attached(wsnapd::backend::AttachedMachine { monitor, agent: None });
    let settings = QemuSettings { overlay_raw_disks: true, ..QemuSettings::default() };
    let hypervisor = QemuHypervisor::open(&house.path("other"), vec![definition], settings).unwrap();
    let control = wsnapd::backend::StepControl::detached();
    let error = hypervisor.create_snapshots(&[request(0x51)], &control).await.unwrap_err();
    assert_eq!(error.disk.as_deref(), Some("data"));
    assert!(error.to_string().contains("only for machines that this server starts"), "{error}");
}
