//! The server's own certificate.
//!
//! It is self-signed and no authority: a Windows administrator imports one `.cer` file as a trusted
//! root, and the private key on this host can then vouch for this host and for nothing else.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use chrono::{Datelike, Days, Months};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::time::Timestamp;
use crate::transport::private_file;

/// How long a certificate is valid. Nobody but the importing client trusts it, so that client decides.
const VALID_YEARS: u32 = 10;

/// Why the certificate cannot be made, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// A file cannot be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    /// The names or the system's random numbers do not allow it.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// A file holds no certificate.
    #[error("{0} holds no certificate")]
    Malformed(PathBuf),
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate in PEM form.
    pub certificate: PathBuf,
    /// Its private key in PEM form, readable by its owner only.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Where the own certificate lies below a data directory.
    #[must_use]
    pub fn below(data_dir: &Path) -> Self {
        let directory = data_dir.join("tls");
        Self { certificate: directory.join("certificate.pem"), key: directory.join("key.pem") }
    }

    /// Whether both files are there.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.certificate.exists() && self.key.exists()
    }

    /// Makes a new certificate for `names`, replacing the one that is there.
    ///
    /// # Errors
    /// A [`CertificateError`]; the old files are then still there.
    pub fn make(&self, names: &[String], now: Timestamp) -> Result<(), CertificateError> {
        let write = |path: &Path, error| CertificateError::Write(path.to_owned(), error);
        if let Some(directory) = self.certificate.parent() {
            fs::create_dir_all(directory).map_err(|error| write(directory, error))?;
        }
        let key = KeyPair::generate()?;
        let certificate = params(names, now)?.self_signed(&key)?;
        let pem = zeroize::Zeroizing::new(key.serialize_pem());
        private_file::replace(&self.key, pem.as_bytes()).map_err(|error| write(&self.key, error))?;
        private_file::replace(&self.certificate, certificate.pem().as_bytes())
            .map_err(|error| write(&self.certificate, error))
    }
}

fn params(names: &[String], now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    let common_name = names.iter().find(|name| name.parse::<IpAddr>().is_err() && *name != "localhost");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name.map_or("localhost", String::as_str));
    params.distinguished_name.push(DnType::OrganizationName, "wsnapd");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // A day of grace for clocks that are behind.
    let start = now.date_naive().checked_sub_days(Days::new(1)).unwrap_or_default();
    let end = start.checked_add_months(Months::new(12 * VALID_YEARS)).unwrap_or(start);
    let day = |date: chrono::NaiveDate| {
        let part = |number| u8::try_from(number).unwrap_or(1);
        rcgen::date_time_ymd(date.year(), part(date.month()), part(date.day()))
    };
    params.not_before = day(start);
    params.not_after = day(end);
    Ok(params)
}

/// `rsaEncryption` (RFC 8017 appendix C).
const RSA: &str = "1.2.840.113549.1.1.1";

/// What a certificate says, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The subject.
    pub subject: String,
    /// The names and addresses it is for.
    pub names: Vec<String>,
    /// The first instant it is valid.
    pub not_before: Timestamp,
    /// The last instant it is valid.
    pub not_after: Timestamp,
    /// SHA-1 of the certificate in upper case hexadecimal: what Windows calls the thumbprint.
    pub thumbprint: String,
    /// SHA-256 of the certificate in upper case hexadecimal.
    pub sha256: String,
    /// Whether its key is one of RSA.
    pub has_rsa_key: bool,
    /// The certificate in binary (DER) form.
    pub der: Vec<u8>,
}

impl CertificateInfo {
    /// Reads the first certificate of a PEM file, or the one of a DER file.
    ///
    /// # Errors
    /// A [`CertificateError`] when there is none.
    pub fn read(path: &Path) -> Result<Self, CertificateError> {
        let text = fs::read(path).map_err(|error| CertificateError::Read(path.to_owned(), error))?;
        let malformed = || CertificateError::Malformed(path.to_owned());
        let der = CertificateDer::from_pem_slice(&text).unwrap_or_else(|_| CertificateDer::from(text));
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| malformed())?;
        let names = certificate
            .subject_alternative_name()
            .ok()
            .flatten()
            .map(|extension| extension.value.general_names.iter().filter_map(name_text).collect())
            .unwrap_or_default();
        let instant = |time: x509_parser::time::ASN1Time| Timestamp::from_timestamp(time.timestamp(), 0);
        let validity = certificate.validity();
        Ok(Self {
            subject: certificate.subject().to_string(),
            names,
            not_before: instant(validity.not_before).ok_or_else(malformed)?,
            not_after: instant(validity.not_after).ok_or_else(malformed)?,
            thumbprint: hex(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &der).as_ref()),
            sha256: hex(ring::digest::digest(&ring::digest::SHA256, &der).as_ref()),
            has_rsa_key: certificate.public_key().algorithm.algorithm.to_id_string() == RSA,
            der: der.to_vec(),
        })
    }
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match *bytes {
            [a, b, c, d] => Some(IpAddr::from([*a, *b, *c, *d]).to_string()),
            bytes => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        },
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02X}").ok();
        text
    })
}
