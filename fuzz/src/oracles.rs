//! What holds for every text, however broken. Not to panic and not to run away is the least of it.

use std::sync::{Arc, LazyLock};

use wsnapd::cim::cimxml::{self, CimXmlError};
use wsnapd::cim::wql::{Query, SystemProperties};
use wsnapd::cim::{
    CimError, CimInstance, CimValue, ClassDeclaration, ClassName, MethodDeclaration, NamespaceSchema, ObjectPath,
    RawInstance, RawValue, Schema, embedded, mof,
};
use wsnapd::cimom::{
    BoxFuture, CallContext, InstanceProvider, InstanceStream, MethodArguments, MethodProvider, MethodResult,
    ObjectManager, Principal, ProviderRegistry, Representation, WriteProvider,
};
use wsnapd::soap::Envelope;
use wsnapd::time::{Clock, ManualClock, SequentialIds, Timestamp};
use wsnapd::transport;
use wsnapd::transport::auth::{MessageSecurity, SealError, Ticket, TicketAcceptor, TicketError, TicketFault, decoders};
use wsnapd::wsman::{Encoding, Service, ServiceOptions};
use wsnapd::xml::{Event, Reader, ReaderOptions, Writer};

// Found from wherever this file is included.
#[path = "events.rs"]
mod events;
#[cfg(feature = "kerberos")]
#[path = "tickets.rs"]
pub mod tickets;

/// An oracle.
pub type Oracle = fn(&str);

/// Every oracle with its name, which is also that of its directory in `fixtures/fuzz`.
pub const ALL: [(&str, Oracle); 6] =
    [("cimxml", cimxml), ("envelope", envelope), ("mof", mof), ("request", request), ("wql", wql), ("xml", xml)];

/// An oracle for any bytes.
pub type BytesOracle = fn(&[u8]);

/// The oracles for bytes that clients send before they have logged on, in the same way.
pub const BYTES: [(&str, BytesOracle); 6] = [
    ("certificate", certificate),
    ("credssp", credssp),
    ("kerberos", kerberos),
    ("multipart", multipart),
    ("ntlm", ntlm),
    ("spnego", spnego),
];

/// The names in a client certificate: reading them ends.
pub fn certificate(bytes: &[u8]) {
    let _ = decoders::certificate(bytes);
}

/// Messages of CredSSP: what is read is written and read alike.
pub fn credssp(bytes: &[u8]) {
    assert!(decoders::credssp(bytes).is_some(), "{bytes:02x?}");
}

/// Tokens with tickets: reading them ends, whatever an acceptor says of them. With the feature `kerberos`, and a keytab
/// in the environment, the acceptor on MIT Kerberos is asked too.
pub fn kerberos(bytes: &[u8]) {
    let _ = decoders::kerberos(bytes);
    let _ = decoders::tickets(bytes, &Credulous);
    assert!(decoders::tickets(bytes, &Incredulous).is_none(), "{bytes:02x?}");
    #[cfg(feature = "kerberos")]
    let _ = tickets::token(bytes);
}

/// Takes everything for a good ticket.
struct Credulous;

/// Takes nothing for one.
struct Incredulous;

/// Seals nothing, and finds every signature right.
struct NoSecurity;

impl TicketAcceptor for Credulous {
    fn accept(&self, token: &[u8], _: Option<&[u8]>) -> Result<Ticket, TicketError> {
        let lifetime = std::time::Duration::from_secs(1);
        let (principal, answer) = ("alice@EXAMPLE.TEST".to_owned(), Some(token.to_vec()));
        Ok(Ticket { principal, lifetime, bound: false, answer, security: Box::new(NoSecurity) })
    }
}

impl TicketAcceptor for Incredulous {
    fn accept(&self, _: &[u8], _: Option<&[u8]>) -> Result<Ticket, TicketError> {
        Err(TicketError { fault: TicketFault::Untimely(37), reason: String::new() })
    }
}

impl MessageSecurity for NoSecurity {
    fn can_seal(&self) -> bool {
        false
    }

    fn seal(&mut self, _: &mut [u8]) -> Result<Vec<u8>, SealError> {
        Err(SealError::Exhausted)
    }

    fn unseal(&mut self, _: &[u8], _: Vec<u8>) -> Result<Vec<u8>, SealError> {
        Err(SealError::Signature)
    }

    fn verify_mech_list(&mut self, _: &[u8], _: &[u8]) -> bool {
        true
    }

    fn sign_mech_list(&mut self, list: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(list.to_vec())
    }
}

/// Sealed bodies, by both kinds of seals: reading them ends.
pub fn multipart(bytes: &[u8]) {
    let _ = transport::reads_sealed(bytes) | transport::reads_sealed_by_tls(bytes);
}

/// Messages of NTLM: no proof is right.
pub fn ntlm(bytes: &[u8]) {
    let _ = decoders::ntlm(bytes);
}

/// Tokens of SPNEGO: reading them ends.
pub fn spnego(bytes: &[u8]) {
    let _ = decoders::spnego(bytes);
}

/// A schema with a property of every type.
const MOF: &str = r#"
    #pragma namespace ("root/test")
    Qualifier Key : boolean = false, Scope(property, reference), Flavor(DisableOverride);
    Qualifier In : boolean = true, Scope(parameter), Flavor(DisableOverride);
    Qualifier Out : boolean = false, Scope(parameter), Flavor(DisableOverride);
    Qualifier EmbeddedInstance : string = null, Scope(property, parameter, method);
    class T_Base { [Key] string InstanceID; };
    Qualifier Indication : boolean = false, Scope(class), Flavor(DisableOverride);
    [Indication] class T_Event { [EmbeddedInstance("T_All")] string SourceInstance; string Words[]; };
    class T_All : T_Base {
        boolean ABoolean; uint8 AUint8; sint8 ASint8; uint16 AUint16; sint16 ASint16; uint32 AUint32; sint32 ASint32;
        uint64 AUint64; sint64 ASint64; real32 AReal32; real64 AReal64; char16 AChar16; string AString;
        datetime ADateTime; T_Base REF AReference; [EmbeddedInstance("T_All")] string AnObject;
        uint16 Uint16s[]; string Strings[]; datetime DateTimes[]; char16 Char16s[]; real64 Real64s[];
        T_Base REF References[]; [EmbeddedInstance("T_All")] string Objects[];
        uint32 CreateSnapshot([In] T_Base REF AffectedSystem, [In, EmbeddedInstance("T_All")] string SnapshotSettings,
            [In] uint16 SnapshotType, [In] string Names[], [In(false), Out] T_Base REF Job);
    };
"#;

static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| match mof::compile(&[("fuzz.mof", MOF)]) {
    Ok(schema) => Arc::new(schema),
    Err(diagnostics) => unreachable!("the schema of the oracles compiles: {diagnostics}"),
});

fn namespace() -> &'static NamespaceSchema {
    match SCHEMA.namespace("root/test") {
        Some(namespace) => namespace,
        None => unreachable!("the schema of the oracles has its namespace"),
    }
}

fn class() -> &'static Arc<ClassDeclaration> {
    match namespace().class("T_All") {
        Some(class) => class,
        None => unreachable!("the schema of the oracles has its class"),
    }
}

/// The XML reader: elements and texts that were read are written and read again alike, and a fragment reads like
/// the part of the document it stands for.
pub fn xml(text: &str) {
    let lenient =
        ReaderOptions { skip_document_type: true, replace_invalid_characters: true, ..ReaderOptions::default() };
    for options in [ReaderOptions::default(), lenient] {
        let Some(written) = rewrite(text, options) else {
            continue;
        };
        let again = rewrite(&written, ReaderOptions::default());
        assert_eq!(again.as_ref(), Some(&written), "read from {text:?}");
    }
    let mut reader = Reader::new(text);
    if let Ok(Event::Start(root)) = reader.next()
        && let Ok(fragment) = reader.fragment(&root)
    {
        let (mut inner, element) = fragment.open().expect("a fragment was read once");
        assert_eq!(element.name(), root.name());
        inner.skip().expect("a fragment was read once");
    }
}

/// Reads a document and writes what was read, local names only; `None` when it does not read.
fn rewrite(text: &str, options: ReaderOptions) -> Option<String> {
    let mut reader = Reader::with_options(text, options);
    let mut w = Writer::default();
    let mut open = Vec::new();
    loop {
        match reader.next().ok()? {
            Event::Start(element) => {
                let mut attributes: Vec<(&str, &str)> = Vec::new();
                for (name, value) in element.attributes() {
                    // Without their prefixes two attributes may have one name.
                    if attributes.iter().all(|(known, _)| *known != name.local) && name.local != "xmlns" {
                        attributes.push((name.local, value));
                    }
                }
                w.start_with(element.local(), &attributes);
                open.push(element.local());
            }
            Event::Text(text) => w.text(&text),
            Event::End => w.end(open.pop()?),
            Event::Eof => return Some(w.finish()),
        }
    }
}

/// Embedded instances: what decodes is written and decodes alike, before and after it met its class.
pub fn cimxml(text: &str) {
    let Ok(raw) = cimxml::decode_instance(text) else {
        // Another form, or none: reading it must only end.
        let _ = embedded::parse(text);
        return;
    };
    assert_eq!(embedded::parse(text), Ok(Some(raw.clone())), "{text:?}");
    assert!(raw.properties.iter().all(|property| !property.name.as_str().starts_with("__")), "{text:?}");
    let mut outer = CimInstance::new(Arc::clone(class()));
    outer.set("AnObject", CimValue::RawInstance(Arc::new(raw.clone()))).expect("a string property takes an object");
    match cimxml::decode_instance(&cimxml::encode_instance(&outer)) {
        Ok(decoded) => match decoded.get("AnObject") {
            Some(RawValue::Instance(inner)) => assert_eq!(**inner, raw, "{text:?}"),
            other => panic!("{other:?} from {text:?}"),
        },
        Err(error) => assert!(matches!(error, CimXmlError::EmbeddedTooDeep(_)), "{error} from {text:?}"),
    }
    typed(&RawInstance { class_name: ClassName::new("T_All"), ..raw });
}

fn typed(raw: &RawInstance) {
    let Ok(instance) = namespace().instantiate(raw) else {
        return;
    };
    let text = cimxml::encode_instance(&instance);
    let decoded = cimxml::decode_instance(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let again = namespace().instantiate(&decoded).unwrap_or_else(|error| panic!("{error}: {text}"));
    // Compared as text, because NaN does not equal itself and MOF has characters that XML has not.
    assert_eq!(cimxml::encode_instance(&again), text);
}

/// MOF, as an embedded instance and as a source of a user.
pub fn mof(text: &str) {
    if let Ok(raw) = mof::parse_instance(text) {
        typed(&RawInstance { class_name: ClassName::new("T_All"), ..raw });
    }
    let diagnostics = mof::check(&[("fuzz.mof", text)], &[("test.mof", MOF)], Some("test.mof"));
    assert!(!diagnostics.to_string().contains('\0') || text.contains('\0'));
}

/// WQL: what parses is printed and parses alike, and a bound query answers.
pub fn wql(text: &str) {
    let Ok(query) = text.parse::<Query>() else {
        return;
    };
    let printed = query.to_string();
    assert_eq!(printed.parse::<Query>().as_ref(), Ok(&query), "{printed}");
    if let Query::Classes(classes) = &query
        && let Ok(bound) = classes.bind(namespace())
    {
        let system = SystemProperties { server: "HOST1", namespace: "root/test" };
        for class in namespace().classes() {
            std::hint::black_box(bound.matches(class, &system));
        }
    }
    if let Query::Select(select) = &query
        && let Ok(bound) = select.bind(class())
    {
        let system = SystemProperties { server: "HOST1", namespace: "root/test" };
        for instance in instances() {
            std::hint::black_box(bound.matches(&instance, &system));
        }
    }
}

/// The envelope: what it hands out can be read again.
pub fn envelope(text: &str) {
    let Ok(envelope) = Envelope::parse(text) else {
        return;
    };
    if let Some(body) = envelope.body {
        let (mut reader, _) = body.open().expect("the body was read once");
        reader.skip().expect("the body was read once");
    }
}

/// A whole exchange: whatever comes in, what goes out is an envelope.
pub fn request(text: &str) {
    // Time runs by itself, so that nothing is waited for.
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a runtime with a timer")
    });
    static CLOCK: LazyLock<Arc<ManualClock>> = LazyLock::new(|| Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
    static SERVICE: LazyLock<Service> = LazyLock::new(|| {
        let mut registry = ProviderRegistry::new();
        registry.instance("root/test", "T_Base", Arc::new(Fixed));
        registry.instance("root/test", "T_All", Arc::new(Fixed));
        registry.method("root/test", "T_All", Arc::new(Fixed));
        registry.write("root/test", "T_All", Arc::new(Fixed));
        let manager = Arc::new(ObjectManager::new(Arc::clone(&SCHEMA), registry));
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&CLOCK);
        let ids = Arc::new(SequentialIds::default());
        let event = namespace().class("T_Event").expect("the schema of the oracles has its indication");
        let eventing = events::hub(event, Arc::clone(&clock), Arc::<SequentialIds>::clone(&ids));
        let options = ServiceOptions { default_namespace: "root/test".into(), ..ServiceOptions::default() };
        Service::new(manager, clock, ids, options).with_eventing(eventing)
    });
    let principal = Principal::local("fuzz");
    for encoding in [Encoding::Utf8, Encoding::Utf16] {
        let outbound = RUNTIME.block_on(async {
            let outbound = SERVICE.handle(&principal, text, encoding).await;
            // What it has opened expires, so that nothing piles up.
            CLOCK.advance(chrono::Duration::days(2));
            SERVICE.sweep();
            outbound
        });
        let answer = Envelope::parse(&outbound.body);
        assert!(answer.is_ok(), "{answer:?} in {} to {text:?}", outbound.body);
    }
}

/// A provider with three instances.
struct Fixed;

impl InstanceProvider for Fixed {
    fn enumerate(&self, _cx: &CallContext, wanted: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        let found: Vec<_> = if wanted.name() == class().name() { instances() } else { Vec::new() };
        Ok(Box::new(found.into_iter().map(Ok)))
    }
}

/// It takes every change, and forgets it.
impl WriteProvider for Fixed {
    fn modify<'a>(
        &'a self,
        _cx: &'a CallContext,
        _class: &'a Arc<ClassDeclaration>,
        _target: &'a ObjectPath,
        changes: Representation,
    ) -> BoxFuture<'a, Result<(), CimError>> {
        // Whatever was given is of its type.
        assert!(changes.names.iter().all(|name| class().property(name.as_str()).is_some()));
        Box::pin(std::future::ready(Ok(())))
    }

    fn create<'a>(
        &'a self,
        cx: &'a CallContext,
        _class: &'a Arc<ClassDeclaration>,
        given: Representation,
    ) -> BoxFuture<'a, Result<ObjectPath, CimError>> {
        Box::pin(std::future::ready(Ok(given.instance.path(&cx.namespace))))
    }

    fn delete<'a>(
        &'a self,
        _cx: &'a CallContext,
        _class: &'a Arc<ClassDeclaration>,
        _target: &'a ObjectPath,
    ) -> BoxFuture<'a, Result<(), CimError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Its method gives back the reference it was given.
impl MethodProvider for Fixed {
    fn invoke<'a>(
        &'a self,
        _cx: &'a CallContext,
        _class: &'a Arc<ClassDeclaration>,
        _target: &'a ObjectPath,
        _method: &'a MethodDeclaration,
        mut arguments: MethodArguments,
    ) -> BoxFuture<'a, Result<MethodResult, CimError>> {
        let job = arguments.take("AffectedSystem");
        Box::pin(async move { Ok(MethodResult::returning(4096).with("Job", job)) })
    }
}

fn instances() -> Vec<CimInstance> {
    let mut full = CimInstance::new(Arc::clone(class()));
    let path = ObjectPath::new("root/test", ClassName::new("T_Base")).with_key("InstanceID", "a");
    for (name, value) in [
        ("InstanceID", CimValue::from(r"a\b")),
        ("ABoolean", true.into()),
        ("AUint16", 2_u16.into()),
        ("AReal64", 0.5.into()),
        ("AChar16", CimValue::Char16(65)),
        ("AString", "<&>]]>".into()),
        ("AReference", path.into()),
        ("Strings", vec!["x", ""].into()),
    ] {
        full.set(name, value).expect("the value fits");
    }
    let mut outer = full.clone();
    outer.set("AnObject", CimValue::Instance(Arc::new(full.clone()))).expect("the value fits");
    vec![CimInstance::new(Arc::clone(class())), full, outer]
}
