//! The configuration as a value, and reading it from a file.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use crate::backend::{BackendConfig, CollectionDefinition, MachineDefinition, PoolDefinition};

use super::definitions;
use super::diagnostics::{ConfigError, Diagnostic, Sink};
use super::reader::{Section, table, tables};
use super::{qemu, simulated};

const NEEDS_CA: &str = "Certificate needs client_ca in [tls], the authorities that vouch for certificates of clients";

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where records, snapshots and the own certificate lie.
    pub data_dir: PathBuf,
    /// The password file.
    pub users_file: PathBuf,
    /// The name of this host in answers; the system's when left out.
    pub host_name: Option<String>,
    /// The addresses that are listened on.
    pub listeners: Vec<ListenerConfig>,
    /// Limits and schemes.
    pub service: ServiceConfig,
    /// What wrong passwords lead to.
    pub logon: LogonConfig,
    /// Kerberos.
    pub kerberos: KerberosConfig,
    /// The certificate of HTTPS.
    pub tls: TlsConfig,
    /// The back-end.
    pub backend: BackendConfig,
    /// The machines.
    pub machines: Vec<MachineDefinition>,
    /// The pools.
    pub pools: Vec<PoolDefinition>,
    /// The collections.
    pub collections: Vec<CollectionDefinition>,
    /// Directories below which snapshots may be exported.
    pub export_directories: Vec<PathBuf>,
    /// Jobs.
    pub jobs: JobsConfig,
    /// Events.
    pub events: EventsConfig,
    /// The audit trail.
    pub audit: AuditConfig,
    /// What is logged, in the form of `RUST_LOG`.
    pub log_filter: String,
}

/// HTTP with or without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Without.
    Http,
    /// With.
    Https,
}

/// An address that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// With TLS or without.
    pub protocol: Protocol,
}

/// The section `[service]`, under the names of WinRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of WinRM")]
pub struct ServiceConfig {
    /// `AllowUnencrypted`.
    pub allow_unencrypted: bool,
    /// `Basic`.
    pub basic: bool,
    /// `Negotiate`.
    pub negotiate: bool,
    /// `Certificate`.
    pub certificate: bool,
    /// `CredSSP`.
    pub credssp: bool,
    /// `CbtHardeningLevel`.
    pub channel_binding: ChannelBinding,
    /// `MaxEnvelopeSizekb`, in kilobytes.
    pub max_envelope_size_kb: u32,
    /// `MaxTimeoutms`.
    pub max_timeout: Duration,
    /// `MaxBatchItems`.
    pub max_batch_items: u32,
    /// `MaxConcurrentOperationsPerUser`.
    pub max_concurrent_operations_per_user: u32,
    /// `EnumerationTimeoutms`.
    pub enumeration_timeout: Duration,
    /// `MaxConnections`.
    pub max_connections: u32,
    /// `MaxPacketRetrievalTimeSeconds`.
    pub max_packet_retrieval_time: Duration,
    /// `ConnectionIdleTimeoutms`.
    pub connection_idle_timeout: Duration,
    /// `HandshakeTimeoutms`.
    pub handshake_timeout: Duration,
    /// `ShutdownTimeoutms`.
    pub shutdown_timeout: Duration,
}

/// `CbtHardeningLevel`: what is asked of the channel bindings of logons over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Nothing.
    None,
    /// That they are right when there are any.
    Relaxed,
    /// That there are any, and that they are right.
    Strict,
}

/// The section `[logon]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogonConfig {
    /// The wrong proof in a row from which answers are delayed; 0 for never.
    pub delay_after: u32,
    /// The first delay; each further one is twice as long.
    pub delay: Duration,
    /// The longest delay.
    pub delay_limit: Duration,
    /// The wrong proof within the window that locks out; 0 for never.
    pub lockout_after: u32,
    /// How long a wrong proof counts.
    pub lockout_window: Duration,
    /// How long a lock-out lasts.
    pub lockout: Duration,
    /// The oldest version of CredSSP that is taken.
    pub credssp_oldest_version: u32,
    /// The service of PAM that checks the passwords of those users whose password is the host's.
    pub pam_service: Option<String>,
}

/// The section `[kerberos]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KerberosConfig {
    /// The file with the keys of the services; without one nobody logs on with Kerberos.
    pub keytab: Option<PathBuf>,
    /// The services whose tickets are taken, as they stand before the host name.
    pub services: Vec<String>,
}

/// The section `[tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// A certificate chain and its key; the own one is made when they are left out.
    pub files: Option<(PathBuf, PathBuf)>,
    /// Further names and addresses for the own certificate.
    pub names: Vec<String>,
    /// Whether TLS 1.2 is taken besides TLS 1.3.
    pub tls12: bool,
    /// A PEM file with the authorities that vouch for certificates of clients.
    pub client_ca: Option<PathBuf>,
    /// A PEM file with their revocation lists.
    pub client_crl: Option<PathBuf>,
    /// Whether nobody is talked to over HTTPS without a certificate that counts.
    pub client_required: bool,
}

/// The section `[jobs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobsConfig {
    /// How long an ended job stays readable.
    pub retention: Duration,
    /// How many jobs may wait for one machine or pool.
    pub queue_limit: usize,
    /// How long a back-end may be silent.
    pub backend_timeout: Duration,
}

/// The section `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// The file; `None` when nothing is recorded.
    pub file: Option<PathBuf>,
    /// Whether nothing is changed while the file cannot be written.
    pub required: bool,
}

/// The section `[events]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsConfig {
    /// The hosts that events may be pushed to.
    pub push_hosts: Vec<String>,
    /// A PEM file with the certificates that sinks over HTTPS are trusted by.
    pub ca: Option<PathBuf>,
    /// How long one delivery may take.
    pub delivery_timeout: Duration,
    /// How many events may wait for one subscriber.
    pub queue_limit: usize,
    /// How many subscriptions one user may have.
    pub subscriptions_per_user: usize,
    /// How many events are kept.
    pub journal_limit: usize,
    /// How long an event is kept.
    pub journal_age: Duration,
}

impl Config {
    /// Reads a configuration file and the machine definitions it names.
    ///
    /// # Errors
    /// All that is wrong, in the order of the files.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|error| {
            let message = format!("cannot read the file: {error}");
            ConfigError(vec![Diagnostic { file: file.to_owned(), position: None, message }])
        })?;
        Self::parse(file, &text)
    }

    /// Reads a configuration as if `text` stood in `file`.
    ///
    /// # Errors
    /// All that is wrong, in the order of the files.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let mut in_machines = Vec::new();
        let mut sink = Sink::new(file, text, &mut found);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            sink.report(error.span(), error.message().to_owned());
        }
        let config = Self::read(document.get_ref(), &mut sink, &mut in_machines);
        found.sort_by_key(|diagnostic| diagnostic.position);
        found.append(&mut in_machines);
        if found.is_empty() { Ok(config) } else { Err(ConfigError(found)) }
    }

    fn read(root: &DeTable<'_>, sink: &mut Sink<'_>, in_machines: &mut Vec<Diagnostic>) -> Self {
        let mut top = Section::new("", Some(root), None, sink);
        let data_dir = top.path("data_dir").unwrap_or_default();
        let users_file = top.path("users_file").unwrap_or_else(|| data_dir.join("users"));
        let machines_dir = top.path("machines_dir").unwrap_or_default();
        let host_name = top.text("host_name");
        let listeners = listeners(root, sink);
        let service = service(&mut table(root, "service", sink));
        let logon = logon(&mut table(root, "logon", sink));
        let kerberos = kerberos(&mut table(root, "kerberos", sink));
        let tls = tls(&mut table(root, "tls", sink));
        if service.certificate && tls.client_ca.is_none() {
            table(root, "service", sink).report("Certificate", NEEDS_CA);
        }
        let kind = table(root, "backend", sink).choice("kind").unwrap_or("files").to_owned();
        let machines = definitions::machines(&machines_dir, in_machines);
        let simulated = simulated::script(root, &kind, &machines, sink);
        let qemu = qemu::settings(root, &kind, sink);
        let pools = definitions::pools(root, sink);
        let collections = definitions::collections(root, &machines, sink);
        let export_directories = export_directories(&mut table(root, "export", sink));
        let jobs = jobs(&mut table(root, "jobs", sink));
        let events = events(&mut table(root, "events", sink));
        let audit = audit(&mut table(root, "audit", sink), &data_dir);
        let mut log = table(root, "log", sink);
        let log_filter = log.text("filter").unwrap_or_default();
        if let Err(error) = log_filter.parse::<tracing_subscriber::filter::Targets>() {
            log.report("filter", format!("filter is a list as in \"info,wsnapd::transport=debug\": {error}"));
        }
        Self {
            data_dir,
            users_file,
            host_name,
            listeners,
            service,
            logon,
            kerberos,
            tls,
            backend: BackendConfig { kind, qemu, simulated },
            machines,
            pools,
            collections,
            export_directories,
            jobs,
            events,
            audit,
            log_filter,
        }
    }
}

/// Loopback only, unless the file says otherwise.
fn listeners(root: &DeTable<'_>, sink: &mut Sink<'_>) -> Vec<ListenerConfig> {
    if !root.contains_key("listener") {
        let loopback = |port, protocol| ListenerConfig { address: SocketAddr::from(([127, 0, 0, 1], port)), protocol };
        return vec![loopback(5985, Protocol::Http), loopback(5986, Protocol::Https)];
    }
    let mut known: Vec<SocketAddr> = Vec::new();
    tables(root, "listener", "listener", sink, |section| {
        let address = section.required_address("address");
        let protocol = match section.choice("transport") {
            Some("http") => Protocol::Http,
            _ => Protocol::Https,
        };
        let address = address?;
        if address.port() != 0 && known.contains(&address) {
            section.report("address", format!("{address} is already listened on"));
        }
        known.push(address);
        Some(ListenerConfig { address, protocol })
    })
}

fn service(section: &mut Section<'_, '_, '_>) -> ServiceConfig {
    let mut milliseconds = |name| Duration::from_millis(section.number(name));
    let max_timeout = milliseconds("MaxTimeoutms");
    let enumeration_timeout = milliseconds("EnumerationTimeoutms");
    let connection_idle_timeout = milliseconds("ConnectionIdleTimeoutms");
    let handshake_timeout = milliseconds("HandshakeTimeoutms");
    let shutdown_timeout = milliseconds("ShutdownTimeoutms");
    ServiceConfig {
        allow_unencrypted: section.flag("AllowUnencrypted"),
        basic: section.flag("Basic"),
        negotiate: section.flag("Negotiate"),
        certificate: section.flag("Certificate"),
        credssp: section.flag("CredSSP"),
        channel_binding: match section.choice("CbtHardeningLevel") {
            Some("None") => ChannelBinding::None,
            Some("Strict") => ChannelBinding::Strict,
            _ => ChannelBinding::Relaxed,
        },
        max_envelope_size_kb: section.number_u32("MaxEnvelopeSizekb"),
        max_timeout,
        max_batch_items: section.number_u32("MaxBatchItems"),
        max_concurrent_operations_per_user: section.number_u32("MaxConcurrentOperationsPerUser"),
        enumeration_timeout,
        max_connections: section.number_u32("MaxConnections"),
        max_packet_retrieval_time: Duration::from_secs(section.number("MaxPacketRetrievalTimeSeconds")),
        connection_idle_timeout,
        handshake_timeout,
        shutdown_timeout,
    }
}

fn logon(section: &mut Section<'_, '_, '_>) -> LogonConfig {
    LogonConfig {
        delay_after: section.number_u32("delay_after"),
        delay: Duration::from_millis(section.number("delay_ms")),
        delay_limit: Duration::from_millis(section.number("delay_limit_ms")),
        lockout_after: section.number_u32("lockout_after"),
        lockout_window: Duration::from_secs(section.number("lockout_window_seconds")),
        lockout: Duration::from_secs(section.number("lockout_seconds")),
        credssp_oldest_version: section.number_u32("credssp_oldest_version"),
        pam_service: pam_service(section),
    }
}

/// The name of a file in `/etc/pam.d`.
fn pam_service(section: &mut Section<'_, '_, '_>) -> Option<String> {
    let name = section.text("pam_service")?;
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_fit) {
        section.report("pam_service", format!("{name:?} is not the name of a file in /etc/pam.d"));
    } else if !cfg!(feature = "pam") {
        let text = "this wsnapd was built without PAM: take pam_service out, or build it with `--features pam`";
        section.report("pam_service", text);
    }
    Some(name)
}

fn kerberos(section: &mut Section<'_, '_, '_>) -> KerberosConfig {
    let keytab = section.path("keytab");
    if keytab.is_some() && !cfg!(feature = "kerberos") {
        let text = "this wsnapd was built without Kerberos: take keytab out, or build it with `--features kerberos`";
        section.report("keytab", text);
    }
    let mut services = section.list("services");
    if services.is_empty() {
        services = ["HTTP", "WSMAN", "host"].map(str::to_owned).to_vec();
    }
    if let Some(wrong) = services.iter().find(|service| service.is_empty() || service.contains(['/', '@'])) {
        let text = format!("{wrong:?} is not the name of a service, as HTTP is in HTTP/host.example.test");
        section.report("services", text);
    }
    KerberosConfig { keytab, services }
}

fn tls(section: &mut Section<'_, '_, '_>) -> TlsConfig {
    let files = match (section.path("certificate"), section.path("key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            section.report("certificate", "certificate needs key, the file with its private key");
            None
        }
        (None, Some(_)) => {
            section.report("key", "key needs certificate, the file with the certificate it belongs to");
            None
        }
    };
    let names = section.list("names");
    if files.is_some() && !names.is_empty() {
        section.report("names", "names are for the certificate that is made here, not for one that is given");
    }
    let client_ca = section.path("client_ca");
    let client_crl = section.path("client_crl");
    let client_required = section.choice("client_certificates") == Some("required");
    if client_ca.is_none() {
        for (key, given) in [("client_crl", client_crl.is_some()), ("client_certificates", client_required)] {
            if given {
                section.report(key, format!("{key} needs client_ca, the authorities of these certificates"));
            }
        }
    }
    let tls12 = section.choice("minimum_version") != Some("1.3");
    TlsConfig { files, names, tls12, client_ca, client_crl, client_required }
}

fn export_directories(section: &mut Section<'_, '_, '_>) -> Vec<PathBuf> {
    let directories: Vec<PathBuf> = section.list("directories").into_iter().map(PathBuf::from).collect();
    for directory in directories.iter().filter(|directory| !directory.is_absolute() || directory.parent().is_none()) {
        let text = format!("{} is not the absolute path of a directory below the root", directory.display());
        section.report("directories", text);
    }
    directories
}

fn jobs(section: &mut Section<'_, '_, '_>) -> JobsConfig {
    JobsConfig {
        retention: Duration::from_secs(section.number("retention_seconds")),
        queue_limit: usize::try_from(section.number("queue_limit")).unwrap_or(usize::MAX),
        backend_timeout: Duration::from_secs(section.number("backend_timeout_seconds")),
    }
}

fn audit(section: &mut Section<'_, '_, '_>, data_dir: &Path) -> AuditConfig {
    let file = section.path("file").unwrap_or_else(|| data_dir.join("audit.log"));
    AuditConfig { file: section.flag("enabled").then_some(file), required: section.flag("required") }
}

fn events(section: &mut Section<'_, '_, '_>) -> EventsConfig {
    let mut count = |name| usize::try_from(section.number(name)).unwrap_or(usize::MAX);
    let (queue_limit, subscriptions_per_user) = (count("queue_limit"), count("subscriptions_per_user"));
    let journal_limit = count("journal_limit");
    EventsConfig {
        push_hosts: section.list("push_hosts"),
        ca: section.path("ca"),
        delivery_timeout: Duration::from_millis(section.number("delivery_timeout_ms")),
        queue_limit,
        subscriptions_per_user,
        journal_limit,
        journal_age: Duration::from_secs(section.number("journal_seconds")),
    }
}

impl Default for Config {
    /// What an empty file means, without machines.
    fn default() -> Self {
        let (mut found, mut in_machines) = (Vec::new(), Vec::new());
        let mut sink = Sink::new(Path::new("/nonexistent/wsnapd.toml"), "", &mut found);
        Self::read(&DeTable::default(), &mut sink, &mut in_machines)
    }
}
