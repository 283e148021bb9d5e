//! Which provider serves which class.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cim::{ClassDeclaration, ClassName};

use super::{AssociationProvider, InstanceProvider, MethodProvider, WriteProvider};

/// The providers, filled by `app` at start and read-only afterwards.
#[derive(Default)]
pub struct ProviderRegistry {
    namespaces: HashMap<String, HashMap<ClassName, Entry>>,
}

#[derive(Default)]
struct Entry {
    instances: Option<Arc<dyn InstanceProvider>>,
    associations: Option<Arc<dyn AssociationProvider>>,
    methods: Option<Arc<dyn MethodProvider>>,
    writes: Option<Arc<dyn WriteProvider>>,
}

impl ProviderRegistry {
    /// A registry without providers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers the provider of the instances of a class.
    pub fn instance(&mut self, namespace: &str, class: &str, provider: Arc<dyn InstanceProvider>) {
        self.entry(namespace, class).instances = Some(provider);
    }

    /// Registers the provider of an association class.
    pub fn association(&mut self, namespace: &str, class: &str, provider: Arc<dyn AssociationProvider>) {
        let entry = self.entry(namespace, class);
        entry.instances = Some(Arc::<dyn AssociationProvider>::clone(&provider));
        entry.associations = Some(provider);
    }

    /// Registers the provider of the methods of a class.
    pub fn method(&mut self, namespace: &str, class: &str, provider: Arc<dyn MethodProvider>) {
        self.entry(namespace, class).methods = Some(provider);
    }

    /// Registers the provider that changes, makes and deletes instances of a class.
    pub fn write(&mut self, namespace: &str, class: &str, provider: Arc<dyn WriteProvider>) {
        self.entry(namespace, class).writes = Some(provider);
    }

    pub(super) fn instances_of(&self, class: &ClassDeclaration) -> Option<&Arc<dyn InstanceProvider>> {
        self.find(class)?.instances.as_ref()
    }

    pub(super) fn associations_of(&self, class: &ClassDeclaration) -> Option<&Arc<dyn AssociationProvider>> {
        self.find(class)?.associations.as_ref()
    }

    /// The method provider of the class or of its nearest superclass that has one.
    pub(super) fn methods_of(&self, class: &ClassDeclaration) -> Option<&Arc<dyn MethodProvider>> {
        let own = self.find(class).and_then(|entry| entry.methods.as_ref());
        own.or_else(|| class.ancestors().find_map(|class| self.find(class)?.methods.as_ref()))
    }

    pub(super) fn writes_of(&self, class: &ClassDeclaration) -> Option<&Arc<dyn WriteProvider>> {
        self.find(class)?.writes.as_ref()
    }

    /// Classes with a provider that the schema does not have; `app` refuses to start then.
    #[must_use]
    pub fn unknown_classes(&self, schema: &crate::cim::Schema) -> Vec<String> {
        let mut unknown = Vec::new();
        for (namespace, classes) in &self.namespaces {
            for class in classes.keys() {
                if schema.namespace(namespace).and_then(|schema| schema.class(class.as_str())).is_none() {
                    unknown.push(format!("{namespace}:{class}"));
                }
            }
        }
        unknown.sort();
        unknown
    }

    fn entry(&mut self, namespace: &str, class: &str) -> &mut Entry {
        self.namespaces.entry(namespace.to_owned()).or_default().entry(ClassName::new(class)).or_default()
    }

    fn find(&self, class: &ClassDeclaration) -> Option<&Entry> {
        self.namespaces.get(class.namespace().as_str())?.get(class.name())
    }
}

impl std::fmt::Debug for ProviderRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let classes: usize = self.namespaces.values().map(HashMap::len).sum();
        f.debug_struct("ProviderRegistry").field("classes", &classes).finish()
    }
}
