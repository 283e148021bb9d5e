//! The section `[backend.qemu]`, and `[qemu]` of a machine definition.

use std::time::Duration;

use toml::de::DeTable;

use crate::backend::{Accelerator, AttachedMachine, LaunchedMachine, MemoryMethod, QemuMachine, QemuSettings};

use super::diagnostics::Sink;
use super::reader::Section;

const SECTION: &str = "backend.qemu";
const MACHINE: &str = "machine.qemu";

/// Reads how QEMU is used.
pub(super) fn settings(root: &DeTable<'_>, kind: &str, sink: &mut Sink<'_>) -> QemuSettings {
    let backend = root.get("backend").and_then(|backend| backend.get_ref().as_table());
    let value = backend.and_then(|backend| backend.get("qemu"));
    if let Some(value) = value {
        if kind != "qemu" {
            sink.report(Some(value.span()), format!("[{SECTION}] is for kind = \"qemu\", not for {kind:?}"));
        }
        if value.get_ref().as_table().is_none() {
            sink.report(Some(value.span()), format!("qemu is a section and is written [{SECTION}]"));
        }
    }
    let table = value.and_then(|value| value.get_ref().as_table());
    let mut section = Section::new(SECTION, table, value.map(toml::Spanned::span), sink);
    QemuSettings {
        program: section.text("program").unwrap_or_default().into(),
        image_tool: section.text("image_tool").unwrap_or_default().into(),
        accelerator: match section.choice("accelerator") {
            Some("kvm") => Accelerator::Kvm,
            Some("tcg") => Accelerator::Tcg,
            _ => Accelerator::Auto,
        },
        memory: match section.choice("memory") {
            Some("background") => MemoryMethod::Background,
            Some("precopy") => MemoryMethod::Precopy,
            Some("stop") => MemoryMethod::Stop,
            _ => MemoryMethod::Auto,
        },
        pause_limit: Duration::from_millis(section.number("pause_limit_ms")),
        agent_timeout: Duration::from_secs(section.number("agent_timeout_seconds")),
        freeze_limit: Duration::from_secs(section.number("freeze_limit_seconds")),
        shutdown_timeout: Duration::from_secs(section.number("shutdown_timeout_seconds")),
        overlay_raw_disks: section.flag("overlay_raw_disks"),
    }
}

/// Reads how QEMU runs a machine.
pub(super) fn machine(root: &DeTable<'_>, sink: &mut Sink<'_>) -> Option<QemuMachine> {
    let value = root.get("qemu");
    let table = value.and_then(|value| value.get_ref().as_table());
    if let (Some(value), None) = (value, table) {
        sink.report(Some(value.span()), "qemu is a section and is written [qemu]".to_owned());
    }
    let attached = table.is_some_and(|table| table.contains_key("monitor"));
    let mut section = Section::new(MACHINE, table, value.map(toml::Spanned::span), sink);
    let agent = section.path("agent");
    if attached {
        for name in ["machine", "cpu", "kernel", "initrd", "append", "serial", "arguments"] {
            if table.is_some_and(|table| table.contains_key(name)) {
                section.report(name, format!("{name} is for a machine that we start; monitor says somebody else does"));
            }
        }
        return Some(QemuMachine::Attached(AttachedMachine { monitor: section.path("monitor")?, agent }));
    }
    if agent.is_some() {
        section.report("agent", "agent is the socket of a machine with a monitor; one that we start has its own");
    }
    let (machine, cpu) = (section.text("machine")?, section.text("cpu")?);
    let (kernel, initrd, serial) = (section.path("kernel"), section.path("initrd"), section.path("serial"));
    let (append, arguments) = (section.text("append").unwrap_or_default(), section.list("arguments"));
    Some(QemuMachine::Launched(LaunchedMachine { machine, cpu, kernel, initrd, append, serial, arguments }))
}
