//! Fuzz targets of wsnapd.
//!
//! An oracle takes a text and panics when the program breaks a promise on it. The targets of cargo-fuzz, the
//! program `mutate` (which needs no nightly compiler) and a normal test over `fixtures/fuzz` all call the same ones.

pub mod oracles;
