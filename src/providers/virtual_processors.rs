//! How long the virtual processors of machines have run (`clients.md` part 5, "processor time").

use std::collections::HashMap;
use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::indications::windows_time;
use super::scope::{Scope, Shared};
use crate::cim::{CimError, CimInstance, ClassDeclaration, InstanceBuilder};
use crate::cimom::{CallContext, InstanceProvider, InstanceStream};

/// Class of the figures about a virtual processor.
pub(super) const VIRTUAL_PROCESSOR: &str = "Win32_PerfRawData_HvStats_HyperVHypervisorVirtualProcessor";

/// Units of 100 nanoseconds in a second.
const UNITS: u64 = 10_000_000;

/// Serves the figures of the machines that run in processes whose threads are named after their processors.
pub(super) struct VirtualProcessors {
    shared: Arc<Shared>,
    template: CimInstance,
}

impl VirtualProcessors {
    pub(super) fn new(shared: &Arc<Shared>, class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let template = InstanceBuilder::new(class).set("Frequency_Sys100NS", UNITS).build()?;
        Ok(Self { shared: Arc::clone(shared), template })
    }

    fn figures(&self, name: SmolStr, time: std::time::Duration, scope: &Scope) -> Result<CimInstance, CimError> {
        let units = u64::try_from(time.as_nanos() / 100).unwrap_or(u64::MAX);
        InstanceBuilder::from_template(self.template.clone())
            .set("Name", name)
            .set("PercentTotalRunTime", units)
            .set("Timestamp_Sys100NS", windows_time(scope.now))
            .build()
    }
}

impl InstanceProvider for VirtualProcessors {
    fn enumerate(&self, cx: &CallContext, _: &Arc<ClassDeclaration>) -> Result<InstanceStream, CimError> {
        let scope = Scope::new(&self.shared, cx);
        let mut named: HashMap<SmolStr, u32> = HashMap::new();
        let mut found = Vec::new();
        for system in scope.view.systems() {
            let Some(process) = system.process else { continue };
            // Of several machines with one name the others get a number, as Windows counts them.
            let others = named.entry(SmolStr::new(system.name.to_lowercase())).or_default();
            let machine = match *others {
                0 => SmolStr::new(&system.name),
                number => format_smolstr!("{}#{number}", system.name),
            };
            *others += 1;
            for (number, time) in self.shared.options.host.processor_times(process) {
                found.push(self.figures(format_smolstr!("{machine}:Hv VP {number}"), time, &scope));
            }
        }
        Ok(Box::new(found.into_iter()))
    }
}
