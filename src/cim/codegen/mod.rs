//! Generates the Rust side of the schema: the table of MOF sources, class and property names,
//! value-map enums and typed method inputs.
//!
//! `cargo run --example generate` writes the result into `src/providers/generated.rs`; a test fails
//! when that file is stale.

mod enums;
mod generate;
mod inputs;
mod names;

pub use generate::generate;
