//! `Msvm_ShutdownComponent`: asking the guest of a running machine to shut down.

use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::answers::{DONE, INVALID_STATE, NOT_SUPPORTED, Refusal, answer};
use super::element::{COMPUTER_SYSTEM, Element, guid_text};
use super::family::{Elements, Family};
use super::scope::{Scope, Shared};
use crate::cim::{CimError, CimInstance, ClassDeclaration, InstanceBuilder, MethodDeclaration, ObjectPath};
use crate::cimom::{BoxFuture, CallContext, MethodArguments, MethodProvider, MethodResult};
use crate::engine::{RequestedState, SystemState};
use crate::time::Guid;

/// Class of the components.
pub(super) const SHUTDOWN: &str = "Msvm_ShutdownComponent";

/// Type of the component, which every host uses.
const TYPE: &str = "9F8233AC-BE49-4C79-8EE3-E7E1985B2077";

/// The key of the component of a machine.
pub(super) fn device_id(system: Guid) -> SmolStr {
    format_smolstr!("Microsoft:{system}\\{TYPE}")
}

/// The component of a machine: there is one while its guest runs, on a host that can ask guests.
pub(super) fn component_of(scope: &Scope, system: Guid) -> Option<Element> {
    let running = scope.view.system(system).is_some_and(|system| system.state == SystemState::Running);
    (running && scope.shared.engine.capabilities().power).then_some(Element::Shutdown(system))
}

/// Serves the components.
pub(super) struct ShutdownComponents {
    template: CimInstance,
}

impl ShutdownComponents {
    pub(super) fn new(class: &Arc<ClassDeclaration>) -> Result<Self, CimError> {
        let template = InstanceBuilder::new(class)
            .set("Caption", "Shutdown")
            .set("CreationClassName", SHUTDOWN)
            .set("Description", "Asks the guest to shut down")
            .set("ElementName", "Shutdown")
            .set("EnabledState", 2_u16)
            .set("HealthState", 5_u16)
            .set("OperationalStatus", [2_u16])
            .set("Status", "OK")
            .set("StatusDescriptions", ["OK"])
            .set("SystemCreationClassName", COMPUTER_SYSTEM)
            .build()?;
        Ok(Self { template })
    }
}

impl Family for ShutdownComponents {
    fn elements<'s>(&'s self, scope: &'s Scope) -> Elements<'s> {
        Box::new(scope.view.systems().filter_map(|system| component_of(scope, system.id)))
    }

    fn instance(&self, scope: &Scope, element: Element) -> Result<Option<CimInstance>, CimError> {
        let Element::Shutdown(system) = element else { return Ok(None) };
        if component_of(scope, system).is_none() {
            return Ok(None);
        }
        let builder = InstanceBuilder::from_template(self.template.clone())
            .set("DeviceID", device_id(system))
            .set("SystemName", guid_text(system));
        builder.build().map(Some)
    }
}

/// Carries out the methods of the components.
pub(super) struct ShutdownMethods {
    pub(super) shared: Arc<Shared>,
}

impl MethodProvider for ShutdownMethods {
    fn invoke<'a>(
        &'a self,
        cx: &'a CallContext,
        class: &'a Arc<ClassDeclaration>,
        target: &'a ObjectPath,
        method: &'a MethodDeclaration,
        _: MethodArguments,
    ) -> BoxFuture<'a, Result<MethodResult, CimError>> {
        Box::pin(async move {
            let scope = Scope::new(&self.shared, cx);
            let Some(Element::Shutdown(system)) = Element::find(class.name().as_str(), target, &scope) else {
                return Ok(MethodResult::returning(INVALID_STATE));
            };
            if method.name != "InitiateShutdown" {
                return Ok(MethodResult::returning(NOT_SUPPORTED));
            }
            // What the guest does with its programs is up to the guest, whatever `Force` says. The method has no job to
            // answer with: 0 says that the guest is being asked.
            let asked = scope.shared.engine.request_state_change(system, RequestedState::ShutDown, &cx.principal).await;
            answer(asked.map(|_| MethodResult::returning(DONE)).map_err(Refusal::from))
        })
    }
}
