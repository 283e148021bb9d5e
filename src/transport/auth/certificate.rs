//! Client certificates (`authentication.md` §9): whom a certificate stands for.
//!
//! TLS proves that the client has the key, [`TlsIdentity`] judges the chain, and here the certificate is mapped to
//! an account by the names in it. Every authority that is trusted may name every user, unless a rule asks for one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ring::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::access::Scheme;
use crate::transport::tls::TlsIdentity;

use super::policy::AuthPolicy;
use super::spnego::{UTF8_STRING, context, whole};

/// `otherName` of a user principal name, as Windows writes it.
const UPN: &str = "1.3.6.1.4.1.311.20.2.3";
/// The most characters of a rule.
const MAX_RULE: usize = 512;

/// Why a certificate does not log on.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum CertificateRefusal {
    /// Expired, not yet valid, revoked, of a foreign authority, or not for clients.
    #[error("the certificate does not count: {0}")]
    Chain(rustls::Error),
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Malformed,
    /// No user has a rule that fits it.
    #[error("the certificate belongs to no user")]
    Unmapped,
    /// Rules of several users fit it.
    #[error("the certificate fits several users")]
    Ambiguous,
}

/// A part of a certificate that names a user: one of the rules in the password file.
///
/// Case is not looked at, and the parts of a subject may stand in either order, as programs show them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateRule {
    /// The whole subject, part by part.
    Subject(Vec<(String, String)>),
    /// The user principal name of the alternative names.
    Upn(String),
    /// A mail address of the alternative names.
    Email(String),
    /// A host name of the alternative names.
    Dns(String),
    /// SHA-1 or SHA-256 of the certificate, in upper case hexadecimal.
    Thumbprint(String),
    /// Another rule, for certificates that lead to the authority of this SHA-1 or SHA-256.
    Issued(String, Box<Self>),
}

/// A text that is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rule for certificates is subject=CN=…,O=…, upn=NAME, email=ADDRESS, dns=NAME or thumbprint=HEX (SHA-1 or SHA-256), and issuer=HEX; may stand before it"
)]
pub struct CertificateRuleError;

impl FromStr for CertificateRule {
    type Err = CertificateRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().count() > MAX_RULE || text.contains(char::is_control) {
            return Err(CertificateRuleError);
        }
        let (kind, value) = text.split_once('=').ok_or(CertificateRuleError)?;
        let value = value.trim();
        if kind.trim() == "issuer" {
            let (issuer, rule) = value.split_once(';').ok_or(CertificateRuleError)?;
            return match rule.parse()? {
                Self::Issued(..) => Err(CertificateRuleError),
                rule => Ok(Self::Issued(thumbprint(issuer)?, Box::new(rule))),
            };
        }
        let name = || if value.is_empty() { Err(CertificateRuleError) } else { Ok(value.to_lowercase()) };
        match kind.trim() {
            "subject" => subject_of_text(value).map(Self::Subject).ok_or(CertificateRuleError),
            "upn" => name().map(Self::Upn),
            "email" => name().map(Self::Email),
            "dns" => name().map(Self::Dns),
            "thumbprint" => thumbprint(value).map(Self::Thumbprint),
            _ => Err(CertificateRuleError),
        }
    }
}

/// SHA-1 or SHA-256 as programs show it, in upper case without what stands between the digits.
fn thumbprint(text: &str) -> Result<String, CertificateRuleError> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    let right = matches!(digits.len(), 40 | 64) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if right { Ok(digits.to_uppercase()) } else { Err(CertificateRuleError) }
}

impl fmt::Display for CertificateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(parts) => write!(f, "subject={}", text_of_subject(parts)),
            Self::Upn(name) => write!(f, "upn={name}"),
            Self::Email(name) => write!(f, "email={name}"),
            Self::Dns(name) => write!(f, "dns={name}"),
            Self::Thumbprint(digits) => write!(f, "thumbprint={digits}"),
            Self::Issued(issuer, rule) => write!(f, "issuer={issuer};{rule}"),
        }
    }
}

impl CertificateRule {
    /// The rule for exactly this certificate, in DER.
    #[must_use]
    pub fn of_certificate(certificate: &[u8]) -> Self {
        Self::Thumbprint(hex(digest::digest(&digest::SHA256, certificate).as_ref()))
    }

    /// The authority that the rule asks for.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        match self {
            Self::Issued(issuer, _) => Some(issuer),
            _ => None,
        }
    }

    /// What it asks of the certificate, as `Subject` of a certificate mapping of Windows: a name as it is, and the
    /// thumbprint, which Windows does not have there, as a rule.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Subject(parts) => text_of_subject(parts),
            Self::Upn(name) | Self::Email(name) | Self::Dns(name) => name.clone(),
            Self::Thumbprint(_) => self.to_string(),
            Self::Issued(_, rule) => rule.subject(),
        }
    }

    pub(super) fn fits(&self, names: &CertificateNames) -> bool {
        match self {
            Self::Subject(parts) => {
                !parts.is_empty() && (names.subject == *parts || names.subject.iter().rev().eq(parts.iter()))
            }
            Self::Upn(name) => names.upns.contains(name),
            Self::Email(name) => names.emails.contains(name),
            Self::Dns(name) => names.hosts.contains(name),
            Self::Thumbprint(digits) => names.thumbprints.contains(digits),
            Self::Issued(issuer, rule) => names.issuers.contains(issuer) && rule.fits(names),
        }
    }
}

/// `CN=alice, O=Example`; a backslash takes the meaning off the next character.
fn subject_of_text(text: &str) -> Option<Vec<(String, String)>> {
    let (mut parts, mut part, mut escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            _ if escaped => {
                part.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            ',' => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    parts.push(part);
    let pair = |part: String| {
        let (kind, value) = part.split_once('=')?;
        let (kind, value) = (kind.trim().to_uppercase(), value.trim().to_lowercase());
        (!escaped && !kind.is_empty() && !value.is_empty()).then_some((kind, value))
    };
    parts.into_iter().map(pair).collect()
}

fn text_of_subject(parts: &[(String, String)]) -> String {
    let text = |(kind, value): &(String, String)| format!("{kind}={}", value.replace('\\', "\\\\").replace(',', "\\,"));
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

/// What a certificate says of its owner, in the forms that rules have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CertificateNames {
    subject: Vec<(String, String)>,
    upns: Vec<String>,
    emails: Vec<String>,
    hosts: Vec<String>,
    thumbprints: Vec<String>,
    /// Of the authorities that it leads to.
    issuers: Vec<String>,
}

impl CertificateNames {
    /// Reads a certificate in DER.
    pub(super) fn read(certificate: &[u8]) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
        rest.is_empty().then_some(())?;
        let mut names = Self {
            thumbprints: vec![
                hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate).as_ref()),
                hex(digest::digest(&digest::SHA256, certificate).as_ref()),
            ],
            ..Self::default()
        };
        for attribute in parsed.subject().iter_attributes() {
            let kind = oid2abbrev(attribute.attr_type(), oid_registry())
                .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
            // A kind of text that nobody writes any more fits no rule.
            names.subject.push((kind.to_uppercase(), attribute.as_str().ok()?.trim().to_lowercase()));
        }
        let alternative = parsed.subject_alternative_name().ok()?;
        for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::OtherName(oid, value) if oid.to_id_string() == UPN => {
                    let text = whole(value, context(0)).and_then(|value| whole(value, UTF8_STRING))?;
                    names.upns.push(std::str::from_utf8(text).ok()?.to_lowercase());
                }
                GeneralName::RFC822Name(name) => names.emails.push(name.to_lowercase()),
                GeneralName::DNSName(name) => names.hosts.push(name.to_lowercase()),
                _ => {}
            }
        }
        Some(names)
    }

    /// The same, of a certificate that leads to the authorities of these thumbprints.
    pub(super) fn issued_by(self, issuers: Vec<String>) -> Self {
        Self { issuers, ..self }
    }

    /// The name by which a refusal is recorded.
    pub(super) fn claimed(&self) -> String {
        self.upns.first().cloned().unwrap_or_else(|| text_of_subject(&self.subject))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02X}").ok();
        text
    })
}

/// The certificate that the client of a connection has shown, and the key of which it has.
#[derive(Clone, Debug)]
pub(in crate::transport) struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    identity: Arc<TlsIdentity>,
}

impl ClientCertificate {
    /// What the client sent in its handshake: leaf first.
    pub(in crate::transport) const fn new(chain: Vec<CertificateDer<'static>>, identity: Arc<TlsIdentity>) -> Self {
        Self { chain, identity }
    }

    pub(super) fn names(&self) -> Option<CertificateNames> {
        CertificateNames::read(self.chain.first()?)
    }

    /// The thumbprints of the authorities that it leads to.
    pub(super) fn issuers(&self) -> Vec<String> {
        self.identity.authorities_behind(&self.chain)
    }

    /// Whether it counts now.
    pub(super) fn judge(&self) -> Result<(), CertificateRefusal> {
        self.identity.judge(&self.chain).map_err(CertificateRefusal::Chain)
    }
}

/// Records a handshake that ended because the client has no certificate that counts.
pub(in crate::transport) fn record_handshake(policy: &AuthPolicy, source: IpAddr, error: &std::io::Error) {
    let reason = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    if let Some(reason @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) = reason {
        policy.users.refused("", source, Scheme::Certificate, &format!("no TLS without a certificate: {reason}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_as_they_are_read() {
        let digits = "ab:CD".repeat(10).replace("CD", "CD:");
        for (text, written) in [
            ("upn=Alice@Example.test", "upn=alice@example.test".to_owned()),
            ("email = a@b.test", "email=a@b.test".to_owned()),
            ("dns=Host.Example.test", "dns=host.example.test".to_owned()),
            (&format!("thumbprint={digits}"), format!("thumbprint={}", "ABCD".repeat(10))),
            (
                &format!("issuer={digits}; upn=Alice;b@ex.test"),
                format!("issuer={};upn=alice;b@ex.test", "ABCD".repeat(10)),
            ),
            (r"subject=cn = Alice\, the first ,O=Ex", r"subject=CN=alice\, the first,O=ex".to_owned()),
        ] {
            let rule: CertificateRule = text.parse().unwrap();
            assert_eq!(rule.to_string(), written);
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
        let twice = format!("issuer={digits};issuer={digits};upn=a");
        for text in [
            "",
            "upn",
            "upn=",
            "alice",
            "thumbprint=abc",
            "subject=",
            "subject=alice",
            "subject=CN=",
            "subject=CN=a\\",
            "issuer=abc;upn=a",
            "issuer=",
            &format!("issuer={digits}"),
            &format!("issuer={digits};"),
            &format!("issuer={digits};a"),
            &twice,
        ] {
            assert_eq!(text.parse::<CertificateRule>(), Err(CertificateRuleError), "{text}");
        }
    }

    #[test]
    fn a_subject_fits_as_a_whole_in_either_order() {
        let parts = |text| subject_of_text(text).unwrap();
        let names = CertificateNames { subject: parts("C=DE,O=ex,CN=alice"), ..CertificateNames::default() };
        for (text, fits) in [
            ("subject=C=DE, O=Ex, CN=Alice", true),
            ("subject=CN=alice,O=ex,C=de", true),
            ("subject=CN=alice", false),
            ("subject=O=ex,C=de,CN=alice", false),
            (r"subject=CN=alice\,O=ex,C=de", false),
            ("upn=alice", false),
        ] {
            assert_eq!(text.parse::<CertificateRule>().unwrap().fits(&names), fits, "{text}");
        }
        let forged =
            CertificateNames { subject: vec![("CN".into(), "alice,o=ex".into())], ..CertificateNames::default() };
        assert!(!"subject=CN=alice,O=ex".parse::<CertificateRule>().unwrap().fits(&forged));
        assert!(!CertificateRule::Subject(Vec::new()).fits(&CertificateNames::default()));
    }

    #[test]
    fn names_are_read_from_a_certificate() {
        let mut params = rcgen::CertificateParams::new(vec!["Host.example.test".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Alice, A.");
        params.subject_alt_names.push(rcgen::SanType::Rfc822Name("Alice@example.test".try_into().unwrap()));
        let upn = (vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], rcgen::OtherNameValue::Utf8String("Alice@Corp".to_owned()));
        params.subject_alt_names.push(rcgen::SanType::OtherName(upn));
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let names = CertificateNames::read(certificate.der()).unwrap();
        assert_eq!(
            (names.claimed().as_str(), names.hosts.as_slice()),
            ("alice@corp", &["host.example.test".to_owned()][..])
        );
        for rule in ["upn=alice@corp", "email=alice@example.test", "dns=host.example.test", r"subject=CN=Alice\, A."] {
            assert!(rule.parse::<CertificateRule>().unwrap().fits(&names), "{rule}: {names:?}");
        }
        assert!(CertificateRule::of_certificate(certificate.der()).fits(&names));
        for end in 0..certificate.der().len() {
            assert_eq!(CertificateNames::read(&certificate.der()[..end]), None);
        }
    }
}
