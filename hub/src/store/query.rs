//! Queries over twins and job records, compiled to SQL, and their rows in pages.

mod compile;
mod functions;
mod group;
mod operand;
mod page;
pub(crate) mod scratch;
#[cfg(test)]
mod tests;
mod value;

use iothub_protocol::query::{Condition, Query};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};
use serde_json::Map;

use super::{DeviceJobRecord, Store, StoreError, TwinRecord, device, job_device, twin};

use compile::Compiled;
pub(super) use functions::register;
use page::PAGE_BYTES;
pub(crate) use page::{Continuation, GroupPlace, Page, Place, Token};

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
        self.scan(move |connection| twins(connection, condition.as_ref(), after, limit))
            .await
    }

    /// Up to `limit` records of devices in jobs that `condition` finds after `after`, job by job.
    pub(crate) async fn query_device_jobs(
        &self,
        condition: Option<Condition>,
        after: Place,
        limit: u32,
    ) -> Result<Page<DeviceJobRecord>, StoreError> {
        self.scan(move |connection| device_jobs(connection, condition.as_ref(), after, limit))
            .await
    }

    /// Up to `limit` groups of twins that `query` finds after `after`, in the order of what they are grouped by.
    pub(crate) async fn query_groups(
        &self,
        query: Query,
        after: GroupPlace,
        limit: u32,
    ) -> Result<Page<Map<String, serde_json::Value>, GroupPlace>, StoreError> {
        self.scan(move |connection| group::groups(connection, &query, after, limit))
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
    let place = |last: &TwinRecord| Place(last.row, 0);
    select(connection, &sql, parameters, limit, twin::record, place)
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
    let place = |last: &DeviceJobRecord| Place(last.job, last.ordinal);
    select(
        connection,
        &sql,
        parameters,
        limit,
        job_device::record,
        place,
    )
}

/// A page of at most `limit` rows and about [`PAGE_BYTES`], of a statement that finds one row more.
fn select<T>(
    connection: &Connection,
    sql: &str,
    parameters: Vec<Value>,
    limit: u32,
    record: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    place: impl Fn(&T) -> Place,
) -> Result<Page<T>, StoreError> {
    // Not one of the prepared statements that stay: its text is the caller's.
    let mut statement = connection.prepare(sql)?;
    let mut found = statement.query(params_from_iter(parameters))?;
    let mut rows = Vec::new();
    let mut bytes = 0;
    while let Some(row) = found.next()? {
        if rows.len() == limit as usize || bytes >= PAGE_BYTES {
            let next = rows.last().map(place);
            return Ok(Page { rows, next });
        }
        bytes += row_bytes(row)?;
        rows.push(record(row)?);
    }
    Ok(Page { rows, next: None })
}

/// How much a row holds.
fn row_bytes(row: &Row<'_>) -> rusqlite::Result<usize> {
    (0..row.as_ref().column_count())
        .map(|column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
                _ => 8,
            })
        })
        .sum()
}
