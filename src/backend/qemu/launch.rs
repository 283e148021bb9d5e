//! How a machine is launched: kept with each snapshot that has memory, since memory fits the same hardware only.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::super::{BackendError, Cause, DiskFormat, LaunchedMachine, MachineDefinition, NetworkDefinition};
use super::layers::DiskLayer;
use super::overlay::Overlays;
use super::process::PID_FILE;
use super::raw::has_layers;
use super::settings::{Accelerator, QemuSettings};

/// Name of the monitor's socket in the directory of a machine.
pub(super) const MONITOR: &str = "qmp.sock";
/// Name of the agent's socket.
pub(super) const AGENT: &str = "agent.sock";
/// Name of the agent's channel in a machine that we start.
pub(super) const AGENT_CHANNEL: &str = "wsnapd-agent";
/// Name of the file with the machine type of the first start.
const MACHINE_TYPE: &str = "machine-type";
/// How long QEMU may take to list its machine types.
const ASK: Duration = Duration::from_secs(20);

/// How the memory lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MemoryLayout {
    /// One page after the other, as they were sent.
    #[default]
    Stream,
    /// Each page at a place of its own.
    Mapped,
}

/// A disk as QEMU gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaunchDisk {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) format: DiskFormat,
    pub(super) read_only: bool,
    pub(super) pass_through: bool,
}

/// Everything a QEMU process is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) machine: String,
    /// Never [`Accelerator::Auto`]: the same model of processor is not the same under both.
    pub(super) accelerator: Accelerator,
    pub(super) cpu: String,
    pub(super) memory_mb: u64,
    pub(super) processors: u32,
    pub(super) disks: Vec<LaunchDisk>,
    pub(super) kernel: Option<PathBuf>,
    pub(super) initrd: Option<PathBuf>,
    pub(super) append: String,
    pub(super) arguments: Vec<String>,
    #[serde(default)]
    pub(super) networks: Vec<NetworkDefinition>,
    #[serde(default)]
    pub(super) memory: MemoryLayout,
}

impl Launch {
    /// The launch of a machine as it is defined today, a raw disk with the layer that is written to.
    ///
    /// # Errors
    /// A [`BackendError`] when QEMU cannot be asked for its machine types, or the layers of a disk are not known.
    pub(super) async fn today(
        definition: &MachineDefinition,
        machine: &LaunchedMachine,
        settings: &QemuSettings,
        directory: &Path,
    ) -> Result<Self, BackendError> {
        let overlays = Overlays::new(definition.id, directory, &settings.image_tool);
        let mut disks = Vec::new();
        for disk in &definition.disks {
            let layer = if has_layers(disk) {
                overlays.active(disk)?
            } else {
                DiskLayer { file: disk.path.clone(), format: disk.format }
            };
            disks.push(LaunchDisk {
                name: disk.name.clone(),
                path: layer.file,
                format: layer.format,
                read_only: disk.read_only,
                pass_through: disk.pass_through,
            });
        }
        Ok(Self {
            machine: pinned_type(&machine.machine, &settings.program, directory).await?,
            accelerator: match settings.accelerator {
                Accelerator::Auto if has_kvm() => Accelerator::Kvm,
                Accelerator::Auto => Accelerator::Tcg,
                wanted => wanted,
            },
            cpu: machine.cpu.clone(),
            memory_mb: definition.memory_mb,
            processors: definition.processors,
            disks,
            kernel: machine.kernel.clone(),
            initrd: machine.initrd.clone(),
            append: machine.append.clone(),
            arguments: machine.arguments.clone(),
            networks: definition.networks.clone(),
            memory: MemoryLayout::Stream,
        })
    }

    /// The description as it is stored.
    pub(super) fn to_text(&self) -> Result<String, BackendError> {
        serde_json::to_string(self)
            .map_err(|error| BackendError::new("write the launch description", Cause::Failed(error.to_string())))
    }

    /// Reads a stored description.
    pub(super) fn from_text(text: &str) -> Result<Self, BackendError> {
        serde_json::from_str(text)
            .map_err(|error| BackendError::new("read the launch description", Cause::Failed(error.to_string())))
    }

    /// The disks lie where the machine has them today.
    pub(super) fn move_disks(&mut self, today: &Self) {
        for disk in &mut self.disks {
            if let Some(now) = today.disks.iter().find(|now| now.name == disk.name) {
                disk.path.clone_from(&now.path);
                disk.format = now.format;
            }
        }
    }

    /// The arguments of QEMU; sockets and PID file lie in its working directory.
    pub(super) fn to_arguments(
        &self,
        definition: &MachineDefinition,
        serial: Option<&Path>,
        incoming: bool,
    ) -> Vec<OsString> {
        let mut all: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: OsString| {
            all.push(option.into());
            all.push(value);
        };
        // The threads of virtual processors are named after them, so that their times can be told.
        add("-name", format!("guest={},debug-threads=on", definition.name.replace(',', ",,")).into());
        add("-uuid", definition.id.to_string().into());
        add("-machine", self.machine.as_str().into());
        add("-accel", if self.accelerator == Accelerator::Kvm { "kvm" } else { "tcg" }.into());
        add("-cpu", self.cpu.as_str().into());
        add("-m", format!("{}M", self.memory_mb).into());
        add("-smp", self.processors.to_string().into());
        add("-display", "none".into());
        add("-pidfile", PID_FILE.into());
        add("-chardev", format!("socket,id=wsnapd-monitor,path={MONITOR},server=on,wait=off").into());
        add("-mon", "chardev=wsnapd-monitor,mode=control".into());
        add("-chardev", format!("socket,id={AGENT_CHANNEL},path={AGENT},server=on,wait=off").into());
        add("-device", "virtio-serial-pci,id=wsnapd-serial".into());
        add(
            "-device",
            format!("virtserialport,bus=wsnapd-serial.0,chardev={AGENT_CHANNEL},name=org.qemu.guest_agent.0").into(),
        );
        if let Some(serial) = serial {
            add("-chardev", log_file("wsnapd-console", serial));
        }
        add("-serial", if serial.is_some() { "chardev:wsnapd-console" } else { "null" }.into());
        for (index, disk) in self.disks.iter().enumerate() {
            add("-blockdev", blockdev(index, disk).into());
            let name: String = disk.name.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
            add("-device", format!("virtio-blk-pci,drive=disk{index},serial={name}").into());
        }
        // Behind the disks, so that a card does not move them.
        for (index, card) in self.networks.iter().enumerate() {
            if let Some(bridge) = &card.bridge {
                add("-netdev", format!("bridge,id=net{index},br={}", bridge.replace(',', ",,")).into());
            }
            add("-device", network_card(index, card).into());
        }
        if let Some(kernel) = &self.kernel {
            add("-kernel", kernel.into());
            if let Some(initrd) = &self.initrd {
                add("-initrd", initrd.into());
            }
            add("-append", self.append.as_str().into());
        }
        if incoming {
            add("-incoming", "defer".into());
        }
        all.extend(["-nodefaults", "-no-user-config", "-daemonize"].map(OsString::from));
        all.extend(self.arguments.iter().map(OsString::from));
        all
    }
}

/// A card without the program to boot from it, which not every installation has.
fn network_card(index: usize, card: &NetworkDefinition) -> String {
    let backend = if card.bridge.is_some() { format!("netdev=net{index},") } else { String::new() };
    format!("virtio-net-pci,{backend}id=nic{index},mac={},romfile=", card.mac)
}

/// A character device that writes to the end of a file, so that a start keeps what the guest said before.
fn log_file(id: &str, path: &Path) -> OsString {
    let mut device = format!("file,id={id},append=on,path=").into_bytes();
    for &byte in path.as_os_str().as_bytes() {
        // A comma in a value is written twice.
        device.extend(std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 }));
    }
    OsString::from_vec(device)
}

/// True when KVM may be used here; whether it works is another question.
fn has_kvm() -> bool {
    fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

/// The block device of a disk, as JSON: no character of a path has a meaning of its own there.
fn blockdev(index: usize, disk: &LaunchDisk) -> String {
    let driver = match disk.format {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
    };
    let file = if disk.pass_through { "host_device" } else { "file" };
    let read_only = disk.read_only;
    serde_json::json!({
        "driver": driver,
        "node-name": format!("disk{index}"),
        "read-only": read_only,
        "discard": "unmap",
        "file": {
            "driver": file,
            "node-name": format!("file{index}"),
            "filename": disk.path,
            "read-only": read_only,
            "discard": "unmap",
        },
    })
    .to_string()
}

/// The machine type of the first start: a name without a version would mean other hardware after an upgrade.
async fn pinned_type(wanted: &str, program: &Path, directory: &Path) -> Result<String, BackendError> {
    const STEP: &str = "ask QEMU for its machine types";
    let path = directory.join(MACHINE_TYPE);
    if let Ok(text) = fs::read_to_string(&path)
        && let Some((name, versioned)) = text.trim().split_once(' ')
        && name == wanted
    {
        return Ok(versioned.to_owned());
    }
    let mut command = Command::new(program);
    command.args(["-machine", "help"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(ASK, command.output())
        .await
        .map_err(|_| BackendError::new(STEP, Cause::Timeout))?
        .map_err(|error| BackendError::io(STEP, program, error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let versioned = text
        .lines()
        .filter(|line| line.split_whitespace().next() == Some(wanted))
        .find_map(|line| line.rsplit_once("(alias of ")?.1.strip_suffix(')'))
        .unwrap_or(wanted)
        .to_owned();
    super::files::write_durably(STEP, &path, format!("{wanted} {versioned}\n").as_bytes())?;
    Ok(versioned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_connected_to_its_bridge_or_to_nothing() {
        let mac = "52:54:00:AB:00:01".parse().unwrap();
        let card =
            |bridge: Option<&str>| NetworkDefinition { name: "lan".to_owned(), mac, bridge: bridge.map(str::to_owned) };
        assert_eq!(network_card(1, &card(None)), "virtio-net-pci,id=nic1,mac=52:54:00:ab:00:01,romfile=");
        let connected = network_card(0, &card(Some("br0")));
        assert_eq!(connected, "virtio-net-pci,netdev=net0,id=nic0,mac=52:54:00:ab:00:01,romfile=");
    }

    #[test]
    fn a_path_cannot_break_out_of_its_place() {
        let disk = LaunchDisk {
            name: "a,b".to_owned(),
            path: "/d/x,\"node-name\":\"y".into(),
            format: DiskFormat::Qcow2,
            read_only: false,
            pass_through: false,
        };
        let value: serde_json::Value = serde_json::from_str(&blockdev(3, &disk)).unwrap();
        assert_eq!(value["file"]["filename"], "/d/x,\"node-name\":\"y");
        assert_eq!(value["node-name"], "disk3");
    }
}
