//! The classes with one instance: this host as a storage system, its service and their capabilities.

use std::sync::Arc;

use crate::cim::{CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder};
use crate::engine::View;

use super::object::{NAMESPACE, Object};

/// The words for the software itself.
const PRODUCT: &str = "wsnapd";

/// `MSFT_SMSystem`
pub(super) fn system(class: &Arc<ClassDeclaration>, host: &str) -> Result<CimInstance, CimError> {
    let id = Object::System.id(host);
    InstanceBuilder::new(class)
        .set("ObjectId", id.clone())
        .set("Identifier", id)
        .set("DisplayName", host)
        .set("Name", host)
        .set("NameFormat", "Other")
        .set("OtherIdentifyingInfo", [host])
        .set("IdentifyingDescriptions", ["Host name"])
        .set("ManagementServer", host)
        .set("HealthStatus", 0_u16)
        .set("HealthStatusDescription", "Healthy")
        .set("OperationalStatus", [2_u16])
        .set("StatusDescription", "OK")
        .set("Manufacturer", PRODUCT)
        .set("Model", "Directory pools")
        .set("FirmwareVersion", env!("CARGO_PKG_VERSION"))
        // 3: everything there is to know is known.
        .set("CacheLevel", 3_u16)
        .build()
}

/// `MSFT_SMProvider`
pub(super) fn provider(class: &Arc<ClassDeclaration>, host: &str) -> Result<CimInstance, CimError> {
    let id = Object::Provider.id(host);
    InstanceBuilder::new(class)
        .set("ObjectId", id.clone())
        .set("Identifier", id)
        .set("SystemName", host)
        .set("ProviderSystemID", Object::System.id(host))
        .set("ElementName", PRODUCT)
        .set("VersionString", env!("CARGO_PKG_VERSION"))
        .set("Manufacturer", PRODUCT)
        .set("InteropNamespace", "root/interop")
        .set("MultipleOperationsSupported", true)
        .set("Namespaces", [NAMESPACE])
        .set("CommunicationMechanisms", ["WS-Management"])
        .build()
}

/// `MSFT_SMSystemCapabilities` without what depends on the pools: local snapshots are all that can be made.
pub(super) fn capabilities(class: &Arc<ClassDeclaration>, host: &str) -> Result<CimInstance, CimError> {
    const NOT_OFFERED: [&str; 22] = [
        "ReplicationSupportedTypeMirrorLocal",
        "ReplicationSupportedTypeMirrorRemote",
        "ReplicationSupportedTypeSnapshotRemote",
        "ReplicationSupportedTypeCloneLocal",
        "ReplicationSupportedTypeCloneRemote",
        "StorageConfigSupportsPoolCreation",
        "StorageConfigSupportsPoolDeletion",
        "StorageConfigSupportsPoolModification",
        "StorageConfigSupportsPoolCapacityExpansion",
        "StorageConfigSupportsStorageVolumeCreation",
        "StorageConfigSupportsStorageVolumeDeletion",
        "StorageConfigSupportsStorageVolumeModification",
        "StorageConfigSupportsStorageVolumeCapacityExpansion",
        "StorageConfigSupportsStorageVolumeCapacityReduction",
        "StorageConfigSupportsThinProvisionedPools",
        "MaskingClientSelectableDeviceNumbers",
        "MaskingExposeStorageVolumesToHostsSupported",
        "MaskingHideStorageVolumesFromHostsSupported",
        "SupportsFileSystemCreation",
        "SupportsFileServer",
        "SupportsFileServerCreation",
        "SupportsContinuouslyAvailableFileServer",
    ];
    let id = Object::Capabilities.id(host);
    let builder = InstanceBuilder::new(class).set("ObjectId", id.clone()).set("Identifier", id);
    NOT_OFFERED
        .iter()
        .fold(builder, |builder, name| builder.set(name, false))
        // Volumes are not exported to hosts, whatever the default of the class says.
        .set("SupportedHostTypes", CimValue::Null)
        .build()
}

/// What depends on the pools.
pub(super) fn capabilities_now(template: &CimInstance, view: &View) -> Result<CimInstance, CimError> {
    let snapshots = view.pools().any(|pool| pool.instant_clone || pool.copy);
    InstanceBuilder::from_template(template.clone()).set("ReplicationSupportedTypeSnapshotLocal", snapshots).build()
}

/// `MSFT_SMReplicationCapabilities` without what depends on the pools.
pub(super) fn replication_capabilities(class: &Arc<ClassDeclaration>, host: &str) -> Result<CimInstance, CimError> {
    let id = Object::ReplicationCapabilities.id(host);
    InstanceBuilder::new(class)
        .set("ObjectId", id.clone())
        .set("Identifier", id)
        .set("SupportsReplicationGroup", false)
        .set("SupportsEmptyReplicationGroup", false)
        .set("SupportsFullDiscovery", false)
        .set("SupportsCreateReplicationRelationshipMethod", false)
        .build()
}

/// What depends on the pools: a snapshot by reflink is there on return, one by copy is a job.
pub(super) fn replication_capabilities_now(template: &CimInstance, view: &View) -> Result<CimInstance, CimError> {
    /// Storage volume, local snapshot, and the action `CreateElementReplica` in the value maps of the class.
    const VOLUME: u16 = 2;
    const SNAPSHOT_LOCAL: u16 = 6;
    const CREATE_REPLICA: u16 = 2;
    let instant = view.pools().any(|pool| pool.instant_clone);
    let copy = view.pools().any(|pool| pool.copy);
    let when = |possible: bool, number: u16| if possible { vec![number] } else { Vec::new() };
    InstanceBuilder::from_template(template.clone())
        .set("SupportedStorageObjects", when(instant || copy, VOLUME))
        .set("SupportedReplicationTypes", when(instant || copy, SNAPSHOT_LOCAL))
        .set("SupportedSynchronousActions", when(instant, CREATE_REPLICA))
        .set("SupportedAsynchronousActions", when(copy, CREATE_REPLICA))
        .build()
}
