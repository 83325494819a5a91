//! Policies of door-hub (`/policies`). Azure has them in its management API alone.

use iothub_protocol::id::PolicyName;
use iothub_protocol::policy::{PolicyDocument, PolicyKey, PolicyRequest, RotateRequest};
use reqwest::Method;

use super::error::ClientError;
use super::{HubClient, Request, RetryPolicy};

const POLICIES: &str = "policies";

/// What an answer of these calls has to be.
const DOCUMENT: &str = "a policy";

impl HubClient {
    /// Lists the policies, without keys.
    ///
    /// # Errors
    ///
    /// `IotHubUnauthorizedAccess` unless the policy has all rights and no bounds, or any other
    /// [`ClientError`]; so do the other calls here.
    pub async fn door_hub_policies(&self) -> Result<Vec<PolicyDocument>, ClientError> {
        let answer = self.send(&self.get(&[POLICIES])?).await?;
        answer.json("a list of policies")
    }

    /// Reads a policy with its jobs that are not over, without keys.
    ///
    /// # Errors
    ///
    /// When there is none, or any other [`ClientError`].
    pub async fn door_hub_policy(&self, name: &PolicyName) -> Result<PolicyDocument, ClientError> {
        self.policy_document(self.get(&[POLICIES, name.as_ref()])?)
            .await
    }

    /// Creates a policy that must not exist; returns it with both keys.
    ///
    /// # Errors
    ///
    /// When it exists, or any other [`ClientError`].
    pub async fn door_hub_policy_create(
        &self,
        name: &PolicyName,
        policy: &PolicyRequest,
    ) -> Result<PolicyDocument, ClientError> {
        self.policy_document(
            self.policy_write(Method::PUT, &[name.as_ref()])?
                .json(policy)?,
        )
        .await
    }

    /// Replaces rights and bounds of a policy that must exist.
    ///
    /// # Errors
    ///
    /// When there is none, or any other [`ClientError`].
    pub async fn door_hub_policy_change(
        &self,
        name: &PolicyName,
        policy: &PolicyRequest,
    ) -> Result<PolicyDocument, ClientError> {
        let request = self.policy_write(Method::PUT, &[name.as_ref()])?;
        let request = request.json(policy)?.header("if-match", "*")?;
        self.policy_document(request).await
    }

    /// Replaces one of a policy's keys; returns the policy with that key.
    ///
    /// # Errors
    ///
    /// When there is no such policy, or any other [`ClientError`].
    pub async fn door_hub_policy_rotate(
        &self,
        name: &PolicyName,
        key: PolicyKey,
    ) -> Result<PolicyDocument, ClientError> {
        let request = self.policy_write(Method::POST, &[name.as_ref(), "rotate"])?;
        self.policy_document(request.json(&RotateRequest { key })?)
            .await
    }

    /// Removes a policy.
    ///
    /// # Errors
    ///
    /// When there is none, or any other [`ClientError`].
    pub async fn door_hub_policy_delete(&self, name: &PolicyName) -> Result<(), ClientError> {
        let request = self.policy_write(Method::DELETE, &[name.as_ref()])?;
        self.send(&request).await.map(drop)
    }

    fn policy_write(&self, method: Method, path: &[&str]) -> Result<Request, ClientError> {
        let path = [&[POLICIES], path].concat();
        self.request(method, &path, RetryPolicy::IfThrottled)
    }

    async fn policy_document(&self, request: Request) -> Result<PolicyDocument, ClientError> {
        self.send(&request).await?.json(DOCUMENT)
    }
}
