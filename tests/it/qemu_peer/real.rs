//! The monitor of a real QEMU, which must be installed: no guest runs, so that nothing but QEMU itself answers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qapi::qmp;
use serde_json::{Value, json};
use wsnapd::backend::{Monitor, MonitorError};

use super::ms;

/// A limit nothing here comes near to.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A QEMU process that is killed at the end.
pub(crate) struct RealQemu {
    process: Child,
    socket: PathBuf,
}

impl RealQemu {
    /// Starts QEMU, stopped before the first instruction, with a monitor socket in `directory`.
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        let socket = directory.join("qmp");
        // A process that was killed leaves its socket.
        let _ = std::fs::remove_file(&socket);
        let process = Command::new("qemu-system-x86_64")
            .args(["-S", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-m", "16"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 is needed");
        Self { process, socket }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Connects as soon as the process listens.
    pub(crate) async fn monitor(&mut self) -> Monitor {
        let deadline = Instant::now() + LONG;
        loop {
            match Monitor::connect(&self.socket, LONG).await {
                Ok(monitor) => return monitor,
                Err(MonitorError::Connect(error)) => {
                    assert!(self.process.try_wait().unwrap().is_none(), "QEMU ended");
                    assert!(Instant::now() < deadline, "{error}");
                    tokio::time::sleep(ms(10)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Kills the process with signal 9 and waits for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for RealQemu {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `qemu-img`, which must succeed, and returns what it printed.
pub(crate) fn qemu_img(arguments: &[&str]) -> String {
    let output = Command::new("qemu-img").args(arguments).output().expect("qemu-img is needed");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "qemu-img {arguments:?}: {text}");
    String::from_utf8(output.stdout).unwrap()
}

async fn job_ends(monitor: &Monitor, id: &str) -> qmp::JobInfo {
    let deadline = Instant::now() + LONG;
    loop {
        let jobs = monitor.execute(qmp::query_jobs {}, LONG).await.unwrap();
        let job = jobs.into_iter().find(|job| job.id == id).expect("the job is gone");
        if job.status == qmp::JobStatus::concluded {
            return job;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(ms(5)).await;
    }
}

fn capability(capability: qmp::MigrationCapability, state: bool) -> qmp::MigrationCapabilityStatus {
    qmp::MigrationCapabilityStatus { capability, state }
}

#[tokio::test]
async fn the_monitor_of_a_machine_without_devices() {
    let directory = tempfile::tempdir().unwrap();
    let mut qemu = RealQemu::start(directory.path(), &["-machine", "none"]);
    let monitor = qemu.monitor().await;
    let status = monitor.execute(qmp::query_status {}, LONG).await.unwrap();
    assert_eq!(status.status, qmp::RunState::prelaunch);

    // The monitor is ours, so a second client is accepted and then left alone.
    let error = Monitor::connect(qemu.socket(), ms(200)).await.unwrap_err();
    assert!(matches!(error, MonitorError::NoGreeting), "{error}");

    let error = monitor.execute(qmp::job_dismiss { id: "none".into() }, LONG).await.unwrap_err();
    assert!(matches!(&error, MonitorError::Refused { class, .. } if class == "GenericError"), "{error:?}");

    drop(monitor);
    let monitor = qemu.monitor().await;
    let mut events = monitor.events();
    monitor.execute(qmp::quit {}, LONG).await.unwrap();
    let event = events.recv().await.unwrap();
    assert_eq!((event.name.as_str(), &event.data["reason"]), ("SHUTDOWN", &json!("host-qmp-quit")));
    assert!(event.seconds > 1_700_000_000);
    monitor.closed().await;
}

#[tokio::test]
async fn typed_commands_are_accepted_by_a_real_machine() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let mut arguments = vec!["-machine".to_owned(), "q35".to_owned()];
    for name in ["disk-a", "disk-b"] {
        qemu_img(&["create", "-q", "-f", "qcow2", &path(name), "8M"]);
        let node = json!({
            "driver": "qcow2", "node-name": name, "file": {"driver": "file", "filename": path(name)},
        });
        arguments.extend(["-blockdev".to_owned(), node.to_string()]);
        arguments.extend(["-device".to_owned(), format!("virtio-blk-pci,drive={name}")]);
    }
    let mut qemu = RealQemu::start(directory.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let monitor = qemu.monitor().await;

    disks_of_one_instant(&monitor).await;
    memory_to_a_file(&monitor, &path("memory")).await;
    everything_into_the_images(&monitor).await;

    monitor.execute(qmp::quit {}, LONG).await.unwrap();
    monitor.closed().await;
    qemu.kill();
    for name in ["disk-a", "disk-b"] {
        qemu_img(&["check", "-q", &path(name)]);
    }
}

async fn disks_of_one_instant(monitor: &Monitor) {
    let action = |device: &str| {
        let snapshot = qmp::BlockdevSnapshotInternal { device: device.to_owned(), name: "D1".to_owned() };
        qmp::TransactionAction::blockdev_snapshot_internal_sync(snapshot.into())
    };
    let actions = vec![action("disk-a"), action("disk-zz")];
    let error = monitor.execute(qmp::transaction { actions, properties: None }, LONG).await.unwrap_err();
    assert!(matches!(error, MonitorError::Refused { .. }), "{error:?}");

    let bitmap = qmp::BlockDirtyBitmapAdd {
        node: "disk-a".into(),
        name: "b1".into(),
        persistent: Some(true),
        granularity: None,
        disabled: None,
    };
    let bitmap = qmp::TransactionAction::block_dirty_bitmap_add(bitmap.into());
    let actions = vec![action("disk-a"), action("disk-b"), bitmap];
    monitor.execute(qmp::transaction { actions, properties: None }, LONG).await.unwrap();

    let nodes = monitor.execute(qmp::query_named_block_nodes { flat: Some(true) }, LONG).await.unwrap();
    let disk = nodes.iter().find(|node| node.node_name.as_deref() == Some("disk-a")).unwrap();
    assert_eq!(disk.image.base.snapshots.as_ref().unwrap()[0].name, "D1");
    assert_eq!(disk.dirty_bitmaps.as_ref().unwrap()[0].name.as_deref(), Some("b1"));

    let delete =
        qmp::blockdev_snapshot_delete_internal_sync { device: "disk-a".into(), id: None, name: Some("D1".into()) };
    monitor.execute(delete.clone(), LONG).await.unwrap();
    let error = monitor.execute(delete, LONG).await.unwrap_err();
    assert!(matches!(&error, MonitorError::Refused { text, .. } if text.contains("does not exist")), "{error:?}");
}

async fn memory_to_a_file(monitor: &Monitor, file: &str) {
    use qmp::MigrationCapability as Of;
    let capabilities = vec![
        capability(Of::events, true),
        capability(Of::pause_before_switchover, true),
        capability(Of::mapped_ram, true),
        capability(Of::background_snapshot, false),
    ];
    monitor.execute(qmp::migrate_set_capabilities { capabilities }, LONG).await.unwrap();
    monitor.execute(qmp::cont {}, LONG).await.unwrap();
    let mut events = monitor.events();
    let migrate = qmp::migrate { uri: Some(format!("file:{file}")), channels: None, detach: None, resume: None };
    monitor.execute(migrate, LONG).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&"completed".to_owned()) {
        let event = tokio::time::timeout(LONG, events.recv()).await.expect("no event").unwrap();
        if event.name != "MIGRATION" {
            continue;
        }
        let status = event.data["status"].as_str().unwrap().to_owned();
        if status == "pre-switchover" {
            let state = qmp::MigrationStatus::pre_switchover;
            monitor.execute(qmp::migrate_continue { state }, LONG).await.unwrap();
        }
        seen.push(status);
    }
    assert!(seen.contains(&"pre-switchover".to_owned()), "{seen:?}");
    let info = monitor.execute(qmp::query_migrate {}, LONG).await.unwrap();
    assert_eq!(info.status, Some(qmp::MigrationStatus::completed));
    assert!(info.ram.unwrap().total >= 16 << 20);
    // The transfer is called completed a moment before the machine is in the state after it.
    let deadline = Instant::now() + LONG;
    while monitor.execute(qmp::query_status {}, LONG).await.unwrap().status != qmp::RunState::postmigrate {
        assert!(Instant::now() < deadline, "the transfer is not finalized");
        tokio::time::sleep(ms(2)).await;
    }
    monitor.execute(qmp::cont {}, LONG).await.unwrap();
    monitor.execute(qmp::stop {}, LONG).await.unwrap();
    monitor.execute(qmp::migrate_cancel {}, LONG).await.unwrap();
    // With mapped-ram still set, snapshot-save ends with "Error while writing VM state: Input/output error".
    let capabilities = vec![capability(Of::pause_before_switchover, false), capability(Of::mapped_ram, false)];
    monitor.execute(qmp::migrate_set_capabilities { capabilities }, LONG).await.unwrap();
}

async fn everything_into_the_images(monitor: &Monitor) {
    let save = qmp::snapshot_save {
        job_id: "snap0".into(),
        tag: "S1".into(),
        vmstate: "disk-a".into(),
        devices: vec!["disk-a".into(), "disk-b".into()],
    };
    for (error, refused) in [(None, false), (Some("already exists"), false), (None, true)] {
        match monitor.execute(save.clone(), LONG).await {
            Ok(_) => assert!(!refused),
            Err(MonitorError::Refused { text, .. }) => {
                assert!(refused && text.contains("already in use"), "{text}");
                break;
            }
            Err(error) => panic!("{error}"),
        }
        let job = job_ends(monitor, "snap0").await;
        assert_eq!(job.error.is_some(), error.is_some(), "{job:?}");
        assert!(error.is_none_or(|part| job.error.unwrap().contains(part)));
        if error.is_none() {
            monitor.execute(qmp::job_dismiss { id: "snap0".into() }, LONG).await.unwrap();
        }
    }
    monitor.execute(qmp::job_dismiss { id: "snap0".into() }, LONG).await.unwrap();
    // With it, snapshot-load ends with "Device has active dirty bitmaps".
    let remove = qmp::block_dirty_bitmap_remove(qmp::BlockDirtyBitmap { node: "disk-a".into(), name: "b1".into() });
    monitor.execute(remove, LONG).await.unwrap();
    let load = qmp::snapshot_load {
        job_id: "load0".into(),
        tag: "S1".into(),
        vmstate: "disk-a".into(),
        devices: vec!["disk-a".into(), "disk-b".into()],
    };
    monitor.execute(load, LONG).await.unwrap();
    assert_eq!(job_ends(monitor, "load0").await.error, None);
    let chardevs: Vec<Value> = monitor.query(qmp::query_chardev {}, LONG).await.unwrap();
    assert_eq!(chardevs.len(), 1);
}
