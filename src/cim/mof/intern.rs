//! One copy of everything a schema says more than once.
//!
//! Return value maps, `Key`/`Read` lists and whole properties of base classes recur in hundreds of
//! classes and in every namespace; without sharing the schema would be several times as large.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use smol_str::SmolStr;

use crate::cim::{CimValue, MethodDeclaration, PropertyDeclaration, Qualifier, ValueMap};

/// The pool of one compilation.
#[derive(Debug, Default)]
pub(super) struct Interner {
    texts: HashSet<SmolStr>,
    text_arrays: HashMap<Vec<SmolStr>, Arc<[CimValue]>>,
    value_maps: HashSet<Arc<[(SmolStr, SmolStr)]>>,
    qualifiers: HashMap<u64, Vec<Arc<[Qualifier]>>>,
    properties: HashMap<u64, Vec<Arc<PropertyDeclaration>>>,
    methods: HashMap<u64, Vec<Arc<MethodDeclaration>>>,
}

impl Interner {
    pub(super) fn text(&mut self, text: &str) -> SmolStr {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let new = SmolStr::new(text);
        self.texts.insert(new.clone());
        new
    }

    pub(super) fn text_array(&mut self, texts: Vec<SmolStr>) -> CimValue {
        if let Some(known) = self.text_arrays.get(&texts) {
            return CimValue::Array(Arc::clone(known));
        }
        let array: Arc<[CimValue]> = texts.iter().cloned().map(CimValue::String).collect();
        self.text_arrays.insert(texts, Arc::clone(&array));
        CimValue::Array(array)
    }

    pub(super) fn value_map(&mut self, entries: &[(SmolStr, SmolStr)]) -> ValueMap {
        if let Some(known) = self.value_maps.get(entries) {
            return ValueMap { entries: Arc::clone(known) };
        }
        let entries: Arc<[(SmolStr, SmolStr)]> = entries.into();
        self.value_maps.insert(Arc::clone(&entries));
        ValueMap { entries }
    }

    pub(super) fn qualifiers(&mut self, list: Vec<Qualifier>) -> Arc<[Qualifier]> {
        let mut hasher = DefaultHasher::new();
        for qualifier in &list {
            qualifier.name.hash(&mut hasher);
            qualifier.value.as_str().hash(&mut hasher);
        }
        let bucket = self.qualifiers.entry(hasher.finish()).or_default();
        if let Some(known) = bucket.iter().find(|known| ***known == *list) {
            return Arc::clone(known);
        }
        let new: Arc<[Qualifier]> = list.into();
        bucket.push(Arc::clone(&new));
        new
    }

    pub(super) fn property(&mut self, property: PropertyDeclaration) -> Arc<PropertyDeclaration> {
        let mut hasher = DefaultHasher::new();
        (&property.name, &property.class_origin, property.propagated).hash(&mut hasher);
        share(self.properties.entry(hasher.finish()).or_default(), property)
    }

    pub(super) fn method(&mut self, method: MethodDeclaration) -> Arc<MethodDeclaration> {
        let mut hasher = DefaultHasher::new();
        (&method.name, &method.class_origin, method.propagated).hash(&mut hasher);
        share(self.methods.entry(hasher.finish()).or_default(), method)
    }
}

fn share<T: PartialEq>(bucket: &mut Vec<Arc<T>>, new: T) -> Arc<T> {
    if let Some(known) = bucket.iter().find(|known| ***known == new) {
        return Arc::clone(known);
    }
    let new = Arc::new(new);
    bucket.push(Arc::clone(&new));
    new
}
