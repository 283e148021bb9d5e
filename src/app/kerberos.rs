//! Kerberos: what a keytab must hold, and what the library takes from the environment.

use tracing::warn;

use crate::config::{Config, KerberosConfig};
use crate::transport::auth::{ChannelBindingPolicy, KerberosPolicy, Keytab};

use super::error::AppError;

/// Starts the program anew with the keytab and the replay cache of the configuration in its environment, unless they
/// are there already: the library of Kerberos takes both from there, and a program cannot safely change its own
/// environment once it has threads. Returns at once when there is no keytab.
///
/// # Errors
/// When the program cannot be started anew.
pub fn enter_environment(config: &Config) -> Result<(), AppError> {
    let Some(keytab) = &config.kerberos.keytab else { return Ok(()) };
    let wanted = |kind: &str, path: &std::path::Path| {
        let mut value = std::ffi::OsString::from(kind);
        value.push(path);
        value
    };
    let wanted = [
        ("KRB5_KTNAME", wanted("FILE:", keytab)),
        ("KRB5RCACHENAME", wanted("file2:", &config.data_dir.join("replay-cache"))),
    ];
    if wanted.iter().all(|(name, value)| std::env::var_os(name).as_ref() == Some(value)) {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(AppError::System)?;
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
    }
    let command = command.args(arguments).envs(wanted);
    // Returns only when it fails.
    Err(AppError::System(std::os::unix::process::CommandExt::exec(command)))
}

/// What the transport needs to accept tickets; `None` without a keytab.
pub(super) fn policy(
    config: &KerberosConfig,
    channel_binding: ChannelBindingPolicy,
) -> Result<Option<KerberosPolicy>, AppError> {
    let Some(path) = &config.keytab else { return Ok(None) };
    let keytab = Keytab::read(path)?;
    let keys = |service: &String| keytab.of_service(service).next().is_some();
    if !config.services.iter().any(keys) {
        return Err(AppError::NoServiceKey(path.clone(), config.services.join(", ")));
    }
    for service in config.services.iter().filter(|service| service.eq_ignore_ascii_case("HTTP") && !keys(service)) {
        warn!(
            keytab = %path.display(),
            "The keytab has no key of {service}, which most clients ask for; add HTTP/host.example.test to it"
        );
    }
    for service in config.services.iter().filter(|service| keys(service)) {
        if keytab.of_service(service).all(|entry| !entry.can_seal()) {
            warn!(
                keytab = %path.display(),
                "The keys of {service} are of old kinds, with which messages cannot be sealed; make keys of AES"
            );
        }
    }
    acceptor(config, channel_binding).map(Some)
}

#[cfg(feature = "kerberos")]
fn acceptor(config: &KerberosConfig, channel_binding: ChannelBindingPolicy) -> Result<KerberosPolicy, AppError> {
    let acceptor = crate::transport::auth::KeytabAcceptor::open(&config.services)?;
    let (acceptor, clock) = (std::sync::Arc::new(acceptor), std::sync::Arc::new(super::sources::SystemClock));
    Ok(KerberosPolicy { acceptor, channel_binding, clock })
}

/// Reading the configuration refuses a keytab before it comes to this.
#[cfg(not(feature = "kerberos"))]
fn acceptor(_: &KerberosConfig, _: ChannelBindingPolicy) -> Result<KerberosPolicy, AppError> {
    Err(AppError::WithoutKerberos)
}
