//! An answer and what is looked for in it.

use crate::client::RawAnswer;
use crate::xml::Ns;

use super::node::Node;

/// An answer of the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The HTTP answer.
    pub(super) raw: RawAnswer,
    /// The body as text.
    pub(super) text: String,
    /// The body as XML; `None` when it is none.
    pub(super) tree: Option<Node>,
    /// How the body is encoded.
    pub(super) encoding: TextEncoding,
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TextEncoding {
    #[default]
    Utf8,
    Utf16,
}

/// The namespaces that the prefixes of fault codes stand for here.
const PREFIXES: [(&str, Ns<'static>); 7] = [
    ("s", Ns::Soap),
    ("a", Ns::Addressing),
    ("x", Ns::Transfer),
    ("n", Ns::Enumeration),
    ("e", Ns::Eventing),
    ("w", Ns::Wsman),
    ("b", Ns::CimBinding),
];

/// What every fault detail URI of WS-Management begins with.
pub(super) const FAULT_DETAIL: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/";

impl Answer {
    pub(super) fn new(raw: RawAnswer) -> Self {
        let (text, encoding) = decode(&raw.body);
        let tree = Node::parse(&text).ok().filter(|tree| !tree.local.is_empty());
        Self { status: raw.status, raw, text, tree, encoding }
    }

    /// Status and body, as a result shows them.
    pub(super) fn shown(&self) -> String {
        format!("HTTP {}\n\n{}", self.status, self.text)
    }

    /// The element at a path below the envelope.
    pub(super) fn at(&self, path: &str) -> Option<&Node> {
        self.tree.as_ref()?.at(path)
    }

    /// The trimmed text at a path below the envelope.
    pub(super) fn text_at(&self, path: &str) -> &str {
        self.tree.as_ref().map_or("", |tree| tree.text_at(path))
    }

    /// The headers of the envelope.
    pub(super) fn header_nodes(&self) -> &[Node] {
        self.at("Header").map_or(&[], |header| &header.children)
    }

    /// The first child of the body.
    pub(super) fn body(&self) -> Option<&Node> {
        self.at("Body")?.children.first()
    }

    /// Whether the body is a fault.
    pub(super) fn is_fault(&self) -> bool {
        self.body().is_some_and(|body| body.is(Ns::Soap, "Fault"))
    }

    /// The most specific code of a fault, resolved.
    fn fault_code(&self) -> Option<(&str, &str)> {
        let code = self.at("Body/Fault/Code")?;
        let value = code.at("Subcode/Value").or_else(|| code.child("Value"))?;
        value.qname()
    }

    /// The namespace of the most specific code of a fault.
    pub(super) fn fault_space(&self) -> Option<&str> {
        self.fault_code().map(|(ns, _)| ns)
    }

    /// Whether the body is the fault of a code (`w:InvalidSelectors`), with that detail if one is given.
    pub(super) fn has_fault(&self, subcode: &str, detail: Option<&str>) -> bool {
        let (prefix, local) = subcode.split_once(':').unwrap_or(("", subcode));
        let ns = PREFIXES.iter().find(|(known, _)| *known == prefix).map_or("", |(_, ns)| ns.uri());
        self.is_fault()
            && self.fault_code() == Some((ns, local))
            && detail.is_none_or(|detail| self.detail() == Some(detail))
    }

    /// The last part of the fault detail URI.
    pub(super) fn detail(&self) -> Option<&str> {
        self.text_at("Body/Fault/Detail/FaultDetail").rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// `f:WSManFault/@Code`.
    pub(super) fn wsman_code(&self) -> Option<u64> {
        self.at("Body/Fault/Detail/WSManFault")?.attribute(Ns::None, "Code")?.parse().ok()
    }

    /// The fault in a few words.
    pub(super) fn fault_text(&self) -> String {
        let code = self.at("Body/Fault/Code");
        let value = code.and_then(|code| code.at("Subcode/Value").or_else(|| code.child("Value")));
        let value = value.map_or("", |value| value.text.trim());
        let detail = self.detail().map_or_else(String::new, |detail| format!(" with {detail}"));
        format!("{value}{detail}: {}", self.text_at("Body/Fault/Reason/Text"))
    }

    /// The enumeration context of an answer to Enumerate or Pull; empty when there is none.
    pub(super) fn context(&self) -> String {
        self.body().map_or_else(String::new, |body| body.text_at("EnumerationContext").to_owned())
    }

    /// The items of an answer to Enumerate or Pull, in whatever namespace they are.
    pub(super) fn items(&self) -> Vec<Node> {
        self.body().and_then(|body| body.child("Items")).map_or_else(Vec::new, |items| items.children.clone())
    }

    /// Whether an answer to Enumerate or Pull is the last one.
    pub(super) fn ended(&self) -> bool {
        self.body().is_some_and(|body| body.child("EndOfSequence").is_some())
    }
}

/// The text of a body: UTF-16 by its byte-order mark, UTF-8 else.
fn decode(body: &[u8]) -> (String, TextEncoding) {
    let (little, rest) = match body {
        [0xff, 0xfe, rest @ ..] => (true, rest),
        [0xfe, 0xff, rest @ ..] => (false, rest),
        // "<" without a mark.
        [b'<', 0, ..] => (true, body),
        [0, b'<', ..] => (false, body),
        _ => return (String::from_utf8_lossy(body).into_owned(), TextEncoding::Utf8),
    };
    let units = rest.chunks(2).map(|pair| match *pair {
        [first, second] if little => u16::from_le_bytes([first, second]),
        [first, second] => u16::from_be_bytes([first, second]),
        _ => 0xfffd,
    });
    let text = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    (text, TextEncoding::Utf16)
}
