//! Paths as elements: every form of VALUE.REFERENCE (DSP0203), read and written.

use super::CimXmlError;
use super::decode::cim_name;
use crate::cim::name::is_namespace_part;
use crate::cim::{ClassName, KeyValue, ObjectPath, PropertyName};
use crate::xml::{Element, Ns, Reader, Writer, escape_numeric_into};

/// Reads the path element `child` and the end of the VALUE.REFERENCE around it.
pub(super) fn read_reference(reader: &mut Reader<'_>, child: &Element<'_>) -> Result<ObjectPath, CimXmlError> {
    let path = read_target(reader, child)?;
    finish(reader, "VALUE.REFERENCE")?;
    Ok(path)
}

/// Reads one of the six elements that name a class or an instance.
pub(super) fn read_target(reader: &mut Reader<'_>, element: &Element<'_>) -> Result<ObjectPath, CimXmlError> {
    match element.local() {
        "INSTANCENAME" => instance_name(reader, element),
        "CLASSNAME" => class_name(reader, element),
        "INSTANCEPATH" => with_namespace(reader, "INSTANCEPATH", "NAMESPACEPATH", "INSTANCENAME"),
        "LOCALINSTANCEPATH" => with_namespace(reader, "LOCALINSTANCEPATH", "LOCALNAMESPACEPATH", "INSTANCENAME"),
        "CLASSPATH" => with_namespace(reader, "CLASSPATH", "NAMESPACEPATH", "CLASSNAME"),
        "LOCALCLASSPATH" => with_namespace(reader, "LOCALCLASSPATH", "LOCALNAMESPACEPATH", "CLASSNAME"),
        other => Err(CimXmlError::unexpected(other, "VALUE.REFERENCE")),
    }
}

/// Reads a path that stands beside an instance and has no use.
pub(super) fn skip_path(reader: &mut Reader<'_>, element: &Element<'_>) -> Result<(), CimXmlError> {
    match element.local() {
        "NAMESPACEPATH" => namespace_path(reader).map(drop),
        "LOCALNAMESPACEPATH" => local_namespace_path(reader).map(drop),
        _ => read_target(reader, element).map(drop),
    }
}

fn with_namespace(
    reader: &mut Reader<'_>,
    parent: &str,
    namespace_element: &'static str,
    name_element: &'static str,
) -> Result<ObjectPath, CimXmlError> {
    required(reader, parent, namespace_element)?;
    let (host, namespace) = if namespace_element == "NAMESPACEPATH" {
        let (host, namespace) = namespace_path(reader)?;
        (Some(host), namespace)
    } else {
        (None, local_namespace_path(reader)?)
    };
    let name = required(reader, parent, name_element)?;
    let mut path = read_target(reader, &name)?.in_namespace(&namespace);
    if let Some(host) = host.filter(|host| !host.is_empty() && host != ".") {
        path = path.with_host(&host);
    }
    finish(reader, parent)?;
    Ok(path)
}

/// The host and the namespace of a NAMESPACEPATH.
fn namespace_path(reader: &mut Reader<'_>) -> Result<(String, String), CimXmlError> {
    required(reader, "NAMESPACEPATH", "HOST")?;
    let host = reader.text_content()?.trim().to_owned();
    required(reader, "NAMESPACEPATH", "LOCALNAMESPACEPATH")?;
    let namespace = local_namespace_path(reader)?;
    finish(reader, "NAMESPACEPATH")?;
    Ok((host, namespace))
}

fn local_namespace_path(reader: &mut Reader<'_>) -> Result<String, CimXmlError> {
    let mut namespace = String::new();
    while let Some(child) = reader.next_child()? {
        if child.local() != "NAMESPACE" {
            return Err(CimXmlError::unexpected(child.local(), "LOCALNAMESPACEPATH"));
        }
        if !namespace.is_empty() {
            namespace.push('/');
        }
        namespace.push_str(namespace_part(&child)?);
        finish(reader, "NAMESPACE")?;
    }
    if namespace.is_empty() {
        return Err(CimXmlError::MissingElement { child: "NAMESPACE", parent: "LOCALNAMESPACEPATH".to_owned() });
    }
    Ok(namespace)
}

fn namespace_part<'e>(element: &'e Element<'_>) -> Result<&'e str, CimXmlError> {
    let name = element
        .attribute(Ns::None, "NAME")
        .ok_or_else(|| CimXmlError::MissingAttribute { element: "NAMESPACE".to_owned(), attribute: "NAME" })?;
    // Some clients put the whole name into one element.
    if name.split(['/', '\\']).all(is_namespace_part) {
        return Ok(name);
    }
    Err(CimXmlError::InvalidName { element: "NAMESPACE".to_owned(), name: name.chars().take(64).collect() })
}

fn class_name(reader: &mut Reader<'_>, element: &Element<'_>) -> Result<ObjectPath, CimXmlError> {
    let path = ObjectPath::relative(ClassName::new(cim_name(element, "NAME")?));
    finish(reader, "CLASSNAME")?;
    Ok(path)
}

/// An INSTANCENAME. DSP0203 lets the only key of a class stand without its name; such a key gets the
/// empty name, and [`NamespaceSchema::instantiate`](crate::cim::NamespaceSchema::instantiate) names it.
fn instance_name(reader: &mut Reader<'_>, element: &Element<'_>) -> Result<ObjectPath, CimXmlError> {
    let mut path = ObjectPath::relative(ClassName::new(cim_name(element, "CLASSNAME")?));
    while let Some(child) = reader.next_child()? {
        let unnamed_alone = path.keys().is_empty();
        let (name, value) = match child.local() {
            "KEYBINDING" => {
                let name = PropertyName::new(cim_name(&child, "NAME")?);
                let Some(value) = reader.next_child()? else {
                    return Err(CimXmlError::MissingElement { child: "KEYVALUE", parent: "KEYBINDING".to_owned() });
                };
                let value = key_value(reader, &value, "KEYBINDING")?;
                finish(reader, "KEYBINDING")?;
                (name, value)
            }
            "KEYVALUE" | "VALUE.REFERENCE" if unnamed_alone => {
                (PropertyName::new(""), key_value(reader, &child, "INSTANCENAME")?)
            }
            other => return Err(CimXmlError::unexpected(other, "INSTANCENAME")),
        };
        if path.key(name.as_str()).is_some() || path.key("").is_some() {
            return Err(CimXmlError::unexpected(child.local(), "INSTANCENAME"));
        }
        path.push_key(name, value);
    }
    Ok(path)
}

fn key_value(reader: &mut Reader<'_>, element: &Element<'_>, parent: &str) -> Result<KeyValue, CimXmlError> {
    match element.local() {
        "KEYVALUE" => {
            let text = reader.text_content()?;
            let is_string = element.attribute(Ns::None, "VALUETYPE").is_none_or(|ty| ty.eq_ignore_ascii_case("string"));
            Ok(KeyValue::Text(if is_string { text.as_ref() } else { text.trim() }.into()))
        }
        "VALUE.REFERENCE" => {
            let Some(child) = reader.next_child()? else {
                return Err(CimXmlError::MissingElement { child: "path", parent: "VALUE.REFERENCE".to_owned() });
            };
            Ok(KeyValue::Reference(read_reference(reader, &child)?.into()))
        }
        other => Err(CimXmlError::unexpected(other, parent)),
    }
}

fn required<'a>(reader: &mut Reader<'a>, parent: &str, child: &'static str) -> Result<Element<'a>, CimXmlError> {
    match reader.next_child()? {
        Some(element) if element.local() == child => Ok(element),
        Some(element) => Err(CimXmlError::unexpected(element.local(), parent)),
        None => Err(CimXmlError::MissingElement { child, parent: parent.to_owned() }),
    }
}

/// Reads the end of an element that has no further children.
fn finish(reader: &mut Reader<'_>, parent: &str) -> Result<(), CimXmlError> {
    match reader.next_child()? {
        None => Ok(()),
        Some(child) => Err(CimXmlError::unexpected(child.local(), parent)),
    }
}

/// Writes a VALUE.REFERENCE. A path with a host is an INSTANCEPATH, one with a namespace alone a
/// LOCALINSTANCEPATH, any other an INSTANCENAME; without keys, the same of a class.
///
/// Keys are written as strings: an [`ObjectPath`] keeps their text, not their type.
pub(super) fn write_reference(w: &mut Writer, path: &ObjectPath) {
    let is_class = path.keys().is_empty();
    w.element("VALUE.REFERENCE", |w| match (path.namespace(), path.host()) {
        (Some(namespace), Some(host)) => w.element(if is_class { "CLASSPATH" } else { "INSTANCEPATH" }, |w| {
            w.element("NAMESPACEPATH", |w| {
                w.element("HOST", |w| numeric_text(w, host));
                write_namespace(w, namespace);
            });
            write_name(w, path);
        }),
        (Some(namespace), None) => w.element(if is_class { "LOCALCLASSPATH" } else { "LOCALINSTANCEPATH" }, |w| {
            write_namespace(w, namespace);
            write_name(w, path);
        }),
        (None, _) => write_name(w, path),
    });
}

/// Writes a LOCALNAMESPACEPATH.
pub(super) fn write_namespace(w: &mut Writer, namespace: &str) {
    w.element("LOCALNAMESPACEPATH", |w| {
        for part in namespace.split(['/', '\\']).filter(|part| !part.is_empty()) {
            w.empty_with("NAMESPACE", &[("NAME", part)]);
        }
    });
}

fn write_name(w: &mut Writer, path: &ObjectPath) {
    let class = path.class_name().as_str();
    if path.keys().is_empty() {
        w.empty_with("CLASSNAME", &[("NAME", class)]);
        return;
    }
    w.element_with("INSTANCENAME", &[("CLASSNAME", class)], |w| {
        for (name, value) in path.keys() {
            if name.as_str().is_empty() {
                write_key_value(w, value);
            } else {
                w.element_with("KEYBINDING", &[("NAME", name.as_str())], |w| write_key_value(w, value));
            }
        }
    });
}

fn write_key_value(w: &mut Writer, value: &KeyValue) {
    match value {
        KeyValue::Text(text) => w.element_with("KEYVALUE", &[("VALUETYPE", "string")], |w| numeric_text(w, text)),
        KeyValue::Reference(path) => write_reference(w, path),
    }
}

/// Text with numeric references, which is what every reader of embedded CIM-XML takes.
pub(super) fn numeric_text(w: &mut Writer, text: &str) {
    let mut escaped = String::with_capacity(text.len());
    escape_numeric_into(&mut escaped, text);
    w.raw(&escaped);
}
