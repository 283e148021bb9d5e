//! The text of a query and how far it was read.

use smol_str::SmolStr;

use super::{Literal, WqlError};

/// A place in a query.
///
/// Tokens are read on demand, because the same quotes are read differently after LIKE.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    /// INVARIANT: a character boundary of `text`.
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What has not been read yet, without the white space in front.
    pub(super) fn rest(&self) -> &'a str {
        // Clients in C count the final NUL in.
        self.text.get(self.at..).unwrap_or_default().trim_start_matches(|c: char| c.is_whitespace() || c == '\0')
    }

    /// The place of the next token, counted in characters from one.
    pub(super) fn position(&self) -> usize {
        let offset = self.text.len() - self.rest().len();
        self.text.get(..offset).unwrap_or_default().chars().count() + 1
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest().is_empty()
    }

    fn advance_to(&mut self, rest: &str) {
        self.at = self.text.len() - rest.len();
    }

    /// The error that something else was expected here.
    pub(super) fn expected(&self, expected: &'static str) -> WqlError {
        let rest = self.rest();
        let word = rest.find(|c| !is_name_character(c)).unwrap_or(rest.len());
        let found = match rest.chars().next() {
            None => "the end".to_owned(),
            Some(symbol) if word == 0 => format!("\"{symbol}\""),
            Some(_) => format!("\"{}\"", rest.get(..word).unwrap_or_default().chars().take(32).collect::<String>()),
        };
        WqlError::Syntax { position: self.position(), expected, found }
    }

    /// The next name or keyword.
    pub(super) fn peek_word(&self) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest.find(|c| !is_name_character(c)).unwrap_or(rest.len());
        rest.get(..end).filter(|word| word.starts_with(|c: char| !c.is_ascii_digit()))
    }

    /// Whether the next word is this keyword.
    pub(super) fn at_keyword(&self, keyword: &str) -> bool {
        self.peek_word().is_some_and(|word| word.eq_ignore_ascii_case(keyword))
    }

    /// Reads a keyword if it comes next.
    pub(super) fn eat_keyword(&mut self, keyword: &str) -> bool {
        let found = self.at_keyword(keyword);
        if found {
            self.advance_to(self.rest().get(keyword.len()..).unwrap_or_default());
        }
        found
    }

    /// Reads a keyword.
    pub(super) fn keyword(&mut self, keyword: &'static str) -> Result<(), WqlError> {
        if self.eat_keyword(keyword) { Ok(()) } else { Err(self.expected(keyword)) }
    }

    /// Reads a symbol if it comes next.
    pub(super) fn eat(&mut self, symbol: &str) -> bool {
        match self.rest().strip_prefix(symbol) {
            Some(rest) => {
                self.advance_to(rest);
                true
            }
            None => false,
        }
    }

    /// Reads the name of a class or property.
    pub(super) fn name(&mut self, expected: &'static str) -> Result<&'a str, WqlError> {
        const RESERVED: [&str; 10] = ["AND", "FROM", "IS", "ISA", "LIKE", "NOT", "NULL", "OR", "SELECT", "WHERE"];
        match self.peek_word() {
            Some(word) if !RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(word)) => {
                self.advance_to(self.rest().get(word.len()..).unwrap_or_default());
                Ok(word)
            }
            _ => Err(self.expected(expected)),
        }
    }

    /// Whether a quoted string comes next.
    pub(super) fn at_string(&self) -> bool {
        self.rest().starts_with(['"', '\''])
    }

    /// Reads a quoted string. With `escapes`, a backslash before a quote or a backslash is taken off;
    /// before anything else it stands for itself.
    pub(super) fn string(&mut self, escapes: bool) -> Result<SmolStr, WqlError> {
        let rest = self.rest();
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            return Err(self.expected("a string in quotes"));
        };
        let mut value = String::new();
        let mut characters = rest.char_indices().skip(1).peekable();
        while let Some((index, c)) = characters.next() {
            match c {
                c if c == quote => {
                    self.advance_to(rest.get(index + 1..).unwrap_or_default());
                    return Ok(value.into());
                }
                '\\' if escapes => match characters.next_if(|(_, next)| matches!(next, '\\' | '"' | '\'')) {
                    Some((_, literal)) => value.push(literal),
                    None => value.push('\\'),
                },
                c => value.push(c),
            }
        }
        Err(WqlError::Syntax { position: self.position(), expected: "a closing quote", found: "the end".to_owned() })
    }

    /// Whether a number comes next.
    pub(super) fn at_number(&self) -> bool {
        let rest = self.rest();
        rest.strip_prefix(['+', '-']).unwrap_or(rest).starts_with(|c: char| c.is_ascii_digit() || c == '.')
    }

    /// Reads an integer (decimal or `0x…`) or a real number.
    pub(super) fn number(&mut self) -> Result<Literal, WqlError> {
        let rest = self.rest();
        let mut previous = ' ';
        let end = rest
            .find(|c: char| {
                let sign = matches!(c, '+' | '-') && matches!(previous, ' ' | 'e' | 'E');
                previous = c;
                !(sign || c.is_ascii_alphanumeric() || c == '.' || c == '_')
            })
            .unwrap_or(rest.len());
        let text = rest.get(..end).unwrap_or_default();
        let literal = integer(text)
            .map(Literal::Integer)
            .or_else(|| text.parse().ok().filter(|number: &f64| number.is_finite()).map(Literal::Real))
            .ok_or_else(|| self.expected("a number"))?;
        self.advance_to(rest.get(end..).unwrap_or_default());
        Ok(literal)
    }

    /// Reads what stands between braces; braces inside quotes belong to it. The answer has the place of its start.
    pub(super) fn braces(&mut self) -> Result<(usize, &'a str), WqlError> {
        if !self.eat("{") {
            return Err(self.expected("an object path in braces"));
        }
        let position = self.position();
        let rest = self.rest();
        let mut quote = None;
        let mut escaped = false;
        for (index, c) in rest.char_indices() {
            match c {
                _ if std::mem::take(&mut escaped) => {}
                '\\' if quote.is_some() => escaped = true,
                '"' | '\'' if quote.is_none() => quote = Some(c),
                c if quote == Some(c) => quote = None,
                '}' if quote.is_none() => {
                    self.advance_to(rest.get(index + 1..).unwrap_or_default());
                    return Ok((position, rest.get(..index).unwrap_or_default()));
                }
                _ => {}
            }
        }
        Err(WqlError::Syntax { position, expected: "a closing brace", found: "the end".to_owned() })
    }
}

fn is_name_character(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn integer(text: &str) -> Option<i128> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        None => text.parse().ok(),
        Some(hex) if hex.starts_with(['+', '-']) => None,
        Some(hex) => {
            let value = i128::from_str_radix(hex, 16).ok()?;
            if text.starts_with('-') { value.checked_neg() } else { Some(value) }
        }
    }
}
