//! `doorctl jobs export`: what a job did at each door, for an archive or a spreadsheet.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use iothub_protocol::JobId;
use iothub_protocol::job::DeviceJob;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::commands::job_group::JobGroup;
use crate::commands::{acknowledge, out_file};
use crate::exit_status::ExitStatus;
use crate::outcome::OutcomeRow;
use crate::printer::{Cell, Format, Row, render, write};
use crate::session::Session;

/// A door of a job, with its times.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportRow {
    job: String,
    #[serde(flatten)]
    outcome: OutcomeRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
}

/// Writes the rows of a job.
pub(super) async fn export(
    id: &JobId,
    out: Option<&Path>,
    accept_unproven: bool,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let format = out_file::format(out, session.printer.format(), Format::Csv)?;
    let group = JobGroup::find(id, session).await?;
    let wanted = group.goal(accept_unproven);
    let mut rows: Vec<ExportRow> = Vec::new();
    for job in &group.jobs {
        let records = session.hub.device_jobs(&job.job_id).await?;
        let goal = wanted.of_answers(job);
        let mut outcomes: Vec<OutcomeRow> = records
            .iter()
            .map(|record| OutcomeRow::new(record, goal))
            .collect();
        // A door may have refused the change after the job was over.
        acknowledge::wait_for_job(job, &mut outcomes, wanted, Instant::now(), session).await?;
        let each = records.iter().zip(outcomes);
        rows.extend(each.map(|(record, outcome)| ExportRow::new(record, outcome)));
    }
    // Doors that were called in the end are judged by the call.
    let stages: BTreeSet<&str> = group.stages().map(|job| job.job_id.as_str()).collect();
    let calls = rows.iter().filter(|row| !stages.contains(&*row.job));
    let called: BTreeSet<String> = calls.map(|row| row.outcome.door.clone()).collect();
    rows.retain(|row| !stages.contains(&*row.job) || !called.contains(&row.outcome.door));
    rows.sort_by(|a, b| a.outcome.door.cmp(&b.outcome.door));
    let text = render(format, &rows)?;
    match out {
        None => write(&text)?,
        Some(path) => {
            out_file::create(path, &text).context("--out")?;
            session.printer.say(format!(
                "{}: wrote {} rows of job {id}",
                path.display(),
                rows.len()
            ));
        }
    }
    let status = group.status(session.hub.now());
    if !status.is_over() {
        session.printer.warn(format!(
            "job {id} is {status}: the exported rows are not final"
        ));
    }
    Ok(ExitStatus::Success)
}

impl ExportRow {
    fn new(record: &DeviceJob, outcome: OutcomeRow) -> Self {
        // A staged door acts by its own clock, later than the hub's record of its twin.
        let is_staged = outcome.timed.is_some();
        Self {
            job: record.job_id.to_string(),
            started: outcome.at.or(record.start_time_utc.filter(|_| !is_staged)),
            ended: record.end_time_utc.filter(|_| !is_staged),
            outcome,
        }
    }
}

impl Row for ExportRow {
    fn titles() -> Vec<&'static str> {
        let mut titles = vec!["job"];
        titles.extend(OutcomeRow::titles());
        titles.extend(["status", "methodStatus", "started", "ended"]);
        titles
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        self.outcome.cell(title, member)
    }
}
