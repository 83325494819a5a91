//! The event log for readers: each event as one document, in order, with the properties that
//! Azure's endpoints attach to a message.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::event::{EventFilter, EventKind};
use iothub_protocol::id::PolicyName;
use iothub_protocol::time;
use iothub_protocol::topic::PropertyBag;
use iothub_protocol::twin::{self, Object, Section, SectionKind};
use jiff::Timestamp;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::ServiceError;
use super::twin::UPDATED;
use crate::store::{EventRecord, Store};
use crate::types::Scope;

/// Readers that may follow at once. Each costs a connection and an occasional short read.
const MAX_STREAMS: usize = 64;

/// Those of pages and of policies with bounds: the rest is for programs.
const MAX_LIMITED_STREAMS: usize = 48;

/// Those of one policy with bounds.
const MAX_POLICY_STREAMS: usize = 32;

/// Events of one batch, at most: they stay in memory while the reader takes them.
const MAX_BATCH_ROWS: u32 = 256;

/// A batch ends with the event that brings its bodies to this size; a message has at most 256 KiB.
/// Memory for each reader is about three times this.
const MAX_BATCH_BYTES: usize = 128 * 1024;

#[derive(Clone)]
pub(crate) struct EventService {
    store: Store,
    followers: Followers,
}

/// The readers that follow.
type Followers = Arc<Mutex<Vec<Follower>>>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Follower {
    Program,
    Page,
    Bounded(PolicyName),
}

/// The slot of a reader; free again when dropped.
struct FollowerSlot {
    followers: Followers,
    follower: Follower,
}

impl FollowerSlot {
    fn take(followers: &Followers, follower: Follower) -> Result<Self, ServiceError> {
        let mut present = followers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |counts: &dyn Fn(&Follower) -> bool| {
            present.iter().filter(|other| counts(other)).count()
        };
        let limited = count(&|other| *other != Follower::Program);
        let own = count(&|other| *other == follower);
        let full = match follower {
            _ if present.len() >= MAX_STREAMS => Some((MAX_STREAMS, "readers")),
            Follower::Program => None,
            _ if limited >= MAX_LIMITED_STREAMS => {
                Some((MAX_LIMITED_STREAMS, "pages and readers with bounds"))
            }
            Follower::Bounded(_) if own >= MAX_POLICY_STREAMS => {
                Some((MAX_POLICY_STREAMS, "readers of this policy"))
            }
            _ => None,
        };
        if let Some((limit, readers)) = full {
            let message = format!("{limit} {readers} already follow the events");
            return Err(ServiceError::new(ErrorCode::ThrottlingException, message));
        }
        present.push(follower.clone());
        Ok(Self {
            followers: Arc::clone(followers),
            follower,
        })
    }
}

impl Drop for FollowerSlot {
    fn drop(&mut self) {
        let followers = self.followers.lock();
        let mut followers = followers.unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = followers.iter().position(|other| *other == self.follower) {
            followers.swap_remove(index);
        }
    }
}

/// One reader: it starts at an event or a time and follows for as long as it likes.
pub(crate) struct EventStream {
    store: Store,
    filter: EventFilter,
    scope: Option<Arc<Scope>>,
    /// All matching events up to this id have been delivered.
    seen: i64,
    newest: watch::Receiver<i64>,
    /// Webhooks need none: there are as many as the settings name.
    _slot: Option<FollowerSlot>,
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
            followers: Followers::default(),
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
        is_page: bool,
    ) -> Result<EventStream, ServiceError> {
        let follower = match &scope {
            Some(scope) => Follower::Bounded(scope.policy.clone()),
            None if is_page => Follower::Page,
            None => Follower::Program,
        };
        let slot = FollowerSlot::take(&self.followers, follower)?;
        let newest = self.store.event_newest();
        let last = *newest.borrow();
        let seen = match (after, filter.since) {
            (Some(after), _) if after > last => {
                // What happens outside of its scope is not counted for a caller.
                let newest = match scope {
                    None => format!(", the newest is {last}"),
                    Some(_) => String::new(),
                };
                return Err(ServiceError::argument(format!(
                    "event {after} does not exist yet{newest}: \
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
            _slot: Some(slot),
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
            _slot: None,
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
