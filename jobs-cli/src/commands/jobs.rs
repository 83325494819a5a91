//! `doorctl jobs ...`

mod cancel;
mod create;
mod export;
mod plan;
mod retry;

use iothub_protocol::JobId;
use iothub_protocol::job::{DeviceJobStatistics, JobResponse, JobStatus, JobType};
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::cli::jobs::JobsCommand;
use crate::commands::job_report::{find_job, print_report};
use crate::commands::{acknowledge, job_follow, job_wait};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::outcome::JobGoal;
use crate::printer::{Cell, Row, Tone};
use crate::session::Session;
use crate::time;

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
            job_wait::watch(&job, None, accept_unproven, session).await
        }
        JobsCommand::Wait {
            job,
            deadline,
            accept_unproven,
        } => job_wait::watch(&id(&job)?, Some(deadline), accept_unproven, session).await,
        JobsCommand::Cancel { job } => cancel::cancel(&id(&job)?, session).await,
        JobsCommand::Retry(args) => retry::retry(&args, session).await,
    }
}

async fn list(status: Option<&str>, session: &Session) -> anyhow::Result<ExitStatus> {
    let status: Option<JobStatus> = status.map(str::parse).transpose()?;
    let mut jobs = session.hub.jobs(status).await?;
    jobs.sort_by_key(|job| std::cmp::Reverse(job.created_time));
    let zone = &session.zone;
    let rows: Vec<JobRow> = jobs.iter().map(|job| JobRow { job, zone }).collect();
    if rows.is_empty() {
        session.printer.say("no job: doorctl jobs lock --help");
    }
    session.printer.rows(&rows)?;
    Ok(ExitStatus::Success)
}

async fn show(job: &str, session: &Session) -> anyhow::Result<ExitStatus> {
    let id = id(job)?;
    let job = find_job(session, &id).await?;
    let wanted = JobGoal::of(&job, false);
    let mut rows = job_follow::rows(&session.hub, &id, wanted).await?;
    acknowledge::wait_for_job(&job, &mut rows, Instant::now(), session).await?;
    print_report(&job, &rows, wanted, &session.printer)?;
    name_retries(&job, session).await;
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

/// Names the other jobs with the same command: those that this job retries, or that retry it.
async fn name_retries(job: &JobResponse, session: &Session) {
    let Some(command) = command_id(job) else {
        return;
    };
    // The report is printed: an error here must not fail the command.
    let mut jobs = session.hub.jobs(None).await.unwrap_or_default();
    jobs.retain(|other| command_id(other).as_ref() == Some(&command));
    jobs.sort_by_key(|other| other.created_time);
    // The id of a job is that of its command, with a number if the command took several jobs.
    let in_parts = jobs.iter().all(|job| job.job_id.as_str() != command);
    let is_first = |job: &JobResponse| {
        let rest = job.job_id.as_str().strip_prefix(&command);
        let part = rest.and_then(|rest| rest.strip_prefix('-')?.parse::<u32>().ok());
        rest.is_some_and(str::is_empty) || in_parts && part.is_some()
    };
    for other in &jobs {
        let text = match (is_first(job), is_first(other)) {
            (true, false) => "was retried by job",
            (false, true) => "retries job",
            _ => continue,
        };
        let (id, other) = (&job.job_id, &other.job_id);
        session.printer.say(format!("job {id} {text} {other}"));
    }
}

/// The command of a job, which a retry repeats.
fn command_id(job: &JobResponse) -> Option<String> {
    let payload = job.cloud_to_device_method.as_ref()?.payload()?;
    let payload: Value = serde_json::from_str(payload.get()).ok()?;
    Some(payload.get("commandId")?.as_str()?.to_owned())
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
fn id(text: &str) -> anyhow::Result<JobId> {
    Ok(text
        .parse()
        .map_err(|error| Failure::new(format!("JOB {text:?}: {error}")))?)
}

/// One line of `jobs list`; JSON contains the hub's job.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct JobRow<'a> {
    job: &'a JobResponse,
    #[serde(skip)]
    zone: &'a TimeZone,
}

impl Row for JobRow<'_> {
    const LEAST_IMPORTANT: &'static [&'static str] = &["succeeded", "doors", "what"];

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

    fn cell(&self, title: &str, _: &Value) -> Cell {
        let job = self.job;
        let count = |of: fn(&DeviceJobStatistics) -> u64| {
            let counts = job.device_job_statistics.as_ref();
            Cell::from(counts.map_or(String::new(), |counts| of(counts).to_string()))
        };
        match title {
            "job" => Cell::from(job.job_id.as_str()),
            "what" => match (&job.cloud_to_device_method, job.job_type) {
                (Some(call), _) => Cell::from(call.method_name().as_str()),
                (None, JobType::ScheduleUpdateTwin) => Cell::from("twin"),
                (None, other) => Cell::from(other.as_str()),
            },
            "status" => Cell::toned(
                job.status.as_str(),
                match job.status {
                    JobStatus::Completed => Tone::Good,
                    JobStatus::Failed => Tone::Bad,
                    JobStatus::Cancelled => Tone::Doubtful,
                    _ => Tone::Plain,
                },
            ),
            "start" => Cell::from(job.start_time.map_or(String::new(), |start| {
                let start = start.to_zoned_datetime(self.zone.clone());
                start.strftime("%F %T %Z").to_string()
            }))
            .shown_as(job.start_time.map_or(String::new(), |start| {
                time::on_clock(&start.to_zoned_datetime(self.zone.clone()))
            })),
            "doors" => count(|counts| counts.device_count),
            "succeeded" => count(|counts| counts.succeeded_count),
            _ => count(|counts| counts.failed_count),
        }
    }
}
