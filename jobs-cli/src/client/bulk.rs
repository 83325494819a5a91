//! Many identities in one call (`POST /devices`).

use iothub_protocol::twin::{Capabilities, DeviceStatus, Object};
use iothub_protocol::{DeviceId, ErrorCode};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::device::Authentication;
use super::error::ClientError;
use super::{HubClient, RetryPolicy};

/// What is done to an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ImportMode {
    /// There must be none of that name.
    Create,
    /// It is removed, whatever its etag.
    Delete,
}

/// One operation of a bulk call.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkItem {
    /// The device.
    pub id: DeviceId,
    /// What is done to it.
    pub import_mode: ImportMode,
    /// Whether it may connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeviceStatus>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// How it proves who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Whether it is an edge device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Its tags.
    #[serde(skip_serializing_if = "Object::is_empty")]
    pub tags: Object,
    /// Its properties.
    #[serde(skip_serializing_if = "NewProperties::is_empty")]
    pub properties: NewProperties,
}

/// The properties of a new twin.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NewProperties {
    /// What is assigned to it.
    pub desired: Object,
}

impl NewProperties {
    fn is_empty(&self) -> bool {
        self.desired.is_empty()
    }
}

impl BulkItem {
    /// Something that is done to a device.
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

/// An operation that was not done.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkError {
    /// The device; none when it is about the whole call.
    #[serde(default)]
    pub device_id: Option<String>,
    /// The code, by name or number.
    error_code: Value,
    /// The text for people.
    #[serde(default)]
    error_status: Option<String>,
}

impl BulkError {
    /// The code, when it is one of those known.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match &self.error_code {
            Value::String(name) => ErrorCode::from_name(name),
            other => ErrorCode::from_number(other.as_u64()?.try_into().ok()?),
        }
    }

    /// Code and text.
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

/// What became of a bulk call.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BulkResult {
    is_successful: bool,
    #[serde(default)]
    errors: Vec<BulkError>,
}

impl HubClient {
    /// The most operations of one call.
    pub const BULK_ITEMS: usize = 100;

    /// Does up to [`Self::BULK_ITEMS`] operations, each for itself; gives those that were not done.
    /// When one of the errors is about none of the devices, what became of those without an
    /// error is not known.
    ///
    /// # Errors
    ///
    /// When the call as a whole was refused, or it is not known what became of it: any
    /// [`ClientError`].
    pub async fn devices_bulk(&self, items: &[BulkItem]) -> Result<Vec<BulkError>, ClientError> {
        let mut request = self
            .request(Method::POST, &["devices"], RetryPolicy::IfThrottled)?
            .json(&items)?;
        request.is_answer = |body| {
            let result = serde_json::from_slice::<BulkResult>(body);
            // Errors none of which names a device are of the call.
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
