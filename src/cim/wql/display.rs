//! A query as text that parses to the same query.

use std::fmt::{self, Display, Formatter, Write};

use super::{
    AssociatorsOf, ClassQuery, Comparison, Expression, Literal, Operand, Projection, PropertyReference, Query,
    ReferencesOf, Select,
};
use crate::cim::{ClassName, ObjectPath, PropertyName};

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Select(query) => query.fmt(f),
            Self::Classes(query) => query.fmt(f),
            Self::AssociatorsOf(query) => query.fmt(f),
            Self::ReferencesOf(query) => query.fmt(f),
        }
    }
}

impl Display for Select {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SELECT ")?;
        match &self.projection {
            Projection::All => f.write_char('*')?,
            Projection::Properties(properties) => {
                for (index, property) in properties.iter().enumerate() {
                    if index > 0 {
                        f.write_char(',')?;
                    }
                    property.fmt(f)?;
                }
            }
        }
        write!(f, " FROM {}", self.class)?;
        self.filter.as_ref().map_or(Ok(()), |filter| write!(f, " WHERE {filter}"))
    }
}

impl Display for ClassQuery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SELECT * FROM META_CLASS")?;
        self.filter.as_ref().map_or(Ok(()), |filter| write!(f, " WHERE {filter}"))
    }
}

impl Display for PropertyReference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(class) = &self.class {
            write!(f, "{class}.")?;
        }
        self.name.fmt(f)
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let not = |negated: bool| if negated { " NOT" } else { "" };
        match self {
            Self::Or(items) => write_joined(f, items, " OR "),
            Self::And(items) => write_joined(f, items, " AND "),
            Self::Not(inner) => {
                f.write_str("NOT ")?;
                write_nested(f, inner)
            }
            Self::Compare { left, comparison, right } => write!(f, "{left} {} {right}", comparison.symbol()),
            Self::Like { property, pattern, negated } => {
                // A pattern has no escapes, so one that was parsed lacks the quote it stood in.
                let quote = if pattern.contains('\'') { '"' } else { '\'' };
                write!(f, "{property}{} LIKE {quote}{pattern}{quote}", not(*negated))
            }
            Self::IsNull { property, negated } => write!(f, "{property} IS{} NULL", not(*negated)),
            Self::Isa { property, class } => write!(f, "{property} ISA {class}"),
        }
    }
}

fn write_joined(f: &mut Formatter<'_>, items: &[Expression], operator: &str) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(operator)?;
        }
        write_nested(f, item)?;
    }
    Ok(())
}

fn write_nested(f: &mut Formatter<'_>, item: &Expression) -> fmt::Result {
    if matches!(item, Expression::Or(_) | Expression::And(_)) { write!(f, "({item})") } else { item.fmt(f) }
}

impl Comparison {
    /// The symbol in WQL.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(literal) => literal.fmt(f),
            Self::Property(property) => property.fmt(f),
        }
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Real(number) => write!(f, "{number:?}"),
            Self::String(text) => {
                f.write_char('\'')?;
                for c in text.chars() {
                    if matches!(c, '\\' | '\'') {
                        f.write_char('\\')?;
                    }
                    f.write_char(c)?;
                }
                f.write_char('\'')
            }
            Self::Boolean(true) => f.write_str("TRUE"),
            Self::Boolean(false) => f.write_str("FALSE"),
            Self::Null => f.write_str("NULL"),
        }
    }
}

/// Writes ` WHERE` and the options that are given.
fn write_options(f: &mut Formatter<'_>, options: &[(&str, Option<&str>)], flags: &[(&str, bool)]) -> fmt::Result {
    let given = options.iter().any(|(_, value)| value.is_some()) || flags.iter().any(|(_, set)| *set);
    if given {
        f.write_str(" WHERE")?;
    }
    for (name, value) in options {
        if let Some(value) = value {
            write!(f, " {name} = {value}")?;
        }
    }
    flags.iter().filter(|(_, set)| *set).try_for_each(|(name, _)| write!(f, " {name}"))
}

fn path_text(path: &ObjectPath) -> String {
    if path.namespace().is_some() { path.to_wmi_text(path.host().unwrap_or(".")) } else { path.to_relative_text() }
}

impl Display for AssociatorsOf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "ASSOCIATORS OF {{{}}}", path_text(&self.object))?;
        let options = [
            ("AssocClass", self.assoc_class.as_ref().map(ClassName::as_str)),
            ("ResultClass", self.result_class.as_ref().map(ClassName::as_str)),
            ("ResultRole", self.result_role.as_ref().map(PropertyName::as_str)),
            ("Role", self.role.as_ref().map(PropertyName::as_str)),
            ("RequiredQualifier", self.required_qualifier.as_ref().map(ClassName::as_str)),
            ("RequiredAssocQualifier", self.required_assoc_qualifier.as_ref().map(ClassName::as_str)),
        ];
        write_options(f, &options, &[("KeysOnly", self.keys_only), ("ClassDefsOnly", self.class_defs_only)])
    }
}

impl Display for ReferencesOf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "REFERENCES OF {{{}}}", path_text(&self.object))?;
        let options = [
            ("ResultClass", self.result_class.as_ref().map(ClassName::as_str)),
            ("Role", self.role.as_ref().map(PropertyName::as_str)),
            ("RequiredQualifier", self.required_qualifier.as_ref().map(ClassName::as_str)),
        ];
        write_options(f, &options, &[("KeysOnly", self.keys_only), ("ClassDefsOnly", self.class_defs_only)])
    }
}
