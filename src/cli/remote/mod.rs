//! The commands that talk to a server over WS-Management.

mod job;
mod names;
mod progress;
mod reference_point;
mod snapshot;
mod tree;
mod vm;
mod volume;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::app::{RandomIds, init_logging, read_password_file, runtime};
use crate::client::{Client, ClientOptions, Trust};
use crate::config::client_setting;

use super::args::{
    ConnectionArgs, JobCommand, ReferencePointCommand, RemoteArgs, SnapshotCommand, VmCommand, VolumeCommand,
};
use super::failure::Failure;
use super::users::ask;

pub(super) use names::{find_collection, find_machine, find_volume, service};
pub(super) use progress::finish;
pub(super) use snapshot::create_arguments;
pub(super) use tree::print_trees;

/// The namespace of machines and their snapshots.
pub(super) const VIRTUALIZATION: &str = "root/virtualization/v2";
/// The namespace of volumes.
pub(super) const STORAGE: &str = "root/Microsoft/Windows/Storage/SM";

const DEFAULT_URL: &str = "https://127.0.0.1:5986/wsman";

pub(super) fn vm(args: RemoteArgs<VmCommand>) -> Result<(), Failure> {
    connected(args.connection, |client| async move { vm::run(&client, args.command).await })
}

pub(super) fn snapshot(args: RemoteArgs<SnapshotCommand>) -> Result<(), Failure> {
    connected(args.connection, |client| async move { snapshot::run(&client, args.command).await })
}

pub(super) fn reference_point(args: RemoteArgs<ReferencePointCommand>) -> Result<(), Failure> {
    connected(args.connection, |client| async move { reference_point::run(&client, args.command).await })
}

pub(super) fn volume(args: RemoteArgs<VolumeCommand>) -> Result<(), Failure> {
    connected(args.connection, |client| async move { volume::run(&client, args.command).await })
}

pub(super) fn job(args: RemoteArgs<JobCommand>) -> Result<(), Failure> {
    connected(args.connection, |client| async move { job::run(&client, args.command).await })
}

fn connected<F: Future<Output = Result<(), Failure>>>(
    args: ConnectionArgs,
    work: impl FnOnce(Client) -> F,
) -> Result<(), Failure> {
    init_logging("warn");
    let client = connect(args)?;
    runtime()?.block_on(Box::pin(work(client)))
}

/// A client by the command line, then the environment, then the defaults.
fn connect(args: ConnectionArgs) -> Result<Client, Failure> {
    Ok(Client::new(&connection_options(args)?, Arc::new(RandomIds))?)
}

/// Where to connect to and as whom: by the command line, then the environment, then the defaults.
pub(super) fn connection_options(args: ConnectionArgs) -> Result<ClientOptions, Failure> {
    let url = args.url.or_else(|| client_setting("WSNAPD_URL")).unwrap_or_else(|| DEFAULT_URL.to_owned());
    let user = args.user.or_else(|| client_setting("WSNAPD_USER")).unwrap_or_else(|| "admin".to_owned());
    let ca = args.ca.or_else(|| client_setting("WSNAPD_CA").map(PathBuf::from));
    if let Some(certificate) = args.cert {
        let key = args.key.unwrap_or_else(|| certificate.clone());
        let mut options = options(&url, &user, "", ca);
        options.certificate = Some((certificate, key));
        return Ok(options);
    }
    let password_file = args.password_file.or_else(|| client_setting("WSNAPD_PASSWORD_FILE").map(PathBuf::from));
    let password = match password_file {
        Some(file) => read_password_file(&file)?,
        None => ask(&format!("Password for {user} at {url}: "))?,
    };
    Ok(options(&url, &user, &password, ca))
}

fn options(url: &str, user: &str, password: &str, ca: Option<PathBuf>) -> ClientOptions {
    let mut options = ClientOptions::new(url, user, password);
    options.trust = ca.map_or(Trust::Nothing, Trust::File);
    options
}

/// A client that trusts the certificates of `ca`.
pub(super) fn client(
    url: &str,
    user: &str,
    password: &Zeroizing<String>,
    ca: Option<PathBuf>,
) -> Result<Client, Failure> {
    Ok(Client::new(&options(url, user, password, ca), Arc::new(RandomIds))?)
}
