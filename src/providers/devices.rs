//! The device records of machines and snapshots: which there are and what they are called (`snapshot-semantics` §1
//! Identity, `clients.md` part 5). What stands in them is made by [`DeviceSettings`](super::device_settings).
//!
//! Every machine has processors, memory and one SCSI controller; each disk is a drive on it, and a disk that is a file
//! is an image in that drive. Each network card has a connection. A snapshot has copies of its own.

use std::path::Path;

use smol_str::{SmolStr, format_smolstr};

use super::element::{Element, RESOURCE_DATA, STORAGE_DATA, after_prefix, guid};
use crate::engine::{Ports, View};
use crate::time::Guid;

/// Class of processors.
pub(super) const PROCESSOR_DATA: &str = "Msvm_ProcessorSettingData";
/// Class of memory.
pub(super) const MEMORY_DATA: &str = "Msvm_MemorySettingData";
/// Class of network cards.
pub(super) const CARD_DATA: &str = "Msvm_SyntheticEthernetPortSettingData";
/// Class of connections of network cards.
pub(super) const CONNECTION_DATA: &str = "Msvm_EthernetPortAllocationSettingData";
/// Class of serial ports.
pub(super) const SERIAL_DATA: &str = "Msvm_SerialPortSettingData";

/// The classes of all device records.
pub(super) const DEVICE_CLASSES: [&str; 7] =
    [RESOURCE_DATA, STORAGE_DATA, PROCESSOR_DATA, MEMORY_DATA, CARD_DATA, CONNECTION_DATA, SERIAL_DATA];

// The types of virtual devices, which are the same on every host.
const SCSI: &str = "BA6163D9-04A1-4D29-B605-72E2FFB1DC7F";
pub(super) const PROCESSOR: &str = "B637F346-6A0E-4DEC-AF52-BD70CB80A21D";
pub(super) const MEMORY: &str = "4764334D-E001-4176-82EE-5594EC9B530E";
const CARD: &str = "F8615163-DF3E-46C5-913F-F2D2F965ED0E";
const SERIAL: &str = "8E3A359F-559A-4B6A-98A9-1690A6100ED7";

/// A device record of a machine or snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) owner: Guid,
    pub(super) part: Part,
}

/// Which of the records of an owner; those of a kind are counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Controller,
    Drive(usize),
    Image(usize),
    Processor,
    Memory,
    Card(usize),
    Connection(usize),
    Serial(usize),
}

/// A disk, of a machine or as a snapshot holds it.
pub(super) struct Disk<'v> {
    pub(super) file: &'v Path,
    pub(super) read_only: bool,
    pub(super) pass_through: bool,
}

/// What a machine has, or had when a snapshot was taken.
pub(super) struct Hardware<'v> {
    /// The machine.
    pub(super) system: Guid,
    pub(super) disks: Vec<Disk<'v>>,
    pub(super) memory_mb: u64,
    pub(super) processors: u32,
    pub(super) ports: &'v Ports,
}

impl<'v> Hardware<'v> {
    /// The hardware of a machine or snapshot, if it exists.
    pub(super) fn of(view: &'v View, owner: Guid) -> Option<Self> {
        if let Some(snapshot) = view.snapshot(owner) {
            let disks = snapshot.disks.iter();
            return Some(Self {
                system: snapshot.system,
                disks: disks.map(|disk| Disk { file: &disk.file, read_only: true, pass_through: false }).collect(),
                memory_mb: snapshot.memory_mb,
                processors: snapshot.processors,
                ports: &snapshot.ports,
            });
        }
        let system = view.system(owner)?;
        let disk = |disk: &'v crate::engine::Disk| Disk {
            file: &disk.path,
            read_only: disk.read_only,
            pass_through: disk.pass_through,
        };
        Some(Self {
            system: owner,
            disks: system.disks.iter().map(disk).collect(),
            memory_mb: system.memory_mb,
            processors: system.processors,
            ports: &system.ports,
        })
    }

    /// Its records, in the order of their kinds.
    fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Controller];
        for (number, disk) in self.disks.iter().enumerate() {
            parts.push(Part::Drive(number));
            if !disk.pass_through {
                parts.push(Part::Image(number));
            }
        }
        parts.extend([Part::Processor, Part::Memory]);
        for number in 0..self.ports.networks.len() {
            parts.extend([Part::Card(number), Part::Connection(number)]);
        }
        parts.extend((0..self.ports.serial.len()).map(Part::Serial));
        parts
    }
}

impl Device {
    /// The class of the record.
    pub(super) const fn class_name(self) -> &'static str {
        match self.part {
            Part::Controller | Part::Drive(_) => RESOURCE_DATA,
            Part::Image(_) => STORAGE_DATA,
            Part::Processor => PROCESSOR_DATA,
            Part::Memory => MEMORY_DATA,
            Part::Card(_) => CARD_DATA,
            Part::Connection(_) => CONNECTION_DATA,
            Part::Serial(_) => SERIAL_DATA,
        }
    }

    /// The key: `Microsoft:<owner>\<type>\<number>…`.
    pub(super) fn instance_id(self) -> SmolStr {
        let owner = self.owner;
        match self.part {
            Part::Controller => format_smolstr!("Microsoft:{owner}\\{SCSI}\\0"),
            Part::Drive(disk) => format_smolstr!("Microsoft:{owner}\\{SCSI}\\0\\{disk}\\D"),
            Part::Image(disk) => format_smolstr!("Microsoft:{owner}\\{SCSI}\\0\\{disk}\\L"),
            Part::Processor => format_smolstr!("Microsoft:{owner}\\{PROCESSOR}\\0"),
            Part::Memory => format_smolstr!("Microsoft:{owner}\\{MEMORY}"),
            Part::Card(number) => format_smolstr!("Microsoft:{owner}\\{CARD}\\{number}"),
            Part::Connection(number) => format_smolstr!("Microsoft:{owner}\\{CARD}\\{number}\\C"),
            Part::Serial(number) => format_smolstr!("Microsoft:{owner}\\{SERIAL}\\{number}"),
        }
    }

    /// The device with that key, if it exists.
    pub(super) fn find(text: &str, view: &View) -> Option<Self> {
        let owner = guid(after_prefix(text)?.split('\\').next()?)?;
        devices_of(view, owner).into_iter().find(|device| device.instance_id().eq_ignore_ascii_case(text))
    }

    /// Another record of the same owner.
    pub(super) const fn sibling(self, part: Part) -> Element {
        Element::Device(Self { owner: self.owner, part })
    }

    /// The settings record it belongs to.
    pub(super) fn settings(self, view: &View) -> Option<Element> {
        match view.snapshot(self.owner) {
            Some(_) => Some(Element::Snapshot(self.owner)),
            None => view.system(self.owner).map(|_| Element::Settings(self.owner)),
        }
    }
}

/// The device records of a machine or snapshot.
pub(super) fn devices_of(view: &View, owner: Guid) -> Vec<Device> {
    let parts = Hardware::of(view, owner).map(|hardware| hardware.parts()).unwrap_or_default();
    parts.into_iter().map(|part| Device { owner, part }).collect()
}
