//! The audit log: who changed or commanded what.

use iothub_protocol::audit::{AuditEntry, AuditFilter};
use iothub_protocol::id::PolicyName;
use jiff::Timestamp;

use super::{ListPage, ServiceError};
use crate::config::AuditLimits;
use crate::store::{AuditAttempt, RowPosition, Store};

/// Characters of a target or a detail that are kept; longer texts are cut. Enough for any id and
/// for most conditions.
const MAX_TEXT_CHARS: usize = 512;

#[derive(Clone)]
pub(crate) struct AuditService {
    store: Store,
    limits: AuditLimits,
}

/// A call that is about to run.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The policy whose token the call carries.
    pub(crate) policy: PolicyName,
    /// The caller's address.
    pub(crate) peer: String,
    /// The operation's stable name.
    pub(crate) operation: &'static str,
    /// The device or job.
    pub(crate) target: String,
    /// The method, or the job's type and condition.
    pub(crate) detail: Option<String>,
    /// The reason that the caller gave.
    pub(crate) reason: Option<String>,
}

impl AuditService {
    pub(super) fn new(store: Store, limits: AuditLimits) -> Self {
        Self { store, limits }
    }

    /// Records an attempt and returns its id once it is on disk, so that a call runs only after it
    /// is recorded.
    pub(crate) async fn begin(&self, attempt: Attempt) -> Result<i64, ServiceError> {
        let cut = |text: String| text.chars().take(MAX_TEXT_CHARS).collect();
        let attempt = AuditAttempt {
            at: Timestamp::now(),
            policy: attempt.policy,
            peer: attempt.peer,
            operation: attempt.operation,
            target: cut(attempt.target),
            detail: attempt.detail.map(cut),
            reason: attempt.reason.map(cut),
        };
        Ok(self.store.audit_begin(attempt, self.limits).await?)
    }

    pub(crate) async fn expire(&self) -> Result<(), ServiceError> {
        Ok(self.store.audit_expire(self.limits).await?)
    }

    /// Records the outcome of an attempt.
    pub(crate) async fn end(
        &self,
        id: i64,
        status: u16,
        error: Option<String>,
    ) -> Result<(), ServiceError> {
        Ok(self.store.audit_end(id, status, error).await?)
    }

    /// A page of the rows that pass `filter`, newest first.
    ///
    /// # Errors
    ///
    /// When the continuation token belongs to another list, or the store fails.
    pub(crate) async fn list(
        &self,
        filter: AuditFilter,
        size: u32,
        continuation: Option<&str>,
    ) -> Result<ListPage<AuditEntry>, ServiceError> {
        let list = format!("audit {filter:?}");
        let before = super::query::list_position(continuation, &list)?.map(|position| position.0);
        let mut rows = self.store.audit_list(filter, before, size + 1).await?;
        let more = rows.len() > size as usize;
        rows.truncate(size as usize);
        let last = rows.last().filter(|_| more);
        let continuation = last.map(|last| RowPosition(last.id, 0).token(&list));
        Ok(ListPage { rows, continuation })
    }
}
