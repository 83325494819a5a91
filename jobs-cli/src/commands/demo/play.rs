//! The steps of the demo and their checks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use door_agent::gpio::simulated::SimCommand;
use door_core::contract::{CommandHeader, LockDoor, duration};
use iothub_protocol::JobId;
use iothub_protocol::job::{JobAction, JobRequest, JobStatus};
use iothub_protocol::method::MethodRequest;
use iothub_protocol::twin::{ConnectionState, Object, Twin, TwinPatch};
use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde_json::{Value, json};

use super::cast::{BUILDING, Cast, FLOORS, LOCKED_FLOOR, Member, Part};
use super::check::{Problem, check_outcome, check_report, check_statistics};
use super::stage::{PACE, PATIENCE, Stage};
use super::table;
use crate::commands::jobs::create::numbered;
use crate::commands::jobs::follow::{self, Ended};
use crate::commands::jobs::summary;
use crate::door::{LockState, reported_value};
use crate::outcome::{JobGoal, OutcomeRow, Progress};
use crate::target;

/// How far in the future jobs are scheduled.
const AHEAD: Duration = Duration::from_secs(4);

/// How long the doors are locked.
const LOCK_TIME: Duration = Duration::from_secs(15);

/// How long the hub waits for an offline door.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a door may take to answer: the bond time plus a margin.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the jobs may run.
const MAX_EXECUTION: Duration = Duration::from_secs(60);

/// How long a door's report may lag behind its answer: one patch a second, on a busy machine.
const REPORT_WITHIN: Duration = Duration::from_secs(4);

/// Runs all steps. Returns the failed checks; an error means that the demo could not continue.
pub(super) async fn play(cast: &Cast, stage: &Stage) -> anyhow::Result<Vec<Problem>> {
    stage.until_connected(cast).await?;
    let mut problems = stage.check_identities(cast).await?;
    assign_places(cast, stage, &mut problems).await?;
    set_the_scene(cast, stage).await?;
    let locked = lock(cast, stage, &mut problems).await?;
    close_the_open_door(cast, stage).await?;
    relinquish(cast, stage, locked, &mut problems).await?;
    Ok(problems)
}

/// The tutorial's first kind of job: a scheduled change of desired properties of many doors.
async fn assign_places(
    cast: &Cast,
    stage: &Stage,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<()> {
    let start = whole_second(stage, AHEAD)?;
    let mut jobs = Vec::new();
    for floor in 1..=FLOORS {
        let doors: Vec<_> = cast
            .doors
            .iter()
            .filter(|door| door.floor == floor)
            .map(|door| door.id.clone())
            .collect();
        let parts = target::split_names(&doors, &[]).context("a floor has no doors")?;
        let id: JobId = format!("floor-{floor}").parse()?;
        for (id, condition) in numbered(&id, parts.len())?.into_iter().zip(parts) {
            let desired: Object = [("building", json!(BUILDING)), ("floor", json!(floor))]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect();
            let patch = TwinPatch {
                etag: Some("*".to_owned()),
                ..TwinPatch::desired(desired)
            };
            schedule(stage, &id, JobAction::UpdateTwin(patch), condition, start).await?;
            jobs.push(id);
        }
    }
    stage.printer.say(format!(
        "places   {} twin jobs are scheduled for {}: building {BUILDING}, floors 1 to {FLOORS}",
        jobs.len(),
        clock(start)
    ));
    let mut changed = 0;
    for id in &jobs {
        let Ended { job, rows } =
            follow::follow(&stage.client, id, JobGoal::Changed, PACE, &mut stage.view()).await?;
        changed += rows
            .iter()
            .filter(|row| row.progress == Progress::Reached)
            .count();
        if job.status != JobStatus::Completed {
            problems.push(Problem::new(summary(&job, &rows, JobGoal::Changed)));
        }
    }
    if changed != cast.doors.len() {
        problems.push(Problem::new(format!(
            "the twin jobs changed {changed} of {} doors",
            cast.doors.len()
        )));
    }
    let everywhere =
        format!("SELECT * FROM devices WHERE properties.reported.building.value = {BUILDING}");
    let at_home =
        |twins: &BTreeMap<String, Twin>| cast.doors.iter().all(|door| reports_floor(twins, door));
    stage
        .until(
            "every door reports its building and floor",
            &everywhere,
            PATIENCE,
            at_home,
        )
        .await?;
    stage.printer.say(format!(
        "places   {} of {} doors applied them and report them\n",
        cast.doors.len(),
        cast.doors.len()
    ));
    Ok(())
}

/// Starts from unlocked doors; opens one, disconnects one, and applies the faults.
async fn set_the_scene(cast: &Cast, stage: &Stage) -> anyhow::Result<()> {
    let released = |twins: &BTreeMap<String, Twin>| {
        cast.doors.iter().all(|door| {
            twins
                .get(door.id.as_str())
                .is_some_and(|twin| LockState::reported(twin).lock_state == "unlocked")
        })
    };
    stage
        .until(
            "every door reports to be released",
            "SELECT * FROM devices",
            PATIENCE,
            released,
        )
        .await?;
    stage
        .printer
        .say("scene    all doors stand released, as in office hours");
    for door in &cast.doors {
        match door.part {
            Part::Offline => {
                stage.fleet.unplug(&door.id);
                stage
                    .printer
                    .say(format!("         {} loses its cable", door.id));
            }
            Part::Open => {
                stage.fleet.at(&door.id, SimCommand::Open)?;
                stage
                    .printer
                    .say(format!("         {} stands open", door.id));
            }
            Part::Jams => {
                stage.fleet.at(&door.id, SimCommand::Jam)?;
                stage.printer.say(format!(
                    "         {} has a bolt that does not move",
                    door.id
                ));
            }
            Part::Locks | Part::Bystander => {}
        }
    }
    let seen = |twins: &BTreeMap<String, Twin>| {
        cast.of_locked_floor()
            .all(|door| match (door.part, twins.get(door.id.as_str())) {
                (_, None) => false,
                (Part::Offline, Some(twin)) => {
                    twin.connection_state == ConnectionState::Disconnected
                }
                (Part::Open, Some(twin)) => LockState::reported(twin).door_state == "open",
                (_, Some(_)) => true,
            })
    };
    stage
        .until(
            "the hub knows that one door is offline and one open",
            &on_floor(),
            PATIENCE,
            seen,
        )
        .await?;
    Ok(())
}

/// The tutorial's second kind of job: a method call on the doors that a query over reported
/// properties finds.
async fn lock(
    cast: &Cast,
    stage: &Stage,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<Timestamp> {
    let start = whole_second(stage, AHEAD)?;
    let until = start.checked_add(LOCK_TIME)?;
    let id: JobId = "lock-floor-3".parse()?;
    let payload = LockDoor {
        lock_time: Some(LOCK_TIME),
        until: Some(until),
        header: CommandHeader {
            command_id: Some(id.as_str().parse()?),
            not_after: Some(start.checked_add(MAX_EXECUTION)?),
            reason: None,
        },
    };
    let call = MethodRequest::new("lockDoor".parse()?)
        .with_connect_timeout(CONNECT_TIMEOUT)?
        .with_response_timeout(RESPONSE_TIMEOUT)?
        .with_payload(serde_json::value::to_raw_value(&payload)?);
    schedule(
        stage,
        &id,
        JobAction::Method(call),
        floor_condition(),
        start,
    )
    .await?;
    stage.printer.say(format!(
        "\nlock     job {id} is scheduled for {}: lockDoor, lockTime {}, on the doors where\n         {}",
        clock(start),
        duration::to_text(LOCK_TIME),
        floor_condition()
    ));
    let wanted = JobGoal::Secured {
        accept_unproven: false,
    };
    let Ended { job, rows } =
        follow::follow(&stage.client, &id, wanted, PACE, &mut stage.view()).await?;
    if job.status != JobStatus::Completed {
        problems.push(Problem::new(summary(&job, &rows, wanted)));
    }
    check_statistics(cast, &job, problems);
    let outcomes: BTreeMap<&str, &OutcomeRow> =
        rows.iter().map(|row| (row.door.as_str(), row)).collect();
    problems.extend(
        cast.of_locked_floor()
            .filter_map(|door| check_outcome(door, outcomes.get(door.id.as_str()).copied())),
    );

    // The doors report after they have answered; the table shows the reports.
    let settled = |twins: &BTreeMap<String, Twin>| {
        cast.of_locked_floor()
            .all(|door| check_report(door, twins).is_none())
    };
    // A timeout is reported door by door below.
    drop(
        stage
            .until(
                "the doors report to be secured",
                &on_floor(),
                REPORT_WITHIN,
                settled,
            )
            .await,
    );
    let twins = stage.twins().await?;
    table::print(cast, &twins, &outcomes, &stage.printer)?;
    stage
        .printer
        .say(format!("\n{}", summary(&job, &rows, wanted)));
    problems.extend(
        cast.doors
            .iter()
            .filter_map(|door| check_report(door, &twins)),
    );
    Ok(until)
}

/// Closes the open door, whose bolt waits for that.
async fn close_the_open_door(cast: &Cast, stage: &Stage) -> anyhow::Result<()> {
    let door = cast.first(Part::Open).context("no door is open")?;
    stage.fleet.at(&door.id, SimCommand::Close)?;
    let secured = |twins: &BTreeMap<String, Twin>| {
        let state = twins
            .get(door.id.as_str())
            .map(LockState::reported)
            .unwrap_or_default();
        state.secured == "secured" && state.proof == "bond"
    };
    let what = format!("{} is closed and reports to be secured", door.id);
    stage
        .until(&what, &on_floor(), PATIENCE.min(LOCK_TIME), secured)
        .await?;
    stage.printer.say(format!(
        "close    {} was accepted while open; now closed, it bolts: secured, proof bond",
        door.id
    ));
    Ok(())
}

/// Waits until the lock ends and the doors return to their default.
async fn relinquish(
    cast: &Cast,
    stage: &Stage,
    until: Timestamp,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<()> {
    stage
        .printer
        .say(format!("wait     the lock ends at {}", clock(until)));
    let left = until.duration_since(stage.client.now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
    let online: Vec<&Member> = cast
        .of_locked_floor()
        .filter(|door| matches!(door.part, Part::Locks | Part::Open))
        .collect();
    let released = |twins: &BTreeMap<String, Twin>| {
        online.iter().all(|door| {
            twins
                .get(door.id.as_str())
                .is_some_and(|twin| LockState::reported(twin).lock_state == "unlocked")
        })
    };
    stage
        .until(
            "the doors relinquish and report to be released",
            &on_floor(),
            PATIENCE,
            released,
        )
        .await?;
    stage.printer.say(format!(
        "over     {} doors of floor {LOCKED_FLOOR} relinquished and stand released again",
        online.len()
    ));
    let twins = stage.twins().await?;
    for door in cast
        .doors
        .iter()
        .filter(|door| door.part == Part::Bystander)
    {
        problems.extend(check_report(door, &twins));
    }
    Ok(())
}

async fn schedule(
    stage: &Stage,
    id: &JobId,
    action: JobAction,
    condition: String,
    start: Timestamp,
) -> anyhow::Result<()> {
    let request = JobRequest {
        job_id: Some(id.clone()),
        action,
        query_condition: condition,
        start_time: Some(start),
        max_execution_time: MAX_EXECUTION,
    };
    stage
        .client
        .job_create(id, &request)
        .await
        .with_context(|| format!("cannot create job {id}"))?;
    Ok(())
}

fn reports_floor(twins: &BTreeMap<String, Twin>, door: &Member) -> bool {
    let twin = twins.get(door.id.as_str());
    let floor = twin.and_then(|twin| reported_value(&twin.properties.reported.values, "floor"));
    floor.and_then(Value::as_u64) == Some(door.floor)
}

/// Selects the doors of the floor by their reported properties.
fn floor_condition() -> String {
    format!(
        "properties.reported.building.value = {BUILDING} AND properties.reported.floor.value = {LOCKED_FLOOR}"
    )
}

fn on_floor() -> String {
    format!("SELECT * FROM devices WHERE {}", floor_condition())
}

/// Now plus `ahead`, rounded up to a whole second.
fn whole_second(stage: &Stage, ahead: Duration) -> anyhow::Result<Timestamp> {
    let round = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Ceil);
    Ok(stage.client.now().checked_add(ahead)?.round(round)?)
}

/// A time of day in this machine's zone.
fn clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%T").to_string()
}
