//! What of the host exists for an account.

use std::fmt;
use std::str::FromStr;

use smol_str::SmolStr;

/// The longest pattern, in characters.
const MAX_PATTERN: usize = 200;

/// What a pattern is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeKind {
    /// Virtual machines, with their snapshots and jobs.
    Machine,
    /// Collections, with their members.
    Collection,
    /// Pools, with their volumes.
    Pool,
}

impl ScopeKind {
    const ALL: [Self; 3] = [Self::Machine, Self::Collection, Self::Pool];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Collection => "collection",
            Self::Pool => "pool",
        }
    }
}

/// A pattern of names: `*` stands for any characters, `?` for one; case is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(SmolStr);

impl Pattern {
    /// Whether a name fits, from its beginning to its end.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().flat_map(char::to_lowercase).collect();
        let name: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
        fits(&pattern, &name)
    }
}

/// Greedy with one place to go back to, so that the time is at most the product of both lengths.
fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut in_name) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while let Some(c) = name.get(in_name) {
        match pattern.get(at) {
            Some('*') => {
                at += 1;
                back = Some((at, in_name));
                continue;
            }
            Some(p) if *p == '?' || p == c => {
                (at, in_name) = (at + 1, in_name + 1);
                continue;
            }
            _ => {}
        }
        let Some((after_star, taken)) = back else { return false };
        (at, in_name) = (after_star, taken + 1);
        back = Some((after_star, taken + 1));
    }
    pattern.get(at..).unwrap_or_default().iter().all(|c| *c == '*')
}

/// Why a text is no part of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// Neither `machine=`, `collection=` nor `pool=` in front.
    #[error("a scope is machine=PATTERN, collection=PATTERN or pool=PATTERN")]
    Kind,
    /// Nothing behind it, or too much.
    #[error("a pattern has 1 to 200 characters")]
    Length,
    /// A character that has a meaning in the password file; `?` stands for it.
    #[error("a pattern has no colon, semicolon or control character; ? stands for any one")]
    Character,
}

/// What exists for an account: what fits one of the patterns. A kind without a pattern does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    parts: Vec<(ScopeKind, Pattern)>,
}

impl Scope {
    /// A scope of several parts such as `machine=web*`.
    ///
    /// # Errors
    /// For the first part that is wrong.
    pub fn of<T: AsRef<str>>(parts: impl IntoIterator<Item = T>) -> Result<Self, ScopeError> {
        let mut parts = parts.into_iter().map(|text| part(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
        parts.sort();
        parts.dedup();
        Ok(Self { parts })
    }

    /// Whether something of this kind is in it, by its name or its identity.
    #[must_use]
    pub fn has(&self, kind: ScopeKind, name: &str, id: &str) -> bool {
        self.parts.iter().any(|(known, pattern)| *known == kind && (pattern.matches(name) || pattern.matches(id)))
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> Vec<String> {
        self.parts.iter().map(|(kind, pattern)| format!("{}={}", kind.name(), pattern.0)).collect()
    }
}

fn part(text: &str) -> Result<(ScopeKind, Pattern), ScopeError> {
    let (kind, pattern) = text.split_once('=').ok_or(ScopeError::Kind)?;
    let kind = ScopeKind::ALL.into_iter().find(|known| known.name() == kind.trim()).ok_or(ScopeError::Kind)?;
    let pattern = pattern.trim();
    if pattern.is_empty() || pattern.chars().count() > MAX_PATTERN {
        return Err(ScopeError::Length);
    }
    if pattern.contains(|c: char| matches!(c, ':' | ';') || c.is_control()) {
        return Err(ScopeError::Character);
    }
    Ok((kind, Pattern(SmolStr::new(pattern))))
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts().join(";"))
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    /// Parts with semicolons between them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::of(text.split(';'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names_in_any_case() {
        for (pattern, name, fits) in [
            ("web01", "WEB01", true),
            ("web01", "web012", false),
            ("web*", "web", true),
            ("web*", "myweb", false),
            ("*", "", true),
            ("*web*", "a web b", true),
            ("w?b", "wéb", true),
            ("w?b", "wb", false),
            ("a*b*c", "aXXbYYbZZc", true),
            ("a*b*c", "aXXbYYbZZ", false),
            ("Ä*", "äpfel", true),
            ("**a", "bba", true),
            ("5c1c2f40-*", "5C1C2F40-0000-4000-8000-000000000001", true),
        ] {
            assert_eq!(Pattern(pattern.into()).matches(name), fits, "{pattern} {name}");
        }
        let slow = Pattern("*a".repeat(60).into());
        assert!(!slow.matches(&"a".repeat(5000).replace('a', "ab")));
    }

    #[test]
    fn a_scope_is_written_as_it_is_read() {
        let scope: Scope = "pool=ssd*; machine=web?;machine=web?".parse().unwrap();
        assert_eq!(scope.to_string(), "machine=web?;pool=ssd*");
        assert_eq!(scope.to_string().parse(), Ok(scope.clone()));
        assert!(scope.has(ScopeKind::Machine, "web1", "") && !scope.has(ScopeKind::Machine, "ssd1", ""));
        assert!(scope.has(ScopeKind::Pool, "x", "SSD-id") && !scope.has(ScopeKind::Collection, "web1", "web1"));
        for (text, error) in [
            ("", ScopeError::Kind),
            ("web*", ScopeError::Kind),
            ("host=a", ScopeError::Kind),
            ("machine=", ScopeError::Length),
            ("machine= ", ScopeError::Length),
            ("machine=a:b", ScopeError::Character),
        ] {
            assert_eq!(text.parse::<Scope>(), Err(error), "{text}");
        }
        assert_eq!(Scope::of(["machine=a;b"]), Err(ScopeError::Character));
        assert_eq!(Scope::of([format!("pool={}", "x".repeat(201))]), Err(ScopeError::Length));
    }
}
