//! Jobs that belong together: what stages a lock or unlock, what calls the other doors, and the
//! parts of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use iothub_client::{ClientError, HubClient};
use iothub_protocol::job::{DeviceJobStatistics, JobResponse, JobStatus};
use iothub_protocol::{ErrorCode, JobId};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::acknowledge;
use super::job_draft::MAX_EXECUTION;
use super::job_follow::{self, FinishedJob};
use super::job_report::explain_job;
use super::staged::{StagedEntry, entry_path};
use crate::outcome::JobGoal;
use crate::printer::first_names;
use crate::session::Session;
use crate::target::count_doors;

/// Appended to the id of the job that gives doors their timed entry.
pub(super) const STAGE: &str = "-stage";

/// Staged jobs of which a list counts the doors: Azure IoT Hub allows 20 queries a minute.
const MAX_COUNTS: usize = 10;

/// Jobs that are named in a line; the others are counted.
const MAX_NAMES_SHOWN: usize = 20;

/// One or more jobs.
#[derive(Debug)]
pub(super) struct JobGroup {
    /// Without suffix.
    pub(super) id: JobId,
    /// Those that stage come first.
    pub(super) jobs: Vec<JobResponse>,
    pub(super) staged: Option<StagedEntry>,
    is_cancelled: bool,
}

impl JobGroup {
    /// Reads the jobs of `id`, which may also be the id of one that stages.
    pub(super) async fn find(id: &JobId, session: &Session) -> anyhow::Result<Self> {
        match Self::try_find(id, &session.hub).await? {
            Some(mut group) => {
                group.read_whether_cancelled(session).await?;
                Ok(group)
            }
            None => Err(explain_job(session, id, ClientError::NoSuchJob(id.clone())).await),
        }
    }

    /// Like [`JobGroup::find`]; `None` when the hub has no such job.
    pub(super) async fn try_find(id: &JobId, hub: &HubClient) -> Result<Option<Self>, ClientError> {
        let given = lookup(id.as_str(), hub).await?;
        let staged = given.as_ref().and_then(StagedEntry::of);
        let id = match staged.map(|staged| staged.id.as_str().parse()) {
            Some(Ok(id)) => id,
            _ => id.clone(),
        };
        let is_own = |job: &JobResponse| command_id(job).as_deref() == Some(id.as_str());
        // The other half of a staged job calls the doors without the entry.
        let is_half = |job: &JobResponse| {
            is_own(job) && (StagedEntry::of(job).is_some() || leaves_out_entry(job, &id))
        };
        if let Some(job) = given.as_ref().filter(|job| !is_half(job)) {
            return Ok(Some(Self::single(job.clone())));
        }
        let mut group = Self {
            jobs: in_parts(&format!("{id}{STAGE}"), hub).await?,
            staged: None,
            is_cancelled: false,
            id: id.clone(),
        };
        group
            .jobs
            .extend(match given.filter(|job| job.job_id == id) {
                Some(job) => vec![job],
                None => in_parts(id.as_str(), hub).await?,
            });
        group.jobs.retain(is_own);
        group.staged = group.jobs.first().and_then(StagedEntry::of);
        Ok((!group.jobs.is_empty()).then_some(group))
    }

    /// The hub's jobs in groups.
    pub(super) async fn all(session: &Session) -> anyhow::Result<Vec<Self>> {
        let mut jobs = session.hub.jobs(None).await?;
        jobs.sort_by_key(|job| std::cmp::Reverse(job.created_time));
        let mut groups = Self::fold(jobs);
        let (mut counted, mut uncounted) = (0, Vec::new());
        for group in &mut groups {
            if group.needs_count(session.hub.now()) {
                counted += 1;
                if counted > MAX_COUNTS {
                    uncounted.push(group.id.as_str());
                    continue;
                }
            }
            group.read_whether_cancelled(session).await?;
        }
        if !uncounted.is_empty() {
            session.printer.warn(format!(
                "the status of older staged jobs does not show whether they were cancelled, which \
                 takes a query each: {}: doorctl jobs show JOB",
                first_names(&uncounted, MAX_NAMES_SHOWN)
            ));
        }
        Ok(groups)
    }

    /// Sorts a hub's jobs into groups, in the order of each one's first job.
    pub(super) fn fold(jobs: Vec<JobResponse>) -> Vec<Self> {
        let ids: BTreeSet<JobId> = jobs.iter().map(|job| job.job_id.clone()).collect();
        let mut groups: Vec<Self> = Vec::new();
        let mut places: BTreeMap<JobId, usize> = BTreeMap::new();
        for job in jobs {
            let staged = StagedEntry::of(&job);
            let id = match &staged {
                Some(staged) => staged.id.as_str().parse().ok(),
                None => part_of(&job, &ids),
            };
            let id = id.unwrap_or_else(|| job.job_id.clone());
            let place = *places.entry(id.clone()).or_insert_with(|| {
                groups.push(Self {
                    id,
                    jobs: Vec::new(),
                    staged: None,
                    is_cancelled: false,
                });
                groups.len() - 1
            });
            match staged {
                Some(staged) => {
                    groups[place].jobs.insert(0, job);
                    groups[place].staged = Some(staged);
                }
                None => groups[place].jobs.push(job),
            }
        }
        groups
    }

    fn single(job: JobResponse) -> Self {
        Self {
            id: job.job_id.clone(),
            jobs: vec![job],
            staged: None,
            is_cancelled: false,
        }
    }

    /// The jobs that call doors, or change twins, at their start.
    pub(super) fn calls(&self) -> impl Iterator<Item = &JobResponse> {
        self.jobs
            .iter()
            .filter(|job| StagedEntry::of(job).is_none())
    }

    /// The jobs that give doors their timed entry.
    pub(super) fn stages(&self) -> impl Iterator<Item = &JobResponse> {
        self.jobs
            .iter()
            .filter(|job| StagedEntry::of(job).is_some())
    }

    /// Whether a job of it calls the doors that have no entry.
    pub(super) fn leaves_out_entry(&self) -> bool {
        self.jobs.iter().any(|job| leaves_out_entry(job, &self.id))
    }

    /// A staged job was cancelled when no door has its entry any more before its end.
    async fn read_whether_cancelled(&mut self, session: &Session) -> anyhow::Result<()> {
        let Some(staged) = &self.staged else {
            return Ok(());
        };
        let all_cancelled = || self.calls().all(|job| job.status == JobStatus::Cancelled);
        let now = session.hub.now();
        let is_cancelled = match self.needs_count(now) {
            true => count_doors(&staged.condition(), session).await? == 0,
            false => staged.is_over(now) && self.calls().next().is_some() && all_cancelled(),
        };
        self.is_cancelled = is_cancelled;
        Ok(())
    }

    /// Whether only the number of doors with the entry shows that this job was cancelled.
    fn needs_count(&self, now: Timestamp) -> bool {
        let has_changed = |job: &JobResponse| {
            let counts = job.device_job_statistics;
            counts.is_some_and(|counts| counts.succeeded_count > 0)
        };
        self.staged
            .as_ref()
            .is_some_and(|staged| !staged.is_over(now))
            && self.jobs.iter().all(|job| job.status.is_over())
            && (self.calls().next().is_some() || self.stages().any(has_changed))
    }

    pub(super) fn ids(&self) -> Vec<JobId> {
        self.jobs.iter().map(|job| job.job_id.clone()).collect()
    }

    pub(super) fn goal(&self, accept_unproven: bool) -> JobGoal {
        match (&self.staged, self.jobs.first()) {
            (Some(staged), _) => staged.goal(accept_unproven),
            (None, Some(job)) => JobGoal::of(job, accept_unproven),
            (None, None) => JobGoal::Answered,
        }
    }

    pub(super) fn start(&self) -> Option<Timestamp> {
        match &self.staged {
            Some(staged) => Some(staged.entry.from),
            None => self.jobs.first()?.start_time,
        }
    }

    /// The status of all jobs together. A staged job runs from its start for as long as a call
    /// would.
    pub(super) fn status(&self, now: Timestamp) -> JobStatus {
        if self.is_cancelled {
            return JobStatus::Cancelled;
        }
        let staged = self.staged.as_ref().map(|staged| {
            let limits = self.jobs.iter();
            let limits = limits.filter_map(|job| job.max_execution_time_in_seconds);
            let limit = Duration::from_secs(limits.max().unwrap_or_default()).max(MAX_EXECUTION);
            let ran = now.duration_since(staged.entry.from);
            match Duration::try_from(ran) {
                Err(_) => JobStatus::Scheduled,
                Ok(ran) if ran < limit => JobStatus::Running,
                Ok(_) => JobStatus::Completed,
            }
        });
        let failed = self.stages().map(|job| job.status);
        let failed = failed.filter(|status| *status == JobStatus::Failed);
        let calls = self.calls().map(|job| job.status);
        let statuses: Vec<JobStatus> = staged.into_iter().chain(failed).chain(calls).collect();
        let all = |status: JobStatus| statuses.iter().all(|it| *it == status);
        let active = statuses.iter().find(|status| !status.is_over());
        let ended = [JobStatus::Failed, JobStatus::Cancelled];
        let ended = ended.into_iter().find(|status| statuses.contains(status));
        match active.copied().or(ended) {
            Some(status) => status,
            None if all(JobStatus::Completed) => JobStatus::Completed,
            None => JobStatus::Unknown,
        }
    }

    /// The hub's counts together. Before the start, what was staged has not succeeded yet.
    pub(super) fn counts(&self, now: Timestamp) -> Option<DeviceJobStatistics> {
        let mut sum: Option<DeviceJobStatistics> = None;
        for job in &self.jobs {
            let Some(counts) = job.device_job_statistics else {
                continue;
            };
            let sum = sum.get_or_insert_default();
            sum.device_count += counts.device_count;
            sum.failed_count += counts.failed_count;
            sum.running_count += counts.running_count;
            sum.pending_count += counts.pending_count;
            if StagedEntry::of(job).is_none_or(|staged| staged.entry.from <= now) {
                sum.succeeded_count += counts.succeeded_count;
            }
        }
        sum
    }

    /// The doors of each job as they are now.
    pub(super) async fn doors(
        &self,
        goal: JobGoal,
        session: &Session,
    ) -> Result<Vec<FinishedJob>, ClientError> {
        let mut all = Vec::new();
        for job in &self.jobs {
            let mut rows = job_follow::rows(&session.hub, job, goal).await?;
            acknowledge::wait_for_job(job, &mut rows, goal, Instant::now(), session).await?;
            let job = job.clone();
            all.push(FinishedJob { job, rows });
        }
        drop_called(&mut all);
        Ok(all)
    }
}

/// Drops what staging shows of doors that were called in the end, because the entry was refused or
/// could not be written.
pub(super) fn drop_called(jobs: &mut [FinishedJob]) {
    let calls = jobs
        .iter()
        .filter(|one| StagedEntry::of(&one.job).is_none());
    let called: BTreeSet<String> = calls
        .flat_map(|one| one.rows.iter().map(|row| row.door.clone()))
        .collect();
    for one in jobs {
        if StagedEntry::of(&one.job).is_some() {
            one.rows.retain(|row| !called.contains(&row.door));
        }
    }
}

/// Whether the job calls doors without the entry `id`.
fn leaves_out_entry(job: &JobResponse, id: &JobId) -> bool {
    let condition = job.query_condition.as_deref().unwrap_or_default();
    condition.contains(&entry_path(id))
}

/// The command of a job, which a retry repeats; of one that stages, the id of its entry.
pub(super) fn command_id(job: &JobResponse) -> Option<String> {
    if let Some(staged) = StagedEntry::of(job) {
        return Some(staged.id.to_string());
    }
    let payload = job.cloud_to_device_method.as_ref()?.payload()?;
    let payload: Value = serde_json::from_str(payload.get()).ok()?;
    Some(payload.get("commandId")?.as_str()?.to_owned())
}

/// The id of the command that took several jobs, of which this is one.
fn part_of(job: &JobResponse, ids: &BTreeSet<JobId>) -> Option<JobId> {
    let command: JobId = command_id(job)?.parse().ok()?;
    let number = job.job_id.as_str().strip_prefix(command.as_str())?;
    let is_part = number.strip_prefix('-')?.parse::<u32>().is_ok();
    (is_part && !ids.contains(&command)).then_some(command)
}

/// The job with this id, or its parts.
async fn in_parts(id: &str, hub: &HubClient) -> Result<Vec<JobResponse>, ClientError> {
    if let Some(job) = lookup(id, hub).await? {
        return Ok(vec![job]);
    }
    let mut jobs = Vec::new();
    while let Some(job) = lookup(&format!("{id}-{}", jobs.len() + 1), hub).await? {
        jobs.push(job);
    }
    Ok(jobs)
}

/// A job, if the hub has it.
pub(super) async fn lookup(id: &str, hub: &HubClient) -> Result<Option<JobResponse>, ClientError> {
    let Ok(id) = id.parse() else { return Ok(None) };
    match hub.job(&id).await {
        Ok(job) => Ok(Some(job)),
        Err(error) if error.code() == Some(ErrorCode::JobNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
