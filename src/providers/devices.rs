//! `Msvm_ResourceAllocationSettingData` and `Msvm_StorageAllocationSettingData`: the device records of machines
//! and snapshots (`snapshot-semantics` §1 Identity, `clients.md` part 5).
//!
//! Every machine has one SCSI controller; each disk is a drive on it, and a disk that is a file is an image in
//! that drive. A snapshot has copies of its own.

use std::path::Path;
use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::element::{Element, after_prefix, guid, guid_text};
use super::family::{Elements, Family};
use super::scope::{Scope, Shared};
use crate::cim::{CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder};
use crate::engine::View;
use crate::time::Guid;

/// Type of the SCSI controller of a virtual machine, which every host uses.
const CONTROLLER: &str = "BA6163D9-04A1-4D29-B605-72E2FFB1DC7F";

/// A device record of a machine or snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    owner: Guid,
    part: Part,
}

/// Which of the records of an owner; disks are counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Controller,
    Drive(usize),
    Image(usize),
}

/// A disk, of a machine or as a snapshot holds it.
struct Disk<'v> {
    file: &'v Path,
    read_only: bool,
    pass_through: bool,
}

impl Device {
    /// Whether it is the image in a drive.
    pub(super) const fn is_image(self) -> bool {
        matches!(self.part, Part::Image(_))
    }

    /// The key: `Microsoft:<owner>\<controller type>\<controller>[\<location>\D|L]`.
    pub(super) fn instance_id(self) -> SmolStr {
        let owner = self.owner;
        match self.part {
            Part::Controller => format_smolstr!("Microsoft:{owner}\\{CONTROLLER}\\0"),
            Part::Drive(disk) => format_smolstr!("Microsoft:{owner}\\{CONTROLLER}\\0\\{disk}\\D"),
            Part::Image(disk) => format_smolstr!("Microsoft:{owner}\\{CONTROLLER}\\0\\{disk}\\L"),
        }
    }

    /// The device with that key, if it exists.
    pub(super) fn parse(text: &str, view: &View) -> Option<Self> {
        let mut parts = after_prefix(text)?.split('\\');
        let owner = guid(parts.next()?)?;
        if !parts.next()?.eq_ignore_ascii_case(CONTROLLER) || parts.next()? != "0" {
            return None;
        }
        let part = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => Part::Controller,
            (Some(disk), Some(kind), None) => {
                let number: usize = disk.parse().ok().filter(|number: &usize| number.to_string() == disk)?;
                if kind.eq_ignore_ascii_case("D") { Part::Drive(number) } else { Part::Image(number) }
            }
            _ => return None,
        };
        let device = Self { owner, part };
        let known = device.instance_id().eq_ignore_ascii_case(text) && devices_of(view, owner).contains(&device);
        known.then_some(device)
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
    if view.system(owner).is_none() && view.snapshot(owner).is_none() {
        return Vec::new();
    }
    let disks = disks_of(view, owner);
    let mut devices = vec![Device { owner, part: Part::Controller }];
    for (number, disk) in disks.iter().enumerate() {
        devices.push(Device { owner, part: Part::Drive(number) });
        if !disk.pass_through {
            devices.push(Device { owner, part: Part::Image(number) });
        }
    }
    devices
}

fn disks_of(view: &View, owner: Guid) -> Vec<Disk<'_>> {
    if let Some(snapshot) = view.snapshot(owner) {
        return snapshot
            .disks
            .iter()
            .map(|disk| Disk { file: &disk.file, read_only: true, pass_through: false })
            .collect();
    }
    let Some(system) = view.system(owner) else { return Vec::new() };
    system
        .disks
        .iter()
        .map(|disk| Disk { file: &disk.path, read_only: disk.read_only, pass_through: disk.pass_through })
        .collect()
}

/// Serves the device records of one of the two classes.
pub(super) struct Devices {
    images: bool,
    template: CimInstance,
}

impl Devices {
    /// The images (`Msvm_StorageAllocationSettingData`).
    pub(super) fn images(class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let template = common(class)
            .set("Caption", "Hard Disk Image")
            .set("Description", "Settings for the Microsoft Hard Disk Image")
            .set("ElementName", "Hard Disk Image")
            .set("ResourceType", 31_u16)
            .set("ResourceSubType", "Microsoft:Hyper-V:Virtual Hard Disk")
            .set("Address", "")
            .set("PersistentReservationsSupported", false)
            .set("IgnoreFlushes", false)
            .set("SnapshotId", "")
            .build()?;
        Ok(Self { images: true, template })
    }

    /// Controllers and drives (`Msvm_ResourceAllocationSettingData`).
    pub(super) fn resources(class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        Ok(Self { images: false, template: common(class).build()? })
    }
}

fn common(class: &Arc<ClassDeclaration>) -> InstanceBuilder {
    InstanceBuilder::new(class)
        .set("PoolID", "")
        .set("ConsumerVisibility", 3_u16)
        .set("AllocationUnits", "count")
        .set("VirtualQuantity", 1_u64)
        .set("Reservation", 1_u64)
        .set("Limit", 1_u64)
        .set("Weight", 0_u32)
        .set("AutomaticAllocation", true)
        .set("AutomaticDeallocation", true)
}

impl Family for Devices {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        let owners = scope.view.systems().map(|system| system.id);
        let owners = owners.chain(scope.view.snapshots().map(|snapshot| snapshot.id));
        let devices = owners.flat_map(|owner| devices_of(&scope.view, owner));
        Box::new(devices.filter(|device| device.is_image() == self.images).map(Element::Device))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let Element::Device(device) = element else { return Ok(None) };
        let disks = disks_of(&scope.view, device.owner);
        let builder = InstanceBuilder::from_template(self.template.clone()).set("InstanceID", device.instance_id());
        let sibling = |part| Element::Device(Device { owner: device.owner, part }).path_text(scope);
        let builder = match device.part {
            Part::Controller => controller(builder, scope, device),
            Part::Drive(number) => {
                let Some(disk) = disks.get(number) else { return Ok(None) };
                drive(builder, disk)
                    .set("Parent", sibling(Part::Controller))
                    .set("AddressOnParent", format_smolstr!("{number}"))
            }
            Part::Image(number) => {
                let Some(disk) = disks.get(number) else { return Ok(None) };
                builder
                    .set("HostResource", CimValue::from([file_text(disk.file)]))
                    .set("Parent", sibling(Part::Drive(number)))
                    .set("Access", if disk.read_only { 1_u16 } else { 3_u16 })
            }
        };
        builder.build().map(Some)
    }
}

fn controller(builder: InstanceBuilder, scope: &Scope, device: Device) -> InstanceBuilder {
    let system = scope.view.snapshot(device.owner).map_or(device.owner, |snapshot| snapshot.system);
    builder
        .set("Caption", "SCSI Controller")
        .set("Description", "Settings for the Microsoft Synthetic SCSI Controller")
        .set("ElementName", "SCSI Controller")
        .set("ResourceType", 6_u16)
        .set("ResourceSubType", "Microsoft:Hyper-V:Synthetic SCSI Controller")
        .set("Address", "")
        .set("VirtualSystemIdentifiers", CimValue::from([format_smolstr!("{{{}}}", guid_text(system))]))
}

fn drive(builder: InstanceBuilder, disk: &Disk<'_>) -> InstanceBuilder {
    let builder = builder
        .set("Caption", "Hard Drive")
        .set("Description", "Settings for the Microsoft Synthetic Disk Drive")
        .set("ElementName", "Hard Drive")
        .set("ResourceType", 17_u16)
        .set("Address", "");
    if disk.pass_through {
        builder
            .set("ResourceSubType", "Microsoft:Hyper-V:Physical Disk Drive")
            .set("HostResource", CimValue::from([file_text(disk.file)]))
    } else {
        builder.set("ResourceSubType", "Microsoft:Hyper-V:Synthetic Disk Drive")
    }
}

fn file_text(file: &Path) -> SmolStr {
    SmolStr::new(file.to_string_lossy())
}

/// The family of one of the two device classes.
pub(super) fn family(shared: &Shared, class: &str) -> Result<Devices, CimError> {
    let declaration = shared.class(class)?;
    if class == super::element::STORAGE_DATA { Devices::images(declaration) } else { Devices::resources(declaration) }
}
