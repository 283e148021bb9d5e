//! One call that makes the namespace live.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::cim::{CimError, CimStatus, ClassDeclaration, Schema};
use crate::cimom::{InstanceProvider, ProviderRegistry};
use crate::engine::{Engine, Gate};

use super::association::{Association, Links};
use super::instance::{Objects, Storage};
use super::method::{Methods, VolumeWrites};
use super::object::{NAMESPACE, ObjectClass};

/// The class of error details.
const EXTENDED_STATUS: &str = "MSFT_SMExtendedStatus";

/// Registers the providers of `root/Microsoft/Windows/Storage/SM`; `host` names this storage system.
///
/// # Errors
/// A [`CimError`] when the schema lacks a class or property the providers need.
pub fn register(
    registry: &mut ProviderRegistry,
    schema: &Schema,
    engine: Arc<Engine>,
    host: &str,
) -> Result<(), CimError> {
    let engine = Gate::new(engine);
    let storage = Arc::new(Storage { engine, host: SmolStr::new(host) });
    let methods = Arc::new(Methods::new(Arc::clone(&storage), class(schema, EXTENDED_STATUS)?));
    for kind in ObjectClass::ALL {
        let declaration = class(schema, kind.name())?;
        let provider: Arc<dyn InstanceProvider> = Arc::new(Objects::new(&storage, kind, &declaration)?);
        registry.instance(NAMESPACE, kind.name(), provider);
        if !declaration.methods().is_empty() {
            registry.method(NAMESPACE, kind.name(), Arc::<Methods>::clone(&methods));
        }
    }
    let writes = VolumeWrites { storage: Arc::clone(&storage) };
    registry.write(NAMESPACE, ObjectClass::Volume.name(), Arc::new(writes));
    for association in Association::ALL {
        let links = Links::new(&storage, association, &class(schema, association.name())?)?;
        registry.association(NAMESPACE, association.name(), Arc::new(links));
    }
    Ok(())
}

fn class(schema: &Schema, name: &str) -> Result<Arc<ClassDeclaration>, CimError> {
    schema
        .namespace(NAMESPACE)
        .and_then(|namespace| namespace.class(name))
        .cloned()
        .ok_or_else(|| CimError::new(CimStatus::InvalidClass, format!("namespace {NAMESPACE} has no class {name}")))
}
