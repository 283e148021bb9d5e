//! WS-Transfer Put, Create and Delete (`ws-management.md` §6.3 to §6.5, §6.8).

use std::sync::Arc;

use crate::binding::{ClassSelection, ResourceUri, decode_instance, write_reference};
use crate::cim::{
    CimError, CimInstance, CimStatus, CimValue, ClassDeclaration, PropertyName, RawInstance, RawProperty, namespace_eq,
};
use crate::cimom::Representation;
use crate::soap::{Fault, Subcode, code, detail};
use crate::xml::{Fragment, Ns, Writer};

use super::fault::{from_cim, from_lookup};
use super::fragment::{FragmentPath, NewValue, cannot_process};
use super::request::Request;
use super::service::{Answer, Service};
use super::target::{Resource, Target, action_mismatch};
use super::transfer::{fits, no_fragments, represent};

/// The option that says which properties of a representation are meant.
const MODIFIED_PROPERTIES: &str = "__MIInstanceModifiedPropertiesList";

impl Service {
    /// Put: properties that are given replace, nil makes null, the rest stays. Answers what is there now.
    pub(super) async fn put(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let target = self.writable(request)?;
        let current = self.current(&target)?;
        let class = current.class();
        let fragment = request.headers.fragment_transfer.as_ref().map(FragmentPath::parse).transpose()?;
        let mut changes = match &fragment {
            None => self.whole(&target, class, request.body)?,
            Some(path) => self.part(path, &current, request.body)?,
        };
        let modified = |name: &PropertyName| {
            let mut meant = target.cx.options.iter().filter(|(option, _)| option == MODIFIED_PROPERTIES).peekable();
            meant.peek().is_none() || meant.any(|(_, value)| *name == value.as_str())
        };
        changes.names.retain(modified);
        let work = self.manager.modify(&target.cx, &current, changes);
        request.within("Put", work).await?.map_err(|error| from_write(&error))?;
        self.show(request, &target, &current, fragment.as_ref()).map_err(succeeded)
    }

    /// Create: answers the reference of the new instance.
    pub(super) async fn create(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let target = self.writable(request)?;
        no_fragments(request)?;
        let class = target.class()?;
        if let Some((name, _)) = target.keys.first() {
            return Err(Fault::new(Subcode::InvalidSelectors)
                .detail(detail::UNEXPECTED_SELECTORS, code::UNEXPECTED_SELECTORS)
                .reason(format!("Create takes the keys from the representation, not from the selector {name}.")));
        }
        let given = self.whole(&target, class, request.body)?;
        let work = self.manager.create(&target.cx, class, given);
        let path = request.within("Create", work).await?.map_err(|error| from_write(&error))?;
        let mut w = Writer::with_capacity(1024);
        w.element_with("x:ResourceCreated", &[("xmlns:x", Ns::Transfer.uri())], |w| {
            write_reference(w, &path, &target.style);
        });
        fits(request, Answer::body(w.finish())).map_err(succeeded)
    }

    /// Delete: the answer has an empty body.
    pub(super) async fn delete(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let target = self.writable(request)?;
        no_fragments(request)?;
        let current = self.current(&target)?;
        let work = self.manager.delete(&target.cx, &current);
        request.within("Delete", work).await?.map_err(|error| from_write(&error))?;
        Ok(Answer::body(String::new()))
    }

    /// The resource, if the class or one of its subclasses takes changes by clients.
    fn writable(&self, request: &Request<'_, '_>) -> Result<Box<Target>, Fault> {
        let target = match self.target(request)? {
            Resource::Configuration(resource) => return Err(self.refuse_configuration(request, resource)),
            other => other.into_cim()?,
        };
        let class = target.class()?;
        let namespace = self.manager.namespace(class.namespace()).map_err(|error| from_cim(&error))?;
        if namespace.with_subclasses(class).iter().any(|class| self.manager.is_writable(class)) {
            return Ok(target);
        }
        let operation = request.action.rsplit('/').next().unwrap_or_default();
        Err(action_mismatch(format!("{operation} is not supported for class {}.", class.name())))
    }

    fn current(&self, target: &Target) -> Result<CimInstance, Fault> {
        let class = target.class()?;
        self.manager.find(&target.cx, class, &target.path(class)).map_err(|error| from_lookup(&error))
    }

    /// The representation in the body.
    fn whole(
        &self,
        target: &Target,
        class: &Arc<ClassDeclaration>,
        body: Option<&Fragment<'_>>,
    ) -> Result<Representation, Fault> {
        let body = body.ok_or_else(|| {
            Fault::new(Subcode::InvalidRepresentation)
                .detail(detail::MISSING_VALUES, code::MISSING_VALUES)
                .reason(format!("The body is empty; it has to hold an instance of class {}.", class.name()))
        })?;
        check_namespace(target, class, body)?;
        let raw = decode_instance(body).map_err(|error| invalid_values(format!("{error}")))?;
        if !class.is_a(raw.class_name.as_str()) {
            let reason = format!("the body holds an instance of {}, which is not {}", raw.class_name, class.name());
            return Err(invalid_values(reason));
        }
        self.manager.represent(class, raw).map_err(|error| from_write(&error))
    }

    /// One property, or one item of it, as a fragment.
    fn part(
        &self,
        path: &FragmentPath,
        current: &CimInstance,
        body: Option<&Fragment<'_>>,
    ) -> Result<Representation, Fault> {
        let class = current.class();
        let name = path.written(class)?;
        let NewValue { value, item } = path.new_value(&name, body)?;
        let property = RawProperty { name: name.clone(), value };
        let raw = RawInstance { class_name: class.name().clone(), properties: vec![property] };
        let mut given = self.manager.represent(class, raw).map_err(|error| from_write(&error))?;
        let Some(item) = item else { return Ok(given) };
        let beyond = || cannot_process(format!("Property {name} has no item {}.", item.saturating_add(1)));
        match (current.get(name.as_str()).as_array(), given.instance.get(name.as_str()).as_array()) {
            (Some(items), Some([new])) => {
                let mut items = items.to_vec();
                *items.get_mut(item).ok_or_else(beyond)? = new.clone();
                let spliced = given.instance.set(name.as_str(), CimValue::Array(items.into()));
                spliced.map_err(|error| from_write(&error))?;
                Ok(given)
            }
            (Some(_), _) => Err(invalid_values(format!("an item of {name} is one value"))),
            (None, _) if item == 0 => Ok(given),
            (None, _) => Err(beyond()),
        }
    }

    /// What is there after a Put.
    fn show(
        &self,
        request: &Request<'_, '_>,
        target: &Target,
        before: &CimInstance,
        fragment: Option<&FragmentPath>,
    ) -> Result<Answer, Fault> {
        let path = before.path(&target.cx.namespace);
        let now = self.manager.find(&target.cx, before.class(), &path).map_err(|error| from_lookup(&error))?;
        fits(request, represent(request, target, &now, fragment)?)
    }
}

/// The element of a representation is in the namespace of its class, in any of the URI families.
fn check_namespace(target: &Target, class: &ClassDeclaration, body: &Fragment<'_>) -> Result<(), Fault> {
    let (_, element) = body.open().map_err(|error| invalid_values(format!("the body cannot be read: {error}")))?;
    let uri = element.name().ns.uri();
    let ResourceUri::Cim { namespace, class: ClassSelection::Class(named), .. } = ResourceUri::parse(uri) else {
        return Err(invalid_namespace(uri, class));
    };
    let is_here = namespace.is_none_or(|namespace| namespace_eq(&namespace, &target.cx.namespace));
    if is_here && class.is_a(&named) { Ok(()) } else { Err(invalid_namespace(uri, class)) }
}

fn invalid_namespace(uri: &str, class: &ClassDeclaration) -> Fault {
    Fault::new(Subcode::InvalidRepresentation)
        .detail(detail::INVALID_NAMESPACE, code::INVALID_NAMESPACE)
        .reason(format!("The namespace \"{uri}\" of the body is not that of class {}.", class.name()))
}

fn invalid_values(reason: String) -> Fault {
    from_write(&CimError::invalid_parameter(reason))
}

/// The fault for a change that was refused: wrong values are a wrong representation (`ws-management.md` §13.3).
fn from_write(error: &CimError) -> Fault {
    let fault = from_cim(error);
    match error.status() {
        CimStatus::InvalidParameter | CimStatus::TypeMismatch => Fault {
            cim_error: fault.cim_error,
            ..Fault::new(Subcode::InvalidRepresentation)
                .detail(detail::INVALID_VALUES, code::INVALID_VALUES)
                .reason(fault.reason)
        },
        _ => fault,
    }
}

/// The fault for an answer that cannot be given although the change was made.
fn succeeded(fault: Fault) -> Fault {
    match fault.subcode {
        Some(Subcode::EncodingLimit) => fault.detail(detail::UNREPORTABLE_SUCCESS, code::UNREPORTABLE_SUCCESS),
        _ => fault,
    }
}
