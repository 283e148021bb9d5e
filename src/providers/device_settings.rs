//! The instances of the device records (`clients.md` part 5, "properties it insists on").

use std::path::Path;
use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::definitions::Definition;
use super::devices::{
    CARD_DATA, CONNECTION_DATA, Device, Disk, Hardware, MEMORY_DATA, PROCESSOR_DATA, Part, SERIAL_DATA, devices_of,
};
use super::drives::HostDrive;
use super::element::{Element, STORAGE_DATA, guid_text};
use super::family::{Elements, Family};
use super::scope::Scope;
use super::switches::Switch;
use crate::backend::{MacAddress, NetworkDefinition, SerialPort};
use crate::cim::{CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder};

/// Serves the device records of one class.
pub(super) struct DeviceSettings {
    class: &'static str,
    template: CimInstance,
}

impl DeviceSettings {
    /// The records of a class, with what is the same in all of them.
    pub(super) fn new(class: &'static str, declaration: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let common = InstanceBuilder::new(declaration)
            .set("PoolID", "")
            .set("ConsumerVisibility", 3_u16)
            .set("AutomaticAllocation", true)
            .set("AutomaticDeallocation", true);
        let builder = match class {
            PROCESSOR_DATA => processor_template(common),
            MEMORY_DATA => memory_template(common),
            _ => counted(common, class),
        };
        Ok(Self { class, template: builder.build()? })
    }
}

/// A machine has as many processors as it has, with all they can do.
fn processor_template(builder: InstanceBuilder) -> InstanceBuilder {
    builder
        .set("Caption", "Processor")
        .set("Description", "Settings for the virtual processors")
        .set("ElementName", "Processor")
        .set("ResourceType", 3_u16)
        .set("ResourceSubType", "Microsoft:Hyper-V:Processor")
        .set("AllocationUnits", "percent / 1000")
        .set("Reservation", 0_u64)
        .set("Limit", 100_000_u64)
        .set("Weight", 100_u32)
        .set("LimitProcessorFeatures", false)
}

fn memory_template(builder: InstanceBuilder) -> InstanceBuilder {
    builder
        .set("Caption", "Memory")
        .set("Description", "Settings for the memory")
        .set("ElementName", "Memory")
        .set("ResourceType", 4_u16)
        .set("ResourceSubType", "Microsoft:Hyper-V:Memory")
        .set("AllocationUnits", "byte * 2^20")
        .set("VirtualQuantityUnits", "byte * 2^20")
        .set("DynamicMemoryEnabled", false)
}

/// Devices that are there once each.
fn counted(builder: InstanceBuilder, class: &str) -> InstanceBuilder {
    let builder = builder
        .set("AllocationUnits", "count")
        .set("VirtualQuantity", 1_u64)
        .set("Reservation", 1_u64)
        .set("Limit", 1_u64)
        .set("Weight", 0_u32);
    match class {
        STORAGE_DATA => builder
            .set("Caption", "Hard Disk Image")
            .set("Description", "Settings for the Microsoft Hard Disk Image")
            .set("ElementName", "Hard Disk Image")
            .set("ResourceType", 31_u16)
            .set("ResourceSubType", "Microsoft:Hyper-V:Virtual Hard Disk")
            .set("Address", "")
            .set("PersistentReservationsSupported", false)
            .set("IgnoreFlushes", false)
            .set("SnapshotId", ""),
        CARD_DATA => builder
            .set("Caption", "Network Adapter")
            .set("Description", "Settings for the network adapter")
            .set("ResourceType", 10_u16)
            .set("ResourceSubType", "Microsoft:Hyper-V:Synthetic Ethernet Port")
            .set("StaticMacAddress", true)
            .set("ClusterMonitored", false),
        CONNECTION_DATA => builder
            .set("Caption", "Ethernet Connection")
            .set("Description", "Settings for the connection of a network adapter")
            .set("ElementName", "Ethernet Connection")
            .set("ResourceType", 33_u16)
            .set("ResourceSubType", "Microsoft:Hyper-V:Ethernet Connection")
            .set("Address", ""),
        SERIAL_DATA => builder
            .set("Caption", "Serial Port")
            .set("Description", "Settings for the serial port")
            .set("ResourceType", 21_u16)
            .set("ResourceSubType", "Microsoft:Hyper-V:Serial Port")
            .set("Address", ""),
        _ => builder,
    }
}

impl Family for DeviceSettings {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        let owners = scope.view.systems().map(|system| system.id);
        let owners = owners.chain(scope.view.snapshots().map(|snapshot| snapshot.id));
        let devices = owners.flat_map(|owner| devices_of(&scope.view, owner));
        let devices = devices.filter(|device| device.class_name() == self.class).map(Element::Device);
        Box::new(devices.chain(Definition::of_class(self.class).map(Element::Definition)))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let device = match element {
            Element::Device(device) => device,
            Element::Definition(definition) => {
                return definition.fill(InstanceBuilder::from_template(self.template.clone())).build().map(Some);
            }
            _ => return Ok(None),
        };
        let Some(hardware) = Hardware::of(&scope.view, device.owner) else { return Ok(None) };
        let builder = InstanceBuilder::from_template(self.template.clone()).set("InstanceID", device.instance_id());
        let builder = filled(builder, scope, device, &hardware);
        builder.map(InstanceBuilder::build).transpose()
    }
}

/// A record with what is its own; `None` for a device that the hardware does not have.
fn filled(builder: InstanceBuilder, scope: &Scope, device: Device, hardware: &Hardware<'_>) -> Option<InstanceBuilder> {
    let parent = |part| device.sibling(part).path_text(scope);
    Some(match device.part {
        Part::Controller => of_machine(controller(builder), hardware),
        Part::Drive(number) => drive(builder, scope, hardware.disks.get(number)?)
            .set("Parent", parent(Part::Controller))
            .set("AddressOnParent", format_smolstr!("{number}")),
        Part::Image(number) => {
            let disk = hardware.disks.get(number)?;
            builder
                .set("HostResource", CimValue::from([file_text(disk.file)]))
                .set("Parent", parent(Part::Drive(number)))
                .set("Access", if disk.read_only { 1_u16 } else { 3_u16 })
        }
        Part::Processor => builder.set("VirtualQuantity", u64::from(hardware.processors)),
        Part::Memory => builder
            .set("VirtualQuantity", hardware.memory_mb)
            .set("Reservation", hardware.memory_mb)
            .set("Limit", hardware.memory_mb),
        Part::Card(number) => {
            let card = hardware.ports.networks.get(number)?;
            let builder = builder.set("ElementName", card.name.as_str()).set("Address", address_text(card.mac));
            of_machine(builder, hardware)
        }
        Part::Connection(number) => {
            connection(builder, scope, hardware.ports.networks.get(number)?).set("Parent", parent(Part::Card(number)))
        }
        Part::Serial(number) => serial_port(builder, number, hardware.ports.serial.get(number)?),
    })
}

/// Some records name the machine they belong to.
fn of_machine(builder: InstanceBuilder, hardware: &Hardware<'_>) -> InstanceBuilder {
    builder.set("VirtualSystemIdentifiers", CimValue::from([format_smolstr!("{{{}}}", guid_text(hardware.system))]))
}

fn controller(builder: InstanceBuilder) -> InstanceBuilder {
    builder
        .set("Caption", "SCSI Controller")
        .set("Description", "Settings for the Microsoft Synthetic SCSI Controller")
        .set("ElementName", "SCSI Controller")
        .set("ResourceType", 6_u16)
        .set("ResourceSubType", "Microsoft:Hyper-V:Synthetic SCSI Controller")
        .set("Address", "")
}

fn drive(builder: InstanceBuilder, scope: &Scope, disk: &Disk<'_>) -> InstanceBuilder {
    let builder = builder
        .set("Caption", "Hard Drive")
        .set("Description", "Settings for the Microsoft Synthetic Disk Drive")
        .set("ElementName", "Hard Drive")
        .set("ResourceType", 17_u16)
        .set("Address", "");
    if disk.pass_through {
        builder
            .set("ResourceSubType", "Microsoft:Hyper-V:Physical Disk Drive")
            .set("HostResource", CimValue::from([Element::HostDrive(HostDrive::of_device(disk.file)).path_text(scope)]))
    } else {
        builder.set("ResourceSubType", "Microsoft:Hyper-V:Synthetic Disk Drive")
    }
}

fn connection(builder: InstanceBuilder, scope: &Scope, card: &NetworkDefinition) -> InstanceBuilder {
    match &card.bridge {
        Some(bridge) => builder
            .set("EnabledState", 2_u16)
            .set("HostResource", CimValue::from([Element::Switch(Switch::named(bridge)).path_text(scope)]))
            .set("LastKnownSwitchName", bridge.as_str()),
        None => builder.set("EnabledState", 3_u16),
    }
}

/// libvirt's driver reads the first member of `Connection` without asking whether there is one, so there always is.
fn serial_port(builder: InstanceBuilder, number: usize, port: &SerialPort) -> InstanceBuilder {
    let file = port.file.as_deref().map(file_text).unwrap_or_default();
    builder
        .set("ElementName", format_smolstr!("COM {}", number.saturating_add(1)))
        .set("Connection", CimValue::from([file]))
}

/// An address as Hyper-V writes it: twelve digits in upper case.
fn address_text(address: MacAddress) -> String {
    address.to_string().replace(':', "").to_ascii_uppercase()
}

fn file_text(file: &Path) -> SmolStr {
    SmolStr::new(file.to_string_lossy())
}
