//! The sockets of the REST API: TLS, a limit on connections, deadlines for handshakes and headers,
//! and a graceful shutdown that completes running requests.
//!
//! Until one of its requests is authenticated, a client gets little time and may send few bytes,
//! and its connection may be closed to make room for others.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _};

use super::auth::Authenticated;
use super::websocket::Peer;
use super::write_deadline::{Allowance, WriteDeadline};
use crate::listen::{ConnectionSlot, ConnectionSlots, Limits, accept};

/// Connections at once; others wait. Operators and their scripts are few, and a WebSocket of a door
/// counts here only until the upgrade.
const CONNECTIONS: Limits = Limits {
    idle_grace: Duration::from_secs(1),
    served: 1024,
    served_per_address: 256,
    all: 4096,
    all_per_address: 1024,
};

/// How long an unauthenticated client may take for its handshake and the head of its first request,
/// and may idle after a request that was rejected.
const UNAUTHENTICATED_DEADLINE: Duration = Duration::from_secs(10);

/// How many bytes an unauthenticated client may send until the head of its next request is
/// complete: tokens have a few hundred bytes.
const UNAUTHENTICATED_BYTES: usize = 8 * 1024;

/// How long an authenticated client may take for the head of a request, and idle between requests.
const HEAD_DEADLINE: Duration = Duration::from_secs(75);

/// How long a client may leave a response unread before the connection is closed.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// The longest head of a request: tokens and continuation tokens are the long parts.
const MAX_HEAD: usize = 32 * 1024;

/// Accepts connections for `router` until `stop`, then completes the running requests.
pub(crate) async fn serve<R>(
    listener: TcpListener,
    tls: TlsAcceptor,
    router: R,
    stop: CancellationToken,
) where
    R: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let slots = ConnectionSlots::new(CONNECTIONS);
    let connections = TaskTracker::new();
    loop {
        let (socket, peer, slot) = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = stop.cancelled() => break,
        };
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        connections.spawn(async move {
            let turn = stop.run_until_cancelled(slot.wait_for_turn()).await;
            let Some(slot) = turn.flatten() else { return };
            let slot = Arc::new(slot);
            tokio::select! {
                () = connection(socket, peer, tls, router, stop, Arc::clone(&slot)) => {}
                () = slot.evicted() => {
                    tracing::debug!(%peer, "closed an unauthenticated connection to make room");
                }
                () = slot.idle_for(UNAUTHENTICATED_DEADLINE) => {
                    tracing::debug!(%peer, "no authenticated request in time");
                }
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection<R>(
    socket: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    router: R,
    stop: CancellationToken,
    slot: Arc<ConnectionSlot>,
) where
    R: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let handshake = tls.accept(socket);
    let Some(handshake) = stop.run_until_cancelled(handshake).await else {
        return;
    };
    let stream = match handshake {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%peer, %error, "the TLS handshake failed"),
    };
    let allowance = Allowance::new(UNAUTHENTICATED_BYTES);
    let (on_request, on_response) = (
        (Arc::clone(&slot), allowance.clone()),
        (slot, allowance.clone()),
    );
    let unread = Arc::<AtomicBool>::default();
    let still_unread = Arc::clone(&unread);
    let service = router
        .map_request(move |request: Request<Incoming>| {
            let (slot, allowance) = &on_request;
            slot.set_busy();
            allowance.set(usize::MAX);
            // HTTP/1.1 without pipelining: the next response is that of this request.
            unread.store(!request.body().is_end_stream(), Ordering::Relaxed);
            let unread = Arc::clone(&unread);
            let mut request = request.map(|body| Body::new(WatchedBody { body, unread }));
            request.extensions_mut().insert(Peer(peer));
            request
        })
        .map_response(move |mut response: Response| {
            let (slot, allowance) = &on_response;
            if still_unread.load(Ordering::Relaxed) {
                let headers = response.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if response.extensions().get::<Authenticated>().is_none() {
                slot.set_idle();
                allowance.set(UNAUTHENTICATED_BYTES);
            }
            response
        });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(
            TokioIo::new(WriteDeadline::new(stream, WRITE_DEADLINE, allowance)),
            TowerToHyperService::new(service),
        )
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// A request's body that notes when it has been read. hyper closes a connection on which a body was
/// left unread; the response announces that.
struct WatchedBody {
    body: Incoming,
    unread: Arc<AtomicBool>,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.unread.store(false, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
