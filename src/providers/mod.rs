//! providers

mod argument;
pub mod generated;
