//! The start of jobs: whether a job may start, and its devices.

use std::collections::BTreeSet;

use iothub_protocol::query::Condition;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::damage::{self, DAMAGED, RowRead};
use super::job::{fail, stored_kind};
use super::query::{Compiled, compile_condition, find_each};
use super::{JobPermit, JobStart, Store, StoreError, WaitingJob, policy, signed, time_text};
use crate::identity::Policy;
use crate::types::{JobAuthor, all_of};

/// The job in `row` if it waits for its start.
fn waiting(connection: &Connection, row: i64) -> Result<Option<WaitingJob>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT type, action, policy, bounds FROM job \
         WHERE id = ?1 AND status IN ('queued', 'scheduled')",
    )?;
    let mut rows = statement.query([row])?;
    let Some(job) = rows.next()? else {
        return Ok(None);
    };
    let author = author(job)?;
    let policies = match author {
        Some(_) => policy::list(connection)?,
        None => Vec::new(),
    };
    let is_own = |policy: &Policy| {
        let author = author.as_ref();
        author.is_some_and(|author| author.policy == policy.name)
    };
    Ok(Some(WaitingJob {
        kind: stored_kind(job)?,
        action: job.get("action")?,
        policy: policies.into_iter().find(is_own),
        author,
    }))
}

fn author(row: &Row<'_>) -> Result<Option<JobAuthor>, StoreError> {
    let policy: Option<String> = row.get("policy")?;
    let bounds: Option<String> = row.get("bounds")?;
    let bounds = bounds.as_deref().map(policy::stored_bounds).transpose()?;
    let author = |policy: String| {
        let policy = policy.parse();
        let policy = policy.map_err(|error| StoreError::corrupt("policy of a job", error))?;
        Ok(JobAuthor { policy, bounds })
    };
    policy.map(author).transpose()
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

/// Evaluates the condition device by device, within `scope`: a damaged device is left out unless it
/// is known to be inside.
fn match_one_by_one(
    connection: &Connection,
    condition: Option<&Condition>,
    scope: Option<&Condition>,
) -> Result<Vec<MatchedDevice>, StoreError> {
    let mut inside = BTreeSet::new();
    if let Some(scope) = scope {
        find_each(
            connection,
            "1",
            &compile_condition(Some(scope)),
            |id, one| {
                if matches!(one, RowRead::Row(_)) {
                    inside.insert(id);
                }
                Ok(())
            },
        )?;
    }
    let mut devices = Vec::new();
    find_each(connection, "1", &compile_condition(condition), |id, one| {
        match one {
            _ if scope.is_some() && !inside.contains(&id) => {}
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
    /// Evaluates the condition, inserts a row for each matching device, and sets the job to
    /// `running`, in one transaction: the set of devices is fixed at the start. In the same
    /// transaction `permit` decides by the job's policy whether it may start, and on which devices.
    pub(crate) async fn job_start(
        &self,
        row: i64,
        condition: Option<Condition>,
        permit: JobPermit,
        now: Timestamp,
    ) -> Result<JobStart, StoreError> {
        let whole = self.job_start_on(row, condition.clone(), None, permit, now);
        let whole = whole.await;
        if !whole.as_ref().is_err_and(StoreError::is_row_error) {
            return whole.map(|start| start.expect("only given devices can be outdated"));
        }
        loop {
            // A transaction that hits damage accepts no further writes, so the devices are read
            // outside the writer.
            let each = condition.clone();
            let found = self.scan(move |connection| {
                let scope = match waiting(connection, row)?.map(|job| permit(&job)) {
                    Some(Ok(scope)) => scope,
                    Some(Err(_)) | None => None,
                };
                let devices = match_one_by_one(connection, each.as_ref(), scope.as_ref())?;
                Ok::<_, StoreError>((scope, devices))
            });
            let found = Some(found.await?);
            let started = self.job_start_on(row, condition.clone(), found, permit, now);
            if let Some(start) = started.await? {
                return Ok(start);
            }
        }
    }

    /// Starts a job on all devices that match the condition, or on given ones; `None` if these were
    /// found under other bounds.
    async fn job_start_on(
        &self,
        row: i64,
        condition: Option<Condition>,
        devices: Option<(Option<Condition>, Vec<MatchedDevice>)>,
        permit: JobPermit,
        now: Timestamp,
    ) -> Result<Option<JobStart>, StoreError> {
        self.write(1, move |write| {
            let Some(job) = waiting(write.connection, row)? else {
                return Ok(Some(JobStart::Cancelled));
            };
            let scope = match permit(&job) {
                Ok(scope) => scope,
                Err(reason) => {
                    fail(write.connection, row, &reason, now)?;
                    return Ok(Some(JobStart::Refused(reason)));
                }
            };
            let (found, damaged) = match &devices {
                None => {
                    let condition = all_of([condition, scope]);
                    let compiled = compile_condition(condition.as_ref());
                    (insert_found(write.connection, row, &compiled, now)?, 0)
                }
                Some((under, _)) if *under != scope => return Ok(None),
                Some((_, devices)) => insert_each(write.connection, row, devices, now)?,
            };
            write
                .connection
                .prepare_cached(
                    "UPDATE job SET status = 'running', device_count = ?2 + ?3, pending_count = \
                     ?2, failed_count = ?3 WHERE id = ?1",
                )?
                .execute([row, signed(found), signed(damaged)])?;
            Ok(Some(JobStart::Started(found + damaged)))
        })
        .await
    }
}
