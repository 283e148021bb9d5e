//! Steps that are refused, servers that were stopped in between, and monitors that fail.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wsnapd::backend::{
    BoxFuture, Cause, Hypervisor, Interrupted, Journal, JournalStep, Operation, Progress, Recovery, StepControl,
    TrackedDisk, TrackingRequest,
};

use super::{House, destruction, id, machine, name, open, tracking, wanted};
use crate::qemu_peer::real::qemu_img;
use crate::qemu_peer::{Peer, Step};

/// Keeps the steps, and refuses one.
pub(super) struct Refusing {
    steps: Mutex<Vec<JournalStep>>,
    number: usize,
}

impl Journal for Refusing {
    fn record(&self, step: JournalStep) -> BoxFuture<'_, Result<(), Interrupted>> {
        let mut steps = self.steps.lock().unwrap();
        let refused = steps.len() == self.number;
        steps.push(step);
        Box::pin(std::future::ready(if refused { Err(Interrupted::Cancelled) } else { Ok(()) }))
    }
}

/// A control whose step of this number is refused.
pub(super) fn refusing(number: usize) -> (Arc<Refusing>, StepControl) {
    let journal = Arc::new(Refusing { steps: Mutex::default(), number });
    let kept: Arc<dyn Journal> = Arc::<Refusing>::clone(&journal);
    (journal, StepControl::new(kept, watch::Sender::new(Progress::default()), CancellationToken::new()))
}

/// `blockdev-add`.
#[derive(Debug, Clone, serde::Serialize)]
struct AddNode(Value);

impl qapi::Command for AddNode {
    const NAME: &'static str = "blockdev-add";
    const ALLOW_OOB: bool = false;
    type Ok = Value;
}

impl qapi::qmp::QmpCommand for AddNode {}

/// Each step of a creation is refused in turn, until none is left.
#[tokio::test]
async fn a_refused_step_leaves_no_bitmap() {
    let mut house = House::new();
    for running in [false, true] {
        if running {
            house.start().await;
        }
        for number in 0.. {
            let (journal, control) = refusing(number);
            let made = house.hypervisor.create_snapshots(&[wanted(1)], &control).await;
            if journal.steps.lock().unwrap().len() <= number {
                house
                    .hypervisor
                    .destroy_snapshots(&[destruction(&made.unwrap()[0])], &StepControl::detached())
                    .await
                    .unwrap();
                assert!(number >= 3, "only {number} steps");
                break;
            }
            assert!(made.unwrap_err().is_cancelled());
            house.nothing_is_left().await;
        }
        house.nothing_is_left().await;
    }
    house.quit().await;
}

#[tokio::test]
async fn a_stopped_server_finishes_or_undoes() {
    let mut house = House::new();
    for running in [false, true] {
        if running {
            house.start().await;
        }
        let (journal, control) = refusing(usize::MAX);
        let made = house.hypervisor.create_snapshots(&[wanted(1)], &control).await.unwrap().remove(0);
        let steps = journal.steps.lock().unwrap().clone();
        let create = Operation::Create(vec![wanted(1)]);
        let finished = house.hypervisor.recover(&create, &steps).await.unwrap();
        assert_eq!(finished, Recovery::Finished(vec![made.clone()]));
        let convert = Operation::Convert(vec![destruction(&made)]);
        assert_eq!(house.hypervisor.recover(&convert, &[]).await.unwrap(), Recovery::RolledBack);
        assert_eq!(house.tags("data"), [id(1).to_string()]);
        for _ in 0..2 {
            let recovered = house.hypervisor.recover(&convert, &[JournalStep::Removing]).await.unwrap();
            assert_eq!(recovered, Recovery::Finished(Vec::new()));
        }
        assert_eq!((house.tags("data"), house.bitmaps("data").await), (Vec::new(), vec![(name(1), true)]));
        let destroy = Operation::DestroyReferencePoints(vec![tracking(&made)]);
        assert_eq!(house.hypervisor.recover(&destroy, &[]).await.unwrap(), Recovery::RolledBack);
        assert_eq!(house.bitmaps("data").await, [(name(1), true)]);
        for _ in 0..2 {
            let recovered = house.hypervisor.recover(&destroy, &[JournalStep::Removing]).await.unwrap();
            assert_eq!(recovered, Recovery::Finished(Vec::new()));
        }
        house.nothing_is_left().await;
        // One that was stopped before the outcome was stored goes back.
        house.snapshot(2).await;
        let create = Operation::Create(vec![wanted(2)]);
        let begun = [JournalStep::Planned { files: Vec::new() }, JournalStep::Paused { running: Vec::new() }];
        assert_eq!(house.hypervisor.recover(&create, &begun).await.unwrap(), Recovery::RolledBack);
        house.nothing_is_left().await;
    }
    house.quit().await;
}

#[tokio::test]
async fn only_bitmaps_of_ours_that_nobody_owns_are_removed() {
    let mut house = House::new();
    let made = house.snapshot(1).await;
    house.snapshot(2).await;
    qemu_img(&["bitmap", "--add", &house.path("data").display().to_string(), "theirs"]);
    for running in [true, false] {
        if running {
            house.start().await;
        }
        let owned = [id(1), id(2)].into();
        assert_eq!(house.hypervisor.remove_stale_tracking(&owned).await.unwrap(), 0);
        if running {
            house.quit().await;
        }
    }
    assert_eq!(house.hypervisor.remove_stale_tracking(&[id(1)].into()).await.unwrap(), 2);
    assert!(house.lost(&[&made]).await.is_empty());
    house.start().await;
    assert_eq!(house.hypervisor.remove_stale_tracking(&[].into()).await.unwrap(), 2);
    assert_eq!(house.bitmaps("data").await, [("theirs".to_owned(), true)]);
    house.quit().await;
}

#[tokio::test]
async fn an_interrupted_reading_of_changes_leaves_nothing() {
    let mut house = House::new();
    house.start().await;
    let first = house.snapshot(1).await;
    house.write("data", 1, 1).await;
    // What a server leaves that is killed between opening and closing its image.
    let own = house.directory.path().join("machines").join(machine().to_string());
    let scratch = own.join("wsnapd-changes.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", &scratch.display().to_string(), "8M"]);
    let file = json!({"driver": "file", "filename": scratch});
    let node = json!({"driver": "qcow2", "node-name": "wsnapd-changes", "file": file});
    house.hand().query::<_, Value>(AddNode(node), super::LONG).await.unwrap();
    std::fs::write(own.join("wsnapd-nbd.sock"), "").unwrap();
    let second = house.snapshot(2).await;
    let changes = house.export("changes", &second, Some(&first)).await;
    assert_eq!(changes[1].1.as_ref().unwrap().extents, [(1 << 20, 1 << 20)]);
    qemu_img(&["create", "-q", "-f", "qcow2", &scratch.display().to_string(), "8M"]);
    house.hypervisor.remove_stale_tracking(&[id(1), id(2)].into()).await.unwrap();
    assert!(house.lost(&[&first, &second]).await.is_empty());
    house.quit().await;
}

// -- a monitor that fails ------------------------------------------------------------------------------

fn status() -> [Step; 2] {
    [Step::Expect("query-status"), Step::Answer(json!({"status": "running", "running": true}))]
}

/// The answer to `query-block` about the disks below `directory`.
fn drives(directory: &std::path::Path, bitmaps: &Value) -> [Step; 2] {
    let drive = |disk: &&str| {
        json!({"inserted": {
            "file": directory.join(format!("{disk}.qcow2")), "node-name": disk, "dirty-bitmaps": bitmaps,
            "image": {"virtual-size": 8 << 20, "format-specific": {"type": "qcow2", "data": {"compat": "1.1"}}},
        }})
    };
    [Step::Expect("query-block"), Step::Answer(super::DISKS.iter().map(drive).collect())]
}

fn live(name: &str) -> Value {
    json!([{"name": name, "recording": true, "persistent": true, "busy": false, "granularity": 65536, "count": 0}])
}

fn request() -> TrackingRequest {
    let disk = |disk: &&str| TrackedDisk {
        disk: (*disk).to_owned(),
        path: format!("/nowhere/{disk}.qcow2").into(),
        identifier: name(1),
    };
    TrackingRequest { machine: machine(), snapshot: id(1), disks: super::DISKS.iter().map(disk).collect() }
}

#[tokio::test]
async fn a_bitmap_that_is_gone_is_removed_and_one_that_stays_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = std::path::Path::new("/nowhere");
    let mut script = vec![Step::Greet];
    script.extend(status());
    script.extend(drives(nowhere, &live(&name(1))));
    script.push(Step::Expect("block-dirty-bitmap-remove"));
    script.push(Step::Refuse("GenericError", "Dirty bitmap 'b' not found"));
    script.push(Step::Expect("block-dirty-bitmap-remove"));
    script.push(Step::Refuse("GenericError", "Bitmap 'b' is currently in use by another operation"));
    script.push(Step::Hold);
    let peer = Peer::start(script);
    let hypervisor = open(directory.path(), peer.path());
    let error = hypervisor.destroy_reference_points(&[request()], &StepControl::detached()).await.unwrap_err();
    assert_eq!(error.disk.as_deref(), Some("data"));
    assert!(error.to_string().contains("currently in use"), "{error}");
    drop(hypervisor);
    let commands = peer.finish().await;
    assert_eq!(commands[2]["arguments"], json!({"node": "system", "name": name(1)}));
}

#[tokio::test]
async fn bitmaps_that_have_missed_something_are_lost_and_a_silent_monitor_proves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = std::path::Path::new("/nowhere");
    let mut paused = live(&name(1));
    paused[0]["recording"] = json!(false);
    let mut broken = live(&name(1));
    broken[0]["inconsistent"] = json!(true);
    let mut passing = live(&name(1));
    passing[0]["persistent"] = json!(false);
    let cases = [(live(&name(1)), false), (live(&name(2)), true), (paused, true), (broken, true), (passing, true)];
    let mut script = vec![Step::Greet];
    for (bitmaps, _) in &cases {
        script.extend(status());
        script.extend(drives(nowhere, bitmaps));
    }
    // It is in the middle of a transfer, and then it closes.
    script.extend([Step::Expect("query-status"), Step::Answer(json!({"status": "postmigrate", "running": false}))]);
    script.extend(drives(nowhere, &json!([])));
    script.push(Step::Expect("query-status"));
    let peer = Peer::start(script);
    let hypervisor = open(directory.path(), peer.path());
    for (bitmaps, lost) in cases {
        assert_eq!(hypervisor.verify_reference_points(&[request()]).await.contains(&id(1)), lost, "{bitmaps}");
    }
    for _ in 0..2 {
        assert!(hypervisor.verify_reference_points(&[request()]).await.is_empty());
    }
    peer.finish().await;
}

#[tokio::test]
async fn tags_and_bitmaps_are_made_in_one_transaction() {
    let house = House::new();
    let directory = house.directory.path();
    let mut script = vec![Step::Greet];
    script.extend(status());
    script.extend(drives(directory, &json!([])));
    // The plan asks for the disks, then for what can be tracked; then there is the pause.
    script.extend(status());
    script.extend(drives(directory, &json!([])));
    script.extend([Step::Expect("stop"), Step::Answer(json!({}))]);
    script.push(Step::Expect("transaction"));
    script.push(Step::Hold);
    let peer = Peer::start(script);
    let hypervisor = open(directory, peer.path());
    let control = StepControl::detached();
    let wanted = [wanted(1)];
    let call = hypervisor.create_snapshots(&wanted, &control);
    // More is not in the script.
    let ended = tokio::time::timeout(crate::qemu_peer::ms(500), call).await;
    assert!(ended.is_err());
    drop(hypervisor);
    let commands = peer.finish().await;
    let actions = commands.iter().find(|command| command["execute"] == "transaction").unwrap();
    let kinds: Vec<&str> = actions["arguments"]["actions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|action| action["type"].as_str().unwrap())
        .collect();
    let (tag, bitmap) = ("blockdev-snapshot-internal-sync", "block-dirty-bitmap-add");
    assert_eq!(kinds, [tag, tag, bitmap, bitmap]);
    let data = &actions["arguments"]["actions"][3]["data"];
    assert_eq!(*data, json!({"node": "data", "name": name(1), "persistent": true}));
}

#[tokio::test]
async fn a_monitor_that_is_lost_while_changes_are_read_ends_the_export() {
    let house = House::new();
    let first = house.snapshot(1).await;
    let second = house.snapshot(2).await;
    let directory = house.directory.path();
    let mut script = vec![Step::Greet];
    script.extend(status());
    script.extend(drives(directory, &live(&name(1))));
    script.push(Step::Expect("blockdev-add"));
    let peer = Peer::start(script);
    let hypervisor = open(directory, peer.path());
    let request = house.export_request("changes", &second, Some(&first));
    let error = hypervisor.export_snapshots(&request, &StepControl::detached()).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Unreachable(_)), "{error}");
    assert_eq!(std::fs::read_dir(directory.join("exports")).unwrap().count(), 0);
    peer.finish().await;
}
