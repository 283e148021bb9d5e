//! The MOF compiler, the built-in schema and the code generated from it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use wsnapd::cim::mof::{self, Compilation};
use wsnapd::cim::{CimType, CimValue, ClassDeclaration, RawInstance, RawValue, Schema, codegen};
use wsnapd::cimom::MethodArguments;
use wsnapd::providers::generated;

const HOST: &str = "root/virtualization/v2";
const CLUSTER: &str = "root/HyperVCluster/v2";
const STORAGE: &str = "root/Microsoft/Windows/Storage/SM";

fn schema() -> Schema {
    generated::load().unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

fn class(schema: &Schema, namespace: &str, name: &str) -> Arc<ClassDeclaration> {
    Arc::clone(schema.namespace(namespace).unwrap().class(name).unwrap_or_else(|| panic!("{namespace} lacks {name}")))
}

fn package_file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The qualifiers most MOF of these tests needs, in a namespace of its own.
fn with_qualifiers(mof: &str) -> String {
    format!("#pragma include (\"qualifiers.mof\")\n{mof}")
}

fn check(mof: &str) -> String {
    let qualifiers = package_file("schemas/qualifiers.mof");
    mof::check(&[("test.mof", mof)], &[("qualifiers.mof", &qualifiers)], Some("qualifiers.mof")).render()
}

#[test]
fn the_generated_file_is_up_to_date() {
    fn find(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                find(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "mof") {
                let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
                found.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    let mut names = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas"), &mut names);
    names.sort_by(|left, right| Path::new(left).cmp(Path::new(right)));
    let texts: Vec<String> = names.iter().map(|name| package_file(name)).collect();
    let table: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
    let wanted = codegen::generate(&table, "cargo run --example generate").unwrap();
    // Compared without what rustfmt decides, so that no formatter is needed here.
    let essence = |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != ',').collect::<String>();
    assert!(
        essence(&wanted) == essence(&package_file("src/providers/generated.rs")),
        "src/providers/generated.rs is stale: run `cargo run --example generate`"
    );
}

/// The table is written from the published list of classes, so a slip in a MOF file shows here.
#[test]
fn every_class_is_as_published() {
    let schema = schema();
    let table = package_file("fixtures/schema/classes.txt");
    let mut seen = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [namespace, name, superclass, flags, keys, all, declared, methods] = fields[..] else { panic!("{line}") };
        let class = class(&schema, namespace, name);
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let own_methods = class.methods().iter().filter(|method| !method.propagated);
        let mut own_flags = String::new();
        for (flag, is_set) in [('A', class.is_abstract()), ('R', class.is_association()), ('I', class.is_indication())]
        {
            own_flags.extend(is_set.then_some(flag));
        }
        assert_eq!(class.superclass().map_or("-", |superclass| superclass.name().as_str()), superclass, "{line}");
        // An indication or association is one because of its superclass too; the list marks only the declared ones.
        assert!(flags == "-" || flags.chars().all(|flag| own_flags.contains(flag)), "{line}: {own_flags}");
        let own_keys: Vec<&str> = class.keys().map(|key| key.name.as_str()).collect();
        assert_eq!(or_dash(own_keys.join(",")), keys, "{line}");
        assert_eq!(class.properties().len().to_string(), all, "{line}");
        assert_eq!(class.properties().iter().filter(|p| !p.propagated).count().to_string(), declared, "{line}");
        assert_eq!(or_dash(own_methods.map(|m| m.name.as_str()).collect::<Vec<_>>().join(",")), methods, "{line}");
        seen += 1;
    }
    let count: usize = schema.namespaces().map(|namespace| namespace.classes().count()).sum();
    assert_eq!(
        (seen, count),
        (241, 243 + 3 * 12 + 1 + 16 + 21 + 12 * 2 - 3),
        "the published classes, OMI_Identify, Wsnapd_SnapshotOutcome, the classes of events with their filter, of devices, of \
         the host and of namespaces"
    );
}

#[test]
fn every_class_and_method_is_described() {
    for class in schema().namespaces().flat_map(|namespace| namespace.classes()) {
        let description = class.qualifier("Description").and_then(|q| (!q.propagated).then(|| q.value.as_str()));
        assert!(description.flatten().is_some_and(|text| text.len() > 10), "{}", class.name());
        for method in class.methods() {
            assert!(method.qualifiers.iter().any(|q| q.name == "Description"), "{}.{}", class.name(), method.name);
        }
    }
}

#[test]
fn namespaces_have_their_classes() {
    let schema = schema();
    let counts: Vec<(String, usize)> =
        schema.namespaces().map(|namespace| (namespace.name().to_string(), namespace.classes().count())).collect();
    let wanted = [
        ("root", 2),
        ("root/cimv2", 23),
        ("root/HyperVCluster", 2),
        (CLUSTER, 97),
        ("root/interop", 13),
        ("root/Microsoft", 2),
        ("root/Microsoft/Windows", 2),
        ("root/Microsoft/Windows/Storage", 2),
        (STORAGE, 58),
        ("root/omi", 3),
        ("root/virtualization", 2),
        (HOST, 132),
    ];
    assert_eq!(counts, wanted.map(|(name, count)| (name.to_owned(), count)));
    for spelling in [r"ROOT\Virtualization\V2", "//./root/virtualization/v2", "/root/virtualization/v2/"] {
        assert!(schema.namespace(spelling).is_some(), "{spelling}");
    }
    assert!(schema.namespace("root/virtualization/v1").is_none());
    let namespace = schema.namespace(HOST).unwrap();
    assert!(namespace.class("MSVM_computersystem").is_some());
    assert!(namespace.class("Msvm_ComputerSystems").is_none() && namespace.class("").is_none());
}

const SERVICE: &[&str] = &["CreationClassName", "Name", "SystemCreationClassName", "SystemName"];
const LINK: &[&str] = &["Antecedent", "Dependent"];
const ID: &[&str] = &["InstanceID"];

#[test]
fn central_classes_have_their_keys() {
    let schema = schema();
    for (namespace, name, keys) in [
        (HOST, "Msvm_VirtualSystemSnapshotService", SERVICE),
        (HOST, "Msvm_CollectionSnapshotService", SERVICE),
        (HOST, "Msvm_VirtualSystemManagementService", SERVICE),
        (HOST, "Msvm_CollectionManagementService", SERVICE),
        (CLUSTER, "Msvm_VirtualSystemSnapshotService", SERVICE),
        (HOST, "Msvm_ComputerSystem", &["CreationClassName", "Name"]),
        (HOST, "Msvm_VirtualSystemSettingData", ID),
        (HOST, "Msvm_StorageAllocationSettingData", ID),
        (HOST, "Msvm_ConcreteJob", ID),
        (HOST, "Msvm_SnapshotCollection", &["CollectionID"]),
        (HOST, "Msvm_VirtualSystemCollection", &["CollectionID"]),
        (HOST, "Msvm_SnapshotOfVirtualSystem", LINK),
        (HOST, "Msvm_MostCurrentSnapshotInBranch", LINK),
        (HOST, "Msvm_LastAppliedSnapshot", LINK),
        (HOST, "Msvm_ParentChildSettingData", LINK),
        (HOST, "Msvm_HostedService", LINK),
        (HOST, "Msvm_AffectedJobElement", &["AffectedElement", "AffectingElement"]),
        (HOST, "Msvm_SettingsDefineState", &["ManagedElement", "SettingData"]),
        (HOST, "Msvm_VirtualSystemSettingDataComponent", &["GroupComponent", "PartComponent"]),
        (HOST, "Msvm_CollectedSnapshots", &["Collection", "Member"]),
        (STORAGE, "MSFT_SMStorageVolume", &["ObjectId"]),
        (STORAGE, "MSFT_SMJob", &["ObjectId"]),
        ("root/omi", "OMI_Identify", ID),
    ] {
        let class = class(&schema, namespace, name);
        let found: Vec<&str> = class.keys().map(|key| key.name.as_str()).collect();
        assert_eq!(found, keys, "{name}");
    }
}

/// The order of out parameters is their order on the wire. `<` is in, `>` is out, `*` is both.
#[test]
fn snapshot_methods_have_their_parameters_in_order() {
    let schema = schema();
    for (namespace, name, method, parameters) in [
        (
            HOST,
            "Msvm_VirtualSystemSnapshotService",
            "CreateSnapshot",
            "<AffectedSystem <SnapshotSettings <SnapshotType *ResultingSnapshot >Job",
        ),
        (HOST, "Msvm_VirtualSystemSnapshotService", "ApplySnapshot", "<Snapshot >Job"),
        (HOST, "Msvm_VirtualSystemSnapshotService", "DestroySnapshot", "<AffectedSnapshot >Job"),
        (HOST, "Msvm_VirtualSystemSnapshotService", "DestroySnapshotTree", "<SnapshotSettingData >Job"),
        (HOST, "Msvm_VirtualSystemSnapshotService", "ClearSnapshotState", "<SnapshotSettingData >Job"),
        (
            HOST,
            "Msvm_VirtualSystemSnapshotService",
            "ConvertToReferencePoint",
            "<AffectedSnapshot <ReferencePointSettings *ResultingReferencePoint >Job",
        ),
        (HOST, "Msvm_VirtualSystemSnapshotService", "RequestStateChange", "<RequestedState >Job <TimeoutPeriod"),
        (
            HOST,
            "CIM_VirtualSystemSnapshotService",
            "CreateSnapshot",
            "<AffectedSystem <SnapshotSettings <SnapshotType *ResultingSnapshot >Job",
        ),
        (
            CLUSTER,
            "CIM_VirtualSystemSnapshotService",
            "CreateSnapshot",
            "<AffectedSystem <SnapshotSettings <SnapshotType *ResultingSnapshot >Job",
        ),
        (
            HOST,
            "Msvm_CollectionSnapshotService",
            "CreateSnapshot",
            "<Collection <SnapshotSettings <SnapshotType *ResultingSnapshotCollection >Job",
        ),
        (HOST, "Msvm_CollectionSnapshotService", "ApplySnapshot", "<SnapshotCollection >Job"),
        (HOST, "Msvm_CollectionSnapshotService", "DestroySnapshot", "<AffectedSnapshotCollection >Job"),
        (
            HOST,
            "Msvm_CollectionSnapshotService",
            "ConvertToReferencePoint",
            "<AffectedSnapshotCollection *ResultingReferencePointCollection >Job",
        ),
        (STORAGE, "MSFT_SMStorageVolume", "CreateSnapshot", PARAMETERS_OF_VOLUME_SNAPSHOT),
        (HOST, "Msvm_ConcreteJob", "GetErrorEx", ">Errors"),
    ] {
        let class = class(&schema, namespace, name);
        let found: Vec<String> = class
            .method(method)
            .unwrap()
            .parameters
            .iter()
            .map(|parameter| {
                let direction = match (parameter.is_in, parameter.is_out) {
                    (true, true) => '*',
                    (true, false) => '<',
                    (false, true) => '>',
                    (false, false) => '?',
                };
                format!("{direction}{}", parameter.name)
            })
            .collect();
        assert_eq!(found.join(" "), parameters, "{name}.{method}");
    }
}

const PARAMETERS_OF_VOLUME_SNAPSHOT: &str =
    "<ElementName >TargetStorageVolume <TargetPool <username <password >Job >ExtendedStatus";

#[test]
fn inheritance_is_resolved_and_shared() {
    let schema = schema();
    let service = class(&schema, HOST, "Msvm_VirtualSystemSnapshotService");
    assert!(service.is_a("CIM_ManagedElement") && service.is_a("cim_service") && !service.is_a("CIM_System"));
    let name = service.property("Name").unwrap();
    assert!(name.is_key && !name.propagated);
    assert_eq!(name.class_origin, "CIM_ManagedSystemElement");
    assert_eq!(name.default, CimValue::from("vssnapsvc"));
    assert!(name.qualifiers.iter().any(|q| q.name == "Description" && q.propagated));
    let start_mode = service.property("startmode").unwrap();
    assert!(start_mode.propagated);
    assert_eq!(start_mode.class_origin, "CIM_Service");
    // Inherited unchanged, it is one declaration for all subclasses and for both namespaces.
    let cluster = class(&schema, CLUSTER, "Msvm_VirtualSystemSnapshotService");
    assert!(Arc::ptr_eq(start_mode, cluster.property("StartMode").unwrap()));
    let create = service.method("createsnapshot").unwrap();
    let kind = create.parameter("SnapshotType").unwrap();
    let value_map = kind.value_map.as_ref().unwrap();
    assert_eq!(value_map.text_of("2"), Some("Full Snapshot"));
    assert!(value_map.contains(32768));
    assert_eq!(value_map.text_of("32768"), None, "only a range lists it");
    assert_eq!(create.parameter("SnapshotSettings").unwrap().embedded_class.as_ref().unwrap(), &"CIM_SettingData");
    assert_eq!(create.parameter("Job").unwrap().reference_class.as_ref().unwrap(), &"CIM_ConcreteJob");
    let sorted = service.properties().windows(2).all(|pair| pair[0].name < pair[1].name);
    assert!(sorted, "properties go out in the order of their names");
}

#[test]
fn generated_inputs_and_enums_match_the_schema() {
    let mut arguments = MethodArguments::new();
    arguments.insert("snapshottype".into(), CimValue::Uint16(2));
    arguments.insert("SnapshotSettings".into(), CimValue::from("<INSTANCE/>"));
    let input = generated::VirtualSystemSnapshotServiceCreateSnapshotInput::from_arguments(arguments);
    assert_eq!(input.snapshot_type, Some(generated::VirtualSystemSnapshotType::FullSnapshot.number()));
    assert_eq!(input.snapshot_settings, CimValue::from("<INSTANCE/>"));
    assert_eq!(input.affected_system, None);
    assert_eq!(generated::JobState::from_number(7), Some(generated::JobState::Completed));
    assert_eq!(generated::JobState::from_number(13), None);
    assert_eq!(generated::VirtualSystemReturnCode::InvalidParameter.number(), 32773);
    assert_eq!(generated::class::MSVM_COMPUTER_SYSTEM, "Msvm_ComputerSystem");
    assert_eq!(generated::property::SNAPSHOT_TYPES_ENABLED, "SnapshotTypesEnabled");
}

#[test]
fn sources_include_each_other_and_set_namespaces() {
    let qualifiers = package_file("schemas/qualifiers.mof");
    let schema = mof::compile(&[
        ("a/main.mof", "#pragma namespace (\"root\\\\one\")\n#pragma include (\"sub/../parts/one.mof\")\n\
                        #pragma namespace (\"root/two\")\n#pragma include (\"parts/one.mof\") class Two : One {};"),
        ("a/parts/one.mof", "#pragma include (\"../../q.mof\") /* a\ncomment */ [Abstract] class One { [Key] string A = \"x\" // part\n \"y\"; };"),
        ("q.mof", &qualifiers),
    ])
    .unwrap();
    assert_eq!(schema.namespaces().count(), 2);
    let two = class(&schema, "root/two", "Two");
    assert!(two.is_a("One") && !two.is_abstract(), "Abstract is not inherited");
    assert_eq!(two.property("A").unwrap().default, CimValue::from("xy"));
    assert!(schema.namespace("root/one").unwrap().class("Two").is_none());
}

#[test]
fn all_kinds_of_values_are_read() {
    let mof = with_qualifiers(
        r#"class V {
            [Key] string Id; uint8 Hex = 0xfF; sint8 Binary = -101b; uint16 Octal = 0755; sint64 Low = -9223372036854775808;
            real64 R = -1.5e3; real32 Whole = 2; boolean B = tRuE; char16 C = '\x0041'; char16 D = 'é';
            datetime T = "20260115102030.000000+000"; string S = "tab\t \"q\" \\ \xd83d\xde00"; string N = null;
            uint16 A[] = {1, 0x2, 3}; string E[] = {}; uint8 F[4]; V REF Next = "V.Id=\"1\"";
        };
        instance of V as $second { Id = "2"; Next = $first; };
        instance of V as $first { Id = "1"; A = {7}; };"#,
    );
    let qualifiers = package_file("schemas/qualifiers.mof");
    let compilation =
        Compilation { roots: vec!["v.mof"], library: Vec::new(), prelude: None, default_namespace: "root/v" };
    let compiled = compilation.run(&[("v.mof", mof.as_str()), ("qualifiers.mof", qualifiers.as_str())][..]);
    assert!(compiled.diagnostics.is_empty(), "{}", compiled.diagnostics);
    let class = class(&compiled.schema, "root/v", "V");
    for (property, value) in [
        ("Hex", CimValue::Uint8(255)),
        ("Binary", CimValue::Sint8(-5)),
        ("Octal", CimValue::Uint16(493)),
        ("Low", CimValue::Sint64(i64::MIN)),
        ("R", CimValue::Real64(-1500.0)),
        ("Whole", CimValue::Real32(2.0)),
        ("B", CimValue::Boolean(true)),
        ("C", CimValue::Char16(65)),
        ("D", CimValue::Char16(233)),
        ("T", CimValue::parse(CimType::DateTime, "20260115102030.000000+000").unwrap()),
        ("S", CimValue::from("tab\t \"q\" \\ \u{1f600}")),
        ("N", CimValue::Null),
        ("A", CimValue::from([1_u16, 2, 3])),
        ("E", CimValue::Array([].into())),
        ("F", CimValue::Null),
    ] {
        assert_eq!(class.property(property).unwrap().default, value, "{property}");
    }
    let [second, first] = &compiled.instances[..] else { panic!("two instances") };
    assert_eq!(second.instance.get("Next").as_reference().unwrap().key_text("Id"), Some("1"));
    assert_eq!(first.instance.get("A"), &CimValue::from([7_u16]));
}

#[test]
fn a_syntax_error_shows_its_place_and_the_next_declaration_is_read() {
    let report = check(
        "class A\n{\n  uint16 Size = 5\n  string Name;\n  string 7th;\n  [Key string Id;\n  uint8 Good = 300;\n};\nclass B : A { sting X; };\nclass B {};\n",
    );
    assert_eq!(report, package_file("fixtures/schema/syntax.txt"), "{report}");
}

#[test]
fn semantic_errors_are_collected() {
    let report = check(&package_file("fixtures/schema/broken.mof"));
    assert_eq!(report, package_file("fixtures/schema/broken.txt"), "{report}");
}

#[test]
fn whatever_has_no_end_is_reported_once() {
    for (mof, message) in [
        ("class A { string S = \"abc\n; };", "string is not closed"),
        ("/* no end", "comment is not closed"),
        ("class A {", "unexpected the end of the file"),
        ("#pragma include (\"nowhere.mof\")", "source `nowhere.mof` is not there"),
        ("#pragma include (\"test.mof\")", "`test.mof` includes itself"),
        ("#pragma namespace (\"\")", "empty namespace name"),
        ("class A { uint8 A = 08; };", "malformed number `08`"),
        ("class A { string S = \"\\q\"; };", "unknown escape"),
    ] {
        let report = check(mof);
        assert!(report.contains(message), "{mof}: {report}");
        assert!(report.ends_with("\n1 error\n"), "{mof}: {report}");
    }
}

#[test]
fn the_built_in_files_check_clean_one_by_one() {
    let library = generated::MOF_SOURCES;
    let copy = "checkout/schemas/root/omi/namespace.mof";
    let omi = "#pragma namespace (\"root/omi\")\n#pragma include (\"../../qualifiers.mof\")\n#pragma include (\"OMI_Identify.mof\")";
    assert_eq!(mof::check(&[(copy, omi)], library, None).render(), "");
    let prelude = Some(generated::QUALIFIERS);
    assert_eq!(mof::check(library, library, prelude).render(), "");
    // A checkout elsewhere: the same classes under other names take the place of the built-in ones.
    let moved: Vec<(String, &str)> = library.iter().map(|(name, text)| (format!("/src/{name}"), *text)).collect();
    let moved: Vec<(&str, &str)> = moved.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    assert_eq!(mof::check(&moved, library, prelude).render(), "");
    // Names as a shell gives them.
    let split =
        [("./a/main.mof", "#pragma include (\"../b/part.mof\")"), ("./b/part.mof", "class A { [Key] string B; };")];
    assert_eq!(mof::check(&split, library, prelude).render(), "");
    assert_eq!(mof::includes("a/main.mof", split[0].1), ["b/part.mof"]);
    let own = "#pragma namespace (\"root/virtualization/v2\")\n[Description(\"Mine.\")] class My_Settings : CIM_SettingData {};";
    assert_eq!(mof::check(&[("mine.mof", own)], library, prelude).render(), "");
}

fn text(value: &str) -> RawValue {
    RawValue::Text(value.to_owned())
}

#[test]
fn embedded_instances_are_read_from_mof_text() {
    let raw = mof::parse_instance(
        "\n#pragma namespace(\"x\")\n/* made by hand */ Instance OF Msvm_VirtualSystemSnapshotSettingData as $a\n{\n\t\
         ConsistencyLevel = 0x1;\n\tBits = 0110b;\n\tPerm = 0755;\n\tIgnoreNonSnapshottableDisks = TRUE;\n\t\
         Caption = \"a \\\"quoted\\\" \" // more\n\t\"name\\x41\";\n\tNotes = {\"line 1\", \"line 2\"};\n\tNone = null;\n\t\
         __PATH = \"ignored\";\n\tNested = instance of CIM_Error { Message = \"m\"; };\n\tEmpty = {};\n\tReal = -1.5;\n}",
    )
    .unwrap();
    assert_eq!(raw.class_name, "msvm_virtualsystemsnapshotsettingdata");
    for (name, value) in [
        ("ConsistencyLevel", text("1")),
        ("Bits", text("6")),
        ("Perm", text("493")),
        ("IgnoreNonSnapshottableDisks", text("TRUE")),
        ("Caption", text("a \"quoted\" nameA")),
        ("Notes", RawValue::Array(vec![text("line 1"), text("line 2")])),
        ("None", RawValue::Null),
        ("Empty", RawValue::Array(Vec::new())),
        ("Real", text("-1.5")),
    ] {
        assert_eq!(raw.get(name), Some(&value), "{name}");
    }
    assert_eq!(raw.get("__PATH"), None);
    let Some(RawValue::Instance(nested)) = raw.get("Nested") else { panic!("nested instance") };
    assert_eq!(nested.get("Message"), Some(&text("m")));
}

#[test]
fn text_that_is_no_instance_is_refused() {
    for (mof, message) in [
        ("", "expected `instance of`"),
        ("instance of X { A = 1 };", "expected `;`"),
        ("instance of X { A = 1; A = 2; };", "is set twice"),
        ("instance of X { A = $b; };", "alias $b"),
        ("instance of X { A = {{1}}; };", "arrays do not nest"),
        ("instance of X {}; instance of Y {};", "expected the end of the text"),
        ("class X {};", "expected `instance of`"),
        ("instance of X { A = 99999999999999999999999; };", "malformed number"),
    ] {
        let report = mof::parse_instance(mof).unwrap_err().render();
        assert!(report.contains(message), "{mof}: {report}");
    }
    let deep = "instance of X { A = ".repeat(1000);
    assert!(mof::parse_instance(&deep).unwrap_err().render().contains("no deeper nesting"));
}

#[test]
fn an_instance_from_mof_text_gets_its_types() {
    let schema = schema();
    let raw: RawInstance =
        mof::parse_instance("instance of Msvm_VirtualSystemSnapshotSettingData { ConsistencyLevel = 2; };").unwrap();
    let instance = schema.namespace(HOST).unwrap().instantiate(&raw).unwrap();
    assert_eq!(instance.get("ConsistencyLevel"), &CimValue::Uint8(2));
    let raw = mof::parse_instance("instance of Msvm_VirtualSystemSnapshotSettingData { ConsistencyLevel = 256; };");
    assert!(schema.namespace(HOST).unwrap().instantiate(&raw.unwrap()).is_err());
}

/// Pieces of MOF in any order reach further into the compiler than arbitrary characters do.
fn mof_soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "class ",
        "A",
        "B",
        " : ",
        "{",
        "}",
        ";",
        "[",
        "]",
        "(",
        ")",
        "Key",
        "ValueMap",
        "Values",
        "Override",
        "string ",
        "uint8 ",
        "REF ",
        "= ",
        "\"a\"",
        "\"",
        "\\",
        "'x'",
        "0x1",
        "1b",
        "-1",
        "1.5",
        "NULL",
        "TRUE",
        ",",
        "#pragma ",
        "include",
        "namespace",
        "instance of ",
        "as $x",
        "$x",
        "Qualifier ",
        "Scope(",
        "Flavor(",
        "any",
        "//",
        "/*",
        "*/",
        "\n",
        "\t",
        "é",
        "\u{1f600}",
        "\0",
        "In",
        "Out",
        "EmbeddedInstance(\"A\")",
        "[]",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_compiler_panic(text in prop_oneof![any::<String>(), mof_soup()]) {
        let qualifiers = include_str!("../../schemas/qualifiers.mof");
        let diagnostics = mof::check(&[("test.mof", &text)], &[("q.mof", qualifiers)], Some("q.mof"));
        prop_assert_eq!(diagnostics.is_empty(), diagnostics.render().is_empty());
        for diagnostic in diagnostics.list() {
            prop_assert!(diagnostic.line <= text.matches('\n').count() + 1);
        }
        if let Ok(instance) = mof::parse_instance(&text) {
            prop_assert!(!instance.class_name.as_str().is_empty());
        }
    }

    #[test]
    fn strings_and_numbers_come_back(value in any::<String>(), number in any::<i64>()) {
        let quoted: Vec<String> = value.encode_utf16().map(|unit| format!("\\x{unit:04x}")).collect();
        let quoted = quoted.concat();
        let raw = mof::parse_instance(&format!("instance of X {{ S = \"{quoted}\"; N = {number}; }}")).unwrap();
        prop_assert_eq!(raw.get("S"), Some(&RawValue::Text(value)));
        prop_assert_eq!(raw.get("N"), Some(&RawValue::Text(number.to_string())));
    }
}
