//! The event log for readers: each event as one document, in order, with the properties that
//! Azure's endpoints attach to a message.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::event::{EventFilter, EventKind};
use iothub_protocol::time;
use iothub_protocol::topic::PropertyBag;
use iothub_protocol::twin::{self, Object, Section, SectionKind};
use jiff::Timestamp;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::ServiceError;
use super::twin::UPDATED;
use crate::store::{EventRecord, Store};
use crate::types::Scope;

/// Readers that may follow at once. Each costs a connection and an occasional short read.
const MAX_STREAMS: usize = 64;

/// Events of one batch, at most: they stay in memory while the reader takes them.
const MAX_BATCH_ROWS: u32 = 256;

/// A batch ends with the event that brings its bodies to this size; a message has at most 256 KiB.
/// Memory for each reader is about three times this.
const MAX_BATCH_BYTES: usize = 128 * 1024;

#[derive(Clone)]
pub(crate) struct EventService {
    store: Store,
    streams: Arc<Semaphore>,
}

/// One reader: it starts at an event or a time and follows for as long as it likes.
pub(crate) struct EventStream {
    store: Store,
    filter: EventFilter,
    scope: Option<Arc<Scope>>,
    /// All matching events up to this id have been delivered.
    seen: i64,
    newest: watch::Receiver<i64>,
    /// Webhooks need none: they are as many as the settings name.
    _permit: Option<OwnedSemaphorePermit>,
}

/// The events of one read.
#[derive(Debug)]
pub(crate) struct EventBatch {
    /// The first and last id of the events that were deleted before the reader got them.
    pub(crate) lost: Option<(i64, i64)>,
    /// In order.
    pub(crate) events: Vec<EventRecord>,
    /// Whether these are the newest events so far.
    pub(crate) at_end: bool,
}

impl EventService {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    /// Starts reading within `scope` after the event `after`; without it, and without a time in
    /// `filter`, with the next new event.
    ///
    /// # Errors
    ///
    /// `ThrottlingException` when too many readers follow; `ArgumentInvalid` when `after` is newer
    /// than the newest event.
    pub(crate) fn follow(
        &self,
        filter: EventFilter,
        after: Option<i64>,
        scope: Option<Arc<Scope>>,
    ) -> Result<EventStream, ServiceError> {
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        let permit = permit.map_err(|_| {
            let message = format!("{MAX_STREAMS} readers already follow the events");
            ServiceError::new(ErrorCode::ThrottlingException, message)
        })?;
        let newest = self.store.event_newest();
        let last = *newest.borrow();
        let seen = match (after, filter.since) {
            (Some(after), _) if after > last => {
                return Err(ServiceError::argument(format!(
                    "event {after} does not exist yet, the newest is {last}: \
                     the id comes from another hub, or from this one before a restore"
                )));
            }
            (Some(after), _) => after,
            (None, Some(_)) => 0,
            (None, None) => last,
        };
        Ok(EventStream {
            store: self.store.clone(),
            filter,
            scope,
            seen,
            newest,
            _permit: Some(permit),
        })
    }

    /// Starts reading for the hub itself: after the event `after`, else with the next new one.
    pub(crate) fn follow_for_hub(&self, filter: EventFilter, after: Option<i64>) -> EventStream {
        let newest = self.store.event_newest();
        let last = *newest.borrow();
        EventStream {
            store: self.store.clone(),
            filter,
            scope: None,
            seen: after.map_or(last, |after| after.min(last)),
            newest,
            _permit: None,
        }
    }

    pub(crate) async fn expire(&self) -> Result<(), ServiceError> {
        Ok(self.store.event_expire().await?)
    }
}

impl EventStream {
    /// All matching events up to this id have been delivered.
    pub(crate) const fn seen(&self) -> i64 {
        self.seen
    }

    /// Reads the next batch. It may be empty without being at the end.
    pub(crate) async fn next(&mut self) -> Result<EventBatch, ServiceError> {
        let filter = self.filter.clone();
        let page = self.store.event_page(
            filter,
            self.scope.clone(),
            self.seen,
            MAX_BATCH_ROWS,
            MAX_BATCH_BYTES,
        );
        let page = page.await?;
        // A reader that starts at a time wants what is kept: events deleted before are not lost.
        let resumed = self.seen > 0;
        let lost =
            (resumed && self.seen + 1 < page.oldest).then(|| (self.seen + 1, page.oldest - 1));
        self.seen = page.seen;
        Ok(EventBatch {
            lost,
            events: page.events,
            at_end: page.seen >= page.newest,
        })
    }

    /// Waits until there may be more events.
    pub(crate) async fn wait_for_more(&mut self) {
        let seen = self.seen;
        // The sender lives as long as the store, hence as long as `self`.
        let _ = self.newest.wait_for(|newest| *newest > seen).await;
    }
}

/// The document that readers get.
impl Serialize for EventRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (system, own) = properties(self);
        let mut document = serializer.serialize_map(None)?;
        document.serialize_entry("id", &self.id)?;
        document.serialize_entry("kind", self.kind.as_str())?;
        document.serialize_entry("time", &time::format(self.at))?;
        let subject = match self.kind {
            EventKind::Job => "jobId",
            _ => "deviceId",
        };
        document.serialize_entry(subject, &self.subject)?;
        if self.repeated {
            document.serialize_entry("repeated", &true)?;
        }
        document.serialize_entry("systemProperties", &system)?;
        document.serialize_entry("properties", &own)?;
        match body(self) {
            Some(Ok(json)) => document.serialize_entry("body", &json)?,
            Some(Err(base64)) => document.serialize_entry("bodyBase64", &base64)?,
            None => {}
        }
        document.end()
    }
}

/// The system properties of an event, and the sender's own.
fn properties(record: &EventRecord) -> (Object, Object) {
    let (source, schema) = match record.kind {
        EventKind::Telemetry => ("Telemetry", None),
        EventKind::Connection => (
            "deviceConnectionStateEvents",
            Some("deviceConnectionStateNotification"),
        ),
        EventKind::Twin => ("twinChangeEvents", Some("twinChangeNotification")),
        EventKind::Device => ("deviceLifecycleEvents", Some("deviceLifecycleNotification")),
        EventKind::Job => ("jobEvents", Some("jobNotification")),
    };
    let time = time::format(record.at);
    let mut system = Object::new();
    let mut own = Object::new();
    system.insert("iothub-message-source".into(), source.into());
    system.insert("iothub-enqueuedtime".into(), time.clone().into());
    if record.kind != EventKind::Job {
        let name = "iothub-connection-device-id";
        system.insert(name.into(), record.subject.clone().into());
    }
    for (name, value) in [
        (
            "iothub-connection-auth-generation-id",
            &record.generation_id,
        ),
        ("iothub-connection-auth-method", &record.auth_method),
        ("dt-dataschema", &record.model_id),
    ] {
        system.extend(value.clone().map(|value| (name.to_owned(), value.into())));
    }
    match schema {
        None => {
            // The store holds the text that a property bag wrote, so it parses.
            let text = record.properties.as_deref().unwrap_or_default();
            let bag = PropertyBag::parse(text).unwrap_or_default();
            for (name, value) in bag.iter() {
                let value = Value::from(value);
                match (system_name(name), name.starts_with("$.")) {
                    (Some(name), _) => system.insert(name.to_owned(), value),
                    (None, true) => None,
                    (None, false) => own.insert(name.to_owned(), value),
                };
            }
        }
        Some(schema) => {
            for (name, value) in [
                ("content-type", "application/json"),
                ("content-encoding", "utf-8"),
            ] {
                system.insert(name.to_owned(), value.into());
            }
            own.insert("operationTimestamp".into(), time.into());
            own.insert("opType".into(), record.operation.clone().into());
            own.insert("iothub-message-schema".into(), schema.into());
        }
    }
    (system, own)
}

/// The name under which readers see a system property of a message (IoT Hub developer guide,
/// "System properties of D2C IoT Hub messages"). Properties that identify the sender are missing
/// here: a device cannot set them.
fn system_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "$.mid" => "message-id",
        "$.cid" => "correlation-id",
        "$.uid" => "user-id",
        "$.to" => "to",
        "$.ct" => "content-type",
        "$.ce" => "content-encoding",
        "$.exp" => "absolute-expiry-time",
        "$.ctime" => "iothub-creation-time-utc",
        "$.on" => "output-name",
        "$.sub" => "dt-subject",
        "$.ifid" => "iothub-interface-id",
        "$.schema" => "iothub-message-schema",
        "$.diagid" => "diagnostic-id",
        "$.diagctx" => "diagnostic-context",
        _ => return None,
    })
}

/// The payload of an event: JSON, or in base64 if it is not JSON.
fn body(record: &EventRecord) -> Option<Result<Box<RawValue>, String>> {
    let stored = record.body.as_deref().unwrap_or_default();
    let document = match (record.kind, record.operation.as_deref()) {
        (EventKind::Telemetry, _) => {
            let json = single_line(stored);
            return Some(json.ok_or_else(|| BASE64_STANDARD.encode(stored)));
        }
        (EventKind::Connection, _) => connection(record.id, stored),
        (EventKind::Twin, Some(UPDATED)) => with_metadata(stored, record.at),
        (EventKind::Device, _) => with_etag(stored),
        (EventKind::Twin | EventKind::Job, _) => return single_line(stored).map(Ok),
    };
    serde_json::value::to_raw_value(&document).ok().map(Ok)
}

/// Puts JSON on one line: a line break outside of strings is white space, and strings contain none.
fn single_line(json: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(json).ok()?;
    let text = if text.contains(['\n', '\r']) {
        text.replace(['\n', '\r'], " ")
    } else {
        text.to_owned()
    };
    RawValue::from_string(text).ok()
}

/// `sequenceNumber`: 64 hexadecimal digits that increase, also when compared as text. `reason` is
/// an addition of this hub.
fn connection(id: i64, reason: &[u8]) -> Object {
    let mut document = Object::new();
    document.insert("sequenceNumber".into(), format!("{id:064X}").into());
    if !reason.is_empty() {
        let reason = String::from_utf8_lossy(reason).into_owned();
        document.insert("reason".into(), reason.into());
    }
    document
}

/// Adds `$metadata` to each section of properties; it follows from what was written and when.
fn with_metadata(stored: &[u8], at: Timestamp) -> Object {
    let mut document: Object = serde_json::from_slice(stored).unwrap_or_default();
    let sections = document
        .get_mut("properties")
        .and_then(Value::as_object_mut);
    for (name, section) in sections.into_iter().flatten() {
        let kind = match name.as_str() {
            "desired" => SectionKind::Desired,
            _ => SectionKind::Reported,
        };
        if let Value::Object(section) = section {
            let version = section.shift_remove("$version");
            let number = version.as_ref().and_then(Value::as_u64).unwrap_or_default();
            let metadata = Section::metadata_of(kind, section, number, at);
            section.insert("$metadata".into(), metadata.into());
            section.insert("$version".into(), number.into());
        }
    }
    document
}

/// The store holds a twin's etag as its counter.
fn with_etag(stored: &[u8]) -> Object {
    let mut document: Object = serde_json::from_slice(stored).unwrap_or_default();
    if let Some(etag) = document.get_mut("etag") {
        *etag = twin::etag(etag.as_u64().unwrap_or_default()).into();
    }
    document
}
