//! providers

pub mod generated;
