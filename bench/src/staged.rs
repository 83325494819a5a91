//! Whether doors that arm a timed entry, or act on one, hold up calls to other doors: a twin job
//! stages an entry at every door of the fleet, each acknowledges it at once, acts by its own clock
//! and reports as an agent does, while calls to doors beside them are timed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Publish;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::hub::{BETWEEN_CALLS, Hub};
use crate::{fleet, report};

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
    let others = (0..OTHERS).map(other);
    let others = hub.register(others).await?;
    let (others, _) = fleet::connect_to_hub(&hub.endpoint, others).await?;
    let quiet_until = Instant::now() + SPREAD;
    let quiet = time_calls(hub, || Instant::now() >= quiet_until).await?;
    let [mut arming, mut acting, mut reporting] = [const { Vec::new() }; 3];
    for round in 0..rounds {
        let [reports, events] = [&tally.reports, &tally.events];
        let count = |counter: &AtomicU32| counter.load(Ordering::Acquire);
        let (armed, sent) = (count(reports) + doors, count(events) + 3 * doors);
        let ahead = Duration::from_secs(u64::from(2 + doors / 500));
        let from = Timestamp::from_second((Timestamp::now() + ahead).as_second())?;
        let entry = json!({"want": "locked", "from": from, "until": from + HOUR, "by": "bench"});
        let job = hub.start_staging(round, ID, entry).await?;
        arming.extend(time_calls(hub, || count(reports) >= armed).await?);
        hub.wait_for_job(&job, doors).await?;
        let left = from.duration_since(Timestamp::now());
        let left = Duration::try_from(left).context("the doors took too long to arm")?;
        tokio::time::sleep(left).await;
        acting.extend(time_calls(hub, || count(events) >= sent).await?);
        reporting.extend(time_calls(hub, || count(reports) >= armed + doors).await?);
    }
    drop(others);
    report::print_staged(
        doors,
        &mut [
            ("quiet hub", quiet),
            ("arming", arming),
            ("acting", acting),
            ("reporting", reporting),
        ],
    );
    Ok(())
}

fn other(n: u32) -> String {
    format!("other-{n:02}")
}

/// Times calls to the doors beside the fleet, one after another, until it is `over`.
async fn time_calls(hub: &Hub, over: impl Fn() -> bool) -> anyhow::Result<Vec<Duration>> {
    let deadline = Instant::now() + DEADLINE;
    let mut taken = Vec::new();
    for n in (0..OTHERS).cycle() {
        if over() {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "the doors did not report in time"
        );
        taken.push(hub.time_call(&other(n)).await?);
        tokio::time::sleep(BETWEEN_CALLS).await;
    }
    Ok(taken)
}
