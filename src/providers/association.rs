//! Association classes as functions from elements to elements.

use std::sync::Arc;

use super::element::Element;
use super::family::{Elements, Portions};
use super::scope::{Scope, Shared};
use crate::cim::{CimError, CimInstance, ClassDeclaration, InstanceBuilder, ObjectPath, PropertyName};
use crate::cimom::{AssociationProvider, CallContext, InstanceProvider, InstanceStream};

/// One end of an association.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The reference property.
    pub(super) property: &'static str,
    /// The namespace the end lives in, if it is not that of the association.
    pub(super) namespace: Option<&'static str>,
}

/// An end in the namespace of the association.
pub(super) const fn end(property: &'static str) -> End {
    End { property, namespace: None }
}

/// An association class.
///
/// INVARIANT: `forward` of an element has another in it exactly when `backward` of the other has the first.
/// Both answer nothing for an element of a kind that cannot stand at their end.
pub(super) struct Association {
    /// The class.
    pub(super) class: &'static str,
    /// The reference properties: where `forward` starts and where it leads.
    pub(super) ends: [End; 2],
    /// Everything that may stand at the first end.
    pub(super) starts: fn(&Scope) -> Elements<'_>,
    /// From the first end to the second.
    pub(super) forward: fn(&Scope, Element) -> Vec<Element>,
    /// From the second end to the first.
    pub(super) backward: fn(&Scope, Element) -> Vec<Element>,
    /// Sets what else the class has.
    pub(super) fill: fn(&Scope, InstanceBuilder, [Element; 2]) -> InstanceBuilder,
}

/// For classes that have nothing but their ends.
pub(super) fn ends_only(_: &Scope, builder: InstanceBuilder, _: [Element; 2]) -> InstanceBuilder {
    builder
}

/// Serves an [`Association`] in one namespace.
pub(super) struct Associations {
    shared: Arc<Shared>,
    association: &'static Association,
    template: Arc<CimInstance>,
}

impl Associations {
    pub(super) fn new(shared: &Arc<Shared>, association: &'static Association, class: &Arc<ClassDeclaration>) -> Self {
        let template = Arc::new(CimInstance::new(Arc::clone(class)));
        Self { shared: Arc::clone(shared), association, template }
    }

    /// Makes the instances of pairs, one at a time.
    fn stream(&self, scope: Scope, pairs: impl Iterator<Item = [Element; 2]> + Send + 'static) -> InstanceStream {
        let (association, template) = (self.association, Arc::clone(&self.template));
        Box::new(pairs.map(move |pair| instance(&scope, association, &template, pair)))
    }
}

fn instance(
    scope: &Scope,
    association: &Association,
    template: &CimInstance,
    pair: [Element; 2],
) -> Result<CimInstance, CimError> {
    let [first, second] = association.ends;
    let path = |element: Element, end: End| element.path_in(scope, end.namespace.unwrap_or(&scope.namespace));
    let builder = InstanceBuilder::from_template(template.clone())
        .set(first.property, path(pair[0], first))
        .set(second.property, path(pair[1], second));
    (association.fill)(scope, builder, pair).build()
}

impl InstanceProvider for Associations {
    fn enumerate(&self, cx: &CallContext, _: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        let scope = Scope::new(&self.shared, cx);
        let (of_starts, association) = (scope.clone(), self.association);
        let starts = Portions::new(scope.clone(), move |scope, skip, limit| {
            (association.starts)(scope).skip(skip).take(limit).collect()
        });
        let pairs = starts.flat_map(move |first| {
            (association.forward)(&of_starts, first).into_iter().map(move |second| [first, second])
        });
        Ok(self.stream(scope, pairs))
    }

    fn get(
        &self,
        cx: &CallContext,
        _: &Arc<ClassDeclaration>,
        path: &ObjectPath,
    ) -> Result<Option<CimInstance>, CimError> {
        let scope = Scope::new(&self.shared, cx);
        let [Some(first), Some(second)] = self.association.ends.map(|end| element_at(&scope, path, end)) else {
            return Ok(None);
        };
        if !(self.association.forward)(&scope, first).contains(&second) {
            return Ok(None);
        }
        instance(&scope, self.association, &self.template, [first, second]).map(Some)
    }
}

/// The element the key of an end refers to; the key may be a reference or an object path as text.
fn element_at(scope: &Scope, path: &ObjectPath, end: End) -> Option<Element> {
    let key = path.key(end.property)?;
    let parsed;
    let reference = match key {
        crate::cim::KeyValue::Reference(reference) => reference.as_ref(),
        crate::cim::KeyValue::Text(text) => {
            parsed = ObjectPath::parse(text).ok()?;
            &parsed
        }
    };
    let expected = end.namespace.unwrap_or(&scope.namespace);
    let here = reference.namespace().is_none_or(|namespace| crate::cim::namespace_eq(namespace, expected))
        && reference.host().is_none_or(|host| scope.is_this_host(host));
    if here { Element::find(reference.class_name().as_str(), reference, scope) } else { None }
}

impl AssociationProvider for Associations {
    fn references(
        &self,
        cx: &CallContext,
        _: &Arc<ClassDeclaration>,
        source: &ObjectPath,
        role: Option<&PropertyName>,
    ) -> Result<InstanceStream, CimError> {
        let scope = Scope::new(&self.shared, cx);
        let Some(element) = Element::find(source.class_name().as_str(), source, &scope) else {
            return Ok(Box::new(std::iter::empty()));
        };
        // An end in another namespace is never the source: a request has one namespace.
        let starts_at = |end: End| {
            role.is_none_or(|role| *role == end.property)
                && end.namespace.is_none_or(|namespace| crate::cim::namespace_eq(namespace, &scope.namespace))
        };
        let [first, second] = self.association.ends.map(starts_at);
        let mut pairs: Vec<[Element; 2]> = Vec::new();
        if first {
            pairs.extend((self.association.forward)(&scope, element).into_iter().map(|other| [element, other]));
        }
        if second {
            for other in (self.association.backward)(&scope, element) {
                // An element linked to itself is one instance, not two.
                if !pairs.contains(&[other, element]) {
                    pairs.push([other, element]);
                }
            }
        }
        Ok(self.stream(scope, pairs.into_iter()))
    }
}
