//! Class definitions over the wire: each one as the schema has it, lists, options and faults
//! (`ws-management.md` §12, C160, C161).

use wsnapd::cim::{CimType, CimValue, ClassDeclaration, ClassName, Qualifier};

use crate::exchange::{Exchange, TRANSFER, check_faults};
use crate::support::{HOST, TestServer};
use crate::tree::{ADDRESSING, ENUMERATION, Node, SOAP, WSMAN, whole_list};
use crate::wsman::{between, fault_of};

const ALL: &str = "http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/*";
const V2: &str = "root/virtualization/v2";
const SERVICE: &str = "Msvm_VirtualSystemSnapshotService";
const EVERYTHING: &[(&str, &str)] =
    &[("IncludeInheritanceHierarchy", "true"), ("IncludeInheritedElements", "true"), ("wmi:IncludeQualifiers", "true")];
/// Qualifiers that are flags on the wire.
const FLAGS: &[&str] =
    &["abstract", "association", "expensive", "indication", "key", "read", "required", "static", "terminal"];

fn get(namespace: &str, class: &str) -> Exchange {
    Exchange::get(ALL).selectors(&[("__cimnamespace", namespace), ("ClassName", class)])
}

fn list(selectors: &[(&str, &str)], inner: &str) -> Exchange {
    let inner = format!("<w:OptimizeEnumeration/><w:MaxElements>32000</w:MaxElements>{inner}");
    Exchange::enumerate(ALL, &inner).selectors(&[&[("__cimnamespace", V2)], selectors].concat())
}

fn class_of(body: &str) -> Node {
    let mut envelope = Node::parse(body);
    let mut answer = envelope.children.pop().unwrap_or_else(|| panic!("no body: {body}"));
    assert_eq!(answer.children.len(), 1, "{body}");
    answer.children.remove(0)
}

fn attribute<'n>(node: &'n Node, name: &str) -> Option<&'n str> {
    node.attributes.get(name).map(String::as_str)
}

fn names(body: &str) -> Vec<String> {
    whole_list(body).iter().map(|class| attribute(class, "NAME").expect("a name").to_owned()).collect()
}

/// The texts of the VALUE elements below a node.
fn values(node: &Node) -> Vec<&str> {
    match node.children.iter().find(|child| child.local == "VALUE" || child.local == "VALUE.ARRAY") {
        Some(array) if array.local == "VALUE.ARRAY" => array.children.iter().map(|item| item.text.as_str()).collect(),
        Some(value) => vec![value.text.as_str()],
        None => Vec::new(),
    }
}

fn text_of(value: &CimValue) -> String {
    match value {
        CimValue::String(text) => text.to_string(),
        CimValue::Boolean(flag) => flag.to_string(),
        other => other.as_u64().map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}

/// What a class must look like, as lines.
fn expected(class: &ClassDeclaration) -> Vec<String> {
    let mut lines = Vec::new();
    let derivation: Vec<&str> = class.ancestors().map(|class| class.name().as_str()).collect();
    lines.push(format!(
        "CLASS {} < {:?} [{}]",
        class.name(),
        class.superclass().map(|class| class.name().as_str()),
        derivation.join(",")
    ));
    qualifiers(&mut lines, class.qualifiers());
    for property in class.properties() {
        let target = property.reference_class.as_ref().map(ClassName::as_str);
        let kind = if property.is_array { "ARRAY" } else { "ONE" };
        let ty = if property.ty == CimType::Reference { "ref" } else { property.ty.name() };
        let origin = &property.class_origin;
        lines.push(format!("PROPERTY {} {kind} {ty} {target:?} {origin} {}", property.name, property.propagated));
        qualifiers(&mut lines, &property.qualifiers);
    }
    for method in class.methods() {
        let origin = &method.class_origin;
        lines.push(format!("METHOD {} {} {origin} {}", method.name, method.return_type.name(), method.propagated));
        qualifiers(&mut lines, &method.qualifiers);
        for parameter in &method.parameters {
            let target = parameter.reference_class.as_ref().map(ClassName::as_str);
            let kind = if parameter.is_array { "ARRAY" } else { "ONE" };
            let ty = if parameter.ty == CimType::Reference { "ref" } else { parameter.ty.name() };
            lines.push(format!("PARAMETER {} {kind} {ty} {target:?}", parameter.name));
            for (is, name) in [(parameter.is_in, "in"), (parameter.is_out, "out")] {
                if is {
                    lines.push(format!("QUALIFIER {name} boolean [\"true\"]"));
                }
            }
            let others: Vec<Qualifier> = parameter
                .qualifiers
                .iter()
                .filter(|qualifier| qualifier.name != "In" && qualifier.name != "Out")
                .cloned()
                .collect();
            qualifiers(&mut lines, &others);
        }
    }
    lines
}

fn qualifiers(lines: &mut Vec<String>, qualifiers: &[Qualifier]) {
    for qualifier in qualifiers {
        let values: Vec<String> = match &qualifier.value {
            CimValue::Null => Vec::new(),
            CimValue::Array(items) => items.iter().map(text_of).collect(),
            value => vec![text_of(value)],
        };
        let name = qualifier.name.as_str();
        let name = FLAGS.iter().find(|flag| flag.eq_ignore_ascii_case(name)).copied().unwrap_or(name);
        lines.push(format!("QUALIFIER {name} {} {values:?}", qualifier.ty.name()));
    }
}

/// The same lines from a CLASS element.
fn shown(node: &Node, lines: &mut Vec<String>) {
    let name = attribute(node, "NAME").unwrap_or_default();
    let target = attribute(node, "REFERENCECLASS");
    let origin = attribute(node, "CLASSORIGIN").unwrap_or_default();
    let propagated = attribute(node, "PROPAGATED") == Some("true");
    let ty = attribute(node, "TYPE").unwrap_or("ref");
    let (element, kind) = match node.local.split_once('.') {
        Some((element, "ARRAY" | "REFARRAY")) => (element, "ARRAY"),
        Some((element, _)) => (element, "ONE"),
        None => (node.local.as_str(), "ONE"),
    };
    assert_eq!(node.namespace, "", "{name} is in no namespace");
    lines.push(match element {
        "CLASS" => {
            let derivation = attribute(node, "DERIVATION").expect("a derivation");
            format!("CLASS {name} < {:?} [{derivation}]", attribute(node, "SUPERCLASS"))
        }
        "PROPERTY" => format!("PROPERTY {name} {kind} {ty} {target:?} {origin} {propagated}"),
        "METHOD" => format!("METHOD {name} {ty} {origin} {propagated}"),
        "PARAMETER" => format!("PARAMETER {name} {kind} {ty} {target:?}"),
        "QUALIFIER" => {
            lines.push(format!("QUALIFIER {name} {ty} {:?}", values(node)));
            return;
        }
        "VALUE" => return,
        other => panic!("an element {other} in a class"),
    });
    node.children.iter().for_each(|child| shown(child, lines));
}

#[tokio::test]
async fn every_class_is_answered_as_the_schema_declares_it() {
    let server = TestServer::start().await;
    let mut compared = 0;
    for namespace in server.manager.schema().namespaces() {
        for class in namespace.classes() {
            let body = get(namespace.name(), class.name().as_str()).options(EVERYTHING).send(&server).await;
            let mut lines = Vec::new();
            shown(&class_of(&body), &mut lines);
            assert_eq!(lines, expected(class), "{} in {}", class.name(), namespace.name());
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} classes");
    server.engine.shutdown().await;
}

#[tokio::test]
async fn the_snapshot_service_reads_as_a_windows_client_expects() {
    let server = TestServer::start().await;
    let body = get(V2, SERVICE).options(EVERYTHING).send(&server).await;
    assert_eq!(between(&body, "<a:Action>", "</a:Action>"), format!("{TRANSFER}/GetResponse"));
    for part in [
        "<s:Body><CLASS NAME=\"Msvm_VirtualSystemSnapshotService\" SUPERCLASS=\"CIM_VirtualSystemSnapshotService\" DERIVATION=\"CIM_VirtualSystemSnapshotService,CIM_Service,",
        "<PROPERTY NAME=\"Name\" TYPE=\"string\" CLASSORIGIN=\"CIM_",
        "<QUALIFIER NAME=\"key\" TYPE=\"boolean\"",
        "<METHOD NAME=\"CreateSnapshot\" TYPE=\"uint32\" CLASSORIGIN=\"",
        "<PARAMETER.REFERENCE NAME=\"AffectedSystem\" REFERENCECLASS=\"CIM_ComputerSystem\"><QUALIFIER NAME=\"in\" TYPE=\"boolean\"><VALUE>true</VALUE></QUALIFIER>",
        "<PARAMETER NAME=\"SnapshotSettings\" TYPE=\"string\">",
        "<QUALIFIER NAME=\"EmbeddedInstance\" TYPE=\"string\"",
        "<QUALIFIER NAME=\"in\" TYPE=\"boolean\"><VALUE>true</VALUE></QUALIFIER><QUALIFIER NAME=\"out\" TYPE=\"boolean\"><VALUE>true</VALUE></QUALIFIER>",
        "<PARAMETER.REFERENCE NAME=\"Job\" REFERENCECLASS=\"CIM_ConcreteJob\"><QUALIFIER NAME=\"out\" TYPE=\"boolean\"><VALUE>true</VALUE></QUALIFIER>",
    ] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn each_option_changes_what_it_names() {
    let server = TestServer::start().await;
    let plain = get(V2, SERVICE).send(&server).await;
    let all = get(V2, SERVICE).options(EVERYTHING).send(&server).await;
    for (option, mark) in [
        ("IncludeInheritanceHierarchy", " DERIVATION=\""),
        ("IncludeInheritedElements", "<PROPERTY NAME=\"Caption\""),
        ("IncludeQualifiers", "<QUALIFIER "),
    ] {
        assert!(!plain.contains(mark) && all.contains(mark), "{mark}");
        for (value, is_on) in [("true", true), ("1", true), ("TRUE", true), ("false", false), ("0", false), ("", false)]
        {
            for name in [option.to_owned(), format!("wmi:{option}"), option.to_lowercase()] {
                let body = get(V2, SERVICE).options(&[(&name, value)]).send(&server).await;
                assert_eq!(body.contains(mark), is_on, "{name}={value}: {body}");
            }
        }
    }
    // Class origins are there unless they are refused.
    for (options, is_on) in [
        (&[][..], true),
        (&[("IncludeClassOrigin", "true")][..], true),
        (&[("IncludeClassOrigin", "false")][..], false),
    ] {
        let body = get(V2, SERVICE).options(options).send(&server).await;
        assert_eq!(body.contains(" CLASSORIGIN=\""), is_on, "{options:?}");
    }
    // A list takes the same options.
    let body = list(&[("ClassName", "CIM_VirtualSystemSnapshotService")], "").options(EVERYTHING).send(&server).await;
    assert!(body.contains(between(&all, "<s:Body>", "</s:Body>")), "{body}");
    server.engine.shutdown().await;
}

#[tokio::test]
async fn the_class_may_stand_in_the_uri() {
    let server = TestServer::start().await;
    let by_selector = get(V2, SERVICE).send(&server).await;
    let uri = ALL.replace('*', SERVICE);
    for request in [
        Exchange::get(&uri).selectors(&[("__cimnamespace", V2)]),
        Exchange::get(&uri),
        Exchange::get(&uri).selectors(&[("ClassName", "MSVM_VirtualSystemSnapshotService")]),
        Exchange::get(uri.replace("http:", "https:").replace("schemas", "SCHEMAS")),
    ] {
        let body = request.send(&server).await;
        assert_eq!(between(&body, "<s:Body>", "</s:Body>"), between(&by_selector, "<s:Body>", "</s:Body>"), "{body}");
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn lists_hold_the_classes_that_are_asked_for() {
    let server = TestServer::start().await;
    let schema = server.manager.namespace(V2).unwrap();
    let all: Vec<String> = schema.classes().map(|class| class.name().to_string()).collect();
    let roots: Vec<String> =
        schema.classes().filter(|class| class.superclass().is_none()).map(|class| class.name().to_string()).collect();
    let below = |name: &str| -> Vec<String> {
        let class = schema.class(name).unwrap();
        schema.with_subclasses(class).iter().skip(1).map(|class| class.name().to_string()).collect()
    };
    let direct: Vec<String> =
        schema.direct_subclasses(&"CIM_Service".into()).iter().map(|class| class.name().to_string()).collect();
    assert!(roots.len() > 1 && roots.len() < all.len());
    let services = below("CIM_Service");
    assert!(direct.len() < services.len());
    let deep = ("IncludeSubClasses", "true");
    let shallow = ("wmi:IncludeSubClasses", "false");
    for (selectors, options, expected) in [
        (&[][..], &[][..], &all),
        (&[("ClassName", "")], &[], &all),
        (&[("ClassName", "")], &[deep], &all),
        (&[("ClassName", "")], &[shallow], &roots),
        (&[("ClassName", "CIM_Service")], &[], &direct),
        (&[("classname", "cim_service")], &[shallow], &direct),
        (&[("ClassName", "CIM_Service")], &[deep], &services),
        (&[("ClassName", SERVICE)], &[deep], &vec![]),
    ] {
        let body = list(selectors, "").options(options).send(&server).await;
        assert_eq!(&names(&body), expected, "{selectors:?} {options:?}");
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn entries_take_the_form_that_is_asked_for() {
    let server = TestServer::start().await;
    let asked = [("ClassName", "CIM_VirtualSystemSnapshotService")];
    let path = format!(
        "<CLASSPATH><NAMESPACEPATH><HOST>{HOST}</HOST><LOCALNAMESPACEPATH><NAMESPACE NAME=\"root\"/><NAMESPACE NAME=\"virtualization\"/><NAMESPACE NAME=\"v2\"/></LOCALNAMESPACEPATH></NAMESPACEPATH><CLASSNAME NAME=\"{SERVICE}\"/></CLASSPATH>"
    );
    let class = format!("<CLASS NAME=\"{SERVICE}\" SUPERCLASS=\"CIM_VirtualSystemSnapshotService\">");
    let (with_path, without) = (("IncludePath", "true"), ("ExcludeClassSpecification", "true"));
    for (options, start) in [
        (&[][..], class.clone()),
        (&[with_path], format!("<VALUE.OBJECTWITHPATH>{path}{class}")),
        (&[with_path, without], format!("{path}</w:Items>")),
        (&[without], format!("<CLASSNAME NAME=\"{SERVICE}\"/></w:Items>")),
    ] {
        let body = list(&asked, "").options(options).send(&server).await;
        assert!(body.contains(&format!("<w:Items>{start}")), "{options:?}: {body}");
        assert_eq!(whole_list(&body).len(), 1);
    }
    let mode = |mode: &str| format!("<w:EnumerationMode>{mode}</w:EnumerationMode>");
    let body = list(&asked, &mode("EnumerateEPR")).send(&server).await;
    let reference = whole_list(&body).remove(0);
    assert_eq!((reference.namespace.as_str(), reference.local.as_str()), (ADDRESSING, "EndpointReference"));
    // The reference leads back to the class.
    let parameters = between(&body, "<a:ReferenceParameters>", "</a:ReferenceParameters>");
    let uri = between(parameters, "<w:ResourceURI>", "</w:ResourceURI>");
    let set = parameters.split_once("</w:ResourceURI>").unwrap().1;
    let answer = Exchange::get(uri).header(set).send(&server).await;
    assert_eq!(attribute(&class_of(&answer), "NAME"), Some(SERVICE));
    let body = list(&asked, &mode("EnumerateObjectAndEPR")).send(&server).await;
    let item = whole_list(&body).remove(0);
    assert_eq!((item.namespace.as_str(), item.local.as_str()), (WSMAN, "Item"));
    let inside: Vec<&str> = item.children.iter().map(|child| child.local.as_str()).collect();
    assert_eq!(inside, ["CLASS", "EndpointReference"]);
    server.engine.shutdown().await;
}

#[tokio::test]
async fn a_long_list_is_split_by_the_envelope_and_by_the_batch() {
    let server = TestServer::start().await;
    let all: Vec<String> =
        server.manager.namespace(V2).unwrap().classes().map(|class| class.name().to_string()).collect();
    for (limit, batch) in [(200_000, 32_000), (512_000, 7)] {
        let header = format!("<w:MaxEnvelopeSize s:mustUnderstand=\"true\">{limit}</w:MaxEnvelopeSize>");
        let start = Exchange::enumerate(ALL, "").header(&header).header("<w:RequestTotalItemsCountEstimate/>");
        let body = start.options(EVERYTHING).send(&server).await;
        let estimate = between(&body, "<w:TotalItemsCountEstimate>", "</w:TotalItemsCountEstimate>");
        assert_eq!(estimate, all.len().to_string());
        let mut context = between(&body, "<n:EnumerationContext>", "</n:EnumerationContext>").to_owned();
        let (mut found, mut pulls) = (Vec::new(), 0);
        while !context.is_empty() {
            let inner = format!("<n:MaxElements>{batch}</n:MaxElements>");
            let body = Exchange::pull(ALL, &context, &inner).header(&header).send(&server).await;
            assert!(body.len() <= limit, "{} octets", body.len());
            let envelope = Node::parse(&body);
            let answer = envelope.at(&[(SOAP, "Body"), (ENUMERATION, "PullResponse")]).expect("a PullResponse");
            let items = &answer.child(ENUMERATION, "Items").expect("items").children;
            assert!(items.len() <= batch);
            found.extend(items.iter().map(|class| attribute(class, "NAME").expect("a name").to_owned()));
            context = between(&body, "<n:EnumerationContext>", "</n:EnumerationContext>").to_owned();
            pulls += 1;
        }
        assert!(pulls > 1);
        assert_eq!(found, all);
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn wrong_requests_get_the_documented_faults() {
    let server = TestServer::start().await;
    let all = |action: &str| Exchange::new(format!("{TRANSFER}/{action}"), ALL);
    let unknown = "a:DestinationUnreachable/InvalidResourceURI/2150858811";
    let mismatch = "a:ActionNotSupported/ActionMismatch/2150858801";
    let value = "w:InvalidOptions/InvalidValue/2150858835";
    let option = |name, value| get(V2, SERVICE).options(&[(name, value)]);
    let no_class = "w:InvalidSelectors/InsufficientSelectors/2150859254";
    let fragment = "<w:FragmentTransfer s:mustUnderstand=\"true\">NAME</w:FragmentTransfer>";
    let no_fragment = "w:UnsupportedFeature/FragmentLevelAccess/2150858871";
    let cases = [
        ("class", get(V2, "Msvm_Nothing"), unknown),
        ("class of another namespace", get("root/omi", SERVICE), unknown),
        ("namespace", get("root/nothing", SERVICE), unknown),
        ("list below an unknown class", list(&[("ClassName", "Msvm_Nothing")], ""), unknown),
        ("list of an unknown namespace", Exchange::enumerate(ALL, "").selectors(&[("__cimnamespace", "x")]), unknown),
        ("no selector", Exchange::get(ALL), no_class),
        ("no ClassName", Exchange::get(ALL).selectors(&[("__cimnamespace", V2)]), no_class),
        ("an empty ClassName", get(V2, " "), no_class),
        (
            "another selector",
            Exchange::get(ALL).selectors(&[("ClassName", SERVICE), ("Name", "x")]),
            "w:InvalidSelectors/UnexpectedSelectors/2150858843",
        ),
        (
            "ClassName twice",
            Exchange::get(ALL).selectors(&[("ClassName", SERVICE), ("classname", SERVICE)]),
            "w:InvalidSelectors/DuplicateSelectors/2150858847",
        ),
        (
            "ClassName against the URI",
            Exchange::get(ALL.replace('*', SERVICE)).selectors(&[("ClassName", "Msvm_ComputerSystem")]),
            "w:InvalidSelectors/InvalidValue/2150858845",
        ),
        ("IncludeQualifiers", option("IncludeQualifiers", "maybe"), value),
        ("wmi:IncludeClassOrigin", option("wmi:IncludeClassOrigin", "2"), value),
        ("IncludePath", list(&[], "").options(&[("IncludePath", "yes")]), value),
        (
            "a contradiction",
            get(V2, SERVICE).options(&[("IncludeQualifiers", "true"), ("wmi:IncludeQualifiers", "false")]),
            value,
        ),
        ("a fragment", get(V2, SERVICE).header(fragment), no_fragment),
        ("a fragment of a list", list(&[], "").header(fragment), no_fragment),
        (
            "a polymorphism mode",
            list(&[], "<b:PolymorphismMode>None</b:PolymorphismMode>"),
            "b:PolymorphismModeNotSupported//2150859063",
        ),
        (
            "a mode",
            list(&[], "<w:EnumerationMode>X</w:EnumerationMode>"),
            "w:UnsupportedFeature/EnumerationMode/2150858886",
        ),
        ("Put", all("Put"), mismatch),
        ("Create", all("Create"), mismatch),
        ("Delete", all("Delete"), mismatch),
        ("a method", Exchange::new(format!("{ALL}/Run"), ALL), mismatch),
        ("the WS-CIM form", Exchange::get(ALL.replace("cim-xml/2", "ws-cim/1")), "w:UnsupportedFeature//2150858818"),
        ("nothing after the slash", Exchange::get(ALL.trim_end_matches('*')), unknown),
    ];
    for body in check_faults(&server, &cases).await {
        assert!(body.contains("IsCIM_Error=\"true\""), "{body}");
    }
    // One class that does not fit is a fault of its own.
    let small = get(V2, SERVICE).options(EVERYTHING).header("<w:MaxEnvelopeSize>8192</w:MaxEnvelopeSize>");
    let fault = fault_of(&small.send(&server).await);
    assert_eq!(fault, "w:EncodingLimit/MaxEnvelopeSizeExceeded/2150858824");
    server.engine.shutdown().await;
}
