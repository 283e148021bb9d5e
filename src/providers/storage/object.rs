//! The objects of the namespace and their names.

use smol_str::SmolStr;

use crate::cim::{ClassName, KeyValue, ObjectPath, namespace_eq};
use crate::engine::{JobKind, View};
use crate::time::Guid;

/// The namespace as the schema spells it.
pub(in crate::providers) const NAMESPACE: &str = "root/Microsoft/Windows/Storage/SM";

/// The key of every class that is no association.
pub(super) const OBJECT_ID: &str = "ObjectId";

/// A class with instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectClass {
    Capabilities,
    Job,
    Pool,
    Provider,
    ReplicationCapabilities,
    System,
    Volume,
}

/// An instance by identity; whether it is there, the view tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// What the volume manager can do.
    Capabilities,
    /// A job that copies a volume.
    Job(Guid),
    /// A pool.
    Pool(Guid),
    /// The service itself.
    Provider,
    /// Which replicas can be made.
    ReplicationCapabilities,
    /// This host as a storage system.
    System,
    /// A volume, a snapshot among them.
    Volume(Guid),
}

impl ObjectClass {
    /// All of them.
    pub(super) const ALL: [Self; 7] = [
        Self::Capabilities,
        Self::Job,
        Self::Pool,
        Self::Provider,
        Self::ReplicationCapabilities,
        Self::System,
        Self::Volume,
    ];

    /// The CIM class.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Capabilities => "MSFT_SMSystemCapabilities",
            Self::Job => "MSFT_SMJob",
            Self::Pool => "MSFT_SMPool",
            Self::Provider => "MSFT_SMProvider",
            Self::ReplicationCapabilities => "MSFT_SMReplicationCapabilities",
            Self::System => "MSFT_SMSystem",
            Self::Volume => "MSFT_SMStorageVolume",
        }
    }

    /// All objects of the class, in the order of their identities.
    pub(super) fn all(self, view: &View) -> Vec<Object> {
        match self {
            Self::Capabilities => vec![Object::Capabilities],
            Self::Job => {
                view.jobs().filter(|job| job.kind == JobKind::CopyVolume).map(|job| Object::Job(job.id)).collect()
            }
            Self::Pool => view.pools().map(|pool| Object::Pool(pool.id)).collect(),
            Self::Provider => vec![Object::Provider],
            Self::ReplicationCapabilities => vec![Object::ReplicationCapabilities],
            Self::System => vec![Object::System],
            Self::Volume => view.volumes().map(|volume| Object::Volume(volume.id)).collect(),
        }
    }

    /// The object of this class with that `ObjectId`, if the text can be one.
    fn with_id(self, id: &str, host: &str) -> Option<Object> {
        let object = match self {
            Self::Capabilities => Object::Capabilities,
            Self::Job => Object::Job(id.parse().ok()?),
            Self::Pool => Object::Pool(id.parse().ok()?),
            Self::Provider => Object::Provider,
            Self::ReplicationCapabilities => Object::ReplicationCapabilities,
            Self::System => Object::System,
            Self::Volume => Object::Volume(id.parse().ok()?),
        };
        // Also keeps out the spellings of a GUID that are no key here, such as one in braces.
        object.id(host).eq_ignore_ascii_case(id).then_some(object)
    }
}

impl Object {
    /// The CIM class.
    pub(super) const fn class(self) -> ObjectClass {
        match self {
            Self::Capabilities => ObjectClass::Capabilities,
            Self::Job(_) => ObjectClass::Job,
            Self::Pool(_) => ObjectClass::Pool,
            Self::Provider => ObjectClass::Provider,
            Self::ReplicationCapabilities => ObjectClass::ReplicationCapabilities,
            Self::System => ObjectClass::System,
            Self::Volume(_) => ObjectClass::Volume,
        }
    }

    /// The `ObjectId`: a GUID in upper case, or for what exists once the host and a word.
    pub(super) fn id(self, host: &str) -> SmolStr {
        let word = match self {
            Self::Job(id) | Self::Pool(id) | Self::Volume(id) => return SmolStr::new(id.encode(&mut [0; 36])),
            Self::Capabilities => "capabilities",
            Self::Provider => "provider",
            Self::ReplicationCapabilities => "replication-capabilities",
            Self::System => "system",
        };
        smol_str::format_smolstr!("{host}/{word}")
    }

    /// The path with its one key.
    pub(super) fn path(self, host: &str) -> ObjectPath {
        ObjectPath::new(NAMESPACE, ClassName::from_static(self.class().name())).with_key(OBJECT_ID, self.id(host))
    }

    /// The object of `class` a path names; another class, namespace or key is `None`.
    pub(super) fn named(class: ObjectClass, path: &ObjectPath, host: &str) -> Option<Self> {
        if *path.class_name() != class.name() || path.namespace().is_some_and(|name| !namespace_eq(name, NAMESPACE)) {
            return None;
        }
        match path.keys() {
            [(name, KeyValue::Text(id))] if *name == OBJECT_ID => class.with_id(id, host),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_the_object_it_was_made_from() {
        let id = "5C1C2F40-0000-4000-8000-00000000000A".parse().unwrap();
        for object in [
            Object::Capabilities,
            Object::Job(id),
            Object::Pool(id),
            Object::Provider,
            Object::ReplicationCapabilities,
            Object::System,
            Object::Volume(id),
        ] {
            assert_eq!(Object::named(object.class(), &object.path("host1"), "HOST1"), Some(object));
        }
    }

    #[test]
    fn other_classes_namespaces_and_keys_name_nothing() {
        let good = r#"MSFT_SMPool.ObjectId="5c1c2f40-0000-4000-8000-00000000000a""#;
        let named = |text: &str| Object::named(ObjectClass::Pool, &ObjectPath::parse(text).unwrap(), "host1");
        assert!(named(good).is_some());
        for text in [
            r#"MSFT_SMStorageVolume.ObjectId="5C1C2F40-0000-4000-8000-00000000000A""#,
            r#"root/virtualization/v2:MSFT_SMPool.ObjectId="5C1C2F40-0000-4000-8000-00000000000A""#,
            r#"MSFT_SMPool.ObjectId="{5C1C2F40-0000-4000-8000-00000000000A}""#,
            r#"MSFT_SMPool.ObjectId="pool1""#,
            r#"MSFT_SMPool.PoolID="5C1C2F40-0000-4000-8000-00000000000A""#,
            "MSFT_SMPool",
        ] {
            assert_eq!(named(text), None, "{text}");
        }
    }
}
