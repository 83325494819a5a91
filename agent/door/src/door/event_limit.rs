//! Limits the events of one subject per minute: a contact below the chatter limit, or a clock that
//! is stepped again and again, must not fill the event log.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::contract::Alarm;
use crate::schedule::EntryId;
use crate::sensing::Input;
use crate::time::BootTime;

/// Events of one subject per window: five times raised and cleared.
const MAX_EVENTS: u64 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Alarm(Alarm),
    /// The faults of an input.
    Input(Input),
    /// The states of a timed entry.
    Timed(EntryId),
}

#[derive(Debug, Clone, Default)]
pub(super) struct EventLimit {
    windows: BTreeMap<Subject, Window>,
}

#[derive(Debug, Clone)]
struct Window {
    /// End of the window, on the boot clock.
    ends: BootTime,
    recorded: u64,
    omitted: u64,
}

impl EventLimit {
    /// Whether one more event may be recorded now. Otherwise it is counted as omitted.
    pub(super) fn admit(&mut self, subject: Subject, at: BootTime) -> bool {
        self.windows
            .retain(|_, window| at < window.ends || window.omitted > 0);
        let window = self.windows.entry(subject).or_insert(Window {
            ends: at + WINDOW,
            recorded: 0,
            omitted: 0,
        });
        let admitted = window.recorded < MAX_EVENTS;
        if admitted {
            window.recorded += 1;
        } else {
            window.omitted += 1;
        }
        admitted
    }

    /// The subjects whose window has ended with omitted events, and how many.
    pub(super) fn take_due(&mut self, at: BootTime) -> Vec<(Subject, u64)> {
        let due = self.windows.iter();
        let due: Vec<_> = due
            .filter(|(_, window)| window.omitted > 0 && window.ends <= at)
            .map(|(subject, window)| (subject.clone(), window.omitted))
            .collect();
        for (subject, _) in &due {
            self.windows.remove(subject);
        }
        due
    }

    pub(super) fn poll_timeout(&self) -> Option<BootTime> {
        let omitting = self.windows.values().filter(|window| window.omitted > 0);
        omitting.map(|window| window.ends).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::at;

    const SUBJECT: Subject = Subject::Alarm(Alarm::HeldOpen);

    #[test]
    fn ten_events_a_minute_are_admitted_and_omitted_ones_are_due_at_its_end() {
        let mut limit = EventLimit::default();
        let admitted = |limit: &mut EventLimit, at| {
            let admits = (0..12).map(|_| limit.admit(SUBJECT, at));
            admits.filter(|admitted| *admitted).count()
        };
        for _ in 0..10 {
            assert!(limit.admit(SUBJECT, at(1)));
        }
        assert_eq!(limit.poll_timeout(), None);
        assert_eq!(admitted(&mut limit, at(61)), 10);
        // Omitted events are due at the end of their minute, and are reported first.
        assert_eq!(limit.poll_timeout(), Some(at(121)));
        assert_eq!(limit.take_due(at(120)), []);
        assert_eq!(admitted(&mut limit, at(121)), 0);
        assert_eq!(limit.take_due(at(121)), [(SUBJECT, 14)]);
        assert_eq!(limit.poll_timeout(), None);
        assert!(limit.admit(SUBJECT, at(121)));
    }
}
