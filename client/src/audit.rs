//! The audit log (`/audit`): who changed or commanded what. door-hub only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::HubClient;
use super::error::ClientError;

/// Filters of the audit log; `None` matches everything.
#[derive(Debug, Clone, Default)]
pub struct AuditRequest {
    /// Rows from this time on.
    pub since: Option<Timestamp>,
    pub policy: Option<String>,
    /// For example `method.invoke`.
    pub operation: Option<String>,
    /// Device or job.
    pub target: Option<String>,
}

/// A call that changed or commanded something, or attempted to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Increases with each row.
    pub id: i64,
    /// Time of the call, in UTC.
    pub time: String,
    /// Policy of the token.
    pub policy: String,
    /// Address of the caller.
    pub peer: String,
    pub operation: String,
    /// Device or job.
    pub target: String,
    /// The method, or the job's type and condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The HTTP status; `None` if the outcome is unknown: the call may have been executed.
    pub status: Option<u16>,
    /// Name of the error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl HubClient {
    /// Reads the newest `limit` rows, the newest first.
    ///
    /// # Errors
    ///
    /// `IotHubUnauthorizedAccess` unless the policy has both RegistryRead and ServiceConnect, or
    /// any other [`ClientError`].
    pub async fn door_hub_audit(
        &self,
        request: &AuditRequest,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, ClientError> {
        let mut rows = Vec::new();
        let mut continuation: Option<String> = None;
        loop {
            let mut query = self.get(&["audit"])?;
            let since = request.since.map(|since| since.to_string());
            for (name, value) in [
                ("since", &since),
                ("policy", &request.policy),
                ("operation", &request.operation),
                ("target", &request.target),
            ] {
                if let Some(value) = value {
                    query = query.query(name, value);
                }
            }
            let page = self
                .page(query, continuation.as_deref(), "rows of the audit record")
                .await?;
            rows.extend(page.items);
            continuation = page.continuation;
            if continuation.is_none() || rows.len() >= limit {
                rows.truncate(limit);
                return Ok(rows);
            }
        }
    }
}
