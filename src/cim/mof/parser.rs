//! Recursive descent over the tokens of one source (DSP0004 annex A).
//!
//! A mistake is noted, the parser goes on behind the next `;` or at the next `}`. Nesting is bounded.

use std::borrow::Cow;

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::ast::{
    ClassItem, ElementItem, FlavorItem, InstanceItem, Item, MethodItem, QualifierItem, QualifierUse, Scope, Spanned,
    TypeItem, Value,
};
use super::diagnostic::{Problem, Span, note};
use super::lexer::{Lexer, Token, TokenKind};
use crate::cim::CimType;

/// How deep embedded instances may nest.
const MAX_DEPTH: usize = 32;

/// The production at hand cannot go on; the problem is noted already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed;

type Parsed<T> = Result<T, Failed>;

/// The parser of one source.
#[derive(Debug)]
pub(super) struct Parser<'s> {
    room: &'s Bump,
    text: &'s str,
    lexer: Lexer<'s>,
    token: Token<'s>,
    previous_end: usize,
    depth: usize,
    problems: Vec<Problem>,
}

/// Parses a whole source into its productions, which take their place in `room`.
pub(super) fn parse_source<'s>(text: &'s str, room: &'s Bump) -> (BumpVec<'s, Item<'s>>, Vec<Problem>) {
    let mut parser = Parser::new(text, room);
    let mut items = BumpVec::new_in(room);
    while parser.token.kind != TokenKind::End {
        match parser.item() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => {}
            Err(Failed) => parser.recover_item(),
        }
    }
    (items, parser.problems)
}

/// Parses the text of one instance; `#pragma` lines in front are ignored (`ws-management.md` §11.5).
pub(super) fn parse_instance_item<'s>(text: &'s str, room: &'s Bump) -> Result<InstanceItem<'s>, Vec<Problem>> {
    let mut parser = Parser::new(text, room);
    let parsed = parser.single_instance();
    match parsed {
        Ok(instance) if parser.problems.is_empty() => Ok(instance),
        _ => Err(parser.problems),
    }
}

impl<'s> Parser<'s> {
    fn new(text: &'s str, room: &'s Bump) -> Self {
        let mut lexer = Lexer::new(text);
        let mut problems = Vec::new();
        let token = lexer.next_token(&mut problems);
        Self { room, text, lexer, token, previous_end: 0, depth: 0, problems }
    }

    fn advance(&mut self) -> Token<'s> {
        let next = self.lexer.next_token(&mut self.problems);
        self.previous_end = self.token.span.end;
        std::mem::replace(&mut self.token, next)
    }

    /// Notes that something else was expected here.
    fn fail(&mut self, expected: &str) -> Failed {
        let between = self.text.get(self.previous_end..self.token.span.start).unwrap_or_default();
        // What is missing at the end of a line is shown there, not on the line below.
        let span = if between.contains('\n') && self.previous_end > 0 {
            Span::new(self.previous_end, self.previous_end)
        } else {
            self.token.span
        };
        // A token that is malformed in itself was reported by the lexer.
        if self.problems.last().is_some_and(|last| last.span == self.token.span && span == last.span) {
            return Failed;
        }
        let message = format!("unexpected {}", self.token.kind.describe());
        note(&mut self.problems, Problem::new(span, message, format!("expected {expected}")));
        Failed
    }

    fn at(&self, punct: char) -> bool {
        self.token.kind == TokenKind::Punct(punct)
    }

    fn accept(&mut self, punct: char) -> bool {
        let found = self.at(punct);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, punct: char) -> Parsed<()> {
        if self.accept(punct) { Ok(()) } else { Err(self.fail(&format!("`{punct}`"))) }
    }

    fn at_word(&self, word: &str) -> bool {
        matches!(self.token.kind, TokenKind::Ident(name) if name.eq_ignore_ascii_case(word))
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.advance();
        }
        found
    }

    fn name(&mut self, what: &str) -> Parsed<Spanned<&'s str>> {
        let TokenKind::Ident(node) = self.token.kind else { return Err(self.fail(what)) };
        let span = self.advance().span;
        Ok(Spanned { node, span })
    }

    /// Skips to the next production: behind the `;` that ends this one, braces seen as pairs.
    fn recover_item(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.token.kind {
                TokenKind::End => return,
                TokenKind::Punct('{') => depth += 1,
                TokenKind::Punct('}') => depth = depth.saturating_sub(1),
                TokenKind::Punct(';') if depth == 0 => {
                    self.advance();
                    return;
                }
                // A directive starts a line of its own, whatever is missing before it.
                TokenKind::Punct('#') if depth == 0 => return,
                _ => {}
            }
            self.advance();
            // `}` without its `;`, and the next production begins.
            let starts = ["class", "instance", "qualifier"].iter().any(|word| self.at_word(word));
            if depth == 0 && (starts || self.at('[')) {
                return;
            }
        }
    }

    /// Skips to the next member of a class or instance: behind `;`, or to the `}` that closes it.
    fn recover_member(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.token.kind {
                TokenKind::End => return,
                TokenKind::Punct('{') => depth += 1,
                TokenKind::Punct('}') if depth == 0 => return,
                TokenKind::Punct('}') => depth -= 1,
                TokenKind::Punct(';') if depth == 0 => {
                    self.advance();
                    return;
                }
                _ => {}
            }
            self.advance();
        }
    }

    fn item(&mut self) -> Parsed<Option<Item<'s>>> {
        if self.at('#') {
            return self.directive();
        }
        if self.accept(';') {
            return Ok(None);
        }
        if self.accept_word("Qualifier") {
            return self.qualifier_declaration().map(|item| Some(Item::Qualifier(item)));
        }
        let qualifiers = self.qualifier_list()?;
        if self.accept_word("class") {
            return self.class(qualifiers).map(|item| Some(Item::Class(item)));
        }
        if self.accept_word("instance") {
            let instance = self.instance()?;
            self.expect(';')?;
            return Ok(Some(Item::Instance(instance)));
        }
        Err(self.fail("`class`, `instance of`, `Qualifier` or `#pragma`"))
    }

    /// `#pragma name ("parameter")`; unknown ones are ignored (DSP0004 §7.11).
    fn directive(&mut self) -> Parsed<Option<Item<'s>>> {
        self.expect('#')?;
        if !self.accept_word("pragma") {
            return Err(self.fail("`pragma`"));
        }
        let name = self.name("the name of the directive")?;
        self.expect('(')?;
        let parameter = self.value()?;
        while self.accept(',') {
            self.value()?;
        }
        self.expect(')')?;
        let is = |word: &str| name.node.eq_ignore_ascii_case(word);
        if !is("include") && !is("namespace") {
            return Ok(None);
        }
        let Value::Text(node) = parameter.node else {
            let problem =
                Problem::new(parameter.span, format!("malformed directive `{}`", name.node), "expected a string");
            note(&mut self.problems, problem);
            return Ok(None);
        };
        let text = Spanned { node, span: parameter.span };
        Ok(Some(if is("include") { Item::Include(text) } else { Item::Namespace(text) }))
    }

    fn qualifier_declaration(&mut self) -> Parsed<QualifierItem<'s>> {
        let name = self.name("the name of the qualifier")?;
        self.expect(':')?;
        let ty = self.intrinsic_type()?;
        let is_array = self.array_marker()?;
        let default = if self.accept('=') { Some(self.value()?) } else { None };
        let mut scopes = BumpVec::new_in(self.room);
        let mut flavor = FlavorItem::default();
        while self.accept(',') {
            if self.accept_word("Scope") {
                self.expect('(')?;
                loop {
                    let scope = self.name("a scope")?;
                    match Scope::from_name(scope.node) {
                        Some(scope) => scopes.push(scope),
                        None => note(
                            &mut self.problems,
                            Problem::new(
                                scope.span,
                                format!("unknown scope `{}`", scope.node),
                                "expected any, association, class, indication, method, parameter, property, reference or schema",
                            ),
                        ),
                    }
                    if !self.accept(',') {
                        break;
                    }
                }
                self.expect(')')?;
            } else if self.accept_word("Flavor") {
                self.expect('(')?;
                self.flavor(&mut flavor)?;
                while self.accept(',') {
                    self.flavor(&mut flavor)?;
                }
                self.expect(')')?;
            } else {
                return Err(self.fail("`Scope` or `Flavor`"));
            }
        }
        self.expect(';')?;
        Ok(QualifierItem { name, ty, is_array, default, scopes, flavor })
    }

    fn flavor(&mut self, item: &mut FlavorItem) -> Parsed<()> {
        let name = self.name("a flavor")?;
        match name.node.to_ascii_lowercase().as_str() {
            "enableoverride" => item.overridable = Some(true),
            "disableoverride" => item.overridable = Some(false),
            "tosubclass" => item.to_subclass = Some(true),
            "restricted" => item.to_subclass = Some(false),
            "translatable" | "amended" => item.translatable = Some(true),
            // Of WMI: instances carry no qualifiers here.
            "toinstance" => {}
            _ => note(
                &mut self.problems,
                Problem::new(
                    name.span,
                    format!("unknown flavor `{}`", name.node),
                    "expected EnableOverride, DisableOverride, ToSubclass, Restricted or Translatable",
                ),
            ),
        }
        Ok(())
    }

    /// `[Key, MaxLen(256)]`, or nothing.
    fn qualifier_list(&mut self) -> Parsed<BumpVec<'s, QualifierUse<'s>>> {
        let mut list = BumpVec::new_in(self.room);
        if !self.accept('[') {
            return Ok(list);
        }
        loop {
            let name = self.name("a qualifier")?;
            let value = if self.accept('(') {
                let value = self.value()?;
                self.expect(')')?;
                Some(value)
            } else if self.at('{') {
                Some(self.value()?)
            } else {
                None
            };
            let mut flavor = FlavorItem::default();
            if self.accept(':') {
                self.flavor(&mut flavor)?;
                while matches!(self.token.kind, TokenKind::Ident(_)) {
                    self.flavor(&mut flavor)?;
                }
            }
            list.push(QualifierUse { name, value, flavor });
            if self.accept(']') {
                return Ok(list);
            }
            if !self.accept(',') {
                return Err(self.fail("`,` or `]`"));
            }
        }
    }

    fn class(&mut self, qualifiers: BumpVec<'s, QualifierUse<'s>>) -> Parsed<ClassItem<'s>> {
        let name = self.name("the name of the class")?;
        let superclass = if self.accept(':') { Some(self.name("the name of the superclass")?) } else { None };
        self.expect('{')?;
        let mut class = ClassItem {
            qualifiers,
            name,
            superclass,
            properties: BumpVec::new_in(self.room),
            methods: BumpVec::new_in(self.room),
        };
        while !self.at('}') {
            if self.token.kind == TokenKind::End {
                return Err(self.fail("a property, a method or `}`"));
            }
            if self.member(&mut class).is_err() {
                self.recover_member();
            }
        }
        self.expect('}')?;
        if !self.accept(';') {
            // The class is whole; what follows is not lost because of this.
            let _noted = self.fail("`;`");
        }
        Ok(class)
    }

    fn member(&mut self, class: &mut ClassItem<'s>) -> Parsed<()> {
        let qualifiers = self.qualifier_list()?;
        let ty = self.element_type()?;
        let name = self.name("a name")?;
        if self.at('(') {
            let parameters = self.parameters()?;
            self.expect(';')?;
            class.methods.push(MethodItem { qualifiers, ty, name, parameters });
            return Ok(());
        }
        let is_array = self.array_marker()?;
        let default = if self.accept('=') { Some(self.value()?) } else { None };
        if !self.at(';') {
            let expected = if default.is_some() { "`;`" } else { "`;`, `=`, `[` or `(`" };
            return Err(self.fail(expected));
        }
        self.advance();
        class.properties.push(ElementItem { qualifiers, ty, name, is_array, default });
        Ok(())
    }

    fn parameters(&mut self) -> Parsed<BumpVec<'s, ElementItem<'s>>> {
        let mut parameters = BumpVec::new_in(self.room);
        self.expect('(')?;
        if self.accept(')') {
            return Ok(parameters);
        }
        loop {
            let qualifiers = self.qualifier_list()?;
            let ty = self.element_type()?;
            let name = self.name("the name of a parameter")?;
            let is_array = self.array_marker()?;
            parameters.push(ElementItem { qualifiers, ty, name, is_array, default: None });
            if self.accept(')') {
                return Ok(parameters);
            }
            if !self.accept(',') {
                return Err(self.fail("`,` or `)`"));
            }
        }
    }

    /// `[]` or `[8]`; the size is only a hint in CIM.
    fn array_marker(&mut self) -> Parsed<bool> {
        if !self.accept('[') {
            return Ok(false);
        }
        if matches!(self.token.kind, TokenKind::Integer(_)) {
            self.advance();
        }
        self.expect(']')?;
        Ok(true)
    }

    fn intrinsic_type(&mut self) -> Parsed<CimType> {
        let ty = match self.token.kind {
            TokenKind::Ident(name) => CimType::from_name(name),
            _ => None,
        };
        let ty = ty.ok_or_else(|| self.fail("a type such as string, boolean or uint32"))?;
        self.advance();
        Ok(ty)
    }

    /// An intrinsic type or `Class REF`.
    fn element_type(&mut self) -> Parsed<TypeItem<'s>> {
        let TokenKind::Ident(name) = self.token.kind else { return Err(self.fail("a type")) };
        let span = self.advance().span;
        if self.accept_word("REF") {
            return Ok(TypeItem { ty: CimType::Reference, reference: Some((name, span)) });
        }
        if let Some(ty) = CimType::from_name(name) {
            return Ok(TypeItem { ty, reference: None });
        }
        let message = format!("unknown type `{}`", super::lexer::shorten(name));
        let expected = "expected a type such as string or uint32, or a class with REF";
        note(&mut self.problems, Problem::new(span, message, expected));
        Err(Failed)
    }

    fn value(&mut self) -> Parsed<Spanned<Value<'s>>> {
        let start = self.token.span;
        let node = match self.token.kind {
            TokenKind::Punct('{') => return self.array_value(),
            TokenKind::Text(_) => return Ok(self.text_value()),
            TokenKind::Integer(number) => Value::Integer(number),
            TokenKind::Real(text) => Value::Real(text),
            TokenKind::Char(unit) => Value::Char(unit),
            TokenKind::Alias(name) => Value::Alias(name),
            TokenKind::Ident(_) if self.at_word("TRUE") => Value::Boolean(true),
            TokenKind::Ident(_) if self.at_word("FALSE") => Value::Boolean(false),
            TokenKind::Ident(_) if self.at_word("NULL") => Value::Null,
            TokenKind::Ident(_) if self.at_word("instance") => {
                self.advance();
                let instance = self.instance()?;
                let span = Span::new(start.start, self.previous_end);
                return Ok(Spanned { node: Value::Instance(Box::new(instance)), span });
            }
            _ => return Err(self.fail("a value")),
        };
        self.advance();
        Ok(Spanned { node, span: start })
    }

    /// Adjacent string literals make one string.
    fn text_value(&mut self) -> Spanned<Value<'s>> {
        let start = self.token.span.start;
        let mut text = Cow::Borrowed("");
        while let TokenKind::Text(_) = self.token.kind {
            if let TokenKind::Text(part) = self.advance().kind {
                if text.is_empty() {
                    text = part;
                } else {
                    text.to_mut().push_str(&part);
                }
            }
        }
        Spanned { node: Value::Text(text), span: Span::new(start, self.previous_end) }
    }

    fn array_value(&mut self) -> Parsed<Spanned<Value<'s>>> {
        let start = self.token.span.start;
        self.expect('{')?;
        let Ok(items) = self.array_items() else {
            self.leave_array();
            return Err(Failed);
        };
        Ok(Spanned { node: Value::Array(items), span: Span::new(start, self.previous_end) })
    }

    fn array_items(&mut self) -> Parsed<BumpVec<'s, Spanned<Value<'s>>>> {
        let mut items = BumpVec::new_in(self.room);
        if self.accept('}') {
            return Ok(items);
        }
        loop {
            if self.at('{') {
                return Err(self.fail("a single value: arrays do not nest"));
            }
            items.push(self.value()?);
            if self.accept('}') {
                return Ok(items);
            }
            if !self.accept(',') {
                return Err(self.fail("`,` or `}`"));
            }
        }
    }

    /// Goes behind the brace that closes a broken array, lest it seem to close the class.
    fn leave_array(&mut self) {
        while !matches!(self.token.kind, TokenKind::End | TokenKind::Punct(';' | '}')) {
            self.advance();
        }
        self.accept('}');
    }

    /// What follows `instance`, up to the closing brace.
    fn instance(&mut self) -> Parsed<InstanceItem<'s>> {
        if !self.accept_word("of") {
            return Err(self.fail("`of`"));
        }
        if self.depth >= MAX_DEPTH {
            return Err(self.fail("no deeper nesting of instances"));
        }
        self.depth += 1;
        let instance = self.instance_body();
        self.depth -= 1;
        instance
    }

    fn instance_body(&mut self) -> Parsed<InstanceItem<'s>> {
        let class = self.name("the name of a class")?;
        let alias = if self.accept_word("as") {
            let TokenKind::Alias(node) = self.token.kind else { return Err(self.fail("an alias such as `$Name`")) };
            Some(Spanned { node, span: self.advance().span })
        } else {
            None
        };
        self.expect('{')?;
        let mut properties = BumpVec::new_in(self.room);
        while !self.at('}') {
            if self.token.kind == TokenKind::End {
                return Err(self.fail("a property or `}`"));
            }
            match self.assignment() {
                Ok(property) => properties.push(property),
                Err(Failed) => self.recover_member(),
            }
        }
        self.expect('}')?;
        Ok(InstanceItem { class, alias, properties })
    }

    fn assignment(&mut self) -> Parsed<(Spanned<&'s str>, Spanned<Value<'s>>)> {
        // Qualifiers of an instance's properties say nothing the class does not say.
        self.qualifier_list()?;
        let name = self.name("the name of a property")?;
        self.expect('=')?;
        let value = self.value()?;
        self.expect(';')?;
        Ok((name, value))
    }

    fn single_instance(&mut self) -> Parsed<InstanceItem<'s>> {
        while self.at('#') {
            self.directive()?;
        }
        self.qualifier_list()?;
        if !self.accept_word("instance") {
            return Err(self.fail("`instance of`"));
        }
        let instance = self.instance()?;
        self.accept(';');
        if self.token.kind != TokenKind::End {
            return Err(self.fail("the end of the text"));
        }
        Ok(instance)
    }
}
