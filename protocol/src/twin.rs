//! Device twins: a document for each device that service and device share, and the rules of its
//! changes.
//!
//! A twin has three sections: `tags` (the service's own), desired properties (written by the
//! service, read by the device) and reported properties (the other way round). A section of
//! properties has `$version` and `$metadata`; see [`Section`] for its changes and [`limits`] for
//! its limits. Source: "Understand and use device twins in IoT Hub".

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::id::DeviceId;
use crate::identity::Thumbprints;
use crate::time;

pub use limits::{SectionKind, TwinError};
pub use patch::{SectionPatch, TwinPatch};
pub use section::Section;
pub use text::object_text;

pub mod limits;
mod merge;
mod metadata;
mod patch;
mod section;
mod text;

pub use merge::{merge, replacement_patch};

/// A JSON object.
pub type Object = Map<String, Value>;

/// The version of a twin that has never been written.
pub const FIRST_VERSION: u64 = 2;

/// The etag counter of a twin that has never been written, and the `$version` of its sections.
pub const FIRST_COUNTER: u64 = 1;

/// A twin as the service shows it: with tags `O`, desired properties `S` and reported ones `R`,
/// which may be JSON as text where nobody looks inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound(deserialize = "O: Deserialize<'de> + Default, S: Deserialize<'de>, R: Deserialize<'de>")
)]
pub struct Twin<O = Object, S = Section, R = S> {
    /// The device id.
    pub device_id: DeviceId,
    /// Counts writes of tags and desired properties; see [`etag`].
    pub etag: String,
    /// The etag of the device's identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_etag: Option<String>,
    /// Whether the device may connect.
    #[serde(default, deserialize_with = "null_as_default")]
    pub status: DeviceStatus,
    /// Why it may or may not connect.
    #[serde(default)]
    pub status_reason: Option<String>,
    /// When `status` was last set; the year 1 if never.
    #[serde(default = "never", with = "time::or_never")]
    pub status_update_time: Timestamp,
    /// Whether the device is connected.
    #[serde(default, deserialize_with = "null_as_default")]
    pub connection_state: ConnectionState,
    /// When the device last sent something; the year 1 if never.
    #[serde(default = "never", with = "time::or_never")]
    pub last_activity_time: Timestamp,
    /// Number of pending cloud-to-device messages.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cloud_to_device_message_count: u64,
    /// `sas`, `selfSigned`, `certificateAuthority` or `none`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub authentication_type: String,
    /// The certificates of `selfSigned`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub x509_thumbprint: Thumbprints,
    /// The model id that the device sent when it connected; empty if none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub model_id: String,
    /// Counts writes of any section.
    pub version: u64,
    /// The section that only the service sees.
    #[serde(default, deserialize_with = "null_as_default")]
    pub tags: O,
    /// The sections that the device sees too.
    pub properties: Properties<S, R>,
    /// What kind of device it is.
    #[serde(default, deserialize_with = "null_as_default")]
    pub capabilities: Capabilities,
}

/// The properties of a device. This is also the twin as the device sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Properties<S = Section, R = S> {
    /// The desired properties, written by the service.
    pub desired: S,
    /// The reported properties, written by the device.
    pub reported: R,
}

/// Whether a device may connect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceStatus {
    /// It may connect.
    #[default]
    Enabled,
    /// It may not connect.
    Disabled,
}

/// Whether a device is connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionState {
    /// It is connected.
    Connected,
    /// It is not connected.
    #[default]
    Disconnected,
}

/// What kind of device it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    /// Whether other devices connect through it.
    pub iot_edge: bool,
}

impl Properties {
    /// As the device sees them: without `$metadata`.
    #[must_use]
    pub fn without_metadata(self) -> Self {
        Self {
            desired: self.desired.without_metadata(),
            reported: self.reported.without_metadata(),
        }
    }
}

/// The etag of a twin: the base64 of a counter of eight bytes, big-endian.
#[must_use]
pub fn etag(counter: u64) -> String {
    BASE64_STANDARD.encode(counter.to_be_bytes())
}

/// The counter of an etag; `None` if the text is not an etag of this form.
#[must_use]
pub fn parse_etag(text: &str) -> Option<u64> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// Reads null like an absent member.
pub(crate) fn null_as_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The timestamp that means "never": `0001-01-01T00:00:00Z`.
#[must_use]
pub fn never() -> Timestamp {
    Timestamp::constant(-62_135_596_800, 0)
}

#[cfg(test)]
mod tests;
