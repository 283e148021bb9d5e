//! `multipart/encrypted` around a sealed envelope (`[MS-WSMV]` 2.2.9.1, `authentication.md` §7).
//!
//! Pure: it takes the parts apart and puts them together; the security context does the sealing. The
//! closing boundary is never searched for, because sealed bytes may hold anything: the lengths say
//! where it has to be.

use crate::wsman::Encoding;

use super::media_type::{self, DeclaredCharset};

/// The label of messages sealed by a context of Negotiate.
const PROTOCOL: &str = "application/HTTP-SPNEGO-session-encrypted";
/// `boundary` comes last, because pypsrp reads up to the last quote.
pub(super) const CONTENT_TYPE: &str =
    "multipart/encrypted;protocol=\"application/HTTP-SPNEGO-session-encrypted\";boundary=\"Encrypted Boundary\"";
const BOUNDARY: &[u8] = b"Encrypted Boundary";
/// The signature of a message.
const SIGNATURE_BYTES: u32 = 16;
/// The longest line of a part's head.
const MAX_LINE: usize = 512;
/// Lines in the head of a part.
pub(super) const MAX_LINES: usize = 8;
/// What the parts may add to the envelope.
pub(super) const MAX_OVERHEAD: usize = 4096;

/// A sealed message, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SealedMessage<'a> {
    /// What the envelope is encoded in.
    pub(super) charset: DeclaredCharset,
    pub(super) signature: &'a [u8; 16],
    pub(super) data: &'a [u8],
}

/// Whether a `Content-Type` announces a sealed message.
pub(super) fn announced_by(content_type: &str) -> bool {
    let mut parts = content_type.split(';');
    let media_type = parts.next().unwrap_or_default();
    let protocol =
        parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("protocol"));
    media_type.trim().eq_ignore_ascii_case("multipart/encrypted")
        && protocol.is_some_and(|(_, value)| value.trim().trim_matches('"').eq_ignore_ascii_case(PROTOCOL))
}

/// Takes a message apart of which the envelope has at most `limit` bytes.
pub(super) fn parse(body: &[u8], limit: usize) -> Option<SealedMessage<'_>> {
    let mut rest = Lines(body);
    is_boundary(rest.next()?).then_some(())?;
    let (mut of_protocol, mut original) = (false, None);
    for _ in 0..=MAX_LINES {
        let line = rest.next()?;
        if is_boundary(line) {
            let (charset, length) = original.filter(|(_, length)| of_protocol && *length <= limit)?;
            // `Content-Type: application/octet-stream`, and then the bytes without an empty line.
            rest.next()?;
            return sealed(rest.0, charset, length);
        }
        // Ruby and omicli write no TAB before the line.
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        match name.trim() {
            name if name.eq_ignore_ascii_case("Content-Type") => {
                of_protocol = value.trim().eq_ignore_ascii_case(PROTOCOL);
            }
            name if name.eq_ignore_ascii_case("OriginalContent") => original = Some(original_content(value)?),
            _ => {}
        }
    }
    None
}

/// `type=application/soap+xml;charset=UTF-8;Length=1234`
pub(super) fn original_content(value: &str) -> Option<(DeclaredCharset, usize)> {
    let charset = media_type::parse(value.trim().strip_prefix("type=")?).ok()?;
    let (_, length) = value
        .split(';')
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("Length"))?;
    let length = length.trim();
    length.bytes().all(|digit| digit.is_ascii_digit()).then_some(())?;
    Some((charset, length.parse().ok()?))
}

fn sealed(bytes: &[u8], charset: DeclaredCharset, length: usize) -> Option<SealedMessage<'_>> {
    let (header, rest) = bytes.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*header) == SIGNATURE_BYTES).then_some(())?;
    let (signature, rest) = rest.split_first_chunk::<16>()?;
    let (data, rest) = rest.split_at_checked(length)?;
    // winrm-rs 1.1 ends the line before the closing boundary.
    let rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
    let rest = rest.strip_suffix(b"\r\n").unwrap_or(rest);
    is_boundary(rest.strip_suffix(b"--")?).then_some(SealedMessage { charset, signature, data })
}

/// Some peers write a blank after the two hyphens.
pub(super) fn is_boundary(line: &[u8]) -> bool {
    line.strip_prefix(b"--").is_some_and(|name| name.strip_prefix(b" ").unwrap_or(name) == BOUNDARY)
}

/// Lines that end in CR LF.
pub(super) struct Lines<'a>(pub(super) &'a [u8]);

impl<'a> Lines<'a> {
    pub(super) fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().take(MAX_LINE).position(|byte| *byte == b'\n')?;
        let (line, rest) = self.0.split_at_checked(end + 1)?;
        self.0 = rest;
        line.strip_suffix(b"\r\n")
    }
}

/// Puts a message together.
pub(super) fn write(encoding: Encoding, signature: &[u8; 16], data: &[u8]) -> Vec<u8> {
    let charset = match encoding {
        Encoding::Utf8 => "UTF-8",
        Encoding::Utf16 => "UTF-16",
    };
    let mut body = Vec::with_capacity(data.len() + MAX_LINE);
    body.extend_from_slice(b"--Encrypted Boundary\r\n\tContent-Type: ");
    body.extend_from_slice(PROTOCOL.as_bytes());
    body.extend_from_slice(b"\r\n\tOriginalContent: type=application/soap+xml;charset=");
    body.extend_from_slice(charset.as_bytes());
    body.extend_from_slice(b";Length=");
    body.extend_from_slice(data.len().to_string().as_bytes());
    body.extend_from_slice(b"\r\n--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n");
    body.extend_from_slice(&SIGNATURE_BYTES.to_le_bytes());
    body.extend_from_slice(signature);
    body.extend_from_slice(data);
    body.extend_from_slice(b"--Encrypted Boundary--\r\n");
    body
}

/// Whether bytes are a sealed message, for fuzzing.
#[must_use]
pub fn reads(body: &[u8]) -> bool {
    parse(body, body.len()).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data holds what looks like the closing boundary.
    const DATA: &[u8] = b"x--Encrypted Boundary--\r\n";

    fn variant(change: impl Fn(&str) -> String) -> Option<Vec<u8>> {
        let whole = write(Encoding::Utf8, &[b'S'; 16], DATA);
        let text = change(std::str::from_utf8(&whole).unwrap());
        parse(text.as_bytes(), DATA.len()).map(|message| {
            assert_eq!((message.signature, message.charset), (&[b'S'; 16], DeclaredCharset::Utf8));
            message.data.to_vec()
        })
    }

    #[test]
    fn messages_are_read_as_clients_write_them() {
        type Change = fn(&str) -> String;
        let same: [Change; 6] = [
            |text| text.to_owned(),
            |text| text.replace('\t', ""),
            |text| text.replace("--Encrypted", "-- Encrypted").replacen("x-- ", "x--", 1),
            |text| text.strip_suffix("\r\n").unwrap().to_owned(),
            |text| text.replace("\r\n--Encrypted Boundary--\r\n", "\r\n\r\n--Encrypted Boundary--\r\n"),
            |text| text.replace("Content-Type", "content-type"),
        ];
        for (index, change) in same.into_iter().enumerate() {
            assert_eq!(variant(change).as_deref(), Some(DATA), "{index}");
        }
        let wrong: [Change; 11] = [
            |text| text.replace("Length=25", "Length=24"),
            |text| text.replace("Length=25", "Length=26"),
            |text| text.replace("Length=25", "Length=+25"),
            |text| text.replace("Length=25", "Length=99999999999999999999999"),
            |text| text.replace("Length=25", ""),
            |text| text.replace("SPNEGO", "Kerberos"),
            |text| text.replace("\x10\0\0\0", "\x11\0\0\0"),
            |text| text.replace("\x10\0\0\0", "\x7f\x7f\x7f\x7f"),
            |text| text.replace("soap+xml", "json"),
            |text| format!("{text}more"),
            |text| text.replace("\tContent-Type: application/HTTP", &"\tX: y\r\n".repeat(9)),
        ];
        for (index, change) in wrong.into_iter().enumerate() {
            assert_eq!(variant(change), None, "{index}");
        }
        let whole = write(Encoding::Utf8, &[0; 16], DATA);
        assert_eq!(parse(&whole, DATA.len() - 1), None, "longer than the limit");
        for end in 0..whole.len() - 2 {
            assert_eq!(parse(&whole[..end], DATA.len()), None, "cut to {end}");
        }
    }

    #[test]
    fn the_content_type_names_the_label() {
        assert!(announced_by(CONTENT_TYPE));
        assert!(announced_by(&CONTENT_TYPE.replace(';', "; ")));
        assert!(!announced_by(&CONTENT_TYPE.replace("SPNEGO", "CredSSP")));
        assert!(!announced_by("multipart/encrypted"));
        assert!(!announced_by("application/soap+xml;charset=UTF-8"));
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..260) {
            parse(&body, 1000);
            let mut damaged = write(Encoding::Utf16, &[1; 16], b"data");
            let length = damaged.len();
            damaged[at % length] = body.first().copied().unwrap_or_default();
            parse(&damaged, 1000);
        }

        #[test]
        fn what_is_written_is_read(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let body = write(Encoding::Utf16, &[7; 16], &data);
            let expected = SealedMessage { charset: DeclaredCharset::Utf16, signature: &[7; 16], data: &data };
            prop_assert_eq!(parse(&body, 300), Some(expected));
        }
    }
}
