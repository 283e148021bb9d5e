//! The protocol against small providers over the real schema: what each operation answers, and which
//! fault each wrong request gets.

use std::sync::Arc;

use wsnapd::cim::{CimError, CimInstance, CimValue, ClassDeclaration, InstanceBuilder, MethodDeclaration, ObjectPath};
use wsnapd::cimom::{
    BoxFuture, CallContext, InstanceProvider, InstanceStream, MethodArguments, MethodProvider, MethodResult,
    ObjectManager, Principal, ProviderRegistry,
};
use wsnapd::providers::generated;
use wsnapd::time::{ManualClock, SequentialIds, Timestamp};
use wsnapd::wsman::{Encoding, Limits, Service, ServiceOptions};

const V2: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2";
const ANONYMOUS: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous";
const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
const WQL: &str = "http://schemas.microsoft.com/wbem/wsman/1/WQL";

/// Fifty jobs and one service whose method echoes its arguments.
struct Stand;

impl InstanceProvider for Stand {
    fn enumerate(&self, _cx: &CallContext, class: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        let class = Arc::clone(class);
        if class.is_a("CIM_ConcreteJob") {
            return Ok(Box::new((0..50_u16).map(move |number| job(&class, number))));
        }
        let service = InstanceBuilder::new(&class)
            .set("Name", "vssnapsvc")
            .set("SystemName", "HOST1")
            .set("SystemCreationClassName", "Msvm_ComputerSystem")
            .set("CreationClassName", class.name().as_str())
            .build();
        Ok(Box::new(std::iter::once(service)))
    }
}

fn job(class: &Arc<ClassDeclaration>, number: u16) -> Result<CimInstance, CimError> {
    InstanceBuilder::new(class)
        .set("InstanceID", format!("J{number:02}"))
        .set("ElementName", if number == 7 { "bell \u{7} <&>" } else { "job" })
        .set("JobState", 4_u16)
        .set("PercentComplete", number)
        .set("OperationalStatus", [17_u16, 2])
        .set("StatusDescriptions", CimValue::Null)
        .build()
}

impl MethodProvider for Stand {
    fn invoke<'a>(
        &'a self,
        _cx: &'a CallContext,
        _class: &'a Arc<ClassDeclaration>,
        _target: &'a ObjectPath,
        method: &'a MethodDeclaration,
        mut arguments: MethodArguments,
    ) -> BoxFuture<'a, Result<MethodResult, CimError>> {
        Box::pin(async move {
            if method.name == "ApplySnapshot" {
                std::future::pending::<()>().await;
            }
            let system = arguments.take("AffectedSystem");
            let name = system.as_reference().and_then(|path| path.key_text("Name")).unwrap_or("none").to_owned();
            let settings = match arguments.take("SnapshotSettings") {
                CimValue::RawInstance(raw) => format!("{}:{}", raw.class_name, raw.properties.len()),
                CimValue::String(text) => text.to_string(),
                _ => "null".to_owned(),
            };
            let echo = format!("{name}|{settings}|{:?}", arguments.take("SnapshotType").as_u64());
            let job = ObjectPath::relative("Msvm_ConcreteJob".into()).with_key("InstanceID", echo);
            Ok(MethodResult::returning(4096).with("Job", job))
        })
    }
}

fn service() -> Service {
    let schema = Arc::new(generated::load().expect("the schema compiles"));
    let mut registry = ProviderRegistry::new();
    let stand = Arc::new(Stand);
    for class in ["Msvm_ConcreteJob", "Msvm_VirtualSystemSnapshotService"] {
        registry.instance("root/virtualization/v2", class, Arc::<Stand>::clone(&stand));
    }
    registry.method("root/virtualization/v2", "Msvm_VirtualSystemSnapshotService", stand);
    assert_eq!(registry.unknown_classes(&schema), Vec::<String>::new());
    let options = ServiceOptions {
        machine: "HOST1".into(),
        limits: Limits { max_concurrent_operations_per_user: 3, ..Limits::default() },
        ..ServiceOptions::default()
    };
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    Service::new(Arc::new(ObjectManager::new(schema, registry)), clock, Arc::new(SequentialIds::default()), options)
}

/// A request in the making.
#[derive(Clone)]
struct Ask {
    action: String,
    resource: Option<String>,
    to: &'static str,
    reply_to: String,
    message_id: &'static str,
    headers: String,
    body: String,
}

impl Ask {
    fn new(action: impl Into<String>, class: &str) -> Self {
        Self {
            action: action.into(),
            resource: Some(format!("{V2}/{class}")),
            to: "<a:To>http://elsewhere:5985/wsman</a:To>",
            reply_to: format!("<a:ReplyTo><a:Address s:mustUnderstand=\"true\">{ANONYMOUS}</a:Address></a:ReplyTo>"),
            message_id: "<a:MessageID>uuid:MiXeD-1</a:MessageID>",
            headers: String::new(),
            body: String::new(),
        }
    }

    fn get(class: &str, selectors: &str) -> Self {
        Self::new(format!("{TRANSFER}/Get"), class).header(&format!("<w:SelectorSet>{selectors}</w:SelectorSet>"))
    }

    fn job() -> Self {
        Self::get("Msvm_ConcreteJob", "<w:Selector Name=\"InstanceID\">J01</w:Selector>")
    }

    fn enumerate(class: &str, inner: &str) -> Self {
        Self::new(format!("{ENUMERATION}/Enumerate"), class).body(&format!("<n:Enumerate>{inner}</n:Enumerate>"))
    }

    fn pull(context: &str, inner: &str) -> Self {
        Self::new(format!("{ENUMERATION}/Pull"), "*")
            .body(&format!("<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext>{inner}</n:Pull>"))
    }

    fn create(parameters: &str) -> Self {
        let class = "Msvm_VirtualSystemSnapshotService";
        Self::new(format!("{V2}/{class}/CreateSnapshot"), class)
            .header("<w:SelectorSet><w:Selector Name=\"CreationClassName\">Msvm_VirtualSystemSnapshotService</w:Selector></w:SelectorSet>")
            .body(&format!("<r:CreateSnapshot_INPUT xmlns:r=\"{V2}/{class}\">{parameters}</r:CreateSnapshot_INPUT>"))
    }

    fn header(mut self, header: &str) -> Self {
        self.headers.push_str(header);
        self
    }

    fn body(mut self, body: &str) -> Self {
        self.body.push_str(body);
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn text(&self) -> String {
        let resource = self.resource.as_ref().map_or_else(String::new, |uri| {
            format!("<w:ResourceURI s:mustUnderstand=\"true\">\n  {uri} </w:ResourceURI>")
        });
        let action =
            if self.action.is_empty() { String::new() } else { format!("<a:Action>{}</a:Action>", self.action) };
        format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
             xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
             xmlns:n=\"{ENUMERATION}\" xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" \
             xmlns:b=\"http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd\" \
             xmlns:p=\"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\
             <s:Header>{}{resource}{}{action}{}{}</s:Header><s:Body>{}</s:Body></s:Envelope>",
            self.to, self.reply_to, self.message_id, self.headers, self.body
        )
    }
}

fn handle(service: &Service, text: &str, encoding: Encoding) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let outbound = runtime.block_on(service.handle(&Principal::local("admin"), text, encoding));
    assert_eq!(outbound.is_fault, outbound.body.contains("<s:Fault>"), "{}", outbound.body);
    assert!(wsnapd::soap::Envelope::parse(&outbound.body).is_ok(), "{}", outbound.body);
    outbound.body
}

fn ask(service: &Service, request: &Ask) -> String {
    handle(service, &request.text(), Encoding::Utf8)
}

/// The text between two marks, the first time they occur.
pub(crate) fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).map_or("", |(inner, _)| inner)
}

/// Subcode, fault detail and code of a fault: `w:InvalidSelectors/UnexpectedSelectors/2150858843`.
pub(crate) fn fault_of(body: &str) -> String {
    let subcode = between(body, "<s:Subcode><s:Value>", "</s:Value>");
    let subcode = if subcode.is_empty() { between(body, "<s:Code><s:Value>", "</s:Value>") } else { subcode };
    let detail = between(body, "/faultDetail/", "</w:FaultDetail>");
    format!("{subcode}/{detail}/{}", between(body, " Code=\"", "\""))
}

#[track_caller]
fn check_faults(cases: &[(&str, Ask, &str)]) {
    let service = service();
    for (name, request, expected) in cases {
        let body = ask(&service, request);
        assert_eq!(fault_of(&body), *expected, "{name}: {body}");
        assert!(body.len() <= 8192, "{name}: a fault of {} octets", body.len());
        assert!(!between(&body, "<s:Text xml:lang=\"en-US\">", "</s:Text>").is_empty(), "{name} has no reason");
    }
}

#[test]
fn get_answers_the_instance_as_a_windows_host_does() {
    let body = ask(&service(), &Ask::job());
    assert!(body.starts_with("<s:Envelope xml:lang=\"en-US\" xmlns:s="), "{body}");
    assert_eq!(between(&body, "<a:Action>", "</a:Action>"), format!("{TRANSFER}/GetResponse"));
    assert_eq!(between(&body, "<a:RelatesTo>", "</a:RelatesTo>"), "uuid:MiXeD-1");
    let start = format!(
        "<p:Msvm_ConcreteJob xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:p=\"{V2}/Msvm_ConcreteJob\" \
         xmlns:cim=\"http://schemas.dmtf.org/wbem/wscim/1/common\" xsi:type=\"p:Msvm_ConcreteJob_Type\">"
    );
    assert!(body.contains(&start), "{body}");
    assert!(body.contains("<p:OperationalStatus>17</p:OperationalStatus><p:OperationalStatus>2</p:OperationalStatus>"));
    assert!(body.contains("<p:UntilTime xsi:nil=\"true\"/>"), "a null scalar is nil");
    assert!(!body.contains("<p:StatusDescriptions"), "a null array is absent");
    let precise = Ask::job().header(
        "<w:OptionSet><w:Option Name=\"msftwinrm:UsePreciseArrays\" Type=\"xs:boolean\">true</w:Option></w:OptionSet>",
    );
    assert!(ask(&service(), &precise).contains("<p:StatusDescriptions xsi:nil=\"true\" xmlns:m="));
}

#[test]
fn base_classes_families_and_spellings_lead_to_the_same_instance() {
    let service = service();
    for (resource, selectors) in [
        (format!("{V2}/CIM_ConcreteJob"), "<w:Selector Name=\"instanceid\">j01</w:Selector>"),
        (
            V2.to_uppercase().replace("HTTP:", "http:") + "/msvm_concretejob",
            "<w:Selector Name=\"InstanceID\">J01</w:Selector>",
        ),
        (
            "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/Msvm_ConcreteJob".to_owned(),
            "<w:Selector Name=\"__cimnamespace\">ROOT\\virtualization\\V2</w:Selector><w:Selector Name=\"InstanceID\">J01</w:Selector>",
        ),
        (
            "http://sblim.sf.net/wbem/wscim/1/cim-schema/2/Msvm_ConcreteJob".to_owned(),
            "<w:Selector Name=\"InstanceID\">J01</w:Selector>",
        ),
    ] {
        let mut request = Ask::get("Msvm_ConcreteJob", selectors);
        request.resource = Some(resource.clone());
        let body = ask(&service, &request);
        assert!(body.contains("<p:InstanceID>J01</p:InstanceID>"), "{resource}: {body}");
        assert!(body.contains("<p:Msvm_ConcreteJob "), "the real class is shown: {body}");
    }
}

#[test]
fn control_characters_become_question_marks() {
    let body = ask(&service(), &Ask::get("Msvm_ConcreteJob", "<w:Selector Name=\"InstanceID\">J07</w:Selector>"));
    assert!(body.contains("<p:ElementName>bell ? &lt;&amp;&gt;</p:ElementName>"), "{body}");
}

#[test]
fn identify_needs_no_addressing_and_masks_the_version_for_strangers() {
    let service = service();
    let text = "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
                xmlns:i=\"http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd\">\
                <s:Header/><s:Body><i:Identify><x/></i:Identify></s:Body></s:Envelope>";
    assert!(handle(&service, text, Encoding::Utf8).contains("OS: 10.0.20348 SP: 0.0 Stack: 3.0"));
    let anonymous = service.identify_anonymous(text).unwrap();
    assert!(anonymous.body.contains("OS: 0.0.0 SP: 0.0 Stack: 3.0") && !anonymous.body.contains("SecurityProfiles"));
    assert_eq!(service.identify_anonymous(&Ask::job().text()), None);
}

#[test]
fn enumeration_brings_every_instance_once_for_every_batch_size() {
    let service = service();
    for (optimize, first, batch) in [
        ("", 1, 1),
        ("<w:OptimizeEnumeration/>", 1, 7),
        ("<w:OptimizeEnumeration/>", 50, 50),
        ("<w:OptimizeEnumeration/>", 49, 32_000),
    ] {
        let maximum = if first > 1 { format!("<w:MaxElements>{first}</w:MaxElements>") } else { String::new() };
        let body = ask(&service, &Ask::enumerate("Msvm_ConcreteJob", &format!("{optimize}{maximum}")));
        let mut ids: Vec<String> = ids_of(&body);
        assert_eq!(ids.len(), if optimize.is_empty() { 0 } else { first }, "{body}");
        assert_eq!(body.contains("<w:EndOfSequence/>"), ids.len() == 50);
        let mut context = between(&body, "<n:EnumerationContext>", "</n:EnumerationContext>").to_owned();
        assert_eq!(context.is_empty(), ids.len() == 50 || body.contains("<n:EnumerationContext/>"));
        while !context.is_empty() {
            let pulled = ask(&service, &Ask::pull(&context, &format!("<n:MaxElements>{batch}</n:MaxElements>")));
            ids.extend(ids_of(&pulled));
            let next = between(&pulled, "<n:EnumerationContext>", "</n:EnumerationContext>").to_owned();
            assert_eq!(next.is_empty(), pulled.contains("<n:EndOfSequence/>"), "{pulled}");
            assert_ne!(next, context);
            let old = ask(&service, &Ask::pull(&context, ""));
            assert_eq!(fault_of(&old), "n:InvalidEnumerationContext//2150858779");
            context = next;
        }
        let expected: Vec<String> = (0..50).map(|number| format!("J{number:02}")).collect();
        assert_eq!(ids, expected);
    }
}

fn ids_of(body: &str) -> Vec<String> {
    body.split("<p:InstanceID>").skip(1).map(|rest| rest.split('<').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_envelope_limit_lowers_the_item_count_in_the_encoding_of_the_request() {
    let service = service();
    for (encoding, limit) in [(Encoding::Utf8, 16_384), (Encoding::Utf16, 16_384)] {
        let mut seen = 0;
        let mut request =
            Ask::enumerate("Msvm_ConcreteJob", "<w:OptimizeEnumeration/><w:MaxElements>100</w:MaxElements>");
        loop {
            let text = request.clone().header(&format!("<w:MaxEnvelopeSize>{limit}</w:MaxEnvelopeSize>")).text();
            let body = handle(&service, &text, encoding);
            assert!(encoding.octets(&body) <= limit, "{} octets", encoding.octets(&body));
            seen += ids_of(&body).len();
            let context = between(&body, "<n:EnumerationContext>", "</n:EnumerationContext>").to_owned();
            if context.is_empty() {
                break;
            }
            request = Ask::pull(&context, "<n:MaxElements>100</n:MaxElements>");
        }
        assert_eq!(seen, 50);
    }
}

#[test]
fn filters_modes_and_estimates_shape_the_answer() {
    let service = service();
    let wql = |query: &str| format!("<w:Filter Dialect=\"{WQL}\">{query}</w:Filter>");
    let all = "<w:OptimizeEnumeration/><w:MaxElements>100</w:MaxElements>";
    for (resource, inner, expected) in [
        ("*", wql("SELECT * FROM Msvm_ConcreteJob WHERE PercentComplete &gt;= 48 "), vec!["J48", "J49"]),
        ("Msvm_ConcreteJob", wql("select * from msvm_concretejob where instanceid like 'j4%' and not percentcomplete &lt; 49"), vec!["J49"]),
        ("*", wql("SELECT * FROM CIM_ConcreteJob WHERE InstanceID='J03' OR InstanceID=\"J04\""), vec!["J03", "J04"]),
        (
            "Msvm_ConcreteJob",
            "<n:Filter Dialect=\"http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter\"><w:SelectorSet><w:Selector Name=\"PercentComplete\">5</w:Selector></w:SelectorSet></n:Filter>".to_owned(),
            vec!["J05"],
        ),
        ("CIM_Job", wql("SELECT * FROM CIM_Job WHERE InstanceID = 'J05' AND __CLASS = 'Msvm_ConcreteJob'"), vec!["J05"]),
        ("Msvm_Error", String::new(), vec![]),
    ] {
        let body = ask(&service, &Ask::enumerate(resource, &format!("{all}{inner}")));
        assert_eq!(ids_of(&body), expected, "{resource} {inner}: {body}");
        assert!(body.contains("<w:EndOfSequence/>"), "{body}");
    }
    let projected = ask(
        &service,
        &Ask::enumerate(
            "*",
            &format!(
                "{all}{}",
                wql("SELECT PercentComplete, InstanceID, UntilTime FROM Msvm_ConcreteJob WHERE InstanceID = 'J02'")
            ),
        ),
    );
    assert!(projected.contains("<InstanceID>J02</InstanceID><PercentComplete>2</PercentComplete><UntilTime xsi:nil=\"true\"/></w:XmlFragment>"), "{projected}");
    let excluded = ask(
        &service,
        &Ask::enumerate(
            "CIM_ManagedElement",
            &format!("{all}<b:PolymorphismMode>ExcludeSubClassProperties</b:PolymorphismMode>"),
        ),
    );
    assert!(excluded.contains("<p:CIM_ManagedElement ") && !excluded.contains("JobState"), "{excluded}");
    let exact = ask(
        &service,
        &Ask::enumerate("CIM_ConcreteJob", &format!("{all}<b:PolymorphismMode>None</b:PolymorphismMode>")),
    );
    assert!(exact.contains("<w:Items></w:Items><w:EndOfSequence/>"), "{exact}");
    let both = ask(
        &service,
        &Ask::enumerate(
            "Msvm_ConcreteJob",
            "<w:OptimizeEnumeration/><w:EnumerationMode>EnumerateObjectAndEPR</w:EnumerationMode>",
        ),
    );
    assert!(
        both.contains("<w:Item><p:Msvm_ConcreteJob ")
            && both.contains("</p:Msvm_ConcreteJob><a:EndpointReference><a:Address>"),
        "{both}"
    );
    let references = ask(
        &service,
        &Ask::enumerate(
            "Msvm_ConcreteJob",
            "<w:OptimizeEnumeration/><w:EnumerationMode>EnumerateEPR</w:EnumerationMode>",
        ),
    );
    assert!(
        references.contains("<w:Items><a:EndpointReference>") && !references.contains("__cimnamespace"),
        "{references}"
    );
    let estimated =
        ask(&service, &Ask::enumerate("Msvm_ConcreteJob", "").header("<w:RequestTotalItemsCountEstimate/>"));
    assert!(estimated.contains("<w:TotalItemsCountEstimate>50</w:TotalItemsCountEstimate></s:Header>"), "{estimated}");
}

#[test]
fn fragments_bring_one_property() {
    let service = service();
    let fragment = |expression: &str| {
        Ask::job().header(&format!("<w:FragmentTransfer s:mustUnderstand=\"true\">{expression}</w:FragmentTransfer>"))
    };
    for (expression, expected) in [
        ("JobState", "<p:JobState>4</p:JobState></w:XmlFragment>"),
        ("JobState/text()", ">4</w:XmlFragment>"),
        ("OperationalStatus[2]", "<p:OperationalStatus>2</p:OperationalStatus></w:XmlFragment>"),
        (
            "StatusDescriptions",
            "<w:XmlFragment xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:nil=\"true\"/>",
        ),
    ] {
        let body = ask(&service, &fragment(expression));
        assert!(body.contains(expected), "{expression}: {body}");
    }
}

#[test]
fn invoke_takes_every_form_of_a_reference_and_of_settings() {
    let service = service();
    let keys = "<w:Selector Name=\"CreationClassName\">Msvm_ComputerSystem</w:Selector><w:Selector Name=\"Name\">VM1</w:Selector>";
    let parts = |parameters: &str| {
        format!(
            "<a:Address>{ANONYMOUS}</a:Address><a:{parameters}><w:ResourceURI>{V2}/Msvm_ComputerSystem</w:ResourceURI><w:SelectorSet>{keys}</w:SelectorSet></a:{parameters}>"
        )
    };
    let class = format!("{V2}/Msvm_ComputerSystem");
    for system in [
        parts("ReferenceParameters"),
        format!("<a:EndpointReference>{}</a:EndpointReference>", parts("ReferenceParameters")),
        r#"\\HOST1\root\virtualization\v2:Msvm_ComputerSystem.CreationClassName="Msvm_ComputerSystem",Name="VM1""#
            .to_owned(),
        parts("ReferenceProperties"),
        format!(
            "<e:CreationClassName xmlns:e=\"{class}\">Msvm_ComputerSystem</e:CreationClassName><e:Name xmlns:e=\"{class}\">VM1</e:Name>"
        ),
    ] {
        let open = if system.starts_with("<e:") {
            "<r:AffectedSystem xsi:type=\"r:Msvm_ComputerSystem_Type\">"
        } else {
            "<r:AffectedSystem>"
        };
        let body = ask(
            &service,
            &Ask::create(&format!("{open}{system}</r:AffectedSystem><r:snapshottype> 2 </r:snapshottype>")),
        );
        assert!(body.contains("<w:Selector Name=\"InstanceID\">VM1|null|Some(2)</w:Selector>"), "{system}: {body}");
        assert!(
            body.contains("<p:CreateSnapshot_OUTPUT ")
                && body.contains("<p:ResultingSnapshot xsi:nil=\"true\"/><p:Job xmlns:a="),
            "{body}"
        );
        assert!(body.contains("</p:Job><p:ReturnValue>4096</p:ReturnValue></p:CreateSnapshot_OUTPUT>"), "{body}");
        assert_eq!(
            between(&body, "<a:Action>", "</a:Action>"),
            format!("{V2}/Msvm_VirtualSystemSnapshotService/CreateSnapshotResponse")
        );
    }
    for (settings, expected) in [
        ("", "null"),
        ("<r:SnapshotSettings xsi:nil=\"true\"/>", "null"),
        ("<r:SnapshotSettings/>", ""),
        (
            "<r:SnapshotSettings>&lt;INSTANCE CLASSNAME=\"X\"/&gt;</r:SnapshotSettings>",
            "&lt;INSTANCE CLASSNAME=\"X\"/&gt;",
        ),
        (
            "<r:SnapshotSettings><![CDATA[<INSTANCE CLASSNAME=\"X\"/>]]></r:SnapshotSettings>",
            "&lt;INSTANCE CLASSNAME=\"X\"/&gt;",
        ),
        (
            "<r:SnapshotSettings><INSTANCE CLASSNAME=\"X\"></INSTANCE></r:SnapshotSettings>",
            "&lt;INSTANCE CLASSNAME=\"X\"&gt;&lt;/INSTANCE&gt;",
        ),
        ("<r:SnapshotSettings xsi:type=\"r:Msvm_X_Type\"><r:A>1</r:A></r:SnapshotSettings>", "Msvm_X:1"),
    ] {
        let body = ask(&service, &Ask::create(settings));
        assert_eq!(
            between(&body, "<w:Selector Name=\"InstanceID\">", "</w:Selector>"),
            format!("none|{expected}|None")
        );
    }
}

#[test]
fn wrong_headers_get_the_standard_fault() {
    let job = Ask::job;
    check_faults(&[
        ("no To", job().with(|ask| ask.to = ""), "a:MessageInformationHeaderRequired//2150858769"),
        ("no Action", job().with(|ask| ask.action.clear()), "a:MessageInformationHeaderRequired//2150858769"),
        ("no ReplyTo", job().with(|ask| ask.reply_to.clear()), "a:MessageInformationHeaderRequired//2150858769"),
        ("no MessageID", job().with(|ask| ask.message_id = ""), "a:InvalidMessageInformationHeader//2150858767"),
        (
            "empty MessageID",
            job().with(|ask| ask.message_id = "<a:MessageID/>"),
            "a:InvalidMessageInformationHeader//2150858767",
        ),
        ("two To", job().header("<a:To>x</a:To>"), "a:InvalidMessageInformationHeader//2150858767"),
        (
            "elements in To",
            job().with(|ask| ask.to = "<a:To><b/></a:To>"),
            "a:InvalidMessageInformationHeader//2150858767",
        ),
        (
            "ReplyTo elsewhere",
            job().with(|ask| ask.reply_to = "<a:ReplyTo><a:Address>http://x/</a:Address></a:ReplyTo>".to_owned()),
            "w:UnsupportedFeature/AddressingMode/2150858870",
        ),
        (
            "FaultTo elsewhere",
            job().header("<a:FaultTo><a:Address>http://x/</a:Address></a:FaultTo>"),
            "w:UnsupportedFeature/AddressingMode/2150858870",
        ),
        (
            "unknown header",
            job().header("<x:Y xmlns:x=\"urn:x\" s:mustUnderstand=\"1\"/>"),
            "s:MustUnderstand//2150858768",
        ),
        ("RequestEPR", job().header("<w:RequestEPR s:mustUnderstand=\"true\"/>"), "s:MustUnderstand//2150858768"),
        (
            "small envelope",
            job().header("<w:MaxEnvelopeSize>4096</w:MaxEnvelopeSize>"),
            "w:EncodingLimit/MinimumEnvelopeLimit/2150858878",
        ),
        (
            "no envelope size",
            job().header("<w:MaxEnvelopeSize>many</w:MaxEnvelopeSize>"),
            "a:InvalidMessageInformationHeader//2150858767",
        ),
        (
            "zero timeout",
            job().header("<w:OperationTimeout>PT0S</w:OperationTimeout>"),
            "a:InvalidMessageInformationHeader/InvalidTimeout/2150858881",
        ),
        (
            "negative timeout",
            job().header("<w:OperationTimeout>-PT1S</w:OperationTimeout>"),
            "a:InvalidMessageInformationHeader/InvalidTimeout/2150858881",
        ),
        (
            "no timeout",
            job().header("<w:OperationTimeout>abc</w:OperationTimeout>"),
            "a:InvalidMessageInformationHeader/InvalidTimeout/2150858881",
        ),
        (
            "Locale",
            job().header("<w:Locale xml:lang=\"de\" s:mustUnderstand=\"true\"/>"),
            "w:UnsupportedFeature/Locale/2150858887",
        ),
        (
            "DataLocale",
            job().header("<p:DataLocale xml:lang=\"de\" s:mustUnderstand=\"true\"/>"),
            "w:UnsupportedFeature/DataLocale/2150858887",
        ),
        ("no language", job().header("<w:Locale xml:lang=\"!!\"/>"), "a:InvalidMessageInformationHeader//2150858767"),
        (
            "options",
            job().header(&format!("<w:OptionSet>{}</w:OptionSet>", "<w:Option Name=\"x\"/>".repeat(2000))),
            "w:EncodingLimit/OptionLimit/2150858827",
        ),
        (
            "option value",
            job().header("<w:OptionSet><w:Option Name=\"msftwinrm:UsePreciseArrays\">maybe</w:Option></w:OptionSet>"),
            "w:InvalidOptions/InvalidValue/2150858835",
        ),
    ]);
    let service = service();
    let body = ask(&service, &job().header("<x:Y xmlns:x=\"urn:x\" s:mustUnderstand=\"1\"/>"));
    assert!(body.contains("<s:NotUnderstood qname=\"q:Y\" xmlns:q=\"urn:x\"/>"), "{body}");
    let ignored = job()
        .header("<x:Y xmlns:x=\"urn:x\"/><x:Z xmlns:x=\"urn:x\" mustUnderstand=\"true\"/><w:RequestEPR/><a:From><a:Address>x</a:Address></a:From>")
        .header("<p:SessionId s:mustUnderstand=\"true\">uuid:1</p:SessionId><p:OperationID>uuid:2</p:OperationID><p:SequenceId>1</p:SequenceId>")
        .header("<w:MaxEnvelopeSize s:mustUnderstand=\"true\">+51200</w:MaxEnvelopeSize><w:OptionSet s:mustUnderstand=\"true\"/>")
        .with(|ask| ask.reply_to = format!("<a:ReplyTo><a:Address>{ANONYMOUS}</a:Address><a:ReferenceParameters><x:Cookie xmlns:x=\"urn:x\">c</x:Cookie></a:ReferenceParameters></a:ReplyTo>"));
    let body = ask(&service, &ignored);
    assert!(body.contains("<p:InstanceID>J01") && !body.contains("OperationID"), "{body}");
    assert!(between(&body, "<s:Header>", "</s:Header>").contains(">c</x:Cookie>"), "{body}");
}

#[test]
fn wrong_resources_and_selectors_get_the_standard_fault() {
    let selector = |name: &str, value: &str| format!("<w:Selector Name=\"{name}\">{value}</w:Selector>");
    let job_id = selector("InstanceID", "J01");
    let resource = |uri: &str| Ask::job().with(|ask| ask.resource = Some(uri.to_owned()));
    check_faults(&[
        (
            "no resource",
            Ask::job().with(|ask| ask.resource = None),
            "a:DestinationUnreachable/InvalidResourceURI/2150858811",
        ),
        ("unknown resource", resource("urn:x"), "a:DestinationUnreachable/InvalidResourceURI/2150858811"),
        (
            "event log",
            resource("http://schemas.microsoft.com/wbem/wsman/1/windows/EventLog"),
            "a:DestinationUnreachable/InvalidResourceURI/2150858811",
        ),
        (
            "unknown class",
            resource(&format!("{V2}/Msvm_None")),
            "a:DestinationUnreachable/InvalidResourceURI/2150858811",
        ),
        (
            "unknown namespace",
            resource("http://schemas.microsoft.com/wbem/wsman/1/wmi/root/none/X"),
            "a:DestinationUnreachable/InvalidResourceURI/2150858811",
        ),
        (
            "long resource",
            resource(&format!("{V2}/{}", "x".repeat(3000))),
            "w:EncodingLimit/URILimitExceeded/2150858797",
        ),
        (
            "WS-CIM schema",
            resource("http://schemas.dmtf.org/wbem/ws-cim/1/cim-schema/2/*"),
            "w:UnsupportedFeature//2150858818",
        ),
        (
            "class schema",
            resource("http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/*"),
            "w:InvalidSelectors/UnexpectedSelectors/2150858843",
        ),
        ("all classes", resource(&format!("{V2}/*")), "a:ActionNotSupported/ActionMismatch/2150858801"),
        (
            "contradiction",
            Ask::get("Msvm_ConcreteJob", &(selector("__cimnamespace", "root/interop") + &job_id)),
            "w:InternalError//2150859067",
        ),
        ("no keys", Ask::get("Msvm_ConcreteJob", ""), "w:InvalidSelectors/InsufficientSelectors/2150859002"),
        (
            "unexpected",
            Ask::get("Msvm_ConcreteJob", &(job_id.clone() + &selector("Foo", "1"))),
            "w:InvalidSelectors/UnexpectedSelectors/2150858843",
        ),
        (
            "duplicate",
            Ask::get("Msvm_ConcreteJob", &(job_id.clone() + &selector("instanceid", "J02"))),
            "w:InvalidSelectors/DuplicateSelectors/2150858847",
        ),
        ("nameless", Ask::get("Msvm_ConcreteJob", "<w:Selector>x</w:Selector>"), "w:InvalidSelectors//2150858813"),
        (
            "mixed",
            Ask::get("Msvm_ConcreteJob", "<w:Selector Name=\"InstanceID\">x<y/></w:Selector>"),
            "w:InvalidSelectors//2150858813",
        ),
        ("gone", Ask::get("Msvm_ConcreteJob", &selector("InstanceID", "J99")), "a:DestinationUnreachable//2150858752"),
        (
            "many",
            Ask::get("Msvm_ConcreteJob", &selector("InstanceID", "J01").repeat(65)),
            "w:EncodingLimit/SelectorLimit/2150858826",
        ),
        (
            "Put",
            Ask::job().with(|ask| ask.action = format!("{TRANSFER}/Put")),
            "a:ActionNotSupported/ActionMismatch/2150858801",
        ),
        (
            "Create",
            Ask::job().with(|ask| ask.action = format!("{TRANSFER}/Create")),
            "a:ActionNotSupported/ActionMismatch/2150858801",
        ),
        (
            "Delete",
            Ask::job().with(|ask| ask.action = format!("{TRANSFER}/Delete")),
            "a:ActionNotSupported/ActionMismatch/2150858801",
        ),
        (
            "Renew",
            Ask::job().with(|ask| ask.action = format!("{ENUMERATION}/Renew")),
            "a:ActionNotSupported//2150858771",
        ),
        (
            "Subscribe",
            Ask::job().with(|ask| ask.action = "http://schemas.xmlsoap.org/ws/2004/08/eventing/Subscribe".to_owned()),
            "a:ActionNotSupported//2150858771",
        ),
        ("unknown action", Ask::job().with(|ask| ask.action = "urn:x".to_owned()), "a:ActionNotSupported//2150858771"),
    ]);
}

#[test]
fn wrong_enumerations_get_the_standard_fault() {
    let enumerate = |inner: &str| Ask::enumerate("Msvm_ConcreteJob", inner);
    let filter = |dialect: &str, content: &str| format!("<w:Filter Dialect=\"{dialect}\">{content}</w:Filter>");
    let selector_filter = |content: &str| {
        enumerate(&filter(
            "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter",
            &format!("<w:SelectorSet>{content}</w:SelectorSet>"),
        ))
    };
    let association = |content: &str| {
        Ask::enumerate("*", &filter("http://schemas.dmtf.org/wbem/wsman/1/cimbinding/AssociationFilter", content))
    };
    let object = |id: &str| {
        format!(
            "<b:AssociatedInstances><b:Object><a:ReferenceParameters><w:ResourceURI>{V2}/Msvm_ConcreteJob</w:ResourceURI><w:SelectorSet><w:Selector Name=\"InstanceID\">{id}</w:Selector></w:SelectorSet></a:ReferenceParameters></b:Object></b:AssociatedInstances>"
        )
    };
    let cannot = "n:CannotProcessFilter//2150858778";
    check_faults(&[
        ("no body", enumerate("").with(|ask| ask.body.clear()), "w:SchemaValidationError//2150858791"),
        ("EndTo", enumerate("<n:EndTo/>"), "w:UnsupportedFeature/AddressingMode/2150858902"),
        (
            "mode",
            enumerate("<w:EnumerationMode>Foo</w:EnumerationMode>"),
            "w:UnsupportedFeature/EnumerationMode/2150858886",
        ),
        ("elements", enumerate("<w:MaxElements>0</w:MaxElements>"), "w:SchemaValidationError//2150858791"),
        ("zero Expires", enumerate("<n:Expires>PT0S</n:Expires>"), "n:InvalidExpirationTime//2150858774"),
        (
            "past Expires",
            enumerate("<n:Expires>1960-01-01T00:00:00Z</n:Expires>"),
            "n:InvalidExpirationTime//2150858774",
        ),
        ("no Expires", enumerate("<n:Expires>soon</n:Expires>"), "n:UnsupportedExpirationType//2150859036"),
        (
            "selectors",
            enumerate("").header("<w:SelectorSet><w:Selector Name=\"InstanceID\">J01</w:Selector></w:SelectorSet>"),
            "w:InvalidSelectors/UnexpectedSelectors/2150859016",
        ),
        (
            "polymorphism",
            Ask::enumerate(
                "*",
                &format!("<b:PolymorphismMode>None</b:PolymorphismMode>{}", filter(WQL, "SELECT * FROM CIM_Job")),
            ),
            "b:PolymorphismModeNotSupported//2150859063",
        ),
        (
            "unknown polymorphism",
            enumerate("<b:PolymorphismMode>Foo</b:PolymorphismMode>"),
            "b:PolymorphismModeNotSupported//2150859063",
        ),
        (
            "two filters",
            enumerate(
                &(filter(WQL, "SELECT * FROM Msvm_ConcreteJob")
                    + &filter(WQL, "SELECT * FROM Msvm_ConcreteJob").replace("w:Filter", "n:Filter")),
            ),
            cannot,
        ),
        ("mixed filter", enumerate(&filter(WQL, "SELECT * FROM Msvm_ConcreteJob<x/>")), cannot),
        ("dialect", enumerate(&filter("urn:x", "y")), "n:FilterDialectRequestedUnavailable//2150858777"),
        (
            "CQL",
            enumerate(&filter("http://schemas.dmtf.org/wbem/cql/1/dsp0202.pdf", "SELECT * FROM CIM_Job")),
            "n:FilterDialectRequestedUnavailable//2150858777",
        ),
        ("XPath beyond level 1", enumerate("<w:Filter>//JobState</w:Filter>"), "n:CannotProcessFilter//2150858778"),
        ("WQL", enumerate(&filter(WQL, "SELECT FROM")), cannot),
        ("WQL class", Ask::enumerate("*", &filter(WQL, "SELECT * FROM NoSuchClass")), cannot),
        ("WQL property", enumerate(&filter(WQL, "SELECT * FROM Msvm_ConcreteJob WHERE Foo = 1")), cannot),
        ("WQL type", enumerate(&filter(WQL, "SELECT * FROM Msvm_ConcreteJob WHERE InstanceID = 1")), cannot),
        (
            "WQL other class",
            enumerate(&filter(WQL, "SELECT * FROM Msvm_ComputerSystem")),
            "n:CannotProcessFilter//2150859003",
        ),
        ("no filter", Ask::enumerate("*", ""), cannot),
        ("selector unknown", selector_filter("<w:Selector Name=\"Foo\">1</w:Selector>"), cannot),
        ("selector array", selector_filter("<w:Selector Name=\"OperationalStatus\">1</w:Selector>"), cannot),
        ("selector datetime", selector_filter("<w:Selector Name=\"StartTime\">x</w:Selector>"), cannot),
        ("selector quote", selector_filter("<w:Selector Name=\"InstanceID\">a'b</w:Selector>"), cannot),
        (
            "selector twice",
            selector_filter("<w:Selector Name=\"JobState\">4</w:Selector><w:Selector Name=\"jobstate\">4</w:Selector>"),
            cannot,
        ),
        ("association object gone", association(&object("J99")), cannot),
        ("association without object", association("<b:AssociatedInstances/>"), cannot),
        ("association content", association("<b:Other/>"), cannot),
        (
            "pull unknown",
            Ask::pull("uuid:3AB4F1C0-1D2E-4A59-9F30-9F2B7F1B6A01", ""),
            "n:InvalidEnumerationContext//2150858779",
        ),
        ("pull garbage", Ask::pull("x", ""), "n:InvalidEnumerationContext//2150858779"),
        ("pull time", Ask::pull("x", "<n:MaxTime>x</n:MaxTime>"), "w:SchemaValidationError//2150858791"),
    ]);
    let service = service();
    assert_eq!(ids_of(&ask(&service, &association(&object("J01")))), Vec::<String>::new(), "nothing is associated");
}

#[test]
fn contexts_belong_to_their_user_and_are_limited() {
    let service = service();
    let open = || ask(&service, &Ask::enumerate("Msvm_ConcreteJob", ""));
    let body = open();
    let context = between(&body, "<n:EnumerationContext>", "</n:EnumerationContext>");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let stranger = Principal::local("other");
    let answer = runtime.block_on(service.handle(&stranger, &Ask::pull(context, "").text(), Encoding::Utf8));
    assert_eq!(fault_of(&answer.body), "w:AccessDenied//2150859177");
    open();
    open();
    assert_eq!(fault_of(&open()), "w:QuotaLimit//2150859174");
    let release = Ask::pull(context, "").with(|ask| {
        ask.action = format!("{ENUMERATION}/Release");
        ask.body = ask.body.replace("n:Pull", "n:Release");
    });
    assert!(ask(&service, &release).contains("ReleaseResponse</a:Action>"));
    assert_eq!(fault_of(&ask(&service, &release)), "n:InvalidEnumerationContext//2150858779");
    assert!(open().contains("EnumerateResponse"));
}

#[test]
fn wrong_invocations_get_the_standard_fault() {
    check_faults(&[
        (
            "unknown method",
            Ask::create("").with(|ask| ask.action = ask.action.replace("CreateSnapshot", "NoSuchMethod")),
            "a:ActionNotSupported//2150858771",
        ),
        ("unknown parameter", Ask::create("<r:Foo>1</r:Foo>"), "w:InvalidParameter/InvalidName/2150858837"),
        (
            "not a number",
            Ask::create("<r:SnapshotType>two</r:SnapshotType>"),
            "w:InvalidParameter/TypeMismatch/2150858836",
        ),
        (
            "out of range",
            Ask::create("<r:SnapshotType>65536</r:SnapshotType>"),
            "w:InvalidParameter/TypeMismatch/2150858836",
        ),
        (
            "twice",
            Ask::create("<r:SnapshotType>2</r:SnapshotType><r:SnapshotType>3</r:SnapshotType>"),
            "w:InvalidParameter/TypeMismatch/2150858836",
        ),
        (
            "no reference",
            Ask::create("<r:AffectedSystem>web 01</r:AffectedSystem>"),
            "w:InvalidParameter/TypeMismatch/2150858836",
        ),
        ("empty reference", Ask::create("<r:AffectedSystem/>"), "w:InvalidParameter/TypeMismatch/2150858836"),
        ("text in body", Ask::create("text"), "w:SchemaValidationError//2150858791"),
        (
            "no selectors",
            Ask::create("").with(|ask| ask.headers.clear()),
            "w:InvalidSelectors/InsufficientSelectors/2150858842",
        ),
        (
            "no provider",
            Ask::job().with(|ask| ask.action = format!("{V2}/Msvm_ConcreteJob/KillJob")),
            "a:ActionNotSupported//2150858771",
        ),
        (
            "slow",
            Ask::create("").with(|ask| {
                ask.action = ask.action.replace("CreateSnapshot", "ApplySnapshot");
                ask.headers.push_str("<w:OperationTimeout>PT1S</w:OperationTimeout>");
            }),
            "w:TimedOut//2150858793",
        ),
        (
            "fragment not understood",
            Ask::job().header("<w:FragmentTransfer>JobState</w:FragmentTransfer>"),
            "a:InvalidMessageInformationHeader//2150858767",
        ),
        (
            "fragment dialect",
            Ask::job().header(
                "<w:FragmentTransfer s:mustUnderstand=\"true\" Dialect=\"urn:x\">JobState</w:FragmentTransfer>",
            ),
            "w:FragmentDialectNotSupported//2150858896",
        ),
        (
            "absolute fragment",
            Ask::job().header("<w:FragmentTransfer s:mustUnderstand=\"true\">/JobState</w:FragmentTransfer>"),
            "w:CannotProcessFilter//2150859042",
        ),
        (
            "unknown fragment",
            Ask::job().header("<w:FragmentTransfer s:mustUnderstand=\"true\">Foo</w:FragmentTransfer>"),
            "w:CannotProcessFilter//2150859042",
        ),
        (
            "blank fragment",
            Ask::job().header("<w:FragmentTransfer s:mustUnderstand=\"true\"> </w:FragmentTransfer>"),
            "w:CannotProcessFilter//2150859017",
        ),
    ]);
}

#[test]
fn what_is_no_envelope_gets_the_standard_fault() {
    let service = service();
    let good = Ask::job().text();
    let bomb: String = format!(
        "<!DOCTYPE x [<!ENTITY a \"aaaa\">{}]>",
        (0..20).map(|n| format!("<!ENTITY b{n} \"&a;&a;&a;\">")).collect::<Vec<_>>().concat()
    ) + &good;
    for (name, text, expected) in [
        ("empty", String::new(), "w:SchemaValidationError//2150858791"),
        ("not XML", "hello".to_owned(), "w:SchemaValidationError//2150858819"),
        ("cut", good.chars().take(good.len() - 20).collect(), "w:SchemaValidationError//2150858819"),
        ("bomb", bomb, "w:SchemaValidationError//2150858817"),
        ("instruction", good.replace("<s:Body>", "<?x y?><s:Body>"), "w:SchemaValidationError//2150858817"),
        (
            "deep",
            good.replace("<s:Body>", &format!("<s:Body>{}", "<x>".repeat(100))),
            "w:SchemaValidationError//2150858817",
        ),
        (
            "SOAP 1.1",
            good.replace("http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/soap/envelope/"),
            "s:VersionMismatch//2150858765",
        ),
        ("other root", "<x/>".to_owned(), "w:SchemaValidationError//2150858791"),
        ("no body", good.replace("<s:Body></s:Body>", ""), "w:SchemaValidationError//2150858791"),
        ("header last", good.replace("</s:Body>", "</s:Body><s:Header/>"), "w:SchemaValidationError//2150858791"),
        (
            "other addressing",
            good.replace(
                "http://schemas.xmlsoap.org/ws/2004/08/addressing\"",
                "http://www.w3.org/2005/08/addressing\"",
            ),
            "a:MessageInformationHeaderRequired//2150858769",
        ),
    ] {
        let body = handle(&service, &text, Encoding::Utf8);
        assert_eq!(fault_of(&body), expected, "{name}: {body}");
    }
}

#[test]
fn a_fault_about_a_cim_resource_carries_the_cim_error_for_every_client() {
    let body = ask(&service(), &Ask::get("Msvm_ConcreteJob", "<w:Selector Name=\"InstanceID\">J99</w:Selector>"));
    let order = ["<f:WSManFault ", "<p:MSFT_WmiError b:IsCIM_Error=\"true\"", "<p:OMI_Error b:IsCIM_Error=\"true\""];
    let places: Vec<usize> =
        order.iter().map(|mark| body.find(mark).unwrap_or_else(|| panic!("{mark}: {body}"))).collect();
    assert!(places.is_sorted(), "{body}");
    assert!(body.contains("<p:error_Code xsi:type=\"cim:cimUnsignedInt\">2147749890</p:error_Code>"), "{body}");
    assert!(body.contains(">OMI:MI_Result:6</p:MessageID>") && body.contains("Machine=\"HOST1\""), "{body}");
    assert_eq!(between(&body, "<a:Action>", "</a:Action>"), "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault");
}
