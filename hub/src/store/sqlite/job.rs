//! Jobs: action, schedule and progress.

use std::sync::Arc;
use std::time::Duration;

use iothub_protocol::id::{JobId, PolicyName};
use iothub_protocol::job::{JobStatus, JobType};
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use super::query::RowReader;
use super::{
    JobCancel, JobCounts, JobInsert, JobRecord, NewJob, Page, RowPosition, Store, StoreError,
    damage, policy, signed, time_text, unsigned,
};
use crate::store::job::{
    ACTIVE, ACTIVE_BOUNDED, ACTIVE_OF_ONE, ALWAYS_KEPT, DEVICE_BYTES, ENDED_OF_ONE,
};
use crate::types::{CancelMode, JobAuthor, JobFilter, Scope};

const COLUMNS: &str = "id, job_id, type, status, action, query_condition, created, start, ended, \
                       max_execution_s, failure_reason, stopped, \
    device_count, pending_count, running_count, succeeded_count, failed_count";

/// Jobs that have not ended.
const IS_ACTIVE: &str = "status IN ('queued', 'scheduled', 'running')";

fn record(row: &Row<'_>) -> Result<JobRecord, StoreError> {
    Ok(JobRecord {
        row: row.get("id")?,
        job_id: row
            .get::<_, String>("job_id")?
            .parse()
            .map_err(|error| StoreError::corrupt("job id", error))?,
        kind: stored_kind(row)?,
        status: row
            .get::<_, String>("status")?
            .parse()
            .map_err(|error| StoreError::corrupt("job status", error))?,
        action: row.get("action")?,
        query_condition: row.get("query_condition")?,
        created: stored_time(&row.get::<_, String>("created")?)?,
        start: stored_time(&row.get::<_, String>("start")?)?,
        ended: row
            .get::<_, Option<String>>("ended")?
            .as_deref()
            .map(stored_time)
            .transpose()?,
        max_execution: Duration::from_secs(unsigned(row, "max_execution_s")?),
        failure_reason: row.get("failure_reason")?,
        stopped: row.get("stopped")?,
        counts: JobCounts {
            devices: unsigned(row, "device_count")?,
            pending: unsigned(row, "pending_count")?,
            running: unsigned(row, "running_count")?,
            succeeded: unsigned(row, "succeeded_count")?,
            failed: unsigned(row, "failed_count")?,
        },
    })
}

pub(super) fn stored_kind(row: &Row<'_>) -> Result<JobType, StoreError> {
    let kind: String = row.get("type")?;
    let kind = kind.parse();
    kind.map_err(|error| StoreError::corrupt("job type", error))
}

fn stored_time(text: &str) -> Result<Timestamp, StoreError> {
    text.parse()
        .map_err(|error: jiff::Error| StoreError::corrupt("time", error))
}

fn all(
    connection: &Connection,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<Vec<JobRecord>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(parameters))?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        jobs.extend(damage::skip_damaged(
            "a job",
            || damage::text(row, "job_id"),
            record(row),
        )?);
    }
    Ok(jobs)
}

/// The job, if it exists within `scope`.
fn by_id(
    connection: &Connection,
    job: &JobId,
    scope: Option<&Scope>,
) -> Result<Option<JobRecord>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM job WHERE job_id = ?1 AND (?2 IS NULL OR policy = ?2)");
    let mut statement = connection.prepare_cached(&sql)?;
    let policy = scope.map(|scope| scope.policy.as_str());
    let mut rows = statement.query(params![job.as_ref(), policy])?;
    rows.next()?.map(record).transpose()
}

/// Fails the waiting jobs of a removed policy, and hides the others from a later policy of that
/// name.
pub(super) fn detach(connection: &Connection, policy: &str) -> Result<(), StoreError> {
    let reason = format!(
        "PolicyRemoved: the policy `{policy}`, which created this job, was removed; create the job \
         again under another policy."
    );
    connection.execute(
        "UPDATE job SET status = 'failed', failure_reason = ?2, ended = ?3 \
         WHERE policy = ?1 AND status IN ('queued', 'scheduled')",
        [policy, &reason, &time_text(Timestamp::now())],
    )?;
    // No policy can have a name with a space.
    connection.execute(
        "UPDATE job SET policy = policy || ' (removed)' WHERE policy = ?1",
        [policy],
    )?;
    Ok(())
}

/// Why there is no room for another job of `author`.
fn refusal(
    connection: &Connection,
    author: Option<&JobAuthor>,
) -> Result<Option<JobInsert>, StoreError> {
    let policy = author.map_or("", |author| author.policy.as_str());
    let sql = format!(
        "SELECT count(*), count(bounds), count(*) FILTER (WHERE policy = ?1), \
         (SELECT count(*) FROM policy WHERE name = ?1) FROM job WHERE {IS_ACTIVE}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let counts = statement.query_row([policy], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?))
    })?;
    let (all, bounded, own, policies): (i64, i64, i64, i64) = counts;
    let is_bounded = author.is_some_and(|author| author.bounds.is_some());
    Ok(match () {
        () if author.is_some() && policies == 0 => Some(JobInsert::PolicyRemoved),
        () if all >= ACTIVE => Some(JobInsert::TooMany(ACTIVE, "of this hub")),
        () if is_bounded && own >= ACTIVE_OF_ONE => Some(JobInsert::TooMany(
            ACTIVE_OF_ONE,
            "of this policy with bounds",
        )),
        () if is_bounded && bounded >= ACTIVE_BOUNDED => Some(JobInsert::TooMany(
            ACTIVE_BOUNDED,
            "of all policies with bounds",
        )),
        () => None,
    })
}

/// Deletes the oldest ended jobs of a policy beyond [`ENDED_OF_ONE`], a few per call.
fn trim(connection: &Connection, policy: &str) -> Result<(), StoreError> {
    let sql = format!(
        "DELETE FROM job WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER newest AS jobs, \
         sum(device_count * {DEVICE_BYTES} + octet_length(action) + octet_length(query_condition)) \
         OVER newest AS bytes FROM job WHERE policy = ?1 AND NOT ({IS_ACTIVE}) \
         WINDOW newest AS (ORDER BY id DESC)) \
         WHERE jobs > ?2 OR (jobs > {ALWAYS_KEPT} AND bytes > ?3) ORDER BY id LIMIT 2)"
    );
    let (jobs, bytes) = ENDED_OF_ONE;
    connection
        .prepare_cached(&sql)?
        .execute(params![policy, jobs, bytes])?;
    Ok(())
}

/// Fails a job that has not started.
pub(super) fn fail(
    connection: &Connection,
    row: i64,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE job SET status = 'failed', failure_reason = ?2, ended = ?3 \
             WHERE id = ?1 AND status IN ('queued', 'scheduled')",
        )?
        .execute(params![row, reason, time_text(now)])?;
    Ok(())
}

impl Store {
    /// Stores a new job as `queued`.
    pub(crate) async fn job_insert(&self, job: NewJob) -> Result<JobInsert, StoreError> {
        self.write(1, move |write| {
            let author = job.author.as_ref();
            let bounds = author.and_then(|author| author.bounds.as_ref());
            let bounds = policy::bounds_text(bounds)?;
            if by_id(write.connection, &job.job_id, None)?.is_some() {
                return Ok(JobInsert::Exists);
            }
            if let Some(refused) = refusal(write.connection, author)? {
                return Ok(refused);
            }
            write
                .connection
                .prepare_cached(
                    "INSERT INTO job (job_id, type, status, action, query_condition, created, \
                     start, max_execution_s, policy, bounds) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    job.job_id.as_ref(),
                    job.kind.as_str(),
                    JobStatus::Queued.as_str(),
                    job.action,
                    job.query_condition,
                    time_text(job.created),
                    time_text(job.start),
                    signed(job.max_execution.as_secs()),
                    author.map(|author| author.policy.as_str()),
                    bounds,
                ])?;
            if let Some(author) = author.filter(|author| author.bounds.is_some()) {
                trim(write.connection, author.policy.as_str())?;
            }
            Ok(JobInsert::Done)
        })
        .await
    }

    pub(crate) async fn job_get(
        &self,
        job: &JobId,
        scope: Option<Arc<Scope>>,
    ) -> Result<Option<JobRecord>, StoreError> {
        let job = job.clone();
        self.read(move |connection| by_id(connection, &job, scope.as_deref()))
            .await
    }

    /// Up to `limit` jobs older than the row `before`, newest first.
    pub(crate) async fn job_list(
        &self,
        filter: JobFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<JobRecord>, StoreError> {
        self.scan(move |connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM job WHERE id < ?1 AND (?2 IS NULL OR type = ?2) AND (?3 IS \
                 NULL OR status = ?3) AND (?4 IS NULL OR policy = ?4) \
                 ORDER BY id DESC LIMIT ?5"
            );
            let text = |text: &str| Value::from(text.to_owned());
            let parameters = vec![
                before.unwrap_or(i64::MAX).into(),
                filter.kind.map_or(Value::Null, |kind| text(kind.as_str())),
                filter
                    .status
                    .map_or(Value::Null, |status| text(status.as_str())),
                filter
                    .policy
                    .map_or(Value::Null, |policy| text(policy.as_str())),
                i64::from(limit.saturating_add(1)).into(),
            ];
            let rows = RowReader {
                what: "a job",
                name: |row| damage::text(row, "job_id"),
                record,
                position: |row| Ok(RowPosition(row.get("id")?, 0)),
            };
            rows.select(connection, &sql, parameters, limit)
        })
        .await
    }

    /// The unfinished jobs, oldest first; without their actions, which may be long and are loaded
    /// when needed.
    pub(crate) async fn job_active(&self) -> Result<Vec<JobRecord>, StoreError> {
        self.read(|connection| {
            let columns = COLUMNS.replace(" action,", " '' AS action,");
            all(
                connection,
                &format!("SELECT {columns} FROM job WHERE {IS_ACTIVE} ORDER BY id"),
                Vec::new(),
            )
        })
        .await
    }

    /// The unfinished jobs that a policy created, oldest first.
    pub(crate) async fn job_active_of(&self, policy: PolicyName) -> Result<Vec<JobId>, StoreError> {
        self.read(move |connection| {
            let sql =
                format!("SELECT job_id FROM job WHERE {IS_ACTIVE} AND policy = ?1 ORDER BY id");
            let mut statement = connection.prepare_cached(&sql)?;
            let ids = statement.query_map([policy.as_str()], |row| row.get::<_, String>(0))?;
            // A damaged id names no job.
            Ok(ids.flatten().filter_map(|id| id.parse().ok()).collect())
        })
        .await
    }

    /// The action of a job; empty if the job is gone.
    pub(crate) async fn job_action(&self, row: i64) -> Result<String, StoreError> {
        self.read(move |connection| {
            let action = connection
                .prepare_cached("SELECT action FROM job WHERE id = ?1")?
                .query_row([row], |row| row.get(0))
                .optional()?;
            Ok(action.unwrap_or_default())
        })
        .await
    }

    /// The number of unfinished jobs by status.
    pub(crate) async fn job_statistics(&self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        self.read(|connection| {
            let mut counts = Vec::new();
            for status in [JobStatus::Queued, JobStatus::Scheduled, JobStatus::Running] {
                let count: u64 = connection
                    .prepare_cached(&format!(
                        "SELECT count(*) AS n FROM job WHERE {IS_ACTIVE} AND status = ?1"
                    ))?
                    .query_row([status.as_str()], |row| unsigned(row, "n"))?;
                counts.push((status.as_str(), count));
            }
            Ok(counts)
        })
        .await
    }

    /// Changes `queued` to `scheduled`, unless the job has been cancelled.
    pub(crate) async fn job_schedule(&self, row: i64) -> Result<(), StoreError> {
        self.write(1, move |write| {
            write
                .connection
                .prepare_cached(
                    "UPDATE job SET status = 'scheduled' WHERE id = ?1 AND status = 'queued'",
                )?
                .execute([row])?;
            Ok(())
        })
        .await
    }

    /// Fails a job that has not started, unless it has been cancelled.
    pub(crate) async fn job_fail(
        &self,
        row: i64,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(1, move |write| fail(write.connection, row, &reason, now))
            .await
    }

    /// Cancels a job that has not started, or stops a running one.
    pub(crate) async fn job_cancel(
        &self,
        job: &JobId,
        how: CancelMode,
        scope: Option<Arc<Scope>>,
        now: Timestamp,
    ) -> Result<JobCancel, StoreError> {
        let job = job.clone();
        self.write(1, move |write| {
            let Some(mut record) = by_id(write.connection, &job, scope.as_deref())? else {
                return Ok(JobCancel::NotFound);
            };
            if how == CancelMode::Stop && record.status == JobStatus::Running {
                super::job_device::stop(write.connection, record.row, now)?;
                return Ok(by_id(write.connection, &job, None)?
                    .map_or(JobCancel::NotFound, |record| {
                        JobCancel::Done(Box::new(record))
                    }));
            }
            if !matches!(record.status, JobStatus::Queued | JobStatus::Scheduled) {
                return Ok(JobCancel::TooLate(record.status));
            }
            write
                .connection
                .prepare_cached("UPDATE job SET status = 'cancelled', ended = ?2 WHERE id = ?1")?
                .execute(params![record.row, time_text(now)])?;
            record.status = JobStatus::Cancelled;
            record.ended = Some(now);
            Ok(JobCancel::Done(Box::new(record)))
        })
        .await
    }

    /// Deletes jobs that ended before `time`, with their rows; a few per call.
    pub(crate) async fn job_expire(&self, time: Timestamp) -> Result<usize, StoreError> {
        self.write(1, move |write| {
            let sql = format!(
                "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE ended < ?1 AND NOT \
                 ({IS_ACTIVE}) ORDER BY id LIMIT 4)"
            );
            Ok(write
                .connection
                .prepare_cached(&sql)?
                .execute([time_text(time)])?)
        })
        .await
    }
}
