//! Subscriptions with Pull: what they are told of, the answers and faults of each operation, bookmarks, restarts.

use std::time::Duration;

use crate::eventing_support::{
    EVENTING, OF_JOBS, Stage, V2, WSMAN, delivery, envelope, filter, manage, property, pull, steps, subscribe_to,
};
use crate::tree::Node;
use crate::wsman::fault_of;

#[tokio::test]
async fn a_job_is_followed_from_its_start_to_its_end() {
    let stage = Stage::start().await;
    stage.slow_snapshots(Duration::from_millis(200));
    let (mut context, _) = stage.pull_subscription("SELECT * FROM __InstanceOperationEvent WHERE TargetInstance ISA 'CIM_Job'", "").await;
    let job = stage.snapshot("one").await;
    stage.finished(job).await;
    let events = stage.drain(&mut context).await;
    assert_eq!(events[0].local, "__InstanceCreationEvent");
    assert!(events[1..].iter().all(|event| event.local == "__InstanceModificationEvent"));
    let steps = steps(&events);
    assert!(steps.len() > 5, "{steps:?}");
    assert_eq!((steps[0].clone(), steps.last().cloned()), (("4".to_owned(), 0), Some(("7".to_owned(), 100))));
    assert!(steps.is_sorted_by_key(|(_, percent)| *percent), "{steps:?}");
    for pair in events.windows(2).skip(1) {
        let before = property(&pair[1], "PreviousInstance", "PercentComplete");
        assert_eq!(before, property(&pair[0], "TargetInstance", "PercentComplete"));
    }
}
