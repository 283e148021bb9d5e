//! `wsnapd user`.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::access::{Account, Role, Scope};
use crate::app::{AppError, CertificateInfo, read_password_file};
use crate::config::Config;
use crate::transport::auth::{
    CertificateRule, CertificateRuleError, NtHash, User, UsersError, UsersFile, hash_password,
};

use super::args::{RightsArgs, UserArgs, UserCommand, UsersFileArgs};
use super::failure::Failure;
use super::output::say;

pub(super) fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { user, rights } => set(&user, Some(&rights)),
        UserCommand::Set { name, rights, no_scope, no_cert, users } => {
            change(&name, &rights, (no_scope, no_cert), &users)
        }
        UserCommand::Passwd(args) => set(&args, None),
        UserCommand::Remove { name, users } => remove(&name, &users),
        UserCommand::List(args) => {
            for user in load(&path(&args)?)?.iter() {
                let account = user.account();
                let scope = account.scope.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
                let how = match (user.is_principal(), user.may_use_ntlm(), user.is_by_host()) {
                    (true, ..) => "\tKerberos",
                    (false, true, _) => "\tNTLM",
                    (false, false, true) => "\tPAM",
                    (false, false, false) => "",
                };
                let rules = user.rules().iter().fold(String::new(), |text, rule| format!("{text}\t{rule}"));
                say(format_args!("{}\t{}\t{scope}{how}{rules}", account.name, account.role));
            }
            Ok(())
        }
    }
}

/// Adds a user with some rights, or gives one that is there another password.
fn set(args: &UserArgs, rights: Option<&RightsArgs>) -> Result<(), Failure> {
    let path = path(&args.users)?;
    let mut users = load(&path)?;
    let old = users.find(&args.name).cloned();
    let ntlm = args.ntlm || (!args.no_ntlm && users.find(&args.name).is_some_and(User::may_use_ntlm));
    match (&old, rights.is_none()) {
        (None, true) => return Err(unknown(&args.name)),
        (Some(_), false) => {
            return Err(Failure::failed(format!("there is already a user {}", args.name))
                .hint(format!("`wsnapd user passwd {}` changes the password.", args.name)));
        }
        _ => {}
    }
    if args.name.contains('@') {
        return principal(args, rights, users, &path);
    }
    // Refuse a bad name before asking for a password.
    let name = old.as_ref().map_or_else(|| args.name.clone(), |old| old.account().name.to_string());
    let plain = User::new(&name, String::new()).map_err(AppError::UserName)?;
    let (role, scope) = match rights {
        Some(rights) => wanted(rights, plain.account())?,
        None => old.as_ref().map_or((Role::Administrator, None), |old| as_before(old.account())),
    };
    let certificates = match rights {
        Some(rights) => certificates(&rights.cert)?,
        None => old.as_ref().map(|old| old.rules().to_vec()).unwrap_or_default(),
    };
    if args.no_password || args.pam {
        let make = if args.pam { User::by_host } else { User::without_password };
        let user = make(&name).map_err(AppError::UserName)?;
        users.set(user.with_role(role, scope).with_certificates(certificates));
        return Ok(users.save(&path).map_err(AppError::Users)?);
    }
    let password = match &args.password_file {
        Some(file) => read_password_file(file)?,
        None => ask_twice(&name)?,
    };
    if password.is_empty() {
        return Err(Failure::failed("the password is empty"));
    }
    let hash = hash_password(password.as_bytes()).map_err(AppError::Hash)?;
    let user = User::new(&name, hash).map_err(AppError::UserName)?.with_role(role, scope);
    let user = user.with_certificates(certificates);
    users.set(if ntlm { user.with_ntlm(NtHash::of_password(&password)) } else { user });
    Ok(users.save(&path).map_err(AppError::Users)?)
}

/// Adds a principal of Kerberos, who has no password here.
fn principal(args: &UserArgs, rights: Option<&RightsArgs>, mut users: UsersFile, path: &Path) -> Result<(), Failure> {
    let Some(rights) = rights.filter(|_| args.password_file.is_none() && !args.ntlm && !args.pam) else {
        return Err(Failure::failed(format!("{} logs on with Kerberos and has no password here", args.name)));
    };
    let user = User::principal(&args.name).map_err(AppError::UserName)?;
    let (role, scope) = wanted(rights, user.account())?;
    users.set(user.with_role(role, scope));
    Ok(users.save(path).map_err(AppError::Users)?)
}

/// Changes role, scope and certificates of a user.
fn change(
    name: &str,
    rights: &RightsArgs,
    (no_scope, no_cert): (bool, bool),
    args: &UsersFileArgs,
) -> Result<(), Failure> {
    let path = path(args)?;
    let mut users = load(&path)?;
    let user = users.find(name).cloned().ok_or_else(|| unknown(name))?;
    let nothing = rights.role.is_none() && rights.scope.is_empty() && rights.cert.is_empty();
    if nothing && !no_scope && !no_cert {
        let hint = "Give --role, --scope, --no-scope, --cert or --no-cert.";
        return Err(Failure::failed("nothing to change").hint(hint));
    }
    let (role, scope) = wanted(rights, user.account())?;
    let certificates =
        if no_cert || !rights.cert.is_empty() { certificates(&rights.cert)? } else { user.rules().to_vec() };
    users.set(user.with_role(role, scope.filter(|_| !no_scope)).with_certificates(certificates));
    Ok(users.save(&path).map_err(AppError::Users)?)
}

/// What is asked for, and otherwise what is there.
fn wanted(rights: &RightsArgs, before: &Account) -> Result<(Role, Option<Scope>), Failure> {
    let (role, scope) = as_before(before);
    let scope = if rights.scope.is_empty() {
        scope
    } else {
        Some(Scope::of(&rights.scope).map_err(|error| Failure::failed(error.to_string()))?)
    };
    Ok((rights.role.unwrap_or(role), scope))
}

/// The rules that are asked for; `file=PATH` stands for the thumbprint of a certificate.
fn certificates(given: &[String]) -> Result<Vec<CertificateRule>, Failure> {
    let rule = |text: &String| match text.strip_prefix("file=") {
        Some(file) => {
            let info = CertificateInfo::read(Path::new(file)).map_err(AppError::Certificate)?;
            Ok(CertificateRule::of_certificate(&info.der))
        }
        None => text.parse().map_err(|error: CertificateRuleError| Failure::failed(error.to_string())),
    };
    given.iter().map(rule).collect()
}

fn as_before(account: &Account) -> (Role, Option<Scope>) {
    (account.role, account.scope.as_deref().cloned())
}

fn remove(name: &str, args: &UsersFileArgs) -> Result<(), Failure> {
    let path = path(args)?;
    let mut users = load(&path)?;
    if !users.remove(name) {
        return Err(unknown(name));
    }
    Ok(users.save(&path).map_err(AppError::Users)?)
}

fn unknown(name: &str) -> Failure {
    Failure::not_found(format!("there is no user {name}")).hint("`wsnapd user list` shows them.")
}

fn path(args: &UsersFileArgs) -> Result<PathBuf, Failure> {
    match &args.users_file {
        Some(file) => Ok(file.clone()),
        None => Ok(Config::load(&args.file.config).map_err(AppError::Config)?.users_file),
    }
}

/// The users of a file; none when it is not there yet.
fn load(path: &Path) -> Result<UsersFile, Failure> {
    match UsersFile::load(path) {
        Err(UsersError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(UsersFile::default()),
        loaded => Ok(loaded.map_err(AppError::Users)?),
    }
}

fn ask_twice(name: &str) -> Result<Zeroizing<String>, Failure> {
    let first = ask(&format!("Password for {name}: "))?;
    if *first != *ask("Again: ")? {
        return Err(Failure::failed("the two passwords differ"));
    }
    Ok(first)
}

/// Asks for a password without showing it.
pub(super) fn ask(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| {
        Failure::failed(format!("cannot ask for a password: {error}")).hint("Give it with --password-file.")
    })
}
