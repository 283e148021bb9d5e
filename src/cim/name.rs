//! CIM names, which compare without regard to case (DSP0004 §5.1), and namespace names.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use smol_str::SmolStr;

macro_rules! cim_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SmolStr);

        impl $name {
            /// Keeps the spelling of `text`; comparison ignores ASCII case.
            #[must_use]
            pub fn new(text: &str) -> Self {
                Self(SmolStr::new(text))
            }

            /// A name from a constant, without allocating.
            #[must_use]
            pub const fn from_static(text: &'static str) -> Self {
                Self(SmolStr::new_static(text))
            }

            /// A name that shares its text.
            #[must_use]
            pub const fn from_smol_str(text: SmolStr) -> Self {
                Self(text)
            }

            /// The name as it was spelled.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The name as a shared string.
            #[must_use]
            pub const fn as_smol_str(&self) -> &SmolStr {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.eq_ignore_ascii_case(&other.0)
            }
        }

        impl Eq for $name {}

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0.eq_ignore_ascii_case(other)
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0.eq_ignore_ascii_case(other)
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                compare_ignore_case(&self.0, &other.0)
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                for byte in self.0.bytes() {
                    state.write_u8(byte.to_ascii_lowercase());
                }
                state.write_u8(0xff);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.0.as_str(), f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

cim_name! {
    /// Name of a CIM class, also of a method or qualifier.
    ClassName
}
cim_name! {
    /// Name of a property, a method parameter or a key.
    PropertyName
}

/// Orders two texts as if both were in lower case, byte by byte.
pub(crate) fn compare_ignore_case(left: &str, right: &str) -> Ordering {
    left.bytes().map(|b| b.to_ascii_lowercase()).cmp(right.bytes().map(|b| b.to_ascii_lowercase()))
}

/// Finds a name in a list without regard to case and without allocating.
///
/// Sorted hashes of the names; a hit is confirmed against the name itself.
#[derive(Debug, Default)]
pub(super) struct NameIndex(Box<[(u32, u32)]>);

impl NameIndex {
    /// An index of the positions of `names`.
    pub(super) fn new<'a, I: Iterator<Item = &'a str>>(names: I) -> Self {
        let mut hashes: Vec<(u32, u32)> =
            (0..).zip(names).map(|(position, name)| (hash_ignore_case(name), position)).collect();
        hashes.sort_unstable();
        Self(hashes.into_boxed_slice())
    }

    /// The position of `name`, where `name_at` tells the name at a position.
    pub(super) fn find<'a>(&self, name: &str, name_at: impl Fn(usize) -> Option<&'a str>) -> Option<usize> {
        let hash = hash_ignore_case(name);
        let first = self.0.partition_point(|&(other, _)| other < hash);
        self.0
            .iter()
            .skip(first)
            .take_while(|&&(other, _)| other == hash)
            .filter_map(|&(_, position)| usize::try_from(position).ok())
            .find(|&position| name_at(position).is_some_and(|found| found.eq_ignore_ascii_case(name)))
    }
}

/// FNV-1a over the lower-case bytes.
fn hash_ignore_case(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193))
}

/// A namespace name with `/` between its parts and nothing before the first.
///
/// Reads `root\virtualization\v2`, `/root/virtualization/v2` and `//./root/virtualization/v2` alike
/// and keeps the case as it is.
#[must_use]
pub fn normalize_namespace(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    let folded = if text.contains('\\') { Cow::Owned(text.replace('\\', "/")) } else { Cow::Borrowed(text) };
    let without_host = |text: &str| -> usize {
        match text.strip_prefix("//") {
            // `//host/namespace`: the host part ends at the next separator.
            Some(rest) => rest.find('/').map_or(text.len(), |end| end + 3),
            None => usize::from(text.starts_with('/')),
        }
    };
    let start = without_host(&folded);
    match folded {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(start..).unwrap_or_default().trim_end_matches('/')),
        Cow::Owned(text) => Cow::Owned(text.get(start..).unwrap_or_default().trim_end_matches('/').to_owned()),
    }
}

/// Whether a text may stand between two separators of a namespace name.
pub(crate) fn is_namespace_part(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// Whether two namespace names mean the same one: any case, either separator.
#[must_use]
pub fn namespace_eq(left: &str, right: &str) -> bool {
    normalize_namespace(left).eq_ignore_ascii_case(&normalize_namespace(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_fold_separators_hosts_and_case() {
        for text in [
            "root/virtualization/v2",
            r"ROOT\virtualization\v2",
            "/root/virtualization/v2",
            "//./root/virtualization/v2",
            r"\\HOST1\root\virtualization\v2",
            "root/virtualization/v2/",
        ] {
            assert!(namespace_eq(text, "root/virtualization/v2"), "{text}");
        }
        assert!(!namespace_eq("root/virtualization", "root/virtualization/v2"));
    }

    #[test]
    fn names_compare_without_case_and_keep_their_spelling() {
        assert_eq!(ClassName::new("msvm_error"), ClassName::new("Msvm_Error"));
        assert_eq!(ClassName::new("msvm_error").as_str(), "msvm_error");
        assert!(PropertyName::new("abc") < PropertyName::new("ABD"));
    }
}
