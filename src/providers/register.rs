//! Which provider serves which class.

use std::sync::Arc;

use super::ProviderOptions;
use super::association::{Association, Associations};
use super::collection_service::{CollectionManagement, CollectionSnapshotService};
use super::collections::{Collections, SnapshotCollections};
use super::computer_system::{ComputerSystemMethods, ComputerSystems};
use super::definitions::{ALLOCATION_CAPABILITIES, Allocations};
use super::device_settings::DeviceSettings;
use super::devices::DEVICE_CLASSES;
use super::drives::{DISK_DRIVE, HostDrives};
use super::element::{
    COMPUTER_SYSTEM, EXPORT_SETTINGS, JOB, MANAGEMENT_COLLECTION, PROFILE, REDUNDANCY_SET, REFERENCE_POINT,
    REFERENCE_POINT_COLLECTION, SETTING_DATA, SNAPSHOT_COLLECTION, SNAPSHOT_OUTCOME, SYSTEM_COLLECTION,
};
use super::family::{Family, Instances};
use super::host::{HOST_CLASSES, HostRecords};
use super::identify::Identify;
use super::indication_filters::{INDICATION_FILTER, IndicationFilters};
use super::job::Jobs;
use super::job_methods::JobMethods;
use super::management_service::ManagementService;
use super::namespaces::{NAMESPACE, Namespaces};
use super::records::{Capability, Service};
use super::reference_point_service::{CollectionReferencePointService, ReferencePointService};
use super::reference_points::{ExportSettingData, ReferencePointCollections, ReferencePoints};
use super::scope::{CIMV2_NAMESPACE, CLUSTER_NAMESPACE, HOST_NAMESPACE, INTEROP_NAMESPACE, OMI_NAMESPACE, Shared};
use super::setting_data::SettingData;
use super::shutdown::{SHUTDOWN, ShutdownComponents, ShutdownMethods};
use super::snapshot_outcome::SnapshotOutcomes;
use super::snapshot_service::SnapshotService;
use super::switches::{SWITCH, Switches};
use super::virtual_processors::{VIRTUAL_PROCESSOR, VirtualProcessors};
use super::writes::{CollectionWrites, SettingsWrites};
use super::{links, services};
use crate::cim::{CimError, CimStatus, Schema};
use crate::cimom::{MethodProvider, ProviderRegistry, WriteProvider};
use crate::engine::{CollectionKind, Engine, Gate};

/// The associations of both virtualization namespaces.
static COMMON: [&Association; 16] = [
    &links::SNAPSHOT_OF_SYSTEM,
    &links::MOST_CURRENT,
    &links::PARENT_CHILD,
    &links::SETTINGS_DEFINE_STATE,
    &links::AFFECTED_JOB_ELEMENT,
    &links::OWNING_JOB_ELEMENT,
    &links::SERVICE_AFFECTS,
    &links::HOSTED_SERVICE,
    &links::HOSTED_DEPENDENCY,
    &links::COLLECTED_SYSTEMS,
    &links::COLLECTED_COLLECTIONS,
    &links::COLLECTED_SNAPSHOTS,
    &links::SNAPSHOT_OF_COLLECTION,
    &links::COLLECTED_POINTS,
    &links::POINTS_OF_COLLECTION,
    &links::CONFORMS,
];

/// The associations a single host has and a cluster has not.
static HOST_ONLY: [&Association; 7] = [
    &links::DEFINED_CAPABILITIES,
    &links::LAST_APPLIED,
    &links::SETTING_COMPONENT,
    &links::SYSTEM_DEVICE,
    &links::ELEMENT_CAPABILITIES,
    &links::POINT_OF_SYSTEM,
    &links::EXPORT_SETTINGS,
];

/// The associations a cluster has and a single host has not.
static CLUSTER_ONLY: [&Association; 3] =
    [&links::COMPONENT_CS, &links::CONCRETE_IDENTITY, &links::MEMBER_OF_COLLECTION];

/// The associations of the host itself.
static CIMV2: [&Association; 1] = [&links::COMPUTER_PROCESSOR];

/// The associations of the profiles.
static INTEROP: [&Association; 3] = [&links::STANDALONE_CONFORMS, &links::CLUSTER_CONFORMS, &links::REFERENCED_PROFILE];

/// Registers the providers of machines, snapshots, jobs and collections.
///
/// # Errors
/// A [`CimError`] when the schema does not have a class, or a class not the properties, that a provider serves.
pub fn register(
    registry: &mut ProviderRegistry,
    schema: &Schema,
    engine: &Arc<Engine>,
    options: &ProviderOptions,
) -> Result<(), CimError> {
    let gate = &Arc::new(Gate::new(Arc::clone(engine)));
    for name in [HOST_NAMESPACE, CLUSTER_NAMESPACE] {
        let mut namespace = Namespace::open(registry, schema, gate, options, name)?;
        namespace.virtualization()?;
    }
    Namespace::open(registry, schema, gate, options, HOST_NAMESPACE)?.host_only()?;
    Namespace::open(registry, schema, gate, options, CLUSTER_NAMESPACE)?.cluster_only()?;
    Namespace::open(registry, schema, gate, options, CIMV2_NAMESPACE)?.cimv2()?;
    Namespace::open(registry, schema, gate, options, INTEROP_NAMESPACE)?.interop()?;
    for namespace in schema.namespaces() {
        let below = Namespaces::below(schema, namespace.name());
        registry.instance(namespace.name(), NAMESPACE, Arc::new(below));
    }
    Namespace::open(registry, schema, gate, options, OMI_NAMESPACE)?.omi()
}

/// The registration of one namespace.
struct Namespace<'r> {
    registry: &'r mut ProviderRegistry,
    shared: Arc<Shared>,
    name: &'static str,
}

impl<'r> Namespace<'r> {
    fn open(
        registry: &'r mut ProviderRegistry,
        schema: &Schema,
        gate: &Arc<Gate>,
        options: &ProviderOptions,
        name: &'static str,
    ) -> Result<Self, CimError> {
        let namespace = schema
            .namespace(name)
            .ok_or_else(|| CimError::new(CimStatus::InvalidNamespace, format!("the schema has no namespace {name}")))?;
        let shared = Shared { engine: Arc::clone(gate), options: options.clone(), schema: Arc::clone(namespace) };
        Ok(Self { registry, shared: Arc::new(shared), name })
    }

    fn family(&mut self, class: &'static str, family: impl Family) {
        self.registry.instance(self.name, class, Arc::new(Instances::new(&self.shared, family)));
    }

    fn methods(&mut self, class: &'static str, provider: impl MethodProvider + 'static) {
        self.registry.method(self.name, class, Arc::new(provider));
    }

    fn writes(&mut self, class: &'static str, provider: impl WriteProvider + 'static) {
        self.registry.write(self.name, class, Arc::new(provider));
    }

    fn associations(&mut self, all: &'static [&'static Association]) -> Result<(), CimError> {
        for association in all {
            let class = self.shared.class(association.class)?;
            let provider = Associations::new(&self.shared, association, class);
            self.registry.association(self.name, association.class, Arc::new(provider));
        }
        Ok(())
    }

    /// What both virtualization namespaces have.
    fn virtualization(&mut self) -> Result<(), CimError> {
        let shared = Arc::clone(&self.shared);
        let host = &shared.options.host_name;
        self.family(COMPUTER_SYSTEM, ComputerSystems::new(shared.class(COMPUTER_SYSTEM)?, host)?);
        self.methods(COMPUTER_SYSTEM, ComputerSystemMethods { shared: Arc::clone(&shared) });
        self.family(SETTING_DATA, SettingData::new(shared.class(SETTING_DATA)?)?);
        self.writes(SETTING_DATA, SettingsWrites { shared: Arc::clone(&shared) });
        self.family(JOB, Jobs::new(shared.class(JOB)?, shared.engine.job_retention())?);
        self.methods(JOB, JobMethods { shared: Arc::clone(&shared) });
        let (machines, groups) = (CollectionKind::Machines, CollectionKind::Collections);
        self.family(SYSTEM_COLLECTION, Collections::new(shared.class(SYSTEM_COLLECTION)?, machines)?);
        self.family(MANAGEMENT_COLLECTION, Collections::new(shared.class(MANAGEMENT_COLLECTION)?, groups)?);
        for (class, kind) in [(SYSTEM_COLLECTION, machines), (MANAGEMENT_COLLECTION, groups)] {
            self.writes(class, CollectionWrites { shared: Arc::clone(&shared), kind });
        }
        self.family(SNAPSHOT_COLLECTION, SnapshotCollections::new(shared.class(SNAPSHOT_COLLECTION)?)?);
        self.family(REFERENCE_POINT, ReferencePoints::new(shared.class(REFERENCE_POINT)?)?);
        let point_collections = ReferencePointCollections::new(shared.class(REFERENCE_POINT_COLLECTION)?)?;
        self.family(REFERENCE_POINT_COLLECTION, point_collections);
        self.family(PROFILE, services::profiles(shared.class(PROFILE)?)?);
        for service in Service::all_in(&shared.schema) {
            let class = service.class_name();
            self.family(class, services::service(shared.class(class)?, service, host)?);
        }
        self.methods(Service::Snapshots.class_name(), SnapshotService { shared: Arc::clone(&shared) });
        self.methods(Service::Management.class_name(), ManagementService { shared: Arc::clone(&shared) });
        let collection_snapshots = CollectionSnapshotService { shared: Arc::clone(&shared) };
        self.methods(Service::CollectionSnapshots.class_name(), collection_snapshots);
        self.methods(Service::Collections.class_name(), CollectionManagement { shared });
        self.associations(&COMMON)
    }

    /// What only a single host has.
    fn host_only(&mut self) -> Result<(), CimError> {
        let shared = Arc::clone(&self.shared);
        for class in DEVICE_CLASSES {
            self.family(class, DeviceSettings::new(class, shared.class(class)?)?);
        }
        self.family(ALLOCATION_CAPABILITIES, Allocations::new(shared.class(ALLOCATION_CAPABILITIES)?)?);
        self.family(DISK_DRIVE, HostDrives::new(shared.class(DISK_DRIVE)?, &shared.options.host_name)?);
        self.family(SWITCH, Switches::new(shared.class(SWITCH)?)?);
        self.family(SHUTDOWN, ShutdownComponents::new(shared.class(SHUTDOWN)?)?);
        self.methods(SHUTDOWN, ShutdownMethods { shared: Arc::clone(&shared) });
        self.family(SNAPSHOT_OUTCOME, SnapshotOutcomes::new(shared.class(SNAPSHOT_OUTCOME)?)?);
        self.family(EXPORT_SETTINGS, ExportSettingData::new(shared.class(EXPORT_SETTINGS)?)?);
        let points = ReferencePointService { shared: Arc::clone(&shared) };
        self.methods(Service::ReferencePoints.class_name(), points);
        let collection_points = CollectionReferencePointService { shared: Arc::clone(&shared) };
        self.methods(Service::CollectionReferencePoints.class_name(), collection_points);
        for capability in Capability::ALL {
            let class = capability.class_name();
            self.family(class, services::capability(shared.class(class)?, capability, &shared)?);
        }
        self.associations(&HOST_ONLY)
    }

    /// What only a cluster has.
    fn cluster_only(&mut self) -> Result<(), CimError> {
        let shared = Arc::clone(&self.shared);
        let set = services::redundancy_set(shared.class(REDUNDANCY_SET)?, &shared.options.host_name)?;
        self.family(REDUNDANCY_SET, set);
        self.associations(&CLUSTER_ONLY)
    }

    /// The host itself.
    fn cimv2(&mut self) -> Result<(), CimError> {
        let shared = Arc::clone(&self.shared);
        for class in HOST_CLASSES {
            self.family(class, HostRecords::new(class, shared.class(class)?, &shared.options)?);
        }
        let figures = VirtualProcessors::new(&shared, shared.class(VIRTUAL_PROCESSOR)?)?;
        self.registry.instance(self.name, VIRTUAL_PROCESSOR, Arc::new(figures));
        self.associations(&CIMV2)
    }

    /// The profiles and the filters of events.
    fn interop(&mut self) -> Result<(), CimError> {
        let profiles = services::profiles(self.shared.class(PROFILE)?)?;
        self.family(PROFILE, profiles);
        let filters = IndicationFilters::new(self.shared.class(INDICATION_FILTER)?, &self.shared.options)?;
        self.registry.instance(self.name, INDICATION_FILTER, Arc::new(filters));
        self.associations(&INTEROP)
    }

    /// The server's own description.
    fn omi(&mut self) -> Result<(), CimError> {
        let identify = Identify::new(self.shared.class("OMI_Identify")?, &self.shared.options)?;
        self.registry.instance(self.name, "OMI_Identify", Arc::new(identify));
        Ok(())
    }
}
