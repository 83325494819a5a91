//! The audit log: who changed or commanded what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use iothub_protocol::audit::{AuditEntry, AuditFilter};
use iothub_protocol::id::PolicyName;
use jiff::Timestamp;

use super::{ListPage, ServiceError};
use crate::config::AuditLimits;
use crate::store::{RowPosition, Store};
use crate::types::AuditAttempt;

/// Characters of a target or a detail that are kept; longer texts are cut. Enough for any id and
/// for most conditions.
const MAX_TEXT_CHARS: usize = 512;

/// Rows of refused calls of each policy with bounds in a minute: more could push everything else
/// out of the log.
const MAX_REFUSALS: u32 = 120;

const MINUTE: Duration = Duration::from_secs(60);

/// Counts by policy in the current minute. A hub has at most 16 policies at a time.
#[derive(Default)]
pub(super) struct PolicyCounts {
    since: Option<Instant>,
    by_policy: HashMap<PolicyName, u32>,
}

impl PolicyCounts {
    /// Counts once more, and returns the count.
    pub(super) fn add(&mut self, policy: &PolicyName, now: Instant) -> u32 {
        let is_over = |since: Instant| now.duration_since(since) >= MINUTE;
        if self.since.is_none_or(is_over) {
            self.since = Some(now);
            self.by_policy.clear();
        }
        let count = self.by_policy.entry(policy.clone()).or_default();
        *count = count.saturating_add(1);
        *count
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

#[derive(Clone)]
pub(crate) struct AuditService {
    store: Store,
    limits: AuditLimits,
    refusals: Arc<Mutex<PolicyCounts>>,
}

impl AuditService {
    pub(super) fn new(store: Store, limits: AuditLimits) -> Self {
        Self {
            store,
            limits,
            refusals: Arc::default(),
        }
    }

    /// Whether a refused call of a policy with bounds gets a row.
    pub(crate) fn admits_refusal(&self, policy: &PolicyName) -> bool {
        let refusals = self.refusals.lock();
        let mut refusals = refusals.unwrap_or_else(PoisonError::into_inner);
        let count = refusals.add(policy, Instant::now());
        if count == MAX_REFUSALS + 1 {
            tracing::warn!(%policy, "too many refused calls: no more rows in the audit log for now");
        }
        count <= MAX_REFUSALS
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_a_policy_begin_again_after_a_minute() {
        let mut counts = PolicyCounts::default();
        let [guard, viewer] = ["guard", "viewer"].map(|name| name.parse().unwrap());
        let start = Instant::now();
        let late = start + MINUTE.saturating_sub(Duration::from_millis(1));
        let found = [
            (&guard, start),
            (&guard, late),
            (&viewer, late),
            (&guard, start + MINUTE),
        ];
        let found = found.map(|(policy, now)| counts.add(policy, now));
        assert_eq!(found, [1, 2, 1, 1]);
        assert_eq!(counts.by_policy.len(), 1);
    }
}
