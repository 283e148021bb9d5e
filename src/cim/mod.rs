//! The CIM information model and its text forms (rank 1): types, schema, MOF, CIM-XML and WQL.
//!
//! Everything here is pure: no IO, no clock, no panic on any input.

pub mod cimxml;
mod class;
pub mod codegen;
mod datetime;
pub mod embedded;
mod error;
mod instance;
pub mod mof;
mod name;
mod object_path;
mod raw;
mod schema;
mod value;
pub mod wql;

pub use class::{
    ClassDeclaration, MethodDeclaration, ParameterDeclaration, PropertyDeclaration, Qualifier, QualifierFlavor,
    ValueMap,
};
pub use datetime::{CimDateTime, DateTimeError};
pub use error::{CimError, CimStatus};
pub use instance::{CimInstance, InstanceBuilder};
pub use name::{ClassName, PropertyName, namespace_eq, normalize_namespace};
pub use object_path::{KeyValue, ObjectPath, ObjectPathError};
pub use raw::{RawInstance, RawProperty, RawValue};
pub use schema::{NamespaceSchema, Schema};
pub use value::{CimType, CimValue, ConversionError};
