//! Listening, and stopping in good order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::auth::AuthPolicy;
use super::connection;
use super::handler::EnvelopeHandler;
use super::limits::{Limits, REFUSAL_SLOTS};
use super::tls::TlsIdentity;

/// Connections that may wait in the system to be accepted.
const BACKLOG: u32 = 1024;
/// How long accepting rests after the system refused it, for example for want of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What all connections share.
pub(super) struct Shared<H> {
    pub(super) handler: H,
    pub(super) auth: AuthPolicy,
    pub(super) limits: Limits,
}

/// An address that accepts connections, with TLS or without.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<TlsIdentity>>,
}

impl Listener {
    /// Listens on an address; port 0 takes a free one. Must be called within a runtime.
    ///
    /// # Errors
    /// When the address is in use or not of this host.
    pub fn bind(address: SocketAddr, tls: Option<Arc<TlsIdentity>>) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // So that a restart need not wait for the last connections to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        Ok(Self { address: socket.local_addr()?, socket, tls })
    }

    /// The address with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The HTTP server in front of an [`EnvelopeHandler`].
pub struct Server<H> {
    shared: Arc<Shared<H>>,
    connections: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl<H> std::fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl<H: EnvelopeHandler> Server<H> {
    /// A server that is not listening yet.
    #[must_use]
    pub fn new(handler: H, auth: AuthPolicy, limits: Limits) -> Self {
        let connections = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
        let refusals = Arc::new(Semaphore::new(REFUSAL_SLOTS));
        Self { shared: Arc::new(Shared { handler, auth, limits }), connections, refusals }
    }

    /// Serves until `stop` is cancelled, then waits for the requests under way, at most for
    /// [`Limits::drain`].
    pub async fn serve(&self, listeners: Vec<Listener>, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        for listener in listeners {
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            info!(address = %listener.address, scheme, "Listening");
            tasks.spawn(self.acceptor(listener, tasks.clone(), stop.clone(), cut.clone()));
        }
        stop.cancelled().await;
        tasks.close();
        if tokio::time::timeout(self.shared.limits.drain, tasks.wait()).await.is_err() {
            warn!(connections = tasks.len(), "Closing connections with requests still under way");
            cut.cancel();
            tasks.wait().await;
        }
    }

    fn acceptor(
        &self,
        listener: Listener,
        tasks: TaskTracker,
        stop: CancellationToken,
        cut: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        let connections = Arc::clone(&self.connections);
        let refusals = Arc::clone(&self.refusals);
        async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    accepted = listener.socket.accept() => accepted,
                };
                let (stream, peer) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!(%error, address = %listener.address, "Cannot accept a connection");
                        tokio::time::sleep(ACCEPT_REST).await;
                        continue;
                    }
                };
                let Some((permit, surplus)) = admit(&connections, &refusals) else {
                    warn!(%peer, "Connection closed: MaxConnections reached");
                    continue;
                };
                let tls = listener.tls.clone();
                let serve = Box::pin(connection::serve(Arc::clone(&shared), stream, peer, tls, surplus, stop.clone()));
                let cut = cut.clone();
                tasks.spawn(async move {
                    let _permit = permit;
                    cut.run_until_cancelled(serve).await;
                });
            }
        }
    }
}

/// A place for a connection: a right one, one in which it is told that there is none, or nothing.
fn admit(connections: &Arc<Semaphore>, refusals: &Arc<Semaphore>) -> Option<(OwnedSemaphorePermit, bool)> {
    Arc::clone(connections)
        .try_acquire_owned()
        .map(|permit| (permit, false))
        .or_else(|_| Arc::clone(refusals).try_acquire_owned().map(|permit| (permit, true)))
        .ok()
}
