//! `Wsnapd_SnapshotOutcome`: what was reached when a snapshot was taken. A class of our own, because no class of
//! Hyper-V has a place for it.

use std::sync::Arc;

use super::element::{Element, guid_text, settings_id};
use super::family::{Elements, Family};
use super::scope::Scope;
use crate::cim::{CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder};

/// Serves the outcomes.
pub(super) struct SnapshotOutcomes {
    template: CimInstance,
}

impl SnapshotOutcomes {
    pub(super) fn new(class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let template = InstanceBuilder::new(class)
            .set("Caption", "Snapshot Outcome")
            .set("Description", "What was reached when the snapshot was taken")
            .build()?;
        Ok(Self { template })
    }
}

impl Family for SnapshotOutcomes {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        Box::new(scope.view.snapshots().map(|snapshot| Element::SnapshotOutcome(snapshot.id)))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let Element::SnapshotOutcome(id) = element else { return Ok(None) };
        let Some(snapshot) = scope.view.snapshot(id) else { return Ok(None) };
        InstanceBuilder::from_template(self.template.clone())
            .set("ChangesTracked", !snapshot.tracking.is_empty() && !snapshot.tracking_lost)
            .set("ConsistencyLevel", snapshot.consistency.number())
            .set("ElementName", snapshot.name.clone())
            .set("FrozenTime", snapshot.frozen_ms)
            .set("InstanceID", settings_id(id))
            .set("PausedTime", snapshot.paused_ms)
            .set("RequestedConsistencyLevel", snapshot.wanted_consistency.number())
            .set("SkippedDisks", CimValue::from(snapshot.skipped_disks.clone()))
            .set("VirtualSystemIdentifier", guid_text(snapshot.system))
            .build()
            .map(Some)
    }
}
