//! The audit log (`/audit`): who changed or commanded what. door-hub only.

use iothub_protocol::audit::{AuditEntry, AuditFilter};

use super::HubClient;
use super::error::ClientError;

impl HubClient {
    /// Reads the newest `limit` rows, the newest first.
    ///
    /// # Errors
    ///
    /// `IotHubUnauthorizedAccess` unless the policy has both RegistryRead and ServiceConnect, or
    /// any other [`ClientError`].
    pub async fn door_hub_audit(
        &self,
        filter: &AuditFilter,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, ClientError> {
        let mut rows = Vec::new();
        let mut continuation: Option<String> = None;
        loop {
            let mut query = self.get(&["audit"])?;
            let since = filter.since.map(|since| since.to_string());
            for (name, value) in [
                ("since", &since),
                ("policy", &filter.policy),
                ("operation", &filter.operation),
                ("target", &filter.target),
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
