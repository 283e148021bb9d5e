//! An answer as a tree, for looking at it from all sides.

use crate::xml::{Element, Event, Ns, Reader, XmlError};

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// The namespace; empty for none.
    pub(super) ns: String,
    /// The local name.
    pub(super) local: String,
    attributes: Vec<(String, String, String)>,
    /// The children, in order.
    pub(super) children: Vec<Self>,
    /// The text directly inside.
    pub(super) text: String,
    /// The element as it was written.
    pub(super) source: String,
    /// The declarations in scope, for names in texts.
    bindings: Vec<(String, String)>,
}

impl Node {
    /// Reads a document.
    pub(super) fn parse(text: &str) -> Result<Self, XmlError> {
        let mut reader = Reader::new(text);
        loop {
            match reader.next()? {
                Event::Start(root) => {
                    let node = Self::read(&mut reader, &root)?;
                    // What stands behind the root must be well-formed too.
                    while !matches!(reader.next()?, Event::Eof) {}
                    return Ok(node);
                }
                Event::Text(_) => {}
                Event::End | Event::Eof => return Ok(Self::default()),
            }
        }
    }

    fn read<'a>(reader: &mut Reader<'a>, element: &Element<'a>) -> Result<Self, XmlError> {
        let mut node = Self {
            ns: element.name().ns.uri().to_owned(),
            local: element.local().to_owned(),
            attributes: element
                .attributes()
                .map(|(name, value)| (name.ns.uri().to_owned(), name.local.to_owned(), value.to_owned()))
                .collect(),
            ..Self::default()
        };
        let fragment = reader.fragment(element)?;
        fragment.as_str().clone_into(&mut node.source);
        let (mut inner, _) = fragment.open()?;
        // Only names in the text of a leaf are ever resolved.
        let mut leaf = true;
        loop {
            match inner.next()? {
                Event::Start(child) => {
                    leaf = false;
                    node.children.push(Self::read(&mut inner, &child)?);
                }
                Event::Text(text) => node.text.push_str(&text),
                Event::End | Event::Eof => break,
            }
        }
        if leaf {
            let bindings = fragment.bindings().iter();
            node.bindings = bindings.map(|(prefix, ns)| ((*prefix).to_owned(), ns.uri().to_owned())).collect();
        }
        Ok(node)
    }

    /// Whether it is this name.
    pub(super) fn is(&self, ns: Ns<'_>, local: &str) -> bool {
        self.local == local && self.ns == ns.uri()
    }

    /// The first child of that local name, in any namespace.
    pub(super) fn child(&self, local: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.local == local)
    }

    /// The first element on a path of local names: `Body/Fault/Code`.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        path.split('/').try_fold(self, |node, local| node.child(local))
    }

    /// The trimmed text at a path; empty when there is none.
    pub(super) fn text_at(&self, path: &str) -> &str {
        self.at(path).map_or("", |node| node.text.trim())
    }

    /// All children of that local name.
    pub(super) fn all<'n>(&'n self, local: &'n str) -> impl Iterator<Item = &'n Self> {
        self.children.iter().filter(move |child| child.local == local)
    }

    /// An attribute; `Ns::None` for one without prefix.
    pub(super) fn attribute(&self, ns: Ns<'_>, local: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(uri, name, _)| name == local && uri == ns.uri());
        found.map(|(_, _, value)| value.as_str())
    }

    /// Whether it is `xsi:nil`.
    pub(super) fn is_nil(&self) -> bool {
        self.attribute(Ns::Xsi, "nil").is_some_and(|value| matches!(value, "true" | "1"))
    }

    /// The text as a qualified name, resolved: namespace and local name.
    pub(super) fn qname(&self) -> Option<(&str, &str)> {
        let text = self.text.trim();
        let (prefix, local) = text.split_once(':').unwrap_or(("", text));
        // The element may declare the prefix itself.
        let own = self.source.split_once(&format!("xmlns:{prefix}=\"")).and_then(|(_, rest)| rest.split('"').next());
        let outer = || Some(self.bindings.iter().rev().find(|(bound, _)| bound == prefix)?.1.as_str());
        Some((own.or_else(outer)?, local))
    }

    /// The first element of that local name anywhere below.
    pub(super) fn find(&self, local: &str) -> Option<&Self> {
        self.children.iter().find_map(|child| if child.local == local { Some(child) } else { child.find(local) })
    }

    /// Every element, this one first.
    pub(super) fn walk<'n>(&'n self, visit: &mut dyn FnMut(&'n Self)) {
        visit(self);
        for child in &self.children {
            child.walk(visit);
        }
    }
}
