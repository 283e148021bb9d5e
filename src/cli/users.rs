//! `wsnapd user`.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::app::{AppError, read_password_file};
use crate::config::Config;
use crate::transport::auth::{NtHash, User, UsersError, UsersFile, hash_password};

use super::args::{UserArgs, UserCommand, UsersFileArgs};
use super::failure::Failure;
use super::output::say;

pub(super) fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add(args) => set(&args, false),
        UserCommand::Passwd(args) => set(&args, true),
        UserCommand::Remove { name, users } => remove(&name, &users),
        UserCommand::List(args) => {
            for user in load(&path(&args)?)?.iter() {
                say(format_args!("{}{}", user.name, if user.may_use_ntlm() { "\tNTLM" } else { "" }));
            }
            Ok(())
        }
    }
}

fn set(args: &UserArgs, known: bool) -> Result<(), Failure> {
    let path = path(&args.users)?;
    let mut users = load(&path)?;
    let old = users.find(&args.name).map(|user| user.name.clone());
    let ntlm = args.ntlm || (!args.no_ntlm && users.find(&args.name).is_some_and(User::may_use_ntlm));
    match (&old, known) {
        (None, true) => return Err(unknown(&args.name)),
        (Some(_), false) => {
            return Err(Failure::failed(format!("there is already a user {}", args.name))
                .hint(format!("`wsnapd user passwd {}` changes the password.", args.name)));
        }
        _ => {}
    }
    // Refuse a bad name before asking for a password.
    let name = old.unwrap_or_else(|| args.name.clone());
    User::new(&name, String::new()).map_err(AppError::UserName)?;
    let password = match &args.password_file {
        Some(file) => read_password_file(file)?,
        None => ask_twice(&name)?,
    };
    if password.is_empty() {
        return Err(Failure::failed("the password is empty"));
    }
    let hash = hash_password(password.as_bytes()).map_err(AppError::Hash)?;
    let user = User::new(&name, hash).map_err(AppError::UserName)?;
    users.set(if ntlm { user.with_ntlm(NtHash::of_password(&password)) } else { user });
    Ok(users.save(&path).map_err(AppError::Users)?)
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
