//! The audit log: who changed or commanded what.

use iothub_protocol::audit::{AuditEntry, AuditFilter};
use jiff::Timestamp;

use super::{ListPage, ServiceError};
use crate::config::AuditLimits;
use crate::store::{RowPosition, Store};
use crate::types::AuditAttempt;

/// Characters of a target or a detail that are kept; longer texts are cut. Enough for any id and
/// for most conditions.
const MAX_TEXT_CHARS: usize = 512;

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

#[derive(Clone)]
pub(crate) struct AuditService {
    store: Store,
    limits: AuditLimits,
}

impl AuditService {
    pub(super) fn new(store: Store, limits: AuditLimits) -> Self {
        Self { store, limits }
    }

    /// Records an attempt and returns its id once it is on disk, so that a call runs only after it
    /// is recorded.
    pub(crate) async fn begin(&self, mut attempt: AuditAttempt) -> Result<i64, ServiceError> {
        attempt.target = cut(&attempt.target);
        attempt.detail = attempt.detail.as_deref().map(cut);
        attempt.reason = attempt.reason.as_deref().map(cut);
        let begun = self
            .store
            .audit_begin(attempt, Timestamp::now(), self.limits);
        Ok(begun.await?)
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
