//! Value initialisers meet their types.

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Spanned, Value};
use super::diagnostic::{Problem, Span};
use super::intern::Interner;
use super::lexer::shorten;
use crate::cim::{CimDateTime, CimType, CimValue, ObjectPath};

/// The paths aliases stand for.
pub(super) type Aliases<'m> = HashMap<&'m str, ObjectPath>;

/// What an initialiser is checked against, and where findings go.
pub(super) struct Typing<'a, 'm> {
    pub(super) interner: &'a mut Interner,
    pub(super) aliases: &'a Aliases<'m>,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Typing<'_, '_> {
    /// The value as the type has it; a finding and null when it does not fit.
    pub(super) fn value(&mut self, value: &Spanned<Value<'_>>, ty: CimType, is_array: bool) -> CimValue {
        match (&value.node, is_array) {
            (Value::Null, _) => CimValue::Null,
            (Value::Array(items), true) => self.array(items, ty),
            (Value::Array(_), false) => self.mismatch(value.span, "an array", &format!("expected a single {ty}")),
            (other, true) => {
                let expected = format!("expected an array of {ty} in braces");
                self.mismatch(value.span, &describe(other), &expected)
            }
            (_, false) => self.scalar(value, ty),
        }
    }

    fn mismatch(&mut self, span: Span, found: &str, expected: &str) -> CimValue {
        self.problems.push(Problem::new(span, format!("{found} does not fit the type"), expected));
        CimValue::Null
    }

    fn array(&mut self, items: &[Spanned<Value<'_>>], ty: CimType) -> CimValue {
        if ty == CimType::String
            && let Some(texts) = items.iter().map(|item| self.plain_text(&item.node)).collect::<Option<Vec<_>>>()
        {
            return self.interner.text_array(texts);
        }
        items.iter().map(|item| self.scalar(item, ty)).collect::<Vec<_>>().into()
    }

    fn plain_text(&mut self, value: &Value<'_>) -> Option<smol_str::SmolStr> {
        match value {
            Value::Text(text) => Some(self.interner.text(text)),
            _ => None,
        }
    }

    fn scalar(&mut self, value: &Spanned<Value<'_>>, ty: CimType) -> CimValue {
        let converted = match (&value.node, ty) {
            (Value::Null, _) => Some(CimValue::Null),
            (Value::Boolean(value), CimType::Boolean) => Some(CimValue::Boolean(*value)),
            (Value::Integer(number), ty) if ty.is_integer() => CimValue::parse(ty, &number.to_string()).ok(),
            (Value::Integer(number), CimType::Real32 | CimType::Real64) => {
                CimValue::parse(ty, &number.to_string()).ok()
            }
            (Value::Integer(number), CimType::Char16) => u16::try_from(*number).ok().map(CimValue::Char16),
            (Value::Real(text), CimType::Real32 | CimType::Real64) => CimValue::parse(ty, text).ok(),
            (Value::Char(unit), CimType::Char16) => Some(CimValue::Char16(*unit)),
            (Value::Text(text), CimType::String) => Some(CimValue::String(self.interner.text(text))),
            (Value::Text(text), CimType::DateTime) => CimDateTime::parse(text).ok().map(CimValue::DateTime),
            (Value::Text(text), CimType::Reference) => {
                ObjectPath::parse(text).ok().map(|path| CimValue::Reference(Arc::new(path)))
            }
            (Value::Alias(name), CimType::Reference) => {
                let Some(path) = self.aliases.get(name) else {
                    let message = format!("alias ${} is not declared", shorten(name));
                    let expected = "expected `as` with this alias on an instance";
                    self.problems.push(Problem::new(value.span, message, expected));
                    return CimValue::Null;
                };
                Some(CimValue::Reference(Arc::new(path.clone())))
            }
            _ => None,
        };
        converted.unwrap_or_else(|| self.mismatch(value.span, &describe(&value.node), &wanted(ty)))
    }
}

/// A value as a message names it.
fn describe(value: &Value<'_>) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Boolean(value) => if *value { "TRUE" } else { "FALSE" }.to_owned(),
        Value::Integer(number) => format!("number {number}"),
        Value::Real(text) => format!("number {}", shorten(text)),
        Value::Char(_) => "a character".to_owned(),
        Value::Text(text) => format!("string \"{}\"", shorten(text)),
        Value::Alias(name) => format!("alias ${}", shorten(name)),
        Value::Array(_) => "an array".to_owned(),
        Value::Instance(_) => "an instance".to_owned(),
    }
}

/// What an initialiser of a type looks like.
fn wanted(ty: CimType) -> String {
    let range = match ty {
        CimType::Boolean => "expected TRUE or FALSE",
        CimType::Uint8 => "expected uint8: 0 to 255",
        CimType::Uint16 => "expected uint16: 0 to 65535",
        CimType::Uint32 => "expected uint32: 0 to 4294967295",
        CimType::Sint8 => "expected sint8: -128 to 127",
        CimType::Sint16 => "expected sint16: -32768 to 32767",
        CimType::Uint64 | CimType::Sint32 | CimType::Sint64 => {
            return format!("expected an integer in the range of {ty}");
        }
        CimType::Real32 | CimType::Real64 => "expected a number",
        CimType::Char16 => "expected a character in single quotes",
        CimType::String => "expected a string in double quotes",
        CimType::DateTime => "expected a datetime such as \"20260115102030.000000+000\"",
        CimType::Reference => "expected an object path in quotes or an alias",
    };
    range.to_owned()
}
