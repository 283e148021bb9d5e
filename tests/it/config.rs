//! The configuration: what is reported, and that its documentation is complete.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use wsnapd::config::{Config, KEYS, Key, Kind, Protocol};

fn diagnostics(text: &str) -> Vec<String> {
    let file = Path::new("/etc/wsnapd/wsnapd.toml");
    Config::parse(file, text)
        .err()
        .map(|error| error.0.iter().map(|one| one.to_string().replace("/etc/wsnapd/wsnapd.toml", "F")).collect())
        .unwrap_or_default()
}

#[test]
fn an_empty_file_means_the_documented_defaults() {
    let config = Config::parse(Path::new("/etc/wsnapd/wsnapd.toml"), "").unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/wsnapd"));
    assert_eq!(config.users_file, Path::new("/var/lib/wsnapd/users"));
    assert!(config.listeners.iter().all(|listener| listener.address.ip().is_loopback()), "safe by default");
    assert!(!config.service.allow_unencrypted);
    assert_eq!(config.service.max_envelope_size_kb, 500);
    assert_eq!(config.service.max_timeout, Duration::from_secs(60));
    assert_eq!(config.service.max_connections, 300);
    assert_eq!(config.jobs.retention, Duration::from_secs(300));
    assert_eq!(Config::default().service, config.service);
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    let text = "\
data_dir = 5
surprise = true

[[listener]]
address = \"localhost\"
transport = \"ftp\"

[service]
maxconnections = 5
MaxEnvelopeSizekb = 8
Basic = \"yes\"

[tls]
certificate = \"a.pem\"

[backend]
kind = \"magic\"

[[pool]]
name = \"p\"

[[pool]]
name = \"p\"
path = \"x\"

[[collection]]
name = \"c\"
id = \"nonsense\"
members = [\"nobody\"]

[log]
filter = \"a=b=c\"
";
    let found = diagnostics(text);
    let expected = [
        "F:1:12: data_dir is a text in quotes, not an integer",
        "F:2:1: unknown key surprise; known are ",
        "F:5:11: address is \"address:port\"",
        "F:6:13: transport is one of http, https",
        "F:9:1: unknown key maxconnections; did you mean MaxConnections?",
        "F:10:21: MaxEnvelopeSizekb is a whole number from 32 to 1039440",
        "F:11:9: Basic is true or false",
        "F:14:15: certificate needs key",
        "F:17:8: kind is one of files, qemu, simulated",
        "F:19:1: path is missing",
        "F:23:8: there is already a pool named p",
        "F:28:6: id is not a GUID",
        "F:29:11: nobody is neither a machine nor a collection further up",
        "F:32:10: filter is a list as in",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "found    {found}\nexpected {expected}");
    }
}

#[test]
fn syntax_errors_are_reported_with_the_rest() {
    let found = diagnostics("data_dir = \"/x\nhost_name = 7\n");
    assert!(found.len() >= 2, "{found:?}");
    assert!(found[0].starts_with("F:1:"), "{found:?}");
    assert!(found.iter().any(|one| one.starts_with("F:2:13: host_name is a text")), "{found:?}");
}

#[test]
fn machines_come_from_their_directory() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("wsnapd.toml");
    let machines = directory.path().join("machines.d");
    fs::create_dir(&machines).unwrap();
    fs::write(
        machines.join("web01.toml"),
        "id = \"8b2a3f4e-0000-4000-8000-000000000001\"\nname = \"web01\"\n[[disk]]\nname = \"system\"\npath = \"web01.img\"\n",
    )
    .unwrap();
    fs::write(
        machines.join("db01.toml"),
        "id = \"8B2A3F4E-0000-4000-8000-000000000002\"\nname = \"db01\"\nmemory_mb = 2048\n\
         [[disk]]\nname = \"data\"\npath = \"/srv/db01.qcow2\"\nformat = \"qcow2\"\nread_only = true\n",
    )
    .unwrap();
    fs::write(machines.join("notes.txt"), "not a machine").unwrap();
    let text = "[[collection]]\nname = \"shop\"\nid = \"8b2a3f4e-0000-4000-8000-00000000000f\"\n\
                members = [\"web01\", \"8b2a3f4e-0000-4000-8000-000000000002\"]\n\
                [[listener]]\naddress = \"0.0.0.0:0\"\ntransport = \"http\"\n";
    let config = Config::parse(&file, text).unwrap();
    assert_eq!(config.machines.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["db01", "web01"]);
    assert_eq!(config.machines[0].memory_mb, 2048);
    assert!(config.machines[0].disks[0].read_only);
    assert_eq!(config.machines[1].disks[0].path, machines.join("web01.img"), "relative to the machine's file");
    assert_eq!(config.collections[0].members.len(), 2);
    assert_eq!(config.listeners[0].protocol, Protocol::Http);

    let cards = "id = \"8b2a3f4e-0000-4000-8000-000000000003\"\nname = \"net\"\n\
                 [[network]]\nname = \"lan\"\nmac = \"52:54:00:00:00:01\"\nbridge = \"br0\"\n\
                 [[network]]\nname = \"spare\"\nmac = \"52:54:00:00:00:02\"\n";
    fs::write(machines.join("net.toml"), cards).unwrap();
    let config = Config::parse(&file, "").unwrap();
    let networks: Vec<_> = config.machines[1].networks.iter().map(|one| (&*one.name, one.bridge.as_deref())).collect();
    assert_eq!(networks, [("lan", Some("br0")), ("spare", None)]);
    for (change, wanted) in [
        (("00:02", "00:01"), "two network cards have the address 52:54:00:00:00:01"),
        (("spare", "lan"), "two network cards are named lan"),
        (("52:54:00:00:00:02", "5254.0000.0002"), "5254.0000.0002 is no address of a network card; one is written"),
        (("mac = \"52:54:00:00:00:02\"", ""), "mac is missing"),
    ] {
        fs::write(machines.join("net.toml"), cards.replace(change.0, change.1)).unwrap();
        let found = Config::parse(&file, "").unwrap_err().0;
        assert!(found.len() == 1 && found[0].message.starts_with(wanted), "{found:?}");
    }
    fs::remove_file(machines.join("net.toml")).unwrap();

    fs::write(machines.join("zzz.toml"), "id = \"8b2a3f4e-0000-4000-8000-000000000001\"\nname = \"x\"\ncolour = 1\n")
        .unwrap();
    let found = Config::parse(&file, "").unwrap_err().0;
    let found: Vec<String> = found.iter().map(|one| one.message.clone()).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("unknown key colour"), "{found:?}");
    assert_eq!(found[1], "machine x has the id of machine web01");
}

#[test]
fn the_script_of_the_simulated_host_is_checked() {
    let text = "\
[backend]
kind = \"simulated\"

[backend.simulated]
create_ms = -1
speed = 5
running = [\"nobody\"]

[[backend.simulated.failure]]
call = \"explode\"

[[backend.simulated.failure]]
fault = \"boredom\"

[[backend.simulated.failure]]
call = \"apply\"
machine = \"nobody\"
";
    let found = diagnostics(text);
    let expected = [
        "F:5:13: create_ms is a whole number from 0 to 86400000",
        "F:6:1: unknown key speed; known are create_ms",
        "F:7:11: nobody is no machine",
        "F:10:8: call is one of create, apply",
        "F:12:1: call is missing",
        "F:17:11: nobody is no machine",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "found    {found}\nexpected {expected}");
    }
    let found = diagnostics("[backend.simulated]\ncreate_ms = 5\n");
    assert!(found.len() == 1 && found[0].contains("is for kind = \"simulated\""), "{found:?}");
}

/// The row of a key in the documentation: `| key | default | range | …`.
fn documented(key: &Key) -> String {
    let range = match key.kind {
        Kind::Number(least, most) => format!("{least} … {most}"),
        Kind::Flag => "`true`, `false`".to_owned(),
        Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Text => "text".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Address => "address:port".to_owned(),
        Kind::Guid => "GUID".to_owned(),
        Kind::List => "list of texts".to_owned(),
    };
    let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
    format!("| `{}` | {default} | {range} |", key.name).replace("|  |", "| |")
}

#[test]
fn every_key_is_documented_with_its_default_and_range() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap();
    let mut rest = page.as_str();
    for key in KEYS {
        let row = documented(key);
        let Some((_, after)) = rest.split_once(&row) else {
            panic!("docs/configuration.md lacks, or has out of order:\n{row}")
        };
        rest = after;
    }
    let rows = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, KEYS.len(), "docs/configuration.md lists a key that does not exist");
}

#[test]
fn a_keytab_needs_a_program_with_kerberos() {
    let found = diagnostics("[kerberos]\nkeytab = \"krb5.keytab\"\n");
    if cfg!(feature = "kerberos") {
        assert_eq!(found, Vec::<String>::new());
    } else {
        assert!(found.len() == 1 && found[0].contains("F:2:10: this wsnapd was built without Kerberos"), "{found:?}");
    }
    let found = diagnostics("[kerberos]\nservices = [\"HTTP\", \"HTTP/server\"]\n");
    assert!(found.len() == 1 && found[0].contains("is not the name of a service"), "{found:?}");
}

#[test]
fn a_service_of_pam_needs_a_program_with_pam() {
    let found = diagnostics("[logon]\npam_service = \"wsnapd\"\n");
    if cfg!(feature = "pam") {
        assert_eq!(found, Vec::<String>::new());
    } else {
        assert!(found.len() == 1 && found[0].contains("F:2:15: this wsnapd was built without PAM"), "{found:?}");
    }
    for name in ["../shadow", "", ".", "a b", "a\\u0000"] {
        let found = diagnostics(&format!("[logon]\npam_service = \"{name}\"\n"));
        assert!(found.len() == 1 && found[0].contains("is not the name of a file in /etc/pam.d"), "{name:?} {found:?}");
    }
}

#[test]
fn the_packaged_sample_is_right() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/wsnapd.toml");
    Config::load(&file).unwrap();
}

#[test]
fn every_dependency_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let page = fs::read_to_string(root.join("docs/dependencies.md")).unwrap();
    let mut named = std::collections::BTreeSet::new();
    for section in ["dependencies", "dev-dependencies"] {
        for name in manifest[section].as_table().unwrap().keys() {
            assert!(page.contains(&format!("| `{name}` |")), "docs/dependencies.md lacks {name}");
            named.insert(name.clone());
        }
    }
    assert_eq!(page.lines().filter(|line| line.starts_with("| `")).count(), named.len(), "a dependency that is gone");
}
