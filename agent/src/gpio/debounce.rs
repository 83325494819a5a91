//! Debounce by time: a level counts once it has held.
//!
//! Exit button and fire release count also while their contact chatters without end: see
//! [`Debounce::for_egress`].

use std::time::{Duration, Instant};

/// How many debounce times an exit button or fire release may go without settling to idle before
/// it counts as active.
const CHATTER_LIMIT: u32 = 4;

/// The debounced level of one input.
#[derive(Debug, Clone)]
pub(super) struct Debounce {
    time: Duration,
    level: bool,
    /// Since when the raw level has differed from `level`.
    differs_since: Option<Instant>,
    chatter: Option<Chatter>,
}

/// How long an input has been between idle and active.
#[derive(Debug, Clone, Default)]
struct Chatter {
    /// When the raw level left idle; `None` once it has settled to idle or counts as active.
    unsettled_since: Option<Instant>,
    /// Since when the raw level has been idle; `None` while it is active.
    idle_since: Option<Instant>,
}

impl Debounce {
    /// Both levels count once they have held for `time`.
    pub(super) fn new(time: Duration, level: bool) -> Self {
        Self {
            time,
            level,
            differs_since: None,
            chatter: None,
        }
    }

    /// For exit button and fire release. As [`Debounce::new`], but an input that has not settled to
    /// idle within four times `time` counts as active: a contact that chatters faster than `time`
    /// must let people out. It is idle again once idle has held for `time`.
    pub(super) fn for_egress(time: Duration, level: bool) -> Self {
        Self {
            chatter: Some(Chatter::default()),
            ..Self::new(time, level)
        }
    }

    /// Takes the raw level; returns the one that counts.
    pub(super) fn read(&mut self, raw: bool, now: Instant) -> bool {
        if raw == self.level {
            self.differs_since = None;
        } else {
            let since = *self.differs_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.time {
                self.level = raw;
                self.differs_since = None;
            }
        }
        if let Some(chatter) = &mut self.chatter {
            if chatter.exceeds_limit(self.time, raw, self.level, now) {
                self.level = true;
                self.differs_since = chatter.idle_since;
            }
        }
        self.level
    }

    /// When the level may change, or the input settles, without an edge.
    pub(super) fn due(&self) -> Option<Instant> {
        let holds = self.differs_since.map(|since| since + self.time);
        let chatter = self.chatter.as_ref().and_then(|it| it.due(self.time));
        holds.into_iter().chain(chatter).min()
    }
}

impl Chatter {
    /// Takes the raw level and the one that counts. True when the input has gone without settling
    /// to idle for too long. Only an idle level that is read again after `time` has settled: what
    /// happened between two readings is not known.
    fn exceeds_limit(&mut self, time: Duration, raw: bool, level: bool, now: Instant) -> bool {
        let has_passed =
            |since: Instant, length: Duration| now.saturating_duration_since(since) >= length;
        if raw {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(now);
        }
        let is_settled = self.idle_since.is_some_and(|since| has_passed(since, time));
        if level || is_settled {
            self.unsettled_since = None;
        } else if raw {
            self.unsettled_since.get_or_insert(now);
        }
        let is_over = |since: &mut Instant| has_passed(*since, time * CHATTER_LIMIT);
        self.unsettled_since.take_if(is_over).is_some()
    }

    fn due(&self, time: Duration) -> Option<Instant> {
        let limit = self.unsettled_since? + time * CHATTER_LIMIT;
        let settles = self.idle_since.map(|since| since + time);
        settles.into_iter().chain([limit]).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(20);

    /// Reads raw levels at times in milliseconds and checks the level that counts.
    fn check(mut input: Debounce, name: &str, rows: &[(u64, bool, bool)]) -> Debounce {
        let start = Instant::now();
        for (ms, raw, level) in rows {
            let now = start + Duration::from_millis(*ms);
            assert_eq!(input.read(*raw, now), *level, "{name}: at {ms} ms");
        }
        input
    }

    #[test]
    fn a_level_counts_once_it_has_held() {
        for input in [
            Debounce::new(TIME, false),
            Debounce::for_egress(TIME, false),
        ] {
            let rows = [
                (0, true, false),
                (5, false, false),
                (10, true, false),
                (29, true, false),
                (30, true, true),
                (31, false, true),
                (40, true, true),
            ];
            let mut input = check(input, "holds", &rows);
            assert_eq!(input.due(), None);
            let now = Instant::now();
            input.read(false, now);
            assert_eq!(input.due(), Some(now + TIME));
        }
    }

    /// A raw level that changes every 5 ms, starting active.
    fn chatter(from: u64, to: u64, level: impl Fn(u64) -> bool) -> Vec<(u64, bool, bool)> {
        (from..to)
            .step_by(5)
            .map(|ms| (ms, (ms - from) % 10 == 0, level(ms)))
            .collect()
    }

    #[test]
    fn an_exit_button_or_fire_release_that_chatters_without_end_counts_as_active() {
        let endless = chatter(0, 10_000, |ms| ms >= 80);
        check(Debounce::for_egress(TIME, false), "endless", &endless);

        // It is idle again once idle has held for the debounce time, and starts from there.
        let mut ends = chatter(0, 105, |ms| ms >= 80);
        ends.extend([(105, false, true), (124, false, true), (125, false, false)]);
        ends.extend(chatter(130, 300, |ms| ms >= 210));
        check(Debounce::for_egress(TIME, false), "ends", &ends);

        // The limit is reached while the raw level is idle: idle has held since 75 ms.
        let idle_at_limit = [
            (0, true, false),
            (15, false, false),
            (30, true, false),
            (45, false, false),
            (60, true, false),
            (75, false, false),
            (80, false, true),
            (94, false, true),
            (95, false, false),
        ];
        let input = Debounce::for_egress(TIME, false);
        check(input, "idle at the limit", &idle_at_limit);
    }

    #[test]
    fn other_inputs_ignore_chatter_however_long() {
        check(
            Debounce::new(TIME, false),
            "endless",
            &chatter(0, 10_000, |_| false),
        );
    }

    #[test]
    fn a_spike_that_stays_idle_for_the_debounce_time_is_filtered() {
        // A spike of 1 ms every 30 ms; the reading at 21 ms is the one that `due` asks for.
        let rows: Vec<_> = (0..100)
            .flat_map(|n| {
                [
                    (n * 30, true, false),
                    (n * 30 + 1, false, false),
                    (n * 30 + 21, false, false),
                ]
            })
            .collect();
        check(Debounce::for_egress(TIME, false), "spikes", &rows);
    }

    #[test]
    fn asks_to_be_read_when_idle_has_settled_and_at_the_chatter_limit() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut input = Debounce::for_egress(TIME, false);
        for (ms, raw, due) in [
            (0, true, Some(20)),
            (5, false, Some(25)),
            (10, true, Some(30)),
            (25, false, Some(45)),
            (40, true, Some(60)),
            (58, false, Some(78)),
            (70, true, Some(80)),
            (80, true, None),
            (85, false, Some(105)),
            (105, false, None),
            (110, true, Some(130)),
            (115, false, Some(135)),
            (135, false, None),
        ] {
            input.read(raw, at(ms));
            assert_eq!(input.due(), due.map(at), "after {ms} ms");
        }
    }
}
