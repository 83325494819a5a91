//! Conditions over twins and job records, compiled to SQL, and their rows in pages.

mod compile;
mod functions;
mod operand;
mod page;
#[cfg(test)]
mod tests;
mod value;

use iothub_protocol::query::Condition;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::{DeviceJobRecord, Store, StoreError, TwinRecord, device, job_device, twin};

use compile::Compiled;
pub(super) use functions::register;
pub(crate) use page::{Page, Place};

/// The condition of a job, over `device JOIN twin`.
pub(super) fn compile_condition(condition: Option<&Condition>) -> Compiled {
    compile::compile(condition, operand::of_twin)
}

impl Store {
    /// Up to `limit` twins that `condition` finds after `after`, in the order their devices were made.
    pub(crate) async fn query_twins(
        &self,
        condition: Option<Condition>,
        after: Place,
        limit: u32,
    ) -> Result<Page<TwinRecord>, StoreError> {
        self.read(move |connection| twins(connection, condition.as_ref(), after, limit))
            .await
    }

    /// Up to `limit` records of devices in jobs that `condition` finds after `after`, job by job.
    pub(crate) async fn query_device_jobs(
        &self,
        condition: Option<Condition>,
        after: Place,
        limit: u32,
    ) -> Result<Page<DeviceJobRecord>, StoreError> {
        self.read(move |connection| device_jobs(connection, condition.as_ref(), after, limit))
            .await
    }
}

fn twins_sql(condition: &str, after: usize) -> String {
    format!(
        "SELECT {}, {} FROM twin JOIN device ON device.id = twin.id WHERE twin.id > ?{after} AND {condition} \
         ORDER BY twin.id LIMIT ?{}",
        device::COLUMNS,
        twin::COLUMNS,
        after + 1,
    )
}

fn twins(
    connection: &Connection,
    condition: Option<&Condition>,
    after: Place,
    limit: u32,
) -> Result<Page<TwinRecord>, StoreError> {
    let Compiled {
        sql,
        mut parameters,
    } = compile_condition(condition);
    let sql = twins_sql(&sql, parameters.len() + 1);
    parameters.extend([after.0.into(), i64::from(limit.saturating_add(1)).into()]);
    let rows = select(connection, &sql, parameters, twin::record)?;
    Ok(Page::cut(rows, limit, |last| Place(last.row, 0)))
}

fn device_jobs(
    connection: &Connection,
    condition: Option<&Condition>,
    after: Place,
    limit: u32,
) -> Result<Page<DeviceJobRecord>, StoreError> {
    let Compiled {
        sql,
        mut parameters,
    } = compile::compile(condition, operand::of_device_job);
    let first = parameters.len() + 1;
    let sql = format!(
        "SELECT {} FROM device_job JOIN job ON job.id = device_job.job \
         WHERE (device_job.job, device_job.ordinal) > (?{first}, ?{}) AND {sql} \
         ORDER BY device_job.job, device_job.ordinal LIMIT ?{}",
        job_device::COLUMNS,
        first + 1,
        first + 2,
    );
    parameters.extend([
        after.0.into(),
        after.1.into(),
        i64::from(limit.saturating_add(1)).into(),
    ]);
    let rows = select(connection, &sql, parameters, job_device::record)?;
    Ok(Page::cut(rows, limit, |last| Place(last.job, last.ordinal)))
}

fn select<T>(
    connection: &Connection,
    sql: &str,
    parameters: Vec<Value>,
    record: impl Fn(&rusqlite::Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(parameters))?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(record(row)?);
    }
    Ok(records)
}
