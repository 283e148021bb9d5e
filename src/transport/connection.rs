//! One connection from accept to close.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::auth::{ClientCertificate, ConnectionAuth, record_handshake};
use super::exchange::Connection;
use super::handler::EnvelopeHandler;
use super::limits::MAX_HEAD_BYTES;
use super::linger::{LingerFlag, LingeringIo};
use super::server::Shared;
use super::tls::TlsIdentity;

/// Bytes of clear text and of records that a TLS connection may hold back.
const TLS_BUFFER: usize = 32 * 1024;

/// Serves a connection until either side closes it, or until it is idle after `stop`.
pub(super) async fn serve<H: EnvelopeHandler>(
    shared: Arc<Shared<H>>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<TlsIdentity>>,
    surplus: bool,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "Connection lost at once");
        return;
    }
    let Some(identity) = tls else {
        let auth = ConnectionAuth::new(None, &shared.auth, shared.limits.handshake, peer.ip());
        return serve_http(shared, stream, peer, auth, surplus, stop).await;
    };
    // In a box of its own, which is gone when the handshake is.
    let Some((stream, auth)) = Box::pin(shake_hands(&shared, stream, peer, identity)).await else { return };
    serve_http(shared, stream, peer, auth, surplus, stop).await;
}

/// The stream within TLS; `None` when the client and the server did not agree in time.
async fn shake_hands<H: EnvelopeHandler>(
    shared: &Shared<H>,
    stream: TcpStream,
    peer: SocketAddr,
    identity: Arc<TlsIdentity>,
) -> Option<(TlsStream<TcpStream>, ConnectionAuth)> {
    let (acceptor, binding) = identity.acceptor();
    let handshake = acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(TLS_BUFFER)));
    match tokio::time::timeout(shared.limits.handshake, handshake).await {
        Ok(Ok(stream)) => {
            let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
            let certificate = chain.map(|chain| ClientCertificate::new(chain, identity));
            let auth = ConnectionAuth::new(Some(binding), &shared.auth, shared.limits.handshake, peer.ip());
            Some((stream, auth.with_certificate(certificate)))
        }
        Ok(Err(error)) => {
            debug!(%peer, %error, "TLS handshake failed");
            record_handshake(&shared.auth, peer.ip(), &error);
            None
        }
        Err(_) => {
            debug!(%peer, "TLS handshake not finished in time");
            None
        }
    }
}

/// Serves the requests of a connection. What it keeps is built here and held in a box: the states of an `async`
/// function have room for all its arguments twice, and a thousand connections feel that.
fn serve_http<H: EnvelopeHandler>(
    shared: Arc<Shared<H>>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    auth: ConnectionAuth,
    surplus: bool,
    stop: CancellationToken,
) -> impl Future<Output = ()> {
    let linger = LingerFlag::default();
    let idle = shared.limits.idle;
    let context = Arc::new(Connection { shared, auth, linger: linger.clone(), surplus });
    let service = service_fn(move |request| {
        let context = Arc::clone(&context);
        async move { Ok::<_, Infallible>(context.answer(request).await) }
    });
    let mut connection = Box::pin(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(idle)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(LingeringIo::new(stream, linger), service),
    );
    async move {
        let mut stopping = false;
        let ended = loop {
            let stopped = async {
                if stopping {
                    pending::<()>().await;
                }
                stop.cancelled().await;
            };
            tokio::select! {
                biased;
                ended = connection.as_mut() => break ended,
                () = stopped => {
                    // A connection that waits for its next request is closed now, another one after its answer.
                    connection.as_mut().graceful_shutdown();
                    stopping = true;
                }
            }
        };
        if let Err(error) = ended {
            debug!(%peer, %error, "Connection ended");
        }
    }
}
