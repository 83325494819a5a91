//! The alarm `lockForced`: the bolt leaves although nothing released the door, and the door is not
//! seen to open.
//!
//! If the door is seen to open, the alarm is `forcedOpen`. If its switch is stuck, or held by a
//! magnet, the bolt is the only evidence.

use std::time::Duration;

use super::change::ArrayChange;
use super::opening::GRACE;
use crate::sensing::Reading;
use crate::time::BootTime;

/// How long after the bond time the door may still be seen to open.
const FOLLOW_TIME: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Default)]
pub(super) struct ForcedLock {
    left: Option<BoltLeft>,
    raised: bool,
}

/// The bolt has left, and the door has not been seen to open since.
#[derive(Debug, Clone, Copy)]
struct BoltLeft {
    at: BootTime,
    /// Boot-clock time from which it counts as forced.
    forced_at: BootTime,
}

impl ForcedLock {
    /// Restores an alarm that was raised before a restart.
    pub(super) fn restore(&mut self) {
        self.raised = true;
    }

    /// `bolt_left`: in this step the bolt left, and nothing releases the door now or did just
    /// before.
    pub(super) fn step(
        &mut self,
        at: BootTime,
        bolt_left: bool,
        closed: Reading,
        is_released: bool,
        bond_time: Duration,
    ) {
        if bolt_left {
            self.left.get_or_insert(BoltLeft {
                at,
                forced_at: at + bond_time + FOLLOW_TIME,
            });
        }
        // The exit switch in the handle may be read a moment after the bolt.
        let is_asked = |left: &BoltLeft| is_released && at <= left.at + GRACE;
        let is_explained = |left: &BoltLeft| closed == Some(false) || is_asked(left);
        self.left = self.left.filter(|left| !is_explained(left));
        if self.left.is_some_and(|left| left.forced_at <= at) {
            self.left = None;
            self.raised = true;
        }
    }

    /// Clears the alarm if `change` is a command about the lock.
    pub(super) fn follow(&mut self, change: &ArrayChange) {
        self.raised &= !change.clears_lock_forced();
    }

    pub(super) fn is_raised(&self) -> bool {
        self.raised
    }

    pub(super) fn poll_timeout(&self) -> Option<BootTime> {
        self.left.map(|left| left.forced_at)
    }
}
