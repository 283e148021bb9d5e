//! Value maps of plain numbers as enums.

use super::generate::line;
use super::names::camel_case;
use crate::cim::{CimType, Schema, ValueMap};

/// Where a value map stands.
enum Place {
    Property(&'static str),
    Parameter(&'static str, &'static str),
    ReturnValue(&'static str),
}

const VIRTUALIZATION: &str = "root/virtualization/v2";
const STORAGE: &str = "root/Microsoft/Windows/Storage/SM";

/// The value maps the code decides by; the others are only read as text, from the schema.
const ENUMS: &[(&str, &str, &str, Place)] = &[
    (
        "CollectionSnapshotType",
        VIRTUALIZATION,
        "Msvm_CollectionSnapshotService",
        Place::Parameter("CreateSnapshot", "SnapshotType"),
    ),
    ("ConsistencyLevel", VIRTUALIZATION, "Msvm_VirtualSystemSnapshotSettingData", Place::Property("ConsistencyLevel")),
    ("ElementEffects", VIRTUALIZATION, "Msvm_AffectedJobElement", Place::Property("ElementEffects")),
    ("EnabledState", VIRTUALIZATION, "Msvm_ComputerSystem", Place::Property("EnabledState")),
    ("GuestBackupType", VIRTUALIZATION, "Msvm_VirtualSystemSnapshotSettingData", Place::Property("GuestBackupType")),
    ("HealthState", VIRTUALIZATION, "CIM_ManagedSystemElement", Place::Property("HealthState")),
    ("JobRequestedState", VIRTUALIZATION, "Msvm_ConcreteJob", Place::Parameter("RequestStateChange", "RequestedState")),
    ("JobState", VIRTUALIZATION, "CIM_ConcreteJob", Place::Property("JobState")),
    ("OperationalStatus", VIRTUALIZATION, "CIM_ManagedSystemElement", Place::Property("OperationalStatus")),
    ("RequestedState", VIRTUALIZATION, "Msvm_ComputerSystem", Place::Parameter("RequestStateChange", "RequestedState")),
    ("SmCopyType", STORAGE, "MSFT_SMStorageSynchronized", Place::Property("CopyType")),
    ("SmJobState", STORAGE, "MSFT_SMJob", Place::Property("JobState")),
    ("SmReturnCode", STORAGE, "MSFT_SMStorageVolume", Place::ReturnValue("CreateSnapshot")),
    ("SmSyncState", STORAGE, "MSFT_SMStorageSynchronized", Place::Property("SyncState")),
    ("UserSnapshotType", VIRTUALIZATION, "Msvm_VirtualSystemSettingData", Place::Property("UserSnapshotType")),
    (
        "VirtualSystemReturnCode",
        VIRTUALIZATION,
        "Msvm_VirtualSystemSnapshotService",
        Place::ReturnValue("DestroySnapshotTree"),
    ),
    (
        "VirtualSystemSnapshotType",
        VIRTUALIZATION,
        "Msvm_VirtualSystemSnapshotService",
        Place::Parameter("CreateSnapshot", "SnapshotType"),
    ),
];

/// Adds the enums; one whose value map is gone from the schema is left out, and the code that uses
/// it does not compile any more.
pub(super) fn enums(out: &mut String, schema: &Schema) {
    for (name, namespace, class, place) in ENUMS {
        let Some(class) = schema.namespace(namespace).and_then(|namespace| namespace.class(class)) else { continue };
        let found = match place {
            Place::Property(property) => {
                class.property(property).map(|p| (p.ty, p.value_map.as_ref(), format!("`{}.{property}`", class.name())))
            }
            Place::Parameter(method, parameter) => {
                class.method(method).and_then(|method| method.parameter(parameter)).map(|p| {
                    (p.ty, p.value_map.as_ref(), format!("parameter `{parameter}` of `{}.{method}`", class.name()))
                })
            }
            Place::ReturnValue(method) => class.method(method).map(|m| {
                (m.return_type, m.value_map.as_ref(), format!("the return value of `{}.{method}`", class.name()))
            }),
        };
        if let Some((ty, Some(value_map), what)) = found {
            value_map_enum(out, name, ty, value_map, &what);
        }
    }
}

fn value_map_enum(out: &mut String, name: &str, ty: CimType, value_map: &ValueMap, what: &str) {
    let number = ty.name().replace("uint", "u").replace("sint", "i");
    line(out, format_args!("\nvalue_map! {{\n    /// The values of {what}.\n    {name}: {number} {{"));
    let mut used: Vec<String> = Vec::new();
    for (entry, text) in value_map.entries.iter().filter(|(entry, _)| entry.parse::<i64>().is_ok()) {
        let mut variant = camel_case(text);
        // Both families of return codes name an `Invalid Parameter`; the number tells them apart.
        if used.contains(&variant) {
            variant.push_str(entry);
        }
        line(out, format_args!("        {variant} = {entry} {:?};", text.as_str()));
        used.push(variant);
    }
    out.push_str("    }\n}\n");
}
