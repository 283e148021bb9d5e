//! `decode(encode(x)) == x`, with proptest.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use wsnapd::cim::wql::{
    AssociatorsOf, ClassQuery, Comparison, Expression, Literal, Operand, Projection, PropertyReference, Query,
    ReferencesOf, Select,
};
use wsnapd::cim::{
    CimDateTime, CimInstance, CimType, CimValue, ClassName, KeyValue, NamespaceSchema, ObjectPath, PropertyName, cimxml,
};
use wsnapd::xml::{Event, Ns, Reader, Writer};

static SCHEMA: LazyLock<Arc<NamespaceSchema>> = LazyLock::new(super::schema);

/// Characters that XML can carry; markup, quotes and line ends more often than chance would have them.
fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        5 => any::<char>().prop_filter("XML cannot carry it", |&c| c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}')),
        5 => prop::sample::select(vec!['<', '>', '&', '"', '\'', '\\', '\n', '\r', '\t', ' ', ';', '{', '}', '%', ',']),
        10 => prop::char::range('a', 'z'),
    ]
}

fn text() -> impl Strategy<Value = String> {
    vec(character(), 0..12).prop_map(|characters| characters.into_iter().collect())
}

fn name() -> impl Strategy<Value = String> {
    const RESERVED: [&str; 20] = [
        "and",
        "classdefsonly",
        "false",
        "from",
        "group",
        "having",
        "is",
        "isa",
        "keysonly",
        "like",
        "meta_class",
        "not",
        "null",
        "or",
        "select",
        "true",
        "where",
        "within",
        "schemaonly",
        "role",
    ];
    "[A-Za-z][A-Za-z0-9_]{0,8}"
        .prop_filter("reserved", |name| !RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)))
}

fn datetime() -> impl Strategy<Value = CimDateTime> {
    let micros = 0..1_000_000_u32;
    prop_oneof![
        // Years 1 to 9998, so that no offset leaves the four digits.
        (-62_000_000_000_i64..253_000_000_000, micros.clone(), -999_i16..=999).prop_map(|(seconds, micros, offset)| {
            let instant = chrono::DateTime::from_timestamp(seconds, micros * 1_000).unwrap();
            CimDateTime::Timestamp { instant, offset }
        }),
        (prop_oneof![0..9_000_000_000_u64, 0..8_640_000_000_000_u64], micros)
            .prop_map(|(seconds, micros)| CimDateTime::Interval(Duration::new(seconds, micros * 1_000))),
        Just(CimDateTime::parse("19991231235959.******+000").unwrap()),
    ]
}

fn path(depth: u32) -> BoxedStrategy<ObjectPath> {
    let key = if depth == 0 {
        text().prop_map(|text| KeyValue::Text(text.into())).boxed()
    } else {
        prop_oneof![
            4 => text().prop_map(|text| KeyValue::Text(text.into())),
            1 => path(depth - 1).prop_map(|path| KeyValue::Reference(Arc::new(path))),
        ]
        .boxed()
    };
    (name(), option::of((vec(name(), 1..4), option::of("[A-Z][A-Z0-9-]{0,8}"))), vec((name(), key), 0..4))
        .prop_map(|(class, place, keys)| {
            let mut path = ObjectPath::relative(ClassName::new(&class));
            if let Some((namespace, host)) = place {
                path = path.in_namespace(&namespace.join("/"));
                if let Some(host) = host {
                    path = path.with_host(&host);
                }
            }
            for (name, value) in keys {
                path.push_key(PropertyName::new(&name), value);
            }
            path
        })
        .boxed()
}

fn scalar(ty: CimType) -> BoxedStrategy<CimValue> {
    match ty {
        CimType::Boolean => any::<bool>().prop_map(CimValue::from).boxed(),
        CimType::Uint8 => any::<u8>().prop_map(CimValue::from).boxed(),
        CimType::Sint8 => any::<i8>().prop_map(CimValue::from).boxed(),
        CimType::Uint16 => any::<u16>().prop_map(CimValue::from).boxed(),
        CimType::Sint16 => any::<i16>().prop_map(CimValue::from).boxed(),
        CimType::Uint32 => any::<u32>().prop_map(CimValue::from).boxed(),
        CimType::Sint32 => any::<i32>().prop_map(CimValue::from).boxed(),
        CimType::Uint64 => any::<u64>().prop_map(CimValue::from).boxed(),
        CimType::Sint64 => any::<i64>().prop_map(CimValue::from).boxed(),
        CimType::Real32 => prop_oneof![any::<f32>(), Just(f32::INFINITY)].prop_map(CimValue::from).boxed(),
        CimType::Real64 => prop_oneof![any::<f64>(), Just(f64::NEG_INFINITY)].prop_map(CimValue::from).boxed(),
        CimType::Char16 => prop_oneof![any::<u16>(), 0..128_u16].prop_map(CimValue::Char16).boxed(),
        CimType::String => text().prop_map(CimValue::from).boxed(),
        CimType::DateTime => datetime().prop_map(CimValue::from).boxed(),
        CimType::Reference => path(2).prop_map(CimValue::from).boxed(),
    }
}

fn object(depth: u32) -> BoxedStrategy<CimValue> {
    instance("T_Inner", depth).prop_map(|instance| CimValue::Instance(Arc::new(instance))).boxed()
}

/// An instance with any values; objects are embedded `depth` levels deep.
fn instance(class: &'static str, depth: u32) -> BoxedStrategy<CimInstance> {
    let class = Arc::clone(SCHEMA.class(class).unwrap());
    let values: Vec<BoxedStrategy<CimValue>> = class
        .properties()
        .iter()
        .map(|property| {
            let single = match property.embedded_class {
                Some(_) if depth > 0 => object(depth - 1),
                Some(_) => Just(CimValue::Null).boxed(),
                None => scalar(property.cim_type()),
            };
            if property.is_array() {
                let member = prop_oneof![4 => single, 1 => Just(CimValue::Null)];
                prop_oneof![4 => vec(member, 0..4).prop_map(CimValue::from), 1 => Just(CimValue::Null)].boxed()
            } else {
                prop_oneof![4 => single, 1 => Just(CimValue::Null)].boxed()
            }
        })
        .collect();
    values
        .prop_map(move |values| {
            let mut instance = CimInstance::new(Arc::clone(&class));
            for (property, value) in class.properties().iter().zip(values) {
                instance.set(property.name().as_str(), value).unwrap();
            }
            instance
        })
        .boxed()
}

/// Like `==`, but hosts count too: `ObjectPath` leaves them out.
fn hosts(value: &CimValue) -> Vec<Option<String>> {
    match value {
        CimValue::Reference(path) => vec![path.host().map(ToOwned::to_owned)],
        CimValue::Array(items) => items.iter().flat_map(hosts).collect(),
        _ => Vec::new(),
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Tree {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Element(Tree),
}

fn tree() -> impl Strategy<Value = Tree> {
    let attributes = || {
        vec((name(), text()), 0..3).prop_map(|mut attributes| {
            attributes.sort();
            attributes.dedup_by(|left, right| left.0 == right.0);
            attributes
        })
    };
    let leaf = (name(), attributes()).prop_map(|(name, attributes)| Tree { name, attributes, children: Vec::new() });
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let node = prop_oneof![
            text().prop_filter("no text is no node", |text| !text.is_empty()).prop_map(Node::Text),
            inner.prop_map(Node::Element),
        ];
        (name(), attributes(), vec(node, 0..4)).prop_map(|(name, attributes, children)| {
            // Texts side by side are one text in XML.
            let mut merged: Vec<Node> = Vec::new();
            for child in children {
                match (merged.last_mut(), child) {
                    (Some(Node::Text(last)), Node::Text(text)) => last.push_str(&text),
                    (_, child) => merged.push(child),
                }
            }
            Tree { name, attributes, children: merged }
        })
    })
}

fn write(w: &mut Writer, tree: &Tree) {
    let attributes: Vec<_> = tree.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    w.element_with(&tree.name, &attributes, |w| {
        for child in &tree.children {
            match child {
                Node::Text(text) => w.text(text),
                Node::Element(tree) => write(w, tree),
            }
        }
    });
}

fn read(reader: &mut Reader<'_>) -> Tree {
    let Event::Start(root) = reader.next().unwrap() else { panic!("no element") };
    read_element(reader, &root)
}

fn read_element(reader: &mut Reader<'_>, element: &wsnapd::xml::Element<'_>) -> Tree {
    let attributes = element
        .attributes()
        .inspect(|(name, _)| assert_eq!(name.ns, Ns::None))
        .map(|(name, value)| (name.local.to_owned(), value.to_owned()))
        .collect();
    let mut tree = Tree { name: element.local().to_owned(), attributes, children: Vec::new() };
    loop {
        match reader.next().unwrap() {
            Event::Start(child) => tree.children.push(Node::Element(read_element(reader, &child))),
            Event::Text(text) => tree.children.push(Node::Text(text.into_owned())),
            Event::End => return tree,
            Event::Eof => panic!("the end inside an element"),
        }
    }
}

fn property() -> impl Strategy<Value = PropertyReference> {
    (option::weighted(0.2, name()), prop_oneof![5 => name(), 1 => Just("__PATH".to_owned())]).prop_map(
        |(class, name)| PropertyReference {
            class: class.map(|class| ClassName::new(&class)),
            name: PropertyName::new(&name),
        },
    )
}

fn operand() -> impl Strategy<Value = Operand> {
    prop_oneof![
        property().prop_map(Operand::Property),
        any::<i128>().prop_map(|number| Operand::Literal(Literal::Integer(number))),
        any::<f64>().prop_map(|number| Operand::Literal(Literal::Real(number))),
        text().prop_map(|text| Operand::Literal(Literal::String(text.into()))),
        any::<bool>().prop_map(|value| Operand::Literal(Literal::Boolean(value))),
    ]
}

fn expression() -> impl Strategy<Value = Expression> {
    let comparison = prop::sample::select(vec![
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ]);
    let leaf = prop_oneof![
        (operand(), comparison, operand()).prop_map(|(left, comparison, right)| Expression::Compare {
            left,
            comparison,
            right
        }),
        (property(), text(), any::<bool>()).prop_map(|(property, pattern, negated)| Expression::Like {
            property,
            pattern: pattern.replace('"', "").into(),
            negated
        }),
        (property(), any::<bool>()).prop_map(|(property, negated)| Expression::IsNull { property, negated }),
        (property(), name()).prop_map(|(property, class)| Expression::Isa { property, class: ClassName::new(&class) }),
    ];
    leaf.prop_recursive(5, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(Expression::And),
            vec(inner.clone(), 2..4).prop_map(Expression::Or),
            inner.prop_map(|inner| Expression::Not(Box::new(inner))),
        ]
    })
}

/// A path that WQL can name: its keys are texts.
fn source_object() -> impl Strategy<Value = ObjectPath> {
    path(0)
}

fn query() -> impl Strategy<Value = Query> {
    let projection = prop_oneof![Just(Projection::All), vec(property(), 1..4).prop_map(Projection::Properties)];
    let class = || option::of(name().prop_map(|name| ClassName::new(&name)));
    let role = || option::of(name().prop_map(|name| PropertyName::new(&name)));
    prop_oneof![
        3 => (projection, name(), option::of(expression())).prop_map(|(projection, class, filter)| {
            Query::Select(Select { projection, class: ClassName::new(&class), filter })
        }),
        1 => option::of(expression()).prop_map(|filter| Query::Classes(ClassQuery { filter })),
        1 => (source_object(), class(), class(), role(), role(), class(), class(), any::<bool>(), any::<bool>()).prop_map(
            |(object, assoc, result, result_role, role, qualifier, assoc_qualifier, keys_only, class_defs_only)| {
                Query::AssociatorsOf(AssociatorsOf {
                    object,
                    assoc_class: assoc,
                    result_class: result,
                    result_role,
                    role,
                    required_qualifier: qualifier,
                    required_assoc_qualifier: assoc_qualifier,
                    keys_only,
                    class_defs_only,
                })
            }
        ),
        1 => (source_object(), class(), role(), class(), any::<bool>(), any::<bool>()).prop_map(
            |(object, result_class, role, required_qualifier, keys_only, class_defs_only)| {
                Query::ReferencesOf(ReferencesOf {
                    object, result_class, role, required_qualifier, keys_only, class_defs_only,
                })
            }
        ),
    ]
}

proptest! {
    #[test]
    fn instances_survive_cim_xml(instance in instance("T_All", 2)) {
        let text = cimxml::encode_instance(&instance);
        let raw = cimxml::decode_instance(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let decoded = SCHEMA.instantiate(&raw).unwrap_or_else(|error| panic!("{error}: {text}"));
        prop_assert_eq!(&decoded, &instance, "{}", text);
        for ((property, before), (_, after)) in instance.properties().zip(decoded.properties()) {
            prop_assert_eq!(hosts(before), hosts(after), "{}", property.name());
        }
    }

    #[test]
    fn datetimes_survive_their_cim_text(value in datetime()) {
        prop_assert_eq!(CimDateTime::parse(&value.to_cim_text()), Ok(value));
    }

    #[test]
    fn datetimes_survive_their_xml_text(value in datetime()) {
        // xs:dateTime has hours up to 14 in its offset; CIM has any three digits.
        prop_assume!(!matches!(value, CimDateTime::Timestamp { offset, .. } if offset.abs() > 14 * 60));
        // `time::parse_xs_duration` ends at 2^63 nanoseconds, 292 years.
        prop_assume!(!matches!(value, CimDateTime::Interval(interval) if interval.as_secs() > 9_000_000_000));
        prop_assert_eq!(CimDateTime::parse(&value.to_xml_text()), Ok(value));
    }

    #[test]
    fn paths_survive_their_wmi_text(path in path(0)) {
        let relative = ObjectPath::parse(&path.to_relative_text()).unwrap();
        prop_assert_eq!(&relative, &path, "{}", path.to_relative_text());
        if path.namespace().is_some() {
            let text = path.to_wmi_text("HOST1");
            let parsed = ObjectPath::parse(&text).unwrap();
            prop_assert_eq!(&parsed, &path, "{}", text);
            prop_assert_eq!(parsed.host(), Some("HOST1"));
            prop_assert_eq!(parsed.to_wmi_text("HOST1"), text);
        }
    }

    #[test]
    fn what_the_writer_writes_the_reader_reads(tree in tree()) {
        let mut w = Writer::default();
        write(&mut w, &tree);
        let text = w.finish();
        let mut reader = Reader::new(&text);
        prop_assert_eq!(read(&mut reader), tree, "{}", text);
        prop_assert!(matches!(reader.next(), Ok(Event::Eof)));
    }

    #[test]
    fn queries_survive_their_text(query in query()) {
        let text = query.to_string();
        let parsed: Query = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
        prop_assert_eq!(parsed, query, "{}", text);
    }
}
