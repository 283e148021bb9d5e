//! Queries whose results are classes (`ws-management.md` §8.1, §12): the filters of the resource of class definitions.

use std::sync::Arc;

use crate::cim::wql::{Query, SystemProperties};
use crate::cim::{ClassDeclaration, NamespaceSchema, ObjectPath};
use crate::cimom::{AssociationFilter, CallContext};
use crate::soap::Fault;
use crate::xml::{Fragment, Ns};

use super::filter::{WQL, associators_filter, cannot_process, is_wql, references_filter, text_of, unknown_dialect};
use super::service::Service;

/// The dialects a client is told of when it asks for another one.
const SUPPORTED: &[&str] = &[WQL];

/// The classes that selectors and options choose, before the filter.
pub(super) struct ClassList<'s> {
    pub(super) cx: CallContext,
    pub(super) schema: &'s Arc<NamespaceSchema>,
    pub(super) listed: Vec<Arc<ClassDeclaration>>,
    /// Whether a class is named whose subclasses these are.
    pub(super) is_part: bool,
}

impl Service {
    /// The classes that a filter leaves over or finds.
    ///
    /// A query for classes tries those of the list. An association query with `ClassDefsOnly` starts from an
    /// instance and finds the classes of what it is associated with, or of the associations, each once.
    pub(super) fn filtered_classes(
        &self,
        list: ClassList<'_>,
        filter: &Fragment<'_>,
    ) -> Result<Vec<Arc<ClassDeclaration>>, Fault> {
        let (_, element) = filter.open().map_err(|error| cannot_process(&error.to_string()))?;
        let dialect = element.attribute(Ns::None, "Dialect").unwrap_or_default().trim();
        if !is_wql(dialect) {
            return Err(unknown_dialect(dialect, SUPPORTED));
        }
        let query: Query = text_of(filter)?.parse().map_err(|error| cannot_process(&format!("{error}")))?;
        match query {
            Query::Classes(query) => {
                let query = query.bind(list.schema).map_err(|error| cannot_process(&error.to_string()))?;
                let system = SystemProperties { server: &self.options.machine, namespace: list.schema.name() };
                let mut classes = list.listed;
                classes.retain(|class| query.matches(class, &system));
                Ok(classes)
            }
            Query::AssociatorsOf(query) if query.class_defs_only && !query.keys_only => {
                self.classes_of_results(&list, &query.object, &associators_filter(&query), true)
            }
            Query::ReferencesOf(query) if query.class_defs_only && !query.keys_only => {
                self.classes_of_results(&list, &query.object, &references_filter(&query), false)
            }
            Query::Select(_) | Query::AssociatorsOf(_) | Query::ReferencesOf(_) => Err(cannot_process(
                "The results of this resource are classes: the query is one over META_CLASS, or an association query with ClassDefsOnly and without KeysOnly.",
            )),
        }
    }

    fn classes_of_results(
        &self,
        list: &ClassList<'_>,
        object: &ObjectPath,
        filter: &AssociationFilter,
        associators: bool,
    ) -> Result<Vec<Arc<ClassDeclaration>>, Fault> {
        if list.is_part {
            return Err(cannot_process(
                "ClassDefsOnly tells the classes of what is found, wherever they stand; leave the selector ClassName out.",
            ));
        }
        let mut classes: Vec<Arc<ClassDeclaration>> = Vec::new();
        for instance in self.traverse(&list.cx, object, filter, associators)? {
            let class = instance.class();
            if !classes.iter().any(|known| Arc::ptr_eq(known, class)) {
                classes.push(Arc::clone(class));
            }
        }
        Ok(classes)
    }
}
