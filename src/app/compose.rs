//! From a configuration to a serving program.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::access::{AuditTrail, NoAudit};
use crate::backend;
use crate::cimom::{ObjectManager, ProviderRegistry};
use crate::client::{HttpSink, Trust};
use crate::config::{AuditConfig, ChannelBinding, Config, LogonConfig, Protocol};
use crate::engine::{Engine, EngineOptions, JournalLimits, SqliteStore};
use crate::providers::{self, Indications, ProviderOptions};
use crate::time::{Clock, Guid, IdSource};
use crate::transport::auth::{
    ChannelBindingPolicy, CredSspPolicy, HostPasswords, LogonLimits, NegotiatePolicy, PasswordKeeper,
};
use crate::transport::{AuthPolicy, ClientAuthorities, Limits, Listener, Server, TlsError, TlsIdentity, TlsSettings};
use crate::wsman::{
    self, ConfigurationView, Eventing, EventingOptions, EventingParts, Identity, ListenerView, Service, ServiceOptions,
    Thumbprint,
};

use super::audit::AuditFile;
use super::certificate::{CertificateFiles, CertificateInfo};
use super::error::AppError;
use super::host::{host_name, listening_on, reachable_names};
use super::kerberos;
use super::logons::LogonsOfNow;
use super::sources::{RandomIds, SystemClock};
use super::warnings;

/// How often enumerations that idled too long are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How often pools, volumes and the states of machines are looked at again.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// A serving program.
pub struct Running {
    addresses: Vec<(Protocol, SocketAddr)>,
    certificate: PathBuf,
    tls: Option<Arc<TlsIdentity>>,
    thumbprint: Thumbprint,
    audit: Option<Arc<AuditFile>>,
    engine: Arc<Engine>,
    service: Arc<Service>,
    stop: CancellationToken,
    server: JoinHandle<()>,
    sweeper: JoinHandle<()>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Running {
    /// Opens everything that a configuration names and begins to serve.
    ///
    /// # Errors
    /// An [`AppError`] that names what cannot be opened; nothing is left running then.
    pub async fn start(config: &Config) -> Result<Self, AppError> {
        let mut config = config.clone();
        fs::create_dir_all(&config.data_dir).map_err(|error| AppError::Write(config.data_dir.clone(), error))?;
        for warning in warnings::of(&config) {
            warn!("{warning}");
        }
        let machine = config.host_name.take().unwrap_or_else(host_name);
        let (certificate, tls) = tls(&config)?;
        let (listeners, addresses) = listen(&config, tls.as_ref())?;
        let audit = audit(&config.audit)?;
        let trail: Arc<dyn AuditTrail> = match &audit {
            Some(file) => Arc::<AuditFile>::clone(file),
            None => Arc::new(NoAudit),
        };
        let limits_of_logons = logon_limits(&config.logon);
        let host = host_passwords(&config.logon);
        let (users_file, trail_of_logons) = (config.users_file.clone(), Arc::clone(&trail));
        let users = PasswordKeeper::start_with_host(users_file, limits_of_logons, trail_of_logons, host.as_ref())?;
        let engine = engine(&mut config, &machine, Arc::clone(&trail)).await?;
        let thumbprint = Thumbprint::default();
        if let Some(tls) = &tls {
            thumbprint.set(tls.thumbprint());
        }
        let mut view = configuration_view(&config, &addresses, &machine, &thumbprint);
        view.logons = Some(Arc::new(LogonsOfNow { users: users.clone(), tls: tls.clone() }));
        let service = Arc::new(service(&config, &engine, &machine, view, &users)?.with_audit(trail));
        service.start_eventing();
        let auth = auth(&config, users, &machine, tls.as_ref())?;
        let stop = CancellationToken::new();
        let server = Server::new(Arc::clone(&service), auth, limits(&config));
        let token = stop.clone();
        let server = tokio::spawn(async move { server.serve(listeners, token).await });
        let sweeper = tokio::spawn(sweep(Arc::clone(&service), Arc::clone(&engine), stop.clone()));
        Ok(Self { addresses, certificate, tls, thumbprint, audit, engine, service, stop, server, sweeper })
    }

    /// The URL of the first listener of a protocol.
    #[must_use]
    pub fn url(&self, protocol: Protocol) -> Option<String> {
        let (_, address) = self.addresses.iter().find(|(known, _)| *known == protocol)?;
        let scheme = match protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
        };
        Some(format!("{scheme}://{address}/wsman"))
    }

    /// The file with the certificate that clients have to trust.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The engine behind it.
    #[must_use]
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Reads the certificate again.
    ///
    /// # Errors
    /// When it cannot be used; the old one stays.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let Some(tls) = &self.tls else { return Ok(()) };
        tls.reload()?;
        self.thumbprint.set(tls.thumbprint());
        Ok(())
    }

    /// The thumbprint that the configuration resources show.
    pub(super) fn thumbprint(&self) -> Arc<String> {
        self.thumbprint.get()
    }

    /// What of HTTPS is read from files.
    pub(super) fn tls_files(&self) -> Vec<PathBuf> {
        self.tls.as_ref().map(|tls| tls.files()).unwrap_or_default()
    }

    /// Opens the audit trail again.
    ///
    /// # Errors
    /// When it cannot be opened; the old file stays in use.
    pub(super) fn reopen_audit(&self) -> io::Result<()> {
        self.audit.as_ref().map_or(Ok(()), |audit| audit.reopen())
    }

    /// Returns once another server has taken over the data directory.
    pub(super) async fn lease_lost(&self) {
        self.engine.lease_lost().await;
    }

    /// Takes no new requests, waits for those under way, and for the jobs as long as the engine allows.
    pub async fn stop(self) {
        self.stop.cancel();
        // Pulls that wait for events are answered, so that the server need not wait for them.
        self.service.close_eventing().await;
        for task in [self.server, self.sweeper] {
            if let Err(error) = task.await {
                warn!(%error, "A task did not end well");
            }
        }
        self.engine.shutdown().await;
    }
}

/// The certificate that is configured, or the own one, made now if it is not there yet.
fn tls(config: &Config) -> Result<(PathBuf, Option<Arc<TlsIdentity>>), AppError> {
    let files = match &config.tls.files {
        Some((certificate, key)) => CertificateFiles { certificate: certificate.clone(), key: key.clone() },
        None => CertificateFiles::below(&config.data_dir),
    };
    // CredSSP has TLS inside of plain HTTP too.
    if !config.service.credssp && config.listeners.iter().all(|listener| listener.protocol == Protocol::Http) {
        return Ok((files.certificate, None));
    }
    let now = SystemClock.now();
    if config.tls.files.is_none() && !files.exist() {
        let names = certificate_names(config);
        files.make(&names, now)?;
        info!(file = %files.certificate.display(), names = names.join(", "), "Certificate made");
    }
    let info = CertificateInfo::read(&files.certificate)?;
    if let Some(warning) = warnings::of_certificate(config, &info) {
        warn!("{warning}");
    }
    if info.not_after < now + Duration::from_secs(30 * 86_400) {
        warn!(until = %info.not_after, "The certificate ends soon or has ended; `wsnapd cert renew` makes a new one");
    }
    let clients = config.tls.client_ca.clone().map(|authorities| ClientAuthorities {
        authorities,
        revoked: config.tls.client_crl.clone(),
        required: config.tls.client_required,
    });
    let settings = TlsSettings { tls12: config.tls.tls12, clients, ..TlsSettings::new(&files.certificate, &files.key) };
    Ok((files.certificate, Some(TlsIdentity::open(settings)?)))
}

/// The names for the own certificate: the configured ones and all that lead here.
#[must_use]
fn certificate_names(config: &Config) -> Vec<String> {
    let listening = config.listeners.iter().map(|listener| listener.address.ip());
    let listening = listening.filter(|address| !address.is_unspecified()).map(|address| address.to_string());
    let further: Vec<String> =
        config.tls.names.iter().cloned().chain(config.host_name.clone()).chain(listening).collect();
    reachable_names(&further)
}

impl CertificateFiles {
    /// Makes a new own certificate for the host of a configuration.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn renew(&self, config: &Config) -> Result<(), AppError> {
        Ok(self.make(&certificate_names(config), SystemClock.now())?)
    }
}

/// The schemes that are configured.
fn auth(
    config: &Config,
    users: PasswordKeeper,
    machine: &str,
    tls: Option<&Arc<TlsIdentity>>,
) -> Result<AuthPolicy, AppError> {
    let channel_binding = match config.service.channel_binding {
        ChannelBinding::None => ChannelBindingPolicy::None,
        ChannelBinding::Relaxed => ChannelBindingPolicy::Relaxed,
        ChannelBinding::Strict => ChannelBindingPolicy::Strict,
    };
    let negotiate = NegotiatePolicy::new(machine, Arc::new(SystemClock), channel_binding);
    let credssp = tls.filter(|_| config.service.credssp).map(|identity| CredSspPolicy {
        negotiate: negotiate.clone(),
        identity: Arc::clone(identity),
        oldest_version: config.logon.credssp_oldest_version,
    });
    let negotiate = config.service.negotiate.then_some(negotiate);
    let service = &config.service;
    Ok(AuthPolicy {
        users,
        basic: service.basic,
        allow_unencrypted: service.allow_unencrypted,
        negotiate,
        certificate: service.certificate,
        credssp,
        kerberos: kerberos::policy(&config.kerberos, channel_binding)?,
    })
}

/// Who checks the passwords of accounts of the host, if they may log on.
#[cfg(feature = "pam")]
fn host_passwords(config: &LogonConfig) -> Option<Arc<dyn HostPasswords>> {
    let name = config.pam_service.as_deref()?;
    Some(Arc::new(crate::transport::auth::PamService::new(name)))
}

/// Reading the configuration refuses a service of PAM before it comes to this.
#[cfg(not(feature = "pam"))]
const fn host_passwords(_: &LogonConfig) -> Option<Arc<dyn HostPasswords>> {
    None
}

const fn logon_limits(config: &LogonConfig) -> LogonLimits {
    LogonLimits {
        delay_after: config.delay_after,
        delay: config.delay,
        delay_limit: config.delay_limit,
        lockout_after: config.lockout_after,
        window: config.lockout_window,
        lockout: config.lockout,
    }
}

type Bound = (Vec<Listener>, Vec<(Protocol, SocketAddr)>);

fn listen(config: &Config, tls: Option<&Arc<TlsIdentity>>) -> Result<Bound, AppError> {
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for listener in &config.listeners {
        let tls = match listener.protocol {
            Protocol::Http => None,
            Protocol::Https => tls.cloned(),
        };
        let bound = Listener::bind(listener.address, tls).map_err(|error| AppError::Listen(listener.address, error))?;
        addresses.push((listener.protocol, bound.address()));
        listeners.push(bound);
    }
    if listeners.is_empty() { Err(AppError::NoListener) } else { Ok((listeners, addresses)) }
}

/// The file of the audit trail, if one is kept.
fn audit(config: &AuditConfig) -> Result<Option<Arc<AuditFile>>, AppError> {
    let Some(file) = &config.file else { return Ok(None) };
    let opened = AuditFile::open(file, config.required, Arc::new(SystemClock));
    Ok(Some(Arc::new(opened.map_err(|error| AppError::Write(file.clone(), error))?)))
}

async fn engine(config: &mut Config, machine: &str, audit: Arc<dyn AuditTrail>) -> Result<Arc<Engine>, AppError> {
    let machines = std::mem::take(&mut config.machines);
    let pools = std::mem::take(&mut config.pools);
    let backend = backend::open(&config.backend, &config.data_dir, machines, pools)?;
    let store = Arc::new(SqliteStore::open(&config.data_dir.join("wsnapd.db"))?);
    let options = EngineOptions {
        audit,
        host_name: machine.to_owned(),
        utc_offset_seconds: SystemClock.utc_offset_seconds(),
        collections: std::mem::take(&mut config.collections),
        export_directories: std::mem::take(&mut config.export_directories),
        job_retention: config.jobs.retention,
        queue_limit: config.jobs.queue_limit,
        backend_timeout: config.jobs.backend_timeout,
        journal: JournalLimits { events: config.events.journal_limit, age: config.events.journal_age },
        ..EngineOptions::new(store, backend.hypervisor, backend.volumes, Arc::new(SystemClock), Arc::new(RandomIds))
    };
    Ok(Engine::open(options).await?)
}

fn service(
    config: &Config,
    engine: &Arc<Engine>,
    machine: &str,
    configuration: ConfigurationView,
    users: &PasswordKeeper,
) -> Result<Service, AppError> {
    let schema = providers::generated::load().map_err(|diagnostics| AppError::Schema(diagnostics.render()))?;
    let mut registry = ProviderRegistry::new();
    let options = ProviderOptions {
        aliases: certificate_names(config).into_iter().map(SmolStr::from).collect(),
        utc_offset_minutes: i16::try_from(SystemClock.utc_offset_seconds() / 60).ok(),
        ..ProviderOptions::new(machine, installation(&config.data_dir)?)
    };
    providers::register(&mut registry, &schema, engine, &options)?;
    providers::storage::register(&mut registry, &schema, Arc::clone(engine), machine)?;
    let indications = Arc::new(Indications::new(engine, &schema, &options)?);
    let eventing = eventing(config, indications, options.installation, users);
    let unknown = registry.unknown_classes(&schema);
    if !unknown.is_empty() {
        return Err(AppError::Schema(format!("there are providers but no classes for {}", unknown.join(", "))));
    }
    let manager = Arc::new(ObjectManager::new(Arc::new(schema), registry));
    let limits = wsman::Limits {
        max_envelope_size: count(config.service.max_envelope_size_kb) * 1024,
        max_timeout: config.service.max_timeout,
        max_batch_items: config.service.max_batch_items,
        enumeration_timeout: config.service.enumeration_timeout,
        max_concurrent_operations_per_user: count(config.service.max_concurrent_operations_per_user),
    };
    let options = ServiceOptions {
        limits,
        identity: Identity { security_profiles: security_profiles(config), ..Identity::default() },
        machine: SmolStr::new(machine),
        configuration,
        ..ServiceOptions::default()
    };
    let service = Service::new(manager, Arc::new(SystemClock), Arc::new(RandomIds), options);
    Ok(service.with_eventing(Arc::new(eventing)))
}

/// Subscriptions and their deliveries.
fn eventing(config: &Config, indications: Arc<Indications>, installation: Guid, users: &PasswordKeeper) -> Eventing {
    let events = &config.events;
    let trust = events.ca.clone().map_or(Trust::Nothing, Trust::File);
    let parts = EventingParts {
        accounts: Arc::new(users.clone()),
        store: Arc::<Indications>::clone(&indications),
        provider: indications,
        sink: Arc::new(HttpSink::new(trust)),
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
    };
    let options = EventingOptions {
        push_hosts: events.push_hosts.iter().map(SmolStr::from).collect(),
        https: events.ca.is_some(),
        delivery_timeout: events.delivery_timeout,
        queue_limit: events.queue_limit,
        subscriptions_per_user: events.subscriptions_per_user,
        journal_age: events.journal_age,
        ..EventingOptions::new(installation)
    };
    Eventing::new(parts, options)
}

/// What the configuration resources tell: the configuration as it is, with the ports that were taken.
fn configuration_view(
    config: &Config,
    addresses: &[(Protocol, SocketAddr)],
    machine: &str,
    thumbprint: &Thumbprint,
) -> ConfigurationView {
    let listeners = addresses.iter().map(|(protocol, address)| {
        let tls = *protocol == Protocol::Https;
        ListenerView {
            address: *address,
            tls,
            host_name: SmolStr::new(machine),
            certificate_thumbprint: if tls { thumbprint.clone() } else { Thumbprint::default() },
            listening_on: listening_on(*address),
        }
    });
    let cbt_hardening_level = match config.service.channel_binding {
        ChannelBinding::None => "None",
        ChannelBinding::Relaxed => "Relaxed",
        ChannelBinding::Strict => "Strict",
    };
    ConfigurationView {
        basic: config.service.basic,
        negotiate: config.service.negotiate,
        kerberos: config.kerberos.keytab.is_some(),
        certificate: config.service.certificate,
        credssp: config.service.credssp,
        cbt_hardening_level,
        allow_unencrypted: config.service.allow_unencrypted,
        max_connections: config.service.max_connections,
        max_packet_retrieval_time: config.service.max_packet_retrieval_time,
        audited: config.audit.file.is_some(),
        listeners: listeners.collect(),
        logons: None,
    }
}

/// The identity of this installation, made at the first start and kept beside the store.
fn installation(data_dir: &Path) -> Result<Guid, AppError> {
    let file = data_dir.join("installation");
    match fs::read_to_string(&file) {
        Ok(text) => {
            text.parse().map_err(|error| AppError::Read(file, io::Error::new(io::ErrorKind::InvalidData, error)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = RandomIds.new_guid();
            fs::write(&file, format!("{id}\n")).map_err(|error| AppError::Write(file, error))?;
            Ok(id)
        }
        Err(error) => Err(AppError::Read(file, error)),
    }
}

/// The schemes that are on, as Identify tells them.
fn security_profiles(config: &Config) -> Vec<SmolStr> {
    let mut profiles = Vec::new();
    if config.service.basic && config.service.allow_unencrypted {
        profiles.push(SmolStr::new_static("http/basic"));
    }
    if config.service.basic {
        profiles.push(SmolStr::new_static("https/basic"));
    }
    if config.service.certificate {
        profiles.push(SmolStr::new_static("https/mutual"));
    }
    if config.service.negotiate && config.kerberos.keytab.is_some() {
        profiles.push(SmolStr::new_static("http/spnego-kerberos"));
        profiles.push(SmolStr::new_static("https/spnego-kerberos"));
    }
    profiles
}

fn limits(config: &Config) -> Limits {
    Limits {
        max_envelope_bytes: count(config.service.max_envelope_size_kb) * 1024,
        max_connections: count(config.service.max_connections),
        packet_retrieval: config.service.max_packet_retrieval_time,
        idle: config.service.connection_idle_timeout,
        handshake: config.service.handshake_timeout,
        drain: config.service.shutdown_timeout,
    }
}

/// A number of 32 bits fits the word of every machine this runs on.
fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Ended jobs are forgotten by the engine itself.
async fn sweep(service: Arc<Service>, engine: Arc<Engine>, stop: CancellationToken) {
    let mut sweeps = tokio::time::interval(SWEEP_EVERY);
    let mut looks = tokio::time::interval(REFRESH_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = sweeps.tick() => service.sweep(),
            _ = looks.tick() => {
                if let Some(Err(error)) = stop.run_until_cancelled(engine.refresh()).await {
                    warn!(%error, "Pools, volumes and machines cannot be looked at");
                }
            }
        }
    }
}
