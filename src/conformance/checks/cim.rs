//! Part J: the CIM binding (DSP0227).

use super::super::case::{Case, Checked, Stop};
use super::super::message::{
    ASSOCIATION_FILTER, CLASS_SCHEMA, DMTF_ALL, DMTF_CLASS, Message, TRANSFER, WQL, escaped, filter, option, selector,
};
use super::super::node::Node;
use super::super::row::{Row, rows};
use super::eventing;
use crate::soap::ANONYMOUS;
use crate::xml::Ns;

pub(super) static ROWS: &[Row] = rows! {
    "C136", "R5.2-1", "the URI of all classes is understood" => all_classes;
    "C137", "DSP0227 5.1", "a class URI is a prefix and the name of the class" => class_uris;
    "C138", "DSP0227 6.3", "__cimnamespace chooses the namespace" => namespaces;
    "C139", "MS-WSMV", "__cimnamespace does not contradict the URI" => contradiction;
    "C140", "R6-1", "Get on all classes is not supported" => get_of_all;
    "C141", "DSP0227 7", "what class and selectors name can be read" => readable;
    "C142", "R7.1-7", "no transfer operation works on all classes" => transfers_of_all;
    "C143", "DSP0227 7.2", "the output of a method ends with its return value" => method_names;
    "C144", "DSP0227 7.2", "reference parameters are taken in every form" => reference_forms;
    "C145", "R8.1-4", "instances of subclasses are shown as what they are" => include_subclasses;
    "C146", "DSP0227 8.1", "ExcludeSubClassProperties shows the base class" => exclude_subclasses;
    "C147", "DSP0227 8.1", "None leaves subclasses out" => no_subclasses;
    "C148", "R8.1-6", "with all classes there is one polymorphism mode" => polymorphism_of_all;
    "C149", "R8.1-9", "the class of a subscription is that of its query" => eventing::other_class;
    "C150", "DSP0227 8.2.1", "associated instances are found" => associated;
    "C151", "R8.2.1-4", "an association filter starts at exactly one instance" => one_source;
    "C152", "R8.2.1-10", "only the properties asked for, wrapped, or a fault" => result_properties;
    "C153", "DSP0227 8.2", "an empty role is none" => empty_role;
    "C154", "DSP0227 8.2", "class names of an association filter match subclasses" => base_names;
    "C155", "DSP0227 9", "WQL is understood; projections have no namespace" => wql;
    "C156", "DSP0227 10.2.1.1", "a subscription to all classes needs a filter" => eventing::filter_needed;
    "C157", "DSP0227 10.2.1.2", "an indication class can be subscribed to" => eventing::indication_class;
    "C158", "R10.2.2-2", "a subscription to an existing filter brings no filter" => eventing::existing_filter;
    "C159", "R10.6-4", "what a subscription made goes with it" => eventing::implicit_instances;
    "C160", "DSP0227 15.3", "class definitions can be read and listed" => class_definitions;
    "C161", "DSP0227 15.8", "options shape class definitions" => class_options;
    "C162", "DSP0227", "a CIM error in a fault is marked" => cim_error;
};

async fn all_classes(case: &mut Case) -> Checked {
    let namespace = selector("__cimnamespace", &case.subject.profile.cim.namespace);
    let query = filter(WQL, &escaped(&case.subject.profile.cim.query));
    for uri in [DMTF_ALL.to_owned(), case.subject.class_uri("*")] {
        let items = case.items(&Message::list(uri, 1000, &query).select(namespace.clone())).await?;
        case.that(!items.is_empty(), "items")?;
    }
    Ok(())
}

/// Get of the first instance by the DMTF form of the class URI.
fn dmtf_get(case: &Case, namespace: Option<&str>) -> Result<Message, Stop> {
    let first = case.first()?;
    let own: String = first
        .selectors
        .iter()
        .filter(|(name, _)| !name.starts_with("__"))
        .map(|(name, value)| selector(name, value))
        .collect();
    let namespace = namespace.map_or_else(String::new, |namespace| selector("__cimnamespace", namespace));
    Ok(Message::get(format!("{DMTF_CLASS}{}", case.subject.profile.cim.class)).select(namespace + &own))
}

async fn class_uris(case: &mut Case) -> Checked {
    case.ok(&case.get()?).await?;
    let namespace = case.subject.profile.cim.namespace.clone();
    let answer = case.ok(&dmtf_get(case, Some(&namespace))?).await?;
    let right = answer.body().is_some_and(|body| body.ns == format!("{DMTF_CLASS}{}", case.subject.profile.cim.class));
    case.that(right, "an instance in the namespace of the URI that was asked for")
}

async fn namespaces(case: &mut Case) -> Checked {
    let namespace = case.subject.profile.cim.namespace.clone();
    case.ok(&dmtf_get(case, Some(&namespace))?).await?;
    case.ok(&dmtf_get(case, Some(&namespace.to_uppercase().replace('/', "\\")))?).await?;
    case.fault(&dmtf_get(case, Some("root/no/such"))?, "a:DestinationUnreachable", None).await?;
    // What the default namespace is, is the server's choice.
    let answer = case.send(&dmtf_get(case, None)?).await?;
    let good = answer.status == 200 && !answer.is_fault();
    case.that(
        good || answer.has_fault("a:DestinationUnreachable", None),
        "the instance, or the fault a:DestinationUnreachable",
    )
}

async fn contradiction(case: &mut Case) -> Checked {
    let other = case.subject.profile.cim.other_namespace.clone();
    let message = case.get()?.also("__cimnamespace", &other);
    case.fault(&message, "w:InternalError", None).await?;
    Ok(())
}

async fn get_of_all(case: &mut Case) -> Checked {
    let message = Message::get(DMTF_ALL).also("__cimnamespace", &case.subject.profile.cim.namespace);
    case.fault(&message, "a:ActionNotSupported", None).await?;
    Ok(())
}

async fn readable(case: &mut Case) -> Checked {
    for found in case.subject.instances.clone().iter().take(10) {
        let answer = case.ok(&found.get()).await?;
        let same = found
            .selectors
            .iter()
            .filter(|(name, _)| !name.starts_with("__"))
            .all(|(name, value)| answer.body().is_some_and(|body| body.text_at(name).eq_ignore_ascii_case(value)));
        case.that(same, "the instance with these keys")?;
    }
    case.first().map(|_| ())
}

async fn transfers_of_all(case: &mut Case) -> Checked {
    let namespace = case.subject.profile.cim.namespace.clone();
    for operation in ["Put", "Create", "Delete"] {
        let message = Message::new(format!("{TRANSFER}/{operation}"), DMTF_ALL).also("__cimnamespace", &namespace);
        case.fault(&message, "a:ActionNotSupported", None).await?;
    }
    Ok(())
}

async fn method_names(case: &mut Case) -> Checked {
    let message = case.harmless()?;
    let name = format!("{}_OUTPUT", case.subject.profile.method.name);
    let answer = case.send(&message).await?;
    let value = answer.body().filter(|body| body.local == name).and_then(|body| body.children.last());
    let right = value.is_some_and(|value| value.local == "ReturnValue" && value.text.trim().parse::<u32>().is_ok());
    case.that(right, format!("{name} with ReturnValue as its last child"))
}

async fn reference_forms(case: &mut Case) -> Checked {
    let first = case.first()?;
    let name = case.subject.profile.method.reference.clone();
    let class = case.subject.profile.cim.class.clone();
    let plain = first.reference();
    let path: Vec<String> = first.keys().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let path = format!("{class}.{}", path.join(","));
    let uri = escaped(&first.resource);
    let instance: Vec<String> = first
        .keys()
        .map(|(name, value)| format!("<k:{name} xmlns:k=\"{uri}\">{}</k:{name}>", escaped(value)))
        .collect();
    let instance = instance.concat();
    let element = |content: &str| format!("<r:{name}>{content}</r:{name}>");
    let forms = [
        element(&plain),
        element(&format!("<a:EndpointReference>{plain}</a:EndpointReference>")),
        element(&escaped(&path)),
        element(&plain.replace("ReferenceParameters", "ReferenceProperties")),
        format!("<r:{name} xmlns:k=\"{uri}\" xsi:type=\"k:{class}_Type\">{instance}</r:{name}>"),
    ];
    let mut expected = None;
    for form in forms {
        let answer = case.ok(&case.refused_call(&form)?).await?;
        let value = answer.body().map_or("", |body| body.text_at("ReturnValue")).to_owned();
        let known = expected.get_or_insert_with(|| value.clone()).clone();
        case.that(value == known, format!("ReturnValue {known}, as for the first form"))?;
    }
    let nobody = plain.replace(
        &escaped(first.selectors.last().map_or("", |(_, value)| value)),
        "C0FFEE00-0000-4000-8000-000000000000",
    );
    let answer = case.ok(&case.refused_call(&element(&nobody))?).await?;
    let value = answer.body().map_or("", |body| body.text_at("ReturnValue")).to_owned();
    case.that(expected != Some(value), "another ReturnValue for a reference that leads nowhere")
}

/// All instances of the base class in a polymorphism mode.
async fn base(case: &mut Case, mode: &str) -> Result<Vec<Node>, Stop> {
    let uri = case.subject.class_uri(&case.subject.profile.cim.base_class);
    let mode = if mode.is_empty() { String::new() } else { format!("<b:PolymorphismMode>{mode}</b:PolymorphismMode>") };
    case.items(&Message::list(uri, 1000, &mode)).await
}

async fn include_subclasses(case: &mut Case) -> Checked {
    for mode in ["", "IncludeSubClassProperties"] {
        let items = base(case, mode).await?;
        let class = case.subject.profile.cim.class.clone();
        case.that(items.iter().any(|item| item.local == class), format!("instances shown as {class}"))?;
    }
    Ok(())
}

async fn exclude_subclasses(case: &mut Case) -> Checked {
    let derived = base(case, "").await?;
    let items = base(case, "ExcludeSubClassProperties").await?;
    let class = case.subject.profile.cim.base_class.clone();
    let fewer =
        items.first().map_or(0, |item| item.children.len()) < derived.first().map_or(0, |item| item.children.len());
    let all = items.len() == derived.len() && items.iter().all(|item| item.local == class);
    case.that(all && fewer, format!("as many instances, shown as {class} with its properties alone"))
}

async fn no_subclasses(case: &mut Case) -> Checked {
    let items = base(case, "None").await?;
    let class = case.subject.profile.cim.base_class.clone();
    case.that(items.iter().all(|item| item.local == class), format!("no instance but those of {class} itself"))
}

async fn polymorphism_of_all(case: &mut Case) -> Checked {
    let query = filter(WQL, &escaped(&case.subject.profile.cim.query));
    for mode in ["None", "ExcludeSubClassProperties"] {
        let mode = format!("{query}<b:PolymorphismMode>{mode}</b:PolymorphismMode>");
        let message = Message::list(case.subject.class_uri("*"), 10, &mode);
        case.fault(&message, "b:PolymorphismModeNotSupported", None).await?;
    }
    Ok(())
}

/// An association filter from these children of `b:Object` on.
fn associators(case: &Case, object: &str, more: &str) -> Message {
    let inner = format!("<b:AssociatedInstances><b:Object>{object}</b:Object>{more}</b:AssociatedInstances>");
    Message::list(case.subject.class_uri("*"), 1000, &filter(ASSOCIATION_FILTER, &inner))
}

/// The parts of the filter that lead to the associated class of the profile.
fn way(case: &Case) -> String {
    let cim = &case.subject.profile.cim;
    format!(
        "<b:AssociationClassName>{}</b:AssociationClassName><b:Role>{}</b:Role><b:ResultClassName>{}</b:ResultClassName>",
        cim.association, cim.role, cim.associated_class
    )
}

async fn associated(case: &mut Case) -> Checked {
    let object = case.first()?.reference();
    let items = case.items(&associators(case, &object, &way(case))).await?;
    let class = case.subject.profile.cim.associated_class.clone();
    case.that(!items.is_empty() && items.iter().all(|item| item.local == class), format!("instances of {class}"))
}

async fn one_source(case: &mut Case) -> Checked {
    let first = case.first()?;
    let reference = |selectors: &str| {
        format!(
            "<a:Address>{ANONYMOUS}</a:Address><a:ReferenceParameters><w:ResourceURI>{}</w:ResourceURI>{selectors}</a:ReferenceParameters>",
            escaped(&first.resource)
        )
    };
    let shared = first.selectors.iter().filter(|(name, _)| *name == case.subject.profile.cim.shared_key);
    let ambiguous: String = shared.map(|(name, value)| selector(name, value)).collect();
    let missing = case.get_missing()?.selectors.unwrap_or_default();
    for object in [
        reference(&format!("<w:SelectorSet>{missing}</w:SelectorSet>")),
        reference(""),
        reference(&format!("<w:SelectorSet>{ambiguous}</w:SelectorSet>")),
    ] {
        let message = associators(case, &object, &way(case));
        case.fault(&message, "n:CannotProcessFilter", None).await?;
    }
    Ok(())
}

async fn result_properties(case: &mut Case) -> Checked {
    let object = case.first()?.reference();
    let property = case.subject.profile.cim.associated_property.clone();
    let more = format!(
        "{}<b:IncludeResultProperty>{property}</b:IncludeResultProperty>\
         <b:IncludeResultProperty>ElementName</b:IncludeResultProperty>\
         <b:IncludeResultProperty>NoSuchProperty</b:IncludeResultProperty>",
        way(case)
    );
    let answer = case.send(&associators(case, &object, &more)).await?;
    if answer.has_fault("w:UnsupportedFeature", Some("FragmentLevelAccess")) {
        return Err(Stop::NotOffered(answer.fault_text()));
    }
    let items = answer.items();
    let right = items.iter().all(|item| {
        item.local == "XmlFragment"
            && item.child(&property).is_some()
            && item.children.iter().all(|child| child.local == property || child.local == "ElementName")
    });
    case.that(!items.is_empty() && right, format!("w:XmlFragment with {property} and ElementName alone"))
}

async fn empty_role(case: &mut Case) -> Checked {
    let object = case.first()?.reference();
    let class = format!("<b:AssociationClassName>{}</b:AssociationClassName>", case.subject.profile.cim.association);
    let without = case.items(&associators(case, &object, &class)).await?.len();
    let with = case.items(&associators(case, &object, &format!("{class}<b:Role/><b:ResultRole/>"))).await?.len();
    case.that(with == without && with > 0, format!("{without} items, as without the role; {with} came"))
}

async fn base_names(case: &mut Case) -> Checked {
    let object = case.first()?.reference();
    let cim = case.subject.profile.cim.clone();
    let names = |association: &str, result: &str| {
        format!(
            "<b:AssociationClassName>{association}</b:AssociationClassName><b:ResultClassName>{result}</b:ResultClassName>"
        )
    };
    let exact = case.items(&associators(case, &object, &names(&cim.association, &cim.associated_class))).await?.len();
    let base =
        case.items(&associators(case, &object, &names(&cim.association_base, &cim.associated_base))).await?.len();
    case.that(base >= exact && exact > 0, format!("{exact} items or more; {base} came"))
}

async fn wql(case: &mut Case) -> Checked {
    let cim = case.subject.profile.cim.clone();
    let query = format!("SELECT {}, {} FROM {}", cim.text_property, cim.number_property, cim.class);
    let items = case.items(&Message::list(case.subject.class_uri("*"), 1000, &filter(WQL, &query))).await?;
    let bare =
        items.iter().all(|item| !item.children.is_empty() && item.children.iter().all(|child| child.ns.is_empty()));
    case.that(!items.is_empty() && bare, "property elements in no namespace")?;
    let none = format!("SELECT * FROM {} WHERE {} = 'no such {}'", cim.class, cim.text_property, cim.text_property);
    let items = case.items(&Message::list(case.subject.class_uri("*"), 1000, &filter(WQL, &none))).await?;
    case.that(items.is_empty(), "no item where the condition holds for none")
}

async fn class_definitions(case: &mut Case) -> Checked {
    let cim = case.subject.profile.cim.clone();
    let answer = case.ok(&case.class_definition()).await?;
    let class = answer.body().filter(|body| body.is(Ns::None, "CLASS"));
    let named = class.and_then(|class| class.attribute(Ns::None, "NAME"));
    case.that(named == Some(cim.class.as_str()), format!("CLASS in no namespace, named {}", cim.class))?;
    let list = Message::list(CLASS_SCHEMA, 32_000, "").also("__cimnamespace", &cim.namespace).also("ClassName", "");
    let items = case.items(&list).await?;
    let listed = items.iter().any(|item| item.attribute(Ns::None, "NAME") == Some(cim.class.as_str()));
    case.that(listed, format!("{} among the classes", cim.class))?;
    let unknown = Message::get(CLASS_SCHEMA).also("__cimnamespace", &cim.namespace).also("ClassName", "NoSuchClass");
    case.fault(&unknown, "a:DestinationUnreachable", None).await?;
    let nameless = Message::get(CLASS_SCHEMA).also("__cimnamespace", &cim.namespace);
    case.fault(&nameless, "w:InvalidSelectors", Some("InsufficientSelectors")).await?;
    Ok(())
}

async fn class_options(case: &mut Case) -> Checked {
    let cim = case.subject.profile.cim.clone();
    let get = Message::get(CLASS_SCHEMA).also("__cimnamespace", &cim.namespace).also("ClassName", &cim.class);
    for (name, mark) in [("IncludeQualifiers", "<QUALIFIER "), ("IncludeClassOrigin", " CLASSORIGIN=")] {
        for (value, there) in [("true", true), ("false", false)] {
            let answer = case.ok(&get.clone().options(&option(name, value))).await?;
            case.that(answer.text.contains(mark) == there, format!("{name}={value} to decide on \"{}\"", mark.trim()))?;
        }
    }
    let mut counts = Vec::new();
    for value in ["false", "true"] {
        let answer = case.ok(&get.clone().options(&option("IncludeInheritedElements", value))).await?;
        counts.push(answer.body().map_or(0, |body| body.children.len()));
    }
    case.that(counts.is_sorted() && counts.first() < counts.last(), "more elements with IncludeInheritedElements")?;
    let list = Message::list(CLASS_SCHEMA, 32_000, "")
        .also("__cimnamespace", &cim.namespace)
        .also("ClassName", &cim.base_class);
    let path = case.items(&list.clone().options(&option("IncludePath", "true"))).await?;
    case.that(
        !path.is_empty() && path.iter().all(|item| item.local == "VALUE.OBJECTWITHPATH"),
        "VALUE.OBJECTWITHPATH with IncludePath",
    )?;
    let names = case.items(&list.clone().options(&option("ExcludeClassSpecification", "true"))).await?;
    case.that(names.iter().all(|item| item.local != "CLASS"), "no CLASS with ExcludeClassSpecification")?;
    let direct = case.items(&list.clone()).await?.len();
    let deep = case.items(&list.options(&option("IncludeSubClasses", "true"))).await?.len();
    case.that(deep >= direct && direct > 0, "no fewer classes with IncludeSubClasses")
}

async fn cim_error(case: &mut Case) -> Checked {
    let answer = case.send(&case.get_missing()?).await?;
    let detail = answer.at("Body/Fault/Detail");
    let errors: Vec<&Node> = detail.map_or_else(Vec::new, |detail| {
        detail.children.iter().filter(|child| child.child("CIMStatusCode").is_some()).collect()
    });
    if errors.is_empty() && answer.is_fault() {
        return Err(Stop::NotApplicable("the faults of the server carry no CIM error".to_owned()));
    }
    let marked = errors.iter().all(|error| error.attribute(Ns::CimBinding, "IsCIM_Error") == Some("true"));
    let status = errors.iter().all(|error| error.text_at("CIMStatusCode") == "6");
    case.that(marked && status && !errors.is_empty(), "b:IsCIM_Error=\"true\" and the status 6 on the CIM error")
}
