//! State that outlives a connection: the device's connection state and the subscriptions of
//! persistent sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::TopicFilter;
use jiff::Timestamp;

use super::ServiceError;
use crate::store::{Store, StoredSubscription};
use crate::types::ConnectionEpoch;

/// Records the start, the changes and the end of connections.
#[derive(Clone)]
pub(crate) struct SessionService {
    store: Store,
    epoch: Arc<AtomicU64>,
}

/// The state from which a new connection starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionStart {
    /// Whether a session was stored (the flag of CONNACK, MQTT 3.1.1 section 3.2.2.2).
    pub session_present: bool,
    /// The session's subscriptions, each with the granted QoS (0 or 1).
    pub subscriptions: Vec<(TopicFilter, u8)>,
}

impl SessionService {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            epoch: Arc::new(AtomicU64::new(1)),
        }
    }

    /// The epoch of the next connection, later than all before it.
    pub(crate) fn begin(&self) -> ConnectionEpoch {
        ConnectionEpoch(self.epoch.fetch_add(1, Ordering::Relaxed))
    }

    /// Records that `device` is connected under the identity that `etag` authenticated. With
    /// `clean` its stored session is deleted, and nothing of the new one is stored. `model_id` goes
    /// into the twin.
    ///
    /// # Errors
    ///
    /// `DeviceNotFound` when the device was deleted or changed in the meantime, or a later
    /// connection replaced this one; else when the store fails.
    pub(crate) async fn connected(
        &self,
        device: &DeviceId,
        etag: String,
        epoch: ConnectionEpoch,
        clean: bool,
        model_id: Option<String>,
    ) -> Result<SessionStart, ServiceError> {
        let session = self
            .store
            .session_connect(device, etag, epoch, clean, Timestamp::now())
            .await?;
        let session = session.ok_or_else(|| ServiceError::device_not_found(device.as_ref()))?;
        if let Some(model_id) = model_id {
            // The device is served without it too.
            if let Err(error) = self.store.twin_set_model(device, model_id).await {
                tracing::warn!(%device, "cannot store the device's model: {error}");
            }
        }
        let session_present = session.is_some();
        let subscriptions = session
            .unwrap_or_default()
            .into_iter()
            .filter_map(|stored| {
                // A filter that an older hub stored and this one does not serve is dropped.
                TopicFilter::parse(&stored.filter, device)
                    .ok()
                    .map(|filter| (filter, stored.qos))
            });
        Ok(SessionStart {
            session_present,
            subscriptions: subscriptions.collect(),
        })
    }

    /// Records the end of a connection and its reason.
    pub(crate) async fn disconnected(
        &self,
        device: &DeviceId,
        epoch: ConnectionEpoch,
        reason: String,
    ) -> Result<(), ServiceError> {
        Ok(self
            .store
            .session_disconnect(device, epoch, reason, Timestamp::now())
            .await?)
    }

    /// Records that two clients take turns with one identity.
    pub(crate) async fn identity_conflict(
        &self,
        device: &DeviceId,
        reason: String,
    ) -> Result<(), ServiceError> {
        let now = Timestamp::now();
        Ok(self.store.session_conflict(device, reason, now).await?)
    }

    /// Stores the subscriptions of a persistent session (no effect for a clean one); returns once
    /// they are on disk, so that SUBACK may be sent.
    pub(crate) async fn subscriptions_changed(
        &self,
        device: &DeviceId,
        epoch: ConnectionEpoch,
        subscriptions: &[(TopicFilter, u8)],
    ) -> Result<(), ServiceError> {
        let stored = subscriptions
            .iter()
            .map(|(filter, qos)| StoredSubscription {
                filter: filter.as_str().to_owned(),
                qos: *qos,
            })
            .collect();
        Ok(self
            .store
            .session_subscriptions(device, epoch, stored)
            .await?)
    }

    pub(crate) async fn connected_count(&self) -> Result<u64, ServiceError> {
        Ok(self.store.session_count().await?)
    }
}
