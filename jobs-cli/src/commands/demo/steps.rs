//! The steps of the demo and their checks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use door_agent::gpio::simulated::SimCommand;
use door_core::contract::{
    Command, CommandHeader, DoorState, LockDoor, LockState, Proof, Secured, duration,
};
use iothub_protocol::JobId;
use iothub_protocol::job::{JobAction, JobRequest, JobStatus};
use iothub_protocol::twin::{ConnectionState, Object, Twin, TwinPatch};
use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde_json::{Value, json};

use super::check::{Problem, check_outcome, check_report, check_statistics};
use super::doors::{BUILDING, DemoDoor, DemoDoors, FLOORS, LOCKED_FLOOR, Scenario};
use super::environment::{Environment, WAIT_TIMEOUT};
use super::night::night;
use super::table;
use crate::commands::job_draft::numbered_ids;
use crate::commands::job_follow::FinishedJob;
use crate::commands::job_report::summary;
use crate::commands::method_call;
use crate::door::{ReportedStatus, reported_value};
use crate::outcome::{JobGoal, OutcomeRow, Progress};
use crate::target;

/// How far in the future jobs are scheduled.
const START_DELAY: Duration = Duration::from_secs(4);

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
pub(super) async fn run(
    demo: &DemoDoors,
    environment: &Environment,
) -> anyhow::Result<Vec<Problem>> {
    environment.until_connected(demo).await?;
    let mut problems = environment.check_identities(demo).await?;
    assign_places(demo, environment, &mut problems).await?;
    prepare_doors(demo, environment).await?;
    let locked = lock(demo, environment, &mut problems).await?;
    close_the_open_door(demo, environment).await?;
    relinquish(demo, environment, locked, &mut problems).await?;
    night(demo, environment, &mut problems).await?;
    Ok(problems)
}

/// The tutorial's first kind of job: a scheduled change of desired properties of many doors.
async fn assign_places(
    demo: &DemoDoors,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<()> {
    let start = whole_second(environment, START_DELAY)?;
    let mut jobs = Vec::new();
    for floor in 1..=FLOORS {
        let doors: Vec<_> = demo
            .doors
            .iter()
            .filter(|door| door.floor == floor)
            .map(|door| door.id.clone())
            .collect();
        let parts = target::split_names(&doors, &[]).context("a floor has no doors")?;
        let id: JobId = format!("floor-{floor}").parse()?;
        for (id, condition) in numbered_ids(&id, parts.len())?.into_iter().zip(parts) {
            let desired: Object = [("building", json!(BUILDING)), ("floor", json!(floor))]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect();
            let patch = TwinPatch {
                etag: Some("*".to_owned()),
                ..TwinPatch::desired(desired)
            };
            schedule(
                environment,
                &id,
                JobAction::UpdateTwin(patch),
                condition,
                start,
            )
            .await?;
            jobs.push(id);
        }
    }
    environment.say(format!(
        "places   {} twin jobs are scheduled for {}: building {BUILDING}, floors 1 to {FLOORS}",
        jobs.len(),
        clock(start)
    ));
    let mut changed = 0;
    for id in &jobs {
        let FinishedJob { job, rows } = environment.follow(id, JobGoal::Changed).await?;
        changed += rows
            .iter()
            .filter(|row| row.progress == Progress::Reached)
            .count();
        if job.status != JobStatus::Completed {
            problems.push(Problem::new(summary(&job, &rows, JobGoal::Changed)));
        }
    }
    if changed != demo.doors.len() {
        problems.push(Problem::new(format!(
            "the twin jobs changed {changed} of {} doors",
            demo.doors.len()
        )));
    }
    let everywhere =
        format!("SELECT * FROM devices WHERE properties.reported.building.value = {BUILDING}");
    let all_report_floor =
        |twins: &BTreeMap<String, Twin>| demo.doors.iter().all(|door| reports_floor(twins, door));
    environment
        .until(
            "every door reports its building and floor",
            &everywhere,
            WAIT_TIMEOUT,
            all_report_floor,
        )
        .await?;
    environment.say(format!(
        "places   {} of {} doors applied them and report them\n",
        demo.doors.len(),
        demo.doors.len()
    ));
    Ok(())
}

/// Starts from unlocked doors; opens one, disconnects one, and applies the faults.
async fn prepare_doors(demo: &DemoDoors, environment: &Environment) -> anyhow::Result<()> {
    let released =
        |twins: &BTreeMap<String, Twin>| demo.doors.iter().all(|door| is_released(twins, door));
    environment
        .until(
            "every door reports to be released",
            "SELECT * FROM devices",
            WAIT_TIMEOUT,
            released,
        )
        .await?;
    environment.say("scene    all doors stand released, as in office hours");
    for door in &demo.doors {
        let what = match door.scenario {
            Scenario::Offline => {
                environment.fleet.unplug(&door.id);
                "loses its cable"
            }
            Scenario::Open => {
                environment.fleet.operate(&door.id, SimCommand::Open)?;
                "stands open"
            }
            Scenario::Jams => {
                environment.fleet.operate(&door.id, SimCommand::Jam)?;
                "has a bolt that does not move"
            }
            Scenario::Locks | Scenario::Bystander => continue,
        };
        environment.say(format!("         {} {what}", door.id));
    }
    let seen = |twins: &BTreeMap<String, Twin>| {
        demo.of_locked_floor().all(|door| {
            let twin = twins.get(door.id.as_str());
            twin.is_some_and(|twin| match door.scenario {
                Scenario::Offline => twin.connection_state == ConnectionState::Disconnected,
                Scenario::Open => ReportedStatus::reported(twin).door_state == DoorState::Open,
                _ => true,
            })
        })
    };
    environment
        .until(
            "the hub knows that one door is offline and one open",
            &on_floor(),
            WAIT_TIMEOUT,
            seen,
        )
        .await?;
    Ok(())
}

/// The tutorial's second kind of job: a method call on the doors that a query over reported
/// properties finds.
async fn lock(
    demo: &DemoDoors,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<Timestamp> {
    let start = whole_second(environment, START_DELAY)?;
    let until = start.checked_add(LOCK_TIME)?;
    let id: JobId = "lock-floor-3".parse()?;
    let command = Command::Lock(LockDoor {
        lock_time: Some(LOCK_TIME),
        until: Some(until),
        header: CommandHeader {
            command_id: Some(id.as_str().parse()?),
            not_after: Some(start.checked_add(MAX_EXECUTION)?),
            reason: None,
        },
    });
    let call = method_call::door_call(&command, CONNECT_TIMEOUT, Some(RESPONSE_TIMEOUT))?;
    schedule(
        environment,
        &id,
        JobAction::Method(call),
        floor_condition(),
        start,
    )
    .await?;
    environment.say(format!(
        "\nlock     job {id} is scheduled for {}: lockDoor, lockTime {}, \
         on the doors where\n         {}",
        clock(start),
        duration::to_text(LOCK_TIME),
        floor_condition()
    ));
    let wanted = JobGoal::of_command(&command, false);
    let FinishedJob { job, rows } = environment.follow(&id, wanted).await?;
    if job.status != JobStatus::Completed {
        problems.push(Problem::new(summary(&job, &rows, wanted)));
    }
    check_statistics(demo, &job, problems);
    let outcomes: BTreeMap<&str, &OutcomeRow> =
        rows.iter().map(|row| (row.door.as_str(), row)).collect();
    problems.extend(
        demo.of_locked_floor()
            .filter_map(|door| check_outcome(door, outcomes.get(door.id.as_str()).copied())),
    );

    // The doors report after they have answered; the table shows the reports.
    let settled = |twins: &BTreeMap<String, Twin>| {
        demo.of_locked_floor()
            .all(|door| check_report(door, twins).is_none())
    };
    // A timeout is reported door by door below.
    drop(
        environment
            .until(
                "the doors report to be secured",
                &on_floor(),
                REPORT_WITHIN,
                settled,
            )
            .await,
    );
    let twins = environment.twins().await?;
    table::print(demo, &twins, &outcomes, &environment.printer)?;
    environment.say(format!("\n{}", summary(&job, &rows, wanted)));
    problems.extend(
        demo.doors
            .iter()
            .filter_map(|door| check_report(door, &twins)),
    );
    Ok(until)
}

/// Closes the open door, whose bolt waits for that.
async fn close_the_open_door(demo: &DemoDoors, environment: &Environment) -> anyhow::Result<()> {
    let door = demo.first(Scenario::Open).context("no door is open")?;
    environment.fleet.operate(&door.id, SimCommand::Close)?;
    let secured = |twins: &BTreeMap<String, Twin>| {
        let state = twins
            .get(door.id.as_str())
            .map(ReportedStatus::reported)
            .unwrap_or_default();
        state.secured == Secured::Secured && state.proof == Proof::Bond
    };
    let what = format!("{} is closed and reports to be secured", door.id);
    environment
        .until(&what, &on_floor(), WAIT_TIMEOUT.min(LOCK_TIME), secured)
        .await?;
    environment.say(format!(
        "close    {} was accepted while open; now closed, it bolts: secured, proof bond",
        door.id
    ));
    Ok(())
}

/// Waits until the lock ends and the doors return to their default.
async fn relinquish(
    demo: &DemoDoors,
    environment: &Environment,
    until: Timestamp,
    problems: &mut Vec<Problem>,
) -> anyhow::Result<()> {
    environment.say(format!("wait     the lock ends at {}", clock(until)));
    let left = until.duration_since(environment.client.now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
    let online: Vec<&DemoDoor> = demo
        .of_locked_floor()
        .filter(|door| matches!(door.scenario, Scenario::Locks | Scenario::Open))
        .collect();
    let released =
        |twins: &BTreeMap<String, Twin>| online.iter().all(|door| is_released(twins, door));
    environment
        .until(
            "the doors relinquish and report to be released",
            &on_floor(),
            WAIT_TIMEOUT,
            released,
        )
        .await?;
    environment.say(format!(
        "over     {} doors of floor {LOCKED_FLOOR} relinquished and stand released again",
        online.len()
    ));
    let twins = environment.twins().await?;
    for door in demo
        .doors
        .iter()
        .filter(|door| door.scenario == Scenario::Bystander)
    {
        problems.extend(check_report(door, &twins));
    }
    Ok(())
}

/// Creates a job.
pub(super) async fn schedule(
    environment: &Environment,
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
    environment
        .client
        .job_create(id, &request)
        .await
        .with_context(|| format!("cannot create job {id}"))?;
    Ok(())
}

fn reports_floor(twins: &BTreeMap<String, Twin>, door: &DemoDoor) -> bool {
    let twin = twins.get(door.id.as_str());
    let floor = twin.and_then(|twin| reported_value(&twin.properties.reported.values, "floor"));
    floor.and_then(Value::as_u64) == Some(door.floor)
}

fn is_released(twins: &BTreeMap<String, Twin>, door: &DemoDoor) -> bool {
    let reported = twins.get(door.id.as_str()).map(ReportedStatus::reported);
    reported.is_some_and(|state| state.lock_state == LockState::Unlocked)
}

/// Selects the doors of the floor by their reported properties.
fn floor_condition() -> String {
    format!(
        "properties.reported.building.value = {BUILDING} AND properties.reported.floor.value = \
         {LOCKED_FLOOR}"
    )
}

fn on_floor() -> String {
    format!("SELECT * FROM devices WHERE {}", floor_condition())
}

/// Now plus `ahead`, rounded up to a whole second.
pub(super) fn whole_second(
    environment: &Environment,
    ahead: Duration,
) -> anyhow::Result<Timestamp> {
    let round = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Ceil);
    Ok(environment.client.now().checked_add(ahead)?.round(round)?)
}

/// A time of day in this machine's zone.
pub(super) fn clock(at: Timestamp) -> String {
    at.to_zoned_datetime(TimeZone::system())
        .strftime("%T")
        .to_string()
}
