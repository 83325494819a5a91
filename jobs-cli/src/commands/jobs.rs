//! `doorctl jobs ...`

mod cancel;
pub(super) mod create;
mod export;
pub(super) mod plan;
mod retry;
mod stage;

use std::collections::BTreeSet;

use iothub_protocol::JobId;
use iothub_protocol::job::{DeviceJobStatistics, JobResponse, JobStatus, JobType};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::cli::jobs::JobsCommand;
use crate::commands::job_follow::FinishedJob;
use crate::commands::job_group::{JobGroup, command_id};
use crate::commands::job_report::{print_report, print_reports};
use crate::commands::job_wait;
use crate::commands::staged::{self, StagedEntry};
use crate::door::DoorName;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{self, Cell, Row, Tone, first_names};
use crate::session::Session;
use crate::time;

/// Doors that are named in a line; the others are counted.
const MAX_NAMES_SHOWN: usize = 20;

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
    let rows: Vec<JobRow> = JobGroup::all(session)
        .await?
        .into_iter()
        .filter_map(|group| JobRow::new(group, session))
        .filter(|row| status.is_none_or(|status| row.job.status == status))
        .collect();
    if rows.is_empty() {
        session.printer.say("no job: doorctl jobs lock --help");
    }
    session.printer.rows(&rows)?;
    Ok(ExitStatus::Success)
}

async fn show(job: &str, session: &Session) -> anyhow::Result<ExitStatus> {
    let group = JobGroup::find(&id(job)?, session).await?;
    let wanted = group.goal(false);
    let jobs = group.doors(wanted, session).await?;
    match &jobs[..] {
        [FinishedJob { job, rows }] => print_report(job, rows, wanted, &session.printer)?,
        several => print_reports(several, wanted, &session.printer)?,
    }
    if let Some(job) = group.calls().next().or(group.jobs.first()) {
        name_retries(job, session).await;
    }
    let now = session.hub.now();
    name_unarmed(&group, &jobs, session).await?;
    if let Some(start) = group.start().filter(|_| !group.status(now).is_over()) {
        let text = start_text(start, now, &session.zone);
        session.printer.say(text);
    }
    Ok(ExitStatus::Success)
}

/// When a job that is not over starts, or started.
fn start_text(start: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let clock = time::describe(&start.to_zoned_datetime(zone.clone()));
    match now.duration_since(start) {
        ago if ago > SignedDuration::ZERO => {
            format!("started {clock}, {} ago", time::roughly(ago))
        }
        _ => format!("starts {clock}, {}", time::countdown(start, now)),
    }
}

/// Names the doors of a staged job that lost its entry, and before its start those that match no
/// more, or match and were not staged: staging has fixed the doors.
async fn name_unarmed(
    group: &JobGroup,
    jobs: &[FinishedJob],
    session: &Session,
) -> anyhow::Result<()> {
    let Some(staged) = &group.staged else {
        return Ok(());
    };
    let is_staged = |one: &&FinishedJob| StagedEntry::of(&one.job).is_some();
    let rows = || jobs.iter().filter(is_staged).flat_map(|one| &one.rows);
    let warn = |what: &str, doors: Vec<&str>| {
        if !doors.is_empty() {
            let names = first_names(&doors, MAX_NAMES_SHOWN);
            session.printer.warn(format!(
                "{what} {}: {names}",
                printer::doors(doors.len() as u64)
            ));
        }
    };
    let disarmed = rows().filter(|row| row.timed == Some("disarmed"));
    warn(
        "disarmed at",
        disarmed.map(|row| row.door.as_str()).collect(),
    );
    if group.status(session.hub.now()) != JobStatus::Scheduled {
        return Ok(());
    }
    let mut matching: BTreeSet<String> = BTreeSet::new();
    for job in group.stages() {
        let condition = job.query_condition.as_deref().unwrap_or(staged::CAN_STAGE);
        let query = format!("SELECT deviceId FROM devices WHERE {condition}");
        let found: Vec<DoorName> = session.hub.query(&query).await?;
        matching.extend(found.into_iter().map(|door| door.device_id.to_string()));
    }
    let known: BTreeSet<&str> = rows().map(|row| row.door.as_str()).collect();
    let gone = known.iter().filter(|door| !matching.contains(**door));
    warn("staged, and no longer selected:", gone.copied().collect());
    if group.calls().next().is_none() {
        let new = matching.iter().map(String::as_str);
        let new = new.filter(|door| !known.contains(door)).collect();
        warn(
            &format!("selected by now, and not staged by {}:", staged.id),
            new,
        );
    }
    Ok(())
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
    let groups = JobGroup::fold(jobs);
    let is_first = |group: &JobGroup| group.id.as_str() == command;
    let own = groups
        .iter()
        .find(|group| group.ids().contains(&job.job_id));
    for other in &groups {
        let text = match (own.is_some_and(is_first), is_first(other)) {
            (true, false) => "was retried by job",
            (false, true) => "retries job",
            _ => continue,
        };
        let id = own.map_or(&job.job_id, |own| &own.id);
        session.printer.say(format!("job {id} {text} {}", other.id));
    }
}

/// The running job, else the one that starts next, else the latest.
async fn next_job(session: &Session) -> anyhow::Result<JobId> {
    let jobs = JobGroup::all(session).await?;
    let now = session.hub.now();
    let running = jobs
        .iter()
        .filter(|job| job.status(now) == JobStatus::Running)
        .max_by_key(|job| job.start());
    let next = jobs
        .iter()
        .filter(|job| !job.status(now).is_over() && job.status(now) != JobStatus::Unknown)
        .min_by_key(|job| job.start());
    let created = |job: &&JobGroup| job.jobs.first().and_then(|job| job.created_time);
    let latest = jobs.iter().max_by_key(created);
    let chosen = running.or(next).or(latest).map(|job| job.id.clone());
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

/// One line of `jobs list`; JSON contains the hub's job, and the jobs of which it consists.
#[derive(Debug, Serialize)]
struct JobRow {
    #[serde(flatten)]
    job: JobResponse,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jobs: Vec<JobResponse>,
    #[serde(skip)]
    what: String,
    #[serde(skip)]
    zone: TimeZone,
}

impl JobRow {
    fn new(group: JobGroup, session: &Session) -> Option<Self> {
        let now = session.hub.now();
        let (start, counts, status) = (group.start(), group.counts(now), group.status(now));
        let mut job = group.calls().next().or(group.jobs.first())?.clone();
        let mut jobs = Vec::new();
        let what = match (&group.staged, &job.cloud_to_device_method, job.job_type) {
            (_, Some(call), _) => call.method_name().to_string(),
            (Some(staged), None, _) => staged.what().to_owned(),
            (None, None, JobType::ScheduleUpdateTwin) => "twin".to_owned(),
            (None, None, other) => other.to_string(),
        };
        if group.staged.is_some() || group.jobs.len() > 1 {
            job.job_id = group.id;
            job.status = status;
            job.start_time = start;
            job.device_job_statistics = counts;
            jobs = group.jobs;
        }
        Some(Self {
            job,
            jobs,
            what,
            zone: session.zone.clone(),
        })
    }
}

impl Row for JobRow {
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
        let job = &self.job;
        let count = |of: fn(&DeviceJobStatistics) -> u64| {
            let counts = job.device_job_statistics.as_ref();
            Cell::from(counts.map_or(String::new(), |counts| of(counts).to_string()))
        };
        match title {
            "job" => Cell::from(job.job_id.as_str()),
            "what" => Cell::from(self.what.as_str()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_starts_until_its_start_and_then_has_started() {
        let start: Timestamp = "2026-11-23T21:00:00Z".parse().unwrap();
        for (seconds, expected) in [
            (-90, "starts Mon 2026-11-23 21:00:00 UTC, in 1 min 30 s"),
            (0, "starts Mon 2026-11-23 21:00:00 UTC, now"),
            (90, "started Mon 2026-11-23 21:00:00 UTC, 1 min 30 s ago"),
        ] {
            let now = start + SignedDuration::from_secs(seconds);
            assert_eq!(start_text(start, now, &TimeZone::UTC), expected);
        }
    }
}
