//! Device identities (`/devices`).

use std::fmt;

use iothub_protocol::DeviceId;
use iothub_protocol::twin::{Capabilities, ConnectionState, DeviceStatus, Thumbprints};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::error::ClientError;
use super::{HubClient, RetryPolicy};

/// A device to register.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewDevice {
    device_id: DeviceId,
    status: &'static str,
    authentication: Authentication,
}

impl NewDevice {
    /// A device whose keys the hub makes.
    #[must_use]
    pub fn with_generated_keys(device_id: DeviceId) -> Self {
        Self {
            device_id,
            status: "enabled",
            authentication: Authentication {
                kind: "sas".to_owned(),
                ..Authentication::default()
            },
        }
    }
}

/// A registered device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceIdentity {
    /// Its name.
    pub device_id: DeviceId,
    /// Changes when it is deleted and made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_id: Option<String>,
    /// Changes with the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Whether it is connected now; Azure may lag some minutes behind.
    pub connection_state: ConnectionState,
    /// Whether it may connect.
    pub status: DeviceStatus,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// How it proves who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Whether it is an edge device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Its place among edge devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_scope: Option<String>,
    /// The scopes of its parents among edge devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_scopes: Vec<String>,
}

/// What can be changed of an identity; a change replaces all of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdentityUpdate<'a> {
    device_id: &'a DeviceId,
    status: DeviceStatus,
    status_reason: Option<&'a str>,
    authentication: Option<&'a Authentication>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_scope: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    parent_scopes: &'a [String],
}

/// How a device proves who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// `sas`, `selfSigned`, `certificateAuthority` or `none`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its keys; in a request, absent keys are made by the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<SymmetricKey>,
    /// The thumbprints of its certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509_thumbprint: Option<Thumbprints>,
}

/// Two keys, either of which is good.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SymmetricKey {
    /// The first, in base64: a secret.
    #[serde(default)]
    pub primary_key: Option<String>,
    /// The second, in base64: a secret.
    #[serde(default)]
    pub secondary_key: Option<String>,
}

/// Leaves the keys out.
impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(..)")
    }
}

/// How many devices are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HubStatistics {
    /// Devices that are connected now.
    pub connected_device_count: u64,
}

impl HubClient {
    /// Registers a device; there must be none of that name.
    ///
    /// # Errors
    ///
    /// `DeviceAlreadyExists`, or any other [`ClientError`].
    pub async fn device_create(&self, device: &NewDevice) -> Result<DeviceIdentity, ClientError> {
        let path = ["devices", device.device_id.as_str()];
        let request = self
            .request(Method::PUT, &path, RetryPolicy::IfThrottled)?
            .json(device)?;
        self.send(&request).await?.json("a device identity")
    }

    /// Reads a device's identity, keys included when the policy allows.
    ///
    /// # Errors
    ///
    /// `DeviceNotFound`, or any other [`ClientError`].
    pub async fn device(&self, id: &DeviceId) -> Result<DeviceIdentity, ClientError> {
        let request = self.get(&["devices", id.as_str()])?;
        self.send(&request).await?.json("a device identity")
    }

    /// Changes a device's status, reason and authentication, only while it still has the etag that
    /// it was read with.
    ///
    /// # Errors
    ///
    /// `DeviceNotFound`, `PreconditionFailed`, or any other [`ClientError`].
    pub async fn device_update(
        &self,
        identity: &DeviceIdentity,
    ) -> Result<DeviceIdentity, ClientError> {
        let update = IdentityUpdate {
            device_id: &identity.device_id,
            status: identity.status,
            status_reason: identity.status_reason.as_deref(),
            authentication: identity.authentication.as_ref(),
            capabilities: identity.capabilities,
            device_scope: identity.device_scope.as_deref(),
            parent_scopes: &identity.parent_scopes,
        };
        let path = ["devices", identity.device_id.as_str()];
        let request = self
            .request(Method::PUT, &path, RetryPolicy::IfThrottled)?
            .json(&update)?
            .if_match(Some(identity.etag.as_deref().unwrap_or("*")))?;
        self.send(&request).await?.json("a device identity")
    }

    /// Removes a device, its twin and its keys.
    ///
    /// # Errors
    ///
    /// `DeviceNotFound`, or any other [`ClientError`].
    pub async fn device_delete(&self, id: &DeviceId) -> Result<(), ClientError> {
        let path = ["devices", id.as_str()];
        let request = self
            .request(Method::DELETE, &path, RetryPolicy::IfThrottled)?
            .if_match(Some("*"))?;
        self.send(&request).await.map(drop)
    }

    /// How many devices are connected.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn statistics(&self) -> Result<HubStatistics, ClientError> {
        let request = self.get(&["statistics", "service"])?;
        self.send(&request).await?.json("the service statistics")
    }
}
