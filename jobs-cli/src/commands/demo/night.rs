//! The last step of the demo: a lock that every door gets ahead and carries out by its own clock,
//! while there is no hub.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use door_core::contract::{Secured, Want};
use door_core::schedule::Progress;
use door_core::{DoorEvent, EventName, TimedEntry, TimedState};
use iothub_client::EventStreamItem;
use iothub_protocol::JobId;
use iothub_protocol::event::{EventFilter, EventKind, EventRequest};
use iothub_protocol::job::JobAction;
use iothub_protocol::twin::{Twin, TwinPatch};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::check::Problem;
use super::doors::{DemoDoor, DemoDoors, Scenario};
use super::environment::{Environment, POLL_INTERVAL, WAIT_TIMEOUT};
use super::steps::{clock, schedule, whole_second};
use crate::commands::staged::{CAN_STAGE, StagedEntry};
use crate::outcome::JobGoal;

/// How far ahead the lock is: doors report that they are armed within 10 s, and a slow machine or a
/// large fleet needs more.
const AHEAD: Duration = Duration::from_secs(25);
const AHEAD_FOR_EACH_DOOR: Duration = Duration::from_millis(10);

/// How long before the start the hub stops, and how long after the start it returns.
const GONE_BEFORE: SignedDuration = SignedDuration::from_secs(1);
const BACK_AFTER: SignedDuration = SignedDuration::from_secs(3);

/// How long the doors stay locked.
const LOCK_TIME: SignedDuration = SignedDuration::from_mins(10);

/// The first and the last door may begin this far apart.
const MAX_SPREAD: SignedDuration = SignedDuration::from_secs(15);

/// Stages the lock, stops the hub, and checks that each door locked once, at its time.
pub(super) async fn night(
    demo: &DemoDoors,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<()> {
    let online: Vec<&DemoDoor> = demo
        .doors
        .iter()
        .filter(|door| door.scenario != Scenario::Offline)
        .collect();
    let count = u32::try_from(online.len())?;
    let from = whole_second(environment, AHEAD + AHEAD_FOR_EACH_DOOR * count)?;
    let staged = StagedEntry {
        id: "night".parse().map_err(anyhow::Error::msg)?,
        entry: TimedEntry::read(&json!({
            "want": Want::Locked,
            "from": from,
            "until": from.checked_add(LOCK_TIME)?,
        }))
        .map_err(anyhow::Error::msg)?,
    };
    let id: JobId = "night-stage".parse()?;
    let patch = TwinPatch {
        etag: Some("*".to_owned()),
        ..staged.patch(true)
    };
    environment.say(format!(
        "\nnight    every door gets a lock for {}, to be carried out by its own clock",
        clock(from)
    ));
    let now = environment.client.now();
    schedule(
        environment,
        &id,
        JobAction::UpdateTwin(patch),
        CAN_STAGE.to_owned(),
        now,
    )
    .await?;
    environment.follow(&id, JobGoal::Changed).await?;
    let progress = |twins: &BTreeMap<String, Twin>, door: &DemoDoor| -> Option<Progress> {
        let timed = twins
            .get(door.id.as_str())?
            .properties
            .reported
            .values
            .get("timed")?;
        serde_json::from_value(timed.get("night")?.clone()).ok()
    };
    let everywhere = "SELECT * FROM devices";
    let armed =
        |twins: &BTreeMap<String, Twin>| online.iter().all(|door| progress(twins, door).is_some());
    environment
        .until(
            "every door confirms the lock",
            everywhere,
            WAIT_TIMEOUT,
            armed,
        )
        .await?;
    let gone_at = from.checked_sub(GONE_BEFORE)?;
    let armed_at = Timestamp::now();
    if armed_at >= gone_at {
        problems.push(Problem::new(format!(
            "arming took until {}, too long for this machine: expected before {}",
            clock(armed_at),
            clock(gone_at)
        )));
        return Ok(());
    }
    wait_until(gone_at).await;
    let locks = |door: &&&DemoDoor| environment.fleet.has_thrown_bolt(&door.id);
    let early = online.iter().filter(locks).count();
    if early > 0 {
        problems.push(Problem::new(format!(
            "{early} doors locked before {}",
            clock(from)
        )));
    }
    environment.stop_hub().await;
    environment.say(format!(
        "night    {count} of {count} doors have it; the hub is stopped"
    ));
    wait_until(from.checked_add(BACK_AFTER)?).await;
    let locked = online.iter().filter(locks).count();
    environment.say(format!(
        "night    {locked} of {count} doors are locked, without a hub"
    ));
    environment.start_hub().await?;
    let settled = |twins: &BTreeMap<String, Twin>| {
        online
            .iter()
            .all(|door| progress(twins, door).is_some_and(|progress| progress.result.is_some()))
    };
    let twins = environment
        .until(
            "the doors report what became of it",
            everywhere,
            WAIT_TIMEOUT,
            settled,
        )
        .await?;
    // Events come after the report.
    let asked = Instant::now();
    let mut begins = read_begins(environment, gone_at).await?;
    while begins.len() < online.len() && asked.elapsed() < WAIT_TIMEOUT {
        tokio::time::sleep(POLL_INTERVAL).await;
        begins = read_begins(environment, gone_at).await?;
    }
    for door in &online {
        let expected = match door.scenario {
            Scenario::Jams => Secured::Unsecured,
            _ => Secured::Secured,
        };
        let progress = progress(&twins, door).context("it was reported before")?;
        let secured = progress.result.map(|result| result.secured);
        let (state, began) = (progress.state, begins.get(door.id.as_str()));
        let began = began.map_or(&[][..], |began| began);
        if state != TimedState::Holding || secured != Some(expected) || began.len() != 1 {
            problems.push(Problem::new(format!(
                "{}: the staged lock is {state}, {}, and began {} times",
                door.id,
                secured.map_or("without a result", Secured::as_str),
                began.len()
            )));
        }
    }
    let all = || begins.values().flatten();
    let (Some(first), Some(last)) = (all().min(), all().max()) else {
        return Ok(());
    };
    if *first < from || last.duration_since(*first) > MAX_SPREAD {
        problems.push(Problem::new(format!(
            "the doors locked from {first} to {last}, expected from {from}"
        )));
    }
    environment.say(format!(
        "night    the hub is back and has every result: each door began once, the first {} ms and \
         the last {} ms after {}",
        first.duration_since(from).as_millis(),
        last.duration_since(from).as_millis(),
        clock(from)
    ));
    Ok(())
}

async fn wait_until(at: Timestamp) {
    let left = at.duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
}

/// When the staged lock began at each door, by its clock.
async fn read_begins(
    environment: &Environment,
    since: Timestamp,
) -> anyhow::Result<BTreeMap<String, Vec<Timestamp>>> {
    let request = EventRequest {
        filter: EventFilter {
            device: None,
            kinds: vec![EventKind::Telemetry],
            since: Some(since),
        },
        ..EventRequest::default()
    };
    let mut events = environment.client.door_hub_events(&request).await?;
    let mut begins: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
    while let Some(EventStreamItem::Event(event)) = events.next().await? {
        let Some(Ok(event)) = event.body.map(serde_json::from_value::<DoorEvent>) else {
            continue;
        };
        if event.kind == EventName::TimedStarted {
            begins.entry(event.door).or_default().extend(event.at);
        }
    }
    Ok(begins)
}
