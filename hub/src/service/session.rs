//! What connections leave behind: connection state and the subscriptions of persistent sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::TopicFilter;
use jiff::Timestamp;

use super::ServiceError;
use crate::store::{ConnectionEpoch, Store, StoredSubscription};

/// Notes what connections begin, change and end.
#[derive(Clone)]
pub(crate) struct SessionService {
    store: Store,
    epoch: Arc<AtomicU64>,
}

/// What a new connection starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionStart {
    /// Whether a session was kept (the flag of CONNACK, MQTT 3.1.1 section 3.2.2.2).
    pub session_present: bool,
    /// The subscriptions it kept, each with the QoS granted (0 or 1).
    pub subscriptions: Vec<(TopicFilter, u8)>,
}

impl SessionService {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            epoch: Arc::new(AtomicU64::new(1)),
        }
    }

    /// The next connection, later than all before it.
    pub(crate) fn begin(&self) -> ConnectionEpoch {
        ConnectionEpoch(self.epoch.fetch_add(1, Ordering::Relaxed))
    }

    /// Notes that `device` is connected, as the identity that was judged by its `etag`. With
    /// `clean` its session is forgotten, and nothing of the new one will be kept.
    ///
    /// # Errors
    ///
    /// `DeviceNotFound` when it was deleted or changed meanwhile, or a later connection has come;
    /// else when the store fails.
    pub(crate) async fn connected(
        &self,
        device: &DeviceId,
        etag: String,
        epoch: ConnectionEpoch,
        clean: bool,
    ) -> Result<SessionStart, ServiceError> {
        let kept = self
            .store
            .session_connect(device, etag, epoch, clean, Timestamp::now())
            .await?;
        let kept = kept.ok_or_else(|| ServiceError::device_not_found(device.as_ref()))?;
        let session_present = kept.is_some();
        let subscriptions = kept.unwrap_or_default().into_iter().filter_map(|stored| {
            // A filter of an older hub that this one no longer serves is forgotten.
            TopicFilter::parse(&stored.filter, device)
                .ok()
                .map(|filter| (filter, stored.qos))
        });
        Ok(SessionStart {
            session_present,
            subscriptions: subscriptions.collect(),
        })
    }

    /// Notes the end of a connection and its reason.
    ///
    /// # Errors
    ///
    /// When the store fails.
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

    /// Keeps the subscriptions of a persistent session (the call is ignored for a clean one);
    /// returns when they are on disk, so that SUBACK may be sent.
    ///
    /// # Errors
    ///
    /// When the store fails.
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

    /// How many devices are connected.
    pub(crate) async fn connected_count(&self) -> Result<u64, ServiceError> {
        Ok(self.store.session_count().await?)
    }
}
