//! Reference points, their collections, and the export settings of machines (`snapshot-semantics` §4, §6 and §10).

use std::sync::Arc;

use smol_str::SmolStr;

use super::element::{Element, export_settings_id, guid_text, point_element, points_element, settings_id};
use super::family::{Elements, Family};
use super::scope::Scope;
use crate::cim::{CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder};
use crate::engine::{ConsistencyLevel, ReferencePoint};

/// The `ReferencePointType` of points that stand for tracked changes.
const CHANGE_TRACKING: u16 = 2;

/// Serves the reference points.
pub(super) struct ReferencePoints {
    template: CimInstance,
}

impl ReferencePoints {
    pub(super) fn new(class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let template = InstanceBuilder::new(class)
            .set("Caption", "Reference Point")
            .set("HasAssociatedData", false)
            .set("ReferencePointType", CHANGE_TRACKING)
            .build()?;
        Ok(Self { template })
    }
}

impl Family for ReferencePoints {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        Box::new(scope.view.reference_points().map(|point| point_element(point)))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let Element::ReferencePoint { point, .. } = element else { return Ok(None) };
        let Some(point) = scope.view.reference_point(point) else { return Ok(None) };
        let name = scope.view.system(point.system).map(|system| system.name.clone()).unwrap_or_default();
        // The two lists are parallel, and no entry of either is empty: clients stop at one that is.
        let disks: Vec<SmolStr> = point.disks.iter().map(|disk| SmolStr::new(disk.path.to_string_lossy())).collect();
        let changes: Vec<SmolStr> = point.disks.iter().map(|disk| disk.identifier.clone()).collect();
        InstanceBuilder::from_template(self.template.clone())
            .set("ConsistencyLevel", u16::from(point.consistency.number()))
            .set("Description", description(point))
            .set("ElementName", name)
            .set("InstanceID", settings_id(point.id))
            .set("ResilientChangeTrackingIdentifiers", CimValue::from(changes))
            .set("VirtualDiskIdentifiers", CimValue::from(disks))
            .set("VirtualSystemIdentifier", guid_text(point.system))
            .build()
            .map(Some)
    }
}

/// The class has no property that says whether a point can still be used, so this text does.
const fn description(point: &ReferencePoint) -> &'static str {
    if point.valid {
        "The changes of the virtual disks since this point are tracked"
    } else {
        "The changes of the virtual disks since this point are not known any more; a full backup is needed"
    }
}

/// Serves the reference point collections.
pub(super) struct ReferencePointCollections {
    template: CimInstance,
}

impl ReferencePointCollections {
    pub(super) fn new(class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let template = InstanceBuilder::new(class)
            .set("Caption", "Reference Point Collection")
            .set("Description", "Reference points of all virtual systems of a collection")
            .set("HasAssociatedLog", false)
            .set("ReferencePointType", CHANGE_TRACKING)
            .build()?;
        Ok(Self { template })
    }
}

impl Family for ReferencePointCollections {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        Box::new(scope.view.reference_point_collections().map(|set| points_element(set)))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let Element::ReferencePointCollection { set, .. } = element else { return Ok(None) };
        let Some(set) = scope.view.reference_point_collection(set) else { return Ok(None) };
        // Here 1 is crash consistent and 2 application consistent, other than in the class of the points.
        let level = match set.consistency {
            ConsistencyLevel::Unknown => 0_u16,
            ConsistencyLevel::Crash => 1,
            ConsistencyLevel::Application => 2,
        };
        InstanceBuilder::from_template(self.template.clone())
            .set("CollectionID", guid_text(set.id))
            .set("ConsistencyLevel", level)
            .set("ElementName", set.name.clone())
            .set("VirtualSystemCollectionId", guid_text(set.collection))
            .build()
            .map(Some)
    }
}

/// Serves the export settings: one record a machine, with the defaults that a client changes and sends back.
pub(super) struct ExportSettingData {
    template: CimInstance,
}

impl ExportSettingData {
    pub(super) fn new(class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let template = InstanceBuilder::new(class)
            .set("BackupIntent", 0_u8)
            .set("Caption", "Virtual Machine Export Settings")
            .set("CaptureLiveState", 0_u8)
            .set("CopySnapshotConfiguration", 0_u8)
            .set("CopyVmRuntimeInformation", true)
            .set("CopyVmStorage", true)
            .set("CreateVmExportSubdirectory", true)
            .set("Description", "Settings for the export of the virtual machine")
            .set("DifferentialBackupBase", "")
            .set("DisableDifferentialOfIgnoredStorage", false)
            .set("ExportForLiveMigration", false)
            .set("SnapshotVirtualSystem", "")
            .build()?;
        Ok(Self { template })
    }
}

impl Family for ExportSettingData {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        Box::new(scope.view.systems().map(|system| Element::ExportSettings(system.id)))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let Element::ExportSettings(id) = element else { return Ok(None) };
        let Some(system) = scope.view.system(id) else { return Ok(None) };
        InstanceBuilder::from_template(self.template.clone())
            .set("ElementName", system.name.clone())
            .set("InstanceID", export_settings_id(id))
            .build()
            .map(Some)
    }
}
