//! What door-hub says of itself to anyone (`/healthz`). Azure has no such path: there the answer is
//! none.

use reqwest::Method;
use serde::Deserialize;

use super::error::ClientError;
use super::{HubClient, RetryPolicy};

/// What door-hub says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Its name: what connection strings carry.
    pub hub_name: String,
    /// Its port of MQTT over TLS.
    pub mqtt_port: u16,
}

impl HubClient {
    /// Asks door-hub where its MQTT port is; none for a hub that is not door-hub.
    pub async fn door_hub_health(&self) -> Option<Health> {
        let request = self
            .request(Method::GET, &["healthz"], RetryPolicy::IfThrottled)
            .ok()?;
        self.send(&request)
            .await
            .ok()?
            .json("door-hub's health")
            .ok()
    }

    /// Whether this is door-hub; Azure and others have no `/healthz`.
    ///
    /// # Errors
    ///
    /// When nobody answers: then it is not known.
    pub async fn is_door_hub(&self) -> Result<bool, ClientError> {
        match self.send(&self.get(&["healthz"])?).await {
            Ok(answer) => Ok(answer.json::<Health>("door-hub's health").is_ok()),
            Err(ClientError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
