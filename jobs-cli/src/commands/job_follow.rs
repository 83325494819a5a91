//! Polls a job until it is over.

use std::time::{Duration, Instant};

use iothub_client::{ClientError, HubClient};
use iothub_protocol::job::{DeviceJobStatistics, JobResponse, JobStatus};
use iothub_protocol::{ErrorCode, JobId};
use jiff::Timestamp;

use super::job_view::View;
use crate::failure::Failure;
use crate::outcome::{JobGoal, OutcomeRow};
use crate::printer::printable;

/// How long the hub may be unreachable before following gives up: long enough for a restart.
pub(super) const MAX_HUB_ABSENCE: Duration = Duration::from_secs(120);

/// Consecutive polls that are granted to something that may still appear: a new job, a status that
/// this program knows, the last device records.
pub(super) const GRACE_POLLS: u32 = 5;

/// First reads of the doors that do not wait for [`PollIntervals::doors`], so that missing doors
/// show early.
const EARLY_READS: u32 = 3;

/// A job that starts later than this is polled less often.
const NEAR_START: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy)]
pub(crate) struct PollIntervals {
    /// Redraw of the view, and poll of a job that runs or is about to.
    pub(crate) tick: Duration,
    /// Poll of a job whose start is further away than [`NEAR_START`].
    pub(crate) far: Duration,
    /// Read of the doors, at least one page each; longer when a read takes long.
    pub(crate) doors: Duration,
}

impl PollIntervals {
    /// Fits Azure's limits (100 job operations and 20 queries a minute) with room for another
    /// client.
    pub(crate) const REMOTE: Self = Self {
        tick: Duration::from_secs(1),
        far: Duration::from_secs(5),
        doors: Duration::from_secs(5),
    };
}

/// A job that is over, with its doors sorted by name.
#[derive(Debug)]
pub(crate) struct FinishedJob {
    pub(crate) job: JobResponse,
    pub(crate) rows: Vec<OutcomeRow>,
}

/// The doors of a job, sorted by name.
pub(crate) async fn rows(
    hub: &HubClient,
    job: &JobResponse,
    wanted: JobGoal,
) -> Result<Vec<OutcomeRow>, ClientError> {
    let records = hub.device_jobs(&job.job_id).await?;
    let goal = wanted.of_answers(job);
    let mut rows: Vec<OutcomeRow> = records
        .iter()
        .map(|record| OutcomeRow::new(record, goal))
        .collect();
    rows.sort_by(|a, b| a.door.cmp(&b.door));
    Ok(rows)
}

/// Follows a job until it is over.
///
/// # Errors
///
/// When the hub stays unreachable, has no such job (any more), or reports a status that this
/// program does not know.
pub(crate) async fn follow(
    hub: &HubClient,
    id: &JobId,
    wanted: JobGoal,
    intervals: PollIntervals,
    view: &mut View,
) -> anyhow::Result<FinishedJob> {
    let mut doors = JobDoors::default();
    let mut job: Option<JobResponse> = None;
    let mut polled_at: Option<Instant> = None;
    let mut away_since: Option<Instant> = None;
    // Consecutive polls without a usable status.
    let mut unclear_polls = 0;
    let mut waited_for_records = 0;
    loop {
        if polled_at.is_none_or(|polled_at| {
            polled_at.elapsed() >= poll_interval(job.as_ref(), intervals, hub.now())
        }) {
            polled_at = Some(Instant::now());
            let answer = match hub.job(id).await {
                Ok(answer) => doors
                    .refresh(hub, &answer, wanted, intervals)
                    .await
                    .map(|()| answer),
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => {
                    away_since = None;
                    unclear_polls = match answer.status {
                        JobStatus::Unknown => unclear_polls + 1,
                        _ => 0,
                    };
                    if unclear_polls >= GRACE_POLLS {
                        return Err(unknown_status_error(&answer).into());
                    }
                    job = Some(answer);
                }
                Err(error) if error.code() == Some(ErrorCode::JobNotFound) => {
                    unclear_polls += 1;
                    if unclear_polls >= GRACE_POLLS {
                        return Err(job_missing_error(id, job.as_ref()).into());
                    }
                }
                Err(error) if error.is_transient() => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > MAX_HUB_ABSENCE {
                        return Err(error.into());
                    }
                    view.show_error(&error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(answer) = &job {
            view.show(answer, &doors.rows, wanted.of_answers(answer), hub.now());
            if answer.status.is_over() && away_since.is_none() && unclear_polls == 0 {
                // Azure's queries lag behind its jobs.
                if !doors.lag_behind(answer) || waited_for_records >= GRACE_POLLS {
                    view.finish();
                    return Ok(FinishedJob {
                        job: answer.clone(),
                        rows: doors.rows,
                    });
                }
                waited_for_records += 1;
            }
        }
        tokio::time::sleep(intervals.tick).await;
    }
}

/// Polls a job until it is over, at most until `ends_at`. The hub may be away for a while.
pub(super) async fn until_over(
    job: &mut JobResponse,
    ends_at: Option<tokio::time::Instant>,
    hub: &HubClient,
) -> Result<(), ClientError> {
    let mut away_since: Option<Instant> = None;
    let mut wait = PollIntervals::REMOTE.tick / 4;
    while !job.status.is_over() && ends_at.is_none_or(|at| tokio::time::Instant::now() < at) {
        tokio::time::sleep(wait).await;
        wait = PollIntervals::REMOTE.tick.min(wait * 2);
        match hub.job(&job.job_id).await {
            Ok(read) => {
                *job = read;
                away_since = None;
            }
            Err(error) if error.is_transient() => {
                if away_since.get_or_insert_with(Instant::now).elapsed() > MAX_HUB_ABSENCE {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The error for a job that the hub does not have; `seen` is its last known state.
fn job_missing_error(id: &JobId, seen: Option<&JobResponse>) -> Failure {
    match seen {
        Some(seen) => Failure::new(format!(
            "job {id} no longer exists on the hub; its last status was {}",
            seen.status
        ))
        .next("check the doors: doorctl status"),
        None => Failure::new(format!("the hub has no job `{id}`")).next("doorctl jobs list"),
    }
}

/// The error for a job with an unknown status, which may or may not be final.
fn unknown_status_error(job: &JobResponse) -> Failure {
    let id = &job.job_id;
    let why = job.status_message.as_deref().unwrap_or_default();
    Failure::new(format!(
        "job {id} has a status that this doorctl does not know: {}; it may still be running",
        printable(why)
    ))
    .next(format!(
        "check again: doorctl jobs show {id}; or update doorctl"
    ))
}

/// The doors as last read.
#[derive(Default)]
struct JobDoors {
    rows: Vec<OutcomeRow>,
    last_read: Option<Instant>,
    reads: u32,
    read_time: Duration,
    counts: Option<DeviceJobStatistics>,
}

impl JobDoors {
    /// Re-reads the doors when a read is due and the counts have changed, and always at the end.
    async fn refresh(
        &mut self,
        hub: &HubClient,
        job: &JobResponse,
        wanted: JobGoal,
        intervals: PollIntervals,
    ) -> Result<(), ClientError> {
        let waited = self.last_read.map(|last_read| last_read.elapsed());
        // Many doors are many pages: spend at most a fifth of the time on reading them.
        let due = self.reads < EARLY_READS
            || waited.is_none_or(|waited| waited >= intervals.doors.max(self.read_time * 4));
        let counts_changed =
            job.device_job_statistics.is_none() || job.device_job_statistics != self.counts;
        if job.status.is_over() || (job.status == JobStatus::Running && due && counts_changed) {
            let started_at = Instant::now();
            self.rows = rows(hub, job, wanted).await?;
            self.read_time = started_at.elapsed();
            self.last_read = Some(started_at);
            self.reads += 1;
            self.counts = job.device_job_statistics;
        }
        Ok(())
    }

    /// Whether the hub counts more doors than it returned records for.
    fn lag_behind(&self, job: &JobResponse) -> bool {
        let counts = job.device_job_statistics.unwrap_or_default();
        counts.device_count > self.rows.len() as u64
    }
}

fn poll_interval(job: Option<&JobResponse>, intervals: PollIntervals, now: Timestamp) -> Duration {
    let start = job.and_then(|job| job.start_time);
    let left = start.map(|start| start.duration_since(now).unsigned_abs());
    match (job.map(|job| job.status), left) {
        (Some(JobStatus::Scheduled | JobStatus::Queued), Some(left)) if left > NEAR_START => {
            intervals.far
        }
        // Polled at every tick.
        _ => Duration::ZERO,
    }
}
