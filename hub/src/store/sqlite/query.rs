//! Queries over twins and job records: compiled to SQL, with their rows in pages.

mod compile;
mod functions;
mod group;
mod operand;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod scratch;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

use iothub_protocol::query::{Condition, Query};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};
use serde_json::Map;

use super::damage::{self, RowRead, read_one};
use super::{
    DeviceJobRecord, GroupPosition, Page, RowPosition, Sections, Store, StoreError, TwinText,
    device, job_device, scope, twin,
};
use crate::store::page::PAGE_BYTES;
use crate::types::Scope;

pub(super) use compile::Compiled;
pub(super) use functions::register;

/// Compiles the condition of a job, over `device JOIN twin`.
pub(super) fn compile_condition(condition: Option<&Condition>) -> Compiled {
    compile_scope(condition, 0)
}

/// The same, with parameters that are numbered after the first `offset`.
pub(super) fn compile_scope(condition: Option<&Condition>, offset: usize) -> Compiled {
    compile::compile(condition, operand::of_twin, offset)
}

impl Store {
    /// Up to `limit` twins that match `condition`, after the position `after`, in order of
    /// creation.
    pub(crate) async fn query_twins(
        &self,
        condition: Option<Condition>,
        sections: Sections,
        after: RowPosition,
        limit: u32,
    ) -> Result<Page<TwinText>, StoreError> {
        self.scan(move |connection| twins(connection, condition.as_ref(), sections, after, limit))
            .await
    }

    /// Up to `limit` device records of jobs that match `condition` within `scope`, after `after`,
    /// ordered by job.
    pub(crate) async fn query_device_jobs(
        &self,
        condition: Option<Condition>,
        scope: Option<Arc<Scope>>,
        after: RowPosition,
        limit: u32,
    ) -> Result<Page<DeviceJobRecord>, StoreError> {
        let condition = move || {
            let Compiled { sql, parameters } =
                compile::compile(condition.as_ref(), operand::of_device_job, 0);
            let Some(scope) = &scope else {
                return Compiled { sql, parameters };
            };
            within_scope(&sql, parameters, scope)
        };
        self.scan(move |connection| device_jobs(connection, condition(), after, limit))
            .await
    }

    /// Up to `limit` groups of twins of `query`, after `after`, in the order of their keys.
    pub(crate) async fn query_groups(
        &self,
        query: Query,
        after: GroupPosition,
        limit: u32,
    ) -> Result<Page<Map<String, serde_json::Value>, GroupPosition>, StoreError> {
        self.scan(move |connection| group::groups(connection, &query, after, limit))
            .await
    }
}

fn twins_sql(columns: &str, condition: &str, after: usize) -> String {
    format!(
        "SELECT {columns} FROM twin JOIN device ON device.id = twin.id \
         WHERE twin.id > ?{after} AND {condition} ORDER BY twin.id LIMIT ?{}",
        after + 1,
    )
}

fn twins(
    connection: &Connection,
    condition: Option<&Condition>,
    sections: Sections,
    after: RowPosition,
    limit: u32,
) -> Result<Page<TwinText>, StoreError> {
    let Compiled { sql, parameters } = compile_condition(condition);
    let what = RowReader {
        what: "a twin",
        name: |row| damage::text(row, "device_id"),
        record: twin::text_record,
        position: |row| Ok(RowPosition(row.get("id")?, 0)),
    };
    let first = parameters.len() + 1;
    let columns = format!("{}, {}", device::COLUMNS, twin::columns(sections));
    let whole = twins_sql(&columns, &sql, first);
    let mut all = parameters.clone();
    all.extend([after.0.into(), i64::from(limit.saturating_add(1)).into()]);
    let page = what.select(connection, &whole, all, limit);
    if !page.as_ref().is_err_and(StoreError::is_row_error) {
        return page;
    }
    let one = one_twin(&columns, &sql, first);
    let last = damage::last_id(connection, "device")?;
    let positions = (after.0.max(0) + 1..=last).map(|id| RowPosition(id, 0));
    let name = |position: RowPosition| damage::device_name(connection, position.0);
    what.select_one_by_one(connection, (&one, &parameters), limit, positions, name)
}

/// Selects the twin whose row id is parameter `first`, if it matches the condition. The next
/// parameter is 0.
fn one_twin(columns: &str, condition: &str, first: usize) -> String {
    format!(
        "SELECT {columns} FROM twin JOIN device ON device.id = twin.id \
         WHERE twin.id = ?{first} AND ?{} = 0 AND ({condition})",
        first + 1
    )
}

/// Evaluates `condition` device by device, for a statement over all devices that has failed at one.
pub(super) fn find_each(
    connection: &Connection,
    columns: &str,
    condition: &Compiled,
    mut found: impl FnMut(i64, RowRead<String>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let columns = format!("device.device_id, {columns}");
    let sql = one_twin(&columns, &condition.sql, condition.parameters.len() + 1);
    let mut statement = connection.prepare(&sql)?;
    for id in 1..=damage::last_id(connection, "device")? {
        let read = |row: &Row<'_>| {
            for column in 0..row.as_ref().column_count() {
                if let ValueRef::Text(bytes) = row.get_ref(column)? {
                    std::str::from_utf8(bytes)
                        .map_err(|error| StoreError::corrupt("text", error))?;
                }
            }
            Ok(row.get("device_id")?)
        };
        let one = read_one(
            &mut statement,
            &condition.parameters,
            RowPosition(id, 0),
            read,
        )?;
        if let RowRead::Damaged(error) = &one {
            damage::log_skipped("a twin", &damage::device_name(connection, id), error);
        }
        found(id, one)?;
    }
    Ok(())
}

/// Narrows a condition on `device_job JOIN job` to jobs and devices within `scope`.
fn within_scope(sql: &str, mut parameters: Vec<Value>, scope: &Scope) -> Compiled {
    parameters.push(scope.policy.as_str().to_owned().into());
    let own = format!("{sql} AND job.policy = ?{}", parameters.len());
    if scope.condition.is_none() {
        let sql = format!("({own})");
        return Compiled { sql, parameters };
    }
    let link = "device.id = device_job.device";
    let inside = scope::exists(scope, link, parameters.len());
    parameters.extend(inside.parameters);
    Compiled {
        sql: format!("({own} AND {})", inside.sql),
        parameters,
    }
}

fn device_jobs(
    connection: &Connection,
    Compiled { sql, parameters }: Compiled,
    after: RowPosition,
    limit: u32,
) -> Result<Page<DeviceJobRecord>, StoreError> {
    let what = RowReader {
        what: "a device's record of a job",
        name: |row| {
            format!(
                "{} in {}",
                damage::text(row, "device_id"),
                damage::text(row, "job_id")
            )
        },
        record: job_device::record,
        position: |row| Ok(RowPosition(row.get("job")?, row.get("ordinal")?)),
    };
    let first = parameters.len() + 1;
    let columns = job_device::COLUMNS;
    let whole = format!(
        "SELECT {columns} FROM device_job JOIN job ON job.id = device_job.job \
         WHERE (device_job.job, device_job.ordinal) > (?{first}, ?{}) AND {sql} \
         ORDER BY device_job.job, device_job.ordinal LIMIT ?{}",
        first + 1,
        first + 2,
    );
    let mut all = parameters.clone();
    all.extend([
        after.0.into(),
        after.1.into(),
        i64::from(limit.saturating_add(1)).into(),
    ]);
    let page = what.select(connection, &whole, all, limit);
    if !page.as_ref().is_err_and(StoreError::is_row_error) {
        return page;
    }
    let one = format!(
        "SELECT {columns} FROM device_job JOIN job ON job.id = device_job.job \
         WHERE device_job.job = ?{first} AND device_job.ordinal = ?{} AND ({sql})",
        first + 1
    );
    let mut jobs =
        connection.prepare("SELECT id, device_count FROM job WHERE id >= ?1 ORDER BY id")?;
    let jobs = jobs.query_map([after.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let jobs: Vec<(i64, i64)> = jobs.collect::<Result<_, _>>()?;
    let positions = jobs
        .iter()
        .flat_map(|&(job, devices)| (0..devices).map(move |ordinal| RowPosition(job, ordinal)));
    let positions = positions.filter(|position| *position > after);
    let name = |position: RowPosition| format!("number {} in row {}", position.1, position.0);
    what.select_one_by_one(connection, (&one, &parameters), limit, positions, name)
}

/// Reads the rows of a list.
pub(super) struct RowReader<T> {
    /// The kind of row, for the log.
    pub(super) what: &'static str,
    /// The name of a row, for the log.
    pub(super) name: fn(&Row<'_>) -> String,
    pub(super) record: fn(&Row<'_>) -> Result<T, StoreError>,
    /// The position of a row in the order.
    pub(super) position: fn(&Row<'_>) -> rusqlite::Result<RowPosition>,
}

impl<T> RowReader<T> {
    /// Reads a page of at most `limit` rows and about [`PAGE_BYTES`] bytes from a statement that
    /// selects `limit + 1` rows.
    pub(super) fn select(
        &self,
        connection: &Connection,
        sql: &str,
        parameters: Vec<Value>,
        limit: u32,
    ) -> Result<Page<T>, StoreError> {
        // Not cached as a prepared statement: its text depends on the caller's query.
        let mut statement = connection.prepare(sql)?;
        let mut found = statement.query(params_from_iter(parameters))?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let (mut seen, mut last) = (0, None);
        while let Some(row) = found.next()? {
            if rows.len() == limit as usize || bytes >= PAGE_BYTES {
                return Ok(Page { rows, next: last });
            }
            bytes += row_bytes(row)?;
            last = Some((self.position)(row)?);
            seen += 1;
            rows.extend(damage::skip_damaged(
                self.what,
                || (self.name)(row),
                (self.record)(row),
            )?);
        }
        // If rows were skipped, the statement's LIMIT may have been reached before the list ended.
        let next = last.filter(|_| seen > limit);
        Ok(Page { rows, next })
    }

    /// Like [`Self::select`], for a statement that fails at some row: `sql` selects the row of one
    /// position.
    pub(super) fn select_one_by_one(
        &self,
        connection: &Connection,
        (sql, parameters): (&str, &[Value]),
        limit: u32,
        positions: impl Iterator<Item = RowPosition>,
        name: impl Fn(RowPosition) -> String,
    ) -> Result<Page<T>, StoreError> {
        let mut statement = connection.prepare(sql)?;
        let mut page = Page {
            rows: Vec::new(),
            next: None,
        };
        let (mut bytes, mut last) = (0, None);
        for position in positions {
            if page.rows.len() == limit as usize || bytes >= PAGE_BYTES {
                page.next = last;
                break;
            }
            last = Some(position);
            let read = |row: &Row<'_>| Ok((row_bytes(row)?, (self.record)(row)?));
            match read_one(&mut statement, parameters, position, read)? {
                RowRead::Row((size, row)) => {
                    bytes += size;
                    page.rows.push(row);
                }
                RowRead::Damaged(error) => damage::log_skipped(self.what, &name(position), &error),
                RowRead::NoMatch => {}
            }
        }
        Ok(page)
    }
}

/// The size of a row in bytes.
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
