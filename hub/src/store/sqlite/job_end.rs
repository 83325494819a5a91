//! The end of jobs, and the outcome of devices that are unfinished then.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params};

use super::{Store, StoreError, log_skipped, time_text};

impl Store {
    /// Ends a running job. Unfinished devices fail: `pending` ones with `not_started`, `running`
    /// ones with `unanswered`.
    pub(crate) async fn job_complete(
        &self,
        job: i64,
        not_started: (&'static str, &'static str),
        unanswered: (&'static str, &'static str),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(1, move |write| {
            let now = time_text(now);
            // The counts change with the rows: without open ones, none need be read.
            let has_open: bool = write
                .connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM job WHERE id = ?1 AND pending_count + running_count > 0)")?
                .query_row([job], |row| row.get(0))?;
            if has_open {
                fail_all(write.connection, Some(job), "pending", not_started, &now)?;
                fail_all(write.connection, Some(job), "running", unanswered, &now)?;
                recount(write.connection, Some(job))?;
            }
            write
                .connection
                .prepare_cached(
                    "UPDATE job SET status = iif(stopped, 'cancelled', 'completed'), \
                                 ended = ?2 WHERE id = ?1 AND status = 'running'",
                )?
                .execute(params![job, now])?;
            Ok(())
        })
        .await
    }

    /// Fails the devices of all jobs that a previous run of the hub has called without an answer.
    /// Returns their number.
    pub(crate) async fn device_job_recover(
        &self,
        unknown: (&'static str, &'static str),
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.write(1, move |write| {
            let failed: Result<usize, StoreError> = write.isolated(|write| {
                let failed = fail_all(write.connection, None, "running", unknown, &time_text(now))?;
                recount(write.connection, None)?;
                Ok(failed)
            });
            match failed {
                // The hub starts anyway; each affected job then fails on its own.
                Err(error) if error.is_row_error() && !write.connection.is_autocommit() => {
                    log_skipped("the calls of the previous run", "of all jobs", &error);
                    Ok(0)
                }
                other => other,
            }
        })
        .await
    }

    /// Ends a running job as `failed` with `reason`. Unfinished devices fail: `pending` ones with
    /// `not_started`, `running` ones with `unknown`. If the rows of the devices cannot be written,
    /// the job ends anyway and they stay as they are.
    pub(crate) async fn job_abandon(
        &self,
        job: i64,
        reason: String,
        not_started: (&'static str, &'static str),
        unknown: (&'static str, &'static str),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(1, move |write| {
            let now = time_text(now);
            let rows = write.isolated(|write| {
                fail_all(write.connection, Some(job), "pending", not_started, &now)?;
                fail_all(write.connection, Some(job), "running", unknown, &now)?;
                recount(write.connection, Some(job))
            });
            if let Err(error) = rows {
                if !error.is_permanent() || write.connection.is_autocommit() {
                    return Err(error);
                }
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    job,
                    error,
                    "cannot write the outcomes of the devices of an abandoned job"
                );
            }
            write
                .connection
                .prepare_cached(
                    "UPDATE job SET status = 'failed', failure_reason = ?2, ended = ?3 \
                                 WHERE id = ?1 AND status = 'running'",
                )?
                .execute(params![job, reason, now])?;
            Ok(())
        })
        .await
    }
}

/// Fails all rows with one status, of one job or of all running ones.
fn fail_all(
    connection: &Connection,
    job: Option<i64>,
    status: &str,
    (code, description): (&str, &str),
    now: &str,
) -> Result<usize, StoreError> {
    let sql = "UPDATE device_job SET status = 'failed', error_code = ?3, error_description = ?4, \
               ended = ?5, updated = ?5 \
        WHERE job IN (SELECT id FROM job WHERE status = 'running' AND (?1 IS NULL OR id = ?1)) AND \
        status = ?2";
    Ok(connection
        .prepare_cached(sql)?
        .execute(params![job, status, code, description, now])?)
}

/// Recomputes the counts of one running job, or of all.
fn recount(connection: &Connection, job: Option<i64>) -> Result<(), StoreError> {
    let count = |status: &str| {
        format!("(SELECT count(*) FROM device_job WHERE job = job.id AND status = '{status}')")
    };
    let sql = format!(
        "UPDATE job SET pending_count = {}, running_count = {}, succeeded_count = {}, failed_count \
         = {} \
         WHERE (?1 IS NULL AND status = 'running') OR id = ?1",
        count("pending"),
        count("running"),
        count("completed"),
        count("failed"),
    );
    connection
        .prepare_cached(&sql)?
        .execute([job.map_or(Value::Null, Value::from)])?;
    Ok(())
}
