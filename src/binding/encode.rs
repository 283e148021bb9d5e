//! Instances, values and references on the wire (`ws-management.md` §10, `hyperv-host.md` §2).

use crate::cim::{CimInstance, CimValue, KeyValue, ObjectPath, PropertyDeclaration};
use crate::soap::ANONYMOUS;
use crate::xml::Writer;

use super::UriStyle;

/// Writes instances of one answer: same family of URIs, same treatment of arrays.
#[derive(Clone, Copy, Debug)]
pub struct InstanceWriter<'a> {
    /// How class URIs are spelled.
    pub style: &'a UriStyle,
    /// `msftwinrm:UsePreciseArrays`: a null array is one nil element instead of none (§10.6).
    pub precise_arrays: bool,
}

impl InstanceWriter<'_> {
    /// The instance element: `<p:CLASS xmlns:xsi xmlns:p xmlns:cim xsi:type="p:CLASS_Type">`,
    /// properties sorted by name.
    pub fn instance(&self, w: &mut Writer, instance: &CimInstance) {
        let class = instance.class().name().as_str();
        w.raw("<p:");
        w.raw(class);
        self.namespaces(w, class);
        w.raw(" xsi:type=\"p:");
        w.raw(class);
        w.raw("_Type\">");
        for (property, value) in instance.properties() {
            self.property(w, property, value);
        }
        w.raw("</p:");
        w.raw(class);
        w.raw(">");
    }

    /// `METHOD_OUTPUT` or another element of a class that is no instance.
    pub fn class_element(&self, w: &mut Writer, class: &str, local: &str, content: impl FnOnce(&mut Writer)) {
        w.raw("<p:");
        w.raw(local);
        self.namespaces(w, class);
        w.raw(">");
        content(w);
        w.raw("</p:");
        w.raw(local);
        w.raw(">");
    }

    fn namespaces(&self, w: &mut Writer, class: &str) {
        w.raw(" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:p=\"");
        w.raw(self.style.prefix());
        w.raw(class);
        w.raw("\" xmlns:cim=\"http://schemas.dmtf.org/wbem/wscim/1/common\"");
    }

    fn property(&self, w: &mut Writer, property: &PropertyDeclaration, value: &CimValue) {
        match value {
            CimValue::Null if property.is_array => {
                if self.precise_arrays {
                    precise_null_array(w, property.name.as_str());
                }
            }
            value => self.value(w, "p:", property.name.as_str(), value),
        }
    }

    /// An element with a value; arrays repeat the element, null is `xsi:nil`.
    ///
    /// `prefix` is `p:` or empty, for the projections of WQL that are in no namespace (§8.2).
    pub fn value(&self, w: &mut Writer, prefix: &str, name: &str, value: &CimValue) {
        match value {
            CimValue::Array(items) => {
                for item in items.iter() {
                    // A null item must not be sent (§10.2).
                    if !item.is_null() {
                        self.value(w, prefix, name, item);
                    }
                }
            }
            CimValue::Null => {
                w.raw("<");
                w.raw(prefix);
                w.raw(name);
                w.raw(" xsi:nil=\"true\"/>");
            }
            CimValue::Reference(path) => self.reference_value(w, prefix, name, path),
            CimValue::Instance(instance) => self.embedded(w, prefix, name, instance),
            scalar => {
                w.raw("<");
                w.raw(prefix);
                w.raw(name);
                w.raw(">");
                scalar_text(w, scalar, !prefix.is_empty());
                w.raw("</");
                w.raw(prefix);
                w.raw(name);
                w.raw(">");
            }
        }
    }

    fn reference_value(&self, w: &mut Writer, prefix: &str, name: &str, path: &ObjectPath) {
        w.raw("<");
        w.raw(prefix);
        w.raw(name);
        w.raw(
            " xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
             xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\">",
        );
        write_reference(w, path, self.style);
        w.raw("</");
        w.raw(prefix);
        w.raw(name);
        w.raw(">");
    }

    /// An embedded object: the outer element belongs to the containing class, the children to the
    /// embedded one (§7.4).
    fn embedded(&self, w: &mut Writer, prefix: &str, name: &str, instance: &CimInstance) {
        let class = instance.class().name().as_str();
        w.raw("<");
        w.raw(prefix);
        w.raw(name);
        w.raw(" xmlns:p1=\"");
        w.raw(self.style.prefix());
        w.raw(class);
        w.raw("\" xsi:type=\"p1:");
        w.raw(class);
        w.raw("_Type\">");
        for (property, value) in instance.properties() {
            if !value.is_null() || !property.is_array {
                self.value(w, "p1:", property.name.as_str(), value);
            }
        }
        w.raw("</");
        w.raw(prefix);
        w.raw(name);
        w.raw(">");
    }
}

fn precise_null_array(w: &mut Writer, name: &str) {
    w.raw("<p:");
    w.raw(name);
    w.raw(" xsi:nil=\"true\" xmlns:m=\"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd\" m:IsNullArray=\"true\"/>");
}

/// The content of an element for a scalar that is neither null nor a reference nor embedded.
fn scalar_text(w: &mut Writer, value: &CimValue, namespaced: bool) {
    match value {
        CimValue::String(text) => w.text(text),
        CimValue::Boolean(value) => w.raw(if *value { "true" } else { "false" }),
        CimValue::Real32(value) => w.raw(&real_text(f64::from(*value))),
        CimValue::Real64(value) => w.raw(&real_text(*value)),
        CimValue::DateTime(value) => {
            use crate::cim::CimDateTime::{Interval, Timestamp, Wildcard};
            let local = match value {
                Timestamp { .. } => "Datetime",
                Interval(_) => "Interval",
                Wildcard(_) => "CIM_DateTime",
            };
            let prefix = if namespaced { "cim:" } else { "" };
            w.raw("<");
            w.raw(prefix);
            w.raw(local);
            w.raw(">");
            w.raw(&value.to_xml_text());
            w.raw("</");
            w.raw(prefix);
            w.raw(local);
            w.raw(">");
        }
        // The remaining scalars are integers.
        integer => integer_text(w, integer),
    }
}

fn integer_text(w: &mut Writer, value: &CimValue) {
    if let Some(number) = value.as_u64().filter(|number| *number < 10) {
        const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        if let Some(digit) = usize::try_from(number).ok().and_then(|number| DIGITS.get(number)) {
            w.raw(digit);
        }
    } else if let Some(number) = value.as_i128() {
        w.raw(&number.to_string());
    }
}

/// `xs:double` with the special values spelled as XML Schema does.
fn real_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "INF".to_owned() } else { "-INF".to_owned() }
    } else {
        value.to_string()
    }
}

/// Address and reference parameters of an instance, without an element around them (§10.3).
///
/// `a` and `w` must be in scope.
pub fn write_reference(w: &mut Writer, path: &ObjectPath, style: &UriStyle) {
    let other;
    let style = match path.namespace() {
        Some(namespace) if !crate::cim::namespace_eq(namespace, style.namespace()) => {
            other = style.in_namespace(namespace);
            &other
        }
        _ => style,
    };
    w.raw("<a:Address>");
    w.raw(ANONYMOUS);
    w.raw("</a:Address><a:ReferenceParameters><w:ResourceURI>");
    w.text(style.prefix());
    // The path may be one that a client gave.
    w.text(path.class_name().as_str());
    w.raw("</w:ResourceURI><w:SelectorSet>");
    if style.names_namespace() {
        w.raw("<w:Selector Name=\"__cimnamespace\">");
        w.text(style.namespace());
        w.raw("</w:Selector>");
    }
    for (name, value) in path.keys() {
        w.element_with("w:Selector", &[("Name", name.as_str())], |w| match value {
            KeyValue::Text(text) => w.text(text),
            KeyValue::Reference(path) => {
                w.raw("<a:EndpointReference>");
                write_reference(w, path, style);
                w.raw("</a:EndpointReference>");
            }
        });
    }
    w.raw("</w:SelectorSet></a:ReferenceParameters>");
}
