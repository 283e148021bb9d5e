//! Fragment-level Get and Put: XPath level 1 on one instance (`ws-management.md` §6.8).

use crate::binding::{InstanceWriter, decode_instance};
use crate::cim::{CimInstance, CimType, ClassDeclaration, PropertyName, RawValue};
use crate::soap::{Fault, FragmentTransfer, Subcode, code, detail};
use crate::xml::{Fragment, Ns, Writer};

use super::service::Answer;
use super::xpath::{Found, Path, Tail, XPATH, is_xpath};

/// A relative path into an instance; its first step is a property.
pub(super) struct FragmentPath {
    expression: String,
    path: Path,
}

impl FragmentPath {
    /// Judges the header and reads the expression.
    pub(super) fn parse(header: &FragmentTransfer<'_>) -> Result<Self, Fault> {
        if !header.must_understand {
            return Err(Fault::new(Subcode::InvalidMessageInformationHeader)
                .reason("The header FragmentTransfer must be marked mustUnderstand."));
        }
        if let Some(dialect) = header.dialect.as_deref().filter(|dialect| !is_xpath(dialect)) {
            return Err(Fault::new(Subcode::FragmentDialectNotSupported)
                .reason(format!("The fragment dialect {dialect} is not supported; use {XPATH}.")));
        }
        let expression = header.expression.as_ref();
        if expression.is_empty() {
            return Err(Fault::new(Subcode::FragmentCannotProcessFilter)
                .code(code::INVALID_FRAGMENT_PATH_BLANK)
                .reason("The fragment expression is empty."));
        }
        let path = Path::parse(expression).map_err(|error| cannot_process(format!("In \"{expression}\", {error}.")))?;
        if path.is_absolute || path.steps.is_empty() {
            return Err(cannot_process(format!("\"{expression}\" does not begin with a property.")));
        }
        Ok(Self { expression: expression.to_owned(), path })
    }

    /// The answer: `w:XmlFragment` with the addressed part, and the header repeated.
    pub(super) fn answer(&self, writer: &InstanceWriter<'_>, instance: &CimInstance) -> Result<Answer, Fault> {
        let name = self.path.steps.first().map_or("", |step| step.name.as_str());
        let property = instance
            .class()
            .property(name)
            .ok_or_else(|| cannot_process(format!("Class {} has no property {name}.", instance.class().name())))?;
        let is_deep = self.path.steps.len() > 1;
        if property.ty == CimType::Reference && (is_deep || self.path.tail != Tail::Element) {
            return Err(cannot_process(format!("Property {name} is a reference, which is read as a whole.")));
        }
        let mut element = Writer::with_capacity(4096);
        writer.instance(&mut element, instance);
        let found = self
            .path
            .select(element.as_str())
            .map_err(|error| Fault::new(Subcode::InternalError).reason(format!("The instance is not XML: {error}.")))?;
        if found.is_empty() && is_deep && !instance.get(name).is_null() {
            return Err(cannot_process(format!("\"{}\" leads to no element of the instance.", self.expression)));
        }
        let mut headers = Writer::default();
        headers.element_with("w:FragmentTransfer", &[("s:mustUnderstand", "true"), ("Dialect", XPATH)], |w| {
            w.text(&self.expression);
        });
        Ok(Answer { body: wrap(&found), headers: headers.finish() })
    }
}

/// What a fragment Put gives the property that its path leads to.
pub(super) struct NewValue {
    pub(super) value: RawValue,
    /// Which item of the array it is for; from zero.
    pub(super) item: Option<usize>,
}

impl FragmentPath {
    /// The property that a Put writes, which is all of it or an item of its array.
    pub(super) fn written(&self, class: &ClassDeclaration) -> Result<PropertyName, Fault> {
        let [step] = self.path.steps.as_slice() else {
            return Err(cannot_process(format!(
                "\"{}\" leads below a property, where nothing can be put.",
                self.expression
            )));
        };
        if let Tail::Attribute(name) = &self.path.tail {
            return Err(cannot_process(format!("The attribute {name} cannot be put.")));
        }
        match class.property(&step.name) {
            Some(property) => Ok(property.name.clone()),
            None => Err(cannot_process(format!("Class {} has no property {}.", class.name(), step.name))),
        }
    }

    /// What the `w:XmlFragment` of a Put gives that property.
    pub(super) fn new_value(&self, property: &PropertyName, body: Option<&Fragment<'_>>) -> Result<NewValue, Fault> {
        let position = self.path.steps.first().and_then(|step| step.position);
        let item = position.map(|position| position.saturating_sub(1));
        let unusable = |error: &dyn std::fmt::Display| invalid(format!("The fragment cannot be read: {error}."));
        let body = body.ok_or_else(|| invalid("The body is empty; it has to hold w:XmlFragment.".to_owned()))?;
        let (mut reader, element) = body.open().map_err(|error| unusable(&error))?;
        if !element.is(Ns::Wsman, "XmlFragment") {
            return Err(invalid(format!("The body holds {} instead of w:XmlFragment.", element.local())));
        }
        if element.is_nil() {
            return Ok(NewValue { value: RawValue::Null, item });
        }
        if self.path.tail == Tail::Text {
            let text = reader.text_content().map_err(|error| unusable(&error))?;
            return Ok(NewValue { value: RawValue::Text(text.into_owned()), item });
        }
        let mut given = decode_instance(body).map_err(|error| unusable(&error))?.properties;
        match (given.pop(), given.is_empty()) {
            (Some(only), true) if only.name == *property => Ok(NewValue { value: only.value, item }),
            _ => Err(invalid(format!("The fragment has to hold {property} and nothing else."))),
        }
    }
}

fn invalid(reason: String) -> Fault {
    Fault::new(Subcode::InvalidRepresentation)
        .detail(detail::INVALID_FRAGMENT, code::INVALID_XML_FRAGMENT)
        .reason(reason)
}

/// What was found, in `w:XmlFragment`, with the declarations the elements were under.
fn wrap(found: &[Found<'_>]) -> String {
    let mut w = Writer::with_capacity(1024);
    if found.is_empty() {
        w.empty_with("w:XmlFragment", &[("xmlns:xsi", Ns::Xsi.uri()), ("xsi:nil", "true")]);
        return w.finish();
    }
    let mut declarations: Vec<(String, &str)> = Vec::new();
    if let Some(Found::Element(first)) = found.first() {
        for (prefix, namespace) in first.bindings().iter().filter(|(prefix, _)| !prefix.is_empty()) {
            let attribute = format!("xmlns:{prefix}");
            declarations.retain(|(known, _)| *known != attribute);
            declarations.push((attribute, namespace.uri()));
        }
    }
    let attributes: Vec<(&str, &str)> = declarations.iter().map(|(name, uri)| (name.as_str(), *uri)).collect();
    w.element_with("w:XmlFragment", &attributes, |w| {
        for one in found {
            match one {
                Found::Element(element) => w.raw(element.as_str()),
                Found::Text(text) => w.text(text),
            }
        }
    });
    w.finish()
}

pub(super) fn cannot_process(reason: String) -> Fault {
    Fault::new(Subcode::FragmentCannotProcessFilter).reason(reason)
}
