//! CIM-XML as real clients write it, as it must not be, and as a Hyper-V host writes it.

use std::sync::Arc;

use wsnapd::cim::cimxml::{self, CimXmlError, ClassContent};
use wsnapd::cim::{CimDateTime, CimValue, InstanceBuilder, KeyValue, ObjectPath, RawInstance, RawValue, embedded};

/// An instance in a short notation: `Class{A=text,B=null,C=[x,y]}`.
fn shown(instance: &RawInstance) -> String {
    fn value(raw: &RawValue) -> String {
        match raw {
            RawValue::Null => "null".to_owned(),
            RawValue::Text(text) => format!("'{text}'"),
            RawValue::Reference(path) => format!(
                "<{}{}{}>",
                path.host().map(|host| format!("//{host}/")).unwrap_or_default(),
                path.namespace().map(|namespace| format!("{namespace}:")).unwrap_or_default(),
                path.to_relative_text()
            ),
            RawValue::Instance(instance) => shown(instance),
            RawValue::Array(items) => format!("[{}]", items.iter().map(value).collect::<Vec<_>>().join(",")),
        }
    }
    let properties: Vec<_> =
        instance.properties.iter().map(|property| format!("{}={}", property.name, value(&property.value))).collect();
    format!("{}{{{}}}", instance.class_name, properties.join(","))
}

#[track_caller]
fn decodes(text: &str, expected: &str) {
    match cimxml::decode_instance(text) {
        Ok(instance) => assert_eq!(shown(&instance), expected, "{text}"),
        Err(error) => panic!("{error}: {text}"),
    }
}

const LEVEL_ONE: &str =
    r#"<INSTANCE CLASSNAME="S"><PROPERTY NAME="Level" TYPE="uint8"><VALUE>1</VALUE></PROPERTY></INSTANCE>"#;
const PATH: &str = r#"<INSTANCEPATH><NAMESPACEPATH><HOST>HOST1</HOST><LOCALNAMESPACEPATH><NAMESPACE NAME="root"/><NAMESPACE NAME="v2"/></LOCALNAMESPACEPATH></NAMESPACEPATH><INSTANCENAME CLASSNAME="S"><KEYBINDING NAME="InstanceID"><KEYVALUE VALUETYPE="string">x</KEYVALUE></KEYBINDING></INSTANCENAME></INSTANCEPATH>"#;

#[test]
fn every_wrapper_is_opened() {
    let expected = "S{Level='1'}";
    let name = r#"<INSTANCENAME CLASSNAME="S"/>"#;
    let local = r#"<LOCALINSTANCEPATH><LOCALNAMESPACEPATH><NAMESPACE NAME="root"/></LOCALNAMESPACEPATH><INSTANCENAME CLASSNAME="S"/></LOCALINSTANCEPATH>"#;
    let groups = [
        format!("<DECLGROUP><VALUE.OBJECT>{LEVEL_ONE}</VALUE.OBJECT></DECLGROUP>"),
        format!(
            "<DECLGROUP><LOCALNAMESPACEPATH><NAMESPACE NAME='root'/></LOCALNAMESPACEPATH><QUALIFIER.DECLARATION NAME='q' TYPE='string'><SCOPE/></QUALIFIER.DECLARATION><VALUE.OBJECT>{LEVEL_ONE}</VALUE.OBJECT></DECLGROUP>"
        ),
        format!("<DECLGROUP.WITHNAME><VALUE.NAMEDOBJECT>{name}{LEVEL_ONE}</VALUE.NAMEDOBJECT></DECLGROUP.WITHNAME>"),
        format!(
            "<DECLGROUP.WITHPATH> <VALUE.OBJECTWITHPATH>\n{PATH}{LEVEL_ONE}</VALUE.OBJECTWITHPATH></DECLGROUP.WITHPATH>"
        ),
        format!(
            "<DECLGROUP.WITHPATH><VALUE.OBJECTWITHLOCALPATH>{local}{LEVEL_ONE}</VALUE.OBJECTWITHLOCALPATH></DECLGROUP.WITHPATH>"
        ),
    ];
    for group in &groups {
        decodes(group, expected);
        decodes(&format!("<DECLARATION>{group}</DECLARATION>"), expected);
        decodes(
            &format!(
                "<?xml version=\"1.0\" encoding=\"utf-16\"?>\r\n<!DOCTYPE CIM SYSTEM \"cim20.dtd\">\n<CIM CIMVERSION=\"2.0\" DTDVERSION=\"2.0\"><DECLARATION>{group}</DECLARATION></CIM>\0"
            ),
            expected,
        );
    }
    for text in [
        LEVEL_ONE.to_owned(),
        format!("\0 \u{feff}\n{LEVEL_ONE}\0\0"),
        format!("<?xml version='1.0' encoding='unicode'?>{LEVEL_ONE}"),
        format!("<VALUE.NAMEDINSTANCE>{name}{LEVEL_ONE}</VALUE.NAMEDINSTANCE>"),
        format!("<VALUE.INSTANCEWITHPATH>{PATH}{LEVEL_ONE}</VALUE.INSTANCEWITHPATH>"),
    ] {
        decodes(&text, expected);
    }
}

#[test]
fn what_clients_send_is_read() {
    for (text, expected) in [
        // A Hyper-V host and the MI serializer (`ws-management.md` §11.2)
        (
            r#"<INSTANCE CLASSNAME="S"><PROPERTY NAME="Caption" PROPAGATED="true" TYPE="string"></PROPERTY><PROPERTY NAME="B" TYPE="boolean" MODIFIED="TRUE"><VALUE>TRUE</VALUE></PROPERTY><PROPERTY TYPE="string" NAME="E"><VALUE></VALUE></PROPERTY></INSTANCE>"#,
            "S{Caption=null,B='TRUE',E=''}",
        ),
        // System properties and qualifiers of GetText
        (
            r#"<INSTANCE CLASSNAME="S"><QUALIFIER NAME="dynamic" TYPE="boolean" TOSUBCLASS="false"><VALUE>TRUE</VALUE></QUALIFIER><PROPERTY NAME="__PATH" CLASSORIGIN="___SYSTEM" TYPE="string"><VALUE>\\H\root:S</VALUE></PROPERTY><PROPERTY.ARRAY NAME="__DERIVATION" CLASSORIGIN="___SYSTEM" TYPE="string"><VALUE.ARRAY><VALUE>T</VALUE></VALUE.ARRAY></PROPERTY.ARRAY><PROPERTY NAME="A" CLASSORIGIN="S" TYPE="uint8"><QUALIFIER NAME="CIMTYPE" TYPE="string"><VALUE>uint8</VALUE></QUALIFIER><QUALIFIER NAME="q" TYPE="string"><VALUE.ARRAY><VALUE/></VALUE.ARRAY></QUALIFIER><VALUE>1</VALUE></PROPERTY></INSTANCE>"#,
            "S{A='1'}",
        ),
        // libvirt: a declaration and indentation
        (
            "<?xml version=\"1.0\"?>\n<INSTANCE CLASSNAME=\"S\">\n  <PROPERTY NAME=\"A\" TYPE=\"uint16\">\n    <VALUE>4</VALUE>\n  </PROPERTY>\n  <PROPERTY.ARRAY NAME=\"H\" TYPE=\"string\">\n    <VALUE.ARRAY>\n      <VALUE>/a &amp; b</VALUE>\n      <VALUE><![CDATA[<c>]]></VALUE>\n    </VALUE.ARRAY>\n  </PROPERTY.ARRAY>\n</INSTANCE>\n",
            "S{A='4',H=['/a & b','<c>']}",
        ),
        // Arrays: none, empty, with a null
        (
            r#"<INSTANCE CLASSNAME="S"><PROPERTY.ARRAY NAME="A" TYPE="string"/><PROPERTY.ARRAY NAME="B" TYPE="string"><VALUE.ARRAY/></PROPERTY.ARRAY><PROPERTY.ARRAY NAME="C" TYPE="string"><VALUE.ARRAY><VALUE.NULL/><VALUE/></VALUE.ARRAY></PROPERTY.ARRAY></INSTANCE>"#,
            "S{A=null,B=[],C=[null,'']}",
        ),
        // WMI's DTD
        (
            r#"<INSTANCE CLASSNAME="S"><PROPERTY.OBJECT NAME="O" CLASSORIGIN="S"><VALUE.OBJECT><INSTANCE CLASSNAME="T"><PROPERTY NAME="A"><VALUE>1</VALUE></PROPERTY></INSTANCE></VALUE.OBJECT></PROPERTY.OBJECT><PROPERTY.OBJECTARRAY NAME="P"><VALUE.OBJECTARRAY><VALUE.OBJECT><INSTANCE CLASSNAME="T"/></VALUE.OBJECT></VALUE.OBJECTARRAY></PROPERTY.OBJECTARRAY><PROPERTY.FUTURE NAME="F"><X><Y/></X></PROPERTY.FUTURE><PROPERTY.REFERENCE NAME="R"><VALUE>\\H\root\v2:T.A="b"</VALUE></PROPERTY.REFERENCE></INSTANCE>"#,
            r#"S{O=T{A='1'},P=[T{}],R=<//H/root/v2:T.A="b">}"#,
        ),
        // An embedded object as text, one level deeper
        (
            r#"<INSTANCE CLASSNAME="S"><PROPERTY NAME="O" TYPE="string" EmbeddedObject="instance"><VALUE>&#60;INSTANCE CLASSNAME=&#34;T&#34;&#62;&#60;PROPERTY NAME=&#34;A&#34;&#62;&#60;VALUE&#62;a&#38;#60;b&#60;/VALUE&#62;&#60;/PROPERTY&#62;&#60;/INSTANCE&#62;</VALUE></PROPERTY></INSTANCE>"#,
            "S{O=T{A='a<b'}}",
        ),
        // OMI writes control characters, which XML forbids
        (
            r#"<INSTANCE CLASSNAME="S"><PROPERTY NAME="A" TYPE="string"><VALUE>a&#1;b</VALUE></PROPERTY></INSTANCE>"#,
            "S{A='a?b'}",
        ),
    ] {
        decodes(text, expected);
    }
}

#[test]
fn references_come_in_every_form() {
    let name = r#"<INSTANCENAME CLASSNAME="S"><KEYBINDING NAME="b"><KEYVALUE VALUETYPE="numeric"> 1 </KEYVALUE></KEYBINDING><KEYBINDING NAME="a"><VALUE.REFERENCE><CLASSNAME NAME="T"/></VALUE.REFERENCE></KEYBINDING></INSTANCENAME>"#;
    let place = r#"<LOCALNAMESPACEPATH><NAMESPACE NAME="root"/><NAMESPACE NAME="v2"/></LOCALNAMESPACEPATH>"#;
    let named = r#"S.a="\\\\.\\:T",b="1""#;
    for (text, expected) in [
        (name.to_owned(), format!("<{named}>")),
        (format!("<LOCALINSTANCEPATH>{place}{name}</LOCALINSTANCEPATH>"), format!("<root/v2:{named}>")),
        (
            format!("<INSTANCEPATH><NAMESPACEPATH><HOST> H </HOST>{place}</NAMESPACEPATH>{name}</INSTANCEPATH>"),
            format!("<//H/root/v2:{named}>"),
        ),
        (r#"<CLASSNAME NAME="S"/>"#.to_owned(), "<S>".to_owned()),
        (format!("<LOCALCLASSPATH>{place}<CLASSNAME NAME='S'/></LOCALCLASSPATH>"), "<root/v2:S>".to_owned()),
        (
            format!("<CLASSPATH><NAMESPACEPATH><HOST>H</HOST>{place}</NAMESPACEPATH><CLASSNAME NAME='S'/></CLASSPATH>"),
            "<//H/root/v2:S>".to_owned(),
        ),
        (r#" root/v2:S.b="1" "#.to_owned(), r#"<root/v2:S.b="1">"#.to_owned()),
    ] {
        let reference = |inner: &str| {
            format!(r#"<INSTANCE CLASSNAME="X"><PROPERTY.REFERENCE NAME="R">{inner}</PROPERTY.REFERENCE></INSTANCE>"#)
        };
        decodes(&reference(&format!("<VALUE.REFERENCE>{text}</VALUE.REFERENCE>")), &format!("X{{R={expected}}}"));
        if text.starts_with('<') {
            decodes(&reference(&text), &format!("X{{R={expected}}}"));
        }
        decodes(
            &format!(
                r#"<INSTANCE CLASSNAME="X"><PROPERTY.REFARRAY NAME="R"><VALUE.REFARRAY><VALUE.REFERENCE>{text}</VALUE.REFERENCE><VALUE.NULL/></VALUE.REFARRAY></PROPERTY.REFARRAY></INSTANCE>"#
            ),
            &format!("X{{R=[{expected},null]}}"),
        );
    }
}

#[test]
fn a_key_without_its_name_is_named_by_the_class() {
    let schema = super::schema();
    let text = |class: &str| {
        format!(
            r#"<INSTANCE CLASSNAME="T_All"><PROPERTY.REFERENCE NAME="AReference"><VALUE.REFERENCE><INSTANCENAME CLASSNAME="{class}"><KEYVALUE>x</KEYVALUE></INSTANCENAME></VALUE.REFERENCE></PROPERTY.REFERENCE></INSTANCE>"#
        )
    };
    let instance = schema.instantiate(&cimxml::decode_instance(&text("T_Inner")).unwrap()).unwrap();
    let path = instance.get("AReference").as_reference().unwrap();
    assert_eq!(path.keys(), [("InstanceID".into(), KeyValue::Text("x".into()))]);
    let unknown = schema.instantiate(&cimxml::decode_instance(&text("Unknown")).unwrap()).unwrap_err();
    assert!(unknown.message().contains("without its name"), "{unknown}");
}

#[test]
fn what_is_no_instance_is_refused_with_the_reason() {
    let property = |inner: &str| format!(r#"<INSTANCE CLASSNAME="S">{inner}</INSTANCE>"#);
    let a = r#"<PROPERTY NAME="A" TYPE="string"><VALUE>1</VALUE></PROPERTY>"#;
    for (text, message) in [
        (String::new(), "there is no INSTANCE"),
        ("<CIM/>".to_owned(), "there is no INSTANCE"),
        ("<X/>".to_owned(), "element X cannot hold a CIM-XML instance"),
        ("<CLASS NAME='S'/>".to_owned(), "element CLASS cannot hold a CIM-XML instance"),
        ("<CIM><MESSAGE/></CIM>".to_owned(), "element MESSAGE is not allowed here in CIM"),
        (
            "<VALUE.OBJECT><CLASS NAME='S'/></VALUE.OBJECT>".to_owned(),
            "element CLASS is not allowed here in VALUE.OBJECT",
        ),
        (format!("{LEVEL_ONE}{LEVEL_ONE}"), "there is more than one INSTANCE"),
        (
            format!(
                "<DECLGROUP><VALUE.OBJECT>{LEVEL_ONE}</VALUE.OBJECT><VALUE.OBJECT>{LEVEL_ONE}</VALUE.OBJECT></DECLGROUP>"
            ),
            "there is more than one INSTANCE",
        ),
        ("<INSTANCE/>".to_owned(), "INSTANCE has no attribute CLASSNAME"),
        ("<INSTANCE CLASSNAME='a b'/>".to_owned(), "\"a b\" in INSTANCE is not a CIM name"),
        (property("<PROPERTY TYPE='string'/>"), "PROPERTY has no attribute NAME"),
        (property("<PROPERTY NAME=''/>"), "\"\" in PROPERTY is not a CIM name"),
        (property(&format!("{a}{a}")), "property A is there twice"),
        (property("<METHOD NAME='m'/>"), "element METHOD is not allowed here in INSTANCE"),
        (property(&format!("{a}<QUALIFIER NAME='q'/>")), "element QUALIFIER is not allowed here in INSTANCE"),
        (property("<QUALIFIER/>"), "QUALIFIER has no attribute NAME"),
        (
            property("<QUALIFIER NAME='q'><VALUE/><VALUE/></QUALIFIER>"),
            "element VALUE is not allowed here in QUALIFIER",
        ),
        (property("<PROPERTY NAME='A'><VALUE/><VALUE/></PROPERTY>"), "element VALUE is not allowed here in PROPERTY"),
        (
            property("<PROPERTY NAME='A'><VALUE.ARRAY/></PROPERTY>"),
            "element VALUE.ARRAY is not allowed here in PROPERTY",
        ),
        (property("<PROPERTY NAME='A'><VALUE><X/></VALUE></PROPERTY>"), "element content where text is expected"),
        (property("text"), "malformed XML: text between elements"),
        (
            property("<PROPERTY.ARRAY NAME='A'><VALUE/></PROPERTY.ARRAY>"),
            "element VALUE is not allowed here in PROPERTY.ARRAY",
        ),
        (
            property("<PROPERTY.REFERENCE NAME='A'><VALUE.REFERENCE/></PROPERTY.REFERENCE>"),
            "VALUE.REFERENCE has no path",
        ),
        (
            property("<PROPERTY.REFERENCE NAME='A'><VALUE.REFERENCE>no path</VALUE.REFERENCE></PROPERTY.REFERENCE>"),
            "property A: not an object path: the class name is missing or malformed",
        ),
        (
            property(
                "<PROPERTY.REFERENCE NAME='A'><VALUE.REFERENCE><INSTANCENAME CLASSNAME='S'><KEYVALUE/><KEYVALUE/></INSTANCENAME></VALUE.REFERENCE></PROPERTY.REFERENCE>",
            ),
            "element KEYVALUE is not allowed here in INSTANCENAME",
        ),
        (
            property(
                "<PROPERTY.REFERENCE NAME='A'><VALUE.REFERENCE><LOCALCLASSPATH><LOCALNAMESPACEPATH/></LOCALCLASSPATH></VALUE.REFERENCE></PROPERTY.REFERENCE>",
            ),
            "LOCALNAMESPACEPATH has no NAMESPACE",
        ),
        (format!("<!DOCTYPE CIM [<!ENTITY x 'y'>]>{LEVEL_ONE}"), "a document type declaration is not allowed"),
        (property("<PROPERTY NAME='A'><VALUE>&x;</VALUE></PROPERTY>"), "entity \"x\" is not defined"),
        (LEVEL_ONE.replace("</INSTANCE>", ""), "malformed XML: the text ends too early"),
    ] {
        let error = cimxml::decode_instance(&text).map(|instance| shown(&instance)).unwrap_err();
        let shown = error.to_string();
        assert_eq!(shown.split(" at byte").next(), Some(message), "{text}");
    }
}

#[test]
fn embedding_is_bounded() {
    let mut text = r#"<INSTANCE CLASSNAME="S"/>"#.to_owned();
    let mut levels = 0;
    let error = loop {
        let inner = text.replace('&', "&#38;").replace('<', "&#60;");
        text = format!(
            r#"<INSTANCE CLASSNAME="S"><PROPERTY NAME="O" EmbeddedObject="instance"><VALUE>{inner}</VALUE></PROPERTY></INSTANCE>"#
        );
        levels += 1;
        if let Err(error) = cimxml::decode_instance(&text) {
            break error;
        }
    };
    assert_eq!((levels, error), (9, CimXmlError::EmbeddedTooDeep(8)));
    let start = r#"<PROPERTY.OBJECT NAME="O"><VALUE.OBJECT><INSTANCE CLASSNAME="S">"#;
    let end = "</INSTANCE></VALUE.OBJECT></PROPERTY.OBJECT>";
    let elements =
        |levels| format!(r#"<INSTANCE CLASSNAME="S">{}{}</INSTANCE>"#, start.repeat(levels), end.repeat(levels));
    assert!(cimxml::decode_instance(&elements(8)).is_ok());
    assert_eq!(cimxml::decode_instance(&elements(9)), Err(CimXmlError::EmbeddedTooDeep(8)));
    let keys = "<KEYBINDING NAME='k'><VALUE.REFERENCE><INSTANCENAME CLASSNAME='S'>".repeat(100_000);
    let text = format!(
        "<INSTANCE CLASSNAME='S'><PROPERTY.REFERENCE NAME='R'><VALUE.REFERENCE><INSTANCENAME CLASSNAME='S'>{keys}"
    );
    assert!(matches!(cimxml::decode_instance(&text), Err(CimXmlError::Xml(_))));
}

#[test]
fn instances_are_written_as_a_host_writes_them() {
    let schema = super::schema();
    let inner = InstanceBuilder::new(schema.class("T_Inner").unwrap())
        .set("InstanceID", "a<b&\"c\"")
        .set("Level", 3_u16)
        .build()
        .unwrap();
    assert_eq!(
        cimxml::encode_instance(&inner),
        r#"<INSTANCE CLASSNAME="T_Inner"><PROPERTY NAME="Caption" PROPAGATED="true" TYPE="string"></PROPERTY><PROPERTY NAME="Deeper" TYPE="string"></PROPERTY><PROPERTY NAME="InstanceID" PROPAGATED="true" TYPE="string"><VALUE>a&#60;b&#38;&#34;c&#34;</VALUE></PROPERTY><PROPERTY NAME="Level" TYPE="uint16"><VALUE>3</VALUE></PROPERTY></INSTANCE>"#
    );
    let path = ObjectPath::new("root/v2", "T_Base".into()).with_host("H").with_key("InstanceID", "x");
    let all = InstanceBuilder::new(schema.class("T_All").unwrap())
        .set("ABoolean", true)
        .set("AChar16", CimValue::Char16(u16::from(b'7')))
        .set("ADateTime", CimDateTime::parse("00000001020304.000500:000").unwrap())
        .set("AnObject", CimValue::Instance(Arc::new(inner)))
        .set("AReal32", 1e30_f32)
        .set("AReference", path)
        .set("Strings", vec!["", "b"])
        .set("Uint8s", CimValue::Array([].into()))
        .build()
        .unwrap();
    let text = cimxml::encode_instance(&all);
    for part in [
        r#"<PROPERTY NAME="ABoolean" TYPE="boolean"><VALUE>TRUE</VALUE></PROPERTY>"#,
        r#"<PROPERTY NAME="AChar16" TYPE="char16"><VALUE>55</VALUE></PROPERTY>"#,
        r#"<PROPERTY NAME="ADateTime" TYPE="datetime"><VALUE>00000001020304.000500:000</VALUE></PROPERTY>"#,
        r#"<PROPERTY NAME="AnObject" TYPE="string" EmbeddedObject="instance"><VALUE>&#60;INSTANCE CLASSNAME=&#34;T_Inner&#34;&#62;"#,
        r"<VALUE&#62;a&#38;#60;b&#38;#38;",
        r#"<PROPERTY NAME="AReal32" TYPE="real32"><VALUE>1.0e30</VALUE></PROPERTY>"#,
        r#"<PROPERTY.REFERENCE NAME="AReference" REFERENCECLASS="T_Base"><VALUE.REFERENCE><INSTANCEPATH><NAMESPACEPATH><HOST>H</HOST><LOCALNAMESPACEPATH><NAMESPACE NAME="root"/><NAMESPACE NAME="v2"/></LOCALNAMESPACEPATH></NAMESPACEPATH><INSTANCENAME CLASSNAME="T_Base"><KEYBINDING NAME="InstanceID"><KEYVALUE VALUETYPE="string">x</KEYVALUE></KEYBINDING></INSTANCENAME></INSTANCEPATH></VALUE.REFERENCE></PROPERTY.REFERENCE>"#,
        r#"<PROPERTY.ARRAY NAME="Strings" TYPE="string"><VALUE.ARRAY><VALUE></VALUE><VALUE>b</VALUE></VALUE.ARRAY></PROPERTY.ARRAY>"#,
        r#"<PROPERTY.ARRAY NAME="Uint8s" TYPE="uint8"><VALUE.ARRAY></VALUE.ARRAY></PROPERTY.ARRAY>"#,
        r#"<PROPERTY.ARRAY NAME="Uint16s" TYPE="uint16"></PROPERTY.ARRAY>"#,
    ] {
        let part = part.replace("<VALUE&#62;", "VALUE&#62;");
        assert!(text.contains(&part), "{part} in {text}");
    }
}

#[test]
fn an_object_that_has_not_met_its_class_is_written_too() {
    let schema = super::schema();
    let text = r#"<INSTANCE CLASSNAME="Any"><PROPERTY NAME="A" TYPE="string"><VALUE>a&#60;b</VALUE></PROPERTY><PROPERTY.ARRAY NAME="B" TYPE="string"><VALUE.ARRAY><VALUE.NULL/><VALUE>c</VALUE></VALUE.ARRAY></PROPERTY.ARRAY><PROPERTY NAME="C" TYPE="string"></PROPERTY><PROPERTY.REFERENCE NAME="D"><VALUE.REFERENCE><CLASSNAME NAME="E"/></VALUE.REFERENCE></PROPERTY.REFERENCE><PROPERTY NAME="F" TYPE="string" EmbeddedObject="instance"><VALUE>&#60;INSTANCE CLASSNAME=&#34;G&#34;&#62;&#60;/INSTANCE&#62;</VALUE></PROPERTY></INSTANCE>"#;
    let raw = cimxml::decode_instance(text).unwrap();
    let outer = InstanceBuilder::new(schema.class("T_All").unwrap())
        .set("AnObject", CimValue::RawInstance(Arc::new(raw.clone())))
        .build()
        .unwrap();
    let again = cimxml::decode_instance(&cimxml::encode_instance(&outer)).unwrap();
    assert_eq!(again.get("AnObject"), Some(&RawValue::Instance(Box::new(raw))));
}

#[test]
fn the_form_of_an_embedded_text_is_detected() {
    let settings = "S{Level='1'}";
    for (text, expected) in [
        ("", None),
        (" \r\n\0", None),
        (LEVEL_ONE, Some(settings)),
        ("\u{feff}<?xml version=\"1.0\" encoding=\"utf-16\"?><INSTANCE CLASSNAME=\"S\"/>", Some("S{}")),
        ("\ninstance of S\n{\n\tLevel = 1;\n};\n", Some(settings)),
        ("INSTANCE OF S { Level = 1; }", Some(settings)),
        ("// a comment\n#pragma locale(\"en\")\ninstance of S { Level = 1; };", Some(settings)),
        ("/* c */ [q] instance of S { Level = 1; };", Some(settings)),
        ("&lt;INSTANCE CLASSNAME=&quot;S&quot;/&gt;", Some("S{}")),
    ] {
        match embedded::parse(text) {
            Ok(instance) => assert_eq!(instance.as_ref().map(shown).as_deref(), expected, "{text}"),
            Err(error) => panic!("{text}: {error}"),
        }
    }
    for (text, message) in [
        ("null", "\"null\" is neither CIM-XML nor MOF"),
        ("instances of S {};", "\"instances of S {};\" is neither CIM-XML nor MOF"),
        ("<X/>", "not a CIM-XML instance: element X cannot hold a CIM-XML instance"),
        ("&lt;a<b/>", "escaped twice, but not well: element content where text is expected"),
        ("instance of {", "not a MOF instance: "),
    ] {
        let error = embedded::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{text}: {error}");
    }
}

#[test]
fn a_class_is_written_as_a_declaration() {
    let schema = super::schema();
    let class = schema.class("T_Inner").unwrap();
    assert_eq!(
        cimxml::encode_class(class, ClassContent::default()),
        r#"<CLASS NAME="T_Inner" SUPERCLASS="T_Base"><PROPERTY NAME="Deeper" TYPE="string"></PROPERTY><PROPERTY NAME="Level" TYPE="uint16"></PROPERTY></CLASS>"#
    );
    let content = ClassContent { inherited_elements: true, qualifiers: true, class_origin: true, derivation: true };
    let text = cimxml::encode_class(class, content);
    for part in [
        r#"<CLASS NAME="T_Inner" SUPERCLASS="T_Base" DERIVATION="T_Base">"#,
        r#"<PROPERTY NAME="InstanceID" TYPE="string" CLASSORIGIN="T_Base" PROPAGATED="true">"#,
        r#"<QUALIFIER NAME="key" TYPE="boolean" PROPAGATED="true" OVERRIDABLE="false"><VALUE>true</VALUE></QUALIFIER>"#,
        r#"<QUALIFIER NAME="EmbeddedInstance" TYPE="string"><VALUE>T_Inner</VALUE></QUALIFIER>"#,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = cimxml::encode_class(schema.class("T_All").unwrap(), content);
    for part in [
        r#"<METHOD NAME="Run" TYPE="uint32" CLASSORIGIN="T_All">"#,
        r#"<QUALIFIER NAME="ValueMap" TYPE="string"><VALUE.ARRAY><VALUE>0</VALUE><VALUE>4096</VALUE></VALUE.ARRAY></QUALIFIER>"#,
        r#"<PARAMETER.REFERENCE NAME="Target" REFERENCECLASS="T_Base">"#,
        r#"<PARAMETER.ARRAY NAME="Names" TYPE="string">"#,
        r#"<PARAMETER.REFARRAY NAME="Results" REFERENCECLASS="T_Base">"#,
        r#"<PARAMETER NAME="Force" TYPE="boolean">"#,
        r"<VALUE>A &#34;thing&#34;.</VALUE>",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let base =
        cimxml::encode_class(schema.class("T_Base").unwrap(), ClassContent { derivation: true, ..Default::default() });
    assert!(
        base.starts_with(r#"<CLASS NAME="T_Base" DERIVATION=""><PROPERTY NAME="Caption" TYPE="string"></PROPERTY>"#),
        "{base}"
    );
}
