//! Method arguments and references as clients send them (`ws-management.md` §7.3 to §7.5, §10.2).

use std::borrow::Cow;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::cim::{
    CimType, CimValue, ClassName, ConversionError, KeyValue, ObjectPath, ObjectPathError, ParameterDeclaration,
    PropertyName, RawInstance, RawProperty, RawValue, normalize_namespace,
};
use crate::soap::{EndpointReference, ReferenceError, SelectorSet, SelectorValue};
use crate::xml::{Element, Event, Fragment, Ns, Reader, XmlError};

use super::{ClassSelection, ResourceUri};

/// Deepest nesting of embedded objects (code `WMI_MAX_NESTED`).
const MAX_EMBEDDED: usize = 8;

/// Why an argument cannot be read; all of them are `w:InvalidParameter` with the detail `TypeMismatch`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// The text is not well-formed; it was when the envelope was read.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// A value that is not of its type.
    #[error(transparent)]
    Conversion(#[from] ConversionError),
    /// A reference whose selectors cannot be read.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A text that is no object path.
    #[error(transparent)]
    ObjectPath(#[from] ObjectPathError),
    /// Several elements for something that is no array.
    #[error("it is given {0} times but is no array")]
    NotAnArray(usize),
    /// Elements inside a value that is plain text.
    #[error("it holds elements where a {0} is expected")]
    NotText(CimType),
    /// A reference that names no class.
    #[error("the reference names no class")]
    NoClass,
    /// A reference that is empty or nil where one is wanted.
    #[error("the reference is empty")]
    EmptyReference,
    /// Embedded objects nested too deep.
    #[error("embedded objects are nested deeper than {MAX_EMBEDDED} levels")]
    NestedTooDeep,
}

/// Converts the elements given for one parameter to its type.
///
/// The type comes from the declaration, never from `xsi:type`. Embedded instances stay as they came:
/// text as [`CimValue::String`], elements as [`CimValue::RawInstance`], because what is wrong in them
/// is the method's own return value (`ws-management.md` §7.1).
///
/// # Errors
/// [`ArgumentError`].
pub fn decode_argument(parameter: &ParameterDeclaration, elements: &[Fragment<'_>]) -> Result<CimValue, ArgumentError> {
    if parameter.is_array {
        let mut items = Vec::with_capacity(elements.len());
        for element in elements {
            let value = decode_one(parameter, element)?;
            // One nil element stands for a null array (§7.5).
            if value.is_null() && elements.len() == 1 {
                return Ok(CimValue::Null);
            }
            items.push(value);
        }
        return Ok(CimValue::Array(items.into()));
    }
    match elements {
        [element] => decode_one(parameter, element),
        [] => Ok(CimValue::Null),
        several => Err(ArgumentError::NotAnArray(several.len())),
    }
}

fn decode_one(parameter: &ParameterDeclaration, fragment: &Fragment<'_>) -> Result<CimValue, ArgumentError> {
    let (mut reader, element) = fragment.open()?;
    if element.is_nil() {
        return Ok(CimValue::Null);
    }
    if parameter.ty == CimType::Reference {
        return decode_reference(fragment).map(|path| CimValue::Reference(Arc::new(path)));
    }
    if parameter.embedded_class.is_some() {
        return embedded(&mut reader, &element, fragment);
    }
    Ok(CimValue::parse(parameter.ty, &scalar_text(&mut reader, parameter.ty)?)?)
}

/// The text of a scalar. A datetime may stand in an element of its own (`cim:Datetime` …, any prefix).
fn scalar_text<'a>(reader: &mut Reader<'a>, ty: CimType) -> Result<Cow<'a, str>, ArgumentError> {
    let mut content = Cow::Borrowed("");
    loop {
        match reader.next()? {
            Event::Text(text) if content.is_empty() => content = text,
            Event::Text(text) => content.to_mut().push_str(&text),
            Event::Start(_) if ty == CimType::DateTime && content.trim().is_empty() => {
                content = reader.text_content()?;
                return Ok(content);
            }
            Event::Start(_) => return Err(ArgumentError::NotText(ty)),
            Event::End | Event::Eof => return Ok(content),
        }
    }
}

/// Reads an element that holds a reference, in any of the five forms of §7.3.
///
/// # Errors
/// [`ArgumentError`].
pub fn decode_reference(fragment: &Fragment<'_>) -> Result<ObjectPath, ArgumentError> {
    let (mut reader, element) = fragment.open()?;
    let mut content = Cow::Borrowed("");
    loop {
        match reader.next()? {
            Event::Text(text) if content.is_empty() => content = text,
            Event::Text(text) => content.to_mut().push_str(&text),
            Event::Start(child) if EndpointReference::begins_with(&child) => {
                let (mut reader, _) = fragment.open()?;
                return object_path(&EndpointReference::read(&mut reader)?);
            }
            // Form 5 of omicli: the key properties of an instance.
            Event::Start(_) => return keys_of_instance(&element, fragment),
            Event::End | Event::Eof if content.trim().is_empty() => return Err(ArgumentError::EmptyReference),
            Event::End | Event::Eof => return Ok(ObjectPath::parse(&content)?),
        }
    }
}

/// The path an endpoint reference names; the Address is ignored.
///
/// # Errors
/// [`ArgumentError::NoClass`] when its resource URI names no class.
pub fn object_path(reference: &EndpointReference<'_>) -> Result<ObjectPath, ArgumentError> {
    let uri = reference.resource_uri.as_deref().ok_or(ArgumentError::NoClass)?;
    let ResourceUri::Cim { namespace, class: ClassSelection::Class(class), .. } = ResourceUri::parse(uri) else {
        return Err(ArgumentError::NoClass);
    };
    let mut path = ObjectPath::relative(ClassName::new(&class));
    let (keys, selected) = keys(&reference.selectors)?;
    for (name, value) in keys {
        path.push_key(name, value);
    }
    Ok(match namespace.or(selected) {
        Some(namespace) => path.in_namespace(&namespace),
        None => path,
    })
}

type Keys = Vec<(PropertyName, KeyValue)>;

/// Selectors as keys, and the namespace a `__cimnamespace` selector names.
fn keys(selectors: &SelectorSet<'_>) -> Result<(Keys, Option<SmolStr>), ArgumentError> {
    let mut keys = Vec::with_capacity(selectors.selectors.len());
    let mut namespace = None;
    for selector in &selectors.selectors {
        match &selector.value {
            SelectorValue::Text(text) if selector.name.eq_ignore_ascii_case("__cimnamespace") => {
                namespace = Some(SmolStr::new(normalize_namespace(text)));
            }
            SelectorValue::Text(text) => {
                keys.push((PropertyName::new(&selector.name), KeyValue::Text(SmolStr::new(text))));
            }
            SelectorValue::Reference(reference) => {
                let path = object_path(reference)?;
                keys.push((PropertyName::new(&selector.name), KeyValue::Reference(Arc::new(path))));
            }
        }
    }
    Ok((keys, namespace))
}

/// Form 5 of §7.3: `<AffectedSystem xsi:type="p1:CLASS_Type"><p1:Name>…`.
fn keys_of_instance(element: &Element<'_>, fragment: &Fragment<'_>) -> Result<ObjectPath, ArgumentError> {
    let instance = raw_instance(fragment, element, 0)?;
    let mut path = ObjectPath::relative(instance.class_name);
    for property in instance.properties {
        if let RawValue::Text(text) = property.value {
            path.push_key(property.name, KeyValue::Text(text.into()));
        }
    }
    Ok(path)
}

/// An embedded instance: text, an `INSTANCE` element in no namespace, or a WS-CIM instance (§7.4).
fn embedded<'a>(
    reader: &mut Reader<'a>,
    element: &Element<'a>,
    fragment: &Fragment<'a>,
) -> Result<CimValue, ArgumentError> {
    let mut content: Cow<'a, str> = Cow::Borrowed("");
    loop {
        match reader.next()? {
            Event::Text(text) if content.is_empty() => content = text,
            Event::Text(text) => content.to_mut().push_str(&text),
            Event::End | Event::Eof => return Ok(CimValue::String(SmolStr::new(&content))),
            // CIM-XML that was not escaped: hand it on as the text it would have been.
            Event::Start(child) if child.name().ns == Ns::None && matches!(child.local(), "INSTANCE" | "CIM") => {
                return Ok(CimValue::String(SmolStr::new(reader.fragment(&child)?.as_str())));
            }
            Event::Start(_) => {
                return Ok(CimValue::RawInstance(Arc::new(raw_instance(fragment, element, 0)?)));
            }
        }
    }
}

/// Reads the element of an instance, as Put and Create carry it; what the properties are, its class tells.
///
/// # Errors
/// [`ArgumentError`].
pub fn decode_instance(fragment: &Fragment<'_>) -> Result<RawInstance, ArgumentError> {
    let (_, element) = fragment.open()?;
    raw_instance(fragment, &element, 0)
}

/// Reads an element whose children are properties. What is in the namespace of WS-CIM itself (`cim:Location`) is none.
fn raw_instance(fragment: &Fragment<'_>, element: &Element<'_>, depth: usize) -> Result<RawInstance, ArgumentError> {
    if depth > MAX_EMBEDDED {
        return Err(ArgumentError::NestedTooDeep);
    }
    let class_name = class_of(element).ok_or(ArgumentError::NoClass)?;
    let (mut reader, _) = fragment.open()?;
    let mut properties: Vec<RawProperty> = Vec::new();
    while let Some(child) = reader.next_child()? {
        let name = PropertyName::new(child.local());
        let fragment = reader.fragment(&child)?;
        if child.name().ns == Ns::Cim {
            continue;
        }
        let value = raw_value(&fragment, &child, depth)?;
        match properties.iter_mut().find(|property| property.name == name) {
            None => properties.push(RawProperty { name, value }),
            Some(property) => {
                // Equal elements are the members of an array.
                let first = std::mem::replace(&mut property.value, RawValue::Null);
                property.value = match first {
                    RawValue::Array(mut items) => {
                        items.push(value);
                        RawValue::Array(items)
                    }
                    first => RawValue::Array(vec![first, value]),
                };
            }
        }
    }
    Ok(RawInstance { class_name, properties })
}

fn raw_value(fragment: &Fragment<'_>, element: &Element<'_>, depth: usize) -> Result<RawValue, ArgumentError> {
    if element.is_nil() {
        return Ok(RawValue::Null);
    }
    let (mut reader, _) = fragment.open()?;
    let mut content = String::new();
    loop {
        match reader.next()? {
            Event::Text(text) => content.push_str(&text),
            Event::End | Event::Eof => return Ok(RawValue::Text(content)),
            Event::Start(child) if EndpointReference::begins_with(&child) => {
                return Ok(RawValue::Reference(decode_reference(fragment)?));
            }
            Event::Start(child) if child.name().ns == Ns::Cim => {
                return Ok(RawValue::Text(reader.text_content()?.into_owned()));
            }
            Event::Start(_) => {
                return Ok(RawValue::Instance(Box::new(raw_instance(fragment, element, depth + 1)?)));
            }
        }
    }
}

/// The class an instance element is of: from `xsi:type="p:CLASS_Type"`, else from its own name.
fn class_of(element: &Element<'_>) -> Option<ClassName> {
    let name = match element.xsi_type() {
        Some(ty) => ty.rsplit(':').next().unwrap_or(ty).trim(),
        None => element.local(),
    };
    let name = name.strip_suffix("_Type").unwrap_or(name);
    if name.is_empty() { None } else { Some(ClassName::new(name)) }
}
