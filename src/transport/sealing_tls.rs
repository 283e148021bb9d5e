//! `multipart/encrypted` and `multipart/x-multi-encrypted` around the TLS records of CredSSP (`[MS-WSMV]` 2.2.9.1.3,
//! `authentication.md` §9).
//!
//! Pure. TLS records say themselves how long they are, so they are counted and the boundary is never searched for:
//! no record begins with a hyphen.

use crate::wsman::Encoding;

use super::auth::Record;
use super::media_type::DeclaredCharset;
use super::sealing::{Lines, MEDIA_TYPES, is_boundary, piece_head};

/// The label of messages sealed by CredSSP.
const PROTOCOL: &str = "application/HTTP-CredSSP-session-encrypted";
/// Of an answer in one record.
pub(super) const ONE: &str =
    "multipart/encrypted;protocol=\"application/HTTP-CredSSP-session-encrypted\";boundary=\"Encrypted Boundary\"";
/// Of an answer in several.
pub(super) const SEVERAL: &str = "multipart/x-multi-encrypted;protocol=\"application/HTTP-CredSSP-session-encrypted\";boundary=\"Encrypted Boundary\"";
/// The longest that a client may say is in front of the data.
const MAX_HEADER: u32 = 1024;
/// The head of a record: its type, the version, and the length of the rest.
const RECORD_HEAD: usize = 5;
/// A sealed message, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TlsMessage {
    /// What the envelope is encoded in.
    pub(super) charset: DeclaredCharset,
    pub(super) parts: Vec<Record>,
}

/// Whether a `Content-Type` announces a message of CredSSP.
pub(super) fn announced_by(content_type: &str) -> bool {
    let mut parts = content_type.split(';');
    let media_type = parts.next().unwrap_or_default().trim();
    let protocol =
        parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("protocol"));
    MEDIA_TYPES.iter().any(|known| media_type.eq_ignore_ascii_case(known))
        && protocol.is_some_and(|(_, value)| value.trim().trim_matches('"').eq_ignore_ascii_case(PROTOCOL))
}

/// Takes a message apart of which the envelope has at most `limit` bytes.
pub(super) fn parse(body: &[u8], limit: usize) -> Option<TlsMessage> {
    let mut rest = Lines(body);
    let (mut parts, mut total, mut declared) = (Vec::new(), 0_usize, None);
    is_boundary(rest.next()?).then_some(())?;
    loop {
        let (charset, clear) = piece_head(&mut rest, PROTOCOL)?;
        total = total.checked_add(clear).filter(|total| *total <= limit)?;
        if declared.replace(charset).is_some_and(|before| before != charset) {
            return None;
        }
        let (header, bytes) = rest.0.split_first_chunk::<4>()?;
        (u32::from_le_bytes(*header) <= MAX_HEADER).then_some(())?;
        let (records, after) = records(bytes)?;
        parts.push(Record { clear, bytes: records.to_vec() });
        let after = after.strip_prefix(b"\r\n").unwrap_or(after);
        let end = after.strip_suffix(b"\r\n").unwrap_or(after);
        if end.strip_suffix(b"--").is_some_and(is_boundary) {
            return declared.map(|charset| TlsMessage { charset, parts });
        }
        rest = Lines(after);
        is_boundary(rest.next()?).then_some(())?;
    }
}

/// The TLS records at the beginning, at least one, and what is behind them.
fn records(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut end = 0_usize;
    while let Some([20..=24, 3, _, high, low]) = bytes.get(end..).and_then(<[u8]>::first_chunk::<RECORD_HEAD>) {
        end = end.checked_add(RECORD_HEAD)?.checked_add(usize::from(u16::from_be_bytes([*high, *low])))?;
    }
    bytes.split_at_checked(end).filter(|_| end > 0)
}

/// Puts a message together; `trailer` is what a record has behind its clear text.
pub(super) fn write(encoding: Encoding, parts: &[Record], trailer: u32) -> Vec<u8> {
    let charset = match encoding {
        Encoding::Utf8 => "UTF-8",
        Encoding::Utf16 => "UTF-16",
    };
    let mut body = Vec::with_capacity(parts.iter().map(|part| part.bytes.len() + 256).sum());
    for part in parts {
        body.extend_from_slice(b"--Encrypted Boundary\r\n\tContent-Type: ");
        body.extend_from_slice(PROTOCOL.as_bytes());
        body.extend_from_slice(b"\r\n\tOriginalContent: type=application/soap+xml;charset=");
        body.extend_from_slice(charset.as_bytes());
        body.extend_from_slice(b";Length=");
        body.extend_from_slice(part.clear.to_string().as_bytes());
        body.extend_from_slice(b"\r\n--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n");
        body.extend_from_slice(&trailer.to_le_bytes());
        body.extend_from_slice(&part.bytes);
    }
    body.extend_from_slice(b"--Encrypted Boundary--\r\n");
    body
}

/// Whether bytes are a message of CredSSP, for fuzzing.
#[must_use]
pub fn reads(body: &[u8]) -> bool {
    parse(body, body.len()).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(clear: usize, content: &[u8]) -> Record {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        Record { clear, bytes: [&[23, 3, 3][..], &length, content].concat() }
    }

    #[test]
    fn messages_of_one_part_and_of_several_are_read() {
        // What looks like a boundary inside a record is none.
        let tricky = b"--Encrypted Boundary--\r\n--Encrypted Boundary\r\n";
        let two = Record { clear: 9, bytes: [record(0, b"abc").bytes, record(0, tricky).bytes].concat() };
        for parts in [vec![record(4, tricky)], vec![record(5, b""), two, record(1, b"x")]] {
            let body = write(Encoding::Utf16, &parts, 17);
            let total = parts.iter().map(|part| part.clear).sum();
            let message = parse(&body, total).unwrap();
            assert_eq!((message.charset, &message.parts), (DeclaredCharset::Utf16, &parts));
            assert_eq!(parse(&body, total - 1), None, "longer than the limit");
            for end in 0..body.len() - 2 {
                assert_eq!(parse(&body[..end], 1000), None, "cut to {end}");
            }
            assert_eq!(parse(&[&body[..], b"more"].concat(), 1000), None);
            let bare: Vec<u8> = body.iter().copied().filter(|byte| *byte != b'\t').collect();
            assert_eq!(parse(&bare, 1000).unwrap().parts, parts, "without TABs");
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let body = write(Encoding::Utf8, &[record(4, b"data")], 16);
        let text = |from: &str, to: &str| {
            let text = String::from_utf8(body.clone()).unwrap();
            assert!(text.contains(from));
            parse(text.replacen(from, to, 1).as_bytes(), 1000)
        };
        assert!(text("UTF-8", "utf-8").is_some());
        for (from, to) in [
            ("CredSSP", "SPNEGO"),
            ("Length=4", "Length=-4"),
            ("Length=4", "Length=99999999999999999999"),
            ("\u{10}\0\0\0", "\u{7f}\u{7f}\0\0"),
            ("\u{17}\u{3}\u{3}", "\u{17}\u{3}"),
            ("\u{17}\u{3}\u{3}", "\u{2d}\u{3}\u{3}"),
            ("data", "dat"),
            ("soap+xml", "json"),
        ] {
            assert_eq!(text(from, to), None, "{from} → {to}");
        }
    }

    #[test]
    fn the_content_type_names_the_label() {
        assert!(announced_by(ONE) && announced_by(SEVERAL));
        assert!(!announced_by(&ONE.replace("CredSSP", "SPNEGO")) && !announced_by("multipart/encrypted"));
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..400) {
            parse(&body, 1000);
            let mut damaged = write(Encoding::Utf8, &[record(4, b"data"), record(2, b"da")], 17);
            let length = damaged.len();
            damaged[at % length] = body.first().copied().unwrap_or_default();
            parse(&damaged, 1000);
        }
    }
}
