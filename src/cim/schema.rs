//! The compiled schema: namespaces and their classes, immutable after start.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use smol_str::SmolStr;

use super::name::{NameIndex, namespace_eq, normalize_namespace};
use super::{
    CimError, CimInstance, CimStatus, CimType, CimValue, ClassDeclaration, ClassName, ObjectPath, RawInstance, RawValue,
};

/// All namespaces.
#[derive(Debug, Default)]
pub struct Schema {
    namespaces: Vec<Arc<NamespaceSchema>>,
}

/// The classes of one namespace.
#[derive(Debug)]
pub struct NamespaceSchema {
    name: SmolStr,
    classes: Vec<Arc<ClassDeclaration>>,
    index: NameIndex,
    subclasses: HashMap<ClassName, Vec<Arc<ClassDeclaration>>>,
}

impl Schema {
    /// Puts namespaces together; of two with one name the later wins.
    #[must_use]
    pub fn new(namespaces: impl IntoIterator<Item = NamespaceSchema>) -> Self {
        let by_name: BTreeMap<String, Arc<NamespaceSchema>> =
            namespaces.into_iter().map(|schema| (schema.name.to_ascii_lowercase(), Arc::new(schema))).collect();
        Self { namespaces: by_name.into_values().collect() }
    }

    /// The namespace of that name, in any case and with either separator.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Arc<NamespaceSchema>> {
        // There is a handful of namespaces; only a name with backslashes needs a copy.
        let name = normalize_namespace(name);
        self.namespaces.iter().find(|schema| schema.name.eq_ignore_ascii_case(&name))
    }

    /// All namespaces, sorted by name.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<NamespaceSchema>> {
        self.namespaces.iter()
    }
}

impl NamespaceSchema {
    /// Makes a namespace from its resolved classes.
    #[must_use]
    pub fn new(name: SmolStr, classes: impl IntoIterator<Item = Arc<ClassDeclaration>>) -> Self {
        let mut by_name = BTreeMap::new();
        let mut subclasses: HashMap<ClassName, Vec<Arc<ClassDeclaration>>> = HashMap::new();
        for class in classes {
            if let Some(superclass) = class.superclass() {
                subclasses.entry(superclass.name().clone()).or_default().push(Arc::clone(&class));
            }
            by_name.insert(class.name().clone(), class);
        }
        for list in subclasses.values_mut() {
            list.sort_by(|left, right| left.name().cmp(right.name()));
        }
        let classes: Vec<Arc<ClassDeclaration>> = by_name.into_values().collect();
        let index = NameIndex::new(classes.iter().map(|class| class.name().as_str()));
        Self { name, classes, index, subclasses }
    }

    /// The name as declared (`root/virtualization/v2`).
    #[must_use]
    pub const fn name(&self) -> &SmolStr {
        &self.name
    }

    /// A class by name.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&Arc<ClassDeclaration>> {
        self.index
            .find(name, |position| self.classes.get(position).map(|class| class.name().as_str()))
            .and_then(|position| self.classes.get(position))
    }

    /// All classes, sorted by name.
    pub fn classes(&self) -> impl Iterator<Item = &Arc<ClassDeclaration>> {
        self.classes.iter()
    }

    /// The classes derived directly from `name`, sorted by name.
    #[must_use]
    pub fn direct_subclasses(&self, name: &ClassName) -> &[Arc<ClassDeclaration>] {
        self.subclasses.get(name).map_or(&[], Vec::as_slice)
    }

    /// The class itself and everything derived from it, depth first.
    #[must_use]
    pub fn with_subclasses(&self, class: &Arc<ClassDeclaration>) -> Vec<Arc<ClassDeclaration>> {
        let mut found = vec![Arc::clone(class)];
        let mut next = 0;
        while let Some(class) = found.get(next).cloned() {
            found.extend(self.direct_subclasses(class.name()).iter().cloned());
            next += 1;
        }
        found
    }

    /// Converts a raw instance by its class: every value to the type of its property.
    ///
    /// This is the one place where text of an embedded instance meets its types, whatever form it
    /// came in. Names compare without regard to case; values outside the value map are not checked here.
    ///
    /// # Errors
    /// `CIM_ERR_INVALID_CLASS`, `CIM_ERR_NO_SUCH_PROPERTY` or `CIM_ERR_TYPE_MISMATCH`.
    pub fn instantiate(&self, raw: &RawInstance) -> Result<CimInstance, CimError> {
        let class = self.class(raw.class_name.as_str()).ok_or_else(|| {
            CimError::new(CimStatus::InvalidClass, format!("namespace {} has no class {}", self.name, raw.class_name))
        })?;
        let mut instance = CimInstance::new(Arc::clone(class));
        for given in &raw.properties {
            let property = class.property(given.name.as_str()).ok_or_else(|| {
                CimError::new(
                    CimStatus::NoSuchProperty,
                    format!("class {} has no property {}", class.name(), given.name),
                )
            })?;
            let value = self.convert(property.ty, property.is_array, &given.value).map_err(|error| {
                CimError::new(
                    error.status(),
                    format!("property {} of class {}: {}", given.name, class.name(), error.message()),
                )
            })?;
            instance.set(given.name.as_str(), value)?;
        }
        Ok(instance)
    }

    fn convert(&self, ty: CimType, is_array: bool, raw: &RawValue) -> Result<CimValue, CimError> {
        let mismatch = |what: &str| CimError::new(CimStatus::TypeMismatch, format!("{what} instead of a {ty}"));
        if is_array {
            return match raw {
                RawValue::Null => Ok(CimValue::Null),
                RawValue::Array(items) => Ok(CimValue::Array(
                    items.iter().map(|item| self.convert(ty, false, item)).collect::<Result<_, _>>()?,
                )),
                // One element cannot show that it is an array.
                single => Ok(CimValue::Array([self.convert(ty, false, single)?].into())),
            };
        }
        match (ty, raw) {
            (_, RawValue::Null) => Ok(CimValue::Null),
            (CimType::Reference, RawValue::Reference(path)) => Ok(self.name_only_key(path)?.into()),
            (CimType::String, RawValue::Instance(instance)) => {
                Ok(CimValue::Instance(Arc::new(self.instantiate(instance)?)))
            }
            (CimType::Reference, RawValue::Text(text)) => ObjectPath::parse(text)
                .map(Into::into)
                .map_err(|error| CimError::new(CimStatus::TypeMismatch, error.to_string())),
            (ty, RawValue::Text(text)) => {
                CimValue::parse(ty, text).map_err(|error| CimError::new(CimStatus::TypeMismatch, error.to_string()))
            }
            (_, RawValue::Reference(_)) => Err(mismatch("a reference")),
            (_, RawValue::Instance(_)) => Err(mismatch("an embedded instance")),
            (_, RawValue::Array(_)) => Err(mismatch("an array")),
        }
    }

    /// Names the key of a reference that came without its name, which DSP0203 allows for a class with one key.
    fn name_only_key(&self, path: &ObjectPath) -> Result<ObjectPath, CimError> {
        let Some(value) = path.key("") else {
            return Ok(path.clone());
        };
        let unnamed = || {
            let class = path.class_name();
            CimError::new(CimStatus::TypeMismatch, format!("a reference to {class} has a key without its name"))
        };
        let namespace_is_this = path.namespace().is_none_or(|namespace| namespace_eq(namespace, &self.name));
        let class = self.class(path.class_name().as_str()).filter(|_| namespace_is_this).ok_or_else(unnamed)?;
        let mut keys = class.keys();
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err(unnamed());
        };
        let mut named = ObjectPath::relative(path.class_name().clone());
        if let Some(namespace) = path.namespace() {
            named = named.in_namespace(namespace);
        }
        if let Some(host) = path.host() {
            named = named.with_host(host);
        }
        named.push_key(key.name().clone(), value.clone());
        Ok(named)
    }
}
