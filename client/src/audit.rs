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
        let mut request = self.get(&["audit"])?;
        let since = filter.since.map(|since| since.to_string());
        for (name, value) in [
            ("since", &since),
            ("policy", &filter.policy),
            ("operation", &filter.operation),
            ("target", &filter.target),
        ] {
            if let Some(value) = value {
                request = request.query(name, value);
            }
        }
        self.all_pages(request, limit, "rows of the audit record")
            .await
    }
}
