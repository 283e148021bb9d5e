//! What the configuration resources hold (`ws-management.md` §15.1): the options of this service, and the
//! values that say the truth about what it does not offer.

use std::net::SocketAddr;
use std::time::Duration;

use smol_str::SmolStr;

use crate::xml::Writer;

use super::configuration::Configuration;
use super::options::{CertificateMapping, ListenerView, ServiceOptions};

const NAMESPACE: &str = "http://schemas.microsoft.com/wbem/wsman/1/config";
const PLUGIN_NAMESPACE: &str = "http://schemas.microsoft.com/wbem/wsman/1/config/PluginConfiguration";
/// Windows' word for "no limit".
const UNLIMITED: &str = "4294967295";
const UNLIMITED_SHELL: &str = "2147483647";
const MAPPING_NAMESPACE: &str = "http://schemas.microsoft.com/wbem/wsman/1/config/service/certmapping";
/// Administrators have every right; whoever else has logged on has those of readers and operators.
const ROOT_SDDL: &str = "O:NSG:BAD:P(A;;GA;;;BA)(A;;GXGR;;;AU)";
/// What is refused is recorded, and what writes or executes.
const ROOT_SDDL_AUDIT: &str = "S:P(AU;FA;GA;;;WD)(AU;SA;GXGW;;;WD)";
/// A certificate that is mapped counts for every resource.
const EVERY_RESOURCE: &str = "*";

/// A resource.
pub(super) struct Document {
    /// The element as it goes out.
    pub(super) xml: String,
    /// The names of the elements in it.
    pub(super) elements: Vec<&'static str>,
    /// The selectors that name it.
    pub(super) keys: Vec<(&'static str, SmolStr)>,
}

/// The resources of a kind; one, except for listeners.
pub(super) fn documents(options: &ServiceOptions, resource: Configuration) -> Vec<Document> {
    let single = |root, content: &dyn Fn(&mut Sheet)| vec![Sheet::document(root, Vec::new(), content)];
    match resource {
        Configuration::Config => single("Config", &|sheet| config(sheet, options)),
        Configuration::Client => single("Client", &client),
        Configuration::ClientAuth => single("Auth", &client_auth),
        Configuration::Service => single("Service", &|sheet| service(sheet, options)),
        Configuration::ServiceAuth => single("Auth", &|sheet| service_auth(sheet, options)),
        Configuration::CertificateMapping => {
            let logons = options.configuration.logons.as_ref().filter(|_| options.configuration.certificate);
            logons.map(|logons| logons.certificate_mappings().iter().map(mapping).collect()).unwrap_or_default()
        }
        Configuration::DefaultPorts => single("DefaultPorts", &default_ports),
        Configuration::Winrs => single("Winrs", &winrs),
        Configuration::Listener => options.configuration.listeners.iter().map(listener).collect(),
        Configuration::Plugin => vec![plugin(options)],
    }
}

/// Writes a document and keeps the names of its elements.
#[derive(Default)]
struct Sheet {
    w: Writer,
    elements: Vec<&'static str>,
}

impl Sheet {
    fn document(root: &'static str, keys: Vec<(&'static str, SmolStr)>, content: impl FnOnce(&mut Self)) -> Document {
        let mut sheet = Self::default();
        sheet.element(root, &[("xmlns:cfg", NAMESPACE), ("xml:lang", "en-US")], content);
        Document { xml: sheet.w.finish(), elements: sheet.elements, keys }
    }

    fn element(&mut self, name: &'static str, attributes: &[(&str, &str)], content: impl FnOnce(&mut Self)) {
        let tag = format!("cfg:{name}");
        self.elements.push(name);
        self.w.start_with(&tag, attributes);
        content(self);
        self.w.end(&tag);
    }

    fn branch(&mut self, name: &'static str, content: impl FnOnce(&mut Self)) {
        self.element(name, &[], content);
    }

    fn leaf(&mut self, name: &'static str, text: &str) {
        self.element(name, &[], |sheet| sheet.w.text(text));
    }

    fn flag(&mut self, name: &'static str, flag: bool) {
        self.leaf(name, if flag { "true" } else { "false" });
    }

    fn number(&mut self, name: &'static str, number: impl Into<u128>) {
        self.leaf(name, &number.into().to_string());
    }

    fn milliseconds(&mut self, name: &'static str, time: Duration) {
        self.number(name, time.as_millis());
    }
}

fn config(sheet: &mut Sheet, options: &ServiceOptions) {
    let kilobytes = options.limits.max_envelope_size / 1024;
    sheet.leaf("MaxEnvelopeSizekb", &kilobytes.to_string());
    sheet.milliseconds("MaxTimeoutms", options.limits.max_timeout);
    sheet.number("MaxBatchItems", options.limits.max_batch_items);
    sheet.leaf("MaxProviderRequests", UNLIMITED);
    sheet.branch("Client", client);
    sheet.branch("Service", |sheet| service(sheet, options));
    sheet.branch("Winrs", winrs);
}

/// The client that comes with this program: it logs on with Basic, and over TLS unless it is told otherwise.
fn client(sheet: &mut Sheet) {
    sheet.leaf("NetworkDelayms", "5000");
    sheet.leaf("URLPrefix", "wsman");
    sheet.flag("AllowUnencrypted", false);
    sheet.branch("Auth", client_auth);
    sheet.branch("DefaultPorts", default_ports);
    sheet.leaf("TrustedHosts", "");
}

fn client_auth(sheet: &mut Sheet) {
    sheet.flag("Basic", true);
    for scheme in ["Digest", "Kerberos", "Negotiate", "Certificate", "CredSSP"] {
        sheet.flag(scheme, false);
    }
}

fn service(sheet: &mut Sheet, options: &ServiceOptions) {
    let view = &options.configuration;
    let audit = if view.audited { ROOT_SDDL_AUDIT } else { "" };
    sheet.leaf("RootSDDL", &format!("{ROOT_SDDL}{audit}"));
    sheet.leaf("MaxConcurrentOperations", UNLIMITED);
    sheet.leaf("MaxConcurrentOperationsPerUser", &options.limits.max_concurrent_operations_per_user.to_string());
    sheet.milliseconds("EnumerationTimeoutms", options.limits.enumeration_timeout);
    sheet.number("MaxConnections", view.max_connections);
    sheet.number("MaxPacketRetrievalTimeSeconds", view.max_packet_retrieval_time.as_secs());
    sheet.flag("AllowUnencrypted", view.allow_unencrypted);
    sheet.branch("Auth", |sheet| service_auth(sheet, options));
    sheet.branch("DefaultPorts", default_ports);
    sheet.leaf("IPv4Filter", "*");
    sheet.leaf("IPv6Filter", "*");
    sheet.flag("EnableCompatibilityHttpListener", false);
    sheet.flag("EnableCompatibilityHttpsListener", false);
    let thumbprint = view.listeners.iter().map(|listener| listener.certificate_thumbprint.get());
    sheet.leaf("CertificateThumbprint", thumbprint.max().as_deref().map_or("", String::as_str));
    sheet.flag("AllowRemoteAccess", true);
}

/// The schemes that are on and that somebody could log on with.
fn service_auth(sheet: &mut Sheet, options: &ServiceOptions) {
    let view = &options.configuration;
    let has_mechanism = view.kerberos || view.logons.as_ref().is_some_and(|logons| logons.has_ntlm());
    sheet.flag("Basic", view.basic);
    sheet.flag("Kerberos", view.kerberos);
    sheet.flag("Negotiate", view.negotiate && has_mechanism);
    sheet.flag("Certificate", view.certificate);
    sheet.flag("CredSSP", view.credssp && has_mechanism);
    sheet.leaf("CbtHardeningLevel", view.cbt_hardening_level);
}

fn default_ports(sheet: &mut Sheet) {
    sheet.leaf("HTTP", "5985");
    sheet.leaf("HTTPS", "5986");
}

/// There are no shells; the limits are those of Windows, for programs that want to read them.
fn winrs(sheet: &mut Sheet) {
    sheet.flag("AllowRemoteShellAccess", false);
    sheet.leaf("IdleTimeout", "7200000");
    for name in
        ["MaxConcurrentUsers", "MaxShellRunTime", "MaxProcessesPerShell", "MaxMemoryPerShellMB", "MaxShellsPerUser"]
    {
        sheet.leaf(name, UNLIMITED_SHELL);
    }
}

fn listener(view: &ListenerView) -> Document {
    let address = address_of(view.address);
    let transport = SmolStr::new_static(if view.tls { "HTTPS" } else { "HTTP" });
    let keys = vec![("Address", address.clone()), ("Transport", transport.clone())];
    Sheet::document("Listener", keys, |sheet| {
        sheet.leaf("Address", &address);
        sheet.leaf("Transport", &transport);
        sheet.number("Port", view.address.port());
        sheet.leaf("Hostname", &view.host_name);
        sheet.flag("Enabled", true);
        sheet.leaf("URLPrefix", "wsman");
        sheet.leaf("CertificateThumbprint", &view.certificate_thumbprint.get());
        for address in &view.listening_on {
            sheet.leaf("ListeningOn", &address.to_string());
        }
    })
}

/// Has a namespace and a prefix of its own. The password that Windows keeps there is none here.
fn mapping(mapping: &CertificateMapping) -> Document {
    let parts = [
        ("URI", EVERY_RESOURCE),
        ("Subject", mapping.subject.as_str()),
        ("Issuer", mapping.issuer.as_str()),
        ("UserName", mapping.user.as_str()),
        ("Enabled", "true"),
    ];
    let mut w = Writer::with_capacity(512);
    w.element_with("cert:CertMapping", &[("xmlns:cert", MAPPING_NAMESPACE), ("xml:lang", "en-US")], |w| {
        for (name, value) in parts {
            w.text_element(&format!("cert:{name}"), value);
        }
    });
    let elements = ["CertMapping"].into_iter().chain(parts.iter().map(|(name, _)| *name)).collect();
    let keys = vec![
        ("Issuer", mapping.issuer.clone()),
        ("Subject", mapping.subject.clone()),
        ("URI", SmolStr::new_static(EVERY_RESOURCE)),
    ];
    Document { xml: w.finish(), elements, keys }
}

/// `*` for all addresses, else `IP:` and the address, as Windows names them.
fn address_of(address: SocketAddr) -> SmolStr {
    if address.ip().is_unspecified() { SmolStr::new_static("*") } else { SmolStr::from(format!("IP:{}", address.ip())) }
}

/// What each kind of resource can do (`ws-management.md` §5.3), as far as it is offered here.
const RESOURCES: &[(&str, &[&str])] = &[
    ("http://schemas.microsoft.com/wbem/wsman/1/wmi", &["Get", "Invoke", "Enumerate"]),
    ("http://schemas.dmtf.org/wbem/wscim/1/cim-schema", &["Get", "Invoke", "Enumerate"]),
    ("http://schemas.dmtf.org/wbem/wscim/1/*", &["Enumerate"]),
    ("http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/*", &["Get", "Enumerate"]),
];

/// The one plug-in: what Windows calls its WMI provider. Its document has attributes, not elements.
fn plugin(options: &ServiceOptions) -> Document {
    const NAME: &str = "WMI Provider";
    let product = options.identity.product_vendor.as_str();
    let attributes = [
        ("xmlns", PLUGIN_NAMESPACE),
        ("Name", NAME),
        ("Filename", product),
        ("SDKVersion", "1"),
        ("XmlRenderingType", "text"),
    ];
    let per_user = options.limits.max_concurrent_operations_per_user.to_string();
    let mut w = Writer::with_capacity(2048);
    w.element_with("PlugInConfiguration", &attributes, |w| {
        w.element("Resources", |w| {
            for (uri, capabilities) in RESOURCES {
                w.element_with("Resource", &[("ResourceUri", *uri), ("SupportsOptions", "true")], |w| {
                    for capability in *capabilities {
                        let mut attributes = vec![("Type", *capability)];
                        let is_schema = uri.contains("/cim-xml/");
                        attributes.extend((*capability == "Get" && !is_schema).then_some(("SupportsFragment", "true")));
                        attributes.extend(
                            (*capability == "Enumerate" && !is_schema).then_some(("SupportsFiltering", "true")),
                        );
                        w.empty_with("Capability", &attributes);
                    }
                });
            }
        });
        w.empty_with("Quotas", &[("MaxConcurrentOperationsPerUser", per_user.as_str())]);
    });
    let elements = vec!["PlugInConfiguration", "Resources", "Resource", "Capability", "Quotas"];
    Document { xml: w.finish(), elements, keys: vec![("Name", SmolStr::new_static(NAME))] }
}
