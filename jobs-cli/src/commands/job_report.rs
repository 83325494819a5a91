//! Reports a job and the outcome of each door. Shared by all verbs that create or follow jobs.

use iothub_client::ClientError;
use iothub_protocol::job::JobResponse;
use iothub_protocol::{ErrorCode, JobId};
use serde::Serialize;

use super::job_follow::FinishedJob;
use crate::failure::Failure;
use crate::outcome::{JobGoal, OutcomeRow, Tally};
use crate::printer::{Format, Printer, printable};
use crate::session::Session;
use crate::suggest;

/// A job and its doors, as `show` and `watch` print it.
#[derive(Debug, Serialize)]
pub(super) struct JobReport<'a> {
    job: &'a JobResponse,
    tally: Tally,
    doors: &'a [OutcomeRow],
}

/// Prints the doors of a job on stdout and a summary on stderr.
pub(super) fn print_report(
    job: &JobResponse,
    rows: &[OutcomeRow],
    wanted: JobGoal,
    printer: &Printer,
) -> anyhow::Result<()> {
    match printer.format() {
        Format::Json => printer.document(&JobReport {
            job,
            tally: Tally::of(rows),
            doors: rows,
        })?,
        _ => printer.rows(rows)?,
    }
    printer.say(summary(job, rows, wanted));
    Ok(())
}

/// Jobs that belong together and their doors, as `--watch` prints them.
#[derive(Debug, Serialize)]
struct JobsReport<'a> {
    jobs: Vec<&'a JobResponse>,
    tally: Tally,
    doors: &'a [OutcomeRow],
}

/// Like [`print_report`], for jobs that belong together.
pub(super) fn print_reports(
    ended: &[FinishedJob],
    wanted: JobGoal,
    printer: &Printer,
) -> anyhow::Result<()> {
    let mut rows: Vec<OutcomeRow> = ended.iter().flat_map(|ended| ended.rows.clone()).collect();
    rows.sort_by(|a, b| a.door.cmp(&b.door));
    match printer.format() {
        Format::Json => printer.document(&JobsReport {
            jobs: ended.iter().map(|ended| &ended.job).collect(),
            tally: Tally::of(&rows),
            doors: &rows,
        })?,
        _ => printer.rows(&rows)?,
    }
    for FinishedJob { job, rows } in ended {
        printer.say(summary(job, rows, wanted));
    }
    printer.say(format!("all of them: {}", Tally::of(&rows).summary(wanted)));
    Ok(())
}

/// `job X completed: 5 of 6 succeeded by the hub's count; 4 secured, 1 accepted, 1 failed`.
pub(super) fn summary(job: &JobResponse, rows: &[OutcomeRow], wanted: JobGoal) -> String {
    let mut text = format!("job {} {}", job.job_id, job.status);
    if let Some(reason) = job.failure_reason.as_ref().or(job.status_message.as_ref()) {
        text += &format!(": {}", printable(reason));
    }
    if let Some(counts) = &job.device_job_statistics {
        text += &format!(
            "; the hub counts {} succeeded, {} failed of {}",
            counts.succeeded_count, counts.failed_count, counts.device_count
        );
    }
    if !rows.is_empty() {
        text += &format!(
            "; by the doors' answers: {}",
            Tally::of(rows).summary(wanted)
        );
    }
    text
}

/// The error for a job that the hub does not have, with the closest id as a suggestion.
pub(super) async fn explain_job(
    session: &Session,
    id: &JobId,
    error: ClientError,
) -> anyhow::Error {
    if error.code() != Some(ErrorCode::JobNotFound) {
        return error.into();
    }
    let jobs = session.hub.jobs(None).await.unwrap_or_default();
    let hint = suggest::hint(id.as_str(), jobs.iter().map(|job| job.job_id.as_str()));
    Failure::new(format!("the hub has no job `{id}`{hint}"))
        .next("doorctl jobs list")
        .into()
}
