//! The audit record of a data folder, read beside the hub that writes it: who changed or commanded
//! what.

use std::path::Path;

use jiff::Timestamp;

use crate::DATABASE;
pub use crate::service::AuditRow;
use crate::store::{AuditFilter, StoreError, audit_of};

/// Which rows are asked for; `None` is all of them.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Of this policy.
    pub policy: Option<String>,
    /// To this device or job.
    pub target: Option<String>,
    /// Of this operation, such as `method.invoke`.
    pub operation: Option<String>,
}

/// The newest `limit` rows that pass `query`, the newest first, of the hub whose data is in
/// `folder`.
///
/// # Errors
///
/// When there is no database of a hub of this version, or it cannot be read.
pub fn read(folder: &Path, query: AuditQuery, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
    let filter = AuditFilter {
        since: query.since,
        policy: query.policy,
        target: query.target,
        operation: query.operation,
    };
    let records = audit_of(&folder.join(DATABASE), &filter, limit)?;
    Ok(records.into_iter().map(AuditRow::from).collect())
}
