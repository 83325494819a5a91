//! How often, and for how long, a job retries a failed write to the store.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::store::StoreError;

/// The first delay; each further one is twice as long, plus jitter.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The longest delay, before jitter.
const MAX_DELAY: Duration = Duration::from_secs(15);

/// A working store that rejects this write so many times in a row will never accept it.
const MAX_REFUSALS: u32 = 5;

/// A store that fails this long (a full disk) may never recover. Then the job gives up; its
/// unstored outcomes are dropped only if the job's end can be stored.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3600);

/// The consecutive write failures of one job.
#[derive(Debug)]
pub(super) struct Retry {
    delays: ExponentialBackoff,
    refused: u32,
    since: Option<Instant>,
}

/// What to do after a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NextAttempt {
    pub(super) after: Duration,
    /// The job should end with the error as its reason, if the store accepts that.
    pub(super) give_up: bool,
}

impl Default for Retry {
    fn default() -> Self {
        let delays = ExponentialBuilder::new()
            .with_min_delay(FIRST_DELAY)
            .with_max_delay(MAX_DELAY)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times()
            .build();
        Self {
            delays,
            refused: 0,
            since: None,
        }
    }
}

impl Retry {
    /// Records that a write failed at `now`. A `permanent` failure recurs even if the store works.
    pub(super) fn failed(&mut self, permanent: bool, now: Instant) -> NextAttempt {
        let since = *self.since.get_or_insert(now);
        self.refused = if permanent { self.refused + 1 } else { 0 };
        NextAttempt {
            after: self.delays.next().unwrap_or(MAX_DELAY),
            give_up: self.refused >= MAX_REFUSALS || now.duration_since(since) >= GIVE_UP_AFTER,
        }
    }

    /// Records a successful write, which resets the backoff.
    pub(super) fn succeeded(&mut self) {
        if self.since.is_some() {
            *self = Self::default();
        }
    }

    pub(super) const fn is_failing(&self) -> bool {
        self.since.is_some()
    }
}

/// The failure reason of a job that ends because of `error`.
pub(super) fn reason(error: &StoreError) -> String {
    let mut text = format!("The job's progress cannot be stored: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_with_jitter() {
        let now = Instant::now();
        let delays = |retry: &mut Retry| -> Vec<_> {
            (0..20).map(|_| retry.failed(false, now).after).collect()
        };
        let (first, second) = (delays(&mut Retry::default()), delays(&mut Retry::default()));
        for (number, wait) in (0_u32..).zip(&first) {
            let least = MAX_DELAY.min(FIRST_DELAY * 2_u32.pow(number.min(10)));
            assert!(
                (least..=2 * least).contains(wait),
                "{wait:?} is wait {number}"
            );
        }
        assert_ne!(first, second);
    }

    #[test]
    fn gives_up_after_5_refusals_or_1_hour() {
        let start = Instant::now();
        let mut retry = Retry::default();
        for attempt in 1..=MAX_REFUSALS {
            let next = retry.failed(true, start);
            assert_eq!(next.give_up, attempt == MAX_REFUSALS, "attempt {attempt}");
        }
        retry.succeeded();
        assert!(!retry.is_failing());
        for _ in 0..100 {
            assert!(!retry.failed(false, start).give_up);
        }
        assert!(!retry.failed(true, start).give_up, "refused once");
        let late = start + GIVE_UP_AFTER;
        assert!(
            !retry
                .failed(false, late.checked_sub(FIRST_DELAY).unwrap())
                .give_up
        );
        assert!(retry.failed(false, late).give_up);
        retry.succeeded();
        assert!(!retry.failed(false, late).give_up);
    }
}
