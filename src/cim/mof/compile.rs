//! The compilation as a whole.

use std::borrow::Cow;
use std::collections::HashSet;

use bumpalo::Bump;

use super::ast::Item;
use super::diagnostic::{Diagnostics, Problem, Span};
use super::instances::{DeclaredInstance, instances};
use super::intern::Interner;
use super::parser::parse_source;
use super::resolve::{report, resolve};
use super::sources::{ParsedFile, SourceSet, collect, join, load};
use crate::cim::{NamespaceSchema, Schema};

/// What to compile and how.
#[derive(Clone, Debug)]
pub struct Compilation<'a> {
    /// Names of the sources to begin with, in order; includes are followed.
    pub roots: Vec<&'a str>,
    /// Sources that come first; the roots may declare what they declare again, and replace it.
    pub library: Vec<&'a str>,
    /// A source that belongs to every namespace, usually the declarations of the standard qualifiers.
    /// It may be replaced like the library.
    pub prelude: Option<&'a str>,
    /// The namespace of declarations in front of the first `#pragma namespace`.
    pub default_namespace: &'a str,
}

/// What a compilation makes.
#[derive(Debug)]
pub struct Compiled {
    /// The classes.
    pub schema: Schema,
    /// The instances the sources declare.
    pub instances: Vec<DeclaredInstance>,
    /// What is wrong with the sources. Schema and instances leave out what could not be understood.
    pub diagnostics: Diagnostics,
}

impl Compilation<'_> {
    /// Compiles the roots and everything they include.
    #[must_use]
    pub fn run(&self, sources: &(impl SourceSet + ?Sized)) -> Compiled {
        let mut diagnostics = Diagnostics::default();
        let all: Vec<&str> = self.prelude.iter().chain(&self.library).chain(&self.roots).copied().collect();
        let loaded = load(&all, sources);
        for name in &loaded.missing_roots {
            diagnostics.push(name, "", &Problem::new(Span::default(), "source is not there", ""));
        }
        let room = Bump::new();
        let mut parsed: Vec<ParsedFile<'_>> = Vec::with_capacity(loaded.files.len());
        for file in &loaded.files {
            let (items, problems) = parse_source(&file.text, &room);
            parsed.push((file, items));
            report(&problems, parsed.len() - 1, &parsed, &mut diagnostics);
        }
        let mut compiled = self.resolve(&parsed, diagnostics);
        let names: Vec<&str> = loaded.files.iter().map(|file| file.name.as_str()).collect();
        compiled.diagnostics.sort(&names);
        compiled
    }

    fn resolve(&self, parsed: &[ParsedFile<'_>], mut diagnostics: Diagnostics) -> Compiled {
        let drafts = collect(parsed, self, &mut diagnostics);
        let mut interner = Interner::default();
        let mut declared = Vec::new();
        let mut namespaces = Vec::new();
        for draft in &drafts {
            let classes = resolve(draft, parsed, &mut interner, &mut diagnostics);
            declared.extend(instances(draft, &classes, parsed, &mut interner, &mut diagnostics));
            namespaces.push(NamespaceSchema::new(interner.text(&draft.name), classes.into_values()));
        }
        Compiled { schema: Schema::new(namespaces), instances: declared, diagnostics }
    }
}

/// Compiles a table of sources: begins with those that no other one includes.
///
/// # Errors
/// [`Diagnostics`] when anything is wrong.
pub fn compile(sources: &[(&str, &str)]) -> Result<Schema, Diagnostics> {
    let compilation =
        Compilation { roots: beginnings(sources), library: Vec::new(), prelude: None, default_namespace: "root/cimv2" };
    let compiled = compilation.run(sources);
    if compiled.diagnostics.is_empty() { Ok(compiled.schema) } else { Err(compiled.diagnostics) }
}

/// Checks sources of a user, each given with its name, on top of a library of sources.
///
/// The classes of the library are there, and the user's may derive from them or take their place.
/// `prelude` names the source of the library that declares the standard qualifiers; it belongs to
/// every namespace. Sources that another one includes are read through it. An include is looked up
/// among `sources` first, then in the library, where a path that ends like a library name is taken
/// for it. Declarations in front of any `#pragma namespace` belong to `root/cimv2`.
#[must_use]
pub fn check(sources: &[(&str, &str)], library: &[(&str, &str)], prelude: Option<&str>) -> Diagnostics {
    // `./a.mof` of the command line and `a.mof` of an include are one source.
    let names: Vec<String> = sources.iter().map(|(name, _)| join("", name)).collect();
    let sources: Vec<(&str, &str)> =
        names.iter().zip(sources).map(|(name, (_, text))| (name.as_str(), *text)).collect();
    let sources = sources.as_slice();
    let compilation = Compilation {
        roots: beginnings(sources),
        library: beginnings(library),
        prelude,
        default_namespace: "root/cimv2",
    };
    compilation.run(&Library { sources, library }).diagnostics
}

struct Library<'a> {
    sources: &'a [(&'a str, &'a str)],
    library: &'a [(&'a str, &'a str)],
}

impl SourceSet for Library<'_> {
    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let fitting = |known: &str| name.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
        self.sources
            .text(name)
            .or_else(|| self.library.iter().find(|(known, _)| fitting(known)).map(|(_, text)| Cow::Borrowed(*text)))
    }
}

/// The names of the sources a source includes, relative ones completed by its own name.
#[must_use]
pub fn includes(name: &str, text: &str) -> Vec<String> {
    if !text.contains('#') {
        return Vec::new();
    }
    let room = Bump::new();
    let (items, _) = parse_source(text, &room);
    let targets = items.iter().filter_map(|item| match item {
        Item::Include(target) => Some(join(name, &target.node)),
        _ => None,
    });
    targets.collect()
}

/// The sources that no other one includes.
fn beginnings<'a>(sources: &[(&'a str, &'a str)]) -> Vec<&'a str> {
    let included: HashSet<String> = sources.iter().flat_map(|(name, text)| includes(name, text)).collect();
    let roots: Vec<&str> = sources.iter().map(|(name, _)| *name).filter(|name| !included.contains(*name)).collect();
    // Sources that include each other in a circle have no beginning; then each is one.
    if roots.is_empty() { sources.iter().map(|(name, _)| *name).collect() } else { roots }
}
