//! Events as every store returns and takes them.

use bytes::Bytes;
use iothub_protocol::event::EventKind;
use iothub_protocol::id::DeviceId;
use jiff::Timestamp;

/// Size of a row without its texts, in bytes.
pub(super) const ROW_BYTES: usize = 64;

/// Operations of the events of this table (Azure's `opType`).
pub(super) const CONNECTED: &str = "deviceConnected";

pub(super) const DISCONNECTED: &str = "deviceDisconnected";

/// Not an operation of Azure.
pub(super) const CONFLICT: &str = "identityConflict";

/// A message to store.
#[derive(Debug)]
pub(crate) struct TelemetryMessage {
    pub(crate) device: DeviceId,
    /// How the sender authenticated, as in the system property.
    pub(crate) auth_method: &'static str,
    /// When the hub accepted it.
    pub(crate) enqueued: Timestamp,
    /// Its properties, encoded as in its topic.
    pub(crate) properties: String,
    /// The message id that the sender set.
    pub(crate) message_id: Option<String>,
    pub(crate) body: Bytes,
}

/// A stored event.
#[derive(Debug)]
pub(crate) struct EventRecord {
    pub(crate) id: i64,
    pub(crate) at: Timestamp,
    pub(crate) kind: EventKind,
    pub(crate) operation: Option<String>,
    pub(crate) subject: String,
    pub(crate) auth_method: Option<String>,
    pub(crate) generation_id: Option<String>,
    pub(crate) properties: Option<String>,
    /// The model of the sender of a message.
    pub(crate) model_id: Option<String>,
    pub(crate) repeated: bool,
    pub(crate) body: Option<Vec<u8>>,
}

/// A page of events, in order.
#[derive(Debug)]
pub(crate) struct EventPage {
    pub(crate) events: Vec<EventRecord>,
    /// All matching events up to this id have been read.
    pub(crate) seen: i64,
    /// The oldest stored id.
    pub(crate) oldest: i64,
    /// The newest id, whether or not it is still stored.
    pub(crate) newest: i64,
}
