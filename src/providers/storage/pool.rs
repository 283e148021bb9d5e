//! `MSFT_SMPool` of a pool.

use std::sync::Arc;

use crate::cim::{CimError, CimInstance, ClassDeclaration, InstanceBuilder};
use crate::engine::Pool;

use super::object::Object;

/// What all pools have in common: a directory for volumes that are made elsewhere.
pub(super) fn template(class: &Arc<ClassDeclaration>) -> Result<CimInstance, CimError> {
    InstanceBuilder::new(class)
        .set("Primordial", false)
        .set("NoSinglePointOfFailure", false)
        .set("NoSinglePointOfFailureDefault", false)
        .set("DataRedundancyMin", 1_u16)
        .set("DataRedundancyMax", 1_u16)
        .set("DataRedundancyDefault", 1_u16)
        .set("PackageRedundancyMin", 0_u16)
        .set("PackageRedundancyMax", 0_u16)
        .set("PackageRedundancyDefault", 0_u16)
        .set("ExtentStripeLengthDefault", 1_u16)
        .set("Usage", 2_u16)
        .set("UsageDescription", "Unrestricted")
        .set("SupportsStorageVolumeCreation", false)
        .set("SupportsThinlyProvisionedStorageVolume", false)
        .set("HealthStatus", 0_u16)
        .set("HealthStatusDescription", "Healthy")
        .set("OperationalStatus", [2_u16])
        .set("StatusDescriptions", ["OK"])
        .build()
}

/// The instance of a pool.
pub(super) fn instance(template: &CimInstance, pool: &Pool, host: &str) -> Result<CimInstance, CimError> {
    let id = Object::Pool(pool.id).id(host);
    InstanceBuilder::from_template(template.clone())
        .set("ObjectId", id.clone())
        .set("Identifier", id)
        .set("DisplayName", pool.name.clone())
        .set("Name", pool.name.clone())
        .set("PoolID", pool.name.clone())
        .set("TotalManagedSpace", pool.total_bytes)
        .set("RemainingManagedSpace", pool.free_bytes)
        .build()
}
