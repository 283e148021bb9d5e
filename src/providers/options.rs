//! What the providers get from outside.

use smol_str::SmolStr;

use crate::time::Guid;

/// What the providers say about the server they run in.
#[derive(Clone, Debug)]
pub struct ProviderOptions {
    /// Name of the host: `Name` of the hosting computer system, `SystemName` of the services, and the host
    /// in object paths.
    pub host_name: SmolStr,
    /// Other names and addresses of the host that clients may write into object paths.
    pub aliases: Vec<SmolStr>,
    /// Identity of this installation, shown by `OMI_Identify`.
    pub installation: Guid,
}

impl ProviderOptions {
    /// Options for a host of that name, without other names.
    #[must_use]
    pub fn new(host_name: &str, installation: Guid) -> Self {
        Self { host_name: SmolStr::new(host_name), aliases: Vec::new(), installation }
    }
}
