//! The client and the command line against a demo that serves real files.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use wsnapd::app::{Demo, DemoOptions, RandomIds};
use wsnapd::cim::{ClassName, ObjectPath};
use wsnapd::client::{Argument, Client, ClientError, ClientOptions, Trust, job_succeeded};
use wsnapd::config::Protocol;

const STORAGE: &str = "root/Microsoft/Windows/Storage/SM";

async fn demo(directory: &TempDir) -> Demo {
    let options = DemoOptions {
        data_dir: Some(directory.path().to_owned()),
        http: "127.0.0.1:0".parse().unwrap(),
        https: "127.0.0.1:0".parse().unwrap(),
        user: "admin".to_owned(),
        password_file: None,
        strict: false,
        qemu: false,
    };
    Demo::start(options).await.unwrap()
}

fn client(demo: &Demo, protocol: Protocol, password: &str) -> Client {
    let mut options = ClientOptions::new(&demo.url(protocol), "admin", password);
    options.trust = Trust::File(demo.running.certificate().to_owned());
    Client::new(&options, Arc::new(RandomIds)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_found_snapshotted_and_read_back() {
    let directory = TempDir::new().unwrap();
    let demo = demo(&directory).await;
    for protocol in [Protocol::Https, Protocol::Http] {
        let client = client(&demo, protocol, &demo.password);
        assert_eq!(client.identify(false).await.unwrap().product_vendor, "wsnapd");

        let volumes = client.enumerate(STORAGE, "MSFT_SMStorageVolume", None).await.unwrap();
        let volume = volumes.iter().find(|one| one.text("DisplayName") == Some("vol1")).unwrap();
        assert_eq!(volume.number("NumberOfBlocks").unwrap() * volume.number("BlockSize").unwrap(), 32 << 20);
        let path = volume.path.clone().unwrap();
        assert_eq!(client.get(&path).await.unwrap().instance, volume.instance);

        let name = format!("copy-{protocol:?}");
        let output = client.invoke(&path, "CreateSnapshot", &[("ElementName", Argument::Text(&name))]).await.unwrap();
        assert_eq!(output.return_value(), Some(4096));
        let job = output.reference("Job").unwrap();
        let mut seen = Vec::new();
        let ended = client.wait_for_job(&job, |progress| seen.push(progress.percent)).await.unwrap();
        assert!(job_succeeded(&ended), "{ended:?}");
        assert!(seen.is_sorted() && seen.last() == Some(&100), "{seen:?}");

        let wql = format!("SELECT * FROM MSFT_SMStorageVolume WHERE DisplayName = '{name}'");
        let found = client.enumerate(STORAGE, "MSFT_SMStorageVolume", Some(&wql)).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].text("IsSnapshot"), Some("true"));
        let file = format!("vol1.{}.snapshot", found[0].text("ObjectId").unwrap());
        let of = |name: &str| fs::read(directory.path().join("pool1").join(name)).unwrap();
        assert_eq!(of("vol1"), of(&file), "the bytes prove it");
    }
    demo.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_comes_or_goes_is_noticed_without_a_restart() {
    let directory = TempDir::new().unwrap();
    let demo = demo(&directory).await;
    let client = client(&demo, Protocol::Http, &demo.password);
    let file = directory.path().join("pool1/vol3");
    for there in [true, false] {
        if there {
            fs::write(&file, "new").unwrap();
        } else {
            fs::remove_file(&file).unwrap();
        }
        let begun = Instant::now();
        loop {
            let volumes = client.enumerate(STORAGE, "MSFT_SMStorageVolume", None).await.unwrap();
            if volumes.iter().any(|volume| volume.text("DisplayName") == Some("vol3")) == there {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "still not seen: there = {there}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    demo.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_and_refusals_are_told_apart() {
    let directory = TempDir::new().unwrap();
    let demo = demo(&directory).await;
    let right = client(&demo, Protocol::Https, &demo.password);

    let nowhere = right.enumerate("root/nowhere", "CIM_Thing", None).await.unwrap_err();
    assert!(matches!(&nowhere, ClientError::Fault(fault) if !fault.reason.is_empty()), "{nowhere:?}");
    let gone = ObjectPath::new(STORAGE, ClassName::new("MSFT_SMStorageVolume")).with_key("ObjectId", "gone");
    let gone = right.get(&gone).await.unwrap_err();
    assert!(matches!(&gone, ClientError::Fault(fault) if fault.code == "DestinationUnreachable"), "{gone:?}");

    let wrong = client(&demo, Protocol::Https, "wrong");
    assert!(matches!(wrong.identify(false).await, Err(ClientError::Unauthorized)));
    assert!(wrong.identify(true).await.is_ok(), "Identify needs no credentials");

    let mut distrustful = ClientOptions::new(&demo.url(Protocol::Https), "admin", &demo.password);
    distrustful.trust = Trust::Nothing;
    let distrustful = Client::new(&distrustful, Arc::new(RandomIds)).unwrap();
    assert!(matches!(distrustful.identify(false).await, Err(ClientError::Tls(..))));
    for url in ["host", "ftp://host/", "https://"] {
        let client = Client::new(&ClientOptions::new(url, "admin", "x"), Arc::new(RandomIds));
        assert!(matches!(client, Err(ClientError::Url(_))), "{url}");
    }
    demo.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_of_the_same_directory_has_what_was_there() {
    let directory = TempDir::new().unwrap();
    let first = demo(&directory).await;
    let password = first.password.clone();
    let certificate = fs::read(first.running.certificate()).unwrap();
    let disk = directory.path().join("disks/web01-system.img");
    assert!(fs::read(&disk).unwrap().starts_with(b"wsnapd demo, web01/system, byte 0\n"));
    fs::write(&disk, "changed by a guest").unwrap();
    let machines = fs::read(directory.path().join("machines.d/db01.toml")).unwrap();
    assert_eq!(String::from_utf8_lossy(&machines).matches("[[disk]]").count(), 2);
    first.running.stop().await;

    let second = demo(&directory).await;
    assert_eq!(second.password, password);
    assert_eq!(fs::read(second.running.certificate()).unwrap(), certificate);
    assert_eq!(fs::read(&disk).unwrap(), b"changed by a guest");
    assert_eq!(fs::read(directory.path().join("machines.d/db01.toml")).unwrap(), machines);
    second.running.stop().await;
}

/// A demo as a process, ended when it goes out of scope.
struct Process {
    child: Child,
    ready: Value,
}

impl Process {
    fn start(directory: &Path, more: &[&str]) -> Self {
        let ready_file = directory.join("ready.json");
        let child = Command::new(env!("CARGO_BIN_EXE_wsnapd"))
            .args(["demo", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--no-tour", "--no-qemu", "--data-dir"])
            .arg(directory.join("data"))
            .arg("--ready-file")
            .arg(&ready_file)
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let ready = loop {
            if let Ok(text) = fs::read_to_string(&ready_file) {
                break serde_json::from_str(&text).expect("the ready file is never half written");
            }
            assert!(Instant::now() < deadline, "the demo did not get ready");
            std::thread::sleep(Duration::from_millis(20));
        };
        Self { child, ready }
    }

    fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap()
    }

    fn run(&self, url: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_wsnapd"))
            .args(arguments)
            .args(["--url", self.text(url), "--user", self.text("user")])
            .args(["--password-file", self.text("password_file"), "--ca", self.text("ca_file")])
            .output()
            .unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn the_command_line_drives_a_strict_demo() {
    let directory = TempDir::new().unwrap();
    let mut process = Process::start(directory.path(), &["--strict"]);
    assert_eq!(process.ready["pid"].as_u64(), Some(u64::from(process.child.id())));

    let done = process.run("https_url", &["volume", "snapshot", "vol2", "--name", "friday"]);
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("snapshot of vol2: 100 %, completed"), "{done:?}");
    let listed = process.run("https_url", &["volume", "list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(listed.lines().any(|line| line.starts_with("friday") && line.contains("snapshot")), "{listed}");

    let missing = process.run("https_url", &["volume", "snapshot", "vol9"]);
    assert_eq!(missing.status.code(), Some(5), "{missing:?}");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("there is no volume vol9"), "{missing:?}");
    let in_clear_text = process.run("http_url", &["volume", "list"]);
    assert_eq!(in_clear_text.status.code(), Some(4), "{in_clear_text:?}");

    Command::new("kill").arg(process.child.id().to_string()).status().unwrap();
    assert!(process.child.wait().unwrap().success(), "SIGTERM ends it in good order");
    assert_eq!(process.run("https_url", &["volume", "list"]).status.code(), Some(3));
}

#[test]
fn a_server_whose_data_directory_was_taken_over_exits_with_an_error() {
    let directory = TempDir::new().unwrap();
    let mut process = Process::start(directory.path(), &[]);
    let records = rusqlite::Connection::open(directory.path().join("data/state/wsnapd.db")).unwrap();
    records.busy_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(records.execute("UPDATE lease SET owner = 'another', epoch = epoch + 1", []).unwrap(), 1);
    let refused = process.run("https_url", &["snapshot", "create", "web01"]);
    assert!(!refused.status.success(), "{refused:?}");
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = process.child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(1));
}

#[test]
fn users_are_kept_in_a_private_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let users = directory.path().join("users");
    let password = directory.path().join("password");
    fs::write(&password, "first\n").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsnapd"));
        command.arg("user").args(arguments).arg("--users-file").arg(&users);
        if matches!(arguments[0], "add" | "passwd") {
            command.arg("--password-file").arg(&password);
        }
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&["add", "Alice"]).0, 0);
    assert_eq!(run(&["add", "ALICE"]).0, 1, "names are the same in any case");
    assert_eq!(run(&["add", "a:b"]).0, 1);
    assert_eq!(run(&["passwd", "nobody"]).0, 5);
    let before = fs::read_to_string(&users).unwrap();
    assert_eq!(run(&["passwd", "alice"]).0, 0);
    assert_ne!(fs::read_to_string(&users).unwrap(), before, "a new salt");
    assert_eq!(fs::metadata(&users).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&users).unwrap().contains("first"));
    assert_eq!(run(&["list"]), (0, "Alice\tadministrator\t-\n".to_owned()));
    assert_eq!(run(&["set", "alice"]).0, 1, "nothing to change");
    assert_eq!(run(&["set", "nobody", "--role", "reader"]).0, 5);
    assert_eq!(run(&["set", "alice", "--role", "king"]).0, 2);
    assert_eq!(run(&["set", "alice", "--scope", "web*"]).0, 1);
    assert_eq!(run(&["set", "alice", "--role", "operator", "--scope", "pool=p", "--scope", "machine=web*"]).0, 0);
    assert_eq!(run(&["passwd", "alice", "--ntlm"]).0, 0);
    let scoped = "Alice\toperator\tmachine=web*;pool=p\tNTLM\n";
    assert_eq!(run(&["list"]), (0, scoped.to_owned()), "a new password changes nothing else");
    assert_eq!(run(&["set", "alice", "--no-scope"]).0, 0);
    assert_eq!(run(&["set", "alice", "--role", "reader"]).0, 0);
    assert_eq!(run(&["list"]), (0, "Alice\treader\t-\tNTLM\n".to_owned()));
    assert_eq!(run(&["remove", "alice"]).0, 0);
    assert_eq!(run(&["list"]), (0, String::new()));
    assert_eq!(run(&["remove", "alice"]).0, 5);
}

#[test]
fn the_certificate_is_shown_exported_and_renewed() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("wsnapd.toml");
    fs::write(&config, "data_dir = \"data\"\n[tls]\nnames = [\"snap.example.test\"]\n").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsnapd"));
        let output = command.arg("cert").args(arguments).arg("--config").arg(&config).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&["show"]).0, 5, "there is none yet");
    let (code, first) = run(&["renew"]);
    assert_eq!(code, 0);
    assert!(first.contains("snap.example.test") && first.contains("127.0.0.1"), "{first}");
    assert_eq!(run(&["show"]), (0, first.clone()));
    let der = directory.path().join("wsnapd.cer");
    let (code, text) = run(&["export", der.to_str().unwrap()]);
    assert!(code == 0 && text.contains("Import-Certificate -FilePath wsnapd.cer"), "{text}");
    assert_eq!(fs::read(&der).unwrap()[..2], [0x30, 0x82], "DER");
    assert_ne!(run(&["renew"]).1, first);
}
