//! Machines run by QEMU, ours and those of others (`backends` §2).

mod settings;

pub use settings::{MemoryMethod, QemuSettings};
