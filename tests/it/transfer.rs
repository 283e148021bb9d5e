//! Put, Create and Delete over the wire (`ws-management.md` §6.3 to §6.5, §6.8, C054 to C059).

use wsnapd::cim::CimInstance;
use wsnapd::cimom::{Polymorphism, Principal};
use wsnapd::engine::{CreateVolumeSnapshot, VolumeOutcome};

use crate::exchange::{Exchange, TRANSFER, check_faults};
use crate::support::{OFF, RUNNING, STORAGE, TestServer};
use crate::tree::Node;
use crate::wsman::{between, fault_of};

const V2: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2";
const HOST_NAMESPACE: &str = "root/virtualization/v2";
const SETTINGS: &str = "Msvm_VirtualSystemSettingData";
const MACHINES: &str = "Msvm_VirtualSystemCollection";
const MISMATCH: &str = "a:ActionNotSupported/ActionMismatch/2150858801";
const VALUES: &str = "x:InvalidRepresentation/InvalidValues/2150858838";
const FRAGMENT: &str = "x:InvalidRepresentation/InvalidFragment/2150858841";
const PATH: &str = "w:CannotProcessFilter//2150859042";

fn uri(class: &str) -> String {
    format!("{V2}/{class}")
}

fn ask(operation: &str, class: &str, keys: &[(&str, &str)]) -> Exchange {
    Exchange::new(format!("{TRANSFER}/{operation}"), uri(class)).selectors(keys)
}

/// An instance element of `class`.
fn element(class: &str, properties: &str) -> String {
    format!(
        "<p:{class} xmlns:p=\"{V2}/{class}\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">{properties}</p:{class}>"
    )
}

fn put(id: &str, properties: &str) -> Exchange {
    ask("Put", SETTINGS, &[("InstanceID", id)]).body(&element(SETTINGS, properties))
}

/// Put of a fragment of a settings record.
fn put_fragment(id: &str, expression: &str, content: &str) -> Exchange {
    ask("Put", SETTINGS, &[("InstanceID", id)])
        .header(&format!("<w:FragmentTransfer s:mustUnderstand=\"true\">{expression}</w:FragmentTransfer>"))
        .body(&format!(
            "<w:XmlFragment xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:p=\"{V2}/{SETTINGS}\">{content}</w:XmlFragment>"
        ))
}

async fn get(server: &TestServer, class: &str, keys: &[(&str, &str)]) -> String {
    let body = ask("Get", class, keys).send(server).await;
    assert!(!body.contains("<s:Fault>"), "{body}");
    between(&body, "<s:Body>", "</s:Body>").to_owned()
}

fn active(machine: &str) -> String {
    format!("Microsoft:{machine}")
}

/// The instance of a class whose property has that text.
fn instance(server: &TestServer, class: &str, property: &str, text: &str) -> CimInstance {
    let declared = server.manager.class(HOST_NAMESPACE, class).expect("the class is there");
    let cx = server.context(HOST_NAMESPACE);
    let mut all = server.manager.enumerate(&cx, declared, Polymorphism::None).expect("the class is listed");
    all.find_map(|one| one.ok().filter(|one| one.get(property).as_str() == Some(text))).expect("the instance")
}

/// The record of the snapshot that the machine `OFF` has.
fn snapshot(server: &TestServer) -> String {
    let record = instance(server, SETTINGS, "ElementName", "first");
    record.get("InstanceID").as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn put_changes_what_is_given_and_leaves_the_rest() {
    let server = TestServer::start().await;
    let id = snapshot(&server);
    let keys = [("InstanceID", id.as_str())];
    let before = get(&server, SETTINGS, &keys).await;
    let answer = put(&id, "<p:ElementName>second &amp; last</p:ElementName>").send(&server).await;
    assert_eq!(between(&answer, "<a:Action>", "</a:Action>"), format!("{TRANSFER}/PutResponse"));
    let after = get(&server, SETTINGS, &keys).await;
    assert_eq!(between(&answer, "<s:Body>", "</s:Body>"), after, "the answer is the new representation");
    assert_eq!(after, before.replace(">first<", ">second &amp; last<"), "nothing else has changed");

    // Whole records come back as they were read, with another value in them, under any class of the instance.
    let edited = after.replace("<p:Notes>db01 for tests</p:Notes>", "<p:Notes>kept for March</p:Notes>");
    assert_ne!(edited, after);
    let answer = ask("Put", "CIM_VirtualSystemSettingData", &keys).body(&edited).send(&server).await;
    assert_eq!(between(&answer, "<s:Body>", "</s:Body>"), edited);

    // A machine has more that can be changed.
    let id = active(RUNNING);
    let change =
        "<p:UserSnapshotType>5</p:UserSnapshotType><p:IncrementalBackupEnabled>true</p:IncrementalBackupEnabled>";
    let answer = Node::parse(&put(&id, change).send(&server).await);
    let record = answer.find(SETTINGS).expect("the record");
    for (name, value) in [("UserSnapshotType", "5"), ("IncrementalBackupEnabled", "true"), ("ElementName", "vm1")] {
        assert_eq!(record.find(name).expect(name).text, value);
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn what_can_be_written_can_be_put_back_as_it_was_read() {
    let server = TestServer::start().await;
    let made = ask("Create", MACHINES, &[]).body(&element(MACHINES, "<p:ElementName>shop</p:ElementName>"));
    let body = made.send(&server).await;
    let collection = between(&body, "Name=\"CollectionID\">", "<").to_owned();
    let (snapshot, off) = (snapshot(&server), active(OFF));
    for (class, key, id) in
        [(SETTINGS, "InstanceID", &snapshot), (SETTINGS, "InstanceID", &off), (MACHINES, "CollectionID", &collection)]
    {
        let keys = [(key, id.as_str())];
        let before = get(&server, class, &keys).await;
        let answer = ask("Put", class, &keys).body(&before).send(&server).await;
        assert_eq!(between(&answer, "<s:Body>", "</s:Body>"), before);
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn the_list_of_modified_properties_says_what_is_meant() {
    let server = TestServer::start().await;
    let id = active(OFF);
    let both = "<p:ElementName>renamed</p:ElementName><p:Notes>noted</p:Notes>";
    let body = put(&id, both).options(&[("wmiarray:__MIInstanceModifiedPropertiesList", "Notes")]).send(&server).await;
    let record = Node::parse(&body);
    assert_eq!(record.find("ElementName").expect("a name").text, "db01");
    assert_eq!(record.find("Notes").expect("notes").text, "noted");
    server.engine.shutdown().await;
}

#[tokio::test]
async fn put_refuses_what_cannot_be_taken() {
    let server = TestServer::start().await;
    let id = snapshot(&server);
    let id = id.as_str();
    let raw = |body: &str| ask("Put", SETTINGS, &[("InstanceID", id)]).body(body);
    let job = ask("Put", "Msvm_ConcreteJob", &[("InstanceID", "x")]).body(&element("Msvm_ConcreteJob", ""));
    let cases = [
        ("another key", put(id, "<p:InstanceID>Microsoft:other</p:InstanceID>"), VALUES),
        ("a property for methods", put(id, "<p:SecureBootEnabled>true</p:SecureBootEnabled>"), VALUES),
        ("of the machine only", put(id, "<p:UserSnapshotType>5</p:UserSnapshotType>"), VALUES),
        ("no value", put(id, "<p:ElementName xsi:nil=\"true\"/>"), VALUES),
        ("an empty name", put(id, "<p:ElementName></p:ElementName>"), VALUES),
        ("no number", put(id, "<p:UserSnapshotType>abc</p:UserSnapshotType>"), VALUES),
        ("a reserved number", put(&active(OFF), "<p:UserSnapshotType>77</p:UserSnapshotType>"), VALUES),
        ("no property", put(id, "<p:NoSuchProperty>1</p:NoSuchProperty>"), FRAGMENT),
        ("another class", raw(&element("Msvm_ConcreteJob", "")), "x:InvalidRepresentation/InvalidNamespace/2150858840"),
        (
            "another namespace",
            raw("<r:Msvm_VirtualSystemSettingData xmlns:r=\"urn:x\"/>"),
            "x:InvalidRepresentation/InvalidNamespace/2150858840",
        ),
        (
            "another element",
            raw(&element(SETTINGS, "").replace("p:Msvm_VirtualSystemSettingData", "p:Msvm_Other")),
            VALUES,
        ),
        ("nothing", raw(""), "x:InvalidRepresentation/MissingValues/2150858839"),
        ("an instance that is not there", put("Microsoft:none", ""), "a:DestinationUnreachable//2150858752"),
        (
            "no key",
            Exchange::new(format!("{TRANSFER}/Put"), uri(SETTINGS)).body(&element(SETTINGS, "")),
            "w:InvalidSelectors/InsufficientSelectors/2150858842",
        ),
        ("a class that nobody can write", job, MISMATCH),
        ("a machine", ask("Delete", SETTINGS, &[("InstanceID", &active(OFF))]), MISMATCH),
        ("a settings record", ask("Create", SETTINGS, &[]).body(&element(SETTINGS, "")), MISMATCH),
    ];
    let bodies = check_faults(&server, &cases).await;
    assert!(bodies[1].contains("SecureBootEnabled of class Msvm_VirtualSystemSettingData"), "{}", bodies[1]);
    let record = instance(&server, SETTINGS, "ElementName", "first");
    assert_eq!(record.get("InstanceID").as_str(), Some(id), "nothing has changed");
    server.engine.shutdown().await;
}

#[tokio::test]
async fn a_fragment_is_put_alone() {
    let server = TestServer::start().await;
    let id = active(OFF);
    let fragment = |body: &str| between(body, "<w:XmlFragment", "</w:XmlFragment>").to_owned();
    for (expression, content, answer) in [
        ("ElementName", "<p:ElementName>one</p:ElementName>", "<p:ElementName>one</p:ElementName>"),
        ("elementname/text()", "two", ">two"),
        ("Notes", "<p:Notes>three</p:Notes>", "<p:Notes>three</p:Notes>"),
        ("Notes[1]", "<p:Notes>four</p:Notes>", "<p:Notes>four</p:Notes>"),
        ("Notes[1]/text()", "five", ">five"),
        (
            "UserSnapshotType[1]",
            "<p:UserSnapshotType>2</p:UserSnapshotType>",
            "<p:UserSnapshotType>2</p:UserSnapshotType>",
        ),
    ] {
        let body = put_fragment(&id, expression, content).send(&server).await;
        assert!(fragment(&body).ends_with(answer), "{expression}: {body}");
        assert!(between(&body, "<w:FragmentTransfer", "/w:FragmentTransfer>").contains(expression), "{body}");
    }
    let record = instance(&server, SETTINGS, "InstanceID", &id);
    assert_eq!(record.get("ElementName").as_str(), Some("two"));
    assert_eq!(record.get("Notes").as_array().and_then(|items| items[0].as_str()), Some("five"));

    let name = "<p:ElementName>x</p:ElementName>";
    let unmarked = ask("Put", SETTINGS, &[("InstanceID", id.as_str())])
        .header("<w:FragmentTransfer>ElementName</w:FragmentTransfer>")
        .body(&format!("<w:XmlFragment xmlns:p=\"{V2}/{SETTINGS}\">{name}</w:XmlFragment>"));
    let cases = [
        ("another property", put_fragment(&id, "Notes", name), FRAGMENT),
        ("two", put_fragment(&id, "ElementName", &format!("{name}<p:Notes>y</p:Notes>")), FRAGMENT),
        ("nothing", put_fragment(&id, "ElementName", ""), FRAGMENT),
        ("elements as text", put_fragment(&id, "ElementName/text()", name), FRAGMENT),
        ("two values of a scalar", put_fragment(&id, "ElementName", &name.repeat(2)), VALUES),
        ("two values of an item", put_fragment(&id, "Notes[1]", &"<p:Notes>y</p:Notes>".repeat(2)), VALUES),
        ("an item that is not there", put_fragment(&id, "Notes[2]", "<p:Notes>y</p:Notes>"), PATH),
        ("a second scalar", put_fragment(&id, "ElementName[2]", name), PATH),
        ("below a property", put_fragment(&id, "CreationTime/Datetime", "x"), PATH),
        ("an attribute", put_fragment(&id, "ElementName/@lang", "x"), PATH),
        ("no property", put_fragment(&id, "NoSuchProperty", "x"), PATH),
        ("a whole instance", put_fragment(&id, "ElementName", "").body(&element(SETTINGS, name)), FRAGMENT),
        ("no mark", unmarked, "a:InvalidMessageInformationHeader//2150858761"),
        (
            "Delete of a fragment",
            ask("Delete", MACHINES, &[("InstanceID", "x")])
                .header("<w:FragmentTransfer s:mustUnderstand=\"true\">ElementName</w:FragmentTransfer>"),
            "w:UnsupportedFeature/FragmentLevelAccess/2150858844",
        ),
    ];
    for (name, request, expected) in &cases {
        let body = request.send(&server).await;
        let (fault, expected) = (fault_of(&body), (*expected).to_owned());
        assert_eq!(
            fault.rsplit_once('/').map(|(name, _)| name),
            expected.rsplit_once('/').map(|(name, _)| name),
            "{name}: {body}"
        );
    }
    let record = instance(&server, SETTINGS, "InstanceID", &id);
    assert_eq!(record.get("ElementName").as_str(), Some("two"), "nothing has changed");
    server.engine.shutdown().await;
}

#[tokio::test]
async fn collections_are_created_and_deleted() {
    let server = TestServer::start().await;
    let create = |class: &str, properties: &str| ask("Create", class, &[]).body(&element(class, properties));
    for class in [MACHINES, "Msvm_ManagementCollection"] {
        let body = create(class, "<p:ElementName>shop</p:ElementName>").send(&server).await;
        let created = Node::parse(&body);
        let created = created.find("ResourceCreated").expect("x:ResourceCreated");
        assert_eq!(created.namespace, TRANSFER);
        assert_eq!(created.find("ResourceURI").expect("a URI").text, uri(class));
        let id = created.find("Selector").expect("a key").text.clone();
        assert_eq!(instance(&server, class, "CollectionID", &id).get("ElementName").as_str(), Some("shop"));

        let renamed =
            ask("Put", class, &[("CollectionID", &id)]).body(&element(class, "<p:ElementName>store</p:ElementName>"));
        assert!(renamed.send(&server).await.contains("<p:ElementName>store</p:ElementName>"));
        let body = ask("Delete", class, &[("CollectionID", &id)]).send(&server).await;
        assert_eq!(between(&body, "<a:Action>", "</a:Action>"), format!("{TRANSFER}/DeleteResponse"));
        assert_eq!(Node::parse(&body).find("Body").expect("a body").children.len(), 0, "{body}");
        let again = ask("Delete", class, &[("CollectionID", &id)]).send(&server).await;
        assert_eq!(fault_of(&again), "a:DestinationUnreachable//2150858752");
    }

    let chosen =
        "<p:ElementName>a</p:ElementName><p:CollectionID>7D9E1B6E-0000-4000-8000-0000000000AA</p:CollectionID>";
    let body = create(MACHINES, chosen).send(&server).await;
    assert!(body.contains("7D9E1B6E-0000-4000-8000-0000000000AA"), "{body}");
    let cases = [
        ("twice", create(MACHINES, chosen), "w:AlreadyExists//2150858803"),
        ("no name", create(MACHINES, ""), VALUES),
        ("no GUID", create(MACHINES, "<p:ElementName>a</p:ElementName><p:CollectionID>1</p:CollectionID>"), VALUES),
        ("what cannot be chosen", create(MACHINES, "<p:ElementName>a</p:ElementName><p:Caption>b</p:Caption>"), VALUES),
        ("an unknown property", create(MACHINES, "<p:Colour>red</p:Colour>"), FRAGMENT),
        (
            "keys as selectors",
            ask("Create", MACHINES, &[("InstanceID", "x")])
                .body(&element(MACHINES, "<p:ElementName>a</p:ElementName>")),
            "w:InvalidSelectors/UnexpectedSelectors/2150858843",
        ),
        ("a snapshot collection", create("Msvm_SnapshotCollection", ""), MISMATCH),
        ("a job", create("Msvm_ConcreteJob", ""), MISMATCH),
    ];
    check_faults(&server, &cases).await;
    server.engine.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_does_not_fit_says_that_the_change_was_made() {
    let server = TestServer::start().await;
    let notes = "n".repeat(9000);
    let body = put(&active(OFF), &format!("<p:Notes>{notes}</p:Notes>"))
        .header("<w:MaxEnvelopeSize s:mustUnderstand=\"true\">8192</w:MaxEnvelopeSize>")
        .send(&server)
        .await;
    assert!(fault_of(&body).starts_with("w:EncodingLimit/UnreportableSuccess/"), "{body}");
    let record = instance(&server, SETTINGS, "InstanceID", &active(OFF));
    assert_eq!(record.get("Notes").as_array().and_then(|items| items[0].as_str()), Some(notes.as_str()));
    server.engine.shutdown().await;
}

#[tokio::test]
async fn a_volume_that_is_a_snapshot_is_deleted_with_its_file() {
    let server = TestServer::start().await;
    let volume = |name: &str| {
        let view = server.engine.view();
        view.volumes().find(|volume| volume.file_name == name).map(|volume| volume.id)
    };
    let source = volume("vol1").expect("the volume");
    let user = Principal::local("admin");
    let request = CreateVolumeSnapshot { source, name: Some("before".into()), target_pool: None };
    let VolumeOutcome::Started { job, volume: id } =
        server.engine.create_volume_snapshot(request, user.name()).await.expect("accepted")
    else {
        panic!("the pool copies");
    };
    let delete = |id: wsnapd::time::Guid| {
        Exchange::new(
            format!("{TRANSFER}/Delete"),
            format!("http://schemas.microsoft.com/wbem/wsman/1/wmi/{STORAGE}/MSFT_SMStorageVolume"),
        )
        .selectors(&[("ObjectId", &id.to_string())])
    };
    server.finished(job).await;
    let file = server.engine.view().volume(id).expect("the snapshot").path.clone();
    assert!(file.exists());
    let fault = fault_of(&delete(source).send(&server).await);
    assert_eq!(fault, MISMATCH, "a volume that is no snapshot");

    let body = delete(id).send(&server).await;
    assert!(body.contains("/DeleteResponse"), "{body}");
    assert!(!file.exists(), "the file is gone");
    assert!(server.engine.view().volume(id).is_none());
    assert_eq!(fault_of(&delete(id).send(&server).await), "a:DestinationUnreachable//2150858752");
    assert!(server.engine.view().volume(source).is_some_and(|volume| volume.path.exists()), "the source stays");
    server.engine.shutdown().await;
}
