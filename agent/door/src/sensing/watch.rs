//! Watches one input over time for chatter and for a stuck button.

use std::time::Duration;

use super::Reading;

/// Changes within [`WINDOW`] that count as chatter: more than a person can make.
const CHATTER_CHANGES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(5);
/// How long an input that chattered must be stable before the fault ends.
const STABLE_TIME: Duration = Duration::from_secs(10);
/// A button that is active for this long is stuck.
const STUCK_TIME: Duration = Duration::from_secs(300);

/// The history of one input.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    level: Reading,
    /// The first reading is not a change.
    has_read: bool,
    /// Boot-clock time of the latest change.
    changed_at: Duration,
    /// Changes since `window_start` began.
    changes: u32,
    window_start: Duration,
    /// Boot-clock time at which the chatter will have ended.
    chatter_ends: Option<Duration>,
}

impl Watch {
    /// Handles a reading; returns whether the level changed. Becoming readable or unreadable is a
    /// change too.
    pub(super) fn read(&mut self, at: Duration, level: Reading) -> bool {
        let first = !std::mem::replace(&mut self.has_read, true);
        if level == self.level {
            return false;
        }
        self.level = level;
        self.changed_at = at;
        if first {
            return false;
        }
        if self.window_start + WINDOW < at {
            self.window_start = at;
            self.changes = 0;
        }
        self.changes += 1;
        if self.changes >= CHATTER_CHANGES || self.chatters(at) {
            self.chatter_ends = Some(at + STABLE_TIME);
        }
        true
    }

    /// Whether the input is in chatter at `at`.
    pub(super) fn chatters(&self, at: Duration) -> bool {
        self.chatter_ends
            .is_some_and(|chatter_ends| chatter_ends > at)
    }

    /// Whether the input has been active for too long.
    pub(super) fn is_stuck(&self, at: Duration) -> bool {
        self.level == Some(true) && self.changed_at + STUCK_TIME <= at
    }

    /// When a fault begins or ends by time alone.
    pub(super) fn poll_timeout(&self, at: Duration, is_button: bool) -> Option<Duration> {
        let chatter_ends = self.chatter_ends.filter(|chatter_ends| *chatter_ends > at);
        let held = is_button && self.level == Some(true) && !self.is_stuck(at);
        chatter_ends
            .into_iter()
            .chain(held.then(|| self.changed_at + STUCK_TIME))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn changes_within_5_s_inclusive_are_chatter_until_10_s_after_the_last() {
        for (late, chatters) in [(Duration::ZERO, true), (Duration::from_nanos(1), false)] {
            let mut watch = Watch::default();
            watch.read(SECOND, Some(false));
            let first = SECOND * 10;
            for change in 1..CHATTER_CHANGES {
                watch.read(first, Some(change % 2 == 1));
            }
            let last = first + WINDOW + late;
            watch.read(last, Some(false));
            assert_eq!(watch.chatters(last), chatters, "{late:?}");
            let ends = last + STABLE_TIME;
            let due = watch.poll_timeout(last, false);
            assert_eq!(due, chatters.then_some(ends), "{late:?}");
            assert_eq!(watch.poll_timeout(ends, false), None);
        }
    }

    #[test]
    fn a_button_that_is_held_is_due_once_when_it_becomes_stuck() {
        let mut watch = Watch::default();
        watch.read(SECOND, Some(true));
        let stuck = SECOND + STUCK_TIME;
        assert_eq!(watch.poll_timeout(SECOND * 2, true), Some(stuck));
        assert_eq!(watch.poll_timeout(SECOND * 2, false), None);
        assert_eq!(watch.poll_timeout(stuck, true), None);
        watch.read(SECOND * 3, Some(false));
        assert_eq!(watch.poll_timeout(SECOND * 3, true), None);
    }
}
