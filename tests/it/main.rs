//! Everything that is tested at a boundary, in one binary that links once.

mod backend_contract;
mod engine_commands;
mod engine_crash;
mod engine_failures;
mod engine_model;
mod engine_support;
