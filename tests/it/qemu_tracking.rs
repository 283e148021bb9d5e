//! Change tracking and exports of a real QEMU, which must be installed. No guest is needed: what it would write is
//! written through its disk by QEMU's own monitor.

mod failures;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qapi::qmp;
use serde_json::json;
use wsnapd::backend::{
    ApplyRequest, AttachedMachine, BackendError, Cause, ChangedParts, DestroyRequest, DiskDefinition, DiskFormat,
    DiskImage, ExportMember, ExportRequest, Hypervisor, MachineDefinition, Monitor, QemuHypervisor, QemuMachine,
    QemuSettings, Quiesce, SnapshotOutcome, SnapshotRequest, StepControl, TrackingRequest,
};
use wsnapd::time::Guid;

use super::qemu_peer::real::{LONG, RealQemu, qemu_img};

const DISKS: [&str; 2] = ["system", "data"];
const MIB: u64 = 1 << 20;
/// Length of a disk.
const LENGTH: u64 = 8 * MIB;

fn id(number: u32) -> Guid {
    format!("7E57AB1E-0000-4000-8000-{number:012}").parse().unwrap()
}

/// The machine.
fn machine() -> Guid {
    id(1000)
}

/// A machine with two qcow2 disks that somebody else runs, and the back-end attached to it.
struct House {
    directory: tempfile::TempDir,
    hypervisor: QemuHypervisor,
    qemu: Option<RealQemu>,
    /// A monitor of its own, through which the guest is played.
    hand: Option<Monitor>,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for disk in DISKS {
            let path = directory.path().join(format!("{disk}.qcow2")).display().to_string();
            qemu_img(&["create", "-q", "-f", "qcow2", &path, &LENGTH.to_string()]);
        }
        // Firmware that switches interrupts off and waits for one: the guest runs and needs no processor.
        let mut firmware = vec![0; 64 << 10];
        firmware[0xFFF0..0xFFF4].copy_from_slice(&[0xFA, 0xF4, 0xEB, 0xFC]);
        std::fs::write(directory.path().join("firmware"), firmware).unwrap();
        std::fs::create_dir(directory.path().join("exports")).unwrap();
        let hypervisor = open(directory.path(), &directory.path().join("qmp"));
        Self { directory, hypervisor, qemu: None, hand: None }
    }

    fn path(&self, disk: &str) -> PathBuf {
        self.directory.path().join(format!("{disk}.qcow2"))
    }

    async fn start(&mut self) {
        let mut arguments = vec!["-machine".to_owned(), "q35".to_owned(), "-bios".to_owned()];
        arguments.push(self.directory.path().join("firmware").display().to_string());
        for disk in DISKS {
            let node = json!({
                "driver": "qcow2", "node-name": disk, "file": {"driver": "file", "filename": self.path(disk)},
            });
            arguments.extend(["-blockdev".to_owned(), node.to_string()]);
            arguments.extend(["-device".to_owned(), format!("virtio-blk-pci,drive={disk},id=of-{disk}")]);
        }
        let hand = self.directory.path().join("hand");
        let _ = std::fs::remove_file(&hand);
        arguments.extend(["-qmp".to_owned(), format!("unix:{},server=on,wait=off", hand.display())]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut qemu = RealQemu::start(self.directory.path(), &arguments);
        drop(qemu.monitor().await);
        let monitor = Monitor::connect(&hand, LONG).await.unwrap();
        monitor.execute(qmp::cont {}, LONG).await.unwrap();
        self.qemu = Some(qemu);
        self.hand = Some(monitor);
    }

    fn hand(&self) -> &Monitor {
        self.hand.as_ref().unwrap()
    }

    /// Ends QEMU in good order.
    async fn quit(&mut self) {
        let hand = self.hand.take().unwrap();
        hand.execute(qmp::quit {}, LONG).await.unwrap();
        hand.closed().await;
        self.kill();
        self.check();
    }

    /// Ends QEMU by signal 9.
    fn kill(&mut self) {
        self.hand = None;
        self.qemu.take().unwrap().kill();
    }

    /// Nothing is wrong in the images of a machine that is off, and nothing is left beside them.
    fn check(&self) {
        for disk in DISKS {
            qemu_img(&["check", "-q", &self.path(disk).display().to_string()]);
        }
        let own = self.directory.path().join("machines").join(machine().to_string());
        let names = std::fs::read_dir(own).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with("wsnapd-")).collect::<Vec<_>>(), Vec::<String>::new());
    }

    /// The guest, or whoever works on the disk of a machine that is off, fills a MiB.
    async fn write(&self, disk: &str, place: u64, value: u8) {
        let command = format!("write -P {value} {place}M 1M");
        let Some(hand) = &self.hand else {
            let path = self.path(disk);
            let done = std::process::Command::new("qemu-io").args(["-f", "qcow2", "-c", &command]).arg(path).output();
            assert!(done.unwrap().status.success());
            return;
        };
        let command_line = format!("qemu-io -d /machine/peripheral/of-{disk}/virtio-backend \"{command}\"");
        let answer = hand.execute(qmp::human_monitor_command { cpu_index: None, command_line }, LONG).await.unwrap();
        // It says what it has written on standard output, and what is wrong in the answer.
        assert_eq!(answer, "");
    }

    /// The names of the bitmaps on a disk, and whether each has seen everything.
    async fn bitmaps(&self, disk: &str) -> Vec<(String, bool)> {
        let Some(hand) = &self.hand else {
            let text = qemu_img(&["info", "--output=json", &self.path(disk).display().to_string()]);
            let info: serde_json::Value = serde_json::from_str(&text).unwrap();
            let bitmaps = info["format-specific"]["data"]["bitmaps"].as_array().cloned().unwrap_or_default();
            let sound = |bitmap: &serde_json::Value| bitmap["flags"] == json!(["auto"]);
            return bitmaps.iter().map(|one| (one["name"].as_str().unwrap().to_owned(), sound(one))).collect();
        };
        let nodes = hand.execute(qmp::query_named_block_nodes { flat: Some(true) }, LONG).await.unwrap();
        let node = nodes.into_iter().find(|node| node.node_name.as_deref() == Some(disk)).unwrap();
        let bitmaps = node.dirty_bitmaps.unwrap_or_default();
        bitmaps.into_iter().map(|one| (one.name.unwrap(), one.recording && one.inconsistent != Some(true))).collect()
    }

    /// The tags inside a disk.
    fn tags(&self, disk: &str) -> Vec<String> {
        let text = qemu_img(&["info", "-U", "--output=json", &self.path(disk).display().to_string()]);
        let info: serde_json::Value = serde_json::from_str(&text).unwrap();
        let tags = info["snapshots"].as_array().cloned().unwrap_or_default();
        tags.iter().map(|tag| tag["name"].as_str().unwrap().to_owned()).collect()
    }

    async fn snapshot(&self, number: u32) -> SnapshotOutcome {
        let made = self.hypervisor.create_snapshots(&[wanted(number)], &StepControl::detached()).await.unwrap();
        made.into_iter().next().unwrap()
    }

    async fn convert(&self, outcome: &SnapshotOutcome) -> Result<(), BackendError> {
        self.hypervisor.convert_to_reference_points(&[destruction(outcome)], &StepControl::detached()).await
    }

    async fn lost(&self, outcomes: &[&SnapshotOutcome]) -> BTreeSet<Guid> {
        let requests: Vec<TrackingRequest> = outcomes.iter().map(|outcome| tracking(outcome)).collect();
        self.hypervisor.verify_reference_points(&requests).await
    }

    fn export_request(&self, name: &str, outcome: &SnapshotOutcome, base: Option<&SnapshotOutcome>) -> ExportRequest {
        let exports = self.directory.path().join("exports");
        let member = ExportMember {
            machine: machine(),
            snapshot: outcome.snapshot,
            subdirectory: None,
            disks: outcome.disks.clone(),
            memory: None,
            tracking: outcome.tracking.clone(),
            base: base.map(tracking),
            configuration: "{}".to_owned(),
        };
        let directory = exports.join(name);
        ExportRequest { operation: id(77), allowed: vec![exports], directory, members: vec![member] }
    }

    /// Exports a snapshot, and gives content and changed parts of each disk.
    async fn export(
        &self,
        name: &str,
        outcome: &SnapshotOutcome,
        base: Option<&SnapshotOutcome>,
    ) -> Vec<(Vec<u8>, Option<ChangedParts>)> {
        let request = self.export_request(name, outcome, base);
        self.hypervisor.export_snapshots(&request, &StepControl::detached()).await.unwrap();
        let read = |disk: &DiskImage| {
            let file = request.directory.join(ExportMember::disk_file(disk));
            qemu_img(&["check", "-q", &file.display().to_string()]);
            let changes = std::fs::read(request.directory.join(ExportMember::changes_file(disk))).ok();
            (content(&file, None), changes.map(|text| serde_json::from_slice(&text).unwrap()))
        };
        let disks: Vec<_> = outcome.disks.iter().map(read).collect();
        let files = outcome.disks.len() * if base.is_some() { 2 } else { 1 } + 1;
        assert_eq!(std::fs::read_dir(&request.directory).unwrap().count(), files);
        disks
    }

    /// Nothing of ours is on the disks.
    async fn nothing_is_left(&self) {
        for disk in DISKS {
            assert_eq!((self.bitmaps(disk).await, self.tags(disk)), (Vec::new(), Vec::new()), "{disk}");
        }
    }
}

fn open(directory: &Path, monitor: &Path) -> QemuHypervisor {
    let disk = |name: &&str| DiskDefinition {
        name: (*name).to_owned(),
        path: directory.join(format!("{name}.qcow2")),
        format: DiskFormat::Qcow2,
        read_only: false,
        pass_through: false,
    };
    let definition = MachineDefinition {
        id: machine(),
        name: "web01".to_owned(),
        notes: String::new(),
        memory_mb: 16,
        processors: 1,
        networks: Vec::new(),
        disks: DISKS.iter().map(disk).collect(),
        qemu: QemuMachine::Attached(AttachedMachine { monitor: monitor.to_path_buf(), agent: None }),
    };
    QemuHypervisor::open(directory, vec![definition], QemuSettings::default()).unwrap()
}

fn wanted(number: u32) -> SnapshotRequest {
    SnapshotRequest {
        machine: machine(),
        snapshot: id(number),
        memory: false,
        quiesce: Quiesce::Never,
        copy_backup: false,
        ignore_non_snapshottable: true,
        change_tracking: true,
        without_data: false,
    }
}

fn name(number: u32) -> String {
    format!("wsnapd-{}", id(number))
}

fn tracking(outcome: &SnapshotOutcome) -> TrackingRequest {
    TrackingRequest { machine: machine(), snapshot: outcome.snapshot, disks: outcome.tracking.clone() }
}

fn destruction(outcome: &SnapshotOutcome) -> DestroyRequest {
    DestroyRequest {
        machine: machine(),
        snapshot: outcome.snapshot,
        files: Vec::new(),
        tracking: outcome.tracking.clone(),
        disks: outcome.disks.clone(),
        referenced: Arc::default(),
    }
}

/// What the guest sees, or saw under a tag.
fn content(file: &Path, tag: Option<&str>) -> Vec<u8> {
    let target = tempfile::NamedTempFile::new().unwrap();
    let (file, raw) = (file.display().to_string(), target.path().display().to_string());
    let tag = tag.map(|tag| format!("snapshot.name={tag}"));
    let mut arguments = vec!["convert", "-U", "-f", "qcow2"];
    arguments.extend(tag.iter().flat_map(|tag| ["-l", tag]));
    arguments.extend(["-O", "raw", &file, &raw]);
    qemu_img(&arguments);
    std::fs::read(target.path()).unwrap()
}

/// Lays the changed parts of an export over the content of an earlier one, as whoever restores a backup does.
fn restore(mut full: Vec<u8>, (changed, parts): (&[u8], &ChangedParts)) -> Vec<u8> {
    assert_eq!((parts.length, full.len()), (LENGTH, changed.len()));
    for (offset, length) in &parts.extents {
        let range = usize::try_from(*offset).unwrap()..usize::try_from(offset + length).unwrap();
        full[range.clone()].copy_from_slice(&changed[range]);
    }
    full
}

/// The way of a backup program, with a machine that runs or is off.
async fn a_chain_of_backups(house: &mut House) {
    house.write("data", 0, 1).await;
    let first = house.snapshot(1).await;
    assert_eq!(first.tracking.iter().map(|disk| disk.disk.as_str()).collect::<Vec<_>>(), DISKS);
    let full = house.export("full", &first, None).await;
    assert!(full.iter().all(|(_, changes)| changes.is_none()));
    house.convert(&first).await.unwrap();
    house.write("data", 2, 2).await;
    house.write("data", 4, 2).await;
    let second = house.snapshot(2).await;
    let then: Vec<Vec<u8>> = DISKS.iter().map(|disk| content(&house.path(disk), Some(&id(2).to_string()))).collect();
    house.write("data", 6, 3).await;
    assert_eq!(house.lost(&[&first, &second]).await, BTreeSet::new());
    let changes = house.export("changes", &second, Some(&first)).await;
    let parts: Vec<&ChangedParts> = changes.iter().map(|(_, parts)| parts.as_ref().unwrap()).collect();
    assert_eq!(parts[0].extents, []);
    // What changed after the snapshot is read with the content of the snapshot.
    assert_eq!(parts[1].extents, [(2 * MIB, MIB), (4 * MIB, MIB), (6 * MIB, MIB)]);
    for (number, disk) in then.iter().enumerate() {
        assert!(restore(full[number].0.clone(), (&changes[number].0, parts[number])) == *disk, "disk {number}");
    }
    house.convert(&second).await.unwrap();
    let third = house.snapshot(3).await;
    let changes = house.export("later", &third, Some(&second)).await;
    assert_eq!(changes[1].1.as_ref().unwrap().extents, [(6 * MIB, MIB)]);
    assert_eq!(house.tags("data"), [id(3).to_string()]);
    let control = StepControl::detached();
    for _ in 0..2 {
        house.hypervisor.destroy_snapshots(&[destruction(&third)], &control).await.unwrap();
    }
    assert_eq!(
        house.bitmaps("data").await.into_iter().collect::<BTreeSet<_>>(),
        [(name(1), true), (name(2), true)].into()
    );
    for _ in 0..2 {
        house.hypervisor.destroy_reference_points(&[tracking(&first), tracking(&second)], &control).await.unwrap();
    }
    house.nothing_is_left().await;
}

#[tokio::test]
async fn changes_of_a_running_machine_are_exported() {
    let mut house = House::new();
    house.start().await;
    a_chain_of_backups(&mut house).await;
    house.quit().await;
}

#[tokio::test]
async fn changes_of_a_machine_that_is_off_are_exported() {
    let mut house = House::new();
    a_chain_of_backups(&mut house).await;
    house.check();
}

#[tokio::test]
async fn tracking_goes_on_over_a_restart_of_the_machine_and_a_transfer_of_its_memory() {
    let mut house = House::new();
    house.start().await;
    let first = house.snapshot(1).await;
    house.write("data", 1, 1).await;
    house.quit().await;
    assert_eq!(house.bitmaps("data").await, [(name(1), true)]);
    house.write("data", 3, 1).await;
    house.start().await;
    house.write("data", 5, 1).await;
    let uri = format!("file:{}", house.directory.path().join("memory").display());
    let migrate = qmp::migrate { channels: None, detach: None, resume: None, uri: Some(uri) };
    house.hand().execute(migrate, LONG).await.unwrap();
    while house.hand().execute(qmp::query_status {}, LONG).await.unwrap().status != qmp::RunState::postmigrate {
        tokio::time::sleep(super::qemu_peer::ms(5)).await;
    }
    // QEMU has let go of disks and bitmaps. That is no loss.
    assert_eq!(house.bitmaps("data").await, []);
    assert_eq!(house.lost(&[&first]).await, BTreeSet::new());
    let error = house.convert(&first).await.unwrap_err();
    assert!(matches!(error.cause, Cause::InUse(_)), "{error}");
    house.hand().execute(qmp::cont {}, LONG).await.unwrap();
    house.write("data", 7, 1).await;
    house.convert(&first).await.unwrap();
    let second = house.snapshot(2).await;
    let changes = house.export("changes", &second, Some(&first)).await;
    let parts = &changes[1].1.as_ref().unwrap().extents;
    assert_eq!(*parts, [(MIB, MIB), (3 * MIB, MIB), (5 * MIB, MIB), (7 * MIB, MIB)]);
    house.quit().await;
}

#[tokio::test]
async fn after_qemu_was_killed_no_change_is_known() {
    let mut house = House::new();
    let early = house.snapshot(1).await;
    house.start().await;
    let late = house.snapshot(2).await;
    house.write("data", 1, 1).await;
    house.kill();
    for disk in DISKS {
        // Clusters that nobody uses are all that is wrong.
        qemu_img(&["check", "-q", "-r", "leaks", &house.path(disk).display().to_string()]);
    }
    house.check();
    for running in [false, true] {
        if running {
            house.start().await;
        }
        assert_eq!(house.lost(&[&early, &late]).await, [id(1), id(2)].into());
        let error = house.convert(&early).await.unwrap_err();
        assert!(error.to_string().contains("a full export is needed") && error.disk.is_some(), "{error}");
    }
    assert_eq!(house.tags("data"), [id(1).to_string(), id(2).to_string()]);
    // A new beginning works beside them, and the broken ones can be removed.
    let next = house.snapshot(3).await;
    let error = house
        .hypervisor
        .export_snapshots(&house.export_request("changes", &next, Some(&early)), &StepControl::detached())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("a full export is needed"), "{error}");
    assert_eq!(std::fs::read_dir(house.directory.path().join("exports")).unwrap().count(), 0);
    assert_eq!(house.lost(&[&early, &late, &next]).await, [id(1), id(2)].into());
    let all: Vec<DestroyRequest> = [&early, &late, &next].map(destruction).into();
    house.hypervisor.destroy_snapshots(&all, &StepControl::detached()).await.unwrap();
    house.nothing_is_left().await;
    house.quit().await;
}

#[tokio::test]
async fn applying_a_snapshot_ends_the_tracking() {
    let mut house = House::new();
    house.write("data", 0, 1).await;
    let first = house.snapshot(1).await;
    house.write("data", 1, 2).await;
    let second = house.snapshot(2).await;
    house.convert(&second).await.unwrap();
    let apply = ApplyRequest {
        machine: machine(),
        snapshot: first.snapshot,
        operation: id(50),
        disks: first.disks.clone(),
        memory: None,
        launch: None,
    };
    let data = house.path("data").display().to_string();
    qemu_img(&["bitmap", "--add", &data, "of somebody else"]);
    let control = StepControl::detached();
    let error = house.hypervisor.apply_snapshots(std::slice::from_ref(&apply), &control).await.unwrap_err();
    assert!(matches!(&error.cause, Cause::NotAllowed(text) if text.contains("of somebody else")), "{error}");
    assert_eq!(house.lost(&[&first, &second]).await, BTreeSet::new());
    qemu_img(&["bitmap", "--remove", &data, "of somebody else"]);
    // A cancel before anything was reverted keeps the tracking.
    let (_, refusing) = failures::refusing(1);
    assert!(
        house.hypervisor.apply_snapshots(std::slice::from_ref(&apply), &refusing).await.unwrap_err().is_cancelled()
    );
    assert_eq!(house.lost(&[&first, &second]).await, BTreeSet::new());
    house.hypervisor.apply_snapshots(&[apply], &control).await.unwrap();
    assert_eq!(content(&house.path("data"), None)[usize::try_from(MIB).unwrap()], 0);
    assert_eq!(house.lost(&[&first, &second]).await, [id(1), id(2)].into());
    assert_eq!(house.bitmaps("data").await, []);
    house.start().await;
    house.quit().await;
}

#[tokio::test]
async fn a_point_without_a_snapshot_needs_a_disk_that_can_be_tracked() {
    let mut house = House::new();
    let alone = SnapshotRequest { without_data: true, ..wanted(1) };
    for running in [false, true] {
        if running {
            house.start().await;
        }
        let made = house.hypervisor.create_snapshots(std::slice::from_ref(&alone), &StepControl::detached()).await;
        let made = made.unwrap().remove(0);
        assert_eq!((made.disks.len(), made.tracking.len()), (0, 2));
        assert_eq!(house.tags("data"), Vec::<String>::new());
        assert_eq!(house.lost(&[&made]).await, BTreeSet::new());
        house.hypervisor.destroy_reference_points(&[tracking(&made)], &StepControl::detached()).await.unwrap();
        house.nothing_is_left().await;
    }
    house.quit().await;
    for disk in DISKS {
        let path = house.path(disk).display().to_string();
        qemu_img(&["create", "-q", "-f", "qcow2", "-o", "compat=0.10", &path, "8M"]);
    }
    let refused = house.hypervisor.create_snapshots(&[alone], &StepControl::detached()).await.unwrap_err();
    assert!(matches!(refused.cause, Cause::NotSupported(_)), "{refused}");
    // Such disks are in snapshots all the same, without tracking.
    let made = house.snapshot(2).await;
    assert_eq!((made.disks.len(), made.tracking.len()), (2, 0));
    assert!(house.convert(&made).await.is_err());
    assert_eq!(house.tags("data"), [id(2).to_string()]);
}
