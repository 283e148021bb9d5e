//! The ranks of `ARCHITECTURE.md`: a module uses lower ranks only, never a higher one, never a sibling.

use std::fs;
use std::path::{Path, PathBuf};

const RANKS: [(&str, u8); 18] = [
    ("access", 0),
    ("time", 0),
    ("xml", 0),
    ("cim", 1),
    ("soap", 1),
    ("backend", 2),
    ("binding", 2),
    ("engine", 3),
    ("cimom", 4),
    ("providers", 5),
    ("wsman", 5),
    ("client", 6),
    ("transport", 6),
    ("app", 7),
    ("cli", 7),
    ("config", 7),
    ("conformance", 7),
    ("main", 7),
];

/// What a rank alone does not say: the protocol column never names the domain column, and the other way round.
const NEVER: [(&str, &[&str]); 5] = [
    ("wsman", &["engine", "backend"]),
    ("binding", &["engine", "backend"]),
    ("cimom", &["engine", "backend"]),
    ("engine", &["cim", "soap", "xml", "binding"]),
    ("backend", &["cim", "soap", "xml", "binding"]),
];

fn rank(module: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules a source names by `crate::` (or, from the binary, by `wsnapd::`), comments left out.
fn modules_used(text: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for root in ["crate::", "wsnapd::"] {
            for (start, _) in code.match_indices(root) {
                let rest = code.get(start + root.len()..).unwrap_or_default();
                let names = match rest.strip_prefix('{') {
                    Some(list) => list.split(',').map(|name| name.trim().to_owned()).collect(),
                    None => vec![rest.to_owned()],
                };
                for name in names {
                    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
                    used.push((number + 1, name.get(..end).unwrap_or_default().to_owned()));
                }
            }
        }
    }
    used
}

#[test]
fn modules_use_lower_ranks_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "the sources were not found");
    let mut breaches = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let own =
            relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if own == "lib" {
            continue;
        }
        let own_rank = rank(&own).unwrap_or_else(|| panic!("module {own} has no rank"));
        let text = fs::read_to_string(&file).unwrap();
        for (line, used) in modules_used(&text) {
            let Some(used_rank) = rank(&used) else { continue };
            let forbidden = NEVER.iter().any(|(module, never)| *module == own && never.contains(&used.as_str()));
            // The members of rank 7 compose everything, each other too.
            let sibling = used_rank == own_rank && used != own && own_rank < 7;
            if used_rank > own_rank || sibling || forbidden {
                breaches.push(format!(
                    "{}:{line}: {own} (rank {own_rank}) uses {used} (rank {used_rank})",
                    relative.display()
                ));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn no_file_is_longer_than_800_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    for file in files.iter().filter(|file| !file.ends_with("generated.rs")) {
        let lines = fs::read_to_string(file).unwrap().lines().count();
        assert!(lines <= 800, "{} has {lines} lines", file.display());
    }
}

/// Providers act for users, so they have the engine through its gate only: the engine itself is named where gates
/// are made of it, and nowhere else.
#[test]
fn providers_reach_the_engine_through_the_gate_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/providers");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut naming = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code: Vec<&str> = code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        let names_it =
            |line: &&str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "Engine");
        if code.iter().any(names_it) {
            naming.push(file.strip_prefix(&root).unwrap().display().to_string());
        }
    }
    naming.sort();
    assert_eq!(naming, ["indications.rs", "register.rs", "storage/registration.rs"]);
}
