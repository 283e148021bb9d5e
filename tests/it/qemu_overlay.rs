//! Snapshots of raw disks of a real QEMU, which must be installed. No guest is needed: what it would write is written
//! through its disk by QEMU's own monitor.

mod crash;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qapi::qmp;
use serde_json::json;
use wsnapd::backend::{
    BackendError, Cause, DiskDefinition, DiskFormat, DiskLayer, Monitor, MonitorError, NewOverlay, Overlays,
    StepControl,
};
use wsnapd::time::Guid;

use super::qemu_peer::real::{LONG, RealQemu, qemu_img};

/// Size of the disk in MiB.
const SIZE: usize = 16;
const MIB: usize = 1 << 20;

/// What each MiB of a disk is filled with.
type Content = [u8; SIZE];

fn id(number: u32) -> Guid {
    format!("5C1C2F40-0000-4000-8000-{number:012}").parse().unwrap()
}

/// The name of merges in QEMU.
fn job() -> Guid {
    id(99_999)
}

/// A machine with a raw disk `data` and a qcow2 disk `system`.
struct House {
    directory: tempfile::TempDir,
    overlays: Overlays,
    disk: DiskDefinition,
    qemu: Option<RealQemu>,
    monitor: Option<Monitor>,
    /// What the guest has written.
    now: Content,
    /// What each snapshot must be.
    taken: BTreeMap<Guid, Content>,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a disk, raw.img");
        std::fs::write(&path, vec![0x11; SIZE * MIB]).unwrap();
        let system = directory.path().join("system.qcow2").display().to_string();
        qemu_img(&["create", "-q", "-f", "qcow2", &system, "4M"]);
        // Firmware that switches interrupts off and waits for one: the guest runs and needs no processor.
        let mut firmware = vec![0; 64 << 10];
        firmware[0xFFF0..0xFFF4].copy_from_slice(&[0xFA, 0xF4, 0xEB, 0xFC]);
        std::fs::write(directory.path().join("firmware"), firmware).unwrap();
        let disk = DiskDefinition {
            name: "data/1".to_owned(),
            path,
            format: DiskFormat::Raw,
            read_only: false,
            pass_through: false,
        };
        let overlays = Overlays::new(id(1000), directory.path(), Path::new("qemu-img"));
        let taken = BTreeMap::new();
        Self { directory, overlays, disk, qemu: None, monitor: None, now: [0x11; SIZE], taken }
    }

    /// Starts the machine with the file the pointer names, and lets it run.
    async fn start(&mut self) -> Monitor {
        let layer = self.overlays.active(&self.disk).unwrap();
        let driver = if layer.format == DiskFormat::Raw { "raw" } else { "qcow2" };
        let data = json!({
            "driver": driver, "node-name": "disk0", "discard": "unmap",
            "file": {
                "driver": "throttle", "throttle-group": "brake",
                "file": {"driver": "file", "filename": layer.file, "discard": "unmap"},
            },
        });
        let brake = json!({"qom-type": "throttle-group", "id": "brake"}).to_string();
        let system = json!({
            "driver": "qcow2", "node-name": "disk1",
            "file": {"driver": "file", "filename": self.directory.path().join("system.qcow2")},
        });
        let (data, system) = (data.to_string(), system.to_string());
        let firmware = self.directory.path().join("firmware").display().to_string();
        let arguments = [
            "-machine",
            "q35",
            "-bios",
            &firmware,
            "-object",
            &brake,
            "-blockdev",
            &data,
            "-device",
            "virtio-blk-pci,drive=disk0,id=data",
            "-blockdev",
            &system,
            "-device",
            "virtio-blk-pci,drive=disk1,id=system",
        ];
        let mut qemu = RealQemu::start(self.directory.path(), &arguments);
        let monitor = qemu.monitor().await;
        monitor.execute(qmp::cont {}, LONG).await.unwrap();
        self.qemu = Some(qemu);
        self.monitor = Some(monitor.clone());
        monitor
    }

    /// Ends QEMU in good order.
    async fn quit(&mut self) {
        let monitor = self.monitor.take().unwrap();
        monitor.execute(qmp::quit {}, LONG).await.unwrap();
        monitor.closed().await;
        self.kill();
    }

    /// Ends QEMU by signal 9.
    fn kill(&mut self) {
        self.monitor = None;
        self.qemu.take().unwrap().kill();
    }

    /// Another connection, as after a restart of the server.
    async fn reconnect(&mut self) -> Monitor {
        self.monitor = None;
        let monitor = self.qemu.as_mut().unwrap().monitor().await;
        self.monitor = Some(monitor.clone());
        monitor
    }

    /// The guest fills a MiB and waits until that is on its disk.
    async fn write(&mut self, place: usize, value: u8) {
        let monitor = self.monitor.clone().unwrap();
        for command in [format!("write -P {value} {place}M 1M"), "flush".to_owned()] {
            let command_line = format!("qemu-io -d /machine/peripheral/data/virtio-backend \"{command}\"");
            let answer = monitor.execute(qmp::human_monitor_command { cpu_index: None, command_line }, LONG);
            assert_eq!(answer.await.unwrap(), "");
        }
        self.now[place] = value;
    }

    /// Limits what is written to the file that the machine was started with, in bytes a second; 0 for no limit.
    async fn brake(&self, speed: u64) {
        let command = qmp::qom_set {
            path: "/objects/brake".to_owned(),
            property: "limits".to_owned(),
            value: json!({ "bps-write": speed }),
        };
        self.monitor.as_ref().unwrap().execute(command, LONG).await.unwrap();
    }

    /// The transaction of a snapshot: the raw disk by its overlay, the other one inside.
    async fn transaction(&self, overlay: &NewOverlay, snapshot: Guid, inside: &str) -> Result<(), MonitorError> {
        let inside = qmp::BlockdevSnapshotInternal { device: inside.to_owned(), name: snapshot.to_string() };
        let inside = qmp::TransactionAction::blockdev_snapshot_internal_sync(inside.into());
        let actions = vec![overlay.action(), inside];
        let monitor = self.monitor.as_ref().unwrap();
        monitor.execute(qmp::transaction { actions, properties: None }, LONG).await.map(drop)
    }

    /// Takes a snapshot of the running machine.
    async fn snapshot(&mut self, snapshot: Guid) {
        let monitor = self.monitor.clone().unwrap();
        let overlay = self.overlays.add(&monitor, &self.disk, snapshot).await.unwrap();
        self.transaction(&overlay, snapshot, "disk1").await.unwrap();
        self.taken.insert(snapshot, self.now);
    }

    async fn snapshot_stopped(&mut self, snapshot: Guid) {
        self.overlays.add_stopped(&self.disk, snapshot).await.unwrap();
        self.taken.insert(snapshot, self.now);
    }

    async fn destroy(&mut self, snapshot: Guid) -> Result<(), BackendError> {
        self.taken.remove(&snapshot);
        self.overlays.destroy(self.monitor.as_ref(), snapshot, job(), &StepControl::detached()).await
    }

    async fn is_running(&self) -> bool {
        self.monitor.as_ref().unwrap().execute(qmp::query_status {}, LONG).await.unwrap().running
    }

    async fn jobs(&self) -> usize {
        self.monitor.as_ref().unwrap().execute(qmp::query_jobs {}, LONG).await.unwrap().len()
    }

    /// The file a snapshot is.
    fn image(&self, snapshot: Guid) -> DiskLayer {
        self.overlays.image(&self.disk.name, snapshot).unwrap().expect("the snapshot is gone")
    }

    /// Every snapshot and, unless QEMU may still keep something back, the disk are what they must be.
    fn check(&self) {
        let mut all: Vec<(String, DiskLayer, &Content)> = Vec::new();
        for (snapshot, content) in &self.taken {
            all.push((snapshot.to_string(), self.image(*snapshot), content));
        }
        all.push(("the disk".to_owned(), self.overlays.active(&self.disk).unwrap(), &self.now));
        for (name, layer, content) in all {
            let wanted = self.directory.path().join("wanted");
            let bytes: Vec<u8> = content.iter().flat_map(|value| vec![*value; MIB]).collect();
            std::fs::write(&wanted, bytes).unwrap();
            let format = if layer.format == DiskFormat::Raw { "raw" } else { "qcow2" };
            let (file, wanted) = (layer.file.display().to_string(), wanted.display().to_string());
            let compared = std::process::Command::new("qemu-img")
                .args(["compare", "-q", "-U", "-f", format, "-F", "raw", &file, &wanted])
                .status()
                .unwrap();
            assert!(compared.success(), "{name} is not what it was: {file}");
        }
        for file in self.overlays.files().unwrap() {
            qemu_img(&["check", "-q", "-U", &file.display().to_string()]);
        }
    }

    /// The overlays that lie on the disk of this machine.
    fn files(&self) -> Vec<PathBuf> {
        let directory = std::fs::read_dir(self.directory.path().join("layers"));
        directory.map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
    }

    /// Nothing is left but the file of the definition.
    fn check_plain(&self) {
        self.check();
        assert_eq!(self.overlays.active(&self.disk).unwrap().file, self.disk.path);
        assert_eq!(self.files(), Vec::<PathBuf>::new());
        assert!(self.overlays.files().unwrap().is_empty());
    }
}

#[tokio::test]
async fn snapshots_of_a_running_machine_are_taken_and_merged_while_it_runs() {
    let mut house = House::new();
    house.start().await;
    house.write(0, 1).await;
    house.snapshot(id(1)).await;
    assert_eq!(house.image(id(1)).file, house.disk.path);
    house.write(0, 2).await;
    house.write(1, 2).await;
    house.snapshot(id(2)).await;
    house.write(1, 3).await;
    house.write(2, 3).await;
    house.snapshot(id(3)).await;
    house.write(3, 4).await;
    assert_eq!(house.files().len(), 3);
    house.check();

    // In the middle of the chain.
    house.destroy(id(2)).await.unwrap();
    assert_eq!(house.files().len(), 2);
    house.check();
    house.write(4, 5).await;
    // Into the file of the definition: the snapshot above it moves there.
    house.destroy(id(1)).await.unwrap();
    assert_eq!((house.files().len(), house.image(id(3)).file == house.disk.path), (1, true));
    house.check();
    house.write(5, 6).await;
    // The layer that is written to.
    house.destroy(id(3)).await.unwrap();
    assert!(house.is_running().await);
    assert_eq!(house.jobs().await, 0);
    house.check_plain();
    house.write(6, 7).await;
    house.check();
    // And once more, for nothing of the first round may be in the way.
    house.snapshot(id(4)).await;
    house.write(6, 8).await;
    house.quit().await;
    house.check();
    house.start().await;
    house.destroy(id(4)).await.unwrap();
    house.quit().await;
    house.check_plain();
}

#[tokio::test]
async fn a_machine_started_above_its_snapshots_can_merge_them() {
    let mut house = House::new();
    house.snapshot_stopped(id(1)).await;
    house.start().await;
    house.write(0, 1).await;
    house.snapshot(id(2)).await;
    house.write(1, 2).await;
    house.quit().await;
    house.snapshot_stopped(id(3)).await;
    house.start().await;
    house.write(2, 3).await;
    house.check();
    for number in [1, 2, 3] {
        house.destroy(id(number)).await.unwrap();
        house.check();
    }
    house.check_plain();
    house.quit().await;
    house.check_plain();
}

#[tokio::test]
async fn a_paused_machine_stays_paused_when_its_topmost_layer_is_merged() {
    let mut house = House::new();
    let monitor = house.start().await;
    house.snapshot(id(1)).await;
    house.write(0, 1).await;
    monitor.execute(qmp::stop {}, LONG).await.unwrap();
    house.destroy(id(1)).await.unwrap();
    assert!(!house.is_running().await);
    house.check_plain();
}

#[tokio::test]
async fn layers_of_a_machine_that_is_off_are_merged_by_the_tool() {
    let mut house = House::new();
    house.start().await;
    for number in 1..=3 {
        house.snapshot(id(number)).await;
        house.write(usize::try_from(number).unwrap(), 7).await;
    }
    // Used by QEMU: the tool is refused, and nothing is harmed.
    let error = house.overlays.destroy(None, id(2), job(), &StepControl::detached()).await.unwrap_err();
    assert!(matches!(error.cause, Cause::InUse(_)), "{error}");
    assert_eq!(error.disk.as_deref(), Some("data/1"));
    house.taken.remove(&id(2));
    house.check();
    house.quit().await;
    house.overlays.tidy(None, job(), &StepControl::detached()).await.unwrap();
    house.check();
    assert_eq!(house.files().len(), 2);
    house.destroy(id(3)).await.unwrap();
    house.check();
    house.destroy(id(1)).await.unwrap();
    house.check_plain();
}

#[tokio::test]
async fn a_snapshot_is_applied_kept_or_taken_back() {
    let mut house = House::new();
    house.start().await;
    house.write(0, 1).await;
    house.snapshot(id(1)).await;
    house.write(0, 2).await;
    house.snapshot(id(2)).await;
    house.write(0, 3).await;
    house.quit().await;
    let disks = [house.disk.clone()];

    house.overlays.apply(&disks, id(1), id(11)).await.unwrap();
    let now = std::mem::replace(&mut house.now, house.taken[&id(1)]);
    house.check();
    house.overlays.take_back_applied().await.unwrap();
    house.now = now;
    house.check();
    assert_eq!(house.files().len(), 2);

    // Twice, as after a crash between the application and its record.
    house.overlays.apply(&disks, id(1), id(12)).await.unwrap();
    house.overlays.apply(&disks, id(1), id(12)).await.unwrap();
    house.overlays.keep_applied().await.unwrap();
    house.now = house.taken[&id(1)];
    house.check();
    assert_eq!(house.files().len(), 2, "the content before the application is gone");
    house.start().await;
    house.write(1, 9).await;
    house.snapshot(id(3)).await;
    house.write(1, 10).await;
    house.check();

    // Two files lie above the first snapshot: it goes, and its file stays until one of them does.
    house.destroy(id(1)).await.unwrap();
    house.check();
    assert_eq!(house.files().len(), 3);
    house.destroy(id(3)).await.unwrap();
    house.check();
    house.destroy(id(2)).await.unwrap();
    house.check_plain();
}

#[tokio::test]
async fn a_layer_off_the_chain_of_the_running_machine_is_merged_too() {
    let mut house = House::new();
    for number in 1..=3 {
        house.start().await;
        house.snapshot(id(number)).await;
        house.write(0, 40 + u8::try_from(number).unwrap()).await;
        house.quit().await;
    }
    house.overlays.apply(&[house.disk.clone()], id(1), id(11)).await.unwrap();
    house.overlays.keep_applied().await.unwrap();
    house.now = house.taken[&id(1)];
    house.start().await;
    house.write(5, 50).await;
    // The second snapshot lies below the third, and the machine above the first.
    house.destroy(id(2)).await.unwrap();
    house.check();
    house.destroy(id(3)).await.unwrap();
    house.check();
    house.destroy(id(1)).await.unwrap();
    house.check_plain();
}

#[tokio::test]
async fn what_a_failed_transaction_leaves_is_taken_back() {
    let mut house = House::new();
    let monitor = house.start().await;
    house.write(0, 1).await;
    let overlay = house.overlays.add(&monitor, &house.disk, id(1)).await.unwrap();
    let error = house.transaction(&overlay, id(1), "disk-zz").await.unwrap_err();
    assert!(matches!(error, MonitorError::Refused { .. }), "{error}");
    house.write(1, 2).await;
    house.destroy(id(1)).await.unwrap();
    house.check_plain();
    // The same identity may be used again.
    house.snapshot(id(1)).await;
    let error = house.overlays.add(&monitor, &house.disk, id(1)).await.unwrap_err();
    assert!(matches!(error.cause, Cause::InUse(_)), "{error}");
    house.write(1, 3).await;
    house.check();
    house.destroy(id(1)).await.unwrap();
    house.check_plain();
}

#[tokio::test]
async fn what_does_not_fit_the_pointer_is_refused() {
    let mut house = House::new();
    let monitor = house.start().await;
    house.snapshot(id(1)).await;
    let elsewhere = DiskDefinition { path: house.directory.path().join("other.img"), ..house.disk.clone() };
    let error = house.overlays.add(&monitor, &elsewhere, id(2)).await.unwrap_err();
    assert!(matches!(error.cause, Cause::NotSupported(_)), "{error}");
    let unknown = DiskDefinition { name: "other".to_owned(), ..elsewhere };
    let error = house.overlays.add(&monitor, &unknown, id(2)).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Failed(_)), "{error}");
    house.kill();
    std::fs::write(house.directory.path().join("layers.json"), "").unwrap();
    assert!(house.overlays.active(&house.disk).is_err(), "a broken pointer must not be taken for none");
}
