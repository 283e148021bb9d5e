//! Method arguments as the domain understands them.
//!
//! What is missing, or refers to nothing that exists here, is refused with 32773.

use super::answers::{INVALID_PARAMETER, Refusal};
use super::element::{
    COMPUTER_SYSTEM, Element, MANAGEMENT_COLLECTION, REFERENCE_POINT, REFERENCE_POINT_COLLECTION, SETTING_DATA,
    SNAPSHOT_COLLECTION, SYSTEM_COLLECTION, is_local,
};
use super::scope::Scope;
use crate::cim::ObjectPath;
use crate::time::Guid;

/// An argument that must be there.
pub(super) fn required<T>(argument: Option<T>) -> Result<T, Refusal> {
    argument.ok_or(Refusal::Code(INVALID_PARAMETER))
}

/// The element a reference names, if it is of one of the classes, in this namespace and on this host. The class
/// in the reference may be a superclass, and keys that do not identify may be missing (`Name` alone).
pub(super) fn element(scope: &Scope, path: Option<&ObjectPath>, classes: &[&str]) -> Result<Element, Refusal> {
    let path = required(path)?;
    let fits =
        |class: &&&str| scope.shared.schema.class(class).is_some_and(|class| class.is_a(path.class_name().as_str()));
    if !is_local(path, scope) {
        return Err(Refusal::Code(INVALID_PARAMETER));
    }
    required(classes.iter().filter(fits).find_map(|class| Element::find(class, path, scope)))
}

/// A reference to a virtual machine; the host is none.
pub(super) fn system(scope: &Scope, path: Option<&ObjectPath>) -> Result<Guid, Refusal> {
    match element(scope, path, &[COMPUTER_SYSTEM])? {
        Element::System(id) => Ok(id),
        _ => Err(Refusal::Code(INVALID_PARAMETER)),
    }
}

/// A reference to a snapshot; the active settings of a machine are none.
pub(super) fn snapshot(scope: &Scope, path: Option<&ObjectPath>) -> Result<Guid, Refusal> {
    match element(scope, path, &[SETTING_DATA])? {
        Element::Snapshot(id) => Ok(id),
        _ => Err(Refusal::Code(INVALID_PARAMETER)),
    }
}

/// A reference to a collection of either kind.
pub(super) fn collection(scope: &Scope, path: Option<&ObjectPath>) -> Result<Guid, Refusal> {
    match element(scope, path, &[SYSTEM_COLLECTION, MANAGEMENT_COLLECTION])? {
        Element::SystemCollection(id) | Element::ManagementCollection(id) => Ok(id),
        _ => Err(Refusal::Code(INVALID_PARAMETER)),
    }
}

/// A reference to a snapshot collection.
pub(super) fn snapshot_collection(scope: &Scope, path: Option<&ObjectPath>) -> Result<Guid, Refusal> {
    match element(scope, path, &[SNAPSHOT_COLLECTION])? {
        Element::SnapshotCollection(id) => Ok(id),
        _ => Err(Refusal::Code(INVALID_PARAMETER)),
    }
}

/// A reference to a reference point.
pub(super) fn reference_point(scope: &Scope, path: Option<&ObjectPath>) -> Result<Guid, Refusal> {
    match element(scope, path, &[REFERENCE_POINT])? {
        Element::ReferencePoint { point, .. } => Ok(point),
        _ => Err(Refusal::Code(INVALID_PARAMETER)),
    }
}

/// A reference to a reference point collection.
pub(super) fn reference_points(scope: &Scope, path: Option<&ObjectPath>) -> Result<Guid, Refusal> {
    match element(scope, path, &[REFERENCE_POINT_COLLECTION])? {
        Element::ReferencePointCollection { set, .. } => Ok(set),
        _ => Err(Refusal::Code(INVALID_PARAMETER)),
    }
}

/// A reference to something that can be a member of a collection.
pub(super) fn member(scope: &Scope, path: Option<&ObjectPath>) -> Result<Guid, Refusal> {
    match element(scope, path, &[COMPUTER_SYSTEM, SYSTEM_COLLECTION, MANAGEMENT_COLLECTION])? {
        Element::System(id) | Element::SystemCollection(id) | Element::ManagementCollection(id) => Ok(id),
        _ => Err(Refusal::Code(INVALID_PARAMETER)),
    }
}
