//! The integration tests: one binary, so that it links once.

mod config;
mod layering;
mod schema;
mod storage_provider;
mod support;
mod transport;
mod wsman;
