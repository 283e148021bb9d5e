//! Instances and method results as the client sees them: text by name.

use crate::cim::{ObjectPath, PropertyName, RawInstance, RawProperty, RawValue};
use crate::xml::{Event, Fragment, Ns, XmlError};

use crate::binding::decode_reference;

/// An instance with its path.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// What it is called by, when the server told.
    pub path: Option<ObjectPath>,
    /// Its properties.
    pub instance: RawInstance,
}

impl Object {
    /// The text of a property; `None` when it is null, an array or not there.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        text(self.instance.get(name)?)
    }

    /// A property as a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.trim().parse().ok()
    }

    /// A property as texts, one for a scalar.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<&str> {
        match self.instance.get(name) {
            Some(RawValue::Array(items)) => items.iter().filter_map(text).collect(),
            Some(value) => text(value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// A property as a reference, also when the server sends it as the text of a path.
    #[must_use]
    pub fn reference(&self, name: &str) -> Option<ObjectPath> {
        reference(self.instance.get(name)?)
    }
}

/// What a method returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Output(pub(super) RawInstance);

impl Output {
    /// The return value; `None` when the server sent none.
    #[must_use]
    pub fn return_value(&self) -> Option<u32> {
        text(self.0.get("ReturnValue")?)?.trim().parse().ok()
    }

    /// An output parameter as a reference.
    #[must_use]
    pub fn reference(&self, name: &str) -> Option<ObjectPath> {
        reference(self.0.get(name)?)
    }

    /// An output parameter as text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        text(self.0.get(name)?)
    }
}

fn text(value: &RawValue) -> Option<&str> {
    match value {
        RawValue::Text(text) => Some(text),
        _ => None,
    }
}

fn reference(value: &RawValue) -> Option<ObjectPath> {
    match value {
        RawValue::Reference(path) => Some(path.clone()),
        RawValue::Text(text) => ObjectPath::parse(text).ok(),
        _ => None,
    }
}

/// Reads an instance, or a `METHOD_OUTPUT`, which has the same form.
pub(super) fn read(fragment: &Fragment<'_>) -> Result<RawInstance, XmlError> {
    let (mut reader, element) = fragment.open()?;
    let mut instance = RawInstance { class_name: element.local().into(), properties: Vec::new() };
    while let Some(child) = reader.next_child()? {
        let name = PropertyName::new(child.local());
        let value = property(&reader.fragment(&child)?)?;
        // Elements of one name in a row are the items of an array.
        match instance.properties.last_mut().filter(|last| last.name == name) {
            Some(last) => match &mut last.value {
                RawValue::Array(items) => items.push(value),
                first => {
                    let first = std::mem::replace(first, RawValue::Null);
                    last.value = RawValue::Array(vec![first, value]);
                }
            },
            None => instance.properties.push(RawProperty { name, value }),
        }
    }
    Ok(instance)
}

fn property(fragment: &Fragment<'_>) -> Result<RawValue, XmlError> {
    let (mut reader, element) = fragment.open()?;
    if element.is_nil() {
        return Ok(RawValue::Null);
    }
    let mut content = String::new();
    loop {
        match reader.next()? {
            Event::Text(text) => content.push_str(&text),
            Event::End | Event::Eof => return Ok(RawValue::Text(content)),
            Event::Start(child) if child.name().ns == Ns::Addressing => {
                // A reference that cannot be understood is of no use to anyone.
                return Ok(decode_reference(fragment).map_or(RawValue::Null, RawValue::Reference));
            }
            // `cim:Datetime`, `cim:Interval` and their like hold the text of a datetime.
            Event::Start(child) if child.name().ns == Ns::Cim => {
                return Ok(RawValue::Text(reader.text_content()?.into_owned()));
            }
            Event::Start(_) => return Ok(RawValue::Instance(Box::new(read(fragment)?))),
        }
    }
}
