//! What every answer is made from: one view of the engine and the names of this host.

use std::sync::Arc;

use smol_str::SmolStr;

use super::ProviderOptions;
use crate::cim::{CimError, CimStatus, ClassDeclaration, NamespaceSchema};
use crate::cimom::CallContext;
use crate::engine::{Gate, View};
use crate::time::Timestamp;

/// Namespace of the classes of a single host.
pub(super) const HOST_NAMESPACE: &str = "root/virtualization/v2";
/// Namespace of the classes of a cluster; this host serves it as a cluster of one.
pub(super) const CLUSTER_NAMESPACE: &str = "root/HyperVCluster/v2";
/// Namespace of the host itself.
pub(super) const CIMV2_NAMESPACE: &str = "root/cimv2";
/// Namespace of the profiles.
pub(super) const INTEROP_NAMESPACE: &str = "root/interop";
/// Namespace of the server's own description.
pub(super) const OMI_NAMESPACE: &str = "root/omi";

/// What all providers of one namespace share.
pub(super) struct Shared {
    pub(super) engine: Arc<Gate>,
    pub(super) options: ProviderOptions,
    pub(super) schema: Arc<NamespaceSchema>,
}

impl Shared {
    /// A class of the namespace.
    pub(super) fn class(&self, name: &str) -> Result<&Arc<ClassDeclaration>, CimError> {
        self.schema.class(name).ok_or_else(|| {
            CimError::new(CimStatus::InvalidClass, format!("namespace {} has no class {name}", self.schema.name()))
        })
    }
}

/// The circumstances of one answer. All of it comes from the same instant.
#[derive(Clone)]
pub(super) struct Scope {
    pub(super) shared: Arc<Shared>,
    pub(super) view: Arc<View>,
    pub(super) namespace: SmolStr,
    pub(super) now: Timestamp,
}

impl Scope {
    pub(super) fn new(shared: &Arc<Shared>, cx: &CallContext) -> Self {
        let view = shared.engine.view(&cx.principal);
        Self { shared: Arc::clone(shared), view, namespace: cx.namespace.clone(), now: cx.now }
    }

    /// The name of this host.
    pub(super) fn host(&self) -> &SmolStr {
        &self.shared.options.host_name
    }

    /// Whether a text names this host. In a path a point or `localhost` stands for it as well.
    pub(super) fn is_this_host(&self, name: &str) -> bool {
        let options = &self.shared.options;
        let mut names = std::iter::once(&options.host_name).chain(&options.aliases);
        [".", "localhost"].contains(&name) || names.any(|known| known.eq_ignore_ascii_case(name))
    }
}
