//! The object manager (rank 4): namespaces, the registry of providers and the traits they implement.
//!
//! `wsman` calls it, `app` registers the providers into it; neither knows the other.

mod context;
mod indication;
mod manager;
mod provider;
mod registry;
mod write;

pub use crate::access::Principal;
pub use context::CallContext;
pub use indication::{
    IndicationProvider, JournalWindow, Occurrence, Occurrences, SubscriptionRecord, SubscriptionStore,
};
pub use manager::{AssociationFilter, LookupError, ObjectManager, Polymorphism};
pub use provider::{
    AssociationProvider, BoxFuture, InstanceProvider, InstanceStream, MethodArguments, MethodProvider, MethodResult,
    Representation, WriteProvider,
};
pub use registry::ProviderRegistry;
