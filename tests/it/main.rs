//! The integration tests, in one binary that links once.

mod codecs;
mod fuzz_regression;
