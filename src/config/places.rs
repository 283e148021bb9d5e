//! Where files lie when nothing is said, and what the environment says.

use std::path::PathBuf;

/// The configuration file of the system.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/wsnapd/wsnapd.toml";

/// The directory for the user's own data, by the XDG base directory rules; `None` without a home.
#[must_use]
pub fn state_dir() -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state"))).map(|path| path.join("wsnapd"))
}

/// A setting of the client commands that may come from the environment: `WSNAPD_URL`, `WSNAPD_USER`,
/// `WSNAPD_PASSWORD_FILE`, `WSNAPD_CA`.
#[must_use]
pub fn client_setting(name: &str) -> Option<String> {
    variable(name).filter(|value| !value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
