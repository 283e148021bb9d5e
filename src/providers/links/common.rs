//! Where several associations start.

use crate::engine::CollectionKind;
use crate::providers::collections::collections;
use crate::providers::computer_system::systems;
use crate::providers::element::{Element, collection_element};
use crate::providers::family::Elements;
use crate::providers::scope::Scope;

/// Every machine.
pub(super) fn each_system(scope: &Scope) -> Elements<'_> {
    Box::new(systems(scope))
}

/// Every collection of one kind.
pub(super) fn each_collection(scope: &Scope, kind: CollectionKind) -> Elements<'_> {
    Box::new(collections(scope, kind).map(move |collection| collection_element(collection.id, kind)))
}

/// The host alone.
pub(super) fn only_host(_: &Scope) -> Elements<'_> {
    Box::new(std::iter::once(Element::Host))
}

/// All machines.
pub(super) fn all_systems(scope: &Scope) -> Vec<Element> {
    systems(scope).collect()
}

/// None or one.
pub(super) fn one(element: Option<Element>) -> Vec<Element> {
    element.into_iter().collect()
}
