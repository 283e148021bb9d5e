//! `Msvm_VirtualEthernetSwitch`: the bridges of the host that network cards of machines are connected to.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::{Builder, Uuid};

use super::element::{Element, guid_text};
use super::family::{Elements, Family};
use super::scope::Scope;
use crate::cim::{CimError, CimInstance, ClassDeclaration, InstanceBuilder};
use crate::engine::View;
use crate::time::Guid;

/// Class of switches.
pub(super) const SWITCH: &str = "Msvm_VirtualEthernetSwitch";

/// A GUID made of a name: always the same for the same name.
pub(super) fn guid_of(name: &str) -> Guid {
    // FNV-1a of 128 bits.
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = name.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    let uuid: Uuid = Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid();
    Guid::from_uuid(uuid)
}

/// A switch, known by the GUID that stands for the name of its bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switch(pub(super) Guid);

impl Switch {
    /// The switch that a bridge is. A bridge has no GUID of its own, so one is made of its name.
    pub(super) fn named(bridge: &str) -> Self {
        Self(guid_of(bridge))
    }

    /// The name of its bridge, if a machine or snapshot in the view is connected to it.
    fn bridge(self, view: &View) -> Option<&str> {
        cards_on_bridges(view).find(|bridge| Self::named(bridge) == self)
    }

    /// The switch of that GUID, if it is one.
    pub(super) fn find(id: Guid, view: &View) -> Option<Self> {
        let switch = Self(id);
        switch.bridge(view).map(|_| switch)
    }
}

/// The bridges of all cards, as often as they are named.
fn cards_on_bridges(view: &View) -> impl Iterator<Item = &str> {
    let of_systems = view.systems().map(|system| &system.ports);
    let ports = of_systems.chain(view.snapshots().map(|snapshot| &snapshot.ports));
    ports.flat_map(|ports| &ports.networks).filter_map(|card| card.bridge.as_deref())
}

/// Serves the switches.
pub(super) struct Switches {
    template: CimInstance,
}

impl Switches {
    pub(super) fn new(class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let template = InstanceBuilder::new(class)
            .set("Caption", "Virtual Switch")
            .set("CreationClassName", SWITCH)
            .set("Dedicated", [38_u16])
            .set("Description", "Bridge of the host")
            .set("EnabledState", 5_u16)
            .set("HealthState", 5_u16)
            .set("OperationalStatus", [2_u16])
            .set("ResetCapability", 5_u16)
            .set("Status", "OK")
            .set("StatusDescriptions", ["OK"])
            .build()?;
        Ok(Self { template })
    }
}

impl Family for Switches {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        let bridges: BTreeSet<&str> = cards_on_bridges(&scope.view).collect();
        Box::new(bridges.into_iter().map(|bridge| Element::Switch(Switch::named(bridge))))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let Element::Switch(switch) = element else { return Ok(None) };
        let Some(bridge) = switch.bridge(&scope.view) else { return Ok(None) };
        let builder = InstanceBuilder::from_template(self.template.clone())
            .set("ElementName", bridge)
            .set("Name", guid_text(switch.0));
        builder.build().map(Some)
    }
}
