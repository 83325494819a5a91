//! The rows of a job's devices. The job's counts change in the same transactions as these rows.

use std::ops::RangeInclusive;
use std::sync::Arc;

use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::DeviceId;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::damage::{self, DAMAGED};
use super::device::stored_id;
use super::writer::Write;
use super::{
    ClaimRequest, ClaimedDevices, DeviceJobRecord, DeviceOutcome, DeviceResult, JobTarget, Refusal,
    Store, StoreError, TwinChange, TwinRecord, time_text,
};

/// The columns that [`record`] reads, from `device_job` and `job`.
pub(super) const COLUMNS: &str = "device_job.job, device_job.ordinal, device_job.device_id, \
                                  job.job_id, job.type, device_job.status, \
    device_job.created, device_job.started, device_job.ended, device_job.updated, \
    device_job.response_status, \
    device_job.response_payload, device_job.error_code, device_job.error_description";

/// Reads a row of [`COLUMNS`].
pub(super) fn record(row: &Row<'_>) -> Result<DeviceJobRecord, StoreError> {
    let status: Option<i32> = row.get("response_status")?;
    let payload: Option<String> = row.get("response_payload")?;
    let code: Option<String> = row.get("error_code")?;
    let description: Option<String> = row.get("error_description")?;
    Ok(DeviceJobRecord {
        device_id: stored_id(&row.get::<_, String>("device_id")?)?,
        job_id: row.get("job_id")?,
        kind: row.get("type")?,
        status: row.get("status")?,
        created: row.get("created")?,
        started: row.get("started")?,
        ended: row.get("ended")?,
        updated: row.get("updated")?,
        response: status.map(|status| (status, payload)),
        error: code.zip(description),
    })
}

/// Why a twin was not updated.
enum TwinUpdateError {
    Refused(Refusal),
    Store(StoreError),
}

impl From<StoreError> for TwinUpdateError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The result for a device that no longer exists.
fn deleted() -> DeviceResult {
    DeviceResult::Failed {
        code: ErrorCode::DeviceNotFound.name(),
        description: "the device was deleted after the job had started".into(),
    }
}

/// The result for a device whose stored state cannot be read.
fn damaged() -> DeviceResult {
    let (code, description) = DAMAGED;
    DeviceResult::Failed {
        code,
        description: description.into(),
    }
}

fn update_twin(
    write: &mut Write<'_>,
    device: &DeviceId,
    update: impl Fn(&mut TwinRecord) -> Result<TwinChange, Refusal>,
) -> Result<DeviceResult, StoreError> {
    let change = |record: &mut TwinRecord| {
        update(record)
            .map(|change| (change, ()))
            .map_err(TwinUpdateError::Refused)
    };
    match super::twin::change(write, device, change) {
        Ok(Some(_)) => Ok(DeviceResult::Updated),
        Ok(None) => Ok(deleted()),
        Err(TwinUpdateError::Refused((code, description))) => {
            Ok(DeviceResult::Failed { code, description })
        }
        Err(TwinUpdateError::Store(error)) => Err(error),
    }
}

/// Changes of a job's counts; each may be negative.
#[derive(Default)]
struct CountDeltas {
    pending: i64,
    running: i64,
    succeeded: i64,
    failed: i64,
}

impl CountDeltas {
    fn store(&self, connection: &Connection, job: i64) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "UPDATE job SET pending_count = pending_count + ?2, running_count = running_count \
                 + ?3, \
                 succeeded_count = succeeded_count + ?4, failed_count = failed_count + ?5 WHERE id \
                 = ?1",
            )?
            .execute([job, self.pending, self.running, self.succeeded, self.failed])?;
        Ok(())
    }
}

/// The next pending devices in a range of ordinals, in order.
fn pending(
    connection: &Connection,
    job: i64,
    numbers: RangeInclusive<u32>,
    at_most: u32,
) -> Result<Vec<JobTarget>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT ordinal, device_id, device IS NULL OR EXISTS (SELECT 1 FROM device WHERE device.id \
         = device_job.device) \
         FROM device_job WHERE job = ?1 AND ordinal BETWEEN ?2 AND ?3 AND status = 'pending' ORDER \
         BY ordinal LIMIT ?4",
    )?;
    loop {
        let (mut targets, mut unreadable) = (Vec::new(), Vec::new());
        let mut rows = statement.query(params![job, numbers.start(), numbers.end(), at_most])?;
        while let Some(row) = rows.next()? {
            let ordinal = row.get(0)?;
            let id = row.get::<_, String>(1).map_err(StoreError::from);
            let name = || format!("number {ordinal} in row {job}");
            let device = id.and_then(|id| stored_id(&id));
            match damage::skip_damaged("a device's record of a job", name, device)? {
                Some(device) => targets.push(JobTarget {
                    ordinal,
                    device,
                    exists: row.get(2)?,
                }),
                None => unreadable.push(ordinal),
            }
        }
        drop(rows);
        // These fail here: there is no device id to call.
        for &ordinal in &unreadable {
            let now = time_text(Timestamp::now());
            end(connection, job, ordinal, &damaged(), &now)?;
            let deltas = CountDeltas {
                pending: -1,
                failed: 1,
                ..CountDeltas::default()
            };
            deltas.store(connection, job)?;
        }
        if !targets.is_empty() || unreadable.is_empty() {
            return Ok(targets);
        }
    }
}

/// Ends the row unless it has ended already. Returns whether it did.
fn end(
    connection: &Connection,
    job: i64,
    ordinal: u32,
    result: &DeviceResult,
    now: &str,
) -> Result<bool, StoreError> {
    let (status, response, payload, error) = match result {
        DeviceResult::NotSent => return not_sent(connection, job, ordinal, now),
        DeviceResult::Answered { status, payload } => {
            ("completed", Some(*status), payload.as_deref(), None)
        }
        DeviceResult::Updated => ("completed", None, None, None),
        DeviceResult::Failed { code, description } => {
            ("failed", None, None, Some((*code, description.as_str())))
        }
    };
    let (code, description) = error.unzip();
    let changed = connection
        .prepare_cached(
            "UPDATE device_job SET status = ?3, response_status = ?4, response_payload = ?5, \
             error_code = ?6, error_description = ?7, \
             started = coalesce(started, ?8), ended = ?8, updated = ?8 \
             WHERE job = ?1 AND ordinal = ?2 AND status IN ('pending', 'running')",
        )?
        .execute(params![
            job,
            ordinal,
            status,
            response,
            payload,
            code,
            description,
            now
        ])?;
    Ok(changed > 0)
}

/// Reverts a claim: the row is `pending` again, or `canceled` if the job has been stopped.
fn not_sent(
    connection: &Connection,
    job: i64,
    ordinal: u32,
    now: &str,
) -> Result<bool, StoreError> {
    let changed = connection
        .prepare_cached(
            "UPDATE device_job SET started = NULL, updated = ?3, \
             status = iif(job.stopped, 'canceled', 'pending'), ended = iif(job.stopped, ?3, NULL) \
             FROM job WHERE job.id = ?1 AND device_job.job = ?1 AND ordinal = ?2 AND \
             device_job.status = 'running'",
        )?
        .execute(params![job, ordinal, now])?;
    if changed > 0 {
        connection
            .prepare_cached(
                "UPDATE job SET pending_count = pending_count + 1 WHERE id = ?1 AND NOT stopped",
            )?
            .execute([job])?;
    }
    Ok(changed > 0)
}

/// Stops a running job: pending devices are cancelled.
pub(super) fn stop(connection: &Connection, job: i64, now: Timestamp) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE device_job SET status = 'canceled', ended = ?2, updated = ?2 WHERE job = ?1 \
             AND status = 'pending'",
        )?
        .execute(params![job, time_text(now)])?;
    connection
        .prepare_cached("UPDATE job SET stopped = 1, pending_count = 0 WHERE id = ?1")?
        .execute([job])?;
    Ok(())
}

impl Store {
    /// Marks pending devices that are online as `running` and returns them, after the commit, so
    /// that nothing is sent before it is recorded. Devices that no longer exist fail.
    pub(crate) async fn device_job_claim(
        &self,
        job: i64,
        claim: ClaimRequest,
        is_online: impl Fn(&DeviceId) -> bool + Send + 'static,
        now: Timestamp,
    ) -> Result<ClaimedDevices, StoreError> {
        let rows = claim.ordinals.len() + claim.at_most as usize;
        self.write(rows, move |write| {
            let others = pending(write.connection, job, claim.from..=u32::MAX, claim.at_most)?;
            let next = match claim.at_most {
                0 => Some(claim.from),
                _ => others.last().map(|last| last.ordinal + 1),
            };
            let mut candidates = Vec::with_capacity(claim.ordinals.len() + others.len());
            for ordinal in claim.ordinals {
                candidates.extend(pending(write.connection, job, ordinal..=ordinal, 1)?);
            }
            candidates.extend(others);
            let now = time_text(now);
            let mut statement = write.connection.prepare_cached(
                "UPDATE device_job SET status = 'running', started = ?3, updated = ?3 WHERE job = \
                 ?1 AND ordinal = ?2 AND status = 'pending'",
            )?;
            let (mut targets, mut offline) = (Vec::with_capacity(candidates.len()), Vec::new());
            let mut deltas = CountDeltas::default();
            for target in candidates {
                if !target.exists {
                    if end(write.connection, job, target.ordinal, &deleted(), &now)? {
                        deltas.pending -= 1;
                        deltas.failed += 1;
                    }
                } else if !is_online(&target.device) {
                    offline.push(target);
                } else if statement.execute(params![job, target.ordinal, now])? > 0 {
                    // Otherwise the request names the row twice.
                    deltas.pending -= 1;
                    deltas.running += 1;
                    targets.push(target);
                }
            }
            deltas.store(write.connection, job)?;
            Ok(ClaimedDevices {
                targets,
                offline,
                next,
            })
        })
        .await
    }

    /// Stores the outcomes of claimed devices.
    pub(crate) async fn device_job_end(
        &self,
        job: i64,
        outcomes: Arc<[DeviceOutcome]>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write_bulk(outcomes.len(), move |write| {
            let now = time_text(now);
            let mut deltas = CountDeltas::default();
            for outcome in outcomes.iter() {
                if end(
                    write.connection,
                    job,
                    outcome.ordinal,
                    &outcome.result,
                    &now,
                )? {
                    if outcome.claimed {
                        deltas.running -= 1;
                    } else {
                        deltas.pending -= 1;
                    }
                    match outcome.result {
                        DeviceResult::Failed { .. } => deltas.failed += 1,
                        DeviceResult::NotSent => {}
                        _ => deltas.succeeded += 1,
                    }
                }
            }
            deltas.store(write.connection, job)
        })
        .await
    }

    /// Applies `update` to the twins of the next pending devices from ordinal `from` on, each
    /// change and its row in one transaction. Returns the ordinal after the last one, or `None`
    /// if no device was pending.
    pub(crate) async fn device_job_update_twins(
        &self,
        job: i64,
        from: u32,
        at_most: u32,
        now: Timestamp,
        update: impl Fn(&mut TwinRecord) -> Result<TwinChange, Refusal> + Send + Sync + 'static,
    ) -> Result<Option<u32>, StoreError> {
        let update = Arc::new(update);
        let all = self.update_twins(job, from, at_most, now, Arc::clone(&update));
        let all = all.await;
        if !all.as_ref().is_err_and(StoreError::is_row_error) {
            return all;
        }
        // A damaged page aborts the transaction that reads it: give each device its own.
        let one = self.update_twins(job, from, 1, now, update).await;
        match one {
            Err(error) if error.is_row_error() => self.end_damaged(job, from, now).await,
            other => other,
        }
    }

    /// Fails the next pending device from ordinal `from` on as damaged.
    async fn end_damaged(
        &self,
        job: i64,
        from: u32,
        now: Timestamp,
    ) -> Result<Option<u32>, StoreError> {
        self.write(1, move |write| {
            let targets = pending(write.connection, job, from..=u32::MAX, 1)?;
            let Some(target) = targets.first() else {
                return Ok(None);
            };
            let now = time_text(now);
            end(write.connection, job, target.ordinal, &damaged(), &now)?;
            let deltas = CountDeltas {
                pending: -1,
                failed: 1,
                ..CountDeltas::default()
            };
            deltas.store(write.connection, job)?;
            Ok(Some(target.ordinal + 1))
        })
        .await
    }

    async fn update_twins(
        &self,
        job: i64,
        from: u32,
        at_most: u32,
        now: Timestamp,
        update: Arc<
            impl Fn(&mut TwinRecord) -> Result<TwinChange, Refusal> + Send + Sync + 'static,
        >,
    ) -> Result<Option<u32>, StoreError> {
        self.write_bulk(at_most as usize * 2, move |write| {
            let targets = pending(write.connection, job, from..=u32::MAX, at_most)?;
            let now = time_text(now);
            let mut deltas = CountDeltas::default();
            for target in &targets {
                let result = match target.exists {
                    true => match write
                        .isolated(|write| update_twin(write, &target.device, &*update))
                    {
                        Err(error) if error.is_row_error() && !write.connection.is_autocommit() => {
                            damage::log_skipped("a twin", target.device.as_ref(), &error);
                            damaged()
                        }
                        other => other?,
                    },
                    false => deleted(),
                };
                match result {
                    DeviceResult::Updated => deltas.succeeded += 1,
                    _ => deltas.failed += 1,
                }
                deltas.pending -= 1;
                end(write.connection, job, target.ordinal, &result, &now)?;
            }
            deltas.store(write.connection, job)?;
            Ok(targets.last().map(|last| last.ordinal + 1))
        })
        .await
    }
}
