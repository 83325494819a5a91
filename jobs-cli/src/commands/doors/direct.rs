//! Calls doors directly, some at a time, and prints their outcomes.

use std::time::Duration;

use iothub_client::ClientError;
use iothub_protocol::job::{DeviceJob, DeviceJobStatus, JobError, JobOutcome, JobType};
use iothub_protocol::method::MethodRequest;
use iothub_protocol::{DeviceId, ErrorCode, JobId};
use serde::Serialize;
use tokio::time::Instant;

use crate::commands::job_wait;
use crate::commands::many::for_each_door;
use crate::commands::reported;
use crate::exit_status::ExitStatus;
use crate::outcome::{JobGoal, OutcomeRow, Tally, verdict};
use crate::printer::Format;
use crate::session::{Session, explain_door};

/// The wanted state of each door, and the deadline for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal {
    pub(super) wanted: JobGoal,
    pub(super) deadline: Option<Duration>,
}

/// The outcomes of direct calls, as JSON.
#[derive(Debug, Serialize)]
struct DirectReport<'a> {
    tally: Tally,
    doors: &'a [OutcomeRow],
}

/// Makes these calls and prints their outcomes.
pub(super) async fn call_directly(
    calls: Vec<(DeviceId, MethodRequest)>,
    id: &JobId,
    goal: Goal,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let ends_at = goal.deadline.map(|deadline| Instant::now() + deadline);
    let called = call_each(calls, id, goal.wanted, session);
    let mut rows = tokio::select! {
        rows = called => rows?,
        _ = tokio::signal::ctrl_c() => {
            session.printer.say(
                "stopped waiting; doors that were called may still act: doorctl status",
            );
            return Ok(ExitStatus::Interrupted);
        }
    };
    let mut in_time = true;
    if let Some(ends_at) = ends_at {
        in_time = tokio::select! {
            reached = job_wait::wait_until_reached(&session.hub, &mut rows, goal.wanted, ends_at) => {
                reached?
            }
            _ = tokio::signal::ctrl_c() => return Ok(ExitStatus::Interrupted),
        };
    }
    reported::wait_for_rows(&rows, &session.hub).await;
    let tally = Tally::of(&rows);
    match session.printer.format() {
        Format::Json => session.printer.document(&DirectReport {
            tally,
            doors: &rows,
        })?,
        _ => session.printer.rows(&rows)?,
    }
    session.printer.say(tally.summary(goal.wanted));
    Ok(match in_time {
        true => verdict(&rows),
        false => ExitStatus::Deadline,
    })
}

/// Makes each call, some at a time; returns the outcomes sorted by door.
async fn call_each(
    calls: Vec<(DeviceId, MethodRequest)>,
    id: &JobId,
    wanted: JobGoal,
    session: &Session,
) -> anyhow::Result<Vec<OutcomeRow>> {
    let is_single = calls.len() == 1;
    let answers = for_each_door(calls, &session.hub, |hub, door, call| async move {
        hub.invoke(&door, &call).await
    })
    .await;
    let mut rows = Vec::new();
    for (door, answer) in answers {
        let mut record = DeviceJob {
            device_id: door.clone(),
            job_id: id.clone(),
            job_type: JobType::ScheduleDeviceMethod,
            status: DeviceJobStatus::Completed,
            start_time_utc: None,
            end_time_utc: None,
            created_date_time_utc: None,
            last_updated_date_time_utc: None,
            outcome: None,
            error: None,
        };
        match answer {
            Ok(result) => {
                record.outcome = Some(JobOutcome {
                    device_method_response: Some(result),
                });
            }
            // A policy that lacks a right lacks it for every door.
            Err(error) if error.needed_rights().is_some() => return Err(error.into()),
            // For a single door, an error of the hub or the name is the error of the command.
            Err(error) if is_single && !concerns_door(&error) => {
                return Err(explain_door(session, &door, error).await);
            }
            Err(error) => {
                record.status = DeviceJobStatus::Failed;
                record.error = Some(JobError {
                    code: error
                        .code()
                        .map_or("NotReached".to_owned(), |code| code.name().to_owned()),
                    description: match &error {
                        ClientError::Refused(refusal) => refusal.message.clone(),
                        other => other.to_string(),
                    },
                });
            }
        }
        rows.push(OutcomeRow::new(&record, wanted));
    }
    Ok(rows)
}

/// Whether the error concerns the door rather than the connection to the hub.
fn concerns_door(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::DeviceNotOnline | ErrorCode::GatewayTimeout)
    ) || error.status() == Some(504)
}
