//! Pull on a subscription.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::soap::{Fault, Subcode, action};
use crate::time::Guid;
use crate::xml::Writer;

use super::super::contexts::{in_progress, invalid};
use super::super::enumeration_body::PullBody;
use super::super::fault::from_cim;
use super::super::request::Request;
use super::super::service::{Answer, Service};
use super::super::transfer::overhead;
use super::batch::{Batch, Room, write_dropped};
use super::bookmark;
use super::hub::Eventing;
use super::operations::check_owner;
use super::subscription::Subscription;

/// Room for the new context, the bookmark and the elements around the items.
const AROUND: usize = 768;

/// Why a Pull stopped waiting.
enum Woken {
    /// There is something to send.
    Events,
    /// A heartbeat is due.
    Heartbeat,
    /// The time of the Pull is over, or the service stops.
    Late,
    /// The subscription has ended.
    Ended,
}

/// Marks that a Pull is at work, as long as it is.
struct Pulling<'s>(&'s Subscription);

impl<'s> Pulling<'s> {
    fn begin(subscription: &'s Subscription) -> Result<Self, Fault> {
        let mut live = subscription.live();
        if live.pulling {
            return Err(in_progress());
        }
        live.pulling = true;
        Ok(Self(subscription))
    }
}

impl Drop for Pulling<'_> {
    fn drop(&mut self) {
        self.0.live().pulling = false;
    }
}

impl Service {
    /// Pull with the context of a subscription: waits for events, or for the time of a heartbeat, and answers what
    /// there is. `None` when it is not such a context.
    ///
    /// A Pull confirms what the Pull before it brought. Until the new context is used the old one brings the same
    /// again, so that an answer that was lost is asked for again and nothing is lost or repeated otherwise.
    pub(in super::super) async fn pull_events(
        &self,
        request: &Request<'_, '_>,
        body: &PullBody,
    ) -> Result<Option<Answer>, Fault> {
        let Some((eventing, subscription)) = self.subscription_of(body.context) else { return Ok(None) };
        let subscription = &*subscription;
        check_owner(subscription, request.principal)?;
        let _pulling = Pulling::begin(subscription)?;
        confirm(subscription, body.context)?;
        let time = body.max_time.or(subscription.terms.max_time).unwrap_or(request.timeout);
        let woken = wait(eventing, subscription, time).await;
        let room = self.room_for_events(request, body, subscription);
        let (batch, heartbeat) = match woken {
            Woken::Events => (eventing.batch(subscription, room), false),
            Woken::Heartbeat => (Batch::default(), true),
            Woken::Late => {
                return Err(Fault::new(Subcode::TimedOut).reason("No event happened in this time; pull again."));
            }
            Woken::Ended => return Ok(Some(Answer::body(ended()))),
        };
        if batch.cancel {
            eventing.remove(subscription.id).await.map_err(|error| from_cim(&error))?;
            return Ok(Some(Answer::body(ended())));
        }
        let context = self.ids.new_guid();
        offer(subscription, body.context, context, &batch);
        eventing.store(subscription).await.map_err(|error| from_cim(&error))?;
        Ok(Some(answer(eventing, subscription, context, &batch, heartbeat)))
    }

    /// Release of the context of a subscription ends the subscription. `None` when it is not such a context.
    pub(in super::super) async fn release_events(
        &self,
        request: &Request<'_, '_>,
        context: Guid,
    ) -> Result<Option<Answer>, Fault> {
        let Some((eventing, subscription)) = self.subscription_of(context) else { return Ok(None) };
        check_owner(&subscription, request.principal)?;
        eventing.remove(subscription.id).await.map_err(|error| from_cim(&error))?;
        Ok(Some(Answer::body(String::new())))
    }

    fn subscription_of(&self, context: Guid) -> Option<(&Arc<Eventing>, Arc<Subscription>)> {
        let eventing = self.eventing.as_ref()?;
        Some((eventing, eventing.find_context(context)?))
    }

    fn room_for_events(&self, request: &Request<'_, '_>, body: &PullBody, subscription: &Subscription) -> Room {
        let envelope = request.budget.min(subscription.terms.max_envelope.unwrap_or(usize::MAX));
        let elements = body.max_elements.min(self.options.limits.max_batch_items);
        let elements = elements.min(subscription.terms.max_elements.unwrap_or(u32::MAX));
        let around = overhead(request) + request.encoding.octets(" ") * AROUND;
        Room {
            elements: usize::try_from(elements).unwrap_or(usize::MAX),
            octets: envelope.saturating_sub(around).min(body.max_characters.unwrap_or(usize::MAX)),
            encoding: request.encoding,
            wrapped: false,
        }
    }
}

/// Takes what was sent with the context as received.
fn confirm(subscription: &Subscription, context: Guid) -> Result<(), Fault> {
    let mut live = subscription.live();
    let contexts = &mut live.progress.contexts;
    let index = contexts.iter().position(|(known, _)| *known == context).ok_or_else(invalid)?;
    contexts.drain(..index);
    let position = contexts.first().map_or(0, |(_, position)| *position);
    live.confirm(position);
    Ok(())
}

/// Notes a new context beside the one that was pulled with.
fn offer(subscription: &Subscription, pulled: Guid, context: Guid, batch: &Batch) {
    let mut live = subscription.live();
    let delivered = live.progress.delivered;
    live.progress.contexts = vec![(pulled, delivered), (context, batch.last.unwrap_or(delivered))];
    live.progress.dropped = live.progress.dropped.saturating_sub(batch.dropped);
}

async fn wait(eventing: &Eventing, subscription: &Subscription, time: Duration) -> Woken {
    let begun = Instant::now();
    // What is further away than the runtime counts is never.
    let at = |time: Duration| begun.checked_add(time);
    let late = at(time);
    let heartbeat = subscription.terms.heartbeats.and_then(at);
    loop {
        let news = subscription.news.notified();
        tokio::pin!(news);
        // Registered before looking, so that nothing slips in between.
        news.as_mut().enable();
        if subscription.ended.is_cancelled() || subscription.is_expired(eventing.parts.clock.now()) {
            return Woken::Ended;
        }
        {
            let live = subscription.live();
            if live.len() > 0 || live.progress.dropped > 0 {
                return Woken::Events;
            }
        }
        tokio::select! {
            () = news => {}
            () = eventing.closing.cancelled() => return Woken::Late,
            () = until(heartbeat.filter(|heartbeat| late.is_none_or(|late| *heartbeat <= late))) => {
                return Woken::Heartbeat;
            }
            () = until(late) => return Woken::Late,
        }
    }
}

/// Waits until then, or for ever.
pub(super) async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

fn answer(eventing: &Eventing, subscription: &Subscription, context: Guid, batch: &Batch, heartbeat: bool) -> Answer {
    let mut w = Writer::with_capacity(batch.items.len() + 512);
    w.element("n:PullResponse", |w| {
        w.text_element("n:EnumerationContext", &format!("uuid:{context}"));
        w.element("n:Items", |w| {
            if batch.dropped > 0 {
                write_dropped(w, batch.dropped);
            }
            w.raw(&batch.items);
            if heartbeat {
                w.empty_with("w:Event", &[("Action", action::HEARTBEAT)]);
            }
        });
    });
    let mut headers = Writer::default();
    if subscription.terms.send_bookmarks {
        let position = batch.last.unwrap_or_else(|| subscription.live().progress.delivered);
        headers.text_element("w:Bookmark", &bookmark::write(eventing.options.installation, position));
    }
    Answer { body: w.finish(), headers: headers.finish() }
}

/// The answer when there will be no more.
fn ended() -> String {
    let mut w = Writer::with_capacity(128);
    w.element("n:PullResponse", |w| {
        w.empty("n:Items");
        w.empty("n:EndOfSequence");
    });
    w.finish()
}
