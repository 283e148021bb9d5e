//! The integration tests: one binary, so that it links once.
//!
//! The modules are `cfg(test)` so that clippy takes their helper functions for test code too.

#[cfg(test)]
mod config;
#[cfg(test)]
mod layering;
#[cfg(test)]
mod providers_codes;
#[cfg(test)]
mod providers_instances;
#[cfg(test)]
mod providers_links;
#[cfg(test)]
mod providers_support;
#[cfg(test)]
mod providers_workflows;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod wsman;
