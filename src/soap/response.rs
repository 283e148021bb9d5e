//! The envelope of an answer (`ws-management.md` §3.5, `hyperv-host.md` §1).

use crate::xml::{Fragment, Ns, Writer};

use super::ANONYMOUS;

/// What the header block of an answer holds.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHeader<'a> {
    /// `a:Action`
    pub action: &'a str,
    /// `a:MessageID`, new for every answer
    pub message_id: &'a str,
    /// `a:RelatesTo`, the MessageID of the request byte for byte
    pub relates_to: &'a str,
    /// Headers that are already XML: reference parameters of ReplyTo and the count estimate.
    pub extra: &'a str,
    /// Whether the answer belongs to WS-Enumeration; the host declares other prefixes then.
    pub enumeration: bool,
}

/// Writes the start of the envelope, the header block and `<s:Body>`, then the content, then the ends.
pub fn write_response(header: &ResponseHeader<'_>, w: &mut Writer, content: impl FnOnce(&mut Writer)) {
    w.raw(r#"<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing""#);
    w.raw(if header.enumeration {
        r#" xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd">"#
    } else {
        r#" xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd">"#
    });
    w.raw("<s:Header><a:Action>");
    w.text(header.action);
    w.raw("</a:Action><a:MessageID>");
    w.text(header.message_id);
    w.raw("</a:MessageID><a:To>");
    w.raw(ANONYMOUS);
    w.raw("</a:To><a:RelatesTo>");
    w.text(header.relates_to);
    w.raw("</a:RelatesTo>");
    w.raw(header.extra);
    w.raw("</s:Header><s:Body>");
    content(w);
    w.raw("</s:Body></s:Envelope>");
}

/// Copies reference parameters of ReplyTo or FaultTo into headers of the answer (R5.4.2-5), with the
/// namespace declarations they need.
pub(crate) fn copy_reference_parameters(parameters: &[Fragment<'_>]) -> String {
    let mut copied = String::new();
    for parameter in parameters {
        let text = parameter.as_str();
        let name_end = text.find(|c: char| c.is_ascii_whitespace() || matches!(c, '>' | '/')).unwrap_or(text.len());
        let (start, rest) = text.split_at(name_end);
        copied.push_str(start);
        let mut declared: Vec<&str> = Vec::new();
        for (prefix, ns) in parameter.bindings().iter().rev() {
            // What the element declares itself wins, what is nearer wins.
            let own = rest.split('>').next().is_some_and(|tag| declares(tag, prefix));
            if own || declared.contains(prefix) || *ns == Ns::None || !may_use(text, prefix) {
                continue;
            }
            declared.push(prefix);
            copied.push_str(if prefix.is_empty() { " xmlns" } else { " xmlns:" });
            copied.push_str(prefix);
            copied.push_str("=\"");
            crate::xml::escape_attribute_into(&mut copied, ns.uri());
            copied.push('"');
        }
        copied.push_str(rest);
    }
    copied
}

/// Whether a prefix can be meant anywhere in a text: in a name, or in a value that is a name.
fn may_use(text: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || text
            .match_indices(prefix)
            .any(|(at, _)| text.get(at + prefix.len()..).is_some_and(|rest| rest.starts_with(':')))
}

fn declares(tag: &str, prefix: &str) -> bool {
    let wanted = if prefix.is_empty() { "xmlns=".to_owned() } else { format!("xmlns:{prefix}=") };
    tag.split_ascii_whitespace().any(|attribute| attribute.starts_with(&wanted))
}
