//! Polls a job until it is over.

use std::time::{Duration, Instant};

use doorctl::{ClientError, HubClient};
use iothub_protocol::job::{DeviceJobStatistics, JobResponse, JobStatus};
use iothub_protocol::{ErrorCode, JobId};
use jiff::Timestamp;

use super::view::View;
use crate::failure::Failure;
use crate::outcome::{JobGoal, OutcomeRow};
use crate::printer::printable;

/// How long the hub may be unreachable before following gives up: long enough for a restart.
const PATIENCE: Duration = Duration::from_secs(120);

/// Consecutive polls that are granted to something that may still appear: a new job, a status that
/// this program knows, the last device records.
pub(super) const FEW_POLLS: u32 = 5;

/// First reads of the doors that do not wait for [`Pace::doors`], so that missing doors show early.
const EARLY_READS: u32 = 3;

/// A job that starts later than this is polled less often.
const SOON: Duration = Duration::from_secs(15);

/// Poll intervals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Redraw of the view, and poll of a job that runs or is about to.
    pub(crate) tick: Duration,
    /// Poll of a job whose start is further away than [`SOON`].
    pub(crate) far: Duration,
    /// Read of the doors, at least one page each; longer when a read takes long.
    pub(crate) doors: Duration,
}

impl Pace {
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
pub(crate) struct Ended {
    pub(crate) job: JobResponse,
    pub(crate) rows: Vec<OutcomeRow>,
}

/// The doors of a job, sorted by name.
pub(crate) async fn rows(
    hub: &HubClient,
    id: &JobId,
    wanted: JobGoal,
) -> Result<Vec<OutcomeRow>, ClientError> {
    let records = hub.device_jobs(id).await?;
    let mut rows: Vec<OutcomeRow> = records
        .iter()
        .map(|record| OutcomeRow::new(record, wanted))
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
    pace: Pace,
    view: &mut View,
) -> anyhow::Result<Ended> {
    let mut doors = Doors::default();
    let mut job: Option<JobResponse> = None;
    let mut asked: Option<Instant> = None;
    let mut away_since: Option<Instant> = None;
    // Consecutive polls without a usable status.
    let mut in_doubt = 0;
    let mut waited_for_records = 0;
    loop {
        if asked.is_none_or(|asked| asked.elapsed() >= between(job.as_ref(), pace, hub.now())) {
            asked = Some(Instant::now());
            let answer = match hub.job(id).await {
                Ok(answer) => doors
                    .refresh(hub, &answer, wanted, pace)
                    .await
                    .map(|()| answer),
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => {
                    away_since = None;
                    in_doubt = match answer.status {
                        JobStatus::Unknown => in_doubt + 1,
                        _ => 0,
                    };
                    if in_doubt >= FEW_POLLS {
                        return Err(strange(&answer).into());
                    }
                    job = Some(answer);
                }
                Err(error) if error.code() == Some(ErrorCode::JobNotFound) => {
                    in_doubt += 1;
                    if in_doubt >= FEW_POLLS {
                        return Err(gone(id, job.as_ref()).into());
                    }
                }
                Err(error) if passes(&error) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return Err(error.into());
                    }
                    view.trouble(&error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(answer) = &job {
            view.show(answer, &doors.rows, wanted, hub.now());
            if answer.status.is_over() && away_since.is_none() && in_doubt == 0 {
                // Azure's queries lag behind its jobs.
                if !doors.are_behind(answer) || waited_for_records >= FEW_POLLS {
                    view.finish();
                    return Ok(Ended {
                        job: answer.clone(),
                        rows: doors.rows,
                    });
                }
                waited_for_records += 1;
            }
        }
        tokio::time::sleep(pace.tick).await;
    }
}

/// The error for a job that the hub does not have; `seen` is its last known state.
fn gone(id: &JobId, seen: Option<&JobResponse>) -> Failure {
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
fn strange(job: &JobResponse) -> Failure {
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
struct Doors {
    rows: Vec<OutcomeRow>,
    read: Option<Instant>,
    reads: u32,
    took: Duration,
    at: Option<DeviceJobStatistics>,
}

impl Doors {
    /// Re-reads the doors when a read is due and the counts have changed, and always at the end.
    async fn refresh(
        &mut self,
        hub: &HubClient,
        job: &JobResponse,
        wanted: JobGoal,
        pace: Pace,
    ) -> Result<(), ClientError> {
        let waited = self.read.map(|read| read.elapsed());
        // Many doors are many pages: spend at most a fifth of the time on reading them.
        let due = self.reads < EARLY_READS
            || waited.is_none_or(|waited| waited >= pace.doors.max(self.took * 4));
        let moved = job.device_job_statistics.is_none() || job.device_job_statistics != self.at;
        if job.status.is_over() || (job.status == JobStatus::Running && due && moved) {
            let begun = Instant::now();
            self.rows = rows(hub, &job.job_id, wanted).await?;
            self.took = begun.elapsed();
            self.read = Some(begun);
            self.reads += 1;
            self.at = job.device_job_statistics;
        }
        Ok(())
    }

    /// Whether the hub counts more doors than it returned records for.
    fn are_behind(&self, job: &JobResponse) -> bool {
        let counts = job.device_job_statistics.unwrap_or_default();
        counts.device_count > self.rows.len() as u64
    }
}

fn between(job: Option<&JobResponse>, pace: Pace, now: Timestamp) -> Duration {
    let start = job.and_then(|job| job.start_time);
    let left = start.map(|start| start.duration_since(now).unsigned_abs());
    match (job.map(|job| job.status), left) {
        (Some(JobStatus::Scheduled | JobStatus::Queued), Some(left)) if left > SOON => pace.far,
        // Polled at every tick.
        _ => Duration::ZERO,
    }
}

/// Whether the error may go away by itself soon.
pub(crate) fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::TimedOut { .. } => true,
        _ => matches!(error.status(), Some(429 | 500..=599)),
    }
}
