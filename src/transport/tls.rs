//! The TLS side of an HTTPS listener.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use tokio_rustls::TlsAcceptor;

use super::authorities::Authorities;
use super::channel_binding::{self, ChannelBinding};

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// A file is not in PEM form, or holds something else.
    #[error("{0} holds no {1} in PEM form")]
    Pem(PathBuf, &'static str),
    /// Certificate and key do not fit together or are of a kind that TLS does not take.
    #[error("certificate and key cannot be used for TLS")]
    Unusable(#[from] rustls::Error),
    /// Authorities or revocation lists are of a kind that cannot be used.
    #[error("certificates of clients cannot be checked by {0}")]
    Authorities(PathBuf, #[source] VerifierBuilderError),
}

/// What HTTPS is served with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The PEM file with the certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The PEM file with its private key.
    pub key: PathBuf,
    /// Whether TLS 1.2 is taken besides TLS 1.3.
    pub tls12: bool,
    /// Who vouches for certificates of clients; without it none is asked for.
    pub clients: Option<ClientAuthorities>,
}

impl TlsSettings {
    /// A certificate and its key, TLS 1.2 and 1.3, and no certificates of clients.
    #[must_use]
    pub fn new(certificate: &Path, key: &Path) -> Self {
        Self { certificate: certificate.to_owned(), key: key.to_owned(), tls12: true, clients: None }
    }

    /// The files that all this is in.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let clients = self.clients.iter().flat_map(|clients| [Some(&clients.authorities), clients.revoked.as_ref()]);
        [Some(&self.certificate), Some(&self.key)].into_iter().chain(clients).flatten().cloned().collect()
    }
}

/// Who vouches for certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthorities {
    /// The PEM file with the certificates of the authorities.
    pub authorities: PathBuf,
    /// The PEM file with their revocation lists: then each certificate of a chain needs one that is up to date.
    pub revoked: Option<PathBuf>,
    /// Whether a connection without a certificate that counts is refused in its handshake. Otherwise the handshake
    /// only takes the proof of the key, and the certificate is judged when a request logs on with it.
    pub required: bool,
}

/// A certificate with its key, read from PEM files. It can be read again while it serves: connections
/// made after that get the new one.
#[derive(Debug)]
pub struct TlsIdentity {
    settings: TlsSettings,
    served: ArcSwap<Served>,
}

/// A certificate as connections get it.
#[derive(Debug)]
struct Served {
    config: Arc<ServerConfig>,
    channel_binding: ChannelBinding,
    /// In upper case hexadecimal.
    thumbprint: String,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    authorities: Authorities,
    /// For connections inside of CredSSP, which ask for no certificate.
    inner: Arc<ServerConfig>,
    /// The `SubjectPublicKey` of the certificate.
    public_key: Arc<[u8]>,
}

impl TlsIdentity {
    /// Reads a certificate chain, leaf first, and its private key.
    ///
    /// # Errors
    /// A [`TlsError`] that names the file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        Self::open(TlsSettings::new(certificate, key))
    }

    /// Reads everything that HTTPS is served with.
    ///
    /// # Errors
    /// A [`TlsError`] that names the file.
    pub fn open(settings: TlsSettings) -> Result<Arc<Self>, TlsError> {
        let served = ArcSwap::new(serve(&settings)?);
        Ok(Arc::new(Self { settings, served }))
    }

    /// Reads the files again. On an error everything old stays in use.
    ///
    /// # Errors
    /// A [`TlsError`] that names the file.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.served.store(serve(&self.settings)?);
        Ok(())
    }

    /// The files that are read.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.settings.files()
    }

    /// SHA-1 of the certificate that new connections get, in upper case hexadecimal: what Windows calls the
    /// thumbprint.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        self.served.load().thumbprint.clone()
    }

    /// What accepts a connection, and what a logon on that connection is bound to.
    pub(super) fn acceptor(&self) -> (TlsAcceptor, ChannelBinding) {
        let served = self.served.load();
        (TlsAcceptor::from(Arc::clone(&served.config)), served.channel_binding.clone())
    }

    /// What accepts a connection inside of CredSSP, and the public key of its certificate.
    pub(super) fn inner(&self) -> (Arc<ServerConfig>, Arc<[u8]>) {
        let served = self.served.load();
        (Arc::clone(&served.inner), Arc::clone(&served.public_key))
    }

    /// Whether the certificate of a client counts now, by the authorities and revocation lists of now. The client
    /// proved in its handshake that it has the key.
    pub(super) fn judge(&self, chain: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
        let served = self.served.load();
        let (Some((leaf, others)), Some(clients)) = (chain.split_first(), &served.clients) else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        clients.verify_client_cert(leaf, others, UnixTime::now()).map(|_: ClientCertVerified| ())
    }

    /// SHA-1 and SHA-256 of the authorities that a certificate of a client leads to.
    pub(super) fn authorities_behind(&self, chain: &[CertificateDer<'static>]) -> Vec<String> {
        self.served.load().authorities.behind(chain, UnixTime::now())
    }

    /// SHA-1 of each authority that vouches for certificates of clients, in upper case hexadecimal.
    #[must_use]
    pub fn authorities(&self) -> Vec<String> {
        self.served.load().authorities.thumbprints()
    }
}

/// TLS with ring, and HTTP/1.1 as the only protocol. Sessions are resumed by tickets, unless certificates of clients
/// are asked for: then each connection has to show one that counts.
fn serve(settings: &TlsSettings) -> Result<Arc<Served>, TlsError> {
    let (certificate, key) = (&settings.certificate, &settings.key);
    let chain = certificates(certificate)?;
    let leaf = chain.first().ok_or_else(|| TlsError::Pem(certificate.clone(), "certificate"))?;
    let channel_binding = channel_binding::of_certificate(leaf);
    let thumbprint = thumbprint(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, leaf);
    let key_bytes = zeroize::Zeroizing::new(read(key)?);
    let private = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|_| TlsError::Pem(key.clone(), "private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = settings.clients.as_ref().map(|clients| verifier(clients, &provider)).transpose()?;
    let authorities = settings.clients.as_ref().map(|clients| authorities(clients, &provider)).transpose()?;
    let authorities = authorities.unwrap_or_default();
    let versions: &[_] =
        if settings.tls12 { &[&rustls::version::TLS13, &rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
    let public_key =
        channel_binding::public_key(leaf).ok_or_else(|| TlsError::Pem(certificate.clone(), "certificate"))?;
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let mut inner = builder.clone().with_no_client_auth().with_single_cert(chain.clone(), private.clone_key())?;
    // The ticket is what the server answers to the last message of the handshake: without it there would be nothing
    // to send, which clients take for a refusal.
    inner.ticketer = rustls::crypto::ring::Ticketer::new()?;
    inner.send_tls13_tickets = 1;
    let builder = match (&clients, &settings.clients) {
        (Some(verifier), Some(ClientAuthorities { required: true, .. })) => {
            builder.with_client_cert_verifier(Arc::clone(verifier))
        }
        (Some(verifier), _) => builder.with_client_cert_verifier(Arc::new(Wanted(Arc::clone(verifier)))),
        (None, _) => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if clients.is_some() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        config.send_tls13_tickets = 1;
    }
    let (config, inner) = (Arc::new(config), Arc::new(inner));
    Ok(Arc::new(Served { config, channel_binding, thumbprint, clients, authorities, inner, public_key }))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error))
}

/// All certificates of a PEM file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| TlsError::Pem(path.to_owned(), "certificate"))
}

/// The digest of a certificate in upper case hexadecimal.
pub(super) fn thumbprint(kind: &'static ring::digest::Algorithm, certificate: &CertificateDer<'_>) -> String {
    use std::fmt::Write;
    let hash = ring::digest::digest(kind, certificate);
    hash.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02X}").ok();
        text
    })
}

/// What judges certificates of clients: chain, dates, key usage, and with revocation lists the whole chain by lists
/// that are up to date.
fn verifier(
    clients: &ClientAuthorities,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&clients.authorities)? {
        roots.add(certificate)?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(file) = &clients.revoked {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&read(file)?).collect();
        let lists = lists.ok().filter(|lists| !lists.is_empty());
        let lists = lists.ok_or_else(|| TlsError::Pem(file.clone(), "revocation list"))?;
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    let file = clients.revoked.as_ref().unwrap_or(&clients.authorities);
    builder.build().map_err(|error| TlsError::Authorities(file.clone(), error))
}

fn authorities(clients: &ClientAuthorities, provider: &Arc<CryptoProvider>) -> Result<Authorities, TlsError> {
    let file = &clients.authorities;
    Authorities::of(&certificates(file)?, provider).map_err(|error| TlsError::Authorities(file.clone(), error))
}

/// Asks for a certificate and for the proof of its key, and leaves it to the logon to judge it: who logs on by
/// another scheme need not have one that counts.
#[derive(Debug)]
struct Wanted(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Wanted {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
