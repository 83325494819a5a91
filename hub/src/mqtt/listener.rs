//! Accepts devices, and looks at everyone's deadlines.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::link::SocketLink;
use crate::auth::{DeviceAuthorities, HostNames};
use crate::service::ConnectionEpoch;
use crate::service::Services;
use crate::session::{DisconnectReason, Entry, Registry};

/// Sockets that have not been accepted as devices yet. One more waits in the backlog, for ten seconds at the longest.
const STRANGERS: usize = 2048;

/// Connections that the kernel holds while the hub is busy: a fleet that comes back at once.
const BACKLOG: u32 = 4096;

/// How often deadlines are looked at; the shortest of them is five seconds.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// How long to wait before accepting again when the process has run out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// What every connection shares.
pub(crate) struct Gateway {
    pub(super) services: Services,
    pub(super) registry: Registry,
    pub(super) names: HostNames,
    pub(super) authorities: DeviceAuthorities,
    tls: Arc<ServerConfig>,
    /// A permit for each socket that may still be anybody's.
    strangers: Arc<Semaphore>,
    connections: TaskTracker,
    stop: CancellationToken,
}

/// Binds a listener with a backlog fit for a fleet.
///
/// # Errors
///
/// When the address cannot be bound.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Gateway {
    /// A gateway that speaks TLS with `tls`.
    pub(crate) fn new(
        services: Services,
        registry: Registry,
        names: HostNames,
        authorities: DeviceAuthorities,
        tls: Arc<ServerConfig>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            services,
            registry,
            names,
            authorities,
            tls,
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            connections: TaskTracker::new(),
            stop,
        }
    }

    /// Serves `listener` until the hub stops, then ends every connection, those over WebSockets too.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let gateway = self;
        let (connections, stop) = (&gateway.connections, &gateway.stop);
        let sweeper = tokio::spawn(sweep(gateway.registry.clone(), stop.clone()));
        loop {
            let (socket, peer, permit) = tokio::select! {
                accepted = accept(&listener, &gateway.strangers) => accepted,
                () = stop.cancelled() => break,
            };
            if let Some(tls) = gateway.begin(&socket, peer) {
                gateway.spawn(SocketLink::new(socket, tls), peer, permit);
            }
        }
        drop(listener);
        connections.close();
        // Again and again: a device that was being accepted comes in after the first call.
        let drained = async {
            loop {
                gateway.registry.disconnect_all(DisconnectReason::Shutdown);
                if tokio::time::timeout(SWEEP_INTERVAL, connections.wait())
                    .await
                    .is_ok()
                {
                    return;
                }
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!(
                "{} connections did not end within {} s",
                connections.len(),
                DRAIN.as_secs()
            );
        }
        if let Err(error) = sweeper.await {
            tracing::error!(%error, "the sweeper of deadlines failed");
        }
    }

    /// Serves a device on a socket of the REST listener, where a WebSocket has just been agreed on; `early` came behind the request.
    pub(crate) fn serve_websocket(
        self: &Arc<Self>,
        socket: TcpStream,
        tls: ServerConnection,
        early: Vec<u8>,
        peer: SocketAddr,
    ) {
        match Arc::clone(&self.strangers).try_acquire_owned() {
            Ok(permit) => self.spawn(SocketLink::over_websocket(socket, tls, early), peer, permit),
            // It will try again.
            Err(_) => {
                tracing::info!(%peer, "connection refused: {STRANGERS} others have not been accepted yet");
            }
        }
    }

    fn spawn(self: &Arc<Self>, link: SocketLink, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        self.connections.spawn(connection::serve(
            link,
            peer,
            Arc::clone(self),
            permit,
            self.stop.clone(),
        ));
    }

    /// TLS for a new socket; `None` when it cannot be begun.
    fn begin(&self, socket: &TcpStream, peer: SocketAddr) -> Option<ServerConnection> {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot switch Nagle's algorithm off");
        }
        match ServerConnection::new(Arc::clone(&self.tls)) {
            Ok(tls) => Some(tls),
            Err(error) => {
                tracing::error!(%error, "cannot begin TLS");
                None
            }
        }
    }

    /// Takes a connection that was never accepted out of the registry now, and out of the store as soon as that has time.
    pub(super) fn forget_later(&self, entry: &Arc<Entry>, epoch: ConnectionEpoch) {
        self.registry.remove(entry);
        // Without a runtime the hub is gone, and the next one begins with nobody connected.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let session = self.services.session.clone();
            let device = entry.device().clone();
            runtime.spawn(async move {
                if let Err(error) = session.disconnected(&device, epoch).await {
                    tracing::warn!(%device, "the end of its connection could not be stored: {error}");
                }
            });
        }
    }

    /// Takes a connection that ended out of registry and store.
    pub(super) async fn forget(&self, entry: &Arc<Entry>, epoch: ConnectionEpoch) {
        self.registry.remove(entry);
        if let Err(error) = self
            .services
            .session
            .disconnected(entry.device(), epoch)
            .await
        {
            tracing::warn!(device = %entry.device(), "the end of its connection could not be stored: {error}");
        }
    }
}

async fn accept(
    listener: &TcpListener,
    strangers: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        let permit = Arc::clone(strangers)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((socket, peer)) => return (socket, peer, permit),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn sweep(registry: Registry, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => registry.sweep(Instant::now()),
            () = stop.cancelled() => return,
        }
    }
}
