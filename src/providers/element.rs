//! Elements: the domain side of object paths.

use smol_str::{SmolStr, SmolStrBuilder, format_smolstr};

use super::definitions::{ALLOCATION_CAPABILITIES, Definition, Resource};
use super::devices::{DEVICE_CLASSES, Device};
use super::drives::{DISK_DRIVE, HostDrive};
use super::host::{HOST_CLASSES, HostRecord};
use super::records::{Capability, Profile, Service};
use super::scope::Scope;
use super::shutdown::{self, SHUTDOWN};
use super::switches::{SWITCH, Switch};
use crate::cim::{ClassName, ObjectPath, namespace_eq};
use crate::engine::{CollectionKind, ReferencePoint, ReferencePointCollection};
use crate::time::Guid;

/// Something a reference can name. It carries an identity only; the record is in the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// The hosting computer system.
    Host,
    /// A virtual machine.
    System(Guid),
    /// The active settings of a virtual machine.
    Settings(Guid),
    /// The settings record of a snapshot.
    Snapshot(Guid),
    /// A device record of a machine or snapshot.
    Device(Device),
    /// A settings record that states what definitions may state.
    Definition(Definition),
    /// Which amounts of a resource can be stated.
    Allocation(Resource),
    /// What asks the guest of a virtual machine to shut down.
    Shutdown(Guid),
    /// A switch of the host.
    Switch(Switch),
    /// A disk of the host that a machine uses as it is.
    HostDrive(HostDrive),
    /// A record of the host in `root/cimv2`.
    HostRecord(HostRecord),
    /// A job.
    Job(Guid),
    /// A collection of machines.
    SystemCollection(Guid),
    /// A collection of collections.
    ManagementCollection(Guid),
    /// A snapshot collection.
    SnapshotCollection(Guid),
    /// A reference point and its machine: both are keys.
    ReferencePoint { point: Guid, system: Guid },
    /// A reference point collection and the collection it is of: both are keys.
    ReferencePointCollection { set: Guid, collection: Guid },
    /// The export settings of a virtual machine.
    ExportSettings(Guid),
    /// What was reached when a snapshot was taken.
    SnapshotOutcome(Guid),
    /// A service of the host.
    Service(Service),
    /// What something supports.
    Capability(Capability),
    /// A registered profile.
    Profile(Profile),
    /// The cluster as a set of nodes.
    RedundancySet,
}

/// Class of machines and of the host.
pub(super) const COMPUTER_SYSTEM: &str = "Msvm_ComputerSystem";
/// Class of the settings records of machines and snapshots.
pub(super) const SETTING_DATA: &str = "Msvm_VirtualSystemSettingData";
/// Class of jobs.
pub(super) const JOB: &str = "Msvm_ConcreteJob";
/// Class of disk images.
pub(super) const STORAGE_DATA: &str = "Msvm_StorageAllocationSettingData";
/// Class of all other device records.
pub(super) const RESOURCE_DATA: &str = "Msvm_ResourceAllocationSettingData";
/// Class of collections of machines.
pub(super) const SYSTEM_COLLECTION: &str = "Msvm_VirtualSystemCollection";
/// Class of collections of collections.
pub(super) const MANAGEMENT_COLLECTION: &str = "Msvm_ManagementCollection";
/// Class of snapshot collections.
pub(super) const SNAPSHOT_COLLECTION: &str = "Msvm_SnapshotCollection";
/// Class of reference points.
pub(super) const REFERENCE_POINT: &str = "Msvm_VirtualSystemReferencePoint";
/// Class of reference point collections.
pub(super) const REFERENCE_POINT_COLLECTION: &str = "Msvm_ReferencePointCollection";
/// Class of the export settings of machines.
pub(super) const EXPORT_SETTINGS: &str = "Msvm_VirtualSystemExportSettingData";
/// Class of what was reached when a snapshot was taken.
pub(super) const SNAPSHOT_OUTCOME: &str = "Wsnapd_SnapshotOutcome";
/// Class of registered profiles.
pub(super) const PROFILE: &str = "Msvm_RegisteredProfile";
/// Class of the cluster as a set of nodes.
pub(super) const REDUNDANCY_SET: &str = "Msvm_RedundancySet";

/// What stands before the GUID in the InstanceID of settings records.
const MICROSOFT: &str = "Microsoft:";

impl Element {
    /// The class of the instance.
    pub(super) const fn class_name(self) -> &'static str {
        match self {
            Self::Host | Self::System(_) => COMPUTER_SYSTEM,
            Self::Settings(_) | Self::Snapshot(_) => SETTING_DATA,
            Self::Device(device) => device.class_name(),
            Self::Definition(definition) => definition.class_name(),
            Self::Allocation(_) => ALLOCATION_CAPABILITIES,
            Self::Shutdown(_) => SHUTDOWN,
            Self::Switch(_) => SWITCH,
            Self::HostDrive(_) => DISK_DRIVE,
            Self::HostRecord(record) => record.class_name(),
            Self::Job(_) => JOB,
            Self::SystemCollection(_) => SYSTEM_COLLECTION,
            Self::ManagementCollection(_) => MANAGEMENT_COLLECTION,
            Self::SnapshotCollection(_) => SNAPSHOT_COLLECTION,
            Self::ReferencePoint { .. } => REFERENCE_POINT,
            Self::ReferencePointCollection { .. } => REFERENCE_POINT_COLLECTION,
            Self::ExportSettings(_) => EXPORT_SETTINGS,
            Self::SnapshotOutcome(_) => SNAPSHOT_OUTCOME,
            Self::Service(service) => service.class_name(),
            Self::Capability(capability) => capability.class_name(),
            Self::Profile(_) => PROFILE,
            Self::RedundancySet => REDUNDANCY_SET,
        }
    }

    /// The reference to the element in the namespace of the request.
    pub(super) fn path(self, scope: &Scope) -> ObjectPath {
        self.path_in(scope, &scope.namespace)
    }

    /// The reference to the element in another namespace.
    pub(super) fn path_in(self, scope: &Scope, namespace: &str) -> ObjectPath {
        let path = ObjectPath::new(namespace, ClassName::from_static(self.class_name()));
        match self {
            Self::Host => path
                .with_key("CreationClassName", SmolStr::new_static(COMPUTER_SYSTEM))
                .with_key("Name", scope.host().clone()),
            Self::System(id) => {
                path.with_key("CreationClassName", SmolStr::new_static(COMPUTER_SYSTEM)).with_key("Name", guid_text(id))
            }
            Self::Settings(id) | Self::Snapshot(id) | Self::SnapshotOutcome(id) => {
                path.with_key("InstanceID", settings_id(id))
            }
            Self::Device(device) => path.with_key("InstanceID", device.instance_id()),
            Self::Definition(definition) => path.with_key("InstanceID", definition.instance_id()),
            Self::Allocation(resource) => path.with_key("InstanceID", resource.instance_id()),
            Self::Shutdown(id) => path
                .with_key("CreationClassName", SmolStr::new_static(SHUTDOWN))
                .with_key("DeviceID", shutdown::device_id(id))
                .with_key("SystemCreationClassName", SmolStr::new_static(COMPUTER_SYSTEM))
                .with_key("SystemName", guid_text(id)),
            Self::Switch(switch) => {
                path.with_key("CreationClassName", SmolStr::new_static(SWITCH)).with_key("Name", guid_text(switch.0))
            }
            Self::HostDrive(drive) => path
                .with_key("CreationClassName", SmolStr::new_static(DISK_DRIVE))
                .with_key("DeviceID", drive.device_id())
                .with_key("SystemCreationClassName", SmolStr::new_static(COMPUTER_SYSTEM))
                .with_key("SystemName", scope.host().clone()),
            Self::HostRecord(record) => record.with_keys(path, &scope.shared.options),
            Self::Job(id) => path.with_key("InstanceID", guid_text(id)),
            Self::SystemCollection(id) | Self::ManagementCollection(id) | Self::SnapshotCollection(id) => {
                path.with_key("CollectionID", guid_text(id))
            }
            Self::ReferencePoint { point, system } => {
                path.with_key("InstanceID", settings_id(point)).with_key("VirtualSystemIdentifier", guid_text(system))
            }
            Self::ReferencePointCollection { set, collection } => path
                .with_key("CollectionID", guid_text(set))
                .with_key("VirtualSystemCollectionId", guid_text(collection)),
            Self::ExportSettings(id) => path.with_key("InstanceID", export_settings_id(id)),
            Self::Service(service) => path
                .with_key("CreationClassName", SmolStr::new_static(service.class_name()))
                .with_key("Name", SmolStr::new_static(service.name()))
                .with_key("SystemCreationClassName", SmolStr::new_static(COMPUTER_SYSTEM))
                .with_key("SystemName", scope.host().clone()),
            Self::Capability(capability) => path.with_key("InstanceID", SmolStr::new_static(capability.instance_id())),
            Self::Profile(profile) => path.with_key("InstanceID", SmolStr::new_static(profile.instance_id())),
            Self::RedundancySet => path.with_key("InstanceID", redundancy_set_id(scope)),
        }
    }

    /// The object path as text with the host in front, as string properties such as `Parent` hold it.
    pub(super) fn path_text(self, scope: &Scope) -> SmolStr {
        self.path(scope).to_wmi_text(scope.host()).into()
    }

    /// The element of `class` that the keys of `path` name, if it exists. The class written in the path is not
    /// looked at; keys that do not identify may be left out, but must be right when they are there.
    pub(super) fn find(class: &str, path: &ObjectPath, scope: &Scope) -> Option<Self> {
        if class.eq_ignore_ascii_case(COMPUTER_SYSTEM) {
            return find_system(path, scope);
        }
        if class.eq_ignore_ascii_case(SETTING_DATA) {
            let id = settings_guid(only_key(path, "InstanceID")?)?;
            return match scope.view.snapshot(id) {
                Some(_) => Some(Self::Snapshot(id)),
                None => scope.view.system(id).map(|_| Self::Settings(id)),
            };
        }
        if class.eq_ignore_ascii_case(JOB) {
            let id = guid(only_key(path, "InstanceID")?)?;
            return scope.view.job(id).filter(|job| super::job::is_virtualization_job(job)).map(|_| Self::Job(id));
        }
        if let Some(element) = find_device(class, path, scope) {
            return Some(element);
        }
        if let Some(element) = find_collection(class, path, scope) {
            return Some(element);
        }
        if let Some(element) = find_tracking(class, path, scope) {
            return Some(element);
        }
        if let Some(service) = Service::of_class(class) {
            return is_service(service, path, scope).then_some(Self::Service(service));
        }
        if class.eq_ignore_ascii_case(PROFILE) {
            return Profile::of_id(only_key(path, "InstanceID")?).map(Self::Profile);
        }
        if class.eq_ignore_ascii_case(REDUNDANCY_SET) {
            let known = redundancy_set_id(scope).eq_ignore_ascii_case(only_key(path, "InstanceID")?);
            return known.then_some(Self::RedundancySet);
        }
        let capability = Capability::of_class(class)?;
        let known = capability.instance_id().eq_ignore_ascii_case(only_key(path, "InstanceID")?);
        known.then_some(Self::Capability(capability))
    }
}

fn find_system(path: &ObjectPath, scope: &Scope) -> Option<Element> {
    let mut name = None;
    for (key, value) in path.keys() {
        let value = value.as_text()?;
        if *key == "Name" {
            name = Some(value);
        } else if *key != "CreationClassName" || !value.eq_ignore_ascii_case(COMPUTER_SYSTEM) {
            return None;
        }
    }
    let name = name?;
    match guid(name) {
        Some(id) if scope.view.system(id).is_some() => Some(Element::System(id)),
        _ => scope.host().eq_ignore_ascii_case(name).then_some(Element::Host),
    }
}

/// A device record, a device, or a record of the host.
fn find_device(class: &str, path: &ObjectPath, scope: &Scope) -> Option<Element> {
    let is_one_of = |classes: &[&str]| classes.iter().any(|known| known.eq_ignore_ascii_case(class));
    if is_one_of(&DEVICE_CLASSES) {
        let id = only_key(path, "InstanceID")?;
        let found = Definition::find(id).map(Element::Definition);
        let found = found.or_else(|| Device::find(id, &scope.view).map(Element::Device))?;
        return found.class_name().eq_ignore_ascii_case(class).then_some(found);
    }
    if is_one_of(&HOST_CLASSES) {
        return HostRecord::find(class, path, &scope.shared.options).map(Element::HostRecord);
    }
    if class.eq_ignore_ascii_case(ALLOCATION_CAPABILITIES) {
        return Resource::find(only_key(path, "InstanceID")?).map(Element::Allocation);
    }
    let found = if class.eq_ignore_ascii_case(SHUTDOWN) {
        shutdown::component_of(scope, guid(key_of(path, "SystemName")?)?)
    } else if class.eq_ignore_ascii_case(SWITCH) {
        Switch::find(guid(key_of(path, "Name")?)?, &scope.view).map(Element::Switch)
    } else if class.eq_ignore_ascii_case(DISK_DRIVE) {
        HostDrive::find(key_of(path, "DeviceID")?, &scope.view).map(Element::HostDrive)
    } else {
        None
    };
    // The other keys must be right as well.
    found.filter(|element| element.path(scope).keys() == path.keys())
}

fn find_collection(class: &str, path: &ObjectPath, scope: &Scope) -> Option<Element> {
    if class.eq_ignore_ascii_case(SNAPSHOT_COLLECTION) {
        let id = guid(only_key(path, "CollectionID")?)?;
        return scope.view.snapshot_collection(id).map(|_| Element::SnapshotCollection(id));
    }
    let kind = if class.eq_ignore_ascii_case(SYSTEM_COLLECTION) {
        CollectionKind::Machines
    } else if class.eq_ignore_ascii_case(MANAGEMENT_COLLECTION) {
        CollectionKind::Collections
    } else {
        return None;
    };
    let id = guid(only_key(path, "CollectionID")?)?;
    let collection = scope.view.collection(id).filter(|collection| collection.kind == kind)?;
    Some(collection_element(collection.id, kind))
}

/// A reference point, a collection of them, the export settings of a machine, or what a snapshot reached.
fn find_tracking(class: &str, path: &ObjectPath, scope: &Scope) -> Option<Element> {
    if class.eq_ignore_ascii_case(REFERENCE_POINT) {
        let point = scope.view.reference_point(settings_guid(key_of(path, "InstanceID")?)?)?;
        return with_right_keys(path, "InstanceID", "VirtualSystemIdentifier", point.system)
            .then(|| point_element(point));
    }
    if class.eq_ignore_ascii_case(REFERENCE_POINT_COLLECTION) {
        let set = scope.view.reference_point_collection(guid(key_of(path, "CollectionID")?)?)?;
        return with_right_keys(path, "CollectionID", "VirtualSystemCollectionId", set.collection)
            .then(|| points_element(set));
    }
    if class.eq_ignore_ascii_case(SNAPSHOT_OUTCOME) {
        let id = settings_guid(only_key(path, "InstanceID")?)?;
        return scope.view.snapshot(id).map(|_| Element::SnapshotOutcome(id));
    }
    if class.eq_ignore_ascii_case(EXPORT_SETTINGS) {
        let id = after_prefix(only_key(path, "InstanceID")?)?.strip_suffix(EXPORT_SUFFIX).and_then(guid)?;
        return scope.view.system(id).map(|_| Element::ExportSettings(id));
    }
    None
}

fn key_of<'p>(path: &'p ObjectPath, name: &str) -> Option<&'p str> {
    path.keys().iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.as_text())
}

/// Whether a path has no other keys than these two, and the second, if it is there, names `owner`.
fn with_right_keys(path: &ObjectPath, first: &str, second: &str, owner: Guid) -> bool {
    path.keys()
        .iter()
        .all(|(key, value)| *key == first || (*key == second && value.as_text().and_then(guid) == Some(owner)))
}

/// The element of a reference point.
pub(super) fn point_element(point: &ReferencePoint) -> Element {
    Element::ReferencePoint { point: point.id, system: point.system }
}

/// The element of a reference point collection.
pub(super) fn points_element(set: &ReferencePointCollection) -> Element {
    Element::ReferencePointCollection { set: set.id, collection: set.collection }
}

/// The element of a collection of that kind.
pub(super) const fn collection_element(id: Guid, kind: CollectionKind) -> Element {
    match kind {
        CollectionKind::Machines => Element::SystemCollection(id),
        CollectionKind::Collections => Element::ManagementCollection(id),
    }
}

fn is_service(service: Service, path: &ObjectPath, scope: &Scope) -> bool {
    !path.keys().is_empty()
        && path.keys().iter().all(|(key, value)| {
            let expected = match key.as_str() {
                name if name.eq_ignore_ascii_case("CreationClassName") => service.class_name(),
                name if name.eq_ignore_ascii_case("Name") => service.name(),
                name if name.eq_ignore_ascii_case("SystemCreationClassName") => COMPUTER_SYSTEM,
                name if name.eq_ignore_ascii_case("SystemName") => scope.host().as_str(),
                _ => return false,
            };
            value.as_text().is_some_and(|value| value.eq_ignore_ascii_case(expected))
        })
}

/// The text of the only key of a path, if it has that name.
fn only_key<'p>(path: &'p ObjectPath, name: &str) -> Option<&'p str> {
    match path.keys() {
        [(key, value)] if *key == name => value.as_text(),
        _ => None,
    }
}

/// A GUID as keys spell it: 36 characters, in any case. Braces would make a second name for the same thing.
pub(super) fn guid(text: &str) -> Option<Guid> {
    (text.len() == 36).then(|| text.parse().ok())?
}

/// The GUID in upper case.
pub(super) fn guid_text(id: Guid) -> SmolStr {
    SmolStr::new(id.encode(&mut [0; 36]))
}

/// The InstanceID of a settings record (`snapshot-semantics` §1).
pub(super) fn settings_id(id: Guid) -> SmolStr {
    let mut text = SmolStrBuilder::new();
    text.push_str(MICROSOFT);
    text.push_str(id.encode(&mut [0; 36]));
    text.finish()
}

/// What stands behind the GUID in the InstanceID of export settings.
const EXPORT_SUFFIX: &str = "\\Export";

/// The InstanceID of the export settings of a machine.
pub(super) fn export_settings_id(id: Guid) -> SmolStr {
    format_smolstr!("{MICROSOFT}{id}{EXPORT_SUFFIX}")
}

/// Reads the InstanceID of a settings record.
pub(super) fn settings_guid(text: &str) -> Option<Guid> {
    guid(after_prefix(text)?)
}

/// What follows `Microsoft:`, in any case.
pub(super) fn after_prefix(text: &str) -> Option<&str> {
    let (prefix, rest) = text.split_at_checked(MICROSOFT.len())?;
    prefix.eq_ignore_ascii_case(MICROSOFT).then_some(rest)
}

fn redundancy_set_id(scope: &Scope) -> SmolStr {
    format_smolstr!("{MICROSOFT}{}", scope.host())
}

/// Whether a reference points into the namespace of the request on this host.
pub(super) fn is_local(path: &ObjectPath, scope: &Scope) -> bool {
    path.namespace().is_none_or(|namespace| namespace_eq(namespace, &scope.namespace))
        && path.host().is_none_or(|host| scope.is_this_host(host))
}
