//! Looks after one input over time: a contact that never rests, or a button that nobody lets go of.

use std::time::Duration;

use super::Reading;

/// So many changes within [`WINDOW`] are no person's doing.
const CHANGES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(5);
/// How long a contact that chattered must rest to be believed again.
const REST: Duration = Duration::from_secs(10);
/// Nobody presses a button for that long.
const STUCK: Duration = Duration::from_secs(300);

/// What is seen of one input.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    level: Reading,
    /// A first reading is no change.
    has_read: bool,
    /// Boot-clock time of its latest change.
    changed: Duration,
    /// Changes since `window` began.
    changes: u32,
    window: Duration,
    /// Boot-clock time at which a contact that chattered has rested.
    rested: Option<Duration>,
}

impl Watch {
    /// Returns whether the level changed. One that comes and goes as unreadable chatters too.
    pub(super) fn read(&mut self, at: Duration, level: Reading) -> bool {
        let first = !std::mem::replace(&mut self.has_read, true);
        if level == self.level {
            return false;
        }
        self.level = level;
        self.changed = at;
        if first {
            return false;
        }
        if self.window + WINDOW < at {
            self.window = at;
            self.changes = 0;
        }
        self.changes += 1;
        if self.changes >= CHANGES || self.chatters(at) {
            self.rested = Some(at + REST);
        }
        true
    }

    /// It changes more often than anybody could make it.
    pub(super) fn chatters(&self, at: Duration) -> bool {
        self.rested.is_some_and(|rested| rested > at)
    }

    /// It has been active for longer than anybody would keep it so.
    pub(super) fn is_stuck(&self, at: Duration) -> bool {
        self.level == Some(true) && self.changed + STUCK <= at
    }

    /// When time alone makes a fault of it, or ends one.
    pub(super) fn poll_timeout(&self, at: Duration, is_button: bool) -> Option<Duration> {
        let rested = self.rested.filter(|rested| *rested > at);
        let held = is_button && self.level == Some(true) && !self.is_stuck(at);
        rested
            .into_iter()
            .chain(held.then(|| self.changed + STUCK))
            .min()
    }
}
