//! Instances of a class.

use std::sync::Arc;

use super::{CimError, CimStatus, CimValue, ClassDeclaration, KeyValue, ObjectPath, PropertyDeclaration};

/// An instance: a class and one value for each of its properties, inherited ones included.
///
/// INVARIANT: `values.len() == class.properties().len()`, and each value fits its property.
#[derive(Clone, Debug)]
pub struct CimInstance {
    class: Arc<ClassDeclaration>,
    values: Vec<CimValue>,
}

impl PartialEq for CimInstance {
    fn eq(&self, other: &Self) -> bool {
        self.class.name() == other.class.name() && self.values == other.values
    }
}

impl CimInstance {
    /// An instance with the defaults of its class.
    #[must_use]
    pub fn new(class: Arc<ClassDeclaration>) -> Self {
        let values = class.properties().iter().map(|property| property.default_value().clone()).collect();
        Self { class, values }
    }

    /// The class of the instance.
    #[must_use]
    pub const fn class(&self) -> &Arc<ClassDeclaration> {
        &self.class
    }

    /// The value of a property; null as well when the class has no such property.
    #[must_use]
    pub fn get(&self, name: &str) -> &CimValue {
        self.class.property_index(name).and_then(|index| self.values.get(index)).unwrap_or(&CimValue::Null)
    }

    /// The value at a position of [`ClassDeclaration::properties`]; null beyond the last.
    #[must_use]
    pub fn value(&self, index: usize) -> &CimValue {
        self.values.get(index).unwrap_or(&CimValue::Null)
    }

    /// Sets a property.
    ///
    /// # Errors
    /// `CIM_ERR_NO_SUCH_PROPERTY` or `CIM_ERR_TYPE_MISMATCH`.
    pub fn set(&mut self, name: &str, value: impl Into<CimValue>) -> Result<(), CimError> {
        let class = Arc::clone(&self.class);
        let no_such_property =
            || CimError::new(CimStatus::NoSuchProperty, format!("class {} has no property {name}", class.name()));
        let index = class.property_index(name).ok_or_else(no_such_property)?;
        let property = class.properties().get(index).ok_or_else(no_such_property)?;
        let value = value.into();
        if !value.fits(property.cim_type(), property.is_array()) {
            return Err(CimError::new(
                CimStatus::TypeMismatch,
                format!("property {name} of class {} is not of that type", class.name()),
            ));
        }
        if let Some(slot) = self.values.get_mut(index) {
            *slot = value;
        }
        Ok(())
    }

    /// The properties with their values, sorted by name as they go on the wire.
    pub fn properties(&self) -> impl Iterator<Item = (&PropertyDeclaration, &CimValue)> {
        self.class.properties().iter().map(AsRef::as_ref).zip(&self.values)
    }

    /// The path of the instance in `namespace`: its class and its keys, sorted by name.
    #[must_use]
    pub fn path(&self, namespace: &str) -> ObjectPath {
        let mut path = ObjectPath::new(namespace, self.class.name().clone());
        for &index in self.class.key_indexes() {
            if let (Some(property), Some(value)) = (self.class.properties().get(index), self.values.get(index))
                && let Some(key) = KeyValue::from_value(value)
            {
                path.push_key(property.name().clone(), key);
            }
        }
        path
    }

    /// The same instance with its keys and nothing else.
    #[must_use]
    pub fn keys_only(&self) -> Self {
        let value = |(property, value): (&PropertyDeclaration, &CimValue)| {
            if property.is_key { value.clone() } else { CimValue::Null }
        };
        Self { class: Arc::clone(&self.class), values: self.properties().map(value).collect() }
    }

    /// The same instance seen as one of its base classes: only the properties of `base`.
    #[must_use]
    pub fn cast_to(&self, base: &Arc<ClassDeclaration>) -> Self {
        let values = base.properties().iter().map(|property| self.get(property.name().as_str()).clone()).collect();
        Self { class: Arc::clone(base), values }
    }
}

/// Fills an instance and reports the first property that does not exist or fit, at the end.
#[derive(Debug)]
pub struct InstanceBuilder {
    instance: CimInstance,
    error: Option<CimError>,
}

impl InstanceBuilder {
    /// Starts from the defaults of the class.
    #[must_use]
    pub fn new(class: &Arc<ClassDeclaration>) -> Self {
        Self::from_template(CimInstance::new(Arc::clone(class)))
    }

    /// Starts from an instance whose fixed properties are already there.
    #[must_use]
    pub const fn from_template(instance: CimInstance) -> Self {
        Self { instance, error: None }
    }

    /// Sets a property.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<CimValue>) -> Self {
        if let Err(error) = self.instance.set(name, value) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// Sets a property when the class has it; for families of classes that differ in a few properties.
    #[must_use]
    pub fn set_if_declared(self, name: &str, value: impl Into<CimValue>) -> Self {
        if self.instance.class().property_index(name).is_some() { self.set(name, value) } else { self }
    }

    /// The instance.
    ///
    /// # Errors
    /// `CIM_ERR_FAILED` naming the first property that the class does not have or that is of another type.
    pub fn build(self) -> Result<CimInstance, CimError> {
        match self.error {
            None => Ok(self.instance),
            Some(error) => Err(CimError::failed(format!("provider error: {}", error.message()))),
        }
    }
}
