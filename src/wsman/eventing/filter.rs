//! Which indications a subscription is told of.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::binding::{ClassSelection, ResourceUri, UriStyle};
use crate::cim::wql::{BoundQuery, EventQuery, SystemProperties};
use crate::cim::{CimInstance, ClassDeclaration, ClassName, NamespaceSchema};
use crate::cimom::IndicationProvider;
use crate::soap::{Fault, Subcode};
use crate::xml::Writer;

use super::super::enumeration::Shape;
use super::super::filter::projection;
use super::super::service::Service;
use super::super::target::class_of;
use super::body::invalid;
use super::terms::Terms;

/// The indications of one subscription.
pub(super) struct EventFilter {
    namespace: SmolStr,
    class: Arc<ClassDeclaration>,
    query: Option<BoundQuery>,
    server: SmolStr,
    shape: Shape,
}

impl EventFilter {
    /// The namespace the indications are made in.
    pub(super) const fn namespace(&self) -> &SmolStr {
        &self.namespace
    }

    /// Whether an indication is one of them.
    pub(super) fn matches(&self, indication: &CimInstance) -> bool {
        let system = SystemProperties { server: &self.server, namespace: &self.namespace };
        indication.class().is_a(self.class.name().as_str())
            && self.query.as_ref().is_none_or(|query| query.matches(indication, &system))
    }

    /// Writes an indication.
    pub(super) fn write(&self, w: &mut Writer, indication: &CimInstance) {
        self.shape.write(w, indication);
    }
}

impl Service {
    /// The filter of a subscription: resource URI and query meet the schema.
    pub(super) fn event_filter(&self, provider: &dyn IndicationProvider, terms: &Terms) -> Result<EventFilter, Fault> {
        let ResourceUri::Cim { family, namespace, class: selection } = ResourceUri::parse(&terms.resource_uri) else {
            return Err(unable("Only CIM classes have events."));
        };
        // The query of an existing filter names its class itself, in a namespace of its own.
        let (schema, named) = if let Some(source) = &terms.source {
            (self.namespace_of(Some(source), None)?, None)
        } else {
            let schema = self.namespace_of(namespace.as_deref(), terms.namespace.as_deref())?;
            let named = match &selection {
                ClassSelection::Class(name) => Some(class_of(schema, name)?),
                ClassSelection::All => None,
            };
            (schema, named)
        };
        let style = UriStyle::new(&family, schema.name());
        let (class, query) = if let Some(text) = &terms.query {
            let (class, query) = bind(provider, schema, named, text)?;
            (class, Some(query))
        } else {
            let class = named.ok_or_else(|| invalid("A subscription on all classes needs a filter."))?;
            (Arc::clone(class), None)
        };
        let made = schema.with_subclasses(&class);
        if !class.is_indication() || !made.iter().any(|class| provider.makes(class)) {
            return Err(unable(format!(
                "Class {} is not one whose indications are made here; subscribe to __InstanceModificationEvent or CIM_InstModification, for example.",
                class.name()
            )));
        }
        let projection = query.as_ref().and_then(projection);
        let shape = Shape::of_indications(style, projection, terms.precise_arrays);
        Ok(EventFilter { namespace: schema.name().clone(), class, query, server: self.options.machine.clone(), shape })
    }
}

/// Binds a query to its indication class.
fn bind(
    provider: &dyn IndicationProvider,
    schema: &NamespaceSchema,
    named: Option<&Arc<ClassDeclaration>>,
    text: &str,
) -> Result<(Arc<ClassDeclaration>, BoundQuery), Fault> {
    let query: EventQuery = text.parse().map_err(|error| cannot_process(&format!("{error}")))?;
    let name = &query.select.class;
    let class = schema
        .class(name.as_str())
        .ok_or_else(|| cannot_process(&format!("Namespace {} has no class {name}", schema.name())))?;
    // R8.1-9
    if named.is_some_and(|named| named.name() != class.name()) {
        return Err(unable("The class of the query is not the class of the resource URI; end the URI with *."));
    }
    let subjects = provider.subjects(schema.name());
    let candidates = |name: Option<&ClassName>| match name {
        None => Some(subjects.clone()),
        Some(name) => schema.class(name.as_str()).map(|class| schema.with_subclasses(class)),
    };
    for (_, name) in query.embedded_classes() {
        let known = schema.class(name.as_str());
        if known.is_some_and(|class| !subjects.iter().any(|subject| subject.is_a(class.name().as_str()))) {
            return Err(unable(format!("No events are told about instances of class {name}.")));
        }
    }
    let bound = query.bind(class, &candidates).map_err(|error| cannot_process(&format!("{error}")))?;
    Ok((Arc::clone(class), bound))
}

/// `e:EventSourceUnableToProcess`
pub(super) fn unable(reason: impl Into<String>) -> Fault {
    Fault::new(Subcode::EventSourceUnableToProcess).reason(reason)
}

/// `w:CannotProcessFilter`, the fault of Subscribe for a query that is wrong.
fn cannot_process(reason: &str) -> Fault {
    let end = if reason.ends_with('.') { "" } else { "." };
    Fault::new(Subcode::FragmentCannotProcessFilter).reason(format!("The filter cannot be processed: {reason}{end}"))
}
