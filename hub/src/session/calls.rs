//! Calls that were sent to one device and wait for its answer.

use std::time::Instant;

use super::{MAX_IN_FLIGHT, Pending};

/// In the order of sending; usually empty or a few, and an empty vector costs nothing.
#[derive(Default)]
pub(super) struct InFlightCalls {
    waiting: Vec<SentCall>,
    last_rid: u32,
}

struct SentCall {
    rid: u32,
    deadline: Instant,
    pending: Pending,
}

impl InFlightCalls {
    /// The earliest of the calls' deadlines.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|sent| sent.deadline).min()
    }

    /// Adds a call that is about to be sent; returns the call when too many wait.
    pub(super) fn insert(&mut self, pending: Pending, deadline: Instant) -> Result<u32, Pending> {
        if self.waiting.len() >= MAX_IN_FLIGHT {
            return Err(pending);
        }
        self.last_rid = self.last_rid.wrapping_add(1);
        self.waiting.push(SentCall {
            rid: self.last_rid,
            deadline,
            pending,
        });
        Ok(self.last_rid)
    }

    /// The call that an answer with this request id belongs to; `None` for one that has ended or
    /// never existed.
    pub(super) fn take(&mut self, rid: &str) -> Option<Pending> {
        let rid = u32::from_str_radix(rid, 16).ok()?;
        let index = self.waiting.iter().position(|sent| sent.rid == rid)?;
        let sent = self.waiting.remove(index);
        self.release_memory();
        Some(sent.pending)
    }

    /// Takes the calls past their deadline.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Pending> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        let (expired, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|sent| sent.deadline <= now);
        self.waiting = waiting;
        into_pending(expired)
    }

    /// Takes all calls, when the connection has ended.
    pub(super) fn take_all(&mut self) -> Vec<Pending> {
        into_pending(std::mem::take(&mut self.waiting))
    }

    /// An idle device keeps no memory for earlier calls.
    fn release_memory(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }
}

fn into_pending(sent: Vec<SentCall>) -> Vec<Pending> {
    sent.into_iter().map(|sent| sent.pending).collect()
}
