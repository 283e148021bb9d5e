//! Enumerate, Pull and Release (`ws-management.md` §6.6, DSP0226 clause 8).

use std::iter::Peekable;

use crate::binding::{InstanceWriter, UriStyle, write_reference};
use crate::cim::{CimInstance, PropertyName, namespace_eq};
use crate::cimom::{InstanceStream, Polymorphism};
use crate::soap::{Fault, Subcode, code, detail};
use crate::time::{Guid, Timestamp};
use crate::xml::Writer;

use super::enumeration_body::{EnumerateBody, Mode, read_enumerate, read_pull};
use super::fault::from_cim;
use super::filter::projected;
use super::request::Request;
use super::service::{Answer, Encoding, Service};
use super::target::{Resource, Target};
use super::transfer::overhead;

/// After so many instances a long enumeration lets others run and looks at the clock.
const BREATH: usize = 64;

/// Items that are written when their turn comes and do not depend on a provider.
pub(super) type TextStream = Box<dyn Iterator<Item = String> + Send>;

/// An open enumeration.
pub(super) enum Enumeration {
    /// Instances of CIM classes.
    Instances { stream: Peekable<InstanceStream>, shape: Box<Shape> },
    /// Class definitions and configuration resources.
    Texts(Peekable<TextStream>),
}

/// How the instances of an enumeration are written.
pub(super) struct Shape {
    projection: Option<Vec<PropertyName>>,
    mode: Mode,
    style: UriStyle,
    precise_arrays: bool,
}

/// How much an answer may hold.
#[derive(Clone, Copy)]
struct Room {
    octets: usize,
    characters: usize,
    elements: u32,
    deadline: Timestamp,
    encoding: Encoding,
    skip_too_large: bool,
}

/// Why a batch ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Everything was sent.
    Finished,
    /// There is more.
    More,
    /// The next item does not even fit alone.
    TooLarge,
}

impl Service {
    /// Enumerate.
    pub(super) async fn enumerate(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let body = read_enumerate(request)?;
        let resource = self.target(request)?;
        let expires = body.expires(request.now)?;
        self.contexts.check_quota(request.principal, request.now)?;
        let mut enumeration = match resource {
            Resource::Cim(target) => self.instances(request, &target, &body)?,
            Resource::ClassSchema(class) => {
                Enumeration::Texts(self.class_list(request, class.as_deref(), &body)?.peekable())
            }
            Resource::Configuration(resource) => {
                Enumeration::Texts(self.configuration_list(request, resource, &body)?.peekable())
            }
        };
        let estimate = estimate(request, &enumeration);
        let mut w = Writer::with_capacity(4096);
        w.start("n:EnumerateResponse");
        if body.optimize {
            let room = self.room(request, body.max_elements.unwrap_or(1), None, request.deadline(), &estimate);
            let (items, end) = self.batch(&mut enumeration, room).await?;
            if end == End::TooLarge && items.is_empty() {
                return Err(request.too_large());
            }
            if end == End::Finished {
                w.empty("n:EnumerationContext");
            } else {
                write_expires(&mut w, expires, request.now);
                write_context(&mut w, self.keep(request, enumeration, expires));
            }
            w.element("w:Items", |w| w.raw(&items));
            if end == End::Finished {
                w.empty("w:EndOfSequence");
            }
        } else {
            write_expires(&mut w, expires, request.now);
            write_context(&mut w, self.keep(request, enumeration, expires));
        }
        w.end("n:EnumerateResponse");
        Ok(Answer { body: w.finish(), headers: estimate })
    }

    /// Pull. The enumeration is found by its context alone (§6.6 rule 7).
    pub(super) async fn pull(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let body = read_pull(request, "Pull")?;
        if let Some(answer) = self.pull_events(request, &body).await? {
            return Ok(answer);
        }
        let mut enumeration = self.contexts.take(body.context, request.principal, request.now)?;
        let estimate = estimate(request, &enumeration);
        let deadline = match body.max_time {
            Some(time) => request.now + chrono::Duration::from_std(time).unwrap_or(chrono::Duration::MAX),
            None => Timestamp::MAX_UTC,
        };
        let room = self.room(request, body.max_elements, body.max_characters, deadline, &estimate);
        let (items, end) = match self.batch(&mut enumeration, room).await {
            Ok(batch) => batch,
            Err(fault) => {
                self.contexts.remove(body.context);
                return Err(fault);
            }
        };
        let now = self.clock.now();
        if items.is_empty() && end != End::Finished {
            // The context stays as it was; an item that can never fit has been left out by the batch.
            self.contexts.put_back(body.context, body.context, enumeration, now);
            return Err(if end == End::TooLarge { request.too_large() } else { timed_out() });
        }
        let mut w = Writer::with_capacity(items.len() + 256);
        w.start("n:PullResponse");
        if end == End::Finished {
            self.contexts.remove(body.context);
        } else {
            let context = self.ids.new_guid();
            self.contexts.put_back(body.context, context, enumeration, now);
            write_context(&mut w, context);
        }
        w.element("n:Items", |w| w.raw(&items));
        if end == End::Finished {
            w.empty("n:EndOfSequence");
        }
        w.end("n:PullResponse");
        Ok(Answer { body: w.finish(), headers: estimate })
    }

    /// Release.
    pub(super) async fn release(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let body = read_pull(request, "Release")?;
        if let Some(answer) = self.release_events(request, body.context).await? {
            return Ok(answer);
        }
        self.contexts.release(body.context, request.principal, request.now)?;
        Ok(Answer::body(String::new()))
    }

    /// The instances that an Enumerate on a CIM class asks for.
    fn instances(
        &self,
        request: &Request<'_, '_>,
        target: &Target,
        body: &EnumerateBody<'_>,
    ) -> Result<Enumeration, Fault> {
        if let Some((name, _)) = target.keys.first() {
            return Err(Fault::new(Subcode::InvalidSelectors)
                .detail(detail::UNEXPECTED_SELECTORS, code::ENUMERATE_WMI_INVALID_KEY)
                .reason(format!("Enumerate takes no selector but __cimnamespace; {name} is one too many.")));
        }
        let selection = self.select(target, body.filter.as_ref(), polymorphism(target, body)?)?;
        let shape = Shape {
            projection: selection.projection,
            mode: body.mode,
            style: target.style.clone(),
            precise_arrays: request.precise_arrays,
        };
        Ok(Enumeration::Instances { stream: selection.stream.peekable(), shape: Box::new(shape) })
    }

    fn keep(&self, request: &Request<'_, '_>, enumeration: Enumeration, expires: Option<Timestamp>) -> Guid {
        let context = self.ids.new_guid();
        self.contexts.insert(context, request.principal.clone(), enumeration, expires, self.clock.now());
        context
    }

    fn room(
        &self,
        request: &Request<'_, '_>,
        max_elements: u32,
        max_characters: Option<usize>,
        deadline: Timestamp,
        headers: &str,
    ) -> Room {
        let taken = overhead(request) + request.encoding.octets(headers);
        Room {
            octets: request.budget.saturating_sub(taken),
            characters: max_characters.unwrap_or(usize::MAX),
            elements: max_elements.min(self.options.limits.max_batch_items),
            deadline,
            encoding: request.encoding,
            skip_too_large: request.headers.max_envelope_size.as_ref().is_some_and(|header| header.skip),
        }
    }

    /// Writes as many items as there is room for.
    async fn batch(&self, enumeration: &mut Enumeration, room: Room) -> Result<(String, End), Fault> {
        let mut items = Writer::with_capacity(4096);
        let (mut octets, mut characters, mut written, mut seen) = (0, 0, 0, 0_usize);
        loop {
            if enumeration.is_finished() {
                return Ok((items.finish(), End::Finished));
            }
            if written >= room.elements {
                return Ok((items.finish(), End::More));
            }
            seen += 1;
            if seen.is_multiple_of(BREATH) {
                tokio::task::yield_now().await;
                if self.clock.now() >= room.deadline {
                    return Ok((items.finish(), End::More));
                }
            }
            let before = items.len();
            enumeration.write(&mut items)?;
            let item = items.as_str().get(before..).unwrap_or_default();
            octets += room.encoding.octets(item);
            if room.characters != usize::MAX {
                characters += item.chars().count();
            }
            if octets <= room.octets && characters <= room.characters {
                enumeration.advance();
                written += 1;
                continue;
            }
            octets -= room.encoding.octets(item);
            items.truncate(before);
            if written > 0 {
                return Ok((items.finish(), End::More));
            }
            // It does not fit alone: it is left out, with or without a word (MaxEnvelopeSize/@Policy).
            enumeration.advance();
            if !room.skip_too_large {
                return Ok((String::new(), End::TooLarge));
            }
            characters = 0;
        }
    }
}

impl Enumeration {
    fn is_finished(&mut self) -> bool {
        match self {
            Self::Instances { stream, .. } => stream.peek().is_none(),
            Self::Texts(stream) => stream.peek().is_none(),
        }
    }

    /// Writes the next item without going on to the one behind it.
    fn write(&mut self, w: &mut Writer) -> Result<(), Fault> {
        match self {
            Self::Instances { stream, shape } => match stream.peek() {
                Some(Ok(instance)) => shape.write(w, instance),
                Some(Err(error)) => return Err(from_cim(error)),
                None => {}
            },
            Self::Texts(stream) => w.raw(stream.peek().map_or("", String::as_str)),
        }
        Ok(())
    }

    fn advance(&mut self) {
        match self {
            Self::Instances { stream, .. } => drop(stream.next()),
            Self::Texts(stream) => drop(stream.next()),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Instances { stream, .. } => stream.size_hint(),
            Self::Texts(stream) => stream.size_hint(),
        }
    }
}

impl Shape {
    /// How indications are written.
    pub(super) const fn of_indications(
        style: UriStyle,
        projection: Option<Vec<PropertyName>>,
        precise_arrays: bool,
    ) -> Self {
        Self { projection, mode: Mode::Object, style, precise_arrays }
    }

    /// One entry of Items.
    pub(super) fn write(&self, w: &mut Writer, instance: &CimInstance) {
        // An association may lead into another namespace, as from a profile to a machine.
        let namespace = instance.class().namespace();
        let other;
        let style = if namespace_eq(namespace, self.style.namespace()) {
            &self.style
        } else {
            other = self.style.in_namespace(namespace);
            &other
        };
        let writer = InstanceWriter { style, precise_arrays: self.precise_arrays };
        let object = |w: &mut Writer| match &self.projection {
            None => writer.instance(w, instance),
            Some(names) => write_projection(w, writer, instance, names),
        };
        let reference = |w: &mut Writer| {
            w.element("a:EndpointReference", |w| {
                write_reference(w, &instance.path(style.namespace()), style);
            });
        };
        match self.mode {
            Mode::Object => object(w),
            Mode::Reference => reference(w),
            Mode::ObjectAndReference => w.element("w:Item", |w| {
                object(w);
                reference(w);
            }),
        }
    }
}

/// The result of a projection: properties in no namespace (`ws-management.md` §8.2).
fn write_projection(w: &mut Writer, writer: InstanceWriter<'_>, instance: &CimInstance, names: &[PropertyName]) {
    let attributes = [
        ("xmlns:w", "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"),
        ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
    ];
    w.element_with("w:XmlFragment", &attributes, |w| {
        for (name, value, is_array) in projected(instance, names) {
            if !(is_array && value.is_null()) {
                writer.value(w, "", name.as_str(), value);
            }
        }
    });
}

/// How long a context lives that was asked to expire; its schema wants it before the context.
fn write_expires(w: &mut Writer, expires: Option<Timestamp>, now: Timestamp) {
    if let Some(left) = expires.and_then(|at| (at - now).to_std().ok()) {
        w.text_element("n:Expires", &crate::time::format_xs_duration(left));
    }
}

fn write_context(w: &mut Writer, context: Guid) {
    w.raw("<n:EnumerationContext>uuid:");
    w.raw(context.encode(&mut [0; 36]));
    w.raw("</n:EnumerationContext>");
}

/// The header `w:TotalItemsCountEstimate` when it was asked for; nil when nobody knows.
fn estimate(request: &Request<'_, '_>, enumeration: &Enumeration) -> String {
    if !request.headers.request_total_items_count_estimate {
        return String::new();
    }
    let mut w = Writer::default();
    match enumeration.size_hint() {
        (low, Some(high)) if low == high => w.text_element("w:TotalItemsCountEstimate", &low.to_string()),
        _ => w.empty_with(
            "w:TotalItemsCountEstimate",
            &[("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"), ("xsi:nil", "true")],
        ),
    }
    w.finish()
}

fn timed_out() -> Fault {
    Fault::new(Subcode::TimedOut).reason("MaxTime elapsed before an item was found; pull again.")
}

/// With all classes only the default mode makes sense (R8.1-6).
fn polymorphism(target: &Target, body: &EnumerateBody<'_>) -> Result<Polymorphism, Fault> {
    match body.polymorphism {
        Some(mode) if target.class.is_none() && mode != Polymorphism::IncludeSubClassProperties => {
            Err(Fault::new(Subcode::PolymorphismModeNotSupported)
                .reason("A resource URI of all classes allows IncludeSubClassProperties only."))
        }
        mode => Ok(mode.unwrap_or_default()),
    }
}
