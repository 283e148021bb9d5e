//! Who follows which profile (`snapshot-semantics` §9).

use super::common::{all_systems, one};
use crate::providers::association::{Association, End, end, ends_only};
use crate::providers::element::Element;
use crate::providers::family::Elements;
use crate::providers::records::Profile;
use crate::providers::scope::{CLUSTER_NAMESPACE, HOST_NAMESPACE, Scope};

fn each_profile(_: &Scope) -> Elements<'_> {
    Box::new(Profile::ALL.into_iter().map(Element::Profile))
}

fn conforming(scope: &Scope, element: Element) -> Vec<Element> {
    match element {
        Element::Profile(Profile::SystemVirtualization) => vec![Element::Host],
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
        starts: each_profile,
        forward: conforming,
        backward: profiles_of,
        fill: ends_only,
    }
}

/// Profile to the host and the machines, inside one namespace.
pub(in crate::providers) static CONFORMS: Association = conformance("Msvm_ElementConformsToProfile", None);

/// Profile to the host and the machines as a single host has them.
pub(in crate::providers) static STANDALONE_CONFORMS: Association =
    conformance("Msvm_StandaloneV2ElementConformsToProfile", Some(HOST_NAMESPACE));

/// Profile to the host and the machines as the cluster has them.
pub(in crate::providers) static CLUSTER_CONFORMS: Association =
    conformance("Msvm_ClusterV2ElementConformsToProfile", Some(CLUSTER_NAMESPACE));

/// Profile to another one that builds on it.
pub(in crate::providers) static REFERENCED_PROFILE: Association = Association {
    class: "Msvm_ReferencedProfile",
    ends: [end("Antecedent"), end("Dependent")],
    starts: each_profile,
    forward: |_, element| match element {
        Element::Profile(Profile::VirtualSystem) => vec![Element::Profile(Profile::SystemVirtualization)],
        _ => Vec::new(),
    },
    backward: |_, element| match element {
        Element::Profile(Profile::SystemVirtualization) => vec![Element::Profile(Profile::VirtualSystem)],
        _ => Vec::new(),
    },
    fill: ends_only,
};
