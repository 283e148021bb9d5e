//! Deliveries to sinks: one task a subscription, so that a sink that is down or slow holds up nobody else.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::soap::action;
use crate::xml::Writer;

use super::super::service::Encoding;
use super::batch::{Batch, Room, write_dropped};
use super::bookmark;
use super::hub::Eventing;
use super::message::{Head, Verdict, judge, write, write_end};
use super::pull::until;
use super::sink::Delivery;
use super::subscription::Subscription;
use super::terms::{Address, DeliveryMode};

/// Events of a batch when the subscriber says nothing about it.
const BATCH: u32 = 20;
/// The largest message when the subscriber says nothing about it.
const ENVELOPE: usize = 500 * 1024;
/// What a message takes beside its events.
const AROUND: usize = 2048;
/// How long is waited in front of the first try after a failure, and the longest wait; it doubles each time.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a delivery under way is waited for when the service stops.
const GRACE: Duration = Duration::from_secs(5);

/// What is to be sent next.
enum Work {
    Events,
    Heartbeat,
    /// The service stops, or the subscription has ended.
    Stop,
}

/// How a delivery ended.
enum Outcome {
    Received,
    /// The sink wants nothing more.
    Refused,
    /// Everything was tried.
    GivenUp,
    /// The service stops, or the subscription has ended.
    Stopped,
}

impl Eventing {
    /// Delivers the events of a subscription until it ends or the service stops.
    pub(super) async fn serve(&self, subscription: &Subscription) {
        let Some(sink) = &subscription.terms.notify_to else { return };
        loop {
            let work = self.wait_for_work(subscription).await;
            let (message, message_id, batch) = match work {
                Work::Stop => return,
                Work::Heartbeat => self.heartbeat(subscription, sink),
                Work::Events => {
                    let batch = self.batch(subscription, room(subscription));
                    if batch.cancel {
                        let reason = "An event could not be delivered.";
                        return self.cancel(subscription, "SourceCanceling", reason).await;
                    }
                    if batch.events == 0 && batch.dropped == 0 {
                        // What waited was left out without a word.
                        self.keep(subscription).await;
                        continue;
                    }
                    self.message(subscription, sink, batch)
                }
            };
            match self.deliver(subscription, sink, message, &message_id).await {
                Outcome::Received => {
                    {
                        let mut live = subscription.live();
                        live.progress.dropped = live.progress.dropped.saturating_sub(batch.dropped);
                        if let Some(last) = batch.last {
                            live.confirm(last);
                        }
                    }
                    if batch.events > 0 || batch.dropped > 0 {
                        self.keep(subscription).await;
                    }
                }
                Outcome::Refused => {
                    info!(subscription = %subscription.id, "The sink refuses events");
                    // R10.8-1: no SubscriptionEnd.
                    return self.end(subscription).await;
                }
                Outcome::GivenUp => {
                    warn!(subscription = %subscription.id, sink = sink.url, "Events cannot be delivered");
                    return self.cancel(subscription, "DeliveryFailure", "The sink cannot be reached.").await;
                }
                Outcome::Stopped => return,
            }
        }
    }

    /// Waits until there is something to send.
    async fn wait_for_work(&self, subscription: &Subscription) -> Work {
        let begun = Instant::now();
        let heartbeat = subscription.terms.heartbeats.and_then(|time| begun.checked_add(time));
        let mut first_seen: Option<Instant> = None;
        loop {
            let news = subscription.news.notified();
            tokio::pin!(news);
            // Registered before looking, so that nothing slips in between.
            news.as_mut().enable();
            if self.find(subscription.id).is_none() || self.closing.is_cancelled() {
                return Work::Stop;
            }
            let (waiting, dropped) = {
                let live = subscription.live();
                (live.len(), live.progress.dropped)
            };
            // A batch may wait for more, as long as MaxTime and up to MaxElements.
            let patience = subscription.terms.max_time.filter(|_| subscription.terms.mode == DeliveryMode::Events);
            let mut full = None;
            if waiting > 0 || dropped > 0 {
                let seen = *first_seen.get_or_insert_with(Instant::now);
                full = patience.and_then(|time| seen.checked_add(time));
                let enough = waiting >= room(subscription).elements;
                if enough || full.is_none_or(|full| full <= Instant::now()) {
                    return Work::Events;
                }
            }
            tokio::select! {
                () = news => {}
                () = self.closing.cancelled() => return Work::Stop,
                () = until(full) => return Work::Events,
                () = until(heartbeat.filter(|_| full.is_none())) => return Work::Heartbeat,
            }
        }
    }

    /// Sends a message, again and again as was agreed.
    async fn deliver(
        &self,
        subscription: &Subscription,
        sink: &Address,
        envelope: String,
        message_id: &str,
    ) -> Outcome {
        let acknowledge = subscription.terms.mode.is_acknowledged();
        let encoding = encoding(subscription);
        let timeout = self.options.delivery_timeout;
        let delivery = Delivery { url: sink.url.clone(), envelope, encoding, timeout };
        let mut tries = 0_u32;
        let mut pause = subscription.terms.retry.map_or(PAUSES.0, |retry| retry.pause);
        loop {
            let reply = tokio::select! {
                reply = self.parts.sink.post(delivery.clone()) => reply,
                () = self.grace() => return Outcome::Stopped,
            };
            let verdict = match reply {
                Ok(reply) => judge(&reply, acknowledge, message_id),
                Err(error) => {
                    debug!(subscription = %subscription.id, %error, "Not delivered");
                    Verdict::Failed
                }
            };
            match verdict {
                Verdict::Received => return Outcome::Received,
                Verdict::Refused => return Outcome::Refused,
                Verdict::Failed => {}
            }
            if subscription.terms.retry.is_some_and(|retry| tries >= retry.total) {
                return Outcome::GivenUp;
            }
            tries = tries.saturating_add(1);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.closing.cancelled() => return Outcome::Stopped,
                () = subscription.ended.cancelled() => return Outcome::Stopped,
            }
            // Expired meanwhile?
            if self.find(subscription.id).is_none() {
                return Outcome::Stopped;
            }
            if subscription.terms.retry.is_none() {
                pause = pause.saturating_mul(2).min(PAUSES.1);
            }
        }
    }

    /// A while after the service was told to stop.
    async fn grace(&self) {
        self.closing.cancelled().await;
        tokio::time::sleep(GRACE).await;
    }

    /// A message with events.
    fn message(&self, subscription: &Subscription, sink: &Address, batch: Batch) -> (String, String, Batch) {
        let batched = subscription.terms.mode == DeliveryMode::Events;
        let action = match (batched, batch.events) {
            (true, _) => action::EVENTS,
            (false, 0) => action::DROPPED_EVENTS,
            (false, _) => action::EVENT,
        };
        self.write(subscription, sink, action, batch, |w, batch| {
            if batched {
                w.element("w:Events", |w| {
                    if batch.dropped > 0 {
                        write_dropped(w, batch.dropped);
                    }
                    w.raw(&batch.items);
                });
            } else if batch.events == 0 {
                write_dropped(w, batch.dropped);
            } else {
                w.raw(&batch.items);
            }
        })
    }

    /// A message that says no more than that there is none.
    fn heartbeat(&self, subscription: &Subscription, sink: &Address) -> (String, String, Batch) {
        let batched = subscription.terms.mode == DeliveryMode::Events;
        let action = if batched { action::EVENTS } else { action::HEARTBEAT };
        self.write(subscription, sink, action, Batch::default(), |w, _| {
            if batched {
                w.element("w:Events", |w| w.empty_with("w:Event", &[("Action", action::HEARTBEAT)]));
            }
        })
    }

    fn write(
        &self,
        subscription: &Subscription,
        sink: &Address,
        action: &str,
        batch: Batch,
        content: impl FnOnce(&mut Writer, &Batch),
    ) -> (String, String, Batch) {
        let message_id = format!("uuid:{}", self.parts.ids.new_guid());
        let position = batch.last.unwrap_or_else(|| subscription.live().progress.delivered);
        let head = Head {
            action,
            message_id: &message_id,
            to: sink,
            acknowledge: subscription.terms.mode.is_acknowledged(),
            bookmark: subscription.terms.send_bookmarks.then(|| bookmark::write(self.options.installation, position)),
        };
        let message = write(&head, |w| content(w, &batch));
        (message, message_id, batch)
    }

    /// Ends a subscription and says so to `EndTo`, once.
    async fn cancel(&self, subscription: &Subscription, status: &str, reason: &str) {
        self.end(subscription).await;
        let Some(to) = &subscription.terms.end_to else { return };
        let message_id = format!("uuid:{}", self.parts.ids.new_guid());
        let head =
            Head { action: action::SUBSCRIPTION_END, message_id: &message_id, to, acknowledge: false, bookmark: None };
        let delivery = Delivery {
            url: to.url.clone(),
            envelope: write(&head, |w| write_end(w, subscription, status, reason)),
            encoding: encoding(subscription),
            timeout: self.options.delivery_timeout,
        };
        tokio::select! {
            reply = self.parts.sink.post(delivery) => if let Err(error) = reply {
                debug!(subscription = %subscription.id, %error, "The end of a subscription could not be told");
            },
            () = self.grace() => {}
        }
    }

    async fn end(&self, subscription: &Subscription) {
        if let Err(error) = self.remove(subscription.id).await {
            warn!(subscription = %subscription.id, %error, "The record of a subscription stays");
        }
    }

    /// Makes progress durable; when that fails, the next success does it.
    async fn keep(&self, subscription: &Subscription) {
        if let Err(error) = self.store(subscription).await {
            warn!(subscription = %subscription.id, %error, "The progress of a subscription could not be stored");
        }
    }
}

fn encoding(subscription: &Subscription) -> Encoding {
    if subscription.terms.utf16 { Encoding::Utf16 } else { Encoding::Utf8 }
}

/// How much a message to the sink may hold.
fn room(subscription: &Subscription) -> Room {
    let terms = &subscription.terms;
    let encoding = encoding(subscription);
    let batched = terms.mode == DeliveryMode::Events;
    let elements = if batched { terms.max_elements.unwrap_or(BATCH) } else { 1 };
    // A report of dropped events goes alone where a message holds one event.
    let alone = !batched && subscription.live().progress.dropped > 0;
    let envelope = terms.max_envelope.unwrap_or(ENVELOPE);
    Room {
        elements: if alone { 0 } else { usize::try_from(elements).unwrap_or(usize::MAX) },
        octets: envelope.saturating_sub(encoding.octets(" ") * AROUND),
        encoding,
        wrapped: batched,
    }
}
