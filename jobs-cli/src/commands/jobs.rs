//! `doorctl jobs ...`

pub(super) mod create;
mod export;
pub(crate) mod follow;
mod plan;
mod retry;
mod stop;
pub(crate) mod view;
pub(super) mod wait;

use iothub_client::ClientError;
use iothub_protocol::job::{JobResponse, JobStatus, JobType};
use iothub_protocol::{ErrorCode, JobId};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli::jobs::JobsCommand;
use crate::commands::acknowledge;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::outcome::{JobGoal, OutcomeRow, Tally};
use crate::printer::{Cell, Format, Printer, Row, Tone, printable};
use crate::session::Session;
use crate::{suggest, time};

pub(crate) async fn run(command: JobsCommand, session: &Session) -> anyhow::Result<ExitStatus> {
    match command {
        JobsCommand::Work(work) => create::run(&work, session).await,
        JobsCommand::Plan { work } => plan::plan(&work, session).await,
        JobsCommand::Apply { plan, work } => plan::apply(&plan, &work, session).await,
        JobsCommand::Export {
            job,
            out,
            accept_unproven,
        } => export::export(&id(&job)?, out.as_deref(), accept_unproven, session).await,
        JobsCommand::List { status } => list(status.as_deref(), session).await,
        JobsCommand::Show { job } => show(&job, session).await,
        JobsCommand::Watch {
            job,
            accept_unproven,
        } => {
            let job = match job {
                Some(text) => id(&text)?,
                None => next_job(session).await?,
            };
            wait::watch(&job, None, accept_unproven, session).await
        }
        JobsCommand::Wait {
            job,
            deadline,
            accept_unproven,
        } => wait::watch(&id(&job)?, Some(deadline), accept_unproven, session).await,
        JobsCommand::Cancel { job } => cancel(&job, session).await,
        JobsCommand::Stop { job } => stop::stop(&id(&job)?, session).await,
        JobsCommand::Retry(args) => retry::retry(&args, session).await,
    }
}

/// A job and its doors, as `show` and `watch` print it.
#[derive(Debug, Serialize)]
pub(crate) struct JobReport<'a> {
    job: &'a JobResponse,
    tally: Tally,
    doors: &'a [OutcomeRow],
}

/// Prints the doors of a job on stdout and a summary on stderr.
pub(crate) fn print_report(
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
fn print_reports(
    ended: &[follow::FinishedJob],
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
    for follow::FinishedJob { job, rows } in ended {
        printer.say(summary(job, rows, wanted));
    }
    printer.say(format!("all of them: {}", Tally::of(&rows).summary(wanted)));
    Ok(())
}

/// `job X completed: 5 of 6 succeeded by the hub's count; 4 secured, 1 accepted, 1 failed`.
pub(crate) fn summary(job: &JobResponse, rows: &[OutcomeRow], wanted: JobGoal) -> String {
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

async fn list(status: Option<&str>, session: &Session) -> anyhow::Result<ExitStatus> {
    let status: Option<JobStatus> = status.map(str::parse).transpose()?;
    let mut jobs = session.hub.jobs(status).await?;
    jobs.sort_by_key(|job| std::cmp::Reverse(job.created_time));
    match session.printer.format() {
        Format::Json | Format::Jsonl => {
            let values: Result<Vec<_>, _> = jobs.iter().map(serde_json::to_value).collect();
            session.printer.values(&values?)?;
        }
        _ => {
            let rows: Vec<JobRow> = jobs
                .iter()
                .map(|job| JobRow::new(job, &session.zone))
                .collect();
            if rows.is_empty() {
                session.printer.say("no job: doorctl jobs lock --help");
            }
            session.printer.rows(&rows)?;
        }
    }
    Ok(ExitStatus::Success)
}

async fn show(job: &str, session: &Session) -> anyhow::Result<ExitStatus> {
    let id = id(job)?;
    let job = match session.hub.job(&id).await {
        Ok(job) => job,
        Err(error) => return Err(explain_job(session, &id, error).await),
    };
    let wanted = JobGoal::of(&job, false);
    let mut rows = follow::rows(&session.hub, &id, wanted).await?;
    acknowledge::read_once(&job, &mut rows, session).await?;
    print_report(&job, &rows, wanted, &session.printer)?;
    if let Some(start) = job.start_time.filter(|_| !job.status.is_over()) {
        let start = start.to_zoned_datetime(session.zone.clone());
        session.printer.say(format!(
            "starts {}, {}",
            time::describe(&start),
            time::countdown(start.timestamp(), session.hub.now())
        ));
    }
    Ok(ExitStatus::Success)
}

async fn cancel(job: &str, session: &Session) -> anyhow::Result<ExitStatus> {
    let id = id(job)?;
    match session.hub.job_cancel(&id).await {
        Ok(job) => cancelled(job, session).await,
        Err(error) if error.code() == Some(ErrorCode::OperationNotAllowedInCurrentState) => Err(
            Failure::new(format!("job {id} cannot be cancelled: {error}"))
                .next(format!(
                    "doorctl jobs show {id}; to undo a lock that was carried out: \
                     doorctl jobs method relinquish"
                ))
                .status(ExitStatus::Refused)
                .into(),
        ),
        Err(error) => Err(explain_job(session, &id, error).await),
    }
}

/// Reports a cancellation that the hub accepted; Azure shows it a moment later.
async fn cancelled(mut job: JobResponse, session: &Session) -> anyhow::Result<ExitStatus> {
    let id = job.job_id.clone();
    for _ in 0..follow::GRACE_POLLS {
        if job.status.is_over() {
            break;
        }
        tokio::time::sleep(follow::PollIntervals::REMOTE.tick).await;
        job = session.hub.job(&id).await?;
    }
    let (text, status) = match job.status {
        JobStatus::Cancelled => ("no door will be called by it", ExitStatus::Success),
        status if status.is_over() => ("it ended before it was cancelled", ExitStatus::Refused),
        _ => (
            "the hub accepted the cancellation but does not show it yet",
            ExitStatus::Deadline,
        ),
    };
    session
        .printer
        .say(format!("job {id} is {}: {text}", job.status));
    if status != ExitStatus::Success {
        session
            .printer
            .say(format!("check again: doorctl jobs show {id}"));
    }
    session.printer.document(&job)?;
    Ok(status)
}

/// The running job, else the one that starts next, else the latest.
async fn next_job(session: &Session) -> anyhow::Result<JobId> {
    let jobs = session.hub.jobs(None).await?;
    let running = jobs
        .iter()
        .filter(|job| job.status == JobStatus::Running)
        .max_by_key(|job| job.start_time);
    let next = jobs
        .iter()
        .filter(|job| !job.status.is_over() && job.status != JobStatus::Unknown)
        .min_by_key(|job| job.start_time);
    let latest = jobs.iter().max_by_key(|job| job.created_time);
    let chosen = running.or(next).or(latest).map(|job| job.job_id.clone());
    chosen.ok_or_else(|| {
        Failure::new("the hub has no job to watch")
            .next("doorctl jobs lock --help")
            .into()
    })
}

/// Parses a job id from the command line.
pub(crate) fn id(text: &str) -> anyhow::Result<JobId> {
    Ok(text
        .parse()
        .map_err(|error| Failure::new(format!("JOB {text:?}: {error}")))?)
}

/// The error for a job that the hub does not have, with the closest id as a suggestion.
pub(crate) async fn explain_job(
    session: &Session,
    id: &JobId,
    error: ClientError,
) -> anyhow::Error {
    if error.code() != Some(ErrorCode::JobNotFound) {
        return error.into();
    }
    let jobs = session.hub.jobs(None).await.unwrap_or_default();
    let suggestion = suggest::closest(id.as_str(), jobs.iter().map(|job| job.job_id.as_str()));
    let suggestion = suggestion.map_or(String::new(), |suggestion| {
        format!("; did you mean `{suggestion}`?")
    });
    Failure::new(format!("the hub has no job `{id}`{suggestion}"))
        .next("doorctl jobs list")
        .into()
}

/// One line of `jobs list`.
#[derive(Debug, Serialize)]
struct JobRow {
    job: String,
    what: String,
    status: JobStatus,
    start: String,
    doors: String,
    succeeded: String,
    failed: String,
}

impl JobRow {
    fn new(job: &JobResponse, zone: &TimeZone) -> Self {
        let what = match (&job.cloud_to_device_method, job.job_type) {
            (Some(call), _) => call.method_name().to_string(),
            (None, JobType::ScheduleUpdateTwin) => "twin".to_owned(),
            (None, other) => other.to_string(),
        };
        let start = job
            .start_time
            .map(|start| start.to_zoned_datetime(zone.clone()));
        let counts = job.device_job_statistics;
        let count = |of: fn(&iothub_protocol::job::DeviceJobStatistics) -> u64| {
            counts
                .as_ref()
                .map_or(String::new(), |counts| of(counts).to_string())
        };
        Self {
            job: job.job_id.to_string(),
            what,
            status: job.status,
            start: start.map_or(String::new(), |start| {
                start.strftime("%F %T %Z").to_string()
            }),
            doors: count(|counts| counts.device_count),
            succeeded: count(|counts| counts.succeeded_count),
            failed: count(|counts| counts.failed_count),
        }
    }
}

impl Row for JobRow {
    fn titles() -> Vec<&'static str> {
        vec![
            "job",
            "what",
            "status",
            "start",
            "doors",
            "succeeded",
            "failed",
        ]
    }

    fn cells(&self) -> Vec<Cell> {
        let tone = match self.status {
            JobStatus::Completed => Tone::Good,
            JobStatus::Failed => Tone::Bad,
            JobStatus::Cancelled => Tone::Doubtful,
            _ => Tone::Plain,
        };
        vec![
            Cell::from(&self.job),
            Cell::from(&self.what),
            Cell::toned(self.status.as_str(), tone),
            Cell::from(&self.start),
            Cell::from(&self.doors),
            Cell::from(&self.succeeded),
            Cell::from(&self.failed),
        ]
    }
}
