//! Eventing for the oracle of whole exchanges: one indication, kept for ever, and sinks that refuse.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use wsnapd::access::{Account, Accounts, Role};
use wsnapd::cim::{CimError, CimInstance, ClassDeclaration};
use wsnapd::cimom::{
    BoxFuture, IndicationProvider, JournalWindow, Occurrence, Occurrences, SubscriptionRecord, SubscriptionStore,
};
use wsnapd::time::{Clock, Guid, IdSource, Timestamp};
use wsnapd::wsman::{Delivery, DeliveryError, EventSink, Eventing, EventingOptions, EventingParts, SinkReply};

/// The hub of subscriptions.
pub(super) fn hub(class: &Arc<ClassDeclaration>, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Arc<Eventing> {
    let source = Arc::new(Source { class: Arc::clone(class), kept: Mutex::default(), newest: watch::channel(1).0 });
    let installation = ids.new_guid();
    let parts = EventingParts {
        provider: Arc::<Source>::clone(&source),
        accounts: Arc::<Source>::clone(&source),
        store: Arc::<Source>::clone(&source),
        sink: source,
        clock,
        ids,
    };
    let options =
        EventingOptions { push_hosts: vec!["127.0.0.1".into(), "h".into()], ..EventingOptions::new(installation) };
    Arc::new(Eventing::new(parts, options))
}

struct Source {
    class: Arc<ClassDeclaration>,
    kept: Mutex<Vec<SubscriptionRecord>>,
    newest: watch::Sender<u64>,
}

impl Source {
    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<SubscriptionRecord>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IndicationProvider for Source {
    fn makes(&self, indication: &ClassDeclaration) -> bool {
        indication.name() == self.class.name()
    }

    fn subjects(&self, _namespace: &str) -> Vec<Arc<ClassDeclaration>> {
        vec![Arc::clone(&self.class)]
    }

    fn window(&self) -> JournalWindow {
        JournalWindow { readable_after: 0, newest: 1 }
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn after(&self, _namespace: &str, position: u64, _account: &Account) -> Result<Occurrences, CimError> {
        let indication = Arc::new(CimInstance::new(Arc::clone(&self.class)));
        let only = Occurrence { position: 1, at: Timestamp::UNIX_EPOCH, indication };
        let items = if position == 0 { vec![only] } else { Vec::new() };
        Ok(Occurrences { items, read_to: 1 })
    }

    fn record(&self, _on: bool) -> BoxFuture<'_, Result<(), CimError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Accounts for Source {
    fn account(&self, name: &str) -> Option<Arc<Account>> {
        Some(Arc::new(Account { name: name.into(), role: Role::Administrator, scope: None }))
    }
}

impl SubscriptionStore for Source {
    fn subscriptions(&self) -> Vec<SubscriptionRecord> {
        self.kept().clone()
    }

    fn put(&self, record: SubscriptionRecord) -> BoxFuture<'_, Result<(), CimError>> {
        let mut kept = self.kept();
        kept.retain(|known| known.id != record.id);
        kept.push(record);
        Box::pin(std::future::ready(Ok(())))
    }

    fn remove(&self, id: Guid) -> BoxFuture<'_, Result<(), CimError>> {
        self.kept().retain(|known| known.id != id);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl EventSink for Source {
    fn post(&self, _delivery: Delivery) -> BoxFuture<'_, Result<SinkReply, DeliveryError>> {
        Box::pin(std::future::ready(Err(DeliveryError("nobody listens".to_owned()))))
    }
}
