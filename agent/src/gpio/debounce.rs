//! Debounce by time: a level counts once it has held.

use std::time::{Duration, Instant};

/// One input's level, and the one that may follow it.
#[derive(Debug, Clone)]
pub(super) struct Debounce {
    time: Duration,
    level: bool,
    /// Another level, and since when it holds.
    coming: Option<Instant>,
}

impl Debounce {
    pub(super) fn new(time: Duration, level: bool) -> Self {
        Self {
            time,
            level,
            coming: None,
        }
    }

    /// Takes the raw level; returns the one that counts.
    pub(super) fn read(&mut self, raw: bool, now: Instant) -> bool {
        if raw == self.level {
            self.coming = None;
        } else {
            let since = *self.coming.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.time {
                self.level = raw;
                self.coming = None;
            }
        }
        self.level
    }

    /// When the other level will have held for long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.coming.map(|since| since + self.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_counts_once_it_has_held() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut input = Debounce::new(Duration::from_millis(20), false);
        for (ms, raw, level) in [
            (0, true, false),
            (5, false, false),
            (10, true, false),
            (29, true, false),
            (30, true, true),
            (31, false, true),
            (40, true, true),
        ] {
            assert_eq!(input.read(raw, at(ms)), level, "at {ms} ms");
        }
        assert_eq!(input.due(), None);
        input.read(false, at(50));
        assert_eq!(input.due(), Some(at(70)));
    }
}
