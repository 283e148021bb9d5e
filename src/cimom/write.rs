//! Changing, making and deleting instances.

use std::sync::Arc;

use crate::cim::{CimError, CimInstance, CimStatus, CimValue, ClassDeclaration, ObjectPath, PropertyName, RawInstance};

use super::{CallContext, ObjectManager, Representation, WriteProvider};

impl ObjectManager {
    /// Whether clients can change, make or delete instances of the class itself, in one way at least.
    #[must_use]
    pub fn is_writable(&self, class: &ClassDeclaration) -> bool {
        self.registry.writes_of(class).is_some()
    }

    /// Types what a client wrote by `class`, whose name the raw instance need not have.
    ///
    /// # Errors
    /// `CIM_ERR_NO_SUCH_PROPERTY`, `CIM_ERR_TYPE_MISMATCH`, or `CIM_ERR_INVALID_PARAMETER` for a value outside of the
    /// value map of its property.
    pub fn represent(&self, class: &Arc<ClassDeclaration>, raw: RawInstance) -> Result<Representation, CimError> {
        let raw = RawInstance { class_name: class.name().clone(), ..raw };
        let instance = self.namespace(class.namespace())?.instantiate(&raw)?;
        let names: Vec<PropertyName> = raw.properties.into_iter().map(|property| property.name).collect();
        for name in &names {
            let value = instance.get(name.as_str());
            let map = class.property(name.as_str()).and_then(|property| property.value_map.as_ref());
            let items = value.as_array().unwrap_or(std::slice::from_ref(value));
            if let Some(map) = map
                && let Some(number) = items.iter().filter_map(CimValue::as_i128).find(|number| !map.contains(*number))
            {
                return Err(CimError::invalid_parameter(format!("property {name} cannot be {number}")));
            }
        }
        Ok(Representation { instance, names })
    }

    /// Gives properties of `current` the values that were given; what is equal is no change.
    ///
    /// # Errors
    /// `CIM_ERR_INVALID_PARAMETER` for a key that differs and for what the provider cannot change,
    /// `CIM_ERR_NOT_SUPPORTED` for a class that cannot be changed.
    pub async fn modify(
        &self,
        cx: &CallContext,
        current: &CimInstance,
        mut given: Representation,
    ) -> Result<(), CimError> {
        let class = current.class();
        let provider = self.writer(class)?;
        given.names.retain(|name| given.instance.get(name.as_str()) != current.get(name.as_str()));
        if let Some(key) = class.keys().find(|key| given.names.contains(&key.name)) {
            let reason = format!("{} is a key of class {} and cannot be changed", key.name, class.name());
            return Err(CimError::invalid_parameter(reason));
        }
        provider.modify(cx, class, &current.path(&cx.namespace), given).await
    }

    /// Makes an instance of `class`; answers its path.
    ///
    /// # Errors
    /// `CIM_ERR_NOT_SUPPORTED` for a class whose instances clients cannot make, and what the provider answers.
    pub async fn create(
        &self,
        cx: &CallContext,
        class: &Arc<ClassDeclaration>,
        given: Representation,
    ) -> Result<ObjectPath, CimError> {
        self.writer(class)?.create(cx, class, given).await
    }

    /// Deletes an instance.
    ///
    /// # Errors
    /// `CIM_ERR_NOT_SUPPORTED` for a class whose instances clients cannot delete, and what the provider answers.
    pub async fn delete(&self, cx: &CallContext, instance: &CimInstance) -> Result<(), CimError> {
        let class = instance.class();
        self.writer(class)?.delete(cx, class, &instance.path(&cx.namespace)).await
    }

    fn writer(&self, class: &ClassDeclaration) -> Result<&Arc<dyn WriteProvider>, CimError> {
        self.registry.writes_of(class).ok_or_else(|| {
            let reason = format!("instances of class {} cannot be changed by clients", class.name());
            CimError::new(CimStatus::NotSupported, reason)
        })
    }
}
