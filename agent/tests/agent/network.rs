//! A network that cuts, drops and half-closes connections, and a hub that restarts: every event
//! arrives in order, and the reported state is right after each reconnect.

use std::net::SocketAddr;
use std::time::Duration;

use door_agent::RunningAgent;
use door_agent::cloud::LinkState;
use doorfleet_testing::{TestHub, agent_until};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::site::{DOOR, Site, all_sent, call, events, link_is, sim};

/// Faults per run, unless DOORFLEET_TROUBLES is set.
const TROUBLES: usize = 24;

/// State of the network between door and hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkMode {
    Fine,
    /// Bytes are dropped silently.
    Swallowing,
    /// New connections are closed at once.
    Refusing,
    /// The direction from hub to door is closed; the other one stays open.
    ClosedTowardsDoor,
    /// The direction from door to hub is closed; the other one stays open.
    ClosedTowardsHub,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NetworkState {
    mode: NetworkMode,
    /// Connections of an earlier epoch are cut.
    epoch: u64,
}

/// A proxy between door and hub.
pub(crate) struct Network {
    state: watch::Sender<NetworkState>,
    pub(crate) port: u16,
}

impl Network {
    pub(crate) async fn before(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = watch::Sender::new(NetworkState {
            mode: NetworkMode::Fine,
            epoch: 0,
        });
        let rules = state.subscribe();
        tokio::spawn(async move {
            loop {
                let (door, _) = listener.accept().await.unwrap();
                if rules.borrow().mode == NetworkMode::Refusing {
                    continue;
                }
                let rules = rules.clone();
                tokio::spawn(async move {
                    if let Ok(hub) = TcpStream::connect(hub).await {
                        copy_both(door, hub, &rules);
                    }
                });
            }
        });
        Self { state, port }
    }

    pub(crate) fn set(&self, mode: NetworkMode) {
        self.state.send_modify(|state| state.mode = mode);
    }

    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.epoch += 1);
    }
}

fn copy_both(door: TcpStream, hub: TcpStream, rules: &watch::Receiver<NetworkState>) {
    let (from_door, to_door) = door.into_split();
    let (from_hub, to_hub) = hub.into_split();
    let (up, down) = (
        NetworkMode::ClosedTowardsHub,
        NetworkMode::ClosedTowardsDoor,
    );
    tokio::spawn(copy_one(from_door, to_hub, rules.clone(), up));
    tokio::spawn(copy_one(from_hub, to_door, rules.clone(), down));
}

/// Copies one direction until it is closed at either end, cut, or closed by `closing`.
async fn copy_one(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rules: watch::Receiver<NetworkState>,
    closing: NetworkMode,
) {
    let epoch = rules.borrow().epoch;
    let mut bytes = vec![0; 4096];
    loop {
        let state = *rules.borrow_and_update();
        if state.epoch != epoch || state.mode == closing {
            return;
        }
        if state.mode == NetworkMode::Swallowing {
            if rules.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            read = from.read(&mut bytes) => match read {
                Ok(length) if length > 0 => {
                    let open = |state: &NetworkState| {
                        state.mode != NetworkMode::Swallowing || state.epoch != epoch
                    };
                    if rules.wait_for(open).await.is_err()
                        || to.write_all(&bytes[..length]).await.is_err()
                    {
                        return;
                    }
                }
                _ => return,
            },
            changed = rules.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// A site whose door reaches the hub through a network.
async fn site_with_network() -> (Site, Network) {
    let mut site = Site::new().await;
    let network = Network::before(site.hub.hub.mqtt_address()).await;
    site.config.hub.mqtt_port = network.port;
    (site, network)
}

/// Performs random actions at the door.
async fn act_randomly(agent: &RunningAgent, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        match random.random_range(0..3) {
            0 => sim(agent, "rex"),
            1 => drop(call(agent, "lockDoor", "{}").await),
            _ => drop(call(agent, "unlockDoor", r#"{"unlockTime":"10m"}"#).await),
        }
    }
}

/// Removes null members, as a twin does.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        other => other,
    }
}

/// Waits until the hub has the present state of the door, which takes at most one connection.
async fn reported_within_one_connection(hub: &TestHub, agent: &RunningAgent, what: &str) {
    let before = agent.snapshot().link.connections;
    hub.reported_until(DOOR, |reported| {
        let report = serde_json::to_value(&agent.snapshot().door.report).unwrap();
        reported["door"] == without_nulls(report)
    })
    .await;
    let after = agent.snapshot().link.connections;
    assert!(after <= before + 1, "{what}: {before} to {after}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flapping_network_and_hub_restarts_lose_no_event_and_keep_the_order() {
    let troubles =
        number("DOORFLEET_TROUBLES").map_or(TROUBLES, |count| usize::try_from(count).unwrap());
    let seed = number("DOORFLEET_SEED").unwrap_or_else(rand::random);
    eprintln!("DOORFLEET_SEED={seed} DOORFLEET_TROUBLES={troubles}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut site, network) = site_with_network().await;
    // Detect a silent connection soon.
    site.config.hub.keep_alive = Duration::from_secs(3);
    let agent = site.start().await;
    let mut hub = site.hub;
    agent_until(&agent, |seen| seen.link.connections == 1).await;

    for trouble in 0..troubles {
        let what = match trouble % 8 {
            7 => {
                let stopped = hub.stop().await;
                act_randomly(&agent, &mut random).await;
                hub = stopped.start().await;
                "the hub was restarted".to_owned()
            }
            3 => {
                network.cut();
                act_randomly(&agent, &mut random).await;
                "cut".to_owned()
            }
            _ => {
                let mode = *[
                    NetworkMode::Swallowing,
                    NetworkMode::Refusing,
                    NetworkMode::ClosedTowardsDoor,
                    NetworkMode::ClosedTowardsHub,
                ]
                .choose(&mut random)
                .unwrap();
                network.set(mode);
                if mode == NetworkMode::Refusing {
                    network.cut();
                }
                act_randomly(&agent, &mut random).await;
                sleep(Duration::from_millis(random.random_range(0..600))).await;
                network.set(NetworkMode::Fine);
                format!("{mode:?}")
            }
        };
        // Sometimes the next fault comes before the door has recovered.
        if random.random_bool(0.6) {
            reported_within_one_connection(&hub, &agent, &what).await;
        }
    }
    reported_within_one_connection(&hub, &agent, "the end").await;
    link_is(&agent, LinkState::Connected).await;
    all_sent(&agent).await;
    let count = events(&hub, DOOR).await.len();
    assert!(count > troubles, "{count}");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_network_is_detected_and_the_connection_dropped() {
    let (mut site, network) = site_with_network().await;
    site.config.hub.keep_alive = Duration::from_secs(1);
    let agent = site.start().await;
    link_is(&agent, LinkState::Connected).await;
    network.set(NetworkMode::Swallowing);
    // The wait may be too short to be observed; the attempt after it gets no answer.
    agent_until(&agent, |seen| seen.link.state != LinkState::Connected).await;
    let problem = agent.snapshot().link.last_problem.unwrap();
    assert!(problem.contains("does not answer pings"), "{problem}");
    // The door works meanwhile; its events arrive later.
    assert_eq!(call(&agent, "unlockDoor", "{}").await, 200);
    network.cut();
    network.set(NetworkMode::Fine);
    reported_within_one_connection(&site.hub, &agent, "swallowed").await;
    all_sent(&agent).await;
    events(&site.hub, DOOR).await;
    agent.shutdown().await;
}

/// Sufficient for a busy machine.
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);

/// Three hours without a hub, in simulated time.
#[tokio::test]
async fn waits_stay_bounded_during_hours_without_a_hub_and_the_door_reconnects() {
    const HOURS: Duration = Duration::from_secs(3 * 3600);
    const STEP: Duration = Duration::from_millis(200);
    let (mut site, network) = site_with_network().await;
    let max = Duration::from_secs(60);
    site.config.hub.reconnect_min = Duration::from_secs(1);
    site.config.hub.reconnect_max = max;
    let agent = site.start().await;
    link_is(&agent, LinkState::Connected).await;
    all_sent(&agent).await;

    network.set(NetworkMode::Refusing);
    network.cut();
    link_is(&agent, LinkState::Waiting).await;
    tokio::time::pause();
    let (begin, snapshots) = (Instant::now(), agent.snapshots());
    let (mut waits, mut since) = (Vec::new(), Instant::now());
    let mut waiting = true;
    while begin.elapsed() < HOURS {
        let now_waiting = snapshots.take().link.state == LinkState::Waiting;
        match (waiting, now_waiting) {
            (true, false) => waits.push(since.elapsed()),
            (false, true) => since = Instant::now(),
            // An attempt takes real time, a wait does not.
            (true, true) => tokio::time::advance(STEP).await,
            (false, false) => tokio::task::yield_now().await,
        }
        waiting = now_waiting;
    }
    tokio::time::resume();
    // Skip the rest of the first wait, and six with a growing ceiling.
    let settled = &waits[8..];
    assert!(settled.len() > 150, "{waits:?}");
    assert!(
        waits.iter().all(|wait| *wait <= max + STEP * 5),
        "{waits:?}"
    );
    let mean = settled.iter().sum::<Duration>() / u32::try_from(settled.len()).unwrap();
    // Drawn evenly from zero to the maximum, so that a fleet does not reconnect all at once.
    assert!((mean.as_secs_f64() - 30.0).abs() < 7.0, "{mean:?}");
    let short = settled.iter().filter(|wait| **wait < max / 4).count();
    assert!(short > settled.len() / 8, "{short} of {}", settled.len());

    assert_eq!(call(&agent, "unlockDoor", "{}").await, 200);
    network.set(NetworkMode::Fine);
    // Skip the waits, also that of an attempt made before the network recovered; connecting takes
    // real time.
    let begin = std::time::Instant::now();
    loop {
        match snapshots.take().link.state {
            LinkState::Connected => break,
            LinkState::Waiting => {
                tokio::time::pause();
                tokio::time::advance(STEP).await;
                tokio::time::resume();
            }
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        assert!(
            begin.elapsed() < CONNECTED_WITHIN,
            "still {:?}",
            snapshots.take().link
        );
    }
    reported_within_one_connection(&site.hub, &agent, "hours").await;
    all_sent(&agent).await;
    events(&site.hub, DOOR).await;
    agent.shutdown().await;
}
