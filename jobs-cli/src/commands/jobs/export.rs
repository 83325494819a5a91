//! `doorctl jobs export`: what a job did at each door, for an archive or a spreadsheet.

use std::path::Path;

use anyhow::Context as _;
use iothub_protocol::JobId;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::commands::job_group::JobGroup;
use crate::commands::out_file;
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
    // A door may have refused the change after the job was over.
    let jobs = group.doors(group.goal(accept_unproven), session).await?;
    let mut rows: Vec<ExportRow> = Vec::new();
    for one in jobs {
        let each = one.rows.into_iter();
        rows.extend(each.map(|outcome| ExportRow::new(&one.job.job_id, outcome)));
    }
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
    fn new(job: &JobId, outcome: OutcomeRow) -> Self {
        // A staged door acts by its own clock, later than the hub's record of its twin.
        let [started, ended] = match outcome.timed {
            Some(_) => [outcome.at, None],
            None => outcome.record_times,
        };
        Self {
            job: job.to_string(),
            started,
            ended,
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
