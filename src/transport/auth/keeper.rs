//! Checks passwords on a thread of its own and remembers what it found.
//!
//! A hash takes about 20 ms on purpose, and clients send Basic credentials with every request. So a
//! pair that was right once is remembered by a keyed MAC (never by itself) until the password file
//! changes. Requests that arrive with the same pair while it is being checked wait for that one
//! check. The queue is bounded: when it is full a request is refused as busy.
//!
//! Where the host checks the password of a user, it is asked on further threads, and what it said counts for a
//! while only, because it does not tell when an account there changes.
//!
//! NT hashes are cheap to compare, so a logon with NTLM only asks for the hash of an account; it does
//! not wait behind passwords.
//!
//! This is the one place where a wrong proof for an account is noticed and counted, see [`Defence`].

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use ring::hmac;
use smol_str::SmolStr;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use crate::access::{Account, Accounts, AuditOutcome, AuditRecord, AuditTrail, Scheme};

use super::basic::{Credentials, Verdict};
use super::certificate::{CertificateNames, CertificateRefusal, CertificateRule};
use super::defence::{Defence, LogonLimits};
use super::host::{HostJob, HostPasswords, HostPool, HostVerdict};
use super::ntlm::NtHash;
use super::users::{User, UsersFile};

/// Passwords that may wait to be checked.
const QUEUE: usize = 64;
/// Requests that may wait for the same check: more than there are connections, as all of them may come at once.
const WAITERS: usize = 16_384;
/// Pairs that are remembered. One user has a few spellings of the name.
const REMEMBERED: usize = 4096;
/// How often the file is looked at while anything is remembered.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a password counts that the host found right.
const HOST_COUNTS_FOR: Duration = Duration::from_secs(30);
/// How long every refusal of Basic takes at least where a host is asked: which is longer than most hosts take, so that
/// the time does not tell a user of the host from a name that nobody has.
const HOST_REFUSES_AFTER: Duration = Duration::from_secs(1);
/// How long anybody waits for what becomes of a password; longer only if the host hangs.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// What a wrong proof is called.
const WRONG_PROOF: &str = "wrong password or unknown user";

/// How often attempts during lock-outs are recorded: one line tells how many there were, so that nobody can fill the
/// disk with them.
const LOCKED_OUT_EVERY: Duration = Duration::from_secs(60);

/// How many headers and tokens that name nobody are recorded one by one in a minute; the others are counted, for the
/// same reason.
const UNNAMED_LINES: u32 = 10;
const UNNAMED_EVERY: Duration = Duration::from_secs(60);

/// Characters of a name that are recorded.
const MAX_NAME: usize = 104;

type Mac = [u8; 32];

/// The accounts of a password file.
#[derive(Clone)]
pub struct PasswordKeeper(Arc<Shared>);

struct Shared {
    /// Made anew by every process.
    key: hmac::Key,
    memory: Mutex<Memory>,
    queue: SyncSender<Job>,
    /// For what needs no password; on threads that may block.
    accounts: Mutex<WatchedFile>,
    defence: Defence,
    asks_host: bool,
    /// When an attempt during a lock-out was last recorded, and how many there were since.
    locked_out: Mutex<(Option<Instant>, u64)>,
    unnamed: Mutex<Unnamed>,
    audit: Arc<dyn AuditTrail>,
}

/// The refused headers and tokens that named nobody.
#[derive(Default)]
struct Unnamed {
    /// When the minute began.
    since: Option<Instant>,
    /// Lines in this minute.
    lines: u32,
    /// Those that are no lines.
    unrecorded: u64,
}

impl Unnamed {
    /// Counts one. If it is a line, gives how many were none since the line before.
    fn count(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= UNNAMED_EVERY) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines >= UNNAMED_LINES {
            self.unrecorded = self.unrecorded.saturating_add(1);
            return None;
        }
        self.lines = self.lines.saturating_add(1);
        Some(std::mem::take(&mut self.unrecorded))
    }
}

#[derive(Default)]
struct Memory {
    /// By the first eight bytes of the MAC; the rest is compared in constant time.
    verified: HashMap<u64, Remembered>,
    pending: HashMap<Mac, Vec<oneshot::Sender<Found>>>,
    /// Counts the password files there were.
    generation: u64,
}

struct Remembered {
    mac: Mac,
    account: Arc<Account>,
    /// Until when it counts; `None` for as long as the file stays as it is.
    until: Option<Instant>,
}

/// What was found about a password.
#[derive(Clone)]
enum Found {
    Right(Arc<Account>),
    Wrong,
    /// The user may not log on, whatever the password; why.
    Denied(String),
    /// Nobody could tell.
    Unknown,
}

struct Job {
    mac: Mac,
    credentials: Credentials,
    source: IpAddr,
}

impl fmt::Debug for PasswordKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordKeeper").finish_non_exhaustive()
    }
}

/// Why the keeper does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// The system has no random numbers.
    #[error("no random numbers for the password memory")]
    Random,
    /// The thread cannot be started.
    #[error("cannot start the password thread")]
    Thread(#[from] std::io::Error),
}

impl PasswordKeeper {
    /// Starts the keeper of a password file. The file need not be there yet; it is read when the first
    /// password is checked and whenever it changes. The thread ends with the last clone of the keeper.
    ///
    /// # Errors
    /// A [`KeeperError`] when the system lacks what it needs.
    pub fn start(path: PathBuf, limits: LogonLimits, audit: Arc<dyn AuditTrail>) -> Result<Self, KeeperError> {
        Self::start_with_host(path, limits, audit, None)
    }

    /// The same, with whom to ask about users whose password the host checks. Without anybody they cannot log on.
    ///
    /// # Errors
    /// A [`KeeperError`] when the system lacks what it needs.
    pub fn start_with_host(
        path: PathBuf,
        limits: LogonLimits,
        audit: Arc<dyn AuditTrail>,
        host: Option<&Arc<dyn HostPasswords>>,
    ) -> Result<Self, KeeperError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new())
            .map_err(|ring::error::Unspecified| KeeperError::Random)?;
        let (queue, jobs) = sync_channel(QUEUE);
        let accounts = Mutex::new(WatchedFile { path: path.clone(), seen: None, users: UsersFile::default() });
        let defence = Defence::new(limits);
        let shared = Arc::new(Shared {
            key,
            memory: Mutex::default(),
            queue,
            accounts,
            defence,
            asks_host: host.is_some(),
            locked_out: Mutex::default(),
            unnamed: Mutex::default(),
            audit,
        });
        let memory = Arc::downgrade(&shared);
        let told = Weak::clone(&memory);
        let done = move |job: HostJob, verdict| {
            if let Some(shared) = told.upgrade() {
                shared.host_said(&job, verdict);
            }
        };
        let host = host.map(|host| HostPool::start(host, &done)).transpose()?;
        thread::Builder::new().name("passwords".to_owned()).spawn(move || {
            let mut file = WatchedFile { path, seen: None, users: UsersFile::default() };
            while let Some(job) = next_job(&jobs, &memory, &mut file) {
                let Some(shared) = memory.upgrade() else { break };
                if file.refresh() {
                    shared.lock().forget();
                }
                shared.check(job, &file.users, host.as_ref());
            }
        })?;
        Ok(Self(shared))
    }

    /// Whether there is a user who may log on with NTLM.
    pub(super) async fn anyone_may_use_ntlm(&self) -> bool {
        self.look(UsersFile::anyone_may_use_ntlm).await.unwrap_or_default()
    }

    /// The account and the NT hash of a user who may log on with NTLM.
    pub(super) async fn ntlm_account(&self, name: &str) -> Option<(Arc<Account>, NtHash)> {
        let name = name.to_owned();
        let find = move |users: &UsersFile| {
            users.find(&name).and_then(|user| Some((Arc::clone(user.account()), user.nt_hash()?.clone())))
        };
        self.look(find).await.flatten()
    }

    /// The account of a principal of Kerberos.
    pub(super) async fn principal_account(&self, principal: &str) -> Option<Arc<Account>> {
        let name = principal.to_owned();
        let find = move |users: &UsersFile| {
            users.find(&name).filter(|user| user.is_principal()).map(|user| Arc::clone(user.account()))
        };
        self.look(find).await.flatten()
    }

    /// The account that a certificate belongs to.
    pub(super) async fn account_of_certificate(
        &self,
        names: CertificateNames,
    ) -> Result<Arc<Account>, CertificateRefusal> {
        let find = move |users: &UsersFile| {
            let mut fitting = users.iter().filter(|user| user.rules().iter().any(|rule| rule.fits(&names)));
            match (fitting.next(), fitting.next()) {
                (Some(user), None) => Ok(Arc::clone(user.account())),
                (Some(_), Some(_)) => Err(CertificateRefusal::Ambiguous),
                (None, _) => Err(CertificateRefusal::Unmapped),
            }
        };
        self.look(find).await.unwrap_or(Err(CertificateRefusal::Unmapped))
    }

    /// Whether somebody may use NTLM. The file is small and looked at only when it changed, so neither this nor what
    /// follows waits for long.
    #[must_use]
    pub fn has_ntlm(&self) -> bool {
        let mut file = self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        file.refresh();
        file.users.anyone_may_use_ntlm()
    }

    /// The rules by which certificates belong to users, with their names.
    #[must_use]
    pub fn certificate_rules(&self) -> Vec<(SmolStr, CertificateRule)> {
        let mut file = self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        file.refresh();
        let rules = |user: &User| {
            let name = user.account().name.clone();
            user.rules().iter().map(|rule| (name.clone(), rule.clone())).collect::<Vec<_>>()
        };
        file.users.iter().flat_map(rules).collect()
    }

    /// Looks into the file as it is now. Reading it may block, so that is done elsewhere; a connection
    /// waits for one look at a time, which bounds how many there are. `None` when the runtime ends.
    async fn look<T: Send + 'static>(&self, ask: impl FnOnce(&UsersFile) -> T + Send + 'static) -> Option<T> {
        let shared = Arc::clone(&self.0);
        let look = tokio::task::spawn_blocking(move || {
            let mut file = shared.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            file.refresh();
            ask(&file.users)
        });
        look.await.ok()
    }

    /// Checks the credentials of a Basic `Authorization` header, from memory if they were right before. The answer
    /// to wrong ones may come late.
    pub(super) async fn verify(&self, encoded: &[u8], source: IpAddr) -> Verdict {
        let begun = Instant::now();
        let mac = self.0.mac(encoded);
        // Only for as long as there are wrong proofs the name is needed before the memory is asked.
        if self.0.defence.is_alert() {
            let Some(credentials) = Credentials::decode(encoded) else { return self.unreadable(source) };
            if self.is_locked_out(credentials.account(), source, Scheme::Basic) {
                return Verdict::Refused;
            }
        }
        let answer = {
            let mut memory = self.0.lock();
            if let Some(account) = memory.recall(&mac, Instant::now()) {
                return Verdict::Accepted(account);
            }
            let (sender, answer) = oneshot::channel();
            if let Some(waiters) = memory.pending.get_mut(&mac) {
                if waiters.len() >= WAITERS {
                    return Verdict::Busy;
                }
                waiters.push(sender);
                Err(answer)
            } else {
                let Some(credentials) = Credentials::decode(encoded) else {
                    drop(memory);
                    return self.unreadable(source);
                };
                let account = credentials.account().to_owned();
                if self.0.queue.try_send(Job { mac, credentials, source }).is_err() {
                    return Verdict::Busy;
                }
                memory.pending.insert(mac, vec![sender]);
                Ok((account, answer))
            }
        };
        // The same pair at the same time is one guess: whoever asked first pays for it.
        let (account, answer) = match answer {
            Ok((account, answer)) => (Some(account), answer),
            Err(answer) => (None, answer),
        };
        let found = tokio::time::timeout(ANSWERED_WITHIN, answer).await;
        let found = found.ok().and_then(Result::ok).unwrap_or(Found::Unknown);
        let reason = match &found {
            Found::Right(known) => {
                if let Some(account) = account {
                    self.right_proof(&account, source, Scheme::Basic);
                }
                return Verdict::Accepted(Arc::clone(known));
            }
            Found::Unknown => return Verdict::Busy,
            Found::Wrong => WRONG_PROOF,
            // No less dear than a wrong password, so that it does not tell that the password is right.
            Found::Denied(reason) => reason,
        };
        let delay = account.map(|account| self.count_failure(&account, source, Scheme::Basic, reason));
        if self.0.asks_host {
            pause(HOST_REFUSES_AFTER.saturating_sub(begun.elapsed())).await;
        }
        pause(delay.unwrap_or_default()).await;
        Verdict::Refused
    }

    /// Refuses and records credentials of Basic that cannot be read.
    fn unreadable(&self, source: IpAddr) -> Verdict {
        self.refused_unnamed(source, Scheme::Basic, "user and password cannot be read");
        Verdict::Refused
    }

    /// Whether nothing is to be compared for this account from this address.
    pub(super) fn is_locked_out(&self, account: &str, source: IpAddr, scheme: Scheme) -> bool {
        let now = Instant::now();
        let locked = self.0.defence.is_locked(account, source, now);
        if locked {
            debug!(account, %source, "Logon refused: locked out");
            self.record_locked_out(account, source, scheme, now);
        }
        locked
    }

    fn record_locked_out(&self, account: &str, source: IpAddr, scheme: Scheme, now: Instant) {
        let unrecorded = {
            let mut locked_out = self.0.locked_out.lock().unwrap_or_else(PoisonError::into_inner);
            let (last, count) = *locked_out;
            if last.is_some_and(|last| now.saturating_duration_since(last) < LOCKED_OUT_EVERY) {
                locked_out.1 = count.saturating_add(1);
                return;
            }
            *locked_out = (Some(now), 0);
            count
        };
        let name: String = account.chars().take(MAX_NAME).collect();
        let reason = format!("locked out; {unrecorded} further attempts like this were not recorded before");
        let record = AuditRecord::logon(&name, source, scheme, AuditOutcome::Refused);
        self.0.audit.write(&AuditRecord { reason: Some(reason), ..record });
    }

    /// Records a handshake that ends, or a header that is refused, before anybody is named.
    pub(super) fn refused_unnamed(&self, source: IpAddr, scheme: Scheme, reason: &str) {
        info!(%source, reason, "Logon refused");
        let line = self.0.unnamed.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now());
        let Some(unrecorded) = line else { return };
        let mut reason = reason.to_owned();
        if unrecorded > 0 {
            reason = format!("{reason}; {unrecorded} further ones that name nobody were not recorded before");
        }
        let record = AuditRecord::logon("", source, scheme, AuditOutcome::Refused);
        self.0.audit.write(&AuditRecord { reason: Some(reason), ..record });
    }

    /// Counts and records a right proof.
    pub(super) fn right_proof(&self, account: &str, source: IpAddr, scheme: Scheme) {
        self.0.defence.succeeded(account, source, Instant::now());
        self.0.audit.write(&AuditRecord::logon(account, source, scheme, AuditOutcome::Done));
    }

    /// Records a logon that ends, or does not begin, although its proof was right.
    pub(super) fn refused(&self, account: &str, source: IpAddr, scheme: Scheme, reason: &str) {
        info!(account, %source, reason, "Logon refused");
        let record = AuditRecord::logon(account, source, scheme, AuditOutcome::Refused);
        self.0.audit.write(&AuditRecord { reason: Some(reason.to_owned()), ..record });
    }

    /// Counts and records a wrong password, and waits for as long as the answer to it has to.
    pub(super) async fn wrong_proof(&self, account: &str, source: IpAddr, scheme: Scheme) {
        self.failed(account, source, scheme, WRONG_PROOF).await;
    }

    /// Counts and records a wrong proof of any kind, and waits for as long as the answer to it has to.
    pub(super) async fn failed(&self, account: &str, source: IpAddr, scheme: Scheme, reason: &str) {
        pause(self.count_failure(account, source, scheme, reason)).await;
    }

    /// Counts and records a wrong proof; gives how long the answer to it has to wait.
    fn count_failure(&self, account: &str, source: IpAddr, scheme: Scheme, reason: &str) -> Duration {
        let penalty = self.0.defence.failed(account, source, Instant::now());
        // A name may be as long as a head; no account has a longer one than this.
        let name: String = account.chars().take(MAX_NAME).collect();
        if penalty.locks_out {
            warn!(account = name, %source, "Too many wrong proofs: locked out for a while");
            self.refused(&name, source, scheme, &format!("{reason}; locked out from now on"));
        } else {
            self.refused(&name, source, scheme, reason);
        }
        penalty.delay
    }
}

impl Accounts for PasswordKeeper {
    /// The file is small and looked at only when it changed, so this does not wait for long.
    fn account(&self, name: &str) -> Option<Arc<Account>> {
        let mut file = self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        file.refresh();
        file.users.find(name).map(|user| Arc::clone(user.account()))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mac(&self, encoded: &[u8]) -> Mac {
        let mut mac = Mac::default();
        // The tag of HMAC-SHA-256 is exactly as long.
        for (to, from) in mac.iter_mut().zip(hmac::sign(&self.key, encoded).as_ref()) {
            *to = *from;
        }
        mac
    }

    /// Compares a password, or has the host asked about it.
    fn check(&self, job: Job, users: &UsersFile, host: Option<&HostPool>) {
        let account = job.credentials.account();
        let Some(user) = users.find(account).filter(|user| user.is_by_host()) else {
            let user = users.verify(account, job.credentials.password());
            let found = user.map_or(Found::Wrong, |user| Found::Right(Arc::clone(user.account())));
            return self.conclude(&job.mac, &found, None);
        };
        let Some(host) = host else {
            let reason = "the host is to check the password, and pam_service is not set".to_owned();
            return self.conclude(&job.mac, &Found::Denied(reason), None);
        };
        let Job { mac, credentials, source } = job;
        let (account, generation) = (Arc::clone(user.account()), self.lock().generation);
        if let Err(job) = host.ask(HostJob { mac, account, credentials, source, generation }) {
            self.conclude(&job.mac, &Found::Unknown, None);
        }
    }

    /// Takes what the host said.
    fn host_said(&self, job: &HostJob, verdict: HostVerdict) {
        let found = match verdict {
            // If the file is another one by now, whoever asks next is told by the new one.
            HostVerdict::Right if self.lock().generation != job.generation => Found::Unknown,
            HostVerdict::Right => Found::Right(Arc::clone(&job.account)),
            HostVerdict::Wrong => Found::Wrong,
            HostVerdict::Denied(reason) => Found::Denied(reason),
            HostVerdict::Unavailable(reason) => {
                warn!(account = %job.account.name, reason, "The host cannot check a password");
                Found::Unknown
            }
        };
        self.conclude(&job.mac, &found, Some((job.generation, HOST_COUNTS_FOR)));
    }

    /// Tells all who wait, and remembers a right password: for a time only, and only if the file is still the one of
    /// a generation, if they are given.
    fn conclude(&self, mac: &Mac, found: &Found, only: Option<(u64, Duration)>) {
        let mut memory = self.lock();
        if let Found::Right(account) = found
            && only.is_none_or(|(generation, _)| generation == memory.generation)
        {
            if memory.verified.len() >= REMEMBERED {
                memory.verified.clear();
            }
            let until = only.and_then(|(_, time)| Instant::now().checked_add(time));
            let remembered = Remembered { mac: *mac, account: Arc::clone(account), until };
            memory.verified.insert(short(mac), remembered);
        }
        for waiter in memory.pending.remove(mac).unwrap_or_default() {
            // A waiter that has gone needs no answer.
            waiter.send(found.clone()).ok();
        }
    }
}

impl Memory {
    fn recall(&self, mac: &Mac, now: Instant) -> Option<Arc<Account>> {
        let known = self.verified.get(&short(mac))?;
        let counts = known.until.is_none_or(|until| now < until);
        (counts && bool::from(known.mac.ct_eq(mac))).then(|| Arc::clone(&known.account))
    }

    /// The file is another one.
    fn forget(&mut self) {
        self.verified.clear();
        self.generation = self.generation.wrapping_add(1);
    }

    /// Whether there is anything that another file would make wrong.
    fn is_empty(&self) -> bool {
        self.verified.is_empty() && self.pending.is_empty()
    }
}

fn short(mac: &Mac) -> u64 {
    mac.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Waits; not even for the tick of a timer if there is no need.
async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// Waits for the next password; looks at the file meanwhile, as long as there is something to forget.
fn next_job(jobs: &Receiver<Job>, shared: &Weak<Shared>, file: &mut WatchedFile) -> Option<Job> {
    loop {
        let remembers = !shared.upgrade()?.lock().is_empty();
        if !remembers {
            return jobs.recv().ok();
        }
        match jobs.recv_timeout(LOOK_EVERY) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                if file.refresh()
                    && let Some(shared) = shared.upgrade()
                {
                    shared.lock().forget();
                }
            }
        }
    }
}

struct WatchedFile {
    path: PathBuf,
    seen: Option<Stamp>,
    users: UsersFile,
}

/// What changes when a file is written or replaced. `None` stands for a file that is not there.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

impl WatchedFile {
    /// Reads the file again if it is another one than before; tells whether it was.
    fn refresh(&mut self) -> bool {
        let stamp = stamp(&self.path);
        if self.seen == Some(stamp) {
            return false;
        }
        self.seen = Some(stamp);
        self.users = UsersFile::load(&self.path).unwrap_or_else(|error| {
            warn!(error = %chain(&error), "No user can log on with a password");
            UsersFile::default()
        });
        true
    }
}

fn stamp(path: &Path) -> Stamp {
    let data = fs::metadata(path).ok()?;
    Some((data.dev(), data.ino(), data.mtime(), data.mtime_nsec(), data.size()))
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_recorded_is_told_in_the_next_minute() {
        let mut unnamed = Unnamed::default();
        let begun = Instant::now();
        for number in 0..15 {
            let expected = (number < UNNAMED_LINES).then_some(0);
            assert_eq!(unnamed.count(begun + Duration::from_secs(number.into())), expected, "{number}");
        }
        assert_eq!(unnamed.count(begun + UNNAMED_EVERY), Some(5));
        assert_eq!(unnamed.count(begun + UNNAMED_EVERY), Some(0));
    }
}
