//! GUIDs in the spelling Windows uses: upper case, with hyphens, without braces.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A GUID that displays in upper case (`3AB4F1C0-1D2E-4A59-9F30-9F2B7F1B6A01`).
///
/// Text is read in any case, with or without braces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(Uuid);

/// The text is not a GUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a GUID")]
pub struct GuidError;

impl Guid {
    /// Wraps an UUID.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID inside.
    #[must_use]
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// Writes the 36 upper-case characters into `buffer` and returns them, without allocating.
    #[must_use]
    pub fn encode<'b>(&self, buffer: &'b mut [u8; 36]) -> &'b str {
        self.0.hyphenated().encode_upper(buffer)
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut [0; 36]))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        Uuid::try_parse(text.trim()).map(Self).map_err(|_| GuidError)
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.encode(&mut [0; 36]))
    }
}

impl<'de> Deserialize<'de> for Guid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_read_in_any_case_and_shown_in_upper_case() {
        for text in ["3ab4f1c0-1d2e-4a59-9f30-9f2b7f1b6a01", "{3AB4F1C0-1D2E-4A59-9F30-9F2B7F1B6A01}"] {
            assert_eq!(text.parse::<Guid>().unwrap().to_string(), "3AB4F1C0-1D2E-4A59-9F30-9F2B7F1B6A01");
        }
        assert_eq!("web01".parse::<Guid>(), Err(GuidError));
    }
}
