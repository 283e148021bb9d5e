//! Classes whose instances are elements of the view.

use std::sync::Arc;

use super::element::Element;
use super::scope::{Scope, Shared};
use crate::cim::{CimError, CimInstance, ClassDeclaration, ObjectPath};
use crate::cimom::{CallContext, InstanceProvider, InstanceStream};

/// A class whose instances are elements.
pub(super) trait Family: Send + Sync + 'static {
    /// All elements of the class.
    fn elements(&self, scope: &Scope) -> Vec<Element>;

    /// The instance of an element, or `None` when it is not in the view.
    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError>;
}

/// Serves the instances of a [`Family`].
pub(super) struct Instances<F> {
    shared: Arc<Shared>,
    family: Arc<F>,
}

impl<F: Family> Instances<F> {
    pub(super) fn new(shared: &Arc<Shared>, family: F) -> Self {
        Self { shared: Arc::clone(shared), family: Arc::new(family) }
    }
}

impl<F: Family> InstanceProvider for Instances<F> {
    fn enumerate(&self, cx: &CallContext, _: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        let scope = Scope::new(&self.shared, cx);
        let family = Arc::clone(&self.family);
        // Only identities are collected here; each instance is made when it is asked for.
        let elements = family.elements(&scope);
        Ok(Box::new(elements.into_iter().filter_map(move |element| family.instance(&scope, element).transpose())))
    }

    fn get(
        &self,
        cx: &CallContext,
        class: &Arc<ClassDeclaration>,
        path: &ObjectPath,
    ) -> Result<Option<CimInstance>, CimError> {
        let scope = Scope::new(&self.shared, cx);
        match Element::find(class.name().as_str(), path, &scope) {
            Some(element) => self.family.instance(&scope, element),
            None => Ok(None),
        }
    }
}
