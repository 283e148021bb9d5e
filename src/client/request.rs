//! Writing requests (`ws-management.md` §3.1).

use crate::binding::{UriFamily, UriStyle, write_reference};
use crate::cim::{KeyValue, ObjectPath};
use crate::soap::ANONYMOUS;
use crate::xml::Writer;

/// The largest answer that is asked for.
pub(super) const MAX_ENVELOPE_SIZE: u32 = 512_000;

/// What a request is about.
pub(super) struct Target<'a> {
    /// `a:Action`
    pub(super) action: &'a str,
    /// `w:ResourceURI`
    pub(super) resource_uri: &'a str,
    /// The keys of the instance, if one is meant.
    pub(super) path: Option<&'a ObjectPath>,
}

/// The class URIs of a namespace, as Windows clients write them.
pub(super) fn style(namespace: &str) -> UriStyle {
    UriStyle::new(&UriFamily::Wmi, namespace)
}

/// Writes an envelope around `body`.
pub(super) fn envelope(
    url: &str,
    message_id: &str,
    timeout_seconds: u64,
    target: &Target<'_>,
    body: impl FnOnce(&mut Writer),
) -> String {
    let mut w = Writer::with_capacity(2048);
    let must = [("s:mustUnderstand", "true")];
    let namespaces = [
        ("xmlns:s", "http://www.w3.org/2003/05/soap-envelope"),
        ("xmlns:a", "http://schemas.xmlsoap.org/ws/2004/08/addressing"),
        ("xmlns:w", "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"),
        ("xmlns:n", "http://schemas.xmlsoap.org/ws/2004/09/enumeration"),
        ("xmlns:b", "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd"),
    ];
    w.element_with("s:Envelope", &namespaces, |w| {
        w.element("s:Header", |w| {
            w.text_element("a:To", url);
            w.element_with("w:ResourceURI", &must, |w| w.text(target.resource_uri));
            w.element("a:ReplyTo", |w| w.element_with("a:Address", &must, |w| w.text(ANONYMOUS)));
            w.element_with("a:Action", &must, |w| w.text(target.action));
            w.element_with("w:MaxEnvelopeSize", &must, |w| w.text(&MAX_ENVELOPE_SIZE.to_string()));
            w.text_element("a:MessageID", message_id);
            w.empty_with("w:Locale", &[("xml:lang", "en-US"), ("s:mustUnderstand", "false")]);
            if let Some(path) = target.path {
                selectors(w, path);
            }
            w.text_element("w:OperationTimeout", &format!("PT{timeout_seconds}S"));
        });
        w.element("s:Body", body);
    });
    w.finish()
}

fn selectors(w: &mut Writer, path: &ObjectPath) {
    w.element("w:SelectorSet", |w| {
        for (name, value) in path.keys() {
            w.element_with("w:Selector", &[("Name", name.as_str())], |w| match value {
                KeyValue::Text(text) => w.text(text),
                KeyValue::Reference(path) => {
                    w.element("a:EndpointReference", |w| {
                        write_reference(w, path, &style(path.namespace().unwrap_or_default()));
                    });
                }
            });
        }
    });
}

/// The envelope of Identify, which has no header.
pub(super) const IDENTIFY: &str = concat!(
    r#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" "#,
    r#"xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">"#,
    "<s:Header/><s:Body><wsmid:Identify/></s:Body></s:Envelope>"
);
