//! Part C: resource access (DSP0226 clause 7).

use super::super::case::{Case, Checked, Stop};
use super::super::message::{CONFIG, Message, TRANSFER, XPATH, escaped};
use super::super::row::{Row, rows};
use super::super::subject::{EPR_TOO, Found, MARK};
use crate::conformance::answer::Answer;
use crate::xml::Ns;

pub(super) static ROWS: &[Row] = rows! {
    "C050", "DSP0226 7.1", "a transfer operation that is not offered is an action that is not supported" => not_all_operations;
    "C051", "DSP0226 7.2", "one reference serves all operations" => one_reference;
    "C052", "DSP0226 7.3", "Get answers one element" => one_child;
    "C053", "DSP0226 7.3", "Get changes nothing" => get_changes_nothing;
    "C054", "DSP0226 7.4", "Put of a wrong representation is refused" => put_wrong;
    "C055", "DSP0226 7.4", "Put does not change keys" => put_key;
    "C056", "DSP0226 7.4", "Put answers the representation, or nothing" => put_answer;
    "C057", "DSP0226 7.5", "Delete of what is not there is refused" => delete_missing;
    "C058", "DSP0226 7.6", "Create of what is there is refused" => create_existing;
    "C059", "R7.6-5", "Create answers the reference of what it made" => create_reference;
    "C060", "R7.7-1", "a fragment is read alone, or refused" => fragment_alone;
    "C061", "DSP0226 7.7", "an unknown fragment dialect is refused" => fragment_dialect;
    "C062", "DSP0226 7.7", "a fragment is wrapped in w:XmlFragment" => fragment_wrapper;
    "C063", "MS-WSMV", "a fragment header without mustUnderstand is refused" => fragment_mark;
    "C064", "MS-WSMV", "a fragment path from the root is refused" => fragment_root;
};

/// An instance element of the first instance's class.
fn representation(found: &Found, properties: &str) -> String {
    format!("<r:{0} xmlns:r=\"{1}\">{properties}</r:{0}>", found.node.local, escaped(&found.resource))
}

async fn not_all_operations(case: &mut Case) -> Checked {
    let service = case.service()?;
    let body = representation(&service, "");
    let answer = case.send(&service.transfer("Put", &body)).await?;
    let offered = answer.status == 200 && !answer.is_fault();
    case.that(offered || answer.has_fault("a:ActionNotSupported", None), "the fault a:ActionNotSupported")
}

async fn one_reference(case: &mut Case) -> Checked {
    let first = case.first()?;
    case.ok(&first.get()).await?;
    if let Ok(service) = case.service() {
        case.ok(&service.get()).await?;
        let call = case.harmless()?;
        case.ok(&call).await?;
    }
    Ok(())
}

async fn one_child(case: &mut Case) -> Checked {
    let answer = case.send(&case.get()?).await?;
    let children = answer.at("Body").map_or(0, |body| body.children.len());
    case.that(children == 1 && !answer.is_fault(), format!("one element in the body; {children} came"))
}

async fn get_changes_nothing(case: &mut Case) -> Checked {
    let first = case.first()?;
    let names = |answer: &Answer| -> Vec<String> {
        answer.body().map_or_else(Vec::new, |body| body.children.iter().map(|child| child.local.clone()).collect())
    };
    let before = case.ok(&first.get()).await?;
    let after = case.ok(&first.get()).await?;
    case.that(names(&before) == names(&after), "the same properties as before")?;
    for property in first.selectors.iter().map(|(name, _)| name.as_str()).chain([case
        .subject
        .profile
        .cim
        .text_property
        .clone()
        .as_str()])
    {
        let value = |answer: &Answer| answer.body().map(|body| body.text_at(property).to_owned());
        case.that(value(&before) == value(&after), format!("the same {property} as before"))?;
    }
    Ok(())
}

/// What Put is tried with: an instance, a property of it that is a text and one that is a number.
async fn writable(case: &Case) -> Result<(Found, String, String), Stop> {
    let Some(put) = case.subject.profile.put.clone() else {
        let cim = &case.subject.profile.cim;
        return Ok((case.first()?, cim.text_property.clone(), cim.number_property.clone()));
    };
    let list = Message::list(case.subject.class_uri(&put.class), 10, EPR_TOO);
    let first = case.subject.found(&list).await.into_iter().next();
    let first = first.ok_or_else(|| Stop::Fail(format!("class {} has no instance", put.class)))?;
    Ok((first, put.text_property, put.number_property))
}

async fn put_wrong(case: &mut Case) -> Checked {
    let (first, _, number) = writable(case).await?;
    let foreign = format!("<r:{0} xmlns:r=\"urn:wsnapd:conformance\"/>", first.node.local);
    let value = representation(&first, &format!("<r:{number}>abc</r:{number}>"));
    let unknown = representation(&first, "<r:NoSuchProperty>1</r:NoSuchProperty>");
    for body in [value, unknown, foreign] {
        let answer = case.send(&first.transfer("Put", &body)).await?;
        case.offered_or(&answer)?;
        case.is_fault(&answer, "x:InvalidRepresentation", None)?;
    }
    Ok(())
}

async fn put_key(case: &mut Case) -> Checked {
    let (first, _, _) = writable(case).await?;
    let key = first.selectors.iter().map(|(name, _)| name.clone()).rfind(|name| !name.starts_with("__"));
    let key = key.unwrap_or_default();
    let body = representation(&first, &format!("<r:{key}>C0FFEE00-0000-4000-8000-000000000000</r:{key}>"));
    let answer = case.send(&first.transfer("Put", &body)).await?;
    case.offered_or(&answer)?;
    case.is_fault(&answer, "x:InvalidRepresentation", None)?;
    case.ok(&first.get()).await?;
    Ok(())
}

async fn put_answer(case: &mut Case) -> Checked {
    let (first, name, _) = writable(case).await?;
    let old = escaped(first.property(&name));
    let new = format!("{old} &amp;c");
    let put = |value: &str| first.transfer("Put", &representation(&first, &format!("<r:{name}>{value}</r:{name}>")));
    let answer = case.send(&put(&new)).await?;
    case.offered_or(&answer)?;
    let now = case.ok(&first.get()).await?;
    // Whatever came of it, the old value is put back.
    case.ok(&put(&old)).await?;
    let shown = answer.status == 200 && answer.body().is_none_or(|body| escaped(body.text_at(&name)) == new);
    case.that(shown, "the representation with the value that was put, or an empty body")?;
    case.that(now.body().is_some_and(|body| escaped(body.text_at(&name)) == new), "the value that was put")?;
    let now = case.ok(&first.get()).await?;
    case.that(now.body().is_some_and(|body| escaped(body.text_at(&name)) == old), "the old value again")
}

async fn delete_missing(case: &mut Case) -> Checked {
    let message = if case.subject.profile.create.is_some() {
        let (found, body) = creatable(case)?;
        let answer = case.send(&create(&found, &body)).await?;
        case.offered_or(&answer)?;
        let delete = made(case, &answer)?.transfer("Delete", "");
        let deleted = case.ok(&delete).await?;
        case.that(deleted.body().is_none(), "an empty body")?;
        delete
    } else {
        case.get_missing()?.with(|message| message.action = Some(format!("{TRANSFER}/Delete")))
    };
    let answer = case.send(&message).await?;
    case.offered_or(&answer)?;
    case.is_fault(&answer, "a:DestinationUnreachable", None)
}

/// Create of a representation, without selectors but the namespace.
fn create(found: &Found, body: &str) -> Message {
    let namespace = found.selectors.iter().find(|(name, _)| name.starts_with("__"));
    let selectors = namespace.map(|(name, value)| super::super::message::selector(name, value));
    let message = Message::new(format!("{TRANSFER}/Create"), &found.resource).body(body);
    Message { selectors, ..message }
}

async fn create_existing(case: &mut Case) -> Checked {
    let (found, body) = creatable(case)?;
    let answer = case.send(&create(&found, &body)).await?;
    case.offered_or(&answer)?;
    let first = made(case, &answer)?;
    let again = case.send(&create(&found, &body)).await?;
    let undone = case.send(&first.transfer("Delete", "")).await?;
    case.that(again.has_fault("w:AlreadyExists", None), "the fault w:AlreadyExists for the second Create")?;
    case.that(!undone.is_fault(), "that what was made can be deleted")
}

async fn create_reference(case: &mut Case) -> Checked {
    let (found, body) = creatable(case)?;
    let answer = case.send(&create(&found, &body)).await?;
    case.offered_or(&answer)?;
    let first = made(case, &answer)?;
    case.ok(&first.get()).await?;
    case.ok(&first.transfer("Delete", "")).await?;
    Ok(())
}

/// What can be created: as the profile says, else another instance of the class, which most servers refuse.
fn creatable(case: &Case) -> Result<(Found, String), Stop> {
    let first = case.first()?;
    let Some(create) = &case.subject.profile.create else {
        let keys: Vec<String> =
            first.keys().map(|(name, value)| format!("<r:{name}>{}</r:{name}>", escaped(value))).collect();
        let body = representation(&first, &keys.concat());
        return Ok((first, body));
    };
    let resource = case.subject.class_uri(&create.class);
    let id = case.subject.new_id();
    let body = create.body.replace("{id}", id.trim_start_matches("uuid:")).replace("{name}", MARK);
    let body = format!("<r:{0} xmlns:r=\"{1}\">{body}</r:{0}>", create.class, escaped(&resource));
    Ok((Found { resource, ..Found::default() }, body))
}

fn made(case: &mut Case, answer: &Answer) -> Result<Found, Stop> {
    let created = answer.body().filter(|body| body.is(Ns::Transfer, "ResourceCreated"));
    let found = created.and_then(|created| Found::of_reference(created, super::super::node::Node::default()));
    case.that(found.is_some(), "x:ResourceCreated with a reference")?;
    found.ok_or_else(|| Stop::Fail("no reference".to_owned()))
}

/// Get of a fragment of the first instance.
fn fragment(case: &Case, attributes: &str, path: &str) -> Result<Message, Stop> {
    Ok(case.get()?.header(&format!("<w:FragmentTransfer{attributes}>{path}</w:FragmentTransfer>")))
}

const MUST: &str = " s:mustUnderstand=\"true\"";

/// Ends the check where fragments are not offered.
fn fragments_offered(answer: &Answer) -> Checked {
    if answer.has_fault("w:UnsupportedFeature", Some("FragmentLevelAccess")) {
        return Err(Stop::NotOffered(answer.fault_text()));
    }
    Ok(())
}

async fn fragment_alone(case: &mut Case) -> Checked {
    let name = case.subject.profile.cim.text_property.clone();
    let mut messages = vec![fragment(case, MUST, &name)?];
    if case.subject.setting_text("MaxEnvelopeSizekb").is_some() {
        messages.push(
            Message::get(CONFIG).header(&format!("<w:FragmentTransfer{MUST}>MaxBatchItems</w:FragmentTransfer>")),
        );
    }
    for message in messages {
        let answer = case.send(&message).await?;
        let alone = answer.body().is_some_and(|body| body.local == "XmlFragment" && body.children.len() == 1);
        let refused = answer.has_fault("w:UnsupportedFeature", Some("FragmentLevelAccess"));
        case.that(alone || refused, "the fragment alone, or the fault w:UnsupportedFeature with FragmentLevelAccess")?;
    }
    Ok(())
}

async fn fragment_dialect(case: &mut Case) -> Checked {
    let message = fragment(case, &format!("{MUST} Dialect=\"urn:x\""), "Name")?;
    let answer = case.send(&message).await?;
    fragments_offered(&answer)?;
    case.is_fault(&answer, "w:FragmentDialectNotSupported", None)
}

async fn fragment_wrapper(case: &mut Case) -> Checked {
    let name = case.subject.profile.cim.text_property.clone();
    let message = fragment(case, &format!("{MUST} Dialect=\"{XPATH}\""), &name)?;
    let answer = case.send(&message).await?;
    fragments_offered(&answer)?;
    let wrapped = answer.body().filter(|body| body.is(Ns::Wsman, "XmlFragment"));
    let inside = wrapped.is_some_and(|body| body.children.iter().any(|child| child.local == name));
    case.that(inside, format!("w:XmlFragment with {name} inside"))
}

async fn fragment_mark(case: &mut Case) -> Checked {
    let name = case.subject.profile.cim.text_property.clone();
    let answer = case.send(&fragment(case, "", &name)?).await?;
    fragments_offered(&answer)?;
    case.is_fault(&answer, "a:InvalidMessageInformationHeader", None)
}

async fn fragment_root(case: &mut Case) -> Checked {
    let name = case.subject.profile.cim.text_property.clone();
    let answer = case.send(&fragment(case, MUST, &format!("/{name}"))?).await?;
    fragments_offered(&answer)?;
    case.is_fault(&answer, "w:CannotProcessFilter", None)
}
