//! LIKE patterns: `%` any run, `_` one character, `[a-f]` one of a range or list, `[^a-f]` one outside it.

use super::WqlError;
use super::scalar::fold;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<Token>);

#[derive(Clone, Debug)]
enum Token {
    /// `%`; two in a row are one.
    Any,
    /// `_`
    One,
    /// The character itself, case folded.
    Character(char),
    /// Characters and ranges, case folded.
    Set { ranges: Vec<(char, char)>, negated: bool },
}

impl Pattern {
    /// Compiles a pattern as written.
    pub(super) fn new(text: &str) -> Result<Self, WqlError> {
        let malformed = || WqlError::Pattern(text.chars().take(64).collect());
        let mut tokens = Vec::new();
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            match c {
                '%' if matches!(tokens.last(), Some(Token::Any)) => {}
                '%' => tokens.push(Token::Any),
                '_' => tokens.push(Token::One),
                '[' => {
                    let (content, rest) = characters.as_str().split_once(']').ok_or_else(malformed)?;
                    characters = rest.chars();
                    tokens.push(set(content).ok_or_else(malformed)?);
                }
                c => tokens.push(Token::Character(fold(c))),
            }
        }
        Ok(Self(tokens))
    }

    /// Whether the whole text follows the pattern, without regard to case.
    ///
    /// Only the last `%` that was passed is ever retried: whatever an earlier one could take in addition, the last
    /// one can take as well. So the time is at most length of text times length of pattern.
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut tokens = self.0.as_slice();
        let mut text = text.chars();
        let mut retry: Option<(&[Token], std::str::Chars<'_>)> = None;
        loop {
            let mut ahead = text.clone();
            match (tokens.split_first(), ahead.next()) {
                (Some((Token::Any, rest)), _) => {
                    retry = Some((rest, text.clone()));
                    tokens = rest;
                    continue;
                }
                (Some((token, rest)), Some(c)) if token.matches(fold(c)) => {
                    tokens = rest;
                    text = ahead;
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            let Some((rest, from)) = &mut retry else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            tokens = rest;
            text = from.clone();
        }
    }
}

impl Token {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Character(own) => *own == c,
            Self::Set { ranges, negated } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
        }
    }
}

/// The inside of brackets; a hyphen between two characters makes a range. `None` when it is empty.
fn set(content: &str) -> Option<Token> {
    let (negated, content) = match content.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, content),
    };
    let mut ranges = Vec::new();
    let mut characters = content.chars().map(fold).peekable();
    while let Some(low) = characters.next() {
        let mut ahead = characters.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) => {
                ranges.push((low.min(high), low.max(high)));
                characters = ahead;
            }
            _ => ranges.push((low, low)),
        }
    }
    if ranges.is_empty() { None } else { Some(Token::Set { ranges, negated }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts_in_any_case() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("abc", "ABC", true),
            ("abc", "abcd", false),
            ("a%", "abc", true),
            ("%c", "abc", true),
            ("%b%", "abc", true),
            ("%%Default%%", "Microsoft:Definition\\x\\Default", true),
            ("Microsoft:Definition%Maximum", "Microsoft:Definition\\4764334D\\Maximum", true),
            ("Microsoft:Definition%Maximum", "Microsoft:Definition\\4764334D\\Minimum", false),
            ("a_c", "abc", true),
            ("a_c", "ac", false),
            ("[a-f]x", "Dx", true),
            ("[a-f]x", "gx", false),
            ("[^a-f]x", "gx", true),
            ("[^a-f]x", "dx", false),
            ("[%]", "%", true),
            ("[%]", "a", false),
            ("[a-]", "-", true),
            ("[abc]%[_]", "b__", true),
            ("%ab%ab", "abab", true),
            ("%ab%ab", "aab", false),
            ("gr_ße%", "GRÖßE-日本", true),
            (r"C:\%", r"c:\windows", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(text), expected, "{pattern} on {text}");
        }
        for pattern in ["[", "[]", "[^]", "a[b"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn many_wildcards_do_not_explode() {
        let pattern = Pattern::new(&"%a".repeat(2_000)).unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(4_000))));
    }
}
