//! Bulk registry operations (`POST /devices`).

use iothub_protocol::identity::Authentication;
use iothub_protocol::twin::{Capabilities, DeviceStatus, Object};
use iothub_protocol::{DeviceId, ErrorCode};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ClientError;
use super::{HubClient, RetryPolicy};

/// Operation on an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ImportMode {
    /// Fails if the device exists.
    Create,
    /// Deletes the identity regardless of its etag.
    Delete,
}

/// One operation of a bulk call.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkItem {
    pub id: DeviceId,
    pub import_mode: ImportMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeviceStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Whether it is an IoT Edge device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    #[serde(skip_serializing_if = "Object::is_empty")]
    pub tags: Object,
    #[serde(skip_serializing_if = "NewProperties::is_empty")]
    pub properties: NewProperties,
}

/// Properties of a new twin.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NewProperties {
    pub desired: Object,
}

impl NewProperties {
    fn is_empty(&self) -> bool {
        self.desired.is_empty()
    }
}

impl BulkItem {
    #[must_use]
    pub fn new(id: DeviceId, import_mode: ImportMode) -> Self {
        Self {
            id,
            import_mode,
            status: None,
            status_reason: None,
            authentication: None,
            capabilities: None,
            tags: Object::new(),
            properties: NewProperties::default(),
        }
    }
}

/// An operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkError {
    /// `None`: the error is about the whole call.
    #[serde(default)]
    pub device_id: Option<String>,
    /// Name or number of the code.
    error_code: Value,
    #[serde(default)]
    error_status: Option<String>,
}

impl BulkError {
    /// The error code, if it is a known one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match &self.error_code {
            Value::String(name) => ErrorCode::from_name(name),
            other => ErrorCode::from_number(other.as_u64()?.try_into().ok()?),
        }
    }

    /// Code and message.
    #[must_use]
    pub fn text(&self) -> String {
        let code = match &self.error_code {
            Value::String(name) => name.clone(),
            other => other.to_string(),
        };
        match self.error_status.as_deref() {
            None | Some("") => code,
            Some(text) => format!("{code}: {text}"),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BulkResult {
    is_successful: bool,
    #[serde(default)]
    errors: Vec<BulkError>,
}

impl HubClient {
    /// Most operations of one call.
    pub const BULK_ITEMS: usize = 100;

    /// Executes up to [`Self::BULK_ITEMS`] independent operations and returns those that failed. If
    /// an error names no device, the outcome of the devices without an error is unknown.
    ///
    /// # Errors
    ///
    /// When the whole call was refused, or its outcome is unknown: any [`ClientError`].
    pub async fn devices_bulk(&self, items: &[BulkItem]) -> Result<Vec<BulkError>, ClientError> {
        let mut request = self
            .request(Method::POST, &["devices"], RetryPolicy::IfThrottled)?
            .json(&items)?;
        request.is_answer = |body| {
            let result = serde_json::from_slice::<BulkResult>(body);
            // If no error names a device, they are about the call.
            result.is_ok_and(|result| {
                let mut errors = result.errors.iter();
                result.errors.is_empty() || errors.any(|error| error.device_id.is_some())
            })
        };
        let result: BulkResult = self
            .send(&request)
            .await?
            .json("the result of a bulk call")?;
        match (result.is_successful, result.errors) {
            (false, errors) if errors.is_empty() => Err(ClientError::Bulk),
            (_, errors) => Ok(errors),
        }
    }
}
