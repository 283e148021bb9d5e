//! Values as comparisons see them.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::Comparison;
use crate::cim::{CimDateTime, CimValue, ObjectPath};

/// A value that can be compared. Which ones meet is settled when the query is bound.
#[derive(Clone, Debug)]
pub(super) enum Scalar<'a> {
    /// An integer of any size, or the code unit of a `char16`.
    Integer(i128),
    /// A real number.
    Real(f64),
    /// Text, compared without regard to case.
    Text(Cow<'a, str>),
    /// A truth value.
    Boolean(bool),
    /// A point in time or an interval.
    DateTime(Cow<'a, CimDateTime>),
    /// An object path.
    Path(Cow<'a, ObjectPath>),
}

impl<'a> Scalar<'a> {
    /// The value of a property; `None` when there is none or it does not compare.
    pub(super) fn of(value: &'a CimValue) -> Option<Self> {
        Some(match value {
            CimValue::Boolean(value) => Self::Boolean(*value),
            CimValue::Real32(number) => Self::Real(f64::from(*number)),
            CimValue::Real64(number) => Self::Real(*number),
            CimValue::String(text) => Self::Text(Cow::Borrowed(text)),
            CimValue::DateTime(value) => Self::DateTime(Cow::Borrowed(value)),
            CimValue::Reference(path) => Self::Path(Cow::Borrowed(path)),
            integer => Self::Integer(integer.as_i128()?),
        })
    }

    /// The same value for a time of one comparison.
    pub(super) fn borrow(&self) -> Scalar<'_> {
        match self {
            Self::Integer(number) => Scalar::Integer(*number),
            Self::Real(number) => Scalar::Real(*number),
            Self::Text(text) => Scalar::Text(Cow::Borrowed(text)),
            Self::Boolean(value) => Scalar::Boolean(*value),
            Self::DateTime(value) => Scalar::DateTime(Cow::Borrowed(value)),
            Self::Path(path) => Scalar::Path(Cow::Borrowed(path)),
        }
    }

    /// Compares; `None` when the values have no order, as a point in time and an interval.
    pub(super) fn compare(&self, comparison: Comparison, other: &Self) -> Option<bool> {
        let ordering = match (self, other) {
            (Self::Integer(left), Self::Integer(right)) => left.cmp(right),
            (Self::Integer(left), Self::Real(right)) => approximate(*left).partial_cmp(right)?,
            (Self::Real(left), Self::Integer(right)) => left.partial_cmp(&approximate(*right))?,
            (Self::Real(left), Self::Real(right)) => left.partial_cmp(right)?,
            (Self::Text(left), Self::Text(right)) => compare_text(left, right),
            (Self::Boolean(left), Self::Boolean(right)) => left.cmp(right),
            (Self::DateTime(left), Self::DateTime(right)) => compare_datetimes(left, right)?,
            (Self::Path(left), Self::Path(right)) if left == right => Ordering::Equal,
            // Paths have no order; binding lets only = and <> through.
            (Self::Path(_), Self::Path(_)) => Ordering::Less,
            _ => return None,
        };
        Some(match comparison {
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        })
    }
}

/// The nearest real number, as WMI compares an integer with a real.
fn approximate(number: i128) -> f64 {
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "the nearest real is what is wanted")]
    {
        number as f64
    }
}

/// One character without its case. Characters whose lower case is several characters keep theirs.
pub(super) fn fold(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) => lower,
        _ => c,
    }
}

fn compare_text(left: &str, right: &str) -> Ordering {
    if left.eq_ignore_ascii_case(right) {
        return Ordering::Equal;
    }
    left.chars().map(fold).cmp(right.chars().map(fold))
}

/// Points in time by their instant, intervals by their length; what has wild cards only equals itself.
fn compare_datetimes(left: &CimDateTime, right: &CimDateTime) -> Option<Ordering> {
    match (left, right) {
        (CimDateTime::Timestamp { instant: left, .. }, CimDateTime::Timestamp { instant: right, .. }) => {
            Some(left.cmp(right))
        }
        (CimDateTime::Interval(left), CimDateTime::Interval(right)) => Some(left.cmp(right)),
        (left, right) => (left == right).then_some(Ordering::Equal),
    }
}
