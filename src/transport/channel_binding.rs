//! What a logon over TLS is bound to: `tls-server-end-point` (RFC 5929 §4, `authentication.md` §8).

use std::sync::Arc;

use md5::{Digest, Md5};
use ring::digest::{self, Algorithm, SHA256, SHA384, SHA512};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The MD5 of the binding structure of GSS-API (RFC 2744 §3.11), as NTLM and Kerberos carry it.
pub(super) type ChannelBinding = [u8; 16];

/// Signature algorithms whose digest is stronger than SHA-256; for all others SHA-256 is what the RFC
/// says (MD5, SHA-1, SHA-256) or what clients fall back to.
const STRONGER: [(&str, &Algorithm); 4] = [
    ("1.2.840.113549.1.1.12", &SHA384),
    ("1.2.840.113549.1.1.13", &SHA512),
    ("1.2.840.10045.4.3.3", &SHA384),
    ("1.2.840.10045.4.3.4", &SHA512),
];

/// The binding to a server with this certificate.
pub(super) fn of_certificate(certificate: &CertificateDer<'_>) -> ChannelBinding {
    let signature = X509Certificate::from_der(certificate)
        .map(|(_, certificate)| certificate.signature_algorithm.algorithm.to_id_string())
        .unwrap_or_default();
    let algorithm = STRONGER.iter().find(|(oid, _)| *oid == signature).map_or(&SHA256, |(_, algorithm)| algorithm);
    of_hash(digest::digest(algorithm, certificate).as_ref())
}

/// The `SubjectPublicKey` of a certificate: the content of the bit string, which CredSSP binds a logon to.
pub(super) fn public_key(certificate: &CertificateDer<'_>) -> Option<Arc<[u8]>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(Arc::from(certificate.public_key().subject_public_key.data.as_ref()))
}

fn of_hash(hash: &[u8]) -> ChannelBinding {
    let prefix = b"tls-server-end-point:";
    // A digest and the prefix are far below 4 GiB.
    let length = u32::try_from(prefix.len() + hash.len()).unwrap_or(u32::MAX);
    let mut md5 = Md5::new();
    // Type and length of the addresses of both sides, of which neither is given.
    md5.update([0; 16]);
    md5.update(length.to_le_bytes());
    md5.update(prefix);
    md5.update(hash);
    md5.finalize().into()
}
