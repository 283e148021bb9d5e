//! The demo: machines, volumes and a configuration in a directory of the user's own.
//!
//! What is there from an earlier run stays, disks and snapshots included. The configuration is an
//! ordinary one, so `wsnapd serve --config DIR/wsnapd.toml` serves the same machines.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::config::{Config, ListenerConfig, Protocol, state_dir};
use crate::time::IdSource;
use crate::transport::auth::{NtHash, User, UsersError, UsersFile, hash_password};
use crate::transport::private_file;

use super::compose::Running;
use super::demo_guest::{self, qemu_is_installed};
use super::demo_power::{self, StartedMachine};
use super::error::AppError;
use super::kerberos::enter_environment;
use super::run::{Signals, keep_memory_private};
use super::sources::RandomIds;

/// The length of a machine's disk.
const DISK_BYTES: u64 = 64 << 20;
/// The memory of a machine that runs.
const QEMU_MEMORY_MB: u64 = 64;
/// The length of a volume.
const VOLUME_BYTES: u64 = 32 << 20;
/// How far apart the pieces of content lie; between them the files are sparse.
const PIECE_EVERY: u64 = 8 << 20;
/// How long each piece is.
const PIECE_BYTES: usize = 256 << 10;

/// What the demo is asked for.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where everything lies; below the user's state directory when left out.
    pub data_dir: Option<PathBuf>,
    /// The address for HTTP.
    pub http: SocketAddr,
    /// The address for HTTPS.
    pub https: SocketAddr,
    /// The user who may log on.
    pub user: String,
    /// The file with that user's password; one is made when left out.
    pub password_file: Option<PathBuf>,
    /// No Basic and no clear text over HTTP.
    pub strict: bool,
    /// Run the machines with QEMU where it is installed.
    pub qemu: bool,
}

/// A demo that serves.
#[derive(Debug)]
pub struct Demo {
    /// The server.
    pub running: Running,
    /// The directory with everything.
    pub data_dir: PathBuf,
    /// The user who may log on.
    pub user: String,
    /// The file with that user's password.
    pub password_file: PathBuf,
    /// The password.
    pub password: Zeroizing<String>,
    /// Whether the password was made up here and must be told.
    pub password_made: bool,
    /// The machines that run.
    pub started: Vec<StartedMachine>,
    /// Why others do not, a sentence each.
    pub not_started: Vec<String>,
}

/// What a script needs to know, as `--ready-file` has it.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    http_url: String,
    https_url: String,
    user: &'a str,
    password_file: &'a Path,
    ca_file: &'a Path,
    pid: u32,
}

impl Demo {
    /// Prepares the directory and begins to serve.
    ///
    /// # Errors
    /// An [`AppError`] that names what cannot be prepared or opened.
    pub async fn start(options: DemoOptions) -> Result<Self, AppError> {
        for address in [options.http, options.https] {
            if !options.strict && !address.ip().is_loopback() {
                return Err(AppError::NotLoopback(address));
            }
        }
        let data_dir = match options.data_dir {
            Some(directory) => std::path::absolute(&directory).map_err(|error| AppError::Read(directory, error))?,
            None => state_dir().ok_or(AppError::NoStateDirectory)?.join("demo"),
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&data_dir)
            .map_err(|error| AppError::Write(data_dir.clone(), error))?;
        let (password_file, password, password_made) = password(&data_dir, options.password_file)?;
        prepare(&data_dir, options.qemu && qemu_is_installed())?;
        let mut config = Config::load(&data_dir.join("wsnapd.toml"))?;
        enter_environment(&config)?;
        keep_memory_private()?;
        admit(&config.users_file, &options.user, &password)?;
        config.listeners = vec![
            ListenerConfig { address: options.http, protocol: Protocol::Http },
            ListenerConfig { address: options.https, protocol: Protocol::Https },
        ];
        config.service.allow_unencrypted = !options.strict;
        if !options.strict && config.events.push_hosts.is_empty() {
            // Whoever tries events here has his sink on this host.
            config.events.push_hosts = ["127.0.0.1", "localhost"].map(str::to_owned).to_vec();
        }
        let running = Running::start(&config).await?;
        let (mut started, mut not_started) = (Vec::new(), Vec::new());
        if options.qemu && config.backend.kind == "qemu" {
            (started, not_started) = demo_power::start(running.engine()).await;
        }
        let user = options.user;
        Ok(Self { running, data_dir, user, password_file, password, password_made, started, not_started })
    }

    /// Serves until the process is told to stop, then turns the machines off that run, and stops in good order.
    ///
    /// # Errors
    /// When another server has taken over the data directory.
    pub async fn run_until_signal(self, signals: Signals) -> Result<(), AppError> {
        let result = self.running.wait_for_signal(signals).await;
        if result.is_ok() {
            demo_power::stop(self.running.engine(), &self.started).await;
        }
        self.running.stop().await;
        result
    }

    /// The file that a machine counts in, if there is one.
    #[must_use]
    pub fn serial_of(&self, machine: &StartedMachine) -> PathBuf {
        self.data_dir.join(serial_name(&machine.name))
    }

    /// The URL of a protocol.
    #[must_use]
    pub fn url(&self, protocol: Protocol) -> String {
        self.running.url(protocol).unwrap_or_default()
    }

    /// Writes what a script needs to know, in one step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_ready_file(&self, file: &Path) -> Result<(), AppError> {
        let ready = Ready {
            http_url: self.url(Protocol::Http),
            https_url: self.url(Protocol::Https),
            user: &self.user,
            password_file: &self.password_file,
            ca_file: self.running.certificate(),
            pid: std::process::id(),
        };
        let failed = |error| AppError::Write(file.to_owned(), error);
        let text = serde_json::to_string_pretty(&ready).map_err(|error| failed(error.into()))?;
        private_file::replace(file, (text + "\n").as_bytes()).map_err(failed)
    }
}

/// The password of a file, of an earlier run, or a new one, with the file it is in.
fn password(data_dir: &Path, given: Option<PathBuf>) -> Result<(PathBuf, Zeroizing<String>, bool), AppError> {
    let made = given.is_none();
    let file = match given {
        Some(file) => std::path::absolute(&file).map_err(|error| AppError::Read(file, error))?,
        None => data_dir.join("password"),
    };
    if made && !file.exists() {
        let mut bytes = Zeroizing::new([0_u8; 15]);
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), bytes.as_mut())
            .map_err(|ring::error::Unspecified| AppError::System(io::Error::other("no random numbers")))?;
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()) + "\n");
        private_file::replace(&file, text.as_bytes()).map_err(|error| AppError::Write(file.clone(), error))?;
    }
    let password = read_password_file(&file)?;
    Ok((file, password, made))
}

/// The first line of a password file.
///
/// # Errors
/// When the file cannot be read.
pub fn read_password_file(file: &Path) -> Result<Zeroizing<String>, AppError> {
    let text = fs::read_to_string(file).map(Zeroizing::new).map_err(|error| AppError::Read(file.to_owned(), error))?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// Lets a user log on with a password, by Basic and by NTLM.
fn admit(users_file: &Path, user: &str, password: &str) -> Result<(), AppError> {
    let mut users = match UsersFile::load(users_file) {
        Err(UsersError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => UsersFile::default(),
        loaded => loaded?,
    };
    let hash = hash_password(password.as_bytes())?;
    users.set(User::new(user, hash)?.with_ntlm(NtHash::of_password(password)));
    Ok(users.save(users_file)?)
}

/// Where a machine prints what it counts, in the data directory.
fn serial_name(machine: &str) -> String {
    format!("{machine}.serial")
}

/// Makes what is not there yet: disks, volumes, and last the configuration that names them.
fn prepare(data_dir: &Path, with_qemu: bool) -> Result<(), AppError> {
    let write =
        |path: &Path, text: &str| fs::write(path, text).map_err(|error| AppError::Write(path.to_owned(), error));
    for name in ["disks", "machines.d", "pool1"] {
        let directory = data_dir.join(name);
        fs::create_dir_all(&directory).map_err(|error| AppError::Write(directory, error))?;
    }
    for volume in ["vol1", "vol2"] {
        content(&data_dir.join("pool1").join(volume), VOLUME_BYTES, volume)?;
    }
    // Whether QEMU runs the machines was decided when the directory was made.
    let config = data_dir.join("wsnapd.toml");
    let with_qemu = with_qemu && !config.exists();
    for (machine, notes, disks) in [
        ("web01", "The web server of the shop", &["system"][..]),
        ("db01", "The database of the shop, on two disks", &["system", "data"]),
    ] {
        let definition = data_dir.join("machines.d").join(format!("{machine}.toml"));
        if !definition.exists() {
            let id = RandomIds.new_guid();
            let mut text = format!("id = \"{id}\"\nname = \"{machine}\"\nnotes = \"{notes}\"\n");
            if with_qemu {
                let serial = serial_name(machine);
                write!(text, "memory_mb = {QEMU_MEMORY_MB}\n\n[qemu]\nserial = \"../{serial}\"\n").ok();
            }
            for name in disks {
                text += &disk(data_dir, machine, name, with_qemu)?;
            }
            write(&definition, &text)?;
        }
    }
    if !config.exists() {
        let id = RandomIds.new_guid();
        // Its tiny guest needs no KVM, and is the same everywhere without.
        let backend =
            if with_qemu { "[backend]\nkind = \"qemu\"\n\n[backend.qemu]\naccelerator = \"tcg\"\n\n" } else { "" };
        let text = format!(
            "# Written by `wsnapd demo`.\n\
             data_dir = \"state\"\n\
             users_file = \"users\"\n\n\
             {backend}[[pool]]\nname = \"pool1\"\npath = \"pool1\"\n\n\
             [[collection]]\nname = \"shop\"\nid = \"{id}\"\nmembers = [\"web01\", \"db01\"]\n"
        );
        write(&config, &text)?;
    }
    Ok(())
}

/// Makes a disk if it is not there; gives its part of the machine's definition.
fn disk(data_dir: &Path, machine: &str, name: &str, with_qemu: bool) -> Result<String, AppError> {
    let raw = data_dir.join("disks").join(format!("{machine}-{name}.img"));
    let owner = format!("{machine}/{name}");
    if !with_qemu {
        content(&raw, DISK_BYTES, &owner)?;
        return Ok(format!("\n[[disk]]\nname = \"{name}\"\npath = \"../disks/{machine}-{name}.img\"\n"));
    }
    let path = raw.with_extension("qcow2");
    if !path.exists() {
        content(&raw, DISK_BYTES, &owner)?;
        demo_guest::make_disk(&raw, &path).map_err(|error| AppError::Write(path.clone(), error))?;
    }
    let file = format!("../disks/{machine}-{name}.qcow2");
    Ok(format!("\n[[disk]]\nname = \"{name}\"\npath = \"{file}\"\nformat = \"qcow2\"\n"))
}

/// Makes a sparse file with pieces of text that say whose it is and where they lie.
fn content(path: &Path, length: u64, owner: &str) -> Result<(), AppError> {
    if path.exists() {
        return Ok(());
    }
    let fill = || {
        // Under another name until it is whole.
        let unfinished = path.with_extension("new");
        let file = File::create(&unfinished)?;
        file.set_len(length)?;
        let mut at = 0;
        while at < length {
            let line = format!("wsnapd demo, {owner}, byte {at}\n");
            let piece = line.repeat(PIECE_BYTES / line.len());
            file.write_all_at(piece.as_bytes(), at)?;
            at += PIECE_EVERY;
        }
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    fill().map_err(|error| AppError::Write(path.to_owned(), error))
}
