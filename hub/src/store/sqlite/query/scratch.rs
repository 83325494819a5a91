//! An in-memory database of twins, in which the tests of this module and the fuzz targets compare
//! whole statements with the plain evaluator.

use iothub_protocol::query::{Query, column_names, project};
use iothub_protocol::twin::{Section, Twin};
use rusqlite::{Connection, params};
use serde_json::Value;

use super::{GroupPosition, RowPosition, Sections, StoreError, group, register, twin, twins};

pub(crate) fn database() -> Result<Connection, StoreError> {
    let connection = Connection::open_in_memory()?;
    register(&connection)?;
    connection.execute_batch(include_str!("../schema/0001.sql"))?;
    connection.execute_batch(include_str!("../schema/0007.sql"))?;
    connection.execute_batch(include_str!("../schema/0010.sql"))?;
    Ok(connection)
}

/// Adds a device with this twin: tags, desired and reported properties.
pub(crate) fn add(
    connection: &Connection,
    id: &str,
    reason: Option<&str>,
    [tags, desired, reported]: [&Value; 3],
) -> Result<(), StoreError> {
    let row: i64 = connection.query_row(
        "INSERT INTO device (device_id, generation_id, etag, status, status_reason, \
         status_updated, authentication_type, \
         connection_state_updated, last_activity, iot_edge) VALUES (?1, '1', 'MQ==', 'enabled', \
         ?2, '0001-01-01T00:00:00Z', 'sas', \
         '0001-01-01T00:00:00Z', '0001-01-01T00:00:00Z', ?2 IS NULL) RETURNING id",
        params![id, reason],
        |row| row.get(0),
    )?;
    twin::insert_empty(connection, row)?;
    let metadata = Value::Object(Section::default().metadata).to_string();
    connection.execute(
        "UPDATE twin SET tags = jsonb(?2), desired = jsonb(?3), reported = jsonb(?4), \
         desired_metadata = jsonb(?5), \
         version = ?1 + 1 WHERE id = ?1",
        params![
            row,
            tags.to_string(),
            desired.to_string(),
            reported.to_string(),
            metadata
        ],
    )?;
    Ok(())
}

/// All rows of a statement over devices, read in pages of `size`.
pub(crate) fn rows(
    connection: &Connection,
    query: &Query,
    size: u32,
) -> Result<Vec<Value>, StoreError> {
    let names = column_names(query.items());
    let mut found = Vec::new();
    if query.is_grouped() {
        let mut after = GroupPosition::default();
        loop {
            let page = group::groups(connection, query, after, size)?;
            assert!(page.rows.len() <= size as usize, "a page is too long");
            found.extend(page.rows.into_iter().map(Value::Object));
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
    } else {
        let (mut after, sections) = (RowPosition::START, Sections::of(query.items()));
        loop {
            let page = twins(connection, query.condition.as_ref(), sections, after, size)?;
            assert!(page.rows.len() <= size as usize, "a page is too long");
            for record in page.rows {
                let document = serde_json::to_value(Twin::from(record))
                    .map_err(|error| StoreError::corrupt("a twin", error))?;
                found.push(match query.items() {
                    [] => document,
                    items => Value::Object(project(items, &names, &document)),
                });
            }
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
    }
    let top = query.top.and_then(|top| usize::try_from(top).ok());
    found.truncate(top.unwrap_or(usize::MAX));
    Ok(found)
}
