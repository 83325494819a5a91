//! Asking after a job until it is over.

use std::time::{Duration, Instant};

use doorctl::{ClientError, HubClient};
use iothub_protocol::JobId;
use iothub_protocol::job::{DeviceJobStatistics, JobResponse, JobStatus};
use jiff::Timestamp;

use super::view::View;
use crate::outcome::{OutcomeRow, Wanted};

/// How long a hub may be away before following is given up: long enough to start it again.
const PATIENCE: Duration = Duration::from_secs(120);

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
    /// What Azure's limits allow (100 job operations and 20 queries a minute), shared with somebody else.
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
    wanted: Wanted,
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
pub(crate) async fn follow(
    hub: &HubClient,
    id: &JobId,
    wanted: Wanted,
    pace: Pace,
    view: &mut View,
) -> Result<Ended, ClientError> {
    let mut doors = Doors::default();
    let mut job: Option<JobResponse> = None;
    let mut asked: Option<Instant> = None;
    let mut away_since: Option<Instant> = None;
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
                    job = Some(answer);
                }
                Err(error) if passes(&error) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return Err(error);
                    }
                    view.trouble(&error);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(answer) = &job {
            view.show(answer, &doors.rows, wanted, hub.now());
            if answer.status.is_over() && away_since.is_none() {
                view.finish();
                return Ok(Ended {
                    job: answer.clone(),
                    rows: doors.rows,
                });
            }
        }
        tokio::time::sleep(pace.tick).await;
    }
}

/// The doors as last read.
#[derive(Default)]
struct Doors {
    rows: Vec<OutcomeRow>,
    read: Option<Instant>,
    took: Duration,
    at: Option<DeviceJobStatistics>,
}

impl Doors {
    /// Reads the doors again when they are due and something has changed, and always at the end.
    async fn refresh(
        &mut self,
        hub: &HubClient,
        job: &JobResponse,
        wanted: Wanted,
        pace: Pace,
    ) -> Result<(), ClientError> {
        let waited = self.read.map(|read| read.elapsed());
        // Many doors are many pages: reading them is to be a small part of the time.
        let due = waited.is_none_or(|waited| waited >= pace.doors.max(self.took * 4));
        let moved = job.device_job_statistics.is_none() || job.device_job_statistics != self.at;
        if job.status.is_over() || (job.status == JobStatus::Running && due && moved) {
            let begun = Instant::now();
            self.rows = rows(hub, &job.job_id, wanted).await?;
            self.took = begun.elapsed();
            self.read = Some(begun);
            self.at = job.device_job_statistics;
        }
        Ok(())
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
