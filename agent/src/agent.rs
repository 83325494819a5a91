//! Life cycle of one door's agent, from configuration to shutdown.
//!
//! Build (trust, state, pins), spawn (controller, link), drain (link, controller, storage), in this
//! order: errors are found before any output is driven, and the door outlives its link.

mod snapshot;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use door_core::{DoorConfig, SavedDoor};
use iothub_protocol::id::DeviceId;
use log::{error, warn};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cloud::{Cloud, CloudParts, LinkSettings};
use crate::config::{AgentConfig, HubConfig, StateConfig};
use crate::controller::{self, Clock, ControllerHandle, ControllerParts};
use crate::gpio::simulated::SimHandle;
use crate::gpio::{self, BoardConfigError, BoardError};
use crate::reboot::{self, AcceptedReboot, Rebooter};
use crate::service;
use crate::storage::{DoorDirectory, DoorStorage, Restored, Storage, StorageError};
use crate::tls::{TlsCache, TlsError};
pub use snapshot::{AgentSnapshot, Snapshots};

/// How long the controller and the disk may each take to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Shared by the agents of one process: the storage thread and the TLS configurations.
#[derive(Debug, Clone)]
pub struct Shared {
    storage: Storage,
    tls: Arc<TlsCache>,
}

impl Shared {
    /// Starts the storage thread.
    ///
    /// # Errors
    /// When the system cannot create a thread.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            storage: Storage::spawn()?,
            tls: Arc::new(TlsCache::default()),
        })
    }

    /// Ends the storage thread after it has written its queue. Shut the agents down first.
    pub fn shutdown(&self) {
        self.storage.shutdown();
    }
}

/// Why an agent does not start. No output is driven then.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("the door's configuration cannot work")]
    Door(#[from] door_core::config::ConfigError),
    #[error("the board's configuration cannot work")]
    BoardConfig(#[from] BoardConfigError),
    #[error("cannot open the door's state")]
    Storage(#[from] StorageError),
    #[error("cannot open the door's board")]
    Board(#[from] BoardError),
}

#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Starts one door. On return its pins are safe, its state is loaded and its link is
    /// connecting.
    ///
    /// # Errors
    /// When the configuration is invalid, or the state or the board cannot be opened.
    pub async fn start(config: AgentConfig, shared: &Shared) -> Result<RunningAgent, StartError> {
        config.board.check(&config.strike)?;
        let door = DoorConfig::new(config.door, config.strike, config.board.fitted())?;
        // A failure is not fatal: each connection attempt loads the trust again.
        let tls = trust(&shared.tls, &config.hub).ok();
        let device = config.hub.connection.device_id.clone();
        let (storage, mut restored) = open_storage(&shared.storage, &config.state, &device).await?;
        shared.tls.clock().raise_floor(restored.clock_floor_unix_s);

        let board = match gpio::open(&config.board, &config.strike, device.as_str()) {
            Ok(board) => board,
            Err(error) => {
                storage.close().await;
                return Err(error.into());
            }
        };
        let sim = board.sim.clone();
        let mut clock = Clock::new(config.board.clock_trust());
        let saved_doors: Vec<SavedDoor> = restored.doors_or_aside(&storage, SavedDoor::fire_latch);
        let saved = match restored.doubt.clone() {
            Some(reason) => Some(SavedDoor::in_doubt(saved_doors, reason, &clock.now())),
            None => saved_doors.into_iter().next(),
        };
        record_damages(&storage, &restored, clock.clone());
        let stop = CancellationToken::new();
        let config_problem = watch::Sender::new(join_problems(&config.problems));
        let desired = saved.as_ref().map(SavedDoor::desired);
        let (controller, controller_task) = controller::spawn(ControllerParts {
            door,
            restored: saved,
            board,
            clock,
            storage: storage.clone(),
            watchdog: service::watchdog_period().map(|period| (period, service::alive as fn())),
            shutdown: stop.clone(),
        });
        let rebooter = Rebooter::new(
            device.clone(),
            config.reboot_directory,
            Clock::new(config.board.clock_trust()),
            storage.clone(),
            restored.reboot.as_ref(),
        );
        let cloud = Cloud::spawn(CloudParts {
            settings: LinkSettings {
                tls,
                config: Arc::new(config.hub),
                unusable: config.hub_unusable,
            },
            tls: Arc::clone(&shared.tls),
            controller: controller.clone(),
            storage: storage.clone(),
            location: restored.location,
            desired: desired.unwrap_or_default(),
            configured: door,
            start_reason: restored.start_reason,
            boot_reason: reboot::boot_reason(
                restored.start_reason,
                restored.reboot.as_ref(),
                controller::boot_id().as_str(),
            ),
            rebooter: rebooter.clone(),
            config_problem: config_problem.subscribe(),
            door_clock: Clock::new(config.board.clock_trust()),
        });
        Ok(RunningAgent {
            snapshots: Snapshots {
                device,
                controller: controller.snapshot(),
                link: cloud.status(),
                desired: cloud.desired(),
                disk: storage.disk(),
                config: config_problem.subscribe(),
                storage,
            },
            config_problem,
            controller,
            controller_task,
            cloud,
            tls: Arc::clone(&shared.tls),
            reboot: rebooter.accepted(),
            sim,
            stop,
        })
    }
}

/// Result of [`RunningAgent::changed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// The state of the door, the link or the disk changed.
    State,
    /// A reboot was accepted: shut the agent down, request the reboot, then exit.
    Reboot(AcceptedReboot),
    /// The controller ended, which only a panic causes.
    ControllerEnded,
}

/// A running agent. Dropping it without [`RunningAgent::shutdown`] leaves its tasks running.
#[derive(Debug)]
pub struct RunningAgent {
    snapshots: Snapshots,
    controller: ControllerHandle,
    controller_task: JoinHandle<()>,
    cloud: Cloud,
    tls: Arc<TlsCache>,
    config_problem: watch::Sender<Option<String>>,
    reboot: watch::Receiver<Option<AcceptedReboot>>,
    sim: Option<SimHandle>,
    stop: CancellationToken,
}

impl RunningAgent {
    #[must_use]
    pub fn door(&self) -> &DeviceId {
        &self.snapshots.device
    }

    /// Control of a simulated door; `None` on real hardware.
    #[must_use]
    pub fn sim(&self) -> Option<SimHandle> {
        self.sim.clone()
    }

    /// Local access to the door, without a hub.
    #[must_use]
    pub fn controller(&self) -> &ControllerHandle {
        &self.controller
    }

    #[must_use]
    pub fn snapshot(&self) -> AgentSnapshot {
        self.snapshots.take()
    }

    /// A handle that takes snapshots and does not borrow the agent.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        self.snapshots.clone()
    }

    /// Waits until door, link or disk have changed since the last call, or a reboot was accepted,
    /// or the controller ended (then the process must end).
    pub async fn changed(&mut self) -> AgentEvent {
        let Snapshots {
            controller,
            link,
            disk,
            ..
        } = &mut self.snapshots;
        tokio::select! {
            ended = &mut self.controller_task => {
                if let Err(error) = ended {
                    error!("{}: the controller failed: {error}", self.snapshots.device);
                }
                AgentEvent::ControllerEnded
            }
            Ok(()) = controller.changed() => AgentEvent::State,
            Ok(()) = link.changed() => AgentEvent::State,
            Ok(()) = disk.changed() => AgentEvent::State,
            accepted = next_accepted_reboot(&mut self.reboot) => AgentEvent::Reboot(accepted),
        }
    }

    /// Cuts the link as if the cable were pulled: no DISCONNECT, and no reconnect.
    pub fn disconnect_link(&self) {
        self.cloud.set_plugged(false);
    }

    /// Allows the link to connect after [`RunningAgent::disconnect_link`].
    pub fn reconnect_link(&self) {
        self.cloud.set_plugged(true);
    }

    /// Applies new hub settings and re-reads the CA certificates. If anything differs, the link
    /// reconnects; the door is not affected. The device id must be the same. Returns whether
    /// anything differed.
    ///
    /// # Errors
    /// When the trust cannot be loaded; the link then stays as it is.
    pub fn set_hub(&self, hub: HubConfig) -> Result<bool, TlsError> {
        let tls = Some(trust(&self.tls, &hub)?);
        Ok(self.cloud.set_settings(LinkSettings {
            config: Arc::new(hub),
            tls,
            unusable: None,
        }))
    }

    /// Sets the configuration problems shown in status and reported properties.
    pub fn set_config_problems(&self, problems: &[String]) {
        self.config_problem.send_replace(join_problems(problems));
    }

    /// Drains: answers pending calls, disconnects from the hub, de-energises, flushes to disk.
    pub async fn shutdown(self) {
        let device = &self.snapshots.device;
        self.cloud.shutdown().await;
        self.stop.cancel();
        let mut task = self.controller_task;
        if !task.is_finished() && timeout(DRAIN_WITHIN, &mut task).await.is_err() {
            warn!("{device}: the controller did not end within {DRAIN_WITHIN:?}; aborting it");
            task.abort();
        }
        if timeout(DRAIN_WITHIN, self.snapshots.storage.close())
            .await
            .is_err()
        {
            error!("{device}: the last events were not written to disk within {DRAIN_WITHIN:?}");
        }
    }
}

fn trust(tls: &TlsCache, hub: &HubConfig) -> Result<Arc<ClientConfig>, TlsError> {
    tls.client_config(hub.ca_file.as_deref(), hub.certificate.as_ref())
}

fn join_problems(problems: &[String]) -> Option<String> {
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// Waits until a reboot was accepted and its answer was queued.
async fn next_accepted_reboot(
    reboot: &mut watch::Receiver<Option<AcceptedReboot>>,
) -> AcceptedReboot {
    if let Ok(accepted) = reboot.wait_for(Option::is_some).await {
        if let Some(accepted) = accepted.clone() {
            return accepted;
        }
    }
    // The sender is gone: no reboot can be requested any more.
    std::future::pending().await
}

/// Opens the door's directory on a blocking thread.
async fn open_storage(
    storage: &Storage,
    state: &StateConfig,
    device: &DeviceId,
) -> Result<(DoorStorage, Restored), StorageError> {
    let (storage, state, device) = (storage.clone(), state.clone(), device.clone());
    let opened = tokio::task::spawn_blocking(move || {
        storage.open(&DoorDirectory {
            path: &state.directory,
            door: device.as_str(),
            boot_id: controller::boot_id().as_str(),
            event_log_bytes: state.event_log_bytes,
        })
    });
    opened.await.unwrap_or(Err(StorageError::Closed))
}

/// Records damaged files as events; they were logged when they were found.
fn record_damages(storage: &DoorStorage, restored: &Restored, mut clock: Clock) {
    let quality = clock.now().quality;
    for damage in &restored.damages {
        storage.append(damage.event(quality));
    }
}
