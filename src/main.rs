//! The `wsnapd` command.

fn main() {}
