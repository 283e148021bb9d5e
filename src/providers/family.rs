//! Classes whose instances are elements of the view.

use std::sync::Arc;

use super::element::Element;
use super::scope::{Scope, Shared};
use crate::cim::{CimError, CimInstance, ClassDeclaration, ObjectPath};
use crate::cimom::{CallContext, InstanceProvider, InstanceStream};

/// Elements one after the other.
pub(super) type Elements<'s> = Box<dyn Iterator<Item = Element> + 's>;

/// A class whose instances are elements.
pub(super) trait Family: Send + Sync + 'static {
    /// All elements of the class, always in the same order for one view.
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s>;

    /// The instance of an element, or `None` when it is not in the view.
    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError>;
}

/// Elements of a view, listed in portions: a client that pulls slowly holds one portion and the view, not a list
/// of everything, and the first element is there at once.
pub(super) struct Portions<F> {
    scope: Scope,
    list: F,
    position: usize,
    portion: std::vec::IntoIter<Element>,
}

/// The smallest and the largest portion. Portions grow, because each starts its list from the beginning.
const PORTION: (usize, usize) = (128, 4096);

impl<F: Fn(&Scope, usize, usize) -> Vec<Element>> Portions<F> {
    /// `list` answers the elements after a position, up to a number.
    pub(super) fn new(scope: Scope, list: F) -> Self {
        Self { scope, list, position: 0, portion: Vec::new().into_iter() }
    }
}

impl<F: Fn(&Scope, usize, usize) -> Vec<Element>> Iterator for Portions<F> {
    type Item = Element;

    fn next(&mut self) -> Option<Element> {
        if let Some(element) = self.portion.next() {
            return Some(element);
        }
        let portion = (self.list)(&self.scope, self.position, self.position.clamp(PORTION.0, PORTION.1));
        self.position += portion.len();
        self.portion = portion.into_iter();
        self.portion.next()
    }
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
        let (lister, family) = (Arc::clone(&self.family), Arc::clone(&self.family));
        let elements = Portions::new(scope.clone(), move |scope, skip, limit| {
            lister.elements(scope).skip(skip).take(limit).collect()
        });
        Ok(Box::new(elements.filter_map(move |element| family.instance(&scope, element).transpose())))
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
