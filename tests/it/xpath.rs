//! XPath level 1 over the wire: filters of Enumerate and fragments of Get (`ws-management.md` §6.8, §8.6,
//! C060 to C064, C068).

use crate::exchange::{Exchange, check_faults};
use crate::support::{OFF, TestServer};
use crate::tree::Node;
use crate::wsman::between;

const V2: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2";
const XPATH: &str = "http://www.w3.org/TR/1999/REC-xpath-19991116";

fn list(class: &str, filter: &str) -> Exchange {
    let inner = format!("<w:OptimizeEnumeration/><w:MaxElements>1000</w:MaxElements>{filter}");
    Exchange::enumerate(format!("{V2}/{class}"), &inner)
}

async fn names(server: &TestServer, class: &str, filter: &str) -> Vec<String> {
    let body = list(class, filter).send(server).await;
    let items = Node::parse(&body);
    let items = items.find("Items").unwrap_or_else(|| panic!("{filter}: {body}"));
    items.children.iter().map(|item| item.find("ElementName").expect("a name").text.clone()).collect()
}

fn machine(expression: &str) -> Exchange {
    Exchange::get(format!("{V2}/Msvm_ComputerSystem"))
        .selectors(&[("CreationClassName", "Msvm_ComputerSystem"), ("Name", OFF)])
        .header(&format!("<w:FragmentTransfer s:mustUnderstand=\"true\">{expression}</w:FragmentTransfer>"))
}

#[tokio::test]
async fn a_filter_passes_instances_in_which_it_finds_something() {
    let server = TestServer::start().await;
    let all = names(&server, "Msvm_ComputerSystem", "").await;
    assert!(all.len() >= 2, "{all:?}");
    for (filter, expected) in [
        ("<w:Filter>ElementName</w:Filter>".to_owned(), &all),
        ("<n:Filter>/Msvm_ComputerSystem/p:ElementName/text()</n:Filter>".to_owned(), &all),
        (format!("<w:Filter Dialect=\"{XPATH}\"> ElementName[1] </w:Filter>"), &all),
        (format!("<w:Filter Dialect=\" {} \">elementname</w:Filter>", XPATH.to_uppercase()), &all),
        ("<w:Filter>ElementName[2]</w:Filter>".to_owned(), &vec![]),
        ("<w:Filter>ElementName/@nil</w:Filter>".to_owned(), &vec![]),
        ("<w:Filter>/CIM_ComputerSystem/ElementName</w:Filter>".to_owned(), &vec![]),
        ("<w:Filter>NoSuchProperty</w:Filter>".to_owned(), &vec![]),
    ] {
        assert_eq!(&names(&server, "Msvm_ComputerSystem", &filter).await, expected, "{filter}");
    }
    // Properties without a value are nil elements, which are there but have no text.
    let nil = "<w:Filter>TimeOfLastStateChange</w:Filter>";
    assert_eq!(names(&server, "Msvm_ComputerSystem", nil).await, all);
    let body = list("Msvm_ComputerSystem", "").send(&server).await;
    let with_text = |property: &str| body.matches(&format!("<p:{property}>")).count();
    for property in ["TimeOfLastStateChange", "InstallDate", "Description", "ProcessID"] {
        let filter = format!("<w:Filter>{property}/text()</w:Filter>");
        let found = names(&server, "Msvm_ComputerSystem", &filter).await.len();
        assert_eq!(found, with_text(property), "{property}");
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn filters_outside_the_subset_say_where() {
    let server = TestServer::start().await;
    let wrong = "n:CannotProcessFilter//2150858778";
    let filter = |text: &str| list("Msvm_ComputerSystem", &format!("<w:Filter>{text}</w:Filter>"));
    let cases = [
        ("nothing", filter(""), wrong),
        ("descendants", filter("//ElementName"), wrong),
        ("a condition", filter("ElementName[.='db01']"), wrong),
        ("a comparison", filter("ElementName = 'db01'"), wrong),
        ("a function", filter("count(ElementName)"), wrong),
        ("an element", filter("<x/>"), wrong),
        ("all classes", list("*", "<w:Filter>ElementName</w:Filter>"), wrong),
        (
            "another dialect",
            list("Msvm_ComputerSystem", "<w:Filter Dialect=\"http://www.w3.org/TR/xpath20\">ElementName</w:Filter>"),
            "n:FilterDialectRequestedUnavailable//2150858777",
        ),
    ];
    let bodies = check_faults(&server, &cases).await;
    assert!(bodies[3].contains("from character 13 on"), "{}", bodies[3]);
    assert!(bodies[7].contains(XPATH), "the dialect is named among those that are offered: {}", bodies[7]);
    server.engine.shutdown().await;
}

#[tokio::test]
async fn fragments_reach_below_properties() {
    let server = TestServer::start().await;
    let whole = Exchange::get(format!("{V2}/Msvm_ComputerSystem"))
        .selectors(&[("CreationClassName", "Msvm_ComputerSystem"), ("Name", OFF)])
        .send(&server)
        .await;
    let changed = between(&whole, "<p:TimeOfLastStateChange><cim:Datetime>", "</cim:Datetime>");
    assert!(!changed.is_empty(), "{whole}");
    for (expression, expected) in [
        ("ElementName", "<p:ElementName>db01</p:ElementName>".to_owned()),
        ("elementname/text()", "db01".to_owned()),
        ("p:TimeOfLastStateChange/text()", changed.to_owned()),
        ("TimeOfLastStateChange/Datetime", format!("<cim:Datetime>{changed}</cim:Datetime>")),
        ("TimeOfLastStateChange/cim:Datetime/text()", changed.to_owned()),
    ] {
        let body = machine(expression).send(&server).await;
        let answer = between(&body, "<w:XmlFragment", "</w:XmlFragment>");
        assert_eq!(answer.split_once('>').map(|(_, content)| content), Some(expected.as_str()), "{expression}: {body}");
        assert!(body.contains(&format!(">{expression}</w:FragmentTransfer>")), "the header comes back: {body}");
        Node::parse(&body);
    }
    for nothing in ["ElementName[2]", "ElementName/@nil", "ElementName[2]/text()"] {
        let body = machine(nothing).send(&server).await;
        assert!(body.contains("xsi:nil=\"true\"/></s:Body>"), "{nothing}: {body}");
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn fragments_outside_the_subset_are_refused() {
    let server = TestServer::start().await;
    let wrong = "w:CannotProcessFilter//2150859042";
    let association = Exchange::get(format!("{V2}/Msvm_SettingsDefineState"));
    let body = Exchange::enumerate(
        format!("{V2}/Msvm_SettingsDefineState"),
        "<w:OptimizeEnumeration/><w:EnumerationMode>EnumerateEPR</w:EnumerationMode>",
    )
    .send(&server)
    .await;
    let items = between(&body, "<w:Items>", "</w:Items>");
    let (_, set) = items.split_once("</w:ResourceURI>").expect("a reference");
    let (set, _) = set.rsplit_once("</a:ReferenceParameters>").expect("a reference");
    let end = |expression: &str| {
        let fragment = format!("<w:FragmentTransfer s:mustUnderstand=\"true\">{expression}</w:FragmentTransfer>");
        association.clone().header(set).header(&fragment)
    };
    let whole = end("ManagedElement").send(&server).await;
    assert!(whole.contains("<w:XmlFragment") && whole.contains("<a:ReferenceParameters>"), "{whole}");
    let cases = [
        ("absolute", machine("/Msvm_ComputerSystem/ElementName"), wrong),
        ("an attribute of the instance", machine("@type"), wrong),
        ("a condition", machine("ElementName[a]"), wrong),
        ("an axis", machine("self::ElementName"), wrong),
        ("an unknown property", machine("Foo"), wrong),
        ("an unknown element", machine("ElementName/Foo"), wrong),
        ("a part of a reference", end("ManagedElement/Address"), wrong),
        ("the text of a reference", end("ManagedElement/text()"), wrong),
        ("blank", machine(" "), "w:CannotProcessFilter//2150859017"),
    ];
    let bodies = check_faults(&server, &cases).await;
    assert!(bodies[2].contains("from character 13 on"), "{}", bodies[2]);
    server.engine.shutdown().await;
}
