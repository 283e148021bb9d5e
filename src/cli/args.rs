//! What the command line looks like.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::access::Role;
use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the server, or failed
  2  the command line is wrong
  3  the server cannot be reached or is not trusted
  4  user name or password is wrong, or not taken in clear text
  5  what was named does not exist, or the name fits several";

/// A WS-Management (WinRM) endpoint for snapshots of virtual machines and volumes.
#[derive(Debug, Parser)]
#[command(name = "wsnapd", version, after_help = EXIT_CODES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve what the configuration names
    Serve(ServeArgs),
    /// Serve two machines and two volumes that are made for trying it out
    Demo(DemoArgs),
    /// Users who may log on with a password
    #[command(subcommand)]
    User(UserCommand),
    /// The certificate of the HTTPS listener
    #[command(subcommand)]
    Cert(CertCommand),
    /// The configuration file
    Config(ConfigArgs),
    /// MOF files
    Mof(MofArgs),
    /// Virtual machines of a server
    Vm(RemoteArgs<VmCommand>),
    /// Snapshots of virtual machines of a server
    Snapshot(RemoteArgs<SnapshotCommand>),
    /// Reference points of virtual machines of a server, from which changes are tracked
    ReferencePoint(RemoteArgs<ReferencePointCommand>),
    /// Storage volumes of a server
    Volume(RemoteArgs<VolumeCommand>),
    /// Jobs of a server
    Job(RemoteArgs<JobCommand>),
    /// Put any WS-Management server to the rows of the conformance checklist
    Conformance(ConformanceArgs),
}

#[derive(Debug, Args)]
pub(super) struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_CONFIG_FILE)]
    pub(super) config: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wsnapd serve\n  wsnapd serve --config ./wsnapd.toml --log debug")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// What is logged, in place of the configuration's filter: `debug`, `info,wsnapd::transport=debug`
    #[arg(long, value_name = "FILTER")]
    pub(super) log: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wsnapd demo\n  \
    wsnapd demo --data-dir ./demo --http 127.0.0.1:0 --https 127.0.0.1:0 --no-tour --ready-file ready.json")]
pub(super) struct DemoArgs {
    /// Where machines, volumes and snapshots are kept [default: below the user's state directory]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// The address for HTTP; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5985")]
    pub(super) http: SocketAddr,
    /// The address for HTTPS; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5986")]
    pub(super) https: SocketAddr,
    /// The user who may log on
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub(super) user: String,
    /// The file whose first line is that user's password [default: a random one is made and printed]
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// Write addresses, user and process id to this file (JSON) once it listens
    #[arg(long, value_name = "FILE")]
    pub(super) ready_file: Option<PathBuf>,
    /// Serve only, without showing anything
    #[arg(long)]
    pub(super) no_tour: bool,
    /// Leave the machines off, also where QEMU is installed
    #[arg(long)]
    pub(super) no_qemu: bool,
    /// No Basic and no clear text over HTTP; other addresses than the loopback are allowed then
    #[arg(long)]
    pub(super) strict: bool,
    /// What is logged
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub(super) log: String,
}

/// Which password file is meant.
#[derive(Debug, Args)]
pub(super) struct UsersFileArgs {
    /// The password file [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    pub(super) users_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) file: ConfigFile,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(super) struct UserArgs {
    /// The user name; upper and lower case are the same. With a realm, as in alice@EXAMPLE.TEST, it is a principal
    /// of Kerberos, who has no password here
    pub(super) name: String,
    /// The file whose first line is the password [default: ask for it]
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// No password: the user logs on with certificates only
    #[arg(long, conflicts_with_all = ["password_file", "ntlm"])]
    pub(super) no_password: bool,
    /// The host checks the password, with PAM: the user is an account of the host
    #[arg(long, conflicts_with_all = ["password_file", "ntlm", "no_password"])]
    pub(super) pam: bool,
    /// Let the user log on with NTLM too: stores the NT hash, which is as good as the password
    #[arg(long)]
    pub(super) ntlm: bool,
    /// Let the user log on with NTLM no more [default: as before]
    #[arg(long, conflicts_with = "ntlm")]
    pub(super) no_ntlm: bool,
    #[command(flatten)]
    pub(super) users: UsersFileArgs,
}

#[derive(Debug, Args)]
pub(super) struct RightsArgs {
    /// What the user may do: `reader` looks, `operator` takes snapshots as well, `administrator` everything
    /// [default: administrator for a new user, else as before]
    #[arg(long, value_name = "ROLE")]
    pub(super) role: Option<Role>,
    /// Limit the user to machines, collections or pools whose names fit; several add up [default: no limit for a
    /// new user, else as before]
    #[arg(long, value_name = "KIND=PATTERN")]
    pub(super) scope: Vec<String>,
    /// Let certificates log on as this user: `upn=NAME`, `email=ADDRESS`, `dns=NAME` of the alternative names,
    /// `subject=CN=…,O=…`, `thumbprint=HEX`, or `file=PATH` for the certificate in a file; several add up [default:
    /// none for a new user, else as before]
    #[arg(long, value_name = "KIND=VALUE")]
    pub(super) cert: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Let a new user log on
    #[command(after_help = "Examples:\n  wsnapd user add alice\n  wsnapd user add bob --ntlm --role operator\n  \
        wsnapd user add carol --role reader --scope 'machine=web*' --scope pool=pool1\n  \
        wsnapd user add backup --no-password --cert upn=backup@example.test\n  \
        wsnapd user add erin --pam --role reader\n  \
        wsnapd user add dave@EXAMPLE.TEST --role operator")]
    Add {
        #[command(flatten)]
        user: UserArgs,
        #[command(flatten)]
        rights: RightsArgs,
    },
    /// Change what a user may do; the password stays. A running server sees it within a second
    #[command(after_help = "Examples:\n  wsnapd user set bob --role reader\n  \
        wsnapd user set bob --scope 'machine=web*' --scope collection=shop\n  wsnapd user set bob --no-scope\n  \
        wsnapd user set bob --cert file=bob.pem")]
    Set {
        /// The user name
        name: String,
        #[command(flatten)]
        rights: RightsArgs,
        /// Take the limits off
        #[arg(long, conflicts_with = "scope")]
        no_scope: bool,
        /// Let no certificates log on as this user
        #[arg(long, conflicts_with = "cert")]
        no_cert: bool,
        #[command(flatten)]
        users: UsersFileArgs,
    },
    /// Give a user another password
    Passwd(UserArgs),
    /// Let a user log on no more
    Remove {
        /// The user name
        name: String,
        #[command(flatten)]
        users: UsersFileArgs,
    },
    /// Show who may log on
    List(UsersFileArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// Show names, dates and fingerprints of the certificate
    Show(ConfigFile),
    /// Write the certificate for clients
    #[command(
        after_help = "Examples:\n  wsnapd cert export wsnapd.cer          (for Windows, to import as a trusted root)\n  \
        wsnapd cert export --pem wsnapd.pem    (for curl, Python and `wsnapd --ca`)"
    )]
    Export {
        /// The file to write; binary (DER) form, which Windows calls .cer
        file: PathBuf,
        /// Write PEM form
        #[arg(long)]
        pem: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Make a new self-signed certificate; clients have to trust it anew. A running server reads it within seconds
    Renew(ConfigFile),
    /// Print the fingerprints of a certificate: SHA-1, which Windows calls the thumbprint, and SHA-256
    #[command(after_help = "Examples:\n  wsnapd cert fingerprint\n  wsnapd cert fingerprint alice.pem")]
    Fingerprint {
        /// The file, in PEM or DER form [default: the certificate of the HTTPS listener]
        file: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Tell how Windows, Linux and programs are made to trust the certificate
    Trust(ConfigFile),
}

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Report every mistake in the configuration and the machine definitions
    Check(ConfigFile),
}

#[derive(Debug, Args)]
pub(super) struct MofArgs {
    #[command(subcommand)]
    pub(super) command: MofCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum MofCommand {
    /// Compile MOF files and report every mistake; directories are searched for `*.mof`
    #[command(after_help = "Example:\n  wsnapd mof check my-classes.mof")]
    Check {
        /// Files and directories
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
}

/// The forms of a report.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ReportFormat {
    /// A line for each row
    Table,
    /// Everything that was sent and came
    Json,
    /// XML in the form of `JUnit`
    Junit,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wsnapd conformance --url https://host:5986/wsman --user admin \
    --password-file pw --ca wsnapd.pem\n  wsnapd conformance --rule C025 --rule C026 --format json\n\n\
    The exit code is 0 when no row fails. docs/conformance.md tells how to read the rest.")]
pub(super) struct ConformanceArgs {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    /// Try this row only (C001 to C187); may be repeated
    #[arg(long = "rule", value_name = "ROW")]
    pub(super) rules: Vec<String>,
    /// The form of the report
    #[arg(long, value_enum, default_value = "table")]
    pub(super) format: ReportFormat,
    /// What to know of the server (TOML) [default: what fits `wsnapd demo`]
    #[arg(long, value_name = "FILE")]
    pub(super) profile: Option<PathBuf>,
}

/// Which server, and as whom.
#[derive(Clone, Debug, Args)]
pub(super) struct ConnectionArgs {
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "The server [default: $WSNAPD_URL, else https://127.0.0.1:5986/wsman]"
    )]
    pub(super) url: Option<String>,
    #[arg(long, global = true, value_name = "NAME", help = "The user [default: $WSNAPD_USER, else admin]")]
    pub(super) user: Option<String>,
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "The file whose first line is the password [default: $WSNAPD_PASSWORD_FILE, else ask for it]"
    )]
    pub(super) password_file: Option<PathBuf>,
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "The certificate to trust, in PEM form [default: $WSNAPD_CA]"
    )]
    pub(super) ca: Option<PathBuf>,
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        conflicts_with_all = ["user", "password_file"],
        help = "Log on with this certificate, in PEM form, in place of user and password"
    )]
    pub(super) cert: Option<PathBuf>,
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        requires = "cert",
        help = "The private key of the certificate [default: in the file of the certificate]"
    )]
    pub(super) key: Option<PathBuf>,
}

/// A command for a server.
#[derive(Debug, Args)]
pub(super) struct RemoteArgs<C: Subcommand> {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    #[command(subcommand)]
    pub(super) command: C,
}

#[derive(Debug, Subcommand)]
pub(super) enum VmCommand {
    /// Show the machines
    #[command(after_help = "Example:\n  wsnapd vm list --url https://host:5986/wsman --user admin --ca wsnapd.pem")]
    List,
    /// Start a machine
    Start {
        /// Name or GUID
        machine: String,
    },
    /// Switch a machine off
    Stop {
        /// Name or GUID
        machine: String,
    },
}

/// The kinds of snapshots.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum SnapshotKind {
    /// Disks, and memory when the machine runs
    Full,
    /// Disks only
    Disk,
    /// For backup: consistent disks
    Recovery,
}

#[derive(Debug, Subcommand)]
pub(super) enum SnapshotCommand {
    /// Take a snapshot and wait for it
    #[command(after_help = "Examples:\n  wsnapd snapshot create web01 --name \"before the update\"\n  \
        wsnapd snapshot create shop --collection")]
    Create {
        /// Name or GUID of the machine
        machine: String,
        /// The name of the snapshot
        #[arg(long)]
        name: Option<String>,
        /// The kind of snapshot
        #[arg(long = "type", value_enum, default_value = "full")]
        kind: SnapshotKind,
        /// The name is that of a collection: take one of all its machines at once
        #[arg(long, conflicts_with = "name")]
        collection: bool,
    },
    /// Show the snapshots of a machine, or of all
    List {
        /// Name or GUID
        machine: Option<String>,
    },
    /// Draw the snapshots of a machine, or of all, as a tree
    Tree {
        /// Name or GUID
        machine: Option<String>,
    },
    /// Bring a machine back to a snapshot
    Apply {
        /// Name or GUID of the machine
        machine: String,
        /// Name or GUID of the snapshot
        snapshot: String,
    },
    /// Destroy a snapshot; what the machine is now stays
    Destroy {
        /// Name or GUID of the machine
        machine: String,
        /// Name or GUID of the snapshot
        snapshot: String,
        /// And all snapshots below it
        #[arg(long)]
        tree: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ReferencePointCommand {
    /// Show the reference points of a machine, or of all
    List {
        /// Name or GUID
        machine: Option<String>,
    },
    /// Destroy a reference point: the next backup of the machine has no changes to go by
    Destroy {
        /// Name or GUID of the machine
        machine: String,
        /// GUID of the reference point
        point: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum VolumeCommand {
    /// Show the volumes
    List,
    /// Take a snapshot of a volume and wait for it
    #[command(after_help = "Example:\n  wsnapd volume snapshot vol1 --name vol1-monday")]
    Snapshot {
        /// Name or object id
        volume: String,
        /// The name of the new volume
        #[arg(long)]
        name: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// Show the jobs
    List,
    /// Wait for a job
    Wait {
        /// The id, as `job list` shows it
        id: String,
    },
    /// Cancel a job
    Cancel {
        /// The id, as `job list` shows it
        id: String,
    },
}
