//! Calls that have left for one device and wait for its answer.

use std::time::Instant;

use super::{MAX_IN_FLIGHT, Pending};

/// In the order they left; a handful at most times, so a vector that is empty costs nothing.
#[derive(Default)]
pub(super) struct Calls {
    waiting: Vec<Sent>,
    last_rid: u32,
}

struct Sent {
    rid: u32,
    deadline: Instant,
    pending: Pending,
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Notes a call that is about to leave; gives the call back when too many wait.
    pub(super) fn insert(&mut self, pending: Pending, deadline: Instant) -> Result<u32, Pending> {
        if self.waiting.len() >= MAX_IN_FLIGHT {
            return Err(pending);
        }
        self.last_rid = self.last_rid.wrapping_add(1);
        self.waiting.push(Sent {
            rid: self.last_rid,
            deadline,
            pending,
        });
        Ok(self.last_rid)
    }

    /// The call that an answer with this request id belongs to; `None` for one that ended meanwhile
    /// or never was.
    pub(super) fn take(&mut self, rid: &str) -> Option<Pending> {
        let rid = u32::from_str_radix(rid, 16).ok()?;
        let index = self.waiting.iter().position(|sent| sent.rid == rid)?;
        let sent = self.waiting.remove(index);
        self.release_memory();
        Some(sent.pending)
    }

    /// Calls whose time is over.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Pending> {
        if self.waiting.iter().all(|sent| sent.deadline > now) {
            return Vec::new();
        }
        let (expired, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|sent| sent.deadline <= now);
        self.waiting = waiting;
        into_pending(expired)
    }

    /// All calls, when the connection has ended.
    pub(super) fn take_all(&mut self) -> Vec<Pending> {
        into_pending(std::mem::take(&mut self.waiting))
    }

    /// An idle device keeps no memory for calls it once had.
    fn release_memory(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }
}

fn into_pending(sent: Vec<Sent>) -> Vec<Pending> {
    sent.into_iter().map(|sent| sent.pending).collect()
}
