//! Fragment-level Get: XPath level 1 on one instance (`ws-management.md` §6.8).

use crate::binding::InstanceWriter;
use crate::cim::{CimInstance, CimType, CimValue};
use crate::soap::{Fault, FragmentTransfer, Subcode, code};
use crate::xml::Writer;

use super::service::Answer;

const XPATH: &str = "http://www.w3.org/TR/1999/REC-xpath-19991116";
const XPATH_LEVEL_1: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/xpath_level_1.xsd";

/// A relative path: a property, perhaps one member of an array, perhaps only the text.
pub(super) struct FragmentPath {
    expression: String,
    property: String,
    /// One-based.
    position: Option<usize>,
    text_only: bool,
}

impl FragmentPath {
    /// Judges the header and reads the expression.
    pub(super) fn parse(header: &FragmentTransfer<'_>) -> Result<Self, Fault> {
        if !header.must_understand {
            return Err(Fault::new(Subcode::InvalidMessageInformationHeader)
                .reason("The header FragmentTransfer must be marked mustUnderstand."));
        }
        if let Some(dialect) = &header.dialect
            && !dialect.is_empty()
            && !dialect.eq_ignore_ascii_case(XPATH)
            && !dialect.eq_ignore_ascii_case(XPATH_LEVEL_1)
        {
            return Err(Fault::new(Subcode::FragmentDialectNotSupported)
                .reason(format!("The fragment dialect {dialect} is not supported; use {XPATH}.")));
        }
        let expression = header.expression.as_ref();
        if expression.is_empty() {
            return Err(Fault::new(Subcode::FragmentCannotProcessFilter)
                .code(code::INVALID_FRAGMENT_PATH_BLANK)
                .reason("The fragment expression is empty."));
        }
        Self::parse_expression(expression).ok_or_else(|| {
            Fault::new(Subcode::FragmentCannotProcessFilter).reason(format!(
                "The fragment expression \"{expression}\" is not Property, Property[n] or Property/text()."
            ))
        })
    }

    fn parse_expression(expression: &str) -> Option<Self> {
        let (path, text_only) = match expression.strip_suffix("/text()") {
            Some(path) => (path.trim_end(), true),
            None => (expression, false),
        };
        let (name, position) = match path.strip_suffix(']') {
            Some(indexed) => {
                let (name, position) = indexed.split_once('[')?;
                (name.trim(), Some(position.trim().parse().ok().filter(|position| *position > 0)?))
            }
            None => (path, None),
        };
        // A prefix is matched by local name.
        let local = name.rsplit_once(':').map_or(name, |(_, local)| local);
        let is_name = !local.is_empty() && local.chars().all(|c| c.is_alphanumeric() || c == '_');
        is_name.then(|| Self { expression: expression.to_owned(), property: local.to_owned(), position, text_only })
    }

    /// The answer: `w:XmlFragment` with the addressed part, and the header repeated.
    pub(super) fn answer(&self, writer: &InstanceWriter<'_>, instance: &CimInstance) -> Result<Answer, Fault> {
        let property = instance.class().property(&self.property).ok_or_else(|| {
            Fault::new(Subcode::FragmentCannotProcessFilter).reason(format!(
                "Class {} has no property {}.",
                instance.class().name(),
                self.property
            ))
        })?;
        let is_structured = property.ty == CimType::Reference || property.embedded_class.is_some();
        if self.text_only && is_structured && property.ty == CimType::Reference {
            return Err(Fault::new(Subcode::FragmentCannotProcessFilter)
                .reason(format!("Property {} is a reference and has no text.", self.property)));
        }
        let value = self.select(instance.get(&self.property));
        let mut w = Writer::with_capacity(1024);
        let class = instance.class().name().as_str();
        let empty = value.as_array().is_some_and(<[CimValue]>::is_empty)
            || (value.is_null() && (property.is_array || self.text_only || self.position.is_some()));
        if empty {
            w.empty_with(
                "w:XmlFragment",
                &[("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"), ("xsi:nil", "true")],
            );
        } else {
            let uri = writer.style.class_uri(class);
            let attributes = [
                ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
                ("xmlns:p", uri.as_str()),
                ("xmlns:cim", "http://schemas.dmtf.org/wbem/wscim/1/common"),
            ];
            w.element_with("w:XmlFragment", &attributes, |w| {
                if self.text_only {
                    for item in value.as_array().unwrap_or(std::slice::from_ref(&value)) {
                        text_of(w, item);
                    }
                } else {
                    writer.value(w, "p:", property.name.as_str(), &value);
                }
            });
        }
        let mut headers = Writer::default();
        headers.element_with("w:FragmentTransfer", &[("s:mustUnderstand", "true"), ("Dialect", XPATH)], |w| {
            w.text(&self.expression);
        });
        Ok(Answer { body: w.finish(), headers: headers.finish() })
    }

    fn select(&self, value: &CimValue) -> CimValue {
        match (self.position, value) {
            (None, value) => value.clone(),
            (Some(position), CimValue::Array(items)) => items.get(position - 1).cloned().unwrap_or_default(),
            (Some(1), scalar) => scalar.clone(),
            (Some(_), _) => CimValue::Null,
        }
    }
}

/// The bare text of a scalar, as the element would hold it.
fn text_of(w: &mut Writer, value: &CimValue) {
    match value {
        CimValue::String(text) => w.text(text),
        CimValue::DateTime(value) => w.text(&value.to_xml_text()),
        other => {
            if let Some(crate::cim::KeyValue::Text(text)) = crate::cim::KeyValue::from_value(other) {
                w.text(&text);
            }
        }
    }
}
