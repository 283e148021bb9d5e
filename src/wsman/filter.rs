//! Filters of Enumerate (`ws-management.md` §8): WQL, selector filter, association filter, XPath level 1.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::binding::{InstanceWriter, object_path};
use crate::cim::wql::{AssociatorsOf, BoundQuery, Query, ReferencesOf, SystemProperties};
use crate::cim::{CimError, CimInstance, CimType, CimValue, ClassDeclaration, ClassName, ObjectPath, PropertyName};
use crate::cimom::{AssociationFilter, CallContext, InstanceStream, LookupError, Polymorphism};
use crate::soap::{EndpointReference, Fault, SelectorSet, SelectorValue, Subcode, code};
use crate::xml::{Event, Fragment, Ns, Writer};

use super::fault::from_cim;
use super::service::Service;
use super::target::Target;
use super::xpath::{Path, XPATH, is_xpath};

pub(super) const WQL: &str = "http://schemas.microsoft.com/wbem/wsman/1/WQL";
const WQL_ALIAS: &str = "http://schemas.dmtf.org/wbem/wsman/1/WQL";
const SELECTOR: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter";
const ASSOCIATION: &str = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter";
/// The dialects a client is told of when it asks for another one.
const SUPPORTED: &[&str] = &[WQL, SELECTOR, ASSOCIATION, XPATH];

/// What an enumeration brings: the instances, and which of their properties.
pub(super) struct Selection {
    pub(super) stream: InstanceStream,
    /// The properties of a projection, sorted as they go out; none for whole instances.
    pub(super) projection: Option<Vec<PropertyName>>,
}

impl Service {
    /// The instances an Enumerate asks for.
    pub(super) fn select(
        &self,
        target: &Target,
        filter: Option<&Fragment<'_>>,
        polymorphism: Polymorphism,
    ) -> Result<Selection, Fault> {
        let Some(filter) = filter else {
            let class = target
                .class
                .as_ref()
                .ok_or_else(|| cannot_process("Enumerate on all classes needs a WQL or association filter."))?;
            let stream = self.all(target, class, polymorphism)?;
            return Ok(Selection { stream, projection: None });
        };
        let (_, element) = filter.open().map_err(|error| cannot_process(&error.to_string()))?;
        let dialect = element.attribute(Ns::None, "Dialect").unwrap_or_default().trim().to_owned();
        if is_wql(&dialect) {
            self.wql(target, &text_of(filter)?, polymorphism)
        } else if dialect.eq_ignore_ascii_case(SELECTOR) {
            self.selector_filter(target, filter, polymorphism)
        } else if dialect.eq_ignore_ascii_case(ASSOCIATION) {
            self.association_filter(target, filter)
        } else if is_xpath(&dialect) {
            self.xpath_filter(target, &text_of(filter)?, polymorphism)
        } else {
            Err(unknown_dialect(&dialect, SUPPORTED))
        }
    }

    fn all(
        &self,
        target: &Target,
        class: &Arc<ClassDeclaration>,
        polymorphism: Polymorphism,
    ) -> Result<InstanceStream, Fault> {
        self.manager.enumerate(&target.cx, class, polymorphism).map_err(|error| from_cim(&error))
    }

    fn wql(&self, target: &Target, text: &str, polymorphism: Polymorphism) -> Result<Selection, Fault> {
        let query: Query = text.parse().map_err(|error| cannot_process(&format!("{error}")))?;
        match query {
            Query::Select(select) => {
                let class = self
                    .manager
                    .class(&target.cx.namespace, select.class.as_str())
                    .map_err(|error| cannot_process(error.message()))?;
                if target.class.as_ref().is_some_and(|wanted| !class.is_a(wanted.name().as_str())) {
                    return Err(cannot_process(
                        "The class of the query is not the class of the resource URI; end the URI with *.",
                    )
                    .code(code::INVALID_URI_WMI_ENUM_WQL));
                }
                let bound = select.bind(class).map_err(|error| cannot_process(&format!("{error}")))?;
                let stream = self.all(target, class, polymorphism)?;
                let projection = projection(&bound);
                let stream = self.matching(target, stream, bound);
                Ok(Selection { stream, projection })
            }
            Query::AssociatorsOf(query) => {
                let results = Results { keys_only: query.keys_only, class_defs_only: query.class_defs_only };
                self.traversed(target, &query.object, &associators_filter(&query), true, results)
            }
            Query::ReferencesOf(query) => {
                let results = Results { keys_only: query.keys_only, class_defs_only: query.class_defs_only };
                self.traversed(target, &query.object, &references_filter(&query), false, results)
            }
            Query::Classes(_) => Err(cannot_process(CLASSES_ELSEWHERE)),
        }
    }

    fn matching(&self, target: &Target, stream: InstanceStream, query: BoundQuery) -> InstanceStream {
        let server = self.options.machine.clone();
        let namespace = target.cx.namespace.clone();
        Box::new(stream.filter(move |instance| {
            let system = SystemProperties { server: &server, namespace: &namespace };
            instance.as_ref().map_or(true, |instance| query.matches(instance, &system))
        }))
    }

    /// What an association query finds, in the form it asks for.
    fn traversed(
        &self,
        target: &Target,
        object: &ObjectPath,
        filter: &AssociationFilter,
        associators: bool,
        results: Results,
    ) -> Result<Selection, Fault> {
        if results.class_defs_only {
            return Err(cannot_process(CLASSES_ELSEWHERE));
        }
        let found = self.traverse(&target.cx, object, filter, associators)?.into_iter();
        let stream: InstanceStream = if results.keys_only {
            Box::new(found.map(|instance| Ok(instance.keys_only())))
        } else {
            Box::new(found.map(Ok))
        };
        Ok(Selection { stream, projection: None })
    }

    /// Walks the associations of the one instance `object` names.
    pub(super) fn traverse(
        &self,
        cx: &CallContext,
        object: &ObjectPath,
        filter: &AssociationFilter,
        associators: bool,
    ) -> Result<Vec<CimInstance>, Fault> {
        for class in [&filter.association_class, &filter.result_class].into_iter().flatten() {
            self.manager.class(&cx.namespace, class.as_str()).map_err(|error| cannot_process(error.message()))?;
        }
        let namespace = object.namespace().unwrap_or(&cx.namespace);
        let schema = self.manager.namespace(namespace).map_err(|error| from_cim(&error))?;
        let class = schema.class(object.class_name().as_str()).ok_or_else(|| {
            cannot_process(&format!("the object of the filter is of an unknown class, {}", object.class_name()))
        })?;
        let cx = CallContext { namespace: schema.name().clone(), ..cx.clone() };
        let source = self.manager.find(&cx, class, object).map_err(|error| match error {
            LookupError::Provider(error) => from_cim(&error),
            other => cannot_process(&format!("the object of the filter is not one instance: {other}")),
        })?;
        let found = if associators {
            self.manager.associators(&cx, &source, filter)
        } else {
            self.manager.references(&cx, &source, filter)
        };
        found.map_err(|error| from_cim(&error))
    }

    /// Selector filter: equality of any properties (§8.3).
    fn selector_filter(
        &self,
        target: &Target,
        filter: &Fragment<'_>,
        polymorphism: Polymorphism,
    ) -> Result<Selection, Fault> {
        let class = target
            .class
            .as_ref()
            .ok_or_else(|| cannot_process("A selector filter needs a resource URI that names one class."))?;
        let tests = selector_tests(class, filter)?;
        let stream = self.all(target, class, polymorphism)?;
        let stream = stream.filter(move |instance| {
            instance.as_ref().map_or(true, |instance| {
                tests.iter().all(|(name, wanted)| equal_values(instance.get(name.as_str()), wanted))
            })
        });
        Ok(Selection { stream: Box::new(stream), projection: None })
    }

    /// XPath filter: an instance passes when the path finds something in its element (§8.6).
    fn xpath_filter(&self, target: &Target, text: &str, polymorphism: Polymorphism) -> Result<Selection, Fault> {
        let class = target
            .class
            .as_ref()
            .ok_or_else(|| cannot_process("An XPath filter needs a resource URI that names one class."))?;
        let path = Path::parse(text).map_err(|error| cannot_process(&error.to_string()))?;
        let style = target.style.clone();
        let stream = self.all(target, class, polymorphism)?.filter_map(move |instance| {
            let instance = match instance {
                Ok(instance) => instance,
                Err(error) => return Some(Err(error)),
            };
            let mut w = Writer::with_capacity(4096);
            InstanceWriter { style: &style, precise_arrays: false }.instance(&mut w, &instance);
            match path.select(w.as_str()) {
                Ok(found) => (!found.is_empty()).then_some(Ok(instance)),
                Err(error) => Some(Err(CimError::failed(format!("an instance cannot be searched: {error}")))),
            }
        });
        Ok(Selection { stream: Box::new(stream), projection: None })
    }

    /// Association filter (§8.4).
    fn association_filter(&self, target: &Target, filter: &Fragment<'_>) -> Result<Selection, Fault> {
        let asked = AssociationQuery::read(filter)?;
        let object = object_path(&asked.object)
            .map_err(|error| cannot_process(&format!("the object of the filter is not a reference: {error}")))?;
        if object.namespace().is_none() {
            return Err(cannot_process("the object of the filter names no namespace"));
        }
        let found = self.traverse(&target.cx, &object, &asked.filter, asked.associators)?;
        let mut properties = asked.properties;
        properties.sort();
        let projection = (!properties.is_empty()).then_some(properties);
        Ok(Selection { stream: Box::new(found.into_iter().map(Ok)), projection })
    }
}

/// What of its results an association query wants.
#[derive(Clone, Copy)]
struct Results {
    keys_only: bool,
    class_defs_only: bool,
}

const CLASSES_ELSEWHERE: &str = "A query whose results are classes (META_CLASS, ClassDefsOnly) goes to the resource URI of class definitions, http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/*.";

/// Whether a dialect is that of WQL.
pub(super) fn is_wql(dialect: &str) -> bool {
    [WQL, WQL_ALIAS].iter().any(|known| dialect.eq_ignore_ascii_case(known))
}

/// The fault for a dialect that a resource does not have.
pub(super) fn unknown_dialect(dialect: &str, supported: &'static [&'static str]) -> Fault {
    let mut fault = Fault::new(Subcode::FilterDialectRequestedUnavailable)
        .reason(format!("The filter dialect {dialect} is not supported."));
    fault.supported_dialects = supported;
    fault
}

/// The limits of `ASSOCIATORS OF`.
pub(super) fn associators_filter(query: &AssociatorsOf) -> AssociationFilter {
    AssociationFilter {
        association_class: query.assoc_class.clone(),
        result_class: query.result_class.clone(),
        role: query.role.clone(),
        result_role: query.result_role.clone(),
        required_association_qualifier: query.required_assoc_qualifier.clone(),
        required_qualifier: query.required_qualifier.clone(),
    }
}

/// The limits of `REFERENCES OF`.
pub(super) fn references_filter(query: &ReferencesOf) -> AssociationFilter {
    AssociationFilter {
        result_class: query.result_class.clone(),
        role: query.role.clone(),
        required_association_qualifier: query.required_qualifier.clone(),
        ..AssociationFilter::default()
    }
}

pub(super) fn projection(query: &BoundQuery) -> Option<Vec<PropertyName>> {
    let indexes = query.projection()?;
    let properties = query.class().properties();
    Some(indexes.iter().filter_map(|&index| properties.get(index)).map(|property| property.name.clone()).collect())
}

/// The text of a filter; an element inside or beside it is refused (R8.2.1-3).
pub(super) fn text_of(filter: &Fragment<'_>) -> Result<String, Fault> {
    let (mut reader, _) = filter.open().map_err(|error| cannot_process(&error.to_string()))?;
    reader
        .text_content()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| cannot_process("The filter of this dialect is text without elements."))
}

/// The properties and values of a selector filter.
fn selector_tests(class: &ClassDeclaration, filter: &Fragment<'_>) -> Result<Vec<(PropertyName, CimValue)>, Fault> {
    let (mut reader, _) = filter.open().map_err(|error| cannot_process(&error.to_string()))?;
    let set = match reader.next_child() {
        Ok(Some(element)) if element.is(Ns::Wsman, "SelectorSet") => {
            SelectorSet::read(&mut reader).map_err(|error| cannot_process(&error.to_string()))?
        }
        _ => return Err(cannot_process("A selector filter holds one wsman:SelectorSet.")),
    };
    if !matches!(reader.next_child(), Ok(None)) {
        return Err(cannot_process("A selector filter holds one wsman:SelectorSet and nothing else."));
    }
    let mut tests: Vec<(PropertyName, CimValue)> = Vec::with_capacity(set.selectors.len());
    for selector in &set.selectors {
        let name = PropertyName::new(&selector.name);
        let SelectorValue::Text(text) = &selector.value else {
            return Err(cannot_process(&format!("selector {name} is a reference")));
        };
        if tests.iter().any(|(known, _)| *known == name) {
            return Err(cannot_process(&format!("selector {name} is there more than once")));
        }
        if text.contains(['"', '\'']) {
            return Err(cannot_process(&format!("the value of selector {name} holds a quote")));
        }
        let property = class
            .property(name.as_str())
            .ok_or_else(|| cannot_process(&format!("class {} has no property {name}", class.name())))?;
        if property.is_array
            || matches!(property.ty, CimType::DateTime | CimType::Reference)
            || property.embedded_class.is_some()
        {
            return Err(cannot_process(&format!("property {name} cannot be compared by a selector filter")));
        }
        let value = CimValue::parse(property.ty, text).map_err(|error| cannot_process(&format!("{error}")))?;
        tests.push((name, value));
    }
    Ok(tests)
}

/// Texts compare without regard to case, as selectors do.
fn equal_values(value: &CimValue, wanted: &CimValue) -> bool {
    match (value, wanted) {
        (CimValue::String(value), CimValue::String(wanted)) => {
            value.eq_ignore_ascii_case(wanted) || value.to_lowercase() == wanted.to_lowercase()
        }
        (value, wanted) => value == wanted,
    }
}

/// The content of an association filter.
struct AssociationQuery<'a> {
    object: EndpointReference<'a>,
    filter: AssociationFilter,
    associators: bool,
    properties: Vec<PropertyName>,
}

impl<'a> AssociationQuery<'a> {
    fn read(filter: &Fragment<'a>) -> Result<Self, Fault> {
        let malformed = |error: crate::xml::XmlError| cannot_process(&error.to_string());
        let (mut reader, _) = filter.open().map_err(malformed)?;
        let root = match reader.next_child() {
            Ok(Some(root)) if root.name().ns == Ns::CimBinding => root,
            _ => return Err(cannot_process(ASSOCIATION_CONTENT)),
        };
        let associators = match root.local() {
            "AssociatedInstances" => true,
            "AssociationInstances" => false,
            _ => return Err(cannot_process(ASSOCIATION_CONTENT)),
        };
        let mut object = None;
        let mut parts: [SmolStr; 4] = Default::default();
        let mut properties = Vec::new();
        while let Some(child) = reader.next_child().map_err(malformed)? {
            let slot = match child.local() {
                "Object" => {
                    let reference =
                        EndpointReference::read(&mut reader).map_err(|error| cannot_process(&error.to_string()))?;
                    object = Some(reference);
                    continue;
                }
                "IncludeResultProperty" => {
                    let name = reader.text_content().map_err(malformed)?;
                    properties.push(PropertyName::new(name.trim()));
                    continue;
                }
                "AssociationClassName" => 0,
                "ResultClassName" => 1,
                "Role" => 2,
                "ResultRole" => 3,
                _ => {
                    reader.skip().map_err(malformed)?;
                    continue;
                }
            };
            let text = reader.text_content().map_err(malformed)?;
            if let Some(part) = parts.get_mut(slot) {
                *part = SmolStr::new(text.trim());
            }
        }
        if !matches!(reader.next_child(), Ok(None)) {
            return Err(cannot_process(ASSOCIATION_CONTENT));
        }
        let object = object.ok_or_else(|| cannot_process("The association filter has no Object."))?;
        Ok(Self { object, filter: association(parts, associators), associators, properties })
    }
}

const ASSOCIATION_CONTENT: &str =
    "An association filter holds one wsmb:AssociatedInstances or one wsmb:AssociationInstances.";

/// Empty parts mean "not specified". References take the association class from either class name:
/// OpenPegasus tolerates AssociationClassName there (§8.4).
fn association(parts: [SmolStr; 4], associators: bool) -> AssociationFilter {
    let [association_class, result_class, role, result_role] = parts;
    let class = |text: SmolStr| (!text.is_empty()).then(|| ClassName::new(&text));
    let property = |text: SmolStr| (!text.is_empty()).then(|| PropertyName::new(&text));
    let (association_class, mut result_class) = (class(association_class), class(result_class));
    if !associators {
        result_class = result_class.or_else(|| association_class.clone());
    }
    AssociationFilter {
        association_class,
        result_class,
        role: property(role),
        result_role: property(result_role),
        ..AssociationFilter::default()
    }
}

/// `n:CannotProcessFilter` with a sentence.
pub(super) fn cannot_process(reason: &str) -> Fault {
    let mut reason = reason.to_owned();
    if let Some(first) = reason.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if !reason.ends_with('.') {
        reason.push('.');
    }
    Fault::new(Subcode::CannotProcessFilter).reason(reason)
}

/// Whether the content of a filter is text or one element, never mixed (R8.2.1-3).
pub(super) fn check_content(filter: &Fragment<'_>) -> Result<(), Fault> {
    let (mut reader, _) = filter.open().map_err(|error| cannot_process(&error.to_string()))?;
    let (mut elements, mut text) = (0_usize, false);
    loop {
        match reader.next().map_err(|error| cannot_process(&error.to_string()))? {
            Event::Start(_) => {
                elements += 1;
                reader.skip().map_err(|error| cannot_process(&error.to_string()))?;
            }
            Event::Text(piece) => text |= !piece.trim().is_empty(),
            Event::End | Event::Eof => break,
        }
    }
    if elements > 1 || (elements == 1 && text) {
        return Err(cannot_process("A filter holds text or one element, never both and never several."));
    }
    Ok(())
}

/// The properties of an instance a projection shows, in the order of the wire.
pub(super) fn projected<'i>(
    instance: &'i CimInstance,
    names: &'i [PropertyName],
) -> impl Iterator<Item = (&'i PropertyName, &'i CimValue, bool)> {
    names.iter().filter_map(|name| {
        let property = instance.class().property(name.as_str())?;
        Some((&property.name, instance.get(name.as_str()), property.is_array))
    })
}
