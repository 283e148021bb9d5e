//! Class declarations with inheritance resolved.

use std::sync::Arc;

use smol_str::SmolStr;

use super::name::NameIndex;
use super::{CimType, CimValue, ClassName, PropertyName};

/// A qualifier of a class, property, method or parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Qualifier {
    /// Name as declared (`ValueMap`).
    pub name: ClassName,
    /// Type of the value, from the qualifier declaration.
    pub ty: CimType,
    /// The value; arrays for `ValueMap`, `Values` and the like.
    pub value: CimValue,
    /// How it is inherited.
    pub flavor: QualifierFlavor,
    /// Whether it came from the superclass.
    pub propagated: bool,
}

/// The flavor of a qualifier (DSP0004 §5.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QualifierFlavor {
    /// `EnableOverride` (true) or `DisableOverride`.
    pub overridable: bool,
    /// `ToSubclass` (true) or `Restricted`.
    pub to_subclass: bool,
    /// `Translatable`.
    pub translatable: bool,
}

impl Default for QualifierFlavor {
    fn default() -> Self {
        Self { overridable: true, to_subclass: true, translatable: false }
    }
}

/// `ValueMap` with its `Values`: which numbers or texts a property may hold and what they mean.
///
/// Cloning is cheap: equal maps of one schema share their entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueMap {
    /// Pairs of ValueMap entry (`2`, `4..32767`, `..`) and text, in the order of the declaration.
    pub entries: Arc<[(SmolStr, SmolStr)]>,
}

impl ValueMap {
    /// Whether `value` is listed by itself or lies in a listed range; `..` alone lists everything else.
    #[must_use]
    pub fn contains(&self, value: i128) -> bool {
        self.entries.iter().any(|(entry, _)| range_contains(entry, value))
    }

    /// The text for a value that is listed by itself.
    #[must_use]
    pub fn text_of(&self, value: &str) -> Option<&str> {
        self.entries.iter().find(|(entry, _)| entry == value).map(|(_, text)| text.as_str())
    }
}

fn range_contains(entry: &str, value: i128) -> bool {
    let parse = |text: &str| -> Option<i128> {
        let text = text.trim();
        match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => i128::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    };
    match entry.split_once("..") {
        None => parse(entry) == Some(value),
        Some((low, high)) => {
            (low.trim().is_empty() || parse(low).is_some_and(|low| low <= value))
                && (high.trim().is_empty() || parse(high).is_some_and(|high| value <= high))
        }
    }
}

/// A property as the class has it, declared there or inherited.
#[derive(Clone, Debug, PartialEq)]
pub struct PropertyDeclaration {
    /// Name as declared.
    pub name: PropertyName,
    /// Type of the value or of the members.
    pub ty: CimType,
    /// Whether it is an array.
    pub is_array: bool,
    /// The class a reference points to.
    pub reference_class: Option<ClassName>,
    /// The class named by `EmbeddedInstance`; `EmbeddedObject` gives an empty name.
    pub embedded_class: Option<ClassName>,
    /// The value of a new instance.
    pub default: CimValue,
    /// `ValueMap`/`Values`.
    pub value_map: Option<ValueMap>,
    /// Whether it is a key.
    pub is_key: bool,
    /// The class that declared it first.
    pub class_origin: ClassName,
    /// Whether this class inherits it unchanged.
    pub propagated: bool,
    /// All qualifiers, inherited ones included.
    pub qualifiers: Arc<[Qualifier]>,
}

impl PropertyDeclaration {
    /// Name as declared.
    #[must_use]
    pub const fn name(&self) -> &PropertyName {
        &self.name
    }

    /// Type of the value or of the members.
    #[must_use]
    pub const fn cim_type(&self) -> CimType {
        self.ty
    }

    /// Whether it is an array.
    #[must_use]
    pub const fn is_array(&self) -> bool {
        self.is_array
    }

    /// The value of a new instance.
    #[must_use]
    pub const fn default_value(&self) -> &CimValue {
        &self.default
    }
}

/// A parameter of a method.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterDeclaration {
    /// Name as declared.
    pub name: PropertyName,
    /// Type of the value or of the members.
    pub ty: CimType,
    /// Whether it is an array.
    pub is_array: bool,
    /// The class a reference points to.
    pub reference_class: Option<ClassName>,
    /// The class named by `EmbeddedInstance`; `EmbeddedObject` gives an empty name.
    pub embedded_class: Option<ClassName>,
    /// `ValueMap`/`Values`.
    pub value_map: Option<ValueMap>,
    /// `In` (the default).
    pub is_in: bool,
    /// `Out`.
    pub is_out: bool,
    /// All qualifiers.
    pub qualifiers: Arc<[Qualifier]>,
}

/// A method as the class has it, declared there or inherited.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodDeclaration {
    /// Name as declared.
    pub name: ClassName,
    /// Type of the return value.
    pub return_type: CimType,
    /// Parameters in the order of the declaration, which is the order of out parameters on the wire.
    pub parameters: Vec<ParameterDeclaration>,
    /// `ValueMap`/`Values` of the return value.
    pub value_map: Option<ValueMap>,
    /// Whether it is static.
    pub is_static: bool,
    /// The class that declared it first.
    pub class_origin: ClassName,
    /// Whether this class inherits it unchanged.
    pub propagated: bool,
    /// All qualifiers, inherited ones included.
    pub qualifiers: Arc<[Qualifier]>,
}

impl MethodDeclaration {
    /// The parameter of that name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&ParameterDeclaration> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }
}

/// A class with everything it inherits.
///
/// A property or method that several classes inherit unchanged is one shared declaration.
#[derive(Debug)]
pub struct ClassDeclaration {
    name: ClassName,
    namespace: SmolStr,
    superclass: Option<Arc<Self>>,
    qualifiers: Arc<[Qualifier]>,
    properties: Vec<Arc<PropertyDeclaration>>,
    methods: Vec<Arc<MethodDeclaration>>,
    property_index: NameIndex,
    method_index: NameIndex,
    key_indexes: Vec<usize>,
}

impl ClassDeclaration {
    /// Makes a class from its resolved parts; properties and methods are sorted by name here.
    #[must_use]
    pub fn new(
        name: ClassName,
        namespace: SmolStr,
        superclass: Option<Arc<Self>>,
        qualifiers: impl Into<Arc<[Qualifier]>>,
        mut properties: Vec<Arc<PropertyDeclaration>>,
        mut methods: Vec<Arc<MethodDeclaration>>,
    ) -> Self {
        properties.sort_by(|left, right| left.name.cmp(&right.name));
        methods.sort_by(|left, right| left.name.cmp(&right.name));
        properties.shrink_to_fit();
        methods.shrink_to_fit();
        let property_index = NameIndex::new(properties.iter().map(|property| property.name.as_str()));
        let method_index = NameIndex::new(methods.iter().map(|method| method.name.as_str()));
        let key_indexes =
            properties.iter().enumerate().filter(|(_, property)| property.is_key).map(|(index, _)| index).collect();
        Self {
            name,
            namespace,
            superclass,
            qualifiers: qualifiers.into(),
            properties,
            methods,
            property_index,
            method_index,
            key_indexes,
        }
    }

    /// Name as declared.
    #[must_use]
    pub const fn name(&self) -> &ClassName {
        &self.name
    }

    /// The namespace it lives in.
    #[must_use]
    pub const fn namespace(&self) -> &SmolStr {
        &self.namespace
    }

    /// The class it is derived from.
    #[must_use]
    pub const fn superclass(&self) -> Option<&Arc<Self>> {
        self.superclass.as_ref()
    }

    /// The superclasses, nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::successors(self.superclass.as_ref(), |class| class.superclass.as_ref())
    }

    /// Whether it is the class of that name or derived from it.
    #[must_use]
    pub fn is_a(&self, name: &str) -> bool {
        self.name == name || self.ancestors().any(|class| class.name == name)
    }

    /// The qualifiers of the class, inherited ones included.
    #[must_use]
    pub fn qualifiers(&self) -> &[Qualifier] {
        &self.qualifiers
    }

    /// A qualifier of the class by name.
    #[must_use]
    pub fn qualifier(&self, name: &str) -> Option<&Qualifier> {
        self.qualifiers.iter().find(|qualifier| qualifier.name == name)
    }

    /// All properties, sorted by name without regard to case.
    #[must_use]
    pub fn properties(&self) -> &[Arc<PropertyDeclaration>] {
        &self.properties
    }

    /// The position of a property in [`properties`](Self::properties).
    #[must_use]
    pub fn property_index(&self, name: &str) -> Option<usize> {
        self.property_index.find(name, |index| self.properties.get(index).map(|property| property.name.as_str()))
    }

    /// A property by name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&Arc<PropertyDeclaration>> {
        self.property_index(name).and_then(|index| self.properties.get(index))
    }

    /// Positions of the key properties, sorted by name.
    #[must_use]
    pub fn key_indexes(&self) -> &[usize] {
        &self.key_indexes
    }

    /// The key properties, sorted by name.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<PropertyDeclaration>> {
        self.key_indexes.iter().filter_map(|&index| self.properties.get(index))
    }

    /// All methods, sorted by name without regard to case.
    #[must_use]
    pub fn methods(&self) -> &[Arc<MethodDeclaration>] {
        &self.methods
    }

    /// A method by name.
    #[must_use]
    pub fn method(&self, name: &str) -> Option<&Arc<MethodDeclaration>> {
        self.method_index
            .find(name, |index| self.methods.get(index).map(|method| method.name.as_str()))
            .and_then(|index| self.methods.get(index))
    }

    /// Whether the class has the `Abstract` qualifier itself.
    #[must_use]
    pub fn is_abstract(&self) -> bool {
        self.own_flag("Abstract")
    }

    /// Whether the class is an association.
    #[must_use]
    pub fn is_association(&self) -> bool {
        self.flag("Association")
    }

    /// Whether the class is an indication.
    #[must_use]
    pub fn is_indication(&self) -> bool {
        self.flag("Indication")
    }

    fn flag(&self, name: &str) -> bool {
        self.qualifier(name).is_some_and(|qualifier| qualifier.value == CimValue::Boolean(true))
    }

    fn own_flag(&self, name: &str) -> bool {
        self.qualifier(name)
            .is_some_and(|qualifier| !qualifier.propagated && qualifier.value == CimValue::Boolean(true))
    }
}
