//! Tokens of MOF (DSP0004 annex A).

use std::borrow::Cow;

use super::diagnostic::{Problem, Span, note};

/// A token and its place.
#[derive(Clone, Debug)]
pub(super) struct Token<'s> {
    pub(super) kind: TokenKind<'s>,
    pub(super) span: Span,
}

/// What a token is. Keywords are identifiers: MOF reserves none of them for good.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind<'s> {
    Ident(&'s str),
    Integer(i128),
    Real(&'s str),
    Text(Cow<'s, str>),
    Char(u16),
    Alias(&'s str),
    Punct(char),
    End,
}

impl TokenKind<'_> {
    /// The token as a message names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Ident(name) => format!("`{}`", shorten(name)),
            Self::Integer(number) => format!("number {number}"),
            Self::Real(text) => format!("number {}", shorten(text)),
            Self::Text(text) => format!("string \"{}\"", shorten(text)),
            Self::Char(_) => "a character".to_owned(),
            Self::Alias(name) => format!("alias ${}", shorten(name)),
            Self::Punct(c) => format!("`{c}`"),
            Self::End => "the end of the file".to_owned(),
        }
    }
}

/// The first characters of a name or text, for a message.
pub(super) fn shorten(text: &str) -> String {
    const MOST: usize = 40;
    let mut short: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

/// Cuts a source into tokens; what cannot be one is reported and skipped.
#[derive(Debug)]
pub(super) struct Lexer<'s> {
    text: &'s str,
    position: usize,
}

impl<'s> Lexer<'s> {
    pub(super) const fn new(text: &'s str) -> Self {
        Self { text, position: 0 }
    }

    fn rest(&self) -> &'s str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    /// The next token; at the end always [`TokenKind::End`].
    pub(super) fn next_token(&mut self, problems: &mut Vec<Problem>) -> Token<'s> {
        loop {
            self.skip_trivia(problems);
            let start = self.position;
            let rest = self.rest();
            let Some(first) = rest.chars().next() else {
                return Token { kind: TokenKind::End, span: Span::new(start, start) };
            };
            let kind = if is_name_start(first) {
                TokenKind::Ident(self.take_name())
            } else if first == '"' {
                TokenKind::Text(self.string(problems))
            } else if first == '\'' {
                TokenKind::Char(self.character(problems))
            } else if first == '$' {
                self.position += 1;
                TokenKind::Alias(self.take_name())
            } else if starts_number(rest) {
                self.number(problems)
            } else if matches!(first, '{' | '}' | '[' | ']' | '(' | ')' | ';' | ',' | ':' | '=' | '#') {
                self.position += 1;
                TokenKind::Punct(first)
            } else {
                self.position += first.len_utf8();
                let span = Span::new(start, self.position);
                let shown = if first.is_control() { format!("U+{:04X}", u32::from(first)) } else { first.to_string() };
                note(problems, Problem::new(span, format!("unexpected character `{shown}`"), ""));
                continue;
            };
            return Token { kind, span: Span::new(start, self.position) };
        }
    }

    fn skip_trivia(&mut self, problems: &mut Vec<Problem>) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\0');
            self.position += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.position += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                match trimmed.find("*/") {
                    // `/*/` opens only; the end must lie behind the opening.
                    Some(1) => match trimmed.get(2..).and_then(|inner| inner.find("*/")) {
                        Some(end) => self.position += end + 4,
                        None => return self.unclosed_comment(problems),
                    },
                    Some(end) => self.position += end + 2,
                    None => return self.unclosed_comment(problems),
                }
            } else {
                return;
            }
        }
    }

    fn unclosed_comment(&mut self, problems: &mut Vec<Problem>) {
        let span = Span::new(self.position, self.position + 2);
        note(problems, Problem::new(span, "comment is not closed", "expected `*/` before the end of the file"));
        self.position = self.text.len();
    }

    fn take_name(&mut self) -> &'s str {
        let rest = self.rest();
        let end = rest.find(|c: char| !is_name_start(c) && !c.is_ascii_digit()).unwrap_or(rest.len());
        self.position += end;
        rest.get(..end).unwrap_or_default()
    }

    fn number(&mut self, problems: &mut Vec<Problem>) -> TokenKind<'s> {
        let rest = self.rest();
        let mut previous = ' ';
        let is_hex = rest.trim_start_matches(['+', '-']).starts_with("0x")
            || rest.trim_start_matches(['+', '-']).starts_with("0X");
        let end = rest
            .char_indices()
            .find(|&(index, c)| {
                let sign = matches!(c, '+' | '-') && (index == 0 || (!is_hex && matches!(previous, 'e' | 'E')));
                previous = c;
                !(sign || c.is_ascii_alphanumeric() || c == '.' || c == '_')
            })
            .map_or(rest.len(), |(index, _)| index);
        let text = rest.get(..end).unwrap_or_default();
        let span = Span::new(self.position, self.position + end);
        self.position += end;
        parse_number(text).unwrap_or_else(|expected| {
            note(problems, Problem::new(span, format!("malformed number `{}`", shorten(text)), expected));
            TokenKind::Integer(0)
        })
    }

    /// A string literal, from its opening quote on. It ends at the end of its line at the latest.
    fn string(&mut self, problems: &mut Vec<Problem>) -> Cow<'s, str> {
        let start = self.position;
        self.position += 1;
        let rest = self.rest();
        let plain = rest.find(['"', '\\', '\n']).unwrap_or(rest.len());
        let head = rest.get(..plain).unwrap_or_default();
        self.position += plain;
        if self.peek() == Some(b'"') {
            self.position += 1;
            return Cow::Borrowed(head);
        }
        let mut units: Vec<u16> = head.encode_utf16().collect();
        while let Some(c) = self.rest().chars().next() {
            match c {
                '"' => {
                    self.position += 1;
                    return Cow::Owned(String::from_utf16_lossy(&units));
                }
                '\n' => break,
                '\\' => units.push(self.escape(problems)),
                c => {
                    self.position += c.len_utf8();
                    units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
                }
            }
        }
        let span = Span::new(start, self.position);
        note(problems, Problem::new(span, "string is not closed", "expected `\"` before the end of the line"));
        Cow::Owned(String::from_utf16_lossy(&units))
    }

    fn character(&mut self, problems: &mut Vec<Problem>) -> u16 {
        let start = self.position;
        self.position += 1;
        let mut unit = None;
        match self.rest().chars().next() {
            Some('\\') => unit = Some(self.escape(problems)),
            Some('\n' | '\'') | None => {}
            Some(c) => {
                self.position += c.len_utf8();
                unit = u16::try_from(u32::from(c)).ok();
            }
        }
        let closed = self.peek() == Some(b'\'');
        self.position += usize::from(closed);
        match unit {
            Some(unit) if closed => unit,
            _ => {
                let span = Span::new(start, self.position);
                note(problems, Problem::new(span, "malformed character", "expected one character in single quotes"));
                0
            }
        }
    }

    /// A UTF-16 code unit written with a backslash.
    fn escape(&mut self, problems: &mut Vec<Problem>) -> u16 {
        let start = self.position;
        self.position += 1;
        let escaped = self.peek();
        let plain = match escaped {
            Some(b'b') => 8,
            Some(b't') => 9,
            Some(b'n') => 10,
            Some(b'f') => 12,
            Some(b'r') => 13,
            Some(quoted @ (b'"' | b'\'' | b'\\')) => u16::from(quoted),
            Some(b'x' | b'X') => {
                self.position += 1;
                let rest = self.rest();
                let digits = rest.bytes().take(4).take_while(u8::is_ascii_hexdigit).count();
                self.position += digits;
                if let Ok(unit) = u16::from_str_radix(rest.get(..digits).unwrap_or_default(), 16) {
                    return unit;
                }
                let span = Span::new(start, self.position);
                note(problems, Problem::new(span, "malformed escape", "expected one to four hexadecimal digits"));
                return u16::from(b'?');
            }
            _ => {
                let expected = "expected one of \\b \\t \\n \\f \\r \\\" \\' \\\\ \\x";
                note(problems, Problem::new(Span::new(start, start + 1), "unknown escape", expected));
                return u16::from(b'\\');
            }
        };
        self.position += 1;
        plain
    }
}

/// Letters, the underscore and everything beyond ASCII (DSP0004 annex A, IDENTIFIER).
fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || (!c.is_ascii() && !c.is_whitespace() && c != '\u{feff}')
}

fn starts_number(rest: &str) -> bool {
    let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    let digits = unsigned.strip_prefix('.').unwrap_or(unsigned);
    digits.starts_with(|c: char| c.is_ascii_digit())
}

/// Integers in the four bases and reals; on failure, what was expected.
fn parse_number(text: &str) -> Result<TokenKind<'_>, &'static str> {
    const RANGE: &str = "expected a number of at most 64 bits";
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let in_base = |digits: &str, base: u32| {
        let number = u64::from_str_radix(digits, base).map_err(|_| RANGE)?;
        Ok(TokenKind::Integer(if negative { -i128::from(number) } else { i128::from(number) }))
    };
    let all = |digits: &str, valid: fn(u8) -> bool| !digits.is_empty() && digits.bytes().all(valid);
    if let Some(digits) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        return if all(digits, |b| b.is_ascii_hexdigit()) {
            in_base(digits, 16)
        } else {
            Err("expected hexadecimal digits")
        };
    }
    if let Some(digits) = unsigned.strip_suffix(['b', 'B']) {
        return if all(digits, |b| matches!(b, b'0' | b'1')) {
            in_base(digits, 2)
        } else {
            Err("expected binary digits")
        };
    }
    if all(unsigned, |b| b.is_ascii_digit()) {
        if unsigned.len() == 1 || !unsigned.starts_with('0') {
            return in_base(unsigned, 10);
        }
        return if all(unsigned, |b| (b'0'..=b'7').contains(&b)) {
            in_base(unsigned, 8)
        } else {
            Err("a leading zero announces octal digits")
        };
    }
    // Every real has a digit in front here, so `inf` and `nan` cannot come through.
    if text.parse::<f64>().is_ok() { Ok(TokenKind::Real(text)) } else { Err("expected an integer or a real number") }
}
