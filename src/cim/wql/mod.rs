//! WQL, the query language of WMI (`ws-management.md` §8.1).
//!
//! A text is parsed into a [`Query`] without a schema. A `SELECT` is then bound to its class, which checks
//! that its properties exist and that types agree, and the [`BoundQuery`] tests instances. A query for classes is a
//! [`ClassQuery`], which is bound to its namespace.
//!
//! ```
//! use wsnapd::cim::wql::Query;
//!
//! let query: Query = "SELECT Name FROM Msvm_ComputerSystem WHERE Name != __SERVER".parse()?;
//! let Query::Select(select) = query else { panic!() };
//! assert_eq!(select.class, "Msvm_ComputerSystem");
//! # Ok::<(), wsnapd::cim::wql::WqlError>(())
//! ```

mod ast;
mod bind;
mod classes;
mod cursor;
mod display;
mod error;
mod evaluate;
mod event;
mod like;
mod parse;
mod scalar;

pub use ast::{
    AssociatorsOf, Comparison, Expression, Literal, Operand, Projection, PropertyReference, Query, ReferencesOf,
    Select, SystemProperty,
};
pub use bind::{BoundQuery, Candidates};
pub use classes::{BoundClassQuery, ClassQuery};
pub use error::WqlError;
pub use evaluate::SystemProperties;
pub use event::EventQuery;
