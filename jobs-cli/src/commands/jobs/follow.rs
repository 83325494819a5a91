//! Asking after a job until it is over.

use std::time::{Duration, Instant};

use doorctl::{ClientError, HubClient};
use iothub_protocol::job::{DeviceJobStatistics, JobResponse, JobStatus};
use iothub_protocol::{ErrorCode, JobId};
use jiff::Timestamp;

use super::view::View;
use crate::failure::Failure;
use crate::outcome::{JobGoal, OutcomeRow};
use crate::printer::printable;

/// How long a hub may be away before following is given up: long enough to start it again.
const PATIENCE: Duration = Duration::from_secs(120);

/// Polls in a row for what may still appear: a new job, a state that this program knows, the last
/// records.
pub(super) const FEW_POLLS: u32 = 5;

/// Reads of the doors that need not wait for [`Pace::doors`]: they show early which are missing.
const EARLY_READS: u32 = 3;

/// A job that starts later than this is asked after less often.
const SOON: Duration = Duration::from_secs(15);

/// How often what is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The view is drawn, and the job asked for when it runs or is about to.
    pub(crate) tick: Duration,
    /// The job is asked for while its start is far.
    pub(crate) far: Duration,
    /// The doors are asked for, a page or more each time; longer when that takes long.
    pub(crate) doors: Duration,
}

impl Pace {
    /// What Azure's limits allow (100 job operations and 20 queries a minute), shared with somebody
    /// else.
    pub(crate) const REMOTE: Self = Self {
        tick: Duration::from_secs(1),
        far: Duration::from_secs(5),
        doors: Duration::from_secs(5),
    };
}

/// A job that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The job.
    pub(crate) job: JobResponse,
    /// Its doors, by name.
    pub(crate) rows: Vec<OutcomeRow>,
}

/// The doors of a job, by name.
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

/// Follows a job to its end.
///
/// # Errors
///
/// When the hub stays away, knows no such job (any more), or calls its status by a word that this
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
    // Polls in a row that gave no state to go by.
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

/// The error for a job that the hub does not know; `seen` is how it was before.
fn gone(id: &JobId, seen: Option<&JobResponse>) -> Failure {
    match seen {
        Some(seen) => Failure::new(format!(
            "job {id} is gone: it was {}, and the hub knows no such job any more",
            seen.status
        ))
        .next("see how the doors are: doorctl status"),
        None => Failure::new(format!("the hub has no job `{id}`")).next("doorctl jobs list"),
    }
}

/// The error for a job in a state of which it is not known whether it ends.
fn strange(job: &JobResponse) -> Failure {
    let id = &job.job_id;
    let why = job.status_message.as_deref().unwrap_or_default();
    Failure::new(format!(
        "job {id} is in a state that this doorctl does not know: {}; it may still run",
        printable(why)
    ))
    .next(format!(
        "look again: doorctl jobs show {id}; or use a newer doorctl"
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
    /// Reads the doors again when they are due and something has changed, and always at the end.
    async fn refresh(
        &mut self,
        hub: &HubClient,
        job: &JobResponse,
        wanted: JobGoal,
        pace: Pace,
    ) -> Result<(), ClientError> {
        let waited = self.read.map(|read| read.elapsed());
        // Many doors are many pages: reading them is to be a small part of the time.
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

    /// Whether the hub counts more doors than it has shown records of.
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
        // Asked at every tick.
        _ => Duration::ZERO,
    }
}

/// Whether the hub may well be back in a moment.
pub(crate) fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::TimedOut { .. } => true,
        _ => matches!(error.status(), Some(429 | 500..=599)),
    }
}
