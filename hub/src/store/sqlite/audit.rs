//! The audit record: who changed or commanded what. Rows are added, completed once, and evicted.

use std::path::Path;

use iothub_protocol::audit::{AuditEntry, AuditFilter};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Store, StoreError, damage, schema, signed};
use crate::config::AuditLimits;
use crate::types::AuditAttempt;

/// Maximum number of old rows that one new row evicts: lowered limits are reached in small steps,
/// without a long pause of the writer.
const MAX_EVICTED_ROWS: usize = 16;

const SECONDS_OF_A_DAY: i64 = 24 * 60 * 60;

impl Store {
    /// Records a call before it is executed, and evicts old rows beyond `limits`. Returns the row's
    /// id after the commit.
    pub(crate) async fn audit_begin(
        &self,
        attempt: AuditAttempt,
        at: Timestamp,
        limits: AuditLimits,
    ) -> Result<i64, StoreError> {
        self.write(1, move |write| {
            let connection = write.connection;
            connection
                .prepare_cached(
                    "INSERT INTO audit (at, policy, peer, operation, target, detail, \
                                 reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    at.as_microsecond(),
                    attempt.policy.as_ref(),
                    attempt.peer,
                    attempt.operation,
                    attempt.target,
                    attempt.detail,
                    attempt.reason
                ])?;
            let id = connection.last_insert_rowid();
            evict(
                connection,
                id.saturating_sub(signed(limits.max_rows)),
                oldest(limits, at),
            )?;
            Ok(id)
        })
        .await
    }

    /// Records the outcome of a call. Does nothing if the row has been evicted.
    pub(crate) async fn audit_end(
        &self,
        id: i64,
        status: u16,
        error: Option<String>,
    ) -> Result<(), StoreError> {
        self.write(1, move |write| {
            write
                .connection
                .prepare_cached("UPDATE audit SET status = ?2, error = ?3 WHERE id = ?1")?
                .execute(params![id, status, error])?;
            Ok(())
        })
        .await
    }

    /// Evicts rows beyond the age limit; needed while no new rows arrive.
    pub(crate) async fn audit_expire(&self, limits: AuditLimits) -> Result<(), StoreError> {
        loop {
            let evicted = self.write_bulk(MAX_EVICTED_ROWS, move |write| {
                evict(write.connection, 0, oldest(limits, Timestamp::now()))
            });
            if evicted.await? < MAX_EVICTED_ROWS {
                return Ok(());
            }
        }
    }

    /// Up to `limit` rows that match `filter`, newest first, older than the row `before`.
    pub(crate) async fn audit_list(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        self.scan(move |connection| select(connection, &filter, before, limit))
            .await
    }
}

/// The rows of a database for another process; a hub may be writing to it.
pub(crate) fn read_audit(
    path: &Path,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Vec<AuditEntry>, StoreError> {
    let connection = schema::open_reader(path)?;
    schema::check_version(&connection)?;
    select(&connection, filter, None, limit)
}

fn select(
    connection: &Connection,
    filter: &AuditFilter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<AuditEntry>, StoreError> {
    // A call for many devices has no target; its detail lists as many of them after a colon as fit.
    // The devices of a job are in its rows.
    let mut statement = connection.prepare_cached(
        "SELECT * FROM audit WHERE id < ?1 AND at >= ?2 AND (?3 IS NULL OR policy = ?3)
         AND (?4 IS NULL OR target = ?4
              OR (operation IN ('device.bulk', 'device.regenerateKeys') AND instr(' ' || substr(detail, instr(detail, ': ') + \
         2) || ' ', ' ' || ?4 || ' ') > 0)
              OR (operation IN ('job.create', 'job.cancel', 'job.stop') AND target IN (
                  SELECT job.job_id FROM device_job JOIN job ON job.id = device_job.job WHERE \
         device_job.device_id = ?4)))
         AND (?5 IS NULL OR operation = ?5) AND id > ?6 ORDER BY id DESC",
    )?;
    let before = before.unwrap_or(i64::MAX);
    let since = filter.since.unwrap_or(Timestamp::MIN).as_microsecond();
    let (mut found, mut last) = (Vec::new(), before);
    let mut read = |before: i64, after: i64, last: &mut i64| -> Result<bool, StoreError> {
        let mut rows = statement.query(params![
            before,
            since,
            filter.policy,
            filter.target,
            filter.operation,
            after
        ])?;
        while found.len() < limit as usize {
            let Some(row) = rows.next()? else {
                return Ok(false);
            };
            *last = row.get("id")?;
            found.extend(damage::skip_damaged(
                "a call",
                || last.to_string(),
                record(row),
            )?);
        }
        Ok(true)
    };
    match read(before, i64::MIN, &mut last) {
        Err(error) if error.is_row_error() => {
            let newest = damage::last_id(connection, "audit")?;
            for id in (1..last.min(newest.saturating_add(1))).rev() {
                let full = read(id + 1, id - 1, &mut last);
                if damage::skip_damaged("a call", || id.to_string(), full)?.unwrap_or(false) {
                    break;
                }
            }
        }
        other => drop(other?),
    }
    Ok(found)
}

fn record(row: &Row<'_>) -> Result<AuditEntry, StoreError> {
    let time = Timestamp::from_microsecond(row.get("at")?);
    Ok(AuditEntry {
        id: row.get("id")?,
        time: time.map_err(|error| StoreError::corrupt("audit time", error))?,
        policy: row.get("policy")?,
        peer: row.get("peer")?,
        operation: row.get("operation")?,
        target: row.get("target")?,
        detail: row.get("detail")?,
        reason: row.get("reason")?,
        status: row.get("status")?,
        error: row.get("error")?,
    })
}

/// The time before which rows are evicted.
fn oldest(limits: AuditLimits, now: Timestamp) -> Timestamp {
    let days = i64::from(limits.max_days).saturating_mul(SECONDS_OF_A_DAY);
    let oldest = now.checked_sub(SignedDuration::from_secs(days));
    oldest.unwrap_or(Timestamp::MIN)
}

/// Evicts the oldest rows up to the id `last`, and those older than `oldest`; returns their number.
/// Ids increase without gaps, so they count the rows.
fn evict(connection: &Connection, last: i64, oldest: Timestamp) -> Result<usize, StoreError> {
    for evicted in 0..MAX_EVICTED_ROWS {
        let first: Option<(i64, i64)> = connection
            .prepare_cached("SELECT id, at FROM audit ORDER BY id LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1).unwrap_or(i64::MIN))))
            .optional()?;
        match first {
            Some((id, at)) if id <= last || at < oldest.as_microsecond() => connection
                .prepare_cached("DELETE FROM audit WHERE id = ?1")?
                .execute([id])?,
            _ => return Ok(evicted),
        };
    }
    Ok(MAX_EVICTED_ROWS)
}
