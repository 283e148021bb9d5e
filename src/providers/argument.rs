//! Checked arguments as Rust values.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::cim::{CimDateTime, CimValue, ObjectPath};

/// A type an argument may have.
pub(super) trait Argument: Sized {
    /// The value, or `None` for null and for another type, which the object manager lets nobody send.
    fn from_value(value: &CimValue) -> Option<Self>;
}

/// The typed form of an argument; `None` when it was left out or nil.
#[expect(clippy::needless_pass_by_value, reason = "the argument was taken out of the list for this")]
pub(super) fn argument<T: Argument>(value: CimValue) -> Option<T> {
    T::from_value(&value)
}

macro_rules! argument {
    ($($rust:ty => $variant:ident),+ $(,)?) => {$(
        impl Argument for $rust {
            fn from_value(value: &CimValue) -> Option<Self> {
                match value {
                    CimValue::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            }
        }
    )+};
}

argument! {
    bool => Boolean, u8 => Uint8, i8 => Sint8, u32 => Uint32, i16 => Sint16, i32 => Sint32, u64 => Uint64, i64 => Sint64,
    f32 => Real32, f64 => Real64, SmolStr => String, CimDateTime => DateTime, Arc<ObjectPath> => Reference,
}

/// `uint16` and `char16` are both numbers of 16 bits.
impl Argument for u16 {
    fn from_value(value: &CimValue) -> Option<Self> {
        match value {
            CimValue::Uint16(value) | CimValue::Char16(value) => Some(*value),
            _ => None,
        }
    }
}

impl<T: Argument> Argument for Vec<T> {
    fn from_value(value: &CimValue) -> Option<Self> {
        value.as_array()?.iter().map(T::from_value).collect()
    }
}
