//! Whether doors that arm a timed entry, or act on one, hold up calls to other doors: a twin job
//! stages an entry at every door of the fleet, each acknowledges it at once, acts by its own clock
//! and reports as an agent does, while calls to doors beside them are timed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Publish;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fleet::{self, Device, Endpoint};
use crate::hub::{BETWEEN_CALLS, Hub, operator, time_call};
use crate::report;

/// Doors beside the fleet that the timed calls go to.
const OTHERS: u32 = 16;

const ID: &str = "night";
/// What an agent spreads its report over that it does as ordered.
const SPREAD: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
/// How long doors may take to report.
const DEADLINE: Duration = Duration::from_secs(120);

/// What the hub has accepted from all doors.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) reports: AtomicU32,
    pub(crate) events: AtomicU32,
}

/// What one door does about its timed entry.
pub(crate) struct StagedDoor {
    id: String,
    spread: Duration,
    next: Option<(Instant, Step)>,
}

#[derive(Clone, Copy)]
enum Step {
    Act,
    Report,
}

/// Events of an agent that acts on an entry.
const EVENTS: [&str; 3] = [
    r#""kind":"timedStarted","id":"night","want":"locked","slot":8,"by":"bench""#,
    r#""kind":"lockState","lockState":"locking","secured":"unsecured","proof":"bond","source":"remote""#,
    r#""kind":"lockState","lockState":"locked","secured":"secured","proof":"bond","source":"remote""#,
];

impl StagedDoor {
    /// `share` of the spread passes until it reports that it has acted.
    pub(crate) fn new(id: &str, share: f64) -> Self {
        Self {
            id: id.to_owned(),
            spread: SPREAD.mul_f64(share),
            next: None,
        }
    }

    /// The acknowledgement of a desired timed entry; none for any other publish.
    pub(crate) fn desired(&mut self, notified: &Publish) -> anyhow::Result<Option<Publish>> {
        if !notified.topic.starts_with("$iothub/twin/PATCH/") {
            return Ok(None);
        }
        let desired: Value = serde_json::from_slice(&notified.payload)?;
        let entry = &desired["timed"][ID];
        let Some(from) = entry["from"].as_str() else {
            return Ok(None);
        };
        let wait = from.parse::<Timestamp>()?.duration_since(Timestamp::now());
        let wait = Duration::try_from(wait).unwrap_or_default();
        self.next = Some((Instant::now() + wait, Step::Act));
        Ok(Some(patch(&json!({
            "ac": 200, "av": desired["$version"], "ad": "applied", "value": entry, "state": "armed"
        }))))
    }

    /// Waits until something is to be published; pends forever if nothing is.
    pub(crate) async fn due(&mut self) -> Vec<Publish> {
        let Some((at, step)) = self.next else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(at).await;
        let now = Timestamp::now();
        match step {
            Step::Act => {
                self.next = Some((at + self.spread, Step::Report));
                let topic = format!(
                    "devices/{}/messages/events/$.ct=application%2Fjson&$.ce=utf-8",
                    self.id
                );
                let event = |(pkid, members)| {
                    let body = format!(r#"{{"at":"{now}","door":"{}",{members}}}"#, self.id);
                    let mut event = Publish::new(&topic, QoS::AtLeastOnce, body);
                    event.pkid = pkid;
                    event
                };
                (1..).zip(EVENTS).map(event).collect()
            }
            Step::Report => {
                self.next = None;
                vec![patch(&json!({
                    "state": "holding", "at": now, "clock": "synchronized", "secured": "secured",
                    "proof": "bond", "reached": true
                }))]
            }
        }
    }
}

fn patch(entry: &Value) -> Publish {
    let topic = "$iothub/twin/PATCH/properties/reported/?$rid=1";
    let body = json!({"timed": {ID: entry}}).to_string();
    Publish::new(topic, QoS::AtMostOnce, body)
}

/// Times calls on a quiet hub, while every door arms an entry, while all act on it at one instant,
/// and while they report that; prints each, and its ratio to the quiet hub.
pub(crate) async fn run(hub: &Hub, tally: &Tally, doors: u32, rounds: u32) -> anyhow::Result<()> {
    let others = hub.register((0..OTHERS).map(other)).await?;
    let caller = Caller::start(hub.endpoint.clone(), others, &hub.data);
    let mut phases = [
        Phase::new("quiet hub"),
        Phase::new("arming"),
        Phase::new("acting"),
        Phase::new("reporting"),
    ];
    let [quiet, arming, acting, reporting] = &mut phases;
    quiet.last(tokio::time::sleep(SPREAD)).await;
    for round in 0..rounds {
        let [reports, events] = [&tally.reports, &tally.events];
        let count = |counter: &AtomicU32| counter.load(Ordering::Acquire);
        let (armed, sent) = (count(reports) + doors, count(events) + 3 * doors);
        let ahead = Duration::from_secs(u64::from(2 + doors / 500));
        let from = Timestamp::from_second((Timestamp::now() + ahead).as_second())?;
        let entry = json!({"want": "locked", "from": from, "until": from + HOUR, "by": "bench"});
        let staged = async {
            let job = hub.start_staging(round, ID, entry).await?;
            reach(reports, armed).await?;
            anyhow::Ok(job)
        };
        let job = arming.last(staged).await?;
        hub.wait_for_job(&job, doors).await?;
        let left = from.duration_since(Timestamp::now());
        let left = Duration::try_from(left).context("the doors took too long to arm")?;
        tokio::time::sleep(left).await;
        acting.last(reach(events, sent)).await?;
        reporting.last(reach(reports, armed + doors)).await?;
    }
    let calls = caller.stop().await?;
    report::print_staged(doors, &mut phases.map(|phase| phase.take(&calls)));
    Ok(())
}

/// When something went on.
struct Phase {
    name: &'static str,
    times: Vec<(Instant, Instant)>,
}

impl Phase {
    const fn new(name: &'static str) -> Self {
        let times = Vec::new();
        Self { name, times }
    }

    /// Lasts as long as `work`.
    async fn last<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = work.await;
        self.times.push((began, Instant::now()));
        done
    }

    /// Its name, and how long the calls took that began in it.
    fn take(self, calls: &[TimedCall]) -> (&'static str, Vec<Duration>) {
        let is_within = |call: &&TimedCall| {
            let mut times = self.times.iter();
            times.any(|(from, to)| (from..=to).contains(&&call.began))
        };
        let taken = calls.iter().filter(is_within).map(|call| call.taken);
        (self.name, taken.collect())
    }
}

/// Waits until `counter` is `goal`.
async fn reach(counter: &AtomicU32, goal: u32) -> anyhow::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while counter.load(Ordering::Acquire) < goal {
        ensure!(
            Instant::now() < deadline,
            "the doors did not report in time"
        );
        tokio::time::sleep(BETWEEN_CALLS).await;
    }
    Ok(())
}

fn other(n: u32) -> String {
    format!("other-{n:02}")
}

struct TimedCall {
    began: Instant,
    taken: Duration,
}

/// The doors beside the fleet, and calls to them one after another. They have a thread of their
/// own: waiting behind the tasks of the fleet would count as a delay by the hub.
struct Caller {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<TimedCall>>>,
}

impl Caller {
    fn start(endpoint: Endpoint, doors: Vec<Device>, data: &Path) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (is_over, data) = (Arc::clone(&stop), data.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let operator = operator(&data)?;
                let (_doors, _) = fleet::connect_to_hub(&endpoint, doors).await?;
                let mut calls = Vec::new();
                for n in (0..OTHERS).cycle() {
                    if is_over.load(Ordering::Acquire) {
                        break;
                    }
                    let began = Instant::now();
                    let taken = time_call(&operator, &other(n)).await?;
                    calls.push(TimedCall { began, taken });
                    tokio::time::sleep(BETWEEN_CALLS).await;
                }
                Ok(calls)
            })
        });
        Self { stop, thread }
    }

    async fn stop(self) -> anyhow::Result<Vec<TimedCall>> {
        self.stop.store(true, Ordering::Release);
        let ended = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        ended.map_err(|_| anyhow::anyhow!("the thread that calls doors failed"))?
    }
}
