//! Part H: security and encoding (DSP0226 clauses 12 and 13).

use bytes::Bytes;

use super::super::case::{Case, Checked, Stop};
use super::super::message::Message;
use super::super::row::{Row, rows};
use super::super::subject::{MEDIA_TYPE, soap_request};
use super::control::utf16_request;
use crate::client::{RawClient, RawRequest};
use crate::conformance::answer::TextEncoding;
use crate::xml::Ns;

pub(super) static ROWS: &[Row] = rows! {
    "C118", "DSP0226 12", "credentials in clear text are refused unless the server is configured so" => clear_text;
    "C119", "R13.1-1", "envelopes are SOAP 1.2" => soap12;
    "C120", "DSP0226 13.1", "SOAP 1.1 is a version mismatch" => soap11;
    "C121", "DSP0226 13.1", "UTF-8 and UTF-16 are read, with and without a mark" => encodings;
    "C122", "R13.1-5", "an answer comes in the encoding of its request; others are refused" => same_encoding;
    "C123", "R13.1-6", "URIs of 2048 characters are read, longer ones refused" => long_uris;
    "C124", "DSP0226 13.1", "envelopes of 8192 octets are read" => long_envelopes;
    "C125", "R13.1-9", "a header is there once" => duplicate_headers;
    "C126", "DSP0226 13.1", "document types and processing instructions are refused" => no_dtd;
    "C127", "DSP0226 13.1", "white space around a URI does no harm, or is refused as such" => white_space;
    "C128", "DSP0226 13.5", "attachments are refused" => attachments;
};

async fn clear_text(case: &mut Case) -> Checked {
    let url = case.subject.profile.clear_text_url.clone();
    let Some(url) = url.or_else(|| Some(case.subject.options.url.clone()).filter(|url| url.starts_with("http://")))
    else {
        return Err(Stop::NotApplicable("the profile names no address without TLS (clear_text_url)".to_owned()));
    };
    let mut options = case.subject.options.clone();
    options.url = url;
    let client = RawClient::new(&options).map_err(|error| Stop::Fail(error.to_string()))?;
    let text = case.get()?.text(&case.subject.new_id());
    let answer = case.raw_as(&client, &soap_request(&text)).await?;
    let refused = matches!(answer.status, 401 | 403) || answer.has_fault("w:AccessDenied", None);
    let configured = case.subject.setting_text("Service/AllowUnencrypted") == Some("true");
    case.that(
        refused || configured,
        "HTTP 401 or 403, or the fault w:AccessDenied, unless AllowUnencrypted is true in winrm/config",
    )
}

async fn soap12(case: &mut Case) -> Checked {
    for message in [case.get()?, case.get_missing()?] {
        let answer = case.send(&message).await?;
        let right = answer.tree.as_ref().is_some_and(|tree| tree.is(Ns::Soap, "Envelope"));
        case.that(right, "an envelope of SOAP 1.2")?;
    }
    Ok(())
}

async fn soap11(case: &mut Case) -> Checked {
    let text = case.get()?.text(&case.subject.new_id());
    let old = text.replace("http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/soap/envelope/");
    let answer = case.raw(&soap_request(&old)).await?;
    case.is_fault(&answer, "s:VersionMismatch", None)
}

/// A request of these bytes and this media type.
fn bytes_request(bytes: Vec<u8>, media_type: &str) -> RawRequest {
    RawRequest {
        headers: vec![("Content-Type".to_owned(), media_type.to_owned())],
        body: Bytes::from(bytes),
        ..soap_request("")
    }
}

async fn encodings(case: &mut Case) -> Checked {
    const UTF16: &str = "application/soap+xml;charset=UTF-16";
    let text = case.get()?.text(&case.subject.new_id());
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let marked = |mark: &[u8], body: &[u8]| [mark, body].concat();
    for (what, bytes, media_type) in [
        ("UTF-8", text.clone().into_bytes(), MEDIA_TYPE),
        ("UTF-8 with a mark", marked(&[0xef, 0xbb, 0xbf], text.as_bytes()), MEDIA_TYPE),
        ("UTF-16 little-endian with a mark", marked(&[0xff, 0xfe], &little), UTF16),
        ("UTF-16 big-endian with a mark", marked(&[0xfe, 0xff], &big), UTF16),
        ("UTF-16 little-endian", little, UTF16),
        ("UTF-16 big-endian", big, UTF16),
    ] {
        let answer = case.raw(&bytes_request(bytes, media_type)).await?;
        let good = answer.status == 200 && answer.tree.is_some() && !answer.is_fault();
        case.that(good, format!("an ordinary answer to {what}"))?;
    }
    Ok(())
}

async fn same_encoding(case: &mut Case) -> Checked {
    let text = case.get()?.text(&case.subject.new_id());
    let answer = case.raw(&utf16_request(&text)).await?;
    let told = answer.raw.header("content-type").is_some_and(|value| value.to_lowercase().contains("utf-16"));
    case.that(told && answer.encoding == TextEncoding::Utf16, "an answer in UTF-16")?;
    let answer = case.raw(&soap_request(&text)).await?;
    case.that(answer.encoding == TextEncoding::Utf8, "an answer in UTF-8")?;
    let request = bytes_request(text.into_bytes(), "application/soap+xml;charset=ISO-8859-1");
    let answer = case.raw(&request).await?;
    case.is_fault(&answer, "w:EncodingLimit", Some("CharacterSet"))?;
    case.that(answer.encoding == TextEncoding::Utf8, "a fault in UTF-8")
}

async fn long_uris(case: &mut Case) -> Checked {
    let uri = format!("{}/", case.subject.class_uri("X").trim_end_matches("/X"));
    let of_length = |length: usize| format!("{uri}{}", "x".repeat(length.saturating_sub(uri.len())));
    let answer = case.send(&Message::get(of_length(2048))).await?;
    case.that(answer.is_fault() && !answer.has_fault("w:EncodingLimit", None), "a fault, but not w:EncodingLimit")?;
    case.fault(&Message::get(of_length(3000)), "w:EncodingLimit", Some("URILimitExceeded")).await?;
    Ok(())
}

async fn long_envelopes(case: &mut Case) -> Checked {
    let filling = format!("<c:Filling xmlns:c=\"urn:wsnapd:conformance\">{}</c:Filling>", "x".repeat(8192));
    let message = case.get()?.header(&filling);
    case.ok(&message).await?;
    Ok(())
}

async fn duplicate_headers(case: &mut Case) -> Checked {
    let get = case.get()?;
    let action = format!("<a:Action>{}</a:Action>", get.action.clone().unwrap_or_default());
    for twice in [action.as_str(), "<a:To>http://conformance.invalid/wsman</a:To>"] {
        case.fault(&get.clone().header(twice), "a:InvalidMessageInformationHeader", None).await?;
    }
    Ok(())
}

async fn no_dtd(case: &mut Case) -> Checked {
    let text = case.get()?.text(&case.subject.new_id());
    let bomb = "<!DOCTYPE b [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">\
                <!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\"><!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;\">]>";
    for before in ["<!DOCTYPE s:Envelope SYSTEM \"http://conformance.invalid/x.dtd\">", "<?conformance a=\"b\"?>", bomb]
    {
        let answer = case.raw(&soap_request(&format!("{before}{text}"))).await?;
        case.that(answer.is_fault(), "a fault")?;
    }
    let answer = case.send(&case.get()?).await?;
    case.that(!answer.is_fault(), "that the server goes on")
}

async fn white_space(case: &mut Case) -> Checked {
    let message = case.get()?.with(|get| get.resource = get.resource.take().map(|uri| format!("\n\t {uri} \n")));
    let answer = case.send(&message).await?;
    let good = answer.status == 200 && !answer.is_fault();
    let refused = answer.has_fault("w:EncodingLimit", Some("Whitespace"));
    case.that(good || refused, "an ordinary answer, or the fault w:EncodingLimit with Whitespace")
}

async fn attachments(case: &mut Case) -> Checked {
    let text = case.get()?.text(&case.subject.new_id());
    let body = format!("--part\r\nContent-Type: application/soap+xml\r\n\r\n{text}\r\n--part--\r\n");
    let request = bytes_request(body.into_bytes(), "multipart/related; boundary=part; type=\"application/soap+xml\"");
    let answer = case.raw(&request).await?;
    case.that(matches!(answer.status, 400 | 415), "HTTP 415 or 400")
}
