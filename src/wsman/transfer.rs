//! WS-Transfer Get, whole or a fragment.

use crate::binding::{InstanceWriter, UriFamily};
use crate::cim::CimInstance;
use crate::cimom::LookupError;
use crate::soap::{Fault, Subcode, code, detail};
use crate::xml::Writer;

use super::fault::from_lookup;
use super::fragment::FragmentPath;
use super::request::Request;
use super::service::{Answer, Service};
use super::target::{Resource, Target};

impl Service {
    /// Get (`ws-management.md` §6.2), or Get of a fragment (§6.8).
    pub(super) fn get(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let answer = match self.target(request)? {
            Resource::Cim(target) => self.get_instance(request, &target)?,
            Resource::ClassSchema(class) => self.get_class(request, class.as_deref())?,
            Resource::Configuration(resource) => self.get_configuration(request, resource)?,
        };
        fits(request, answer)
    }

    fn get_instance(&self, request: &Request<'_, '_>, target: &Target) -> Result<Answer, Fault> {
        let class = target.class()?;
        let instance =
            self.manager.find(&target.cx, class, &target.path(class)).map_err(|error| get_fault(target, &error))?;
        let fragment = request.headers.fragment_transfer.as_ref().map(FragmentPath::parse).transpose()?;
        represent(request, target, &instance, fragment.as_ref())
    }
}

/// The answer that shows an instance, or the fragment of it that was asked for.
pub(super) fn represent(
    request: &Request<'_, '_>,
    target: &Target,
    instance: &CimInstance,
    fragment: Option<&FragmentPath>,
) -> Result<Answer, Fault> {
    let writer = InstanceWriter { style: &target.style, precise_arrays: request.precise_arrays };
    if let Some(path) = fragment {
        return path.answer(&writer, instance);
    }
    let mut w = Writer::with_capacity(4096);
    writer.instance(&mut w, instance);
    Ok(Answer::body(w.finish()))
}

/// Get without any key has a code of its own on a WMI URI (`ws-management.md` §3.3 rule 5).
fn get_fault(target: &Target, error: &LookupError) -> Fault {
    let fault = from_lookup(error);
    match error {
        LookupError::NoKeys(..) if target.family == UriFamily::Wmi => fault.code(code::INVALID_URI_WMI_SINGLETON),
        _ => fault,
    }
}

/// Refuses the fragment header on a resource that is read as a whole (R7.7-1).
pub(super) fn no_fragments(request: &Request<'_, '_>) -> Result<(), Fault> {
    if request.headers.fragment_transfer.is_none() {
        return Ok(());
    }
    Err(Fault::new(Subcode::UnsupportedFeature)
        .detail(detail::FRAGMENT_LEVEL_ACCESS, code::FRAGMENT_TRANSFER_NOT_SUPPORTED)
        .reason("This resource can be read as a whole only."))
}

/// Room for the envelope around the body.
const ENVELOPE_OVERHEAD: usize = 1200;

/// Refuses an answer that does not fit into the envelope the client allows.
pub(super) fn fits(request: &Request<'_, '_>, answer: Answer) -> Result<Answer, Fault> {
    let octets = request.encoding.octets(&answer.body) + request.encoding.octets(&answer.headers);
    if octets + overhead(request) > request.budget { Err(request.too_large()) } else { Ok(answer) }
}

/// What the envelope takes besides the body and the extra headers.
pub(super) fn overhead(request: &Request<'_, '_>) -> usize {
    let parameters: usize = request.reply_parameters().iter().map(|parameter| parameter.as_str().len() + 512).sum();
    let characters = ENVELOPE_OVERHEAD + request.message_id.len() + request.action.len() + parameters;
    match request.encoding {
        super::service::Encoding::Utf8 => characters,
        super::service::Encoding::Utf16 => characters * 2,
    }
}
