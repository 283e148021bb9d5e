//! The `wsnapd` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    wsnapd::cli::main()
}
