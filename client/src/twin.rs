//! Device twins (`/twins`).

use iothub_protocol::DeviceId;
use iothub_protocol::twin::{Twin, TwinPatch};
use reqwest::Method;

use super::error::ClientError;
use super::{HubClient, RetryPolicy};

impl HubClient {
    /// Reads a twin.
    ///
    /// # Errors
    ///
    /// `DeviceNotFound`, or any other [`ClientError`].
    pub async fn twin(&self, id: &DeviceId) -> Result<Twin, ClientError> {
        let request = self.get(&["twins", id.as_str()])?;
        self.send(&request).await?.json("a twin")
    }

    /// Merges into tags and desired properties, with `etag` only if the twin still has it. Returns
    /// the new twin.
    ///
    /// # Errors
    ///
    /// `DeviceNotFound`, `PreconditionFailed`, `ArgumentInvalid`, or any other [`ClientError`].
    pub async fn twin_patch(
        &self,
        id: &DeviceId,
        patch: &TwinPatch,
        etag: Option<&str>,
    ) -> Result<Twin, ClientError> {
        let path = ["twins", id.as_str()];
        let request = self.request(Method::PATCH, &path, RetryPolicy::IfThrottled)?;
        let request = request.json(patch)?.if_match(etag)?;
        self.send(&request).await?.json("a twin")
    }
}
