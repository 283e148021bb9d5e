//! `wsnapd cert`.

use std::fs;
use std::path::Path;

use crate::app::{AppError, CertificateFiles, CertificateInfo};
use crate::config::Config;

use super::args::CertCommand;
use super::failure::Failure;
use super::output::say;

pub(super) fn run(command: CertCommand) -> Result<(), Failure> {
    match command {
        CertCommand::Show(args) => show(&files(&args.config)?.1),
        CertCommand::Export { file, pem, config } => export(&files(&config.config)?.1, &file, pem),
        CertCommand::Renew(args) => {
            let (config, files) = files(&args.config)?;
            if config.tls.files.is_some() {
                return Err(Failure::failed("the certificate is not one that was made here")
                    .hint("[tls] in the configuration names its files; renew it where it comes from."));
            }
            files.renew(&config)?;
            show(&files)
        }
        CertCommand::Fingerprint { file, config } => {
            let info = match file {
                Some(file) => CertificateInfo::read(&file).map_err(AppError::Certificate)?,
                None => info(&files(&config.config)?.1)?,
            };
            say(format_args!("SHA-1:   {}", info.thumbprint));
            say(format_args!("SHA-256: {}", info.sha256));
            Ok(())
        }
        CertCommand::Trust(args) => trust(&files(&args.config)?.1),
    }
}

fn files(config: &Path) -> Result<(Config, CertificateFiles), Failure> {
    let config = Config::load(config).map_err(AppError::Config)?;
    let files = match &config.tls.files {
        Some((certificate, key)) => CertificateFiles { certificate: certificate.clone(), key: key.clone() },
        None => CertificateFiles::below(&config.data_dir),
    };
    Ok((config, files))
}

fn info(files: &CertificateFiles) -> Result<CertificateInfo, Failure> {
    if !files.certificate.exists() {
        return Err(Failure::not_found(format!("there is no certificate in {}", files.certificate.display()))
            .hint("The server makes it at its first start; `wsnapd cert renew` makes it now."));
    }
    Ok(CertificateInfo::read(&files.certificate).map_err(AppError::Certificate)?)
}

fn show(files: &CertificateFiles) -> Result<(), Failure> {
    let info = info(files)?;
    say(format_args!("File:        {}", files.certificate.display()));
    say(format_args!("Subject:     {}", info.subject));
    say(format_args!("Names:       {}", info.names.join(", ")));
    say(format_args!("Valid from:  {}", info.not_before.format("%Y-%m-%d")));
    say(format_args!("Valid until: {}", info.not_after.format("%Y-%m-%d")));
    say(format_args!("Thumbprint:  {}", info.thumbprint));
    say(format_args!("SHA-256:     {}", info.sha256));
    Ok(())
}

/// How clients come to trust the certificate.
fn trust(files: &CertificateFiles) -> Result<(), Failure> {
    let info = info(files)?;
    let file = files.certificate.display();
    say(format_args!("The certificate is {file}, SHA-1 {}, for {}.", info.thumbprint, info.names.join(", ")));
    say("Compare the SHA-1 with what the client sees before you trust it there.");
    say("");
    say("Windows, as administrator, with wsnapd.cer from `wsnapd cert export wsnapd.cer`:");
    say("  Import-Certificate -FilePath wsnapd.cer -CertStoreLocation Cert:\\LocalMachine\\Root");
    say("Debian and Ubuntu, with wsnapd.pem from `wsnapd cert export --pem wsnapd.pem`:");
    say("  cp wsnapd.pem /usr/local/share/ca-certificates/wsnapd.crt && update-ca-certificates");
    say("Fedora and Red Hat:");
    say("  cp wsnapd.pem /etc/pki/ca-trust/source/anchors/ && update-ca-trust");
    say("One program only:");
    say("  curl --cacert wsnapd.pem …");
    say("  wsnapd vm list --ca wsnapd.pem …");
    say("  pypsrp: WSMan(…, cert_validation=\"wsnapd.pem\")");
    say("  pywinrm: Protocol(…, ca_trust_path=\"wsnapd.pem\")");
    Ok(())
}

fn export(files: &CertificateFiles, file: &Path, pem: bool) -> Result<(), Failure> {
    let info = info(files)?;
    let content = if pem {
        fs::read(&files.certificate).map_err(|error| AppError::Read(files.certificate.clone(), error))?
    } else {
        info.der
    };
    fs::write(file, content).map_err(|error| AppError::Write(file.to_owned(), error))?;
    if !pem {
        say("On Windows, as administrator:");
        say(format_args!(
            "  Import-Certificate -FilePath {} -CertStoreLocation Cert:\\LocalMachine\\Root",
            file.file_name().unwrap_or_default().display()
        ));
    }
    Ok(())
}
