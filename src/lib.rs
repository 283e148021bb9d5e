//! `wsnapd`: a WS-Management (WinRM) endpoint for Linux hosts.
//!
//! Windows CIM sessions, the `wsman` command line and WinRM libraries take, apply and destroy
//! snapshots of virtual machines and storage volumes through it, as they do on a Hyper-V host.
//!
//! The modules have ranks; a module uses lower ranks only. `ARCHITECTURE.md` has the map, and
//! `tests/it/layering.rs` fails on a breach.

// rank 0
pub mod access;
pub mod time;
pub mod xml;
// rank 1
pub mod cim;
pub mod soap;
// rank 2
pub mod backend;
pub mod binding;
// rank 3
pub mod engine;
// rank 4
pub mod cimom;
// rank 5
pub mod providers;
pub mod wsman;
// rank 6
pub mod client;
pub mod transport;
// rank 7
pub mod app;
pub mod cli;
pub mod config;
pub mod conformance;
