//! CIM types and values (DSP0004 §5.2).

use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use super::{CimDateTime, CimInstance, ObjectPath, RawInstance};

/// An intrinsic CIM type; whether a property is an array is said beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CimType {
    /// `boolean`
    Boolean,
    /// `uint8`
    Uint8,
    /// `sint8`
    Sint8,
    /// `uint16`
    Uint16,
    /// `sint16`
    Sint16,
    /// `uint32`
    Uint32,
    /// `sint32`
    Sint32,
    /// `uint64`
    Uint64,
    /// `sint64`
    Sint64,
    /// `real32`
    Real32,
    /// `real64`
    Real64,
    /// `char16`, a UTF-16 code unit
    Char16,
    /// `string`; embedded objects are strings too, with a qualifier
    String,
    /// `datetime`, a point in time or an interval
    DateTime,
    /// `class REF`
    Reference,
}

impl CimType {
    /// The name of the type in MOF and CIM-XML (`uint16`; `reference` for a REF).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Uint8 => "uint8",
            Self::Sint8 => "sint8",
            Self::Uint16 => "uint16",
            Self::Sint16 => "sint16",
            Self::Uint32 => "uint32",
            Self::Sint32 => "sint32",
            Self::Uint64 => "uint64",
            Self::Sint64 => "sint64",
            Self::Real32 => "real32",
            Self::Real64 => "real64",
            Self::Char16 => "char16",
            Self::String => "string",
            Self::DateTime => "datetime",
            Self::Reference => "reference",
        }
    }

    /// The type a MOF or CIM-XML name stands for, in any case. `reference` is not among them.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        const ALL: [CimType; 14] = [
            CimType::Boolean,
            CimType::Uint8,
            CimType::Sint8,
            CimType::Uint16,
            CimType::Sint16,
            CimType::Uint32,
            CimType::Sint32,
            CimType::Uint64,
            CimType::Sint64,
            CimType::Real32,
            CimType::Real64,
            CimType::Char16,
            CimType::String,
            CimType::DateTime,
        ];
        ALL.into_iter().find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// Whether it is one of the eight integer types.
    #[must_use]
    pub const fn is_integer(self) -> bool {
        matches!(
            self,
            Self::Uint8
                | Self::Sint8
                | Self::Uint16
                | Self::Sint16
                | Self::Uint32
                | Self::Sint32
                | Self::Uint64
                | Self::Sint64
        )
    }
}

impl fmt::Display for CimType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value of a property, parameter or qualifier.
///
/// Cloning is cheap: everything large is shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum CimValue {
    /// No value. Of an array: no array.
    #[default]
    Null,
    /// `boolean`
    Boolean(bool),
    /// `uint8`
    Uint8(u8),
    /// `sint8`
    Sint8(i8),
    /// `uint16`
    Uint16(u16),
    /// `sint16`
    Sint16(i16),
    /// `uint32`
    Uint32(u32),
    /// `sint32`
    Sint32(i32),
    /// `uint64`
    Uint64(u64),
    /// `sint64`
    Sint64(i64),
    /// `real32`
    Real32(f32),
    /// `real64`
    Real64(f64),
    /// `char16`
    Char16(u16),
    /// `string`, also the text form of an embedded instance
    String(SmolStr),
    /// `datetime`
    DateTime(CimDateTime),
    /// `class REF`
    Reference(Arc<ObjectPath>),
    /// An embedded object that is written as an element, not as text (`MSFT_SMExtendedStatus`).
    Instance(Arc<CimInstance>),
    /// An embedded object that arrived as elements and has not met its class yet.
    ///
    /// Only in the arguments of a method: what does not convert is the method's own return value.
    RawInstance(Arc<RawInstance>),
    /// An array; its members are scalars of one type.
    Array(Arc<[Self]>),
}

/// A text or value does not convert to the type that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a {wanted}")]
pub struct ConversionError {
    /// What was given, cut to a readable length.
    pub text: String,
    /// The type that was wanted, as MOF names it.
    pub wanted: &'static str,
}

impl ConversionError {
    /// An error that quotes at most 64 characters of `text`.
    #[must_use]
    pub fn new(text: &str, wanted: &'static str) -> Self {
        Self { text: text.chars().take(64).collect(), wanted }
    }
}

impl CimValue {
    /// Reads the text form that WS-CIM and CIM-XML share into a scalar of type `ty`.
    ///
    /// Integers take an optional sign, surrounding white space and, for unsigned ones, `0x…`; booleans
    /// any case and `0`/`1`; `char16` one character or a number; datetimes the CIM form and the
    /// `xs:dateTime`/`xs:duration` forms (`ws-management.md` §10.2). A reference never comes as
    /// plain text through here.
    ///
    /// # Errors
    /// [`ConversionError`] when the text is not of that type or out of its range.
    pub fn parse(ty: CimType, text: &str) -> Result<Self, ConversionError> {
        let error = || ConversionError::new(text, ty.name());
        let number = text.trim();
        Ok(match ty {
            CimType::Boolean => Self::Boolean(parse_boolean(number).ok_or_else(error)?),
            CimType::Uint8 => Self::Uint8(unsigned(number).and_then(|n| n.try_into().ok()).ok_or_else(error)?),
            CimType::Uint16 => Self::Uint16(unsigned(number).and_then(|n| n.try_into().ok()).ok_or_else(error)?),
            CimType::Uint32 => Self::Uint32(unsigned(number).and_then(|n| n.try_into().ok()).ok_or_else(error)?),
            CimType::Uint64 => Self::Uint64(unsigned(number).ok_or_else(error)?),
            CimType::Sint8 => Self::Sint8(signed(number).and_then(|n| n.try_into().ok()).ok_or_else(error)?),
            CimType::Sint16 => Self::Sint16(signed(number).and_then(|n| n.try_into().ok()).ok_or_else(error)?),
            CimType::Sint32 => Self::Sint32(signed(number).and_then(|n| n.try_into().ok()).ok_or_else(error)?),
            CimType::Sint64 => Self::Sint64(signed(number).ok_or_else(error)?),
            CimType::Real32 => Self::Real32(number.parse().map_err(|_| error())?),
            CimType::Real64 => Self::Real64(number.parse().map_err(|_| error())?),
            CimType::Char16 => Self::Char16(parse_char16(text).ok_or_else(error)?),
            CimType::String => Self::String(SmolStr::new(text)),
            CimType::DateTime => Self::DateTime(CimDateTime::parse(number).map_err(|_| error())?),
            CimType::Reference => return Err(error()),
        })
    }

    /// Whether there is no value.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The type of a scalar or of the first member of an array; `None` for null and an empty array.
    #[must_use]
    pub fn cim_type(&self) -> Option<CimType> {
        Some(match self {
            Self::Null => return None,
            Self::Boolean(_) => CimType::Boolean,
            Self::Uint8(_) => CimType::Uint8,
            Self::Sint8(_) => CimType::Sint8,
            Self::Uint16(_) => CimType::Uint16,
            Self::Sint16(_) => CimType::Sint16,
            Self::Uint32(_) => CimType::Uint32,
            Self::Sint32(_) => CimType::Sint32,
            Self::Uint64(_) => CimType::Uint64,
            Self::Sint64(_) => CimType::Sint64,
            Self::Real32(_) => CimType::Real32,
            Self::Real64(_) => CimType::Real64,
            Self::Char16(_) => CimType::Char16,
            Self::String(_) | Self::Instance(_) | Self::RawInstance(_) => CimType::String,
            Self::DateTime(_) => CimType::DateTime,
            Self::Reference(_) => CimType::Reference,
            Self::Array(items) => return items.first().and_then(Self::cim_type),
        })
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number of any unsigned integer type.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Uint8(n) => Some(n.into()),
            Self::Uint16(n) | Self::Char16(n) => Some(n.into()),
            Self::Uint32(n) => Some(n.into()),
            Self::Uint64(n) => Some(n),
            _ => None,
        }
    }

    /// The number of any signed or unsigned integer type.
    #[must_use]
    pub fn as_i128(&self) -> Option<i128> {
        match *self {
            Self::Sint8(n) => Some(n.into()),
            Self::Sint16(n) => Some(n.into()),
            Self::Sint32(n) => Some(n.into()),
            Self::Sint64(n) => Some(n.into()),
            _ => self.as_u64().map(Into::into),
        }
    }

    /// The truth value of a boolean.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The target of a reference.
    #[must_use]
    pub const fn as_reference(&self) -> Option<&Arc<ObjectPath>> {
        match self {
            Self::Reference(path) => Some(path),
            _ => None,
        }
    }

    /// The members of an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Whether the value may stand in a property or parameter of this type.
    #[must_use]
    pub fn fits(&self, ty: CimType, is_array: bool) -> bool {
        match self {
            Self::Null => true,
            Self::Array(items) => {
                is_array && items.iter().all(|item| !matches!(item, Self::Array(_)) && item.fits(ty, false))
            }
            scalar => !is_array && scalar.cim_type() == Some(ty),
        }
    }
}

macro_rules! from_scalar {
    ($($rust:ty => $variant:ident),+ $(,)?) => {$(
        impl From<$rust> for CimValue {
            fn from(value: $rust) -> Self {
                Self::$variant(value)
            }
        }
    )+};
}

from_scalar! {
    bool => Boolean, u8 => Uint8, i8 => Sint8, u16 => Uint16, i16 => Sint16, u32 => Uint32, i32 => Sint32,
    u64 => Uint64, i64 => Sint64, f32 => Real32, f64 => Real64, SmolStr => String, CimDateTime => DateTime,
}

impl From<&str> for CimValue {
    fn from(text: &str) -> Self {
        Self::String(SmolStr::new(text))
    }
}

impl From<String> for CimValue {
    fn from(text: String) -> Self {
        Self::String(SmolStr::from(text))
    }
}

impl From<ObjectPath> for CimValue {
    fn from(path: ObjectPath) -> Self {
        Self::Reference(Arc::new(path))
    }
}

impl<T: Into<Self>> From<Option<T>> for CimValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Self>> From<Vec<T>> for CimValue {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Self>, const N: usize> From<[T; N]> for CimValue {
    fn from(items: [T; N]) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

fn parse_boolean(text: &str) -> Option<bool> {
    if text == "1" || text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text == "0" || text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn unsigned(text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return if hex.starts_with('+') { None } else { u64::from_str_radix(hex, 16).ok() };
    }
    if text == "-0" { Some(0) } else { text.parse().ok() }
}

fn signed(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// `char16` comes as the character itself or as the number of its code unit; a single digit is a number.
fn parse_char16(text: &str) -> Option<u16> {
    let mut units = text.encode_utf16();
    match (units.next(), units.next()) {
        (Some(unit), None) if !text.starts_with(|c: char| c.is_ascii_digit()) => Some(unit),
        _ => text.trim().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_range_checked() {
        assert_eq!(CimValue::parse(CimType::Uint8, " +255 "), Ok(CimValue::Uint8(255)));
        assert!(CimValue::parse(CimType::Uint8, "256").is_err());
        assert!(CimValue::parse(CimType::Uint16, "two").is_err());
        assert!(CimValue::parse(CimType::Uint16, "-1").is_err());
        assert_eq!(CimValue::parse(CimType::Sint8, "-128"), Ok(CimValue::Sint8(-128)));
        assert_eq!(CimValue::parse(CimType::Uint32, "0xFF"), Ok(CimValue::Uint32(255)));
    }

    #[test]
    fn booleans_and_characters_take_both_forms() {
        for text in ["true", "TRUE", "True", "1"] {
            assert_eq!(CimValue::parse(CimType::Boolean, text), Ok(CimValue::Boolean(true)));
        }
        assert!(CimValue::parse(CimType::Boolean, "yes").is_err());
        assert_eq!(CimValue::parse(CimType::Char16, "A"), Ok(CimValue::Char16(65)));
        assert_eq!(CimValue::parse(CimType::Char16, "65"), Ok(CimValue::Char16(65)));
    }

    #[test]
    fn a_value_is_small() {
        assert!(size_of::<CimValue>() <= 32, "{}", size_of::<CimValue>());
    }
}
