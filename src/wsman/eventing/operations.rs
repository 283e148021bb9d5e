//! Subscribe, Renew and Unsubscribe.

use std::sync::Arc;

use crate::cimom::Principal;
use crate::soap::{Fault, Subcode, code, detail};
use crate::time::{Guid, Timestamp, format_xs_duration};
use crate::xml::Writer;

use super::super::fault::from_cim;
use super::super::request::Request;
use super::super::service::{Answer, Service};
use super::super::target::selectors;
use super::body::{Expires, SubscribeBody, invalid, read_renew, read_subscribe};
use super::bookmark;
use super::existing::ExistingFilter;
use super::hub::Eventing;
use super::sink::Delivery;
use super::subscription::Subscription;
use super::terms::{Address, DeliveryMode, Progress, Stored, Terms};

const EVENTING: &str = "http://schemas.xmlsoap.org/ws/2004/08/eventing";
const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";

impl Service {
    /// With eventing. Subscriptions that are kept come with [`start_eventing`](Self::start_eventing).
    #[must_use]
    pub fn with_eventing(mut self, eventing: Arc<Eventing>) -> Self {
        self.eventing = Some(eventing);
        self
    }

    /// Takes up the subscriptions that are kept and begins to serve them, inside of a tokio runtime.
    pub fn start_eventing(&self) {
        let Some(eventing) = &self.eventing else { return };
        for record in eventing.parts.store.subscriptions() {
            let id = record.id;
            let restored =
                serde_json::from_str::<Stored>(&record.terms).map_err(|error| error.to_string()).and_then(|stored| {
                    let filter = self.event_filter(&*eventing.parts.provider, &stored.terms);
                    let filter = filter.map_err(|fault| fault.reason)?;
                    for address in stored.terms.notify_to.iter().chain(&stored.terms.end_to) {
                        eventing.check_sink(address).map_err(|fault| fault.reason)?;
                    }
                    let limit = eventing.options.queue_limit;
                    Ok(Subscription::new((id, record.owner), stored, filter, limit))
                });
            match restored {
                Ok(subscription) => drop(eventing.insert(subscription)),
                Err(reason) => {
                    tracing::warn!(subscription = %id, reason, "A subscription cannot be taken up again; it is removed");
                    let store = Arc::clone(&eventing.parts.store);
                    eventing.tasks.spawn(async move {
                        if let Err(error) = store.remove(id).await {
                            tracing::warn!(subscription = %id, %error, "The record of a subscription stays");
                        }
                    });
                }
            }
        }
        eventing.tasks.spawn(Arc::clone(eventing).follow());
    }

    /// Stops deliveries and waiting Pulls; subscriptions stay for the next start.
    pub async fn close_eventing(&self) {
        if let Some(eventing) = &self.eventing {
            eventing.close().await;
        }
    }

    /// Subscribe.
    pub(in super::super) async fn subscribe(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let eventing = self.eventing()?;
        // The resource is judged first, as for every operation; which of its classes have events is for the filter.
        let resource = self.target(request)?;
        let body = read_subscribe(request)?;
        let existing = self.existing_filter(&resource, body.query.is_some())?;
        for address in body.delivery.notify_to.iter().chain(&body.end_to) {
            eventing.check_sink(address)?;
        }
        let (expires, bookmark) = (body.expires, body.bookmark.clone());
        let terms = terms(request, body, existing)?;
        let filter = self.event_filter(&*eventing.parts.provider, &terms)?;
        if !eventing.has_room(request.principal.name()) {
            return Err(Fault::new(Subcode::QuotaLimit).code(code::QUOTA_MAX_OPERATIONS).reason(format!(
                "The user has {} subscriptions, which is the limit; unsubscribe some of them.",
                eventing.options.subscriptions_per_user
            )));
        }
        eventing.parts.provider.record(true).await.map_err(|error| from_cim(&error))?;
        let window = eventing.parts.provider.window();
        let delivered = match bookmark {
            Some(text) => bookmark::read(&text, eventing.options.installation, window)?,
            None => window.newest,
        };
        let granted = eventing.grant(expires, request.now);
        let context = (terms.mode == DeliveryMode::Pull).then(|| self.ids.new_guid());
        let contexts = context.map(|context| (context, delivered)).into_iter().collect();
        let progress = Progress { delivered, contexts, expires: granted.at, dropped: 0 };
        let owner = request.principal.name().into();
        let stored = Stored { terms, progress };
        let id = self.ids.new_guid();
        let subscription = Subscription::new((id, owner), stored, filter, eventing.options.queue_limit);
        eventing.store(&subscription).await.map_err(|error| from_cim(&error))?;
        let subscription = eventing.insert(subscription);
        tracing::info!(
            subscription = %id,
            user = request.principal.name(),
            mode = ?subscription.terms.mode,
            query = subscription.terms.query,
            "Subscribed"
        );
        Ok(Answer::body(response(&subscription, granted, request.now, context)))
    }

    /// Renew: the subscription lives as long again as is asked for.
    pub(in super::super) async fn renew(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let eventing = self.eventing()?;
        let gone = || {
            Fault::new(Subcode::UnableToRenew)
                .reason("The subscription is unknown, has expired or is ending; subscribe again.")
        };
        let id = identifier(request)?;
        let expires = read_renew(request)?;
        let subscription = id.and_then(|id| eventing.find(id)).ok_or_else(gone)?;
        check_owner(&subscription, request.principal)?;
        let granted = eventing.grant(expires, request.now);
        subscription.live().progress.expires = granted.at;
        eventing.store(&subscription).await.map_err(|error| from_cim(&error))?;
        if subscription.ended.is_cancelled() {
            return Err(gone());
        }
        subscription.news.notify_waiters();
        let mut w = Writer::with_capacity(256);
        w.element_with("e:RenewResponse", &[("xmlns:e", EVENTING)], |w| granted.write(w, request.now));
        Ok(Answer::body(w.finish()))
    }

    /// Unsubscribe.
    pub(in super::super) async fn unsubscribe(&self, request: &Request<'_, '_>) -> Result<Answer, Fault> {
        let eventing = self.eventing()?;
        let subscription = identifier(request)?.and_then(|id| eventing.find(id)).ok_or_else(|| {
            Fault::new(Subcode::DestinationUnreachable).reason("There is no subscription with this identifier.")
        })?;
        check_owner(&subscription, request.principal)?;
        eventing.remove(subscription.id).await.map_err(|error| from_cim(&error))?;
        tracing::info!(subscription = %subscription.id, user = request.principal.name(), "Unsubscribed");
        Ok(Answer::body(String::new()))
    }

    fn eventing(&self) -> Result<&Arc<Eventing>, Fault> {
        self.eventing
            .as_ref()
            .ok_or_else(|| Fault::new(Subcode::ActionNotSupported).reason("This service has no events."))
    }
}

impl Eventing {
    /// Whether messages may be sent to a sink. What is configured is asked each time a subscription begins, also
    /// after a restart.
    pub(super) fn check_sink(&self, address: &Address) -> Result<(), Fault> {
        let url = Delivery::parse_url(&address.url).ok_or_else(|| {
            invalid("The address of a sink is a URL such as http://collector:5985/wsman/subscriptions.")
                .code(code::EVENTING_INVALID_NOTIFYTO_ADDRESS)
        })?;
        let unusable = |reason: String| Fault::new(Subcode::EventDeliverToUnusable).reason(reason);
        if !self.options.push_hosts.iter().any(|known| known.eq_ignore_ascii_case(url.host)) {
            return Err(unusable(format!(
                "Events are not pushed to {}; the key push_hosts in section [events] of the configuration lists the hosts that may have them.",
                url.host
            )));
        }
        if url.secure && !self.options.https {
            return Err(unusable(
                "Events are not pushed over https, because the key ca in section [events] of the configuration names no certificates to trust.".to_owned(),
            ));
        }
        Ok(())
    }

    /// How long a subscription lives: as long as was asked for, and not longer than the limit.
    fn grant(&self, asked: Option<Expires>, now: Timestamp) -> Expires {
        let after = |time| {
            let time = chrono::Duration::from_std(time).unwrap_or(chrono::Duration::MAX);
            now.checked_add_signed(time).unwrap_or(Timestamp::MAX_UTC)
        };
        let asked = asked.unwrap_or_else(|| Expires { at: after(self.options.default_expires), is_date: false });
        Expires { at: asked.at.min(after(self.options.max_expires)), ..asked }
    }
}

impl Expires {
    /// `e:Expires` in the form that was asked for.
    fn write(self, w: &mut Writer, now: Timestamp) {
        let text = if self.is_date {
            self.at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
        } else {
            format_xs_duration((self.at - now).to_std().unwrap_or_default())
        };
        w.text_element("e:Expires", &text);
    }
}

/// What the request agrees to.
fn terms(request: &Request<'_, '_>, body: SubscribeBody, existing: Option<ExistingFilter>) -> Result<Terms, Fault> {
    let (keys, namespace) = selectors(request)?;
    if let Some((name, _)) = keys.first().filter(|_| existing.is_none()) {
        return Err(Fault::new(Subcode::InvalidSelectors)
            .detail(detail::UNEXPECTED_SELECTORS, code::UNEXPECTED_SELECTORS)
            .reason(format!("Subscribe takes no selector but __cimnamespace; {name} is one too many.")));
    }
    let (query, source) = existing.map_or((body.query, None), |filter| (Some(filter.query), Some(filter.namespace)));
    let delivery = body.delivery;
    Ok(Terms {
        resource_uri: request.headers.resource_uri.as_deref().unwrap_or_default().to_owned(),
        namespace,
        query,
        source,
        mode: delivery.mode,
        manager: request.headers.to.as_deref().unwrap_or_default().to_owned(),
        notify_to: delivery.notify_to,
        end_to: body.end_to,
        heartbeats: delivery.heartbeats,
        retry: delivery.retry,
        max_elements: delivery.max_elements,
        max_time: delivery.max_time,
        max_envelope: delivery.max_envelope,
        policy: delivery.policy,
        utf16: delivery.utf16,
        send_bookmarks: body.send_bookmarks,
        precise_arrays: request.precise_arrays,
    })
}

/// The body of `e:SubscribeResponse`.
fn response(subscription: &Subscription, granted: Expires, now: Timestamp, context: Option<Guid>) -> String {
    let mut w = Writer::with_capacity(1024);
    w.element_with("e:SubscribeResponse", &[("xmlns:e", EVENTING)], |w| {
        w.element("e:SubscriptionManager", |w| write_manager(w, subscription));
        granted.write(w, now);
        if let Some(context) = context {
            w.element_with("n:EnumerationContext", &[("xmlns:n", ENUMERATION)], |w| {
                w.text(&format!("uuid:{context}"));
            });
        }
    });
    w.finish()
}

/// The reference to the manager of a subscription, without an element around it.
pub(super) fn write_manager(w: &mut Writer, subscription: &Subscription) {
    w.text_element("a:Address", &subscription.terms.manager);
    w.element("a:ReferenceParameters", |w| {
        w.text_element("w:ResourceURI", &subscription.terms.resource_uri);
        if let Some(namespace) = &subscription.terms.namespace {
            w.element("w:SelectorSet", |w| {
                w.element_with("w:Selector", &[("Name", "__cimnamespace")], |w| w.text(namespace));
            });
        }
        w.text_element("e:Identifier", &format!("uuid:{}", subscription.id));
    });
}

/// The subscription a request is about; none when the header is not one that this service gave out.
fn identifier(request: &Request<'_, '_>) -> Result<Option<Guid>, Fault> {
    let text = request.headers.identifier.as_deref().filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| invalid("The header wse:Identifier is missing."))?;
    Ok(text.strip_prefix("uuid:").unwrap_or(text).parse().ok())
}

/// A subscription is its owner's only.
pub(super) fn check_owner(subscription: &Subscription, principal: &Principal) -> Result<(), Fault> {
    if subscription.owner == principal.name() {
        return Ok(());
    }
    Err(Fault::new(Subcode::AccessDenied)
        .code(code::DIFFERENT_AUTHZ_TOKEN)
        .reason("The subscription belongs to another user."))
}
