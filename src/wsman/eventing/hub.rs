//! All subscriptions, and the task that looks through the journal for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::access::{Account, Accounts};
use crate::cim::CimError;
use crate::cimom::{IndicationProvider, SubscriptionStore};
use crate::time::{Clock, Guid, IdSource, Timestamp};

use super::sink::EventSink;
use super::subscription::Subscription;
use super::terms::DeliveryMode;

/// Why most subscriptions end.
const EXPIRED: &str = "Subscription expired";

/// Limits of eventing.
#[derive(Clone, Debug)]
pub struct EventingOptions {
    /// The hosts that events may be pushed to; none when it is empty.
    pub push_hosts: Vec<SmolStr>,
    /// Whether certificates of sinks can be checked.
    pub https: bool,
    /// How long one delivery to a sink may take.
    pub delivery_timeout: Duration,
    /// Events that may wait for one subscriber.
    pub queue_limit: usize,
    /// Subscriptions of one user.
    pub subscriptions_per_user: usize,
    /// How long a subscription lives that says nothing about it.
    pub default_expires: Duration,
    /// How long a subscription may live without being renewed.
    pub max_expires: Duration,
    /// How long the journal goes on when the last subscription is gone, so that bookmarks stay good.
    pub journal_age: Duration,
    /// Identity of this installation, which bookmarks carry.
    pub installation: Guid,
}

impl EventingOptions {
    /// The published defaults: nothing is pushed, ten minutes until a subscription ends, a day at most.
    #[must_use]
    pub const fn new(installation: Guid) -> Self {
        Self {
            push_hosts: Vec::new(),
            https: false,
            delivery_timeout: Duration::from_secs(10),
            queue_limit: 1000,
            subscriptions_per_user: 100,
            default_expires: Duration::from_secs(600),
            max_expires: Duration::from_secs(86_400),
            journal_age: Duration::from_secs(3600),
            installation,
        }
    }
}

/// What eventing works with.
#[derive(Clone)]
pub struct EventingParts {
    /// Makes indications.
    pub provider: Arc<dyn IndicationProvider>,
    /// Knows who the owners of subscriptions are now.
    pub accounts: Arc<dyn Accounts>,
    /// Keeps subscriptions.
    pub store: Arc<dyn SubscriptionStore>,
    /// Sends messages.
    pub sink: Arc<dyn EventSink>,
    /// The time, for expiry.
    pub clock: Arc<dyn Clock>,
    /// New identifiers.
    pub ids: Arc<dyn IdSource>,
}

/// The subscriptions of a service.
pub struct Eventing {
    pub(super) parts: EventingParts,
    pub(super) options: EventingOptions,
    state: Mutex<State>,
    /// There is a subscription that has not looked through the journal yet.
    kick: Notify,
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
}

#[derive(Default)]
struct State {
    subscriptions: BTreeMap<Guid, Arc<Subscription>>,
    /// Since when there has been no subscription; none while there is one or nothing is recorded.
    idle_since: Option<Timestamp>,
}

impl std::fmt::Debug for Eventing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Eventing").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Eventing {
    /// Eventing without subscriptions; [`Service::start_eventing`](crate::wsman::Service::start_eventing) brings
    /// those that are kept.
    #[must_use]
    pub fn new(parts: EventingParts, options: EventingOptions) -> Self {
        Self {
            parts,
            options,
            state: Mutex::default(),
            kick: Notify::new(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The critical sections do not panic; a poisoned lock would still guard a sound map.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends waiting Pulls and deliveries and waits for what is being sent. Subscriptions stay for the next start.
    pub async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Whether a user may have one more subscription.
    pub(super) fn has_room(&self, owner: &str) -> bool {
        let state = self.state();
        let own = state.subscriptions.values().filter(|subscription| subscription.owner == owner);
        own.count() < self.options.subscriptions_per_user
    }

    /// The subscription of an identity, unless its time is over.
    pub(super) fn find(&self, id: Guid) -> Option<Arc<Subscription>> {
        let found = self.state().subscriptions.get(&id).cloned()?;
        if found.is_expired(self.parts.clock.now()) {
            self.forget(found.id, EXPIRED);
            return None;
        }
        Some(found)
    }

    /// The subscription that is pulled with a context.
    pub(super) fn find_context(&self, context: Guid) -> Option<Arc<Subscription>> {
        let id = self.state().subscriptions.values().find_map(|subscription| {
            let live = subscription.live();
            live.progress.contexts.iter().any(|(known, _)| *known == context).then_some(subscription.id)
        })?;
        self.find(id)
    }

    /// Takes a subscription in and begins to serve it.
    pub(super) fn insert(self: &Arc<Self>, subscription: Subscription) -> Arc<Subscription> {
        let subscription = Arc::new(subscription);
        {
            let mut state = self.state();
            state.subscriptions.insert(subscription.id, Arc::clone(&subscription));
            state.idle_since = None;
        }
        if subscription.terms.mode != DeliveryMode::Pull {
            let (eventing, served) = (Arc::clone(self), Arc::clone(&subscription));
            self.tasks.spawn(async move { eventing.serve(&served).await });
        }
        self.kick.notify_one();
        subscription
    }

    /// Makes the progress of a subscription durable.
    pub(super) async fn store(&self, subscription: &Subscription) -> Result<(), CimError> {
        if subscription.ended.is_cancelled() {
            // Storing it would bring it back.
            return Ok(());
        }
        self.parts.store.put(subscription.record()).await?;
        if subscription.ended.is_cancelled() {
            self.parts.store.remove(subscription.id).await?;
        }
        Ok(())
    }

    /// Takes a subscription out; true when it was there. Its record is still to be removed.
    fn take(&self, id: Guid) -> Option<Arc<Subscription>> {
        let mut state = self.state();
        let subscription = state.subscriptions.remove(&id)?;
        if state.subscriptions.is_empty() {
            state.idle_since = Some(self.parts.clock.now());
        }
        drop(state);
        subscription.ended.cancel();
        subscription.news.notify_waiters();
        Some(subscription)
    }

    /// Ends a subscription, durably.
    pub(super) async fn remove(&self, id: Guid) -> Result<(), CimError> {
        match self.take(id) {
            Some(_) => self.parts.store.remove(id).await,
            None => Ok(()),
        }
    }

    /// Ends a subscription; its record goes in the background.
    fn forget(&self, id: Guid, why: &str) {
        if self.take(id).is_none() {
            return;
        }
        info!(subscription = %id, "{why}");
        let store = Arc::clone(&self.parts.store);
        self.tasks.spawn(async move {
            if let Err(error) = store.remove(id).await {
                warn!(subscription = %id, %error, "The record of a subscription stays");
            }
        });
    }

    /// Ends what has expired, and the journal when nobody has needed it for its whole age.
    pub(in super::super) fn sweep(&self, now: Timestamp) {
        let expired: Vec<Guid> = {
            let state = self.state();
            state.subscriptions.values().filter(|one| one.is_expired(now)).map(|one| one.id).collect()
        };
        for id in expired {
            self.forget(id, EXPIRED);
        }
        let age = chrono::Duration::from_std(self.options.journal_age).unwrap_or(chrono::Duration::MAX);
        let mut state = self.state();
        if state.idle_since.is_some_and(|since| now - since >= age) {
            state.idle_since = None;
            let provider = Arc::clone(&self.parts.provider);
            self.tasks.spawn(async move {
                if let Err(error) = provider.record(false).await {
                    warn!(%error, "The journal of events goes on");
                }
            });
        }
    }

    /// Looks through the journal whenever there is more of it.
    pub(in super::super) async fn follow(self: Arc<Self>) {
        let mut newest = self.parts.provider.watch();
        // A journal without subscriptions is kept for bookmarks, for as long as one more age.
        {
            let mut state = self.state();
            if state.subscriptions.is_empty() {
                state.idle_since = Some(self.parts.clock.now());
            }
        }
        loop {
            newest.mark_unchanged();
            self.look_through();
            tokio::select! {
                () = self.closing.cancelled() => return,
                () = self.kick.notified() => {}
                changed = newest.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// The account of a subscription's owner as it is now. Without one the subscription ends.
    pub(super) fn owner(&self, subscription: &Subscription) -> Option<Arc<Account>> {
        let account = self.parts.accounts.account(&subscription.owner);
        if account.is_none() {
            self.forget(subscription.id, "Subscription ended: the account of its owner was removed");
        }
        account
    }

    /// Brings every subscription up to the end of the journal, one namespace after the other. Accounts without a
    /// scope see the same; of those with one, each is looked for by itself.
    fn look_through(&self) {
        let all: Vec<_> = self.state().subscriptions.values().cloned().collect();
        let mut groups: BTreeMap<(SmolStr, Option<SmolStr>), Group> = BTreeMap::new();
        for subscription in all {
            let Some(account) = self.owner(&subscription) else { continue };
            let own = account.scope.is_some().then(|| account.name.clone());
            let group = groups.entry((subscription.filter.namespace().clone(), own));
            group.or_insert_with(|| Group { account, subscriptions: Vec::new() }).subscriptions.push(subscription);
        }
        for ((namespace, _), Group { account, subscriptions }) in groups {
            loop {
                let window = self.parts.provider.window();
                let from = subscriptions.iter().map(|subscription| subscription.read_to(window)).min();
                let Some(from) = from.filter(|from| *from < window.newest) else { break };
                let part = match self.parts.provider.after(&namespace, from, &account) {
                    Ok(part) => part,
                    Err(error) => {
                        warn!(%namespace, %error, "Events cannot be told");
                        break;
                    }
                };
                if part.read_to <= from {
                    break;
                }
                for subscription in &subscriptions {
                    subscription.look_through(&part.items, part.read_to);
                }
            }
        }
    }
}

/// Subscriptions that see the same.
struct Group {
    account: Arc<Account>,
    subscriptions: Vec<Arc<Subscription>>,
}
