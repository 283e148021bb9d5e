//! The `Content-Type` of a request (`ws-management.md` §2.2).

use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};

use super::{sealing, sealing_tls};

/// What `Content-Type` says of the charset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeclaredCharset {
    /// No `charset` parameter.
    Absent,
    /// UTF-8 or its subset US-ASCII.
    Utf8,
    /// UTF-16 in either byte order.
    Utf16,
    /// One that is not read here.
    Other,
    /// The body is compressed or otherwise coded, so its charset does not matter.
    Coded,
}

/// How the envelope of a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is, in this charset.
    Clear(DeclaredCharset),
    /// Sealed, inside `multipart/encrypted`.
    Sealed,
    /// The same with TLS records, as CredSSP seals.
    SealedByTls,
}

/// Checks coding and media type of a request that has a body.
///
/// # Errors
/// 415 for a media type that is not that of SOAP 1.2, 400 for a `Content-Type` that is missing or
/// cannot be read.
pub(super) fn check(headers: &HeaderMap) -> Result<Form, StatusCode> {
    let value = headers.get(CONTENT_TYPE).ok_or(StatusCode::BAD_REQUEST)?;
    let value = value.to_str().map_err(|_| StatusCode::BAD_REQUEST)?;
    let coded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    let coded = headers.get(CONTENT_ENCODING).is_some_and(coded);
    if sealing::announced_by(value) {
        return if coded { Err(StatusCode::UNSUPPORTED_MEDIA_TYPE) } else { Ok(Form::Sealed) };
    }
    if sealing_tls::announced_by(value) {
        return if coded { Err(StatusCode::UNSUPPORTED_MEDIA_TYPE) } else { Ok(Form::SealedByTls) };
    }
    let charset = parse(value)?;
    Ok(Form::Clear(if coded { DeclaredCharset::Coded } else { charset }))
}

/// Reads the media type of an envelope.
pub(super) fn parse(value: &str) -> Result<DeclaredCharset, StatusCode> {
    let (media_type, parameters) = value.split_once(';').unwrap_or((value, ""));
    let media_type = media_type.trim();
    let (main, sub) = media_type.split_once('/').ok_or(StatusCode::BAD_REQUEST)?;
    if main.is_empty() || sub.is_empty() || media_type.contains([' ', '\t', ',']) {
        return Err(StatusCode::BAD_REQUEST);
    }
    if !media_type.eq_ignore_ascii_case("application/soap+xml") && !media_type.eq_ignore_ascii_case("text/xml") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    // A quoted parameter could hold a semicolon; of those a SOAP message has only `action`, whose
    // tail then reads as a parameter of an unknown name and is passed over.
    for parameter in parameters.split(';') {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("charset") {
            let value = value.trim().trim_matches('"');
            return Ok(if value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("us-ascii") {
                DeclaredCharset::Utf8
            } else if ["utf-16", "utf-16le", "utf-16be"].iter().any(|known| value.eq_ignore_ascii_case(known)) {
                DeclaredCharset::Utf16
            } else {
                DeclaredCharset::Other
            });
        }
    }
    Ok(DeclaredCharset::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_read_as_clients_write_them() {
        let cases: &[(&str, Result<DeclaredCharset, StatusCode>)] = &[
            ("application/soap+xml;charset=UTF-8", Ok(DeclaredCharset::Utf8)),
            ("application/soap+xml; charset=utf-8", Ok(DeclaredCharset::Utf8)),
            ("Application/SOAP+XML ; Charset=\"UTF-16\"", Ok(DeclaredCharset::Utf16)),
            ("application/soap+xml", Ok(DeclaredCharset::Absent)),
            ("text/xml; action=\"a;b\"; charset=utf-16", Ok(DeclaredCharset::Utf16)),
            ("application/soap+xml;charset=iso-8859-1", Ok(DeclaredCharset::Other)),
            ("application/json", Err(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
            ("multipart/encrypted;protocol=\"x\"", Err(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
            ("", Err(StatusCode::BAD_REQUEST)),
            ("soap", Err(StatusCode::BAD_REQUEST)),
            ("application/", Err(StatusCode::BAD_REQUEST)),
            ("a b/c", Err(StatusCode::BAD_REQUEST)),
        ];
        for (value, expected) in cases {
            assert_eq!(parse(value), *expected, "{value}");
        }
    }
}
