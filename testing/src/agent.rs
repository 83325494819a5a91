//! Agents with a simulated door: in this process, and the configuration of the program.

use std::path::Path;
use std::time::{Duration, Instant};

use door_agent::config::HubConfig;
use door_agent::{Agent, AgentConfig, AgentSnapshot, RunningAgent, Shared};

use crate::hub::until_started;
use crate::{DEADLINE, TestHub};

/// The configuration of a simulated door, which reconnects quickly.
pub fn simulated_door(
    connection_string: &str,
    mqtt_port: u16,
    ca_file: &Path,
    state: &Path,
) -> AgentConfig {
    let mut hub = HubConfig::new(connection_string.trim().parse().unwrap());
    hub.ca_file = Some(ca_file.to_owned());
    hub.mqtt_port = mqtt_port;
    hub.reconnect_min = Duration::from_millis(100);
    hub.reconnect_max = Duration::from_secs(1);
    AgentConfig::simulated(hub, state.to_owned())
}

impl TestHub {
    /// The configuration of a simulated door for this hub.
    pub fn agent_config(&self, connection_string: &str, state: &Path) -> AgentConfig {
        simulated_door(connection_string, self.mqtt_port, self.hub.ca_file(), state)
    }

    /// The settings of this hub in the configuration of an agent, below `[hub]`.
    pub fn agent_settings(&self) -> String {
        let ca = self.hub.ca_file().display();
        format!("mqtt_port = {}\nca_file = \"{ca}\"", self.mqtt_port)
    }

    /// Starts a simulated door with its own device.
    pub async fn start_agent(&self, name: &str, home: &Path) -> RunningAgent {
        let connection = self.add_door(name).await;
        let config = self.agent_config(&connection, &home.join(name));
        Agent::start(config, &Shared::new().unwrap()).await.unwrap()
    }
}

/// Starts an agent on the state of one that has just ended.
pub async fn start_agent_again(config: &AgentConfig, shared: &Shared) -> RunningAgent {
    until_started("the agent", || Agent::start(config.clone(), shared)).await
}

/// Waits until a snapshot of the agent satisfies `condition`.
pub async fn agent_until(agent: &RunningAgent, condition: impl Fn(&AgentSnapshot) -> bool) {
    let begin = Instant::now();
    while !condition(&agent.snapshot()) {
        assert!(begin.elapsed() < DEADLINE, "still {:?}", agent.snapshot());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
