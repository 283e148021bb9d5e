//! The host, its services and the cluster of one (`snapshot-semantics` §8 and §9).

use super::common::{all_systems, each_collection, each_system, one, only_host};
use crate::cim::InstanceBuilder;
use crate::engine::CollectionKind;
use crate::providers::association::{Association, End, end, ends_only};
use crate::providers::computer_system::systems;
use crate::providers::definitions::Resource;
use crate::providers::element::Element;
use crate::providers::records::{Capability, Service};
use crate::providers::scope::{HOST_NAMESPACE, Scope};

fn all_services(scope: &Scope) -> Vec<Element> {
    Service::all_in(&scope.shared.schema).map(Element::Service).collect()
}

/// Service to what it manages.
pub(in crate::providers) static SERVICE_AFFECTS: Association = Association {
    class: "Msvm_ServiceAffectsElement",
    ends: [end("AffectingElement"), end("AffectedElement")],
    starts: |scope| Box::new(Service::all_in(&scope.shared.schema).map(Element::Service)),
    forward: |scope, element| match element {
        Element::Service(Service::Snapshots | Service::Management | Service::ReferencePoints) => all_systems(scope),
        Element::Service(Service::CollectionSnapshots | Service::CollectionReferencePoints) => {
            each_collection(scope, CollectionKind::Machines).collect()
        }
        Element::Service(Service::Collections) => {
            let machines = each_collection(scope, CollectionKind::Machines);
            machines.chain(each_collection(scope, CollectionKind::Collections)).collect()
        }
        _ => Vec::new(),
    },
    backward: |scope, element| {
        let services: &[Service] = match element {
            Element::System(_) => &[Service::Snapshots, Service::Management, Service::ReferencePoints],
            Element::SystemCollection(_) => {
                &[Service::CollectionSnapshots, Service::Collections, Service::CollectionReferencePoints]
            }
            Element::ManagementCollection(_) => &[Service::Collections],
            _ => &[],
        };
        let services = services.iter().copied().filter(|service| service.is_in(&scope.shared.schema));
        services.map(Element::Service).collect()
    },
    fill: |_, builder: InstanceBuilder, _| builder.set("ElementEffects", [5_u16]),
};

/// Host to its services.
pub(in crate::providers) static HOSTED_SERVICE: Association = Association {
    class: "Msvm_HostedService",
    ends: [end("Antecedent"), end("Dependent")],
    starts: only_host,
    forward: |scope, element| if element == Element::Host { all_services(scope) } else { Vec::new() },
    backward: |_, element| match element {
        Element::Service(_) => vec![Element::Host],
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Host to its machines.
pub(in crate::providers) static HOSTED_DEPENDENCY: Association = Association {
    class: "Msvm_HostedDependency",
    ends: [end("Antecedent"), end("Dependent")],
    starts: only_host,
    forward: |scope, element| if element == Element::Host { all_systems(scope) } else { Vec::new() },
    backward: |_, element| match element {
        Element::System(_) => vec![Element::Host],
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// Machine, service or host to what it supports.
pub(in crate::providers) static ELEMENT_CAPABILITIES: Association = Association {
    class: "Msvm_ElementCapabilities",
    ends: [end("ManagedElement"), end("Capabilities")],
    starts: |scope| {
        let services = [Service::Management, Service::Snapshots].map(Element::Service);
        Box::new(std::iter::once(Element::Host).chain(services).chain(systems(scope)))
    },
    forward: |_, element| {
        if element == Element::Host {
            return Resource::ALL.into_iter().map(Element::Allocation).collect();
        }
        one(match element {
            Element::System(_) => Some(Element::Capability(Capability::System)),
            Element::Service(Service::Management) => Some(Element::Capability(Capability::Management)),
            Element::Service(Service::Snapshots) => Some(Element::Capability(Capability::Snapshots)),
            _ => None,
        })
    },
    backward: |scope, element| match element {
        Element::Allocation(_) => vec![Element::Host],
        Element::Capability(Capability::System) => all_systems(scope),
        Element::Capability(Capability::Management) => vec![Element::Service(Service::Management)],
        Element::Capability(Capability::Snapshots) => vec![Element::Service(Service::Snapshots)],
        _ => Vec::new(),
    },
    fill: |_, builder: InstanceBuilder, _| builder.set("Characteristics", [2_u16, 3]),
};

/// Cluster to its nodes: this host is both.
pub(in crate::providers) static COMPONENT_CS: Association = Association {
    class: "Msvm_ComponentCS",
    ends: [end("GroupComponent"), end("PartComponent")],
    starts: only_host,
    forward: the_same_host,
    backward: the_same_host,
    fill: ends_only,
};

fn the_same_host(_: &Scope, element: Element) -> Vec<Element> {
    if element == Element::Host { vec![Element::Host] } else { Vec::new() }
}

/// Machine as the cluster has it to the same machine as the node has it.
pub(in crate::providers) static CONCRETE_IDENTITY: Association = Association {
    class: "Msvm_ConcreteIdentity",
    ends: [end("SystemElement"), End { property: "SameElement", namespace: Some(HOST_NAMESPACE) }],
    starts: each_system,
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
pub(in crate::providers) static MEMBER_OF_COLLECTION: Association = Association {
    class: "Msvm_MemberOfCollection",
    ends: [end("Collection"), end("Member")],
    starts: |_| Box::new(std::iter::once(Element::RedundancySet)),
    forward: |_, element| if element == Element::RedundancySet { vec![Element::Host] } else { Vec::new() },
    backward: |_, element| if element == Element::Host { vec![Element::RedundancySet] } else { Vec::new() },
    fill: ends_only,
};
