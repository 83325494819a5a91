//! Reads the audit record (who changed or commanded what) from a data folder, while its hub may be
//! running.

use std::path::Path;

use iothub_protocol::audit::{AuditEntry, AuditFilter};

use crate::DATABASE;
use crate::store::{StoreError, read_audit};

/// The newest `limit` entries that match `filter`, newest first, of the hub whose data is in
/// `folder`.
pub fn read(
    folder: &Path,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Vec<AuditEntry>, StoreError> {
    read_audit(&folder.join(DATABASE), filter, limit)
}
