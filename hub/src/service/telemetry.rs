//! Device-to-cloud messages.

use bytes::Bytes;
use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::PropertyBag;
use jiff::Timestamp;

use super::ServiceError;
use crate::config::TelemetryLimits;
use crate::store::{Store, TelemetryMessage, time_text};

/// Takes messages in.
#[derive(Clone)]
pub(crate) struct TelemetryService {
    store: Store,
    limits: TelemetryLimits,
}

impl TelemetryService {
    pub(super) fn new(store: Store, limits: TelemetryLimits) -> Self {
        Self { store, limits }
    }

    /// Stores a message; returns when it is on disk, so that it may be acknowledged.
    ///
    /// # Errors
    ///
    /// When it could not be stored.
    pub(crate) async fn accept(
        &self,
        device: &DeviceId,
        properties: PropertyBag,
        body: Bytes,
    ) -> Result<(), ServiceError> {
        let message = TelemetryMessage {
            device: device.clone(),
            enqueued: time_text(Timestamp::now()),
            properties: properties.to_string(),
            body,
        };
        Ok(self.store.telemetry_insert(message, self.limits).await?)
    }
}
