//! Subscriptions to the filters in `root/interop`, by name (DSP0227 10.2.2).

use crate::eventing_support::{
    ENUMERATION, EVENTING, OF_JOBS, Stage, V2, WEB, delivery, envelope, filter, manage, property,
};
use crate::tree::Node;
use crate::wsman::{between, fault_of};

const INTEROP: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/interop/CIM_IndicationFilter";
const DMTF: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_IndicationFilter";
const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";

fn selector_set(selectors: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| format!("<w:Selector Name=\"{name}\">{value}</w:Selector>");
    format!("<w:SelectorSet>{}</w:SelectorSet>", selectors.iter().map(one).collect::<String>())
}

fn subscribe(uri: &str, selectors: &[(&str, &str)], inner: &str) -> String {
    let body = format!("<e:Subscribe>{}{inner}</e:Subscribe>", delivery("Pull", ""));
    envelope(&format!("{EVENTING}/Subscribe"), uri, &selector_set(selectors), &body)
}

/// Subscribes to a filter; answers the context and the identifier.
async fn subscribed(stage: &Stage, name: &str) -> (String, String) {
    let body = stage.send(&subscribe(INTEROP, &[("Name", name)], "")).await;
    let answer = Node::parse(&body);
    let text = |local: &str| answer.find(local).unwrap_or_else(|| panic!("{local}: {body}")).text.clone();
    (text("EnumerationContext"), text("Identifier"))
}

/// Calls a method of the class with these selectors and waits for its job.
async fn invoke(stage: &Stage, class: &str, selectors: &[(&str, &str)], method: &str, inner: &str) {
    let uri = format!("{V2}/{class}");
    let body = format!("<r:{method}_INPUT xmlns:r=\"{uri}\">{inner}</r:{method}_INPUT>");
    let answer = stage.send(&envelope(&format!("{uri}/{method}"), &uri, &selector_set(selectors), &body)).await;
    let value = between(&answer, "<p:ReturnValue>", "</p:ReturnValue>");
    assert!(["0", "4096"].contains(&value), "{answer}");
    if value == "4096" {
        let job = Node::parse(&answer).find("Selector").unwrap().text.clone();
        stage.finished(job.parse().unwrap()).await;
    }
}

/// The record of the only snapshot.
fn snapshot_of(stage: &Stage) -> String {
    let view = stage.engine.view();
    let id = view.snapshots().next().unwrap().id;
    format!("Microsoft:{id}")
}

#[tokio::test]
async fn each_filter_lets_pass_what_its_description_says() {
    let stage = Stage::start().await;
    let list = "<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>100</w:MaxElements></n:Enumerate>";
    let body = stage.send(&envelope(&format!("{ENUMERATION}/Enumerate"), INTEROP, "", list)).await;
    let answer = Node::parse(&body);
    let names: Vec<String> =
        answer.find("Items").unwrap().children.iter().map(|one| one.find("Name").unwrap().text.clone()).collect();
    let mut contexts = Vec::new();
    for name in &names {
        contexts.push(subscribed(&stage, name).await.0);
    }
    stage.finished(stage.snapshot("one").await).await;
    let snapshot = snapshot_of(&stage);
    let embedded = format!(
        "<r:SystemSettings>&lt;INSTANCE CLASSNAME=\"Msvm_VirtualSystemSettingData\"&gt;&lt;PROPERTY NAME=\"InstanceID\" TYPE=\"string\"&gt;&lt;VALUE&gt;{snapshot}&lt;/VALUE&gt;&lt;/PROPERTY&gt;&lt;PROPERTY NAME=\"ElementName\" TYPE=\"string\"&gt;&lt;VALUE&gt;two&lt;/VALUE&gt;&lt;/PROPERTY&gt;&lt;/INSTANCE&gt;</r:SystemSettings>"
    );
    let manager = [("CreationClassName", "Msvm_VirtualSystemManagementService")];
    invoke(&stage, "Msvm_VirtualSystemManagementService", &manager, "ModifySystemSettings", &embedded).await;
    let machine = [("CreationClassName", "Msvm_ComputerSystem"), ("Name", WEB)];
    let start = "<r:RequestedState>2</r:RequestedState>";
    invoke(&stage, "Msvm_ComputerSystem", &machine, "RequestStateChange", start).await;
    let service = [("CreationClassName", "Msvm_VirtualSystemSnapshotService")];
    let target =
        format!("<r:AffectedSnapshot>Msvm_VirtualSystemSettingData.InstanceID=\"{snapshot}\"</r:AffectedSnapshot>");
    invoke(&stage, "Msvm_VirtualSystemSnapshotService", &service, "DestroySnapshot", &target).await;
    let mut told = Vec::new();
    for (name, mut context) in names.iter().zip(contexts) {
        let events = stage.drain(&mut context).await;
        assert!(events.iter().all(|event| event.namespace.starts_with(V2)), "{name}: {events:?}");
        let name = name.strip_prefix("wsnapd:").unwrap();
        match name {
            "JobsEnded" => {
                assert!(events.iter().all(|event| property(event, "SourceInstance", "JobState") == "7"));
            }
            "SnapshotsChanged" => {
                assert_eq!(property(events.first().unwrap(), "SourceInstance", "ElementName"), "two");
            }
            "MachineStates" => assert_eq!(property(events.last().unwrap(), "SourceInstance", "EnabledState"), "2"),
            _ => {}
        }
        let mut classes: Vec<String> = events.iter().map(|event| event.local.clone()).collect();
        classes.sort();
        classes.dedup();
        told.push((name.to_owned(), events.len(), classes.join(" ")));
    }
    let count = |name: &str| told.iter().find(|(known, ..)| known == name).map(|(_, count, _)| *count).unwrap();
    let classes =
        |name: &str| told.iter().find(|(known, ..)| known == name).map(|(.., classes)| classes.as_str()).unwrap();
    assert!(count("Jobs") > count("JobsEnded") && count("JobsEnded") >= 2, "{told:?}");
    assert_eq!(classes("Jobs"), "CIM_InstCreation CIM_InstModification");
    assert_eq!((count("SnapshotsCreated"), classes("SnapshotsCreated")), (1, "CIM_InstCreation"));
    assert_eq!((count("SnapshotsChanged"), classes("SnapshotsChanged")), (1, "CIM_InstModification"));
    assert_eq!((count("SnapshotsDeleted"), classes("SnapshotsDeleted")), (1, "CIM_InstDeletion"));
    assert!(count("MachineStates") >= 1 && classes("MachineStates") == "CIM_InstModification", "{told:?}");
    assert_eq!(count("VolumeJobs"), 0);
}

#[tokio::test]
async fn a_subscription_to_a_filter_is_managed_like_any_other() {
    let stage = Stage::start().await;
    let (mut context, id) = subscribed(&stage, "WSNAPD:snapshotscreated").await;
    stage.finished(stage.snapshot("one").await).await;
    // It is taken up again after a restart, with the query it had.
    let stage = stage.restart().await;
    stage.finished(stage.snapshot("two").await).await;
    let events = stage.drain(&mut context).await;
    let names: Vec<String> = events.iter().map(|event| property(event, "SourceInstance", "ElementName")).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(stage.send(&manage("Renew", &id, "<e:Expires>PT2M</e:Expires>")).await.contains("PT120S"));
    assert!(stage.send(&manage("Unsubscribe", &id, "")).await.contains("UnsubscribeResponse"));
    // The other family of URIs: the events name the namespace they are from.
    let by_dmtf = [("__cimnamespace", "root/interop"), ("Name", "wsnapd:JobsEnded")];
    let body = stage.send(&subscribe(DMTF, &by_dmtf, "")).await;
    let manager = between(&body, "<e:SubscriptionManager>", "</e:SubscriptionManager>");
    assert!(manager.contains(DMTF) && manager.contains(">root/interop<"), "{manager}");
    let mut context = Node::parse(&body).find("EnumerationContext").unwrap().text.clone();
    stage.finished(stage.snapshot("three").await).await;
    let events = stage.drain(&mut context).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].namespace, DMTF.replace("CIM_IndicationFilter", "CIM_InstModification"));
}

#[tokio::test]
async fn wrong_subscriptions_to_filters_get_their_faults() {
    let stage = Stage::start().await;
    let known = [("Name", "wsnapd:Jobs")];
    let own = filter(OF_JOBS);
    for (what, request, expected) in [
        // R10.2.2-2
        ("a filter of its own", subscribe(INTEROP, &known, &own), "w:InvalidParameter//2150858810"),
        ("no name", subscribe(INTEROP, &[], ""), "w:InvalidSelectors/InsufficientSelectors/2150858842"),
        ("another name", subscribe(INTEROP, &[("Name", "x:y")], ""), "a:DestinationUnreachable//2150858752"),
        ("a wrong key", subscribe(INTEROP, &[("Query", "x")], ""), "w:InvalidSelectors/UnexpectedSelectors/2150858843"),
        (
            "a shared key",
            subscribe(INTEROP, &[("CreationClassName", "CIM_IndicationFilter")], ""),
            "w:InvalidSelectors/AmbiguousSelectors/2150858846",
        ),
        (
            "in a namespace without filters",
            subscribe(&INTEROP.replace("interop", "cimv2"), &known, ""),
            "a:DestinationUnreachable/InvalidResourceURI/2150858811",
        ),
        (
            "to another class of the namespace",
            subscribe(&INTEROP.replace("CIM_IndicationFilter", "Msvm_RegisteredProfile"), &[], ""),
            "e:EventSourceUnableToProcess//2150858787",
        ),
    ] {
        assert_eq!(fault_of(&stage.send(&request).await), expected, "{what}");
    }
    // Filters are what they are.
    for operation in ["Put", "Delete"] {
        let body = stage.send(&envelope(&format!("{TRANSFER}/{operation}"), INTEROP, &selector_set(&known), "")).await;
        assert_eq!(fault_of(&body), "a:ActionNotSupported/ActionMismatch/2150858801", "{body}");
    }
}
