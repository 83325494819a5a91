//! An identity as the registry returns it and as clients send it.

use iothub_protocol::identity::{Authentication, DeviceIdentity, SymmetricKey, Thumbprints};
use iothub_protocol::sas::SharedAccessKey;
use iothub_protocol::time;
use iothub_protocol::twin::{self, Capabilities, DeviceStatus};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::ServiceError;
use crate::identity::Keys;
use crate::store::{DeviceRecord, StoredAuthentication};

/// The most characters of `statusReason`.
const MAX_STATUS_REASON: usize = 128;

/// Keys are 16 to 64 bytes, as Azure's are.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// The authentication of a request; see [`DeviceUpdate::authentication`] for missing members.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a JSON object")]
struct RequestedAuthentication {
    symmetric_key: Option<SymmetricKey>,
    x509_thumbprint: Option<RequestedThumbprints>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The thumbprints of a request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a JSON object")]
struct RequestedThumbprints {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
    /// As Azure's twins spell them. Ignoring them would lock out the device.
    #[serde(rename = "PrimaryThumbprint")]
    capital_primary: Option<IgnoredAny>,
    #[serde(rename = "SecondaryThumbprint")]
    capital_secondary: Option<IgnoredAny>,
}

/// The body of `PUT /devices/{id}`; read-only members and the scopes of edge devices are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a JSON object")]
pub(crate) struct DeviceUpdate {
    device_id: Option<String>,
    status: Option<String>,
    status_reason: Option<String>,
    authentication: Option<RequestedAuthentication>,
    capabilities: Option<RequestedCapabilities>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a JSON object")]
struct RequestedCapabilities {
    iot_edge: Option<bool>,
}

impl From<DeviceRecord> for DeviceIdentity {
    fn from(record: DeviceRecord) -> Self {
        let StoredAuthentication {
            kind,
            keys,
            thumbprints,
        } = record.authentication;
        Self {
            device_id: record.device_id,
            generation_id: Some(record.generation_id),
            etag: Some(record.etag),
            connection_state: record.connection_state,
            status: status(record.enabled),
            status_reason: record.status_reason,
            connection_state_updated_time: stored_time(&record.connection_state_updated),
            status_updated_time: stored_time(&record.status_updated),
            last_activity_time: stored_time(&record.last_activity),
            cloud_to_device_message_count: 0,
            authentication: Some(Authentication {
                kind,
                symmetric_key: Some(SymmetricKey {
                    primary_key: keys.as_ref().map(|keys| keys.primary.to_base64()),
                    secondary_key: keys.as_ref().map(|keys| keys.secondary.to_base64()),
                }),
                x509_thumbprint: Some(thumbprints),
            }),
            capabilities: Some(Capabilities {
                iot_edge: record.iot_edge,
            }),
            device_scope: None,
            parent_scopes: Vec::new(),
        }
    }
}

pub(crate) const fn status(enabled: bool) -> DeviceStatus {
    match enabled {
        true => DeviceStatus::Enabled,
        false => DeviceStatus::Disabled,
    }
}

/// The store wrote the text; a damaged one is shown as "never".
pub(crate) fn stored_time(text: &str) -> Timestamp {
    time::parse(text).unwrap_or_else(|_| twin::never())
}

impl DeviceUpdate {
    /// Rejects a body whose `deviceId` is not `device`.
    pub(crate) fn check_id(&self, device: &str) -> Result<(), ServiceError> {
        match &self.device_id {
            Some(id) if !id.is_empty() && id != device => Err(ServiceError::argument(format!(
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
            None | Some("") => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("enabled") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("disabled") => Ok(Some(false)),
            Some(text) => Err(ServiceError::argument(format!(
                "status is `{text}`; expected `enabled` or `disabled`"
            ))),
        }
    }

    /// The requested `capabilities.iotEdge`, if the body has it.
    pub(crate) fn iot_edge(&self) -> Option<bool> {
        self.capabilities.as_ref()?.iot_edge
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
        for (capital, name) in [
            (thumbprints.capital_primary, "PrimaryThumbprint"),
            (thumbprints.capital_secondary, "SecondaryThumbprint"),
        ] {
            if capital.is_some() {
                return Err(ServiceError::argument(format!(
                    "authentication.x509Thumbprint has `{name}`; \
                     expected `primaryThumbprint` and `secondaryThumbprint`"
                )));
            }
        }
        let kind = match requested.kind.as_deref().filter(|kind| !kind.is_empty()) {
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
            let (primary, secondary) = stored_keys
                .map(|keys| (keys.primary, keys.secondary))
                .unzip();
            Some(Keys {
                primary: key(given.primary_key.as_deref(), primary, "primaryKey")?,
                secondary: key(given.secondary_key.as_deref(), secondary, "secondaryKey")?,
            })
        } else {
            None
        };
        let stored = present
            .map(|present| present.thumbprints.clone())
            .unwrap_or_default();
        let thumbprints = if kind == "selfSigned" {
            Thumbprints {
                primary_thumbprint: thumbprint(
                    thumbprints.primary_thumbprint,
                    stored.primary_thumbprint,
                    "primaryThumbprint",
                )?,
                secondary_thumbprint: thumbprint(
                    thumbprints.secondary_thumbprint,
                    stored.secondary_thumbprint,
                    "secondaryThumbprint",
                )?,
            }
        } else {
            Thumbprints::default()
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
