//! From declarations to classes: inheritance, overriding and the checks a compiler owes its user.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use smol_str::SmolStr;

use super::ast::{ClassItem, ElementItem, MethodItem, Scope, TypeItem};
use super::diagnostic::{Diagnostics, Problem, Span};
use super::intern::Interner;
use super::lexer::shorten;
use super::qualifiers::{QualifierTable, find, inheritable, is_true, value_map};
use super::sources::{NamespaceDraft, ParsedFile};
use super::typed::{Aliases, Typing};
use crate::cim::{
    CimType, CimValue, ClassDeclaration, ClassName, MethodDeclaration, ParameterDeclaration, PropertyDeclaration,
    PropertyName, Qualifier,
};

/// How long a chain of superclasses may be.
const MAX_INHERITANCE: usize = 64;

/// The classes of a namespace that are resolved, by name.
pub(super) type Classes = HashMap<ClassName, Arc<ClassDeclaration>>;

/// What a class hands to its subclasses.
type Heritage = (Vec<Arc<PropertyDeclaration>>, Vec<Arc<MethodDeclaration>>);

/// Resolves all classes of a namespace.
pub(super) fn resolve<'m>(
    draft: &NamespaceDraft<'m>,
    files: &[ParsedFile<'m>],
    interner: &mut Interner,
    diagnostics: &mut Diagnostics,
) -> Classes {
    let namespace = interner.text(&draft.name);
    let mut qualifiers = QualifierTable::default();
    let mut declarations: Vec<_> = draft.qualifiers.values().collect();
    declarations.sort_by_key(|(file, item)| (*file, item.name.span.start));
    for (file, item) in declarations {
        let mut problems = Vec::new();
        qualifiers.declare(item, interner, &mut problems);
        report(&problems, *file, files, diagnostics);
    }
    let mut resolver =
        Resolver { draft, namespace, qualifiers, interner, classes: Classes::new(), heritages: HashMap::new() };
    for position in 0..draft.classes.len() {
        resolver.class(position, files, diagnostics);
    }
    resolver.classes
}

/// Adds problems of one file to the diagnostics.
pub(super) fn report(problems: &[Problem], file: usize, files: &[ParsedFile<'_>], diagnostics: &mut Diagnostics) {
    if let Some((source, _)) = files.get(file) {
        for problem in problems {
            diagnostics.push(&source.name, &source.text, problem);
        }
    }
}

struct Resolver<'r, 'm> {
    draft: &'r NamespaceDraft<'m>,
    namespace: SmolStr,
    qualifiers: QualifierTable,
    interner: &'r mut Interner,
    classes: Classes,
    heritages: HashMap<ClassName, Heritage>,
}

impl<'m> Resolver<'_, 'm> {
    /// Resolves a class after the superclasses that are not resolved yet.
    fn class(&mut self, position: usize, files: &[ParsedFile<'m>], diagnostics: &mut Diagnostics) {
        let mut chain = Vec::new();
        let mut next = Some(position);
        while let Some(position) = next {
            let Some(&(_, item)) = self.draft.classes.get(position) else { break };
            if chain.contains(&position) || self.classes.contains_key(&ClassName::new(item.name.node)) {
                break;
            }
            chain.push(position);
            next =
                item.superclass.as_ref().and_then(|name| self.draft.by_name.get(&ClassName::new(name.node)).copied());
        }
        for position in chain.into_iter().rev() {
            let Some(&(file, item)) = self.draft.classes.get(position) else { continue };
            let mut problems = Vec::new();
            let superclass = self.superclass(item, &mut problems);
            let class = self.build(item, superclass, &mut problems);
            report(&problems, file, files, diagnostics);
            self.classes.insert(class.name().clone(), Arc::new(class));
        }
    }

    fn superclass(&self, item: &ClassItem<'m>, problems: &mut Vec<Problem>) -> Option<Arc<ClassDeclaration>> {
        let wanted = item.superclass.as_ref()?;
        let name = ClassName::new(wanted.node);
        if let Some(class) = self.classes.get(&name) {
            if class.ancestors().count() + 2 > MAX_INHERITANCE {
                let message = format!("more than {MAX_INHERITANCE} classes derive from each other");
                problems.push(Problem::new(wanted.span, message, ""));
                return None;
            }
            return Some(Arc::clone(class));
        }
        // Superclasses come first, so one that is declared but not there can only be in a cycle.
        let message = if self.draft.by_name.contains_key(&name) {
            format!("class `{}` derives from itself", item.name.node)
        } else {
            format!("superclass `{}` is not declared in {}", shorten(wanted.node), self.namespace)
        };
        problems.push(Problem::new(wanted.span, message, ""));
        None
    }

    fn build(
        &mut self,
        item: &ClassItem<'m>,
        superclass: Option<Arc<ClassDeclaration>>,
        problems: &mut Vec<Problem>,
    ) -> ClassDeclaration {
        let name = ClassName::from_smol_str(self.interner.text(item.name.node));
        let used = |word: &str| item.qualifiers.iter().any(|used| used.name.node.eq_ignore_ascii_case(word));
        let mut place = vec![Scope::Class];
        if used("Association") || superclass.as_ref().is_some_and(|class| class.is_association()) {
            place.push(Scope::Association);
        }
        if used("Indication") || superclass.as_ref().is_some_and(|class| class.is_indication()) {
            place.push(Scope::Indication);
        }
        let inherited = superclass.as_ref().map_or(&[][..], |class| class.qualifiers());
        let qualifiers = self.qualifiers.merge(inherited, &item.qualifiers, &place, self.interner, problems);
        let (mut properties, mut methods) =
            superclass.as_ref().map_or_else(Heritage::default, |class| self.heritage(class));
        let (inherited_properties, inherited_methods) = (properties.len(), methods.len());
        let mut seen = HashSet::new();
        for element in &item.properties {
            if duplicate(&mut seen, element.name.node, element.name.span, "property", problems) {
                continue;
            }
            // Only what is inherited can be overridden; the declared ones stand behind.
            let mut candidates = properties.iter_mut().take(inherited_properties);
            match candidates.find(|known| known.name == element.name.node) {
                Some(slot) => *slot = self.property(&name, element, Some(&**slot), problems),
                None => properties.push(self.property(&name, element, None, problems)),
            }
        }
        seen.clear();
        for method in &item.methods {
            if duplicate(&mut seen, method.name.node, method.name.span, "method", problems) {
                continue;
            }
            match methods.iter_mut().take(inherited_methods).find(|known| known.name == method.name.node) {
                Some(slot) => *slot = self.method(&name, method, Some(&**slot), problems),
                None => methods.push(self.method(&name, method, None, problems)),
            }
        }
        ClassDeclaration::new(name, self.namespace.clone(), superclass, qualifiers, properties, methods)
    }

    /// The properties and methods of a class as its subclasses inherit them.
    fn heritage(&mut self, class: &Arc<ClassDeclaration>) -> Heritage {
        if let Some(known) = self.heritages.get(class.name()) {
            return known.clone();
        }
        let mut properties = Vec::with_capacity(class.properties().len());
        for property in class.properties() {
            properties.push(if property.propagated {
                Arc::clone(property)
            } else {
                let qualifiers = self.interner.qualifiers(inheritable(&property.qualifiers));
                self.interner.property(PropertyDeclaration { propagated: true, qualifiers, ..(**property).clone() })
            });
        }
        let mut methods = Vec::with_capacity(class.methods().len());
        for method in class.methods() {
            methods.push(if method.propagated {
                Arc::clone(method)
            } else {
                let qualifiers = self.interner.qualifiers(inheritable(&method.qualifiers));
                self.interner.method(MethodDeclaration { propagated: true, qualifiers, ..(**method).clone() })
            });
        }
        self.heritages.insert(class.name().clone(), (properties.clone(), methods.clone()));
        (properties, methods)
    }

    fn property(
        &mut self,
        class: &ClassName,
        item: &ElementItem<'m>,
        base: Option<&PropertyDeclaration>,
        problems: &mut Vec<Problem>,
    ) -> Arc<PropertyDeclaration> {
        if let Some(base) = base
            && (base.ty != item.ty.ty || base.is_array != item.is_array)
        {
            let what = if base.is_key { "key" } else { "property" };
            problems.push(Problem::new(
                item.name.span,
                format!("{what} `{}` is overridden with another type", base.name),
                format!("expected {}{} as in {}", base.ty, if base.is_array { "[]" } else { "" }, base.class_origin),
            ));
        }
        check_override(&item.qualifiers, base.is_some(), problems);
        let inherited = base.map_or(&[][..], |base| &base.qualifiers);
        let scope = if item.ty.ty == CimType::Reference { Scope::Reference } else { Scope::Property };
        let qualifiers = self.qualifiers.merge(inherited, &item.qualifiers, &[scope], self.interner, problems);
        let default = match &item.default {
            Some(value) => Typing { interner: self.interner, aliases: &Aliases::new(), problems }.value(
                value,
                item.ty.ty,
                item.is_array,
            ),
            None => base.map_or(CimValue::Null, |base| base.default.clone()),
        };
        let property = PropertyDeclaration {
            name: PropertyName::from_smol_str(self.interner.text(item.name.node)),
            ty: item.ty.ty,
            is_array: item.is_array,
            reference_class: self.reference_class(item.ty, problems),
            embedded_class: self.embedded_class(item, &qualifiers, problems),
            default,
            value_map: value_map(&qualifiers, &item.qualifiers, self.interner, problems),
            is_key: is_true(&qualifiers, "Key"),
            class_origin: base.map_or_else(|| class.clone(), |base| base.class_origin.clone()),
            propagated: false,
            qualifiers,
        };
        self.interner.property(property)
    }

    fn method(
        &mut self,
        class: &ClassName,
        item: &MethodItem<'m>,
        base: Option<&MethodDeclaration>,
        problems: &mut Vec<Problem>,
    ) -> Arc<MethodDeclaration> {
        if let Some(base) = base
            && base.return_type != item.ty.ty
        {
            let message = format!("method `{}` is overridden with another return type", base.name);
            let expected = format!("expected {} as in {}", base.return_type, base.class_origin);
            problems.push(Problem::new(item.name.span, message, expected));
        }
        check_override(&item.qualifiers, base.is_some(), problems);
        let inherited = base.map_or(&[][..], |base| &base.qualifiers);
        let qualifiers = self.qualifiers.merge(inherited, &item.qualifiers, &[Scope::Method], self.interner, problems);
        let mut seen = HashSet::new();
        let mut parameters = Vec::with_capacity(item.parameters.len());
        for parameter in &item.parameters {
            if !duplicate(&mut seen, parameter.name.node, parameter.name.span, "parameter", problems) {
                parameters.push(self.parameter(parameter, problems));
            }
        }
        let method = MethodDeclaration {
            name: ClassName::from_smol_str(self.interner.text(item.name.node)),
            return_type: item.ty.ty,
            parameters,
            value_map: value_map(&qualifiers, &item.qualifiers, self.interner, problems),
            is_static: is_true(&qualifiers, "Static"),
            class_origin: base.map_or_else(|| class.clone(), |base| base.class_origin.clone()),
            propagated: false,
            qualifiers,
        };
        self.interner.method(method)
    }

    /// A parameter says everything itself: an overriding method replaces the parameters, as in WMI.
    fn parameter(&mut self, item: &ElementItem<'m>, problems: &mut Vec<Problem>) -> ParameterDeclaration {
        let qualifiers = self.qualifiers.merge(&[], &item.qualifiers, &[Scope::Parameter], self.interner, problems);
        ParameterDeclaration {
            name: PropertyName::from_smol_str(self.interner.text(item.name.node)),
            ty: item.ty.ty,
            is_array: item.is_array,
            reference_class: self.reference_class(item.ty, problems),
            embedded_class: self.embedded_class(item, &qualifiers, problems),
            value_map: value_map(&qualifiers, &item.qualifiers, self.interner, problems),
            is_in: find(&qualifiers, "In") != Some(&CimValue::Boolean(false)),
            is_out: is_true(&qualifiers, "Out"),
            qualifiers,
        }
    }

    /// The spelling of the declaration, so that the schema names each class in one way.
    fn class_name(&mut self, name: &str) -> Option<ClassName> {
        let position = *self.draft.by_name.get(&ClassName::new(name))?;
        let (_, item) = self.draft.classes.get(position)?;
        Some(ClassName::from_smol_str(self.interner.text(item.name.node)))
    }

    fn reference_class(&mut self, ty: TypeItem<'m>, problems: &mut Vec<Problem>) -> Option<ClassName> {
        let (name, span) = ty.reference?;
        let found = self.class_name(name);
        if found.is_none() {
            let message =
                format!("reference to class `{}`, which is not declared in {}", shorten(name), self.namespace);
            problems.push(Problem::new(span, message, ""));
        }
        found.or_else(|| Some(ClassName::new(name)))
    }

    fn embedded_class(
        &mut self,
        item: &ElementItem<'m>,
        qualifiers: &[Qualifier],
        problems: &mut Vec<Problem>,
    ) -> Option<ClassName> {
        if let Some(name) = find(qualifiers, "EmbeddedInstance").and_then(CimValue::as_str) {
            let found = self.class_name(name);
            if found.is_none()
                && let Some(used) =
                    item.qualifiers.iter().find(|used| used.name.node.eq_ignore_ascii_case("EmbeddedInstance"))
            {
                let message = format!("embedded class `{}` is not declared in {}", shorten(name), self.namespace);
                problems.push(Problem::new(used.name.span, message, ""));
            }
            return found.or_else(|| Some(ClassName::new(name)));
        }
        is_true(qualifiers, "EmbeddedObject").then(|| ClassName::from_static(""))
    }
}

/// Notes a name that was declared before in the same list.
fn duplicate(seen: &mut HashSet<ClassName>, name: &str, span: Span, what: &str, problems: &mut Vec<Problem>) -> bool {
    let is_new = seen.insert(ClassName::new(name));
    if !is_new {
        problems.push(Problem::new(span, format!("{what} `{}` is declared twice", shorten(name)), ""));
    }
    !is_new
}

/// `Override` needs something to override.
fn check_override(uses: &[super::ast::QualifierUse<'_>], has_base: bool, problems: &mut Vec<Problem>) {
    if !has_base && let Some(used) = uses.iter().find(|used| used.name.node.eq_ignore_ascii_case("Override")) {
        problems.push(Problem::new(used.name.span, "nothing to override", "no superclass declares this name"));
    }
}
