//! What a query says, before it meets a class.

use smol_str::SmolStr;

use super::ClassQuery;
use crate::cim::{ClassName, ObjectPath, PropertyName};

/// A WQL query.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// `SELECT … FROM … WHERE …`
    Select(Select),
    /// `SELECT * FROM META_CLASS WHERE …`
    Classes(ClassQuery),
    /// `ASSOCIATORS OF {…} WHERE …`
    AssociatorsOf(AssociatorsOf),
    /// `REFERENCES OF {…} WHERE …`
    ReferencesOf(ReferencesOf),
}

/// A query for instances of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// Which properties are wanted.
    pub projection: Projection,
    /// The class; instances of classes derived from it are meant too.
    pub class: ClassName,
    /// The condition.
    pub filter: Option<Expression>,
}

/// The list after `SELECT`.
#[derive(Clone, Debug, PartialEq)]
pub enum Projection {
    /// `*`
    All,
    /// The properties named, in their order.
    Properties(Vec<PropertyReference>),
}

/// A property, maybe with the name of its class in front.
#[derive(Clone, Debug, PartialEq)]
pub struct PropertyReference {
    /// The class in `class.property`.
    pub class: Option<ClassName>,
    /// The property; system properties start with two underscores.
    pub name: PropertyName,
}

impl PropertyReference {
    /// The system property that is meant, if it is one.
    #[must_use]
    pub fn system(&self) -> Option<SystemProperty> {
        SystemProperty::from_name(self.name.as_str())
    }
}

/// A property that every instance has without declaring it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemProperty {
    /// `__CLASS`: the class of the instance.
    Class,
    /// `__DERIVATION`: its superclasses, nearest first; a comparison holds when it holds for one of them.
    Derivation,
    /// `__DYNASTY`: the last of its superclasses, or the class itself.
    Dynasty,
    /// `__NAMESPACE`: the namespace.
    Namespace,
    /// `__PATH`: the whole object path.
    Path,
    /// `__RELPATH`: the object path without host and namespace.
    RelativePath,
    /// `__SERVER`: the name of the host.
    Server,
    /// `__SUPERCLASS`: the class above the class of the instance.
    Superclass,
    /// `__THIS`: the instance, for `ISA`.
    This,
}

impl SystemProperty {
    const ALL: [Self; 9] = [
        Self::Class,
        Self::Derivation,
        Self::Dynasty,
        Self::Namespace,
        Self::Path,
        Self::RelativePath,
        Self::Server,
        Self::Superclass,
        Self::This,
    ];

    /// The name in WQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Class => "__CLASS",
            Self::Derivation => "__DERIVATION",
            Self::Dynasty => "__DYNASTY",
            Self::Namespace => "__NAMESPACE",
            Self::Path => "__PATH",
            Self::RelativePath => "__RELPATH",
            Self::Server => "__SERVER",
            Self::Superclass => "__SUPERCLASS",
            Self::This => "__THIS",
        }
    }

    /// The system property of that name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|property| property.name().eq_ignore_ascii_case(name))
    }
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// One of them holds. INVARIANT: at least two.
    Or(Vec<Self>),
    /// All of them hold. INVARIANT: at least two.
    And(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// `left operator right`
    Compare {
        /// Left side.
        left: Operand,
        /// How the sides are compared.
        comparison: Comparison,
        /// Right side.
        right: Operand,
    },
    /// `property [NOT] LIKE "pattern"`
    Like {
        /// The property.
        property: PropertyReference,
        /// The pattern as written; a backslash stands for itself.
        pattern: SmolStr,
        /// With `NOT`.
        negated: bool,
    },
    /// `property IS [NOT] NULL`
    IsNull {
        /// The property.
        property: PropertyReference,
        /// With `NOT`.
        negated: bool,
    },
    /// `property ISA class`
    Isa {
        /// The property that holds an embedded object, or `__THIS`.
        property: PropertyReference,
        /// The class, or one derived from it.
        class: ClassName,
    },
}

/// How two operands are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=` or `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A literal.
    Literal(Literal),
    /// A property of the instance.
    Property(PropertyReference),
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `4`, `-4`, `0x4`
    Integer(i128),
    /// `4.5`, `4e5`
    Real(f64),
    /// `'text'` or `"text"`, escapes resolved
    String(SmolStr),
    /// `TRUE` or `FALSE`
    Boolean(bool),
    /// `NULL`
    Null,
}

/// A query for what stands at the other end of associations.
#[derive(Clone, Debug, PartialEq)]
pub struct AssociatorsOf {
    /// The instance the associations start from.
    pub object: ObjectPath,
    /// `AssocClass`: the association.
    pub assoc_class: Option<ClassName>,
    /// `ResultClass`: the class at the other end.
    pub result_class: Option<ClassName>,
    /// `ResultRole`: the property of the association that points at the other end.
    pub result_role: Option<PropertyName>,
    /// `Role`: the property of the association that points at `object`.
    pub role: Option<PropertyName>,
    /// `RequiredQualifier`: a qualifier that the class at the other end has.
    pub required_qualifier: Option<ClassName>,
    /// `RequiredAssocQualifier`: a qualifier that the association has.
    pub required_assoc_qualifier: Option<ClassName>,
    /// `KeysOnly`: only the keys of the results are wanted.
    pub keys_only: bool,
    /// `ClassDefsOnly`: the classes of the results are wanted, not the results.
    pub class_defs_only: bool,
}

impl AssociatorsOf {
    /// A query without options.
    #[must_use]
    pub const fn new(object: ObjectPath) -> Self {
        Self {
            object,
            assoc_class: None,
            result_class: None,
            result_role: None,
            role: None,
            required_qualifier: None,
            required_assoc_qualifier: None,
            keys_only: false,
            class_defs_only: false,
        }
    }
}

/// A query for associations themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferencesOf {
    /// The instance the associations point at.
    pub object: ObjectPath,
    /// `ResultClass`: the association.
    pub result_class: Option<ClassName>,
    /// `Role`: the property of the association that points at `object`.
    pub role: Option<PropertyName>,
    /// `RequiredQualifier`: a qualifier that the association has.
    pub required_qualifier: Option<ClassName>,
    /// `KeysOnly`: only the keys of the results are wanted.
    pub keys_only: bool,
    /// `ClassDefsOnly`: the classes of the results are wanted, not the results.
    pub class_defs_only: bool,
}

impl ReferencesOf {
    /// A query without options.
    #[must_use]
    pub const fn new(object: ObjectPath) -> Self {
        Self {
            object,
            result_class: None,
            role: None,
            required_qualifier: None,
            keys_only: false,
            class_defs_only: false,
        }
    }
}
