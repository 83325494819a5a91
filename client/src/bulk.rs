//! Bulk registry operations (`POST /devices`).

use iothub_protocol::bulk::{BulkError, BulkItem, BulkResult};
use reqwest::Method;

use super::error::ClientError;
use super::{HubClient, RetryPolicy};

impl HubClient {
    /// Executes up to [`MAX_ITEMS`] independent operations and returns those that failed. If an
    /// error names no device, the outcome of the devices without an error is unknown.
    ///
    /// [`MAX_ITEMS`]: iothub_protocol::bulk::MAX_ITEMS
    ///
    /// # Errors
    ///
    /// When the whole call was refused, or its outcome is unknown: any [`ClientError`].
    pub async fn devices_bulk(&self, items: &[BulkItem]) -> Result<Vec<BulkError>, ClientError> {
        let mut request = self
            .request(Method::POST, &["devices"], RetryPolicy::IfThrottled)?
            .json(&items)?;
        request.is_answer = |body| {
            let result = serde_json::from_slice::<BulkResult>(body);
            // If no error names a device, they are about the call.
            result.is_ok_and(|result| {
                let mut errors = result.errors.iter();
                result.errors.is_empty() || errors.any(|error| error.device_id.is_some())
            })
        };
        let result: BulkResult = self
            .send(&request)
            .await?
            .json("the result of a bulk call")?;
        match (result.is_successful, result.errors) {
            (false, errors) if errors.is_empty() => Err(ClientError::Bulk),
            (_, errors) => Ok(errors),
        }
    }
}
