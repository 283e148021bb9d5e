//! Threads on which the host is asked, because it may take seconds.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use crate::access::Account;

use super::{HostPasswords, HostVerdict};
use crate::transport::auth::basic::Credentials;

/// Passwords that are checked at the same time.
const THREADS: usize = 4;
/// Passwords that may wait for a thread.
const QUEUE: usize = 64;

/// A password to ask the host about.
pub(in crate::transport::auth) struct HostJob {
    pub(in crate::transport::auth) mac: [u8; 32],
    pub(in crate::transport::auth) account: Arc<Account>,
    pub(in crate::transport::auth) credentials: Credentials,
    pub(in crate::transport::auth) source: IpAddr,
    /// What the password file was when the job was made.
    pub(in crate::transport::auth) generation: u64,
}

/// The threads. They end when the pool and the last job are gone.
pub(in crate::transport::auth) struct HostPool {
    queue: SyncSender<HostJob>,
}

impl HostPool {
    /// Starts the threads; each verdict goes to `done`.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(in crate::transport::auth) fn start(
        host: &Arc<dyn HostPasswords>,
        done: &(impl Fn(HostJob, HostVerdict) + Clone + Send + 'static),
    ) -> io::Result<Self> {
        let (queue, jobs) = sync_channel::<HostJob>(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..THREADS {
            let (host, jobs, done) = (Arc::clone(host), Arc::clone(&jobs), done.clone());
            thread::Builder::new().name("host-passwords".to_owned()).spawn(move || {
                while let Some(job) = next(&jobs) {
                    let verdict = host.check(&job.account.name, job.credentials.password(), job.source);
                    done(job, verdict);
                }
            })?;
        }
        Ok(Self { queue })
    }

    /// Hands a job to the next free thread; gives it back when too many wait.
    pub(in crate::transport::auth) fn ask(&self, job: HostJob) -> Result<(), HostJob> {
        self.queue.try_send(job).map_err(|refused| match refused {
            std::sync::mpsc::TrySendError::Full(job) | std::sync::mpsc::TrySendError::Disconnected(job) => job,
        })
    }
}

/// One thread waits for a job, the others for their turn to wait.
fn next(jobs: &Mutex<Receiver<HostJob>>) -> Option<HostJob> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
