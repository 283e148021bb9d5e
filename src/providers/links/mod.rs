//! The associations, one table row each (`snapshot-semantics` §2, §5, §6, §8 and §9).

mod collection;
mod common;
mod device;
mod host;
mod job;
mod profile;
mod reference_point;
mod snapshot;

pub(super) use collection::{COLLECTED_COLLECTIONS, COLLECTED_SNAPSHOTS, COLLECTED_SYSTEMS, SNAPSHOT_OF_COLLECTION};
pub(super) use device::{COMPUTER_PROCESSOR, DEFINED_CAPABILITIES, SYSTEM_DEVICE};
pub(super) use host::{
    COMPONENT_CS, CONCRETE_IDENTITY, ELEMENT_CAPABILITIES, HOSTED_DEPENDENCY, HOSTED_SERVICE, MEMBER_OF_COLLECTION,
    SERVICE_AFFECTS,
};
pub(super) use job::{AFFECTED_JOB_ELEMENT, OWNING_JOB_ELEMENT};
pub(super) use profile::{CLUSTER_CONFORMS, CONFORMS, REFERENCED_PROFILE, STANDALONE_CONFORMS};
pub(super) use reference_point::{COLLECTED_POINTS, EXPORT_SETTINGS, POINT_OF_SYSTEM, POINTS_OF_COLLECTION};
pub(super) use snapshot::{
    LAST_APPLIED, MOST_CURRENT, PARENT_CHILD, SETTING_COMPONENT, SETTINGS_DEFINE_STATE, SNAPSHOT_OF_SYSTEM,
};
