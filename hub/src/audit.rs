//! Reads the audit record (who changed or commanded what) from a data folder, while its hub may be
//! running.

use std::path::Path;

use jiff::Timestamp;

use crate::DATABASE;
pub use crate::service::AuditRow;
use crate::store::{AuditFilter, StoreError, read_audit};

/// Filters of an audit query; `None` matches all.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// At this time or later.
    pub since: Option<Timestamp>,
    pub policy: Option<String>,
    /// A device id or job id.
    pub target: Option<String>,
    /// An operation, such as `method.invoke`.
    pub operation: Option<String>,
}

/// The newest `limit` rows that match `query`, newest first, of the hub whose data is in `folder`.
pub fn read(folder: &Path, query: AuditQuery, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
    let filter = AuditFilter {
        since: query.since,
        policy: query.policy,
        target: query.target,
        operation: query.operation,
    };
    let records = read_audit(&folder.join(DATABASE), &filter, limit)?;
    Ok(records.into_iter().map(AuditRow::from).collect())
}
