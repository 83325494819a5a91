//! The audit log (`/audit`) of door-hub: who changed or commanded what. Azure has no such path.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::time;

/// A call that changed or commanded something, or attempted to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Increases with each entry.
    pub id: i64,
    /// When the call arrived.
    #[serde(with = "time::required")]
    pub time: Timestamp,
    /// The policy whose token the call carried.
    pub policy: String,
    /// The caller's address.
    pub peer: String,
    /// The operation's stable name, such as `method.invoke`.
    pub operation: String,
    /// The device or job.
    pub target: String,
    /// The method, or the job's type and condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The reason that the caller gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The HTTP status; `None` while the call runs, and permanently if the hub or the caller ended
    /// before it: the call may have taken effect.
    pub status: Option<u16>,
    /// The name of the error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Filters of the audit log; `None` matches all.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// The policy of the caller.
    pub policy: Option<String>,
    /// A device id or job id.
    pub target: Option<String>,
    /// An operation, such as `method.invoke`.
    pub operation: Option<String>,
}
