//! What wrong proofs cost those who send them (`authentication.md` §2).
//!
//! Wrong proofs are counted twice: for the account they were for, and for the address they came from. From the
//! third one in a row the answer comes late, and from the twentieth within five minutes nothing is compared for a
//! minute. A right logon ends the row. A request without credentials and a token that cannot be read do not count.
//!
//! The lock-out of an account would let anybody keep its owner out, so it does not hold for an address from which
//! that account logged on rightly before. Nobody waits for anybody else: a delay holds up one answer only.
//!
//! INVARIANT: each table has at most [`ENTRIES`] entries; the one that has been quiet longest makes room.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Accounts, addresses, and pairs of both that are remembered, each.
const ENTRIES: usize = 4096;
/// The most characters of a name that are kept; no account has a longer one.
const NAME_CHARS: usize = 104;
/// How often what counts no more is dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// When wrong proofs begin to cost something, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogonLimits {
    /// The wrong proof in a row from which answers are delayed; 0 for never.
    pub delay_after: u32,
    /// The first delay; each further wrong proof doubles it.
    pub delay: Duration,
    /// The longest delay.
    pub delay_limit: Duration,
    /// The wrong proof within [`window`](Self::window) that locks out; 0 for never.
    pub lockout_after: u32,
    /// How long a wrong proof counts.
    pub window: Duration,
    /// How long a lock-out lasts.
    pub lockout: Duration,
}

impl Default for LogonLimits {
    fn default() -> Self {
        Self {
            delay_after: 3,
            delay: Duration::from_millis(250),
            delay_limit: Duration::from_secs(4),
            lockout_after: 20,
            window: Duration::from_secs(300),
            lockout: Duration::from_secs(60),
        }
    }
}

impl LogonLimits {
    /// The delay of the answer to the wrong proof of this number in a row.
    fn delay_of(&self, row: u32) -> Duration {
        match row.checked_sub(self.delay_after) {
            Some(beyond) if self.delay_after > 0 => {
                let factor = 1_u32.checked_shl(beyond.min(31)).unwrap_or(u32::MAX);
                self.delay.saturating_mul(factor).min(self.delay_limit)
            }
            _ => Duration::ZERO,
        }
    }
}

/// What is known of an account or an address.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// Wrong proofs since the last right logon.
    row: u32,
    /// Wrong proofs since `since`.
    counted: u32,
    since: Instant,
    last: Instant,
    locked_until: Option<Instant>,
}

impl Record {
    const fn new(now: Instant) -> Self {
        Self { row: 0, counted: 0, since: now, last: now, locked_until: None }
    }

    fn is_locked(&self, now: Instant) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    /// Counts a wrong proof; tells whether it locks out.
    fn fail(&mut self, limits: &LogonLimits, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) > limits.window {
            (self.counted, self.since) = (0, now);
        }
        if now.saturating_duration_since(self.last) > limits.window {
            self.row = 0;
        }
        self.last = now;
        self.row = self.row.saturating_add(1);
        self.counted = self.counted.saturating_add(1);
        let locks = limits.lockout_after > 0 && self.counted >= limits.lockout_after;
        if locks {
            self.locked_until = now.checked_add(limits.lockout);
            self.counted = 0;
        }
        locks
    }

    fn is_over(&self, limits: &LogonLimits, now: Instant) -> bool {
        !self.is_locked(now) && now.saturating_duration_since(self.last) > limits.window
    }
}

#[derive(Default)]
struct Tables {
    accounts: HashMap<String, Record>,
    sources: HashMap<IpAddr, Record>,
    /// Where accounts logged on rightly, and when last.
    known: HashMap<(String, IpAddr), Instant>,
    /// When what counts no more was last dropped.
    swept: Option<Instant>,
}

/// What a wrong proof leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Penalty {
    /// How long the answer has to wait.
    pub(super) delay: Duration,
    /// The account, or the address, is locked out from now on.
    pub(super) locks_out: bool,
}

/// The wrong proofs of late.
pub(super) struct Defence {
    limits: LogonLimits,
    /// There is an account or an address with a wrong proof, so logons have to be looked at.
    alert: AtomicBool,
    tables: Mutex<Tables>,
}

impl Defence {
    pub(super) fn new(limits: LogonLimits) -> Self {
        Self { limits, alert: AtomicBool::new(false), tables: Mutex::default() }
    }

    /// Whether there was a wrong proof of late. While there was none, a logon that is remembered as right need not
    /// be looked at.
    pub(super) fn is_alert(&self) -> bool {
        self.alert.load(Ordering::Relaxed)
    }

    /// Whether a logon is refused without looking at its proof.
    pub(super) fn is_locked(&self, account: &str, source: IpAddr, now: Instant) -> bool {
        if !self.is_alert() {
            return false;
        }
        let (account, source) = (account_key(account), source_key(source));
        let mut tables = self.lock();
        tables.forget(&self.limits, now);
        if tables.is_quiet() {
            self.alert.store(false, Ordering::Relaxed);
        }
        tables.sources.get(&source).is_some_and(|record| record.is_locked(now))
            || (tables.accounts.get(&account).is_some_and(|record| record.is_locked(now))
                && !tables.known.contains_key(&(account, source)))
    }

    /// A wrong proof. An account without a name is none: whose ticket it is that cannot be opened is not known, so
    /// only the address counts.
    pub(super) fn failed(&self, account: &str, source: IpAddr, now: Instant) -> Penalty {
        let (account, source) = (account_key(account), source_key(source));
        let mut tables = self.lock();
        self.alert.store(true, Ordering::Relaxed);
        make_room(&mut tables.sources, &source, |record| (record.is_locked(now), record.last));
        if !account.is_empty() {
            make_room(&mut tables.accounts, &account, |record| (record.is_locked(now), record.last));
        }
        let mut penalty = Penalty { delay: Duration::ZERO, locks_out: false };
        let Tables { accounts, sources, .. } = &mut *tables;
        let account = (!account.is_empty()).then(|| accounts.entry(account).or_insert_with(|| Record::new(now)));
        let source = sources.entry(source).or_insert_with(|| Record::new(now));
        for record in account.into_iter().chain([source]) {
            penalty.locks_out |= record.fail(&self.limits, now);
            penalty.delay = penalty.delay.max(self.limits.delay_of(record.row));
        }
        penalty
    }

    /// A right logon. What was counted for the address goes on counting: one right account there does not make
    /// guessing the password of another one cheaper.
    pub(super) fn succeeded(&self, account: &str, source: IpAddr, now: Instant) {
        let (account, source) = (account_key(account), source_key(source));
        let mut tables = self.lock();
        tables.accounts.remove(&account);
        if let Some(record) = tables.sources.get_mut(&source) {
            record.row = 0;
        }
        let pair = (account, source);
        make_room(&mut tables.known, &pair, |last| (false, *last));
        tables.known.insert(pair, now);
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Drops what counts no more, once a second at most.
    fn forget(&mut self, limits: &LogonLimits, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        self.accounts.retain(|_, record| !record.is_over(limits, now));
        self.sources.retain(|_, record| !record.is_over(limits, now));
    }

    fn is_quiet(&self) -> bool {
        self.accounts.is_empty() && self.sources.is_empty()
    }
}

/// Takes out the entry that has been quiet longest when there is no place for another key; those that are locked
/// out go last.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(
    table: &mut HashMap<K, V>,
    key: &K,
    age: impl Fn(&V) -> (bool, Instant),
) {
    if table.len() < ENTRIES || table.contains_key(key) {
        return;
    }
    if let Some(oldest) = table.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| key.clone()) {
        table.remove(&oldest);
    }
}

fn account_key(name: &str) -> String {
    name.chars().take(NAME_CHARS).flat_map(char::to_lowercase).collect()
}

/// An address, or the network of 64 bits that one subscriber of IPv6 has.
fn source_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn delays_double_from_the_third_wrong_proof_and_a_right_one_ends_the_row() {
        let (defence, now) = (Defence::new(LogonLimits::default()), Instant::now());
        let delays = |count: u32| -> Vec<u128> {
            (0..count).map(|_| defence.failed("alice", HERE, now).delay.as_millis()).collect()
        };
        assert_eq!(delays(8), [0, 0, 250, 500, 1000, 2000, 4000, 4000]);
        defence.succeeded("ALICE", HERE, now);
        assert_eq!(delays(3), [0, 0, 250]);
        assert_eq!(LogonLimits::default().delay_of(u32::MAX), seconds(4));
        assert_eq!(LogonLimits { delay_after: 0, ..LogonLimits::default() }.delay_of(9), Duration::ZERO);
    }

    #[test]
    fn a_source_is_locked_out_alone() {
        let (defence, now) = (Defence::new(LogonLimits::default()), Instant::now());
        for number in 0..19 {
            // Each time another name: the address is what they have in common.
            assert!(!defence.failed(&format!("user{number}"), HERE, now).locks_out);
        }
        assert!(!defence.is_locked("alice", HERE, now));
        assert!(defence.failed("bob", HERE, now).locks_out);
        assert!(defence.is_locked("alice", HERE, now) && defence.is_locked("alice", HERE, now + seconds(59)));
        assert!(!defence.is_locked("alice", THERE, now), "others go on");
        assert_eq!(defence.failed("alice", THERE, now).delay, Duration::ZERO, "without delay");
        assert!(!defence.is_locked("alice", HERE, now + seconds(60)));
        assert!(!defence.is_locked("alice", HERE, now + seconds(400)));
        assert!(!defence.is_alert(), "all is forgotten");
    }

    #[test]
    fn an_account_is_locked_out_except_where_its_owner_was_before() {
        let (defence, now) = (Defence::new(LogonLimits::default()), Instant::now());
        defence.succeeded("alice", THERE, now);
        for number in 1..=20 {
            let source = IpAddr::from([198, 51, 100, number]);
            assert_eq!(defence.failed("Alice", source, now).locks_out, number == 20);
        }
        assert!(defence.is_locked("alice", HERE, now) && defence.is_locked("ALICE", HERE, now));
        assert!(!defence.is_locked("alice", THERE, now));
        assert!(!defence.is_locked("bob", HERE, now));
    }

    #[test]
    fn a_proof_of_nobody_counts_for_its_address_alone() {
        let (defence, now) = (Defence::new(LogonLimits::default()), Instant::now());
        for number in 1..=20 {
            assert_eq!(defence.failed("", HERE, now).locks_out, number == 20);
        }
        assert!(defence.is_locked("", HERE, now) && defence.is_locked("alice", HERE, now));
        assert!(!defence.is_locked("", THERE, now), "tickets from elsewhere are still looked at");
    }

    #[test]
    fn wrong_proofs_count_for_five_minutes() {
        let (defence, now) = (Defence::new(LogonLimits::default()), Instant::now());
        for number in 0..100 {
            assert!(!defence.failed("alice", HERE, now + seconds(16 * number)).locks_out, "{number}");
        }
    }

    #[test]
    fn memory_is_bounded_and_a_lock_out_outlives_a_flood_of_names() {
        let (defence, now) = (Defence::new(LogonLimits::default()), Instant::now());
        for _ in 0..20 {
            defence.failed("alice", THERE, now);
        }
        for number in 0..4500_u32 {
            let source = IpAddr::from(number.to_be_bytes());
            defence.failed(&format!("user{number}"), source, now);
            defence.succeeded(&format!("user{number}x"), source, now);
        }
        let tables = defence.lock();
        assert_eq!((tables.accounts.len(), tables.sources.len(), tables.known.len()), (ENTRIES, ENTRIES, ENTRIES));
        drop(tables);
        assert!(defence.is_locked("alice", THERE, now));
        assert!(defence.lock().accounts.keys().all(|name| name.chars().count() <= NAME_CHARS));
    }

    #[test]
    fn addresses_of_one_subscriber_count_together() {
        for (left, right, same) in [
            ("2001:db8::1", "2001:db8::ffff:2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let key = |text: &str| source_key(text.parse().unwrap());
            assert_eq!(key(left) == key(right), same, "{left} {right}");
        }
    }
}
