//! Accepts devices, and enforces the deadlines of all connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::link::SocketLink;
use crate::auth::{DeviceAuthorities, HostNames};
use crate::listen::{ConnectionSlot, ConnectionSlots, Limits, LineLimiter, accept};
use crate::service::Services;
use crate::session::{DisconnectReason, Entry, Registry};
use crate::types::ConnectionEpoch;

/// Limits on sockets that are not accepted as devices yet. A served one may take what
/// [`super::accept`] and TLS need for a handshake, about 40 KiB: 80 MiB in total, an eighth of it
/// from one address. A waiting one takes a socket and a task of less than 1 KiB.
const CONNECTION_LIMITS: Limits = Limits {
    idle_grace: Duration::from_secs(3),
    served: 2048,
    served_per_address: 256,
    all: 8192,
    all_per_address: 2048,
};

/// Refused connections that are logged per minute; the others are counted.
const REFUSALS_PER_MINUTE: u32 = 60;

/// How often deadlines are checked; the shortest of them is five seconds.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// How long connections may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// The state that all connections share.
pub(crate) struct Gateway {
    pub(super) services: Services,
    pub(super) registry: Registry,
    pub(super) names: HostNames,
    pub(super) authorities: DeviceAuthorities,
    tls: Arc<ServerConfig>,
    slots: ConnectionSlots,
    /// For connections that were refused before a device was authenticated.
    pub(super) refusals: LineLimiter,
    connections: TaskTracker,
    stop: CancellationToken,
}

impl Gateway {
    /// A gateway that accepts TLS connections with `tls`.
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
            slots: ConnectionSlots::new(CONNECTION_LIMITS),
            refusals: LineLimiter::new(REFUSALS_PER_MINUTE),
            connections: TaskTracker::new(),
            stop,
        }
    }

    /// Serves `listener` until the hub stops, then ends every connection, WebSockets included.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let gateway = self;
        let (connections, stop) = (&gateway.connections, &gateway.stop);
        let sweeper = tokio::spawn(sweep(gateway.registry.clone(), stop.clone()));
        loop {
            let (socket, peer, slot) = tokio::select! {
                accepted = accept(&listener, &gateway.slots) => accepted,
                () = stop.cancelled() => break,
            };
            gateway.spawn(peer, slot, |gateway| {
                Some(SocketLink::new(socket, gateway.begin_tls()?))
            });
        }
        drop(listener);
        connections.close();
        // Repeated, because a device in the handshake may enter the registry after the first call.
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
            tracing::error!(%error, "the deadline check failed");
        }
    }

    /// Serves a device on a socket of the REST listener after a WebSocket upgrade; `early` arrived
    /// after the request.
    pub(crate) fn serve_websocket(
        self: &Arc<Self>,
        socket: TcpStream,
        tls: ServerConnection,
        early: Vec<u8>,
        peer: SocketAddr,
    ) {
        match self.slots.take(peer.ip()) {
            Some(slot) => self.spawn(peer, slot, |_| {
                Some(SocketLink::over_websocket(socket, tls, early))
            }),
            // The device will try again.
            None => {
                tracing::debug!(%peer, "connection closed: too many unauthenticated connections");
            }
        }
    }

    /// Serves a connection when its turn comes; only then are its TLS and buffers allocated.
    fn spawn(
        self: &Arc<Self>,
        peer: SocketAddr,
        slot: ConnectionSlot,
        link: impl FnOnce(&Self) -> Option<SocketLink> + Send + 'static,
    ) {
        let gateway = Arc::clone(self);
        self.connections.spawn(async move {
            let turn = gateway.stop.run_until_cancelled(slot.wait_for_turn()).await;
            let Some(slot) = turn.flatten() else { return };
            let Some(link) = link(&gateway) else { return };
            let stop = gateway.stop.clone();
            connection::serve(link, peer, gateway, slot, stop).await;
        });
    }

    /// TLS for a new socket; `None` when it cannot be created.
    fn begin_tls(&self) -> Option<ServerConnection> {
        ServerConnection::new(Arc::clone(&self.tls))
            .inspect_err(|error| tracing::error!(%error, "cannot start TLS"))
            .ok()
    }

    /// Removes a connection that was never accepted: from the registry at once, from the store in
    /// the background.
    pub(super) fn remove_in_background(&self, entry: &Arc<Entry>, epoch: ConnectionEpoch) {
        self.registry.remove(entry);
        // Without a runtime the hub is stopping, and the next one starts with no device
        // connected.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let session = self.services.session.clone();
            let device = entry.device().clone();
            let reason = "the connection was not accepted in the end".to_owned();
            runtime.spawn(async move {
                if let Err(error) = session.disconnected(&device, epoch, reason).await {
                    tracing::warn!(%device, "cannot store the end of the connection: {error}");
                }
            });
        }
    }

    /// Removes a connection that ended from the registry and the store.
    pub(super) async fn remove(&self, entry: &Arc<Entry>, epoch: ConnectionEpoch, reason: String) {
        self.registry.remove(entry);
        if let Err(error) = self
            .services
            .session
            .disconnected(entry.device(), epoch, reason)
            .await
        {
            tracing::warn!(
                device = %entry.device(),
                "cannot store the end of the connection: {error}"
            );
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
