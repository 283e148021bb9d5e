//! `__NAMESPACE`: the namespaces below another one, by which a client walks from `root` to all of them.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::cim::{CimError, ClassDeclaration, InstanceBuilder, Schema};
use crate::cimom::{CallContext, InstanceProvider, InstanceStream};

/// Class of namespaces.
pub(super) const NAMESPACE: &str = "__NAMESPACE";

/// Serves the namespaces below one.
pub(super) struct Namespaces {
    names: Vec<SmolStr>,
}

impl Namespaces {
    /// The namespaces right below the one of that name.
    pub(super) fn below(schema: &Schema, parent: &str) -> Self {
        let child = |name: &SmolStr| {
            let (above, last) = name.rsplit_once('/')?;
            above.eq_ignore_ascii_case(parent).then(|| SmolStr::new(last))
        };
        Self { names: schema.namespaces().filter_map(|namespace| child(namespace.name())).collect() }
    }
}

impl InstanceProvider for Namespaces {
    fn enumerate(&self, _: &CallContext, class: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        let class = Arc::clone(class);
        let names = self.names.clone().into_iter();
        Ok(Box::new(names.map(move |name| InstanceBuilder::new(&class).set("Name", name).build())))
    }
}
