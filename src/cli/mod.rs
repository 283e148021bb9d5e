//! The command line (rank 7): what `wsnapd` understands and what it prints.
//!
//! Commands that serve or change files of the server are here; those that talk to a server over
//! WS-Management are in `remote`. Every command ends with one of the codes of [`Failure`].

mod args;
mod certificates;
mod check;
mod conformance;
mod demo;
mod failure;
mod output;
mod remote;
mod serve;
mod tour;
mod users;

pub use failure::Failure;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::serve(&args),
        Command::Demo(args) => demo::demo(args),
        Command::User(command) => users::run(command),
        Command::Cert(command) => certificates::run(command),
        Command::Config(args) => check::config(&args),
        Command::Mof(args) => check::mof(&args),
        Command::Vm(args) => remote::vm(args),
        Command::Snapshot(args) => remote::snapshot(args),
        Command::ReferencePoint(args) => remote::reference_point(args),
        Command::Volume(args) => remote::volume(args),
        Command::Job(args) => remote::job(args),
        Command::Conformance(args) => conformance::conformance(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(failure.code())
        }
    }
}
