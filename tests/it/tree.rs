//! Answers as a tree, read by a parser that is not ours.

use std::collections::HashMap;

use quick_xml::NsReader;
use quick_xml::events::Event;
use quick_xml::name::ResolveResult;

pub(crate) const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
pub(crate) const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
pub(crate) const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
pub(crate) const WSMAN: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd";
pub(crate) const WSMAN_FAULT: &str = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault";

/// An element.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) namespace: String,
    pub(crate) local: String,
    pub(crate) attributes: HashMap<String, String>,
    /// The text directly inside.
    pub(crate) text: String,
    pub(crate) children: Vec<Self>,
}

impl Node {
    /// Reads a document; panics when it is not well-formed.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let mut reader = NsReader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        let mut open = vec![Self::default()];
        loop {
            let (namespace, event) = match reader.read_resolved_event() {
                Ok(read) => read,
                Err(error) => panic!("not well-formed: {error}: {text}"),
            };
            match event {
                Event::Start(start) => {
                    let namespace = match namespace {
                        ResolveResult::Bound(namespace) => namespace.0.to_owned(),
                        ResolveResult::Unbound => String::new(),
                        ResolveResult::Unknown(prefix) => panic!("prefix {prefix:?} is not declared: {text}"),
                    };
                    let attributes = start
                        .attributes()
                        .map(|attribute| {
                            let attribute = attribute.expect("attributes are well-formed");
                            (attribute.key.as_ref().to_owned(), attribute.value.into_owned())
                        })
                        .collect();
                    let local = start.local_name().as_ref().to_owned();
                    open.push(Self { namespace, local, attributes, ..Self::default() });
                }
                Event::End(_) => {
                    let node = open.pop().expect("an element is open");
                    open.last_mut().expect("the document is open").children.push(node);
                }
                Event::Text(content) => open.last_mut().expect("the document is open").text.push_str(&content),
                Event::GeneralRef(reference) => {
                    let name: &str = &reference;
                    let character = match name {
                        "lt" => '<',
                        "gt" => '>',
                        "amp" => '&',
                        "quot" => '"',
                        "apos" => '\'',
                        other => numeric(other).unwrap_or_else(|| panic!("entity {other} is not declared")),
                    };
                    open.last_mut().expect("the document is open").text.push(character);
                }
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(open.len(), 1, "elements are left open: {text}");
        let mut document = open.remove(0);
        assert_eq!(document.children.len(), 1, "one root element: {text}");
        document.children.remove(0)
    }

    /// The first child with that name.
    pub(crate) fn child(&self, namespace: &str, local: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.namespace == namespace && child.local == local)
    }

    /// The element at the end of a path of children, each the first of its name.
    pub(crate) fn at(&self, path: &[(&str, &str)]) -> Option<&Self> {
        path.iter().try_fold(self, |node, (namespace, local)| node.child(namespace, local))
    }

    /// The first element with that local name, in any namespace, at any depth.
    pub(crate) fn find(&self, local: &str) -> Option<&Self> {
        if self.local == local { Some(self) } else { self.children.iter().find_map(|child| child.find(local)) }
    }
}

/// The character of a numeric reference, `#` first.
fn numeric(name: &str) -> Option<char> {
    let number = name.strip_prefix('#')?;
    let code = match number.strip_prefix('x') {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(code)
}

/// The entries of an answer to Enumerate in which the list is at its end.
#[track_caller]
pub(crate) fn whole_list(body: &str) -> Vec<Node> {
    let mut envelope = Node::parse(body);
    let mut answer = envelope.children.pop().expect("a body").children.remove(0);
    assert!(answer.child(WSMAN, "EndOfSequence").is_some(), "{body}");
    let index = answer.children.iter().position(|child| child.local == "Items").expect("items");
    answer.children.remove(index).children
}
