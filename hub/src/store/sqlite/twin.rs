//! The table of twins.

use std::sync::Arc;

use iothub_protocol::event::EventKind;
use iothub_protocol::id::DeviceId;
use iothub_protocol::twin::{FIRST_COUNTER, FIRST_VERSION, Object, Section, object_text};
use rusqlite::{Connection, Row, params};

use super::writer::Write;
use super::{
    DesiredChange, Sections, Store, StoreError, TwinChange, TwinEvent, TwinRecord, TwinText,
    device, event, scope, signed, unsigned,
};
use crate::types::Scope;

/// The columns that [`record`] reads, from `device` and `twin`.
pub(super) const COLUMNS: &str = "twin.model_id, twin.version, twin.etag, json(twin.tags) AS tags, \
                                  json(twin.desired) AS desired, \
    json(twin.desired_metadata) AS desired_metadata, twin.desired_version, json(twin.reported) AS \
    reported, \
    json(twin.reported_metadata) AS reported_metadata, twin.reported_version";

/// [`COLUMNS`] with empty objects for the sections that are not read.
pub(super) fn columns(sections: Sections) -> String {
    let all = [
        (sections.tags, "tags"),
        (sections.desired, "desired"),
        (sections.desired, "desired_metadata"),
        (sections.reported, "reported"),
        (sections.reported, "reported_metadata"),
    ];
    let left_out = all.iter().filter(|(is_read, _)| !is_read);
    left_out.fold(COLUMNS.to_owned(), |columns, (_, section)| {
        columns.replace(&format!("json(twin.{section})"), "'{}'")
    })
}

/// Reads a row of [`device::COLUMNS`] and [`COLUMNS`].
pub(super) fn record(row: &Row<'_>) -> Result<TwinRecord, StoreError> {
    let section = |values, metadata, version| {
        Ok(Section {
            values: object(row, values)?,
            metadata: object(row, metadata)?,
            version: unsigned(row, version)?,
        })
    };
    read(row, object(row, "tags")?, section)
}

/// Reads the same row as text. What [`record`] would refuse is refused.
pub(super) fn text_record(row: &Row<'_>) -> Result<TwinText, StoreError> {
    let tags = object_text(row.get("tags")?).map_err(|error| StoreError::corrupt("tags", error))?;
    let section = |column, metadata, version| {
        let (values, metadata): (String, String) = (row.get(column)?, row.get(metadata)?);
        Section::join(&values, &metadata, unsigned(row, version)?)
            .map_err(|error| StoreError::corrupt(column, error))
    };
    read(row, tags, section)
}

/// Reads a row; `section` reads a section from the columns of its properties, its metadata and its
/// version.
fn read<O, S>(
    row: &Row<'_>,
    tags: O,
    section: impl Fn(&'static str, &'static str, &'static str) -> Result<S, StoreError>,
) -> Result<TwinRecord<O, S>, StoreError> {
    Ok(TwinRecord {
        row: row.get("id")?,
        device: device::record(row)?,
        model_id: row.get("model_id")?,
        version: unsigned(row, "version")?,
        etag: unsigned(row, "etag")?,
        tags,
        desired: section("desired", "desired_metadata", "desired_version")?,
        reported: section("reported", "reported_metadata", "reported_version")?,
    })
}

fn object(row: &Row<'_>, column: &'static str) -> Result<Object, StoreError> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| StoreError::corrupt(column, error))
}

fn text(object: &Object) -> Result<String, StoreError> {
    serde_json::to_string(object).map_err(|error| StoreError::corrupt("twin", error))
}

/// Inserts the empty twin of a new device (row `id`).
pub(super) fn insert_empty(connection: &Connection, id: i64) -> Result<(), StoreError> {
    let metadata = text(&Section::default().metadata)?;
    connection
        .prepare_cached(
            "INSERT INTO twin (id, version, etag, tags, desired, desired_metadata, \
             desired_version, reported, reported_metadata, \
             reported_version) VALUES (?1, ?3, ?4, jsonb('{}'), jsonb('{}'), jsonb(?2), ?4, \
             jsonb('{}'), jsonb(?2), ?4)",
        )?
        .execute(params![
            id,
            metadata,
            signed(FIRST_VERSION),
            signed(FIRST_COUNTER)
        ])?;
    Ok(())
}

fn get(connection: &Connection, device: &DeviceId) -> Result<Option<TwinRecord>, StoreError> {
    let sql = format!(
        "SELECT {}, {COLUMNS} FROM device JOIN twin ON twin.id = device.id WHERE device.device_id \
         = ?1",
        device::COLUMNS
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([device.as_ref()])?;
    rows.next()?.map(record).transpose()
}

/// Applies `change` to the twin and writes the parts that it modified. `None` if there is no such
/// device. An error of `change` is returned and nothing is written.
pub(super) fn change<T, E: From<StoreError>>(
    write: &mut Write<'_>,
    device: &DeviceId,
    change: impl FnOnce(&mut TwinRecord) -> Result<(TwinChange, T), E>,
) -> Result<Option<(TwinRecord, T)>, E> {
    let Some(mut record) = get(write.connection, device)? else {
        return Ok(None);
    };
    let (modified, output) = change(&mut record)?;
    store(write, &record, modified)?;
    Ok(Some((record, output)))
}

fn store(
    write: &mut Write<'_>,
    record: &TwinRecord,
    modified: TwinChange,
) -> Result<(), StoreError> {
    let connection = write.connection;
    let id = record.row;
    if modified.tags {
        connection
            .prepare_cached("UPDATE twin SET tags = jsonb(?2) WHERE id = ?1")?
            .execute(params![id, text(&record.tags)?])?;
    }
    let sections = [
        (
            modified.reported,
            &record.reported,
            "UPDATE twin SET reported = jsonb(?2), reported_metadata = jsonb(?3), \
             reported_version = ?4 WHERE id = ?1",
        ),
        (
            modified.desired.is_some(),
            &record.desired,
            "UPDATE twin SET desired = jsonb(?2), desired_metadata = jsonb(?3), \
             desired_version = ?4 WHERE id = ?1",
        ),
    ];
    for (_, section, sql) in sections.into_iter().filter(|(modified, ..)| *modified) {
        let (values, metadata) = (text(&section.values)?, text(&section.metadata)?);
        let version = signed(section.version);
        connection
            .prepare_cached(sql)?
            .execute(params![id, values, metadata, version])?;
    }
    connection
        .prepare_cached("UPDATE twin SET version = ?2, etag = ?3 WHERE id = ?1")?
        .execute([id, signed(record.version), signed(record.etag)])?;
    if modified.tags || modified.reported || modified.desired.is_some() {
        let TwinEvent {
            operation,
            at,
            body,
        } = &modified.event;
        let device = &record.device.device_id;
        event::append(
            connection,
            (EventKind::Twin, operation),
            device,
            *at,
            Some(body),
        )?;
    }
    if let Some(body) = modified.desired {
        let device = record.device.device_id.clone();
        write.desired_changed(DesiredChange {
            device,
            version: record.desired.version,
            body,
        });
    }
    Ok(())
}

impl Store {
    pub(crate) async fn twin_get(
        &self,
        device: &DeviceId,
        scope: Option<Arc<Scope>>,
    ) -> Result<Option<TwinRecord>, StoreError> {
        let device = device.clone();
        self.read_within(device, scope, get).await
    }

    /// Stores the model that the device has announced. No version or etag changes.
    pub(crate) async fn twin_set_model(
        &self,
        device: &DeviceId,
        model_id: String,
    ) -> Result<(), StoreError> {
        let device = device.clone();
        self.write_for_device(1, move |write| {
            let sql = "UPDATE twin SET model_id = ?2 WHERE model_id <> ?2 AND id = \
                       (SELECT id FROM device WHERE device_id = ?1)";
            let mut statement = write.connection.prepare_cached(sql)?;
            statement.execute([device.as_ref(), &model_id])?;
            Ok(())
        })
        .await
    }

    /// Applies `change` to the twin; returns the twin with the output of `change`, or `None` if
    /// there is no such device within `scope`.
    pub(crate) async fn twin_update<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        device: &DeviceId,
        scope: Option<Arc<Scope>>,
        change: impl FnOnce(&mut TwinRecord) -> Result<(TwinChange, T), E> + Send + 'static,
    ) -> Result<Option<(TwinRecord, T)>, E> {
        let device = device.clone();
        self.write(2, move |write| {
            if !scope::admits(write.connection, scope.as_deref(), &device)? {
                return Ok(None);
            }
            self::change(write, &device, change)
        })
        .await
    }
}
