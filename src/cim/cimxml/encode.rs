//! [`CimInstance`] to text, in the form of a Hyper-V host (`hyperv-host.md` §2.12).

use std::borrow::Cow;

use super::reference::{numeric_text, write_reference};
use crate::cim::{CimInstance, CimType, CimValue, PropertyDeclaration, RawInstance, RawValue};
use crate::xml::Writer;

/// The CIM-XML text of an instance.
///
/// There is no declaration. Every property is there, sorted by name; one without a value has no VALUE, an
/// inherited one `PROPAGATED="true"`. Booleans are `TRUE` and `FALSE`, datetimes the 25-character form. An
/// embedded instance is the text of that instance, escaped one level deeper, under `EmbeddedObject`.
#[must_use]
pub fn encode_instance(instance: &CimInstance) -> String {
    encode_instance_into(String::with_capacity(1024), instance)
}

/// Appends the CIM-XML text of an instance.
#[must_use]
pub fn encode_instance_into(out: String, instance: &CimInstance) -> String {
    let mut w = Writer::from_string(out);
    w.element_with("INSTANCE", &[("CLASSNAME", instance.class().name().as_str())], |w| {
        for (property, value) in instance.properties() {
            write_property(w, property, value);
        }
    });
    w.finish()
}

/// How an element that carries a value is called for scalars, arrays and references.
pub(super) const fn property_tag(ty: CimType, is_array: bool) -> &'static str {
    match (ty, is_array) {
        (CimType::Reference, false) => "PROPERTY.REFERENCE",
        (CimType::Reference, true) => "PROPERTY.REFARRAY",
        (_, false) => "PROPERTY",
        (_, true) => "PROPERTY.ARRAY",
    }
}

fn write_property(w: &mut Writer, property: &PropertyDeclaration, value: &CimValue) {
    let ty = property.cim_type();
    let mut attributes = vec![("NAME", property.name().as_str())];
    if ty == CimType::Reference {
        attributes.extend(property.reference_class.as_ref().map(|class| ("REFERENCECLASS", class.as_str())));
    }
    if property.propagated {
        attributes.push(("PROPAGATED", "true"));
    }
    if ty != CimType::Reference {
        attributes.push(("TYPE", ty.name()));
    }
    if holds_object(value) {
        attributes.push(("EmbeddedObject", "instance"));
    }
    w.element_with(property_tag(ty, property.is_array()), &attributes, |w| write_value(w, ty, value));
}

fn holds_object(value: &CimValue) -> bool {
    match value {
        CimValue::Instance(_) | CimValue::RawInstance(_) => true,
        CimValue::Array(items) => items.iter().any(holds_object),
        _ => false,
    }
}

/// Writes VALUE, VALUE.ARRAY, VALUE.REFERENCE or VALUE.REFARRAY; nothing for null.
pub(super) fn write_value(w: &mut Writer, ty: CimType, value: &CimValue) {
    match value {
        CimValue::Null => {}
        CimValue::Array(items) => {
            w.element(if ty == CimType::Reference { "VALUE.REFARRAY" } else { "VALUE.ARRAY" }, |w| {
                for item in items.iter() {
                    if item.is_null() {
                        w.empty("VALUE.NULL");
                    } else {
                        write_value(w, ty, item);
                    }
                }
            });
        }
        CimValue::Reference(path) => write_reference(w, path),
        scalar => w.element("VALUE", |w| numeric_text(w, &scalar_text(scalar))),
    }
}

/// The text of a scalar that is no reference.
fn scalar_text(value: &CimValue) -> Cow<'_, str> {
    match value {
        CimValue::Boolean(true) => Cow::Borrowed("TRUE"),
        CimValue::Boolean(false) => Cow::Borrowed("FALSE"),
        CimValue::Real32(number) => Cow::Owned(real(format!("{number:?}"))),
        CimValue::Real64(number) => Cow::Owned(real(format!("{number:?}"))),
        CimValue::Char16(unit) => Cow::Owned(character(*unit)),
        CimValue::String(text) => Cow::Borrowed(text),
        CimValue::DateTime(value) => Cow::Owned(value.to_cim_text()),
        CimValue::Instance(instance) => Cow::Owned(encode_instance(instance)),
        CimValue::RawInstance(instance) => Cow::Owned(encode_raw(instance)),
        CimValue::Uint8(n) => Cow::Owned(n.to_string()),
        CimValue::Sint8(n) => Cow::Owned(n.to_string()),
        CimValue::Uint16(n) => Cow::Owned(n.to_string()),
        CimValue::Sint16(n) => Cow::Owned(n.to_string()),
        CimValue::Uint32(n) => Cow::Owned(n.to_string()),
        CimValue::Sint32(n) => Cow::Owned(n.to_string()),
        CimValue::Uint64(n) => Cow::Owned(n.to_string()),
        CimValue::Sint64(n) => Cow::Owned(n.to_string()),
        // Arrays have no arrays in them, and references are written by their own element.
        CimValue::Null | CimValue::Array(_) | CimValue::Reference(_) => Cow::Borrowed(""),
    }
}

/// DSP0201 wants a point in every real: `1e300` becomes `1.0e300`.
fn real(text: String) -> String {
    match text.as_str() {
        "NaN" => text,
        "inf" => "INF".to_owned(),
        "-inf" => "-INF".to_owned(),
        _ if text.contains('.') => text,
        _ => text.replacen('e', ".0e", 1),
    }
}

/// A `char16` as its character; as the number of its code unit when it is a digit, which would read as
/// a number, or when XML cannot carry it.
fn character(unit: u16) -> String {
    match char::from_u32(unit.into()) {
        Some(c) if !c.is_ascii_digit() && c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}') => c.to_string(),
        _ => unit.to_string(),
    }
}

/// The text of an instance that has not met its class: every value is a string.
fn encode_raw(instance: &RawInstance) -> String {
    let mut w = Writer::default();
    w.element_with("INSTANCE", &[("CLASSNAME", instance.class_name.as_str())], |w| {
        for property in &instance.properties {
            let name = ("NAME", property.name.as_str());
            let members = match &property.value {
                RawValue::Array(items) => items.as_slice(),
                scalar => std::slice::from_ref(scalar),
            };
            let is_array = matches!(property.value, RawValue::Array(_));
            if members.iter().any(|member| matches!(member, RawValue::Reference(_))) {
                w.element_with(property_tag(CimType::Reference, is_array), &[name], |w| {
                    write_raw(w, "VALUE.REFARRAY", &property.value);
                });
                continue;
            }
            let mut attributes = vec![name, ("TYPE", "string")];
            if members.iter().any(|member| matches!(member, RawValue::Instance(_))) {
                attributes.push(("EmbeddedObject", "instance"));
            }
            w.element_with(property_tag(CimType::String, is_array), &attributes, |w| {
                write_raw(w, "VALUE.ARRAY", &property.value);
            });
        }
    });
    w.finish()
}

fn write_raw(w: &mut Writer, array_tag: &str, value: &RawValue) {
    match value {
        RawValue::Null => {}
        RawValue::Text(text) => w.element("VALUE", |w| numeric_text(w, text)),
        RawValue::Reference(path) => write_reference(w, path),
        RawValue::Instance(instance) => w.element("VALUE", |w| numeric_text(w, &encode_raw(instance))),
        RawValue::Array(items) => w.element(array_tag, |w| {
            for item in items {
                if matches!(item, RawValue::Null) {
                    w.empty("VALUE.NULL");
                } else {
                    write_raw(w, array_tag, item);
                }
            }
        }),
    }
}
