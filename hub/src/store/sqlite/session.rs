//! State of connections and sessions: connection state, last activity, and the subscriptions of
//! persistent sessions.

use std::ops::RangeInclusive;

use iothub_protocol::event::EventKind;
use iothub_protocol::id::DeviceId;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Store, StoreError, StoredSubscription, damage, event, signed, time_text};
use crate::store::event::{CONFLICT, CONNECTED, DISCONNECTED};
use crate::types::ConnectionEpoch;

/// The reason of disconnections that the previous run of the hub did not record.
const HUB_STARTED: &str = "the hub ended without taking leave of its devices";

/// Number of rows that are reset in one transaction if one of all rows is damaged.
const RESET_AT_ONCE: i64 = 256;

/// Marks the devices in these rows as disconnected.
fn reset(
    connection: &Connection,
    rows: &RangeInclusive<i64>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (from, upto) = (rows.start(), rows.end());
    connection.execute(
        "INSERT INTO event (at, kind, operation, subject, bytes, body) \
         SELECT ?1, 'connection', ?2, device_id, 64 + length(?3), ?3 FROM device \
         WHERE connection_state = 'Connected' AND id BETWEEN ?4 AND ?5 ORDER BY id",
        params![
            event::ticks(now),
            DISCONNECTED,
            HUB_STARTED.as_bytes(),
            from,
            upto
        ],
    )?;
    connection.execute(
        "UPDATE device SET connection_state = 'Disconnected', connection_epoch = 0, \
         connection_state_updated = ?1 \
         WHERE connection_state = 'Connected' AND id BETWEEN ?2 AND ?3",
        params![time_text(now), from, upto],
    )?;
    connection.execute(
        "UPDATE device SET connection_epoch = 0 WHERE connection_epoch <> 0 AND id BETWEEN ?1 AND \
         ?2",
        [from, upto],
    )?;
    Ok(())
}

impl Store {
    /// Marks every device as disconnected: the hub has just started.
    pub(crate) async fn session_reset(&self, now: Timestamp) -> Result<(), StoreError> {
        let all = self.session_reset_rows(0..=i64::MAX, now).await;
        if !all.as_ref().is_err_and(StoreError::is_row_error) {
            return all;
        }
        // A damaged page aborts the transaction that reads it.
        let last = self.read(|connection| damage::last_id(connection, "device"));
        let last: i64 = last.await?;
        for from in (0..=last).step_by(usize::try_from(RESET_AT_ONCE).unwrap_or(1)) {
            let upto = from + RESET_AT_ONCE - 1;
            match self.session_reset_rows(from..=upto, now).await {
                Err(error) if error.is_row_error() => {}
                other => {
                    other?;
                    continue;
                }
            }
            for id in from..=upto.min(last) {
                let one = self.session_reset_rows(id..=id, now).await;
                damage::skip_damaged("a session", || format!("of the device in row {id}"), one)?;
            }
        }
        Ok(())
    }

    async fn session_reset_rows(
        &self,
        rows: RangeInclusive<i64>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(0, move |write| reset(write.connection, &rows, now))
            .await
    }

    /// Records a connection and returns the stored subscriptions of its session; a clean session
    /// deletes them. `None` if the device no longer exists or is disabled, its identity has another
    /// `etag`, or it has a later connection.
    pub(crate) async fn session_connect(
        &self,
        device: &DeviceId,
        etag: String,
        epoch: ConnectionEpoch,
        clean: bool,
        now: Timestamp,
    ) -> Result<Option<Option<Vec<StoredSubscription>>>, StoreError> {
        let device = device.clone();
        self.write_for_device(1, move |write| {
            let stored_text: Option<Option<String>> = write
                .connection
                .prepare_cached(
                    "SELECT subscriptions FROM device \
                     WHERE device_id = ?1 AND status = 'enabled' AND etag = ?2 AND \
                     connection_epoch < ?3",
                )?
                .query_row(params![device.as_ref(), etag, signed(epoch.0)], |row| {
                    row.get(0)
                })
                .optional()?;
            let Some(stored_text) = stored_text else {
                return Ok(None);
            };
            let stored_text = stored_text.filter(|_| !clean);
            let stored_list: Result<Option<Vec<StoredSubscription>>, _> =
                stored_text.as_deref().map(serde_json::from_str).transpose();
            // A persistent session exists from now on, even without subscriptions.
            let stored = if clean {
                None
            } else {
                Some(stored_text.as_deref().unwrap_or("[]"))
            };
            write
                .connection
                .prepare_cached(
                    "UPDATE device SET connection_state = 'Connected', connection_state_updated = \
                     ?2, last_activity = ?2, \
                     connection_epoch = ?3, subscriptions = ?4 WHERE device_id = ?1",
                )?
                .execute(params![
                    device.as_ref(),
                    time_text(now),
                    signed(epoch.0),
                    stored
                ])?;
            let connected = (EventKind::Connection, CONNECTED);
            event::append(write.connection, connected, &device, now, None)?;
            // Without the stored subscriptions it is a new session: the device subscribes again.
            Ok(Some(stored_list.unwrap_or_else(|error| {
                damage::log_skipped("the subscriptions", device.as_ref(), &error);
                None
            })))
        })
        .await
    }

    /// Records the end of a connection and its reason, unless a later one has taken over.
    pub(crate) async fn session_disconnect(
        &self,
        device: &DeviceId,
        epoch: ConnectionEpoch,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let device = device.clone();
        self.write_for_device(1, move |write| {
            let changed = write
                .connection
                .prepare_cached(
                    "UPDATE device SET connection_state = 'Disconnected', connection_state_updated \
                     = ?2, last_activity = ?2 \
                     WHERE device_id = ?1 AND connection_epoch = ?3",
                )?
                .execute(params![device.as_ref(), time_text(now), signed(epoch.0)])?;
            if changed > 0 {
                let ended = (EventKind::Connection, DISCONNECTED);
                event::append(
                    write.connection,
                    ended,
                    &device,
                    now,
                    Some(reason.as_bytes()),
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Records that two clients take turns with one identity.
    pub(crate) async fn session_conflict(
        &self,
        device: &DeviceId,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let device = device.clone();
        self.write_for_device(1, move |write| {
            let conflict = (EventKind::Connection, CONFLICT);
            let reason = Some(reason.as_bytes());
            event::append(write.connection, conflict, &device, now, reason)
        })
        .await
    }

    /// Stores the subscriptions of a persistent session. Does nothing for a clean session or after
    /// a takeover.
    pub(crate) async fn session_subscriptions(
        &self,
        device: &DeviceId,
        epoch: ConnectionEpoch,
        subscriptions: Vec<StoredSubscription>,
    ) -> Result<(), StoreError> {
        let device = device.clone();
        self.write_for_device(1, move |write| {
            let text = serde_json::to_string(&subscriptions)
                .map_err(|error| StoreError::corrupt("subscriptions", error))?;
            write
                .connection
                .prepare_cached(
                    "UPDATE device SET subscriptions = ?2 \
                     WHERE device_id = ?1 AND connection_epoch = ?3 AND subscriptions IS NOT NULL",
                )?
                .execute(params![device.as_ref(), text, signed(epoch.0)])?;
            Ok(())
        })
        .await
    }

    /// The number of connected devices.
    pub(crate) async fn session_count(&self) -> Result<u64, StoreError> {
        self.scan(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT count(*) AS n FROM device WHERE connection_state = 'Connected'",
            )?;
            Ok(statement.query_row([], |row| super::unsigned(row, "n"))?)
        })
        .await
    }
}
