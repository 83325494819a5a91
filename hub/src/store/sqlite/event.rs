//! Events: messages, connections, changes of twins, identities and jobs, the newest up to a limit.
//! Each row is written in the transaction of the change; those of identities and jobs by triggers,
//! so that no code path can omit them.

use std::sync::{Arc, Mutex, PoisonError};

use iothub_protocol::event::{EventFilter, EventKind};
use iothub_protocol::id::DeviceId;
use jiff::{SignedDuration, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};
use tokio::sync::watch;

use super::query::Compiled;
use super::{Store, StoreError, damage, scope, signed, time_text, unsigned};
use crate::config::EventLimits;
use crate::store::event::{EventPage, EventRecord, ROW_BYTES, TelemetryMessage};
use crate::types::Scope;

/// Maximum number of old rows that one transaction evicts. When limits are lowered, or a large row
/// follows small ones, the excess is removed in steps, without a long pause of the writer.
const MAX_EVICTED_ROWS: usize = 64;

/// Maximum number of rows that one read scans.
const MAX_SCANNED_ROWS: i64 = 20_000;

/// The same within bounds: each row costs a look at a twin, which may have 100 KiB, and logins use
/// the same connections.
const MAX_SCOPED_ROWS: i64 = 1_000;

/// Documents show times in ticks.
const NANOSECONDS_PER_TICK: i128 = 100;

/// A time as stored in this table.
pub(super) fn ticks(time: Timestamp) -> i64 {
    // The year 9999 is 2.5e17 ticks away.
    i64::try_from(time.as_nanosecond() / NANOSECONDS_PER_TICK).unwrap_or(i64::MIN)
}

/// The writer's part of the events: their limits, and the signal that there are new ones. Clones
/// share it.
#[derive(Clone)]
pub(super) struct EventRetention {
    limits: Arc<Mutex<EventLimits>>,
    newest: watch::Sender<i64>,
}

impl EventRetention {
    pub(super) fn new(connection: &Connection) -> Result<Self, StoreError> {
        Ok(Self {
            limits: Arc::default(),
            newest: watch::Sender::new(newest(connection)?),
        })
    }

    pub(super) fn set_limits(&self, limits: EventLimits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Increases after each commit that added events.
    pub(super) fn newest(&self) -> watch::Receiver<i64> {
        self.newest.subscribe()
    }

    /// Evicts the oldest rows beyond the limits.
    pub(super) fn evict(&self, connection: &Connection) -> Result<(), StoreError> {
        let limits = *self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let age = SignedDuration::from_hours(24 * i64::from(limits.max_days));
        let oldest = Timestamp::now().saturating_sub(age);
        let oldest = ticks(oldest.unwrap_or(Timestamp::MIN));
        for _ in 0..MAX_EVICTED_ROWS {
            let (rows, bytes) = total(connection)?;
            // A row whose time cannot be read is evicted when it is the oldest.
            let first: Option<(i64, i64)> = connection
                .prepare_cached("SELECT id, at FROM event ORDER BY id LIMIT 1")?
                .query_row([], |row| Ok((row.get(0)?, row.get(1).unwrap_or(i64::MIN))))
                .optional()?;
            match first {
                Some((id, at))
                    if rows > limits.max_rows || bytes > limits.max_bytes || at < oldest =>
                {
                    connection
                        .prepare_cached("DELETE FROM event WHERE id = ?1")?
                        .execute([id])?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Wakes subscribers if there are new events.
    pub(super) fn notify(&self, connection: &Connection) -> Result<(), StoreError> {
        let newest = newest(connection)?;
        self.newest.send_if_modified(|known| {
            let rose = newest > *known;
            *known = newest;
            rose
        });
        Ok(())
    }
}

fn total(connection: &Connection) -> Result<(u64, u64), StoreError> {
    let mut statement = connection.prepare_cached("SELECT rows, bytes FROM event_total")?;
    Ok(statement.query_row([], |row| {
        Ok((unsigned(row, "rows")?, unsigned(row, "bytes")?))
    })?)
}

/// The newest id ever assigned.
fn newest(connection: &Connection) -> Result<i64, StoreError> {
    let newest = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'event'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(newest.unwrap_or(0))
}

/// Adds an event of a device, within the transaction of the change.
pub(super) fn append(
    connection: &Connection,
    (kind, operation): (EventKind, &str),
    device: &DeviceId,
    at: Timestamp,
    body: Option<&[u8]>,
) -> Result<(), StoreError> {
    let bytes = ROW_BYTES + body.map_or(0, <[u8]>::len);
    connection
        .prepare_cached(
            "INSERT INTO event (at, kind, operation, subject, bytes, body) VALUES (?1, ?2, ?3, ?4, \
             ?5, ?6)",
        )?
        .execute(params![
            ticks(at),
            kind.as_str(),
            operation,
            device.as_ref(),
            signed(bytes as u64),
            body
        ])?;
    Ok(())
}

impl Store {
    /// Sets the limits of stored events.
    pub(crate) fn limit_events(&self, limits: EventLimits) {
        self.events.set_limits(limits);
    }

    /// The id of the newest event; increases with each commit of events.
    pub(crate) fn event_newest(&self) -> watch::Receiver<i64> {
        self.events.newest()
    }

    /// Stores a message of a device. `false` if the device no longer exists.
    pub(crate) async fn telemetry_insert(
        &self,
        message: TelemetryMessage,
    ) -> Result<bool, StoreError> {
        self.write_for_device(1, move |write| {
            let device = message.device.as_ref();
            let generation: Option<String> = write
                .connection
                .prepare_cached(
                    "UPDATE device SET last_activity = ?2 WHERE device_id = ?1 RETURNING \
                     generation_id",
                )?
                .query_row([device, &time_text(message.enqueued)], |row| row.get(0))
                .optional()?;
            let Some(generation) = generation else {
                return Ok(false);
            };
            let model_id: Option<String> = write
                .connection
                .prepare_cached(
                    "SELECT nullif(model_id, '') FROM twin WHERE id = \
                     (SELECT id FROM device WHERE device_id = ?1)",
                )?
                .query_row([device], |row| row.get(0))
                .optional()?
                .flatten();
            let model_bytes = model_id.as_ref().map_or(0, String::len);
            let bytes = ROW_BYTES + message.body.len() + message.properties.len() + model_bytes;
            write
                .connection
                .prepare_cached(
                    "INSERT INTO event (at, kind, subject, auth_method, generation_id, properties, \
                     message_id, repeated, bytes, body, model_id) \
                     VALUES (?1, 'telemetry', ?2, ?3, ?4, ?5, ?6, \
                     ?6 IS NOT NULL AND EXISTS (SELECT 1 FROM event WHERE subject = ?2 AND \
                     message_id = ?6), ?7, ?8, ?9)",
                )?
                .execute(params![
                    ticks(message.enqueued),
                    device,
                    message.auth_method,
                    generation,
                    message.properties,
                    message.message_id,
                    signed(bytes as u64),
                    &message.body[..],
                    model_id,
                ])?;
            Ok(true)
        })
        .await
    }

    /// Evicts events beyond the limits; needed while no new events arrive.
    pub(crate) async fn event_expire(&self) -> Result<(), StoreError> {
        // Each transaction, even an empty one, evicts some of the events beyond the limits.
        let mut rows = self.event_total().await?.0;
        loop {
            self.write_bulk(MAX_EVICTED_ROWS, |_| Ok::<_, StoreError>(()))
                .await?;
            let left = self.event_total().await?.0;
            if left >= rows {
                return Ok(());
            }
            rows = left;
        }
    }

    /// The number of stored events, and their size in bytes.
    pub(crate) async fn event_total(&self) -> Result<(u64, u64), StoreError> {
        self.read(total).await
    }

    /// The events after the id `after`, at most `max_rows` and about `max_bytes` of bodies. A call
    /// scans a bounded number of rows, so a page may be empty without being the last: `seen` is how
    /// far it got.
    pub(crate) async fn event_page(
        &self,
        filter: EventFilter,
        scope: Option<Arc<Scope>>,
        after: i64,
        max_rows: u32,
        max_bytes: usize,
    ) -> Result<EventPage, StoreError> {
        self.read(move |connection| {
            let (filter, scope) = (&filter, scope.as_deref());
            page(connection, (filter, scope), after, max_rows, max_bytes)
        })
        .await
    }
}

fn page(
    connection: &Connection,
    (filter, scope): (&EventFilter, Option<&Scope>),
    after: i64,
    max_rows: u32,
    max_bytes: usize,
) -> Result<EventPage, StoreError> {
    // A transaction, so that all three statements see one snapshot.
    let view = connection.unchecked_transaction()?;
    let newest = newest(&view)?;
    let oldest: Option<i64> = view
        .prepare_cached("SELECT min(id) FROM event")?
        .query_row([], |row| row.get(0))?;
    let oldest = oldest.unwrap_or(newest + 1);
    let from = after.max(oldest - 1);
    // With a device, its index leads from row to row; without one, the scan is bounded.
    let scanned = match (scope, &filter.device) {
        (Some(_), _) => MAX_SCOPED_ROWS,
        (None, None) => MAX_SCANNED_ROWS,
        (None, Some(_)) => i64::MAX,
    };
    let upto = newest.min(from.saturating_add(scanned));
    let mut sql = String::from(
        "SELECT id, at, kind, operation, subject, auth_method, generation_id, properties, \
         repeated, body, model_id FROM event \
         WHERE id > ?1 AND id <= ?2 AND at >= ?3",
    );
    let since = ticks(filter.since.unwrap_or(Timestamp::MIN));
    let device = filter.device.as_ref().map(DeviceId::as_ref);
    let mut parameters: Vec<&dyn ToSql> = vec![&from, &upto, &since];
    if let Some(device) = &device {
        sql.push_str(" AND subject = ?4 AND kind <> 'job'");
        parameters.push(device);
    }
    if !filter.kinds.is_empty() {
        // Sorted and without duplicates, so that there is one statement per set of kinds.
        let kinds = EventKind::ALL.iter();
        let kinds: Vec<_> = kinds
            .filter(|(kind, _)| filter.kinds.contains(kind))
            .map(|(_, name)| *name)
            .collect();
        sql.push_str(&format!(" AND kind IN ('{}')", kinds.join("', '")));
    }
    let scope = scope.map(|scope| within_scope(scope, parameters.len()));
    if let Some(scope) = &scope {
        sql.push_str(&scope.sql);
        let own = scope.parameters.iter().map(|value| value as &dyn ToSql);
        parameters.extend(own);
    }
    sql.push_str(" ORDER BY id");
    let mut statement = view.prepare_cached(&sql)?;
    let mut page = EventPage {
        events: Vec::new(),
        seen: upto.max(after),
        oldest,
        newest,
    };
    let (mut bytes, mut last) = (0, from);
    let mut read = |from: i64, upto: i64, last: &mut i64| -> Result<bool, StoreError> {
        let mut parameters = parameters.clone();
        (parameters[0], parameters[1]) = (&from, &upto);
        let mut rows = statement.query(&parameters[..])?;
        while let Some(row) = rows.next()? {
            *last = row.get("id")?;
            let Some(event) = damage::skip_damaged("an event", || last.to_string(), record(row))?
            else {
                continue;
            };
            bytes += event.body.as_ref().map_or(0, Vec::len);
            page.events.push(event);
            if page.events.len() >= max_rows as usize || bytes >= max_bytes {
                page.seen = *last;
                return Ok(true);
            }
        }
        Ok(false)
    };
    match read(from, upto, &mut last) {
        Err(error) if error.is_row_error() => {
            for id in last + 1..=upto {
                let full = read(id - 1, id, &mut last);
                if damage::skip_damaged("an event", || id.to_string(), full)?.unwrap_or(false) {
                    break;
                }
            }
        }
        other => drop(other?),
    }
    Ok(page)
}

/// What narrows events to jobs and devices within `scope`: a job's events from its creation on,
/// because an earlier job may have had its id.
fn within_scope(scope: &Scope, offset: usize) -> Compiled {
    let inside = match scope.condition {
        None => Compiled {
            sql: "1".to_owned(),
            parameters: Vec::new(),
        },
        Some(_) => scope::exists(scope, "device.device_id = event.subject", offset + 1),
    };
    let sql = format!(
        " AND CASE kind WHEN 'job' THEN EXISTS (SELECT 1 FROM job \
         WHERE job.job_id = event.subject AND job.policy = ?{}) \
         AND id >= coalesce((SELECT max(id) FROM event AS queued WHERE \
         queued.subject = event.subject AND queued.kind = 'job' AND queued.operation = 'jobQueued'), \
         0) ELSE {} END",
        offset + 1,
        inside.sql,
    );
    let policy = Value::from(scope.policy.as_str().to_owned());
    let parameters = [policy].into_iter().chain(inside.parameters).collect();
    Compiled { sql, parameters }
}

fn record(row: &Row<'_>) -> Result<EventRecord, StoreError> {
    let ticks: i64 = row.get("at")?;
    let at = Timestamp::from_nanosecond(i128::from(ticks) * NANOSECONDS_PER_TICK);
    let kind: String = row.get("kind")?;
    Ok(EventRecord {
        id: row.get("id")?,
        at: at.map_err(|error| StoreError::corrupt("event time", error))?,
        kind: EventKind::parse(&kind)
            .ok_or_else(|| StoreError::corrupt("event", UnknownKind(kind)))?,
        operation: row.get("operation")?,
        subject: row.get("subject")?,
        auth_method: row.get("auth_method")?,
        generation_id: row.get("generation_id")?,
        properties: row.get("properties")?,
        model_id: row.get("model_id")?,
        repeated: row.get("repeated")?,
        body: row.get("body")?,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("unknown event kind `{0}`")]
struct UnknownKind(String);
