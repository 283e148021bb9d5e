//! What the configuration resources show of the users.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::transport::TlsIdentity;
use crate::transport::auth::PasswordKeeper;
use crate::wsman::{CertificateMapping, Logons};

/// The users of the password file, and the authorities of now.
#[derive(Debug)]
pub(super) struct LogonsOfNow {
    pub(super) users: PasswordKeeper,
    pub(super) tls: Option<Arc<TlsIdentity>>,
}

impl Logons for LogonsOfNow {
    fn has_ntlm(&self) -> bool {
        self.users.has_ntlm()
    }

    /// A rule that asks for no authority is one for each of them.
    fn certificate_mappings(&self) -> Vec<CertificateMapping> {
        let authorities = self.tls.as_ref().map(|tls| tls.authorities()).unwrap_or_default();
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
