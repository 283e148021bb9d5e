//! The integration tests: one binary, so that it links once.
//!
//! The modules are `cfg(test)` so that clippy takes their helper functions for test code too.

#[cfg(test)]
mod access;
#[cfg(test)]
mod access_events;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod auth_defence;
#[cfg(test)]
mod auth_routes;
#[cfg(test)]
mod backend_contract;
#[cfg(test)]
mod captures;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod class_query;
#[cfg(test)]
mod class_schema;
#[cfg(test)]
mod client;
#[cfg(test)]
mod codecs;
#[cfg(test)]
mod config;
#[cfg(test)]
mod config_resources;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod credssp;
#[cfg(test)]
mod credssp_second_choice;
#[cfg(test)]
mod engine_commands;
#[cfg(test)]
mod engine_crash;
#[cfg(test)]
mod engine_crash_points;
#[cfg(test)]
mod engine_failures;
#[cfg(test)]
mod engine_kill;
#[cfg(test)]
mod engine_model;
#[cfg(test)]
mod engine_reference_points;
#[cfg(test)]
mod engine_support;
#[cfg(test)]
mod enumeration_expiry;
#[cfg(test)]
mod eventing;
#[cfg(test)]
mod eventing_filters;
#[cfg(test)]
mod eventing_push;
#[cfg(test)]
mod eventing_support;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod fuzz_regression;
#[cfg(test)]
mod host_passwords;
#[cfg(test)]
mod kerberos;
#[cfg(test)]
mod layering;
#[cfg(test)]
mod ntlm;
#[cfg(test)]
mod providers_codes;
#[cfg(test)]
mod providers_devices;
#[cfg(test)]
mod providers_instances;
#[cfg(test)]
mod providers_links;
#[cfg(test)]
mod providers_reference_points;
#[cfg(test)]
mod providers_support;
#[cfg(test)]
mod providers_workflows;
#[cfg(test)]
mod qemu_layers;
#[cfg(test)]
mod qemu_overlay;
#[cfg(test)]
mod qemu_peer;
#[cfg(test)]
mod qemu_tracking;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod storage_provider;
#[cfg(test)]
mod support;
#[cfg(test)]
mod transfer;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod tree;
#[cfg(test)]
mod wsman;
#[cfg(test)]
mod xpath;
