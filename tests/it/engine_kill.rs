//! A process that takes, applies and destroys snapshots is killed at random instants; the next one finds the truth.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use wsnapd::engine::{JobState, SnapshotType};
use wsnapd::time::Guid;

use crate::engine_support::{DB, Directory, Site, USER, creation, job_of, made, wait};

const ROUNDS: u64 = 12;
const DIRECTORY: &str = "WSNAPD_TEST_SITE";

/// Two megabytes that say which disk and which writing they are of.
fn content(disk: &str, tag: &str) -> String {
    format!("{disk} {tag};").repeat(2 << 20 >> 4)
}

/// Which writing the disk holds, if it holds all of it.
fn tag_of(disk: &str, text: &str) -> String {
    let tag = text.split(';').next().and_then(|first| first.split(' ').nth(1)).unwrap_or_default().to_owned();
    assert!(text == content(disk, &tag), "{disk} is torn");
    tag
}

/// Not a test of its own: works on the directory of the test below until it is killed, and says what was promised to it.
/// Nothing happens when it is started without that directory.
#[tokio::test]
#[ignore = "helper of another test"]
#[expect(clippy::print_stderr, reason = "tells the other process what was acknowledged")]
async fn work_until_killed() {
    #[expect(clippy::disallowed_methods, reason = "the only way to hand a path to this process")]
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let site = Site::at(Directory::Borrowed(PathBuf::from(directory)));
    let engine = site.open(site.files()).await;
    eprintln!("WORKING");
    loop {
        let job = job_of(engine.create_snapshot(creation(DB, SnapshotType::Full), USER).await);
        eprintln!("JOB {job}");
        let taken = made(&*wait(&engine, job).await);
        eprintln!("TAKEN {taken}");
        let all: Vec<Guid> = engine.view().snapshots().map(|snapshot| snapshot.id).collect();
        let job = job_of(engine.apply_snapshot(all[all.len() / 2], USER).await);
        eprintln!("JOB {job}");
        wait(&engine, job).await;
        if all.len() > 3 {
            eprintln!("DESTROYING {}", all[0]);
            let job = job_of(engine.destroy_snapshot(all[0], USER).await);
            eprintln!("JOB {job}");
            wait(&engine, job).await;
        }
    }
}

/// What the process said before it was killed.
#[derive(Default)]
struct Heard {
    jobs: BTreeSet<Guid>,
    taken: BTreeSet<Guid>,
}

fn run_and_kill(site: &Site, after: Duration, heard: &mut Heard) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "engine_kill::work_until_killed"])
        .env(DIRECTORY, site.directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("WORKING")), "the process did not begin");
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        match line.split_once(' ').map(|(word, id)| (word, id.parse::<Guid>())) {
            Some(("JOB", Ok(job))) => drop(heard.jobs.insert(job)),
            Some(("TAKEN", Ok(snapshot))) => drop(heard.taken.insert(snapshot)),
            Some(("DESTROYING", Ok(snapshot))) => drop(heard.taken.remove(&snapshot)),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_killed_process_leaves_no_lie() {
    let site = Site::new();
    let mut heard = Heard::default();
    for round in 0..ROUNDS {
        for disk in ["db-root", "db-data"] {
            site.write(disk, &content(disk, &format!("{round:04}")));
        }
        // Instants that differ and that spread over the steps of all three operations.
        run_and_kill(&site, Duration::from_millis((round * 37) % 150), &mut heard);
        let engine = site.open(site.files()).await;
        let unfinished: Vec<Guid> = engine.view().jobs().map(|job| job.id).collect();
        for job in unfinished {
            wait(&engine, job).await;
        }
        let view = engine.view();
        for job in &heard.jobs {
            assert!(view.job(*job).is_some_and(|job| job.state.is_final()), "an acknowledged job is lost");
        }
        for snapshot in &heard.taken {
            assert!(view.snapshot(*snapshot).is_some(), "an acknowledged snapshot is lost");
        }
        for snapshot in view.snapshots() {
            let tags: BTreeSet<String> = snapshot
                .disks
                .iter()
                .map(|image| tag_of(&image.disk, &std::fs::read_to_string(&image.file).unwrap()))
                .collect();
            assert_eq!((tags.len(), snapshot.disks.len()), (1, 2), "a snapshot is half made");
        }
        assert_eq!(tag_of("db-root", &site.read("db-root")), tag_of("db-data", &site.read("db-data")));
        let owned: Vec<PathBuf> = view
            .snapshots()
            .map(|snapshot| site.directory.path().join("snapshots").join(snapshot.id.to_string()))
            .collect();
        let mut owned = owned;
        owned.sort();
        assert_eq!(site.snapshot_directories(), owned, "a file has no owner");
        let names = std::fs::read_dir(site.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".wsnapd-")));
        assert!(view.jobs().all(|job| job.state != JobState::Recovering));
        engine.shutdown().await;
    }
    assert!(!heard.taken.is_empty(), "no round got far enough");
}
