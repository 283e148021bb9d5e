//! Settings that make the server easier to attack; each is told once at the start.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::{ChannelBinding, Config, Protocol};
use crate::transport::auth::UsersFile;

use super::certificate::CertificateInfo;

/// A sentence for each unsafe setting, with the key that ends it.
pub(super) fn of(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let service = &config.service;
    let http = config.listeners.iter().filter(|listener| listener.protocol == Protocol::Http);
    if service.allow_unencrypted && http.clone().next().is_some() {
        found.push("AllowUnencrypted is true: messages cross plain HTTP in clear text".to_owned());
        if service.basic {
            found.push("AllowUnencrypted and Basic are true: passwords cross plain HTTP in clear text".to_owned());
        }
    }
    for listener in http.filter(|listener| !listener.address.ip().is_loopback()) {
        found.push(format!(
            "{} takes plain HTTP from other hosts: the ciphers that seal messages there are old; use HTTPS",
            listener.address
        ));
    }
    let https = config.listeners.iter().any(|listener| listener.protocol == Protocol::Https);
    if service.channel_binding == ChannelBinding::None && service.negotiate && https {
        found.push("CbtHardeningLevel is None: logons over HTTPS can be relayed from another server".to_owned());
    }
    if service.certificate && https && config.tls.client_crl.is_none() {
        found.push("client_crl is not set: certificates that were revoked still log on".to_owned());
    }
    if service.credssp {
        found.push(
            "CredSSP is true: clients hand over their passwords, which are dropped here; use Negotiate".to_owned(),
        );
        if config.logon.credssp_oldest_version < 5 {
            found.push(
                "credssp_oldest_version is below 5: logons with CredSSP can be relayed (CVE-2018-0886)".to_owned(),
            );
        }
    }
    if config.logon.lockout_after == 0 {
        found.push("lockout_after is 0: passwords can be guessed without end".to_owned());
    }
    if config.logon.delay_after == 0 || config.logon.delay.is_zero() || config.logon.delay_limit.is_zero() {
        found.push("wrong passwords are answered without delay: see delay_after and delay_ms".to_owned());
    }
    // A file that cannot be read is reported by whoever needs it.
    if config.logon.pam_service.is_none()
        && UsersFile::load(&config.users_file).is_ok_and(|users| users.anyone_is_by_host())
    {
        found.push("pam_service is not set: users whose password the host checks cannot log on".to_owned());
    }
    found.extend(readable_by_others(&config.users_file, "hashes of passwords"));
    if let Some(keytab) = &config.kerberos.keytab {
        found.extend(readable_by_others(keytab, "keys of Kerberos"));
    }
    if let Some((_, key)) = &config.tls.files {
        found.extend(readable_by_others(key, "the private key of the certificate"));
    }
    if let Some(authorities) = &config.tls.client_ca {
        found.extend(writable_by_others(authorities));
    }
    found
}

/// A sentence when CredSSP is on, of which the certificate keeps some clients out.
pub(super) fn of_certificate(config: &Config, certificate: &CertificateInfo) -> Option<String> {
    (config.service.credssp && !certificate.has_rsa_key).then(|| {
        "the key of the certificate is not one of RSA, and clients written in Python cannot log on with CredSSP: set \
         certificate and key in [tls] to one with an RSA key"
            .to_owned()
    })
}

/// A file that is not there, or cannot be looked at, is reported by whoever needs it.
fn readable_by_others(file: &Path, what: &str) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode();
    (mode & 0o007 != 0).then(|| format!("{} holds {what} and other users can get at it: chmod o-rwx", file.display()))
}

/// Whoever can write the authorities can make a certificate for every user.
fn writable_by_others(file: &Path) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode();
    (mode & 0o002 != 0)
        .then(|| format!("{} says whose certificates count and other users can write it: chmod o-w", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(text: &str) -> String {
        of(&Config::parse(Path::new("/nonexistent/wsnapd.toml"), text).unwrap()).join("\n")
    }

    #[test]
    fn each_unsafe_setting_is_told() {
        assert_eq!(warnings(""), "");
        for (text, told) in [
            ("[service]\nAllowUnencrypted = true", "AllowUnencrypted and Basic are true"),
            ("[service]\nAllowUnencrypted = true\nBasic = false", "AllowUnencrypted is true"),
            ("[service]\nCbtHardeningLevel = \"None\"", "CbtHardeningLevel is None"),
            ("[[listener]]\naddress = \"0.0.0.0:5985\"\ntransport = \"http\"", "0.0.0.0:5985 takes plain HTTP"),
            ("[service]\nCertificate = true\n[tls]\nclient_ca = \"ca.pem\"", "client_crl is not set"),
            ("[service]\nCredSSP = true", "CredSSP is true"),
            ("[service]\nCredSSP = true\n[logon]\ncredssp_oldest_version = 2", "CVE-2018-0886"),
            ("[logon]\nlockout_after = 0", "lockout_after is 0"),
            ("[logon]\ndelay_ms = 0", "without delay"),
        ] {
            assert!(warnings(text).contains(told), "{text}: {}", warnings(text));
        }
        let https = "[service]\nAllowUnencrypted = true\n[[listener]]\naddress = \"0.0.0.0:5986\"";
        assert_eq!(warnings(https), "", "there is no plain HTTP");
    }

    #[test]
    fn a_certificate_that_keeps_clients_of_credssp_out_is_told() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/server.pem");
        let given = CertificateInfo::read(&file).unwrap();
        for (text, has_rsa_key, told) in
            [("[service]\nCredSSP = true", false, true), ("[service]\nCredSSP = true", true, false), ("", false, false)]
        {
            let config = Config::parse(Path::new("/nonexistent/wsnapd.toml"), text).unwrap();
            let certificate = CertificateInfo { has_rsa_key, ..given.clone() };
            assert_eq!(of_certificate(&config, &certificate).is_some(), told, "{text} {has_rsa_key}");
        }
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("own.pem");
        fs::write(&file, made.cert.pem()).unwrap();
        assert!(!CertificateInfo::read(&file).unwrap().has_rsa_key, "the kind that is made here");
    }

    #[test]
    fn a_password_file_for_everybody_is_told() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("users");
        fs::write(&file, "").unwrap();
        for (mode, told) in [(0o600, false), (0o640, false), (0o644, true)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(readable_by_others(&file, "x").is_some(), told, "{mode:o}");
            assert_eq!(writable_by_others(&file), None, "{mode:o}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(writable_by_others(&file).is_some());
    }
}
