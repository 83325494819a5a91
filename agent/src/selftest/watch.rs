//! Watches the pins during an action at the door, and determines which of them moved. Time is an
//! argument.

use std::time::Duration;

use crate::gpio::PinLevel;

/// How long a level must hold to count: contacts bounce.
const SETTLE: Duration = Duration::from_millis(50);
/// How long only another pin must have moved until it counts as wired in place of the target.
const ALONE: Duration = Duration::from_secs(1);

/// Result of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PinVerdict {
    /// The target reads as it should.
    Right,
    /// The target moved in the wrong direction.
    Inverted,
    /// The target did not move, but these pins did, by index.
    Elsewhere(Vec<usize>),
}

/// The target pin that should become active, or idle, and all others.
#[derive(Debug)]
pub(super) struct PinWatch {
    target: usize,
    wanted: bool,
    tracks: Vec<Track>,
    /// Since when others have moved but not the target.
    alone_since: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Track {
    /// Level at the start.
    before: bool,
    /// Present level, and since when.
    level: bool,
    since: Duration,
    /// Last settled level.
    settled: bool,
}

impl PinWatch {
    /// Starts with the present levels; the pin of index `target` should become `wanted`.
    pub(super) fn new(target: usize, wanted: bool, pins: &[PinLevel], at: Duration) -> Self {
        let track = |pin: &PinLevel| Track {
            before: pin.active,
            level: pin.active,
            since: at,
            settled: pin.active,
        };
        Self {
            target,
            wanted,
            tracks: pins.iter().map(track).collect(),
            alone_since: None,
        }
    }

    /// Processes the levels; returns the pins whose settled level changed.
    pub(super) fn look(&mut self, pins: &[PinLevel], at: Duration) -> Vec<usize> {
        let mut changed = Vec::new();
        for (index, (track, pin)) in self.tracks.iter_mut().zip(pins).enumerate() {
            if pin.active != track.level {
                track.level = pin.active;
                track.since = at;
            }
            if track.level != track.settled && at.saturating_sub(track.since) >= SETTLE {
                track.settled = track.level;
                changed.push(index);
            }
        }
        let others = !self.elsewhere().is_empty();
        self.alone_since = others.then(|| self.alone_since.unwrap_or(at));
        changed
    }

    /// The result so far; `None` while more may come.
    pub(super) fn verdict(&self, at: Duration) -> Option<PinVerdict> {
        let target = self.tracks.get(self.target)?;
        if target.settled != target.before {
            return Some(if target.settled == self.wanted {
                PinVerdict::Right
            } else {
                PinVerdict::Inverted
            });
        }
        let since = self.alone_since?;
        (at.saturating_sub(since) >= ALONE).then(|| PinVerdict::Elsewhere(self.elsewhere()))
    }

    /// The pins that moved, except the target.
    fn elsewhere(&self) -> Vec<usize> {
        let moved = |(index, track): &(usize, &Track)| {
            *index != self.target && track.settled != track.before
        };
        let tracks = self.tracks.iter().enumerate().filter(moved);
        tracks.map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(levels: [bool; 3]) -> Vec<PinLevel> {
        let pin = |active| PinLevel {
            role: Some("rex"),
            pin: None,
            high: active,
            active,
            fault: None,
        };
        levels.map(pin).to_vec()
    }

    #[test]
    fn a_move_is_judged_after_the_level_has_settled() {
        use PinVerdict::{Elsewhere, Inverted, Right};
        const OFF: [bool; 3] = [false; 3];
        // (what it should become, [(ms, levels)], the verdict after the last look)
        type Case<'a> = (bool, &'a [(u64, [bool; 3])], Option<PinVerdict>);
        let cases: [Case<'_>; 9] = [
            (true, &[(0, OFF), (9000, OFF)], None),
            (
                true,
                &[
                    (0, OFF),
                    (20, [true, false, false]),
                    (60, [true, false, false]),
                ],
                None,
            ),
            (
                true,
                &[
                    (0, OFF),
                    (20, [true, false, false]),
                    (70, [true, false, false]),
                ],
                Some(Right),
            ),
            // It bounces.
            (
                true,
                &[
                    (0, OFF),
                    (20, [true, false, false]),
                    (40, OFF),
                    (80, [true, false, false]),
                ],
                None,
            ),
            (
                false,
                &[
                    (0, OFF),
                    (20, [true, false, false]),
                    (70, [true, false, false]),
                ],
                Some(Inverted),
            ),
            // Another pin moved, which the target may still follow.
            (
                true,
                &[
                    (0, OFF),
                    (20, [false, true, false]),
                    (70, [false, true, false]),
                ],
                None,
            ),
            (
                true,
                &[
                    (0, OFF),
                    (20, [false, true, false]),
                    (70, [false, true, false]),
                    (1070, [false, true, false]),
                ],
                Some(Elsewhere(vec![1])),
            ),
            (
                true,
                &[
                    (0, OFF),
                    (20, [false, true, false]),
                    (70, [false, true, false]),
                    (90, [true, true, false]),
                    (140, [true, true, false]),
                ],
                Some(Right),
            ),
            // It went back: no pin has moved.
            (
                true,
                &[
                    (0, OFF),
                    (20, [false, true, false]),
                    (70, [false, true, false]),
                    (90, OFF),
                    (140, OFF),
                    (2000, OFF),
                ],
                None,
            ),
        ];
        for (wanted, looks, verdict) in cases {
            let mut watch = PinWatch::new(0, wanted, &pins(looks[0].1), Duration::ZERO);
            let mut at = Duration::ZERO;
            for (ms, levels) in looks {
                at = Duration::from_millis(*ms);
                watch.look(&pins(*levels), at);
            }
            assert_eq!(watch.verdict(at), verdict, "{looks:?}");
        }
    }

    #[test]
    fn each_change_is_returned_once() {
        let mut watch = PinWatch::new(0, true, &pins([false; 3]), Duration::ZERO);
        let mut changes = Vec::new();
        for ms in (0..400).step_by(20) {
            let levels = [ms >= 100, ms >= 200, ms == 300];
            let changed = watch.look(&pins(levels), Duration::from_millis(ms));
            changes.extend(changed.into_iter().map(|pin| (ms, pin)));
        }
        assert_eq!(changes, [(160, 0), (260, 1)]);
    }
}
