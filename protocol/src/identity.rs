//! Device identities (`/devices`): which devices may connect, and with which credentials.

use std::fmt;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::id::DeviceId;
use crate::time;
use crate::twin::{self, Capabilities, ConnectionState, DeviceStatus};

/// A registered device as the registry shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceIdentity {
    /// The device id.
    pub device_id: DeviceId,
    /// Changes when the device is deleted and created again.
    #[serde(default)]
    pub generation_id: Option<String>,
    /// Changes with every change of the identity.
    #[serde(default)]
    pub etag: Option<String>,
    /// Whether the device is connected; Azure may lag by some minutes.
    pub connection_state: ConnectionState,
    /// Whether the device may connect.
    pub status: DeviceStatus,
    /// Why it may or may not connect.
    #[serde(default)]
    pub status_reason: Option<String>,
    /// When `connection_state` last changed; the year 1 if never.
    #[serde(default = "twin::never", with = "time::or_never")]
    pub connection_state_updated_time: Timestamp,
    /// When `status` last changed; the year 1 if never.
    #[serde(default = "twin::never", with = "time::or_never")]
    pub status_updated_time: Timestamp,
    /// When the device last sent something; the year 1 if never.
    #[serde(default = "twin::never", with = "time::or_never")]
    pub last_activity_time: Timestamp,
    /// Number of pending cloud-to-device messages.
    #[serde(default, deserialize_with = "twin::null_as_default")]
    pub cloud_to_device_message_count: u64,
    /// How it authenticates; without keys unless the policy may read them.
    #[serde(default, serialize_with = "in_registry_order")]
    pub authentication: Option<Authentication>,
    /// Whether it is an IoT Edge device.
    #[serde(default)]
    pub capabilities: Option<Capabilities>,
    /// Scope among IoT Edge devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_scope: Option<String>,
    /// Scopes of its parents among IoT Edge devices.
    #[serde(
        default,
        deserialize_with = "twin::null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub parent_scopes: Vec<String>,
}

/// How a device authenticates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// `sas`, `selfSigned`, `certificateAuthority` or `none`.
    #[serde(rename = "type")]
    pub kind: String,
    /// In a request, the hub generates missing keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<SymmetricKey>,
    /// Thumbprints of its certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509_thumbprint: Option<Thumbprints>,
}

/// Two keys; either is valid, so that one can be rotated while the other is in use.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SymmetricKey {
    /// Base64; a secret.
    pub primary_key: Option<String>,
    /// Base64; a secret.
    pub secondary_key: Option<String>,
}

/// Thumbprints of a device's self-signed certificates, in hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a JSON object")]
pub struct Thumbprints {
    /// Of the primary certificate; twins of Azure spell it with a capital.
    #[serde(alias = "PrimaryThumbprint")]
    pub primary_thumbprint: Option<String>,
    /// Of the secondary certificate.
    #[serde(alias = "SecondaryThumbprint")]
    pub secondary_thumbprint: Option<String>,
}

/// Omits the keys.
impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(..)")
    }
}

/// Errors do not repeat the invalid value: it may be a key.
impl<'de> Deserialize<'de> for SymmetricKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Keys {
            primary_key: Option<String>,
            secondary_key: Option<String>,
        }
        let value = Value::deserialize(deserializer)?;
        let keys = Keys::deserialize(value).map_err(|_| {
            D::Error::custom("expected an object with the texts `primaryKey` and `secondaryKey`")
        })?;
        Ok(Self {
            primary_key: keys.primary_key,
            secondary_key: keys.secondary_key,
        })
    }
}

/// The registry writes the type last, and requests have it first.
fn in_registry_order<S: Serializer>(
    authentication: &Option<Authentication>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(authentication) = authentication else {
        return serializer.serialize_none();
    };
    let mut members = serializer.serialize_struct("Authentication", 3)?;
    members.serialize_field("symmetricKey", &authentication.symmetric_key)?;
    members.serialize_field("x509Thumbprint", &authentication.x509_thumbprint)?;
    members.serialize_field("type", &authentication.kind)?;
    members.end()
}
