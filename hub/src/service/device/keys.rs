//! `POST /devices/keys/regenerate`: new keys for up to a hundred devices in one transaction.

use iothub_protocol::bulk::MAX_ITEMS;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::DeviceId;
use serde::{Deserialize, Serialize};

use super::super::ServiceError;
use super::{DeviceService, generate_key, new_etag};
use crate::identity::Keys;
use crate::session::DisconnectReason;
use crate::store::BulkTransaction;

/// The keys to replace (`policyKey`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum RenewedKeys {
    PrimaryKey,
    SecondaryKey,
    Both,
}

/// The body of a call (Azure CLI: `az iot hub device-identity renew-key`).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a JSON object")]
pub(crate) struct RenewalRequest {
    policy_key: RenewedKeys,
    devices: Vec<RenewalItem>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a JSON object")]
struct RenewalItem {
    id: String,
    #[serde(default)]
    module_id: Option<String>,
}

/// The result of a call.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Renewal {
    policy_key: RenewedKeys,
    pub(crate) rotated_keys: Vec<RenewedIdentity>,
    pub(crate) errors: Vec<RenewalError>,
}

/// A device with its new keys; secret.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenewedIdentity {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secondary_key: Option<String>,
}

/// A device without new keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenewalError {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    module_id: Option<String>,
    error_code: &'static str,
    error_status: String,
}

impl DeviceService {
    /// Replaces keys of the devices of `request`, each on its own, and disconnects those devices.
    ///
    /// # Errors
    ///
    /// When the request names no device, too many or one twice, or the store fails; then nothing
    /// has changed.
    pub(crate) async fn renew_keys(
        &self,
        request: RenewalRequest,
    ) -> Result<Renewal, ServiceError> {
        let RenewalRequest {
            policy_key,
            devices,
        } = request;
        if !(1..=MAX_ITEMS).contains(&devices.len()) {
            let count = devices.len();
            return Err(ServiceError::argument(format!(
                "devices has {count} items; expected 1 to {MAX_ITEMS}"
            )));
        }
        for (index, item) in devices.iter().enumerate() {
            if devices[..index].iter().any(|earlier| earlier.id == item.id) {
                let message = format!("devices has `{}` twice; expected each once", item.id);
                let code = ErrorCode::DeviceDefinedMultipleTimes;
                return Err(ServiceError::new(code, message));
            }
        }
        let outcomes = self
            .store
            .device_bulk(devices.clone(), move |write, item| {
                renew(write, item, policy_key)
            })
            .await?;
        let mut renewal = Renewal {
            policy_key,
            rotated_keys: Vec::new(),
            errors: Vec::new(),
        };
        for (item, outcome) in devices.into_iter().zip(outcomes) {
            match outcome {
                Ok((device, renewed)) => {
                    let reason = DisconnectReason::CredentialsChanged;
                    self.registry.disconnect(&device, reason);
                    renewal.rotated_keys.push(renewed);
                }
                Err(error) => renewal.errors.push(RenewalError {
                    id: item.id,
                    module_id: item.module_id,
                    error_code: error.code.name(),
                    error_status: error.message,
                }),
            }
        }
        Ok(renewal)
    }
}

fn renew(
    write: &mut BulkTransaction<'_, '_>,
    item: RenewalItem,
    which: RenewedKeys,
) -> Result<(DeviceId, RenewedIdentity), ServiceError> {
    if let Some(module) = item.module_id.filter(|module| !module.is_empty()) {
        let message = format!("there is no module `{module}`: this hub has no modules");
        return Err(ServiceError::new(ErrorCode::ModuleNotFound, message));
    }
    let device: DeviceId = item
        .id
        .parse()
        .map_err(|error| ServiceError::argument(format!("id is `{}`: {error}", item.id)))?;
    let mut record = write
        .get(&device)?
        .ok_or_else(|| ServiceError::device_not_found(&item.id))?;
    let kind = record.authentication.kind.clone();
    let Some(Keys { primary, secondary }) = &mut record.authentication.keys else {
        return Err(ServiceError::argument(format!(
            "authentication.type is `{kind}`; expected `sas`"
        )));
    };
    let mut renewed = RenewedIdentity {
        id: item.id,
        primary_key: None,
        secondary_key: None,
    };
    if which != RenewedKeys::SecondaryKey {
        *primary = generate_key();
        renewed.primary_key = Some(primary.to_base64());
    }
    if which != RenewedKeys::PrimaryKey {
        *secondary = generate_key();
        renewed.secondary_key = Some(secondary.to_base64());
    }
    record.etag = new_etag();
    write.update(&record)?;
    Ok((device, renewed))
}
