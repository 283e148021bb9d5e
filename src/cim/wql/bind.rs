//! A `SELECT` meets its class: names become positions, and types are checked once.

use std::borrow::Cow;
use std::sync::Arc;

use super::like::Pattern;
use super::scalar::Scalar;
use super::{
    Comparison, Expression, Literal, Operand, Projection, PropertyReference, Select, SystemProperty, WqlError,
};
use crate::cim::{CimDateTime, CimType, ClassDeclaration, ClassName, ObjectPath, PropertyName, normalize_namespace};

/// A query whose properties are those of a class and whose literals have their types.
#[derive(Clone, Debug)]
pub struct BoundQuery {
    pub(super) class: Arc<ClassDeclaration>,
    pub(super) test: Option<Test>,
    projection: Option<Vec<usize>>,
}

impl BoundQuery {
    /// The class it was bound to.
    #[must_use]
    pub const fn class(&self) -> &Arc<ClassDeclaration> {
        &self.class
    }

    /// The positions of the properties that are wanted, in the order of the class, which is that of the wire;
    /// `None` for all. System properties are not among them, because no instance carries them on the wire.
    #[must_use]
    pub fn projection(&self) -> Option<&[usize]> {
        self.projection.as_deref()
    }
}

impl Select {
    /// Checks the query against its class.
    ///
    /// The class is the one the caller found under [`Select::class`]. Numbers compare with numbers, strings with
    /// strings, booleans with booleans; a string literal beside a datetime, `char16` or reference is read as
    /// one. Booleans and references know `=` and `<>` only, arrays `IS NULL` only.
    ///
    /// # Errors
    /// [`WqlError`] when a property does not exist, or types or patterns do not fit.
    pub fn bind(&self, class: &Arc<ClassDeclaration>) -> Result<BoundQuery, WqlError> {
        self.bind_with(&Binder { class, embedded: None })
    }

    pub(super) fn bind_with(&self, binder: &Binder<'_>) -> Result<BoundQuery, WqlError> {
        let projection = match &self.projection {
            Projection::All => None,
            Projection::Properties(properties) => {
                let mut indexes = Vec::with_capacity(properties.len());
                for property in properties {
                    match binder.source(property)? {
                        Source::Property { index, .. } => indexes.push(index),
                        Source::Embedded { .. } => return Err(binder.unknown(property)),
                        Source::System(_) | Source::Constant(_) => {}
                    }
                }
                indexes.sort_unstable();
                indexes.dedup();
                Some(indexes)
            }
        };
        let test = self.filter.as_ref().map(|filter| binder.test(filter)).transpose()?;
        Ok(BoundQuery { class: Arc::clone(binder.class), test, projection })
    }
}

/// A condition of a bound query.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Or(Vec<Self>),
    And(Vec<Self>),
    Not(Box<Self>),
    Compare { left: Source, comparison: Comparison, right: Source },
    Like { source: Source, pattern: Pattern, negated: bool },
    IsNull { source: Source, negated: bool },
    Isa { source: Source, class: ClassName },
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A property; the position holds for instances of the bound class itself, the name for derived ones.
    Property {
        index: usize,
        name: PropertyName,
    },
    System(SystemProperty),
    /// A property of an embedded instance; the position inside does not hold, because its class is not known.
    Embedded {
        index: usize,
        name: PropertyName,
        inner: Box<Self>,
    },
    Constant(Scalar<'static>),
}

/// What a side of a comparison can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Character,
    Text,
    Boolean,
    DateTime,
    Path,
    /// Text in which both separators are the same.
    Namespace,
    /// An array or the instance itself, which are not compared.
    Other,
}

pub(super) struct Binder<'a> {
    pub(super) class: &'a Arc<ClassDeclaration>,
    /// For queries that may look into embedded instances.
    pub(super) embedded: Option<Embedded<'a>>,
}

/// The classes that an embedded instance may have, of a name or without one; none when there is no such class.
pub type Candidates<'a> = dyn Fn(Option<&ClassName>) -> Option<Vec<Arc<ClassDeclaration>>> + 'a;

/// What classes embedded instances may have.
#[derive(Clone, Copy)]
pub(super) struct Embedded<'a> {
    /// What the query says of them: property and class.
    pub(super) stated: &'a [(&'a str, &'a ClassName)],
    pub(super) candidates: &'a Candidates<'a>,
}

impl Embedded<'_> {
    /// The first class that an instance in `property` may have and that has the property `wanted`.
    fn class_with(&self, property: &str, wanted: &str) -> Option<Arc<ClassDeclaration>> {
        let own = self.stated.iter().find(|(name, _)| name.eq_ignore_ascii_case(property));
        let stated = own.or_else(|| self.stated.first()).map(|(_, class)| *class);
        let candidates = (self.candidates)(stated)?;
        candidates.into_iter().find(|class| class.property_index(wanted).is_some())
    }
}

impl Binder<'_> {
    fn test(&self, expression: &Expression) -> Result<Test, WqlError> {
        let all = |items: &[Expression]| items.iter().map(|item| self.test(item)).collect::<Result<Vec<_>, _>>();
        Ok(match expression {
            Expression::Or(items) => Test::Or(all(items)?),
            Expression::And(items) => Test::And(all(items)?),
            Expression::Not(inner) => Test::Not(Box::new(self.test(inner)?)),
            Expression::Compare { left, comparison, right } => self.compare(left, *comparison, right)?,
            Expression::Like { property, pattern, negated } => {
                if !matches!(self.kind(property)?, Kind::Text | Kind::Path | Kind::DateTime | Kind::Namespace) {
                    return Err(operator_mismatch("LIKE", property));
                }
                Test::Like { source: self.source(property)?, pattern: Pattern::new(pattern)?, negated: *negated }
            }
            Expression::IsNull { property, negated } => {
                Test::IsNull { source: self.source(property)?, negated: *negated }
            }
            Expression::Isa { property, class } => {
                let source = self.source(property)?;
                if !self.holds_object(&source) {
                    return Err(operator_mismatch("ISA", property));
                }
                Test::Isa { source, class: class.clone() }
            }
        })
    }

    fn unknown(&self, property: &PropertyReference) -> WqlError {
        let class = property.class.as_ref().map_or_else(String::new, |class| format!("{}.", shown(class.as_str())));
        WqlError::UnknownProperty {
            class: self.class.name().to_string(),
            property: format!("{class}{}", shown(property.name.as_str())),
        }
    }

    /// The property whose embedded instance a reference looks into, and the binder for what is inside.
    fn inside<T>(
        &self,
        property: &PropertyReference,
        then: impl FnOnce(usize, &PropertyName, &Binder<'_>, &PropertyReference) -> Result<T, WqlError>,
    ) -> Result<Option<T>, WqlError> {
        let (Some(embedded), Some(outer)) = (self.embedded, &property.class) else { return Ok(None) };
        let holds = |index: &usize| {
            self.class.properties().get(*index).filter(|found| found.embedded_class.is_some() && !found.is_array())
        };
        let index = self.class.property_index(outer.as_str());
        let Some((index, declaration)) = index.and_then(|index| Some((index, holds(&index)?))) else {
            return Ok(None);
        };
        let reference = PropertyReference { class: None, name: property.name.clone() };
        let class = match reference.system() {
            // Every class has it.
            Some(_) => Arc::clone(self.class),
            None => {
                embedded.class_with(outer.as_str(), reference.name.as_str()).ok_or_else(|| self.unknown(property))?
            }
        };
        then(index, declaration.name(), &Binder { class: &class, embedded: None }, &reference).map(Some)
    }

    fn source(&self, property: &PropertyReference) -> Result<Source, WqlError> {
        let embedded = self.inside(property, |index, name, binder, reference| {
            let inner = Box::new(binder.source(reference)?);
            Ok(Source::Embedded { index, name: name.clone(), inner })
        })?;
        if let Some(source) = embedded {
            return Ok(source);
        }
        if let Some(class) = property.class.as_ref().filter(|class| !self.class.is_a(class.as_str())) {
            return Err(WqlError::UnrelatedClass {
                class: self.class.name().to_string(),
                other: shown(class.as_str()).to_owned(),
            });
        }
        if let Some(system) = property.system() {
            return Ok(Source::System(system));
        }
        let index = self.class.property_index(property.name.as_str()).ok_or_else(|| WqlError::UnknownProperty {
            class: self.class.name().to_string(),
            property: shown(property.name.as_str()).to_owned(),
        })?;
        Ok(Source::Property { index, name: property.name.clone() })
    }

    fn kind(&self, property: &PropertyReference) -> Result<Kind, WqlError> {
        if let Some(kind) = self.inside(property, |_, _, binder, reference| binder.kind(reference))? {
            return Ok(kind);
        }
        Ok(match self.source(property)? {
            Source::System(SystemProperty::Path | SystemProperty::RelativePath) => Kind::Path,
            Source::System(SystemProperty::Namespace) => Kind::Namespace,
            Source::System(SystemProperty::This) | Source::Embedded { .. } => Kind::Other,
            Source::System(_) | Source::Constant(_) => Kind::Text,
            Source::Property { index, .. } => match self.class.properties().get(index) {
                Some(declaration) if !declaration.is_array() => match declaration.cim_type() {
                    CimType::Boolean => Kind::Boolean,
                    CimType::Char16 => Kind::Character,
                    CimType::String => Kind::Text,
                    CimType::DateTime => Kind::DateTime,
                    CimType::Reference => Kind::Path,
                    _ => Kind::Number,
                },
                _ => Kind::Other,
            },
        })
    }

    fn holds_object(&self, source: &Source) -> bool {
        match source {
            Source::System(system) => matches!(system, SystemProperty::This | SystemProperty::Class),
            Source::Property { index, .. } => self
                .class
                .properties()
                .get(*index)
                .is_some_and(|property| property.embedded_class.is_some() && !property.is_array()),
            Source::Embedded { .. } | Source::Constant(_) => false,
        }
    }

    fn compare(&self, left: &Operand, comparison: Comparison, right: &Operand) -> Result<Test, WqlError> {
        let mismatch = || WqlError::TypeMismatch { left: self.describe(left), right: self.describe(right) };
        let (kind, left_source, right_source) = match (left, right) {
            (Operand::Property(left), Operand::Property(right)) => {
                let kind = self.kind(left)?;
                if kind != self.kind(right)? {
                    return Err(mismatch());
                }
                (kind, self.source(left)?, self.source(right)?)
            }
            (Operand::Property(left), Operand::Literal(literal)) => {
                let kind = self.kind(left)?;
                (kind, self.source(left)?, Source::Constant(constant(kind, literal).ok_or_else(mismatch)?))
            }
            (Operand::Literal(literal), Operand::Property(right)) => {
                let kind = self.kind(right)?;
                (kind, Source::Constant(constant(kind, literal).ok_or_else(mismatch)?), self.source(right)?)
            }
            (Operand::Literal(left), Operand::Literal(right)) => {
                let kind = literal_kind(left);
                let constant = |literal| constant(kind, literal).map(Source::Constant).ok_or_else(mismatch);
                (kind, constant(left)?, constant(right)?)
            }
        };
        let ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        let derivation = |source: &Source| matches!(source, Source::System(SystemProperty::Derivation));
        if kind == Kind::Other
            || (ordered && matches!(kind, Kind::Boolean | Kind::Path))
            || (derivation(&left_source) && derivation(&right_source))
        {
            return Err(WqlError::OperatorMismatch { operator: comparison.symbol(), operand: self.describe(left) });
        }
        Ok(Test::Compare { left: left_source, comparison, right: right_source })
    }

    fn describe(&self, operand: &Operand) -> String {
        match operand {
            Operand::Literal(Literal::String(text)) => format!("string \"{}\"", shown(text)),
            Operand::Literal(Literal::Integer(number)) => format!("integer {number}"),
            Operand::Literal(Literal::Real(number)) => format!("real {number}"),
            Operand::Literal(Literal::Boolean(value)) => format!("boolean {value}"),
            Operand::Literal(Literal::Null) => "NULL".to_owned(),
            Operand::Property(property) => {
                let name = shown(property.name.as_str());
                match self.class.property(name) {
                    Some(declaration) if declaration.is_array() => format!("array property {name}"),
                    Some(declaration) => format!("{} property {name}", declaration.cim_type()),
                    None => format!("property {name}"),
                }
            }
        }
    }
}

fn operator_mismatch(operator: &'static str, property: &PropertyReference) -> WqlError {
    WqlError::OperatorMismatch { operator, operand: format!("property {}", shown(property.name.as_str())) }
}

/// At most 64 bytes of a client's text, for an error.
fn shown(text: &str) -> &str {
    let end = (0..=64.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    text.get(..end).unwrap_or_default()
}

const fn literal_kind(literal: &Literal) -> Kind {
    match literal {
        Literal::Integer(_) | Literal::Real(_) => Kind::Number,
        Literal::String(_) => Kind::Text,
        Literal::Boolean(_) => Kind::Boolean,
        Literal::Null => Kind::Other,
    }
}

/// A literal as a value that compares with `kind`; `None` when it does not.
fn constant(kind: Kind, literal: &Literal) -> Option<Scalar<'static>> {
    Some(match (kind, literal) {
        (Kind::Number, Literal::Integer(number)) => Scalar::Integer(*number),
        (Kind::Character, Literal::Integer(number)) => Scalar::Integer(u16::try_from(*number).ok()?.into()),
        (Kind::Number, Literal::Real(number)) => Scalar::Real(*number),
        (Kind::Text, Literal::String(text)) => Scalar::Text(Cow::Owned(text.to_string())),
        (Kind::Namespace, Literal::String(text)) => Scalar::Text(Cow::Owned(normalize_namespace(text).into_owned())),
        (Kind::Boolean, Literal::Boolean(value)) => Scalar::Boolean(*value),
        (Kind::DateTime, Literal::String(text)) => Scalar::DateTime(Cow::Owned(CimDateTime::parse(text).ok()?)),
        (Kind::Path, Literal::String(text)) => Scalar::Path(Cow::Owned(ObjectPath::parse(text).ok()?)),
        (Kind::Character, Literal::String(text)) => {
            let mut units = text.encode_utf16();
            let (Some(unit), None) = (units.next(), units.next()) else {
                return None;
            };
            Scalar::Integer(unit.into())
        }
        _ => return None,
    })
}
