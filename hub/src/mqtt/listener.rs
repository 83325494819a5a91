//! Accepts devices, and looks at everyone's deadlines.

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
use crate::listen::{Limits, Place, Strangers, accept};
use crate::service::ConnectionEpoch;
use crate::service::Services;
use crate::session::{DisconnectReason, Entry, Registry};

/// Sockets that have not been accepted as devices yet. Served at once, each may hold what
/// [`super::accept`] and TLS need for a handshake, some 40 KiB: 80 MiB together, an eighth of it
/// from one address. Those that wait hold a socket and a task of less than a kibibyte.
const STRANGERS: Limits = Limits {
    patience: Duration::from_secs(3),
    served: 2048,
    served_of_one: 256,
    all: 8192,
    all_of_one: 2048,
};

/// How often deadlines are looked at; the shortest of them is five seconds.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// How long connections may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// What every connection shares.
pub(crate) struct Gateway {
    pub(super) services: Services,
    pub(super) registry: Registry,
    pub(super) names: HostNames,
    pub(super) authorities: DeviceAuthorities,
    tls: Arc<ServerConfig>,
    strangers: Strangers,
    connections: TaskTracker,
    stop: CancellationToken,
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
            strangers: Strangers::new(STRANGERS),
            connections: TaskTracker::new(),
            stop,
        }
    }

    /// Serves `listener` until the hub stops, then ends every connection, those over WebSockets
    /// too.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let gateway = self;
        let (connections, stop) = (&gateway.connections, &gateway.stop);
        let sweeper = tokio::spawn(sweep(gateway.registry.clone(), stop.clone()));
        loop {
            let (socket, peer, place) = tokio::select! {
                accepted = accept(&listener, &gateway.strangers) => accepted,
                () = stop.cancelled() => break,
            };
            gateway.spawn(peer, place, |gateway| {
                Some(SocketLink::new(socket, gateway.begin_tls()?))
            });
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

    /// Serves a device on a socket of the REST listener, where a WebSocket has just been agreed on;
    /// `early` came behind the request.
    pub(crate) fn serve_websocket(
        self: &Arc<Self>,
        socket: TcpStream,
        tls: ServerConnection,
        early: Vec<u8>,
        peer: SocketAddr,
    ) {
        match self.strangers.place(peer.ip()) {
            Some(place) => self.spawn(peer, place, |_| {
                Some(SocketLink::over_websocket(socket, tls, early))
            }),
            // It will try again.
            None => {
                tracing::debug!(%peer, "connection closed: too many others have not said who they are");
            }
        }
    }

    /// Serves a connection when its turn comes; only then is anything made for it.
    fn spawn(
        self: &Arc<Self>,
        peer: SocketAddr,
        place: Place,
        link: impl FnOnce(&Self) -> Option<SocketLink> + Send + 'static,
    ) {
        let gateway = Arc::clone(self);
        self.connections.spawn(async move {
            let turn = gateway.stop.run_until_cancelled(place.turn()).await;
            let Some(place) = turn.flatten() else { return };
            let Some(link) = link(&gateway) else { return };
            let stop = gateway.stop.clone();
            connection::serve(link, peer, gateway, place, stop).await;
        });
    }

    /// TLS for a new socket; `None` when it cannot be begun.
    fn begin_tls(&self) -> Option<ServerConnection> {
        ServerConnection::new(Arc::clone(&self.tls))
            .inspect_err(|error| tracing::error!(%error, "cannot begin TLS"))
            .ok()
    }

    /// Takes a connection that was never accepted out of the registry now, and out of the store as
    /// soon as that has time.
    pub(super) fn forget_later(&self, entry: &Arc<Entry>, epoch: ConnectionEpoch) {
        self.registry.remove(entry);
        // Without a runtime the hub is gone, and the next one begins with nobody connected.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let session = self.services.session.clone();
            let device = entry.device().clone();
            let reason = "it was not accepted in the end".to_owned();
            runtime.spawn(async move {
                if let Err(error) = session.disconnected(&device, epoch, reason).await {
                    tracing::warn!(%device, "the end of its connection could not be stored: {error}");
                }
            });
        }
    }

    /// Takes a connection that ended out of registry and store.
    pub(super) async fn forget(&self, entry: &Arc<Entry>, epoch: ConnectionEpoch, reason: String) {
        self.registry.remove(entry);
        if let Err(error) = self
            .services
            .session
            .disconnected(entry.device(), epoch, reason)
            .await
        {
            tracing::warn!(device = %entry.device(), "the end of its connection could not be stored: {error}");
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
