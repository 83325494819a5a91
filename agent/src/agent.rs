//! One door from its configuration to a running agent, and back.
//!
//! Build (trust, state, pins), spawn (controller, link), drain (link, controller, storage), in this
//! order: what can be wrong is found before anything is driven, and the door outlives its link.

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
use crate::reboot::{self, Machine, Wanted};
use crate::service;
use crate::storage::{DoorDirectory, DoorStorage, Restored, Storage, StorageError, damage_record};
use crate::tls::{TlsCache, TlsError};
pub use snapshot::{AgentSnapshot, Snapshots};

/// How long the controller and the disk may take to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// What the agents of one process share: the storage thread and the TLS configurations.
#[derive(Debug, Clone)]
pub struct Shared {
    storage: Storage,
    tls: Arc<TlsCache>,
}

impl Shared {
    /// Starts the storage thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            storage: Storage::spawn()?,
            tls: Arc::new(TlsCache::default()),
        })
    }

    /// Ends the storage thread once it has written what it was given. Shut the agents down first.
    pub fn shutdown(&self) {
        self.storage.shutdown();
    }
}

/// Why an agent does not start. Nothing is driven then.
#[derive(Debug, Error)]
pub enum StartError {
    /// The door's settings do not fit together.
    #[error("the door's configuration cannot work")]
    Door(#[from] door_core::config::ConfigError),
    /// The board's settings do not fit the strike.
    #[error("the board's configuration cannot work")]
    BoardConfig(#[from] BoardConfigError),
    /// The state cannot be read or kept.
    #[error("cannot open the door's state")]
    Storage(#[from] StorageError),
    /// The pins cannot be had.
    #[error("cannot open the door's board")]
    Board(#[from] BoardError),
}

/// Starts agents.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Starts one door: when this returns its pins are safe, its state is loaded and its link is on
    /// the way up.
    ///
    /// # Errors
    /// When the configuration cannot work, or state, trust or board cannot be had.
    pub async fn start(config: AgentConfig, shared: &Shared) -> Result<RunningAgent, StartError> {
        config.board.check(&config.strike)?;
        let door = DoorConfig::new(config.door, config.strike, config.board.fitted())?;
        // What cannot be trusted now is tried with each connection.
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
        let found: Vec<SavedDoor> = restored.doors_or_aside(&storage, SavedDoor::fire_latch);
        let saved = match restored.doubt.clone() {
            Some(reason) => Some(SavedDoor::in_doubt(found, reason, &clock.now())),
            None => found.into_iter().next(),
        };
        report_damages(&storage, &restored, clock.clone());
        let stop = CancellationToken::new();
        let config_problem = watch::Sender::new(problem_of(&config.problems));
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
        let machine = Machine::new(
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
                away: config.hub_away,
            },
            tls: Arc::clone(&shared.tls),
            controller: controller.clone(),
            storage: storage.clone(),
            place: restored.place,
            desired: desired.unwrap_or_default(),
            configured: door,
            start_reason: restored.start_reason,
            boot_reason: reboot::boot_reason(
                restored.start_reason,
                restored.reboot.as_ref(),
                controller::boot_id().as_str(),
            ),
            machine: machine.clone(),
            config_problem: config_problem.subscribe(),
            door_clock: Clock::new(config.board.clock_trust()),
        });
        Ok(RunningAgent {
            snapshots: Snapshots {
                device,
                controller: controller.snapshot(),
                link: cloud.status(),
                disk: storage.disk(),
                config: config_problem.subscribe(),
                storage,
            },
            config_problem,
            controller,
            controller_task,
            cloud,
            tls: Arc::clone(&shared.tls),
            reboot: machine.wanted(),
            sim,
            stop,
        })
    }
}

/// What [`RunningAgent::changed`] has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Door, link or disk look different.
    State,
    /// The machine is to be rebooted: shut the agent down, then ask for it, then end.
    Reboot(Wanted),
    /// The controller has ended, which it never does by itself unless it panicked.
    ControllerEnded,
}

/// A door at work. Dropping it without [`RunningAgent::shutdown`] leaves its tasks running.
#[derive(Debug)]
pub struct RunningAgent {
    snapshots: Snapshots,
    controller: ControllerHandle,
    controller_task: JoinHandle<()>,
    cloud: Cloud,
    tls: Arc<TlsCache>,
    config_problem: watch::Sender<Option<String>>,
    reboot: watch::Receiver<Option<Wanted>>,
    sim: Option<SimHandle>,
    stop: CancellationToken,
}

impl RunningAgent {
    /// The device that this door is.
    #[must_use]
    pub fn door(&self) -> &DeviceId {
        &self.snapshots.device
    }

    /// The hand on a simulated door.
    #[must_use]
    pub fn sim(&self) -> Option<SimHandle> {
        self.sim.clone()
    }

    /// The way to the door without a hub.
    #[must_use]
    pub fn controller(&self) -> &ControllerHandle {
        &self.controller
    }

    /// How everything stands now.
    #[must_use]
    pub fn snapshot(&self) -> AgentSnapshot {
        self.snapshots.take()
    }

    /// A source of snapshots that outlives a borrow of the agent.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        self.snapshots.clone()
    }

    /// Waits until door, link or disk have changed since this was last asked, or the controller has
    /// ended by itself: then the process has to end.
    pub async fn changed(&mut self) -> Change {
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
                Change::ControllerEnded
            }
            Ok(()) = controller.changed() => Change::State,
            Ok(()) = link.changed() => Change::State,
            Ok(()) = disk.changed() => Change::State,
            wanted = reboot_wanted(&mut self.reboot) => Change::Reboot(wanted),
        }
    }

    /// Takes the link down as if the cable were pulled: no DISCONNECT, and no attempt to connect.
    pub fn disconnect_link(&self) {
        self.cloud.set_plugged(false);
    }

    /// Plugs the cable in again.
    pub fn reconnect_link(&self) {
        self.cloud.set_plugged(true);
    }

    /// Uses other settings of the hub, and its CA certificates as they are now; when anything is
    /// different the link connects anew, and the door notices nothing. The device must be the
    /// same. Tells whether anything was different.
    ///
    /// # Errors
    /// When nothing could be trusted; then the link stays as it is.
    pub fn set_hub(&self, hub: HubConfig) -> Result<bool, TlsError> {
        let tls = Some(trust(&self.tls, &hub)?);
        Ok(self.cloud.set_settings(LinkSettings {
            config: Arc::new(hub),
            tls,
            away: None,
        }))
    }

    /// Tells in status and reported properties what the configuration says that is not allowed.
    pub fn set_config_problems(&self, problems: &[String]) {
        self.config_problem.send_replace(problem_of(problems));
    }

    /// Drains: answers what is in flight, tells the hub, de-energises, writes everything to disk.
    pub async fn shutdown(self) {
        let device = &self.snapshots.device;
        self.cloud.shutdown().await;
        self.stop.cancel();
        let mut task = self.controller_task;
        if !task.is_finished() && timeout(DRAIN_WITHIN, &mut task).await.is_err() {
            warn!("{device}: the controller did not end within {DRAIN_WITHIN:?} and is cut");
            task.abort();
        }
        if timeout(DRAIN_WITHIN, self.snapshots.storage.close())
            .await
            .is_err()
        {
            error!("{device}: the disk did not take the last events within {DRAIN_WITHIN:?}");
        }
    }
}

fn trust(tls: &TlsCache, hub: &HubConfig) -> Result<Arc<ClientConfig>, TlsError> {
    tls.client_config(hub.ca_file.as_deref(), hub.certificate.as_ref())
}

fn problem_of(problems: &[String]) -> Option<String> {
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// Waits until a reboot was accepted and its answer is on its way.
async fn reboot_wanted(reboot: &mut watch::Receiver<Option<Wanted>>) -> Wanted {
    if let Ok(wanted) = reboot.wait_for(Option::is_some).await {
        if let Some(wanted) = wanted.clone() {
            return wanted;
        }
    }
    // Nobody is left who could want one.
    std::future::pending().await
}

/// Opens the door's directory on a thread that may wait for the disk.
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

/// Tells of damaged files in the events; the log has them already.
fn report_damages(storage: &DoorStorage, restored: &Restored, mut clock: Clock) {
    let quality = clock.now().quality;
    for damage in &restored.damages {
        storage.append(damage_record(damage, quality.as_str()));
    }
}
