//! Parts E and G: methods (DSP0226 clause 9) and Identify (clause 11).

use super::super::case::{Case, Checked};
use super::super::message::{IDENTIFY, Message};
use super::super::row::{Row, rows};
use super::super::subject::{anonymous, soap_request};
use crate::client::RawRequest;
use crate::conformance::answer::Answer;
use crate::xml::Ns;

pub(super) static METHODS: &[Row] = rows! {
    "C091", "DSP0226 9", "a method has an Action of its own under the URI of its class" => own_action;
    "C092", "DSP0226 9", "the Action of the answer is that of the method with Response" => method_response;
    "C093", "DSP0226 9", "an unknown method is an action that is not supported" => unknown_method;
    "C094", "DSP0226 9", "a method is called with METHOD_INPUT and answers METHOD_OUTPUT" => wrappers;
};

pub(super) static IDENTIFY_ROWS: &[Row] = rows! {
    "C112", "DSP0226 11", "Identify needs no addressing headers" => identify_bare;
    "C113", "DSP0226 11", "Identify names the protocol version" => identify_version;
    "C114", "DSP0226 11", "unknown parts of Identify are ignored" => identify_extended;
    "C115", "MS-WSMV", "Identify without credentials is answered where it is asked for so" => identify_header;
    "C116", "MS-WSMV", "strangers are not told the version of the system" => identify_masked;
    "C117", "MS-WSMV", "the header of Identify opens nothing else" => identify_only;
};

async fn own_action(case: &mut Case) -> Checked {
    let message = case.harmless()?;
    let uri = case.service()?.resource;
    case.that(
        message.action.as_deref().is_some_and(|action| action.starts_with(&uri)),
        "an Action below the class URI",
    )?;
    let answer = case.send(&message).await?;
    let output = answer.body().is_some_and(|body| body.child("ReturnValue").is_some());
    case.that(output, "the output of the method")?;
    // The class may be spelled in any case; the method decides.
    let folded = message.with(|message| {
        message.action = message.action.take().map(|action| {
            let (class, method) = action.rsplit_once('/').unwrap_or(("", &action));
            format!("{class}/{}", method.to_lowercase())
        });
    });
    case.ok(&folded).await?;
    Ok(())
}

async fn method_response(case: &mut Case) -> Checked {
    let message = case.harmless()?;
    let expected = format!("{}Response", message.action.clone().unwrap_or_default());
    let answer = case.send(&message).await?;
    case.that(answer.text_at("Header/Action") == expected, format!("Action {expected}"))
}

async fn unknown_method(case: &mut Case) -> Checked {
    let message = case.service()?.invoke("NoSuchMethod", "");
    case.fault(&message, "a:ActionNotSupported", None).await?;
    Ok(())
}

async fn wrappers(case: &mut Case) -> Checked {
    let message = case.harmless()?;
    let uri = case.service()?.resource;
    let name = format!("{}_OUTPUT", case.subject.profile.method.name);
    let answer = case.send(&message).await?;
    let right = answer.body().is_some_and(|body| body.local == name && body.ns.eq_ignore_ascii_case(&uri));
    case.that(right, format!("{name} in the namespace of the class"))
}

fn identity(answer: &Answer) -> Option<&crate::conformance::node::Node> {
    answer.body().filter(|body| body.is(Ns::Identity, "IdentifyResponse"))
}

async fn identify_bare(case: &mut Case) -> Checked {
    let answer = case.raw(&soap_request(IDENTIFY)).await?;
    case.that(answer.status == 200 && identity(&answer).is_some(), "wsmid:IdentifyResponse")
}

async fn identify_version(case: &mut Case) -> Checked {
    let answer = case.raw(&soap_request(IDENTIFY)).await?;
    let versions = answer.body().map_or_else(Vec::new, |body| {
        body.children
            .iter()
            .filter(|child| child.local == "ProtocolVersion")
            .map(|child| child.text.trim().to_owned())
            .collect()
    });
    let known = versions.iter().any(|version| version == "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd");
    case.that(known, "ProtocolVersion http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd")
}

async fn identify_extended(case: &mut Case) -> Checked {
    let text = IDENTIFY
        .replace("<i:Identify/>", "<i:Identify><c:More xmlns:c=\"urn:wsnapd:conformance\">1</c:More></i:Identify>");
    let answer = case.raw(&soap_request(&text)).await?;
    case.that(answer.status == 200 && !answer.is_fault(), "an ordinary answer")
}

/// A request without credentials that says so.
fn stranger(text: &str) -> RawRequest {
    let mut request = anonymous(text, None);
    request.headers.push(("WSMANIDENTIFY".to_owned(), "unauthenticated".to_owned()));
    request
}

async fn identify_header(case: &mut Case) -> Checked {
    let answer = case.raw(&stranger(IDENTIFY)).await?;
    case.that(answer.status == 200, "HTTP 200")?;
    let hidden = answer.tree.as_ref().is_some_and(|tree| tree.find("SecurityProfiles").is_none());
    case.that(hidden, "no SecurityProfiles")
}

async fn identify_masked(case: &mut Case) -> Checked {
    let answer = case.raw(&stranger(IDENTIFY)).await?;
    let version = answer.body().map_or("", |body| body.text_at("ProductVersion"));
    let masked =
        version.is_empty() || version == "OS: 0.0.0 SP: 0.0 Stack: 3.0" || version == "OS: 0.0.0 SP: 0.0 Stack: 2.0";
    case.that(masked, format!("no version, or OS: 0.0.0 SP: 0.0 Stack: 3.0; it was \"{version}\""))
}

async fn identify_only(case: &mut Case) -> Checked {
    let message: Message = case.get()?;
    let text = message.text(&case.subject.new_id());
    let answer = case.raw(&stranger(&text)).await?;
    case.that(answer.status == 401, "HTTP 401")
}
