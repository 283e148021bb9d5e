//! The password file: one `name:hash` a line, the hash as an argon2id PHC string, or `*` for a user without a
//! password.
//!
//! A name with an `@` is a principal of Kerberos, who has no password: its line has `*` in the place of the hash.
//!
//! Further fields follow in any order: `$ROLE$` with the role (an administrator without one), `$SCOPE$` with the
//! scope if there is one, `$CERT$` with each rule by which certificates belong to the user (colons as `%3A`, percent
//! signs as `%25`), and for a user who may log on with NTLM `$NT$` with the NT hash in hexadecimal. That hash
//! is as good as the password, so a file that holds one is read only if nobody but its owner can.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use argon2::password_hash::phc::{Output, ParamsString, Salt};
use argon2::{Algorithm, Argon2, Block, Params, PasswordHash, Version};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use zeroize::Zeroizing;

use crate::access::{Account, Role, Scope};
use crate::transport::private_file;

use super::certificate::CertificateRule;
use super::ntlm::NtHash;

/// 7 MiB and five passes: as strong as the larger settings in use elsewhere, and small enough for a
/// server that is to stay small.
const MEMORY_KIB: u32 = 7168;
const PASSES: u32 = 5;

/// Blocks of 1 KiB that are reserved for a check, though it touches only those it needs. Allocators
/// keep a block of a few megabytes for the next time, but give one of more than 32 MiB back to the
/// system, and an idle server should hold nothing.
const ROOM_BLOCKS: usize = 33 * 1024;

/// What a password is compared with when there is no such user, at the same cost.
const NOBODY: &str = "$argon2id$v=19$m=7168,t=5,p=1$bm9ib2R5LWlzLWhlcmU$QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE";

/// What the field with an NT hash begins with.
const NT_FIELD: &str = "$NT$";
/// What the field with the role begins with.
const ROLE_FIELD: &str = "$ROLE$";
/// What the field with the scope begins with.
const SCOPE_FIELD: &str = "$SCOPE$";

/// What the fields with rules for certificates begin with.
const CERTIFICATE_FIELD: &str = "$CERT$";
/// What stands in the place of the hash of a user without a password.
const NO_PASSWORD: &str = "*";

/// Why the password file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// The file cannot be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    /// A line is not `name:hash`.
    #[error(
        "{0}, line {1}: expected name:hash with an argon2 hash or *, and then role, scope, rules and NT hash if any"
    )]
    Line(PathBuf, usize),
    /// The file holds NT hashes and others may read it.
    #[error("{0} holds NT hashes, so only its owner may have any access to it: chmod 600")]
    Exposed(PathBuf),
    /// A name stands there twice; they compare without regard to case.
    #[error("{0}, line {1}: user {2} is already there")]
    Duplicate(PathBuf, usize, String),
}

/// Why a name cannot be that of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserNameError {
    /// Nothing, or more than 104 characters.
    #[error("a user name has 1 to 104 characters")]
    Length,
    /// A character that has a meaning in a logon or in the file.
    #[error("a user name has no colon, slash, backslash, @, #, quote, blank at an end, or control character")]
    Character,
    /// A principal without a realm.
    #[error("a principal of Kerberos is written name@REALM")]
    Principal,
}

/// A user of the password file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    account: Arc<Account>,
    hash: String,
    nt: Option<NtHash>,
    rules: Vec<CertificateRule>,
}

impl User {
    /// A user with a hashed password: an administrator without a scope, until something else is said.
    ///
    /// # Errors
    /// When the name cannot be that of a user.
    pub fn new(name: &str, hash: String) -> Result<Self, UserNameError> {
        if name.is_empty() || name.chars().count() > 104 {
            return Err(UserNameError::Length);
        }
        let forbidden = |c: char| matches!(c, ':' | '\\' | '/' | '@' | '#' | '"') || c.is_control();
        if name.contains(forbidden) || name.trim() != name {
            return Err(UserNameError::Character);
        }
        let account = Account { name: name.into(), role: Role::Administrator, scope: None };
        Ok(Self { account: Arc::new(account), hash, nt: None, rules: Vec::new() })
    }

    /// A user who has no password and logs on by other means.
    ///
    /// # Errors
    /// When the name cannot be that of a user.
    pub fn without_password(name: &str) -> Result<Self, UserNameError> {
        Self::new(name, NO_PASSWORD.to_owned())
    }

    /// The same user, to whom the certificates belong that fit one of these rules, and no others.
    #[must_use]
    pub fn with_certificates(self, mut rules: Vec<CertificateRule>) -> Self {
        rules.sort();
        rules.dedup();
        Self { rules, ..self }
    }

    /// The rules by which certificates belong to the user.
    #[must_use]
    pub fn rules(&self) -> &[CertificateRule] {
        &self.rules
    }

    /// Whether the user has a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.hash != NO_PASSWORD
    }

    /// A principal of Kerberos, `name@REALM`, who logs on with a ticket and in no other way. An administrator without
    /// a scope, until something else is said.
    ///
    /// # Errors
    /// When the name cannot be that of a principal.
    pub fn principal(name: &str) -> Result<Self, UserNameError> {
        let (user, realm) = name.split_once('@').ok_or(UserNameError::Principal)?;
        // Service and host of a service; either part would be the name of a user.
        for part in user.split('/').chain([realm]) {
            Self::new(part, String::new())?;
        }
        let account = Account { name: name.into(), role: Role::Administrator, scope: None };
        Ok(Self { account: Arc::new(account), hash: NO_PASSWORD.to_owned(), nt: None, rules: Vec::new() })
    }

    /// Whether it is a principal of Kerberos.
    #[must_use]
    pub fn is_principal(&self) -> bool {
        self.account.name.contains('@')
    }

    /// The same user, who may also log on with NTLM by the password of this hash.
    #[must_use]
    pub fn with_ntlm(self, hash: NtHash) -> Self {
        Self { nt: Some(hash), ..self }
    }

    /// The same user with another role and scope.
    #[must_use]
    pub fn with_role(self, role: Role, scope: Option<Scope>) -> Self {
        let account = Account { name: self.account.name.clone(), role, scope: scope.map(Arc::new) };
        Self { account: Arc::new(account), ..self }
    }

    /// Name, role and scope.
    #[must_use]
    pub const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Whether the user may log on with NTLM.
    #[must_use]
    pub const fn may_use_ntlm(&self) -> bool {
        self.nt.is_some()
    }

    pub(super) const fn nt_hash(&self) -> Option<&NtHash> {
        self.nt.as_ref()
    }

    /// Reads a line.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, hash) = (fields.next()?, fields.next()?);
        if hash != NO_PASSWORD {
            PasswordHash::new(hash).ok()?;
        }
        let mut user = if name.contains('@') {
            Self::principal(name).ok().filter(|_| hash == NO_PASSWORD)?
        } else {
            Self::new(name, hash.to_owned()).ok()?
        };
        let (mut role, mut scope, mut rules) = (None, None, Vec::new());
        for field in fields {
            if let Some(text) = field.strip_prefix(NT_FIELD).filter(|_| user.nt.is_none() && !user.is_principal()) {
                user = user.with_ntlm(NtHash::from_hex(text)?);
            } else if let Some(text) = field.strip_prefix(ROLE_FIELD).filter(|_| role.is_none()) {
                role = Some(text.parse().ok()?);
            } else if let Some(text) = field.strip_prefix(SCOPE_FIELD).filter(|_| scope.is_none()) {
                scope = Some(text.parse().ok()?);
            } else if let Some(text) = field.strip_prefix(CERTIFICATE_FIELD) {
                rules.push(text.replace("%3A", ":").replace("%25", "%").parse().ok()?);
            } else {
                return None;
            }
        }
        Some(user.with_certificates(rules).with_role(role.unwrap_or(Role::Administrator), scope))
    }
}

/// The users, by name without regard to case (as Windows compares account names).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsersFile {
    users: BTreeMap<String, User>,
}

impl UsersFile {
    /// Reads a password file.
    ///
    /// # Errors
    /// When the file cannot be read, or for the first line that is wrong.
    pub fn load(path: &Path) -> Result<Self, UsersError> {
        let read = |error| UsersError::Read(path.to_owned(), error);
        let text = Zeroizing::new(fs::read_to_string(path).map_err(read)?);
        let mut file = Self::default();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let user = User::parse(line).ok_or_else(|| UsersError::Line(path.to_owned(), number))?;
            if file.find(&user.account.name).is_some() {
                return Err(UsersError::Duplicate(path.to_owned(), number, user.account.name.to_string()));
            }
            file.set(user);
        }
        if file.anyone_may_use_ntlm() && fs::metadata(path).map_err(read)?.permissions().mode() & 0o077 != 0 {
            return Err(UsersError::Exposed(path.to_owned()));
        }
        Ok(file)
    }

    /// Writes the file anew, readable by its owner only. Readers see the old file or the new one, never half of it.
    ///
    /// # Errors
    /// When it cannot be written; the old file is then still there.
    pub fn save(&self, path: &Path) -> Result<(), UsersError> {
        let mut text = Zeroizing::new(String::with_capacity(256 * (self.users.len() + 1)));
        text.push_str("# name:hash:role, then scope, rules for certificates and NT hash if any, one user a line; written by `wsnapd user`\n");
        for user in self.users.values() {
            write!(text, "{}:{}", user.account.name, user.hash).ok();
            write!(text, ":{ROLE_FIELD}{}", user.account.role).ok();
            if let Some(scope) = &user.account.scope {
                write!(text, ":{SCOPE_FIELD}{scope}").ok();
            }
            for rule in &user.rules {
                let rule = rule.to_string().replace('%', "%25").replace(':', "%3A");
                write!(text, ":{CERTIFICATE_FIELD}{rule}").ok();
            }
            if let Some(nt) = &user.nt {
                write!(text, ":{NT_FIELD}{}", nt.to_hex().as_str()).ok();
            }
            text.push('\n');
        }
        private_file::replace(path, text.as_bytes()).map_err(|error| UsersError::Write(path.to_owned(), error))
    }

    /// Adds a user or replaces the one of the same name; tells whether there was one.
    pub fn set(&mut self, user: User) -> bool {
        self.users.insert(user.account.name.to_lowercase(), user).is_some()
    }

    /// Takes a user out; tells whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.users.remove(&name.to_lowercase()).is_some()
    }

    /// The user of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&User> {
        self.users.get(&name.to_lowercase())
    }

    /// The users, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// Whether there is a user who may log on with NTLM.
    #[must_use]
    pub fn anyone_may_use_ntlm(&self) -> bool {
        self.users.values().any(User::may_use_ntlm)
    }

    /// Compares a password with that of a user. An unknown name costs as much time as a known one.
    pub(super) fn verify(&self, name: &str, password: &[u8]) -> Option<&User> {
        let user = self.find(name);
        let fits = matches(user.filter(|user| user.has_password()).map_or(NOBODY, |user| user.hash.as_str()), password);
        user.filter(|user| user.has_password() && fits == Some(true))
    }
}

/// Whether a password has this hash; `None` for a hash that cannot be computed.
fn matches(hash: &str, password: &[u8]) -> Option<bool> {
    let parsed = PasswordHash::new(hash).ok()?;
    let (salt, expected) = (parsed.salt.as_ref()?, parsed.hash.as_ref()?);
    let algorithm = Algorithm::try_from(parsed.algorithm.as_str()).ok()?;
    let version = parsed.version.map_or(Some(Version::default()), |version| Version::try_from(version).ok())?;
    let params = Params::try_from(&parsed).ok()?;
    let mut found = vec![0; expected.as_bytes().len()];
    derive(&Argon2::new(algorithm, version, params), password, salt, &mut found).ok()?;
    Some(found.ct_eq(expected.as_bytes()).into())
}

/// Hashes a password with a new salt.
///
/// # Errors
/// When the system has no random numbers, or the password is longer than argon2 takes (4 GiB).
pub fn hash_password(password: &[u8]) -> Result<String, argon2::password_hash::Error> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut salt = [0; Salt::RECOMMENDED_LENGTH];
    SystemRandom::new().fill(&mut salt).map_err(|_| argon2::password_hash::Error::RngFailure)?;
    let mut hash = [0; Params::DEFAULT_OUTPUT_LEN];
    derive(&argon2, password, &salt, &mut hash)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(argon2.params())?,
        salt: Some(Salt::new(&salt)?),
        hash: Some(Output::new(&hash)?),
    };
    Ok(hash.to_string())
}

/// The hash itself, in memory that the system has back afterwards.
fn derive(argon2: &Argon2<'_>, password: &[u8], salt: &[u8], hash: &mut [u8]) -> argon2::Result<()> {
    let blocks = argon2.params().block_count();
    let mut memory = Vec::with_capacity(blocks.max(ROOM_BLOCKS));
    memory.resize(blocks, Block::default());
    argon2.hash_password_into_with_memory(password, salt, hash, &mut memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nobody_costs_what_ours_cost() {
        let ours = hash_password(b"x").unwrap();
        let prefix = |hash: &str| hash.rsplitn(3, '$').last().map(str::to_owned);
        assert_eq!(prefix(&ours), prefix(NOBODY));
        assert_eq!(ours.len(), NOBODY.len() + 3, "salt of 16 bytes against 18 characters and the same output");
        assert!(PasswordHash::new(NOBODY).is_ok());
    }

    #[test]
    fn nt_hashes_are_kept_in_a_file_of_the_owner_only() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("users");
        let mut users = UsersFile::default();
        let nt = NtHash::of_password("Passw0rd!");
        users.set(User::new("alice", NOBODY.to_owned()).unwrap().with_ntlm(nt.clone()));
        users.set(User::new("bob", NOBODY.to_owned()).unwrap());
        users.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().contains(":$NT$fc525c9683e8fe067095ba2ddc971889\n"));
        let read = UsersFile::load(&path).unwrap();
        assert_eq!(read, users);
        assert_eq!((read.find("ALICE").unwrap().nt_hash(), read.find("bob").unwrap().nt_hash()), (Some(&nt), None));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(UsersFile::load(&path), Err(UsersError::Exposed(_))));
        for field in
            ["", "$NT$", "$NT$00", "fc525c9683e8fe067095ba2ddc971889", "$ROLE$", "$ROLE$king", "$SCOPE$", "$SCOPE$web"]
        {
            private_file::replace(&path, format!("alice:{NOBODY}:{field}\n").as_bytes()).unwrap();
            assert!(matches!(UsersFile::load(&path), Err(UsersError::Line(_, 1))), "{field}");
        }
    }

    #[test]
    fn roles_and_scopes_are_kept_and_a_line_of_earlier_versions_is_an_administrator() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("users");
        private_file::replace(&path, format!("old:{NOBODY}\n").as_bytes()).unwrap();
        let mut users = UsersFile::load(&path).unwrap();
        let account = Arc::clone(users.find("OLD").unwrap().account());
        assert_eq!((account.role, account.scope.clone()), (Role::Administrator, None));
        let scope = "machine=web*;pool=p".parse::<Scope>().unwrap();
        let bob = User::new("bob", NOBODY.to_owned()).unwrap().with_role(Role::Reader, Some(scope));
        users.set(bob.with_ntlm(NtHash::of_password("x")));
        users.save(&path).unwrap();
        assert_eq!(UsersFile::load(&path).unwrap(), users);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(":$ROLE$reader:$SCOPE$machine=web*;pool=p:$NT$"), "{text}");
        for twice in ["$ROLE$reader:$ROLE$operator", "$SCOPE$pool=a:$SCOPE$pool=b"] {
            private_file::replace(&path, format!("bob:{NOBODY}:{twice}\n").as_bytes()).unwrap();
            assert!(matches!(UsersFile::load(&path), Err(UsersError::Line(_, 1))), "{twice}");
        }
    }

    #[test]
    fn rules_for_certificates_and_users_without_a_password_are_kept() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("users");
        let mut users = UsersFile::default();
        let rules = ["upn=a%3Ab:c@corp", "subject=CN=Alice,O=Ex: 100%", "email=a@b.test"];
        let rules: Vec<CertificateRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        users.set(User::without_password("alice").unwrap().with_certificates(rules.clone()));
        users.save(&path).unwrap();
        let read = UsersFile::load(&path).unwrap();
        assert_eq!(read, users);
        assert_eq!(read.find("alice").unwrap().rules().len(), 3);
        assert!(rules.iter().all(|rule| read.find("alice").unwrap().rules().contains(rule)));
        for password in [&b"*"[..], b"", NOBODY.as_bytes()] {
            assert_eq!(read.verify("alice", password), None);
        }
        private_file::replace(&path, format!("alice:{NOBODY}:$CERT$alice\n").as_bytes()).unwrap();
        assert!(matches!(UsersFile::load(&path), Err(UsersError::Line(_, 1))));
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for (name, error) in [
            ("", UserNameError::Length),
            ("a:b", UserNameError::Character),
            ("a\\b", UserNameError::Character),
            ("a@b", UserNameError::Character),
            (" a", UserNameError::Character),
            ("a\n", UserNameError::Character),
            ("#a", UserNameError::Character),
        ] {
            assert_eq!(User::new(name, String::new()), Err(error), "{name:?}");
        }
        assert!(User::new("Jörg Müller", String::new()).is_ok());
        for (name, error) in [
            ("alice", UserNameError::Principal),
            ("@EXAMPLE.TEST", UserNameError::Length),
            ("alice@", UserNameError::Length),
            ("a\\@b@EXAMPLE.TEST", UserNameError::Character),
            ("alice@EXAMPLE.TEST@OTHER.TEST", UserNameError::Character),
            ("WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS", UserNameError::Character),
        ] {
            assert_eq!(User::principal(name), Err(error), "{name:?}");
        }
    }

    #[test]
    fn principals_have_no_password() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("users");
        let mut users = UsersFile::default();
        users.set(User::principal("alice@EXAMPLE.TEST").unwrap().with_role(Role::Operator, None));
        users.set(User::principal("backup/host.example.test@EXAMPLE.TEST").unwrap());
        users.save(&path).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("alice@EXAMPLE.TEST:*:$ROLE$operator\n"));
        let read = UsersFile::load(&path).unwrap();
        assert_eq!(read, users);
        assert!(read.find("Alice@example.test").unwrap().is_principal());
        assert_eq!(read.verify("alice@EXAMPLE.TEST", b"*"), None);
        for line in [
            format!("alice@EXAMPLE.TEST:{NOBODY}"),
            "alice@EXAMPLE.TEST:*:$NT$fc525c9683e8fe067095ba2ddc971889".to_owned(),
        ] {
            private_file::replace(&path, format!("{line}\n").as_bytes()).unwrap();
            assert!(matches!(UsersFile::load(&path), Err(UsersError::Line(_, 1))), "{line}");
        }
    }
}
