//! Queries whose results are classes: over `META_CLASS`, and association queries with `ClassDefsOnly`
//! (`ws-management.md` §8.1, §12); and `KeysOnly` where the results are instances.

use std::sync::Arc;

use wsnapd::cim::ClassDeclaration;

use crate::exchange::{Exchange, check_faults};
use crate::support::{OFF, TestServer};
use crate::tree::{ADDRESSING, Node, whole_list};
use crate::wsman::between;

const CLASSES: &str = "http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/*";
const INSTANCES: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/*";
const V2: &str = "root/virtualization/v2";
const WQL: &str = "http://schemas.microsoft.com/wbem/wsman/1/WQL";

fn filtered(uri: &str, dialect: &str, filter: &str) -> Exchange {
    let inner = format!(
        "<w:OptimizeEnumeration/><w:MaxElements>32000</w:MaxElements><w:Filter Dialect=\"{dialect}\">{filter}</w:Filter>"
    );
    Exchange::enumerate(uri, &inner)
}

/// A query for classes of the namespace of machines.
fn classes(query: &str) -> Exchange {
    filtered(CLASSES, WQL, query).selectors(&[("__cimnamespace", V2)])
}

/// A query for instances there.
fn instances(query: &str) -> Exchange {
    filtered(INSTANCES, WQL, query)
}

fn names(body: &str) -> Vec<String> {
    let name = |class: Node| {
        assert_eq!((class.namespace.as_str(), class.local.as_str()), ("", "CLASS"), "{body}");
        class.attributes.get("NAME").expect("a name").clone()
    };
    whole_list(body).into_iter().map(name).collect()
}

/// The object path of the machine that is off.
fn machine() -> String {
    format!("{{Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{OFF}'}}")
}

#[tokio::test]
async fn a_query_over_meta_class_finds_the_classes_it_describes() {
    let server = TestServer::start().await;
    let schema = server.manager.namespace(V2).unwrap();
    let expected = |condition: &dyn Fn(&ClassDeclaration) -> bool| -> Vec<String> {
        let met = schema.classes().filter(|class: &&Arc<ClassDeclaration>| condition(class));
        met.map(|class| class.name().to_string()).collect()
    };
    let starts = |class: &ClassDeclaration, text: &str| class.name().as_str().starts_with(text);
    let root = |class: &ClassDeclaration, name: &str| {
        class.ancestors().last().map_or(class.name() == name, |root| root.name() == name)
    };
    for (condition, expected) in [
        ("", expected(&|_| true)),
        (" WHERE __THIS ISA \"CIM_Service\"", expected(&|class| class.is_a("CIM_Service"))),
        (" where __this isa cim_service", expected(&|class| class.is_a("CIM_Service"))),
        (" WHERE __CLASS = 'msvm_computersystem'", expected(&|class| class.name() == "Msvm_ComputerSystem")),
        (" WHERE __CLASS &lt;&gt; 'Msvm_ComputerSystem'", expected(&|class| class.name() != "Msvm_ComputerSystem")),
        (" WHERE __CLASS LIKE 'Msvm[_]Virtual%'", expected(&|class| starts(class, "Msvm_Virtual"))),
        (
            " WHERE __SUPERCLASS = 'CIM_Service'",
            expected(&|class| class.superclass().is_some_and(|above| above.name() == "CIM_Service")),
        ),
        (" WHERE __SUPERCLASS IS NULL", expected(&|class| class.superclass().is_none())),
        (" WHERE __DYNASTY = 'CIM_ManagedElement'", expected(&|class| root(class, "CIM_ManagedElement"))),
        (
            " WHERE __DERIVATION = 'CIM_Service'",
            expected(&|class| class.is_a("CIM_Service") && class.name() != "CIM_Service"),
        ),
        (
            " WHERE __THIS ISA 'CIM_Service' AND NOT (__CLASS LIKE 'CIM%' OR __SUPERCLASS LIKE 'CIM_Virtual%')",
            expected(&|class| {
                let above = class.superclass().is_some_and(|above| starts(above, "CIM_Virtual"));
                class.is_a("CIM_Service") && !starts(class, "CIM") && !above
            }),
        ),
        (" WHERE __CLASS = 'Msvm_Nothing'", Vec::new()),
    ] {
        let query = format!("SELECT * FROM META_CLASS{condition}");
        assert_eq!(names(&classes(&query).send(&server).await), expected, "{query}");
        if !condition.ends_with("'Msvm_Nothing'") {
            assert!(!expected.is_empty(), "{query} proves nothing");
        }
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn selectors_and_options_hold_for_filtered_classes_too() {
    let server = TestServer::start().await;
    let query = "SELECT * FROM meta_class WHERE __CLASS LIKE 'Msvm%'";
    let below = [("__cimnamespace", V2), ("ClassName", "CIM_Service")];
    let plain = filtered(CLASSES, WQL, query).selectors(&below).send(&server).await;
    assert_eq!(names(&plain).first().map(String::as_str), Some("Msvm_CollectionManagementService"));
    assert!(!plain.contains("<QUALIFIER"), "{plain}");
    let options = [("IncludeSubClasses", "true"), ("IncludeQualifiers", "true")];
    let deep = filtered(CLASSES, WQL, query).selectors(&below).options(&options).send(&server).await;
    assert!(names(&deep).len() > names(&plain).len() && deep.contains("<QUALIFIER"), "{deep}");
    let names_only = classes(query).options(&[("ExcludeClassSpecification", "true")]).send(&server).await;
    assert!(names_only.contains("<CLASSNAME NAME=\"Msvm_ComputerSystem\"/>") && !names_only.contains("CIM_"));
    server.engine.shutdown().await;
}

#[tokio::test]
async fn class_definitions_of_associated_instances_come_once_each() {
    let server = TestServer::start().await;
    let machine = machine();
    let all = names(&classes(&format!("ASSOCIATORS OF {machine} WHERE ClassDefsOnly")).send(&server).await);
    for class in ["Msvm_VirtualSystemSettingData", "Msvm_VirtualSystemManagementService", "Msvm_RegisteredProfile"] {
        assert_eq!(all.iter().filter(|found| *found == class).count(), 1, "{class}: {all:?}");
    }
    let limits = "AssocClass=Msvm_SettingsDefineState ResultClass=CIM_SettingData";
    for query in [
        format!("ASSOCIATORS OF {machine} WHERE {limits} ClassDefsOnly"),
        format!("ASSOCIATORS OF {machine} WHERE ClassDefsOnly {limits}"),
    ] {
        assert_eq!(names(&classes(&query).send(&server).await), ["Msvm_VirtualSystemSettingData"], "{query}");
    }
    let query = format!("REFERENCES OF {machine} WHERE ResultClass=CIM_SettingsDefineState ClassDefsOnly");
    assert_eq!(names(&classes(&query).send(&server).await), ["Msvm_SettingsDefineState"]);
    // Classes of another namespace: from a profile to the machines.
    let profile = "{Msvm_RegisteredProfile.InstanceID='DMTF|Virtual System|1.0.0'}";
    let mode = "<w:EnumerationMode>EnumerateEPR</w:EnumerationMode>";
    let filter =
        format!("ASSOCIATORS OF {profile} WHERE AssocClass=Msvm_StandaloneV2ElementConformsToProfile ClassDefsOnly");
    let inner = format!(
        "<w:OptimizeEnumeration/><w:MaxElements>9</w:MaxElements>{mode}<w:Filter Dialect=\"{WQL}\">{filter}</w:Filter>"
    );
    let body =
        Exchange::enumerate(CLASSES, &inner).selectors(&[("__cimnamespace", "root/interop")]).send(&server).await;
    let found = whole_list(&body);
    assert_eq!(found.len(), 1, "{body}");
    assert_eq!(
        found.first().map(|one| (one.namespace.as_str(), one.local.as_str())),
        Some((ADDRESSING, "EndpointReference"))
    );
    let parameters = between(&body, "<a:ReferenceParameters>", "</a:ReferenceParameters>");
    for part in [format!(">{V2}<"), ">Msvm_ComputerSystem<".to_owned()] {
        assert!(parameters.contains(&part), "{parameters}");
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn keys_only_leaves_the_keys() {
    let server = TestServer::start().await;
    let machine = machine();
    let limits = "AssocClass=Msvm_SettingsDefineState";
    for (query, key) in [
        (format!("ASSOCIATORS OF {machine} WHERE {limits} KeysOnly"), "InstanceID"),
        (format!("REFERENCES OF {machine} WHERE ResultClass=Msvm_SettingsDefineState KeysOnly"), "SettingData"),
    ] {
        let whole = whole_list(&instances(&query.replace("KeysOnly", "")).send(&server).await);
        let keys = whole_list(&instances(&query).send(&server).await);
        assert!(!keys.is_empty() && keys.len() == whole.len(), "{query}");
        for (keys, whole) in keys.iter().zip(&whole) {
            assert_eq!(keys.local, whole.local);
            for child in &keys.children {
                let is_nil = child.attributes.iter().any(|(name, value)| name.ends_with("nil") && value == "true");
                let is_key = child.local == key || child.local == "ManagedElement";
                assert_eq!(is_nil, !is_key, "{query}: {}", child.local);
            }
            let find =
                |node: &Node| node.children.iter().find(|child| child.local == key).map(|child| child.text.clone());
            assert_eq!(find(keys), find(whole));
        }
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn queries_on_the_wrong_resource_are_refused() {
    let server = TestServer::start().await;
    let cannot = "n:CannotProcessFilter//2150858778";
    let unavailable = "n:FilterDialectRequestedUnavailable//2150858777";
    let meta = "SELECT * FROM META_CLASS";
    let machine = machine();
    let definitions = format!("ASSOCIATORS OF {machine} WHERE ClassDefsOnly");
    let part = [("__cimnamespace", V2), ("ClassName", "CIM_Service")];
    let selector = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter";
    let cases = [
        ("instances of a class", classes("SELECT * FROM Msvm_ComputerSystem"), cannot),
        ("associated instances", classes(&format!("ASSOCIATORS OF {machine}")), cannot),
        ("keys of associated instances", classes(&format!("ASSOCIATORS OF {machine} WHERE KeysOnly")), cannot),
        ("both", classes(&format!("REFERENCES OF {machine} WHERE KeysOnly ClassDefsOnly")), cannot),
        ("an unknown class", classes("SELECT * FROM META_CLASS WHERE NOT __THIS ISA 'Msvm_Nothing'"), cannot),
        ("a property", classes("SELECT * FROM META_CLASS WHERE Name = 'x'"), cannot),
        ("a list", classes("SELECT __CLASS FROM META_CLASS"), cannot),
        ("no query", classes("META_CLASS"), cannot),
        ("an unknown object", classes("ASSOCIATORS OF {Msvm_ComputerSystem.Name='x'} WHERE ClassDefsOnly"), cannot),
        ("below a class", filtered(CLASSES, WQL, &definitions).selectors(&part), cannot),
        ("XPath", filtered(CLASSES, "http://www.w3.org/TR/1999/REC-xpath-19991116", "CLASS"), unavailable),
        ("selectors", filtered(CLASSES, selector, "<w:SelectorSet/>"), unavailable),
        ("classes among instances", instances(meta), cannot),
        ("class definitions among instances", instances(&definitions), cannot),
    ];
    for body in check_faults(&server, &cases).await {
        assert!(body.contains("IsCIM_Error=\"true\""), "{body}");
    }
    let body = instances(meta).send(&server).await;
    assert!(body.contains("cim-xml/2/cim-schema/2/*"), "{body}");
    server.engine.shutdown().await;
}
