//! Which class and instance a request is about (`ws-management.md` §3.3, §5).

use std::sync::Arc;

use smol_str::SmolStr;

use crate::binding::{ClassSelection, ResourceUri, UriFamily, UriStyle};
use crate::cim::{
    CimError, CimStatus, ClassDeclaration, ClassName, KeyValue, NamespaceSchema, ObjectPath, PropertyName, namespace_eq,
};
use crate::cimom::CallContext;
use crate::soap::{Fault, SelectorSet, SelectorValue, Subcode, code, detail};

use super::configuration::Configuration;
use super::fault::{from_argument, from_cim, from_selectors};
use super::request::Request;
use super::service::Service;

/// Longest URI that is taken (C123).
const MAX_URI: usize = 2048;

/// A CIM resource: where the request goes and how its answer is spelled.
pub(super) struct Target {
    pub(super) cx: CallContext,
    pub(super) style: UriStyle,
    pub(super) family: UriFamily,
    /// The class as the schema has it; none for all classes.
    pub(super) class: Option<Arc<ClassDeclaration>>,
    /// The selectors without `__cimnamespace`.
    pub(super) keys: Vec<(PropertyName, KeyValue)>,
}

impl Target {
    /// The class, or the fault for an operation that needs one.
    pub(super) fn class(&self) -> Result<&Arc<ClassDeclaration>, Fault> {
        self.class
            .as_ref()
            .ok_or_else(|| action_mismatch("The resource URI names all classes; this operation needs one class."))
    }

    /// The path the selectors make.
    pub(super) fn path(&self, class: &ClassDeclaration) -> ObjectPath {
        let mut path = ObjectPath::new(&self.cx.namespace, class.name().clone());
        for (name, value) in &self.keys {
            path.push_key(name.clone(), value.clone());
        }
        path
    }
}

/// The resource of a request, before its selectors are looked at.
pub(super) enum Resource {
    /// Instances of CIM classes.
    Cim(Box<Target>),
    /// Class definitions; the class when the URI names one.
    ClassSchema(Option<SmolStr>),
    /// The configuration of the service.
    Configuration(Configuration),
}

impl Resource {
    /// A CIM resource; the others answer that the action does not apply.
    pub(super) fn into_cim(self) -> Result<Box<Target>, Fault> {
        match self {
            Self::Cim(target) => Ok(target),
            Self::ClassSchema(_) => {
                Err(action_mismatch("Class definitions can be read with Get and Enumerate, and nothing else."))
            }
            Self::Configuration(_) => {
                Err(action_mismatch("Configuration resources can be read with Get and Enumerate, and nothing else."))
            }
        }
    }
}

impl Service {
    /// Steps 9, 11 and 12 of the dispatch order: resource URI, namespace, class, selectors.
    pub(super) fn target(&self, request: &Request<'_, '_>) -> Result<Resource, Fault> {
        let uri = request.headers.resource_uri.as_deref().unwrap_or_default();
        if uri.chars().count() > MAX_URI {
            return Err(Fault::new(Subcode::EncodingLimit)
                .detail(detail::URI_LIMIT_EXCEEDED, code::URI_LIMIT)
                .reason(format!("The resource URI is longer than {MAX_URI} characters.")));
        }
        match ResourceUri::parse(uri) {
            ResourceUri::Cim { family, namespace, class } => {
                let (keys, selected) = selectors(request)?;
                let schema = self.namespace_of(namespace.as_deref(), selected.as_deref())?;
                let class = match class {
                    ClassSelection::Class(name) => Some(Arc::clone(class_of(schema, &name)?)),
                    ClassSelection::All => None,
                };
                let style = UriStyle::new(&family, schema.name());
                let cx = call_context(request, schema.name());
                Ok(Resource::Cim(Box::new(Target { cx, style, family, class, keys })))
            }
            ResourceUri::ClassSchema(class) => Ok(Resource::ClassSchema(class)),
            ResourceUri::WsCimSchema => Err(Fault::new(Subcode::UnsupportedFeature)
                .reason("Class definitions are not offered in the WS-CIM format; ask for CIM-XML.")),
            ResourceUri::Configuration(path) => Ok(Resource::Configuration(Configuration::parse(&path)?)),
            ResourceUri::Unknown => Err(Fault::new(Subcode::DestinationUnreachable)
                .detail(detail::INVALID_RESOURCE_URI, code::INVALID_RESOURCE_URI)
                .reason(if uri.is_empty() {
                    "The header wsman:ResourceURI is missing.".to_owned()
                } else {
                    format!("The resource URI is not known: {uri}.")
                })),
        }
    }

    /// A CIM resource; the others answer that the action does not apply.
    pub(super) fn cim_target(&self, request: &Request<'_, '_>) -> Result<Box<Target>, Fault> {
        self.target(request)?.into_cim()
    }

    /// The namespace that the URI or the selector names, or the default one.
    pub(super) fn namespace_of(
        &self,
        uri: Option<&str>,
        selected: Option<&str>,
    ) -> Result<&Arc<NamespaceSchema>, Fault> {
        if let (Some(uri), Some(selected)) = (uri, selected)
            && !namespace_eq(uri, selected)
        {
            return Err(Fault::new(Subcode::InternalError)
                .code(code::DIFFERENT_CIM_SELECTOR)
                .reason(format!("The selector __cimnamespace ({selected}) contradicts the resource URI ({uri}).")));
        }
        let name = uri.or(selected).unwrap_or(&self.options.default_namespace);
        self.manager.namespace(name).map_err(|error| from_cim(&error))
    }
}

/// The fault for an action that does not apply to its resource.
pub(super) fn action_mismatch(reason: impl Into<String>) -> Fault {
    Fault::new(Subcode::ActionNotSupported).detail(detail::ACTION_MISMATCH, code::ACTION_MISMATCH).reason(reason)
}

/// The circumstances of a request in a namespace.
pub(super) fn call_context(request: &Request<'_, '_>, namespace: &SmolStr) -> CallContext {
    let options = request.headers.options.iter().flat_map(|set| &set.options).filter_map(|option| {
        let (prefix, name) = option.name.split_once(':')?;
        (prefix.eq_ignore_ascii_case("wmi") || prefix.eq_ignore_ascii_case("wmiarray"))
            .then(|| (SmolStr::new(name), SmolStr::new(option.value.as_deref().unwrap_or_default())))
    });
    CallContext {
        principal: request.principal.clone(),
        namespace: namespace.clone(),
        now: request.now,
        options: options.collect(),
    }
}

/// A class of a namespace, or the fault for one that it does not have.
pub(super) fn class_of<'s>(schema: &'s NamespaceSchema, name: &str) -> Result<&'s Arc<ClassDeclaration>, Fault> {
    schema.class(name).ok_or_else(|| {
        from_cim(&CimError::new(
            CimStatus::InvalidClass,
            format!("namespace {} has no class {}", schema.name(), ClassName::new(name)),
        ))
    })
}

pub(super) type Selected = (Vec<(PropertyName, KeyValue)>, Option<SmolStr>);

/// The selectors as keys, `__cimnamespace` apart.
pub(super) fn selectors(request: &Request<'_, '_>) -> Result<Selected, Fault> {
    static NONE: SelectorSet<'static> = SelectorSet { selectors: Vec::new() };
    let set = match &request.headers.selectors {
        None => &NONE,
        Some(Ok(set)) => set,
        Some(Err(error)) => return Err(from_selectors(error)),
    };
    let mut keys: Vec<(PropertyName, KeyValue)> = Vec::with_capacity(set.selectors.len());
    let mut namespace: Option<SmolStr> = None;
    for selector in &set.selectors {
        let name = PropertyName::new(&selector.name);
        let is_namespace = name == "__cimnamespace";
        if keys.iter().any(|(key, _)| *key == name) || (is_namespace && namespace.is_some()) {
            return Err(Fault::new(Subcode::InvalidSelectors)
                .detail(detail::DUPLICATE_SELECTORS, code::DUPLICATE_SELECTORS)
                .reason(format!("Selector \"{name}\" is there more than once.")));
        }
        match &selector.value {
            SelectorValue::Text(text) if is_namespace => namespace = Some(SmolStr::new(text)),
            SelectorValue::Text(text) => keys.push((name, KeyValue::Text(SmolStr::new(text)))),
            SelectorValue::Reference(reference) => {
                let path = crate::binding::object_path(reference).map_err(|error| {
                    let fault = from_argument(&selector.name, &error);
                    Fault::new(Subcode::InvalidSelectors)
                        .detail(detail::INVALID_VALUE, code::INVALID_SELECTOR_VALUE)
                        .reason(fault.reason)
                })?;
                keys.push((name, KeyValue::Reference(Arc::new(path))));
            }
        }
    }
    Ok((keys, namespace))
}
