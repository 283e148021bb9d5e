//! The associations, one table row each (`snapshot-semantics` §2, §5, §6, §8 and §9).

use std::sync::Arc;

use super::association::{Association, End, end, ends_only};
use super::collections::collections;
use super::computer_system::systems;
use super::devices::devices_of;
use super::element::{Element, collection_element};
use super::job::jobs;
use super::records::{Capability, Profile, Service};
use super::scope::{CLUSTER_NAMESPACE, HOST_NAMESPACE, Scope};
use crate::cim::InstanceBuilder;
use crate::engine::{CollectionKind, ElementEffect, ElementRef, Job, JobKind};
use crate::time::Guid;

fn all_systems(scope: &Scope) -> Vec<Element> {
    systems(scope).collect()
}

fn all_snapshots(scope: &Scope) -> Vec<Element> {
    scope.view.snapshots().map(|snapshot| Element::Snapshot(snapshot.id)).collect()
}

fn all_jobs(scope: &Scope) -> Vec<Element> {
    jobs(scope).map(|job| Element::Job(job.id)).collect()
}

fn all_services(_: &Scope) -> Vec<Element> {
    Service::ALL.into_iter().map(Element::Service).collect()
}

fn the_host(_: &Scope) -> Vec<Element> {
    vec![Element::Host]
}

fn one(element: Option<Element>) -> Vec<Element> {
    element.into_iter().collect()
}

/// Machine to each of its snapshots, recovery snapshots too.
pub(super) static SNAPSHOT_OF_SYSTEM: Association = Association {
    class: "Msvm_SnapshotOfVirtualSystem",
    ends: [end("Antecedent"), end("Dependent")],
    starts: all_systems,
    forward: |scope, element| match element {
        Element::System(id) => scope.view.snapshots_of(id).map(|snapshot| Element::Snapshot(snapshot.id)).collect(),
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::Snapshot(id) => one(scope.view.snapshot(id).map(|snapshot| Element::System(snapshot.system))),
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Machine to the snapshot its live state descends from.
pub(super) static MOST_CURRENT: Association = Association {
    class: "Msvm_MostCurrentSnapshotInBranch",
    ends: [end("Antecedent"), end("Dependent")],
    starts: all_systems,
    forward: |scope, element| match element {
        Element::System(id) => {
            one(scope.view.system(id).and_then(|system| system.current_snapshot).map(Element::Snapshot))
        }
        _ => Vec::new(),
    },
    backward: |scope, element| {
        systems_where(scope, element, |scope, system| scope.view.system(system)?.current_snapshot)
    },
    fill: ends_only,
};

/// The snapshot applied last to its machine. The ends are the other way round.
pub(super) static LAST_APPLIED: Association = Association {
    class: "Msvm_LastAppliedSnapshot",
    ends: [end("Antecedent"), end("Dependent")],
    starts: all_snapshots,
    forward: |scope, element| systems_where(scope, element, |scope, system| scope.view.system(system)?.last_applied),
    backward: |scope, element| match element {
        Element::System(id) => one(scope.view.system(id).and_then(|system| system.last_applied).map(Element::Snapshot)),
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// The machine of a snapshot, if the machine points to this snapshot.
fn systems_where(scope: &Scope, element: Element, pointer: fn(&Scope, Guid) -> Option<Guid>) -> Vec<Element> {
    let Element::Snapshot(id) = element else { return Vec::new() };
    let system = scope.view.snapshot(id).map(|snapshot| snapshot.system);
    one(system.filter(|system| pointer(scope, *system) == Some(id)).map(Element::System))
}

/// Parent snapshot to child snapshot.
pub(super) static PARENT_CHILD: Association = Association {
    class: "Msvm_ParentChildSettingData",
    ends: [end("Antecedent"), end("Dependent")],
    starts: all_snapshots,
    forward: |scope, element| match element {
        Element::Snapshot(id) => scope.view.children_of(id).map(|child| Element::Snapshot(child.id)).collect(),
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::Snapshot(id) => {
            one(scope.view.snapshot(id).and_then(|snapshot| snapshot.parent).map(Element::Snapshot))
        }
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Machine to its active settings; not to snapshots.
pub(super) static SETTINGS_DEFINE_STATE: Association = Association {
    class: "Msvm_SettingsDefineState",
    ends: [end("ManagedElement"), end("SettingData")],
    starts: all_systems,
    forward: settings_of_system,
    backward: system_of_settings,
    fill: ends_only,
};

fn settings_of_system(_: &Scope, element: Element) -> Vec<Element> {
    match element {
        Element::System(id) => vec![Element::Settings(id)],
        _ => Vec::new(),
    }
}

fn system_of_settings(_: &Scope, element: Element) -> Vec<Element> {
    match element {
        Element::Settings(id) => vec![Element::System(id)],
        _ => Vec::new(),
    }
}

/// Settings record of a machine or snapshot to its device records.
pub(super) static SETTING_COMPONENT: Association = Association {
    class: "Msvm_VirtualSystemSettingDataComponent",
    ends: [end("GroupComponent"), end("PartComponent")],
    starts: |scope| {
        let machines = scope.view.systems().map(|system| Element::Settings(system.id));
        machines.chain(all_snapshots(scope)).collect()
    },
    forward: |scope, element| match element {
        Element::Settings(id) | Element::Snapshot(id) => {
            devices_of(&scope.view, id).into_iter().map(Element::Device).collect()
        }
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::Device(device) => one(device.settings(&scope.view)),
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Job to what it works on and to what it made (`hyperv-host.md` §7).
pub(super) static AFFECTED_JOB_ELEMENT: Association = Association {
    class: "Msvm_AffectedJobElement",
    ends: [end("AffectingElement"), end("AffectedElement")],
    starts: all_jobs,
    forward: |scope, element| match element {
        Element::Job(id) => scope.view.job(id).map_or_else(Vec::new, |job| affected(scope, job)),
        _ => Vec::new(),
    },
    backward: |scope, element| {
        let Some(id) = identity(element) else { return Vec::new() };
        let jobs = scope.view.jobs_of(id).filter(|job| affected(scope, job).contains(&element));
        jobs.map(|job| Element::Job(job.id)).collect()
    },
    fill: |scope, builder, [job, element]| {
        let effect = match job {
            Element::Job(id) => scope.view.job(id).and_then(|job| {
                let mut found =
                    job.affected.iter().filter(|affected| element_of(scope, affected.element) == Some(element));
                found.next().map(|affected| affected.effect)
            }),
            _ => None,
        };
        builder.set("ElementEffects", [effect.unwrap_or(ElementEffect::Unknown).number()])
    },
};

/// What a job shows: what it works on that still exists, and what it made and was not destroyed since.
fn affected(scope: &Scope, job: &Job) -> Vec<Element> {
    if !super::job::is_virtualization_job(job) {
        return Vec::new();
    }
    let shown = job.affected.iter().filter(|affected| {
        // What is being made must not be seen before the job is completed.
        affected.effect != ElementEffect::Creates || job.state == crate::engine::JobState::Completed
    });
    shown.filter_map(|affected| element_of(scope, affected.element)).collect()
}

/// The element a job names, if it exists.
fn element_of(scope: &Scope, element: ElementRef) -> Option<Element> {
    match element {
        ElementRef::System(id) => scope.view.system(id).map(|_| Element::System(id)),
        ElementRef::Snapshot(id) => scope.view.snapshot(id).map(|_| Element::Snapshot(id)),
        ElementRef::Collection(id) => scope.view.collection(id).map(|found| collection_element(id, found.kind)),
        ElementRef::SnapshotCollection(id) => {
            scope.view.snapshot_collection(id).map(|_| Element::SnapshotCollection(id))
        }
        ElementRef::Volume(_) => None,
    }
}

/// The identity under which jobs remember an element.
const fn identity(element: Element) -> Option<Guid> {
    match element {
        Element::System(id)
        | Element::Snapshot(id)
        | Element::SystemCollection(id)
        | Element::ManagementCollection(id)
        | Element::SnapshotCollection(id) => Some(id),
        _ => None,
    }
}

/// Service or machine that owns a job.
pub(super) static OWNING_JOB_ELEMENT: Association = Association {
    class: "Msvm_OwningJobElement",
    ends: [end("OwnedElement"), end("OwningElement")],
    starts: all_jobs,
    forward: |scope, element| match element {
        Element::Job(id) => one(scope.view.job(id).and_then(|job| owner(job))),
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::System(id) => owned(&mut scope.view.jobs_of(id), element),
        Element::Service(_) => owned(&mut scope.view.jobs(), element),
        _ => Vec::new(),
    },
    fill: ends_only,
};

fn owned(jobs: &mut dyn Iterator<Item = &Arc<Job>>, element: Element) -> Vec<Element> {
    jobs.filter(|job| owner(job) == Some(element)).map(|job| Element::Job(job.id)).collect()
}

fn owner(job: &Job) -> Option<Element> {
    match (job.kind, job.target) {
        (JobKind::CopyVolume, _) => None,
        (JobKind::ChangeState, ElementRef::System(id)) => Some(Element::System(id)),
        (_, ElementRef::Collection(_) | ElementRef::SnapshotCollection(_)) => {
            Some(Element::Service(Service::CollectionSnapshots))
        }
        _ => Some(Element::Service(Service::Snapshots)),
    }
}

/// Service to what it manages.
pub(super) static SERVICE_AFFECTS: Association = Association {
    class: "Msvm_ServiceAffectsElement",
    ends: [end("AffectingElement"), end("AffectedElement")],
    starts: all_services,
    forward: |scope, element| match element {
        Element::Service(Service::Snapshots | Service::Management) => all_systems(scope),
        Element::Service(Service::CollectionSnapshots) => collection_elements(scope, CollectionKind::Machines),
        Element::Service(Service::Collections) => {
            let mut all = collection_elements(scope, CollectionKind::Machines);
            all.extend(collection_elements(scope, CollectionKind::Collections));
            all
        }
        _ => Vec::new(),
    },
    backward: |_, element| {
        let services: &[Service] = match element {
            Element::System(_) => &[Service::Snapshots, Service::Management],
            Element::SystemCollection(_) => &[Service::CollectionSnapshots, Service::Collections],
            Element::ManagementCollection(_) => &[Service::Collections],
            _ => &[],
        };
        services.iter().copied().map(Element::Service).collect()
    },
    fill: |_, builder: InstanceBuilder, _| builder.set("ElementEffects", [5_u16]),
};

fn collection_elements(scope: &Scope, kind: CollectionKind) -> Vec<Element> {
    collections(scope, kind).map(|collection| collection_element(collection.id, kind)).collect()
}

/// Host to its services.
pub(super) static HOSTED_SERVICE: Association = Association {
    class: "Msvm_HostedService",
    ends: [end("Antecedent"), end("Dependent")],
    starts: the_host,
    forward: |scope, element| if element == Element::Host { all_services(scope) } else { Vec::new() },
    backward: |scope, element| match element {
        Element::Service(_) => the_host(scope),
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Host to its machines.
pub(super) static HOSTED_DEPENDENCY: Association = Association {
    class: "Msvm_HostedDependency",
    ends: [end("Antecedent"), end("Dependent")],
    starts: the_host,
    forward: |scope, element| if element == Element::Host { all_systems(scope) } else { Vec::new() },
    backward: |scope, element| match element {
        Element::System(_) => the_host(scope),
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Machine or service to what it supports.
pub(super) static ELEMENT_CAPABILITIES: Association = Association {
    class: "Msvm_ElementCapabilities",
    ends: [end("ManagedElement"), end("Capabilities")],
    starts: |scope| {
        let services = [Service::Management, Service::Snapshots].map(Element::Service);
        services.into_iter().chain(systems(scope)).collect()
    },
    forward: |_, element| {
        one(match element {
            Element::System(_) => Some(Element::Capability(Capability::System)),
            Element::Service(Service::Management) => Some(Element::Capability(Capability::Management)),
            Element::Service(Service::Snapshots) => Some(Element::Capability(Capability::Snapshots)),
            _ => None,
        })
    },
    backward: |scope, element| match element {
        Element::Capability(Capability::System) => all_systems(scope),
        Element::Capability(Capability::Management) => vec![Element::Service(Service::Management)],
        Element::Capability(Capability::Snapshots) => vec![Element::Service(Service::Snapshots)],
        _ => Vec::new(),
    },
    fill: |_, builder: InstanceBuilder, _| builder.set("Characteristics", [2_u16, 3]),
};

/// Collection to its machines.
pub(super) static COLLECTED_SYSTEMS: Association = Association {
    class: "Msvm_CollectedVirtualSystems",
    ends: [end("Collection"), end("Member")],
    starts: |scope| collection_elements(scope, CollectionKind::Machines),
    forward: |scope, element| match element {
        Element::SystemCollection(id) => {
            let known = members(scope, id).into_iter().filter(|member| scope.view.system(*member).is_some());
            known.map(Element::System).collect()
        }
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::System(id) => collections_with(scope, id, CollectionKind::Machines),
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Collection to its collections.
pub(super) static COLLECTED_COLLECTIONS: Association = Association {
    class: "Msvm_CollectedCollections",
    ends: [end("Collection"), end("Member")],
    starts: |scope| collection_elements(scope, CollectionKind::Collections),
    forward: |scope, element| match element {
        Element::ManagementCollection(id) => members(scope, id)
            .into_iter()
            .filter_map(|member| scope.view.collection(member))
            .map(|member| collection_element(member.id, member.kind))
            .collect(),
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::SystemCollection(id) | Element::ManagementCollection(id) => {
            collections_with(scope, id, CollectionKind::Collections)
        }
        _ => Vec::new(),
    },
    fill: ends_only,
};

fn members(scope: &Scope, collection: Guid) -> Vec<Guid> {
    scope.view.collection(collection).map_or_else(Vec::new, |collection| collection.members.clone())
}

fn collections_with(scope: &Scope, member: Guid, kind: CollectionKind) -> Vec<Element> {
    let found = scope.view.collections_with(member).filter(|collection| collection.kind == kind);
    found.map(|collection| collection_element(collection.id, kind)).collect()
}

/// Snapshot collection to its snapshots.
pub(super) static COLLECTED_SNAPSHOTS: Association = Association {
    class: "Msvm_CollectedSnapshots",
    ends: [end("Collection"), end("Member")],
    starts: |scope| scope.view.snapshot_collections().map(|set| Element::SnapshotCollection(set.id)).collect(),
    forward: |scope, element| match element {
        Element::SnapshotCollection(id) => scope.view.snapshot_collection(id).map_or_else(Vec::new, |set| {
            let known = set.snapshots.iter().filter(|snapshot| scope.view.snapshot(**snapshot).is_some());
            known.copied().map(Element::Snapshot).collect()
        }),
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::Snapshot(id) => {
            let set = scope.view.snapshot(id).and_then(|snapshot| snapshot.snapshot_collection);
            one(set.filter(|set| scope.view.snapshot_collection(*set).is_some()).map(Element::SnapshotCollection))
        }
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Collection to its snapshot collections.
pub(super) static SNAPSHOT_OF_COLLECTION: Association = Association {
    class: "Msvm_SnapshotOfVirtualSystemCollection",
    ends: [end("Antecedent"), end("Dependent")],
    starts: |scope| collection_elements(scope, CollectionKind::Machines),
    forward: |scope, element| match element {
        Element::SystemCollection(id) | Element::ManagementCollection(id) => {
            scope.view.snapshot_collections_of(id).map(|set| Element::SnapshotCollection(set.id)).collect()
        }
        _ => Vec::new(),
    },
    backward: |scope, element| match element {
        Element::SnapshotCollection(id) => {
            let collection = scope.view.snapshot_collection(id).and_then(|set| scope.view.collection(set.collection));
            one(collection.map(|collection| collection_element(collection.id, collection.kind)))
        }
        _ => Vec::new(),
    },
    fill: ends_only,
};

fn profile_elements(_: &Scope) -> Vec<Element> {
    Profile::ALL.into_iter().map(Element::Profile).collect()
}

fn conforming(scope: &Scope, element: Element) -> Vec<Element> {
    match element {
        Element::Profile(Profile::SystemVirtualization) => the_host(scope),
        Element::Profile(Profile::VirtualSystem) => all_systems(scope),
        _ => Vec::new(),
    }
}

fn profiles_of(_: &Scope, element: Element) -> Vec<Element> {
    one(match element {
        Element::Host => Some(Element::Profile(Profile::SystemVirtualization)),
        Element::System(_) => Some(Element::Profile(Profile::VirtualSystem)),
        _ => None,
    })
}

const fn conformance(class: &'static str, namespace: Option<&'static str>) -> Association {
    let managed = End { property: "ManagedElement", namespace };
    Association {
        class,
        ends: [end("ConformantStandard"), managed],
        starts: profile_elements,
        forward: conforming,
        backward: profiles_of,
        fill: ends_only,
    }
}

/// Profile to the host and the machines, inside one namespace.
pub(super) static CONFORMS: Association = conformance("Msvm_ElementConformsToProfile", None);

/// Profile to the host and the machines as a single host has them.
pub(super) static STANDALONE_CONFORMS: Association =
    conformance("Msvm_StandaloneV2ElementConformsToProfile", Some(HOST_NAMESPACE));

/// Profile to the host and the machines as the cluster has them.
pub(super) static CLUSTER_CONFORMS: Association =
    conformance("Msvm_ClusterV2ElementConformsToProfile", Some(CLUSTER_NAMESPACE));

/// Cluster to its nodes: this host is both.
pub(super) static COMPONENT_CS: Association = Association {
    class: "Msvm_ComponentCS",
    ends: [end("GroupComponent"), end("PartComponent")],
    starts: the_host,
    forward: the_same_host,
    backward: the_same_host,
    fill: ends_only,
};

fn the_same_host(_: &Scope, element: Element) -> Vec<Element> {
    if element == Element::Host { vec![Element::Host] } else { Vec::new() }
}

/// Machine as the cluster has it to the same machine as the node has it.
pub(super) static CONCRETE_IDENTITY: Association = Association {
    class: "Msvm_ConcreteIdentity",
    ends: [end("SystemElement"), End { property: "SameElement", namespace: Some(HOST_NAMESPACE) }],
    starts: all_systems,
    forward: itself_if_system,
    backward: itself_if_system,
    fill: ends_only,
};

fn itself_if_system(_: &Scope, element: Element) -> Vec<Element> {
    match element {
        Element::System(_) => vec![element],
        _ => Vec::new(),
    }
}

/// Redundancy set to the nodes of the cluster.
pub(super) static MEMBER_OF_COLLECTION: Association = Association {
    class: "Msvm_MemberOfCollection",
    ends: [end("Collection"), end("Member")],
    starts: |_| vec![Element::RedundancySet],
    forward: |scope, element| if element == Element::RedundancySet { the_host(scope) } else { Vec::new() },
    backward: |_, element| if element == Element::Host { vec![Element::RedundancySet] } else { Vec::new() },
    fill: ends_only,
};
