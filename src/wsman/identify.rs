//! Identify (DSP0226 clause 11).

use crate::soap::Envelope;
use crate::xml::{Ns, Writer};

use super::options::Identity;

/// What an unauthenticated caller is told of the version (C116).
const MASKED_VERSION: &str = "OS: 0.0.0 SP: 0.0 Stack: 3.0";
const PROFILES: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/";

/// Whether a message is Identify: its body says so, and there is no `a:Action`.
pub(super) fn is_identify(envelope: &Envelope<'_>) -> bool {
    envelope.headers.action.is_none()
        && envelope.body.as_ref().and_then(|body| body.open().ok()).is_some_and(|(_, element)| {
            element.is(Ns::Identity, "Identify") || element.is(Ns::IdentityMsWsmv, "Identify")
        })
}

/// The whole answer; security profiles and the true version for authenticated callers only.
pub(super) fn response(identity: &Identity, authenticated: bool) -> String {
    let mut w = Writer::with_capacity(1024);
    w.raw(
        "<s:Envelope xml:lang=\"en-US\" xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Header/><s:Body>\
         <wsmid:IdentifyResponse xmlns:wsmid=\"http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd\">\
         <wsmid:ProtocolVersion>http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd</wsmid:ProtocolVersion>",
    );
    w.text_element("wsmid:ProductVendor", &identity.product_vendor);
    w.text_element("wsmid:ProductVersion", if authenticated { &identity.product_version } else { MASKED_VERSION });
    if authenticated && !identity.security_profiles.is_empty() {
        w.element("wsmid:SecurityProfiles", |w| {
            for profile in &identity.security_profiles {
                w.element("wsmid:SecurityProfileName", |w| {
                    w.raw(PROFILES);
                    w.text(profile);
                });
            }
        });
    }
    w.raw("</wsmid:IdentifyResponse></s:Body></s:Envelope>");
    w.finish()
}
