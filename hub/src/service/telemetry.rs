//! Device-to-cloud messages.

use bytes::Bytes;
use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::PropertyBag;
use jiff::Timestamp;

use super::ServiceError;
use crate::identity::Proof;
use crate::metrics::Metrics;
use crate::store::{Store, TelemetryMessage};

#[derive(Clone)]
pub(crate) struct TelemetryService {
    store: Store,
    metrics: Metrics,
}

impl TelemetryService {
    pub(super) fn new(store: Store, metrics: Metrics) -> Self {
        Self { store, metrics }
    }

    /// Stores a message with the stamps that identify its sender; returns once it is on disk, so
    /// that it may be acknowledged.
    ///
    /// # Errors
    ///
    /// When the device has been deleted, or the store fails.
    pub(crate) async fn accept(
        &self,
        device: &DeviceId,
        proof: &Proof,
        properties: PropertyBag,
        body: Bytes,
    ) -> Result<(), ServiceError> {
        let bytes = body.len();
        let message = TelemetryMessage {
            device: device.clone(),
            auth_method: auth_method(proof),
            enqueued: Timestamp::now(),
            message_id: properties.message_id().map(str::to_owned),
            properties: properties.to_string(),
            body,
        };
        if self.store.telemetry_insert(message).await? {
            self.metrics.telemetry(bytes);
            Ok(())
        } else {
            Err(ServiceError::device_not_found(device.as_ref()))
        }
    }
}

/// The stamp `iothub-connection-auth-method` (IoT Hub developer guide, "Anti-spoofing properties").
const fn auth_method(proof: &Proof) -> &'static str {
    match proof {
        Proof::DeviceKey => r#"{"scope":"device","type":"sas","issuer":"iothub"}"#,
        Proof::Policy(_) => r#"{"scope":"hub","type":"sas","issuer":"iothub"}"#,
        Proof::Certificate => r#"{"scope":"device","type":"x509","issuer":"external"}"#,
    }
}
