//! The integration tests: one binary, so that it links once.

mod codecs;
mod config;
mod fuzz_regression;
mod layering;
mod schema;
mod transport;
mod wsman;
