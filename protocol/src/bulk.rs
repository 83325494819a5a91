//! Bulk operations on the registry (`POST /devices`): up to 100 in a call, each independent.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::error::ErrorCode;
use crate::id::DeviceId;
use crate::identity::Authentication;
use crate::twin::{Capabilities, DeviceStatus, Object};

/// Most operations of one call.
pub const MAX_ITEMS: usize = 100;

/// The kinds of operations (`importMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// Fails if the device exists.
    Create,
    /// Changes the identity regardless of its etag.
    Update,
    /// Changes the identity if it has the etag of the item.
    UpdateIfMatchEtag,
    /// Deletes the identity regardless of its etag.
    Delete,
    /// Deletes the identity if it has the etag of the item.
    DeleteIfMatchEtag,
    /// Creates the device, or changes its identity regardless of its etag.
    CreateOrUpdate,
    /// Creates the device, or changes its identity if it has the etag of the item.
    CreateOrUpdateIfMatchEtag,
    /// Changes only the twin, regardless of its etag.
    UpdateTwin,
    /// Changes only the twin, if it has the etag of the item.
    UpdateTwinIfMatchEtag,
}

impl ImportMode {
    /// All modes.
    pub const ALL: [Self; 9] = [
        Self::Create,
        Self::Update,
        Self::UpdateIfMatchEtag,
        Self::Delete,
        Self::DeleteIfMatchEtag,
        Self::CreateOrUpdate,
        Self::CreateOrUpdateIfMatchEtag,
        Self::UpdateTwin,
        Self::UpdateTwinIfMatchEtag,
    ];

    /// IoT Hub's spelling.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::UpdateIfMatchEtag => "updateIfMatchETag",
            Self::Delete => "delete",
            Self::DeleteIfMatchEtag => "deleteIfMatchETag",
            Self::CreateOrUpdate => "createOrUpdate",
            Self::CreateOrUpdateIfMatchEtag => "createOrUpdateIfMatchETag",
            Self::UpdateTwin => "updateTwin",
            Self::UpdateTwinIfMatchEtag => "updateTwinIfMatchETag",
        }
    }

    /// Ignores case: Node's client capitalises some modes.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut modes = Self::ALL.into_iter();
        modes.find(|mode| mode.name().eq_ignore_ascii_case(name))
    }
}

impl Serialize for ImportMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One operation of a call, as a client sends it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkItem {
    /// The device id.
    pub id: DeviceId,
    /// What to do with it.
    pub import_mode: ImportMode,
    /// Whether the device may connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeviceStatus>,
    /// Why it may or may not connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// How it authenticates; the hub generates missing keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Whether it is an IoT Edge device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Tags of the twin.
    #[serde(skip_serializing_if = "Object::is_empty")]
    pub tags: Object,
    /// Properties of the twin.
    #[serde(skip_serializing_if = "NewProperties::is_empty")]
    pub properties: NewProperties,
}

/// Properties of a new twin.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NewProperties {
    /// The desired properties.
    pub desired: Object,
}

impl NewProperties {
    fn is_empty(&self) -> bool {
        self.desired.is_empty()
    }
}

impl BulkItem {
    /// An operation without any facts about the device.
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

/// The result of a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkResult {
    /// Whether every operation succeeded.
    pub is_successful: bool,
    /// The failed operations.
    #[serde(default)]
    pub errors: Vec<BulkError>,
    /// A list; empty from door-hub.
    #[serde(default)]
    pub warnings: Option<Vec<Value>>,
}

/// An operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkError {
    /// `None`: the error is about the whole call.
    #[serde(default)]
    pub device_id: Option<String>,
    /// Name or number of the code.
    pub error_code: Value,
    /// What happened.
    #[serde(default)]
    pub error_status: Option<String>,
    /// The module of the device.
    #[serde(default)]
    pub module_id: Option<String>,
    /// The `importMode` of the item.
    #[serde(default)]
    pub operation: Option<String>,
}

impl BulkResult {
    /// The result of a call with these failed operations.
    #[must_use]
    pub fn new(errors: Vec<BulkError>) -> Self {
        Self {
            is_successful: errors.is_empty(),
            errors,
            warnings: Some(Vec::new()),
        }
    }
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
