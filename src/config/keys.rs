//! Every key there is.

use crate::backend::{MAX_MEMORY_MB, MAX_PROCESSORS};

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `"text"`.
    Text,
    /// `"/a/path"`; a relative one starts at the directory of the file it stands in.
    Path,
    /// `"address:port"`.
    Address,
    /// An upper or lower case GUID.
    Guid,
    /// `true` or `false`.
    Flag,
    /// A whole number from the first to the second.
    Number(u64, u64),
    /// One of these.
    Choice(&'static [&'static str]),
    /// `["text", …]`.
    List,
}

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The section it stands in: empty for the top, `machine`, `machine.disk` … for a machine definition.
    pub section: &'static str,
    /// Its name; those that WinRM has are spelled as WinRM spells them.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// Its value when it is left out, as it would be written; empty when there is none.
    pub default: &'static str,
}

const fn key(section: &'static str, name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { section, name, kind, default }
}

/// The calls of a simulated host that can be made to go wrong.
const CALLS: &[&str] = &[
    "create",
    "apply",
    "destroy",
    "clear-memory",
    "change-state",
    "freeze",
    "convert",
    "destroy-reference-point",
    "export",
];
/// What can go wrong with them.
const FAULTS: &[&str] = &["fail", "hang", "die", "no-space", "access-denied", "unreachable"];

const U32: u64 = 4_294_967_295;

/// Every key there is, in the order of `docs/configuration.md`.
pub const KEYS: &[Key] = &[
    key("", "data_dir", Kind::Path, "/var/lib/wsnapd"),
    key("", "machines_dir", Kind::Path, "machines.d"),
    key("", "users_file", Kind::Path, ""),
    key("", "host_name", Kind::Text, ""),
    key("listener", "address", Kind::Address, ""),
    key("listener", "transport", Kind::Choice(&["http", "https"]), "https"),
    key("service", "AllowUnencrypted", Kind::Flag, "false"),
    key("service", "Basic", Kind::Flag, "true"),
    key("service", "Negotiate", Kind::Flag, "true"),
    key("service", "Certificate", Kind::Flag, "false"),
    key("service", "CredSSP", Kind::Flag, "false"),
    key("service", "CbtHardeningLevel", Kind::Choice(&["None", "Relaxed", "Strict"]), "Relaxed"),
    key("service", "MaxEnvelopeSizekb", Kind::Number(32, 1_039_440), "500"),
    key("service", "MaxTimeoutms", Kind::Number(500, U32), "60000"),
    key("service", "MaxBatchItems", Kind::Number(1, U32), "32000"),
    key("service", "MaxConcurrentOperationsPerUser", Kind::Number(1, U32), "1500"),
    key("service", "EnumerationTimeoutms", Kind::Number(500, U32), "240000"),
    key("service", "MaxConnections", Kind::Number(1, 1_000_000), "300"),
    key("service", "MaxPacketRetrievalTimeSeconds", Kind::Number(1, 86_400), "120"),
    key("service", "ConnectionIdleTimeoutms", Kind::Number(500, U32), "120000"),
    key("service", "HandshakeTimeoutms", Kind::Number(500, 600_000), "30000"),
    key("service", "ShutdownTimeoutms", Kind::Number(0, 600_000), "10000"),
    key("logon", "delay_after", Kind::Number(0, 1000), "3"),
    key("logon", "delay_ms", Kind::Number(0, 60_000), "250"),
    key("logon", "delay_limit_ms", Kind::Number(0, 60_000), "4000"),
    key("logon", "lockout_after", Kind::Number(0, 1_000_000), "20"),
    key("logon", "lockout_window_seconds", Kind::Number(1, 86_400), "300"),
    key("logon", "lockout_seconds", Kind::Number(1, 86_400), "60"),
    key("logon", "credssp_oldest_version", Kind::Number(2, 6), "5"),
    key("logon", "pam_service", Kind::Text, ""),
    key("kerberos", "keytab", Kind::Path, ""),
    key("kerberos", "services", Kind::List, "[]"),
    key("tls", "certificate", Kind::Path, ""),
    key("tls", "key", Kind::Path, ""),
    key("tls", "names", Kind::List, "[]"),
    key("tls", "minimum_version", Kind::Choice(&["1.2", "1.3"]), "1.2"),
    key("tls", "client_ca", Kind::Path, ""),
    key("tls", "client_crl", Kind::Path, ""),
    key("tls", "client_certificates", Kind::Choice(&["wanted", "required"]), "wanted"),
    key("backend", "kind", Kind::Choice(&["files", "qemu", "simulated"]), "files"),
    key("backend.qemu", "program", Kind::Text, "qemu-system-x86_64"),
    key("backend.qemu", "image_tool", Kind::Text, "qemu-img"),
    key("backend.qemu", "accelerator", Kind::Choice(&["auto", "kvm", "tcg"]), "auto"),
    key("backend.qemu", "memory", Kind::Choice(&["auto", "background", "precopy", "stop"]), "auto"),
    key("backend.qemu", "pause_limit_ms", Kind::Number(1, 60_000), "250"),
    key("backend.qemu", "agent_timeout_seconds", Kind::Number(1, 600), "10"),
    key("backend.qemu", "freeze_limit_seconds", Kind::Number(1, 60), "20"),
    key("backend.qemu", "shutdown_timeout_seconds", Kind::Number(1, 3600), "100"),
    key("backend.qemu", "overlay_raw_disks", Kind::Flag, "false"),
    key("backend.simulated", "create_ms", Kind::Number(0, 86_400_000), "0"),
    key("backend.simulated", "apply_ms", Kind::Number(0, 86_400_000), "0"),
    key("backend.simulated", "destroy_ms", Kind::Number(0, 86_400_000), "0"),
    key("backend.simulated", "clear_memory_ms", Kind::Number(0, 86_400_000), "0"),
    key("backend.simulated", "change_state_ms", Kind::Number(0, 86_400_000), "0"),
    key("backend.simulated", "freeze_ms", Kind::Number(0, 86_400_000), "0"),
    key("backend.simulated", "convert_ms", Kind::Number(0, 86_400_000), "0"),
    key("backend.simulated", "destroy_reference_point_ms", Kind::Number(0, 86_400_000), "0"),
    key("backend.simulated", "export_ms", Kind::Number(0, 86_400_000), "0"),
    key("backend.simulated", "running", Kind::List, "[]"),
    key("backend.simulated", "paused", Kind::List, "[]"),
    key("backend.simulated", "saved", Kind::List, "[]"),
    key("backend.simulated", "without_agent", Kind::List, "[]"),
    key("backend.simulated.failure", "call", Kind::Choice(CALLS), ""),
    key("backend.simulated.failure", "nth", Kind::Number(0, U32), "1"),
    key("backend.simulated.failure", "machine", Kind::Text, ""),
    key("backend.simulated.failure", "fault", Kind::Choice(FAULTS), "fail"),
    key("backend.simulated.failure", "text", Kind::Text, "the simulated host was told to fail"),
    key("pool", "name", Kind::Text, ""),
    key("pool", "path", Kind::Path, ""),
    key("pool", "snapshots", Kind::Choice(&["auto", "reflink", "copy", "none"]), "auto"),
    key("collection", "name", Kind::Text, ""),
    key("collection", "id", Kind::Guid, ""),
    key("collection", "members", Kind::List, "[]"),
    key("export", "directories", Kind::List, "[]"),
    key("jobs", "retention_seconds", Kind::Number(1, 31_536_000), "300"),
    key("jobs", "queue_limit", Kind::Number(1, 10_000), "32"),
    key("jobs", "backend_timeout_seconds", Kind::Number(1, 86_400), "120"),
    key("events", "push_hosts", Kind::List, "[]"),
    key("events", "ca", Kind::Path, ""),
    key("events", "delivery_timeout_ms", Kind::Number(100, 600_000), "10000"),
    key("events", "queue_limit", Kind::Number(1, 1_000_000), "1000"),
    key("events", "subscriptions_per_user", Kind::Number(1, 10_000), "100"),
    key("events", "journal_limit", Kind::Number(16, 1_000_000), "4096"),
    key("events", "journal_seconds", Kind::Number(1, 31_536_000), "3600"),
    key("audit", "enabled", Kind::Flag, "true"),
    key("audit", "file", Kind::Path, ""),
    key("audit", "required", Kind::Flag, "true"),
    key("log", "filter", Kind::Text, "info"),
    key("machine", "id", Kind::Guid, ""),
    key("machine", "name", Kind::Text, ""),
    key("machine", "notes", Kind::Text, ""),
    key("machine", "memory_mb", Kind::Number(1, MAX_MEMORY_MB), "1024"),
    key("machine", "processors", Kind::Number(1, MAX_PROCESSORS), "1"),
    key("machine.qemu", "monitor", Kind::Path, ""),
    key("machine.qemu", "agent", Kind::Path, ""),
    key("machine.qemu", "machine", Kind::Text, "q35"),
    key("machine.qemu", "cpu", Kind::Text, "max"),
    key("machine.qemu", "kernel", Kind::Path, ""),
    key("machine.qemu", "initrd", Kind::Path, ""),
    key("machine.qemu", "append", Kind::Text, ""),
    key("machine.qemu", "serial", Kind::Path, ""),
    key("machine.qemu", "arguments", Kind::List, "[]"),
    key("machine.disk", "name", Kind::Text, ""),
    key("machine.disk", "path", Kind::Path, ""),
    key("machine.disk", "format", Kind::Choice(&["raw", "qcow2"]), "raw"),
    key("machine.disk", "read_only", Kind::Flag, "false"),
    key("machine.disk", "pass_through", Kind::Flag, "false"),
    key("machine.network", "name", Kind::Text, ""),
    key("machine.network", "mac", Kind::Text, ""),
    key("machine.network", "bridge", Kind::Text, ""),
];
