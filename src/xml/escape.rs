//! Escaping, in one place.

/// How the special characters are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Text,
    Attribute,
    Numeric,
}

/// Appends element text: `<`, `>`, `&` and CR escaped, control characters as `?`
/// (`ws-management.md` §3.5, restricted characters).
pub fn escape_text_into(out: &mut String, text: &str) {
    escape(out, text, Style::Text);
}

/// Appends the value of a double-quoted attribute.
pub fn escape_attribute_into(out: &mut String, text: &str) {
    escape(out, text, Style::Attribute);
}

/// Appends text with numeric references only (`&#38;`, `&#60;`), the form every reader of embedded
/// CIM-XML takes (`hyperv-host.md` §5).
pub fn escape_numeric_into(out: &mut String, text: &str) {
    escape(out, text, Style::Numeric);
}

fn escape(out: &mut String, text: &str, style: Style) {
    // U+FFFE and U+FFFF are the only characters above the control characters that XML forbids; both start with 0xEF.
    if text.as_bytes().contains(&0xef) && text.contains(['\u{fffe}', '\u{ffff}']) {
        return escape(out, &text.replace(['\u{fffe}', '\u{ffff}'], "?"), style);
    }
    let mut rest = text;
    while let Some((index, replacement)) = next_special(rest, style) {
        let (plain, special) = rest.split_at(index);
        out.push_str(plain);
        out.push_str(replacement);
        // Every special character is ASCII, one byte long.
        rest = special.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
}

fn next_special(text: &str, style: Style) -> Option<(usize, &'static str)> {
    text.bytes().enumerate().find_map(|(index, byte)| {
        // Most bytes are letters and digits, which are above all specials but `<`, `=` and `>`.
        if byte > b'>' { None } else { replacement(byte, style).map(|replacement| (index, replacement)) }
    })
}

const fn replacement(byte: u8, style: Style) -> Option<&'static str> {
    Some(match (byte, style) {
        (b'<', Style::Numeric) => "&#60;",
        (b'>', Style::Numeric) => "&#62;",
        (b'&', Style::Numeric) => "&#38;",
        (b'<', _) => "&lt;",
        (b'>', _) => "&gt;",
        (b'&', _) => "&amp;",
        (b'"', Style::Attribute | Style::Numeric) => "&#34;",
        (b'\n', Style::Attribute) => "&#10;",
        (b'\t', Style::Attribute) => "&#9;",
        (b'\r', _) => "&#13;",
        (b'\n' | b'\t', _) => return None,
        (control, _) if control < 0x20 => "?",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_style_escapes_what_its_readers_need() {
        let text = "a<b>&\"\r\n\u{7}é";
        let forbidden = "\u{fffe}\u{fffd}\u{ffff}";
        let mut out = String::new();
        escape_text_into(&mut out, text);
        assert_eq!(out, "a&lt;b&gt;&amp;\"&#13;\n?é");
        out.clear();
        escape_attribute_into(&mut out, text);
        assert_eq!(out, "a&lt;b&gt;&amp;&#34;&#13;&#10;?é");
        out.clear();
        escape_numeric_into(&mut out, text);
        assert_eq!(out, "a&#60;b&#62;&#38;&#34;&#13;\n?é");
        out.clear();
        escape_text_into(&mut out, forbidden);
        assert_eq!(out, "?\u{fffd}?");
    }
}
