//! What a source of indications and the keeper of subscriptions offer to the protocol layer.
//!
//! The source has a bounded journal: indications have positions, are read behind a position, and can be read again
//! as long as they are kept, also after a restart.

use std::sync::Arc;

use smol_str::SmolStr;
use tokio::sync::watch;

use super::BoxFuture;
use crate::access::Account;
use crate::cim::{CimError, CimInstance, ClassDeclaration};
use crate::time::{Guid, Timestamp};

/// An indication with its place in the journal.
#[derive(Clone, Debug)]
pub struct Occurrence {
    /// Its place in the order of all indications; positions grow, with gaps. The forms of one indication (in the
    /// classes of the standard and in those of WMI) share one.
    pub position: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The indication, an instance of an indication class.
    pub indication: Arc<CimInstance>,
}

/// A part of the journal.
#[derive(Clone, Debug, Default)]
pub struct Occurrences {
    /// The indications, in order.
    pub items: Vec<Occurrence>,
    /// Up to where the journal was read.
    pub read_to: u64,
}

/// Which positions the journal has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalWindow {
    /// Everything behind this position can be read.
    pub readable_after: u64,
    /// The position of the newest indication.
    pub newest: u64,
}

/// Turns what happens into indications.
pub trait IndicationProvider: Send + Sync {
    /// Whether indications of exactly this class are made.
    fn makes(&self, indication: &ClassDeclaration) -> bool;

    /// The classes of a namespace whose instances indications are made about.
    fn subjects(&self, namespace: &str) -> Vec<Arc<ClassDeclaration>>;

    /// What can be read.
    fn window(&self) -> JournalWindow;

    /// Changes each time there are more indications to be read.
    fn watch(&self) -> watch::Receiver<u64>;

    /// The indications of a namespace behind a position that an account may see, from a bounded part of the journal.
    /// When `read_to` is
    /// the position that was asked for, there are no more.
    ///
    /// # Errors
    /// A [`CimError`] when an instance cannot be made.
    fn after(&self, namespace: &str, position: u64, account: &Account) -> Result<Occurrences, CimError>;

    /// Begins to keep a journal, or ends it and forgets what is there. Without one nothing can be read.
    fn record(&self, on: bool) -> BoxFuture<'_, Result<(), CimError>>;
}

/// A subscription as it is kept across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// Its identity.
    pub id: Guid,
    /// The account that subscribed.
    pub owner: SmolStr,
    /// Everything else, in the words of whoever wrote it.
    pub terms: String,
}

/// Keeps subscriptions across restarts.
pub trait SubscriptionStore: Send + Sync {
    /// Those that are kept.
    fn subscriptions(&self) -> Vec<SubscriptionRecord>;

    /// Adds or replaces one; on return it is durable. While there is one, a journal is kept.
    fn put(&self, record: SubscriptionRecord) -> BoxFuture<'_, Result<(), CimError>>;

    /// Removes one; on return that is durable.
    fn remove(&self, id: Guid) -> BoxFuture<'_, Result<(), CimError>>;
}
