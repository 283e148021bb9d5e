//! The object manager: finds instances by class and keys, walks associations, calls methods.

use std::sync::Arc;

use crate::cim::{
    CimError, CimInstance, CimStatus, CimValue, ClassDeclaration, ClassName, KeyValue, MethodDeclaration,
    NamespaceSchema, ObjectPath, PropertyName, Schema,
};

use super::{CallContext, InstanceStream, MethodArguments, MethodResult, ProviderRegistry};

/// Namespaces, classes and the providers behind them.
#[derive(Debug)]
pub struct ObjectManager {
    pub(super) schema: Arc<Schema>,
    pub(super) registry: ProviderRegistry,
}

/// Why keys do not lead to one instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// A name that is no key of the class.
    #[error("class {class} has no key named {name}")]
    UnexpectedKey {
        /// The class that was asked for.
        class: ClassName,
        /// The name that is no key.
        name: PropertyName,
    },
    /// No key at all.
    #[error("class {0} needs at least one key: {1}")]
    NoKeys(ClassName, String),
    /// A value that is not of the type of its key.
    #[error("key {name} is a {wanted}")]
    TypeMismatch {
        /// The key.
        name: PropertyName,
        /// Its type.
        wanted: &'static str,
    },
    /// The keys fit several instances.
    #[error("the keys fit more than one instance of class {0}")]
    Ambiguous(ClassName),
    /// The keys fit no instance.
    #[error("no instance of class {0} has these keys")]
    NotFound(ClassName),
    /// A provider failed.
    #[error(transparent)]
    Provider(#[from] CimError),
}

/// Which subclasses an enumeration shows and how (DSP0227 §8.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Polymorphism {
    /// Instances of subclasses as what they are.
    #[default]
    IncludeSubClassProperties,
    /// Instances of subclasses with the properties of the class that was asked for.
    ExcludeSubClassProperties,
    /// Only instances of exactly the class.
    None,
}

/// What an association traversal is limited to; names match subclasses too.
#[derive(Clone, Debug, Default)]
pub struct AssociationFilter {
    /// The association class.
    pub association_class: Option<ClassName>,
    /// The class of the far end; of the association itself when references are asked for.
    pub result_class: Option<ClassName>,
    /// The reference property that points to the source.
    pub role: Option<PropertyName>,
    /// The reference property that points to the result.
    pub result_role: Option<PropertyName>,
    /// A qualifier the association class must have.
    pub required_association_qualifier: Option<ClassName>,
    /// A qualifier the result class must have.
    pub required_qualifier: Option<ClassName>,
}

impl ObjectManager {
    /// Puts schema and providers together.
    #[must_use]
    pub const fn new(schema: Arc<Schema>, registry: ProviderRegistry) -> Self {
        Self { schema, registry }
    }

    /// The compiled schema.
    #[must_use]
    pub const fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// A namespace by name.
    ///
    /// # Errors
    /// `CIM_ERR_INVALID_NAMESPACE`.
    pub fn namespace(&self, name: &str) -> Result<&Arc<NamespaceSchema>, CimError> {
        self.schema
            .namespace(name)
            .ok_or_else(|| CimError::new(CimStatus::InvalidNamespace, format!("there is no namespace {name}")))
    }

    /// A class by namespace and name.
    ///
    /// # Errors
    /// `CIM_ERR_INVALID_NAMESPACE` or `CIM_ERR_INVALID_CLASS`.
    pub fn class(&self, namespace: &str, name: &str) -> Result<&Arc<ClassDeclaration>, CimError> {
        let namespace = self.namespace(namespace)?;
        namespace.class(name).ok_or_else(|| {
            CimError::new(CimStatus::InvalidClass, format!("namespace {} has no class {name}", namespace.name()))
        })
    }

    /// The one instance of `class` or of a subclass that has the keys of `path`; the class name in
    /// the path is not looked at. Keys may be left out as long as one instance remains
    /// (`ws-management.md` §3.3 rules 3 and 10).
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn find(
        &self,
        cx: &CallContext,
        class: &Arc<ClassDeclaration>,
        path: &ObjectPath,
    ) -> Result<CimInstance, LookupError> {
        let namespace = self.namespace(class.namespace())?;
        let classes = namespace.with_subclasses(class);
        for (name, value) in path.keys() {
            check_key(&classes, class, name, value)?;
        }
        if path.keys().is_empty() && classes.iter().any(|class| class.keys().next().is_some()) {
            let keys: Vec<&str> = classes
                .iter()
                .find(|class| class.keys().next().is_some())
                .map_or_else(Vec::new, |class| class.keys().map(|key| key.name.as_str()).collect());
            return Err(LookupError::NoKeys(class.name().clone(), keys.join(", ")));
        }
        let mut found: Option<CimInstance> = None;
        for candidate in &classes {
            for instance in self.matching(cx, candidate, path)? {
                if found.replace(instance).is_some() {
                    return Err(LookupError::Ambiguous(class.name().clone()));
                }
            }
        }
        found.ok_or_else(|| LookupError::NotFound(class.name().clone()))
    }

    /// Up to two instances of exactly `class` that have the given keys.
    fn matching(
        &self,
        cx: &CallContext,
        class: &Arc<ClassDeclaration>,
        path: &ObjectPath,
    ) -> Result<Vec<CimInstance>, CimError> {
        let Some(provider) = self.registry.instances_of(class) else { return Ok(Vec::new()) };
        let keys: Vec<&PropertyName> = class.keys().map(|key| &key.name).collect();
        if path.keys().iter().any(|(name, _)| !keys.contains(&name)) {
            return Ok(Vec::new());
        }
        if keys.len() == path.keys().len() {
            return Ok(provider.get(cx, class, path)?.into_iter().collect());
        }
        let mut found = Vec::new();
        for instance in provider.enumerate(cx, class)? {
            let instance = instance?;
            let own = instance.path(&cx.namespace);
            if path.keys().iter().all(|(name, value)| own.key(name.as_str()) == Some(value)) {
                found.push(instance);
                if found.len() == 2 {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The instance a reference names, or `None`; its class may be any superclass.
    ///
    /// # Errors
    /// A [`CimError`] when a provider fails.
    pub fn resolve(&self, cx: &CallContext, path: &ObjectPath) -> Result<Option<CimInstance>, CimError> {
        let namespace = path.namespace().unwrap_or(&cx.namespace);
        let Some(class) = self.schema.namespace(namespace).and_then(|schema| schema.class(path.class_name().as_str()))
        else {
            return Ok(None);
        };
        let other = CallContext { namespace: class.namespace().clone(), ..cx.clone() };
        match self.find(&other, class, path) {
            Ok(instance) => Ok(Some(instance)),
            Err(LookupError::Provider(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The instances of a class, with or without those of its subclasses.
    ///
    /// # Errors
    /// A [`CimError`] when a provider cannot list anything.
    pub fn enumerate(
        &self,
        cx: &CallContext,
        class: &Arc<ClassDeclaration>,
        polymorphism: Polymorphism,
    ) -> Result<InstanceStream, CimError> {
        if polymorphism == Polymorphism::None {
            return self.enumerate_exact(cx, class);
        }
        let classes = self.namespace(class.namespace())?.with_subclasses(class);
        let mut streams = Vec::new();
        for class in classes.iter().filter(|class| self.registry.instances_of(class).is_some()) {
            streams.push(self.enumerate_exact(cx, class)?);
        }
        let all: InstanceStream = match streams.len() {
            1 => streams.pop().unwrap_or_else(|| Box::new(std::iter::empty())),
            _ => Box::new(streams.into_iter().flatten()),
        };
        if polymorphism == Polymorphism::ExcludeSubClassProperties {
            let base = Arc::clone(class);
            return Ok(Box::new(all.map(move |instance| Ok(instance?.cast_to(&base)))));
        }
        Ok(all)
    }

    fn enumerate_exact(&self, cx: &CallContext, class: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        match self.registry.instances_of(class) {
            Some(provider) => provider.enumerate(cx, class),
            None => Ok(Box::new(std::iter::empty())),
        }
    }

    /// The association instances that point to `source`, whose path must be complete and of its real class.
    ///
    /// # Errors
    /// A [`CimError`] when a provider fails.
    pub fn references(
        &self,
        cx: &CallContext,
        source: &CimInstance,
        filter: &AssociationFilter,
    ) -> Result<Vec<CimInstance>, CimError> {
        let path = source.path(&cx.namespace);
        let mut found = Vec::new();
        for class in self.association_classes(cx, source, filter.result_class.as_ref(), filter)? {
            if let Some(provider) = self.registry.associations_of(&class) {
                for instance in provider.references(cx, &class, &path, filter.role.as_ref())? {
                    found.push(instance?);
                }
            }
        }
        Ok(found)
    }

    /// The instances at the other ends of the associations of `source`, each once.
    ///
    /// # Errors
    /// A [`CimError`] when a provider fails.
    pub fn associators(
        &self,
        cx: &CallContext,
        source: &CimInstance,
        filter: &AssociationFilter,
    ) -> Result<Vec<CimInstance>, CimError> {
        let path = source.path(&cx.namespace);
        let mut found: Vec<(ObjectPath, CimInstance)> = Vec::new();
        for class in self.association_classes(cx, source, filter.association_class.as_ref(), filter)? {
            let Some(provider) = self.registry.associations_of(&class) else { continue };
            for association in provider.references(cx, &class, &path, filter.role.as_ref())? {
                for end in far_ends(&association?, &path, filter) {
                    if found.iter().any(|(known, _)| *known == end) {
                        continue;
                    }
                    // An end that has just gone is left out.
                    let Some(instance) = self.resolve(cx, &end)? else { continue };
                    if fits(instance.class(), filter) {
                        found.push((end, instance));
                    }
                }
            }
        }
        Ok(found.into_iter().map(|(_, instance)| instance).collect())
    }

    /// The association classes that can hold a reference to `source`.
    fn association_classes(
        &self,
        cx: &CallContext,
        source: &CimInstance,
        wanted: Option<&ClassName>,
        filter: &AssociationFilter,
    ) -> Result<Vec<Arc<ClassDeclaration>>, CimError> {
        let namespace = self.namespace(&cx.namespace)?;
        let mut classes: Vec<Arc<ClassDeclaration>> = namespace
            .classes()
            .filter(|class| {
                class.is_association()
                    && self.registry.associations_of(class).is_some()
                    && wanted.is_none_or(|name| class.is_a(name.as_str()))
                    && filter
                        .required_association_qualifier
                        .as_ref()
                        .is_none_or(|name| class.qualifier(name.as_str()).is_some())
                    && class.properties().iter().any(|property| {
                        property.reference_class.as_ref().is_some_and(|end| source.class().is_a(end.as_str()))
                            && filter.role.as_ref().is_none_or(|role| *role == property.name)
                    })
            })
            .cloned()
            .collect();
        classes.sort_by(|left, right| left.name().cmp(right.name()));
        Ok(classes)
    }

    /// Calls a method of `instance`; the method is looked up in its real class.
    ///
    /// # Errors
    /// `CIM_ERR_METHOD_NOT_AVAILABLE` when nothing carries out the methods of the class, or what the
    /// provider answers.
    pub async fn invoke(
        &self,
        cx: &CallContext,
        class: &Arc<ClassDeclaration>,
        target: &ObjectPath,
        method: &MethodDeclaration,
        arguments: MethodArguments,
    ) -> Result<MethodResult, CimError> {
        let provider = self.registry.methods_of(class).ok_or_else(|| {
            CimError::new(
                CimStatus::MethodNotAvailable,
                format!("method {} of class {} is not available", method.name, class.name()),
            )
        })?;
        provider.invoke(cx, class, target, method, arguments).await
    }
}

/// Checks that a key exists in one of the classes and that its text is of the key's type.
fn check_key(
    classes: &[Arc<ClassDeclaration>],
    class: &ClassDeclaration,
    name: &PropertyName,
    value: &KeyValue,
) -> Result<(), LookupError> {
    let key = classes
        .iter()
        .find_map(|class| class.property(name.as_str()).filter(|property| property.is_key))
        .ok_or_else(|| LookupError::UnexpectedKey { class: class.name().clone(), name: name.clone() })?;
    let fits = match value {
        KeyValue::Reference(_) => key.reference_class.is_some(),
        KeyValue::Text(text) => key.reference_class.is_some() || CimValue::parse(key.ty, text).is_ok(),
    };
    if fits { Ok(()) } else { Err(LookupError::TypeMismatch { name: name.clone(), wanted: key.ty.name() }) }
}

/// The references of an association instance that do not point back to the source.
fn far_ends(association: &CimInstance, source: &ObjectPath, filter: &AssociationFilter) -> Vec<ObjectPath> {
    let mut source_seen = false;
    let mut ends = Vec::new();
    for (property, value) in association.properties() {
        let CimValue::Reference(path) = value else { continue };
        let is_source_role = filter.role.as_ref().is_none_or(|role| *role == property.name);
        if !source_seen && is_source_role && **path == *source {
            source_seen = true;
        } else if filter.result_role.as_ref().is_none_or(|role| *role == property.name) {
            ends.push((**path).clone());
        }
    }
    ends
}

fn fits(class: &ClassDeclaration, filter: &AssociationFilter) -> bool {
    filter.result_class.as_ref().is_none_or(|name| class.is_a(name.as_str()))
        && filter.required_qualifier.as_ref().is_none_or(|name| class.qualifier(name.as_str()).is_some())
}
