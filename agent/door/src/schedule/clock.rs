//! The clock of a schedule: the time, or what is known of it.
//!
//! Once trusted within a boot it goes on by the boot clock. Before that it is a lower bound: the
//! last saved time and the boot clock since. A wall clock that disagrees is a rival until it has
//! kept its time for a while: meanwhile what locks follows either clock, and nothing releases
//! unless both agree.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::authority::CLOCK_STEP;
use crate::time::{BootId, BootTime, Now};

/// How long a stepped clock must keep its time before the door adopts it.
const SETTLE: Duration = Duration::from_secs(60);
/// The same for a clock before the lower bound, which is not trusted: then either it or the saved
/// time is wrong, and a wrong saved time must not keep the door from releasing for ever.
const SETTLE_BEFORE_BOUND: Duration = Duration::from_secs(24 * 3600);

/// The state of the clock; the default knows nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct DoorClock {
    own: Option<Reading>,
    is_trusted: bool,
    rival: Option<Rival>,
    /// The latest time shown: a wall clock that is slewed does not repeat a moment.
    shown: Option<Timestamp>,
}

/// A wall time that goes on by the boot clock.
#[derive(Debug, Clone, Copy)]
struct Reading {
    wall: Timestamp,
    at: BootTime,
}

#[derive(Debug, Clone, Copy)]
struct Rival {
    reading: Reading,
    since: BootTime,
}

/// The time on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedClock {
    wall: Timestamp,
    trusted: bool,
}

/// What the clocks say of the present moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Not later than the moment, by every clock.
    pub(crate) earliest: Timestamp,
    /// The clock that is ahead. Only a bound if `is_certain`.
    pub(crate) latest: Timestamp,
    /// The clock is trusted: releases may follow it.
    pub(crate) is_certain: bool,
}

impl Reading {
    fn now(&self, at: BootTime) -> Timestamp {
        let passed = SignedDuration::try_from(at.since(self.at)).unwrap_or(SignedDuration::MAX);
        self.wall.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// When this clock shows `then`; `None` if it has.
    fn when(&self, then: Timestamp) -> Option<BootTime> {
        let left = Duration::try_from(then.duration_since(self.wall)).ok()?;
        Some(self.at + left)
    }
}

impl Rival {
    fn adopted_at(&self, is_trusted: bool) -> BootTime {
        self.since
            + match is_trusted {
                true => SETTLE,
                false => SETTLE_BEFORE_BOUND,
            }
    }
}

impl DoorClock {
    /// The clock after a start: within a boot it goes on, else the saved time is a lower bound.
    pub(crate) fn restore(saved: SavedClock, boot: &BootId, saved_at: BootTime, now: &Now) -> Self {
        let same_boot = *boot == now.boot_id;
        Self {
            own: Some(Reading {
                wall: saved.wall,
                at: if same_boot { saved_at } else { now.boottime },
            }),
            is_trusted: same_boot && saved.trusted,
            ..Self::default()
        }
    }

    pub(crate) fn to_saved(&self, at: BootTime) -> Option<SavedClock> {
        Some(SavedClock {
            wall: self.own?.now(at),
            trusted: self.is_trusted,
        })
    }

    /// Takes a reading of the wall clock; returns how far that is off if it was a rival and is
    /// adopted.
    pub(crate) fn follow(&mut self, now: &Now) -> Option<SignedDuration> {
        let at = now.boottime;
        let expected = self.own.map(|own| own.now(at));
        self.shown = self.shown.max(expected);
        let wall = now.trusted_wall()?;
        let reading = Reading { wall, at };
        let agrees = expected.is_none_or(|expected| {
            let step = wall.duration_since(expected);
            step >= -CLOCK_STEP && (step <= CLOCK_STEP || !self.is_trusted)
        });
        if !agrees {
            let kept = self.rival.filter(|rival| {
                let step = wall.duration_since(rival.reading.now(at));
                step.abs() <= CLOCK_STEP
            });
            let since = kept.map_or(at, |rival| rival.since);
            let rival = Rival { reading, since };
            if at < rival.adopted_at(self.is_trusted) {
                self.rival = Some(rival);
                return None;
            }
            self.shown = None;
        }
        self.own = Some(reading);
        self.shown = self.shown.max(Some(wall));
        self.is_trusted = true;
        self.rival = None;
        let expected = expected.filter(|_| !agrees)?;
        Some(wall.duration_since(expected))
    }

    /// What is known of the present time; `None` if nothing is.
    pub(crate) fn span(&self, at: BootTime) -> Option<Span> {
        let own = self.own?.now(at);
        let own = self.shown.map_or(own, |shown| own.max(shown));
        let rival = self.rival.map_or(own, |rival| rival.reading.now(at));
        Some(Span {
            earliest: own.min(rival),
            latest: own.max(rival),
            is_certain: self.is_trusted,
        })
    }

    /// Whether the wall clock disagrees with this one.
    pub(crate) fn is_disputed(&self) -> bool {
        self.rival.is_some()
    }

    /// When the last clock shows `then`; at once if none will.
    pub(crate) fn when(&self, at: BootTime, then: Timestamp) -> BootTime {
        let clocks = self
            .own
            .into_iter()
            .chain(self.rival.map(|rival| rival.reading));
        clocks
            .filter_map(|clock| clock.when(then))
            .fold(at, BootTime::max)
    }

    /// When what [`DoorClock::span`] says of one of these times may change.
    pub(crate) fn deadlines(
        &self,
        after: BootTime,
        times: impl Iterator<Item = Timestamp>,
    ) -> Option<BootTime> {
        let rival = self.rival.map(|rival| rival.reading);
        let passed = times.flat_map(|then| {
            let clocks = [self.own, rival].into_iter().flatten();
            clocks.filter_map(move |clock| clock.when(then))
        });
        let adopted = self.rival.map(|rival| rival.adopted_at(self.is_trusted));
        passed.chain(adopted).filter(|due| *due > after).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{ClockQuality, at};

    fn wall(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now(boot: &str, seconds: u64, wall: Option<&str>) -> Now {
        Now {
            boottime: at(seconds),
            boot_id: BootId::new(boot),
            wall: wall.map(|text| text.parse().unwrap()),
            quality: match wall {
                Some(_) => ClockQuality::Synchronized,
                None => ClockQuality::Unsynchronized,
            },
        }
    }

    /// The bounds by the hour, and whether they are certain.
    fn shown(clock: &DoorClock, seconds: u64) -> String {
        let Some(span) = clock.span(at(seconds)) else {
            return "unknown".to_owned();
        };
        let Span {
            earliest, latest, ..
        } = span;
        let certain = if span.is_certain { "" } else { " at least" };
        match earliest == latest {
            true => format!("{earliest}{certain}"),
            false => format!("{earliest} or {latest}{certain}"),
        }
    }

    #[test]
    fn a_clock_once_trusted_goes_on_by_the_boot_clock_and_slews_up_to_2_seconds() {
        let mut clock = DoorClock::default();
        clock.follow(&now("a", 1, None));
        assert_eq!(shown(&clock, 1), "unknown");
        clock.follow(&now("a", 10, Some("2026-12-01T21:00:00Z")));
        clock.follow(&now("a", 20, None));
        assert_eq!(shown(&clock, 20), "2026-12-01T21:00:10Z");
        // A moment is not repeated when the clock is set back a little.
        clock.follow(&now("a", 30, Some("2026-12-01T21:00:19Z")));
        assert_eq!(shown(&clock, 30), "2026-12-01T21:00:20Z");
        clock.follow(&now("a", 40, Some("2026-12-01T21:00:31Z")));
        assert_eq!(shown(&clock, 41), "2026-12-01T21:00:32Z");
    }

    #[test]
    fn a_step_is_disputed_for_60_seconds() {
        for (step, within, after) in [
            (
                "2026-12-01T21:00:07Z",
                "21:00:07Z or 2026-12-01T21:00:10Z",
                "21:01:07Z",
            ),
            (
                "2026-12-01T21:00:13Z",
                "21:00:10Z or 2026-12-01T21:00:13Z",
                "21:01:13Z",
            ),
            (
                "2026-12-02T21:00:10Z",
                "21:00:10Z or 2026-12-02T21:00:10Z",
                "21:01:10Z",
            ),
        ] {
            let mut clock = DoorClock::default();
            clock.follow(&now("a", 10, Some("2026-12-01T21:00:00Z")));
            clock.follow(&now("a", 20, Some(step)));
            assert!(shown(&clock, 20).ends_with(within), "{}", shown(&clock, 20));
            let stepped = |seconds| {
                Reading {
                    wall: wall(step),
                    at: at(20),
                }
                .now(at(seconds))
            };
            assert_eq!(clock.deadlines(at(20), std::iter::empty()), Some(at(80)));
            clock.follow(&now("a", 79, Some(&stepped(79).to_string())));
            assert!(clock.is_disputed());
            clock.follow(&now("a", 80, Some(&stepped(80).to_string())));
            assert!(!clock.is_disputed());
            assert!(shown(&clock, 80).ends_with(after), "{}", shown(&clock, 80));
        }
    }

    #[test]
    fn a_dispute_ends_when_the_clock_steps_back_and_begins_again_with_another_step() {
        let mut clock = DoorClock::default();
        clock.follow(&now("a", 10, Some("2026-12-01T21:00:00Z")));
        clock.follow(&now("a", 20, Some("2026-12-02T21:00:00Z")));
        clock.follow(&now("a", 70, Some("2026-12-03T21:00:00Z")));
        clock.follow(&now("a", 90, Some("2026-12-03T21:00:20Z")));
        assert!(clock.is_disputed());
        clock.follow(&now("a", 100, Some("2026-12-01T21:01:30Z")));
        assert_eq!(shown(&clock, 100), "2026-12-01T21:01:30Z");
    }

    #[test]
    fn after_a_boot_the_first_reading_is_judged_by_the_lower_bound_alone() {
        let saved = SavedClock {
            wall: wall("2026-12-01T02:00:00Z"),
            trusted: true,
        };
        let restore = |boot: &str| {
            let now = now(boot, 5, None);
            DoorClock::restore(saved, &BootId::new("a"), at(1000), &now)
        };
        let mut clock = restore("b");
        assert_eq!(shown(&clock, 65), "2026-12-01T02:01:00Z at least");
        clock.follow(&now("b", 65, Some("2026-12-01T05:01:00Z")));
        assert_eq!(shown(&clock, 65), "2026-12-01T05:01:00Z");
        // A reading before the bound is not trusted, until it has kept its time for a day.
        let mut clock = restore("b");
        clock.follow(&now("b", 5, Some("2026-12-01T01:59:57Z")));
        let both = "2026-12-01T01:59:57Z or 2026-12-01T02:00:00Z at least";
        assert_eq!(shown(&clock, 5), both);
        clock.follow(&now("b", 86_404, Some("2026-12-02T01:59:56Z")));
        assert!(clock.is_disputed());
        clock.follow(&now("b", 86_405, Some("2026-12-02T01:59:57Z")));
        assert_eq!(shown(&clock, 86_405), "2026-12-02T01:59:57Z");
        // Within a boot it goes on.
        assert_eq!(shown(&restore("a"), 1010), "2026-12-01T02:00:10Z");
    }

    #[test]
    fn a_deadline_is_when_any_clock_reaches_the_time() {
        let mut clock = DoorClock::default();
        let at_5_past = || std::iter::once(wall("2026-12-01T21:05:00Z"));
        assert_eq!(clock.deadlines(at(0), at_5_past()), None);
        clock.follow(&now("a", 10, Some("2026-12-01T21:00:00Z")));
        assert_eq!(clock.deadlines(at(10), at_5_past()), Some(at(310)));
        assert_eq!(clock.deadlines(at(310), at_5_past()), None);
        clock.follow(&now("a", 20, Some("2026-12-01T21:04:50Z")));
        assert_eq!(clock.deadlines(at(20), at_5_past()), Some(at(30)));
    }
}
