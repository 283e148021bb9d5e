//! Part K: values and instances in XML (DSP0230 and what Windows does).

use super::super::case::{Case, Checked, Stop};
use super::super::message::{Message, escaped, option};
use super::super::node::Node;
use super::super::row::{Row, rows};
use super::control::first_of;
use crate::xml::Ns;

pub(super) static ROWS: &[Row] = rows! {
    "C163", "DSP0230 7.2.5.2", "an embedded instance says its class" => embedded;
    "C164", "DSP0230 8.2", "datetimes are in the elements for datetimes" => datetimes;
    "C165", "DSP0230 9.2.2", "an array repeats its element; a null array is left out" => arrays;
    "C166", "DSP0230 9", "a reference is an endpoint reference" => references;
    "C167", "DSP0230", "a null value is nil" => null_value;
    "C168", "MS-WSMV", "UsePreciseArrays tells null arrays" => precise_arrays;
    "C169", "DSP0230", "numbers stay in the range of their type" => range;
    "C170", "DSP0230", "a char16 is taken as a number and as a character" => char16;
};

async fn embedded(case: &mut Case) -> Checked {
    let Some(embedded) = case.subject.profile.embedded.clone() else {
        return Err(Stop::NotApplicable("the profile names no method with an embedded instance".to_owned()));
    };
    let target = first_of(case, &embedded.namespace, &embedded.class).await?;
    let answer = case.ok(&target.invoke(&embedded.method, &embedded.input)).await?;
    let value = answer.body().and_then(|body| body.child(&embedded.parameter));
    let ty = value.and_then(|value| value.attribute(Ns::Xsi, "type")).unwrap_or_default();
    let local = ty.rsplit(':').next().unwrap_or_default();
    let expected = format!("{}_Type", embedded.embedded_class);
    case.that(local == expected, format!("{} with the xsi:type {expected}", embedded.parameter))?;
    let inside = value.is_some_and(|value| {
        value.children.iter().all(|child| child.ns.ends_with(&embedded.embedded_class)) && !value.children.is_empty()
    });
    case.that(inside, "children in the namespace of the embedded class")
}

/// Whether a text has the form of its element.
fn is_datetime(node: &Node) -> bool {
    let text = node.text.trim();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match node.local.as_str() {
        "Datetime" => {
            let (date, time) = text.split_once('T').unwrap_or((text, ""));
            let zoned = time.ends_with('Z') || time.get(8..).is_some_and(|zone| zone.contains(['+', '-']));
            date.split('-').count() == 3
                && date.split('-').all(digits)
                && time.get(..8).is_some_and(|time| time.split(':').all(digits))
                && zoned
        }
        "Interval" => crate::time::parse_xs_duration(text).is_ok(),
        "Date" => text.split('-').count() >= 3,
        "Time" => text.split(':').count() >= 3,
        "CIM_DateTime" => text.len() == 25,
        _ => false,
    }
}

async fn datetimes(case: &mut Case) -> Checked {
    let name = case.subject.profile.cim.datetime_property.clone();
    let answer = case.ok(&case.get()?).await?;
    let value = answer.body().and_then(|body| body.child(&name)).cloned().unwrap_or_default();
    let right =
        value.children.len() == 1 && value.children.iter().all(|child| child.ns == Ns::Cim.uri() && is_datetime(child));
    case.that(right, format!("{name} with cim:Datetime and a time with its zone inside"))?;
    let items = case.items(&case.numerous(1000, "")).await?;
    let mut wrong = Vec::new();
    for item in &items {
        item.walk(&mut |node: &Node| {
            if node.ns == Ns::Cim.uri() && !is_datetime(node) {
                wrong.push(node.source.clone());
            }
        });
    }
    case.that(wrong.is_empty(), format!("no cim: element that is none of the five; {}", wrong.join(" ")))
}

async fn arrays(case: &mut Case) -> Checked {
    let name = case.subject.profile.cim.array_property.clone();
    let answer = case.ok(&case.get()?).await?;
    let values: Vec<&Node> = answer.body().map_or_else(Vec::new, |body| body.all(&name).collect());
    case.that(!values.is_empty(), format!("{name} once or more"))?;
    case.that(values.iter().all(|value| !value.is_nil() && value.children.is_empty()), "no null items")?;
    let precise = case.ok(&case.get()?.options(&option("msftwinrm:UsePreciseArrays", "true"))).await?;
    let mut names: Vec<&str> = Vec::new();
    let mut null_once = true;
    if let Some(body) = precise.body() {
        for child in &body.children {
            let twice = names.contains(&child.local.as_str());
            null_once &= !(twice && child.is_nil());
            names.push(&child.local);
        }
    }
    let more = names.len() >= answer.body().map_or(0, |body| body.children.len());
    case.that(null_once && more, "a null array as one nil element with UsePreciseArrays")
}

async fn references(case: &mut Case) -> Checked {
    let cim = case.subject.profile.cim.clone();
    let items = case.items(&Message::list(case.subject.class_uri(&cim.association), 1000, "")).await?;
    let right = items.iter().all(|item| {
        item.child(&cim.role).is_some_and(|role| {
            let role = role.child("EndpointReference").unwrap_or(role);
            role.children.iter().any(|child| child.is(Ns::Addressing, "Address"))
                && role.children.iter().any(|child| child.is(Ns::Addressing, "ReferenceParameters"))
        })
    });
    case.that(right && !items.is_empty(), format!("{} with a:Address and a:ReferenceParameters", cim.role))
}

async fn null_value(case: &mut Case) -> Checked {
    let name = case.subject.profile.cim.null_property.clone();
    let answer = case.ok(&case.get()?).await?;
    let value = answer.body().and_then(|body| body.child(&name));
    case.that(value.is_some_and(Node::is_nil), format!("{name} with xsi:nil"))
}

async fn precise_arrays(case: &mut Case) -> Checked {
    // Null arrays are those that come with the option only.
    let plain = case.items(&case.numerous(1000, "")).await?;
    let message = case.numerous(1000, "").options(&option("msftwinrm:UsePreciseArrays", "true"));
    let precise = case.items(&message).await?;
    let marked = |items: &[Node]| {
        items
            .iter()
            .flat_map(|item| &item.children)
            .filter(|child| child.attribute(Ns::MsWsman, "IsNullArray") == Some("true"))
            .count()
    };
    let nil = precise
        .iter()
        .flat_map(|item| &item.children)
        .filter(|child| child.attribute(Ns::MsWsman, "IsNullArray").is_some())
        .all(Node::is_nil);
    case.that(marked(&plain) == 0, "no IsNullArray without the option")?;
    case.that(marked(&precise) > 0 && nil, "nil elements with IsNullArray with the option")
}

async fn range(case: &mut Case) -> Checked {
    let method = case.subject.profile.method.clone();
    let service = case.service()?;
    let either = [("w:InvalidParameter", Some("TypeMismatch")), ("w:InvalidParameter", Some("InvalidValue"))];
    for value in ["65536", "-1", "1.5"] {
        let input = format!("<r:{0}>{1}</r:{0}>", method.number, escaped(value));
        case.fault_of(&service.invoke(&method.name, &input), &either).await?;
    }
    Ok(())
}

async fn char16(case: &mut Case) -> Checked {
    let Some(char16) = case.subject.profile.probe.clone().and_then(|probe| probe.char16) else {
        return Err(Stop::NotApplicable("the profile names no method with a char16".to_owned()));
    };
    let target = first_of(case, &char16.namespace, &char16.class).await?;
    let mut values = Vec::new();
    for text in ["65", "A"] {
        let input = format!("<r:{0}>{text}</r:{0}>", char16.input);
        let answer = case.ok(&target.invoke(&char16.method, &input)).await?;
        values.push(answer.body().map_or("", |body| body.text_at(&char16.output)).to_owned());
    }
    let same = values.first() == values.last();
    case.that(same && values.iter().all(|value| value == "65" || value == "A"), "the same character for 65 and for A")
}
