//! Instances as they were written, before they meet their class.
//!
//! CIM-XML, MOF text and WS-CIM elements all decode to [`RawInstance`];
//! [`NamespaceSchema::instantiate`](super::NamespaceSchema::instantiate) converts it by the class, in one place.

use super::{ClassName, ObjectPath, PropertyName};

/// An instance whose values are still text.
#[derive(Clone, Debug, PartialEq)]
pub struct RawInstance {
    /// The class it claims to be of.
    pub class_name: ClassName,
    /// The properties that were given, in order. System properties (`__PATH` …) are left out.
    pub properties: Vec<RawProperty>,
}

/// A property of a [`RawInstance`].
#[derive(Clone, Debug, PartialEq)]
pub struct RawProperty {
    /// Name as written.
    pub name: PropertyName,
    /// Value as written.
    pub value: RawValue,
}

/// A value that has not met its type.
#[derive(Clone, Debug, PartialEq)]
pub enum RawValue {
    /// Explicitly nothing.
    Null,
    /// A scalar in text form.
    Text(String),
    /// A reference.
    Reference(ObjectPath),
    /// An embedded object.
    Instance(Box<RawInstance>),
    /// Several of the above; a single element may still turn out to be an array of one.
    Array(Vec<Self>),
}

impl RawInstance {
    /// The value of a property, if it was given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.properties.iter().find(|property| property.name == name).map(|property| &property.value)
    }
}
