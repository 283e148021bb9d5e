//! The object manager (rank 4): namespaces, the registry of providers and the traits they implement.
//!
//! `wsman` calls it, `app` registers the providers into it; neither knows the other.

mod context;
mod provider;

pub use context::{CallContext, Principal};
pub use provider::{
    AssociationProvider, BoxFuture, InstanceProvider, InstanceStream, MethodArguments, MethodProvider, MethodResult,
};
