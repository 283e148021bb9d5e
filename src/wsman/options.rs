//! What the service is told at start.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use smol_str::SmolStr;

/// Limits under the names WinRM uses (`ws-management.md` §15.1).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `MaxEnvelopeSizekb` × 1024: the largest answer, in octets of the transmitted encoding.
    pub max_envelope_size: usize,
    /// `MaxTimeoutms`: default and upper bound of OperationTimeout.
    pub max_timeout: Duration,
    /// `MaxBatchItems`: upper bound of MaxElements.
    pub max_batch_items: u32,
    /// `EnumerationTimeoutms`: how long an enumeration may idle between two Pulls.
    pub enumeration_timeout: Duration,
    /// `MaxConcurrentOperationsPerUser`: open enumerations of one user.
    pub max_concurrent_operations_per_user: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_envelope_size: 500 * 1024,
            max_timeout: Duration::from_secs(60),
            max_batch_items: 32_000,
            enumeration_timeout: Duration::from_secs(240),
            max_concurrent_operations_per_user: 1_500,
        }
    }
}

/// What Identify tells (`ws-management.md` §6.1).
#[derive(Clone, Debug)]
pub struct Identity {
    /// `ProductVendor`
    pub product_vendor: SmolStr,
    /// `ProductVersion` for authenticated callers. A backup client reads `OS: 10.0.…` out of it and
    /// refuses hosts whose first number is neither 6 nor 10 (`clients.md` part 5).
    pub product_version: SmolStr,
    /// Last parts of the security profile URIs that are on (`https/basic` …).
    pub security_profiles: Vec<SmolStr>,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            product_vendor: SmolStr::new_static("wsnapd"),
            product_version: SmolStr::new_static("OS: 10.0.20348 SP: 0.0 Stack: 3.0"),
            security_profiles: Vec::new(),
        }
    }
}

/// What the configuration resources tell beside the limits (`ws-management.md` §15). The protocol layer
/// shows it and does not act on it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of WinRM")]
pub struct ConfigurationView {
    /// `Service/Auth/Basic`
    pub basic: bool,
    /// `Service/Auth/Negotiate`, if it is set up: with Kerberos, or while `logons` knows somebody who may use NTLM.
    pub negotiate: bool,
    /// `Service/Auth/Kerberos`
    pub kerberos: bool,
    /// `Service/Auth/Certificate`
    pub certificate: bool,
    /// `Service/Auth/CredSSP`, in the same way.
    pub credssp: bool,
    /// `Service/Auth/CbtHardeningLevel`
    pub cbt_hardening_level: &'static str,
    /// `Service/AllowUnencrypted`
    pub allow_unencrypted: bool,
    /// `Service/MaxConnections`
    pub max_connections: u32,
    /// `Service/MaxPacketRetrievalTimeSeconds`
    pub max_packet_retrieval_time: Duration,
    /// Whether logons, refusals and changes are recorded, which `Service/RootSDDL` tells.
    pub audited: bool,
    /// The listeners.
    pub listeners: Vec<ListenerView>,
    /// What changes with the users; without it nobody may use NTLM, and no certificate belongs to anybody.
    pub logons: Option<Arc<dyn Logons>>,
}

/// A rule by which certificates of clients belong to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateMapping {
    /// `Issuer`: the thumbprint of an authority that such a certificate leads to.
    pub issuer: SmolStr,
    /// `Subject`: what the certificate has to say.
    pub subject: SmolStr,
    /// `UserName`
    pub user: SmolStr,
}

/// Tells of the users as they are now. Everything returns at once.
pub trait Logons: fmt::Debug + Send + Sync {
    /// Whether somebody may use NTLM.
    fn has_ntlm(&self) -> bool;

    /// The rules by which certificates belong to users.
    fn certificate_mappings(&self) -> Vec<CertificateMapping>;
}

/// The thumbprint of a certificate that may be replaced while it is shown; clones follow.
#[derive(Clone, Debug, Default)]
pub struct Thumbprint(Arc<ArcSwap<String>>);

impl Thumbprint {
    /// Shows another one from now on.
    pub fn set(&self, thumbprint: String) {
        self.0.store(Arc::new(thumbprint));
    }

    /// The one that is shown now.
    #[must_use]
    pub fn get(&self) -> Arc<String> {
        self.0.load_full()
    }
}

impl From<&str> for Thumbprint {
    fn from(text: &str) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(text.to_owned())))
    }
}

/// A listener as the configuration resources show it.
#[derive(Clone, Debug)]
pub struct ListenerView {
    /// Where it listens; an unspecified address stands for all of them.
    pub address: SocketAddr,
    /// Whether it wants TLS.
    pub tls: bool,
    /// `Hostname`
    pub host_name: SmolStr,
    /// `CertificateThumbprint`; empty without TLS. It follows the certificate.
    pub certificate_thumbprint: Thumbprint,
    /// `ListeningOn`
    pub listening_on: Vec<IpAddr>,
}

impl Default for ConfigurationView {
    fn default() -> Self {
        Self {
            basic: true,
            negotiate: false,
            kerberos: false,
            certificate: false,
            credssp: false,
            cbt_hardening_level: "None",
            allow_unencrypted: false,
            max_connections: 300,
            max_packet_retrieval_time: Duration::from_secs(120),
            audited: false,
            listeners: Vec::new(),
            logons: None,
        }
    }
}

/// Everything the service is told at start.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// The limits.
    pub limits: Limits,
    /// What Identify tells.
    pub identity: Identity,
    /// The namespace of DMTF class URIs without `__cimnamespace`.
    pub default_namespace: SmolStr,
    /// The host name: `Machine` of faults and `__SERVER` of WQL.
    pub machine: SmolStr,
    /// What the configuration resources tell.
    pub configuration: ConfigurationView,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            identity: Identity::default(),
            default_namespace: SmolStr::new_static("root/virtualization/v2"),
            machine: SmolStr::new_static("localhost"),
            configuration: ConfigurationView::default(),
        }
    }
}
