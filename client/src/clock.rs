//! The hub's clock: the `Date` of its last response, advanced by the local monotonic clock. An
//! operator's clock may be minutes off; the times of jobs must not be.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{DATE, HeaderMap};

/// Largest difference that is not a correction: a `Date` has whole seconds, and servers cache it
/// for a second. A monotonic clock that stops during suspend shows a larger difference.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct HubClock(Mutex<Option<Reading>>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    hub: Timestamp,
    taken: Instant,
    /// How far the local clock was ahead of the hub's at this reading.
    ahead: SignedDuration,
}

impl Reading {
    fn at(&self, instant: Instant) -> Timestamp {
        let passed = instant.saturating_duration_since(self.taken);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        // Saturating addition of an exact duration cannot fail.
        self.hub.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }
}

impl HubClock {
    /// The time of the hub's clock, or of the local clock before the first reading.
    pub(super) fn now(&self) -> Timestamp {
        match self.reading() {
            Some(reading) => reading.at(Instant::now()),
            None => Timestamp::now(),
        }
    }

    /// How far the local clock is ahead of the hub's; `None` before the first reading.
    pub(super) fn ahead(&self) -> Option<SignedDuration> {
        self.reading().map(|reading| reading.ahead)
    }

    /// Takes the hub's time from a response. Returns local and hub time for the first reading.
    pub(super) fn update(&self, headers: &HeaderMap) -> Option<(Timestamp, Timestamp)> {
        self.update_at(date(headers)?, Instant::now(), Timestamp::now())
    }

    fn update_at(
        &self,
        hub: Timestamp,
        taken: Instant,
        local: Timestamp,
    ) -> Option<(Timestamp, Timestamp)> {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = *reading;
        let error = previous.map(|previous| previous.at(taken).duration_since(hub).abs());
        if error.is_none_or(|error| error > TOLERANCE) {
            *reading = Some(Reading {
                hub,
                taken,
                ahead: local.duration_since(hub),
            });
        }
        previous.is_none().then_some((local, hub))
    }

    fn reading(&self) -> Option<Reading> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `Date` of a response.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = headers.get(DATE)?.to_str().ok()?;
    Some(rfc2822::parse(date).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_hub_clock_runs_on_the_monotonic_clock_and_is_corrected_after_a_suspend() {
        let time = |text: &str| -> Timestamp { format!("2026-11-23T{text}Z").parse().unwrap() };
        let clock = HubClock::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let at = |seconds| clock.reading().unwrap().at(after(seconds)).to_string();
        let times = clock.update_at(time("22:00:00"), start, time("22:20:00"));
        assert_eq!(times, Some((time("22:20:00"), time("22:00:00"))));
        assert_eq!(clock.ahead(), Some(SignedDuration::from_mins(20)));
        assert_eq!(at(90), "2026-11-23T22:01:30Z");
        // A `Date` is rounded to seconds: no correction.
        for (shown, seconds) in [("22:01:29", 90), ("22:01:32", 90)] {
            assert_eq!(
                clock.update_at(time(shown), after(seconds), time("23:00:00")),
                None
            );
            assert_eq!(at(90), "2026-11-23T22:01:30Z", "{shown}");
        }
        // After one hour of suspend.
        clock.update_at(time("23:01:40"), after(100), time("23:01:41"));
        assert_eq!(at(100), "2026-11-23T23:01:40Z");
        assert_eq!(clock.ahead(), Some(SignedDuration::from_secs(1)));
    }

    #[test]
    fn an_invalid_date_header_leaves_the_local_clock() {
        for date in ["", "yesterday", "Thu, 32 Nov 2026 22:00:00 GMT"] {
            let clock = HubClock::default();
            let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
            assert_eq!(clock.update(&headers), None, "{date}");
            assert_eq!(clock.ahead(), None, "{date}");
        }
        let clock = HubClock::default();
        let date = "Mon, 23 Nov 2026 22:00:00 GMT".parse().unwrap();
        let times = clock.update(&HeaderMap::from_iter([(DATE, date)]));
        assert_eq!(times.unwrap().1.to_string(), "2026-11-23T22:00:00Z");
    }
}
