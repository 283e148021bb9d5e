//! Writes `src/providers/generated.rs` from the MOF files below `schemas/`.
//!
//! Run `cargo run --example generate` after every change of a MOF file.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wsnapd::cim::codegen;

fn main() -> Result<(), Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    find(&package.join("schemas"), &mut files)?;
    files.sort();
    let mut sources = Vec::with_capacity(files.len());
    for file in &files {
        let name = file.strip_prefix(package)?.to_str().ok_or("a file name is not UTF-8")?.replace('\\', "/");
        sources.push((name, fs::read_to_string(file)?));
    }
    let table: Vec<(&str, &str)> = sources.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let code = codegen::generate(&table, "cargo run --example generate")?;
    fs::write(package.join("src/providers/generated.rs"), format(&code)?)?;
    Ok(())
}

fn find(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "mof") {
            files.push(path);
        }
    }
    Ok(())
}

/// Runs the text through rustfmt, so that the file stays as `cargo fmt` wants it.
fn format(code: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config", "max_width=120,use_small_heuristics=Max"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    rustfmt.stdin.take().ok_or("rustfmt has no input")?.write_all(code.as_bytes())?;
    let output = rustfmt.wait_with_output()?;
    if output.status.success() { Ok(output.stdout) } else { Err("rustfmt failed".into()) }
}
