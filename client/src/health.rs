//! The health of door-hub (`/healthz`).

use iothub_protocol::health::Health;
use reqwest::Method;

use super::error::ClientError;
use super::{HubClient, RetryPolicy};

impl HubClient {
    /// Reads `/healthz`; `None` if the hub is not door-hub.
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

    /// Whether the hub is door-hub: Azure and others have no `/healthz`.
    ///
    /// # Errors
    ///
    /// When there is no response.
    pub async fn is_door_hub(&self) -> Result<bool, ClientError> {
        match self.send(&self.get(&["healthz"])?).await {
            Ok(answer) => Ok(answer.json::<Health>("door-hub's health").is_ok()),
            Err(ClientError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
