//! The doors: registered through the REST API, each run by the real agent.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use door_agent::gpio::simulated::{SIM_SOCKET, SimCommand, SimHandle, SimSocket};
use door_agent::{Agent, AgentConfig, RunningAgent, Shared};
use door_core::Want;
use iothub_client::{HubClient, NewDevice};
use iothub_protocol::DeviceId;
use iothub_protocol::connection_string::{DeviceConnectionString, DeviceCredential, HostName};
use iothub_protocol::identity::DeviceIdentity;
use iothub_protocol::sas::SharedAccessKey;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::doors::DemoDoors;
use crate::commands::many::for_each_door;
use crate::failure::Failure;

/// Open files of a door: both ends of its connection, its event log, its lock file, the socket of
/// `door-agent sim`, and short-lived ones.
const FILES_PER_DOOR: u64 = 7;

/// Open files of the rest of the process.
const OTHER_FILES: u64 = 256;

/// Address of the hub for agents.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) host_name: HostName,
    /// MQTT over TLS.
    pub(super) mqtt_port: u16,
    /// The hub's CA.
    pub(super) ca_file: PathBuf,
}

/// The running agents.
pub(super) struct Fleet {
    agents: HashMap<DeviceId, RunningAgent>,
    /// A folder for each door, and later a file for `door-agent sim --config`.
    pub(super) folder: PathBuf,
    shared: Shared,
}

/// Raises the limit of open files as far as this number of doors needs.
pub(super) fn raise_descriptor_limit(doors: u32) -> anyhow::Result<()> {
    let needed = u64::from(doors) * FILES_PER_DOOR + OTHER_FILES;
    let limit =
        door_hub::raise_descriptor_limit(needed).context("cannot raise the limit of open files")?;
    if limit < needed {
        return Err(Failure::new(format!(
            "{doors} doors need {needed} open files, and this system allows {limit}"
        ))
        .next("raise the hard limit (ulimit -Hn), or start fewer: --doors N")
        .into());
    }
    Ok(())
}

/// Registers the doors, each with its own keys.
pub(super) async fn register(
    hub: &HubClient,
    demo: &DemoDoors,
) -> anyhow::Result<Vec<DeviceIdentity>> {
    let created = for_each_door(ids(demo), hub, |hub, id, ()| async move {
        let created = hub
            .device_create(&NewDevice::with_generated_keys(id.clone()))
            .await;
        created.with_context(|| format!("cannot register {id}"))
    });
    created
        .await
        .into_iter()
        .map(|(_, identity)| identity)
        .collect()
}

/// Reads the registered identities.
pub(super) async fn identities(
    hub: &HubClient,
    demo: &DemoDoors,
) -> anyhow::Result<Vec<DeviceIdentity>> {
    let read = for_each_door(ids(demo), hub, |hub, id, ()| async move {
        Ok(hub.device(&id).await?)
    });
    read.await
        .into_iter()
        .map(|(_, identity)| identity)
        .collect()
}

fn ids(demo: &DemoDoors) -> impl Iterator<Item = (DeviceId, ())> {
    demo.doors.iter().map(|door| (door.id.clone(), ()))
}

impl Fleet {
    /// Starts an agent for each identity; they are still connecting when this returns.
    pub(super) async fn start(
        identities: Vec<DeviceIdentity>,
        hub: &HubClient,
        address: &Address,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let shared = Shared::new().context("cannot start the agents' storage")?;
        let identities = identities
            .into_iter()
            .map(|identity| (identity.device_id.clone(), identity));
        let started = for_each_door(identities, hub, |_, id, identity| {
            let (shared, address) = (shared.clone(), address.clone());
            let folder = folder.join(id.as_str());
            async move {
                let config = config(identity, &address, folder)?;
                let agent = Box::pin(Agent::start(config, &shared)).await;
                agent.with_context(|| format!("cannot start the agent of {id}"))
            }
        });
        let agents = started.await.into_iter();
        let agents: anyhow::Result<_> = agents.map(|(id, agent)| Ok((id, agent?))).collect();
        Ok(Self {
            agents: agents?,
            folder: folder.to_owned(),
            shared,
        })
    }

    /// Lets `door-agent sim` operate the doors until `stop`.
    pub(super) fn accept_actions(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        for (id, agent) in &self.agents {
            let state = self.folder.join(id.as_str());
            let simulator = agent
                .sim()
                .with_context(|| format!("{id} is not simulated"))?;
            let socket = SimSocket::bind(&state.join(SIM_SOCKET), simulator);
            let socket = socket.with_context(|| format!("no socket for the actions at {id}"))?;
            tokio::spawn(socket.run(stop.clone()));
            let settings = format!("[state]\ndirectory = \"{id}\"\n");
            let file = self.folder.join(format!("{id}.toml"));
            std::fs::write(file, settings).with_context(|| format!("no settings of {id}"))?;
        }
        Ok(())
    }

    /// Operates the simulated hardware of a door.
    pub(super) fn operate(&self, id: &DeviceId, command: SimCommand) -> anyhow::Result<()> {
        let simulator = self.agents.get(id).and_then(RunningAgent::sim);
        let simulator: SimHandle = simulator.with_context(|| format!("{id} is not simulated"))?;
        simulator
            .apply(command)
            .with_context(|| format!("{id} does not accept this simulator command"))?;
        Ok(())
    }

    /// Whether the simulated bolt of a door is thrown.
    pub(super) fn has_thrown_bolt(&self, id: &DeviceId) -> bool {
        let simulator = self.agents.get(id).and_then(RunningAgent::sim);
        simulator.is_some_and(|simulator| simulator.show().bolt == "thrown")
    }

    /// Cuts a door's connection.
    pub(super) fn unplug(&self, id: &DeviceId) {
        if let Some(agent) = self.agents.get(id) {
            agent.disconnect_link();
        }
    }

    /// Stops all agents.
    pub(super) async fn stop(self) {
        let mut stopping: JoinSet<()> = self
            .agents
            .into_values()
            .map(RunningAgent::shutdown)
            .collect();
        while stopping.join_next().await.is_some() {}
        self.shared.shutdown();
    }
}

fn config(
    identity: DeviceIdentity,
    address: &Address,
    state: PathBuf,
) -> anyhow::Result<AgentConfig> {
    let id = identity.device_id;
    let keys = identity
        .authentication
        .and_then(|authentication| authentication.symmetric_key);
    let key = keys
        .and_then(|keys| keys.primary_key)
        .with_context(|| format!("the hub generated no key for {id}"))?;
    let mut hub = door_agent::config::HubConfig::new(DeviceConnectionString {
        host_name: address.host_name.clone(),
        device_id: id,
        gateway_host_name: None,
        credential: DeviceCredential::Key(SharedAccessKey::from_base64(&key)?),
    });
    hub.mqtt_port = address.mqtt_port;
    hub.ca_file = Some(address.ca_file.clone());
    hub.reconnect_max = Duration::from_secs(5);
    let mut config = AgentConfig::simulated(hub, state);
    // As in office hours: unlocked by default.
    config.door.relinquish_default = Want::Released;
    Ok(config)
}
