//! The integration tests: one binary, so that it links once.
//!
//! The modules are `cfg(test)` so that clippy takes their helper functions for test code too.

#[cfg(test)]
mod captures;
#[cfg(test)]
mod codecs;
#[cfg(test)]
mod config;
#[cfg(test)]
mod fuzz_regression;
#[cfg(test)]
mod layering;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod storage_provider;
#[cfg(test)]
mod support;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod tree;
#[cfg(test)]
mod wsman;
