//! What a keytab holds, to say at the start what would otherwise fail at the first logon.
//!
//! Only the names and kinds of keys are read; the keys are passed over. The file is the one of MIT Kerberos,
//! version 2: all integers big-endian, each entry with its length before it, and a negative length for a hole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// A whole keytab of a host has some dozens of entries of some hundred bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// Names of a principal: service and host, and rarely one more.
const MAX_COMPONENTS: u16 = 16;

/// Why a keytab cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeytabError {
    /// The file cannot be read.
    #[error("cannot read the keytab {0}; write one with `kadmin ktadd -k` or `ktpass`, readable by the server")]
    Read(PathBuf, #[source] io::Error),
    /// It is something else.
    #[error("{0} is not a keytab of version 2")]
    Form(PathBuf),
}

/// The names in a keytab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keytab {
    entries: Vec<KeytabEntry>,
}

/// One key, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeytabEntry {
    /// `HTTP` of `HTTP/host.example.test@EXAMPLE.TEST`.
    pub service: String,
    /// The whole name.
    pub principal: String,
    /// The number of its kind (RFC 3961 §8): 17 to 20 are the kinds of AES.
    pub encryption: u16,
}

impl Keytab {
    /// Reads the names in a keytab.
    ///
    /// # Errors
    /// When the file cannot be read or is no keytab.
    pub fn read(path: &Path) -> Result<Self, KeytabError> {
        let read = |error| KeytabError::Read(path.to_owned(), error);
        if fs::metadata(path).map_err(read)?.len() > MAX_BYTES {
            return Err(KeytabError::Form(path.to_owned()));
        }
        let bytes = Zeroizing::new(fs::read(path).map_err(read)?);
        Self::parse(&bytes).ok_or_else(|| KeytabError::Form(path.to_owned()))
    }

    /// Reads the names in the bytes of a keytab.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes.strip_prefix(&[5, 2])?);
        let mut entries = Vec::new();
        while !rest.0.is_empty() {
            let length = i32::from_be_bytes(rest.array()?);
            let record = rest.take(usize::try_from(length.unsigned_abs()).ok()?)?;
            if length > 0 {
                entries.push(KeytabEntry::parse(record)?);
            } else if length == 0 {
                // What the library takes for the end.
                break;
            }
        }
        Some(Self { entries })
    }

    /// The keys of a service.
    pub fn of_service<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a KeytabEntry> {
        self.entries.iter().filter(move |entry| entry.service.eq_ignore_ascii_case(service))
    }
}

impl KeytabEntry {
    fn parse(record: &[u8]) -> Option<Self> {
        let mut rest = Reader(record);
        let components = u16::from_be_bytes(rest.array()?);
        if components == 0 || components > MAX_COMPONENTS {
            return None;
        }
        let realm = rest.text()?;
        let names = (0..components).map(|_| rest.text()).collect::<Option<Vec<_>>>()?;
        // Kind of name, time, version.
        rest.take(4 + 4 + 1)?;
        let encryption = u16::from_be_bytes(rest.array()?);
        let length = u16::from_be_bytes(rest.array()?);
        rest.take(usize::from(length))?;
        let service = names.first()?.clone();
        Some(Self { service, principal: format!("{}@{realm}", names.join("/")), encryption })
    }

    /// Whether messages can be sealed with it: AES and Camellia (RFC 4121), not DES and RC4.
    #[must_use]
    pub const fn can_seal(&self) -> bool {
        matches!(self.encryption, 17..=20 | 25 | 26)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = u16::from_be_bytes(self.array()?);
        Some(String::from_utf8_lossy(self.take(usize::from(length))?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(names: &[&str], encryption: u16) -> Vec<u8> {
        let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
        let mut record = u16::try_from(names.len()).unwrap().to_be_bytes().to_vec();
        record.extend(text("EXAMPLE.TEST"));
        record.extend(names.iter().flat_map(|name| text(name)));
        record.extend([0, 0, 0, 1, 0, 0, 0, 0, 3]);
        record.extend(encryption.to_be_bytes());
        record.extend([0, 4, 1, 2, 3, 4]);
        // Newer files say the version again, with four bytes.
        record.extend([0, 0, 0, 3]);
        [&i32::try_from(record.len()).unwrap().to_be_bytes(), record.as_slice()].concat()
    }

    #[test]
    fn the_names_of_a_keytab_are_read() {
        let hole = [&(-5_i32).to_be_bytes()[..], &[0; 5]].concat();
        let bytes =
            [&[5, 2][..], &entry(&["HTTP", "vm.example.test"], 18), &hole, &entry(&["host", "vm"], 23)].concat();
        let keytab = Keytab::parse(&bytes).unwrap();
        let http: Vec<_> = keytab.of_service("http").collect();
        assert_eq!(http.len(), 1);
        assert_eq!(http[0].principal, "HTTP/vm.example.test@EXAMPLE.TEST");
        assert!(http[0].can_seal());
        assert!(keytab.of_service("host").all(|entry| !entry.can_seal()));
        assert_eq!(keytab.of_service("WSMAN").count(), 0);
        for end in (0..bytes.len()).filter(|end| ![2, 2 + entry(&["HTTP", "vm.example.test"], 18).len()].contains(end))
        {
            let cut = Keytab::parse(&bytes[..end]);
            assert!(cut.is_none_or(|cut| cut.entries.len() < 2), "{end}");
        }
        assert_eq!(Keytab::parse(&[5, 1]), None);
        assert_eq!(Keytab::parse(b"alice:$argon2id$"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Keytab::parse(&bytes);
            Keytab::parse(&[&[5, 2], bytes.as_slice()].concat());
        }
    }
}
