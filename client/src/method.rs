//! Direct methods (`/twins/{id}/methods`).

use std::time::Duration;

use iothub_protocol::DeviceId;
use iothub_protocol::method::{MethodRequest, MethodResult};
use reqwest::Method;

use super::error::ClientError;
use super::{HubClient, RetryPolicy};

/// Margin of a call on top of the device's timeouts, as in Azure's .NET client.
const MARGIN: Duration = Duration::from_secs(15);

impl HubClient {
    /// Calls a method and waits for the device's answer, of any status.
    ///
    /// # Errors
    ///
    /// `DeviceNotFound`, `DeviceNotOnline`, a timeout (504), or any other [`ClientError`].
    pub async fn invoke(
        &self,
        id: &DeviceId,
        call: &MethodRequest,
    ) -> Result<MethodResult, ClientError> {
        let path = ["twins", id.as_str(), "methods"];
        let mut request = self
            .request(Method::POST, &path, RetryPolicy::IfThrottled)?
            .json(call)?;
        let device = call.connect_timeout() + call.response_timeout();
        request.timeout = request.timeout.max(device + MARGIN);
        self.send(&request).await?.json("the result of a method")
    }
}
