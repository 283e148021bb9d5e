//! Text to [`RawInstance`]: the wrappers, the instance and its properties.

use std::collections::HashSet;

use super::CimXmlError;
use super::reference::{read_reference, read_target, skip_path};
use crate::cim::embedded::trim;
use crate::cim::{ClassName, ObjectPath, PropertyName, RawInstance, RawProperty, RawValue};
use crate::xml::{Element, Event, Ns, Reader, ReaderOptions};

/// Most levels of instances inside instances.
const MAX_EMBEDDED_LEVELS: usize = 8;

/// Reads the one instance in a CIM-XML text.
///
/// The root is `INSTANCE` or any wrapper of DSP0203 around it, up to `CIM`; namespace and instance paths beside
/// the instance are checked and left out. White space, NULs and a byte order mark around the text are
/// skipped, an encoding that the XML declaration claims is ignored, and so is a document type without an
/// internal subset (`ws-management.md` §11.1 to §11.4). System properties (`__PATH` …) are left out, and
/// the attribute TYPE is not looked at: the class decides.
///
/// # Errors
/// [`CimXmlError`] says what is wrong.
pub fn decode_instance(text: &str) -> Result<RawInstance, CimXmlError> {
    decode_embedded(text, 0)
}

fn decode_embedded(text: &str, level: usize) -> Result<RawInstance, CimXmlError> {
    if level > MAX_EMBEDDED_LEVELS {
        return Err(CimXmlError::EmbeddedTooDeep(MAX_EMBEDDED_LEVELS));
    }
    let options =
        ReaderOptions { skip_document_type: true, replace_invalid_characters: true, ..ReaderOptions::default() };
    let mut reader = Reader::with_options(trim(text), options);
    let Event::Start(root) = reader.next()? else {
        return Err(CimXmlError::NoInstance);
    };
    let mut found = None;
    if root.local() == "INSTANCE" {
        found = Some(instance(&mut reader, &root, level)?);
    } else if let Some(wrapper) = Wrapper::of(root.local()) {
        wrapper.read(&mut reader, level, &mut found)?;
    } else {
        return Err(CimXmlError::UnexpectedRoot(name_of(&root)));
    }
    if !matches!(reader.next()?, Event::Eof) {
        return Err(CimXmlError::SeveralInstances);
    }
    found.ok_or(CimXmlError::NoInstance)
}

/// Reads an instance whose start tag a reader has just given, its end included; for an `INSTANCE`
/// that stands as an element inside another document.
///
/// # Errors
/// [`CimXmlError`] says what is wrong.
pub fn read_instance(reader: &mut Reader<'_>, element: &Element<'_>) -> Result<RawInstance, CimXmlError> {
    if element.local() != "INSTANCE" {
        return Err(CimXmlError::UnexpectedRoot(name_of(element)));
    }
    instance(reader, element, 0)
}

/// An element that holds instances, and what else may stand in it (DSP0203; `ws-management.md` §11.1).
struct Wrapper {
    name: &'static str,
    /// Elements that hold instances in turn; `INSTANCE` is one of them.
    inner: &'static [&'static str],
    /// Paths, read for their grammar only.
    paths: &'static [&'static str],
}

const WRAPPERS: [Wrapper; 11] = [
    Wrapper { name: "CIM", inner: &["DECLARATION"], paths: &[] },
    Wrapper { name: "DECLARATION", inner: &["DECLGROUP", "DECLGROUP.WITHNAME", "DECLGROUP.WITHPATH"], paths: &[] },
    Wrapper { name: "DECLGROUP", inner: &["VALUE.OBJECT"], paths: &["LOCALNAMESPACEPATH", "NAMESPACEPATH"] },
    Wrapper {
        name: "DECLGROUP.WITHNAME",
        inner: &["VALUE.NAMEDOBJECT"],
        paths: &["LOCALNAMESPACEPATH", "NAMESPACEPATH"],
    },
    Wrapper { name: "DECLGROUP.WITHPATH", inner: &["VALUE.OBJECTWITHPATH", "VALUE.OBJECTWITHLOCALPATH"], paths: &[] },
    Wrapper { name: "VALUE.OBJECT", inner: &["INSTANCE"], paths: &[] },
    Wrapper { name: "VALUE.NAMEDOBJECT", inner: &["INSTANCE"], paths: &["INSTANCENAME"] },
    Wrapper { name: "VALUE.NAMEDINSTANCE", inner: &["INSTANCE"], paths: &["INSTANCENAME"] },
    Wrapper { name: "VALUE.INSTANCEWITHPATH", inner: &["INSTANCE"], paths: &["INSTANCEPATH"] },
    Wrapper { name: "VALUE.OBJECTWITHPATH", inner: &["INSTANCE"], paths: &["INSTANCEPATH"] },
    Wrapper { name: "VALUE.OBJECTWITHLOCALPATH", inner: &["INSTANCE"], paths: &["LOCALINSTANCEPATH"] },
];

impl Wrapper {
    fn of(name: &str) -> Option<&'static Self> {
        WRAPPERS.iter().find(|wrapper| wrapper.name == name)
    }

    fn read(&self, reader: &mut Reader<'_>, level: usize, found: &mut Option<RawInstance>) -> Result<(), CimXmlError> {
        while let Some(child) = reader.next_child()? {
            let name = child.local();
            if name == "QUALIFIER.DECLARATION" && matches!(self.name, "DECLGROUP" | "DECLGROUP.WITHNAME") {
                reader.skip()?;
            } else if self.paths.contains(&name) {
                skip_path(reader, &child)?;
            } else if !self.inner.contains(&name) {
                return Err(CimXmlError::unexpected(name, self.name));
            } else if let Some(wrapper) = Self::of(name) {
                wrapper.read(reader, level, found)?;
            } else if found.is_some() {
                return Err(CimXmlError::SeveralInstances);
            } else {
                *found = Some(instance(reader, &child, level)?);
            }
        }
        Ok(())
    }
}

fn instance(reader: &mut Reader<'_>, element: &Element<'_>, level: usize) -> Result<RawInstance, CimXmlError> {
    let class_name = ClassName::new(cim_name(element, "CLASSNAME")?);
    let mut properties = Vec::new();
    let mut seen: HashSet<PropertyName> = HashSet::new();
    while let Some(child) = reader.next_child()? {
        match child.local() {
            "QUALIFIER" if properties.is_empty() => skip_qualifier(reader, &child)?,
            name if name == "PROPERTY" || name.starts_with("PROPERTY.") => {
                let property = PropertyName::new(cim_name(&child, "NAME")?);
                let value = property_value(reader, &child, level)?;
                if property.as_str().starts_with("__") {
                    continue;
                }
                if let Some(value) = value {
                    if !seen.insert(property.clone()) {
                        return Err(CimXmlError::DuplicateProperty(property.to_string()));
                    }
                    properties.push(RawProperty { name: property, value });
                }
            }
            other => return Err(CimXmlError::unexpected(other, "INSTANCE")),
        }
    }
    Ok(RawInstance { class_name, properties })
}

/// Reads what is inside a property element; `None` for a kind of property this reader does not know,
/// which `ws-management.md` §11.4 says to pass over.
fn property_value(
    reader: &mut Reader<'_>,
    property: &Element<'_>,
    level: usize,
) -> Result<Option<RawValue>, CimXmlError> {
    let kind = property.local();
    if !matches!(
        kind,
        "PROPERTY"
            | "PROPERTY.ARRAY"
            | "PROPERTY.REFERENCE"
            | "PROPERTY.REFARRAY"
            | "PROPERTY.OBJECT"
            | "PROPERTY.OBJECTARRAY"
    ) {
        reader.skip()?;
        return Ok(None);
    }
    let name = property.attribute(Ns::None, "NAME").unwrap_or_default();
    // DSP0201 spells the attribute EmbeddedObject; pywbem and others send it in capitals as well.
    let embedded =
        property.attribute(Ns::None, "EmbeddedObject").or_else(|| property.attribute(Ns::None, "EMBEDDEDOBJECT"));
    let mut value = None;
    while let Some(child) = reader.next_child()? {
        if child.local() == "QUALIFIER" && value.is_none() {
            skip_qualifier(reader, &child)?;
            continue;
        }
        if value.is_some() {
            return Err(CimXmlError::unexpected(child.local(), kind));
        }
        value = Some(match (kind, child.local()) {
            ("PROPERTY", "VALUE") => scalar(reader, embedded.is_some(), level)?,
            ("PROPERTY.ARRAY", "VALUE.ARRAY") => array(reader, embedded.is_some(), level)?,
            // WMI's older text form holds the path itself.
            ("PROPERTY.REFERENCE", "VALUE") => path_text(name, &reader.text_content()?)?,
            ("PROPERTY.REFERENCE", "VALUE.REFERENCE") => reference(reader, name)?,
            ("PROPERTY.REFERENCE", _) => RawValue::Reference(read_target(reader, &child)?),
            ("PROPERTY.REFARRAY", "VALUE.REFARRAY") => reference_array(reader, name)?,
            ("PROPERTY.OBJECT", "VALUE.OBJECT") => object(reader, level)?,
            ("PROPERTY.OBJECTARRAY", "VALUE.OBJECTARRAY") => object_array(reader, level)?,
            (_, other) => return Err(CimXmlError::unexpected(other, kind)),
        });
    }
    Ok(Some(value.unwrap_or(RawValue::Null)))
}

/// The text of a VALUE; of an embedded object, the instance that the text holds. An embedded class
/// definition stays text, because a raw value has no form for it.
fn scalar(reader: &mut Reader<'_>, embedded: bool, level: usize) -> Result<RawValue, CimXmlError> {
    let text = reader.text_content()?;
    let inner = trim(&text);
    if !embedded || inner.is_empty() || inner.starts_with("<CLASS") {
        return Ok(RawValue::Text(text.into_owned()));
    }
    Ok(RawValue::Instance(Box::new(decode_embedded(inner, level + 1)?)))
}

fn array(reader: &mut Reader<'_>, embedded: bool, level: usize) -> Result<RawValue, CimXmlError> {
    let mut items = Vec::new();
    while let Some(child) = reader.next_child()? {
        items.push(match child.local() {
            "VALUE" => scalar(reader, embedded, level)?,
            "VALUE.NULL" => {
                empty(reader, "VALUE.NULL")?;
                RawValue::Null
            }
            other => return Err(CimXmlError::unexpected(other, "VALUE.ARRAY")),
        });
    }
    Ok(RawValue::Array(items))
}

fn empty(reader: &mut Reader<'_>, element: &str) -> Result<(), CimXmlError> {
    match reader.next_child()? {
        None => Ok(()),
        Some(child) => Err(CimXmlError::unexpected(child.local(), element)),
    }
}

/// A VALUE.REFERENCE, which holds a path as elements or, from WMI, as text.
fn reference(reader: &mut Reader<'_>, property: &str) -> Result<RawValue, CimXmlError> {
    let mut text = String::new();
    loop {
        match reader.next()? {
            Event::Text(more) => text.push_str(&more),
            Event::Start(child) if text.trim().is_empty() => {
                return Ok(RawValue::Reference(read_reference(reader, &child)?));
            }
            Event::Start(child) => return Err(CimXmlError::unexpected(child.local(), "VALUE.REFERENCE")),
            Event::End | Event::Eof => break,
        }
    }
    if text.trim().is_empty() {
        return Err(CimXmlError::MissingElement { child: "path", parent: "VALUE.REFERENCE".to_owned() });
    }
    path_text(property, &text)
}

fn path_text(property: &str, text: &str) -> Result<RawValue, CimXmlError> {
    ObjectPath::parse(text)
        .map(RawValue::Reference)
        .map_err(|error| CimXmlError::ObjectPath { property: property.to_owned(), error })
}

fn reference_array(reader: &mut Reader<'_>, property: &str) -> Result<RawValue, CimXmlError> {
    let mut items = Vec::new();
    while let Some(child) = reader.next_child()? {
        items.push(match child.local() {
            "VALUE.REFERENCE" => reference(reader, property)?,
            "VALUE.NULL" => {
                empty(reader, "VALUE.NULL")?;
                RawValue::Null
            }
            other => return Err(CimXmlError::unexpected(other, "VALUE.REFARRAY")),
        });
    }
    Ok(RawValue::Array(items))
}

/// A VALUE.OBJECT of WMI's DTD inside a property.
fn object(reader: &mut Reader<'_>, level: usize) -> Result<RawValue, CimXmlError> {
    let Some(child) = reader.next_child()? else {
        return Ok(RawValue::Null);
    };
    if child.local() != "INSTANCE" {
        return Err(CimXmlError::unexpected(child.local(), "VALUE.OBJECT"));
    }
    if level >= MAX_EMBEDDED_LEVELS {
        return Err(CimXmlError::EmbeddedTooDeep(MAX_EMBEDDED_LEVELS));
    }
    let value = RawValue::Instance(Box::new(instance(reader, &child, level + 1)?));
    empty(reader, "VALUE.OBJECT")?;
    Ok(value)
}

fn object_array(reader: &mut Reader<'_>, level: usize) -> Result<RawValue, CimXmlError> {
    let mut items = Vec::new();
    while let Some(child) = reader.next_child()? {
        items.push(match child.local() {
            "VALUE.OBJECT" => object(reader, level)?,
            "VALUE.NULL" => {
                empty(reader, "VALUE.NULL")?;
                RawValue::Null
            }
            other => return Err(CimXmlError::unexpected(other, "VALUE.OBJECTARRAY")),
        });
    }
    Ok(RawValue::Array(items))
}

/// Passes over a qualifier, which says nothing that the class does not say.
fn skip_qualifier(reader: &mut Reader<'_>, qualifier: &Element<'_>) -> Result<(), CimXmlError> {
    cim_name(qualifier, "NAME")?;
    let mut seen = false;
    while let Some(child) = reader.next_child()? {
        match child.local() {
            "VALUE" if !seen => {
                reader.text_content()?;
            }
            "VALUE.ARRAY" if !seen => {
                array(reader, false, 0)?;
            }
            other => return Err(CimXmlError::unexpected(other, "QUALIFIER")),
        }
        seen = true;
    }
    Ok(())
}

/// An attribute that holds the name of a class, property, key or qualifier.
pub(super) fn cim_name<'e>(element: &'e Element<'_>, attribute: &'static str) -> Result<&'e str, CimXmlError> {
    let name = element
        .attribute(Ns::None, attribute)
        .ok_or_else(|| CimXmlError::MissingAttribute { element: name_of(element), attribute })?
        .trim();
    let mut characters = name.chars();
    let valid = characters.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && characters.all(|c| c.is_alphanumeric() || c == '_');
    if valid {
        return Ok(name);
    }
    Err(CimXmlError::InvalidName { element: name_of(element), name: name.chars().take(64).collect() })
}

fn name_of(element: &Element<'_>) -> String {
    element.local().chars().take(64).collect()
}
