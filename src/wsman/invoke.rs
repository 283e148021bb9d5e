//! Invoke: CIM methods (`ws-management.md` §7, DSP0226 clause 9).

use std::sync::Arc;

use crate::binding::{InstanceWriter, decode_argument};
use crate::cim::{CimError, CimValue, ClassDeclaration, MethodDeclaration, ObjectPath};
use crate::cimom::{MethodArguments, MethodResult};
use crate::soap::{Fault, Subcode, code, detail};
use crate::xml::{Fragment, Writer, XmlError};

use super::fault::{from_argument, from_cim, from_lookup};
use super::request::Request;
use super::service::{Answer, Service};
use super::target::Target;
use super::transfer::fits;

/// Return values of methods that changed something: completed, and job started.
const CHANGED: [u64; 2] = [0, 4096];

impl Service {
    /// Calls the method that the last part of the action names on the instance the selectors name.
    pub(super) async fn invoke(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let target = self.cim_target(request)?;
        let class = target.class()?;
        let name = request.action.rsplit('/').next().unwrap_or_default();
        let declared = self.offers_method(class, name)?;
        let (path, real_class) = if declared.is_static && target.keys.is_empty() {
            (ObjectPath::new(&target.cx.namespace, class.name().clone()), Arc::clone(class))
        } else {
            let instance =
                self.manager.find(&target.cx, class, &target.path(class)).map_err(|error| from_lookup(&error))?;
            (instance.path(&target.cx.namespace), Arc::clone(instance.class()))
        };
        let method = real_class
            .method(name)
            .ok_or_else(|| from_cim(&CimError::method_not_found(real_class.name().as_str(), name)))?;
        let arguments = arguments(method, request.body)?;
        let call = self.manager.invoke(&target.cx, &real_class, &path, method, arguments);
        let result = request.within(name, call).await?.map_err(|error| from_cim(&error))?;
        answer(request, &target, &real_class, method, &result)
    }

    /// The method as the class or one of its subclasses declares it.
    fn offers_method(&self, class: &Arc<ClassDeclaration>, name: &str) -> Result<Arc<MethodDeclaration>, Fault> {
        if let Some(method) = class.method(name) {
            return Ok(Arc::clone(method));
        }
        let namespace = self.manager.namespace(class.namespace()).map_err(|error| from_cim(&error))?;
        namespace
            .with_subclasses(class)
            .iter()
            .find_map(|class| class.method(name).cloned())
            .ok_or_else(|| from_cim(&CimError::method_not_found(class.name().as_str(), name)))
    }
}

/// The arguments in the body, typed by the method's declaration.
fn arguments(method: &MethodDeclaration, body: Option<&Fragment<'_>>) -> Result<MethodArguments, Fault> {
    let mut given: Vec<(String, Vec<Fragment<'_>>)> = Vec::new();
    if let Some(body) = body {
        collect(body, &mut given).map_err(|error| {
            Fault::new(Subcode::SchemaValidationError)
                .code(code::INVALID_SOAP_BODY)
                .reason(format!("The input of the method cannot be read: {error}."))
        })?;
    }
    let mut arguments = MethodArguments::new();
    for (name, elements) in given {
        let parameter = method.parameter(&name).ok_or_else(|| {
            Fault::new(Subcode::InvalidParameter)
                .detail(detail::INVALID_NAME, code::INVALID_PARAMETER_NAME)
                .reason(format!("Method {} has no parameter {name}.", method.name))
        })?;
        // Clients pass nil for output parameters; whatever stands there is not read.
        if parameter.is_in {
            let value = decode_argument(parameter, &elements).map_err(|error| from_argument(&name, &error))?;
            arguments.insert(parameter.name.clone(), value);
        }
    }
    Ok(arguments)
}

/// Groups the children of the body element by name, in any case; the element's own name is not looked
/// at (`ws-management.md` §7.1).
fn collect<'a>(body: &Fragment<'a>, given: &mut Vec<(String, Vec<Fragment<'a>>)>) -> Result<(), XmlError> {
    let (mut reader, _) = body.open()?;
    while let Some(child) = reader.next_child()? {
        let fragment = reader.fragment(&child)?;
        match given.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(child.local())) {
            Some((_, elements)) => elements.push(fragment),
            None => given.push((child.local().to_owned(), vec![fragment])),
        }
    }
    Ok(())
}

/// `METHOD_OUTPUT`: out parameters in the order of the declaration, then ReturnValue.
fn answer(
    request: &Request<'_, '_>,
    target: &Target,
    class: &ClassDeclaration,
    method: &MethodDeclaration,
    result: &MethodResult,
) -> Result<Answer, Fault> {
    let writer = InstanceWriter { style: &target.style, precise_arrays: request.precise_arrays };
    let mut w = Writer::with_capacity(2048);
    let local = format!("{}_OUTPUT", method.name);
    writer.class_element(&mut w, class.name().as_str(), &local, |w| {
        for parameter in method.parameters.iter().filter(|parameter| parameter.is_out) {
            let value = result.output.iter().find(|(name, _)| *name == parameter.name).map(|(_, value)| value);
            match value {
                Some(value) if !value.is_null() => writer.value(w, "p:", parameter.name.as_str(), value),
                _ if parameter.is_array => {}
                _ => writer.value(w, "p:", parameter.name.as_str(), &CimValue::Null),
            }
        }
        writer.value(w, "p:", "ReturnValue", &result.return_value);
    });
    fits(request, Answer::body(w.finish())).map_err(|fault| {
        let changed = result.return_value.as_u64().is_some_and(|code| CHANGED.contains(&code));
        if changed { fault.detail(detail::UNREPORTABLE_SUCCESS, code::UNREPORTABLE_SUCCESS) } else { fault }
    })
}
