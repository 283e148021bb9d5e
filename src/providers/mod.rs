//! providers

pub mod generated;
pub mod storage;
