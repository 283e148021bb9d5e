//! The configuration resources: Get, and Enumerate where there are several of a kind; nothing can be
//! changed over the wire (`ws-management.md` §15).

use smol_str::SmolStr;

use crate::access::{AuditRecord, Role};
use crate::cim::KeyValue;
use crate::soap::{ANONYMOUS, Fault, Subcode, action, code, detail};
use crate::xml::{Event, Ns, Writer, XmlError};

use super::configuration_documents::{Document, documents};
use super::enumeration::TextStream;
use super::enumeration_body::{EnumerateBody, Mode};
use super::request::Request;
use super::service::{Answer, Service};
use super::target::{action_mismatch, selectors};
use super::transfer::no_fragments;

/// What stands before the path of a resource.
const PREFIX: &str = "http://schemas.microsoft.com/wbem/wsman/1/config/";
/// Settings that Windows calls deprecated; a Put on them has a code of its own.
const DEPRECATED: &[&str] = &["MaxProviderRequests", "MaxConcurrentOperations"];

/// A configuration resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Configuration {
    /// The whole.
    Config,
    Client,
    ClientAuth,
    Service,
    ServiceAuth,
    /// Whom certificates of clients belong to; for administrators only.
    CertificateMapping,
    /// The ports of the client or of the service, which are the same.
    DefaultPorts,
    Winrs,
    Listener,
    Plugin,
}

impl Configuration {
    /// The resource at a path below `…/config`, in lower case.
    pub(super) fn parse(path: &str) -> Result<Self, Fault> {
        Ok(match path {
            "" => Self::Config,
            "client" => Self::Client,
            "client/auth" => Self::ClientAuth,
            "service" => Self::Service,
            "service/auth" => Self::ServiceAuth,
            "service/certmapping" => Self::CertificateMapping,
            "client/defaultports" | "service/defaultports" => Self::DefaultPorts,
            "winrs" => Self::Winrs,
            "listener" => Self::Listener,
            "plugin" => Self::Plugin,
            // Windows knows the resource and does not serve it any more.
            "winrs/customremoteshell" => {
                return Err(Fault::new(Subcode::InternalError).reason("Custom remote shells are not offered."));
            }
            other => {
                return Err(Fault::new(Subcode::DestinationUnreachable)
                    .detail(detail::INVALID_RESOURCE_URI, code::INVALID_RESOURCE_URI)
                    .reason(format!("There is no configuration resource {other}.")));
            }
        })
    }

    /// The selectors that tell several of a kind apart; none for a resource that is there once.
    const fn selector_names(self) -> &'static [&'static str] {
        match self {
            Self::Listener => &["Address", "Transport"],
            Self::Plugin => &["Name"],
            Self::CertificateMapping => &["Issuer", "Subject", "URI"],
            _ => &[],
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::CertificateMapping => "service/certmapping",
            _ => "listener",
        }
    }
}

impl Service {
    /// Get of a configuration resource.
    pub(super) fn get_configuration(
        &self,
        request: &Request<'_, '_>,
        resource: Configuration,
    ) -> Result<Answer, Fault> {
        self.check_administrator(request, resource)?;
        check_headers(request)?;
        let keys = given_selectors(request, resource)?;
        if let Some(missing) = resource.selector_names().iter().find(|name| keys.iter().all(|(key, _)| key != *name)) {
            return Err(Fault::new(Subcode::InvalidSelectors)
                .detail(detail::INSUFFICIENT_SELECTORS, code::INSUFFICIENT_SELECTORS)
                .reason(format!("The resource needs the selector {missing}.")));
        }
        let mut found = documents(&self.options, resource);
        found.retain(|document| {
            keys.iter().all(|(key, wanted)| {
                document.keys.iter().any(|(name, value)| name == key && value.eq_ignore_ascii_case(wanted))
            })
        });
        match found.len() {
            0 => Err(Fault::new(Subcode::DestinationUnreachable).reason("No resource has these selectors.")),
            1 => Ok(Answer::body(found.into_iter().map(|document| document.xml).collect())),
            _ => Err(Fault::new(Subcode::InvalidSelectors)
                .detail(detail::AMBIGUOUS_SELECTORS, code::AMBIGUOUS_SELECTORS)
                .reason("Several resources have these selectors, as listeners on different ports do.")),
        }
    }

    /// Names of users and what logs on as them are not for everybody who may log on.
    fn check_administrator(&self, request: &Request<'_, '_>, resource: Configuration) -> Result<(), Fault> {
        let account = request.principal.account();
        let is_administrator = account.role == Role::Administrator && account.scope.is_none();
        if resource != Configuration::CertificateMapping || is_administrator {
            return Ok(());
        }
        let reason = "Certificate mappings are for administrators without a scope.";
        self.audit.write(&AuditRecord::refused_request(request.principal, request.action, reason));
        Err(Fault::new(Subcode::AccessDenied).reason(reason))
    }

    /// Enumerate of listeners, plug-ins or certificate mappings.
    pub(super) fn configuration_list(
        &self,
        request: &Request<'_, '_>,
        resource: Configuration,
        body: &EnumerateBody<'_>,
    ) -> Result<TextStream, Fault> {
        if resource.selector_names().is_empty() {
            return Err(action_mismatch("This configuration resource is there once; use Get."));
        }
        self.check_administrator(request, resource)?;
        check_headers(request)?;
        body.is_plain()?;
        if let Some((name, _)) = given_selectors(request, resource)?.first() {
            return Err(unexpected(name));
        }
        let mode = body.mode;
        let found = documents(&self.options, resource);
        Ok(Box::new(found.into_iter().map(move |document| match mode {
            Mode::Object => document.xml,
            Mode::Reference => reference(resource, &document),
            Mode::ObjectAndReference => {
                format!("<w:Item>{}{}</w:Item>", document.xml, reference(resource, &document))
            }
        })))
    }

    /// Put, Create and Delete: nothing can be changed, but which fault says so depends on what was tried.
    pub(super) fn refuse_configuration(&self, request: &Request<'_, '_>, resource: Configuration) -> Fault {
        if request.action != action::PUT {
            return action_mismatch("Configuration resources can be read, and nothing else.");
        }
        match put_elements(request) {
            Err(fault) => fault,
            Ok(elements) => {
                let known = documents(&self.options, resource);
                let is_known = |name: &String| known.iter().any(|document| document.elements.contains(&name.as_str()));
                if let Some(unknown) = elements.iter().find(|name| !is_known(name)) {
                    return invalid_body(&format!("the resource has no element {unknown}"));
                }
                let is_deprecated = elements.iter().any(|name| DEPRECATED.contains(&name.as_str()));
                Fault::new(Subcode::InternalError)
                    .code(if is_deprecated { code::DEPRECATED_CONFIG_SETTING } else { code::CONFIG_READONLY_PROPERTY })
                    .reason("The configuration cannot be changed over the wire; change the configuration file.")
            }
        }
    }
}

/// A reference to one of several resources of a kind.
fn reference(resource: Configuration, document: &Document) -> String {
    let mut w = Writer::with_capacity(512);
    w.element("a:EndpointReference", |w| {
        w.text_element("a:Address", ANONYMOUS);
        w.element("a:ReferenceParameters", |w| {
            w.text_element("w:ResourceURI", &format!("{PREFIX}{}", resource.path()));
            w.element("w:SelectorSet", |w| {
                for (name, value) in &document.keys {
                    w.element_with("w:Selector", &[("Name", *name)], |w| w.text(value));
                }
            });
        });
    });
    w.finish()
}

/// The selectors as name and text; each is one that the resource has.
fn given_selectors(request: &Request<'_, '_>, resource: Configuration) -> Result<Vec<(&'static str, SmolStr)>, Fault> {
    let (keys, namespace) = selectors(request)?;
    if namespace.is_some() {
        return Err(unexpected("__cimnamespace"));
    }
    let mut given = Vec::with_capacity(keys.len());
    for (key, value) in keys {
        let name = resource.selector_names().iter().find(|name| key == **name);
        let name = name.copied().ok_or_else(|| unexpected(key.as_str()))?;
        let KeyValue::Text(text) = value else {
            return Err(Fault::new(Subcode::InvalidSelectors)
                .detail(detail::TYPE_MISMATCH, code::SELECTOR_TYPEMISMATCH)
                .reason(format!("The selector {name} is a reference.")));
        };
        given.push((name, SmolStr::new(text.trim())));
    }
    Ok(given)
}

fn unexpected(name: &str) -> Fault {
    Fault::new(Subcode::InvalidSelectors)
        .detail(detail::UNEXPECTED_SELECTORS, code::UNEXPECTED_SELECTORS)
        .reason(format!("The resource has no selector {name}."))
}

/// These resources have neither fragments nor options. An option that must be honoured is refused by
/// itself (C046), a set of options that must be understood as a header (R6.4-3).
fn check_headers(request: &Request<'_, '_>) -> Result<(), Fault> {
    no_fragments(request)?;
    let Some(set) = &request.headers.options else { return Ok(()) };
    if let Some(option) = set.options.iter().find(|option| option.must_comply) {
        return Err(Fault::new(Subcode::InvalidOptions)
            .detail(detail::NOT_SUPPORTED, code::OPTIONS_NOT_SUPPORTED)
            .reason(format!("The option {} is not supported here.", option.name)));
    }
    if set.must_understand {
        return Err(Fault::must_understand(vec![(Ns::Wsman.uri().to_owned(), "OptionSet".to_owned())]));
    }
    Ok(())
}

/// The local names of all elements in the body of a Put.
fn put_elements(request: &Request<'_, '_>) -> Result<Vec<String>, Fault> {
    let body = request.body.ok_or_else(|| invalid_body("there is no element in the body"))?;
    let read = || -> Result<Vec<String>, XmlError> {
        let (mut reader, root) = body.open()?;
        let mut names = vec![root.local().to_owned()];
        let mut depth = 1_usize;
        while depth > 0 {
            match reader.next()? {
                Event::Start(element) => {
                    depth += 1;
                    names.push(element.local().to_owned());
                }
                Event::End => depth -= 1,
                Event::Text(_) => {}
                Event::Eof => break,
            }
        }
        Ok(names)
    };
    read().map_err(|error| invalid_body(&error.to_string()))
}

fn invalid_body(what: &str) -> Fault {
    Fault::new(Subcode::SchemaValidationError)
        .code(code::INVALID_SOAP_BODY)
        .reason(format!("The body is not the configuration of this resource: {what}."))
}
