//! The services of the host as instances, and what they and the machines support.

use std::sync::Arc;

use smol_str::SmolStr;

use super::element::{COMPUTER_SYSTEM, Element};
use super::family::{Elements, Family};
use super::records::{Capability, Profile, Service};
use super::scope::{Scope, Shared};
use crate::cim::{CimError, CimInstance, ClassDeclaration, InstanceBuilder};

/// Serves elements of which there is one fixed record each.
pub(super) struct FixedRecords {
    records: Vec<(Element, CimInstance)>,
}

impl Family for FixedRecords {
    fn elements<'s>(&'s self, _: &'s Scope) -> Elements<'s> {
        Box::new(self.records.iter().map(|(element, _)| *element))
    }

    fn instance(&self, _: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        Ok(self.records.iter().find(|(known, _)| *known == element).map(|(_, record)| record.clone()))
    }
}

/// The one instance of a service class.
pub(super) fn service(
    class: &Arc<ClassDeclaration>,
    service: Service,
    host: &SmolStr,
) -> Result<FixedRecords, CimError> {
    let record = InstanceBuilder::new(class)
        .set("Caption", service.caption())
        .set("CreationClassName", service.class_name())
        .set("Description", service.description())
        .set("ElementName", service.caption())
        .set("EnabledDefault", 2_u16)
        .set("EnabledState", 2_u16)
        .set("HealthState", 5_u16)
        .set("Name", service.name())
        .set("OperationalStatus", [2_u16])
        .set("RequestedState", 12_u16)
        .set("Started", true)
        .set("StartMode", "Automatic")
        .set("Status", "OK")
        .set("StatusDescriptions", ["The service is running normally"])
        .set("SystemCreationClassName", COMPUTER_SYSTEM)
        .set("SystemName", host.clone())
        .set("TransitioningToState", 12_u16)
        .build()?;
    Ok(FixedRecords { records: vec![(Element::Service(service), record)] })
}

/// The one instance of a capabilities class.
pub(super) fn capability(
    class: &Arc<ClassDeclaration>,
    capability: Capability,
    shared: &Shared,
) -> Result<FixedRecords, CimError> {
    let able = shared.engine.capabilities();
    let builder = InstanceBuilder::new(class).set("InstanceID", capability.instance_id());
    // Without a back-end that can run machines there is no state to ask for.
    let states = if able.power { vec![2_u16, 3, 4, 6, 9, 10, 11] } else { Vec::new() };
    let builder = match capability {
        Capability::Management => builder
            .set("ElementNameEditSupported", true)
            .set("MaxElementNameLen", 100_u16)
            .set("RequestedStatesSupported", states)
            .set("SynchronousMethodsSupported", [6_u16, 32784, 32797])
            .set("AsynchronousMethodsSupported", [32778_u16])
            .set("VirtualSystemTypesSupported", ["Microsoft:Hyper-V:SubType:2"]),
        Capability::System => builder
            .set("ElementNameEditSupported", true)
            .set("MaxElementNameLen", 100_u16)
            .set("RequestedStatesSupported", states),
        // Every back-end takes full snapshots, if only of machines that are off.
        Capability::Snapshots => builder
            .set("Caption", "Snapshot Service Capabilities")
            .set("Description", "Which snapshots the snapshot service can make")
            .set("ElementName", "Snapshot Service Capabilities")
            .set("AynchronousMethodsSupported", [2_u16, 3, 4])
            .set("SnapshotTypesSupported", [2_u16, 3, 32768]),
    };
    Ok(FixedRecords { records: vec![(Element::Capability(capability), builder.build()?)] })
}

/// The profiles (`snapshot-semantics` §9). The class has more properties in some namespaces than in others.
pub(super) fn profiles(class: &Arc<ClassDeclaration>) -> Result<FixedRecords, CimError> {
    let record = |profile: Profile| {
        InstanceBuilder::new(class)
            .set("AdvertiseTypes", [2_u16])
            .set("Caption", profile.name())
            .set("Description", profile.name())
            .set("ElementName", profile.name())
            .set("InstanceID", profile.instance_id())
            .set("RegisteredName", profile.name())
            .set("RegisteredOrganization", 2_u16)
            .set("RegisteredVersion", "1.0.0")
            .set_if_declared("SpecificationType", 2_u16)
            .build()
            .map(|record| (Element::Profile(profile), record))
    };
    Ok(FixedRecords { records: Profile::ALL.into_iter().map(record).collect::<Result<_, _>>()? })
}

/// The cluster of one as a redundancy set without redundancy.
pub(super) fn redundancy_set(class: &Arc<ClassDeclaration>, host: &SmolStr) -> Result<FixedRecords, CimError> {
    let record = InstanceBuilder::new(class)
        .set("Caption", "Cluster")
        .set("Description", "The nodes of the cluster")
        .set("ElementName", host.clone())
        .set("InstanceID", format!("Microsoft:{host}"))
        .set("MaxNumberSupported", 1_u32)
        .set("MinNumberNeeded", 1_u32)
        .set("RedundancyStatus", 4_u16)
        .set("TypeOfSet", [0_u16])
        .build()?;
    Ok(FixedRecords { records: vec![(Element::RedundancySet, record)] })
}
