//! MOF as it is written: names and values with their places, nothing resolved.
//!
//! What is parsed is several times larger than the schema it becomes, and is let go as soon as that is made. Its lists
//! are therefore all in one room, which is given back whole: piece by piece it would leave holes among the classes.

use std::borrow::Cow;

use bumpalo::collections::Vec as BumpVec;

use super::diagnostic::Span;
use crate::cim::CimType;

/// A node with the place it was written at.
#[derive(Clone, Debug)]
pub(super) struct Spanned<T> {
    pub(super) node: T,
    pub(super) span: Span,
}

/// A value initialiser.
#[derive(Clone, Debug)]
pub(super) enum Value<'s> {
    Null,
    Boolean(bool),
    Integer(i128),
    Real(&'s str),
    Char(u16),
    Text(Cow<'s, str>),
    Alias(&'s str),
    Array(BumpVec<'s, Spanned<Self>>),
    Instance(Box<InstanceItem<'s>>),
}

/// A production of the top level.
#[derive(Debug)]
pub(super) enum Item<'s> {
    Include(Spanned<Cow<'s, str>>),
    Namespace(Spanned<Cow<'s, str>>),
    Qualifier(QualifierItem<'s>),
    Class(ClassItem<'s>),
    Instance(InstanceItem<'s>),
}

/// Where a qualifier may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Any,
    Association,
    Class,
    Indication,
    Method,
    Parameter,
    Property,
    Reference,
    Schema,
}

impl Scope {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Association => "association",
            Self::Class => "class",
            Self::Indication => "indication",
            Self::Method => "method",
            Self::Parameter => "parameter",
            Self::Property => "property",
            Self::Reference => "reference",
            Self::Schema => "schema",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [
            Self::Any,
            Self::Association,
            Self::Class,
            Self::Indication,
            Self::Method,
            Self::Parameter,
            Self::Property,
            Self::Reference,
            Self::Schema,
        ]
        .into_iter()
        .find(|scope| scope.name().eq_ignore_ascii_case(name))
    }
}

/// What a source says about a flavor; what it leaves out comes from the qualifier declaration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlavorItem {
    pub(super) overridable: Option<bool>,
    pub(super) to_subclass: Option<bool>,
    pub(super) translatable: Option<bool>,
}

/// `Qualifier Key : boolean = false, Scope(property, reference), Flavor(DisableOverride);`
#[derive(Debug)]
pub(super) struct QualifierItem<'s> {
    pub(super) name: Spanned<&'s str>,
    pub(super) ty: CimType,
    pub(super) is_array: bool,
    pub(super) default: Option<Spanned<Value<'s>>>,
    pub(super) scopes: BumpVec<'s, Scope>,
    pub(super) flavor: FlavorItem,
}

/// A qualifier on an element: `Key`, `MaxLen(256)`, `Values {"a", "b"} : Translatable`.
#[derive(Debug)]
pub(super) struct QualifierUse<'s> {
    pub(super) name: Spanned<&'s str>,
    pub(super) value: Option<Spanned<Value<'s>>>,
    pub(super) flavor: FlavorItem,
}

/// A class declaration.
#[derive(Debug)]
pub(super) struct ClassItem<'s> {
    pub(super) qualifiers: BumpVec<'s, QualifierUse<'s>>,
    pub(super) name: Spanned<&'s str>,
    pub(super) superclass: Option<Spanned<&'s str>>,
    pub(super) properties: BumpVec<'s, ElementItem<'s>>,
    pub(super) methods: BumpVec<'s, MethodItem<'s>>,
}

/// The type of an element; a reference has the class it points to.
#[derive(Clone, Copy, Debug)]
pub(super) struct TypeItem<'s> {
    pub(super) ty: CimType,
    pub(super) reference: Option<(&'s str, Span)>,
}

/// A property, reference or parameter.
#[derive(Debug)]
pub(super) struct ElementItem<'s> {
    pub(super) qualifiers: BumpVec<'s, QualifierUse<'s>>,
    pub(super) ty: TypeItem<'s>,
    pub(super) name: Spanned<&'s str>,
    pub(super) is_array: bool,
    pub(super) default: Option<Spanned<Value<'s>>>,
}

/// A method.
#[derive(Debug)]
pub(super) struct MethodItem<'s> {
    pub(super) qualifiers: BumpVec<'s, QualifierUse<'s>>,
    pub(super) ty: TypeItem<'s>,
    pub(super) name: Spanned<&'s str>,
    pub(super) parameters: BumpVec<'s, ElementItem<'s>>,
}

/// `instance of Class as $Alias { Property = value; };`
#[derive(Clone, Debug)]
pub(super) struct InstanceItem<'s> {
    pub(super) class: Spanned<&'s str>,
    pub(super) alias: Option<Spanned<&'s str>>,
    pub(super) properties: BumpVec<'s, (Spanned<&'s str>, Spanned<Value<'s>>)>,
}
