//! providers

mod argument;
pub mod generated;
pub mod storage;
