//! Device identities (`/devices`).

use iothub_protocol::DeviceId;
use iothub_protocol::identity::{Authentication, DeviceIdentity};
use iothub_protocol::twin::{Capabilities, DeviceStatus};
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
    /// A device with keys that the hub generates.
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

/// The members of an identity that can be changed; a change replaces all of them.
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

/// Numbers of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HubStatistics {
    /// Devices that are connected now.
    pub connected_device_count: u64,
}

impl HubClient {
    /// Registers a device that must not exist.
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

    /// Reads a device's identity, with keys if the policy allows.
    ///
    /// # Errors
    ///
    /// `DeviceNotFound`, or any other [`ClientError`].
    pub async fn device(&self, id: &DeviceId) -> Result<DeviceIdentity, ClientError> {
        let request = self.get(&["devices", id.as_str()])?;
        self.send(&request).await?.json("a device identity")
    }

    /// Changes a device's status, reason and authentication if the identity still has the given
    /// etag.
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

    /// Removes a device with its twin and keys.
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

    /// Counts the connected devices.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn statistics(&self) -> Result<HubStatistics, ClientError> {
        let request = self.get(&["statistics", "service"])?;
        self.send(&request).await?.json("the service statistics")
    }
}
