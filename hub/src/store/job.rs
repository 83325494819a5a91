//! Jobs: action, schedule and progress.

use std::time::Duration;

use iothub_protocol::id::JobId;
use iothub_protocol::job::{JobStatus, JobType};
use iothub_protocol::query::Condition;
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use super::damage::{self, DAMAGED, RowRead};
use super::query::{Compiled, RowReader, compile_condition, find_each};
use super::{Page, RowPosition, Store, StoreError, signed, time_text, unsigned};
use crate::types::CancelMode;

/// Maximum number of unfinished jobs. The runner visits each of them at every step.
const ACTIVE: u64 = 1000;

/// A job to store.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    pub(crate) job_id: JobId,
    pub(crate) kind: JobType,
    /// `cloudToDeviceMethod` or `updateTwin`, as the client wrote it.
    pub(crate) action: String,
    pub(crate) query_condition: String,
    pub(crate) created: Timestamp,
    pub(crate) start: Timestamp,
    pub(crate) max_execution: Duration,
}

/// The result of inserting a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobInsert {
    Done,
    /// A job with that id exists.
    Exists,
    /// Too many jobs are unfinished.
    TooMany,
}

/// The result of cancelling a job.
#[derive(Debug)]
pub(crate) enum JobCancel {
    /// It is cancelled, or stopping.
    Done(Box<JobRecord>),
    /// The job is running or has ended.
    TooLate(JobStatus),
    NotFound,
}

/// A stored job.
#[derive(Debug, Clone)]
pub(crate) struct JobRecord {
    /// Row id; reflects the order of creation.
    pub(crate) row: i64,
    pub(crate) job_id: JobId,
    pub(crate) kind: JobType,
    pub(crate) status: JobStatus,
    pub(crate) action: String,
    pub(crate) query_condition: String,
    pub(crate) created: Timestamp,
    pub(crate) start: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) max_execution: Duration,
    pub(crate) failure_reason: Option<String>,
    /// Nothing more is sent; the job ends when the pending calls have ended.
    pub(crate) stopped: bool,
    pub(crate) counts: JobCounts,
}

/// The number of devices in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct JobCounts {
    pub(crate) devices: u64,
    pub(crate) pending: u64,
    pub(crate) running: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

/// Filters of a job list.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobFilter {
    pub(crate) kind: Option<JobType>,
    pub(crate) status: Option<JobStatus>,
}

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
        kind: row
            .get::<_, String>("type")?
            .parse()
            .map_err(|error| StoreError::corrupt("job type", error))?,
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

fn by_id(connection: &Connection, job: &JobId) -> Result<Option<JobRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM job WHERE job_id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([job.as_ref()])?;
    rows.next()?.map(record).transpose()
}

/// Inserts a row for each device that matches the condition. Returns their number.
fn insert_found(
    connection: &Connection,
    job: i64,
    condition: &Compiled,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let sql = format!(
        "INSERT INTO device_job (job, ordinal, device_id, device, status, created, updated) \
         SELECT {job}, row_number() OVER (ORDER BY device.id) - 1, device.device_id, device.id, \
         'pending', '{now}', '{now}' \
         FROM device JOIN twin ON twin.id = device.id WHERE {condition}",
        now = time_text(now),
        condition = condition.sql,
    );
    let mut statement = connection.prepare(&sql)?;
    Ok(statement.execute(params_from_iter(&condition.parameters))? as u64)
}

/// A device that matches a condition, or that is damaged, so that it is unknown whether it does:
/// row id, name, and whether it is readable.
type MatchedDevice = (i64, String, bool);

/// Evaluates the condition device by device.
fn match_one_by_one(
    connection: &Connection,
    condition: &Compiled,
) -> Result<Vec<MatchedDevice>, StoreError> {
    let mut devices = Vec::new();
    find_each(connection, "1", condition, |id, one| {
        match one {
            RowRead::NoMatch => {}
            RowRead::Row(name) => devices.push((id, name, true)),
            RowRead::Damaged(_) => devices.push((id, damage::device_name(connection, id), false)),
        }
        Ok(())
    })?;
    Ok(devices)
}

/// Inserts a row for each device. A damaged device is part of the job as failed: nothing is sent to
/// it, and the job does not report complete success. Returns the number of readable and of damaged
/// devices.
fn insert_each(
    connection: &Connection,
    job: i64,
    devices: &[MatchedDevice],
    now: Timestamp,
) -> Result<(u64, u64), StoreError> {
    let now = time_text(now);
    let mut insert = connection.prepare(
        "INSERT INTO device_job (job, ordinal, device_id, device, status, created, updated, ended, \
         error_code, error_description) \
         VALUES (?1, ?2, ?3, ?4, iif(?6 IS NULL, 'pending', 'failed'), ?5, ?5, iif(?6 IS NULL, \
         NULL, ?5), ?6, ?7)",
    )?;
    let (mut found, mut damaged) = (0, 0);
    for (id, name, is_sound) in devices {
        let ordinal = signed(found + damaged);
        let error = if *is_sound {
            found += 1;
            None
        } else {
            damaged += 1;
            Some(DAMAGED)
        };
        let (code, description) = error.unzip();
        insert.execute(params![job, ordinal, name, id, now, code, description])?;
    }
    Ok((found, damaged))
}

impl Store {
    /// Stores a new job as `queued`.
    pub(crate) async fn job_insert(&self, job: NewJob) -> Result<JobInsert, StoreError> {
        self.write(1, move |write| {
            let active: u64 = write
                .connection
                .prepare_cached(&format!("SELECT count(*) AS n FROM job WHERE {IS_ACTIVE}"))?
                .query_row([], |row| unsigned(row, "n"))?;
            if by_id(write.connection, &job.job_id)?.is_some() {
                return Ok(JobInsert::Exists);
            }
            if active >= ACTIVE {
                return Ok(JobInsert::TooMany);
            }
            write
                .connection
                .prepare_cached(
                    "INSERT INTO job (job_id, type, status, action, query_condition, created, \
                     start, max_execution_s) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
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
                ])?;
            Ok(JobInsert::Done)
        })
        .await
    }

    pub(crate) async fn job_get(&self, job: &JobId) -> Result<Option<JobRecord>, StoreError> {
        let job = job.clone();
        self.read(move |connection| by_id(connection, &job)).await
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
                 NULL OR status = ?3) \
                 ORDER BY id DESC LIMIT ?4"
            );
            let text = |text: &str| Value::from(text.to_owned());
            let parameters = vec![
                before.unwrap_or(i64::MAX).into(),
                filter.kind.map_or(Value::Null, |kind| text(kind.as_str())),
                filter
                    .status
                    .map_or(Value::Null, |status| text(status.as_str())),
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
        self.write(1, move |write| {
            write
                .connection
                .prepare_cached(
                    "UPDATE job SET status = 'failed', failure_reason = ?2, ended = ?3 \
                     WHERE id = ?1 AND status IN ('queued', 'scheduled')",
                )?
                .execute(params![row, reason, time_text(now)])?;
            Ok(())
        })
        .await
    }

    /// Evaluates the condition, inserts a row for each matching device, and sets the job to
    /// `running`, in one transaction: the set of devices is fixed at the start. Returns their
    /// number; `None` if the job has been cancelled.
    pub(crate) async fn job_start(
        &self,
        row: i64,
        condition: Option<Condition>,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let whole = self.job_start_on(row, condition.clone(), None, now).await;
        if !whole.as_ref().is_err_and(StoreError::is_row_error) {
            return whole;
        }
        // A transaction that hits damage accepts no further writes, so the devices are read outside
        // the writer.
        let each = condition.clone();
        let found = self.scan(move |connection| {
            match_one_by_one(connection, &compile_condition(each.as_ref()))
        });
        let found = Some(found.await?);
        self.job_start_on(row, condition, found, now).await
    }

    /// Starts a job on all devices that match the condition, or on `devices`.
    async fn job_start_on(
        &self,
        row: i64,
        condition: Option<Condition>,
        devices: Option<Vec<MatchedDevice>>,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        self.write(1, move |write| {
            let waits = write
                .connection
                .prepare_cached(
                    "SELECT 1 FROM job WHERE id = ?1 AND status IN ('queued', \
                                 'scheduled')",
                )?
                .exists([row])?;
            if !waits {
                return Ok(None);
            }
            let compiled = compile_condition(condition.as_ref());
            let (found, damaged) = match &devices {
                None => (insert_found(write.connection, row, &compiled, now)?, 0),
                Some(devices) => insert_each(write.connection, row, devices, now)?,
            };
            write
                .connection
                .prepare_cached(
                    "UPDATE job SET status = 'running', device_count = ?2 + ?3, pending_count = \
                     ?2, failed_count = ?3 WHERE id = ?1",
                )?
                .execute([row, signed(found), signed(damaged)])?;
            Ok(Some(found + damaged))
        })
        .await
    }

    /// Cancels a job that has not started, or stops a running one.
    pub(crate) async fn job_cancel(
        &self,
        job: &JobId,
        how: CancelMode,
        now: Timestamp,
    ) -> Result<JobCancel, StoreError> {
        let job = job.clone();
        self.write(1, move |write| {
            let Some(mut record) = by_id(write.connection, &job)? else {
                return Ok(JobCancel::NotFound);
            };
            if how == CancelMode::Stop && record.status == JobStatus::Running {
                super::job_device::stop(write.connection, record.row, now)?;
                return Ok(
                    by_id(write.connection, &job)?.map_or(JobCancel::NotFound, |record| {
                        JobCancel::Done(Box::new(record))
                    }),
                );
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
