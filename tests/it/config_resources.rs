//! The configuration resources: what they hold, which can be listed, and the faults for the rest
//! (`ws-management.md` §15, C045, C046, C068, C179).

use std::sync::Arc;

use wsnapd::access::{Account, Principal, Role, Scheme};

use crate::exchange::{ENUMERATION, Exchange, TRANSFER, check_faults};
use crate::support::{HOST, TestServer};
use crate::tree::{Node, SOAP};
use crate::wsman::{between, fault_of};

const CONFIG: &str = "http://schemas.microsoft.com/wbem/wsman/1/config";
const CFG: &str = CONFIG;

fn at(path: &str) -> String {
    format!("{CONFIG}{path}")
}

/// The one element of the body.
async fn get(server: &TestServer, request: Exchange) -> Node {
    let body = request.send(server).await;
    let mut envelope = Node::parse(&body);
    let mut answer = envelope.children.pop().expect("a body");
    assert_eq!((answer.local.as_str(), answer.children.len()), ("Body", 1), "{body}");
    answer.children.remove(0)
}

#[track_caller]
fn check(node: &Node, values: &[(&str, &str)]) {
    for (path, value) in values {
        let steps: Vec<(&str, &str)> = path.split('/').map(|step| (CFG, step)).collect();
        let found = node.at(&steps).map(|node| node.text.as_str());
        assert_eq!(found, Some(*value), "{path} in {}", node.local);
    }
}

#[tokio::test]
async fn the_whole_holds_the_options_of_the_service() {
    let server = TestServer::start().await;
    let config = get(&server, Exchange::get(at(""))).await;
    assert_eq!((config.namespace.as_str(), config.local.as_str()), (CFG, "Config"));
    check(
        &config,
        &[
            ("MaxEnvelopeSizekb", "500"),
            ("MaxTimeoutms", "60000"),
            ("MaxBatchItems", "32000"),
            ("MaxProviderRequests", "4294967295"),
            ("Client/NetworkDelayms", "5000"),
            ("Client/Auth/Basic", "true"),
            ("Client/DefaultPorts/HTTPS", "5986"),
            ("Service/MaxConcurrentOperationsPerUser", "1500"),
            ("Service/EnumerationTimeoutms", "240000"),
            ("Service/MaxConnections", "77"),
            ("Service/MaxPacketRetrievalTimeSeconds", "120"),
            ("Service/AllowUnencrypted", "false"),
            ("Service/Auth/Basic", "true"),
            ("Service/Auth/Negotiate", "false"),
            ("Service/Auth/Kerberos", "false"),
            ("Service/Auth/Certificate", "true"),
            ("Service/Auth/CredSSP", "true"),
            ("Service/RootSDDL", "O:NSG:BAD:P(A;;GA;;;BA)(A;;GXGR;;;AU)S:P(AU;FA;GA;;;WD)(AU;SA;GXGW;;;WD)"),
            ("Service/CertificateThumbprint", "0A1B2C"),
            ("Winrs/AllowRemoteShellAccess", "false"),
            ("Winrs/IdleTimeout", "7200000"),
        ],
    );
    let top: Vec<&str> = config.children.iter().map(|child| child.local.as_str()).collect();
    let order =
        ["MaxEnvelopeSizekb", "MaxTimeoutms", "MaxBatchItems", "MaxProviderRequests", "Client", "Service", "Winrs"];
    assert_eq!(top, order);
    server.engine.shutdown().await;
}

#[tokio::test]
async fn the_parts_are_resources_of_their_own() {
    let server = TestServer::start().await;
    let whole = get(&server, Exchange::get(at(""))).await;
    for (path, in_whole) in [
        ("/client", &["Client"][..]),
        ("/client/auth", &["Client", "Auth"]),
        ("/client/defaultports", &["Client", "DefaultPorts"]),
        ("/service", &["Service"]),
        ("/SERVICE/Auth", &["Service", "Auth"]),
        ("/service/defaultports", &["Service", "DefaultPorts"]),
        ("/winrs", &["Winrs"]),
    ] {
        let part = get(&server, Exchange::get(at(path))).await;
        let steps: Vec<(&str, &str)> = in_whole.iter().map(|step| (CFG, *step)).collect();
        let expected = whole.at(&steps).expect("the part is in the whole");
        assert_eq!(format!("{:?}", part.children), format!("{:?}", expected.children), "{path}");
        assert_eq!((part.namespace.as_str(), part.local.as_str()), (CFG, expected.local.as_str()));
        assert!(!part.children.is_empty());
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn listeners_and_plugins_are_found_by_their_selectors() {
    let server = TestServer::start().await;
    let listener = |address: &str, transport: &str| {
        Exchange::get(at("/listener")).selectors(&[("Address", address), ("Transport", transport)])
    };
    let https = get(&server, listener("*", "https")).await;
    check(
        &https,
        &[
            ("Address", "*"),
            ("Transport", "HTTPS"),
            ("Port", "5986"),
            ("Hostname", HOST),
            ("Enabled", "true"),
            ("URLPrefix", "wsman"),
            ("CertificateThumbprint", "0A1B2C"),
            ("ListeningOn", "127.0.0.1"),
        ],
    );
    assert_eq!(https.children.iter().filter(|child| child.local == "ListeningOn").count(), 2);
    let http = get(&server, listener("IP:127.0.0.1", "HTTP")).await;
    check(&http, &[("Address", "IP:127.0.0.1"), ("Port", "5985"), ("CertificateThumbprint", "")]);
    let plugin = get(&server, Exchange::get(at("/plugin")).selectors(&[("Name", "WMI Provider")])).await;
    assert_eq!(plugin.namespace, "http://schemas.microsoft.com/wbem/wsman/1/config/PluginConfiguration");
    assert_eq!(plugin.children.len(), 2, "resources and quotas");
    server.engine.shutdown().await;
}

#[tokio::test]
async fn certificate_mappings_are_for_administrators() {
    const CERT: &str = "http://schemas.microsoft.com/wbem/wsman/1/config/service/certmapping";
    let mut server = TestServer::start().await;
    let request = || {
        let keys = [("Issuer", "bb22"), ("Subject", "CN=b&amp;b,O=ex"), ("URI", "*")];
        Exchange::get(at("/service/certmapping")).selectors(&keys)
    };
    let mapping = get(&server, request()).await;
    assert_eq!((mapping.namespace.as_str(), mapping.local.as_str()), (CERT, "CertMapping"));
    let values: Vec<(&str, &str)> =
        mapping.children.iter().map(|child| (child.local.as_str(), child.text.as_str())).collect();
    let expected =
        [("URI", "*"), ("Subject", "CN=b&b,O=ex"), ("Issuer", "BB22"), ("UserName", "bob"), ("Enabled", "true")];
    assert_eq!(values, expected);
    let limited = Some(Arc::new("machine=*".parse().unwrap()));
    for (role, scope) in [(Role::Reader, None), (Role::Operator, None), (Role::Administrator, limited)] {
        let account = Account { name: "carol".into(), role, scope };
        server.principal = Principal::new(Arc::new(account), Scheme::Basic, [192, 0, 2, 1].into());
        for exchange in [request(), Exchange::enumerate(at("/service/certmapping"), "")] {
            assert_eq!(fault_of(&exchange.send(&server).await), "w:AccessDenied//5", "{role}");
        }
        // The rest is for everybody.
        get(&server, Exchange::get(at("/service"))).await;
    }
    server.engine.shutdown().await;
}

#[tokio::test]
async fn listeners_and_plugins_can_be_listed_in_every_mode() {
    let server = TestServer::start().await;
    let optimized = "<w:OptimizeEnumeration/><w:MaxElements>10</w:MaxElements>";
    for (path, count) in [("/listener", 2), ("/plugin", 1), ("/service/certmapping", 3)] {
        let list = |mode: &str| Exchange::enumerate(at(path), &format!("{optimized}{mode}"));
        let objects = list("").send(&server).await;
        let envelope = Node::parse(&objects);
        assert_eq!(envelope.find("Items").expect("items").children.len(), count, "{objects}");
        assert!(objects.contains("<w:EndOfSequence/>"));
        let references = list("<w:EnumerationMode>EnumerateEPR</w:EnumerationMode>").send(&server).await;
        let mut followed = 0;
        for reference in references.split("<a:ReferenceParameters>").skip(1) {
            let uri = between(reference, "<w:ResourceURI>", "</w:ResourceURI>");
            let set = between(reference, "</w:ResourceURI>", "</a:ReferenceParameters>");
            let body = Exchange::get(uri).header(set).send(&server).await;
            assert!(objects.contains(between(&body, "<s:Body>", "</s:Body>")), "{body}");
            followed += 1;
        }
        assert_eq!(followed, count, "{references}");
        let both = list("<w:EnumerationMode>EnumerateObjectAndEPR</w:EnumerationMode>").send(&server).await;
        assert_eq!(both.matches("<w:Item>").count(), count);
        assert_eq!(both.matches("</a:EndpointReference></w:Item>").count(), count);
    }
    // Without OptimizeEnumeration the same comes by Pull.
    let body = Exchange::enumerate(at("/listener"), "").send(&server).await;
    let context = between(&body, "<n:EnumerationContext>", "</n:EnumerationContext>");
    let pulled = Exchange::pull(at("/listener"), context, "<n:MaxElements>5</n:MaxElements>").send(&server).await;
    assert_eq!(pulled.matches("<cfg:Listener ").count(), 2, "{pulled}");
    server.engine.shutdown().await;
}

#[tokio::test]
async fn wrong_requests_get_the_documented_faults() {
    let server = TestServer::start().await;
    let listener = || Exchange::get(at("/listener"));
    let mapping = || Exchange::get(at("/service/certmapping"));
    let put = |path: &str, body: &str| Exchange::new(format!("{TRANSFER}/Put"), at(path)).body(body);
    let wql = "<w:Filter Dialect=\"http://schemas.microsoft.com/wbem/wsman/1/WQL\">SELECT * FROM x</w:Filter>";
    let must_comply = "<w:OptionSet><w:Option Name=\"X\" MustComply=\"true\">1</w:Option></w:OptionSet>";
    let must_understand = "<w:OptionSet s:mustUnderstand=\"true\"/>";
    let fragment = "<w:FragmentTransfer s:mustUnderstand=\"true\">MaxTimeoutms</w:FragmentTransfer>";
    let mismatch = "a:ActionNotSupported/ActionMismatch/2150858801";
    let unknown = "a:DestinationUnreachable/InvalidResourceURI/2150858811";
    let insufficient = "w:InvalidSelectors/InsufficientSelectors/2150858842";
    let unexpected = "w:InvalidSelectors/UnexpectedSelectors/2150858843";
    let invalid = "w:SchemaValidationError//2150858791";
    let namespace = format!("xmlns:c=\"{CFG}\"");
    let cases = [
        ("no such resource", Exchange::get(at("/nothing")), unknown),
        ("permissions of one resource", Exchange::get(at("/service/security")), unknown),
        ("a mapping without selectors", mapping(), insufficient),
        (
            "no such mapping",
            mapping().selectors(&[("Issuer", "CC33"), ("Subject", "alice@example.test"), ("URI", "*")]),
            "a:DestinationUnreachable//2150858752",
        ),
        ("a custom shell", Exchange::get(at("/winrs/customremoteshell")), "w:InternalError//1359"),
        ("no selectors", listener(), insufficient),
        ("half of them", listener().selectors(&[("Address", "*")]), insufficient),
        ("a third", listener().selectors(&[("Address", "*"), ("Transport", "HTTP"), ("Port", "1")]), unexpected),
        (
            "another listener",
            listener().selectors(&[("Address", "*"), ("Transport", "HTTP")]),
            "a:DestinationUnreachable//2150858752",
        ),
        (
            "another plug-in",
            Exchange::get(at("/plugin")).selectors(&[("Name", "x")]),
            "a:DestinationUnreachable//2150858752",
        ),
        ("selectors on the whole", Exchange::get(at("")).selectors(&[("Name", "x")]), unexpected),
        ("a namespace", Exchange::get(at("")).selectors(&[("__cimnamespace", "root/omi")]), unexpected),
        ("selectors on a list", Exchange::enumerate(at("/listener"), "").selectors(&[("Address", "*")]), unexpected),
        ("MustComply", Exchange::get(at("")).header(must_comply), "w:InvalidOptions/NotSupported/2150858833"),
        (
            "MustComply on a list",
            Exchange::enumerate(at("/plugin"), "").header(must_comply),
            "w:InvalidOptions/NotSupported/2150858833",
        ),
        ("options marked", Exchange::get(at("")).header(must_understand), "s:MustUnderstand//2150858768"),
        ("a fragment", Exchange::get(at("")).header(fragment), "w:UnsupportedFeature/FragmentLevelAccess/2150858871"),
        ("a filter", Exchange::enumerate(at("/listener"), wql), "n:FilteringNotSupported//2150858776"),
        ("a list of the whole", Exchange::enumerate(at(""), ""), mismatch),
        ("a list of the service", Exchange::enumerate(at("/service"), wql), mismatch),
        ("Create", Exchange::new(format!("{TRANSFER}/Create"), at("/listener")), mismatch),
        ("Delete", Exchange::new(format!("{TRANSFER}/Delete"), at("/listener")), mismatch),
        ("a method", Exchange::new(format!("{CONFIG}/Run"), at("")), mismatch),
        (
            "Put",
            put("", &format!("<c:Config {namespace}><c:MaxTimeoutms>1</c:MaxTimeoutms></c:Config>")),
            "w:InternalError//2150859071",
        ),
        (
            "Put of a deprecated setting",
            put("", &format!("<c:Config {namespace}><c:MaxProviderRequests>1</c:MaxProviderRequests></c:Config>")),
            "w:InternalError//2150859182",
        ),
        (
            "Put of a deprecated setting of the service",
            put(
                "/service",
                &format!("<c:Service {namespace}><c:MaxConcurrentOperations>1</c:MaxConcurrentOperations></c:Service>"),
            ),
            "w:InternalError//2150859182",
        ),
        (
            "Put of an unknown scheme",
            put("/service/auth", &format!("<c:Auth {namespace}><c:Magic/></c:Auth>")),
            invalid,
        ),
        ("Put of another element", put("/service/auth", "<x/>"), invalid),
        ("Put of nothing", put("/service/auth", ""), invalid),
    ];
    for body in check_faults(&server, &cases).await {
        assert!(!body.contains("IsCIM_Error"), "{body}");
    }
    // Options that may be ignored are ignored.
    let option = Exchange::get(at("")).options(&[("X", "1")]).send(&server).await;
    assert!(Node::parse(&option).at(&[(SOAP, "Body"), (CFG, "Config")]).is_some(), "{option}");
    // A Pull without a context is no matter of CIM either.
    let pull = Exchange::new(format!("{ENUMERATION}/Pull"), at("/listener")).body("<n:Pull/>").send(&server).await;
    assert_eq!(fault_of(&pull), "n:InvalidEnumerationContext//2150858779");
    assert!(!pull.contains("IsCIM_Error"));
    server.engine.shutdown().await;
}
