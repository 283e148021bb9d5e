//! Method arguments as the domain understands them.

use super::answers::{INVALID_PARAMETER, Refusal};
use super::element::{
    COMPUTER_SYSTEM, Element, MANAGEMENT_COLLECTION, SETTING_DATA, SNAPSHOT_COLLECTION, SYSTEM_COLLECTION, is_local,
};
use super::scope::Scope;
use crate::cim::{CimValue, ObjectPath};
use crate::cimom::MethodArguments;
use crate::time::Guid;

/// The arguments of one call. What is missing or names nothing that exists is refused with 32773.
pub(super) struct Arguments<'s> {
    scope: &'s Scope,
    given: MethodArguments,
}

impl<'s> Arguments<'s> {
    pub(super) const fn new(scope: &'s Scope, given: MethodArguments) -> Self {
        Self { scope, given }
    }

    /// An argument that may be left out; null then.
    pub(super) fn optional(&mut self, name: &str) -> CimValue {
        self.given.take(name)
    }

    /// An argument that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<CimValue, Refusal> {
        match self.given.take(name) {
            CimValue::Null => Err(Refusal::Code(INVALID_PARAMETER)),
            value => Ok(value),
        }
    }

    /// A number that must be there.
    pub(super) fn number(&mut self, name: &str) -> Result<u64, Refusal> {
        self.required(name)?.as_u64().ok_or(Refusal::Code(INVALID_PARAMETER))
    }

    /// A text that must be there.
    pub(super) fn text(&mut self, name: &str) -> Result<smol_str::SmolStr, Refusal> {
        match self.required(name)? {
            CimValue::String(text) => Ok(text),
            _ => Err(Refusal::Code(INVALID_PARAMETER)),
        }
    }

    /// A reference to an element of one of the classes.
    pub(super) fn element(&mut self, name: &str, classes: &[&str]) -> Result<Element, Refusal> {
        let value = self.required(name)?;
        value.as_reference().and_then(|path| element(self.scope, path, classes)).ok_or(Refusal::Code(INVALID_PARAMETER))
    }

    /// A reference to a virtual machine; the host is none.
    pub(super) fn system(&mut self, name: &str) -> Result<Guid, Refusal> {
        match self.element(name, &[COMPUTER_SYSTEM])? {
            Element::System(id) => Ok(id),
            _ => Err(Refusal::Code(INVALID_PARAMETER)),
        }
    }

    /// A reference to a snapshot; the active settings of a machine are none.
    pub(super) fn snapshot(&mut self, name: &str) -> Result<Guid, Refusal> {
        match self.element(name, &[SETTING_DATA])? {
            Element::Snapshot(id) => Ok(id),
            _ => Err(Refusal::Code(INVALID_PARAMETER)),
        }
    }

    /// A reference to a collection of either kind.
    pub(super) fn collection(&mut self, name: &str) -> Result<Guid, Refusal> {
        match self.element(name, &[SYSTEM_COLLECTION, MANAGEMENT_COLLECTION])? {
            Element::SystemCollection(id) | Element::ManagementCollection(id) => Ok(id),
            _ => Err(Refusal::Code(INVALID_PARAMETER)),
        }
    }

    /// A reference to a snapshot collection.
    pub(super) fn snapshot_collection(&mut self, name: &str) -> Result<Guid, Refusal> {
        match self.element(name, &[SNAPSHOT_COLLECTION])? {
            Element::SnapshotCollection(id) => Ok(id),
            _ => Err(Refusal::Code(INVALID_PARAMETER)),
        }
    }

    /// A reference to something that can be a member of a collection.
    pub(super) fn member(&mut self, name: &str) -> Result<Guid, Refusal> {
        match self.element(name, &[COMPUTER_SYSTEM, SYSTEM_COLLECTION, MANAGEMENT_COLLECTION])? {
            Element::System(id) | Element::SystemCollection(id) | Element::ManagementCollection(id) => Ok(id),
            _ => Err(Refusal::Code(INVALID_PARAMETER)),
        }
    }
}

/// The element a reference names, if it is of one of the classes, in this namespace and on this host. The class
/// in the reference may be a superclass, and keys that do not identify may be missing (`Name` alone).
pub(super) fn element(scope: &Scope, path: &ObjectPath, classes: &[&str]) -> Option<Element> {
    if !is_local(path, scope) {
        return None;
    }
    classes
        .iter()
        .filter(|class| scope.shared.schema.class(class).is_some_and(|class| class.is_a(path.class_name().as_str())))
        .find_map(|class| Element::find(class, path, scope))
}
