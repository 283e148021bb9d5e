//! The sources of a compilation: loading includes and sorting declarations into namespaces.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use bumpalo::collections::Vec as BumpVec;

use super::ast::{ClassItem, InstanceItem, Item, QualifierItem};
use super::compile::{Compilation, includes};
use super::diagnostic::{Diagnostics, Problem, Span};
use crate::cim::{ClassName, normalize_namespace};

/// How deep includes may nest.
const MAX_INCLUDE_DEPTH: usize = 32;

/// Finds the text of a source by its name.
///
/// Implemented by a table of names and texts, and by closures.
pub trait SourceSet {
    /// The text of the source of that name; `None` when there is none.
    fn text(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl SourceSet for [(&str, &str)] {
    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, text)| Cow::Borrowed(*text))
    }
}

impl<F: Fn(&str) -> Option<String>> SourceSet for F {
    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self(name).map(Cow::Owned)
    }
}

/// A source that was loaded.
#[derive(Debug)]
pub(super) struct SourceFile<'s> {
    pub(super) name: String,
    pub(super) text: Cow<'s, str>,
}

/// Loads the roots and everything they include, each once.
pub(super) fn load<'s>(roots: &[&str], sources: &'s (impl SourceSet + ?Sized)) -> Loaded<'s> {
    let mut loaded = Loaded::default();
    let mut wanted: Vec<String> = roots.iter().rev().map(|&root| root.to_owned()).collect();
    let mut seen = HashSet::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some(text) = sources.text(&name) else {
            if roots.contains(&name.as_str()) {
                loaded.missing_roots.push(name);
            }
            continue;
        };
        wanted.extend(includes(&name, &text).into_iter().rev());
        loaded.files.push(SourceFile { name, text });
    }
    loaded
}

/// The sources of a compilation and the roots that were not found.
#[derive(Debug, Default)]
pub(super) struct Loaded<'s> {
    pub(super) files: Vec<SourceFile<'s>>,
    pub(super) missing_roots: Vec<String>,
}

/// The name an include means: relative to the source it stands in, `.` and `..` resolved.
pub(super) fn join(from: &str, target: &str) -> String {
    let target = target.replace('\\', "/");
    let directory = from.rsplit_once('/').map_or("", |(directory, _)| directory);
    let base = if target.starts_with('/') { "" } else { directory };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let absolute = target.starts_with('/') || from.starts_with('/');
    format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"))
}

/// A declaration and the index of the file it stands in.
pub(super) type InFile<T> = (usize, T);

/// The declarations of one namespace.
#[derive(Debug)]
pub(super) struct NamespaceDraft<'m> {
    pub(super) name: String,
    pub(super) qualifiers: HashMap<ClassName, InFile<&'m QualifierItem<'m>>>,
    pub(super) classes: Vec<InFile<&'m ClassItem<'m>>>,
    pub(super) by_name: HashMap<ClassName, usize>,
    pub(super) instances: Vec<InFile<&'m InstanceItem<'m>>>,
}

/// A file with its productions.
pub(super) type ParsedFile<'m> = (&'m SourceFile<'m>, BumpVec<'m, Item<'m>>);

/// Sorts the productions into namespaces, following the includes.
pub(super) fn collect<'m>(
    files: &'m [ParsedFile<'m>],
    compilation: &Compilation<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<NamespaceDraft<'m>> {
    let by_name = files.iter().enumerate().map(|(index, (file, _))| (file.name.as_str(), index)).collect();
    let prelude = compilation.prelude.map(ToOwned::to_owned);
    let mut collector = Collector {
        files,
        by_name,
        prelude,
        namespaces: Vec::new(),
        visited: HashSet::new(),
        is_library: false,
        library: HashSet::new(),
        diagnostics,
    };
    let namespace = normalize_namespace(compilation.default_namespace);
    for (roots, is_library) in [(&compilation.library, true), (&compilation.roots, false)] {
        collector.is_library = is_library;
        for root in roots {
            if let Some(&file) = collector.by_name.get(root) {
                collector.file(file, &mut namespace.clone().into_owned(), &mut Vec::new());
            }
        }
    }
    collector.namespaces
}

struct Collector<'m, 'd> {
    files: &'m [ParsedFile<'m>],
    by_name: HashMap<&'m str, usize>,
    prelude: Option<String>,
    namespaces: Vec<NamespaceDraft<'m>>,
    visited: HashSet<(usize, String)>,
    /// Whether the files at hand are those of the library, and which ones were.
    is_library: bool,
    library: HashSet<usize>,
    diagnostics: &'d mut Diagnostics,
}

impl<'m> Collector<'m, '_> {
    fn problem(&mut self, file: usize, span: Span, message: String, expected: &str) {
        if let Some((source, _)) = self.files.get(file) {
            self.diagnostics.push(&source.name, &source.text, &Problem::new(span, message, expected));
        }
    }

    fn namespace(&mut self, name: &str) -> usize {
        let found = self.namespaces.iter().position(|draft| draft.name.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| {
            self.namespaces.push(NamespaceDraft {
                name: name.to_owned(),
                qualifiers: HashMap::new(),
                classes: Vec::new(),
                by_name: HashMap::new(),
                instances: Vec::new(),
            });
            let index = self.namespaces.len() - 1;
            let prelude = self.prelude.as_deref().and_then(|prelude| self.by_name.get(prelude).copied());
            if let Some(prelude) = prelude {
                let is_library = std::mem::replace(&mut self.is_library, true);
                self.file(prelude, &mut name.to_owned(), &mut Vec::new());
                self.is_library = is_library;
            }
            index
        })
    }

    /// One file, in the namespace at hand; a second time in the same namespace it says nothing new.
    fn file(&mut self, file: usize, namespace: &mut String, stack: &mut Vec<usize>) {
        let Some((source, items)) = self.files.get(file) else { return };
        if !self.visited.insert((file, namespace.to_ascii_lowercase())) {
            return;
        }
        if self.is_library {
            self.library.insert(file);
        }
        stack.push(file);
        for item in items {
            match item {
                Item::Namespace(name) => {
                    let wanted = normalize_namespace(&name.node);
                    if wanted.is_empty() {
                        self.problem(
                            file,
                            name.span,
                            "empty namespace name".to_owned(),
                            "expected a name such as root/cimv2",
                        );
                    } else {
                        *namespace = wanted.into_owned();
                    }
                }
                Item::Include(target) => {
                    let path = join(&source.name, &target.node);
                    match self.by_name.get(path.as_str()).copied() {
                        None => self.problem(file, target.span, format!("source `{path}` is not there"), ""),
                        Some(included) if stack.contains(&included) => {
                            self.problem(file, target.span, format!("`{path}` includes itself"), "");
                        }
                        Some(_) if stack.len() >= MAX_INCLUDE_DEPTH => {
                            self.problem(file, target.span, "includes nest too deep".to_owned(), "");
                        }
                        // A namespace set inside holds there only.
                        Some(included) => self.file(included, &mut namespace.clone(), stack),
                    }
                }
                Item::Qualifier(item) => self.qualifier(file, namespace, item),
                Item::Class(item) => self.class(file, namespace, item),
                Item::Instance(item) => {
                    let index = self.namespace(namespace);
                    if let Some(draft) = self.namespaces.get_mut(index) {
                        draft.instances.push((file, item));
                    }
                }
            }
        }
        stack.pop();
    }

    fn qualifier(&mut self, file: usize, namespace: &str, item: &'m QualifierItem<'m>) {
        let index = self.namespace(namespace);
        let Some(draft) = self.namespaces.get_mut(index) else { return };
        match draft.qualifiers.entry(ClassName::new(item.name.node)) {
            Entry::Vacant(slot) => {
                slot.insert((file, item));
            }
            Entry::Occupied(mut known) if !self.is_library && self.library.contains(&known.get().0) => {
                known.insert((file, item));
            }
            Entry::Occupied(_) => {
                let message = format!("qualifier `{}` is declared twice", item.name.node);
                self.problem(file, item.name.span, message, "");
            }
        }
    }

    fn class(&mut self, file: usize, namespace: &str, item: &'m ClassItem<'m>) {
        let index = self.namespace(namespace);
        let Some(draft) = self.namespaces.get_mut(index) else { return };
        let name = ClassName::new(item.name.node);
        match draft.by_name.entry(name) {
            Entry::Vacant(slot) => {
                slot.insert(draft.classes.len());
                draft.classes.push((file, item));
            }
            Entry::Occupied(known) => {
                let slot = draft.classes.get_mut(*known.get());
                if let Some(slot) = slot.filter(|slot| !self.is_library && self.library.contains(&slot.0)) {
                    *slot = (file, item);
                    return;
                }
                let message = format!("class `{}` is declared twice in {namespace}", known.key());
                self.problem(file, item.name.span, message, "");
            }
        }
    }
}
