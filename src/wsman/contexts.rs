//! Open enumerations: bound to their user, limited per user, forgotten when they idle
//! (`ws-management.md` §6.6 rules 5 to 8 and 11).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cimom::Principal;
use crate::soap::{Fault, Subcode, code};
use crate::time::{Guid, Timestamp};

use super::enumeration::Enumeration;

/// The open enumerations by context.
pub struct EnumerationContexts {
    idle: Duration,
    per_user: usize,
    entries: Mutex<HashMap<Guid, Entry>>,
}

struct Entry {
    owner: Principal,
    /// Absent while a Pull works on it.
    enumeration: Option<Enumeration>,
    /// When it is forgotten unless somebody pulls.
    idle_until: Timestamp,
    /// What the client asked for with `n:Expires`.
    expires: Option<Timestamp>,
}

impl std::fmt::Debug for EnumerationContexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnumerationContexts").field("open", &self.lock().len()).finish_non_exhaustive()
    }
}

impl EnumerationContexts {
    /// No enumerations yet.
    #[must_use]
    pub fn new(idle: Duration, per_user: usize) -> Self {
        Self { idle, per_user, entries: Mutex::new(HashMap::new()) }
    }

    /// Whether a user may open one more enumeration.
    pub(super) fn check_quota(&self, owner: &Principal, now: Timestamp) -> Result<(), Fault> {
        let mut entries = self.lock();
        let open = |entries: &HashMap<Guid, Entry>| entries.values().filter(|entry| entry.owner == *owner).count();
        if open(&entries) >= self.per_user {
            remove_expired(&mut entries, now);
        }
        if open(&entries) < self.per_user {
            return Ok(());
        }
        Err(Fault::new(Subcode::QuotaLimit).code(code::QUOTA_MAX_OPERATIONS).reason(format!(
            "The user has {} enumerations open, which is the limit; finish or release some of them.",
            self.per_user
        )))
    }

    /// Keeps an enumeration under a new context.
    pub(super) fn insert(
        &self,
        context: Guid,
        owner: Principal,
        enumeration: Enumeration,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) {
        let entry = Entry { owner, enumeration: Some(enumeration), idle_until: self.idle_until(now), expires };
        self.lock().insert(context, entry);
    }

    /// Takes an enumeration out for a Pull. Until it is put back the context answers "in progress".
    pub(super) fn take(&self, context: Guid, owner: &Principal, now: Timestamp) -> Result<Enumeration, Fault> {
        let mut entries = self.lock();
        let entry = find(&mut entries, context, owner, now)?;
        entry.enumeration.take().ok_or_else(in_progress)
    }

    /// Puts an enumeration back, under a new context or the old one.
    pub(super) fn put_back(&self, context: Guid, new_context: Guid, enumeration: Enumeration, now: Timestamp) {
        let mut entries = self.lock();
        // A Release in the meantime ended it.
        if let Some(mut entry) = entries.remove(&context) {
            entry.enumeration = Some(enumeration);
            entry.idle_until = self.idle_until(now);
            entries.insert(new_context, entry);
        }
    }

    /// Forgets a context that is finished or failed.
    pub(super) fn remove(&self, context: Guid) {
        self.lock().remove(&context);
    }

    /// Ends an enumeration on the client's word.
    pub(super) fn release(&self, context: Guid, owner: &Principal, now: Timestamp) -> Result<(), Fault> {
        let mut entries = self.lock();
        find(&mut entries, context, owner, now)?;
        entries.remove(&context);
        Ok(())
    }

    /// Forgets what idled too long.
    pub(super) fn sweep(&self, now: Timestamp) {
        remove_expired(&mut self.lock(), now);
    }

    fn idle_until(&self, now: Timestamp) -> Timestamp {
        chrono::Duration::from_std(self.idle).map_or(Timestamp::MAX_UTC, |idle| now + idle)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Guid, Entry>> {
        // The critical sections do not panic; a poisoned lock would still guard a sound map.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_expired(&self, now: Timestamp) -> bool {
        // A Pull that is at work keeps its enumeration.
        self.enumeration.is_some() && (self.idle_until <= now || self.expires.is_some_and(|expires| expires <= now))
    }
}

fn find<'e>(
    entries: &'e mut HashMap<Guid, Entry>,
    context: Guid,
    owner: &Principal,
    now: Timestamp,
) -> Result<&'e mut Entry, Fault> {
    if entries.get(&context).is_some_and(|entry| entry.is_expired(now)) {
        entries.remove(&context);
    }
    let entry = entries.get_mut(&context).ok_or_else(invalid)?;
    if entry.owner == *owner {
        Ok(entry)
    } else {
        Err(Fault::new(Subcode::AccessDenied)
            .code(code::DIFFERENT_AUTHZ_TOKEN)
            .reason("The enumeration was opened by another user."))
    }
}

fn remove_expired(entries: &mut HashMap<Guid, Entry>, now: Timestamp) {
    entries.retain(|_, entry| !entry.is_expired(now));
}

pub(super) fn invalid() -> Fault {
    Fault::new(Subcode::InvalidEnumerationContext)
        .reason("The enumeration context is unknown, released, finished or expired.")
}

pub(super) fn in_progress() -> Fault {
    Fault::new(Subcode::Concurrency)
        .code(code::PULL_IN_PROGRESS)
        .reason("Another Pull is at work on this enumeration context.")
}
