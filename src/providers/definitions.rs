//! What machine definitions may state of processors and memory: defaults, limits and steps, as Hyper-V shows those of
//! its settings (`clients.md` part 5, "most processors").
//!
//! For each resource there is a record of what can be allocated, and four settings records that belong to it.

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::devices::{MEMORY, MEMORY_DATA, PROCESSOR, PROCESSOR_DATA};
use super::element::Element;
use super::family::{Elements, Family};
use super::scope::Scope;
use crate::backend::{DEFAULT_MEMORY_MB, DEFAULT_PROCESSORS, MAX_MEMORY_MB, MAX_PROCESSORS};
use crate::cim::{CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder};

/// Class of what can be allocated.
pub(super) const ALLOCATION_CAPABILITIES: &str = "Msvm_AllocationCapabilities";

/// What stands in front of the identities of all these records.
const PREFIX: &str = "Microsoft:Definition";

/// A resource whose amount a definition states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Processors,
    Memory,
}

/// What a record states of the amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    Default,
    Minimum,
    Maximum,
    Increment,
}

/// A settings record that states something of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) resource: Resource,
    pub(super) amount: Amount,
}

impl Resource {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Processors, Self::Memory];

    /// The type of device that the amount is of.
    const fn device(self) -> &'static str {
        match self {
            Self::Processors => PROCESSOR,
            Self::Memory => MEMORY,
        }
    }

    /// The class of its settings records.
    const fn settings_class(self) -> &'static str {
        match self {
            Self::Processors => PROCESSOR_DATA,
            Self::Memory => MEMORY_DATA,
        }
    }

    /// The key of what can be allocated.
    pub(super) fn instance_id(self) -> SmolStr {
        format_smolstr!("{PREFIX}\\{}", self.device())
    }

    /// The resource with that key.
    pub(super) fn find(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.instance_id().eq_ignore_ascii_case(id))
    }

    /// Its settings records.
    pub(super) fn definitions(self) -> impl Iterator<Item = Definition> {
        Amount::ALL.into_iter().map(move |amount| Definition { resource: self, amount })
    }
}

impl Amount {
    const ALL: [Self; 4] = [Self::Default, Self::Minimum, Self::Maximum, Self::Increment];

    const fn name(self) -> &'static str {
        match self {
            Self::Default => "Default",
            Self::Minimum => "Minimum",
            Self::Maximum => "Maximum",
            Self::Increment => "Increment",
        }
    }

    /// `ValueRole` and `ValueRange` of the association: a default is a point, the rest says what is supported.
    pub(super) const fn role_and_range(self) -> (u16, u16) {
        match self {
            Self::Default => (0, 0),
            Self::Minimum => (3, 1),
            Self::Maximum => (3, 2),
            Self::Increment => (3, 3),
        }
    }
}

impl Definition {
    /// The class of the record.
    pub(super) const fn class_name(self) -> &'static str {
        self.resource.settings_class()
    }

    /// The key: `Microsoft:Definition\<type>\Maximum`.
    pub(super) fn instance_id(self) -> SmolStr {
        format_smolstr!("{PREFIX}\\{}\\{}", self.resource.device(), self.amount.name())
    }

    /// The records of a class.
    pub(super) fn of_class(class: &str) -> impl Iterator<Item = Self> {
        Resource::ALL.into_iter().flat_map(Resource::definitions).filter(move |one| one.class_name() == class)
    }

    /// The record with that key.
    pub(super) fn find(id: &str) -> Option<Self> {
        Resource::ALL.into_iter().flat_map(Resource::definitions).find(|one| one.instance_id().eq_ignore_ascii_case(id))
    }

    /// How many processors, or MiB of memory.
    fn quantity(self) -> u64 {
        match (self.resource, self.amount) {
            (_, Amount::Minimum | Amount::Increment) => 1,
            (Resource::Processors, Amount::Default) => u64::from(DEFAULT_PROCESSORS),
            (Resource::Processors, Amount::Maximum) => MAX_PROCESSORS,
            (Resource::Memory, Amount::Default) => DEFAULT_MEMORY_MB,
            (Resource::Memory, Amount::Maximum) => MAX_MEMORY_MB,
        }
    }

    /// Fills a settings record of its class.
    pub(super) fn fill(self, builder: InstanceBuilder) -> InstanceBuilder {
        let builder = builder.set("InstanceID", self.instance_id()).set("VirtualQuantity", self.quantity());
        match (self.resource, self.amount) {
            // Memory is there as a whole.
            (Resource::Memory, _) => builder.set("Reservation", self.quantity()).set("Limit", self.quantity()),
            // The share of a processor is the same for all machines; it has no step.
            (Resource::Processors, Amount::Increment) => ["Reservation", "Limit", "Weight"]
                .into_iter()
                .fold(builder, |builder, name| builder.set(name, CimValue::Null)),
            (Resource::Processors, _) => builder,
        }
    }
}

/// Serves what can be allocated.
pub(super) struct Allocations {
    template: CimInstance,
}

impl Allocations {
    pub(super) fn new(class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let template = InstanceBuilder::new(class)
            .set("Description", "Which amounts machine definitions may state")
            .set("RequestTypesSupported", 3_u16)
            .build()?;
        Ok(Self { template })
    }
}

impl Family for Allocations {
    fn elements<'s>(&'s self, _: &'s Scope) -> Elements<'s> {
        Box::new(Resource::ALL.into_iter().map(Element::Allocation))
    }

    fn instance(&self, _: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let Element::Allocation(resource) = element else { return Ok(None) };
        let (name, number, kind) = match resource {
            Resource::Processors => ("Processor", 3_u16, "Microsoft:Hyper-V:Processor"),
            Resource::Memory => ("Memory", 4_u16, "Microsoft:Hyper-V:Memory"),
        };
        let builder = InstanceBuilder::from_template(self.template.clone())
            .set("Caption", name)
            .set("ElementName", name)
            .set("InstanceID", resource.instance_id())
            .set("ResourceSubType", kind)
            .set("ResourceType", number);
        builder.build().map(Some)
    }
}
