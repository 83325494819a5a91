//! Identities, twins and sessions as every store returns and takes them.

use bytes::Bytes;
use iothub_protocol::id::DeviceId;
use iothub_protocol::identity::Thumbprints;
use iothub_protocol::query::{ProjectionItem, ProjectionValue};
use iothub_protocol::twin::{ConnectionState, Object, Section};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::NEVER;
use crate::identity::Keys;

/// How an identity authenticates. Credentials that its type does not use are not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredAuthentication {
    /// `sas`, `selfSigned`, `certificateAuthority` or `none`.
    pub(crate) kind: String,
    /// The keys of `sas`.
    pub(crate) keys: Option<Keys>,
    /// The thumbprints of `selfSigned`.
    pub(crate) thumbprints: Thumbprints,
}

/// An identity.
#[derive(Debug, Clone)]
pub(crate) struct DeviceRecord {
    pub(crate) device_id: DeviceId,
    pub(crate) generation_id: String,
    pub(crate) etag: String,
    pub(crate) enabled: bool,
    pub(crate) status_reason: Option<String>,
    pub(crate) status_updated: String,
    pub(crate) authentication: StoredAuthentication,
    pub(crate) connection_state: ConnectionState,
    pub(crate) connection_state_updated: String,
    pub(crate) last_activity: String,
    /// `capabilities.iotEdge`.
    pub(crate) iot_edge: bool,
}

impl DeviceRecord {
    /// An identity that can authenticate nowhere, and has never connected.
    pub(crate) fn new(device_id: DeviceId, generation_id: String, etag: String) -> Self {
        Self {
            device_id,
            generation_id,
            etag,
            enabled: true,
            status_reason: None,
            status_updated: NEVER.to_owned(),
            authentication: StoredAuthentication {
                kind: "none".to_owned(),
                keys: None,
                thumbprints: Thumbprints::default(),
            },
            connection_state: ConnectionState::Disconnected,
            connection_state_updated: NEVER.to_owned(),
            last_activity: NEVER.to_owned(),
            iot_edge: false,
        }
    }
}

/// The number of identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceStatistics {
    pub(crate) total: u64,
    pub(crate) enabled: u64,
}

/// A twin with its identity; `O` are its tags, and `S` each of its sections.
#[derive(Debug, Clone)]
pub(crate) struct TwinRecord<O = Object, S = Section> {
    /// Row id; also the position in the order of all twins.
    pub(crate) row: i64,
    pub(crate) device: DeviceRecord,
    pub(crate) model_id: String,
    pub(crate) version: u64,
    pub(crate) etag: u64,
    pub(crate) tags: O,
    pub(crate) desired: S,
    pub(crate) reported: S,
}

/// A twin whose tags and sections are JSON as the service shows it: reading a fleet takes apart
/// nothing of it.
pub(crate) type TwinText = TwinRecord<Box<RawValue>, Box<RawValue>>;

/// The sections of twins that a query reads; the others are empty objects in its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sections {
    pub(crate) tags: bool,
    pub(crate) desired: bool,
    pub(crate) reported: bool,
}

impl Sections {
    pub(crate) const ALL: Self = Self {
        tags: true,
        desired: true,
        reported: true,
    };

    pub(crate) const NONE: Self = Self {
        tags: false,
        desired: false,
        reported: false,
    };

    /// Those with a member that `items` select: all if there are no items.
    pub(crate) fn of(items: &[ProjectionItem]) -> Self {
        if items.is_empty() {
            return Self::ALL;
        }
        let is_selected = |name: &str, section: &str| {
            items.iter().any(|item| {
                let ProjectionValue::Path(path) = &item.value else {
                    return false;
                };
                let [root, rest @ ..] = path.segments() else {
                    return false;
                };
                root == name
                    && rest
                        .first()
                        .is_none_or(|first| name == "tags" || first == section)
            })
        };
        Self {
            tags: is_selected("tags", ""),
            desired: is_selected("properties", "desired"),
            reported: is_selected("properties", "reported"),
        }
    }
}

/// The event of a twin change.
#[derive(Debug)]
pub(crate) struct TwinEvent {
    /// `updateTwin` or `replaceTwin`.
    pub(crate) operation: &'static str,
    /// When the change was made; the same as in the twin's metadata.
    pub(crate) at: Timestamp,
    /// The patch, or the whole twin.
    pub(crate) body: Bytes,
}

/// The parts of a twin that a change modified. Other parts are not written.
#[derive(Debug)]
pub(crate) struct TwinChange {
    pub(crate) tags: bool,
    /// Modified desired properties: the payload of the device's notification.
    pub(crate) desired: Option<Bytes>,
    pub(crate) reported: bool,
    pub(crate) event: TwinEvent,
}

/// A committed change of desired properties, to be sent to the device.
#[derive(Debug)]
pub(crate) struct DesiredChange {
    pub(crate) device: DeviceId,
    pub(crate) version: u64,
    /// The payload of the notification: the patch and `$version`.
    pub(crate) body: Bytes,
}

/// A subscription of a persistent session: the filter and the granted QoS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSubscription {
    /// The filter as the device sent it.
    pub(crate) filter: String,
    /// 0 or 1.
    pub(crate) qos: u8,
}
