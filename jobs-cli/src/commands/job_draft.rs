//! A job before it is created, and its creation: as one job, or as several when one condition
//! cannot hold all door names.

use std::time::Duration;

use anyhow::Context as _;
use door_core::contract::{CommandHeader, CommandId};
use iothub_client::ClientError;
use iothub_protocol::job::{JobAction, JobRequest, JobResponse, JobStatus};
use iothub_protocol::{ErrorCode, JobId};
use jiff::Timestamp;
use rand::RngExt as _;

use super::job_wait;
use super::many::refuse_unknown;
use crate::cli::jobs::ScheduleArgs;
use crate::cli::twin::DEFAULT_ACK_TIMEOUT;
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, sentence};
use crate::outcome::JobGoal;
use crate::printer::{Format, first_names};
use crate::session::Session;
use crate::target::{MAX_CONDITION, Selection, Target};
use crate::time::{TimeArg, TimeForm};

/// Default of `--max-execution`.
pub(super) const MAX_EXECUTION: Duration = Duration::from_secs(5 * 60);

/// Characters of generated ids: easy to tell apart when read aloud.
const ID_ALPHABET: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";
/// Active jobs that an error names; the others are counted.
const MAX_NAMES_SHOWN: usize = 5;

/// Appended to an error that occurs before any job is created.
const NOTHING_CHANGED: &str = "; nothing was changed";

/// The doors, the time and the id of a job that is about to be created.
pub(super) struct JobDraft {
    pub(super) id: JobId,
    pub(super) target: Target,
    pub(super) at: TimeArg,
    pub(super) max_execution: Duration,
    watch: bool,
    reason: Option<String>,
    /// How long doors may take to acknowledge desired properties.
    pub(super) acknowledged_within: Duration,
}

impl JobDraft {
    pub(super) async fn new(
        what: &str,
        target: Target,
        schedule: &ScheduleArgs,
        session: &Session,
    ) -> anyhow::Result<Self> {
        let id = schedule.id.as_ref().map(|id| {
            id.parse()
                .map_err(|error| Failure::new(format!("--id {id:?}: {error}")))
        });
        let id = id.transpose()?;
        let at = session.at("--at", &schedule.at).await?;
        let id = match id {
            Some(id) => id,
            None => generated_id(what, &at)?,
        };
        Ok(Self {
            id,
            target,
            at,
            max_execution: schedule.max_execution.unwrap_or(MAX_EXECUTION),
            watch: schedule.watch,
            reason: session.reason.clone(),
            acknowledged_within: DEFAULT_ACK_TIMEOUT,
        })
    }

    /// A job beside this one: `<id>-<suffix>`, over these doors.
    pub(super) fn beside(&self, suffix: &str, target: Target) -> anyhow::Result<Self> {
        let id = format!("{}-{suffix}", self.id);
        let id = id.parse().context("a job id")?;
        Ok(self.with(id, target, self.at.clone()))
    }

    /// The same job for other doors, with another id and start.
    pub(super) fn with(&self, id: JobId, target: Target, at: TimeArg) -> Self {
        Self {
            id,
            target,
            at,
            reason: self.reason.clone(),
            ..*self
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watch
    }

    /// When the calls start.
    pub(super) fn start(&self) -> Timestamp {
        self.at.when.timestamp()
    }

    /// Whether the job starts on creation. Then no start time is sent: the hub decides.
    fn starts_at_once(&self) -> bool {
        self.at.given == TimeForm::Now
    }

    /// The end of an action of this length, when it is an instant. An action that starts at once
    /// has none: its length counts from when each door acts.
    pub(super) fn until(&self, length: Option<Duration>) -> anyhow::Result<Option<Timestamp>> {
        let length = length.filter(|_| !self.starts_at_once());
        length.map(|length| self.start_plus(length)).transpose()
    }

    /// The time at `length` after the start.
    pub(super) fn start_plus(&self, length: Duration) -> anyhow::Result<Timestamp> {
        Ok(self
            .start()
            .checked_add(length)?
            .round(jiff::Unit::Second)?)
    }

    /// Doors recognise a duplicate by the job's id, and refuse a call that arrives after the job's
    /// end.
    pub(super) fn header(&self) -> anyhow::Result<CommandHeader> {
        let command_id: CommandId = self
            .id
            .as_str()
            .parse()
            .context("the job's id as a command id")?;
        Ok(CommandHeader {
            command_id: Some(command_id),
            not_after: Some(self.start_plus(self.max_execution)?),
            reason: self.reason.clone(),
        })
    }

    /// Creates the job or jobs, reports them, and follows them with `--watch`.
    pub(super) async fn create(
        self,
        action: JobAction,
        goal: JobGoal,
        doors: usize,
        session: &Session,
    ) -> anyhow::Result<ExitStatus> {
        let matching_text = matching_text(doors);
        let printer = &session.printer;
        let jobs = match self.submit(action, session).await {
            Ok(jobs) => jobs,
            Err(error) => return Err(name_job_in_the_way(error, session).await),
        };
        match &jobs[..] {
            [job] => printer.say(format!(
                "job {} is {}: {matching_text}",
                job.job_id, job.status
            )),
            jobs => {
                for job in jobs {
                    printer.say(format!("job {} is {}", job.job_id, job.status));
                }
                printer.say(&matching_text);
            }
        }
        session.echo("starts", &self.at);
        let ids: Vec<JobId> = jobs.iter().map(|job| job.job_id.clone()).collect();
        if self.watch {
            return job_wait::watch_all(&ids, None, self.acknowledged_within, goal, session).await;
        }
        match (printer.format(), &jobs[..]) {
            (Format::Table, _) => {
                let lines: Vec<String> = ids.iter().map(|id| format!("{id}\n")).collect();
                crate::printer::write(&lines.concat())?;
            }
            (_, [job]) => printer.document(job)?,
            (Format::Jsonl, jobs) => {
                for job in jobs {
                    printer.document(job)?;
                }
            }
            (_, jobs) => printer.document(&jobs)?,
        }
        for id in &ids {
            printer.say(format!("follow it: doorctl jobs watch {id}"));
        }
        Ok(ExitStatus::Success)
    }

    /// Submits the job or jobs to the hub.
    pub(super) async fn submit(
        &self,
        action: JobAction,
        session: &Session,
    ) -> anyhow::Result<Vec<JobResponse>> {
        let ids = numbered_ids(&self.id, self.target.parts().len())?;
        if ids.len() > 1 {
            session.printer.say(format!(
                "{} names do not fit into one condition: they are split over {} jobs",
                self.target.names.len(),
                ids.len()
            ));
        }
        session.warn_of_job(&self.id, &self.at.when).await?;
        let mut jobs = Vec::new();
        for (id, condition) in ids.iter().zip(self.target.parts()) {
            let submitted = self.submit_part(id, condition, action.clone(), session);
            let job = submitted
                .await
                .map_err(|create_error| create_error.into_error(id, &jobs))?;
            jobs.push(job);
        }
        Ok(jobs)
    }

    async fn submit_part(
        &self,
        id: &JobId,
        condition: &str,
        action: JobAction,
        session: &Session,
    ) -> Result<JobResponse, CreateError> {
        let request = JobRequest {
            job_id: Some(id.clone()),
            action,
            query_condition: condition.to_owned(),
            start_time: (!self.starts_at_once()).then(|| self.start()),
            max_execution_time: self.max_execution,
        };
        match session.hub.job_create(id, &request).await {
            Ok(job) => Ok(job),
            Err(error) if error.code() == Some(ErrorCode::JobAlreadyExists) => {
                let exists_error = Failure::new(format!(
                    "--id: the hub has a job called {id} already{NOTHING_CHANGED}"
                ));
                let exists_error =
                    exists_error.next("choose another --id, or omit it to generate one");
                Err(CreateError::NotCreated(exists_error.into()))
            }
            Err(error) if may_have_been_created(&error) => match session.hub.job(id).await {
                Ok(job) if matches_request(&job, &request) => Ok(job),
                // A request that timed out may still reach the hub.
                Err(answer)
                    if answer.code() == Some(ErrorCode::JobNotFound)
                        && !matches!(error, ClientError::TimedOut { .. }) =>
                {
                    Err(CreateError::NotCreated(error.into()))
                }
                _ => Err(CreateError::Unclear(error.into())),
            },
            Err(error) => Err(CreateError::NotCreated(error.into())),
        }
    }

    /// Refuses a list of doors that needs several jobs on a hub that runs one job at a time.
    pub(super) async fn refuse_split_unless_door_hub(
        &self,
        session: &Session,
    ) -> anyhow::Result<()> {
        let parts = self.target.parts().len();
        if parts == 1 {
            return Ok(());
        }
        let what = format!(
            "run {parts} jobs at the same time, which these {} names need (a condition has at \
             most {MAX_CONDITION} characters)",
            self.target.names.len()
        );
        let next = "tag the doors first, some hundred at a time: doorctl devices tag DOOR.. \
                    batch=x, then: --where \"tags.batch = 'x'\"";
        session.refuse_unless_door_hub(&what, next).await
    }

    /// How many doors match now; fails when a named door does not exist, or a place has no doors.
    pub(super) async fn preview(&self, session: &Session) -> anyhow::Result<Selection> {
        let selected = self.target.select(session).await?;
        let doors = selected.count;
        if doors < self.target.names.len() {
            refuse_unknown(&self.target, session).await?;
        }
        self.target.refuse_empty_places(doors, session).await?;
        if doors == 0 {
            session
                .printer
                .warn("no door matches now; the condition is evaluated again when the job starts");
        }
        Ok(selected)
    }
}

/// The ids of `jobs` jobs that belong together: `<id>-1`, `<id>-2`; of a single job `<id>`.
pub(super) fn numbered_ids(id: &JobId, jobs: usize) -> anyhow::Result<Vec<JobId>> {
    if jobs == 1 {
        return Ok(vec![id.clone()]);
    }
    let each = (1..=jobs).map(|number| {
        let text = format!("{id}-{number}");
        text.parse()
            .map_err(|error| Failure::new(format!("--id, with a number appended: {error}")).into())
    });
    each.collect()
}

/// Names the active jobs to a hub that allows no more.
pub(super) async fn name_job_in_the_way(error: anyhow::Error, session: &Session) -> anyhow::Error {
    let code = error.downcast_ref().and_then(ClientError::code);
    if code != Some(ErrorCode::ThrottlingMaxActiveJobCountExceeded) {
        return error;
    }
    let mut active = session.hub.jobs(None).await.unwrap_or_default();
    active.retain(|job| !job.status.is_over() && job.status != JobStatus::Unknown);
    let Some(job) = active.first() else {
        return error;
    };
    let names: Vec<String> = active
        .iter()
        .map(|job| format!("{} ({})", job.job_id, job.status))
        .collect();
    let id = &job.job_id;
    Failure::new(format!(
        "{}: another job is active, and this hub allows no more: {}",
        sentence(&error),
        first_names(&names, MAX_NAMES_SHOWN)
    ))
    .next(format!(
        "wait for it: doorctl jobs wait {id}; or end it: doorctl jobs cancel {id}"
    ))
    .into()
}

fn matching_text(doors: usize) -> String {
    match doors {
        0 => "no door matches now".to_owned(),
        1 => "1 door matches now".to_owned(),
        doors => format!("{doors} doors match now"),
    }
}

/// `lock-20261123-220000-x7k2`.
pub(super) fn generated_id(what: &str, at: &TimeArg) -> anyhow::Result<JobId> {
    let mut random = rand::rng();
    let suffix: String = (0..4)
        .map(|_| char::from(ID_ALPHABET[random.random_range(0..ID_ALPHABET.len())]))
        .collect();
    // Keep the characters of a method's name that a job id allows, and no more than fit. Azure
    // allows lower case only.
    let what: String = what
        .to_ascii_lowercase()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(32)
        .collect();
    let text = format!("{what}-{}-{suffix}", at.when.strftime("%Y%m%d-%H%M%S"));
    text.parse().with_context(|| format!("job id {text:?}"))
}

/// Why a job was not created.
#[derive(Debug)]
enum CreateError {
    /// It was certainly not created.
    NotCreated(anyhow::Error),
    /// The hub did not confirm it: it may exist.
    Unclear(anyhow::Error),
}

impl CreateError {
    /// The error for job `id`, when the jobs in `created` exist already.
    fn into_error(self, id: &JobId, created: &[JobResponse]) -> anyhow::Error {
        let (error, unclear_id) = match self {
            Self::NotCreated(error) if created.is_empty() => return error,
            Self::NotCreated(error) => (error, None),
            Self::Unclear(error) => (error, Some(id)),
        };
        let created: Vec<&str> = created.iter().map(|job| job.job_id.as_str()).collect();
        let why = sentence(&error);
        let mut text = why.trim_end_matches(NOTHING_CHANGED).to_owned();
        if let Some(id) = unclear_id {
            text += &format!("; job {id} may have been created");
        }
        if !created.is_empty() {
            text += &format!("; created before it: {}", created.join(", "));
        }
        let all = created.iter().copied().chain(unclear_id.map(JobId::as_str));
        let cancel: Vec<String> = all.map(|id| format!("doorctl jobs cancel {id}")).collect();
        let cancel = cancel.join("; ");
        let next = match created.is_empty() {
            true => format!("check: doorctl jobs show {id}; to cancel it: {cancel}"),
            false => format!(
                "cancel the created jobs: {cancel}; or create the rest with the remaining doors"
            ),
        };
        Failure::new(text).next(next).into()
    }
}

/// Whether the hub may have created the job although the request failed.
fn may_have_been_created(error: &ClientError) -> bool {
    match error {
        ClientError::TimedOut { .. } | ClientError::UnexpectedBody { .. } => true,
        ClientError::Unreachable { connected, .. } => *connected,
        error => matches!(error.status(), Some(500..=599)),
    }
}

/// Whether `job` is the requested one, as far as the hub shows it.
fn matches_request(job: &JobResponse, request: &JobRequest) -> bool {
    let shown = job.query_condition.as_ref();
    shown.is_none_or(|condition| *condition == request.query_condition)
        && job.job_type == request.action.job_type()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_belong_together_are_numbered() {
        let ids = |id: &str, jobs| -> Result<Vec<String>, String> {
            let ids =
                numbered_ids(&id.parse().unwrap(), jobs).map_err(|error| error.to_string())?;
            Ok(ids.iter().map(ToString::to_string).collect())
        };
        assert_eq!(ids("night", 1).unwrap(), ["night"]);
        assert_eq!(ids("night", 2).unwrap(), ["night-1", "night-2"]);
        let error = ids(&"n".repeat(63), 2).unwrap_err();
        assert!(
            error.starts_with("--id, with a number appended: "),
            "{error}"
        );
    }

    #[test]
    fn a_generated_id_contains_the_action_and_the_start() {
        let now = "2026-11-23T21:15:00+01:00[Europe/Berlin]".parse().unwrap();
        let at = TimeArg::parse("22:00", &now).unwrap();
        let id = generated_id("lock", &at).unwrap();
        assert!(id.as_str().starts_with("lock-20261123-220000-"), "{id}");
        assert_eq!(id.as_str().len(), 25);
        for (what, start) in [
            ("comp*set_point", "compsetpoint-"),
            ("lockDoor", "lockdoor-"),
        ] {
            let id = generated_id(what, &at).unwrap();
            assert!(id.as_str().starts_with(start), "{id}");
        }
    }
}
