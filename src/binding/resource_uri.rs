//! Resource URIs (`ws-management.md` §5): which family, namespace and class one names.

use smol_str::SmolStr;

use crate::cim::normalize_namespace;

const WMI: &str = "schemas.microsoft.com/wbem/wsman/1/wmi/";
const DMTF_CLASS: &str = "schemas.dmtf.org/wbem/wscim/1/cim-schema/2/";
const DMTF_ALL: &str = "schemas.dmtf.org/wbem/wscim/1/*";
const CLASS_SCHEMA: &str = "schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/";
const CONFIGURATION: &str = "schemas.microsoft.com/wbem/wsman/1/config";
const WS_CIM_SCHEMA: &str = "schemas.dmtf.org/wbem/ws-cim/1/cim-schema/2/";
const VENDOR_TAIL: &str = "/wbem/wscim/1/cim-schema/2/";

/// Which spelling of URIs a client uses; the answer uses the same (§5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriFamily {
    /// `http://schemas.microsoft.com/wbem/wsman/1/wmi/NAMESPACE/CLASS`
    Wmi,
    /// `http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CLASS` with a `__cimnamespace` selector
    Dmtf,
    /// The same path below another host; openwsman maps vendor prefixes so.
    Vendor(SmolStr),
}

/// Which classes a resource URI names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassSelection {
    /// One class, in the spelling of the client.
    Class(SmolStr),
    /// All classes of the namespace (`*`).
    All,
}

/// A resource URI taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceUri {
    /// A class or all classes; the namespace is there for the WMI family only.
    Cim {
        /// The spelling.
        family: UriFamily,
        /// The namespace in the URI.
        namespace: Option<SmolStr>,
        /// The class.
        class: ClassSelection,
    },
    /// Class definitions in CIM-XML (§12); a class when the URI ends in its name instead of `*`.
    ClassSchema(Option<SmolStr>),
    /// Class definitions in the WS-CIM form, which nobody serves.
    WsCimSchema,
    /// The configuration of the service (§15.2): the path below `…/wsman/1/config` in lower case, empty for
    /// the whole.
    Configuration(SmolStr),
    /// Anything else.
    Unknown,
}

impl ResourceUri {
    /// Takes a URI apart; scheme, host and path compare without regard to case, and an unreserved character
    /// that is percent-encoded is the character (RFC 3986 §6.2.2).
    #[must_use]
    pub fn parse(uri: &str) -> Self {
        if uri.contains('%') { Self::parse_decoded(&decode_unreserved(uri)) } else { Self::parse_decoded(uri) }
    }

    fn parse_decoded(uri: &str) -> Self {
        let Some(rest) = strip_prefix_ignore_case(uri, "http://").or_else(|| strip_prefix_ignore_case(uri, "https://"))
        else {
            return Self::Unknown;
        };
        if let Some(path) = strip_prefix_ignore_case(rest, WMI) {
            return Self::parse_wmi(path);
        }
        if rest.eq_ignore_ascii_case(DMTF_ALL) {
            return Self::cim(UriFamily::Dmtf, ClassSelection::All);
        }
        if let Some(class) = strip_prefix_ignore_case(rest, DMTF_CLASS) {
            return Self::parse_class(UriFamily::Dmtf, class);
        }
        if let Some(class) = strip_prefix_ignore_case(rest, CLASS_SCHEMA) {
            return match class {
                "*" => Self::ClassSchema(None),
                name if name.is_empty() || name.contains('/') => Self::Unknown,
                name => Self::ClassSchema(Some(SmolStr::new(name))),
            };
        }
        if let Some(path) = strip_prefix_ignore_case(rest, CONFIGURATION) {
            return match path.strip_prefix('/') {
                Some(below) if !below.is_empty() => Self::Configuration(SmolStr::new(below.to_ascii_lowercase())),
                None if path.is_empty() => Self::Configuration(SmolStr::default()),
                _ => Self::Unknown,
            };
        }
        if strip_prefix_ignore_case(rest, WS_CIM_SCHEMA).is_some() {
            return Self::WsCimSchema;
        }
        match rest.split_once('/') {
            // It stands in the answer again, as the namespace of its elements.
            Some((host, _)) if !host.is_empty() && host.bytes().all(is_of_a_host) => {
                let path = rest.get(host.len()..).unwrap_or_default();
                strip_prefix_ignore_case(path, VENDOR_TAIL).map_or(Self::Unknown, |class| {
                    let prefix_length = uri.len() - class.len();
                    let prefix = uri.get(..prefix_length).unwrap_or_default();
                    Self::parse_class(UriFamily::Vendor(SmolStr::new(prefix)), class)
                })
            }
            _ => Self::Unknown,
        }
    }

    fn parse_wmi(path: &str) -> Self {
        let Some((namespace, class)) = path.rsplit_once('/') else { return Self::Unknown };
        let namespace = normalize_namespace(namespace);
        if namespace.is_empty() || class.is_empty() {
            return Self::Unknown;
        }
        Self::Cim { family: UriFamily::Wmi, namespace: Some(SmolStr::new(&namespace)), class: class_selection(class) }
    }

    fn parse_class(family: UriFamily, class: &str) -> Self {
        if class.is_empty() || class.contains('/') { Self::Unknown } else { Self::cim(family, class_selection(class)) }
    }

    const fn cim(family: UriFamily, class: ClassSelection) -> Self {
        Self::Cim { family, namespace: None, class }
    }
}

/// Whether a host and its port can have the character (RFC 3986 §3.2.2, without what no name of a host has).
const fn is_of_a_host(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
}

fn class_selection(class: &str) -> ClassSelection {
    if class == "*" { ClassSelection::All } else { ClassSelection::Class(SmolStr::new(class)) }
}

/// The URI with `%41` and the like replaced where they stand for letters, digits, `-`, `.`, `_` or `~`.
fn decode_unreserved(uri: &str) -> String {
    let mut decoded = String::with_capacity(uri.len());
    let mut rest = uri;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let octet = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(char::from);
        if let Some(character) = octet.filter(|c| c.is_ascii_alphanumeric() || "-._~".contains(*c)) {
            decoded.push(character);
            rest = after.get(2..).unwrap_or_default();
        } else {
            decoded.push('%');
            rest = after;
        }
    }
    decoded.push_str(rest);
    decoded
}

fn strip_prefix_ignore_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let head = text.get(..prefix.len())?;
    if head.eq_ignore_ascii_case(prefix) { text.get(prefix.len()..) } else { None }
}

/// How class URIs are written in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriStyle {
    prefix: SmolStr,
    namespace: SmolStr,
    names_namespace: bool,
}

impl UriStyle {
    /// The style of a family for instances of `namespace`.
    #[must_use]
    pub fn new(family: &UriFamily, namespace: &str) -> Self {
        let prefix = match family {
            UriFamily::Wmi => SmolStr::from(format!("http://{WMI}{namespace}/")),
            UriFamily::Dmtf => SmolStr::from(format!("http://{DMTF_CLASS}")),
            UriFamily::Vendor(prefix) => prefix.clone(),
        };
        Self { prefix, namespace: SmolStr::new(namespace), names_namespace: *family != UriFamily::Wmi }
    }

    /// What stands before the class name in a class URI.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The namespace of the instances.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether references need a `__cimnamespace` selector.
    #[must_use]
    pub const fn names_namespace(&self) -> bool {
        self.names_namespace
    }

    /// The same family for instances of another namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        if self.names_namespace {
            Self { namespace: SmolStr::new(namespace), ..self.clone() }
        } else {
            Self::new(&UriFamily::Wmi, namespace)
        }
    }

    /// The URI of a class.
    #[must_use]
    pub fn class_uri(&self, class: &str) -> String {
        format!("{}{class}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(uri: &str) -> String {
        match ResourceUri::parse(uri) {
            ResourceUri::Cim { family, namespace, class } => {
                let family = match family {
                    UriFamily::Wmi => "wmi".to_owned(),
                    UriFamily::Dmtf => "dmtf".to_owned(),
                    UriFamily::Vendor(prefix) => prefix.to_string(),
                };
                let class = match class {
                    ClassSelection::Class(class) => class.to_string(),
                    ClassSelection::All => "*".to_owned(),
                };
                format!("{family} {} {class}", namespace.unwrap_or_default())
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_forms_of_section_5_1_are_told_apart() {
        for (uri, expected) in [
            (
                "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_X",
                "wmi root/virtualization/v2 Msvm_X",
            ),
            ("HTTPS://Schemas.Microsoft.com/wbem/wsman/1/WMI/root/cimv2/*", "wmi root/cimv2 *"),
            ("http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/Msvm_X", "dmtf  Msvm_X"),
            ("http://schemas.dmtf.org/wbem/wscim/1/*", "dmtf  *"),
            ("http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/*", "dmtf  *"),
            (
                "http://sblim.sf.net/wbem/wscim/1/cim-schema/2/Linux_X",
                "http://sblim.sf.net/wbem/wscim/1/cim-schema/2/  Linux_X",
            ),
            ("http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/*", "ClassSchema(None)"),
            ("http://schemas.dmtf.org/wbem/CIM-XML/2/cim-schema/2/Msvm_X", "ClassSchema(Some(\"Msvm_X\"))"),
            ("http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/", "Unknown"),
            ("http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/a/b", "Unknown"),
            ("http://schemas.dmtf.org/wbem/ws-cim/1/cim-schema/2/*", "WsCimSchema"),
            ("http://schemas.microsoft.com/wbem/wsman/1/Config", "Configuration(\"\")"),
            ("http://schemas.microsoft.com/wbem/wsman/1/config/Service/Auth", "Configuration(\"service/auth\")"),
            ("http://schemas.microsoft.com/wbem/wsman/1/config/", "Unknown"),
            ("http://schemas.microsoft.com/wbem/wsman/1/configuration", "Unknown"),
            ("http://schemas.microsoft.com/wbem/wsman/1/wmi/", "Unknown"),
            ("http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/Msvm%5FX", "dmtf  Msvm_X"),
            ("http://schemas.dmtf.org/wbem/wscim/1/cim%2Dschema/2/Msvm_%58", "dmtf  Msvm_X"),
            ("http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/Msvm%2FX%", "dmtf  Msvm%2FX%"),
            ("http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/%\u{e4}%+1", "dmtf  %\u{e4}%+1"),
            ("http://a\"b/wbem/wscim/1/cim-schema/2/Linux_X", "Unknown"),
            ("http://a&b/wbem/wscim/1/cim-schema/2/Linux_X", "Unknown"),
            ("urn:x", "Unknown"),
            ("", "Unknown"),
        ] {
            assert_eq!(shown(uri), expected, "{uri}");
        }
    }
}
