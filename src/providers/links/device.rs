//! Devices of machines and of the host (`clients.md` part 5).

use super::common::{each_system, one};
use crate::cim::InstanceBuilder;
use crate::providers::association::{Association, end, ends_only};
use crate::providers::definitions::Resource;
use crate::providers::element::Element;
use crate::providers::host::{HostRecord, processors};
use crate::providers::shutdown::component_of;

/// Machine to its devices.
pub(in crate::providers) static SYSTEM_DEVICE: Association = Association {
    class: "Msvm_SystemDevice",
    ends: [end("GroupComponent"), end("PartComponent")],
    starts: each_system,
    forward: |scope, element| match element {
        Element::System(id) => one(component_of(scope, id)),
        _ => Vec::new(),
    },
    backward: |_, element| match element {
        Element::Shutdown(id) => vec![Element::System(id)],
        _ => Vec::new(),
    },
    fill: ends_only,
};

/// What can be allocated of a resource to the records that state default, limits and step.
pub(in crate::providers) static DEFINED_CAPABILITIES: Association = Association {
    class: "Msvm_SettingsDefineCapabilities",
    ends: [end("GroupComponent"), end("PartComponent")],
    starts: |_| Box::new(Resource::ALL.into_iter().map(Element::Allocation)),
    forward: |_, element| match element {
        Element::Allocation(resource) => resource.definitions().map(Element::Definition).collect(),
        _ => Vec::new(),
    },
    backward: |_, element| match element {
        Element::Definition(definition) => vec![Element::Allocation(definition.resource)],
        _ => Vec::new(),
    },
    fill: |_, builder: InstanceBuilder, [_, element]| match element {
        Element::Definition(definition) => {
            let (role, range) = definition.amount.role_and_range();
            builder.set("PropertyPolicy", 0_u16).set("ValueRole", role).set("ValueRange", range)
        }
        _ => builder,
    },
};

/// The host to its processors.
pub(in crate::providers) static COMPUTER_PROCESSOR: Association = Association {
    class: "Win32_ComputerSystemProcessor",
    ends: [end("GroupComponent"), end("PartComponent")],
    starts: |_| Box::new(std::iter::once(Element::HostRecord(HostRecord::Computer))),
    forward: |scope, element| match element {
        Element::HostRecord(HostRecord::Computer) => {
            processors(&scope.shared.options).map(Element::HostRecord).collect()
        }
        _ => Vec::new(),
    },
    backward: |_, element| match element {
        Element::HostRecord(HostRecord::Processor(_)) => vec![Element::HostRecord(HostRecord::Computer)],
        _ => Vec::new(),
    },
    fill: ends_only,
};
