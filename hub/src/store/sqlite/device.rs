//! The table of identities.

use std::sync::Arc;

use iothub_protocol::id::DeviceId;
use iothub_protocol::identity::Thumbprints;
use iothub_protocol::sas::SharedAccessKey;
use iothub_protocol::twin::ConnectionState;
use rusqlite::{OptionalExtension as _, Row, params};

use super::damage;
use super::query::{Compiled, RowReader, compile_scope};
use super::{
    DeviceRecord, DeviceStatistics, NEVER, RowPosition, Store, StoreError, StoredAuthentication,
    unsigned,
};
use crate::identity::Keys;
use crate::types::Scope;

/// The columns that [`record`] reads.
pub(super) const COLUMNS: &str = "device.id, device.device_id, device.generation_id, device.etag \
                                  AS device_etag, device.status, \
    device.status_reason, device.status_updated, device.authentication_type, device.primary_key, \
    device.secondary_key, \
    device.primary_thumbprint, device.secondary_thumbprint, device.connection_state, \
    device.connection_state_updated, \
    device.last_activity, device.iot_edge";

/// Reads a row of [`COLUMNS`].
pub(super) fn record(row: &Row<'_>) -> Result<DeviceRecord, StoreError> {
    let keys = match (
        row.get::<_, Option<Vec<u8>>>("primary_key")?,
        row.get::<_, Option<Vec<u8>>>("secondary_key")?,
    ) {
        (Some(primary), Some(secondary)) => Some(Keys {
            primary: stored_key(&primary)?,
            secondary: stored_key(&secondary)?,
        }),
        _ => None,
    };
    let state: String = row.get("connection_state")?;
    let status: String = row.get("status")?;
    Ok(DeviceRecord {
        device_id: stored_id(&row.get::<_, String>("device_id")?)?,
        generation_id: row.get("generation_id")?,
        etag: row.get("device_etag")?,
        enabled: status == "enabled",
        status_reason: row.get("status_reason")?,
        status_updated: row.get("status_updated")?,
        authentication: StoredAuthentication {
            kind: row.get("authentication_type")?,
            keys,
            thumbprints: Thumbprints {
                primary_thumbprint: row.get("primary_thumbprint")?,
                secondary_thumbprint: row.get("secondary_thumbprint")?,
            },
        },
        connection_state: if state == "Connected" {
            ConnectionState::Connected
        } else {
            ConnectionState::Disconnected
        },
        connection_state_updated: row.get("connection_state_updated")?,
        last_activity: row.get("last_activity")?,
        iot_edge: row.get("iot_edge")?,
    })
}

pub(super) fn stored_id(text: &str) -> Result<DeviceId, StoreError> {
    text.parse()
        .map_err(|error| StoreError::corrupt("device id", error))
}

pub(super) fn stored_key(bytes: &[u8]) -> Result<SharedAccessKey, StoreError> {
    SharedAccessKey::from_bytes(bytes).map_err(|error| StoreError::corrupt("key", error))
}

pub(super) fn get(
    connection: &rusqlite::Connection,
    device: &DeviceId,
) -> Result<Option<DeviceRecord>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM device WHERE device_id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([device.as_ref()])?;
    rows.next()?.map(record).transpose()
}

/// The identity for its deletion; of a damaged one only what the deletion needs.
pub(super) fn get_to_delete(
    connection: &rusqlite::Connection,
    device: &DeviceId,
) -> Result<Option<DeviceRecord>, StoreError> {
    let found = get(connection, device);
    if !found.as_ref().is_err_and(StoreError::is_row_error) {
        return found;
    }
    let etag = connection
        .prepare_cached("SELECT etag FROM device WHERE device_id = ?1")?
        .query_row([device.as_ref()], |row| row.get(0));
    let etag = etag.unwrap_or_default();
    let record = DeviceRecord::new(device.clone(), String::new(), etag);
    Ok(Some(record))
}

const fn status(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

impl Store {
    pub(crate) async fn device_get(
        &self,
        device: &DeviceId,
        scope: Option<Arc<Scope>>,
    ) -> Result<Option<DeviceRecord>, StoreError> {
        self.read_within(device.clone(), scope, get).await
    }

    /// The first `top` identities within `scope`, in order of creation.
    pub(crate) async fn device_list(
        &self,
        top: u32,
        scope: Option<Arc<Scope>>,
    ) -> Result<Vec<DeviceRecord>, StoreError> {
        self.scan(move |connection| {
            let condition = scope.as_ref().and_then(|scope| scope.condition.as_ref());
            let Compiled { sql, parameters } = compile_scope(condition, 2);
            let from = match condition {
                None => "device",
                Some(_) => "device JOIN twin ON twin.id = device.id",
            };
            let what = RowReader {
                what: "an identity",
                name: |row| damage::text(row, "device_id"),
                record,
                position: |row| Ok(RowPosition(row.get("id")?, 0)),
            };
            let mut devices = Vec::new();
            let mut after = Some(RowPosition(0, 0));
            while let Some(start) = after.filter(|_| devices.len() < top as usize) {
                let left = top - u32::try_from(devices.len()).unwrap_or(top);
                let whole = format!(
                    "SELECT {COLUMNS} FROM {from} WHERE device.id > ?1 AND ({sql}) \
                     ORDER BY device.id LIMIT ?2"
                );
                let mut all = vec![start.0.into(), i64::from(left.saturating_add(1)).into()];
                all.extend(parameters.clone());
                let mut page = what.select(connection, &whole, all, left);
                if page.as_ref().is_err_and(StoreError::is_row_error) {
                    let Compiled { sql, parameters } = compile_scope(condition, 0);
                    let first = parameters.len() + 1;
                    let one = format!(
                        "SELECT {COLUMNS} FROM {from} \
                         WHERE device.id = ?{first} AND ?{} = 0 AND ({sql})",
                        first + 1
                    );
                    let positions = start.0 + 1..=damage::last_id(connection, "device")?;
                    let positions = positions.map(|id| RowPosition(id, 0));
                    let name = |position: RowPosition| damage::device_name(connection, position.0);
                    page = what.select_one_by_one(
                        connection,
                        (&one, &parameters),
                        left,
                        positions,
                        name,
                    );
                }
                let page = page?;
                devices.extend(page.rows);
                after = page.next;
            }
            Ok(devices)
        })
        .await
    }

    pub(crate) async fn device_statistics(&self) -> Result<DeviceStatistics, StoreError> {
        self.scan(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT count(*) AS total, count(*) FILTER (WHERE status = 'enabled') AS enabled \
                 FROM device",
            )?;
            let count = statement.query_row([], |row| {
                Ok(DeviceStatistics {
                    total: unsigned(row, "total")?,
                    enabled: unsigned(row, "enabled")?,
                })
            })?;
            Ok(count)
        })
        .await
    }

    /// Adds an identity and its empty twin. `false` if the id is taken.
    pub(crate) async fn device_insert(&self, record: DeviceRecord) -> Result<bool, StoreError> {
        self.write(2, move |write| insert(write.connection, &record))
            .await
    }

    /// Applies `change` to the identity; returns the identity with the output of `change`, or
    /// `None` if there is no such device. The connection state is not written.
    pub(crate) async fn device_update<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        device: &DeviceId,
        change: impl FnOnce(&mut DeviceRecord) -> Result<T, E> + Send + 'static,
    ) -> Result<Option<(DeviceRecord, T)>, E> {
        let device = device.clone();
        self.write(1, move |write| {
            let Some(mut record) = get(write.connection, &device)? else {
                return Ok(None);
            };
            let output = change(&mut record)?;
            update(write.connection, &record)?;
            Ok(Some((record, output)))
        })
        .await
    }

    /// Removes the identity, its twin and its session, if `check` succeeds. `false` if there is no
    /// such device.
    pub(crate) async fn device_delete<E: From<StoreError> + Send + 'static>(
        &self,
        device: &DeviceId,
        check: impl FnOnce(&DeviceRecord) -> Result<(), E> + Send + 'static,
    ) -> Result<bool, E> {
        let wanted = device.clone();
        let device = wanted.clone();
        let removed = self.write(2, move |write| -> Result<Option<bool>, E> {
            let Some(record) = get_to_delete(write.connection, &device)? else {
                return Ok(Some(false));
            };
            check(&record)?;
            match delete(write.connection, &device) {
                Ok(()) => Ok(Some(true)),
                Err(error) if error.is_row_error() => Ok(None),
                Err(error) => Err(error.into()),
            }
        });
        if let Some(removed) = removed.await? {
            return Ok(removed);
        }
        // Indexes have entries that the damaged row no longer has. A transaction that hits damage
        // accepts no further writes, so this is a second one.
        self.write(2, move |write| {
            write
                .connection
                .execute_batch("REINDEX device; REINDEX twin")
                .map_err(StoreError::from)?;
            delete(write.connection, &wanted)?;
            Ok(true)
        })
        .await
    }
}

/// Adds an identity and its empty twin. `false` if the id is taken.
pub(super) fn insert(
    connection: &rusqlite::Connection,
    record: &DeviceRecord,
) -> Result<bool, StoreError> {
    let keys = record.authentication.keys.as_ref();
    let inserted = connection
        .prepare_cached(
            "INSERT INTO device (device_id, generation_id, etag, status, status_reason, \
             status_updated, authentication_type, \
             primary_key, secondary_key, primary_thumbprint, secondary_thumbprint, \
             connection_state_updated, last_activity, iot_edge) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12, ?13) ON CONFLICT \
             (device_id) DO NOTHING RETURNING id",
        )?
        .query_row(
            params![
                record.device_id.as_ref(),
                record.generation_id,
                record.etag,
                status(record.enabled),
                record.status_reason,
                record.status_updated,
                record.authentication.kind,
                keys.map(|keys| keys.primary.as_bytes()),
                keys.map(|keys| keys.secondary.as_bytes()),
                record.authentication.thumbprints.primary_thumbprint,
                record.authentication.thumbprints.secondary_thumbprint,
                NEVER,
                record.iot_edge,
            ],
            |row| row.get::<_, i64>(0),
        )
        .optional()?;
    inserted
        .map(|id| super::twin::insert_empty(connection, id))
        .transpose()?;
    Ok(inserted.is_some())
}

/// Writes the identity, except for the connection state.
pub(super) fn update(
    connection: &rusqlite::Connection,
    record: &DeviceRecord,
) -> Result<(), StoreError> {
    let keys = record.authentication.keys.as_ref();
    connection
        .prepare_cached(
            "UPDATE device SET etag = ?2, status = ?3, status_reason = ?4, status_updated = ?5, \
             authentication_type = ?6, \
             primary_key = ?7, secondary_key = ?8, primary_thumbprint = ?9, secondary_thumbprint = \
             ?10, iot_edge = ?11 WHERE device_id = ?1",
        )?
        .execute(params![
            record.device_id.as_ref(),
            record.etag,
            status(record.enabled),
            record.status_reason,
            record.status_updated,
            record.authentication.kind,
            keys.map(|keys| keys.primary.as_bytes()),
            keys.map(|keys| keys.secondary.as_bytes()),
            record.authentication.thumbprints.primary_thumbprint,
            record.authentication.thumbprints.secondary_thumbprint,
            record.iot_edge,
        ])?;
    Ok(())
}

/// Removes the identity, its twin and its session.
pub(super) fn delete(
    connection: &rusqlite::Connection,
    device: &DeviceId,
) -> Result<(), StoreError> {
    // Find the row by the index alone: the damaged row may hold another name.
    let id: Option<i64> = connection
        .prepare_cached("SELECT id FROM device WHERE device_id = ?1")?
        .query_row([device.as_ref()], |row| row.get(0))
        .optional()?;
    connection
        .prepare_cached("DELETE FROM device WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}
