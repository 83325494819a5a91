//! A hub and the agent of one of its doors, `lobby-east`, in this process.

use door_agent::cloud::LinkState;
use door_agent::gpio::simulated::{SimCommand, SimError, SimState};
use door_agent::{AgentConfig, RunningAgent, Shared};
use doorfleet_testing::{TestHub, agent_until, start_agent_again};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const DOOR: &str = "lobby-east";

pub(crate) struct Site {
    pub(crate) hub: TestHub,
    pub(crate) home: TempDir,
    pub(crate) config: AgentConfig,
    pub(crate) shared: Shared,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let hub = TestHub::start().await;
        let connection = hub.add_door(DOOR).await;
        Self::with(hub, &connection)
    }

    pub(crate) fn with(hub: TestHub, connection: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = hub.agent_config(connection, &home.path().join("state"));
        let shared = Shared::new().unwrap();
        Self {
            hub,
            home,
            config,
            shared,
        }
    }

    /// Starts the agent, also when an earlier one has just ended.
    pub(crate) async fn start(&self) -> RunningAgent {
        start_agent_again(&self.config, &self.shared).await
    }

    /// Calls a method through the hub; returns the hub's answer.
    pub(crate) async fn invoke(&self, method: &str, payload: Value) -> Value {
        self.hub.invoke(DOOR, method, payload).await.1
    }

    pub(crate) async fn desire(&self, desired: Value) {
        self.hub.set_desired(DOOR, desired).await;
    }

    /// Waits until a reported property has this value; returns all reported properties.
    pub(crate) async fn reports(&self, pointer: &str, value: impl Into<Value>) -> Value {
        self.hub.reports(DOOR, pointer, value).await
    }
}

/// Calls a method at the door itself; returns the status.
pub(crate) async fn call(agent: &RunningAgent, method: &str, payload: &str) -> u16 {
    let reply = agent.controller().invoke(method, payload.as_bytes());
    reply.await.status
}

/// Performs an action of `door-agent sim`.
pub(crate) fn sim(agent: &RunningAgent, action: &str) {
    try_sim(agent, action).unwrap();
}

/// The same of an action that the door may refuse, depending on where its bolt is.
pub(crate) fn try_sim(agent: &RunningAgent, action: &str) -> Result<SimState, SimError> {
    let command: SimCommand = action.parse().unwrap();
    agent.sim().unwrap().apply(command)
}

/// Waits for a state of the link.
pub(crate) async fn link_is(agent: &RunningAgent, state: LinkState) {
    agent_until(agent, |seen| seen.link.state == state).await;
}

/// Waits until the last connection or attempt has failed, and returns the reason.
pub(crate) async fn link_problem(agent: &RunningAgent) -> String {
    agent_until(agent, |seen| seen.link.last_problem.is_some()).await;
    agent.snapshot().link.last_problem.unwrap()
}

/// Waits until the hub has acknowledged every event.
pub(crate) async fn all_sent(agent: &RunningAgent) {
    agent_until(agent, |seen| seen.waiting_events == 0).await;
}

/// Every event of a door at the hub, without repetitions; asserts that none is missing or out of
/// order.
pub(crate) async fn events(hub: &TestHub, door: &str) -> Vec<Value> {
    let mut last = std::collections::HashMap::new();
    let mut events = hub.events(door).await;
    events.retain(|event| event["repeated"] != true);
    for event in &events {
        let mid = event["systemProperties"]["message-id"].as_str().unwrap();
        let (boot, seq) = mid.rsplit_once('-').unwrap();
        let seq: u64 = seq.parse().unwrap();
        let before = last.insert(boot.to_owned(), seq).unwrap_or_default();
        assert_eq!(seq, before + 1, "{door}: {event}");
        assert_eq!(event["body"]["seq"], seq);
    }
    events
        .iter_mut()
        .map(|event| event["body"].take())
        .collect()
}
