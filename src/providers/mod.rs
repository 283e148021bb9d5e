//! Implementations of the classes (rank 5): the only place where a CIM name meets a domain type.
//!
//! Everything reads one immutable [`View`](crate::engine::View) a call and answers without waiting; methods
//! become commands of the [`Engine`](crate::engine::Engine). An `Element` is the domain
//! side of an object path: each class is a *family* that turns elements into instances, and each
//! association a table row of functions from elements to elements. [`register`] puts them all into the
//! registry, for `root/virtualization/v2`, `root/HyperVCluster/v2`, `root/cimv2`, `root/interop` and `root/omi`.

pub mod generated;
pub mod storage;

mod answers;
mod argument;
mod arguments;
mod association;
mod collection_service;
mod collections;
mod computer_system;
mod definitions;
mod device_settings;
mod devices;
mod drives;
mod element;
mod export;
mod family;
mod host;
mod identify;
mod indication_filters;
mod indications;
mod job;
mod job_methods;
mod links;
mod management_service;
mod modify;
mod namespaces;
mod options;
mod records;
mod reference_point_service;
mod reference_points;
mod register;
mod scope;
mod services;
mod setting_data;
mod shutdown;
mod snapshot_outcome;
mod snapshot_service;
mod snapshot_settings;
mod summary;
mod switches;
mod virtual_processors;
mod writes;

pub use indications::Indications;
pub use options::ProviderOptions;
pub use register::register;
