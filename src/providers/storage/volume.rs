//! `MSFT_SMStorageVolume` of a volume.

use std::sync::Arc;

use crate::cim::{CimError, CimInstance, ClassDeclaration, InstanceBuilder};
use crate::engine::{Pool, Volume, VolumeUsage};

use super::object::Object;

/// Size of a block; a volume whose length is no multiple of it is counted in octets.
const BLOCK: u64 = 512;

/// What all volumes have in common: a volume is one file of a file system, without redundancy of its own.
pub(super) fn template(class: &Arc<ClassDeclaration>) -> Result<CimInstance, CimError> {
    InstanceBuilder::new(class)
        // 1: other, so that the words beside it count.
        .set("NameFormat", 1_u16)
        .set("OtherNameFormat", "GUID")
        .set("NameNamespace", 1_u16)
        .set("OtherNameNamespace", "GUID")
        .set("HealthStatus", 0_u16)
        .set("HealthStatusDescription", "Healthy")
        .set("OperationalStatus", [2_u16])
        .set("StatusDescription", "OK")
        .set("Primordial", false)
        .set("IdentifyingDescriptions", ["Path"])
        .set("NoSinglePointOfFailure", false)
        .set("ExtentStripeLength", 1_u16)
        .set("DataRedundancy", 1_u16)
        .set("PackageRedundancy", 0_u16)
        .build()
}

/// The instance of a volume. A volume whose pool has gone shows as unhealthy.
pub(super) fn instance(
    template: &CimInstance,
    volume: &Volume,
    pool: Option<&Pool>,
    host: &str,
) -> Result<CimInstance, CimError> {
    let id = Object::Volume(volume.id).id(host);
    let block = if volume.bytes.is_multiple_of(BLOCK) { BLOCK } else { 1 };
    let read_only = pool.is_some_and(|pool| pool.read_only);
    let mut builder = InstanceBuilder::from_template(template.clone())
        .set("ObjectId", id.clone())
        .set("Identifier", id.clone())
        .set("Name", id)
        .set("DisplayName", volume.name.clone())
        .set("OtherIdentifyingInfo", [volume.path.to_string_lossy().as_ref()])
        .set("BlockSize", block)
        .set("NumberOfBlocks", volume.bytes / block)
        .set("ConsumableBlocks", volume.bytes / block)
        .set("ThinlyProvisioned", volume.allocated_bytes < volume.bytes)
        .set("Access", if read_only { 1_u16 } else { 3 })
        .set("AccessDescription", if read_only { "Readable" } else { "Read/Write Supported" })
        .set("Usage", usage(volume.usage))
        .set("IsSnapshot", volume.usage == VolumeUsage::LocalReplica);
    if pool.is_none() {
        builder = builder
            .set("HealthStatus", 2_u16)
            .set("HealthStatusDescription", "Unhealthy")
            .set("OperationalStatus", [6_u16])
            .set("StatusDescription", "The pool of the volume is not there");
    }
    builder.build()
}

/// The value of `Usage` (`snapshot-semantics.md` §7): a snapshot is a local replica target.
const fn usage(usage: VolumeUsage) -> u16 {
    match usage {
        VolumeUsage::Ordinary => 2,
        VolumeUsage::LocalReplica => 8,
    }
}
