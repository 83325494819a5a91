//! The identity registry: which devices may connect, and with which credentials.

mod bulk;
mod document;
mod keys;

use std::sync::Arc;

use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::DeviceId;
use iothub_protocol::identity::{DeviceIdentity, SymmetricKey};
use iothub_protocol::sas::SharedAccessKey;
use jiff::Timestamp;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(crate) use bulk::{BulkRequest, bulk_message};
pub(crate) use document::DeviceUpdate;
pub(super) use document::{status, stored_time};
pub(crate) use keys::RenewalRequest;

use super::{IfMatch, ServiceError};
use crate::identity::{AuthenticationKind, DeviceAuthentication};
use crate::session::{DisconnectReason, Registry};
use crate::store::{DeviceRecord, DeviceStatistics, Store, StoredAuthentication, time_text};
use crate::types::Scope;

/// A generated key is as long as the HMAC-SHA256 signature that it makes.
const KEY_BYTES: usize = 32;

/// Seconds from the year 1, the epoch of Azure's generation ids, to 1970.
const SECONDS_BEFORE_1970: i128 = 62_135_596_800;

/// The most identities that one list returns.
const MAX_LISTED: u32 = 1000;

#[derive(Clone)]
pub(crate) struct DeviceService {
    store: Store,
    registry: Registry,
}

impl DeviceService {
    pub(super) fn new(store: Store, registry: Registry) -> Self {
        Self { store, registry }
    }

    /// The credentials by which a connection of `device` is authenticated; `None` when the device
    /// is unknown.
    pub(crate) async fn authentication(
        &self,
        device: &DeviceId,
    ) -> Result<Option<DeviceAuthentication>, ServiceError> {
        Ok(self
            .store
            .device_get(device, None)
            .await?
            .map(authentication))
    }

    pub(crate) async fn create(
        &self,
        device: &DeviceId,
        update: &DeviceUpdate,
    ) -> Result<DeviceIdentity, ServiceError> {
        update.check_id(device.as_ref())?;
        let record = new_record(device, update, Timestamp::now())?;
        if self.store.device_insert(record.clone()).await? {
            Ok(record.into())
        } else {
            Err(already_exists(device))
        }
    }

    /// Changes a device. Disconnects it when it becomes disabled or its credentials change.
    pub(crate) async fn update(
        &self,
        device: &DeviceId,
        if_match: IfMatch,
        update: DeviceUpdate,
    ) -> Result<DeviceIdentity, ServiceError> {
        update.check_id(device.as_ref())?;
        let now = time_text(Timestamp::now());
        let changed = self
            .store
            .device_update(device, move |record| {
                if_match.check(&record.etag)?;
                change(record, &update, now)
            })
            .await?;
        let (record, disconnect) =
            changed.ok_or_else(|| ServiceError::device_not_found(device.as_ref()))?;
        if let Some(reason) = disconnect {
            self.registry.disconnect(device, reason);
        }
        Ok(record.into())
    }

    pub(crate) async fn get(
        &self,
        device: &DeviceId,
        scope: Option<Arc<Scope>>,
    ) -> Result<DeviceIdentity, ServiceError> {
        let is_bounded = scope.is_some();
        let record = self.store.device_get(device, scope).await?;
        let record = record.ok_or_else(|| ServiceError::device_not_found(device.as_ref()))?;
        Ok(shown(record, is_bounded))
    }

    /// The first `top` devices, in order of creation.
    pub(crate) async fn list(
        &self,
        top: Option<u32>,
        scope: Option<Arc<Scope>>,
    ) -> Result<Vec<DeviceIdentity>, ServiceError> {
        let is_bounded = scope.is_some();
        let top = top.unwrap_or(MAX_LISTED).min(MAX_LISTED);
        let records = self.store.device_list(top, scope).await?.into_iter();
        Ok(records.map(|record| shown(record, is_bounded)).collect())
    }

    /// Removes a device, its twin and its session, and disconnects it.
    pub(crate) async fn delete(
        &self,
        device: &DeviceId,
        if_match: IfMatch,
    ) -> Result<(), ServiceError> {
        let deleted = self
            .store
            .device_delete(device, move |record| if_match.check(&record.etag))
            .await?;
        if !deleted {
            return Err(ServiceError::device_not_found(device.as_ref()));
        }
        self.registry.disconnect(device, DisconnectReason::Deleted);
        Ok(())
    }

    pub(crate) async fn statistics(&self) -> Result<DeviceStatistics, ServiceError> {
        Ok(self.store.device_statistics().await?)
    }
}

/// The identity as a caller sees it: bounded ones see no keys.
fn shown(record: DeviceRecord, is_bounded: bool) -> DeviceIdentity {
    let mut identity = DeviceIdentity::from(record);
    if let Some(authentication) = identity.authentication.as_mut().filter(|_| is_bounded) {
        authentication.symmetric_key = authentication
            .symmetric_key
            .take()
            .map(|_| SymmetricKey::default());
    }
    identity
}

fn new_record(
    device: &DeviceId,
    update: &DeviceUpdate,
    now: Timestamp,
) -> Result<DeviceRecord, ServiceError> {
    Ok(DeviceRecord {
        enabled: update.enabled()?.unwrap_or(true),
        status_reason: update.status_reason()?,
        authentication: update.authentication(None)?,
        iot_edge: update.iot_edge().unwrap_or_default(),
        ..DeviceRecord::new(device.clone(), generation_id(now), new_etag())
    })
}

fn already_exists(device: &DeviceId) -> ServiceError {
    ServiceError::new(
        ErrorCode::DeviceAlreadyExists,
        format!("there is a device `{device}` already"),
    )
}

/// Applies `update` to `record` and returns the reason to disconnect the device, if there is one.
/// Each update is a new version with a new etag, even if nothing differs: the writer asked for one,
/// as with twins.
fn change(
    record: &mut DeviceRecord,
    update: &DeviceUpdate,
    now: String,
) -> Result<Option<DisconnectReason>, ServiceError> {
    let enabled = update.enabled()?.unwrap_or(record.enabled);
    let authentication = update.authentication(Some(&record.authentication))?;
    let reason = if record.enabled && !enabled {
        Some(DisconnectReason::Disabled)
    } else if authentication != record.authentication {
        Some(DisconnectReason::CredentialsChanged)
    } else {
        None
    };
    if enabled != record.enabled {
        record.status_updated = now;
    }
    record.enabled = enabled;
    record.status_reason = update.status_reason()?;
    record.authentication = authentication;
    record.iot_edge = update.iot_edge().unwrap_or(record.iot_edge);
    record.etag = new_etag();
    Ok(reason)
}

fn authentication(record: DeviceRecord) -> DeviceAuthentication {
    let StoredAuthentication {
        kind,
        keys,
        thumbprints,
    } = record.authentication;
    let kind = match (kind.as_str(), keys) {
        ("sas", Some(keys)) => AuthenticationKind::Sas(keys),
        ("selfSigned", _) => AuthenticationKind::SelfSigned(thumbprints),
        ("certificateAuthority", _) => AuthenticationKind::CertificateAuthority,
        _ => AuthenticationKind::None,
    };
    DeviceAuthentication {
        enabled: record.enabled,
        etag: record.etag,
        kind,
    }
}

pub(crate) fn generate_key() -> SharedAccessKey {
    SharedAccessKey::from_bytes(&rand::random::<[u8; KEY_BYTES]>()).expect("32 bytes are a key")
}

/// Identity etags are the base64 of decimal digits, unlike those of twins.
fn new_etag() -> String {
    STANDARD.encode(rand::random::<u32>().to_string())
}

/// Distinguishes a device from an earlier one of the same name: the time, in ticks of 100 ns.
fn generation_id(now: Timestamp) -> String {
    (now.as_nanosecond() / 100 + SECONDS_BEFORE_1970 * 10_000_000).to_string()
}
