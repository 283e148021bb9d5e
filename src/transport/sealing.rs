//! `multipart/encrypted` around a sealed envelope, and `multipart/x-multi-encrypted` around one that was sealed piece
//! by piece (`[MS-WSMV]` 2.2.9.1, `authentication.md` §7).
//!
//! Pure: it takes the parts apart and puts them together; the security context does the sealing. The
//! closing boundary is never searched for, because sealed bytes may hold anything: the lengths say
//! where it has to be.

use crate::wsman::Encoding;

use super::media_type::{self, DeclaredCharset};

/// What a client calls the protocol of its sealed messages. Any context may come under any label: pywinrm seals
/// with Kerberos under the one of SPNEGO, and wants it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Spnego,
    Kerberos,
}

impl Label {
    const ALL: [Self; 2] = [Self::Spnego, Self::Kerberos];

    const fn protocol(self) -> &'static str {
        match self {
            Self::Spnego => "application/HTTP-SPNEGO-session-encrypted",
            Self::Kerberos => "application/HTTP-Kerberos-session-encrypted",
        }
    }

    /// `boundary` comes last, because pypsrp reads up to the last quote.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Spnego => {
                "multipart/encrypted;protocol=\"application/HTTP-SPNEGO-session-encrypted\";boundary=\"Encrypted Boundary\""
            }
            Self::Kerberos => {
                "multipart/encrypted;protocol=\"application/HTTP-Kerberos-session-encrypted\";boundary=\"Encrypted Boundary\""
            }
        }
    }
}

const BOUNDARY: &[u8] = b"Encrypted Boundary";
/// The longest header of a message; NTLM has 16 bytes, Kerberos 60 to 72.
const MAX_HEADER: usize = 1024;
/// The longest line of a part's head.
const MAX_LINE: usize = 512;
/// Lines in the head of a part.
const MAX_LINES: usize = 8;
/// The media types of sealed messages: in one piece, and in several.
pub(super) const MEDIA_TYPES: [&str; 2] = ["multipart/encrypted", "multipart/x-multi-encrypted"];
/// What a piece adds to its clear text, with room to spare.
const PIECE_OVERHEAD: usize = 1024;

/// What the parts may add to an envelope of this many bytes, which comes in pieces of 16 KiB at least.
pub(super) const fn overhead(envelope: usize) -> usize {
    (envelope / (16 * 1024) + 4) * PIECE_OVERHEAD
}

/// A sealed message, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SealedMessage<'a> {
    /// What the envelope is encoded in.
    pub(super) charset: DeclaredCharset,
    /// At least one.
    pub(super) pieces: Vec<SealedPiece<'a>>,
}

/// What was sealed at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SealedPiece<'a> {
    /// What the context needs to check the data.
    pub(super) header: &'a [u8],
    pub(super) data: &'a [u8],
}

/// The label of a sealed message that a `Content-Type` announces.
pub(super) fn announced_by(content_type: &str) -> Option<Label> {
    let mut parts = content_type.split(';');
    let media_type = parts.next().unwrap_or_default();
    let protocol =
        parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("protocol"));
    MEDIA_TYPES.iter().any(|known| media_type.trim().eq_ignore_ascii_case(known)).then_some(())?;
    let protocol = protocol?.1.trim().trim_matches('"');
    Label::ALL.into_iter().find(|label| protocol.eq_ignore_ascii_case(label.protocol()))
}

/// Takes a message apart of which the envelope has at most `limit` bytes.
pub(super) fn parse(body: &[u8], label: Label, limit: usize) -> Option<SealedMessage<'_>> {
    let mut rest = Lines(body);
    let (mut pieces, mut total, mut declared) = (Vec::with_capacity(1), 0_usize, None);
    is_boundary(rest.next()?).then_some(())?;
    loop {
        let (charset, length) = piece_head(&mut rest, label.protocol())?;
        total = total.checked_add(length).filter(|total| *total <= limit)?;
        if declared.replace(charset).is_some_and(|before| before != charset) {
            return None;
        }
        let (piece, after) = piece(rest.0, length)?;
        pieces.push(piece);
        // winrm-rs 1.1 ends the line before the closing boundary.
        let after = after.strip_prefix(b"\r\n").unwrap_or(after);
        let end = after.strip_suffix(b"\r\n").unwrap_or(after);
        if end.strip_suffix(b"--").is_some_and(is_boundary) {
            return Some(SealedMessage { charset, pieces });
        }
        rest = Lines(after);
        is_boundary(rest.next()?).then_some(())?;
    }
}

/// The lines from behind the first boundary of a piece to its bytes: its character set, and the length of its clear
/// text.
pub(super) fn piece_head(rest: &mut Lines<'_>, protocol: &str) -> Option<(DeclaredCharset, usize)> {
    let (mut of_protocol, mut original) = (false, None);
    for _ in 0..=MAX_LINES {
        let line = rest.next()?;
        if is_boundary(line) {
            // `Content-Type: application/octet-stream`, and then the bytes without an empty line.
            rest.next()?;
            return original.filter(|_| of_protocol);
        }
        // Ruby and omicli write no TAB before the line.
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        match name.trim() {
            name if name.eq_ignore_ascii_case("Content-Type") => {
                of_protocol = value.trim().eq_ignore_ascii_case(protocol);
            }
            name if name.eq_ignore_ascii_case("OriginalContent") => original = Some(original_content(value)?),
            _ => {}
        }
    }
    None
}

/// `type=application/soap+xml;charset=UTF-8;Length=1234`
fn original_content(value: &str) -> Option<(DeclaredCharset, usize)> {
    let charset = media_type::parse(value.trim().strip_prefix("type=")?).ok()?;
    let (_, length) = value
        .split(';')
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("Length"))?;
    let length = length.trim();
    length.bytes().all(|digit| digit.is_ascii_digit()).then_some(())?;
    Some((charset, length.parse().ok()?))
}

/// A piece with a clear text of this length, and what is behind it.
fn piece(bytes: &[u8], length: usize) -> Option<(SealedPiece<'_>, &[u8])> {
    let (header_length, rest) = bytes.split_first_chunk::<4>()?;
    let header_length = usize::try_from(u32::from_le_bytes(*header_length)).ok()?;
    (header_length <= MAX_HEADER).then_some(())?;
    let (header, rest) = rest.split_at_checked(header_length)?;
    let (data, rest) = rest.split_at_checked(length)?;
    Some((SealedPiece { header, data }, rest))
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
pub(super) fn write(label: Label, encoding: Encoding, header: &[u8], data: &[u8]) -> Vec<u8> {
    let charset = match encoding {
        Encoding::Utf8 => "UTF-8",
        Encoding::Utf16 => "UTF-16",
    };
    let mut body = Vec::with_capacity(header.len() + data.len() + MAX_LINE);
    body.extend_from_slice(b"--Encrypted Boundary\r\n\tContent-Type: ");
    body.extend_from_slice(label.protocol().as_bytes());
    body.extend_from_slice(b"\r\n\tOriginalContent: type=application/soap+xml;charset=");
    body.extend_from_slice(charset.as_bytes());
    body.extend_from_slice(b";Length=");
    body.extend_from_slice(data.len().to_string().as_bytes());
    body.extend_from_slice(b"\r\n--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n");
    // Headers are far below 4 GiB.
    body.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
    body.extend_from_slice(header);
    body.extend_from_slice(data);
    body.extend_from_slice(b"--Encrypted Boundary--\r\n");
    body
}

/// Whether bytes are a sealed message, for fuzzing.
#[must_use]
pub fn reads(body: &[u8]) -> bool {
    Label::ALL.into_iter().any(|label| parse(body, label, body.len()).is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data holds what looks like the closing boundary.
    const DATA: &[u8] = b"x--Encrypted Boundary--\r\n";

    fn variant(change: impl Fn(&str) -> String) -> Option<Vec<u8>> {
        let whole = write(Label::Spnego, Encoding::Utf8, &[b'S'; 16], DATA);
        let text = change(std::str::from_utf8(&whole).unwrap());
        parse(text.as_bytes(), Label::Spnego, DATA.len()).map(|message| {
            let [SealedPiece { header, data }] = message.pieces[..] else { panic!("one piece") };
            assert_eq!((header, message.charset), (&[b'S'; 16][..], DeclaredCharset::Utf8));
            data.to_vec()
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
        let whole = write(Label::Spnego, Encoding::Utf8, &[0; 16], DATA);
        assert_eq!(parse(&whole, Label::Spnego, DATA.len() - 1), None, "longer than the limit");
        for end in 0..whole.len() - 2 {
            assert_eq!(parse(&whole[..end], Label::Spnego, DATA.len()), None, "cut to {end}");
        }
    }

    #[test]
    fn a_message_may_come_in_pieces() {
        let piece = |text: &[u8]| {
            let whole = write(Label::Kerberos, Encoding::Utf8, &[b'S'; 60], text);
            whole.strip_suffix(b"--Encrypted Boundary--\r\n").unwrap().to_vec()
        };
        let end = b"--Encrypted Boundary--\r\n";
        let whole = [piece(b"one"), piece(DATA), piece(b""), end.to_vec()].concat();
        let message = parse(&whole, Label::Kerberos, 3 + DATA.len()).unwrap();
        let pieces: Vec<&[u8]> = message.pieces.iter().map(|piece| piece.data).collect();
        assert_eq!(pieces, [&b"one"[..], DATA, b""]);
        assert!(message.pieces.iter().all(|piece| piece.header == [b'S'; 60]));
        assert_eq!(parse(&whole, Label::Kerberos, 2 + DATA.len()), None, "all of them together count");
        let utf16 = write(Label::Kerberos, Encoding::Utf16, &[b'S'; 60], b"two");
        for (wrong, why) in [
            ([piece(b"one"), utf16].concat(), "another character set"),
            ([piece(b"one"), write(Label::Spnego, Encoding::Utf8, b"", b"x")].concat(), "another protocol"),
            ([piece(b"one"), piece(b"two")].concat(), "no end"),
            (end.to_vec(), "nothing"),
        ] {
            assert_eq!(parse(&wrong, Label::Kerberos, 100), None, "{why}");
        }
    }

    #[test]
    fn the_content_type_names_the_label() {
        for label in Label::ALL {
            assert_eq!(announced_by(label.content_type()), Some(label));
            assert_eq!(announced_by(&label.content_type().replace(';', "; ")), Some(label));
            assert!(label.content_type().contains(label.protocol()));
            assert_eq!(announced_by(&label.content_type().replace("/encrypted", "/x-multi-encrypted")), Some(label));
            assert_eq!(announced_by(&label.content_type().replace("/encrypted", "/encrypted2")), None);
        }
        assert_eq!(announced_by(&Label::Spnego.content_type().replace("SPNEGO", "CredSSP")), None);
        assert_eq!(announced_by("multipart/encrypted"), None);
        assert_eq!(announced_by("application/soap+xml;charset=UTF-8"), None);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..260) {
            parse(&body, Label::Kerberos, 1000);
            let mut damaged = write(Label::Kerberos, Encoding::Utf16, &[1; 60], b"data");
            let length = damaged.len();
            damaged[at % length] = body.first().copied().unwrap_or_default();
            parse(&damaged, Label::Kerberos, 1000);
        }

        #[test]
        fn what_is_written_is_read(
            data in proptest::collection::vec(any::<u8>(), 0..300),
            header in proptest::collection::vec(any::<u8>(), 0..=MAX_HEADER),
        ) {
            let body = write(Label::Kerberos, Encoding::Utf16, &header, &data);
            let pieces = vec![SealedPiece { header: &header, data: &data }];
            let expected = SealedMessage { charset: DeclaredCharset::Utf16, pieces };
            prop_assert_eq!(parse(&body, Label::Kerberos, 300), Some(expected));
        }
    }
}
