//! Events end at the scope of who subscribed, and with the account.

use wsnapd::access::{Account, Role};
use wsnapd::time::Guid;

use crate::eventing_support::{OF_JOBS, Stage, delivery, filter, pull, subscribe_to};
use crate::tree::Node;

fn bob(scope: Option<&str>) -> Account {
    let scope = scope.map(|text| std::sync::Arc::new(text.parse().unwrap()));
    Account { name: "bob".into(), role: Role::Reader, scope }
}

const SHORT: &str = "<n:MaxTime>PT0.3S</n:MaxTime><n:MaxElements>100</n:MaxElements>";

async fn subscribe(stage: &Stage) -> String {
    let body = stage.send_as("bob", &subscribe_to("*", &format!("{}{}", delivery("Pull", ""), filter(OF_JOBS)))).await;
    Node::parse(&body).find("EnumerationContext").unwrap_or_else(|| panic!("{body}")).text.clone()
}

async fn run_job(stage: &Stage, name: &str) -> Guid {
    let job = stage.snapshot(name).await;
    stage.finished(job).await;
    job
}

#[tokio::test]
async fn a_subscriber_is_told_of_what_is_in_scope() {
    for (scope, told) in [(None, true), (Some("machine=web*"), true), (Some("machine=other;pool=*"), false)] {
        let stage = Stage::start().await;
        stage.accounts.set("bob", Some(bob(scope)));
        let context = subscribe(&stage).await;
        run_job(&stage, "one").await;
        let body = stage.send_as("bob", &pull(&context, SHORT)).await;
        assert_eq!(body.contains("w:TimedOut"), !told, "{scope:?}: {body}");
        assert_eq!(body.contains("Creating"), told, "{scope:?}: {body}");
    }
}

#[tokio::test]
async fn a_scope_that_shrinks_takes_what_waits_with_it() {
    let stage = Stage::start().await;
    stage.accounts.set("bob", Some(bob(Some("machine=web01"))));
    let context = subscribe(&stage).await;
    run_job(&stage, "one").await;
    stage.accounts.set("bob", Some(bob(Some("machine=other"))));
    let body = stage.send_as("bob", &pull(&context, SHORT)).await;
    assert!(!body.contains("Msvm_ConcreteJob"), "{body}");
}

#[tokio::test]
async fn subscriptions_end_with_their_account() {
    let stage = Stage::start().await;
    let context = subscribe(&stage).await;
    run_job(&stage, "one").await;
    assert_eq!(stage.engine.view().subscriptions().count(), 1);
    stage.accounts.set("bob", None);
    run_job(&stage, "two").await;
    for _ in 0..500 {
        if stage.engine.view().subscriptions().count() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(stage.engine.view().subscriptions().count(), 0);
    stage.accounts.set("bob", Some(bob(None)));
    let body = stage.send_as("bob", &pull(&context, SHORT)).await;
    assert!(body.contains("InvalidEnumerationContext"), "{body}");
}
