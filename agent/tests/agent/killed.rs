//! SIGKILL at any moment: an answered command holds, an unanswered one has taken effect completely
//! or not at all, none acts twice, and the hub has every event once and in order.

mod fail_points;
mod staged;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use doorfleet_testing::{Process, TestHub};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cli::{program, status_of, write_quick_config};
use crate::site::events;

/// Number of doors, each with its own process, killed concurrently.
const DOORS: usize = 6;

/// Total number of kills, unless DOORFLEET_KILLS is set.
const KILLS: usize = 60;

/// How long to wait for the answer of a killed door: if it was sent, it is there at once.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// Time of the shortest hold.
const SHORT: Duration = Duration::from_secs(2);

/// Tolerance for the end of a hold as observed from outside.
const MARGIN: Duration = Duration::from_millis(900);

/// Content of a slot: wanted state, command, and approximate end.
#[derive(Debug, Clone, PartialEq)]
struct HeldSlot {
    want: &'static str,
    id: String,
    /// Earliest and latest moment: the command reached the door between sending and answer, or
    /// kill.
    ends: Option<(Instant, Instant)>,
}

/// The two slots of the operator.
#[derive(Debug, Clone, Default, PartialEq)]
struct OperatorSlots {
    grant: Option<HeldSlot>,
    hold: Option<HeldSlot>,
}

/// A command to send.
#[derive(Debug, Clone)]
struct SentCommand {
    method: &'static str,
    payload: Value,
    id: String,
    /// Whether the door answered that it accepted the command.
    certain: bool,
    at: Instant,
}

/// Method and time of a command.
type Form = (&'static str, Option<(&'static str, &'static str)>);

const FORMS: [Form; 7] = [
    ("lockDoor", None),
    ("lockDoor", Some(("lockTime", "2s"))),
    ("lockDoor", Some(("lockTime", "10m"))),
    ("unlockDoor", None),
    ("unlockDoor", Some(("unlockTime", "2s"))),
    ("unlockDoor", Some(("unlockTime", "10m"))),
    ("relinquish", None),
];

impl SentCommand {
    fn new((method, time): Form, id: String) -> Self {
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

    /// The slots after this command, once it was answered or the door was killed.
    fn apply(&self, slots: &OperatorSlots) -> OperatorSlots {
        let short = |key: &str| self.payload[key] == "2s";
        let held = |want, short: bool| {
            Some(HeldSlot {
                want,
                id: self.id.clone(),
                ends: short.then(|| (self.at + SHORT, Instant::now() + SHORT)),
            })
        };
        match self.method {
            "lockDoor" => OperatorSlots {
                grant: None,
                hold: held("locked", short("lockTime")),
            },
            "unlockDoor" if self.payload.get("unlockTime").is_some() => OperatorSlots {
                grant: held("released", short("unlockTime")),
                hold: slots.hold.clone(),
            },
            "unlockDoor" => OperatorSlots {
                hold: held("released", false),
                ..slots.clone()
            },
            _ => OperatorSlots::default(),
        }
    }
}

/// A door and its possible states.
struct KilledDoor {
    name: String,
    config: PathBuf,
    state: PathBuf,
    agent: Option<Process>,
    possible: Vec<OperatorSlots>,
    last: Option<SentCommand>,
    accepted: BTreeSet<String>,
}

impl KilledDoor {
    async fn new(hub: &TestHub, home: &Path, name: String) -> Self {
        let folder = home.join(&name);
        std::fs::create_dir(&folder).unwrap();
        let config = write_quick_config(&folder, hub, &name).await;
        Self {
            name,
            config,
            state: folder.join("state"),
            agent: None,
            possible: vec![OperatorSlots::default()],
            last: None,
            accepted: BTreeSet::new(),
        }
    }

    fn start(&mut self) {
        self.start_with(&[]);
    }

    fn start_with(&mut self, environment: &[(&str, &OsStr)]) {
        let mut command = program(["--config"]);
        command
            .envs(environment.iter().copied())
            .arg(&self.config)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.agent = Some(Process::spawn(&mut command));
    }

    fn kill(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// The status of the running agent, once `condition` holds.
    async fn status(&self, condition: impl Fn(&Value) -> bool) -> Value {
        status_of(&self.state, &self.name, condition).await
    }

    /// Waits until the hub has every event.
    async fn idle(&self) {
        let quiet =
            |status: &Value| status["link"]["state"] == "connected" && status["waitingEvents"] == 0;
        self.status(quiet).await;
    }

    /// Compares the slots with the possible states and keeps the matching one.
    async fn check(&mut self) {
        let before = Instant::now();
        let status = self.status(|_| true).await;
        let after = Instant::now();
        // A kill never leaves a door in doubt: its files are complete.
        let problem = &status["disk"]["problem"];
        assert!(problem.is_null(), "{}: {problem}", self.name);
        let slot = |number: u64| {
            let slots = status["door"]["slots"].as_array().unwrap();
            let found = slots.iter().find(|slot| slot["slot"] == number)?;
            let id = found["commandId"].as_str().unwrap_or_default();
            Some((found["want"].as_str().unwrap().to_owned(), id.to_owned()))
        };
        let seen = (slot(7), slot(8));
        let fits = |held: &Option<HeldSlot>, seen: &Option<(String, String)>| match (held, seen) {
            (None, None) => true,
            (None, Some(_)) => false,
            // It must be gone after its latest end, and present before its earliest end.
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
        let found = OperatorSlots {
            grant: found.grant.clone().filter(|_| seen.0.is_some()),
            hold: found.hold.clone().filter(|_| seen.1.is_some()),
        };
        self.possible = vec![found];
    }

    /// Sends a command and waits for its answer, or kills the agent after `life`, whichever comes
    /// first.
    async fn command(&mut self, hub: &TestHub, mut sent: SentCommand, life: Option<Duration>) {
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
                    // A call that waits for the door is dropped: it is not delivered then.
                    tokio::time::timeout(ANSWER_TIMEOUT, call).await.ok()
                }
            },
        };
        self.handle_answer(sent, answer);
    }

    /// Updates the possible states after an answer, or without one.
    fn handle_answer(&mut self, mut sent: SentCommand, answer: Option<(u16, Value)>) {
        let status = match answer {
            Some((200, answer)) => answer["status"].as_u64().unwrap(),
            _ => 0,
        };
        // A duplicate of an accepted command has no effect.
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
            let possible = self.possible.iter();
            let done: Vec<_> = possible.map(|slots| sent.apply(slots)).collect();
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

    /// One life of the process: from a start to a kill at a random moment.
    async fn live(&mut self, hub: &TestHub, random: &mut StdRng, number: usize) {
        self.start();
        self.check().await;
        // The operator repeats unanswered commands, and some answered ones.
        if let Some(last) = self.last.take() {
            // A hold of a repeated command that acts only now counts from now.
            if last.certain && random.random_bool(0.5) {
                self.command(hub, last, None).await;
                self.check().await;
            }
        }
        for part in 0..random.random_range(1..=2) {
            let id = format!("{}-{number}-{part}", self.name);
            let sent = SentCommand::new(*FORMS.choose(random).unwrap(), id);
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

    /// The last life: the hub has all events, once and in order.
    async fn settle(&mut self, hub: &TestHub) {
        self.start();
        self.check().await;
        self.idle().await;
        self.kill();
        let mut events = events(hub, &self.name).await;
        events.retain(|event| event["kind"] == "command");
        let answered = events
            .iter()
            .filter_map(|event| event["commandId"].as_str());
        let answered: BTreeSet<_> = answered.map(str::to_owned).collect();
        let missing: Vec<_> = self.accepted.difference(&answered).collect();
        let name = &self.name;
        assert!(missing.is_empty(), "{name}: no event for {missing:?}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_moment_lose_and_duplicate_nothing() {
    let kills = number("DOORFLEET_KILLS").map_or(KILLS, |kills| usize::try_from(kills).unwrap());
    let seed = number("DOORFLEET_SEED").unwrap_or_else(rand::random);
    eprintln!("DOORFLEET_SEED={seed} DOORFLEET_KILLS={kills}");
    let hub = std::sync::Arc::new(TestHub::start().await);
    let home = tempfile::tempdir().unwrap();
    let mut doors = JoinSet::new();
    for door in 0..DOORS {
        let mut victim = KilledDoor::new(&hub, home.path(), format!("door-{door}")).await;
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(door as u64));
        let hub = std::sync::Arc::clone(&hub);
        doors.spawn(async move {
            for number in 0..kills.div_ceil(DOORS) {
                victim.live(&hub, &mut random, number).await;
            }
            victim.settle(&hub).await;
        });
    }
    doors.join_all().await;
}
