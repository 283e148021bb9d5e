//! The queries of real clients, what they find, and what is refused.

use std::sync::Arc;

use wsnapd::cim::wql::{Query, Select, SystemProperties, WqlError};
use wsnapd::cim::{CimDateTime, CimInstance, CimValue, InstanceBuilder, ObjectPath};

const SYSTEM: SystemProperties<'_> = SystemProperties { server: "HOST1", namespace: "root/test" };

/// The instance most cases are asked about.
fn subject() -> CimInstance {
    let schema = super::schema();
    let inner = InstanceBuilder::new(schema.class("T_Inner").unwrap()).set("Level", 3_u16).build().unwrap();
    InstanceBuilder::new(schema.class("T_All").unwrap())
        .set("InstanceID", r"Microsoft:5C1C\83F8\0\D")
        .set("Caption", "Größe O'Brien")
        .set("ABoolean", true)
        .set("AUint16", 2_u16)
        .set("ASint32", -5)
        .set("AUint64", u64::MAX)
        .set("AReal64", 1.5)
        .set("AChar16", CimValue::Char16(65))
        .set("ADateTime", CimDateTime::parse("20260115102030.000000+060").unwrap())
        .set("AReference", ObjectPath::new("root/test", "T_Base".into()).with_key("InstanceID", r"a\b"))
        .set("AnObject", CimValue::Instance(Arc::new(inner)))
        .set("Uint16s", vec![2_u16])
        .build()
        .unwrap()
}

fn select(text: &str) -> Select {
    match text.parse() {
        Ok(Query::Select(select)) => select,
        other => panic!("{text}: {other:?}"),
    }
}

#[track_caller]
fn finds(condition: &str) -> bool {
    let subject = subject();
    let query = select(&format!("SELECT * FROM T_All WHERE {condition}"));
    let bound = query.bind(subject.class()).unwrap_or_else(|error| panic!("{condition}: {error}"));
    bound.matches(&subject, &SYSTEM)
}

#[test]
fn conditions_find_what_they_say() {
    for condition in [
        "AUint16 = 2",
        "2 = AUint16",
        "T_All.AUint16 = 2 AND T_Base.InstanceID IS NOT NULL",
        "AUint16 < 2.5 and AUint16 >= 2",
        "AUint16 = 0x2",
        "ASint32 = -5 AND ASint32 < 0",
        "AUint64 = 18446744073709551615",
        "AUint64 > 9223372036854775808",
        "AReal64 > 1 AND AReal64 = 1.5 AND AReal64 < 15e-1 OR AReal64 <= 1.5",
        "ABoolean = TRUE",
        "ABoolean <> false",
        "Caption = 'gRÖSSE O\\'brien' OR Caption = 'grÖße o\\'BRIEN'",
        "Caption = \"Größe O'Brien\"",
        r"InstanceID = 'microsoft:5c1c\\83f8\\0\\d'",
        r"InstanceID LIKE 'Microsoft:%\83F8\_\[a-f]'",
        r"InstanceID NOT LIKE '%\[e-z]'",
        "Caption LIKE 'gr__e%'",
        "ADateTime = '20260115092030.000000+000'",
        "ADateTime > '2026-01-15T00:00:00Z' AND ADateTime LIKE '2026%'",
        "AChar16 = 'A' AND AChar16 = 65",
        "AReference = 'T_Base.InstanceID=\"a\\\\\\\\b\"'",
        r#"AReference = '\\\\OTHER\\root\\test:T_Base.InstanceID="a\\\\b"'"#,
        "AUint8 IS NULL AND AUint8 = NULL AND AUint16 <> NULL AND AUint16 != NULL",
        "Uint16s IS NOT NULL AND Uint8s IS NULL",
        "AnObject ISA T_Inner AND AnObject ISA 't_base' AND NOT AnObject ISA \"T_All\"",
        "__THIS ISA 'T_Base' AND __CLASS = 't_all' AND __SUPERCLASS = 'T_Base' AND __DYNASTY = 'T_Base'",
        "__DERIVATION = 'T_Base' AND 'T_Base' = __DERIVATION AND __DERIVATION LIKE 't[_]b%'",
        r"__SERVER = 'host1' AND __NAMESPACE = 'ROOT\\test' AND __NAMESPACE = 'root/test'",
        r#"__RELPATH = 'T_All.InstanceID="Microsoft:5C1C\\\\83F8\\\\0\\\\D"'"#,
        r#"__PATH = '\\\\HOST1\\root\\test:T_All.InstanceID="Microsoft:5C1C\\\\83F8\\\\0\\\\D"'"#,
        "Caption != __SERVER",
        "NOT AUint16 = 3 AND (AUint16 = 3 OR AUint16 = 2)",
        "AUint16 = 3 AND AUint16 = 4 OR AUint16 = 2",
        "NOT (AUint8 = 1) OR AUint16 = 2",
        "1 = 1 AND 'a' < 'B'",
        "AUint8 = 1 OR TRUE = TRUE",
    ] {
        assert!(finds(condition), "{condition}");
    }
}

#[test]
fn conditions_leave_out_the_rest() {
    for condition in [
        "AUint16 = 3",
        "AUint16 <> 2",
        "AUint16 = 65538",
        // A property without a value compares neither way, and NOT does not change that.
        "AUint8 = 1",
        "AUint8 <> 1",
        "NOT AUint8 = 1",
        "NOT (AUint8 = 1 AND AUint16 = 2)",
        "ABoolean = FALSE",
        "ADateTime = '00000001020304.000500:000'",
        "AReference = 'T_Base.InstanceID=\"c\"'",
        "__SUPERCLASS IS NULL",
        "__DERIVATION = 'T_All'",
        "__SERVER = 'HOST2'",
        "AnObject ISA T_All",
        "NOT (AUint16 = 2 OR AUint8 = 1)",
    ] {
        assert!(!finds(condition), "{condition}");
    }
}

#[test]
fn an_instance_of_a_derived_class_is_found_by_name() {
    let schema = super::schema();
    let bound =
        select("select Caption from T_Base where Caption like 'g%'").bind(schema.class("T_Base").unwrap()).unwrap();
    assert!(bound.matches(&subject(), &SYSTEM));
}

#[test]
fn a_projection_is_in_the_order_of_the_wire() {
    let schema = super::schema();
    let class = schema.class("T_All").unwrap();
    let names = |text: &str| -> Option<Vec<String>> {
        let bound = select(text).bind(class).unwrap();
        let indexes = bound.projection()?;
        Some(indexes.iter().map(|&index| class.properties()[index].name().to_string()).collect())
    };
    assert_eq!(names("SELECT * FROM T_All"), None);
    assert_eq!(
        names("SELECT instanceid, AUint8, __PATH, T_All.Caption, AUINT8 FROM T_All"),
        Some(vec!["AUint8".to_owned(), "Caption".to_owned(), "InstanceID".to_owned()])
    );
}

/// Every query quoted in `clients.md`, `snapshot-semantics.md` §10 and the captured requests.
const CLIENT_QUERIES: &[&str] = &[
    // libvirt's Hyper-V driver, blank at the end included
    "SELECT * FROM Win32_ComputerSystemProduct ",
    "SELECT * FROM Win32_OperatingSystem ",
    "SELECT * FROM Msvm_ComputerSystem WHERE Name != __SERVER ",
    "SELECT * FROM Msvm_ComputerSystem WHERE Name != __SERVER AND (EnabledState != 0 and EnabledState != 3 and EnabledState != 32769) ",
    "SELECT * FROM Msvm_ComputerSystem WHERE Name != __SERVER AND (EnabledState = 0 or EnabledState = 3 or EnabledState = 32769) ",
    r"SELECT * FROM Msvm_ComputerSystem WHERE Name != __SERVER AND ElementName = 'O\'Brien\\x'",
    "SELECT * FROM Msvm_ComputerSystem WHERE Name != __SERVER AND ProcessID = 4711",
    r#"SELECT * FROM Msvm_VirtualEthernetSwitch WHERE __PATH = '\\\\HOST\\root\\virtualization\\v2:Msvm_VirtualEthernetSwitch.CreationClassName="Msvm_VirtualEthernetSwitch",Name="5C1C2F40"'"#,
    "SELECT * FROM Msvm_VirtualEthernetSwitch WHERE HealthState = 5",
    "SELECT * FROM Msvm_DiskDrive WHERE __PATH='x'",
    "SELECT * FROM Msvm_ResourceAllocationSettingData WHERE ResourceSubType = 'Microsoft:Hyper-V:Physical Disk Drive' AND InstanceID LIKE '%%Default%%'",
    "SELECT * FROM Msvm_ProcessorSettingData WHERE InstanceID LIKE 'Microsoft:Definition%Maximum'",
    "SELECT * FROM Msvm_ConcreteJob WHERE InstanceID = 'id'",
    "SELECT * FROM Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor WHERE Name = 'machine:Hv VP 0'",
    "SELECT * FROM Msvm_ShutdownComponent WHERE SystemName = 'guid'",
    // virt-who
    "select BIOSGUID, VirtualSystemIdentifier from Msvm_VirtualSystemSettingData where SettingType = 3",
    "select BIOSGUID, VirtualSystemIdentifier from Msvm_VirtualSystemSettingData where VirtualSystemType = 'Microsoft:Hyper-V:System:Realized'",
    r"select * from CIM_Datafile where Path = '\\windows\\system32\\' and FileName='vmms'",
    "select DNSHostName, NumberOfProcessors from Win32_ComputerSystem",
    "select UUID from Win32_ComputerSystemProduct",
    // fog-hyperv
    r#"SELECT Name FROM Msvm_ComputerSystem WHERE Caption = "Hosting Computer System""#,
    "SELECT ElementName,Name FROM Msvm_VirtualEthernetSwitch",
    // the workflows
    "SELECT * FROM Msvm_ComputerSystem WHERE ElementName = 'x'",
    "SELECT * FROM Msvm_VirtualSystemSettingData WHERE VirtualSystemType LIKE 'Microsoft:Hyper-V:Snapshot%'",
    "SELECT * FROM Msvm_VirtualSystemSettingData WHERE VirtualSystemIdentifier = 'GUID' AND VirtualSystemType = 'Microsoft:Hyper-V:Snapshot:Realized'",
    "SELECT * FROM Msvm_MostCurrentSnapshotInBranch",
    "SELECT * FROM Msvm_ComputerSystem WHERE Caption = 'Virtual Machine'",
    // captured from wsman, omicli, Ruby and Rust clients
    "select * from Msvm_ComputerSystem",
    "select Name,ElementName from Msvm_ComputerSystem",
    "select * from Msvm_ComputerSystem where EnabledState=2",
    "select * from MSFT_President where Key=1",
    "select * from __InstanceModificationEvent",
    "select * from MSFT_Alert",
    "select * from CIM_ComputerSystem\0",
];

#[test]
fn the_queries_of_real_clients_parse() {
    for text in CLIENT_QUERIES {
        let query: Query = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(query.to_string().parse::<Query>().as_ref(), Ok(&query), "{text}");
    }
}

#[test]
fn association_queries_of_real_clients_parse() {
    let query = |text: &str| match text.parse() {
        Ok(Query::AssociatorsOf(query)) => query,
        other => panic!("{text}: {other:?}"),
    };
    let settings = query(
        "ASSOCIATORS OF {Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='guid'} \
         WHERE AssocClass = Msvm_SettingsDefineState ResultClass = Msvm_VirtualSystemSettingData",
    );
    assert_eq!(settings.object.class_name().as_str(), "Msvm_ComputerSystem");
    assert_eq!(settings.object.key_text("Name"), Some("guid"));
    assert_eq!(settings.assoc_class, Some("Msvm_SettingsDefineState".into()));
    assert_eq!(settings.result_class, Some("Msvm_VirtualSystemSettingData".into()));

    let devices = query(
        "associators of {Msvm_VirtualSystemSettingData.InstanceID=\"Microsoft:A\\\\B\"} where AssocClass = \
         Msvm_VirtualSystemSettingDataComponent ResultClass = Msvm_ProcessorSettingData",
    );
    assert_eq!(devices.object.key_text("InstanceID"), Some(r"Microsoft:A\B"));

    let backup = query(
        "ASSOCIATORS OF { Msvm_X.A = 'v}' , B = 'w' } WHERE AssocClass = Msvm_Y ResultClass = Msvm_Z \
         ResultRole = Dependent Role = Antecedent KeysOnly",
    );
    assert_eq!(backup.object.key_text("A"), Some("v}"));
    assert_eq!((backup.role, backup.result_role), (Some("Antecedent".into()), Some("Dependent".into())));
    assert!(backup.keys_only && !backup.class_defs_only);

    let host = query("ASSOCIATORS OF {Win32_ComputerSystem.Name='HOST'}");
    assert_eq!(host.assoc_class, None);

    let references: Query = r#"REFERENCES OF {\\.\root\virtualization\v2:Msvm_X.Id="a"} WHERE ResultClass=Msvm_Y Role=Z RequiredQualifier=Q ClassDefsOnly"#
        .parse()
        .unwrap();
    let Query::ReferencesOf(references) = references else { panic!("{references:?}") };
    assert_eq!(references.object.namespace(), Some("root/virtualization/v2"));
    assert!(references.class_defs_only);
}

#[test]
fn queries_for_classes_ask_for_what_classes_have() {
    let schema = super::schema();
    let query = |text: &str| match text.parse() {
        Ok(Query::Classes(query)) => query,
        other => panic!("{text}: {other:?}"),
    };
    for (text, expected) in [
        ("select * from Meta_Class where __this isa 'T_Base' and __class <> 'T_Base'", true),
        ("SELECT * FROM META_CLASS", true),
        ("SELECT * FROM META_CLASS WHERE __SUPERCLASS = 'T_Base' OR __DYNASTY LIKE 'x%'", true),
        ("SELECT * FROM META_CLASS WHERE NOT __CLASS = 'T_All'", false),
    ] {
        let query = query(text);
        assert_eq!(query.bind(&schema).unwrap().matches(schema.class("T_All").unwrap(), &SYSTEM), expected, "{text}");
        let query = Query::Classes(query);
        assert_eq!(query.to_string().parse::<Query>(), Ok(query));
    }
    for (text, message) in [
        ("SELECT * FROM META_CLASS WHERE Caption = 'x'", "class META_CLASS has no property Caption"),
        ("SELECT * FROM META_CLASS WHERE __CLASS = 1", "property __CLASS does not compare with integer 1"),
        ("SELECT * FROM META_CLASS WHERE __THIS ISA T_All OR __THIS ISA T_None", "there is no class T_None"),
    ] {
        let error = query(text).bind(&schema).unwrap_err();
        assert_eq!(error.to_string(), format!("invalid query: {message}"), "{text}");
    }
    assert!("SELECT * FROM meta_class".parse::<wsnapd::cim::wql::EventQuery>().is_err());
}

#[test]
fn what_does_not_parse_names_the_place() {
    for (text, message) in [
        ("", "expected SELECT, ASSOCIATORS OF or REFERENCES OF but found the end at character 1"),
        ("DELETE", "expected SELECT, ASSOCIATORS OF or REFERENCES OF but found \"DELETE\" at character 1"),
        ("SELECT", "expected a property name or * but found the end at character 7"),
        ("SELECT * X", "expected FROM but found \"X\" at character 10"),
        ("SELECT a,, b FROM c", "expected a property name but found \",\" at character 10"),
        ("SELECT * FROM c WHERE", "expected a property, a literal or a parenthesis but found the end at character 22"),
        ("SELECT * FROM c WHERE é 1", "expected a comparison, LIKE, IS or ISA but found \"1\" at character 25"),
        ("SELECT * FROM c WHERE a = 'b", "expected a closing quote but found the end at character 27"),
        ("SELECT * FROM c WHERE a = 1x", "expected a number but found \"1x\" at character 27"),
        ("SELECT * FROM c WHERE (a = 1", "expected AND, OR or a closing parenthesis but found the end at character 29"),
        ("SELECT * FROM c WHERE a NOT = 1", "expected LIKE but found \"=\" at character 29"),
        ("SELECT * FROM c WHERE a LIKE 1", "expected a string in quotes but found \"1\" at character 30"),
        ("SELECT * FROM c WHERE a IS 1", "expected NULL but found \"1\" at character 28"),
        ("SELECT * FROM c WHERE a ISA '1'", "expected a class name but found \"'\" at character 29"),
        ("SELECT * FROM c; DROP", "expected the end of the query but found \";\" at character 16"),
        ("ASSOCIATORS {a}", "expected OF but found \"{\" at character 13"),
        ("ASSOCIATORS OF a", "expected an object path in braces but found \"a\" at character 16"),
        ("ASSOCIATORS OF {a.b='c}", "expected a closing brace but found the end at character 17"),
        (
            "ASSOCIATORS OF {a.b='c'} AssocClass=d",
            "expected WHERE with an option such as ResultClass but found \"AssocClass\" at character 26",
        ),
        (
            "ASSOCIATORS OF {a.b='c'} WHERE",
            "expected WHERE with an option such as ResultClass but found the end at character 31",
        ),
        (
            "ASSOCIATORS OF {a.b='c'} WHERE Foo=d",
            "expected an option such as ResultClass but found \"Foo\" at character 32",
        ),
        (
            "REFERENCES OF {a.b='c'} WHERE AssocClass=d",
            "expected an option of REFERENCES OF but found \"AssocClass\" at character 31",
        ),
        ("ASSOCIATORS OF {a.b} WHERE AssocClass=d", "not an object path: a key without a value at character 17"),
    ] {
        let error = text.parse::<Query>().unwrap_err();
        assert_eq!(error.to_string(), format!("invalid query: {message}"), "{text}");
    }
}

#[test]
fn what_is_not_offered_says_so() {
    for (text, what) in [
        ("SELECT __CLASS FROM meta_class", "a list of properties of classes (meta_class)"),
        ("SELECT * FROM __InstanceCreationEvent WITHIN 2 WHERE a = 1", "the clause WITHIN of an event query"),
        ("SELECT * FROM X WHERE a = 1 GROUP WITHIN 300", "the clause GROUP of an event query"),
        ("SELECT * FROM X WHERE a > NULL", "an order of NULL"),
        ("SELECT * FROM X WHERE NULL = 1", "NULL beside a literal"),
        ("ASSOCIATORS OF {a.b='c'} WHERE SchemaOnly", "a query for classes (SchemaOnly)"),
        ("ASSOCIATORS OF {a.b='c'} WHERE Role=a Role=b", "an option given twice"),
    ] {
        match text.parse::<Query>() {
            Err(WqlError::NotSupported { what: found, .. }) => assert_eq!(found, what, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn types_are_checked_when_the_class_is_known() {
    let schema = super::schema();
    let class = schema.class("T_All").unwrap();
    for (condition, message) in [
        ("Nonsense = 1", "class T_All has no property Nonsense"),
        ("T_Inner.Level = 1", "class T_All is not derived from T_Inner"),
        ("AUint16 = '2'", "uint16 property AUint16 does not compare with string \"2\""),
        ("Caption = 2", "string property Caption does not compare with integer 2"),
        ("AUint16 = TRUE", "uint16 property AUint16 does not compare with boolean true"),
        ("ABoolean = 1", "boolean property ABoolean does not compare with integer 1"),
        ("ABoolean < TRUE", "< cannot be applied to boolean property ABoolean"),
        ("ADateTime = 'yesterday'", "datetime property ADateTime does not compare with string \"yesterday\""),
        ("ADateTime = 2026", "datetime property ADateTime does not compare with integer 2026"),
        ("AChar16 = 'AB'", "char16 property AChar16 does not compare with string \"AB\""),
        ("AChar16 = 65536", "char16 property AChar16 does not compare with integer 65536"),
        ("AReference = 'no path'", "reference property AReference does not compare with string \"no path\""),
        ("AReference < 'T_Base.InstanceID=1'", "< cannot be applied to reference property AReference"),
        ("Uint16s = 2", "array property Uint16s does not compare with integer 2"),
        ("Uint16s = Uint8s", "= cannot be applied to array property Uint16s"),
        ("AUint16 = Caption", "uint16 property AUint16 does not compare with string property Caption"),
        ("1 = 'a'", "integer 1 does not compare with string \"a\""),
        ("AUint16 LIKE '2%'", "LIKE cannot be applied to property AUint16"),
        ("Caption ISA T_Base", "ISA cannot be applied to property Caption"),
        ("Caption LIKE 'a['", "the brackets in LIKE pattern \"a[\" are malformed"),
    ] {
        let error = select(&format!("SELECT * FROM T_All WHERE {condition}")).bind(class).unwrap_err();
        assert_eq!(error.to_string(), format!("invalid query: {message}"), "{condition}");
    }
    let error = select("SELECT Nonsense FROM T_All").bind(class).unwrap_err();
    assert!(matches!(error, WqlError::UnknownProperty { .. }), "{error}");
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |levels: usize| format!("SELECT * FROM c WHERE {}a = 1{}", "(".repeat(levels), ")".repeat(levels));
    assert!(nested(64).parse::<Query>().is_ok());
    assert_eq!(nested(65).parse::<Query>(), Err(WqlError::TooDeep(64)));
    assert_eq!(
        format!("SELECT * FROM c WHERE {} a = 1", "NOT ".repeat(100_000)).parse::<Query>(),
        Err(WqlError::TooDeep(64))
    );
    let many = |count: usize| format!("SELECT * FROM c WHERE a = 1{}", " OR a = 1".repeat(count - 1));
    assert!(many(2_000).parse::<Query>().is_ok());
    assert_eq!(many(2_001).parse::<Query>(), Err(WqlError::TooManyConditions(2_000)));
}
