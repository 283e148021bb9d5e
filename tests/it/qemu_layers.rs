//! Raw disks of machines that the engine has QEMU run, which must be installed. No guest is needed: what it would write
//! is written through its disks by a second monitor.

mod broken;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qapi::qmp;
use wsnapd::backend::{
    Accelerator, DiskDefinition, DiskFormat, DiskLayer, Hypervisor, LaunchedMachine, MachineDefinition, Monitor,
    Overlays, QemuHypervisor, QemuMachine, QemuSettings,
};
use wsnapd::engine::{
    Activity, CancelMode, Engine, Job, JobKind, JobState, RequestedState, SnapshotSettings, SnapshotType, SystemState,
};
use wsnapd::time::Guid;

use super::engine_support::{Directory, Site, USER, WEB, guid, job_of, made, wait};
use super::qemu_peer::real::{LONG, qemu_img};

/// Size of each disk in MiB.
const SIZE: usize = 64;
const MIB: usize = 1 << 20;

/// A machine with a qcow2 disk `system` and a raw disk `data`, and the engine that manages it.
struct House {
    site: Site,
    engine: Option<Arc<Engine>>,
    guest: Option<Monitor>,
    allowed: bool,
}

impl House {
    async fn new(allowed: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(path("data.img"), vec![0; SIZE * MIB]).unwrap();
        qemu_img(&["create", "-q", "-f", "qcow2", &path("system.qcow2"), &format!("{SIZE}M")]);
        // Firmware that switches interrupts off and waits for one: the guest runs and needs no processor.
        let mut firmware = vec![0; 64 << 10];
        firmware[0xFFF0..0xFFF4].copy_from_slice(&[0xFA, 0xF4, 0xEB, 0xFC]);
        std::fs::write(path("firmware"), firmware).unwrap();
        let mut house = Self { site: Site::at(Directory::Own(directory)), engine: None, guest: None, allowed };
        house.open().await;
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.directory.path().join(name)
    }

    fn definition(&self) -> MachineDefinition {
        let disk = |name: &str, file: &str, format| DiskDefinition {
            name: name.to_owned(),
            path: self.path(file),
            format,
            read_only: false,
            pass_through: false,
        };
        let firmware = self.path("firmware").display().to_string();
        let arguments = ["-bios", &firmware, "-qmp", "unix:guest,server=on,wait=off"].map(str::to_owned).to_vec();
        MachineDefinition {
            id: guid(WEB),
            name: "web01".to_owned(),
            notes: String::new(),
            memory_mb: 32,
            processors: 1,
            networks: Vec::new(),
            disks: vec![disk("system", "system.qcow2", DiskFormat::Qcow2), disk("data", "data.img", DiskFormat::Raw)],
            qemu: QemuMachine::Launched(LaunchedMachine { arguments, ..LaunchedMachine::default() }),
        }
    }

    fn hypervisor(&self) -> Arc<QemuHypervisor> {
        let settings =
            QemuSettings { accelerator: Accelerator::Tcg, overlay_raw_disks: self.allowed, ..QemuSettings::default() };
        let machines = vec![self.definition()];
        Arc::new(QemuHypervisor::open(self.site.directory.path(), machines, settings).unwrap())
    }

    async fn open(&mut self) {
        self.engine = Some(self.site.open(self.hypervisor()).await);
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    /// Ends the engine; the machine lives on.
    async fn close(&mut self) {
        self.engine.take().unwrap().shutdown().await;
    }

    fn overlays(&self) -> Overlays {
        Overlays::new(guid(WEB), &self.home(), Path::new("qemu-img"))
    }

    /// The directory of the machine.
    fn home(&self) -> PathBuf {
        self.path("machines").join(guid(WEB).to_string())
    }

    fn disk(&self) -> DiskDefinition {
        self.definition().disks.pop().unwrap()
    }

    async fn change(&mut self, requested: RequestedState) {
        let job = job_of(self.engine().request_state_change(guid(WEB), requested, USER).await);
        let job = wait(self.engine(), job).await;
        assert_eq!(job.state, JobState::Completed, "{:?}", job.failure);
        self.guest = None;
        if requested == RequestedState::Enabled {
            // Another monitor than that of the engine, with which we play the guest.
            self.guest = Some(Monitor::connect(&self.home().join("guest"), LONG).await.unwrap());
        }
    }

    fn state(&self) -> SystemState {
        self.engine().view().system(guid(WEB)).unwrap().state
    }

    /// The guest fills `count` MiB of a disk and waits until that is on the disk.
    async fn write(&self, disk: usize, place: usize, count: usize, value: u8) {
        for command in [format!("write -P {value} {place}M {count}M"), "flush".to_owned()] {
            // The channel of the agent is the first device without a name.
            let device = format!("/machine/peripheral-anon/device[{}]/virtio-backend", disk + 1);
            let command_line = format!("qemu-io -d {device} \"{command}\"");
            let command = qmp::human_monitor_command { cpu_index: None, command_line };
            assert_eq!(self.guest.as_ref().unwrap().execute(command, LONG).await.unwrap(), "");
        }
    }

    /// The guest fills the first MiB of both disks.
    async fn mark(&self, value: u8) {
        self.write(0, 0, 1, value).await;
        self.write(1, 0, 1, value).await;
    }

    async fn take(&self, snapshot_type: SnapshotType) -> Guid {
        let job = self.try_take(snapshot_type, false).await;
        assert_eq!(job.state, JobState::Completed, "{:?}", job.failure);
        made(&job)
    }

    async fn try_take(&self, snapshot_type: SnapshotType, ignore: bool) -> Arc<Job> {
        let settings = SnapshotSettings { ignore_non_snapshottable_disks: ignore, ..SnapshotSettings::default() };
        let request = wsnapd::engine::CreateSnapshot { system: guid(WEB), snapshot_type, settings };
        wait(self.engine(), job_of(self.engine().create_snapshot(request, USER).await)).await
    }

    async fn destroy(&self, snapshot: Guid) {
        let job = wait(self.engine(), job_of(self.engine().destroy_snapshot(snapshot, USER).await)).await;
        assert_eq!(job.state, JobState::Completed, "{:?}", job.failure);
    }

    async fn apply(&self, snapshot: Guid) {
        let job = wait(self.engine(), job_of(self.engine().apply_snapshot(snapshot, USER).await)).await;
        assert_eq!(job.state, JobState::Completed, "{:?}", job.failure);
    }

    /// The newest job that merges, as soon as there are `count` of them.
    async fn merge(&self, count: usize) -> Guid {
        for _ in 0..400 {
            let view = self.engine().view();
            let mut jobs: Vec<_> = view.jobs().filter(|job| job.kind == JobKind::MergeDisks).collect();
            jobs.sort_by_key(|job| job.sequence);
            if jobs.len() >= count {
                return jobs.last().unwrap().id;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no disks are merged");
    }

    /// Waits until merges have ended, however many there were.
    async fn merged(&self) {
        let id = self.merge(1).await;
        let job = wait(self.engine(), id).await;
        assert_eq!(job.state, JobState::Completed, "{:?}", job.failure);
        assert_eq!(job.percent, 100);
    }

    /// Starts the machine and destroys a snapshot of it, so that QEMU is at a merge that takes seconds.
    async fn merge_slowly(&mut self) {
        self.change(RequestedState::Enabled).await;
        self.mark(1).await;
        let snapshot = self.take(SnapshotType::Disk).await;
        self.write(1, 1, SIZE - 1, 7).await;
        let job = job_of(self.engine().destroy_snapshot(snapshot, USER).await);
        let slow = qmp::block_job_set_speed { device: format!("job-{}", guid(WEB)), speed: 2 << 20 };
        for turn in 0.. {
            if self.guest.as_ref().unwrap().execute(slow.clone(), LONG).await.is_ok() {
                break;
            }
            assert!(turn < 2000, "nothing is merged");
        }
        assert_eq!(wait(self.engine(), job).await.state, JobState::Completed);
    }

    /// The byte at the begin of each MiB of a layer.
    fn content(&self, layer: &DiskLayer) -> Vec<u8> {
        let format = if layer.format == DiskFormat::Raw { "raw" } else { "qcow2" };
        let (file, copy) = (layer.file.display().to_string(), self.path("copy").display().to_string());
        qemu_img(&["convert", "-U", "-f", format, "-O", "raw", &file, &copy]);
        std::fs::read(&copy).unwrap().chunks(MIB).map(|chunk| chunk[0]).collect()
    }

    fn now(&self) -> Vec<u8> {
        self.content(&self.overlays().active(&self.disk()).unwrap())
    }

    fn at(&self, snapshot: Guid) -> Vec<u8> {
        self.content(&self.overlays().image("data", snapshot).unwrap().expect("the layer of the snapshot is gone"))
    }

    /// How many overlays lie there.
    fn layers(&self) -> usize {
        let known = self.overlays().files().unwrap();
        let directory = std::fs::read_dir(self.home().join("layers"));
        let files: Vec<PathBuf> =
            directory.map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
        assert_eq!(files.len(), known.len(), "{files:?}");
        for file in &known {
            qemu_img(&["check", "-q", "-U", &file.display().to_string()]);
        }
        known.len()
    }

    fn tags(&self) -> usize {
        let disk = self.path("system.qcow2").display().to_string();
        let text = qemu_img(&["info", "-U", "--output=json", &disk]);
        let info: serde_json::Value = serde_json::from_str(&text).unwrap();
        info["snapshots"].as_array().map_or(0, Vec::len)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.home().join("qemu.pid")).unwrap_or_default();
        if let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
            // The file may be one of a process that has ended.
            let name = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            if name.contains(&guid(WEB).to_string()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

#[tokio::test]
async fn a_running_machine_is_taken_applied_and_merged_with_its_raw_disk() {
    let mut house = House::new(true).await;
    house.change(RequestedState::Enabled).await;
    house.mark(1).await;
    let first = house.take(SnapshotType::Full).await;
    house.mark(2).await;
    let second = house.take(SnapshotType::Full).await;
    house.mark(3).await;
    assert_eq!((house.layers(), house.tags()), (2, 2));
    assert_eq!((house.at(first)[0], house.at(second)[0], house.now()[0]), (1, 2, 3));

    // The older one is destroyed while the machine runs; a job of its own merges.
    house.destroy(first).await;
    house.merged().await;
    assert_eq!((house.layers(), house.tags(), house.at(second)[0], house.now()[0]), (1, 1, 2, 3));
    assert_eq!(house.state(), SystemState::Running);

    // Applied with memory: the machine is saved, and its next start continues from all three.
    house.change(RequestedState::Disabled).await;
    house.apply(second).await;
    assert_eq!((house.state(), house.now()[0]), (SystemState::Saved, 2));
    house.change(RequestedState::Enabled).await;
    house.write(1, 1, 1, 4).await;
    assert_eq!((house.now()[..2].to_vec(), house.at(second)[..2].to_vec()), (vec![2, 4], vec![2, 0]));

    // The newest one goes, and with it the last overlay.
    house.destroy(second).await;
    let merge = house.merge(2).await;
    assert_eq!(wait(house.engine(), merge).await.state, JobState::Completed);
    assert_eq!((house.layers(), house.tags()), (0, 0));
    assert_eq!(house.overlays().active(&house.disk()).unwrap().file, house.disk().path);
    house.write(1, 2, 1, 5).await;
    assert_eq!(house.now()[..4], [2, 4, 5, 0]);
    house.change(RequestedState::Saved).await;
    house.change(RequestedState::Enabled).await;
    house.change(RequestedState::Disabled).await;
    assert_eq!(house.now()[..4], [2, 4, 5, 0]);
    house.close().await;
}

#[tokio::test]
async fn a_machine_that_is_off_or_saved_is_taken_applied_and_merged_with_its_raw_disk() {
    let mut house = House::new(true).await;
    house.change(RequestedState::Enabled).await;
    house.mark(1).await;
    house.change(RequestedState::Saved).await;
    let saved = house.take(SnapshotType::Full).await;
    house.change(RequestedState::Enabled).await;
    house.mark(2).await;
    house.change(RequestedState::Disabled).await;
    let off = house.take(SnapshotType::Disk).await;
    house.change(RequestedState::Enabled).await;
    house.mark(3).await;
    house.change(RequestedState::Disabled).await;
    assert_eq!((house.at(saved)[0], house.at(off)[0], house.now()[0]), (1, 2, 3));

    house.apply(saved).await;
    assert_eq!((house.state(), house.now()[0]), (SystemState::Saved, 1));
    house.change(RequestedState::Enabled).await;
    house.mark(4).await;
    house.change(RequestedState::Disabled).await;
    house.apply(off).await;
    assert_eq!((house.state(), house.now()[0]), (SystemState::Off, 2));

    // The whole tree goes.
    let job = job_of(house.engine().destroy_snapshot_tree(saved, USER).await);
    assert_eq!(wait(house.engine(), job).await.state, JobState::Completed);
    let newest = house.engine().view().jobs().filter(|job| job.kind == JobKind::MergeDisks).count();
    if house.layers() > 0 {
        let merge = house.merge(newest.max(1)).await;
        assert_eq!(wait(house.engine(), merge).await.state, JobState::Completed);
    }
    assert_eq!((house.layers(), house.tags(), house.now()[0]), (0, 0, 2));
    house.close().await;
}

#[tokio::test]
async fn a_merge_is_seen_and_can_be_cancelled() {
    let mut house = House::new(true).await;
    house.merge_slowly().await;
    let merge = house.merge(1).await;
    let view = house.engine().view();
    let job = view.job(merge).unwrap();
    assert_eq!((job.state, job.cancellable, job.kind.number()), (JobState::Running, true, 50));
    assert_eq!(view.system(guid(WEB)).unwrap().activity, Some(Activity::MergingDisks));
    house.engine().cancel_job(merge, CancelMode::Terminate).await.unwrap();
    assert_eq!(wait(house.engine(), merge).await.state, JobState::Terminated);
    assert_eq!(house.layers(), 1);
    let expected: Vec<u8> = std::iter::once(1).chain(std::iter::repeat_n(7, SIZE - 1)).collect();
    assert_eq!(house.now(), expected);
    assert_eq!(house.engine().view().system(guid(WEB)).unwrap().activity, None);

    // The next job on the machine lets it begin again.
    let again = house.take(SnapshotType::Disk).await;
    let merge = house.merge(2).await;
    assert_eq!(wait(house.engine(), merge).await.state, JobState::Completed);
    assert_eq!((house.layers(), house.now(), house.at(again)), (1, expected.clone(), expected));
    house.close().await;
}
