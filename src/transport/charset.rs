//! From bytes to text and back (`ws-management.md` §2.2).

use std::borrow::Cow;

use crate::wsman::Encoding;

use super::media_type::DeclaredCharset;

/// Why bytes are no text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TextError {
    /// Compressed or otherwise coded.
    #[error("the content coding is not supported")]
    Coding,
    /// Neither UTF-8 nor UTF-16.
    #[error("the charset is not supported")]
    Charset,
    /// The bytes are not valid in their charset, in which the answer goes out too.
    #[error("{1}")]
    Malformed(Encoding, &'static str),
}

#[derive(Clone, Copy)]
enum Form {
    Utf8,
    Utf16Le,
    Utf16Be,
}

/// The text of a body. A byte-order mark wins over `Content-Type`, which wins over what the first
/// bytes look like.
pub(super) fn decode(bytes: &[u8], declared: DeclaredCharset) -> Result<(Cow<'_, str>, Encoding), TextError> {
    if declared == DeclaredCharset::Coded {
        return Err(TextError::Coding);
    }
    let (form, text) = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => (Form::Utf8, rest),
        [0xff, 0xfe, rest @ ..] => (Form::Utf16Le, rest),
        [0xfe, 0xff, rest @ ..] => (Form::Utf16Be, rest),
        _ => match (declared, bytes) {
            (DeclaredCharset::Other | DeclaredCharset::Coded, _) => return Err(TextError::Charset),
            (DeclaredCharset::Utf16 | DeclaredCharset::Absent, [0, b'<', ..]) => (Form::Utf16Be, bytes),
            (DeclaredCharset::Utf16, _) | (DeclaredCharset::Absent, [b'<', 0, ..]) => (Form::Utf16Le, bytes),
            (DeclaredCharset::Utf8 | DeclaredCharset::Absent, _) => (Form::Utf8, bytes),
        },
    };
    match form {
        Form::Utf8 => std::str::from_utf8(text)
            .map(|text| (Cow::Borrowed(text), Encoding::Utf8))
            .map_err(|_| TextError::Malformed(Encoding::Utf8, "the body is not valid UTF-8")),
        Form::Utf16Le => decode_utf16(text, u16::from_le_bytes),
        Form::Utf16Be => decode_utf16(text, u16::from_be_bytes),
    }
}

/// Takes off the zeros behind an envelope: omicli seals messages that are filled up with them. In UTF-16 a zero is half
/// of a letter, so nothing is taken there.
pub(super) fn drop_filler(bytes: &mut Vec<u8>) {
    let is_utf8 = match bytes.as_slice() {
        [b'<', second, ..] => *second != 0,
        [0xef, 0xbb, 0xbf, ..] => true,
        _ => false,
    };
    if !is_utf8 {
        return;
    }
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    bytes.truncate(end);
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<(Cow<'static, str>, Encoding), TextError> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(TextError::Malformed(Encoding::Utf16, "the body is UTF-16 with an odd number of bytes"));
    }
    let mut text = String::with_capacity(pairs.len());
    for character in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        text.push(
            character
                .map_err(|_| TextError::Malformed(Encoding::Utf16, "the body is UTF-16 with half a surrogate pair"))?,
        );
    }
    Ok((Cow::Owned(text), Encoding::Utf16))
}

/// The bytes of an answer: UTF-8 without, UTF-16 little-endian with a byte-order mark.
pub(super) fn encode(text: String, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Utf8 => text.into_bytes(),
        Encoding::Utf16 => {
            let mut bytes = Vec::with_capacity(2 + 2 * text.len());
            bytes.extend_from_slice(&[0xff, 0xfe]);
            for unit in text.encode_utf16() {
                bytes.extend_from_slice(&unit.to_le_bytes());
            }
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn zeros_behind_an_envelope_are_filler() {
        for (sealed, clear) in [
            (&b"<a/>"[..], &b"<a/>"[..]),
            (b"<a/>\0\0\0", b"<a/>"),
            (b"\xef\xbb\xbf<a/>\0", b"\xef\xbb\xbf<a/>"),
            (b"<\0a\0/\0>\0", b"<\0a\0/\0>\0"),
            (b"\xff\xfe<\0>\0", b"\xff\xfe<\0>\0"),
            (b"\0<\0>", b"\0<\0>"),
            (b"<a>\0</a>", b"<a>\0</a>"),
            (b"\0\0", b"\0\0"),
            (b"", b""),
        ] {
            let mut bytes = sealed.to_vec();
            drop_filler(&mut bytes);
            assert_eq!(bytes, clear, "{sealed:?}");
        }
    }

    #[test]
    fn the_charset_of_a_body_is_found() {
        let le = utf16("<ä/>", u16::to_le_bytes);
        let be = utf16("<ä/>", u16::to_be_bytes);
        let with_mark = |mark: &[u8], body: &[u8]| [mark, body].concat();
        let cases: Vec<(Vec<u8>, DeclaredCharset, Encoding)> = vec![
            ("<ä/>".into(), DeclaredCharset::Utf8, Encoding::Utf8),
            ("<ä/>".into(), DeclaredCharset::Absent, Encoding::Utf8),
            ("\u{feff}<ä/>".into(), DeclaredCharset::Utf16, Encoding::Utf8),
            (le.clone(), DeclaredCharset::Utf16, Encoding::Utf16),
            (be.clone(), DeclaredCharset::Utf16, Encoding::Utf16),
            (le.clone(), DeclaredCharset::Absent, Encoding::Utf16),
            (be.clone(), DeclaredCharset::Absent, Encoding::Utf16),
            (with_mark(&[0xff, 0xfe], &le), DeclaredCharset::Utf8, Encoding::Utf16),
            (with_mark(&[0xfe, 0xff], &be), DeclaredCharset::Other, Encoding::Utf16),
        ];
        for (bytes, declared, encoding) in cases {
            let (text, found) = decode(&bytes, declared).unwrap();
            assert_eq!((text.as_ref(), found), ("<ä/>", encoding), "{bytes:x?} {declared:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(decode(b"<a/>", DeclaredCharset::Other), Err(TextError::Charset));
        assert_eq!(decode(&[0xef, 0xbb, 0xbf], DeclaredCharset::Coded), Err(TextError::Coding));
        for (bytes, declared) in [
            (&b"<a>\xff</a>"[..], DeclaredCharset::Utf8),
            (b"<\0a", DeclaredCharset::Utf16),
            (b"<\0\0\xd8/\0", DeclaredCharset::Utf16),
        ] {
            assert!(matches!(decode(bytes, declared), Err(TextError::Malformed(..))), "{bytes:x?}");
        }
    }

    #[test]
    fn utf16_answers_are_little_endian_with_a_mark() {
        assert_eq!(encode("<ä".into(), Encoding::Utf16), &[0xff, 0xfe, b'<', 0, 0xe4, 0][..]);
        assert_eq!(encode("<ä".into(), Encoding::Utf8), "<ä".as_bytes());
    }
}
