//! The messages that devices sent, the newest of them up to a bound.

use iothub_protocol::id::DeviceId;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Store, StoreError, signed, unsigned};
use crate::config::TelemetryLimits;

/// How many of the oldest messages one new message may push out. More than one only when a long one follows short ones, or the limits
/// were lowered; then the excess goes message by message, without a long pause for the writer.
const EVICTED_AT_MOST: usize = 64;

/// One message.
#[derive(Debug)]
pub(crate) struct TelemetryMessage {
    /// Who sent it.
    pub(crate) device: DeviceId,
    /// When it was taken.
    pub(crate) enqueued: String,
    /// Its properties, encoded as in its topic.
    pub(crate) properties: String,
    /// Its body.
    pub(crate) body: bytes::Bytes,
}

impl Store {
    /// Stores the message, and drops the oldest ones beyond `limits`.
    pub(crate) async fn telemetry_insert(
        &self,
        message: TelemetryMessage,
        limits: TelemetryLimits,
    ) -> Result<(), StoreError> {
        self.write(1, move |write| {
            let bytes = (message.body.len() + message.properties.len()) as u64;
            write
                .connection
                .prepare_cached("INSERT INTO telemetry (device_id, enqueued, properties, body, bytes) VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    message.device.as_ref(),
                    message.enqueued,
                    message.properties,
                    &message.body[..],
                    signed(bytes)
                ])?;
            add_to_total(write.connection, 1, signed(bytes))?;
            write
                .connection
                .prepare_cached("UPDATE device SET last_activity = ?2 WHERE device_id = ?1")?
                .execute([message.device.as_ref(), &message.enqueued])?;
            evict(write.connection, limits)
        })
        .await
    }

    /// How many messages are kept, and how many bytes they are.
    #[cfg(test)]
    pub(crate) async fn telemetry_total(&self) -> Result<(u64, u64), StoreError> {
        self.read(total).await
    }
}

fn total(connection: &Connection) -> Result<(u64, u64), StoreError> {
    let mut statement = connection.prepare_cached("SELECT rows, bytes FROM telemetry_total")?;
    Ok(statement.query_row([], |row| {
        Ok((unsigned(row, "rows")?, unsigned(row, "bytes")?))
    })?)
}

fn add_to_total(connection: &Connection, rows: i64, bytes: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE telemetry_total SET rows = rows + ?1, bytes = bytes + ?2")?
        .execute([rows, bytes])?;
    Ok(())
}

fn evict(connection: &Connection, limits: TelemetryLimits) -> Result<(), StoreError> {
    for _ in 0..EVICTED_AT_MOST {
        let (rows, bytes) = total(connection)?;
        if rows <= limits.max_rows && bytes <= limits.max_bytes {
            break;
        }
        let gone: Option<i64> = connection
            .prepare_cached(
                "DELETE FROM telemetry WHERE id = (SELECT min(id) FROM telemetry) RETURNING bytes",
            )?
            .query_row([], |row| row.get(0))
            .optional()?;
        let Some(bytes) = gone else { break };
        add_to_total(connection, -1, -bytes)?;
    }
    Ok(())
}
