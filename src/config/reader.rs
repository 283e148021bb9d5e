//! Reads the values of a table by what [`KEYS`] says of them.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::time::Guid;

use super::diagnostics::Sink;
use super::keys::{KEYS, Key, Kind};

/// One table of a file while it is read.
pub(super) struct Section<'s, 'a, 'i> {
    name: &'static str,
    table: Option<&'s DeTable<'i>>,
    span: Option<Range<usize>>,
    sink: &'s mut Sink<'a>,
}

impl<'s, 'a, 'i> Section<'s, 'a, 'i> {
    /// A section that is there (`table`) or was left out.
    pub(super) fn new(
        name: &'static str,
        table: Option<&'s DeTable<'i>>,
        span: Option<Range<usize>>,
        sink: &'s mut Sink<'a>,
    ) -> Self {
        let mut section = Self { name, table, span, sink };
        section.refuse_unknown_keys();
        section
    }

    fn refuse_unknown_keys(&mut self) {
        let known: Vec<&str> = KEYS.iter().filter(|key| key.section == self.name).map(|key| key.name).collect();
        for (name, _) in self.table.into_iter().flatten() {
            let text: &str = name.get_ref();
            if known.contains(&text) || is_subsection(self.name, text) {
                continue;
            }
            let hint = known
                .iter()
                .find(|known| known.eq_ignore_ascii_case(text))
                .map_or_else(|| format!("known are {}", known.join(", ")), |known| format!("did you mean {known}?"));
            self.sink.report(Some(name.span()), format!("unknown key {text}; {hint}"));
        }
    }

    fn value(&self, name: &str) -> Option<&'s Spanned<DeValue<'i>>> {
        self.table.and_then(|table| table.get(name))
    }

    /// Reports a mistake at a value, or at the section when the value is not there.
    pub(super) fn report(&mut self, name: &str, message: impl Into<String>) {
        let span = self.value(name).map(Spanned::span).or_else(|| self.span.clone());
        self.sink.report(span, message);
    }

    /// A value as text, checked by `read`; `None` when it was left out and has no default, or is wrong.
    fn text_as<T>(&mut self, name: &str, read: impl Fn(&Key, &str) -> Result<T, String>) -> Option<T> {
        let key = key_of(self.name, name)?;
        let found = match self.value(name) {
            None if key.default.is_empty() => return None,
            None => read(key, key.default),
            Some(value) => match value.get_ref().as_str() {
                Some(text) => read(key, text),
                None => Err(format!("{name} is a text in quotes, not {}", article(value.get_ref().type_str()))),
            },
        };
        found.map_err(|message| self.report(name, message)).ok()
    }

    /// An optional text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.text_as(name, |_, text| Ok(text.to_owned()))
    }

    /// A text that must be there and must not be empty.
    pub(super) fn required_text(&mut self, name: &str) -> Option<String> {
        self.require(name)?;
        self.text_as(
            name,
            |_, text| {
                if text.trim().is_empty() { Err(format!("{name} is empty")) } else { Ok(text.to_owned()) }
            },
        )
    }

    fn require(&mut self, name: &str) -> Option<()> {
        if self.value(name).is_none() {
            self.report(name, format!("{name} is missing"));
            return None;
        }
        Some(())
    }

    /// A path; a relative one starts at the directory of the file.
    pub(super) fn path(&mut self, name: &str) -> Option<PathBuf> {
        let base = self.sink.directory();
        self.text_as(
            name,
            |_, text| {
                if text.is_empty() { Err(format!("{name} is empty")) } else { Ok(base.join(text)) }
            },
        )
    }

    /// A path that must be there.
    pub(super) fn required_path(&mut self, name: &str) -> Option<PathBuf> {
        self.require(name)?;
        self.path(name)
    }

    /// A GUID that must be there.
    pub(super) fn required_guid(&mut self, name: &str) -> Option<Guid> {
        self.require(name)?;
        self.text_as(name, |_, text| text.parse().map_err(|_| format!("{name} is not a GUID; `uuidgen` makes one")))
    }

    /// A socket address that must be there.
    pub(super) fn required_address(&mut self, name: &str) -> Option<SocketAddr> {
        self.require(name)?;
        self.text_as(name, |_, text| {
            text.parse().map_err(|_| format!("{name} is \"address:port\", as in \"127.0.0.1:5985\" or \"[::]:5986\""))
        })
    }

    /// One of a few words.
    pub(super) fn choice(&mut self, name: &str) -> Option<&'static str> {
        self.text_as(name, |key, text| match key.kind {
            Kind::Choice(words) => words
                .iter()
                .find(|word| **word == text)
                .copied()
                .ok_or_else(|| format!("{name} is one of {}", words.join(", "))),
            _ => Err(format!("{name} is not a choice")),
        })
    }

    /// One of a few words that must be there.
    pub(super) fn required_choice(&mut self, name: &str) -> Option<&'static str> {
        self.require(name)?;
        self.choice(name)
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        let default = key_of(self.name, name).is_some_and(|key| key.default == "true");
        match self.value(name).map(|value| value.get_ref().as_bool()) {
            None => default,
            Some(Some(flag)) => flag,
            Some(None) => {
                self.report(name, format!("{name} is true or false"));
                default
            }
        }
    }

    /// A number within its range.
    pub(super) fn number(&mut self, name: &str) -> u64 {
        let Some(Key { kind: Kind::Number(least, most), default, .. }) = key_of(self.name, name) else { return 0 };
        let default = default.parse().unwrap_or(*least);
        let Some(value) = self.value(name) else { return default };
        let number = value.get_ref().as_integer().and_then(|number| {
            // The digits come without the prefix of their base.
            u64::from_str_radix(number.as_str(), number.radix()).ok()
        });
        match number {
            Some(number) if (*least..=*most).contains(&number) => number,
            _ => {
                self.report(name, format!("{name} is a whole number from {least} to {most}"));
                default
            }
        }
    }

    /// A number that fits 32 bits by its range.
    pub(super) fn number_u32(&mut self, name: &str) -> u32 {
        u32::try_from(self.number(name)).unwrap_or(u32::MAX)
    }

    /// A list of texts.
    pub(super) fn list(&mut self, name: &str) -> Vec<String> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let texts: Option<Vec<String>> = value
            .get_ref()
            .as_array()
            .and_then(|array| array.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect());
        texts.unwrap_or_else(|| {
            self.report(name, format!("{name} is a list of texts, as in [\"a\", \"b\"]"));
            Vec::new()
        })
    }
}

fn key_of(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// Whether `name` is a table below `section` and not a key of it.
fn is_subsection(section: &str, name: &str) -> bool {
    KEYS.iter().any(|key| match key.section.rsplit_once('.') {
        Some((parent, child)) => parent == section && child == name,
        None => section.is_empty() && key.section == name && name != "machine",
    })
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

/// The table `[name]`, which may be missing.
pub(super) fn table<'s, 'a, 'i>(
    root: &'s DeTable<'i>,
    name: &'static str,
    sink: &'s mut Sink<'a>,
) -> Section<'s, 'a, 'i> {
    let value = root.get(name);
    let table = value.and_then(|value| value.get_ref().as_table());
    if let Some(value) = value
        && table.is_none()
    {
        sink.report(Some(value.span()), format!("{name} is a section and is written [{name}]"));
    }
    Section::new(name, table, value.map(Spanned::span), sink)
}

/// The tables `[[key]]`, each handed to `read`.
pub(super) fn tables<'i, T>(
    root: &DeTable<'i>,
    key: &str,
    name: &'static str,
    sink: &mut Sink<'_>,
    mut read: impl FnMut(&mut Section<'_, '_, 'i>) -> Option<T>,
) -> Vec<T> {
    let Some(value) = root.get(key) else { return Vec::new() };
    let Some(array) = value.get_ref().as_array() else {
        sink.report(Some(value.span()), format!("there can be several: write [[{key}]]"));
        return Vec::new();
    };
    let mut items = Vec::new();
    for item in array {
        match item.get_ref().as_table() {
            Some(table) => items.extend(read(&mut Section::new(name, Some(table), Some(item.span()), sink))),
            None => sink.report(Some(item.span()), format!("there can be several: write [[{key}]]")),
        }
    }
    items
}
