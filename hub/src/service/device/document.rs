//! An identity as the registry returns it and as clients send it.

use iothub_protocol::sas::SharedAccessKey;
use iothub_protocol::twin::ConnectionState;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::super::ServiceError;
use crate::store::{DeviceRecord, StoredAuthentication};

/// The most characters of `statusReason`.
const MAX_STATUS_REASON: usize = 128;

/// Keys are 16 to 64 bytes, as Azure's are.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// `GET /devices/{id}`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    device_id: String,
    generation_id: String,
    pub(crate) etag: String,
    connection_state: ConnectionState,
    status: &'static str,
    status_reason: Option<String>,
    connection_state_updated_time: String,
    status_updated_time: String,
    last_activity_time: String,
    cloud_to_device_message_count: u32,
    authentication: Authentication,
    capabilities: Capabilities,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a JSON object")]
pub(crate) struct Authentication {
    #[serde(deserialize_with = "symmetric_key")]
    symmetric_key: Option<SymmetricKey>,
    x509_thumbprint: Option<Thumbprints>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SymmetricKey {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

/// Parses keys. Errors do not repeat the invalid value: it may be a key.
fn symmetric_key<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SymmetricKey>, D::Error> {
    let keys = Option::<Value>::deserialize(deserializer)?.map(SymmetricKey::deserialize);
    keys.transpose().map_err(|_| {
        D::Error::custom("expected an object with the texts `primaryKey` and `secondaryKey`")
    })
}

/// The thumbprints of self-signed certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a JSON object")]
pub(crate) struct Thumbprints {
    pub(crate) primary_thumbprint: Option<String>,
    pub(crate) secondary_thumbprint: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    iot_edge: bool,
}

/// The body of `PUT /devices/{id}`; read-only members and those of edge devices are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a JSON object")]
pub(crate) struct DeviceUpdate {
    device_id: Option<String>,
    status: Option<String>,
    status_reason: Option<String>,
    authentication: Option<Authentication>,
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authentication")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl From<DeviceRecord> for Device {
    fn from(record: DeviceRecord) -> Self {
        let StoredAuthentication {
            kind,
            keys,
            thumbprints,
        } = record.authentication;
        let (primary_key, secondary_key) = keys
            .as_ref()
            .map(|(one, two)| (one.to_base64(), two.to_base64()))
            .unzip();
        Self {
            device_id: record.device_id.to_string(),
            generation_id: record.generation_id,
            etag: record.etag,
            connection_state: record.connection_state,
            status: status_text(record.enabled),
            status_reason: record.status_reason,
            connection_state_updated_time: record.connection_state_updated,
            status_updated_time: record.status_updated,
            last_activity_time: record.last_activity,
            cloud_to_device_message_count: 0,
            authentication: Authentication {
                symmetric_key: Some(SymmetricKey {
                    primary_key,
                    secondary_key,
                }),
                x509_thumbprint: Some(Thumbprints {
                    primary_thumbprint: thumbprints.0,
                    secondary_thumbprint: thumbprints.1,
                }),
                kind: Some(kind),
            },
            capabilities: Capabilities { iot_edge: false },
        }
    }
}

/// As the registry and twins spell it.
pub(crate) const fn status_text(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

impl DeviceUpdate {
    /// Rejects a body whose `deviceId` is not `device`.
    pub(crate) fn check_id(&self, device: &str) -> Result<(), ServiceError> {
        match &self.device_id {
            Some(id) if id != device => Err(ServiceError::argument(format!(
                "the body names device `{id}`, but the path names `{device}`"
            ))),
            _ => Ok(()),
        }
    }

    /// Runs the checks that need no device.
    pub(crate) fn check(&self) -> Result<(), ServiceError> {
        self.enabled()?;
        self.status_reason()?;
        self.authentication(None)?;
        Ok(())
    }

    /// The requested status, if the body has one.
    pub(crate) fn enabled(&self) -> Result<Option<bool>, ServiceError> {
        match self.status.as_deref() {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("enabled") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("disabled") => Ok(Some(false)),
            Some(text) => Err(ServiceError::argument(format!(
                "status is `{text}`; expected `enabled` or `disabled`"
            ))),
        }
    }

    /// The requested reason.
    pub(crate) fn status_reason(&self) -> Result<Option<String>, ServiceError> {
        match &self.status_reason {
            Some(reason) if reason.chars().count() > MAX_STATUS_REASON => {
                Err(ServiceError::argument(format!(
                    "statusReason has {} characters; expected at most {MAX_STATUS_REASON}",
                    reason.chars().count()
                )))
            }
            reason => Ok(reason.clone()),
        }
    }

    /// The requested authentication. Members that are missing or empty are taken from `present`, or
    /// generated.
    pub(crate) fn authentication(
        &self,
        present: Option<&StoredAuthentication>,
    ) -> Result<StoredAuthentication, ServiceError> {
        let requested = self.authentication.clone().unwrap_or_default();
        let thumbprints = requested.x509_thumbprint.unwrap_or_default();
        let kind = match requested.kind.as_deref() {
            Some(kind @ ("sas" | "selfSigned" | "certificateAuthority" | "none")) => {
                kind.to_owned()
            }
            Some(kind) => {
                let expected = "`sas`, `selfSigned`, `certificateAuthority` or `none`";
                return Err(ServiceError::argument(format!(
                    "authentication.type is `{kind}`; expected {expected}"
                )));
            }
            None if thumbprints.primary_thumbprint.is_some() => "selfSigned".to_owned(),
            None => present.map_or_else(|| "sas".to_owned(), |present| present.kind.clone()),
        };
        let stored_keys = present.and_then(|present| present.keys.clone());
        let keys = if kind == "sas" {
            let given = requested.symmetric_key.unwrap_or_default();
            let (primary, secondary) = stored_keys.unzip();
            Some((
                key(given.primary_key.as_deref(), primary, "primaryKey")?,
                key(given.secondary_key.as_deref(), secondary, "secondaryKey")?,
            ))
        } else {
            None
        };
        let stored = present
            .map(|present| present.thumbprints.clone())
            .unwrap_or_default();
        let thumbprints = if kind == "selfSigned" {
            (
                thumbprint(
                    thumbprints.primary_thumbprint,
                    stored.0,
                    "primaryThumbprint",
                )?,
                thumbprint(
                    thumbprints.secondary_thumbprint,
                    stored.1,
                    "secondaryThumbprint",
                )?,
            )
        } else {
            (None, None)
        };
        Ok(StoredAuthentication {
            kind,
            keys,
            thumbprints,
        })
    }
}

/// The given key, else the present one, else a new one. Clients request a new key with an empty
/// string.
fn key(
    given: Option<&str>,
    present: Option<SharedAccessKey>,
    member: &str,
) -> Result<SharedAccessKey, ServiceError> {
    match (given.filter(|text| !text.is_empty()), present) {
        (Some(text), _) => SharedAccessKey::from_base64(text)
            .ok()
            .filter(|key| KEY_BYTES.contains(&key.as_bytes().len()))
            .ok_or_else(|| {
                let (least, most) = KEY_BYTES.into_inner();
                ServiceError::argument(format!(
                    "authentication.symmetricKey.{member} is invalid; \
                     expected the base64 of {least} to {most} bytes"
                ))
            }),
        (None, Some(present)) => Ok(present),
        (None, None) => Ok(super::generate_key()),
    }
}

fn thumbprint(
    given: Option<String>,
    present: Option<String>,
    member: &str,
) -> Result<Option<String>, ServiceError> {
    let Some(text) = given.filter(|text| !text.is_empty()) else {
        return Ok(present);
    };
    // SHA-1 or SHA-256, in hexadecimal.
    if matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(Some(text.to_ascii_uppercase()))
    } else {
        Err(ServiceError::argument(format!(
            "authentication.x509Thumbprint.{member} is `{text}`; \
             expected 40 or 64 hexadecimal digits"
        )))
    }
}
