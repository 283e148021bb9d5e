//! Machines, pools and collections.

use std::fs;
use std::path::Path;

use toml::de::DeTable;

use crate::backend::{
    CollectionDefinition, DiskDefinition, DiskFormat, MachineDefinition, NetworkDefinition, PoolDefinition,
    PoolSnapshots,
};

use super::diagnostics::{Diagnostic, Sink};
use super::qemu;
use super::reader::{Section, tables};

/// Reads the machine definitions `*.toml` of a directory, sorted by file name. A directory that is not
/// there holds none.
pub(super) fn machines(directory: &Path, found: &mut Vec<Diagnostic>) -> Vec<MachineDefinition> {
    let mut files: Vec<_> = match fs::read_dir(directory) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            Sink::new(directory, "", found).report(None, format!("cannot read the directory: {error}"));
            return Vec::new();
        }
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut machines: Vec<MachineDefinition> = Vec::new();
    for file in files {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                Sink::new(&file, "", found).report(None, format!("cannot read the file: {error}"));
                continue;
            }
        };
        let mut sink = Sink::new(&file, &text, found);
        let Some(machine) = machine(&text, &mut sink) else { continue };
        if let Some(twin) = machines.iter().find(|other| other.id == machine.id) {
            sink.report(None, format!("machine {} has the id of machine {}", machine.name, twin.name));
        }
        machines.push(machine);
    }
    machines
}

fn machine(text: &str, sink: &mut Sink<'_>) -> Option<MachineDefinition> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        sink.report(error.span(), error.message().to_owned());
    }
    let root = document.get_ref();
    let disks = tables(root, "disk", "machine.disk", sink, disk);
    for (index, one) in disks.iter().enumerate() {
        if disks.iter().take(index).any(|other| other.name == one.name) {
            sink.report(None, format!("two disks are named {}", one.name));
        }
    }
    let networks = tables(root, "network", "machine.network", sink, network);
    for (index, one) in networks.iter().enumerate() {
        if networks.iter().take(index).any(|other| other.name == one.name) {
            sink.report(None, format!("two network cards are named {}", one.name));
        }
        if networks.iter().take(index).any(|other| other.mac == one.mac) {
            sink.report(None, format!("two network cards have the address {}", one.mac));
        }
    }
    let qemu = qemu::machine(root, sink);
    let mut section = Section::new("machine", Some(root), None, sink);
    let (id, name) = (section.required_guid("id"), section.required_text("name"));
    let notes = section.text("notes").unwrap_or_default();
    let (memory_mb, processors) = (section.number("memory_mb"), section.number_u32("processors"));
    Some(MachineDefinition { id: id?, name: name?, notes, memory_mb, processors, disks, networks, qemu: qemu? })
}

fn disk(section: &mut Section<'_, '_, '_>) -> Option<DiskDefinition> {
    let (name, path) = (section.required_text("name"), section.required_path("path"));
    let format = match section.choice("format") {
        Some("qcow2") => DiskFormat::Qcow2,
        _ => DiskFormat::Raw,
    };
    let (read_only, pass_through) = (section.flag("read_only"), section.flag("pass_through"));
    Some(DiskDefinition { name: name?, path: path?, format, read_only, pass_through })
}

fn network(section: &mut Section<'_, '_, '_>) -> Option<NetworkDefinition> {
    let (name, mac) = (section.required_text("name"), section.required_text("mac"));
    let mac = mac.and_then(|mac| mac.parse().map_err(|error| section.report("mac", format!("{error}"))).ok());
    let bridge = section.text("bridge").filter(|bridge| !bridge.is_empty());
    Some(NetworkDefinition { name: name?, mac: mac?, bridge })
}

/// Reads `[[pool]]`.
pub(super) fn pools(root: &DeTable<'_>, sink: &mut Sink<'_>) -> Vec<PoolDefinition> {
    let mut names: Vec<String> = Vec::new();
    tables(root, "pool", "pool", sink, |section| {
        let (name, path) = (section.required_text("name"), section.required_path("path"));
        let snapshots = match section.choice("snapshots") {
            Some("reflink") => PoolSnapshots::Reflink,
            Some("copy") => PoolSnapshots::Copy,
            Some("none") => PoolSnapshots::None,
            _ => PoolSnapshots::Auto,
        };
        let name = name?;
        if names.contains(&name) {
            section.report("name", format!("there is already a pool named {name}"));
        }
        names.push(name.clone());
        Some(PoolDefinition { name, path: path?, snapshots })
    })
}

/// Reads `[[collection]]`. A member is the name or the GUID of a machine, or of a collection that
/// stands further up.
pub(super) fn collections(
    root: &DeTable<'_>,
    machines: &[MachineDefinition],
    sink: &mut Sink<'_>,
) -> Vec<CollectionDefinition> {
    let mut known: Vec<CollectionDefinition> = Vec::new();
    tables(root, "collection", "collection", sink, |section| {
        let (name, id) = (section.required_text("name"), section.required_guid("id"));
        let mut members = Vec::new();
        let (mut of_machines, mut of_collections) = (false, false);
        for member in section.list("members") {
            let guid = member.parse().ok();
            let machine = machines.iter().find(|one| one.name == member || Some(one.id) == guid).map(|one| one.id);
            let collection = known.iter().find(|one| one.name == member || Some(one.id) == guid).map(|one| one.id);
            match (machine, collection) {
                (Some(id), _) => {
                    of_machines = true;
                    members.push(id);
                }
                (None, Some(id)) => {
                    of_collections = true;
                    members.push(id);
                }
                (None, None) => {
                    section.report("members", format!("{member} is neither a machine nor a collection further up"));
                }
            }
        }
        if of_machines && of_collections {
            section.report("members", "a collection holds machines or collections, not both");
        }
        let collection = CollectionDefinition { name: name?, id: id?, members };
        if known.iter().any(|other| other.id == collection.id) {
            section.report("id", "another collection has this id");
        }
        known.push(collection.clone());
        Some(collection)
    })
}
