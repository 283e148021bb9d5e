//! `wsnapd config check` and `wsnapd mof check`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::app::AppError;
use crate::cim::mof;
use crate::config::Config;
use crate::providers::generated::MOF_SOURCES;

use super::args::{ConfigArgs, ConfigCommand, MofArgs, MofCommand};
use super::failure::Failure;
use super::output::{say, tell};

/// The built-in source that declares the standard qualifiers.
const QUALIFIERS: &str = "schemas/qualifiers.mof";

pub(super) fn config(args: &ConfigArgs) -> Result<(), Failure> {
    let ConfigCommand::Check(file) = &args.command;
    match Config::load(&file.config) {
        Ok(config) => {
            let machines = config.machines.len();
            say(format_args!(
                "{} is right ({machines} machines, {} pools, {} collections)",
                file.config.display(),
                config.pools.len(),
                config.collections.len()
            ));
            Ok(())
        }
        Err(error) => {
            for diagnostic in &error.0 {
                tell(diagnostic);
            }
            Err(Failure::failed(format!("{} mistakes in the configuration", error.0.len())))
        }
    }
}

pub(super) fn mof(args: &MofArgs) -> Result<(), Failure> {
    let MofCommand::Check { paths } = &args.command;
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let mut texts = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|error| AppError::Read(file.clone(), error))?;
        texts.push((file.display().to_string(), text));
    }
    let sources: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let diagnostics = mof::check(&sources, MOF_SOURCES, Some(QUALIFIERS));
    if diagnostics.is_empty() {
        say(format_args!("{} files without a mistake", sources.len()));
        return Ok(());
    }
    tell(diagnostics.render().trim_end());
    Err(Failure::failed(format!("{} mistakes in MOF", diagnostics.count())))
}

/// A file, or every `*.mof` below a directory, sorted.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |error| AppError::Read(path.to_owned(), error);
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.path());
    }
    entries.sort();
    for entry in entries {
        if entry.is_dir() || entry.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mof")) {
            collect(&entry, files)?;
        }
    }
    Ok(())
}
