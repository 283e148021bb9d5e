//! The TLS side of an HTTPS listener.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

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
}

/// A certificate with its key, read from PEM files. It can be read again while it serves: connections
/// made after that get the new one.
#[derive(Debug)]
pub struct TlsIdentity {
    certificate: PathBuf,
    key: PathBuf,
    served: ArcSwap<Served>,
}

/// A certificate as connections get it.
#[derive(Debug)]
struct Served {
    config: Arc<ServerConfig>,
    channel_binding: ChannelBinding,
}

impl TlsIdentity {
    /// Reads a certificate chain, leaf first, and its private key.
    ///
    /// # Errors
    /// A [`TlsError`] that names the file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let served = ArcSwap::new(serve(certificate, key)?);
        Ok(Arc::new(Self { certificate: certificate.to_owned(), key: key.to_owned(), served }))
    }

    /// Reads the files again. On an error the old certificate stays in use.
    ///
    /// # Errors
    /// A [`TlsError`] that names the file.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.served.store(serve(&self.certificate, &self.key)?);
        Ok(())
    }

    /// What accepts a connection, and what a logon on that connection is bound to.
    pub(super) fn acceptor(&self) -> (TlsAcceptor, ChannelBinding) {
        let served = self.served.load();
        (TlsAcceptor::from(Arc::clone(&served.config)), served.channel_binding.clone())
    }
}

/// TLS 1.2 and 1.3 with ring, resumption by tickets, and HTTP/1.1 as the only protocol.
fn serve(certificate: &Path, key: &Path) -> Result<Arc<Served>, TlsError> {
    let read = |path: &Path| fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .ok_or_else(|| TlsError::Pem(certificate.to_owned(), "certificate"))?;
    let channel_binding = chain.first().map_or(ChannelBinding::default(), |leaf| channel_binding::of_certificate(leaf));
    let key_bytes = zeroize::Zeroizing::new(read(key)?);
    let private =
        PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|_| TlsError::Pem(key.to_owned(), "private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(Served { config: Arc::new(config), channel_binding }))
}
