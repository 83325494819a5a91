//! Who changed or commanded what (`/audit`). door-hub's alone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::HubClient;
use super::error::ClientError;

/// Which rows are asked for; `None` is all of them.
#[derive(Debug, Clone, Default)]
pub struct AuditRequest {
    /// From this time on.
    pub since: Option<Timestamp>,
    /// What this policy did.
    pub policy: Option<String>,
    /// This operation, such as `method.invoke`.
    pub operation: Option<String>,
    /// What was done to this device or job.
    pub target: Option<String>,
}

/// A call that changed or commanded something, or tried to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Rises with each row.
    pub id: i64,
    /// When the call came, in UTC.
    pub time: String,
    /// Whose token it carried.
    pub policy: String,
    /// The address it came from.
    pub peer: String,
    /// What was to be done.
    pub operation: String,
    /// To which device or job.
    pub target: String,
    /// The method, or the job's type and condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The reason that the caller gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The HTTP status; `None` when nobody knows what came of it: it may have been done.
    pub status: Option<u16>,
    /// The name of the error.
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
