//! Object paths: namespace, class and keys of an instance (DSP0004 §8.2, WMI spelling).

use std::sync::Arc;

use smol_str::SmolStr;

use super::name::is_namespace_part;
use super::{CimValue, ClassName, PropertyName, namespace_eq, normalize_namespace};

/// The text is not an object path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an object path: {0}")]
pub struct ObjectPathError(&'static str);

/// The path of an instance, or of a class when it has no keys.
///
/// Keys are kept sorted by name, which is the order on the wire.
#[derive(Clone, Debug)]
pub struct ObjectPath {
    host: Option<SmolStr>,
    namespace: Option<SmolStr>,
    class: ClassName,
    keys: Vec<(PropertyName, KeyValue)>,
}

/// The value of a key: text as selectors carry it, or a reference.
#[derive(Clone, Debug)]
pub enum KeyValue {
    /// The text form of a string, number, boolean or datetime.
    Text(SmolStr),
    /// A key that is itself a reference, as in associations.
    Reference(Arc<ObjectPath>),
}

impl KeyValue {
    /// The key form of a property value; `None` for null, arrays and embedded objects.
    #[must_use]
    pub fn from_value(value: &CimValue) -> Option<Self> {
        Some(match value {
            CimValue::String(text) => Self::Text(text.clone()),
            CimValue::Reference(path) => Self::Reference(Arc::clone(path)),
            CimValue::Boolean(value) => Self::Text(SmolStr::new_static(if *value { "true" } else { "false" })),
            CimValue::DateTime(value) => Self::Text(value.to_cim_text().into()),
            CimValue::Real32(value) => Self::Text(value.to_string().into()),
            CimValue::Real64(value) => Self::Text(value.to_string().into()),
            CimValue::Null | CimValue::Array(_) | CimValue::Instance(_) | CimValue::RawInstance(_) => return None,
            integer => Self::Text(integer.as_i128()?.to_string().into()),
        })
    }

    /// The text of a key that is no reference.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Reference(_) => None,
        }
    }
}

/// Keys compare without regard to case, as Windows does (`ws-management.md` §3.3 rule 1).
impl PartialEq for KeyValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => {
                left.eq_ignore_ascii_case(right) || left.to_lowercase() == right.to_lowercase()
            }
            (Self::Reference(left), Self::Reference(right)) => left == right,
            _ => false,
        }
    }
}

impl Eq for KeyValue {}

/// Two paths are equal when class and keys agree and the namespaces do not contradict; hosts are not compared.
impl PartialEq for ObjectPath {
    fn eq(&self, other: &Self) -> bool {
        let same_namespace = match (&self.namespace, &other.namespace) {
            (Some(left), Some(right)) => namespace_eq(left, right),
            _ => true,
        };
        self.class == other.class && same_namespace && self.keys == other.keys
    }
}

impl Eq for ObjectPath {}

impl ObjectPath {
    /// A path without keys.
    #[must_use]
    pub fn new(namespace: &str, class: ClassName) -> Self {
        Self { host: None, namespace: Some(SmolStr::new(namespace)), class, keys: Vec::new() }
    }

    /// A path that names no namespace; the one of the request is meant.
    #[must_use]
    pub const fn relative(class: ClassName) -> Self {
        Self { host: None, namespace: None, class, keys: Vec::new() }
    }

    /// Reads a WMI object path: `\\\\HOST\\root\\virtualization\\v2:Class.Key="value",Other=1`, without
    /// host, or without namespace (`ws-management.md` §7.3 form 3).
    ///
    /// Inside quotes `\\\\` stands for `\\` and `\\"` for `"`; single quotes are taken too. A key whose
    /// text is itself an object path stays text.
    ///
    /// # Errors
    /// [`ObjectPathError`] says what is missing.
    pub fn parse(text: &str) -> Result<Self, ObjectPathError> {
        let text = text.trim();
        let (host, namespace, rest) = split_namespace(text)?;
        let class_end = rest.find(['.', '=']).unwrap_or(rest.len());
        let (class, keys) = rest.split_at(class_end);
        let is_name = |name: &str| {
            !name.is_empty()
                && name.chars().all(|c| c.is_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
        };
        if !is_name(class) {
            return Err(ObjectPathError("the class name is missing or malformed"));
        }
        let mut path = Self { host, namespace, class: ClassName::new(class), keys: Vec::new() };
        let Some(mut rest) = keys.strip_prefix('.') else {
            return if keys.is_empty() || keys == "=@" {
                Ok(path)
            } else {
                Err(ObjectPathError("a key without a name"))
            };
        };
        loop {
            let (name, value) = rest.split_once('=').ok_or(ObjectPathError("a key without a value"))?;
            if !is_name(name.trim()) {
                return Err(ObjectPathError("a key name is malformed"));
            }
            let (value, after) = key_value(value.trim_start())?;
            path.push_key(PropertyName::new(name.trim()), KeyValue::Text(value.into()));
            match after.trim_start().strip_prefix(',') {
                Some(next) => rest = next,
                None if after.trim().is_empty() => return Ok(path),
                None => return Err(ObjectPathError("text after a key value")),
            }
        }
    }

    /// The WMI spelling with `host` in front: `\\\\HOST\\root\\virtualization\\v2:Class.Key="value"`,
    /// keys sorted by name, `\\` and `"` in values escaped (`snapshot-semantics.md` §1).
    #[must_use]
    pub fn to_wmi_text(&self, host: &str) -> String {
        let namespace = self.namespace.as_deref().unwrap_or_default().replace('/', "\\");
        format!("\\\\{host}\\{namespace}:{}", self.to_relative_text())
    }

    /// The part of the WMI spelling after the namespace: `Class.Key="value"`.
    #[must_use]
    pub fn to_relative_text(&self) -> String {
        let mut text = self.class.to_string();
        for (index, (name, value)) in self.keys.iter().enumerate() {
            text.push(if index == 0 { '.' } else { ',' });
            text.push_str(name.as_str());
            text.push_str("=\"");
            let value = match value {
                KeyValue::Text(value) => value.to_string(),
                KeyValue::Reference(path) => path.to_wmi_text(path.host().unwrap_or(".")),
            };
            for c in value.chars() {
                if matches!(c, '\\' | '"') {
                    text.push('\\');
                }
                text.push(c);
            }
            text.push('"');
        }
        text
    }

    /// Adds a key and returns the path, for building one in an expression.
    #[must_use]
    pub fn with_key(mut self, name: &str, value: impl Into<SmolStr>) -> Self {
        self.push_key(PropertyName::new(name), KeyValue::Text(value.into()));
        self
    }

    /// Adds a key that is a reference.
    #[must_use]
    pub fn with_reference_key(mut self, name: &str, value: Self) -> Self {
        self.push_key(PropertyName::new(name), KeyValue::Reference(Arc::new(value)));
        self
    }

    /// Adds a key in its place by name; a key that is there already is replaced.
    pub fn push_key(&mut self, name: PropertyName, value: KeyValue) {
        match self.keys.binary_search_by(|(existing, _)| existing.cmp(&name)) {
            Ok(index) => {
                if let Some(slot) = self.keys.get_mut(index) {
                    slot.1 = value;
                }
            }
            Err(index) => self.keys.insert(index, (name, value)),
        }
    }

    /// The host, when the path named one.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Names a host.
    #[must_use]
    pub fn with_host(mut self, host: &str) -> Self {
        self.host = Some(SmolStr::new(host));
        self
    }

    /// The namespace, when the path named one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The same path in a namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(SmolStr::new(namespace));
        self
    }

    /// The class.
    #[must_use]
    pub const fn class_name(&self) -> &ClassName {
        &self.class
    }

    /// The same keys for another class name.
    #[must_use]
    pub fn with_class(mut self, class: ClassName) -> Self {
        self.class = class;
        self
    }

    /// The keys, sorted by name.
    #[must_use]
    pub fn keys(&self) -> &[(PropertyName, KeyValue)] {
        &self.keys
    }

    /// The value of a key.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&KeyValue> {
        self.keys.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The text of a key; `None` when it is absent or a reference.
    #[must_use]
    pub fn key_text(&self, name: &str) -> Option<&str> {
        self.key(name).and_then(KeyValue::as_text)
    }
}

type SplitPath<'a> = (Option<SmolStr>, Option<SmolStr>, &'a str);

/// Takes host and namespace off the front; what stands behind the colon is the class and its keys.
fn split_namespace(text: &str) -> Result<SplitPath<'_>, ObjectPathError> {
    // A colon behind the first key, in quotes or not, belongs to a key.
    let Some(colon) = text.find(':').filter(|&colon| text.find(['"', '\'', '=']).is_none_or(|key| colon < key)) else {
        return Ok((None, None, text));
    };
    let (front, rest) = text.split_at(colon);
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    let folded = front.replace('\\', "/");
    let host = folded.strip_prefix("//").and_then(|rest| rest.split('/').next()).filter(|host| *host != ".");
    if host == Some("") {
        return Err(ObjectPathError("the host name is empty"));
    }
    let namespace = normalize_namespace(&folded);
    if !namespace.split('/').all(is_namespace_part) {
        return Err(ObjectPathError("the namespace is empty or malformed"));
    }
    Ok((host.map(SmolStr::new), Some(SmolStr::new(&namespace)), rest))
}

/// Reads a quoted or bare key value; answers it with what follows.
fn key_value(text: &str) -> Result<(String, &str), ObjectPathError> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let end = text.find(',').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        if value.trim().is_empty() {
            return Err(ObjectPathError("a key without a value"));
        }
        return Ok((value.trim().to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((index, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, escaped @ ('\\' | '"' | '\''))) => value.push(escaped),
                // A backslash that was not doubled stands for itself.
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            c if c == quote => return Ok((value, text.get(index + 1..).unwrap_or_default())),
            c => value.push(c),
        }
    }
    Err(ObjectPathError("a quote is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wmi_paths_are_read_and_written() {
        let text = r#"\\HOST\root\virtualization\v2:Msvm_X.InstanceID="Microsoft:A\\B\\\"L\"""#;
        let path = ObjectPath::parse(text).unwrap();
        assert_eq!(path.host(), Some("HOST"));
        assert_eq!(path.namespace(), Some("root/virtualization/v2"));
        assert_eq!(path.key_text("instanceid"), Some(r#"Microsoft:A\B\"L""#));
        assert_eq!(path.to_wmi_text("HOST"), text);
    }

    #[test]
    fn relative_paths_and_single_quotes_are_taken() {
        let path = ObjectPath::parse("Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='a:b'").unwrap();
        assert_eq!(path.namespace(), None);
        assert_eq!(path.key_text("Name"), Some("a:b"));
        assert_eq!(ObjectPath::parse("root/cimv2:X.Id=5").unwrap().key_text("Id"), Some("5"));
        assert_eq!(ObjectPath::parse("X.Id=Microsoft:5").unwrap().key_text("Id"), Some("Microsoft:5"));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in
            ["", "no path", "X.", "X.A", "X.A=", "X.A=\"b", "X.A=\"b\"c", ":X", "a//b:X", "a b:X", "X=5", "<INSTANCE/>"]
        {
            assert!(ObjectPath::parse(text).is_err(), "{text}");
        }
    }
}
