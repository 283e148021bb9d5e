//! What the providers get from outside.

use std::path::Path;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::backend::HostInspector;
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
    /// What is known of the host, for `root/cimv2`.
    pub host: Arc<HostInspector>,
    /// Minutes the clocks of the host are ahead of UTC, if that is known.
    pub utc_offset_minutes: Option<i16>,
}

impl ProviderOptions {
    /// Options for the host this runs on, under that name and without other names.
    #[must_use]
    pub fn new(host_name: &str, installation: Guid) -> Self {
        let host = Arc::new(HostInspector::open(Path::new("/")));
        Self { host_name: SmolStr::new(host_name), aliases: Vec::new(), installation, host, utc_offset_minutes: None }
    }
}
