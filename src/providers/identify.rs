//! `OMI_Identify` in `root/omi`: who serves here, for `omicli id` (`clients.md` part 2).

use std::sync::Arc;

use super::ProviderOptions;
use super::element::guid_text;
use crate::cim::{CimError, CimInstance, ClassDeclaration, InstanceBuilder};
use crate::cimom::{CallContext, InstanceProvider, InstanceStream};

/// Serves the one instance.
pub(super) struct Identify {
    record: CimInstance,
}

impl Identify {
    pub(super) fn new(class: &Arc<ClassDeclaration>, options: &ProviderOptions) -> Result<Self, CimError> {
        let record = InstanceBuilder::new(class)
            .set("Architecture", std::env::consts::ARCH.to_ascii_uppercase())
            .set("InstanceID", guid_text(options.installation))
            .set("OperatingSystem", std::env::consts::OS.to_ascii_uppercase())
            .set("Platform", platform())
            .set("ProductName", env!("CARGO_PKG_NAME"))
            .set("ProductVendor", env!("CARGO_PKG_NAME"))
            .set("ProductVersionMajor", env!("CARGO_PKG_VERSION_MAJOR"))
            .set("ProductVersionMinor", env!("CARGO_PKG_VERSION_MINOR"))
            .set("ProductVersionRevision", env!("CARGO_PKG_VERSION_PATCH"))
            .set("ProductVersionString", env!("CARGO_PKG_VERSION"))
            .set("SystemName", options.host_name.clone())
            .build()?;
        Ok(Self { record })
    }
}

fn platform() -> String {
    format!("{}_{}_GNU", std::env::consts::OS, std::env::consts::ARCH).to_ascii_uppercase()
}

impl InstanceProvider for Identify {
    fn enumerate(&self, _: &CallContext, _: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        Ok(Box::new(std::iter::once(Ok(self.record.clone()))))
    }
}
