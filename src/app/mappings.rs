//! The certificate mappings, as the configuration resources show them.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::transport::TlsIdentity;
use crate::transport::auth::PasswordKeeper;
use crate::wsman::{CertificateMapping, CertificateMappings};

/// Rules of the password file, with the authorities of now.
#[derive(Debug)]
pub(super) struct Mappings {
    pub(super) users: PasswordKeeper,
    pub(super) tls: Arc<TlsIdentity>,
}

impl CertificateMappings for Mappings {
    /// A rule that asks for no authority is one for each of them.
    fn mappings(&self) -> Vec<CertificateMapping> {
        let authorities = self.tls.authorities();
        let mut found = Vec::new();
        for (user, rule) in self.users.certificate_rules() {
            let subject = SmolStr::from(rule.subject());
            let mut add = |issuer: &str| {
                found.push(CertificateMapping { issuer: issuer.into(), subject: subject.clone(), user: user.clone() });
            };
            match rule.issuer() {
                Some(issuer) => add(issuer),
                None => authorities.iter().for_each(|issuer| add(issuer)),
            }
        }
        found
    }
}
