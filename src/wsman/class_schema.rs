//! Class definitions in CIM-XML: Get of one class, Enumerate of many (`ws-management.md` §12).

use std::sync::Arc;

use smol_str::SmolStr;

use crate::binding::{UriFamily, UriStyle, write_reference};
use crate::cim::cimxml::{ClassContent, encode_class_into, write_class_path};
use crate::cim::{ClassDeclaration, KeyValue, NamespaceSchema, ObjectPath};
use crate::soap::{Fault, Subcode, code, detail};
use crate::xml::Writer;

use super::class_query::ClassList;
use super::enumeration::TextStream;
use super::enumeration_body::{EnumerateBody, Mode};
use super::request::Request;
use super::service::{Answer, Service};
use super::target::{call_context, class_of, selectors};
use super::transfer::no_fragments;

/// What stands before the class in a URI of this resource.
const PREFIX: &str = "http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/";
const CLASS_NAME: &str = "ClassName";

/// How the entries of a class list are written.
struct Entry {
    content: ClassContent,
    /// `IncludePath`
    path: bool,
    /// `ExcludeClassSpecification`
    names_only: bool,
    mode: Mode,
    host: SmolStr,
    style: UriStyle,
}

impl Service {
    /// Get of a class, which the selector ClassName or the end of the URI names.
    pub(super) fn get_class(&self, request: &Request<'_, '_>, of_uri: Option<&str>) -> Result<Answer, Fault> {
        no_fragments(request)?;
        let (schema, name) = self.asked_class(request, of_uri)?;
        let name = name.ok_or_else(|| {
            Fault::new(Subcode::InvalidSelectors)
                .detail(detail::INSUFFICIENT_SELECTORS, code::MISSING_CLASSNAME)
                .reason("Get of a class definition needs the selector ClassName.")
        })?;
        let class = class_of(schema, &name)?;
        Ok(Answer::body(encode_class_into(String::with_capacity(16_384), class, content(request)?)))
    }

    /// Enumerate of classes: those below ClassName, or those of the namespace.
    ///
    /// Below a class `IncludeSubClasses` leads from the direct subclasses to all of them, as in CIM. The list of
    /// a namespace is what Get-CimClass shows, so it is whole unless the option is given as false. A filter leaves
    /// some of them over.
    pub(super) fn class_list(
        &self,
        request: &Request<'_, '_>,
        of_uri: Option<&str>,
        body: &EnumerateBody<'_>,
    ) -> Result<TextStream, Fault> {
        no_fragments(request)?;
        body.is_not_polymorphic()?;
        let (schema, name) = self.asked_class(request, of_uri)?;
        let deep = option(request, "IncludeSubClasses")?;
        let listed: Vec<Arc<ClassDeclaration>> = match &name {
            Some(name) => {
                let class = class_of(schema, name)?;
                if deep == Some(true) {
                    schema.with_subclasses(class).split_off(1)
                } else {
                    schema.direct_subclasses(class.name()).to_vec()
                }
            }
            None if deep == Some(false) => {
                schema.classes().filter(|class| class.superclass().is_none()).cloned().collect()
            }
            None => schema.classes().cloned().collect(),
        };
        let classes = match &body.filter {
            Some(filter) => {
                let list =
                    ClassList { cx: call_context(request, schema.name()), schema, listed, is_part: name.is_some() };
                self.filtered_classes(list, filter)?
            }
            None => listed,
        };
        let entry = Entry {
            content: content(request)?,
            path: option(request, "IncludePath")?.unwrap_or_default(),
            names_only: option(request, "ExcludeClassSpecification")?.unwrap_or_default(),
            mode: body.mode,
            host: self.options.machine.clone(),
            style: UriStyle::new(&UriFamily::Vendor(SmolStr::new_static(PREFIX)), schema.name()),
        };
        Ok(Box::new(classes.into_iter().map(move |class| entry.write(&class))))
    }

    /// The namespace and the class that a request is about.
    fn asked_class(
        &self,
        request: &Request<'_, '_>,
        of_uri: Option<&str>,
    ) -> Result<(&Arc<NamespaceSchema>, Option<SmolStr>), Fault> {
        let (keys, namespace) = selectors(request)?;
        let mut name = of_uri.map(SmolStr::new);
        for (key, value) in &keys {
            if *key != CLASS_NAME {
                return Err(Fault::new(Subcode::InvalidSelectors)
                    .detail(detail::UNEXPECTED_SELECTORS, code::UNEXPECTED_SELECTORS)
                    .reason(format!("A class definition has the selectors __cimnamespace and ClassName, not {key}.")));
            }
            let KeyValue::Text(selected) = value else {
                return Err(invalid_class_name("The selector ClassName is a reference."));
            };
            let selected = selected.trim();
            if selected.is_empty() {
                continue;
            }
            if name.as_ref().is_some_and(|name| !name.eq_ignore_ascii_case(selected)) {
                return Err(invalid_class_name("The selector ClassName contradicts the resource URI."));
            }
            name = Some(SmolStr::new(selected));
        }
        Ok((self.namespace_of(None, namespace.as_deref())?, name))
    }
}

impl Entry {
    fn write(&self, class: &ClassDeclaration) -> String {
        let mut w = Writer::with_capacity(if self.names_only { 256 } else { 16_384 });
        match self.mode {
            Mode::Object => self.object(&mut w, class),
            Mode::Reference => self.reference(&mut w, class),
            Mode::ObjectAndReference => w.element("w:Item", |w| {
                self.object(w, class);
                self.reference(w, class);
            }),
        }
        w.finish()
    }

    fn object(&self, w: &mut Writer, class: &ClassDeclaration) {
        let definition = |w: &mut Writer| {
            *w = Writer::from_string(encode_class_into(std::mem::take(w).finish(), class, self.content));
        };
        match (self.path, self.names_only) {
            (false, false) => definition(w),
            (true, false) => w.element("VALUE.OBJECTWITHPATH", |w| {
                write_class_path(w, &self.host, class);
                definition(w);
            }),
            (true, true) => write_class_path(w, &self.host, class),
            (false, true) => w.empty_with("CLASSNAME", &[("NAME", class.name().as_str())]),
        }
    }

    fn reference(&self, w: &mut Writer, class: &ClassDeclaration) {
        let path = ObjectPath::relative("*".into()).with_key(CLASS_NAME, class.name().as_str());
        // An association may lead to a class of another namespace.
        let style = self.style.in_namespace(class.namespace());
        w.element("a:EndpointReference", |w| write_reference(w, &path, &style));
    }
}

/// What of a class is asked for. An option that is absent counts as false; only class origins are there
/// unless they are refused: Windows' client wants them without asking, and this layer does not know the agent.
fn content(request: &Request<'_, '_>) -> Result<ClassContent, Fault> {
    Ok(ClassContent {
        inherited_elements: option(request, "IncludeInheritedElements")?.unwrap_or_default(),
        qualifiers: option(request, "IncludeQualifiers")?.unwrap_or_default(),
        class_origin: option(request, "IncludeClassOrigin")?.unwrap_or(true),
        derivation: option(request, "IncludeInheritanceHierarchy")?.unwrap_or_default(),
    })
}

/// A boolean option, with or without the prefix `wmi:`. It may be repeated, but not contradict itself.
fn option(request: &Request<'_, '_>, name: &str) -> Result<Option<bool>, Fault> {
    let mut found = None;
    for option in request.headers.options.iter().flat_map(|set| &set.options) {
        let plain = match option.name.split_once(':') {
            Some((prefix, plain)) if prefix.eq_ignore_ascii_case("wmi") => plain,
            _ => &option.name,
        };
        if !plain.eq_ignore_ascii_case(name) {
            continue;
        }
        let invalid = |what: &str| {
            Fault::new(Subcode::InvalidOptions)
                .detail(detail::INVALID_VALUE, code::OPTIONS_INVALID_VALUE)
                .reason(format!("The option {name} {what}."))
        };
        let value = match option.value.as_deref().unwrap_or_default().trim() {
            "" => continue,
            text if text.eq_ignore_ascii_case("true") || text == "1" => true,
            text if text.eq_ignore_ascii_case("false") || text == "0" => false,
            _ => return Err(invalid("is neither true nor false")),
        };
        if found.is_some_and(|known| known != value) {
            return Err(invalid("is given as true and as false"));
        }
        found = Some(value);
    }
    Ok(found)
}

fn invalid_class_name(reason: &str) -> Fault {
    Fault::new(Subcode::InvalidSelectors).detail(detail::INVALID_VALUE, code::INVALID_SELECTOR_VALUE).reason(reason)
}
