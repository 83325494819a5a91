//! Staged locks through kills, power failures, clock steps and a broken network, in random order.
//!
//! Between begin and end of its entry a door is locked once every clock that it may follow has
//! passed the begin, and it is not locked while none has. Only a trusted clock ends the lock.

use door_agent::gpio::simulated::{SIM_SOCKET, SimCommand, socket};
use doorfleet_testing::DEADLINE;
use jiff::{SignedDuration, Timestamp, Unit};

use super::*;
use crate::network::{Network, NetworkMode};

/// Total number of nights, unless DOORFLEET_NIGHTS is set.
const NIGHTS: usize = 6;

/// Faults of a night.
const FAULTS: usize = 10;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Difference at which two clocks agree, and some time to act.
const AGREEMENT: i64 = 3 * SECOND;

/// Longest wait for a state: until then the expectation must stay the same.
const PATIENCE: i64 = 60 * SECOND;

/// A save of the time that is late by its interval and the longest [`Fault::Pass`].
const OLDEST_SAVE: i64 = 15 * MINUTE + LONGEST_PASS + MINUTE;
const LONGEST_PASS: i64 = 20 * MINUTE;

/// Least and greatest error of a clock, in milliseconds.
type Bounds = (i64, i64);

fn union(one: Bounds, other: Bounds) -> Bounds {
    (one.0.min(other.0), one.1.max(other.1))
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    PowerFailure(i64),
    TimeComes,
    Step(i64),
    Network(NetworkMode),
    Cut,
    Pass(i64),
}

impl Fault {
    fn random(random: &mut StdRng) -> Self {
        match random.random_range(0..8) {
            0 => Self::Kill,
            1 => Self::PowerFailure(random.random_range(MINUTE..15 * MINUTE)),
            2 => Self::TimeComes,
            3 => {
                let step = [3 * SECOND, 10 * MINUTE, 24 * HOUR];
                let sign = [-1, 0, 1].choose(random).unwrap();
                Self::Step(sign * step.choose(random).unwrap())
            }
            4 => Self::Cut,
            5 => Self::Network(
                *[
                    NetworkMode::Fine,
                    NetworkMode::Swallowing,
                    NetworkMode::Refusing,
                ]
                .choose(random)
                .unwrap(),
            ),
            _ => Self::Pass(random.random_range(10 * SECOND..LONGEST_PASS)),
        }
    }
}

/// The clocks of a door's machine, and what the door may take for the time. True time is the
/// machine's and `ahead`.
struct Clocks {
    file: PathBuf,
    boot: usize,
    ahead: i64,
    /// Error of the wall clock.
    error: i64,
    is_synchronized: bool,
    /// The door trusts a clock, for certain.
    is_trusted: bool,
    /// Error of the clock that it follows for certain, whatever else the wall clock says by now.
    own: Option<i64>,
    /// Errors of the clocks that the door may follow.
    followed: Bounds,
    /// The same of those on disk.
    saved: Bounds,
}

impl Clocks {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_millis(self.ahead)
    }

    fn write(&self) {
        let text = json!({
            "boot": format!("boot{}", self.boot),
            "boot_ahead_ms": self.ahead,
            "wall_ahead_ms": self.ahead + self.error,
            "is_synchronized": self.is_synchronized,
        });
        let new = self.file.with_extension("new");
        std::fs::write(&new, text.to_string()).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// The door follows the wall clock; an older time may be on disk.
    fn settle(&mut self) {
        self.saved = union(self.saved, self.followed);
        self.followed = (self.error, self.error);
        self.own = Some(self.error);
        self.is_trusted = true;
    }
}

/// A door with a staged lock.
struct StagedDoor {
    door: KilledDoor,
    network: Network,
    clocks: Clocks,
    id: String,
    from: Timestamp,
    until: Timestamp,
    armed: Timestamp,
    expected: Option<&'static str>,
    has_tamper: bool,
    history: Vec<(Timestamp, Fault)>,
}

impl StagedDoor {
    async fn new(hub: &TestHub, home: &Path, name: &str) -> Self {
        let door = KilledDoor::new(hub, home, name.to_owned()).await;
        let network = Network::before(hub.hub.mqtt_address()).await;
        let text = std::fs::read_to_string(&door.config).unwrap();
        let port = format!("mqtt_port = {}", network.port);
        let text = text.replace(&format!("mqtt_port = {}", hub.mqtt_port), &port);
        let text = text + "[door]\nrelinquish_default = \"released\"\n";
        std::fs::write(&door.config, text).unwrap();
        let clocks = Clocks {
            file: door.state.with_extension("clock"),
            boot: 0,
            ahead: 0,
            error: 0,
            is_synchronized: true,
            is_trusted: true,
            own: Some(0),
            followed: (0, 0),
            saved: (0, 0),
        };
        let mut staged = Self {
            door,
            network,
            clocks,
            id: String::new(),
            from: Timestamp::MAX,
            until: Timestamp::MAX,
            armed: Timestamp::MIN,
            expected: None,
            has_tamper: false,
            history: Vec::new(),
        };
        staged.start();
        staged
    }

    fn start(&mut self) {
        self.clocks.write();
        let file = self.clocks.file.clone();
        let clock = ("DOOR_AGENT_CLOCK", file.as_os_str());
        self.door.start_with(&[clock]);
        self.has_tamper = false;
    }

    /// Stages a lock and waits until the door has it on disk.
    async fn stage(&mut self, hub: &TestHub, id: &str, ahead: i64, length: i64) {
        let now = self.clocks.now().round(Unit::Second).unwrap();
        self.from = now + SignedDuration::from_millis(ahead);
        self.until = self.from + SignedDuration::from_millis(length);
        let mut timed = json!({});
        timed[id] = json!({"want": "locked", "from": self.from, "until": self.until});
        if !self.id.is_empty() {
            timed[&self.id] = Value::Null;
        }
        id.clone_into(&mut self.id);
        hub.set_desired(&self.door.name, json!({"timed": timed}))
            .await;
        let is_armed = |reported: &Value| {
            let entry = &reported["timed"][id];
            entry["state"] == "armed" && entry["ac"] == 200
        };
        hub.reported_until(&self.door.name, is_armed).await;
        self.armed = self.clocks.now();
        self.clocks.saved = self.clocks.followed;
        self.expected = None;
        self.history.clear();
    }

    /// Waits until the door has read its clock.
    async fn reads_clock(&mut self) {
        self.door.status(|_| true).await;
        self.has_tamper = !self.has_tamper;
        let hold = if self.has_tamper { "on" } else { "off" };
        let command: SimCommand = format!("tamper {hold}").parse().unwrap();
        let socket = self.door.state.join(SIM_SOCKET);
        let begin = Instant::now();
        while let Err(error) = socket::send(&socket, command) {
            assert!(begin.elapsed() < DEADLINE, "{}: {error}", self.door.name);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let level = if self.has_tamper { "active" } else { "idle" };
        let shows = |status: &Value| status["door"]["inputs"]["tamper"] == level;
        self.door.status(shows).await;
    }

    async fn fault(&mut self, fault: Fault) {
        self.history.push((self.clocks.now(), fault));
        let clocks = &mut self.clocks;
        match fault {
            Fault::Kill => {
                clocks.followed = union(clocks.followed, clocks.saved);
                clocks.is_trusted &= clocks.boot == 0;
                clocks.own = None;
                self.door.kill();
                self.start();
            }
            Fault::PowerFailure(length) => {
                self.door.kill();
                let since = clocks.now().duration_since(self.armed).as_millis();
                let oldest = OLDEST_SAVE.min(i64::try_from(since).unwrap());
                let (least, greatest) = union(clocks.followed, clocks.saved);
                clocks.followed = (least - oldest - length, greatest - length);
                clocks.saved = clocks.followed;
                clocks.ahead += length;
                clocks.boot += 1;
                clocks.error = -length;
                clocks.is_synchronized = false;
                clocks.is_trusted = false;
                clocks.own = None;
                self.start();
            }
            Fault::TimeComes => {
                clocks.error = 0;
                clocks.is_synchronized = true;
                clocks.write();
                if clocks.followed.1 <= AGREEMENT - SECOND && !clocks.is_trusted {
                    clocks.settle();
                }
                clocks.followed = union(clocks.followed, (0, 0));
            }
            // Without a time source the wall clock is not read.
            Fault::Step(_) if !clocks.is_synchronized => {}
            Fault::Step(error) => {
                clocks.error = error;
                clocks.write();
                clocks.followed = union(clocks.followed, (error, error));
            }
            Fault::Network(mode) => {
                self.network.set(mode);
                self.network.cut();
            }
            Fault::Cut => self.network.cut(),
            Fault::Pass(length) => {
                clocks.ahead += length;
                clocks.own = None;
                clocks.write();
                let is_adopted = clocks.is_trusted && clocks.is_synchronized;
                if is_adopted && length > PATIENCE + SECOND {
                    clocks.settle();
                }
            }
        }
        self.reads_clock().await;
    }

    /// The state that the entry must have from now on for [`PATIENCE`].
    fn must_be(&self) -> Option<&'static str> {
        let at = |by: i64| self.clocks.now() + SignedDuration::from_millis(by);
        let (least, greatest) = self.clocks.followed;
        if at(greatest + PATIENCE) < self.from {
            return Some("armed");
        }
        let has_begun = at(least - AGREEMENT) >= self.from;
        // A clock that was stepped past the end ends nothing before the door adopts it.
        let end = at(self.clocks.own.unwrap_or(greatest) + PATIENCE);
        (has_begun && end < self.until).then_some("holding")
    }

    /// Compares the door with what it must be.
    async fn check(&mut self) {
        let must_be = self.must_be();
        let (before, id) = (std::mem::replace(&mut self.expected, must_be), &self.id);
        let Some(must_be) = must_be else { return };
        let lock_state = if must_be == "armed" {
            "unlocked"
        } else {
            "locked"
        };
        let begin = Instant::now();
        loop {
            let status = self.door.status(|_| true).await;
            let state = &status["door"]["timed"][id]["state"];
            let report = &status["door"]["report"]["lockState"];
            if state == must_be && report == lock_state {
                return;
            }
            // What has been the same since the last look never changes in between.
            let may_wait = begin.elapsed() < Duration::from_millis(PATIENCE as u64 / 2)
                && (before != Some(must_be) || state == must_be);
            assert!(
                may_wait,
                "{}: {id} is {state} and the door {report}, expected {must_be} and {lock_state}: \
                 {} to {}, errors {:?}, {:#?}",
                self.door.name, self.from, self.until, self.clocks.followed, self.history
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything is well again, and the end has passed: the door is released, and the hub has it.
    async fn ends(&mut self, hub: &TestHub) {
        self.fault(Fault::Network(NetworkMode::Fine)).await;
        self.fault(Fault::TimeComes).await;
        // A saved time that is ahead is believed for a day.
        let left = self.until.duration_since(self.clocks.now()).as_millis();
        let left = i64::try_from(left).unwrap().max(0);
        let patience = match self.clocks.followed.1 > 0 {
            true => 24 * HOUR,
            false => 0,
        };
        self.fault(Fault::Pass(left + patience + 2 * MINUTE)).await;
        let (id, name) = (self.id.clone(), self.door.name.clone());
        self.door
            .status(|status| {
                status["door"]["timed"][&id]["state"] == "over"
                    && status["door"]["report"]["lockState"] == "unlocked"
            })
            .await;
        let is_over = |reported: &Value| reported["timed"][&id]["state"] == "over";
        hub.reported_until(&name, is_over).await;
        self.clocks.settle();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_lock_holds_through_kills_power_failures_steps_and_partitions() {
    let nights = number("DOORFLEET_NIGHTS").map_or(NIGHTS, |it| usize::try_from(it).unwrap());
    let seed = number("DOORFLEET_SEED").unwrap_or_else(rand::random);
    eprintln!("DOORFLEET_SEED={seed} DOORFLEET_NIGHTS={nights}");
    let hub = std::sync::Arc::new(TestHub::start().await);
    let home = tempfile::tempdir().unwrap();
    let mut doors = JoinSet::new();
    for door in 0..DOORS {
        let mut staged = StagedDoor::new(&hub, home.path(), &format!("staged-{door}")).await;
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(door as u64));
        let hub = std::sync::Arc::clone(&hub);
        doors.spawn(async move {
            for night in 0..nights.div_ceil(DOORS) {
                let ahead = SECOND * random.random_range(5 * 60..40 * 60);
                let length = SECOND * random.random_range(10 * 60..2 * 3600);
                staged
                    .stage(&hub, &format!("night-{night}"), ahead, length)
                    .await;
                for _ in 0..FAULTS {
                    staged.fault(Fault::random(&mut random)).await;
                    staged.check().await;
                }
                staged.ends(&hub).await;
            }
            staged.door.kill();
        });
    }
    doors.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_power_at_the_time_and_without_a_network_until_morning_the_door_is_locked() {
    let hub = TestHub::start().await;
    let home = tempfile::tempdir().unwrap();
    let mut staged = StagedDoor::new(&hub, home.path(), "night").await;
    // It is 21:58.
    staged.stage(&hub, "night", 2 * MINUTE, 8 * HOUR).await;
    staged.check().await;
    staged.fault(Fault::Network(NetworkMode::Refusing)).await;
    staged.fault(Fault::PowerFailure(8 * MINUTE)).await;
    staged.check().await;
    // Without a clock it knows after at most the interval of saves that it is 22:00.
    for length in [15 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR] {
        staged.fault(Fault::Pass(length)).await;
        staged.check().await;
    }
    assert_eq!(staged.expected, Some("holding"));
    staged.fault(Fault::Kill).await;
    staged.check().await;
    assert_eq!(staged.expected, Some("holding"));
    staged.ends(&hub).await;
    staged.door.kill();
}
