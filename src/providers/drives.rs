//! `Msvm_DiskDrive`: the disks of the host that machines use as they are (`clients.md` part 5, "pass-through disk").

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::element::{COMPUTER_SYSTEM, Element, guid};
use super::family::{Elements, Family};
use super::scope::Scope;
use super::switches::guid_of;
use crate::cim::{CimError, CimInstance, ClassDeclaration, InstanceBuilder};
use crate::engine::View;
use crate::time::Guid;

/// Class of the drives.
pub(super) const DISK_DRIVE: &str = "Msvm_DiskDrive";

const PREFIX: &str = "Microsoft:";

/// A drive, known by the GUID that stands for the path of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostDrive(Guid);

impl HostDrive {
    /// The drive that a device is.
    pub(super) fn of_device(device: &Path) -> Self {
        Self(guid_of(&device.to_string_lossy()))
    }

    /// The key `DeviceID`.
    pub(super) fn device_id(self) -> SmolStr {
        format_smolstr!("{PREFIX}{}", self.0)
    }

    /// The drive with that key, if a machine uses it.
    pub(super) fn find(device_id: &str, view: &View) -> Option<Self> {
        let (prefix, rest) = device_id.split_at_checked(PREFIX.len())?;
        let drive = Self(guid(rest)?);
        (prefix.eq_ignore_ascii_case(PREFIX) && drive.device(view).is_some()).then_some(drive)
    }

    fn device(self, view: &View) -> Option<&Path> {
        devices(view).find(|device| Self::of_device(device) == self)
    }
}

/// The devices that machines use, as often as they are named.
fn devices(view: &View) -> impl Iterator<Item = &Path> {
    let disks = view.systems().flat_map(|system| &system.disks);
    disks.filter(|disk| disk.pass_through).map(|disk| disk.path.as_path())
}

/// Serves the drives.
pub(super) struct HostDrives {
    template: CimInstance,
}

impl HostDrives {
    pub(super) fn new(class: &Arc<ClassDeclaration>, host: &SmolStr) -> Result<Self, CimError> {
        let template = InstanceBuilder::new(class)
            .set("Caption", "Disk Drive")
            .set("CreationClassName", DISK_DRIVE)
            .set("Description", "Disk of the host")
            .set("EnabledState", 2_u16)
            .set("SystemCreationClassName", COMPUTER_SYSTEM)
            .set("SystemName", host.clone())
            .build()?;
        Ok(Self { template })
    }
}

impl Family for HostDrives {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        let found: BTreeSet<&Path> = devices(&scope.view).collect();
        Box::new(found.into_iter().map(|device| Element::HostDrive(HostDrive::of_device(device))))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let Element::HostDrive(drive) = element else { return Ok(None) };
        let Some(device) = drive.device(&scope.view) else { return Ok(None) };
        let name = SmolStr::new(device.to_string_lossy());
        let builder = InstanceBuilder::from_template(self.template.clone())
            .set("DeviceID", drive.device_id())
            .set("ElementName", name.clone())
            .set("Name", name);
        builder.build().map(Some)
    }
}
