//! The fixed records of the host: services, capabilities and profiles.

use crate::cim::NamespaceSchema;

/// A service of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Snapshots of one machine.
    Snapshots,
    /// Snapshots of a collection.
    CollectionSnapshots,
    /// Settings of machines.
    Management,
    /// Collections.
    Collections,
    /// Reference points of one machine; a cluster has none.
    ReferencePoints,
    /// Reference points of a collection; a cluster has none.
    CollectionReferencePoints,
}

impl Service {
    /// All services.
    pub(super) const ALL: [Self; 6] = [
        Self::Snapshots,
        Self::CollectionSnapshots,
        Self::Management,
        Self::Collections,
        Self::ReferencePoints,
        Self::CollectionReferencePoints,
    ];

    /// The services a namespace has.
    pub(super) fn all_in(schema: &NamespaceSchema) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|service| service.is_in(schema))
    }

    /// Whether a namespace has the service.
    pub(super) fn is_in(self, schema: &NamespaceSchema) -> bool {
        schema.class(self.class_name()).is_some()
    }

    /// The class of the service.
    pub(super) const fn class_name(self) -> &'static str {
        match self {
            Self::Snapshots => "Msvm_VirtualSystemSnapshotService",
            Self::CollectionSnapshots => "Msvm_CollectionSnapshotService",
            Self::Management => "Msvm_VirtualSystemManagementService",
            Self::Collections => "Msvm_CollectionManagementService",
            Self::ReferencePoints => "Msvm_VirtualSystemReferencePointService",
            Self::CollectionReferencePoints => "Msvm_CollectionReferencePointService",
        }
    }

    /// The key `Name`. The first two are published; the others are ours.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Snapshots => "vssnapsvc",
            Self::Management => "vmms",
            Self::CollectionSnapshots => "vmcollectionsnapsvc",
            Self::Collections => "vmcollectionmgmtsvc",
            Self::ReferencePoints => "vmrefpointsvc",
            Self::CollectionReferencePoints => "vmcollectionrefpointsvc",
        }
    }

    /// What the service is called.
    pub(super) const fn caption(self) -> &'static str {
        match self {
            Self::Snapshots => "Hyper-V Virtual System Snapshot Service",
            Self::Management => "Virtual System Management Service",
            Self::CollectionSnapshots => "Hyper-V Collection Snapshot Service",
            Self::Collections => "Hyper-V Collection Management Service",
            Self::ReferencePoints => "Hyper-V Virtual System Reference Point Service",
            Self::CollectionReferencePoints => "Hyper-V Collection Reference Point Service",
        }
    }

    /// What the service does.
    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Snapshots => "Service for creating, destroying, and applying virtual machine snapshots",
            Self::Management => "Service for creating, manipulating, and managing virtual machines",
            Self::CollectionSnapshots => "Service for snapshots of all virtual machines of a collection",
            Self::Collections => "Service for collections of virtual machines",
            Self::ReferencePoints => "Service for creating and destroying reference points of virtual machines",
            Self::CollectionReferencePoints => "Service for reference points of all virtual machines of a collection",
        }
    }

    /// The service of that class.
    pub(super) fn of_class(class: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.class_name().eq_ignore_ascii_case(class))
    }
}

/// What something on the host supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capability {
    /// Of the management service.
    Management,
    /// Of a machine.
    System,
    /// Of the snapshot service; an addition for clients that are not written for Windows.
    Snapshots,
}

impl Capability {
    /// All capabilities.
    pub(super) const ALL: [Self; 3] = [Self::Management, Self::System, Self::Snapshots];

    /// The class of the record.
    pub(super) const fn class_name(self) -> &'static str {
        match self {
            Self::Management => "Msvm_VirtualSystemManagementCapabilities",
            Self::System => "Msvm_VirtualSystemCapabilities",
            Self::Snapshots => "CIM_VirtualSystemSnapshotServiceCapabilities",
        }
    }

    /// The key.
    pub(super) const fn instance_id(self) -> &'static str {
        match self {
            Self::Management => "Microsoft:ManagementCapabilities",
            Self::System => "Microsoft:SystemCapabilities",
            Self::Snapshots => "Microsoft:SnapshotCapabilities",
        }
    }

    /// The capability of that class.
    pub(super) fn of_class(class: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.class_name().eq_ignore_ascii_case(class))
    }
}

/// A DMTF profile this server follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// DSP1042, by the host.
    SystemVirtualization,
    /// DSP1057, by each machine.
    VirtualSystem,
}

impl Profile {
    /// All profiles.
    pub(super) const ALL: [Self; 2] = [Self::SystemVirtualization, Self::VirtualSystem];

    /// The key.
    pub(super) const fn instance_id(self) -> &'static str {
        match self {
            Self::SystemVirtualization => "DMTF|System Virtualization|1.0.0",
            Self::VirtualSystem => "DMTF|Virtual System|1.0.0",
        }
    }

    /// The registered name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SystemVirtualization => "System Virtualization",
            Self::VirtualSystem => "Virtual System",
        }
    }

    /// The profile with that key.
    pub(super) fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.instance_id().eq_ignore_ascii_case(id))
    }
}
