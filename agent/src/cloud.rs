//! The link to the hub: one task drives the connection, one publishes, and each method call is
//! answered by its own task.
//!
//! Nothing here moves the door: method calls go to the controller's handle, and the door's changes
//! reach the hub through its snapshot and the event log. The door does not depend on the hub: one
//! that is unreachable, overloaded or faulty does not affect it.

mod connect;
mod driver;
mod handover;
mod methods;
mod pace;
mod problem;
mod publisher;
mod reach;
mod reported;
mod timed;
mod twin;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use door_core::{DesiredDoor, DoorConfig};
use jiff::Timestamp;
use log::warn;
use rumqttc::AsyncClient;
use rustls::ClientConfig;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::HubConfig;
use crate::controller::{Clock, ControllerHandle};
use crate::identify::Identifier;
use crate::reboot::Rebooter;
use crate::storage::{DoorStorage, SiteLocation, StartReason};
use crate::tls::TlsCache;
use driver::Driver;
use methods::Methods;
use publisher::{Publisher, PublisherParts};
pub use reach::reach;
use twin::Desired;

/// Capacity of the queue from the driver to the publisher: the acknowledgements of a full window, a
/// twin, and a burst of notifications.
const PUBLISHER_QUEUE: usize = 256;
/// How long the link may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LinkState {
    /// TCP, TLS, CONNECT or SUBSCRIBE is in progress.
    Connecting,
    /// Subscribed: methods and the twin work.
    Connected,
    /// Backing off before the next attempt.
    Waiting,
    /// Cut by [`crate::RunningAgent::disconnect_link`].
    Unplugged,
}

/// What the hub desires of the door, for people.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredStatus {
    /// The location as accepted.
    #[serde(flatten)]
    pub location: SiteLocation,
    /// The desired properties that are not in force, with the reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, String>,
}

/// State of the link, for people and for the reported properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    pub state: LinkState,
    /// Connections established since the agent started.
    pub connections: u64,
    /// Why the last connection or attempt failed.
    pub last_problem: Option<String>,
    /// When the device's certificate ends, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_end: Option<Timestamp>,
}

/// Message from the driver to the publisher.
#[derive(Debug)]
enum LinkEvent {
    /// Connected and subscribed.
    Online(AsyncClient),
    /// The connection ended.
    Offline,
    TwinResponse {
        status: u16,
        rid: String,
        body: Vec<u8>,
    },
    DesiredPatch {
        version: u64,
        body: Vec<u8>,
    },
    /// An event was written to the socket with this packet id.
    Sent(u16),
    /// The hub acknowledged the event with this packet id.
    Acknowledged(u16),
}

/// Hub, credentials and trust of the link; may change while the agent runs.
#[derive(Debug, Clone)]
pub(crate) struct LinkSettings {
    pub(crate) config: Arc<HubConfig>,
    /// The trust at the time of setting, to detect a change.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Why no connection is possible, if the configuration rules it out.
    pub(crate) unusable: Option<String>,
}

/// Dependencies of the link.
pub(crate) struct CloudParts {
    pub(crate) settings: LinkSettings,
    pub(crate) tls: Arc<TlsCache>,
    pub(crate) controller: ControllerHandle,
    pub(crate) storage: DoorStorage,
    pub(crate) location: SiteLocation,
    /// The desired properties last saved, and the configuration of the door.
    pub(crate) desired: DesiredDoor,
    pub(crate) configured: DoorConfig,
    pub(crate) start_reason: StartReason,
    /// Value of the reported property `device.bootReason`.
    pub(crate) boot_reason: Value,
    pub(crate) rebooter: Rebooter,
    /// Value of the reported property `device.config.problem`.
    pub(crate) config_problem: watch::Receiver<Option<String>>,
    /// Time source for the link's own records.
    pub(crate) door_clock: Clock,
}

#[derive(Debug)]
pub(crate) struct Cloud {
    plugged: watch::Sender<bool>,
    settings: watch::Sender<LinkSettings>,
    status: watch::Receiver<LinkStatus>,
    desired: watch::Receiver<DesiredStatus>,
    stop: CancellationToken,
    driver: JoinHandle<()>,
    publisher: JoinHandle<()>,
}

impl Cloud {
    pub(crate) fn spawn(parts: CloudParts) -> Self {
        let (link_event_tx, link_events) = mpsc::channel(PUBLISHER_QUEUE);
        let plugged = watch::Sender::new(true);
        let (status_tx, status) = watch::channel(LinkStatus {
            state: LinkState::Connecting,
            connections: 0,
            last_problem: None,
            certificate_end: None,
        });
        let desired_status = watch::Sender::new(DesiredStatus {
            location: parts.location.clone(),
            refused: BTreeMap::new(),
        });
        let desired = desired_status.subscribe();
        let stop = CancellationToken::new();
        let device = parts.settings.config.connection.device_id.clone();
        let settings = watch::Sender::new(parts.settings.clone());
        let location = watch::Sender::new(parts.location.clone());
        let identifier = Identifier {
            device: device.clone(),
            door: parts.configured,
            location: location.subscribe(),
            clock: parts.door_clock,
            storage: parts.storage.clone(),
        };
        let answered = watch::Sender::new(0);
        let publisher = Publisher::new(PublisherParts {
            location,
            answered: answered.subscribe(),
            device: device.clone(),
            link_events,
            storage: parts.storage,
            controller: parts.controller.clone(),
            link: status.clone(),
            start_reason: parts.start_reason,
            boot_reason: parts.boot_reason,
            config_problem: parts.config_problem,
            desired: Desired::new(parts.location, parts.desired, parts.configured),
            desired_status,
        });
        let driver = Driver {
            config: parts.settings.config,
            unusable: parts.settings.unusable,
            settings: settings.subscribe(),
            clock: parts.tls.clock().clone(),
            tls: parts.tls,
            snapshot: parts.controller.snapshot(),
            methods: Methods::new(
                parts.controller,
                device,
                parts.rebooter,
                identifier,
                answered,
            ),
            publisher: link_event_tx,
            plugged: plugged.subscribe(),
            status: status_tx,
            stop: stop.clone(),
        };
        Self {
            plugged,
            settings,
            status,
            desired,
            stop,
            driver: tokio::spawn(driver.run()),
            publisher: tokio::spawn(publisher.run()),
        }
    }

    /// Cuts the link without DISCONNECT, or allows it to reconnect.
    pub(crate) fn set_plugged(&self, plugged: bool) {
        self.plugged.send_replace(plugged);
    }

    /// Applies new settings: the link reconnects at once, or as soon as no method call is pending.
    /// Returns false if they are unchanged.
    pub(crate) fn set_settings(&self, settings: LinkSettings) -> bool {
        self.settings.send_if_modified(|present| {
            let same_trust = match (&present.tls, &settings.tls) {
                (Some(present), Some(settings)) => Arc::ptr_eq(present, settings),
                _ => false,
            };
            let same = same_trust
                && present.config == settings.config
                && present.unusable == settings.unusable;
            if !same {
                *present = settings;
            }
            !same
        })
    }

    pub(crate) fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    pub(crate) fn desired(&self) -> watch::Receiver<DesiredStatus> {
        self.desired.clone()
    }

    /// Answers pending calls, sends DISCONNECT and ends both tasks.
    pub(crate) async fn shutdown(self) {
        self.stop.cancel();
        let (driver, publisher) = (self.driver.abort_handle(), self.publisher.abort_handle());
        let ended = async {
            // A task that panicked has ended too; the panic is already logged.
            let _ = self.driver.await;
            let _ = self.publisher.await;
        };
        if timeout(STOP_TIMEOUT, ended).await.is_err() {
            warn!("the link did not end within {STOP_TIMEOUT:?}; aborting it");
            driver.abort();
            publisher.abort();
        }
    }
}
