//! What many checks need.

use super::super::case::{Case, Checked, Stop};
use super::super::message::{Message, option};
use super::super::subject::Found;

/// A header nobody knows, with these attributes.
pub(super) fn unknown_header(attributes: &str) -> String {
    format!("<c:Unknown xmlns:c=\"urn:wsnapd:conformance\"{attributes}/>")
}

/// A reference parameter that is to come back.
pub(super) const COOKIE: &str = "<c:Cookie xmlns:c=\"urn:wsnapd:conformance\">of the client</c:Cookie>";

/// An endpoint element, `a:ReplyTo` for one, with an address and parameters.
pub(super) fn endpoint(tag: &str, address: &str, parameters: &str) -> String {
    let parameters = if parameters.is_empty() {
        String::new()
    } else {
        format!("<a:ReferenceParameters>{parameters}</a:ReferenceParameters>")
    };
    format!("<{tag}><a:Address>{address}</a:Address>{parameters}</{tag}>")
}

impl Case {
    /// The first instance to work with.
    pub(super) fn first(&self) -> Result<Found, Stop> {
        self.subject.instances.first().cloned().ok_or_else(|| {
            Stop::NotApplicable(format!("the query \"{}\" finds no instance", self.subject.profile.cim.query))
        })
    }

    /// Get of the first instance.
    pub(super) fn get(&self) -> Result<Message, Stop> {
        Ok(self.first()?.get())
    }

    /// Get of an instance that is not there.
    pub(super) fn get_missing(&self) -> Result<Message, Stop> {
        let mut found = self.first()?;
        let shared = self.subject.profile.cim.shared_key.clone();
        let own = found.selectors.iter_mut().find(|(name, _)| *name != shared && !name.starts_with("__"));
        let (_, value) = own.ok_or_else(|| Stop::NotApplicable("the class has one key only".to_owned()))?;
        "C0FFEE00-0000-4000-8000-000000000000".clone_into(value);
        Ok(found.get())
    }

    /// The instance whose methods are called.
    pub(super) fn service(&self) -> Result<Found, Stop> {
        self.subject.service.clone().ok_or_else(|| {
            Stop::NotApplicable(format!("there is no instance of {}", self.subject.profile.method.class))
        })
    }

    /// A call that is understood and refused by the method itself.
    pub(super) fn harmless(&self) -> Result<Message, Stop> {
        let reference = self.first()?.reference();
        self.refused_call(&format!("<r:{0}>{reference}</r:{0}>", self.subject.profile.method.reference))
    }

    /// The same with this in place of the reference parameter.
    pub(super) fn refused_call(&self, reference: &str) -> Result<Message, Stop> {
        let method = &self.subject.profile.method;
        let number = format!("<r:{0}>{1}</r:{0}>", method.number, method.refused);
        Ok(self.service()?.invoke(&method.name, &format!("{reference}{number}")))
    }

    /// Enumerate of the numerous class, optimised.
    pub(super) fn numerous(&self, most: u32, inner: &str) -> Message {
        Message::list(self.subject.class_uri(&self.subject.profile.cim.numerous_class), most, inner)
    }

    /// The numerous class, not optimised.
    pub(super) fn numerous_plain(&self) -> Message {
        Message::enumerate(self.subject.class_uri(&self.subject.profile.cim.numerous_class), "")
    }

    /// Pull of the numerous class.
    pub(super) fn pull(&self, context: &str, inner: &str) -> Message {
        Message::pull(self.subject.class_uri(&self.subject.profile.cim.numerous_class), context, inner)
    }

    /// Release of a context of the numerous class.
    pub(super) fn release(&self, context: &str) -> Message {
        Message::release(self.subject.class_uri(&self.subject.profile.cim.numerous_class), context)
    }

    /// Releases what a check opened; what is gone already is no matter.
    pub(super) async fn tidy(&self, context: &str) {
        if !context.is_empty() {
            self.subject.quiet(&self.release(context)).await;
        }
    }

    /// The definition of the class to work with, with everything in it: a long answer.
    pub(super) fn class_definition(&self) -> Message {
        let cim = &self.subject.profile.cim;
        let options = ["IncludeInheritedElements", "IncludeQualifiers", "IncludeClassOrigin"];
        let options: String = options.iter().map(|name| option(name, "true")).collect();
        Message::get(super::super::message::CLASS_SCHEMA)
            .also("__cimnamespace", &cim.namespace)
            .also("ClassName", &cim.class)
            .options(&options)
    }

    /// Get of the configuration; not applicable where there is none.
    pub(super) fn configuration(&self) -> Result<Message, Stop> {
        if self.subject.setting_text("MaxEnvelopeSizekb").is_none() {
            return Err(Stop::NotApplicable("the server shows no winrm/config".to_owned()));
        }
        Ok(Message::get(super::super::message::CONFIG))
    }
}

/// Fails without an exchange that shows it.
pub(super) fn fail(reason: impl Into<String>) -> Checked {
    Err(Stop::Fail(reason.into()))
}
