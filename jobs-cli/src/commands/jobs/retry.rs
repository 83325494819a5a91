//! `doorctl jobs retry`: repeats the command for the doors that have not reached the wanted state.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use door_core::contract::{METHODS, duration};
use iothub_protocol::job::{JobAction, JobResponse, JobStatus};
use iothub_protocol::method::MethodRequest;
use iothub_protocol::{DeviceId, JobId};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

use super::id;
use crate::cli::jobs::{RetryArgs, ScheduleArgs};
use crate::cli::target::TargetArgs;
use crate::commands::confirm::confirm_instant;
use crate::commands::job_draft::JobDraft;
use crate::commands::job_group::JobGroup;
use crate::commands::staged::StagedEntry;
use crate::commands::{job_wait, method_call};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::outcome::{JobGoal, OutcomeRow, Progress};
use crate::printer::printable;
use crate::session::Session;
use crate::target::Target;
use crate::time;

/// Time to come online for doors that were staged: the default of a call.
pub(super) const STAGED_CONNECT_TIMEOUT: Duration = Duration::from_secs(2 * 60);

pub(super) async fn retry(args: &RetryArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let id = id(&args.job)?;
    let group = JobGroup::find(&id, session).await?;
    let status = group.status(session.hub.now());
    // What was staged can be retried from its start on: the doors have acted, or did not.
    let has_acted = group.staged.is_some()
        && status == JobStatus::Running
        && group.calls().all(|job| job.status.is_over());
    if !(status.is_over() || has_acted) {
        return Err(Failure::new(format!(
            "job {id} is {status}: only a job that is over can be retried"
        ))
        .next(format!("doorctl jobs wait {id}"))
        .status(ExitStatus::Refused)
        .into());
    }
    let at = session.at("--at", &args.schedule.at).await?;
    let start = group.start().filter(|_| status == JobStatus::Cancelled);
    if let Some(start) = start.filter(|start| *start > at.when.timestamp()) {
        let start = time::describe(&start.to_zoned_datetime(session.zone.clone()));
        return Err(Failure::new(format!(
            "job {id} was cancelled before its start, {start}: a retry would act before that time"
        ))
        .next("create a new job: doorctl jobs lock --help")
        .status(ExitStatus::Refused)
        .into());
    }
    let wanted = group.goal(args.accept_unproven);
    let jobs = group.doors(wanted, session).await?;
    let mut rows: Vec<OutcomeRow> = jobs.into_iter().flat_map(|job| job.rows).collect();
    if rows.is_empty() {
        return Err(Failure::new(format!(
            "job {id} is {status} and called no door: there is nothing to retry"
        ))
        .next("create a new job: doorctl jobs lock --help")
        .status(ExitStatus::Refused)
        .into());
    }
    if wanted == JobGoal::Released {
        // Who overruled an unlock decided later than the job.
        rows.retain(|row| {
            let is_overruled = row.timed == Some("overruled");
            if is_overruled {
                let text = format!("{} is left out: {}", row.door, row.outcome);
                session.printer.warn(printable(&text));
            }
            !is_overruled
        });
    }
    let doors = remaining_doors(&mut rows, wanted, session).await?;
    let some_reached = rows.iter().any(|row| row.progress == Progress::Reached);
    if doors.is_empty() && !some_reached {
        session.printer.say(format!(
            "no door of job {id} is left to retry, and none was {}: nothing to do",
            wanted.reached()
        ));
        return Ok(ExitStatus::Incomplete);
    }
    if doors.is_empty() {
        session.printer.say(format!(
            "every remaining door of job {id} is {}: nothing to do",
            wanted.reached()
        ));
        return Ok(ExitStatus::Success);
    }
    let target = Target::required(&TargetArgs {
        doors,
        ..TargetArgs::default()
    })?;
    let job = group.calls().next().or(group.jobs.first());
    let job = job.context("the job has no parts")?;
    let first = job.max_execution_time_in_seconds.map(Duration::from_secs);
    let schedule = ScheduleArgs {
        max_execution: args.schedule.max_execution.or(first),
        ..args.schedule.clone()
    };
    let draft = JobDraft::new("retry", target, &schedule, session).await?;
    let action = repeated_action(job, &draft, args, session)?;
    if let JobAction::Method(call) = &action {
        method_call::warn_of_call(call, &session.printer);
    }
    draft.refuse_split_unless_door_hub(session).await?;
    let doors = draft.preview(session).await?.count;
    confirm_instant("--at", &draft.at, args.yes, session)?;
    draft
        .create(action, group.goal(false), doors, session)
        .await
}

/// The doors that have not reached the wanted state, also by what they report now. Warns of doors
/// that were removed.
async fn remaining_doors(
    rows: &mut [OutcomeRow],
    wanted: JobGoal,
    session: &Session,
) -> anyhow::Result<Vec<String>> {
    let names: Vec<DeviceId> = rows
        .iter()
        .filter(|row| row.progress != Progress::Reached)
        .filter_map(|row| row.door.parse().ok())
        .collect();
    let mut known = BTreeSet::new();
    for twin in &job_wait::twins_of(&session.hub, &names).await? {
        known.insert(twin.device_id.to_string());
        // The reported state of a door that did not answer may be old and proves nothing; neither
        // does that of a changed twin.
        let accepted = wanted != JobGoal::Changed
            && rows.iter().any(|row| {
                row.progress == Progress::Accepted && row.door == twin.device_id.as_str()
            });
        if accepted {
            job_wait::mark_reached(rows, twin, wanted);
        }
    }
    let mut doors = Vec::new();
    for row in rows {
        match (row.progress, known.contains(&row.door)) {
            (Progress::Reached, _) => {}
            (_, true) => doors.push(row.door.clone()),
            (_, false) => session.printer.warn(format!(
                "{} is skipped: the hub no longer has this door",
                row.door
            )),
        }
    }
    Ok(doors)
}

/// The action of the job, adapted to the new start.
fn repeated_action(
    job: &JobResponse,
    draft: &JobDraft,
    args: &RetryArgs,
    session: &Session,
) -> anyhow::Result<JobAction> {
    let staged = StagedEntry::of(job);
    if let (Some(patch), None) = (&job.update_twin, &staged) {
        let mut patch = patch.clone();
        patch.etag = Some("*".to_owned());
        return Ok(JobAction::UpdateTwin(patch));
    }
    let call = match (staged, &job.cloud_to_device_method) {
        (Some(staged), _) => {
            let command = staged.command(draft.start_plus(draft.max_execution)?)?;
            let connect = args.connect_timeout.unwrap_or(STAGED_CONNECT_TIMEOUT);
            method_call::door_call(&command, connect, args.response_timeout)?
        }
        (None, Some(call)) => with_timeouts(call, args.connect_timeout, args.response_timeout)?,
        (None, None) => {
            return Err(Failure::new(format!(
                "job {} neither calls a method nor changes a twin",
                job.job_id
            ))
            .into());
        }
    };
    let Some(payload) = call.payload() else {
        return Ok(JobAction::Method(call));
    };
    let mut payload: Value = serde_json::from_str(payload.get()).context("the job's payload")?;
    let end = explicit_end(&payload).or_else(|| latest_end(job, &payload));
    if let Some(until) = end.filter(|until| *until <= draft.start()) {
        let until = time::describe(&until.to_zoned_datetime(session.zone.clone()));
        return Err(too_late_error(&job.job_id, &until).into());
    }
    extend_validity(&mut payload, draft.start_plus(draft.max_execution)?);
    if let Some(reason) = &session.reason {
        insert_reason(call.method_name().as_str(), &mut payload, reason);
    }
    let call: MethodRequest = call.with_payload(RawValue::from_string(payload.to_string())?);
    Ok(JobAction::Method(call))
}

/// The call with the given timeouts, else its own. doorctl 0.1 created jobs whose connect timeout
/// exceeds the response timeout, which a hub refuses.
fn with_timeouts(
    call: &MethodRequest,
    connect: Option<Duration>,
    response: Option<Duration>,
) -> anyhow::Result<MethodRequest> {
    let connect = connect.unwrap_or(call.connect_timeout());
    let response = response.unwrap_or(call.response_timeout().max(connect));
    let response = method_call::checked_response_timeout(connect, Some(response))?;
    let call = call.clone().with_response_timeout(response)?;
    Ok(call.with_connect_timeout(connect)?)
}

fn too_late_error(job: &JobId, until: &str) -> Failure {
    Failure::new(format!(
        "the action of job {job} ends at {until}, before a retry would start"
    ))
    .next("create a new job: doorctl jobs lock --help")
    .status(ExitStatus::Refused)
}

/// When the action of a payload ends, when it names an instant.
fn explicit_end(payload: &Value) -> Option<Timestamp> {
    payload.get("until")?.as_str()?.parse().ok()
}

/// When an action of a given length ends at the door that was reached last.
fn latest_end(job: &JobResponse, payload: &Value) -> Option<Timestamp> {
    let length = payload.get("lockTime").or(payload.get("unlockTime"))?;
    let length = duration::parse(length.as_str()?).ok()?;
    let runs = Duration::from_secs(job.max_execution_time_in_seconds?);
    job.start_time?
        .checked_add(runs)
        .ok()?
        .checked_add(length)
        .ok()
}

/// Extends the validity; command, id and end stay the same.
fn extend_validity(payload: &mut Value, not_after: Timestamp) {
    if let Some(old) = payload.get_mut("notAfter") {
        *old = Value::String(not_after.to_string());
    }
}

/// Puts the reason into the payload of a method that accepts one; other payloads stay unchanged.
fn insert_reason(method: &str, payload: &mut Value, reason: &str) {
    let accepts = METHODS.contains(&method) && !matches!(method, "getState" | "selfTest");
    if let (true, Value::Object(members)) = (accepts, payload) {
        members.insert("reason".to_owned(), reason.into());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_retry_keeps_id_and_end_and_extends_the_validity() {
        let mut payload = json!({"lockTime": "10m", "until": "2026-11-23T22:10:00Z",
            "commandId": "tonight", "notAfter": "2026-11-23T22:05:00Z"});
        extend_validity(&mut payload, "2026-11-23T22:12:00Z".parse().unwrap());
        let expected = json!({"lockTime": "10m", "until": "2026-11-23T22:10:00Z",
            "commandId": "tonight", "notAfter": "2026-11-23T22:12:00Z"});
        assert_eq!(payload, expected);
    }

    #[test]
    fn a_retry_adds_its_reason_to_methods_that_accept_one() {
        for (method, payload, expected) in [
            ("lockDoor", json!({}), json!({"reason": "drill"})),
            (
                "unlockDoor",
                json!({"commandId": "a", "reason": "before"}),
                json!({"commandId": "a", "reason": "drill"}),
            ),
            ("relinquish", json!({}), json!({"reason": "drill"})),
            (
                "setMode",
                json!({"mode": "lockdown"}),
                json!({"mode": "lockdown", "reason": "drill"}),
            ),
            ("lockdown", json!({}), json!({"reason": "drill"})),
            ("lockDoor", json!("{}"), json!("{}")),
            ("reboot", json!({"reason": "a"}), json!({"reason": "a"})),
            ("getState", json!({}), json!({})),
            ("other", json!({}), json!({})),
        ] {
            let mut given = payload;
            insert_reason(method, &mut given, "drill");
            assert_eq!(given, expected, "{method}");
        }
    }

    #[test]
    fn a_retry_of_a_job_of_version_0_1_has_timeouts_that_a_hub_accepts() {
        for (connect, response, expected) in
            [(120, 30, 120), (30, 30, 30), (0, 5, 5), (300, 5, 300)]
        {
            let call = MethodRequest::new("lockDoor".parse().unwrap())
                .with_connect_timeout(Duration::from_secs(connect))
                .and_then(|call| call.with_response_timeout(Duration::from_secs(response)))
                .unwrap();
            let repeated = with_timeouts(&call, None, None).unwrap();
            assert_eq!(repeated.response_timeout().as_secs(), expected);
            assert_eq!(repeated.connect_timeout().as_secs(), connect);
            let minute = Some(Duration::from_secs(60));
            let given = with_timeouts(&call, minute, minute).unwrap();
            let timeouts = (given.connect_timeout(), given.response_timeout());
            assert_eq!((Some(timeouts.0), Some(timeouts.1)), (minute, minute));
        }
    }

    #[test]
    fn an_unknown_payload_stays_unchanged() {
        for payload in [json!({"speed": 3}), json!("text"), json!([1]), json!(null)] {
            let mut repeated = payload.clone();
            extend_validity(&mut repeated, "2026-11-23T22:12:00Z".parse().unwrap());
            assert_eq!((repeated, explicit_end(&payload)), (payload, None));
        }
    }
}
