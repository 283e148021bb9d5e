//! `CIM_IndicationFilter` in `root/interop`: the filters of events that can be subscribed to by name (DSP0227 10.2.2).

use std::sync::Arc;

use super::ProviderOptions;
use super::element::COMPUTER_SYSTEM;
use super::scope::HOST_NAMESPACE;
use super::storage;
use crate::cim::{CimError, CimInstance, ClassDeclaration, InstanceBuilder};
use crate::cimom::{CallContext, InstanceProvider, InstanceStream};

/// Class of filters.
pub(super) const INDICATION_FILTER: &str = "CIM_IndicationFilter";

/// A filter.
struct Filter {
    /// Organisation and name, as DSP1054 wants it.
    name: &'static str,
    description: &'static str,
    namespace: &'static str,
    query: &'static str,
}

/// The filters there are.
static FILTERS: [Filter; 7] = [
    Filter {
        name: "wsnapd:Jobs",
        description: "A job has begun, has come on, has ended or is no longer kept.",
        namespace: HOST_NAMESPACE,
        query: "SELECT * FROM CIM_InstIndication WHERE SourceInstance ISA Msvm_ConcreteJob",
    },
    Filter {
        name: "wsnapd:JobsEnded",
        description: "A job has ended, well or not.",
        namespace: HOST_NAMESPACE,
        query: "SELECT * FROM CIM_InstModification WHERE SourceInstance ISA Msvm_ConcreteJob AND SourceInstance.JobState >= 7 AND PreviousInstance.JobState < 7",
    },
    Filter {
        name: "wsnapd:SnapshotsCreated",
        description: "A machine has a new snapshot.",
        namespace: HOST_NAMESPACE,
        query: "SELECT * FROM CIM_InstCreation WHERE SourceInstance ISA Msvm_VirtualSystemSettingData AND SourceInstance.VirtualSystemType LIKE 'Microsoft:Hyper-V:Snapshot:%'",
    },
    Filter {
        name: "wsnapd:SnapshotsChanged",
        description: "The record of a snapshot has changed: its name, its notes, or what it came from.",
        namespace: HOST_NAMESPACE,
        query: "SELECT * FROM CIM_InstModification WHERE SourceInstance ISA Msvm_VirtualSystemSettingData AND SourceInstance.VirtualSystemType LIKE 'Microsoft:Hyper-V:Snapshot:%'",
    },
    Filter {
        name: "wsnapd:SnapshotsDeleted",
        description: "A snapshot is gone.",
        namespace: HOST_NAMESPACE,
        query: "SELECT * FROM CIM_InstDeletion WHERE SourceInstance ISA Msvm_VirtualSystemSettingData AND SourceInstance.VirtualSystemType LIKE 'Microsoft:Hyper-V:Snapshot:%'",
    },
    Filter {
        name: "wsnapd:MachineStates",
        description: "A machine has another state: it runs, is off, paused or saved.",
        namespace: HOST_NAMESPACE,
        query: "SELECT * FROM CIM_InstModification WHERE SourceInstance ISA Msvm_ComputerSystem AND SourceInstance.EnabledState <> PreviousInstance.EnabledState",
    },
    Filter {
        name: "wsnapd:VolumeJobs",
        description: "A job that copies a volume has begun, has come on, has ended or is no longer kept.",
        namespace: storage::NAMESPACE,
        query: "SELECT * FROM CIM_InstIndication WHERE SourceInstance ISA MSFT_SMJob",
    },
];

/// Serves the filters.
pub(super) struct IndicationFilters {
    records: Vec<CimInstance>,
}

impl IndicationFilters {
    pub(super) fn new(class: &Arc<ClassDeclaration>, options: &ProviderOptions) -> Result<Self, CimError> {
        let record = |filter: &Filter| {
            InstanceBuilder::new(class)
                .set("CreationClassName", INDICATION_FILTER)
                .set("Description", filter.description)
                .set("ElementName", filter.name.split_once(':').map_or(filter.name, |(_, name)| name))
                .set("IndividualSubscriptionSupported", true)
                .set("Name", filter.name)
                .set("Query", filter.query)
                .set("QueryLanguage", "WQL")
                .set("SourceNamespace", filter.namespace)
                .set("SourceNamespaces", [filter.namespace])
                .set("SystemCreationClassName", COMPUTER_SYSTEM)
                .set("SystemName", options.host_name.clone())
                .build()
        };
        Ok(Self { records: FILTERS.iter().map(record).collect::<Result<_, _>>()? })
    }
}

impl InstanceProvider for IndicationFilters {
    fn enumerate(&self, _: &CallContext, _: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        Ok(Box::new(self.records.clone().into_iter().map(Ok)))
    }
}
