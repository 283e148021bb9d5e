//! Requests, right ones and wrong ones: text, so that nothing is too wrong to be sent.

use crate::soap::ANONYMOUS;
use crate::xml::escape_text_into;

/// The transfer actions.
pub(super) const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
/// The enumeration actions.
pub(super) const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
/// The eventing actions.
pub(super) const EVENTING: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing";
/// The WQL dialect.
pub(super) const WQL: &str = "http://schemas.microsoft.com/wbem/wsman/1/WQL";
/// The selector dialect.
pub(super) const SELECTOR_FILTER: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter";
/// The association dialect.
pub(super) const ASSOCIATION_FILTER: &str = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter";
/// The default filter and fragment dialect.
pub(super) const XPATH: &str = "http://www.w3.org/TR/1999/REC-xpath-19991116";
/// All classes, in the form of DMTF.
pub(super) const DMTF_ALL: &str = "http://schemas.dmtf.org/wbem/wscim/1/*";
/// A class, in the form of DMTF.
pub(super) const DMTF_CLASS: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/";
/// Class definitions.
pub(super) const CLASS_SCHEMA: &str = "http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/*";
/// Configuration.
pub(super) const CONFIG: &str = "http://schemas.microsoft.com/wbem/wsman/1/config";

/// The namespaces every request declares.
const NAMESPACES: &str = concat!(
    r#" xmlns:s="http://www.w3.org/2003/05/soap-envelope""#,
    r#" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing""#,
    r#" xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer""#,
    r#" xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration""#,
    r#" xmlns:e="http://schemas.xmlsoap.org/ws/2004/08/eventing""#,
    r#" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd""#,
    r#" xmlns:b="http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd""#,
    r#" xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd""#,
    r#" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance""#,
);

/// A request. The parts are XML, except those that are said to be text.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// `a:To`, text.
    pub(super) to: Option<String>,
    /// `a:Action`, text.
    pub(super) action: Option<String>,
    /// `w:ResourceURI`, text.
    pub(super) resource: Option<String>,
    /// The element `a:ReplyTo`, or nothing.
    pub(super) reply_to: String,
    /// `a:MessageID`, text; one is made when it is the empty default.
    pub(super) id: MessageId,
    /// `w:SelectorSet`, the selectors inside.
    pub(super) selectors: Option<String>,
    /// Further headers.
    pub(super) headers: String,
    /// The content of the body.
    pub(super) body: String,
}

/// The identifier of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MessageId {
    /// A new one.
    New,
    /// None.
    Missing,
    /// This.
    Is(String),
}

/// Escaped text.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_text_into(&mut out, text);
    out
}

/// A selector.
pub(super) fn selector(name: &str, value: &str) -> String {
    format!("<w:Selector Name=\"{}\">{}</w:Selector>", escaped(name), escaped(value))
}

/// A filter element of WS-Management.
pub(super) fn filter(dialect: &str, content: &str) -> String {
    format!("<w:Filter Dialect=\"{dialect}\">{content}</w:Filter>")
}

/// The option of a name.
pub(super) fn option(name: &str, value: &str) -> String {
    format!("<w:Option Name=\"{name}\">{value}</w:Option>")
}

impl Message {
    /// A request of an action on a resource.
    pub(super) fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self {
            to: Some("http://conformance.invalid:5985/wsman".to_owned()),
            action: Some(action.into()),
            resource: Some(resource.into()),
            reply_to: format!("<a:ReplyTo><a:Address>{ANONYMOUS}</a:Address></a:ReplyTo>"),
            id: MessageId::New,
            selectors: None,
            headers: String::new(),
            body: String::new(),
        }
    }

    /// Get of a resource.
    pub(super) fn get(resource: impl Into<String>) -> Self {
        Self::new(format!("{TRANSFER}/Get"), resource)
    }

    /// Enumerate with this inside.
    pub(super) fn enumerate(resource: impl Into<String>, inner: &str) -> Self {
        Self::new(format!("{ENUMERATION}/Enumerate"), resource).body(format!("<n:Enumerate>{inner}</n:Enumerate>"))
    }

    /// An optimised Enumerate of up to `most` items with this inside.
    pub(super) fn list(resource: impl Into<String>, most: u32, inner: &str) -> Self {
        Self::enumerate(resource, &format!("<w:OptimizeEnumeration/><w:MaxElements>{most}</w:MaxElements>{inner}"))
    }

    /// Pull of a context.
    pub(super) fn pull(resource: impl Into<String>, context: &str, inner: &str) -> Self {
        let context = escaped(context);
        Self::new(format!("{ENUMERATION}/Pull"), resource)
            .body(format!("<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext>{inner}</n:Pull>"))
    }

    /// Release of a context.
    pub(super) fn release(resource: impl Into<String>, context: &str) -> Self {
        let context = escaped(context);
        Self::new(format!("{ENUMERATION}/Release"), resource)
            .body(format!("<n:Release><n:EnumerationContext>{context}</n:EnumerationContext></n:Release>"))
    }

    /// With selectors.
    pub(super) fn select(mut self, selectors: impl Into<String>) -> Self {
        self.selectors = Some(selectors.into());
        self
    }

    /// With a further selector.
    pub(super) fn also(mut self, name: &str, value: &str) -> Self {
        self.selectors.get_or_insert_default().push_str(&selector(name, value));
        self
    }

    /// With a further header.
    pub(super) fn header(mut self, header: &str) -> Self {
        self.headers.push_str(header);
        self
    }

    /// With options.
    pub(super) fn options(self, options: &str) -> Self {
        self.header(&format!("<w:OptionSet>{options}</w:OptionSet>"))
    }

    /// With `w:MaxEnvelopeSize`, marked mustUnderstand.
    pub(super) fn max_envelope_size(self, octets: u64) -> Self {
        self.header(&format!("<w:MaxEnvelopeSize s:mustUnderstand=\"true\">{octets}</w:MaxEnvelopeSize>"))
    }

    /// With `w:OperationTimeout`.
    pub(super) fn timeout(self, duration: &str) -> Self {
        self.header(&format!("<w:OperationTimeout>{duration}</w:OperationTimeout>"))
    }

    /// With a body.
    pub(super) fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// Changed.
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The text of the envelope; `new_id` is used where an identifier is to be made.
    pub(super) fn text(&self, new_id: &str) -> String {
        let element = |tag: &str, text: &Option<String>| {
            text.as_ref().map_or_else(String::new, |text| format!("<{tag}>{}</{tag}>", escaped(text)))
        };
        let id = match &self.id {
            MessageId::New => format!("<a:MessageID>{new_id}</a:MessageID>"),
            MessageId::Missing => String::new(),
            MessageId::Is(id) => format!("<a:MessageID>{}</a:MessageID>", escaped(id)),
        };
        let resource = self.resource.as_ref().map_or_else(String::new, |uri| {
            format!("<w:ResourceURI s:mustUnderstand=\"true\">{}</w:ResourceURI>", escaped(uri))
        });
        let selectors =
            self.selectors.as_ref().map_or_else(String::new, |inner| format!("<w:SelectorSet>{inner}</w:SelectorSet>"));
        format!(
            "<s:Envelope{NAMESPACES}><s:Header>{}{resource}{}{}{id}{selectors}{}</s:Header><s:Body>{}</s:Body></s:Envelope>",
            element("a:To", &self.to),
            self.reply_to,
            element("a:Action", &self.action),
            self.headers,
            self.body
        )
    }
}

/// The smallest Identify.
pub(super) const IDENTIFY: &str = concat!(
    r#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope""#,
    r#" xmlns:i="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">"#,
    "<s:Header/><s:Body><i:Identify/></s:Body></s:Envelope>"
);
