//! The integration tests: one binary, so that the library is linked once.
//!
//! The modules are `cfg(test)` so that clippy sees their helper functions as test code too.

#[cfg(test)]
mod schema;
