//! SIGKILL at any moment: what was answered holds, what was not has happened whole or not at all,
//! nothing acts twice, and the hub has every event once and in order.

mod fail_points;

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use door_agent::status;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::TestHub;

/// Doors that are killed at the same time, each with a process of its own.
const DOORS: usize = 6;

/// How many kills in all, unless DOORFLEET_KILLS says otherwise.
const KILLS: usize = 60;

/// Long enough for a busy machine; nothing waits for it unless it fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long a killed door's answer is waited for: one that has left is there at once.
const HANG_UP: Duration = Duration::from_millis(500);

/// The shortest hold.
const SHORT: Duration = Duration::from_secs(2);

/// How far the end of a hold that was seen from outside may be off.
const MARGIN: Duration = Duration::from_millis(900);

/// What a slot holds: what is wanted, by which command, until when (about).
#[derive(Debug, Clone, PartialEq)]
struct Held {
    want: &'static str,
    id: String,
    /// The earliest and the latest moment: the command reached the door between its sending and
    /// its answer, or the kill.
    ends: Option<(Instant, Instant)>,
}

/// The operator's two slots.
#[derive(Debug, Clone, Default, PartialEq)]
struct Slots {
    grant: Option<Held>,
    hold: Option<Held>,
}

/// A command as it is sent.
#[derive(Debug, Clone)]
struct Sent {
    method: &'static str,
    payload: Value,
    id: String,
    /// Whether the door has said that it accepted it.
    certain: bool,
    at: Instant,
}

impl Sent {
    fn new(random: &mut StdRng, id: String) -> Self {
        let (method, time) = *[
            ("lockDoor", None),
            ("lockDoor", Some(("lockTime", "2s"))),
            ("lockDoor", Some(("lockTime", "10m"))),
            ("unlockDoor", None),
            ("unlockDoor", Some(("unlockTime", "2s"))),
            ("unlockDoor", Some(("unlockTime", "10m"))),
            ("relinquish", None),
        ]
        .choose(random)
        .unwrap();
        let mut payload = json!({ "commandId": id });
        if let Some((key, length)) = time {
            payload[key] = length.into();
        }
        Self {
            method,
            payload,
            id,
            certain: false,
            at: Instant::now(),
        }
    }

    /// What it makes of the slots, now that it has been answered or cannot be any more.
    fn apply(&self, slots: &Slots) -> Slots {
        let short = |key: &str| self.payload[key] == "2s";
        let held = |want, short: bool| {
            Some(Held {
                want,
                id: self.id.clone(),
                ends: short.then(|| (self.at + SHORT, Instant::now() + SHORT)),
            })
        };
        match self.method {
            "lockDoor" => Slots {
                grant: None,
                hold: held("locked", short("lockTime")),
            },
            "unlockDoor" if self.payload.get("unlockTime").is_some() => Slots {
                grant: held("released", short("unlockTime")),
                hold: slots.hold.clone(),
            },
            "unlockDoor" => Slots {
                hold: held("released", false),
                ..slots.clone()
            },
            _ => Slots::default(),
        }
    }
}

/// One door and what may be true of it.
struct Victim {
    name: String,
    config: PathBuf,
    state: PathBuf,
    agent: Option<Child>,
    possible: Vec<Slots>,
    last: Option<Sent>,
    accepted: BTreeSet<String>,
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Victim {
    async fn new(hub: &TestHub, home: &Path, name: String) -> Self {
        let folder = home.join(&name);
        std::fs::create_dir(&folder).unwrap();
        let connection = hub.add_device(&name).await;
        let secret = folder.join("connection-string");
        door_agent_secret(&secret, &connection);
        let config = folder.join("door.toml");
        let text = format!(
            "[hub]\nconnection_string_file = \"connection-string\"\nca_file = \"{}\"\nmqtt_port = \
             {}\nreconnect_min = \"100ms\"\n\
             [strike]\nkind = \"motor-lock\"\n[board]\nkind = \"simulated\"\nbolt_travel \
             = \"20ms\"\n[state]\ndirectory = \"state\"\n",
            hub.hub().ca_file().display(),
            hub.hub().mqtt_address().port(),
        );
        std::fs::write(&config, text).unwrap();
        Self {
            name,
            config,
            state: folder.join("state"),
            agent: None,
            possible: vec![Slots::default()],
            last: None,
            accepted: BTreeSet::new(),
        }
    }

    fn start(&mut self) {
        self.start_with(&[]);
    }

    fn start_with(&mut self, environment: &[(&str, &OsStr)]) {
        let child = Command::new(env!("CARGO_BIN_EXE_door-agent"))
            .envs(environment.iter().copied())
            .arg("--config")
            .arg(&self.config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.agent = Some(child.unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            // SIGKILL.
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    /// What the running agent says of itself, once `condition` holds.
    async fn status(&self, condition: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let said = status::ask(&self.state).await;
            let said = said.map(|status| status.document).unwrap_or_default();
            if said.is_object() && condition(&said) {
                return said;
            }
            assert!(begin.elapsed() < DEADLINE, "{}: still {said:#}", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Compares the slots with what may be true; what is seen is then what is true.
    async fn check(&mut self) {
        let before = Instant::now();
        let said = self.status(|_| true).await;
        let after = Instant::now();
        // No kill leaves a door in doubt: what it had written is whole.
        let problem = &said["disk"]["problem"];
        assert!(problem.is_null(), "{}: {problem}", self.name);
        let slot = |number: u64| {
            let slots = said["door"]["slots"].as_array().unwrap();
            let found = slots.iter().find(|slot| slot["slot"] == number)?;
            let id = found["commandId"].as_str().unwrap_or_default();
            Some((found["want"].as_str().unwrap().to_owned(), id.to_owned()))
        };
        let seen = (slot(7), slot(8));
        let fits = |held: &Option<Held>, seen: &Option<(String, String)>| match (held, seen) {
            (None, None) => true,
            (None, Some(_)) => false,
            // It is gone if its time may be over, and there if its time may not be over yet.
            (Some(held), None) => held
                .ends
                .is_some_and(|(earliest, _)| after + MARGIN >= earliest),
            (Some(held), Some((want, id))) => {
                held.want == want.as_str()
                    && held.id == *id
                    && held
                        .ends
                        .is_none_or(|(_, latest)| before <= latest + MARGIN)
            }
        };
        let found = self
            .possible
            .iter()
            .find(|slots| fits(&slots.grant, &seen.0) && fits(&slots.hold, &seen.1));
        let Some(found) = found else {
            panic!(
                "{}: slots 7 and 8 are {seen:?}, possible was {:#?}",
                self.name, self.possible
            );
        };
        let found = Slots {
            grant: found.grant.clone().filter(|_| seen.0.is_some()),
            hold: found.hold.clone().filter(|_| seen.1.is_some()),
        };
        self.possible = vec![found];
    }

    /// Sends a command and waits for its answer, or kills the agent after `life`, whichever comes
    /// first.
    async fn command(&mut self, hub: &TestHub, mut sent: Sent, life: Option<Duration>) {
        sent.at = Instant::now();
        let name = self.name.clone();
        let call = hub.invoke_when_online(&name, sent.method, sent.payload.clone());
        let mut call = std::pin::pin!(call);
        let answer = match life {
            None => Some(call.await),
            Some(life) => tokio::select! {
                answer = call.as_mut() => Some(answer),
                () = tokio::time::sleep(life) => {
                    self.kill();
                    // One that waits for the door to come back is given up: it is not sent then.
                    tokio::time::timeout(HANG_UP, call).await.ok()
                }
            },
        };
        self.heard(sent, answer);
    }

    /// Draws the conclusions of an answer, or of none.
    fn heard(&mut self, mut sent: Sent, answer: Option<(u16, Value)>) {
        let status = match answer {
            Some((200, answer)) => answer["status"].as_u64().unwrap(),
            _ => 0,
        };
        // A repetition of what is known to have been accepted does nothing.
        let again = self.accepted.contains(&sent.id);
        sent.certain = [200, 202].contains(&status);
        assert!(
            sent.certain || status == 0,
            "{}: {} {} is answered {status}",
            self.name,
            sent.method,
            sent.payload
        );
        if !again {
            let done: Vec<_> = self
                .possible
                .iter()
                .map(|slots| sent.apply(slots))
                .collect();
            if sent.certain {
                self.possible = done;
            } else {
                self.possible.extend(done);
            }
        }
        if sent.certain {
            self.accepted.insert(sent.id.clone());
        }
        self.last = Some(sent);
    }

    /// One life: from a start to a kill at a random moment.
    async fn live(&mut self, hub: &TestHub, random: &mut StdRng, number: usize) {
        self.start();
        self.check().await;
        // The hub's operator repeats what had no answer, and at times what had one.
        if let Some(last) = self.last.take() {
            // In doubt, the times of one that is done now count from now.
            if last.certain && random.random_bool(0.5) {
                self.command(hub, last, None).await;
                self.check().await;
            }
        }
        for part in 0..random.random_range(1..=2) {
            let sent = Sent::new(random, format!("{}-{number}-{part}", self.name));
            let life = random.random_bool(0.5);
            let life = life.then(|| Duration::from_micros(random.random_range(0..120_000)));
            self.command(hub, sent, life).await;
            if self.agent.is_none() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_micros(random.random_range(0..60_000))).await;
        self.kill();
    }

    /// The last life: all that happened is at the hub, once and in order.
    async fn settle(&mut self, hub: &TestHub) {
        self.start();
        self.check().await;
        self.status(|said| said["link"]["state"] == "connected" && said["waitingEvents"] == 0)
            .await;
        self.kill();
        let events = hub.events(&self.name).await;
        let mut boots: HashMap<&str, u64> = HashMap::new();
        let mut answered = BTreeSet::new();
        let first_time = events.iter().filter(|event| event["repeated"] != true);
        for event in first_time {
            let mid = event["systemProperties"]["message-id"].as_str().unwrap();
            let (boot, seq) = mid.rsplit_once('-').unwrap();
            let seq: u64 = seq.parse().unwrap();
            let last = boots.entry(boot).or_default();
            assert_eq!(seq, *last + 1, "{}: {event}", self.name);
            assert_eq!(event["body"]["seq"], seq);
            *last = seq;
            if event["body"]["kind"] == "command" {
                answered.extend(event["body"]["commandId"].as_str().map(str::to_owned));
            }
        }
        let untold: Vec<_> = self.accepted.difference(&answered).collect();
        assert!(
            untold.is_empty(),
            "{}: no event tells of {untold:?}",
            self.name
        );
    }
}

/// Writes a secret as the agent wants it.
fn door_agent_secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_moment_lose_nothing_and_double_nothing() {
    let kills = number("DOORFLEET_KILLS").map_or(KILLS, |kills| usize::try_from(kills).unwrap());
    let seed = number("DOORFLEET_SEED").unwrap_or_else(rand::random);
    eprintln!("DOORFLEET_SEED={seed} DOORFLEET_KILLS={kills}");
    let hub = std::sync::Arc::new(TestHub::start().await);
    let home = tempfile::tempdir().unwrap();
    let mut doors = JoinSet::new();
    for door in 0..DOORS {
        let mut victim = Victim::new(&hub, home.path(), format!("door-{door}")).await;
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(door as u64));
        let hub = std::sync::Arc::clone(&hub);
        doors.spawn(async move {
            for number in 0..kills.div_ceil(DOORS) {
                victim.live(&hub, &mut random, number).await;
            }
            victim.settle(&hub).await;
        });
    }
    while let Some(ended) = doors.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
