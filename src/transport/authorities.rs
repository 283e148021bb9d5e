//! Which authority a certificate of a client leads to.
//!
//! [`TlsIdentity`](super::TlsIdentity) judges by all authorities together, and the library does not tell which one
//! vouched. So each is asked alone, once the certificate is known to count.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};

use super::tls::thumbprint;

/// The authorities that vouch for certificates of clients.
#[derive(Debug, Default)]
pub(super) struct Authorities(Vec<Authority>);

#[derive(Debug)]
struct Authority {
    /// In upper case hexadecimal.
    sha1: String,
    sha256: String,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authorities {
    /// These authorities. Revocation is no matter here.
    ///
    /// # Errors
    /// When one is of a kind that cannot be used.
    pub(super) fn of(
        certificates: &[CertificateDer<'static>],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let authority = |certificate: &CertificateDer<'static>| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates([certificate.clone()]);
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            let [sha1, sha256] = [&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &ring::digest::SHA256]
                .map(|kind| thumbprint(kind, certificate));
            Ok(Authority { sha1, sha256, verifier: builder.build()? })
        };
        certificates.iter().map(authority).collect::<Result<_, _>>().map(Self)
    }

    /// SHA-1 and SHA-256 of those that a chain leads to, leaf first, at this time.
    pub(super) fn behind(&self, chain: &[CertificateDer<'static>], now: UnixTime) -> Vec<String> {
        let Some((leaf, others)) = chain.split_first() else { return Vec::new() };
        let vouches = |authority: &&Authority| authority.verifier.verify_client_cert(leaf, others, now).is_ok();
        let vouching = self.0.iter().filter(vouches);
        vouching.flat_map(|authority| [authority.sha1.clone(), authority.sha256.clone()]).collect()
    }

    /// SHA-1 of each: what Windows calls the thumbprint.
    pub(super) fn thumbprints(&self) -> Vec<String> {
        self.0.iter().map(|authority| authority.sha1.clone()).collect()
    }
}
