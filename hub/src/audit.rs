//! Reads the audit record (who changed or commanded what) from a data folder, while its hub may be
//! running.

use std::path::Path;

use crate::DATABASE;
pub use crate::service::AuditRow;
use crate::store::{StoreError, read_audit};
pub use crate::types::AuditFilter;

/// The newest `limit` rows that match `filter`, newest first, of the hub whose data is in `folder`.
pub fn read(folder: &Path, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
    let records = read_audit(&folder.join(DATABASE), filter, limit)?;
    Ok(records.into_iter().map(AuditRow::from).collect())
}
